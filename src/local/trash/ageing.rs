//! How old what is in the trash is: by time that surely went by, not only by what labels say.
//!
//! Owns the rule and the text of the ledger; reads no clock and no disk. A wall clock may jump by years
//! in either direction, and labels were written by such a clock. So a run folder is due only if its
//! label is old enough by the present clock and enough time was counted for it as well.
//!
//! Time counts at once where the computer's uptime proves it: since the last ageing it was not started
//! anew. Over a start only the wall clock tells. What it tells counts up to `UNPROVEN_MAX_S` for each
//! step, and only once a later start, or a day without another jump, has confirmed that clock: a single
//! run with a wrong clock counts nothing. (SF-14)

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, Uptime};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// A clock that is set right by less is no news.
const TOLERANCE_S: u64 = HOUR_S;
/// Enough for a computer that is switched on once a week.
const UNPROVEN_MAX_S: u64 = 8 * DAY_S;
/// A computer that was off for longer than this is less likely than a wrong clock.
const OFF_MAX_S: u64 = 60 * DAY_S;
/// A ledger that only grew older by less need not be written.
const WRITE_EVERY_S: u64 = HOUR_S;

/// What the clocks say at an ageing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) wall: Timestamp,
    pub(super) uptime: Option<Uptime>,
}

/// A wall clock that disagrees with the time that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    pub seconds: u64,
    pub ahead: bool,
}

impl fmt::Display for ClockJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (amount, unit) = match self.seconds {
            s if s >= 2 * DAY_S => (s / DAY_S, "days"),
            s => (s / HOUR_S, "hours"),
        };
        let way = if self.ahead { "ahead" } else { "back" };
        write!(f, "the clock went {way} by {amount} {unit} since the trash was last looked at")
    }
}

/// What has been counted so far, and when that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    wall_s: i64,
    #[serde(default)]
    boot: Option<String>,
    #[serde(default)]
    uptime_s: u64,
    /// By label.
    runs: BTreeMap<String, Counted>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    surely_s: u64,
    /// Counts once the clock is confirmed.
    #[serde(default)]
    perhaps_s: u64,
}

/// The outcome of one ageing.
pub(super) struct Aged {
    pub(super) ledger: Ledger,
    /// The labels of the run folders that are to go.
    pub(super) due: Vec<String>,
    pub(super) jump: Option<ClockJump>,
    /// Whether the ledger says more than the one before that cannot be told from it.
    pub(super) is_news: bool,
}

/// What one step adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    surely_s: u64,
    perhaps_s: u64,
    /// What becomes of what counted perhaps.
    earlier: Earlier,
    jump: Option<ClockJump>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Earlier {
    #[default]
    Waits,
    Counts,
    Dropped,
}

impl Ledger {
    /// Counts the time since `before` for every run folder that was there then. Those that were not
    /// begin at nothing, and so do all where there is no ledger.
    pub(super) fn age(
        before: Option<&Ledger>,
        runs: &[(String, Option<Timestamp>)],
        now: &Reading,
        keep: Duration,
    ) -> Aged {
        let step = before.map(|before| before.step(now)).unwrap_or_default();
        let counted = |label: &String| {
            let known = before.and_then(|before| before.runs.get(label));
            known.map_or_else(Counted::default, |known| known.plus(step))
        };
        let ledger = Ledger {
            wall_s: now.wall.seconds(),
            boot: now.uptime.as_ref().map(|uptime| uptime.boot.clone()),
            uptime_s: now.uptime.as_ref().map_or(0, |uptime| uptime.seconds),
            runs: runs.iter().map(|(label, _)| (label.clone(), counted(label))).collect(),
        };
        let is_due = |label: &String, since: &Option<Timestamp>| {
            let by_label = since.is_some_and(|since| now.wall.since(since) > keep);
            let counted = ledger.runs.get(label).map_or(0, |counted| counted.surely_s);
            by_label && Duration::from_secs(counted) > keep
        };
        let due = runs.iter().filter(|(label, since)| is_due(label, since));
        let due: Vec<String> = due.map(|(label, _)| label.clone()).collect();
        let is_news = before.is_none_or(|before| {
            !before.runs.keys().eq(ledger.runs.keys())
                || before.boot != ledger.boot
                || step.jump.is_some()
                || step.surely_s.max(step.perhaps_s) >= WRITE_EVERY_S
        });
        Aged { ledger, due, jump: step.jump, is_news }
    }

    pub(super) fn forget(&mut self, label: &str) {
        self.runs.remove(label);
    }

    fn step(&self, now: &Reading) -> Step {
        let wall_s = now.wall.seconds().saturating_sub(self.wall_s);
        let same_boot = now.uptime.as_ref().filter(|uptime| {
            self.boot.as_ref() == Some(&uptime.boot) && uptime.seconds >= self.uptime_s
        });
        match same_boot {
            Some(uptime) => proven(wall_s, uptime.seconds - self.uptime_s, uptime.seconds),
            None => unproven(wall_s),
        }
    }
}

fn proven(wall_s: i64, surely_s: u64, uptime_s: u64) -> Step {
    let off_s = wall_s.saturating_sub(i64::try_from(surely_s).unwrap_or(i64::MAX));
    let jump = jump(off_s);
    let earlier = match jump {
        Some(_) => Earlier::Dropped,
        None if uptime_s >= DAY_S => Earlier::Counts,
        None => Earlier::Waits,
    };
    Step { surely_s, perhaps_s: 0, earlier, jump }
}

fn unproven(wall_s: i64) -> Step {
    match u64::try_from(wall_s) {
        Ok(ahead_s) => {
            let jump = (ahead_s > OFF_MAX_S).then_some(ClockJump { seconds: ahead_s, ahead: true });
            let earlier = if jump.is_some() { Earlier::Dropped } else { Earlier::Counts };
            Step { surely_s: 0, perhaps_s: ahead_s.min(UNPROVEN_MAX_S), earlier, jump }
        }
        Err(_) => Step { earlier: Earlier::Dropped, jump: jump(wall_s), ..Step::default() },
    }
}

fn jump(off_s: i64) -> Option<ClockJump> {
    let jump = ClockJump { seconds: off_s.unsigned_abs(), ahead: off_s > 0 };
    (jump.seconds > TOLERANCE_S).then_some(jump)
}

impl Counted {
    fn plus(self, step: Step) -> Counted {
        let (confirmed_s, waiting_s) = match step.earlier {
            Earlier::Waits => (0, self.perhaps_s),
            Earlier::Counts => (self.perhaps_s, 0),
            Earlier::Dropped => (0, 0),
        };
        Counted {
            surely_s: self.surely_s.saturating_add(step.surely_s).saturating_add(confirmed_s),
            perhaps_s: waiting_s.saturating_add(step.perhaps_s),
        }
    }
}

#[cfg(test)]
mod tests;
