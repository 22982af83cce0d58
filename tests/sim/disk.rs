//! A simulated disk: inodes, folders, a stage and a trash in memory, and what its users do to it.
//!
//! Keeps the state as it is and as it would be after a power cut. The engine's view of it, `LocalFs`,
//! is in `port`; nothing here waits or fails by chance.

mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use foldsync::local::{FsError, FsErrorKind, StageKey};
use foldsync::tree::{Entry, ItemId, Kind, Name, RelPath, Rev, Side, Stamp};

use super::faults::{Dice, Hub};
use super::users::{Tree, Users};

pub(crate) use port::DiskPort;

/// What kind of file system this is.
#[derive(Clone, Debug)]
pub(crate) struct DiskTraits {
    /// Time stamps are multiples of this; 1 for a fine clock.
    pub(crate) grain_ns: i64,
    /// A new file takes the lowest free inode number.
    pub(crate) reuses_inodes: bool,
    /// Whether birth times are recorded.
    pub(crate) births: bool,
    /// Whether it is of a type whose inode numbers last.
    pub(crate) is_known_type: bool,
    /// Whether its inode numbers change all the same when it is mounted again, as on a network or a
    /// stick, or because it is a copy of the old one.
    pub(crate) renumbers: bool,
    /// Bytes that one read returns at most, so that small files take many reads.
    pub(crate) read_max: usize,
}

impl DiskTraits {
    pub(crate) const PLAIN: DiskTraits = DiskTraits {
        grain_ns: 1,
        reuses_inodes: false,
        births: true,
        is_known_type: true,
        renumbers: false,
        read_max: 1 << 20,
    };
    /// A share or a stick that makes its numbers up.
    pub(crate) const SHARE: DiskTraits =
        DiskTraits { is_known_type: false, renumbers: true, births: false, ..DiskTraits::PLAIN };

    /// `identity` says what numbers are worth: dice of their own, so that the days of old seeds stay
    /// what they were in everything else.
    pub(crate) fn draw(dice: &mut Dice, identity: &mut Dice) -> DiskTraits {
        DiskTraits {
            grain_ns: *dice.pick(&[1, 1, 4_000_000, 1_000_000_000]).expect("not empty"),
            reuses_inodes: dice.chance(500),
            births: dice.chance(700),
            is_known_type: identity.chance(700),
            renumbers: identity.chance(300),
            read_max: *dice.pick(&[3, 16, 1 << 20]).expect("not empty"),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, FsError>;

fn error<T>(kind: FsErrorKind, what: impl std::fmt::Display) -> Result<T> {
    Err(FsError::new(kind, format!("{what}: {kind:?}")))
}

#[derive(Clone)]
enum Body {
    File(Bytes),
    Dir(BTreeMap<Name, u64>),
}

#[derive(Clone)]
struct Inode {
    body: Body,
    born_ns: i64,
    mtime_ns: i64,
    ctime_ns: i64,
    /// chmod 000: neither it nor anything below it can be read or changed.
    denied: bool,
    /// Whether the content would survive a power cut.
    durable: bool,
}

const ROOT: u64 = 1;

/// Everything that is on the disk at one moment; cloned for what would survive a power cut.
#[derive(Clone)]
struct Image {
    inodes: BTreeMap<u64, Arc<Inode>>,
    /// By operation, and whether it is what an install displaced.
    stage: BTreeMap<(u64, bool), u64>,
    /// Displaced files that are the version that was to be replaced.
    replaced: BTreeSet<u64>,
    trash: Vec<u64>,
    marker: Option<String>,
    /// The number of the marker's file.
    marker_ino: u64,
    /// Whether numbers and birth times are told apart from one another.
    proves: bool,
}

impl Image {
    fn body(&self, ino: u64) -> Option<&Body> {
        self.inodes.get(&ino).map(|i| &i.body)
    }

    fn children(&self, ino: u64) -> Option<&BTreeMap<Name, u64>> {
        match self.body(ino) {
            Some(Body::Dir(children)) => Some(children),
            Some(Body::File(_)) | None => None,
        }
    }

    fn edit(&mut self, ino: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&ino).map(Arc::make_mut)
    }

    /// Where a path leads, without regard to permissions.
    fn find(&self, path: &RelPath) -> Option<u64> {
        let mut at = ROOT;
        for part in path.components() {
            at = *self.children(at)?.get(part)?;
        }
        Some(at)
    }

    /// Whether a folder above `path`, or with `itself` the item too, refuses us.
    fn refuses(&self, path: &RelPath, itself: bool) -> bool {
        let mut at = ROOT;
        let denied = |ino| self.inodes.get(&ino).is_some_and(|i| i.denied);
        for part in path.components() {
            if denied(at) {
                return true;
            }
            let next = self.children(at).and_then(|c| c.get(part));
            let Some(next) = next else { return false };
            at = *next;
        }
        itself && denied(at)
    }

    fn link(&mut self, at: &RelPath, ino: u64) {
        let Some((dir, name)) = at.split_last() else { return };
        let Some(dir) = self.find(&dir) else { return };
        if let Some(Body::Dir(children)) = self.edit(dir).map(|i| &mut i.body) {
            children.insert(name, ino);
        }
    }

    fn unlink(&mut self, at: &RelPath) -> Option<u64> {
        let (dir, name) = at.split_last()?;
        let dir = self.find(&dir)?;
        match self.edit(dir).map(|i| &mut i.body) {
            Some(Body::Dir(children)) => children.remove(&name),
            Some(Body::File(_)) | None => None,
        }
    }

    /// Removes an inode and everything below it from the table.
    fn free(&mut self, ino: u64) {
        if let Some(inode) = self.inodes.remove(&ino)
            && let Body::Dir(children) = &inode.body
        {
            for child in children.values() {
                self.free(*child);
            }
        }
    }

    /// Gives every item the number that `numbers` has for it.
    fn renumber(&mut self, numbers: &BTreeMap<u64, u64>) {
        let new = |ino: &u64| numbers.get(ino).copied().unwrap_or(*ino);
        let mut inodes = BTreeMap::new();
        for (ino, inode) in std::mem::take(&mut self.inodes) {
            let mut inode = Arc::unwrap_or_clone(inode);
            if let Body::Dir(children) = &mut inode.body {
                children.values_mut().for_each(|child| *child = new(child));
            }
            inodes.insert(new(&ino), Arc::new(inode));
        }
        self.inodes = inodes;
        self.stage.values_mut().for_each(|ino| *ino = new(ino));
        self.replaced = self.replaced.iter().map(new).collect();
        self.trash.iter_mut().for_each(|ino| *ino = new(ino));
        self.marker_ino = new(&self.marker_ino);
    }

    fn walk(&self, dir: u64, path: &RelPath, see: &mut impl FnMut(&RelPath, u64)) {
        for (name, ino) in self.children(dir).into_iter().flatten() {
            let path = path.join(name);
            see(&path, *ino);
            self.walk(*ino, &path, see);
        }
    }

    fn stamp(&self, ino: u64) -> Option<Stamp> {
        let inode = self.inodes.get(&ino)?;
        let item = match self.proves {
            true => ItemId::Inode { dev: 1, ino, born_ns: inode.born_ns },
            false => ItemId::Unproven,
        };
        let (rev, size) = match &inode.body {
            Body::File(bytes) => {
                let rev = Rev::Stat { mtime_ns: inode.mtime_ns, ctime_ns: inode.ctime_ns };
                (rev, bytes.len() as u64)
            }
            Body::Dir(_) => (Rev::FOLDER, 0),
        };
        Some(Stamp { item, rev, size })
    }

    /// `None` for what is not an entry.
    fn entry(&self, name: &Name, ino: u64) -> Option<Entry> {
        let kind = match self.body(ino)? {
            Body::File(_) => Kind::File,
            Body::Dir(_) => Kind::Dir,
        };
        let Stamp { item, rev, size } = self.stamp(ino)?;
        Some(Entry { name: name.clone(), kind, size, hash: None, item, rev })
    }

    fn content(&self, ino: u64) -> Option<Bytes> {
        match self.body(ino)? {
            Body::File(bytes) => Some(bytes.clone()),
            Body::Dir(_) => None,
        }
    }
}

struct State {
    image: Image,
    /// What survives a power cut, and each state since: a cut leaves one of them.
    durable: Image,
    since: Vec<Image>,
    traits: DiskTraits,
    next_ino: u64,
    tick: i64,
    unmounted: bool,
    /// Changes that the engine made.
    writes: u64,
    bytes_read: u64,
    watch: Option<Watch>,
}

/// What a watcher that misses nothing would tell.
#[derive(Default)]
struct Watch {
    /// Every item as it was after the last change.
    known: BTreeMap<RelPath, Stamp>,
    /// Folders in which something happened since.
    stirred: BTreeSet<RelPath>,
}

/// One disk, shared by its users and all lives of the engine.
pub(crate) struct SimDisk {
    hub: Arc<Hub>,
    state: Mutex<State>,
}

impl SimDisk {
    pub(crate) fn new(hub: Arc<Hub>, traits: DiskTraits) -> Arc<SimDisk> {
        let root = Inode {
            body: Body::Dir(BTreeMap::new()),
            born_ns: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            denied: false,
            durable: true,
        };
        let image = Image {
            inodes: BTreeMap::from([(ROOT, Arc::new(root))]),
            stage: BTreeMap::new(),
            replaced: BTreeSet::new(),
            trash: Vec::new(),
            marker: None,
            marker_ino: 2,
            proves: traits.is_known_type && traits.births,
        };
        let state = State {
            durable: image.clone(),
            image,
            since: Vec::new(),
            traits,
            next_ino: 10,
            tick: 0,
            unmounted: false,
            writes: 0,
            bytes_read: 0,
            watch: None,
        };
        Arc::new(SimDisk { hub, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of a simulation panics while it holds this")
    }

    /// How often the engine changed something here.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// From now on every change is noticed.
    pub(crate) fn watch(&self) {
        let mut state = self.lock();
        state.watch = Some(Watch::default());
        state.notice();
    }

    /// Folders in which something happened since the last call, and new ones.
    pub(crate) fn stirred(&self) -> Vec<RelPath> {
        let mut state = self.lock();
        let stirred = state.watch.as_mut().map(|watch| std::mem::take(&mut watch.stirred));
        stirred.into_iter().flatten().collect()
    }

    /// Content bytes that the engine read here.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.lock().bytes_read
    }

    /// Content that is neither in the tree nor gone: in the trash, and displaced in the stage.
    pub(crate) fn set_aside(&self) -> Vec<Bytes> {
        let state = self.lock();
        let displaced = state.image.stage.iter().filter(|((_, displaced), _)| *displaced);
        let inodes = displaced.map(|(_, ino)| ino).chain(&state.image.trash);
        inodes.filter_map(|ino| state.image.content(*ino)).collect()
    }

    /// Staged files, for the check that nothing is left over.
    pub(crate) fn staged(&self) -> Vec<StageKey> {
        self.lock().image.stage.keys().map(|(key, _)| StageKey(*key)).collect()
    }

    /// Makes an item unreadable, or readable again.
    pub(crate) fn deny(&self, path: &str, denied: bool) -> bool {
        let mut state = self.lock();
        let Some(ino) = parse(path).and_then(|p| state.image.find(&p)) else { return false };
        if let Some(inode) = state.image.edit(ino) {
            inode.denied = denied;
        }
        state.commit();
        true
    }

    /// Everything is readable again.
    pub(crate) fn repair(&self) {
        let mut state = self.lock();
        state.unmounted = false;
        let denied: Vec<u64> =
            state.image.inodes.iter().filter(|(_, i)| i.denied).map(|(ino, _)| *ino).collect();
        for ino in denied {
            if let Some(inode) = state.image.edit(ino) {
                inode.denied = false;
            }
        }
        state.commit();
    }

    /// The disk is taken away and mounted again. Where that gives items new numbers, everything has one
    /// that something else may have had.
    pub(crate) fn remount(&self) {
        let mut state = self.lock();
        if !state.traits.renumbers {
            return;
        }
        let mut free: Vec<u64> =
            state.image.inodes.keys().copied().filter(|i| *i != ROOT).collect();
        free.extend([state.image.marker_ino, state.next_ino + 1, state.next_ino + 2]);
        state.next_ino += 2;
        let mut numbers = BTreeMap::from([(ROOT, ROOT)]);
        let old: Vec<u64> = state.image.inodes.keys().copied().filter(|i| *i != ROOT).collect();
        for ino in old.into_iter().chain([state.image.marker_ino]) {
            numbers.insert(ino, free.swap_remove(self.hub.below(free.len())));
        }
        let was = state.image.marker_ino;
        state.image.renumber(&numbers);
        if state.image.marker_ino == was {
            state.next_ino += 1;
            state.image.marker_ino = state.next_ino;
        }
        self.hub.note(format_args!("remount: all numbers are others"));
        state.durable = state.image.clone();
        state.since.clear();
    }

    /// The root is not there for a while.
    pub(crate) fn unmount(&self, unmounted: bool) {
        self.lock().unmounted = unmounted;
    }

    /// Takes the power away: what was not flushed is lost, from some moment on. Content that was
    /// never flushed is torn.
    pub(crate) fn cut_power(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let survivors = state.since.len() + 1;
        let keep = self.hub.below(survivors);
        let mut image =
            if keep == 0 { state.durable.clone() } else { state.since[keep - 1].clone() };
        let torn: Vec<u64> =
            image.inodes.iter().filter(|(_, i)| !i.durable).map(|(ino, _)| *ino).collect();
        for ino in torn {
            let keep = self.hub.below(3);
            if let Some(Inode { body: Body::File(bytes), durable, .. }) = image.edit(ino) {
                bytes.truncate(bytes.len() * keep / 2);
                *durable = true;
            }
        }
        self.hub.note(format_args!("power cut: state {keep} of {survivors}"));
        state.image = image;
        state.commit();
    }

    fn insert(&self, path: &str, body: Body) -> bool {
        let mut state = self.lock();
        let Some(path) = parse(path) else { return false };
        let has_parent =
            path.parent().and_then(|p| state.image.find(&p)).and_then(|p| state.image.children(p));
        if has_parent.is_none() || state.image.find(&path).is_some() {
            return false;
        }
        let ino = state.create(&self.hub, body, true);
        state.image.link(&path, ino);
        state.commit();
        true
    }
}

fn parse(path: &str) -> Option<RelPath> {
    RelPath::new(path).ok()
}

impl State {
    fn stamp_now(&mut self, hub: &Hub) -> i64 {
        self.tick += 1;
        let now = hub.now_ns() + self.tick % 1_000_000;
        now - now.rem_euclid(self.traits.grain_ns)
    }

    fn create(&mut self, hub: &Hub, body: Body, durable: bool) -> u64 {
        let now = self.stamp_now(hub);
        self.next_ino += 1;
        let ino = if self.traits.reuses_inodes {
            let is_free =
                |ino: &u64| !self.image.inodes.contains_key(ino) && *ino != self.image.marker_ino;
            (2..).find(is_free).unwrap_or(self.next_ino)
        } else {
            self.next_ino
        };
        let born_ns = if self.traits.births { hub.now_ns() + self.tick } else { 0 };
        let inode = Inode { body, born_ns, mtime_ns: now, ctime_ns: now, denied: false, durable };
        self.image.inodes.insert(ino, Arc::new(inode));
        ino
    }

    /// A rename changes the change time.
    fn touch_ctime(&mut self, hub: &Hub, ino: u64) {
        let now = self.stamp_now(hub);
        if let Some(inode) = self.image.edit(ino) {
            inode.ctime_ns = now;
        }
    }

    /// Everything up to now survives a power cut; so does what users do, at once.
    fn commit(&mut self) {
        self.notice();
        self.durable = self.image.clone();
        self.since.clear();
    }

    /// A change by the engine, which a power cut may undo until the next commit.
    fn changed(&mut self) {
        self.notice();
        self.writes += 1;
        self.since.push(self.image.clone());
    }

    /// An item that came, went or is another one is told by its folder; a folder that came, by itself
    /// as well.
    fn notice(&mut self) {
        let Some(Watch { known, stirred }) = &mut self.watch else { return };
        let mut now = BTreeMap::new();
        self.image.walk(ROOT, &RelPath::root(), &mut |path, ino| {
            now.extend(self.image.stamp(ino).map(|stamp| (path.clone(), stamp)));
        });
        let is_news = |path: &RelPath| known.get(path) != now.get(path);
        for path in known.keys().chain(now.keys()).filter(|path| is_news(path)) {
            stirred.extend(path.parent());
            let is_folder = now.get(path).is_some_and(|stamp| stamp.rev == Rev::FOLDER);
            stirred.extend(is_folder.then(|| path.clone()));
        }
        *known = now;
    }

    fn names_in(&self, dir: &RelPath) -> Option<BTreeMap<Name, u64>> {
        self.image.children(self.image.find(dir)?).cloned()
    }

    fn copies(&self, content: &Bytes) -> usize {
        let mut copies = 0;
        self.image.walk(ROOT, &RelPath::root(), &mut |_, ino| {
            copies += usize::from(self.image.content(ino).as_ref() == Some(content));
        });
        copies
    }
}

impl Users for SimDisk {
    fn side(&self) -> Side {
        Side::Local
    }

    fn tree(&self) -> Tree {
        let state = self.lock();
        let mut tree = Tree::new();
        state.image.walk(ROOT, &RelPath::root(), &mut |path, ino| {
            tree.insert(path.as_str().to_owned(), state.image.content(ino));
        });
        tree
    }

    fn mkdir(&self, path: &str) -> bool {
        self.insert(path, Body::Dir(BTreeMap::new()))
    }

    fn write(&self, path: &str, content: Bytes) -> bool {
        let mut state = self.lock();
        let found = parse(path).and_then(|p| state.image.find(&p));
        let Some(ino) = found else {
            drop(state);
            return self.insert(path, Body::File(content));
        };
        let now = state.stamp_now(&self.hub);
        let Some(Inode { body: Body::File(bytes), mtime_ns, ctime_ns, .. }) = state.image.edit(ino)
        else {
            return false;
        };
        (*bytes, *mtime_ns, *ctime_ns) = (content, now, now);
        state.commit();
        true
    }

    fn replace(&self, path: &str, content: Bytes) -> bool {
        let mut state = self.lock();
        let Some(path) = parse(path) else { return false };
        let Some(old) = state.image.find(&path).filter(|i| state.image.content(*i).is_some())
        else {
            return false;
        };
        let ino = state.create(&self.hub, Body::File(content), true);
        state.image.link(&path, ino);
        state.image.free(old);
        state.commit();
        true
    }

    fn touch(&self, path: &str) -> bool {
        let mut state = self.lock();
        let Some(ino) = parse(path).and_then(|p| state.image.find(&p)) else { return false };
        let now = state.stamp_now(&self.hub);
        if let Some(inode) = state.image.edit(ino) {
            (inode.mtime_ns, inode.ctime_ns) = (now, now);
        }
        state.commit();
        true
    }

    fn rename(&self, from: &str, to: &str) -> bool {
        let mut state = self.lock();
        let (Some(from), Some(to)) = (parse(from), parse(to)) else { return false };
        let Some(ino) = state.image.find(&from) else { return false };
        let parent = to.parent().and_then(|p| state.image.find(&p));
        let inside = to.as_str().starts_with(&format!("{from}/")) || from == to;
        if inside || parent.is_none_or(|p| state.image.children(p).is_none()) {
            return false;
        }
        let over = state.image.find(&to);
        if let Some(over) = over {
            // As rename(2): a file replaces a file, a folder nothing.
            if state.image.content(over).is_none() || state.image.content(ino).is_none() {
                return false;
            }
            state.image.free(over);
        }
        state.image.unlink(&from);
        state.image.link(&to, ino);
        state.touch_ctime(&self.hub, ino);
        state.commit();
        true
    }

    fn remove(&self, path: &str) -> bool {
        let mut state = self.lock();
        let Some(path) = parse(path).filter(|p| !p.is_root()) else { return false };
        let Some(ino) = state.image.unlink(&path) else { return false };
        state.image.free(ino);
        state.commit();
        true
    }
}
