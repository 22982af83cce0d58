//! Holds back deletions that look like an accident: too many, or a whole root.
//!
//! Counts everything that is to be gone, not only what could be deleted now, so that a large
//! deletion cannot slip through in portions. Moves are not deletions here by construction.

use crate::tree::{Kind, NodeId, Side};

use super::target::Target;
use super::{Brake, BrakeReason};

/// Below this number of files no share is too large.
const FILES_MIN: u64 = 10;
/// Below this number, earlier deletions are not counted in: a small tree may change a lot in a day.
const RECENT_MIN: u64 = 100;

pub(super) fn brakes(target: &Target<'_>) -> Vec<Brake> {
    if target.constraints.brake.lifted {
        return Vec::new();
    }
    target.acting().iter().filter_map(|side| brake(target, *side)).collect()
}

fn brake(target: &Target<'_>, side: Side) -> Option<Brake> {
    let trees = target.trees;
    let is_doomed = |id: &NodeId| trees.facet(side, *id).is_some();
    let nodes: Vec<NodeId> = target
        .fates
        .iter()
        .filter(|(id, fate)| fate.is_none() && !target.constraints.approved.contains(id))
        .map(|(id, _)| *id)
        .filter(is_doomed)
        .collect();
    let files = nodes.iter().filter(|id| trees.kind(**id) == Kind::File).count() as u64;
    let reason = if is_root_emptied(target, side.other(), &nodes) {
        BrakeReason::RootEmptied
    } else if is_too_many(target, side, files) {
        BrakeReason::TooManyDeletes
    } else {
        return None;
    };
    Some(Brake { side, reason, nodes, files })
}

fn is_too_many(target: &Target<'_>, side: Side, files: u64) -> bool {
    let base = target.trees.base_files();
    if exceeds(target, files, base) {
        return true;
    }
    // SF-15: the same in small portions.
    let recent = target.constraints.recent_deletes[side as usize];
    files > 0 && files + recent >= RECENT_MIN && exceeds(target, files + recent, base + recent)
}

fn exceeds(target: &Target<'_>, files: u64, base: u64) -> bool {
    let limits = target.constraints.brake;
    let base = u128::from(base);
    let over_share = limits.share_percent.is_some_and(|percent| {
        files >= FILES_MIN && u128::from(files) * 100 > base * u128::from(percent)
    });
    over_share || limits.count.is_some_and(|count| files > count)
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
