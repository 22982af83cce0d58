//! The status as a running daemon tells it: once, again and again, or when the pairs have come to
//! rest.

use std::io::IsTerminal as _;
use std::time::Duration;

use futures_util::future::join_all;

use crate::cli::args::StatusArgs;
use crate::cli::context::{Context, Pair};
use crate::cli::exit::{Exit, Failure};
use crate::cli::out::Paint;
use crate::cli::steer::of_pairs;
use crate::clock::{Clock as _, SystemClock};
use crate::daemon::client::{Client, ClientError};
use crate::daemon::status::{self, DaemonStatus, PairStatus, State, View, check_line};

/// A daemon that keeps all of the pairs in question.
pub(super) struct Live {
    client: Client,
    names: Vec<String>,
    status: DaemonStatus,
}

/// Between two looks of `--watch`, whatever happens.
const WATCH_MIN: Duration = Duration::from_millis(500);
/// What changes without an event, such as a transfer's progress, is shown that often.
const WATCH_MAX: Duration = Duration::from_secs(2);
const WAIT_EVENT: Duration = Duration::from_secs(5);

pub(super) async fn find(pairs: &[Pair], context: &Context) -> Result<Option<Live>, Failure> {
    let Some(client) = context.client_if_any().await? else { return Ok(None) };
    let status = client.status().await?;
    let is_kept = |pair: &Pair| {
        let root = pair.config.local.to_string_lossy();
        status.pair(&pair.config.name).is_some_and(|kept| kept.local.root == root)
    };
    // A daemon of some pairs tells nothing of the others: their records do.
    if pairs.is_empty() || !pairs.iter().all(is_kept) {
        return Ok(None);
    }
    let names: Vec<String> = pairs.iter().map(|pair| pair.config.name.clone()).collect();
    let status = of_pairs(status, &names);
    Ok(Some(Live { client, names, status }))
}

impl Live {
    pub(super) async fn show(
        mut self,
        args: &StatusArgs,
        context: &Context,
    ) -> Result<Exit, Failure> {
        if args.watch {
            return self.watch(args, context).await;
        }
        let mut late = Exit::InSync;
        if let Some(span) = args.wait {
            match tokio::time::timeout(span.0, self.come_to_rest()).await {
                Ok(rested) => rested?,
                Err(_) => late = Exit::SomeFailed,
            }
        }
        self.print(args, context);
        let asked = args.check || args.wait.is_some();
        Ok(if asked { self.status.exit().or_worse(late) } else { Exit::InSync })
    }

    fn print(&self, args: &StatusArgs, context: &Context) {
        let out = &context.out;
        if args.json {
            out.json(&self.status);
        } else if args.check {
            out.line(check_line(&self.status));
        } else {
            let paint = |paint: Paint, text: &str| out.paint(paint, text);
            let home = context.places.home.as_deref();
            let view = View { now: SystemClock.now(), home, paint: &paint };
            out.write(status::text(&self.status, &view).as_bytes());
        }
        out.flush();
    }

    async fn refresh(&mut self) -> Result<(), Failure> {
        self.status = of_pairs(self.client.status().await?, &self.names);
        Ok(())
    }

    /// What was saved before the call is synced when this returns, as with a flush. Unlike a flush it
    /// waits for a network that is away.
    async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let flushes = self.names.iter().map(|name| self.client.flush(name));
        for flushed in join_all(flushes).await {
            match flushed {
                // A paused pair is at rest as it is.
                Ok(_) | Err(ClientError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut since = self.client.events(0, Duration::ZERO).await?.next;
        loop {
            self.refresh().await?;
            if self.status.pairs.iter().all(is_at_rest) {
                return Ok(());
            }
            since = self.client.events(since, WAIT_EVENT).await?.next;
        }
    }

    /// Until it is interrupted, or the daemon ends.
    async fn watch(&mut self, args: &StatusArgs, context: &Context) -> Result<Exit, Failure> {
        let clears = !args.json && std::io::stdout().is_terminal();
        let mut since = self.client.events(0, Duration::ZERO).await?.next;
        loop {
            if clears {
                context.out.write(b"\x1b[H\x1b[2J");
            }
            self.print(args, context);
            tokio::time::sleep(WATCH_MIN).await;
            let before = self.status.clone();
            while self.status == before || clears {
                since = self.client.events(since, WATCH_MAX).await?.next;
                self.refresh().await?;
                if clears {
                    break;
                }
            }
        }
    }
}

/// In sync, or not able to get further without a person.
fn is_at_rest(pair: &PairStatus) -> bool {
    match pair.state {
        State::Idle => pair.remote.listing_complete || pair.failed_total > 0,
        State::Held | State::AuthExpired | State::Error | State::Paused => true,
        // The network comes back by itself.
        State::Offline | State::Scanning | State::Planning | State::Syncing | State::Waiting => {
            false
        }
    }
}
