//! `--progress`: one live line on a terminal, one line a minute elsewhere. Always on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::out::say;
use super::text::{count, size};
use crate::engine::OpReport;
use crate::engine::report::{OpKind, OpResult};

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// The progress of one pair's run.
#[derive(Debug)]
pub(super) struct Progress {
    pair: String,
    begun: Instant,
    counts: Arc<Counts>,
    bar: ProgressBar,
}

/// Redraws until it is dropped.
pub(super) struct Ticking(tokio::task::JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Progress {
    pub(super) fn new(pair: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Progress { pair: pair.to_owned(), begun: Instant::now(), counts: Arc::default(), bar }
    }

    pub(super) fn count(&self, report: &OpReport) {
        if report.result == OpResult::Failed {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.done.fetch_add(u64::from(report.op.is_visible()), Ordering::Relaxed);
        match report.op {
            OpKind::Upload => self.counts.bytes_up.fetch_add(report.bytes, Ordering::Relaxed),
            OpKind::Download => self.counts.bytes_down.fetch_add(report.bytes, Ordering::Relaxed),
            OpKind::Mkdir
            | OpKind::Move
            | OpKind::Park
            | OpKind::Delete
            | OpKind::Rmdir
            | OpKind::Conflict
            | OpKind::Read => 0,
        };
    }

    /// Redraws from time to time. Needs a runtime.
    pub(super) fn tick(&self) -> Ticking {
        let (bar, counts, pair, begun) =
            (self.bar.clone(), Arc::clone(&self.counts), self.pair.clone(), self.begun);
        let live = std::io::stderr().is_terminal();
        let every = if live { Duration::from_millis(500) } else { Duration::from_secs(60) };
        Ticking(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            // The first tick comes at once: there is nothing to tell yet elsewhere than live.
            ticks.tick().await;
            loop {
                let line = counts.line(&pair, begun.elapsed());
                if live {
                    bar.set_message(line);
                    bar.tick();
                }
                ticks.tick().await;
                if !live {
                    say(counts.line(&pair, begun.elapsed()));
                }
            }
        }))
    }

    /// Prints something above the live line.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Counts {
    fn line(&self, pair: &str, elapsed: Duration) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, failed) = (read(&self.done), read(&self.failed));
        if done == 0 && failed == 0 {
            return format!("{pair}: looking at both sides");
        }
        let rate = |bytes: u64| {
            let seconds = elapsed.as_secs_f64().max(1.0);
            format!("{} ({}/s)", size(bytes), size((bytes as f64 / seconds) as u64))
        };
        let mut line = format!("{pair}: {} done", count(done));
        if failed > 0 {
            line += &format!(", {} failed", count(failed));
        }
        for (sign, bytes) in [("↑", read(&self.bytes_up)), ("↓", read(&self.bytes_down))] {
            if bytes > 0 {
                line += &format!("  {sign} {}", rate(bytes));
            }
        }
        line
    }
}
