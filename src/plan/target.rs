//! The target: where every node that diverges should end up, on both sides.
//!
//! Sparse: a node without an entry is agreed, and its target is the place that it already has.
//! Holds what merge decided and what repair corrected; decides nothing itself.

use std::collections::{BTreeMap, HashSet};

use crate::tree::{Content, Kind, NodeId, Placement, Side, Trees};

use super::Constraints;

/// Who asked for a placement. The order is the order of rights to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// The remote, or the source of a one-way mode.
    Leading,
    /// Nobody moved it.
    Unmoved,
    /// Local only, or an item that a backup leaves at its destination.
    Yielding,
    /// It lost its name and got that of a conflict copy.
    Copy,
}

/// What has to happen to a file's content, apart from creating it where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    Agreed,
    /// That side's content replaces the other's.
    Take(Side),
    /// Both stay: that side's version is set aside.
    KeepBoth {
        loser: Side,
    },
}

/// Whether a node may get an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    Act,
    /// That side's content has to be read before anything else is decided.
    Learn(Side),
    /// It depends on what the reading of another node tells.
    Wait,
}

#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub(super) at: Placement,
    pub(super) claim: Claim,
    pub(super) bytes: Bytes,
    pub(super) stance: Stance,
    /// False if reading may still tell that it is to be deleted. Such a node protects the folders
    /// above it, but brings none back.
    pub(super) certain: bool,
    /// A folder that is only there for what is kept in it.
    pub(super) revived: bool,
}

impl Goal {
    pub(super) fn new(at: &Placement, claim: Claim) -> Goal {
        Goal {
            at: at.clone(),
            claim,
            bytes: Bytes::Agreed,
            stance: Stance::Act,
            certain: true,
            revived: false,
        }
    }
}

pub(super) struct Target<'a> {
    pub(super) trees: &'a Trees,
    pub(super) constraints: &'a Constraints<'a>,
    /// `None`: the node is to be gone.
    pub(super) fates: BTreeMap<NodeId, Option<Goal>>,
    /// What is to be gone because a conflict copy beside it has the same content.
    pub(super) surplus: HashSet<NodeId>,
}

impl<'a> Target<'a> {
    /// `None` if the node is to be gone, or is agreed and has no entry.
    pub(super) fn goal(&self, id: NodeId) -> Option<&Goal> {
        self.fates.get(&id)?.as_ref()
    }

    pub(super) fn goals(&self) -> impl Iterator<Item = (NodeId, &Goal)> {
        self.fates.iter().filter_map(|(id, fate)| Some((*id, fate.as_ref()?)))
    }

    /// Base, local and remote say the same of it.
    pub(super) fn is_agreed(&self, id: NodeId) -> bool {
        self.trees.get(id).is_some() && !self.trees.divergent().contains(&id)
    }

    /// Where the node should be; `None` if it should be gone.
    pub(super) fn place(&self, id: NodeId) -> Option<&Placement> {
        match self.fates.get(&id) {
            Some(fate) => fate.as_ref().map(|goal| &goal.at),
            None if self.is_agreed(id) => self.trees.base(id).map(|register| &register.at),
            None => None,
        }
    }

    /// The sides on which this mode changes anything.
    pub(super) fn acting(&self) -> &'static [Side] {
        match self.constraints.mode.source() {
            None => &[Side::Local, Side::Remote],
            Some(Side::Local) => &[Side::Remote],
            Some(Side::Remote) => &[Side::Local],
        }
    }

    /// The side that has this node while the other has not.
    pub(super) fn only_side(&self, id: NodeId) -> Option<Side> {
        match (self.trees.facet(Side::Local, id), self.trees.facet(Side::Remote, id)) {
            (Some(_), None) => Some(Side::Local),
            (None, Some(_)) => Some(Side::Remote),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    pub(super) fn is_dir(&self, id: NodeId) -> bool {
        self.trees.kind(id) == Kind::Dir
    }

    /// Whether another end decides about the same conflicts: see `peer`.
    pub(super) fn faces_a_peer(&self) -> bool {
        self.constraints.faces_a_peer()
    }

    pub(super) fn is_busy(&self, id: NodeId) -> bool {
        self.constraints.busy.contains(&id)
    }
}

/// Whether two contents are the same, as far as can be told without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Same {
    Yes,
    No,
    Unsure,
}

pub(super) fn same(a: &Content, b: &Content) -> Same {
    match (a, b) {
        (Content::Dir, Content::Dir) => Same::Yes,
        (Content::Is(a), Content::Is(b)) if a == b => Same::Yes,
        (Content::Is(_), Content::Is(_)) => Same::No,
        (Content::Unread { size: a }, Content::Unread { size: b }) if a == b => Same::Unsure,
        (Content::Unread { size }, Content::Is(known))
        | (Content::Is(known), Content::Unread { size })
            if known.size == *size =>
        {
            Same::Unsure
        }
        (Content::Unread { .. }, Content::Unread { .. } | Content::Is(_))
        | (Content::Is(_), Content::Unread { .. })
        | (Content::Dir, Content::Is(_) | Content::Unread { .. })
        | (Content::Is(_) | Content::Unread { .. }, Content::Dir) => Same::No,
    }
}
