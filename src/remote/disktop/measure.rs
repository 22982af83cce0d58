//! Finds out by trying what the document does not say, in a scratch folder that is removed again.
//!
//! What was found is kept with its date, so that the cheaper way is used once it is proven.

use std::fs;
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::api::{Change, Declared, Target};
use super::listing::{Id, read_folder};
use super::{DiskTop, Measured, sandbox_path};
use crate::remote::{CaseRule, ErrorKind, IdLife, Known, RemoteError, Result, SameName};
use crate::tree::{Entry, HashAlgo, Hasher, Name, RelPath};

/// Never listed as content: it has the form of a staged name.
const SCRATCH: &str = ".foldsync-doctor";

/// What was found out about one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Seconds since the epoch.
    pub at_s: i64,
    pub same_name: SameNameFound,
    pub ignores_case: bool,
    pub id_survives_move: bool,
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
    /// Some thirty requests and a few bytes in a scratch folder of the sandbox.
    pub async fn measure(&self) -> Result<Findings> {
        let name = Name::new(SCRATCH)
            .map_err(|error| RemoteError::new(ErrorKind::InvalidName, error.to_string()))?;
        let folder = self.ensure_folder(&RelPath::root(), &name).await?;
        let path = sandbox_path(&RelPath::root().join(&name));
        self.clear(&path).await?;
        let found = self.try_out(&path).await;
        self.clear(&path).await?;
        if let Some(Id::Folder(id)) = Id::of(&folder.item) {
            self.api.manage(&Change::Delete, &[Target::Folder(id)]).await?;
        }
        found
    }

    async fn try_out(&self, path: &str) -> Result<Findings> {
        let same_name = self.try_same_name(path).await?;
        self.clear(path).await?;
        let ignores_case = self.try_case(path).await?;
        self.clear(path).await?;
        let id_survives_move = self.try_move(path).await?;
        Ok(Findings {
            at_s: self.now_s(),
            same_name,
            ignores_case,
            id_survives_move,
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
                |_| Ok(SameNameFound::Rejects),
            ),
            (_, 1, _) => Ok(SameNameFound::AutoRenames),
            (_, _, _) => Ok(SameNameFound::Duplicates),
        }
    }

    /// With files and with folders: where a taken name makes a second item, only the other kind
    /// tells. Whatever is refused, or takes the first one's place, is not told apart.
    async fn try_case(&self, path: &str) -> Result<bool> {
        self.put(path, "Case", b"upper").await?;
        let file = self.put(path, "case", b"lower").await;
        self.api.create_folder(path, "Folder").await?;
        let folder = self.api.create_folder(path, "folder").await;
        let entries = self.scratch(path).await?;
        let shows = |name: &str| entries.iter().any(|entry| entry.name.as_str() == name);
        let all = ["Case", "case", "Folder", "folder"].into_iter().all(shows);
        Ok(file.is_err() || folder.is_err() || !all)
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
        let kept = moved && self.has(&dest_path, "after", id).await?;
        self.clear(&dest_path).await?;
        Ok(kept)
    }

    async fn has(&self, path: &str, name: &str, id: u64) -> Result<bool> {
        let entries = self.scratch(path).await?;
        let is_it = |e: &Entry| e.name.as_str() == name && Id::of(&e.item) == Some(Id::File(id));
        Ok(entries.iter().any(is_it))
    }

    async fn scratch(&self, path: &str) -> Result<Vec<Entry>> {
        Ok(read_folder(&self.api, path).await?.entries().cloned().collect())
    }

    async fn clear(&self, path: &str) -> Result<()> {
        for entry in self.scratch(path).await? {
            let target = match Id::of(&entry.item) {
                Some(Id::File(id)) => Target::File(id),
                Some(Id::Folder(id)) => Target::Folder(id),
                None => continue,
            };
            self.api.manage(&Change::Delete, &[target]).await?;
        }
        Ok(())
    }

    /// The bare upload of a few bytes, without any of the care that a real one takes.
    async fn put(&self, parent_path: &str, name: &str, content: &'static [u8]) -> Result<()> {
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
        let body = stream::once(async move { Ok(Bytes::from_static(content)) }).boxed();
        self.api.send_part(&endpoint, &upload_id, 1, size, body).await?;
        self.api.complete(&endpoint, &upload_id).await.map(drop)
    }
}
