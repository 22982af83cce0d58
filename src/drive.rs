//! Runs the engine: carries its commands to disk and remote, and what happened back to it.
//!
//! One loop, one decision point: which event is next. Everything slow is a task; dropping the loop
//! drops the tasks, and what they had begun is found again at the next start.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::engine::job::{FailureKind, Trace};
use crate::engine::{
    Command, Engine, Event, Fatal, LeftoverFate, ListError, OpReport, Summary, Tidied,
    decide_leftover,
};
use crate::exec::{Executor, Note};
use crate::local::{FsErrorKind, Listing, LocalFs};
use crate::remote::{Locator, Remote, list_all};
use crate::store::Intent;
use crate::tree::{Entry, Kind, Name, NodeId, RelPath, Side};

/// Is told what a run does, as it does it.
pub trait Observer: Send + Sync + 'static {
    fn operation_ended(&self, report: &OpReport);
    /// May look at what is known now. Called often.
    fn turned(&self, _engine: &Engine) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn operation_ended(&self, _report: &OpReport) {}
}

/// The world around an engine.
#[derive(Clone)]
pub struct World {
    pub local: Arc<dyn LocalFs>,
    pub remote: Arc<dyn Remote>,
    pub clock: Arc<dyn Clock>,
    pub executor: Arc<Executor>,
}

/// Deals with what a killed process left in the stages, before anything is looked at. An error comes
/// with its side.
pub async fn tidy(
    world: &World,
    install_id: &str,
    intents: &[Intent],
    parts: &[(NodeId, u64)],
) -> Result<(), (Side, ListError)> {
    let local = tidy_local(world, install_id, intents, parts).await;
    local.map_err(|error| (Side::Local, error))?;
    tidy_remote(world, intents).await.map_err(|error| (Side::Remote, error))
}

async fn tidy_local(
    world: &World,
    install_id: &str,
    intents: &[Intent],
    parts: &[(NodeId, u64)],
) -> Result<(), ListError> {
    for leftover in world.local.leftovers().await? {
        match decide_leftover(&leftover, install_id, intents, parts) {
            LeftoverFate::Discard => world.local.discard(leftover.key).await?,
            LeftoverFate::Keep => {}
            LeftoverFate::Restore { to } => {
                match world.local.restore(leftover.key, &to).await {
                    // The folder that it was in is gone as well: the root is always there.
                    Err(error) if error.kind == FsErrorKind::NotFound => {
                        if let Some((_, name)) = to.split_last() {
                            world.local.restore(leftover.key, &RelPath::root().join(&name)).await?;
                        }
                    }
                    other => other?,
                }
            }
        }
    }
    Ok(())
}

async fn tidy_remote(world: &World, intents: &[Intent]) -> Result<(), ListError> {
    for intent in intents {
        if let Ok(trace) = serde_json::from_str(&intent.job) {
            finish_swap(world, &trace).await?;
        }
    }
    // Moves and deletions may have left something there as well as uploads.
    if !intents.is_empty() {
        world.remote.clear_stage().await?;
    }
    Ok(())
}

/// Rolls a replacement forward that may have stopped half-way.
async fn finish_swap(world: &World, trace: &Trace) -> Result<Tidied, ListError> {
    let Trace::Upload { key, parent_path, parent_id, name, old, .. } = trace else {
        return Ok(Tidied::Nothing);
    };
    let (Ok(path), Ok(name)) = (RelPath::new(parent_path), Name::new(name)) else {
        return Ok(Tidied::Nothing);
    };
    let mut tidied = Tidied::Nothing;
    if world.executor.swaps(old.is_some()) {
        let (parent_id, kind) = (parent_id.clone(), Kind::Dir);
        let parent = Locator { id: parent_id, path, parent_id: None, kind };
        match world.executor.roll_forward(*key, &parent, &name, old.as_ref()).await {
            Ok(true) => tidied = Tidied::Ended,
            Ok(false) => {}
            // The folder is gone, and what was in it.
            Err(failure) if failure.kind == FailureKind::Changed => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(tidied)
}

/// Runs until the pair is in sync or cannot get further. `interrupt` ends the run early, in a
/// consistent state.
pub async fn run_once(
    driver: &mut Driver,
    observer: &dyn Observer,
    interrupt: impl Future<Output = ()>,
) -> Result<Summary, Fatal> {
    let mut interrupt = std::pin::pin!(interrupt);
    let mut interrupted = false;
    while !driver.turn(observer)? {
        tokio::select! {
            biased;
            () = &mut interrupt, if !interrupted => {
                interrupted = true;
                driver.tell(Event::Interrupt);
            }
            () = driver.wait() => {}
        }
    }
    driver.engine.conclude()
}

/// An engine and what it has under way.
pub struct Driver {
    pub engine: Engine,
    world: World,
    notes: mpsc::Receiver<Note>,
    tasks: JoinSet<Event>,
    events: Vec<Event>,
    /// Who waits for the next transaction.
    unsaved: Vec<oneshot::Sender<()>>,
    /// Turns in a row after which there was nothing to wait for, and something left to do.
    idle_turns: u32,
}

impl Driver {
    pub fn new(engine: Engine, world: World, notes: mpsc::Receiver<Note>) -> Driver {
        Driver {
            engine,
            world,
            notes,
            tasks: JoinSet::new(),
            events: vec![Event::Tick],
            unsaved: Vec::new(),
            idle_turns: 0,
        }
    }

    /// Puts an event before the engine at the next turn.
    pub fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Lets the engine take in what happened, and starts what it asks for. True if nothing is under
    /// way and nothing is left to do.
    pub fn turn(&mut self, observer: &dyn Observer) -> Result<bool, Fatal> {
        /// More than any plan that only unblocks the next one.
        const IDLE_TURNS_MAX: u32 = 100;
        if self.idle_turns > IDLE_TURNS_MAX && !self.engine.is_pretending() {
            tracing::debug!("{}", self.engine.what_is_left());
            return Err(Fatal::Stuck);
        }
        let events = std::mem::take(&mut self.events);
        for command in self.engine.handle(self.world.clock.now(), events)? {
            self.tasks.spawn(carry_out(self.world.clone(), command));
        }
        for waiting in self.unsaved.drain(..) {
            // Who no longer waits for it does not miss it.
            let _ = waiting.send(());
        }
        for report in self.engine.take_reports() {
            observer.operation_ended(&report);
        }
        observer.turned(&self.engine);
        Ok(self.engine.is_done() && self.tasks.is_empty())
    }

    /// Waits for the next thing to happen. May be dropped at any point.
    pub async fn wait(&mut self) {
        let wake = self.engine.next_wake().map(|at| at.since(self.world.clock.now()));
        if self.tasks.is_empty() && wake.is_none() {
            // What was pretended ended at once, and nobody else will tell.
            self.events.push(Event::Tick);
            self.idle_turns += 1;
            tokio::task::yield_now().await;
            return;
        }
        self.idle_turns = 0;
        tokio::select! {
            biased;
            Some(note) = self.notes.recv() => {
                self.unsaved.push(note.saved);
                self.events.push(Event::SessionBegun { node: note.node, session: note.session });
            }
            Some(event) = self.tasks.join_next() => self.events.push(landed(event)),
            () = self.world.clock.sleep(wake.unwrap_or_default()), if wake.is_some() => {
                self.events.push(Event::Tick);
            }
            else => self.events.push(Event::Tick),
        }
        while let Some(event) = self.tasks.try_join_next() {
            self.events.push(landed(event));
        }
    }
}

fn landed(event: Result<Event, tokio::task::JoinError>) -> Event {
    match event {
        Ok(event) => event,
        // A task that panicked is a bug of ours; its operation stays open and is looked into again.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn carry_out(world: World, command: Command) -> Event {
    match command {
        Command::List { side, dir, target } => {
            let result = match side {
                Side::Local => world.local.list(&target.path).await.map_err(ListError::from),
                Side::Remote => list_all(&*world.remote, &target).await.map_err(ListError::from),
            };
            // Another folder has the path by now: of the one that is meant, this says nothing.
            let is_other = |listing: &Listing| listing.of.is_some() && listing.of != target.id;
            let result = match result {
                Ok(listing) if target.id.is_some() && is_other(&listing) => Err(ListError::Gone),
                other => other,
            };
            Event::Listed { side, dir, result }
        }
        Command::Confirm { side, node, target } => confirm(&world, side, node, &target).await,
        Command::Prove { side, dir, what, algo } => {
            let name = what.locator.path.split_last().map(|(_, name)| name);
            let proof = world.executor.read(side, &what, algo).await;
            match name {
                Some(name) => Event::Proved { side, dir, name, proof },
                None => Event::Tick,
            }
        }
        Command::Tidy { node, trace } => {
            Event::Tidied { node, result: finish_swap(&world, &trace).await }
        }
        Command::Run(job) => {
            let result = world.executor.run(&job).await;
            Event::Finished { op: job.op, result }
        }
    }
}

/// Whether an item that a listing lacked is still there. Another item under its name is not it.
async fn confirm(world: &World, side: Side, node: NodeId, target: &Locator) -> Event {
    // A folder may have been given the inode of the file that it replaced.
    let is_it = |entry: Option<Entry>| {
        entry.is_some_and(|entry| entry.kind == target.kind && Some(entry.item) == target.id)
    };
    let result = match side {
        Side::Local => match world.local.stat(&target.path).await {
            Ok(entry) => Ok(is_it(entry)),
            Err(error) => match error.kind {
                FsErrorKind::NotFound => Ok(false),
                FsErrorKind::Denied => Ok(true),
                FsErrorKind::Occupied
                | FsErrorKind::Changed
                | FsErrorKind::NotEmpty
                | FsErrorKind::BadName
                | FsErrorKind::Full
                | FsErrorKind::RootLost
                | FsErrorKind::Io => Err(error.into()),
            },
        },
        Side::Remote if !world.remote.capabilities().stat => Ok(false),
        Side::Remote => {
            let entry = world.remote.stat(target).await;
            entry.map(is_it).map_err(ListError::from)
        }
    };
    Event::Confirmed { side, node, result }
}
