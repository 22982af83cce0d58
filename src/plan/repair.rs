//! Makes the target a legal tree: parents for everything, no cycles, one node to a place.
//!
//! In this order. What is the same thing on both sides is bound instead, and then nothing else is
//! planned until the bind is done.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::tree::{Facet, Kind, NodeId, Placement, Side};

use super::kept::Found;
use super::names::{Copies, Occupants, composed};
use super::target::{Claim, Goal, Same, Stance, Target, same};
use super::{Bind, Mode, kept, peer};

pub(super) fn repair(target: &mut Target<'_>) -> Vec<Bind> {
    revive_parents(target);
    break_cycles(target);
    let mut binds = match target.constraints.mode.source() {
        Some(source) => take_over(target, source),
        None => made_again(target),
    };
    if !binds.is_empty() {
        return binds;
    }
    let clashes = clashes(target);
    binds.extend(clashes.iter().filter_map(|clash| decide(target, &clash.nodes)));
    binds.extend(spelled_alike(target, &clashes));
    if binds.is_empty() {
        rename_losers(target, clashes);
    }
    binds
}

// ---- parents -----------------------------------------------------------------------------

/// Folders that are to be gone, but have something kept in them, stay.
fn revive_parents(target: &mut Target<'_>) {
    for certain in [true, false] {
        let mut needed: Vec<NodeId> = target
            .goals()
            .filter(|(_, goal)| goal.certain == certain)
            .map(|(_, goal)| goal.at.parent)
            .collect();
        while let Some(folder) = needed.pop() {
            needed.extend(revive(target, folder, certain));
        }
    }
}

/// Returns the folder that is needed next.
fn revive(target: &mut Target<'_>, folder: NodeId, certain: bool) -> Option<NodeId> {
    if folder == NodeId::ROOT || target.is_agreed(folder) {
        return None;
    }
    if let Some(Some(goal)) = target.fates.get_mut(&folder) {
        if !certain || goal.certain {
            return None;
        }
        goal.certain = true;
        goal.stance = Stance::Act;
        return Some(goal.at.parent);
    }
    let node = target.trees.get(folder)?;
    let (facet, claim) = match (&node.remote, &node.local) {
        (Some(remote), _) => (remote, Claim::Leading),
        (None, Some(local)) => (local, Claim::Yielding),
        (None, None) => return None,
    };
    let stance = if certain { Stance::Act } else { Stance::Wait };
    let goal = Goal { certain, stance, revived: true, ..Goal::new(facet.at(), claim) };
    let above = goal.at.parent;
    target.fates.insert(folder, Some(goal));
    Some(above)
}

// ---- cycles ------------------------------------------------------------------------------

/// In each cycle, the lowest node that only one side, mostly local, asked to move goes back to its
/// place on the other one. That side's own tree has no cycle, so there is one.
fn break_cycles(target: &mut Target<'_>) {
    let mut counts = None;
    loop {
        let mut changed = false;
        let cycles = find_cycles(target);
        if counts.is_none() && target.faces_a_peer() {
            counts = peer::side_of_cycles(target, &cycles);
        }
        let side = counts.unwrap_or(Side::Remote);
        for cycle in cycles {
            let yielding = cycle.into_iter().filter_map(|id| {
                let at = target.trees.facet(side, id)?.at();
                (target.goal(id)?.at != *at).then(|| (id, at.clone()))
            });
            let Some((id, at)) = yielding.min() else { continue };
            if let Some(Some(goal)) = target.fates.get_mut(&id) {
                goal.at = at;
                goal.claim = match side {
                    Side::Local => Claim::Yielding,
                    Side::Remote => Claim::Leading,
                };
                changed = true;
            }
        }
        if !changed {
            return;
        }
        revive_parents(target);
    }
}

fn find_cycles(target: &Target<'_>) -> Vec<Vec<NodeId>> {
    let mut seen_in: HashMap<NodeId, NodeId> = HashMap::new();
    let mut cycles = Vec::new();
    for (start, _) in target.goals().filter(|(id, _)| target.is_dir(*id)) {
        let mut walk = Vec::new();
        let mut at = start;
        while at != NodeId::ROOT && !seen_in.contains_key(&at) {
            seen_in.insert(at, start);
            walk.push(at);
            let Some(place) = target.place(at) else { break };
            at = place.parent;
        }
        if seen_in.get(&at) == Some(&start)
            && let Some(from) = walk.iter().position(|id| *id == at)
            && target.place(at).is_some()
        {
            cycles.push(walk.split_off(from));
        }
    }
    cycles
}

// ---- names -------------------------------------------------------------------------------

/// One-way modes: what only the destination has at the place of something new is the same thing in
/// another version, not something to delete first.
fn take_over(target: &mut Target<'_>, source: Side) -> Vec<Bind> {
    let mut binds = Vec::new();
    let mut undecided = Vec::new();
    let trees = target.trees;
    for (id, goal) in target.goals().filter(|(id, _)| target.only_side(*id) == Some(source)) {
        let Some(there) = trees.occupant(source.other(), &goal.at) else { continue };
        let is_kin = trees.kind(there) == trees.kind(id);
        if !is_kin || target.only_side(there) != Some(source.other()) {
            continue;
        }
        if target.is_busy(id) || target.is_busy(there) {
            undecided.push(there);
            continue;
        }
        binds.push(match source {
            Side::Local => Bind { keep: id, newcomer: there },
            Side::Remote => Bind { keep: there, newcomer: id },
        });
    }
    // A busy folder may not be listed yet: what is below the other one is not extra until it is.
    while let Some(id) = undecided.pop() {
        let Some(facet) = trees.facet(source.other(), id) else { continue };
        if target.only_side(id) == Some(source.other()) {
            let goal = Goal { stance: Stance::Wait, ..Goal::new(facet.at(), Claim::Yielding) };
            target.fates.insert(id, Some(goal));
        }
        undecided.extend(trees.children(source.other(), id).map(|(_, child)| child));
    }
    binds
}

/// What was deleted on one side and made again there before the deletion reached the other side, as
/// when deletions are held and a person brings the files back, is one thing that was edited.
fn made_again(target: &Target<'_>) -> Vec<Bind> {
    let trees = target.trees;
    let bind = |id: NodeId, goal: &Goal| {
        let side = target.only_side(id).filter(|_| trees.base(id).is_none())?;
        let there = trees.occupant(side.other(), &goal.at)?;
        let is_doomed = target.fates.get(&there).is_some_and(Option::is_none);
        let is_kin = trees.kind(there) == trees.kind(id) && trees.base(there).is_some();
        let can = !target.is_busy(id) && !target.is_busy(there);
        (is_doomed && is_kin && can).then_some(match side {
            Side::Local => Bind { keep: id, newcomer: there },
            Side::Remote => Bind { keep: there, newcomer: id },
        })
    };
    target.goals().filter_map(|(id, goal)| bind(id, goal)).collect()
}

/// A place that more than one node claims.
struct Clash {
    /// Without an agreed occupant, which keeps the place against everybody.
    nodes: Vec<NodeId>,
    has_agreed: bool,
}

fn clashes(target: &Target<'_>) -> Vec<Clash> {
    let mut last: HashMap<&Placement, NodeId> = HashMap::new();
    let mut groups: BTreeMap<&Placement, Clash> = BTreeMap::new();
    let of = |id| Clash { nodes: vec![id], has_agreed: false };
    for (id, goal) in target.goals().filter(|(id, _)| !target.is_agreed(*id)) {
        if let Some(other) = last.insert(&goal.at, id) {
            groups.entry(&goal.at).or_insert_with(|| of(other)).nodes.push(id);
        }
        if has_lent_its_name(target, id, goal) {
            groups.entry(&goal.at).or_insert_with(|| of(id)).has_agreed = true;
        }
    }
    groups.into_values().collect()
}

/// An agreed node is where it should be on both sides. It can only be in the way of one that it got
/// the name from, and that wants it back.
fn has_lent_its_name(target: &Target<'_>, id: NodeId, goal: &Goal) -> bool {
    Side::BOTH.into_iter().any(|side| {
        let is_parked = |facet: &Facet| facet.parked.is_some();
        target.trees.facet(side, id).is_some_and(is_parked)
            && target.trees.occupant(side, &goal.at).is_some_and(|other| target.is_agreed(other))
    })
}

/// What two nodes at one place, one on each side, are to each other.
enum Kinship {
    Equal,
    /// Two versions of one file: as if it had been edited on both sides.
    Versions,
    Unread,
    Strangers,
}

fn kinship(target: &Target<'_>, local: NodeId, remote: NodeId) -> Kinship {
    let trees = target.trees;
    if trees.kind(local) != trees.kind(remote) {
        return Kinship::Strangers;
    }
    let (Some(ours), Some(theirs)) =
        (trees.facet(Side::Local, local), trees.facet(Side::Remote, remote))
    else {
        return Kinship::Strangers;
    };
    let is_new = trees.base(local).is_none() && trees.base(remote).is_none();
    match same(ours.content(), theirs.content()) {
        Same::Yes => Kinship::Equal,
        Same::Unsure | Same::No if target.constraints.mode != Mode::TwoWay => Kinship::Versions,
        Same::Unsure => Kinship::Unread,
        // With a base, one of the two would pass for the version that the other came from.
        Same::No if is_new => Kinship::Versions,
        Same::No => Kinship::Strangers,
    }
}

/// Binds the first pair that is one thing. Makes everybody wait where only reading will tell.
fn decide(target: &mut Target<'_>, nodes: &[NodeId]) -> Option<Bind> {
    let on = |target: &Target<'_>, side| -> Vec<NodeId> {
        let can = |id: &&NodeId| target.only_side(**id) == Some(side) && !target.is_busy(**id);
        nodes.iter().filter(can).copied().collect()
    };
    for keep in on(target, Side::Local) {
        for newcomer in on(target, Side::Remote) {
            let certain = |id| target.goal(id).is_some_and(|goal| goal.certain);
            match kinship(target, keep, newcomer) {
                Kinship::Equal | Kinship::Versions if certain(keep) && certain(newcomer) => {
                    return Some(Bind { keep, newcomer });
                }
                Kinship::Unread => read_both(target, keep, newcomer),
                Kinship::Equal | Kinship::Versions | Kinship::Strangers => {}
            }
        }
    }
    None
}

fn read_both(target: &mut Target<'_>, local: NodeId, remote: NodeId) {
    for (id, side) in [(local, Side::Local), (remote, Side::Remote)] {
        let unread = target.trees.facet(side, id).is_some_and(|f| f.content().is_unread());
        if let Some(Some(goal)) = target.fates.get_mut(&id) {
            goal.stance = if unread { Stance::Learn(side) } else { Stance::Wait };
        }
    }
}

/// NM-03: one file, composed on one side and decomposed on the other. Each name is unclaimed by
/// others, so a pair that turns out not to be one thing is left as it is.
fn spelled_alike(target: &mut Target<'_>, clashes: &[Clash]) -> Vec<Bind> {
    let clashing: HashSet<NodeId> =
        clashes.iter().flat_map(|clash| clash.nodes.iter().copied()).collect();
    let mut alike: BTreeMap<(NodeId, String), Vec<NodeId>> = BTreeMap::new();
    for (id, goal) in target.goals() {
        if target.only_side(id).is_none() || target.is_busy(id) || !goal.certain {
            continue;
        }
        if let Some(name) = composed(&goal.at.name)
            && !clashing.contains(&id)
        {
            alike.entry((goal.at.parent, name)).or_default().push(id);
        }
    }
    let mut binds = Vec::new();
    for nodes in alike.into_values().filter(|nodes| nodes.len() == 2) {
        let [a, b] = nodes[..] else { continue };
        let (keep, newcomer) = match (target.only_side(a), target.only_side(b)) {
            (Some(Side::Local), Some(Side::Remote)) => (a, b),
            (Some(Side::Remote), Some(Side::Local)) => (b, a),
            (None | Some(Side::Local | Side::Remote), _) => continue,
        };
        match kinship(target, keep, newcomer) {
            Kinship::Equal => binds.push(Bind { keep, newcomer }),
            Kinship::Unread => read_both(target, keep, newcomer),
            Kinship::Versions | Kinship::Strangers => {}
        }
    }
    binds
}

/// Everybody but the first gets the name of a conflict copy, once it is clear that all stay.
fn rename_losers(target: &mut Target<'_>, clashes: Vec<Clash>) {
    if clashes.is_empty() {
        return;
    }
    let mut occupants = Occupants::new(target);
    let mut copies = Copies::new(target);
    for mut clash in clashes {
        let open = |id: &NodeId| {
            target.is_busy(*id) || target.goal(*id).is_none_or(|goal| goal.stance != Stance::Act)
        };
        if clash.nodes.iter().any(open) {
            wait(target, &clash.nodes);
            continue;
        }
        clash.nodes.sort_by_key(|id| right_to_the_name(target, *id));
        if target.faces_a_peer() {
            match peer::by_right(target, &clash.nodes) {
                Ok(nodes) => clash.nodes = nodes,
                Err(unread) => {
                    wait(target, &clash.nodes);
                    unread.into_iter().for_each(|(id, side)| kept::read(target, id, id, side));
                    continue;
                }
            }
        }
        for loser in clash.nodes.into_iter().skip(usize::from(!clash.has_agreed)) {
            let Some(at) = target.place(loser).cloned() else { continue };
            match target.only_side(loser).map(|side| kept::find(target, loser, side)) {
                Some(Found::Copy) => {
                    target.fates.insert(loser, None);
                    target.surplus.insert(loser);
                    continue;
                }
                Some(Found::Unread(node, side)) => {
                    kept::read(target, loser, node, side);
                    continue;
                }
                Some(Found::Nothing) | None => {}
            }
            let name = copies.name(target, &mut occupants, loser, &at);
            if let Some(Some(goal)) = target.fates.get_mut(&loser) {
                goal.at.name = name;
                goal.claim = Claim::Copy;
            }
        }
    }
}

fn wait(target: &mut Target<'_>, nodes: &[NodeId]) {
    for id in nodes {
        if let Some(Some(goal)) = target.fates.get_mut(id)
            && goal.stance == Stance::Act
        {
            goal.stance = Stance::Wait;
        }
    }
}

/// Lower keeps the name: a folder against a file, then by claim. A source is never renamed, but for
/// what an earlier mode parked there.
fn right_to_the_name(target: &Target<'_>, id: NodeId) -> (bool, bool, Option<Claim>, NodeId) {
    let claim = target.goal(id).map(|goal| goal.claim);
    let yields = target.constraints.mode.source().is_some_and(|source| {
        let is_parked = |facet: &Facet| facet.parked.is_some();
        claim != Some(Claim::Leading) || target.trees.facet(source, id).is_some_and(is_parked)
    });
    (yields, target.trees.kind(id) == Kind::File, claim, id)
}
