//! Plans in bulk, verifies at dispatch: which operations start now, journaled before they do.
//!
//! An operation that was planned earlier is checked against the trees again; a stale one is dropped,
//! because the next plan knows better.

use std::collections::{HashSet, VecDeque};

use super::job::{Expected, FailureKind, Job, OpId, Target, Task, Trace};
use super::{Command, Engine, Fatal, Flight, Problem, Stop};
use crate::plan::{Action, BrakeLimit, Constraints, Op, Plan, Why, plan, waits};
use crate::store::{Intent, StoreError};
use crate::tree::{
    InternalName, ItemId, Kind, Name, NodeId, Placement, RelPath, Side, Stamp, Trees,
};

/// Whether an operation that was planned can start.
enum Readiness {
    Now,
    /// Something under way must end first.
    Later,
    /// The trees have changed: plan again.
    Stale,
}

impl Engine {
    pub(super) fn plan_and_dispatch(&mut self, commands: &mut Vec<Command>) -> Result<(), Fatal> {
        /// So many operations end before their effect is worth another plan.
        const PLAN_BATCH: usize = 256;
        if self.looked != [true, true] {
            return Ok(());
        }
        self.drop_recalled_intents();
        self.wake_troubles();
        self.forget_doubts();
        self.tidy_up(commands);
        let worth_it = self.flights.is_empty() || self.finished_since_plan >= PLAN_BATCH;
        if self.ready.is_empty() && self.plan_wanted && worth_it && self.stop.is_none() {
            self.end_circles()?;
            self.make_plan();
        }
        self.dispatch(commands)
    }

    /// A node whose folders were looked at again is as sure as any other.
    fn forget_doubts(&mut self) {
        let mut unsure = std::mem::take(&mut self.unsure);
        unsure
            .retain(|_, folders| folders.iter().any(|(side, dir)| self.is_to_be_seen(*side, *dir)));
        self.unsure = unsure;
    }

    fn make_plan(&mut self) {
        self.plan_wanted = false;
        self.finished_since_plan = 0;
        self.ready = self.reads_of_arrivals().into();
        if !self.ready.is_empty() {
            return;
        }
        match self.match_by_place() {
            Some(reads) => self.ready = reads.into(),
            // The look that is under way wants a plan at its end.
            None => return,
        }
        if !self.ready.is_empty() {
            return;
        }
        loop {
            self.agree_on_arrivals();
            self.forget_deletions_of_another_mode();
            let plan = self.with_constraints(plan);
            for bind in &plan.binds {
                self.trees.bind(bind.keep, bind.newcomer);
            }
            if plan.binds.is_empty() {
                let waiting = plan.waiting;
                self.accept(plan);
                self.see_what_waits(waiting);
                return;
            }
        }
    }

    fn with_constraints<T>(&self, plan: impl FnOnce(&Trees, &Constraints<'_>) -> T) -> T {
        let mode = match self.settings.mode_changed {
            true => self.settings.mode.without_deletions(),
            false => self.settings.mode,
        };
        plan(
            &self.trees,
            &Constraints {
                busy: &self.busy_nodes(),
                approved: &self.approved,
                chosen: &self.chosen,
                local_names: &self.settings.local_names,
                remote_names: &self.settings.remote_names,
                mode,
                conflict: self.settings.conflict,
                peer: self.peer,
                brake: &self.settings.brake,
                recent: self.recent,
                conflict_mark: &format!("{}-{}", self.now.compact(), self.settings.host),
            },
        )
    }

    /// In the first run in another mode, what only one side has was not deleted by anybody: it may be
    /// what the mode before left there.
    fn forget_deletions_of_another_mode(&mut self) {
        if !self.settings.mode_changed {
            return;
        }
        let is_one_sided = |node: &NodeId| {
            Side::BOTH.iter().filter(|side| self.trees.has(**side, *node)).count() == 1
        };
        let divergent = self.trees.divergent().iter().copied();
        let one_sided: Vec<NodeId> = divergent.filter(is_one_sided).collect();
        one_sided.into_iter().for_each(|node| self.trees.set_base(node, None));
    }

    /// Asked only where nothing can run: until then, most of what waits has its turn soon.
    fn see_what_waits(&mut self, waiting: usize) {
        self.left_out.waits.clear();
        if waiting > 0 && self.ready.is_empty() && self.flights.is_empty() {
            self.left_out.waits = self.with_constraints(waits);
            self.free_wanted_names();
        }
    }

    fn accept(&mut self, mut plan: Plan) {
        // The planner knows entries only; a link or a device in the way is not one.
        let ops = std::mem::take(&mut plan.ops);
        let (blocked, mut rest): (Vec<Op>, Vec<Op>) =
            ops.into_iter().partition(|op| self.is_place_blocked(op));
        self.blocked_ops = blocked;
        self.put_off_unjudged(&mut rest);
        let mut ready = Vec::new();
        for op in rest {
            let gives_way = || self.rest_to_move(op.side, op.node).is_some();
            let is_kept = matches!(op.action, Action::Delete)
                && self.holds_others(op.side, op.node)
                && !gives_way();
            if is_kept {
                // It would not be empty, and is said to be left out. Whoever needs its name says so in
                // the next plan.
                self.keep_for_rest(&op);
                continue;
            }
            let uploads = op.side == Side::Remote && matches!(op.action, Action::Transfer { .. });
            if self.is_put_aside(&op) {
                continue;
            }
            if self.full_for(&op) {
                self.shut_out(&op, FailureKind::Full, format!("no room on the {} side", op.side));
            } else if uploads && self.unseen.contains_key(&op.node) {
                // Again would make two of it. (RM-10, RM-11)
                let message = "uploaded, but not listed yet".to_owned();
                self.shut_out(&op, FailureKind::Transient, message);
            } else {
                ready.push(op);
            }
        }
        self.ready = VecDeque::from(ready);
        self.last_plan = plan;
        self.forget_arrivals();
    }

    /// While files are read to tell whether they were edited, the guards cannot judge yet: they judge
    /// all deletions together or none, and all edits. (SF-07, SF-08, SF-11)
    fn put_off_unjudged(&mut self, ops: &mut Vec<Op>) {
        let under_way = self.flights.values().map(|flight| &flight.op);
        let is_read = |op: &&Op| op.action == Action::Learn && self.trees.base(op.node).is_some();
        let (mut deletions, mut edits) = (false, false);
        for op in ops.iter().chain(under_way).filter(is_read) {
            let is_on_both = Side::BOTH.iter().all(|side| self.trees.has(*side, op.node));
            deletions |= !is_on_both;
            edits |= is_on_both && self.settings.brake.changes != BrakeLimit::NONE;
        }
        ops.retain(|op| match op.action {
            Action::Delete => !deletions,
            Action::Transfer { .. } => !(edits && matches!(op.why, Why::Edited(_))),
            Action::Mkdir { .. }
            | Action::Move { .. }
            | Action::Park
            | Action::KeepBoth { .. }
            | Action::Learn => true,
        });
        self.plan_wanted |= deletions || edits;
    }

    pub(super) fn busy_nodes(&self) -> HashSet<NodeId> {
        let mut busy: HashSet<NodeId> = self.flying.clone();
        busy.extend(self.troubles.keys());
        busy.extend(self.half_done.keys());
        busy.extend(self.unsure.keys());
        busy.extend(self.unsettled.keys());
        let mut left: Vec<NodeId> = self.blind.keys().map(|(_, node)| *node).collect();
        let mut below: HashSet<NodeId> = HashSet::new();
        while let Some(node) = left.pop() {
            if below.insert(node) {
                for side in Side::BOTH {
                    left.extend(self.trees.children(side, node).map(|(_, child)| child));
                }
            }
        }
        // The root itself is no node; what is below a root that could not be listed is.
        below.remove(&NodeId::ROOT);
        busy.extend(below);
        busy
    }

    fn dispatch(&mut self, commands: &mut Vec<Command>) -> Result<(), Fatal> {
        let mut later = Vec::new();
        while self.stop.is_none() && self.flights.len() < self.settings.in_flight_max {
            let Some(op) = self.ready.pop_front() else { break };
            match self.readiness(&op) {
                Readiness::Stale => self.plan_wanted = true,
                Readiness::Later => later.push(op),
                Readiness::Now => match self.task(&op) {
                    Some(task) if self.exceeds_transfer(&task) => {
                        self.stop = Some(Stop::MaxTransfer);
                    }
                    Some(task) => {
                        // Reading changes nothing, so a plan reads too.
                        let pretend = self.settings.pretend && !matches!(op.action, Action::Learn);
                        let mut job = self.launch(op, task)?;
                        self.read_where_it_is(&mut job);
                        if pretend {
                            self.pretend(&job)?;
                        } else {
                            commands.push(Command::Run(Box::new(job)));
                        }
                    }
                    None => self.plan_wanted = true,
                },
            }
        }
        if !later.is_empty() && self.flights.is_empty() && self.ready.is_empty() {
            // Nothing under way can unblock them: they were planned on trees that are gone.
            self.plan_wanted = true;
            later.clear();
        }
        self.ready.extend(later);
        Ok(())
    }

    fn exceeds_transfer(&self, task: &Task) -> bool {
        let under_way: u64 = self.flights.values().map(|flight| flight.job.task.bytes()).sum();
        let moved = self.totals.bytes_up + self.totals.bytes_down + under_way;
        self.settings
            .max_transfer
            .is_some_and(|max| task.bytes() > 0 && moved.saturating_add(task.bytes()) > max)
    }

    fn launch(&mut self, op: Op, task: Task) -> Result<Job, Fatal> {
        let id = OpId(self.next_op);
        self.next_op += 1;
        let trace = self.trace(id, &op, &task);
        let job = serde_json::to_string(&trace).map_err(|_| StoreError::Damaged("an intent"))?;
        if !matches!(op.action, Action::Learn) {
            self.unsaved.begun.push(Intent { op: id.0, node: op.node, job });
        }
        // One intent for each node: a new operation relies on what is seen now.
        self.unsaved.finished.extend(self.unseen.remove(&op.node));
        let mut above = Vec::new();
        for side in task.sides() {
            let mut at = op.node;
            if let Some(place) = op_place(&op) {
                above.extend(self.folders_above(*side, place.parent));
            }
            while let Some(facet) = self.trees.facet(*side, at) {
                at = facet.at().parent;
                above.push(at);
            }
        }
        above.sort_unstable();
        above.dedup();
        for dir in &above {
            *self.relied_on.entry(*dir).or_default() += 1;
        }
        let place = op_place(&op).map(|place| (op.side, place.clone()));
        let job = Job { op: id, node: op.node, task };
        self.flying.insert(op.node);
        self.flights.insert(id, Flight { op, job: job.clone(), above, place });
        Ok(job)
    }

    fn folders_above(&self, side: Side, dir: NodeId) -> Vec<NodeId> {
        let mut above = vec![dir];
        let mut at = dir;
        while let Some(facet) = self.trees.facet(side, at) {
            at = facet.at().parent;
            above.push(at);
        }
        above
    }

    /// Ends a flight's claims on nodes, folders and places.
    pub(super) fn land(&mut self, id: OpId, unfinished: bool) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        self.flying.remove(&flight.op.node);
        for (side, dir) in self.after_flight.remove(&flight.op.node).unwrap_or_default() {
            self.look_at(side, dir);
        }
        for dir in &flight.above {
            if let Some(count) = self.relied_on.get_mut(dir) {
                *count -= 1;
                if *count == 0 {
                    self.relied_on.remove(dir);
                }
            }
        }
        if !unfinished && !matches!(flight.op.action, Action::Learn) {
            self.unsaved.finished.push(id);
        }
        for look in self.looks.iter_mut().flatten() {
            look.disturbed.insert(flight.op.node);
        }
        self.finished_since_plan += 1;
        self.plan_wanted = true;
        Some(flight)
    }

    pub(super) fn trace(&self, id: OpId, op: &Op, task: &Task) -> Trace {
        match (&op.action, task) {
            (Action::KeepBoth { copy }, Task::Relocate { from, to, .. }) => Trace::KeepBoth {
                side: op.side,
                parent: self.trees.facet(op.side, op.node).map_or(NodeId::ROOT, |f| f.at().parent),
                copy: copy.as_str().to_owned(),
                path: from.locator.path.parent().unwrap_or_default().join(&to.name).to_string(),
            },
            (_, Task::Download { source, to, content, .. }) => Trace::Install {
                path: to.path().as_str().to_owned(),
                part: content.digest().map(|_| part_key(&self.install_id, source)),
            },
            (Action::Transfer { at, .. }, Task::Upload { to, over, saved, content, .. }) => {
                Trace::Upload {
                    parent: at.parent,
                    key: saved.as_ref().map_or(self.stage_key(id.0), |saved| saved.key),
                    parent_path: to.parent.path.as_str().to_owned(),
                    parent_id: to.parent.id.clone(),
                    name: to.name.as_str().to_owned(),
                    old: over.as_ref().map(|over| over.stamp.clone()),
                    content: *content,
                }
            }
            (Action::Move { to }, Task::Relocate { .. }) => {
                Trace::Move { parent: to.parent, name: to.name.as_str().to_owned() }
            }
            (_, Task::Mkdir { .. } | Task::Relocate { .. } | Task::Delete { .. })
            | (_, Task::Upload { .. })
            | (_, Task::Learn { .. }) => Trace::Plain,
        }
    }

    // ---- verification ---------------------------------------------------------------------

    fn readiness(&self, op: &Op) -> Readiness {
        let side = op.side;
        if self.is_in_flight(op.node) {
            return Readiness::Later;
        }
        let in_doubt = self.troubles.contains_key(&op.node)
            || self.unsure.contains_key(&op.node)
            || self.unsettled.contains_key(&op.node);
        if in_doubt || self.full_for(op) {
            return Readiness::Stale;
        }
        if !self.still_makes_sense(op) {
            return Readiness::Stale;
        }
        let is_dir = self.trees.kind(op.node) == Kind::Dir;
        let uproots = matches!(op.action, Action::Move { .. } | Action::Park | Action::Delete);
        if is_dir && uproots && self.relied_on.contains_key(&op.node) {
            return Readiness::Later;
        }
        let parents = [
            op_place(op).map(|place| place.parent),
            self.trees.facet(side, op.node).map(|facet| facet.at().parent),
            self.trees.facet(side.other(), op.node).map(|facet| facet.at().parent),
        ];
        if parents.into_iter().flatten().any(|dir| self.is_being_uprooted(dir)) {
            return Readiness::Later;
        }
        if let Some(place) = op_place(op)
            && self.writer_of(side, place).is_some()
        {
            return Readiness::Later;
        }
        Readiness::Now
    }

    /// Whether a folder at or above `dir`, on either side, is being moved or deleted.
    fn is_being_uprooted(&self, dir: NodeId) -> bool {
        if !self.flights.values().any(|flight| flight.job.task.moves_folder()) {
            return false;
        }
        Side::BOTH.iter().any(|side| {
            self.folders_above(*side, dir).iter().any(|above| {
                self.is_in_flight(*above)
                    && self
                        .flights
                        .values()
                        .any(|flight| flight.op.node == *above && flight.job.task.moves_folder())
            })
        })
    }

    fn full_for(&self, op: &Op) -> bool {
        let writes = matches!(op.action, Action::Transfer { .. } | Action::Mkdir { .. });
        writes && self.full[op.side as usize]
    }

    fn still_makes_sense(&self, op: &Op) -> bool {
        let (side, trees) = (op.side, &self.trees);
        let mine = trees.facet(side, op.node);
        let theirs = trees.facet(side.other(), op.node);
        let is_free = |at: &Placement| {
            trees.has(side, at.parent)
                && trees.occupant(side, at).is_none_or(|node| node == op.node)
        };
        match &op.action {
            Action::Mkdir { at } => mine.is_none() && theirs.is_some() && is_free(at),
            Action::Transfer { at, content } => {
                let stays = mine.is_none_or(|facet| facet.physical() == *at);
                stays && is_free(at) && theirs.is_some_and(|facet| facet.content() == content)
            }
            Action::Move { to } => {
                mine.is_some() && is_free(to) && !trees.is_within(side, to.parent, op.node)
            }
            Action::Park => mine.is_some_and(|facet| facet.parked.is_none()),
            Action::Delete => {
                mine.is_some() && theirs.is_none() && !trees.has_children(side, op.node)
            }
            Action::KeepBoth { copy } => mine.is_some_and(|facet| {
                let place = Placement { parent: facet.at().parent, name: copy.clone() };
                trees.occupant(side, &place).is_none()
            }),
            Action::Learn => mine.is_some_and(|facet| facet.content().is_unread()),
        }
    }

    // ---- from operation to task --------------------------------------------------------------

    /// Everything that the executor needs; `None` if the trees no longer say it.
    fn task(&self, op: &Op) -> Option<Task> {
        let side = op.side;
        Some(match &op.action {
            Action::Mkdir { at } => Task::Mkdir { side, to: self.target(side, at)? },
            Action::Transfer { at, content } if side == Side::Remote => Task::Upload {
                source: self.expected(Side::Local, op.node)?,
                to: self.target(side, at)?,
                content: content.digest()?,
                over: self.expected(side, op.node),
                saved: self.sessions.get(&op.node).cloned(),
            },
            Action::Transfer { at, content } => {
                let to = self.target(side, at)?;
                let have = self.trees.facet(side, op.node).and_then(|f| f.content().digest());
                Task::Download {
                    source: self.expected(Side::Remote, op.node)?,
                    aside: self.aside(&to),
                    to,
                    content: *content,
                    over: self.expected(side, op.node),
                    have,
                }
            }
            Action::Move { to } => self.relocation(op, to)?,
            Action::Park => {
                let at = self.trees.facet(side, op.node)?.at();
                let name = park_name(self.stage_key(self.next_op));
                self.relocation(op, &Placement { parent: at.parent, name })?
            }
            Action::KeepBoth { copy } => {
                let parent = self.trees.facet(side, op.node)?.at().parent;
                self.relocation(op, &Placement { parent, name: copy.clone() })?
            }
            Action::Delete => Task::Delete {
                side,
                what: self.expected(side, op.node)?,
                gone: self.absent_locator(side.other(), op.node),
                rest: self.rest_to_move(side, op.node),
            },
            Action::Learn => {
                Task::Learn { side, what: self.expected(side, op.node)?, algo: self.settings.algo }
            }
        })
    }

    fn relocation(&self, op: &Op, to: &Placement) -> Option<Task> {
        let from = self.expected(op.side, op.node)?;
        Some(Task::Relocate { side: op.side, from, to: self.target(op.side, to)? })
    }

    fn expected(&self, side: Side, node: NodeId) -> Option<Expected> {
        let stamp = self.trees.facet(side, node)?.stamp();
        Some(Expected { locator: self.locator(side, node)?, stamp })
    }

    fn target(&self, side: Side, at: &Placement) -> Option<Target> {
        Some(Target { parent: self.locator(side, at.parent)?, name: at.name.clone() })
    }

    /// Where a side had a node before it lost it: by base, as far as the folders still exist.
    fn absent_locator(&self, side: Side, node: NodeId) -> Option<crate::remote::Locator> {
        let at = &self.trees.base(node)?.at;
        if self.trees.occupant(side, at).is_some() {
            // Another item has taken the place: it says nothing about this one.
            return None;
        }
        let parent = self.locator(side, at.parent)?;
        let path = parent.path.join(&at.name);
        Some(crate::remote::Locator {
            id: None,
            path,
            parent_id: parent.id,
            kind: self.trees.kind(node),
        })
    }

    /// Where a version is kept that slips in at the last moment: a conflict name next to `to`.
    fn aside(&self, to: &Target) -> RelPath {
        let mark = format!("{}-{}", self.now.compact(), self.settings.host);
        let bytes_max = self.settings.local_names.short();
        let name = crate::plan::conflict_name::copy_name(&to.name, Kind::File, &mark, bytes_max, 1);
        to.parent.path.join(&name)
    }

    /// Names what an operation stages: the same over restarts, different for every database.
    pub(super) fn stage_key(&self, op: u64) -> u64 {
        stage_key(&self.install_id, op)
    }

    /// Whether a name in a folder is taken by something that is no entry.
    fn is_place_blocked(&self, op: &Op) -> bool {
        op_place(op).is_some_and(|at| {
            self.blocked.contains_key(&(op.side, at.parent, at.name.as_str().to_owned()))
        })
    }

    /// Whether a folder holds something that is no entry.
    fn holds_others(&self, side: Side, dir: NodeId) -> bool {
        let from = (side, dir, String::new());
        self.blocked.range(from..).next().is_some_and(|((s, d, _), _)| (*s, *d) == (side, dir))
    }

    /// Why a node is left alone, in words.
    pub(super) fn blind_reason(problem: &Problem) -> String {
        match problem {
            Problem::Unlisted(message) => message.clone(),
            Problem::Masked(reason) => format!("a {} stands in its place", reason.word()),
        }
    }
}

/// The name of an item that is in nobody's way for a moment.
pub fn park_name(key: u64) -> Name {
    InternalName::Parked(key).name()
}

/// See `Engine::stage_key`.
pub fn stage_key(install_id: &str, op: u64) -> u64 {
    key_of(&format!("{install_id}:{op}"))
}

/// Names what is staged of one version of a remote file: any operation that fetches it can go on with
/// what another one left.
pub fn part_key(install_id: &str, source: &Expected) -> u64 {
    let Stamp { item, rev, size } = &source.stamp;
    match item {
        // Two files may have one size and time.
        ItemId::Unproven => {
            key_of(&format!("{install_id}:{}\0{rev:?}:{size}", source.locator.path))
        }
        ItemId::Inode { .. } | ItemId::Key(_) => {
            key_of(&format!("{install_id}:{item:?}:{rev:?}:{size}"))
        }
    }
}

fn key_of(text: &str) -> u64 {
    let hash = crate::tree::Hasher::of(crate::tree::HashAlgo::Sha256, text.as_bytes());
    hash.bytes().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Where an operation puts something.
pub(super) fn op_place(op: &Op) -> Option<&Placement> {
    match &op.action {
        Action::Mkdir { at } | Action::Transfer { at, .. } | Action::Move { to: at } => Some(at),
        Action::Park | Action::Delete | Action::KeepBoth { .. } | Action::Learn => None,
    }
}
