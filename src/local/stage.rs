//! The stage: where files are written before anybody sees them.
//!
//! Owns the names in `.foldsync/stage`. A file being written is `KEY.part`; a complete one is
//! `KEY.INODE`, so that a file with another inode under such a name is known, without any record, to
//! be one that was displaced. Never unlinks a file that a user wrote.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec};
use rustix::io::Errno;

use super::look::{look, stat_of};
use super::rename::rename_noreplace;
use super::root::{Root, failure};
use super::trash::{Placed, Trash};
use super::{FsError, FsErrorKind, Leftover, Result, Sealed, StageKey};
use crate::tree::{Name, RelPath};

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

pub(super) fn sealed_name(key: StageKey, inode: u64) -> String {
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
        for (_, key, displaced) in files {
            *found.entry(key).or_insert(false) |= displaced;
        }
        Ok(found.into_iter().map(|(key, displaced)| Leftover { key, displaced }).collect())
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
                let placed = trash.put(root, &dir, &name, &as_path)?;
                unflushed.extend(placed.into_iter().flat_map(Placed::into_unflushed));
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
