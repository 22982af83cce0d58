//! The status as a running daemon tells it: once, again and again, or when the pairs have come to
//! rest.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{print, text};
use crate::cli::args::StatusArgs;
use crate::cli::context::{Context, Pair};
use crate::cli::out::is_dumb;
use crate::cli::screen::{Screen, Stream};
use crate::cli::steer::of_pairs;
use crate::daemon::client::{Client, ClientError};
use crate::daemon::status::{DaemonStatus, PairStatus, State};
use crate::exit::{Exit, Failure};

/// A daemon that keeps all of the pairs in question.
pub(super) struct Live {
    client: Client,
    names: Vec<String>,
    status: DaemonStatus,
}

/// Between two looks of `--watch`, whatever happens.
const WATCH_MIN: Duration = Duration::from_millis(500);
/// What changes without an event, such as a transfer's progress, is shown that often, and where lines
/// stay only so often.
const WATCH_MAX: Duration = Duration::from_secs(2);
const WATCH_MOVING: Duration = Duration::from_secs(60);
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
        print(&self.status, args, context);
        let asked = args.check || args.wait.is_some();
        Ok(if asked { self.status.exit().or_worse(late) } else { Exit::InSync })
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
        if !args.json && std::io::stdout().is_terminal() && !is_dumb() {
            return self.watch_live(context).await;
        }
        let mut since = self.client.events(0, Duration::ZERO).await?.next;
        loop {
            print(&self.status, args, context);
            let printed = Instant::now();
            tokio::time::sleep(WATCH_MIN).await;
            let before = self.status.clone();
            while !self.is_news(&before, printed, args) {
                since = self.client.events(since, WATCH_MAX).await?.next;
                self.refresh().await?;
            }
        }
    }

    /// Where lines stay, moving bytes are told of once a minute; a program is told of everything.
    fn is_news(&self, before: &DaemonStatus, printed: Instant, args: &StatusArgs) -> bool {
        let is_due = args.json || printed.elapsed() >= WATCH_MOVING;
        if is_due {
            self.status != *before
        } else {
            self.status.without_motion() != before.without_motion()
        }
    }

    async fn watch_live(&mut self, context: &Context) -> Result<Exit, Failure> {
        let screen = Screen::new(Stream::Out);
        loop {
            let lines: Vec<String> =
                text(&self.status, context).lines().map(str::to_owned).collect();
            screen.show(&lines);
            tokio::time::sleep(WATCH_MIN).await;
            self.refresh().await?;
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
