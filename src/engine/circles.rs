//! Changes that go round in circles. In a ring of pairs a deletion may run after the file that it
//! deletes for ever: each pair makes the file, deletes it and makes it again, and none sees a
//! conflict. Renames may do the same.
//!
//! What a pair has deleted, and had to make again in the same version, it does not delete once more:
//! that is taken for new, and is made where it is missing. What a pair has moved there and back, and
//! is to move there again, was moved on both sides. Once, so that a person can still do it.

use super::{Engine, Fatal};
use crate::clock::Timestamp;
use crate::plan::Mode;
use crate::store::{Done, HistoryRow};
use crate::tree::{Content, Facet, NodeId, RelPath, Side};

impl Engine {
    pub(super) fn end_circles(&mut self) -> Result<(), Fatal> {
        if !self.peer || self.settings.mode != Mode::TwoWay {
            return Ok(());
        }
        let divergent: Vec<NodeId> = self.trees.divergent().iter().copied().collect();
        for node in divergent {
            let circles = match (self.is_to_be_deleted(node), self.is_to_be_moved(node)) {
                (Some(side), _) => self.has_returned(side, node)?,
                (None, Some(side)) => self.was_there_and_back(side, node)?,
                (None, None) => false,
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
        let done = self.store.last_done(path.as_str(), 2)?;
        let [made, deleted] = &done[..] else { return Ok(false) };
        let is_here = made.side == side.to_string() && deleted.side == made.side;
        let is_return = is_making(made) && is_deletion(deleted);
        Ok(is_here && is_return && is_older(facet, deleted.at))
    }

    fn was_there_and_back(&self, side: Side, node: NodeId) -> Result<bool, Fatal> {
        let (Some(from), Some(to), Some(facet)) = (
            self.trees.path(side, node),
            self.trees.path(side.other(), node),
            self.trees.facet(side, node),
        ) else {
            return Ok(false);
        };
        let done = self.store.last_moves(from.as_str(), 2)?;
        let [back, there] = &done[..] else { return Ok(false) };
        let is = |row: &HistoryRow, from: &RelPath, to: &RelPath| {
            let event = &row.event;
            event.side == side.to_string()
                && event.path == from.as_str()
                && event.moved_to.as_deref() == Some(to.as_str())
        };
        Ok(is(back, &to, &from) && is(there, &from, &to) && is_older(facet, there.at))
    }
}

fn is_making(done: &Done) -> bool {
    matches!(done.op.as_str(), "mkdir" | "upload" | "download")
}

fn is_deletion(done: &Done) -> bool {
    matches!(done.op.as_str(), "rmdir" | "delete")
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
