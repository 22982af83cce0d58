//! One file's bytes from one place of the disk to another, and the proof that they arrived.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use rustix::fs::{self, Advice, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::{Place, attributes, calls, changed_at};
use crate::local::look::{stat_of, time_of};
use crate::local::root::{Root, failure};
use crate::local::{FsError, FsErrorKind, Result};

const COMPARE_BYTES: usize = 256 << 10;

/// Opens what is at a place for reading, following nothing and waiting for nobody.
pub(super) fn open(at: &Place<'_>) -> rustix::io::Result<File> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    fs::openat(at.dir, at.name, flags, Mode::empty()).map(File::from)
}

/// Makes a complete, durable copy with the attributes of the original, as far as the disk keeps them.
/// `Changed` if the original is written to meanwhile.
pub(super) fn make(
    root: &Root,
    from: &Place<'_>,
    source: &File,
    before: &Statx,
    dir: &OwnedFd,
    name: &str,
) -> Result<File> {
    let fail = |errno| failure("copy", &from.path, errno);
    let broken = |e: std::io::Error| match e.raw_os_error() {
        Some(code) => fail(Errno::from_raw_os_error(code)),
        None => FsError::new(FsErrorKind::Io, format!("copy {}: {e}", from.path)),
    };
    let copy = File::from(calls::create(dir, name).map_err(fail)?);
    let copied = std::io::copy(&mut &*source, &mut &copy).map_err(broken)?;
    attributes::pass_on(source, before, &copy);
    attributes::set_modified(&copy, time_of(before.stx_mtime)).map_err(fail)?;
    copy.sync_all().map_err(broken)?;
    let after = stat_of(source).map_err(fail)?;
    if copied != before.stx_size || root.stamp(&after) != root.stamp(before) {
        return Err(changed_at(&from.path));
    }
    Ok(copy)
}

/// Reads both from the beginning; the copy from the disk, where the system lets us.
pub(super) fn is_equal(original: &File, copy: &File) -> rustix::io::Result<bool> {
    let _ = fs::fadvise(copy, 0, None::<NonZeroU64>, Advice::DontNeed);
    let (mut one, mut other) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let mut at = 0;
    loop {
        let length = read_at(original, &mut one, at)?;
        if length != read_at(copy, &mut other, at)? || one[..length] != other[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        at += length as u64;
    }
}

/// Whether two regular files hold the same bytes.
pub(super) fn is_same(one: &Place<'_>, other: &Place<'_>) -> rustix::io::Result<bool> {
    let open = |at: &Place<'_>| {
        let file = open(at)?;
        let is_file = super::kind_of(&stat_of(&file)?) == super::FileType::RegularFile;
        Ok::<_, Errno>(is_file.then_some(file))
    };
    match (open(one)?, open(other)?) {
        (Some(one), Some(other)) => is_equal(&one, &other),
        _ => Ok(false),
    }
}

/// Fills the buffer as far as there is something.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}
