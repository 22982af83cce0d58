//! What people ask about: conflicts, failures, held deletions, history. Never input to the planner,
//! but for the approvals.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{OptionalExtension, Row, params};

use super::{HISTORY_MAX, Result, SavedSession, Store, StoreError, Tx, row};
use crate::clock::Timestamp;
use crate::tree::{Digest, NodeId};

/// The rule of a conflict in which the copy is the remote's version.
pub const LOCAL_KEEPS_NAME: &str = "edited on both sides, the local version keeps the name";

/// Two versions of one file that are both kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub id: i64,
    pub path: String,
    pub copy_path: String,
    pub rule: String,
    pub detected_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
}

impl Conflict {
    /// Whether the copy is the remote's version, and not the local one.
    pub fn has_remote_copy(&self) -> bool {
        self.rule == LOCAL_KEEPS_NAME
    }
}

/// Which conflicts a query wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictFate {
    Open,
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    pub path: String,
    pub kind: String,
    pub message: String,
    pub attempts: u32,
    pub retry_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldState {
    Pending,
    /// Carried out by the next run, once.
    Approved,
    /// The deletions are undone by the next run.
    Rejected,
    Done,
}

impl HeldState {
    pub fn as_str(self) -> &'static str {
        match self {
            HeldState::Pending => "pending",
            HeldState::Approved => "approved",
            HeldState::Rejected => "rejected",
            HeldState::Done => "done",
        }
    }

    fn read(text: &str) -> Option<HeldState> {
        [HeldState::Pending, HeldState::Approved, HeldState::Rejected, HeldState::Done]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What a safety guard holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    pub id: i64,
    pub kind: String,
    pub side: String,
    pub files: u64,
    pub nodes: BTreeSet<NodeId>,
    pub paths: Vec<String>,
    pub state: HeldState,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewHeld {
    pub kind: String,
    pub side: String,
    pub files: u64,
    pub nodes: BTreeSet<NodeId>,
    pub paths: Vec<String>,
}

/// One operation that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHistory {
    pub path: String,
    pub moved_to: Option<String>,
    pub op: String,
    pub side: String,
    pub why: String,
    pub bytes: u64,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    pub at: Timestamp,
    pub event: NewHistory,
}

impl Store {
    pub fn conflicts(&self, fate: ConflictFate) -> Result<Vec<Conflict>> {
        let sql = match fate {
            ConflictFate::Open => {
                "SELECT * FROM conflict WHERE resolved_at IS NULL ORDER BY conflict_id"
            }
            ConflictFate::Any => "SELECT * FROM conflict ORDER BY conflict_id",
        };
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], read_conflict)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// Uploads that can be gone on with, by node.
    pub fn sessions(&self) -> Result<HashMap<NodeId, SavedSession>> {
        let sql = "SELECT node_id, key, token, expires_at, size, hash, place FROM upload_session";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut sessions = HashMap::new();
        while let Some(row) = rows.next()? {
            let node = NodeId::new(row.get(0)?).ok_or(StoreError::damaged("a session"))?;
            let size = row.get::<_, i64>(4)?.cast_unsigned();
            let hash = row::hash(row.get_ref(5)?)?.ok_or(StoreError::damaged("a hash"))?;
            let session = SavedSession {
                key: row.get::<_, i64>(1)?.cast_unsigned(),
                token: row.get(2)?,
                expires_s: row.get(3)?,
                content: Digest { size, hash },
                place: row.get(6)?,
            };
            sessions.insert(node, session);
        }
        Ok(sessions)
    }

    pub fn failures(&self) -> Result<Vec<FailureRow>> {
        let mut statement = self.connection.prepare("SELECT * FROM failure ORDER BY path")?;
        let rows = statement.query_map([], |row| {
            Ok(FailureRow {
                path: row.get(0)?,
                kind: row.get(1)?,
                message: row.get(2)?,
                attempts: row.get(3)?,
                retry_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_seconds),
            })
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    pub fn held(&self, states: &[HeldState]) -> Result<Vec<HeldRow>> {
        let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        let sql = "SELECT * FROM held WHERE state IN (SELECT value FROM json_each(?1))
            ORDER BY held_id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([to_json(&words)?])?;
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            held.push(read_held(row)?);
        }
        Ok(held)
    }

    /// Newest first. `path` also finds what lies below a folder.
    pub fn history(
        &self,
        path: Option<&str>,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<HistoryRow>> {
        let sql = "SELECT at, path, moved_to, op, side, why, bytes, error FROM history
            WHERE at >= ?1 AND (?2 IS NULL OR path = ?2 OR moved_to = ?2
                OR substr(path, 1, length(?2) + 1) = ?2 || '/')
            ORDER BY history_id DESC LIMIT ?3";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map(params![since.seconds(), path, limit], read_history)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// How the item at a path last came to be there or went away by our doing, the latest first.
    pub fn last_comings(&self, path: &str, limit: u32) -> Result<Vec<HistoryRow>> {
        let sql = "SELECT at, path, moved_to, op, side, why, bytes, error FROM history
            WHERE (path = ?1 OR moved_to = ?1) AND error IS NULL
                AND op IN ('mkdir', 'upload', 'download', 'move', 'delete', 'rmdir')
            ORDER BY history_id DESC LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![path, limit], read_history)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// Files deleted by us on a side since then.
    pub fn deletes_since(&self, side: &str, since: Timestamp) -> Result<u64> {
        let sql = "SELECT count(*) FROM history
            WHERE at >= ?1 AND op = 'delete' AND side = ?2 AND error IS NULL";
        let count: i64 =
            self.connection.query_row(sql, params![since.seconds(), side], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// Files of a side whose content was replaced by an edit of the other one.
    pub fn changes_since(&self, side: &str, since: Timestamp) -> Result<u64> {
        let sql = "SELECT count(DISTINCT path) FROM history
            WHERE at >= ?1 AND op IN ('upload', 'download') AND side = ?2 AND error IS NULL
            AND why GLOB 'edited on the *'";
        let count: i64 =
            self.connection.query_row(sql, params![since.seconds(), side], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// Files and bytes in base.
    pub fn totals(&self) -> Result<(u64, u64)> {
        let sql = "SELECT count(*), coalesce(sum(base_size), 0) FROM node
            WHERE kind = 0 AND base_parent IS NOT NULL";
        let (files, bytes): (i64, i64) =
            self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((files.cast_unsigned(), bytes.cast_unsigned()))
    }
}

impl Tx<'_> {
    /// Remembers, or forgets, an upload that a service goes on with.
    pub fn set_session(&self, node: NodeId, session: Option<&SavedSession>) -> Result<()> {
        match session {
            Some(session) => {
                let sql =
                    "INSERT OR REPLACE INTO upload_session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                self.transaction.prepare_cached(sql)?.execute(params![
                    node.get(),
                    session.key.cast_signed(),
                    session.token,
                    session.expires_s,
                    session.content.size.cast_signed(),
                    session.content.hash.bytes(),
                    session.place
                ])?;
            }
            None => {
                let sql = "DELETE FROM upload_session WHERE node_id = ?1";
                self.transaction.prepare_cached(sql)?.execute([node.get()])?;
            }
        }
        Ok(())
    }

    /// Records a conflict, unless the same two paths are already recorded and open.
    pub fn add_conflict(
        &self,
        path: &str,
        copy_path: &str,
        rule: &str,
        at: Timestamp,
    ) -> Result<()> {
        let open: Option<i64> = self
            .transaction
            .query_row(
                "SELECT conflict_id FROM conflict
                 WHERE copy_path = ?1 AND resolved_at IS NULL",
                [copy_path],
                |row| row.get(0),
            )
            .optional()?;
        if open.is_none() {
            self.transaction.execute(
                "INSERT INTO conflict (path, copy_path, rule, detected_at) VALUES (?1, ?2, ?3, ?4)",
                params![path, copy_path, rule, at.seconds()],
            )?;
        }
        Ok(())
    }

    pub fn resolve_conflict(&self, id: i64, at: Timestamp) -> Result<()> {
        self.transaction.execute(
            "UPDATE conflict SET resolved_at = ?2 WHERE conflict_id = ?1",
            params![id, at.seconds()],
        )?;
        Ok(())
    }

    /// Replaces the recorded failures by those of the run that ends.
    pub fn set_failures(&self, failures: &[FailureRow]) -> Result<()> {
        self.transaction.execute("DELETE FROM failure", [])?;
        let sql = "INSERT OR REPLACE INTO failure VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        for row in failures {
            let retry_at = row.retry_at.map(Timestamp::seconds);
            statement.execute(params![row.path, row.kind, row.message, row.attempts, retry_at])?;
        }
        Ok(())
    }

    /// Makes `held` the pending rows. A row that is pending with the same nodes keeps its number.
    pub fn set_pending(&self, held: &[NewHeld], at: Timestamp) -> Result<()> {
        let mut kept: Vec<i64> = Vec::new();
        for new in held {
            let nodes = to_json(&new.nodes)?;
            let known: Option<i64> = self
                .transaction
                .query_row(
                    "SELECT held_id FROM held
                     WHERE state = 'pending' AND kind = ?1 AND side = ?2 AND nodes = ?3",
                    params![new.kind, new.side, nodes],
                    |row| row.get(0),
                )
                .optional()?;
            kept.push(match known {
                Some(id) => id,
                None => self.insert_held(new, &nodes, at)?,
            });
        }
        let keep = to_json(&kept)?;
        self.transaction.execute(
            "DELETE FROM held WHERE state = 'pending'
             AND held_id NOT IN (SELECT value FROM json_each(?1))",
            [keep],
        )?;
        Ok(())
    }

    fn insert_held(&self, new: &NewHeld, nodes: &str, at: Timestamp) -> Result<i64> {
        self.transaction.execute(
            "INSERT INTO held (kind, side, files, nodes, paths, state, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6)",
            params![
                new.kind,
                new.side,
                new.files.cast_signed(),
                nodes,
                to_json(&new.paths)?,
                at.seconds()
            ],
        )?;
        Ok(self.transaction.last_insert_rowid())
    }

    pub fn set_held_state(&self, id: i64, state: HeldState) -> Result<()> {
        self.transaction.execute(
            "UPDATE held SET state = ?2 WHERE held_id = ?1",
            params![id, state.as_str()],
        )?;
        Ok(())
    }

    pub fn add_history(&self, event: &NewHistory, at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO history (at, path, moved_to, op, side, why, bytes, error)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.transaction.prepare_cached(sql)?.execute(params![
            at.seconds(),
            event.path,
            event.moved_to,
            event.op,
            event.side,
            event.why,
            event.bytes.cast_signed(),
            event.error
        ])?;
        Ok(())
    }

    /// Drops the oldest rows above the bound.
    pub fn trim_history(&self) -> Result<()> {
        self.transaction.execute(
            "DELETE FROM history WHERE history_id <=
                (SELECT max(history_id) FROM history) - ?1",
            [HISTORY_MAX],
        )?;
        Ok(())
    }
}

fn read_history(row: &Row<'_>) -> rusqlite::Result<HistoryRow> {
    Ok(HistoryRow {
        at: Timestamp::from_seconds(row.get(0)?),
        event: NewHistory {
            path: row.get(1)?,
            moved_to: row.get(2)?,
            op: row.get(3)?,
            side: row.get(4)?,
            why: row.get(5)?,
            bytes: row.get::<_, i64>(6)?.cast_unsigned(),
            error: row.get(7)?,
        },
    })
}

fn read_conflict(row: &Row<'_>) -> rusqlite::Result<Conflict> {
    Ok(Conflict {
        id: row.get(0)?,
        path: row.get(1)?,
        copy_path: row.get(2)?,
        rule: row.get(3)?,
        detected_at: Timestamp::from_seconds(row.get(4)?),
        resolved_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_seconds),
    })
}

fn read_held(row: &Row<'_>) -> Result<HeldRow> {
    let nodes: String = row.get(4)?;
    let paths: String = row.get(5)?;
    let state: String = row.get(6)?;
    Ok(HeldRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        side: row.get(2)?,
        files: row.get::<_, i64>(3)?.cast_unsigned(),
        nodes: serde_json::from_str(&nodes).map_err(|_| StoreError::damaged("a held set"))?,
        paths: serde_json::from_str(&paths).map_err(|_| StoreError::damaged("a held set"))?,
        state: HeldState::read(&state).ok_or(StoreError::damaged("a held state"))?,
        created_at: Timestamp::from_seconds(row.get(7)?),
    })
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::damaged("a list"))
}
