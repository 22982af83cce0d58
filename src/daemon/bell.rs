//! What other programs are told of a pair, and when: each thing once.
//!
//! Compares what the pair says with what was told before. Never waits, and decides nothing else.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::hooks::{Call, DeadMan, Hook, Hooks, Occasion};
use super::status::{HeldItem, Moment, OpCount, PairStatus, State};
use crate::clock::Timestamp;
use crate::engine::report::OpReport;
use crate::text::{counted, duration};

pub(super) struct Bell {
    pair: String,
    started: Timestamp,
    memory: Mutex<Memory>,
}

struct Memory {
    hooks: Vec<Hook>,
    /// `None` once the pair is not kept any more.
    ringing: Option<Hooks>,
    alert_after: Option<Duration>,
    dead_man: Option<DeadMan>,
    held: BTreeSet<(i64, Moment)>,
    /// Told since the pair last came to rest: a retry that fails in the same way is nothing new.
    raised: Vec<Occasion>,
    cycles: u64,
    operations: Vec<OpCount>,
}

impl Bell {
    /// Must be called on a tokio runtime. What `status` says already is nothing new.
    pub(super) fn new(
        status: &PairStatus,
        hooks: Vec<Hook>,
        alert_after: Option<Duration>,
        now: Timestamp,
    ) -> Bell {
        let memory = Memory {
            ringing: Some(start(&hooks)),
            hooks,
            alert_after,
            dead_man: alert_after.map(DeadMan::new),
            held: keys(&status.held),
            raised: Vec::new(),
            cycles: status.totals.cycles,
            operations: Vec::new(),
        };
        Bell { pair: status.name.clone(), started: now, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing in here is left half done by a panic that would matter to the next call.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn alert_after(&self) -> Option<Duration> {
        self.memory().alert_after
    }

    /// Other hooks from now on. Those that are running come to their end.
    pub(super) fn rehang(&self, hooks: Vec<Hook>, alert_after: Option<Duration>) {
        let mut memory = self.memory();
        if memory.alert_after != alert_after {
            memory.alert_after = alert_after;
            memory.dead_man = alert_after.map(DeadMan::new);
        }
        if memory.hooks == hooks {
            return;
        }
        let longest = memory.hooks.iter().map(|hook| hook.limit).max().unwrap_or_default();
        let old = memory.ringing.replace(start(&hooks));
        memory.hooks = hooks;
        drop(memory);
        if let Some(old) = old {
            tokio::spawn(old.close(longest));
        }
    }

    /// Lets what was told come to its end, but no longer than `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        let ringing = self.memory().ringing.take();
        if let Some(hooks) = ringing {
            hooks.close(limit).await;
        }
    }

    pub(super) fn conflict(&self, report: &OpReport, copy: &str, now: Timestamp) {
        let message = format!("{}: our version was kept as {copy}", report.path);
        let detail = json!({"path": report.path, "copy": copy, "rule": report.why});
        self.ring(&self.memory(), Occasion::OnConflict, now, message, detail);
    }

    /// Tells what is new in a status.
    pub(super) fn hear(&self, status: &PairStatus, now: Timestamp) {
        let mut memory = self.memory();
        if status.totals.cycles > memory.cycles {
            memory.cycles = status.totals.cycles;
            memory.raised.clear();
            self.cycle_ended(&mut memory, status, now);
        }
        let held = keys(&status.held);
        for item in &status.held {
            if !memory.held.contains(&(item.id, item.created)) {
                let detail = json!({"id": item.id, "kind": item.kind, "count": item.count});
                self.ring(&memory, Occasion::OnHold, now, hold_message(item), detail);
            }
        }
        memory.held = held;
        let on = match status.state {
            State::AuthExpired => Occasion::OnAuthExpired,
            State::Error => Occasion::OnError,
            // A guard that leaves nothing to approve, such as a disk that is not there.
            State::Held if status.held.is_empty() || status.message.is_some() => Occasion::OnHold,
            State::Held
            | State::Idle
            | State::Scanning
            | State::Planning
            | State::Syncing
            | State::Waiting
            | State::Paused
            | State::Offline => return,
        };
        if !memory.raised.contains(&on) {
            memory.raised.push(on);
            let word = status.state.word();
            let message = status.message.clone().unwrap_or_else(|| word.to_owned());
            let detail = json!({"state": status.state, "remote": status.remote.name});
            self.ring(&memory, on, now, message, detail);
        }
    }

    fn cycle_ended(&self, memory: &mut Memory, status: &PairStatus, now: Timestamp) {
        let before = |count: &OpCount| {
            let known = |known: &&OpCount| (known.op, known.result) == (count.op, count.result);
            memory.operations.iter().find(known).map_or(0, |known| known.count)
        };
        let visible = status.totals.operations.iter().filter(|count| count.op.is_visible());
        let done: Vec<OpCount> = visible
            .map(|count| OpCount { count: count.count - before(count).min(count.count), ..*count })
            .filter(|count| count.count > 0)
            .collect();
        memory.operations.clone_from(&status.totals.operations);
        let total: u64 = done.iter().map(|count| count.count).sum();
        if total == 0 {
            return;
        }
        let detail = json!({
            "operations": done,
            "exit": status.exit().code(),
            "failed": status.failed_total,
            "conflicts": status.conflicts,
            "held": status.held.len(),
        });
        let message = counted(total, "operation");
        self.ring(memory, Occasion::AfterCycle, now, message, detail);
    }

    /// What a person should be told of a pair that has not succeeded for too long.
    pub(super) fn silence(&self, status: &PairStatus, now: Timestamp) -> Option<String> {
        let memory = self.memory();
        let dead_man = memory.dead_man.as_ref()?;
        let (last, started) = self.life(status, now, memory.alert_after)?;
        dead_man.silence(last, started, now).map(silence_message)
    }

    /// Tells it other programs, the first time. True if it was.
    pub(super) fn watch_over(&self, status: &PairStatus, now: Timestamp) -> bool {
        let mut memory = self.memory();
        let Some((last, started)) = self.life(status, now, memory.alert_after) else {
            return false;
        };
        let silent = memory.dead_man.as_mut().and_then(|man| man.check(last, started, now));
        if let Some(silent) = silent {
            let detail = json!({
                "state": status.state,
                "silent_s": silent.as_secs(),
                "last_success": status.last_success,
            });
            self.ring(&memory, Occasion::OnError, now, silence_message(silent), detail);
        }
        silent.is_some()
    }

    /// Since when a success is owed, if one is: a person who paused the pair wants none, and a start
    /// after a long time gets the time to look first.
    fn life(
        &self,
        status: &PairStatus,
        now: Timestamp,
        alert_after: Option<Duration>,
    ) -> Option<(Option<Timestamp>, Timestamp)> {
        let had_its_chance = match status.state {
            State::Paused => return None,
            State::Held | State::Offline | State::AuthExpired | State::Error => true,
            State::Idle | State::Scanning | State::Planning | State::Syncing | State::Waiting => {
                status.totals.cycles > 0
                    || alert_after.is_some_and(|after| now.since(self.started) >= after)
            }
        };
        had_its_chance.then_some((status.last_success.map(|moment| moment.0), self.started))
    }

    fn ring(
        &self,
        memory: &Memory,
        on: Occasion,
        now: Timestamp,
        message: String,
        detail: serde_json::Value,
    ) {
        if let Some(hooks) = &memory.ringing
            && memory.hooks.iter().any(|hook| hook.on == on)
        {
            let pair = self.pair.clone();
            hooks.fire(Call { on, pair, at: Moment(now), message, detail });
        }
    }
}

fn start(hooks: &[Hook]) -> Hooks {
    Hooks::start(hooks.to_vec(), std::env::vars_os().collect())
}

fn keys(held: &[HeldItem]) -> BTreeSet<(i64, Moment)> {
    held.iter().map(|item| (item.id, item.created)).collect()
}

fn hold_message(held: &HeldItem) -> String {
    let (what, kind, id) = (held.what(), &held.kind, held.id);
    format!("held: {what} ({kind}). Approve with: foldsync held show {id}")
}

fn silence_message(silent: Duration) -> String {
    format!("nothing was synced successfully for {}", duration(silent))
}

#[cfg(test)]
mod tests;
