use std::path::Path;

use super::*;
use crate::text::Paint;

/// 2026-11-21T08:00:00Z
const NOW: Timestamp = Timestamp(1_795_248_000_000_000_000);

fn ago(seconds: i64) -> Moment {
    Moment(Timestamp::from_seconds(NOW.seconds() - seconds))
}

fn pair(name: &str, local: &str, remote: &str) -> PairStatus {
    let mut pair = PairStatus::new(name.to_owned(), Mode::TwoWay, local.to_owned(), NOW);
    let (remote_name, path) = remote.split_once(':').unwrap();
    pair.state = State::Idle;
    pair.since = Some(ago(60));
    pair.local.files = 12_481;
    pair.local.bytes = 48_200 << 20;
    pair.local.watch = Watch::Watching;
    pair.remote = RemoteStatus {
        kind: "disktop".to_owned(),
        name: Some(remote_name.to_owned()),
        path: path.to_owned(),
        listing_at: Some(ago(30)),
        listing_complete: true,
    };
    pair.last_success = Some(ago(30));
    pair
}

fn daemon(pairs: Vec<PairStatus>) -> DaemonStatus {
    DaemonStatus {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        pid: Some(4711),
        pairs,
        started: Some(ago(3600)),
    }
}

fn busy() -> DaemonStatus {
    let mut docs = pair("docs", "/home/ann/Documents", "top:/Backup");
    docs.degraded = vec![Degraded::Polling];
    docs.local.watch = Watch::Polling;
    docs.notes = vec!["polling every 60 s, inotify limit reached (foldsync doctor)".to_owned()];
    docs.next_poll = Some(Moment(Timestamp::from_seconds(NOW.seconds() + 41)));
    let mut photos = pair("photos", "/home/ann/Pictures", "ct:/Photos");
    photos.state = State::Syncing;
    photos.mode = Mode::MirrorUp;
    photos.progress =
        Some(Progress { done: 37, total: 212, bytes_done: 1200 << 20, bytes_total: 9800 << 20 });
    photos.pending = Pending { upload: 175, bytes: 8600 << 20, ..Pending::default() };
    photos.rate.up_bps = 412 << 10;
    photos.eta_s = Some(22_200);
    let mut work = pair("work", "/srv/Work", "yk:/项目");
    work.state = State::Held;
    work.conflicts = 2;
    work.held =
        vec![HeldItem { id: 7, kind: "too-many-deletes".to_owned(), count: 143, created: ago(90) }];
    let mut site = pair("site", "/home/ann", "pics:/");
    site.state = State::AuthExpired;
    site.mode = Mode::BackupDown;
    site.failed = vec![FailedItem {
        path: "a\u{1b}[31m.png".to_owned(),
        error: "the service refused it".to_owned(),
        retry_at: Some(Moment(Timestamp::from_seconds(NOW.seconds() + 300))),
        attempts: 3,
    }];
    daemon(vec![docs, photos, work, site])
}

fn shown(status: &DaemonStatus) -> String {
    let paint = |_: Paint, text: &str| text.to_owned();
    text(status, &View { now: NOW, home: Some(Path::new("/home/ann")), paint: &paint })
}

#[test]
fn the_text_has_a_line_for_each_pair_and_says_what_to_do() {
    let expected = "\
docs    ~/Documents  ⇄ top:/Backup  Up to date         12,481 files  47.1 GiB
photos  ~/Pictures   ↑ ct:/Photos   Syncing 37/212     1.2 GiB / 9.6 GiB  ↑ 412.0 KiB/s  ETA 6h 10m
work    /srv/Work    ⇄ yk:/项目       Held: 143 deletes  approve with: foldsync held show 7
site    ~            ↓ pics:/       Login expired      foldsync auth login pics

  ! docs: polling every 60 s, inotify limit reached (foldsync doctor)
  ! work: 2 conflicts (foldsync conflicts list work)
  ! site: 1 item failed, such as a\\u{1b}[31m.png: the service refused it, next try in 5m 0s
  next look at the remote: docs in 41 s
";
    assert_eq!(shown(&busy()), expected);
}

#[test]
fn transfers_stand_below_their_pair() {
    let mut status = busy();
    let (path, direction) = ("a\u{1b}[31m.mp4".to_owned(), Direction::Up);
    status.pairs[1].transfers = vec![Transfer { path, direction, done: 300, total: 400 }];
    let text = shown(&status);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("photos"), "{text}");
    assert_eq!(lines[2], "    ↑  75%            300 B / 400 B  a\\u{1b}[31m.mp4");
    assert!(lines[3].starts_with("work"), "{text}");
    let json = serde_json::to_value(&status).unwrap();
    let transfer = &json["pairs"][1]["transfers"][0];
    assert_eq!((&transfer["direction"], &transfer["done"]), (&"up".into(), &300.into()));
    assert_eq!(transfer["total"], 400);
}

#[test]
fn up_to_date_is_said_only_of_what_is_known_completely() {
    let mut docs = pair("docs", "/d", "top:/");
    docs.remote.listing_complete = false;
    assert!(!docs.is_in_sync());
    let text = shown(&daemon(vec![docs.clone()]));
    assert!(text.contains("No changes known") && !text.contains("Up to date"), "{text}");
    assert!(text.contains("last listed completely 30 s ago"), "{text}");
    docs.remote.listing_complete = true;
    assert!(docs.is_in_sync());
}

#[test]
fn an_unknown_time_to_the_end_is_a_dash() {
    let mut docs = pair("docs", "/d", "top:/");
    docs.state = State::Syncing;
    assert!(shown(&daemon(vec![docs])).contains("ETA –"));
}

#[test]
fn the_json_has_exactly_the_names_of_the_contract() {
    let json = serde_json::to_value(busy()).unwrap();
    assert_eq!((&json["schema"], &json["pid"]), (&1.into(), &4711.into()));
    let keys = |value: &serde_json::Value, wanted: &[&str]| {
        for key in wanted {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    keys(&json, &["schema", "version", "pid", "pairs"]);
    let pair = &json["pairs"][3];
    let wanted = [
        "name",
        "state",
        "since",
        "local",
        "remote",
        "pending",
        "rate",
        "eta_s",
        "conflicts",
        "failed",
        "held",
        "degraded",
        "last_success",
    ];
    keys(pair, &wanted);
    keys(&pair["local"], &["root", "files", "bytes", "watch"]);
    keys(&pair["remote"], &["kind", "path", "listing_at", "listing_complete"]);
    keys(&pair["pending"], &["upload", "download", "delete", "move", "bytes"]);
    keys(&pair["rate"], &["up_bps", "down_bps"]);
    keys(&pair["totals"], &["bytes_up", "bytes_down", "bytes_instant", "bytes_hashed"]);
    keys(&pair["failed"][0], &["path", "error", "retry_at", "attempts"]);
    keys(&json["pairs"][2]["held"][0], &["id", "kind", "count", "created"]);
    assert_eq!(pair["state"], "auth-expired");
    assert_eq!(pair["last_success"], "2026-11-21T07:59:30Z");
    assert_eq!(json["pairs"][0]["degraded"], serde_json::json!(["polling"]));
}

#[test]
fn the_words_of_the_enums_are_those_of_the_json() {
    for state in State::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
    for degraded in Degraded::ALL {
        assert_eq!(serde_json::to_value(degraded).unwrap(), degraded.word());
    }
}

#[test]
fn the_json_is_read_back_as_it_was_and_with_fields_of_a_newer_version() {
    let status = busy();
    let mut json = serde_json::to_value(&status).unwrap();
    json["from_the_future"] = 1.into();
    json["pairs"][0]["from_the_future"] = 1.into();
    assert_eq!(serde_json::from_value::<DaemonStatus>(json).unwrap(), status);
}

#[test]
fn the_check_gives_the_code_that_a_sync_would_have_left() {
    let with = |change: fn(&mut PairStatus)| {
        let mut docs = pair("docs", "/d", "top:/");
        change(&mut docs);
        daemon(vec![docs]).exit().code()
    };
    assert_eq!(with(|_| ()), 0);
    assert_eq!(with(|pair| pair.state = State::Paused), 0);
    assert_eq!(with(|pair| pair.conflicts = 1), 3);
    assert_eq!(with(|pair| pair.skipped = 1), 3);
    assert_eq!(with(|pair| pair.state = State::Offline), 5);
    assert_eq!(with(|pair| pair.state = State::AuthExpired), 77);
    assert_eq!(with(|pair| pair.state = State::Error), 7);
    assert_eq!(with(|pair| pair.state = State::Held), 4);
    assert_eq!(with(|pair| pair.failed_total = 1), 1);
    assert_eq!(with(|pair| pair.pending.upload = 1), 1);
    let never = |pair: &mut PairStatus| {
        pair.state = State::Scanning;
        pair.last_success = None;
    };
    assert_eq!(with(never), 1);
    assert_eq!(busy().exit().code(), 77);
    assert_eq!(daemon(Vec::new()).exit().code(), 0);
}

#[test]
fn the_check_line_says_every_pair() {
    let expected =
        "docs: Up to date · photos: Syncing 37/212 · work: Held: 143 deletes · site: Login expired";
    assert_eq!(check_line(&busy()), expected);
}

#[test]
fn the_metrics_have_a_head_each_and_no_path() {
    let mut status = busy();
    status.pairs[1].totals = Totals {
        operations: vec![
            OpCount { op: OpKind::Upload, result: OpResult::Instant, count: 118 },
            OpCount { op: OpKind::Upload, result: OpResult::Failed, count: 2 },
        ],
        bytes_up: 1000,
        bytes_instant: 4200,
        files_instant: 118,
        ..Totals::default()
    };
    status.pairs[3].name = "a\"b\\c\n".to_owned();
    let text = metrics(&status);
    for line in [
        "foldsync_build_info{version=\"0.1.0\"} 1",
        "foldsync_pair_state{pair=\"work\",state=\"held\"} 1",
        "foldsync_pair_state{pair=\"work\",state=\"idle\"} 0",
        "foldsync_pair_degraded{pair=\"docs\",reason=\"polling\"} 1",
        "foldsync_last_success_timestamp_seconds{pair=\"docs\"} 1795247970",
        "foldsync_pending_operations{pair=\"photos\",kind=\"upload\"} 175",
        "foldsync_operations_total{pair=\"photos\",kind=\"upload\",result=\"instant\"} 118",
        "foldsync_transferred_bytes_total{pair=\"photos\",direction=\"up\",source=\"wire\"} 1000",
        "foldsync_instant_uploads_total{pair=\"photos\"} 118",
        "foldsync_transfer_rate_bytes{pair=\"photos\",direction=\"up\"} 421888",
        "foldsync_active_transfers{pair=\"photos\",direction=\"down\"} 0",
        "foldsync_eta_seconds{pair=\"photos\"} 22200",
        "foldsync_held_operations{pair=\"work\"} 143",
        "foldsync_conflicts{pair=\"work\"} 2",
        "foldsync_failed_items{pair=\"a\\\"b\\\\c\\n\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("png") && !text.contains("/home"), "{text}");
    let mut described = std::collections::BTreeSet::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(head) => assert!(described.insert(head.split(' ').next().unwrap()), "{line}"),
            None if line.starts_with('#') => {}
            None => assert!(described.contains(line.split(['{', ' ']).next().unwrap()), "{line}"),
        }
    }
}
