//! `daemon`, and `sync` without `--once`: keeps pairs in sync in the foreground until told to stop.
//!
//! Opens what the configuration names and hands it to the daemon; signals are all it deals with.

mod door;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::AdHoc;
use super::conflicts;
use super::connect::folder_of;
use super::context::{Context, Pair};
use super::interrupt::Interrupt;
use super::last_run::LastRun;
use super::logs;
use super::progress::{Progress, Showing};
use super::runner::{Extras, exit_of, fresh_id};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{HookSet, PairSpans, RemoteKind, RemoteSpec};
use crate::daemon::control::{Control as _, ControlError};
use crate::daemon::keeper::{KeeperSettings, Refusal};
use crate::daemon::notify::ServiceManager;
use crate::daemon::status::{Moment, PairStatus, State, check_line};
use crate::daemon::{Daemon, Member, Resolve};
use crate::engine::{Summary, SweepSettings};
use crate::exit::{Exit, Failure};
use crate::pair::{RunReport, Sides};
use crate::store::HeldState;
use door::Door;

/// Between two looks at the whole local folder, behind the watcher.
const RESCAN_EVERY: Duration = Duration::from_secs(3600);

/// `progress`: what moves is shown on standard error.
pub(super) fn run(
    names: &[String],
    ad_hoc: &AdHoc,
    progress: bool,
    context: &Context,
) -> Result<Exit, Failure> {
    let pairs = context.pairs(names, ad_hoc)?;
    let log = logs::start(&context.global, Some(&context.daemon_settings().log));
    let runtime = super::runtime()?;
    let ended = runtime.block_on(keep(&pairs, names, ad_hoc, progress, context, &log));
    // A thread that hangs in a disk or a name server is no reason to stay.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn keep(
    pairs: &[Pair],
    names: &[String],
    ad_hoc: &AdHoc,
    progress: bool,
    context: &Context,
    log: &logs::Log,
) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let interrupt = interrupt.map_err(|e| Failure::fatal(format!("listen to signals: {e}")))?;
    let stop = CancellationToken::new();
    let again = (context.clone(), names.to_vec(), ad_hoc.clone());
    let (told, reloads) = watch::channel(());
    let read = move || {
        let (context, names, ad_hoc) = &again;
        let members = members(&context.pairs(names, ad_hoc)?)?;
        told.send_replace(());
        Ok(members)
    };
    let daemon = Arc::new(Daemon::new(Box::new(read), stop.clone()));
    daemon.start(members(pairs)?)?;
    let mut door = Door::open(&place(context)?, &daemon)?;
    let mut settings = Settings { context, log, door: &mut door, reloads };
    let showing = progress.then(|| {
        let status = daemon.sources().status;
        let read = move || status.borrow().pairs.clone();
        Showing::start(Progress::new(&context.global), read)
    });
    let attended = attend(&daemon, &interrupt, &stop, &mut settings).await;
    drop(showing);
    attended?;
    daemon.shut_down().await;
    door.close().await;
    Ok(Exit::InSync)
}

/// Where the daemon answers.
fn place(context: &Context) -> Result<PathBuf, Failure> {
    let places = context.sockets()?;
    Ok(places.into_iter().next().expect("there is always the state folder"))
}

/// What a reload changes besides the pairs.
struct Settings<'a> {
    context: &'a Context,
    log: &'a logs::Log,
    door: &'a mut Door,
    reloads: watch::Receiver<()>,
}

impl Settings<'_> {
    fn apply(&mut self, daemon: &Arc<Daemon>) {
        self.log.set(&self.context.global, Some(&self.context.daemon_settings().log));
        match place(self.context) {
            Ok(place) => self.door.move_to(&place, daemon),
            Err(failure) => tracing::error!(error = failure.message, "the socket stays"),
        }
    }
}

/// Until it is to end: keeps the service manager informed and listens to signals.
async fn attend(
    daemon: &Arc<Daemon>,
    interrupt: &Interrupt,
    stop: &CancellationToken,
    settings: &mut Settings<'_>,
) -> Result<(), Failure> {
    let hangups = signal(SignalKind::hangup());
    let mut hangups = hangups.map_err(|e| Failure::fatal(format!("listen to SIGHUP: {e}")))?;
    let mut manager = ServiceManager::default();
    let mut status = daemon.sources().status;
    let alive_every = ServiceManager::watchdog_interval();
    let mut alive_at = Instant::now();
    manager.ready(&check_line(&status.borrow_and_update()));
    tracing::info!("keeping pairs in sync");
    loop {
        tokio::select! {
            () = interrupt.wait() => break,
            () = stop.cancelled() => break,
            Some(()) = hangups.recv() => {
                manager.reloading();
                if daemon.reload().await.is_ok() {
                    tracing::info!("the configuration was read again");
                }
                manager.ready(&check_line(&status.borrow()));
            }
            Ok(()) = settings.reloads.changed() => settings.apply(daemon),
            Ok(()) = status.changed() => {
                manager.status(&check_line(&status.borrow_and_update()));
            }
            () = tokio::time::sleep_until(alive_at), if alive_every.is_some() => {
                manager.alive();
                alive_at = Instant::now() + alive_every.unwrap_or_default();
            }
        }
    }
    manager.stopping();
    Ok(())
}

fn members(pairs: &[Pair]) -> Result<Vec<Member>, Failure> {
    pairs.iter().map(member).collect()
}

fn member(pair: &Pair) -> Result<Member, Failure> {
    let fresh_id = fresh_id().map_err(|error| pair.failed(&error))?;
    let mut settings = pair.settings(&Extras::default());
    settings.settle = Some(pair.config.settle);
    let settings = KeeperSettings {
        pair: settings,
        database: pair.state_db.clone(),
        local_root: pair.config.local.clone(),
        poll: pair.config.poll_interval,
        sweep: sweep(pair),
        rescan: RESCAN_EVERY,
        low_space: pair.low_space,
        fresh_id,
    };
    let (locked, opened, left) = (pair.clone(), pair.clone(), pair.clone());
    let (chores, succeeded) = (pair.clone(), pair.clone());
    Ok(Member {
        settings,
        status: first_status(pair),
        fingerprint: fingerprint(pair),
        lock: Box::new(move || locked.lock()),
        open: Box::new(move || open(&opened).map_err(refusal)),
        resolve: resolve(pair),
        chores: Box::new(move || {
            let pair = chores.clone();
            Box::pin(async move { pair.expire_trash().await })
        }),
        ended: Box::new(move |status, summary| record(&left, status, summary)),
        succeeded: Arc::new(move |at| LastRun::record_success(&succeeded, at)),
        hooks: pair.config.hooks.hooks(),
        alert_after: pair.alert_after,
    })
}

/// How a remote is swept whose listings cost requests. The other half of what the account may do is
/// for the work itself.
fn sweep(pair: &Pair) -> Option<SweepSettings> {
    const PART: f64 = 0.5;
    if folder_of(&pair.config.remote, pair.remote.as_ref()).is_some() {
        return None;
    }
    let config = &pair.config;
    let requests = pair.limits.requests_per_second * config.poll_interval.as_secs_f64() * PART;
    Some(SweepSettings {
        poll: config.poll_interval,
        cold: config.poll_interval_max,
        whole: config.sweep_interval,
        // Saturates.
        budget: requests as u32,
    })
}

fn open(pair: &Pair) -> Result<Sides, Failure> {
    let sides = pair.sides()?;
    pair.make_database()?;
    LastRun::forget_unbegun(pair);
    Ok(sides)
}

fn refusal(failure: Failure) -> Refusal {
    let state = match failure.exit {
        Exit::Held => State::Held,
        Exit::LoginNeeded => State::AuthExpired,
        Exit::Unavailable => State::Offline,
        Exit::InSync
        | Exit::SomeFailed
        | Exit::Usage
        | Exit::Remaining
        | Exit::Busy
        | Exit::Fatal
        | Exit::MaxTransfer
        | Exit::MaxDuration
        | Exit::BadConfig
        | Exit::Interrupted => State::Error,
    };
    Refusal { state, message: failure.message }
}

/// Before anything is known but what an earlier process left.
pub(super) fn first_status(pair: &Pair) -> PairStatus {
    let root = pair.config.local.to_string_lossy().into_owned();
    let mut status =
        PairStatus::new(pair.config.name.clone(), pair.config.mode, root, SystemClock.now());
    status.remote.kind = pair.remote.as_ref().map_or("dir", |remote| remote.kind.word()).to_owned();
    (status.remote.name, status.remote.path) = match &pair.config.remote {
        RemoteSpec::Named { remote, path } => (Some(remote.clone()), format!("/{}", path.as_str())),
        RemoteSpec::Dir(path) => (None, path.to_string_lossy().into_owned()),
    };
    if let Ok(Some(store)) = pair.records() {
        status.last_success = LastRun::last_success(&store).map(Moment);
        status.set_held(store.held(&[HeldState::Pending]).unwrap_or_default());
    }
    status
}

/// Everything that a pair was started with. Where in the file it stands does not matter, and hooks
/// can be changed while it runs.
fn fingerprint(pair: &Pair) -> String {
    let mut config = pair.config.clone();
    config.spans = PairSpans::default();
    config.hooks = HookSet::default();
    let remote = pair.remote.as_ref().map(|remote| {
        let secret = match &remote.kind {
            RemoteKind::Disktop { client_secret: Some(secret), .. } => secret.0.as_str(),
            RemoteKind::Disktop { client_secret: None, .. }
            | RemoteKind::Gokuai { .. }
            | RemoteKind::Ctfile { .. }
            | RemoteKind::Tuchuang { .. }
            | RemoteKind::Dir { .. } => "",
        };
        let digest = Sha256::digest(secret);
        (&remote.kind, digest, &remote.limits, &remote.token_command, remote.allow_insecure)
    });
    let folder = folder_of(&pair.config.remote, pair.remote.as_ref());
    format!("{config:?} {remote:?} {:?} {} {folder:?}", pair.limits, pair.low_space)
}

fn resolve(pair: &Pair) -> Arc<Resolve> {
    let pair = pair.clone();
    Arc::new(move |id, keep| {
        let pair = pair.clone();
        Box::pin(async move {
            let decided = conflicts::decide(&pair, id, keep).await;
            decided.map_err(|failure| ControlError::Refused(failure.message))
        })
    })
}

/// So that `status` tells the truth when no daemon runs any more.
fn record(pair: &Pair, status: &PairStatus, summary: Option<Summary>) {
    let requests = status.totals.requests;
    let (outcome, at) = match (summary, status.last_success) {
        (Some(summary), success) => {
            let all_done = matches!(exit_of(&summary), Exit::InSync | Exit::Remaining);
            let complete = success.filter(|_| all_done);
            let report = RunReport { summary, set_aside: None, notice: None, requests };
            (Ok(report), complete.map_or_else(|| SystemClock.now(), |moment| moment.0))
        }
        // Nothing was done since the run before.
        (None, _) if status.state == State::Paused => return,
        (None, _) => {
            let unknown = || "the pair did not come to rest".to_owned();
            let message = status.message.clone().unwrap_or_else(unknown);
            let exit = match status.exit() {
                Exit::InSync | Exit::SomeFailed => Exit::Interrupted,
                other => other,
            };
            (Err(Failure::new(exit, message)), SystemClock.now())
        }
    };
    LastRun::of(&outcome, at).record(pair);
}
