//! What the engine asks the executor to do, and what comes back. Plain values; no I/O.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ListError;
use crate::clock::Timestamp;
use crate::remote::Locator;
use crate::store::SavedSession;
use crate::tree::{
    Content, Digest, Entry, HashAlgo, ItemId, Kind, Name, NodeId, RelPath, Side, Stamp,
};

/// Numbers operations of one state database, also over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// A place to put something: a name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub parent: Locator,
    pub name: Name,
}

impl Target {
    pub fn path(&self) -> RelPath {
        self.parent.path.join(&self.name)
    }
}

/// An item as it was last seen; the executor refuses to touch anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub locator: Locator,
    pub stamp: Stamp,
}

/// One operation, with everything that is needed to do it and nothing to decide.
#[derive(Clone, Debug)]
pub enum Task {
    Mkdir {
        side: Side,
        to: Target,
    },
    Upload {
        source: Expected,
        to: Target,
        content: Digest,
        over: Option<Expected>,
        /// An upload of this file that an earlier try began.
        saved: Option<SavedSession>,
    },
    Download {
        source: Expected,
        to: Target,
        /// `Unread`: the bytes are hashed on arrival.
        content: Content,
        over: Option<Expected>,
        /// What local has now, if it was read: equal bytes are not installed again.
        have: Option<Digest>,
        /// Where a version that slips in at the last moment is kept.
        aside: RelPath,
    },
    /// A move, a rename, a parking, or the setting aside of a version.
    Relocate {
        side: Side,
        from: Expected,
        to: Target,
    },
    Delete {
        side: Side,
        what: Expected,
        /// Where the other side had it: it must still be gone from there.
        gone: Option<Locator>,
        /// A folder may hold exactly these items, which are not synced: they are moved aside with
        /// it. `None`: it must be empty.
        rest: Option<BTreeSet<String>>,
    },
    Learn {
        side: Side,
        what: Expected,
        algo: HashAlgo,
    },
}

/// A task whose intent is durable.
#[derive(Clone, Debug)]
pub struct Job {
    pub op: OpId,
    pub node: NodeId,
    pub task: Task,
}

/// What is now there.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A folder was made, or an item has its new place.
    Placed(Entry),
    Uploaded {
        /// `None`: the remote does not say what it created; its folder must be looked at.
        entry: Option<Entry>,
        sent: u64,
        instant: bool,
        /// Before it was put in place.
        at: Timestamp,
    },
    Downloaded {
        entry: Entry,
        digest: Digest,
        received: u64,
        /// A user's version that slipped in at the last moment, and where it is now.
        kept: Option<RelPath>,
        /// When reading began.
        at: Timestamp,
    },
    /// The remote's bytes are those that local has: nothing was installed.
    Same {
        digest: Digest,
        received: u64,
        /// When reading began.
        at: Timestamp,
    },
    Deleted,
    /// A folder is gone, and what was left out in it is kept there, as people are told.
    RestAside(String),
    Learned {
        digest: Digest,
        /// When reading began.
        at: Timestamp,
    },
}

/// Why a task failed, as far as somebody decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The side is not as it was seen: look again, plan again.
    Changed,
    /// A folder that should be empty holds something.
    NotEmpty,
    /// Worth another try after a while.
    Transient,
    /// This version of this item cannot be done: permissions, name, size.
    Refused,
    /// The bytes that arrived are not the announced ones.
    Corrupt,
    /// No room on that side.
    Full,
    /// The login must be renewed by a person.
    Auth,
    /// The root is gone or is another one.
    RootLost,
}

impl FailureKind {
    /// Whether an upload that failed this way cannot be gone on with.
    pub fn ends_session(self) -> bool {
        match self {
            FailureKind::Changed
            | FailureKind::NotEmpty
            | FailureKind::Refused
            | FailureKind::Corrupt
            | FailureKind::RootLost => true,
            FailureKind::Transient | FailureKind::Full | FailureKind::Auth => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// The side that failed.
    pub side: Side,
    /// The effect is unknown: look before anything else.
    pub unknown: bool,
    /// A half-way state may stay behind: the intent is kept until it is tidied up.
    pub unfinished: bool,
    pub retry_after: Option<std::time::Duration>,
    pub message: String,
}

impl From<Failure> for ListError {
    fn from(failure: Failure) -> ListError {
        match failure.kind {
            FailureKind::RootLost => ListError::RootLost(failure.message),
            FailureKind::Auth => ListError::Auth(failure.message),
            FailureKind::Changed
            | FailureKind::NotEmpty
            | FailureKind::Transient
            | FailureKind::Refused
            | FailureKind::Corrupt
            | FailureKind::Full => ListError::Transient(failure.message),
        }
    }
}

impl Failure {
    /// For people: with the side that failed.
    pub fn told(&self) -> String {
        format!("{}: {}", self.side, self.message)
    }

    /// Whether a later try of the same download may go on with what has arrived.
    pub fn leaves_part(&self) -> bool {
        let may_pass = match self.kind {
            FailureKind::Transient | FailureKind::Auth => true,
            FailureKind::Changed
            | FailureKind::NotEmpty
            | FailureKind::Refused
            | FailureKind::Corrupt
            | FailureKind::Full
            | FailureKind::RootLost => false,
        };
        may_pass && self.side == Side::Remote
    }
}

/// What recovery must know about an operation whose process was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trace {
    /// A side's version was about to take this name and become a file of its own.
    KeepBoth {
        /// Older programs set local versions aside only, and did not say so.
        #[serde(default = "local")]
        side: Side,
        parent: NodeId,
        copy: String,
        path: String,
    },
    /// This file was about to be made, or replaced, through the stage. `part` names what is staged of
    /// it, where that can be gone on with.
    Install {
        path: String,
        #[serde(default)]
        part: Option<u64>,
    },
    /// The remote may hold something staged under this key, and a swap that was cut short.
    Upload {
        key: u64,
        parent: NodeId,
        parent_path: String,
        parent_id: Option<ItemId>,
        name: String,
        old: Option<Stamp>,
        /// What was being sent: if it is there, both sides had agreed on it.
        content: Digest,
    },
    /// The item was about to go there, perhaps in two steps.
    Move { parent: NodeId, name: String },
    /// Looking at the two sides tells everything.
    Plain,
}

fn local() -> Side {
    Side::Local
}

impl Task {
    /// The sides whose paths the task uses.
    pub fn sides(&self) -> &'static [Side] {
        match self {
            Task::Upload { .. } | Task::Download { .. } => &Side::BOTH,
            Task::Mkdir { side, .. }
            | Task::Relocate { side, .. }
            | Task::Delete { side, .. }
            | Task::Learn { side, .. } => match side {
                Side::Local => &[Side::Local],
                Side::Remote => &[Side::Remote],
            },
        }
    }

    /// Content bytes that the task is about to move; an estimate where nobody has read them.
    pub fn bytes(&self) -> u64 {
        match self {
            Task::Upload { content, .. } => content.size,
            Task::Download { content, .. } => content.size(),
            Task::Mkdir { .. }
            | Task::Relocate { .. }
            | Task::Delete { .. }
            | Task::Learn { .. } => 0,
        }
    }

    /// Whether whole subtrees change their paths by it.
    pub fn moves_folder(&self) -> bool {
        match self {
            Task::Relocate { from, .. } => from.locator.kind == Kind::Dir,
            Task::Delete { what, .. } => what.locator.kind == Kind::Dir,
            Task::Mkdir { .. }
            | Task::Upload { .. }
            | Task::Download { .. }
            | Task::Learn { .. } => false,
        }
    }
}

impl Job {
    /// The item that the job is about.
    pub fn task_path(&self) -> RelPath {
        match &self.task {
            Task::Mkdir { to, .. } | Task::Upload { to, .. } | Task::Download { to, .. } => {
                to.path()
            }
            Task::Relocate { from, .. } => from.locator.path.clone(),
            Task::Delete { what, .. } | Task::Learn { what, .. } => what.locator.path.clone(),
        }
    }

    /// Where it goes, if it goes somewhere.
    pub fn target_path(&self) -> Option<RelPath> {
        match &self.task {
            Task::Relocate { to, .. } => Some(to.path()),
            Task::Mkdir { .. }
            | Task::Upload { .. }
            | Task::Download { .. }
            | Task::Delete { .. }
            | Task::Learn { .. } => None,
        }
    }
}
