//! Times: what a disk makes of those that it is given, and what it shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Timespec;

const NANOS: i128 = 1_000_000_000;

/// How a disk keeps times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// Times are whole multiples of this, cut off.
    pub(crate) step: Duration,
    /// The change time is the modification time.
    pub(crate) no_change_time: bool,
    /// So many seconds is the disk's clock ahead of ours (behind: negative). Times that the disk
    /// takes from its clock differ by that; times that it is told stay as told.
    pub(crate) clock_ahead: i64,
}

impl Default for Stamps {
    fn default() -> Stamps {
        Stamps { step: Duration::from_nanos(1), no_change_time: false, clock_ahead: 0 }
    }
}

/// Which birth times a disk shows. fuser does not answer for them; for those that show some, a relay
/// before it does (`births.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Births {
    #[default]
    Unknown,
    ToTenMilliseconds,
    ToTheNanosecond,
}

impl Stamps {
    /// What is shown for a time kept behind.
    pub(crate) fn shown(&self, kept: Timespec) -> Timespec {
        let exact = nanos(kept) + i128::from(self.clock_ahead) * NANOS;
        cut(exact, self.step)
    }

    /// What is to be kept behind so that this is shown.
    pub(crate) fn kept(&self, told: Timespec) -> Timespec {
        let cut = cut(nanos(told), self.step);
        Timespec { tv_sec: cut.tv_sec - self.clock_ahead, ..cut }
    }
}

impl Births {
    pub(crate) fn shown(self, kept: Timespec) -> Timespec {
        match self {
            Births::Unknown | Births::ToTheNanosecond => kept,
            Births::ToTenMilliseconds => cut(nanos(kept), Duration::from_millis(10)),
        }
    }
}

/// Both directions of the types of `std`; fuser's conversion of times before 1970 with a fraction is
/// corrected (it takes the fraction from the wrong end).
pub(crate) fn from_fuser(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => timespec(i128::try_from(after.as_nanos()).unwrap()),
        Err(error) => {
            let before = error.duration();
            Timespec {
                tv_sec: -i64::try_from(before.as_secs()).unwrap(),
                tv_nsec: i64::from(before.subsec_nanos()),
            }
        }
    }
}

pub(crate) fn to_fuser(time: Timespec) -> SystemTime {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole = if time.tv_sec < 0 { UNIX_EPOCH - seconds } else { UNIX_EPOCH + seconds };
    whole + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

fn cut(exact: i128, step: Duration) -> Timespec {
    let step = i128::try_from(step.as_nanos()).unwrap();
    timespec(exact.div_euclid(step) * step)
}

fn nanos(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * NANOS + i128::from(time.tv_nsec)
}

fn timespec(nanos: i128) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanos.div_euclid(NANOS)).unwrap(),
        tv_nsec: i64::try_from(nanos.rem_euclid(NANOS)).unwrap(),
    }
}
