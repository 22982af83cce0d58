//! What must hold: the ledger of all that users wrote, and the checks at each kill and at rest.
//!
//! Judges only; changes neither side.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use foldsync::tree::{HashAlgo, Hasher, Side};

use super::cloud::{Cost, SimCloud};
use super::disk::SimDisk;
use super::faults::Hub;
use super::users::{Tree, Users};

/// Every content that a user wrote, and whether a user took it away again.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Content bytes that transfers may take: up, and down.
    fair: [u64; 2],
    contents: BTreeMap<Bytes, Fate>,
    serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Owed,
    TakenByUser,
    /// Written again after it was taken: the engine may still be busy with the taking.
    OwedAgain,
    /// Only a version store may have it.
    Hidden,
}

impl Ledger {
    /// Content that was never written before, of about that many bytes.
    pub(crate) fn new_content(&mut self, size: usize) -> Bytes {
        self.serial += 1;
        let mut text = format!("v{}.", self.serial);
        while text.len() < size {
            text.push(char::from(b'a' + (self.serial % 26) as u8));
        }
        text.into()
    }

    pub(crate) fn written(&mut self, content: &Bytes) {
        // Nothing is lost with an empty file that its name does not tell.
        if !content.is_empty() {
            let fate = self.contents.entry(content.clone()).or_insert(Fate::Owed);
            if *fate == Fate::TakenByUser {
                *fate = Fate::OwedAgain;
            }
        }
    }

    /// Bytes that users wrote, or took away (the other side may bring them back), on a side.
    pub(crate) fn moved_by_user(&mut self, side: Side, written: usize, taken: usize) {
        let (up, down) = match side {
            Side::Local => (written, taken),
            Side::Remote => (taken, written),
        };
        self.fair[0] += up as u64;
        self.fair[1] += down as u64;
    }

    pub(crate) fn taken(&mut self, content: &Bytes) {
        if let Some(fate) = self.contents.get_mut(content) {
            *fate = Fate::TakenByUser;
        }
    }

    fn hidden(&mut self, content: &Bytes) {
        if let Some(fate) = self.contents.get_mut(content) {
            *fate = Fate::Hidden;
        }
    }

    pub(crate) fn is_known(&self, content: &Bytes) -> bool {
        content.is_empty() || self.contents.contains_key(content)
    }

    /// Whether no user ever took it away.
    fn is_untouched(&self, content: &Bytes) -> bool {
        self.contents.get(content) == Some(&Fate::Owed)
    }

    /// What must be somewhere, and whether users must see it there.
    fn owed(&self) -> impl Iterator<Item = (&Bytes, bool)> {
        self.contents.iter().filter_map(|(content, fate)| match fate {
            Fate::Owed | Fate::OwedAgain => Some((content, true)),
            Fate::Hidden => Some((content, false)),
            Fate::TakenByUser => None,
        })
    }
}

impl Hub {
    /// S2, S18: the engine took content out of sight on a side. If no user took it before, another
    /// copy must be in sight: on this side, or on the other one, but elsewhere; there, a user has
    /// moved it, and that will be seen.
    pub(crate) fn removed_by_engine(&self, side: Side, path: &str, content: &Bytes, left: usize) {
        let untouched =
            self.ledger.lock().expect("the ledger is never poisoned").is_untouched(content);
        if !untouched || left > 0 {
            return;
        }
        let other = self.sight(side.other());
        let mut there = other.iter().filter(|(_, there)| there.as_ref() == Some(content));
        let is_founded = there.any(|(at, _)| self.is_hasty() || at != path);
        if !is_founded {
            self.violate(format!("S2: the engine removed {content:?} at {path} on {side}"));
        }
    }

    /// A race that nobody can close hid content: it must not be lost, but it is not in sight.
    pub(crate) fn hidden_by_race(&self, content: &Bytes) {
        self.ledger.lock().expect("the ledger is never poisoned").hidden(content);
    }

    /// S11: the engine showed content to users: it must be complete.
    pub(crate) fn shown_by_engine(&self, side: Side, content: &Bytes) {
        if !self.ledger.lock().expect("the ledger is never poisoned").is_known(content) {
            self.violate(format!(
                "S11: the engine showed {content:?} on {side}, which no user wrote"
            ));
        }
    }
}

/// S1, at any time: what is owed is somewhere, be it in a trash.
pub(crate) fn check_nothing_lost(hub: &Hub, disk: &SimDisk, cloud: &SimCloud) {
    let mut there: BTreeSet<Bytes> =
        disk.set_aside().into_iter().chain(cloud.set_aside()).collect();
    for tree in [disk.tree(), cloud.tree()] {
        there.extend(tree.into_values().flatten());
    }
    let lost: Vec<Bytes> = {
        let ledger = hub.ledger.lock().expect("the ledger is never poisoned");
        let lost = ledger.owed().filter(|(content, _)| !there.contains(*content));
        lost.map(|(content, _)| content.clone()).collect()
    };
    for content in lost {
        hub.violate(format!("S1: {content:?} is nowhere"));
    }
}

/// S3: both sides are equal at rest, and nothing of ours is among it.
pub(crate) fn check_rest(hub: &Hub, local: &Tree, remote: &Tree) {
    if local != remote {
        hub.violate(format!("S3: not equal at rest: {}", difference(local, remote)));
    }
    for path in local.keys().chain(remote.keys()) {
        if path.split('/').any(|name| name.starts_with(".foldsync")) {
            hub.violate(format!("a name of our own is left at rest: {path}"));
        }
    }
}

/// S1 at rest: what is owed is in sight, not in a trash.
pub(crate) fn check_in_sight(hub: &Hub, local: &Tree, remote: &Tree) {
    let there: BTreeSet<&Bytes> = local.values().chain(remote.values()).flatten().collect();
    let hidden: Vec<Bytes> = {
        let ledger = hub.ledger.lock().expect("the ledger is never poisoned");
        let hidden = ledger.owed().filter(|(content, seen)| *seen && !there.contains(*content));
        hidden.map(|(content, _)| content.clone()).collect()
    };
    for content in hidden {
        hub.violate(format!("S1: {content:?} is not in sight at rest"));
    }
}

/// No download that nobody will install.
pub(crate) fn check_nothing_staged(hub: &Hub, disk: &SimDisk) {
    if !disk.staged().is_empty() {
        hub.violate(format!("left in the stage at rest: {:?}", disk.staged()));
    }
}

fn difference(local: &Tree, remote: &Tree) -> String {
    let paths: BTreeSet<&String> = local.keys().chain(remote.keys()).collect();
    let lines: Vec<String> = paths
        .into_iter()
        .filter(|path| local.get(*path) != remote.get(*path))
        .map(|path| format!("{path}: local {:?}, remote {:?}", local.get(path), remote.get(path)))
        .collect();
    lines.join("; ")
}

/// S10: nothing was transferred twice. What comes down may be read once to compare it, and once to
/// keep it.
pub(crate) fn check_economy(hub: &Hub, cost: Cost) {
    let [up, down] = hub.ledger.lock().expect("the ledger is never poisoned").fair;
    if cost.bytes_up > up || cost.bytes_down > 2 * down {
        let Cost { bytes_up, bytes_down, .. } = cost;
        hub.violate(format!("S10: {bytes_up} bytes up for {up}, {bytes_down} down for {down}"));
    }
}

/// How many conflict copies there are.
pub(crate) fn conflict_copies(tree: &Tree) -> usize {
    tree.keys().filter(|path| path.contains(".conflict-")).count()
}

/// S14: what the database calls agreed is what both sides have at rest.
pub(crate) fn check_base(hub: &Hub, db: &std::path::Path, agreed: &Tree) {
    let base = match read_base(db) {
        Ok(base) => base,
        Err(error) => return hub.violate(format!("S14: the database cannot be read: {error}")),
    };
    let is_of = |hash: &[u8], bytes: &Bytes| {
        let algos = [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256];
        algos.into_iter().any(|algo| Hasher::of(algo, bytes).bytes() == hash)
    };
    for path in base.keys().chain(agreed.keys()).collect::<BTreeSet<_>>() {
        let same = match (base.get(path), agreed.get(path)) {
            (Some(None), Some(None)) => true,
            (Some(Some(base)), Some(Some(there))) => is_of(base, there),
            _ => false,
        };
        if !same {
            let (base, there) = (base.get(path), agreed.get(path));
            hub.violate(format!("S14: {path} is {there:?}, but base says {base:?}"));
        }
    }
}

/// The hash of each file of base by path, `None` for a folder.
fn read_base(db: &std::path::Path) -> rusqlite::Result<BTreeMap<String, Option<Vec<u8>>>> {
    type Row = (i64, String, bool, Option<Vec<u8>>);
    let connection = rusqlite::Connection::open(db)?;
    let mut query = connection.prepare(
        "SELECT node_id, base_parent, base_name, kind, base_hash FROM node
         WHERE base_parent IS NOT NULL",
    )?;
    let rows: BTreeMap<i64, Row> = query
        .query_map([], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let path = |id: &i64| {
        let mut names = Vec::new();
        let mut at = *id;
        while let Some((parent, name, ..)) = rows.get(&at).filter(|_| names.len() < rows.len() + 1)
        {
            names.push(name.as_str());
            at = *parent;
        }
        names.reverse();
        names.join("/")
    };
    Ok(rows
        .iter()
        .map(|(id, (_, _, is_dir, hash))| {
            (path(id), if *is_dir { None } else { Some(hash.clone().unwrap_or_default()) })
        })
        .collect())
}

/// For readers of a trace: what the engine has against which item.
pub(crate) fn show_failures(db: &std::path::Path) {
    let Ok(connection) = rusqlite::Connection::open(db) else { return };
    let Ok(mut query) = connection.prepare("SELECT kind, path, message FROM failure") else {
        return;
    };
    let rows = query.query_map([], |row| {
        let row: (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(row)
    });
    for (kind, path, message) in rows.into_iter().flatten().flatten() {
        println!("         failed: {kind} {path}: {message}");
    }
}
