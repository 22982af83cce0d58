//! Keeps one pair in sync for as long as the process lives: cycles of the engine, begun by what the
//! watcher sees, by the clock, or by an order; and every state that a person is told of.
//!
//! Isolated: nothing that happens to this pair touches another one. Decides nothing about files.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::status::{FailedItem, HeldItem, Moment, PairStatus, Pending, Progress, State, Watch};
use super::watched::WatchedFs;
use crate::clock::Timestamp;
use crate::drive::{Driver, Observer};
use crate::engine::{Activity, Event, LookAt, Summary};
use crate::local::ignore::Rules;
use crate::local::watch::{Degraded, Settings as WatchSettings, Sighting, Watcher};
use crate::pair::{self, Conduct, PairSettings, RunError, Sides};
use crate::tree::Side;

/// How one pair is kept.
#[derive(Clone)]
pub struct KeeperSettings {
    pub pair: PairSettings,
    pub database: PathBuf,
    /// Absolute; what is watched.
    pub local_root: PathBuf,
    /// Between two looks at the whole remote.
    pub poll: Duration,
    /// Between two looks at the whole local folder, behind the watcher.
    pub rescan: Duration,
    /// A new identity, used only if the pair has none.
    pub fresh_id: String,
}

/// Opens both sides anew: a disk may have been mounted, a network may be back.
pub type OpenSides = Box<dyn Fn() -> Result<Sides, Refusal> + Send + Sync>;

/// Why the sides could not be opened.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub state: State,
    pub message: String,
}

/// What a person asks of a pair.
#[derive(Debug)]
pub enum Order {
    /// Until resumed, or for a time.
    Pause(Option<Duration>),
    Resume,
    /// A cycle now; answered when it has come to rest.
    Flush(oneshot::Sender<PairStatus>),
    /// A look at everything on both sides.
    Rescan,
}

/// Waits between attempts on a pair that cannot run.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);

pub struct Keeper {
    pub settings: KeeperSettings,
    pub open: OpenSides,
    pub orders: mpsc::Receiver<Order>,
    pub status: watch::Sender<PairStatus>,
    pub stop: CancellationToken,
    pub observer: Arc<dyn Observer>,
}

/// Why a pair stopped being tended.
enum Ended {
    Stopped,
    Failed(Refusal),
}

/// What the timers and the watcher mean to one run of the loop.
struct Desk {
    watcher: Option<Arc<Watcher>>,
    sightings: Option<mpsc::Receiver<Sighting>>,
    rules: Arc<RwLock<Rules>>,
    next_poll: Timestamp,
    next_rescan: Timestamp,
    paused_until: Option<Option<Timestamp>>,
    flushes: Vec<oneshot::Sender<PairStatus>>,
    /// Operations that had ended when the pair last came to rest.
    ended_at_rest: u64,
}

/// What woke the loop.
enum Wake {
    Stop,
    Order(Option<Order>),
    Sighting(Option<Sighting>),
    Timer,
    Engine,
}

impl Keeper {
    /// Returns when `stop` is cancelled, with everything in a consistent state.
    pub async fn run(mut self) {
        let mut wait = RETRY_MIN;
        while !self.stop.is_cancelled() {
            match self.tend().await {
                Ended::Stopped => return,
                Ended::Failed(refusal) => {
                    let since = self.now();
                    tracing::warn!(
                        pair = self.name(),
                        state = refusal.state.word(),
                        error = refusal.message,
                        "the pair cannot run"
                    );
                    self.status.send_modify(|status| {
                        status.enter(refusal.state, since);
                        status.message = Some(refusal.message);
                    });
                    self.wait_for_retry(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn name(&self) -> String {
        self.status.borrow().name.clone()
    }

    fn now(&self) -> Timestamp {
        use crate::clock::Clock as _;
        crate::clock::SystemClock.now()
    }

    /// A person's order cuts the wait short; a flush is answered with the state that it is in.
    async fn wait_for_retry(&mut self, wait: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
            order = self.orders.recv() => {
                if let Some(Order::Flush(answer)) = order {
                    // Who asked may have gone.
                    let _ = answer.send(self.status.borrow().clone());
                }
            }
        }
    }

    // ---- one life of an engine ---------------------------------------------------------------

    async fn tend(&mut self) -> Ended {
        let sides = match (self.open)() {
            Ok(sides) => sides,
            Err(refusal) => return Ended::Failed(refusal),
        };
        let rules = Arc::new(RwLock::new(Rules::new(&self.settings.pair.ignore)));
        let (sides, mut desk) = self.watch(sides, rules);
        let started = pair::start(
            &self.settings.pair,
            &self.settings.database,
            &sides,
            &self.settings.fresh_id,
            Conduct::Act,
        );
        let mut driver = match started.await {
            Ok(started) => started.driver,
            Err(error) => return Ended::Failed(refusal(&error)),
        };
        match self.cycles(&mut driver, &sides, &mut desk).await {
            Ok(()) => Ended::Stopped,
            Err(error) => Ended::Failed(refusal(&error)),
        }
    }

    /// Puts a watcher in front of the local side. Without one the clock alone begins cycles.
    fn watch(&self, sides: Sides, rules: Arc<RwLock<Rules>>) -> (Sides, Desk) {
        let clock = Arc::clone(&sides.clock);
        let known = Arc::clone(&rules);
        let ignored = Box::new(move |path: &crate::tree::RelPath, kind| {
            let rules = known.read().unwrap_or_else(PoisonError::into_inner);
            rules.is_ignored(path, kind).is_some()
        });
        let settle = self.settings.pair.settle.unwrap_or_default();
        let root = self.settings.local_root.clone();
        let settings = WatchSettings::new(root, ignored, settle, self.settings.poll, clock);
        let now = sides.clock.now();
        let mut desk = Desk {
            watcher: None,
            sightings: None,
            rules,
            next_poll: now.plus(self.settings.poll),
            next_rescan: now.plus(self.settings.rescan),
            paused_until: None,
            flushes: Vec::new(),
            ended_at_rest: 0,
        };
        match Watcher::start(settings) {
            Ok((watcher, sightings)) => {
                let watcher = Arc::new(watcher);
                let disk = Arc::clone(&sides.local);
                let local = Arc::new(WatchedFs { disk, watcher: Arc::clone(&watcher) });
                (desk.watcher, desk.sightings) = (Some(watcher), Some(sightings));
                (Sides { local, ..sides }, desk)
            }
            Err(error) => {
                tracing::warn!(pair = self.name(), %error, "no watcher: changes are polled for");
                (sides, desk)
            }
        }
    }

    async fn cycles(
        &mut self,
        driver: &mut Driver,
        sides: &Sides,
        desk: &mut Desk,
    ) -> Result<(), RunError> {
        let mut rested = false;
        let mut stopping = false;
        loop {
            let observer = Arc::clone(&self.observer);
            let now_resting = driver.turn(&*observer)?;
            if now_resting && !rested {
                let summary = driver.engine.conclude()?;
                *desk.rules.write().unwrap_or_else(PoisonError::into_inner) =
                    driver.engine.rules().clone();
                rested = true;
                desk.ended_at_rest = driver.engine.totals().operations();
                self.publish(driver, sides, desk, Some(&summary));
                for answer in desk.flushes.drain(..) {
                    // Who asked may have gone.
                    let _ = answer.send(self.status.borrow().clone());
                }
            } else if !now_resting {
                rested = false;
                self.publish(driver, sides, desk, None);
            }
            if rested && stopping {
                return Ok(());
            }
            match self.next(driver, sides, desk, rested, stopping).await {
                Wake::Stop => {
                    stopping = true;
                    driver.tell(Event::Interrupt);
                }
                Wake::Order(Some(order)) => {
                    rested &= !self.obey(order, driver, sides, desk);
                }
                Wake::Sighting(Some(sighting)) if desk.paused_until.is_none() => {
                    begin(driver, &mut rested);
                    driver.tell(Event::Look { side: Side::Local, at: look_at(sighting) });
                }
                Wake::Timer => self.on_time(driver, sides, desk, &mut rested),
                // Nobody can give orders any more, or nothing is watched any more.
                Wake::Order(None) => stopping = true,
                Wake::Sighting(None) => desk.sightings = None,
                Wake::Sighting(Some(_)) | Wake::Engine => {}
            }
        }
    }

    async fn next(
        &mut self,
        driver: &mut Driver,
        sides: &Sides,
        desk: &mut Desk,
        rested: bool,
        stopping: bool,
    ) -> Wake {
        let timer = desk.next_timer().since(sides.clock.now());
        let sighted = async {
            match &mut desk.sightings {
                Some(sightings) => sightings.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled(), if !stopping => Wake::Stop,
            order = self.orders.recv(), if !stopping => Wake::Order(order),
            () = driver.wait(), if !rested => Wake::Engine,
            sighting = sighted, if !stopping => Wake::Sighting(sighting),
            () = sides.clock.sleep(timer), if !stopping => Wake::Timer,
        }
    }

    fn on_time(&self, driver: &mut Driver, sides: &Sides, desk: &mut Desk, rested: &mut bool) {
        let now = sides.clock.now();
        if let Some(Some(until)) = desk.paused_until {
            if until > now {
                return;
            }
            desk.paused_until = None;
        }
        if desk.paused_until.is_some() {
            desk.push_timers(&self.settings, now);
            return;
        }
        if desk.next_poll <= now {
            begin(driver, rested);
            driver.tell(Event::Look { side: Side::Remote, at: LookAt::Everything });
            desk.next_poll = now.plus(self.settings.poll);
        }
        if desk.next_rescan <= now {
            begin(driver, rested);
            driver.tell(Event::Look { side: Side::Local, at: LookAt::Everything });
            desk.next_rescan = now.plus(self.settings.rescan);
        }
    }

    /// Whether the engine has something to do because of it.
    fn obey(&self, order: Order, driver: &mut Driver, sides: &Sides, desk: &mut Desk) -> bool {
        let now = sides.clock.now();
        match order {
            Order::Pause(time) => {
                desk.paused_until = Some(time.map(|time| now.plus(time)));
                driver.tell(Event::Interrupt);
                return true;
            }
            Order::Flush(answer) => desk.flushes.push(answer),
            Order::Resume | Order::Rescan => {}
        }
        desk.paused_until = None;
        driver.engine.begin_cycle();
        for side in Side::BOTH {
            driver.tell(Event::Look { side, at: LookAt::Everything });
        }
        desk.push_timers(&self.settings, now);
        true
    }

    // ---- telling -----------------------------------------------------------------------------

    fn publish(&self, driver: &Driver, sides: &Sides, desk: &Desk, done: Option<&Summary>) {
        let (engine, now) = (&driver.engine, sides.clock.now());
        let pending = engine.pending();
        let records = done.map(|_| engine.records());
        self.status.send_modify(|status| {
            let state = match (desk.paused_until, engine.activity()) {
                (Some(_), _) => State::Paused,
                (None, Activity::Looking) => State::Scanning,
                (None, Activity::Syncing) => State::Syncing,
                (None, Activity::Waiting) => State::Waiting,
                (None, Activity::Resting) if done.is_some_and(|s| s.held > 0) => State::Held,
                (None, Activity::Resting) => State::Idle,
            };
            status.enter(state, now);
            status.message = None;
            status.paused_until = desk.paused_until.flatten().map(Moment);
            status.next_poll = Some(Moment(desk.next_poll));
            status.pending = Pending {
                upload: pending.upload,
                download: pending.download,
                delete: pending.delete,
                moves: pending.moves,
                bytes: pending.bytes,
            };
            let totals = engine.totals();
            status.totals.bytes_up = totals.bytes_up;
            status.totals.bytes_down = totals.bytes_down;
            status.totals.requests = sides.remote.requests();
            let ended = totals.operations().saturating_sub(desk.ended_at_rest);
            let left = status.pending.operations();
            status.progress = (left > 0).then(|| Progress {
                done: ended,
                total: ended + left,
                ..Progress::default()
            });
            if let Some(watcher) = &desk.watcher {
                let watched = watcher.state();
                status.totals.watch_events = watched.events;
                status.totals.watch_overflows = watched.overflows;
                let advice = watched.advice();
                let polling = watched.degraded.is_some();
                status.local.watch = if polling { Watch::Polling } else { Watch::Watching };
                status.degraded.retain(|word| *word != super::status::Degraded::Polling);
                status.notes.clear();
                if let Some(Degraded::Polling { reason }) = watched.degraded {
                    status.degraded.push(super::status::Degraded::Polling);
                    let note = advice.map_or_else(
                        || format!("polling: {reason}"),
                        |advice| format!("polling: {reason}; to lift it: {advice}"),
                    );
                    status.notes.push(note);
                }
            } else {
                status.local.watch = Watch::Polling;
            }
            if let (Some(summary), Some(records)) = (done, records) {
                settle_status(status, summary, records, now);
            }
        });
    }
}

fn settle_status(
    status: &mut PairStatus,
    summary: &Summary,
    records: crate::engine::Records,
    now: Timestamp,
) {
    status.local.files = summary.files;
    status.local.bytes = summary.bytes;
    status.remote.listing_at = Some(Moment(now));
    status.remote.listing_complete = records.complete;
    status.conflicts = summary.conflicts;
    status.skipped = summary.skipped.len() as u64;
    status.failed_total = summary.failed;
    status.failed = records
        .failures
        .into_iter()
        .take(super::status::FAILED_MAX)
        .map(|row| FailedItem {
            path: row.path,
            error: row.message,
            retry_at: row.retry_at.map(Moment),
            attempts: row.attempts,
        })
        .collect();
    status.held = records
        .held
        .into_iter()
        .map(|row| HeldItem {
            id: row.id,
            kind: row.kind,
            count: row.files,
            created: Moment(row.created_at),
        })
        .collect();
    status.totals.cycles += 1;
    if summary.failed == 0 && summary.held == 0 && records.complete {
        status.last_success = Some(Moment(now));
    }
}

impl Desk {
    fn next_timer(&self) -> Timestamp {
        let resume = self.paused_until.flatten();
        let looks = self.next_poll.min(self.next_rescan);
        resume.map_or(looks, |at| at.min(looks))
    }

    fn push_timers(&mut self, settings: &KeeperSettings, now: Timestamp) {
        self.next_poll = now.plus(settings.poll);
        self.next_rescan = now.plus(settings.rescan);
    }
}

/// A new cycle, if the last one is over.
fn begin(driver: &mut Driver, rested: &mut bool) {
    if std::mem::take(rested) {
        driver.engine.begin_cycle();
    }
}

fn look_at(sighting: Sighting) -> LookAt {
    match sighting {
        Sighting::Everything => LookAt::Everything,
        Sighting::Folders(folders) => LookAt::Folders(folders.into_iter().collect()),
    }
}

fn refusal(error: &RunError) -> Refusal {
    let state = match error {
        RunError::Halted { .. } => State::Held,
        RunError::Auth { .. } => State::AuthExpired,
        RunError::Unavailable { .. } => State::Offline,
        RunError::Fatal(_) | RunError::Side { .. } => State::Error,
    };
    Refusal { state, message: error.to_string() }
}
