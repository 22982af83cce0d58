//! The status as Prometheus text. Labels are the pair's name and words of fixed vocabularies: never
//! a path, so that the number of series has a bound.

use std::fmt::Write as _;

use super::{DaemonStatus, Degraded, Direction, PairStatus, State};
use crate::engine::report::OpResult;

/// What a scraper is told about one metric.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Label pairs after `pair`, and the value.
    samples: fn(&PairStatus) -> Vec<Sample>,
}

type Sample = (Vec<(&'static str, &'static str)>, u64);

fn plain(value: u64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

const METRICS: &[Metric] = &[
    Metric {
        name: "foldsync_pair_state",
        kind: "gauge",
        help: "1 for the state in which the pair is",
        samples: |pair| {
            let of = |state: State| (vec![("state", state.word())], u64::from(pair.state == state));
            State::ALL.into_iter().map(of).collect()
        },
    },
    Metric {
        name: "foldsync_pair_degraded",
        kind: "gauge",
        help: "1 for each reason for which the pair works less well than it could",
        samples: |pair| {
            let of = |reason: Degraded| {
                (vec![("reason", reason.word())], u64::from(pair.degraded.contains(&reason)))
            };
            Degraded::ALL.into_iter().map(of).collect()
        },
    },
    Metric {
        name: "foldsync_last_success_timestamp_seconds",
        kind: "gauge",
        help: "End of the last cycle after which nothing was left to do; alert on its age",
        samples: |pair| {
            let at = pair.last_success.map(|at| u64::try_from(at.0.seconds()).unwrap_or(0));
            at.map(plain).unwrap_or_default()
        },
    },
    Metric {
        name: "foldsync_files",
        kind: "gauge",
        help: "Files in sync",
        samples: |pair| plain(pair.local.files),
    },
    Metric {
        name: "foldsync_bytes",
        kind: "gauge",
        help: "Bytes in sync",
        samples: |pair| plain(pair.local.bytes),
    },
    Metric {
        name: "foldsync_pending_operations",
        kind: "gauge",
        help: "Operations that are known to be needed",
        samples: |pair| {
            let pending = &pair.pending;
            vec![
                (vec![("kind", "upload")], pending.upload),
                (vec![("kind", "download")], pending.download),
                (vec![("kind", "delete")], pending.delete),
                (vec![("kind", "move")], pending.moves),
            ]
        },
    },
    Metric {
        name: "foldsync_pending_bytes",
        kind: "gauge",
        help: "Bytes of the transfers that are known to be needed",
        samples: |pair| plain(pair.pending.bytes),
    },
    Metric {
        name: "foldsync_operations_total",
        kind: "counter",
        help: "Operations that ended",
        samples: |pair| {
            let operations = pair.totals.operations.iter();
            let labels = |op: &super::OpCount| {
                vec![("kind", op.op.as_str()), ("result", result_word(op.result))]
            };
            operations.map(|op| (labels(op), op.count)).collect()
        },
    },
    Metric {
        name: "foldsync_transferred_bytes_total",
        kind: "counter",
        help: "Content bytes, by direction and by whether they went over the wire",
        samples: |pair| {
            let totals = &pair.totals;
            vec![
                (vec![("direction", "up"), ("source", "wire")], totals.bytes_up),
                (vec![("direction", "up"), ("source", "instant")], totals.bytes_instant),
                (vec![("direction", "down"), ("source", "wire")], totals.bytes_down),
            ]
        },
    },
    Metric {
        name: "foldsync_instant_uploads_total",
        kind: "counter",
        help: "Files whose content the remote had already",
        samples: |pair| plain(pair.totals.files_instant),
    },
    Metric {
        name: "foldsync_transfer_rate_bytes",
        kind: "gauge",
        help: "Bytes per second over the wire, over the last seconds",
        samples: |pair| {
            vec![
                (vec![("direction", "up")], pair.rate.up_bps),
                (vec![("direction", "down")], pair.rate.down_bps),
            ]
        },
    },
    Metric {
        name: "foldsync_active_transfers",
        kind: "gauge",
        help: "Transfers that are under way",
        samples: |pair| {
            let of = |direction: Direction| {
                let running = pair.transfers.iter().filter(|t| t.direction == direction).count();
                (vec![("direction", direction.word())], running as u64)
            };
            vec![of(Direction::Up), of(Direction::Down)]
        },
    },
    Metric {
        name: "foldsync_eta_seconds",
        kind: "gauge",
        help: "Time until nothing is left to do; absent while it is not known",
        samples: |pair| pair.eta_s.map(plain).unwrap_or_default(),
    },
    Metric {
        name: "foldsync_hashed_bytes_total",
        kind: "counter",
        help: "Bytes read to know their hash",
        samples: |pair| plain(pair.totals.bytes_hashed),
    },
    Metric {
        name: "foldsync_conflicts",
        kind: "gauge",
        help: "Open conflicts",
        samples: |pair| plain(pair.conflicts),
    },
    Metric {
        name: "foldsync_held_operations",
        kind: "gauge",
        help: "Files whose deletion waits for a person",
        samples: |pair| plain(pair.held.iter().map(|held| held.count).sum()),
    },
    Metric {
        name: "foldsync_failed_items",
        kind: "gauge",
        help: "Items that failed and will be tried again",
        samples: |pair| plain(pair.failed_count()),
    },
    Metric {
        name: "foldsync_skipped_items",
        kind: "gauge",
        help: "Items that cannot be synced as they are",
        samples: |pair| plain(pair.skipped),
    },
    Metric {
        name: "foldsync_remote_requests_total",
        kind: "counter",
        help: "Requests to the remote",
        samples: |pair| plain(pair.totals.requests),
    },
    Metric {
        name: "foldsync_cycles_total",
        kind: "counter",
        help: "Cycles that ended",
        samples: |pair| plain(pair.totals.cycles),
    },
    Metric {
        name: "foldsync_listing_complete",
        kind: "gauge",
        help: "1 if the last look at the remote covered all of it",
        samples: |pair| plain(u64::from(pair.remote.listing_complete)),
    },
    Metric {
        name: "foldsync_listing_timestamp_seconds",
        kind: "gauge",
        help: "End of the last complete listing of the remote",
        samples: |pair| {
            let at = pair.remote.listing_at;
            at.map(|at| plain(u64::try_from(at.0.seconds()).unwrap_or(0))).unwrap_or_default()
        },
    },
    Metric {
        name: "foldsync_watch_events_total",
        kind: "counter",
        help: "File system events",
        samples: |pair| plain(pair.totals.watch_events),
    },
    Metric {
        name: "foldsync_watch_overflows_total",
        kind: "counter",
        help: "Times that file system events were lost",
        samples: |pair| plain(pair.totals.watch_overflows),
    },
];

/// The text of `GET /metrics`.
pub fn metrics(status: &DaemonStatus) -> String {
    let mut out = String::new();
    head(&mut out, "foldsync_build_info", "gauge", "The running version");
    line(&mut out, "foldsync_build_info", &[("version", &status.version)], 1);
    if let Some(started) = status.started {
        let name = "foldsync_start_timestamp_seconds";
        head(&mut out, name, "gauge", "Start of the daemon");
        line(&mut out, name, &[], u64::try_from(started.0.seconds()).unwrap_or(0));
    }
    for metric in METRICS {
        head(&mut out, metric.name, metric.kind, metric.help);
        for pair in &status.pairs {
            for (labels, value) in (metric.samples)(pair) {
                let mut all = vec![("pair", pair.name.as_str())];
                all.extend(labels);
                line(&mut out, metric.name, &all, value);
            }
        }
    }
    out
}

fn result_word(result: OpResult) -> &'static str {
    match result {
        OpResult::Done => "done",
        OpResult::Instant => "instant",
        OpResult::Same => "same",
        OpResult::Failed => "failed",
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let _ = writeln!(out, "{name}{labels} {value}");
}
