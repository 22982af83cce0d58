//! Group commit: many callers ask for durability, few flushes give it.
//!
//! Owns when and how `fsync` and `syncfs` are called. Never writes, never retries: a file whose flush
//! failed has to be written again, because the system reports a lost write only once.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use rustix::fs;
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::look::stat_of;
use super::{FsError, FsErrorKind, Result};

/// From this many different files and folders on, one flush of the file system is cheaper.
const MANY: usize = 16;

/// One caller and what it waits for.
struct Waiting {
    items: Vec<Arc<OwnedFd>>,
    done: oneshot::Sender<rustix::io::Result<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task is at work that will come back for `waiting`.
    served: bool,
}

/// Flushes what lies on one file system.
pub struct Flusher {
    /// Any folder of the file system.
    root: Arc<OwnedFd>,
    queue: Arc<Mutex<Queue>>,
}

impl Flusher {
    pub fn new(root: OwnedFd) -> Flusher {
        Flusher { root: Arc::new(root), queue: Arc::default() }
    }

    /// Returns when everything written to the items, files or folders, before the call is durable.
    /// Whoever asks while a flush is running shares the next one.
    pub async fn flush(&self, items: Vec<OwnedFd>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        let items = items.into_iter().map(Arc::new).collect();
        let served = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.push(Waiting { items, done });
            std::mem::replace(&mut queue.served, true)
        };
        if !served {
            let server = Server { queue: Arc::clone(&self.queue), finished: false };
            tokio::spawn(serve(server, Arc::clone(&self.root)));
        }
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(errno)) => {
                let why = std::io::Error::from(errno);
                let kind = match errno {
                    Errno::NOSPC | Errno::DQUOT => FsErrorKind::Full,
                    _ => FsErrorKind::Io,
                };
                Err(FsError::new(kind, format!("make it durable: {why}")))
            }
            Err(_) => Err(FsError::new(FsErrorKind::Io, "make it durable: interrupted")),
        }
    }
}

/// Ends serving also when the task is cancelled, so that the next caller starts a new one.
struct Server {
    queue: Arc<Mutex<Queue>>,
    finished: bool,
}

impl Server {
    /// What has gathered since the last time; ends serving if that is nothing.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            queue.served = false;
            self.finished = true;
            return None;
        }
        Some(std::mem::take(&mut queue.waiting))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.finished {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.served = false;
            // Their calls fail: nobody would come for them.
            queue.waiting.clear();
        }
    }
}

async fn serve(mut server: Server, root: Arc<OwnedFd>) {
    while let Some(batch) = server.next_batch() {
        flush_batch(batch, &root).await;
    }
}

/// Flushes everything that a batch waits for, each item once, and tells every caller its outcome.
async fn flush_batch(batch: Vec<Waiting>, root: &Arc<OwnedFd>) {
    let mut distinct: HashMap<ItemKey, Arc<OwnedFd>> = HashMap::new();
    let mut keys = Vec::with_capacity(batch.len());
    for waiting in &batch {
        let of_caller: rustix::io::Result<Vec<_>> = waiting.items.iter().map(item_key).collect();
        if let Ok(of_caller) = &of_caller {
            let items = waiting.items.iter().cloned();
            distinct.extend(of_caller.iter().copied().zip(items));
        }
        keys.push(of_caller);
    }
    let failed = flush_distinct(distinct, root).await;
    for (waiting, keys) in batch.into_iter().zip(keys) {
        let outcome = keys.and_then(|keys| {
            keys.iter().find_map(|key| failed.get(key)).map_or(Ok(()), |errno| Err(*errno))
        });
        // A caller that gave up does not listen.
        let _ = waiting.done.send(outcome);
    }
}

type ItemKey = (u32, u32, u64);

fn item_key(item: &Arc<OwnedFd>) -> rustix::io::Result<ItemKey> {
    let stat = stat_of(item)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

/// Which items could not be made durable.
async fn flush_distinct(
    items: HashMap<ItemKey, Arc<OwnedFd>>,
    root: &Arc<OwnedFd>,
) -> HashMap<ItemKey, Errno> {
    if items.len() >= MANY {
        let root = Arc::clone(root);
        let whole = tokio::task::spawn_blocking(move || fs::syncfs(&*root)).await;
        if matches!(whole, Ok(Ok(()))) {
            return HashMap::new();
        }
        // It does not say whose write was lost, perhaps none of ours: ask for each.
    }
    let each = items.into_iter().map(|(key, item)| async move {
        let root = Arc::clone(root);
        match tokio::task::spawn_blocking(move || flush_one(&item, &root)).await {
            Ok(Ok(())) => None,
            Ok(Err(errno)) => Some((key, errno)),
            Err(_) => Some((key, Errno::CANCELED)),
        }
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// Makes one file or folder durable, at once. `root` is any folder of the file system.
pub(super) fn flush_one(item: &OwnedFd, root: &OwnedFd) -> rustix::io::Result<()> {
    match fs::fsync(item) {
        // A folder that may not be read is open for use only.
        Err(Errno::BADF) => fs::syncfs(root),
        // File systems without a flush for folders.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}
