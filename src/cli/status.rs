//! `status`: how the pairs are doing, from the daemon, or without one as far as the state databases
//! tell; the text says then that it is what the last run recorded.

mod live;

use serde::Serialize;

use super::args::StatusArgs;
use super::context::{Context, Pair, locate};
use super::last_run::LastRun;
use super::out::{Out, say};
use super::path_state::{self, View};
use super::runner::exit_of;
use crate::clock::Timestamp;
use crate::config::RemoteSpec;
use crate::engine::Summary;
use crate::exit::{Exit, Failure};
use crate::store::{ConflictFate, FailureRow, HeldRow, HeldState, Store};
use crate::text::{Paint, count, counted, printable, size};
use crate::tree::Side;

/// The words of `state`. A pair without a daemon is never `scanning` or `planning` by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Idle,
    Syncing,
    /// Work is left for the next run.
    Waiting,
    Held,
    Offline,
    AuthExpired,
    Error,
}

impl State {
    fn words(self) -> (&'static str, Paint) {
        match self {
            State::Idle => ("up to date", Paint::Good),
            State::Syncing => ("syncing", Paint::Good),
            State::Waiting => ("waiting for the next sync", Paint::Notice),
            State::Held => ("held", Paint::Notice),
            State::Offline => ("offline", Paint::Bad),
            State::AuthExpired => ("login expired", Paint::Bad),
            State::Error => ("error", Paint::Bad),
        }
    }
}

#[derive(Serialize)]
struct Answer {
    schema: u32,
    version: &'static str,
    /// Of the daemon; none runs.
    pid: Option<u32>,
    pairs: Vec<PairLine>,
}

#[derive(Serialize)]
struct PairLine {
    name: String,
    state: State,
    since: Option<String>,
    local: LocalLine,
    remote: RemoteLine,
    pending: Pending,
    rate: RateLine,
    eta_s: Option<u64>,
    conflicts: usize,
    failed: Vec<FailedLine>,
    held: Vec<HeldLine>,
    degraded: Vec<&'static str>,
    last_success: Option<String>,
    /// Why the last run could not do its work.
    error: Option<String>,
    #[serde(skip)]
    exit: Exit,
    #[serde(skip)]
    skipped: usize,
    #[serde(skip)]
    label: String,
    #[serde(skip)]
    where_to: String,
}

#[derive(Serialize)]
struct LocalLine {
    root: String,
    files: u64,
    bytes: u64,
    /// Nobody watches without a daemon.
    watch: &'static str,
}

#[derive(Serialize)]
struct RemoteLine {
    kind: &'static str,
    path: String,
    listing_at: Option<String>,
    listing_complete: bool,
}

/// What is known to be left; a sync may find more.
#[derive(Default, Serialize)]
struct Pending {
    upload: u64,
    download: u64,
    delete: u64,
    #[serde(rename = "move")]
    moves: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct RateLine {
    up_bps: u64,
    down_bps: u64,
}

#[derive(Serialize)]
struct FailedLine {
    path: String,
    error: String,
    retry_at: Option<String>,
    attempts: u32,
}

#[derive(Serialize)]
struct HeldLine {
    id: i64,
    kind: String,
    count: u64,
    created: String,
}

pub(super) fn run(args: &StatusArgs, context: &Context) -> Result<Exit, Failure> {
    let pairs = context.pairs(&[], &args.ad_hoc)?;
    let (pairs, path) = match &args.target {
        None => (pairs, None),
        Some(target) => match pairs.iter().find(|pair| pair.config.name == *target) {
            Some(pair) => (vec![pair.clone()], None),
            None => {
                let (pair, path) = locate(&pairs, target)?;
                (vec![pair], Some(path))
            }
        },
    };
    let runtime = super::runtime()?;
    let live = runtime.block_on(live::find(&pairs, context))?;
    if let (Some(path), [pair]) = (&path, pairs.as_slice()) {
        let view = runtime.block_on(path_state::view(pair, path))?;
        print_path(&context.out, &view, args.json);
        let otherwise = if live.is_some() { Exit::InSync } else { Exit::Busy };
        return Ok(if args.check { view.state.exit() } else { otherwise });
    }
    if let Some(live) = live {
        return runtime.block_on(live.show(args, context));
    }
    let lines = pairs.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    let exit = lines.iter().fold(Exit::InSync, |worst, line| worst.or_worse(line.exit));
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        context.out.json(&Answer { schema: 1, version, pid: None, pairs: lines });
    } else {
        for line in &lines {
            print(&context.out, line, args.check);
        }
        if !args.check && !context.global.quiet {
            say("no daemon is running: this is what the last sync recorded");
        }
    }
    // The contract: 6 tells that nobody keeps the pairs in sync; `--check` asks for their state.
    Ok(if args.check { exit } else { Exit::Busy })
}

fn describe(pair: &Pair) -> Result<PairLine, Failure> {
    let store = pair.records()?;
    let failed = |error: crate::store::StoreError| pair.failed(&error);
    let mut records = Records::default();
    if let Some(store) = &store {
        records = Records::read(store).map_err(failed)?;
    }
    let exit = records.exit();
    let state = if pair.is_locked() { State::Syncing } else { records.state(exit) };
    let last = records.last.as_ref();
    let complete = last.and_then(|last| last.summary.as_ref()).filter(|s| s.stop.is_none());
    let ended = last.map(LastRun::ended_at);
    Ok(PairLine {
        name: pair.config.name.clone(),
        state,
        since: ended.map(Timestamp::rfc3339),
        local: LocalLine {
            root: pair.config.local.to_string_lossy().into_owned(),
            files: records.files,
            bytes: records.bytes,
            watch: "off",
        },
        remote: RemoteLine {
            kind: pair.remote.as_ref().map_or("dir", |remote| remote.kind.word()),
            path: pair.config.remote.to_string(),
            listing_at: complete.and(ended).map(Timestamp::rfc3339),
            listing_complete: complete.is_some(),
        },
        pending: records.pending(),
        rate: RateLine { up_bps: 0, down_bps: 0 },
        eta_s: None,
        conflicts: records.conflicts,
        failed: records.failures.iter().map(failed_line).collect(),
        held: records.held.iter().map(held_line).collect(),
        degraded: Vec::new(),
        last_success: records.last_success.map(Timestamp::rfc3339),
        error: last.and_then(|last| last.message.clone()),
        exit,
        skipped: records.skipped(),
        label: pair.name(),
        where_to: where_to(pair),
    })
}

fn where_to(pair: &Pair) -> String {
    let arrow = match pair.config.mode.source() {
        None => "⇄",
        Some(Side::Local) => "↑",
        Some(Side::Remote) => "↓",
    };
    let remote = match &pair.config.remote {
        spec @ (RemoteSpec::Named { .. } | RemoteSpec::Dir(_)) => printable(&spec.to_string()),
    };
    format!("{}  {arrow} {remote}", super::context::shown(&pair.config.local))
}

fn failed_line(row: &FailureRow) -> FailedLine {
    FailedLine {
        path: row.path.clone(),
        error: row.message.clone(),
        retry_at: row.retry_at.map(Timestamp::rfc3339),
        attempts: row.attempts,
    }
}

fn held_line(row: &HeldRow) -> HeldLine {
    HeldLine {
        id: row.id,
        kind: row.kind.clone(),
        count: row.files,
        created: row.created_at.rfc3339(),
    }
}

/// What a state database says about a pair.
#[derive(Default)]
struct Records {
    files: u64,
    bytes: u64,
    conflicts: usize,
    failures: Vec<FailureRow>,
    held: Vec<HeldRow>,
    last: Option<LastRun>,
    last_success: Option<Timestamp>,
}

impl Records {
    fn read(store: &Store) -> crate::store::Result<Records> {
        let (files, bytes) = store.totals()?;
        Ok(Records {
            files,
            bytes,
            conflicts: store.conflicts(ConflictFate::Open)?.len(),
            failures: store.failures()?,
            held: store.held(&[HeldState::Pending])?,
            last: LastRun::read(store),
            last_success: LastRun::last_success(store),
        })
    }

    fn skipped(&self) -> usize {
        let summary = self.last.as_ref().and_then(|last| last.summary.as_ref());
        summary.map_or(0, |summary| summary.skipped.len())
    }

    /// The code of the last run, with what was decided since taken into account.
    fn exit(&self) -> Exit {
        let Some(last) = &self.last else { return Exit::InSync };
        let Some(summary) = &last.summary else { return last.exit() };
        exit_of(&Summary {
            conflicts: self.conflicts as u64,
            failed: self.failures.len() as u64,
            held: self.held.len() as u64,
            ..summary.clone()
        })
    }

    fn state(&self, exit: Exit) -> State {
        if self.last.is_none() {
            return State::Waiting;
        }
        match exit {
            Exit::InSync | Exit::Remaining => State::Idle,
            Exit::SomeFailed
            | Exit::MaxTransfer
            | Exit::MaxDuration
            | Exit::Interrupted
            | Exit::Busy => State::Waiting,
            Exit::Held => State::Held,
            Exit::Unavailable => State::Offline,
            Exit::LoginNeeded => State::AuthExpired,
            Exit::Fatal | Exit::BadConfig | Exit::Usage => State::Error,
        }
    }

    fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for row in &self.failures {
            match row.kind.as_str() {
                "upload" => pending.upload += 1,
                "download" => pending.download += 1,
                "move" => pending.moves += 1,
                "delete" => pending.delete += 1,
                _ => {}
            }
        }
        pending.delete += self.held.iter().map(|row| row.files).sum::<u64>();
        pending
    }
}

fn print(out: &Out, line: &PairLine, brief: bool) {
    let (words, paint) = line.state.words();
    let files = format!("{}, {}", counted(line.local.files, "file"), size(line.local.bytes));
    out.line(format!("{}  {}  {}  {files}", line.label, line.where_to, out.paint(paint, words)));
    if brief {
        return;
    }
    if let Some(error) = &line.error {
        out.line(format!("  ! {}", printable(error)));
    }
    for held in &line.held {
        let kind = printable(&held.kind);
        out.line(format!("  ! held #{}: {} ({kind})", held.id, counted(held.count, "deletion")));
    }
    for (number, word) in [(line.conflicts, "conflict"), (line.skipped, "skipped item")] {
        if number > 0 {
            out.line(format!("  ! {}", counted(number as u64, word)));
        }
    }
    for failed in line.failed.iter().take(10) {
        let (path, error) = (printable(&failed.path), printable(&failed.error));
        out.line(format!("  ! failed {path}: {error} (tried {} times)", failed.attempts));
    }
    if line.failed.len() > 10 {
        out.line(format!("  ! {} more failed", count(line.failed.len() as u64 - 10)));
    }
    let (since, success) = (line.since.as_deref(), line.last_success.as_deref());
    match since {
        None => out.line("  never synced"),
        Some(since) => {
            let success = success.unwrap_or("never");
            out.line(format!("  last run {since}, last complete {success}"));
        }
    }
}

fn print_path(out: &Out, view: &View, json: bool) {
    if json {
        out.json(view);
    } else {
        out.line(format!(
            "{}  {}",
            out.paint(view.state.paint(), view.state.word()),
            view.headline()
        ));
    }
}
