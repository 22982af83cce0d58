//! A pair of folders of which one is on a disk with habits.
//!
//! Owns the mount and the limit on a run's time: no run may be endless.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::habits::{HabitDisk, Habits};
use crate::pair::Pair;
use crate::pair::run::Run;
use crate::pair::side::Side;

/// More than any run here needs, also on a busy computer.
const LIMIT: Duration = Duration::from_secs(30);

/// Which folder of the pair is on the disk with habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Remote,
    Local,
}

/// See the module text.
pub(crate) struct Rig {
    /// Before the pair, in whose folder it is mounted.
    disk: Option<HabitDisk>,
    habits: Habits,
    role: Role,
    pair: Pair,
}

/// A scenario as two tests: with the disk as the remote, and as the local root.
macro_rules! on_either_side {
    ($name:ident, $habits:expr, $scenario:expr) => {
        on_either_side!([] [#[ignore = "long"]] $name, $habits, $scenario);
    };
    (long $name:ident, $habits:expr, $scenario:expr) => {
        on_either_side!([#[ignore = "long"]] [#[ignore = "long"]] $name, $habits, $scenario);
    };
    ([$($remote:tt)*] [$($local:tt)*] $name:ident, $habits:expr, $scenario:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "not every scenario needs all of it")]
            use super::*;

            #[test]
            $($remote)*
            fn as_the_remote() {
                $crate::rig::run($crate::rig::Role::Remote, $habits, $scenario);
            }

            #[test]
            $($local)*
            fn as_the_local_root() {
                $crate::rig::run($crate::rig::Role::Local, $habits, $scenario);
            }
        }
    };
}

/// Runs a scenario on such a disk, if one can be mounted.
pub(crate) fn run(role: Role, habits: Habits, scenario: impl FnOnce(&mut Rig)) {
    if let Some(mut rig) = Rig::new(role, habits, Pair::new()) {
        scenario(&mut rig);
    }
}

impl Rig {
    /// Two empty folders. `None`, with the reason printed, where no disk can be mounted.
    pub(crate) fn new(role: Role, habits: Habits, pair: Pair) -> Option<Rig> {
        std::fs::create_dir(pair.path("disk")).unwrap();
        let mut rig = Rig { disk: None, habits, role, pair };
        rig.plug();
        rig.disk.is_some().then_some(rig)
    }

    fn plug(&mut self) {
        let at = self.disk().path("");
        self.disk = HabitDisk::mount(&self.pair.path("disk"), &at, &self.habits);
    }

    /// Unplugs the disk.
    #[track_caller]
    pub(crate) fn unplug(&mut self) {
        self.disk.take().unwrap().unmount().unwrap();
    }

    /// Unplugs the disk and plugs it in again, with these habits from now on.
    #[track_caller]
    pub(crate) fn remount_as(&mut self, habits: Habits) {
        self.unplug();
        self.habits = habits;
        self.plug_again();
    }

    /// Plugs the disk in again.
    #[track_caller]
    pub(crate) fn plug_again(&mut self) {
        self.plug();
        assert!(self.disk.is_some(), "a disk that could be mounted can be mounted again");
    }

    #[track_caller]
    pub(crate) fn remount(&mut self) {
        self.remount_as(self.habits.clone());
    }

    pub(crate) fn habits(&self) -> &Habits {
        &self.habits
    }

    /// The mounted disk itself.
    pub(crate) fn mounted(&self) -> &HabitDisk {
        self.disk.as_ref().unwrap()
    }

    /// The folder behind the disk: what another computer sees of it.
    pub(crate) fn behind(&self, path: &str) -> PathBuf {
        self.pair.path("disk").join(path)
    }

    /// The names behind the disk, in a folder, without the program's own.
    pub(crate) fn names_behind(&self, folder: &str) -> Vec<String> {
        let items = std::fs::read_dir(self.behind(folder)).unwrap();
        let mut names: Vec<String> =
            items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".foldsync");
        names.sort();
        names
    }

    /// The side that is on the disk with habits.
    pub(crate) fn disk(&self) -> Side<'_> {
        match self.role {
            Role::Remote => self.pair.remote(),
            Role::Local => self.pair.local(),
        }
    }

    /// The side that is on a plain disk.
    pub(crate) fn other(&self) -> Side<'_> {
        match self.role {
            Role::Remote => self.pair.local(),
            Role::Local => self.pair.remote(),
        }
    }

    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    // ---- running ---------------------------------------------------------------------------------

    /// `sync --once --json`, which must end.
    #[track_caller]
    pub(crate) fn sync(&self) -> Run {
        self.call(&["sync", "--once", "--json"])
    }

    /// Runs until nothing is done any more, three times at most, and returns the last run.
    #[track_caller]
    pub(crate) fn sync_to_rest(&self) -> Run {
        let mut run = self.sync();
        for _ in 0..2 {
            if run.ops.is_empty() {
                break;
            }
            run = self.sync();
        }
        run
    }

    /// `sync --once --json`, which may be killed on the way. Whether it was.
    #[track_caller]
    pub(crate) fn sync_until_killed(&self) -> bool {
        let child = self.pair.start(&["sync", "--once", "--json"]);
        let output = child.wait_with_output().unwrap();
        self.pair.check_ledger(&format!("after a run that ended with {:?}", output.status));
        output.status.code().is_none()
    }

    /// `sync --once --json`, which must end, and what somebody does while it runs.
    #[track_caller]
    pub(crate) fn sync_meanwhile(&self, act: impl FnOnce(&Rig)) -> Run {
        self.call_meanwhile(&["sync", "--once", "--json"], act)
    }

    /// Any command about the pair, which must end. What it prints is read all the time.
    #[track_caller]
    fn call(&self, arguments: &[&str]) -> Run {
        self.call_meanwhile(arguments, |_| ())
    }

    #[track_caller]
    fn call_meanwhile(&self, arguments: &[&str], act: impl FnOnce(&Rig)) -> Run {
        let child = self.pair.start(arguments);
        let pid = Pid::from_child(&child);
        let (ended, end) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let endless = end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if endless {
                println!("the run did not end by itself");
                kill_process(pid, Signal::KILL).ok();
            }
        });
        act(self);
        let run = self.pair.finish(child, arguments);
        drop(ended);
        watch.join().unwrap();
        run
    }

    /// Another run does nothing, changes nothing that the user sees, and ends with this code; the
    /// status agrees, and is clean only if the sides are equal.
    #[track_caller]
    pub(crate) fn rests(&self, exit: i32) {
        let users = |side: Side<'_>| side.exact().without(&[".foldsync"]);
        let before = [users(self.disk()), users(self.other())];
        let run = self.sync().exits(exit);
        assert!(run.ops.is_empty(), "another run has nothing to do: {run}");
        let after = [users(self.disk()), users(self.other())];
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.difference(after), Vec::<String>::new(), "touched by {run}");
        }
        self.pair.run(&["status", "--check"]).exits(exit);
        self.pair.assert_no_leftovers();
        if exit == 0 {
            self.pair.run(&["verify"]).exits(0);
        }
    }

    /// Both sides hold exactly this, and rest.
    #[track_caller]
    pub(crate) fn settled(&self, lines: &[&str]) {
        self.pair.assert_both(lines);
        self.rests(0);
    }

    /// What the status says cannot be synced: paths and reasons.
    #[track_caller]
    pub(crate) fn skipped(&self) -> Vec<(String, String)> {
        let status = self.call(&["status", "--json"]).json();
        let pair = &status[0]["pairs"][0];
        let items = match &pair["skipped"] {
            Value::Array(items) => items.clone(),
            _ => pair["skipped_items"].as_array().cloned().unwrap_or_default(),
        };
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        items.iter().map(|item| (text(item, "path"), text(item, "reason"))).collect()
    }

    /// The status names this path, in whatever case, as one that cannot be synced, with a reason.
    #[track_caller]
    pub(crate) fn names_as_skipped(&self, path: &str) {
        let skipped = self.skipped();
        let named = |found: &&(String, String)| found.0.to_lowercase() == path.to_lowercase();
        let reason = skipped.iter().find(named).map(|(_, reason)| reason.as_str());
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "{path} in {skipped:?}");
    }
}

/// How many bytes the operations of a run have sent. (The summary also counts what was read from a
/// remote folder to compare it.)
pub(crate) fn sent(run: &Run) -> u64 {
    run.ops.iter().map(|op| op.bytes).sum()
}

/// Waits until the clock that shows this time as now has gone on by a step.
pub(crate) fn await_tick(step: Duration) {
    let ticks = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_nanos() / step.as_nanos()
    };
    let begun = ticks();
    while ticks() == begun {
        std::thread::sleep(Duration::from_millis(5));
    }
}
