//! A folder that was opened once, and everything below it reached from there.
//!
//! Owns path resolution (no symbolic link, no other file system, never above the root), the check
//! that the root is still the folder that its path names, and what the system's errors mean. What is
//! done at a place is elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::access::{Shared, Sharing, drop_default_list};
use super::facts;
use super::look::{look, stat_of};
use super::{FsError, FsErrorKind, Result, SkipReason};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{Name, RelPath};

/// Longer paths are walked in pieces: the system takes 4096 bytes at a time.
const PIECE_BYTES_MAX: usize = 3000;

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

/// Tells one folder from all others, for as long as the computer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId {
    device: (u32, u32),
    inode: u64,
    /// `None` where the file system keeps no time of birth.
    born: Option<(i64, u32)>,
}

impl RootId {
    /// `None` if nothing is there.
    pub fn of(path: &Path) -> Option<RootId> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        fs::statx(CWD, path, AtFlags::empty(), wanted).ok().map(|stat| RootId::of_stat(&stat))
    }

    pub(super) fn of_stat(stat: &Statx) -> RootId {
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born = told.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        RootId { device: device(stat), inode: stat.stx_ino, born }
    }
}

/// The folder; see the module text.
pub struct Root {
    fd: OwnedFd,
    /// As configured, absolute.
    path: PathBuf,
    pub(super) device: (u32, u32),
    inode: u64,
    pub(super) symlinks: Symlinks,
    /// The root of the other side, which is never a part of this one.
    pub(super) other: Option<RootId>,
    umask: u32,
    folds_case: OnceLock<bool>,
    /// Whether inode numbers last; those of a disk that makes them up at each mount prove nothing.
    numbers_last: bool,
}

/// A place in the tree: its folder, opened, and the name in it.
pub(super) struct Spot {
    pub(super) dir: OwnedFd,
    pub(super) name: Name,
    pub(super) path: RelPath,
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
        let numbers_last = fs::fstatfs(&fd).is_ok_and(|stat| facts::numbers_last(&stat));
        Ok(Root {
            fd,
            path: absolute,
            device: device(&stat),
            inode: stat.stx_ino,
            symlinks,
            other: None,
            umask: umask(),
            folds_case: OnceLock::new(),
            numbers_last,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn numbers_last(&self) -> bool {
        self.numbers_last
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Mode of a file that replaces nothing: as the umask says, and at most 0644.
    pub(super) fn new_file_mode(&self) -> Mode {
        Mode::from_raw_mode(0o644 & !self.umask)
    }

    pub(super) fn umask(&self) -> u32 {
        self.umask
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
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o077)
}

// ---- resolving ---------------------------------------------------------------------------------

impl Root {
    /// Opens something below the root.
    pub(super) fn walk(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
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
    pub(super) fn refuse_control(&self, path: &RelPath, verb: &str) -> Result<()> {
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

    /// Opens a folder of the control folder, creating it if only it is missing. Never `NotFound`,
    /// which would be said of the caller's own item.
    pub(crate) fn control(&self, name: &str) -> Result<OwnedFd> {
        let path = match name {
            "" => CONTROL_DIR.to_owned(),
            _ => format!("{CONTROL_DIR}/{name}"),
        };
        let open = || self.walk(&path, OFlags::RDONLY | OFlags::DIRECTORY);
        let made = match open() {
            Err(Errno::NOENT) => match fs::mkdirat(&self.fd, &path, Mode::RWXU) {
                Ok(()) => open().inspect(|folder| self.share_new(name, folder)),
                Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            other => other,
        };
        made.map_err(|errno| match errno {
            // Without its control folder this is not a root that was claimed.
            Errno::NOENT => {
                let control = self.path.join(CONTROL_DIR);
                let context = format!("the folder {} is missing", control.display());
                FsError::new(FsErrorKind::RootLost, context)
            }
            Errno::NOTDIR => {
                FsError::new(FsErrorKind::Denied, format!("open {path}: it is not a folder"))
            }
            errno => self.control_failure("open", &path, errno),
        })
    }

    /// A new folder of the control folder is for all who share the root; but a stage that has a number
    /// is for the one process that took it.
    fn share_new(&self, name: &str, folder: &OwnedFd) {
        if name.starts_with("stage") {
            drop_default_list(folder);
        }
        if !name.starts_with("stage-")
            && let Some(sharing) = Sharing::of(&self.fd)
        {
            sharing.open_up(folder, Shared::Folder);
        }
    }

    /// What was refused in the control folder; where it is another user's, also what can be done.
    pub(super) fn control_failure(&self, verb: &str, path: &str, errno: Errno) -> FsError {
        let me = rustix::process::geteuid().as_raw();
        let owner = [CONTROL_DIR, path].into_iter().find_map(|place| {
            let owner = look(&self.fd, place).ok()?.stx_uid;
            let opened = self.walk(place, OFlags::RDONLY);
            (owner != me && opened.is_err()).then_some((place, owner))
        });
        match (errno, owner) {
            (Errno::ACCESS | Errno::PERM, Some((place, owner))) => {
                let control = self.path.join(CONTROL_DIR);
                let context = format!(
                    "{} belongs to user {owner} and is closed to user {me}. If both are to sync with \
                     this folder, user {owner} must allow it: chmod -R g+rwX '{}'",
                    self.path.join(place).display(),
                    control.display()
                );
                FsError::new(FsErrorKind::Denied, context)
            }
            (errno, _) => failure(verb, path, errno),
        }
    }

    /// Opens a file of the control folder for reading.
    pub(super) fn open_control_file(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.walk(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
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

pub(super) fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

// ---- errors ------------------------------------------------------------------------------------

/// What the system said, on what, while we did what.
pub(super) fn failure(verb: &str, on: impl std::fmt::Display, errno: Errno) -> FsError {
    FsError::new(error_kind(errno), format!("{verb} {on}: {}", std::io::Error::from(errno)))
}

pub(super) fn changed(path: &RelPath) -> FsError {
    FsError::new(FsErrorKind::Changed, format!("{path} is not what it was when it was last seen"))
}

pub(super) fn refusal(path: &RelPath, reason: SkipReason) -> FsError {
    let what = match reason {
        SkipReason::Symlink => "a symbolic link",
        SkipReason::Special => "a socket, pipe or device",
        SkipReason::Mount => "another file system",
        SkipReason::BadName => "a name that is not text",
        SkipReason::Duplicate => "a duplicate",
        SkipReason::Unreadable => "not readable",
        SkipReason::ControlFolder => "the control folder of another pair",
        SkipReason::OtherRoot => "the other side's own folder",
        SkipReason::Ignored => "an ignored folder",
        SkipReason::Reserved => "under a name of foldsync's own",
    };
    FsError::new(FsErrorKind::Denied, format!("{path} is {what}: left alone"))
}

pub(super) fn error_kind(errno: Errno) -> FsErrorKind {
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
