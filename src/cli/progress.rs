//! `--progress`: a live block on a terminal, a line a minute elsewhere. Always on standard error.
//!
//! Shows the status of pairs, whoever keeps them: a run of this process, this daemon, or another one.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{Global, LogFormat};
use super::out::{is_dumb, say};
use super::screen::{Screen, Stream};
use crate::clock::{Clock as _, SystemClock};
use crate::daemon::status::{self, PairStatus, State, Transfer};
use crate::engine::report::OpResult;
use crate::engine::{Engine, OpReport};
use crate::exec::meter::Meter;
use crate::text::json_printable;

const LIVE_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(60);
/// An engine is asked what is left for no more than this share of the time: with many operations
/// ahead, the question is not cheap.
const ASK_SHARE: u32 = 50;

enum Form {
    Live(Screen),
    Lines,
    Json,
}

/// Where and how progress is shown, until it is dropped.
pub(super) struct Progress(Form);

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        Progress(match global.log_format {
            LogFormat::Json => Form::Json,
            LogFormat::Text if std::io::stderr().is_terminal() && !is_dumb() => {
                Form::Live(Screen::new(Stream::Err))
            }
            LogFormat::Text => Form::Lines,
        })
    }

    /// How long to wait between two calls of `show`, and before the first one.
    pub(super) fn every(&self) -> Duration {
        match self.0 {
            Form::Live(_) => LIVE_EVERY,
            Form::Lines | Form::Json => LINE_EVERY,
        }
    }

    pub(super) fn show(&self, pairs: &[PairStatus]) {
        // Where lines stay, a pair at rest is not worth one.
        let busy = || pairs.iter().filter(|pair| is_busy(pair));
        match &self.0 {
            Form::Live(screen) => {
                let lines: Vec<String> = pairs.iter().flat_map(status::block).collect();
                screen.show(&lines);
            }
            Form::Lines => busy().for_each(|pair| say(status::one_line(pair))),
            Form::Json => busy().for_each(|pair| say(json_line(pair))),
        }
    }

    fn close(&self) {
        match &self.0 {
            Form::Live(screen) => screen.close(),
            Form::Lines | Form::Json => {}
        }
    }
}

fn is_busy(pair: &PairStatus) -> bool {
    match pair.state {
        State::Scanning | State::Planning | State::Syncing | State::Waiting => true,
        State::Idle
        | State::Paused
        | State::Held
        | State::Offline
        | State::AuthExpired
        | State::Error => false,
    }
}

/// Named as in a log line.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    pair: &'a str,
    state: State,
    pending: status::Pending,
    progress: Option<status::Progress>,
    rate: status::Rate,
    eta_s: Option<u64>,
    failed: u64,
    files_instant: u64,
    bytes_instant: u64,
    transfers: &'a [Transfer],
}

fn json_line(pair: &PairStatus) -> String {
    let line = Line {
        timestamp: SystemClock.now().rfc3339(),
        level: "INFO",
        message: "progress",
        pair: &pair.name,
        state: pair.state,
        pending: pair.pending,
        progress: pair.progress,
        rate: pair.rate,
        eta_s: pair.eta_s,
        failed: pair.failed_total,
        files_instant: pair.totals.files_instant,
        bytes_instant: pair.totals.bytes_instant,
        transfers: &pair.transfers,
    };
    json_printable(&serde_json::to_string(&line).unwrap_or_default())
}

/// Shows something again and again, until it is dropped.
pub(super) struct Showing {
    progress: Arc<Progress>,
    task: tokio::task::JoinHandle<()>,
}

impl Showing {
    /// Needs a runtime.
    pub(super) fn start(
        progress: Progress,
        read: impl Fn() -> Vec<PairStatus> + Send + 'static,
    ) -> Showing {
        let progress = Arc::new(progress);
        let shown = Arc::clone(&progress);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(shown.every()).await;
                shown.show(&read());
            }
        });
        Showing { progress, task }
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.task.abort();
        // Not left to the task, which may end later: the next line is not to meet it.
        self.progress.close();
    }
}

/// What a run of this process says of its pair.
pub(super) struct Run {
    status: Mutex<PairStatus>,
    meter: Arc<Meter>,
    /// When the engine may be asked again.
    ask_at: Mutex<Option<Instant>>,
    /// Paths whose last operation failed.
    failed: Mutex<BTreeSet<String>>,
}

impl Run {
    pub(super) fn new(status: PairStatus, meter: Arc<Meter>) -> Run {
        Run {
            status: Mutex::new(status),
            meter,
            ask_at: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    pub(super) fn ended(&self, report: &OpReport) {
        let mut failed = lock(&self.failed);
        if report.result == OpResult::Failed {
            failed.insert(report.path.clone());
        } else {
            failed.remove(&report.path);
        }
    }

    /// Asks the engine what is left, if that is due.
    pub(super) fn ask(&self, engine: &Engine) {
        let mut ask_at = lock(&self.ask_at);
        let begun = Instant::now();
        if ask_at.is_some_and(|at| begun < at) {
            return;
        }
        let pending = engine.pending();
        *ask_at = Some(begun + begun.elapsed() * ASK_SHARE);
        self.meter.expect(pending.into());
        let ended = engine.totals().operations();
        let mut status = lock(&self.status);
        status.enter(engine.activity().into(), SystemClock.now());
        status.pending = pending.into();
        let left = status.pending.operations();
        let (done, total) = (ended, ended + left);
        status.progress =
            (left > 0).then(|| status::Progress { done, total, ..status::Progress::default() });
    }

    pub(super) fn read(&self) -> PairStatus {
        let mut status = lock(&self.status).clone();
        status.failed_total = lock(&self.failed).len() as u64;
        status.take_reading(&self.meter.read(SystemClock.now()));
        status
    }
}

/// Every change is one assignment: a panic leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::daemon::status::Direction;
    use crate::plan::Mode;

    // SE-24
    #[test]
    fn a_line_of_json_is_one_line_and_names_what_moves() {
        let mut pair =
            PairStatus::new("docs".to_owned(), Mode::TwoWay, "/d".to_owned(), Timestamp(0));
        let path = "a\u{9b}b\nc".to_owned();
        let transfer = Transfer { path: path.clone(), direction: Direction::Up, done: 1, total: 2 };
        pair.transfers = vec![transfer];
        pair.rate.up_bps = 7;
        let line = json_line(&pair);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["message"], &json["pair"]), (&"progress".into(), &"docs".into()));
        assert_eq!((&json["rate"]["up_bps"], &json["eta_s"]), (&7.into(), &().into()));
        let expected =
            serde_json::json!([{"path": path, "direction": "up", "done": 1, "total": 2}]);
        assert_eq!(json["transfers"], expected);
    }

    #[test]
    fn only_pairs_that_are_at_work_are_worth_a_line() {
        let busy: Vec<&str> = State::ALL
            .into_iter()
            .filter(|state| {
                let (name, root) = ("docs".to_owned(), "/d".to_owned());
                let mut pair = PairStatus::new(name, Mode::TwoWay, root, Timestamp(0));
                pair.state = *state;
                is_busy(&pair)
            })
            .map(State::word)
            .collect();
        assert_eq!(busy, ["scanning", "planning", "syncing", "waiting"]);
    }
}
