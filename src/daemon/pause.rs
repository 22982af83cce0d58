//! Whether a pair is paused, and until when: kept in the pair's records, so that it outlives the
//! process.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::{self, Store};

const KEY: &str = "pause";

/// Whether cycles are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    Off,
    Until(Timestamp),
    UntilResumed,
}

impl Pause {
    /// For a time from now, or until somebody resumes.
    pub(super) fn new(span: Option<Duration>, now: Timestamp) -> Pause {
        span.map_or(Pause::UntilResumed, |span| Pause::Until(now.plus(span)))
    }

    pub(super) fn is_on(self) -> bool {
        self != Pause::Off
    }

    pub(super) fn ends(self) -> Option<Timestamp> {
        match self {
            Pause::Until(at) => Some(at),
            Pause::Off | Pause::UntilResumed => None,
        }
    }

    /// Writes it down. Before its first look a pair has no records: nothing is kept then.
    pub(super) fn keep(self, database: &Path) -> store::Result<()> {
        match Store::edit_records(database)? {
            Some(mut store) => store.write(|tx| tx.set_meta(KEY, &self.to_string())),
            None => Ok(()),
        }
    }

    /// What an earlier process wrote down, unless it is over.
    pub(super) fn recall(database: &Path, now: Timestamp) -> Pause {
        let store = Store::open_records(database).ok().flatten();
        let word = store.and_then(|store| store.meta(KEY).ok()?);
        word.map_or(Pause::Off, |word| Pause::read(&word, now))
    }

    fn read(word: &str, now: Timestamp) -> Pause {
        match word.strip_prefix("until ") {
            Some("resumed") => Pause::UntilResumed,
            Some(seconds) => {
                let at = seconds.parse().map(Timestamp::from_seconds);
                at.ok().filter(|at| *at > now).map_or(Pause::Off, Pause::Until)
            }
            None => Pause::Off,
        }
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pause::Off => f.write_str("off"),
            Pause::Until(at) => write!(f, "until {}", at.seconds()),
            Pause::UntilResumed => f.write_str("until resumed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_it_was_written_until_it_is_over() {
        let at = Timestamp::from_seconds;
        let after = |pause: Pause, now| Pause::read(&pause.to_string(), at(now));
        for pause in [Pause::Off, Pause::UntilResumed, Pause::Until(at(100))] {
            assert_eq!(after(pause, 99), pause);
        }
        assert_eq!(after(Pause::Until(at(100)), 100), Pause::Off);
        assert_eq!(Pause::read("until the cows come home", at(0)), Pause::Off);
    }
}
