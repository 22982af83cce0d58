//! Carries out one journaled operation at a time: checks what it expects, does it, says what is now
//! there. Takes no decisions.
//!
//! Lanes bound how many transfers move bytes at once. An operation that only waits for a flush holds
//! no lane, so that many small files share one flush.

mod commit;
mod download;
pub mod meter;
mod structure;
mod upload;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::{Clock, Timestamp};
use crate::engine::job::{Expected, Failure, FailureKind, Job, Outcome, Task};
use crate::local::{FsError, FsErrorKind, LocalFs};
use crate::remote::{Effect, ErrorKind, Remote, RemoteError};
use crate::store::SavedSession;
use crate::tree::{Digest, HashAlgo, NodeId, Side};
use meter::Meter;

/// Bytes that are in memory for one transfer at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// How many operations of a kind run at once.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    pub uploads: usize,
    pub downloads: usize,
    /// Everything that moves no content.
    pub structure: usize,
}

/// Something that must be durable before an operation goes on.
#[derive(Debug)]
pub struct Note {
    pub node: NodeId,
    pub session: SavedSession,
    /// Told when it is.
    pub saved: oneshot::Sender<()>,
}

/// The two sides of a pair, and the lanes to them.
pub struct Executor {
    local: Arc<dyn LocalFs>,
    remote: Arc<dyn Remote>,
    clock: Arc<dyn Clock>,
    install_id: String,
    algo: HashAlgo,
    uploads: Semaphore,
    downloads: Semaphore,
    structure: Semaphore,
    notes: mpsc::Sender<Note>,
    meter: Arc<Meter>,
}

type Result<T> = std::result::Result<T, Failure>;

impl Executor {
    pub fn new(
        local: Arc<dyn LocalFs>,
        remote: Arc<dyn Remote>,
        clock: Arc<dyn Clock>,
        install_id: String,
        lanes: Lanes,
        meter: Arc<Meter>,
    ) -> (Executor, mpsc::Receiver<Note>) {
        let algo = remote.capabilities().pair_hash();
        let (notes, noted) = mpsc::channel(64);
        let executor = Executor {
            local,
            remote,
            clock,
            install_id,
            algo,
            uploads: Semaphore::new(lanes.uploads),
            downloads: Semaphore::new(lanes.downloads),
            structure: Semaphore::new(lanes.structure),
            notes,
            meter,
        };
        (executor, noted)
    }

    /// Carries out a job. The future may be dropped at any point.
    pub async fn run(&self, job: &Job) -> Result<Outcome> {
        let key = crate::engine::stage_key(&self.install_id, job.op.0);
        match &job.task {
            Task::Upload { source, to, content, over, saved } => {
                let (over, saved) = (over.as_ref(), saved.as_ref());
                let upload = upload::Upload { source, to, content: *content, over, saved };
                self.upload(key, job, &upload).await
            }
            Task::Download { .. } => self.download(key, &job.task).await,
            Task::Mkdir { side, to } => self.count(self.mkdir(*side, to)).await,
            Task::Relocate { side, from, to } => {
                self.count(self.relocate(key, *side, from, to)).await
            }
            Task::Delete { side, what, gone, rest: None } => {
                self.count(self.delete(*side, what, gone.as_ref())).await
            }
            Task::Delete { side, what, gone, rest: Some(rest) } => {
                self.count(self.set_rest_aside(*side, what, gone.as_ref(), rest)).await
            }
            Task::Learn { side, what, algo } => self.learn(*side, what, *algo).await,
        }
    }

    /// The content of a file and when its reading began; `None` if it is not the expected version any
    /// more, or cannot be read.
    pub async fn read(
        &self,
        side: Side,
        what: &Expected,
        algo: HashAlgo,
    ) -> Option<(Digest, Timestamp)> {
        match self.learn(side, what, algo).await {
            Ok(Outcome::Learned { digest, at }) => Some((digest, at)),
            Ok(_) | Err(_) => None,
        }
    }

    async fn count(&self, operation: impl Future<Output = Result<Outcome>>) -> Result<Outcome> {
        self.meter.count(&*self.clock, operation).await
    }
}

/// A permit that ends with its scope; a lane is never closed.
async fn enter(lane: &Semaphore) -> tokio::sync::SemaphorePermit<'_> {
    lane.acquire().await.expect("lanes are never closed")
}

fn local_failure(error: FsError) -> Failure {
    let kind = match error.kind {
        FsErrorKind::NotFound | FsErrorKind::Occupied | FsErrorKind::Changed => {
            FailureKind::Changed
        }
        FsErrorKind::NotEmpty => FailureKind::NotEmpty,
        FsErrorKind::Denied | FsErrorKind::BadName => FailureKind::Refused,
        FsErrorKind::Full => FailureKind::Full,
        FsErrorKind::RootLost => FailureKind::RootLost,
        FsErrorKind::Io => FailureKind::Transient,
    };
    failure(kind, Side::Local, error.context)
}

fn remote_failure(error: RemoteError) -> Failure {
    let kind = match error.kind {
        ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::Changed => FailureKind::Changed,
        ErrorKind::AuthExpired => FailureKind::Auth,
        ErrorKind::Forbidden
        | ErrorKind::InvalidName
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported => FailureKind::Refused,
        ErrorKind::QuotaFull => FailureKind::Full,
        ErrorKind::RateLimited | ErrorKind::Protocol | ErrorKind::Unavailable => {
            FailureKind::Transient
        }
        ErrorKind::Corrupt => FailureKind::Corrupt,
        ErrorKind::RootLost => FailureKind::RootLost,
    };
    Failure {
        unknown: error.effect == Effect::Unknown,
        retry_after: error.retry_after,
        ..failure(kind, Side::Remote, error.context)
    }
}

fn failure(kind: FailureKind, side: Side, message: String) -> Failure {
    Failure { kind, side, unknown: false, unfinished: false, retry_after: None, message }
}
