//! The built program on disks with bad habits, with each disk once as the `dir` remote and once as
//! the local root. Each test is named for what must hold there.
//!
//! The disks are mounted with FUSE by this process (`support/habits.rs`). Where that is not allowed,
//! each test says that it was left out. Every run is followed by S1 and S11 (see `e2e/ledger.rs`).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

#[path = "support/habits.rs"]
mod habits;
#[path = "e2e/pair.rs"]
#[expect(dead_code, reason = "the scenarios of e2e need more of the vocabulary than disks do")]
mod pair;
#[path = "disks/rig.rs"]
#[macro_use]
mod rig;

#[path = "disks/crashes.rs"]
mod crashes;
#[path = "disks/errors.rs"]
mod errors;
#[path = "disks/identity.rs"]
mod identity;
#[path = "disks/names.rs"]
mod names;
#[path = "disks/refusals.rs"]
mod refusals;
#[path = "disks/remounts.rs"]
mod remounts;
#[path = "disks/stamps.rs"]
mod stamps;
