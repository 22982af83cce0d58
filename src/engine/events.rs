//! What the engine is told and what it asks for: events in, commands out. Plain values.

use super::half_done::Tidied;
use super::job::{Expected, Failure, Job, OpId, Outcome, Trace};
use super::watchful::LookAt;
use crate::clock::Timestamp;
use crate::local::{FsError, FsErrorKind, Listing};
use crate::remote::{ErrorKind, Locator, RemoteError};
use crate::store::SavedSession;
use crate::tree::{Digest, HashAlgo, Name, NodeId, Side};

/// Something happened.
#[derive(Debug)]
pub enum Event {
    Listed {
        side: Side,
        dir: NodeId,
        result: Result<Listing, ListError>,
    },
    /// Whether something is still there.
    Confirmed {
        side: Side,
        node: NodeId,
        result: Result<bool, ListError>,
    },
    /// The content of a newcomer; `None` if it could not be read.
    Proved {
        side: Side,
        dir: NodeId,
        name: Name,
        proof: Option<(Digest, Timestamp)>,
    },
    Finished {
        op: OpId,
        result: Result<Outcome, Failure>,
    },
    /// What is known now of something that stopped half-way.
    Tidied {
        node: NodeId,
        result: Result<Tidied, ListError>,
    },
    /// Something may have changed, or it is time to look.
    Look {
        side: Side,
        at: LookAt,
    },
    /// A service began to receive a file, and will go on with it after a restart.
    SessionBegun {
        node: NodeId,
        session: SavedSession,
    },
    /// The user wants to stop: finish what is under way, start nothing.
    Interrupt,
    /// Time has passed.
    Tick,
}

/// Something is to be done.
#[derive(Debug)]
pub enum Command {
    List {
        side: Side,
        dir: NodeId,
        target: Locator,
    },
    Confirm {
        side: Side,
        node: NodeId,
        target: Locator,
    },
    /// Reads a file that has no node yet, to tell whether it is one that was moved.
    Prove {
        side: Side,
        dir: NodeId,
        what: Box<Expected>,
        algo: HashAlgo,
    },
    Run(Box<Job>),
    /// An operation of this run stopped half-way: to be brought to its end.
    Tidy {
        node: NodeId,
        trace: Trace,
    },
}

/// Why a folder could not be listed or an item not be looked up.
#[derive(Clone, Debug)]
pub enum ListError {
    /// It vanished since its own folder was listed.
    Gone,
    RootLost(String),
    Auth(String),
    /// Worth another try.
    Transient(String),
    Denied(String),
}

impl From<FsError> for ListError {
    fn from(error: FsError) -> ListError {
        match error.kind {
            FsErrorKind::NotFound => ListError::Gone,
            FsErrorKind::RootLost => ListError::RootLost(error.context),
            FsErrorKind::Io | FsErrorKind::Changed => ListError::Transient(error.context),
            FsErrorKind::Occupied
            | FsErrorKind::NotEmpty
            | FsErrorKind::Denied
            | FsErrorKind::BadName
            | FsErrorKind::Full => ListError::Denied(error.context),
        }
    }
}

impl From<RemoteError> for ListError {
    fn from(error: RemoteError) -> ListError {
        match error.kind {
            ErrorKind::NotFound => ListError::Gone,
            ErrorKind::RootLost => ListError::RootLost(error.context),
            ErrorKind::AuthExpired => ListError::Auth(error.context),
            ErrorKind::RateLimited
            | ErrorKind::Unavailable
            | ErrorKind::Protocol
            | ErrorKind::Corrupt
            | ErrorKind::Changed => ListError::Transient(error.context),
            ErrorKind::AlreadyExists
            | ErrorKind::Forbidden
            | ErrorKind::QuotaFull
            | ErrorKind::InvalidName
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported => ListError::Denied(error.context),
        }
    }
}
