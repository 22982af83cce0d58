//! The built program on two real folders. Each test is a scenario of the hazard catalogue or of the
//! contract; its id stands above it, and `HAZARDS.md` lists them all.
//!
//! Every run is followed by S1 and S11 (see `e2e/ledger.rs`), every scenario ends with BC-08
//! (`Pair::assert_quiet`).

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

#[path = "e2e/pair.rs"]
mod pair;

#[path = "e2e/basic.rs"]
mod basic;
#[path = "e2e/commands.rs"]
mod commands;
#[path = "e2e/deletes.rs"]
mod deletes;
#[path = "e2e/edits.rs"]
mod edits;
#[path = "e2e/guards.rs"]
mod guards;
#[path = "e2e/input.rs"]
mod input;
#[path = "e2e/kinds.rs"]
mod kinds;
#[path = "e2e/modes.rs"]
mod modes;
#[path = "e2e/moves.rs"]
mod moves;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/recovery.rs"]
mod recovery;
#[path = "e2e/security.rs"]
mod security;
#[path = "e2e/store_faults.rs"]
mod store_faults;
#[path = "e2e/told.rs"]
mod told;
#[path = "e2e/types.rs"]
mod types;
