//! The reason that an operation carries. Looks back at what changed; decides nothing.

use crate::tree::{NodeId, Side};

use super::Why;
use super::target::{Bytes, Claim, Goal, Target};

/// Why a node is made on a side that does not have it.
pub(super) fn create(target: &Target<'_>, id: NodeId, goal: &Goal, side: Side) -> Why {
    if target.trees.base(id).is_none() {
        Why::New(side.other())
    } else if is_one_way(target) {
        Why::Mirrored
    } else if goal.revived {
        Why::NeededByContent
    } else {
        Why::KeptChange { deleted_on: side }
    }
}

/// Why a node gets another place on a side.
pub(super) fn relocate(target: &Target<'_>, id: NodeId, goal: &Goal, side: Side) -> Why {
    let facet = target.trees.facet(side, id);
    let given_back = facet.is_some_and(|facet| facet.at() == &goal.at);
    if given_back || goal.claim == Claim::Copy {
        return Why::NameTaken;
    }
    let moved = |side| {
        let base = target.trees.base(id)?;
        Some(target.trees.facet(side, id)?.at() != &base.at)
    };
    match (moved(side), moved(side.other())) {
        (Some(false), _) => Why::Moved(side.other()),
        (Some(true), Some(true)) if is_one_way(target) => Why::Moved(side.other()),
        (Some(true) | None, _) if is_one_way(target) => Why::Mirrored,
        (Some(true) | None, _) => Why::BothMoved,
    }
}

/// Why a side's content is replaced by the other's.
pub(super) fn replace(target: &Target<'_>, id: NodeId, side: Side) -> Why {
    if target.constraints.chosen.contains_key(&id) {
        return Why::Chosen;
    }
    let edited = |side| {
        let base = target.trees.base(id)?;
        Some(target.trees.facet(side, id)?.content() != &base.content)
    };
    match (edited(side), edited(side.other())) {
        (Some(false), _) => Why::Edited(side.other()),
        (Some(true) | None, _) if is_one_way(target) => Why::Mirrored,
        (Some(true) | None, _) => Why::BothEdited,
    }
}

pub(super) fn delete(target: &Target<'_>, id: NodeId, side: Side) -> Why {
    if target.surplus.contains(&id) {
        return Why::HasCopy;
    }
    match target.trees.base(id) {
        Some(_) => Why::Deleted(side.other()),
        None => Why::Mirrored,
    }
}

/// Whether a file's content differs in a way that needs an operation.
pub(super) fn needs_bytes(goal: &Goal) -> bool {
    match goal.bytes {
        Bytes::Agreed => false,
        Bytes::Take(_) | Bytes::KeepBoth { .. } => true,
    }
}

fn is_one_way(target: &Target<'_>) -> bool {
    target.constraints.mode.source().is_some()
}
