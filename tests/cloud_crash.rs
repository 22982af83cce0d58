//! SIGKILL for the built program at each of its requests to an emulated Disk.Top, and any one failure
//! of each request, on a script with every kind of change. Afterwards both sides are equal, nothing
//! is lost (S1), each path has one object, nothing is left behind, and the program is quiet.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

mod emulators;

#[path = "cloud_e2e/rig.rs"]
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than crashes do")]
mod rig;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::{Arc, Mutex};

use emulators::Fault;
use emulators::disktop::{Meeting, Phase, Switches};
use rig::{Ended, Rig, SYNC};
use rustix::process::{Pid, Signal};

/// A world that lives through many days, each with the same kinds of changes.
struct World {
    rig: Rig,
    day: u32,
}

/// What a day brings, beside what every day does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Every kind of change.
    Full,
    /// Only what depends on how the service treats names that are taken.
    Names,
}

impl World {
    fn new(switches: Switches) -> World {
        let replaces = switches.same_name_upload == Meeting::Replaces;
        let mut rig = Rig::new(Switches { chunk_bytes: 4096, ..switches });
        if replaces {
            rig.run(&["doctor", "top"]).exits(0);
        }
        for name in ["edited", "both", "from-afar"] {
            rig.write(&format!("{name}.txt"), &format!("{name}, first version"));
        }
        rig.write("local-0.txt", "of local, day 0");
        rig.write_remotely("remote-0.txt", "of remote, day 0");
        rig.write("folder-0/kept.txt", "kept");
        rig.write("old-0/gone.txt", "of old, day 0");
        rig.sync().exits(0);
        rig.assert_equal("at the start");
        World { rig, day: 0 }
    }

    fn change(&mut self, script: Script) {
        let (was, now, rig) = (self.day, self.day + 1, &mut self.rig);
        // Replaced: two parts, so that it is in the middle of something for longer.
        rig.write("edited.txt", &format!("edited on day {now}\n").repeat(300));
        rig.rename(&format!("local-{was}.txt"), &format!("folder-{was}/moved-{now}.txt"));
        rig.write(&format!("local-{now}.txt"), &format!("of local, day {now}"));
        if script == Script::Full {
            rig.rename(&format!("folder-{was}"), &format!("folder-{now}"));
            if was > 0 {
                rig.delete(&format!("folder-{now}/moved-{was}.txt"));
            }
            rig.delete(&format!("old-{was}/gone.txt"));
            std::fs::remove_dir(rig.path(&format!("local/old-{was}"))).unwrap();
            rig.write(&format!("old-{now}/gone.txt"), &format!("of old, day {now}"));
            rig.write_remotely("from-afar.txt", &format!("written by another client, day {now}"));
            rig.rename_remotely(&format!("remote-{was}.txt"), &format!("found-{now}.txt"));
            rig.write_remotely(&format!("remote-{now}.txt"), &format!("of remote, day {now}"));
            if was > 0 {
                rig.delete_remotely(&format!("found-{was}.txt"));
            }
            rig.write("both.txt", &format!("local, day {now}"));
            rig.write_remotely("both.txt", &format!("remote, day {now}"));
        } else {
            rig.rename(&format!("folder-{was}"), &format!("folder-{now}"));
        }
        self.day = now;
    }

    /// Nobody wants yesterday's conflicts.
    fn drop_conflicts(&mut self, story: &str) {
        let copies = self.rig.local_tree().into_keys().filter(|path| path.contains(".conflict-"));
        let copies: Vec<String> = copies.collect();
        assert!(copies.len() <= 1, "{copies:?}: {story}");
        for copy in &copies {
            self.rig.delete(&copy[1..]);
        }
    }

    /// Lets the program finish what `ended` has not, and looks at everything. A run may leave to the
    /// next one what nobody could tell for sure.
    fn recover(&mut self, ended: Option<Ended>, story: &str) {
        let is_done = |ended: &Ended| matches!(ended.exit, Some(0 | 3));
        let first = ended.filter(is_done).unwrap_or_else(|| self.rig.sync());
        let story = format!("{story}: {first:#?}");
        let ended = if first.exit == Some(1) { self.rig.sync() } else { first };
        let story = format!("{story}: {ended:#?}");
        if !is_done(&ended) {
            let status = self.rig.run(&["status"]).stdout;
            panic!("{story}, {:?}, {status}", self.rig.remote_tree().keys());
        }
        self.rig.assert_equal(&story);
        let (quiet, counted) = self.rig.count(|| self.rig.sync());
        assert_eq!(counted.mutating, 0, "{story}; then {quiet:#?}");
        assert_eq!(quiet.exit, ended.exit, "{story}; then {quiet:#?}");
        self.drop_conflicts(&story);
    }
}

/// The process to kill, once it runs.
type Victim = Arc<Mutex<Option<Pid>>>;

/// Runs the program and kills it at its `number`-th request from now. Tells whether it came so far.
fn kill_at(rig: &Rig, number: u64, phase: Phase) -> bool {
    let victim = Victim::default();
    let before = rig.cloud.counters().requests;
    let aim = Arc::clone(&victim);
    let mut child = {
        // The first request waits until the process is known.
        let mut known = victim.lock().unwrap();
        rig.cloud.hook(move |asked, _, now| {
            if asked == before + number && now == phase {
                kill(&aim);
            }
        });
        if phase == Phase::Before {
            let skip = u32::try_from(number - 1).unwrap();
            rig.cloud.fault("*", skip, 1, Fault::Drop);
        }
        let child = rig.start(&SYNC);
        *known = Some(Pid::from_child(&child));
        child
    };
    let killed = was_killed(&mut child);
    rig.cloud.hook(|_, _, _| {});
    rig.cloud.end_faults();
    killed
}

fn kill(victim: &Victim) {
    if let Some(pid) = victim.lock().unwrap().take() {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}

fn was_killed(child: &mut Child) -> bool {
    // Its output fits into the pipes.
    child.wait().unwrap().signal() == Some(9)
}

/// Worlds of one test that live at the same time: most of it is waiting.
const LANES: u64 = 3;

/// Calls `day` in several worlds with each number from 1 on, until it tells that the run had no such
/// request.
fn for_every_request(switches: &Switches, day: impl Fn(&mut World, u64) -> bool + Sync) {
    let lane = |first: u64| {
        let mut world = World::new(switches.clone());
        let mut number = first;
        while day(&mut world, number) {
            number += LANES;
        }
        assert!(number > 20, "the script has more requests than {number}");
    };
    std::thread::scope(|scope| {
        let lane = &lane;
        for first in 1..=LANES {
            scope.spawn(move || lane(first));
        }
    });
}

/// One kill a day, at each of the day's requests from the first to the last.
fn kill_at_every_request(switches: &Switches, script: Script, phase: Phase) {
    for_every_request(switches, |world, number| {
        world.change(script);
        let killed = kill_at(&world.rig, number, phase);
        let story = format!("killed at request {number}, {phase:?}");
        world.rig.check_ledger(&story);
        world.recover(None, &story);
        killed
    });
}

// CR-01 CR-02 CR-03 UP-09
#[test]
fn killed_before_any_request_is_served() {
    kill_at_every_request(&Switches::default(), Script::Full, Phase::Before);
}

// CR-01 CR-02 CR-03 UP-09
#[test]
fn killed_after_any_request_was_served() {
    kill_at_every_request(&Switches::default(), Script::Full, Phase::After);
}

// CR-02 UP-09
#[test]
#[ignore = "long"]
fn killed_before_any_request_where_uploads_are_known_to_replace() {
    kill_where_uploads_replace(Phase::Before);
}

// CR-02 UP-09
#[test]
#[ignore = "long"]
fn killed_after_any_request_where_uploads_are_known_to_replace() {
    kill_where_uploads_replace(Phase::After);
}

fn kill_where_uploads_replace(phase: Phase) {
    let switches = Switches { same_name_upload: Meeting::Replaces, ..Switches::default() };
    kill_at_every_request(&switches, Script::Names, phase);
}

// CR-02 RM-10
#[test]
#[ignore = "long"]
fn killed_before_any_request_where_taken_names_are_refused() {
    let switches = Switches { same_name_upload: Meeting::Rejects, ..Switches::default() };
    kill_at_every_request(&switches, Script::Names, Phase::Before);
}

// CR-02 RM-10
#[test]
#[ignore = "long"]
fn killed_after_any_request_where_taken_names_are_refused() {
    let switches = Switches { same_name_upload: Meeting::Rejects, ..Switches::default() };
    kill_at_every_request(&switches, Script::Names, Phase::After);
}

// CR-02 RM-10
#[test]
#[ignore = "long"]
fn killed_before_any_request_where_taken_names_are_changed() {
    kill_at_every_request(&renaming(), Script::Names, Phase::Before);
}

// CR-02 RM-10
#[test]
#[ignore = "long"]
fn killed_after_any_request_where_taken_names_are_changed() {
    kill_at_every_request(&renaming(), Script::Names, Phase::After);
}

fn renaming() -> Switches {
    let same_name_upload = Meeting::Renames;
    let same_name_mkdir = Meeting::Renames;
    let same_name_move = Meeting::Renames;
    Switches { same_name_upload, same_name_mkdir, same_name_move, ..Switches::default() }
}

/// A file of 54 parts.
fn big(version: u32) -> String {
    (0..20_000).map(|n| format!("{version} {n:08}\n")).collect()
}

/// Kills the program when so many of its requests of a kind have been served.
#[track_caller]
fn kill_after(rig: &Rig, what: &'static str, times: u32) {
    let victim = Victim::default();
    let mut child = {
        let (aim, left) = (Arc::clone(&victim), Mutex::new(times));
        let mut known = victim.lock().unwrap();
        rig.cloud.hook(move |_, label, phase| {
            if (label, phase) == (what, Phase::After) {
                let mut left = left.lock().unwrap();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    kill(&aim);
                }
            }
        });
        let child = rig.start(&SYNC);
        *known = Some(Pid::from_child(&child));
        child
    };
    assert!(was_killed(&mut child), "the kill came in time");
    rig.cloud.hook(|_, _, _| {});
    rig.check_ledger(what);
}

fn small_parts() -> Rig {
    Rig::new(Switches { chunk_bytes: 4096, ..Switches::default() })
}

// UP-01
#[test]
fn an_upload_of_many_parts_killed_three_times_sends_no_part_twice() {
    let mut rig = small_parts();
    rig.write("big.bin", &big(1));
    for _ in 0..3 {
        kill_after(&rig, "part", 12);
    }
    rig.sync().exits(0);
    rig.assert_equal("after three kills");
    let counters = rig.cloud.counters();
    assert_eq!(counters.parts_repeated, 0, "{counters:#?}");
    assert_eq!(counters.of("part"), (big(1).len() as u64).div_ceil(4096), "{counters:#?}");
    assert_eq!(counters.of("precreate"), 1, "one session: {counters:#?}");
}

// UP-02 UP-24
#[test]
fn a_file_edited_after_its_upload_was_killed_goes_up_as_it_is_now() {
    let mut rig = small_parts();
    rig.write("new.bin", &big(1));
    kill_after(&rig, "part", 12);
    rig.write("new.bin", &big(2));
    rig.sync().exits(0);
    rig.assert_equal("new, and edited");
    // The same for a replacement, which is staged under another name.
    rig.write("new.bin", &big(3));
    kill_after(&rig, "part", 12);
    rig.write("new.bin", &big(4));
    rig.sync().exits(0);
    rig.assert_equal("replaced, and edited");
    assert_eq!(rig.cloud.open_sessions(), 0, "sessions of no use are ended");
}

// CR-02: an upload that arrived is what both sides agreed on, so what came after it is an edit.
#[test]
fn a_file_edited_after_its_upload_arrived_and_nobody_could_record_it_is_no_conflict() {
    let mut rig = small_parts();
    for (version, last) in [(1, "complete"), (3, "rename"), (5, "delete")] {
        rig.write("edited.txt", &format!("version {version}"));
        // A new file is in place with its completion, a replaced one with the second renaming.
        kill_after(&rig, last, if last == "rename" { 2 } else { 1 });
        rig.write("edited.txt", &format!("version {}", version + 1));
        let ended = rig.sync().exits(0);
        assert_eq!((ended.sum("conflicts"), ended.sum("uploaded")), (0, 1), "{last}: {ended:#?}");
        rig.assert_equal(last);
    }
}

// A session is of no use once what it sent is in place: nobody asks the service about it any more.
#[test]
fn the_session_of_a_swap_that_was_rolled_forward_is_forgotten() {
    let mut rig = small_parts();
    rig.write("edited.txt", "version 1");
    rig.sync().exits(0);
    rig.write("edited.txt", "version 2");
    kill_after(&rig, "rename", 1);
    rig.sync().exits(0);
    rig.assert_equal("rolled forward");
    rig.write("edited.txt", "version 3");
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    assert_eq!((counted.of("abort"), counted.of("parts")), (0, 0), "{counted:#?}");
}

// CR-02: a swap that is rolled forward leaves the session of its upload saved; the next version's
// swap must be found again all the same.
#[test]
fn a_file_whose_replacement_is_killed_half_way_each_time_never_stays_away() {
    let mut rig = small_parts();
    for version in 1..=4 {
        rig.write("edited.txt", &format!("version {version}"));
        if version > 1 {
            kill_after(&rig, "rename", 1);
        }
        rig.sync().exits(0);
        rig.assert_equal(&format!("version {version}"));
    }
}

// UP-03 UP-04
#[test]
fn a_session_or_a_part_that_the_service_lost_meanwhile_is_sent_again() {
    let mut rig = small_parts();
    rig.write("big.bin", &big(1));
    kill_after(&rig, "part", 12);
    rig.cloud.lose_part(3);
    kill_after(&rig, "part", 12);
    rig.sync().exits(0);
    rig.assert_equal("a part was lost");
    rig.write("big.bin", &big(2));
    kill_after(&rig, "part", 12);
    rig.cloud.drop_sessions();
    rig.sync().exits(0);
    rig.assert_equal("the session was lost");
}

// ---- one failure at a time -----------------------------------------------------------------------

// CR-12
fn fail_every_request(fault: &Fault) {
    for_every_request(&Switches::default(), |world, number| {
        world.change(Script::Full);
        world.rig.cloud.fault("*", u32::try_from(number - 1).unwrap(), 1, fault.clone());
        let (ended, counted) = world.rig.count(|| world.rig.sync());
        world.rig.cloud.end_faults();
        let story = format!("{fault:?} at request {number}: {ended:#?}");
        assert!(matches!(ended.exit, Some(0 | 1 | 3 | 5)), "{story}");
        world.recover(Some(ended), &story);
        counted.requests >= number
    });
}

#[test]
fn any_connection_dropped_before_the_request_is_served() {
    fail_every_request(&Fault::Drop);
}

#[test]
fn any_connection_dropped_after_the_request_was_served() {
    fail_every_request(&Fault::LoseReply);
}

#[test]
fn any_request_answered_with_500() {
    fail_every_request(&Fault::refuse(500, "oops"));
}

#[test]
fn any_request_answered_with_429() {
    let body = "{}".to_owned();
    fail_every_request(&Fault::RefuseWith {
        status: 429,
        header: ("retry-after", "0".to_owned()),
        body,
    });
}

#[test]
fn any_request_answered_with_401() {
    fail_every_request(&Fault::refuse(401, r#"{"errno":401,"errmsg":"invalid token"}"#));
}

#[test]
fn any_request_served_and_answered_with_garbage() {
    fail_every_request(&Fault::Pretend { status: 200, body: "<html>hello</html>".to_owned() });
}
