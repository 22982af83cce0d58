//! The daemon as a real process: what arrives where, what it answers, how it ends. Waits for its
//! events, never for a time.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

mod follow;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use foldsync::daemon::client::ClientError;
use foldsync::daemon::events::Happening;
use foldsync::daemon::status::{Degraded, PairStatus, State, Watch};
use foldsync::engine::report::OpKind;
use follow::{Follow, PATIENCE};
use tempfile::TempDir;

/// A home with one pair, `docs`, of the folders `local` and `remote`.
struct Home {
    folder: TempDir,
    follow: Follow,
}

/// Ends with the test, whatever becomes of it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Home {
    /// `poll` is how often the remote is looked at.
    fn new(poll: &str) -> Home {
        let folder = TempDir::new().unwrap();
        let follow = Follow::new(folder.path().join("state/foldsync/control.sock"));
        let home = Home { folder, follow };
        for folder in ["config/foldsync", "local", "remote"] {
            std::fs::create_dir_all(home.path(folder)).unwrap();
        }
        home.configure(&home.pair("docs", "local", "remote", poll));
        home
    }

    fn pair(&self, name: &str, local: &str, remote: &str, poll: &str) -> String {
        let (local, remote) = (self.path(local), self.path(remote));
        format!(
            "[[pair]]\nname = \"{name}\"\nlocal = {local:?}\nremote = \"dir:{}\"\n\
             settle = \"100ms\"\npoll_interval = \"{poll}\"\n",
            remote.display()
        )
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.path("config/foldsync/sync.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Local files `f0`, `f1` and so on.
    fn write_many(&self, files: usize) {
        (0..files).for_each(|number| self.write(&format!("local/f{number}"), "text"));
    }

    fn remove_many(&self, files: usize) {
        let paths = (0..files).map(|number| self.path(&format!("local/f{number}")));
        paths.for_each(|path| std::fs::remove_file(path).unwrap());
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("foldsync"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            // For hooks.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// A daemon that answers, and has come to rest.
    fn start(&self) -> Daemon {
        self.start_as("daemon")
    }

    fn start_as(&self, command: &str) -> Daemon {
        self.start_by(self.command(&[command]))
    }

    /// In a user namespace in which the kernel gives no more watches than these. `None` where common
    /// users get no such namespace.
    fn start_with_watches(&self, watches: u32) -> Option<Daemon> {
        let limit = format!("echo {watches} > /proc/sys/user/max_inotify_watches");
        let inside = |then: &str| {
            let mut command = Command::new("unshare");
            command.args(["-Ur", "sh", "-c", &format!("{limit} && exec {then}")]);
            command
        };
        let probe = inside("true").stderr(Stdio::null()).status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no user namespace with a limit of its own");
            return None;
        }
        let plain = self.command(&["daemon"]);
        let mut command = inside("\"$0\" daemon");
        command.arg(plain.get_program()).env_clear().stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("PATH", "/usr/bin:/bin");
        Some(self.start_by(command))
    }

    fn start_by(&self, mut command: Command) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // Its log tells when it is there: the socket is bound before.
        let log = BufReader::new(child.stderr.take().unwrap());
        let daemon = Daemon(child);
        let (told, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines() {
                let Ok(line) = line else { return };
                if line.contains("keeping pairs in sync") {
                    let _ = told.send(());
                }
            }
        });
        ready.recv_timeout(PATIENCE).expect("the daemon says that it keeps pairs");
        daemon
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let out = String::from_utf8(stdout).unwrap();
        let err = String::from_utf8(stderr).unwrap();
        let command = arguments.join(" ");
        assert_eq!(status.code(), Some(code), "foldsync {command}\nstdout: {out}\nstderr: {err}");
        format!("{out}{err}")
    }

    fn status(&self) -> PairStatus {
        self.follow.status()
    }

    fn now(&self) -> u64 {
        self.follow.now()
    }

    #[track_caller]
    fn await_event(&self, since: u64, what: &str, is: impl Fn(&Happening) -> bool) {
        self.follow.await_event(since, what, is);
    }

    #[track_caller]
    fn await_operation(&self, since: u64, op: &str, path: &str) {
        self.await_event(since, &format!("{op} of {path}"), |happening| {
            matches!(happening, Happening::Operation { report, .. }
                if report.op.as_str() == op && report.path == path && report.error.is_none())
        });
    }

    #[track_caller]
    fn await_state(&self, since: u64, state: State) {
        self.await_event(
            since,
            state.word(),
            |happening| matches!(happening, Happening::State { to, .. } if *to == state),
        );
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".foldsync");
    names.sort();
    names
}

impl Daemon {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn code(mut self) -> Option<i32> {
        let (told, ended) = std::sync::mpsc::channel();
        let pid = self.0.id();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE).is_err() {
                let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
            }
        });
        let code = self.0.wait().unwrap().code();
        let _ = told.send(());
        code
    }
}

// ---- syncing -------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_saved_locally_arrives_without_anybody_asking() {
    // The remote is not looked at in the time of the test: only the watcher can have noticed.
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let since = home.now();
    home.write("local/report", "text");
    home.await_operation(since, "upload", "report");
    assert_eq!(home.read("remote/report").as_deref(), Some("text"));
}

#[test]
fn a_remote_change_arrives_with_the_next_poll() {
    let home = Home::new("1s");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let since = home.now();
    home.write("remote/report", "text");
    home.await_operation(since, "download", "report");
    assert_eq!(home.read("local/report").as_deref(), Some("text"));
}

#[test]
fn sync_without_once_is_the_daemon_with_its_log() {
    let home = Home::new("1h");
    let _daemon = home.start_as("sync");
    home.write("remote/report", "text");
    home.run(&["flush"], 0);
    assert_eq!(home.read("local/report").as_deref(), Some("text"));
}

#[test]
fn flush_returns_when_both_sides_are_equal() {
    let home = Home::new("1h");
    let _daemon = home.start();
    for number in 0..20 {
        home.write(&format!("local/l{number}"), "here");
        home.write(&format!("remote/r{number}"), "there");
    }
    home.run(&["flush", "docs"], 0);
    assert_eq!(names(&home.path("local")).len(), 40);
    assert_eq!(names(&home.path("local")), names(&home.path("remote")));
}

// CR-16
#[test]
fn sync_once_asks_the_daemon_instead_of_working_beside_it() {
    let home = Home::new("1h");
    let daemon = home.start();
    home.write("remote/report", "text");
    assert!(home.run(&["sync", "--once"], 0).contains("by the daemon"));
    assert_eq!(home.read("local/report").as_deref(), Some("text"));
    let said = home.run(&["sync", "--once", "--force"], 6);
    assert!(said.contains("foldsync stop"), "{said}");
    drop(daemon);
    home.write("remote/more", "text");
    assert!(!home.run(&["sync", "--once"], 0).contains("by the daemon"));
    assert_eq!(home.read("local/more").as_deref(), Some("text"));
}

// ---- telling -------------------------------------------------------------------------------------

#[test]
fn status_asks_the_daemon_while_one_runs() {
    let home = Home::new("1h");
    home.write("local/report", "text");
    let daemon = home.start();
    home.run(&["status", "--wait=60s"], 0);
    let status: serde_json::Value =
        serde_json::from_str(&home.run(&["status", "--json"], 0)).unwrap();
    assert_eq!(status["pid"], daemon.0.id());
    let pair = &status["pairs"][0];
    assert_eq!((&pair["name"], &pair["state"]), (&"docs".into(), &"idle".into()));
    assert_eq!((&pair["local"]["files"], &pair["local"]["watch"]), (&1.into(), &"watching".into()));
    home.run(&["status", "--check"], 0);
    let path = home.path("local/report");
    assert!(home.run(&["status", path.to_str().unwrap()], 0).contains("report"));
    drop(daemon);
    assert!(home.run(&["status"], 6).contains("no daemon is running"));
}

#[test]
fn every_request_to_a_daemon_that_is_not_there_exits_with_6() {
    let home = Home::new("1h");
    for request in ["pause", "resume", "flush", "rescan", "stop", "reload", "status"] {
        assert!(home.run(&[request], 6).contains("no"), "{request}");
    }
}

#[test]
fn an_unknown_pair_is_a_mistake_of_the_command_line() {
    let home = Home::new("1h");
    let _daemon = home.start();
    for request in ["pause", "resume", "flush", "rescan"] {
        assert!(home.run(&[request, "dosc"], 2).contains("dosc"), "{request}");
    }
}

#[test]
fn commands_in_a_session_find_a_daemon_that_was_started_without_one() {
    let home = Home::new("1h");
    let _daemon = home.start();
    std::fs::create_dir(home.path("run")).unwrap();
    let asked = home.command(&["flush"]).env("XDG_RUNTIME_DIR", home.path("run")).output();
    assert_eq!(asked.unwrap().status.code(), Some(0));
}

// ---- steering ------------------------------------------------------------------------------------

#[test]
fn a_paused_pair_is_left_alone_until_it_is_resumed() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    home.run(&["pause", "docs"], 0);
    assert_eq!(home.status().state, State::Paused);
    home.write("local/mine", "text");
    home.write("remote/theirs", "text");
    // Neither of these ends a pause or works around it.
    home.run(&["rescan"], 0);
    assert!(home.run(&["flush"], 1).contains("paused"));
    assert_eq!((home.read("remote/mine"), home.read("local/theirs")), (None, None));
    home.run(&["resume"], 0);
    home.run(&["flush"], 0);
    assert!(home.read("remote/mine").is_some() && home.read("local/theirs").is_some());
}

#[test]
fn a_pause_for_a_time_ends_by_itself_and_nothing_is_missed() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let since = home.now();
    home.run(&["pause", "--for", "1s"], 0);
    home.write("remote/theirs", "text");
    home.await_operation(since, "download", "theirs");
}

#[test]
fn a_pause_outlives_the_daemon_and_so_does_its_end() {
    let home = Home::new("1h");
    let daemon = home.start();
    home.run(&["flush"], 0);
    home.run(&["pause"], 0);
    drop(daemon);
    home.write("local/mine", "text");
    let daemon = home.start();
    assert!(home.run(&["flush"], 1).contains("paused"));
    assert_eq!((home.status().state, home.read("remote/mine")), (State::Paused, None));
    home.run(&["resume"], 0);
    home.run(&["flush"], 0);
    assert!(home.read("remote/mine").is_some());
    // A pause for a time ends also if it began in another process.
    home.run(&["pause", "--for", "1s"], 0);
    drop(daemon);
    home.write("remote/theirs", "text");
    let daemon = home.start();
    home.await_operation(0, "download", "theirs");
    home.run(&["flush"], 0);
    home.run(&["pause", "--for", "1d"], 0);
    daemon.signal("TERM");
    assert_eq!(daemon.code(), Some(0));
    home.run(&["status", "--check"], 0);
    let daemon = home.start();
    let status = home.status();
    assert!(status.state == State::Paused && status.paused_until.is_some(), "{status:#?}");
    // A process that did nothing leaves what was known before.
    daemon.signal("TERM");
    assert_eq!(daemon.code(), Some(0));
    home.run(&["status", "--check"], 0);
}

#[test]
fn a_wait_is_not_over_before_what_was_saved_is_synced() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    for round in 0..10 {
        // The remote is not watched: only a look finds this.
        home.write("remote/theirs", &format!("{round}"));
        home.write("local/mine", &format!("{round}"));
        home.run(&["status", "--wait=60s"], 0);
        let synced = Some(round.to_string());
        assert_eq!((home.read("local/theirs"), home.read("remote/mine")), (synced.clone(), synced));
    }
    home.run(&["pause"], 0);
    assert!(home.run(&["status", "--wait"], 0).contains("Paused"));
}

#[test]
fn a_reload_moves_the_socket_and_changes_the_level_of_the_log() {
    let home = Home::new("1h");
    let docs = home.pair("docs", "local", "remote", "1h");
    let configure = |level: &str, rest: &str| {
        home.configure(&format!("[daemon]\nlog = \"{level}\"\n{rest}{docs}"));
    };
    configure("warn", "");
    let log = std::fs::File::create(home.path("log")).unwrap();
    let daemon = Daemon(home.command(&["daemon"]).stderr(log).spawn().unwrap());
    let begun = std::time::Instant::now();
    while home.follow.runtime.block_on(home.follow.client.status()).is_err() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    home.write("local/quiet", "text");
    home.run(&["flush"], 0);
    assert_eq!(home.read("log").as_deref(), Some(""));

    let socket = format!("socket = {:?}\n", home.path("run/here.sock"));
    configure("info", &socket);
    let since = home.now();
    daemon.signal("HUP");
    home.await_event(since, "reload", |happening| matches!(happening, Happening::Reloaded));
    home.write("local/told", "text");
    // Found at the new place as soon as it is there.
    while home.command(&["flush"]).output().unwrap().status.code() != Some(0) {
        assert!(begun.elapsed() < PATIENCE);
    }
    let log = home.read("log").unwrap();
    assert!(log.contains("object=\"told\"") || log.contains("object=told"), "{log}");
    assert!(!log.contains("quiet"), "{log}");

    // A place that cannot be had leaves everything as it is.
    configure("info", "socket = \"/proc/nowhere/control.sock\"\n");
    daemon.signal("HUP");
    while !home.read("log").unwrap().contains("stays where it is") {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    configure("info", &socket);
    home.run(&["flush"], 0);
    home.run(&["stop"], 0);
    assert_eq!(daemon.code(), Some(0));
    assert!(
        !home.path("run/here.sock").exists() && !home.path("state/foldsync/control.sock").exists()
    );
}

#[test]
fn a_deep_rescan_reads_every_file_and_a_plain_one_none() {
    let home = Home::new("1h");
    for name in ["local/one", "local/two", "local/three"] {
        home.write(name, "text");
        // Written long ago: a file of this moment is read again for that reason alone.
        let file = std::fs::File::options().write(true).open(home.path(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }
    let _daemon = home.start();
    let reads = || {
        home.run(&["flush"], 0);
        let counts = home.status().totals.operations;
        counts.iter().filter(|count| count.op == OpKind::Read).map(|count| count.count).sum::<u64>()
    };
    reads();
    let before = reads();
    home.run(&["rescan"], 0);
    assert_eq!(reads(), before);
    home.run(&["rescan", "--deep"], 0);
    assert_eq!(reads(), before + 3);
}

#[test]
fn a_reload_starts_new_pairs_and_leaves_the_others_running() {
    let home = Home::new("1h");
    let daemon = home.start();
    home.run(&["flush"], 0);
    for folder in ["pics", "store"] {
        std::fs::create_dir(home.path(folder)).unwrap();
    }
    home.write("pics/photo", "light");
    let cycles = home.status().totals.cycles;
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("{}{docs}", home.pair("pics", "pics", "store", "1h")));
    home.run(&["reload"], 0);
    home.run(&["flush", "pics"], 0);
    assert_eq!(home.read("store/photo").as_deref(), Some("light"));
    assert_eq!(home.status().totals.cycles, cycles, "the other pair was started anew");

    home.configure("[[pair]]\nname = 7\n");
    let said = home.run(&["reload"], 78);
    assert!(said.contains("the old configuration stays in force"), "{said}");
    assert_eq!(home.follow.statuses().pairs.len(), 2);

    home.configure(&docs);
    let since = home.now();
    daemon.signal("HUP");
    home.await_event(since, "reload", |happening| matches!(happening, Happening::Reloaded));
    assert_eq!(home.follow.statuses().pairs.len(), 1);
}

#[test]
fn a_pair_that_cannot_run_leaves_the_others_alone_and_comes_back_by_itself() {
    let home = Home::new("1h");
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("{}{docs}", home.pair("pics", "pics", "store", "1h")));
    let _daemon = home.start();
    home.write("local/report", "text");
    home.run(&["flush", "docs"], 0);
    assert_eq!(home.read("remote/report").as_deref(), Some("text"));
    assert!(home.run(&["flush", "pics"], 7).contains("pics"));
    for folder in ["pics", "store"] {
        std::fs::create_dir(home.path(folder)).unwrap();
    }
    home.write("pics/photo", "light");
    home.run(&["flush"], 0);
    assert_eq!(home.read("store/photo").as_deref(), Some("light"));
}

// ---- telling other programs ----------------------------------------------------------------------

/// What hooks told, in the order in which they were called.
struct Told(Receiver<serde_json::Value>);

impl Told {
    /// A command that tells, as it stands in the configuration.
    fn by_command(home: &Home) -> (Told, String) {
        let pipe = home.path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Open for writing too, so that it never ends.
        let file = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
        let (sender, told) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let script = format!("echo \"$(cat)\" > '{}'", pipe.display());
        (Told(told), format!("[\"sh\", \"-c\", {script:?}]"))
    }

    /// The same with an address.
    fn by_webhook() -> (Told, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("\"http://{}/hook?key=secret\"", listener.local_addr().unwrap());
        let (sender, told) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = sender.send(answer_post(stream.unwrap()));
            }
        });
        (Told(told), address)
    }

    #[track_caller]
    fn next(&self, hook: &str) -> serde_json::Value {
        let told = self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{hook} was not told"));
        assert_eq!(told["hook"], hook, "{told}");
        assert_eq!(told["pair"], "docs", "{told}");
        told
    }
}

fn answer_post(mut stream: TcpStream) -> serde_json::Value {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    assert!(head.starts_with("POST /hook?key=secret HTTP/1.1\r\n"), "{head}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_command_is_told_of_a_conflict_and_of_each_cycle_that_did_something() {
    let home = Home::new("1h");
    let (told, command) = Told::by_command(&home);
    let docs = home.pair("docs", "local", "remote", "1h");
    let hooks = format!("[hooks]\nafter_cycle = {command}\n");
    home.configure(&format!("{docs}[pair.hooks]\non_conflict = {command}\n{hooks}"));
    home.write("local/report", "base");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let cycle = told.next("after_cycle");
    assert_eq!((&cycle["detail"]["exit"], &cycle["message"]), (&0.into(), &"1 operation".into()));
    assert_eq!(cycle["detail"]["operations"][0]["op"], "upload");
    // Idle cycles are not worth a word: what is told next is the conflict.
    home.run(&["flush"], 0);
    home.run(&["pause"], 0);
    home.write("local/report", "my version");
    home.write("remote/report", "their longer version");
    home.run(&["resume"], 0);
    home.run(&["flush"], 3);
    let conflict = told.next("on_conflict");
    assert_eq!(conflict["detail"]["path"], "report");
    assert!(conflict["detail"]["copy"].as_str().unwrap().starts_with("report.conflict-"));
    assert_eq!(told.next("after_cycle")["detail"]["exit"], 3);
}

#[test]
fn a_webhook_is_told_of_held_deletions_once_also_after_a_restart() {
    let home = Home::new("1h");
    let (told, address) = Told::by_webhook();
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("[hooks]\non_hold = {address}\non_conflict = {address}\n{docs}"));
    home.write_many(30);
    home.write("local/stays", "text");
    let daemon = home.start();
    home.run(&["flush"], 0);
    home.remove_many(30);
    home.run(&["flush"], 4);
    let held = told.next("on_hold");
    assert_eq!(held["detail"]["id"], home.status().held[0].id);
    assert!(held["message"].as_str().unwrap().contains("foldsync held show"), "{held}");
    home.run(&["flush"], 4);
    drop(daemon);
    let _daemon = home.start();
    home.run(&["flush"], 4);
    // Nothing more of it: the next thing that is told is another one.
    home.run(&["pause"], 0);
    home.write("local/stays", "my version");
    home.write("remote/stays", "their longer version");
    home.run(&["resume"], 0);
    home.run(&["flush"], 4);
    told.next("on_conflict");
}

#[test]
fn hooks_that_hang_stall_neither_the_pair_nor_the_end_of_the_daemon() {
    let home = Home::new("1h");
    let docs = home.pair("docs", "local", "remote", "1h");
    let hang = "[\"sleep\", \"100000\"]";
    home.configure(&format!("[hooks]\nafter_cycle = {hang}\ntimeout = \"1d\"\n{docs}"));
    let daemon = home.start();
    for number in 0..10 {
        home.write(&format!("local/f{number}"), "text");
        home.run(&["flush"], 0);
    }
    assert_eq!(names(&home.path("remote")).len(), 10);
    home.run(&["reload"], 0);
    home.run(&["stop"], 0);
    assert_eq!(daemon.code(), Some(0));
}

#[test]
fn a_reload_applies_new_hooks_to_a_pair_that_goes_on() {
    let home = Home::new("1h");
    let daemon = home.start();
    home.run(&["flush"], 0);
    let cycles = home.status().totals.cycles;
    let (told, address) = Told::by_webhook();
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("[hooks]\nafter_cycle = {address}\n{docs}"));
    let since = home.now();
    daemon.signal("HUP");
    home.await_event(since, "reload", |happening| matches!(happening, Happening::Reloaded));
    assert_eq!(home.status().totals.cycles, cycles, "the pair was started anew");
    home.write("local/report", "text");
    told.next("after_cycle");
    home.configure(&format!("[hooks]\nafter_cycle = \"htps://x\"\n{docs}"));
    assert!(home.run(&["reload"], 78).contains("neither a command nor an address"));
}

#[test]
fn a_pair_that_stopped_is_told_once_and_not_at_each_retry() {
    let home = Home::new("1h");
    let (told, address) = Told::by_webhook();
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("[hooks]\non_error = {address}\nafter_cycle = {address}\n{docs}"));
    std::fs::remove_dir(home.path("local")).unwrap();
    let _daemon = home.start();
    for _retry in 0..3 {
        home.run(&["flush"], 7);
    }
    assert!(told.next("on_error")["message"].as_str().unwrap().contains("mkdir -p"));
    std::fs::create_dir(home.path("local")).unwrap();
    home.write("local/report", "text");
    home.run(&["flush"], 0);
    told.next("after_cycle");
}

#[test]
fn a_pair_that_has_not_succeeded_for_too_long_is_told_once_and_noted() {
    let home = Home::new("1h");
    let (told, address) = Told::by_webhook();
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!(
        "[daemon]\nalert_after = \"1s\"\n[hooks]\non_error = {address}\nafter_cycle = {address}\n{docs}"
    ));
    std::fs::rename(home.path("local"), home.path("elsewhere")).unwrap();
    let _daemon = home.start();
    told.next("on_error");
    let silence = told.next("on_error");
    assert!(silence["detail"]["silent_s"].as_u64().unwrap() >= 1, "{silence}");
    let notes = home.status().notes;
    assert!(notes.iter().any(|note| note.contains("nothing was synced")), "{notes:?}");
    std::fs::rename(home.path("elsewhere"), home.path("local")).unwrap();
    home.write("local/report", "text");
    home.run(&["flush"], 0);
    told.next("after_cycle");
}

// ---- not as well as it could be ------------------------------------------------------------------

#[test]
fn too_little_room_is_said_and_a_reload_changes_how_much_that_is() {
    let home = Home::new("1h");
    let docs = home.pair("docs", "local", "remote", "1h");
    home.configure(&format!("[daemon]\nlow_space = \"100000T\"\n{docs}"));
    let _daemon = home.start();
    home.run(&["flush"], 0);
    assert_eq!(home.status().degraded, [Degraded::LowSpace]);
    assert!(home.run(&["status"], 0).contains("are free for the local folder"));
    home.configure(&format!("[daemon]\nlow_space = \"1\"\n{docs}"));
    home.run(&["reload"], 0);
    home.run(&["flush"], 0);
    assert_eq!(home.status().degraded, []);
}

#[test]
fn the_time_of_the_listing_is_that_of_the_last_look_at_the_remote() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let listed_at = home.status().remote.listing_at.unwrap();
    // A local change makes a cycle, but lists nothing remote. Times are told to the second.
    while home.status().last_success.unwrap() <= listed_at {
        let since = home.now();
        home.write("local/report", &format!("{since}"));
        home.await_operation(since, "upload", "report");
        home.await_state(since, State::Idle);
    }
    let status = home.status();
    assert_eq!((status.remote.listing_at, status.remote.listing_complete), (Some(listed_at), true));
    home.run(&["flush"], 0);
    assert!(home.status().remote.listing_at.unwrap() > listed_at);
}

// ---- guards --------------------------------------------------------------------------------------

// WA-03, WA-04, SF-01
#[test]
fn a_root_that_is_moved_away_holds_the_pair_and_deletes_nothing() {
    let home = Home::new("1h");
    home.write("local/report", "text");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let since = home.now();
    std::fs::rename(home.path("local"), home.path("elsewhere")).unwrap();
    home.await_state(since, State::Held);
    home.run(&["flush"], 4);
    home.run(&["status", "--check"], 4);
    // Another folder in its place is not the root either.
    std::fs::create_dir(home.path("local")).unwrap();
    home.run(&["flush"], 4);
    assert_eq!(home.read("remote/report").as_deref(), Some("text"));
    std::fs::remove_dir(home.path("local")).unwrap();
    std::fs::rename(home.path("elsewhere"), home.path("local")).unwrap();
    home.run(&["flush"], 0);
    assert_eq!(names(&home.path("local")), names(&home.path("remote")));
}

#[test]
fn a_root_that_is_gone_is_said_before_what_waits_for_a_person() {
    let home = Home::new("1h");
    home.write_many(30);
    let _daemon = home.start();
    home.run(&["flush"], 0);
    home.remove_many(30);
    home.run(&["flush"], 4);
    assert!(home.run(&["status"], 0).contains("approve with: foldsync held show 1"));
    let since = home.now();
    std::fs::rename(home.path("remote"), home.path("elsewhere")).unwrap();
    home.run(&["flush"], 4);
    home.await_state(since, State::Held);
    let told = home.run(&["status"], 0);
    assert!(told.contains("remote is gone") && told.contains("30 deletes held"), "{told}");
    assert!(!told.contains("approve with"), "{told}");
    assert!(home.run(&["status", "--check"], 4).contains("remote is gone"));
}

// CR-10
#[test]
fn a_daemon_whose_database_refuses_to_be_written_says_so_and_goes_on_once_it_is_well() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    let database = rusqlite::Connection::open(home.path("state/foldsync/docs.db")).unwrap();
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON intent
        BEGIN SELECT RAISE(ABORT, 'no room for it'); END";
    database.execute_batch(refuse).unwrap();
    let since = home.now();
    home.write("local/report", "text");
    home.await_state(since, State::Error);
    let message = home.status().message.unwrap();
    assert!(message.contains("no room for it"), "{message}");
    assert_eq!(home.read("remote/report"), None);
    home.run(&["flush"], 7);
    database.execute_batch("DROP TRIGGER full").unwrap();
    home.run(&["flush"], 0);
    assert_eq!(home.read("remote/report").as_deref(), Some("text"));
}

#[test]
fn a_pair_that_cannot_run_can_be_paused_and_stays_so() {
    let home = Home::new("1h");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    std::fs::rename(home.path("local"), home.path("elsewhere")).unwrap();
    home.run(&["flush"], 4);
    home.run(&["pause"], 0);
    std::fs::rename(home.path("elsewhere"), home.path("local")).unwrap();
    home.write("remote/report", "text");
    assert!(home.run(&["flush"], 1).contains("paused"));
    assert_eq!((home.status().state, home.read("local/report")), (State::Paused, None));
    home.run(&["resume"], 0);
    home.run(&["flush"], 0);
    assert!(home.read("local/report").is_some());
}

// SF-07, SF-10
#[test]
fn held_deletions_are_carried_out_when_a_person_approves_them() {
    for (verb, left) in [("approve", 1), ("reject", 31)] {
        let home = Home::new("1h");
        home.write_many(30);
        home.write("local/stays", "text");
        let _daemon = home.start();
        home.run(&["flush"], 0);
        home.remove_many(30);
        home.run(&["flush"], 4);
        assert_eq!(names(&home.path("remote")).len(), 31);
        let held = home.status().held;
        assert_eq!(held.len(), 1);
        home.run(&["held", verb, &held[0].id.to_string()], 0);
        home.run(&["flush"], 0);
        assert_eq!(names(&home.path("remote")).len(), left, "{verb}");
        assert_eq!(names(&home.path("local")).len(), left, "{verb}");
    }
}

#[test]
fn a_conflict_is_resolved_through_the_daemon() {
    let home = Home::new("1h");
    home.write("local/report", "base");
    let _daemon = home.start();
    home.run(&["flush"], 0);
    home.run(&["pause"], 0);
    home.write("local/report", "my version");
    home.write("remote/report", "their longer version");
    home.run(&["resume"], 0);
    home.run(&["flush"], 3);
    let listed = home.run(&["conflicts", "list", "--json"], 0);
    let id = serde_json::from_str::<serde_json::Value>(&listed).unwrap()["id"].to_string();
    home.run(&["conflicts", "resolve", &id, "--keep", "local"], 0);
    home.run(&["flush"], 0);
    assert_eq!(names(&home.path("remote")), ["report"]);
    assert_eq!(home.read("remote/report").as_deref(), Some("my version"));
    assert!(home.run(&["history"], 0).contains("conflict"));
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    use std::os::unix::fs::MetadataExt as _;
    let home = Home::new("1h");
    let docs = home.pair("docs", "local", "nowhere", "1h");
    home.configure(&docs);
    let log = std::fs::File::create(home.path("log")).unwrap();
    let stat = log.metadata().unwrap();
    let mut command = home.command(&["daemon"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
    let daemon = Daemon(command.stderr(log).spawn().unwrap());
    let begun = std::time::Instant::now();
    while !home.read("log").unwrap().contains("cannot run") {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    daemon.signal("TERM");
    assert_eq!(daemon.code(), Some(0));
    let log = home.read("log").unwrap();
    assert!(log.contains("<6>keeping pairs in sync\n"), "{log}");
    assert!(log.contains("<4>the pair cannot run pair="), "{log}");
}

// ---- starting and ending -------------------------------------------------------------------------

// CR-14
#[test]
fn a_second_daemon_exits_with_6_and_the_first_one_goes_on() {
    let home = Home::new("1h");
    let daemon = home.start();
    let said = home.run(&["daemon"], 6);
    assert!(said.contains(&daemon.0.id().to_string()), "{said}");
    home.run(&["sync"], 6);
    home.run(&["flush"], 0);
}

#[test]
fn a_signal_or_a_request_ends_the_daemon_with_0_and_the_pair_is_consistent() {
    for end in ["TERM", "INT", "stop"] {
        let home = Home::new("1h");
        home.write_many(200);
        let daemon = home.start();
        match end {
            "stop" => drop(home.run(&["stop"], 0)),
            signal => daemon.signal(signal),
        }
        assert_eq!(daemon.code(), Some(0), "{end}");
        let asked = home.follow.runtime.block_on(home.follow.client.status());
        assert!(matches!(asked, Err(ClientError::NoDaemon(_))), "{asked:?}");
        home.run(&["sync", "--once"], 0);
        assert_eq!(names(&home.path("local")), names(&home.path("remote")), "{end}");
        assert_eq!(names(&home.path("local")).len(), 200, "{end}");
    }
}

#[test]
fn what_the_daemon_left_is_what_status_tells_afterwards() {
    let home = Home::new("1h");
    home.write("local/report", "text");
    let daemon = home.start();
    home.run(&["flush"], 0);
    daemon.signal("TERM");
    assert_eq!(daemon.code(), Some(0));
    home.run(&["status", "--check"], 0);
    assert!(home.run(&["status"], 6).contains("Up to date"));
}

// CR-15
#[test]
fn a_daemon_that_is_killed_again_and_again_comes_back_without_a_person() {
    let home = Home::new("1h");
    for round in 0..5 {
        for number in 0..40 {
            home.write(&format!("local/l{round}-{number}"), "here");
            home.write(&format!("remote/r{round}-{number}"), "there");
        }
        let since = 0;
        let mut daemon = home.start();
        home.await_event(since, "an operation", |happening| {
            matches!(happening, Happening::Operation { .. })
        });
        daemon.0.kill().unwrap();
        daemon.0.wait().unwrap();
    }
    let _daemon = home.start();
    home.run(&["flush"], 0);
    assert_eq!(names(&home.path("local")).len(), 400);
    assert_eq!(names(&home.path("local")), names(&home.path("remote")));
}

// WA-02, with the kernel's own limit.
#[test]
fn with_too_few_watches_nothing_is_missed_and_the_status_says_polling() {
    const FOLDERS: u32 = 300;
    let home = Home::new("1s");
    for n in 0..FOLDERS {
        std::fs::create_dir(home.path(&format!("local/d{n}"))).unwrap();
        home.write(&format!("local/d{n}/f"), "1");
    }
    let Some(_daemon) = home.start_with_watches(100) else { return };
    home.run(&["flush"], 0);
    let pair = home.status();
    assert_eq!(pair.local.watch, Watch::Polling);
    assert!(pair.degraded.contains(&Degraded::Polling), "{pair:#?}");
    assert!(pair.notes.iter().any(|note| note.contains("sysctl")), "{pair:#?}");

    let since = home.now();
    for n in 0..FOLDERS {
        home.write(&format!("local/d{n}/f"), "2");
    }
    let uploads = std::cell::Cell::new(0);
    home.await_event(since, "the upload of all", |happening| {
        let is_upload = matches!(happening, Happening::Operation { report, .. }
            if report.op == OpKind::Upload && report.error.is_none());
        uploads.set(uploads.get() + u32::from(is_upload));
        uploads.get() == FOLDERS
    });
    for n in 0..FOLDERS {
        assert_eq!(home.read(&format!("remote/d{n}/f")).as_deref(), Some("2"));
    }
}

// WA-10
#[test]
fn what_changes_while_the_daemon_looks_for_the_first_time_is_not_missed() {
    const FOLDERS: usize = 200;
    let home = Home::new("1h");
    for n in 0..FOLDERS {
        std::fs::create_dir(home.path(&format!("local/d{n}"))).unwrap();
        for file in ["kept", "edited", "moved", "deleted"] {
            home.write(&format!("local/d{n}/{file}"), &format!("{file} in {n}"));
        }
    }
    let local = home.path("local");
    let people = std::thread::spawn(move || {
        // In an order that meets folders before, while and after they are listed.
        for n in (0..FOLDERS).map(|n| n * 77 % FOLDERS) {
            let at = local.join(format!("d{n}"));
            std::fs::write(at.join("edited"), format!("edited again in {n}")).unwrap();
            std::fs::rename(at.join("moved"), local.join(format!("d{}/from{n}", FOLDERS - 1 - n)))
                .unwrap();
            std::fs::remove_file(at.join("deleted")).unwrap();
            std::fs::create_dir_all(at.join("new/nested")).unwrap();
            std::fs::write(at.join("new/nested/file"), format!("new in {n}")).unwrap();
        }
    });
    let _daemon = home.start();
    people.join().unwrap();
    home.run(&["flush"], 0);
    for n in 0..FOLDERS {
        let read = |file: &str| home.read(&format!("remote/d{n}/{file}"));
        assert_eq!(read("edited"), Some(format!("edited again in {n}")));
        assert_eq!(read("new/nested/file"), Some(format!("new in {n}")));
        assert_eq!((read("moved"), read("deleted")), (None, None));
        let from = FOLDERS - 1 - n;
        assert_eq!(read(&format!("from{from}")), Some(format!("moved in {from}")));
    }
}
