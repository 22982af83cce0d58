//! What users can see and do, in one vocabulary for both sides.
//!
//! Every act is recorded in the ledger: which contents a user wrote, and which one took away.

use std::collections::BTreeMap;

use bytes::Bytes;
use foldsync::tree::Side;

use super::faults::Hub;

/// What a user sees: the content of each file by path, `None` for a folder.
pub(crate) type Tree = BTreeMap<String, Option<Bytes>>;

/// One side, as its users use it. Each act is atomic, and `false` if it could not be done.
pub(crate) trait Users {
    fn side(&self) -> Side;
    fn tree(&self) -> Tree;
    fn mkdir(&self, path: &str) -> bool;
    /// Writes a new file, or into the existing one.
    fn write(&self, path: &str, content: Bytes) -> bool;
    /// Replaces a file by another one, as editors do that write a copy and rename it.
    fn replace(&self, path: &str, content: Bytes) -> bool;
    /// A new modification time for the same content.
    fn touch(&self, path: &str) -> bool;
    /// A file may replace a file.
    fn rename(&self, from: &str, to: &str) -> bool;
    /// A file, or a folder with everything in it.
    fn remove(&self, path: &str) -> bool;
}

/// One act of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Mkdir(String),
    Write(String, Bytes),
    Replace(String, Bytes),
    Touch(String),
    Rename(String, String),
    Remove(String),
}

impl Act {
    /// Does it and records it; `false` if it could not be done.
    pub(crate) fn perform(&self, hub: &Hub, users: &dyn Users) -> bool {
        let before = users.tree();
        let done = match self {
            Act::Mkdir(path) => users.mkdir(path),
            Act::Write(path, content) => users.write(path, content.clone()),
            Act::Replace(path, content) => users.replace(path, content.clone()),
            Act::Touch(path) => users.touch(path),
            Act::Rename(from, to) => users.rename(from, to),
            Act::Remove(path) => users.remove(path),
        };
        if done {
            hub.note(format_args!("{} user: {self:?}", users.side()));
            self.record(hub, users.side(), &before);
        }
        done
    }

    fn record(&self, hub: &Hub, side: Side, before: &Tree) {
        if let Act::Write(path, content) | Act::Replace(path, content) = self
            && before.get(path) == Some(&Some(content.clone()))
        {
            // The same bytes again are no new version: whoever deletes or edits the file still may.
            return;
        }
        let mut ledger = hub.ledger.lock().expect("the ledger is never poisoned");
        let written = match self {
            Act::Write(_, content) | Act::Replace(_, content) => content.len(),
            // A new time makes a service without hashes look like it has new content.
            Act::Touch(path) => before.get(path).cloned().flatten().map_or(0, |c| c.len()),
            Act::Mkdir(_) | Act::Rename(..) | Act::Remove(_) => 0,
        };
        let taken: Vec<Bytes> = match self {
            Act::Write(path, _) | Act::Replace(path, _) | Act::Rename(_, path) => {
                before.get(path).cloned().flatten().into_iter().collect()
            }
            Act::Remove(path) => below(before, path).filter_map(|(_, c)| c.clone()).collect(),
            Act::Mkdir(_) | Act::Touch(_) => Vec::new(),
        };
        ledger.moved_by_user(side, written, taken.iter().map(Bytes::len).sum());
        for content in &taken {
            ledger.taken(content);
        }
        if let Act::Write(_, content) | Act::Replace(_, content) = self {
            ledger.written(content);
        }
    }
}

/// The item itself and everything below it.
pub(crate) fn below<'a>(
    tree: &'a Tree,
    path: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Option<Bytes>)> {
    tree.iter().filter(move |(at, _)| {
        at.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
