//! Names and relative paths that are valid by construction.
//!
//! A name is kept exactly as its side spells it: no case folding, no Unicode normalisation. Which
//! names one side cannot hold is the planner's question (`plan::NameRules`), never decided here.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::internal_names::InternalName;

/// The folder in each root that belongs to foldsync: marker, stage and trash. Never synced.
pub const CONTROL_DIR: &str = ".foldsync";
/// The ignore file, which is itself synced.
pub const IGNORE_FILE: &str = ".foldsyncignore";

/// Why a piece of text cannot be the name of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is \".\" or \"..\"")]
    Dots,
    #[error("the name contains \"/\"")]
    Separator,
    #[error("the name contains a NUL character")]
    Nul,
    #[error("the name is not valid UTF-8")]
    NotUtf8,
}

/// One component of a path: not empty, not `.` or `..`, without separator and NUL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    pub fn new(text: &str) -> Result<Name, NameError> {
        match text {
            "" => Err(NameError::Empty),
            "." | ".." => Err(NameError::Dots),
            _ if text.contains('/') => Err(NameError::Separator),
            _ if text.contains('\0') => Err(NameError::Nul),
            _ => Ok(Name(Arc::from(text))),
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Name, NameError> {
        Name::new(std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sorts before every name; only a bound for searches.
    pub(super) fn before_all() -> Name {
        Name(Arc::from(""))
    }

    /// What foldsync means by the name, if it is one of its own.
    pub fn internal(&self) -> Option<InternalName> {
        InternalName::of(&self.0)
    }

    /// Given by foldsync to something staged or parked; users never see it at rest.
    pub fn is_internal(&self) -> bool {
        self.internal().is_some()
    }

    /// Whether this is the name of an old version that made room for a new one.
    pub fn is_replaced(&self) -> bool {
        matches!(self.internal(), Some(InternalName::Replaced(_)))
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below the root of a pair, components joined by `/`; empty for the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(String);

impl RelPath {
    pub fn root() -> RelPath {
        RelPath::default()
    }

    /// Checks every component; the empty text is the root.
    pub fn new(text: &str) -> Result<RelPath, NameError> {
        if text.is_empty() {
            return Ok(RelPath::root());
        }
        for component in text.split('/') {
            Name::new(component)?;
        }
        Ok(RelPath(text.to_owned()))
    }

    pub fn join(&self, name: &Name) -> RelPath {
        if self.0.is_empty() {
            return RelPath(name.as_str().to_owned());
        }
        RelPath(format!("{}/{}", self.0, name))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder above and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(RelPath, Name)> {
        if self.0.is_empty() {
            return None;
        }
        let (parent, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        Some((RelPath(parent.to_owned()), Name(Arc::from(name))))
    }

    pub fn parent(&self) -> Option<RelPath> {
        self.split_last().map(|(parent, _)| parent)
    }

    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|c| !c.is_empty())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_cannot_be_made() {
        for bad in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Name::from_bytes(b"\xff\xfe"), Err(NameError::NotUtf8));
        assert!(RelPath::new("a/../b").is_err());
        assert!(RelPath::new("a//b").is_err());
    }

    #[test]
    fn a_path_splits_into_what_it_was_joined_from() {
        let path = RelPath::root().join(&Name::new("a").unwrap()).join(&Name::new("b c").unwrap());
        assert_eq!(path.as_str(), "a/b c");
        let (parent, name) = path.split_last().unwrap();
        assert_eq!((parent.as_str(), name.as_str()), ("a", "b c"));
        assert_eq!(RelPath::root().split_last(), None);
    }
}
