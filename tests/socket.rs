//! The control socket from outside: the routes, who may use it, and clients that mean harm.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foldsync::clock::Timestamp;
use foldsync::daemon::client::{Client, ClientError};
use foldsync::daemon::control::Keep;
use foldsync::daemon::control::{
    Answer, ConflictItem, Control, ControlError, HeldSet, HistoryItem, HistoryQuery, Numbered,
};
use foldsync::daemon::events::{EventLog, Happening};
use foldsync::daemon::socket::{BindError, Sources, bind, serve};
use foldsync::daemon::status::{DaemonStatus, FailedItem, PairStatus, State};
use foldsync::exit::Exit;
use foldsync::plan::Mode;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Generous: only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes down what it is asked; `flush` and `held` wait until they are let go.
#[derive(Default)]
struct Recorder {
    asked: Mutex<Vec<String>>,
    flushing: Notify,
    let_go: Notify,
    /// Clients of `flush` that went away before it was over.
    given_up: Notify,
}

impl Recorder {
    fn note(&self, what: String) -> Result<(), ControlError> {
        let is_known = !what.contains("nowhere");
        self.asked.lock().unwrap().push(what);
        if is_known { Ok(()) } else { Err(ControlError::NoSuchPair("nowhere".to_owned())) }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn held_set(id: i64) -> HeldSet {
    HeldSet {
        pair: "docs".to_owned(),
        id,
        kind: "too-many-deletes".to_owned(),
        side: "remote".to_owned(),
        count: 2,
        state: "pending".to_owned(),
        created: "2026-11-21T08:00:00Z".to_owned(),
        paths: vec!["a".to_owned(), "b".to_owned()],
    }
}

fn conflict(id: i64) -> ConflictItem {
    ConflictItem {
        pair: "docs".to_owned(),
        id,
        path: "a".to_owned(),
        copy: "a.conflict".to_owned(),
        rule: "keep-both".to_owned(),
        detected: "2026-11-21T08:00:00Z".to_owned(),
        resolved: None,
    }
}

#[async_trait]
impl Control for Recorder {
    async fn pause(&self, pair: &str, span: Option<Duration>) -> Result<(), ControlError> {
        self.note(format!("pause {pair} {span:?}"))
    }
    async fn resume(&self, pair: &str) -> Result<(), ControlError> {
        self.note(format!("resume {pair}"))
    }
    async fn flush(&self, pair: &str) -> Result<Exit, ControlError> {
        struct GivenUp<'a>(Option<&'a Notify>);
        impl Drop for GivenUp<'_> {
            fn drop(&mut self) {
                self.0.inspect(|given_up| given_up.notify_one());
            }
        }
        self.note(format!("flush {pair}"))?;
        let mut given_up = GivenUp(Some(&self.given_up));
        self.flushing.notify_one();
        self.let_go.notified().await;
        given_up.0 = None;
        Ok(Exit::Remaining)
    }
    async fn rescan(&self, pair: &str, deep: bool) -> Result<(), ControlError> {
        self.note(format!("rescan {pair} {deep}"))
    }
    async fn stop(&self) -> Result<(), ControlError> {
        self.note("stop".to_owned())
    }
    async fn reload(&self) -> Result<(), ControlError> {
        self.note("reload".to_owned())?;
        Err(ControlError::Refused("line 3: unknown key".to_owned()))
    }
    async fn held(&self, pair: Option<&str>) -> Result<Vec<HeldSet>, ControlError> {
        self.note(format!("held {pair:?}"))?;
        if pair == Some("slow") {
            self.let_go.notified().await;
        }
        Ok(vec![held_set(7)])
    }
    async fn held_set(&self, set: &Numbered) -> Result<HeldSet, ControlError> {
        self.note(format!("held {:?} {}", set.pair, set.id))?;
        Ok(held_set(set.id))
    }
    async fn answer(&self, set: &Numbered, answer: Answer) -> Result<HeldSet, ControlError> {
        self.note(format!("{answer:?} {:?} {}", set.pair, set.id))?;
        Ok(held_set(set.id))
    }
    async fn conflicts(&self, pair: Option<&str>) -> Result<Vec<ConflictItem>, ControlError> {
        self.note(format!("conflicts {pair:?}"))?;
        Ok(vec![conflict(1)])
    }
    async fn conflict(&self, item: &Numbered) -> Result<ConflictItem, ControlError> {
        self.note(format!("conflict {:?} {}", item.pair, item.id))?;
        Ok(conflict(item.id))
    }
    async fn resolve(&self, item: &Numbered, keep: Keep) -> Result<(), ControlError> {
        self.note(format!("resolve {:?} {} {keep:?}", item.pair, item.id))
    }
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryItem>, ControlError> {
        self.note(format!("{query:?}"))?;
        Ok(Vec::new())
    }
}

struct Bench {
    _temp: TempDir,
    path: PathBuf,
    client: Client,
    control: Arc<Recorder>,
    events: Arc<EventLog>,
    status: watch::Sender<Arc<DaemonStatus>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Bench {
    fn new() -> Bench {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("foldsync/control.sock");
        let mut status = DaemonStatus::new(Timestamp::from_seconds(1_795_248_000));
        status.pairs.push(pair());
        let (status, receiver) = watch::channel(Arc::new(status));
        let (control, events) = (Arc::new(Recorder::default()), Arc::new(EventLog::new(100)));
        let stop = CancellationToken::new();
        let sources =
            Sources { status: receiver, events: events.clone(), control: control.clone() };
        let serving = tokio::spawn(serve(bind(&path).unwrap(), sources, stop.clone()));
        let client = Client::new(&path);
        Bench { _temp: temp, path, client, control, events, status, stop, serving }
    }

    /// One raw exchange on a connection of its own.
    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The other end may have closed before it read everything.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn raw_get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn assert_answers(&self) {
        let status = tokio::time::timeout(PATIENCE, self.client.status()).await.unwrap();
        assert_eq!(status.unwrap().pairs[0].name, "docs");
    }
}

fn pair() -> PairStatus {
    let now = Timestamp::from_seconds(1_795_248_000);
    let mut pair = PairStatus::new("docs".to_owned(), Mode::TwoWay, "/d".to_owned(), now);
    pair.state = State::Idle;
    pair
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn curl_gets_the_status() {
    let bench = Bench::new();
    let curl = |arguments: &str| {
        let (socket, arguments) = (bench.path.clone(), arguments.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--unix-socket"]).arg(socket).args(arguments.split(' ')).output()
        })
    };
    let Ok(output) = curl("http://localhost/v1/status").await.unwrap() else {
        eprintln!("skipped: no curl");
        return;
    };
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["schema"], &json["pairs"][0]["state"]), (&1.into(), &"idle".into()));
    let post = "-X POST -d body http://localhost/v1/pairs/docs/pause?for=1h";
    let output = curl(post).await.unwrap().unwrap();
    assert_eq!(output.stdout, b"{\"ok\":true}");
    let output = curl("http://localhost/metrics").await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("foldsync_pair_state{pair=\"docs\",state=\"idle\"} 1\n"), "{text}");
}

#[tokio::test]
async fn every_request_reaches_the_daemon_as_it_was_meant() {
    let bench = Bench::new();
    let client = &bench.client;
    let of = |pair: &str, id| Numbered { pair: Some(pair.to_owned()), id };
    let any = |id| Numbered { pair: None, id };
    client.pause("docs", None).await.unwrap();
    client.pause("my docs/项?", Some(Duration::from_secs(5400))).await.unwrap();
    client.resume("docs").await.unwrap();
    client.rescan("docs", false).await.unwrap();
    client.rescan("docs", true).await.unwrap();
    client.stop().await.unwrap();
    assert_eq!(client.held(None).await.unwrap(), [held_set(7)]);
    assert_eq!(client.held_set(&any(7)).await.unwrap(), held_set(7));
    client.answer(&of("docs", 7), Answer::Approve).await.unwrap();
    client.answer(&any(8), Answer::Reject).await.unwrap();
    assert_eq!(client.conflicts(Some("docs")).await.unwrap(), [conflict(1)]);
    assert_eq!(client.conflict(&any(3)).await.unwrap(), conflict(3));
    client.resolve(&of("docs", 3), Keep::Newer).await.unwrap();
    let query = HistoryQuery {
        pair: Some("docs".to_owned()),
        path: Some("a b&c".to_owned()),
        since: Some(Duration::from_secs(3600)),
        limit: 5,
    };
    assert_eq!(client.history(&query).await.unwrap(), []);
    let expected = [
        "pause docs None",
        "pause my docs/项? Some(5400s)",
        "resume docs",
        "rescan docs false",
        "rescan docs true",
        "stop",
        "held None",
        "held None 7",
        "Approve Some(\"docs\") 7",
        "Reject None 8",
        "conflicts Some(\"docs\")",
        "conflict None 3",
        "resolve Some(\"docs\") 3 Newer",
        &format!("{query:?}"),
    ];
    assert_eq!(bench.control.take(), expected);
}

#[tokio::test]
async fn a_refusal_says_why_in_json_and_with_a_fitting_code() {
    let bench = Bench::new();
    let error = bench.client.resume("nowhere").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { kind, .. } if kind == "no-such-pair"),
        "{error:?}"
    );
    let error = bench.client.reload().await.unwrap_err();
    assert_eq!(error.to_string(), "line 3: unknown key");
    for (path, code) in [
        ("/v1/nothing", "404"),
        ("/", "404"),
        ("/v1/stop", "405"),
        ("/v1/events?since=x", "400"),
        ("/v1/events?sinc=1", "400"),
        ("/v1/events?wait=soon", "400"),
        ("/v1/held/x", "400"),
        ("/v1/history?limit=-1", "400"),
    ] {
        let answer = bench.raw_get(path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {answer}");
        assert!(answer.contains("{\"kind\":\""), "{path}: {answer}");
    }
}

#[tokio::test]
async fn health_fails_if_a_person_must_look() {
    let bench = Bench::new();
    assert!(bench.raw_get("/health").await.starts_with("HTTP/1.1 200 "));
    bench.status.send_modify(|status| {
        let mut broken = (**status).clone();
        broken.pairs[0].state = State::Error;
        *status = Arc::new(broken);
    });
    let answer = bench.raw_get("/health").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("docs"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_gets_an_event_when_it_happens() {
    let bench = Bench::new();
    bench.events.push(Happening::Reloaded, Timestamp::default());
    let batch = bench.client.events(0, PATIENCE).await.unwrap();
    assert_eq!((batch.events.len(), batch.next), (1, 1));
    let waiting = tokio::spawn({
        let client = bench.client.clone();
        async move { client.events(1, PATIENCE).await.unwrap() }
    });
    bench.assert_answers().await;
    assert!(!waiting.is_finished());
    bench.events.push(Happening::Stopping, Timestamp::default());
    let batch = waiting.await.unwrap();
    assert_eq!((batch.events[0].id, &batch.events[0].happening), (2, &Happening::Stopping));
    let nothing = bench.client.events(2, Duration::ZERO).await.unwrap();
    assert!(nothing.events.is_empty() && nothing.next == 2);
}

#[tokio::test]
async fn a_flush_ends_with_the_pair_and_with_its_client() {
    let bench = Bench::new();
    let flush = |client: Client| tokio::spawn(async move { client.flush("docs").await });
    let first = flush(bench.client.clone());
    bench.control.flushing.notified().await;
    bench.control.let_go.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), Exit::Remaining);
    let second = flush(bench.client.clone());
    bench.control.flushing.notified().await;
    second.abort();
    tokio::time::timeout(PATIENCE, bench.control.given_up.notified()).await.unwrap();
}

// A status answer never waits for what the daemon is doing.
#[tokio::test]
async fn the_status_is_answered_while_another_request_hangs() {
    let bench = Bench::new();
    let hanging = tokio::spawn({
        let client = bench.client.clone();
        async move { client.held(Some("slow")).await }
    });
    while bench.control.take().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        bench.assert_answers().await;
    }
    assert!(!hanging.is_finished());
    bench.control.let_go.notify_one();
    hanging.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_daemon_the_client_says_so() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("control.sock");
    let error = Client::new(&path).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon(_)), "{error:?}");
    drop(StdListener::bind(&path).unwrap());
    let error = Client::new(&path).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon(_)), "{error:?}");
}

#[tokio::test]
async fn a_client_finds_the_daemon_in_any_of_its_places() {
    let bench = Bench::new();
    let nowhere = bench._temp.path().join("nowhere.sock");
    let found = Client::find([nowhere.clone(), bench.path.clone()]).await.unwrap();
    assert_eq!(found.socket(), bench.path);
    let error = Client::find([nowhere]).await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon(_)), "{error:?}");
}

#[tokio::test]
async fn a_stopped_daemon_leaves_no_socket() {
    let bench = Bench::new();
    bench.stop.cancel();
    bench.serving.await.unwrap();
    assert!(!bench.path.exists());
}

// SE-08
#[tokio::test]
async fn whatever_the_umask_nobody_else_gets_at_the_socket() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let bench = Bench::new();
    assert_eq!(mode_of(bench.path.parent().unwrap()), 0o700);
    assert_eq!(mode_of(&bench.path), 0o600);
    let others: Vec<_> = fs::read_dir(bench.path.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(others.len(), 2, "{others:?}");
    assert_eq!(mode_of(&bench.path.with_extension("sock.lock")), 0o600);
}

// SE-08
#[tokio::test]
async fn a_folder_that_is_named_for_us_is_closed_and_another_one_is_left_as_it_is() {
    let temp = TempDir::new().unwrap();
    let own = temp.path().join("foldsync");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let bound = bind(&own.join("control.sock")).unwrap();
    assert_eq!((mode_of(&own), mode_of(bound.path())), (0o700, 0o600));
    let given = temp.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o755)).unwrap();
    let bound = bind(&given.join("control.sock")).unwrap();
    assert_eq!((mode_of(&given), mode_of(bound.path())), (0o755, 0o600));
}

// SE-08
#[tokio::test]
async fn a_folder_in_which_others_can_write_is_refused_unless_it_is_sticky() {
    let temp = TempDir::new().unwrap();
    let open = temp.path().join("open");
    fs::create_dir(&open).unwrap();
    for (mode, is_fine) in [(0o777, false), (0o770, false), (0o1777, true)] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        let bound = bind(&open.join("control.sock"));
        match bound {
            Ok(_) => assert!(is_fine, "{mode:o}"),
            Err(error) => assert!(!is_fine && matches!(error, BindError::OpenToOthers(_))),
        }
    }
}

// SE-08
#[tokio::test]
async fn what_is_not_our_socket_is_neither_removed_nor_followed() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("control.sock");
    let victim = temp.path().join("victim");
    let is_foreign = || matches!(bind(&path), Err(BindError::Foreign { .. }));
    fs::write(&path, "precious").unwrap();
    assert!(is_foreign());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    assert!(is_foreign());
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink() && !victim.exists());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(is_foreign());
    fs::remove_dir(&path).unwrap();
    // The same trick on the lock: it is not followed either.
    std::os::unix::fs::symlink(&victim, temp.path().join("control.sock.lock")).ok();
    fs::remove_file(temp.path().join("control.sock.lock")).unwrap();
    std::os::unix::fs::symlink(&victim, temp.path().join("control.sock.lock")).unwrap();
    assert!(matches!(bind(&path), Err(BindError::Io { .. })));
    assert!(!victim.exists());
}

// SE-08: even if somebody opens folder and socket, another user gets no answer.
#[tokio::test]
async fn another_user_gets_no_answer() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let bench = Bench::new();
    let open = fs::Permissions::from_mode(0o777);
    for path in [&bench.path, bench.path.parent().unwrap(), bench._temp.path()] {
        fs::set_permissions(path, open.clone()).unwrap();
    }
    let ask = |user: &'static str| {
        let socket = bench.path.clone();
        tokio::task::spawn_blocking(move || {
            Command::new("setpriv")
                .args([&format!("--reuid={user}"), "--clear-groups", "curl", "-sS"])
                .arg("--unix-socket")
                .arg(socket)
                .arg("http://localhost/v1/status")
                .output()
        })
    };
    let Ok(own) = ask("0").await.unwrap() else {
        eprintln!("skipped: no setpriv");
        return;
    };
    if own.stdout.is_empty() {
        eprintln!("skipped: no curl");
        return;
    }
    let other = ask("65534").await.unwrap().unwrap();
    assert!(other.stdout.is_empty() && !other.status.success(), "{other:?}");
}

// SE-10
#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_never_stolen() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("control.sock");
    // What kill -9 leaves behind: a socket that nobody listens on, and a lock that nobody holds.
    drop(StdListener::bind(&path).unwrap());
    fs::write(temp.path().join("control.sock.lock"), "").unwrap();
    let bound = bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::Running(_))));
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    drop(bound);
    // A live one without our lock, such as of an older version.
    let live = StdListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::Running(_))));
    drop(live);
    drop(bind(&path).unwrap());
    assert!(!path.exists());
}

// SE-10
#[tokio::test]
async fn a_socket_that_took_our_place_is_left_alone_when_we_go() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("control.sock");
    let bound = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(bound);
    assert!(StdStream::connect(&path).is_ok());
}

#[tokio::test]
async fn a_path_that_no_address_can_hold_is_an_error_of_its_own() {
    let temp = TempDir::new().unwrap();
    let long = temp.path().join("x".repeat(120)).join("control.sock");
    assert!(matches!(bind(&long), Err(BindError::TooLong(_))));
    assert!(matches!(bind(Path::new("control.sock")), Err(BindError::Io { .. })));
}

/// Writes until the other end closes; how much it took.
fn pour(socket: &Path, head: &[u8], chunk: &[u8], bytes_max: usize) -> usize {
    let mut stream = StdStream::connect(socket).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut poured = 0;
    let mut write = |bytes: &[u8]| match stream.write_all(bytes) {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
            false
        }
    };
    if write(head) {
        while poured < bytes_max && write(chunk) {
            poured += chunk.len();
        }
    }
    poured
}

// SE-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_line_an_endless_header_and_an_endless_body_are_cut_off() {
    let bench = Bench::new();
    let heads: [&[u8]; 4] = [
        b"",
        b"GET /v1/status HTTP/1.1\r\nX: ",
        b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for head in heads {
        let socket = bench.path.clone();
        let pouring =
            tokio::task::spawn_blocking(move || pour(&socket, head, &[b'a'; 64 * 1024], 1 << 30));
        bench.assert_answers().await;
        let poured = tokio::time::timeout(PATIENCE, pouring).await.unwrap().unwrap();
        assert!(poured < 8 << 20, "{poured} bytes were taken after {:?}", head.escape_ascii());
    }
    bench.assert_answers().await;
}

// SE-09
#[tokio::test]
async fn nonsense_is_answered_or_cut_off_and_never_a_crash() {
    let bench = Bench::new();
    let deep = format!(
        "POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20000\r\n\r\n{}",
        "[".repeat(20_000)
    );
    let requests: [&[u8]; 8] = [
        b"\xff\xfe\x00\x01\r\n\r\n",
        b"GET /v1/st\xff\xfftus HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/held/%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"{\"jsonrpc\":\"2.0\"}\n\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        deep.as_bytes(),
    ];
    for request in requests {
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _ = read.unwrap_or_else(|_| panic!("left open: {:?}", request.escape_ascii()));
        bench.assert_answers().await;
    }
    // Gone in the middle.
    drop(UnixStream::connect(&bench.path).await.unwrap());
    let mut stream = UnixStream::connect(&bench.path).await.unwrap();
    stream.write_all(b"GET /v1/status HT").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
    bench.assert_answers().await;
}

// SE-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_connections_keep_nobody_out() {
    let bench = Bench::new();
    let socket = bench.path.clone();
    let flood = tokio::task::spawn_blocking(move || {
        // Some stay open, within what this process may have open itself.
        let mut open = VecDeque::new();
        for number in 0..5000 {
            let mut stream = StdStream::connect(&socket).unwrap();
            if number % 3 == 0 {
                let _ = stream.write_all(b"GET /v1/sta");
            }
            open.push_back(stream);
            if open.len() > 300 {
                open.pop_front();
            }
        }
        open
    });
    let mut answered = 0;
    while !flood.is_finished() {
        // In the middle of the flood a connection may have to give way; a later one gets through.
        answered += usize::from(bench.client.status().await.is_ok());
    }
    let still_open = flood.await.unwrap();
    assert!(answered > 0);
    // More than there are slots, and none of them says a word.
    assert_eq!(still_open.len(), 300);
    bench.assert_answers().await;
}

// SE-09: time stands still but for what everybody waits for.
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped() {
    let bench = Bench::new();
    for words in ["", "GET /v1/status HTTP/1.1\r\nHost:"] {
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 200);
    }
    // Also one that was answered once and stays.
    let mut stream = UnixStream::connect(&bench.path).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

// SE-09
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_dropped_and_delays_nobody() {
    let bench = Bench::new();
    bench.status.send_modify(|status| {
        let mut long = (**status).clone();
        let error = "x".repeat(1 << 20);
        long.pairs[0].failed = (0..8)
            .map(|n| FailedItem {
                path: n.to_string(),
                error: error.clone(),
                retry_at: None,
                attempts: 1,
            })
            .collect();
        *status = Arc::new(long);
    });
    let mut slow = UnixStream::connect(&bench.path).await.unwrap();
    slow.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Others are answered while it stalls.
    bench.assert_answers().await;
    // Longer than its patience, during which this client reads nothing.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut taken = Vec::new();
    let _ = slow.read_to_end(&mut taken).await;
    assert!(taken.len() < 8 << 20, "{} bytes came after all", taken.len());
}

// SE-09
#[tokio::test]
async fn waiting_clients_have_a_limit_and_leave_room_for_the_rest() {
    let bench = Bench::new();
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(&bench.path).await.unwrap();
        waiting.spawn(async move {
            stream.write_all(b"GET /v1/events?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let mut start = [0u8; 12];
            stream.read_exact(&mut start).await.map(|_| start)
        });
    }
    // Only the ones beyond the limit are answered: nothing happens that the others wait for.
    for _ in 0..8 {
        let answer = tokio::time::timeout(PATIENCE, waiting.join_next()).await.unwrap();
        assert_eq!(&answer.unwrap().unwrap().unwrap(), b"HTTP/1.1 503");
    }
    assert_eq!(waiting.len(), 32);
    bench.assert_answers().await;
}

#[tokio::test]
async fn an_answer_is_read_in_full_even_if_the_other_end_is_a_plain_stream() {
    let bench = Bench::new();
    let socket = bench.path.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = StdStream::connect(socket).unwrap();
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap();
    assert!(answer.ends_with("{\"ok\":true,\"broken\":[]}"), "{answer}");
}
