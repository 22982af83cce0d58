//! Lets the numbers of items that are gone be used again, so that a process that lives for months
//! does not grow with every file that ever was. Decides nothing about files.

use std::collections::BTreeSet;

use super::Engine;
use crate::tree::NodeId;

impl Engine {
    /// Between cycles, once so many numbers are unused that the pass over all is worth while. A
    /// number that anything still speaks of stays unused.
    pub(super) fn reclaim(&mut self) {
        let at_rest = self.flights.is_empty()
            && self.looks.iter().all(Option::is_none)
            && self.ready.is_empty()
            && !self.is_tidying();
        if !at_rest || !self.trees.is_reclaim_due() {
            return;
        }
        self.forget_the_gone();
        let spoken_of = self.spoken_of();
        self.trees.reclaim(&spoken_of);
    }

    /// What is noted of an item for its next look or try is of no use once the item is gone.
    fn forget_the_gone(&mut self) {
        let trees = &self.trees;
        let lives = |node: NodeId| node == NodeId::ROOT || trees.get(node).is_some();
        self.racy.retain(lives);
        self.listing_attempts.retain(|(_, node), _| lives(*node));
        self.moved_away.retain(|node| lives(*node));
        self.unsettled.retain(|node, _| lives(*node));
        self.unsure.retain(|node, _| lives(*node));
        self.after_flight.retain(|node, _| lives(*node));
        self.relied_on.retain(|node, count| *count > 0 && lives(*node));
        if let Some(sweep) = &mut self.sweep {
            sweep.retain(lives);
        }
    }

    /// Every node that something outside of the trees names, there or not.
    fn spoken_of(&self) -> BTreeSet<NodeId> {
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        nodes.extend(self.dirty.iter().flatten());
        nodes.extend(self.blind.keys().map(|(_, node)| node));
        nodes.extend(self.blocked.keys().map(|(_, dir, _)| dir));
        nodes.extend(self.unsure.values().flatten().map(|(_, dir)| dir));
        nodes.extend(self.after_flight.values().flatten().map(|(_, dir)| dir));
        nodes.extend(self.kept_copies.keys());
        nodes.extend(self.kept_copies.values().map(|(_, at)| at.parent));
        nodes.extend(self.moving.keys());
        nodes.extend(self.moving.values().map(|at| at.parent));
        nodes.extend(self.arriving.keys());
        nodes.extend(self.sessions.keys());
        nodes.extend(self.parts.keys());
        nodes.extend(self.unseen.keys());
        nodes.extend(self.troubles.keys());
        nodes.extend(self.half_done.keys());
        nodes.extend(&self.not_empty);
        nodes.extend(&self.approved);
        nodes.extend(self.attempts.keys());
        nodes.extend(self.changes.keys());
        nodes.extend(self.blocked_ops.iter().map(|op| &op.node));
        nodes.extend(self.last_plan.brakes.iter().flat_map(|brake| &brake.nodes));
        nodes
    }
}
