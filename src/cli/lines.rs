//! One operation, and the sum of a run, as a line of text or of JSON. `sync` and `plan` share it.

use std::time::Duration;

use serde::Serialize;

use super::context::Pair;
use super::out::Out;
use crate::engine::report::{OpKind, OpReport, OpResult};
use crate::engine::{Stop, Summary};
use crate::exit::Exit;
use crate::text::{Paint, counted, duration, printable, size};
use crate::tree::Side;

/// Whether operations were carried out or only foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tense {
    Done,
    Planned,
}

#[derive(Serialize)]
struct OpLine<'a> {
    op: &'static str,
    path: &'a str,
    to: Option<&'a str>,
    bytes: u64,
    result: &'static str,
    reason: String,
    error: Option<&'a str>,
    side: Side,
    pair: &'a str,
}

pub(super) fn op_json(out: &Out, pair: &str, report: &OpReport, tense: Tense) {
    out.json(&OpLine {
        op: report.op.as_str(),
        path: &report.path,
        to: report.to.as_deref(),
        bytes: report.bytes,
        result: match tense {
            Tense::Done => result_word(report.result),
            Tense::Planned => "planned",
        },
        reason: report.why.to_string(),
        error: report.error.as_deref(),
        side: report.side,
        pair,
    });
}

fn result_word(result: OpResult) -> &'static str {
    match result {
        OpResult::Done => "done",
        OpResult::Instant => "instant",
        OpResult::Same => "same",
        OpResult::Failed => "failed",
    }
}

/// `↑ upload      84.1 KiB  report.docx  (edited on the local side)`
pub(super) fn op_text(out: &Out, report: &OpReport) -> String {
    let (sign, paint) = match (report.op, report.result) {
        (_, OpResult::Failed) => ("!", Paint::Bad),
        (OpKind::Mkdir, _) => ("+", Paint::Good),
        (OpKind::Upload, _) => ("↑", Paint::Good),
        (OpKind::Download, _) => ("↓", Paint::Good),
        (OpKind::Move, _) => ("→", Paint::Good),
        (OpKind::Delete | OpKind::Rmdir, _) => ("✗", Paint::Notice),
        (OpKind::Conflict, _) => ("≠", Paint::Notice),
        (OpKind::Park | OpKind::Read, _) => ("·", Paint::Quiet),
    };
    let bytes = match report.op {
        OpKind::Upload | OpKind::Download => size(report.bytes),
        OpKind::Mkdir
        | OpKind::Move
        | OpKind::Park
        | OpKind::Delete
        | OpKind::Rmdir
        | OpKind::Conflict
        | OpKind::Read => String::new(),
    };
    let to = report.to.as_ref().map(|to| format!(" → {}", printable(to))).unwrap_or_default();
    let place = match report.op {
        OpKind::Mkdir | OpKind::Move | OpKind::Delete | OpKind::Rmdir => {
            format!(" ({})", report.side)
        }
        OpKind::Upload | OpKind::Download | OpKind::Park | OpKind::Conflict | OpKind::Read => {
            String::new()
        }
    };
    let note = match (&report.error, report.result) {
        (Some(error), _) => out.paint(Paint::Bad, &format!("failed: {}", printable(error))),
        (None, OpResult::Instant) => {
            out.paint(Paint::Quiet, &format!("{}, no byte sent", report.why))
        }
        (None, OpResult::Same) => out.paint(Paint::Quiet, "the same on both sides"),
        (None, OpResult::Done | OpResult::Failed) => {
            out.paint(Paint::Quiet, &report.why.to_string())
        }
    };
    let word = format!("{sign} {:<8}", report.op.as_str());
    let path = printable(&report.path);
    format!("{} {bytes:>10}  {path}{to}{place}  {note}", out.paint(paint, &word))
}

#[derive(Serialize)]
struct SummaryLine {
    summary: Sums,
}

/// Sums over all pairs of a call, in the words of the contract.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sums {
    uploaded: u64,
    downloaded: u64,
    moved: u64,
    deleted: u64,
    conflicts: u64,
    skipped: u64,
    failed: u64,
    held: u64,
    instant: u64,
    bytes_up: u64,
    bytes_down: u64,
    requests: u64,
    duration_s: f64,
    exit: u8,
}

impl Sums {
    pub(super) fn add(&mut self, summary: &Summary, requests: u64) {
        self.requests += requests;
        self.uploaded += summary.uploaded;
        self.downloaded += summary.downloaded;
        self.moved += summary.moved;
        self.deleted += summary.deleted;
        self.conflicts += summary.conflicts;
        self.skipped += summary.skipped.len() as u64;
        self.failed += summary.failed;
        self.held += summary.held;
        self.instant += summary.instant;
        self.bytes_up += summary.bytes_up;
        self.bytes_down += summary.bytes_down;
    }

    pub(super) fn print_json(mut self, out: &Out, exit: Exit, took: Duration) {
        self.exit = exit.code();
        self.duration_s = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        out.json(&SummaryLine { summary: self });
    }
}

/// What was done, or is to be done: `2 uploads 2.3 GiB · 1 move · 1 deletion`.
fn work(summary: &Summary) -> Option<String> {
    let mut parts = Vec::new();
    let mut part = |number: u64, word: &str, bytes: u64| {
        if number > 0 {
            let bytes = if bytes > 0 { format!(" {}", size(bytes)) } else { String::new() };
            parts.push(format!("{}{bytes}", counted(number, word)));
        }
    };
    part(summary.uploaded, "upload", summary.bytes_up);
    part(summary.downloaded, "download", summary.bytes_down);
    part(summary.moved, "move", 0);
    part(summary.deleted, "deletion", 0);
    part(summary.instant, "instant upload", 0);
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// The line that ends a run in text, and lines for whatever is left to a person.
pub(super) fn summary_text(
    out: &Out,
    pair: &Pair,
    summary: &Summary,
    tense: Tense,
    took: Duration,
) {
    for item in &summary.skipped {
        let word = out.paint(Paint::Notice, "· skip    ");
        let reason = out.paint(Paint::Quiet, &printable(&item.reason));
        out.line(format!("{word} {:>10}  {}  {reason}", "", printable(&item.path)));
    }
    let left = left(summary);
    let state = match (tense, left.is_empty(), summary.stop) {
        (_, _, Some(Stop::Interrupted)) => out.paint(Paint::Bad, "interrupted"),
        (_, _, Some(Stop::MaxTransfer)) => out.paint(Paint::Notice, "stopped at --max-transfer"),
        (_, _, Some(Stop::MaxDuration)) => out.paint(Paint::Notice, "stopped at --max-duration"),
        (Tense::Planned, _, None) => "plan".to_owned(),
        (Tense::Done, true, None) => out.paint(Paint::Good, "in sync"),
        (Tense::Done, false, None) => out.paint(Paint::Notice, "not in sync"),
    };
    let mut parts = vec![state];
    parts.extend((!left.is_empty()).then(|| left.join(", ")));
    parts.extend(work(summary).or((tense == Tense::Planned).then(|| "nothing to do".to_owned())));
    if tense == Tense::Done {
        let files = counted(summary.files, "file");
        parts.push(format!("{files}, {} in {}", size(summary.bytes), duration(took)));
    }
    out.line(format!("{}: {}", pair.name(), parts.join(" — ")));
    if tense == Tense::Done {
        advise(out, pair, summary);
    }
}

/// Where to go on from what is left.
fn advise(out: &Out, pair: &Pair, summary: &Summary) {
    let rest = pair.selector().replace(" --pair ", " ");
    if summary.held > 0 {
        out.line(format!("  something waits for you: foldsync held list{rest}"));
    }
    if summary.conflicts > 0 {
        out.line(format!("  both versions were kept: foldsync conflicts list{rest}"));
    }
    if summary.failed > 0 {
        out.line("  failed items are tried again by the next run");
    }
}

/// What keeps a pair from being in sync.
fn left(summary: &Summary) -> Vec<String> {
    let mut parts = Vec::new();
    for (number, word) in [
        (summary.held, "held deletion"),
        (summary.failed, "failed item"),
        (summary.conflicts, "conflict"),
        (summary.skipped.len() as u64, "skipped item"),
    ] {
        if number > 0 {
            parts.push(counted(number, word));
        }
    }
    parts
}
