//! The program as its users and their scripts see it: arguments, output, exit codes.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A home of its own: configuration, state, and folders to sync.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(TempDir::new().unwrap());
        for folder in ["config/foldsync", "local", "remote"] {
            std::fs::create_dir_all(home.path(folder)).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn configure(&self, text: &str) {
        self.write("config/foldsync/sync.toml", text);
    }

    /// One pair, `docs`, of the folders `local` and `remote`.
    fn with_pair() -> Home {
        let home = Home::new();
        home.configure(&home.table("docs", "local", "remote"));
        home
    }

    /// A pair in the configuration.
    fn table(&self, name: &str, local: &str, remote: &str) -> String {
        let (local, remote) = (self.path(local), self.path(remote));
        let remote = remote.display();
        format!("[[pair]]\nname = \"{name}\"\nlocal = {local:?}\nremote = \"dir:{remote}\"\n")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("foldsync"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran::new(arguments, output)
    }
}

struct Ran {
    command: String,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn new(arguments: &[&str], output: Output) -> Ran {
        Ran {
            command: arguments.join(" "),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Ran {
        let Ran { command, out, err, .. } = &self;
        assert_eq!(self.code, Some(code), "foldsync {command}\nstdout: {out}\nstderr: {err}");
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Ran {
        let Ran { command, out, err, .. } = &self;
        assert!(out.contains(words), "{words:?}: foldsync {command}\nstdout: {out}\nstderr: {err}");
        self
    }

    #[track_caller]
    fn complains(self, words: &str) -> Ran {
        let Ran { command, out, err, .. } = &self;
        assert!(err.contains(words), "{words:?}: foldsync {command}\nstdout: {out}\nstderr: {err}");
        self
    }
}

// ---- usage ---------------------------------------------------------------------------------------

#[test]
fn a_wrong_command_line_exits_with_2_and_prints_nothing_to_standard_output() {
    let home = Home::with_pair();
    for arguments in [
        &[][..],
        &["snyc"],
        &["sync", "--once", "--no-such-flag"],
        &["sync", "--once", "--max-delete", "lots"],
        &["sync", "--once", "--max-transfer", "12 apples"],
        &["sync", "--once", "--local", "local"],
        &["sync", "--once", "docs", "--local", "local", "--remote", "dir:remote"],
        &["conflicts", "resolve", "1"],
        &["conflicts", "resolve", "1", "--keep", "mine"],
        &["config"],
        &["-q", "-v", "config", "check"],
    ] {
        let ran = home.run(arguments).exits(2);
        assert_eq!(ran.out, "", "{}", ran.command);
        assert_ne!(ran.err, "", "{}", ran.command);
    }
}

#[test]
fn flags_of_one_run_are_refused_for_a_sync_that_stays() {
    let home = Home::with_pair();
    for flag in ["--json", "--force", "--max-transfer=1M", "--max-delete=5"] {
        home.run(&["sync", flag]).exits(2).complains("--once");
    }
}

#[test]
fn a_mistyped_command_is_answered_with_the_nearest_one() {
    Home::new().run(&["stauts"]).exits(2).complains("status");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = Home::new();
    home.run(&["--version"]).exits(0).says(env!("CARGO_PKG_VERSION"));
    home.run(&["--help"]).exits(0).says("Exit codes:").says("sync");
    home.run(&["sync", "--help"]).exits(0).says("Examples:").says("--max-delete");
}

#[test]
fn every_command_of_the_tree_has_a_help_text() {
    let home = Home::new();
    for command in [
        "sync",
        "plan",
        "status",
        "conflicts",
        "held",
        "trash",
        "history",
        "explain",
        "verify",
        "ls",
        "about",
        "doctor",
        "config",
        "init",
        "completions",
        "man",
    ] {
        home.run(&[command, "--help"]).exits(0).says("Usage: foldsync");
    }
}

#[test]
fn completions_exist_for_the_usual_shells() {
    let home = Home::new();
    home.run(&["completions", "bash"]).exits(0).says("_foldsync()");
    home.run(&["completions", "zsh"]).exits(0).says("#compdef foldsync");
    home.run(&["completions", "fish"]).exits(0).says("complete -c foldsync");
    home.run(&["completions", "tcsh"]).exits(2);
}

#[test]
fn the_manual_page_names_every_command() {
    let page = Home::new().run(&["man"]).exits(0).says(".TH").out;
    for command in ["sync", "conflicts resolve", "held approve", "trash restore", "config check"] {
        let command = command.replace(' ', "\\-");
        let plain = command.replace("\\-", " ");
        assert!(page.contains(&command) || page.contains(&plain), "{plain} is not in the page");
    }
}

#[test]
fn a_reader_that_leaves_early_is_not_an_error() {
    let home = Home::new();
    let mut child =
        home.command(&["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.command(&["man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
}

// ---- configuration -------------------------------------------------------------------------------

#[test]
fn a_valid_configuration_passes_the_check() {
    let home = Home::with_pair();
    home.run(&["config", "check"]).exits(0).says("ok, 1 pair, 0 remotes");
}

#[test]
fn an_invalid_configuration_exits_with_78_and_every_problem() {
    let home = Home::new();
    home.configure("[daemon]\nlgo = \"info\"\n[limits]\nupload = \"fast\"\n");
    home.run(&["config", "check"])
        .exits(78)
        .complains("sync.toml:2:1: error: unknown key `lgo`")
        .complains("did you mean `log`?")
        .complains("sync.toml:4:10")
        .complains("2 problems");
}

#[test]
fn commands_that_need_a_pair_exit_with_78_without_a_usable_configuration() {
    let home = Home::new();
    for command in [&["sync", "--once"][..], &["plan"], &["status"], &["held", "list"]] {
        home.run(command).exits(78).complains("foldsync init");
    }
    home.configure("[limits]\n");
    home.run(&["sync", "--once"]).exits(78).complains("no [[pair]] is configured");
    home.configure("[[pair]]\nnmae = \"x\"\n");
    home.run(&["sync", "--once"]).exits(78).complains("did you mean `name`?");
}

#[test]
fn a_configuration_that_was_named_but_is_not_there_exits_with_78() {
    let home = Home::with_pair();
    home.run(&["config", "check", "--config", "gone.toml"]).exits(78).complains("gone.toml");
}

#[test]
fn the_flag_wins_over_the_variable_and_the_variable_over_the_folder() {
    let home = Home::with_pair();
    home.write("one.toml", "[limits]\n");
    home.write("two.toml", "[[pair]]\n");
    let with_variable = |arguments: &[&str]| {
        let output = home.command(arguments).env("FOLDSYNC_CONFIG", "two.toml").output().unwrap();
        Ran::new(arguments, output)
    };
    with_variable(&["config", "check"]).exits(78).complains("two.toml");
    with_variable(&["--config", "one.toml", "config", "check"]).exits(0).says("one.toml");
}

#[test]
fn a_pair_that_is_not_configured_is_a_usage_error() {
    let home = Home::with_pair();
    home.run(&["sync", "--once", "dosc"]).exits(2).complains("did you mean `docs`?");
}

#[test]
fn overlapping_folders_are_refused_before_anything_is_done() {
    // CR-23
    let home = Home::new();
    std::fs::create_dir_all(home.path("local/inner")).unwrap();
    let arguments = ["sync", "--once", "--local", "local", "--remote", "dir:local/inner"];
    home.run(&arguments).exits(2).complains("is inside the local folder");
    assert_eq!(std::fs::read_dir(home.path("local/inner")).unwrap().count(), 0);
    assert!(!home.path("state").exists());
}

// CR-23
#[test]
fn a_bind_mount_does_not_hide_that_a_folder_lies_in_the_other() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("local/inner/deep")).unwrap();
    home.configure(&home.table("docs", "local", "remote"));
    let run = |mounts: &str, arguments: &str| {
        let program = assert_cmd::cargo::cargo_bin!("foldsync").display();
        let mut command = Command::new("unshare");
        command.env_clear().current_dir(home.0.path());
        command.envs(home.command(&[]).get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let script = format!("{mounts} || exit 99; exec {program} {arguments}");
        let output = command.args(["-rm", "sh", "-c", &script]).stdin(Stdio::null()).output();
        let ran = Ran::new(&[arguments], output.ok()?);
        ran.code.is_some_and(|code| code != 99 && !ran.err.contains("unshare")).then_some(ran)
    };
    let once = "sync --once --local local --remote dir:remote";
    for (mounts, words) in [
        ("mount --bind local/inner remote", "is inside (by another mount) the local folder"),
        (
            "mount --bind local remote",
            "is the same folder (under another path) as the local folder",
        ),
        (
            "mount --bind local/inner/deep remote && mount --bind local/inner local",
            "is inside (by another mount) the local folder",
        ),
        ("mkdir -p remote/a && mount --bind remote/a local", "contains (by another mount)"),
    ] {
        let Some(ran) = run(mounts, once) else {
            println!("skipped: no mounts in a user namespace here");
            return;
        };
        ran.exits(2).complains(words);
        for arguments in ["config check", "sync --once", "daemon"] {
            run(mounts, arguments).unwrap().exits(78).complains(words);
        }
    }
    assert!(!home.path("local/.foldsync").exists());
    // Folders apart on one mounted disk are two folders.
    let apart = run(
        "mkdir -p disk/a disk/b && mount --bind disk/a local && mount --bind disk/b remote",
        once,
    );
    apart.unwrap().exits(0);
}

#[test]
fn a_state_folder_in_the_synced_folder_is_refused() {
    // CR-22
    let home = Home::with_pair();
    home.run(&["sync", "--once", "--state-dir", "local/state"]).exits(78).complains("state folder");
    assert!(!home.path("local/state").exists());
}

#[test]
fn a_remote_whose_adapter_is_missing_passes_the_check_and_is_refused_when_used() {
    let home = Home::new();
    let local = home.path("local");
    home.configure(&format!(
        "[remotes.ct]\nkind = \"ctfile\"\n[[pair]]\nname = \"a\"\nlocal = {local:?}\nremote = \"ct:/x\"\n"
    ));
    home.run(&["config", "check"]).exits(0).complains("not available in this build");
    home.run(&["sync", "--once"]).exits(78).complains("not available in this build");
}

#[test]
fn show_prints_the_defaults_and_no_secret() {
    let home = Home::with_pair();
    let ran = home.run(&["config", "show"]).exits(0);
    for line in ["max_delete = \"25%\"", "conflict = \"keep-both\"", "requests_per_second = 4.0"] {
        assert!(ran.out.contains(line), "{line} is not in:\n{}", ran.out);
    }
    home.configure("[remotes.t]\nkind = \"disktop\"\nclient_secret = \"hunter2\"\n");
    let ran = home.run(&["config", "show"]).exits(0);
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"));
}

#[test]
fn init_writes_a_valid_configuration_once() {
    let home = Home::new();
    home.run(&["init"]).exits(0).says("config/foldsync/sync.toml");
    let written = std::fs::read_to_string(home.path("config/foldsync/sync.toml")).unwrap();
    assert!(written.contains("[[pair]]"));
    home.run(&["config", "show"]).exits(0).says("name = \"docs\"");
    home.configure("mine");
    home.run(&["init"]).exits(2).complains("exists already");
    let kept = std::fs::read_to_string(home.path("config/foldsync/sync.toml")).unwrap();
    assert_eq!(kept, "mine");
    home.run(&["init", "--config", "new/folder/my.toml"]).exits(0);
    assert!(home.path("new/folder/my.toml").exists());
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let home = Home::with_pair();
    home.run(&["doctor"]).exits(0).says("ok    configuration").says("inotify");
    std::fs::remove_dir(home.path("remote")).unwrap();
    home.run(&["doctor"]).exits(7).says("FAIL  remote folder of `docs`");
    std::fs::create_dir(home.path("remote")).unwrap();
    open_to_others(&home.path("state/foldsync"));
    home.run(&["doctor"]).exits(7).says("open to others (mode 755)").says("chmod 700");
}

fn open_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

// ---- sync ----------------------------------------------------------------------------------------

/// The two folders without any configuration.
const FOLDERS: [&str; 4] = ["--local", "local", "--remote", "dir:remote"];

fn with_folders<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().chain(&FOLDERS).copied().collect()
}

impl Home {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names and contents of a folder, without foldsync's own.
    fn tree(&self, name: &str) -> Vec<(String, String)> {
        let root = self.path(name);
        let mut found = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(dir) = pending.pop() {
            for item in std::fs::read_dir(&dir).unwrap() {
                let path = item.unwrap().path();
                let shown = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                if shown.starts_with(".foldsync") && !shown.starts_with(".foldsyncignore") {
                    continue;
                }
                let content = if path.is_dir() {
                    "/".to_owned()
                } else {
                    self.read(&format!("{name}/{shown}"))
                };
                if path.is_dir() {
                    pending.push(path);
                }
                found.push((shown, content));
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn is_in_sync(&self) {
        assert_eq!(self.tree("local"), self.tree("remote"));
    }
}

fn json_lines(ran: &Ran) -> Vec<serde_json::Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn two_folders_are_made_equal_without_any_configuration() {
    // BC-08
    let home = Home::new();
    home.write("local/a.txt", "from here");
    home.write("remote/sub/b.txt", "from there");
    let sync = with_folders(&["sync", "--once"]);
    home.run(&sync).exits(0).says("upload").says("download").says("in sync");
    home.is_in_sync();
    let again = home.run(&sync).exits(0);
    assert_eq!(again.out.lines().count(), 1, "{}", again.out);
}

#[test]
fn a_configured_pair_is_synced_by_name() {
    let home = Home::with_pair();
    home.write("local/a", "1");
    home.run(&["sync", "--once", "docs"]).exits(0).says("docs: in sync");
    home.is_in_sync();
    home.write("remote/a", "2 is longer");
    home.run(&["-q", "sync", "--once"]).exits(0);
    assert_eq!(home.read("local/a"), "2 is longer");
}

#[test]
fn json_has_a_line_for_each_operation_and_a_summary_at_the_end() {
    let home = Home::with_pair();
    home.write("local/a.txt", "12345");
    home.write("local/bad\u{1b}[31m\u{202e}.txt", "x");
    let ran = home.run(&["sync", "--once", "--json"]).exits(0);
    // SE-24
    assert!(!ran.out.contains(['\u{1b}', '\u{202e}']), "{:?}", ran.out);
    let lines = json_lines(&ran);
    let upload = lines.iter().find(|line| line["path"] == "a.txt").unwrap();
    for key in ["op", "path", "to", "bytes", "result", "reason", "error"] {
        assert!(upload.get(key).is_some(), "{key} is not in {upload}");
    }
    assert_eq!((&upload["op"], &upload["bytes"]), (&"upload".into(), &5.into()));
    assert!(lines.iter().any(|line| line["path"] == "bad\u{1b}[31m\u{202e}.txt"));
    let summary = &lines.last().unwrap()["summary"];
    for key in [
        "uploaded",
        "downloaded",
        "moved",
        "deleted",
        "conflicts",
        "skipped",
        "failed",
        "held",
        "instant",
        "bytes_up",
        "bytes_down",
        "requests",
        "duration_s",
        "exit",
    ] {
        assert!(summary.get(key).is_some_and(serde_json::Value::is_number), "{key}: {summary}");
    }
    assert_eq!((&summary["uploaded"], &summary["exit"]), (&2.into(), &0.into()));
}

#[test]
fn names_cannot_command_the_terminal_in_any_text() {
    // SE-24, NM-15
    let home = Home::with_pair();
    let name = "evil\u{1b}]0;owned\u{7}\u{202e}\n.txt";
    home.write(&format!("local/{name}"), "1");
    let check = |ran: Ran| {
        let text = format!("{}{}", ran.out, ran.err);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{}: {text:?}", ran.command);
        assert!(text.contains("evil\\u{1b}"), "{}: {text:?}", ran.command);
    };
    check(home.run(&["plan"]));
    check(home.run(&["-vv", "sync", "--once"]));
    check(home.run(&["history"]));
    check(home.run(&["ls", "dir:remote"]));
    check(home.run(&["explain", name]));
    home.write(&format!("local/{name}"), "22");
    home.write(&format!("remote/{name}"), "333");
    check(home.run(&["sync", "--once"]));
    check(home.run(&["conflicts", "list"]));
    home.write(&format!("remote/{name}"), "4444");
    check(home.run(&["sync", "--once"]));
    check(home.run(&["trash", "list"]));
    std::fs::remove_file(home.path(&format!("remote/{name}"))).unwrap();
    check(home.run(&["verify"]));
}

#[test]
fn a_dry_run_and_a_plan_tell_what_a_sync_then_does_and_change_nothing() {
    let home = Home::with_pair();
    for (name, text) in [("keep", "k"), ("edit", "e"), ("gone", "g"), ("dir/x", "x"), ("both", "b")]
    {
        home.write(&format!("local/{name}"), text);
    }
    home.run(&["sync", "--once"]).exits(0);
    home.write("local/edit", "edited here");
    home.write("local/both", "edited here too");
    home.write("remote/both", "edited there as well");
    home.write("remote/new", "n");
    std::fs::remove_file(home.path("remote/gone")).unwrap();
    std::fs::rename(home.path("remote/dir"), home.path("remote/moved")).unwrap();

    let before = (home.tree("local"), home.tree("remote"), files_of(&home.path("state")));
    let planned = home.run(&["plan", "--json"]).exits(3);
    home.run(&["sync", "--once", "--dry-run"]).exits(3).says("docs: plan");
    let after = (home.tree("local"), home.tree("remote"), files_of(&home.path("state")));
    assert_eq!(before, after);

    let done = home.run(&["sync", "--once", "--json"]).exits(3);
    assert_eq!(operations(&planned), operations(&done));
    home.is_in_sync();
}

/// What was done to which path; conflict copies without the time in their names.
fn operations(ran: &Ran) -> Vec<(String, String)> {
    let plain = |path: &str| path.split(".conflict-").next().unwrap().to_owned();
    let mut operations: Vec<_> = json_lines(ran)
        .iter()
        .filter(|line| line.get("op").is_some())
        .map(|line| (line["op"].to_string(), plain(line["path"].as_str().unwrap())))
        .collect();
    operations.sort();
    operations
}

/// Every file below a folder with its content.
fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files_of(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_plan_before_the_first_sync_leaves_no_trace() {
    let home = Home::with_pair();
    home.write("local/a", "1");
    home.run(&["plan"]).exits(0).says("upload").says("docs: plan");
    assert!(!home.path("state").exists());
    assert!(!home.path("local/.foldsync").exists());
    assert!(!home.path("remote/.foldsync").exists());
    assert_eq!(home.tree("remote"), []);
}

#[test]
fn the_state_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with_pair();
    home.run(&["sync", "--once"]).exits(0);
    let mode =
        |name: &str| std::fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state/foldsync"), 0o700);
    assert_eq!(mode("state/foldsync/docs.db"), 0o600);
}

#[test]
fn a_pair_that_another_process_owns_exits_with_6() {
    let home = Home::with_pair();
    home.run(&["sync", "--once"]).exits(0);
    let lock =
        std::fs::File::options().write(true).open(home.path("state/foldsync/docs.lock")).unwrap();
    lock.try_lock().unwrap();
    home.run(&["sync", "--once"]).exits(6).complains("another foldsync");
    home.run(&["status", "--json"]).says("\"state\":\"syncing\"");
    home.run(&["plan"]).exits(0);
    drop(lock);
    home.run(&["sync", "--once"]).exits(0);
}

#[test]
fn limits_of_a_run_have_their_own_codes() {
    let home = Home::with_pair();
    for i in 0..50 {
        home.write(&format!("local/{i}"), "some bytes");
    }
    home.run(&["sync", "--once", "--max-transfer", "25"]).exits(8).says("--max-transfer");
    assert_eq!(home.tree("remote").len(), 2);
    home.run(&["sync", "--once", "--max-duration", "0"]).exits(10).says("--max-duration");
    home.run(&["sync", "--once"]).exits(0);
    home.is_in_sync();
}

#[test]
fn an_interrupted_run_exits_with_130_and_the_next_one_ends_its_work() {
    use std::io::Read as _;
    let home = Home::with_pair();
    for i in 0..1500 {
        home.write(&format!("local/a-rather-long-name-that-fills-the-pipe-{i:04}"), "x");
    }
    let mut child = home
        .command(&["sync", "--once"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One byte proves that the run is under way; its pipe fills before it can end.
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    home.run(&["-q", "sync", "--once"]).exits(0);
    home.is_in_sync();
}

#[test]
fn a_local_folder_that_is_gone_halts_the_pair_and_is_not_made_again() {
    // SF-01, SF-05
    let home = Home::with_pair();
    home.write("local/a", "1");
    home.run(&["sync", "--once"]).exits(0);
    for side in ["local", "remote"] {
        std::fs::rename(home.path(side), home.path("elsewhere")).unwrap();
        home.run(&["sync", "--once"]).exits(4).complains("is a disk not mounted?");
        assert!(!home.path(side).exists());
        home.run(&["status", "--check"]).exits(4).says("Held").says("is a disk not mounted?");
        std::fs::rename(home.path("elsewhere"), home.path(side)).unwrap();
        home.run(&["sync", "--once"]).exits(0);
    }
    home.run(&["status", "--check"]).exits(0);
}

#[test]
fn a_folder_that_never_was_is_a_mistake_in_the_configuration() {
    let home = Home::with_pair();
    std::fs::remove_dir(home.path("remote")).unwrap();
    home.run(&["sync", "--once"]).exits(78).complains("mkdir -p");
    home.run(&["config", "check"]).exits(78).complains("does not exist");
}

#[test]
fn one_pair_that_cannot_run_does_not_keep_the_others_from_running() {
    let home = Home::new();
    std::fs::create_dir(home.path("other")).unwrap();
    let broken = home.table("broken", "missing", "other");
    home.configure(&(broken + &home.table("fine", "local", "remote")));
    home.write("local/a", "1");
    home.run(&["sync", "--once"]).exits(78).complains("broken").says("fine: in sync");
    home.is_in_sync();
}

#[test]
fn ad_hoc_pairs_may_be_one_way() {
    let home = Home::new();
    home.write("local/a", "1");
    home.write("remote/extra", "2");
    let mirror = with_folders(&["sync", "--once", "--mode", "mirror-up"]);
    home.run(&mirror).exits(0);
    assert_eq!(home.tree("remote"), [("a".to_owned(), "1".to_owned())]);
    home.run(&with_folders(&["sync", "--once", "--mode", "sideways"]))
        .exits(2)
        .complains("backup-up");
}

#[test]
fn progress_and_logs_go_to_standard_error() {
    let home = Home::with_pair();
    home.write("local/a", "1");
    let ran = home.run(&["-v", "--log-format", "json", "sync", "--once", "-P", "--json"]).exits(0);
    json_lines(&ran);
    let log = ran.err.lines().find(|line| line.contains("\"object\":\"a\"")).unwrap();
    let log: serde_json::Value = serde_json::from_str(log).unwrap();
    assert_eq!((&log["pair"], &log["op"]), (&"docs".into(), &"upload".into()));
}

// ---- what is left to a person --------------------------------------------------------------------

/// A pair in which `a` was changed on both sides and synced.
fn with_conflict() -> Home {
    let home = Home::with_pair();
    home.write("local/a.txt", "base");
    home.run(&["sync", "--once"]).exits(0);
    home.write("local/a.txt", "local version");
    home.write("remote/a.txt", "the remote version");
    home.run(&["sync", "--once"]).exits(3).says("conflict").says("foldsync conflicts list");
    home
}

#[test]
fn a_conflict_keeps_both_versions_and_the_code_3_until_it_is_resolved() {
    // EE-01
    let home = with_conflict();
    assert_eq!(home.read("local/a.txt"), "the remote version");
    home.is_in_sync();
    home.run(&["sync", "--once"]).exits(3);
    home.run(&["status", "--check"]).exits(3);
    home.run(&["conflicts", "list"]).exits(0).says("#1  a.txt");
    home.run(&["conflicts", "show", "1"]).exits(0).says("18 B").says("13 B");
    let listed = home.run(&["conflicts", "list", "--json"]).exits(0);
    assert_eq!(json_lines(&listed)[0]["path"], "a.txt");
    home.run(&["conflicts", "resolve", "2", "--keep", "both"]).exits(2);
}

#[test]
fn what_waits_for_a_person_is_found_in_whichever_pair_it_is() {
    let home = with_conflict();
    for folder in ["local2", "remote2"] {
        std::fs::create_dir(home.path(folder)).unwrap();
    }
    let docs = home.table("docs", "local", "remote");
    home.configure(&(docs + &home.table("pics", "local2", "remote2")));
    for number in 0..30 {
        home.write(&format!("local2/{number}"), "1");
    }
    home.run(&["sync", "--once", "pics"]).exits(0);
    for number in 0..30 {
        std::fs::remove_file(home.path(&format!("local2/{number}"))).unwrap();
    }
    home.run(&["sync", "--once", "pics"]).exits(4);
    home.run(&["held", "show", "1"]).exits(0).says("#1 of pics").says("held approve 1");
    home.run(&["held", "approve", "2"]).exits(2).complains("nothing is held under #2");
    home.run(&["held", "approve", "1"]).exits(0).says("#1 of pics");
    home.run(&["sync", "--once", "pics"]).exits(0);
    home.run(&["trash", "restore", "17"]).exits(2).complains("not in the trash");
    home.run(&["conflicts", "show", "1"]).exits(0).says("#1 of docs");
    home.run(&["explain", "a.txt"]).exits(0).says("a.txt in docs");
    home.run(&["explain", "nowhere"]).exits(2).complains("several pairs");

    // The same number in two pairs is a question that only a person can answer.
    home.write("local2/b.txt", "mine");
    home.write("remote2/b.txt", "theirs");
    home.run(&["sync", "--once", "pics"]).exits(3);
    home.run(&["conflicts", "resolve", "1", "--keep", "local"])
        .exits(2)
        .complains("docs, pics")
        .complains("--pair");
    home.run(&["conflicts", "resolve", "1", "--keep", "local", "--pair", "pics"]).exits(0);
    home.run(&["conflicts", "resolve", "1", "--keep", "remote"]).exits(0).says("docs");
    home.run(&["trash", "restore", "b.txt", "--to", "old.txt"]).exits(0);
    assert_eq!(home.read("local2/old.txt"), "theirs");
}

#[test]
fn keeping_the_local_version_gives_it_its_name_back_on_both_sides() {
    let home = with_conflict();
    home.run(&["conflicts", "resolve", "1", "--keep", "local"]).exits(0);
    home.run(&["status", "--check"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    assert_eq!(home.tree("remote"), [("a.txt".to_owned(), "local version".to_owned())]);
    home.is_in_sync();
    home.run(&["trash", "list"]).exits(0).says("18 B");
}

#[test]
fn keeping_the_remote_version_removes_the_copy_on_both_sides() {
    let home = with_conflict();
    home.run(&["conflicts", "resolve", "1", "--keep", "remote"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    assert_eq!(home.tree("remote"), [("a.txt".to_owned(), "the remote version".to_owned())]);
    home.is_in_sync();
    home.run(&["conflicts", "list"]).exits(0).says("no conflicts");
}

#[test]
fn keeping_both_leaves_both_files_and_keeping_the_newer_compares_their_times() {
    let home = with_conflict();
    home.run(&["conflicts", "resolve", "1", "--keep", "both"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    assert_eq!(home.tree("remote").len(), 2);

    let home = with_conflict();
    let copy =
        home.tree("local").into_iter().find(|(name, _)| name.contains("conflict")).unwrap().0;
    let touched =
        std::fs::File::options().write(true).open(home.path(&format!("local/{copy}"))).unwrap();
    touched
        .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
        .unwrap();
    home.run(&["conflicts", "resolve", "1", "--keep", "newer"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    assert_eq!(home.tree("remote"), [("a.txt".to_owned(), "local version".to_owned())]);
}

#[test]
fn deleting_the_copy_by_hand_resolves_a_conflict_as_well() {
    // EE-08
    let home = with_conflict();
    let copy =
        home.tree("local").into_iter().find(|(name, _)| name.contains("conflict")).unwrap().0;
    std::fs::remove_file(home.path(&format!("local/{copy}"))).unwrap();
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["conflicts", "list"]).exits(0).says("no conflicts");
    home.is_in_sync();
}

/// A pair whose 20 local files were all deleted after a sync.
fn with_mass_deletion() -> Home {
    let home = Home::with_pair();
    for i in 0..20 {
        home.write(&format!("local/{i}"), "x");
    }
    home.run(&["sync", "--once"]).exits(0);
    for i in 0..15 {
        std::fs::remove_file(home.path(&format!("local/{i}"))).unwrap();
    }
    home
}

#[test]
fn a_mass_deletion_is_held_until_it_is_approved() {
    // SF-07
    let home = with_mass_deletion();
    home.run(&["plan"]).exits(4).says("15 held deletions");
    home.run(&["sync", "--once"]).exits(4).says("foldsync held list");
    assert_eq!(home.tree("remote").len(), 20);
    home.run(&["status", "--check"]).exits(4);
    home.run(&["held", "list"]).exits(0).says("would delete 15 files on the remote side");
    home.run(&["held", "show", "1"]).exits(0).says("  14\n").says("held approve 1");
    home.run(&["held", "approve", "7"]).exits(2).complains("held list");
    home.run(&["held", "approve", "1"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    home.is_in_sync();
    home.run(&["held", "list"]).exits(0).says("nothing is held");
}

#[test]
fn a_rejected_mass_deletion_brings_the_files_back() {
    let home = with_mass_deletion();
    home.run(&["sync", "--once"]).exits(4);
    home.run(&["held", "reject", "1"]).exits(0);
    home.run(&["sync", "--once"]).exits(0);
    assert_eq!(home.tree("local").len(), 20);
    home.is_in_sync();
}

#[test]
fn the_guard_can_be_lifted_or_widened_for_one_run() {
    let home = with_mass_deletion();
    home.run(&["sync", "--once", "--max-delete", "10"]).exits(4);
    home.run(&["sync", "--once", "--max-delete", "15"]).exits(0);
    assert_eq!(home.tree("remote").len(), 5);
    let home = with_mass_deletion();
    home.run(&["sync", "--once", "--force"]).exits(0);
    assert_eq!(home.tree("remote").len(), 5);
}

#[test]
fn what_a_sync_removed_can_be_brought_back() {
    // SF-14
    let home = Home::with_pair();
    home.write("local/dir/a.txt", "precious");
    home.write("local/b.txt", "b");
    home.write("local/c.txt", "c");
    home.run(&["trash", "list"]).exits(0).says("the trash is empty");
    home.run(&["sync", "--once"]).exits(0);
    std::fs::remove_file(home.path("remote/dir/a.txt")).unwrap();
    home.run(&["sync", "--once"]).exits(0);
    assert!(!home.path("local/dir/a.txt").exists());
    let listed = home.run(&["trash", "list", "--json"]).exits(0);
    assert_eq!(json_lines(&listed)[0]["path"], "dir/a.txt");

    home.write("local/dir/a.txt", "in the way");
    home.run(&["trash", "restore", "dir/a.txt"]).exits(2).complains("exists already");
    home.run(&["trash", "restore", "dir/a.txt", "--to", "saved/a.txt"]).exits(0);
    assert_eq!(home.read("local/saved/a.txt"), "precious");
    home.run(&["trash", "restore", "dir/a.txt"]).exits(2).complains("not in the trash");
    home.run(&["sync", "--once"]).exits(0);
    home.is_in_sync();
}

#[test]
fn an_emptied_trash_is_empty() {
    let home = Home::with_pair();
    for name in ["a", "b", "c"] {
        home.write(&format!("local/{name}"), name);
    }
    home.run(&["sync", "--once"]).exits(0);
    std::fs::remove_file(home.path("remote/a")).unwrap();
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["trash", "empty", "--older-than", "30d"]).exits(0).says("0 files");
    home.run(&["trash", "list"]).says("a");
    home.run(&["trash", "empty"]).exits(0).says("1 file deleted for good");
    home.run(&["trash", "list"]).exits(0).says("the trash is empty");
}

// ---- looking -------------------------------------------------------------------------------------

#[test]
fn status_says_that_no_daemon_runs_and_what_was_recorded() {
    let home = Home::with_pair();
    home.run(&["status"]).exits(6).says("never synced").complains("no daemon is running");
    home.write("local/a", "1");
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["status", "docs"]).exits(6).says("Up to date").says("1 file");
    home.run(&["status", "--check"]).exits(0);
    home.run(&["status", "dosc", "--check"]).exits(2);
}

#[test]
fn what_cannot_be_synced_is_named_with_its_reason() {
    let home = Home::with_pair();
    let made = Command::new("mkfifo").arg(home.path("local/pipe")).status().unwrap();
    assert!(made.success());
    home.run(&["sync", "--once"]).exits(3);
    home.run(&["status"]).exits(6).says("1 item cannot be synced, such as pipe: ");
}

#[test]
fn status_json_has_every_field_of_the_contract() {
    let home = Home::with_pair();
    home.run(&["sync", "--once"]).exits(0);
    let ran = home.run(&["status", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["schema"], 1);
    assert!(answer.get("version").is_some() && answer.get("pid").is_some());
    let pair = &answer["pairs"][0];
    let has = |at: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(at.get(key).is_some(), "{key} is not in {at}");
        }
    };
    has(
        pair,
        &[
            "name",
            "state",
            "since",
            "eta_s",
            "conflicts",
            "failed",
            "held",
            "degraded",
            "last_success",
        ],
    );
    has(&pair["local"], &["root", "files", "bytes", "watch"]);
    has(&pair["remote"], &["kind", "path", "listing_at", "listing_complete"]);
    has(&pair["pending"], &["upload", "download", "delete", "move", "bytes"]);
    has(&pair["rate"], &["up_bps", "down_bps"]);
    assert_eq!(pair["state"], "idle");
}

#[test]
fn one_path_has_a_state_and_a_reason() {
    let home = Home::with_pair();
    home.write("local/a", "1");
    home.write("local/sub/.foldsyncignore", "# comment\n*.tmp\n");
    home.write("local/sub/x.tmp", "1");
    std::os::unix::fs::symlink("a", home.path("local/link")).unwrap();
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["status", "local/a"]).says("synced  a");
    home.run(&["status", "local/a", "--json"]).says("\"state\":\"synced\"");
    home.run(&["explain", "a"]).exits(0).says("a in docs: synced").says("upload a");
    home.run(&["explain", "local/sub/x.tmp"])
        .exits(0)
        .says("ignored")
        .says("sub/.foldsyncignore:2 \"*.tmp\"");
    home.run(&["explain", "local/link"]).exits(0).says("excluded").says("symbolic link");
    home.write("local/a", "changed");
    home.write("local/new", "1");
    home.run(&["status", "local/a"]).says("pending-upload").says("changed here");
    home.run(&["status", "local/new"]).says("pending-upload").says("new here");
    home.run(&["explain", "local/nothing"]).exits(2).says("unknown");
    home.run(&["explain", "/etc/passwd"]).exits(2).complains("in no pair's local folder");
}

#[test]
fn history_tells_what_happened_to_a_path() {
    let home = Home::with_pair();
    home.write("local/dir/a", "1");
    home.write("local/b", "1");
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["history"]).exits(0).says("upload").says("dir/a").says("b");
    let ran = home.run(&["history", "dir", "--json"]).exits(0);
    assert!(json_lines(&ran).iter().all(|line| line["path"].as_str().unwrap().starts_with("dir")));
    home.run(&["history", "--since", "1h", "--limit", "1"]).exits(0).says("upload");
}

#[test]
fn verify_reads_both_sides_and_names_every_difference() {
    let home = Home::with_pair();
    home.write("local/same", "1");
    home.write("local/rot", "good");
    home.write("local/deep/er/x", "1");
    home.run(&["sync", "--once"]).exits(0);
    home.run(&["verify"]).exits(0).says("the same on both sides").says("3 files");
    // The same size and time: only reading tells.
    let path = home.path("remote/rot");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "evil").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    home.write("remote/extra", "1");
    std::fs::remove_dir_all(home.path("local/deep/er")).unwrap();
    home.run(&["verify"])
        .exits(1)
        .says("rot  different contents")
        .says("extra  only on the remote")
        .says("deep/er  only on the remote")
        .says("3 differences");
}

#[test]
fn a_remote_can_be_listed_and_measured() {
    let home = Home::new();
    let remote = home.path("remote");
    home.configure(&format!("[remotes.nas]\nkind = \"dir\"\npath = {remote:?}\n"));
    home.write("remote/sub/inner", "12");
    home.write("remote/a", "1");
    home.run(&["ls", "nas:/"]).exits(0).says("1 B").says("sub/");
    let ran = home.run(&["ls", "nas:/sub", "--json"]).exits(0);
    assert_eq!(json_lines(&ran)[0]["name"], "inner");
    home.run(&["about", "nas"]).exits(0).says("total");
    home.run(&["ls", "nsa:/"]).exits(2).complains("no remote `nsa`");
    home.run(&["ls", "dir:missing"]).exits(7);
}
