//! What a disk is like: facts that were measured on it, with an explicit "unknown" that means the
//! careful way.
//!
//! Owns the facts, what follows from them, and their words for people. Pure: measuring is `probe`'s.

mod probe;
mod words;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::tree::Rev;
use crate::tree::names::{AsciiSet, CaseRule, FormRule, Known, NameRules};

pub use words::Finding;

/// Facts of another version are measured anew.
const VERSION: u32 = 1;

/// What was measured of the disk of one root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    version: u32,
    /// Its type, such as `ext4`; the magic number where that has no name.
    pub file_system: String,
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// The item of the root's marker file, as the disk tells it.
    pub marker: Marker,
    pub numbers: Known<Numbers>,
    pub stamps: Stamps,
    pub spelling: Spelling,
    pub changes: Changes,
    /// `None` where the file system does not count them. Changes all the time, so it is not kept.
    #[serde(skip)]
    pub free_inodes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub ino: u64,
    /// 0 where the disk tells no birth times.
    pub born_ns: i64,
}

/// What becomes of inode numbers when the disk is mounted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    Last,
    /// They were seen to change: a number says nothing about which file this is.
    Change,
}

/// What time stamps are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// Modification times are multiples of this, in nanoseconds.
    pub grain_ns: Known<i64>,
    /// How far the disk's clock is ahead of this computer's, in nanoseconds.
    pub ahead_ns: Known<i64>,
    /// Whether a change time is kept beside the modification time.
    pub change_times: Known<bool>,
}

/// Which names the disk takes, and what it makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelling {
    pub case: Known<CaseRule>,
    pub forms: Known<FormRule>,
    /// Whether a dot or a space at the end stays.
    pub trailing: Known<bool>,
    /// Characters that are refused, of those that some disk refuses.
    pub forbidden: Known<String>,
    pub bytes_max: Known<usize>,
    pub chars_max: Known<usize>,
}

/// Which changes the disk carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub modes: Known<bool>,
    pub times: Known<bool>,
    /// A rename that refuses to replace.
    pub noreplace: Known<bool>,
    /// A rename that exchanges two names.
    pub exchange: Known<bool>,
    pub hard_links: Known<bool>,
}

/// By how much a disk's times may mislead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampRule {
    pub grain_ns: i64,
    pub ahead_ns: i64,
}

/// Linux stamps files with a clock of 1 to 10 ms.
const CLOCK_TICK_NS: i64 = 10_000_000;
/// And its look at another clock may be late by so much.
const FINE_NS: i64 = 5 * CLOCK_TICK_NS;
/// A person, or another computer, may well write twice within so much time.
const LONG_NS: i64 = 500_000_000;
/// The coarsest stamps of any file system.
const COARSE_NS: i64 = 2_000_000_000;

impl StampRule {
    /// For a disk that nobody has measured.
    pub const UNKNOWN: StampRule = StampRule { grain_ns: COARSE_NS, ahead_ns: 0 };
    /// For a disk, or a service, whose stamps are as fine as they can be.
    pub const FINE: StampRule = StampRule { grain_ns: 1, ahead_ns: 0 };

    /// Whether a file that was read at `at` (by our clock) may have been written again without a
    /// change of its stamps: it was written within the same tick of the disk's clock. A time that
    /// lies ahead of that tick hides nothing: the next write sets another one.
    pub fn may_hide_a_write(&self, rev: &Rev, at: Timestamp) -> bool {
        self.is_within(rev, at, FINE_NS)
    }

    /// The same of a file that we put in place at `at`: its modification time was set by us, and only
    /// who writes within the very tick of the file's own time gives it the same one.
    pub fn may_hide_an_overwrite(&self, rev: &Rev, at: Timestamp) -> bool {
        self.is_within(rev, at, CLOCK_TICK_NS)
    }

    /// Whether ticks are so long that a run waits for their end.
    pub fn is_coarse(&self) -> bool {
        self.grain_ns >= LONG_NS
    }

    /// When the tick of a file's time is over, where ticks are so long that it is worth while to know.
    pub fn tick_is_over_at(&self, rev: &Rev) -> Option<Timestamp> {
        let mtime_ns = rev.modified_ns().filter(|_| self.is_coarse())?;
        let over = mtime_ns.saturating_add(self.tick_ns(FINE_NS));
        Some(self.ours(over))
    }

    /// What the clock is ahead was itself measured by a stamp of that grain.
    fn tick_ns(&self, fine_ns: i64) -> i64 {
        match self.grain_ns {
            grain if grain < CLOCK_TICK_NS => fine_ns,
            grain => grain.saturating_mul(3) / 2 + fine_ns,
        }
    }

    fn is_within(&self, rev: &Rev, at: Timestamp, fine_ns: i64) -> bool {
        let (Rev::Stat { .. }, Some(mtime_ns)) = (rev, rev.modified_ns()) else { return false };
        let tick_ns = self.tick_ns(fine_ns);
        let now_ns = at.0.saturating_add(self.ahead_ns);
        now_ns.abs_diff(mtime_ns) < tick_ns.unsigned_abs()
    }

    /// When that was by our clock.
    pub fn ours(&self, disk_ns: i64) -> Timestamp {
        Timestamp(disk_ns.saturating_sub(self.ahead_ns))
    }
}

impl DiskFacts {
    /// Nothing is known yet.
    pub fn unknown(file_system: String, marker: Marker) -> DiskFacts {
        DiskFacts {
            version: VERSION,
            file_system,
            device: (0, 0),
            marker,
            numbers: Known::Unknown,
            stamps: Stamps {
                grain_ns: Known::Unknown,
                ahead_ns: Known::Unknown,
                change_times: Known::Unknown,
            },
            spelling: Spelling {
                case: Known::Unknown,
                forms: Known::Unknown,
                trailing: Known::Unknown,
                forbidden: Known::Unknown,
                bytes_max: Known::Unknown,
                chars_max: Known::Unknown,
            },
            changes: Changes {
                modes: Known::Unknown,
                times: Known::Unknown,
                noreplace: Known::Unknown,
                exchange: Known::Unknown,
                hard_links: Known::Unknown,
            },
            free_inodes: None,
        }
    }

    /// Whether inode numbers, with birth times, tell which file is which.
    pub fn numbers_prove(&self) -> bool {
        self.numbers.is(Numbers::Last)
    }

    /// Whether the numbers of `before` say nothing about this disk: the marker has another one, or
    /// what has numbers that prove something now had none.
    pub fn is_renumbered_since(&self, before: &DiskFacts) -> bool {
        self.marker != before.marker || self.numbers_prove() != before.numbers_prove()
    }

    /// Which names the planner may put there.
    pub fn names(&self) -> NameRules {
        let Spelling { case, forms, trailing, forbidden, bytes_max, chars_max } = &self.spelling;
        let plain = NameRules::POSIX;
        NameRules {
            bytes_max: bytes_max.or(plain.bytes_max),
            chars_max: chars_max.or(plain.chars_max),
            forbidden: match forbidden {
                Known::Is(chars) => chars.chars().collect(),
                Known::Unknown => AsciiSet::EMPTY,
            },
            trailing_dot_or_space: !trailing.is(false),
            case: *case,
            forms: *forms,
        }
    }

    pub fn stamp_rule(&self) -> StampRule {
        StampRule {
            grain_ns: self.stamps.grain_ns.or(COARSE_NS),
            ahead_ns: self.stamps.ahead_ns.or(0),
        }
    }

    /// As text for the state database.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// `None` for what another version wrote: it is measured anew.
    pub fn from_json(text: &str) -> Option<DiskFacts> {
        let facts: DiskFacts = serde_json::from_str(text).ok()?;
        (facts.version == VERSION).then_some(facts)
    }
}

/// The name of a file system type by its magic number, and whether its inode numbers are kept on the
/// disk itself. Those of network, stick and user-space file systems may be made up at each mount.
pub(super) fn file_system(magic: u64) -> (String, bool) {
    let (name, lasts) = match magic {
        0xef53 => ("ext4", true),
        0x5846_5342 => ("xfs", true),
        0x9123_683e => ("btrfs", true),
        0xf2f5_2010 => ("f2fs", true),
        0x2fc1_2fc1 => ("zfs", true),
        0xca45_1a4e => ("bcachefs", true),
        0x0102_1994 => ("tmpfs", true),
        0x7366_746e => ("ntfs3", false),
        0x794c_7630 => ("overlay", false),
        0x6573_5546 => ("fuse", false),
        0x4d44 => ("vfat", false),
        0x2011_bab0 => ("exfat", false),
        0x6969 => ("nfs", false),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", false),
        0x0102_1997 => ("9p", false),
        0x00c3_6400 => ("ceph", false),
        0xf15f => ("ecryptfs", false),
        other => return (format!("{other:#x}"), false),
    };
    (name.to_owned(), lasts)
}

/// See `file_system`.
pub(super) fn numbers_last(stat: &rustix::fs::StatFs) -> bool {
    probe::magic(stat).1
}

/// Whether a birth time is fine enough to tell two files of one inode number apart. Times of whole
/// milliseconds come from disks that keep no finer ones.
pub(super) fn is_fine_birth(born_ns: i64) -> bool {
    born_ns % 1_000_000 != 0
}

#[cfg(test)]
mod tests;
