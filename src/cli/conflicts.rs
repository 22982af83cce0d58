//! `conflicts`: both versions of a file that both sides changed, and the decision between them.
//!
//! A decision is carried out on the local files; the next sync brings it to the remote.

use serde::Serialize;

use super::args::{ConflictsCommand, ListArgs, OnePair};
use super::context::{Context, Pair};
use super::steer::keeper_of;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::daemon::control::{Keep, Numbered};
use crate::exit::{Exit, Failure};
use crate::local::os::OsFs;
use crate::local::{FsError, LocalFs as _};
use crate::store::{Conflict, ConflictFate, Store};
use crate::text::{printable, size};
use crate::tree::{Entry, Kind, RelPath};

#[derive(Serialize)]
struct Line<'a> {
    pair: &'a str,
    id: i64,
    path: &'a str,
    copy: &'a str,
    rule: &'a str,
    detected: String,
}

pub(super) fn run(command: &ConflictsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ConflictsCommand::List(args) => list(args, context),
        ConflictsCommand::Show { id, pair } => show(*id, pair, context),
        ConflictsCommand::Resolve { id, keep, pair } => resolve(*id, *keep, pair, context),
    }
}

fn list(args: &ListArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.iter().cloned().collect();
    let out = &context.out;
    let mut any = false;
    for pair in context.pairs(&names, &args.ad_hoc)? {
        for conflict in open(&pair)? {
            any = true;
            if args.json {
                out.json(&Line {
                    pair: &pair.config.name,
                    id: conflict.id,
                    path: &conflict.path,
                    copy: &conflict.copy_path,
                    rule: &conflict.rule,
                    detected: conflict.detected_at.rfc3339(),
                });
                continue;
            }
            let (path, copy) = (printable(&conflict.path), printable(&conflict.copy_path));
            out.line(format!("{}  #{}  {path}  ≠  {copy}", pair.name(), conflict.id));
        }
    }
    if !any && !args.json {
        out.line("no conflicts");
    }
    Ok(Exit::InSync)
}

fn show(id: i64, pair: &OnePair, context: &Context) -> Result<Exit, Failure> {
    let (pair, conflict) = owner(id, pair, context)?;
    let out = &context.out;
    let (named, copied) = super::runtime()?.block_on(versions(&pair, &conflict))?;
    let versions = [(&conflict.path, named), (&conflict.copy_path, copied)];
    let [named, copied] = versions
        .map(|(path, entry)| format!("version  {}  {}", printable(path), describe(entry.as_ref())));
    let (remote, local) =
        if conflict.has_remote_copy() { (copied, named) } else { (named, copied) };
    out.line(format!("#{id} of {}: {}", pair.name(), printable(&conflict.rule)));
    out.line(format!("  remote {remote}"));
    out.line(format!("  local {}", local.replacen("  ", "   ", 1)));
    out.line(format!("  since {}", conflict.detected_at.rfc3339()));
    let rest = pair.selector();
    out.line(format!(
        "decide with: foldsync conflicts resolve {id}{rest} --keep local|remote|both|newer"
    ));
    Ok(Exit::InSync)
}

fn describe(entry: Option<&Entry>) -> String {
    match entry {
        None => "(not there any more)".to_owned(),
        Some(entry) => {
            let at = entry.rev.modified_ns().map(Timestamp).map(Timestamp::rfc3339);
            format!("{}, modified {}", size(entry.size), at.unwrap_or_else(|| "-".to_owned()))
        }
    }
}

fn resolve(id: i64, keep: Keep, pair: &OnePair, context: &Context) -> Result<Exit, Failure> {
    let (pair, _) = owner(id, pair, context)?;
    super::runtime()?.block_on(async {
        if let Some(client) = keeper_of(&pair, context).await? {
            let conflict = Numbered { pair: Some(pair.config.name.clone()), id };
            return Ok(client.resolve(&conflict, keep).await?);
        }
        // Nobody else may act on what is being decided.
        let _lock = pair.lock()?;
        decide(&pair, id, keep).await
    })?;
    let what = match keep {
        Keep::Both => "both files stay",
        Keep::Local | Keep::Remote | Keep::Newer => "the other version is in the trash",
    };
    context.out.line(format!(
        "#{id} of {} is resolved: {what}; the next sync tells the remote",
        pair.name()
    ));
    Ok(Exit::InSync)
}

/// Carries a decision out and writes it down, for whoever owns the pair.
pub(super) async fn decide(pair: &Pair, id: i64, keep: Keep) -> Result<(), Failure> {
    let conflict = find(pair, id)?.ok_or_else(|| none_open(id))?;
    carry_out(pair, &conflict, keep).await?;
    let failed = |error: crate::store::StoreError| pair.failed(&error);
    if let Some(mut store) = Store::edit_records(&pair.state_db).map_err(failed)? {
        store.write(|tx| tx.resolve_conflict(id, SystemClock.now())).map_err(failed)?;
    }
    Ok(())
}

async fn carry_out(pair: &Pair, conflict: &Conflict, keep: Keep) -> Result<(), Failure> {
    let disk = pair.open_local()?;
    let (path, copy) = (rel(pair, &conflict.path)?, rel(pair, &conflict.copy_path)?);
    let failed = |error: FsError| pair.failed(&error);
    let (named, copied) = versions(pair, conflict).await?;
    let keep = if conflict.has_remote_copy() { exchanged(keep) } else { keep };
    // From here on, `Local` is the copy, and `Remote` the version that has the name.
    match (chosen(keep, named.as_ref(), copied.as_ref()), named, copied) {
        (Keep::Both, _, _) => Ok(()),
        (_, Some(folder), _) | (_, _, Some(folder)) if folder.kind == Kind::Dir => {
            let message = format!(
                "{} is a folder: rename or delete one of the two by hand",
                printable(folder.name.as_str())
            );
            Err(Failure::usage(message))
        }
        (Keep::Remote, Some(_), Some(local)) => {
            disk.trash(&copy, &local.stamp()).await.map_err(failed)
        }
        (Keep::Local, Some(remote), Some(local)) => {
            disk.trash(&path, &remote.stamp()).await.map_err(failed)?;
            put_back(&disk, &copy, &path, &local).await.map_err(failed)
        }
        // The original was deleted meanwhile: its name is free.
        (Keep::Local, None, Some(local)) => {
            put_back(&disk, &copy, &path, &local).await.map_err(failed)
        }
        (Keep::Local | Keep::Remote | Keep::Newer, _, _) => {
            let message = format!(
                "#{}: the version to keep is not there any more; use --keep both to leave things as they are",
                conflict.id
            );
            Err(Failure::usage(message))
        }
    }
}

fn exchanged(keep: Keep) -> Keep {
    match keep {
        Keep::Local => Keep::Remote,
        Keep::Remote => Keep::Local,
        Keep::Newer | Keep::Both => keep,
    }
}

async fn put_back(
    disk: &OsFs,
    copy: &RelPath,
    path: &RelPath,
    local: &Entry,
) -> Result<(), FsError> {
    disk.rename(copy, path, &local.stamp()).await.map(drop)
}

/// What `newer` means here. Of equal times the remote's wins, as it does in a sync.
fn chosen(keep: Keep, remote: Option<&Entry>, local: Option<&Entry>) -> Keep {
    let time = |entry: Option<&Entry>| entry.and_then(|entry| entry.rev.modified());
    match keep {
        Keep::Newer if time(local) > time(remote) => Keep::Local,
        Keep::Newer => Keep::Remote,
        Keep::Local | Keep::Remote | Keep::Both => keep,
    }
}

/// What has the name now, and what has that of the copy.
async fn versions(
    pair: &Pair,
    conflict: &Conflict,
) -> Result<(Option<Entry>, Option<Entry>), Failure> {
    let disk = pair.open_local()?;
    let (path, copy) = (rel(pair, &conflict.path)?, rel(pair, &conflict.copy_path)?);
    let failed = |error: FsError| pair.failed(&error);
    let named = disk.stat(&path).await.map_err(failed)?;
    let copied = disk.stat(&copy).await.map_err(failed)?;
    Ok((named, copied))
}

fn rel(pair: &Pair, path: &str) -> Result<RelPath, Failure> {
    RelPath::new(path).map_err(|error| pair.failed(&error))
}

fn open(pair: &Pair) -> Result<Vec<Conflict>, Failure> {
    let Some(store) = pair.records()? else { return Ok(Vec::new()) };
    store.conflicts(ConflictFate::Open).map_err(|error| pair.failed(&error))
}

/// The pair in which a conflict is.
fn owner(id: i64, asked: &OnePair, context: &Context) -> Result<(Pair, Conflict), Failure> {
    let found = context.owner(asked, |pair| find(pair, id))?;
    found.ok_or_else(|| none_open(id))
}

fn find(pair: &Pair, id: i64) -> Result<Option<Conflict>, Failure> {
    Ok(open(pair)?.into_iter().find(|conflict| conflict.id == id))
}

fn none_open(id: i64) -> Failure {
    Failure::usage(format!("there is no open conflict #{id}: see `foldsync conflicts list`"))
}
