//! ED: one side deletes what the other still has, or has changed.

use super::pair::{BIG, Pair, until_met};

// ED-01
#[test]
fn a_local_edit_outlives_a_remote_deletion() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().write("a", "1");
    pair.remote().delete("a");
    let inode = pair.local().inode("a");
    let run = pair.sync().exits(0);
    assert!(run.only("a").reason.contains("kept"), "{run}");
    assert_eq!(pair.local().inode("a"), inode, "not removed for a moment");
    pair.settled(&["a=1", "b=b 0"]);
}

// ED-02
#[test]
fn a_remote_edit_outlives_a_local_deletion() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().delete("a");
    pair.remote().write("a", "2");
    let run = pair.sync().exits(0);
    assert!(run.paths("delete").is_empty(), "{run}");
    pair.settled(&["a=2", "b=b 0"]);
}

// ED-03
#[test]
fn what_both_sides_deleted_is_forgotten_without_an_operation() {
    let pair = Pair::synced(&["a", "d/x", "stays"]);
    pair.local().delete("a").delete("d");
    pair.remote().delete("a").delete("d");
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.settled(&["stays=stays 0"]);
}

// ED-03 S18
#[test]
fn a_deletion_goes_to_the_trash_of_the_other_side() {
    let pair = Pair::synced(&["a", "d/b", "stays"]);
    pair.local().delete("a");
    pair.remote().delete("d");
    pair.sync().exits(0);
    assert_eq!(pair.remote().trash(), [("a".to_owned(), "a 0".to_owned())]);
    assert_eq!(pair.local().trash(), [("d/b".to_owned(), "d/b 0".to_owned())]);
    pair.settled(&["stays=stays 0"]);
}

// ED-05
#[test]
fn a_new_local_file_keeps_the_folder_that_the_remote_deleted() {
    let pair = Pair::synced(&["d/x", "stays"]);
    pair.local().write("d/n", "1");
    pair.remote().delete("d");
    pair.sync().exits(0);
    assert_eq!(pair.local().trash(), [("d/x".to_owned(), "d/x 0".to_owned())]);
    pair.settled(&["d/", "d/n=1", "stays=stays 0"]);
}

// ED-06
#[test]
fn a_new_remote_file_keeps_the_folder_that_was_deleted_locally() {
    let pair = Pair::synced(&["d/x", "d/e/y", "stays"]);
    pair.local().delete("d");
    pair.remote().write("d/e/n", "2");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/e/", "d/e/n=2", "stays=stays 0"]);
}

// ED-09
#[test]
fn a_file_that_is_deleted_while_its_new_version_is_uploaded_is_there_again() {
    until_met(|| {
        let (pair, big) = (Pair::synced(&["d/a", "stays"]), vec![b'l'; BIG]);
        pair.local().write("d/a", &big);
        let under_way = || pair.remote().text("d/a") == "d/a 0";
        let act = || {
            pair.remote().delete("d");
        };
        pair.sync_while(&pair.remote(), under_way, act)?.exits(0);
        assert_eq!(pair.local().read("d/a"), big);
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// ED-10
#[test]
fn a_file_that_is_deleted_while_its_new_version_is_downloaded_is_there_again() {
    until_met(|| {
        let (pair, big) = (Pair::synced(&["d/a", "stays"]), vec![b'r'; BIG]);
        pair.remote().write("d/a", &big);
        let under_way = || pair.local().text("d/a") == "d/a 0";
        let act = || {
            pair.local().delete("d");
        };
        pair.sync_while(&pair.local(), under_way, act)?.exits(0);
        assert_eq!(pair.local().read("d/a"), big);
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// ED-11
#[test]
fn a_folder_with_ignored_items_stays_and_is_not_sent_back() {
    let pair = Pair::configured("ignore = [\"*.o\"]");
    pair.local().write("d/x", "x").write("d/build.o", "object").write("stays", "s");
    pair.sync().exits(0);
    assert!(!pair.remote().has("d/build.o"));
    pair.remote().delete("d");
    pair.sync().exits(0);
    assert_eq!(pair.local().tree().lines(), ["d/", "d/build.o=object", "stays=s"]);
    assert_eq!(pair.remote().tree().lines(), ["stays=s"]);
    assert_eq!(pair.local().trash(), [("d/x".to_owned(), "x".to_owned())]);
    pair.assert_quiet(0);
    pair.run(&["explain", "d"]).exits(0);
}

// ED-11
#[test]
fn a_folder_with_a_fifo_stays_and_is_not_sent_back() {
    let pair = Pair::synced(&["d/x", "stays"]);
    pair.local().fifo("d/pipe");
    pair.remote().delete("d");
    let exit = pair.sync().exit;
    assert_eq!(pair.local().tree().lines(), ["d/", "d/pipe!", "stays=stays 0"]);
    assert_eq!(pair.remote().tree().lines(), ["stays=stays 0"]);
    assert_eq!(exit, 3, "the FIFO remains");
    pair.assert_quiet(3);
}

// ED-13
#[test]
fn a_new_time_does_not_keep_a_deleted_file() {
    let pair = Pair::synced(&["a", "b"]);
    pair.remote().delete("a");
    pair.local().touch("a", 2_000_000_000);
    pair.sync().exits(0);
    assert_eq!(pair.local().trash(), [("a".to_owned(), "a 0".to_owned())]);
    pair.settled(&["b=b 0"]);
}

// ED-14
#[test]
fn a_download_that_fails_for_good_is_never_a_deletion() {
    let pair = Pair::new().unprivileged();
    pair.remote().write("n", "1").write("m", "2").chmod("n", 0o000);
    for _ in 0..3 {
        let run = pair.sync();
        assert!([1, 3].contains(&run.exit), "{run}");
        assert!(run.paths("delete").is_empty(), "{run}");
        assert!(pair.remote().has("n") && pair.local().has("m"));
    }
    pair.remote().chmod("n", 0o644);
    pair.sync().exits(0);
    pair.settled(&["m=2", "n=1"]);
}

// ED-15
#[test]
fn an_upload_that_fails_for_good_is_never_a_deletion() {
    let pair = Pair::new().unprivileged();
    pair.local().write("m", "2").mkdir("d");
    pair.sync().exits(0);
    pair.local().write("d/n", "1");
    pair.remote().chmod("d", 0o555);
    for _ in 0..3 {
        let run = pair.sync().exits(1);
        assert!(run.paths("delete").is_empty(), "{run}");
        assert!(pair.local().has("d/n"));
    }
    pair.remote().chmod("d", 0o755);
    pair.sync().exits(0);
    pair.settled(&["d/", "d/n=1", "m=2"]);
}

// ED-18
#[test]
fn a_deletion_stays_one_when_the_same_name_comes_back_later() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().delete("a");
    pair.sync().exits(0);
    pair.assert_quiet(0);
    pair.remote().write("a", "new");
    pair.sync().exits(0);
    pair.settled(&["a=new", "b=b 0"]);
}

// ED-06 S2
#[test]
fn a_folder_deleted_on_one_side_and_edited_on_the_other_keeps_just_the_edit() {
    let pair = Pair::synced(&["d/x", "d/y", "d/e/z", "stays"]);
    pair.local().write("d/y", "1");
    pair.remote().delete("d");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/y=1", "stays=stays 0"]);
}
