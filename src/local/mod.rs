//! The disk, in the engine's verbs rather than POSIX's. Every change states what it expects to find.
//!
//! `LocalFs` is the border: `OsFs` is the real disk, the simulator has its own. Nothing here decides
//! what to sync.

mod access;
pub(crate) mod attributes;
mod calls;
mod carry;
pub mod facts;
pub mod flush;
pub mod ignore;
pub(crate) mod install;
mod look;
pub mod os;
#[cfg(test)]
mod races;
mod rename;
pub mod root;
pub(crate) mod stage;
pub(crate) mod transfer;
pub mod trash;
pub mod watch;

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use crate::tree::{ContentHash, Entry, HashAlgo, Hasher, ItemId, RelPath, Stamp};
use facts::DiskFacts;

/// What went wrong on the disk, as far as somebody decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsErrorKind {
    /// Nothing is at that path.
    NotFound,
    /// Something is at that path already.
    Occupied,
    /// What is there is not what the caller expected: look again, then plan again.
    Changed,
    /// A folder that should be empty is not.
    NotEmpty,
    /// The system refuses this item: permissions, immutable, read-only.
    Denied,
    /// A name or path that this disk cannot hold.
    BadName,
    /// No space or quota left.
    Full,
    /// The root is gone or is not the root that was configured.
    RootLost,
    /// Anything else: an I/O error, too many open files. Worth another try.
    Io,
}

#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct FsError {
    pub kind: FsErrorKind,
    /// What was attempted, on which path, and the system's words.
    pub context: String,
}

impl FsError {
    pub fn new(kind: FsErrorKind, context: impl Into<String>) -> FsError {
        FsError { kind, context: context.into() }
    }
}

pub type Result<T> = std::result::Result<T, FsError>;

/// Why an item of a folder is not an entry. Its counterpart on the other side is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    Symlink,
    /// A socket, FIFO or device.
    Special,
    /// Another file system is mounted here.
    Mount,
    /// The name is not valid UTF-8, or not valid at all.
    BadName,
    /// A second item under a name that is already taken, on a remote that allows that.
    Duplicate,
    /// The item itself could not be read.
    Unreadable,
    /// The control folder of another pair, or of one that there was once.
    ControlFolder,
    /// The other side's root, which lies within this one under another path.
    OtherRoot,
    /// The name has a form that foldsync gives to items of its own.
    Reserved,
    /// A folder that a rule ignores, while a file of that name would be synced.
    Ignored,
}

impl SkipReason {
    /// What it is, for people.
    pub fn word(self) -> &'static str {
        match self {
            SkipReason::Symlink => "symbolic link",
            SkipReason::Special => "special file",
            SkipReason::Mount => "mount point",
            SkipReason::BadName => "name that is not valid text",
            SkipReason::Duplicate => "second item of the same name",
            SkipReason::Unreadable => "unreadable item",
            SkipReason::ControlFolder => "control folder of another pair",
            SkipReason::OtherRoot => "the other side's own folder",
            SkipReason::Reserved => "name reserved for foldsync's own files: rename it",
            SkipReason::Ignored => "ignored folder",
        }
    }

    /// Left out because the rules say so; everything else waits for a person.
    pub fn is_by_rule(self) -> bool {
        match self {
            SkipReason::Symlink | SkipReason::ControlFolder | SkipReason::Ignored => true,
            SkipReason::Special
            | SkipReason::OtherRoot
            | SkipReason::Mount
            | SkipReason::BadName
            | SkipReason::Duplicate
            | SkipReason::Unreadable
            | SkipReason::Reserved => false,
        }
    }

    /// Whether the folder around it can be moved without harm.
    pub fn is_movable(self) -> bool {
        match self {
            SkipReason::Mount
            | SkipReason::Unreadable
            | SkipReason::ControlFolder
            | SkipReason::OtherRoot => false,
            SkipReason::Symlink
            | SkipReason::Special
            | SkipReason::BadName
            | SkipReason::Duplicate
            | SkipReason::Reserved
            | SkipReason::Ignored => true,
        }
    }
}

/// An item that a listing saw but cannot offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// As a person may see it; escaped where the name is not text.
    pub name: String,
    pub reason: SkipReason,
}

/// A complete listing of one folder. A listing that could not be completed is an error instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The folder that was read, where the side can tell: its path may lead to another one by now.
    pub of: Option<ItemId>,
    /// Sorted by name.
    pub entries: Vec<Entry>,
    pub skipped: Vec<Skipped>,
    /// The text of the folder's ignore file, where there is one.
    pub ignore_file: Option<String>,
    /// The folder changed as it was read: what is missing here may be there.
    pub unsteady: bool,
    /// Of a remote's root: it is the local root of another pair.
    pub is_local_root: bool,
}

/// Names a staged file; unique for each operation of a state database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageKey(pub u64);

/// A file that was opened at the expected version and is read to its end.
#[async_trait]
pub trait FileReader: Send {
    /// The next bytes, at most `max`; empty at the end.
    async fn read(&mut self, max: usize) -> Result<Bytes>;
    /// Fails with `Changed` unless the open file and the path still are the expected version.
    async fn verify(&mut self) -> Result<()>;
}

/// A file being written in the stage, where no user sees it.
#[async_trait]
pub trait StageWriter: Send {
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Ends writing, sets the modification time (as `file_time` packs it) where one is given,
    /// and makes the content durable. Concurrent calls share one flush.
    async fn seal(self: Box<Self>, mtime: Option<i64>) -> Result<Sealed>;
}

/// What an earlier process left of a staged file, and how to go on with it.
pub struct Resumed {
    pub writer: Box<dyn StageWriter>,
    /// Bytes that are there.
    pub size: u64,
    /// Has seen them.
    pub hasher: Hasher,
}

/// Proof that a staged file is complete and durable. Only `StageWriter::seal` makes one.
#[derive(Debug)]
pub struct Sealed {
    pub key: StageKey,
    pub stamp: Stamp,
    /// The number that the disk gave the staged file; good for as long as this process lives.
    pub number: u64,
}

/// A staged file that a killed run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub key: StageKey,
    /// True if it holds a file that was displaced and is not the version that was to be replaced: it
    /// may be the only copy of something that a user wrote.
    pub displaced: bool,
    /// True if it is nothing but a file that was not finished, which `resume` can go on with.
    pub resumable: bool,
}

/// What `install` found in the way, apart from what it expected.
#[derive(Debug)]
pub enum Installed {
    /// The new version has the name; the expected old one, if any, is in the trash.
    Clean(Entry),
    /// The new version has the name, but the file that it displaced was not the expected one: a user
    /// wrote it in the last moment. It was given `kept_as`, next to the new version.
    DisplacedEdit { entry: Entry, kept_as: RelPath },
}

/// One root folder on a disk.
///
/// Paths never leave the root: no component is followed if it is a symbolic link. All changes are
/// durable when they return; concurrent calls share flushes.
#[async_trait]
pub trait LocalFs: Send + Sync + 'static {
    /// The identity in the root's marker file; `None` if the root has no marker. `RootLost` if the
    /// root is missing, is not a folder, or is no longer the folder that was opened.
    async fn identity(&self) -> Result<Option<String>>;
    /// Writes the marker, durably, and prepares the control folder.
    async fn claim(&self, identity: &str) -> Result<()>;
    /// Measures what the disk of a root with a marker is like. `known` is what was measured before: as
    /// far as it holds, only what may change is looked at again. Without `writes` the disk is left
    /// as it is. `None` where there is nothing to measure.
    async fn measure(&self, _known: Option<DiskFacts>, _writes: bool) -> Result<Option<DiskFacts>> {
        Ok(None)
    }
    /// Brings the control folder of a root that was claimed earlier up to date: who may use it, and
    /// what keeps other programs out of it. Done at each start, as far as that is possible.
    async fn refresh_control(&self) {}
    /// Leaves a sign, for those to whom this folder is the remote, that a pair has it as its local
    /// root and changes it on its own.
    async fn sign_as_local_root(&self) -> Result<()> {
        Ok(())
    }
    /// Bytes for which there is still room, where the file system tells.
    async fn free(&self) -> Option<u64> {
        None
    }
    /// Everything in a folder, sorted. An unreadable folder is an error, never an empty one.
    async fn list(&self, dir: &RelPath) -> Result<Listing>;
    /// `None` only if nothing at all is there; a link or special file is an error (`Denied`).
    async fn stat(&self, path: &RelPath) -> Result<Option<Entry>>;
    /// Opens a file to read it from an offset, in bytes; `Changed` if it is not the expected version.
    async fn open(
        &self,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Box<dyn FileReader>>;
    /// Reads a file to the end and verifies that it did not change meanwhile.
    async fn hash(&self, path: &RelPath, expected: &Stamp, algo: HashAlgo) -> Result<ContentHash>;

    async fn stage(&self, key: StageKey) -> Result<Box<dyn StageWriter>>;
    /// Whether staged files that were not finished are kept for `resume`.
    fn keeps_parts(&self) -> bool {
        false
    }
    /// What was staged under the key and not finished, if it is some of at most `max` bytes. Its bytes
    /// may not be the written ones after a power cut: the whole must be checked at the end.
    async fn resume(&self, _key: StageKey, _max: u64, _algo: HashAlgo) -> Result<Option<Resumed>> {
        Ok(None)
    }
    /// Puts a sealed file at `at`: in place of the version `over`, which goes to the trash, or where
    /// nothing is (`Occupied` otherwise). A file that is not `over` but sits at `at` is never
    /// replaced knowingly (`Changed`); one that slips in at the last moment is kept beside it
    /// as `aside`.
    async fn install(
        &self,
        sealed: Sealed,
        at: &RelPath,
        over: Option<&Stamp>,
        aside: &RelPath,
    ) -> Result<Installed>;
    /// Removes a staged file that will not be installed; the version that it replaced, if a kill left
    /// that in the stage, goes to the trash. Nothing there is success.
    async fn discard(&self, key: StageKey) -> Result<()>;
    /// Staged files of earlier runs.
    async fn leftovers(&self) -> Result<Vec<Leftover>>;
    /// Gives a displaced file a name in the tree again; `Occupied` if the name is taken.
    async fn restore(&self, key: StageKey, to: &RelPath) -> Result<()>;

    /// Succeeds, with the existing entry, if the folder is already there.
    async fn create_dir(&self, at: &RelPath) -> Result<Entry>;
    /// Never replaces: `Occupied` if something is at `to`. A file that is not the expected version
    /// is moved back (`Changed`). `expected` of a folder is its item only.
    async fn rename(&self, from: &RelPath, to: &RelPath, expected: &Stamp) -> Result<Entry>;
    /// Moves a file to the trash; moved back (`Changed`) if it was not the expected version.
    /// Nothing there is success.
    async fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<()>;
    /// Removes a folder if it is empty (`NotEmpty` otherwise). Nothing there is success.
    async fn remove_dir(&self, path: &RelPath) -> Result<()>;
    /// Moves a folder to the trash with all that is in it, where it does not age out; moved back
    /// (`Changed`) if it holds anything but items of these names. Says where it is, from the root;
    /// `None` if nothing was there. `NotEmpty` where this cannot be done.
    async fn set_rest_aside(
        &self,
        path: &RelPath,
        _expected: &Stamp,
        _rest: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        Err(FsError::new(FsErrorKind::NotEmpty, format!("{path} holds what is not synced")))
    }
}
