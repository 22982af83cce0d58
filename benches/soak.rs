//! A daemon that lives through a long day: users change both sides all the time, the service fails
//! in every way it can, and the process is killed.
//!
//! `cargo bench --bench soak`; `SOAK_MINUTES=20`, `SOAK_KILLS=100`, `SOAK_SEED=1`; with
//! `SOAK_LATE_LISTINGS=1` listings lag behind at times as well. At the end both sides
//! must be equal and everything that a user wrote and did not give up must be somewhere. Prints how
//! memory and descriptors went.

#![allow(clippy::unwrap_used, reason = "the rig of the tests may fail what uses it")]

#[path = "../tests/emulators/mod.rs"]
mod emulators;
mod gauge;
#[expect(dead_code, reason = "the scenarios need more of the vocabulary than benchmarks do")]
#[path = "../tests/cloud_e2e/rig.rs"]
mod rig;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use emulators::Fault;
use emulators::disktop::{CLIENT_ID, Switches};
use foldsync::daemon::client::Client;
use foldsync::daemon::status::State;
use gauge::Usage;
use rig::Rig;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Files that the users keep at once, about.
const FILES: usize = 400;
const FOLDERS: u64 = 12;
/// How long the last changes may take to arrive once nothing fails any more.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let minutes = from_environment("SOAK_MINUTES", 1);
    let kills = from_environment("SOAK_KILLS", 10);
    let seed = from_environment("SOAK_SEED", 1);
    let mut soak = Soak::new(seed);
    soak.run(Duration::from_secs(minutes * 60), kills);
    soak.end();
}

fn from_environment(key: &str, otherwise: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(otherwise, |text| text.parse().expect("a number in the environment"))
}

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

struct Soak {
    rig: Rig,
    dice: Dice,
    daemon: Option<Child>,
    /// Contents that users wrote, and have neither overwritten nor deleted.
    owed: BTreeSet<String>,
    written: u64,
    changes: u64,
    failed_requests: u64,
    killed: u64,
    may_be_blinded: bool,
    samples: Vec<Usage>,
}

impl Soak {
    fn new(seed: u64) -> Soak {
        let rig = Rig::new(Switches { chunk_bytes: 1 << 10, ..Switches::default() });
        let text = format!(
            "[remotes.top]\nkind = \"disktop\"\nbase_url = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             [remotes.top.limits]\nrequests_per_second = 1000\n\
             [[pair]]\nname = \"docs\"\nlocal = {:?}\nremote = \"top:/Documents\"\n\
             settle = \"200ms\"\npoll_interval = \"2s\"\nmax_delete = \"100%,1000000\"\n",
            rig.cloud.base(),
            rig.path("local")
        );
        fs::write(rig.path("sync.toml"), text).expect("a configuration");
        let mut soak = Soak {
            rig,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            daemon: None,
            owed: BTreeSet::new(),
            written: 0,
            changes: 0,
            failed_requests: 0,
            killed: 0,
            may_be_blinded: true,
            samples: Vec::new(),
        };
        soak.start();
        soak
    }

    fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.rig.path("log"));
        let mut command = self.rig.command(&["daemon", "--no-input"]);
        command.stdout(Stdio::null()).stderr(log.expect("a log"));
        self.daemon = Some(command.spawn().expect("the daemon starts"));
    }

    fn run(&mut self, span: Duration, kills: u64) {
        let begun = Instant::now();
        self.may_be_blinded = from_environment("SOAK_LATE_LISTINGS", 0) > 0;
        let mut told = 0;
        while begun.elapsed() < span {
            self.step();
            let due = begun.elapsed().as_secs_f64() / span.as_secs_f64() * kills as f64;
            if (self.killed as f64) < due {
                self.kill();
            }
            self.check_alive();
            let minute = begun.elapsed().as_secs() / 60;
            if minute > told {
                told = minute;
                self.tell(minute);
            }
            std::thread::sleep(Duration::from_millis(self.dice.below(300)));
        }
        while self.killed < kills {
            self.step();
            self.kill();
        }
    }

    /// What a person would have to do; nobody does it here.
    fn check_alive(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        if let Some(exit) = daemon.try_wait().expect("a child") {
            panic!("the daemon ended by itself with {exit}: {}", self.rig.path("log").display());
        }
        if self.changes.is_multiple_of(20) {
            self.samples.push(Usage::of(daemon.id()));
        }
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("a living child");
            daemon.wait().expect("a child");
            self.killed += 1;
            self.samples.clear();
        }
        self.start();
    }

    fn tell(&self, minute: u64) {
        let usage = self.samples.last().copied().unwrap_or_default();
        println!(
            "minute {minute}: {} changes, {} requests, {} of them failed on purpose, {} kills; \
             memory {:.1} MB, {} descriptors",
            self.changes,
            self.rig.cloud.counters().requests,
            self.failed_requests,
            self.killed,
            usage.resident_kb as f64 / 1024.0,
            usage.descriptors
        );
    }

    // ---- users and faults ------------------------------------------------------------------------

    fn step(&mut self) {
        self.changes += 1;
        match self.dice.below(10) {
            0..5 => drop(self.change_locally()),
            5..9 => self.change_remotely(),
            _ => self.fail(),
        }
    }

    fn content(&mut self) -> String {
        self.written += 1;
        let length = [10, 100, 1_000, 5_000][self.dice.below(4) as usize];
        let text = format!("content {} {}", self.written, "x".repeat(length));
        self.owed.insert(text.clone());
        text
    }

    fn fresh_name(&mut self) -> String {
        format!("d{}/f{}-{}", self.dice.below(FOLDERS), self.changes, self.dice.below(1000))
    }

    /// Anything may fail: the daemon works in the same folders.
    fn change_locally(&mut self) -> io::Result<()> {
        let root = self.rig.path("local");
        let files = files_below(&root);
        if files.is_empty() || (files.len() < FILES && self.dice.below(3) == 0) {
            let path = root.join(self.fresh_name());
            fs::create_dir_all(path.parent().unwrap_or(&root))?;
            let text = self.content();
            return self.write(&path, &text);
        }
        let file = files[self.dice.below(files.len() as u64) as usize].clone();
        match self.dice.below(10) {
            0..4 => {
                let text = self.content();
                self.edit(&file, &text)
            }
            4..6 => {
                let to = root.join(self.fresh_name());
                fs::create_dir_all(to.parent().unwrap_or(&root))?;
                fs::rename(&file, to)?;
                tidy(file.parent().unwrap_or(&root), &root)
            }
            6 => {
                let from = root.join(format!("d{}", self.dice.below(FOLDERS)));
                let to = root.join(format!("d{}/moved{}", self.dice.below(FOLDERS), self.changes));
                fs::rename(from, to)
            }
            _ => {
                fs::rename(&file, self.scratch())?;
                self.owed.remove(&fs::read_to_string(self.scratch())?);
                tidy(file.parent().unwrap_or(&root), &root)
            }
        }
    }

    /// Outside of the pair, on the same disk.
    fn scratch(&self) -> PathBuf {
        self.rig.path("home/scratch")
    }

    /// Exchanges a file with a new version: what was overwritten is what stood there at that moment,
    /// which the daemon may just have put there.
    fn edit(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let scratch = self.scratch();
        let exchange = |()| renameat_with(CWD, &scratch, CWD, path, RenameFlags::EXCHANGE);
        let done = fs::write(&scratch, text).map(exchange);
        match done {
            Ok(Ok(())) => {
                self.owed.remove(&fs::read_to_string(&scratch)?);
                Ok(())
            }
            Ok(Err(error)) => {
                self.owed.remove(text);
                Err(error.into())
            }
            Err(error) => {
                self.owed.remove(text);
                Err(error)
            }
        }
    }

    /// As editors do it: the file is never half written.
    fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let scratch = self.scratch();
        let done = fs::write(&scratch, text).and_then(|()| fs::rename(&scratch, path));
        if done.is_err() {
            self.owed.remove(text);
        }
        done
    }

    fn change_remotely(&mut self) {
        let tree = self.rig.cloud.tree();
        let in_pair = |path: &str| path.starts_with("/Documents/") && !path.contains("/.foldsync-");
        let files: Vec<(String, String)> = tree
            .into_iter()
            .filter(|(path, _)| in_pair(path))
            .filter_map(|(path, bytes)| Some((path, String::from_utf8(bytes?.to_vec()).ok()?)))
            .collect();
        if files.is_empty() || (files.len() < FILES && self.dice.below(3) == 0) {
            let path = format!("Documents/{}", self.fresh_name());
            let text = self.content();
            self.rig.cloud.write(&path, text);
            return;
        }
        let (path, old) = files[self.dice.below(files.len() as u64) as usize].clone();
        // Between the look and the deed something may have happened to it: then nothing is done.
        match self.dice.below(10) {
            0..4 => {
                let text = self.content();
                let new = Some(text.clone().into());
                let done = self.rig.cloud.write_over(&path[1..], old.as_bytes(), new);
                self.owed.remove(if done { &old } else { &text });
            }
            4..6 => {
                let to = format!("Documents/{}", self.fresh_name());
                if self.rig.cloud.read(&path[1..]).is_some() {
                    self.rig.cloud.rename(&path[1..], &to);
                }
            }
            _ => {
                if self.rig.cloud.write_over(&path[1..], old.as_bytes(), None) {
                    self.owed.remove(&old);
                }
            }
        }
    }

    fn fail(&mut self) {
        // Not the renewal of tokens: where its answer is lost, a person must log in again.
        const LABELS: [&str; 10] = [
            "list",
            "meta",
            "precreate",
            "part",
            "parts",
            "complete",
            "content",
            "rename",
            "move",
            "delete",
        ];
        let label = LABELS[self.dice.below(LABELS.len() as u64) as usize];
        let times = 1 + self.dice.below(4) as u32;
        let storm = ("retry-after", "1".to_owned());
        let fault = match self.dice.below(8) {
            0 => Fault::Drop,
            1 => Fault::LoseReply,
            2 => Fault::refuse(500, "{}"),
            3 => Fault::refuse(502, "bad gateway"),
            4 => Fault::RefuseWith { status: 429, header: storm, body: "{}".to_owned() },
            5 => Fault::CutBody(5),
            // What a user writes before a late deletion is carried out, nobody can save.
            6 if label == "delete" => Fault::Drop,
            6 => Fault::Delay(1_500),
            _ => {
                match self.dice.below(4) {
                    0 => self.rig.cloud.expire_access(),
                    1 => self.rig.cloud.drop_sessions(),
                    // With a failure or a kill in a swap, what was staged may stay behind.
                    2 if self.may_be_blinded => self.rig.cloud.freeze_listings(),
                    _ => self.rig.cloud.thaw_listings(),
                }
                return;
            }
        };
        self.rig.cloud.thaw_listings();
        self.failed_requests += u64::from(times);
        self.rig.cloud.fault(label, 0, times, fault);
    }

    // ---- the end ---------------------------------------------------------------------------------

    fn end(mut self) {
        self.rig.cloud.end_faults();
        self.rig.cloud.thaw_listings();
        let last = Instant::now();
        while !(self.is_at_rest() && self.rig.local_tree() == self.rig.remote_tree()) {
            if last.elapsed() > PATIENCE {
                self.rig.assert_equal(&format!("the log is {}", self.keep_log().display()));
                panic!("the daemon does not come to rest");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("equal {:.1?} after the last change and the last fault", last.elapsed());
        self.rig.assert_equal("at the end");
        let lost = self.lost();
        println!("{} contents written, {} still owed, {lost} lost", self.written, self.owed.len());
        self.tell_usage();
        let mut daemon = self.daemon.take().expect("a daemon");
        let pid = daemon.id().to_string();
        std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill runs");
        let exit = daemon.wait().expect("a child");
        assert!(exit.success(), "SIGTERM ends it with {exit}");
        let (_, counted) = self.rig.count(|| self.rig.run(&["sync", "--once", "--json"]));
        println!("one more run: {} mutating requests", counted.mutating);
        assert_eq!((lost, counted.mutating), (0, 0), "nothing is lost, and nothing is left to do");
    }

    fn keep_log(&self) -> PathBuf {
        let kept = std::env::temp_dir().join("foldsync-soak.log");
        fs::copy(self.rig.path("log"), &kept).expect("the log");
        kept
    }

    fn is_at_rest(&self) -> bool {
        let client = Client::new(self.rig.path("state/control.sock"));
        let status = self.rig.block_on(client.status());
        let pair = status.ok().and_then(|status| status.pair("docs").cloned());
        pair.is_some_and(|pair| pair.state == State::Idle && pair.last_success.is_some())
    }

    fn lost(&self) -> usize {
        let mut there: BTreeSet<Vec<u8>> =
            self.rig.cloud.tree().into_iter().filter_map(|(_, b)| Some(b?.to_vec())).collect();
        for file in all_below(&self.rig.path("local")) {
            there.extend(fs::read(file).ok());
        }
        let lost = self.owed.iter().filter(|owed| !there.contains(owed.as_bytes()));
        lost.inspect(|owed| println!("lost: {owed:.40}")).count()
    }

    /// The first quarter of the samples beside the last: what grows would show.
    fn tell_usage(&self) {
        let quarter = self.samples.len() / 4;
        let (first, last) =
            (&self.samples[..quarter], &self.samples[self.samples.len() - quarter..]);
        let mean = |samples: &[Usage], of: fn(&Usage) -> f64| {
            samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64
        };
        let mb: fn(&Usage) -> f64 = |usage| usage.resident_kb as f64 / 1024.0;
        let fds: fn(&Usage) -> f64 = |usage| usage.descriptors as f64;
        println!(
            "since the last start, first quarter and last: memory {:.1} and {:.1} MB, descriptors {:.1} \
             and {:.1}",
            mean(first, mb),
            mean(last, mb),
            mean(first, fds),
            mean(last, fds)
        );
    }
}

/// Ends with the soak, whatever becomes of it.
impl Drop for Soak {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Removes the folders from `folder` up that have become empty, so that the tree keeps its size.
fn tidy(folder: &Path, root: &Path) -> io::Result<()> {
    let above = folder.ancestors().take_while(|folder| *folder != root);
    for folder in above {
        fs::remove_dir(folder)?;
    }
    Ok(())
}

/// What users see.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = all_below(root);
    files.retain(|path| !path.components().any(|part| part.as_os_str() == ".foldsync"));
    files.sort();
    files
}

/// What is on its way or in the trash as well.
fn all_below(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => files.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    files
}
