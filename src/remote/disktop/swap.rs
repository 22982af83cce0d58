//! Puts a new version in the place of an old one, without trusting what a name does that is taken.
//!
//! The new version goes up under a staged name, the old one is parked, the new one gets the name,
//! and only then is the old one deleted. A parked file keeps its logical place for every look, so a
//! kill in between loses nothing; its name tells `clean_up` which file was to replace it.

use serde::Deserialize;

use super::DiskTop;
use super::api::{Change, FileRow, Target};
use super::upload::renamed_by_service;
use crate::remote::{Effect, ErrorKind, RemoteError, Result, UploadRequest};
use crate::tree::{Entry, HashAlgo, Name};

/// How often something whose outcome is unknown is looked at and, if need be, asked for again.
const TRIES_MAX: u32 = 3;

/// The name that a new version has until it replaces the old one.
pub(super) fn staged_name(key: u64) -> String {
    format!(".foldsync-up-{key:016x}")
}

/// The name that the old version has while the new one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parked {
    key: u64,
    /// Of the file that replaces it.
    by: u64,
    /// First digits of the old version's hash.
    hash: String,
}

impl Parked {
    fn new(key: u64, by: u64, old: &Entry) -> Parked {
        let hash = old.hash.map(|hash| hash.hex()).unwrap_or_default();
        Parked { key, by, hash: hash.chars().take(8).collect() }
    }

    fn name(&self) -> String {
        format!(".foldsync-park-{:016x}-{}-{}", self.key, self.by, self.hash)
    }

    fn read(name: &str) -> Option<Parked> {
        let mut parts = name.strip_prefix(".foldsync-park-")?.splitn(3, '-');
        let key = u64::from_str_radix(parts.next()?, 16).ok()?;
        Some(Parked { key, by: parts.next()?.parse().ok()?, hash: parts.next()?.to_owned() })
    }
}

/// Something was done already: whoever hears of the error must look.
pub(super) fn unknown(error: RemoteError) -> RemoteError {
    RemoteError { effect: Effect::Unknown, ..error }
}

impl DiskTop {
    /// Gives the new version `id` its name. Without an old version, or where the upload itself has
    /// replaced it, there is nothing to do.
    pub(super) async fn swap_in(
        &self,
        request: &UploadRequest,
        id: u64,
        staged: Entry,
    ) -> Result<Entry> {
        let Some((old, stamp)) = request.over.as_ref().filter(|_| self.swaps(request)) else {
            return Ok(staged);
        };
        let (old_id, current) = match self.expect_file(old, stamp).await {
            Ok(found) => found,
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Changed) => {
                // Somebody else's version stays, ours is withdrawn.
                self.delete_own(id).await.map_err(unknown)?;
                return Err(error);
            }
            Err(error) => return Err(unknown(error)),
        };
        let parked = Parked::new(request.key, id, &current).name();
        self.rename_surely(old_id, &parked).await.map_err(unknown)?;
        // Uploads go by name: nobody can change the old version any more, but somebody may have,
        // just before it was parked.
        if let Err(error) = self.expect_file(old, stamp).await {
            return Err(self.swap_back(id, old_id, &current, request, error).await);
        }
        if let Err(error) = self.rename_surely(id, request.name.as_str()).await {
            return Err(self.swap_back(id, old_id, &current, request, error).await);
        }
        let named = self.name_after_rename(id, request).await.map_err(unknown)?;
        self.delete_own(old_id).await.map_err(unknown)?;
        Ok(Entry { name: named, ..staged })
    }

    /// Undoes the first half of a swap, if the error says that the second half cannot be done. What
    /// cannot be undone is for the next look: both versions are there, under names that tell.
    async fn swap_back(
        &self,
        id: u64,
        old_id: u64,
        current: &Entry,
        request: &UploadRequest,
        error: RemoteError,
    ) -> RemoteError {
        let for_good = error.effect == Effect::None
            && !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Protocol);
        if !for_good || self.delete_own(id).await.is_err() {
            return unknown(error);
        }
        if current.name == request.name
            && self.rename_surely(old_id, request.name.as_str()).await.is_err()
        {
            return unknown(error);
        }
        error
    }

    /// Renames one of our files; after a lost reply its own record tells whether it was done.
    async fn rename_surely(&self, id: u64, new_name: &str) -> Result<()> {
        let mut attempt = 1;
        loop {
            let change = Change::Rename { new_name };
            let error = match self.api.manage(&change, &[Target::File(id)]).await {
                Ok(told) if told.affected.is_none_or(|affected| affected.0 != 0) => return Ok(()),
                Ok(_) => {
                    let context = format!("rename file {id} to {new_name}: nothing was renamed");
                    return Err(RemoteError::new(ErrorKind::Changed, context));
                }
                Err(error) if error.effect == Effect::Unknown => error,
                Err(error) => return Err(error),
            };
            let found = self.file_by_id(id).await.map_err(unknown)?;
            if found.is_some_and(|(entry, _)| entry.name.as_str() == new_name) {
                return Ok(());
            }
            if attempt >= TRIES_MAX {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Deletes one of our files, or one that has been replaced; gone is gone.
    pub(super) async fn delete_own(&self, id: u64) -> Result<()> {
        let mut attempt = 1;
        loop {
            let error = match self.api.manage(&Change::Delete, &[Target::File(id)]).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.effect == Effect::Unknown => error,
                Err(error) => return Err(error),
            };
            match self.file_by_id(id).await.map_err(unknown)? {
                None => return Ok(()),
                Some((_, path)) if !self.is_inside(path.as_deref()).await? => return Ok(()),
                Some(_) if attempt >= TRIES_MAX => return Err(error),
                Some(_) => attempt += 1,
            }
        }
    }

    /// The old version is deleted only if the new one surely has the name now.
    async fn name_after_rename(&self, id: u64, request: &UploadRequest) -> Result<Name> {
        let found = self.file_by_id(id).await?.map(|(entry, _)| entry.name);
        match found {
            Some(name) if renamed_by_service(&name, request.name.as_str()) => Ok(name),
            Some(_) | None => {
                let context = format!("{} did not get its name", request.name);
                Err(RemoteError::new(ErrorKind::Changed, context))
            }
        }
    }

    // ---- after a kill ----------------------------------------------------------------------------

    /// Finishes or forgets the swap of an upload that was killed. Without the new version in place
    /// the old one stays parked, which every look understands.
    pub(super) async fn clean_up_key(&self, key: u64) -> Result<()> {
        let found = match self.api.search(&format!("{key:016x}")).await {
            Ok(found) => found.files,
            Err(error) => return tolerable(error),
        };
        for row in &found {
            let Ok(row) = FileRow::deserialize(row) else { continue };
            let Some(id) = row.id.unsigned() else { continue };
            let is_staged = row.name.0 == staged_name(key);
            let parked = Parked::read(&row.name.0).filter(|parked| parked.key == key);
            let is_replaced = match parked {
                Some(parked) => self.is_replaced(id, &parked).await?,
                None => false,
            };
            if is_staged || is_replaced {
                self.delete_own(id).await?;
            }
        }
        Ok(())
    }

    /// Whether the parked file is the version that was parked, and the new one has a name of its own.
    async fn is_replaced(&self, id: u64, parked: &Parked) -> Result<bool> {
        let Some((old, _)) = self.file_by_id(id).await? else { return Ok(false) };
        let is_same = old.hash.is_some_and(|hash| {
            hash.algo() == HashAlgo::Md5 && hash.hex().starts_with(&parked.hash)
        });
        let new = self.file_by_id(parked.by).await?;
        let is_named = match new {
            Some((new, path)) => !new.name.is_internal() && self.is_inside(path.as_deref()).await?,
            None => false,
        };
        Ok(is_same && is_named && parked.hash.len() == 8)
    }
}

/// What a search refuses does not matter: a staged file that stays is ignored by every look.
fn tolerable(error: RemoteError) -> Result<()> {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Forbidden => Ok(()),
        ErrorKind::AlreadyExists
        | ErrorKind::Changed
        | ErrorKind::AuthExpired
        | ErrorKind::QuotaFull
        | ErrorKind::RateLimited
        | ErrorKind::InvalidName
        | ErrorKind::TooLarge
        | ErrorKind::Corrupt
        | ErrorKind::Protocol
        | ErrorKind::Unavailable
        | ErrorKind::RootLost => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_name_tells_what_was_to_replace_it() {
        let parked = Parked { key: 0xfeed, by: 7003, hash: "90015098".into() };
        assert_eq!(parked.name(), ".foldsync-park-000000000000feed-7003-90015098");
        assert_eq!(Parked::read(&parked.name()), Some(parked));
        for other in [".foldsync-park-mvf12", ".foldsync-park-abc", "a", ".foldsync-up-0"] {
            assert_eq!(Parked::read(other), None, "{other}");
        }
    }
}
