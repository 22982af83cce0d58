//! SIGKILL for the built program, at random moments and at each thing that it tells or stages, on
//! two folders of some 300 files with every kind of change on both sides.
//!
//! Beside each world lives a twin with the same users whose program is never killed. After every
//! round the killed world is as its twin (S13), has lost nothing (S1), has nothing left in a stage,
//! believes nothing that is not so (S14), and is quiet (BC-08). `CRASH_SEED=n` replays one seed.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

#[path = "crash/users.rs"]
mod users;

#[path = "e2e/pair.rs"]
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than crashes do")]
mod pair;

#[path = "crash/belief.rs"]
mod belief;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use belief::Witness;
use pair::Pair;
use pair::random::Random;
use pair::run::Op;
use pair::tree::plain;
use users::Users;

const SYNC: [&str; 4] = ["sync", "--once", "--json", "--force"];

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    After(Duration),
    /// After so many lines of output.
    Line(usize),
    /// When so many different files have been seen in the stages.
    Staged(usize),
}

/// A world whose program is killed, and one whose program is not.
struct Worlds {
    killed: Pair,
    spared: Pair,
    seen: Witness,
    seed: u64,
    /// Processes that were killed before they ended by themselves.
    hits: usize,
}

impl Worlds {
    fn new(seed: u64) -> Worlds {
        let (killed, spared) = (Pair::new(), Pair::new());
        for pair in [&killed, &spared] {
            Users::new(seed).settle_in(pair);
            pair.sync().exits(0);
        }
        let mut seen = Witness::default();
        seen.look(&killed);
        Worlds { killed, spared, seen, seed, hits: 0 }
    }

    /// One day: the same changes in both worlds, then a run that is killed at these moments, and one
    /// that is not.
    fn day(&mut self, day: u64, moments: impl FnOnce(Duration) -> Vec<Moment>) {
        for pair in [&self.killed, &self.spared] {
            Users::new(self.seed ^ (day << 32)).change(pair);
        }
        self.seen.look(&self.killed);
        let begun = Instant::now();
        let exit = self.spared.sync_with(&["--force"]).exit;
        let moments = moments(begun.elapsed());
        let story = format!("CRASH_SEED={} on day {day}, killed {moments:?}", self.seed);
        for moment in &moments {
            self.hits += usize::from(kill(&self.killed, *moment));
            self.killed.check_ledger(&story);
            self.seen.look(&self.killed);
            self.seen.check(&self.killed, &story);
        }
        let run = self.killed.sync_with(&["--force"]);
        let told = format!("{story}: {run}");
        let [local, remote] = self.killed.both().map(|side| side.tree().lines());
        let expected = self.spared.local().tree().lines();
        assert_eq!(difference(&local, &remote), none(), "local, remote; {told}");
        assert_eq!(difference(&local, &expected), none(), "killed, spared; {told}");
        assert_eq!(run.exit, exit, "the exit code: {told}");
        self.seen.look(&self.killed);
        self.seen.check(&self.killed, &story);
        self.killed.assert_no_leftovers();
        self.killed.assert_quiet_with(&["--force"], exit);
    }
}

type Lines = (Vec<String>, Vec<String>);

fn none() -> Lines {
    Lines::default()
}

fn difference(one: &[String], other: &[String]) -> Lines {
    let only = |one: &[String], other: &[String]| {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    (only(one, other), only(other, one))
}

/// Starts the program and kills it at the moment. Tells whether it had not ended before.
fn kill(pair: &Pair, moment: Moment) -> bool {
    let mut child = pair.start(&SYNC);
    match moment {
        Moment::After(delay) => std::thread::sleep(delay),
        Moment::Line(number) => {
            let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
            lines.take(number).for_each(drop);
        }
        Moment::Staged(number) => await_staged(pair, &mut child, number),
    }
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

fn await_staged(pair: &Pair, child: &mut Child, number: usize) {
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < number && child.try_wait().unwrap().is_none() {
        for side in pair.both() {
            seen.extend(side.staged().into_iter().map(|name| (side.name(), name)));
        }
    }
}

/// The seed to replay, or the given one.
fn seed(usual: u64) -> u64 {
    std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Fourteen days, each with two kills at any moment of the time that a clean run takes.
fn days_with_kills_by_the_clock(usual: u64) {
    let seed = seed(usual);
    let mut worlds = Worlds::new(seed);
    let mut random = Random::new(seed);
    for day in 1..=14 {
        worlds.day(day, |clean| {
            let mut moment = || Moment::After(clean.mul_f64(random.below(1000) as f64 / 1000.0));
            vec![moment(), moment()]
        });
    }
    assert!(worlds.hits >= 7, "{} kills of 28 came in time", worlds.hits);
}

// CR-01 CR-02 CR-03 S13
#[test]
fn a_run_killed_at_a_random_moment_is_as_one_that_was_not_in_a_first_world() {
    days_with_kills_by_the_clock(1);
}

// CR-01 CR-02 CR-03 S13
#[test]
fn a_run_killed_at_a_random_moment_is_as_one_that_was_not_in_a_second_world() {
    days_with_kills_by_the_clock(2);
}

// CR-01 CR-02 CR-03 MV-28 S13: after each of the first 36 lines, and again while it recovers.
#[test]
fn a_run_killed_after_any_line_that_it_prints_is_as_one_that_was_not() {
    let mut worlds = Worlds::new(seed(3));
    for day in 1..=18 {
        let (early, late) = (day as usize, day as usize + 18);
        worlds.day(day, |_| vec![Moment::Line(late), Moment::Line(early)]);
    }
    assert!(worlds.hits >= 12, "{} kills of 36 came in time", worlds.hits);
}

// CR-01 CR-02 DL-17 S13
#[test]
fn a_run_killed_when_any_file_is_staged_is_as_one_that_was_not() {
    let mut worlds = Worlds::new(seed(4));
    for day in 1..=10 {
        let number = day as usize;
        worlds.day(day, |_| vec![Moment::Staged(2 * number), Moment::Staged(number)]);
    }
    assert!(worlds.hits >= 5, "{} kills of 20 came in time", worlds.hits);
}

// CR-29
#[test]
fn a_first_run_killed_again_and_again_ends_in_sync_and_without_conflict() {
    let seed = seed(5);
    let mut random = Random::new(seed);
    let pair = Pair::new();
    Users::new(seed).settle_in(&pair);
    Users::new(seed + 1).settle_in_remotely(&pair);
    let mut seen = Witness::default();
    for kill_number in 0..12 {
        kill(&pair, Moment::After(Duration::from_millis(random.below(60) as u64)));
        let story = format!("CRASH_SEED={seed}, kill {kill_number}");
        pair.check_ledger(&story);
        seen.look(&pair);
        seen.check(&pair, &story);
    }
    pair.sync().exits(0);
    pair.assert_equal();
    assert_eq!(pair.local().tree().lines().iter().filter(|line| line.contains("CC(")).count(), 0);
    pair.assert_quiet(0);
}

// BC-19 S7: on days like those that the killed runs had. Folders on the way to a file may already have
// their new names or not, as operations run side by side.
#[test]
fn a_plan_of_a_full_day_foretells_what_the_run_does() {
    let seed = seed(6);
    let pair = Pair::new();
    Users::new(seed).settle_in(&pair);
    pair.sync().exits(0);
    for day in 1..=6 {
        Users::new(seed ^ (day << 32)).change(&pair);
        let mut plan = pair.run(&["sync", "--once", "--json", "--force", "-n"]);
        // Only a run reads what was written so lately that its times cannot tell, and finds it equal.
        let [local, remote] = pair.both();
        plan.ops.retain(|op| {
            let here = std::fs::read(local.path(&op.path)).ok();
            op.op != "download"
                || here.is_none()
                || here != std::fs::read(remote.path(&op.path)).ok()
        });
        let run = pair.sync_with(&["--force"]);
        let [foretold, done] = [&plan, &run].map(|run| {
            let name = |path: &str| plain(path.rsplit('/').next().unwrap_or_default());
            let line = |op: &Op| {
                let to = op.to.as_deref().map(name).unwrap_or_default();
                format!("{} {} {} {to} because {}", op.op, op.side, name(&op.path), op.reason)
            };
            let mut lines: Vec<String> = run.ops.iter().map(line).collect();
            lines.sort();
            lines
        });
        assert_eq!(
            difference(&foretold, &done),
            none(),
            "foretold, done: CRASH_SEED={seed}, {day}"
        );
        assert_eq!(foretold.len(), done.len(), "CRASH_SEED={seed}, {day}");
        pair.assert_equal();
    }
}

/// Five days in a one-way mode, with changes on both sides, and a kill on each.
fn one_way_days(mode: &str, usual: u64) {
    let seed = seed(usual);
    let mut random = Random::new(seed);
    let pair = Pair::with_flags(&["--mode", mode]);
    let (from, deletes) = match mode {
        "mirror-up" => (0, true),
        "mirror-down" => (1, true),
        "backup-up" => (0, false),
        _ => (1, false),
    };
    Users::new(seed).settle_in(&pair);
    if from == 1 {
        std::fs::rename(pair.path("local"), pair.path("filled")).unwrap();
        std::fs::rename(pair.path("remote"), pair.path("local")).unwrap();
        std::fs::rename(pair.path("filled"), pair.path("remote")).unwrap();
    }
    pair.sync().exits(0);
    pair.assert_equal();
    for day in 1..=5 {
        let story = format!("CRASH_SEED={seed}, {mode}, day {day}");
        Users::new(seed ^ (day << 32)).change(&pair);
        let source = pair.both()[from].tree();
        kill(&pair, Moment::After(Duration::from_millis(random.below(120) as u64)));
        pair.check_ledger(&story);
        let run = pair.sync_with(&["--force"]);
        assert!([0, 3].contains(&run.exit), "{story}: {run}");
        let sides = pair.both();
        assert_eq!(source.difference(&sides[from].tree()), Vec::<String>::new(), "{story}: {run}");
        let lines = sides[1 - from].tree().lines();
        let missing: Vec<String> =
            source.lines().into_iter().filter(|line| !lines.contains(line)).collect();
        assert_eq!(missing, Vec::<String>::new(), "{story}: {run}");
        if deletes {
            pair.assert_equal();
        } else {
            assert!(run.paths("delete").is_empty(), "{story}: {run}");
        }
        pair.assert_no_leftovers();
        pair.assert_quiet_with(&["--force"], run.exit);
    }
}

// S13, one way only.
#[test]
fn days_of_a_mirror_to_the_remote() {
    one_way_days("mirror-up", 21);
}

// S13, one way only.
#[test]
fn days_of_a_mirror_from_the_remote() {
    one_way_days("mirror-down", 22);
}

// S13, one way only.
#[test]
fn days_of_a_backup_to_the_remote() {
    one_way_days("backup-up", 23);
}

// S13, one way only.
#[test]
fn days_of_a_backup_from_the_remote() {
    one_way_days("backup-down", 24);
}
