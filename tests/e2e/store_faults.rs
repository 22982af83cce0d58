//! CR-10: the state database refuses a write, whichever it is, and stays so for a while. Triggers in
//! the database do that to the built program: every row that it writes is counted, and from one of
//! them on each is refused.

use rusqlite::Connection;

use super::pair::Pair;

const TABLES: [&str; 8] =
    ["meta", "node", "intent", "upload_session", "conflict", "failure", "held", "history"];

/// Refuses every row from the `first` on, counted from 1.
fn break_from(pair: &Pair, first: i64) {
    let mut sql = "CREATE TABLE broken (rows INTEGER); INSERT INTO broken VALUES (0);".to_owned();
    for table in TABLES {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            sql += &format!(
                "CREATE TRIGGER broken_{table}_{event} BEFORE {event} ON {table} BEGIN \
                   UPDATE broken SET rows = rows + 1; \
                   SELECT RAISE(ABORT, 'disk I/O error') FROM broken WHERE rows >= {first}; \
                 END;"
            );
        }
    }
    Connection::open(pair.database()).unwrap().execute_batch(&sql).unwrap();
}

/// Says how many rows were written.
fn heal(pair: &Pair) -> i64 {
    let connection = Connection::open(pair.database()).unwrap();
    let rows = connection.query_row("SELECT rows FROM broken", [], |row| row.get(0)).unwrap();
    for table in TABLES {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            connection.execute_batch(&format!("DROP TRIGGER broken_{table}_{event}")).unwrap();
        }
    }
    connection.execute_batch("DROP TABLE broken").unwrap();
    rows
}

/// Something of every kind is to be done on both sides.
fn with_changes() -> Pair {
    let pair = Pair::synced(&["edited", "gone", "moved", "both", "d/x", "far/y", "far/z"]);
    let (local, remote) = (pair.local(), pair.remote());
    local.write("edited", "1").delete("gone").rename("moved", "d/moved").write("new/a", "a");
    remote.write("far/y", "1").delete("far/z").rename("d/x", "x").write("there", "t");
    local.write("both", "mine");
    remote.write("both", "theirs, longer");
    pair
}

const SETTLED: [&str; 11] = [
    "CC(both)=mine",
    "both=theirs, longer",
    "d/",
    "d/moved=moved 0",
    "edited=1",
    "far/",
    "far/y=1",
    "new/",
    "new/a=a",
    "there=t",
    "x=d/x 0",
];

// CR-10
#[test]
fn a_database_that_refuses_any_write_and_all_after_it_loses_nothing_and_heals() {
    let pair = with_changes();
    break_from(&pair, i64::MAX);
    pair.sync().exits(3);
    let rows = heal(&pair);
    assert!(rows > 30, "{rows} rows");
    for first in 1..=rows {
        let pair = with_changes();
        break_from(&pair, first);
        let run = pair.sync();
        // What is written last only tells people how the run ended.
        assert!([7, 3].contains(&run.exit), "row {first}: {run}");
        let was_over = run.exit == 3;
        // It is told in words, and is still so at the next try.
        assert!(was_over || run.err.contains("database"), "row {first}: {run}");
        heal(&pair);
        let run = pair.sync().exits(3);
        assert!(!was_over || run.ops.is_empty(), "row {first}: {run}");
        pair.settled_with_conflict(&SETTLED);
    }
}
