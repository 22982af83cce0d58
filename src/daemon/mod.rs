//! The process: which pairs it keeps, each in a task of its own, and what people ask of it.
//!
//! Knows no remote and no configuration file: pairs come in ready to be opened, and a reload asks
//! for them again.

mod bell;
mod board;
pub mod client;
pub mod control;
pub mod events;
mod health;
pub mod hooks;
pub mod keeper;
pub mod lock;
pub mod notify;
mod pause;
mod pulse;
mod records;
pub mod socket;
pub mod status;
mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::drive::Observer;
use crate::engine::Summary;
use crate::exit::{Exit, Failure};
use crate::store::HeldState;
use bell::Bell;
use board::{Board, Clerk};
use control::{
    Answer, ConflictItem, Control, ControlError, HeldSet, HistoryItem, HistoryQuery, Keep, Numbered,
};
use events::Happening;
use hooks::Hook;
use keeper::{Keeper, KeeperSettings, OpenSides, Order};
use lock::PairLock;
use status::{Moment, PairStatus, State};

/// A pair as the configuration wants it.
pub struct Member {
    pub settings: KeeperSettings,
    /// Before anything is known.
    pub status: PairStatus,
    /// The same for as long as the pair need not be started anew.
    pub fingerprint: String,
    pub lock: Box<dyn Fn() -> Result<PairLock, Failure> + Send + Sync>,
    pub open: OpenSides,
    /// Carries out what a person decided about a conflict.
    pub resolve: Arc<Resolve>,
    /// Done now and then, such as taking out old trash.
    pub chores: Box<Chores>,
    /// Is told how a pair was left that is not kept any more.
    pub ended: Box<Ended>,
    /// Is told now and then when the pair last succeeded, for the next process. May block.
    pub succeeded: Arc<Succeeded>,
    pub hooks: Vec<Hook>,
    /// How long the pair may be without success before somebody is told.
    pub alert_after: Option<Duration>,
}

pub type Chores = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;
pub type Ended = dyn Fn(&PairStatus, Option<Summary>) + Send + Sync;
pub type Succeeded = dyn Fn(Timestamp) + Send + Sync;
pub type Resolve = dyn Fn(i64, Keep) -> BoxFuture<'static, control::Result<()>> + Send + Sync;

/// Reads the configuration anew.
pub type ReadPairs = Box<dyn Fn() -> Result<Vec<Member>, Failure> + Send + Sync>;

/// How long a stop waits for what is under way; what is cut off is found again at the next start.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// Not at once: a start has better things to do.
const FIRST_CHORES: Duration = Duration::from_secs(300);
const CHORES_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How old what is said of transfers may be.
const READ_METERS_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at whether a pair still succeeds, and between two notes that it does.
const WATCH_EVERY: Duration = Duration::from_secs(60);
const NOTE_EVERY: Duration = Duration::from_secs(600);
/// How long hooks may go on when the daemon ends.
const HOOKS_WAIT: Duration = Duration::from_secs(2);
/// Orders that may wait for a pair that is just being opened.
const ORDERS_MAX: usize = 64;

/// A pair that is being kept.
struct Kept {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<PairStatus>,
    clerk: Arc<Clerk>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
    database: PathBuf,
    resolve: Arc<Resolve>,
    fingerprint: String,
}

pub struct Daemon {
    board: Arc<Board>,
    kept: Mutex<BTreeMap<String, Kept>>,
    read: ReadPairs,
    stop: CancellationToken,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl Daemon {
    pub fn new(read: ReadPairs, stop: CancellationToken) -> Daemon {
        let (board, kept) = (Arc::new(Board::new()), Mutex::default());
        Daemon { board, kept, read, stop, reloading: tokio::sync::Mutex::new(()) }
    }

    /// Takes all locks, or starts nothing. Must be called on a tokio runtime.
    pub fn start(&self, members: Vec<Member>) -> Result<(), Failure> {
        let locks = members.iter().map(|member| (member.lock)()).collect::<Result<Vec<_>, _>>()?;
        for (member, lock) in members.into_iter().zip(locks) {
            self.keep(member, lock);
        }
        Ok(())
    }

    /// What the socket answers from.
    pub fn sources(self: &Arc<Self>) -> socket::Sources {
        socket::Sources {
            status: self.board.follow(),
            events: Arc::clone(&self.board.events),
            control: Arc::clone(self) as Arc<dyn Control>,
        }
    }

    /// Brings every pair into a consistent state, in limited time.
    pub async fn shut_down(&self) {
        self.board.tell(Happening::Stopping);
        let kept = std::mem::take(&mut *self.kept());
        let bells = end_all(kept.into_values().collect()).await;
        futures_util::future::join_all(bells.iter().map(|clerk| clerk.bell.close(HOOKS_WAIT)))
            .await;
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        // Every change is one insertion or removal: a panic leaves it whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, member: Member, lock: PairLock) {
        let name = member.status.name.clone();
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (told, status) = watch::channel(member.status);
        let stop = CancellationToken::new();
        let clerk = Arc::new(Clerk {
            pair: name.clone(),
            board: Arc::clone(&self.board),
            counts: Mutex::default(),
            meter: Arc::clone(&member.settings.pair.meter),
            bell: Bell::new(&status.borrow(), member.hooks, member.alert_after, SystemClock.now()),
        });
        let observer = Arc::clone(&clerk) as Arc<dyn Observer>;
        let database = member.settings.database.clone();
        let keeper = Keeper::new(
            member.settings,
            member.open,
            received,
            told.clone(),
            stop.clone(),
            observer,
        );
        self.board.put(status.borrow().clone());
        tokio::spawn(copy_status(status.clone(), Arc::clone(&clerk)));
        let tended = Tended {
            told,
            _lock: lock,
            chores: member.chores,
            ended: member.ended,
            succeeded: member.succeeded,
            clerk: Arc::clone(&clerk),
        };
        let tended = tended.tend(keeper);
        let task = AbortOnDropHandle::new(tokio::spawn(tended));
        let (resolve, fingerprint) = (member.resolve, member.fingerprint);
        let kept = Kept { orders, status, clerk, stop, task, database, resolve, fingerprint };
        self.kept().insert(name, kept);
    }

    // ---- finding ------------------------------------------------------------------------------

    fn known<T>(&self, pair: &str, take: impl Fn(&Kept) -> T) -> control::Result<T> {
        let no_such = || ControlError::NoSuchPair(pair.to_owned());
        self.kept().get(pair).map(take).ok_or_else(no_such)
    }

    /// The databases of one pair, or of all.
    fn databases(&self, pair: Option<&str>) -> control::Result<Vec<(String, PathBuf)>> {
        match pair {
            Some(pair) => Ok(vec![(pair.to_owned(), self.known(pair, |k| k.database.clone())?)]),
            None => {
                let kept = self.kept();
                Ok(kept.iter().map(|(name, kept)| (name.clone(), kept.database.clone())).collect())
            }
        }
    }

    async fn order(&self, pair: &str, order: Order) -> control::Result<()> {
        let orders = self.known(pair, |kept| kept.orders.clone())?;
        let gone = |_| ControlError::Refused(format!("`{pair}` is not kept any more"));
        orders.send(order).await.map_err(gone)
    }

    /// Reads records of one pair or of all, away from the tasks that must not wait for a disk.
    async fn look_up<T: Send + 'static>(
        &self,
        pair: Option<&str>,
        read: impl Fn(&str, &std::path::Path) -> control::Result<Vec<T>> + Send + 'static,
    ) -> control::Result<Vec<T>> {
        let databases = self.databases(pair)?;
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            for (pair, database) in databases {
                all.extend(read(&pair, &database)?);
            }
            Ok(all)
        });
        reading.await.unwrap_or_else(|error| Err(ControlError::Failed(error.to_string())))
    }

    async fn until(&self, pair: &str, is: impl Fn(&PairStatus) -> bool) -> control::Result<()> {
        let (mut status, clerk) =
            self.known(pair, |kept| (kept.status.clone(), Arc::clone(&kept.clerk)))?;
        let gone = |_| ControlError::Refused(format!("`{pair}` is not kept any more"));
        let reached = status.wait_for(|status| is(status)).await.map_err(gone)?.clone();
        clerk.put_up(reached);
        Ok(())
    }

    /// A pair that another process works on is shown as such.
    fn keep_if_free(&self, member: Member) {
        match (member.lock)() {
            Ok(lock) => self.keep(member, lock),
            Err(failure) => {
                let name = &member.status.name;
                tracing::error!(pair = name, error = failure.message, "the pair is not kept");
                let mut status = member.status;
                status.enter(State::Error, SystemClock.now());
                status.message = Some(failure.message);
                self.board.put(status);
            }
        }
    }
}

/// The one with the number; several pairs may use the same.
fn only<T>(found: Vec<T>, id: i64, what: &str) -> control::Result<T> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(item), None) => Ok(item),
        (None, _) => Err(ControlError::NotFound(format!("there is no {what} #{id}"))),
        (Some(_), Some(_)) => {
            Err(ControlError::Invalid(format!("several pairs have a {what} #{id}: name the pair")))
        }
    }
}

/// What a pair's task has besides its keeper.
struct Tended {
    told: watch::Sender<PairStatus>,
    _lock: PairLock,
    chores: Box<Chores>,
    ended: Box<Ended>,
    succeeded: Arc<Succeeded>,
    clerk: Arc<Clerk>,
}

impl Tended {
    /// Keeps a pair until it is stopped. What goes wrong with it in ways that nobody foresaw is said,
    /// and ends this pair only.
    async fn tend(self, keeper: Keeper) {
        let mut running = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        let mut next_chores = tokio::time::Instant::now() + FIRST_CHORES;
        let mut noted = self.told.borrow().last_success;
        let outcome = loop {
            let watch_every =
                self.clerk.bell.alert_after().map_or(WATCH_EVERY, |a| a.min(WATCH_EVERY));
            tokio::select! {
                outcome = &mut running => break outcome,
                () = tokio::time::sleep_until(next_chores) => {
                    (self.chores)().await;
                    next_chores += CHORES_EVERY;
                }
                () = tokio::time::sleep(watch_every) => self.watch_over(&mut noted),
            }
        };
        match outcome {
            Ok(summary) => (self.ended)(&self.told.borrow(), summary),
            Err(error) => {
                tracing::error!(%error, "a pair stopped after an internal error");
                self.told.send_modify(|status| {
                    status.enter(State::Error, SystemClock.now());
                    let text = "stopped after an internal error, which is in the log";
                    status.message = Some(format!("{text}: restart foldsync"));
                });
            }
        }
    }

    /// Looks whether the pair still succeeds. That it does is written down for the next process.
    fn watch_over(&self, noted: &mut Option<Moment>) {
        let status = self.told.borrow().clone();
        let Some(success) = status.last_success else { return self.clerk.watch_over(&status) };
        let is_new = noted.is_none_or(|noted| success.0.since(noted.0) >= NOTE_EVERY);
        if is_new {
            *noted = Some(success);
            let succeeded = Arc::clone(&self.succeeded);
            tokio::task::spawn_blocking(move || succeeded(success.0));
        }
        self.clerk.watch_over(&status);
    }
}

/// Puts up what a pair says whenever it says something, and again while bytes move.
async fn copy_status(mut status: watch::Receiver<PairStatus>, clerk: Arc<Clerk>) {
    loop {
        let now = status.borrow_and_update().clone();
        let is_lively = clerk.put_up(now);
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = clerk.meter.stirred(), if !is_lively => {}
            () = tokio::time::sleep(READ_METERS_EVERY), if is_lively => {}
        }
    }
}

/// Returns who may still have something to tell other programs.
async fn end_all(kept: Vec<Kept>) -> Vec<Arc<Clerk>> {
    kept.iter().for_each(|kept| kept.stop.cancel());
    let clerks = kept.iter().map(|kept| Arc::clone(&kept.clerk)).collect();
    let all = futures_util::future::join_all(kept.into_iter().map(|kept| kept.task));
    if tokio::time::timeout(STOP_WAIT, all).await.is_err() {
        tracing::warn!("what was under way is cut off; the next start finds it");
    }
    clerks
}

#[async_trait]
impl Control for Daemon {
    async fn pause(&self, pair: &str, span: Option<Duration>) -> control::Result<()> {
        self.order(pair, Order::Pause(span)).await?;
        self.until(pair, |status| status.state == State::Paused).await
    }

    async fn resume(&self, pair: &str) -> control::Result<()> {
        self.order(pair, Order::Resume).await?;
        self.until(pair, |status| status.state != State::Paused).await
    }

    async fn flush(&self, pair: &str) -> control::Result<Exit> {
        let (answer, answered) = oneshot::channel();
        self.order(pair, Order::Flush(answer)).await?;
        let gone = |_| ControlError::Refused(format!("`{pair}` is not kept any more"));
        let status = answered.await.map_err(gone)?;
        if status.state == State::Paused {
            let text = format!("`{pair}` is paused: foldsync resume {pair}");
            return Err(ControlError::Refused(text));
        }
        let exit = status.exit();
        // Who asks for the status next finds this one, not an older one.
        self.known(pair, |kept| Arc::clone(&kept.clerk))?.put_up(status);
        Ok(exit)
    }

    async fn rescan(&self, pair: &str, deep: bool) -> control::Result<()> {
        self.order(pair, Order::Rescan { deep }).await
    }

    async fn stop(&self) -> control::Result<()> {
        self.stop.cancel();
        Ok(())
    }

    async fn reload(&self) -> control::Result<()> {
        let _one = self.reloading.lock().await;
        let members = (self.read)().map_err(|failure| {
            tracing::error!(error = failure.message, "the old configuration stays in force");
            let text = format!("{}\n  the old configuration stays in force", failure.message);
            ControlError::Refused(text)
        })?;
        let names: Vec<String> = members.iter().map(|member| member.status.name.clone()).collect();
        let is_as_before = |name: &str, fingerprint: &str| {
            members.iter().any(|m| m.status.name == name && m.fingerprint == fingerprint)
        };
        let over: Vec<Kept> = {
            let mut kept = self.kept();
            let gone = |(name, kept): (&String, &Kept)| {
                (!is_as_before(name, &kept.fingerprint)).then(|| name.clone())
            };
            let over: Vec<String> = kept.iter().filter_map(gone).collect();
            over.iter().filter_map(|name| kept.remove(name)).collect()
        };
        for clerk in end_all(over).await {
            // A hook that hangs is no reason to wait.
            tokio::spawn(async move { clerk.bell.close(HOOKS_WAIT).await });
        }
        self.board.keep(&names);
        for member in members {
            let clerk = self.kept().get(&member.status.name).map(|kept| Arc::clone(&kept.clerk));
            match clerk {
                Some(clerk) => clerk.bell.rehang(member.hooks, member.alert_after),
                None => self.keep_if_free(member),
            }
        }
        self.board.keep(&names);
        self.board.tell(Happening::Reloaded);
        Ok(())
    }

    async fn held(&self, pair: Option<&str>) -> control::Result<Vec<HeldSet>> {
        self.look_up(pair, records::held).await
    }

    async fn held_set(&self, set: &Numbered) -> control::Result<HeldSet> {
        let found = self.held(set.pair.as_deref()).await?;
        only(found.into_iter().filter(|held| held.id == set.id).collect(), set.id, "held set")
    }

    async fn answer(&self, set: &Numbered, answer: Answer) -> control::Result<HeldSet> {
        let found = self.held_set(set).await?;
        let (id, state) = match answer {
            Answer::Approve => (found.id, HeldState::Approved),
            Answer::Reject => (found.id, HeldState::Rejected),
        };
        let written = self.look_up(Some(&found.pair), move |_, database| {
            records::answer(database, id, state).map(|()| Vec::<()>::new())
        });
        written.await?;
        self.order(&found.pair, Order::Rescan { deep: false }).await?;
        Ok(HeldSet { state: state.as_str().to_owned(), ..found })
    }

    async fn conflicts(&self, pair: Option<&str>) -> control::Result<Vec<ConflictItem>> {
        self.look_up(pair, records::conflicts).await
    }

    async fn conflict(&self, conflict: &Numbered) -> control::Result<ConflictItem> {
        let found = self.conflicts(conflict.pair.as_deref()).await?;
        let id = conflict.id;
        only(found.into_iter().filter(|item| item.id == id).collect(), id, "open conflict")
    }

    async fn resolve(&self, conflict: &Numbered, keep: Keep) -> control::Result<()> {
        let found = self.conflict(conflict).await?;
        let resolve = self.known(&found.pair, |kept| Arc::clone(&kept.resolve))?;
        resolve(found.id, keep).await?;
        self.order(&found.pair, Order::Rescan { deep: false }).await
    }

    async fn history(&self, query: &HistoryQuery) -> control::Result<Vec<HistoryItem>> {
        let asked = query.clone();
        let read =
            move |pair: &str, database: &std::path::Path| records::history(pair, database, &asked);
        self.look_up(query.pair.as_deref(), read).await
    }
}
