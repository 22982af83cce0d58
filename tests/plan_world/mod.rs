//! A small world that runs plans: two sides with perfect identity, users who interfere, an oracle.
//!
//! Everything is drawn from a seed. Operations may be in flight while users and other operations
//! go on; what they expected is checked again when they end, as the executor does.

#![allow(dead_code, reason = "each test binary uses its own part of the world")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use foldsync::plan::{
    Action, BrakeLimit, BrakeLimits, ConflictPolicy, Constraints, Mode, Op, Plan, plan, plan_all,
};
use foldsync::tree::names::{CaseRule, Known, NameRules};
use foldsync::tree::{
    Content, ContentHash, Digest, Facet, ItemId, Kind, Name, NodeId, Placement, Register, Rev,
    Side, Stamp, Trees,
};

pub(crate) const MARK: &str = "20261121-101500-pc";
pub(crate) const NO_LIMITS: BrakeLimits =
    BrakeLimits { deletes: BrakeLimit::NONE, changes: BrakeLimit::NONE, lifted: true };

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

pub(crate) fn at(parent: NodeId, text: &str) -> Placement {
    Placement { parent, name: name(text) }
}

/// Path to content token, or to none for a folder.
pub(crate) type Paths = BTreeMap<String, Option<u64>>;

/// SplitMix64: small, seeded, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// What a user can do to one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    NewFile,
    NewDir,
    Edit,
    Touch,
    Move,
    Swap,
    Delete,
    Retype,
}

pub(crate) const ALL_DEEDS: &[Deed] = &[
    Deed::NewFile,
    Deed::NewFile,
    Deed::Edit,
    Deed::Edit,
    Deed::Touch,
    Deed::Move,
    Deed::Move,
    Deed::Delete,
    Deed::NewDir,
    Deed::Swap,
    Deed::Retype,
];

/// An operation and the versions that the plan was made for.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) op: Op,
    versions: [Option<Stamp>; 2],
}

/// What an operation found when it began.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    op: Op,
    ours: Option<Facet>,
    theirs: Option<Facet>,
}

pub(crate) struct World {
    pub(crate) trees: Trees,
    /// What a file really contains, whether or not anybody read it.
    truth: HashMap<(Side, NodeId), Digest>,
    pub(crate) mode: Mode,
    pub(crate) conflict: ConflictPolicy,
    pub(crate) peer: bool,
    pub(crate) local_names: NameRules,
    pub(crate) remote_names: NameRules,
    pub(crate) brake: BrakeLimits,
    pub(crate) approved: HashSet<NodeId>,
    pub(crate) chosen: HashMap<NodeId, Side>,
    pub(crate) busy: HashSet<NodeId>,
    pub(crate) in_flight: Vec<InFlight>,
    /// How often a user's change is not read yet, in percent.
    pub(crate) unread: [usize; 2],
    pub(crate) names: &'static [&'static str],
    tokens: u64,
    serial: u64,
    pub(crate) made: BTreeSet<u64>,
    pub(crate) removed: BTreeSet<u64>,
    /// Taken away by an operation that a policy or a mode asked for.
    pub(crate) trashed: BTreeSet<u64>,
    pub(crate) done: BTreeMap<&'static str, usize>,
    traced: bool,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            trees: Trees::new(),
            truth: HashMap::new(),
            mode: Mode::TwoWay,
            conflict: ConflictPolicy::KeepBoth,
            peer: false,
            local_names: NameRules::POSIX,
            remote_names: NameRules::POSIX,
            brake: NO_LIMITS,
            approved: HashSet::new(),
            chosen: HashMap::new(),
            busy: HashSet::new(),
            in_flight: Vec::new(),
            unread: [0, 0],
            names: &["a", "b", "c", "d"],
            tokens: 0,
            serial: 0,
            made: BTreeSet::new(),
            removed: BTreeSet::new(),
            trashed: BTreeSet::new(),
            done: BTreeMap::new(),
            traced: std::env::var_os("PLAN_TRACE").is_some(),
        }
    }

    // ---- contents --------------------------------------------------------------------------

    /// Few sizes, so that contents often differ by hash only.
    fn digest(token: u64) -> Digest {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&token.to_le_bytes());
        Digest { size: 10 + token % 2, hash: ContentHash::Md5(hash) }
    }

    fn token_of(digest: Digest) -> u64 {
        let bytes: [u8; 8] = digest.hash.bytes()[..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn new_token(&mut self) -> u64 {
        self.tokens += 1;
        self.made.insert(self.tokens);
        self.tokens
    }

    fn rev(&mut self) -> Rev {
        self.serial += 1;
        Rev::Stat { mtime_ns: self.serial as i64, ctime_ns: 0 }
    }

    fn item(&mut self) -> ItemId {
        self.serial += 1;
        ItemId::Key(format!("i{}", self.serial).into())
    }

    /// Puts something new on a side. `token` is a file's content.
    pub(crate) fn add(&mut self, side: Side, id: NodeId, at: Placement, token: Option<u64>) {
        let (content, rev) = match token {
            None => (Content::Dir, Rev::FOLDER),
            Some(token) => {
                self.truth.insert((side, id), World::digest(token));
                (Content::Is(World::digest(token)), self.rev())
            }
        };
        let facet = Facet::new(at, content, self.item(), rev);
        self.trees.set_facet(side, id, Some(facet));
        self.trees.settle(id);
    }

    pub(crate) fn create(&mut self, side: Side, at: Placement, token: Option<u64>) -> NodeId {
        let id = self.trees.create(if token.is_some() { Kind::File } else { Kind::Dir });
        self.add(side, id, at, token);
        id
    }

    pub(crate) fn forget_reading(&mut self, side: Side, id: NodeId) {
        let Some(facet) = self.trees.facet(side, id).cloned() else { return };
        let content = Content::Unread { size: facet.content().size() };
        let place = facet.at().clone();
        let mut facet = facet.with_register(place, content);
        facet.rev = self.rev();
        self.trees.set_facet(side, id, Some(facet));
        self.trees.settle(id);
    }

    pub(crate) fn write(&mut self, side: Side, id: NodeId, token: u64) {
        let Some(facet) = self.trees.facet(side, id).cloned() else { return };
        self.truth.insert((side, id), World::digest(token));
        let place = facet.at().clone();
        let mut facet = facet.with_register(place, Content::Is(World::digest(token)));
        facet.rev = self.rev();
        self.trees.set_facet(side, id, Some(facet));
        self.trees.settle(id);
    }

    pub(crate) fn edit(&mut self, side: Side, id: NodeId) {
        if let Some(old) = self.truth.get(&(side, id)) {
            self.removed.insert(World::token_of(*old));
        }
        let token = self.new_token();
        self.write(side, id, token);
    }

    pub(crate) fn relocate(&mut self, side: Side, id: NodeId, to: Placement) {
        let Some(facet) = self.trees.facet(side, id).cloned() else { return };
        let content = *facet.content();
        self.trees.set_facet(side, id, Some(facet.with_register(to, content)));
        self.trees.settle(id);
    }

    pub(crate) fn swap(&mut self, side: Side, a: NodeId, b: NodeId) {
        let (Some(fa), Some(fb)) = (self.trees.facet(side, a), self.trees.facet(side, b)) else {
            return;
        };
        let (fa, fb) = (fa.clone(), fb.clone());
        let (pa, pb) = (fa.at().clone(), fb.at().clone());
        let (ca, cb) = (*fa.content(), *fb.content());
        let edits = vec![(a, Some(fa.with_register(pb, ca))), (b, Some(fb.with_register(pa, cb)))];
        self.trees.set_facets(side, edits);
        self.trees.settle(a);
        self.trees.settle(b);
    }

    /// A user deletes it, with everything in it.
    pub(crate) fn delete(&mut self, side: Side, id: NodeId) {
        let children: Vec<NodeId> = self.trees.children(side, id).map(|(_, id)| id).collect();
        for child in children {
            self.delete(side, child);
        }
        if let Some(digest) = self.truth.remove(&(side, id)) {
            self.removed.insert(World::token_of(digest));
        }
        self.trees.set_facet(side, id, None);
        self.trees.settle(id);
    }

    pub(crate) fn on(&self, side: Side) -> Vec<NodeId> {
        self.trees.ids().filter(|id| self.trees.facet(side, *id).is_some()).collect()
    }

    pub(crate) fn is_free(&self, side: Side, at: &Placement, but: Option<NodeId>) -> bool {
        let rules = if side == Side::Local { &self.local_names } else { &self.remote_names };
        let folds = rules.case == Known::Is(CaseRule::Insensitive);
        let is_taken = |(name, id): (&Name, NodeId)| {
            let alike = name.as_str().to_lowercase() == at.name.as_str().to_lowercase();
            Some(id) != but && (*name == at.name || (folds && alike))
        };
        self.trees.has(side, at.parent)
            && rules.check(&at.name).is_ok()
            && !self.trees.children(side, at.parent).any(is_taken)
    }

    // ---- users -----------------------------------------------------------------------------

    pub(crate) fn user(&mut self, random: &mut Random, side: Side, deeds: &[Deed]) {
        let deed = random.pick(deeds);
        let movable = |id: &NodeId| self.trees.facet(side, *id).is_some_and(|f| f.parked.is_none());
        let ids: Vec<NodeId> = self.on(side).into_iter().filter(movable).collect();
        let mut dirs = vec![NodeId::ROOT];
        dirs.extend(ids.iter().copied().filter(|id| self.trees.kind(*id) == Kind::Dir));
        let place = at(random.pick(&dirs), random.pick(self.names));
        if matches!(deed, Deed::NewFile | Deed::NewDir) {
            if self.is_free(side, &place, None) {
                self.trace(|| format!("user {side} {deed:?} {place:?}"));
                let token = (deed == Deed::NewFile).then(|| self.new_token());
                let id = self.create(side, place, token);
                self.blur(random, side, id);
            }
            return;
        }
        if ids.is_empty() {
            return;
        }
        let id = random.pick(&ids);
        self.trace(|| format!("user {side} {deed:?} {id:?} {place:?}"));
        let is_file = self.trees.kind(id) == Kind::File;
        match deed {
            Deed::NewFile | Deed::NewDir => {}
            Deed::Edit if is_file => {
                self.edit(side, id);
                self.blur(random, side, id);
            }
            Deed::Touch if is_file => self.blur(random, side, id),
            Deed::Edit | Deed::Touch => {}
            Deed::Move => {
                if !self.trees.is_within(side, place.parent, id)
                    && self.is_free(side, &place, Some(id))
                {
                    self.relocate(side, id, place);
                }
            }
            Deed::Swap => {
                let other = random.pick(&ids);
                let nested =
                    self.trees.is_within(side, id, other) || self.trees.is_within(side, other, id);
                if !nested && self.can_swap(side, id, other) {
                    self.swap(side, id, other);
                }
            }
            Deed::Delete => self.delete(side, id),
            Deed::Retype if !self.trees.has_children(side, id) => {
                let place = self.trees.facet(side, id).expect("it is there").at().clone();
                self.delete(side, id);
                let token = random.percent(50).then(|| self.new_token());
                self.create(side, place, token);
            }
            Deed::Retype => {}
        }
    }

    /// Where case is ignored, `a` may not come to lie beside another `A`.
    fn can_swap(&self, side: Side, a: NodeId, b: NodeId) -> bool {
        let place = |id| self.trees.facet(side, id).map(Facet::physical);
        let (Some(of_a), Some(of_b)) = (place(a), place(b)) else { return false };
        self.is_free(side, &of_a, Some(a)) && self.is_free(side, &of_b, Some(b))
    }

    /// Sometimes a change is seen before it is read.
    fn blur(&mut self, random: &mut Random, side: Side, id: NodeId) {
        let chance = self.unread[usize::from(side == Side::Remote)];
        if random.percent(chance) && self.trees.kind(id) == Kind::File {
            self.forget_reading(side, id);
        }
    }

    // ---- plans -----------------------------------------------------------------------------

    pub(crate) fn constraints(&self) -> Constraints<'_> {
        Constraints {
            busy: &self.busy,
            approved: &self.approved,
            chosen: &self.chosen,
            local_names: &self.local_names,
            remote_names: &self.remote_names,
            mode: self.mode,
            conflict: self.conflict,
            peer: self.peer,
            brake: &self.brake,
            recent: Default::default(),
            conflict_mark: MARK,
        }
    }

    /// The plan, checked for what every plan must hold to.
    pub(crate) fn plan(&self) -> Plan {
        let plan = plan(&self.trees, &self.constraints());
        assert_eq!(plan, plan_all(&self.trees, &self.constraints()), "sparse and full plan differ");
        let mut seen = HashSet::new();
        let held: HashSet<NodeId> = plan.holds.iter().map(|hold| hold.node).collect();
        for op in &plan.ops {
            assert!(seen.insert(op.node), "two operations on {:?}", op.node);
            assert!(!self.busy.contains(&op.node), "{op:?} on a busy node");
            assert!(!held.contains(&op.node), "{op:?} on a held node");
            if let Some(source) = self.mode.source() {
                let is_ours = self.trees.facet(source, op.node).is_some_and(|f| f.parked.is_some());
                let harmless = op.side != source || op.action == Action::Learn;
                assert!(harmless || is_ours, "{op:?} on the source");
            }
            assert!(self.mode.deletes() || op.action != Action::Delete, "a backup deletes: {op:?}");
        }
        let braked: HashSet<NodeId> = plan.brakes.iter().flat_map(|b| b.nodes.clone()).collect();
        let on_brake = plan.ops.iter().find(|op| braked.contains(&op.node));
        assert!(on_brake.is_none(), "{on_brake:?} is held by a brake");
        for bind in &plan.binds {
            assert!(!self.busy.contains(&bind.keep) && !self.busy.contains(&bind.newcomer));
        }
        assert!(plan.binds.is_empty() || (plan.ops.is_empty() && plan.holds.is_empty()));
        plan
    }

    /// With `PLAN_TRACE` in the environment, tells what happens.
    fn trace(&self, text: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{}", text());
        }
    }

    pub(crate) fn bind(&mut self, keep: NodeId, newcomer: NodeId) {
        self.trace(|| format!("bind {keep:?} {newcomer:?}"));
        if let Some(digest) = self.truth.remove(&(Side::Remote, newcomer)) {
            self.truth.insert((Side::Remote, keep), digest);
        }
        self.trees.bind(keep, newcomer);
    }

    pub(crate) fn run(&mut self, planned: &Planned) {
        if self.begin(planned)
            && let Some(started) = self.in_flight.pop()
        {
            self.finish(started);
        }
    }

    /// An operation on a version that is no longer there is dropped.
    pub(crate) fn begin(&mut self, planned: &Planned) -> bool {
        let Planned { op, versions } = planned;
        if self.busy.contains(&op.node) || self.versions(op.node) != *versions {
            return false;
        }
        let ours = self.trees.facet(op.side, op.node).cloned();
        let theirs = self.trees.facet(op.side.other(), op.node).cloned();
        self.busy.insert(op.node);
        self.in_flight.push(InFlight { op: op.clone(), ours, theirs });
        true
    }

    fn versions(&self, id: NodeId) -> [Option<Stamp>; 2] {
        Side::BOTH.map(|side| self.trees.facet(side, id).map(Facet::stamp))
    }

    /// Does it, if what it expected still holds.
    pub(crate) fn finish(&mut self, started: InFlight) {
        let InFlight { op, ours, theirs } = started;
        self.busy.remove(&op.node);
        self.trace(|| format!("run {op:?}"));
        if self.trees.get(op.node).is_none() || !self.is_as_expected(&op, &ours, &theirs) {
            return;
        }
        let (node, side) = (op.node, op.side);
        let verb = match &op.action {
            Action::Mkdir { at } => {
                self.add(side, node, at.clone(), None);
                self.agree(node, theirs.as_ref(), at, Content::Dir);
                "mkdir"
            }
            Action::Transfer { at, .. } => {
                self.transfer(&op, at, theirs.as_ref());
                "transfer"
            }
            Action::Move { to } => {
                let Some(mut facet) = ours else { return };
                let content = *facet.content();
                facet.parked = None;
                self.trees.set_facet(side, node, Some(facet.with_register(to.clone(), content)));
                let base = self.trees.base(node).map(|base| base.content);
                if let Some(base) = base {
                    self.agree(node, theirs.as_ref(), to, base);
                }
                "move"
            }
            Action::Park => {
                let Some(mut facet) = ours else { return };
                self.serial += 1;
                facet.parked = Some(name(&format!(".foldsync-{}", self.serial)));
                self.trees.set_facet(side, node, Some(facet));
                "park"
            }
            Action::Delete => {
                if let Some(digest) = self.truth.remove(&(side, node)) {
                    self.trashed.insert(World::token_of(digest));
                }
                self.trees.set_facet(side, node, None);
                "delete"
            }
            Action::KeepBoth { copy } => {
                self.keep_both(side, node, copy);
                "keep both"
            }
            Action::Learn => {
                let Some(facet) = self.trees.facet(side, node).cloned() else { return };
                let (digest, place) = (self.truth[&(side, node)], facet.at().clone());
                let facet = facet.with_register(place, Content::Is(digest));
                self.trees.set_facet(side, node, Some(facet));
                "learn"
            }
        };
        *self.done.entry(verb).or_default() += 1;
        self.trees.settle(node);
    }

    fn is_as_expected(&self, op: &Op, ours: &Option<Facet>, theirs: &Option<Facet>) -> bool {
        let trees = &self.trees;
        let (side, node) = (op.side, op.node);
        let now_ours = trees.facet(side, node);
        let now_theirs = trees.facet(side.other(), node);
        let version = |facet: Option<&Facet>| facet.map(Facet::stamp);
        match &op.action {
            Action::Mkdir { at } => {
                now_ours.is_none() && now_theirs.is_some() && self.is_free(side, at, None)
            }
            Action::Transfer { at, content } => {
                let is_same = theirs.as_ref().is_some_and(|facet| facet.content() == content)
                    && version(now_theirs) == version(theirs.as_ref())
                    && version(now_ours) == version(ours.as_ref());
                let has_place = match now_ours {
                    Some(facet) => facet.physical() == *at,
                    None => self.is_free(side, at, None),
                };
                is_same && has_place
            }
            Action::Move { to } => {
                now_ours == ours.as_ref()
                    && ours.is_some()
                    && self.is_free(side, to, Some(node))
                    && !trees.is_within(side, to.parent, node)
            }
            Action::Park => {
                now_ours == ours.as_ref() && now_ours.is_some_and(|f| f.parked.is_none())
            }
            Action::Delete => {
                let one_way = self.mode.source().is_some();
                now_ours.is_some()
                    && now_ours == ours.as_ref()
                    && (now_theirs.is_none() || one_way)
                    && !trees.has_children(side, node)
            }
            Action::KeepBoth { copy } => {
                now_ours == ours.as_ref()
                    && now_theirs.is_some()
                    && now_ours.is_some_and(|facet| {
                        let to = Placement { parent: facet.at().parent, name: copy.clone() };
                        self.is_free(side, &to, None)
                    })
            }
            Action::Learn => now_ours.is_some() && version(now_ours) == version(ours.as_ref()),
        }
    }

    fn transfer(&mut self, op: &Op, at: &Placement, theirs: Option<&Facet>) {
        let (node, side) = (op.node, op.side);
        let digest = self.truth[&(side.other(), node)];
        let old = self.truth.insert((side, node), digest);
        if let Some(old) = old.filter(|old| *old != digest) {
            self.trashed.insert(World::token_of(old));
        }
        let content = Content::Is(digest);
        match self.trees.facet(side, node).cloned() {
            None => self.add(side, node, at.clone(), Some(World::token_of(digest))),
            Some(facet) => {
                let place = facet.at().clone();
                let mut facet = facet.with_register(place, content);
                facet.rev = self.rev();
                self.trees.set_facet(side, node, Some(facet));
            }
        }
        // What was downloaded has been read.
        if let Some(facet) = self.trees.facet(side.other(), node).cloned() {
            let place = facet.at().clone();
            self.trees.set_facet(side.other(), node, Some(facet.with_register(place, content)));
        }
        self.agree(node, theirs, at, content);
    }

    /// Base after an operation: what both sides had, whatever users did to either meanwhile.
    fn agree(&mut self, node: NodeId, theirs: Option<&Facet>, at: &Placement, content: Content) {
        let Some(theirs) = theirs else { return };
        let place = match self.trees.base(node) {
            _ if theirs.at() == at => at.clone(),
            Some(base) => base.at.clone(),
            None => return,
        };
        self.trees.set_base(node, Some(Register { at: place, content }));
    }

    fn keep_both(&mut self, side: Side, node: NodeId, copy: &Name) {
        assert!(self.peer || side == Side::Local, "nobody sets a version aside on a remote");
        let Some(facet) = self.trees.facet(side, node).cloned() else { return };
        let place = Placement { parent: facet.at().parent, name: copy.clone() };
        let content = *facet.content();
        self.trees.set_facet(side, node, None);
        self.trees.set_base(node, None);
        let id = self.trees.create(Kind::File);
        let mut facet = facet.with_register(place, content);
        facet.parked = None;
        self.trees.set_facet(side, id, Some(facet));
        if let Some(digest) = self.truth.remove(&(side, node)) {
            self.truth.insert((side, id), digest);
        }
    }

    // ---- until nothing is left to do ---------------------------------------------------------

    /// Runs random parts of plans in random order, for at most `rounds`, with users interfering at
    /// that chance (in percent).
    pub(crate) fn meddled(
        &mut self,
        random: &mut Random,
        rounds: usize,
        chance: usize,
        deeds: &[Deed],
    ) {
        for _ in 0..rounds {
            self.make_busy(random);
            let Some(ops) = self.next_ops(random) else { continue };
            let count = 1 + random.below(ops.len());
            for planned in &ops[..count.min(ops.len())] {
                if random.percent(chance) {
                    let side = random.pick(&Side::BOTH);
                    self.user(random, side, deeds);
                }
                if random.percent(chance) {
                    self.begin(planned);
                } else {
                    self.run(planned);
                }
                if random.percent(30) && !self.in_flight.is_empty() {
                    let first = random.below(self.in_flight.len());
                    let started = self.in_flight.swap_remove(first);
                    self.finish(started);
                }
            }
        }
        while let Some(started) = self.in_flight.pop() {
            self.finish(started);
        }
        self.busy.clear();
    }

    /// Nodes are busy for other reasons than an operation, too.
    fn make_busy(&mut self, random: &mut Random) {
        let ids: Vec<NodeId> = self.trees.ids().collect();
        self.busy = self.in_flight.iter().map(|started| started.op.node).collect();
        if !ids.is_empty() && random.percent(30) {
            self.busy.insert(random.pick(&ids));
        }
    }

    /// Applies binds, or gives the operations of a plan in random order.
    fn next_ops(&mut self, random: &mut Random) -> Option<Vec<Planned>> {
        let plan = self.plan();
        if !plan.binds.is_empty() {
            let keep = random.below(plan.binds.len()) + 1;
            for bind in plan.binds.into_iter().take(keep) {
                self.bind(bind.keep, bind.newcomer);
            }
            return None;
        }
        Some(self.shuffled(random, plan.ops))
    }

    fn shuffled(&self, random: &mut Random, mut ops: Vec<Op>) -> Vec<Planned> {
        random.shuffle(&mut ops);
        ops.into_iter().map(|op| self.planned(op)).collect()
    }

    pub(crate) fn planned(&self, op: Op) -> Planned {
        Planned { versions: self.versions(op.node), op }
    }

    /// Runs everything until a plan is empty, and returns that plan.
    pub(crate) fn rest(&mut self, random: &mut Random) -> Plan {
        let nodes = self.trees.ids().count();
        for _ in 0..(40 + 10 * nodes) {
            let plan = self.plan();
            if plan.binds.is_empty() && plan.ops.is_empty() {
                return plan;
            }
            for bind in &plan.binds {
                self.bind(bind.keep, bind.newcomer);
            }
            let ops = self.shuffled(random, plan.ops);
            let count = 1 + random.below(ops.len());
            for op in ops.iter().take(count) {
                self.run(op);
            }
        }
        panic!("no end in sight: {:#?}", self.plan());
    }

    // ---- what must hold ----------------------------------------------------------------------

    pub(crate) fn paths(&self, side: Side) -> Paths {
        let token = |id| self.truth.get(&(side, id)).map(|digest| World::token_of(*digest));
        self.on(side)
            .into_iter()
            .map(|id| (self.trees.path(side, id).expect("a tree").as_str().to_owned(), token(id)))
            .collect()
    }

    pub(crate) fn present(&self) -> BTreeSet<u64> {
        self.truth.values().map(|digest| World::token_of(*digest)).collect()
    }

    pub(crate) fn assert_nothing_lost(&self) {
        let present = self.present();
        let lost: Vec<_> =
            self.made.difference(&self.removed).filter(|t| !present.contains(t)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }

    pub(crate) fn assert_synced(&self, last: &Plan) {
        let (local, remote) = (self.paths(Side::Local), self.paths(Side::Remote));
        assert_eq!(local, remote, "not converged");
        let diverging: Vec<_> =
            self.trees.divergent().iter().map(|id| self.trees.get(*id)).collect();
        assert!(diverging.is_empty(), "diverging: {diverging:#?}");
        assert_eq!((last.waiting, last.holds.len(), last.brakes.len()), (0, 0, 0), "{last:?}");
        let parked = local.keys().find(|path| path.contains(".foldsync-"));
        assert_eq!(parked, None, "a parked name is left");
    }
}
