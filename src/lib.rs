//! foldsync keeps a local folder and a remote equal, in both directions, and never loses a byte.
//!
//! The life of one change:
//!
//! 1. `engine` asks for folders to be listed; `drive` carries the question to `local` or `remote`.
//! 2. `engine::ingest` decides which node of the `tree` each entry is, and edits local or remote.
//! 3. `plan` compares base, local and remote: operations that can run now, each with its reason.
//! 4. `engine::dispatch` writes their intents to the `store`, durably, and hands them out.
//! 5. `exec` checks what an operation expects, does it, and says what is now there.
//! 6. `engine::finish` folds that in; base moves wherever the two sides agree. Again from 3, until
//!    nothing is left: the pair is in sync.
//!
//! `pair` checks the roots and runs one pair; `cli` and `config` are what people see; `daemon` is
//! the process. `exit` has the exit codes and `text` how things are written for people.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod drive;
pub mod engine;
pub mod exec;
pub mod exit;
pub mod local;
pub mod pair;
pub mod plan;
pub mod remote;
pub mod store;
pub mod text;
pub mod tree;
