use std::io::{BufRead as _, BufReader};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::daemon::hooks::Target;
use crate::engine::report::{OpKind, OpResult};
use crate::plan::Mode;

/// Generous: only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

fn status() -> PairStatus {
    PairStatus::new("docs".to_owned(), Mode::TwoWay, "/docs".to_owned(), at(0))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// One line for each call, of every occasion.
fn hooks(log: &Path) -> Vec<Hook> {
    let script = format!("echo \"$FOLDSYNC_HOOK $(cat)\" >> {}", log.display());
    let target = Target::Command(["sh", "-c", &script].map(str::to_owned).to_vec());
    Occasion::ALL.map(|on| Hook { on, target: target.clone(), limit: PATIENCE }).to_vec()
}

/// What was told, by occasion; in any order, as hooks run side by side.
async fn told(hear: impl FnOnce(&Bell, &mut PairStatus)) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, "").unwrap();
    let mut status = status();
    let bell = Bell::new(&status, hooks(&log), Some(Duration::from_secs(3600)), at(0));
    hear(&bell, &mut status);
    bell.close(PATIENCE).await;
    let lines = BufReader::new(std::fs::File::open(&log).unwrap()).lines();
    let mut words: Vec<String> =
        lines.map(|line| line.unwrap().split(' ').next().unwrap().to_owned()).collect();
    words.sort();
    words
}

fn held(id: i64) -> HeldItem {
    HeldItem { id, kind: "mass-delete".to_owned(), count: 30, created: Moment(at(id)) }
}

#[tokio::test]
async fn a_failure_that_lasts_is_told_once_and_again_after_a_cycle_that_ended() {
    let words = told(|bell, status| {
        for round in 0..2 {
            for _retry in 0..3 {
                status.enter(State::Scanning, at(1));
                bell.hear(status, at(1));
                status.enter(State::Error, at(2));
                bell.hear(status, at(2));
            }
            status.enter(State::Idle, at(3));
            status.totals.cycles += 1;
            bell.hear(status, at(3));
            status.enter(State::AuthExpired, at(4 + round));
            bell.hear(status, at(4));
        }
    });
    assert_eq!(words.await, ["on_auth_expired", "on_auth_expired", "on_error", "on_error"]);
}

#[tokio::test]
async fn each_set_of_held_deletions_is_told_once() {
    let words = told(|bell, status| {
        status.enter(State::Held, at(1));
        for sets in [vec![1], vec![1], vec![1, 2], vec![2]] {
            status.held = sets.into_iter().map(held).collect();
            bell.hear(status, at(1));
        }
    });
    assert_eq!(words.await, ["on_hold", "on_hold"]);
}

#[tokio::test]
async fn a_guard_that_leaves_nothing_to_approve_is_told_too() {
    let words = told(|bell, status| {
        status.enter(State::Held, at(1));
        bell.hear(status, at(1));
        bell.hear(status, at(2));
    });
    assert_eq!(words.await, ["on_hold"]);
}

#[tokio::test]
async fn a_cycle_is_told_only_if_something_was_done_that_people_are_told_of() {
    let words = told(|bell, status| {
        let mut cycle = |op: OpKind, count: u64| {
            status.totals.cycles += 1;
            status.totals.operations.push(OpCount { op, result: OpResult::Done, count });
            bell.hear(status, at(1));
            // The next one does nothing.
            status.totals.cycles += 1;
            bell.hear(status, at(2));
        };
        cycle(OpKind::Read, 7);
        cycle(OpKind::Upload, 2);
        cycle(OpKind::Delete, 1);
    });
    assert_eq!(words.await, ["after_cycle", "after_cycle"]);
}

#[tokio::test]
async fn silence_is_told_once_and_not_before_a_start_had_its_chance() {
    let words = told(|bell, status| {
        // Succeeded long before this start, and looks for the first time.
        status.last_success = Some(Moment(at(-100_000)));
        assert!(!bell.watch_over(status, at(10)));
        status.enter(State::Paused, at(20));
        assert!(!bell.watch_over(status, at(9999)));
        status.enter(State::Offline, at(20));
        assert!(bell.watch_over(status, at(30)) && !bell.watch_over(status, at(40)));
        assert!(bell.silence(status, at(50)).unwrap().contains("27h"));
        status.last_success = Some(Moment(at(60)));
        assert_eq!(bell.silence(status, at(70)), None);
    });
    assert_eq!(words.await, ["on_error"]);
}
