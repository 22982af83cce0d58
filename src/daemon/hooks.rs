//! Tells other programs what happened: a command with JSON on its standard input, or a webhook.
//!
//! Whoever fires a hook never waits: calls go into a bounded queue, and what does not fit is counted
//! and dropped. A hook that hangs is ended at its time limit, with everything it started.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;

use super::status::Moment;
use crate::clock::Timestamp;

/// Calls that wait.
const QUEUE_MAX: usize = 64;
/// Hooks that run at once.
const RUNNING_MAX: usize = 4;

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    OnConflict,
    /// A safety guard waits for a person.
    OnHold,
    OnAuthExpired,
    /// A pair stopped, or no cycle succeeded for too long.
    OnError,
    AfterCycle,
}

impl Occasion {
    pub const ALL: [Occasion; 5] = [
        Occasion::OnConflict,
        Occasion::OnHold,
        Occasion::OnAuthExpired,
        Occasion::OnError,
        Occasion::AfterCycle,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Occasion::OnConflict => "on_conflict",
            Occasion::OnHold => "on_hold",
            Occasion::OnAuthExpired => "on_auth_expired",
            Occasion::OnError => "on_error",
            Occasion::AfterCycle => "after_cycle",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// Program and arguments; no shell.
    Command(Vec<String>),
    /// Gets the JSON by POST. The address may hold a secret: only its host is ever logged.
    Webhook(Url),
}

impl Target {
    /// What may be shown of it.
    fn name(&self) -> &str {
        match self {
            Target::Command(argv) => argv.first().map(String::as_str).unwrap_or_default(),
            Target::Webhook(url) => url.host_str().unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub on: Occasion,
    pub target: Target,
    pub limit: Duration,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    #[serde(rename = "hook")]
    pub on: Occasion,
    pub pair: String,
    pub at: Moment,
    /// One sentence for a person.
    pub message: String,
    /// What a program may want to know besides.
    pub detail: serde_json::Value,
}

/// Hands calls to the hooks that want them.
pub struct Hooks {
    queue: mpsc::Sender<Call>,
    dropped: Arc<AtomicU64>,
    worker: tokio::task::JoinHandle<()>,
}

impl Hooks {
    /// Must be called on a tokio runtime. `environment` is the daemon's own; what belongs to the
    /// daemon alone is kept from the commands.
    pub fn start(hooks: Vec<Hook>, environment: Vec<(OsString, OsString)>) -> Hooks {
        let (queue, calls) = mpsc::channel(QUEUE_MAX);
        let environment = environment.into_iter().filter(|(name, _)| is_public(name)).collect();
        let runner = Arc::new(Runner { hooks, environment });
        let worker = tokio::spawn(work(runner, calls));
        Hooks { queue, dropped: Arc::default(), worker }
    }

    /// Never waits.
    pub fn fire(&self, call: Call) {
        let on = call.on;
        if self.queue.try_send(call).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(hook = on.word(), dropped, "too many hooks wait: a call was dropped");
        }
    }

    /// Calls that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Lets what was fired come to its end, but no longer than `limit`.
    pub async fn close(self, limit: Duration) {
        let Hooks { queue, mut worker, .. } = self;
        drop(queue);
        if tokio::time::timeout(limit, &mut worker).await.is_err() {
            worker.abort();
        }
    }
}

/// Secrets of remotes and the service manager's own variables stay here.
fn is_public(name: &OsString) -> bool {
    let private = ["FOLDSYNC_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY"];
    let name = name.to_string_lossy();
    !private.iter().any(|start| name.starts_with(start))
}

async fn work(runner: Arc<Runner>, mut calls: mpsc::Receiver<Call>) {
    let mut running = JoinSet::new();
    while let Some(call) = calls.recv().await {
        let Ok(json) = serde_json::to_string(&call) else { continue };
        let (call, json) = (Arc::new(call), Arc::<str>::from(json));
        for at in runner.wanted(call.on) {
            while running.len() >= RUNNING_MAX {
                running.join_next().await;
            }
            let (runner, call, json) = (runner.clone(), call.clone(), json.clone());
            running.spawn(async move { runner.run(at, &call, &json).await });
        }
    }
    while running.join_next().await.is_some() {}
}

#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("it did not end within {0:?}")]
    Limit(Duration),
    #[error("it ended with {0}")]
    Ended(std::process::ExitStatus),
    #[error("the answer was {0}")]
    Answer(reqwest::StatusCode),
    #[error("the command is empty")]
    Empty,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The address is left out of the text.
    #[error("{0}")]
    Http(reqwest::Error),
}

impl From<reqwest::Error> for HookError {
    fn from(error: reqwest::Error) -> HookError {
        HookError::Http(error.without_url())
    }
}

struct Runner {
    hooks: Vec<Hook>,
    environment: Vec<(OsString, OsString)>,
}

impl Runner {
    /// Places of the hooks for an occasion.
    fn wanted(&self, on: Occasion) -> Vec<usize> {
        let hooks = self.hooks.iter().enumerate();
        hooks.filter(|(_, hook)| hook.on == on).map(|(at, _)| at).collect()
    }

    async fn run(&self, at: usize, call: &Call, json: &str) {
        let Some(hook) = self.hooks.get(at) else { return };
        let result = match &hook.target {
            Target::Command(argv) => self.command(argv, hook.limit, call, json).await,
            Target::Webhook(url) => post(url, hook.limit, json).await,
        };
        let target = hook.target.name();
        let (hook, pair) = (call.on.word(), &call.pair);
        match result {
            Ok(()) => tracing::debug!(hook, pair, target, "a hook ran"),
            Err(error) => tracing::warn!(hook, pair, target, %error, "a hook failed"),
        }
    }

    async fn command(
        &self,
        argv: &[String],
        limit: Duration,
        call: &Call,
        json: &str,
    ) -> Result<(), HookError> {
        let (program, arguments) = argv.split_first().ok_or(HookError::Empty)?;
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("FOLDSYNC_HOOK", call.on.word())
            .env("FOLDSYNC_PAIR", &call.pair)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its errors belong into our log.
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = Group::of(&child);
        let stdin = child.stdin.take();
        let run = async {
            if let Some(mut stdin) = stdin {
                // A hook may ignore what it is told.
                let _ = stdin.write_all(json.as_bytes()).await;
            }
            child.wait().await
        };
        let status =
            tokio::time::timeout(limit, run).await.map_err(|_| HookError::Limit(limit))??;
        group.release();
        if status.success() { Ok(()) } else { Err(HookError::Ended(status)) }
    }
}

/// Everything a hook has started, ended when this is dropped before the hook has ended itself.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Group {
        Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// What it left running on purpose goes on.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn post(url: &Url, limit: Duration, json: &str) -> Result<(), HookError> {
    let client = reqwest::Client::builder()
        .timeout(limit)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("foldsync/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let request = client
        .post(url.clone())
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(json.to_owned());
    let status = request.send().await?.status();
    if status.is_success() { Ok(()) } else { Err(HookError::Answer(status)) }
}

/// Notices that a pair has not succeeded for too long, and says so once until it does.
#[derive(Debug)]
pub struct DeadMan {
    after: Duration,
    /// What was last known to have succeeded when somebody was told.
    told: Option<Timestamp>,
}

impl DeadMan {
    pub fn new(after: Duration) -> DeadMan {
        DeadMan { after, told: None }
    }

    /// How long nothing has succeeded, if that is too long. `started` counts where there was no
    /// success yet.
    pub fn silence(
        &self,
        last_success: Option<Timestamp>,
        started: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let silent = now.since(last_success.unwrap_or(started));
        (silent >= self.after).then_some(silent)
    }

    /// The same, but only once until something succeeds.
    pub fn check(
        &mut self,
        last_success: Option<Timestamp>,
        started: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let alive = last_success.unwrap_or(started);
        let silent = self.silence(last_success, started, now)?;
        (self.told.replace(alive) != Some(alive)).then_some(silent)
    }
}

#[cfg(test)]
mod tests;
