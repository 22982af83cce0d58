//! Runs the engine: carries its commands to disk and remote, and what happened back to it.
//!
//! One loop, one decision point: which event is next. Everything slow is a task; dropping the loop
//! drops the tasks, and what they had begun is found again at the next start.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::engine::{
    Command, Engine, Event, Fatal, LeftoverFate, ListError, OpReport, Summary, decide_leftover,
};
use crate::exec::Executor;
use crate::local::{FsErrorKind, Listing, LocalFs};
use crate::remote::{Locator, Remote};
use crate::store::Intent;
use crate::tree::{Entry, NodeId, RelPath, Side};

/// Is told what a run does, as it does it.
pub trait Observer: Send + Sync + 'static {
    fn operation_ended(&self, report: &OpReport);
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

/// Deals with what a killed process left in the stages, before anything is looked at.
pub async fn tidy(world: &World, install_id: &str, intents: &[Intent]) -> Result<(), ListError> {
    for leftover in world.local.leftovers().await? {
        match decide_leftover(&leftover, install_id, intents) {
            LeftoverFate::Discard => world.local.discard(leftover.key).await?,
            LeftoverFate::Retire { was } => world.local.retire(leftover.key, &was).await?,
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
    for intent in intents {
        world.remote.clean_up(crate::engine::stage_key(install_id, intent.op)).await?;
    }
    Ok(())
}

/// Runs until the pair is in sync or cannot get further. `interrupt` ends the run early, in a
/// consistent state.
pub async fn run_once(
    mut engine: Engine,
    world: &World,
    observer: &dyn Observer,
    interrupt: impl Future<Output = ()>,
) -> Result<Summary, Fatal> {
    let mut tasks: JoinSet<Event> = JoinSet::new();
    let mut events = vec![Event::Tick];
    let mut interrupt = std::pin::pin!(interrupt);
    let mut interrupted = false;
    loop {
        for command in engine.handle(world.clock.now(), std::mem::take(&mut events))? {
            tasks.spawn(carry_out(world.clone(), command));
        }
        for report in engine.take_reports() {
            observer.operation_ended(&report);
        }
        if engine.is_done() && tasks.is_empty() {
            return engine.conclude();
        }
        let wake = engine.next_wake().map(|at| at.since(world.clock.now()));
        tokio::select! {
            biased;
            () = &mut interrupt, if !interrupted => {
                interrupted = true;
                events.push(Event::Interrupt);
            }
            Some(event) = tasks.join_next() => events.push(landed(event)),
            () = world.clock.sleep(wake.unwrap_or_default()), if wake.is_some() => {
                events.push(Event::Tick);
            }
            else => events.push(Event::Tick),
        }
        while let Some(event) = tasks.try_join_next() {
            events.push(landed(event));
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
                Side::Remote => list_remote(&*world.remote, &target).await,
            };
            Event::Listed { side, dir, result }
        }
        Command::Confirm { side, node, target } => confirm(&world, side, node, &target).await,
        Command::Run(job) => {
            let result = world.executor.run(&job).await;
            Event::Finished { op: job.op, result }
        }
    }
}

/// All pages of a folder, or an error: half a listing says nothing.
async fn list_remote(remote: &dyn Remote, dir: &Locator) -> Result<Listing, ListError> {
    /// More pages than any real folder has: the service repeats itself.
    const PAGES_MAX: usize = 100_000;
    let mut all = Listing::default();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let page = remote.list(dir, cursor).await?;
        all.entries.extend(page.listing.entries);
        all.skipped.extend(page.listing.skipped);
        if page.next.is_none() {
            all.entries.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(all);
        }
        cursor = page.next;
    }
    Err(ListError::Transient(format!("{}: the listing does not end", dir.path)))
}

/// Whether an item that a listing lacked is still there. Another item under its name is not it.
async fn confirm(world: &World, side: Side, node: NodeId, target: &Locator) -> Event {
    let is_it = |entry: Option<Entry>| entry.is_some_and(|entry| Some(entry.item) == target.id);
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
