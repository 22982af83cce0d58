//! The ledgers of the trash as files: one for each state database that counts.
//!
//! Reads and writes them whole; what they say is `ageing`'s.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{self, Mode, OFlags};

use super::ageing::Ledger;
use crate::local::{FsError, FsErrorKind, Result};

const BYTES_MAX: u64 = 16 << 20;

/// `None` for one that was not written by us, or not to its end: counting begins anew.
pub(super) fn read(folder: &OwnedFd, name: &str) -> Option<Ledger> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(folder, name, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A kill leaves the one before or the new one.
pub(super) fn write(folder: &OwnedFd, name: &str, ledger: &Ledger) -> Result<()> {
    replace(folder, name, ledger)
        .map_err(|e| FsError::new(FsErrorKind::Io, format!("write how old the trash is: {e}")))
}

fn replace(folder: &OwnedFd, name: &str, ledger: &Ledger) -> io::Result<()> {
    let text = serde_json::to_vec(ledger)?;
    let new = format!("{name}.new");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(folder, &new, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(fs::renameat(folder, &new, folder, name)?)
}
