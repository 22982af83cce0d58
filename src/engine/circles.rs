//! Changes that go round in circles. In a ring of pairs a deletion may run after the file that it
//! deletes for ever: each pair makes the file, deletes it and makes it again, and none sees a
//! conflict. Renames may do the same.
//!
//! What a pair has taken away from a place, and had to put there again in the same version, it does
//! not take away once more: what was to be deleted is taken for new, and is made where it is missing;
//! what was to be moved counts as moved on both sides. Once, so that a person can still do it.

use super::{Engine, Fatal};
use crate::clock::Timestamp;
use crate::store::HistoryRow;
use crate::tree::{Content, Facet, NodeId, RelPath, Side};

impl Engine {
    pub(super) fn end_circles(&mut self) -> Result<(), Fatal> {
        if !self.faces_a_peer() {
            return Ok(());
        }
        let divergent: Vec<NodeId> = self.trees.divergent().iter().copied().collect();
        for node in divergent {
            let taken_from = self.is_to_be_deleted(node).or_else(|| self.is_to_be_moved(node));
            let circles = match taken_from {
                Some(side) => self.has_returned(side, node)?,
                None => false,
            };
            if circles {
                self.trees.set_base(node, None);
            }
        }
        Ok(())
    }

    /// The side that still has a node as it was agreed, while the other one has lost it.
    fn is_to_be_deleted(&self, node: NodeId) -> Option<Side> {
        let base = self.trees.base(node)?;
        let has = |side: &Side| self.trees.has(*side, node);
        let side = Side::BOTH.into_iter().find(has).filter(|side| !has(&side.other()))?;
        let facet = self.trees.facet(side, node)?;
        let is_agreed = |facet: &Facet| facet.at() == &base.at && *facet.content() == base.content;
        is_agreed(facet).then_some(side)
    }

    /// The side on which a node is where it was agreed to be, while the other one moved it and did
    /// nothing else.
    fn is_to_be_moved(&self, node: NodeId) -> Option<Side> {
        let base = self.trees.base(node)?;
        let [local, remote] = Side::BOTH.map(|side| self.trees.facet(side, node));
        let (local, remote) = (local?, remote?);
        if *local.content() != base.content || *remote.content() != base.content {
            return None;
        }
        match (local.at() == &base.at, remote.at() == &base.at) {
            (true, false) => Some(Side::Local),
            (false, true) => Some(Side::Remote),
            (true, true) | (false, false) => None,
        }
    }

    fn has_returned(&self, side: Side, node: NodeId) -> Result<bool, Fatal> {
        let (Some(path), Some(facet)) = (self.trees.path(side, node), self.trees.facet(side, node))
        else {
            return Ok(false);
        };
        let done = self.store.last_comings(path.as_str(), 2)?;
        let [came, went] = &done[..] else { return Ok(false) };
        let is_here = |row: &HistoryRow| row.event.side == side.to_string();
        let is_return = has_come(came, &path) && !has_come(went, &path);
        Ok(is_here(came) && is_here(went) && is_return && is_older(facet, went.at))
    }
}

/// Whether something came to a path, and did not leave it.
fn has_come(row: &HistoryRow, path: &RelPath) -> bool {
    match row.event.op.as_str() {
        "move" => row.event.moved_to.as_deref() == Some(path.as_str()),
        op => matches!(op, "mkdir" | "upload" | "download"),
    }
}

/// Whether the version was there before that: nobody wrote it since. Folders have no versions.
fn is_older(facet: &Facet, at: Timestamp) -> bool {
    match facet.content() {
        Content::Dir => true,
        Content::Is(_) | Content::Unread { .. } => {
            facet.rev.modified_ns().is_some_and(|modified| modified < at.0)
        }
    }
}
