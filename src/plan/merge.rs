//! Merges base, local and remote into the target: existence, placement and content, each on its own.
//!
//! Looks at one node at a time and, for "a moved folder carries its subtree", at the folders above
//! it. Whether the result is a tree is for `repair`.

use std::collections::{HashMap, HashSet};

use crate::tree::{Content, Facet, Node, NodeId, Register, Side, Trees};

use super::target::{Bytes, Claim, Goal, Same, Stance, Target, same};
use super::{ConflictPolicy, Constraints, peer};

/// What a side did to a file's content since base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Same,
    Edited,
    /// Nobody read it since it changed, and the size is that of base.
    Unsure,
}

pub(super) fn merge<'a>(
    trees: &'a Trees,
    constraints: &'a Constraints<'a>,
    subjects: impl Iterator<Item = NodeId>,
) -> Target<'a> {
    let mut carried = Carried { trees, known: HashMap::new() };
    let fates = subjects
        .filter_map(|id| Some((id, fate(id, trees.get(id)?, constraints, &mut carried))))
        .collect();
    Target { trees, constraints, fates, surplus: HashSet::new() }
}

/// Existence: tables A and B by their last row and column, table C by its first.
fn fate(
    id: NodeId,
    node: &Node,
    constraints: &Constraints<'_>,
    carried: &mut Carried<'_>,
) -> Option<Goal> {
    if let Some(source) = constraints.mode.source() {
        return mirrored(node, source, constraints.mode.deletes());
    }
    match (node.base.as_deref(), &node.local, &node.remote) {
        (_, None, None) => None,
        (None, Some(local), None) => Some(one_sided(local, Side::Local)),
        (None, None, Some(remote)) => Some(one_sided(remote, Side::Remote)),
        (Some(base), Some(local), None) => {
            deleted_elsewhere(base, local, Side::Local, || carried.by(Side::Local, id))
        }
        (Some(base), None, Some(remote)) => {
            deleted_elsewhere(base, remote, Side::Remote, || carried.by(Side::Remote, id))
        }
        (base, Some(local), Some(remote)) => {
            let chosen = constraints.chosen.get(&id).copied();
            let mut goal = two_sided(base, local, remote, constraints, chosen);
            if goal.claim == Claim::Leading
                && constraints.faces_a_peer()
                && has_moved(base, local)
                && peer::place(carried.trees, id) == Side::Local
            {
                (goal.at, goal.claim) = (local.at().clone(), Claim::Yielding);
            }
            Some(goal)
        }
    }
}

/// Only one side has it, and it stays.
fn one_sided(facet: &Facet, side: Side) -> Goal {
    let claim = match side {
        Side::Local => Claim::Yielding,
        Side::Remote => Claim::Leading,
    };
    let mut goal = Goal::new(facet.at(), claim);
    // An upload states what it sends, so local content is read first. A download need not know.
    if side == Side::Local && facet.content().is_unread() {
        goal.stance = Stance::Learn(Side::Local);
    }
    goal
}

/// One side deleted it: gone, unless the other side touched it.
fn deleted_elsewhere(
    base: &Register,
    facet: &Facet,
    side: Side,
    carried: impl FnOnce() -> bool,
) -> Option<Goal> {
    let kept = || one_sided(facet, side);
    if facet.at() != &base.at || carried() {
        return Some(kept());
    }
    match changed(base, facet.content()) {
        Change::Same => None,
        Change::Edited => Some(kept()),
        Change::Unsure => Some(Goal { stance: Stance::Learn(side), certain: false, ..kept() }),
    }
}

/// Both sides have it.
fn two_sided(
    base: Option<&Register>,
    local: &Facet,
    remote: &Facet,
    constraints: &Constraints<'_>,
    chosen: Option<Side>,
) -> Goal {
    let moved = |facet| has_moved(base, facet);
    let (at, claim) = match (moved(local), moved(remote)) {
        (false, false) => (remote.at(), Claim::Unmoved),
        (true, false) => (local.at(), Claim::Yielding),
        (false, true) | (true, true) => (remote.at(), Claim::Leading),
    };
    let mut goal = Goal::new(at, claim);
    let in_place = !moved(local) && !moved(remote);
    match (content(base, local.content(), remote.content(), in_place), chosen) {
        (Verdict::Agreed, _) => {}
        (Verdict::Take(_) | Verdict::Conflict, Some(side)) => goal.bytes = Bytes::Take(side),
        (Verdict::Take(side), None) => goal.bytes = Bytes::Take(side),
        (Verdict::Learn(side), _) => goal.stance = Stance::Learn(side),
        (Verdict::Conflict, None) => settle_conflict(&mut goal, constraints, local, remote),
    }
    goal
}

fn has_moved(base: Option<&Register>, facet: &Facet) -> bool {
    base.is_none_or(|base| facet.at() != &base.at)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Agreed,
    Take(Side),
    Learn(Side),
    Conflict,
}

/// The content of a file that both sides have: the inner part of table A.
fn content(base: Option<&Register>, local: &Content, remote: &Content, in_place: bool) -> Verdict {
    let change = |content| base.map_or(Change::Edited, |base| changed(base, content));
    if same(local, remote) == Same::Yes {
        return Verdict::Agreed;
    }
    if local.is_unread() {
        return Verdict::Learn(Side::Local);
    }
    match (change(local), change(remote)) {
        (Change::Same, Change::Same) => Verdict::Agreed,
        (Change::Same, Change::Edited) => Verdict::Take(Side::Remote),
        // A download compares while it stages. What was moved must not be sent at all.
        (Change::Same, Change::Unsure) if in_place => Verdict::Take(Side::Remote),
        (Change::Same, Change::Unsure) => Verdict::Learn(Side::Remote),
        (Change::Edited, Change::Same) => Verdict::Take(Side::Local),
        (Change::Edited, Change::Edited) if same(local, remote) == Same::No => Verdict::Conflict,
        (Change::Edited, Change::Edited | Change::Unsure) => Verdict::Learn(Side::Remote),
        (Change::Unsure, Change::Same | Change::Edited | Change::Unsure) => {
            Verdict::Learn(Side::Local)
        }
    }
}

fn changed(base: &Register, content: &Content) -> Change {
    // A base that nobody read proves nothing: whatever is there now counts as an edit.
    if base.content.is_unread() {
        return Change::Edited;
    }
    match same(&base.content, content) {
        Same::Yes => Change::Same,
        Same::No => Change::Edited,
        Same::Unsure => Change::Unsure,
    }
}

fn settle_conflict(goal: &mut Goal, constraints: &Constraints<'_>, local: &Facet, remote: &Facet) {
    let keeps_name = match winner(constraints.conflict, local, remote) {
        Some(side) => {
            goal.bytes = Bytes::Take(side);
            return;
        }
        None if constraints.faces_a_peer() => peer::content(local, remote),
        None => Ok(Side::Remote),
    };
    match keeps_name {
        Ok(side) => goal.bytes = Bytes::KeepBoth { loser: side.other() },
        Err(unread) => goal.stance = Stance::Learn(unread),
    }
}

/// Which side a policy prefers; `None`: both, also where the sides do not say what it asks for.
fn winner(policy: ConflictPolicy, local: &Facet, remote: &Facet) -> Option<Side> {
    let times = || Some((local.rev.modified()?, remote.rev.modified()?));
    let sizes = (local.content().size(), remote.content().size());
    let greater =
        |(l, r): (i64, i64)| (l != r).then_some(if l > r { Side::Local } else { Side::Remote });
    match policy {
        ConflictPolicy::KeepBoth => None,
        ConflictPolicy::Local => Some(Side::Local),
        ConflictPolicy::Remote => Some(Side::Remote),
        ConflictPolicy::Newer => greater(times()?),
        ConflictPolicy::Older => greater(times()?).map(Side::other),
        ConflictPolicy::Larger if sizes.0 == sizes.1 => None,
        ConflictPolicy::Larger if sizes.0 > sizes.1 => Some(Side::Local),
        ConflictPolicy::Larger => Some(Side::Remote),
    }
}

/// One-way modes: the source's state, and nothing of the destination's but what a backup leaves.
fn mirrored(node: &Node, source: Side, deletes: bool) -> Option<Goal> {
    match (node.facet(source), node.facet(source.other())) {
        (None, None) => None,
        (None, Some(_)) if deletes => None,
        (None, Some(left)) => Some(Goal::new(left.at(), Claim::Yielding)),
        (Some(ours), None) => Some(Goal { claim: Claim::Leading, ..one_sided(ours, source) }),
        (Some(ours), Some(_)) => {
            let mut goal = Goal::new(ours.at(), Claim::Leading);
            match mirrored_content(node, source) {
                Verdict::Agreed => {}
                Verdict::Take(_) | Verdict::Conflict => goal.bytes = Bytes::Take(source),
                Verdict::Learn(side) => goal.stance = Stance::Learn(side),
            }
            Some(goal)
        }
    }
}

/// The source's bytes count. An upload has to know them, and is only made if they differ; a download
/// compares by itself, so only what is here has to be known.
fn mirrored_content(node: &Node, source: Side) -> Verdict {
    let (Some(local), Some(remote)) = (&node.local, &node.remote) else { return Verdict::Agreed };
    let local_unread = local.content().is_unread();
    match (same(local.content(), remote.content()), source) {
        (Same::Yes, _) => Verdict::Agreed,
        (Same::No | Same::Unsure, Side::Local) if local_unread => Verdict::Learn(Side::Local),
        (Same::No, Side::Local) => Verdict::Take(Side::Local),
        (Same::Unsure, Side::Local) => Verdict::Learn(Side::Remote),
        (Same::Unsure, Side::Remote) if local_unread => Verdict::Learn(Side::Local),
        (Same::No | Same::Unsure, Side::Remote) => Verdict::Take(Side::Remote),
    }
}

/// Which folders lie in a moved one that the other side deleted: a moved folder carries its subtree.
struct Carried<'a> {
    trees: &'a Trees,
    known: HashMap<(Side, NodeId), bool>,
}

impl Carried<'_> {
    /// Whether a folder above `id`, by base, was moved on `side` and is gone on the other side.
    fn by(&mut self, side: Side, id: NodeId) -> bool {
        let mut seen = Vec::new();
        let mut at = self.trees.base(id).map(|base| base.at.parent);
        let carried = loop {
            let Some(folder) = at.filter(|folder| *folder != NodeId::ROOT) else { break false };
            if let Some(known) = self.known.get(&(side, folder)) {
                break *known;
            }
            let Some(base) = self.trees.base(folder) else { break false };
            if self.trees.has(side.other(), folder) {
                break false;
            }
            // Base need not be a tree: an entry made before the answer is known ends a cycle.
            self.known.insert((side, folder), false);
            seen.push(folder);
            if self.trees.facet(side, folder).is_some_and(|facet| facet.at() != &base.at) {
                break true;
            }
            at = Some(base.at.parent);
        };
        self.known.extend(seen.into_iter().map(|folder| ((side, folder), carried)));
        carried
    }
}
