//! `history`: what was done, newest last.

use serde::Serialize;

use super::args::HistoryArgs;
use super::context::{Context, Pair, locate};
use super::out::Out;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::exit::{Exit, Failure};
use crate::store::HistoryRow;
use crate::text::{Paint, printable, size};

#[derive(Serialize)]
struct Line<'a> {
    pair: &'a str,
    at: String,
    op: &'a str,
    side: &'a str,
    path: &'a str,
    to: Option<&'a str>,
    bytes: u64,
    reason: &'a str,
    error: Option<&'a str>,
}

pub(super) fn run(args: &HistoryArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.pair.iter().cloned().collect();
    let pairs = context.pairs(&names, &args.pair.ad_hoc)?;
    let since = args.since.map_or(Timestamp(0), |span| {
        let now = SystemClock.now();
        Timestamp(now.0.saturating_sub(i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX)))
    });
    let (pairs, path) = match &args.path {
        None => (pairs, None),
        Some(path) => {
            let (pair, path) = locate(&pairs, path)?;
            (vec![pair], Some(path))
        }
    };
    let path = path.as_ref().map(|path| path.as_str()).filter(|path| !path.is_empty());
    let several = pairs.len() > 1;
    for pair in &pairs {
        let Some(store) = pair.records()? else { continue };
        let rows = store.history(path, since, args.limit).map_err(|error| pair.failed(&error))?;
        // The store gives the newest first, so that a limit keeps the newest.
        for row in rows.iter().rev() {
            print(&context.out, pair, row, args.json, several);
        }
    }
    Ok(Exit::InSync)
}

fn print(out: &Out, pair: &Pair, row: &HistoryRow, json: bool, several: bool) {
    let event = &row.event;
    if json {
        out.json(&Line {
            pair: &pair.config.name,
            at: row.at.rfc3339(),
            op: &event.op,
            side: &event.side,
            path: &event.path,
            to: event.moved_to.as_deref(),
            bytes: event.bytes,
            reason: &event.why,
            error: event.error.as_deref(),
        });
        return;
    }
    let pair = if several { format!("{}  ", pair.name()) } else { String::new() };
    let to = event.moved_to.as_ref().map(|to| format!(" → {}", printable(to))).unwrap_or_default();
    let bytes = if event.bytes > 0 { format!("  {}", size(event.bytes)) } else { String::new() };
    let tail = match &event.error {
        Some(error) => out.paint(Paint::Bad, &format!("  failed: {}", printable(error))),
        None => out.paint(Paint::Quiet, &format!("  {}", printable(&event.why))),
    };
    out.line(format!(
        "{}  {pair}{:<10}{}{to}{bytes}{tail}",
        row.at.rfc3339(),
        printable(&event.op),
        printable(&event.path)
    ));
}
