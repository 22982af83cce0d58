//! Follows a running daemon over its socket: waits for what it says, never for a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use foldsync::daemon::client::Client;
use foldsync::daemon::events::{Batch, Event, Happening};
use foldsync::daemon::status::{DaemonStatus, PairStatus};
use tokio::runtime::Runtime;

/// Far more than anything here takes: who waits that long has found a bug.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Follow {
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
}

impl Follow {
    pub(crate) fn new(socket: PathBuf) -> Follow {
        Follow { client: Client::new(socket), runtime: Runtime::new().unwrap() }
    }

    pub(crate) fn statuses(&self) -> DaemonStatus {
        self.runtime.block_on(self.client.status()).unwrap()
    }

    /// Of the pair that most tests have.
    pub(crate) fn status(&self) -> PairStatus {
        self.statuses().pair("docs").unwrap().clone()
    }

    fn events(&self, since: u64, wait: Duration) -> Batch {
        self.runtime.block_on(self.client.events(since, wait)).unwrap()
    }

    /// The events so far end here.
    pub(crate) fn now(&self) -> u64 {
        let mut since = 0;
        loop {
            let batch = self.events(since, Duration::ZERO);
            if batch.events.is_empty() {
                return since;
            }
            since = batch.next;
        }
    }

    /// Waits until something happens after `since` that `is` wanted. Returns what happened until then,
    /// and perhaps a little after it.
    #[track_caller]
    pub(crate) fn await_event(
        &self,
        since: u64,
        what: &str,
        is: impl Fn(&Happening) -> bool,
    ) -> Vec<Event> {
        let mut all = Vec::new();
        let mut next = since;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let batch = self.events(next, Duration::from_secs(5));
            next = batch.next;
            let found = batch.events.iter().any(|event| is(&event.happening));
            all.extend(batch.events);
            if found {
                return all;
            }
        }
        panic!("{what} did not happen; {:#?}", self.status());
    }
}
