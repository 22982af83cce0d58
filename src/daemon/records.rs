//! What the state databases of the pairs keep for people, in the words of the control socket.
//!
//! Blocks on the disk: called from threads that may.

use std::path::Path;

use super::control::{ConflictItem, ControlError, HeldSet, HistoryItem, HistoryQuery, Result};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::store::{Conflict, ConflictFate, HeldRow, HeldState, HistoryRow, Store, StoreError};

const WAITING: [HeldState; 3] = [HeldState::Pending, HeldState::Approved, HeldState::Rejected];

fn failed(error: StoreError) -> ControlError {
    ControlError::Failed(error.to_string())
}

pub(super) fn held(pair: &str, database: &Path) -> Result<Vec<HeldSet>> {
    let Some(store) = Store::open_records(database).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let rows = store.held(&WAITING).map_err(failed)?;
    Ok(rows.into_iter().map(|row| held_set(pair, row)).collect())
}

fn held_set(pair: &str, row: HeldRow) -> HeldSet {
    HeldSet {
        pair: pair.to_owned(),
        id: row.id,
        kind: row.kind,
        side: row.side,
        count: row.files,
        state: row.state.as_str().to_owned(),
        created: row.created_at.rfc3339(),
        paths: row.paths,
    }
}

/// Writes a person's answer down.
pub(super) fn answer(database: &Path, id: i64, state: HeldState) -> Result<()> {
    match Store::edit_records(database).map_err(failed)? {
        Some(mut store) => store.write(|tx| tx.set_held_state(id, state)).map_err(failed),
        None => Err(ControlError::NotFound("nothing is held".to_owned())),
    }
}

pub(super) fn conflicts(pair: &str, database: &Path) -> Result<Vec<ConflictItem>> {
    let Some(store) = Store::open_records(database).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let rows = store.conflicts(ConflictFate::Open).map_err(failed)?;
    Ok(rows.into_iter().map(|row| conflict_item(pair, row)).collect())
}

fn conflict_item(pair: &str, row: Conflict) -> ConflictItem {
    ConflictItem {
        pair: pair.to_owned(),
        id: row.id,
        path: row.path,
        copy: row.copy_path,
        rule: row.rule,
        detected: row.detected_at.rfc3339(),
        resolved: None,
    }
}

/// The newest last.
pub(super) fn history(
    pair: &str,
    database: &Path,
    query: &HistoryQuery,
) -> Result<Vec<HistoryItem>> {
    let Some(store) = Store::open_records(database).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let since = query.since.map_or(Timestamp(0), |span| {
        let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(SystemClock.now().0.saturating_sub(span))
    });
    let rows = store.history(query.path.as_deref(), since, query.limit).map_err(failed)?;
    Ok(rows.into_iter().rev().map(|row| history_item(pair, row)).collect())
}

fn history_item(pair: &str, row: HistoryRow) -> HistoryItem {
    HistoryItem {
        pair: pair.to_owned(),
        at: row.at.rfc3339(),
        op: row.event.op,
        side: row.event.side,
        path: row.event.path,
        to: row.event.moved_to,
        bytes: row.event.bytes,
        reason: row.event.why,
        error: row.event.error,
    }
}
