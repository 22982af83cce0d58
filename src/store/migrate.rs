//! Numbered migrations of the state database. Each runs in one transaction with its number.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Applied in order; the database's `user_version` is how many it has had. Never edit one that was
/// released: add the next.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("session_place.sql")];

/// Brings a database up to date; refuses one that a newer foldsync wrote.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Newer { version });
    }
    for (number, sql) in (1i64..).zip(MIGRATIONS).skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
