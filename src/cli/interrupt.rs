//! SIGINT and SIGTERM: the first asks a run to end in a consistent state, the second ends the
//! process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::out::say;
use crate::exit::Exit;

/// Set by the first signal.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Listens from now on. Must be called in a runtime.
    pub(super) fn listen() -> std::io::Result<Interrupt> {
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let interrupt = Interrupt::default();
        let token = interrupt.0.clone();
        tokio::spawn(async move {
            for calm in [true, false] {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                if calm {
                    say("foldsync: ending what is under way; interrupt again to stop at once");
                    token.cancel();
                }
            }
            // Every step is journaled: the next run finds out what became of the rest.
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
        Ok(interrupt)
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(super) async fn wait(&self) {
        self.0.cancelled().await;
    }
}
