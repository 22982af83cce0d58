//! TY: a name that was a file is a folder, or the reverse.

use super::pair::{BIG, Pair, until_met};

// TY-01
#[test]
fn a_file_becomes_a_folder_from_either_side() {
    for turn in 0..2 {
        let pair = Pair::synced(&["a", "stays"]);
        pair.both()[turn].delete("a").write("a/x", "2");
        pair.sync().exits(0);
        pair.settled(&["a/", "a/x=2", "stays=stays 0"]);
    }
}

// TY-01
#[test]
fn an_edited_file_and_the_folder_that_replaced_it_are_both_kept() {
    let pair = Pair::synced(&["a", "stays"]);
    pair.local().delete("a").write("a/x", "2");
    pair.remote().write("a", "1");
    pair.sync();
    let tree = pair.local().tree();
    let contents: Vec<String> = tree.files().into_iter().map(|(_, content)| content).collect();
    assert!(contents.contains(&"1".to_owned()) && contents.contains(&"2".to_owned()), "{tree:?}");
    assert!(tree.lines().contains(&"a/x=2".to_owned()), "the folder keeps the name: {tree:?}");
    pair.assert_equal();
    let exit = pair.sync().exit;
    pair.assert_quiet(exit);
}

// TY-02
#[test]
fn a_folder_becomes_a_file_from_either_side() {
    for turn in 0..2 {
        let pair = Pair::synced(&["d/x", "d/y", "stays"]);
        pair.both()[turn].delete("d").write("d", "3");
        pair.sync().exits(0);
        pair.settled(&["d=3", "stays=stays 0"]);
    }
}

// TY-02 POL-6
#[test]
fn a_folder_with_something_new_keeps_its_name_against_a_file() {
    let pair = Pair::synced(&["d/x", "d/y", "stays"]);
    pair.local().delete("d").write("d", "3");
    pair.remote().write("d/z", "4");
    let run = pair.sync();
    assert_eq!(run.exit, 3, "{run}");
    pair.settled_with_conflict(&["CC(d)=3", "d/", "d/z=4", "stays=stays 0"]);
}

// TY-05
#[test]
fn a_file_that_becomes_two_different_folders_is_one_folder_with_both() {
    let pair = Pair::synced(&["a", "stays"]);
    pair.local().delete("a").write("a/l", "1");
    pair.remote().delete("a").write("a/r", "2");
    pair.sync().exits(0);
    pair.settled(&["a/", "a/l=1", "a/r=2", "stays=stays 0"]);
}

// TY-05
#[test]
fn a_file_that_is_a_link_on_one_side_and_a_folder_on_the_other_is_left_alone() {
    let pair = Pair::synced(&["a", "stays"]);
    pair.local().delete("a").write("a/l", "1");
    pair.remote().delete("a").symlink("stays", "a");
    pair.sync();
    assert_eq!(pair.local().text("a/l"), "1");
    assert_eq!(pair.remote().tree().lines(), ["a@stays", "stays=stays 0"]);
}

// TY-06
#[test]
fn a_folder_replaced_by_a_link_is_not_a_deletion() {
    let pair = Pair::synced(&["d/x", "d/y", "stays"]);
    let outside = pair.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), "outside").unwrap();
    pair.local().delete("d").symlink(&outside, "d");
    for _ in 0..2 {
        let run = pair.sync();
        assert!(run.ops.is_empty(), "{run}");
        assert_eq!(run.exit, 3, "the folder is not in sync: {run}");
    }
    assert_eq!(pair.remote().tree().lines(), ["d/", "d/x=d/x 0", "d/y=d/y 0", "stays=stays 0"]);
    assert_eq!(std::fs::read_to_string(outside.join("x")).unwrap(), "outside");
    // When the link is gone, the folder is gone.
    pair.remote().write("d/x", "2");
    pair.local().delete("d");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/x=2", "stays=stays 0"]);
}

// TY-09
#[test]
fn a_file_that_becomes_a_folder_during_its_upload_ends_as_a_folder() {
    until_met(|| {
        let pair = Pair::synced(&["x"]);
        pair.local().write("a", vec![b'l'; BIG]);
        let under_way = || !pair.remote().has("a");
        let act = || {
            pair.local().delete("a").mkdir("a");
        };
        pair.sync_while(&pair.remote(), under_way, act)?;
        pair.sync().exits(0);
        pair.settled(&["a/", "x=x 0"]);
        Some(())
    });
}
