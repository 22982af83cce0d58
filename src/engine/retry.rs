//! What a failure means: look again, try again later, leave this version alone, or stop.

use std::time::Duration;

use super::job::{Failure, FailureKind, Task};
use super::look::Look;
use super::report::{OpReport, OpResult};
use super::{Engine, Fatal, Flight, Problem};
use crate::clock::Timestamp;
use crate::plan::{Action, Op};
use crate::tree::{NodeId, Side};

/// How often one item is tried in a run.
const ATTEMPTS_MAX: u32 = 4;
/// How often a folder is listed again before its listing counts as failed.
const LISTINGS_MAX: u32 = 3;
/// How often a plan for one item may turn out to be built on old sight.
const CHANGES_MAX: u32 = 8;
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A node that failed: the planner leaves it alone until it is lifted.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) attempts: u32,
    /// `None`: not again in this run.
    pub(super) retry_at: Option<Timestamp>,
    pub(super) failure: Failure,
    pub(super) op: &'static str,
}

impl Trouble {
    /// For people. What was not even tried is no side's fault.
    pub(super) fn told(&self) -> String {
        if self.attempts == 0 { self.failure.message.clone() } else { self.failure.told() }
    }
}

impl Engine {
    pub(super) fn take_failure(&mut self, flight: &Flight, failure: Failure) -> Result<(), Fatal> {
        let node = flight.op.node;
        if failure.kind.ends_session() {
            self.drop_session(node);
        }
        self.note_part(flight, Some(&failure));
        if failure.unfinished {
            self.note_half_done(flight);
            self.try_again_later(flight, failure);
            return Ok(());
        }
        if failure.unknown {
            self.excuse_flight(flight);
            self.look_around_flight(flight);
        }
        match failure.kind {
            FailureKind::RootLost => {
                return Err(Fatal::RootLost { side: failure.side, message: failure.message });
            }
            FailureKind::Auth => return Err(Fatal::Auth { message: failure.message }),
            FailureKind::Changed => {
                if failure.side == Side::Local && matches!(flight.job.task, Task::Upload { .. }) {
                    // Perhaps it changed without a sign: what was read of it before is worth nothing.
                    self.racy.distrust(Side::Local, node);
                }
                self.look_around_flight(flight);
                let changes = self.changes.entry(node).or_default();
                *changes += 1;
                if *changes <= CHANGES_MAX {
                    return Ok(());
                }
                self.give_up(flight, failure);
            }
            FailureKind::NotEmpty => {
                // What it holds is found by the look, or it is nothing that is synced: kept then.
                self.look_around_flight(flight);
                if !self.not_empty.insert(node) {
                    let trouble = Trouble { attempts: 1, retry_at: None, failure, op: "delete" };
                    self.troubles.insert(node, trouble);
                }
            }
            FailureKind::Refused => self.give_up(flight, failure),
            FailureKind::Full => {
                self.full[failure.side as usize] = true;
                self.give_up(flight, failure);
            }
            FailureKind::Transient | FailureKind::Corrupt => self.try_again_later(flight, failure),
        }
        Ok(())
    }

    /// A node that failed waits longer each time, and in the end for the next run.
    pub(super) fn try_again_later(&mut self, flight: &Flight, failure: Failure) {
        let node = flight.op.node;
        let count = self.attempts.entry(node).or_default();
        *count += 1;
        let attempts = *count;
        if attempts >= ATTEMPTS_MAX {
            self.give_up(flight, failure);
        } else {
            let wait = failure.retry_after.unwrap_or_else(|| wait(attempts, node));
            let retry_at = Some(self.now.plus(wait));
            let op = self.op_kind(&flight.op).as_str();
            self.troubles.insert(node, Trouble { attempts, retry_at, failure, op });
        }
    }

    /// Not again in this run; the next one tries again.
    fn give_up(&mut self, flight: &Flight, failure: Failure) {
        let op = &flight.op;
        let path = self.report_path(flight).to_string();
        let mut report = OpReport::new(self.op_kind(op), op.side, path, op.why);
        report.to = match op.action {
            Action::Move { .. } => flight.job.target_path().map(|path| path.to_string()),
            _ => None,
        };
        report.result = OpResult::Failed;
        report.error = Some(failure.told());
        self.publish(flight, report);
        let attempts = self.attempts.get(&op.node).copied().unwrap_or(1);
        let op_word = self.op_kind(op).as_str();
        let trouble = Trouble { attempts, retry_at: None, failure, op: op_word };
        self.troubles.insert(op.node, trouble);
    }

    /// This operation is not even tried in this run.
    pub(super) fn shut_out(&mut self, op: &Op, kind: FailureKind, message: String) {
        let failure = Failure {
            kind,
            side: op.side,
            unknown: false,
            unfinished: false,
            retry_after: None,
            message,
        };
        let op_word = self.op_kind(op).as_str();
        let trouble = Trouble { attempts: 0, retry_at: None, failure, op: op_word };
        self.troubles.insert(op.node, trouble);
    }

    /// Looks again at every folder that the operation relied on directly. Until then nothing more is
    /// done with the node: what an operation changes, the look would have to look at again.
    pub(super) fn look_around_flight(&mut self, flight: &Flight) {
        let node = flight.op.node;
        let mut folders: Vec<(Side, NodeId)> = Vec::new();
        folders.extend(flight.place.as_ref().map(|(side, place)| (*side, place.parent)));
        for side in Side::BOTH {
            let at = self.trees.facet(side, node).map(|facet| facet.at().parent);
            let base = self.trees.base(node).map(|base| base.at.parent);
            folders.extend(at.into_iter().chain(base).map(|dir| (side, dir)));
        }
        if matches!(flight.op.action, Action::Delete)
            && self.trees.kind(node) == crate::tree::Kind::Dir
        {
            // A folder that was not empty after all: what is in it?
            folders.push((flight.op.side, node));
        }
        self.doubt(node, folders);
    }

    /// A move whose outcome is unknown may have stopped half-way, an upload may have arrived.
    fn excuse_flight(&mut self, flight: &Flight) {
        self.await_arrival(flight);
        if let Action::Move { to } = &flight.op.action {
            self.moving.insert(flight.op.node, to.clone());
        }
    }

    /// Another try for what waited long enough.
    pub(super) fn wake_troubles(&mut self) {
        let now = self.now;
        let before = self.troubles.len();
        self.troubles.retain(|_, trouble| trouble.retry_at.is_none_or(|at| at > now));
        if self.troubles.len() < before {
            self.plan_wanted = true;
        }
    }

    /// A new version of an item may work where the old one did not.
    pub(super) fn lift_failure(&mut self, node: NodeId) {
        if self.troubles.get(&node).is_some_and(|trouble| trouble.retry_at.is_none()) {
            let given_up = self.changes.get(&node).is_some_and(|changes| *changes > CHANGES_MAX);
            if !given_up {
                self.troubles.remove(&node);
            }
        }
    }

    pub(super) fn retry_listing(
        &mut self,
        look: &mut Look,
        dir: NodeId,
        message: String,
    ) -> Result<(), Fatal> {
        let attempts = self.listing_attempts.entry((look.side, dir)).or_default();
        *attempts += 1;
        if *attempts < LISTINGS_MAX {
            look.want_again(dir);
            return Ok(());
        }
        if dir == NodeId::ROOT {
            return Err(Fatal::Unavailable { side: look.side, message });
        }
        self.blind.insert((look.side, dir), Problem::Unlisted(message));
        Ok(())
    }
}

/// Doubles with each attempt. The jitter is taken from the node, so that a run is a function of its
/// inputs.
fn wait(attempts: u32, node: NodeId) -> Duration {
    let doubled = WAIT_MIN.saturating_mul(1 << attempts.min(16));
    let jitter = u64::from(node.get().wrapping_mul(2_654_435_761) % 256);
    doubled.min(WAIT_MAX) + Duration::from_millis(jitter)
}
