//! Holds back what looks like an accident: too many deletions, an emptied root, and, where a person
//! asked for that, too many replaced contents.
//!
//! Counts everything that is to be gone or replaced, not only what could be done now, so that a mass
//! cannot slip through in portions. Moves are neither by construction.

use crate::tree::{Kind, NodeId, Side};

use super::target::{Bytes, Target};
use super::{Brake, BrakeLimit, BrakeReason};

/// Below this number of files no share is too large.
const FILES_MIN: u64 = 10;
/// Below this number, earlier deletions or changes are not counted in: a small tree may change a lot
/// in a day.
const RECENT_MIN: u64 = 100;

pub(super) fn brakes(target: &Target<'_>) -> Vec<Brake> {
    if target.constraints.brake.lifted {
        return Vec::new();
    }
    let sides = target.acting().iter();
    sides.flat_map(|side| [deletes(target, *side), changes(target, *side)]).flatten().collect()
}

fn deletes(target: &Target<'_>, side: Side) -> Option<Brake> {
    let trees = target.trees;
    let is_doomed = |id: &NodeId| trees.facet(side, *id).is_some();
    let nodes: Vec<NodeId> = target
        .fates
        .iter()
        .filter(|(id, fate)| fate.is_none() && !target.constraints.approved.contains(id))
        .map(|(id, _)| *id)
        // Nothing is lost with it: its content is beside it.
        .filter(|id| !target.surplus.contains(id))
        .filter(is_doomed)
        .collect();
    let files = nodes.iter().filter(|id| trees.kind(**id) == Kind::File).count() as u64;
    let recent = target.constraints.recent[side as usize].deletes;
    // What was deleted is not in base any more. SF-15
    let base = trees.base_files();
    let reason = if is_root_emptied(target, side.other(), &nodes) {
        BrakeReason::RootEmptied
    } else if is_too_many(target.constraints.brake.deletes, files, base, recent, base + recent) {
        BrakeReason::TooManyDeletes
    } else {
        return None;
    };
    Some(Brake { side, reason, nodes, files })
}

/// Contents that would be replaced by an edit of the other side. SF-11, CR-26
fn changes(target: &Target<'_>, side: Side) -> Option<Brake> {
    let limit = target.constraints.brake.changes;
    if limit == BrakeLimit::NONE {
        return None;
    }
    let trees = target.trees;
    let is_replaced = |id: &NodeId| trees.facet(side, *id).is_some() && trees.base(*id).is_some();
    let nodes: Vec<NodeId> = target
        .goals()
        .filter(|(id, goal)| {
            goal.bytes == Bytes::Take(side.other()) && !target.constraints.approved.contains(id)
        })
        .map(|(id, _)| id)
        .filter(is_replaced)
        .collect();
    let files = nodes.len() as u64;
    let recent = target.constraints.recent[side as usize].changes;
    let base = trees.base_files();
    is_too_many(limit, files, base, recent, base).then_some(Brake {
        side,
        reason: BrakeReason::TooManyChanges,
        nodes,
        files,
    })
}

/// Whether `files` of `base` are too many, or are with the `recent` ones, of `base_with_recent`.
fn is_too_many(
    limit: BrakeLimit,
    files: u64,
    base: u64,
    recent: u64,
    base_with_recent: u64,
) -> bool {
    let all = files + recent;
    exceeds(limit, files, base)
        || (files > 0 && all >= RECENT_MIN && exceeds(limit, all, base_with_recent))
}

fn exceeds(limit: BrakeLimit, files: u64, base: u64) -> bool {
    let base = u128::from(base);
    let over_share = limit.share_percent.is_some_and(|percent| {
        files >= FILES_MIN && u128::from(files) * 100 > base * u128::from(percent)
    });
    over_share || limit.count.is_some_and(|count| files > count)
}

/// Whether `emptied` has nothing left at its root, where base has several entries.
fn is_root_emptied(target: &Target<'_>, emptied: Side, doomed: &[NodeId]) -> bool {
    if target.trees.has_children(emptied, NodeId::ROOT) {
        return false;
    }
    let at_root =
        |id: &NodeId| target.trees.base(*id).is_some_and(|base| base.at.parent == NodeId::ROOT);
    // With an empty root every entry of base diverges, so none is missed here.
    target.fates.keys().filter(|id| at_root(id)).count() >= 2 && doomed.iter().any(at_root)
}
