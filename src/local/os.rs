//! `OsFs`: the real disk behind `LocalFs`.
//!
//! Owns what runs on the blocking threads and how few visits there a file needs; where bytes wait
//! before they are written. The work itself is in `root`, `stage` and `trash`, durability in
//! `flush`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::flush::Flusher;
use super::root::{
    OpenError, OpenedFile, Root, Spot, Symlinks, changed, failure, kind_of, look, rename_noreplace,
};
use super::stage::{Part, Stage, Unflushed};
use super::trash::{Trash, Trashed};
use super::{
    FileReader, FsError, FsErrorKind, Installed, Leftover, Listing, LocalFs, Result, Sealed,
    StageKey, StageWriter,
};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{ContentHash, Entry, HashAlgo, Hasher, RelPath, Rev, Stamp};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;
/// What is gathered before it is written; a file up to this size is written in one visit.
const WRITE_BYTES: usize = 512 * 1024;
const MARKER: &str = "root-id";
/// An identity is a line of text; what is longer was not written by us.
const MARKER_BYTES_MAX: u64 = 4096;

/// How a root is opened.
#[derive(Clone)]
pub struct OsOptions {
    pub symlinks: Symlinks,
    /// Dates the folders in the trash.
    pub clock: Arc<dyn Clock>,
}

impl Default for OsOptions {
    fn default() -> OsOptions {
        OsOptions { symlinks: Symlinks::Skip, clock: Arc::new(SystemClock) }
    }
}

/// A folder of this computer as a root. Clones share it.
#[derive(Clone)]
pub struct OsFs {
    disk: Arc<Disk>,
}

/// What the blocking threads work on.
pub(crate) struct Disk {
    pub(crate) root: Root,
    pub(crate) stage: Arc<Stage>,
    pub(crate) trash: Trash,
    flusher: Flusher,
}

impl Disk {
    pub(crate) fn open(path: &Path, options: OsOptions) -> std::result::Result<Disk, OpenError> {
        let root = Root::open(path, options.symlinks)?;
        let fd = rustix::io::fcntl_dupfd_cloexec(root.fd(), 0)
            .map_err(|errno| OpenError::Other { path: path.to_owned(), source: errno.into() })?;
        Ok(Disk {
            root,
            stage: Arc::new(Stage { folder: "stage".into() }),
            trash: Trash::new(options.clock),
            flusher: Flusher::new(fd),
        })
    }
}

impl OsFs {
    /// Opens the folder. Changes nothing in it.
    pub fn open(path: &Path, options: OsOptions) -> std::result::Result<OsFs, OpenError> {
        Ok(OsFs { disk: Arc::new(Disk::open(path, options)?) })
    }

    pub fn path(&self) -> &Path {
        self.disk.root.path()
    }

    /// Everything in the trash, oldest first.
    pub async fn list_trash(&self) -> Result<Vec<Trashed>> {
        visit(&self.disk, |disk| disk.trash.list(&disk.root)).await
    }

    /// Gives a file in the trash its old path again, or the path `to`; missing folders above it are
    /// made. `Occupied` if something is there.
    pub async fn restore_trashed(&self, stored: &RelPath, to: Option<&RelPath>) -> Result<RelPath> {
        let (stored, to) = (stored.clone(), to.cloned());
        change(&self.disk, move |disk| disk.trash.restore(&disk.root, &stored, to.as_ref())).await
    }

    /// Removes everything in the trash, for good. How many files that were.
    pub async fn empty_trash(&self) -> Result<u64> {
        visit(&self.disk, |disk| disk.trash.empty(&disk.root)).await
    }

    /// Removes from the trash what came longer than `keep` before `now`. How many files that were.
    pub async fn expire_trash(&self, now: Timestamp, keep: Duration) -> Result<u64> {
        visit(&self.disk, move |disk| disk.trash.expire(&disk.root, now, keep)).await
    }
}

// ---- visits to the blocking threads ------------------------------------------------------------

/// Does something on a blocking thread.
pub(crate) async fn visit<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
) -> Result<T> {
    let disk = Arc::clone(disk);
    match tokio::task::spawn_blocking(move || work(&disk)).await {
        Ok(outcome) => outcome,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(FsError::new(FsErrorKind::Io, format!("the disk's thread: {e}"))),
        },
    }
}

/// `visit`, then waits until what it changed is durable. Refuses a root that was replaced.
pub(crate) async fn change<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk) -> Result<Unflushed<T>> + Send + 'static,
) -> Result<T> {
    let (outcome, unflushed) = visit(disk, |disk| {
        disk.root.check()?;
        work(disk)
    })
    .await?;
    disk.flusher.flush(unflushed).await?;
    Ok(outcome)
}

// ---- the verbs, on a blocking thread -----------------------------------------------------------

impl Disk {
    pub(crate) fn identity(&self) -> Result<Option<String>> {
        use std::io::Read;
        self.root.check()?;
        let path = format!("{CONTROL_DIR}/{MARKER}");
        let file = match self.root.open_control_file(&path) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failure("read", &path, errno)),
        };
        let mut text = String::new();
        std::fs::File::from(file)
            .take(MARKER_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|e| FsError::new(FsErrorKind::Io, format!("read {path}: {e}")))?;
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    pub(crate) fn claim(&self, identity: &str) -> Result<Unflushed<()>> {
        use std::io::Write;
        let fail = |errno| failure("prepare", CONTROL_DIR, errno);
        match fs::mkdirat(self.root.fd(), CONTROL_DIR, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let stage = self.root.control("stage")?;
        let trash = self.root.control("trash")?;
        let control = self.root.control("")?;
        let new = "root-id.new";
        match fs::unlinkat(&control, new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = fs::openat(&control, new, flags, mode).map_err(fail)?;
        let mut file = std::fs::File::from(file);
        writeln!(file, "{identity}")
            .and_then(|()| file.sync_all())
            .map_err(|e| FsError::new(FsErrorKind::Io, format!("write the marker: {e}")))?;
        fs::renameat(&control, new, &control, MARKER).map_err(fail)?;
        let root = rustix::io::fcntl_dupfd_cloexec(self.root.fd(), 0).map_err(fail)?;
        Ok(((), vec![stage, trash, control, root]))
    }

    pub(crate) fn hash(
        &self,
        path: &RelPath,
        expected: &Stamp,
        algo: HashAlgo,
        wanted: &AtomicBool,
    ) -> Result<ContentHash> {
        let file = self.root.open_file(path, expected)?;
        let mut hasher = Hasher::new(algo);
        let room = usize::try_from(expected.size).unwrap_or(READ_BYTES).min(READ_BYTES - 1) + 1;
        let mut buffer = vec![0; room];
        let mut read = 0;
        loop {
            if !wanted.load(Ordering::Relaxed) {
                return Err(FsError::new(FsErrorKind::Io, format!("hash {path}: interrupted")));
            }
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            read += length as u64;
            if read > expected.size {
                return Err(changed(path));
            }
        }
        if read != expected.size {
            return Err(changed(path));
        }
        self.root.verify(&file)?;
        Ok(hasher.finish())
    }

    pub(crate) fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        expected: &Stamp,
    ) -> Result<Unflushed<Entry>> {
        let (entry, folders) = self.root.rename(from, to, expected)?;
        Ok((entry, folders.into()))
    }

    pub(crate) fn create_dir(&self, at: &RelPath) -> Result<Unflushed<Entry>> {
        let (entry, folder) = self.root.create_dir(at)?;
        Ok((entry, folder.into_iter().collect()))
    }

    pub(crate) fn remove_dir(&self, path: &RelPath) -> Result<Unflushed<()>> {
        Ok(((), self.root.remove_dir(path)?.into_iter().collect()))
    }

    /// `Changed` if another folder is there.
    pub(crate) fn remove_expected_dir(
        &self,
        path: &RelPath,
        expected: &Stamp,
    ) -> Result<Unflushed<()>> {
        let looked = self.root.spot(path, "remove the folder");
        match looked.and_then(|spot| self.root.expect(&spot, expected)) {
            Err(e) if e.kind == FsErrorKind::NotFound => Ok(((), Vec::new())),
            Err(e) => Err(e),
            Ok(_) => self.remove_dir(path),
        }
    }

    /// Bytes used and bytes in all of the file system.
    pub(crate) fn room(&self) -> Result<(u64, u64)> {
        let stat = fs::fstatvfs(self.root.fd())
            .map_err(|errno| failure("ask for the room on", self.root.path().display(), errno))?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        Ok((total.saturating_sub(stat.f_bfree.saturating_mul(stat.f_frsize)), total))
    }

    pub(crate) fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<Unflushed<()>> {
        match self.trash_file(path, expected) {
            Err(e) if e.kind == FsErrorKind::NotFound => Ok(((), Vec::new())),
            other => other,
        }
    }

    fn trash_file(&self, path: &RelPath, expected: &Stamp) -> Result<Unflushed<()>> {
        let spot = self.root.spot(path, "trash")?;
        let stat = self.root.expect(&spot, expected)?;
        if kind_of(&stat) != FileType::RegularFile || expected.rev == Rev::FOLDER {
            return Err(changed(path));
        }
        let placed = self.trash.place(&self.root, &spot.dir, spot.name.as_str(), path)?;
        let moved = look(&placed.dir, &placed.name);
        if !moved.is_ok_and(|stat| expected.is_renamed(&self.root.stamp(&stat))) {
            return Err(untrash(&placed.dir, &placed.name, &spot));
        }
        let mut unflushed = placed.unflushed;
        unflushed.push(spot.dir);
        Ok(((), unflushed))
    }
}

/// Gives a file that was written in the last moment its name back. If the name is taken again, the
/// file stays in the trash: nothing is replaced.
fn untrash(dir: &OwnedFd, name: &str, to: &Spot) -> FsError {
    match rename_noreplace(dir, name, &to.dir, to.name.as_str()) {
        Ok(()) => changed(&to.path),
        Err(errno) => {
            let why = std::io::Error::from(errno);
            let context = format!("{} changed, and is in the trash: {why}", to.path);
            FsError::new(FsErrorKind::Changed, context)
        }
    }
}

// ---- LocalFs -----------------------------------------------------------------------------------

#[async_trait]
impl LocalFs for OsFs {
    async fn identity(&self) -> Result<Option<String>> {
        visit(&self.disk, Disk::identity).await
    }

    async fn claim(&self, identity: &str) -> Result<()> {
        let identity = identity.to_owned();
        change(&self.disk, move |disk| disk.claim(&identity)).await
    }

    async fn list(&self, dir: &RelPath) -> Result<Listing> {
        let dir = dir.clone();
        visit(&self.disk, move |disk| disk.root.list(&dir)).await
    }

    async fn stat(&self, path: &RelPath) -> Result<Option<Entry>> {
        let path = path.clone();
        visit(&self.disk, move |disk| {
            let entry = disk.root.stat(&path)?;
            if entry.is_none() {
                disk.root.check()?;
            }
            Ok(entry)
        })
        .await
    }

    async fn open(&self, path: &RelPath, expected: &Stamp) -> Result<Box<dyn FileReader>> {
        Ok(Box::new(Reader::open(&self.disk, path, expected, 0).await?))
    }

    async fn hash(&self, path: &RelPath, expected: &Stamp, algo: HashAlgo) -> Result<ContentHash> {
        let (path, expected) = (path.clone(), expected.clone());
        // Nobody waits for a hash whose caller went away.
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let flag = Arc::clone(&wanted.0);
        visit(&self.disk, move |disk| disk.hash(&path, &expected, algo, &flag)).await
    }

    async fn stage(&self, key: StageKey) -> Result<Box<dyn StageWriter>> {
        Ok(Box::new(Writer::new(&self.disk, &self.disk.stage, key)))
    }

    async fn install(
        &self,
        sealed: Sealed,
        at: &RelPath,
        over: Option<&Stamp>,
        aside: &RelPath,
    ) -> Result<Installed> {
        let (at, over, aside) = (at.clone(), over.cloned(), aside.clone());
        change(&self.disk, move |disk| {
            disk.stage.install(&disk.root, &disk.trash, &sealed, &at, over.as_ref(), &aside)
        })
        .await
    }

    async fn discard(&self, key: StageKey) -> Result<()> {
        visit(&self.disk, move |disk| disk.stage.discard(&disk.root, key)).await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        visit(&self.disk, |disk| disk.stage.leftovers(&disk.root)).await
    }

    async fn retire(&self, key: StageKey, was: &RelPath) -> Result<()> {
        let was = was.clone();
        change(&self.disk, move |disk| {
            Ok(((), disk.stage.retire(&disk.root, &disk.trash, key, &was)?))
        })
        .await
    }

    async fn restore(&self, key: StageKey, to: &RelPath) -> Result<()> {
        let to = to.clone();
        change(&self.disk, move |disk| Ok(((), vec![disk.stage.restore(&disk.root, key, &to)?])))
            .await
    }

    async fn create_dir(&self, at: &RelPath) -> Result<Entry> {
        let at = at.clone();
        change(&self.disk, move |disk| disk.create_dir(&at)).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, expected: &Stamp) -> Result<Entry> {
        let (from, to, expected) = (from.clone(), to.clone(), expected.clone());
        change(&self.disk, move |disk| disk.rename(&from, &to, &expected)).await
    }

    async fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<()> {
        let (path, expected) = (path.clone(), expected.clone());
        change(&self.disk, move |disk| disk.trash(&path, &expected)).await
    }

    async fn remove_dir(&self, path: &RelPath) -> Result<()> {
        let path = path.clone();
        change(&self.disk, move |disk| disk.remove_dir(&path)).await
    }
}

struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

// ---- reading -----------------------------------------------------------------------------------

/// An open file and what was read of it ahead.
pub(crate) struct Reader {
    disk: Arc<Disk>,
    file: Arc<OpenedFile>,
    ahead: Bytes,
    /// What is still to be read from the file, if it keeps its size.
    remaining: u64,
    ended: bool,
}

impl Reader {
    /// Opens a file, to be read from the byte `from` on, and reads its first bytes.
    pub(crate) async fn open(
        disk: &Arc<Disk>,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Reader> {
        let (path, expected) = (path.clone(), expected.clone());
        let remaining = expected.size.saturating_sub(from);
        let (file, ahead) = visit(disk, move |disk| {
            let file = disk.root.open_file(&path, &expected)?;
            if from > 0 {
                file.seek(from)?;
            }
            let ahead = file.read_chunk(remaining)?;
            Ok((Arc::new(file), ahead))
        })
        .await?;
        let mut reader =
            Reader { disk: Arc::clone(disk), file, ahead: Bytes::new(), remaining, ended: false };
        reader.take_in(ahead)?;
        Ok(reader)
    }

    /// A file of another length than expected is another version.
    fn take_in(&mut self, chunk: Bytes) -> Result<()> {
        let length = chunk.len() as u64;
        if length > self.remaining || (length == 0 && self.remaining > 0) {
            return Err(self.file.changed());
        }
        self.remaining -= length;
        self.ended = self.remaining == 0;
        self.ahead = chunk;
        Ok(())
    }
}

#[async_trait]
impl FileReader for Reader {
    async fn read(&mut self, max: usize) -> Result<Bytes> {
        if self.ahead.is_empty() && !self.ended {
            let (file, remaining) = (Arc::clone(&self.file), self.remaining);
            let chunk = visit(&self.disk, move |_| file.read_chunk(remaining)).await?;
            self.take_in(chunk)?;
        }
        let length = self.ahead.len().min(max);
        Ok(self.ahead.split_to(length))
    }

    async fn verify(&mut self) -> Result<()> {
        let file = Arc::clone(&self.file);
        visit(&self.disk, move |disk| disk.root.verify(&file)).await
    }
}

impl OpenedFile {
    /// Up to `READ_BYTES`, and one byte more than `remaining` so that a file that grew is noticed.
    fn read_chunk(&self, remaining: u64) -> Result<Bytes> {
        let room = usize::try_from(remaining).unwrap_or(READ_BYTES).min(READ_BYTES - 1) + 1;
        let mut buffer = BytesMut::zeroed(room);
        let mut filled = 0;
        while filled < room {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        buffer.truncate(filled);
        Ok(buffer.freeze())
    }
}

// ---- writing -----------------------------------------------------------------------------------

/// A file being staged. Nothing is on the disk until enough has gathered or it is sealed.
pub(crate) struct Writer {
    disk: Arc<Disk>,
    stage: Arc<Stage>,
    key: StageKey,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    part: PartState,
}

enum PartState {
    NotBegun,
    Begun(Part),
    /// An earlier write failed, or its caller went away: what is on the disk is not known.
    Broken,
}

impl Writer {
    pub(crate) fn new(disk: &Arc<Disk>, stage: &Arc<Stage>, key: StageKey) -> Writer {
        Writer {
            disk: Arc::clone(disk),
            stage: Arc::clone(stage),
            key,
            gathered: Vec::new(),
            gathered_bytes: 0,
            part: PartState::NotBegun,
        }
    }

    /// The work of bringing everything gathered so far to the disk.
    fn write_out(&mut self) -> impl FnOnce(&Disk) -> Result<Part> + Send + 'static {
        let chunks = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let part = std::mem::replace(&mut self.part, PartState::Broken);
        let (stage, key) = (Arc::clone(&self.stage), self.key);
        move |disk| {
            let mut part = match part {
                PartState::NotBegun => stage.create(&disk.root, key)?,
                PartState::Begun(part) => part,
                PartState::Broken => {
                    let context = format!("stage {}: an earlier write failed", key.0);
                    return Err(FsError::new(FsErrorKind::Io, context));
                }
            };
            part.write(&chunks)?;
            Ok(part)
        }
    }
}

#[async_trait]
impl StageWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes >= WRITE_BYTES {
            let work = self.write_out();
            self.part = PartState::Begun(visit(&self.disk, work).await?);
        }
        Ok(())
    }

    async fn seal(mut self: Box<Self>, mtime_ns: Option<i64>) -> Result<Sealed> {
        let work = self.write_out();
        let disk = Arc::clone(&self.disk);
        change(&disk, move |disk| work(disk)?.seal(&disk.root, mtime_ns)).await
    }
}
