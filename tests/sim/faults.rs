//! The hub that every simulated part draws from: dice, delays, the fault menu, the kill switch and the event log.
//!
//! Nothing here knows a file or a request. All randomness of a run comes from its seed through `Dice`.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use foldsync::clock::{Clock, Timestamp};
use foldsync::tree::Side;

use super::oracle::Ledger;
use super::users::{Tree, Users};

/// A small generator (splitmix64): the same seed gives the same world, on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for an empty range.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.roll() % bound as u64) as usize }
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    /// True in `permille` of a thousand throws.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.roll() % 1000 < u64::from(permille)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// One of several odds, so that many seeds have no such fault and some have a lot of it.
    pub(crate) fn swarm(&mut self, menu: &[u32]) -> u32 {
        self.pick(menu).copied().unwrap_or(0)
    }
}

/// The fault menu: odds per call, in permille. All zero is a calm day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odds {
    pub(crate) disk_io: u32,
    /// An error after the change was made: a failed flush.
    pub(crate) disk_io_late: u32,
    pub(crate) disk_full: u32,
    /// The request never arrives.
    pub(crate) request_lost: u32,
    /// The change is made, the answer is not seen.
    pub(crate) reply_lost: u32,
    /// The change is made after the caller gave up.
    pub(crate) reply_late: u32,
    pub(crate) rate_limited: u32,
    pub(crate) unavailable: u32,
    pub(crate) download_cut: u32,
    pub(crate) download_wrong: u32,
    pub(crate) session_expired: u32,
    pub(crate) quota_full: u32,
    /// A listing shows the folder as it was a while ago.
    pub(crate) stale: u32,
}

impl Odds {
    pub(crate) fn draw(dice: &mut Dice) -> Odds {
        if dice.chance(300) {
            return Odds::default();
        }
        let mut odd = |menu: &[u32]| dice.swarm(menu);
        Odds {
            disk_io: odd(&[0, 0, 0, 5, 30]),
            disk_io_late: odd(&[0, 0, 0, 5, 30]),
            disk_full: odd(&[0, 0, 0, 20]),
            request_lost: odd(&[0, 0, 10, 60]),
            reply_lost: odd(&[0, 0, 10, 80]),
            reply_late: odd(&[0, 0, 0, 40]),
            rate_limited: odd(&[0, 0, 0, 40]),
            unavailable: odd(&[0, 0, 20, 80]),
            download_cut: odd(&[0, 0, 60]),
            download_wrong: odd(&[0, 0, 60]),
            session_expired: odd(&[0, 0, 60]),
            quota_full: odd(&[0, 0, 0, 60]),
            stale: odd(&[0, 0, 100, 300]),
        }
    }
}

/// How long simulated calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Calls that are outstanding together finish in the order of their start.
    Instant,
    Jittery,
    /// Some calls are a thousand times slower than others.
    Erratic,
}

/// What becomes of the event log, beside its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Off,
    Kept,
    /// Shown as it happens, for days that do not end.
    Shown,
}

/// Names one start of the engine: calls of a killed one never act again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(pub(crate) u64);

struct Inner {
    dice: Dice,
    odds: Odds,
    pace: Pace,
    life: u64,
    steps: u64,
    kill_at: Option<u64>,
    dead: bool,
    seen: u64,
    skew_ns: i64,
    trace: Trace,
    log: Vec<String>,
    digest: std::hash::DefaultHasher,
    violations: Vec<String>,
}

/// Something that happens in the middle of the engine's calls.
pub(crate) type Deed = Box<dyn FnOnce() + Send>;

/// Shared by disk, cloud, clock and world.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    agenda: Mutex<BTreeMap<u64, Vec<Deed>>>,
    killed: tokio::sync::Notify,
    started: tokio::time::Instant,
    pub(crate) ledger: Mutex<Ledger>,
    sides: Mutex<Vec<Arc<dyn Users + Send + Sync>>>,
    haste: AtomicBool,
}

/// 2026-01-01T00:00:00Z, when every run starts.
const EPOCH_NS: i64 = 1_767_225_600_000_000_000;

impl Hub {
    /// Must be made inside the runtime whose time it tells.
    pub(crate) fn new(seed: u64, odds: Odds, pace: Pace, trace: Trace) -> Hub {
        Hub {
            inner: Mutex::new(Inner {
                dice: Dice::new(seed, 1),
                odds,
                pace,
                life: 0,
                steps: 0,
                kill_at: None,
                dead: false,
                seen: 0,
                skew_ns: 0,
                trace,
                log: Vec::new(),
                digest: std::hash::DefaultHasher::new(),
                violations: Vec::new(),
            }),
            agenda: Mutex::default(),
            killed: tokio::sync::Notify::new(),
            started: tokio::time::Instant::now(),
            ledger: Mutex::new(Ledger::default()),
            sides: Mutex::default(),
            haste: AtomicBool::new(false),
        }
    }

    /// Makes a side known to the oracle.
    pub(crate) fn join(&self, users: Arc<dyn Users + Send + Sync>) {
        self.sides.lock().expect("never poisoned").push(users);
    }

    /// Users act during runs: what they move about may be missed for a moment.
    pub(crate) fn allow_haste(&self, haste: bool) {
        self.haste.store(haste, Ordering::Relaxed);
    }

    pub(crate) fn is_hasty(&self) -> bool {
        self.haste.load(Ordering::Relaxed)
    }

    /// What users of a side see now.
    pub(crate) fn sight(&self, side: Side) -> Tree {
        let sides = self.sides.lock().expect("never poisoned");
        sides.iter().find(|users| users.side() == side).map(|u| u.tree()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread of a simulation panics while it holds this")
    }

    // ---- time ------------------------------------------------------------------------------

    /// What clocks show, in nanoseconds since the epoch.
    pub(crate) fn now_ns(&self) -> i64 {
        self.true_ns() + self.lock().skew_ns
    }

    fn true_ns(&self) -> i64 {
        let passed = i64::try_from(self.started.elapsed().as_nanos());
        EPOCH_NS + passed.expect("a run is shorter than a century")
    }

    /// The computer's clock jumps.
    pub(crate) fn step_clock(&self, by_ns: i64) {
        self.lock().skew_ns += by_ns;
    }

    // ---- life and death ----------------------------------------------------------------------

    /// A new start of the engine, to be killed after that many simulated steps.
    pub(crate) fn begin_life(&self, kill_after: Option<u64>) -> Life {
        let mut inner = self.lock();
        inner.life += 1;
        inner.dead = false;
        inner.kill_at = kill_after.map(|n| inner.steps + n);
        Life(inner.life)
    }

    pub(crate) fn end_life(&self) {
        let mut inner = self.lock();
        inner.dead = true;
        inner.kill_at = None;
    }

    /// Returns when the current life is over.
    pub(crate) async fn death(&self) {
        while !self.lock().dead {
            self.killed.notified().await;
        }
    }

    /// Has something happen that many steps from now, exactly between two steps of the engine.
    pub(crate) fn schedule(&self, after_steps: u64, deed: Deed) {
        let at = self.steps() + after_steps;
        let mut agenda = self.agenda.lock().expect("the agenda is never poisoned");
        agenda.entry(at).or_default().push(deed);
    }

    /// Does everything that was scheduled up to a step; at the end of a run, all of it.
    pub(crate) fn do_scheduled(&self, until_step: u64) {
        loop {
            let mut agenda = self.agenda.lock().expect("the agenda is never poisoned");
            let Some(first) = agenda.first_entry().filter(|e| *e.key() <= until_step) else {
                break;
            };
            let deeds = first.remove();
            drop(agenda);
            deeds.into_iter().for_each(|deed| deed());
        }
    }

    /// One await point: a step is counted, time passes, and a killed life never comes back.
    pub(crate) async fn pause(&self, life: Life) {
        self.do_scheduled(self.steps());
        let Some(delay) = self.step(life) else { return std::future::pending().await };
        if delay.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(delay).await;
        }
        let gone = {
            let inner = self.lock();
            inner.dead || inner.life != life.0
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }

    fn step(&self, life: Life) -> Option<Duration> {
        let mut inner = self.lock();
        if inner.dead || inner.life != life.0 {
            return None;
        }
        inner.steps += 1;
        if inner.kill_at.is_some_and(|at| inner.steps >= at) {
            inner.dead = true;
            inner.kill_at = None;
            self.killed.notify_one();
            return None;
        }
        let pace = inner.pace;
        let delay_ms = match pace {
            Pace::Instant => 0,
            Pace::Jittery => inner.dice.between(0, 4),
            Pace::Erratic if inner.dice.chance(30) => inner.dice.between(100, 3000),
            Pace::Erratic => inner.dice.between(0, 20),
        };
        Some(Duration::from_millis(delay_ms))
    }

    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    // ---- faults ------------------------------------------------------------------------------

    /// Whether this fault strikes now.
    pub(crate) fn strikes(&self, odds: impl Fn(&Odds) -> u32) -> bool {
        let mut inner = self.lock();
        let permille = odds(&inner.odds);
        inner.dice.chance(permille)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.lock().odds == Odds::default()
    }

    /// From here on nothing fails any more.
    pub(crate) fn calm(&self) {
        self.lock().odds = Odds::default();
    }

    /// A throw of the world's own dice.
    pub(crate) fn below(&self, bound: usize) -> usize {
        self.lock().dice.below(bound)
    }

    // ---- the record --------------------------------------------------------------------------

    /// Adds an event to the log that two runs of a seed must have in common.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let at_ms = (self.true_ns() - EPOCH_NS) / 1_000_000;
        let mut inner = self.lock();
        let line = format!("{at_ms:>8} {event}");
        inner.digest.write(line.as_bytes());
        inner.seen += 1;
        match inner.trace {
            Trace::Off => {}
            Trace::Kept => inner.log.push(line),
            Trace::Shown => println!("{line}"),
        }
    }

    /// Whether somebody reads the log as it is written.
    pub(crate) fn is_shown(&self) -> bool {
        self.lock().trace == Trace::Shown
    }

    pub(crate) fn digest(&self) -> u64 {
        self.lock().digest.finish()
    }

    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// Something that must never happen has happened.
    pub(crate) fn violate(&self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}

/// The engine's clock: virtual, and it may step.
pub(crate) struct SimClock {
    hub: Arc<Hub>,
}

impl SimClock {
    pub(crate) fn new(hub: Arc<Hub>) -> SimClock {
        SimClock { hub }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.hub.now_ns())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
