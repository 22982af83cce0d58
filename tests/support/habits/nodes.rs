//! The items that the kernel knows, each with a descriptor of the item behind, so that it stays the
//! same item wherever it is moved.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// One item of the disk behind, over its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    number: u64,
    born: (i64, u32),
}

impl Key {
    pub(crate) fn of(stat: &Statx) -> Key {
        Key { number: stat.stx_ino, born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) }
    }

    /// Its number on the disk behind.
    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

/// An item that the kernel knows.
pub(crate) struct Node {
    pub(crate) key: Key,
    pub(crate) fd: OwnedFd,
}

impl Node {
    pub(crate) fn stat(&self) -> io::Result<Statx> {
        Ok(statx(&self.fd, c"", AtFlags::EMPTY_PATH, WANTED)?)
    }

    /// A path that leads to the item itself, whatever its names are.
    pub(crate) fn handle(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// One of its names, from the root of the system.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(self.handle())
    }
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

pub(crate) fn stat_of(dir: impl AsFd, name: &OsStr) -> io::Result<Statx> {
    Ok(statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, WANTED)?)
}

/// The item of a name, not followed if it is a link.
pub(crate) fn item(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// The names in a folder, sorted, so that what depends on their order is the same everywhere.
pub(crate) fn listing(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(openat(dir, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// See the module text. What the kernel calls a node is never given to another item.
pub(crate) struct Nodes {
    by_id: HashMap<u64, (Arc<Node>, u64)>,
    by_key: HashMap<Key, u64>,
    next: u64,
}

/// The kernel's name for the root.
pub(crate) const ROOT: u64 = 1;

impl Nodes {
    pub(crate) fn new(root: PathBuf) -> io::Result<Nodes> {
        let fd = item(CWD, root.as_os_str())?;
        let mut nodes = Nodes { by_id: HashMap::new(), by_key: HashMap::new(), next: ROOT };
        nodes.enter(fd)?;
        Ok(nodes)
    }

    pub(crate) fn get(&self, id: u64) -> io::Result<Arc<Node>> {
        self.by_id.get(&id).map(|(node, _)| Arc::clone(node)).ok_or(Errno::STALE.into())
    }

    /// An item is looked up once more.
    pub(crate) fn enter(&mut self, fd: OwnedFd) -> io::Result<u64> {
        let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, WANTED)?;
        let key = Key::of(&stat);
        let id = *self.by_key.entry(key).or_insert(self.next);
        if id == self.next {
            self.next += 1;
        }
        let (_, look_ups) = self.by_id.entry(id).or_insert_with(|| (Arc::new(Node { key, fd }), 0));
        *look_ups += 1;
        Ok(id)
    }

    /// The kernel takes back so many look-ups.
    pub(crate) fn forget(&mut self, id: u64, look_ups: u64) {
        let Some((node, left)) = self.by_id.get_mut(&id) else { return };
        *left = left.saturating_sub(look_ups);
        if *left == 0 && id != ROOT {
            let key = node.key;
            self.by_id.remove(&id);
            if self.by_key.get(&key) == Some(&id) {
                self.by_key.remove(&key);
            }
        }
    }

    /// From now on each item but the root is a new one to the kernel.
    pub(crate) fn forget_all(&mut self) {
        self.by_key.retain(|_, id| *id == ROOT);
    }
}
