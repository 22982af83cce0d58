//! SF: what stops a run before it does damage, and how a person lets it go on.

use std::fs;

use super::pair::{Pair, many};

/// Deletes the files of these numbers.
fn delete(side: &super::pair::side::Side<'_>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        side.delete(&many(number));
    }
}

/// The ids of what is held.
fn held(pair: &Pair) -> Vec<i64> {
    let list = pair.run(&["held", "list", "--json"]).exits(0);
    list.json().iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

fn answer(pair: &Pair, word: &str) {
    let ids = held(pair);
    assert_eq!(ids.len(), 1, "one thing is held");
    pair.run(&["held", word, &ids[0].to_string()]).exits(0);
}

/// A run that is stopped: exit code 4, nothing done, and nothing on either side is touched.
fn assert_stops(pair: &Pair) {
    let before = [pair.local().tree(), pair.remote().tree()];
    let run = pair.sync().exits(4);
    assert!(run.ops.is_empty(), "{run}");
    assert!(run.summary().held > 0 || !run.err.is_empty(), "it says why: {run}");
    assert_eq!([pair.local().tree(), pair.remote().tree()], before);
}

// SF-01 SF-18
#[test]
fn a_local_root_that_is_gone_stops_the_pair_and_is_not_made_again() {
    let pair = Pair::synced(&["a", "b"]);
    let (root, away) = (pair.path("local"), pair.path("away"));
    fs::rename(&root, &away).unwrap();
    for _ in 0..3 {
        pair.run_unchecked(&["sync", "--once", "--json"]).exits(4).complains("local");
        assert!(!root.exists());
    }
    pair.run_unchecked(&["status", "--check"]).exits(4);
    assert_eq!(pair.remote().tree().lines(), ["a=a 0", "b=b 0"]);
    fs::rename(away, root).unwrap();
    pair.settled(&["a=a 0", "b=b 0"]);
}

// SF-02 SF-06
#[test]
fn an_emptied_root_stops_the_deletions_until_a_person_says_so() {
    for turn in 0..2 {
        let pair = Pair::synced(&["a", "d/b"]);
        pair.both()[turn].delete("a").delete("d");
        for _ in 0..2 {
            assert_stops(&pair);
        }
        pair.run(&["held", "list"]).exits(0).says("#1");
        pair.run(&["held", "show", "1"]).exits(0).says("d/b");
        answer(&pair, "approve");
        pair.sync().exits(0);
        pair.settled(&[]);
        assert_eq!(pair.both()[1 - turn].trash().len(), 2);
    }
}

// SF-02
#[test]
fn an_emptied_root_is_filled_again_when_the_deletion_is_rejected() {
    let pair = Pair::synced(&["a", "d/b"]);
    pair.local().delete("a").delete("d");
    pair.sync().exits(4);
    answer(&pair, "reject");
    pair.sync().exits(0);
    pair.settled(&["a=a 0", "d/", "d/b=d/b 0"]);
}

// SF-03
#[test]
fn a_local_root_that_is_something_else_stops_the_pair() {
    let pair = Pair::configured("");
    pair.local().write("a", "a 0").write("b", "b 0");
    pair.sync().exits(0);
    let (root, away, other) = (pair.path("local"), pair.path("away"), pair.path("other"));
    fs::rename(&root, &away).unwrap();
    let stopped = |what: &str| {
        let run = pair.run_unchecked(&["sync", "--once", "--json"]);
        assert_eq!(run.exit, 4, "{what}: {run}");
        assert_eq!(pair.remote().tree().lines(), ["a=a 0", "b=b 0"], "{what}");
    };
    fs::write(&root, "a file").unwrap();
    stopped("a file");
    fs::remove_file(&root).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("stranger"), "s").unwrap();
    std::os::unix::fs::symlink(&other, &root).unwrap();
    stopped("a link to another folder");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "nothing came into the other folder");
    fs::remove_dir_all(&other).unwrap();
    stopped("a link to nothing");
    fs::remove_file(&root).unwrap();
    fs::rename(away, root).unwrap();
    pair.settled(&["a=a 0", "b=b 0"]);
}

// SF-04
#[test]
fn strays_under_an_unmounted_root_are_not_the_root() {
    let pair = Pair::synced(&["a", "b"]);
    let (root, away) = (pair.path("local"), pair.path("away"));
    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("stray"), "s").unwrap();
    for _ in 0..2 {
        pair.run_unchecked(&["sync", "--once", "--json"]).exits(4);
    }
    assert_eq!(pair.remote().tree().lines(), ["a=a 0", "b=b 0"]);
    fs::remove_file(root.join("stray")).unwrap();
    fs::remove_dir(&root).unwrap();
    fs::rename(away, root).unwrap();
    pair.settled(&["a=a 0", "b=b 0"]);
}

// SF-04 SF-17, with a real mount.
#[test]
fn a_root_that_is_not_mounted_stops_the_pair() {
    for name in ["local", "remote"] {
        let Some(mut pair) = Pair::on_small_disk(name, 4096) else { return };
        let place = pair.path(name);
        pair.local().write("a", "1").write("b", "2");
        pair.sync().exits(0);
        pair.mounts().run(&format!("mount --bind {0} /mnt && umount {0}", place.display()));
        for _ in 0..2 {
            pair.run_unchecked(&["sync", "--once", "--json"]).exits(4);
        }
        let other = if name == "local" { pair.remote() } else { pair.local() };
        assert_eq!(other.tree().lines(), ["a=1", "b=2"]);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing goes below the mount point");
        pair.mounts().run(&format!("mount --bind /mnt {}", place.display()));
        pair.settled(&["a=1", "b=2"]);
    }
}

// SF-05
#[test]
fn a_remote_root_that_is_gone_stops_the_pair_and_is_not_made_again() {
    let pair = Pair::synced(&["a", "b"]);
    let (root, away) = (pair.path("remote"), pair.path("away"));
    fs::rename(&root, &away).unwrap();
    for _ in 0..2 {
        pair.run_unchecked(&["sync", "--once", "--json"]).exits(4).complains("remote");
        assert!(!root.exists());
    }
    assert_eq!(pair.local().tree().lines(), ["a=a 0", "b=b 0"]);
    fs::rename(away, root).unwrap();
    pair.settled(&["a=a 0", "b=b 0"]);
}

// SF-21
#[test]
fn a_new_remote_root_under_the_old_name_stops_the_pair_until_it_is_approved() {
    let pair = Pair::synced(&["a", "b"]);
    fs::rename(pair.path("remote"), pair.path("away")).unwrap();
    fs::create_dir(pair.path("remote")).unwrap();
    for _ in 0..2 {
        pair.sync().exits(4);
        assert_eq!(pair.local().tree().lines(), ["a=a 0", "b=b 0"]);
        assert!(pair.remote().tree().lines().is_empty());
    }
    answer(&pair, "approve");
    pair.sync().exits(0);
    pair.settled(&["a=a 0", "b=b 0"]);
}

// SF-07 SF-08, FK-18: files of a moment ago are read again before anything is done with them, so
// their deletions become known one by one.
#[test]
fn a_mass_deletion_that_becomes_known_bit_by_bit_is_held_as_a_whole() {
    for turn in 0..2 {
        let pair = Pair::new();
        let sides = pair.both();
        let hour = std::time::Duration::from_secs(3600);
        let now = std::time::SystemTime::now();
        for number in 0..60 {
            sides[1 - turn].write(&many(number), format!("{number}"));
            let path = sides[1 - turn].path(&many(number));
            // Every other one is never old enough to be believed.
            let written = if number % 2 == 0 { now - hour } else { now + hour };
            fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
        }
        pair.sync().exits(0);
        delete(&sides[turn], 0..20);
        let run = pair.sync().exits(4);
        assert_eq!(run.summary().held, 20, "{run}");
        assert!(run.paths("delete").is_empty(), "{run}");
    }
}

// SF-07 SF-08
#[test]
fn a_mass_deletion_is_held_and_the_rest_goes_on() {
    for turn in 0..2 {
        let pair = Pair::synced_many(60);
        let sides = pair.both();
        delete(&sides[turn], 0..20);
        sides[turn].write("new", "n").write(&many(50), "edited");
        let run = pair.sync().exits(4);
        assert_eq!(run.summary().held, 20, "{run}");
        assert!(run.paths("delete").is_empty(), "{run}");
        assert_eq!(sides[1 - turn].text("new"), "n");
        assert_eq!(sides[1 - turn].text(&many(50)), "edited");
        assert_eq!(sides[1 - turn].tree().files().len(), 61);
        assert_stops(&pair);
        answer(&pair, "approve");
        pair.sync().exits(0);
        assert_eq!(
            sides[1 - turn].trash().iter().filter(|(path, _)| path != &many(50)).count(),
            20
        );
        pair.assert_equal();
        pair.assert_quiet(0);
        assert!(held(&pair).is_empty());
    }
}

// SF-07
#[test]
fn a_rejected_mass_deletion_brings_the_files_back() {
    let pair = Pair::synced_many(60);
    delete(&pair.local(), 0..20);
    pair.sync().exits(4);
    answer(&pair, "reject");
    pair.sync().exits(0);
    assert_eq!(pair.local().tree().files().len(), 60);
    pair.assert_equal();
    pair.assert_quiet(0);
}

// SF-07
#[test]
fn files_that_come_back_by_themselves_are_held_no_more() {
    let pair = Pair::synced_many(60);
    fs::rename(pair.local().path("d1"), pair.path("kept")).unwrap();
    fs::rename(pair.local().path("d2"), pair.path("kept2")).unwrap();
    fs::rename(pair.local().path("d3"), pair.path("kept3")).unwrap();
    pair.sync().exits(4);
    fs::rename(pair.path("kept"), pair.local().path("d1")).unwrap();
    fs::rename(pair.path("kept2"), pair.local().path("d2")).unwrap();
    fs::rename(pair.path("kept3"), pair.local().path("d3")).unwrap();
    pair.sync().exits(0);
    assert!(held(&pair).is_empty());
    pair.assert_equal();
    pair.assert_quiet(0);
}

// SF-07
#[test]
fn force_lets_a_mass_deletion_through_once() {
    let pair = Pair::synced_many(60);
    delete(&pair.local(), 0..20);
    pair.sync_with(&["--force"]).exits(0);
    pair.assert_equal();
    delete(&pair.local(), 20..40);
    pair.sync().exits(4);
    assert_eq!(pair.remote().tree().files().len(), 40);
}

// SF-07: renames are no deletions.
#[test]
fn moving_everything_is_not_a_mass_deletion() {
    let pair = Pair::synced_many(60);
    for number in 0..10 {
        pair.local().rename(&format!("d{number}"), &format!("all/e{number}"));
    }
    pair.sync().exits(0).moves_no_bytes();
    pair.assert_equal();
    pair.assert_quiet(0);
}

// SF-09
#[test]
fn the_guard_begins_where_it_is_said_to() {
    let exit_after = |files: usize, gone: usize, flags: &[&str]| {
        let pair = Pair::synced_many(files);
        // So that the root is not emptied.
        for side in pair.both() {
            side.mkdir("stays/x");
        }
        pair.sync_with(flags).exits(0);
        delete(&pair.local(), 0..gone);
        pair.sync_with(flags).exit
    };
    assert_eq!(exit_after(40, 10, &[]), 0, "a quarter");
    assert_eq!(exit_after(40, 11, &[]), 4, "more than a quarter");
    assert_eq!(exit_after(12, 9, &[]), 0, "fewer than ten");
    assert_eq!(exit_after(12, 10, &[]), 4, "ten of twelve");
    assert_eq!(exit_after(12, 10, &["--max-delete", "90%"]), 0, "another share");
    assert_eq!(exit_after(20, 5, &["--max-delete", "5"]), 0, "a number");
    assert_eq!(exit_after(20, 6, &["--max-delete", "5"]), 4, "more than a number");
    assert_eq!(exit_after(20, 1, &["--max-delete", "0"]), 4, "none at all");
}

// SF-09
#[test]
fn the_only_file_of_a_pair_can_be_deleted() {
    let pair = Pair::synced(&["a"]);
    pair.local().delete("a");
    pair.sync().exits(0);
    pair.settled(&[]);
}

// SF-10
#[test]
fn an_approval_covers_what_was_shown_and_no_more() {
    let pair = Pair::synced_many(80);
    delete(&pair.local(), 0..25);
    pair.sync().exits(4);
    answer(&pair, "approve");
    delete(&pair.local(), 25..55);
    let run = pair.sync().exits(4);
    assert_eq!(run.summary().deleted, 25, "{run}");
    assert_eq!(run.summary().held, 30, "{run}");
    assert_eq!(pair.remote().tree().files().len(), 55);
    pair.sync().exits(4);
    assert_eq!(pair.remote().tree().files().len(), 55);
}

// SF-13
#[test]
fn without_a_trash_nothing_is_deleted_or_replaced() {
    let pair = Pair::new().unprivileged();
    for name in ["a", "b", "c"] {
        pair.local().write(name, format!("{name} 0"));
    }
    pair.sync().exits(0);
    pair.local().chmod(".foldsync/trash", 0o555);
    pair.remote().delete("a").write("b", "1");
    for _ in 0..2 {
        pair.sync().exits(1);
        assert_eq!(pair.local().tree().lines(), ["a=a 0", "b=b 0", "c=c 0"]);
    }
    pair.local().chmod(".foldsync/trash", 0o755);
    pair.sync().exits(0);
    pair.settled(&["b=1", "c=c 0"]);
}

// SF-14
#[test]
fn the_trash_keeps_every_version_apart_and_gives_back_what_was_asked_for() {
    let pair = Pair::synced(&["d/a", "b"]);
    for version in 1..=4 {
        pair.remote().delete("d/a");
        pair.sync().exits(0);
        pair.remote().write("d/a", format!("version {version}"));
        pair.sync().exits(0);
    }
    assert_eq!(pair.local().trash().len(), 4);
    let list = pair.run(&["trash", "list", "--json"]).exits(0).json();
    assert_eq!(list.len(), 4);
    assert!(list.iter().all(|item| item["path"] == "d/a"), "{list:?}");
    // Never over what is there.
    pair.run(&["trash", "restore", "d/a"]).exits(2).complains("exists already");
    assert_eq!(pair.local().text("d/a"), "version 4");
    pair.run(&["trash", "restore", "d/a", "--to", "d/old"]).exits(0);
    assert_eq!(pair.local().text("d/old"), "version 3", "the newest");
    let oldest = list[0]["item"].as_str().unwrap();
    pair.run(&["trash", "restore", oldest, "--to", "oldest"]).exits(0);
    assert_eq!(pair.local().text("oldest"), "d/a 0");
    pair.sync().exits(0);
    pair.settled(&["b=b 0", "d/", "d/a=version 4", "d/old=version 3", "oldest=d/a 0"]);
}

// SF-14
#[test]
fn emptying_the_trash_touches_nothing_else() {
    let pair = Pair::synced(&["a", "b"]);
    let outside = pair.path("outside");
    fs::write(&outside, "o").unwrap();
    pair.remote().delete("a");
    pair.sync().exits(0);
    let run = fs::read_dir(pair.local().path(".foldsync/trash")).unwrap().next().unwrap().unwrap();
    std::os::unix::fs::symlink(&outside, run.path().join("link")).unwrap();
    pair.local().give_up(b"a 0");
    pair.run(&["trash", "empty"]).exits(0);
    assert!(pair.local().trash().is_empty());
    assert_eq!(fs::read_to_string(outside).unwrap(), "o");
    pair.settled(&["b=b 0"]);
}

// SF-14
#[test]
fn what_is_longer_in_the_trash_than_it_is_kept_goes_with_the_next_run() {
    let pair = Pair::configured("trash_keep = \"30d\"");
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    pair.remote().delete("a");
    pair.sync().exits(0);
    let trash = pair.local().path(".foldsync/trash");
    let run = fs::read_dir(&trash).unwrap().next().unwrap().unwrap().path();
    fs::rename(run, trash.join("20200101T000000Z-1")).unwrap();
    // A label proves nothing: a clock that was wrong may have written it.
    pair.sync().exits(0);
    assert_eq!(pair.local().trash(), [("a".to_owned(), "1".to_owned())]);
    count_for(&pair, 29);
    pair.sync().exits(0);
    assert_eq!(pair.local().trash().len(), 1);
    count_for(&pair, 31);
    pair.local().give_up(b"1");
    pair.sync().exits(0);
    assert!(pair.local().trash().is_empty());
    pair.settled(&["b=2"]);
}

/// Writes into the ledgers of the local trash that so many days were counted for all that is in it.
fn count_for(pair: &Pair, days: u64) {
    for ledger in fs::read_dir(pair.local().path(".foldsync/ageing")).unwrap() {
        let ledger = ledger.unwrap().path();
        let text = fs::read_to_string(&ledger).unwrap();
        let mut told: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (_, counted) in told["runs"].as_object_mut().unwrap() {
            counted["surely_s"] = (days * 24 * 3600).into();
        }
        fs::write(&ledger, told.to_string()).unwrap();
    }
}

// SF-15
#[test]
fn many_small_deletions_in_a_day_are_one_large_one() {
    let pair = Pair::synced_many(400);
    let mut held_at = None;
    for step in 0..8 {
        delete(&pair.local(), step * 24..(step + 1) * 24);
        if pair.sync().exit == 4 {
            held_at = Some(step);
            break;
        }
    }
    assert_eq!(held_at, Some(4), "the fifth batch of 24 of 400");
    assert_eq!(pair.remote().tree().files().len(), 304);
}

// SF-18
#[test]
fn what_is_held_stays_held_and_is_told() {
    let pair = Pair::synced_many(60);
    delete(&pair.remote(), 0..20);
    for _ in 0..3 {
        pair.sync().exits(4);
    }
    pair.run(&["status", "--check"]).exits(4);
    let status = pair.run(&["status", "--json"]).json();
    assert_eq!(status[0]["pairs"][0]["state"], "held", "{status:?}");
    assert_eq!(status[0]["pairs"][0]["held"][0]["count"], 20, "{status:?}");
    assert_eq!(held(&pair).len(), 1, "told once, not once for each run");
    assert_eq!(pair.local().tree().files().len(), 60);
}

/// A pair of 600 files that holds more than 30 % of edits, of which 200 were edited on a side.
fn with_mass_of_edits(turn: usize) -> Pair {
    let pair = Pair::configured("max_change = \"30%\"");
    for number in 0..600 {
        pair.local().write(&many(number), format!("base {number}"));
    }
    pair.sync().exits(0);
    for number in 0..200 {
        pair.both()[turn].write(&many(number), format!("encrypted {number}"));
    }
    pair
}

// SF-11 CR-26
#[test]
fn a_mass_of_edits_waits_for_a_person_who_lets_it_happen() {
    for turn in 0..2 {
        let pair = with_mass_of_edits(turn);
        let other = &pair.both()[1 - turn];
        other.write("new", "goes on");
        let run = pair.sync().exits(4);
        assert_eq!((run.summary().held, run.summary().changes()), (200, 1), "{run}");
        assert_eq!(other.text(&many(3)), "base 3");
        pair.run(&["held", "list"]).exits(0).says("would replace 200 files");
        pair.run(&["status", "--check"]).exits(4).says("Held: 200 changes");
        answer(&pair, "approve");
        pair.sync().exits(0);
        assert_eq!(other.text(&many(3)), "encrypted 3");
        pair.assert_equal();
        pair.assert_quiet(0);
    }
}

// SF-11
#[test]
fn a_mass_of_edits_that_is_rejected_gives_way_to_the_old_versions() {
    for turn in 0..2 {
        let pair = with_mass_of_edits(turn);
        pair.sync().exits(4);
        answer(&pair, "reject");
        let run = pair.sync().exits(0);
        assert_eq!(run.summary().conflicts, 0, "{run}");
        for side in pair.both() {
            assert_eq!(side.text(&many(3)), "base 3");
            assert_eq!(side.tree().files().len(), 600);
        }
        assert_eq!(pair.both()[turn].trash().len(), 200, "what was rejected is in the trash");
        pair.assert_quiet(0);
    }
}

// SF-11
#[test]
fn edits_that_come_bit_by_bit_are_one_mass() {
    let pair = Pair::configured("max_change = \"30%\"");
    for number in 0..400 {
        pair.local().write(&many(number), format!("base {number}"));
    }
    pair.sync().exits(0);
    let mut held_at = None;
    for step in 0..6 {
        for number in step * 30..(step + 1) * 30 {
            pair.local().write(&many(number), format!("encrypted {number}"));
        }
        if pair.sync().exit == 4 {
            held_at = Some(step);
            break;
        }
    }
    assert_eq!(held_at, Some(4), "the fifth batch of 30 of 400");
    let old = (0..400).filter(|number| pair.remote().text(&many(*number)).starts_with("base"));
    assert_eq!(old.count(), 280);
    pair.sync_with(&["--force"]).exits(0);
    pair.assert_equal();
}
