//! A simulated cloud, shaped by a `Capabilities` value, and what other clients of it do.
//!
//! Each fact that the capabilities call unknown is settled by the seed. The engine's view of it,
//! `Remote`, is in `port`; nothing here waits or fails by chance.

mod port;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use foldsync::remote::{
    Capabilities, DeleteKind, IdLife, Known, MoveSupport, NameRules, Namespace, SameName,
    UploadRequest, UploadStyle,
};
use foldsync::tree::{Entry, HashAlgo, Hasher, ItemId, Kind, Name, RelPath, Rev, Side, Stamp};

use super::faults::{Dice, Hub, Life};
use super::users::{AGAIN, Tree, Users};

pub(crate) use port::CloudPort;

/// What a service is like: what it declares, and what one has to find out.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub(crate) declared: Capabilities,
    pub(crate) same_name: SameName,
    pub(crate) id_life: IdLife,
    /// Items are addressed by path, as in a plain directory; otherwise by id.
    pub(crate) by_path: bool,
    /// A plain folder on a disk whose inode numbers prove nothing.
    pub(crate) unproven: bool,
    /// Says that it made a folder, and forgets it.
    pub(crate) loses_folders: bool,
    /// An upload replaces only the version that it is meant to replace.
    pub(crate) conditional: bool,
    /// The answer to an upload says what was created.
    pub(crate) tells_created: bool,
    pub(crate) page_size: usize,
    /// Pages begin at a position rather than after a name: a deletion shifts what follows.
    pub(crate) offset_pages: bool,
    /// How old a stale listing may be.
    pub(crate) lag_ms: u64,
    /// Bytes of one piece of a download, and of one range of an upload.
    pub(crate) piece: usize,
    /// Ranges may be sent at once, and in any order.
    pub(crate) parallel: bool,
}

impl Nature {
    /// A plain directory on another disk, behind the adapter for it.
    pub(crate) fn directory() -> Nature {
        let declared = Capabilities {
            namespace: Namespace::Folders,
            id_life: Known::Is(IdLife::SurvivesMove),
            same_name: Known::Is(SameName::Replaces),
            delete: Known::Is(DeleteKind::RecycleBin),
            moves: MoveSupport::Atomic,
            content_hash: None,
            instant_upload: None,
            upload: UploadStyle::SingleShot,
            max_file_size: None,
            stat: true,
            ranged_download: true,
            names: NameRules::POSIX,
        };
        Nature {
            declared,
            same_name: SameName::Replaces,
            id_life: IdLife::SurvivesMove,
            by_path: true,
            unproven: false,
            loses_folders: false,
            conditional: true,
            tells_created: true,
            page_size: usize::MAX,
            offset_pages: false,
            lag_ms: 0,
            piece: 1 << 20,
            parallel: false,
        }
    }

    /// One of the services that the engine can work with.
    pub(crate) fn draw(dice: &mut Dice) -> Nature {
        match dice.below(10) {
            0..4 => Nature {
                page_size: *dice.pick(&[2, 3, 1000]).expect("not empty"),
                piece: *dice.pick(&[3, 16, 1 << 20]).expect("not empty"),
                ..Nature::directory()
            },
            4..6 => Nature::disk_top(dice),
            6..8 => Nature::gokuai(dice),
            _ => Nature::ctfile(dice),
        }
    }

    /// Like Disk.Top: md5 in listings, instant and resumable uploads, moves in two steps.
    pub(crate) fn disk_top(dice: &mut Dice) -> Nature {
        let service = Nature::service(dice);
        let declared = Capabilities {
            content_hash: Some(HashAlgo::Md5),
            instant_upload: Some(HashAlgo::Md5),
            upload: UploadStyle::Ranges { resume: true },
            ..service.declared
        };
        Nature { declared, parallel: true, ..service }
    }

    /// Like GoKuai: sha1, uploads in order that replace on demand, and ids that may be hashes of paths.
    pub(crate) fn gokuai(dice: &mut Dice) -> Nature {
        let service = Nature::service(dice);
        let declared = Capabilities {
            id_life: Known::Unknown,
            same_name: Known::Is(SameName::Replaces),
            content_hash: Some(HashAlgo::Sha1),
            instant_upload: Some(HashAlgo::Sha1),
            upload: UploadStyle::Ranges { resume: true },
            ..service.declared
        };
        let lives = [IdLife::SurvivesMove, IdLife::ChangesOnMove];
        let id_life = *dice.pick(&lives).expect("not empty");
        Nature { declared, same_name: SameName::Replaces, id_life, ..service }
    }

    /// Like CTFile: no hash, uploads in one piece.
    pub(crate) fn ctfile(dice: &mut Dice) -> Nature {
        Nature::service(dice)
    }

    /// What the services have in common.
    fn service(dice: &mut Dice) -> Nature {
        let open =
            [SameName::Replaces, SameName::AutoRenames, SameName::Rejects, SameName::Duplicates];
        let declared = Capabilities {
            same_name: Known::Unknown,
            delete: Known::Unknown,
            moves: MoveSupport::TwoStep,
            ..Nature::directory().declared
        };
        Nature {
            declared,
            same_name: *dice.pick(&open).expect("not empty"),
            by_path: false,
            unproven: false,
            loses_folders: false,
            conditional: false,
            tells_created: dice.chance(500),
            page_size: *dice.pick(&[2, 3, 100]).expect("not empty"),
            offset_pages: dice.chance(700),
            lag_ms: *dice.pick(&[0, 500, 5_000, 60_000]).expect("not empty"),
            piece: *dice.pick(&[3, 16, 1 << 20]).expect("not empty"),
            ..Nature::directory()
        }
    }
}

/// The id of the root folder.
const ROOT: u64 = 0;

#[derive(Clone, Debug)]
struct Item {
    parent: u64,
    name: Name,
    kind: Kind,
    content: Bytes,
    version: u64,
}

type Items = BTreeMap<u64, Item>;

struct Session {
    /// The process that began it.
    life: Life,
    request: UploadRequest,
    parts: BTreeMap<u64, Bytes>,
}

/// What it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    /// Requests that changed something, or tried to.
    pub(crate) mutations: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

struct State {
    marker: Option<String>,
    items: Items,
    /// What the engine saw when it looked an item up, since it began to replace it.
    looks: BTreeMap<ItemId, Stamp>,
    /// Earlier states, with the millisecond at which each ended: what stale listings show.
    past: VecDeque<(u64, Items)>,
    /// Contents in the recycle bin, deleted or replaced by the engine.
    bin: Vec<Bytes>,
    sessions: BTreeMap<String, Session>,
    nature: Nature,
    next: u64,
    cost: Cost,
}

/// One account at a service, shared by its users and all lives of the engine.
pub(crate) struct SimCloud {
    hub: Arc<Hub>,
    state: Mutex<State>,
}

impl SimCloud {
    pub(crate) fn new(hub: Arc<Hub>, nature: Nature) -> Arc<SimCloud> {
        let state = State {
            marker: None,
            items: Items::new(),
            looks: BTreeMap::new(),
            past: VecDeque::new(),
            bin: Vec::new(),
            sessions: BTreeMap::new(),
            nature,
            next: 0,
            cost: Cost::default(),
        };
        Arc::new(SimCloud { hub, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of a simulation panics while it holds this")
    }

    pub(crate) fn cost(&self) -> Cost {
        self.lock().cost
    }

    /// Content that is not in the tree but can be had back.
    pub(crate) fn set_aside(&self) -> Vec<Bytes> {
        self.lock().bin.clone()
    }

    /// Uploads that a process began and neither finished nor gave up.
    pub(crate) fn sessions(&self, life: Life) -> usize {
        self.lock().sessions.values().filter(|session| session.life == life).count()
    }

    /// Another client makes a second item of a name, where the service allows that.
    pub(crate) fn add_twin(&self, path: &str, content: Bytes) {
        self.act(|state| {
            let (dir, name) = state.place(path)?;
            state.add(dir, name, Kind::File, content);
            Some(())
        });
    }

    /// Does one act of a user to the items, and remembers how they were.
    fn act(&self, change: impl FnOnce(&mut State) -> Option<()>) -> bool {
        let mut state = self.lock();
        let now_ms = self.now_ms();
        let before = state.items.clone();
        let done = change(&mut state).is_some();
        if done {
            state.remember(before, now_ms);
        }
        done
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.hub.now_ns() / 1_000_000).unwrap_or(0)
    }
}

impl State {
    fn remember(&mut self, before: Items, now_ms: u64) {
        if self.nature.lag_ms > 0 {
            self.past.push_back((now_ms, before));
            while self.past.front().is_some_and(|(at, _)| at + self.nature.lag_ms < now_ms) {
                self.past.pop_front();
            }
        }
    }

    /// The items as a listing may show them that lags behind.
    fn lagging(&self, now_ms: u64) -> &Items {
        let lag = self.nature.lag_ms;
        let seen = self.past.iter().find(|(ended, _)| ended + lag >= now_ms);
        seen.map_or(&self.items, |(_, items)| items)
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_dir(&self, id: u64) -> bool {
        id == ROOT || self.items.get(&id).is_some_and(|i| i.kind == Kind::Dir)
    }

    fn child(&self, dir: u64, name: &str) -> Option<u64> {
        let is_it = |i: &Item| i.parent == dir && i.name.as_str() == name;
        self.items.iter().find(|(_, item)| is_it(item)).map(|(id, _)| *id)
    }

    fn find(&self, path: &str) -> Option<u64> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        let mut at = ROOT;
        for part in parts {
            at = self.child(at, part)?;
        }
        Some(at)
    }

    /// The folder and the name of a path, if there is such a folder.
    fn place(&self, path: &str) -> Option<(u64, Name)> {
        let (dir, name) = RelPath::new(path).ok()?.split_last()?;
        let dir = self.find(dir.as_str()).filter(|id| self.is_dir(*id))?;
        Some((dir, name))
    }

    fn path(&self, id: u64) -> String {
        let Some(item) = self.items.get(&id) else { return String::new() };
        let above = self.path(item.parent);
        if above.is_empty() { item.name.to_string() } else { format!("{above}/{}", item.name) }
    }

    fn add(&mut self, parent: u64, name: Name, kind: Kind, content: Bytes) -> u64 {
        let (id, version) = (self.fresh(), self.fresh());
        self.items.insert(id, Item { parent, name, kind, content, version });
        id
    }

    fn remove(&mut self, id: u64) {
        self.items.remove(&id);
        let below: Vec<u64> =
            self.items.iter().filter(|(_, i)| i.parent == id).map(|(id, _)| *id).collect();
        for child in below {
            self.remove(child);
        }
    }

    fn is_within(&self, mut id: u64, ancestor: u64) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            match self.items.get(&id) {
                Some(item) => id = item.parent,
                None => return false,
            }
        }
    }

    /// Moves an item; it may come out with another id. The place must be free.
    fn relocate(&mut self, id: u64, parent: u64, name: Name) -> u64 {
        let Some(mut item) = self.items.remove(&id) else { return id };
        (item.parent, item.name) = (parent, name);
        let stays = self.nature.id_life == IdLife::SurvivesMove;
        let new = if stays { id } else { self.fresh() };
        self.items.insert(new, item);
        if new != id {
            for child in self.items.values_mut().filter(|i| i.parent == id) {
                child.parent = new;
            }
        }
        new
    }

    fn copies(&self, content: &Bytes) -> usize {
        self.items.values().filter(|i| i.kind == Kind::File && i.content == *content).count()
    }

    fn entry(&self, id: u64, item: &Item) -> Entry {
        let (rev, size) = match item.kind {
            Kind::Dir => (Rev::FOLDER, 0),
            Kind::File => {
                let tag = format!("v{}", item.version).into_boxed_str();
                (Rev::Tag { tag, modified_s: 0 }, item.content.len() as u64)
            }
        };
        let algo = self.nature.declared.content_hash.filter(|_| item.kind == Kind::File);
        Entry {
            name: item.name.clone(),
            kind: item.kind,
            size,
            hash: algo.map(|algo| Hasher::of(algo, &item.content)),
            item: match self.nature.unproven {
                true => ItemId::Unproven,
                false => ItemId::Key(format!("i{id}").into_boxed_str()),
            },
            rev,
        }
    }

    fn stamp(&self, id: u64) -> Option<Stamp> {
        self.items.get(&id).map(|item| self.entry(id, item).stamp())
    }
}

impl Users for SimCloud {
    fn side(&self) -> Side {
        Side::Remote
    }

    fn tree(&self) -> Tree {
        let state = self.lock();
        let mut tree = Tree::new();
        for (id, item) in &state.items {
            let content = (item.kind == Kind::File).then(|| item.content.clone());
            let mut path = state.path(*id);
            // A second item of one name is a path of its own, so that no comparison overlooks it.
            while tree.contains_key(&path) {
                path.push_str(AGAIN);
            }
            tree.insert(path, content);
        }
        tree
    }

    fn mkdir(&self, path: &str) -> bool {
        self.act(|state| {
            let (dir, name) = state.place(path)?;
            if state.child(dir, name.as_str()).is_some() {
                return None;
            }
            state.add(dir, name, Kind::Dir, Bytes::new());
            Some(())
        })
    }

    fn write(&self, path: &str, content: Bytes) -> bool {
        self.act(|state| {
            let (dir, name) = state.place(path)?;
            let version = state.fresh();
            match state.child(dir, name.as_str()) {
                Some(id) => {
                    let item = state.items.get_mut(&id).filter(|i| i.kind == Kind::File)?;
                    (item.content, item.version) = (content, version);
                }
                None => {
                    state.add(dir, name, Kind::File, content);
                }
            }
            Some(())
        })
    }

    fn replace(&self, path: &str, content: Bytes) -> bool {
        self.act(|state| {
            let id = state.find(path)?;
            let Item { parent, name, kind: Kind::File, .. } = state.items.get(&id)?.clone() else {
                return None;
            };
            state.remove(id);
            state.add(parent, name, Kind::File, content);
            Some(())
        })
    }

    fn touch(&self, path: &str) -> bool {
        self.act(|state| {
            let (id, version) = (state.find(path)?, state.fresh());
            state.items.get_mut(&id).filter(|i| i.kind == Kind::File)?.version = version;
            Some(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> bool {
        self.act(|state| {
            let id = state.find(from).filter(|id| *id != ROOT)?;
            let (dir, name) = state.place(to)?;
            if state.is_within(dir, id) {
                return None;
            }
            if let Some(over) = state.child(dir, name.as_str()) {
                if over == id || state.is_dir(over) || state.is_dir(id) {
                    return None;
                }
                state.remove(over);
            }
            state.relocate(id, dir, name);
            Some(())
        })
    }

    fn remove(&self, path: &str) -> bool {
        self.act(|state| {
            let id = state.find(path).filter(|id| *id != ROOT)?;
            state.remove(id);
            Some(())
        })
    }
}
