//! Two nodes that turn out to be one thing, or to have each other's half: which node is what on the
//! remote, with all that is below it.
//!
//! Keeps the invariants of `trees`, by whose means it works. Who is one thing is for others to say.

use std::collections::BTreeSet;

use super::Trees;
use crate::tree::{NodeId, Placement, Register, Side};

impl Trees {
    /// Merges `newcomer`, which only the remote has, into `keep`, which only local has.
    pub fn bind(&mut self, keep: NodeId, newcomer: NodeId) {
        let Some(facet) = self.facet(Side::Remote, newcomer).cloned() else { return };
        if self.is_moved_folder_without(Side::Local, newcomer) {
            self.keep_subtree(Side::Remote, newcomer);
        }
        let children: Vec<NodeId> =
            self.children(Side::Remote, newcomer).map(|(_, child)| child).collect();
        let agreed = self.base(newcomer).cloned();
        self.forget(newcomer);
        self.set_facet(Side::Remote, keep, Some(facet));
        if self.base(keep).is_none() {
            // It was deleted on the local side and made again there: still the same thing.
            self.set_base(keep, agreed);
        }
        let adopted = children.iter().filter_map(|child| {
            let facet = self.facet(Side::Remote, *child)?.clone();
            let at = Placement { parent: keep, name: facet.at().name.clone() };
            let content = *facet.content();
            Some((*child, Some(facet.with_register(at, content))))
        });
        let adopted = adopted.collect();
        self.set_facets(Side::Remote, adopted);
        for child in children {
            // Nobody moved the child itself.
            self.rebase(child, newcomer, keep);
            self.settle(child);
        }
        self.settle(keep);
    }

    /// What local has as `ours` and the remote as `theirs`, at one place, is one thing from here on.
    /// What is left of the two is one thing only if it is at one place as well; each half keeps the
    /// base that it had, so that what was moved away from there still is.
    pub fn pair_up(&mut self, ours: NodeId, theirs: NodeId) {
        let bases = [ours, theirs].map(|id| self.base(id).cloned());
        let [our_base, _] = &bases;
        self.exchange_remotes(ours, theirs);
        let at = |trees: &Trees, side| trees.facet(side, theirs).map(|facet| facet.at().clone());
        match (at(self, Side::Local), at(self, Side::Remote)) {
            (None, Some(_)) => self.set_base(theirs, our_base.clone()),
            (Some(here), Some(there)) if here != there => {
                let left = self.create(self.kind(theirs));
                self.exchange_remotes(theirs, left);
                self.set_base(left, our_base.clone());
                self.settle(left);
            }
            (Some(_), Some(_)) if bases[0] != bases[1] => self.set_base(theirs, None),
            (Some(_), Some(_) | None) | (None, None) => {}
        }
        self.settle(ours);
        self.settle(theirs);
    }

    /// The remote halves of two nodes change places, with all that the remote has in them.
    fn exchange_remotes(&mut self, a: NodeId, b: NodeId) {
        let side = Side::Remote;
        let other = |id: NodeId| match id {
            id if id == a => b,
            id if id == b => a,
            id => id,
        };
        let children =
            [a, b].map(|dir| self.children(side, dir).map(|(_, id)| id).collect::<Vec<_>>());
        let nodes: BTreeSet<NodeId> = children.iter().flatten().copied().chain([a, b]).collect();
        let exchanged = |id: &NodeId| {
            let facet = self.facet(side, *id).cloned().map(|facet| {
                let Placement { parent, name } = facet.at().clone();
                let content = *facet.content();
                facet.with_register(Placement { parent: other(parent), name }, content)
            });
            (other(*id), facet)
        };
        let edits = nodes.iter().map(exchanged).collect();
        self.set_facets(side, edits);
        let [of_a, of_b] = children;
        for child in of_a.into_iter().filter(|id| *id != b) {
            // Local has it in `a`, under another path than the remote: local moved it there.
            self.rebase(child, a, b);
            self.settle(child);
        }
        for child in of_b.into_iter().filter(|id| *id != a) {
            let here = self.facet(Side::Local, child).map(|facet| facet.at().parent);
            if here != Some(b) {
                self.rebase(child, b, a);
            }
            self.settle(child);
        }
    }

    /// Where base has `id` in the folder `from`, it is now in `to`.
    fn rebase(&mut self, id: NodeId, from: NodeId, to: NodeId) {
        if let Some(base) = self.base(id).filter(|base| base.at.parent == from) {
            let at = Placement { parent: to, name: base.at.name.clone() };
            let content = base.content;
            self.set_base(id, Some(Register { at, content }));
        }
    }
}
