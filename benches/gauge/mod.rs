//! What the benchmarks measure with: a child process and what the kernel says it took, spread of
//! many samples, and the table they are printed in. Judges nothing.

#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its own part")]

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// What a process that has ended took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub seconds: Duration,
    /// User and system time of all its threads.
    pub cpu: Duration,
    pub peak_mb: f64,
    pub exit: ExitStatus,
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Took {
    let started = Instant::now();
    watch(started, command.spawn().expect("the program starts"))
}

/// Waits for a child, looking at it as it runs: after its end the kernel has forgotten.
pub fn watch(started: Instant, mut child: Child) -> Took {
    let mut last = Usage::default();
    loop {
        last = last.max(Usage::of(child.id()));
        if let Some(exit) = child.try_wait().expect("the child can be waited for") {
            let peak_mb = last.peak_kb as f64 / 1024.0;
            return Took { seconds: started.elapsed(), cpu: last.cpu, peak_mb, exit };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a living process takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub peak_kb: u64,
    pub resident_kb: u64,
    pub cpu: Duration,
    pub descriptors: usize,
    /// Times that one of its threads gave up the processor of itself.
    pub wake_ups: u64,
}

impl Usage {
    /// Nothing but zeros if there is no such process.
    pub fn of(pid: u32) -> Usage {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kb = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
        };
        Usage {
            peak_kb: kb("VmHWM:"),
            resident_kb: kb("VmRSS:"),
            cpu: cpu(pid),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            wake_ups: wake_ups(pid),
        }
    }

    fn max(self, other: Usage) -> Usage {
        Usage {
            peak_kb: self.peak_kb.max(other.peak_kb),
            resident_kb: self.resident_kb.max(other.resident_kb),
            cpu: self.cpu.max(other.cpu),
            descriptors: self.descriptors.max(other.descriptors),
            wake_ups: self.wake_ups.max(other.wake_ups),
        }
    }
}

fn cpu(pid: u32) -> Duration {
    /// Fixed in the kernel's interface to user programs.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold anything; user and system time are 12th and 13th behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

fn wake_ups(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of_one = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    threads.flatten().map(of_one).sum()
}

/// Many measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The sample that so many of a hundred do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        let (p50, p99, most) = (ms(50), ms(99), ms(100));
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, most {most:.1} ms of {}", self.len())
    }
}

pub fn heading() {
    println!(
        "{:<34} {:>9} {:>9} {:>7} {:>7} {:>9}",
        "case", "seconds", "floor", "ratio", "bar", "peak MB"
    );
}

/// `bar` is what the ratio to the floor should stay under.
pub fn row(case: &str, took: Took, floor: Duration, bar: Option<f64>) {
    let ratio = took.seconds.as_secs_f64() / floor.as_secs_f64();
    let bar = bar.map_or_else(|| "-".to_owned(), |bar| format!("{bar:.2}"));
    println!(
        "{case:<34} {:>9.3} {:>9.3} {ratio:>7.2} {bar:>7} {:>9.1}",
        took.seconds.as_secs_f64(),
        floor.as_secs_f64(),
        took.peak_mb
    );
}
