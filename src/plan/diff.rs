//! Turns a target into operations that can run now.
//!
//! No dependency graph: an operation is emitted only when nothing stands in its way, at most one
//! for each node. What blocks itself in a ring is untied by parking one occupant.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::tree::{Content, NodeId, Side};

use super::names::{Copies, Occupants};
use super::target::{Bytes, Goal, Stance, Target};
use super::{Action, Op, Wait, Why, why};

/// What a side still has to do about a node's existence and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Move,
    Delete,
}

/// What stands between a step and its execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    /// Nothing to do here now, or it depends on something that is not ours to plan.
    Elsewhere,
    Behind {
        node: NodeId,
        /// It has the name that is needed; parking it would help.
        occupies: bool,
    },
}

/// What the way from a blocked step leads to.
#[derive(Clone, Copy)]
enum End {
    /// Something that runs, or is untied.
    Runs,
    /// A node that does not move. The flag: a name on the way is taken.
    Stuck { holder: NodeId, for_name: bool },
}

pub(super) struct Diff<'a, 't> {
    target: &'t Target<'a>,
    occupants: Occupants<'a>,
    /// Made when the first copy needs a name.
    copies: Option<Copies<'a>>,
    /// Held for their names or by a brake.
    held: &'t HashSet<NodeId>,
    ops: BTreeMap<NodeId, Op>,
    waiting: HashSet<NodeId>,
    blocked: Vec<(Side, NodeId)>,
}

impl<'a, 't> Diff<'a, 't> {
    pub(super) fn new(target: &'t Target<'a>, held: &'t HashSet<NodeId>) -> Diff<'a, 't> {
        Diff {
            target,
            occupants: Occupants::new(target),
            copies: None,
            held,
            ops: BTreeMap::new(),
            waiting: HashSet::new(),
            blocked: Vec::new(),
        }
    }

    /// The operations in order, and how many nodes wait.
    pub(super) fn run(mut self) -> (Vec<Op>, usize) {
        self.decide();
        let waiting = self.waiting.iter().filter(|id| !self.ops.contains_key(id)).count();
        let mut ops: Vec<Op> = self.ops.into_values().collect();
        ops.sort_by_key(|op| (lane(&op.action), op.node));
        (ops, waiting)
    }

    /// Who waits for something that does not go out of the way by itself.
    pub(super) fn waits(mut self) -> Vec<Wait> {
        self.decide();
        // What is busy does not wait: why it is busy is known to who said so.
        let is_waiting = |id: &&NodeId| !self.ops.contains_key(id) && !self.target.is_busy(**id);
        let waiting: BTreeSet<NodeId> = self.waiting.iter().filter(is_waiting).copied().collect();
        let mut known = HashMap::new();
        let mut waits = Vec::new();
        for node in waiting {
            let sides: Vec<Side> =
                Side::BOTH.into_iter().filter(|side| self.step(*side, node).is_some()).collect();
            for side in &sides {
                if let End::Stuck { holder, for_name } = self.end_of(*side, node, &mut known) {
                    waits.push(Wait { node, side: *side, holder, for_name });
                }
            }
            if sides.is_empty() {
                waits.push(Wait { node, side: Side::Local, holder: node, for_name: false });
            }
        }
        waits
    }

    /// Follows a blocked step to what blocks it in the end.
    fn end_of(
        &mut self,
        side: Side,
        start: NodeId,
        known: &mut HashMap<(Side, NodeId), End>,
    ) -> End {
        let mut path: Vec<(NodeId, bool)> = Vec::new();
        let mut at = start;
        let mut end = loop {
            if let Some(end) = known.get(&(side, at)) {
                break *end;
            }
            // A ring is untied.
            known.insert((side, at), End::Runs);
            let standing = match self.ops.contains_key(&at) {
                true => Standing::Ready,
                false => self.standing(side, at),
            };
            match standing {
                Standing::Ready => break End::Runs,
                Standing::Elsewhere => {
                    path.push((at, false));
                    break End::Stuck { holder: at, for_name: false };
                }
                Standing::Behind { node, occupies } => {
                    path.push((at, occupies));
                    at = node;
                }
            }
        };
        for (node, occupies) in path.into_iter().rev() {
            if let End::Stuck { for_name, .. } = &mut end {
                *for_name |= occupies;
            }
            known.insert((side, node), end);
        }
        end
    }

    fn decide(&mut self) {
        for (id, fate) in &self.target.fates {
            if self.held.contains(id) || !self.needs_anything(*id, fate.as_ref()) {
                continue;
            }
            match self.next_op(*id, fate.as_ref()) {
                Some(op) => {
                    self.ops.insert(*id, op);
                }
                None => {
                    self.waiting.insert(*id);
                }
            }
        }
        self.park();
    }

    fn needs_anything(&self, id: NodeId, fate: Option<&Goal>) -> bool {
        let open = fate.is_some_and(|goal| goal.stance != Stance::Act || why::needs_bytes(goal));
        open || Side::BOTH.iter().any(|side| self.step(*side, id).is_some())
    }

    fn may_act(&self, id: NodeId) -> bool {
        let open = self.target.goal(id).is_some_and(|goal| goal.stance != Stance::Act);
        !open && !self.held.contains(&id) && !self.target.is_busy(id)
    }

    fn step(&self, side: Side, id: NodeId) -> Option<Step> {
        let fate = self.target.fates.get(&id)?;
        let facet = self.target.trees.facet(side, id);
        // A source is left alone, but for a name of ours that an earlier mode left there.
        if !self.target.acting().contains(&side) && facet.is_none_or(|f| f.parked.is_none()) {
            return None;
        }
        match (fate, facet) {
            (None, None) => None,
            (None, Some(_)) => Some(Step::Delete),
            (Some(_), None) => {
                self.target.trees.facet(side.other(), id).is_some().then_some(Step::Create)
            }
            (Some(goal), Some(facet)) => (facet.physical() != goal.at).then_some(Step::Move),
        }
    }

    fn standing(&mut self, side: Side, id: NodeId) -> Standing {
        let trees = self.target.trees;
        let behind = |node, occupies| Standing::Behind { node, occupies };
        if !self.may_act(id) {
            return Standing::Elsewhere;
        }
        match (self.step(side, id), self.target.goal(id)) {
            (None, _) | (Some(Step::Create | Step::Move), None) => Standing::Elsewhere,
            (Some(Step::Delete), _) => match trees.children(side, id).next() {
                Some((_, child)) => behind(child, false),
                None => Standing::Ready,
            },
            (Some(step @ (Step::Create | Step::Move)), Some(goal)) => {
                let parent = goal.at.parent;
                if !trees.has(side, parent) {
                    return behind(parent, false);
                }
                if step == Step::Move && self.target.is_dir(id) && trees.is_within(side, parent, id)
                {
                    return self.mover_between(side, parent, id);
                }
                match self.occupants.of(side, &goal.at, Some(id)) {
                    Some(occupant) => behind(occupant, true),
                    None => Standing::Ready,
                }
            }
        }
    }

    /// A folder that has to go into its own subtree waits for whoever leaves that subtree.
    fn mover_between(&self, side: Side, from: NodeId, folder: NodeId) -> Standing {
        let mut at = from;
        while at != folder {
            if self.step(side, at) == Some(Step::Move) {
                return Standing::Behind { node: at, occupies: false };
            }
            match self.target.trees.facet(side, at) {
                Some(facet) => at = facet.at().parent,
                None => return Standing::Elsewhere,
            }
        }
        Standing::Elsewhere
    }

    fn next_op(&mut self, id: NodeId, fate: Option<&Goal>) -> Option<Op> {
        let op = |side, action, why| Some(Op { node: id, side, action, why });
        if self.target.is_busy(id) {
            return None;
        }
        match fate.map(|goal| goal.stance) {
            Some(Stance::Learn(side)) => return op(side, Action::Learn, Why::Compare),
            Some(Stance::Wait) => return None,
            Some(Stance::Act) | None => {}
        }
        let mut sides = Side::BOTH;
        sides.sort_by_key(|side| self.step(*side, id) == Some(Step::Create));
        for side in sides {
            match self.standing(side, id) {
                Standing::Ready => return self.structural(side, id, fate),
                Standing::Behind { .. } => self.blocked.push((side, id)),
                Standing::Elsewhere => {}
            }
        }
        let goal = fate?;
        let placed = |side| self.step(side, id).is_none();
        match goal.bytes {
            Bytes::Take(from) if placed(from.other()) => {
                let content = *self.target.trees.facet(from, id)?.content();
                let action = Action::Transfer { at: goal.at.clone(), content };
                op(from.other(), action, why::replace(self.target, id, from.other()))
            }
            // The copy is to lie beside the version that keeps the name, so that goes first.
            Bytes::KeepBoth { loser } if Side::BOTH.into_iter().all(placed) => {
                let copies = self.copies.get_or_insert_with(|| Copies::new(self.target));
                let copy = copies.name(self.target, &mut self.occupants, id, &goal.at);
                op(loser, Action::KeepBoth { copy }, Why::BothEdited)
            }
            Bytes::Agreed | Bytes::Take(_) | Bytes::KeepBoth { .. } => None,
        }
    }

    fn structural(&self, side: Side, node: NodeId, fate: Option<&Goal>) -> Option<Op> {
        let step = self.step(side, node)?;
        let (action, why) = match (step, fate) {
            (Step::Create, Some(goal)) => {
                let at = goal.at.clone();
                let action = match self.target.trees.facet(side.other(), node)?.content() {
                    Content::Dir => Action::Mkdir { at },
                    content @ (Content::Is(_) | Content::Unread { .. }) => {
                        Action::Transfer { at, content: *content }
                    }
                };
                (action, why::create(self.target, node, goal, side))
            }
            (Step::Move, Some(goal)) => {
                let to = goal.at.clone();
                (Action::Move { to }, why::relocate(self.target, node, goal, side))
            }
            (Step::Delete, _) => (Action::Delete, why::delete(self.target, node, side)),
            (Step::Create | Step::Move, None) => return None,
        };
        Some(Op { node, side, action, why })
    }

    /// Follows each blocked step to what blocks it. A ring of steps never ends by itself; in it, the
    /// lowest occupant of a wanted name is parked. One ring needs one, and other rings are untied
    /// at the same time.
    fn park(&mut self) {
        let mut seen_in: HashMap<(Side, NodeId), usize> = HashMap::new();
        for (walk, (side, start)) in std::mem::take(&mut self.blocked).into_iter().enumerate() {
            let mut path: Vec<(NodeId, Option<NodeId>)> = Vec::new();
            let mut at = start;
            loop {
                if let Some(before) = seen_in.insert((side, at), walk) {
                    if before == walk {
                        self.untie(side, at, &path);
                    }
                    break;
                }
                let Standing::Behind { node, occupies } = self.standing(side, at) else { break };
                path.push((at, occupies.then_some(node)));
                at = node;
            }
        }
    }

    /// `path` ends in a ring that starts at `from`.
    fn untie(&mut self, side: Side, from: NodeId, path: &[(NodeId, Option<NodeId>)]) {
        let ring = path.iter().skip_while(|(id, _)| *id != from);
        let is_parked = |id: &NodeId| {
            self.target.trees.facet(side, *id).is_none_or(|facet| facet.parked.is_some())
        };
        let occupant = ring.filter_map(|(_, occupant)| *occupant).filter(|id| !is_parked(id)).min();
        if let Some(node) = occupant
            && !self.ops.contains_key(&node)
        {
            self.ops.insert(node, Op { node, side, action: Action::Park, why: Why::NameTaken });
        }
    }
}

/// Small operations that unblock others come first, transfers last.
fn lane(action: &Action) -> u8 {
    match action {
        Action::Mkdir { .. }
        | Action::Move { .. }
        | Action::Park
        | Action::Delete
        | Action::KeepBoth { .. } => 0,
        Action::Learn => 1,
        Action::Transfer { .. } => 2,
    }
}
