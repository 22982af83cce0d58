//! Giving, taking and changing names, never at the cost of another item.
//!
//! Owns the renames that refuse to replace and what is done where the system has none, and the
//! folders that are made and removed. Knows nothing about stage or trash.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::access::new_dir_mode;
use super::look::{Seen, kind_of, look};
use super::root::{Root, Spot, changed, device, failure, refusal};
use super::{FsError, FsErrorKind, Result, SkipReason};
use crate::tree::names::NameRules;
use crate::tree::{Entry, Kind, Name, RelPath, Stamp};

impl Root {
    /// Success, with what is there, if the folder exists. Returns the folder to make durable.
    pub(super) fn create_dir(&self, at: &RelPath) -> Result<(Entry, Option<OwnedFd>)> {
        let spot = self.spot(at, "create the folder")?;
        let made = match fs::mkdirat(&spot.dir, spot.name.as_str(), new_dir_mode(&spot.dir)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failure("create the folder", at, errno)),
        };
        let stat = look(&spot.dir, spot.name.as_str())
            .map_err(|errno| failure("create the folder", at, errno))?;
        if !made && !shows(&spot.dir, &spot.name).unwrap_or(true) {
            let context = format!(
                "create the folder {at}: this disk takes the name for that of another folder there"
            );
            return Err(FsError::new(FsErrorKind::BadName, context));
        }
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
        self.rename_looked(source, target, expected)
    }

    /// The part of `rename` after the look: what is there may be something else by now.
    pub(super) fn rename_looked(
        &self,
        source: Spot,
        target: Spot,
        expected: &Stamp,
    ) -> Result<(Entry, [OwnedFd; 2])> {
        rename_noreplace(&source.dir, source.name.as_str(), &target.dir, target.name.as_str())
            .map_err(|errno| {
                let (from, to) = (&source.path, &target.path);
                failure("rename", format!("{from} to {to}"), errno)
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

/// Whether a folder shows that name, in whichever Unicode form: some disks find an item under names that
/// are not its own.
fn shows(dir: impl AsFd, name: &Name) -> rustix::io::Result<bool> {
    let wanted = NameRules::composed(name);
    for item in fs::Dir::read_from(dir)? {
        let there = Name::from_bytes(item?.file_name().to_bytes());
        if there.is_ok_and(|there| there == *name || NameRules::composed(&there) == wanted) {
            return Ok(true);
        }
    }
    Ok(false)
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
