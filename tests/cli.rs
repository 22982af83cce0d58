//! The program as its users and their scripts see it: arguments, output, exit codes.

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
        let (local, remote) = (home.path("local"), home.path("remote"));
        home.configure(&format!(
            "[[pair]]\nname = \"docs\"\nlocal = {local:?}\nremote = \"dir:{}\"\n",
            remote.display()
        ));
        home
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
fn a_command_of_a_later_version_says_so() {
    let home = Home::new();
    for name in ["daemon", "pause", "flush", "reload", "auth"] {
        home.run(&[name]).exits(2).complains("is not in this version");
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
    home.run(&arguments).exits(78).complains("is inside the local folder");
    assert_eq!(std::fs::read_dir(home.path("local/inner")).unwrap().count(), 0);
    assert!(!home.path("state").exists());
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
