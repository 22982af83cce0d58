//! A folder that was opened once, and everything below it reached from there.
//!
//! Owns path resolution (no symbolic link, no other file system, never above the root), the check
//! that the root is still the folder that its path names, and what the system's answers mean. Never
//! changes anything but by the renames at its end; knows nothing about stage or trash.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{
    self, AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Statx,
    StatxAttributes, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;

use super::{FsError, FsErrorKind, Listing, Result, SkipReason, Skipped};
use crate::tree::path::{CONTROL_DIR, IGNORE_FILE};
use crate::tree::{Entry, ItemId, Kind, Name, RelPath, Rev, Stamp};

/// Longer paths are walked in pieces: the system takes 4096 bytes at a time.
const PIECE_BYTES_MAX: usize = 3000;
/// How much of an ignore file is read.
const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;
/// Folders that we create are never writable by group or others, whatever the umask.
const NEW_DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Why a folder could not be opened as a root.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("there is no folder {0}")]
    Missing(PathBuf),
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    #[error("the folder {0} cannot be read: permission denied")]
    NotReadable(PathBuf),
    #[error("open the folder {path}: {source}")]
    Other { path: PathBuf, source: std::io::Error },
}

/// What to do with symbolic links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// They are skipped and reported.
    #[default]
    Skip,
    /// A link to a regular file is read as that file. It is never written through, renamed or
    /// removed; links to folders are skipped.
    Follow,
}

/// The folder; see the module text.
pub struct Root {
    fd: OwnedFd,
    /// As configured, absolute.
    path: PathBuf,
    device: (u32, u32),
    inode: u64,
    symlinks: Symlinks,
    new_file_mode: Mode,
    folds_case: OnceLock<bool>,
}

/// A place in the tree: its folder, opened, and the name in it.
pub(super) struct Spot {
    pub(super) dir: OwnedFd,
    pub(super) name: Name,
    pub(super) path: RelPath,
}

/// What is at a place.
pub(super) enum Seen {
    Entry(Entry),
    Other(SkipReason),
}

/// A file opened for reading, at the version that was expected.
pub(super) struct OpenedFile {
    fd: OwnedFd,
    path: RelPath,
    expected: Stamp,
}

// ---- opening -----------------------------------------------------------------------------------

impl Root {
    /// Opens a folder. If `path` is a symbolic link, it is resolved here and only compared later.
    pub fn open(path: &Path, symlinks: Symlinks) -> std::result::Result<Root, OpenError> {
        let failed = |errno: Errno| match errno {
            Errno::NOENT => OpenError::Missing(path.to_owned()),
            Errno::NOTDIR | Errno::LOOP => OpenError::NotAFolder(path.to_owned()),
            Errno::ACCESS | Errno::PERM => OpenError::NotReadable(path.to_owned()),
            other => OpenError::Other { path: path.to_owned(), source: other.into() },
        };
        let absolute = std::path::absolute(path)
            .map_err(|source| OpenError::Other { path: path.to_owned(), source })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(&absolute, flags, Mode::empty()).map_err(failed)?;
        let stat = stat_of(&fd).map_err(failed)?;
        Ok(Root {
            fd,
            path: absolute,
            device: device(&stat),
            inode: stat.stx_ino,
            symlinks,
            new_file_mode: new_file_mode(),
            folds_case: OnceLock::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Mode of a file that replaces nothing: as the umask says, and at most 0644.
    pub(super) fn new_file_mode(&self) -> Mode {
        self.new_file_mode
    }

    /// `RootLost` unless the configured path still names the folder that was opened.
    pub fn check(&self) -> Result<()> {
        let lost = |why: String| {
            let context = format!("the root {} {why}", self.path.display());
            Err(FsError::new(FsErrorKind::RootLost, context))
        };
        match fs::statx(CWD, &self.path, AtFlags::empty(), StatxFlags::BASIC_STATS) {
            Ok(stat) if device(&stat) == self.device && stat.stx_ino == self.inode => Ok(()),
            Ok(_) => lost("is no longer the folder that was opened".into()),
            Err(
                errno @ (Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::ACCESS
                | Errno::STALE
                | Errno::NODEV
                | Errno::NXIO),
            ) => lost(format!("is gone: {}", std::io::Error::from(errno))),
            Err(errno) => Err(failure("look at", self.path.display(), errno)),
        }
    }
}

/// The umask can be read without changing it only from the process's status; private if that
/// cannot be read.
fn new_file_mode() -> Mode {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o077);
    Mode::from_raw_mode(0o644 & !mask)
}

// ---- resolving ---------------------------------------------------------------------------------

impl Root {
    /// Opens something below the root.
    fn walk(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        walk_from(self.fd.as_fd(), path, flags)
    }

    /// Opens a folder, for use and for making it durable.
    pub(super) fn folder(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        match self.walk(path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
            // Without permission to read it, it can still be used; only not flushed by itself.
            Err(Errno::ACCESS) => self.walk(path.as_str(), OFlags::PATH | OFlags::DIRECTORY),
            other => other,
        }
    }

    /// Resolves the folder of a path of the user's tree.
    pub(super) fn spot(&self, path: &RelPath, verb: &str) -> Result<Spot> {
        let Some((parent, name)) = path.split_last() else {
            return Err(FsError::new(FsErrorKind::BadName, format!("{verb} the root itself")));
        };
        self.refuse_control(path, verb)?;
        let dir = self.folder(&parent).map_err(|errno| failure(verb, path, errno))?;
        Ok(Spot { dir, name, path: path.clone() })
    }

    /// The control folder is no part of the tree, under any spelling that leads to it.
    fn refuse_control(&self, path: &RelPath, verb: &str) -> Result<()> {
        let first = path.components().next().unwrap_or_default();
        let is_control = first == CONTROL_DIR
            || (self.folds_case() && self.same_item(first, CONTROL_DIR).unwrap_or(false));
        if is_control {
            let context = format!("{verb} {path}: that name belongs to foldsync");
            return Err(FsError::new(FsErrorKind::BadName, context));
        }
        Ok(())
    }

    /// Whether the root finds its control folder under another spelling too.
    fn folds_case(&self) -> bool {
        let upper = CONTROL_DIR.to_uppercase();
        if let Some(known) = self.folds_case.get() {
            return *known;
        }
        // Nothing to tell by until the control folder is there.
        if look(&self.fd, CONTROL_DIR).is_err() {
            return false;
        }
        *self.folds_case.get_or_init(|| self.same_item(&upper, CONTROL_DIR).unwrap_or(false))
    }

    fn same_item(&self, one: &str, other: &str) -> rustix::io::Result<bool> {
        let (one, other) = (look(&self.fd, one)?, look(&self.fd, other)?);
        Ok(device(&one) == device(&other) && one.stx_ino == other.stx_ino)
    }

    /// Opens a folder of the control folder, creating it if only it is missing.
    pub(crate) fn control(&self, name: &str) -> Result<OwnedFd> {
        let path =
            if name.is_empty() { CONTROL_DIR.into() } else { format!("{CONTROL_DIR}/{name}") };
        let open = || self.walk(&path, OFlags::RDONLY | OFlags::DIRECTORY);
        match open() {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => {
                match fs::mkdirat(&self.fd, &path, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    // Without its control folder this is not a root that was claimed.
                    Err(Errno::NOENT) => return Err(self.no_control()),
                    Err(errno) => return Err(failure("create", &path, errno)),
                }
                open().map_err(|errno| failure("open", &path, errno))
            }
            Err(errno) => Err(failure("open", &path, errno)),
        }
    }

    /// Opens a file of the control folder for reading.
    pub(super) fn open_control_file(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.walk(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn no_control(&self) -> FsError {
        let path = self.path.join(CONTROL_DIR);
        FsError::new(FsErrorKind::RootLost, format!("the folder {} is missing", path.display()))
    }
}

/// Opens something below a folder, in as many steps as the path's length needs.
fn walk_from(start: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let from = at.as_ref().map_or(start, OwnedFd::as_fd);
        let (piece, more) = first_piece(rest);
        let Some(more) = more else { return open_below(from, piece, flags) };
        at = Some(open_below(from, piece, OFlags::PATH | OFlags::DIRECTORY)?);
        rest = more;
    }
}

/// Opens a folder below another one for reading, as a root opens its folders.
pub(super) fn open_dir_below(start: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    walk_from(start.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Splits off what the system takes in one call, between two components.
fn first_piece(path: &str) -> (&str, Option<&str>) {
    if path.len() <= PIECE_BYTES_MAX {
        return (path, None);
    }
    let bytes = path.as_bytes();
    let before = bytes[..=PIECE_BYTES_MAX].iter().rposition(|b| *b == b'/');
    // A component longer than that is for the system to refuse.
    let cut = before.or_else(|| bytes.iter().position(|b| *b == b'/'));
    match cut {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

fn open_below(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

// ---- looking -----------------------------------------------------------------------------------

impl Root {
    /// All of a folder, or an error.
    pub fn list(&self, dir: &RelPath) -> Result<Listing> {
        if !dir.is_root() {
            self.refuse_control(dir, "list")?;
        }
        let fail = |errno| failure("list", dir, errno);
        let fd = self.walk(dir.as_str(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let mut listing = Listing::default();
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut items = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(item) = items.next() {
            let item = item.map_err(fail)?;
            let name = item.file_name();
            let hidden = dir.is_root() && name.to_bytes() == CONTROL_DIR.as_bytes();
            if !hidden && !matches!(name.to_bytes(), b"." | b"..") {
                self.add_item(&mut listing, &fd, name);
            }
        }
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        listing.skipped.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let ignore = listing.entries.binary_search_by(|e| e.name.as_str().cmp(IGNORE_FILE));
        if ignore.is_ok_and(|at| listing.entries[at].kind == Kind::File) {
            listing.ignore_file = Some(self.ignore_text(&fd, dir)?);
        }
        // Last, so that a root that went away meanwhile is not taken for an empty one.
        self.check()?;
        Ok(listing)
    }

    fn add_item(&self, listing: &mut Listing, dir: &OwnedFd, name: &CStr) {
        let mut skip = |reason| {
            let name = name.to_string_lossy().into_owned();
            listing.skipped.push(Skipped { name, reason });
        };
        let stat = match fs::statx(dir, name, LOOK, STAT) {
            Ok(stat) => stat,
            // Gone since the folder was read.
            Err(Errno::NOENT) => return,
            Err(_) => return skip(SkipReason::Unreadable),
        };
        let Ok(name) = Name::from_bytes(name.to_bytes()) else {
            return skip(SkipReason::BadName);
        };
        match self.see(dir, name, &stat) {
            Seen::Entry(entry) => listing.entries.push(entry),
            Seen::Other(reason) => skip(reason),
        }
    }

    fn ignore_text(&self, dir: &OwnedFd, path: &RelPath) -> Result<String> {
        use std::io::Read;
        let fail = |errno| failure("read the ignore file of", path, errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(dir, IGNORE_FILE, flags, Mode::empty()) {
            Err(Errno::LOOP) if self.symlinks == Symlinks::Follow => {
                fs::openat(dir, IGNORE_FILE, flags - OFlags::NOFOLLOW, Mode::empty())
            }
            other => other,
        };
        let mut bytes = Vec::new();
        std::fs::File::from(file.map_err(fail)?)
            .take(IGNORE_FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|e| FsError::new(FsErrorKind::Io, format!("read the ignore file: {e}")))?;
        if bytes.len() as u64 == IGNORE_FILE_BYTES_MAX {
            // Half a pattern could match anything.
            let end = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
            bytes.truncate(end);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a `statx` of `name` in `dir` says.
    pub(super) fn see(&self, dir: impl AsFd, name: Name, stat: &Statx) -> Seen {
        if self.is_mount(stat) {
            return Seen::Other(SkipReason::Mount);
        }
        let of = |kind, size, rev| {
            let item = self.item(stat);
            Seen::Entry(Entry { name: name.clone(), kind, size, hash: None, item, rev })
        };
        match kind_of(stat) {
            FileType::RegularFile => of(Kind::File, stat.stx_size, rev(stat)),
            FileType::Directory => of(Kind::Dir, 0, Rev::FOLDER),
            FileType::Symlink if self.symlinks == Symlinks::Follow => {
                match fs::statx(dir, name.as_str(), AtFlags::empty(), STAT) {
                    // The link's own identity: several links may lead to one file.
                    Ok(target) if kind_of(&target) == FileType::RegularFile => {
                        of(Kind::File, target.stx_size, rev(&target))
                    }
                    Ok(_) | Err(_) => Seen::Other(SkipReason::Symlink),
                }
            }
            FileType::Symlink => Seen::Other(SkipReason::Symlink),
            _ => Seen::Other(SkipReason::Special),
        }
    }

    fn is_mount(&self, stat: &Statx) -> bool {
        let told = stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        // Overlay file systems give files, but never folders, a device number of a layer.
        let by_device = !told || kind_of(stat) == FileType::Directory;
        mounted || (by_device && device(stat) != self.device)
    }

    /// Device numbers change over reboots, so the root's own is written as 0.
    fn item(&self, stat: &Statx) -> ItemId {
        let dev = match device(stat) {
            same if same == self.device => 0,
            (major, minor) => fs::makedev(major, minor),
        };
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born_ns = if told { nanoseconds(stat.stx_btime) } else { 0 };
        ItemId::Inode { dev, ino: stat.stx_ino, born_ns }
    }

    pub(super) fn stamp(&self, stat: &Statx) -> Stamp {
        let item = self.item(stat);
        match kind_of(stat) {
            FileType::Directory => Stamp { item, rev: Rev::FOLDER, size: 0 },
            _ => Stamp { item, rev: rev(stat), size: stat.stx_size },
        }
    }

    /// `None` if nothing at all is there; `Denied` if it is no file or folder of this file system.
    pub fn stat(&self, path: &RelPath) -> Result<Option<Entry>> {
        let spot = match self.spot(path, "look at") {
            Err(e) if e.kind == FsErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        self.stat_at(&spot)
    }

    pub(super) fn stat_at(&self, spot: &Spot) -> Result<Option<Entry>> {
        match look(&spot.dir, spot.name.as_str()) {
            Ok(stat) => match self.see(&spot.dir, spot.name.clone(), &stat) {
                Seen::Entry(entry) => Ok(Some(entry)),
                Seen::Other(reason) => Err(refusal(&spot.path, reason)),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failure("look at", &spot.path, errno)),
        }
    }

    /// `Changed` unless the expected version is at the place, `NotFound` if nothing is. A link that
    /// would be read as a file is refused too: it is never changed.
    pub(super) fn expect(&self, spot: &Spot, expected: &Stamp) -> Result<Statx> {
        let stat = look(&spot.dir, spot.name.as_str())
            .map_err(|errno| failure("look at", &spot.path, errno))?;
        let reason = match kind_of(&stat) {
            _ if self.is_mount(&stat) => Some(SkipReason::Mount),
            FileType::RegularFile | FileType::Directory => None,
            FileType::Symlink => Some(SkipReason::Symlink),
            _ => Some(SkipReason::Special),
        };
        match reason {
            Some(reason) => Err(refusal(&spot.path, reason)),
            None if self.stamp(&stat) == *expected => Ok(stat),
            None => Err(changed(&spot.path)),
        }
    }
}

const LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// `statx` of a name, following nothing.
pub(super) fn look(dir: impl AsFd, name: &str) -> rustix::io::Result<Statx> {
    fs::statx(dir, name, LOOK, STAT)
}

/// `statx` of an open file.
pub(super) fn stat_of(fd: impl AsFd) -> rustix::io::Result<Statx> {
    fs::statx(fd, c"", AtFlags::EMPTY_PATH, STAT)
}

pub(super) fn kind_of(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

fn rev(stat: &Statx) -> Rev {
    Rev::Stat { mtime_ns: nanoseconds(stat.stx_mtime), ctime_ns: nanoseconds(stat.stx_ctime) }
}

fn nanoseconds(at: StatxTimestamp) -> i64 {
    at.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(at.tv_nsec))
}

// ---- reading -----------------------------------------------------------------------------------

impl Root {
    /// Opens a file for reading; what is open is the expected version, whatever the name does later.
    pub(super) fn open_file(&self, path: &RelPath, expected: &Stamp) -> Result<OpenedFile> {
        self.refuse_control(path, "open")?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.walk(path.as_str(), flags) {
            Err(Errno::LOOP) if self.symlinks == Symlinks::Follow => {
                let spot = self.spot(path, "open")?;
                fs::openat(&spot.dir, spot.name.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
            }
            other => other,
        };
        let fd = fd.map_err(|errno| failure("open", path, errno))?;
        let file = OpenedFile { fd, path: path.clone(), expected: expected.clone() };
        self.verify_open(&file)?;
        Ok(file)
    }

    fn verify_open(&self, file: &OpenedFile) -> Result<()> {
        let stat = stat_of(&file.fd).map_err(|errno| failure("look at", &file.path, errno))?;
        if kind_of(&stat) != FileType::RegularFile {
            return Err(changed(&file.path));
        }
        let mut stamp = self.stamp(&stat);
        if self.symlinks == Symlinks::Follow {
            // Behind a link, the identity is the link's: `verify` compares that one by name.
            stamp.item = file.expected.item.clone();
        }
        if stamp == file.expected { Ok(()) } else { Err(changed(&file.path)) }
    }

    /// `Changed` unless the open file and its path still are the version that was opened.
    pub(super) fn verify(&self, file: &OpenedFile) -> Result<()> {
        self.verify_open(file)?;
        match self.stat(&file.path)? {
            Some(entry) if entry.stamp() == file.expected => Ok(()),
            Some(_) | None => Err(changed(&file.path)),
        }
    }
}

impl OpenedFile {
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::INTR) => {}
                other => return other.map_err(|errno| failure("read", &self.path, errno)),
            }
        }
    }

    pub(super) fn seek(&self, to: u64) -> Result<()> {
        fs::seek(&self.fd, fs::SeekFrom::Start(to))
            .map(drop)
            .map_err(|errno| failure("read", &self.path, errno))
    }

    pub(super) fn changed(&self) -> FsError {
        changed(&self.path)
    }
}

// ---- changing names ----------------------------------------------------------------------------

impl Root {
    /// Success, with what is there, if the folder exists. Returns the folder to make durable.
    pub(super) fn create_dir(&self, at: &RelPath) -> Result<(Entry, Option<OwnedFd>)> {
        let spot = self.spot(at, "create the folder")?;
        let made = match fs::mkdirat(&spot.dir, spot.name.as_str(), NEW_DIR_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failure("create the folder", at, errno)),
        };
        let stat = look(&spot.dir, spot.name.as_str())
            .map_err(|errno| failure("create the folder", at, errno))?;
        match self.see(&spot.dir, spot.name.clone(), &stat) {
            Seen::Entry(entry) if entry.kind == Kind::Dir => Ok((entry, made.then_some(spot.dir))),
            Seen::Other(SkipReason::Mount) => Err(refusal(at, SkipReason::Mount)),
            Seen::Entry(_) | Seen::Other(_) => Err(FsError::new(
                FsErrorKind::Occupied,
                format!("create the folder {at}: something else has the name"),
            )),
        }
    }

    /// Returns the folder to make durable, if anything was removed.
    pub(super) fn remove_dir(&self, path: &RelPath) -> Result<Option<OwnedFd>> {
        let spot = match self.spot(path, "remove the folder") {
            Err(e) if e.kind == FsErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match fs::unlinkat(&spot.dir, spot.name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) => Ok(Some(spot.dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(changed(path)),
            // Some systems say EEXIST for a folder with something in it.
            Err(Errno::EXIST) => Err(failure("remove the folder", path, Errno::NOTEMPTY)),
            Err(errno) => Err(failure("remove the folder", path, errno)),
        }
    }

    /// Moves without replacing; moved back if it was not the expected version. Returns the folders
    /// to make durable.
    pub(super) fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        expected: &Stamp,
    ) -> Result<(Entry, [OwnedFd; 2])> {
        let source = self.spot(from, "rename")?;
        self.expect(&source, expected)?;
        let target = self.spot(to, "rename to")?;
        rename_noreplace(&source.dir, source.name.as_str(), &target.dir, target.name.as_str())
            .map_err(|errno| {
                let context = format!("rename {from} to {to}: {}", std::io::Error::from(errno));
                FsError::new(error_kind(errno), context)
            })?;
        let there = look(&target.dir, target.name.as_str());
        match there.map(|stat| self.see(&target.dir, target.name.clone(), &stat)) {
            Ok(Seen::Entry(entry)) if expected.is_renamed(&entry.stamp()) => {
                Ok((entry, [source.dir, target.dir]))
            }
            // Written, or swapped for something else, between the look and the rename.
            Ok(_) | Err(_) => Err(move_back(&target, &source)),
        }
    }
}

/// Undoes a rename of what turned out to be something else. It stays where it is if its old name
/// is taken again; nothing is replaced.
fn move_back(from: &Spot, to: &Spot) -> FsError {
    match rename_noreplace(&from.dir, from.name.as_str(), &to.dir, to.name.as_str()) {
        Ok(()) => changed(&to.path),
        Err(errno) => {
            let why = std::io::Error::from(errno);
            let context = format!("{} changed, and is now {}: {why}", to.path, from.path);
            FsError::new(FsErrorKind::Changed, context)
        }
    }
}

/// Renames unless something has the new name.
pub(super) fn rename_noreplace(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> rustix::io::Result<()> {
    match fs::renameat_with(&from_dir, from, &to_dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rename_plainly(from_dir, from, to_dir, to)
        }
        Err(Errno::EXIST) if is_respelling(&from_dir, from, &to_dir, to) => {
            fs::renameat(from_dir, from, to_dir, to)
        }
        other => other,
    }
}

/// Where the system cannot refuse to replace: a hard link does, for files.
pub(super) fn rename_plainly(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> rustix::io::Result<()> {
    match fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => return fs::unlinkat(from_dir, from, AtFlags::empty()),
        Err(Errno::EXIST) if !is_respelling(&from_dir, from, &to_dir, to) => {
            return Err(Errno::EXIST);
        }
        Err(Errno::NOENT) => return Err(Errno::NOENT),
        // A folder, or a file system without hard links.
        Err(_) => {}
    }
    // RACE: a file that somebody creates under the new name right here is replaced. Only on file
    // systems with neither RENAME_NOREPLACE nor hard links.
    match look(&to_dir, to) {
        Ok(_) if !is_respelling(&from_dir, from, &to_dir, to) => Err(Errno::EXIST),
        Ok(_) | Err(Errno::NOENT) => fs::renameat(from_dir, from, to_dir, to),
        Err(errno) => Err(errno),
    }
}

/// Whether both names lead to the same item, because the file system does not tell them apart.
fn is_respelling(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> bool {
    match (look(from_dir, from), look(to_dir, to)) {
        (Ok(a), Ok(b)) => {
            let one_item = device(&a) == device(&b) && a.stx_ino == b.stx_ino;
            // With more links than one these may be two names that happen to share a file.
            one_item && (a.stx_nlink == 1 || kind_of(&a) == FileType::Directory) && from != to
        }
        _ => false,
    }
}

// ---- errors ------------------------------------------------------------------------------------

/// What the system said, on what, while we did what.
pub(super) fn failure(verb: &str, on: impl std::fmt::Display, errno: Errno) -> FsError {
    FsError::new(error_kind(errno), format!("{verb} {on}: {}", std::io::Error::from(errno)))
}

pub(super) fn changed(path: &RelPath) -> FsError {
    FsError::new(FsErrorKind::Changed, format!("{path} is not what it was when it was last seen"))
}

fn refusal(path: &RelPath, reason: SkipReason) -> FsError {
    let what = match reason {
        SkipReason::Symlink => "a symbolic link",
        SkipReason::Special => "a socket, pipe or device",
        SkipReason::Mount => "another file system",
        SkipReason::BadName => "a name that is not text",
        SkipReason::Duplicate => "a duplicate",
        SkipReason::Unreadable => "not readable",
    };
    FsError::new(FsErrorKind::Denied, format!("{path} is {what}: left alone"))
}

fn error_kind(errno: Errno) -> FsErrorKind {
    match errno {
        Errno::NOENT | Errno::NOTDIR => FsErrorKind::NotFound,
        Errno::EXIST => FsErrorKind::Occupied,
        Errno::NOTEMPTY => FsErrorKind::NotEmpty,
        // LOOP and XDEV are how a symbolic link or a mount on the way shows.
        Errno::LOOP
        | Errno::XDEV
        | Errno::ACCESS
        | Errno::PERM
        | Errno::ROFS
        | Errno::BUSY
        | Errno::TXTBSY
        | Errno::FBIG
        | Errno::MLINK => FsErrorKind::Denied,
        Errno::ISDIR => FsErrorKind::Changed,
        Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL => FsErrorKind::BadName,
        Errno::NOSPC | Errno::DQUOT => FsErrorKind::Full,
        _ => FsErrorKind::Io,
    }
}
