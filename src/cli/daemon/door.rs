//! The control socket where the configuration wants it, also after a reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Daemon, socket};
use crate::exit::{Exit, Failure};
use crate::text::printable;

/// For answers that are on their way when the socket moves or closes.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Door {
    place: PathBuf,
    closed: CancellationToken,
    served: JoinHandle<()>,
}

impl Door {
    /// Must be called on a tokio runtime.
    pub(super) fn open(place: &Path, daemon: &Arc<Daemon>) -> Result<Door, Failure> {
        let bound = socket::bind(place).map_err(|error| {
            let exit = match &error {
                socket::BindError::Running(_) => Exit::Busy,
                socket::BindError::Foreign { .. }
                | socket::BindError::OpenToOthers(_)
                | socket::BindError::TooLong(_)
                | socket::BindError::Io { .. } => Exit::Fatal,
            };
            Failure::new(exit, printable(&error.to_string()))
        })?;
        let closed = CancellationToken::new();
        let served = tokio::spawn(socket::serve(bound, daemon.sources(), closed.clone()));
        Ok(Door { place: place.to_owned(), closed, served })
    }

    /// Answers at another place from now on, if that can be had.
    pub(super) fn move_to(&mut self, place: &Path, daemon: &Arc<Daemon>) {
        if self.place == place {
            return;
        }
        match Door::open(place, daemon) {
            Ok(door) => {
                tracing::info!(socket = %place.display(), "the control socket moved");
                let old = std::mem::replace(self, door);
                tokio::spawn(async move {
                    // Who asked for the reload waits for an answer there.
                    tokio::time::sleep(GRACE).await;
                    old.close().await;
                });
            }
            Err(failure) => {
                let (stays, error) = (self.place.display(), failure.message);
                tracing::error!(socket = %stays, error, "the control socket stays where it is");
            }
        }
    }

    /// Clients that do not read their answers are not waited for.
    pub(super) async fn close(self) {
        self.closed.cancel();
        let _ = tokio::time::timeout(GRACE, self.served).await;
    }
}
