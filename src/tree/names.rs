//! Which names a side can hold, as facts that the planner is handed.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::path::Name;

/// A fact about a side, or the admission that no document states it. Unknown means the safe way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known<T> {
    Is(T),
    Unknown,
}

impl<T: Copy + PartialEq> Known<T> {
    pub fn is(self, value: T) -> bool {
        self == Known::Is(value)
    }

    /// The fact, or what counts where nobody knows it.
    pub fn or(self, unknown: T) -> T {
        match self {
            Known::Is(value) => value,
            Known::Unknown => unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseRule {
    Sensitive,
    Insensitive,
}

/// What a side makes of the Unicode forms of a name, such as é as one character or as two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormRule {
    /// Each form is a name of its own.
    Apart,
    /// All forms are one name, which keeps the form that it was given.
    Alike,
    /// All forms are one name, which is kept in a form of the side's own.
    Respelled,
}

/// A set of ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AsciiSet(u128);

impl AsciiSet {
    pub const EMPTY: AsciiSet = AsciiSet(0);
    /// U+0001 to U+001F, and DEL. No name has NUL.
    pub const CONTROLS: AsciiSet = AsciiSet(0xffff_fffe | 1 << 127);

    pub const fn with(self, c: char) -> AsciiSet {
        if c.is_ascii() { AsciiSet(self.0 | 1 << c as u32) } else { self }
    }

    pub const fn and(self, other: AsciiSet) -> AsciiSet {
        AsciiSet(self.0 | other.0)
    }

    pub const fn contains(self, c: char) -> bool {
        c.is_ascii() && self.0 >> c as u32 & 1 == 1
    }

    pub fn chars(self) -> impl Iterator<Item = char> {
        ('\0'..='\u{7f}').filter(move |c| self.contains(*c))
    }
}

impl FromIterator<char> for AsciiSet {
    fn from_iter<I: IntoIterator<Item = char>>(chars: I) -> AsciiSet {
        chars.into_iter().fold(AsciiSet::EMPTY, AsciiSet::with)
    }
}

impl std::fmt::Debug for AsciiSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.chars()).finish()
    }
}

/// Which names a side can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    /// In bytes of UTF-8.
    pub bytes_max: usize,
    /// In characters.
    pub chars_max: usize,
    pub forbidden: AsciiSet,
    pub trailing_dot_or_space: bool,
    pub case: Known<CaseRule>,
    pub forms: Known<FormRule>,
}

/// The rule that a name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    #[error("the name is longer than {0} bytes")]
    TooLong(usize),
    #[error("the name has more than {0} characters")]
    TooManyChars(usize),
    #[error("the name contains {0:?}, which that side does not allow")]
    Forbidden(char),
    #[error("the name ends in a dot or a space, which that side does not allow")]
    Trailing,
}

impl NameRules {
    /// What Linux file systems hold: 255 bytes, anything but `/` and NUL.
    pub const POSIX: NameRules = NameRules {
        bytes_max: 255,
        chars_max: 255,
        forbidden: AsciiSet::EMPTY,
        trailing_dot_or_space: true,
        case: Known::Is(CaseRule::Sensitive),
        forms: Known::Is(FormRule::Apart),
    };

    /// Whether two different names may be one name here.
    pub fn takes_for_one(&self) -> bool {
        self.case.is(CaseRule::Insensitive) || self.takes_forms_for_one()
    }

    /// Whether the Unicode forms of a name are one name here.
    pub fn takes_forms_for_one(&self) -> bool {
        self.forms.is(FormRule::Alike) || self.forms.is(FormRule::Respelled)
    }

    /// The name in its composed Unicode form.
    pub fn composed(name: &Name) -> String {
        name.as_str().nfc().collect()
    }

    /// Equal for names that are one name here.
    pub fn fold(&self, name: &Name) -> String {
        let mut text = name.as_str().to_owned();
        if self.takes_forms_for_one() && !text.is_ascii() {
            text = NameRules::composed(name);
        }
        if self.case.is(CaseRule::Insensitive) {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }

    /// Names of so many bytes are short enough, whatever they are made of.
    pub fn short(&self) -> usize {
        self.bytes_max.min(self.chars_max)
    }

    pub fn check(&self, name: &Name) -> Result<(), NameProblem> {
        let text = name.as_str();
        if text.len() > self.bytes_max {
            return Err(NameProblem::TooLong(self.bytes_max));
        }
        if text.chars().count() > self.chars_max {
            return Err(NameProblem::TooManyChars(self.chars_max));
        }
        if let Some(bad) = text.chars().find(|c| self.forbidden.contains(*c)) {
            return Err(NameProblem::Forbidden(bad));
        }
        if !self.trailing_dot_or_space && text.ends_with(['.', ' ']) {
            return Err(NameProblem::Trailing);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_characters_has_what_was_put_in_and_nothing_else() {
        let set: AsciiSet = "?*é".chars().collect();
        assert_eq!(set.chars().collect::<String>(), "*?");
        assert!(!set.contains('é') && !AsciiSet::EMPTY.contains('\0'));
        assert_eq!(AsciiSet::CONTROLS.chars().count(), 32);
        assert!(AsciiSet::CONTROLS.chars().all(char::is_control));
    }

    #[test]
    fn a_name_may_be_too_long_in_bytes_or_in_characters() {
        let rules = NameRules { bytes_max: 6, chars_max: 3, ..NameRules::POSIX };
        let check = |text: &str| rules.check(&Name::new(text).expect("a name"));
        assert_eq!(check("éé"), Ok(()));
        assert_eq!(check("ééé"), Ok(()));
        assert_eq!(check("日本語"), Err(NameProblem::TooLong(6)));
        assert_eq!(check("abcd"), Err(NameProblem::TooManyChars(3)));
    }
}
