//! What users wrote and have not given up by their own hand: it must be somewhere (S1), and nothing
//! else may be shown as a file (S11). Also reads the recorded state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::tree::Tree;

/// Contents by fingerprint.
#[derive(Default)]
pub(crate) struct Ledger {
    roots: Vec<PathBuf>,
    /// All that was ever written.
    written: BTreeSet<String>,
    /// How often each content is there, on a side or in a trash. Those of at least one are owed.
    present: BTreeMap<String, usize>,
}

impl Ledger {
    pub(crate) fn of(roots: Vec<PathBuf>) -> Ledger {
        Ledger { roots, ..Ledger::default() }
    }

    pub(crate) fn watch(&mut self, root: PathBuf) {
        self.roots.push(root);
    }

    pub(crate) fn wrote(&mut self, content: String) {
        *self.present.entry(content.clone()).or_default() += 1;
        self.written.insert(content);
    }

    /// A user overwrote or removed one file with this content. The last one ends the debt.
    pub(crate) fn gave_up(&mut self, content: &str) {
        if let Some(count) = self.present.get_mut(content) {
            *count = count.saturating_sub(1);
        }
    }

    /// Looks at all sides, and at what the program keeps there.
    #[track_caller]
    pub(crate) fn check(&mut self, story: &str) {
        let mut present = BTreeMap::new();
        for root in &self.roots {
            for (path, content) in Tree::of(root).files() {
                let known = self.written.contains(&content);
                assert!(
                    known || content == "?",
                    "{path} holds {content:?}, which nobody wrote: {story}"
                );
                *present.entry(content).or_default() += 1;
            }
            for (_, content) in Tree::of(&root.join(".foldsync")).files() {
                *present.entry(content).or_default() += 1;
            }
        }
        let readable = !present.contains_key("?");
        for (content, _) in self.present.iter().filter(|(_, count)| readable && **count > 0) {
            assert!(present.contains_key(content), "{content:?} is lost: {story}");
        }
        present.retain(|content, _| self.written.contains(content));
        if readable {
            self.present = present;
        }
    }
}

/// The rows of the recorded trees, in words, but for inodes and times: those of a file that was just
/// written are confirmed by the next run.
pub(crate) fn nodes(database: &Path) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(database, flags).unwrap();
    let columns = "node_id, kind, base_parent, base_name, base_size, hex(base_hash), local_parent,
        local_name, local_size, hex(local_hash), remote_parent, remote_name, remote_size,
        hex(remote_hash), local_item IS NULL, remote_item IS NULL, local_parked, remote_parked";
    let sql = format!("SELECT {columns} FROM node ORDER BY node_id");
    let mut statement = connection.prepare(&sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let values =
            (0..columns).map(|column| row.get_ref(column).map(|value| format!("{value:?}")));
        Ok(values.collect::<Result<Vec<_>, _>>()?.join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}
