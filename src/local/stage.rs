//! The stage: where files are written before anybody sees them.
//!
//! Owns the names in `.foldsync/stage`. A file being written is `KEY.part`; a complete one is
//! `KEY.INODE`. While it is exchanged, its name also tells both versions, so that what a kill leaves
//! under it is known without any record to be the new version, the old one, or an edit that was
//! displaced; also on a disk that gives other inode numbers after a remount. Never unlinks a file that
//! a user wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::attributes::{set_mode, set_modified};
use super::carry::{self, Place};
use super::look::{kind_of, look, stat_of, time_of};
use super::root::{Root, failure};
use super::trash::{Placed, Trash};
use super::{FsError, FsErrorKind, Leftover, Result, Sealed, StageKey};
use crate::tree::path::CONTROL_DIR;
use crate::tree::{HashAlgo, Hasher, ItemId, Name, RelPath, Stamp};

/// Written bytes that may wait for a flush while a file grows, and when it is complete. More would
/// make a shared flush slow for everybody.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;
const SHARED_FLUSH_BYTES_MAX: u64 = 4 << 20;
/// What is read at once of a file that is gone on with.
const HASH_BYTES: usize = 256 << 10;

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

/// The name while the file is exchanged for the version `over`, so that a kill right after the exchange
/// leaves the old version under a name that says that it is only that. It tells both versions, because
/// numbers may be others after a remount. `number` is that of the sealed file, or 0 (no file has that)
/// for the place where the old version waits while two names cannot be exchanged at once.
pub(super) fn exchange_name(sealed: &Sealed, number: u64, over: &Stamp) -> String {
    let old_number = match over.item {
        ItemId::Inode { ino, .. } => ino.to_string(),
        ItemId::Key(_) | ItemId::Unproven => "any".to_owned(),
    };
    let name = sealed_name(sealed.key, number);
    format!("{name}.{old_number}.{}.{}", version_name(over), version_name(&sealed.stamp))
}

fn version_name(stamp: &Stamp) -> String {
    format!("{}.{}", stamp.rev.modified().unwrap_or_default(), stamp.size)
}

/// What a file in the stage is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staged {
    /// What was written here, complete or not.
    Ours,
    /// The version that was to be replaced. It belongs into the trash.
    Replaced,
    /// Something else that was displaced.
    Displaced,
}

struct StagedFile {
    name: String,
    key: StageKey,
    what: Staged,
}

impl StagedFile {
    /// `None` for a name that is not one of the stage's. `numbers_last`: whether the number in the name
    /// is still that of the file.
    fn judge(name: &str, stat: &Statx, numbers_last: bool) -> Option<StagedFile> {
        let mut parts = name.split('.');
        let key = StageKey(parts.next()?.parse().ok()?);
        let number = parts.next()?;
        let versions: Vec<&str> = parts.collect();
        let what = match (number, versions.as_slice()) {
            // Only what is exchanged for something is ever another file than the one that we wrote.
            ("part", _) => Staged::Ours,
            (_, []) if number.parse::<u64>().ok()? > 0 && numbers_last => {
                Staged::by_number(number, stat)
            }
            (_, []) if number.parse::<u64>().ok()? > 0 => Staged::Ours,
            (_, [old_number, old_time, old_size, new @ ..]) => {
                let is_old = is_version(&[*old_time, *old_size], stat)
                    && (!numbers_last || is_number(old_number, stat) || *old_number == "any");
                let is_new = is_version(new, stat);
                match (numbers_last && is_number(number, stat), is_old) {
                    (true, _) => Staged::Ours,
                    (false, true) => Staged::Replaced,
                    // The new version, most likely: the trash takes it, in case it is not.
                    (false, false) if !numbers_last && is_new => Staged::Replaced,
                    (false, false) => Staged::Displaced,
                }
            }
            _ => Staged::Displaced,
        };
        Some(StagedFile { name: name.to_owned(), key, what })
    }
}

impl Staged {
    /// A name without versions, as it is sealed. Earlier builds exchanged files under such a name.
    fn by_number(number: &str, stat: &Statx) -> Staged {
        if is_number(number, stat) { Staged::Ours } else { Staged::Displaced }
    }
}

fn is_number(number: &str, stat: &Statx) -> bool {
    number == stat.stx_ino.to_string()
}

/// Whether the file has that time and size.
fn is_version(version: &[&str], stat: &Statx) -> bool {
    version == [time_of(stat.stx_mtime).to_string(), stat.stx_size.to_string()]
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

    /// Goes on with a file that was not finished, at its end. `None` if there is none, or if it has no
    /// byte or more than `max`.
    pub(super) fn reopen(
        &self,
        root: &Root,
        key: StageKey,
        max: u64,
        algo: HashAlgo,
    ) -> Result<Option<(Part, Hasher)>> {
        let dir = root.control(&self.folder)?;
        let name = part_name(key);
        let fail = |errno| failure("resume", &name, errno);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match fs::openat(&dir, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(fail)?,
        };
        let stat = stat_of(&fd).map_err(fail)?;
        // A file with a second name somewhere is not written to.
        let is_ours = kind_of(&stat) == FileType::RegularFile && stat.stx_nlink == 1;
        if !is_ours || stat.stx_size == 0 || stat.stx_size > max {
            return Ok(None);
        }
        let mut part = Part { dir, file: File::from(fd), key, written: 0, unflushed: 0 };
        let mut hasher = Hasher::new(algo);
        let mut buffer = vec![0; HASH_BYTES];
        loop {
            let length = part.file.read(&mut buffer).map_err(|e| part.broken(&e))?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            part.written += length as u64;
        }
        // Whether they were made durable is not known.
        part.unflushed = part.written;
        Ok(Some((part, hasher)))
    }
}

impl Part {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.written
    }

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

    /// Ends writing. A small file is not durable yet: it comes back for that. What the disk does not
    /// keep of mode and time is left out.
    pub(super) fn seal(self, root: &Root, mtime: Option<i64>) -> Result<Unflushed<Sealed>> {
        let fail = |errno| failure("seal", part_name(self.key), errno);
        set_mode(&self.file, root.new_file_mode()).map_err(fail)?;
        if let Some(mtime) = mtime {
            set_modified(&self.file, mtime).map_err(fail)?;
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
        Ok((Sealed { key: self.key, stamp, number: inode }, unflushed))
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
    fn files(&self, root: &Root, dir: &OwnedFd) -> rustix::io::Result<Vec<StagedFile>> {
        let mut files = Vec::new();
        for item in fs::Dir::read_from(dir)? {
            let item = item?;
            let Ok(name) = item.file_name().to_str() else { continue };
            match look(dir.as_fd(), name) {
                Ok(stat) => files.extend(StagedFile::judge(name, &stat, root.numbers_last())),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(files)
    }

    /// All files, or those of one key, with the folder that they are in.
    fn find(&self, root: &Root, key: Option<StageKey>) -> Result<(OwnedFd, Vec<StagedFile>)> {
        let dir = root.control(&self.folder)?;
        let mut files =
            self.files(root, &dir).map_err(|errno| failure("read", "the stage", errno))?;
        files.retain(|file| key.is_none_or(|key| file.key == key));
        Ok((dir, files))
    }

    /// Removes what was staged; the version that it replaced, if a kill left that here, goes to the
    /// trash. A displaced file stays, as an error: it may be the only copy.
    pub(crate) fn discard(
        &self,
        root: &Root,
        trash: &Trash,
        key: StageKey,
    ) -> Result<Unflushed<()>> {
        let (dir, files) = self.find(root, Some(key))?;
        let mut unflushed = Vec::new();
        for file in &files {
            match file.what {
                Staged::Ours => remove(&dir, file)?,
                Staged::Replaced => unflushed.extend(self.save(root, trash, &dir, file)?),
                Staged::Displaced => {}
            }
        }
        match files.iter().find(|file| file.what == Staged::Displaced) {
            None => Ok(((), unflushed)),
            Some(StagedFile { name, .. }) => {
                let context = format!("discard {name}: it is a file that a user wrote");
                Err(FsError::new(FsErrorKind::Changed, context))
            }
        }
    }

    /// One for each key, in order.
    pub(super) fn leftovers(&self, root: &Root) -> Result<Vec<Leftover>> {
        let mut found = BTreeMap::new();
        for file in self.find(root, None)?.1 {
            let known = found.entry(file.key).or_insert(Leftover {
                key: file.key,
                displaced: false,
                resumable: true,
            });
            known.displaced |= file.what == Staged::Displaced;
            known.resumable &= file.name == part_name(file.key);
        }
        Ok(found.into_values().collect())
    }

    /// Gives a displaced file a name in the tree. Returns the folder to make durable.
    pub(super) fn restore(&self, root: &Root, key: StageKey, to: &RelPath) -> Result<OwnedFd> {
        let (dir, files) = self.find(root, Some(key))?;
        let Some(file) = files.iter().find(|file| file.what == Staged::Displaced) else {
            let context = format!("restore {to}: nothing was displaced by operation {}", key.0);
            return Err(FsError::new(FsErrorKind::NotFound, context));
        };
        let spot = root.spot(to, "restore")?;
        let from = self.place(&dir, &file.name);
        carry::rename(root, self, &from, &Place::of(&spot), "restore")?;
        Ok(spot.dir)
    }

    pub(super) fn place<'a>(&self, dir: &'a OwnedFd, name: &'a str) -> Place<'a> {
        Place { dir, name, path: format!("{CONTROL_DIR}/{}/{name}", self.folder) }
    }

    /// Removes what was staged and saves everything else into the trash: for a stage whose records
    /// are lost.
    pub(crate) fn clear(&self, root: &Root, trash: &Trash) -> Result<Vec<OwnedFd>> {
        let mut unflushed = carry::recover(root, self, trash)?;
        let (dir, files) = self.find(root, None)?;
        for file in &files {
            match file.what {
                Staged::Ours => remove(&dir, file)?,
                Staged::Replaced | Staged::Displaced => {
                    unflushed.extend(self.save(root, trash, &dir, file)?);
                }
            }
        }
        Ok(unflushed)
    }

    /// Moves a file that is not ours into the trash; the path that it had is not known any more.
    fn save(
        &self,
        root: &Root,
        trash: &Trash,
        dir: &OwnedFd,
        file: &StagedFile,
    ) -> Result<Vec<OwnedFd>> {
        let name = Name::new(&format!("displaced-{}", file.key.0)).expect("digits and letters");
        let (from, original) = (self.place(dir, &file.name), RelPath::root().join(&name));
        let placed = trash.put(root, Some(self), &from, None, &original)?;
        Ok(placed.map_or_else(Vec::new, Placed::into_unflushed))
    }
}

fn remove(dir: &OwnedFd, file: &StagedFile) -> Result<()> {
    match fs::unlinkat(dir, &file.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failure("discard", &file.name, errno)),
    }
}
