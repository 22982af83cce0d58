//! Keeps one pair in sync for as long as the process lives: cycles of the engine, begun by what the
//! watcher sees, by the clock, or by an order.
//!
//! Isolated: nothing that happens to this pair touches another one. Decides nothing about files.

mod telling;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::health::Vitals;
use super::pause::Pause;
use super::pulse::{BEAT, Pulse};
use super::status::{PairStatus, State, Totals};
use super::watched::WatchedFs;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::drive::{Driver, Observer};
use crate::engine::{Event, LookAt, Summary, SweepSettings};
use crate::local::ignore::Rules;
use crate::local::watch::{Settings as WatchSettings, Sighting, Watcher};
use crate::pair::{self, Conduct, PairSettings, RunError, Sides};
use crate::tree::{RelPath, Side};

/// How one pair is kept.
#[derive(Clone)]
pub struct KeeperSettings {
    pub pair: PairSettings,
    pub database: PathBuf,
    /// Absolute; what is watched.
    pub local_root: PathBuf,
    /// Between two looks at the remote.
    pub poll: Duration,
    /// What these looks list, if not everything.
    pub sweep: Option<SweepSettings>,
    /// Between two looks at the whole local folder, behind the watcher.
    pub rescan: Duration,
    /// Less room than so many bytes is said.
    pub low_space: u64,
    /// A new identity, used only if the pair has none.
    pub fresh_id: String,
}

/// Opens both sides anew: a disk may have been mounted, a network may be back.
pub type OpenSides = Box<dyn Fn() -> Result<Sides, Refusal> + Send + Sync>;

/// Why the sides could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A look at everything on both sides, and at what a person decided. `deep` reads every local
    /// file instead of believing its times.
    Rescan {
        deep: bool,
    },
}

/// Waits between attempts on a pair that cannot run.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How often a person can be told of progress.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

pub struct Keeper {
    settings: KeeperSettings,
    open: OpenSides,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<PairStatus>,
    stop: CancellationToken,
    observer: Arc<dyn Observer>,
    pause: Pause,
    /// Who waits for the pair to come to rest.
    flushes: Vec<oneshot::Sender<PairStatus>>,
    /// Of the last cycle that came to rest; `None` if the pair could not run since.
    last: Option<Summary>,
    /// What the log was told since a cycle ended.
    refused: Option<Refusal>,
    began: Timestamp,
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
    hints: BoxStream<'static, Vec<RelPath>>,
    rules: Arc<RwLock<Rules>>,
    next_poll: Timestamp,
    next_rescan: Timestamp,
    /// Operations that had ended when the pair last came to rest.
    ended_at_rest: u64,
    /// What a person was told last, and when.
    published: Option<(State, Timestamp)>,
    /// Something happened since that he will be told of.
    untold: bool,
    /// The records that were last read for that: how many troubles there were, and about when.
    recorded: (usize, i64),
    /// What earlier lives of the engine amount to.
    earlier: Totals,
    vitals: Vitals,
    pulse: Pulse,
}

/// What woke the loop.
enum Wake {
    Stop,
    Order(Option<Order>),
    Sighting(Option<Sighting>),
    /// The remote says that something changed in folders.
    Hint(Vec<RelPath>),
    Timer,
    Engine,
}

impl Keeper {
    /// Recalls a pause at once: nobody is told that a paused pair is at work.
    pub fn new(
        settings: KeeperSettings,
        open: OpenSides,
        orders: mpsc::Receiver<Order>,
        status: watch::Sender<PairStatus>,
        stop: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Keeper {
        let began = SystemClock.now();
        let pause = Pause::recall(&settings.database, began);
        let keeper = Keeper {
            settings,
            open,
            orders,
            status,
            stop,
            observer,
            pause,
            flushes: Vec::new(),
            last: None,
            refused: None,
            began,
        };
        if keeper.pause.is_on() {
            keeper.tell_pause();
        }
        keeper
    }

    /// Returns when `stop` is cancelled, with everything in a consistent state, and says how the
    /// last cycle left the pair.
    pub async fn run(mut self) -> Option<Summary> {
        if self.pause.is_on() {
            self.wait_for_retry(Duration::ZERO).await;
        }
        let mut wait = RETRY_MIN;
        while !self.stop.is_cancelled() {
            let cycles = self.status.borrow().totals.cycles;
            match self.tend().await {
                Ended::Stopped => break,
                Ended::Failed(refusal) => {
                    self.last = None;
                    if self.status.borrow().totals.cycles > cycles {
                        wait = RETRY_MIN;
                        self.refused = None;
                    }
                    if self.refused.as_ref().is_none_or(|before| before.state != refusal.state) {
                        // Another kind of trouble may be over as soon as it came.
                        wait = RETRY_MIN;
                    }
                    let wait_max = self.wait_max(refusal.state);
                    self.tell_refusal(refusal);
                    self.answer_flushes();
                    self.wait_for_retry(wait.min(wait_max)).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
        self.last
    }

    /// A network that is back is noticed as soon as a change would be.
    fn wait_max(&self, state: State) -> Duration {
        match state {
            State::Offline => self.settings.poll.clamp(RETRY_MIN, RETRY_MAX),
            State::AuthExpired
            | State::Error
            | State::Held
            | State::Idle
            | State::Scanning
            | State::Planning
            | State::Syncing
            | State::Waiting
            | State::Paused => RETRY_MAX,
        }
    }

    fn answer_flushes(&mut self) {
        for answer in self.flushes.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(self.status.borrow().clone());
        }
    }

    fn name(&self) -> String {
        self.status.borrow().name.clone()
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// A person's order cuts the wait short. A pause lasts through it.
    async fn wait_for_retry(&mut self, wait: Duration) {
        let retry = self.now().plus(wait);
        let mut pulse = Pulse::new(self.now());
        loop {
            let until = match self.pause {
                Pause::Off => Some(retry),
                Pause::Until(at) => Some(at),
                Pause::UntilResumed => None,
            };
            let nap = until.map(|at| at.since(self.now())).unwrap_or_default().min(BEAT);
            let order = tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(nap), if until.is_some() => {
                    let now = self.now();
                    // The network may be another one after a sleep.
                    let jumped = pulse.jumped(now) && !self.pause.is_on();
                    if jumped || until.is_some_and(|at| at <= now) {
                        self.end_pause();
                        return;
                    }
                    continue;
                }
                order = self.orders.recv() => order,
            };
            match order {
                // Nobody can give orders any more.
                None => return self.stop.cancel(),
                Some(Order::Pause(span)) => {
                    self.set_pause(span);
                    self.tell_pause();
                }
                Some(Order::Flush(answer)) => {
                    self.flushes.push(answer);
                    if !self.pause.is_on() {
                        return;
                    }
                    self.answer_flushes();
                }
                Some(Order::Rescan { .. }) if self.pause.is_on() => {}
                Some(Order::Resume | Order::Rescan { .. }) => {
                    self.end_pause();
                    return;
                }
            }
        }
    }

    // ---- pauses -------------------------------------------------------------------------------

    fn set_pause(&mut self, span: Option<Duration>) {
        self.pause = Pause::new(span, self.now());
        self.keep_pause();
    }

    fn end_pause(&mut self) {
        if std::mem::replace(&mut self.pause, Pause::Off).is_on() {
            self.keep_pause();
        }
    }

    fn keep_pause(&self) {
        if let Err(error) = self.pause.keep(&self.settings.database) {
            tracing::warn!(pair = self.name(), %error, "a restart will not know of the pause");
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
        let started = tokio::select! {
            started = started => started,
            // What a start does is done again by the next one.
            () = self.stop.cancelled() => return Ended::Stopped,
        };
        let mut driver = match started {
            Ok(started) => {
                if let Some(notice) = &started.notice {
                    tracing::warn!(pair = self.name(), "{notice}");
                }
                started.driver
            }
            Err(error) => return Ended::Failed(refusal(&error)),
        };
        if let Some(sweep) = &self.settings.sweep {
            driver.engine.adapt(sweep.clone());
        }
        match self.cycles(&mut driver, &sides, &mut desk).await {
            Ok(()) => Ended::Stopped,
            Err(error) => Ended::Failed(refusal(&error)),
        }
    }

    /// Puts a watcher in front of the local side. Without one the clock alone begins cycles.
    fn watch(&self, sides: Sides, rules: Arc<RwLock<Rules>>) -> (Sides, Desk) {
        let clock = Arc::clone(&sides.clock);
        let known = Arc::clone(&rules);
        let ignored = Box::new(move |path: &RelPath, kind| {
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
            hints: sides.remote.hints().chain(stream::pending()).boxed(),
            rules,
            next_poll: now.plus(self.settings.poll),
            next_rescan: now.plus(self.settings.rescan),
            ended_at_rest: 0,
            published: None,
            untold: false,
            recorded: (0, 0),
            earlier: self.status.borrow().totals.clone(),
            pulse: Pulse::new(now),
            vitals: Vitals { free_min: self.settings.low_space, ..Vitals::default() },
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
                desk.vitals.polling = Some(format!("polling: {error}"));
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
                desk.vitals.free = free(sides).await;
                self.publish(driver, sides, desk, Some(&summary));
                self.last = Some(summary);
                self.answer_flushes();
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
                    rested &= !self.obey(order, driver, sides, desk, rested)?;
                }
                Wake::Sighting(Some(sighting)) if !self.pause.is_on() => {
                    begin(driver, &mut rested)?;
                    driver.tell(Event::Look { side: Side::Local, at: look_at(sighting) });
                }
                Wake::Hint(folders) if !self.pause.is_on() => {
                    begin(driver, &mut rested)?;
                    driver.tell(Event::Look { side: Side::Remote, at: LookAt::Folders(folders) });
                }
                Wake::Timer => self.on_time(driver, sides, desk, &mut rested)?,
                // Nobody can give orders any more, or nothing is watched any more.
                Wake::Order(None) => stopping = true,
                Wake::Sighting(None) => desk.sightings = None,
                // The end of a pause looks at everything.
                Wake::Sighting(Some(_)) | Wake::Hint(_) | Wake::Engine => {}
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
        let timer = self.next_timer(desk).since(sides.clock.now()).min(BEAT);
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
            () = sides.clock.sleep(PUBLISH_EVERY), if desk.untold => Wake::Engine,
            sighting = sighted, if !stopping => Wake::Sighting(sighting),
            Some(folders) = desk.hints.next(), if !stopping => Wake::Hint(folders),
            () = sides.clock.sleep(timer), if !stopping => Wake::Timer,
        }
    }

    /// While the pair is paused nothing is looked at; its end looks at everything.
    fn next_timer(&self, desk: &Desk) -> Timestamp {
        match self.pause {
            Pause::Until(at) => at,
            Pause::Off | Pause::UntilResumed => desk.next_poll.min(desk.next_rescan),
        }
    }

    fn on_time(
        &mut self,
        driver: &mut Driver,
        sides: &Sides,
        desk: &mut Desk,
        rested: &mut bool,
    ) -> Result<(), RunError> {
        let now = sides.clock.now();
        if desk.pulse.jumped(now) {
            // Whatever happened while the computer slept, nobody told us.
            tracing::info!(pair = self.name(), "the clock jumped: everything is looked at again");
            desk.push_timers(&self.settings, now);
            if !self.pause.is_on() {
                *rested = false;
                return self.look_at_all(driver, desk, now);
            }
        }
        match self.pause {
            Pause::UntilResumed => {
                desk.push_timers(&self.settings, now);
                return Ok(());
            }
            Pause::Until(at) if at > now => return Ok(()),
            Pause::Until(_) => {
                self.end_pause();
                *rested = false;
                return self.look_at_all(driver, desk, now);
            }
            Pause::Off => {}
        }
        if desk.next_poll <= now {
            begin(driver, rested)?;
            driver.tell(Event::Look { side: Side::Remote, at: LookAt::Due });
            desk.next_poll = now.plus(self.settings.poll);
        }
        if desk.next_rescan <= now {
            begin(driver, rested)?;
            driver.tell(Event::Look { side: Side::Local, at: LookAt::Everything });
            desk.next_rescan = now.plus(self.settings.rescan);
        }
        Ok(())
    }

    /// Whether the engine has something to do because of it.
    fn obey(
        &mut self,
        order: Order,
        driver: &mut Driver,
        sides: &Sides,
        desk: &mut Desk,
        rested: bool,
    ) -> Result<bool, RunError> {
        let was_paused = self.pause.is_on();
        match order {
            Order::Pause(span) => {
                self.set_pause(span);
                // Nothing of a pair at rest is cut off.
                if !rested {
                    driver.tell(Event::Interrupt);
                }
                return Ok(true);
            }
            Order::Resume if was_paused => self.end_pause(),
            Order::Resume => return Ok(false),
            // A pause ends by its own order only.
            Order::Flush(answer) => {
                self.flushes.push(answer);
                if was_paused {
                    self.answer_flushes();
                    return Ok(false);
                }
            }
            Order::Rescan { .. } if was_paused => return Ok(false),
            Order::Rescan { deep } => {
                if deep {
                    driver.engine.distrust_times();
                }
            }
        }
        self.look_at_all(driver, desk, sides.clock.now())?;
        Ok(true)
    }

    fn look_at_all(
        &self,
        driver: &mut Driver,
        desk: &mut Desk,
        now: Timestamp,
    ) -> Result<(), RunError> {
        driver.engine.begin_cycle()?;
        for side in Side::BOTH {
            driver.tell(Event::Look { side, at: LookAt::Everything });
        }
        desk.push_timers(&self.settings, now);
        Ok(())
    }
}

impl Desk {
    fn push_timers(&mut self, settings: &KeeperSettings, now: Timestamp) {
        self.next_poll = now.plus(settings.poll);
        self.next_rescan = now.plus(settings.rescan);
    }
}

/// Room for the local side; a disk that does not answer is no reason to stand still.
async fn free(sides: &Sides) -> Option<u64> {
    const PATIENCE: Duration = Duration::from_secs(2);
    tokio::time::timeout(PATIENCE, sides.local.free()).await.ok().flatten()
}

/// A new cycle, if the last one is over.
fn begin(driver: &mut Driver, rested: &mut bool) -> Result<(), RunError> {
    if std::mem::take(rested) {
        driver.engine.begin_cycle()?;
    }
    Ok(())
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
