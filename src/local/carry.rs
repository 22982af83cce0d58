//! Moving a file or folder between two folders between which the disk refuses to rename: pools of
//! disks, quotas for each project, folders with a key of their own.
//!
//! Owns the order of the steps: copy under an internal name in the new folder, make that durable, take
//! the original out of sight, compare every byte, give the copy its name, make that durable, and only
//! then remove the original. What each step leaves after a kill is recorded before the first one (see
//! `journal`). Follows no link, and removes nothing of which it has not just seen an equal, durable copy.

mod copy;
mod folder;
mod journal;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Statx};
use rustix::io::Errno;

pub(super) use journal::recover;

use super::attributes;
use super::calls;
use super::flush::flush_one;
use super::look::{Seen, kind_of, look, stat_of};
use super::rename::rename_noreplace;
use super::root::{Root, Spot, changed, failure};
use super::stage::Stage;
use super::trash::Trash;
use super::{FsError, FsErrorKind, Result};
use crate::tree::{Entry, InternalName, Kind, RelPath, Stamp};
use journal::{After, Journal, Over, Record};

/// A name in an open folder.
pub(super) struct Place<'a> {
    pub(super) dir: &'a OwnedFd,
    pub(super) name: &'a str,
    /// From the root, also below the control folder: records name it.
    pub(super) path: String,
}

impl Place<'_> {
    pub(super) fn of(spot: &Spot) -> Place<'_> {
        let path = spot.path.as_str().to_owned();
        Place { dir: &spot.dir, name: spot.name.as_str(), path }
    }

    fn look(&self) -> rustix::io::Result<Statx> {
        look(self.dir, self.name)
    }
}

// ---- internal names ----------------------------------------------------------------------------

/// A copy that is not complete, or not verified yet: always ours.
fn part_name(key: u64) -> String {
    InternalName::Copying(key).name().as_str().to_owned()
}

/// A new version that waits to be exchanged for the old one, and after that the old one.
fn staged_name(key: u64) -> String {
    InternalName::Staged(key).name().as_str().to_owned()
}

/// An original that is out of sight. Listings know such a name as that of an old version that made
/// room, and a daemon gives it back if nobody else does.
fn away_name(key: u64) -> String {
    InternalName::Replaced(key).name().as_str().to_owned()
}

// ---- files -------------------------------------------------------------------------------------

/// Renames without replacing, or carries a file over where the disk refuses to rename it.
pub(super) fn rename(
    root: &Root,
    stage: &Stage,
    from: &Place<'_>,
    to: &Place<'_>,
    verb: &str,
) -> Result<()> {
    match rename_noreplace(from.dir, from.name, to.dir, to.name) {
        Ok(()) => Ok(()),
        Err(Errno::XDEV) => file(root, stage, from, None, to).map(drop),
        Err(errno) => Err(failure(verb, &to.path, errno)),
    }
}

/// Moves an item of the user's tree; what `Root::rename` does where it can.
pub(super) fn relocate(
    root: &Root,
    stage: &Stage,
    source: &Spot,
    target: &Spot,
    expected: &Stamp,
) -> Result<Entry> {
    let stat = root.expect(source, expected)?;
    let (from, to) = (Place::of(source), Place::of(target));
    if kind_of(&stat) == FileType::Directory {
        folder::carry(root, stage, &from, &to, &expected.item)?;
        return match root.stat_at(target)? {
            Some(entry) if entry.kind == Kind::Dir => Ok(entry),
            Some(_) | None => Err(changed(&target.path)),
        };
    }
    let stamp = file(root, stage, &from, Some(expected), &to)?;
    Ok(witness(root, target, &stamp))
}

/// What is under a name that was just given to the version `stamp`. If somebody already wrote to it,
/// that must not be taken for what was put there: the next listing then shows a difference.
pub(super) fn witness(root: &Root, spot: &Spot, stamp: &Stamp) -> Entry {
    let name = &spot.name;
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

/// Moves a file without replacing anything (`Occupied`); `Changed` if it is not the expected version,
/// or is written to meanwhile. The new name is durable; the old folder is still to be flushed. Returns
/// the stamp of the copy.
pub(super) fn file(
    root: &Root,
    stage: &Stage,
    from: &Place<'_>,
    expected: Option<&Stamp>,
    to: &Place<'_>,
) -> Result<Stamp> {
    if to.look().is_ok() {
        return Err(occupied(to));
    }
    let record = Record::Move { from: from.path.clone(), to: to.path.clone() };
    let journal = Journal { root, stage };
    let key = journal.begin(&record)?;
    let outcome = carry_file(root, key, from, expected, to);
    let settled = journal.settle(key, &record, After::Move);
    finish(outcome, settled.map(drop))
}

/// Where the work is done, a record that could not be removed is one for the next start.
fn finish<T>(outcome: Result<T>, settled: Result<()>) -> Result<T> {
    match (outcome, settled) {
        (Ok(done), Ok(()) | Err(_)) => Ok(done),
        (Err(e), Ok(())) => Err(e),
        (Err(e), Err(then)) => Err(FsError::new(e.kind, format!("{e}; and then: {then}"))),
    }
}

fn carry_file(
    root: &Root,
    key: u64,
    from: &Place<'_>,
    expected: Option<&Stamp>,
    to: &Place<'_>,
) -> Result<Stamp> {
    let fail = |errno| failure("move", format!("{} to {}", from.path, to.path), errno);
    let source = copy::open(from).map_err(fail)?;
    let before = stat_of(&source).map_err(fail)?;
    let version = root.stamp(&before);
    let is_expected = expected.is_none_or(|expected| expected.is_renamed(&version));
    if kind_of(&before) != FileType::RegularFile || !is_expected {
        return Err(changed_at(&from.path));
    }
    let part = part_name(key);
    let copied = copy::make(root, from, &source, &before, to.dir, &part)?;

    // From here on nobody opens the original by its name.
    let away = away_name(key);
    rename_noreplace(from.dir, from.name, from.dir, &away).map_err(fail)?;
    let hidden = root.stamp(&look(from.dir, &away).map_err(fail)?);
    if !version.is_renamed(&hidden) || !copy::is_equal(&source, &copied).map_err(fail)? {
        return Err(changed_at(&from.path));
    }
    let copied = root.stamp(&stat_of(&copied).map_err(fail)?);
    match rename_noreplace(to.dir, &part, to.dir, to.name) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(occupied(to)),
        Err(errno) => return Err(fail(errno)),
    }
    let removed = flush_one(to.dir, root.fd()).and_then(|()| {
        // RACE: who had the file open before may still write to it; what comes after this look is
        // lost, as with any move between disks.
        if root.stamp(&look(from.dir, &away)?) != hidden {
            return Ok(false);
        }
        calls::unlinkat(from.dir, &away, AtFlags::empty()).map(|()| true)
    });
    if removed == Ok(true) {
        return Ok(copied);
    }
    take_back(root, to, &part, &copied);
    Err(removed.map_or_else(fail, |_| changed_at(&from.path)))
}

/// The copy loses its name, if it is still only that, because the original stays.
fn take_back(root: &Root, to: &Place<'_>, part: &str, copied: &Stamp) {
    if to.look().is_ok_and(|stat| copied.is_renamed(&root.stamp(&stat))) {
        let _ = rename_noreplace(to.dir, to.name, to.dir, part);
    }
}

fn changed_at(path: &str) -> FsError {
    match RelPath::new(path) {
        Ok(path) => changed(&path),
        Err(_) => FsError::new(FsErrorKind::Changed, format!("{path} changed")),
    }
}

fn occupied(to: &Place<'_>) -> FsError {
    failure("move to", &to.path, Errno::EXIST)
}

// ---- replacing ---------------------------------------------------------------------------------

/// A staged file that was brought into the folder where it is to replace something.
pub(super) struct Brought<'a> {
    journal: Journal<'a>,
    key: u64,
    record: Record,
    /// Of the copy.
    pub(super) stamp: Stamp,
    /// The copy's inode number; good for as long as this process lives.
    pub(super) number: u64,
}

impl<'a> Brought<'a> {
    /// Copies a staged file beside `at`, under an internal name. The staged one stays until the end.
    pub(super) fn bring(
        root: &'a Root,
        stage: &'a Stage,
        staged: &Place<'_>,
        at: &Place<'_>,
        over: &Stamp,
    ) -> Result<Brought<'a>> {
        let (from, to) = (staged.path.clone(), at.path.clone());
        let record = Record::Install { staged: from, at: to, over: Over::of(over) };
        let journal = Journal { root, stage };
        let key = journal.begin(&record)?;
        match copy_staged(root, key, staged, at) {
            Ok(stat) => {
                let (stamp, number) = (root.stamp(&stat), stat.stx_ino);
                Ok(Brought { journal, key, record, stamp, number })
            }
            Err(e) => finish(Err(e), journal.settle(key, &record, After::Move).map(drop)),
        }
    }

    pub(super) fn staged_name(&self) -> String {
        staged_name(self.key)
    }

    /// Where the old version is while two names cannot be exchanged at once.
    pub(super) fn waiting_name(&self) -> String {
        away_name(self.key)
    }

    /// Deals with what is left, whether the exchange went well or not. The folders are to be made
    /// durable.
    pub(super) fn end(self, trash: &Trash) -> Result<Vec<OwnedFd>> {
        self.journal.settle(self.key, &self.record, After::Exchange(trash))
    }
}

fn copy_staged(root: &Root, key: u64, staged: &Place<'_>, at: &Place<'_>) -> Result<Statx> {
    let fail = |errno| failure("replace", &at.path, errno);
    let source = copy::open(staged).map_err(fail)?;
    let before = stat_of(&source).map_err(fail)?;
    let part = part_name(key);
    let copied = copy::make(root, staged, &source, &before, at.dir, &part)?;
    if !copy::is_equal(&source, &copied).map_err(fail)? {
        return Err(FsError::new(
            FsErrorKind::Io,
            format!("replace {}: the copy differs", at.path),
        ));
    }
    rename_noreplace(at.dir, &part, at.dir, &staged_name(key)).map_err(fail)?;
    flush_one(at.dir, root.fd()).map_err(fail)?;
    look(at.dir, &staged_name(key)).map_err(fail)
}
