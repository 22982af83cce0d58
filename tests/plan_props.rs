//! Random histories: one tree changed on both sides, plans run in part and in any order, users
//! interfering, operations in flight. `PLAN_CASES` sets how many, `PLAN_SEED` replays one.

mod plan_world;

use foldsync::plan::{ConflictPolicy, Mode};
use foldsync::tree::Side;
use plan_world::{ALL_DEEDS, Deed, Paths, Random, World};

/// Runs a property on many seeds; a failure names its seed.
fn check(share: u64, property: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("PLAN_SEED") {
        return property(seed.parse().expect("a number"));
    }
    let cases: u64 = std::env::var("PLAN_CASES").map_or(100_000, |n| n.parse().expect("a number"));
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
    check(2, two_way);
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
