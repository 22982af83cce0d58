//! What a plan is made of: operations, each with its reason, and what a plan does not do and why.

use serde::{Deserialize, Serialize};

use crate::tree::names::NameProblem;
use crate::tree::{Content, Name, NodeId, Placement, Side};

/// One step on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Mkdir {
        at: Placement,
    },
    /// Upload on the remote side, download on the local side: a new file at `at`, or a new version
    /// of the file that is there. Only a download may be of content that nobody has read yet.
    Transfer {
        at: Placement,
        content: Content,
    },
    Move {
        to: Placement,
    },
    /// Gives the occupant of a name a temporary one, so that somebody else can have the name.
    Park,
    /// To the trash on the local side. A folder is deleted only when it is empty.
    Delete,
    /// That side's version takes this name and becomes a file of its own. On the remote side only
    /// where that is the local root of another pair.
    KeepBoth {
        copy: Name,
    },
    /// Reads the file only to know its hash.
    Learn,
}

/// Why an operation is planned. Shown to people by `plan`, `history` and `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    New(Side),
    Edited(Side),
    Moved(Side),
    Deleted(Side),
    /// Both sides edited the file; the policy chose, or both versions are kept.
    BothEdited,
    /// Both sides renamed it; the remote name is kept, or the one that both ends choose.
    BothMoved,
    /// That side deleted it, but the other one had changed it: kept.
    KeptChange {
        deleted_on: Side,
    },
    /// A folder that is needed by something that is kept in it.
    NeededByContent,
    /// Something else has, or is about to have, this name.
    NameTaken,
    /// It lost its name, and a conflict copy beside it has its content already.
    HasCopy,
    /// A person rejected the other version.
    Chosen,
    /// One-way mode: the destination is made like the source again.
    Mirrored,
    /// The two sides may be equal; reading will tell.
    Compare,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub node: NodeId,
    pub side: Side,
    pub action: Action,
    pub why: Why,
}

/// A node that only local has and a node that only the remote has are the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    pub keep: NodeId,
    pub newcomer: NodeId,
}

/// Why something that diverges gets no operation until a person or the other side changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReason {
    Name(NameProblem),
    /// Another item has the same name as far as the other side can tell.
    Collides {
        with: NodeId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub node: NodeId,
    /// The side that cannot hold it.
    pub side: Side,
    pub reason: HoldReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrakeReason {
    /// More than the allowed share of the files, or more than the allowed number.
    TooManyDeletes,
    /// The other side's root lost all its entries.
    RootEmptied,
    /// More files than allowed would get another content.
    TooManyChanges,
}

impl BrakeReason {
    pub const ALL: [BrakeReason; 3] =
        [BrakeReason::TooManyDeletes, BrakeReason::RootEmptied, BrakeReason::TooManyChanges];

    /// As it is recorded and told.
    pub fn word(self) -> &'static str {
        match self {
            BrakeReason::TooManyDeletes => "too-many-deletes",
            BrakeReason::RootEmptied => "root-emptied",
            BrakeReason::TooManyChanges => "too-many-changes",
        }
    }

    pub fn from_word(word: &str) -> Option<BrakeReason> {
        BrakeReason::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

/// Deletions or replacements on one side that a person must approve first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The side on which it would happen.
    pub side: Side,
    pub reason: BrakeReason,
    /// Everything that would be deleted or replaced, files and folders, sorted: what an approval
    /// covers.
    pub nodes: Vec<NodeId>,
    pub files: u64,
}

/// A node that cannot go on until something else does, which no operation of the plan brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub node: NodeId,
    pub side: Side,
    /// What everything waits for in the end; the node itself, if reading another one must tell.
    pub holder: NodeId,
    /// A name is needed that is taken; not only a folder that is missing or not yet empty.
    pub for_name: bool,
}

/// What can be done now. What it unblocks appears in the next plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Pure bookkeeping. A plan with binds has nothing else: apply them, then plan again.
    pub binds: Vec<Bind>,
    /// In any order, at most one for each node.
    pub ops: Vec<Op>,
    /// Nodes that need an operation which cannot run yet.
    pub waiting: usize,
    pub holds: Vec<Hold>,
    pub brakes: Vec<Brake>,
}
