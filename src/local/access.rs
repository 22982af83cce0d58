//! Who may use what we make: the control folder follows its root, new items follow their folder.
//!
//! Owns modes, groups and access lists of new items. All of it is done as far as the disk and our
//! rights allow: what is refused stays closed to others, and is never an error. Nothing is ever made
//! writable for everybody, but for our own files where the root is that as well.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, XattrFlags};

use super::look::{look, stat_of};

const ACCESS_LIST: &str = "system.posix_acl_access";
const DEFAULT_LIST: &str = "system.posix_acl_default";
/// A list of this length has more entries than any that is of use.
const LIST_BYTES_MAX: usize = 64 << 10;

const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Folders that we create are never writable by group or others, whatever the umask; unless their
/// folder is one that a group shares.
const NEW_DIR_MODE: Mode = Mode::from_raw_mode(0o755);

// ---- the control folder ------------------------------------------------------------------------

/// What an item of the control folder is to those who share the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Folder,
    ReadFile,
    WrittenFile,
}

impl Shared {
    fn bits(self) -> u32 {
        match self {
            Shared::Folder => 7,
            Shared::ReadFile => 4,
            Shared::WrittenFile => 6,
        }
    }
}

/// How a root is open to others than its owner.
pub(super) struct Sharing {
    group: u32,
    group_writes: bool,
    others_write: bool,
    setgid: bool,
    list: Option<AccessList>,
}

impl Sharing {
    /// `None` for a root that only its owner may write to.
    pub(super) fn of(root: &OwnedFd) -> Option<Sharing> {
        let stat = stat_of(root).ok()?;
        let mode = u32::from(stat.stx_mode);
        // Where the sticky bit is set, others cannot rename what is not theirs.
        let others_write = mode & OTHERS_WRITE != 0 && mode & STICKY == 0;
        let group_writes = mode & GROUP_WRITE != 0;
        (group_writes || others_write).then(|| Sharing {
            group: stat.stx_gid,
            group_writes,
            others_write,
            setgid: mode & SETGID != 0,
            list: AccessList::read(root, ACCESS_LIST),
        })
    }

    /// Opens an item of ours to those who may write to the root. Takes no right away.
    pub(super) fn open_up(&self, item: &OwnedFd, what: Shared) {
        let Ok(stat) = stat_of(item) else { return };
        let me = rustix::process::geteuid();
        if stat.stx_uid != me.as_raw() && !me.is_root() {
            return;
        }
        let group = Gid::from_raw(self.group);
        let is_group = stat.stx_gid == self.group || fs::fchown(item, None, Some(group)).is_ok();
        let bits = what.bits();
        if let Some(list) = &self.list {
            let list = list.for_writers(bits, self.others_write, is_group).encoded();
            if read_list(item, ACCESS_LIST).as_ref() != Some(&list) {
                let _ = fs::fsetxattr(item, ACCESS_LIST, &list, XattrFlags::empty());
            }
            return;
        }
        let mut wanted = 0;
        if self.others_write {
            // Whatever group it is: its members are among the others.
            wanted |= bits << 3 | bits;
        }
        if self.group_writes && is_group {
            wanted |= bits << 3;
            wanted |= if self.setgid && what == Shared::Folder { SETGID } else { 0 };
        }
        let mode = u32::from(stat.stx_mode) & 0o7777;
        if mode & wanted != wanted {
            let _ = fs::fchmod(item, Mode::from_raw_mode(mode | wanted));
        }
    }
}

/// What is made in a stage gets its access list when it has its place, not from the control folder.
pub(super) fn drop_default_list(folder: &OwnedFd) {
    let _ = fs::fremovexattr(folder, DEFAULT_LIST);
}

// ---- new items of the tree ---------------------------------------------------------------------

/// The mode to make a folder with in `parent`. The umask is still to be taken off.
pub(super) fn new_dir_mode(parent: &OwnedFd) -> Mode {
    let is_shared = || {
        let mode = u32::from(stat_of(parent).ok()?.stx_mode);
        let by_list = mode & GROUP_WRITE != 0 && read_list(parent, DEFAULT_LIST).is_some();
        Some(is_shared_by_group(mode) || by_list)
    };
    match is_shared() {
        Some(true) => NEW_DIR_MODE | Mode::WGRP,
        Some(false) | None => NEW_DIR_MODE,
    }
}

fn is_shared_by_group(mode: u32) -> bool {
    mode & SETGID != 0 && mode & GROUP_WRITE != 0
}

/// Gives a staged file what it would have had if it had been made in `folder`: its group where that
/// is set, its default list, and the group's right to write where a group shares the folder.
pub(super) fn adopt(stage: &OwnedFd, staged: &str, folder: &OwnedFd, mode: Mode, umask: u32) {
    let Ok(parent) = stat_of(folder) else { return };
    let parent_mode = u32::from(parent.stx_mode);
    let mut is_group = true;
    if parent_mode & SETGID != 0 {
        let group = look(stage, staged).map(|stat| stat.stx_gid);
        is_group = group == Ok(parent.stx_gid) || {
            let group = Gid::from_raw(parent.stx_gid);
            fs::chownat(stage, staged, None, Some(group), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
    }
    if let Some(list) = AccessList::read(folder, DEFAULT_LIST) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = fs::openat(stage, staged, flags, Mode::empty()) {
            let list = list.for_new_file().encoded();
            let _ = fs::fsetxattr(&file, ACCESS_LIST, &list, XattrFlags::empty());
        }
    } else if is_group && is_shared_by_group(parent_mode) && umask & GROUP_WRITE == 0 {
        let _ = fs::chmodat(stage, staged, mode | Mode::WGRP, AtFlags::empty());
    }
}

// ---- access lists ------------------------------------------------------------------------------

/// A POSIX access control list, as Linux keeps it in an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AccessList(Vec<AclEntry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    bits: u16,
    id: u32,
}

const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const NAMED_USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;
const WRITE: u16 = 2;

impl AccessList {
    fn read(item: impl AsFd, which: &str) -> Option<AccessList> {
        AccessList::decode(&read_list(item, which)?)
    }

    fn decode(bytes: &[u8]) -> Option<AccessList> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return None;
        }
        let entries = entries.chunks_exact(8).map(|e| AclEntry {
            tag: u16::from_le_bytes([e[0], e[1]]),
            bits: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        });
        Some(AccessList(entries.collect()))
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.bits.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    fn mask(&self) -> u16 {
        self.0.iter().find(|entry| entry.tag == MASK).map_or(7, |entry| entry.bits)
    }

    /// For an item of the control folder of a root with this list: `bits` for whoever may write to the
    /// root, nothing for the rest.
    fn for_writers(&self, bits: u32, others: bool, is_group: bool) -> AccessList {
        let (bits, mask) = (bits as u16, self.mask());
        self.with_bits(|entry| match entry.tag {
            OWNER if bits & 1 == 1 => 7,
            OWNER => 6,
            MASK => bits,
            OTHERS if others => bits,
            OWNING_GROUP if !is_group => 0,
            NAMED_USER | OWNING_GROUP | NAMED_GROUP if entry.bits & mask & WRITE != 0 => bits,
            _ => 0,
        })
    }

    /// As a file gets it that is made in a folder with this default list.
    fn for_new_file(&self) -> AccessList {
        let has_mask = self.0.iter().any(|entry| entry.tag == MASK);
        self.with_bits(|entry| match entry.tag {
            OWNER | MASK => entry.bits & 6,
            OWNING_GROUP if !has_mask => entry.bits & 6,
            OTHERS => entry.bits & 4,
            _ => entry.bits,
        })
    }

    fn with_bits(&self, bits: impl Fn(&AclEntry) -> u16) -> AccessList {
        AccessList(self.0.iter().map(|e| AclEntry { bits: bits(e), ..*e }).collect())
    }
}

/// `None` where there is no list, or the file system knows none.
fn read_list(item: impl AsFd, which: &str) -> Option<Vec<u8>> {
    // One call for the common case that there is none.
    let mut value = [0; 256];
    match fs::fgetxattr(&item, which, &mut value) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(rustix::io::Errno::RANGE) => {
            let mut value = vec![0; LIST_BYTES_MAX];
            let length = fs::fgetxattr(&item, which, &mut value).ok()?;
            value.truncate(length);
            Some(value)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> AccessList {
        let entries = entries.iter().map(|(tag, bits)| AclEntry { tag: *tag, bits: *bits, id: 7 });
        AccessList(entries.collect())
    }

    fn shown(list: &AccessList) -> Vec<(u16, u16)> {
        list.0.iter().map(|entry| (entry.tag, entry.bits)).collect()
    }

    #[test]
    fn a_list_is_written_as_it_was_read() {
        let some = list(&[(OWNER, 7), (NAMED_USER, 6), (OWNING_GROUP, 5), (MASK, 7), (OTHERS, 0)]);
        assert_eq!(AccessList::decode(&some.encoded()), Some(some));
        assert_eq!(AccessList::decode(&[2, 0, 0, 0, 1]), None);
        assert_eq!(AccessList::decode(&[]), None);
    }

    // SE-26
    #[test]
    fn a_new_file_is_neither_executable_nor_writable_for_everybody() {
        let default =
            list(&[(OWNER, 7), (NAMED_USER, 7), (OWNING_GROUP, 7), (MASK, 7), (OTHERS, 7)]);
        let of_file = [(OWNER, 6), (NAMED_USER, 7), (OWNING_GROUP, 7), (MASK, 6), (OTHERS, 4)];
        assert_eq!(shown(&default.for_new_file()), of_file);
        let short = list(&[(OWNER, 7), (OWNING_GROUP, 7), (OTHERS, 5)]);
        assert_eq!(shown(&short.for_new_file()), [(OWNER, 6), (OWNING_GROUP, 6), (OTHERS, 4)]);
    }

    // SE-26
    #[test]
    fn only_who_may_write_to_the_root_may_use_its_control_folder() {
        let root = list(&[(OWNER, 7), (NAMED_USER, 7), (NAMED_GROUP, 5), (MASK, 7), (OTHERS, 5)]);
        let folder = [(OWNER, 7), (NAMED_USER, 7), (NAMED_GROUP, 0), (MASK, 7), (OTHERS, 0)];
        assert_eq!(shown(&root.for_writers(7, false, true)), folder);
        let masked = list(&[(OWNER, 7), (NAMED_USER, 7), (MASK, 5), (OTHERS, 5)]);
        assert_eq!(shown(&masked.for_writers(4, false, true))[1], (NAMED_USER, 0));
        assert_eq!(shown(&root.for_writers(6, true, true))[4], (OTHERS, 6));
    }
}
