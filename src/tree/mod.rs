//! The nouns: names, hashes, nodes, and the three trees. No I/O, no clock, no async.

pub mod file_time;
pub mod hash;
pub mod internal_names;
pub mod names;
pub mod node;
pub mod path;
pub mod trees;

pub use hash::{ContentHash, HashAlgo, Hasher};
pub use internal_names::InternalName;
pub use node::{
    Content, Digest, Entry, Facet, ItemId, Kind, Node, NodeId, Placement, Register, Rev, Side,
    Stamp,
};
pub use path::{Name, NameError, RelPath};
pub use trees::Trees;
