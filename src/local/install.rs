//! How a sealed file gets its name, and what becomes of the file that had it.
//!
//! Owns the exchange of a new version for an old one. The displaced file is looked at only after the
//! exchange, when nobody can swap it any more: the expected one goes to the trash, any other one is
//! an edit of the last moment and gets a name of its own. Never unlinks anything.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Statx, Uid};
use rustix::io::Errno;

use super::access::adopt;
use super::look::{Seen, kind_of, look};
use super::rename::rename_noreplace;
use super::root::{Root, Spot, changed, failure};
use super::stage::{Stage, Unflushed, exchange_name, sealed_name};
use super::trash::{Placed, Trash};
use super::{FsError, FsErrorKind, Installed, Result, Sealed};
use crate::tree::{Entry, Kind, Name, RelPath, Stamp};

/// How many names are tried for a displaced file.
const ASIDE_TRIES: u32 = 1000;
/// What most file systems hold in one name.
const NAME_BYTES_MAX: usize = 255;

/// One installation under way: its place was looked at, and may be something else by now.
pub(super) struct Looked<'a> {
    root: &'a Root,
    stage: OwnedFd,
    /// The sealed file's name in the stage.
    staged: String,
    sealed: &'a Sealed,
    spot: Spot,
    over: Stamp,
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
        match over {
            None => self.install_new(root, sealed, at),
            Some(over) => self.look(root, sealed, at, over)?.replace(trash, aside),
        }
    }

    fn install_new(
        &self,
        root: &Root,
        sealed: &Sealed,
        at: &RelPath,
    ) -> Result<Unflushed<Installed>> {
        let stage = root.control(&self.folder)?;
        let spot = root.spot(at, "install")?;
        let staged = sealed_name(sealed.key, sealed.number);
        adopt(&stage, &staged, &spot.dir, root.new_file_mode(), root.umask());
        rename_noreplace(&stage, &staged, &spot.dir, spot.name.as_str())
            .map_err(|errno| failure("install", at, errno))?;
        let entry = witness(root, &spot, sealed);
        Ok((Installed::Clean(entry), vec![spot.dir]))
    }

    /// `Changed` unless `over` is at the place.
    pub(super) fn look<'a>(
        &self,
        root: &'a Root,
        sealed: &'a Sealed,
        at: &RelPath,
        over: &Stamp,
    ) -> Result<Looked<'a>> {
        let stage = root.control(&self.folder)?;
        let spot = root.spot(at, "replace")?;
        let old = match root.expect(&spot, over) {
            Err(e) if e.kind == FsErrorKind::NotFound => return Err(changed(at)),
            other => other?,
        };
        if kind_of(&old) != FileType::RegularFile {
            return Err(changed(at));
        }
        let staged = exchange_name(sealed.key, sealed.number, over);
        let waiting = sealed_name(sealed.key, sealed.number);
        rename_noreplace(&stage, &waiting, &stage, &staged)
            .map_err(|errno| failure("replace", at, errno))?;
        let looked = Looked { root, stage, staged, sealed, spot, over: over.clone() };
        looked.inherit(&old);
        Ok(looked)
    }
}

impl Looked<'_> {
    pub(super) fn replace(self, trash: &Trash, aside: &RelPath) -> Result<Unflushed<Installed>> {
        self.swap()?;
        // From here on the stage holds what was displaced.
        if !self.displaced_is_expected() {
            let (kept_as, dir) = self.keep_aside(aside).map_err(|e| self.swap_back(aside, e))?;
            let entry = self.witness();
            return Ok((Installed::DisplacedEdit { entry, kept_as }, vec![self.spot.dir, dir]));
        }
        match trash.put(self.root, &self.stage, &self.staged, &self.spot.path) {
            Ok(placed) => {
                let entry = self.witness();
                let mut unflushed = vec![self.spot.dir];
                unflushed.extend(placed.into_iter().flat_map(Placed::into_unflushed));
                Ok((Installed::Clean(entry), unflushed))
            }
            Err(e) => Err(self.swap_back(aside, e)),
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
    pub(super) fn swap(&self) -> Result<()> {
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
    pub(super) fn swap_in_steps(&self) -> Result<()> {
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

    fn displaced_is_expected(&self) -> bool {
        look(&self.stage, &self.staged).is_ok_and(|stat| {
            let is_file = kind_of(&stat) == FileType::RegularFile;
            is_file && self.over.is_renamed(&self.root.stamp(&stat))
        })
    }

    /// Undoes the exchange because of `error`, which comes back. If the new version was itself
    /// replaced meanwhile, that edit is kept beside.
    fn swap_back(&self, aside: &RelPath, error: FsError) -> FsError {
        if let Err(e) = self.swap() {
            return FsError::new(error.kind, format!("{error}; and then: {e}"));
        }
        let ours =
            look(&self.stage, &self.staged).is_ok_and(|stat| stat.stx_ino == self.sealed.number);
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

    pub(super) fn witness(&self) -> Entry {
        witness(self.root, &self.spot, self.sealed)
    }
}

/// The new version as it is under its name. If somebody already wrote to it, that must not be taken
/// for what was staged: the next listing then shows a difference.
fn witness(root: &Root, spot: &Spot, sealed: &Sealed) -> Entry {
    let (name, stamp) = (&spot.name, &sealed.stamp);
    let now = look(&spot.dir, name.as_str()).map(|stat| root.see(&spot.dir, name.clone(), &stat));
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
