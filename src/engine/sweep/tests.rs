use super::*;

const POLL: u64 = 60;

fn settings(budget: u32) -> SweepSettings {
    let seconds = Duration::from_secs;
    SweepSettings { poll: seconds(POLL), cold: seconds(900), whole: seconds(3600), budget }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_seconds(second.cast_signed())
}

fn dir(number: u32) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A remote of so many folders of one page, listed whole at the start.
struct World {
    sweep: Sweep,
    folders: u32,
    now: u64,
    /// The longest time between two listings of one folder, in seconds.
    gap_max: u64,
    /// Entries of the first folder.
    first: usize,
}

impl World {
    fn new(folders: u32, budget: u32) -> World {
        let sweep = Sweep::new(settings(budget));
        let mut world = World { sweep, folders, now: 0, gap_max: 0, first: 10 };
        world.list((1..=folders).map(dir).collect());
        world.sweep.listed_whole(at(0));
        world
    }

    fn list(&mut self, dirs: Vec<NodeId>) -> Vec<NodeId> {
        for dir in &dirs {
            if let Some(known) = self.sweep.folders.get(dir) {
                let gap = at(self.now).since(known.listed_at).as_secs();
                self.gap_max = self.gap_max.max(gap);
            }
            let entries = if dir.get() == 1 { self.first } else { 10 };
            self.sweep.listed(*dir, at(self.now), entries);
        }
        dirs
    }

    /// The next poll, whose listings take a few seconds.
    fn poll(&mut self) -> Vec<NodeId> {
        self.now += POLL;
        match self.sweep.due(at(self.now)) {
            Due::Everything => {
                self.sweep.listed_whole(at(self.now));
                self.list((1..=self.folders).map(dir).collect())
            }
            Due::Folders(dirs) => {
                let (now, late) = (self.now, self.now + 3);
                self.now = late;
                let dirs = self.list(dirs);
                self.now = now;
                dirs
            }
        }
    }
}

#[test]
fn an_idle_tree_costs_ever_less_and_no_folder_is_forgotten() {
    let mut world = World::new(1000, 120);
    let polls: Vec<usize> = (0..180).map(|_| world.poll().len()).collect();
    assert!(polls.iter().all(|listed| *listed <= 120), "{polls:?}");
    let later: usize = polls[60..120].iter().sum();
    assert!(later <= 60 * 1000 / 9, "{later} listings in an hour");
    assert!(world.gap_max <= 900 + 2 * POLL, "{}", world.gap_max);
    // They do not all come at once.
    assert!(polls[60..].iter().all(|listed| *listed > 0), "{polls:?}");
}

#[test]
fn what_is_affordable_at_once_is_listed_whole_every_hour_besides() {
    let mut world = World::new(300, 120);
    let polls: Vec<usize> = (0..180).map(|_| world.poll().len()).collect();
    let whole: Vec<usize> = (0..180).filter(|poll| polls[*poll] == 300).collect();
    assert_eq!(whole, [59, 119, 179]);
}

#[test]
fn a_folder_that_changed_is_listed_at_each_poll_for_a_while_however_much_else_is_due() {
    let mut world = World::new(5000, 40);
    for _ in 0..30 {
        world.poll();
    }
    world.sweep.changed(dir(7), at(world.now));
    for poll in 0..HOT_POLLS {
        assert!(world.poll().contains(&dir(7)), "poll {poll}");
    }
    let after = (0..10).filter(|_| world.poll().contains(&dir(7))).count();
    assert!(after < 5, "{after}");
}

#[test]
fn a_tree_beyond_the_budget_is_listed_in_turn_and_never_whole() {
    let mut world = World::new(3000, 20);
    // More than the budget is hot all the time.
    for _ in 0..600 {
        (1..=100).for_each(|hot| world.sweep.changed(dir(hot), at(world.now)));
        assert!(world.poll().len() <= 20);
    }
    let oldest = world.sweep.oldest().unwrap();
    let age = at(world.now).since(oldest).as_secs();
    // A quarter of the budget is for what is cold: 2900 folders, 5 at a poll.
    assert!(age <= 2900 / 5 * POLL + 2 * POLL, "{age}");
    assert!(world.sweep.round() >= Duration::from_secs(3000 / 20 * POLL));
}

#[test]
fn a_small_tree_is_listed_whole_at_every_poll() {
    let mut world = World::new(60, 120);
    assert!((0..100).all(|_| world.poll().len() == 60));
    assert_eq!(world.sweep.round(), Duration::ZERO);
}

#[test]
fn a_folder_that_costs_more_than_a_poll_may_is_listed_nevertheless() {
    let mut world = World::new(20, 4);
    world.first = 100_000;
    world.list(vec![dir(1)]);
    let polls: Vec<Vec<NodeId>> = (0..60).map(|_| world.poll()).collect();
    assert!(polls.iter().filter(|dirs| dirs.contains(&dir(1))).count() >= 3, "{polls:?}");
    assert!(polls.iter().all(|dirs| dirs.len() <= 4), "{polls:?}");
}

#[test]
fn a_hurry_makes_everything_due_once_in_a_while() {
    let mut world = World::new(100, 150);
    (0..20).for_each(|_| drop(world.poll()));
    assert!(world.poll().len() < 50);
    world.sweep.hurry(at(world.now));
    assert_eq!(world.poll().len(), 100);
    world.sweep.hurry(at(world.now));
    assert!(world.poll().len() < 50);
}

#[test]
fn folders_that_are_gone_cost_nothing() {
    let mut world = World::new(100, 40);
    (0..20).for_each(|_| drop(world.poll()));
    world.sweep.retain(|node| node.get() > 50);
    let polled: Vec<NodeId> = (0..20).flat_map(|_| world.poll()).collect();
    assert!(!polled.is_empty() && polled.iter().all(|node| node.get() > 50));
}

// WA-16
#[test]
fn a_clock_that_is_set_back_by_a_day_stops_nothing() {
    let mut world = World::new(100, 40);
    (0..2000).for_each(|_| drop(world.poll()));
    world.now -= 24 * 3600;
    let listed: usize = (0..20).map(|_| world.poll().len()).sum();
    assert!(listed >= 100, "{listed}");
}
