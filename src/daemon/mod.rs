//! The process: who owns a pair.

pub mod client;
pub mod control;
pub mod events;
pub mod keeper;
pub mod lock;
pub mod socket;
pub mod status;
mod watched;
