//! The status without a daemon: what the last run of each pair wrote down.

use crate::cli::context::Pair;
use crate::cli::daemon::first_status;
use crate::cli::last_run::LastRun;
use crate::cli::runner::exit_of;
use crate::clock::Timestamp;
use crate::daemon::status::{DaemonStatus, Moment, PairStatus, State};
use crate::engine::Summary;
use crate::exit::{Exit, Failure};
use crate::store::{ConflictFate, FailureRow, HeldRow, HeldState, Store};

/// The pairs, and the worst code that their last runs left.
pub(super) fn read(pairs: &[Pair]) -> Result<(DaemonStatus, Exit), Failure> {
    let mut all = DaemonStatus::recorded(Vec::new());
    let mut worst = Exit::InSync;
    for pair in pairs {
        let records = Records::of(pair)?;
        worst = worst.or_worse(records.exit());
        all.pairs.push(describe(pair, records));
    }
    Ok((all, worst))
}

fn describe(pair: &Pair, records: Records) -> PairStatus {
    let mut status = first_status(pair);
    let is_locked = pair.is_locked();
    status.state = if is_locked { State::Syncing } else { records.state() };
    status.since = records.last.as_ref().map(|last| Moment(last.ended_at()));
    (status.local.files, status.local.bytes) = (records.files, records.bytes);
    status.conflicts = records.conflicts;
    match &records.last {
        None => status.message = Some("never synced".to_owned()),
        Some(last) => {
            status.message.clone_from(&last.message);
            status.notes.push(told(last.ended_at(), records.last_success));
            if let Some(summary) = &last.summary {
                status.set_skipped(&summary.skipped);
                status.set_left_out(&summary.notes);
                status.remote.listing_complete = summary.stop.is_none();
                status.remote.listing_at = status.since.filter(|_| status.remote.listing_complete);
            }
        }
    }
    if is_locked {
        status.notes.push("another foldsync works on it at this moment".to_owned());
    }
    for row in &records.failures {
        match row.kind.as_str() {
            "upload" => status.pending.upload += 1,
            "download" => status.pending.download += 1,
            "move" => status.pending.moves += 1,
            "delete" => status.pending.delete += 1,
            _ => {}
        }
    }
    status.set_failed(records.failures);
    status.set_held(records.held);
    status
}

fn told(ended: Timestamp, success: Option<Timestamp>) -> String {
    let success = success.map_or_else(|| "never".to_owned(), Timestamp::rfc3339);
    format!("last run {}, last complete {success}", ended.rfc3339())
}

/// What a state database says about a pair.
#[derive(Default)]
struct Records {
    files: u64,
    bytes: u64,
    conflicts: u64,
    failures: Vec<FailureRow>,
    held: Vec<HeldRow>,
    last: Option<LastRun>,
    last_success: Option<Timestamp>,
}

impl Records {
    fn of(pair: &Pair) -> Result<Records, Failure> {
        let mut records = match pair.records()? {
            Some(store) => Records::read(&store).map_err(|error| pair.failed(&error))?,
            None => Records::default(),
        };
        // Newer than what the database says: a run that begins does away with it.
        records.last = LastRun::read_unbegun(pair).or(records.last);
        Ok(records)
    }

    fn read(store: &Store) -> crate::store::Result<Records> {
        let (files, bytes) = store.totals()?;
        Ok(Records {
            files,
            bytes,
            conflicts: store.conflicts(ConflictFate::Open)?.len() as u64,
            failures: store.failures()?,
            held: store.held(&[HeldState::Pending])?,
            last: LastRun::read(store),
            last_success: LastRun::last_success(store),
        })
    }

    /// The code of the last run, with what was decided since taken into account.
    fn exit(&self) -> Exit {
        // Nobody knows how a pair is that was never synced.
        let Some(last) = &self.last else { return Exit::SomeFailed };
        let Some(summary) = &last.summary else { return last.exit() };
        exit_of(&Summary {
            conflicts: self.conflicts,
            failed: self.failures.len() as u64,
            held: self.held.len() as u64,
            ..summary.clone()
        })
    }

    /// A pair that nobody keeps is never `scanning` or `planning`.
    fn state(&self) -> State {
        if self.last.is_none() {
            return State::Waiting;
        }
        match self.exit() {
            Exit::InSync | Exit::Remaining => State::Idle,
            Exit::SomeFailed
            | Exit::MaxTransfer
            | Exit::MaxDuration
            | Exit::Interrupted
            | Exit::Busy => State::Waiting,
            Exit::Held => State::Held,
            Exit::Unavailable => State::Offline,
            Exit::LoginNeeded => State::AuthExpired,
            Exit::Fatal | Exit::BadConfig | Exit::Usage => State::Error,
        }
    }
}
