//! How fast an account is used: requests a second, bytes a second, and when to leave it alone.
//!
//! Everything here is shared by all workers of an account. Time comes from `Clock`; jitter from a
//! hash, so that a run is a function of its inputs.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::{Clock, Timestamp};
use crate::remote::{Effect, ErrorKind, RemoteError, Result};
use crate::tree::{ContentHash, HashAlgo, Hasher};

/// How fast one direction may go. Changed while running, for example by a timetable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes_per_second: Option<u64>,
}

// ---- time that only moves forward ----------------------------------------------------------------

/// The wall clock, made steady: a jump back counts as nothing, a jump ahead as at most a minute.
#[derive(Clone)]
struct Steady {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<(Timestamp, u64)>>,
}

impl Steady {
    const STEP_MAX: Duration = Duration::from_secs(60);

    fn new(clock: Arc<dyn Clock>) -> Steady {
        let now = clock.now();
        Steady { clock, state: Arc::new(Mutex::new((now, 0))) }
    }
}

impl GovernorClock for Steady {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let step = now.since(state.0).min(Steady::STEP_MAX);
        state.0 = now;
        state.1 = state.1.saturating_add(u64::try_from(step.as_nanos()).unwrap_or(u64::MAX));
        Nanos::from(state.1)
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Steady, NoOpMiddleware<Nanos>>;

// ---- bytes ---------------------------------------------------------------------------------------

/// Cells are KiB: with bytes as cells the limiter's interval is rounded to whole nanoseconds, and a
/// fast limit becomes none. A step is small and its turn is queued for, so that a large transfer
/// does not starve a small one.
const STEP_KIB: u32 = 64;

/// Paces the bytes of one direction.
pub(super) struct Throttle {
    steady: Steady,
    limiter: Mutex<Option<Arc<Limiter>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Throttle {
    pub(super) fn new(clock: Arc<dyn Clock>, limits: Limits) -> Throttle {
        let throttle = Throttle {
            steady: Steady::new(clock),
            limiter: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        throttle.set(limits);
        throttle
    }

    /// Takes effect within one step, also for transfers under way.
    pub(super) fn set(&self, limits: Limits) {
        let limiter = limits.bytes_per_second.map(|bytes| {
            let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
            let rate = NonZeroU32::new(kib).unwrap_or(NonZeroU32::MIN);
            let burst = NonZeroU32::new((kib / 20).max(STEP_KIB)).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::per_second(rate).allow_burst(burst);
            Arc::new(RateLimiter::direct_with_clock(quota, self.steady.clone()))
        });
        *self.limiter.lock().unwrap_or_else(PoisonError::into_inner) = limiter;
    }

    fn limiter(&self) -> Option<Arc<Limiter>> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until that many bytes may pass. Tells whether there is a limit at all.
    pub(super) async fn take(&self, bytes: usize) -> bool {
        let mut kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        while kib > 0 {
            let step = kib.min(STEP_KIB);
            let Some(_) = self.limiter() else { return false };
            // Fair: tokio's mutex is first come, first served.
            let _turn = self.turn.lock().await;
            self.step(step).await;
            kib -= step;
        }
        true
    }

    async fn step(&self, kib: u32) {
        // The limit may change while this waits: it is looked up again each time.
        const NAP_MAX: Duration = Duration::from_millis(200);
        let cells = NonZeroU32::new(kib).unwrap_or(NonZeroU32::MIN);
        while let Some(limiter) = self.limiter() {
            match limiter.check_n(cells) {
                Ok(Ok(())) => return,
                Ok(Err(not_yet)) => {
                    let wait = not_yet.wait_time_from(self.steady.now()).min(NAP_MAX);
                    self.steady.clock.sleep(wait.max(Duration::from_millis(1))).await;
                }
                // A step never exceeds the burst; if it did, waiting would not help.
                Err(_) => return,
            }
        }
    }
}

// ---- requests --------------------------------------------------------------------------------------

/// Paces the requests of an account.
pub(super) struct Turns {
    steady: Steady,
    limiter: Mutex<Option<Arc<Limiter>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Turns {
    pub(super) fn new(clock: Arc<dyn Clock>, per_second: Option<f64>) -> Turns {
        let turns = Turns {
            steady: Steady::new(clock),
            limiter: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        turns.set(per_second);
        turns
    }

    /// `None`, and whatever is not a positive rate, means no limit.
    pub(super) fn set(&self, per_second: Option<f64>) {
        let limiter = per_second.filter(|rate| *rate > 0.0).and_then(|rate| {
            let period = Duration::try_from_secs_f64(1.0 / rate).ok()?;
            // One second's worth at once, so that a short exchange does not crawl.
            let burst = NonZeroU32::new(rate as u32).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(period)?.allow_burst(burst);
            Some(Arc::new(RateLimiter::direct_with_clock(quota, self.steady.clone())))
        });
        *self.limiter.lock().unwrap_or_else(PoisonError::into_inner) = limiter;
    }

    /// Waits for permission to send one request.
    pub(super) async fn take(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(limiter) = limiter else { return };
            let Err(not_yet) = limiter.check() else { return };
            let wait = not_yet.wait_time_from(self.steady.now());
            self.steady.clock.sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}

// ---- waiting longer each time ----------------------------------------------------------------------

/// How long to wait after the n-th failure in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    pub const DEFAULT: Backoff =
        Backoff { first: Duration::from_millis(500), most: Duration::from_secs(300) };

    /// Doubles each time up to `most`; spread by `salt` over the upper half, so that clients that
    /// failed together do not come back together.
    pub fn wait(&self, attempt: u32, salt: u64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let whole = doubled.min(self.most);
        let mut seed = [0; 12];
        seed[..8].copy_from_slice(&salt.to_le_bytes());
        seed[8..].copy_from_slice(&attempt.to_le_bytes());
        let part = match Hasher::of(HashAlgo::Sha256, &seed) {
            ContentHash::Sha256(hash) => u32::from(u16::from_le_bytes([hash[0], hash[1]])),
            ContentHash::Md5(_) | ContentHash::Sha1(_) => 0,
        };
        whole / 2 + (whole / 2) * part / u32::from(u16::MAX)
    }
}

// ---- leaving the account alone -----------------------------------------------------------------------

/// Failures in a row before requests stop.
const FAILURES_MAX: u32 = 5;

#[derive(Default)]
struct GateState {
    failures: u32,
    /// While set, nobody but one probe passes until then.
    closed_until: Option<Timestamp>,
    probing: bool,
    refusals: u32,
    /// The service asked us to wait.
    paused_until: Option<Timestamp>,
}

/// One door for all requests of an account. It closes for a while when the service is not there
/// (then one probe tries), and when the service says that we ask too much.
pub(super) struct Gate {
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    salt: u64,
    state: Mutex<GateState>,
    passed: AtomicU64,
}

/// Permission to send one request. What came of it must be told, or it counts as nothing.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    probe: bool,
}

impl Gate {
    pub(super) fn new(clock: Arc<dyn Clock>, backoff: Backoff, salt: u64) -> Gate {
        Gate { clock, backoff, salt, state: Mutex::default(), passed: AtomicU64::new(0) }
    }

    /// Requests let through so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Fails at once, without a request, while the account is to be left alone.
    pub(super) fn enter(&self) -> Result<Pass<'_>> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = state.paused_until {
            // A clock that was set back must not make the pause longer than it was meant to be.
            if until > now && until.since(now) <= RETRY_AFTER_MAX {
                let error = RemoteError::new(ErrorKind::RateLimited, "the service asked to wait");
                return Err(error.after(until.since(now)));
            }
            state.paused_until = None;
        }
        let mut probe = false;
        if let Some(until) = state.closed_until {
            let waiting = until > now && until.since(now) <= self.backoff.most;
            if waiting || state.probing {
                let wait = if waiting { until.since(now) } else { self.backoff.first };
                let context = "the service did not answer lately; waiting before the next try";
                return Err(RemoteError::new(ErrorKind::Unavailable, context).after(wait));
            }
            state.probing = true;
            probe = true;
        }
        drop(state);
        self.passed.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { gate: self, probe })
    }
}

impl Pass<'_> {
    /// Any answer, also a refusal, shows that the service is there.
    pub(super) fn answered(self) {
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = 0;
        state.refusals = 0;
        state.closed_until = None;
    }

    /// No answer, or one that says "try later".
    pub(super) fn failed(self) {
        let gate = self.gate;
        let mut state = gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            let wait = gate.backoff.wait(state.failures - FAILURES_MAX, gate.salt);
            state.closed_until = Some(gate.clock.now().plus(wait));
        }
    }

    /// Too many requests. Returns how long everybody waits now.
    pub(super) fn refused(self, retry_after: Option<Duration>) -> Duration {
        let gate = self.gate;
        let mut state = gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refusals = state.refusals.saturating_add(1);
        let wait = retry_after.unwrap_or_else(|| gate.backoff.wait(state.refusals, gate.salt));
        let until = gate.clock.now().plus(wait);
        state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
        state.failures = 0;
        state.closed_until = None;
        wait
    }
}

impl Drop for Pass<'_> {
    /// Also when the request was cancelled: the next one may probe.
    fn drop(&mut self) {
        if self.probe {
            let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.probing = false;
        }
    }
}

/// Longest wait that a service can impose.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Reads `Retry-After`: seconds or a date, held within a second and an hour. `None` if it says
/// nothing that makes sense.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.parse::<i64>() {
        Ok(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
            Timestamp::from_seconds(at.as_second()).since(now)
        }
    };
    Some(wait.clamp(Duration::from_secs(1), RETRY_AFTER_MAX))
}

/// Whether an error may be followed by the same request again, without looking first.
pub(super) fn is_repeatable(error: &RemoteError) -> bool {
    error.effect == Effect::None
        && matches!(
            error.kind,
            ErrorKind::Unavailable | ErrorKind::RateLimited | ErrorKind::Protocol
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time moves only when somebody sleeps.
    #[derive(Default)]
    struct Virtual(Mutex<i64>);

    impl Virtual {
        fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += i64::try_from(by.as_nanos()).unwrap();
        }
    }

    #[async_trait::async_trait]
    impl Clock for Virtual {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock().unwrap())
        }

        async fn sleep(&self, duration: Duration) {
            self.advance(duration);
        }
    }

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(1), most: Duration::from_secs(64) };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    // UP-26
    #[tokio::test]
    async fn bytes_pass_at_the_rate_that_was_set() {
        let clock = Arc::new(Virtual::default());
        let limits = Limits { bytes_per_second: Some(1 << 20) };
        let throttle = Throttle::new(clock.clone(), limits);
        for _ in 0..60 {
            throttle.take(1 << 20).await;
        }
        let took = clock.now().since(Timestamp(0));
        assert!(took >= seconds(58) && took <= seconds(62), "{took:?}");
    }

    #[tokio::test]
    async fn a_limit_changes_while_running() {
        let clock = Arc::new(Virtual::default());
        let throttle = Throttle::new(clock.clone(), Limits { bytes_per_second: Some(1024) });
        throttle.set(Limits { bytes_per_second: None });
        throttle.take(1 << 30).await;
        assert_eq!(clock.now(), Timestamp(0));
    }

    // AU-19
    #[tokio::test]
    async fn requests_share_one_rate() {
        let clock = Arc::new(Virtual::default());
        let turns = Turns::new(clock.clone(), Some(0.5));
        for _ in 0..11 {
            turns.take().await;
        }
        let took = clock.now().since(Timestamp(0));
        assert!(took >= seconds(20) && took <= seconds(21), "{took:?}");
    }

    #[tokio::test]
    async fn a_clock_that_jumps_back_does_not_stop_requests() {
        let clock = Arc::new(Virtual::default());
        clock.advance(seconds(10_000));
        let turns = Turns::new(clock.clone(), Some(1.0));
        turns.take().await;
        *clock.0.lock().unwrap() = 0;
        turns.take().await;
        assert!(clock.now().since(Timestamp(0)) <= seconds(2));
    }

    #[test]
    fn waits_grow_are_capped_and_differ_between_clients() {
        let waits: Vec<Duration> = (0..12).map(|n| BACKOFF.wait(n, 7)).collect();
        assert!(waits[0] >= seconds(1) / 2 && waits[0] <= seconds(1));
        assert!(waits[11] >= seconds(32) && waits[11] <= seconds(64));
        assert!((0..20).any(|salt| BACKOFF.wait(6, salt) != BACKOFF.wait(6, salt + 1)));
        assert_eq!(BACKOFF.wait(3, 7), waits[3]);
        assert!(BACKOFF.wait(u32::MAX, 7) <= seconds(64));
    }

    // AU-21
    #[test]
    fn a_service_that_is_gone_is_probed_and_not_stormed() {
        let clock = Arc::new(Virtual::default());
        let gate = Gate::new(clock.clone(), BACKOFF, 1);
        let mut sent = 0;
        for _ in 0..10_000 {
            if let Ok(pass) = gate.enter() {
                sent += 1;
                pass.failed();
            }
        }
        assert_eq!(sent, FAILURES_MAX);
        clock.advance(seconds(2));
        let probe = gate.enter().unwrap();
        assert!(gate.enter().is_err(), "one probe at a time");
        probe.answered();
        gate.enter().unwrap().answered();
        gate.enter().unwrap().answered();
    }

    #[test]
    fn a_probe_that_is_cancelled_leaves_room_for_the_next() {
        let clock = Arc::new(Virtual::default());
        let gate = Gate::new(clock.clone(), BACKOFF, 1);
        for _ in 0..FAILURES_MAX {
            gate.enter().unwrap().failed();
        }
        clock.advance(seconds(2));
        drop(gate.enter().unwrap());
        assert!(gate.enter().is_ok());
    }

    // AU-11
    #[test]
    fn refusals_pause_everybody_longer_each_time_and_the_rate_recovers() {
        let clock = Arc::new(Virtual::default());
        let gate = Gate::new(clock.clone(), BACKOFF, 1);
        let first = gate.enter().unwrap().refused(None);
        let refusal = gate.enter().err().unwrap();
        assert_eq!(refusal.kind, ErrorKind::RateLimited);
        assert_eq!(refusal.retry_after, Some(first));
        clock.advance(first);
        let second = gate.enter().unwrap().refused(None);
        assert!(second > first);
        clock.advance(second);
        gate.enter().unwrap().answered();
        assert!(gate.enter().unwrap().refused(None) <= seconds(2));
    }

    // AU-12
    #[test]
    fn absurd_waits_are_held_within_a_second_and_an_hour() {
        let now = Timestamp::from_seconds(1_800_000_000);
        assert_eq!(retry_after("-1", now), Some(seconds(1)));
        assert_eq!(retry_after("1000000000", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(seconds(1)));
        assert_eq!(retry_after("Wed, 21 Oct 2037 07:28:00 GMT", now), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("120", now), Some(seconds(120)));
        for nonsense in ["", "abc", "99999999999999999999", "1.5"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
