//! The thread that sets the watches: it owns the source, follows what the source says, and replaces
//! it when it dies. Setting a watch and walking a new folder touch the disk.

use std::collections::BTreeSet;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::source::{EventSink, Hint, MakeSource, Source, WatchError};
use super::state::{self, Degraded, PollingReason};
use super::{Ignored, Message, Registry, Settings, Shared};
use crate::clock::Clock;
use crate::tree::path::CONTROL_DIR;
use crate::tree::{Kind, Name, RelPath};

/// Owns the source and says which folders it watches.
pub(super) struct Registrar {
    root: PathBuf,
    /// Device and inode of the root when its watch was set.
    root_is: Option<(u64, u64)>,
    ignored: Ignored,
    clock: Arc<dyn Clock>,
    watches_max: Option<usize>,
    make_source: MakeSource,
    source: Option<Box<dyn Source>>,
    shared: Arc<Shared>,
    /// No watch is to be had until the next poll.
    is_limited: bool,
    /// The source was not replaced since the last poll: a source that dies at once must not be
    /// replaced in a loop.
    may_restart: bool,
    broken: Option<PollingReason>,
    file_system: Option<&'static str>,
}

impl Registrar {
    pub(super) fn new(settings: Settings, shared: Arc<Shared>) -> Registrar {
        Registrar {
            root: settings.root,
            root_is: None,
            ignored: settings.ignored,
            clock: settings.clock,
            watches_max: settings.watches_max,
            make_source: settings.source,
            source: None,
            shared,
            is_limited: false,
            may_restart: true,
            broken: None,
            file_system: None,
        }
    }

    pub(super) fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        self.start_source();
        self.publish();
        while let Some(message) = messages.blocking_recv() {
            if self.is_stopped() {
                break;
            }
            self.take(message);
            if self.shared.dead.swap(false, Ordering::AcqRel) {
                self.lose_source(PollingReason::Died);
            }
            if self.shared.lost.swap(false, Ordering::AcqRel) {
                self.start_over();
            }
            self.publish();
        }
        // The source goes with us; its sink must not call that a death.
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        drop_source(self.source.take());
        // The reminder holds on to what is shared until its next poll.
        *self.shared.registry() = Registry::default();
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Hint(generation, hint) => {
                if generation == self.shared.generation.load(Ordering::Acquire) {
                    self.follow(hint);
                }
            }
            Message::Watch(folders, done) => {
                folders.iter().for_each(|folder| self.add(folder));
                // Nobody waiting any more is fine.
                let _ = done.send(());
            }
            Message::Unwatch(folder) => self.forget(&folder),
            Message::Poll => self.poll(),
            Message::Died | Message::Stop => {}
        }
    }

    fn follow(&mut self, hint: Hint) {
        match hint {
            Hint::Touched(path, kind) => {
                let Some(place) = self.place(&path) else { return };
                let is_ignored = |item| (self.ignored)(item, kind.unwrap_or(Kind::File));
                if !place.item.as_ref().is_some_and(is_ignored) {
                    self.stir(place.folder);
                }
            }
            Hint::Marked(path) => {
                let Some(place) = self.place(&path) else { return };
                self.stir(place.folder);
                let Some(item) = place.item.filter(|item| self.is_folder(item)) else { return };
                if self.is_watched(&item) {
                    self.stir(item);
                } else {
                    self.adopt(item);
                }
            }
            Hint::FolderMade(path) => {
                let Some(place) = self.place(&path) else { return };
                let Some(item) = place.item else { return self.stir(place.folder) };
                if (self.ignored)(&item, Kind::Dir) {
                    return;
                }
                self.stir(place.folder);
                if !self.is_watched(&item) && self.is_folder(&item) {
                    self.adopt(item);
                }
            }
            Hint::Replaced(path) => {
                let Some(place) = self.place(&path) else { return };
                self.replaced(place);
            }
            Hint::Lost => self.start_over(),
            Hint::Broken(why) => self.lose_source(PollingReason::Unavailable(why)),
        }
    }

    /// A watch below a replaced item may be void even if a folder of that name is there again, so
    /// it is always set anew.
    fn replaced(&mut self, place: Place) {
        let Some(item) = place.item else { return self.stir(place.folder) };
        if item.is_root() {
            return self.lose_source(PollingReason::Unavailable("the root was moved".to_owned()));
        }
        if (self.ignored)(&item, Kind::File) && (self.ignored)(&item, Kind::Dir) {
            return;
        }
        self.stir(place.folder);
        self.forget(&item);
        if self.is_folder(&item) {
            self.adopt(item);
        }
    }

    /// Watches a new folder and all below it, and reports each after its watch is set.
    fn adopt(&mut self, folder: RelPath) {
        let mut walk = vec![folder];
        while let Some(folder) = walk.pop() {
            if (self.ignored)(&folder, Kind::Dir) || self.is_stopped() {
                continue;
            }
            self.add(&folder);
            let Ok(items) = fs::read_dir(self.absolute(&folder)) else { continue };
            // `file_type` does not follow links.
            let folders = items.flatten().filter(|i| i.file_type().is_ok_and(|kind| kind.is_dir()));
            let names = folders.filter_map(|item| Name::new(item.file_name().to_str()?).ok());
            let below = names.map(|name| folder.join(&name));
            walk.extend(below.filter(|below| self.is_folder(below)));
            self.stir(folder);
        }
    }

    /// Sets a watch, or writes down that there is none.
    fn add(&mut self, folder: &RelPath) {
        if self.is_watched(folder) {
            return;
        }
        let full = |max: usize| self.shared.registry().watched.len() >= max;
        self.is_limited |= self.watches_max.is_some_and(full);
        let path = self.absolute(folder);
        let result = match &mut self.source {
            // A dead source panics: that is its way to say so.
            Some(source) if !self.is_limited => {
                catch_unwind(AssertUnwindSafe(|| source.watch(&path)))
            }
            Some(_) | None => Ok(Err(WatchError::WatchLimit)),
        };
        let mut registry = self.shared.registry();
        let text = folder.as_str().to_owned();
        match result {
            Ok(Ok(())) => {
                registry.unwatched.remove(&text);
                registry.watched.insert(text);
            }
            // It cannot be listed either; its parent tells when that changes.
            Ok(Err(WatchError::Gone | WatchError::Denied)) => {}
            Ok(Err(WatchError::WatchLimit)) => {
                self.is_limited |= self.source.is_some();
                registry.unwatched.insert(text);
            }
            Ok(Err(error @ (WatchError::InstanceLimit | WatchError::Other(_)))) => {
                tracing::debug!(folder = text, %error, "a folder is polled instead of watched");
                registry.unwatched.insert(text);
            }
            Err(_) => {
                registry.unwatched.insert(text);
                self.shared.dead.store(true, Ordering::Release);
            }
        }
    }

    /// Takes the watches off a folder and all below it.
    fn forget(&mut self, folder: &RelPath) {
        let gone = {
            let mut registry = self.shared.registry();
            take_tree(&mut registry.unwatched, folder);
            take_tree(&mut registry.watched, folder)
        };
        self.shared.pending().prune(folder);
        let Some(source) = &mut self.source else { return };
        for path in gone {
            let unwatched =
                catch_unwind(AssertUnwindSafe(|| source.unwatch(&self.root.join(path))));
            if unwatched.is_err() {
                self.shared.dead.store(true, Ordering::Release);
                return;
            }
        }
    }

    /// Events were lost: no watch is trusted before it is set again, which happens as the folders
    /// are listed. WA-01
    fn start_over(&mut self) {
        self.shared.overflows.fetch_add(1, Ordering::Relaxed);
        self.distrust();
        self.add(&RelPath::root());
    }

    fn distrust(&mut self) {
        *self.shared.registry() = Registry::default();
        self.is_limited = false;
        self.stir_everything();
    }

    /// The source is of no use any more. WA-17
    fn lose_source(&mut self, reason: PollingReason) {
        tracing::warn!(%reason, "the file watcher is replaced");
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        let old = self.source.take();
        if reason == PollingReason::Died {
            // Dropping notify's handle panics if its thread is gone. A few bytes are lost instead.
            let _ = ManuallyDrop::new(old);
        } else {
            drop_source(old);
        }
        self.distrust();
        self.broken = Some(reason);
        if self.may_restart {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.may_restart = false;
        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
        self.start_source();
        self.stir_everything();
    }

    fn start_source(&mut self) {
        let generation = self.shared.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.dead.store(false, Ordering::Release);
        self.file_system = state::silent_file_system(&self.root);
        self.root_is = identity(&self.root);
        if self.root_is.is_none() {
            let why = "the folder is not there".to_owned();
            self.broken = Some(PollingReason::Unavailable(why));
            return;
        }
        let sink = EventSink { shared: self.shared.clone(), generation };
        let made = (self.make_source)(sink);
        if made.is_err() {
            // That the sink was dropped says nothing new.
            self.shared.dead.store(false, Ordering::Release);
        }
        self.broken = match made {
            Ok(source) => {
                self.source = Some(source);
                self.add(&RelPath::root());
                None
            }
            Err(WatchError::InstanceLimit) => Some(PollingReason::InstanceLimit),
            Err(WatchError::WatchLimit) => Some(PollingReason::WatchLimit),
            Err(error @ (WatchError::Gone | WatchError::Denied | WatchError::Other(_))) => {
                Some(PollingReason::Unavailable(error.to_string()))
            }
        };
    }

    /// What did not work is tried again, and what is not watched is looked at.
    fn poll(&mut self) {
        self.may_restart = true;
        // An unmounted root makes no event that notify passes on.
        let replaced = self.source.is_some() && identity(&self.root) != self.root_is;
        if replaced {
            let why = "the root is another folder".to_owned();
            return self.lose_source(PollingReason::Unavailable(why));
        }
        if self.broken.is_some() {
            return self.restart();
        }
        if self.file_system.is_some() {
            self.stir_everything();
        }
        self.is_limited = false;
        let unwatched = std::mem::take(&mut self.shared.registry().unwatched);
        for path in unwatched {
            let Ok(folder) = RelPath::new(&path) else { continue };
            self.add(&folder);
            self.stir(folder);
        }
    }

    fn publish(&self) {
        let polling = |reason| Some(Degraded::Polling { reason });
        let unwatched = !self.shared.registry().unwatched.is_empty();
        let degraded = match (&self.broken, self.file_system) {
            (Some(reason), _) => polling(reason.clone()),
            (None, _) if self.is_limited => polling(PollingReason::WatchLimit),
            (None, Some(name)) => polling(PollingReason::FileSystem(name)),
            (None, None) if unwatched => {
                polling(PollingReason::Unavailable("some folders cannot be watched".to_owned()))
            }
            (None, None) => None,
        };
        self.shared.degraded.send_if_modified(|current| {
            let changed = *current != degraded;
            if changed {
                *current = degraded;
            }
            changed
        });
    }

    fn stir(&self, folder: RelPath) {
        let was_empty = self.shared.pending().stir(folder, self.clock.now());
        if was_empty {
            self.shared.stirred.notify_one();
        }
    }

    fn stir_everything(&self) {
        if self.shared.pending().stir_everything(self.clock.now()) {
            self.shared.stirred.notify_one();
        }
    }

    fn absolute(&self, path: &RelPath) -> PathBuf {
        // Joining an empty path would add a slash.
        if path.is_root() { self.root.clone() } else { self.root.join(path.as_str()) }
    }

    fn is_watched(&self, folder: &RelPath) -> bool {
        self.shared.registry().watched.contains(folder.as_str())
    }

    /// A real folder of the root's own file system.
    fn is_folder(&self, path: &RelPath) -> bool {
        let device = self.root_is.map(|(device, _)| device);
        fs::symlink_metadata(self.absolute(path))
            .is_ok_and(|found| found.is_dir() && Some(found.dev()) == device)
    }

    /// Where in the tree an event happened; `None` if it is none of ours.
    fn place(&self, path: &Path) -> Option<Place> {
        let below = path.strip_prefix(&self.root).ok()?;
        let mut folder = RelPath::root();
        let mut item = RelPath::root();
        for part in below.components() {
            folder = item;
            match part.as_os_str().to_str().and_then(|text| Name::new(text).ok()) {
                // The name cannot be synced, but its folder has a new list of what cannot.
                None => return Some(Place { folder, item: None }),
                Some(name) => item = folder.join(&name),
            }
        }
        let is_ours = item.components().next() != Some(CONTROL_DIR);
        is_ours.then_some(Place { folder, item: Some(item) })
    }
}

struct Place {
    /// The folder in which it happened; the root for the root itself.
    folder: RelPath,
    /// `None` if it has a name that cannot be synced.
    item: Option<RelPath>,
}

/// Its thread may be ending at this moment, and notify panics then.
fn drop_source(source: Option<Box<dyn Source>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(source)));
}

fn identity(root: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(root).ok()?;
    found.is_dir().then(|| (found.dev(), found.ino()))
}

/// Takes a folder and all below it out of a set.
fn take_tree(set: &mut BTreeSet<String>, folder: &RelPath) -> Vec<String> {
    if folder.is_root() {
        return std::mem::take(set).into_iter().collect();
    }
    // `0` is the character after `/`.
    let (from, to) = (format!("{folder}/"), format!("{folder}0"));
    let mut taken: Vec<String> = set.range(from..to).cloned().collect();
    taken.iter().for_each(|path| _ = set.remove(path));
    taken.extend(set.take(folder.as_str()));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_a_folder_and_what_is_below_it_and_no_neighbour() {
        let mut set: BTreeSet<String> =
            ["a", "a b", "a-b", "a/x", "a/x/y", "a0", "ab"].map(str::to_owned).into();
        let mut taken = take_tree(&mut set, &RelPath::new("a").unwrap());
        taken.sort();
        assert_eq!(taken, ["a", "a/x", "a/x/y"]);
        assert_eq!(set.len(), 4);
        assert_eq!(take_tree(&mut set, &RelPath::root()).len(), 4);
    }
}
