//! Deletions that go round in circles. In a ring of pairs a deletion may run after the file that it
//! deletes for ever: each pair makes the file, deletes it and makes it again, and none sees a conflict.
//!
//! What a pair has deleted, and had to make again in the same version, it does not delete once more:
//! that file is taken for new, and is made where it is missing. Once, so that a person can still
//! delete it.

use super::{Engine, Fatal};
use crate::plan::Mode;
use crate::store::Done;
use crate::tree::{Content, Facet, Kind, NodeId, Side};

impl Engine {
    pub(super) fn keep_what_returned(&mut self) -> Result<(), Fatal> {
        if !self.peer || self.settings.mode != Mode::TwoWay {
            return Ok(());
        }
        let divergent: Vec<NodeId> = self.trees.divergent().iter().copied().collect();
        for node in divergent {
            if let Some(side) = self.is_to_be_deleted(node)
                && self.has_returned(side, node)?
            {
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

    fn has_returned(&self, side: Side, node: NodeId) -> Result<bool, Fatal> {
        /// Folders have no version: only one that goes on coming and going is taken for the same.
        const FOLDER_RETURNS: usize = 2;
        let Some(path) = self.trees.path(side, node) else { return Ok(false) };
        let Some(facet) = self.trees.facet(side, node) else { return Ok(false) };
        let returns = match self.trees.kind(node) {
            Kind::File => 1,
            Kind::Dir => FOLDER_RETURNS,
        };
        let done = self.store.last_done(path.as_str(), 2 * returns as u32)?;
        let is_return = |pair: &[Done]| match pair {
            [made, deleted] => {
                let is_here = made.side == side.to_string() && deleted.side == made.side;
                is_here && is_making(made) && is_deletion(deleted) && is_older(facet, deleted)
            }
            _ => false,
        };
        Ok(done.len() == 2 * returns && done.chunks(2).all(is_return))
    }
}

fn is_making(done: &Done) -> bool {
    matches!(done.op.as_str(), "mkdir" | "upload" | "download")
}

fn is_deletion(done: &Done) -> bool {
    matches!(done.op.as_str(), "rmdir" | "delete")
}

/// Whether the version was there before that deletion: nobody wrote it since.
fn is_older(facet: &Facet, deletion: &Done) -> bool {
    match facet.content() {
        Content::Dir => true,
        Content::Is(_) | Content::Unread { .. } => {
            facet.rev.modified_ns().is_some_and(|at| at < deletion.at.0)
        }
    }
}
