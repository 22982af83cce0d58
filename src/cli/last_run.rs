//! How the last run of a pair ended, kept in its state database for `status`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::context::Pair;
use super::runner::exit_of;
use crate::clock::Timestamp;
use crate::engine::Summary;
use crate::exit::{Exit, Failure};
use crate::pair::RunReport;
use crate::store::Store;

const KEY: &str = "last_run";
const SUCCESS_KEY: &str = "last_success";
/// Skipped items that are kept by name. The rest are only counted by their run.
const SKIPPED_MAX: usize = 1000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LastRun {
    /// Seconds since the epoch.
    ended_at: i64,
    code: u8,
    /// Why it could not run to its end.
    pub(super) message: Option<String>,
    pub(super) summary: Option<Summary>,
}

impl LastRun {
    pub(super) fn of(outcome: &Result<RunReport, Failure>, now: Timestamp) -> LastRun {
        let (exit, message, summary) = match outcome {
            Ok(report) => {
                let mut summary = report.summary.clone();
                summary.skipped.truncate(SKIPPED_MAX);
                summary.notes.truncate(SKIPPED_MAX);
                (exit_of(&report.summary), None, Some(summary))
            }
            Err(failure) => (failure.exit, Some(failure.message.clone()), None),
        };
        LastRun { ended_at: now.seconds(), code: exit.code(), message, summary }
    }

    pub(super) fn ended_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.ended_at)
    }

    pub(super) fn exit(&self) -> Exit {
        Exit::from_code(self.code).unwrap_or(Exit::Fatal)
    }

    /// Keeps it. That this fails is no reason to fail a run that is over.
    pub(super) fn record(&self, pair: &Pair) {
        let Ok(text) = serde_json::to_string(self) else { return };
        let written = Store::edit_records(&pair.state_db).and_then(|store| match store {
            None => Ok(false),
            Some(mut store) => store.write(|tx| {
                tx.set_meta(KEY, &text)?;
                match self.exit() {
                    Exit::InSync | Exit::Remaining => {
                        tx.set_meta(SUCCESS_KEY, &self.ended_at.to_string())
                    }
                    Exit::SomeFailed
                    | Exit::Usage
                    | Exit::Held
                    | Exit::Unavailable
                    | Exit::Busy
                    | Exit::Fatal
                    | Exit::MaxTransfer
                    | Exit::MaxDuration
                    | Exit::LoginNeeded
                    | Exit::BadConfig
                    | Exit::Interrupted => Ok(()),
                }?;
                Ok(true)
            }),
        });
        match written {
            Ok(true) => LastRun::forget_unbegun(pair),
            Ok(false) => self.record_unbegun(pair),
            Err(error) => {
                tracing::warn!(pair = pair.config.name, %error, "the end of the run was not recorded");
                self.record_unbegun(pair);
            }
        }
    }

    /// Keeps beside the database why a run could not even begin, until one does. What another process
    /// does with the pair is not for this one to tell.
    pub(super) fn record_unbegun(&self, pair: &Pair) {
        if self.exit() == Exit::Busy || self.message.is_none() {
            return;
        }
        let path = unbegun(pair);
        let kept = serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|text| {
            let fresh = path.with_extension("new");
            let mut options = std::fs::File::options();
            let mut file =
                options.create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        });
        if let Err(error) = kept {
            tracing::warn!(pair = pair.config.name, %error, "the failure was not recorded");
        }
    }

    /// A run has begun.
    pub(super) fn forget_unbegun(pair: &Pair) {
        match std::fs::remove_file(unbegun(pair)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(pair = pair.config.name, %error, "an old failure is still recorded");
            }
        }
    }

    /// The run that could not begin, if no other has begun since.
    pub(super) fn read_unbegun(pair: &Pair) -> Option<LastRun> {
        serde_json::from_slice(&std::fs::read(unbegun(pair)).ok()?).ok()
    }

    /// While a daemon runs: that everything that could be synced was. Nobody fails for that it is not
    /// kept.
    pub(super) fn record_success(pair: &Pair, at: Timestamp) {
        let written = Store::edit_records(&pair.state_db).and_then(|store| match store {
            Some(mut store) => {
                LastRun::forget_unbegun(pair);
                store.write(|tx| tx.set_meta(SUCCESS_KEY, &at.seconds().to_string()))
            }
            None => Ok(()),
        });
        if let Err(error) = written {
            tracing::warn!(pair = pair.config.name, %error, "the last success was not recorded");
        }
    }

    pub(super) fn read(store: &Store) -> Option<LastRun> {
        serde_json::from_str(&store.meta(KEY).ok()??).ok()
    }

    /// When everything that could be synced last was.
    pub(super) fn last_success(store: &Store) -> Option<Timestamp> {
        store.meta(SUCCESS_KEY).ok()??.parse().ok().map(Timestamp::from_seconds)
    }
}

/// Where a run leaves word that could not even begin.
fn unbegun(pair: &Pair) -> PathBuf {
    pair.state_db.with_extension("last-failure.json")
}
