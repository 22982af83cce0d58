//! Reads a whole folder, and says how sure it is that nothing is missing.
//!
//! The service pages by number, without a stated order, and does not say whether folders count. A
//! listing is proven when as many distinct items arrived as the service counts. Failing that, two
//! equal passes are believed, because each absence is then settled by the item's own id.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::api::{Api, FileRow, FolderPage, FolderRow, PAGE_MAX};
use super::sightings::Names;
use crate::local::{Listing, SkipReason, Skipped};
use crate::remote::{ErrorKind, RemoteError, Result};
use crate::tree::{ContentHash, Entry, HashAlgo, ItemId, Kind, Name, Rev};

/// Passes over a folder before it counts as unreadable.
const PASSES_MAX: u32 = 5;
/// Pages of one pass, whatever the service counts.
const PAGES_MAX: u32 = 50_000;

/// An identifier as the service uses it; files and folders are numbered apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Id {
    Folder(u64),
    File(u64),
}

impl Id {
    pub(super) fn item(self) -> ItemId {
        ItemId::Key(match self {
            Id::Folder(id) => format!("d{id}").into(),
            Id::File(id) => format!("f{id}").into(),
        })
    }

    /// `None` if it is not an identifier of this service.
    pub(super) fn of(item: &ItemId) -> Option<Id> {
        let ItemId::Key(key) = item else { return None };
        if let Some(id) = key.strip_prefix('d') {
            return id.parse().ok().map(Id::Folder);
        }
        key.strip_prefix('f')?.parse().ok().map(Id::File)
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Id::Folder(_) => Kind::Dir,
            Id::File(_) => Kind::File,
        }
    }
}

/// A version of a file: its content's hash.
pub(super) fn rev_of(hash: &ContentHash) -> Rev {
    Rev::Tag { tag: hash.hex().into(), modified_s: 0 }
}

/// A file's entry, if everything about it makes sense.
pub(super) fn file_entry(id: u64, name: Name, size: i64, md5: Option<&str>) -> Option<Entry> {
    // An empty hash means that nobody knows, perhaps because the file is still being put together.
    let hash = ContentHash::from_hex(HashAlgo::Md5, md5?.trim())?;
    Some(Entry {
        name,
        kind: Kind::File,
        size: u64::try_from(size).ok()?,
        hash: Some(hash),
        item: Id::File(id).item(),
        rev: rev_of(&hash),
    })
}

pub(super) fn folder_entry(id: u64, name: Name) -> Entry {
    let item = Id::Folder(id).item();
    Entry { name, kind: Kind::Dir, size: 0, hash: None, item, rev: Rev::FOLDER }
}

/// What is known about one row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Row {
    Good(Entry),
    Odd(Skipped),
}

impl Row {
    fn name(&self) -> &str {
        match self {
            Row::Good(entry) => entry.name.as_str(),
            Row::Odd(skipped) => &skipped.name,
        }
    }
}

/// Everything in one folder.
#[derive(Debug)]
pub(super) struct Folder {
    rows: BTreeMap<Id, Row>,
    /// Rows without a usable id, which cannot be told apart over pages.
    nameless: Vec<Skipped>,
    /// The service counts more items than it shows.
    pub(super) hides: bool,
}

impl Folder {
    pub(super) fn entry(&self, id: Id) -> Option<&Entry> {
        match self.rows.get(&id)? {
            Row::Good(entry) => Some(entry),
            Row::Odd(_) => None,
        }
    }

    pub(super) fn has(&self, id: Id) -> bool {
        self.rows.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.nameless.is_empty()
    }

    /// The item that bears a name; of several, the one that was there first.
    pub(super) fn named(&self, name: &Name) -> Option<&Entry> {
        self.entries().find(|entry| entry.name == *name)
    }

    /// Every name that is taken by something else than `except`, in whatever state it is.
    pub(super) fn names(&self, except: Option<Id>) -> Names {
        let others = self.rows.iter().filter(|(id, _)| Some(**id) != except);
        others.map(|(_, row)| row.name()).collect()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.rows.values().filter_map(|row| match row {
            Row::Good(entry) => Some(entry),
            Row::Odd(_) => None,
        })
    }

    /// Sorted by name. Of items that share a name, the one with the lowest id is the entry: it was
    /// there first, and the choice is the same every time.
    pub(super) fn into_listing(self) -> Listing {
        let mut listing = Listing { skipped: self.nameless, ..Listing::default() };
        let mut by_name: BTreeMap<Name, Entry> = BTreeMap::new();
        for row in self.rows.into_values() {
            match row {
                Row::Odd(skipped) => listing.skipped.push(skipped),
                Row::Good(entry) if by_name.contains_key(&entry.name) => {
                    let name = entry.name.as_str().to_owned();
                    listing.skipped.push(Skipped { name, reason: SkipReason::Duplicate });
                }
                Row::Good(entry) => {
                    by_name.insert(entry.name.clone(), entry);
                }
            }
        }
        listing.entries = by_name.into_values().collect();
        listing
    }
}

/// One pass over the pages.
struct Pass {
    rows: BTreeMap<Id, Row>,
    nameless: Vec<Skipped>,
    total: Option<i64>,
    /// The service counted differently from page to page: somebody is changing the folder.
    disturbed: bool,
}

impl Pass {
    fn files(&self) -> usize {
        self.rows.keys().filter(|id| id.kind() == Kind::File).count()
    }

    /// The count may be of everything or of the files alone.
    fn is_proven(&self) -> bool {
        let counted = |n: usize| self.total == i64::try_from(n).ok();
        !self.disturbed && self.nameless.is_empty() && {
            counted(self.rows.len()) || counted(self.files())
        }
    }

    /// Takes a page in. Tells whether it had anything new, and whether it was full.
    fn take(&mut self, page: FolderPage) -> (bool, bool) {
        if self.total.is_some() && self.total != page.total.map(|total| total.0) {
            self.disturbed = true;
        }
        self.total = page.total.map(|total| total.0);
        let folders = page.folders.unwrap_or_default();
        let files = page.files.unwrap_or_default();
        // A service may give fewer than it was asked for: such limits are round numbers.
        let full = (folders.len() + files.len()).is_multiple_of(10);
        let before = self.rows.len();
        for row in folders {
            self.place(row, |row| {
                let row = FolderRow::deserialize(row).ok()?;
                let id = row.id.unsigned()?;
                Some((
                    Id::Folder(id),
                    row.name.0,
                    Box::new(move |name| Some(folder_entry(id, name))),
                ))
            });
        }
        for row in files {
            self.place(row, |row| {
                let row = FileRow::deserialize(row).ok()?;
                let id = row.id.unsigned()?;
                let (size, md5) = (row.size.0, row.md5.map(|md5| md5.0));
                let entry = move |name| file_entry(id, name, size, md5.as_deref());
                Some((Id::File(id), row.name.0, Box::new(entry)))
            });
        }
        (self.rows.len() > before, full)
    }

    /// A row that cannot be used is held back alone and does not spoil its page.
    fn place(
        &mut self,
        row: serde_json::Value,
        read: impl Fn(&serde_json::Value) -> Option<Known>,
    ) {
        let skip = |name: String, reason| Skipped { name, reason };
        let Some((id, name, entry)) = read(&row) else {
            let name = row.get("name").and_then(|name| name.as_str()).unwrap_or("?");
            self.nameless.push(skip(name.to_owned(), SkipReason::Unreadable));
            return;
        };
        let row = match Name::new(&name) {
            Err(_) => Row::Odd(skip(name, SkipReason::BadName)),
            Ok(valid) => match entry(valid) {
                Some(entry) => Row::Good(entry),
                None => Row::Odd(skip(name, SkipReason::Unreadable)),
            },
        };
        self.rows.insert(id, row);
    }
}

type Known = (Id, String, Box<dyn FnOnce(Name) -> Option<Entry>>);

/// Reads a folder to its end. `NotFound` if the service says that it is not there; an error, never
/// half a folder, if its pages do not fit together.
pub(super) async fn read_folder(api: &Api, path: &str) -> Result<Folder> {
    let mut previous: Option<BTreeSet<Id>> = None;
    let mut union: BTreeMap<Id, Row> = BTreeMap::new();
    for _ in 0..PASSES_MAX {
        let pass = read_pass(api, path).await?;
        if pass.is_proven() {
            return Ok(Folder { rows: pass.rows, nameless: pass.nameless, hides: false });
        }
        let ids: BTreeSet<Id> = pass.rows.keys().copied().collect();
        let settled = !pass.disturbed && previous.as_ref() == Some(&ids);
        if settled && pass.total.is_some() {
            let shown = i64::try_from(pass.rows.len() + pass.nameless.len()).unwrap_or(i64::MAX);
            let hides = pass.total.is_some_and(|total| total > shown);
            return Ok(Folder { rows: pass.rows, nameless: pass.nameless, hides });
        }
        // An order that changes with every request hides other items each time.
        let total = pass.total.and_then(|total| usize::try_from(total).ok());
        if pass.disturbed {
            union.clear();
        }
        union.extend(pass.rows);
        if total == Some(union.len()) && !pass.disturbed && pass.nameless.is_empty() {
            return Ok(Folder { rows: union, nameless: Vec::new(), hides: false });
        }
        previous = Some(ids);
    }
    let context = format!("list folder {path}: the pages do not fit together");
    Err(RemoteError::new(ErrorKind::Unavailable, context))
}

async fn read_pass(api: &Api, path: &str) -> Result<Pass> {
    let mut pass =
        Pass { rows: BTreeMap::new(), nameless: Vec::new(), total: None, disturbed: false };
    for number in 1..=PAGES_MAX {
        let page = api.list(path, number, PAGE_MAX).await?;
        if page.total.is_none() && (page.folders.is_none() || page.files.is_none()) {
            // Neither a count nor the lists: that is no empty folder.
            let context = format!("list folder {path}: the answer has no content");
            return Err(RemoteError::new(ErrorKind::Protocol, context));
        }
        let (news, full) = pass.take(page);
        // Only a count ends a pass early, and only where this may be the last page.
        if !news || (!full && pass.is_proven()) {
            return Ok(pass);
        }
    }
    let context = format!("list folder {path}: its pages do not end");
    Err(RemoteError::new(ErrorKind::Protocol, context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pass() -> Pass {
        Pass { rows: BTreeMap::new(), nameless: Vec::new(), total: None, disturbed: false }
    }

    fn page(json: serde_json::Value) -> FolderPage {
        serde_json::from_value(json).unwrap()
    }

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

    // RM-21, NM-15
    #[test]
    fn a_row_that_cannot_be_used_is_held_back_alone() {
        let mut pass = pass();
        pass.take(page(json!({
            "folders": [{"id": "5", "name": "d"}, {"id": 6, "name": "a/b"}, {"id": null, "name": "x"}],
            "files": [
                {"id": "17569901563698", "name": "ok", "size": "3", "md5": MD5.to_uppercase(), "new": []},
                {"id": 8, "name": "no hash", "size": 3, "md5": ""},
                {"id": 9, "name": "null hash", "size": 3, "md5": null},
                {"id": 10, "name": "minus", "size": -1, "md5": MD5},
                {"id": 11, "name": "nul\u{0}", "size": 3, "md5": MD5},
                {"id": 12, "name": 2026, "size": 1e3, "md5": MD5},
                7
            ],
            "total": "10"
        })));
        let proven = pass.is_proven();
        let folder = Folder { rows: pass.rows, nameless: pass.nameless, hides: !proven };
        let listing = folder.into_listing();
        let names: Vec<&str> = listing.entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["2026", "d", "ok"]);
        assert_eq!(listing.entries[0].size, 1000);
        assert_eq!(listing.entries[2].hash, ContentHash::from_hex(HashAlgo::Md5, MD5));
        assert_eq!(listing.skipped.len(), 7);
        assert!(!proven, "items without an id cannot be counted");
    }

    // RM-09, TY-08
    #[test]
    fn of_items_with_one_name_the_oldest_counts_whatever_the_order() {
        let row = |id: u64| json!({"id": id, "name": "a", "size": id, "md5": MD5});
        for files in [[row(7), row(3)], [row(3), row(7)]] {
            let mut pass = pass();
            pass.take(page(json!({"folders": [], "files": files, "total": 2})));
            let folder = Folder { rows: pass.rows, nameless: pass.nameless, hides: false };
            let listing = folder.into_listing();
            assert_eq!(listing.entries[0].item, Id::File(3).item());
            let duplicate = Skipped { name: "a".into(), reason: SkipReason::Duplicate };
            assert_eq!(listing.skipped, [duplicate]);
        }
    }

    #[test]
    fn ids_of_files_and_folders_are_apart() {
        assert_ne!(Id::File(5).item(), Id::Folder(5).item());
        assert_eq!(Id::of(&Id::File(5).item()), Some(Id::File(5)));
        assert_eq!(Id::of(&ItemId::Key("x5".into())), None);
        assert_eq!(Id::of(&ItemId::Key("f-5".into())), None);
    }
}
