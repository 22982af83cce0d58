//! Turns what the kernel says about the tree into places to look.
//!
//! An event is never a change: it only says which folder to list again. Watches are set folder by
//! folder, before the folder is listed, and a new folder is walked after its watch is set, because
//! most of what is written into fresh nested folders makes no event at all (WA-05). Lost events, a
//! dead source and a replaced root all become `Everything`. Nothing here reads a file or decides.
//!
//! The order that makes it complete: `watch` a folder, then list it, then do the same with folders
//! that the listing shows for the first time. Whoever lists folders calls `watch` first; for a
//! folder that is watched already that costs one look-up.

mod pending;
mod registrar;
pub mod source;
mod state;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::tree::{Kind, RelPath};
use pending::Pending;
use registrar::Registrar;
use source::{Hint, MakeSource};
pub use state::{Degraded, PollingReason, WatchState};

/// Hints that wait for the registrar. The kernel's own queue is twice that.
const QUEUE_MAX: usize = 8192;
/// Sightings that wait for the engine. While they do, folders gather, each once.
const SIGHTINGS_MAX: usize = 4;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    Folders(BTreeSet<RelPath>),
    Everything,
}

/// Whether a path is left out of the sync. Asked about folders before they are watched, and about
/// files before they wake anybody.
pub type Ignored = Box<dyn Fn(&RelPath, Kind) -> bool + Send>;

pub struct Settings {
    /// Absolute.
    pub root: PathBuf,
    pub ignored: Ignored,
    /// How long a folder must be quiet before it is reported.
    pub settle: Duration,
    /// How often the folders without a watch are reported, and limits and the root are tried again.
    pub poll: Duration,
    pub clock: Arc<dyn Clock>,
    /// A limit on watches below the system's own, for tests.
    pub watches_max: Option<usize>,
    pub source: MakeSource,
}

impl Settings {
    /// The kernel's events, without a limit of our own.
    pub fn new(
        root: PathBuf,
        ignored: Ignored,
        settle: Duration,
        poll: Duration,
        clock: Arc<dyn Clock>,
    ) -> Settings {
        let source = source::kernel();
        Settings { root, ignored, settle, poll, clock, watches_max: None, source }
    }
}

enum Message {
    /// From the source of this generation.
    Hint(u64, Hint),
    /// The source is dead; the flag says so as well.
    Died,
    Watch(Vec<RelPath>, oneshot::Sender<()>),
    Unwatch(RelPath),
    /// The poll interval is over.
    Poll,
    Stop,
}

/// Paths as text, so that everything below one is a range.
#[derive(Debug, Default)]
struct Registry {
    watched: BTreeSet<String>,
    unwatched: BTreeSet<String>,
}

struct Shared {
    queue: mpsc::Sender<Message>,
    /// Hints did not fit into the queue.
    lost: AtomicBool,
    /// The current source ended by itself.
    dead: AtomicBool,
    stopped: AtomicBool,
    generation: AtomicU64,
    registry: Mutex<Registry>,
    pending: Mutex<Pending>,
    /// Something became pending.
    stirred: Notify,
    degraded: watch::Sender<Option<Degraded>>,
    events: AtomicU64,
    overflows: AtomicU64,
    restarts: AtomicU64,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Every change to it is a single insertion or removal: a panic leaves it whole.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
}

impl Watcher {
    /// Watches the root, and reports through the receiver. Must be called on a tokio runtime; fails
    /// if no thread can be started.
    pub fn start(settings: Settings) -> std::io::Result<(Watcher, mpsc::Receiver<Sighting>)> {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Shared {
            queue,
            lost: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            registry: Mutex::default(),
            pending: Mutex::new(Pending::new(settings.settle)),
            stirred: Notify::new(),
            degraded: watch::Sender::new(None),
            events: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
        });
        let (clock, poll) = (settings.clock.clone(), settings.poll);
        let registrar = Registrar::new(settings, shared.clone());
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || registrar.run(messages))?;
        let (sender, receiver) = mpsc::channel(SIGHTINGS_MAX);
        tokio::spawn(report(shared.clone(), clock.clone(), sender));
        tokio::spawn(remind(shared.clone(), clock, poll));
        Ok((Watcher { shared }, receiver))
    }

    /// Returns once each of the folders has a watch, or is known to have none and to be polled.
    /// Call it before listing them.
    pub async fn watch(&self, folders: impl IntoIterator<Item = RelPath>) {
        let is_new = |folder: &RelPath| {
            let registry = self.shared.registry();
            let path = folder.as_str();
            !registry.watched.contains(path) && !registry.unwatched.contains(path)
        };
        let new: Vec<RelPath> = folders.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let (done, set) = oneshot::channel();
        if self.shared.queue.send(Message::Watch(new, done)).await.is_ok() {
            // Without a registrar there is nothing to wait for: it ends only with us.
            let _ = set.await;
        }
    }

    /// Takes the watches off a folder and all below it, because it is ignored from now on.
    pub async fn unwatch(&self, folder: RelPath) {
        let _ = self.shared.queue.send(Message::Unwatch(folder)).await;
    }

    pub fn state(&self) -> WatchState {
        let registry = self.shared.registry();
        WatchState {
            watched: registry.watched.len(),
            unwatched: registry.unwatched.len(),
            degraded: self.shared.degraded.borrow().clone(),
            events: self.shared.events.load(Ordering::Relaxed),
            overflows: self.shared.overflows.load(Ordering::Relaxed),
            restarts: self.shared.restarts.load(Ordering::Relaxed),
        }
    }

    /// Follows the part of the state that a person is told of.
    pub fn degraded(&self) -> watch::Receiver<Option<Degraded>> {
        self.shared.degraded.subscribe()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // With a full queue the registrar is awake, and sees the flag.
        let _ = self.shared.queue.try_send(Message::Stop);
        self.shared.stirred.notify_one();
    }
}

/// Hands out what is due, for as long as somebody listens.
async fn report(shared: Arc<Shared>, clock: Arc<dyn Clock>, sightings: mpsc::Sender<Sighting>) {
    while !shared.stopped.load(Ordering::Acquire) {
        let wait = shared.pending().due_in(clock.now());
        match wait {
            None => tokio::select! {
                () = shared.stirred.notified() => {}
                () = sightings.closed() => return,
            },
            Some(Duration::ZERO) => {
                let due = shared.pending().take_due(clock.now());
                if let Some(sighting) = due
                    && sightings.send(sighting).await.is_err()
                {
                    return;
                }
            }
            Some(wait) => tokio::select! {
                () = clock.sleep(wait) => {}
                () = sightings.closed() => return,
            },
        }
    }
}

/// Asks the registrar, once in an interval, to try again what did not work. Without a registrar,
/// looking at everything is all that is left.
async fn remind(shared: Arc<Shared>, clock: Arc<dyn Clock>, poll: Duration) {
    loop {
        clock.sleep(poll).await;
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        if shared.queue.send(Message::Poll).await.is_err() {
            shared.degraded.send_replace(Some(Degraded::Polling { reason: PollingReason::Died }));
            shared.pending().stir_everything(clock.now());
            shared.stirred.notify_one();
        }
    }
}
