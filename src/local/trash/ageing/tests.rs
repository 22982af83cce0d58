use super::*;

const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A computer, its trash with one run folder, and what its ledger says.
struct Bench {
    /// Seconds since the run folder was begun, in truth.
    truth: i64,
    /// By how much the clock is wrong.
    wrong_by: i64,
    boot: u32,
    booted_at: i64,
    ledger: Option<Ledger>,
    label_at: i64,
}

const BEGUN: i64 = 1_800_000_000;

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench {
            truth: 0,
            wrong_by: 0,
            boot: 0,
            booted_at: -3600,
            ledger: None,
            label_at: BEGUN,
        };
        assert!(!bench.age().0);
        bench
    }

    fn wait(&mut self, seconds: i64) -> &mut Bench {
        self.truth += seconds;
        self
    }

    fn reboot(&mut self) -> &mut Bench {
        (self.boot, self.booted_at) = (self.boot + 1, self.truth);
        self
    }

    /// Whether the run folder is due, and whether a jump was seen.
    fn age(&mut self) -> (bool, bool) {
        let now = Reading {
            wall: Timestamp::from_seconds(BEGUN + self.truth + self.wrong_by),
            uptime: Some(Uptime {
                boot: self.boot.to_string(),
                seconds: u64::try_from(self.truth - self.booted_at).unwrap(),
            }),
        };
        let runs = [("run".to_owned(), Some(Timestamp::from_seconds(self.label_at)))];
        let aged = Ledger::age(self.ledger.as_ref(), &runs, &now, KEEP);
        self.ledger = Some(aged.ledger);
        (!aged.due.is_empty(), aged.jump.is_some())
    }
}

// SF-14
#[test]
fn a_run_folder_is_due_when_its_time_has_gone_by() {
    let mut bench = Bench::new();
    assert_eq!(bench.wait(30 * DAY).age(), (false, false));
    assert_eq!(bench.wait(60).age(), (true, false));
}

// SF-14
#[test]
fn time_in_which_the_computer_sleeps_or_nothing_runs_counts_while_it_is_not_restarted() {
    let mut bench = Bench::new();
    for week in 1..=4 {
        assert_eq!(bench.wait(7 * DAY).age(), (false, false), "week {week}");
    }
    assert_eq!(bench.wait(7 * DAY).age(), (true, false));
}

// SF-14
#[test]
fn a_computer_that_is_switched_on_once_a_week_ages_its_trash_too() {
    let mut bench = Bench::new();
    let due = (1..20).find(|_| bench.wait(7 * DAY).reboot().wait(60).age().0);
    assert_eq!(due, Some(6));
}

// SF-14
#[test]
fn one_run_with_a_clock_that_is_wrong_makes_nothing_due() {
    for restarts in [false, true] {
        for wrong_by in [YEAR, 90 * DAY, -90 * DAY, -YEAR] {
            for age in [0, 29 * DAY] {
                let mut bench = Bench::new();
                bench.wait(age);
                assert_eq!(bench.age(), (false, false));
                bench.wait(60).wrong_by = wrong_by;
                if restarts {
                    bench.reboot();
                }
                assert_eq!(bench.age(), (false, true), "{wrong_by} {age} {restarts}");
                bench.wait(60).wrong_by = 0;
                assert_eq!(bench.age(), (false, true), "{wrong_by} {age} {restarts} and right");
                // Whatever it said, a day later it is still too young.
                assert_eq!(bench.wait(DAY / 2).age(), (false, false));
            }
        }
    }
}

// SF-14
#[test]
fn many_runs_with_a_clock_that_is_a_year_ahead_make_nothing_due_before_its_time() {
    let mut bench = Bench::new();
    bench.wrong_by = YEAR;
    for _ in 0..29 {
        assert!(!bench.wait(DAY).age().0);
    }
}

// SF-14
#[test]
fn a_label_that_an_old_clock_wrote_does_not_count() {
    let mut bench = Bench::new();
    bench.label_at = BEGUN - YEAR;
    assert!(!bench.wait(60).age().0);
    assert!(!bench.wait(29 * DAY).age().0);
    assert!(bench.wait(2 * DAY).age().0);
}

// SF-14
#[test]
fn what_was_there_before_the_first_ledger_begins_at_nothing() {
    let mut bench = Bench::new();
    (bench.ledger, bench.label_at) = (None, BEGUN - YEAR);
    assert!(!bench.age().0);
}

#[test]
fn a_ledger_that_says_nothing_new_is_not_written() {
    let runs = |labels: &[&str]| -> Vec<(String, Option<Timestamp>)> {
        labels.iter().map(|label| ((*label).to_owned(), None)).collect()
    };
    let at = |seconds: u64| Reading {
        wall: Timestamp::from_seconds(BEGUN + i64::try_from(seconds).unwrap()),
        uptime: Some(Uptime { boot: "b".to_owned(), seconds }),
    };
    let first = Ledger::age(None, &runs(&["a"]), &at(10), KEEP);
    assert!(first.is_news);
    let first = first.ledger;
    assert!(!Ledger::age(Some(&first), &runs(&["a"]), &at(20), KEEP).is_news);
    assert!(Ledger::age(Some(&first), &runs(&["a", "b"]), &at(20), KEEP).is_news);
    assert!(Ledger::age(Some(&first), &runs(&["a"]), &at(7200), KEEP).is_news);
}
