//! What keeps the two sides different is carried out or said: folders that are kept for their rest,
//! names of the program's own, ignored conflict copies, runs that could not begin, another mode.

use super::pair::Pair;

/// A pair that ignores `*.o`.
fn ignoring() -> Pair {
    Pair::configured("ignore = [\"*.o\", \"vendor/\"]")
}

/// Both sides have these files.
fn synced(pair: &Pair, files: &[(&str, &str)]) {
    for (path, content) in files {
        pair.local().write(path, content);
    }
    pair.sync().exits(0);
}

// ---- folders that are kept for their rest --------------------------------------------------------

// ED-11
#[test]
fn a_kept_folder_gives_its_name_up_to_a_folder_that_is_renamed_to_it() {
    let pair = ignoring();
    synced(&pair, &[("2024/a", "old"), ("2024-new/b", "new")]);
    pair.local().write("2024/x.o", "object");
    pair.remote().delete("2024").rename("2024-new", "2024");
    let run = pair.sync().exits(0);
    let moved = run.ops.iter().find(|op| op.op == "rmdir" && op.path == "2024").unwrap();
    assert!(moved.to.as_ref().is_some_and(|to| to.starts_with(".foldsync/trash/kept-")), "{run}");
    pair.settled(&["2024/", "2024/b=new"]);
    let (kept, trashed) = (("2024/x.o", "object"), ("2024/a", "old"));
    let expected = [trashed, kept].map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(pair.local().trash(), expected);
    pair.run(&["history"]).exits(0).says("kept-");
    // It is shown, never ages out, and is given back.
    pair.configure("ignore = [\"*.o\"]\ntrash_keep = \"0s\"");
    pair.sync().exits(0);
    pair.run(&["trash", "list"]).exits(0).says("2024/x.o");
    pair.run(&["trash", "restore", "2024/x.o"]).exits(0);
    assert_eq!(pair.local().text("2024/x.o"), "object");
    pair.assert_quiet(0);
}

// ED-11
#[test]
fn a_kept_folder_gives_its_name_up_to_a_file() {
    let pair = ignoring();
    synced(&pair, &[("Notes/n", "n"), ("stays", "s")]);
    pair.local().write("Notes/x.o", "object");
    pair.remote().delete("Notes").write("Notes", "a file now");
    pair.sync().exits(0);
    pair.settled(&["Notes=a file now", "stays=s"]);
    assert!(pair.local().trash().contains(&("Notes/x.o".to_owned(), "object".to_owned())));
}

// ED-11
#[test]
fn kept_folders_in_one_another_give_the_name_of_the_outermost_up() {
    let pair = ignoring();
    synced(&pair, &[("d/in/deep/a", "1"), ("d/in/b", "2"), ("d/c", "3"), ("e", "4")]);
    pair.local().write("d/in/deep/x.o", "5").write("d/y.o", "6").write("d/vendor/lib/z", "7");
    pair.remote().delete("d");
    pair.sync().exits(0);
    assert_eq!(pair.remote().tree().lines(), ["e=4"]);
    pair.assert_quiet(0);
    pair.remote().rename("e", "d");
    pair.sync().exits(0);
    pair.settled(&["d=4"]);
    let kept: Vec<String> = pair.local().trash().into_iter().map(|(path, _)| path).collect();
    for path in ["d/in/deep/x.o", "d/y.o", "d/vendor/lib/z"] {
        assert!(kept.iter().any(|kept| kept == path), "{path} in {kept:?}");
    }
}

// ED-11
#[test]
fn a_folder_that_is_made_again_takes_the_kept_one_over_with_its_rest() {
    for from in [1, 0] {
        let pair = ignoring();
        let sides = pair.both();
        synced(&pair, &[("d/in/a", "1"), ("d/b", "2"), ("e", "3")]);
        sides[1 - from].write("d/in/x.o", "object");
        sides[from].delete("d");
        pair.sync().exits(0);
        sides[from].write("d/new", "4");
        let run = pair.sync().exits(0);
        assert_eq!(sides[1 - from].text("d/in/x.o"), "object", "{run}");
        let kept = ["d/", "d/in/", "d/in/x.o=object", "d/new=4", "e=3"];
        assert_eq!(sides[1 - from].tree().lines(), kept);
        assert_eq!(sides[from].tree().lines(), ["d/", "d/new=4", "e=3"]);
        pair.assert_quiet(0);
    }
}

// ED-11
#[test]
fn a_folder_that_is_kept_for_a_link_or_a_pipe_gives_its_name_up_as_well() {
    for kind in ["link", "pipe"] {
        let pair = Pair::synced(&["d/x", "e/y"]);
        match kind {
            "link" => pair.local().symlink("nowhere", "d/l"),
            _ => pair.local().fifo("d/l"),
        };
        pair.remote().delete("d").rename("e", "d");
        pair.sync().exits(0);
        pair.settled(&["d/", "d/y=e/y 0"]);
    }
}

// ED-11
#[test]
fn a_folder_that_the_remote_keeps_gives_its_name_up_too() {
    let pair = ignoring();
    synced(&pair, &[("d/x", "1"), ("e/y", "2")]);
    pair.remote().write("d/x.o", "object").symlink("nowhere", "d/l");
    pair.local().delete("d");
    pair.sync().exits(0);
    assert!(pair.remote().has("d/x.o"), "kept");
    pair.assert_quiet(0);
    pair.local().rename("e", "d");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/y=2"]);
    assert!(pair.remote().trash().contains(&("d/x.o".to_owned(), "object".to_owned())));
}

// ED-11
#[test]
fn a_kept_folder_with_another_pair_in_it_stays_and_whoever_waits_is_named() {
    let pair = ignoring();
    synced(&pair, &[("d/x", "1"), ("e/y", "2")]);
    pair.local().write("d/vendor/.foldsync/root-id", "another pair");
    pair.remote().delete("d").rename("e", "d");
    let run = pair.sync();
    assert_ne!(run.exit, 0, "{run}");
    assert_eq!(pair.local().text("d/vendor/.foldsync/root-id"), "another pair");
    let again = pair.sync();
    assert_ne!(again.exit, 0, "{again}");
    pair.assert_verified(&again);
    // Out of the way by hand.
    pair.local().rename("d/vendor", "vendor");
    pair.sync().exits(0);
    assert_eq!(pair.local().text("d/y"), "2");
    pair.assert_quiet(0);
}

// ED-11
#[test]
fn an_edit_inside_a_kept_folder_brings_the_folder_back_instead() {
    let pair = ignoring();
    synced(&pair, &[("d/x", "1"), ("e/y", "2")]);
    pair.local().write("d/x.o", "object").write("d/x", "edited");
    pair.remote().delete("d").rename("e", "d");
    pair.sync();
    pair.sync();
    let lines = pair.local().tree().lines();
    for kept in ["=edited", "x.o=object", "=2"] {
        assert!(lines.iter().any(|line| line.ends_with(kept)), "{kept} in {lines:?}");
    }
    let remote = pair.remote().tree().lines();
    assert_eq!(lines.into_iter().filter(|line| !line.contains("x.o")).collect::<Vec<_>>(), remote);
}

#[test]
fn a_file_where_the_other_side_has_an_ignored_folder_is_named_and_not_fetched_in_vain() {
    for from in [1, 0] {
        let pair = ignoring();
        let sides = pair.both();
        synced(&pair, &[("a", "1")]);
        sides[1 - from].write("d/vendor/x", "ignored");
        sides[from].write("d/vendor", "a file");
        let run = pair.sync().exits(3).moves_no_bytes();
        assert_eq!(run.summary().skipped, 1, "{run}");
        pair.assert_quiet(3);
        sides[from].rename("d/vendor", "d/seller");
        pair.sync().exits(0);
        assert_eq!(sides[1 - from].text("d/seller"), "a file");
        pair.assert_quiet(0);
    }
}

// ---- names of the program's own ------------------------------------------------------------------

// POL-9
#[test]
fn names_that_only_begin_like_the_programs_own_are_synced() {
    let pair = Pair::new();
    pair.local()
        .write(".foldsync-notes/x", "1")
        .write(".foldsync-run.sh", "2")
        .write("d/.foldsync-park-lot", "3")
        .write(".foldsync-00000000000000AB", "4");
    pair.remote().write(".foldsync-ab.old", "5").write("e/.foldsync-0 (1)", "6");
    pair.sync().exits(0);
    pair.settled(&[
        ".foldsync-00000000000000AB=4",
        ".foldsync-ab.old=5",
        ".foldsync-notes/",
        ".foldsync-notes/x=1",
        ".foldsync-run.sh=2",
        "d/",
        "d/.foldsync-park-lot=3",
        "e/",
        "e/.foldsync-0 (1)=6",
    ]);
}

// POL-9
#[test]
fn a_file_under_a_name_of_the_programs_own_is_named_on_either_side() {
    for side in 0..2 {
        let pair = Pair::synced(&["z", "k"]);
        let sides = pair.both();
        let name = ".foldsync-00000000000000ab";
        sides[side].rename("z", name).write("d/.foldsync-00000000000000cd.old", "new");
        let run = pair.sync().exits(3);
        assert_eq!(run.summary().skipped, 2, "{run}");
        assert_eq!(sides[side].text(name), "z 0");
        pair.run(&["status"]).says(name).says("rename it");
        pair.assert_quiet(3);
        sides[side].rename(name, "z").rename("d/.foldsync-00000000000000cd.old", "d/n");
        pair.sync().exits(0);
        pair.settled(&["d/", "d/n=new", "k=k 0", "z=z 0"]);
    }
}

// ---- conflict copies that a rule ignores ---------------------------------------------------------

/// A conflict whose copy is ignored, told again by the next run; the copy's name.
fn ignored_conflict() -> (Pair, String) {
    let pair = Pair::new();
    pair.local().write(".foldsyncignore", "*.conflict-*\n").write("d/a.txt", "0");
    pair.sync().exits(0);
    pair.local().write("d/a.txt", "mine");
    pair.remote().write("d/a.txt", "theirs");
    pair.sync().exits(3);
    let tree = pair.local().tree();
    let copy = tree.paths().find(|path| path.contains(".conflict-")).unwrap().to_owned();
    assert!(!pair.remote().has(&copy), "it stays here");
    pair.assert_quiet(3);
    pair.run(&["status", "--check"]).exits(3);
    (pair, copy)
}

// EE-01
#[test]
fn an_ignored_conflict_copy_stays_open_until_it_is_resolved() {
    for (keep, winner) in [("local", "mine"), ("remote", "theirs"), ("both", "theirs")] {
        let (pair, copy) = ignored_conflict();
        let list = pair.run(&["conflicts", "list", "--json"]).exits(0).json();
        let id = list[0]["id"].to_string();
        pair.run(&["conflicts", "resolve", &id, "--keep", keep]).exits(0);
        pair.sync().exits(0);
        assert_eq!(pair.local().has(&copy), keep == "both");
        for side in pair.both() {
            assert_eq!(side.text("d/a.txt"), winner, "{keep}");
        }
        pair.assert_quiet(0);
    }
}

// EE-01
#[test]
fn an_ignored_conflict_copy_is_over_once_it_is_removed_and_not_where_nobody_looks() {
    let (pair, copy) = ignored_conflict();
    // Nobody lists the folder any more.
    pair.local().write(".foldsyncignore", "*.conflict-*\nd/\n");
    pair.sync().exits(3);
    pair.sync().exits(3);
    pair.local().write(".foldsyncignore", "*.conflict-*\n");
    pair.sync();
    pair.sync().exits(3);
    pair.local().give_up(b"mine");
    pair.local().delete(&copy);
    pair.sync().exits(0);
    pair.assert_quiet(0);
}

// TY-01
#[test]
fn an_ignored_copy_of_a_name_that_both_sides_used_stays_here() {
    let pair = Pair::new();
    pair.local().write(".foldsyncignore", "*.conflict-*\n").write("k", "k");
    pair.sync().exits(0);
    pair.local().write("n", "a file");
    pair.remote().write("n/x", "a folder");
    pair.sync().exits(3);
    let copy = pair.local().copy_of("n");
    assert!(!pair.remote().has(&copy), "{:?}", pair.remote().tree().lines());
    assert_eq!(pair.local().text(&copy), "a file");
    pair.assert_quiet(3);
}

// ---- runs that could not begin -------------------------------------------------------------------

// OB-02
#[test]
fn status_tells_of_a_run_that_could_not_take_its_lock() {
    let pair = Pair::synced(&["a"]);
    pair.sync().exits(0);
    pair.run(&["status", "--check"]).exits(0);
    let lock = pair.local().path(".foldsync/lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    pair.local().write("b", "1");
    pair.sync().exits(7).complains("lock");
    pair.run(&["status", "--check"]).exits(7);
    pair.run(&["status"]).exits(6).says("lock");
    std::fs::remove_dir(&lock).unwrap();
    pair.sync().exits(0);
    pair.run(&["status", "--check"]).exits(0);
    pair.settled(&["a=a 0", "b=1"]);
}

// OB-02
#[test]
fn a_pair_that_never_got_in_sync_is_not_called_so() {
    let pair = Pair::new();
    pair.run(&["status", "--check"]).exits(1);
    std::fs::remove_dir(pair.path("remote")).unwrap();
    let run = pair.run_unchecked(&["sync", "--once"]);
    pair.run_unchecked(&["status", "--check"]).exits(run.exit);
    std::fs::create_dir(pair.path("remote")).unwrap();
    pair.sync().exits(0);
    pair.run(&["status", "--check"]).exits(0);
}

// ---- another mode --------------------------------------------------------------------------------

// POL-12
#[test]
fn a_change_from_a_backup_brings_back_what_only_the_destination_has() {
    for (backup, from) in [("backup-up", 0), ("backup-down", 1)] {
        let pair = Pair::configured(&format!("mode = \"{backup}\""));
        let sides = pair.both();
        for path in ["a", "b", "d/c", "d/e"] {
            sides[from].write(path, path);
        }
        pair.sync().exits(0);
        sides[from].delete("a").delete("d");
        pair.sync().exits(0);
        pair.assert_quiet(0);
        pair.configure("mode = \"two-way\"");
        sides[from].delete("b");
        pair.run(&["plan"]).exits(0);
        pair.sync().exits(0).complains("deletes nothing");
        pair.settled(&["a=a", "b=b", "d/", "d/c=d/c", "d/e=d/e"]);
        sides[from].delete("b");
        let run = pair.sync().exits(0);
        assert!(!run.err.contains("deletes nothing"), "said once: {run}");
        pair.settled(&["a=a", "d/", "d/c=d/c", "d/e=d/e"]);
    }
}

// POL-12
#[test]
fn a_mirror_deletes_nothing_in_its_first_run_after_another_mode() {
    for (mirror, from) in [("mirror-up", 0), ("mirror-down", 1)] {
        let pair = Pair::configured("mode = \"two-way\"");
        let sides = pair.both();
        sides[from].write("a", "1").write("b", "2");
        pair.sync().exits(0);
        sides[1 - from].write("only", "3");
        sides[from].delete("b");
        pair.configure(&format!("mode = \"{mirror}\""));
        let run = pair.sync().exits(0).complains("deletes nothing");
        assert!(run.paths("delete").is_empty(), "{run}");
        assert_eq!(sides[1 - from].tree().lines(), ["a=1", "b=2", "only=3"]);
        pair.sync().exits(0);
        pair.settled(&["a=1"]);
        assert_eq!(sides[1 - from].trash().len(), 2);
    }
}

// POL-12
#[test]
fn a_change_of_mode_is_made_only_once_a_run_has_ended_well() {
    let pair = Pair::configured("mode = \"backup-up\"").unprivileged();
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    pair.local().delete("a");
    pair.sync().exits(0);
    pair.configure("mode = \"mirror-up\"");
    pair.local().write("bad", "3").chmod("bad", 0o000);
    let failed = pair.sync();
    pair.sync().complains("deletes nothing");
    assert_eq!(pair.remote().text("a"), "1", "{failed}");
    pair.local().chmod("bad", 0o644);
    pair.sync().exits(0).complains("deletes nothing");
    pair.sync().exits(0);
    pair.settled(&["b=2", "bad=3"]);
}
