//! EE: both sides edit.

use super::pair::{BIG, Pair, until_met};

/// One file, in sync.
fn with_a() -> Pair {
    let pair = Pair::new();
    pair.local().write("a", "0");
    pair.sync().exits(0);
    pair
}

// EE-01
#[test]
fn two_edits_of_one_file_are_both_kept_and_only_the_copy_is_uploaded() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    let run = pair.sync().exits(3);
    assert_eq!(run.paths("conflict"), ["a"]);
    assert_eq!(run.summary().uploaded, 1, "{run}");
    pair.settled_with_conflict(&["a=2", "CC(a)=1"]);
}

// EE-01, the copy is the same file as before: nothing was written.
#[test]
fn the_conflict_copy_is_the_local_file_itself() {
    let pair = with_a();
    pair.local().write("a", "1").chmod("a", 0o640);
    let inode = pair.local().inode("a");
    pair.remote().write("a", "2");
    pair.sync().exits(3);
    let copy = pair.local().copy_of("a");
    assert_eq!(pair.local().inode(&copy), inode);
    assert_eq!(pair.local().mode(&copy), 0o640);
    pair.settled_with_conflict(&["a=2", "CC(a)=1"]);
}

// EE-02 S5
#[test]
fn the_same_edit_on_both_sides_is_no_conflict() {
    let pair = with_a();
    pair.local().write("a", "1").touch("a", 1_500_000_000);
    pair.remote().write("a", "1");
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().changes(), 0, "{run}");
    pair.settled(&["a=1"]);
}

// EE-03
#[test]
fn two_new_files_of_one_name_are_both_kept() {
    let pair = Pair::new();
    pair.sync().exits(0);
    pair.local().write("n", "1");
    pair.remote().write("n", "2");
    pair.sync().exits(3);
    pair.settled_with_conflict(&["n=2", "CC(n)=1"]);
}

// EE-04
#[test]
fn an_edit_during_the_download_of_another_version_is_kept() {
    until_met(|| {
        let (pair, big) = (with_a(), vec![b'r'; BIG]);
        pair.remote().write("a", &big);
        let under_way = || pair.local().text("a") == "0";
        let run = pair.sync_while(&pair.local(), under_way, || {
            pair.local().write("a", "1");
        })?;
        assert_eq!(run.exit, 3, "{run}");
        assert_eq!(pair.local().read("a"), big);
        let copy = pair.local().copy_of("a");
        assert_eq!(pair.local().text(&copy), "1");
        pair.assert_equal();
        pair.assert_quiet(3);
        Some(())
    });
}

// EE-05
#[test]
fn a_remote_edit_during_an_upload_is_kept() {
    until_met(|| {
        let (pair, big) = (with_a(), vec![b'l'; BIG]);
        pair.local().write("a", &big);
        let under_way = || pair.remote().text("a") == "0";
        let act = || {
            pair.remote().write("a", "2");
        };
        let run = pair.sync_while(&pair.remote(), under_way, act)?;
        assert_eq!(run.exit, 3, "{run}");
        assert_eq!(pair.local().text("a"), "2");
        let copy = pair.local().copy_of("a");
        assert_eq!(pair.local().read(&copy), big);
        pair.assert_equal();
        pair.assert_quiet(3);
        Some(())
    });
}

// EE-06
#[test]
fn a_conflict_copy_never_takes_a_name_that_is_in_use() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    // Every name that the copy could get in the next seconds.
    let names: Vec<String> = pair.conflict_names("a", 20);
    for name in &names {
        pair.remote().write(name, format!("squats on {name}"));
    }
    pair.sync().exits(3);
    for name in &names {
        assert_eq!(pair.local().text(name), format!("squats on {name}"));
    }
    let copy = pair.local().tree().files().into_iter().find(|(_, content)| content == "1");
    let copy = copy.expect("the local version").0;
    assert!(!names.contains(&copy), "{copy}");
    assert_eq!(pair.local().text("a"), "2");
    pair.assert_equal();
    pair.assert_quiet(3);
}

// EE-07
#[test]
fn a_conflict_of_a_conflict_copy_is_named_after_the_original() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    pair.sync().exits(3);
    let copy = pair.local().copy_of("a");
    pair.local().write(&copy, "3");
    pair.remote().write(&copy, "4");
    pair.await_next_second();
    pair.sync().exits(3);
    assert_eq!(pair.local().text(&copy), "4");
    let names: Vec<String> =
        pair.local().tree().files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.matches(".conflict-").count() <= 1), "{names:?}");
    pair.settled_with_conflict(&["a=2", "CC(a)=4", "CC(a)=3"]);
}

// EE-08
#[test]
fn a_conflict_is_over_when_its_copy_is_deleted() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    pair.sync().exits(3);
    pair.local().delete(&pair.local().copy_of("a"));
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().conflicts, 0, "{run}");
    pair.run(&["conflicts", "list"]).exits(0).says("no conflicts");
    pair.settled(&["a=2"]);
}

// EE-08
#[test]
fn a_conflict_is_over_when_its_copy_is_renamed() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    pair.sync().exits(3);
    pair.remote().rename(&pair.local().copy_of("a"), "mine");
    pair.sync().exits(0);
    pair.settled(&["a=2", "mine=1"]);
}

// EE-11
#[test]
fn a_conflict_copy_of_a_very_long_name_keeps_its_extension() {
    let pair = Pair::new();
    let (ascii, cjk) = (format!("{}.txt", "n".repeat(251)), "漢".repeat(85));
    pair.local().write(&ascii, "0").write(&cjk, "0c");
    pair.sync().exits(0);
    pair.local().write(&ascii, "1").write(&cjk, "1c");
    pair.remote().write(&ascii, "2").write(&cjk, "2c");
    pair.sync().exits(3);
    assert_eq!(pair.local().text(&ascii), "2");
    let files = pair.local().tree().files();
    let name_of =
        |wanted: &str| files.iter().find(|(_, content)| content == wanted).unwrap().0.clone();
    assert!(name_of("1").ends_with(".txt") && name_of("1").contains(".conflict-"), "{files:?}");
    assert!(name_of("1c").starts_with('漢') && name_of("1c").len() <= 255, "{files:?}");
    pair.assert_equal();
    pair.assert_quiet(3);
}

// EE-12
#[test]
fn without_a_place_for_the_conflict_copy_nothing_is_replaced() {
    let pair = Pair::new().unprivileged();
    pair.local().write("d/a", "0").write("b", "0b");
    pair.sync().exits(0);
    pair.local().write("d/a", "1").chmod("d", 0o555);
    pair.remote().write("d/a", "2");
    pair.sync().exits(1);
    assert_eq!(pair.local().text("d/a"), "1");
    assert_eq!(pair.remote().text("d/a"), "2");
    assert_eq!(pair.local().tree().lines().len(), 3, "no half copy: {:?}", pair.local().tree());
    pair.local().chmod("d", 0o755);
    pair.sync().exits(3);
    pair.settled_with_conflict(&["b=0b", "d/", "d/a=2", "d/CC(a)=1"]);
}

// EE-14
#[test]
fn an_edit_that_was_taken_back_is_no_edit() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2").write("a", "0");
    pair.sync().exits(0);
    pair.settled(&["a=1"]);
}

// S6: a copy is not copied again.
#[test]
fn a_conflict_is_settled_once_and_not_again_by_each_run() {
    let pair = with_a();
    pair.local().write("a", "1");
    pair.remote().write("a", "2");
    pair.sync().exits(3);
    for _ in 0..5 {
        pair.await_next_second();
        assert!(pair.sync().exits(3).ops.is_empty());
    }
    pair.settled_with_conflict(&["a=2", "CC(a)=1"]);
}
