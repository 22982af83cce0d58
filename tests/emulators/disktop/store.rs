//! What is in the account: folders, files, their bytes. Names and places follow the switches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;

use bytes::Bytes;
use foldsync::tree::{HashAlgo, Hasher};
use unicode_normalization::UnicodeNormalization;

use super::{Meeting, Switches};

/// The sandbox's root folder.
pub const ROOT: u64 = 5911;
/// What answers put before the paths of requests.
pub const PREFIX: &str = "/我的应用数据/GPTGet";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderRec {
    pub parent: u64,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRec {
    pub parent: u64,
    pub name: String,
    pub md5: String,
    pub size: u64,
    /// Counts changes; the order "recent first" goes by it.
    pub touched: u64,
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    Exists,
    Loop,
    Quota,
    BadName,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub folders: BTreeMap<u64, FolderRec>,
    pub files: Files,
    pub blobs: HashMap<String, Bytes>,
    /// Files that were deleted, where the switches keep them.
    pub bin: BTreeMap<u64, FileRec>,
    /// Content that a request destroyed without naming its file: replaced, or deleted with its
    /// folder. A careful client never makes that happen.
    pub destroyed: Vec<String>,
    next_id: u64,
    ticks: u64,
}

/// The files by id, and by folder: one folder is listed without a look at the others.
#[derive(Clone, Debug, Default)]
pub struct Files {
    all: BTreeMap<u64, FileRec>,
    in_folder: HashMap<u64, BTreeSet<u64>>,
}

impl Files {
    fn insert(&mut self, id: u64, file: FileRec) {
        self.remove(&id);
        self.in_folder.entry(file.parent).or_default().insert(id);
        self.all.insert(id, file);
    }

    fn remove(&mut self, id: &u64) -> Option<FileRec> {
        let file = self.all.remove(id)?;
        if let Some(ids) = self.in_folder.get_mut(&file.parent) {
            ids.remove(id);
        }
        Some(file)
    }

    pub fn within(&self, folder: u64) -> impl Iterator<Item = (&u64, &FileRec)> {
        let ids = self.in_folder.get(&folder).into_iter().flatten();
        ids.filter_map(|id| self.all.get_key_value(id))
    }
}

impl Deref for Files {
    type Target = BTreeMap<u64, FileRec>;

    fn deref(&self) -> &BTreeMap<u64, FileRec> {
        &self.all
    }
}

impl Store {
    pub fn new() -> Store {
        let mut store = Store { next_id: 7000, ..Store::default() };
        let root = FolderRec { parent: 0, name: "GPTGet".into() };
        store.folders.insert(ROOT, root);
        store
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub fn used(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    // ---- looking -------------------------------------------------------------------------------

    /// A folder by its path from the sandbox's root.
    pub fn folder_at(&self, path: &str, switches: &Switches) -> Option<u64> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |parent, name| {
            // Of folders that share a name, nobody says which one a path means.
            let mut found = self.folders.iter().filter(|(_, folder)| {
                folder.parent == parent && switches.same_name(&folder.name, name)
            });
            found.next().map(|(id, _)| *id)
        })
    }

    pub fn path_of_folder(&self, id: u64) -> String {
        if id == ROOT {
            return String::new();
        }
        match self.folders.get(&id) {
            Some(folder) => format!("{}/{}", self.path_of_folder(folder.parent), folder.name),
            None => "/?".to_owned(),
        }
    }

    pub fn path_of_file(&self, file: &FileRec) -> String {
        format!("{}/{}", self.path_of_folder(file.parent), file.name)
    }

    fn files_named(&self, parent: u64, name: &str, switches: &Switches) -> Vec<u64> {
        let named =
            self.files.within(parent).filter(|(_, file)| switches.same_name(&file.name, name));
        named.map(|(id, _)| *id).collect()
    }

    fn folders_named(&self, parent: u64, name: &str, switches: &Switches) -> Vec<u64> {
        let named = self.folders.iter().filter(|(_, folder)| {
            folder.parent == parent && switches.same_name(&folder.name, name)
        });
        named.map(|(id, _)| *id).collect()
    }

    fn is_free(&self, parent: u64, name: &str, switches: &Switches) -> bool {
        self.files_named(parent, name, switches).is_empty()
            && self.folders_named(parent, name, switches).is_empty()
    }

    fn free_name(&self, parent: u64, name: &str, switches: &Switches) -> String {
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
            Some(_) | None => (name, String::new()),
        };
        let numbered = (1..).map(|n| format!("{stem}({n}){extension}"));
        let mut free = numbered.filter(|name| self.is_free(parent, name, switches));
        free.next().unwrap_or_default()
    }

    pub fn is_known(&self, md5: &str, size: u64) -> bool {
        self.blobs.get(md5).is_some_and(|blob| blob.len() as u64 == size)
    }

    // ---- changing ------------------------------------------------------------------------------

    pub fn put_blob(&mut self, content: Bytes) -> String {
        let md5 = Hasher::of(HashAlgo::Md5, &content).hex();
        self.blobs.entry(md5.clone()).or_insert(content);
        md5
    }

    /// Makes a file of content that is known, under a name that may be taken.
    pub fn add_file(
        &mut self,
        parent: u64,
        name: &str,
        md5: &str,
        switches: &Switches,
    ) -> Result<u64, Refusal> {
        let name = switches.stored_name(name)?;
        let size = self.blobs.get(md5).map_or(0, |blob| blob.len() as u64);
        if switches.quota_bytes.is_some_and(|quota| self.used() + size > quota) {
            return Err(Refusal::Quota);
        }
        if !self.folders_named(parent, &name, switches).is_empty() {
            return Err(Refusal::Exists);
        }
        let touched = self.tick();
        let file = FileRec { parent, name, md5: md5.to_owned(), size, touched };
        let there = self.files_named(parent, &file.name, switches);
        let Some(old) = there.first().copied() else {
            let id = self.fresh_id();
            self.files.insert(id, file);
            return Ok(id);
        };
        match switches.same_name_upload {
            Meeting::Rejects => Err(Refusal::Exists),
            Meeting::Duplicates => {
                let id = self.fresh_id();
                self.files.insert(id, file);
                Ok(id)
            }
            Meeting::Renames => {
                let name = self.free_name(parent, &file.name, switches);
                let id = self.fresh_id();
                self.files.insert(id, FileRec { name, ..file });
                Ok(id)
            }
            Meeting::Replaces => {
                let id = if switches.replacing_keeps_id { old } else { self.fresh_id() };
                self.destroy(old);
                self.files.insert(id, file);
                Ok(id)
            }
        }
    }

    pub fn add_folder(
        &mut self,
        parent: u64,
        name: &str,
        switches: &Switches,
    ) -> Result<u64, Refusal> {
        let name = switches.stored_name(name)?;
        let mut name = name;
        if !self.files_named(parent, &name, switches).is_empty() {
            return Err(Refusal::Exists);
        }
        if let Some(there) = self.folders_named(parent, &name, switches).first() {
            match switches.same_name_mkdir {
                Meeting::Rejects => return Err(Refusal::Exists),
                Meeting::Replaces => return Ok(*there),
                Meeting::Duplicates => {}
                Meeting::Renames => name = self.free_name(parent, &name, switches),
            }
        }
        let id = self.fresh_id();
        self.folders.insert(id, FolderRec { parent, name });
        Ok(id)
    }

    /// Gives a file another place. Returns its id afterwards.
    pub fn place_file(
        &mut self,
        id: u64,
        parent: u64,
        name: &str,
        switches: &Switches,
    ) -> Result<u64, Refusal> {
        let mut name = switches.stored_name(name)?;
        let mut file = self.files.get(&id).cloned().ok_or(Refusal::NotFound)?;
        let mut there = self.files_named(parent, &name, switches);
        there.retain(|other| *other != id);
        if !self.folders_named(parent, &name, switches).is_empty() {
            return Err(Refusal::Exists);
        }
        match (there.first(), switches.same_name_move) {
            (None, _) | (Some(_), Meeting::Duplicates) => {}
            (Some(_), Meeting::Rejects) => return Err(Refusal::Exists),
            (Some(other), Meeting::Replaces) => self.destroy(*other),
            (Some(_), Meeting::Renames) => name = self.free_name(parent, &name, switches),
        }
        let moved = file.parent != parent;
        file.parent = parent;
        file.name = name;
        file.touched = self.tick();
        self.files.remove(&id);
        let id = if moved && switches.moving_changes_id { self.fresh_id() } else { id };
        self.files.insert(id, file);
        Ok(id)
    }

    pub fn place_folder(
        &mut self,
        id: u64,
        parent: u64,
        name: &str,
        switches: &Switches,
    ) -> Result<(), Refusal> {
        let mut name = switches.stored_name(name)?;
        if !self.folders.contains_key(&id) {
            return Err(Refusal::NotFound);
        }
        if self.is_within(parent, id) {
            return Err(Refusal::Loop);
        }
        let mut there = self.folders_named(parent, &name, switches);
        there.retain(|other| *other != id);
        if !there.is_empty() || !self.files_named(parent, &name, switches).is_empty() {
            match switches.same_name_move {
                Meeting::Rejects | Meeting::Replaces => return Err(Refusal::Exists),
                Meeting::Duplicates => {}
                Meeting::Renames => name = self.free_name(parent, &name, switches),
            }
        }
        self.folders.insert(id, FolderRec { parent, name });
        Ok(())
    }

    fn is_within(&self, mut id: u64, ancestor: u64) -> bool {
        while id != ancestor {
            match self.folders.get(&id) {
                Some(folder) if id != ROOT => id = folder.parent,
                Some(_) | None => return false,
            }
        }
        true
    }

    fn destroy(&mut self, id: u64) {
        if let Some(file) = self.files.remove(&id) {
            self.destroyed.push(self.path_of_file(&file));
        }
    }

    pub fn delete_file(&mut self, id: u64, switches: &Switches) -> bool {
        let Some(file) = self.files.remove(&id) else { return false };
        if switches.bin_answers {
            self.bin.insert(id, file);
        }
        true
    }

    /// With everything in it, as many services do.
    pub fn delete_folder(&mut self, id: u64) -> bool {
        if id == ROOT || self.folders.remove(&id).is_none() {
            return false;
        }
        let inside: Vec<u64> = self.files.within(id).map(|(id, _)| *id).collect();
        for file in inside {
            self.destroy(file);
        }
        let below: Vec<u64> =
            self.folders.iter().filter(|(_, f)| f.parent == id).map(|(id, _)| *id).collect();
        for folder in below {
            self.delete_folder(folder);
        }
        true
    }
}

impl Switches {
    /// Whether the service takes two names for one.
    pub fn same_name(&self, a: &str, b: &str) -> bool {
        let fold = |text: &str| {
            let composes = self.stores_nfc || self.compares_nfc;
            let text: String = if composes { text.nfc().collect() } else { text.to_owned() };
            if self.folds_case { text.to_lowercase() } else { text }
        };
        a == b || fold(a) == fold(b)
    }

    pub fn stored_name(&self, name: &str) -> Result<String, Refusal> {
        let name = if self.trims_names { name.trim_end_matches(['.', ' ']) } else { name };
        let too_long =
            name.len() > self.name_bytes_max || name.chars().count() > self.name_chars_max;
        let is_bad = |c| c == '/' || self.forbidden_chars.contains(c);
        if name.is_empty() || too_long || name.contains(is_bad) {
            return Err(Refusal::BadName);
        }
        Ok(if self.stores_nfc { name.nfc().collect() } else { name.to_owned() })
    }
}
