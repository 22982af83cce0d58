//! The process: who owns a pair.

pub mod lock;
pub mod status;
