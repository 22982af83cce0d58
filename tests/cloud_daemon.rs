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
use foldsync::daemon::status::{Degraded, PairStatus, State};
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
