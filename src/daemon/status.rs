//! What the daemon says about itself: the model behind `status --json`, the socket and the metrics.
//!
//! Plain values, made by the daemon and read by everybody else; nothing here looks at a disk, a
//! network or a clock. Fields are added, never renamed.

mod block;
mod metrics;
mod moving;
mod text;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::engine::report::{OpKind, OpResult, SkippedItem};
use crate::exit::Exit;
use crate::plan::{BrakeReason, Mode};
use crate::store::{FailureRow, HeldRow};
use crate::text::counted;

pub use block::{block, one_line};
pub use metrics::metrics;
pub use text::{View, check_line, text};

/// Raised only if a reader of the old form would be misled.
pub const SCHEMA: u32 = 1;
/// Failed items that a status names; `failed_total` counts the rest.
pub const FAILED_MAX: usize = 200;
/// Items that cannot be synced and are named; `skipped` counts all.
pub const SKIPPED_MAX: usize = 20;

/// A point in time, RFC 3339 in UTC and to the second in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Moment {
        Moment(at)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Moment(Timestamp::from_seconds(at.as_second())))
    }
}

/// What a pair is doing. One vocabulary everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Idle,
    Scanning,
    Planning,
    Syncing,
    /// For a request budget, a timetable or a retry.
    Waiting,
    Paused,
    /// A safety guard waits for a person.
    Held,
    Offline,
    AuthExpired,
    Error,
}

impl State {
    pub const ALL: [State; 10] = [
        State::Idle,
        State::Scanning,
        State::Planning,
        State::Syncing,
        State::Waiting,
        State::Paused,
        State::Held,
        State::Offline,
        State::AuthExpired,
        State::Error,
    ];

    pub fn word(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Scanning => "scanning",
            State::Planning => "planning",
            State::Syncing => "syncing",
            State::Waiting => "waiting",
            State::Paused => "paused",
            State::Held => "held",
            State::Offline => "offline",
            State::AuthExpired => "auth-expired",
            State::Error => "error",
        }
    }
}

/// It works, but not as well as it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Degraded {
    /// Local changes are found at intervals instead of at once.
    Polling,
    /// The remote was not listed completely for longer than it should take.
    StaleListing,
    /// This computer's clock and the service's differ.
    ClockSkew,
    LowSpace,
    QuotaFull,
}

impl Degraded {
    pub const ALL: [Degraded; 5] = [
        Degraded::Polling,
        Degraded::StaleListing,
        Degraded::ClockSkew,
        Degraded::LowSpace,
        Degraded::QuotaFull,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Degraded::Polling => "polling",
            Degraded::StaleListing => "stale-listing",
            Degraded::ClockSkew => "clock-skew",
            Degraded::LowSpace => "low-space",
            Degraded::QuotaFull => "quota-full",
        }
    }
}

/// How local changes are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watch {
    Watching,
    /// At least a part of the folder is only looked at in intervals.
    Polling,
    /// The pair is not watched now: paused, or not started.
    #[default]
    Off,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalStatus {
    /// Absolute path.
    pub root: String,
    /// Files in sync.
    pub files: u64,
    pub bytes: u64,
    pub watch: Watch,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteStatus {
    pub kind: String,
    /// Name in the configuration, where it has one.
    pub name: Option<String>,
    pub path: String,
    /// When the last complete listing ended.
    pub listing_at: Option<Moment>,
    /// Whether the last look at the remote covered all of it.
    pub listing_complete: bool,
}

/// Operations that are known to be needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    pub upload: u64,
    pub download: u64,
    pub delete: u64,
    #[serde(rename = "move")]
    pub moves: u64,
    /// Of the transfers, in both directions.
    pub bytes: u64,
}

impl Pending {
    pub fn operations(&self) -> u64 {
        self.upload + self.download + self.delete + self.moves
    }
}

/// Bytes per second over the wire, over the last seconds; 0 when idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    pub up_bps: u64,
    pub down_bps: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedItem {
    pub path: String,
    pub error: String,
    pub retry_at: Option<Moment>,
    pub attempts: u32,
}

impl From<FailureRow> for FailedItem {
    fn from(row: FailureRow) -> FailedItem {
        let retry_at = row.retry_at.map(Moment);
        FailedItem { path: row.path, error: row.message, retry_at, attempts: row.attempts }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldItem {
    pub id: i64,
    pub kind: String,
    /// Files.
    pub count: u64,
    pub created: Moment,
}

impl HeldItem {
    /// `143 deletes`, `12 changes`, or `1 question` where it is not about files.
    pub fn what(&self) -> String {
        match BrakeReason::from_word(&self.kind) {
            Some(BrakeReason::TooManyChanges) => counted(self.count, "change"),
            Some(BrakeReason::TooManyDeletes | BrakeReason::RootEmptied) => {
                counted(self.count, "delete")
            }
            None => counted(1, "question"),
        }
    }
}

impl From<HeldRow> for HeldItem {
    fn from(row: HeldRow) -> HeldItem {
        let created = Moment(row.created_at);
        HeldItem { id: row.id, kind: row.kind, count: row.files, created }
    }
}

/// How far the work that began with the last scan has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Up,
    Down,
}

impl Direction {
    pub fn word(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// A transfer that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub path: String,
    pub direction: Direction,
    /// Bytes that are there or on their way; what has to be sent again is not among them.
    pub done: u64,
    /// Bytes.
    pub total: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCount {
    pub op: OpKind,
    pub result: OpResult,
    pub count: u64,
}

/// Counters since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub operations: Vec<OpCount>,
    /// Bytes that went over the wire, whatever became of them.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Bytes that instant uploads saved, and how many those were.
    pub bytes_instant: u64,
    pub files_instant: u64,
    pub bytes_hashed: u64,
    pub requests: u64,
    pub cycles: u64,
    pub watch_events: u64,
    pub watch_overflows: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatus {
    pub name: String,
    pub state: State,
    /// When it entered the state; none for a pair that nobody ever kept.
    pub since: Option<Moment>,
    pub local: LocalStatus,
    pub remote: RemoteStatus,
    #[serde(default)]
    pub pending: Pending,
    #[serde(default)]
    pub rate: Rate,
    /// Seconds; `None` if nothing honest can be said.
    #[serde(default)]
    pub eta_s: Option<u64>,
    #[serde(default)]
    pub conflicts: u64,
    /// At most `FAILED_MAX`.
    #[serde(default)]
    pub failed: Vec<FailedItem>,
    #[serde(default)]
    pub held: Vec<HeldItem>,
    #[serde(default)]
    pub degraded: Vec<Degraded>,
    /// The end of the last cycle after which nothing was left to do.
    #[serde(default)]
    pub last_success: Option<Moment>,

    /// Fields beyond the contract's.
    #[serde(default = "two_way")]
    pub mode: Mode,
    #[serde(default)]
    pub failed_total: u64,
    /// Items that cannot be synced as they are.
    #[serde(default)]
    pub skipped: u64,
    /// At most `SKIPPED_MAX` of them.
    #[serde(default)]
    pub skipped_items: Vec<SkippedItem>,
    /// What is left out by a rule of which nobody may think; at most `SKIPPED_MAX`.
    #[serde(default)]
    pub left_out: Vec<SkippedItem>,
    #[serde(default)]
    pub progress: Option<Progress>,
    #[serde(default)]
    pub transfers: Vec<Transfer>,
    /// Why it is in this state, where the word alone does not say it.
    #[serde(default)]
    pub message: Option<String>,
    /// What a person should know or do besides, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    #[serde(default)]
    pub paused_until: Option<Moment>,
    /// When the remote is looked at next.
    #[serde(default)]
    pub next_poll: Option<Moment>,
    #[serde(default)]
    pub totals: Totals,
}

fn two_way() -> Mode {
    Mode::TwoWay
}

impl PairStatus {
    /// A pair of which nothing is known yet.
    pub fn new(name: String, mode: Mode, local_root: String, now: Timestamp) -> PairStatus {
        PairStatus {
            name,
            state: State::Scanning,
            since: Some(Moment(now)),
            local: LocalStatus { root: local_root, ..LocalStatus::default() },
            remote: RemoteStatus::default(),
            pending: Pending::default(),
            rate: Rate::default(),
            eta_s: None,
            conflicts: 0,
            failed: Vec::new(),
            held: Vec::new(),
            degraded: Vec::new(),
            last_success: None,
            mode,
            failed_total: 0,
            skipped: 0,
            skipped_items: Vec::new(),
            left_out: Vec::new(),
            progress: None,
            transfers: Vec::new(),
            message: None,
            notes: Vec::new(),
            paused_until: None,
            next_poll: None,
            totals: Totals::default(),
        }
    }

    /// What failed, as far as a status names it.
    pub fn set_failed(&mut self, rows: Vec<FailureRow>) {
        self.failed_total = rows.len() as u64;
        self.failed = rows.into_iter().take(FAILED_MAX).map(FailedItem::from).collect();
    }

    /// What cannot be synced, as far as a status names it.
    pub fn set_skipped(&mut self, items: &[SkippedItem]) {
        self.skipped = items.len() as u64;
        self.skipped_items = items.iter().take(SKIPPED_MAX).cloned().collect();
    }

    /// What is left out by rule and named all the same.
    pub fn set_left_out(&mut self, items: &[SkippedItem]) {
        self.left_out = items.iter().take(SKIPPED_MAX).cloned().collect();
    }

    /// What waits for a person.
    pub fn set_held(&mut self, rows: Vec<HeldRow>) {
        self.held = rows.into_iter().map(HeldItem::from).collect();
    }

    /// The state, and when it was entered if it is another one.
    pub fn enter(&mut self, state: State, now: Timestamp) {
        if self.state != state {
            (self.state, self.since) = (state, Some(Moment(now)));
        }
    }

    /// The code that a sync would end with. A pair with known work left is not in sync yet, and
    /// neither is one that never was.
    pub fn exit(&self) -> Exit {
        let of_state = match self.state {
            State::AuthExpired => Exit::LoginNeeded,
            State::Error => Exit::Fatal,
            State::Held => Exit::Held,
            State::Offline => Exit::Unavailable,
            State::Idle
            | State::Scanning
            | State::Planning
            | State::Syncing
            | State::Waiting
            | State::Paused => Exit::InSync,
        };
        let never = self.last_success.is_none();
        let unfinished = never || self.pending.operations() > 0 || self.failed_count() > 0;
        let when = |applies: bool, exit| if applies { exit } else { Exit::InSync };
        of_state
            .or_worse(when(!self.held.is_empty(), Exit::Held))
            .or_worse(when(unfinished, Exit::SomeFailed))
            .or_worse(when(self.conflicts > 0 || self.skipped > 0, Exit::Remaining))
    }

    fn failed_count(&self) -> u64 {
        self.failed_total.max(self.failed.len() as u64)
    }

    /// Idle, with nothing left to do, and both sides looked at completely.
    pub fn is_in_sync(&self) -> bool {
        self.state == State::Idle && self.remote.listing_complete && self.exit() == Exit::InSync
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub schema: u32,
    pub version: String,
    /// Of the daemon; none if none runs, and this is what it left.
    pub pid: Option<u32>,
    pub pairs: Vec<PairStatus>,
    /// Beyond the contract: when the daemon started.
    #[serde(default)]
    pub started: Option<Moment>,
}

impl DaemonStatus {
    /// This process's own, without pairs.
    pub fn new(started: Timestamp) -> DaemonStatus {
        let (pid, started) = (Some(std::process::id()), Some(Moment(started)));
        DaemonStatus { pid, started, ..DaemonStatus::recorded(Vec::new()) }
    }

    /// What is known of pairs although no daemon runs.
    pub fn recorded(pairs: Vec<PairStatus>) -> DaemonStatus {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        DaemonStatus { schema: SCHEMA, version, pid: None, pairs, started: None }
    }

    pub fn pair(&self, name: &str) -> Option<&PairStatus> {
        self.pairs.iter().find(|pair| pair.name == name)
    }

    /// What `status --check` exits with.
    pub fn exit(&self) -> Exit {
        self.pairs.iter().fold(Exit::InSync, |worst, pair| worst.or_worse(pair.exit()))
    }

    /// Pairs that a person must look at, for `/health`.
    pub fn broken(&self) -> impl Iterator<Item = &PairStatus> {
        self.pairs.iter().filter(|pair| pair.state == State::Error)
    }
}

#[cfg(test)]
mod tests;
