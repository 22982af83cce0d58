use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;

use super::*;

/// Stands still until it is moved.
#[derive(Default)]
struct Hand(AtomicI64);

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, _duration: Duration) {}
}

struct Bench {
    meter: Arc<Meter>,
    hand: Arc<Hand>,
    clock: Arc<dyn Clock>,
}

const MIB: u64 = 1 << 20;

impl Bench {
    fn new() -> Bench {
        let hand = Arc::new(Hand(AtomicI64::new(1_795_248_000_000_000_000)));
        Bench { meter: Arc::default(), clock: Arc::clone(&hand) as Arc<dyn Clock>, hand }
    }

    fn wait(&self, seconds: f64) {
        self.hand.0.fetch_add((seconds * 1e9) as i64, Ordering::SeqCst);
    }

    fn read(&self) -> Reading {
        self.meter.read(self.clock.now())
    }

    fn begin(&self, path: &str, to: Side, total: u64) -> Moving {
        let path = RelPath::new(path).unwrap();
        self.meter.begin(&self.clock, path, to, Purpose::Transfer, total)
    }

    /// Moves a mebibyte a second.
    fn flow(&self, moving: &Moving, seconds: u32) {
        for _ in 0..seconds {
            self.wait(1.0);
            moving.wire().pass(1 << 20);
        }
    }

    fn small_operations(&self, count: u32, each_s: f64) {
        for _ in 0..count {
            let operation = async {
                self.wait(each_s);
                Ok::<(), ()>(())
            };
            self.meter.count(&*self.clock, operation).now_or_never().unwrap().unwrap();
        }
    }
}

#[test]
fn a_transfer_is_shown_while_it_runs_and_what_arrived_stays_counted() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 30 * MIB, large_bytes: 30 * MIB, small: 0 });
    let moving = bench.begin("a/b", Side::Remote, 10 * MIB);
    bench.flow(&moving, 4);
    let reading = bench.read();
    assert_eq!(reading.running.len(), 1);
    let running = &reading.running[0];
    assert_eq!((running.path.as_str(), running.to), ("a/b", Side::Remote));
    assert_eq!((running.done, running.total), (4 * MIB, 10 * MIB));
    assert_eq!((reading.done, reading.left), (4 * MIB, 26 * MIB));
    assert_eq!((reading.moved.sent, reading.moved.received), (4 * MIB, 0));
    assert!(reading.up_bps >= MIB && reading.down_bps == 0, "{reading:?}");
    assert_eq!(reading.eta_s, Some(26));
    bench.flow(&moving, 6);
    moving.arrived();
    let reading = bench.read();
    assert_eq!((reading.running.len(), reading.done, reading.left), (0, 10 * MIB, 20 * MIB));
    assert_eq!(reading.eta_s, Some(20));
    bench.wait(60.0);
    let idle = bench.read();
    assert_eq!((idle.up_bps, idle.moved.sent, idle.is_lively()), (0, 10 * MIB, false));
    bench.meter.rest();
    let rested = bench.read();
    assert_eq!((rested.done, rested.left, rested.eta_s), (0, 0, None));
    assert_eq!(rested.moved.sent, 10 * MIB, "totals are for good");
}

#[test]
fn a_transfer_that_failed_was_on_the_wire_and_was_no_progress() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 8 * MIB, large_bytes: 8 * MIB, small: 0 });
    let moving = bench.begin("a", Side::Local, 8 * MIB);
    bench.flow(&moving, 5);
    drop(moving);
    let reading = bench.read();
    assert_eq!((reading.done, reading.left), (0, 8 * MIB));
    assert_eq!(reading.moved.received, 5 * MIB);
    assert_eq!(reading.eta_s, None, "nothing arrived: nobody can tell when it will");
}

#[test]
fn what_an_earlier_process_sent_is_progress_and_not_on_the_wire() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 10 * MIB, large_bytes: 10 * MIB, small: 0 });
    let moving = bench.begin("a", Side::Remote, 10 * MIB);
    moving.goes_on_at(6 * MIB);
    bench.flow(&moving, 2);
    let reading = bench.read();
    assert_eq!((reading.done, reading.left, reading.moved.sent), (8 * MIB, 2 * MIB, 2 * MIB));
    assert_eq!(reading.eta_s, Some(2));
}

#[test]
fn bytes_beyond_the_end_are_on_the_wire_and_no_progress() {
    let bench = Bench::new();
    let moving = bench.begin("a", Side::Local, 100);
    moving.wire().pass(150);
    let reading = bench.read();
    assert_eq!((reading.running[0].done, reading.moved.received), (100, 150));
}

// UP-11
#[test]
fn an_instant_upload_saves_its_bytes_and_sends_none() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 9 * MIB, large_bytes: 9 * MIB, small: 0 });
    bench.begin("a", Side::Remote, 9 * MIB).was_instant();
    let reading = bench.read();
    let moved = Moved { instant: 9 * MIB, instant_files: 1, ..Moved::default() };
    assert_eq!((reading.moved, reading.done, reading.left), (moved, 9 * MIB, 0));
    assert_eq!(reading.up_bps, 0);
}

#[test]
fn content_that_is_only_read_for_its_hash_is_shown_and_is_no_pending_work() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 5, large_bytes: 0, small: 1 });
    let path = RelPath::new("a").unwrap();
    let moving = bench.meter.begin(&bench.clock, path, Side::Local, Purpose::Read, 100);
    moving.wire().pass(50);
    let reading = bench.read();
    assert_eq!((reading.running.len(), reading.done, reading.left), (1, 0, 5));
    moving.arrived();
    bench.meter.hashed(100);
    let reading = bench.read();
    assert_eq!((reading.done, reading.left, reading.moved.hashed), (0, 5, 100));
}

#[test]
fn nothing_is_foretold_that_was_not_measured() {
    let bench = Bench::new();
    assert_eq!(bench.read().eta_s, None, "nothing is left");
    bench.meter.expect(Left { bytes: 100 * MIB, large_bytes: 100 * MIB, small: 5 });
    let moving = bench.begin("a", Side::Remote, 100 * MIB);
    bench.flow(&moving, 1);
    assert_eq!(bench.read().eta_s, None, "one second is not enough");
    bench.flow(&moving, 3);
    assert_eq!(bench.read().eta_s, Some(96), "a few small files more do not hide it");
    bench.meter.expect(Left { bytes: 100 * MIB, large_bytes: 100 * MIB, small: 500 });
    assert_eq!(bench.read().eta_s, None, "how long many small files take is not known yet");
    bench.wait(70.0);
    assert_eq!(bench.read().eta_s, None, "nothing has moved for more than a minute");
}

#[test]
fn small_files_and_operations_without_content_count_by_their_number() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 2000, large_bytes: 0, small: 1010 });
    bench.small_operations(10, 0.5);
    assert_eq!(bench.read().eta_s, Some(500));
    bench.meter.expect(Left { bytes: 10 * MIB, large_bytes: 10 * MIB, small: 100 });
    let moving = bench.begin("a", Side::Remote, 10 * MIB);
    bench.flow(&moving, 4);
    // Six mebibytes at one a second, and a hundred operations at two a second.
    assert_eq!(bench.read().eta_s, Some(56));
    bench.flow(&moving, 6);
    moving.arrived();
    bench.begin("small", Side::Remote, 10).arrived();
    assert_eq!(bench.read().eta_s, Some(45), "eleven in five seconds, and 99 to go");
}

#[test]
fn an_operation_that_failed_is_none_of_those_per_second() {
    let bench = Bench::new();
    bench.meter.expect(Left { bytes: 0, large_bytes: 0, small: 100 });
    let operation = async {
        bench.wait(10.0);
        Err::<(), ()>(())
    };
    assert!(bench.meter.count(&*bench.clock, operation).now_or_never().unwrap().is_err());
    assert_eq!(bench.read().eta_s, None);
    bench.small_operations(10, 1.0);
    assert_eq!(bench.read().eta_s, Some(180), "twenty seconds of work did ten of them");
}
