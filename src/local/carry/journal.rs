//! What is being carried, recorded in the stage folder, so that a killed process's moves are brought to
//! their end, or undone, without a search through the tree.
//!
//! Owns the files `move-KEY` there. A record is durable before the first step and goes after the last
//! one. What is found under a record's internal names is judged by its bytes, never by numbers that
//! another mount may give: what has an equal elsewhere is removed, everything else gets its name
//! back, a visible name, or a place in the trash.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags, Statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Place, away_name, calls, copy, folder, part_name, staged_name};
use crate::local::flush::flush_one;
use crate::local::look::{kind_of, look, time_of};
use crate::local::rename::rename_noreplace;
use crate::local::root::{Root, failure, open_dir_below};
use crate::local::stage::Stage;
use crate::local::trash::{Placed, Trash};
use crate::local::{FsError, FsErrorKind, Result};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{ItemId, RelPath, Stamp};

const PREFIX: &str = "move-";
/// Two paths and little else; what is longer was not written by us.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// All paths are from the root, those in the control folder too.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// A file on its way.
    Move { from: String, to: String },
    /// A new version that is to replace another one.
    Install { staged: String, at: String, over: Over },
    /// A folder whose items go one by one.
    Folder { from: String, to: String, item: ItemId },
}

/// What has come before.
#[derive(Clone, Copy)]
pub(super) enum After<'a> {
    /// A move in this process, which has taken back the copy's name if it had one.
    Move,
    /// An exchange in this process.
    Exchange(&'a Trash),
    /// Another process, which may have come to any step.
    Kill(&'a Trash),
}

impl<'a> After<'a> {
    fn trash(self) -> Option<&'a Trash> {
        match self {
            After::Move => None,
            After::Exchange(trash) | After::Kill(trash) => Some(trash),
        }
    }
}

/// The version that is replaced, by what outlives a remount.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Over {
    mtime_ns: Option<i64>,
    size: u64,
}

impl Over {
    pub(super) fn of(stamp: &Stamp) -> Over {
        Over { mtime_ns: stamp.rev.modified(), size: stamp.size }
    }

    fn is(&self, stat: &Statx) -> bool {
        self.mtime_ns == Some(time_of(stat.stx_mtime)) && self.size == stat.stx_size
    }
}

pub(super) struct Journal<'a> {
    pub(super) root: &'a Root,
    pub(super) stage: &'a Stage,
}

/// Deals with what killed processes were carrying. The folders are to be made durable.
pub(in crate::local) fn recover(root: &Root, stage: &Stage, trash: &Trash) -> Result<Vec<OwnedFd>> {
    let journal = Journal { root, stage };
    let mut unflushed = Vec::new();
    for (key, record) in journal.records()? {
        unflushed.extend(journal.settle(key, &record, After::Kill(trash))?);
    }
    Ok(unflushed)
}

impl Journal<'_> {
    /// Records what comes, under a new key.
    pub(super) fn begin(&self, record: &Record) -> Result<u64> {
        let io = |e: std::io::Error| FsError::new(FsErrorKind::Io, format!("record a move: {e}"));
        let fail = |errno| failure("record", "a move", errno);
        let dir = self.root.control(&self.stage.folder)?;
        let key = getrandom::u64().map_err(|e| io(std::io::Error::other(e)))?;
        let text = serde_json::to_vec(record).map_err(|e| io(e.into()))?;
        let name = record_name(key);
        let mut file = std::fs::File::from(calls::create(&dir, &name).map_err(fail)?);
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        if let Err(e) = written {
            let _ = fs::unlinkat(&dir, &name, AtFlags::empty());
            return Err(match e.raw_os_error() {
                Some(code) => fail(Errno::from_raw_os_error(code)),
                None => io(e),
            });
        }
        flush_one(&dir, self.root.fd()).map_err(fail)?;
        Ok(key)
    }

    pub(super) fn end(&self, key: u64) -> Result<()> {
        let dir = self.root.control(&self.stage.folder)?;
        match calls::unlinkat(&dir, &record_name(key), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failure("forget", "a move", errno)),
        }
    }

    /// In an order in which they can be settled: files are moved within the other two.
    fn records(&self) -> Result<Vec<(u64, Record)>> {
        let fail = |errno| failure("read", "the records of moves", errno);
        let dir = self.root.control(&self.stage.folder)?;
        let mut found = Vec::new();
        for item in fs::Dir::read_from(&dir).map_err(fail)? {
            let item = item.map_err(fail)?;
            let name = item.file_name().to_str().unwrap_or_default();
            let digits = name.strip_prefix(PREFIX);
            let Some(key) = digits.and_then(|key| u64::from_str_radix(key, 16).ok()) else {
                continue;
            };
            match self.read(&dir, name)? {
                Some(record) => found.push((key, record)),
                // Torn by a power cut: nothing was begun.
                None => self.end(key)?,
            }
        }
        found.sort_by_key(|(key, record)| {
            let rank = match record {
                Record::Move { .. } => 0,
                Record::Install { .. } => 1,
                Record::Folder { .. } => 2,
            };
            (rank, *key)
        });
        Ok(found)
    }

    fn read(&self, dir: &OwnedFd, name: &str) -> Result<Option<Record>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::empty())
            .map_err(|errno| failure("read", name, errno))?;
        let mut text = Vec::new();
        std::fs::File::from(file)
            .take(RECORD_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|e| FsError::new(FsErrorKind::Io, format!("read {name}: {e}")))?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Brings what is recorded to its end or undoes it, and forgets it. The folders are to be made
    /// durable.
    pub(super) fn settle(
        &self,
        key: u64,
        record: &Record,
        after: After<'_>,
    ) -> Result<Vec<OwnedFd>> {
        let trash = after.trash();
        let mut unflushed = Vec::new();
        match record {
            Record::Move { from, to } => {
                for folder in self.folders(key, from)? {
                    unflushed.extend(self.settle_original(key, &folder, from, to, after)?);
                }
                for folder in self.folders(key, to)? {
                    self.settle_withdrawn(key, &folder, from, to)?;
                    self.drop_part(key, &folder)?;
                }
            }
            Record::Install { staged, at, over } => {
                for folder in self.folders(key, at)? {
                    self.drop_part(key, &folder)?;
                    let left = Left { key, at, staged, over, folder: &folder };
                    unflushed.extend(self.settle_replaced(&left, trash)?);
                    unflushed.extend(self.settle_new(&left, trash)?);
                }
            }
            Record::Folder { from, to, item } => folder::go_back(self, key, from, to, item)?,
        }
        self.end(key)?;
        Ok(unflushed)
    }

    /// The folder in which a record's internal names are, with its path: the one of `path`, or wherever
    /// somebody has moved it since. Only then the tree is searched.
    pub(super) fn folders(&self, key: u64, path: &str) -> Result<Vec<(OwnedFd, String)>> {
        let (parent, _) = split(path);
        match open_dir_below(self.root.fd(), parent) {
            Ok(dir) => Ok(vec![(dir, parent.to_owned())]),
            Err(Errno::NOENT | Errno::NOTDIR) => self.search(&staged_name(key)),
            Err(errno) => Err(failure("open", parent, errno)),
        }
    }

    fn search(&self, prefix: &str) -> Result<Vec<(OwnedFd, String)>> {
        let mut found = Vec::new();
        let mut pending = vec![String::new()];
        while let Some(path) = pending.pop() {
            // What cannot be read now could not be written to then.
            let Ok(dir) = open_dir_below(self.root.fd(), &path) else { continue };
            let Ok(items) = folder::names(&dir) else { continue };
            for name in items.iter().flatten() {
                let is_dir = look(&dir, name).is_ok_and(|s| kind_of(&s) == fs::FileType::Directory);
                if is_dir {
                    pending.push(folder::join(&path, name));
                }
            }
            if items.iter().flatten().any(|name| name.starts_with(prefix)) {
                found.push((dir, path));
            }
        }
        Ok(found)
    }

    fn drop_part(&self, key: u64, (dir, path): &(OwnedFd, String)) -> Result<()> {
        match calls::unlinkat(dir, &part_name(key), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failure("tidy up", path, errno)),
        }
    }

    /// An original that was out of sight has its name back, so that everything is as it was recorded
    /// last. What comes into the trash or out of the stage by a killed process stays there.
    fn settle_original(
        &self,
        key: u64,
        (dir, folder): &(OwnedFd, String),
        from: &str,
        to: &str,
        after: After<'_>,
    ) -> Result<Option<OwnedFd>> {
        let (away, name) = (away_name(key), split(from).1);
        let hidden = Place { dir, name: &away, path: folder::join(folder, &away) };
        if !is_there(&hidden)? {
            return Ok(None);
        }
        let was_killed = matches!(after, After::Kill(_));
        let has_arrived = was_killed && self.has_equal(&hidden, to)?;
        let goes_on = has_arrived && (is_control(from) || is_control(to));
        // Its own name is there as well where a link stands for half a rename.
        if goes_on || self.has_equal(&hidden, &folder::join(folder, name))? {
            self.remove(&hidden)?;
            return Ok(Some(dup(dir)?));
        }
        if has_arrived {
            self.withdraw(key, to)?;
        }
        self.give_name(key, &hidden, name)?;
        flush_one(dir, self.root.fd())
            .map_err(|errno| failure("give its name back to", from, errno))?;
        Ok(Some(dup(dir)?))
    }

    /// The copy of an original that gets its name back loses its own.
    fn withdraw(&self, key: u64, to: &str) -> Result<()> {
        for (dir, _) in self.folders(key, to)? {
            match rename_noreplace(&dir, split(to).1, &dir, &staged_name(key)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failure("take the name from", to, errno)),
            }
        }
        Ok(())
    }

    /// A copy without a name goes, unless somebody has written to it: then it has its name again.
    fn settle_withdrawn(
        &self,
        key: u64,
        (dir, folder): &(OwnedFd, String),
        from: &str,
        to: &str,
    ) -> Result<()> {
        let withdrawn = staged_name(key);
        let copy = Place { dir, name: &withdrawn, path: folder::join(folder, &withdrawn) };
        if !is_there(&copy)? {
            return Ok(());
        }
        if self.has_equal(&copy, from)? || self.has_equal(&copy, to)? {
            return self.remove(&copy);
        }
        self.give_name(key, &copy, split(to).1)
    }

    /// The old version, where two names could not be exchanged at once.
    fn settle_replaced(&self, left: &Left<'_>, trash: Option<&Trash>) -> Result<Vec<OwnedFd>> {
        let away = away_name(left.key);
        let hidden = left.place(&away);
        if !is_there(&hidden)? {
            return Ok(Vec::new());
        }
        let name = split(left.at).1;
        if self.has_equal(&hidden, &left.place(name).path)? {
            self.remove(&hidden)?;
            return Ok(vec![dup(hidden.dir)?]);
        }
        match rename_noreplace(hidden.dir, hidden.name, hidden.dir, name) {
            Ok(()) => Ok(vec![dup(hidden.dir)?]),
            // The new version has the name.
            Err(Errno::EXIST) => self.save(left, &hidden, trash),
            Err(errno) => Err(failure("give a file its name back", left.at, errno)),
        }
    }

    /// The new version, or what it was exchanged for.
    fn settle_new(&self, left: &Left<'_>, trash: Option<&Trash>) -> Result<Vec<OwnedFd>> {
        let staged = staged_name(left.key);
        let found = left.place(&staged);
        if !is_there(&found)? {
            return Ok(Vec::new());
        }
        if self.has_equal(&found, left.staged)? || self.has_equal(&found, left.at)? {
            self.remove(&found)?;
            return Ok(vec![dup(found.dir)?]);
        }
        self.save(left, &found, trash)
    }

    /// The replaced version goes to the trash; anything else is what a user wrote in the last moment,
    /// and must be seen.
    fn save(
        &self,
        left: &Left<'_>,
        found: &Place<'_>,
        trash: Option<&Trash>,
    ) -> Result<Vec<OwnedFd>> {
        let stat = found.look().map_err(|errno| failure("look at", &found.path, errno))?;
        let original = RelPath::new(left.at).ok();
        let is_file = kind_of(&stat) == fs::FileType::RegularFile;
        match (trash, original) {
            (Some(trash), Some(original)) if is_file && left.over.is(&stat) => {
                let placed = trash.put(self.root, Some(self.stage), found, None, &original)?;
                let mut unflushed = placed.map_or_else(Vec::new, Placed::into_unflushed);
                unflushed.push(dup(found.dir)?);
                Ok(unflushed)
            }
            _ => {
                let name = recovered_name(left.key, split(left.at).1);
                self.give_name(left.key, found, &name)?;
                Ok(vec![dup(found.dir)?])
            }
        }
    }

    /// Whether a file with the same bytes is at a path, durably.
    fn has_equal(&self, one: &Place<'_>, path: &str) -> Result<bool> {
        let (parent, name) = split(path);
        let fail = |errno| failure("compare with", path, errno);
        let dir = match open_dir_below(self.root.fd(), parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            other => other.map_err(fail)?,
        };
        let other = Place { dir: &dir, name, path: path.to_owned() };
        match copy::is_same(one, &other) {
            Ok(true) => {
                let file = copy::open(&other).map_err(fail)?;
                flush_one(&file.into(), self.root.fd()).map_err(fail)?;
                flush_one(&dir, self.root.fd()).map_err(fail)?;
                Ok(true)
            }
            Ok(false) | Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(false),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// A name beside where it is: the wanted one, or one that nothing else has.
    fn give_name(&self, key: u64, from: &Place<'_>, name: &str) -> Result<()> {
        let outcome = match rename_noreplace(from.dir, from.name, from.dir, name) {
            Err(Errno::EXIST) => {
                let name = recovered_name(key, name);
                rename_noreplace(from.dir, from.name, from.dir, &name)
            }
            other => other,
        };
        outcome.map_err(|errno| failure("give a name back to", &from.path, errno))
    }

    fn remove(&self, at: &Place<'_>) -> Result<()> {
        calls::unlinkat(at.dir, at.name, AtFlags::empty())
            .map_err(|errno| failure("tidy up", &at.path, errno))
    }
}

/// What an installation may have left in a folder.
struct Left<'a> {
    key: u64,
    at: &'a str,
    staged: &'a str,
    over: &'a Over,
    folder: &'a (OwnedFd, String),
}

impl<'a> Left<'a> {
    fn place(&self, name: &'a str) -> Place<'a> {
        let (dir, path) = self.folder;
        Place { dir, name, path: folder::join(path, name) }
    }
}

fn is_there(place: &Place<'_>) -> Result<bool> {
    match place.look() {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failure("look at", &place.path, errno)),
    }
}

/// Whether a path leads into the control folder, where no user looks for a file.
fn is_control(path: &str) -> bool {
    path.split('/').next() == Some(CONTROL_DIR)
}

fn record_name(key: u64) -> String {
    format!("{PREFIX}{key:016x}")
}

/// A visible name for what a user must see.
fn recovered_name(key: u64, was: &str) -> String {
    let was: String = was.chars().take(50).collect();
    format!("foldsync-recovered-{key:x}-{was}")
}

/// The folder above and the last name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn dup(dir: &OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(dir, 0).map_err(|errno| failure("use", "a folder", errno))
}
