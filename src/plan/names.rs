//! Who has which name, as each side tells names apart, and which names a side cannot hold.
//!
//! A side whose rules nobody knows is taken to tell all names apart: its adapter or executor finds out
//! and must cope. On a side that takes different names for one, the first look at a folder costs a pass
//! over its children; everywhere else a look-up is one search.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::tree::names::NameRules;
use crate::tree::{Name, NodeId, Placement, Side, Trees};

use super::conflict_name::copy_name;
use super::target::{Goal, Target};
use super::{Constraints, Hold, HoldReason};

/// The composed form; `None` for names that are in it anyway because they are plain ASCII.
pub(super) fn composed(name: &Name) -> Option<String> {
    (!name.as_str().is_ascii()).then(|| NameRules::composed(name))
}

fn rules<'a>(constraints: &Constraints<'a>, side: Side) -> &'a NameRules {
    match side {
        Side::Local => constraints.local_names,
        Side::Remote => constraints.remote_names,
    }
}

type Folder = HashMap<String, Vec<NodeId>>;

/// Physical occupants of names.
pub(super) struct Occupants<'a> {
    trees: &'a Trees,
    constraints: &'a Constraints<'a>,
    folders: HashMap<(Side, NodeId), Folder>,
}

impl<'a> Occupants<'a> {
    pub(super) fn new(target: &Target<'a>) -> Occupants<'a> {
        Occupants { trees: target.trees, constraints: target.constraints, folders: HashMap::new() }
    }

    /// Who, apart from `but`, keeps that side from giving the name to somebody.
    pub(super) fn of(&mut self, side: Side, at: &Placement, but: Option<NodeId>) -> Option<NodeId> {
        let rules = rules(self.constraints, side);
        if !rules.takes_for_one() {
            return self.trees.occupant(side, at).filter(|id| Some(*id) != but);
        }
        let trees = self.trees;
        let folder = self.folders.entry((side, at.parent)).or_insert_with(|| {
            let mut folder = Folder::new();
            for (name, id) in trees.children(side, at.parent) {
                folder.entry(rules.fold(name)).or_default().push(id);
            }
            folder
        });
        folder.get(&rules.fold(&at.name))?.iter().copied().find(|id| Some(*id) != but)
    }
}

/// Gives out names for conflict copies that are free on both sides and in the target.
pub(super) struct Copies<'a> {
    constraints: &'a Constraints<'a>,
    bytes_max: usize,
    taken: HashSet<Placement>,
}

impl<'a> Copies<'a> {
    pub(super) fn new(target: &Target<'a>) -> Copies<'a> {
        let constraints = target.constraints;
        let bytes_max = constraints.local_names.short().min(constraints.remote_names.short());
        let taken = target.goals().map(|(_, goal)| goal.at.clone()).collect();
        Copies { constraints, bytes_max, taken }
    }

    pub(super) fn name(
        &mut self,
        target: &Target<'_>,
        occupants: &mut Occupants<'_>,
        of: NodeId,
        at: &Placement,
    ) -> Name {
        let kind = target.trees.kind(of);
        let mut attempt = 1;
        loop {
            let name =
                copy_name(&at.name, kind, self.constraints.conflict_mark, self.bytes_max, attempt);
            let place = Placement { parent: at.parent, name };
            // A side where the node has that name already is no obstacle: half of it is done.
            let free =
                Side::BOTH.iter().all(|side| occupants.of(*side, &place, Some(of)).is_none());
            if free && self.taken.insert(place.clone()) {
                return place.name;
            }
            attempt += 1;
        }
    }
}

/// What a side cannot take because of its name. It gets no operation, nor does what depends on it.
pub(super) fn holds(target: &Target<'_>, occupants: &mut Occupants<'_>) -> Vec<Hold> {
    let mut holds = BTreeMap::new();
    for side in target.acting() {
        for (id, goal) in target.goals().filter(|(_, goal)| goal.certain) {
            let facet = target.trees.facet(*side, id);
            if facet.is_some_and(|facet| facet.at().name == goal.at.name) {
                continue;
            }
            if let Err(problem) = rules(target.constraints, *side).check(&goal.at.name) {
                let reason = HoldReason::Name(problem);
                holds.entry(id).or_insert(Hold { node: id, side: *side, reason });
            }
        }
        if rules(target.constraints, *side).takes_for_one() {
            for (id, with) in collisions(target, *side, occupants) {
                let reason = HoldReason::Collides { with };
                holds.entry(id).or_insert(Hold { node: id, side: *side, reason });
            }
        }
    }
    holds.into_values().collect()
}

/// Of names that a side takes for one, the first stays: the one that is there, else the lowest id.
fn collisions(
    target: &Target<'_>,
    side: Side,
    occupants: &mut Occupants<'_>,
) -> Vec<(NodeId, NodeId)> {
    let is_there = |id: NodeId, goal: &Goal| {
        target.trees.facet(side, id).is_some_and(|facet| facet.at() == &goal.at)
    };
    let mut rivals: HashMap<(NodeId, String), Vec<(NodeId, &Goal)>> = HashMap::new();
    for (id, goal) in target.goals() {
        let name = rules(target.constraints, side).fold(&goal.at.name);
        rivals.entry((goal.at.parent, name)).or_default().push((id, goal));
    }
    let mut lost = Vec::new();
    for rivals in rivals.into_values() {
        let newcomer = rivals.iter().find(|(id, goal)| !is_there(*id, goal));
        let Some((_, newcomer)) = newcomer else { continue };
        let settled = occupants.of(side, &newcomer.at, None).filter(|id| target.is_agreed(*id));
        let bound = rivals.iter().find(|(id, goal)| is_there(*id, goal)).map(|(id, _)| *id);
        let Some(first) = settled.or(bound).or(rivals.first().map(|(id, _)| *id)) else { continue };
        let name = target.place(first).map(|place| &place.name);
        let others = rivals.iter().filter(|(id, goal)| {
            *id != first && !is_there(*id, goal) && Some(&goal.at.name) != name
        });
        lost.extend(others.map(|(id, _)| (*id, first)));
    }
    lost.sort_unstable();
    lost
}
