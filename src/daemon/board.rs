//! What every pair said last, as one status; and what changed, as events.
//!
//! Written by the pairs' tasks, read by the socket. Never waits for a disk or a network.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::bell::Bell;
use super::events::{EventLog, Happening};
use super::status::{DaemonStatus, OpCount, PairStatus};
use crate::clock::{Clock as _, SystemClock};
use crate::drive::Observer;
use crate::engine::OpReport;
use crate::engine::report::{OpKind, OpResult};
use crate::exec::meter::Meter;
use crate::text::printable;

pub(super) struct Board {
    status: watch::Sender<Arc<DaemonStatus>>,
    pub(super) events: Arc<EventLog>,
}

impl Board {
    pub(super) fn new() -> Board {
        let status = DaemonStatus::new(SystemClock.now());
        Board { status: watch::Sender::new(Arc::new(status)), events: Arc::default() }
    }

    pub(super) fn follow(&self) -> watch::Receiver<Arc<DaemonStatus>> {
        self.status.subscribe()
    }

    pub(super) fn tell(&self, happening: Happening) {
        self.events.push(happening, SystemClock.now());
    }

    /// Replaces what is said of a pair; a new one comes last.
    pub(super) fn put(&self, pair: PairStatus) {
        let mut happened = Vec::new();
        self.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            match status.pairs.iter_mut().find(|known| known.name == pair.name) {
                Some(known) => {
                    happened = changes(known, &pair);
                    *known = pair;
                }
                None => status.pairs.push(pair),
            }
        });
        // After the status: who hears of an event finds it there.
        happened.into_iter().for_each(|happening| self.tell(happening));
    }

    /// Only these pairs remain, in this order.
    pub(super) fn keep(&self, names: &[String]) {
        let place = |pair: &PairStatus| names.iter().position(|name| *name == pair.name);
        self.status.send_modify(|status| {
            let pairs = &mut Arc::make_mut(status).pairs;
            pairs.retain(|pair| place(pair).is_some());
            pairs.sort_by_key(place);
        });
    }
}

fn changes(old: &PairStatus, new: &PairStatus) -> Vec<Happening> {
    let pair = || new.name.clone();
    let mut happened = Vec::new();
    if new.totals.cycles > old.totals.cycles {
        happened.push(Happening::CycleEnded { pair: pair(), exit: new.exit().code() });
    }
    if new.state != old.state {
        happened.push(Happening::State { pair: pair(), from: old.state, to: new.state });
    }
    if new.degraded != old.degraded {
        happened.push(Happening::Degraded { pair: pair(), reasons: new.degraded.clone() });
    }
    for held in &new.held {
        if old.held.iter().all(|known| known.id != held.id) {
            happened.push(Happening::Held { pair: pair(), held: held.id, count: held.count });
        }
    }
    happened
}

/// Makes events, log lines and counts of a pair's operations, and rings for other programs.
pub(super) struct Clerk {
    pub(super) pair: String,
    pub(super) board: Arc<Board>,
    pub(super) counts: Mutex<Vec<OpCount>>,
    pub(super) meter: Arc<Meter>,
    pub(super) bell: Bell,
}

impl Clerk {
    /// Puts up what the pair says, with what was counted and measured. Tells whether that will change
    /// by itself.
    pub(super) fn put_up(&self, mut status: PairStatus) -> bool {
        let reading = self.meter.read(SystemClock.now());
        status.take_reading(&reading);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        status.totals.operations.clone_from(&counts);
        drop(counts);
        let now = SystemClock.now();
        status.notes.extend(self.bell.silence(&status, now));
        self.bell.hear(&status, now);
        self.board.put(status);
        reading.is_lively()
    }

    /// Looks whether the pair has been without success for too long.
    pub(super) fn watch_over(&self, status: &PairStatus) {
        if self.bell.watch_over(status, SystemClock.now()) {
            self.put_up(status.clone());
        }
    }

    fn count(&self, op: OpKind, result: OpResult) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.iter_mut().find(|known| known.op == op && known.result == result) {
            Some(known) => known.count += 1,
            None => counts.push(OpCount { op, result, count: 1 }),
        }
    }
}

impl Observer for Clerk {
    fn operation_ended(&self, report: &OpReport) {
        self.count(report.op, report.result);
        let (pair, op) = (self.pair.as_str(), report.op.as_str());
        let (path, size) = (printable(&report.path), report.bytes);
        if let Some(error) = &report.error {
            let error = printable(error);
            tracing::warn!(pair, op, object = path, error, "operation failed");
        } else if report.op.is_visible() {
            tracing::info!(pair, op, object = path, size, "operation done");
        } else {
            // A means to an end is not what somebody wants to know.
            tracing::debug!(pair, op, object = path, "operation done");
            return;
        }
        if let (OpKind::Conflict, OpResult::Done, Some(copy)) =
            (report.op, report.result, &report.to)
        {
            self.bell.conflict(report, copy, SystemClock.now());
            let (path, copy) = (report.path.clone(), copy.clone());
            self.board.tell(Happening::Conflict { pair: pair.to_owned(), path, copy });
        }
        self.board.tell(Happening::Operation { pair: pair.to_owned(), report: report.clone() });
    }
}
