//! S14: what the database believes that both sides held, both sides held.

use std::collections::BTreeSet;

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};

use super::pair::Pair;

/// Every content that was seen on each side.
#[derive(Default)]
pub(crate) struct Witness {
    held: [BTreeSet<Vec<u8>>; 2],
}

impl Witness {
    pub(crate) fn look(&mut self, pair: &Pair) {
        for (side, held) in pair.both().iter().zip(&mut self.held) {
            for (path, _) in side.tree().files() {
                held.insert(Sha256::digest(side.read(&path)).to_vec());
            }
        }
    }

    #[track_caller]
    pub(crate) fn check(&self, pair: &Pair, story: &str) {
        if !pair.state_dir().exists() {
            return;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(pair.database(), flags).unwrap();
        // A process killed while it made the database leaves none, or one without tables.
        let sql = "SELECT base_name, base_hash FROM node WHERE base_hash IS NOT NULL";
        let Ok(mut statement) = connection.prepare(sql) else { return };
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
        for row in rows.unwrap() {
            let (name, hash) = row.unwrap();
            let held = self.held.iter().filter(|held| held.contains(&hash)).count();
            assert_eq!(held, 2, "{name} is believed to have been on both sides: {story}");
        }
    }
}
