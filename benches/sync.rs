//! How long the built binary takes, beside the floor measured in the same run.
//!
//! `cargo bench`; `BENCH_FILES=10000` for one size. Prints seconds, the ratio to the floor, the bar
//! that the ratio should stay under, and the peak memory. Judges nothing but that. With
//! `FOLDSYNC_BIN=…` another build is measured in place of this one.

mod gauge;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gauge::{Took, row};

const FOLDSYNC: &str = env!("CARGO_BIN_EXE_foldsync");
/// Files in a folder, but for the two big folders that are renamed.
const FOLDER_FILES: usize = 100;

fn main() {
    let sizes = std::env::var("BENCH_FILES").unwrap_or_else(|_| "10000,100000".to_owned());
    gauge::heading();
    for size in sizes.split(',') {
        let files = size.trim().parse().expect("BENCH_FILES is a list of numbers");
        bench(files);
    }
}

fn bench(files: usize) {
    let home = tempfile::TempDir::new().expect("a temporary folder");
    let pair = Pair::new(home.path());
    grow(&pair.local, files);
    settle();

    let floor = timed(|| copy_durably(&pair.local, &home.path().join("copy")));
    settle();
    let first = pair.sync();
    row(&format!("first sync, {files} files"), first, floor, None);
    settle();
    // Content written a moment ago is read once more before its times are trusted.
    pair.sync();

    let walk = timed(|| walk_both(&pair));
    let find = timed(|| find_both(&pair));
    let no_op = best(|| pair.sync());
    row(&format!("no-op, {files} files (walk)"), no_op, walk, None);
    row(&format!("no-op, {files} files (find)"), no_op, find, Some(2.0));

    let edited = best(|| {
        fs::write(pair.local.join("d0/f0"), format!("{:?}", Instant::now())).expect("a write");
        pair.sync()
    });
    row(&format!("one changed file of {files}"), edited, no_op.seconds, Some(1.2));

    let mut names = ["thousand", "renamed"].into_iter().cycle();
    let renamed = best(|| {
        let (from, to) = (names.next().unwrap_or_default(), names.clone().next());
        let to = pair.local.join(to.unwrap_or_default());
        fs::rename(pair.local.join(from), to).expect("a rename");
        pair.sync()
    });
    row("renamed folder of 1000 files", renamed, no_op.seconds, Some(1.3));

    if files >= 100_000 {
        fs::rename(pair.local.join("tenthousand"), pair.local.join("moved")).expect("a rename");
        row("renamed folder of 10000 files", pair.sync(), no_op.seconds, Some(1.3));
    }
}

struct Pair {
    local: PathBuf,
    remote: PathBuf,
    state: PathBuf,
}

impl Pair {
    fn new(home: &Path) -> Pair {
        let at = |name: &str| {
            let path = home.join(name);
            fs::create_dir(&path).expect("a folder");
            path
        };
        Pair { local: at("local"), remote: at("remote"), state: at("state") }
    }

    fn sync(&self) -> Took {
        let other = std::env::var_os("FOLDSYNC_BIN");
        let mut command = Command::new(other.unwrap_or_else(|| FOLDSYNC.into()));
        command
            .args(["sync", "--once", "--json", "--local"])
            .arg(&self.local)
            .arg("--remote")
            .arg(format!("dir:{}", self.remote.display()))
            .arg("--state-dir")
            .arg(&self.state)
            .stdout(Stdio::null());
        let took = gauge::run(command);
        assert!(took.exit.success(), "foldsync ended with {}", took.exit);
        took
    }
}

fn best(run: impl FnMut() -> Took) -> Took {
    let runs = std::iter::repeat_with(run).take(3);
    runs.min_by_key(|run| run.seconds).expect("three runs")
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// Nothing that an earlier step left to write may slow the next one down.
fn settle() {
    Command::new("sync").status().ok();
}

/// Files of 1 KiB, each different, in folders of a hundred; and two big folders to rename.
fn grow(root: &Path, files: usize) {
    let mut left = files;
    for (name, count) in [("thousand", 1_000), ("tenthousand", 10_000)] {
        if files >= count * 5 {
            fill(&root.join(name), count);
            left -= count;
        }
    }
    for folder in 0..left.div_ceil(FOLDER_FILES) {
        fill(&root.join(format!("d{folder}")), FOLDER_FILES.min(left - folder * FOLDER_FILES));
    }
}

fn fill(dir: &Path, count: usize) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    fs::create_dir(dir).expect("a folder");
    for file in 0..count {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut content = [0u8; 1024];
        content[..8].copy_from_slice(&number.to_le_bytes());
        fs::write(dir.join(format!("f{file}")), content).expect("a file");
    }
}

/// What `cp -r` would do, with each file made durable before the next.
fn copy_durably(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_durably(&entry.path(), &to);
            continue;
        }
        let mut content = Vec::new();
        File::open(entry.path()).and_then(|mut f| f.read_to_end(&mut content)).expect("a read");
        let mut copy = File::create(to).expect("a copy");
        copy.write_all(&content).and_then(|()| copy.sync_all()).expect("a write");
    }
}

fn walk_both(pair: &Pair) {
    let mut walk = ignore::WalkBuilder::new(&pair.local);
    walk.add(&pair.remote).standard_filters(false).threads(2);
    walk.build_parallel().run(|| {
        Box::new(|entry| {
            let _ = entry.map(|entry| entry.metadata());
            ignore::WalkState::Continue
        })
    });
}

fn find_both(pair: &Pair) {
    let format = "%p %s %T@ %C@ %i\n";
    for root in [&pair.local, &pair.remote] {
        let mut find = Command::new("find");
        find.arg(root).args(["-printf", format]).stdout(Stdio::null());
        assert!(find.status().is_ok_and(|status| status.success()), "find runs");
    }
}
