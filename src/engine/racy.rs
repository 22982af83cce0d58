//! Content that may have been written again within the tick in which it was read or put in place: the
//! stamps cannot tell, so it is read once more.
//!
//! On a disk with coarse stamps that is done as soon as the tick is over, in the same run: what a run
//! ends with is what is there. On others the next look at the folder does it.

use std::collections::{BTreeMap, HashMap};

use super::Engine;
use crate::clock::Timestamp;
use crate::tree::{NodeId, Rev, Side};

/// So often in one run; a file that is written all the time is for the next one.
const RECHECKS_MAX: u32 = 3;

/// What is read again when its tick is over.
#[derive(Default)]
pub(super) struct Rechecks {
    until: BTreeMap<(Side, NodeId), Timestamp>,
    done: HashMap<(Side, NodeId), u32>,
}

impl Rechecks {
    pub(super) fn begin_cycle(&mut self) {
        self.done.clear();
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.until.values().min().copied()
    }
}

impl Engine {
    /// What was written within the tick in which it was read is read once more.
    pub(super) fn note_racy(&mut self, side: Side, node: NodeId, rev: &Rev, read_at: Timestamp) {
        let hides = self.settings.stamps[side as usize].may_hide_a_write(rev, read_at);
        self.set_racy(side, node, rev, hides);
    }

    /// So is what we put in place within the tick of its own time: somebody may have written over it.
    pub(super) fn note_overwritable(
        &mut self,
        side: Side,
        node: NodeId,
        rev: &Rev,
        put_at: Timestamp,
    ) {
        let hides = self.settings.stamps[side as usize].may_hide_an_overwrite(rev, put_at);
        self.set_racy(side, node, rev, hides);
    }

    fn set_racy(&mut self, side: Side, node: NodeId, rev: &Rev, is_racy: bool) {
        let key = (side, node);
        self.rechecks.until.remove(&key);
        if !is_racy {
            self.racy.remove(&key);
            return;
        }
        self.racy.insert(key);
        let done = self.rechecks.done.get(&key).copied().unwrap_or_default();
        let over = self.settings.stamps[side as usize].tick_is_over_at(rev);
        if let Some(over) = over.filter(|_| done < RECHECKS_MAX && !self.settings.pretend) {
            self.rechecks.until.insert(key, over);
        }
    }

    /// Files whose ticks are over: their folders are looked at, and they are read.
    pub(super) fn wake_racy(&mut self) {
        let now = self.now;
        let ripe: Vec<(Side, NodeId)> =
            self.rechecks.until.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (side, node) in ripe {
            self.rechecks.until.remove(&(side, node));
            let parent = self.trees.facet(side, node).map(|facet| facet.at().parent);
            if let Some(parent) = parent.filter(|_| self.racy.contains(&(side, node))) {
                *self.rechecks.done.entry((side, node)).or_default() += 1;
                self.look_at(side, parent);
            }
        }
    }
}
