//! The trash: `.foldsync/trash/<YYYYMMDDTHHMMSSZ-N>/<original path>`.
//!
//! Owns what a sync removed or replaced until it is restored or has aged out. Files come in by
//! rename, so a program that still writes to one writes into the trash; where the disk refuses that
//! rename, they are carried in. Nothing outside of the trash is ever removed here, and no link is
//! followed.
//!
//! A second version of a path in the same run folder gets a `~2` after its name; a name that itself
//! ends like that gets `~1`, so that the original name is always the one without the last suffix.

mod ageing;
mod ledgers;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::carry::{self, Place};
use super::flush::flush_one;
use super::look::{kind_of, look};
use super::rename::rename_noreplace;
use super::root::{Root, error_kind, failure, open_dir_below};
use super::stage::Stage;
use super::{FsError, FsErrorKind, Result};
use crate::clock::{Clock, Timestamp};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{Name, RelPath, Stamp};
use ageing::{Aged, Ledger, Reading};

pub use ageing::ClockJump;

/// The folder's name in the control folder.
const TRASH: &str = "trash";
/// The folder of the ledgers in the control folder.
const AGEING: &str = "ageing";
/// A run folder takes files for this long: its label is the age of all that is in it.
const RUN_MAX: Duration = Duration::from_secs(3600);
/// Begins the labels of folders that never age out.
const KEPT: &str = "kept-";
/// Ends the path of a folder that is the control folder of a root.
const CONTROL_END: &str = "/.foldsync";
const STAMP_FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// How many folders of one second, or versions of one path, are tried.
const TRIES: u32 = 10_000;

/// A file in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// When its run folder was begun; the file came at most an hour later.
    pub since: Timestamp,
    /// Where it was in the tree.
    pub path: RelPath,
    /// Where it is now, below the trash folder. Names it for `restore`.
    pub stored: RelPath,
    /// In bytes.
    pub size: u64,
}

/// The trash of one root.
pub struct Trash {
    clock: Arc<dyn Clock>,
    run: Mutex<Option<Run>>,
}

#[derive(Clone)]
struct Run {
    label: String,
    begun: Timestamp,
}

impl Trash {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Trash {
        Trash { clock, run: Mutex::new(None) }
    }

    // ---- in ----------------------------------------------------------------------------------

    /// Moves a file in, under the path it had. `None` if the file is not there; never `NotFound`. Where
    /// it cannot be renamed in, it is carried in if there is a `journal` for that, and only if it is
    /// the `expected` version; one that was renamed in is still to be judged.
    pub(super) fn put(
        &self,
        root: &Root,
        journal: Option<&Stage>,
        from: &Place<'_>,
        expected: Option<&Stamp>,
        original: &RelPath,
    ) -> Result<Option<Placed>> {
        let trash = root.control(TRASH)?;
        let fail = |errno| not_in(original, errno);
        let mut stale: Option<String> = None;
        for _ in 0..4 {
            let label = self.current(&trash, stale.take()).map_err(fail)?;
            let moved = place_in(&trash, &label, from, original);
            match (moved, journal) {
                (Ok(placed), _) => return Ok(Some(placed)),
                (Err(Errno::NOENT), _) if is_gone(from) => return Ok(None),
                (Err(Errno::XDEV), Some(stage)) => {
                    return match carry_in(root, stage, &trash, &label, from, expected, original) {
                        Err(e) if e.kind == FsErrorKind::NotFound && is_gone(from) => Ok(None),
                        other => other.map(Some).map_err(of_trash),
                    };
                }
                // The run folder was emptied under us, holds a file where a folder is needed, or
                // the name is too long for another suffix: a new run folder takes it.
                (Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::EXIST), _) => {
                    stale = Some(label);
                }
                (Err(errno), _) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::NAMETOOLONG))
    }

    /// Moves a folder in that is kept for what it holds, under a label of its own: nothing in it has
    /// become old by that. `None` if it is not there. The label comes with it.
    pub(super) fn put_kept(
        &self,
        root: &Root,
        from: &Place<'_>,
        original: &RelPath,
    ) -> Result<Option<(Placed, String)>> {
        expect_movable(root, original)?;
        let trash = root.control(TRASH)?;
        let fail = |errno| not_in(original, errno);
        let label = format!("{KEPT}{}", stamp_of(self.clock.now()));
        let label = new_folder(&trash, &label).map_err(fail)?;
        match place_in(&trash, &label, from, original) {
            Ok(placed) => Ok(Some((placed, label))),
            Err(Errno::NOENT) if is_gone(from) => Ok(None),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Removes what is left of a label whose folder was given back.
    pub(super) fn drop_label(&self, root: &Root, label: &str) -> Result<()> {
        remove_folders(&root.control(TRASH)?, label, |_, _| Ok(()))
    }

    /// The label of the run folder to use; a new one if the last is `stale` or too old.
    fn current(&self, trash: &OwnedFd, stale: Option<String>) -> rustix::io::Result<String> {
        let now = self.clock.now();
        let mut current = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = current.as_ref().filter(|run| {
            stale.as_ref() != Some(&run.label) && run.begun <= now && now.since(run.begun) < RUN_MAX
        });
        if let Some(run) = usable {
            return Ok(run.label.clone());
        }
        let label = new_folder(trash, &stamp_of(now))?;
        *current = Some(Run { label: label.clone(), begun: now });
        Ok(label)
    }

    // ---- out ---------------------------------------------------------------------------------

    /// Everything in the trash, oldest first.
    pub(super) fn list(&self, root: &Root) -> Result<Vec<Trashed>> {
        let trash = root.control(TRASH)?;
        let mut found = Vec::new();
        for (label, since) in runs(&trash)? {
            let Some(since) = since.or_else(|| kept_since(&label)) else { continue };
            walk(&trash, &label, |step| {
                if let Step::Item { path: Some(path), size, .. } = step {
                    found.extend(trashed(since, &path, size));
                }
                Ok(())
            })?;
        }
        found.sort_by(|a, b| (a.since, &a.stored).cmp(&(b.since, &b.stored)));
        Ok(found)
    }

    /// Gives a file its old name again, or the name `to`. Never replaces: `Occupied` if something
    /// has the name. Returns the path and the folders to make durable.
    pub(super) fn restore(
        &self,
        root: &Root,
        stage: &Stage,
        stored: &RelPath,
        to: Option<&RelPath>,
    ) -> Result<(RelPath, Vec<OwnedFd>)> {
        let trash = root.control(TRASH)?;
        let gone = || {
            FsError::new(FsErrorKind::NotFound, format!("restore {stored}: it is not in the trash"))
        };
        let (folder, name) = stored.split_last().ok_or_else(gone)?;
        let to = match to {
            Some(to) => to.clone(),
            None => trashed(Timestamp::default(), stored, 0).ok_or_else(gone)?.path,
        };
        let dir = open_dir_below(&trash, folder.as_str())
            .map_err(|errno| failure("restore", stored, errno))?;
        let stat = look(&dir, name.as_str()).map_err(|errno| failure("restore", stored, errno))?;
        if kind_of(&stat) == FileType::Directory {
            return Err(gone());
        }
        let mut unflushed = create_parents(root, &to)?;
        let spot = root.spot(&to, "restore")?;
        let path = format!("{CONTROL_DIR}/{TRASH}/{stored}");
        let from = Place { dir: &dir, name: name.as_str(), path };
        carry::rename(root, stage, &from, &Place::of(&spot), "restore")?;
        unflushed.extend([spot.dir, dir]);
        Ok((to, unflushed))
    }

    /// Removes everything; how many files that were.
    pub(super) fn empty(&self, root: &Root) -> Result<u64> {
        self.remove_runs(root, |_| true)
    }

    /// Removes what has been here for longer than `keep` by its label and by counted time; see
    /// `ageing`. `counter` names who counts: each state database counts for itself.
    pub(super) fn age(&self, root: &Root, counter: &str, keep: Duration) -> Result<Emptied> {
        let trash = root.control(TRASH)?;
        let runs = runs(&trash)?;
        if runs.is_empty() {
            return Ok(Emptied::default());
        }
        let folder = root.control(AGEING)?;
        let name: String = counter.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let before = ledgers::read(&folder, &name);
        let now = Reading { wall: self.clock.now(), uptime: self.clock.uptime() };
        let keep = keep.saturating_add(RUN_MAX);
        let Aged { mut ledger, due, jump, is_news } =
            Ledger::age(before.as_ref(), &runs, &now, keep);
        let mut files = 0;
        let removed = due.iter().try_for_each(|label| {
            files += remove_tree(&trash, label)?;
            if look(&trash, label).err() == Some(Errno::NOENT) {
                ledger.forget(label);
            }
            Ok(())
        });
        if is_news || !due.is_empty() {
            ledgers::write(&folder, &name, &ledger)?;
        }
        removed.map(|()| Emptied { files, jump })
    }

    /// Removes what came longer ago than `keep` by its label alone, because a person says so; how
    /// many files that were. A folder whose name says no time stays.
    pub(super) fn expire(&self, root: &Root, now: Timestamp, keep: Duration) -> Result<u64> {
        let keep = keep.saturating_add(RUN_MAX);
        self.remove_runs(root, |since| since.is_some_and(|since| now.since(since) > keep))
    }

    fn remove_runs(&self, root: &Root, old: impl Fn(Option<Timestamp>) -> bool) -> Result<u64> {
        let trash = root.control(TRASH)?;
        let mut files = 0;
        for (label, since) in runs(&trash)? {
            if old(since) {
                files += remove_tree(&trash, &label)?;
            }
        }
        Ok(files)
    }
}

/// What an ageing removed, and what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    pub files: u64,
    /// Nothing is removed because of it.
    pub jump: Option<ClockJump>,
}

fn is_gone(file: &Place<'_>) -> bool {
    look(file.dir, file.name).err() == Some(Errno::NOENT)
}

fn not_in(original: &RelPath, errno: Errno) -> FsError {
    let why = std::io::Error::from(errno);
    of_trash(FsError::new(error_kind(errno), format!("move {original} to the trash: {why}")))
}

/// Whatever is missing or taken, it is not the caller's own item.
fn of_trash(error: FsError) -> FsError {
    match error.kind {
        FsErrorKind::NotFound | FsErrorKind::Occupied => {
            FsError::new(FsErrorKind::Io, error.context)
        }
        _ => error,
    }
}

/// Where a file went.
pub(crate) struct Placed {
    pub(super) dir: OwnedFd,
    pub(super) name: String,
    /// It is a copy of the expected version, whose original is gone.
    pub(super) carried: bool,
    /// Folders in which a folder was made.
    made_in: Vec<OwnedFd>,
}

impl Placed {
    /// The folders to make durable.
    pub(super) fn into_unflushed(self) -> Vec<OwnedFd> {
        let mut unflushed = self.made_in;
        unflushed.push(self.dir);
        unflushed
    }
}

fn place_in(
    trash: &OwnedFd,
    label: &str,
    from: &Place<'_>,
    original: &RelPath,
) -> rustix::io::Result<Placed> {
    let Some((parent, name)) = original.split_last() else { return Err(Errno::INVAL) };
    let (dir, made_in) = create_folders(trash, label, &parent)?;
    for stored in stored_names(&name) {
        match rename_noreplace(from.dir, from.name, &dir, &stored) {
            Ok(()) => return Ok(Placed { dir, name: stored, carried: false, made_in }),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// `place_in` where the disk does not rename into the trash.
fn carry_in(
    root: &Root,
    stage: &Stage,
    trash: &OwnedFd,
    label: &str,
    from: &Place<'_>,
    expected: Option<&Stamp>,
    original: &RelPath,
) -> Result<Placed> {
    let fail = |errno| failure("move to the trash", original, errno);
    let (parent, name) = original.split_last().ok_or_else(|| fail(Errno::INVAL))?;
    let (dir, made_in) = create_folders(trash, label, &parent).map_err(fail)?;
    // The original is removed before anybody else could do this.
    for folder in &made_in {
        flush_one(folder, root.fd()).map_err(fail)?;
    }
    flush_one(trash, root.fd()).map_err(fail)?;
    let run = match parent.is_root() {
        true => format!("{CONTROL_DIR}/{TRASH}/{label}"),
        false => format!("{CONTROL_DIR}/{TRASH}/{label}/{parent}"),
    };
    for stored in stored_names(&name) {
        let to = Place { dir: &dir, name: &stored, path: format!("{run}/{stored}") };
        match carry::file(root, stage, from, expected, &to) {
            Ok(_) => return Ok(Placed { dir, name: stored, carried: true, made_in }),
            Err(e) if e.kind == FsErrorKind::Occupied => {}
            Err(e) => return Err(e),
        }
    }
    Err(fail(Errno::EXIST))
}

/// The names under which a file may be kept, in the order in which they are tried.
fn stored_names(name: &Name) -> impl Iterator<Item = String> {
    let first = if split_version(name.as_str()).is_some() { 1 } else { 0 };
    let versions = (first..TRIES).filter(move |v| first == 1 || *v != 1);
    versions.map(move |version| match version {
        0 => name.as_str().to_owned(),
        _ => format!("{name}~{version}"),
    })
}

/// Opens the folder for a path in a run folder, making what is missing. The folders in which
/// something was made are to be made durable.
fn create_folders(
    trash: &OwnedFd,
    label: &str,
    parent: &RelPath,
) -> rustix::io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let whole = if parent.is_root() { label.to_owned() } else { format!("{label}/{parent}") };
    match open_dir_below(trash, &whole) {
        Err(Errno::NOENT) if !parent.is_root() => {}
        other => return Ok((other?, Vec::new())),
    }
    let mut unflushed = vec![rustix::io::fcntl_dupfd_cloexec(trash, 0)?];
    let mut dir = open_dir_below(trash, label)?;
    for component in parent.components() {
        let made = match fs::mkdirat(&dir, component, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno),
        };
        let below = open_dir_below(&dir, component)?;
        let above = std::mem::replace(&mut dir, below);
        if made {
            unflushed.push(above);
        }
    }
    Ok((dir, unflushed))
}

/// Makes the folders above a path of the tree that are missing.
fn create_parents(root: &Root, path: &RelPath) -> Result<Vec<OwnedFd>> {
    let mut unflushed = Vec::new();
    let mut at = RelPath::root();
    for component in path.parent().unwrap_or_default().components() {
        let name = Name::new(component)
            .map_err(|e| FsError::new(FsErrorKind::BadName, format!("restore {path}: {e}")))?;
        at = at.join(&name);
        unflushed.extend(root.create_dir(&at)?.1);
    }
    Ok(unflushed)
}

/// What a path below the trash folder says.
fn trashed(since: Timestamp, stored: &RelPath, size: u64) -> Option<Trashed> {
    let (_, original) = stored.as_str().split_once('/')?;
    let (folder, name) = RelPath::new(original).ok()?.split_last()?;
    let name = match split_version(name.as_str()) {
        Some(plain) => Name::new(plain).ok()?,
        None => name,
    };
    Some(Trashed { since, path: folder.join(&name), stored: stored.clone(), size })
}

/// The name before a version suffix.
fn split_version(name: &str) -> Option<&str> {
    let (plain, number) = name.rsplit_once('~')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !plain.is_empty()).then_some(plain)
}

/// The folders in the trash, each with the time in its label, if that is one.
fn runs(trash: &OwnedFd) -> Result<Vec<(String, Option<Timestamp>)>> {
    let fail = |errno| failure("read", "the trash", errno);
    let mut found = BTreeSet::new();
    for item in fs::Dir::read_from(trash).map_err(fail)? {
        let item = item.map_err(fail)?;
        match item.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found.into_iter().map(|label| (label.clone(), time_of(&label))).collect())
}

/// When a folder with a label that never ages out came in.
fn kept_since(label: &str) -> Option<Timestamp> {
    time_of(label.strip_prefix(KEPT)?)
}

fn stamp_of(at: Timestamp) -> String {
    let second = jiff::Timestamp::from_second(at.seconds()).unwrap_or(jiff::Timestamp::MIN);
    second.to_zoned(jiff::tz::TimeZone::UTC).strftime(STAMP_FORMAT).to_string()
}

/// Makes a folder that nobody else has, and says its label.
fn new_folder(trash: &OwnedFd, stamp: &str) -> rustix::io::Result<String> {
    for number in 1..=TRIES {
        let label = format!("{stamp}-{number}");
        match fs::mkdirat(trash, &label, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => return made.map(|()| label),
        }
    }
    Err(Errno::EXIST)
}

/// Another file system, or the root of another pair, stays where it is.
fn expect_movable(root: &Root, folder: &RelPath) -> Result<()> {
    walk(root.fd(), folder.as_str(), |step| match step {
        Step::FolderEnd { path } if path.ends_with(CONTROL_END) => Err(Errno::BUSY),
        Step::Item { .. } | Step::FolderEnd { .. } => Ok(()),
    })
    .map_err(|error| match error.kind {
        FsErrorKind::Denied => {
            let what = "another file system, or the root of another pair";
            FsError::new(error.kind, format!("{folder} holds {what}: it stays where it is"))
        }
        _ => error,
    })
}

fn time_of(label: &str) -> Option<Timestamp> {
    let (stamp, _) = label.split_once('-')?;
    let at = jiff::civil::DateTime::strptime(STAMP_FORMAT, stamp).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_seconds(at.timestamp().as_second()))
}

// ---- walking -----------------------------------------------------------------------------------

/// What a walk through the trash comes by, folders after what is in them.
enum Step<'a> {
    /// Anything that is not a folder; `path` where that is text.
    Item {
        dir: &'a OwnedFd,
        name: &'a CStr,
        path: Option<RelPath>,
        size: u64,
    },
    FolderEnd {
        path: &'a str,
    },
}

/// Walks one run folder without recursion, following nothing. If the run folder is no folder, it
/// is left alone.
fn walk(
    trash: &OwnedFd,
    label: &str,
    mut visit: impl FnMut(Step<'_>) -> rustix::io::Result<()>,
) -> Result<()> {
    let mut pending = vec![(label.to_owned(), false)];
    while let Some((path, done)) = pending.pop() {
        let fail = |errno| failure("go through the trash at", &path, errno);
        if done {
            visit(Step::FolderEnd { path: &path }).map_err(fail)?;
            continue;
        }
        let dir = match open_dir_below(trash, &path) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            // Another user's, on a folder that several share.
            Err(Errno::ACCESS | Errno::PERM) if path == label => continue,
            Err(errno) => return Err(fail(errno)),
        };
        pending.push((path.clone(), true));
        for item in fs::Dir::read_from(&dir).map_err(fail)? {
            let item = item.map_err(fail)?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) =
                fs::statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, fs::StatxFlags::BASIC_STATS)
            else {
                continue;
            };
            let text = name.to_str().ok().map(|name| format!("{path}/{name}"));
            match (kind_of(&stat), text) {
                (FileType::Directory, Some(below)) => pending.push((below, false)),
                (FileType::Directory, None) => {}
                (_, text) => {
                    let path = text.and_then(|text: String| RelPath::new(&text).ok());
                    let size = stat.stx_size;
                    visit(Step::Item { dir: &dir, name, path, size }).map_err(fail)?;
                }
            }
        }
    }
    Ok(())
}

/// Removes a run folder and all in it; how many files that were.
fn remove_tree(trash: &OwnedFd, label: &str) -> Result<u64> {
    let mut files = 0;
    remove_folders(trash, label, |dir, name| {
        files += 1;
        ignore_missing(fs::unlinkat(dir, name, AtFlags::empty()))
    })?;
    Ok(files)
}

/// Removes the folders of a run folder that are empty once each file was dealt with.
fn remove_folders(
    trash: &OwnedFd,
    label: &str,
    mut deal: impl FnMut(&OwnedFd, &CStr) -> rustix::io::Result<()>,
) -> Result<()> {
    walk(trash, label, |step| match step {
        Step::Item { dir, name, .. } => deal(dir, name),
        Step::FolderEnd { path } => {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let outcome = match parent {
                "" => fs::unlinkat(trash, name, AtFlags::REMOVEDIR),
                _ => open_dir_below(trash, parent)
                    .and_then(|dir| fs::unlinkat(dir, name, AtFlags::REMOVEDIR)),
            };
            // Something came in meanwhile: it stays.
            match outcome {
                Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
                other => ignore_missing(other),
            }
        }
    })
}

fn ignore_missing(outcome: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
