//! Looking at a root without changing it: listings, single items, open files.
//!
//! Owns what of a `statx` becomes an entry or a stamp, and what is skipped. An incomplete answer is
//! an error, never a shorter one.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags,
    StatxTimestamp,
};
use rustix::io::Errno;

use super::facts::is_fine_birth;
use super::root::{
    Root, RootId, Spot, Symlinks, changed, device, failure, open_dir_below, refusal,
};
use super::{FsError, FsErrorKind, Listing, Result, SkipReason, Skipped};
use crate::tree::file_time;
use crate::tree::path::{CONTROL_DIR, IGNORE_FILE};
use crate::tree::{Entry, ItemId, Kind, Name, RelPath, Rev, Stamp};

/// How often a folder is read that changes all the time.
const READS_MAX: u32 = 4;
/// How much of an ignore file is read.
const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;

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

impl Root {
    /// All of a folder, or an error.
    pub fn list(&self, dir: &RelPath) -> Result<Listing> {
        if !dir.is_root() {
            self.refuse_control(dir, "list")?;
        }
        let mut tries = 1;
        loop {
            let listing = self.read_folder(dir)?;
            if !listing.unsteady || tries == READS_MAX {
                // Last, so that a root that went away meanwhile is not taken for an empty one.
                self.check()?;
                return Ok(listing);
            }
            tries += 1;
        }
    }

    /// A folder as it was read once: an item that is renamed meanwhile may be seen under neither name.
    fn read_folder(&self, dir: &RelPath) -> Result<Listing> {
        let fail = |errno| failure("list", dir, errno);
        let fd = self.walk(dir.as_str(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let of = stat_of(&fd).map_err(fail)?;
        let mut listing = Listing { of: Some(self.item(&of)), ..Listing::default() };
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
        let after = stat_of(&fd).map_err(fail)?;
        listing.unsteady = rev(&of) != rev(&after);
        Ok(listing)
    }

    fn add_item(&self, listing: &mut Listing, dir: &OwnedFd, name: &CStr) {
        let mut skip = |reason| {
            let name = legible(name.to_bytes());
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
        if self.other.is_some_and(|other| other == RootId::of_stat(stat)) {
            return Seen::Other(SkipReason::OtherRoot);
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
        let born_ns = if told { time_of(stat.stx_btime) } else { 0 };
        if !self.numbers_last() || !is_fine_birth(born_ns) {
            return ItemId::Unproven;
        }
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

fn rev(stat: &Statx) -> Rev {
    Rev::Stat { mtime_ns: time_of(stat.stx_mtime), ctime_ns: time_of(stat.stx_ctime) }
}

/// As one number, see `file_time`.
pub(super) fn time_of(at: StatxTimestamp) -> i64 {
    file_time::pack(at.tv_sec, i64::from(at.tv_nsec))
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

/// The names in a folder, as listings tell them.
pub(super) fn names_in(parent: &OwnedFd, name: &str) -> rustix::io::Result<BTreeSet<String>> {
    let dir = open_dir_below(parent, name)?;
    Ok(names(&dir)?.iter().map(|name| legible(name.to_bytes())).collect())
}

/// The names in a folder, as they are.
pub(super) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for item in fs::Dir::read_from(dir)? {
        let item = item?;
        let name = item.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A name as a person may read it. Bytes that are no text are escaped, so that two names never look
/// alike. (NM-04)
fn legible(name: &[u8]) -> String {
    name.utf8_chunks().fold(String::new(), |text, chunk| {
        text + chunk.valid() + &chunk.invalid().escape_ascii().to_string()
    })
}
