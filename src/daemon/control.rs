//! What can be asked of a running daemon, in plain values that both ends of the socket share.

use std::time::Duration;

use async_trait::async_trait;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("there is no pair `{0}`")]
    NoSuchPair(String),
    #[error("{0}")]
    NotFound(String),
    /// Understood, but not possible as things are; the text says why.
    #[error("{0}")]
    Refused(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Failed(String),
}

pub type Result<T> = std::result::Result<T, ControlError>;

/// Which set of held deletions or which conflict: numbers are unique within a pair only. Without a
/// pair, the number must be unique among all pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub pair: Option<String>,
    pub id: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Approve,
    Reject,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSet {
    pub pair: String,
    pub id: i64,
    pub kind: String,
    pub side: String,
    /// Files.
    pub count: u64,
    pub state: String,
    /// RFC 3339.
    pub created: String,
    #[serde(default)]
    pub paths: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictItem {
    pub pair: String,
    pub id: i64,
    pub path: String,
    pub copy: String,
    pub rule: String,
    /// RFC 3339.
    pub detected: String,
    pub resolved: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// All pairs, if none is given.
    pub pair: Option<String>,
    /// Only this file or folder of the pair.
    pub path: Option<String>,
    /// Only the last while.
    pub since: Option<Duration>,
    /// Rows of each pair, the newest ones.
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryItem {
    pub pair: String,
    /// RFC 3339.
    pub at: String,
    pub op: String,
    pub side: String,
    pub path: String,
    pub to: Option<String>,
    pub bytes: u64,
    pub reason: String,
    pub error: Option<String>,
}

/// What is kept of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The version that was written here
    Local,
    /// The version that came from the remote
    Remote,
    /// Both files stay as they are
    Both,
    /// The one that was modified last
    Newer,
}

/// The word of a resolution, as on the command line.
pub fn keep_word(keep: Keep) -> String {
    keep.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Implemented by the daemon. The socket calls it with a time limit, except for `flush`, which may
/// take as long as a sync; a call whose client has gone is dropped.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Without a span, until `resume`.
    async fn pause(&self, pair: &str, span: Option<Duration>) -> Result<()>;
    async fn resume(&self, pair: &str) -> Result<()>;
    /// Syncs now; returns when the pair is in sync or cannot get further, with the code of that.
    async fn flush(&self, pair: &str) -> Result<Exit>;
    /// Looks at both sides again. `deep` reads every file instead of believing its times.
    async fn rescan(&self, pair: &str, deep: bool) -> Result<()>;
    /// Begins to stop; does not wait for the end.
    async fn stop(&self) -> Result<()>;
    /// Applies the configuration file as it is now; `Refused` if it is invalid.
    async fn reload(&self) -> Result<()>;
    /// What waits for a person; of all pairs, if none is given.
    async fn held(&self, pair: Option<&str>) -> Result<Vec<HeldSet>>;
    async fn held_set(&self, set: &Numbered) -> Result<HeldSet>;
    /// The set as it is afterwards.
    async fn answer(&self, set: &Numbered, answer: Answer) -> Result<HeldSet>;
    async fn conflicts(&self, pair: Option<&str>) -> Result<Vec<ConflictItem>>;
    async fn conflict(&self, conflict: &Numbered) -> Result<ConflictItem>;
    async fn resolve(&self, conflict: &Numbered, keep: Keep) -> Result<()>;
    /// The newest last.
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryItem>>;
}
