//! Commands that ask the daemon for something, and how every other command finds it.

use futures_util::future::join_all;

use super::args::DaemonPairs;
use super::context::{Context, Pair};
use super::out::say;
use crate::config::units::Span;
use crate::daemon::client::{Client, ClientError};
use crate::daemon::status::{DaemonStatus, check_line};
use crate::exit::{Exit, Failure};
use crate::text::printable;

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match &error {
            ClientError::NoDaemon(_) => Exit::Busy,
            ClientError::Refused { kind, .. } => match kind.as_str() {
                "no-such-pair" | "not-found" | "invalid" => Exit::Usage,
                _ => Exit::Fatal,
            },
            ClientError::Foreign(_)
            | ClientError::Timeout
            | ClientError::Garbled(_)
            | ClientError::Io(_) => Exit::Fatal,
        };
        Failure::new(exit, lines_printable(&error.to_string()))
    }
}

/// Messages of the daemon may have several lines.
fn lines_printable(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

pub(super) fn pause(
    pairs: &DaemonPairs,
    span: Option<Span>,
    context: &Context,
) -> Result<Exit, Failure> {
    for_each(pairs, context, async |client, pair| client.pause(pair, span.map(|span| span.0)).await)
}

pub(super) fn resume(pairs: &DaemonPairs, context: &Context) -> Result<Exit, Failure> {
    for_each(pairs, context, async |client, pair| client.resume(pair).await)
}

pub(super) fn rescan(pairs: &DaemonPairs, deep: bool, context: &Context) -> Result<Exit, Failure> {
    for_each(pairs, context, async |client, pair| client.rescan(pair, deep).await)
}

pub(super) fn stop(context: &Context) -> Result<Exit, Failure> {
    super::runtime()?.block_on(async {
        context.client().await?.stop().await?;
        Ok(Exit::InSync)
    })
}

pub(super) fn reload(context: &Context) -> Result<Exit, Failure> {
    super::runtime()?.block_on(async {
        match context.client().await?.reload().await {
            Ok(()) => Ok(Exit::InSync),
            Err(ClientError::Refused { message, .. }) => {
                Err(Failure::config(lines_printable(&message)))
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Asks the same for several pairs.
fn for_each(
    pairs: &DaemonPairs,
    context: &Context,
    ask: impl AsyncFn(&Client, &str) -> Result<(), ClientError>,
) -> Result<Exit, Failure> {
    super::runtime()?.block_on(async {
        let client = context.client().await?;
        for pair in meant(pairs, &client).await? {
            ask(&client, &pair).await?;
        }
        Ok(Exit::InSync)
    })
}

/// The named pairs, or all that the daemon keeps.
async fn meant(pairs: &DaemonPairs, client: &Client) -> Result<Vec<String>, Failure> {
    if !pairs.pairs.is_empty() {
        return Ok(pairs.pairs.clone());
    }
    let status = client.status().await?;
    Ok(status.pairs.into_iter().map(|pair| pair.name).collect())
}

pub(super) fn flush(pairs: &DaemonPairs, context: &Context) -> Result<Exit, Failure> {
    super::runtime()?.block_on(async {
        let client = context.client().await?;
        let names = meant(pairs, &client).await?;
        let exit = flush_all(&client, &names).await?;
        if !context.global.quiet {
            let status = client.status().await?;
            context.out.line(check_line(&of_pairs(status, &names)));
        }
        Ok(exit)
    })
}

/// All at once; the worst code. One pair that refuses is no reason to leave the others out.
pub(super) async fn flush_all(client: &Client, names: &[String]) -> Result<Exit, Failure> {
    let mut worst = Exit::InSync;
    for (name, flushed) in names.iter().zip(join_all(names.iter().map(|n| client.flush(n))).await) {
        match flushed {
            Ok(exit) => worst = worst.or_worse(exit),
            Err(ClientError::Refused { kind, message }) if kind == "refused" => {
                say(format!("foldsync: {}: {}", printable(name), lines_printable(&message)));
                worst = worst.or_worse(Exit::SomeFailed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(worst)
}

/// Only these pairs.
pub(super) fn of_pairs(mut status: DaemonStatus, names: &[String]) -> DaemonStatus {
    status.pairs.retain(|pair| names.contains(&pair.name));
    status
}

/// The daemon that keeps this very pair, if one does: the name alone could be another's.
pub(super) async fn keeper_of(pair: &Pair, context: &Context) -> Result<Option<Client>, Failure> {
    let Some(client) = context.client_if_any().await? else { return Ok(None) };
    let status = client.status().await?;
    let root = pair.config.local.to_string_lossy();
    let is_kept = status.pair(&pair.config.name).is_some_and(|kept| kept.local.root == root);
    Ok(is_kept.then_some(client))
}
