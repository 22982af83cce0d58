//! The process: who owns a pair, what it says about itself, and how it is steered.

pub mod client;
pub mod control;
pub mod events;
pub mod hooks;
pub mod lock;
pub mod notify;
pub mod socket;
pub mod status;
