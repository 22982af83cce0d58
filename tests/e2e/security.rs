//! SE: nothing outside of the roots is read or changed, whatever stands in them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pair::{Pair, many};

/// A folder outside of everything, with files whose names occur in the pair.
fn victim(pair: &Pair) -> PathBuf {
    let victim = pair.path("victim");
    fs::create_dir(&victim).unwrap();
    for name in ["x", "y", "z", "f"] {
        fs::write(victim.join(name), format!("victim {name}")).unwrap();
    }
    victim
}

fn assert_untouched(victim: &PathBuf) {
    let mut names: Vec<String> = fs::read_dir(victim)
        .unwrap()
        .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["f", "x", "y", "z"]);
    for name in names {
        assert_eq!(fs::read_to_string(victim.join(&name)).unwrap(), format!("victim {name}"));
    }
}

// SE-02
#[test]
fn a_folder_that_is_now_a_link_leads_nowhere() {
    for turn in 0..2 {
        let pair = Pair::synced(&["d/y", "d/z", "stays"]);
        let victim = victim(&pair);
        let sides = pair.both();
        let (linked, other) = (&sides[turn], &sides[1 - turn]);
        linked.delete("d").symlink(&victim, "d");
        other.write("d/x", "new").write("d/y", "edited").delete("d/z");
        let run = pair.sync().exits(3);
        assert!(run.ops.is_empty(), "{run}");
        assert_untouched(&victim);
        assert_eq!(other.text("d/x"), "new");
        pair.assert_quiet(3);
    }
}

// SE-03 S19
#[test]
fn a_folder_that_flips_to_a_link_and_back_leads_nowhere() {
    let pair = Pair::new();
    for number in 0..120 {
        pair.local().write(&format!("d/f{number}"), format!("{number}"));
    }
    pair.sync().exits(0);
    let victim = victim(&pair);
    for number in 0..120 {
        match number % 3 {
            0 => {
                pair.remote().write(&format!("d/f{number}"), format!("edited {number}"));
            }
            1 => {
                pair.remote().write(&format!("d/n{number}"), format!("new {number}"));
            }
            _ => {
                pair.remote().rename(&format!("d/f{number}"), &format!("d/m{number}"));
            }
        }
    }
    let (folder, aside, link) =
        (pair.local().path("d"), pair.local().path("aside"), pair.path("link"));
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&folder, &aside).unwrap();
                fs::rename(&link, &folder).unwrap();
                fs::rename(&folder, &link).unwrap();
                fs::rename(&aside, &folder).unwrap();
            }
        });
        for _ in 0..3 {
            // In the middle of a flip the folder is elsewhere: S1 can be looked at in the end.
            pair.run_unchecked(&["sync", "--once", "--json", "--force"]);
            assert_untouched(&victim);
        }
        over.store(true, Ordering::Relaxed);
    });
    for _ in 0..2 {
        pair.sync_with(&["--force"]);
    }
    assert_untouched(&victim);
    pair.assert_equal();
    pair.assert_quiet(0);
}

// SE-04
#[test]
fn a_link_at_the_name_of_a_file_is_not_written_through() {
    for turn in 0..2 {
        let pair = Pair::synced(&["a", "b"]);
        let victim = victim(&pair);
        let sides = pair.both();
        sides[turn].delete("a").symlink(victim.join("f"), "a");
        sides[1 - turn].write("a", "edited");
        pair.sync().exits(3);
        assert_untouched(&victim);
        assert_eq!(sides[1 - turn].text("a"), "edited");
        pair.assert_quiet(3);
    }
}

// SE-04: nor in the program's own folders.
#[test]
fn links_planted_in_the_control_folder_are_not_written_through() {
    for (turn, name) in [(0, "stage"), (0, "trash"), (1, "trash"), (0, ""), (1, "")] {
        let pair = Pair::synced(&["a", "b"]);
        let victim = victim(&pair);
        let sides = pair.both();
        let control = sides[turn].path(".foldsync").join(name);
        let control = control.components().collect::<PathBuf>();
        fs::rename(&control, pair.path("away")).unwrap();
        std::os::unix::fs::symlink(&victim, &control).unwrap();
        sides[1 - turn].write("a", "edited").delete("b");
        let run = pair.run_unchecked(&["sync", "--once", "--json"]);
        assert!(run.exit != 0, "{run}");
        assert_untouched(&victim);
    }
}

// SE-05
#[test]
fn what_a_link_points_to_is_not_uploaded() {
    let pair = Pair::new();
    let victim = victim(&pair);
    pair.local().write("a", "1").symlink(victim.join("f"), "secret").symlink(&victim, "secrets");
    pair.sync().exits(0);
    assert_eq!(pair.remote().tree().lines(), ["a=1"]);
    pair.assert_quiet(0);
}

// SE-23
#[test]
fn what_comes_from_elsewhere_is_not_executable() {
    let pair = Pair::new();
    pair.remote()
        .write(".git/hooks/post-checkout", "#!/bin/sh\n")
        .chmod(".git/hooks/post-checkout", 0o755);
    pair.sync().exits(0);
    assert_eq!(pair.local().mode(".git/hooks/post-checkout") & 0o111, 0);
    pair.settled(&[".git/", ".git/hooks/", ".git/hooks/post-checkout=#!/bin/sh\n"]);
}

// SE-26
#[test]
fn nothing_is_writable_for_everybody_even_without_a_umask() {
    let pair = Pair::new();
    for side in pair.both() {
        side.chmod("", 0o755);
    }
    pair.remote().write("d/a", "1");
    pair.local().write("e/b", "2");
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "umask 000; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_foldsync"),
            "sync",
            "--once",
        ])
        .args(["--local", pair.path("local").to_str().unwrap()])
        .args(["--remote", &format!("dir:{}", pair.path("remote").display())])
        .args(["--state-dir", pair.state_dir().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(pair.local().mode("d"), 0o755);
    assert_eq!(pair.local().mode("d/a"), 0o644);
    assert_eq!(pair.remote().mode("e"), 0o755);
    assert_eq!(pair.remote().mode("e/b"), 0o644);
    for side in pair.both() {
        assert_eq!(side.mode(".foldsync") & 0o022, 0);
    }
    for item in fs::read_dir(pair.state_dir()).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let item = item.unwrap();
        let mode = item.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{:?} is {mode:o}", item.path());
    }
    pair.settled(&["d/", "d/a=1", "e/", "e/b=2"]);
}

/// Runs a pair of a folder of one's own and a shared one as a user of group 50000. `None`, with the
/// reason printed, where this process may not be other users.
fn sync_as(user: u32, base: &std::path::Path, umask: &str) -> Option<std::process::Output> {
    let own = base.join(format!("own-{user}"));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh", "setpriv"]);
    command.args([&format!("--reuid={user}"), "--regid=50000", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_foldsync")).args(["sync", "--once", "--local"]);
    command.arg(own.join("local")).arg("--remote");
    command.arg(format!("dir:{}", base.join("shared").display()));
    command.arg("--state-dir").arg(own.join("state"));
    let output = command.current_dir("/").output().ok()?;
    let reached = !matches!(output.status.code(), Some(126 | 127));
    if !reached {
        println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
    }
    reached.then_some(output)
}

/// Two users, 50001 and 50002, with folders of their own, and a folder with this mode.
fn two_users(mode: u32) -> Option<tempfile::TempDir> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be two users");
        return None;
    }
    let base = tempfile::tempdir().unwrap();
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(base.path(), 0o755);
    for user in [50001, 50002] {
        let own = base.path().join(format!("own-{user}"));
        for folder in ["", "local", "state"] {
            fs::create_dir(own.join(folder)).unwrap();
            chown(own.join(folder), Some(user), Some(50000)).unwrap();
        }
    }
    let shared = base.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(50001), Some(50000)).unwrap();
    set(&shared, mode);
    Some(base)
}

// SE-26
#[test]
fn two_users_of_a_group_sync_with_one_folder_that_both_may_write() {
    for mode in [0o2775, 0o770] {
        let Some(base) = two_users(mode) else { return };
        let at = |user: u32, name: &str| base.path().join(format!("own-{user}/local/{name}"));
        let sync = |user: u32| {
            let output = sync_as(user, base.path(), "002")?;
            assert!(output.status.success(), "{mode:o} {user}: {output:?}");
            Some(())
        };
        fs::write(at(50001, "one"), "1").unwrap();
        fs::write(at(50002, "two"), "2").unwrap();
        for user in [50001, 50002, 50001] {
            if sync(user).is_none() {
                return;
            }
        }
        // Each replaces and deletes what is the other's.
        fs::write(at(50001, "two"), "2 by one").unwrap();
        fs::remove_file(at(50002, "one")).unwrap();
        for user in [50001, 50002, 50001, 50002] {
            sync(user).unwrap();
        }
        for user in [50001, 50002] {
            assert_eq!(fs::read_to_string(at(user, "two")).unwrap(), "2 by one");
            assert!(!at(user, "one").exists(), "{mode:o} {user}");
        }
    }
}

// SE-26
#[test]
fn who_may_not_use_another_user_s_control_folder_is_told_whose_it_is_and_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(base) = two_users(0o2775) else { return };
    let Some(first) = sync_as(50001, base.path(), "002") else { return };
    assert!(first.status.success(), "{first:?}");
    // As an older version left it.
    let control = base.path().join("shared/.foldsync");
    fs::set_permissions(&control, fs::Permissions::from_mode(0o700)).unwrap();
    let second = sync_as(50002, base.path(), "002").unwrap();
    assert_eq!(second.status.code(), Some(7), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("remote: "), "{said}");
    assert!(said.contains("belongs to user 50001"), "{said}");
    assert!(said.contains(&format!("chmod -R g+rwX '{}'", control.display())), "{said}");
    // Its owner's next run opens it.
    assert!(sync_as(50001, base.path(), "002").unwrap().status.success());
    let again = sync_as(50002, base.path(), "002").unwrap();
    assert!(again.status.success(), "{again:?}");
}

// SE-29 SE-01
#[test]
fn a_remote_folder_full_of_traps_harms_nothing() {
    let pair = Pair::synced(&["a"]);
    let victim = victim(&pair);
    pair.remote()
        .fifo("pipe")
        .symlink(&victim, "up")
        .symlink("/etc", "etc")
        .symlink("nowhere", "dangling");
    pair.remote().write("..\\x", "1").write("%2e%2e", "2").write("..d/x", "3").write("tool", "4");
    pair.remote().chmod("tool", 0o6777).symlink("..", "d-up");
    pair.sync().exits(3);
    assert_untouched(&victim);
    let lines = pair.local().tree().lines();
    assert_eq!(lines, ["%2e%2e=2", "..\\x=1", "..d/", "..d/x=3", "a=a 0", "tool=4"]);
    assert_eq!(pair.local().mode("tool") & 0o7133, 0);
    pair.assert_quiet(3);
}

// SE-30
#[test]
fn a_deep_and_a_wide_folder_are_synced_like_any_other() {
    let pair = Pair::new();
    pair.local().write(&format!("{}bottom", "d/".repeat(200)), "deep");
    for number in 0..500 {
        pair.remote().write(&format!("wide/f{number}"), "");
    }
    pair.local().write(&many(1), "1");
    pair.sync().exits(0);
    pair.assert_equal();
    pair.assert_quiet(0);
}
