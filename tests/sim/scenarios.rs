//! Hand-written days, in the vocabulary of the simulator, for the cases that people ask about.
//!
//! Each starts in sync, lets users act, and states what both sides hold in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use foldsync::remote::SameName;

use super::cloud::Nature;
use super::crowd::swap;
use super::disk::DiskTraits;
use super::faults::{Dice, Hub, Odds, Pace, Trace};
use super::oracle::{check_nothing_lost, conflict_copies};
use super::users::{Act, Users};
use super::world::{End, World, in_virtual_time, scratch};

/// A pair in a story: calm but for what the story says.
pub(super) struct Story {
    pub(super) world: World,
}

pub(super) fn content(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn write(path: &str, text: &str) -> Act {
    Act::Write(path.to_owned(), content(text))
}

pub(super) fn rename(from: &str, to: &str) -> Act {
    Act::Rename(from.to_owned(), to.to_owned())
}

pub(super) fn remove(path: &str) -> Act {
    Act::Remove(path.to_owned())
}

pub(super) fn mkdir(path: &str) -> Act {
    Act::Mkdir(path.to_owned())
}

/// Where a story happens.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) nature: Nature,
    pub(super) traits: DiskTraits,
}

/// A plain directory as the remote. Small pieces, so that small files take many steps.
pub(super) fn directory() -> Setting {
    let nature = Nature { piece: 2, ..Nature::directory() };
    Setting { nature, traits: DiskTraits { read_max: 2, ..DiskTraits::PLAIN } }
}

/// A service like Disk.Top, in each way to treat a name that is taken.
fn services() -> impl Iterator<Item = Setting> {
    let ways = [SameName::Replaces, SameName::AutoRenames, SameName::Rejects, SameName::Duplicates];
    ways.into_iter().zip(0..).map(|(same_name, seed)| {
        let top = Nature::disk_top(&mut Dice::new(seed, 9));
        Setting { nature: Nature { same_name, lag_ms: 0, piece: 2, ..top }, ..directory() }
    })
}

/// Tells a story that begins with these files in sync, on fast and slow days, and checks all oracles
/// at its end.
fn story(base: &[(&str, &str)], tell: impl AsyncFn(&mut Story)) {
    story_in(&directory(), base, tell);
}

pub(super) fn story_in(setting: &Setting, base: &[(&str, &str)], tell: impl AsyncFn(&mut Story)) {
    for (seed, pace) in [(1, Pace::Instant), (2, Pace::Jittery), (3, Pace::Erratic)] {
        tell_once(seed, pace, setting, base, &tell);
    }
}

/// Tells it once for each step of the engine at which something can happen.
fn at_each_step(steps: u64, base: &[(&str, &str)], tell: impl AsyncFn(&mut Story, u64)) {
    at_each_step_in(&directory(), steps, base, tell);
}

pub(super) fn at_each_step_in(
    setting: &Setting,
    steps: u64,
    base: &[(&str, &str)],
    tell: impl AsyncFn(&mut Story, u64),
) {
    for step in 1..=steps {
        let pace = if step % 2 == 0 { Pace::Instant } else { Pace::Jittery };
        tell_once(step, pace, setting, base, &async |story: &mut Story| tell(story, step).await);
    }
}

fn tell_once(
    seed: u64,
    pace: Pace,
    setting: &Setting,
    base: &[(&str, &str)],
    tell: &impl AsyncFn(&mut Story),
) {
    in_virtual_time(async {
        let scratch = scratch();
        let hub = Arc::new(Hub::new(seed, Odds::default(), pace, Trace::Kept));
        let Setting { nature, traits } = setting.clone();
        let mut story = Story { world: World::new(hub, traits, nature, scratch.path()) };
        story.local_all(base.iter().map(|(path, text)| write(path, text)));
        story.world.settle().await;
        tell(&mut story).await;
        story.end();
    });
}

impl Story {
    fn act(&self, users: &dyn Users, act: &Act) {
        if let Act::Write(path, _) = act
            && let Some((dir, _)) = path.rsplit_once('/')
            && !users.tree().contains_key(dir)
        {
            self.act(users, &mkdir(dir));
        }
        assert!(act.perform(&self.world.hub, users), "{act:?} cannot be done");
    }

    pub(super) fn local(&self, act: Act) {
        self.act(&*self.world.disk, &act);
    }

    pub(super) fn remote(&self, act: Act) {
        self.act(&*self.world.cloud, &act);
    }

    pub(super) fn local_all(&self, acts: impl IntoIterator<Item = Act>) {
        acts.into_iter().for_each(|act| self.local(act));
    }

    pub(super) fn remote_all(&self, acts: impl IntoIterator<Item = Act>) {
        acts.into_iter().for_each(|act| self.remote(act));
    }

    /// A user acts while the engine runs, as many steps from now.
    pub(super) fn local_after(&self, steps: u64, act: Act) {
        let (hub, disk) = (self.world.hub.clone(), self.world.disk.clone());
        let deed = move || {
            act.perform(&hub, &*disk);
        };
        self.world.hub.schedule(steps, Box::new(deed));
    }

    fn remote_after(&self, steps: u64, act: Act) {
        let (hub, cloud) = (self.world.hub.clone(), self.world.cloud.clone());
        let deed = move || {
            act.perform(&hub, &*cloud);
        };
        self.world.hub.schedule(steps, Box::new(deed));
    }

    pub(super) async fn settle(&mut self) {
        self.world.settle().await;
    }

    /// Both sides, with the names of conflict copies cut after the word.
    fn tree(&self) -> BTreeMap<String, String> {
        let tree = self.world.disk.tree();
        tree.into_iter()
            .map(|(path, content)| {
                let path = match path.split_once(".conflict-") {
                    Some((stem, _)) => format!("{stem}.conflict"),
                    None => path,
                };
                let text = content.map(|c| String::from_utf8_lossy(&c).into_owned());
                (path, text.unwrap_or_else(|| "/".to_owned()))
            })
            .collect()
    }

    pub(super) fn expect(&self, tree: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            tree.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(self.tree(), expected, "{}", self.world.hub.take_log().join("\n"));
    }

    /// One run that is killed after so many steps, if it lasts that long.
    pub(super) async fn killed_after(&mut self, steps: u64) {
        if matches!(self.world.start(Some(steps)).await, End::Killed) {
            check_nothing_lost(&self.world.hub, &self.world.disk, &self.world.cloud);
        }
    }

    /// One run, with what was to happen in it, and all that was not reached after it.
    pub(super) async fn run(&mut self) {
        self.world.start(None).await;
        self.world.hub.do_scheduled(u64::MAX);
    }

    fn local_text(&self, path: &str) -> Option<String> {
        let content = self.world.disk.tree().get(path)?.clone()?;
        Some(String::from_utf8_lossy(&content).into_owned())
    }

    /// Content bytes that went over the network so far.
    pub(super) fn moved(&self) -> u64 {
        let cost = self.world.cloud.cost();
        cost.bytes_up + cost.bytes_down
    }

    fn end(&self) {
        let violations = self.world.hub.violations();
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.world.hub.take_log().join("\n"));
    }
}

#[test]
fn two_edits_of_one_file_are_both_kept_and_the_remote_one_keeps_the_name() {
    // EE-01
    story(&[("a", "0")], async |s| {
        s.local(write("a", "1"));
        s.remote(write("a", "2"));
        s.settle().await;
        s.expect(&[("a", "2"), ("a.conflict", "1")]);
    });
}

#[test]
fn the_same_edit_on_both_sides_is_no_conflict() {
    // EE-02
    story(&[("a", "0")], async |s| {
        s.local(write("a", "1"));
        s.remote(write("a", "1"));
        s.settle().await;
        s.expect(&[("a", "1")]);
    });
}

#[test]
fn a_local_edit_at_any_step_of_a_download_is_never_lost() {
    // EE-04
    at_each_step(60, &[("a", "0")], async |s, step| {
        s.remote(write("a", "2222"));
        s.local_after(step, write("a", "1"));
        s.run().await;
        s.settle().await;
        let tree = s.tree();
        let kept = tree.get("a").map(String::as_str) == Some("1")
            || tree.get("a.conflict").map(String::as_str) == Some("1");
        assert!(kept, "step {step}: {tree:?}");
    });
}

#[test]
fn a_remote_edit_at_any_step_of_an_upload_is_never_lost() {
    // EE-05
    at_each_step(60, &[("a", "0")], async |s, step| {
        s.local(write("a", "1111"));
        s.remote_after(step, write("a", "2"));
        s.run().await;
        s.settle().await;
        let tree = s.tree();
        assert_eq!(tree.get("a").map(String::as_str), Some("2"), "step {step}: {tree:?}");
    });
}

#[test]
fn an_edit_beats_a_deletion_on_the_remote() {
    // ED-01
    story(&[("a", "0")], async |s| {
        s.local(write("a", "1"));
        s.remote(remove("a"));
        s.settle().await;
        s.expect(&[("a", "1")]);
    });
}

#[test]
fn an_edit_beats_a_deletion_on_the_disk() {
    // ED-02
    story(&[("a", "0")], async |s| {
        s.local(remove("a"));
        s.remote(write("a", "2"));
        s.settle().await;
        s.expect(&[("a", "2")]);
    });
}

#[test]
fn a_file_written_while_its_deletion_is_applied_is_never_lost() {
    // ED-04
    at_each_step(40, &[("a", "0"), ("b", "0")], async |s, step| {
        s.remote(remove("a"));
        s.local_after(step, write("a", "1"));
        s.run().await;
        s.settle().await;
        s.expect(&[("a", "1"), ("b", "0")]);
    });
}

#[test]
fn a_folder_deleted_on_the_remote_keeps_what_is_new_in_it() {
    // ED-05
    story(&[("d/x", "0"), ("y", "0")], async |s| {
        s.local(write("d/n", "1"));
        s.remote(remove("d"));
        s.settle().await;
        s.expect(&[("d", "/"), ("d/n", "1"), ("y", "0")]);
    });
}

#[test]
fn a_folder_deleted_on_the_disk_keeps_what_is_new_in_it() {
    // ED-06
    at_each_step(40, &[("d/x", "0"), ("y", "0")], async |s, step| {
        s.local(remove("d"));
        s.remote_after(step, write("d/n", "2"));
        s.run().await;
        s.settle().await;
        let n = s.world.cloud.tree().contains_key("d/n");
        if n {
            s.expect(&[("d", "/"), ("d/n", "2"), ("y", "0")]);
        }
    });
}

#[test]
fn an_edit_follows_a_move_on_the_other_side() {
    // MV-07, MV-08
    story(&[("a", "1")], async |s| {
        s.local(rename("a", "b"));
        s.remote(write("a", "2"));
        s.settle().await;
        s.expect(&[("b", "2")]);
    });
}

#[test]
fn two_files_that_swap_their_names_are_moved_and_not_transferred() {
    // MV-11
    story(&[("a", "1"), ("b", "2")], async |s| {
        let before = s.moved();
        s.local_all(swap("a", "b"));
        s.settle().await;
        s.expect(&[("a", "2"), ("b", "1")]);
        assert_eq!(s.moved(), before);
    });
}

#[test]
fn a_swap_survives_a_kill_at_every_step() {
    // MV-11, CR-03
    at_each_step(60, &[("a", "1"), ("b", "2")], async |s, step| {
        s.local_all(swap("a", "b"));
        s.killed_after(step).await;
        s.settle().await;
        s.expect(&[("a", "2"), ("b", "1")]);
    });
}

#[test]
fn a_rotation_of_three_names_on_the_remote_is_moved_and_not_transferred() {
    // MV-12
    story(&[("a", "1"), ("b", "2"), ("c", "3")], async |s| {
        let before = s.moved();
        s.remote_all([rename("c", "t"), rename("b", "c"), rename("a", "b"), rename("t", "a")]);
        s.settle().await;
        s.expect(&[("a", "3"), ("b", "1"), ("c", "2")]);
        assert_eq!(s.moved(), before, "{}", s.world.hub.take_log().join("\n"));
    });
}

#[test]
fn folders_moved_into_each_other_end_where_the_remote_put_them() {
    // MV-14
    story(&[("A/x", "1"), ("B/y", "2")], async |s| {
        s.local(rename("A", "B/A"));
        s.remote(rename("B", "A/B"));
        s.settle().await;
        s.expect(&[("A", "/"), ("A/B", "/"), ("A/B/y", "2"), ("A/x", "1")]);
    });
}

#[test]
fn a_file_moved_out_of_a_folder_survives_the_folder() {
    // MV-16
    story(&[("d/a", "1"), ("d/b", "2")], async |s| {
        s.local_all([rename("d/a", "a"), remove("d")]);
        s.settle().await;
        s.expect(&[("a", "1")]);
    });
}

#[test]
fn a_file_that_becomes_a_folder_becomes_one_on_the_remote() {
    // TY-01
    story(&[("a", "1"), ("b", "0")], async |s| {
        s.local_all([remove("a"), mkdir("a"), write("a/x", "2")]);
        s.settle().await;
        s.expect(&[("a", "/"), ("a/x", "2"), ("b", "0")]);
    });
}

#[test]
fn a_folder_that_becomes_a_file_keeps_what_is_new_in_it_on_the_remote() {
    // TY-02
    story(&[("d/x", "1"), ("d/y", "2"), ("e", "0")], async |s| {
        s.local_all([remove("d"), write("d", "3")]);
        s.remote(write("d/z", "4"));
        s.settle().await;
        s.expect(&[("d", "/"), ("d.conflict", "3"), ("d/z", "4"), ("e", "0")]);
    });
}

#[test]
fn without_a_database_equal_files_are_adopted_and_nothing_is_deleted() {
    // CR-06
    story(&[("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")], async |s| {
        s.local_all([write("a", "1"), remove("b")]);
        s.remote_all([write("a", "2"), remove("c")]);
        s.world.drop_database();
        let before = s.moved();
        s.settle().await;
        s.expect(&[("a", "2"), ("a.conflict", "1"), ("b", "0"), ("c", "0"), ("d", "0")]);
        assert!(s.moved() > before);
    });
}

#[test]
fn a_fresh_upload_that_listings_do_not_show_yet_is_not_a_deletion() {
    // RM-11
    for seed in 0..20 {
        in_virtual_time(async {
            let scratch = scratch();
            let odds = Odds { stale: 500, ..Odds::default() };
            let hub = Arc::new(Hub::new(seed, odds, Pace::Jittery, Trace::Kept));
            let nature = Nature { lag_ms: 30_000, ..Nature::directory() };
            let world = World::new(hub, DiskTraits::PLAIN, nature, scratch.path());
            let mut story = Story { world };
            story.local(write("n", "1"));
            for _ in 0..3 {
                story.world.start(None).await;
            }
            assert_eq!(conflict_copies(&story.world.disk.tree()), 0);
            story.settle().await;
            story.expect(&[("n", "1")]);
            story.end();
        });
    }
}

// ---- kills at every step -------------------------------------------------------------------------

#[test]
fn a_download_survives_a_kill_at_every_step() {
    // CR-01
    at_each_step(60, &[("a", "0"), ("z", "0")], async |s, step| {
        s.remote_all([write("a", "22"), write("b", "3")]);
        s.killed_after(step).await;
        let now = s.local_text("a");
        assert!(now.as_deref() == Some("0") || now.as_deref() == Some("22"), "{now:?}");
        s.settle().await;
        s.expect(&[("a", "22"), ("b", "3"), ("z", "0")]);
    });
}

#[test]
fn an_upload_survives_a_kill_at_every_step() {
    // CR-02
    at_each_step(60, &[("a", "0"), ("z", "0")], async |s, step| {
        s.local_all([write("a", "11"), write("b", "3")]);
        s.killed_after(step).await;
        s.settle().await;
        s.expect(&[("a", "11"), ("b", "3"), ("z", "0")]);
    });
}

#[test]
fn an_upload_that_swaps_names_survives_a_kill_at_every_step() {
    // CR-02, EE-15
    for service in services() {
        at_each_step_in(&service, 80, &[("a", "0"), ("z", "0")], async |s, step| {
            s.local_all([write("a", "11"), write("b", "3")]);
            s.killed_after(step).await;
            let there: Vec<Bytes> = s.world.cloud.tree().into_values().flatten().collect();
            assert!(there.contains(&content("0")) || there.contains(&content("11")), "{there:?}");
            s.settle().await;
            s.expect(&[("a", "11"), ("b", "3"), ("z", "0")]);
        });
    }
}

#[test]
fn a_local_edit_after_a_killed_upload_is_an_edit_and_no_conflict() {
    // CR-02: what arrived is what the two sides had agreed on, also if nobody could say so.
    for setting in services().chain([directory()]) {
        at_each_step_in(&setting, 60, &[("a", "0"), ("z", "0")], async |s, step| {
            s.local_all([write("a", "11"), write("b", "3")]);
            s.killed_after(step).await;
            s.local_all([write("a", "222"), write("b", "44")]);
            s.settle().await;
            s.expect(&[("a", "222"), ("b", "44"), ("z", "0")]);
        });
    }
}

#[test]
fn every_other_operation_survives_a_kill_at_every_step() {
    // CR-03
    let base = [("d/x", "1"), ("m", "2"), ("n", "3"), ("t", "4"), ("z", "0")];
    at_each_step(90, &base, async |s, step| {
        s.local_all([remove("d"), rename("m", "e"), mkdir("k"), write("n", "5")]);
        s.remote_all([remove("t"), mkdir("t"), write("t/y", "6"), write("n", "7")]);
        s.killed_after(step).await;
        s.settle().await;
        s.expect(&[
            ("e", "2"),
            ("k", "/"),
            ("n", "7"),
            ("n.conflict", "5"),
            ("t", "/"),
            ("t/y", "6"),
            ("z", "0"),
        ]);
    });
}

#[test]
fn a_power_cut_at_any_step_of_a_download_leaves_whole_files_only() {
    // CR-04
    at_each_step(60, &[("a", "0"), ("z", "0")], async |s, step| {
        s.remote_all([write("a", "22"), write("d/b", "3")]);
        s.killed_after(step).await;
        s.world.disk.cut_power();
        s.settle().await;
        s.expect(&[("a", "22"), ("d", "/"), ("d/b", "3"), ("z", "0")]);
    });
}

// ---- what the seeds taught -----------------------------------------------------------------------

#[test]
fn a_remote_edit_at_any_step_of_a_swap_is_never_lost() {
    // EE-05, EE-15
    for service in services() {
        at_each_step_in(&service, 70, &[("a", "0"), ("z", "0")], async |s, step| {
            s.local(write("a", "1111"));
            s.remote_after(step, write("a", "2"));
            s.run().await;
            s.settle().await;
            let tree = s.world.disk.tree();
            assert!(tree.values().flatten().any(|c| *c == content("2")), "{tree:?}");
        });
    }
}

#[test]
fn a_file_in_a_folder_that_is_deleted_while_it_is_downloaded_goes_with_it() {
    at_each_step(60, &[("d/a", "0"), ("d/b", "0"), ("z", "0")], async |s, step| {
        s.remote(write("d/a", "2222"));
        s.remote_after(step, remove("d"));
        s.run().await;
        s.settle().await;
        s.expect(&[("z", "0")]);
    });
}

#[test]
fn a_file_written_again_within_the_tick_while_it_is_hashed_is_read_again() {
    // FK-18
    let traits = DiskTraits { grain_ns: 1_000_000_000, ..directory().traits };
    let setting = Setting { traits, ..directory() };
    at_each_step_in(&setting, 40, &[("a", "0000"), ("z", "0")], async |s, step| {
        s.local(write("a", "1111"));
        s.local_after(step, write("a", "2222"));
        s.run().await;
        s.settle().await;
        s.expect(&[("a", "2222"), ("z", "0")]);
    });
}

#[test]
fn a_folder_with_the_inode_of_the_file_that_it_replaced_is_a_folder() {
    // TY-01, MV-24
    let traits = DiskTraits { reuses_inodes: true, births: false, ..directory().traits };
    let setting = Setting { traits, ..directory() };
    story_in(&setting, &[("a", "1"), ("z", "0")], async |s| {
        s.local_all([remove("a"), mkdir("a"), write("a/x", "2")]);
        s.settle().await;
        s.expect(&[("a", "/"), ("a/x", "2"), ("z", "0")]);
    });
}

#[test]
fn a_folder_may_move_into_the_one_that_takes_its_name() {
    // MV-13
    story(&[("a/x", "1"), ("b/y", "2")], async |s| {
        let before = s.moved();
        s.local_all([rename("a", "b/a"), rename("b", "a")]);
        s.settle().await;
        s.expect(&[("a", "/"), ("a/a", "/"), ("a/a/x", "1"), ("a/y", "2")]);
        assert_eq!(s.moved(), before);
    });
}

#[test]
fn two_folders_that_swap_their_names_while_they_are_listed_are_not_mixed_up() {
    at_each_step(30, &[("a/x", "1"), ("b/y", "2"), ("b/z", "3")], async |s, step| {
        for act in swap("a", "b") {
            s.local_after(step, act);
        }
        s.run().await;
        s.settle().await;
        s.expect(&[("a", "/"), ("a/y", "2"), ("a/z", "3"), ("b", "/"), ("b/x", "1")]);
    });
}

#[test]
fn a_move_in_two_steps_succeeds_where_both_half_way_names_are_taken() {
    // MV-28
    for service in services() {
        story_in(&service, &[("a", "1"), ("d/a", "2"), ("b", "3")], async |s| {
            let before = s.moved();
            s.local(rename("a", "d/b"));
            s.settle().await;
            s.expect(&[("b", "3"), ("d", "/"), ("d/a", "2"), ("d/b", "1")]);
            assert_eq!(s.moved(), before);
        });
    }
}

#[test]
fn a_second_item_of_a_name_is_reported_and_holds_up_nothing_else() {
    // RM-09
    let service = services().find(|s| s.nature.same_name == SameName::Duplicates);
    story_in(&service.expect("one of them"), &[("a", "1"), ("b", "2")], async |s| {
        s.world.cloud.add_twin("a", content("9"));
        s.world.hub.ledger.lock().expect("whole").written(&content("9"));
        s.local(write("b", "3"));
        s.remote(write("c", "4"));
        s.settle().await;
        s.expect(&[("a", "1"), ("b", "3"), ("c", "4")]);
    });
}

#[test]
fn a_disk_without_room_ends_the_run_and_not_the_pair() {
    in_virtual_time(async {
        let scratch = scratch();
        let odds = Odds { disk_full: 1000, ..Odds::default() };
        let hub = Arc::new(Hub::new(1, odds, Pace::Jittery, Trace::Kept));
        let world = World::new(hub, DiskTraits::PLAIN, Nature::directory(), scratch.path());
        let mut story = Story { world };
        story.remote_all([write("d/a", "1"), write("b", "2")]);
        assert!(matches!(story.world.start(None).await, End::Done(_)));
        story.settle().await;
        story.expect(&[("b", "2"), ("d", "/"), ("d/a", "1")]);
        story.end();
    });
}

#[test]
fn a_process_that_stays_takes_up_what_had_no_answer() {
    // UP-09, UP-10
    for service in services() {
        for seed in 0..20 {
            in_virtual_time(async {
                let scratch = scratch();
                let odds = Odds { reply_lost: 150, ..Odds::default() };
                let hub = Arc::new(Hub::new(seed, odds, Pace::Jittery, Trace::Kept));
                let nature = service.nature.clone();
                let world = World::new(hub, DiskTraits::PLAIN, nature, scratch.path());
                let mut story = Story { world };
                story.local_all([write("a", "0"), write("b", "1")]);
                story.world.cycles = 2;
                story.world.start(None).await;
                story.local_all([write("a", "2"), write("b", "3")]);
                story.world.cycles = 4;
                let end = story.world.start(None).await;
                let log = story.world.hub.take_log().join("\n");
                assert!(matches!(end, End::Done(result) if result.is_ok()), "{log}");
                story.settle().await;
                story.expect(&[("a", "2"), ("b", "3")]);
                story.end();
            });
        }
    }
}

#[test]
fn an_old_version_that_a_forgotten_swap_left_aside_gets_its_name_back() {
    for service in services() {
        story_in(&service, &[("d/a", "0"), ("b", "1")], async |story| {
            story.remote_all([rename("d/a", "d/.foldsync-0123456789abcdef.old")]);
            story.world.cycles = 6;
            story.world.start(None).await;
            story.expect(&[("d", "/"), ("d/a", "0"), ("b", "1")]);
            story.settle().await;
            story.expect(&[("d", "/"), ("d/a", "0"), ("b", "1")]);
        });
    }
}

#[test]
fn what_stirs_while_a_disk_changes_too_fast_to_be_looked_at_is_looked_at_later() {
    // WA-14
    at_each_step(60, &[("a/x", "0"), ("b/y", "1")], async |story, step| {
        story.world.watch();
        for time in 0..150 {
            let (from, to) = if time % 2 == 0 { ("a", "c") } else { ("c", "a") };
            story.local_after(20 + 2 * time, rename(from, to));
        }
        story.local_after(20 + 3 * step, write("b/late", "2"));
        story.world.cycles = 3;
        story.world.start(None).await;
        let tree = [("a", "/"), ("a/x", "0"), ("b", "/"), ("b/late", "2"), ("b/y", "1")];
        story.expect(&tree);
    });
}
