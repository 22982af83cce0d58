//! The state database of a pair: what was agreed, what each side has, what is under way.
//!
//! Persists observations, never work: what to do is recomputed from them. Every change is one
//! transaction, durable when it returns. Takes no decisions.

mod migrate;
mod records;
mod row;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use crate::clock::Timestamp;
use crate::tree::{Digest, NodeId, Trees};

pub use records::{
    Conflict, ConflictFate, FailureRow, HeldRow, HeldState, HistoryRow, LOCAL_KEEPS_NAME, NewHeld,
    NewHistory,
};
pub use row::Racy;

/// The first SQLite without the bug that could corrupt a database when its log was reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// History rows kept, at most.
const HISTORY_MAX: i64 = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "the state database was written by a newer foldsync (schema {version}); update foldsync"
    )]
    Newer { version: i64 },
    #[error("the state database holds {0} that makes no sense")]
    Damaged(&'static str),
    #[error("this foldsync was built with an SQLite that can corrupt databases; rebuild it")]
    SqliteTooOld,
    #[error("the state database {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

impl StoreError {
    fn damaged(what: &'static str) -> StoreError {
        StoreError::Damaged(what)
    }

    /// Whether the file itself is bad, so that another attempt on it cannot help.
    fn is_corruption(&self) -> bool {
        match self {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => matches!(
                error.code,
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
            ),
            StoreError::Damaged(_) => true,
            StoreError::Sqlite(_)
            | StoreError::Newer { .. }
            | StoreError::SqliteTooOld
            | StoreError::Io { .. } => false,
        }
    }
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// How a database was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Existing,
    New,
    /// The old file was damaged and is kept under this path. Nothing is agreed any more: the next
    /// run merges, and deletes nothing.
    SetAside(PathBuf),
}

/// An operation that was under way when the last process ended.
#[derive(Clone, Debug)]
pub struct Intent {
    pub op: u64,
    pub node: NodeId,
    /// JSON, in the executor's terms.
    pub job: String,
}

/// An upload under way at a service that goes on with it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSession {
    /// Names what is staged.
    pub key: u64,
    /// The adapter's own text.
    pub token: String,
    /// Seconds since the epoch.
    pub expires_s: Option<i64>,
    /// What is being sent.
    pub content: Digest,
    /// Where the service will make a file of it: of another place the session is of no use.
    pub place: String,
}

#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens or creates the database, checks it, and loads the trees.
    pub fn open(path: &Path) -> Result<(Store, Trees, Found)> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(StoreError::SqliteTooOld);
        }
        let existed = path.exists();
        match Store::open_checked(path) {
            Ok((store, trees)) => {
                Ok((store, trees, if existed { Found::Existing } else { Found::New }))
            }
            Err(error) if existed && error.is_corruption() => {
                let aside = Store::set_aside(path)?;
                let (store, trees) = Store::open_checked(path)?;
                Ok((store, trees, Found::SetAside(aside)))
            }
            Err(error) => Err(error),
        }
    }

    /// A copy in memory, for looking and planning without a trace on the disk.
    pub fn open_copy(path: &Path) -> Result<(Store, Trees)> {
        let mut connection = Connection::open_in_memory()?;
        if path.exists() {
            let source = open_read_only(path)?;
            rusqlite::backup::Backup::new(&source, &mut connection)?.step(-1)?;
        }
        migrate::migrate(&mut connection)?;
        let store = Store { connection };
        let trees = store.load()?;
        Ok((store, trees))
    }

    /// For looking at records only; the trees are not loaded. `None` if there is no database.
    pub fn open_records(path: &Path) -> Result<Option<Store>> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = open_read_only(path)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((version > 0).then_some(Store { connection }))
    }

    /// For looking at and changing records; the trees are not loaded. `None` if there is no database.
    pub fn edit_records(path: &Path) -> Result<Option<Store>> {
        if !path.exists() {
            return Ok(None);
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.pragma_update(None, "synchronous", "full")?;
        migrate::migrate(&mut connection)?;
        Ok(Some(Store { connection }))
    }

    /// Moves a database out of the way, with its log, and says where it went.
    pub fn set_aside(path: &Path) -> Result<PathBuf> {
        let aside = (1..)
            .map(|n| suffixed(path, &format!(".set-aside-{n}")))
            .find(|candidate| !candidate.exists())
            .expect("some number is free");
        for suffix in ["", "-wal", "-shm"] {
            let from = suffixed(path, suffix);
            if from.exists() {
                std::fs::rename(&from, suffixed(&aside, suffix))
                    .map_err(|source| StoreError::Io { path: from, source })?;
            }
        }
        Ok(aside)
    }

    fn open_checked(path: &Path) -> Result<(Store, Trees)> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        let verdict: String =
            connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if verdict != "ok" {
            return Err(StoreError::damaged("a page"));
        }
        migrate::migrate(&mut connection)?;
        let store = Store { connection };
        let trees = store.load()?;
        Ok((store, trees))
    }

    fn load(&self) -> Result<Trees> {
        let mut trees = Trees::new();
        let count: i64 =
            self.connection.query_row("SELECT count(*) FROM node", [], |row| row.get(0))?;
        trees.reserve(usize::try_from(count).unwrap_or(0));
        let sql = format!("SELECT {} FROM node ORDER BY node_id", row::COLUMNS);
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, node) = row::get(row)?;
            trees.load(id, node);
        }
        trees.loaded(&self.spoken_of()?);
        Ok(trees)
    }

    /// Nodes that records besides the trees name, there or not.
    fn spoken_of(&self) -> Result<BTreeSet<NodeId>> {
        let mut nodes: BTreeSet<NodeId> = self.sessions()?.into_keys().collect();
        nodes.extend(self.intents()?.into_iter().map(|intent| intent.node));
        let undone = [HeldState::Pending, HeldState::Approved, HeldState::Rejected];
        nodes.extend(self.held(&undone)?.into_iter().flat_map(|row| row.nodes));
        Ok(nodes)
    }

    /// Runs one transaction, durable on return; nothing of it remains if `work` fails.
    pub fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tx = Tx { transaction };
        let value = work(&tx)?;
        tx.transaction.commit()?;
        Ok(value)
    }

    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        Ok(self.connection.query_row(sql, [key], |row| row.get(0)).optional()?)
    }

    pub fn intents(&self) -> Result<Vec<Intent>> {
        let mut statement =
            self.connection.prepare("SELECT op_id, node_id, job FROM intent ORDER BY op_id")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (op, node, job) = row?;
            let node = NodeId::new(node).ok_or(StoreError::damaged("an intent"))?;
            Ok(Intent { op: op.cast_unsigned(), node, job })
        })
        .collect()
    }
}

fn open_read_only(path: &Path) -> Result<Connection> {
    // A connection that may write tidies its log files away when it closes; one that may not leaves
    // them behind. `query_only` keeps it from writing all the same.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

/// A transaction under way.
#[derive(Debug)]
pub struct Tx<'a> {
    transaction: Transaction<'a>,
}

impl Tx<'_> {
    pub fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
        self.transaction.prepare_cached(sql)?.execute([key, value])?;
        Ok(())
    }

    /// Writes nodes as the trees have them; those that the trees no longer have are removed.
    pub fn put_nodes(
        &self,
        trees: &Trees,
        ids: impl IntoIterator<Item = NodeId>,
        racy: impl Fn(NodeId) -> Racy,
    ) -> Result<()> {
        let mut upsert = self.transaction.prepare_cached(row::UPSERT)?;
        let mut delete = self.transaction.prepare_cached("DELETE FROM node WHERE node_id = ?1")?;
        for id in ids {
            match trees.get(id) {
                Some(node) => row::put(&mut upsert, id, node, racy(id))?,
                None => drop(delete.execute([id.get()])?),
            }
        }
        Ok(())
    }

    pub fn begin(&self, intent: &Intent, at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO intent VALUES (?1, ?2, ?3, ?4)";
        let row = params![intent.op.cast_signed(), intent.node.get(), intent.job, at.seconds()];
        self.transaction.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    pub fn finish(&self, op: u64) -> Result<()> {
        let sql = "DELETE FROM intent WHERE op_id = ?1";
        self.transaction.prepare_cached(sql)?.execute([op.cast_signed()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
