//! Measures a disk: small trials in a folder of our own below the control folder, removed afterwards.
//!
//! A trial that fails tells nothing: its fact stays unknown. Touches no file of a user.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{COARSE_NS, Changes, DiskFacts, Marker, Numbers, Spelling, Stamps, file_system};
use crate::clock::{Clock, Timestamp};
use crate::local::Result;
use crate::local::attributes::is_refused;
use crate::local::look::{look, names, stat_of, time_of};
use crate::local::os::MARKER;
use crate::local::root::{Root, device, failure};
use crate::tree::names::{AsciiSet, CaseRule, FormRule, Known};
use crate::tree::path::CONTROL_DIR;

/// Begins the name of the folder of the trials in the control folder.
const FOLDER: &str = "probe";
/// Trials take seconds: what is older was left by a process that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// What some file systems refuse in names.
const SUSPECTS: &str = "\\:*?\"<>|";
/// Lengths at which file systems draw the line, and at last the one that nearly all take.
const LENGTHS: [usize; 6] = [31, 63, 127, 143, 175, 255];
/// 2001, in an odd second, and a fraction with a digit in every place.
const ODD_TIME: Timespec = Timespec { tv_sec: 1_000_000_001, tv_nsec: 987_654_321 };
/// Grains of the stamps of known file systems, in nanoseconds.
const GRAINS_NS: [i64; 9] =
    [1, 100, 1_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 1_500_000_000, COARSE_NS];

impl Root {
    /// Facts of this disk. Of those that were `known` of the same file system, only what changes is
    /// looked at again. Without `writes` nothing is tried. `None` for a root without a marker.
    pub(in crate::local) fn measure(
        &self,
        known: Option<&DiskFacts>,
        writes: bool,
        clock: &dyn Clock,
    ) -> Result<Option<DiskFacts>> {
        let fail = |errno| failure("measure the disk of", self.path().display(), errno);
        let marker = match look(self.fd(), &format!("{CONTROL_DIR}/{MARKER}")) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        let marker = Marker { ino: marker.stx_ino, born_ns: time_of(marker.stx_btime) };
        let (name, lasts) = fs::fstatfs(self.fd()).map(|stat| magic(&stat)).map_err(fail)?;
        let room = fs::fstatvfs(self.fd()).map_err(fail)?;
        let known = known.filter(|known| known.file_system == name);
        let mut facts = match known {
            Some(known) => known.clone(),
            None => DiskFacts::unknown(name, marker),
        };
        let moved = known.is_some_and(|known| known.marker != marker);
        facts.numbers = match (lasts, moved || facts.numbers.is(Numbers::Change)) {
            (true, _) => Known::Is(Numbers::Last),
            (false, true) => Known::Is(Numbers::Change),
            (false, false) => Known::Unknown,
        };
        facts.marker = marker;
        facts.device = device(&stat_of(self.fd()).map_err(fail)?);
        facts.free_inodes = (room.f_files > 0).then_some(room.f_favail);
        if writes && let Ok(control) = self.control("") {
            self.remove_left_behind(&control, clock.now());
            let trials = Trials { all: known.is_none(), clock: !lasts };
            self.try_out(&mut facts, trials, clock);
        }
        // This computer's own clock stamps what is written on its own disks.
        if lasts {
            facts.stamps.ahead_ns = Known::Is(0);
        }
        Ok(Some(facts))
    }

    /// What a process that was killed has left of its trials.
    fn remove_left_behind(&self, control: &OwnedFd, now: Timestamp) {
        for name in names_in(control).unwrap_or_default() {
            if begun(&name).is_some_and(|at| now.since(at) > LEFT_BEHIND) {
                let _ = remove(self, &name);
            }
        }
    }

    fn try_out(&self, facts: &mut DiskFacts, trials: Trials, clock: &dyn Clock) {
        if !trials.all && !trials.clock {
            return;
        }
        let Ok(bench) = Bench::new(self, clock) else { return };
        if trials.all {
            bench.try_all(facts);
        }
        if trials.clock {
            facts.stamps.ahead_ns = bench.clock_ahead(clock, facts.stamps.grain_ns);
        }
    }
}

/// What is to be tried.
struct Trials {
    /// What never changes on a disk.
    all: bool,
    clock: bool,
}

/// The type of the file system, and whether its inode numbers last.
pub(super) fn magic(stat: &fs::StatFs) -> (String, bool) {
    #[allow(clippy::cast_sign_loss, reason = "the magic number is 32 bits wide")]
    file_system((stat.f_type as u64) & 0xffff_ffff)
}

/// The folder in which things are tried; removed when it is dropped. Nobody else uses it: two computers
/// may measure one disk at the same time.
struct Bench<'a> {
    root: &'a Root,
    folder: String,
    dir: OwnedFd,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // What is left is removed by a later measurement.
        let _ = remove(self.root, &self.folder);
    }
}

impl Bench<'_> {
    fn new<'a>(root: &'a Root, clock: &dyn Clock) -> Result<Bench<'a>> {
        let folder = format!("{FOLDER}-{:x}-{:x}", clock.now().0, std::process::id());
        let dir = root.control(&folder)?;
        Ok(Bench { root, folder, dir })
    }

    fn names(&self) -> rustix::io::Result<Vec<String>> {
        names_in(&self.dir)
    }

    fn create(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Whether a file of that name is there after it was made, under just that name.
    fn takes(&self, name: &str) -> rustix::io::Result<bool> {
        match self.create(name) {
            Ok(_) => Ok(self.names()?.iter().any(|there| there == name)),
            Err(Errno::INVAL | Errno::ILSEQ | Errno::NAMETOOLONG | Errno::PERM | Errno::ACCESS) => {
                Ok(false)
            }
            Err(errno) => Err(errno),
        }
    }

    fn try_all(&self, facts: &mut DiskFacts) {
        facts.stamps = self.stamps();
        facts.changes = self.changes();
        facts.changes.times = match facts.stamps.grain_ns {
            Known::Is(_) => Known::Is(true),
            Known::Unknown => known(self.sets_times()),
        };
        facts.spelling = Spelling {
            case: known(self.case()),
            forms: known(self.forms()),
            trailing: known(self.trailing()),
            forbidden: match self.forbidden() {
                Ok(chars) => Known::Is(chars),
                Err(_) => Known::Unknown,
            },
            bytes_max: known(self.longest("名")),
            chars_max: known(self.longest("n")),
        };
        if let (Known::Is(wide), Known::Is(narrow)) =
            (facts.spelling.bytes_max, facts.spelling.chars_max)
        {
            facts.spelling.bytes_max = Known::Is(narrow.max(wide * "名".len()));
        }
    }

    // ---- times -----------------------------------------------------------------------------

    fn stamps(&self) -> Stamps {
        let tried = (|| {
            let file = self.create("times")?;
            let times = Timestamps { last_access: ODD_TIME, last_modification: ODD_TIME };
            fs::futimens(&file, &times)?;
            let stat = stat_of(&file)?;
            Ok::<_, Errno>((time_of(stat.stx_mtime), time_of(stat.stx_ctime)))
        })();
        let Ok((mtime_ns, ctime_ns)) = tried else {
            let unknown = Known::Unknown;
            return Stamps { grain_ns: unknown, ahead_ns: unknown, change_times: Known::Unknown };
        };
        let set_ns = ODD_TIME.tv_sec * 1_000_000_000 + ODD_TIME.tv_nsec;
        let grain = GRAINS_NS.into_iter().find(|grain| set_ns - set_ns % grain == mtime_ns);
        Stamps {
            grain_ns: grain.map_or(Known::Unknown, Known::Is),
            ahead_ns: Known::Unknown,
            change_times: Known::Is(ctime_ns != mtime_ns),
        }
    }

    fn sets_times(&self) -> rustix::io::Result<bool> {
        let file = self.create("times")?;
        let times = Timestamps { last_access: ODD_TIME, last_modification: ODD_TIME };
        is_done(fs::futimens(&file, &times))
    }

    /// How far a stamp that was given just now is away from our clock; 0 if the grain of the stamps
    /// explains it.
    fn clock_ahead(&self, clock: &dyn Clock, grain_ns: Known<i64>) -> Known<i64> {
        const TOLERANCE_NS: i64 = 100_000_000;
        let before_ns = clock.now().0;
        let stamped = (|| {
            let file = self.create("clock")?;
            rustix::io::write(&file, b"now")?;
            fs::fsync(&file)?;
            stat_of(&file)
        })();
        let Ok(stat) = stamped else { return Known::Unknown };
        let (after_ns, stamp_ns) = (clock.now().0, time_of(stat.stx_mtime));
        let grain_ns = grain_ns.or(COARSE_NS);
        let earliest = before_ns.saturating_sub(grain_ns).saturating_sub(TOLERANCE_NS);
        let latest = after_ns.saturating_add(TOLERANCE_NS);
        if (earliest..=latest).contains(&stamp_ns) {
            return Known::Is(0);
        }
        Known::Is(stamp_ns.saturating_add(grain_ns / 2).saturating_sub(after_ns))
    }

    // ---- names -----------------------------------------------------------------------------

    fn case(&self) -> rustix::io::Result<CaseRule> {
        self.create("Case")?;
        self.finds("cASE").map(|found| match found {
            true => CaseRule::Insensitive,
            false => CaseRule::Sensitive,
        })
    }

    fn forms(&self) -> rustix::io::Result<FormRule> {
        let (composed, decomposed) = ("form-\u{e9}", "form-e\u{301}");
        self.create(composed)?;
        let is_kept = self.names()?.iter().any(|there| there == composed);
        Ok(match (is_kept, self.finds(decomposed)?) {
            (true, false) => FormRule::Apart,
            (true, true) => FormRule::Alike,
            (false, _) => FormRule::Respelled,
        })
    }

    fn finds(&self, name: &str) -> rustix::io::Result<bool> {
        match look(&self.dir, name) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn trailing(&self) -> rustix::io::Result<bool> {
        Ok(self.takes("dot.")? && self.takes("space ")?)
    }

    fn forbidden(&self) -> rustix::io::Result<String> {
        let mut refused = String::new();
        if !self.takes(&format!("all {SUSPECTS} of them"))? {
            for suspect in SUSPECTS.chars() {
                if !self.takes(&format!("one {suspect} of them"))? {
                    refused.push(suspect);
                }
            }
        }
        if !self.takes("control\tand\nothers\u{1}\u{7f} too")? {
            refused.extend(AsciiSet::CONTROLS.chars());
        }
        Ok(refused)
    }

    /// The longest name of so many times one character, of those that are worth a try.
    fn longest(&self, of: &str) -> rustix::io::Result<usize> {
        let mut longest = 0;
        for length in LENGTHS.into_iter().rev() {
            let times = length / of.len();
            if self.takes(&of.repeat(times))? {
                longest = times;
                break;
            }
        }
        if longest == 0 { Err(Errno::NAMETOOLONG) } else { Ok(longest) }
    }

    // ---- changes ---------------------------------------------------------------------------

    fn changes(&self) -> Changes {
        Changes {
            modes: known(self.keeps_modes()),
            times: Known::Unknown,
            noreplace: known(self.renames("moving", RenameFlags::NOREPLACE)),
            exchange: known(self.exchanges()),
            hard_links: known(self.links()),
        }
    }

    fn keeps_modes(&self) -> rustix::io::Result<bool> {
        let file = self.create("mode")?;
        let wanted = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        if !is_done(fs::fchmod(&file, wanted))? {
            return Ok(false);
        }
        let mode = Mode::from_raw_mode(u32::from(stat_of(&file)?.stx_mode) & 0o777);
        Ok(mode == wanted)
    }

    fn renames(&self, name: &str, flags: RenameFlags) -> rustix::io::Result<bool> {
        self.create(name)?;
        let to = format!("{name}-there");
        is_done(fs::renameat_with(&self.dir, name, &self.dir, &to, flags))
    }

    fn exchanges(&self) -> rustix::io::Result<bool> {
        self.create("exchange-there")?;
        self.renames("exchange", RenameFlags::EXCHANGE)
    }

    fn links(&self) -> rustix::io::Result<bool> {
        self.create("link")?;
        let dir = self.dir.as_fd();
        is_done(fs::linkat(dir, "link", dir, "link-there", AtFlags::empty()))
    }
}

/// When the trials in a folder of that name were begun.
fn begun(name: &str) -> Option<Timestamp> {
    let (at, _) = name.strip_prefix(FOLDER)?.strip_prefix('-')?.split_once('-')?;
    i64::from_str_radix(at, 16).ok().map(Timestamp)
}

fn remove(root: &Root, folder: &str) -> Result<()> {
    let dir = root.control(folder)?;
    let fail = |errno| failure("remove", folder, errno);
    for name in names_in(&dir).map_err(fail)? {
        fs::unlinkat(&dir, name.as_str(), AtFlags::empty()).map_err(fail)?;
    }
    let path = format!("{CONTROL_DIR}/{folder}");
    fs::unlinkat(root.fd(), path, AtFlags::REMOVEDIR).map_err(fail)
}

fn names_in(dir: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let names = names(dir)?;
    Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
}

fn known<T>(tried: rustix::io::Result<T>) -> Known<T> {
    tried.map_or(Known::Unknown, Known::Is)
}

/// Whether a change was made, or refused because the disk has no such thing.
fn is_done(done: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(errno) if is_refused(errno) || errno == Errno::MLINK => Ok(false),
        Err(errno) => Err(errno),
    }
}
