//! How fast bytes and operations go, from what went lately. Time comes in; nothing here reads a clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

/// Bytes per second over the last seconds, whether or not anything was under way: idle is 0.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Bytes by the second in which they went, oldest first.
    slots: VecDeque<(i64, u64)>,
    /// When they began to go, after a time without.
    began: Timestamp,
}

impl Rate {
    /// What is smoothed over.
    pub(super) const SPAN_S: i64 = 10;

    pub(super) fn add(&mut self, now: Timestamp, bytes: u64) {
        let second = now.seconds();
        // A clock that was set back must not keep old bytes in sight.
        self.slots.retain(|(at, _)| *at <= second && second - *at < Rate::SPAN_S);
        if self.slots.is_empty() {
            self.began = now;
        }
        match self.slots.back_mut() {
            Some((at, sum)) if *at == second => *sum += bytes,
            Some(_) | None => self.slots.push_back((second, bytes)),
        }
    }

    pub(super) fn per_second(&self, now: Timestamp) -> u64 {
        let oldest = now.seconds() - Rate::SPAN_S + 1;
        let recent = |at: i64| (oldest..=now.seconds()).contains(&at);
        let bytes: u64 =
            self.slots.iter().filter(|(at, _)| recent(*at)).map(|(_, bytes)| bytes).sum();
        let since = self.began.max(Timestamp::from_seconds(oldest));
        (bytes as f64 / now.since(since).max(SECOND).as_secs_f64()) as u64
    }
}

/// How much is done per second of work: time in which nothing of the kind was under way does not
/// count, time in which it was and nothing moved does.
#[derive(Debug, Default)]
pub(super) struct Effort {
    slots: VecDeque<Slot>,
    under_way: u32,
    /// Until when work is accounted for.
    at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    second: i64,
    busy: Duration,
    /// Below zero where something was taken back.
    amount: i64,
}

impl Effort {
    /// Seconds with work in them that are remembered.
    const SLOTS_MAX: usize = 60;
    /// After less work than this nothing can be said.
    const MIN: Duration = Duration::from_secs(2);

    pub(super) fn begin(&mut self, now: Timestamp) {
        self.advance(now);
        self.under_way += 1;
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.advance(now);
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Takes in that time has passed.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let memory = SECOND * Effort::SLOTS_MAX as u32;
        let is_working = self.under_way > 0;
        let worked = if is_working { now.since(self.at).min(memory) } else { Duration::ZERO };
        let mut at = Timestamp(now.0.saturating_sub(nanoseconds(worked)));
        while at < now {
            let next = Timestamp::from_seconds(at.seconds() + 1).min(now);
            self.slot(at.seconds()).busy += next.since(at);
            at = next;
        }
        self.at = now;
    }

    /// Something was done, or was taken back.
    pub(super) fn add(&mut self, amount: i64) {
        let second = self.at.seconds();
        let slot = self.slot(second);
        slot.amount = slot.amount.saturating_add(amount);
    }

    fn slot(&mut self, second: i64) -> &mut Slot {
        if self.slots.back().is_none_or(|last| last.second != second) {
            if self.slots.len() >= Effort::SLOTS_MAX {
                self.slots.pop_front();
            }
            self.slots.push_back(Slot { second, busy: Duration::ZERO, amount: 0 });
        }
        self.slots.back_mut().expect("one was just put there")
    }

    /// `None` while it is not known.
    pub(super) fn per_second(&self) -> Option<f64> {
        let busy: Duration = self.slots.iter().map(|slot| slot.busy).sum();
        let amount: i64 = self.slots.iter().map(|slot| slot.amount).sum();
        (busy >= Effort::MIN && amount > 0).then(|| amount as f64 / busy.as_secs_f64())
    }
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp(1_795_248_000_000_000_000 + (seconds * 1e9) as i64)
    }

    #[test]
    fn a_steady_flow_has_its_rate_and_falls_to_0_when_it_ends() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(0.0)), 0);
        for tenth in 0..=600 {
            rate.add(at(f64::from(tenth) / 10.0), 100);
        }
        let steady = rate.per_second(at(60.0));
        assert!((980..=1120).contains(&steady), "{steady}");
        let falling: Vec<u64> =
            (61..=70).map(|second| rate.per_second(at(f64::from(second)))).collect();
        assert!(falling.is_sorted_by(|a, b| a > b) && falling[0] < steady, "{falling:?}");
        assert_eq!(falling[9], 0);
    }

    #[test]
    fn the_first_second_is_not_taken_for_ten_and_not_for_less_than_one() {
        let mut rate = Rate::default();
        rate.add(at(0.5), 1000);
        assert_eq!(rate.per_second(at(0.5)), 1000);
        rate.add(at(2.5), 1000);
        assert_eq!(rate.per_second(at(2.5)), 1000);
        // After a pause it begins anew.
        rate.add(at(100.0), 500);
        assert_eq!(rate.per_second(at(100.5)), 500);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_old_flow_and_nothing_else() {
        let mut rate = Rate::default();
        rate.add(at(500.0), 1_000_000);
        assert_eq!(rate.per_second(at(0.0)), 0);
        rate.add(at(0.0), 10);
        assert_eq!(rate.per_second(at(1.0)), 10);
        let mut effort = Effort::default();
        effort.begin(at(500.0));
        effort.advance(at(0.0));
        effort.add(100);
        effort.advance(at(10.0));
        assert_eq!(effort.per_second(), Some(10.0));
    }

    #[test]
    fn only_time_with_work_counts_and_a_stall_is_such_time() {
        let mut effort = Effort::default();
        effort.begin(at(0.0));
        effort.advance(at(1.0));
        effort.add(1000);
        assert_eq!(effort.per_second(), None, "nothing is said after one second");
        effort.end(at(4.0));
        assert_eq!(effort.per_second(), Some(250.0));
        effort.begin(at(1000.0));
        assert_eq!(effort.per_second(), Some(250.0));
        effort.advance(at(1004.0));
        assert_eq!(effort.per_second(), Some(125.0));
        effort.advance(at(9000.0));
        assert_eq!(effort.per_second(), None, "a minute without progress leaves nothing to say");
    }

    #[test]
    fn what_is_taken_back_was_no_progress() {
        let mut effort = Effort::default();
        effort.begin(at(0.0));
        effort.advance(at(10.0));
        effort.add(5000);
        effort.add(-4000);
        assert_eq!(effort.per_second(), Some(100.0));
        effort.add(-4000);
        assert_eq!(effort.per_second(), None);
    }
}
