//! Which names a side can hold, as facts that the planner is handed.

use super::path::Name;

/// A fact about a side, or the admission that no document states it. Unknown means the safe way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    Is(T),
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseRule {
    Sensitive,
    Insensitive,
}

/// Which names a side can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    /// In bytes of UTF-8.
    pub bytes_max: usize,
    pub forbidden: &'static [char],
    pub trailing_dot_or_space: bool,
    pub case: Known<CaseRule>,
}

/// The rule that a name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    #[error("the name is longer than {0} bytes")]
    TooLong(usize),
    #[error("the name contains {0:?}, which that side does not allow")]
    Forbidden(char),
    #[error("the name ends in a dot or a space, which that side does not allow")]
    Trailing,
}

impl NameRules {
    /// What Linux file systems hold: 255 bytes, anything but `/` and NUL.
    pub const POSIX: NameRules = NameRules {
        bytes_max: 255,
        forbidden: &[],
        trailing_dot_or_space: true,
        case: Known::Is(CaseRule::Sensitive),
    };

    pub fn check(&self, name: &Name) -> Result<(), NameProblem> {
        let text = name.as_str();
        if text.len() > self.bytes_max {
            return Err(NameProblem::TooLong(self.bytes_max));
        }
        if let Some(bad) = text.chars().find(|c| self.forbidden.contains(c)) {
            return Err(NameProblem::Forbidden(bad));
        }
        if !self.trailing_dot_or_space && text.ends_with(['.', ' ']) {
            return Err(NameProblem::Trailing);
        }
        Ok(())
    }
}
