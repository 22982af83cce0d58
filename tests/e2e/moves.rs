//! MV: renames and moves. A move sends no content.

use super::pair::{BIG, Pair, until_met};

// MV-01
#[test]
fn a_local_rename_is_one_move_without_content() {
    let pair = Pair::synced(&["a"]);
    pair.local().rename("a", "b");
    let inode = pair.remote().inode("a");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert_eq!(run.summary().moved, 1, "{run}");
    assert_eq!(run.only("a").to.as_deref(), Some("b"));
    assert_eq!(pair.remote().inode("b"), inode);
    pair.settled(&["b=a 0"]);
}

// MV-02
#[test]
fn a_remote_rename_is_one_move_without_content() {
    let pair = Pair::synced(&["a"]);
    pair.remote().rename("a", "b");
    let inode = pair.local().inode("a");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert_eq!(run.summary().moved, 1, "{run}");
    assert_eq!(pair.local().inode("b"), inode);
    pair.settled(&["b=a 0"]);
}

// MV-03: a rename by copy and delete has no identity.
#[test]
fn a_rename_that_shows_no_identity_loses_nothing() {
    let pair = Pair::synced(&["a", "c"]);
    pair.remote().write("b", "a 0").delete("a");
    pair.sync().exits(0);
    pair.settled(&["b=a 0", "c=c 0"]);
}

// MV-04
#[test]
fn a_file_moves_between_folders_and_back() {
    let pair = Pair::synced(&["d/a"]);
    pair.local().mkdir("e");
    pair.sync().exits(0);
    pair.local().rename("d/a", "e/a");
    assert_eq!(pair.sync().exits(0).moves_no_bytes().summary().moved, 1);
    pair.assert_both(&["d/", "e/", "e/a=d/a 0"]);
    pair.remote().rename("e/a", "d/a");
    assert_eq!(pair.sync().exits(0).moves_no_bytes().summary().moved, 1);
    pair.settled(&["d/", "d/a=d/a 0", "e/"]);
}

// MV-05
#[test]
fn a_renamed_folder_of_a_thousand_files_is_one_move() {
    let pair = Pair::new();
    for number in 0..1000 {
        pair.local().write(&format!("d/{}/f{number}", number % 50), format!("{number}"));
    }
    pair.sync().exits(0);
    pair.local().rename("d", "e");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert_eq!(run.ops.len(), 1, "{run}");
    assert!(!pair.remote().has("d"));
    pair.assert_equal();
    pair.assert_quiet(0);
    pair.remote().rename("e", "f");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert_eq!(run.ops.len(), 1, "{run}");
    pair.assert_equal();
    pair.assert_quiet(0);
}

// MV-06
#[test]
fn a_file_that_was_renamed_and_edited_is_both_on_the_other_side() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().rename("a", "a2").write("a2", "1");
    pair.remote().rename("b", "b2").write("b2", "2");
    pair.sync().exits(0);
    pair.settled(&["a2=1", "b2=2"]);
}

// MV-07
#[test]
fn a_remote_edit_follows_a_local_rename() {
    let pair = Pair::synced(&["a", "c"]);
    pair.local().rename("a", "b");
    pair.remote().write("a", "2");
    pair.sync().exits(0);
    pair.settled(&["b=2", "c=c 0"]);
}

// MV-08
#[test]
fn a_local_edit_follows_a_remote_rename() {
    let pair = Pair::synced(&["a", "c"]);
    pair.local().write("a", "2");
    pair.remote().rename("a", "b");
    pair.sync().exits(0);
    pair.settled(&["b=2", "c=c 0"]);
}

// MV-09
#[test]
fn the_same_rename_on_both_sides_needs_no_operation() {
    let pair = Pair::synced(&["a", "d/x"]);
    for side in pair.both() {
        side.rename("a", "b").rename("d", "e");
    }
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.settled(&["b=a 0", "e/", "e/x=d/x 0"]);
}

// MV-10 POL-4
#[test]
fn of_two_renames_of_one_file_the_remote_one_wins() {
    let pair = Pair::synced(&["a"]);
    pair.local().rename("a", "b");
    pair.remote().rename("a", "c");
    pair.sync().exits(0).moves_no_bytes();
    pair.settled(&["c=a 0"]);
}

// MV-11
#[test]
fn two_files_can_swap_their_names_on_either_side() {
    for turn in 0..2 {
        let pair = Pair::synced(&["a", "b"]);
        pair.both()[turn].swap("a", "b");
        pair.sync().exits(0).moves_no_bytes();
        pair.settled(&["a=b 0", "b=a 0"]);
    }
}

// MV-12
#[test]
fn three_files_can_rotate_their_names_on_either_side() {
    for turn in 0..2 {
        let pair = Pair::synced(&["a", "b", "c"]);
        pair.both()[turn].swap("a", "b").swap("b", "c");
        pair.sync().exits(0).moves_no_bytes();
        pair.settled(&["a=b 0", "b=c 0", "c=a 0"]);
    }
}

// MV-12
#[test]
fn three_folders_can_rotate_their_names() {
    let pair = Pair::synced(&["a/x", "a/y", "b/x", "c/z"]);
    pair.remote().swap("a", "b").swap("b", "c");
    pair.sync().exits(0).moves_no_bytes();
    pair.settled(&["a/", "a/x=b/x 0", "b/", "b/z=c/z 0", "c/", "c/x=a/x 0", "c/y=a/y 0"]);
}

// MV-13
#[test]
fn a_chain_of_folders_can_be_turned_upside_down() {
    for turn in 0..2 {
        let pair = Pair::synced(&["A/B/C/x"]);
        let sides = pair.both();
        sides[turn].rename("A/B/C", "C").rename("A/B", "C/B").rename("A", "C/B/A");
        pair.sync().exits(0).moves_no_bytes();
        pair.settled(&["C/", "C/B/", "C/B/A/", "C/x=A/B/C/x 0"]);
    }
}

// MV-13, with the file carried along.
#[test]
fn a_chain_of_folders_can_be_turned_with_its_file_at_the_end() {
    let pair = Pair::synced(&["A/B/C/x"]);
    pair.local().rename("A/B/C", "C").rename("A/B", "C/B").rename("A", "C/B/A");
    pair.local().rename("C/x", "C/B/A/x");
    pair.sync().exits(0).moves_no_bytes();
    pair.settled(&["C/", "C/B/", "C/B/A/", "C/B/A/x=A/B/C/x 0"]);
}

// MV-14
#[test]
fn two_folders_moved_into_each_other_lose_nothing() {
    let pair = Pair::synced(&["A/x", "B/y"]);
    pair.local().rename("A", "B/A");
    pair.remote().rename("B", "A/B");
    pair.sync().exits(0);
    pair.settled(&["A/", "A/B/", "A/B/y=B/y 0", "A/x=A/x 0"]);
}

// MV-15
#[test]
fn a_new_file_under_the_old_name_of_a_renamed_one_is_another_file() {
    let pair = Pair::synced(&["a"]);
    pair.local().rename("a", "b").write("a", "9");
    pair.sync().exits(0);
    pair.settled(&["a=9", "b=a 0"]);
}

// MV-16
#[test]
fn a_file_moved_out_of_a_folder_outlives_the_folder() {
    for turn in 0..2 {
        let pair = Pair::synced(&["d/a", "d/b", "stays"]);
        pair.both()[turn].rename("d/a", "a").delete("d");
        let run = pair.sync().exits(0).moves_no_bytes();
        assert_eq!(run.summary().moved, 1, "{run}");
        pair.settled(&["a=d/a 0", "stays=stays 0"]);
    }
}

// MV-18
#[test]
fn an_edit_in_a_folder_follows_the_folder() {
    let pair = Pair::synced(&["d/x", "f/y"]);
    pair.local().rename("d", "e").write("f/y", "1");
    pair.remote().write("d/x", "2").rename("f", "g");
    pair.sync().exits(0);
    pair.settled(&["e/", "e/x=2", "g/", "g/y=1"]);
}

// MV-18: also what is new in it.
#[test]
fn a_new_file_in_a_folder_follows_the_folder() {
    let pair = Pair::synced(&["d/x"]);
    pair.local().rename("d", "e");
    pair.remote().write("d/n", "2");
    pair.sync().exits(0);
    pair.settled(&["e/", "e/n=2", "e/x=d/x 0"]);
}

// MV-20
#[test]
fn a_folder_renamed_on_both_sides_is_in_one_piece() {
    let pair = Pair::synced(&["d/x", "d/y"]);
    pair.local().rename("d", "e");
    pair.remote().rename("d", "f");
    pair.sync().exits(0).moves_no_bytes();
    pair.settled(&["f/", "f/x=d/x 0", "f/y=d/y 0"]);
}

// MV-21
#[test]
fn folders_and_files_renamed_at_every_level_are_few_moves() {
    let pair = Pair::synced(&["d1/d2/d3/x"]);
    pair.local().rename("d1", "e1").rename("e1/d2", "e1/e2").rename("e1/e2/d3", "e1/e2/e3");
    pair.local().rename("e1/e2/e3/x", "e1/e2/e3/y");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert!(run.summary().moved <= 4, "{run}");
    pair.settled(&["e1/", "e1/e2/", "e1/e2/e3/", "e1/e2/e3/y=d1/d2/d3/x 0"]);
}

// MV-22
#[test]
fn a_rename_over_another_file_replaces_it_and_the_old_one_is_in_the_trash() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().rename("a", "b");
    pair.sync().exits(0).moves_no_bytes();
    assert_eq!(pair.remote().trash(), [("b".to_owned(), "b 0".to_owned())]);
    pair.settled(&["b=a 0"]);
}

// MV-22
#[test]
fn a_rename_over_a_file_that_was_edited_meanwhile_keeps_both() {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().rename("a", "b");
    pair.remote().write("b", "3");
    pair.sync();
    let contents: Vec<String> = pair.local().tree().files().into_iter().map(|(_, c)| c).collect();
    assert!(
        contents.contains(&"3".to_owned()) && contents.contains(&"a 0".to_owned()),
        "{contents:?}"
    );
    pair.assert_equal();
    let exit = pair.sync().exit;
    pair.assert_quiet(exit);
}

// MV-24
#[test]
fn a_new_file_with_the_inode_of_a_deleted_one_is_another_file() {
    let pair = Pair::synced(&["a", "stays"]);
    let inode = pair.local().inode("a");
    let mut reused = false;
    for attempt in 0..200 {
        pair.local().delete(if attempt == 0 { "a" } else { "z" }).write("z", "z 1");
        reused = pair.local().inode("z") == inode;
        if reused {
            break;
        }
    }
    if !reused {
        println!("this file system did not use the inode again: checked without");
    }
    pair.sync().exits(0);
    pair.settled(&["stays=stays 0", "z=z 1"]);
}

// MV-25
#[test]
fn a_file_that_could_come_from_either_of_two_is_there_once() {
    let pair = Pair::new();
    pair.local().write("p/x", "1").write("q/x", "1");
    pair.sync().exits(0);
    pair.local().delete("p/x").delete("q/x").write("r/x", "1");
    pair.sync().exits(0);
    pair.settled(&["p/", "q/", "r/", "r/x=1"]);
}

// MV-27
#[test]
fn a_move_that_is_refused_deletes_nothing_and_heals() {
    let pair = Pair::new().unprivileged();
    pair.local().write("a", "1").mkdir("d");
    pair.sync().exits(0);
    pair.remote().chmod("d", 0o555);
    pair.local().rename("a", "d/a");
    pair.sync().exits(1);
    assert_eq!(pair.local().text("d/a"), "1");
    assert_eq!(pair.remote().text("a"), "1");
    pair.remote().chmod("d", 0o755);
    pair.sync().exits(0);
    pair.settled(&["d/", "d/a=1"]);
}

// MV-31
#[test]
fn a_download_lands_where_its_folder_was_moved_to_meanwhile() {
    until_met(|| {
        let (pair, big) = (Pair::synced(&["d/x"]), vec![b'r'; BIG]);
        pair.remote().write("d/big", &big);
        let under_way = || !pair.local().has("d/big");
        let act = || {
            pair.local().rename("d", "e");
        };
        let run = pair.sync_while(&pair.local(), under_way, act)?.exits(0);
        assert!(run.paths("delete").is_empty(), "{run}");
        assert_eq!(pair.local().read("e/big"), big);
        assert!(!pair.local().has("d"));
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// MV-30
#[test]
fn a_file_renamed_during_its_upload_has_one_name_in_the_end() {
    until_met(|| {
        let (pair, big) = (Pair::synced(&["x"]), vec![b'l'; BIG]);
        pair.local().write("big", &big);
        let under_way = || !pair.remote().has("big");
        let act = || {
            pair.local().rename("big", "big2");
        };
        pair.sync_while(&pair.remote(), under_way, act)?;
        pair.sync().exits(0);
        assert_eq!(pair.remote().read("big2"), big);
        assert!(!pair.remote().has("big"));
        pair.assert_equal();
        pair.assert_quiet(0);
        Some(())
    });
}

// MV-33
#[test]
fn a_file_renamed_to_an_ignored_name_stays_where_it_is() {
    let pair = Pair::configured("ignore = [\"*.bak\"]");
    pair.local().write("a.txt", "1").write("b", "2");
    pair.sync().exits(0);
    pair.local().rename("a.txt", "a.bak");
    pair.sync().exits(0);
    assert_eq!(pair.local().text("a.bak"), "1");
    assert_eq!(pair.remote().tree().lines(), ["b=2"]);
    pair.assert_quiet(0);
    pair.local().rename("a.bak", "a.txt");
    pair.sync().exits(0);
    pair.settled(&["a.txt=1", "b=2"]);
}

// MV-34
#[test]
fn hundreds_of_renames_moves_and_deletions_at_once_lose_nothing() {
    let pair = Pair::new();
    for number in 0..300 {
        pair.local().write(&format!("d{}/f{number}", number % 40), format!("{number}"));
    }
    pair.sync().exits(0);
    let mut random = super::pair::random::Random::new(34);
    for step in 0..200 {
        let files = pair.local().tree().files();
        let (path, _) = &files[random.below(files.len())];
        match random.below(10) {
            0 => {
                pair.local().delete(path);
            }
            1..=3 => {
                pair.local().rename(path, &format!("n{}/g{step}", random.below(20)));
            }
            4..=6 => {
                let (other, _) = &files[random.below(files.len())];
                if other != path {
                    pair.local().swap(path, other);
                }
            }
            _ => {
                let folder = path.split('/').next().unwrap();
                {
                    pair.local().rename(folder, &format!("m{step}"));
                }
            }
        }
    }
    let run = pair.sync_with(&["--force"]).exits(0).moves_no_bytes();
    assert!(run.summary().changes() <= 400, "{run}");
    pair.assert_equal();
    pair.assert_quiet(0);
}

// MV-35: another file under the name of one that was replaced, as editors save. Its identity shows
// nothing, so it counts as an edit, and follows the rename; the old content is in the trash.
#[test]
fn a_remote_file_saved_anew_follows_a_local_rename() {
    let pair = Pair::synced(&["a"]);
    pair.local().rename("a", "b");
    pair.remote().replace("a", "7");
    pair.sync().exits(0);
    assert_eq!(pair.local().trash(), [("b".to_owned(), "a 0".to_owned())]);
    pair.settled(&["b=7"]);
}

// MV-36
#[test]
fn a_file_moved_to_another_pair_is_there_and_in_the_trash_of_the_first() {
    let (one, two) = (Pair::synced(&["a", "b"]), Pair::synced(&["c"]));
    two.local().write("a", one.local().text("a"));
    one.local().delete("a");
    two.sync().exits(0);
    one.sync().exits(0);
    assert_eq!(one.remote().trash(), [("a".to_owned(), "a 0".to_owned())]);
    one.settled(&["b=b 0"]);
    two.settled(&["a=a 0", "c=c 0"]);
}
