//! A brake on ourselves: what was done again and again in one run, and did not last, is put aside.
//!
//! Owns the count of equal operations by place and content. Who undoes them (a disk that takes two
//! names for one, a program, another device) is not known here; a person is told.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::dispatch::op_place;
use super::job::FailureKind;
use super::{Engine, Flight};
use crate::plan::{Action, Op};
use crate::tree::{RelPath, Side};

/// So often one thing may be done in one run.
const REPEATS_MAX: u32 = 8;

/// What was done in this run, and what is not done again in it.
#[derive(Default)]
pub(super) struct Repeats {
    counts: HashMap<u64, u32>,
    put_aside: HashSet<(Side, RelPath)>,
}

impl Repeats {
    pub(super) fn clear(&mut self) {
        *self = Repeats::default();
    }
}

impl Engine {
    /// Counts an operation that worked. The same content at the same place is no progress.
    pub(super) fn note_repeat(&mut self, flight: &Flight) {
        let op = &flight.op;
        let path = flight.job.task_path();
        let content = match &op.action {
            Action::Transfer { content, .. } => Some(*content),
            Action::Learn => return,
            Action::Mkdir { .. }
            | Action::Move { .. }
            | Action::Park
            | Action::Delete
            | Action::KeepBoth { .. } => None,
        };
        let mut hasher = DefaultHasher::new();
        (self.op_kind(op).as_str(), op.side, &path, flight.job.target_path(), content)
            .hash(&mut hasher);
        let count = self.repeats.counts.entry(hasher.finish()).or_default();
        *count += 1;
        if *count > REPEATS_MAX {
            self.repeats.put_aside.insert((op.side, path));
        }
    }

    /// Whether this was done too often in this run; it is said then, and left for the next run.
    pub(super) fn is_put_aside(&mut self, op: &Op) -> bool {
        if self.repeats.put_aside.is_empty() {
            return false;
        }
        let place = op_place(op).map(|at| self.place_path(op.side, at));
        let mut paths = place.into_iter().chain(self.trees.path(op.side, op.node));
        let is_put_aside = paths.any(|path| self.repeats.put_aside.contains(&(op.side, path)));
        if is_put_aside {
            let message = format!(
                "done {REPEATS_MAX} times in this run and each time undone: something else changes \
                 it, or the {} side cannot hold it; tried again at the next sync",
                op.side
            );
            self.shut_out(op, FailureKind::Refused, message);
        }
        is_put_aside
    }
}
