//! What a run tells: each operation as it ends, and the state in which it leaves the pair.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::job::FailureKind;
use super::retry::Trouble;
use super::{Engine, Fatal, GUARDS_LIFTED_AT, MODE, Problem};
use crate::local::SkipReason;
use crate::plan::{Action, HoldReason, Op, Why};
use crate::store::{ConflictFate, FailureRow, HeldRow, HeldState, NewHeld};
use crate::tree::{Kind, NodeId, RelPath, Side};

/// The kind of an operation, in the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    Mkdir,
    Upload,
    Download,
    Move,
    /// A name is lent to somebody else for a moment.
    Park,
    Delete,
    /// An empty folder is removed.
    Rmdir,
    /// Our version is set aside as a conflict copy.
    Conflict,
    /// A file is read only to know its hash.
    Read,
}

impl OpKind {
    fn of(op: &Op, kind: Kind) -> OpKind {
        match (&op.action, op.side) {
            (Action::Delete, _) if kind == Kind::Dir => OpKind::Rmdir,
            (Action::Mkdir { .. }, _) => OpKind::Mkdir,
            (Action::Transfer { .. }, Side::Remote) => OpKind::Upload,
            (Action::Transfer { .. }, Side::Local) => OpKind::Download,
            (Action::Move { .. }, _) => OpKind::Move,
            (Action::Park, _) => OpKind::Park,
            (Action::Delete, _) => OpKind::Delete,
            (Action::KeepBoth { .. }, _) => OpKind::Conflict,
            (Action::Learn, _) => OpKind::Read,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            OpKind::Mkdir => "mkdir",
            OpKind::Upload => "upload",
            OpKind::Download => "download",
            OpKind::Move => "move",
            OpKind::Park => "park",
            OpKind::Delete => "delete",
            OpKind::Rmdir => "rmdir",
            OpKind::Conflict => "conflict",
            OpKind::Read => "read",
        }
    }

    /// Whether people are told of it: the others are means to an end.
    pub fn is_visible(self) -> bool {
        !matches!(self, OpKind::Park | OpKind::Read)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpResult {
    Done,
    /// The remote already had the content: no byte was sent.
    Instant,
    /// The content was compared and found equal: nothing was written.
    Same,
    Failed,
}

/// One operation that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpReport {
    pub op: OpKind,
    /// The side on which it happened.
    pub side: Side,
    pub path: String,
    pub to: Option<String>,
    /// Content bytes that were moved.
    pub bytes: u64,
    /// Files that came along with a folder.
    pub files_below: u64,
    pub result: OpResult,
    pub why: Why,
    pub error: Option<String>,
}

impl OpReport {
    pub fn new(op: OpKind, side: Side, path: String, why: Why) -> OpReport {
        OpReport {
            op,
            side,
            path,
            to: None,
            bytes: 0,
            files_below: 0,
            result: OpResult::Done,
            why,
            error: None,
        }
    }
}

/// Why a run ended before everything was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    MaxTransfer,
    MaxDuration,
    Interrupted,
}

/// Counts of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub uploaded: u64,
    pub downloaded: u64,
    pub moved: u64,
    pub deleted: u64,
    pub instant: u64,
    /// Conflicts met in this run.
    pub conflicts: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

impl Totals {
    /// Operations that people are told of.
    pub fn operations(&self) -> u64 {
        self.uploaded + self.downloaded + self.moved + self.deleted
    }

    pub(super) fn add(&mut self, report: &OpReport) {
        if matches!(report.result, OpResult::Failed) {
            return;
        }
        match report.op {
            OpKind::Upload => {
                self.uploaded += 1;
                self.bytes_up += report.bytes;
                self.instant += u64::from(report.result == OpResult::Instant);
            }
            OpKind::Download => {
                self.downloaded += u64::from(report.result == OpResult::Done);
                self.bytes_down += report.bytes;
            }
            OpKind::Move => self.moved += 1,
            OpKind::Delete => self.deleted += 1,
            OpKind::Read => self.bytes_down += report.bytes,
            OpKind::Mkdir | OpKind::Rmdir | OpKind::Park | OpKind::Conflict => {}
        }
    }
}

/// Something that is left alone, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedItem {
    pub path: String,
    pub reason: String,
}

/// How a run left the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub uploaded: u64,
    pub downloaded: u64,
    pub moved: u64,
    pub deleted: u64,
    /// Open conflicts, from this run and earlier ones.
    pub conflicts: u64,
    /// Items that cannot be synced as they are.
    pub skipped: Vec<SkippedItem>,
    /// Links and other items that are left out on purpose.
    pub left_out: u64,
    /// Those of them of which a person is told: they are not what the rules of the pair name.
    #[serde(default)]
    pub notes: Vec<SkippedItem>,
    pub failed: u64,
    /// Deletions that wait for a person.
    pub held: u64,
    pub instant: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub stop: Option<Stop>,
    /// Files and bytes on which both sides agree.
    pub files: u64,
    pub bytes: u64,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::New(side) => write!(f, "new on the {side} side"),
            Why::Edited(side) => write!(f, "edited on the {side} side"),
            Why::Moved(side) => write!(f, "renamed on the {side} side"),
            Why::Deleted(side) => write!(f, "deleted on the {side} side"),
            Why::BothEdited => f.write_str("edited on both sides"),
            Why::BothMoved => f.write_str("renamed on both sides, one name is kept"),
            Why::KeptChange { deleted_on } => {
                write!(f, "deleted on the {deleted_on} side, but changed on the other: kept")
            }
            Why::NeededByContent => f.write_str("needed by what is kept in it"),
            Why::NameTaken => f.write_str("something else has the name"),
            Why::HasCopy => f.write_str("a conflict copy has the same content"),
            Why::Chosen => f.write_str("the other version was rejected"),
            Why::Mirrored => f.write_str("made like the source again"),
            Why::Compare => f.write_str("to compare the two sides"),
        }
    }
}

impl Engine {
    /// Operations that ended since the last call.
    pub fn take_reports(&mut self) -> Vec<OpReport> {
        std::mem::take(&mut self.reports)
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn op_kind(&self, op: &Op) -> OpKind {
        OpKind::of(op, self.trees.kind(op.node))
    }

    pub(super) fn place_path(&self, side: Side, at: &crate::tree::Placement) -> RelPath {
        self.trees.path(side, at.parent).unwrap_or_default().join(&at.name)
    }

    /// Files that come along when a folder moves.
    pub(super) fn count_files_below(&self, side: Side, dir: NodeId) -> u64 {
        let mut left = vec![dir];
        let mut files = 0;
        while let Some(dir) = left.pop() {
            for (_, child) in self.trees.children(side, dir) {
                match self.trees.kind(child) {
                    Kind::Dir => left.push(child),
                    Kind::File => files += 1,
                }
            }
        }
        files
    }

    /// Ends a run: records what people are to look at, and sums up.
    pub fn conclude(&mut self) -> Result<Summary, Fatal> {
        self.forget_parts();
        self.save()?;
        let failures = self.failures();
        let held = self.held_rows();
        let resolved = self.resolved_conflicts()?;
        let decided = self.store.held(&[HeldState::Approved, HeldState::Rejected])?.into_iter();
        let done: Vec<i64> = decided.filter(|row| self.is_done_with(row)).map(|r| r.id).collect();
        let (now, mode) = (self.now, self.settings.mode);
        let mode_settled = self.settings.mode_changed
            && failures.is_empty()
            && self.stop.is_none()
            && self.looked == [true, true];
        let allowed = self.settings.brake.lifted || !done.is_empty();
        self.store.write(|tx| {
            if allowed {
                tx.set_meta(GUARDS_LIFTED_AT, &(now.seconds() + 1).to_string())?;
            }
            tx.set_failures(&failures)?;
            tx.set_pending(&held, now)?;
            done.iter().try_for_each(|id| tx.set_held_state(*id, HeldState::Done))?;
            resolved.iter().try_for_each(|id| tx.resolve_conflict(*id, now))?;
            if mode_settled {
                tx.set_meta(MODE, mode.word())?;
            }
            tx.trim_history()
        })?;
        self.settings.mode_changed &= !mode_settled;
        let (files, bytes) = self.store.totals()?;
        let (skipped, left_out) = self.skipped();
        let conflicts = self.store.conflicts(ConflictFate::Open)?.len() as u64;
        let totals = self.totals;
        Ok(Summary {
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
            moved: totals.moved,
            deleted: totals.deleted,
            conflicts,
            skipped,
            left_out,
            notes: self.notes(),
            failed: failures.len() as u64,
            held: held.iter().map(|held| held.files.max(1)).sum(),
            instant: totals.instant,
            bytes_up: totals.bytes_up,
            bytes_down: totals.bytes_down,
            stop: self.stop,
            files,
            bytes,
        })
    }

    /// Whether a decision needs no further cycle. What was decided while this one was under way waits
    /// for the next, and a choice of versions until they are equal.
    fn is_done_with(&self, row: &HeldRow) -> bool {
        let was_known = row.nodes.iter().all(|node| self.approved.contains(node));
        let is_open = |node: &NodeId| self.trees.divergent().contains(node);
        was_known && (row.state == HeldState::Approved || !row.nodes.iter().any(is_open))
    }

    pub(super) fn failures(&self) -> Vec<FailureRow> {
        let mut rows: Vec<FailureRow> = self
            .troubles
            .iter()
            .filter(|(_, trouble)| trouble.failure.kind != FailureKind::NotEmpty)
            .map(|(node, trouble)| FailureRow {
                path: self.trees.display_path(*node).to_string(),
                kind: trouble.op.to_owned(),
                message: trouble.told(),
                attempts: trouble.attempts,
                retry_at: trouble.retry_at,
            })
            .collect();
        for ((side, node), problem) in &self.blind {
            if let Problem::Unlisted(message) = problem {
                rows.push(FailureRow {
                    path: self.trees.path(*side, *node).unwrap_or_default().to_string(),
                    kind: "list".to_owned(),
                    message: format!("{side}: {message}"),
                    attempts: 1,
                    retry_at: None,
                });
            }
        }
        rows
    }

    fn held_rows(&self) -> Vec<NewHeld> {
        let rows = self.last_plan.brakes.iter().map(|brake| NewHeld {
            kind: brake.reason.word().to_owned(),
            side: brake.side.to_string(),
            files: brake.files,
            nodes: brake.nodes.iter().copied().collect(),
            paths: brake.nodes.iter().map(|n| self.trees.display_path(*n).to_string()).collect(),
        });
        rows.collect()
    }

    /// A conflict is over when its copy is gone or has another name.
    fn resolved_conflicts(&self) -> Result<Vec<i64>, Fatal> {
        let open = self.store.conflicts(ConflictFate::Open)?;
        let is_over = |copy: &str| RelPath::new(copy).is_ok_and(|path| self.is_copy_gone(&path));
        let complete = self.looked == [true, true];
        let over = open.into_iter().filter(|c| complete && is_over(&c.copy_path)).map(|c| c.id);
        Ok(over.collect())
    }

    /// Items that are left out by a rule of which nobody may think.
    fn notes(&self) -> Vec<SkippedItem> {
        let control = |(reason, _): &&(SkipReason, String)| *reason == SkipReason::ControlFolder;
        let mut notes: Vec<SkippedItem> = self
            .blocked
            .values()
            .filter(control)
            .map(|(reason, path)| SkippedItem {
                path: path.clone(),
                reason: reason.word().to_owned(),
            })
            .collect();
        notes.sort_by(|a, b| a.path.cmp(&b.path));
        notes.dedup();
        notes
    }

    /// Items that cannot be synced, and the number of those that are left out on purpose.
    fn skipped(&self) -> (Vec<SkippedItem>, u64) {
        let mut items = Vec::new();
        let mut left_out = 0;
        for ((side, dir, _), (reason, path)) in &self.blocked {
            if !self.trees.has(*side, *dir) {
                // It went with its folder.
                continue;
            }
            if reason.is_by_rule() {
                left_out += u64::from(*reason != SkipReason::Ignored);
            } else {
                let reason = reason.word().to_owned();
                items.push(SkippedItem { path: path.clone(), reason });
            }
        }
        let kept = |trouble: &&Trouble| trouble.failure.kind == FailureKind::NotEmpty;
        left_out += self.troubles.values().filter(kept).count() as u64;
        for ((_, node), problem) in &self.blind {
            if let Problem::Masked(_) = problem {
                let path = self.trees.display_path(*node).to_string();
                items.push(SkippedItem { path, reason: Engine::blind_reason(problem) });
            }
        }
        for op in &self.blocked_ops {
            let Some(at) = super::dispatch::op_place(op) else { continue };
            let path = self.place_path(op.side, at).to_string();
            let reason = "something that is not synced has this name on the other side".to_owned();
            items.push(SkippedItem { path, reason });
        }
        for hold in &self.last_plan.holds {
            let path = self.trees.display_path(hold.node).to_string();
            let reason = match &hold.reason {
                HoldReason::Name(problem) => problem.to_string(),
                HoldReason::Collides { with } => {
                    let with = self.trees.display_path(*with);
                    format!("on the {} side it has the same name as {with}", hold.side)
                }
            };
            items.push(SkippedItem { path, reason });
        }
        items.extend(self.waiting_items());
        items.sort_by(|a, b| a.path.cmp(&b.path));
        items.dedup_by(|a, b| a.path == b.path);
        (items, left_out)
    }
}
