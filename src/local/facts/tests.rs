//! What follows from facts, tried on facts that were written down by hand and on a real folder.

use super::*;
use crate::local::LocalFs as _;
use crate::local::os::{OsFs, OsOptions};

const S: i64 = 1_000_000_000;

fn stat(mtime_ns: i64) -> Rev {
    Rev::Stat { mtime_ns, ctime_ns: mtime_ns }
}

async fn measured() -> DiskFacts {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsFs::open(folder.path(), OsOptions::default()).unwrap();
    assert_eq!(disk.measure(None, true).await.unwrap(), None, "nobody has claimed it");
    disk.claim("me").await.unwrap();
    let facts = disk.measure(None, true).await.unwrap().unwrap();
    let control = std::fs::read_dir(folder.path().join(".foldsync")).unwrap();
    let names = control.map(|item| item.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with("probe")).collect();
    assert!(left.is_empty(), "the trials are cleared away: {left:?}");
    facts
}

#[tokio::test]
async fn an_ordinary_disk_is_found_to_be_one() {
    let facts = measured().await;
    assert_eq!(facts.stamp_rule(), StampRule::FINE);
    assert_eq!(facts.spelling.case, Known::Is(CaseRule::Sensitive));
    assert_eq!(facts.spelling.forms, Known::Is(FormRule::Apart));
    assert_eq!(facts.names(), NameRules::POSIX);
    let changes = facts.changes;
    let all =
        [changes.modes, changes.times, changes.noreplace, changes.exchange, changes.hard_links];
    assert!(all.iter().all(|fact| fact.is(true)), "{changes:?}");
    assert!(facts.findings().iter().all(|f| !f.is_notice || f.text.contains("inode")), "{facts:?}");
}

#[tokio::test]
async fn facts_survive_the_state_database_and_are_not_measured_twice() {
    let facts = DiskFacts { free_inodes: None, ..measured().await };
    assert_eq!(DiskFacts::from_json(&facts.to_json().unwrap()), Some(facts));
    let folder = tempfile::tempdir().unwrap();
    let disk = OsFs::open(folder.path(), OsOptions::default()).unwrap();
    disk.claim("me").await.unwrap();
    let mut known = disk.measure(None, true).await.unwrap().unwrap();
    known.spelling.case = Known::Is(CaseRule::Insensitive);
    let again = disk.measure(Some(known.clone()), false).await.unwrap().unwrap();
    assert_eq!(again.spelling, known.spelling, "what is known is believed");
    assert!(!again.is_renumbered_since(&known));
}

#[test]
fn another_number_of_the_marker_means_that_no_number_proves_anything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let facts = runtime.block_on(measured());
    let mut moved = facts.clone();
    moved.marker.ino += 1;
    assert!(moved.is_renumbered_since(&facts) && !facts.is_renumbered_since(&facts));
}

#[test]
fn a_write_hides_within_the_tick_of_the_disk_and_by_its_clock() {
    let at = Timestamp(1_000 * S);
    let fine = StampRule::FINE;
    assert!(fine.may_hide_a_write(&stat(at.0 - 1_000_000), at));
    assert!(!fine.may_hide_a_write(&stat(at.0 - S), at));
    let coarse = StampRule { grain_ns: S, ahead_ns: 0 };
    assert!(coarse.may_hide_a_write(&stat(at.0 - S), at));
    assert!(!coarse.may_hide_a_write(&stat(at.0 - 2 * S), at));
    let behind = StampRule { grain_ns: S, ahead_ns: -10 * S };
    assert!(behind.may_hide_a_write(&stat(at.0 - 10 * S), at));
    assert!(!behind.may_hide_a_write(&stat(at.0), at));
}

#[test]
fn a_time_in_the_future_hides_nothing() {
    let at = Timestamp(1_000 * S);
    for rule in [StampRule::FINE, StampRule::UNKNOWN] {
        assert!(!rule.may_hide_a_write(&stat(at.0 + 3600 * S), at));
        assert!(!rule.may_hide_a_write(&stat(i64::MAX), at));
        assert!(!rule.may_hide_a_write(&stat(i64::MIN), at));
    }
}

#[test]
fn a_birth_of_a_whole_millisecond_tells_no_files_apart() {
    assert!(is_fine_birth(1_234_567_890_123_456_789));
    for coarse in [0, 1_234_567_890_000_000_000, 1_234_567_890_120_000_000] {
        assert!(!is_fine_birth(coarse));
    }
}
