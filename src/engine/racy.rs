//! Content that may have been written again within the tick in which it was read or put in place: the
//! stamps cannot tell, so it is read once more.
//!
//! On a disk with coarse stamps that is done as soon as the tick is over, in the same run: what a run
//! ends with is what is there. On others the next look at the folder does it.
//!
//! Owns which files these are, and when each is read again. The look itself is `ingest`'s.

use std::collections::HashMap;

use super::Engine;
use crate::clock::Timestamp;
use crate::tree::{NodeId, Rev, Side};

/// So often in one run; a file that is written all the time is for the next one.
const RECHECKS_MAX: u32 = 3;

/// Files whose content is not taken for known, by side.
#[derive(Default)]
pub(super) struct RacyFiles {
    /// When to read the file again; `None`: at the next look at its folder.
    files: HashMap<(Side, NodeId), Option<Timestamp>>,
    /// How often each was read again in this run.
    done: HashMap<(Side, NodeId), u32>,
}

impl RacyFiles {
    pub(super) fn begin_cycle(&mut self) {
        self.done.clear();
    }

    pub(super) fn contains(&self, side: Side, node: NodeId) -> bool {
        self.files.contains_key(&(side, node))
    }

    /// Whatever its stamps say, the file is read at the next look.
    pub(super) fn distrust(&mut self, side: Side, node: NodeId) {
        self.files.insert((side, node), None);
    }

    pub(super) fn trust(&mut self, side: Side, node: NodeId) {
        self.files.remove(&(side, node));
    }

    /// Two nodes change places on a side.
    pub(super) fn exchange(&mut self, side: Side, a: NodeId, b: NodeId) {
        let [of_a, of_b] = [a, b].map(|node| self.files.remove(&(side, node)));
        let moved = [((side, b), of_a), ((side, a), of_b)];
        self.files.extend(moved.into_iter().filter_map(|(key, at)| Some((key, at?))));
    }

    pub(super) fn retain(&mut self, lives: impl Fn(NodeId) -> bool) {
        self.files.retain(|(_, node), _| lives(*node));
        self.done.retain(|(_, node), _| lives(*node));
    }

    /// When the first tick is over that the run waits for.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.files.values().flatten().min().copied()
    }

    fn wait(&mut self, side: Side, node: NodeId, until: Option<Timestamp>) {
        let done = self.done.get(&(side, node)).copied().unwrap_or_default();
        self.files.insert((side, node), until.filter(|_| done < RECHECKS_MAX));
    }

    /// Those whose ticks are over, each once.
    fn take_ripe(&mut self, now: Timestamp) -> Vec<(Side, NodeId)> {
        let mut ripe = Vec::new();
        for (key, until) in &mut self.files {
            if until.is_some_and(|until| until <= now) {
                *until = None;
                *self.done.entry(*key).or_default() += 1;
                ripe.push(*key);
            }
        }
        ripe.sort_unstable();
        ripe
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
        if !is_racy {
            self.racy.trust(side, node);
            return;
        }
        let over = self.settings.stamps[side as usize].tick_is_over_at(rev);
        self.racy.wait(side, node, over.filter(|_| !self.settings.pretend));
    }

    /// Files whose ticks are over: their folders are looked at, and they are read.
    pub(super) fn wake_racy(&mut self) {
        for (side, node) in self.racy.take_ripe(self.now) {
            if let Some(parent) = self.trees.facet(side, node).map(|facet| facet.at().parent) {
                self.look_at(side, parent);
            }
        }
    }
}
