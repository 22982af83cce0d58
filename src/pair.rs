//! One run of one pair: checks that both roots are the ones that were agreed on, builds the engine,
//! and drives it.
//!
//! The two sides come in as traits, so that the simulator runs exactly this.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::drive::{self, Driver, Observer, World};
use crate::engine::{Engine, Fatal, ListError, MODE, Settings, Summary, kept_parts};
use crate::exec::meter::Meter;
use crate::exec::{Executor, Lanes};
use crate::local::facts::{DiskFacts, StampRule};
use crate::local::{FsError, LocalFs};
use crate::plan::{BrakeLimits, ConflictPolicy, Mode};
use crate::remote::{ErrorKind, NameRules, Remote, RemoteError};
use crate::store::{Found, HeldState, NewHeld, Store, StoreError};
use crate::tree::{Side, Trees};

/// How a pair is to be kept, as far as it does not depend on what the sides are.
#[derive(Clone, Debug)]
pub struct PairSettings {
    pub mode: Mode,
    pub conflict: ConflictPolicy,
    pub brake: BrakeLimits,
    pub ignore: Vec<String>,
    /// Part of the names of conflict copies.
    pub host: String,
    pub lanes: Lanes,
    /// Content bytes, and time, after which nothing more is started.
    pub max_transfer: Option<u64>,
    pub max_duration: Option<Duration>,
    /// How long a file must have been quiet before it is sent, for a daemon; `None` for one run.
    pub settle: Option<Duration>,
    /// Shows how far transfers have come; the same for all lives of a pair's engine.
    pub meter: Arc<Meter>,
}

/// The two sides and the time.
#[derive(Clone)]
pub struct Sides {
    pub local: Arc<dyn LocalFs>,
    pub remote: Arc<dyn Remote>,
    pub clock: Arc<dyn Clock>,
}

/// Why a run did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A guard stopped the pair before anything was done; a held item says what a person can do.
    #[error("{message}")]
    Halted { side: Side, message: String },
    #[error(transparent)]
    Fatal(Fatal),
    #[error("{side}: {message}")]
    Side { side: Side, message: String },
    /// The remote or the network is not there.
    #[error("{message}")]
    Unavailable { message: String },
    /// A person must log in.
    #[error("{message}")]
    Auth { message: String },
}

impl From<Fatal> for RunError {
    fn from(error: Fatal) -> RunError {
        match error {
            Fatal::RootLost { side, message } => RunError::Halted { side, message },
            Fatal::Auth { message } => RunError::Auth { message },
            Fatal::Unavailable { side, message } => unavailable(side, &message),
            Fatal::Store(_) | Fatal::Stuck => RunError::Fatal(error),
        }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> RunError {
        RunError::Fatal(Fatal::Store(error))
    }
}

/// How a run ended, and what it found at its start.
#[derive(Debug)]
pub struct RunReport {
    pub summary: Summary,
    /// Set if the state database was damaged and is kept under this path: this run was a merge.
    pub set_aside: Option<PathBuf>,
    /// What people must know of how this run went about its work.
    pub notice: Option<String>,
    /// Sent to the remote, in this process.
    pub requests: u64,
}

/// Whether operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Act,
    /// Works on a copy of the state and leaves no trace on either side.
    Pretend,
}

/// Runs a pair until it is in sync or cannot get further. `fresh_id` is unique; it becomes the
/// identity of whatever has none yet.
pub async fn run(
    settings: &PairSettings,
    database: &Path,
    sides: &Sides,
    fresh_id: &str,
    conduct: Conduct,
    observer: &dyn Observer,
    interrupt: impl Future<Output = ()>,
) -> Result<RunReport, RunError> {
    let mut started = start(settings, database, sides, fresh_id, conduct).await?;
    let summary = drive::run_once(&mut started.driver, observer, interrupt).await?;
    let requests = sides.remote.requests();
    Ok(RunReport { summary, set_aside: started.set_aside, notice: started.notice, requests })
}

/// A pair that is ready to be driven.
pub struct Started {
    pub driver: Driver,
    /// See `RunReport`.
    pub set_aside: Option<PathBuf>,
    /// See `RunReport`.
    pub notice: Option<String>,
}

/// Opens the state, checks both roots, and tidies up after a killed process.
pub async fn start(
    settings: &PairSettings,
    database: &Path,
    sides: &Sides,
    fresh_id: &str,
    conduct: Conduct,
) -> Result<Started, RunError> {
    let (mut store, mut trees, found) = open(database, conduct)?;
    let agreed = check_roots(&mut store, sides, fresh_id, conduct).await?;
    if agreed == Agreed::Forgotten && trees.ids().next().is_some() {
        // A person approved another root: nothing is agreed with it, so this run merges.
        (store, trees) = forget(store, database, conduct)?;
        check_roots(&mut store, sides, fresh_id, conduct).await?;
    }
    if conduct == Conduct::Act {
        sides.local.refresh_control().await;
        sides.remote.refresh_control().await;
    }
    let disks = measure(&mut store, &mut trees, sides, conduct).await?;
    if conduct == Conduct::Act && settings.mode == Mode::TwoWay {
        // Only a help to others: a full disk must not end the run here.
        if let Err(error) = sides.local.sign_as_local_root().await {
            tracing::debug!(%error, "the local root could not be signed");
        }
    }
    let install_id = install_id(&mut store, fresh_id)?;
    let (executor, notes) = Executor::new(
        Arc::clone(&sides.local),
        Arc::clone(&sides.remote),
        Arc::clone(&sides.clock),
        install_id.clone(),
        settings.lanes,
        Arc::clone(&settings.meter),
    );
    let world = World {
        local: Arc::clone(&sides.local),
        remote: Arc::clone(&sides.remote),
        clock: Arc::clone(&sides.clock),
        executor: Arc::new(executor),
    };
    if conduct == Conduct::Act {
        let (intents, parts) = (store.intents()?, kept_parts(&store)?);
        let tidied = drive::tidy(&world, &install_id, &intents, &parts).await;
        tidied.map_err(|(side, error)| side_error(side, error))?;
    }
    let peer = sides.remote.is_local_root().await;
    let mode_before = mode_before(&mut store, settings.mode)?;
    let engine_settings = Settings {
        peer,
        mode_changed: mode_before.is_some(),
        ..engine_settings(settings, sides, &disks, conduct)
    };
    let now = sides.clock.now();
    let engine = Engine::new(engine_settings, store, trees, install_id, now)?;
    let set_aside = match found {
        Found::SetAside(path) => Some(path),
        Found::Existing | Found::New => None,
    };
    let notice = mode_before.map(|before| {
        let now = settings.mode.word();
        format!("the mode was {before} and is {now}: this run merges, and deletes nothing")
    });
    Ok(Started { driver: Driver::new(engine, world, notes), set_aside, notice })
}

fn engine_settings(
    settings: &PairSettings,
    sides: &Sides,
    disks: &[Option<DiskFacts>; 2],
    conduct: Conduct,
) -> Settings {
    let capabilities = sides.remote.capabilities();
    let names = |side: Side, or: &NameRules| {
        disks[side as usize].as_ref().map_or_else(|| or.clone(), DiskFacts::names)
    };
    Settings {
        mode: settings.mode,
        conflict: settings.conflict,
        peer: false,
        brake: settings.brake.clone(),
        ignore: settings.ignore.clone(),
        host: settings.host.clone(),
        algo: capabilities.pair_hash(),
        local_names: names(Side::Local, &NameRules::POSIX),
        remote_names: names(Side::Remote, &capabilities.names),
        stamps: disks
            .each_ref()
            .map(|facts| facts.as_ref().map_or(StampRule::UNKNOWN, DiskFacts::stamp_rule)),
        max_transfer: settings.max_transfer,
        max_duration: settings.max_duration,
        in_flight_max: 256,
        settle: settings.settle,
        pretend: conduct == Conduct::Pretend,
        stages_on_remote: capabilities.swaps_names(),
        mode_changed: false,
    }
}

fn disk_key(side: Side) -> String {
    format!("{side}_disk")
}

/// What was last measured of the disk of a side; `None` for a service, or before the first run.
pub fn known_disk(store: &Store, side: Side) -> Option<DiskFacts> {
    DiskFacts::from_json(&store.meta(&disk_key(side)).ok()??)
}

/// What the disks of both sides are like, local first; `None` for a service. Where the numbers of a disk
/// are not those of the last time, none of them proves anything: what is known is known by its place.
async fn measure(
    store: &mut Store,
    trees: &mut Trees,
    sides: &Sides,
    conduct: Conduct,
) -> Result<[Option<DiskFacts>; 2], RunError> {
    let writes = conduct == Conduct::Act;
    let mut disks = [None, None];
    for side in Side::BOTH {
        let key = disk_key(side);
        let kept = store.meta(&key)?;
        let known = kept.as_deref().and_then(DiskFacts::from_json);
        let measured = match side {
            Side::Local => {
                sides.local.measure(known.clone(), writes).await.map_err(ListError::from)
            }
            Side::Remote => {
                sides.remote.measure(known.clone(), writes).await.map_err(ListError::from)
            }
        };
        let Some(facts) = measured.map_err(|e| side_error(side, e))? else { continue };
        let is_renumbered = known.as_ref().is_some_and(|known| facts.is_renumbered_since(known));
        if is_renumbered || !facts.numbers_prove() {
            trees.forget_items(side);
        }
        if let Ok(text) = facts.to_json()
            && kept.as_ref() != Some(&text)
        {
            store.write(|tx| tx.set_meta(&key, &text))?;
        }
        disks[side as usize] = Some(facts);
    }
    Ok(disks)
}

fn open(database: &Path, conduct: Conduct) -> Result<(Store, Trees, Found), RunError> {
    match conduct {
        Conduct::Act => Ok(Store::open(database)?),
        Conduct::Pretend => {
            let (store, trees) = Store::open_copy(database)?;
            Ok((store, trees, Found::Existing))
        }
    }
}

fn forget(store: Store, database: &Path, conduct: Conduct) -> Result<(Store, Trees), RunError> {
    drop(store);
    match conduct {
        Conduct::Act => {
            Store::set_aside(database)?;
            let (store, trees, _) = Store::open(database)?;
            Ok((store, trees))
        }
        Conduct::Pretend => Ok(Store::open_copy(Path::new(""))?),
    }
}

/// The mode in which the pair was kept before, if that was another one. What is only on one side is
/// then no proof that the other one deleted it.
fn mode_before(store: &mut Store, mode: Mode) -> Result<Option<String>, RunError> {
    match store.meta(MODE)? {
        Some(known) if known == mode.word() => Ok(None),
        Some(known) => Ok(Some(known)),
        None => {
            store.write(|tx| tx.set_meta(MODE, mode.word()))?;
            Ok(None)
        }
    }
}

/// Names this state database in temporary names.
fn install_id(store: &mut Store, fresh_id: &str) -> Result<String, RunError> {
    if let Some(id) = store.meta("install_id")? {
        return Ok(id);
    }
    store.write(|tx| tx.set_meta("install_id", fresh_id))?;
    Ok(fresh_id.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreed {
    Same,
    /// A root is another one, and a person approved that.
    Forgotten,
}

/// A root that is gone, or is another folder or account than the one that was agreed with, must not
/// look like a mass deletion.
async fn check_roots(
    store: &mut Store,
    sides: &Sides,
    fresh_id: &str,
    conduct: Conduct,
) -> Result<Agreed, RunError> {
    let now = sides.clock.now();
    let local_error = |e: FsError| side_error(Side::Local, e.into());
    let remote_error = |e: RemoteError| side_error(Side::Remote, e.into());
    let local = sides.local.identity().await.map_err(local_error)?;
    let local = match (local, store.meta("root_id")?, conduct) {
        (None, None, Conduct::Act) => {
            sides.local.claim(fresh_id).await.map_err(local_error)?;
            Some(fresh_id.to_owned())
        }
        (id, _, _) => id,
    };
    if store.meta("account_key")?.is_none() && conduct == Conduct::Act {
        sides.remote.claim(fresh_id).await.map_err(remote_error)?;
    }
    let account = account(sides).await?;
    let checks = [(Side::Local, "root_id", local), (Side::Remote, "account_key", account)];
    let mut agreed = Agreed::Same;
    for (side, key, found) in checks {
        match (store.meta(key)?, found) {
            (None, Some(found)) => store.write(|tx| tx.set_meta(key, &found))?,
            (Some(known), Some(found)) if known == found => {}
            (None, None) => {}
            (Some(_), _) => {
                if halt(store, side, now)? {
                    agreed = Agreed::Forgotten;
                } else {
                    let message = format!(
                        "the {side} root is not the one that this pair was synced with (is a disk \
                         not mounted?). Nothing was changed. If it is right, approve it: \
                         `foldsync held list`; the next run then merges and deletes nothing"
                    );
                    return Err(RunError::Halted { side, message });
                }
            }
        }
    }
    Ok(agreed)
}

/// The remote's identity; `None` if it has none yet.
async fn account(sides: &Sides) -> Result<Option<String>, RunError> {
    match sides.remote.account().await {
        Ok(account) => Ok(Some(account.key)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(side_error(Side::Remote, error.into())),
    }
}

/// Holds the pair until a person approves the other root. Tells whether one already has.
fn halt(store: &mut Store, side: Side, now: Timestamp) -> Result<bool, RunError> {
    let kind = format!("{side}-root-changed");
    let rows = store.held(&[HeldState::Approved])?;
    if rows.iter().any(|row| row.kind == kind) {
        return Ok(true);
    }
    let held = NewHeld {
        kind,
        side: side.to_string(),
        files: 0,
        nodes: Default::default(),
        paths: Vec::new(),
    };
    store.write(|tx| tx.set_pending(&[held], now))?;
    Ok(false)
}

/// What stopped the run on a side, said with the side where the kind does not.
fn side_error(side: Side, error: ListError) -> RunError {
    match error {
        ListError::RootLost(message) => RunError::Halted { side, message },
        ListError::Auth(message) => RunError::Auth { message },
        ListError::Transient(message) => unavailable(side, &message),
        ListError::Denied(message) => RunError::Side { side, message },
        ListError::Gone => RunError::Side { side, message: "the folder is gone".to_owned() },
    }
}

fn unavailable(side: Side, message: &str) -> RunError {
    RunError::Unavailable { message: format!("{side}: {message}") }
}
