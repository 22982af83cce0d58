//! Folds the outcome of an operation into the trees: what is *now* there, never what was intended.

use super::job::{OpId, Outcome};
use super::report::{OpKind, OpReport, OpResult};
use super::{Engine, Failure, Fatal, Flight};
use crate::clock::Timestamp;
use crate::plan::conflict_name::is_copy;
use crate::plan::{Action, Why};
use crate::store::{LOCAL_KEEPS_NAME, NewHistory};
use crate::tree::{Content, Digest, Entry, Facet, ItemId, Name, NodeId, Placement, RelPath, Side};

/// The rule by which a version of that side was set aside, as it is recorded.
pub(super) fn both_edited(loser: Side) -> &'static str {
    match loser {
        Side::Local => "edited on both sides",
        Side::Remote => LOCAL_KEEPS_NAME,
    }
}

impl Engine {
    pub(super) fn take_outcome(
        &mut self,
        op: OpId,
        result: Result<Outcome, Failure>,
    ) -> Result<(), Fatal> {
        let unfinished = match &result {
            Ok(outcome) => matches!(outcome, Outcome::Uploaded { entry: None, .. }),
            Err(failure) => failure.unfinished,
        };
        let Some(flight) = self.land(op, unfinished) else { return Ok(()) };
        match result {
            Ok(outcome) => {
                self.troubles.remove(&flight.op.node);
                self.end_session(&outcome, flight.op.node);
                self.note_part(&flight, None);
                let report = self.report(&flight, &outcome);
                self.note_repeat(&flight);
                self.witness(&flight, outcome);
                self.publish(&flight, report);
                Ok(())
            }
            Err(failure) => self.take_failure(&flight, failure),
        }
    }

    fn end_session(&mut self, outcome: &Outcome, node: NodeId) {
        if matches!(outcome, Outcome::Uploaded { .. }) {
            self.arriving.remove(&node);
            self.drop_session(node);
        }
    }

    pub(super) fn drop_session(&mut self, node: NodeId) {
        if self.sessions.remove(&node).is_some() {
            self.unsaved.sessions.insert(node, None);
        }
    }

    fn witness(&mut self, flight: &Flight, outcome: Outcome) {
        let (node, side) = (flight.op.node, flight.op.side);
        match (&flight.op.action, outcome) {
            (Action::Mkdir { at }, Outcome::Placed(entry)) => {
                if let Some(sweep) = self.sweep.as_mut().filter(|_| side == Side::Remote) {
                    sweep.made(node, self.now);
                }
                self.adopt(side, node, at, Content::Dir, entry);
            }
            (Action::Move { to }, Outcome::Placed(entry)) => {
                if let Some(content) = self.content_of(side, node) {
                    let is_copy = content == Content::Dir && self.is_other_item(side, node, &entry);
                    self.adopt(side, node, to, content, entry);
                    if is_copy {
                        self.look_at(side, node);
                    }
                }
                if side == Side::Local && is_copy(&to.name) {
                    // A rule may ignore it now: its folder tells before it is sent.
                    self.doubt(node, vec![(side, to.parent)]);
                }
            }
            (Action::Park, Outcome::Placed(entry)) => self.park(side, node, entry),
            (Action::KeepBoth { copy }, Outcome::Placed(entry)) => {
                self.set_aside(side, node, copy, entry);
            }
            (Action::Transfer { at, content }, Outcome::Uploaded { entry, at: put_at, .. }) => {
                match entry {
                    Some(entry) => {
                        self.note_overwritable(side, node, &entry.rev, put_at);
                        self.adopt(side, node, at, *content, entry);
                    }
                    None => {
                        self.unseen.insert(node, flight.job.op);
                        self.await_arrival(flight);
                        self.doubt(node, vec![(side, at.parent)]);
                    }
                }
            }
            (
                Action::Transfer { at, .. },
                Outcome::Downloaded { entry, digest, kept, at: read_at, .. },
            ) => {
                let path = flight.job.task_path();
                self.note_racy(Side::Local, node, &entry.rev, read_at);
                self.adopt(side, node, at, Content::Is(digest), entry);
                self.learn_remote(node, digest, read_at);
                if let Some(kept) = kept {
                    self.record_conflict(&path, &kept, "edited while it was replaced");
                    self.look_at(Side::Local, at.parent);
                }
            }
            (Action::Transfer { .. }, Outcome::Same { digest, at: read_at, .. }) => {
                self.learn_remote(node, digest, read_at);
            }
            // A folder was empty: what a listing has shown in it was gone before.
            (Action::Delete, Outcome::Deleted | Outcome::RestAside(_)) => {
                self.trees.lose(side, node);
            }
            (Action::Learn, Outcome::Learned { digest, at }) => {
                if let Some(rev) = self.trees.facet(side, node).map(|facet| facet.rev.clone()) {
                    self.note_racy(side, node, &rev, at);
                }
                self.learn(side, node, digest);
            }
            (action, outcome) => {
                // The executor answers each task with its own outcome.
                debug_assert!(false, "{action:?} ended as {outcome:?}");
            }
        }
        self.trees.settle(node);
    }

    /// A disk that refuses to rename a folder has its items moved one by one: all of them are others.
    fn is_other_item(&self, side: Side, node: NodeId, entry: &Entry) -> bool {
        let is_on_disk = match entry.item {
            ItemId::Inode { .. } => true,
            ItemId::Key(_) | ItemId::Unproven => false,
        };
        is_on_disk && self.trees.facet(side, node).is_some_and(|facet| facet.item != entry.item)
    }

    fn content_of(&self, side: Side, node: NodeId) -> Option<Content> {
        self.trees.facet(side, node).map(|facet| *facet.content())
    }

    /// Records what a side now has. If the place is already known to be somebody else's, the side
    /// changed under us: look again.
    fn adopt(&mut self, side: Side, node: NodeId, at: &Placement, content: Content, entry: Entry) {
        // A service may have given it another name than the one that was asked for. (NM-09)
        let at = &Placement { parent: at.parent, name: entry.name };
        let taken = self.trees.occupant(side, at).is_some_and(|other| other != node);
        // Or the item is known as something else, which somebody has moved to the place.
        let known = self.trees.by_item(side, &entry.item).filter(|other| *other != node);
        let left = known.and_then(|other| Some(self.trees.facet(side, other)?.at().parent));
        if let Some(left) = left {
            self.doubt(node, vec![(side, at.parent), (side, left)]);
            return;
        }
        if taken || !self.trees.has(side, at.parent) {
            self.look_at(side, at.parent);
            return;
        }
        let facet = Facet::new(at.clone(), content, entry.item, entry.rev);
        self.trees.set_facet(side, node, Some(facet));
    }

    fn park(&mut self, side: Side, node: NodeId, entry: Entry) {
        let Some(mut facet) = self.trees.facet(side, node).cloned() else { return };
        facet.item = entry.item;
        facet.rev = entry.rev;
        facet.parked = Some(entry.name);
        self.trees.set_facet(side, node, Some(facet));
    }

    /// That side's version has its own name and becomes a node of its own; the old node is now deleted
    /// on that side and edited on the other, which needs no further rule.
    fn set_aside(&mut self, side: Side, node: NodeId, copy: &Name, entry: Entry) {
        let Some(facet) = self.trees.facet(side, node).cloned() else { return };
        let path = self.trees.path(side, node).unwrap_or_default();
        self.trees.set_facet(side, node, None);
        // Nobody deleted it: it is to come back as the other side's file, not as something kept.
        self.trees.set_base(node, None);
        let at = Placement { parent: facet.at().parent, name: copy.clone() };
        let copy_path = path.parent().unwrap_or_default().join(copy);
        if side == Side::Remote || !self.is_ignored_copy(at.parent, &copy_path) {
            let copy_node = self.trees.create(crate::tree::Kind::File);
            self.adopt(side, copy_node, &at, *facet.content(), entry);
        }
        self.record_conflict(&path, &copy_path, both_edited(side));
    }

    fn learn(&mut self, side: Side, node: NodeId, digest: Digest) {
        let Some(facet) = self.trees.facet(side, node) else { return };
        if !facet.content().is_unread() {
            return;
        }
        let parked = facet.parked.clone();
        let mut read = facet.clone().with_register(facet.at().clone(), Content::Is(digest));
        read.parked = parked;
        self.trees.set_facet(side, node, Some(read));
        self.trees.settle(node);
    }

    /// What a download read. (FK-18)
    fn learn_remote(&mut self, node: NodeId, digest: Digest, read_at: Timestamp) {
        if let Some(facet) = self.trees.facet(Side::Remote, node) {
            let rev = facet.rev.clone();
            self.note_racy(Side::Remote, node, &rev, read_at);
        }
        self.learn(Side::Remote, node, digest);
    }

    /// Asks for another look at a folder.
    pub(super) fn look_at(&mut self, side: Side, dir: NodeId) {
        self.dirty[side as usize].insert(dir);
    }

    /// Asks for a look at these folders, and for nothing to be done with the node before.
    pub(super) fn doubt(&mut self, node: NodeId, mut folders: Vec<(Side, NodeId)>) {
        folders.retain(|(side, dir)| self.trees.has(*side, *dir));
        folders.iter().for_each(|(side, dir)| self.look_at(*side, *dir));
        self.unsure.insert(node, folders);
    }

    pub(super) fn record_conflict(&mut self, path: &RelPath, copy: &RelPath, rule: &'static str) {
        self.totals.conflicts += 1;
        self.unsaved.conflicts.push((path.to_string(), copy.to_string(), rule));
    }

    // ---- telling -----------------------------------------------------------------------------

    fn report(&mut self, flight: &Flight, outcome: &Outcome) -> OpReport {
        let op = &flight.op;
        let path = self.report_path(flight);
        let mut report = OpReport::new(self.op_kind(op), op.side, path.to_string(), op.why);
        match outcome {
            Outcome::Uploaded { sent, instant, .. } => {
                report.bytes = *sent;
                report.result = if *instant { OpResult::Instant } else { OpResult::Done };
            }
            Outcome::Downloaded { received, .. } => report.bytes = *received,
            Outcome::Same { received, .. } => {
                // Nothing was to be fetched: it was read only to know that.
                report.op = OpKind::Read;
                report.bytes = *received;
                report.result = OpResult::Same;
            }
            Outcome::RestAside(kept_in) => report.to = Some(kept_in.clone()),
            Outcome::Placed(_) | Outcome::Deleted | Outcome::Learned { .. } => {}
        }
        if matches!(op.action, Action::Move { .. } | Action::KeepBoth { .. } | Action::Park) {
            report.to = flight.job.target_path().map(|path| path.to_string());
        }
        if matches!(op.action, Action::Move { .. }) {
            report.files_below = self.count_files_below(op.side, op.node);
        }
        if let (Action::Move { .. }, Why::NameTaken, Some(to)) = (&op.action, op.why, &report.to)
            && let Ok(copy) = RelPath::new(to)
            && copy.split_last().is_some_and(|(_, name)| is_copy(&name))
        {
            self.record_conflict(&path, &copy, "both sides used the name");
        }
        report
    }

    /// The path that a person knows.
    pub(super) fn report_path(&self, flight: &Flight) -> RelPath {
        match flight.op.action {
            Action::Mkdir { .. } | Action::Transfer { .. } => flight.job.task_path(),
            Action::Move { .. }
            | Action::Park
            | Action::Delete
            | Action::KeepBoth { .. }
            | Action::Learn => {
                let known = self.trees.facet(flight.op.side, flight.op.node);
                if known.is_some_and(|facet| facet.parked.is_some()) {
                    return self.trees.display_path(flight.op.node);
                }
                flight.job.task_path()
            }
        }
    }

    pub(super) fn publish(&mut self, flight: &Flight, report: OpReport) {
        let done = report.result != OpResult::Failed;
        if done && !self.approved.contains(&flight.op.node) {
            let recent = &mut self.recent[report.side as usize];
            match (report.op, report.why) {
                (OpKind::Delete, _) => recent.deletes += 1,
                (OpKind::Upload | OpKind::Download, Why::Edited(_)) => recent.changes += 1,
                (_, _) => {}
            }
        }
        self.totals.add(&report);
        if report.op.is_visible() {
            self.unsaved.history.push(NewHistory {
                path: report.path.clone(),
                moved_to: report.to.clone(),
                op: report.op.as_str().to_owned(),
                side: report.side.to_string(),
                why: report.why.to_string(),
                bytes: report.bytes,
                error: report.error.clone(),
            });
        }
        self.reports.push(report);
    }
}
