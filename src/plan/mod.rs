//! The planner: base, local and remote in, operations that can run now out.
//!
//! Pure: the same trees and constraints give the same plan. Looks only at nodes that diverge, and at
//! what those touch. Knows nothing about providers (but for the name rules it is handed), retries
//! or time.

mod brake;
pub mod conflict_name;
mod diff;
mod kept;
mod merge;
mod names;
pub mod op;
mod peer;
mod repair;
mod target;
mod why;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::tree::names::NameRules;
use crate::tree::{NodeId, Side, Trees};

pub use op::{Action, Bind, Brake, BrakeReason, Hold, HoldReason, Op, Plan, Wait, Why};

/// Which way changes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    TwoWay,
    /// The remote is made equal to local, extra items are deleted.
    MirrorUp,
    MirrorDown,
    /// Like a mirror, but nothing is ever deleted at the destination.
    BackupUp,
    BackupDown,
}

impl Mode {
    /// As it is configured and recorded.
    pub fn word(self) -> &'static str {
        match self {
            Mode::TwoWay => "two-way",
            Mode::MirrorUp => "mirror-up",
            Mode::MirrorDown => "mirror-down",
            Mode::BackupUp => "backup-up",
            Mode::BackupDown => "backup-down",
        }
    }

    /// The side whose state counts in a one-way mode.
    pub fn source(self) -> Option<Side> {
        match self {
            Mode::TwoWay => None,
            Mode::MirrorUp | Mode::BackupUp => Some(Side::Local),
            Mode::MirrorDown | Mode::BackupDown => Some(Side::Remote),
        }
    }

    /// The same direction, deleting nothing at the destination.
    pub fn without_deletions(self) -> Mode {
        match self {
            Mode::TwoWay => Mode::TwoWay,
            Mode::MirrorUp | Mode::BackupUp => Mode::BackupUp,
            Mode::MirrorDown | Mode::BackupDown => Mode::BackupDown,
        }
    }

    pub fn deletes(self) -> bool {
        !matches!(self, Mode::BackupUp | Mode::BackupDown)
    }
}

/// Who wins when both sides edited one file. The loser of every rule but `KeepBoth` goes to the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictPolicy {
    KeepBoth,
    Newer,
    Older,
    Larger,
    Local,
    Remote,
}

/// How many files on one side may be affected without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrakeLimit {
    /// Percent of the files in base; applies from 10 files up. `None`: no share.
    pub share_percent: Option<u32>,
    /// `None`: no number.
    pub count: Option<u64>,
}

impl BrakeLimit {
    pub const NONE: BrakeLimit = BrakeLimit { share_percent: None, count: None };
}

/// The guards against what looks like an accident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrakeLimits {
    /// `max_delete`.
    pub deletes: BrakeLimit,
    /// `max_change`: files whose content is replaced.
    pub changes: BrakeLimit,
    /// `--force`: the guards are lifted for this run.
    pub lifted: bool,
}

/// What already happened to the files of one side, and no person approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Deleted in the last day.
    pub deletes: u64,
    /// Replaced in the last hour.
    pub changes: u64,
}

/// What the planner must respect beside the trees.
#[derive(Clone, Copy)]
pub struct Constraints<'a> {
    /// Takes part in the merge (it occupies names) but gets no operation: an open intent, an
    /// unconfirmed absence, an unreadable folder above, a failure waiting for its next try.
    pub busy: &'a HashSet<NodeId>,
    /// Deletions and replacements that a person approved.
    pub approved: &'a HashSet<NodeId>,
    /// Files of which a person chose that side's content.
    pub chosen: &'a HashMap<NodeId, Side>,
    pub local_names: &'a NameRules,
    pub remote_names: &'a NameRules,
    pub mode: Mode,
    pub conflict: ConflictPolicy,
    /// The remote is the local root of another pair, which decides about the same conflicts from its
    /// end.
    pub peer: bool,
    pub brake: &'a BrakeLimits,
    /// By side: what comes bit by bit is a mass, too.
    pub recent: [Recent; 2],
    /// What conflict copies are marked with: `YYYYMMDD-HHMMSS-HOST`.
    pub conflict_mark: &'a str,
}

impl Constraints<'_> {
    /// Whether conflicts must be decided as the other end decides them.
    fn faces_a_peer(&self) -> bool {
        self.peer && self.mode == Mode::TwoWay
    }
}

/// What can be done now. `Trees::settle` must have been called for every node that changed.
///
/// Costs as much as there are nodes that diverge, however large the trees are.
pub fn plan(trees: &Trees, constraints: &Constraints<'_>) -> Plan {
    plan_of(trees, constraints, trees.divergent().iter().copied())
}

/// The same plan, found by looking at every node: what `plan` is tested against.
pub fn plan_all(trees: &Trees, constraints: &Constraints<'_>) -> Plan {
    plan_of(trees, constraints, trees.ids())
}

/// What keeps the nodes that wait from going on, where no operation of the plan does away with it. For
/// a plan without binds.
pub fn waits(trees: &Trees, constraints: &Constraints<'_>) -> Vec<Wait> {
    let mut target = merge::merge(trees, constraints, trees.divergent().iter().copied());
    repair::repair(&mut target);
    let (_, _, held) = held(&target);
    diff::Diff::new(&target, &held).waits()
}

fn plan_of(
    trees: &Trees,
    constraints: &Constraints<'_>,
    subjects: impl Iterator<Item = NodeId>,
) -> Plan {
    let mut target = merge::merge(trees, constraints, subjects);
    let binds = repair::repair(&mut target);
    if !binds.is_empty() {
        return Plan { binds, ..Plan::default() };
    }
    kept::recognise(&mut target);
    let (holds, brakes, held) = held(&target);
    let (ops, waiting) = diff::Diff::new(&target, &held).run();
    Plan { binds, ops, waiting, holds, brakes }
}

/// What gets no operation whatever stands in its way, and why.
fn held(target: &target::Target<'_>) -> (Vec<Hold>, Vec<Brake>, HashSet<NodeId>) {
    let holds = names::holds(target, &mut names::Occupants::new(target));
    let brakes = brake::brakes(target);
    let nodes = holds
        .iter()
        .map(|hold| hold.node)
        .chain(brakes.iter().flat_map(|brake| brake.nodes.iter().copied()))
        .collect();
    (holds, brakes, nodes)
}

#[cfg(test)]
mod tests;
