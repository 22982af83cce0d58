//! Conflict copies that are there already: a content that loses its name gets one copy, known by its
//! bytes, however many pairs and computers find that it lost.
//!
//! A copy counts only while nothing is about to happen to it. A content whose copy is taken away
//! between the plan and its execution is still in the trash.

use crate::tree::{Content, Kind, NodeId, Placement, Side};

use super::Mode;
use super::conflict_name::{copies_start_with, is_copy_of};
use super::target::{Bytes, Same, Stance, Target, same};

/// Whether a content has a conflict copy.
pub(super) enum Found {
    Nothing,
    Copy,
    /// It may be in a copy of its size: reading that side's content of the node will tell.
    Unread(NodeId, Side),
}

/// Where the losing version has a copy, the winning one simply replaces it.
pub(super) fn recognise(target: &mut Target<'_>) {
    let lost = |(id, goal): (NodeId, &super::target::Goal)| match goal.bytes {
        Bytes::KeepBoth { loser } if goal.stance == Stance::Act => Some((id, loser)),
        Bytes::KeepBoth { .. } | Bytes::Agreed | Bytes::Take(_) => None,
    };
    let lost: Vec<(NodeId, Side)> = target.goals().filter_map(lost).collect();
    for (id, loser) in lost {
        let found = find(target, id, loser);
        if let Found::Unread(node, side) = found {
            read(target, id, node, side);
        } else if let (Found::Copy, Some(Some(goal))) = (found, target.fates.get_mut(&id)) {
            goal.bytes = Bytes::Take(loser.other());
        }
    }
}

/// Looks for a conflict copy with that side's content of a node, beside the place that it is to have.
pub(super) fn find(target: &Target<'_>, id: NodeId, side: Side) -> Found {
    let trees = target.trees;
    let (Some(goal), Some(facet)) = (target.goal(id), trees.facet(side, id)) else {
        return Found::Nothing;
    };
    if trees.kind(id) != Kind::File || target.constraints.mode != Mode::TwoWay {
        return Found::Nothing;
    }
    let (at, content) = (&goal.at, facet.content());
    let start = copies_start_with(&at.name);
    let mut unread = None;
    for there in Side::BOTH {
        for (name, copy) in trees.children_from(there, at.parent, &start) {
            if copy == id || !is_copy_of(name, &at.name) || !is_settled(target, copy, at) {
                continue;
            }
            let held = trees.facet(there, copy).map_or(Same::No, |f| same(f.content(), content));
            match held {
                Same::Yes => return Found::Copy,
                Same::Unsure => unread = unread.or(Some((copy, there))),
                Same::No => {}
            }
        }
    }
    match unread {
        None => Found::Nothing,
        Some(_) if content.is_unread() => Found::Unread(id, side),
        Some((copy, there)) if is_unread(target, there, copy) => Found::Unread(copy, there),
        Some(_) => Found::Nothing,
    }
}

fn is_unread(target: &Target<'_>, side: Side, id: NodeId) -> bool {
    target.trees.facet(side, id).map(|facet| facet.content()).is_some_and(Content::is_unread)
}

/// Whether a copy stays as it is: nobody deletes, renames or replaces it.
fn is_settled(target: &Target<'_>, copy: NodeId, of: &Placement) -> bool {
    let stays = |place: &Placement| place.parent == of.parent && is_copy_of(&place.name, &of.name);
    target.trees.kind(copy) == Kind::File
        && target.place(copy).is_some_and(stays)
        && target.goal(copy).is_none_or(|goal| goal.certain && goal.bytes == Bytes::Agreed)
}

/// Makes `waiting` wait for the reading of a node.
pub(super) fn read(target: &mut Target<'_>, waiting: NodeId, node: NodeId, side: Side) {
    let is_busy = target.is_busy(node);
    if let Some(Some(goal)) = target.fates.get_mut(&waiting) {
        goal.stance = Stance::Wait;
    }
    if let Some(Some(goal)) = target.fates.get_mut(&node)
        && !is_busy
    {
        goal.stance = Stance::Learn(side);
    }
}
