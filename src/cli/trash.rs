//! `trash`: what a sync removed or replaced in the local folder, and how to get it back.

use serde::Serialize;

use super::args::{ListArgs, OnePair, TrashCommand};
use super::context::{Context, Pair};
use crate::clock::{Clock as _, SystemClock};
use crate::config::units::Span;
use crate::exit::{Exit, Failure};
use crate::local::trash::Trashed;
use crate::local::{FsError, FsErrorKind};
use crate::text::{counted, printable, size};
use crate::tree::RelPath;
use crate::tree::path::CONTROL_DIR;

#[derive(Serialize)]
struct Line<'a> {
    pair: &'a str,
    path: &'a str,
    item: &'a str,
    size: u64,
    since: String,
}

pub(super) fn run(command: &TrashCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        TrashCommand::List(args) => list(args, context),
        TrashCommand::Restore { item, to, pair } => {
            let path = restore(item, to.as_deref(), pair, context)?;
            context.out.line(format!("restored {}", printable(path.as_str())));
            Ok(Exit::InSync)
        }
        TrashCommand::Empty { pair, older_than, ad_hoc } => {
            let names: Vec<String> = pair.iter().cloned().collect();
            for pair in context.pairs(&names, ad_hoc)? {
                let files = super::runtime()?.block_on(empty(&pair, *older_than))?;
                context.out.line(format!(
                    "{}: {} deleted for good",
                    pair.name(),
                    counted(files, "file")
                ));
            }
            Ok(Exit::InSync)
        }
    }
}

fn list(args: &ListArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.iter().cloned().collect();
    let pairs = context.pairs(&names, &args.ad_hoc)?;
    let out = &context.out;
    let runtime = super::runtime()?;
    let mut any = false;
    for pair in &pairs {
        for item in runtime.block_on(items(pair))? {
            any = true;
            if args.json {
                out.json(&Line {
                    pair: &pair.config.name,
                    path: item.path.as_str(),
                    item: item.stored.as_str(),
                    size: item.size,
                    since: item.since.rfc3339(),
                });
                continue;
            }
            let pair = if pairs.len() > 1 { format!("{}  ", pair.name()) } else { String::new() };
            let (bytes, stored) = (size(item.size), printable(item.stored.as_str()));
            out.line(format!("{pair}{}  {bytes:>10}  {stored}", item.since.rfc3339()));
        }
    }
    if !any && !args.json {
        out.line("the trash is empty");
    }
    Ok(Exit::InSync)
}

/// A root that was never synced has no trash, which is an empty one.
async fn items(pair: &Pair) -> Result<Vec<Trashed>, Failure> {
    let disk = pair.open_local()?;
    if !has_trash(pair) {
        return Ok(Vec::new());
    }
    disk.list_trash().await.map_err(|error| pair.failed(&error))
}

fn has_trash(pair: &Pair) -> bool {
    pair.config.local.join(CONTROL_DIR).is_dir()
}

fn restore(
    item: &str,
    to: Option<&str>,
    asked: &OnePair,
    context: &Context,
) -> Result<RelPath, Failure> {
    let bad =
        |text: &str| Failure::usage(format!("`{}` is not a path in the pair", printable(text)));
    let path = |text: &str| RelPath::new(text.trim_matches('/')).map_err(|_| bad(text));
    let wanted = path(item)?;
    let to = to.map(|to| path(to).and_then(|p| if p.is_root() { Err(bad(to)) } else { Ok(p) }));
    let to = to.transpose()?;
    let runtime = super::runtime()?;
    // A list is oldest first, and the newest version is the one that is missed.
    let newest = |pair: &Pair| {
        let mut found = runtime.block_on(items(pair))?.into_iter().rev();
        Ok(found.find(|item| item.stored == wanted || item.path == wanted))
    };
    let (pair, found) = context.owner(asked, newest)?.ok_or_else(|| {
        let item = printable(item);
        Failure::usage(format!("{item} is not in the trash: see `foldsync trash list`"))
    })?;
    let disk = pair.open_local()?;
    runtime.block_on(disk.restore_trashed(&found.stored, to.as_ref())).map_err(|error| {
        if error.kind == FsErrorKind::Occupied {
            let place = to.as_ref().unwrap_or(&found.path);
            let place = printable(place.as_str());
            return Failure::usage(format!(
                "{place} exists already; restore elsewhere with --to PATH"
            ));
        }
        pair.failed(&error)
    })
}

async fn empty(pair: &Pair, older_than: Option<Span>) -> Result<u64, Failure> {
    let disk = pair.open_local()?;
    if !has_trash(pair) {
        return Ok(0);
    }
    let emptied: Result<u64, FsError> = match older_than {
        None => disk.empty_trash().await,
        Some(Span(keep)) => disk.expire_trash(SystemClock.now(), keep).await,
    };
    emptied.map_err(|error| pair.failed(&error))
}
