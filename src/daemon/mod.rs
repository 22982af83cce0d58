//! The process: who owns a pair.

pub mod keeper;
pub mod lock;
pub mod status;
mod watched;
