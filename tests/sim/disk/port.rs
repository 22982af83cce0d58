//! `LocalFs` on the simulated disk: what one life of the engine sees and does.
//!
//! Each call may be interrupted between its steps, by a kill, a fault or a user, where the real one
//! could be. Users never come between a check and the system call that relies on it, unless the real
//! call cannot rule it out either.

use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use foldsync::local::facts::{DiskFacts, Marker, Numbers};
use foldsync::local::{
    FileReader, FsErrorKind, Installed, Leftover, Listing, LocalFs, Sealed, SkipReason, Skipped,
    StageKey, StageWriter,
};
use foldsync::tree::names::{CaseRule, FormRule, Known};
use foldsync::tree::path::IGNORE_FILE;
use foldsync::tree::{ContentHash, Entry, HashAlgo, Hasher, Name, RelPath, Side, Stamp};

use super::super::faults::Life;
use super::{Body, Inode, Result, SimDisk, State, error};

/// The disk as one life of the engine reaches it.
#[derive(Clone)]
pub(crate) struct DiskPort {
    disk: Arc<SimDisk>,
    life: Life,
}

impl DiskPort {
    pub(crate) fn new(disk: Arc<SimDisk>, life: Life) -> DiskPort {
        DiskPort { disk, life }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.disk.lock()
    }

    async fn pause(&self) {
        self.disk.hub.pause(self.life).await;
    }

    /// The start of every call: time passes, then the disk may be gone or fail.
    async fn enter(&self, what: &str) -> Result<()> {
        self.pause().await;
        if self.lock().unmounted {
            return error(FsErrorKind::RootLost, what);
        }
        if self.disk.hub.strikes(|o| o.disk_io) {
            self.disk.hub.note(format_args!("local fault: {what}: EIO"));
            return error(FsErrorKind::Io, what);
        }
        Ok(())
    }

    /// The flush at the end of every change, which may fail after the change was made.
    async fn flush(&self, what: &str) -> Result<()> {
        self.pause().await;
        if self.disk.hub.strikes(|o| o.disk_io_late) {
            self.disk.hub.note(format_args!("local fault: {what}: flush failed"));
            return error(FsErrorKind::Io, what);
        }
        self.lock().commit();
        Ok(())
    }

    fn room(&self, what: &str) -> Result<()> {
        if self.disk.hub.strikes(|o| o.disk_full) {
            return error(FsErrorKind::Full, what);
        }
        Ok(())
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.disk.hub.note(format_args!("local {event}"));
    }
}

impl State {
    fn readable(&self, path: &RelPath, itself: bool) -> Result<()> {
        if self.image.refuses(path, itself) {
            return error(FsErrorKind::Denied, path);
        }
        Ok(())
    }

    /// The folder that `at` is to be made in.
    fn writable_parent(&self, at: &RelPath) -> Result<()> {
        let parent = at.parent().unwrap_or_default();
        self.readable(&parent, true)?;
        match self.image.find(&parent).map(|p| self.image.children(p).is_some()) {
            Some(true) => Ok(()),
            Some(false) | None => error(FsErrorKind::NotFound, parent),
        }
    }

    fn file(&self, path: &RelPath, expected: &Stamp) -> Result<u64> {
        self.readable(path, true)?;
        let Some(ino) = self.image.find(path) else { return error(FsErrorKind::NotFound, path) };
        if self.image.content(ino).is_none() || self.image.stamp(ino).as_ref() != Some(expected) {
            return error(FsErrorKind::Changed, path);
        }
        Ok(ino)
    }

    fn entry_at(&self, path: &RelPath) -> Result<Entry> {
        let found = self.image.find(path);
        let entry = path.split_last().and_then(|(_, name)| self.image.entry(&name, found?));
        entry.map_or_else(|| error(FsErrorKind::Denied, path), Ok)
    }
}

#[async_trait]
impl LocalFs for DiskPort {
    async fn identity(&self) -> Result<Option<String>> {
        self.enter("identity").await?;
        Ok(self.lock().image.marker.clone())
    }

    async fn claim(&self, identity: &str) -> Result<()> {
        self.enter("claim").await?;
        let mut state = self.lock();
        state.image.marker = Some(identity.to_owned());
        state.commit();
        Ok(())
    }

    async fn measure(&self, known: Option<DiskFacts>, _writes: bool) -> Result<Option<DiskFacts>> {
        self.enter("measure").await?;
        let state = self.lock();
        if state.image.marker.is_none() {
            return Ok(None);
        }
        let marker = Marker { ino: state.image.marker_ino, born_ns: 0 };
        let mut facts = known.unwrap_or_else(|| DiskFacts::unknown("sim".to_owned(), marker));
        facts.marker = marker;
        facts.numbers = match state.traits.is_known_type {
            true => Known::Is(Numbers::Last),
            false => Known::Unknown,
        };
        facts.stamps.grain_ns = Known::Is(state.traits.grain_ns);
        facts.stamps.ahead_ns = Known::Is(0);
        facts.spelling.case = Known::Is(CaseRule::Sensitive);
        facts.spelling.forms = Known::Is(FormRule::Apart);
        Ok(Some(facts))
    }

    /// Reads the folder in two halves, so that a user's move in between is seen twice or not at all;
    /// and again if it changed meanwhile, but not for ever.
    async fn list(&self, dir: &RelPath) -> Result<Listing> {
        const READS_MAX: u32 = 4;
        self.enter("list").await?;
        let mut tries = 1;
        loop {
            let mut listing = Listing::default();
            let before = self.lock().names_in(dir);
            let split = self.read_half(dir, None, &mut listing)?;
            self.pause().await;
            if let Some(split) = split {
                self.read_half(dir, Some(split), &mut listing)?;
            }
            listing.unsteady = before != self.lock().names_in(dir);
            if !listing.unsteady || tries == READS_MAX {
                self.note(format_args!("list {dir}: {} entries", listing.entries.len()));
                return Ok(listing);
            }
            tries += 1;
        }
    }

    async fn stat(&self, path: &RelPath) -> Result<Option<Entry>> {
        self.enter("stat").await?;
        let state = self.lock();
        state.readable(path, false)?;
        if state.image.find(path).is_none() {
            return Ok(None);
        }
        state.entry_at(path).map(Some)
    }

    async fn open(
        &self,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Box<dyn FileReader>> {
        self.enter("open").await?;
        let state = self.lock();
        let ino = state.file(path, expected)?;
        let last = state.image.content(ino).unwrap_or_default();
        Ok(Box::new(Reader {
            port: self.clone(),
            path: path.clone(),
            expected: expected.clone(),
            ino,
            at: usize::try_from(from).expect("a small file"),
            last,
        }))
    }

    async fn hash(&self, path: &RelPath, expected: &Stamp, algo: HashAlgo) -> Result<ContentHash> {
        let mut reader = self.open(path, expected, 0).await?;
        let mut hasher = Hasher::new(algo);
        loop {
            let bytes = reader.read(1 << 16).await?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
        }
        reader.verify().await?;
        self.note(format_args!("hash {path}"));
        Ok(hasher.finish())
    }

    async fn stage(&self, key: StageKey) -> Result<Box<dyn StageWriter>> {
        self.enter("stage").await?;
        self.room("stage")?;
        let mut state = self.lock();
        let ino = state.create(&self.disk.hub, Body::File(Bytes::new()), false);
        if let Some(old) = state.image.stage.insert((key.0, false), ino) {
            state.image.free(old);
        }
        state.changed();
        Ok(Box::new(Writer { port: self.clone(), key, ino }))
    }

    async fn install(
        &self,
        sealed: Sealed,
        at: &RelPath,
        over: Option<&Stamp>,
        aside: &RelPath,
    ) -> Result<Installed> {
        self.enter("install").await?;
        let Some(expected) = over else {
            let entry = self.place(sealed.key, at)?;
            self.flush("install").await?;
            return Ok(Installed::Clean(entry));
        };
        self.lock().file(at, expected)?;
        // RACE: between this look and the exchange a user may write.
        self.pause().await;
        let entry = self.exchange(sealed.key, at, expected)?;
        self.pause().await;
        let kept = self.put_displaced(sealed.key, at, expected, aside)?;
        self.flush("install").await?;
        Ok(match kept {
            None => Installed::Clean(entry),
            Some(kept_as) => Installed::DisplacedEdit { entry, kept_as },
        })
    }

    async fn discard(&self, key: StageKey) -> Result<()> {
        self.enter("discard").await?;
        {
            let mut state = self.lock();
            if let Some(ino) = state.image.stage.remove(&(key.0, false)) {
                state.image.free(ino);
                state.changed();
                state.commit();
            }
            let Some(ino) = state.image.stage.get(&(key.0, true)).copied() else { return Ok(()) };
            if !state.image.replaced.contains(&ino) {
                return error(FsErrorKind::Changed, format!("{} is what a user wrote", key.0));
            }
            state.image.stage.remove(&(key.0, true));
            self.take(&mut state, ino, &RelPath::root());
            state.changed();
        }
        self.flush("discard").await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.enter("leftovers").await?;
        let state = self.lock();
        let left = state.image.stage.iter().map(|((key, displaced), ino)| Leftover {
            key: StageKey(*key),
            displaced: *displaced && !state.image.replaced.contains(ino),
            resumable: false,
        });
        Ok(left.collect())
    }

    async fn restore(&self, key: StageKey, to: &RelPath) -> Result<()> {
        self.enter("restore").await?;
        {
            let mut state = self.lock();
            state.writable_parent(to)?;
            if state.image.find(to).is_some() {
                return error(FsErrorKind::Occupied, to);
            }
            let Some(ino) = state.image.stage.remove(&(key.0, true)) else {
                return error(FsErrorKind::NotFound, format!("displaced {}", key.0));
            };
            state.image.link(to, ino);
            state.touch_ctime(&self.disk.hub, ino);
            state.changed();
            self.note(format_args!("restore {} to {to}", key.0));
        }
        self.flush("restore").await
    }

    async fn create_dir(&self, at: &RelPath) -> Result<Entry> {
        self.enter("create_dir").await?;
        {
            let mut state = self.lock();
            state.writable_parent(at)?;
            match state.image.find(at) {
                Some(ino) if state.image.children(ino).is_some() => return state.entry_at(at),
                Some(_) => return error(FsErrorKind::Occupied, at),
                None => {}
            }
            self.room("create_dir")?;
            let ino = state.create(&self.disk.hub, Body::Dir(Default::default()), true);
            state.image.link(at, ino);
            state.changed();
            self.note(format_args!("mkdir {at}"));
        }
        let entry = self.lock().entry_at(at);
        self.flush("create_dir").await?;
        entry
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, expected: &Stamp) -> Result<Entry> {
        self.enter("rename").await?;
        {
            let mut state = self.lock();
            state.readable(from, false)?;
            state.writable_parent(to)?;
            let Some(ino) = state.image.find(from) else {
                return error(FsErrorKind::NotFound, from);
            };
            if state.image.stamp(ino).as_ref() != Some(expected) {
                return error(FsErrorKind::Changed, from);
            }
            if to.as_str().starts_with(&format!("{from}/")) {
                return error(FsErrorKind::Io, format!("{from} into itself"));
            }
            if state.image.find(to).is_some() {
                return error(FsErrorKind::Occupied, to);
            }
            state.image.unlink(from);
            state.image.link(to, ino);
            state.touch_ctime(&self.disk.hub, ino);
            state.changed();
            self.note(format_args!("rename {from} to {to}"));
        }
        let entry = self.lock().entry_at(to);
        self.flush("rename").await?;
        entry
    }

    async fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<()> {
        self.enter("trash").await?;
        {
            let mut state = self.lock();
            state.readable(path, false)?;
            let Some(ino) = state.image.find(path) else { return Ok(()) };
            if state.image.content(ino).is_none()
                || state.image.stamp(ino).as_ref() != Some(expected)
            {
                return error(FsErrorKind::Changed, path);
            }
            self.note(format_args!("trash {path}"));
            state.image.unlink(path);
            self.take(&mut state, ino, path);
            state.changed();
        }
        self.flush("trash").await
    }

    async fn remove_dir(&self, path: &RelPath) -> Result<()> {
        self.enter("remove_dir").await?;
        {
            let mut state = self.lock();
            state.readable(path, false)?;
            let Some(ino) = state.image.find(path) else { return Ok(()) };
            match state.image.children(ino) {
                None => return error(FsErrorKind::Changed, path),
                Some(children) if !children.is_empty() => {
                    return error(FsErrorKind::NotEmpty, path);
                }
                Some(_) => {}
            }
            self.note(format_args!("rmdir {path}"));
            state.image.unlink(path);
            state.image.free(ino);
            state.changed();
        }
        self.flush("remove_dir").await
    }
}

impl DiskPort {
    /// Adds the first half of a folder to the listing, and says where it ended in which folder; then
    /// the rest of that folder, wherever it is by then.
    fn read_half(
        &self,
        dir: &RelPath,
        from: Option<(u64, Name)>,
        listing: &mut Listing,
    ) -> Result<Option<(u64, Name)>> {
        let state = self.lock();
        if state.unmounted {
            return error(FsErrorKind::RootLost, dir);
        }
        state.readable(dir, true)?;
        let ino = from.as_ref().map(|(ino, _)| *ino).or_else(|| state.image.find(dir));
        let opened = ino.and_then(|ino| Some((ino, state.image.children(ino)?)));
        let (ino, children) = match (opened, &from) {
            (Some(opened), _) => opened,
            // Removed since it was opened: nothing more is in it.
            (None, Some(_)) => return Ok(None),
            (None, None) => return error(FsErrorKind::NotFound, dir),
        };
        listing.of = state.image.stamp(ino).map(|stamp| stamp.item);
        let split = match from {
            None => children.keys().nth(self.disk.hub.below(children.len() + 1)).cloned(),
            Some(_) => None,
        };
        for (name, child) in children {
            let is_later = split.as_ref().is_some_and(|split| name >= split);
            if is_later || from.as_ref().is_some_and(|(_, from)| name < from) {
                continue;
            }
            match state.image.entry(name, *child) {
                Some(entry) => listing.entries.push(entry),
                None => listing
                    .skipped
                    .push(Skipped { name: name.as_str().to_owned(), reason: SkipReason::Symlink }),
            }
            if name.as_str() == IGNORE_FILE
                && let Some(text) = state.image.content(*child)
            {
                listing.ignore_file = Some(String::from_utf8_lossy(&text).into_owned());
            }
        }
        Ok(split.map(|split| (ino, split)))
    }

    /// Into the trash: a user's version that nobody took away must not get there.
    fn take(&self, state: &mut State, ino: u64, path: &RelPath) {
        state.touch_ctime(&self.disk.hub, ino);
        state.image.trash.push(ino);
        if let Some(content) = state.image.content(ino) {
            let copies = state.copies(&content);
            self.disk.hub.removed_by_engine(Side::Local, path.as_str(), &content, copies);
        }
    }

    /// Gives a staged file a free name.
    fn place(&self, key: StageKey, at: &RelPath) -> Result<Entry> {
        let mut state = self.lock();
        state.writable_parent(at)?;
        if state.image.find(at).is_some() {
            return error(FsErrorKind::Occupied, at);
        }
        let Some(ino) = state.image.stage.remove(&(key.0, false)) else {
            return error(FsErrorKind::NotFound, format!("stage {}", key.0));
        };
        state.image.link(at, ino);
        self.shown(&mut state, ino, at);
        state.entry_at(at)
    }

    /// Swaps a staged file with whatever file is at `at`.
    fn exchange(&self, key: StageKey, at: &RelPath, expected: &Stamp) -> Result<Entry> {
        let mut state = self.lock();
        state.readable(at, false)?;
        let old = state.image.find(at).filter(|ino| state.image.content(*ino).is_some());
        let Some(old) = old else { return error(FsErrorKind::Changed, at) };
        let Some(new) = state.image.stage.remove(&(key.0, false)) else {
            return error(FsErrorKind::NotFound, format!("stage {}", key.0));
        };
        state.image.link(at, new);
        state.image.stage.insert((key.0, true), old);
        if state.image.stamp(old).is_some_and(|found| found.is_renamed(expected)) {
            state.image.replaced.insert(old);
        }
        state.touch_ctime(&self.disk.hub, old);
        self.shown(&mut state, new, at);
        state.entry_at(at)
    }

    fn shown(&self, state: &mut State, ino: u64, at: &RelPath) {
        state.touch_ctime(&self.disk.hub, ino);
        state.changed();
        let content = state.image.content(ino).unwrap_or_default();
        self.note(format_args!("install {at}: {content:?}"));
        self.disk.hub.shown_by_engine(Side::Local, &content);
    }

    /// To the trash with what was expected; anything else goes beside the new version.
    fn put_displaced(
        &self,
        key: StageKey,
        at: &RelPath,
        expected: &Stamp,
        aside: &RelPath,
    ) -> Result<Option<RelPath>> {
        let mut state = self.lock();
        let Some(ino) = state.image.stage.get(&(key.0, true)).copied() else { return Ok(None) };
        let found = state.image.stamp(ino);
        let kept = if found.is_some_and(|found| found.is_renamed(expected)) {
            self.take(&mut state, ino, at);
            None
        } else {
            state.writable_parent(aside)?;
            let numbered = (1..).map(|n| match n {
                1 => aside.clone(),
                _ => RelPath::new(&format!("{aside}-{n}")).expect("still a path"),
            });
            let mut free = numbered.filter(|path| state.image.find(path).is_none());
            let kept_as = free.next().expect("some number is free");
            drop(free);
            state.image.link(&kept_as, ino);
            self.note(format_args!("displaced edit kept as {kept_as}"));
            Some(kept_as)
        };
        state.image.stage.remove(&(key.0, true));
        state.touch_ctime(&self.disk.hub, ino);
        state.changed();
        Ok(kept)
    }
}

struct Reader {
    port: DiskPort,
    path: RelPath,
    expected: Stamp,
    ino: u64,
    at: usize,
    /// What the open file holds; kept for when its name is gone.
    last: Bytes,
}

#[async_trait]
impl FileReader for Reader {
    async fn read(&mut self, max: usize) -> Result<Bytes> {
        self.port.enter("read").await?;
        let mut state = self.port.lock();
        if state.image.stamp(self.ino).is_some_and(|s| s.item == self.expected.item)
            && let Some(content) = state.image.content(self.ino)
        {
            self.last = content;
        }
        let from = self.at.min(self.last.len());
        let to = self.last.len().min(from + max.min(state.traits.read_max));
        self.at = to;
        state.bytes_read += (to - from) as u64;
        Ok(self.last.slice(from..to))
    }

    async fn verify(&mut self) -> Result<()> {
        self.port.enter("verify").await?;
        self.port.lock().file(&self.path, &self.expected).map(|_| ())
    }
}

struct Writer {
    port: DiskPort,
    key: StageKey,
    ino: u64,
}

impl Writer {
    fn edit<T>(&self, change: impl FnOnce(&mut Inode) -> T) -> Result<T> {
        let mut state = self.port.lock();
        match state.image.edit(self.ino) {
            Some(inode) => Ok(change(inode)),
            None => error(FsErrorKind::NotFound, format!("stage {}", self.key.0)),
        }
    }
}

#[async_trait]
impl StageWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.port.enter("write").await?;
        self.port.room("write")?;
        self.edit(|inode| {
            if let Body::File(content) = &mut inode.body {
                *content = [content.as_ref(), bytes.as_ref()].concat().into();
            }
        })
    }

    async fn seal(self: Box<Self>, mtime_ns: Option<i64>) -> Result<Sealed> {
        self.port.enter("seal").await?;
        let grain_ns = self.port.lock().traits.grain_ns;
        self.edit(|inode| {
            if let Some(mtime_ns) = mtime_ns {
                inode.mtime_ns = mtime_ns - mtime_ns.rem_euclid(grain_ns);
            }
        })?;
        self.port.flush("seal").await?;
        self.edit(|inode| inode.durable = true)?;
        let mut state = self.port.lock();
        state.commit();
        let stamp = state.image.stamp(self.ino);
        match stamp {
            Some(stamp) => Ok(Sealed { key: self.key, stamp, number: self.ino }),
            None => error(FsErrorKind::NotFound, format!("stage {}", self.key.0)),
        }
    }
}
