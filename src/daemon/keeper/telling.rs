//! What a keeper says of its pair: to people, through the status, and to the log.

use std::time::Duration;

use super::{Desk, Keeper, PUBLISH_EVERY, Refusal};
use crate::clock::Timestamp;
use crate::daemon::health::Vitals;
use crate::daemon::status::{Moment, PairStatus, Pending, Progress, State, Watch};
use crate::drive::Driver;
use crate::engine::{Records, Sight, Summary};
use crate::local::watch::Degraded;
use crate::pair::Sides;
use crate::store::{HeldState, Store};

/// How old what is said of lasting failures may be while a pair is at work.
const RECORDS_EVERY_S: i64 = 5;

impl Keeper {
    /// The state as it is now; `done` is how a cycle ended.
    pub(super) fn publish(
        &self,
        driver: &Driver,
        sides: &Sides,
        desk: &mut Desk,
        done: Option<&Summary>,
    ) {
        let (engine, now) = (&driver.engine, sides.clock.now());
        let state = match (self.pause.is_on(), engine.activity(), done) {
            (true, _, _) => State::Paused,
            (false, _, Some(summary)) if summary.held > 0 => State::Held,
            (false, _, Some(_)) => State::Idle,
            (false, activity, None) => activity.into(),
        };
        let told = desk.published.is_some_and(|(last, at)| {
            last == state && done.is_none() && now.since(at) < PUBLISH_EVERY
        });
        desk.untold = told;
        if told {
            return;
        }
        desk.published = Some((state, now));
        let pending = engine.pending();
        let meter = &self.settings.pair.meter;
        if done.is_some() {
            meter.rest()
        } else {
            meter.expect(pending.into())
        }
        let at_rest = done.is_some() || state == State::Waiting;
        // A pair that does not rest for long has failures, too.
        let recorded = (engine.troubles(), now.seconds() / RECORDS_EVERY_S);
        let is_news = std::mem::replace(&mut desk.recorded, recorded) != recorded;
        let records = (at_rest || is_news).then(|| engine.records());
        let sight = engine.sight();
        desk.observe(&sight, sides.remote.clock_skew_s(), records.as_ref(), done.is_some());
        let desk = &*desk;
        self.status.send_modify(|status| {
            status.enter(state, now);
            status.message = None;
            status.paused_until = self.pause.ends().map(Moment);
            status.next_poll = Some(Moment(desk.next_poll));
            status.pending = pending.into();
            let totals = engine.totals();
            status.totals.requests = desk.earlier.requests + sides.remote.requests();
            let ended = totals.operations().saturating_sub(desk.ended_at_rest);
            let left = status.pending.operations();
            status.progress = (left > 0).then(|| Progress {
                done: ended,
                total: ended + left,
                ..Progress::default()
            });
            if let Some(watcher) = &desk.watcher {
                let watched = watcher.state();
                status.totals.watch_events = desk.earlier.watch_events + watched.events;
                status.totals.watch_overflows = desk.earlier.watch_overflows + watched.overflows;
            }
            status.local.watch =
                if desk.vitals.polling.is_some() { Watch::Polling } else { Watch::Watching };
            if sight.complete {
                status.remote.listing_at = sight.oldest.map(Moment);
            }
            let vitals = Vitals {
                listing_age: self.listing_age(status, now),
                listing_age_max: self.listing_age_max(sight.round),
                ..desk.vitals.clone()
            };
            (status.degraded, status.notes) = vitals.judge();
            if let Some(records) = records {
                status.set_failed(records.failures);
                status.set_held(records.held);
            }
            if let Some(summary) = done {
                settle_status(status, summary, sight.complete, now);
            }
        });
    }

    /// Says it to people, and to the log the first time.
    pub(super) fn tell_refusal(&mut self, refusal: Refusal) {
        let now = self.now();
        if self.refused.as_ref() != Some(&refusal) {
            tracing::warn!(
                pair = self.name(),
                state = refusal.state.word(),
                error = refusal.message,
                "the pair cannot run"
            );
            self.refused = Some(refusal.clone());
        }
        // A guard that stopped the pair at its start wrote down what a person can approve.
        let store = Store::open_records(&self.settings.database).ok().flatten();
        let held = store.and_then(|store| store.held(&[HeldState::Pending]).ok());
        self.settings.pair.meter.rest();
        self.status.send_modify(|status| {
            status.enter(refusal.state, now);
            status.message = Some(refusal.message);
            status.set_held(held.unwrap_or_default());
            status.pending = Pending::default();
            status.progress = None;
            status.local.watch = Watch::Off;
            status.next_poll = None;
            let vitals = Vitals {
                listing_age: self.listing_age(status, now),
                listing_age_max: self.listing_age_max(Duration::ZERO),
                ..Vitals::default()
            };
            (status.degraded, status.notes) = vitals.judge();
        });
    }

    fn listing_age(&self, status: &PairStatus, now: Timestamp) -> Duration {
        now.since(status.remote.listing_at.map_or(self.began, |at| at.0))
    }

    /// A listing that is older should have been replaced long ago.
    fn listing_age_max(&self, round: Duration) -> Duration {
        3 * (self.settings.poll + round)
    }

    pub(super) fn tell_pause(&self) {
        let now = self.now();
        self.status.send_modify(|status| {
            status.enter(State::Paused, now);
            status.paused_until = self.pause.ends().map(Moment);
        });
    }
}

impl Desk {
    /// What the sides show without being asked; at rest also what they refused.
    fn observe(
        &mut self,
        sight: &Sight,
        skew_s: Option<i64>,
        records: Option<&Records>,
        is_at_rest: bool,
    ) {
        if let Some(watcher) = &self.watcher {
            let watched = watcher.state();
            let advice = watched.advice().map(|advice| format!("; to lift it: {advice}"));
            self.vitals.polling = watched.degraded.map(|Degraded::Polling { reason }| {
                format!("polling: {reason}{}", advice.unwrap_or_default())
            });
        }
        self.vitals.lags = sight.lags;
        self.vitals.skew_s = skew_s;
        if let Some(records) = records {
            // A side that had no room has some only when a whole cycle met no lack of it.
            for (full, now) in self.vitals.full.iter_mut().zip(records.full) {
                *full = now || (*full && !is_at_rest);
            }
        }
    }
}

fn settle_status(status: &mut PairStatus, summary: &Summary, complete: bool, now: Timestamp) {
    status.local.files = summary.files;
    status.local.bytes = summary.bytes;
    status.conflicts = summary.conflicts;
    status.set_skipped(&summary.skipped);
    status.set_left_out(&summary.notes);
    // A cycle that was cut off proves nothing.
    if summary.stop.is_some() {
        return;
    }
    status.remote.listing_complete = complete;
    status.totals.cycles += 1;
    if summary.failed == 0 && summary.held == 0 && complete {
        status.last_success = Some(Moment(now));
    }
}
