//! Operations of this process that stopped half-way: tidied up before anything else is done with their
//! nodes. What a killed process left is the business of `recover`.

use std::time::Duration;

use super::job::{Failure, FailureKind, Trace};
use super::{Command, Engine, Fatal, Flight, ListError};
use crate::clock::Timestamp;
use crate::local::Listing;
use crate::tree::{Entry, NodeId, Side, Trees};

/// How long a listing may lag behind: what it does not show after that never happened.
const LAG_MAX: Duration = Duration::from_secs(60);

/// How long an old version may be out of the way until whoever put it there has surely forgotten it:
/// another device's swap takes a moment.
const ASIDE_MAX: Duration = Duration::from_secs(120);

/// What was found of something that stopped half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidied {
    /// It was brought to its end.
    Ended,
    /// Nothing of it is to be seen, yet or at all.
    Nothing,
}

/// An operation whose intent stays open.
#[derive(Debug)]
pub(super) struct HalfDone {
    flight: Flight,
    trace: Trace,
    since: Timestamp,
    under_way: bool,
}

impl Engine {
    pub(super) fn note_half_done(&mut self, flight: &Flight) {
        let trace = self.trace(flight.job.op, &flight.op, &flight.job.task);
        let half_done =
            HalfDone { flight: flight.clone(), trace, since: self.now, under_way: false };
        self.half_done.insert(flight.op.node, half_done);
    }

    pub(super) fn is_tidying(&self) -> bool {
        self.half_done.values().any(|half_done| half_done.under_way)
    }

    /// Those whose wait is over are looked into.
    pub(super) fn tidy_up(&mut self, commands: &mut Vec<Command>) {
        if self.stop.is_some() {
            return;
        }
        for (node, half_done) in &mut self.half_done {
            if !half_done.under_way && !self.troubles.contains_key(node) {
                half_done.under_way = true;
                let trace = current(&self.trees, &half_done.trace);
                commands.push(Command::Tidy { node: *node, trace });
            }
        }
    }

    /// Known files that a listing shows under the name of an old version that made room.
    pub(super) fn note_set_aside(&mut self, side: Side, listing: &Listing) {
        for entry in listing.entries.iter().filter(|entry| entry.name.is_replaced()) {
            if self.trees.by_item(side, &entry.item).is_some() {
                self.set_aside.entry(entry.item.clone()).or_insert(self.now);
            }
        }
    }

    /// What was seen out of the way long ago is back, or gone.
    pub(super) fn forget_set_aside(&mut self) {
        let now = self.now;
        self.set_aside.retain(|_, at| now.since(*at) < ASIDE_MAX * 30);
    }

    /// Whether nobody brings the swap of which this is the old version to an end any more: it was cut
    /// short where it could not be found again. Then it is parked, and gets its name back.
    pub(super) fn is_forgotten_aside(&self, side: Side, entry: &Entry) -> bool {
        let Some(node) = self.trees.by_item(side, &entry.item) else { return false };
        let since = self.set_aside.get(&entry.item);
        let is_old = since.is_some_and(|at| self.now.since(*at) > ASIDE_MAX);
        is_old && entry.name.is_replaced() && !self.half_done.contains_key(&node)
    }

    pub(super) fn take_tidied(
        &mut self,
        node: NodeId,
        result: Result<Tidied, ListError>,
    ) -> Result<(), Fatal> {
        let Some(mut half_done) = self.half_done.remove(&node) else { return Ok(()) };
        half_done.under_way = false;
        let message = match result {
            Ok(Tidied::Ended) | Err(ListError::Gone) => {
                self.end_half_done(&half_done);
                return Ok(());
            }
            Ok(Tidied::Nothing) if self.now.since(half_done.since) > LAG_MAX => {
                self.end_half_done(&half_done);
                return Ok(());
            }
            Ok(Tidied::Nothing) => "its outcome is not to be seen yet".to_owned(),
            Err(ListError::RootLost(message)) => {
                return Err(Fatal::RootLost { side: Side::Remote, message });
            }
            Err(ListError::Auth(message)) => return Err(Fatal::Auth { message }),
            Err(ListError::Transient(message) | ListError::Denied(message)) => message,
        };
        let failure = Failure {
            kind: FailureKind::Transient,
            side: half_done.flight.op.side,
            unknown: false,
            unfinished: true,
            retry_after: None,
            message,
        };
        let flight = half_done.flight.clone();
        self.half_done.insert(node, half_done);
        self.try_again_later(&flight, failure);
        Ok(())
    }

    /// Both sides tell the rest.
    fn end_half_done(&mut self, half_done: &HalfDone) {
        self.unsaved.finished.push(half_done.flight.job.op);
        self.drop_session(half_done.flight.op.node);
        self.look_around_flight(&half_done.flight);
        self.plan_wanted = true;
    }
}

/// The same trace with the folder where it is now: somebody may have moved it.
fn current(trees: &Trees, trace: &Trace) -> Trace {
    let mut trace = trace.clone();
    if let Trace::Upload { parent, parent_path, parent_id, .. } = &mut trace
        && let Some(path) = trees.path(Side::Remote, *parent)
    {
        *parent_path = path.as_str().to_owned();
        *parent_id = trees.facet(Side::Remote, *parent).map(|facet| facet.item.clone());
    }
    trace
}
