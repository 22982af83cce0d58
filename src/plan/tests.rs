//! Single decisions of the planner that the tables and the random histories do not pin down.

use super::*;
use crate::tree::names::{AsciiSet, CaseRule, Known, NameProblem};
use crate::tree::{Content, ContentHash, Digest, Facet, ItemId, Kind, Name, Placement, Rev};

const ROOT: NodeId = NodeId::ROOT;
const NO_LIMITS: BrakeLimits =
    BrakeLimits { deletes: BrakeLimit::NONE, changes: BrakeLimit::NONE, lifted: true };
const DEFAULT_LIMITS: BrakeLimits = BrakeLimits {
    deletes: BrakeLimit { share_percent: Some(25), count: Some(1000) },
    changes: BrakeLimit::NONE,
    lifted: false,
};

fn at(parent: NodeId, name: &str) -> Placement {
    Placement { parent, name: Name::new(name).unwrap() }
}

fn is(version: u8) -> Content {
    Content::Is(Digest { size: 3, hash: ContentHash::Md5([version; 16]) })
}

/// Two sides and what a plan has to respect.
struct Pair {
    trees: Trees,
    busy: HashSet<NodeId>,
    approved: HashSet<NodeId>,
    chosen: HashMap<NodeId, Side>,
    names: [NameRules; 2],
    mode: Mode,
    conflict: ConflictPolicy,
    peer: bool,
    brake: BrakeLimits,
    recent: [Recent; 2],
}

impl Pair {
    fn new() -> Pair {
        Pair {
            trees: Trees::new(),
            busy: HashSet::new(),
            approved: HashSet::new(),
            chosen: HashMap::new(),
            names: [NameRules::POSIX, NameRules::POSIX],
            mode: Mode::TwoWay,
            conflict: ConflictPolicy::KeepBoth,
            peer: false,
            brake: NO_LIMITS,
            recent: [Recent::default(); 2],
        }
    }

    fn plan(&self) -> Plan {
        self.constrained(|constraints| {
            let sparse = plan(&self.trees, constraints);
            assert_eq!(sparse, plan_all(&self.trees, constraints));
            sparse
        })
    }

    fn waits(&self) -> Vec<Wait> {
        self.constrained(|constraints| waits(&self.trees, constraints))
    }

    fn constrained<T>(&self, ask: impl FnOnce(&Constraints<'_>) -> T) -> T {
        ask(&Constraints {
            busy: &self.busy,
            approved: &self.approved,
            chosen: &self.chosen,
            local_names: &self.names[0],
            remote_names: &self.names[1],
            mode: self.mode,
            conflict: self.conflict,
            peer: self.peer,
            brake: &self.brake,
            recent: self.recent,
            conflict_mark: "20261121-101500-pc",
        })
    }

    fn put(&mut self, side: Side, id: NodeId, at: Placement, content: Content) {
        self.put_at(side, id, at, content, 0);
    }

    fn put_at(&mut self, side: Side, id: NodeId, at: Placement, content: Content, seconds: i64) {
        let item = ItemId::Key(format!("{id:?}").into());
        let rev = match side {
            Side::Local => Rev::Stat { mtime_ns: seconds * 1_000_000_000, ctime_ns: 0 },
            Side::Remote => Rev::Tag { tag: "t".into(), modified_s: seconds },
        };
        self.trees.set_facet(side, id, Some(Facet::new(at, content, item, rev)));
        self.trees.settle(id);
    }

    fn new_on(&mut self, side: Side, at: Placement, content: Content) -> NodeId {
        let id = self.trees.create(content.kind());
        self.put(side, id, at, content);
        id
    }

    fn agreed(&mut self, at: Placement, content: Content) -> NodeId {
        let id = self.new_on(Side::Local, at.clone(), content);
        self.put(Side::Remote, id, at, content);
        id
    }

    fn remove(&mut self, side: Side, id: NodeId) {
        self.trees.set_facet(side, id, None);
        self.trees.settle(id);
    }

    /// The same pair as its other end sees it.
    fn exchanged(&self) -> Pair {
        let mut other = Pair { peer: self.peer, ..Pair::new() };
        let ids: Vec<NodeId> = self.trees.ids().collect();
        for id in ids {
            let node = self.trees.get(id).unwrap().clone();
            let (local, remote) = (node.remote, node.local);
            other.trees.load(id, crate::tree::Node { local, remote, ..node });
        }
        other
    }

    fn park(&mut self, side: Side, id: NodeId) {
        let mut facet = self.trees.facet(side, id).cloned().unwrap();
        facet.parked = Some(Name::new(&format!(".foldsync-{}", id.get())).unwrap());
        self.trees.set_facet(side, id, Some(facet));
    }
}

fn op(plan: &Plan, node: NodeId) -> Option<&Op> {
    plan.ops.iter().find(|op| op.node == node)
}

fn action(plan: &Plan, node: NodeId) -> Option<&Action> {
    op(plan, node).map(|op| &op.action)
}

// ---- merge -----------------------------------------------------------------------------------

#[test]
fn a_moved_file_that_the_other_side_deleted_is_not_taken_for_the_new_one_in_its_way() {
    let mut pair = Pair::new();
    let moved = pair.agreed(at(ROOT, "g"), is(1));
    pair.put(Side::Local, moved, at(ROOT, "n"), is(1));
    pair.remove(Side::Remote, moved);
    let new = pair.new_on(Side::Remote, at(ROOT, "n"), is(2));
    let plan = pair.plan();
    assert_eq!(plan.binds, []);
    let to = at(ROOT, "n.conflict-20261121-101500-pc");
    assert_eq!(action(&plan, moved), Some(&Action::Move { to }));
    assert_eq!((op(&plan, new), plan.waiting), (None, 1));
}

#[test]
fn a_policy_that_asks_for_times_keeps_both_where_there_is_none_or_they_are_equal() {
    let copied = |local_s, remote_s| {
        let mut pair = Pair::new();
        pair.conflict = ConflictPolicy::Newer;
        let id = pair.agreed(at(ROOT, "a"), is(1));
        pair.put_at(Side::Local, id, at(ROOT, "a"), is(2), local_s);
        pair.put_at(Side::Remote, id, at(ROOT, "a"), is(3), remote_s);
        let plan = pair.plan();
        op(&plan, id).map(|op| (op.side, matches!(op.action, Action::KeepBoth { .. })))
    };
    assert_eq!(copied(20, 10), Some((Side::Remote, false)));
    assert_eq!(copied(10, 20), Some((Side::Local, false)));
    assert_eq!(copied(20, 20), Some((Side::Local, true)));
    // A provider without times.
    assert_eq!(copied(20, 0), Some((Side::Local, true)));
}

#[test]
fn a_content_that_nobody_read_is_never_uploaded() {
    for mode in [Mode::TwoWay, Mode::MirrorUp, Mode::BackupUp] {
        let mut pair = Pair::new();
        pair.mode = mode;
        let new = pair.new_on(Side::Local, at(ROOT, "new"), Content::Unread { size: 9 });
        let edited = pair.agreed(at(ROOT, "edited"), is(1));
        pair.put(Side::Local, edited, at(ROOT, "edited"), Content::Unread { size: 9 });
        let plan = pair.plan();
        for id in [new, edited] {
            let learn = op(&plan, id).map(|op| (op.side, &op.action));
            assert_eq!(learn, Some((Side::Local, &Action::Learn)), "{mode:?}");
        }
    }
}

#[test]
fn a_folder_is_not_made_again_for_a_file_that_may_turn_out_to_be_deleted() {
    let mut pair = Pair::new();
    let dir = pair.agreed(at(ROOT, "d"), Content::Dir);
    let file = pair.agreed(at(dir, "x"), is(1));
    for id in [file, dir] {
        pair.remove(Side::Remote, id);
    }
    pair.put(Side::Local, file, at(dir, "x"), Content::Unread { size: 3 });
    let plan = pair.plan();
    assert_eq!(action(&plan, file), Some(&Action::Learn));
    assert_eq!((op(&plan, dir), plan.waiting), (None, 1));
    // But for one that surely stays it is.
    let sure = pair.new_on(Side::Local, at(dir, "y"), is(2));
    let plan = pair.plan();
    assert_eq!(action(&plan, dir), Some(&Action::Mkdir { at: at(ROOT, "d") }));
    assert_eq!(op(&plan, sure), None);
}

// ---- repair ----------------------------------------------------------------------------------

// MV-14
#[test]
fn breaking_a_cycle_brings_back_the_folder_that_a_node_returns_to() {
    let mut pair = Pair::new();
    let p = pair.agreed(at(ROOT, "P"), Content::Dir);
    let a = pair.agreed(at(p, "A"), Content::Dir);
    let b = pair.agreed(at(ROOT, "B"), Content::Dir);
    pair.put(Side::Local, a, at(b, "A"), Content::Dir);
    pair.remove(Side::Local, p);
    pair.put(Side::Remote, b, at(a, "B"), Content::Dir);
    assert_brought_back(&pair, [p, a, b]);
    // Also if it had been kept already, but only until something in it is read.
    let unread = pair.agreed(at(p, "x"), is(1));
    pair.remove(Side::Local, unread);
    pair.put(Side::Remote, unread, at(p, "x"), Content::Unread { size: 3 });
    assert_brought_back(&pair, [p, a, b]);
}

fn assert_brought_back(pair: &Pair, [p, a, b]: [NodeId; 3]) {
    let plan = pair.plan();
    let made = op(&plan, p).map(|op| (&op.action, op.why));
    assert_eq!(made, Some((&Action::Mkdir { at: at(ROOT, "P") }, Why::NeededByContent)));
    assert_eq!((op(&plan, a), op(&plan, b), plan.waiting), (None, None, 2));
}

#[test]
fn nobody_is_bound_or_renamed_while_a_claimant_of_the_name_is_busy() {
    let mut pair = Pair::new();
    let here = pair.new_on(Side::Local, at(ROOT, "n"), is(1));
    let there = pair.new_on(Side::Remote, at(ROOT, "n"), is(1));
    assert_eq!(pair.plan().binds, [Bind { keep: here, newcomer: there }]);
    for busy in [here, there] {
        pair.busy = HashSet::from([busy]);
        let plan = pair.plan();
        assert_eq!((plan.binds.len(), plan.ops.len(), plan.waiting), (0, 0, 2));
    }
    pair.busy.clear();
    pair.put(Side::Local, here, at(ROOT, "n"), is(2));
    pair.busy.insert(there);
    assert_eq!(pair.plan().ops, []);
}

#[test]
fn a_lent_name_is_not_taken_back_from_whom_both_sides_have_there() {
    let mut pair = Pair::new();
    let lender = pair.agreed(at(ROOT, "n"), is(1));
    pair.park(Side::Local, lender);
    pair.remove(Side::Remote, lender);
    pair.put(Side::Local, lender, at(ROOT, "n"), is(2));
    pair.park(Side::Local, lender);
    let borrower = pair.agreed(at(ROOT, "n"), is(3));
    assert!(!pair.trees.divergent().contains(&borrower));
    let plan = pair.plan();
    let to = at(ROOT, "n.conflict-20261121-101500-pc");
    assert_eq!(action(&plan, lender), Some(&Action::Move { to }));
    assert_eq!(op(&plan, borrower), None);
}

// EE-06
#[test]
fn a_copy_gets_a_name_that_is_free_on_both_sides_and_in_the_plan() {
    let mut pair = Pair::new();
    let first = "a.conflict-20261121-101500-pc.txt";
    let a = pair.agreed(at(ROOT, "a.txt"), is(1));
    let copy = pair.agreed(at(ROOT, first), is(1));
    pair.new_on(Side::Local, at(ROOT, "a.conflict-20261121-101500-pc-2.txt"), is(4));
    pair.new_on(Side::Remote, at(ROOT, "a.conflict-20261121-101500-pc-3.txt"), is(5));
    for id in [a, copy] {
        let place = pair.trees.base(id).unwrap().at.clone();
        pair.put(Side::Local, id, place.clone(), is(2));
        pair.put(Side::Remote, id, place, is(3));
    }
    let plan = pair.plan();
    let name = |id| match action(&plan, id) {
        Some(Action::KeepBoth { copy }) => copy.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(a), "a.conflict-20261121-101500-pc-4.txt");
    assert_eq!(name(copy), "a.conflict-20261121-101500-pc-5.txt");
}

// Found by a random history: the copy got another name in every plan.
#[test]
fn a_copy_that_has_its_name_on_one_side_keeps_it() {
    let mut pair = Pair::new();
    let copy = "n.conflict-20261121-101500-pc";
    pair.new_on(Side::Local, at(ROOT, "n"), Content::Dir);
    let file = pair.new_on(Side::Remote, at(ROOT, "n"), is(1));
    pair.put(Side::Local, file, at(ROOT, copy), is(1));
    let plan = pair.plan();
    let done = op(&plan, file).map(|op| (op.side, &op.action));
    assert_eq!(done, Some((Side::Remote, &Action::Move { to: at(ROOT, copy) })));
}

// EE-11
#[test]
fn a_copy_is_named_within_the_stricter_limit() {
    let mut pair = Pair::new();
    pair.names[1].bytes_max = 60;
    let id = pair.agreed(at(ROOT, &format!("{}.txt", "x".repeat(56))), is(1));
    let place = pair.trees.base(id).unwrap().at.clone();
    pair.put(Side::Local, id, place.clone(), is(2));
    pair.put(Side::Remote, id, place, is(3));
    let plan = pair.plan();
    let Some(Action::KeepBoth { copy }) = action(&plan, id) else { panic!("{plan:?}") };
    assert_eq!(copy.as_str().len(), 60);
    assert!(copy.as_str().ends_with(".conflict-20261121-101500-pc.txt"));
}

// ---- names -----------------------------------------------------------------------------------

// NM-25
#[test]
fn a_name_that_the_other_side_cannot_hold_is_held_with_everything_below_it() {
    let mut pair = Pair::new();
    pair.names[1].forbidden = AsciiSet::EMPTY.with('?');
    let dir = pair.new_on(Side::Local, at(ROOT, "d?"), Content::Dir);
    pair.new_on(Side::Local, at(dir, "x"), is(1));
    let plan = pair.plan();
    let reason = HoldReason::Name(NameProblem::Forbidden('?'));
    assert_eq!(plan.holds, [Hold { node: dir, side: Side::Remote, reason }]);
    assert_eq!((plan.ops.len(), plan.waiting), (0, 1));
    pair.put(Side::Local, dir, at(ROOT, "d"), Content::Dir);
    assert_eq!(action(&pair.plan(), dir), Some(&Action::Mkdir { at: at(ROOT, "d") }));
}

#[test]
fn a_name_that_a_side_has_already_is_not_held() {
    let mut pair = Pair::new();
    pair.names[1].bytes_max = 3;
    let id = pair.agreed(at(ROOT, "long name"), is(1));
    pair.put(Side::Local, id, at(ROOT, "long name"), is(2));
    let plan = pair.plan();
    assert_eq!(plan.holds, []);
    assert!(matches!(action(&plan, id), Some(Action::Transfer { .. })));
}

// NM-18
#[test]
fn of_names_that_a_side_takes_for_one_the_bound_one_stays_else_the_older_one() {
    let mut pair = Pair::new();
    pair.names[1].case = Known::Is(CaseRule::Insensitive);
    let dir = pair.agreed(at(ROOT, "d"), Content::Dir);
    let bound = pair.agreed(at(dir, "readme"), is(1));
    let beside_bound = pair.new_on(Side::Local, at(dir, "README"), is(2));
    let older = pair.new_on(Side::Local, at(dir, "makefile"), is(3));
    let newer = pair.new_on(Side::Local, at(dir, "Makefile"), is(4));
    let plan = pair.plan();
    let collides =
        |node, with| Hold { node, side: Side::Remote, reason: HoldReason::Collides { with } };
    assert_eq!(plan.holds, [collides(beside_bound, bound), collides(newer, older)]);
    assert_eq!(plan.ops.iter().map(|op| op.node).collect::<Vec<_>>(), [older]);
}

#[test]
fn two_claims_to_the_very_same_name_are_compared_and_not_held() {
    let mut pair = Pair::new();
    pair.names[1].case = Known::Is(CaseRule::Insensitive);
    let here = pair.new_on(Side::Local, at(ROOT, "n"), is(1));
    let there = pair.new_on(Side::Remote, at(ROOT, "n"), Content::Unread { size: 3 });
    let plan = pair.plan();
    assert_eq!((plan.holds.len(), action(&plan, there)), (0, Some(&Action::Learn)));
    assert_eq!((op(&plan, here), plan.waiting), (None, 1));
}

#[test]
fn a_side_whose_case_rule_nobody_knows_is_taken_to_tell_names_apart() {
    let mut pair = Pair::new();
    pair.names[1].case = Known::Unknown;
    pair.new_on(Side::Local, at(ROOT, "a"), is(1));
    pair.new_on(Side::Local, at(ROOT, "A"), is(2));
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.holds.len()), (2, 0));
}

// ---- diff ------------------------------------------------------------------------------------

#[test]
fn both_versions_are_kept_only_once_the_file_has_its_place_on_both_sides() {
    let mut pair = Pair::new();
    let file = pair.agreed(at(ROOT, "a"), is(1));
    let in_the_way = pair.agreed(at(ROOT, "b"), is(4));
    pair.remove(Side::Local, in_the_way);
    pair.put(Side::Local, file, at(ROOT, "b"), is(2));
    pair.put(Side::Remote, file, at(ROOT, "a"), is(3));
    pair.busy.insert(in_the_way);
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.waiting), (0, 2));
    pair.remove(Side::Remote, in_the_way);
    assert_eq!(action(&pair.plan(), file), Some(&Action::Move { to: at(ROOT, "b") }));
    pair.put(Side::Remote, file, at(ROOT, "b"), is(3));
    assert!(matches!(action(&pair.plan(), file), Some(Action::KeepBoth { .. })));
}

#[test]
fn a_busy_occupant_is_waited_for_and_nobody_is_parked_for_it() {
    let mut pair = Pair::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| pair.agreed(at(ROOT, name), is(1)));
    // a to b, b to c, c to a: a ring, but one of its members is at work.
    let moves = [(a, "b"), (b, "c"), (c, "a")];
    let edits = moves.map(|(id, to)| {
        let facet = pair.trees.facet(Side::Remote, id).cloned().unwrap();
        (id, Some(facet.with_register(at(ROOT, to), is(1))))
    });
    pair.trees.set_facets(Side::Remote, edits.to_vec());
    pair.busy.insert(b);
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.waiting), (0, 3));
    pair.busy.clear();
    let plan = pair.plan();
    let parked: Vec<_> = plan.ops.iter().map(|op| (op.node, &op.action)).collect();
    assert_eq!((parked, plan.waiting), (vec![(a, &Action::Park)], 2));
}

#[test]
fn every_ring_is_untied_at_once() {
    let mut pair = Pair::new();
    for n in 0..40 {
        let names = [format!("a{n}"), format!("b{n}")];
        let ids = names.clone().map(|name| pair.agreed(at(ROOT, &name), is(1)));
        let swapped = [(ids[0], &names[1]), (ids[1], &names[0])].map(|(id, to)| {
            let facet = pair.trees.facet(Side::Local, id).cloned().unwrap();
            (id, Some(facet.with_register(at(ROOT, to), is(1))))
        });
        pair.trees.set_facets(Side::Local, swapped.to_vec());
    }
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.waiting), (40, 40));
    assert!(plan.ops.iter().all(|op| op.side == Side::Remote && op.action == Action::Park));
}

#[test]
fn a_deletion_that_a_brake_holds_is_not_parked_to_get_at_its_name() {
    let mut pair = Pair::new();
    pair.brake = deletes_from(0);
    let dir = pair.agreed(at(ROOT, "d"), Content::Dir);
    let old = pair.agreed(at(dir, "x"), is(1));
    pair.agreed(at(ROOT, "other"), is(1));
    for id in [old, dir] {
        pair.remove(Side::Local, id);
    }
    let new = pair.new_on(Side::Local, at(ROOT, "d"), is(2));
    let plan = pair.plan();
    assert_eq!(plan.brakes.len(), 1);
    assert_eq!((plan.ops.len(), plan.waiting, op(&plan, new)), (0, 1, None));
}

#[test]
fn structure_comes_before_transfers_and_each_in_the_order_of_nodes() {
    let mut pair = Pair::new();
    let file = pair.new_on(Side::Local, at(ROOT, "f"), is(1));
    let unread = pair.new_on(Side::Local, at(ROOT, "u"), Content::Unread { size: 1 });
    let dir = pair.new_on(Side::Remote, at(ROOT, "d"), Content::Dir);
    let gone = pair.agreed(at(ROOT, "gone"), is(1));
    pair.remove(Side::Remote, gone);
    let order: Vec<_> = pair.plan().ops.iter().map(|op| op.node).collect();
    assert_eq!(order, [dir, gone, unread, file]);
}

#[test]
fn a_long_chain_of_renames_needs_no_stack_and_no_parking() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..20_000).map(|n| pair.agreed(at(ROOT, &format!("f{n}")), is(1))).collect();
    let shifted = ids.iter().enumerate().map(|(n, id)| {
        let facet = pair.trees.facet(Side::Remote, *id).cloned().unwrap();
        (*id, Some(facet.with_register(at(ROOT, &format!("f{}", n + 1)), is(1))))
    });
    let shifted = shifted.collect();
    pair.trees.set_facets(Side::Remote, shifted);
    let plan = pair.plan();
    let to = at(ROOT, "f20000");
    assert_eq!(plan.ops.iter().map(|op| &op.action).collect::<Vec<_>>(), [&Action::Move { to }]);
    assert_eq!(plan.waiting, 19_999);
}

// ---- one way ---------------------------------------------------------------------------------

#[test]
fn a_mirror_takes_over_what_is_there_instead_of_deleting_it_first() {
    let mut pair = Pair::new();
    pair.mode = Mode::MirrorUp;
    let dir = pair.new_on(Side::Local, at(ROOT, "d"), Content::Dir);
    pair.new_on(Side::Local, at(dir, "x"), is(1));
    let there = pair.new_on(Side::Remote, at(ROOT, "d"), Content::Dir);
    pair.new_on(Side::Remote, at(there, "x"), is(2));
    assert_eq!(pair.plan().binds, [Bind { keep: dir, newcomer: there }]);
}

#[test]
fn a_mirror_deletes_nothing_below_a_folder_that_could_not_be_listed_at_its_source() {
    let mut pair = Pair::new();
    pair.mode = Mode::MirrorUp;
    let unlisted = pair.new_on(Side::Local, at(ROOT, "d"), Content::Dir);
    let there = pair.new_on(Side::Remote, at(ROOT, "d"), Content::Dir);
    let below = pair.new_on(Side::Remote, at(there, "e"), Content::Dir);
    pair.new_on(Side::Remote, at(below, "x"), is(2));
    pair.busy.insert(unlisted);
    let plan = pair.plan();
    assert_eq!((plan.binds.len(), plan.ops.len(), plan.waiting), (0, 0, 4));
}

// Found by a random history that changed its mode half-way.
#[test]
fn a_source_gets_back_a_name_that_an_earlier_mode_parked_there() {
    let mut pair = Pair::new();
    pair.mode = Mode::MirrorUp;
    let id = pair.agreed(at(ROOT, "a"), is(1));
    pair.park(Side::Local, id);
    let plan = pair.plan();
    let given = op(&plan, id).map(|op| (op.side, &op.action));
    assert_eq!(given, Some((Side::Local, &Action::Move { to: at(ROOT, "a") })));
}

#[test]
fn a_backup_leaves_what_its_source_deleted_and_does_not_wait_for_it() {
    let mut pair = Pair::new();
    pair.mode = Mode::BackupUp;
    pair.brake = deletes_from(0);
    for name in ["a", "b"] {
        let id = pair.agreed(at(ROOT, name), is(1));
        pair.remove(Side::Local, id);
    }
    assert_eq!(pair.plan(), Plan::default());
}

// ---- brake -----------------------------------------------------------------------------------

/// Deletions of more files than that are held.
fn deletes_from(count: u64) -> BrakeLimits {
    let deletes = BrakeLimit { share_percent: None, count: Some(count) };
    BrakeLimits { deletes, changes: BrakeLimit::NONE, lifted: false }
}

/// `total` files in a folder, of which local deleted the first `deleted`.
fn deleted(total: usize, deleted: usize, brake: BrakeLimits) -> (Pair, Vec<NodeId>) {
    let mut pair = Pair::new();
    pair.brake = brake;
    let dir = pair.agreed(at(ROOT, "d"), Content::Dir);
    let ids: Vec<_> = (0..total).map(|n| pair.agreed(at(dir, &format!("f{n}")), is(1))).collect();
    for id in &ids[..deleted] {
        pair.remove(Side::Local, *id);
    }
    (pair, ids)
}

// POL-11
#[test]
fn a_share_of_the_files_is_held_from_ten_on() {
    let held = |total, gone| !deleted(total, gone, DEFAULT_LIMITS).0.plan().brakes.is_empty();
    assert!(!held(12, 9), "nine of twelve");
    assert!(!held(40, 10), "a quarter is not more than a quarter");
    assert!(held(39, 10));
}

#[test]
fn a_number_of_files_is_held_whatever_their_share() {
    let limits = deletes_from(3);
    assert_eq!(deleted(100, 3, limits.clone()).0.plan().brakes, []);
    let (pair, ids) = deleted(100, 4, limits);
    let plan = pair.plan();
    let brake = Brake {
        side: Side::Remote,
        reason: BrakeReason::TooManyDeletes,
        nodes: ids[..4].to_vec(),
        files: 4,
    };
    assert_eq!((plan.brakes, plan.ops, plan.waiting), (vec![brake], vec![], 0));
}

#[test]
fn a_brake_holds_deletions_only() {
    let limits = deletes_from(0);
    let (mut pair, ids) = deleted(5, 2, limits);
    let dir = pair.trees.base(ids[0]).unwrap().at.parent;
    pair.put(Side::Local, ids[3], at(ROOT, "moved"), is(1));
    let new = pair.new_on(Side::Remote, at(dir, "new"), is(2));
    let plan = pair.plan();
    assert_eq!(plan.ops.iter().map(|op| op.node).collect::<Vec<_>>(), [ids[3], new]);
}

#[test]
fn an_approval_covers_its_nodes_and_not_what_comes_next() {
    let limits = deletes_from(1);
    let (mut pair, ids) = deleted(20, 3, limits);
    pair.approved = pair.plan().brakes[0].nodes.iter().copied().collect();
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.brakes.len()), (3, 0));
    for id in &ids[3..6] {
        pair.remove(Side::Local, *id);
    }
    let plan = pair.plan();
    assert_eq!((plan.ops.len(), plan.brakes[0].nodes.clone()), (3, ids[3..6].to_vec()));
}

#[test]
fn an_emptied_root_is_held_however_small_it_was() {
    let mut pair = Pair::new();
    pair.brake =
        BrakeLimits { deletes: BrakeLimit::NONE, changes: BrakeLimit::NONE, lifted: false };
    let [a, b] = ["a", "b"].map(|name| pair.agreed(at(ROOT, name), is(1)));
    pair.remove(Side::Remote, a);
    assert_eq!(pair.plan().brakes, []);
    pair.remove(Side::Remote, b);
    let plan = pair.plan();
    assert_eq!(plan.brakes[0].reason, BrakeReason::RootEmptied);
    assert_eq!((plan.brakes[0].side, plan.ops.len()), (Side::Local, 0));
    pair.brake.lifted = true;
    assert_eq!(pair.plan().ops.len(), 2);
}

#[test]
fn a_root_with_a_single_entry_may_be_emptied() {
    let mut pair = Pair::new();
    pair.brake = DEFAULT_LIMITS;
    let only = pair.agreed(at(ROOT, "only"), is(1));
    pair.remove(Side::Remote, only);
    assert_eq!(action(&pair.plan(), only), Some(&Action::Delete));
}

#[test]
fn replaced_and_moved_files_are_no_deletions() {
    let mut pair = Pair::new();
    pair.brake = BrakeLimits {
        deletes: BrakeLimit { share_percent: Some(0), count: Some(0) },
        changes: BrakeLimit::NONE,
        lifted: false,
    };
    let target = pair.agreed(at(ROOT, "target"), Content::Dir);
    for n in 0..30 {
        let id = pair.agreed(at(ROOT, &format!("f{n}")), is(1));
        pair.put(Side::Local, id, at(target, &format!("f{n}")), is(2));
    }
    let plan = pair.plan();
    assert_eq!((plan.brakes.len(), plan.ops.len()), (0, 30));
    assert_eq!(pair.trees.kind(target), Kind::Dir);
}

// SF-15
#[test]
fn many_small_portions_of_a_day_count_together() {
    let (mut pair, _) = deleted(200, 20, DEFAULT_LIMITS);
    assert_eq!(pair.plan().brakes, []);
    pair.recent[1].deletes = 90;
    assert_eq!(pair.plan().brakes.len(), 1);
    // Those of the other side do not.
    pair.recent = [Recent { deletes: 90, changes: 0 }, Recent::default()];
    assert_eq!(pair.plan().brakes, []);
}

/// A pair of `total` files in which a side edited the first `edited`, and the share of changes that
/// is let through.
fn edited(total: usize, edited: usize, side: Side, percent: u32) -> (Pair, Vec<NodeId>) {
    let (mut pair, ids) = deleted(total, 0, DEFAULT_LIMITS);
    pair.brake.changes = BrakeLimit { share_percent: Some(percent), count: None };
    for id in &ids[..edited] {
        let place = pair.trees.base(*id).unwrap().at.clone();
        pair.put(side, *id, place, is(2));
    }
    (pair, ids)
}

// SF-11, CR-26
#[test]
fn a_mass_of_edits_is_held_where_that_is_asked_for() {
    for side in Side::BOTH {
        assert_eq!(edited(100, 30, side, 30).0.plan().brakes, []);
        let (mut pair, ids) = edited(100, 31, side, 30);
        let new = pair.new_on(side, at(ROOT, "new"), is(3));
        let plan = pair.plan();
        let brake = Brake {
            side: side.other(),
            reason: BrakeReason::TooManyChanges,
            nodes: ids[..31].to_vec(),
            files: 31,
        };
        assert_eq!(plan.brakes, [brake]);
        assert_eq!(plan.ops.iter().map(|op| op.node).collect::<Vec<_>>(), [new], "{side}");
        pair.approved = plan.brakes[0].nodes.iter().copied().collect();
        assert_eq!(pair.plan().ops.len(), 32);
        // A person may choose the old versions as well.
        pair.chosen = pair.approved.iter().map(|id| (*id, side.other())).collect();
        let back = |op: &&Op| op.node != new && op.side == side && op.why == Why::Chosen;
        assert_eq!(pair.plan().ops.iter().filter(back).count(), 31);
        pair.approved.clear();
        pair.chosen.clear();
        pair.brake.changes = BrakeLimit::NONE;
        assert_eq!(pair.plan().ops.len(), 32, "nobody asked for it");
    }
}

// SF-11
#[test]
fn edits_that_come_bit_by_bit_are_a_mass_too() {
    let (mut pair, _) = edited(400, 10, Side::Local, 30);
    pair.recent[1].changes = 110;
    assert_eq!(pair.plan().brakes, []);
    pair.recent[1].changes = 111;
    assert_eq!(pair.plan().brakes[0].reason, BrakeReason::TooManyChanges);
    pair.recent = [Recent { deletes: 0, changes: 111 }, Recent::default()];
    assert_eq!(pair.plan().brakes, [], "they were on the other side");
}

#[test]
fn files_that_both_sides_keep_are_no_mass_of_edits() {
    let (mut pair, ids) = edited(20, 20, Side::Local, 0);
    for id in &ids {
        let place = pair.trees.base(*id).unwrap().at.clone();
        pair.put(Side::Remote, *id, place, is(3));
    }
    let plan = pair.plan();
    assert_eq!((plan.brakes, plan.ops.len()), (vec![], 20), "both versions are kept");
}

// ---- two ends that decide alike --------------------------------------------------------------

/// What is done about a node, from both ends, as the first end would say it.
fn both_ends(pair: &Pair, id: NodeId) -> [Option<(Side, Action)>; 2] {
    let ours = pair.plan();
    let theirs = pair.exchanged().plan();
    let ours = op(&ours, id).map(|op| (op.side, op.action.clone()));
    [ours, op(&theirs, id).map(|op| (op.side.other(), op.action.clone()))]
}

fn peers() -> Pair {
    Pair { peer: true, ..Pair::new() }
}

#[test]
fn at_both_ends_the_later_version_keeps_the_name_else_the_one_with_the_greater_hash() {
    let loser = |local: (u8, i64), remote: (u8, i64)| {
        let mut pair = peers();
        let id = pair.agreed(at(ROOT, "a"), is(1));
        pair.put_at(Side::Local, id, at(ROOT, "a"), is(local.0), local.1);
        pair.put_at(Side::Remote, id, at(ROOT, "a"), is(remote.0), remote.1);
        let [ours, theirs] = both_ends(&pair, id);
        assert_eq!(ours, theirs);
        let (side, action) = ours.unwrap();
        assert!(matches!(action, Action::KeepBoth { .. }), "{action:?}");
        side
    };
    assert_eq!(loser((2, 20), (3, 10)), Side::Remote);
    assert_eq!(loser((2, 10), (3, 20)), Side::Local);
    assert_eq!(loser((3, 10), (2, 10)), Side::Remote);
    assert_eq!(loser((2, 10), (3, 10)), Side::Local);
}

#[test]
fn times_that_one_end_sees_in_whole_seconds_are_compared_in_whole_seconds() {
    let facet = |version, mtime_ns| {
        let item = ItemId::Key("k".into());
        Facet::new(at(ROOT, "a"), is(version), item, Rev::Stat { mtime_ns, ctime_ns: 0 })
    };
    let winner = |a, b| peer::content(&facet(2, a), &facet(3, b));
    assert_eq!(winner(5_300_000_000, 5_200_000_000), Ok(Side::Local));
    // Both ends see one of the two in whole seconds, each another one.
    assert_eq!(winner(5_300_000_000, 5_000_000_000), Ok(Side::Remote), "the greater hash");
    assert_eq!(winner(5_000_000_000, 5_200_000_000), Ok(Side::Remote), "the greater hash");
    assert_eq!(winner(6_000_000_000, 5_900_000_000), Ok(Side::Local));
    assert_eq!(winner(-500_000_000, -1_000_000_000), Ok(Side::Remote), "the same second");
}

#[test]
fn a_hash_that_decides_is_read_first() {
    let mut pair = peers();
    let id = pair.agreed(at(ROOT, "a"), is(1));
    pair.put_at(Side::Local, id, at(ROOT, "a"), is(2), 10);
    pair.put_at(Side::Remote, id, at(ROOT, "a"), Content::Unread { size: 9 }, 10);
    assert_eq!(both_ends(&pair, id)[0], Some((Side::Remote, Action::Learn)));
    pair.put_at(Side::Remote, id, at(ROOT, "a"), Content::Unread { size: 9 }, 11);
    assert!(matches!(both_ends(&pair, id)[0], Some((Side::Local, Action::KeepBoth { .. }))));
}

// MV-10
#[test]
fn of_two_renames_both_ends_keep_the_greater_path() {
    for (local, remote, kept) in [("b", "c", "c"), ("d", "c", "d"), ("é", "e\u{301}", "é")] {
        let mut pair = peers();
        let id = pair.agreed(at(ROOT, "a"), is(1));
        pair.put(Side::Local, id, at(ROOT, local), is(1));
        pair.put(Side::Remote, id, at(ROOT, remote), is(1));
        let [ours, theirs] = both_ends(&pair, id);
        assert_eq!(ours, theirs);
        assert_eq!(ours.unwrap().1, Action::Move { to: at(ROOT, kept) });
    }
}

#[test]
fn two_things_that_want_one_name_lose_it_alike_at_both_ends() {
    let mut pair = peers();
    let moved = pair.agreed(at(ROOT, "x"), is(1));
    pair.put_at(Side::Local, moved, at(ROOT, "n"), is(1), 20);
    pair.put_at(Side::Remote, moved, at(ROOT, "x"), is(1), 20);
    let new = pair.trees.create(Kind::File);
    let loser = |pair: &Pair| {
        let losers = [moved, new].map(|id| {
            // Each end begins with its own side; where the item goes is the same.
            let actions = both_ends(pair, id).map(|end| end.map(|(_, action)| action));
            assert_eq!(actions[0], actions[1], "{id:?}");
            let [action, _] = actions;
            matches!(action, Some(Action::Move { to }) if conflict_name::is_copy(&to.name))
        });
        if losers[0] { moved } else { new }
    };
    pair.put_at(Side::Remote, new, at(ROOT, "n"), is(2), 30);
    assert_eq!(loser(&pair), moved, "the later one keeps the name");
    pair.put_at(Side::Remote, new, at(ROOT, "n"), is(2), 10);
    assert_eq!(loser(&pair), new);
}

// MV-14
#[test]
fn folders_that_were_moved_into_one_another_are_untied_alike_at_both_ends() {
    let mut pair = peers();
    let a = pair.agreed(at(ROOT, "A"), Content::Dir);
    let b = pair.agreed(at(ROOT, "B"), Content::Dir);
    pair.put(Side::Local, a, at(b, "A"), Content::Dir);
    pair.put(Side::Remote, b, at(a, "B"), Content::Dir);
    // "B/A" is greater than "A": what local did counts, and the remote takes its move back first.
    for id in [a, b] {
        let [ours, theirs] = both_ends(&pair, id);
        assert_eq!(ours, theirs, "{id:?}");
    }
    assert_eq!(both_ends(&pair, b)[0], Some((Side::Remote, Action::Move { to: at(ROOT, "B") })));
}

// ---- one copy of a content -------------------------------------------------------------------

const COPY: &str = "a.conflict-20200101-000000-lap.txt";

/// A file that both sides changed: 2 here, 3 there.
fn conflict() -> (Pair, NodeId) {
    let mut pair = Pair::new();
    let id = pair.agreed(at(ROOT, "a.txt"), is(1));
    pair.put(Side::Local, id, at(ROOT, "a.txt"), is(2));
    pair.put(Side::Remote, id, at(ROOT, "a.txt"), is(3));
    (pair, id)
}

// EE-07
#[test]
fn a_version_that_has_a_copy_already_is_replaced_without_another_one() {
    let replaced = Action::Transfer { at: at(ROOT, "a.txt"), content: is(3) };
    for side in Side::BOTH {
        let (mut pair, id) = conflict();
        pair.new_on(side, at(ROOT, COPY), is(2));
        let plan = pair.plan();
        let done = op(&plan, id).map(|op| (op.side, &op.action, op.why));
        assert_eq!(done, Some((Side::Local, &replaced, Why::BothEdited)), "{side}");
    }
    for other in [at(ROOT, "b.conflict-20200101-000000-lap.txt"), at(ROOT, "a 2.txt")] {
        let (mut pair, id) = conflict();
        pair.agreed(other, is(2));
        assert!(matches!(action(&pair.plan(), id), Some(Action::KeepBoth { .. })));
    }
}

#[test]
fn a_copy_that_is_about_to_change_or_go_counts_for_nothing() {
    let makes_another = |change: &dyn Fn(&mut Pair, NodeId)| {
        let (mut pair, id) = conflict();
        let copy = pair.agreed(at(ROOT, COPY), is(2));
        assert!(matches!(action(&pair.plan(), id), Some(Action::Transfer { .. })));
        change(&mut pair, copy);
        matches!(action(&pair.plan(), id), Some(Action::KeepBoth { .. }))
    };
    assert!(makes_another(&|pair, copy| pair.remove(Side::Remote, copy)));
    assert!(makes_another(&|pair, copy| pair.put(Side::Remote, copy, at(ROOT, COPY), is(4))));
    assert!(makes_another(&|pair, copy| pair.put(Side::Local, copy, at(ROOT, "mine"), is(2))));
}

#[test]
fn a_copy_that_nobody_has_read_is_read_if_it_may_be_the_one() {
    let (mut pair, id) = conflict();
    let copy = pair.new_on(Side::Remote, at(ROOT, COPY), Content::Unread { size: 3 });
    let plan = pair.plan();
    assert_eq!(action(&plan, copy), Some(&Action::Learn));
    assert_eq!(op(&plan, id), None);
    pair.put(Side::Remote, copy, at(ROOT, COPY), Content::Unread { size: 4 });
    assert!(matches!(action(&pair.plan(), id), Some(Action::KeepBoth { .. })));
}

#[test]
fn what_loses_its_name_and_has_a_copy_goes_to_the_trash() {
    let mut pair = Pair { brake: DEFAULT_LIMITS, ..Pair::new() };
    pair.new_on(Side::Local, at(ROOT, "a.txt"), Content::Dir);
    let file = pair.new_on(Side::Remote, at(ROOT, "a.txt"), is(2));
    assert!(matches!(action(&pair.plan(), file), Some(Action::Move { .. })));
    let copy = pair.new_on(Side::Local, at(ROOT, COPY), is(2));
    let plan = pair.plan();
    let done = op(&plan, file).map(|op| (op.side, &op.action, op.why));
    assert_eq!(done, Some((Side::Remote, &Action::Delete, Why::HasCopy)));
    assert!(matches!(action(&plan, copy), Some(Action::Transfer { .. })));
    assert_eq!(plan.brakes, []);
}

// ---- what waits ------------------------------------------------------------------------------

#[test]
fn what_waits_says_for_whom_it_waits_in_the_end_and_whether_for_a_name() {
    let mut pair = Pair::new();
    let kept = pair.agreed(at(ROOT, "d"), Content::Dir);
    let inner = pair.agreed(at(kept, "in"), Content::Dir);
    let moved = pair.agreed(at(ROOT, "e"), Content::Dir);
    let new = pair.new_on(Side::Local, at(moved, "new"), is(1));
    pair.remove(Side::Remote, inner);
    pair.remove(Side::Remote, kept);
    pair.busy = HashSet::from([inner]);
    let for_name = |node, for_name| Wait { node, side: Side::Local, holder: inner, for_name };
    assert_eq!(pair.waits(), [for_name(kept, false)], "only its own subfolder is in its way");
    pair.put(Side::Remote, moved, at(ROOT, "d"), Content::Dir);
    assert_eq!(pair.waits(), [for_name(kept, false), for_name(moved, true)]);
    assert!(op(&pair.plan(), new).is_some(), "nobody else waits");
    // Nothing is in the way of what runs, or is untied.
    pair.busy.clear();
    assert_eq!(pair.waits(), []);
    pair.put(Side::Remote, moved, at(ROOT, "e"), Content::Dir);
    let (a, b) = (pair.agreed(at(ROOT, "a"), is(2)), pair.agreed(at(ROOT, "b"), is(3)));
    pair.remove(Side::Remote, b);
    pair.put(Side::Remote, a, at(ROOT, "b"), is(2));
    pair.put(Side::Remote, b, at(ROOT, "a"), is(3));
    assert_eq!(pair.waits(), []);
}

#[test]
fn what_waits_for_something_that_is_held_names_it() {
    let mut pair = Pair::new();
    pair.names[1].forbidden = AsciiSet::EMPTY.with(':');
    let folder = pair.new_on(Side::Local, at(ROOT, "a:b"), Content::Dir);
    let file = pair.new_on(Side::Local, at(folder, "f"), is(1));
    let wait = Wait { node: file, side: Side::Remote, holder: folder, for_name: false };
    assert_eq!(pair.waits(), [wait]);
}
