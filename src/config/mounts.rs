//! Where folders really are: one folder may have many paths, by bind mounts and by a share that is
//! mounted twice.
//!
//! Reads what the system says of its mounts; changes nothing. Knows nothing where that is not told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::local::root::RootId;

/// A folder, whatever its path.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// The folder itself.
    id: RootId,
    /// The file system's device, and the path in it.
    inside: Option<(String, PathBuf)>,
}

impl Home {
    /// `None` if there is no such folder. `real` is its path without links.
    pub(super) fn of(real: &Path) -> Option<Home> {
        let id = RootId::of(real)?;
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mount = statx(CWD, real, AtFlags::empty(), StatxFlags::MNT_ID).ok();
        let inside = mount.and_then(|stat| inside(&mounts, stat.stx_mnt_id, real));
        Some(Home { id, inside })
    }

    /// How this folder lies to the other one, if they overlap.
    pub(super) fn overlap(&self, other: &Home) -> Option<&'static str> {
        if self.id == other.id {
            return Some("is the same folder (under another path) as");
        }
        let (Some((device, a)), Some((other_device, b))) = (&self.inside, &other.inside) else {
            return None;
        };
        match (device == other_device, a.starts_with(b), b.starts_with(a)) {
            (true, true, true) => Some("is the same folder (under another path) as"),
            (true, true, false) => Some("is inside (by another mount)"),
            (true, false, true) => Some("contains (by another mount)"),
            (true, false, false) | (false, _, _) => None,
        }
    }
}

/// The device and the path in its file system of something on the mount with this number.
fn inside(mounts: &[u8], id: u64, real: &Path) -> Option<(String, PathBuf)> {
    let id = id.to_string();
    let fields = |line: &[u8]| line.split(|b| *b == b' ').map(<[u8]>::to_vec).collect::<Vec<_>>();
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let mut lines = mounts.split(|b| *b == b'\n').map(fields);
    let line = lines.find(|line| line.first().is_some_and(|first| first == id.as_bytes()))?;
    let [_, _, device, root, point, ..] = line.as_slice() else { return None };
    let device = String::from_utf8(device.clone()).ok()?;
    let below = real.strip_prefix(unescaped(point)).ok()?;
    Some((device, unescaped(root).join(below)))
}

/// Blanks, tabs, line ends and backslashes stand as `\040` and the like.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 22 8:2 / /data rw shared:1 - ext4 /dev/sda2 rw\n\
        31 22 8:2 /a\\040b/c /backup rw shared:1 - ext4 /dev/sda2 rw\n";

    fn place(id: u64, path: &str) -> Option<(String, PathBuf)> {
        inside(MOUNTS.as_bytes(), id, Path::new(path))
    }

    #[test]
    fn a_path_is_told_by_the_mount_that_it_is_on() {
        assert_eq!(place(22, "/home"), Some(("8:1".into(), "/home".into())));
        assert_eq!(place(30, "/data/a b/c/d"), Some(("8:2".into(), "/a b/c/d".into())));
        assert_eq!(place(31, "/backup/d"), Some(("8:2".into(), "/a b/c/d".into())));
        assert_eq!(place(31, "/backup"), Some(("8:2".into(), "/a b/c".into())));
        assert_eq!(place(3, "/backup"), None);
        assert_eq!(place(31, "/elsewhere"), None);
    }

    #[test]
    fn escapes_are_read_as_the_bytes_that_they_stand_for() {
        assert_eq!(unescaped(br"/a\040b\134c\9"), PathBuf::from(r"/a b\c\9"));
        assert_eq!(unescaped(b"/a\\04"), PathBuf::from("/a\\04"));
    }
}
