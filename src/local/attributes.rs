//! What a file has beside its content: mode, owner, times, extended attributes.
//!
//! Owns which answers mean that a disk does not keep an attribute. None of them is worth a file: what
//! a disk does not keep is left out, and the stamp that it gives counts.

use std::os::fd::AsFd;

use rustix::fs::{self, Gid, Mode, Statx, Timespec, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use super::calls;
use crate::tree::file_time;

/// Whether an attempt to set an attribute says that this disk, or this owner of the file, does not
/// allow for it; the content is not concerned. A disk that is read-only or full says something else.
pub(crate) fn is_refused(errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}

/// Success also where the disk does without.
fn unless_refused(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(errno) if is_refused(errno) => Ok(()),
        other => other,
    }
}

pub(super) fn set_mode(file: impl AsFd, mode: Mode) -> Result<()> {
    unless_refused(calls::fchmod(file, mode))
}

/// The time as `file_time` packs it.
pub(super) fn set_modified(file: impl AsFd, mtime: i64) -> Result<()> {
    let (tv_sec, tv_nsec) = file_time::unpack(mtime);
    let at = Timespec { tv_sec, tv_nsec };
    let times = fs::Timestamps { last_access: at, last_modification: at };
    unless_refused(calls::futimens(file, &times))
}

/// Gives a copy what the original has, as far as we may: owner, access list, the attributes that users
/// set, and permission bits; never setuid, never capabilities.
pub(super) fn pass_on(original: impl AsFd, stat: &Statx, copy: impl AsFd) {
    let copy = copy.as_fd();
    let (user, group) = (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid));
    // A common user may give a file to a group of theirs, but not to another user.
    if fs::fchown(copy, Some(user), Some(group)).is_err() {
        let _ = fs::fchown(copy, None, Some(group));
    }
    let _ = calls::fchmod(copy, Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o777));
    let _ = pass_on_extended(original, copy);
}

/// Extended attributes that users set, and the access list. One that is refused keeps none of the
/// others back.
pub(super) fn pass_on_extended(original: impl AsFd, copy: impl AsFd) -> Result<()> {
    let mut names = vec![0; fs::flistxattr_query(&original)?];
    if names.is_empty() {
        return Ok(());
    }
    let length = fs::flistxattr(&original, &mut names)?;
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if name.starts_with(b"user.") || name == b"system.posix_acl_access" {
            let mut value = vec![0; fs::fgetxattr_query(&original, name)?];
            let length = fs::fgetxattr(&original, name, &mut value)?;
            let _ = fs::fsetxattr(&copy, name, &value[..length], XattrFlags::empty());
        }
    }
    Ok(())
}
