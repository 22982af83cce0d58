//! The daemon as a real process on an emulated Disk.Top: what it says of a service that is not well,
//! and what it asks of it. Waits for its events, never for a time.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

mod emulators;
#[allow(dead_code, reason = "not every test of a daemon needs all of it")]
mod follow;

#[path = "cloud_e2e/rig.rs"]
#[allow(dead_code, reason = "runs without a daemon need more of it")]
mod rig;

use std::process::Child;
use std::time::{Duration, Instant};

use emulators::disktop::Switches;
use foldsync::daemon::events::{Event, Happening};
use foldsync::daemon::status::{Degraded, PairStatus, State};
use foldsync::engine::report::OpKind;
use follow::{Follow, PATIENCE};
use rig::Rig;

/// A rig whose pair is kept.
struct Kept {
    rig: Rig,
    follow: Follow,
    daemon: Child,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Kept {
    /// `pair` are more keys of the pair, and then other tables.
    fn start(rig: Rig, pair: &str) -> Kept {
        let config = std::fs::read_to_string(rig.path("sync.toml")).unwrap();
        let config = format!("{config}settle = \"100ms\"\n{pair}\n");
        std::fs::write(rig.path("sync.toml"), config).unwrap();
        let log = std::fs::File::create(rig.path("log")).unwrap();
        let daemon = rig.command(&["daemon"]).stderr(log).spawn().unwrap();
        let follow = Follow::new(rig.path("state/control.sock"));
        let kept = Kept { rig, follow, daemon };
        let begun = Instant::now();
        while kept.follow.runtime.block_on(kept.follow.client.status()).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{}", kept.log());
            std::thread::yield_now();
        }
        kept.flush(0);
        kept
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.rig.path("log")).unwrap()
    }

    #[track_caller]
    fn flush(&self, code: i32) {
        self.rig.run(&["flush"]).exits(code);
    }

    fn status(&self) -> PairStatus {
        self.follow.status()
    }

    /// Waits until the pair says what `is` wanted.
    #[track_caller]
    fn await_status(&self, what: &str, is: impl Fn(&PairStatus) -> bool) {
        let mut since = 0;
        let begun = Instant::now();
        while !is(&self.status()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:#?}\n{}", self.status(), self.log());
            let events = self.follow.client.events(since, Duration::from_secs(1));
            since = self.follow.runtime.block_on(events).unwrap().next;
        }
    }
}

// ---- a service that is not well ------------------------------------------------------------------

// UP-19
#[test]
fn a_full_remote_is_said_until_there_is_room_again() {
    let mut rig = Rig::new(Switches { quota_bytes: Some(1000), ..Switches::default() });
    rig.write("small", "text");
    let mut kept = Kept::start(rig, "poll_interval = \"1h\"");
    assert_eq!(kept.status().degraded, []);
    kept.rig.write("large", &"x".repeat(5000));
    kept.flush(1);
    assert_eq!(kept.status().degraded, [Degraded::QuotaFull]);
    let said = kept.rig.run(&["status"]).exits(0).stdout;
    assert!(said.contains("quota full"), "{said}");
    let said = kept.rig.run(&["status", "--json"]).exits(0).stdout;
    assert!(said.contains("\"quota-full\""), "{said}");
    // Other work goes on, and the word stays.
    kept.rig.write_remotely("theirs", "text");
    kept.flush(1);
    assert_eq!(kept.status().degraded, [Degraded::QuotaFull]);
    kept.rig.cloud.switch(|switches| switches.quota_bytes = None);
    kept.flush(0);
    assert_eq!(kept.status().degraded, []);
    kept.rig.assert_equal("there is room");
}

// AU-18
#[test]
fn clocks_that_differ_are_said_until_they_agree() {
    let rig = Rig::new(Switches { access_ttl_s: 1_000_000, ..Switches::default() });
    let kept = Kept::start(rig, "poll_interval = \"1h\"");
    assert_eq!(kept.status().degraded, []);
    kept.rig.cloud.advance(Duration::from_secs(3 * 3600));
    kept.flush(0);
    assert_eq!(kept.status().degraded, [Degraded::ClockSkew]);
    let said = kept.rig.run(&["status"]).exits(0).stdout;
    assert!(said.contains("3h 0m behind the remote's"), "{said}");
    kept.rig.cloud.be_on_time();
    kept.flush(0);
    assert_eq!(kept.status().degraded, []);
}

// RM-08, RM-11
#[test]
fn a_service_that_repeats_an_old_listing_is_said_to_be_stale() {
    let mut rig = Rig::new(Switches::default());
    rig.write("first", "text");
    let mut kept = Kept::start(rig, "poll_interval = \"1h\"");
    kept.rig.cloud.freeze_listings();
    kept.rig.write("second", "text");
    kept.flush(0);
    kept.flush(0);
    assert_eq!(kept.status().degraded, [Degraded::StaleListing]);
    let said = kept.rig.run(&["status"]).exits(0).stdout;
    assert!(said.contains("listings lack what it holds"), "{said}");
    kept.rig.cloud.thaw_listings();
    kept.flush(0);
    assert_eq!(kept.status().degraded, []);
    kept.rig.assert_equal("thawed");
}

// RM-30, AU-16
#[test]
fn a_remote_that_cannot_be_listed_is_offline_and_stale_until_it_can() {
    let mut rig = Rig::new(Switches::default());
    rig.write("first", "text");
    let mut kept = Kept::start(rig, "poll_interval = \"1s\"");
    let before = kept.status().remote.listing_at.unwrap();
    kept.rig.cloud.fault("list", 0, u32::MAX, emulators::Fault::refuse(503, "{}"));
    kept.await_status("offline and stale", |status| {
        status.state == State::Offline && status.degraded == [Degraded::StaleListing]
    });
    let listed_at = kept.status().remote.listing_at.unwrap();
    kept.rig.write("second", "text");
    kept.rig.cloud.end_faults();
    kept.flush(0);
    assert_eq!(kept.status().degraded, []);
    assert!(before <= listed_at && listed_at < kept.status().remote.listing_at.unwrap());
    kept.rig.assert_equal("back");
}

#[test]
fn what_failed_is_said_while_other_things_are_still_under_way() {
    let rig = Rig::new(Switches::default());
    let kept = Kept::start(rig, "poll_interval = \"1h\"");
    kept.flush(0);
    // Of two uploads, the one that begins first does not end, and the other one is refused.
    let cloud = &kept.rig.cloud;
    cloud.fault("part", 0, 1, emulators::Fault::Delay(600_000));
    cloud.fault(
        "precreate",
        1,
        u32::MAX,
        emulators::Fault::refuse(400, r#"{"errno":"invalid_name"}"#),
    );
    std::fs::write(kept.rig.path("local/one"), "text").unwrap();
    std::fs::write(kept.rig.path("local/two"), "another text").unwrap();
    kept.await_status("a failure beside an upload", |status| {
        status.state == State::Syncing && status.failed_total == 1 && status.pending.upload == 1
    });
}

// AU-05
#[test]
fn a_login_that_ended_is_told_once_and_a_new_one_is_taken_without_a_restart() {
    let mut rig = Rig::new(Switches::default());
    rig.write("first", "text");
    let tell = format!("[\"sh\", \"-c\", \"cat >> '{}'\"]", rig.path("told").display());
    let hooks = format!("[hooks]\non_auth_expired = {tell}\non_hold = {tell}\n");
    let mut kept = Kept::start(rig, &format!("poll_interval = \"1h\"\n{hooks}"));
    let told = |kept: &Kept| std::fs::read_to_string(kept.rig.path("told")).unwrap_or_default();
    kept.rig.cloud.state().oauth.revoke_all();
    kept.rig.cloud.expire_access();
    for _retry in 0..3 {
        kept.flush(77);
    }
    kept.await_status("a hook", |_| told(&kept).contains("on_auth_expired"));
    // A retry that fails in the same way is nothing new for the log either.
    assert_eq!(kept.log().matches("cannot run").count(), 1, "{}", kept.log());
    kept.rig.log_in().exits(0);
    kept.rig.write("second", "text");
    kept.flush(0);
    kept.rig.assert_equal("logged in again");
    // Another thing that is told comes after whatever else would have been.
    kept.rig.delete("first");
    kept.rig.delete("second");
    kept.flush(4);
    kept.await_status("a hook", |_| told(&kept).contains("on_hold"));
    assert_eq!(told(&kept).matches("on_auth_expired\"").count(), 1, "{}", told(&kept));
}

// ---- what a sweep costs --------------------------------------------------------------------------

/// More than are listed as a whole at every poll.
const FOLDERS: usize = 300;

/// A kept pair of many folders that were synced before.
fn swept() -> Kept {
    let mut rig = Rig::new(Switches::default());
    for n in 0..FOLDERS {
        rig.write(&format!("d{n}/f.txt"), &format!("file {n}"));
    }
    rig.sync().exits(0);
    Kept::start(rig, "poll_interval = \"1s\"\npoll_interval_max = \"6s\"")
}

impl Kept {
    fn cycles(&self) -> u64 {
        self.status().totals.cycles
    }

    /// Waits for a local file.
    #[track_caller]
    fn await_local(&self, path: &str, content: Option<&str>) {
        let at = self.rig.path("local").join(path);
        self.await_status(path, |_| std::fs::read_to_string(&at).ok().as_deref() == content);
    }

    /// Another client writes a file while nothing is under way: how many cycles ended before it was
    /// downloaded. A test that is slow to look finds fewer of them, never more.
    #[track_caller]
    fn polls_until_seen(&mut self, path: &str, content: &str) -> usize {
        self.flush(0);
        let before = self.follow.now();
        self.rig.write_remotely(path, content);
        let written = self.follow.now();
        let seen = |happening: &Happening| {
            matches!(happening, Happening::Operation { report, .. }
                if report.op == OpKind::Download && report.path == path)
        };
        let events = self.follow.await_event(before, path, seen);
        let until = events.iter().position(|event| seen(&event.happening)).unwrap();
        let ended = |event: &&Event| matches!(event.happening, Happening::CycleEnded { .. });
        events[..until].iter().filter(|event| event.id > written).filter(ended).count()
    }
}

#[test]
fn an_idle_tree_costs_fewer_listings_than_it_has_folders_and_says_how_old_they_are() {
    let kept = swept();
    let before = kept.cycles();
    const POLLS: u64 = 8;
    let (_, counted) = kept.rig.count(|| {
        kept.await_status("idle polls", |status| status.totals.cycles >= before + POLLS);
    });
    let listed = counted.of("list");
    assert!((FOLDERS as u64..POLLS * FOLDERS as u64 / 2).contains(&listed), "{listed} listings");
    let status = kept.status();
    assert!(status.remote.listing_complete && status.degraded.is_empty(), "{status:#?}");
    // Not everything was listed by the last poll.
    assert!(status.remote.listing_at < status.last_success, "{status:#?}");
}

#[test]
fn a_change_in_a_hot_folder_comes_with_the_next_poll_and_in_a_cold_one_within_the_limit() {
    let mut kept = swept();
    // Polls, and the one that was under way.
    let cold = kept.polls_until_seen("d3/first.txt", "first");
    assert!(cold <= 6 + 2, "{cold}");
    for round in 0..3 {
        let hot = kept.polls_until_seen("d3/second.txt", &format!("round {round}"));
        assert!(hot <= 2, "{hot}");
    }
    // What was changed here is worth a look, too.
    kept.rig.write("d7/mine.txt", "mine");
    let hot = kept.polls_until_seen("d7/theirs.txt", "theirs");
    assert!(hot <= 2, "{hot}");
    kept.flush(0);
    kept.rig.assert_equal("all of it");
}

// MV-04, SF-08
#[test]
fn moves_between_hot_and_cold_folders_and_deletions_are_what_they_are() {
    let mut kept = swept();
    kept.rig.write_remotely("d3/hot.txt", "hot");
    kept.await_local("d3/hot.txt", Some("hot"));
    let (kept, counted) = {
        let before = kept.rig.cloud.counters();
        kept.rig.rename_remotely("d3/hot.txt", "d90/hot.txt");
        kept.await_local("d90/hot.txt", Some("hot"));
        kept.rig.rename_remotely("d91/f.txt", "d3/cold.txt");
        kept.await_local("d3/cold.txt", Some("file 91"));
        kept.rig.delete_remotely("d92/f.txt");
        kept.await_local("d92/f.txt", None);
        kept.rig.rename_remotely("d93", "d3/inner");
        kept.await_local("d3/inner/f.txt", Some("file 93"));
        kept.flush(0);
        let after = kept.rig.cloud.counters();
        (kept, (after.mutating - before.mutating, after.bytes_down - before.bytes_down))
    };
    assert_eq!(counted, (0, 0), "something was uploaded, deleted or downloaded again");
    kept.rig.assert_equal("all of it");
}

/// A small source of chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, from: &'a [String]) -> &'a str {
        &from[self.roll(from.len())]
    }
}

/// Paths of files, or of folders, without the leading slash.
fn paths(tree: &rig::Tree, folders: bool) -> Vec<String> {
    let of_kind = tree.iter().filter(|(_, content)| content.is_none() == folders);
    of_kind.map(|(path, _)| path.trim_start_matches('/').to_owned()).collect()
}

/// Something that a user does on one side, as far as it can be done just now.
fn change_locally(kept: &mut Kept, dice: &mut Dice, number: usize) {
    let tree = kept.rig.local_tree();
    let (files, folders) = (paths(&tree, false), paths(&tree, true));
    let file = dice.pick(&files).to_owned();
    let folder = dice.pick(&folders).to_owned();
    match dice.roll(6) {
        0 => kept.rig.write(&file, &format!("local edit {number}")),
        1 | 2 => kept.rig.write(&format!("{folder}/l{number}.txt"), &format!("local {number}")),
        3 => {
            let to = kept.rig.path("local").join(&folder).join(format!("lm{number}.txt"));
            let _ = std::fs::rename(kept.rig.path("local").join(&file), to);
        }
        4 if folder.matches('/').count() == 0 => {
            let to = kept.rig.path("local").join(format!("ld{number}"));
            let _ = std::fs::rename(kept.rig.path("local").join(&folder), to);
        }
        _ if kept.rig.path("local").join(&file).exists() => kept.rig.delete(&file),
        _ => {}
    }
}

fn change_remotely(kept: &mut Kept, dice: &mut Dice, number: usize) {
    let tree = kept.rig.remote_tree();
    let (mut files, folders) = (paths(&tree, false), paths(&tree, true));
    // What is on its way is nobody's to touch.
    files.retain(|path| !path.contains(".foldsync-"));
    let file = dice.pick(&files).to_owned();
    let folder = dice.pick(&folders).to_owned();
    match dice.roll(6) {
        0 => kept.rig.write_remotely(&file, &format!("remote edit {number}")),
        1 | 2 => {
            let path = format!("{folder}/r{number}.txt");
            kept.rig.write_remotely(&path, &format!("remote {number}"));
        }
        3 => kept.rig.rename_remotely(&file, &format!("{folder}/rm{number}.txt")),
        4 if folder.matches('/').count() == 0 => {
            kept.rig.rename_remotely(&folder, &format!("rd{number}"));
        }
        _ => kept.rig.delete_remotely(&file),
    }
}

// S1, RM-01, MV-16: looks at a few folders at a time, while both sides change.
#[test]
fn a_day_of_changes_on_both_sides_loses_nothing_though_most_folders_are_not_looked_at() {
    const ROUNDS: usize = 6;
    let seeds: Vec<u64> = match std::env::var("FOLDSYNC_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1],
    };
    for seed in seeds {
        let mut dice = Dice(seed);
        let mut kept = swept();
        for round in 0..ROUNDS {
            for change in 0..4 {
                change_locally(&mut kept, &mut dice, round * 10 + change);
                change_remotely(&mut kept, &mut dice, round * 10 + change);
            }
            let before = kept.cycles();
            kept.await_status("polls", |status| status.totals.cycles > before + 1);
            kept.rig.check_ledger(&format!("seed {seed}, round {round}\n{}", kept.log()));
        }
        let code = kept.rig.run(&["flush"]).exit;
        assert!(matches!(code, Some(0 | 3)), "seed {seed}: {code:?}: {:#?}", kept.status());
        kept.rig.assert_equal(&format!("seed {seed}\n{}", kept.log()));
        kept.rig.check_ledger(&format!("seed {seed}\n{}", kept.log()));
    }
}
