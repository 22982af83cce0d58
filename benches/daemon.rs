//! How long a change takes through the running daemon with a big tree, what the daemon takes while
//! nothing happens, and how fast it tells its status under load.
//!
//! `cargo bench --bench daemon`; `BENCH_FILES=1000` for a smaller tree, `BENCH_SAMPLES=20` for fewer
//! changes. The service is the emulated Disk.Top, in this process.

#![allow(clippy::unwrap_used, reason = "the rig of the tests may fail what uses it")]

#[path = "../tests/emulators/mod.rs"]
mod emulators;
mod gauge;
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than benchmarks do")]
#[path = "../tests/cloud_e2e/rig.rs"]
mod rig;

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use emulators::Fault;
use emulators::disktop::{CLIENT_ID, Phase, Switches};
use foldsync::daemon::client::Client;
use foldsync::daemon::status::{PairStatus, State};
use gauge::{Samples, Usage};
use rig::Rig;

const SETTLE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_secs(5);
const FOLDER_FILES: u64 = 100;
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let files = from_environment("BENCH_FILES", 100_000);
    let samples = from_environment("BENCH_SAMPLES", 200);
    latency(files, samples);
    idle(files, Duration::from_secs(from_environment("BENCH_IDLE_S", 120)));
    status_under_load(samples * 5);
}

fn from_environment(key: &str, otherwise: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(otherwise, |text| text.parse().expect("a number in the environment"))
}

// ---- a change and its way ----------------------------------------------------------------------

fn latency(files: u64, samples: u64) {
    let rig =
        rig(files, &format!("settle = \"{SETTLE:?}\"\npoll_interval = \"{POLL:?}\"\n"), 5_000);
    let begun = Instant::now();
    let mut daemon = start(&rig);
    println!("{files} files on both sides are recognised within {:.1?}", begun.elapsed());
    let events = listen(&rig);
    let (mut arrival, mut share) = (Samples::default(), Samples::default());
    for n in 0..samples {
        let folder = n * 7919 % files.div_ceil(FOLDER_FILES);
        let saved = Instant::now();
        fs::write(rig.path(&format!("local/d{folder}/saved{n}")), format!("saved {n}"))
            .expect("a file to save");
        share.add(next(&events, "precreate").duration_since(saved).saturating_sub(SETTLE));
        arrival.add(next(&events, "complete").duration_since(saved).saturating_sub(SETTLE));
    }
    println!("saved file to first request, beyond the settle time: {share} (bar: p99 50 ms)");
    println!("saved file to complete on the remote, beyond it:     {arrival} (bar: 500 ms)");

    let mut arrival = Samples::default();
    for n in 0..(samples / 5).max(1) {
        let folder = n * 7919 % files.div_ceil(FOLDER_FILES);
        let content = format!("from elsewhere {n}");
        // At any moment between two polls.
        std::thread::sleep(POLL * u32::try_from(n * 37 % 100).expect("below 100") / 100);
        rig.cloud.write(&format!("Documents/d{folder}/f0"), content.clone());
        let saved = Instant::now();
        let path = rig.path(&format!("local/d{folder}/f0"));
        wait_for(|| fs::read_to_string(&path).is_ok_and(|text| text == content));
        arrival.add(saved.elapsed());
    }
    println!("remote change to the disk, polled every {POLL:?}:        {arrival}");
    println!("{}", usage(&daemon));
    stop(&mut daemon);
}

fn usage(daemon: &Child) -> String {
    let usage = Usage::of(daemon.id());
    let mb = |kb: u64| kb as f64 / 1024.0;
    format!(
        "    memory {:.1} MB, at most {:.1} MB; {} descriptors",
        mb(usage.resident_kb),
        mb(usage.peak_kb),
        usage.descriptors
    )
}

/// Hears of each request as it comes in, and of each that is done.
fn listen(rig: &Rig) -> Receiver<(String, Instant)> {
    let (told, events): (Sender<(String, Instant)>, _) = channel();
    rig.cloud.hook(move |_, label, phase| {
        let counts = match phase {
            Phase::Before => label == "precreate",
            Phase::After => label == "complete",
        };
        if counts {
            let _ = told.send((label.to_owned(), Instant::now()));
        }
    });
    events
}

fn next(events: &Receiver<(String, Instant)>, wanted: &str) -> Instant {
    loop {
        let (label, at) = events.recv_timeout(PATIENCE).expect("the change is on its way");
        if label == wanted {
            return at;
        }
    }
}

// ---- nothing happens ---------------------------------------------------------------------------

/// With the settings that come with the program.
fn idle(files: u64, span: Duration) {
    let rig = rig(files, "", 5_000);
    rig.run(&["sync", "--once"]).exits(0);
    configure(&rig, "", 4);
    let mut daemon = start(&rig);
    // Threads that the start needed end by themselves, and their wake-ups with them.
    std::thread::sleep(Duration::from_secs(15));
    let (before, requests) = (Usage::of(daemon.id()), rig.cloud.counters().requests);
    std::thread::sleep(span);
    let after = Usage::of(daemon.id());
    let share = (after.cpu - before.cpu).as_secs_f64() / span.as_secs_f64();
    println!(
        "idle for {span:?} with {files} files: {:.2} % of a processor (bar: 0.5), {:.1} wake-ups a \
         second, {} requests",
        share * 100.0,
        after.wake_ups.saturating_sub(before.wake_ups) as f64 / span.as_secs_f64(),
        rig.cloud.counters().requests - requests
    );
    println!("{}", usage(&daemon));
    stop(&mut daemon);
}

// ---- status ------------------------------------------------------------------------------------

fn status_under_load(samples: u64) {
    let rig = rig(100, "settle = \"0s\"\n", 1_000);
    let mut daemon = start(&rig);
    let big = File::create(rig.path("local/big")).expect("a file");
    big.set_len(10 << 30).expect("a sparse file");
    wait_for(|| pair(&rig).is_some_and(|pair| pair.state == State::Syncing));
    println!("status while 10 GiB are read:      {} (bar: p99 10 ms)", ask(&rig, samples));
    let parts = || rig.cloud.counters().of("part");
    wait_for(|| parts() > 0);
    let before = parts();
    println!("status while 10 GiB are sent:      {}", ask(&rig, samples));
    assert!(parts() > before, "the transfer runs while the status is asked for");
    stop(&mut daemon);
    fs::remove_file(rig.path("local/big")).expect("the big file");

    let mut daemon = start(&rig);
    rig.cloud.fault("*", 0, u32::MAX, Fault::Delay(600_000));
    fs::write(rig.path("local/new"), "new").expect("a file");
    let requests = rig.cloud.counters().requests;
    wait_for(|| rig.cloud.counters().requests > requests);
    println!("status while the remote hangs:     {}", ask(&rig, samples));
    stop(&mut daemon);
}

fn ask(rig: &Rig, times: u64) -> Samples {
    let client = client(rig);
    let mut samples = Samples::default();
    // The other runtime serves the requests of the transfer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for _ in 0..times {
        let asked = Instant::now();
        runtime.block_on(client.status()).expect("an answer");
        samples.add(asked.elapsed());
    }
    samples
}

// ---- parts -------------------------------------------------------------------------------------

/// A pair whose sides hold the same files, and have not met.
fn rig(files: u64, pair: &str, requests_per_second: u32) -> Rig {
    let switches = Switches { chunk_bytes: 4 << 20, ..Switches::default() };
    let rig = Rig::new(switches);
    configure(&rig, pair, requests_per_second);
    for n in 0..files {
        let folder = format!("d{}", n / FOLDER_FILES);
        let name = format!("{folder}/f{}", n % FOLDER_FILES);
        let content = format!("{n:01024}");
        fs::create_dir_all(rig.path("local").join(folder)).expect("a folder");
        fs::write(rig.path("local").join(&name), &content).expect("a file");
        rig.cloud.write(&format!("Documents/{name}"), content);
    }
    rig
}

fn configure(rig: &Rig, pair: &str, requests_per_second: u32) {
    let text = format!(
        "[remotes.top]\nkind = \"disktop\"\nbase_url = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         [remotes.top.limits]\nrequests_per_second = {requests_per_second}\n\
         [[pair]]\nname = \"docs\"\nlocal = {:?}\nremote = \"top:/Documents\"\n{pair}",
        rig.cloud.base(),
        rig.path("local")
    );
    fs::write(rig.path("sync.toml"), text).expect("a configuration");
}

/// A daemon that has come to rest.
fn start(rig: &Rig) -> Child {
    let mut command = rig.command(&["daemon"]);
    let log = File::create(rig.path("log")).expect("a log");
    command.stdout(Stdio::null()).stderr(log);
    let daemon = command.spawn().expect("the daemon starts");
    wait_for(|| pair(rig).is_some_and(|p| p.state == State::Idle && p.last_success.is_some()));
    daemon
}

fn stop(daemon: &mut Child) {
    let pid = daemon.id().to_string();
    std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs");
    daemon.wait().expect("the daemon ends");
}

fn client(rig: &Rig) -> Client {
    Client::new(rig.path("state/control.sock"))
}

fn pair(rig: &Rig) -> Option<PairStatus> {
    let status = rig.block_on(client(rig).status()).ok()?;
    status.pair("docs").cloned()
}

/// Looks often: what is measured lasts much longer than a look.
fn wait_for(mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}
