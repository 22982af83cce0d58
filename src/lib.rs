//! foldsync keeps a local folder and a remote equal, in both directions, and never loses a byte.

pub mod clock;
pub mod daemon;
pub mod drive;
pub mod engine;
pub mod exec;
pub mod local;
pub mod pair;
pub mod plan;
pub mod remote;
pub mod store;
pub mod tree;
