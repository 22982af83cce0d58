//! CR: the state database, several instances, and a configuration that changed. Kills are in
//! `crash.rs`.

use std::fs;
use std::os::unix::fs::symlink;

use rusqlite::Connection;

use super::pair::mounts::Mounts;
use super::pair::{BIG, Pair, many, until_met};

/// Removes the state database with its log.
fn drop_database(pair: &Pair) {
    fs::remove_dir_all(pair.state_dir()).unwrap();
}

// CR-06
#[test]
fn without_a_state_database_both_sides_are_merged_and_nothing_is_deleted() {
    let pair = Pair::synced_many(60);
    let (local, remote) = (pair.local(), pair.remote());
    for number in 0..10 {
        local.write(&many(number), format!("local {number}"));
        remote.write(&many(number + 8), format!("remote {}", number + 8));
    }
    for number in 0..5 {
        local.delete(&many(number + 20));
        remote.delete(&many(number + 30));
    }
    drop_database(&pair);
    let run = pair.sync().exits(3);
    assert_eq!(run.summary().deleted, 0, "{run}");
    assert_eq!(run.summary().conflicts, 18, "{run}");
    assert_eq!(local.tree().files().len(), 60 + 18);
    pair.assert_equal();
    pair.assert_quiet(3);
}

// CR-07
#[test]
fn a_damaged_state_database_is_set_aside_and_both_sides_are_merged() {
    let pair = Pair::synced(&["a", "b", "d/c"]);
    let database = pair.database();
    let mut bytes = fs::read(&database).unwrap();
    for at in (4096..bytes.len()).step_by(97) {
        bytes[at] ^= 0x5a;
    }
    fs::write(&database, bytes).unwrap();
    pair.local().delete("a");
    pair.remote().write("b", "1");
    let run = pair.sync();
    assert_eq!(run.summary().deleted, 0, "{run}");
    assert!(run.err.contains("damaged"), "it says so: {run}");
    let aside = fs::read_dir(pair.state_dir())
        .unwrap()
        .filter(|item| item.as_ref().unwrap().file_name().to_string_lossy().contains("set-aside"));
    assert!(aside.count() > 0, "the damaged file is kept");
    pair.settled_with_conflict(&["a=a 0", "b=1", "CC(b)=b 0", "d/", "d/c=d/c 0"]);
}

// CR-07
#[test]
fn a_state_database_that_is_no_database_is_set_aside() {
    let pair = Pair::synced(&["a", "b"]);
    fs::write(
        pair.database(),
        "this is not a database, and long enough to be looked at".repeat(20),
    )
    .unwrap();
    pair.sync().exits(0);
    pair.settled(&["a=a 0", "b=b 0"]);
}

// CR-08
#[test]
fn an_old_copy_of_the_state_database_brings_nothing_back_and_deletes_nothing() {
    let pair = Pair::synced_many(60);
    let old = pair.path("old-state");
    copy_folder(&pair.state_dir(), &old);
    let local = pair.local();
    for number in 0..10 {
        local.write(&many(number), format!("later {number}"));
        local.write(&format!("new/n{number}"), format!("new {number}"));
        local.delete(&many(40 + number));
    }
    local.rename("d9", "e9");
    pair.sync().exits(0);
    let now = local.tree();
    drop_database(&pair);
    fs::rename(old, pair.state_dir()).unwrap();
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().changes(), 0, "{run}");
    assert_eq!(local.tree(), now);
    pair.assert_equal();
    pair.assert_quiet(0);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        fs::copy(item.path(), to.join(item.file_name())).unwrap();
    }
}

// CR-09
#[test]
fn a_locked_state_database_is_told_and_nothing_is_done() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().write("a", "1");
    let other = Connection::open(pair.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let run = pair.sync().exits(7);
    assert!(run.ops.is_empty(), "{run}");
    assert!(run.err.contains("database"), "{run}");
    assert_eq!(pair.remote().text("a"), "a 0");
    other.execute_batch("ROLLBACK").unwrap();
    pair.sync().exits(0);
    pair.settled(&["a=1", "b=b 0"]);
}

// CR-13
#[test]
fn a_full_state_folder_stops_the_run_and_heals() {
    let Some(mut mounts) = Mounts::new() else { return };
    let pair = Pair::synced(&["first"]);
    let (state, out, code) = (pair.state_dir(), pair.path("out"), pair.path("code"));
    // SQLite finds its file by the real path, so the program runs where the disk is small.
    let command = format!(
        "mount -t tmpfs -o size=300k tmpfs {0} && {1} sync --once --local {2} --remote dir:{3} \
         --state-dir {0} >{4} 2>&1; echo $? >{5}; umount {0}",
        state.display(),
        env!("CARGO_BIN_EXE_foldsync"),
        pair.path("local").display(),
        pair.path("remote").display(),
        out.display(),
        code.display(),
    );
    for number in 0..600 {
        pair.local().write(&many(number), format!("{number}"));
    }
    mounts.run(&format!("{{ {command}; }}"));
    let said = fs::read_to_string(out).unwrap();
    assert_eq!(fs::read_to_string(code).unwrap(), "7\n", "{said}");
    pair.check_ledger(&said);
    pair.sync().exits(0);
    pair.assert_equal();
    assert_eq!(pair.remote().tree().files().len(), 601);
    pair.assert_quiet(0);
}

// CR-14 CR-16 S21
#[test]
fn a_second_process_on_the_same_folders_stays_out() {
    until_met(|| {
        let pair = Pair::synced(&["a"]);
        pair.local().write("big", vec![b'b'; BIG]);
        let under_way = || !pair.remote().has("big");
        let link = pair.path("link");
        symlink(pair.path("local"), &link).unwrap();
        let act = || {
            pair.run(&["sync", "--once", "--json"]).exits(6);
            // With another state, and by another name.
            let other_state = pair.path("other-state");
            let remote = format!("dir:{}", pair.path("remote").display());
            for local in [&pair.path("local"), &link] {
                let run = pair.run_plainly(&[
                    "sync",
                    "--once",
                    "--local",
                    local.to_str().unwrap(),
                    "--remote",
                    &remote,
                    "--state-dir",
                    other_state.to_str().unwrap(),
                ]);
                assert_eq!(run.exit, 6, "{run}");
            }
        };
        pair.sync_while(&pair.remote(), under_way, act)?.exits(0);
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// CR-14: on the very first run nothing is there yet that could be locked.
#[test]
fn two_first_runs_at_once_do_the_work_once() {
    let pair = Pair::new();
    for number in 0..100 {
        pair.local().write(&many(number), format!("{number}"));
    }
    let arguments = ["sync", "--once", "--json"];
    let runs = [pair.start(&arguments), pair.start(&arguments)]
        .map(|child| pair.finish(child, &arguments));
    let codes = runs.each_ref().map(|run| run.exit);
    assert!(codes.contains(&0) && codes.iter().all(|code| [0, 6].contains(code)), "{codes:?}");
    pair.sync().exits(0);
    pair.assert_equal();
    assert_eq!(pair.local().tree().files().len(), 100);
    pair.assert_quiet(0);
}

// CR-15
#[test]
fn a_lock_file_of_a_killed_process_is_no_lock() {
    let pair = Pair::synced(&["a"]);
    let own = format!("{}\n", std::process::id());
    fs::write(pair.local().path(".foldsync/lock"), &own).unwrap();
    for item in fs::read_dir(pair.state_dir()).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "lock") {
            fs::write(path, &own).unwrap();
        }
    }
    pair.local().write("a", "1");
    pair.sync().exits(0);
    pair.settled(&["a=1"]);
}

// CR-17
#[test]
fn a_pair_that_points_to_another_remote_stops_before_anything_is_deleted() {
    let pair = Pair::configured("");
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    fs::rename(pair.path("remote"), pair.path("elsewhere")).unwrap();
    fs::create_dir(pair.path("remote")).unwrap();
    for _ in 0..2 {
        pair.sync().exits(4);
        assert_eq!(pair.local().tree().lines(), ["a=1", "b=2"]);
    }
}

// CR-17: a remote that another pair uses has a marker, only another one.
#[test]
fn a_pair_that_points_to_the_remote_of_another_pair_stops() {
    let (pair, other) = (Pair::configured(""), Pair::synced(&["x", "y"]));
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    let text = fs::read_to_string(pair.config()).unwrap();
    let (mine, theirs) = (pair.path("remote"), other.path("remote"));
    fs::write(pair.config(), text.replace(mine.to_str().unwrap(), theirs.to_str().unwrap()))
        .unwrap();
    pair.sync().exits(4);
    assert_eq!(other.remote().tree().lines(), ["x=x 0", "y=y 0"]);
    assert_eq!(pair.local().tree().lines(), ["a=1", "b=2"]);
}

// CR-18
#[test]
fn a_pair_that_points_to_another_local_folder_stops_and_merges_when_approved() {
    let pair = Pair::configured("");
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    fs::rename(pair.path("local"), pair.path("old")).unwrap();
    fs::create_dir(pair.path("local")).unwrap();
    pair.local().write("mine", "3");
    pair.sync().exits(4);
    assert_eq!(pair.remote().tree().lines(), ["a=1", "b=2"]);
    let held = pair.run(&["held", "list", "--json"]).json();
    pair.run(&["held", "approve", &held[0]["id"].to_string()]).exits(0);
    pair.sync().exits(0);
    pair.settled(&["a=1", "b=2", "mine=3"]);
}

// CR-19
#[test]
fn new_ignore_rules_delete_nothing_and_old_ones_merge_again() {
    let pair = Pair::configured("");
    pair.local().write("x/a", "1").write("x/b", "2").write("x/c", "3").write("y", "4");
    pair.sync().exits(0);
    pair.configure("ignore = [\"x/\"]");
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.assert_equal();
    pair.local().write("x/a", "local").delete("x/b");
    pair.remote().write("x/a", "remote").write("x/c", "3 edited");
    assert!(pair.sync().exits(0).ops.is_empty());
    pair.configure("");
    let run = pair.sync().exits(3);
    assert_eq!(run.summary().deleted, 0, "{run}");
    pair.settled_with_conflict(&[
        "x/",
        "x/CC(a)=local",
        "x/CC(c)=3",
        "x/a=remote",
        "x/b=2",
        "x/c=3 edited",
        "y=4",
    ]);
}

// CR-19, from the ignore file, which itself is synced.
#[test]
fn an_ignore_file_counts_from_the_run_that_brings_it() {
    let pair = Pair::synced(&["x.tmp", "keep", "d/y.tmp"]);
    pair.remote().write(".foldsyncignore", "*.tmp\n!/keep.tmp\n").write("keep.tmp", "k");
    pair.sync().exits(0);
    pair.sync().exits(0);
    pair.local().delete("x.tmp").write("new.tmp", "n");
    pair.sync().exits(0);
    assert!(pair.remote().has("x.tmp") && !pair.remote().has("new.tmp"));
    assert_eq!(pair.local().text("keep.tmp"), "k");
    pair.assert_equal_but(&["x.tmp", "new.tmp"]);
    pair.assert_quiet(0);
}

// CR-20
#[test]
fn a_state_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let pair = Pair::synced(&["a"]);
    let connection = Connection::open(pair.database()).unwrap();
    connection.pragma_update(None, "user_version", 9999).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let before = fs::read(pair.database()).unwrap();
    pair.local().write("a", "1");
    pair.sync().exits(7).complains("newer");
    assert_eq!(fs::read(pair.database()).unwrap(), before);
    assert_eq!(pair.remote().text("a"), "a 0");
}

// CR-21
#[test]
fn a_state_database_that_lost_its_log_is_an_old_one() {
    let pair = Pair::synced_many(60);
    for number in 0..10 {
        pair.local().write(&many(number), format!("later {number}")).delete(&many(40 + number));
    }
    let reader = Connection::open(pair.database()).unwrap();
    // Somebody who reads keeps the log from being written back.
    reader.execute_batch("BEGIN; SELECT count(*) FROM node;").unwrap();
    pair.sync().exits(0);
    drop(reader);
    for suffix in ["-wal", "-shm"] {
        let mut path = pair.database().into_os_string();
        path.push(suffix);
        if std::path::Path::new(&path).exists() {
            fs::remove_file(path).unwrap();
        }
    }
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().changes(), 0, "{run}");
    pair.assert_equal();
    pair.assert_quiet(0);
}

// CR-22
#[test]
fn a_state_folder_inside_a_root_is_refused() {
    for root in ["local", "remote"] {
        let pair = Pair::new();
        pair.local().write("a", "1");
        let inside = pair.path(root).join("state");
        let (local, remote) =
            (pair.path("local"), format!("dir:{}", pair.path("remote").display()));
        let run = pair.run_plainly(&[
            "sync",
            "--once",
            "--local",
            local.to_str().unwrap(),
            "--remote",
            &remote,
            "--state-dir",
            inside.to_str().unwrap(),
        ]);
        assert_eq!(run.exit, 2, "{run}");
        assert!(run.err.contains("state"), "{run}");
        assert!(!inside.exists(), "{run}");
    }
}

// CR-23
#[test]
fn roots_inside_each_other_are_refused() {
    let pair = Pair::new();
    pair.local().write("a", "1").mkdir("sub");
    let (local, sub, link) = (pair.path("local"), pair.path("local/sub"), pair.path("link"));
    symlink(&sub, &link).unwrap();
    let state = pair.state_dir();
    for (one, other) in [(&local, &sub), (&sub, &local), (&local, &local), (&local, &link)] {
        let remote = format!("dir:{}", other.display());
        let run = pair.run_plainly(&[
            "sync",
            "--once",
            "--local",
            one.to_str().unwrap(),
            "--remote",
            &remote,
            "--state-dir",
            state.to_str().unwrap(),
        ]);
        assert_eq!(run.exit, 2, "{run}");
        assert_eq!(pair.local().tree().lines(), ["a=1", "sub/"]);
    }
}

// CR-26
#[test]
fn a_folder_restored_from_a_backup_is_many_edits_and_the_newer_versions_are_in_the_trash() {
    let pair = Pair::synced_many(20);
    for number in 0..20 {
        pair.local().write(&many(number), format!("newer {number}"));
    }
    pair.sync().exits(0);
    for number in 0..20 {
        pair.local()
            .replace(&many(number), format!("{number}"))
            .touch(&many(number), 1_600_000_000);
    }
    pair.sync().exits(0);
    let newer =
        pair.remote().trash().into_iter().filter(|(_, content)| content.starts_with("newer"));
    assert_eq!(newer.count(), 20);
    pair.assert_equal();
    pair.assert_quiet(0);
}

// CR-27
#[test]
fn a_cloned_computer_is_another_computer() {
    let pair = Pair::synced(&["a", "d/b", "c"]);
    let clone = pair.another_computer();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([pair.path("local").join("."), clone.path("local")])
        .status();
    assert!(copied.unwrap().success());
    pair.local().write("a", "1").rename("c", "moved");
    clone.local().write("a", "2").delete("d/b");
    for _ in 0..3 {
        pair.sync();
        clone.sync();
    }
    assert_eq!(pair.local().tree(), clone.local().tree());
    assert_eq!(pair.local().tree(), pair.remote().tree());
    let copies =
        pair.local().tree().lines().iter().filter(|line| line.starts_with("CC(a)")).count();
    assert_eq!(copies, 1);
}
