//! The last events, numbered, for whoever follows along. Old ones are dropped, and that is said.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::status::{Degraded, Moment, State};
use crate::clock::Timestamp;
use crate::engine::report::OpReport;

/// Events that are kept.
pub const EVENTS_MAX: usize = 1024;

/// Something a client may want to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Happening {
    State {
        pair: String,
        from: State,
        to: State,
    },
    Operation {
        pair: String,
        report: OpReport,
    },
    Conflict {
        pair: String,
        path: String,
        copy: String,
    },
    /// `held` is the number that `held approve` takes.
    Held {
        pair: String,
        held: i64,
        count: u64,
    },
    Degraded {
        pair: String,
        reasons: Vec<Degraded>,
    },
    CycleEnded {
        pair: String,
        exit: u8,
    },
    Reloaded,
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps, anew with each start of the daemon.
    pub id: u64,
    pub at: Moment,
    #[serde(flatten)]
    pub happening: Happening,
}

/// Events after a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub events: Vec<Event>,
    /// The number to ask with next.
    pub next: u64,
    /// Events between were dropped, or the number is one of an earlier start: ask for the status.
    pub missed: bool,
}

pub struct EventLog {
    kept: Mutex<VecDeque<Event>>,
    /// Number of the newest event.
    newest: watch::Sender<u64>,
    max: usize,
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog::new(EVENTS_MAX)
    }
}

impl EventLog {
    pub fn new(max: usize) -> EventLog {
        EventLog { kept: Mutex::default(), newest: watch::Sender::new(0), max: max.max(1) }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits.
    pub fn push(&self, happening: Happening, now: Timestamp) {
        let mut kept = self.kept();
        let id = *self.newest.borrow() + 1;
        if kept.len() >= self.max {
            kept.pop_front();
        }
        kept.push_back(Event { id, at: Moment(now), happening });
        self.newest.send_replace(id);
    }

    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What came after `since`, at most `limit` events.
    pub fn after(&self, since: u64, limit: usize) -> Batch {
        let kept = self.kept();
        let newest = self.newest();
        let is_foreign = since > newest;
        let since = if is_foreign { 0 } else { since };
        let first = kept.front().map_or(newest + 1, |event| event.id);
        let events: Vec<Event> =
            kept.iter().filter(|event| event.id > since).take(limit).cloned().collect();
        let next = events.last().map_or(newest, |event| event.id);
        Batch { events, next, missed: is_foreign || since + 1 < first }
    }

    /// Returns once there is an event after `since`; at once if `since` is of an earlier start.
    pub async fn wait(&self, since: u64) {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as `self`.
        let _ = newest.wait_for(|newest| *newest != since).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: u64, max: usize) -> EventLog {
        let log = EventLog::new(max);
        for second in 0..count {
            log.push(Happening::Reloaded, Timestamp::from_seconds(second.cast_signed()));
        }
        log
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn what_is_told_of_held_deletions_can_be_read_again() {
        let happening = Happening::Held { pair: "docs".to_owned(), held: 7, count: 40 };
        let event = Event { id: 1, at: Moment(Timestamp::from_seconds(0)), happening };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
    }

    #[test]
    fn a_client_that_asks_with_next_sees_every_event_once() {
        let log = log(10, 100);
        let (mut since, mut seen) = (0, Vec::new());
        while since < 10 {
            let batch = log.after(since, 3);
            assert!(!batch.missed);
            seen.extend(ids(&batch));
            since = batch.next;
        }
        assert_eq!(seen, (1..=10).collect::<Vec<u64>>());
        assert_eq!(log.after(10, 3), Batch { events: Vec::new(), next: 10, missed: false });
    }

    #[test]
    fn dropped_events_are_said_to_be_missed() {
        let log = log(10, 4);
        let batch = log.after(5, 100);
        assert_eq!((ids(&batch), batch.missed), (vec![7, 8, 9, 10], true));
        assert!(!log.after(6, 100).missed);
    }

    #[test]
    fn a_number_of_an_earlier_start_is_found_out() {
        let batch = log(2, 10).after(500, 100);
        assert_eq!((ids(&batch), batch.next, batch.missed), (vec![1, 2], 2, true));
    }

    #[test]
    fn an_event_is_flat_json() {
        let log = EventLog::default();
        let (from, to) = (State::Idle, State::Syncing);
        log.push(
            Happening::State { pair: "docs".to_owned(), from, to },
            Timestamp::from_seconds(0),
        );
        let json = serde_json::to_value(log.after(0, 10)).unwrap();
        let expected = serde_json::json!({
            "events": [{"id": 1, "at": "1970-01-01T00:00:00Z", "type": "state", "pair": "docs",
                        "from": "idle", "to": "syncing"}],
            "next": 1, "missed": false,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Batch>(json).unwrap(), log.after(0, 10));
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_next_event() {
        let log = std::sync::Arc::new(log(3, 10));
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait(3).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        log.push(Happening::Stopping, Timestamp::default());
        waiting.await.unwrap();
        log.wait(99).await;
    }
}
