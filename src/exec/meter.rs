//! How far the transfers of a pair have come, and what it all amounts to.
//!
//! Written by the executor, read by whoever shows it, and outlives engines. Nothing is decided by it,
//! and nobody waits for it: one short lock, no disk, no network.

mod pace;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::engine::{LARGE_BYTES, Pending};
use crate::tree::{RelPath, Side};
use pace::{Effort, Rate};

/// So few small operations are not worth waiting for a forecast of them.
const FEW: f64 = 16.0;
/// A forecast that is further away than ten years says nothing.
const FORECAST_S_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// What content moves for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The other side gets it: part of the pending work.
    Transfer,
    /// Only its hash is wanted.
    Read,
}

/// Content that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub path: RelPath,
    /// The side that gets the bytes.
    pub to: Side,
    pub purpose: Purpose,
    /// Bytes that are there or on their way; what has to be sent again is not among them.
    pub done: u64,
    /// Bytes.
    pub total: u64,
    /// Bytes that an earlier process had sent.
    earlier: u64,
}

impl Running {
    fn is_large(&self) -> bool {
        self.total >= LARGE_BYTES
    }
}

/// What is known to be left to do, by the engine's last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Content bytes.
    pub bytes: u64,
    /// Those of them in files of at least `LARGE_BYTES`.
    pub large_bytes: u64,
    /// Operations that move less than that, or nothing.
    pub small: u64,
}

impl From<Pending> for Left {
    fn from(pending: Pending) -> Left {
        let Pending { bytes, large_bytes, small, .. } = pending;
        Left { bytes, large_bytes, small }
    }
}

impl Left {
    fn without(self, running: &Running, bytes: u64) -> Left {
        if running.purpose == Purpose::Read {
            return self;
        }
        let large = if running.is_large() { bytes } else { 0 };
        Left {
            bytes: self.bytes.saturating_sub(bytes),
            large_bytes: self.large_bytes.saturating_sub(large),
            ..self
        }
    }

    /// Seconds until nothing is left, by bytes of large files and small operations per second. `None`
    /// if that is not known, and if nothing is left.
    fn seconds(self, bytes_per_s: Option<f64>, small_per_s: Option<f64>) -> Option<u64> {
        let part = |left: u64, per_s: Option<f64>| match (left, per_s) {
            (0, _) => Some(0.0),
            (left, per_s) => Some(left as f64 / per_s?),
        };
        let bytes = part(self.large_bytes, bytes_per_s)?;
        let small = match part(self.small, small_per_s) {
            Some(seconds) => seconds,
            // They can hardly matter.
            None if bytes > 0.0 && self.small as f64 <= FEW + bytes / 5.0 => 0.0,
            None => return None,
        };
        let seconds = (bytes + small).ceil();
        let is_said = self != Left::default() && seconds <= FORECAST_S_MAX;
        is_said.then_some(seconds as u64)
    }
}

/// Bytes since the meter was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Over the wire, whatever became of it.
    pub sent: u64,
    pub received: u64,
    /// In files that needed no byte to be sent, and how many those were.
    pub instant: u64,
    pub instant_files: u64,
    /// Read only to know a hash.
    pub hashed: u64,
}

/// What the meter shows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// In the order in which they began.
    pub running: Vec<Running>,
    pub moved: Moved,
    /// Bytes per second over the wire, smoothed over some seconds.
    pub up_bps: u64,
    pub down_bps: u64,
    /// Content that has arrived or is on its way since the pair last came to rest, in bytes.
    pub done: u64,
    /// What is left of the pending content, in bytes.
    pub left: u64,
    /// Seconds; `None` if nothing honest can be said.
    pub eta_s: Option<u64>,
}

impl Reading {
    /// Whether a reading a moment later will be another one.
    pub fn is_lively(&self) -> bool {
        !self.running.is_empty() || self.up_bps > 0 || self.down_bps > 0
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Running>,
    moved: Moved,
    up: Rate,
    down: Rate,
    /// Bytes of large files.
    bytes: Effort,
    small: Effort,
    left: Left,
    /// Content that arrived since the pair last came to rest.
    arrived: u64,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct Meter {
    state: Mutex<State>,
    stirred: Notify,
}

impl Meter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content of `total` bytes begins to move.
    pub(super) fn begin(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        path: RelPath,
        to: Side,
        purpose: Purpose,
        total: u64,
    ) -> Moving {
        let running = Running { path, to, purpose, done: 0, total, earlier: 0 };
        let mut state = self.state();
        state.effort(&running).begin(clock.now());
        let id = state.next;
        state.next += 1;
        state.running.insert(id, running);
        drop(state);
        self.stirred.notify_one();
        Moving(Wire { meter: Arc::clone(self), clock: Arc::clone(clock), id })
    }

    /// Counts an operation that moves no content.
    pub(super) async fn count<T, E>(
        &self,
        clock: &dyn Clock,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.state().small.begin(clock.now());
        let ended = Ended { meter: self, clock };
        let result = operation.await;
        if result.is_ok() {
            let mut state = self.state();
            state.small.add(1);
            state.left.small = state.left.small.saturating_sub(1);
        }
        drop(ended);
        result
    }

    pub(super) fn hashed(&self, bytes: u64) {
        self.state().moved.hashed += bytes;
    }

    /// What the engine says is left now.
    pub fn expect(&self, left: Left) {
        self.state().left = left;
    }

    /// The pair has come to rest: what is done from now on counts from zero.
    pub fn rest(&self) {
        let mut state = self.state();
        (state.arrived, state.left) = (0, Left::default());
    }

    pub fn read(&self, now: Timestamp) -> Reading {
        let mut state = self.state();
        state.bytes.advance(now);
        state.small.advance(now);
        let transfers = || state.running.values().filter(|r| r.purpose == Purpose::Transfer);
        let left =
            transfers().fold(state.left, |left, running| left.without(running, running.done));
        let on_the_way: u64 = transfers().map(|running| running.done).sum();
        Reading {
            running: state.running.values().cloned().collect(),
            moved: state.moved,
            up_bps: state.up.per_second(now),
            down_bps: state.down.per_second(now),
            done: state.arrived + on_the_way,
            left: left.bytes,
            eta_s: left.seconds(state.bytes.per_second(), state.small.per_second()),
        }
    }

    /// Returns when something has begun to move since the last call. For one caller.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }
}

/// The end of an operation that moves no content, also where its caller went away.
struct Ended<'a> {
    meter: &'a Meter,
    clock: &'a dyn Clock,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.meter.state().small.end(self.clock.now());
    }
}

impl State {
    fn effort(&mut self, running: &Running) -> &mut Effort {
        if running.is_large() { &mut self.bytes } else { &mut self.small }
    }
}

/// Counts the bytes of a transfer as they pass.
#[derive(Clone)]
pub(super) struct Wire {
    meter: Arc<Meter>,
    clock: Arc<dyn Clock>,
    id: u64,
}

impl Wire {
    /// So many bytes went over the wire.
    pub(super) fn pass(&self, bytes: usize) {
        let (now, bytes) = (self.clock.now(), bytes as u64);
        let mut state = self.meter.state();
        let state = &mut *state;
        let Some(running) = state.running.get_mut(&self.id) else { return };
        let step = bytes.min(running.total.saturating_sub(running.done));
        running.done += step;
        if running.is_large() {
            state.bytes.advance(now);
            state.bytes.add(signed(step));
        }
        match running.to {
            Side::Remote => {
                state.moved.sent += bytes;
                state.up.add(now, bytes);
            }
            Side::Local => {
                state.moved.received += bytes;
                state.down.add(now, bytes);
            }
        }
    }
}

/// A transfer. What it moved was no progress if it is dropped before it `arrived`.
pub(super) struct Moving(Wire);

impl Moving {
    pub(super) fn wire(&self) -> Wire {
        self.0.clone()
    }

    /// So many bytes are there already, from an earlier try.
    pub(super) fn goes_on_at(&self, done: u64) {
        if let Some(running) = self.0.meter.state().running.get_mut(&self.0.id) {
            (running.done, running.earlier) = (done.min(running.total), done.min(running.total));
        }
    }

    /// All of it is where it should be.
    pub(super) fn arrived(self) {
        let now = self.0.clock.now();
        let mut state = self.0.meter.state();
        let Some(running) = state.running.remove(&self.0.id) else { return };
        if !running.is_large() {
            state.small.advance(now);
            state.small.add(1);
        }
        if running.purpose == Purpose::Transfer {
            state.arrived += running.total;
            state.left = state.left.without(&running, running.total);
            state.left.small = state.left.small.saturating_sub(u64::from(!running.is_large()));
        }
        state.effort(&running).end(now);
    }

    /// The other side had the content already.
    pub(super) fn was_instant(self) {
        {
            let mut state = self.0.meter.state();
            let total = state.running.get(&self.0.id).map_or(0, |running| running.total);
            state.moved.instant += total;
            state.moved.instant_files += 1;
        }
        self.arrived();
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        let mut state = self.0.meter.state();
        let Some(running) = state.running.remove(&self.0.id) else { return };
        let effort = state.effort(&running);
        effort.end(now);
        if running.is_large() {
            effort.add(-signed(running.done.saturating_sub(running.earlier)));
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
