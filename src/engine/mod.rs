//! The control core: events in, commands out. One thread, no I/O but the store, no clock, no async.
//!
//! The life of a change: a *look* lists folders (`look`, `looking`, `ingest`) and edits the trees; the planner
//! says what can be done; `dispatch` journals operations and hands them out; `finish` folds their
//! outcomes back in; `retry` decides about failures. When nothing is left, the pair is in sync.

mod circles;
mod dispatch;
mod events;
mod finish;
mod half_done;
mod ingest;
pub mod job;
mod left_out;
mod look;
mod looking;
mod pretend;
mod racy;
mod reclaim;
mod recover;
mod repeats;
pub mod report;
mod retry;
mod same_place;
mod sweep;
mod watchful;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::local::SkipReason;
use crate::local::facts::StampRule;
use crate::local::ignore::Rules;
use crate::plan::{BrakeLimit, BrakeLimits, BrakeReason, ConflictPolicy, Mode, Op, Plan, Recent};
use crate::remote::{Locator, NameRules};
use crate::store::{HeldRow, HeldState, Intent, NewHistory, Racy, SavedSession, Store, StoreError};
use crate::tree::{HashAlgo, ItemId, NodeId, Placement, RelPath, Side, Trees};

pub use dispatch::{park_name, part_key, stage_key};
pub use events::{Command, Event, ListError};
use half_done::HalfDone;
pub use half_done::Tidied;
use job::{Failure, Job, OpId};
use left_out::LeftOut;
use look::Look;
use racy::RacyFiles;
use recover::Arrival;
pub use recover::{LeftoverFate, decide_leftover, kept_parts};
use repeats::Repeats;
pub use report::{OpReport, Stop, Summary};
use retry::Trouble;
use sweep::Sweep;
pub use sweep::SweepSettings;
use watchful::Unsettled;
pub use watchful::{Activity, LARGE_BYTES, LookAt, Pending, Records, Sight};

/// In `meta`: when a person last let a mass of deletions or changes happen, in seconds.
const GUARDS_LIFTED_AT: &str = "guards_lifted_at";

/// In `meta`: the mode in which the last run that ended well kept the pair.
pub const MODE: &str = "mode";

/// How a pair is to be kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    pub conflict: ConflictPolicy,
    /// Whether the remote is the local root of another pair, as far as was known at the start.
    pub peer: bool,
    pub brake: BrakeLimits,
    /// Patterns of the configuration, in gitignore grammar.
    pub ignore: Vec<String>,
    /// Part of the names of conflict copies.
    pub host: String,
    pub algo: HashAlgo,
    pub local_names: NameRules,
    pub remote_names: NameRules,
    /// By side: what its time stamps are worth.
    pub stamps: [StampRule; 2],
    /// Content bytes after which no further transfer starts.
    pub max_transfer: Option<u64>,
    /// Time after which no further operation starts.
    pub max_duration: Option<std::time::Duration>,
    /// Operations under way at once. The executor's lanes are narrower; the rest waits for flushes.
    pub in_flight_max: usize,
    /// How long a file must have been quiet before it is sent. `None`: it is sent as it is.
    pub settle: Option<std::time::Duration>,
    /// Nothing is carried out but reading: each operation is taken to have worked.
    pub pretend: bool,
    /// New versions get their places on the remote by a swap of names.
    pub stages_on_remote: bool,
    /// The pair was kept in another mode before: until a run has ended well, nothing is deleted.
    pub mode_changed: bool,
}

/// What cannot be gone on from: the pair stops, nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root is gone or is another one.
    #[error("{side} root: {message}")]
    RootLost { side: Side, message: String },
    #[error("{message}")]
    Auth { message: String },
    #[error("the {side} side cannot be reached: {message}")]
    Unavailable { side: Side, message: String },
    /// A mistake of ours: something is left to do, and nothing can be done.
    #[error("the plan leads nowhere; nothing was lost. Please report this with the output of -vv")]
    Stuck,
}

/// Why nothing is known of a node and of what is below it: it is left alone on both sides.
#[derive(Clone, Debug)]
enum Problem {
    /// Its folder could not be listed.
    Unlisted(String),
    /// Something that is no file or folder stands in its place.
    Masked(SkipReason),
}

/// An operation under way.
#[derive(Clone, Debug)]
struct Flight {
    op: Op,
    job: Job,
    /// Folders above it, on the sides that it uses: they stay where they are meanwhile.
    above: Vec<NodeId>,
    /// The place that it writes to.
    place: Option<(Side, Placement)>,
}

/// Bookkeeping that goes into the next transaction.
#[derive(Default)]
struct Unsaved {
    begun: Vec<Intent>,
    finished: Vec<OpId>,
    sessions: BTreeMap<NodeId, Option<SavedSession>>,
    /// `Engine::parts` have changed.
    parts: bool,
    history: Vec<NewHistory>,
    conflicts: Vec<(String, String, &'static str)>,
}

/// One pair's control core.
pub struct Engine {
    settings: Settings,
    trees: Trees,
    store: Store,
    rules: Rules,
    now: Timestamp,
    started: Timestamp,
    install_id: String,
    next_op: u64,

    /// The remote is the local root of another pair.
    peer: bool,
    looks: [Option<Look>; 2],
    /// Whether a side was looked at in full since the start.
    looked: [bool; 2],
    /// Folders that are elsewhere, whatever stands in their old places: a look in vain found them.
    moved_away: HashSet<NodeId>,
    /// How many looks in a row were in vain.
    torn_looks: [u32; 2],
    /// A look was given up: what it was to see, nobody has seen.
    gave_up_look: [bool; 2],
    full_look_wanted: [bool; 2],
    /// When the last look at all of a side began.
    full_look_at: [Option<Timestamp>; 2],
    /// How long the last look at all of the remote took.
    full_look_took: Duration,
    /// How the remote is polled, if not always as a whole.
    sweep: Option<Sweep>,
    /// Whether the last look at all of the remote lacked what is there.
    lags: bool,
    /// Folders to look at again.
    dirty: [BTreeSet<NodeId>; 2],
    /// Places at which something happened, to be looked at.
    stirred: [BTreeSet<RelPath>; 2],
    listing_attempts: HashMap<(Side, NodeId), u32>,
    blind: HashMap<(Side, NodeId), Problem>,
    /// What stands in a folder but is no entry: by physical name; with the path for people.
    blocked: BTreeMap<(Side, NodeId, String), (SkipReason, String)>,
    /// Content that may have been written again within the tick in which it was read.
    racy: RacyFiles,
    /// Versions that a killed process was setting aside: side and place of each copy.
    kept_copies: HashMap<NodeId, (Side, Placement)>,
    /// Moves that may have stopped half-way: where each was going.
    moving: HashMap<NodeId, Placement>,
    /// Content whose upload may have arrived although nobody said so.
    arriving: BTreeMap<NodeId, Arrival>,
    /// Uploads that a service goes on with.
    sessions: HashMap<NodeId, SavedSession>,
    /// What is staged of downloads that failed.
    parts: BTreeMap<NodeId, u64>,

    flights: BTreeMap<OpId, Flight>,
    /// The nodes of the flights.
    flying: HashSet<NodeId>,
    /// Folders to look at when a node's flight has ended.
    after_flight: HashMap<NodeId, Vec<(Side, NodeId)>>,
    /// How many flights rely on a folder's path.
    relied_on: HashMap<NodeId, usize>,
    ready: VecDeque<Op>,
    plan_wanted: bool,
    finished_since_plan: usize,
    /// Nodes whose operation found a side changed, with the folders to be looked at before the next.
    unsure: HashMap<NodeId, Vec<(Side, NodeId)>>,
    /// Files that were uploaded and not seen since: listings may lag behind. Their intents stay open.
    unseen: HashMap<NodeId, OpId>,
    troubles: BTreeMap<NodeId, Trouble>,
    half_done: BTreeMap<NodeId, HalfDone>,
    /// Items that were seen out of the way as old versions, and since when.
    set_aside: HashMap<ItemId, Timestamp>,
    unsettled: BTreeMap<NodeId, Unsettled>,
    /// Failed tries, and plans that were built on old sight, in this run.
    attempts: HashMap<NodeId, u32>,
    changes: HashMap<NodeId, u32>,
    repeats: Repeats,
    /// Folders that were to be deleted and were not empty.
    not_empty: HashSet<NodeId>,
    /// Intents of a killed process, until both sides have been looked at.
    recalled: Vec<OpId>,
    /// Sides without room: nothing more is written there in this run.
    full: [bool; 2],
    approved: HashSet<NodeId>,
    /// Files of which a person chose that side's version.
    chosen: HashMap<NodeId, Side>,
    /// By side, but for what a person approved.
    recent: [Recent; 2],
    last_plan: Plan,
    /// In a plan: the moves so far, each from where to where.
    pretended_moves: Vec<(Side, RelPath, RelPath)>,
    /// Planned, but something that is no entry has the name.
    blocked_ops: Vec<Op>,
    left_out: LeftOut,
    stop: Option<Stop>,
    unsaved: Unsaved,
    reports: Vec<OpReport>,
    totals: report::Totals,
}

impl Engine {
    /// Starts with what the database knows. `install_id` names this state database in temporary
    /// names on the remote.
    pub fn new(
        settings: Settings,
        store: Store,
        trees: Trees,
        install_id: String,
        now: Timestamp,
    ) -> Result<Engine, Fatal> {
        let next_op = store.meta("next_op")?.and_then(|n| n.parse().ok()).unwrap_or(1);
        let rules = Rules::new(&settings.ignore);
        let mut engine = Engine {
            peer: settings.peer,
            settings,
            trees,
            store,
            rules,
            now,
            started: now,
            install_id,
            next_op,
            looks: [None, None],
            looked: [false, false],
            torn_looks: [0, 0],
            gave_up_look: [false, false],
            moved_away: HashSet::new(),
            full_look_wanted: [false, false],
            full_look_at: [None, None],
            full_look_took: Duration::ZERO,
            sweep: None,
            lags: false,
            dirty: Default::default(),
            stirred: Default::default(),
            listing_attempts: HashMap::new(),
            blind: HashMap::new(),
            blocked: BTreeMap::new(),
            racy: RacyFiles::default(),
            kept_copies: HashMap::new(),
            moving: HashMap::new(),
            arriving: BTreeMap::new(),
            sessions: HashMap::new(),
            parts: BTreeMap::new(),
            flights: BTreeMap::new(),
            flying: HashSet::new(),
            after_flight: HashMap::new(),
            relied_on: HashMap::new(),
            ready: VecDeque::new(),
            plan_wanted: false,
            finished_since_plan: 0,
            unsure: HashMap::new(),
            unseen: HashMap::new(),
            troubles: BTreeMap::new(),
            half_done: BTreeMap::new(),
            set_aside: HashMap::new(),
            unsettled: BTreeMap::new(),
            attempts: HashMap::new(),
            changes: HashMap::new(),
            repeats: Repeats::default(),
            not_empty: HashSet::new(),
            recalled: Vec::new(),
            full: [false, false],
            approved: HashSet::new(),
            chosen: HashMap::new(),
            recent: Default::default(),
            last_plan: Plan::default(),
            pretended_moves: Vec::new(),
            blocked_ops: Vec::new(),
            left_out: LeftOut::default(),
            stop: None,
            unsaved: Unsaved::default(),
            reports: Vec::new(),
            totals: report::Totals::default(),
        };
        engine.sessions = engine.store.sessions()?;
        engine.parts = kept_parts(&engine.store)?.into_iter().collect();
        engine.recall_intents()?;
        engine.recall_decisions()?;
        engine.recall_recent()?;
        Ok(engine)
    }

    /// Takes in what happened and says what to do next. Everything that the commands rely on is
    /// durable when this returns.
    pub fn handle(&mut self, now: Timestamp, events: Vec<Event>) -> Result<Vec<Command>, Fatal> {
        self.now = now;
        let mut commands = Vec::new();
        for event in events {
            self.take(event)?;
        }
        self.check_time();
        self.wake_unsettled();
        self.wake_racy();
        self.look_around(&mut commands);
        self.plan_and_dispatch(&mut commands)?;
        self.save()?;
        Ok(commands)
    }

    /// Whether nothing is left to do in this run, or nothing can be done.
    pub fn is_done(&self) -> bool {
        let idle =
            self.flights.is_empty() && self.looks.iter().all(Option::is_none) && !self.is_tidying();
        if self.stop.is_some() {
            return idle;
        }
        idle && self.looked == [true, true]
            && self.full_look_wanted == [false, false]
            && self.dirty.iter().all(BTreeSet::is_empty)
            && self.stirred.iter().all(BTreeSet::is_empty)
            && self.ready.is_empty()
            && !self.plan_wanted
            && self.next_wake().is_none()
    }

    /// For the report of a mistake of ours: why this is not done.
    pub fn what_is_left(&self) -> String {
        format!(
            "looked {:?}, full looks {:?}, folders {:?}, plan wanted {}, ready {:?}, planned {:?}",
            self.looked,
            self.full_look_wanted,
            self.dirty,
            self.plan_wanted,
            self.ready,
            self.last_plan.ops
        )
    }

    pub fn is_pretending(&self) -> bool {
        self.settings.pretend
    }

    /// When something that waits for time wants to be tried again.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let retries = self.troubles.values().filter_map(|trouble| trouble.retry_at);
        retries.chain(self.next_settled()).chain(self.racy.next()).min()
    }

    fn take(&mut self, event: Event) -> Result<(), Fatal> {
        match event {
            Event::Listed { side, dir, result } => self.take_listing(side, dir, result),
            Event::Confirmed { side, node, result } => {
                self.take_confirmation(side, node, result);
                Ok(())
            }
            Event::Proved { side, dir, name, proof } => {
                self.take_proof(side, dir, name, proof);
                Ok(())
            }
            Event::Finished { op, result } => self.take_outcome(op, result),
            Event::Tidied { node, result } => self.take_tidied(node, result),
            Event::Look { side, at } => {
                self.take_sighting(side, at);
                Ok(())
            }
            Event::SessionBegun { node, session } => {
                self.sessions.insert(node, session.clone());
                self.unsaved.sessions.insert(node, Some(session));
                Ok(())
            }
            Event::Interrupt => {
                self.stop = Some(Stop::Interrupted);
                Ok(())
            }
            Event::Tick => Ok(()),
        }
    }

    // ---- questions ------------------------------------------------------------------------

    fn is_in_flight(&self, node: NodeId) -> bool {
        self.flying.contains(&node)
    }

    /// Whether a look at a folder is asked for or under way.
    fn is_to_be_seen(&self, side: Side, dir: NodeId) -> bool {
        self.dirty[side as usize].contains(&dir)
            || self.looks[side as usize].as_ref().is_some_and(|look| look.covers(dir))
    }

    /// The node whose operation under way puts something at that place.
    fn writer_of(&self, side: Side, at: &Placement) -> Option<NodeId> {
        let writes = |flight: &&Flight| {
            flight.place.as_ref().is_some_and(|(s, place)| *s == side && place == at)
        };
        self.flights.values().find(writes).map(|flight| flight.op.node)
    }

    /// How to address a node that a side has.
    fn locator(&self, side: Side, node: NodeId) -> Option<Locator> {
        if node == NodeId::ROOT {
            return Some(Locator::root());
        }
        let facet = self.trees.facet(side, node)?;
        let parent = self.trees.facet(side, facet.at().parent);
        Some(Locator {
            id: Some(facet.item.clone()),
            path: self.trees.path(side, node)?,
            parent_id: parent.map(|parent| parent.item.clone()),
            kind: self.trees.kind(node),
        })
    }

    // ---- durability -----------------------------------------------------------------------

    /// One transaction for everything since the last one.
    fn save(&mut self) -> Result<(), Fatal> {
        let touched = self.trees.take_touched();
        let unsaved = std::mem::take(&mut self.unsaved);
        let nothing = touched.is_empty()
            && unsaved.begun.is_empty()
            && unsaved.finished.is_empty()
            && unsaved.sessions.is_empty()
            && !unsaved.parts;
        if nothing {
            return Ok(());
        }
        let (trees, racy, now, next_op) = (&self.trees, &self.racy, self.now, self.next_op);
        // What is pretended begins and ends at once: it never needs an intent.
        let over: HashSet<u64> = unsaved.finished.iter().map(|op| op.0).collect();
        let is_racy = |id| Racy {
            local: racy.contains(Side::Local, id),
            remote: racy.contains(Side::Remote, id),
        };
        let known = || self.parts.iter().collect::<Vec<_>>();
        let parts = unsaved.parts.then(|| serde_json::to_string(&known()));
        let parts = parts.transpose().map_err(|_| StoreError::Damaged("the parts"))?;
        self.store.write(|tx| {
            tx.put_nodes(trees, touched, is_racy)?;
            for op in &unsaved.finished {
                tx.finish(op.0)?;
            }
            if !unsaved.begun.is_empty() {
                tx.set_meta("next_op", &next_op.to_string())?;
            }
            for intent in unsaved.begun.iter().filter(|intent| !over.contains(&intent.op)) {
                tx.begin(intent, now)?;
            }
            for (node, session) in &unsaved.sessions {
                tx.set_session(*node, session.as_ref())?;
            }
            if let Some(parts) = &parts {
                tx.set_meta(recover::PARTS, parts)?;
            }
            for event in &unsaved.history {
                tx.add_history(event, now)?;
            }
            for (path, copy, rule) in &unsaved.conflicts {
                tx.add_conflict(path, copy, rule, now)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn check_time(&mut self) {
        let over = self.settings.max_duration.is_some_and(|max| self.now.since(self.started) > max);
        if over && self.stop.is_none() {
            self.stop = Some(Stop::MaxDuration);
        }
    }

    /// What happened to many files lately, since a person last allowed such a thing.
    fn recall_recent(&mut self) -> Result<(), Fatal> {
        const HOUR_S: i64 = 3600;
        let allowed = self.store.meta(GUARDS_LIFTED_AT)?.and_then(|at| at.parse().ok());
        // A clock that was ahead when a person allowed it must not blind the guards until then.
        let allowed = allowed.filter(|at: &i64| *at <= self.now.seconds() + 1);
        let within = |span_s: i64| {
            let since = (self.now.seconds() - span_s).max(allowed.unwrap_or(i64::MIN));
            Timestamp::from_seconds(since)
        };
        let (day, hour) = (within(24 * HOUR_S), within(HOUR_S));
        for side in Side::BOTH {
            let word = side.to_string();
            let deletes = self.store.deletes_since(&word, day)?;
            let changes = match self.settings.brake.changes {
                BrakeLimit::NONE => 0,
                BrakeLimit { .. } => self.store.changes_since(&word, hour)?,
            };
            self.recent[side as usize] = Recent { deletes, changes };
        }
        Ok(())
    }

    /// What people decided since the last run: what a guard held is approved or rejected.
    fn recall_decisions(&mut self) -> Result<(), Fatal> {
        let rows = self.store.held(&[HeldState::Approved, HeldState::Rejected])?;
        let mut rejected = Vec::new();
        for row in &rows {
            if row.state != HeldState::Rejected {
                self.approved.extend(&row.nodes);
            } else if self.reject(row) {
                rejected.push(row.id);
            }
        }
        let trees = &mut self.trees;
        let touched = trees.take_touched();
        if !rejected.is_empty() {
            self.store.write(|tx| {
                tx.put_nodes(trees, touched, |_| Racy::default())?;
                rejected.iter().try_for_each(|id| tx.set_held_state(*id, HeldState::Done))
            })?;
        }
        Ok(())
    }

    /// What was to be deleted is brought back; of what was to be replaced, the version that was to go
    /// is brought to the other side. Says whether nothing is left to do about it.
    fn reject(&mut self, row: &HeldRow) -> bool {
        if row.kind != BrakeReason::TooManyChanges.word() {
            // Without a base the deletion never happened: what is left is new again.
            row.nodes.iter().for_each(|node| self.trees.set_base(*node, None));
            return true;
        }
        let side = Side::BOTH.into_iter().find(|side| side.to_string() == row.side);
        self.chosen.extend(row.nodes.iter().filter_map(|node| Some((*node, side?))));
        // To take back many edits is to make as many.
        self.approved.extend(&row.nodes);
        false
    }
}
