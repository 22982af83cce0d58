//! The whole engine against a simulated disk, cloud and clock, thousands of bad days a run.
//!
//! `SIM_SEED=n cargo test --test sim` replays one day with a readable trace.

mod sim {
    pub mod cloud;
    pub mod crowd;
    pub mod disk;
    pub mod faults;
    mod fidelity;
    pub mod oracle;
    pub mod users;
}
