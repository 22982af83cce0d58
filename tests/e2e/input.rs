//! Bad input: a clear word, the contract's exit code, and nothing lost.

use std::fs;
use std::path::Path;

use super::pair::Pair;

fn sync_of(pair: &Pair, local: &Path, remote: &Path) -> super::pair::run::Run {
    let (local, remote) = (local.to_str().unwrap(), format!("dir:{}", remote.display()));
    let state = pair.state_dir();
    let state = state.to_str().unwrap();
    pair.run_plainly(&[
        "sync",
        "--once",
        "--local",
        local,
        "--remote",
        &remote,
        "--state-dir",
        state,
    ])
}

#[test]
fn a_folder_that_does_not_exist_is_not_made() {
    let pair = Pair::new();
    let (here, missing) = (pair.path("local"), pair.path("missing"));
    for (local, remote) in [(&here, &missing), (&missing, &here)] {
        let run = sync_of(&pair, local, remote);
        assert_eq!(run.exit, 2, "{run}");
        assert!(run.err.contains("missing"), "it names the folder: {run}");
        assert!(!missing.exists());
    }
    assert_eq!(fs::read_dir(here).unwrap().count(), 0, "nothing was left in the other folder");
}

#[test]
fn a_file_is_no_root() {
    let pair = Pair::new();
    let file = pair.path("file");
    fs::write(&file, "f").unwrap();
    for (local, remote) in [(&pair.path("local"), &file), (&file, &pair.path("remote"))] {
        let run = sync_of(&pair, local, remote);
        assert_eq!(run.exit, 2, "{run}");
        assert!(run.err.contains("file"), "{run}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "f");
}

#[test]
fn an_unreadable_root_is_fatal_and_not_empty() {
    for name in ["local", "remote"] {
        let pair = Pair::new().unprivileged();
        pair.local().write("a", "1").write("b", "2");
        pair.sync().exits(0);
        let root = if name == "local" { pair.local() } else { pair.remote() };
        root.chmod("", 0o000);
        let run = pair.run_unchecked(&["sync", "--once"]).exits(7);
        assert!(run.err.contains(name), "{run}");
        root.chmod("", 0o755);
        pair.settled(&["a=1", "b=2"]);
    }
}

#[test]
fn a_broken_configuration_points_at_the_line() {
    let pair = Pair::configured("");
    pair.local().write("a", "1");
    fs::write(pair.config(), "[[pair]]\nname = \"docs\nlocal = 1\n").unwrap();
    pair.sync().exits(78).complains("sync.toml:2");
    assert!(pair.remote().tree().lines().is_empty());
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let pair = Pair::configured("max_deletes = \"10%\"");
    pair.local().write("a", "1");
    pair.sync().exits(78).complains("max_deletes").complains("max_delete");
    pair.configure("mode = \"two-ways\"");
    pair.sync().exits(78).complains("two-way");
    pair.configure("max_delete = \"10%\"");
    pair.sync().exits(0);
    pair.settled(&["a=1"]);
}

#[test]
fn a_missing_folder_in_the_configuration_is_its_mistake() {
    let pair = Pair::configured("");
    fs::remove_dir(pair.path("remote")).unwrap();
    pair.run_unchecked(&["sync", "--once"]).exits(78).complains("remote");
    assert!(!pair.path("remote").exists());
}

#[test]
fn a_missing_configuration_says_where_it_was_looked_for() {
    let pair = Pair::new();
    let missing = pair.path("none.toml");
    pair.run_plainly(&["sync", "--once", "--config", missing.to_str().unwrap()])
        .exits(78)
        .complains("none.toml");
    pair.run_plainly(&["sync", "--once"]).exits(78).complains("foldsync init");
}

#[test]
fn wrong_values_on_the_command_line_are_usage_errors() {
    let pair = Pair::new();
    for flags in [
        &["--max-delete", "many"][..],
        &["--max-transfer", "-1"],
        &["--max-duration", "5 parsecs"],
        &["--mode", "sideways"],
        &["--conflict", "best"],
    ] {
        let run = pair.run(&[&["sync", "--once"], flags].concat());
        assert_eq!(run.exit, 2, "{run}");
    }
    assert!(!pair.state_dir().exists());
}

/// Ends with the test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// DL-10: the daemon says why a download does not come, for as long as that is so.
#[test]
fn a_download_without_room_is_said_by_the_daemon_until_there_is_room() {
    let Some(pair) = Pair::on_small_disk("local", 6 << 10) else { return };
    pair.configure("poll_interval = \"1h\"\nsettle = \"0s\"\n[daemon]\nlow_space = \"0\"");
    let (config, state) = (pair.config(), pair.state_dir());
    let (config, state) = (config.to_str().unwrap(), state.to_str().unwrap());
    let ask = |arguments: &[&str]| {
        pair.run_plainly(&[arguments, &["--config", config, "--state-dir", state]].concat())
    };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_foldsync"));
    command.args(["daemon", "-q", "--config", config, "--state-dir", state]);
    let _daemon = Daemon(command.spawn().unwrap());
    let begun = std::time::Instant::now();
    while ask(&["flush"]).exit == 6 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the daemon answers");
    }
    let says = |word: &str| ask(&["status", "--json"]).out.contains(word);
    assert!(!says("low-space"));
    let ballast = pair.local().path(".foldsync/ballast");
    fs::write(&ballast, vec![0; 5 << 20]).unwrap();
    pair.remote().write("large", vec![b'x'; 3 << 20]).write("small", "fits");
    let run = ask(&["flush"]);
    assert_eq!(run.exit, 1, "{run}");
    assert!(says("low-space") && says("no room for a download"));
    assert!(!pair.local().has("large"), "no half file");
    fs::remove_file(ballast).unwrap();
    let run = ask(&["flush"]);
    assert_eq!(run.exit, 0, "{run}");
    assert!(!says("low-space"));
    pair.assert_equal();
}

// EE-12 SF-13 DL-10: no room for the new version.
#[test]
fn a_full_disk_is_told_loses_nothing_and_heals() {
    for turn in 0..2 {
        let name = ["local", "remote"][turn];
        let Some(pair) = Pair::on_small_disk(name, 6 << 10) else { return };
        let sides = pair.both();
        let (full, other) = (&sides[turn], &sides[1 - turn]);
        other.write("small", "1").write("a", "0");
        pair.sync().exits(0);
        let ballast = full.path(".foldsync/ballast");
        fs::write(&ballast, vec![0; 5 << 20]).unwrap();
        other.write("large", vec![b'x'; 3 << 20]).write("a", "2").delete("small").write("n", "n");
        for _ in 0..2 {
            let run = pair.sync().exits(1);
            let told = |words| run.err.contains(words) || run.out.contains(words);
            assert!(told("room") || told("space"), "{run}");
            assert!(!full.has("large"), "no half file");
        }
        fs::remove_file(ballast).unwrap();
        pair.sync().exits(0);
        pair.assert_equal();
        assert_eq!(full.read("large").len(), 3 << 20);
        assert_eq!(full.tree().files().len(), 3);
        pair.assert_quiet(0);
    }
}
