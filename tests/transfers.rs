//! Transfers of the built program against an emulated Disk.Top: how they are shown while they run, and
//! how they go on where they broke off.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

mod emulators;

#[path = "cloud_e2e/rig.rs"]
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than transfers do")]
mod rig;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use emulators::Fault;
use emulators::disktop::{Phase, Switches};
use foldsync::daemon::client::Client;
use foldsync::daemon::status::{Direction, PairStatus, Rate, State};
use rig::{Rig, SYNC};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;

/// Far more than anything here takes: who waits that long has found a bug.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that ends with the test, and how to ask it.
struct Kept {
    child: Child,
    socket: PathBuf,
    client: Client,
    runtime: Runtime,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kept {
    fn start(rig: &Rig) -> Kept {
        Kept::run(rig, &["daemon", "--quiet"])
    }

    fn run(rig: &Rig, arguments: &[&str]) -> Kept {
        let child = rig.start(arguments);
        let socket = rig.path("state/control.sock");
        let client = Client::new(socket.clone());
        Kept { child, socket, client, runtime: Runtime::new().unwrap() }
    }

    /// What the daemon says, again and again, until `is` so.
    #[track_caller]
    fn until(&self, what: &str, mut is: impl FnMut(&PairStatus) -> bool) -> PairStatus {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            // It may not answer yet.
            if let Ok(status) = self.runtime.block_on(self.client.status())
                && let Some(pair) = status.pair("docs")
            {
                if is(pair) {
                    return pair.clone();
                }
                last = Some(pair.clone());
            }
            // Bytes make no events: there is nothing to wait for.
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: {last:#?}");
    }

    fn metrics(&self) -> String {
        let mut socket = UnixStream::connect(&self.socket).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Text that no other test has, of `bytes` bytes.
fn content(bytes: usize) -> String {
    let lines = (0..).flat_map(|n: u32| format!("line {n} of a long text\n").into_bytes());
    String::from_utf8(lines.take(bytes).collect()).unwrap()
}

#[test]
fn an_upload_is_shown_while_its_bytes_leave_and_is_gone_when_it_arrived() {
    let mut rig = Rig::new(Switches::default());
    let size = 3 << 20;
    rig.write("folder/big.bin", &content(size));
    rig.cloud.fault("part", 0, u32::MAX, Fault::Delay(150));
    let kept = Kept::start(&rig);
    let (mut seen, mut sums) = (Vec::new(), Vec::new());
    let begun = kept.until("the upload is shown", |pair| !pair.transfers.is_empty());
    assert_eq!(begun.transfers[0].path, "folder/big.bin");
    let active = "foldsync_active_transfers{pair=\"docs\",direction=\"up\"} 1";
    assert!(kept.metrics().lines().any(|line| line == active));
    let ended = kept.until("the upload ends", |pair| {
        for transfer in &pair.transfers {
            assert_eq!((transfer.direction, transfer.total), (Direction::Up, size as u64));
            // Sums follow the transfers within a moment.
            if let Some(progress) = pair.progress {
                assert_eq!(progress.bytes_total, size as u64, "{pair:#?}");
                sums.push(progress.bytes_done);
            }
            assert!(pair.totals.bytes_up >= transfer.done, "{pair:#?}");
            seen.push(transfer.done);
        }
        pair.state == State::Idle && pair.transfers.is_empty() && pair.last_success.is_some()
    });
    assert!(seen.is_sorted() && sums.is_sorted() && sums.len() > 3, "{seen:?} {sums:?}");
    seen.dedup();
    assert!(seen.len() > 3 && seen.iter().all(|done| *done <= size as u64), "{seen:?}");
    // Each byte went once, and all were counted.
    assert_eq!(ended.totals.bytes_up, size as u64);
    assert_eq!(ended.totals.bytes_hashed, size as u64);
    assert_eq!((ended.progress, ended.eta_s), (None, None));
    kept.until("nothing moves any more", |pair| pair.rate == Rate::default());
    rig.assert_equal("arrived");
}

#[test]
fn a_sync_that_stays_can_show_progress_and_so_can_one_that_asks_it() {
    let mut rig = Rig::new(Switches::default());
    rig.write("a.txt", &content(1000));
    let kept = Kept::run(&rig, &["sync", "-P", "--quiet"]);
    kept.until("the file arrives", |pair| pair.last_success.is_some());
    rig.write("b.txt", &content(2000));
    let asked = rig.run(&["sync", "--once", "-P"]).exits(0);
    assert!(asked.stdout.contains("(by the daemon)"), "{asked:#?}");
    assert_eq!(asked.stderr, "", "a minute has not passed");
    rig.assert_equal("both");
}

#[test]
fn what_was_counted_survives_a_login_that_had_ended() {
    let mut rig = Rig::new(Switches::default());
    rig.write("a.txt", &content(300_000));
    let kept = Kept::start(&rig);
    kept.until("the file arrives", |pair| pair.last_success.is_some() && pair.local.files == 1);
    rig.cloud.state().oauth.revoke_all();
    kept.runtime.block_on(kept.client.rescan("docs", false)).unwrap();
    let away = kept.until("the login is missed", |pair| pair.state == State::AuthExpired);
    assert_eq!((away.totals.bytes_up, away.totals.bytes_hashed), (300_000, 300_000));
    rig.log_in().exits(0);
    rig.write("b.txt", &content(1000));
    kept.runtime.block_on(kept.client.flush("docs")).unwrap();
    let back = kept.until("both are there", |pair| {
        pair.state == State::Idle && pair.local.files == 2 && pair.pending.operations() == 0
    });
    assert_eq!(back.totals.bytes_up, 301_000);
    assert!(back.totals.requests > away.totals.requests, "{away:#?} {back:#?}");
    rig.assert_equal("back");
}

// ---- going on where it broke off -----------------------------------------------------------------

/// More than a connection loses when it is cut: what the service sent and nobody read.
const CHUNK: u64 = 64 << 10;

// DL-01, DL-05
#[test]
fn a_download_that_breaks_off_goes_on_at_the_byte_that_it_had_reached() {
    let mut rig = Rig::new(Switches::default());
    let size = 3 << 20;
    rig.write_remotely("big.bin", &content(size));
    rig.cloud.fault("content", 0, 2, Fault::CutBody(1 << 20));
    let (ended, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("after two cuts");
    assert_eq!(counted.of("content"), 3, "{counted:#?}");
    let wire = counted.bytes_down;
    assert!((size as u64..=size as u64 + CHUNK).contains(&wire), "{wire} bytes came down");
    assert_eq!(ended.sum("downloaded"), 1);

    // A service that sends everything again costs its bytes, and no byte is written twice.
    rig.write_remotely("again.bin", &content(size + 1));
    rig.cloud.fault("content", 0, 1, Fault::CutBody(1 << 20));
    rig.cloud.fault("content", 0, 1, Fault::IgnoreRange);
    rig.sync().exits(0);
    rig.assert_equal("although the range was ignored");
}

// DL-07
#[test]
fn a_file_that_changes_while_its_download_is_broken_off_is_fetched_as_it_is_now() {
    let mut rig = Rig::new(Switches::default());
    let size = 2 << 20;
    let (old, new) = (content(size), content(size).replace("text", "TEXT"));
    rig.write_remotely("big.bin", &old);
    rig.cloud.fault("content", 0, 1, Fault::CutBody(1 << 20));
    let (cloud, text) = (Arc::downgrade(&rig.cloud), new.clone());
    rig.cloud.hook(move |_, label, phase| {
        let cloud = cloud.upgrade().unwrap();
        if (label, phase) == ("content", Phase::After) {
            cloud.write("Documents/big.bin", text.clone());
        }
    });
    let ended = rig.run(&SYNC).exits(0);
    let here = std::fs::read_to_string(rig.path("local/big.bin")).unwrap();
    assert!(
        here == new,
        "the first half is old: {}; {ended:#?}",
        here.starts_with(&old[..size / 2])
    );
}

// DL-02
#[test]
fn a_download_that_went_on_and_turns_out_wrong_is_begun_anew_and_never_installed() {
    let mut rig = Rig::new(Switches::default());
    rig.write_remotely("big.bin", &content(2 << 20));
    rig.cloud.fault("content", 0, 1, Fault::CutBody(1 << 20));
    rig.cloud.fault("content", 0, 1, Fault::FlipBit);
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("the third answer is right");
    assert_eq!(counted.of("content"), 3, "{counted:#?}");
}

// UP-05
#[test]
fn parts_of_one_file_go_at_once_and_each_byte_goes_once() {
    let mut rig = Rig::new(Switches::default());
    let size = 2 << 20;
    rig.write("big.bin", &content(size));
    rig.cloud.fault("part", 0, u32::MAX, Fault::Delay(50));
    let under_way = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counter = Arc::clone(&under_way);
    rig.cloud.hook(move |_, label, phase| match (label, phase) {
        ("part", Phase::Before) => {
            let now = counter.0.fetch_add(1, Ordering::SeqCst) + 1;
            counter.1.fetch_max(now, Ordering::SeqCst);
        }
        ("part", Phase::After) => {
            counter.0.fetch_sub(1, Ordering::SeqCst);
        }
        _ => {}
    });
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("up");
    assert_eq!((counted.bytes_up, counted.parts_repeated), (size as u64, 0));
    assert_eq!(under_way.1.load(Ordering::SeqCst), 3, "parts at once");
}

// ---- going on in another process -----------------------------------------------------------------

/// What may be in memory when a process ends, and what was on the wire then.
const UNWRITTEN: u64 = (512 << 10) + CHUNK;

impl Rig {
    fn staged(&self) -> Vec<String> {
        let items = std::fs::read_dir(self.path("local/.foldsync/stage")).unwrap();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A file of 4 MiB whose download fails in the middle and is given up.
    fn with_half_a_download(&mut self) -> u64 {
        let size = 4 << 20;
        self.write_remotely("big.bin", &content(size));
        self.cloud.fault("content", 0, 1, Fault::CutBody(2 << 20));
        self.cloud.fault(
            "content",
            0,
            u32::MAX,
            Fault::refuse(200, "<html>come back later</html>"),
        );
        self.sync().exits(1);
        self.cloud.end_faults();
        assert_eq!(self.staged().len(), 1);
        assert!(!self.path("local/big.bin").exists());
        size as u64
    }
}

// DL-01, DL-04
#[test]
fn a_download_that_was_given_up_goes_on_in_the_next_run() {
    let mut rig = Rig::new(Switches::default());
    let size = rig.with_half_a_download();
    let (ended, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("the second run");
    let wire = counted.bytes_down;
    assert!(wire <= size / 2 + UNWRITTEN, "{wire} bytes came down again");
    assert_eq!(ended.sum("bytes_down"), wire, "only what came is counted");
    assert_eq!(rig.staged(), Vec::<String>::new());
}

// DL-07, DL-17
#[test]
fn half_a_download_of_a_version_that_is_gone_is_not_used_and_not_kept() {
    let mut rig = Rig::new(Switches::default());
    let size = rig.with_half_a_download();
    let other = content(size as usize).replace("text", "TEXT");
    rig.write_remotely("big.bin", &other);
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("the other version");
    assert_eq!(counted.bytes_down, size);
    rig.sync().exits(0);
    assert_eq!(rig.staged(), Vec::<String>::new());
}

// DL-02
#[test]
fn half_a_download_that_is_damaged_on_the_disk_costs_another_one_and_nothing_else() {
    let mut rig = Rig::new(Switches::default());
    rig.with_half_a_download();
    let part = rig.path("local/.foldsync/stage").join(&rig.staged()[0]);
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("fetched again");
    assert_eq!(counted.of("content"), 2, "{counted:#?}");
    assert_eq!(rig.staged(), Vec::<String>::new());
}

// DL-17
#[test]
fn a_download_whose_process_was_killed_goes_on_where_it_was() {
    let mut rig = Rig::new(Switches::default());
    let size = 4 << 20;
    rig.write_remotely("big.bin", &content(size));
    rig.cloud.fault("content", 0, 1, Fault::CutBody(2 << 20));
    let pid = Arc::new(AtomicI32::new(0));
    let (victim, links) = (Arc::clone(&pid), AtomicUsize::new(0));
    rig.cloud.hook(move |_, label, phase| {
        // It asks for the second link when half of the file has arrived.
        let asks = (label, phase) == ("download", Phase::Before);
        if asks && links.fetch_add(1, Ordering::SeqCst) == 1 {
            let pid = Pid::from_raw(victim.load(Ordering::SeqCst)).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
    });
    let (first, before) = rig.count(|| {
        let child = rig.start(&SYNC);
        pid.store(i32::try_from(child.id()).unwrap(), Ordering::SeqCst);
        rig.finish(child)
    });
    assert_eq!((first.exit, before.bytes_down), (None, 2 << 20), "{first:#?}");
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("after the kill");
    let wire = counted.bytes_down;
    assert!(wire <= size as u64 / 2 + UNWRITTEN, "{wire} bytes came down again");
    assert_eq!(rig.staged(), Vec::<String>::new());
}

// UP-01, UP-03
#[test]
fn an_upload_goes_on_although_the_service_could_not_be_asked_for_its_parts_once() {
    let mut rig = Rig::new(Switches::default());
    let size = 1 << 20;
    rig.write("big.bin", &content(size));
    rig.cloud.fault("part", 10, u32::MAX, Fault::refuse(507, "no room"));
    rig.sync().exits(1);
    rig.cloud.end_faults();
    rig.cloud.fault("parts", 0, u32::MAX, Fault::refuse(500, "no"));
    let once = ["sync", "--once", "--force", "--max-duration", "1s"];
    let (_, counted) = rig.count(|| rig.run(&once).exits(1));
    assert_eq!((counted.of("precreate"), counted.bytes_up), (0, 0), "{counted:#?}");
    rig.cloud.end_faults();
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    assert_eq!((counted.of("precreate"), counted.parts_repeated), (0, 0), "{counted:#?}");
    assert_eq!(counted.bytes_up, size as u64 - 10 * CHUNK);
    rig.assert_equal("up");
}
