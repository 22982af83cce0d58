//! The watcher on the kernel's real events: whoever lists exactly the folders that it reports ends
//! up with exactly what is there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foldsync::clock::SystemClock;
use foldsync::local::watch::source::{
    EventSink, Hint, MakeSource, Source, WatchError, hints, kernel,
};
use foldsync::local::watch::{Degraded, PollingReason, Settings, Sighting, WatchState, Watcher};
use foldsync::tree::{Kind, Name, RelPath};
use notify::Watcher as _;
use tempfile::TempDir;
use tokio::sync::mpsc;

const SETTLE: Duration = Duration::from_millis(40);
/// Generous: only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watched root, and somebody who lists what is reported and nothing else.
struct Bench {
    _temp: TempDir,
    root: PathBuf,
    outside: PathBuf,
    watcher: Watcher,
    sightings: mpsc::Receiver<Sighting>,
    /// Content of each file and the folders, as last listed; folders end in `/`.
    seen: BTreeMap<String, Vec<u8>>,
    /// Folders that were reported, in order.
    reported: Vec<String>,
    everything: usize,
}

#[derive(Default)]
struct Options {
    watches_max: Option<usize>,
    source: Option<MakeSource>,
    poll: Option<Duration>,
}

impl Bench {
    /// Fills the root, watches its folders as an engine would, and knows what is there.
    async fn new(fill: impl FnOnce(&Path)) -> Bench {
        Bench::with(Options::default(), fill).await
    }

    async fn with(options: Options, fill: impl FnOnce(&Path)) -> Bench {
        let temp = TempDir::new().unwrap();
        let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
        fs::create_dir_all(root.join(".foldsync")).unwrap();
        fs::create_dir(&outside).unwrap();
        fill(&root);
        let ignored = |path: &RelPath, _: Kind| path.components().any(|c| c == "node_modules");
        let poll = options.poll.unwrap_or(Duration::from_secs(3600));
        let clock = Arc::new(SystemClock);
        let mut settings = Settings::new(root.clone(), Box::new(ignored), SETTLE, poll, clock);
        settings.watches_max = options.watches_max;
        settings.source = options.source.unwrap_or_else(kernel);
        let (watcher, sightings) = Watcher::start(settings).unwrap();
        let mut bench = Bench {
            _temp: temp,
            root,
            outside,
            watcher,
            sightings,
            seen: BTreeMap::new(),
            reported: Vec::new(),
            everything: 0,
        };
        bench.look_at_everything().await;
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    async fn next(&mut self) -> Sighting {
        let next = tokio::time::timeout(PATIENCE, self.sightings.recv()).await;
        next.expect("a sighting in time").expect("a living watcher")
    }

    /// Lists what is reported until that is everything there is.
    async fn follow(&mut self) {
        let mut there = BTreeMap::new();
        walk(&self.root, "", &mut there);
        let started = Instant::now();
        while self.seen != there {
            let missing: Vec<&String> = there
                .iter()
                .filter(|(k, v)| self.seen.get(*k) != Some(v))
                .map(|(k, _)| k)
                .collect();
            let ghosts: Vec<&String> =
                self.seen.keys().filter(|k| !there.contains_key(*k)).collect();
            let left = PATIENCE.saturating_sub(started.elapsed());
            let next = tokio::time::timeout(left, self.sightings.recv()).await;
            let next =
                next.unwrap_or_else(|_| panic!("never seen: {missing:?}, ghosts {ghosts:?}"));
            self.look(next.unwrap()).await;
        }
    }

    async fn look(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Everything => {
                self.everything += 1;
                self.look_at_everything().await;
            }
            Sighting::Folders(folders) => {
                let mut folders: Vec<RelPath> = folders.into_iter().collect();
                self.reported.extend(folders.iter().map(|folder| folder.as_str().to_owned()));
                while let Some(folder) = folders.pop() {
                    self.watcher.watch([folder.clone()]).await;
                    let known: Vec<String> = self.seen.keys().cloned().collect();
                    let below = self.list(folder.as_str());
                    // What is new in a folder that is only polled was not walked by the watcher: it
                    // is for whoever lists it, as for an engine.
                    if self.watcher.state().unwatched > 0 {
                        let below = below.iter().map(|name| folder.join(&Name::new(name).unwrap()));
                        folders.extend(below.filter(|path| !known.contains(&format!("{path}/"))));
                    }
                }
            }
        }
    }

    async fn look_at_everything(&mut self) {
        self.seen.clear();
        let mut folders = vec![RelPath::root()];
        while let Some(folder) = folders.pop() {
            self.watcher.watch([folder.clone()]).await;
            for name in self.list(folder.as_str()) {
                folders.push(folder.join(&Name::new(&name).unwrap()));
            }
        }
    }

    /// Lists one folder; a removed subfolder takes all below it along. Gives the subfolders.
    fn list(&mut self, folder: &str) -> Vec<String> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut there = BTreeMap::new();
        let subfolders = list(&self.root.join(folder), &prefix, &mut there);
        self.seen.retain(|path, _| {
            let Some(rest) = path.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else {
                return true;
            };
            match rest.split_once('/') {
                None | Some((_, "")) => false,
                Some((top, _)) => subfolders.iter().any(|name| name == top),
            }
        });
        self.seen.extend(there);
        subfolders
    }

    /// Something that is surely reported after all that happened before.
    async fn fence(&mut self) {
        let before = self.reported.len();
        fs::write(self.at("fence/mark"), format!("{before}")).unwrap();
        while !self.reported[before..].iter().any(|folder| folder == "fence") {
            let next = self.next().await;
            self.look(next).await;
        }
    }

    async fn degraded_until(&mut self, wanted: impl Fn(&Option<Degraded>) -> bool) {
        let mut degraded = self.watcher.degraded();
        let reached = degraded.wait_for(wanted);
        tokio::time::timeout(PATIENCE, reached).await.expect("the state in time").unwrap();
    }
}

fn is_left_out(name: &str) -> bool {
    name == "node_modules" || name == ".foldsync"
}

/// One folder's items into `out`, folders with a `/`; gives the subfolders.
fn list(dir: &Path, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut subfolders = Vec::new();
    let Ok(items) = fs::read_dir(dir) else { return subfolders };
    for item in items.flatten() {
        let Ok(name) = item.file_name().into_string() else { continue };
        if is_left_out(&name) {
            continue;
        }
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            out.insert(format!("{prefix}{name}/"), Vec::new());
            subfolders.push(name);
        } else if let Ok(content) = fs::read(item.path()) {
            out.insert(format!("{prefix}{name}"), content);
        }
    }
    subfolders
}

fn walk(root: &Path, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) {
    for name in list(&root.join(prefix), prefix, out) {
        walk(root, &format!("{prefix}{name}/"), out);
    }
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_file_is_reported_by_its_folder_and_by_nothing_else() {
    let mut bench = Bench::new(|root| {
        write(root.join("a/b/file"), "1");
        write(root.join("c/other"), "1");
    })
    .await;
    fs::write(bench.at("a/b/file"), "2").unwrap();
    bench.follow().await;
    assert_eq!(bench.reported, ["a/b"]);
}

// WA-05
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_into_fresh_nested_folders_is_never_missed() {
    let mut bench = Bench::new(|_| {}).await;
    for number in 0..300 {
        write(bench.at(&format!("t{number}/b/c/d/f")), "1");
    }
    bench.follow().await;
    assert_eq!(bench.everything, 0);
    // And what follows in them is seen as well.
    for number in (0..300).step_by(7) {
        fs::write(bench.at(&format!("t{number}/b/c/d/g")), "2").unwrap();
    }
    bench.follow().await;
}

// WA-06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_moved_in_is_reported_folder_by_folder() {
    let mut bench = Bench::new(|_| {}).await;
    for number in 0..1000 {
        write(bench.outside.join(format!("t/d{}/e/f{number}", number % 20)), "1");
    }
    fs::rename(bench.outside.join("t"), bench.at("t")).unwrap();
    bench.follow().await;
    assert_eq!(bench.seen.len(), 1041);
    assert_eq!(bench.everything, 0);
}

// WA-07
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_moved_out_is_reported_once_and_then_left_alone() {
    let mut bench = Bench::new(|root| {
        write(root.join("fence/mark"), "");
        for number in 0..50 {
            write(root.join(format!("t/d{number}/f")), "1");
        }
    })
    .await;
    let before = bench.watcher.state().watched;
    fs::rename(bench.at("t"), bench.outside.join("t")).unwrap();
    bench.follow().await;
    bench.fence().await;
    assert_eq!(bench.watcher.state().watched, before - 51);
    bench.reported.clear();
    for number in 0..50 {
        fs::write(bench.outside.join(format!("t/d{number}/f")), "later").unwrap();
    }
    bench.fence().await;
    assert_eq!(bench.reported, ["fence"]);
}

// WA-08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_between_two_watched_folders_is_a_look_at_both() {
    let mut bench = Bench::new(|root| {
        write(root.join("a/file"), "1");
        write(root.join("a/dir/deep/file"), "2");
        write(root.join("b/keep"), "3");
    })
    .await;
    fs::rename(bench.at("a/file"), bench.at("b/file")).unwrap();
    fs::rename(bench.at("a/dir"), bench.at("b/dir")).unwrap();
    bench.follow().await;
    fs::write(bench.at("b/dir/deep/file"), "after").unwrap();
    bench.follow().await;
    assert_eq!(bench.everything, 0);
}

// WA-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_are_renamed_again_and_again_leave_no_ghosts() {
    let mut bench = Bench::new(|root| write(root.join("n0/sub/old"), "0")).await;
    for step in 0..40 {
        let (from, to) = (format!("n{step}"), format!("n{}", step + 1));
        fs::rename(bench.at(&from), bench.at(&to)).unwrap();
        write(bench.at(&format!("{to}/x{step}")), "1");
        write(bench.at(&format!("{to}/sub/y{step}")), "2");
        if step % 5 == 0 {
            bench.follow().await;
        }
    }
    bench.follow().await;
    fs::write(bench.at("n40/sub/old"), "end").unwrap();
    bench.follow().await;
    assert_eq!(bench.everything, 0);
}

// A folder that takes another's place must not inherit a watch that ends with the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_takes_the_place_of_another_is_watched() {
    let mut bench = Bench::new(|root| write(root.join("d/sub/f"), "0")).await;
    for round in 0..30 {
        fs::remove_dir_all(bench.at("d")).unwrap();
        write(bench.at("d/sub/f"), &round.to_string());
        if round % 3 == 0 {
            bench.follow().await;
        }
    }
    bench.follow().await;
    fs::write(bench.at("d/sub/g"), "last").unwrap();
    bench.follow().await;
    fs::write(bench.at("d/sub/g"), "really last").unwrap();
    bench.follow().await;
}

// WA-15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_atomic_exchange_is_seen_for_files_and_for_folders() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let mut bench = Bench::new(|root| {
        write(root.join("a"), "1");
        write(root.join("b"), "2");
        write(root.join("x/one/f"), "3");
        write(root.join("y/two/g"), "4");
    })
    .await;
    let swap = |from, to| renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
    swap(bench.at("a"), bench.at("b"));
    swap(bench.at("x"), bench.at("y"));
    bench.follow().await;
    fs::write(bench.at("x/two/g"), "5").unwrap();
    fs::write(bench.at("y/one/f"), "6").unwrap();
    bench.follow().await;
}

// WA-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignored_tree_is_never_watched_and_wakes_nobody() {
    let mut bench = Bench::new(|root| {
        write(root.join("fence/mark"), "");
        write(root.join("a/keep"), "1");
        write(root.join("a/node_modules/x/y"), "1");
    })
    .await;
    let before = bench.watcher.state();
    for number in 0..4000 {
        write(bench.at(&format!("a/node_modules/m{}/f{number}", number % 40)), "1");
        write(bench.at(&format!(".foldsync/s{number}")), "1");
    }
    bench.fence().await;
    assert_eq!(bench.reported, ["fence"]);
    let after = bench.watcher.state();
    assert_eq!(after.watched, before.watched);
    assert!(after.events - before.events < 20, "{before:?} {after:?}");
}

// WA-09: to hash a file is no reason to look at it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_files_and_listing_folders_is_no_event() {
    let mut bench = Bench::new(|root| {
        write(root.join("fence/mark"), "");
        for number in 0..50 {
            write(root.join(format!("a/f{number}")), "1");
        }
    })
    .await;
    for number in 0..50 {
        fs::read(bench.at(&format!("a/f{number}"))).unwrap();
        fs::read_dir(bench.at("a")).unwrap().for_each(drop);
    }
    bench.fence().await;
    assert_eq!(bench.reported, ["fence"]);
}

/// A source on the kernel's events whose reader runs `before` for each of them.
fn tapped(before: impl Fn(&notify::Event) + Send + Clone + 'static) -> MakeSource {
    struct Tapped(notify::RecommendedWatcher);
    impl Source for Tapped {
        fn watch(&mut self, folder: &Path) -> Result<(), WatchError> {
            let mode = notify::RecursiveMode::NonRecursive;
            self.0.watch(folder, mode).map_err(|error| WatchError::Other(error.to_string()))
        }
        fn unwatch(&mut self, folder: &Path) {
            let _ = self.0.unwatch(folder);
        }
    }
    Box::new(move |sink: EventSink| {
        let before = before.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            event.iter().for_each(&before);
            hints(event).into_iter().for_each(|hint| sink.send(hint));
        });
        Ok(Box::new(Tapped(watcher.unwrap())))
    })
}

// WA-01: the kernel's own queue runs over while the reader is stalled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_overflow_everything_is_looked_at_and_watched_again() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        eprintln!("skipped: the kernel queues {limit} events");
        return;
    }
    let gate = Arc::new(Mutex::new(()));
    let at_gate = gate.clone();
    let source = tapped(move |_| drop(at_gate.lock()));
    let mut bench = Bench::with(Options { source: Some(source), ..Options::default() }, |root| {
        write(root.join("a/f"), "1");
    })
    .await;
    {
        let _stalled = gate.lock().unwrap();
        // Three events each: created, opened, closed.
        for number in 0..limit / 3 + 1000 {
            fs::File::create(bench.at(&format!("a/n{number}"))).unwrap();
        }
        // None of these events fits any more.
        write(bench.at("late/deep/f"), "lost");
    }
    bench.follow().await;
    assert!(bench.everything > 0);
    assert_eq!(bench.watcher.state().overflows, 1);
    fs::write(bench.at("late/deep/f"), "seen").unwrap();
    bench.follow().await;
}

// WA-01, WA-13: our own queue has a bound as well, and says when it was too short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_that_do_not_fit_into_the_queue_become_everything() {
    let sinks: Arc<Mutex<Vec<EventSink>>> = Arc::default();
    let given = sinks.clone();
    let source: MakeSource = Box::new(move |sink| {
        given.lock().unwrap().push(sink);
        Ok(Box::new(Deaf))
    });
    let mut bench =
        Bench::with(Options { source: Some(source), ..Options::default() }, |_| {}).await;
    write(bench.at("a/f"), "1");
    {
        let sinks = sinks.lock().unwrap();
        let path = bench.at("elsewhere");
        for _ in 0..2_000_000 {
            sinks[0].send(Hint::Replaced(path.clone()));
            if bench.watcher.state().overflows > 0 {
                break;
            }
        }
    }
    bench.follow().await;
    assert!(bench.everything > 0);
}

// WA-17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_whose_thread_dies_is_replaced_and_everything_is_looked_at() {
    let deaths = Arc::new(AtomicUsize::new(0));
    let counted = deaths.clone();
    let source = tapped(move |event| {
        // To read it later is an event as well.
        let is_new = event.kind.is_create();
        if is_new && event.paths.iter().any(|path| path.ends_with("poison")) {
            counted.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("poison"));
        }
    });
    let mut bench = Bench::with(Options { source: Some(source), ..Options::default() }, |root| {
        write(root.join("a/f"), "1");
    })
    .await;
    fs::write(bench.at("a/poison"), "").unwrap();
    bench.follow().await;
    assert_eq!(deaths.load(Ordering::SeqCst), 1);
    assert!(bench.everything > 0);
    assert_eq!(bench.watcher.state().restarts, 1);
    assert_eq!(bench.watcher.state().degraded, None);
    fs::write(bench.at("a/f"), "after").unwrap();
    bench.follow().await;
}

/// Watches nothing.
struct Deaf;

impl Source for Deaf {
    fn watch(&mut self, _: &Path) -> Result<(), WatchError> {
        Ok(())
    }
    fn unwatch(&mut self, _: &Path) {}
}

// WA-17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_dies_again_and_again_is_reported_and_polled_until_it_works() {
    let is_healthy = Arc::new(AtomicBool::new(false));
    let healthy = is_healthy.clone();
    let mut real = kernel();
    // Dead at birth, as often as it is replaced.
    let source: MakeSource =
        Box::new(
            move |sink| {
                if healthy.load(Ordering::SeqCst) { real(sink) } else { Ok(Box::new(Deaf)) }
            },
        );
    let poll = Some(Duration::from_millis(300));
    let mut bench =
        Bench::with(Options { source: Some(source), poll, watches_max: None }, |root| {
            write(root.join("a/f"), "1");
        })
        .await;
    let died = Some(Degraded::Polling { reason: PollingReason::Died });
    bench.degraded_until(|degraded| *degraded == died).await;
    fs::write(bench.at("a/f"), "while deaf").unwrap();
    bench.follow().await;
    is_healthy.store(true, Ordering::SeqCst);
    bench.degraded_until(Option::is_none).await;
    fs::write(bench.at("a/f"), "after").unwrap();
    bench.follow().await;
}

// WA-02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_folders_are_polled_and_the_state_says_so() {
    let options =
        Options { watches_max: Some(10), poll: Some(Duration::from_millis(300)), source: None };
    let mut bench = Bench::with(options, |root| {
        for number in 0..50 {
            write(root.join(format!("d{number:02}/f")), "1");
        }
    })
    .await;
    let state = bench.watcher.state();
    let limit = Some(Degraded::Polling { reason: PollingReason::WatchLimit });
    assert_eq!((state.watched, state.unwatched, &state.degraded), (10, 41, &limit));
    assert!(state.advice().unwrap().starts_with("sysctl fs.inotify.max_user_watches="));
    for number in 0..50 {
        fs::write(bench.at(&format!("d{number:02}/f")), "2").unwrap();
    }
    write(bench.at("new/deep/f"), "1");
    bench.follow().await;
    for number in 0..45 {
        fs::remove_dir_all(bench.at(&format!("d{number:02}"))).unwrap();
    }
    bench.follow().await;
    // With room again, the rest gets its watches.
    bench.degraded_until(Option::is_none).await;
    assert_eq!(bench.watcher.state().unwatched, 0);
}

// WA-02, with the kernel's own limit, in a user namespace that has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_kernels_limit_nothing_is_missed() {
    const INSIDE: &str = "FOLDSYNC_TEST_WATCH_LIMIT";
    if std::env::var_os(INSIDE).is_none() {
        let script = "echo 100 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact \
                      at_the_kernels_limit_nothing_is_missed";
        let run = std::process::Command::new("unshare")
            .args(["-Ur", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(INSIDE, "1")
            .output();
        match run {
            Ok(output) if output.status.success() => {}
            Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
                panic!("{}", String::from_utf8_lossy(&output.stdout));
            }
            // No user namespaces, or none that may set the limit.
            Ok(_) | Err(_) => eprintln!("skipped: no user namespace with a limit of its own"),
        }
        return;
    }
    let poll = Some(Duration::from_millis(300));
    let mut bench = Bench::with(Options { poll, ..Options::default() }, |root| {
        for number in 0..500 {
            write(root.join(format!("d{number}/f")), "1");
        }
    })
    .await;
    let WatchState { watched, unwatched, degraded, .. } = bench.watcher.state();
    assert_eq!((watched, unwatched), (100, 401));
    assert_eq!(degraded, Some(Degraded::Polling { reason: PollingReason::WatchLimit }));
    for number in 0..500 {
        fs::write(bench.at(&format!("d{number}/f")), "2").unwrap();
    }
    bench.follow().await;
}

// WA-03, WA-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_replaced_is_reported_as_everything_and_watched_anew() {
    let poll = Some(Duration::from_millis(300));
    let mut bench = Bench::with(Options { poll, ..Options::default() }, |root| {
        write(root.join("a/f"), "1");
    })
    .await;
    fs::rename(&bench.root, bench.outside.join("root2")).unwrap();
    write(bench.at("b/g"), "2");
    bench.follow().await;
    assert!(bench.everything > 0);
    bench.degraded_until(Option::is_none).await;
    fs::write(bench.at("b/g"), "3").unwrap();
    bench.follow().await;
}

// FK-15, FK-16: what is reported last shows the final content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_final_content_of_every_way_to_save_a_file_is_seen() {
    let mut bench = Bench::new(|root| {
        for name in ["vim", "sed", "office", "rsync", "emacs", "append", "copy"] {
            write(root.join(format!("docs/{name}.txt")), "old");
        }
    })
    .await;
    let at = |name: &str| bench.at(&format!("docs/{name}"));
    // vim: probe file, backup, new file under the old name, backup removed.
    write(at("4913"), "");
    fs::remove_file(at("4913")).unwrap();
    fs::rename(at("vim.txt"), at("vim.txt~")).unwrap();
    write(at("vim.txt"), "vim new");
    fs::remove_file(at("vim.txt~")).unwrap();
    // sed -i: temporary file renamed over.
    write(at("sedXYZ"), "sed new");
    fs::rename(at("sedXYZ"), at("sed.txt")).unwrap();
    // LibreOffice: lock file, old version moved away, new one moved in.
    write(at(".~lock.office.txt#"), "ann");
    write(at("lu1.tmp"), "office new");
    fs::rename(at("office.txt"), at("lu2.tmp")).unwrap();
    fs::rename(at("lu1.tmp"), at("office.txt")).unwrap();
    fs::remove_file(at("lu2.tmp")).unwrap();
    fs::remove_file(at(".~lock.office.txt#")).unwrap();
    // rsync: hidden temporary file, then rename.
    write(at(".rsync.txt.Ab12"), "rsync new");
    fs::rename(at(".rsync.txt.Ab12"), at("rsync.txt")).unwrap();
    // emacs: hard link as backup, then written in place.
    fs::hard_link(at("emacs.txt"), at("emacs.txt~")).unwrap();
    fs::write(at("emacs.txt"), "emacs new").unwrap();
    let mut log = fs::OpenOptions::new().append(true).open(at("append.txt")).unwrap();
    log.write_all(b" and new").unwrap();
    let mut copy = fs::File::create(at("copy.txt")).unwrap();
    copy.write_all(b"first half, ").unwrap();
    // A copy that pauses is seen half first, and whole in the end.
    bench.follow().await;
    copy.write_all(b"second half").unwrap();
    drop(copy);
    bench.follow().await;
    assert_eq!(bench.seen["docs/copy.txt"], b"first half, second half");
    assert!(bench.reported.iter().all(|folder| folder == "docs"), "{:?}", bench.reported);
}

// FK-20
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_modes_that_change_are_reported() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bench = Bench::new(|root| write(root.join("a/f"), "1")).await;
    fs::set_permissions(bench.at("a/f"), fs::Permissions::from_mode(0o600)).unwrap();
    let next = bench.next().await;
    assert_eq!(next, Sighting::Folders([RelPath::new("a").unwrap()].into()));
}

// NM-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_text_is_reported_by_its_folder() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut bench = Bench::new(|root| write(root.join("a/f"), "1")).await;
    let odd = bench.at("a").join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("f"), "1").unwrap();
    let next = bench.next().await;
    assert_eq!(next, Sighting::Folders([RelPath::new("a").unwrap()].into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_watcher_ends_its_stream() {
    let Bench { watcher, mut sightings, .. } = Bench::new(|_| {}).await;
    drop(watcher);
    let ended = tokio::time::timeout(PATIENCE, sightings.recv()).await.unwrap();
    assert_eq!(ended, None);
}
