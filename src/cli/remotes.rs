//! `ls` and `about`: a look at a remote.

use std::sync::Arc;

use serde::Serialize;

use super::args::{AboutArgs, AdHoc, LsArgs, ShareArgs};
use super::connect;
use super::context::locate;
use super::context::{Context, absolute};
use crate::clock::Timestamp;
use crate::config::RemoteSpec;
use crate::config::locate::expand;
use crate::exit::{Exit, Failure};
use crate::remote::{ErrorKind, Locator, Remote, RemoteError, list_all};
use crate::text::{printable, size};
use crate::tree::{Kind, RelPath};

#[derive(Serialize)]
struct EntryLine<'a> {
    name: &'a str,
    kind: Kind,
    size: u64,
    modified: Option<String>,
    hash: Option<String>,
}

#[derive(Serialize)]
struct QuotaLine {
    used: Option<u64>,
    total: Option<u64>,
    free: Option<u64>,
}

pub(super) fn ls(args: &LsArgs, context: &Context) -> Result<Exit, Failure> {
    let remote = open(&args.remote, context)?;
    let listed = super::runtime()?.block_on(list_all(&*remote, &Locator::root()));
    for entry in &listed.map_err(|e| failed(&e))?.entries {
        let modified = entry.rev.modified_ns().filter(|_| entry.kind == Kind::File);
        let modified = modified.map(Timestamp).map(Timestamp::rfc3339);
        if args.json {
            context.out.json(&EntryLine {
                name: entry.name.as_str(),
                kind: entry.kind,
                size: entry.size,
                modified,
                hash: entry.hash.map(|hash| hash.hex()),
            });
            continue;
        }
        let (bytes, slash) = match entry.kind {
            Kind::File => (size(entry.size), ""),
            Kind::Dir => ("-".to_owned(), "/"),
        };
        let modified = modified.unwrap_or_else(|| "-".to_owned());
        context.out.line(format!(
            "{bytes:>10}  {modified:<20}  {}{slash}",
            printable(entry.name.as_str())
        ));
    }
    Ok(Exit::InSync)
}

pub(super) fn about(args: &AboutArgs, context: &Context) -> Result<Exit, Failure> {
    let spec =
        if args.remote.contains(':') { args.remote.clone() } else { format!("{}:/", args.remote) };
    let remote = open(&spec, context)?;
    let quota = super::runtime()?.block_on(remote.quota()).map_err(|e| failed(&e))?;
    let free = quota.total.zip(quota.used).map(|(total, used)| total.saturating_sub(used));
    if args.json {
        context.out.json(&QuotaLine { used: quota.used, total: quota.total, free });
        return Ok(Exit::InSync);
    }
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size);
    for (word, bytes) in [("used", quota.used), ("free", free), ("total", quota.total)] {
        context.out.line(format!("{word:<6} {}", shown(bytes)));
    }
    Ok(Exit::InSync)
}

fn open(text: &str, context: &Context) -> Result<Arc<dyn Remote>, Failure> {
    let home = context.places.home.as_deref();
    let spec = RemoteSpec::parse(text, |path| match path.starts_with('~') {
        true => expand(path, home),
        false if path.is_empty() => Err("`dir:` needs a path".to_owned()),
        false => absolute(path.as_ref()).map_err(|failure| failure.message),
    })
    .map_err(|message| Failure::usage(printable(&message)))?;
    let (name, config) = match &spec {
        RemoteSpec::Dir(_) => ("dir", None),
        RemoteSpec::Named { remote, .. } => {
            let found = context.config()?.remotes.get(remote).cloned();
            let found = found.ok_or_else(|| {
                Failure::usage(format!("there is no remote `{}`", printable(remote)))
            })?;
            (remote.as_str(), Some(found))
        }
    };
    connect::open(&spec, config.as_ref(), &context.state_dir()?, None)
        .map_err(|error| error.failure(name))
}

/// Makes a link by which others can fetch what a remote has: `share PATH` of a pair, or of a remote.
pub(super) fn share(args: &ShareArgs, context: &Context) -> Result<Exit, Failure> {
    let (remote, path) = if args.path.contains(":/") {
        let text = args.path.trim_end_matches('/');
        let (parent, name) = text.rsplit_once('/').unwrap_or((text, ""));
        (open(&format!("{parent}/"), context)?, RelPath::new(name))
    } else {
        let pairs = context.pairs(&[], &AdHoc::default())?;
        let (pair, path) = locate(&pairs, args.path.as_ref())?;
        (pair.open_remote()?, Ok(path))
    };
    let path = path.map_err(|error| Failure::usage(error.to_string()))?;
    let link = super::runtime()?.block_on(share_path(&*remote, &path)).map_err(|e| failed(&e))?;
    context.out.line(printable(&link));
    Ok(Exit::InSync)
}

async fn share_path(remote: &dyn Remote, path: &RelPath) -> Result<String, RemoteError> {
    let mut at = Locator::root();
    for component in path.components() {
        let entries = list_all(remote, &at).await?.entries;
        let found = entries.into_iter().find(|entry| entry.name.as_str() == component);
        let entry = found.ok_or_else(|| {
            RemoteError::new(ErrorKind::NotFound, format!("{path} is not on the remote"))
        })?;
        at = Locator {
            path: at.path.join(&entry.name),
            parent_id: at.id,
            id: Some(entry.item),
            kind: entry.kind,
        };
    }
    remote.share(&at).await
}

/// The code that says what went wrong at a remote.
pub(super) fn failed(error: &RemoteError) -> Failure {
    let exit = match error.kind {
        ErrorKind::AuthExpired => Exit::LoginNeeded,
        ErrorKind::Unavailable | ErrorKind::RateLimited => Exit::Unavailable,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Changed
        | ErrorKind::Forbidden
        | ErrorKind::QuotaFull
        | ErrorKind::InvalidName
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported
        | ErrorKind::Corrupt
        | ErrorKind::Protocol
        | ErrorKind::RootLost => Exit::Fatal,
    };
    let hint = if exit == Exit::LoginNeeded { ". Log in: foldsync auth login" } else { "" };
    Failure::new(exit, format!("{}{hint}", printable(&error.to_string())))
}
