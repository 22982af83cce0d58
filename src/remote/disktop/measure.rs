//! Finds out by trying what the document does not say, in a scratch folder that is removed again.
//!
//! What was found is kept with its date, so that the cheaper way is used once it is proven. Owns the
//! findings and the trials of content and places; those of names are in `names`. Never touches
//! anything outside of the scratch folder.

mod names;

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::api::{Change, Declared, FileRow, FolderRow, Target};
use super::listing::{Id, read_folder};
use super::{DiskTop, Measured, Spelling, sandbox_path};
use crate::remote::http::{Fetch, SignedUrl};
use crate::remote::{CaseRule, ErrorKind, FormRule, IdLife, Known, RemoteError, Result, SameName};
use crate::tree::{Entry, HashAlgo, Hasher, InternalName, RelPath};

/// Items that one request may delete.
const DELETED_AT_ONCE: usize = 50;

/// What was found out about one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Seconds since the epoch.
    pub at_s: i64,
    pub same_name: SameNameFound,
    pub ignores_case: bool,
    pub forms: FormRule,
    /// The longest name of ASCII characters that was taken, in characters; at most 255.
    pub name_chars_max: usize,
    /// The longest name that was taken, in bytes; at most 255 characters of 3 bytes.
    pub name_bytes_max: usize,
    /// Characters that names cannot have.
    pub forbidden: String,
    pub trailing_dot_or_space: bool,
    pub id_survives_move: bool,
    pub pages: PagesFound,
    pub ranged_download: bool,
    /// Seconds that this computer's clock is ahead of the service's.
    pub clock_skew_s: Option<i64>,
}

/// What a second upload of a name did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameNameFound {
    Replaces,
    AutoRenames,
    Rejects,
    Duplicates,
}

/// What the pages of a listing hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PagesFound {
    /// As many items as were asked for, each item once.
    Exact,
    /// Another number of items, each item once.
    OtherSize,
    /// Some items repeatedly, or some not at all.
    Repeating,
}

impl Findings {
    /// As capabilities. A deletion cannot be looked behind, so it stays unknown.
    pub fn measured(&self) -> Measured {
        Measured {
            same_name: Known::Is(match self.same_name {
                SameNameFound::Replaces => SameName::Replaces,
                SameNameFound::AutoRenames => SameName::AutoRenames,
                SameNameFound::Rejects => SameName::Rejects,
                SameNameFound::Duplicates => SameName::Duplicates,
            }),
            id_life: Known::Is(if self.id_survives_move {
                IdLife::SurvivesMove
            } else {
                IdLife::ChangesOnMove
            }),
            case: Known::Is(if self.ignores_case {
                CaseRule::Insensitive
            } else {
                CaseRule::Sensitive
            }),
            forms: Known::Is(self.forms),
            spelling: Known::Is(Spelling {
                bytes_max: self.name_bytes_max,
                chars_max: self.name_chars_max,
                forbidden: self.forbidden.chars().collect(),
                trailing_dot_or_space: self.trailing_dot_or_space,
            }),
            ranged_download: Known::Is(self.ranged_download),
            ..Measured::NOTHING
        }
    }

    fn file(state_dir: &Path, remote: &str) -> PathBuf {
        state_dir.join("measured").join(format!("{remote}.json"))
    }

    /// `None` if nobody has measured this remote, or what was kept cannot be read: unknown is safe.
    pub fn load(state_dir: &Path, remote: &str) -> Option<Findings> {
        let text = fs::read(Findings::file(state_dir, remote)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn store(&self, state_dir: &Path, remote: &str) -> std::io::Result<()> {
        let path = Findings::file(state_dir, remote);
        let folder = path.parent().unwrap_or(state_dir);
        fs::create_dir_all(folder)?;
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != IoErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::File::create_new(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    }
}

impl DiskTop {
    /// About a hundred requests, more where names are restricted, and a few kilobytes in a scratch
    /// folder of the sandbox. The folder is removed again also after a failure, if the service lets.
    pub async fn measure(&self) -> Result<Findings> {
        let name = InternalName::Scratch.name();
        let folder = self.ensure_folder(&RelPath::root(), &name).await?;
        let path = sandbox_path(&RelPath::root().join(&name));
        // Of an earlier try that could not clean up.
        self.clear(&path).await?;
        let found = self.try_out(&path).await;
        let removed = self.remove_scratch(&path, &folder).await;
        let found = found?;
        removed.map_err(|error| {
            let context = format!("{path} is left behind: {}", error.context);
            RemoteError { context, ..error }
        })?;
        Ok(found)
    }

    async fn remove_scratch(&self, path: &str, folder: &Entry) -> Result<()> {
        self.clear(path).await?;
        if let Some(Id::Folder(id)) = Id::of(&folder.item) {
            self.api.manage(&Change::Delete, &[Target::Folder(id)]).await?;
        }
        Ok(())
    }

    async fn try_out(&self, path: &str) -> Result<Findings> {
        let same_name = self.try_same_name(path).await?;
        self.clear(path).await?;
        let ignores_case = self.try_case(path).await?;
        let forms = self.try_forms(path).await?;
        self.clear(path).await?;
        let (name_chars_max, name_bytes_max) = self.try_lengths(path).await?;
        let forbidden = self.try_characters(path).await?;
        let trailing_dot_or_space = self.try_trailing(path).await?;
        self.clear(path).await?;
        let id_survives_move = self.try_move(path).await?;
        self.clear(path).await?;
        let pages = self.try_pages(path).await?;
        let ranged_download = self.try_range(path).await?;
        Ok(Findings {
            at_s: self.now_s(),
            same_name,
            ignores_case,
            forms,
            name_chars_max,
            name_bytes_max,
            forbidden,
            trailing_dot_or_space,
            id_survives_move,
            pages,
            ranged_download,
            clock_skew_s: self.api.http().clock_skew_s(),
        })
    }

    async fn try_same_name(&self, path: &str) -> Result<SameNameFound> {
        self.put(path, "same", b"first").await?;
        let second = self.put(path, "same", b"second").await;
        let entries = self.scratch(path).await?;
        let same = entries.iter().filter(|entry| entry.name.as_str() == "same").count();
        let newer = Hasher::of(HashAlgo::Md5, b"second");
        let arrived = entries.iter().any(|entry| entry.hash == Some(newer));
        match (entries.len(), same, arrived) {
            (1, 1, true) => Ok(SameNameFound::Replaces),
            (1, 1, false) => second.err().map_or_else(
                || {
                    let context = "a second upload of a name was accepted and is not there";
                    Err(RemoteError::new(ErrorKind::Protocol, context))
                },
                |error| expect_refusal(error).map(|()| SameNameFound::Rejects),
            ),
            (_, 1, _) => Ok(SameNameFound::AutoRenames),
            (_, _, _) => Ok(SameNameFound::Duplicates),
        }
    }

    /// Into another folder and under another name: either may mint a new id.
    async fn try_move(&self, path: &str) -> Result<bool> {
        self.put(path, "before", b"moved").await?;
        let entries = self.scratch(path).await?;
        let Some(Id::File(id)) = entries.first().and_then(|entry| Id::of(&entry.item)) else {
            return Err(RemoteError::new(ErrorKind::Protocol, "an upload is not to be found"));
        };
        self.api.create_folder(path, "below").await?;
        let dest_path = format!("{path}/below");
        let file = [Target::File(id)];
        self.api.manage(&Change::Move { dest_path: &dest_path }, &file).await?;
        let moved = self.has(&dest_path, "before", id).await?;
        if moved {
            self.api.manage(&Change::Rename { new_name: "after" }, &file).await?;
        }
        Ok(moved && self.has(&dest_path, "after", id).await?)
    }

    async fn has(&self, path: &str, name: &str, id: u64) -> Result<bool> {
        let entries = self.scratch(path).await?;
        let is_it = |e: &Entry| e.name.as_str() == name && Id::of(&e.item) == Some(Id::File(id));
        Ok(entries.iter().any(is_it))
    }

    /// Five items in pages of two.
    async fn try_pages(&self, path: &str) -> Result<PagesFound> {
        const ITEMS: usize = 5;
        const LIMIT: u32 = 2;
        const PAGES_MAX: u32 = 8;
        for name in ["page-1", "page-2", "page-3"] {
            self.put(path, name, b"page").await?;
        }
        for name in ["page-4", "page-5"] {
            self.api.create_folder(path, name).await?;
        }
        let (mut seen, mut sizes) = (BTreeSet::new(), Vec::new());
        for number in 1..=PAGES_MAX {
            let page = self.api.list(path, number, LIMIT).await?;
            let folders = page.folders.unwrap_or_default();
            let files = page.files.unwrap_or_default();
            sizes.push(folders.len() + files.len());
            let folders = folders.iter().filter_map(|row| FolderRow::deserialize(row).ok());
            seen.extend(folders.map(|row| row.name.0));
            let files = files.iter().filter_map(|row| FileRow::deserialize(row).ok());
            seen.extend(files.map(|row| row.name.0));
            if seen.len() == ITEMS || sizes.last() == Some(&0) {
                break;
            }
        }
        let shown: usize = sizes.iter().sum();
        Ok(if seen.len() != ITEMS || shown != ITEMS {
            PagesFound::Repeating
        } else if sizes == [2, 2, 1] {
            PagesFound::Exact
        } else {
            PagesFound::OtherSize
        })
    }

    /// Whether a download that begins in the middle sends that part and no more.
    async fn try_range(&self, path: &str) -> Result<bool> {
        const CONTENT: &[u8] = b"a download that begins here does not begin there";
        const FROM: u64 = 16;
        self.put(path, "range", CONTENT).await?;
        let entries = self.scratch(path).await?;
        let file = entries.iter().find(|entry| entry.name.as_str() == "range");
        let Some(Id::File(id)) = file.and_then(|entry| Id::of(&entry.item)) else {
            return Err(RemoteError::new(ErrorKind::Protocol, "an upload is not to be found"));
        };
        let link = self.api.download(id).await?;
        let url = SignedUrl::new(self.api.http().origins().admit(&link.url)?);
        let size = CONTENT.len() as u64;
        let fetch = Fetch { what: "download a part".to_owned(), url, from: FROM, size };
        let part = match self.api.http().fetch_part(fetch).await {
            Ok(part) => part,
            // Not the part that was asked for.
            Err(error) if error.kind == ErrorKind::Protocol => return Ok(false),
            Err(error) => return Err(error),
        };
        let chunks: Vec<Bytes> = part.bytes.try_collect().await?;
        Ok(part.is_exact && CONTENT.ends_with(&chunks.concat()))
    }

    // ---- the scratch folder ----------------------------------------------------------------------

    async fn scratch(&self, path: &str) -> Result<Vec<Entry>> {
        Ok(read_folder(&self.api, path).await?.entries().cloned().collect())
    }

    async fn clear(&self, path: &str) -> Result<()> {
        let mut targets = Vec::new();
        for entry in self.scratch(path).await? {
            match Id::of(&entry.item) {
                Some(Id::File(id)) => targets.push(Target::File(id)),
                Some(Id::Folder(id)) => {
                    Box::pin(self.clear(&format!("{path}/{}", entry.name))).await?;
                    targets.push(Target::Folder(id));
                }
                None => {}
            }
        }
        for some in targets.chunks(DELETED_AT_ONCE) {
            self.api.manage(&Change::Delete, some).await?;
        }
        Ok(())
    }

    /// The bare upload of a few bytes, without any of the care that a real one takes.
    async fn put(&self, parent_path: &str, name: &str, content: &[u8]) -> Result<()> {
        let odd = || RemoteError::new(ErrorKind::Protocol, "begin an upload: an odd answer");
        let md5 = Hasher::of(HashAlgo::Md5, content).hex();
        let size = content.len() as u64;
        let told = self.api.precreate(&Declared { parent_path, name, size, md5: &md5 }).await?;
        if told.instant_upload.0 {
            return Ok(());
        }
        let endpoint = told.endpoint.as_deref().ok_or_else(odd)?;
        let endpoint = self.api.http().origins().admit(endpoint)?;
        let upload_id = told.upload_id.ok_or_else(odd)?.0;
        let content = Bytes::copy_from_slice(content);
        let body = stream::once(async move { Ok(content) }).boxed();
        let sent = match self.api.send_part(&endpoint, &upload_id, 1, size, body).await {
            Ok(_) => self.api.complete(&endpoint, &upload_id).await.map(drop),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // Best effort: the service ends it by itself.
            let _ = self.api.abort(&endpoint, &upload_id).await;
        }
        sent
    }
}

/// Only a plain no tells something about the service; a failure tells nothing, and ends the trials.
fn expect_refusal(error: RemoteError) -> Result<()> {
    match error.kind {
        ErrorKind::AlreadyExists
        | ErrorKind::InvalidName
        | ErrorKind::Forbidden
        | ErrorKind::Changed
        | ErrorKind::NotFound
        | ErrorKind::Unsupported
        | ErrorKind::TooLarge
        | ErrorKind::Protocol => Ok(()),
        ErrorKind::AuthExpired
        | ErrorKind::QuotaFull
        | ErrorKind::RateLimited
        | ErrorKind::Corrupt
        | ErrorKind::Unavailable
        | ErrorKind::RootLost => Err(error),
    }
}
