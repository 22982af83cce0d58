//! The exit codes of every command, and which one wins. The only place that knows the numbers.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Everything is in sync, or the command did what it was asked to.
    InSync,
    /// Finished; some items failed and will be retried.
    SomeFailed,
    /// The command line is wrong.
    Usage,
    /// Finished; conflicts or skipped items remain.
    Remaining,
    /// Stopped or partly held by a safety guard.
    Held,
    /// The remote or the network is unavailable.
    Unavailable,
    /// Another instance owns the pair; for `status`: no daemon runs.
    Busy,
    /// A person must look.
    Fatal,
    /// Stopped at `--max-transfer`.
    MaxTransfer,
    /// Stopped at `--max-duration`.
    MaxDuration,
    /// The login is missing or expired.
    LoginNeeded,
    /// The configuration is invalid.
    BadConfig,
    /// Interrupted; the state is consistent.
    Interrupted,
}

/// The code that wins comes first. The contract ranks 78, 77, 7, 4, 5, 1, 3, 8, 10, 0; what it leaves
/// open stands where it says most: an interrupted run knows nothing about the rest, and a pair that
/// somebody else owns was not looked at.
const PRECEDENCE: [Exit; 13] = [
    Exit::Usage,
    Exit::BadConfig,
    Exit::LoginNeeded,
    Exit::Fatal,
    Exit::Interrupted,
    Exit::Busy,
    Exit::Held,
    Exit::Unavailable,
    Exit::SomeFailed,
    Exit::Remaining,
    Exit::MaxTransfer,
    Exit::MaxDuration,
    Exit::InSync,
];

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::InSync => 0,
            Exit::SomeFailed => 1,
            Exit::Usage => 2,
            Exit::Remaining => 3,
            Exit::Held => 4,
            Exit::Unavailable => 5,
            Exit::Busy => 6,
            Exit::Fatal => 7,
            Exit::MaxTransfer => 8,
            Exit::MaxDuration => 10,
            Exit::LoginNeeded => 77,
            Exit::BadConfig => 78,
            Exit::Interrupted => 130,
        }
    }

    pub fn from_code(code: u8) -> Option<Exit> {
        PRECEDENCE.into_iter().find(|exit| exit.code() == code)
    }

    /// The one of two that is reported when both apply.
    pub fn or_worse(self, other: Exit) -> Exit {
        PRECEDENCE.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command stops, in words for a person, and the code that says so.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    pub fn config(message: impl Into<String>) -> Failure {
        Failure::new(Exit::BadConfig, message)
    }

    pub fn fatal(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Fatal, message)
    }
}

impl From<crate::config::Invalid> for Failure {
    fn from(invalid: crate::config::Invalid) -> Failure {
        Failure::config(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_ranks_the_codes() {
        let ranked = [78, 77, 7, 4, 5, 1, 3, 8, 10, 0];
        let places: Vec<usize> = ranked
            .iter()
            .map(|code| PRECEDENCE.iter().position(|exit| exit.code() == *code).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn of_two_codes_the_same_one_wins_in_either_order() {
        for a in PRECEDENCE {
            for b in PRECEDENCE {
                assert_eq!(a.or_worse(b), b.or_worse(a));
                assert!([a, b].contains(&a.or_worse(b)));
            }
        }
        assert_eq!(Exit::InSync.or_worse(Exit::Remaining), Exit::Remaining);
        assert_eq!(Exit::SomeFailed.or_worse(Exit::Held), Exit::Held);
    }
}
