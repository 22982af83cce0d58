//! Names: which ones a disk takes, how it stores them, and what it finds under them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use unicode_normalization::UnicodeNormalization as _;

use super::nodes::listing;

/// Which names a disk takes, and for which it takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Keeps the case that it was told, and finds a name in any case.
    pub(crate) folds_case: bool,
    /// Stores names decomposed (NFD) and finds them in either form; `EILSEQ` for what is no text.
    pub(crate) decomposes: bool,
    /// Drops dots and spaces from the end of a name.
    pub(crate) trims: bool,
    /// `EINVAL` for the characters that FAT does not store.
    pub(crate) refuses_fat: bool,
    /// The longest name in bytes; `ENAMETOOLONG` above.
    pub(crate) limit: Option<u32>,
}

impl Names {
    /// What is stored for a name.
    pub(crate) fn stored(&self, name: &OsStr) -> io::Result<OsString> {
        let mut stored = name.to_owned();
        if self.trims {
            let bytes = name.as_bytes();
            let end = bytes.iter().rposition(|byte| !b". ".contains(byte)).map_or(0, |at| at + 1);
            if end > 0 {
                stored = OsStr::from_bytes(&bytes[..end]).to_owned();
            }
        }
        if self.decomposes {
            let text = stored.to_str().ok_or(Errno::ILSEQ)?;
            stored = text.nfd().collect::<String>().into();
        }
        let refused = |byte: &u8| *byte < b' ' || b"\"*:<>?\\|".contains(byte);
        if self.refuses_fat && stored.as_bytes().iter().any(refused) {
            return Err(Errno::INVAL.into());
        }
        if self.limit.is_some_and(|limit| stored.len() > limit as usize) {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(stored)
    }

    /// The name that is in the folder for this name, if any is.
    pub(crate) fn found(&self, dir: impl AsFd, name: &OsStr) -> io::Result<Option<OsString>> {
        let stored = self.stored(name)?;
        match statx(&dir, &stored, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
            Ok(_) => return Ok(Some(stored)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if !self.folds_case && !self.decomposes {
            return Ok(None);
        }
        let wanted = self.key(&stored);
        Ok(listing(dir)?.into_iter().find(|found| self.key(found) == wanted))
    }

    /// Two names with one key are one name to this disk.
    fn key(&self, name: &OsStr) -> OsString {
        let Some(text) = name.to_str() else { return name.to_owned() };
        let text = if self.decomposes { text.nfd().collect() } else { text.to_owned() };
        if self.folds_case { text.to_lowercase().into() } else { text.into() }
    }
}
