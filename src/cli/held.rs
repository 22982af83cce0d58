//! `held`: the deletions and changes that wait for a person.

use serde::Serialize;

use super::args::{HeldCommand, ListArgs, OnePair};
use super::context::{Context, Pair};
use super::steer::keeper_of;
use crate::daemon::control::{Answer, Numbered};
use crate::exit::{Exit, Failure};
use crate::plan::BrakeReason;
use crate::store::{HeldRow, HeldState, Store};
use crate::text::{Paint, counted, printable};

#[derive(Serialize)]
struct Line<'a> {
    pair: &'a str,
    id: i64,
    kind: &'a str,
    side: &'a str,
    count: u64,
    state: &'static str,
    created: String,
    paths: &'a [String],
}

pub(super) fn run(command: &HeldCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        HeldCommand::List(args) => list(args, context),
        HeldCommand::Show { id, pair } => show(*id, pair, context),
        HeldCommand::Approve { id, pair } => answer(*id, pair, Answer::Approve, context),
        HeldCommand::Reject { id, pair } => answer(*id, pair, Answer::Reject, context),
    }
}

const WAITING: [HeldState; 3] = [HeldState::Pending, HeldState::Approved, HeldState::Rejected];

fn list(args: &ListArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.iter().cloned().collect();
    let out = &context.out;
    let mut any = false;
    for pair in context.pairs(&names, &args.ad_hoc)? {
        for row in rows(&pair)? {
            any = true;
            if args.json {
                out.json(&line(&pair, &row));
                continue;
            }
            let state = out.paint(Paint::Notice, row.state.as_str());
            out.line(format!("{}  #{}  {state}  {}", pair.name(), row.id, sentence(&row)));
        }
    }
    if !any && !args.json {
        out.line("nothing is held");
    }
    Ok(Exit::InSync)
}

fn show(id: i64, pair: &OnePair, context: &Context) -> Result<Exit, Failure> {
    let (pair, row) = find(id, pair, context)?;
    let out = &context.out;
    out.line(format!("#{} of {}: {}", row.id, pair.name(), sentence(&row)));
    out.line(format!("since {}, {}", row.created_at.rfc3339(), row.state.as_str()));
    for path in &row.paths {
        out.line(format!("  {}", printable(path)));
    }
    if row.state == HeldState::Pending {
        let rest = format!("{}{}", row.id, pair.selector());
        let back = came_back(&row);
        out.line(format!("let it happen:         foldsync held approve {rest}"));
        out.line(format!("bring the {back} back:  foldsync held reject {rest}"));
    }
    Ok(Exit::InSync)
}

fn answer(id: i64, pair: &OnePair, given: Answer, context: &Context) -> Result<Exit, Failure> {
    let state = match given {
        Answer::Approve => HeldState::Approved,
        Answer::Reject => HeldState::Rejected,
    };
    let (pair, row) = find(id, pair, context)?;
    let failed = |error: crate::store::StoreError| pair.failed(&error);
    let kept = super::runtime()?.block_on(async {
        let Some(client) = keeper_of(&pair, context).await? else { return Ok(false) };
        let set = Numbered { pair: Some(pair.config.name.clone()), id: row.id };
        client.answer(&set, given).await?;
        Ok::<bool, Failure>(true)
    })?;
    if !kept && let Some(mut store) = Store::edit_records(&pair.state_db).map_err(failed)? {
        store.write(|tx| tx.set_held_state(row.id, state)).map_err(failed)?;
    }
    let who = if kept { "the daemon" } else { "the next sync" };
    let what = match given {
        Answer::Approve => format!("{who} carries it out, once"),
        Answer::Reject => format!("{who} brings the {} back", came_back(&row)),
    };
    context.out.line(format!("#{id} of {}: {} — {what}", pair.name(), state.as_str()));
    Ok(Exit::InSync)
}

fn rows(pair: &Pair) -> Result<Vec<HeldRow>, Failure> {
    let Some(store) = pair.records()? else { return Ok(Vec::new()) };
    store.held(&WAITING).map_err(|error| pair.failed(&error))
}

fn find(id: i64, asked: &OnePair, context: &Context) -> Result<(Pair, HeldRow), Failure> {
    let found =
        context.owner(asked, |pair| Ok(rows(pair)?.into_iter().find(|row| row.id == id)))?;
    found.ok_or_else(|| {
        Failure::usage(format!("nothing is held under #{id}: see `foldsync held list`"))
    })
}

fn line<'a>(pair: &'a Pair, row: &'a HeldRow) -> Line<'a> {
    Line {
        pair: &pair.config.name,
        id: row.id,
        kind: &row.kind,
        side: &row.side,
        count: row.files,
        state: row.state.as_str(),
        created: row.created_at.rfc3339(),
        paths: &row.paths,
    }
}

/// What a rejection brings back.
fn came_back(row: &HeldRow) -> &'static str {
    match BrakeReason::from_word(&row.kind) {
        Some(BrakeReason::TooManyChanges) => "old versions",
        Some(BrakeReason::TooManyDeletes | BrakeReason::RootEmptied) | None => "files",
    }
}

/// What would happen, and which guard keeps it from happening.
fn sentence(row: &HeldRow) -> String {
    let side = printable(&row.side);
    if row.kind.ends_with("-root-changed") {
        return format!(
            "the {side} folder is not the one that was synced; approving merges both sides"
        );
    }
    let what = match BrakeReason::from_word(&row.kind) {
        Some(BrakeReason::TooManyChanges) => "replace",
        Some(BrakeReason::TooManyDeletes | BrakeReason::RootEmptied) | None => "delete",
    };
    format!(
        "would {what} {} on the {side} side ({})",
        counted(row.files, "file"),
        printable(&row.kind)
    )
}
