//! The status for a person: a line for each pair, then what he should know or do.

use std::path::Path;
use std::time::Duration;

use super::{DaemonStatus, HeldItem, PairStatus, State};
use crate::clock::Timestamp;
use crate::plan::Mode;
use crate::text::Paint;
use crate::text::{count, counted, duration, printable, size};

/// Who reads it, and when.
pub struct View<'a> {
    pub now: Timestamp,
    /// Shown as `~`.
    pub home: Option<&'a Path>,
    pub paint: &'a dyn Fn(Paint, &str) -> String,
}

/// All pairs, with a line end after each line.
pub fn text(status: &DaemonStatus, view: &View<'_>) -> String {
    if status.pairs.is_empty() {
        return "no pairs are configured\n".to_owned();
    }
    let rows: Vec<[String; 5]> = status.pairs.iter().map(|pair| row(pair, view)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for (pair, row) in status.pairs.iter().zip(&rows) {
        let cell = |column: usize| format!("{:<width$}", row[column], width = widths[column]);
        let state = (view.paint)(paint(pair), &cell(3));
        let line = format!("{}  {}  {}  {state}  {}", cell(0), cell(1), cell(2), row[4]);
        out.push_str(line.trim_end());
        out.push('\n');
        for line in super::block::transfers(pair) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    let notes: Vec<String> = status.pairs.iter().flat_map(|pair| notes(pair, view.now)).collect();
    let polls: Vec<String> = status.pairs.iter().filter_map(|pair| poll(pair, view.now)).collect();
    if !notes.is_empty() || !polls.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(&format!("  {} {note}\n", (view.paint)(Paint::Notice, "!")));
    }
    if !polls.is_empty() {
        out.push_str(&format!("  next look at the remote: {}\n", polls.join(", ")));
    }
    out
}

/// One line that says what `--check` found; for monitoring.
pub fn check_line(status: &DaemonStatus) -> String {
    let said = |pair: &PairStatus| {
        let why = pair.message.as_deref().map(|why| format!(": {}", printable(why)));
        format!("{}: {}{}", printable(&pair.name), headline(pair), why.unwrap_or_default())
    };
    let lines: Vec<String> = status.pairs.iter().map(said).collect();
    if lines.is_empty() { "no pairs are configured".to_owned() } else { lines.join(" · ") }
}

fn row(pair: &PairStatus, view: &View<'_>) -> [String; 5] {
    [
        printable(&pair.name),
        local(pair, view.home),
        format!("{} {}", arrow(pair.mode), remote(pair)),
        headline(pair),
        detail(pair, view.now),
    ]
}

fn local(pair: &PairStatus, home: Option<&Path>) -> String {
    let root = &pair.local.root;
    let below = home.and_then(|home| Path::new(root).strip_prefix(home).ok());
    match below.and_then(Path::to_str) {
        Some("") => "~".to_owned(),
        Some(below) => printable(&format!("~/{below}")),
        None => printable(root),
    }
}

fn arrow(mode: Mode) -> &'static str {
    match mode {
        Mode::TwoWay => "⇄",
        Mode::MirrorUp | Mode::BackupUp => "↑",
        Mode::MirrorDown | Mode::BackupDown => "↓",
    }
}

fn remote(pair: &PairStatus) -> String {
    let remote = &pair.remote;
    printable(&format!("{}:{}", remote.name.as_ref().unwrap_or(&remote.kind), remote.path))
}

fn paint(pair: &PairStatus) -> Paint {
    match pair.state {
        State::Idle if pair.is_in_sync() => Paint::Good,
        State::Held | State::AuthExpired | State::Error => Paint::Bad,
        State::Idle | State::Offline | State::Paused => Paint::Notice,
        State::Scanning | State::Planning | State::Syncing | State::Waiting => Paint::Quiet,
    }
}

/// The state in words. "Up to date" only if that is known.
pub(super) fn headline(pair: &PairStatus) -> String {
    match pair.state {
        State::Idle if pair.failed_count() > 0 => {
            format!("{} failed", count(pair.failed_count()))
        }
        State::Idle if !pair.remote.listing_complete => "No changes known".to_owned(),
        State::Idle if pair.pending.operations() > 0 => "Changes wait".to_owned(),
        State::Idle => "Up to date".to_owned(),
        State::Scanning => "Scanning".to_owned(),
        State::Planning => "Planning".to_owned(),
        State::Syncing => match &pair.progress {
            Some(p) => format!("Syncing {}/{}", count(p.done), count(p.total)),
            None => "Syncing".to_owned(),
        },
        State::Waiting => "Waiting".to_owned(),
        State::Paused => "Paused".to_owned(),
        State::Held if pair.held.is_empty() || pair.message.is_some() => "Held".to_owned(),
        State::Held => format!("Held: {}", held_counts(pair)),
        State::Offline => "Offline".to_owned(),
        State::AuthExpired => "Login expired".to_owned(),
        State::Error => "Error".to_owned(),
    }
}

/// `143 deletes, 12 changes`
fn held_counts(pair: &PairStatus) -> String {
    pair.held.iter().map(HeldItem::what).collect::<Vec<_>>().join(", ")
}

fn detail(pair: &PairStatus, now: Timestamp) -> String {
    let message = || pair.message.as_deref().map(printable).unwrap_or_default();
    let files = || format!("{}  {}", counted(pair.local.files, "file"), size(pair.local.bytes));
    match pair.state {
        State::Idle | State::Scanning | State::Planning => files(),
        State::Syncing => sums(pair),
        // A root that is another one, or is not there, leaves nothing to approve or more to say.
        State::Held if pair.message.is_some() => message(),
        State::Held => {
            let first = pair.held.first();
            first.map_or_else(String::new, |held| {
                format!("approve with: foldsync held show {}", held.id)
            })
        }
        State::Paused => match pair.paused_until {
            Some(until) => format!("for another {}", duration(until.0.since(now))),
            None => "until `foldsync resume`".to_owned(),
        },
        State::AuthExpired => {
            let name = pair.remote.name.as_ref().unwrap_or(&pair.remote.kind);
            format!("foldsync auth login {}", printable(name))
        }
        State::Waiting | State::Offline | State::Error => message(),
    }
}

/// `1.2 GiB / 9.6 GiB  ↑ 412.0 KiB/s  ETA 6h 10m`
pub(super) fn sums(pair: &PairStatus) -> String {
    let mut parts = Vec::new();
    if let Some(p) = pair.progress.filter(|p| p.bytes_total > 0) {
        parts.push(format!("{} / {}", size(p.bytes_done), size(p.bytes_total)));
    }
    for (arrow, rate) in [("↑", pair.rate.up_bps), ("↓", pair.rate.down_bps)] {
        if rate > 0 {
            parts.push(format!("{arrow} {}/s", size(rate)));
        }
    }
    // Rather nothing than a wild number.
    let eta = pair.eta_s.map_or_else(|| "–".to_owned(), |s| duration(Duration::from_secs(s)));
    parts.push(format!("ETA {eta}"));
    parts.join("  ")
}

/// How many items are named that are left out by rule.
const LEFT_OUT_MAX: usize = 10;

fn notes(pair: &PairStatus, now: Timestamp) -> Vec<String> {
    let name = printable(&pair.name);
    let mut notes: Vec<String> =
        pair.notes.iter().map(|note| format!("{name}: {}", printable(note))).collect();
    if pair.conflicts > 0 {
        let conflicts = counted(pair.conflicts, "conflict");
        notes.push(format!("{name}: {conflicts} (foldsync conflicts list {name})"));
    }
    let is_told = pair.state == State::Held && pair.message.is_none();
    if !pair.held.is_empty() && !is_told {
        let held = held_counts(pair);
        notes.push(format!("{name}: {held} held (foldsync held list {name})"));
    }
    if pair.skipped > 0 {
        let skipped = counted(pair.skipped, "item");
        let such_as = pair.skipped_items.first().map(|first| {
            format!(", such as {}: {}", printable(&first.path), printable(&first.reason))
        });
        let such_as = such_as.unwrap_or_default();
        notes.push(format!("{name}: {skipped} cannot be synced{such_as}"));
    }
    for item in pair.left_out.iter().take(LEFT_OUT_MAX) {
        let (path, reason) = (printable(&item.path), printable(&item.reason));
        notes.push(format!("{name}: {path} is left out: {reason}"));
    }
    if let Some(first) = pair.failed.first() {
        let items = counted(pair.failed_count(), "item");
        let retry = first
            .retry_at
            .map_or_else(String::new, |at| format!(", next try in {}", duration(at.0.since(now))));
        let (path, error) = (printable(&first.path), printable(&first.error));
        notes.push(format!("{name}: {items} failed, such as {path}: {error}{retry}"));
    }
    let is_idle = pair.state == State::Idle;
    if is_idle && let Some(at) = pair.remote.listing_at.filter(|_| !pair.remote.listing_complete) {
        let ago = duration(now.since(at.0));
        notes.push(format!("{name}: the remote was last listed completely {ago} ago"));
    }
    notes
}

fn poll(pair: &PairStatus, now: Timestamp) -> Option<String> {
    /// Then people may wonder where a change is.
    const OLD: Duration = Duration::from_secs(300);
    let at = pair.next_poll?;
    let age = pair.remote.listing_at.map(|at| now.since(at.0)).filter(|age| *age > OLD);
    let oldest = age.map_or_else(String::new, |age| {
        format!(" (some folders were last listed {} ago)", duration(age))
    });
    Some(format!("{} in {}{oldest}", printable(&pair.name), duration(at.0.since(now))))
}
