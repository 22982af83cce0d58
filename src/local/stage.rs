//! The stage: where files are written before anybody sees them, and how they get their names.
//!
//! Owns the names in `.foldsync/stage` and the exchange of a new version for an old one. A file
//! being written is `KEY.part`; a complete one is `KEY.INODE`, so that a file with another inode
//! under such a name is known, without any record, to be one that was displaced. Never unlinks a
//! file that a user wrote.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Statx, Timespec, Uid};
use rustix::io::Errno;

use super::root::{Root, Seen, Spot, changed, failure, kind_of, look, rename_noreplace, stat_of};
use super::trash::Trash;
use super::{FsError, FsErrorKind, Installed, Leftover, Result, Sealed, StageKey};
use crate::tree::{Entry, ItemId, Kind, Name, RelPath, Stamp};

/// How many names are tried for a displaced file.
const ASIDE_TRIES: u32 = 1000;
/// What most file systems hold in one name.
const NAME_BYTES_MAX: usize = 255;
/// Written bytes that may wait for a flush while a file grows, and when it is complete. More would
/// make a shared flush slow for everybody.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;
const SHARED_FLUSH_BYTES_MAX: u64 = 4 << 20;

/// One stage folder.
pub(crate) struct Stage {
    /// Its name in the control folder.
    pub(crate) folder: String,
}

/// A file being written.
pub(super) struct Part {
    dir: OwnedFd,
    file: File,
    key: StageKey,
    written: u64,
    unflushed: u64,
}

/// What a change leaves to be made durable, beside its outcome.
pub(crate) type Unflushed<T> = (T, Vec<OwnedFd>);

fn part_name(key: StageKey) -> String {
    format!("{}.part", key.0)
}

fn sealed_name(key: StageKey, inode: u64) -> String {
    format!("{}.{inode}", key.0)
}

/// The key in a name, and the inode if the file is complete. `None` for what is not ours.
fn parse_name(name: &str) -> Option<(StageKey, Option<u64>)> {
    let (key, rest) = name.split_once('.')?;
    let key = StageKey(key.parse().ok()?);
    if rest == "part" { Some((key, None)) } else { Some((key, Some(rest.parse().ok()?))) }
}

// ---- writing -----------------------------------------------------------------------------------

impl Stage {
    /// Starts a file. What an earlier attempt under the same key left unfinished is gone.
    pub(super) fn create(&self, root: &Root, key: StageKey) -> Result<Part> {
        let dir = root.control(&self.folder)?;
        let name = part_name(key);
        let fail = |errno| failure("stage", &name, errno);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let open = || fs::openat(&dir, &name, flags, private);
        let fd = match open() {
            Err(Errno::EXIST) => {
                fs::unlinkat(&dir, &name, AtFlags::empty()).map_err(fail)?;
                open().map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
        Ok(Part { dir, file: File::from(fd), key, written: 0, unflushed: 0 })
    }
}

impl Part {
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> Result<()> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(|e| self.broken(&e))?;
            self.written += chunk.len() as u64;
            self.unflushed += chunk.len() as u64;
        }
        if self.unflushed > UNFLUSHED_BYTES_MAX {
            self.file.sync_data().map_err(|e| self.broken(&e))?;
            self.unflushed = 0;
        }
        Ok(())
    }

    /// Ends writing. A small file is not durable yet: it comes back for that.
    pub(super) fn seal(self, root: &Root, mtime_ns: Option<i64>) -> Result<Unflushed<Sealed>> {
        let fail = |errno| failure("seal", part_name(self.key), errno);
        fs::fchmod(&self.file, root.new_file_mode()).map_err(fail)?;
        if let Some(mtime_ns) = mtime_ns {
            let at = Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            };
            let times = fs::Timestamps { last_access: at, last_modification: at };
            fs::futimens(&self.file, &times).map_err(fail)?;
        }
        let alone = self.unflushed > SHARED_FLUSH_BYTES_MAX;
        if alone {
            self.file.sync_all().map_err(|e| self.broken(&e))?;
        }
        let inode = stat_of(&self.file).map_err(fail)?.stx_ino;
        let (part, sealed) = (part_name(self.key), sealed_name(self.key, inode));
        fs::renameat(&self.dir, &part, &self.dir, &sealed).map_err(fail)?;
        let stat = look(&self.dir, &sealed).map_err(fail)?;
        // Another process may use the same stage where locks do not work.
        if stat.stx_ino != inode || stat.stx_size != self.written {
            let context = format!("seal {part}: somebody else wrote to it");
            return Err(FsError::new(FsErrorKind::Io, context));
        }
        let stamp = root.stamp(&stat);
        let unflushed = if alone { Vec::new() } else { vec![OwnedFd::from(self.file)] };
        Ok((Sealed { key: self.key, stamp }, unflushed))
    }

    fn broken(&self, e: &std::io::Error) -> FsError {
        match e.raw_os_error() {
            Some(code) => failure("write", part_name(self.key), Errno::from_raw_os_error(code)),
            None => FsError::new(FsErrorKind::Io, format!("write {}: {e}", part_name(self.key))),
        }
    }
}

// ---- installing --------------------------------------------------------------------------------

/// One installation under way.
struct Install<'a> {
    root: &'a Root,
    stage: OwnedFd,
    /// The sealed file's name in the stage.
    staged: String,
    sealed: &'a Sealed,
    spot: Spot,
}

impl Stage {
    /// See `LocalFs::install`; what comes back has to be flushed before anybody is told.
    pub(crate) fn install(
        &self,
        root: &Root,
        trash: &Trash,
        sealed: &Sealed,
        at: &RelPath,
        over: Option<&Stamp>,
        aside: &RelPath,
    ) -> Result<Unflushed<Installed>> {
        let ItemId::Inode { ino, .. } = sealed.stamp.item else {
            let context = format!("install {at}: the staged file is not of a disk");
            return Err(FsError::new(FsErrorKind::NotFound, context));
        };
        let install = Install {
            root,
            stage: root.control(&self.folder)?,
            staged: sealed_name(sealed.key, ino),
            sealed,
            spot: root.spot(at, "install")?,
        };
        match over {
            None => install.fresh(),
            Some(over) => install.replace(trash, over, aside),
        }
    }
}

impl Install<'_> {
    fn fresh(self) -> Result<Unflushed<Installed>> {
        rename_noreplace(&self.stage, &self.staged, &self.spot.dir, self.spot.name.as_str())
            .map_err(|errno| failure("install", &self.spot.path, errno))?;
        let entry = self.witness();
        Ok((Installed::Clean(entry), vec![self.spot.dir]))
    }

    fn replace(self, trash: &Trash, over: &Stamp, aside: &RelPath) -> Result<Unflushed<Installed>> {
        let old = match self.root.expect(&self.spot, over) {
            Err(e) if e.kind == FsErrorKind::NotFound => return Err(changed(&self.spot.path)),
            other => other?,
        };
        if kind_of(&old) != FileType::RegularFile {
            return Err(changed(&self.spot.path));
        }
        self.inherit(&old);
        self.swap()?;
        // From here on the stage holds what was displaced.
        if self.displaced_is(over) {
            match trash.put(self.root, &self.stage, &self.staged, &self.spot.path) {
                Ok(mut unflushed) => {
                    let entry = self.witness();
                    unflushed.push(self.spot.dir);
                    Ok((Installed::Clean(entry), unflushed))
                }
                Err(e) => Err(self.swap_back(aside, e)),
            }
        } else {
            match self.keep_aside(aside) {
                Ok((kept_as, dir)) => {
                    let entry = self.witness();
                    Ok((Installed::DisplacedEdit { entry, kept_as }, vec![self.spot.dir, dir]))
                }
                Err(e) => Err(self.swap_back(aside, e)),
            }
        }
    }

    /// The new version is to be owned and accessed like the old one, as far as we may say so. It
    /// never gets more than permission bits: no setuid, no capabilities.
    fn inherit(&self, old: &Statx) {
        let Ok(new) = look(&self.stage, &self.staged) else { return };
        let (stage, staged) = (&self.stage, self.staged.as_str());
        if (new.stx_uid, new.stx_gid) != (old.stx_uid, old.stx_gid) {
            let (user, group) = (Uid::from_raw(old.stx_uid), Gid::from_raw(old.stx_gid));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            // A common user may give a file to a group of theirs, but not to another user.
            if fs::chownat(stage, staged, Some(user), Some(group), nofollow).is_err() {
                let _ = fs::chownat(stage, staged, None, Some(group), nofollow);
            }
        }
        let mode = Mode::from_raw_mode(u32::from(old.stx_mode) & 0o777);
        // File systems without modes refuse this, and have nothing to inherit.
        let _ = fs::chmodat(stage, staged, mode, AtFlags::empty());
        let _ = self.inherit_attributes();
    }

    /// Extended attributes that users set, and the access list.
    fn inherit_attributes(&self) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = fs::openat(&self.spot.dir, self.spot.name.as_str(), flags, Mode::empty())?;
        let mut names = vec![0; fs::flistxattr_query(&old)?];
        if names.is_empty() {
            return Ok(());
        }
        let new = fs::openat(&self.stage, self.staged.as_str(), flags, Mode::empty())?;
        let length = fs::flistxattr(&old, &mut names)?;
        for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
            if name.starts_with(b"user.") || name == b"system.posix_acl_access" {
                let mut value = vec![0; fs::fgetxattr_query(&old, name)?];
                let length = fs::fgetxattr(&old, name, &mut value)?;
                fs::fsetxattr(&new, name, &value[..length], fs::XattrFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Puts the staged file where the old one is, and the old one where the staged file was.
    fn swap(&self) -> Result<()> {
        let name = self.spot.name.as_str();
        match fs::renameat_with(
            &self.stage,
            &self.staged,
            &self.spot.dir,
            name,
            RenameFlags::EXCHANGE,
        ) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.swap_in_steps(),
            // The staged file is where it was put, so the old one must be gone.
            Err(Errno::NOENT) => Err(changed(&self.spot.path)),
            Err(errno) => Err(failure("replace", &self.spot.path, errno)),
        }
    }

    /// For file systems that cannot exchange two names.
    ///
    /// RACE: between the first two steps nothing has the name. A program that looks just then finds
    /// no file; one that creates a file just then keeps it, and the new version stays staged.
    fn swap_in_steps(&self) -> Result<()> {
        let (key, name) = (self.sealed.key, self.spot.name.as_str());
        // No file has inode 0, so a kill here leaves what counts as displaced.
        let waiting = sealed_name(key, 0);
        let fail = |errno| failure("replace", &self.spot.path, errno);
        rename_noreplace(&self.spot.dir, name, &self.stage, &waiting).map_err(fail)?;
        match rename_noreplace(&self.stage, &self.staged, &self.spot.dir, name) {
            Ok(()) => {
                rename_noreplace(&self.stage, &waiting, &self.stage, &self.staged).map_err(fail)
            }
            Err(errno) => {
                rename_noreplace(&self.stage, &waiting, &self.spot.dir, name).map_err(fail)?;
                Err(if errno == Errno::EXIST { changed(&self.spot.path) } else { fail(errno) })
            }
        }
    }

    fn displaced_is(&self, over: &Stamp) -> bool {
        look(&self.stage, &self.staged).is_ok_and(|stat| {
            kind_of(&stat) == FileType::RegularFile && over.is_renamed(&self.root.stamp(&stat))
        })
    }

    /// Undoes the exchange because of `error`, which comes back. If the new version was itself
    /// replaced meanwhile, that edit is kept beside.
    fn swap_back(&self, aside: &RelPath, error: FsError) -> FsError {
        if let Err(e) = self.swap() {
            return FsError::new(error.kind, format!("{error}; and then: {e}"));
        }
        let ours = look(&self.stage, &self.staged)
            .is_ok_and(|stat| self.root.stamp(&stat).item == self.sealed.stamp.item);
        if ours {
            return error;
        }
        // If this fails too, the edit stays in the stage, as a displaced file.
        match self.keep_aside(aside) {
            Ok((kept_as, _)) => {
                FsError::new(error.kind, format!("{error}; an edit was kept as {kept_as}"))
            }
            Err(e) => FsError::new(error.kind, format!("{error}; and then: {e}")),
        }
    }

    /// Gives the displaced file a name in the tree: `aside`, or that with a number.
    fn keep_aside(&self, aside: &RelPath) -> Result<(RelPath, OwnedFd)> {
        let spot = self.root.spot(aside, "keep a displaced edit as")?;
        for number in 1..=ASIDE_TRIES {
            let name = match number {
                1 => spot.name.clone(),
                _ => marked(&spot.name, &format!("-{number}")),
            };
            match rename_noreplace(&self.stage, &self.staged, &spot.dir, name.as_str()) {
                Ok(()) => {
                    let parent = aside.parent().unwrap_or_default();
                    return Ok((parent.join(&name), spot.dir));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failure("keep a displaced edit as", aside, errno)),
            }
        }
        Err(failure("keep a displaced edit as", aside, Errno::EXIST))
    }

    /// The new version as it is under its name. If somebody already wrote to it, that must not be
    /// taken for what was staged: the next listing then shows a difference.
    fn witness(&self) -> Entry {
        let name = &self.spot.name;
        let stamp = &self.sealed.stamp;
        let now = look(&self.spot.dir, name.as_str())
            .map(|stat| self.root.see(&self.spot.dir, name.clone(), &stat));
        match now {
            Ok(Seen::Entry(entry)) if stamp.is_renamed(&entry.stamp()) => entry,
            Ok(_) | Err(_) => Entry {
                name: name.clone(),
                kind: Kind::File,
                size: stamp.size,
                hash: None,
                item: stamp.item.clone(),
                rev: stamp.rev.clone(),
            },
        }
    }
}

/// The name with a mark before its extension, cut to what a file system holds.
pub(crate) fn marked(name: &Name, mark: &str) -> Name {
    let text = name.as_str();
    let dot = text.rfind('.').filter(|at| *at > 0 && text.len() - at <= 16);
    let (stem, extension) = text.split_at(dot.unwrap_or(text.len()));
    let room = NAME_BYTES_MAX.saturating_sub(mark.len() + extension.len());
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let marked = format!("{}{mark}{extension}", &stem[..end]);
    Name::new(&marked).unwrap_or_else(|_| name.clone())
}

// ---- cleaning up -------------------------------------------------------------------------------

impl Stage {
    /// Every staged file: its name, what the name says, and whether it was displaced.
    fn files(&self, dir: &OwnedFd) -> rustix::io::Result<Vec<(String, StageKey, bool)>> {
        let mut files = Vec::new();
        for item in fs::Dir::read_from(dir)? {
            let item = item?;
            let Ok(name) = item.file_name().to_str() else { continue };
            let Some((key, inode)) = parse_name(name) else { continue };
            let stat = match look(dir.as_fd(), name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let displaced = inode.is_some_and(|inode| inode != stat.stx_ino);
            files.push((name.to_owned(), key, displaced));
        }
        Ok(files)
    }

    fn files_of(&self, dir: &OwnedFd, key: StageKey) -> Result<Vec<(String, bool)>> {
        let files = self.files(dir).map_err(|errno| failure("read", "the stage", errno))?;
        Ok(files
            .into_iter()
            .filter_map(|(name, of, displaced)| (of == key).then_some((name, displaced)))
            .collect())
    }

    /// Removes what was staged. A displaced file stays, as an error: it may be the only copy.
    pub(crate) fn discard(&self, root: &Root, key: StageKey) -> Result<()> {
        let dir = root.control(&self.folder)?;
        let mut kept = None;
        for (name, displaced) in self.files_of(&dir, key)? {
            if displaced {
                kept = Some(name);
                continue;
            }
            match fs::unlinkat(&dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failure("discard", &name, errno)),
            }
        }
        match kept {
            None => Ok(()),
            Some(name) => {
                let context = format!("discard {name}: it is a file that a user wrote");
                Err(FsError::new(FsErrorKind::Changed, context))
            }
        }
    }

    /// One for each key, in order.
    pub(super) fn leftovers(&self, root: &Root) -> Result<Vec<Leftover>> {
        let dir = root.control(&self.folder)?;
        let files = self.files(&dir).map_err(|errno| failure("read", "the stage", errno))?;
        let mut found = std::collections::BTreeMap::new();
        for (name, key, displaced) in files {
            let leftover = found.entry(key).or_insert(Leftover { key, displaced: None });
            if displaced {
                let stat =
                    look(dir.as_fd(), &name).map_err(|errno| failure("look at", &name, errno))?;
                let named = Name::new(&name)
                    .map_err(|e| FsError::new(FsErrorKind::BadName, format!("{name}: {e}")))?;
                if let Seen::Entry(entry) = root.see(&dir, named, &stat) {
                    leftover.displaced = Some(entry.stamp());
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Moves a displaced file to the trash, as the old version of `was`.
    pub(super) fn retire(
        &self,
        root: &Root,
        trash: &Trash,
        key: StageKey,
        was: &RelPath,
    ) -> Result<Vec<OwnedFd>> {
        let dir = root.control(&self.folder)?;
        let mut unflushed = Vec::new();
        for (name, displaced) in self.files_of(&dir, key)? {
            if displaced {
                unflushed.extend(trash.put(root, &dir, &name, was)?);
            }
        }
        Ok(unflushed)
    }

    /// Gives a displaced file a name in the tree. Returns the folder to make durable.
    pub(super) fn restore(&self, root: &Root, key: StageKey, to: &RelPath) -> Result<OwnedFd> {
        let dir = root.control(&self.folder)?;
        let displaced = self.files_of(&dir, key)?.into_iter().find(|(_, displaced)| *displaced);
        let Some((name, _)) = displaced else {
            let context = format!("restore {to}: nothing was displaced by operation {}", key.0);
            return Err(FsError::new(FsErrorKind::NotFound, context));
        };
        let spot = root.spot(to, "restore")?;
        rename_noreplace(&dir, &name, &spot.dir, spot.name.as_str())
            .map_err(|errno| failure("restore", to, errno))?;
        Ok(spot.dir)
    }

    /// Saves every displaced file into the trash and removes the rest: for a stage whose records
    /// are lost.
    pub(crate) fn clear(&self, root: &Root, trash: &Trash) -> Result<Vec<OwnedFd>> {
        let dir = root.control(&self.folder)?;
        let files = self.files(&dir).map_err(|errno| failure("read", "the stage", errno))?;
        let mut unflushed = Vec::new();
        for (name, key, displaced) in files {
            if displaced {
                let named = Name::new(&format!("displaced-{}", key.0)).map_err(|e| {
                    FsError::new(FsErrorKind::BadName, format!("clear the stage: {e}"))
                })?;
                let as_path = RelPath::root().join(&named);
                unflushed.extend(trash.put(root, &dir, &name, &as_path)?);
            } else {
                match fs::unlinkat(&dir, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failure("clear the stage of", &name, errno)),
                }
            }
        }
        Ok(unflushed)
    }
}
