//! `OsFs`: the real disk behind `LocalFs`.
//!
//! Owns what runs on the blocking threads and how few visits there a file needs; where bytes wait
//! before they are written. The work itself is in `root`, `stage` and `trash`, durability in
//! `flush`.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::access::{Shared, Sharing};
use super::carry::{self, Place};
use super::facts::DiskFacts;
use super::flush::Flusher;
use super::look::{kind_of, look, names_in};
use super::rename::rename_noreplace;
use super::root::{OpenError, Root, RootId, Spot, Symlinks, changed, failure};
use super::stage::{Stage, Unflushed};
use super::transfer::{Reader, Writer, hash_file};
use super::trash::{Emptied, Trash, Trashed};
use super::{
    FileReader, FsError, FsErrorKind, Installed, Leftover, Listing, LocalFs, Result, Resumed,
    Sealed, StageKey, StageWriter,
};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{ContentHash, Entry, HashAlgo, RelPath, Stamp};

pub(super) const MARKER: &str = "root-id";
/// Is there where a two-way pair has the folder as its local root, or once had.
const LOCAL_ROOT: &str = "local-root";
/// An identity is a line of text; what is longer was not written by us.
const MARKER_BYTES_MAX: u64 = 4096;

/// What tells other programs that the control folder is not for them: git, which would take the marker
/// into a branch and out again, and programs that make backups. (https://bford.info/cachedir/)
const KEEP_OUT: [(&str, &str); 2] = [
    (".gitignore", "# Made by foldsync: its own files belong into no repository.\n*\n"),
    (
        "CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n\
         # Made by foldsync: unfinished downloads and local trash, which need no backup.\n",
    ),
];

/// How a root is opened.
#[derive(Clone)]
pub struct OsOptions {
    pub symlinks: Symlinks,
    /// Dates the folders in the trash.
    pub clock: Arc<dyn Clock>,
    /// The folder of the other side: left out wherever a listing meets it.
    pub other: Option<RootId>,
}

impl Default for OsOptions {
    fn default() -> OsOptions {
        OsOptions { symlinks: Symlinks::Skip, clock: Arc::new(SystemClock), other: None }
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
    clock: Arc<dyn Clock>,
}

impl Disk {
    pub(crate) fn open(path: &Path, options: OsOptions) -> std::result::Result<Disk, OpenError> {
        let mut root = Root::open(path, options.symlinks)?;
        root.other = options.other;
        let fd = rustix::io::fcntl_dupfd_cloexec(root.fd(), 0)
            .map_err(|errno| OpenError::Other { path: path.to_owned(), source: errno.into() })?;
        Ok(Disk {
            root,
            stage: Arc::new(Stage { folder: "stage".into() }),
            trash: Trash::new(Arc::clone(&options.clock)),
            flusher: Flusher::new(fd),
            clock: options.clock,
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
        change(&self.disk, move |disk| {
            disk.trash.restore(&disk.root, &disk.stage, &stored, to.as_ref())
        })
        .await
    }

    /// Removes everything in the trash, for good. How many files that were.
    pub async fn empty_trash(&self) -> Result<u64> {
        visit(&self.disk, |disk| disk.trash.empty(&disk.root)).await
    }

    /// Removes from the trash what has been there for longer than `keep`, whatever the clock says at
    /// this moment. `counter` names the state database that counts.
    pub async fn age_trash(&self, counter: &str, keep: Duration) -> Result<Emptied> {
        let counter = counter.to_owned();
        visit(&self.disk, move |disk| disk.trash.age(&disk.root, &counter, keep)).await
    }

    /// Removes from the trash what came longer than `keep` before `now` by its label, as a person asks
    /// for it. How many files that were.
    pub async fn expire_trash(&self, now: Timestamp, keep: Duration) -> Result<u64> {
        visit(&self.disk, move |disk| disk.trash.expire(&disk.root, now, keep)).await
    }
}

// ---- visits to the blocking threads ------------------------------------------------------------

/// Does something on a blocking thread. If something was not found because the whole root is not
/// there, that is the error.
pub(crate) async fn visit<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
) -> Result<T> {
    let disk = Arc::clone(disk);
    let work = move || {
        let outcome = work(&disk);
        if matches!(&outcome, Err(e) if e.kind == FsErrorKind::NotFound) {
            disk.root.check()?;
        }
        outcome
    };
    match tokio::task::spawn_blocking(work).await {
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
            Err(errno) => return Err(self.root.control_failure("read", &path, errno)),
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
        if let Err(error) = self.refresh_control() {
            // Nothing that a sync needs; the next start tries again.
            tracing::debug!(%error, "the control folder is not complete");
        }
        let root = rustix::io::fcntl_dupfd_cloexec(self.root.fd(), 0).map_err(fail)?;
        Ok(((), vec![stage, trash, control, root]))
    }

    /// See `LocalFs::refresh_control`. Makes nothing but what tells other programs to keep out.
    pub(crate) fn refresh_control(&self) -> Result<()> {
        use std::io::Write as _;
        self.root.check()?;
        let control = self.root.control("")?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (name, text) in KEEP_OUT {
            // Most often it is there already. A person may have written another one, or emptied it.
            if let Ok(file) = fs::openat(&control, name, flags, Mode::RUSR | Mode::WUSR) {
                let mut file = std::fs::File::from(file);
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                if let Err(e) = written {
                    // The next start tries again.
                    let _ = fs::unlinkat(&control, name, AtFlags::empty());
                    return Err(FsError::new(FsErrorKind::Io, format!("write {name}: {e}")));
                }
            }
        }
        let Some(sharing) = Sharing::of(self.root.fd()) else { return Ok(()) };
        sharing.open_up(&control, Shared::Folder);
        let folders = ["stage", "trash", "ageing"].map(|name| (name, Shared::Folder));
        let files = KEEP_OUT.map(|(name, _)| (name, Shared::ReadFile));
        let own = [(MARKER, Shared::ReadFile), ("lock", Shared::WrittenFile)];
        for (name, what) in folders.into_iter().chain(files).chain(own) {
            if let Ok(item) = self.root.open_control_file(&format!("{CONTROL_DIR}/{name}")) {
                sharing.open_up(&item, what);
            }
        }
        Ok(())
    }

    /// See `LocalFs::sign_as_local_root`.
    fn sign_as_local_root(&self) -> Result<Unflushed<()>> {
        if self.is_local_root() {
            return Ok(((), Vec::new()));
        }
        let control = self.root.control("")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        fs::openat(&control, LOCAL_ROOT, flags, mode)
            .map_err(|errno| failure("prepare", LOCAL_ROOT, errno))?;
        Ok(((), vec![control]))
    }

    /// Whether a pair has, or once had, this folder as its local root.
    pub(crate) fn is_local_root(&self) -> bool {
        let sign = format!("{CONTROL_DIR}/{LOCAL_ROOT}");
        // PATH: who may not read the sign still sees it.
        self.root.walk(&sign, OFlags::PATH).is_ok()
    }

    /// `journal` is for a disk that does not rename between the two folders; the same for `trash`.
    pub(crate) fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        expected: &Stamp,
        journal: Option<&Stage>,
    ) -> Result<Unflushed<Entry>> {
        let (entry, folders) = self.root.rename(from, to, expected, journal)?;
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

    pub(crate) fn measure(
        &self,
        known: Option<&DiskFacts>,
        writes: bool,
    ) -> Result<Option<DiskFacts>> {
        self.root.measure(known, writes, &*self.clock)
    }

    fn file_system(&self) -> Result<fs::StatVfs> {
        fs::fstatvfs(self.root.fd())
            .map_err(|errno| failure("ask for the room on", self.root.path().display(), errno))
    }

    /// Bytes that we may still write.
    fn free(&self) -> Result<u64> {
        let stat = self.file_system()?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Bytes used and bytes in all of the file system.
    pub(crate) fn room(&self) -> Result<(u64, u64)> {
        let stat = self.file_system()?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        Ok((total.saturating_sub(stat.f_bfree.saturating_mul(stat.f_frsize)), total))
    }

    pub(crate) fn trash(
        &self,
        path: &RelPath,
        expected: &Stamp,
        journal: Option<&Stage>,
    ) -> Result<Unflushed<()>> {
        let looked = self.root.spot(path, "trash").and_then(|spot| {
            let stat = self.root.expect(&spot, expected)?;
            Ok((spot, stat))
        });
        match looked {
            Err(e) if e.kind == FsErrorKind::NotFound => Ok(((), Vec::new())),
            Err(e) => Err(e),
            Ok((_, stat)) if kind_of(&stat) != FileType::RegularFile => Err(changed(path)),
            Ok((spot, _)) => self.trash_looked(spot, expected, journal),
        }
    }

    /// Gives a folder's name up with what it holds: see `LocalFs::set_rest_aside`.
    pub(crate) fn set_rest_aside(
        &self,
        path: &RelPath,
        expected: &Stamp,
        rest: &BTreeSet<String>,
    ) -> Result<Unflushed<Option<String>>> {
        let looked = self.root.spot(path, "set aside").and_then(|spot| {
            let stat = self.root.expect(&spot, expected)?;
            Ok((spot, stat))
        });
        let spot = match looked {
            Err(e) if e.kind == FsErrorKind::NotFound => return Ok((None, Vec::new())),
            Err(e) => return Err(e),
            Ok((_, stat)) if kind_of(&stat) != FileType::Directory => return Err(changed(path)),
            Ok((spot, _)) => spot,
        };
        let put = self.trash.put_kept(&self.root, &Place::of(&spot), path)?;
        let Some((placed, label)) = put else { return Ok((None, Vec::new())) };
        // What came in at the last moment is nobody's rest: the folder is still needed.
        let moved = look(&placed.dir, &placed.name);
        let is_same = moved.is_ok_and(|stat| expected.is_renamed(&self.root.stamp(&stat)));
        let is_rest = names_in(&placed.dir, &placed.name).is_ok_and(|names| names.is_subset(rest));
        if !is_same || !is_rest {
            let changed = untrash(&placed.dir, &placed.name, &spot);
            if look(&placed.dir, &placed.name).is_err() {
                // It is back: what is left of the label is empty, and in nobody's way.
                let _ = self.trash.drop_label(&self.root, &label);
            }
            return Err(changed);
        }
        let mut unflushed = placed.into_unflushed();
        unflushed.push(spot.dir);
        Ok((Some(format!("{CONTROL_DIR}/trash/{label}/{path}")), unflushed))
    }

    /// The part of `trash` after the look: what is there may be something else by now.
    pub(super) fn trash_looked(
        &self,
        spot: Spot,
        expected: &Stamp,
        journal: Option<&Stage>,
    ) -> Result<Unflushed<()>> {
        let from = Place::of(&spot);
        let placed = self.trash.put(&self.root, journal, &from, Some(expected), &spot.path)?;
        let Some(placed) = placed else { return Ok(((), Vec::new())) };
        let is_expected = |stat| expected.is_renamed(&self.root.stamp(&stat));
        if !placed.carried && !look(&placed.dir, &placed.name).is_ok_and(is_expected) {
            return Err(untrash(&placed.dir, &placed.name, &spot));
        }
        let mut unflushed = placed.into_unflushed();
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

    async fn measure(&self, known: Option<DiskFacts>, writes: bool) -> Result<Option<DiskFacts>> {
        visit(&self.disk, move |disk| disk.measure(known.as_ref(), writes)).await
    }

    async fn refresh_control(&self) {
        // A read-only disk, say: what can be done without it goes on.
        if let Err(error) = visit(&self.disk, Disk::refresh_control).await {
            tracing::debug!(%error, "the control folder is as it was");
        }
    }

    async fn sign_as_local_root(&self) -> Result<()> {
        change(&self.disk, Disk::sign_as_local_root).await
    }

    async fn free(&self) -> Option<u64> {
        visit(&self.disk, Disk::free).await.ok()
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

    async fn open(
        &self,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Box<dyn FileReader>> {
        Ok(Box::new(Reader::open(&self.disk, path, expected, from).await?))
    }

    async fn hash(&self, path: &RelPath, expected: &Stamp, algo: HashAlgo) -> Result<ContentHash> {
        let (path, expected) = (path.clone(), expected.clone());
        // Nobody waits for a hash whose caller went away.
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let flag = Arc::clone(&wanted.0);
        visit(&self.disk, move |disk| hash_file(&disk.root, &path, &expected, algo, &flag)).await
    }

    async fn stage(&self, key: StageKey) -> Result<Box<dyn StageWriter>> {
        Ok(Box::new(Writer::new(&self.disk, &self.disk.stage, key)))
    }

    fn keeps_parts(&self) -> bool {
        true
    }

    async fn resume(&self, key: StageKey, max: u64, algo: HashAlgo) -> Result<Option<Resumed>> {
        let found =
            visit(&self.disk, move |disk| disk.stage.reopen(&disk.root, key, max, algo)).await?;
        Ok(found.map(|(part, hasher)| {
            let size = part.size();
            let writer = Writer::resume(&self.disk, &self.disk.stage, key, part);
            Resumed { writer: Box::new(writer), size, hasher }
        }))
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
        change(&self.disk, move |disk| disk.stage.discard(&disk.root, &disk.trash, key)).await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        // Files that were on their way between two folders come first: some are staged ones.
        change(&self.disk, |disk| {
            let unflushed = carry::recover(&disk.root, &disk.stage, &disk.trash)?;
            Ok((disk.stage.leftovers(&disk.root)?, unflushed))
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
        change(&self.disk, move |disk| disk.rename(&from, &to, &expected, Some(&disk.stage))).await
    }

    async fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<()> {
        let (path, expected) = (path.clone(), expected.clone());
        change(&self.disk, move |disk| disk.trash(&path, &expected, Some(&disk.stage))).await
    }

    async fn remove_dir(&self, path: &RelPath) -> Result<()> {
        let path = path.clone();
        change(&self.disk, move |disk| disk.remove_dir(&path)).await
    }

    async fn set_rest_aside(
        &self,
        path: &RelPath,
        expected: &Stamp,
        rest: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        let (path, expected, rest) = (path.clone(), expected.clone(), rest.clone());
        change(&self.disk, move |disk| disk.set_rest_aside(&path, &expected, &rest)).await
    }
}

struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
