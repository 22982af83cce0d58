//! What a daemon asks of the core beyond one run: looks on demand, files that must be quiet before
//! they are sent, and a fresh start for every cycle.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::FailureKind;
use super::look::{Extent, Look};
use super::report::OpKind;
use super::sweep::{Due, Sweep, SweepSettings};
use super::{Engine, Fatal, Problem};
use crate::clock::Timestamp;
use crate::local::ignore::Rules;
use crate::plan::Action;
use crate::store::{FailureRow, HeldRow, HeldState};
use crate::tree::{Facet, Kind, NodeId, RelPath, Side};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookAt {
    Everything,
    /// Something may have changed in these folders. What does not exist stands for the folder above.
    Folders(Vec<RelPath>),
    /// What is due by `Engine::adapt`; everything without it.
    Due,
}

/// A file that was written a moment ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsettled {
    until: Timestamp,
    since: Timestamp,
}

/// Operations of a kind that are planned or under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub upload: u64,
    pub download: u64,
    pub delete: u64,
    pub moves: u64,
    /// Content bytes of the transfers among them.
    pub bytes: u64,
    /// Those of them in files of at least `LARGE_BYTES`.
    pub large_bytes: u64,
    /// Operations that move less than that, or nothing.
    pub small: u64,
}

/// From this size on, the bytes of a file take longer than the requests for it.
pub const LARGE_BYTES: u64 = 256 << 10;

/// See `Engine::records`.
#[derive(Clone, Debug)]
pub struct Records {
    pub failures: Vec<FailureRow>,
    pub held: Vec<HeldRow>,
    /// Sides, local first, that had no room for something.
    pub full: [bool; 2],
}

/// What the state knows of the remote rests on this.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Whether every folder of both sides could be listed.
    pub complete: bool,
    /// When the oldest listing began.
    pub oldest: Option<Timestamp>,
    /// What is there was not listed.
    pub lags: bool,
    /// Within so much time after it is due, everything should have been listed again.
    pub round: Duration,
}

/// What an engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Looking,
    Syncing,
    /// Something waits for its next try, or for a file to become quiet.
    Waiting,
    Resting,
}

impl Engine {
    pub(super) fn take_sighting(&mut self, side: Side, at: LookAt) {
        match at {
            LookAt::Everything => self.full_look_wanted[side as usize] = true,
            LookAt::Due => self.look_at_due(side),
            // Which folders these are is known when the look begins: another one may have the path
            // by then, as a look that is under way is about to find out.
            LookAt::Folders(paths) => self.stirred[side as usize].extend(paths),
        }
    }

    // ---- sweeping -------------------------------------------------------------------------

    /// Polls of the remote list what is due instead of everything.
    pub fn adapt(&mut self, settings: SweepSettings) {
        self.sweep = Some(Sweep::new(settings));
    }

    fn look_at_due(&mut self, side: Side) {
        if self.looks[side as usize].is_some() || self.looked != [true, true] {
            // Slower than the polls: what is due is in this look, or waits for the next poll.
            return;
        }
        let due = match &mut self.sweep {
            Some(sweep) if side == Side::Remote => {
                let trees = &self.trees;
                sweep.retain(|dir| trees.has(side, dir));
                sweep.due(self.now)
            }
            Some(_) | None => Due::Everything,
        };
        match due {
            Due::Everything => self.full_look_wanted[side as usize] = true,
            Due::Folders(dirs) => self.dirty[side as usize].extend(dirs),
        }
    }

    /// What a look found says where the next ones are worth while.
    pub(super) fn note_sweep(&mut self, look: &Look, edits: &BTreeMap<NodeId, Option<Facet>>) {
        let Some(sweep) = &mut self.sweep else { return };
        let now = self.now;
        if look.side == Side::Remote {
            for (dir, (since, entries)) in &look.read {
                sweep.listed(*dir, *since, *entries);
            }
            // It was moved to where nobody has looked yet.
            if look.extent == Extent::Some && !look.late.is_empty() {
                sweep.hurry(now);
            }
        }
        for (node, edit) in edits {
            let before = self.trees.facet(look.side, *node);
            for facet in before.into_iter().chain(edit) {
                sweep.changed(facet.at().parent, now);
            }
        }
    }

    pub(super) fn nearest_folder(&self, side: Side, path: &RelPath) -> NodeId {
        let mut at = path.clone();
        loop {
            let found = self.trees.resolve(side, &at);
            match (found.filter(|node| self.trees.kind(*node) == Kind::Dir), at.parent()) {
                (Some(node), _) => return node,
                (None, Some(parent)) => at = parent,
                (None, None) => return NodeId::ROOT,
            }
        }
    }

    /// Starts over with what failed, after a rest, and takes in what a person decided meanwhile.
    pub fn begin_cycle(&mut self) -> Result<(), Fatal> {
        // An approval is for one cycle, and the time that the guards look back at moves on.
        self.approved.clear();
        self.chosen.clear();
        self.recall_decisions()?;
        self.recall_recent()?;
        self.troubles.retain(|_, trouble| trouble.retry_at.is_some());
        self.attempts.clear();
        self.changes.clear();
        self.repeats.clear();
        self.racy.begin_cycle();
        self.not_empty.clear();
        self.left_out.begin_cycle();
        self.full = [false, false];
        self.torn_looks = [0, 0];
        for side in Side::BOTH {
            self.full_look_wanted[side as usize] |=
                std::mem::take(&mut self.gave_up_look[side as usize]);
        }
        self.forget_set_aside();
        self.reclaim();
        self.stop = None;
        self.plan_wanted = true;
        for ((side, node), problem) in std::mem::take(&mut self.blind) {
            let parent = self.trees.facet(side, node).map(|facet| facet.at().parent);
            if matches!(problem, Problem::Unlisted(_)) && self.trees.kind(node) == Kind::Dir {
                self.look_at(side, node);
            }
            self.dirty[side as usize].extend(parent);
        }
        Ok(())
    }

    /// Takes no local file's time and size for proof of its content: the next look at everything
    /// has all of them read.
    pub fn distrust_times(&mut self) {
        let is_file = |node: &NodeId| {
            self.trees.kind(*node) == Kind::File && self.trees.has(Side::Local, *node)
        };
        let files: Vec<NodeId> = self.trees.ids().filter(is_file).collect();
        files.into_iter().for_each(|node| self.racy.distrust(Side::Local, node));
    }

    // ---- settling ------------------------------------------------------------------------

    /// A file that somebody may still be writing is not sent yet; the whole of it is sent later. It
    /// is not waited for without end.
    pub(super) fn note_unsettled(&mut self, node: NodeId) {
        /// So many settle times after the first sight of it, a file is sent as it is.
        const PATIENCE: u32 = 30;
        let Some(settle) = self.settings.settle else { return };
        let stamps = self.settings.stamps[Side::Local as usize];
        let written = self.trees.facet(Side::Local, node).and_then(|facet| facet.rev.modified_ns());
        let written = written.map(|at_ns| stamps.ours(at_ns));
        let Some(written) = written.filter(|at| *at <= self.now) else { return };
        let since = self.unsettled.get(&node).map_or(self.now, |known| known.since);
        let patience: Duration = settle * PATIENCE;
        if self.now.since(written) < settle && self.now.since(since) < patience {
            self.unsettled.insert(node, Unsettled { until: written.plus(settle), since });
        } else {
            self.unsettled.remove(&node);
        }
    }

    /// Files that have been quiet for long enough, as far as is known: their folders tell.
    pub(super) fn wake_unsettled(&mut self) {
        let now = self.now;
        let ripe: Vec<NodeId> =
            self.unsettled.iter().filter(|(_, u)| u.until <= now).map(|(node, _)| *node).collect();
        for node in ripe {
            self.unsettled.remove(&node);
            if let Some(facet) = self.trees.facet(Side::Local, node) {
                let parent = facet.at().parent;
                self.look_at(Side::Local, parent);
            }
        }
    }

    pub(super) fn next_settled(&self) -> Option<Timestamp> {
        self.unsettled.values().map(|unsettled| unsettled.until).min()
    }

    // ---- telling -----------------------------------------------------------------------------

    pub fn activity(&self) -> Activity {
        if self.looks.iter().any(Option::is_some) || self.looked != [true, true] {
            Activity::Looking
        } else if !self.flights.is_empty() || !self.ready.is_empty() {
            Activity::Syncing
        } else if self.next_wake().is_some() {
            Activity::Waiting
        } else {
            Activity::Resting
        }
    }

    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        let under_way = self.flights.values().map(|flight| &flight.op);
        for op in self.ready.iter().chain(under_way) {
            match self.op_kind(op) {
                OpKind::Upload => pending.upload += 1,
                OpKind::Download => pending.download += 1,
                OpKind::Delete | OpKind::Rmdir => pending.delete += 1,
                OpKind::Move => pending.moves += 1,
                OpKind::Mkdir | OpKind::Park | OpKind::Conflict | OpKind::Read => {}
            }
            match &op.action {
                Action::Transfer { content, .. } if content.size() >= LARGE_BYTES => {
                    pending.bytes += content.size();
                    pending.large_bytes += content.size();
                }
                Action::Transfer { content, .. } => {
                    pending.bytes += content.size();
                    pending.small += 1;
                }
                Action::Mkdir { .. }
                | Action::Move { .. }
                | Action::Park
                | Action::Delete
                | Action::KeepBoth { .. } => pending.small += 1,
                Action::Learn => {}
            }
        }
        pending
    }

    /// The ignore rules, as far as they were read.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many items something is wrong with at the moment.
    pub fn troubles(&self) -> usize {
        self.troubles.len() + self.blind.len()
    }

    /// What people are told of the last cycle beyond its summary.
    pub fn records(&self) -> Records {
        let held = self.store.held(&[HeldState::Pending]).unwrap_or_default();
        let is_full = |side: Side| {
            let mut troubles = self.troubles.values().map(|trouble| &trouble.failure);
            troubles.any(|failure| failure.kind == FailureKind::Full && failure.side == side)
        };
        Records { failures: self.failures(), held, full: Side::BOTH.map(is_full) }
    }

    pub fn sight(&self) -> Sight {
        let listed = self.blind.values().all(|problem| matches!(problem, Problem::Masked(_)));
        Sight {
            complete: self.looked == [true, true] && listed,
            oldest: match &self.sweep {
                Some(sweep) => sweep.oldest(),
                None => self.full_look_at[Side::Remote as usize],
            },
            lags: self.lags || !self.unseen.is_empty(),
            round: self
                .sweep
                .as_ref()
                .map_or(Duration::ZERO, Sweep::round)
                .max(self.full_look_took),
        }
    }
}
