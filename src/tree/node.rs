//! What a node is: its identity, and what base, local and remote each say about it.
//!
//! Plain values; the invariants between them belong to `tree::Trees`.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file_time;
use super::hash::ContentHash;
use super::path::Name;

/// Our own identity of a file or folder; it survives renames on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// The root folder of the pair, which is in every tree and never moves.
    pub const ROOT: NodeId = NodeId(NonZeroU32::MIN);

    pub fn new(id: u32) -> Option<NodeId> {
        NonZeroU32::new(id).map(NodeId)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Fixed for the life of a node: a file that becomes a folder is one node gone and another born.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Dir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Local,
    Remote,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Local, Side::Remote];

    pub fn other(self) -> Side {
        match self {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Local => "local",
            Side::Remote => "remote",
        })
    }
}

/// Where a node is: in which folder, under which name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placement {
    pub parent: NodeId,
    pub name: Name,
}

/// The size and hash of bytes that somebody has read to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    pub size: u64,
    pub hash: ContentHash,
}

/// What is in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    Dir,
    /// A file whose bytes nobody has read since they changed. Not empty: "wait".
    Unread {
        size: u64,
    },
    Is(Digest),
}

impl Content {
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Content::Is(digest) => Some(*digest),
            Content::Dir | Content::Unread { .. } => None,
        }
    }

    pub fn size(&self) -> u64 {
        match self {
            Content::Dir => 0,
            Content::Unread { size } => *size,
            Content::Is(digest) => digest.size,
        }
    }

    pub fn is_unread(&self) -> bool {
        matches!(self, Content::Unread { .. })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Content::Dir => Kind::Dir,
            Content::Unread { .. } | Content::Is(_) => Kind::File,
        }
    }
}

/// Placement and content together: what is merged. Equal registers of a node share one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub at: Placement,
    pub content: Content,
}

/// A side's own identity of an item.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ItemId {
    /// A file on a disk whose inode numbers are known to last, with a birth time fine enough to tell
    /// a reused number from the file that had it before.
    Inode { dev: u64, ino: u64, born_ns: i64 },
    /// An identifier that a service gave.
    Key(Box<str>),
    /// An item of a disk whose numbers prove nothing. It is what stands at its place; one that was
    /// moved is known by what is in it.
    Unproven,
}

impl ItemId {
    /// Whether two items of this identity are one item, wherever they are.
    pub fn is_proof(&self) -> bool {
        match self {
            ItemId::Inode { .. } | ItemId::Key(_) => true,
            ItemId::Unproven => false,
        }
    }

    /// Whether what stands at one place, first as `self` and then as `other`, may be one item.
    pub fn may_be(&self, other: &ItemId) -> bool {
        self == other || !self.is_proof() || !other.is_proof()
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemId::Inode { ino, .. } => write!(f, "inode {ino}"),
            ItemId::Key(key) => write!(f, "id {key}"),
            ItemId::Unproven => f.write_str("unproven"),
        }
    }
}

/// Changes whenever a file's content may have changed. Folders always have `Rev::FOLDER`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rev {
    /// From the file system; each as `file_time` packs it: nanoseconds since the epoch, for our times.
    Stat { mtime_ns: i64, ctime_ns: i64 },
    /// Opaque; made by the provider's adapter. `modified_s` is 0 where the provider has no time.
    Tag { tag: Box<str>, modified_s: i64 },
}

impl Rev {
    pub const FOLDER: Rev = Rev::Stat { mtime_ns: 0, ctime_ns: 0 };

    /// When the content was last modified, where the side says so; as `file_time` packs it.
    pub fn modified(&self) -> Option<i64> {
        match self {
            Rev::Stat { mtime_ns, .. } => Some(*mtime_ns),
            Rev::Tag { modified_s: 0, .. } => None,
            Rev::Tag { modified_s, .. } => Some(file_time::pack(*modified_s, 0)),
        }
    }

    /// The same in nanoseconds since the epoch; times that those cannot hold are cut.
    pub fn modified_ns(&self) -> Option<i64> {
        self.modified().map(file_time::nanoseconds)
    }
}

impl fmt::Debug for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rev::Stat { mtime_ns, .. } => write!(f, "@{mtime_ns}"),
            Rev::Tag { tag, .. } => write!(f, "@{tag}"),
        }
    }
}

/// One version of one item on a side, as it was last seen. Operations state which they expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub item: ItemId,
    pub rev: Rev,
    pub size: u64,
}

impl Stamp {
    /// Whether `other` is this version after a rename, which changes only the change time.
    pub fn is_renamed(&self, other: &Stamp) -> bool {
        let same_time = match (&self.rev, &other.rev) {
            (Rev::Stat { mtime_ns: a, .. }, Rev::Stat { mtime_ns: b, .. }) => a == b,
            (a, b) => a == b,
        };
        self.item == other.item && self.size == other.size && same_time
    }
}

/// One item of a folder listing, on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub kind: Kind,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// Where the side states one.
    pub hash: Option<ContentHash>,
    pub item: ItemId,
    pub rev: Rev,
}

impl Entry {
    pub fn stamp(&self) -> Stamp {
        Stamp { item: self.item.clone(), rev: self.rev.clone(), size: self.size }
    }

    pub fn content(&self) -> Content {
        match (self.kind, self.hash) {
            (Kind::Dir, _) => Content::Dir,
            (Kind::File, Some(hash)) => Content::Is(Digest { size: self.size, hash }),
            (Kind::File, None) => Content::Unread { size: self.size },
        }
    }
}

/// What one side has of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// The logical placement: where the side's users put it.
    pub register: Arc<Register>,
    pub item: ItemId,
    pub rev: Rev,
    /// The physical name while the logical one is lent to somebody else. Parking must not look
    /// like a rename by a user.
    pub parked: Option<Name>,
}

impl Facet {
    pub fn new(at: Placement, content: Content, item: ItemId, rev: Rev) -> Facet {
        Facet { register: Arc::new(Register { at, content }), item, rev, parked: None }
    }

    pub fn at(&self) -> &Placement {
        &self.register.at
    }

    pub fn content(&self) -> &Content {
        &self.register.content
    }

    /// Where the item really is on its side.
    pub fn physical(&self) -> Placement {
        match &self.parked {
            Some(name) => Placement { parent: self.at().parent, name: name.clone() },
            None => self.at().clone(),
        }
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { item: self.item.clone(), rev: self.rev.clone(), size: self.content().size() }
    }

    pub fn with_register(mut self, at: Placement, content: Content) -> Facet {
        self.register = Arc::new(Register { at, content });
        self
    }
}

/// A node: what was last agreed, and what each side has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub base: Option<Arc<Register>>,
    pub local: Option<Facet>,
    pub remote: Option<Facet>,
}

impl Node {
    pub fn facet(&self, side: Side) -> Option<&Facet> {
        match side {
            Side::Local => self.local.as_ref(),
            Side::Remote => self.remote.as_ref(),
        }
    }
}
