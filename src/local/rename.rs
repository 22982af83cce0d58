//! Giving, taking and changing names, never at the cost of another item.
//!
//! Owns the renames that refuse to replace and what is done where the system has none, and the
//! folders that are made and removed. Where the disk refuses to rename between two folders, `carry`
//! does it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, RenameFlags, Statx};
use rustix::io::Errno;

use super::access::new_dir_mode;
use super::calls;
use super::carry;
use super::look::{Seen, kind_of, look, time_of};
use super::root::{Root, Spot, changed, device, failure, refusal};
use super::stage::Stage;
use super::{FsError, FsErrorKind, Result, SkipReason};
use crate::tree::names::NameRules;
use crate::tree::{Entry, InternalName, Kind, Name, RelPath, Stamp};

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
    /// to make durable. `journal` is for a disk that does not rename between the two folders.
    pub(super) fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        expected: &Stamp,
        journal: Option<&Stage>,
    ) -> Result<(Entry, [OwnedFd; 2])> {
        let source = self.spot(from, "rename")?;
        self.expect(&source, expected)?;
        let target = self.spot(to, "rename to")?;
        self.rename_looked(source, target, expected, journal)
    }

    /// The part of `rename` after the look: what is there may be something else by now.
    pub(super) fn rename_looked(
        &self,
        source: Spot,
        target: Spot,
        expected: &Stamp,
        journal: Option<&Stage>,
    ) -> Result<(Entry, [OwnedFd; 2])> {
        let (from, to) = (source.name.as_str(), target.name.as_str());
        match (rename_noreplace(&source.dir, from, &target.dir, to), journal) {
            (Ok(()), _) => {}
            (Err(Errno::XDEV), Some(journal)) => {
                let entry = carry::relocate(self, journal, &source, &target, expected)?;
                return Ok((entry, [source.dir, target.dir]));
            }
            (Err(errno), _) => {
                let (from, to) = (&source.path, &target.path);
                return Err(failure("rename", format!("{from} to {to}"), errno));
            }
        }
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
    match calls::renameat_with(&from_dir, from, &to_dir, to, RenameFlags::NOREPLACE) {
        Err(errno) if lacks_flags(errno) => rename_plainly(from_dir, from, to_dir, to),
        Err(Errno::EXIST) if is_respelling(&from_dir, from, &to_dir, to) => {
            respell(from_dir.as_fd(), from, to_dir.as_fd(), to)
        }
        other => other,
    }
}

/// Changes how a name is spelled where both spellings are one name: through a third one, because some
/// disks take the direct way for no change at all. What a kill leaves under that name is known as an
/// item that was parked.
fn respell(
    from_dir: BorrowedFd<'_>,
    from: &str,
    to_dir: BorrowedFd<'_>,
    to: &str,
) -> rustix::io::Result<()> {
    let key = getrandom::u64().map_err(|_| Errno::IO)?;
    let parked = InternalName::Parked(key).name();
    let parked = parked.as_str();
    rename_noreplace(from_dir, from, from_dir, parked)?;
    let done = rename_noreplace(from_dir, parked, to_dir, to);
    if done.is_err() {
        // If this fails too, the next sync gives the item a name again.
        let _ = rename_noreplace(from_dir, parked, from_dir, from);
    }
    done
}

/// Whether a rename with flags was refused because the disk does not know them.
pub(super) fn lacks_flags(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Where the system cannot refuse to replace: a hard link does, for files.
pub(super) fn rename_plainly(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> rustix::io::Result<()> {
    match calls::linkat(&from_dir, from, &to_dir, to) {
        Ok(()) => return unlink_other(from_dir, from, to_dir, to),
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
        Ok(_) => respell(from_dir.as_fd(), from, to_dir.as_fd(), to),
        Err(Errno::NOENT) => calls::renameat(from_dir, from, to_dir, to),
        Err(errno) => Err(errno),
    }
}

/// Takes the old name from a file that has the new one as well. If the old name is another file's by
/// now, it was given after the move, and stays.
///
/// RACE: a file that is given the name right between the look and the removal is removed. Only on file
/// systems without RENAME_NOREPLACE.
fn unlink_other(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
) -> rustix::io::Result<()> {
    match (look(&from_dir, from), look(to_dir, to)) {
        (Ok(a), Ok(b)) if !is_one_file(&a, &b) => Ok(()),
        (Err(Errno::NOENT), _) => Ok(()),
        _ => calls::unlink_linked(from_dir, from),
    }
}

/// Whether two names are two links to one file. Some disks give each path a number of its own.
fn is_one_file(one: &Statx, other: &Statx) -> bool {
    let version = |stat: &Statx| (stat.stx_size, time_of(stat.stx_mtime), stat.stx_nlink);
    one.stx_ino == other.stx_ino || version(one) == version(other)
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
