//! A folder whose items go one by one, because the disk refuses to rename it.
//!
//! Owns the order: looked through first, so that what cannot be copied keeps the whole folder where it
//! is; then the new folder, the items, and the emptied old folder. A failure brings everything back.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::journal::{Journal, Record, split};
use super::{Place, attributes, calls, file, occupied, staged_name};
use crate::local::flush::flush_one;
use crate::local::look::{self, kind_of, look, stat_of};
use crate::local::rename::rename_noreplace;
use crate::local::root::{Root, failure, open_dir_below};
use crate::local::stage::Stage;
use crate::local::{FsError, FsErrorKind, Result};
use crate::tree::ItemId;

/// Moves a folder with all that is in it, without replacing anything.
pub(super) fn carry(
    root: &Root,
    stage: &Stage,
    from: &Place<'_>,
    to: &Place<'_>,
    item: &ItemId,
) -> Result<()> {
    if to.path.starts_with(&format!("{}/", from.path)) {
        let context = format!("rename {} to {}: it would be in itself", from.path, to.path);
        return Err(FsError::new(FsErrorKind::Denied, context));
    }
    survey(root, &from.path)?;
    let journal = Journal { root, stage };
    let (source, target) = (from.path.clone(), to.path.clone());
    let record = Record::Folder { from: source, to: target, item: item.clone() };
    let key = journal.begin(&record)?;
    let marker = staged_name(key);
    let moved = make(root, from, to, &marker).and_then(|()| {
        let moved = transfer(root, stage, &from.path, &to.path, &marker);
        moved.map_err(|e| back(root, stage, &from.path, &to.path, &marker, e))
    });
    // What cannot be helped now is left as anybody can see it, a folder here and one there.
    let tidied = drop_marker(&journal, key, &from.path, &to.path);
    super::finish(moved, tidied.and_then(|()| journal.end(key)))
}

/// Makes the new folder, with a marker in it that says, as long as it is under way, that it is ours.
fn make(root: &Root, from: &Place<'_>, to: &Place<'_>, marker: &str) -> Result<()> {
    let fail = |errno| failure("create the folder", &to.path, errno);
    calls::mkdirat(to.dir, to.name, Mode::RWXU).map_err(|errno| match errno {
        Errno::EXIST => occupied(to),
        errno => fail(errno),
    })?;
    let dir = open_dir_below(to.dir, to.name).map_err(fail)?;
    if let Ok(source) = open_dir_below(from.dir, from.name) {
        resemble(&source, &dir);
    }
    calls::create(&dir, marker).map_err(fail)?;
    flush_one(&dir, root.fd()).map_err(fail)?;
    flush_one(to.dir, root.fd()).map_err(fail)
}

/// Half a folder here and half there would look like a user's work.
fn back(root: &Root, stage: &Stage, from: &str, to: &str, marker: &str, e: FsError) -> FsError {
    match transfer(root, stage, to, from, marker) {
        Ok(()) => e,
        Err(then) => FsError::new(e.kind, format!("{e}; and on the way back: {then}")),
    }
}

/// Undoes what a killed process had begun, if the old folder is still the one that was to be moved and
/// the new one is the one that was made for it. The plan then starts from what is recorded.
pub(super) fn go_back(
    journal: &Journal<'_>,
    key: u64,
    from: &str,
    to: &str,
    item: &ItemId,
) -> Result<()> {
    let (root, stage, marker) = (journal.root, journal.stage, staged_name(key));
    let old = open_dir_below(root.fd(), from).and_then(|dir| stat_of(&dir));
    let is_old = old.is_ok_and(|stat| root.stamp(&stat).item == *item);
    let is_ours = open_dir_below(root.fd(), to).and_then(|dir| look(&dir, &marker)).is_ok();
    if is_old && is_ours {
        // An error leaves a folder here and one there, and nothing hidden.
        let _ = transfer(root, stage, to, from, &marker);
    } else if is_old {
        // Killed before the marker was made or after it was removed: nothing is in it, or it stays.
        let _ = remove_emptied(root, to, None);
    }
    drop_marker(journal, key, from, to)
}

fn drop_marker(journal: &Journal<'_>, key: u64, from: &str, to: &str) -> Result<()> {
    let (root, marker) = (journal.root, staged_name(key));
    let is_there = |path: &str| open_dir_below(root.fd(), path).is_ok();
    // Neither of them means that somebody has moved the new one.
    if is_there(to) || !is_there(from) {
        for (dir, _) in journal.folders(key, &join(to, &marker))? {
            let removed = calls::unlinkat(&dir, &marker, AtFlags::empty());
            unless_missing(removed).map_err(|errno| failure("tidy up", to, errno))?;
        }
    }
    Ok(())
}

fn unless_missing(outcome: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// `Denied` if something is in the folder that cannot be copied.
fn survey(root: &Root, path: &str) -> Result<()> {
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let fail = |errno| failure("look through", &path, errno);
        let dir = open_dir_below(root.fd(), &path).map_err(fail)?;
        for name in names(&dir).map_err(fail)? {
            let name = name.ok_or_else(|| stays(&path))?;
            let below = join(&path, &name);
            let stat = match look(&dir, &name) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(fail)?,
            };
            match kind_of(&stat) {
                FileType::RegularFile => {
                    let file = Place { dir: &dir, name: &name, path: below };
                    super::copy::open(&file).map(drop).map_err(fail)?;
                }
                FileType::Symlink => {}
                FileType::Directory => pending.push(below),
                _ => return Err(stays(&below)),
            }
        }
    }
    Ok(())
}

fn stays(path: &str) -> FsError {
    let context = format!(
        "{path} cannot be copied, and the disk does not rename between these folders: the folder \
         stays where it is"
    );
    FsError::new(FsErrorKind::Denied, context)
}

/// Moves everything below one folder to another one, with the folder itself. Folders that are there
/// already take in what comes; nothing else is replaced. The marker is not moved, and goes last.
fn transfer(root: &Root, stage: &Stage, from: &str, to: &str, marker: &str) -> Result<()> {
    let mut pending = vec![(String::new(), false)];
    while let Some((below, is_done)) = pending.pop() {
        let (source, target) = (join(from, &below), join(to, &below));
        if is_done {
            remove_emptied(root, &source, below.is_empty().then_some(marker))?;
            continue;
        }
        let fail = |errno| failure("move", format!("{source} to {target}"), errno);
        let source_dir = open_dir_below(root.fd(), &source).map_err(fail)?;
        let target_dir = made(root, &target, &source_dir).map_err(fail)?;
        pending.push((below.clone(), true));
        for name in names(&source_dir).map_err(fail)? {
            let name = name.ok_or_else(|| stays(&source))?;
            if below.is_empty() && name == marker {
                continue;
            }
            let here = Place { dir: &source_dir, name: &name, path: join(&source, &name) };
            let there = Place { dir: &target_dir, name: &name, path: join(&target, &name) };
            if move_item(root, stage, &here, &there)? == Moved::Descend {
                pending.push((join(&below, &name), false));
            }
        }
        flush_one(&target_dir, root.fd()).map_err(fail)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Moved {
    Done,
    /// A folder: its items go one by one.
    Descend,
}

fn move_item(root: &Root, stage: &Stage, here: &Place<'_>, there: &Place<'_>) -> Result<Moved> {
    let fail = |errno| failure("move", format!("{} to {}", here.path, there.path), errno);
    let is_file = match here.look() {
        Err(Errno::NOENT) => return Ok(Moved::Done),
        other => kind_of(&other.map_err(fail)?) == FileType::RegularFile,
    };
    match rename_noreplace(here.dir, here.name, there.dir, there.name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Moved::Done),
        Err(Errno::XDEV) => {}
        // A folder or a link may have been made by a process that was killed then.
        Err(Errno::EXIST) if !is_file => {}
        Err(errno) => return Err(fail(errno)),
    }
    match kind_of(&here.look().map_err(fail)?) {
        FileType::Directory => Ok(Moved::Descend),
        FileType::RegularFile => file(root, stage, here, None, there).map(|_| Moved::Done),
        FileType::Symlink => move_link(root, here, there).map_err(fail).map(|()| Moved::Done),
        _ => Err(stays(&here.path)),
    }
}

/// A link is its text: made anew, read back, and only then removed.
fn move_link(root: &Root, here: &Place<'_>, there: &Place<'_>) -> rustix::io::Result<()> {
    let text = fs::readlinkat(here.dir, here.name, Vec::new())?;
    match fs::symlinkat(text.as_c_str(), there.dir, there.name) {
        Ok(()) => {}
        Err(Errno::EXIST) if is_link(there, &text) => {}
        Err(errno) => return Err(errno),
    }
    flush_one(there.dir, root.fd())?;
    if !is_link(there, &text) || !is_link(here, &text) {
        return Err(Errno::BUSY);
    }
    calls::unlinkat(here.dir, here.name, AtFlags::empty())
}

fn is_link(at: &Place<'_>, text: &std::ffi::CString) -> bool {
    fs::readlinkat(at.dir, at.name, Vec::new()).is_ok_and(|found| found == *text)
}

/// Opens a folder, which is made like `model` if it is missing.
fn made(root: &Root, path: &str, model: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let (parent, name) = split(path);
    let above = open_dir_below(root.fd(), parent)?;
    let is_new = match calls::mkdirat(&above, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let dir = open_dir_below(&above, name)?;
    if is_new {
        flush_one(&above, root.fd())?;
        resemble(model, &dir);
    }
    Ok(dir)
}

fn resemble(model: &OwnedFd, dir: &OwnedFd) {
    if let Ok(stat) = stat_of(model) {
        attributes::pass_on(model, &stat, dir);
    }
}

fn remove_emptied(root: &Root, path: &str, marker: Option<&str>) -> Result<()> {
    let (parent, name) = split(path);
    let above = open_dir_below(root.fd(), parent);
    let removed = above.and_then(|above| {
        if let Some(marker) = marker {
            let dir = open_dir_below(&above, name)?;
            unless_missing(calls::unlinkat(&dir, marker, AtFlags::empty()))?;
        }
        calls::unlinkat(&above, name, AtFlags::REMOVEDIR)?;
        flush_one(&above, root.fd())
    });
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Some systems say EEXIST for a folder with something in it.
        Err(Errno::EXIST) => Err(failure("remove the folder", path, Errno::NOTEMPTY)),
        Err(errno) => Err(failure("remove the folder", path, errno)),
    }
}

/// The names in a folder; `None` for one that is no text.
pub(super) fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<Option<String>>> {
    Ok(look::names(dir)?.into_iter().map(|name| name.into_string().ok()).collect())
}

pub(super) fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}
