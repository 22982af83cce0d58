//! Uploads: instant check, numbered parts, completion, each to exactly the name that it is given.
//!
//! Never decides how a new version takes the place of an old one: that is the executor's.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use url::Url;

use super::api::{Change, Completed, Declared, Precreated, Target};
use super::listing::{file_entry, read_folder};
use super::sightings::Verdict;
use super::{DiskTop, name_problem};
use crate::remote::{
    Body, ByteRange, Effect, ErrorKind, Known, Outstanding, RemoteError, Result, SameName,
    UploadRequest, UploadSession, UploadStart,
};
use crate::tree::{Entry, HashAlgo, Name};

/// Parts of one upload, and the smallest part where there are many.
const PARTS_MAX: u64 = 100_000;
const PART_BYTES_MIN: u64 = 64 << 10;
const SMALL_PARTS_MAX: u64 = 64;
/// How often a completion that the service says has failed is asked for again.
const COMPLETIONS_MAX: u32 = 4;
/// How often a deletion whose outcome is unknown is looked at and, if need be, asked for again.
const DELETIONS_MAX: u32 = 3;

/// An upload under way.
#[derive(Clone, Debug)]
struct Token {
    upload_id: String,
    endpoint: Url,
    chunk_size: u64,
    total_parts: u64,
}

/// The form of a `Token` in `UploadSession::token`.
#[derive(Serialize, Deserialize)]
struct Kept {
    upload_id: String,
    endpoint: String,
    chunk_size: u64,
    total_parts: u64,
}

impl Token {
    fn keep(&self) -> Result<String> {
        let kept = Kept {
            upload_id: self.upload_id.clone(),
            endpoint: self.endpoint.to_string(),
            chunk_size: self.chunk_size,
            total_parts: self.total_parts,
        };
        serde_json::to_string(&kept).map_err(|error| {
            RemoteError::new(ErrorKind::Protocol, format!("keep the upload: {error}"))
        })
    }

    /// As unreadable as one that has ended: the caller begins anew.
    fn of(disktop: &DiskTop, session: &UploadSession) -> Result<Token> {
        let kept: Kept = serde_json::from_str(&session.token).map_err(|error| {
            let context = format!("the stored upload cannot be read: {error}");
            RemoteError::new(ErrorKind::NotFound, context)
        })?;
        let (upload_id, chunk_size) = (kept.upload_id, kept.chunk_size.max(1));
        let endpoint = disktop.api.http().origins().admit(&kept.endpoint)?;
        Ok(Token { upload_id, endpoint, chunk_size, total_parts: kept.total_parts })
    }

    /// Checks what the service demands before anything is divided by it or allocated for it.
    fn read(disktop: &DiskTop, size: u64, told: &Precreated) -> Result<Token> {
        let odd = |why: &str| {
            let context = format!("begin the upload: the service demands {why}");
            Err(RemoteError::new(ErrorKind::Protocol, context))
        };
        let number = |field: Option<crate::remote::http::wire::Int>| field?.unsigned();
        let Some(upload_id) = told.upload_id.as_ref().map(|id| id.0.clone()) else {
            return odd("an upload without an id");
        };
        if upload_id.is_empty() || matches!(upload_id.as_str(), "." | "..") {
            return odd("an upload without an id");
        }
        let Some(chunk_size) = number(told.chunk_size).filter(|chunk| *chunk > 0) else {
            return odd("parts of no size");
        };
        let parts = size.div_ceil(chunk_size);
        let total_parts = number(told.total_parts);
        // An empty file may be no part or one empty part.
        if total_parts != Some(parts) && !(size == 0 && total_parts == Some(1)) {
            return odd("another number of parts than the file has");
        }
        if parts > PARTS_MAX || (parts > SMALL_PARTS_MAX && chunk_size < PART_BYTES_MIN) {
            return odd("too many parts");
        }
        let Some(endpoint) = &told.endpoint else {
            return odd("parts, but not where to send them");
        };
        let endpoint = disktop.api.http().origins().admit(endpoint)?;
        let total_parts = total_parts.unwrap_or(parts);
        Ok(Token { upload_id, endpoint, chunk_size, total_parts })
    }

    /// The bytes of a part; parts are numbered from 1.
    fn range(&self, part_seq: u64, size: u64) -> ByteRange {
        let from = (part_seq - 1).saturating_mul(self.chunk_size).min(size);
        ByteRange { from, len: self.chunk_size.min(size - from) }
    }

    fn part_seq(&self, range: ByteRange, size: u64) -> Result<u32> {
        let part_seq = range.from / self.chunk_size + 1;
        if self.range(part_seq, size) != range {
            let context = format!("bytes from {} are not a part of this upload", range.from);
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        }
        u32::try_from(part_seq)
            .map_err(|_| RemoteError::new(ErrorKind::TooLarge, "the part's number is too large"))
    }
}

impl DiskTop {
    pub(super) async fn begin(&self, request: &UploadRequest) -> Result<UploadStart> {
        name_problem(&self.capabilities, &request.name)?;
        let hash = request.content.hash;
        if hash.algo() != HashAlgo::Md5 {
            let context = "this service knows files by their MD5";
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        }
        self.expect_free(request).await?;
        let (md5, parent) = (hash.hex(), self.path_of(&request.parent.path));
        let (name, size) = (request.name.as_str(), request.content.size);
        let declared = Declared { parent_path: &parent, name, size, md5: &md5 };
        let told = match self.api.precreate(&declared).await {
            Ok(told) => told,
            // It may have been instant all the same.
            Err(error) if error.effect == Effect::Unknown => {
                let found = self.find_uploaded(request).await?;
                return found.map(|entry| UploadStart::Instant(Some(entry))).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        if told.instant_upload.0 {
            let id = told.file_id.and_then(|id| id.unsigned()).ok_or_else(|| {
                let context = "begin the upload: it is instant, but has no id";
                RemoteError::unknown(ErrorKind::Protocol, context)
            })?;
            let entry = self.check_instant(request, id).await?;
            return Ok(UploadStart::Instant(Some(entry)));
        }
        let token = Token::read(self, size, &told)?;
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(token.upload_id.clone());
        let ends = told.expires_in.map(|seconds| self.now_s().saturating_add(seconds.0));
        let token = token.keep()?;
        Ok(UploadStart::Session(UploadSession { request: request.clone(), token, expires_s: ends }))
    }

    /// The service says that it has these bytes: its own record of the file must agree, and must be
    /// of a file of ours, not of the one that the bytes were found in.
    async fn check_instant(&self, request: &UploadRequest, id: u64) -> Result<Entry> {
        let trouble = |why: &str| {
            let context = format!("instant upload of {}: {why}", request.name);
            Err(RemoteError::unknown(ErrorKind::Corrupt, context))
        };
        let Some((entry, path)) = self.file_by_id(id).await? else {
            return trouble("its file cannot be found");
        };
        let parent = self.path_of(&request.parent.path);
        match self.is_in_folder(path.as_deref(), &parent).await? {
            Some(false) => return trouble("the service answered with a file of another folder"),
            Some(true) => {
                self.learn_prefix(path.as_deref(), &parent);
            }
            None => {}
        }
        if entry.size != request.content.size || entry.hash != Some(request.content.hash) {
            return trouble("the service has other content than it says");
        }
        if !renamed_by_service(&entry.name, request.name.as_str()) {
            return trouble("the service answered with another file");
        }
        Ok(entry)
    }

    pub(super) async fn wanted(&self, session: &UploadSession) -> Result<Outstanding> {
        let token = Token::of(self, session)?;
        let size = session.request.content.size;
        if size == 0 {
            // Its only part, if the service wants one, goes with the completion.
            return Ok(Outstanding { ranges: Vec::new(), parallel: true });
        }
        let fresh =
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).remove(&token.upload_id);
        let arrived = if fresh {
            Vec::new()
        } else {
            let told = self.api.parts(&token.endpoint, &token.upload_id).await?;
            let whole = |seq: &u32| {
                let len = token.range(u64::from(*seq), size).len;
                told.size_of(*seq).is_none_or(|has| has == len)
            };
            let seqs = told.received_parts.iter().filter_map(|seq| u32::try_from(seq.0).ok());
            seqs.filter(|seq| *seq > 0).filter(whole).collect()
        };
        let missing = (1..=token.total_parts)
            .filter(|seq| u32::try_from(*seq).map_or(true, |seq| !arrived.contains(&seq)));
        let ranges = missing.map(|seq| token.range(seq, size)).collect();
        Ok(Outstanding { ranges, parallel: true })
    }

    pub(super) async fn send_range(
        &self,
        session: &UploadSession,
        range: ByteRange,
        body: Body,
    ) -> Result<()> {
        let token = Token::of(self, session)?;
        let part_seq = token.part_seq(range, session.request.content.size)?;
        let told = self
            .api
            .send_part(&token.endpoint, &token.upload_id, part_seq, range.len, body)
            .await?;
        let other_part = told.part_seq.is_some_and(|seq| seq.0 != i64::from(part_seq));
        let other_size = told.size.is_some_and(|size| size.unsigned() != Some(range.len));
        if other_part || other_size {
            let context = format!("send part {part_seq}: the service took something else");
            return Err(RemoteError::new(ErrorKind::Corrupt, context));
        }
        Ok(())
    }

    pub(super) async fn finish(&self, session: &UploadSession) -> Result<Option<Entry>> {
        let token = Token::of(self, session)?;
        let request = &session.request;
        self.expect_free(request).await?;
        if request.content.size == 0 && token.total_parts == 1 {
            let nothing = Box::pin(futures_util::stream::empty());
            let range = ByteRange { from: 0, len: 0 };
            self.send_range(session, range, nothing).await?;
        }
        self.complete(&token, request).await.map(Some)
    }

    /// Asks for the completion until the service has done it, or says that it never will. After an
    /// answer that tells nothing the folder is looked at first: the file may be there.
    async fn complete(&self, token: &Token, request: &UploadRequest) -> Result<Entry> {
        let mut attempt = 0;
        loop {
            let error = match self.api.complete(&token.endpoint, &token.upload_id).await {
                Ok(completed) => return self.check_completed(request, &completed).await,
                Err(error) => error,
            };
            attempt += 1;
            let ended = error.kind == ErrorKind::NotFound && attempt > 1;
            if (ended || error.effect == Effect::Unknown)
                && let Some(found) = self.find_uploaded(request).await?
            {
                return Ok(found);
            }
            let is_passing = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Changed);
            if !is_passing || attempt >= COMPLETIONS_MAX {
                return Err(error);
            }
            if !self.has_all_parts(token).await? {
                let context = format!("{}: parts are missing", error.context);
                return Err(RemoteError { kind: ErrorKind::Changed, context, ..error });
            }
            let wait = error.retry_after.unwrap_or_else(|| self.api.http().backoff(attempt));
            self.api.http().clock().sleep(wait).await;
        }
    }

    /// True also where the session is gone, which is what a completion leaves behind.
    async fn has_all_parts(&self, token: &Token) -> Result<bool> {
        match self.api.parts(&token.endpoint, &token.upload_id).await {
            Ok(told) => Ok(told.received_parts.len() as u64 >= token.total_parts),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(RemoteError { effect: Effect::Unknown, ..error }),
        }
    }

    async fn check_completed(
        &self,
        request: &UploadRequest,
        completed: &Completed,
    ) -> Result<Entry> {
        let id = completed.file_id.unsigned().ok_or_else(|| {
            RemoteError::unknown(ErrorKind::Protocol, "complete the upload: no usable id")
        })?;
        let path = completed.path.as_ref().map(|path| path.0.as_str());
        let name = self.learn_prefix(path, &self.path_of(&request.parent.path));
        let name = name.and_then(|name| Name::new(&name).ok());
        let name = name.unwrap_or_else(|| request.name.clone());
        let size = completed
            .size
            .map_or_else(|| i64::try_from(request.content.size).unwrap_or(i64::MAX), |size| size.0);
        let hex = request.content.hash.hex();
        let md5 = completed.md5.as_ref().map_or(hex.as_str(), |md5| md5.0.as_str());
        let entry = file_entry(id, name, size, Some(md5));
        let same = |entry: &Entry| {
            entry.size == request.content.size && entry.hash == Some(request.content.hash)
        };
        match entry.filter(same) {
            Some(entry) => Ok(entry),
            None => {
                // Ours, and wrong: it goes before anybody downloads it.
                self.delete_own(id).await?;
                let context = format!("upload of {}: the service has other content", request.name);
                Err(RemoteError::new(ErrorKind::Corrupt, context))
            }
        }
    }

    /// The file that an upload made whose reply was lost: our name, our content.
    async fn find_uploaded(&self, request: &UploadRequest) -> Result<Option<Entry>> {
        let folder = read_folder(&self.api, &self.path_of(&request.parent.path)).await;
        let folder = folder.map_err(unknown)?;
        let found = folder.entries().find(|entry| {
            entry.name == request.name
                && entry.size == request.content.size
                && entry.hash == Some(request.content.hash)
        });
        Ok(found.cloned())
    }

    /// Deletes a file that an upload of ours made; gone is gone.
    async fn delete_own(&self, id: u64) -> Result<()> {
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
                Some(_) if attempt >= DELETIONS_MAX => return Err(error),
                Some(_) => attempt += 1,
            }
        }
    }

    // ---- last checks -------------------------------------------------------------------------

    /// A new file must not replace or double one that somebody else has made since the folder was
    /// listed, which is what this service may do with a name that is taken.
    // RACE: a file that appears after this look may be replaced; no call of the service checks.
    async fn expect_free(&self, request: &UploadRequest) -> Result<()> {
        let matters = match self.capabilities.same_name {
            Known::Unknown | Known::Is(SameName::Replaces | SameName::Duplicates) => true,
            Known::Is(SameName::AutoRenames | SameName::Rejects) => false,
        };
        if request.over.is_some() || !matters {
            return Ok(());
        }
        let (parent, name) = (&request.parent.path, &request.name);
        let seen = {
            let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.verdict(parent, name, self.now_s())
        };
        match seen {
            Some(Verdict::Free) => Ok(()),
            // What was there may be gone by now: refused is only what a fresh look shows.
            Some(Verdict::Taken | Verdict::Alike) | None => {
                self.expect_room(&self.read(parent).await?, &parent.join(name), None)
            }
        }
    }

    pub(super) async fn abort(&self, session: &UploadSession) -> Result<()> {
        let Ok(token) = Token::of(self, session) else { return Ok(()) };
        match self.api.abort(&token.endpoint, &token.upload_id).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Something was done already: whoever hears of the error must look.
fn unknown(error: RemoteError) -> RemoteError {
    RemoteError { effect: Effect::Unknown, ..error }
}

/// Whether the service may have made `name` of `wanted`: another spelling, or a number added
/// because the name was taken.
fn renamed_by_service(name: &Name, wanted: &str) -> bool {
    use unicode_normalization::UnicodeNormalization;
    let fold = |text: &str| text.nfc().collect::<String>().to_lowercase();
    let (name, wanted) = (fold(name.as_str()), fold(wanted));
    if name == wanted {
        return true;
    }
    let (stem, extension) = match wanted.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        Some(_) | None => (wanted.as_str(), String::new()),
    };
    let added = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension.as_str()));
    added.is_some_and(|added| {
        !added.is_empty() && added.chars().all(|c| c.is_ascii_digit() || " ()-_".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_respell_or_number_a_name_and_nothing_else() {
        let made = |name: &str, wanted: &str| renamed_by_service(&Name::new(name).unwrap(), wanted);
        assert!(made("a(1).txt", "a.txt"));
        assert!(made("a (2)", "a"));
        assert!(made("A.TXT", "a.txt"));
        assert!(made("\u{e9}.txt", "e\u{301}.txt"));
        assert!(made(".foldsync-0 (1)", ".foldsync-0"));
        assert!(!made("b.txt", "a.txt"));
        assert!(!made("a.txt.bak", "a.txt"));
        assert!(!made("ab.txt", "a.txt"));
    }
}
