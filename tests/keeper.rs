//! A kept pair between two folders, with a clock and a remote that tests own: what begins a cycle
//! besides the timers. Waits for operations, never for a time.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foldsync::clock::{Clock, SystemClock, Timestamp};
use foldsync::daemon::keeper::{Keeper, KeeperSettings, Order};
use foldsync::daemon::status::{PairStatus, State};
use foldsync::drive::Observer;
use foldsync::engine::{OpReport, Summary};
use foldsync::exec::Lanes;
use foldsync::local::os::{OsFs, OsOptions};
use foldsync::pair::{PairSettings, Sides};
use foldsync::plan::{BrakeLimit, BrakeLimits, ConflictPolicy, Mode};
use foldsync::remote::dir::DirRemote;
use foldsync::remote::{
    Account, Body, ByteRange, Capabilities, Download, Locator, Outstanding, Page, PageCursor,
    Remote, Result, UploadRequest, UploadSession, UploadStart,
};
use foldsync::tree::{Entry, Name, RelPath, Stamp};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The computer's clock, set forth or back.
#[derive(Default)]
struct JumpyClock(AtomicI64);

#[async_trait]
impl Clock for JumpyClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        // A beat passes in no time.
        tokio::time::sleep(duration.min(Duration::from_millis(50))).await;
    }
}

/// A folder that tells where something changes.
struct Hinting {
    folder: DirRemote,
    hints: Mutex<Option<mpsc::UnboundedReceiver<Vec<RelPath>>>>,
}

#[async_trait]
impl Remote for Hinting {
    fn hints(&self) -> BoxStream<'static, Vec<RelPath>> {
        let hints = self.hints.lock().unwrap().take().unwrap();
        let next =
            |mut hints: mpsc::UnboundedReceiver<_>| async { Some((hints.recv().await?, hints)) };
        futures_util::stream::unfold(hints, next).boxed()
    }

    fn capabilities(&self) -> &Capabilities {
        self.folder.capabilities()
    }
    async fn account(&self) -> Result<Account> {
        self.folder.account().await
    }
    async fn claim(&self, identity: &str) -> Result<()> {
        self.folder.claim(identity).await
    }
    async fn list(&self, dir: &Locator, cursor: Option<PageCursor>) -> Result<Page> {
        self.folder.list(dir, cursor).await
    }
    async fn stat(&self, target: &Locator) -> Result<Option<Entry>> {
        self.folder.stat(target).await
    }
    async fn create_dir(&self, parent: &Locator, name: &Name) -> Result<Entry> {
        self.folder.create_dir(parent, name).await
    }
    async fn begin_upload(&self, request: &UploadRequest) -> Result<UploadStart> {
        self.folder.begin_upload(request).await
    }
    async fn outstanding(&self, session: &UploadSession) -> Result<Outstanding> {
        self.folder.outstanding(session).await
    }
    async fn upload_range(&self, of: &UploadSession, range: ByteRange, body: Body) -> Result<()> {
        self.folder.upload_range(of, range, body).await
    }
    async fn finish_upload(&self, session: &UploadSession) -> Result<Option<Entry>> {
        self.folder.finish_upload(session).await
    }
    async fn abort_upload(&self, session: &UploadSession) -> Result<()> {
        self.folder.abort_upload(session).await
    }
    async fn clear_stage(&self) -> Result<()> {
        self.folder.clear_stage().await
    }
    async fn download(&self, target: &Locator, expected: &Stamp, from: u64) -> Result<Download> {
        self.folder.download(target, expected, from).await
    }
    async fn relocate(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry> {
        self.folder.relocate(target, expected, parent, name).await
    }
    async fn delete(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        self.folder.delete(target, expected).await
    }
}

struct Told(mpsc::UnboundedSender<String>);

impl Observer for Told {
    fn operation_ended(&self, report: &OpReport) {
        if report.op.is_visible() {
            let _ = self.0.send(format!("{} {}", report.op.as_str(), report.path));
        }
    }
}

/// A pair whose remote is never polled in the time of a test.
struct Rig {
    folder: TempDir,
    clock: Arc<JumpyClock>,
    hints: mpsc::UnboundedSender<Vec<RelPath>>,
    told: mpsc::UnboundedReceiver<String>,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<PairStatus>,
    stop: CancellationToken,
    running: JoinHandle<Option<Summary>>,
}

impl Rig {
    async fn start() -> Rig {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        for name in ["local", "remote", "remote/a", "remote/b"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let clock = Arc::new(JumpyClock::default());
        let (hints, hinted) = mpsc::unbounded_channel();
        let (telling, told) = mpsc::unbounded_channel();
        let (orders, ordered) = mpsc::channel(8);
        let local = Arc::new(OsFs::open(&path("local"), OsOptions::default()).unwrap());
        let remote = Arc::new(Hinting {
            folder: DirRemote::open(&path("remote"), Arc::new(SystemClock)).unwrap(),
            hints: Mutex::new(Some(hinted)),
        });
        let sides = Sides { local, remote, clock: clock.clone() };
        let root = path("local");
        let first = PairStatus::new(
            "docs".to_owned(),
            Mode::TwoWay,
            root.to_string_lossy().into_owned(),
            SystemClock.now(),
        );
        let (telling_status, status) = watch::channel(first);
        let stop = CancellationToken::new();
        let keeper = Keeper::new(
            settings(path("state.db"), root),
            Box::new(move || Ok(sides.clone())),
            ordered,
            telling_status,
            stop.clone(),
            Arc::new(Told(telling)),
        );
        let running = tokio::spawn(keeper.run());
        let mut rig = Rig { folder, clock, hints, told, orders, status, stop, running };
        rig.flush().await;
        rig
    }

    async fn flush(&mut self) {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Flush(answer)).await.unwrap();
        tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap();
        while self.told.try_recv().is_ok() {}
    }

    fn write(&self, path: &str) {
        std::fs::write(self.folder.path().join(path), "text").unwrap();
    }

    fn hint(&self, folder: &str) {
        self.hints.send(vec![RelPath::new(folder).unwrap()]).unwrap();
    }

    fn set_clock(&self, hours: i64) {
        self.clock.0.fetch_add(hours * 3600 * 1_000_000_000, Ordering::SeqCst);
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

fn settings(database: PathBuf, local_root: PathBuf) -> KeeperSettings {
    KeeperSettings {
        pair: PairSettings {
            mode: Mode::TwoWay,
            conflict: ConflictPolicy::KeepBoth,
            brake: BrakeLimits {
                deletes: BrakeLimit { share_percent: Some(25), count: Some(1000) },
                changes: BrakeLimit::NONE,
                lifted: false,
            },
            ignore: Vec::new(),
            host: "host".to_owned(),
            lanes: Lanes { uploads: 2, downloads: 2, structure: 8 },
            max_transfer: None,
            max_duration: None,
            settle: Some(Duration::from_millis(10)),
            meter: Arc::default(),
        },
        database,
        local_root,
        poll: 1000 * HOUR,
        sweep: None,
        rescan: 1000 * HOUR,
        low_space: 0,
        fresh_id: "0123456789abcdef".to_owned(),
    }
}

#[tokio::test]
async fn a_hint_makes_its_folder_be_listed_at_once_and_no_other_one() {
    let mut rig = Rig::start().await;
    rig.write("remote/a/hinted");
    rig.write("remote/b/not");
    rig.hint("a");
    assert_eq!(rig.next().await, "download a/hinted");
    // Of what is not there, the folder above is looked at.
    rig.write("remote/new");
    rig.hint("gone/long/ago");
    assert_eq!(rig.next().await, "download new");
    rig.hint("b");
    assert_eq!(rig.next().await, "download b/not");
    rig.stop().await;
}

#[tokio::test]
async fn hints_do_not_end_a_pause() {
    let mut rig = Rig::start().await;
    rig.orders.send(Order::Pause(None)).await.unwrap();
    rig.status.wait_for(|status| status.state == State::Paused).await.unwrap();
    rig.write("remote/a/hinted");
    rig.hint("a");
    rig.orders.send(Order::Resume).await.unwrap();
    rig.status.wait_for(|status| status.state == State::Idle).await.unwrap();
    assert_eq!(rig.next().await, "download a/hinted");
    rig.stop().await;
}

// WA-16
#[tokio::test]
async fn after_a_sleep_or_a_jump_of_the_clock_everything_is_looked_at() {
    let mut rig = Rig::start().await;
    for (name, hours) in [("slept", 3), ("set-back", -5)] {
        rig.write(&format!("remote/a/{name}"));
        rig.set_clock(hours);
        assert_eq!(rig.next().await, format!("download a/{name}"));
        rig.flush().await;
    }
    rig.stop().await;
}
