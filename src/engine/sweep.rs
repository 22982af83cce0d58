//! Which folders of the remote are due to be listed: those where something changed lately at every
//! poll, the others ever more rarely, and all of it within a budget of requests.
//!
//! Pure: time comes in, nothing is listed here, and no tree is looked at. Says only when to look;
//! what a look proves is the engine's to decide.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::tree::NodeId;

/// For so many polls after a change a folder counts as hot.
const HOT_POLLS: u32 = 10;
/// A tree that costs no more than this part of the budget is listed whole at every poll.
const CHEAP_PART: u64 = 2;
/// A look at everything at once may cost as much as so many polls: while it lasts, nothing that is
/// hot is looked at again. Beyond that, folders are listed in turn only.
const WHOLE_POLLS: u64 = 3;
/// Entries that most services list with one request.
const PAGE: usize = 200;

/// How a remote is swept whose listings cost requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// Between two polls.
    pub poll: Duration,
    /// A folder in which nothing changes is listed at least this often, as far as the budget allows.
    pub cold: Duration,
    /// Everything is listed at least this often, as far as the budget allows; at once, if that does
    /// not keep other looks waiting.
    pub whole: Duration,
    /// Requests that one poll may cost.
    pub budget: u32,
}

/// What a poll is to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Everything,
    Folders(Vec<NodeId>),
}

#[derive(Clone, Debug)]
struct Folder {
    listed_at: Timestamp,
    changed_at: Option<Timestamp>,
    interval: Duration,
    due_at: Timestamp,
    /// Requests that a listing takes.
    cost: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Sweep {
    settings: SweepSettings,
    folders: BTreeMap<NodeId, Folder>,
    whole_at: Option<Timestamp>,
    hurried_at: Option<Timestamp>,
}

impl Sweep {
    pub(super) fn new(settings: SweepSettings) -> Sweep {
        Sweep { settings, folders: BTreeMap::new(), whole_at: None, hurried_at: None }
    }

    /// A listing of so many entries that began at `at` is part of what is known now.
    pub(super) fn listed(&mut self, dir: NodeId, at: Timestamp, entries: usize) {
        let poll = self.settings.poll;
        let known = self.folders.get(&dir);
        let changed_at = known.and_then(|folder| folder.changed_at);
        let is_hot = changed_at.is_some_and(|changed| at.since(changed) < poll * HOT_POLLS);
        let before = known.map_or(poll, |folder| folder.interval);
        let interval = match is_hot {
            true => poll,
            false => before.saturating_mul(2).min(self.coldest()).max(poll),
        };
        let due_at = at.plus(interval - self.jitter(dir, interval));
        let cost = 1 + (entries / PAGE) as u64;
        self.folders.insert(dir, Folder { listed_at: at, changed_at, interval, due_at, cost });
    }

    /// A new folder of our own: empty, until somebody else finds it.
    pub(super) fn made(&mut self, dir: NodeId, now: Timestamp) {
        self.listed(dir, now, 0);
        self.changed(dir, now);
    }

    /// Folders that were listed together do not stay together. Taken from the node, so that the
    /// policy is a function of its inputs; never more than half.
    fn jitter(&self, dir: NodeId, interval: Duration) -> Duration {
        let spread = interval.saturating_sub(self.settings.poll) / 2;
        spread * ((dir.get().wrapping_mul(2_654_435_761) >> 8) & 0xff) / 256
    }

    /// Everything was listed in a look that began at `at`.
    pub(super) fn listed_whole(&mut self, at: Timestamp) {
        self.whole_at = Some(at);
    }

    /// Something changed in the folder, on either side: it is due at the next poll.
    pub(super) fn changed(&mut self, dir: NodeId, now: Timestamp) {
        if let Some(folder) = self.folders.get_mut(&dir) {
            folder.changed_at = Some(now);
            folder.interval = self.settings.poll;
            folder.due_at = folder.due_at.min(now);
        }
    }

    /// Something is elsewhere, nobody knows where: all folders are due, as far as the budget allows.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        let lately = |at: Timestamp| now.since(at) < self.coldest();
        if !self.hurried_at.is_some_and(lately) {
            self.hurried_at = Some(now);
            self.folders.values_mut().for_each(|folder| folder.due_at = folder.due_at.min(now));
        }
    }

    /// Forgets folders that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(NodeId) -> bool) {
        self.folders.retain(|dir, _| is_there(*dir));
    }

    /// What the poll of now is to list.
    pub(super) fn due(&self, now: Timestamp) -> Due {
        let SweepSettings { poll, whole, .. } = self.settings;
        let (total, budget) = (self.cost(), self.budget());
        // Listings end a while after their poll: what is due before the next half is due now.
        let soon = now.plus(poll / 2);
        let polls = (whole.as_millis() / poll.as_millis().max(1)) as u64;
        let is_affordable = total <= budget.saturating_mul(polls.min(WHOLE_POLLS));
        // What seems to come from the future was listed before the clock was set back.
        let is_over = |at: Timestamp, end: Timestamp| end <= soon || at > soon;
        let is_whole_due = self.whole_at.is_none_or(|at| is_over(at, at.plus(whole)));
        if self.is_cheap() || is_affordable && is_whole_due {
            return Due::Everything;
        }
        let is_due = |folder: &Folder| is_over(folder.listed_at, folder.due_at);
        let mut due: Vec<(&NodeId, &Folder)> =
            self.folders.iter().filter(|(_, folder)| is_due(folder)).collect();
        due.sort_by_key(|(dir, folder)| (folder.due_at, **dir));
        let (hot, cold): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, folder)| folder.interval <= poll);
        let mut purse = Purse { left: budget, taken: Vec::new() };
        // Hot folders come first, but cold ones never starve.
        let for_cold = if cold.is_empty() { 0 } else { budget / 4 };
        let late = purse.take_down_to(for_cold, hot);
        purse.take_down_to(0, cold);
        purse.take_down_to(0, late);
        Due::Folders(purse.taken)
    }

    /// How long a folder may go unlisted.
    fn coldest(&self) -> Duration {
        self.settings.cold.min(self.settings.whole)
    }

    fn cost(&self) -> u64 {
        self.folders.values().map(|folder| folder.cost).sum()
    }

    fn budget(&self) -> u64 {
        u64::from(self.settings.budget.max(1))
    }

    fn is_cheap(&self) -> bool {
        self.cost() <= self.budget() / CHEAP_PART
    }

    /// When the oldest listing that counts began.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.folders.values().map(|folder| folder.listed_at).min()
    }

    /// How long it takes, all being well, until every folder has been listed again.
    pub(super) fn round(&self) -> Duration {
        if self.is_cheap() {
            return Duration::ZERO;
        }
        let polls = u32::try_from(self.cost().div_ceil(self.budget())).unwrap_or(u32::MAX);
        self.coldest().max(self.settings.poll.saturating_mul(polls))
    }
}

struct Purse {
    left: u64,
    taken: Vec<NodeId>,
}

impl Purse {
    /// Takes folders in order for as long as more than `rest` is left after it; the very first one at
    /// any price, or a huge folder would never be listed. Returns those that were not taken.
    fn take_down_to<'a>(
        &mut self,
        rest: u64,
        folders: Vec<(&'a NodeId, &'a Folder)>,
    ) -> Vec<(&'a NodeId, &'a Folder)> {
        let mut late = Vec::new();
        for (dir, folder) in folders {
            if self.taken.is_empty() || self.left >= folder.cost.saturating_add(rest) {
                self.left = self.left.saturating_sub(folder.cost);
                self.taken.push(*dir);
            } else {
                late.push((dir, folder));
            }
        }
        late
    }
}

#[cfg(test)]
mod tests;
