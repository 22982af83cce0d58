//! Folders in which something happened and that were not reported yet. Pure: time is handed in.
//!
//! A folder is due once it was quiet for the settle time, and at the latest after five of them, so
//! that a file which never rests cannot starve its neighbours (WA-12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Sighting;
use crate::clock::Timestamp;
use crate::tree::RelPath;

/// Settle times after which a folder is reported even though it is not quiet.
const PATIENCE: u32 = 5;
/// With more folders than this, looking at everything is the shorter answer.
const FOLDERS_MAX: usize = 20_000;

/// From the first to the last event that was not reported.
#[derive(Clone, Copy, Debug)]
struct Unrest {
    first: Timestamp,
    last: Timestamp,
}

impl Unrest {
    /// How long until it is due; zero if it is. A clock that was set back must not delay anything.
    fn due_in(self, now: Timestamp, settle: Duration) -> Duration {
        if now < self.first {
            return Duration::ZERO;
        }
        let quiet = settle.saturating_sub(now.since(self.last));
        let patience = settle.saturating_mul(PATIENCE).saturating_sub(now.since(self.first));
        quiet.min(patience)
    }
}

#[derive(Debug)]
pub(super) struct Pending {
    settle: Duration,
    folders: BTreeMap<RelPath, Unrest>,
    everything: Option<Unrest>,
}

impl Pending {
    pub(super) fn new(settle: Duration) -> Pending {
        Pending { settle, folders: BTreeMap::new(), everything: None }
    }

    /// Something happened in `folder`. Whether this was the first thing that is pending.
    pub(super) fn stir(&mut self, folder: RelPath, now: Timestamp) -> bool {
        let was_empty = self.is_empty();
        if let Some(known) = self.folders.get_mut(&folder) {
            known.last = now;
        } else if self.folders.len() >= FOLDERS_MAX {
            self.folders.clear();
            self.stir_everything(now);
        } else {
            self.folders.insert(folder, Unrest { first: now, last: now });
        }
        was_empty
    }

    /// Something may have happened anywhere.
    pub(super) fn stir_everything(&mut self, now: Timestamp) -> bool {
        let was_empty = self.is_empty();
        self.everything.get_or_insert(Unrest { first: now, last: now }).last = now;
        was_empty
    }

    /// What lies below `folder` is not there any more; the folder above is where to look.
    pub(super) fn prune(&mut self, folder: &RelPath) {
        if self.folders.is_empty() {
            return;
        }
        if folder.is_root() {
            self.folders.clear();
            return;
        }
        self.folders.remove(folder);
        let below = format!("{folder}/");
        self.folders.retain(|path, _| !path.as_str().starts_with(&below));
    }

    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.everything.is_none()
    }

    /// How long until something is due; `None` if nothing is pending.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let all = self.folders.values().chain(&self.everything);
        all.map(|unrest| unrest.due_in(now, self.settle)).min()
    }

    /// Takes out what is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Sighting> {
        let settle = self.settle;
        let is_due = |unrest: &Unrest| unrest.due_in(now, settle).is_zero();
        let is_due_now = |(path, unrest): (&RelPath, &Unrest)| is_due(unrest).then(|| path.clone());
        let due: BTreeSet<RelPath> = self.folders.iter().filter_map(is_due_now).collect();
        due.iter().for_each(|path| _ = self.folders.remove(path));
        if self.everything.as_ref().is_some_and(is_due) {
            self.everything = None;
            return Some(Sighting::Everything);
        }
        (!due.is_empty()).then_some(Sighting::Folders(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1000 + seconds)
    }

    fn folders(names: &[&str]) -> Option<Sighting> {
        Some(Sighting::Folders(names.iter().map(|name| path(name)).collect()))
    }

    #[test]
    fn a_folder_is_due_once_it_was_quiet_for_the_settle_time() {
        let mut pending = Pending::new(SETTLE);
        assert!(pending.stir(path("a"), at(0)));
        assert!(!pending.stir(path("a"), at(1)));
        assert_eq!(pending.due_in(at(2)), Some(Duration::from_secs(1)));
        assert_eq!(pending.take_due(at(2)), None);
        assert_eq!(pending.take_due(at(3)), folders(&["a"]));
        assert_eq!(pending.due_in(at(3)), None);
    }

    // WA-12
    #[test]
    fn a_folder_that_is_never_quiet_is_reported_after_five_settle_times() {
        let mut pending = Pending::new(SETTLE);
        let mut reports = Vec::new();
        for second in 0..=30 {
            pending.stir(path("busy"), at(second));
            reports.extend(pending.take_due(at(second)).map(|_| second));
        }
        assert_eq!(reports, [10, 21]);
    }

    // WA-12
    #[test]
    fn a_busy_folder_delays_no_other() {
        let mut pending = Pending::new(SETTLE);
        pending.stir(path("busy"), at(0));
        pending.stir(path("calm"), at(0));
        pending.stir(path("busy"), at(2));
        assert_eq!(pending.take_due(at(2)), folders(&["calm"]));
    }

    // WA-16
    #[test]
    fn a_clock_that_jumps_makes_things_due_and_never_late() {
        for jump in [-10_000, 10_000] {
            let mut pending = Pending::new(SETTLE);
            pending.stir(path("a"), at(0));
            assert_eq!(pending.take_due(at(jump)), folders(&["a"]), "{jump}");
        }
    }

    #[test]
    fn everything_covers_what_is_due_and_not_what_is_still_written() {
        let mut pending = Pending::new(SETTLE);
        pending.stir(path("quiet"), at(0));
        pending.stir_everything(at(0));
        pending.stir(path("busy"), at(1));
        assert_eq!(pending.take_due(at(2)), Some(Sighting::Everything));
        assert_eq!(pending.take_due(at(3)), folders(&["busy"]));
    }

    #[test]
    fn too_many_folders_become_everything() {
        let mut pending = Pending::new(SETTLE);
        for number in 0..=FOLDERS_MAX {
            pending.stir(path(&format!("d{number}")), at(0));
        }
        assert_eq!(pending.take_due(at(2)), Some(Sighting::Everything));
        assert_eq!(pending.due_in(at(2)), None);
    }

    #[test]
    fn a_removed_tree_is_not_reported_but_its_neighbours_are() {
        let mut pending = Pending::new(SETTLE);
        for folder in ["a", "a/b", "a/b/c", "a.b", "ab"] {
            pending.stir(path(folder), at(0));
        }
        pending.prune(&path("a"));
        assert_eq!(pending.take_due(at(2)), folders(&["a.b", "ab"]));
    }
}
