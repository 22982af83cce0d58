//! foldsync keeps a local folder and a remote equal, in both directions, and never loses a byte.

pub mod clock;
pub mod drive;
pub mod engine;
pub mod exec;
pub mod local;
pub mod plan;
pub mod remote;
pub mod store;
pub mod tree;
