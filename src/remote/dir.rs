//! A plain folder as a remote: another disk, a mounted share, a stick.
//!
//! Owns nothing of its own but the stage folder that it locks, since several computers may sync with
//! one folder; everything else is `local`'s. Items are looked up by path, and a folder that is not
//! the one the caller means is never listed or written to.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::OnceCell;

use super::{
    Account, Body, ByteRange, Capabilities, DeleteKind, Download, Effect, ErrorKind, IdLife, Known,
    Locator, MoveSupport, NameRules, Namespace, Outstanding, Page, PageCursor, Quota, Remote,
    RemoteError, Result, SameName, UploadRequest, UploadSession, UploadStart, UploadStyle,
};
use crate::clock::Clock;
use crate::local::facts::DiskFacts;
use crate::local::install::marked;
use crate::local::os::{Disk, OsOptions, change, visit};
use crate::local::root::{OpenError, RootId, Symlinks};
use crate::local::stage::{Stage, Unflushed};
use crate::local::transfer::{Reader, Writer};
use crate::local::{FileReader, FsError, FsErrorKind, Installed, StageKey, StageWriter};
use crate::tree::{Entry, Kind, Name, RelPath, Stamp};

/// What a plain folder can do.
const CAPABILITIES: Capabilities = Capabilities {
    namespace: Namespace::Folders,
    id_life: Known::Is(IdLife::SurvivesMove),
    same_name: Known::Is(SameName::Replaces),
    delete: Known::Is(DeleteKind::RecycleBin),
    moves: MoveSupport::Atomic,
    content_hash: None,
    instant_upload: None,
    upload: UploadStyle::Ranges { resume: false },
    max_file_size: None,
    stat: true,
    ranged_download: true,
    names: NameRules::POSIX,
};

/// How many processes of one computer may use a folder at once.
const STAGES_MAX: u32 = 100;
/// What is read of a file for one piece of a download.
const DOWNLOAD_BYTES: usize = 256 * 1024;

/// See the module text.
pub struct DirRemote {
    disk: Arc<Disk>,
    clock: Arc<dyn Clock>,
    /// The identity that was seen first.
    identity: OnceLock<String>,
    stage: OnceCell<OwnStage>,
    uploads: Mutex<HashMap<u64, Upload>>,
}

/// A stage folder that no other process uses while this lives.
struct OwnStage {
    stage: Arc<Stage>,
    _lock: OwnedFd,
}

/// A file that is being received.
struct Upload {
    writer: Box<Writer>,
    received: u64,
}

impl DirRemote {
    /// Opens the folder. Changes nothing in it.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> std::result::Result<DirRemote, OpenError> {
        DirRemote::open_beside(path, clock, None)
    }

    /// Opens the folder of a pair whose other folder is `other`, which is never a part of this one.
    pub fn open_beside(
        path: &Path,
        clock: Arc<dyn Clock>,
        other: Option<RootId>,
    ) -> std::result::Result<DirRemote, OpenError> {
        let options = OsOptions { symlinks: Symlinks::Skip, clock: Arc::clone(&clock), other };
        Ok(DirRemote {
            disk: Arc::new(Disk::open(path, options)?),
            clock,
            identity: OnceLock::new(),
            stage: OnceCell::new(),
            uploads: Mutex::default(),
        })
    }

    /// The identity in the folder's marker; `None` if it has none yet.
    pub async fn identity(&self) -> Result<Option<String>> {
        self.look(Disk::identity).await
    }

    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> crate::local::Result<T> + Send + 'static,
    ) -> Result<T> {
        visit(&self.disk, work).await.map_err(|e| remote_error(e, Effect::None))
    }

    async fn act<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> crate::local::Result<Unflushed<T>> + Send + 'static,
    ) -> Result<T> {
        change(&self.disk, work).await.map_err(|e| {
            // The change may have been made, and only not be durable.
            let effect = if e.kind == FsErrorKind::Io { Effect::Unknown } else { Effect::None };
            remote_error(e, effect)
        })
    }

    async fn own_stage(&self) -> Result<Arc<Stage>> {
        let own = self.stage.get_or_try_init(|| self.act(lock_stage)).await?;
        Ok(Arc::clone(&own.stage))
    }

    /// Where moves are recorded that the disk refuses. Those that it does not refuse need none.
    async fn journal(&self) -> Option<Arc<Stage>> {
        self.own_stage().await.ok()
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upload of a session, which the caller puts back; a new one if none was begun.
    async fn take_upload(&self, key: u64) -> Result<Upload> {
        let known = self.uploads().remove(&key);
        if let Some(upload) = known {
            return Ok(upload);
        }
        let stage = self.own_stage().await?;
        let writer = Box::new(Writer::new(&self.disk, &stage, StageKey(key)));
        Ok(Upload { writer, received: 0 })
    }

    /// A name for an edit that slipped in while a file was replaced.
    fn aside(&self, at: &RelPath) -> RelPath {
        let Some((parent, name)) = at.split_last() else { return at.clone() };
        let mark = format!(".conflict-{}-remote", self.clock.now().compact());
        parent.join(&marked(&name, &mark))
    }
}

/// Takes the first stage folder of this computer that no living process and no other user has, and saves
/// what a killed process left in it. The lock is on a file, because not every file system locks folders.
fn lock_stage(disk: &Disk) -> crate::local::Result<Unflushed<OwnStage>> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    let failed = |errno: Errno| {
        let why = std::io::Error::from(errno);
        FsError::new(FsErrorKind::Io, format!("lock a stage folder: {why}"))
    };
    let mut refused = None;
    for number in 1..=STAGES_MAX {
        let stage = Stage { folder: format!("stage-{host}-{number}") };
        let dir = match disk.root.control(&stage.folder) {
            // Another user's, on a folder that several share.
            Err(error) if error.kind == FsErrorKind::Denied => {
                refused = Some(error);
                continue;
            }
            other => other?,
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let lock = match fs::openat(&dir, "lock", flags, mode) {
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
                refused = Some(failed(errno));
                continue;
            }
            other => other.map_err(failed)?,
        };
        match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => continue,
            Err(errno) => return Err(failed(errno)),
        }
        let unflushed = stage.clear(&disk.root, &disk.trash)?;
        return Ok((OwnStage { stage: Arc::new(stage), _lock: lock }, unflushed));
    }
    Err(refused.unwrap_or_else(|| failed(Errno::WOULDBLOCK)))
}

/// `NotFound` if the folder at a locator's path is not the folder that it means.
fn expect_folder(disk: &Disk, folder: &Locator) -> crate::local::Result<()> {
    let Some(id) = &folder.id else { return Ok(()) };
    if folder.path.is_root() {
        return Ok(());
    }
    match disk.root.stat(&folder.path)? {
        Some(entry) if entry.kind == Kind::Dir && entry.item == *id => Ok(()),
        Some(_) | None => {
            let context = format!("the folder {} is not there any more", folder.path);
            Err(FsError::new(FsErrorKind::NotFound, context))
        }
    }
}

fn remote_error(e: FsError, effect: Effect) -> RemoteError {
    let kind = match e.kind {
        FsErrorKind::NotFound => ErrorKind::NotFound,
        FsErrorKind::Occupied => ErrorKind::AlreadyExists,
        // A folder with something in it is not the empty one that was expected.
        FsErrorKind::Changed | FsErrorKind::NotEmpty => ErrorKind::Changed,
        FsErrorKind::Denied => ErrorKind::Forbidden,
        FsErrorKind::BadName => ErrorKind::InvalidName,
        FsErrorKind::Full => ErrorKind::QuotaFull,
        FsErrorKind::RootLost => ErrorKind::RootLost,
        FsErrorKind::Io => ErrorKind::Unavailable,
    };
    RemoteError { effect, ..RemoteError::new(kind, e.context) }
}

#[async_trait]
impl Remote for DirRemote {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn claim(&self, identity: &str) -> Result<()> {
        if self.identity().await?.is_some() {
            return Ok(());
        }
        let identity = identity.to_owned();
        self.act(move |disk| disk.claim(&identity)).await
    }

    async fn measure(&self, known: Option<DiskFacts>, writes: bool) -> Result<Option<DiskFacts>> {
        self.look(move |disk| disk.measure(known.as_ref(), writes)).await
    }

    async fn refresh_control(&self) {
        // Another user's control folder, or a read-only disk: what can be done without it goes on.
        if let Err(error) = self.look(Disk::refresh_control).await {
            tracing::debug!(%error, "the control folder is as it was");
        }
    }

    async fn account(&self) -> Result<Account> {
        let path = self.disk.root.path().display();
        let lost = |why| RemoteError::new(ErrorKind::RootLost, format!("the folder {path} {why}"));
        let Some(key) = self.identity().await? else {
            return Err(match self.identity.get() {
                Some(_) => lost("lost its marker"),
                None => RemoteError::new(
                    ErrorKind::NotFound,
                    format!(
                        "the folder {path} has no marker: it was never used, or is not mounted"
                    ),
                ),
            });
        };
        if *self.identity.get_or_init(|| key.clone()) != key {
            return Err(lost("has another marker than before"));
        }
        Ok(Account { key })
    }

    /// A folder is one page.
    async fn list(&self, dir: &Locator, _cursor: Option<PageCursor>) -> Result<Page> {
        let dir = dir.clone();
        self.look(move |disk| {
            expect_folder(disk, &dir)?;
            let mut listing = disk.root.list(&dir.path)?;
            listing.ignore_file = None;
            listing.is_local_root = dir.path.is_root() && disk.is_local_root();
            Ok(Page { listing, next: None })
        })
        .await
    }

    async fn is_local_root(&self) -> bool {
        self.look(|disk| Ok(disk.is_local_root())).await.unwrap_or_default()
    }

    /// What is at the path now: its item tells whether that is the same thing.
    async fn stat(&self, target: &Locator) -> Result<Option<Entry>> {
        let path = target.path.clone();
        self.look(move |disk| {
            let entry = disk.root.stat(&path)?;
            if entry.is_none() {
                disk.root.check()?;
            }
            Ok(entry)
        })
        .await
    }

    async fn create_dir(&self, parent: &Locator, name: &Name) -> Result<Entry> {
        let (parent, at) = (parent.clone(), parent.path.join(name));
        self.act(move |disk| {
            expect_folder(disk, &parent)?;
            disk.create_dir(&at)
        })
        .await
    }

    async fn begin_upload(&self, request: &UploadRequest) -> Result<UploadStart> {
        let session =
            UploadSession { request: request.clone(), token: String::new(), expires_s: None };
        Ok(UploadStart::Session(session))
    }

    async fn outstanding(&self, session: &UploadSession) -> Result<Outstanding> {
        let request = &session.request;
        let from = self.uploads().get(&request.key).map_or(0, |upload| upload.received);
        let len = request.content.size.saturating_sub(from);
        // An empty file too is one range, until it was sent.
        let ranges = if len > 0 || from == 0 { vec![ByteRange { from, len }] } else { Vec::new() };
        Ok(Outstanding { ranges, parallel: false })
    }

    async fn upload_range(
        &self,
        session: &UploadSession,
        range: ByteRange,
        mut body: Body,
    ) -> Result<()> {
        let key = session.request.key;
        if range.from == 0 {
            self.uploads().remove(&key);
        }
        let mut upload = self.take_upload(key).await?;
        let context = |what: &str| format!("receive {}: {what}", session.request.name);
        if upload.received != range.from {
            let what = format!("byte {} comes next, not {}", upload.received, range.from);
            return Err(RemoteError::new(ErrorKind::Corrupt, context(&what)));
        }
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| {
                RemoteError::new(ErrorKind::Unavailable, context(&format!("the source: {e}")))
            })?;
            upload.received += chunk.len() as u64;
            if upload.received > range.from + range.len {
                return Err(RemoteError::new(ErrorKind::Corrupt, context("too many bytes")));
            }
            upload.writer.write(chunk).await.map_err(|e| remote_error(e, Effect::None))?;
        }
        if upload.received != range.from + range.len {
            return Err(RemoteError::new(ErrorKind::Corrupt, context("the bytes ended early")));
        }
        self.uploads().insert(key, upload);
        Ok(())
    }

    async fn finish_upload(&self, session: &UploadSession) -> Result<Option<Entry>> {
        let request = session.request.clone();
        let upload = self.take_upload(request.key).await?;
        if upload.received != request.content.size {
            let context = format!("finish {}: bytes are missing", request.name);
            return Err(RemoteError::new(ErrorKind::Corrupt, context));
        }
        let sealed = upload.writer.seal(request.modified).await;
        let sealed = sealed.map_err(|e| remote_error(e, Effect::None))?;
        let stage = self.own_stage().await?;
        let at = request.parent.path.join(&request.name);
        let aside = self.aside(&at);
        let installed = self
            .act(move |disk| {
                expect_folder(disk, &request.parent)?;
                let over = request.over.as_ref().map(|(_, stamp)| stamp);
                stage.install(&disk.root, &disk.trash, &sealed, &at, over, &aside)
            })
            .await?;
        match installed {
            Installed::Clean(entry) => Ok(Some(entry)),
            Installed::DisplacedEdit { entry, kept_as } => Err(RemoteError::unknown(
                ErrorKind::Changed,
                format!("{} was written meanwhile; that version is {kept_as}", entry.name),
            )),
        }
    }

    async fn abort_upload(&self, session: &UploadSession) -> Result<()> {
        let key = session.request.key;
        self.uploads().remove(&key);
        let stage = self.own_stage().await?;
        self.act(move |disk| stage.discard(&disk.root, &disk.trash, StageKey(key))).await
    }

    /// The stage of a killed process is cleared when its lock is taken over.
    async fn clear_stage(&self) -> Result<()> {
        self.own_stage().await.map(drop)
    }

    async fn download(&self, target: &Locator, expected: &Stamp, from: u64) -> Result<Download> {
        let opened = Reader::open(&self.disk, &target.path, expected, from).await;
        let reader = opened.map_err(|e| remote_error(e, Effect::None))?;
        let bytes = stream::try_unfold(reader, |mut reader| async move {
            let chunk = reader.read(DOWNLOAD_BYTES).await?;
            if chunk.is_empty() {
                reader.verify().await?;
                return Ok(None);
            }
            Ok(Some((chunk, reader)))
        });
        let bytes = bytes.map(|chunk| chunk.map_err(|e| remote_error(e, Effect::None)));
        Ok(Download { bytes: bytes.boxed(), rev: Some(expected.rev.clone()) })
    }

    async fn relocate(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry> {
        let (from, expected) = (target.path.clone(), expected.clone());
        let (parent, to) = (parent.clone(), parent.path.join(name));
        let journal = self.journal().await;
        self.act(move |disk| {
            expect_folder(disk, &parent)?;
            disk.rename(&from, &to, &expected, journal.as_deref())
        })
        .await
    }

    async fn delete(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        let (target, expected) = (target.clone(), expected.clone());
        let journal = self.journal().await;
        self.act(move |disk| match target.kind {
            Kind::File => disk.trash(&target.path, &expected, journal.as_deref()),
            Kind::Dir => disk.remove_expected_dir(&target.path, &expected),
        })
        .await
    }

    async fn set_rest_aside(
        &self,
        target: &Locator,
        expected: &Stamp,
        rest: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        let (path, expected, rest) = (target.path.clone(), expected.clone(), rest.clone());
        self.act(move |disk| disk.set_rest_aside(&path, &expected, &rest)).await
    }

    async fn quota(&self) -> Result<Quota> {
        self.look(|disk| {
            disk.root.check()?;
            let (used, total) = disk.room()?;
            Ok(Quota { used: Some(used), total: Some(total) })
        })
        .await
    }
}
