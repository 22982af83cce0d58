//! The names that foldsync gives to items of its own inside a synced tree: their exact forms, made
//! and recognised here only.
//!
//! A name that merely begins like one of them belongs to the user and is synced. Never decides what
//! is done with an item under such a name.

use super::path::Name;

const PREFIX: &str = ".foldsync-";
const PARK: &str = "park-";
const REPLACED: &str = ".old";
const COPYING: &str = ".part";
const SCRATCH: &str = "doctor";
/// Digits of a staging key; a parking key has no leading zeros.
const KEY_DIGITS: usize = 16;

/// What a name of foldsync's own stands for. The keys are those of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InternalName {
    /// A new version that has not got its name yet.
    Staged(u64),
    /// An old version that made room for a new one.
    Replaced(u64),
    /// A copy that is not complete, on its way between two folders of one disk.
    Copying(u64),
    /// An item that gave its name to another one for a moment.
    Parked(u64),
    /// The folder in which a service is probed.
    Scratch,
}

/// What every such name begins with, to search for. Names of users may begin so too.
pub const fn prefix() -> &'static str {
    PREFIX
}

impl InternalName {
    /// `None`: the name is the user's.
    pub fn of(name: &str) -> Option<InternalName> {
        let rest = name.strip_prefix(PREFIX)?;
        if rest == SCRATCH {
            return Some(InternalName::Scratch);
        }
        if let Some(key) = rest.strip_prefix(PARK) {
            return park_key(key).map(InternalName::Parked);
        }
        match (rest.strip_suffix(REPLACED), rest.strip_suffix(COPYING)) {
            (Some(key), _) => stage_key(key).map(InternalName::Replaced),
            (None, Some(key)) => stage_key(key).map(InternalName::Copying),
            (None, None) => stage_key(rest).map(InternalName::Staged),
        }
    }

    pub fn name(self) -> Name {
        let text = match self {
            InternalName::Staged(key) => format!("{PREFIX}{key:016x}"),
            InternalName::Replaced(key) => format!("{PREFIX}{key:016x}{REPLACED}"),
            InternalName::Copying(key) => format!("{PREFIX}{key:016x}{COPYING}"),
            InternalName::Parked(key) => format!("{PREFIX}{PARK}{key:x}"),
            InternalName::Scratch => format!("{PREFIX}{SCRATCH}"),
        };
        Name::new(&text).expect("a prefix and digits")
    }

    /// Whether an item under such a name is content on its way, and not a file of its own.
    pub fn is_in_transit(self) -> bool {
        match self {
            InternalName::Staged(_)
            | InternalName::Replaced(_)
            | InternalName::Copying(_)
            | InternalName::Scratch => true,
            InternalName::Parked(_) => false,
        }
    }
}

fn stage_key(text: &str) -> Option<u64> {
    (text.len() == KEY_DIGITS).then(|| hex(text))?
}

fn park_key(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with('0');
    (plain && text.len() <= KEY_DIGITS).then(|| hex(text))?
}

/// Lower case only, as they are made.
fn hex(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let all = !text.is_empty() && text.bytes().all(is_digit);
    all.then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_made_is_recognised() {
        for key in [0, 7, 0xab, u64::MAX] {
            for made in [
                InternalName::Staged(key),
                InternalName::Replaced(key),
                InternalName::Copying(key),
                InternalName::Parked(key),
            ] {
                assert_eq!(InternalName::of(made.name().as_str()), Some(made));
            }
        }
        let scratch = InternalName::Scratch;
        assert_eq!(InternalName::of(scratch.name().as_str()), Some(scratch));
    }

    #[test]
    fn names_that_only_begin_alike_are_the_users() {
        for name in [
            ".foldsync-",
            ".foldsync-notes",
            ".foldsync-run.sh",
            ".foldsync-park-",
            ".foldsync-park-lot",
            ".foldsync-park-01",
            ".foldsync-park-00000000000000001",
            ".foldsync-ab",
            ".foldsync-ab.old",
            ".foldsync-00000000000000AB",
            ".foldsync-00000000000000ab (1)",
            ".foldsync-00000000000000ab.old.txt",
            ".foldsync-+0000000000000ab",
            ".foldsync",
            ".foldsyncignore",
            "00000000000000ab",
        ] {
            assert_eq!(InternalName::of(name), None, "{name}");
        }
    }
}
