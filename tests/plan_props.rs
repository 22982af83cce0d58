//! Random histories: one tree changed on both sides, plans run in part and in any order, users
//! interfering, operations in flight. `PLAN_CASES` sets how many, `PLAN_SEED` replays one.

mod plan_world;

use foldsync::plan::{Action, BrakeLimit, BrakeLimits, ConflictPolicy, Mode};
use foldsync::tree::names::{AsciiSet, CaseRule, Known};
use foldsync::tree::{Kind, NodeId, Side};
use plan_world::{ALL_DEEDS, Deed, Paths, Random, World, at};

/// Runs a property on many seeds; a failure names its seed.
fn check(share: u64, property: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("PLAN_SEED") {
        return property(seed.parse().expect("a number"));
    }
    let cases: u64 = std::env::var("PLAN_CASES").map_or(50_000, |n| n.parse().expect("a number"));
    for seed in 0..cases / share {
        let run = std::panic::AssertUnwindSafe(|| property(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("replay with PLAN_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn grown(world: &mut World, random: &mut Random, size: usize) {
    for _ in 0..random.below(size + 1) {
        let side = random.pick(&Side::BOTH);
        world.user(random, side, &[Deed::NewFile, Deed::NewDir]);
    }
    let last = world.rest(random);
    world.assert_synced(&last);
}

fn history(world: &mut World, random: &mut Random, deeds: &[Deed]) {
    grown(world, random, 10);
    for _ in 0..1 + random.below(3) {
        for side in Side::BOTH {
            for _ in 0..random.below(6) {
                world.user(random, side, deeds);
            }
        }
        let rounds = 1 + random.below(20);
        world.meddled(random, rounds, 30, deeds);
    }
}

fn two_way(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::new();
    world.unread = random.pick(&[[0, 0], [0, 0], [30, 30], [0, 100], [50, 100]]);
    history(&mut world, &mut random, ALL_DEEDS);
    let last = world.rest(&mut random);
    world.assert_synced(&last);
    world.assert_nothing_lost();
}

#[test]
fn any_history_ends_in_sync_and_loses_nothing() {
    check(3, two_way);
}

#[test]
fn moves_and_swaps_transfer_nothing() {
    check(5, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.unread = random.pick(&[[0, 0], [50, 50]]);
        grown(&mut world, &mut random, 12);
        world.done.clear();
        let sides = if random.percent(50) { &Side::BOTH[..] } else { &Side::BOTH[..1] };
        for side in sides {
            for _ in 0..1 + random.below(6) {
                world.user(&mut random, *side, &[Deed::Move, Deed::Swap]);
            }
        }
        let last = world.rest(&mut random);
        world.assert_synced(&last);
        let idle = ["move", "park", "learn"];
        let other: Vec<_> = world.done.keys().filter(|verb| !idle.contains(verb)).collect();
        assert!(other.is_empty(), "{:?}", world.done);
    });
}

// The other end decides about the same conflicts: nothing may depend on which side is which.
#[test]
fn any_history_with_a_peer_ends_in_sync_and_loses_nothing() {
    check(5, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.peer = true;
        world.unread = random.pick(&[[0, 0], [30, 30], [0, 100], [50, 100]]);
        history(&mut world, &mut random, ALL_DEEDS);
        let last = world.rest(&mut random);
        world.assert_synced(&last);
        world.assert_nothing_lost();
    });
}

const POLICIES: &[ConflictPolicy] = &[
    ConflictPolicy::Newer,
    ConflictPolicy::Older,
    ConflictPolicy::Larger,
    ConflictPolicy::Local,
    ConflictPolicy::Remote,
];

#[test]
fn every_conflict_policy_ends_in_sync_and_what_it_replaces_is_in_the_trash() {
    check(10, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.conflict = random.pick(POLICIES);
        world.unread = random.pick(&[[0, 0], [50, 50]]);
        history(&mut world, &mut random, ALL_DEEDS);
        let last = world.rest(&mut random);
        world.assert_synced(&last);
        let kept: Vec<u64> = world.trashed.iter().copied().collect();
        world.removed.extend(kept);
        world.assert_nothing_lost();
    });
}

/// Names that a two-way run parked are given back; nothing else changes on a source.
fn assert_untouched(before: &Paths, after: &Paths) {
    if !before.keys().any(|path| path.contains(".foldsync-")) {
        assert_eq!(before, after);
    }
}

#[test]
fn a_mirror_ends_as_its_source_is_and_never_changes_it() {
    check(10, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.unread = random.pick(&[[0, 0], [50, 50]]);
        history(&mut world, &mut random, ALL_DEEDS);
        world.mode = random.pick(&[Mode::MirrorUp, Mode::MirrorDown]);
        let source = world.mode.source().expect("a mirror has a source");
        world.meddled(&mut random, 20, 30, ALL_DEEDS);
        let before = world.paths(source);
        let last = world.rest(&mut random);
        assert_untouched(&before, &world.paths(source));
        world.assert_synced(&last);
    });
}

#[test]
fn a_backup_holds_all_of_its_source_and_deletes_nothing() {
    check(10, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.unread = random.pick(&[[0, 0], [50, 50]]);
        history(&mut world, &mut random, ALL_DEEDS);
        world.mode = random.pick(&[Mode::BackupUp, Mode::BackupDown]);
        let source = world.mode.source().expect("a backup has a source");
        world.meddled(&mut random, 20, 30, ALL_DEEDS);
        world.done.clear();
        let before = world.paths(source);
        let last = world.rest(&mut random);
        assert_eq!((last.waiting, last.holds.len()), (0, 0), "{last:?}");
        assert_eq!(world.done.get("delete"), None);
        let (ours, theirs) = (world.paths(source), world.paths(source.other()));
        assert_untouched(&before, &ours);
        let missing: Vec<_> =
            ours.iter().filter(|(path, token)| theirs.get(*path) != Some(token)).collect();
        assert!(missing.is_empty(), "{missing:?} of {ours:?} in {theirs:?}");
    });
}

#[test]
fn a_brake_lets_no_more_through_than_allowed_until_a_person_approves() {
    check(10, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let size = 5 + random.below(25);
        grown(&mut world, &mut random, size);
        let count = random.below(4) as u64;
        world.brake = match random.below(3) {
            0 => BrakeLimits {
                deletes: BrakeLimit { share_percent: None, count: Some(count) },
                changes: BrakeLimit::NONE,
                lifted: false,
            },
            1 => BrakeLimits {
                deletes: BrakeLimit { share_percent: Some(30), count: None },
                changes: BrakeLimit::NONE,
                lifted: false,
            },
            _ => {
                BrakeLimits { deletes: BrakeLimit::NONE, changes: BrakeLimit::NONE, lifted: false }
            }
        };
        for side in Side::BOTH {
            for _ in 0..random.below(8) {
                world.user(
                    &mut random,
                    side,
                    &[Deed::Delete, Deed::Delete, Deed::Move, Deed::Edit],
                );
            }
        }
        loop {
            let plan = world.plan();
            for side in Side::BOTH {
                let deletes = plan.ops.iter().filter(|op| {
                    let is_file = world.trees.kind(op.node) == Kind::File;
                    let is_free = !world.approved.contains(&op.node);
                    op.side == side && op.action == Action::Delete && is_file && is_free
                });
                let deletes = deletes.count() as u64;
                assert!(world.brake.deletes.count.is_none_or(|count| deletes <= count), "{plan:?}");
            }
            let last = world.rest(&mut random);
            let held: Vec<NodeId> = last.brakes.iter().flat_map(|b| b.nodes.clone()).collect();
            if held.is_empty() {
                world.assert_synced(&last);
                world.assert_nothing_lost();
                break;
            }
            assert!(held.iter().all(|node| !world.approved.contains(node)));
            world.approved.extend(held);
        }
    });
}

/// Gives everything that is held for its name another one, as a person would.
fn rename_held(world: &mut World, held: &[NodeId], round: usize) {
    for (n, id) in held.iter().enumerate() {
        if let Some(facet) = world.trees.facet(Side::Local, *id) {
            let place = at(facet.at().parent, &format!("ok-{round}-{n}"));
            world.relocate(Side::Local, *id, place);
        }
    }
}

// NM-18, NM-25
#[test]
fn a_name_that_the_remote_cannot_hold_waits_for_a_better_one() {
    check(10, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.names = &["a", "A", "b", "B?", "c"];
        world.remote_names.forbidden = AsciiSet::EMPTY.with('?');
        world.remote_names.case = Known::Is(CaseRule::Insensitive);
        for _ in 0..random.below(10) {
            let side = random.pick(&Side::BOTH);
            world.user(&mut random, side, &[Deed::NewFile, Deed::NewDir]);
        }
        world.meddled(&mut random, 20, 30, ALL_DEEDS);
        for round in 0.. {
            let last = world.rest(&mut random);
            world.assert_nothing_lost();
            if last.holds.is_empty() {
                world.assert_synced(&last);
                break;
            }
            assert!(round < 20, "{:?}", last.holds);
            let held: Vec<NodeId> = last.holds.iter().map(|hold| hold.node).collect();
            rename_held(&mut world, &held, round);
        }
    });
}

// NM-03
#[test]
fn two_spellings_of_a_name_never_end_on_one_side_for_one_file() {
    check(20, |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.names = &["\u{e9}", "e\u{301}", "a"];
        world.unread = random.pick(&[[0, 0], [50, 50]]);
        history(&mut world, &mut random, ALL_DEEDS);
        let last = world.rest(&mut random);
        world.assert_synced(&last);
        world.assert_nothing_lost();
    });
}

/// One history; `flipped` exchanges the roles of the sides.
fn changed_once(seed: u64, flipped: bool) -> World {
    changed_in(World::new(), seed, flipped)
}

fn changed_in(mut world: World, seed: u64, flipped: bool) -> World {
    let mut random = Random::new(seed);
    let side = |side: Side| if flipped { side.other() } else { side };
    for _ in 0..random.below(11) {
        world.user(&mut random, side(Side::Local), &[Deed::NewFile, Deed::NewDir]);
    }
    world.rest(&mut Random::new(seed));
    for who in Side::BOTH {
        for _ in 0..random.below(6) {
            world.user(&mut random, side(who), ALL_DEEDS);
        }
    }
    world
}

// BC-15
#[test]
fn the_order_of_operations_does_not_change_the_result() {
    check(10, |seed| {
        let mut results = [1, 2].map(|order| {
            let mut world = changed_once(seed, false);
            world.rest(&mut Random::new(order));
            world.paths(Side::Local)
        });
        let [first, second] = &mut results;
        assert_eq!(first, second);
    });
}

// Which name a file gets may depend on which of the folders above it were renamed first.
#[test]
fn with_a_peer_exchanging_the_roles_of_the_sides_changes_names_at_most() {
    check(10, |seed| {
        let [one, other] = [false, true].map(|flipped| {
            let mut world = World::new();
            world.peer = true;
            world.unread = [[0, 0], [50, 50]][usize::from(seed % 2 == 0)];
            let mut world = changed_in(world, seed, flipped);
            world.rest(&mut Random::new(seed));
            world.present()
        });
        assert_eq!(one, other);
    });
}

#[test]
fn exchanging_the_roles_of_the_sides_changes_names_at_most() {
    check(10, |seed| {
        let [one, other] = [false, true].map(|flipped| {
            let mut world = changed_once(seed, flipped);
            world.rest(&mut Random::new(seed));
            world.present()
        });
        assert_eq!(one, other);
    });
}
