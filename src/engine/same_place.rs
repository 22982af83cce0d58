//! Where the remote is the local root of another pair, that pair makes the same changes by other
//! means: what one end moves, the other one may have made anew. What is then the same thing at the
//! same place on both sides is one node, whatever the items were before.
//!
//! Without this each end would carry out once more what the other one has just done.

use super::Engine;
use crate::plan::{Action, Mode, Op, Why};
use crate::tree::{Content, Facet, NodeId, Side};

/// What the two occupants of one place are to each other.
enum Twins {
    Same,
    /// Reading these will tell.
    Unread(Vec<(Side, NodeId)>),
    Different,
}

impl Engine {
    /// Whether the other end does the same as this one, at the same time.
    pub(super) fn faces_a_peer(&self) -> bool {
        self.peer && self.settings.mode == Mode::TwoWay
    }

    /// Pairs up what is the same at the same place. Returns what has to be read for that; `None` if
    /// it is not known yet what is where.
    pub(super) fn match_by_place(&mut self) -> Option<Vec<Op>> {
        if !self.faces_a_peer() {
            return Some(Vec::new());
        }
        let mut reads: Vec<(Side, NodeId)> = Vec::new();
        let busy = self.busy_nodes();
        let is_still = self.flights.is_empty() && self.looks.iter().all(Option::is_none);
        loop {
            reads.clear();
            let mut changed = false;
            let divergent: Vec<NodeId> = self.trees.divergent().iter().copied().collect();
            for ours in divergent {
                let Some(theirs) = self.twin(ours) else { continue };
                if busy.contains(&ours) || busy.contains(&theirs) {
                    continue;
                }
                match self.twins(ours, theirs) {
                    Twins::Same if !is_still => return None,
                    Twins::Same => {
                        self.pair_up(ours, theirs);
                        changed = true;
                    }
                    Twins::Unread(unread) => reads.extend(unread),
                    Twins::Different => {}
                }
            }
            if !changed {
                break;
            }
        }
        reads.sort_unstable_by_key(|(side, node)| (*node, *side));
        reads.dedup_by_key(|(_, node)| *node);
        let read = |(side, node)| Op { node, side, action: Action::Learn, why: Why::Compare };
        Some(reads.into_iter().map(read).collect())
    }

    /// The other node that the remote has where local has this one.
    fn twin(&self, ours: NodeId) -> Option<NodeId> {
        let facet = self.trees.facet(Side::Local, ours)?;
        let theirs = self.trees.occupant(Side::Remote, facet.at())?;
        let is_one_sided = |node, side| self.trees.facet(side, node).is_none();
        // What each has on one side only is for the planner, which also knows versions.
        let is_new = is_one_sided(ours, Side::Remote) && is_one_sided(theirs, Side::Local);
        let is_parked = |side, node| self.trees.facet(side, node).is_none_or(is_parked);
        (theirs != ours
            && !is_new
            && self.trees.kind(ours) == self.trees.kind(theirs)
            && !is_parked(Side::Local, ours)
            && !is_parked(Side::Remote, theirs))
        .then_some(theirs)
    }

    fn twins(&self, ours: NodeId, theirs: NodeId) -> Twins {
        let content = |side, node| self.trees.facet(side, node).map(|facet| *facet.content());
        let (here, there) = (content(Side::Local, ours), content(Side::Remote, theirs));
        let (Some(here), Some(there)) = (here, there) else { return Twins::Different };
        match (here, there) {
            (Content::Dir, Content::Dir) => Twins::Same,
            (Content::Is(here), Content::Is(there)) if here == there => Twins::Same,
            (here, there) if here.size() != there.size() => Twins::Different,
            (Content::Is(_), Content::Is(_)) => Twins::Different,
            (here, there) => {
                let sides = [(Side::Local, ours, here), (Side::Remote, theirs, there)];
                let unread = sides.into_iter().filter(|(_, _, content)| content.is_unread());
                Twins::Unread(unread.map(|(side, node, _)| (side, node)).collect())
            }
        }
    }

    fn pair_up(&mut self, ours: NodeId, theirs: NodeId) {
        self.racy.exchange(Side::Remote, ours, theirs);
        self.trees.pair_up(ours, theirs);
    }
}

fn is_parked(facet: &Facet) -> bool {
    facet.parked.is_some()
}
