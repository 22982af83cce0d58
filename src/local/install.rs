//! How a sealed file gets its name, and what becomes of the file that had it.
//!
//! Owns the exchange of a new version for an old one. The displaced file is looked at only after the
//! exchange, when nobody can swap it any more: the expected one goes to the trash, any other one is
//! an edit of the last moment and gets a name of its own. Where the disk refuses to exchange a file
//! of the stage for one of that folder, a copy of it is brought into the folder first. Never unlinks
//! anything but what was staged and is in place.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Statx, Uid};
use rustix::io::Errno;

use super::access::adopt;
use super::attributes::pass_on_extended;
use super::calls;
use super::carry::{self, Brought, Place, witness};
use super::look::{kind_of, look};
use super::rename::{lacks_flags, rename_noreplace};
use super::root::{Root, Spot, changed, failure};
use super::stage::{Stage, Unflushed, exchange_name, sealed_name};
use super::trash::{Placed, Trash};
use super::{FsError, FsErrorKind, Installed, Result, Sealed};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{Entry, Name, RelPath, Stamp};

/// How many names are tried for a displaced file.
const ASIDE_TRIES: u32 = 1000;
/// What most file systems hold in one name.
const NAME_BYTES_MAX: usize = 255;

/// One installation under way: its place was looked at, and may be something else by now.
pub(super) struct Looked<'a> {
    root: &'a Root,
    stage: &'a Stage,
    /// Where the new version waits: the stage, or the folder of the place.
    held: Held,
    spot: Spot,
    over: Stamp,
}

/// A file under an internal name, and afterwards what it was exchanged for.
struct Held {
    dir: OwnedFd,
    /// The folder's path, from the root.
    folder: String,
    name: String,
    /// Takes the old version for a moment where two names cannot be exchanged at once.
    waiting: String,
    /// Of the new version.
    stamp: Stamp,
    /// Its inode number; good for as long as this process lives.
    number: u64,
}

impl Held {
    fn place(&self) -> Place<'_> {
        let path = match self.folder.as_str() {
            "" => self.name.clone(),
            folder => format!("{folder}/{}", self.name),
        };
        Place { dir: &self.dir, name: &self.name, path }
    }
}

/// Why the new version is not in place.
#[derive(Debug)]
pub(super) enum Unswapped {
    /// The disk does not rename between the two folders. Nothing has happened.
    Crosses,
    Failed(FsError),
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
        let stamp = match rename_noreplace(&stage, &staged, &spot.dir, spot.name.as_str()) {
            Ok(()) => sealed.stamp.clone(),
            Err(Errno::XDEV) => {
                let (from, to) = (self.place(&stage, &staged), Place::of(&spot));
                carry::file(root, self, &from, Some(&sealed.stamp), &to)?
            }
            Err(errno) => return Err(failure("install", at, errno)),
        };
        let entry = witness(root, &spot, &stamp);
        Ok((Installed::Clean(entry), vec![spot.dir]))
    }

    /// `Changed` unless `over` is at the place.
    pub(super) fn look<'a>(
        &'a self,
        root: &'a Root,
        sealed: &Sealed,
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
        let staged = exchange_name(sealed, sealed.number, over);
        let waiting = sealed_name(sealed.key, sealed.number);
        rename_noreplace(&stage, &waiting, &stage, &staged)
            .map_err(|errno| failure("replace", at, errno))?;
        let held = Held {
            dir: stage,
            folder: format!("{CONTROL_DIR}/{}", self.folder),
            name: staged,
            waiting: exchange_name(sealed, 0, over),
            stamp: sealed.stamp.clone(),
            number: sealed.number,
        };
        let looked = Looked { root, stage: self, held, spot, over: over.clone() };
        looked.inherit(&old);
        Ok(looked)
    }
}

impl Looked<'_> {
    pub(super) fn replace(self, trash: &Trash, aside: &RelPath) -> Result<Unflushed<Installed>> {
        match self.swap() {
            Ok(()) => self.judge(trash, aside),
            Err(Unswapped::Crosses) => self.replace_across(trash, aside),
            Err(Unswapped::Failed(e)) => Err(e),
        }
    }

    /// The same with a copy of the staged file, which is in the folder of the place.
    fn replace_across(self, trash: &Trash, aside: &RelPath) -> Result<Unflushed<Installed>> {
        let Looked { root, stage, held, spot, over } = self;
        let dir = rustix::io::fcntl_dupfd_cloexec(&spot.dir, 0)
            .map_err(|errno| failure("replace", &spot.path, errno))?;
        let brought = Brought::bring(root, stage, &held.place(), &Place::of(&spot), &over)?;
        let copy = Held {
            dir,
            folder: spot.path.parent().unwrap_or_default().as_str().to_owned(),
            name: brought.staged_name(),
            waiting: brought.waiting_name(),
            stamp: brought.stamp.clone(),
            number: brought.number,
        };
        let beside = Looked { root, stage, held: copy, spot, over };
        let outcome = match beside.swap() {
            Ok(()) => beside.judge(trash, aside),
            Err(unswapped) => Err(unswapped.into_error(&beside.spot.path)),
        };
        let settled = brought.end(trash);
        let (installed, mut unflushed) = outcome?;
        // If one of these fails, it is for the next start.
        unflushed.extend(settled.unwrap_or_default());
        let _ = calls::unlinkat(&held.dir, &held.name, AtFlags::empty());
        Ok((installed, unflushed))
    }

    /// The new version is in place, and what it displaced is held.
    fn judge(self, trash: &Trash, aside: &RelPath) -> Result<Unflushed<Installed>> {
        if !self.displaced_is_expected() {
            let (kept_as, dir) = self.keep_aside(aside).map_err(|e| self.swap_back(aside, e))?;
            let entry = self.witness();
            return Ok((Installed::DisplacedEdit { entry, kept_as }, vec![self.spot.dir, dir]));
        }
        let held = self.held.place();
        match trash.put(self.root, Some(self.stage), &held, None, &self.spot.path) {
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
        let (dir, name) = (&self.held.dir, self.held.name.as_str());
        let Ok(new) = look(dir, name) else { return };
        if (new.stx_uid, new.stx_gid) != (old.stx_uid, old.stx_gid) {
            let (user, group) = (Uid::from_raw(old.stx_uid), Gid::from_raw(old.stx_gid));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            // A common user may give a file to a group of theirs, but not to another user.
            if fs::chownat(dir, name, Some(user), Some(group), nofollow).is_err() {
                let _ = fs::chownat(dir, name, None, Some(group), nofollow);
            }
        }
        let mode = Mode::from_raw_mode(u32::from(old.stx_mode) & 0o777);
        // File systems without modes refuse this, and have nothing to inherit.
        let _ = fs::chmodat(dir, name, mode, AtFlags::empty());
        let _ = self.inherit_extended();
    }

    fn inherit_extended(&self) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = fs::openat(&self.spot.dir, self.spot.name.as_str(), flags, Mode::empty())?;
        let new = fs::openat(&self.held.dir, self.held.name.as_str(), flags, Mode::empty())?;
        pass_on_extended(old, new)
    }

    /// Puts the held file where the old one is, and the old one where the held file was.
    pub(super) fn swap(&self) -> std::result::Result<(), Unswapped> {
        let (held, spot) = (&self.held, &self.spot);
        let (name, exchange) = (spot.name.as_str(), RenameFlags::EXCHANGE);
        match calls::renameat_with(&held.dir, &held.name, &spot.dir, name, exchange) {
            Ok(()) => Ok(()),
            Err(errno) if lacks_flags(errno) => self.swap_in_steps(),
            Err(Errno::XDEV) => Err(Unswapped::Crosses),
            // The held file is where it was put, so the old one must be gone.
            Err(Errno::NOENT) => Err(Unswapped::Failed(changed(&spot.path))),
            Err(errno) => Err(Unswapped::Failed(failure("replace", &spot.path, errno))),
        }
    }

    /// For file systems that cannot exchange two names.
    ///
    /// RACE: between the first two steps nothing has the name. A program that looks just then finds
    /// no file; one that creates a file just then keeps it, and the new version stays staged.
    pub(super) fn swap_in_steps(&self) -> std::result::Result<(), Unswapped> {
        let (Held { dir, name: held, waiting, .. }, spot) = (&self.held, &self.spot);
        let name = spot.name.as_str();
        let fail = |errno| Unswapped::Failed(failure("replace", &spot.path, errno));
        match rename_noreplace(&spot.dir, name, dir, waiting) {
            Err(Errno::XDEV) => return Err(Unswapped::Crosses),
            other => other.map_err(fail)?,
        }
        match rename_noreplace(dir, held, &spot.dir, name) {
            Ok(()) => rename_noreplace(dir, waiting, dir, held).map_err(fail),
            Err(errno) => {
                rename_noreplace(dir, waiting, &spot.dir, name).map_err(fail)?;
                let is_taken = errno == Errno::EXIST;
                Err(if is_taken { Unswapped::Failed(changed(&spot.path)) } else { fail(errno) })
            }
        }
    }

    fn displaced_is_expected(&self) -> bool {
        look(&self.held.dir, &self.held.name).is_ok_and(|stat| {
            let is_file = kind_of(&stat) == FileType::RegularFile;
            is_file && self.over.is_renamed(&self.root.stamp(&stat))
        })
    }

    /// Undoes the exchange because of `error`, which comes back. If the new version was itself
    /// replaced meanwhile, that edit is kept beside.
    fn swap_back(&self, aside: &RelPath, error: FsError) -> FsError {
        if let Err(unswapped) = self.swap() {
            let then = unswapped.into_error(&self.spot.path);
            return FsError::new(error.kind, format!("{error}; and then: {then}"));
        }
        let ours = look(&self.held.dir, &self.held.name)
            .is_ok_and(|stat| stat.stx_ino == self.held.number);
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
            let path = aside.parent().unwrap_or_default().join(&name);
            let to = Place { dir: &spot.dir, name: name.as_str(), path: path.as_str().to_owned() };
            let verb = "keep a displaced edit as";
            match carry::rename(self.root, self.stage, &self.held.place(), &to, verb) {
                Ok(()) => return Ok((path, spot.dir)),
                Err(e) if e.kind == FsErrorKind::Occupied => {}
                Err(e) => return Err(e),
            }
        }
        Err(failure("keep a displaced edit as", aside, Errno::EXIST))
    }

    pub(super) fn witness(&self) -> Entry {
        witness(self.root, &self.spot, &self.held.stamp)
    }
}

impl Unswapped {
    fn into_error(self, path: &RelPath) -> FsError {
        match self {
            Unswapped::Crosses => failure("replace", path, Errno::XDEV),
            Unswapped::Failed(e) => e,
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
