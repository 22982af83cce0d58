//! What transfers to and from a cloud cost the built binary, beside a bare client on the same
//! emulated Disk.Top in the same run.
//!
//! `cargo bench --bench cloud`; `BENCH_MIB=64` for a smaller big file, `BENCH_FILES=500` for fewer
//! small ones. Fails only where a promise is broken: a byte lost, or sent twice.

#![allow(clippy::unwrap_used, reason = "the rig of the tests may fail what uses it")]

#[path = "../tests/emulators/mod.rs"]
mod emulators;
mod gauge;
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than benchmarks do")]
#[path = "../tests/cloud_e2e/rig.rs"]
mod rig;

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use emulators::disktop::{Phase, Switches};
use foldsync::tree::{HashAlgo, Hasher};
use futures_util::StreamExt as _;
use gauge::{Took, row};
use rig::{Rig, SYNC};
use rustix::process::{Pid, Signal, kill_process};

const MIB: u64 = 1 << 20;
const PART: u64 = 4 * MIB;

fn main() {
    let big = from_environment("BENCH_MIB", 1024) * MIB;
    let small = from_environment("BENCH_FILES", 5_000);
    gauge::heading();
    transfers(big);
    killed(big, 3);
    small_files(small);
}

fn from_environment(key: &str, otherwise: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(otherwise, |text| text.parse().expect("a number in the environment"))
}

fn switches() -> Switches {
    Switches { chunk_bytes: PART, ..Switches::default() }
}

// ---- one big file ------------------------------------------------------------------------------

/// Up and down, each beside a bare client that does the same and nothing else.
fn transfers(size: u64) {
    let rig = Rig::new(switches());
    let scratch = rig.path("bare.bin");
    grow(&scratch, size, 1);
    let bare_up = rig.block_on(bare_upload(&rig, &scratch, size));
    let bare_down = rig.block_on(bare_download(&rig, &scratch, size));
    std::fs::remove_file(&scratch).expect("the bare file");

    let file = rig.path("local").join("big.bin");
    grow(&file, size, 2);
    let md5 = md5_of(&file);
    let (up, counted) = rig.count(|| sync(&rig));
    row(&format!("upload of {} MiB", size / MIB), up, bare_up, Some(1.25));
    assert_eq!(counted.bytes_up, size, "each byte is sent once");

    rig.cloud.rename("Documents/big.bin", "Documents/kept.bin");
    sync(&rig);
    let (down, counted) = rig.count(|| {
        std::fs::remove_file(rig.path("local/kept.bin")).expect("the synced file");
        forget_pair(&rig);
        sync(&rig)
    });
    row(&format!("download of {} MiB", size / MIB), down, bare_down, Some(1.25));
    assert_eq!(counted.bytes_down, size, "each byte is fetched once");
    assert_eq!(md5_of(&rig.path("local/kept.bin")), md5, "what arrived is what was sent");
}

/// Without its state the next run is a first one: what is missing on one side comes from the other.
fn forget_pair(rig: &Rig) {
    for entry in std::fs::read_dir(rig.path("state")).expect("the state folder").flatten() {
        if entry.file_name().to_string_lossy().contains(".db") {
            std::fs::remove_file(entry.path()).expect("a database to remove");
        }
    }
}

/// Killed in the middle of its parts so many times: what the service has accepted is not sent again.
fn killed(size: u64, times: u64) {
    let rig = Rig::new(switches());
    let file = rig.path("local").join("big.bin");
    grow(&file, size, 3);
    let md5 = md5_of(&file);
    let accepted = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let (last, counted) = rig.count(|| {
        for kill in 1..=times {
            kill_after(&rig, &accepted, size / PART * kill / (times + 1));
        }
        rig.cloud.hook(|_, _, _| ());
        sync(&rig)
    });
    let took = Took { seconds: began.elapsed(), ..last };
    row(&format!("upload killed {times} times"), took, last.seconds, None);
    println!(
        "    {} parts of {} accepted more than once, {:.3} of the content sent",
        counted.parts_repeated,
        size / PART,
        counted.bytes_up as f64 / size as f64
    );
    assert_eq!(counted.parts_repeated, 0, "an accepted part is not sent again");
    let there = rig.cloud.read("Documents/big.bin").expect("the uploaded file");
    assert_eq!(Hasher::of(HashAlgo::Md5, &there).hex(), md5, "what is there is what was here");
}

/// Starts a sync and kills it once so many parts, of all runs together, have been accepted.
fn kill_after(rig: &Rig, accepted: &Arc<AtomicU64>, parts: u64) {
    let (reached, at) = std::sync::mpsc::channel();
    let accepted = accepted.clone();
    rig.cloud.hook(move |_, label, phase| {
        let is_part = (label, phase) == ("part", Phase::After);
        if is_part && accepted.fetch_add(1, Ordering::SeqCst) + 1 >= parts {
            let _ = reached.send(());
        }
    });
    let mut child = rig.start(&SYNC);
    at.recv().expect("the emulator lives");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("not zero");
    kill_process(pid, Signal::KILL).expect("a living child");
    child.wait().expect("a child");
}

// ---- the bare client ---------------------------------------------------------------------------

/// MD5, which the service wants first, and then the parts from the disk, one after the other.
async fn bare_upload(rig: &Rig, path: &Path, size: u64) -> Duration {
    let token = rig.cloud.issue_tokens()["access_token"].as_str().expect("a token").to_owned();
    let bare = reqwest::Client::builder().no_proxy().build().expect("a client");
    let started = Instant::now();
    let size_text = size.to_string();
    let md5 = md5_of(path);
    let form = [("parent_path", "/"), ("name", "bare.bin"), ("size", &size_text), ("md5", &md5)];
    let url = rig.cloud.base().join("v1/files/upload/precreate").expect("a path");
    let begun = bare.post(url).bearer_auth(token).form(&form).send().await.expect("an answer");
    let begun: serde_json::Value = begun.json().await.expect("an envelope");
    let text = |key: &str| begun["data"][key].as_str().expect("a text").to_owned();
    let (endpoint, upload) = (text("endpoint"), text("upload_id"));
    let mut file = File::open(path).expect("the bare file");
    for seq in 1..=size.div_ceil(PART) {
        let len = PART.min(size - (seq - 1) * PART);
        let mut part = vec![0; usize::try_from(len).expect("a part fits")];
        file.read_exact(&mut part).expect("a part");
        let url = format!("{endpoint}/u?upload_id={upload}&part_seq={seq}");
        let send = bare.post(url).header("content-type", "application/octet-stream").body(part);
        let reply = send.send().await.expect("an answer");
        assert!(reply.status().is_success(), "{:?}", reply.text().await);
        reply.bytes().await.expect("an answer to its end");
    }
    let done = bare.post(format!("{endpoint}/u/{upload}/complete")).send().await;
    let done = done.expect("an answer");
    assert!(done.status().is_success(), "{:?}", done.text().await);
    started.elapsed()
}

/// The signed link, and its bytes to the disk with their MD5.
async fn bare_download(rig: &Rig, path: &Path, size: u64) -> Duration {
    let token = rig.cloud.issue_tokens()["access_token"].as_str().expect("a token").to_owned();
    let id = rig.cloud.file_id("bare.bin").expect("the bare upload");
    let bare = reqwest::Client::builder().no_proxy().build().expect("a client");
    let started = Instant::now();
    let url = rig.cloud.base().join(&format!("v1/files/{id}/download")).expect("a path");
    let link = bare.get(url).bearer_auth(token).send().await.expect("an answer");
    let link: serde_json::Value = link.json().await.expect("an envelope");
    let reply = bare.get(link["data"]["url"].as_str().expect("a link")).send().await;
    let mut bytes = reply.expect("an answer").bytes_stream();
    let mut file = File::create(path).expect("a file");
    let mut hasher = Hasher::new(HashAlgo::Md5);
    let mut arrived = 0;
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.expect("a chunk");
        hasher.update(&chunk);
        file.write_all(&chunk).expect("room for it");
        arrived += chunk.len() as u64;
    }
    file.sync_all().expect("a durable file");
    assert_eq!(arrived, size);
    assert_ne!(hasher.finish().hex(), "");
    started.elapsed()
}

// ---- many small files --------------------------------------------------------------------------

fn small_files(count: u64) {
    let rig = Rig::new(switches());
    for n in 0..count {
        let folder = rig.path("local").join(format!("d{}", n / 100));
        std::fs::create_dir_all(&folder).expect("a folder");
        grow(&folder.join(format!("f{n}")), 4096, n + 10);
    }
    let (up, counted) = rig.count(|| sync(&rig));
    row(&format!("{count} files of 4 KiB up"), up, up.seconds, None);
    let each = |amount: f64| amount / count as f64;
    println!(
        "    {:.2} requests and {:.2} ms of processor time a file",
        each(counted.requests as f64),
        each(up.cpu.as_secs_f64() * 1e3)
    );
    let (_, counted) = rig.count(|| sync(&rig));
    println!("    second run: {} requests, {} mutating", counted.requests, counted.mutating);
    assert_eq!(counted.mutating, 0, "a second run changes nothing");

    std::fs::rename(rig.path("local/d0"), rig.path("local/renamed")).expect("a folder");
    let (_, counted) = rig.count(|| sync(&rig));
    println!("    folder renamed: {} mutating, {} bytes", counted.mutating, counted.bytes_up);
    std::fs::copy(rig.path("local/renamed/f0"), rig.path("local/copy")).expect("a file");
    let (_, counted) = rig.count(|| sync(&rig));
    println!("    the same content again: {} bytes", counted.bytes_up);
    rig.assert_equal("small files");
}

// ---- parts -------------------------------------------------------------------------------------

fn sync(rig: &Rig) -> Took {
    let mut command = rig.command(&SYNC);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    let took = gauge::run(command);
    assert!(took.exit.success(), "foldsync ended with {}", took.exit);
    took
}

/// A file of bytes that no other seed has.
fn grow(path: &Path, size: u64, seed: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file"));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = size;
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let len = left.min(8);
        file.write_all(&state.to_le_bytes()[..usize::try_from(len).expect("at most 8")])
            .expect("room for it");
        left -= len;
    }
    file.into_inner().expect("room for it").sync_all().expect("a durable file");
}

fn md5_of(path: &Path) -> String {
    let mut file = File::open(path).expect("a file");
    let mut hasher = Hasher::new(HashAlgo::Md5);
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).expect("a read") {
            0 => return hasher.finish().hex(),
            len => hasher.update(&block[..len]),
        }
    }
}
