//! An inode number is no proof: what has the number of a removed item is new, and what was moved is
//! found by its content where numbers prove nothing.

use crate::habits::{Births, Habits, Numbers, Stamps};
use crate::rig::{Rig, sent};

/// Numbers of removed items are given again at once, and nothing else tells items apart.
fn reusing() -> Habits {
    Habits { numbers: Numbers::Reused, ..Habits::sshfs() }
}

/// The same, but with all that ext4 shows.
fn reusing_with_births(births: Births) -> Habits {
    Habits { numbers: Numbers::Reused, births, ..Habits::default() }
}

// MV-24
fn a_folder_gets_a_removed_ones_number(rig: &mut Rig) {
    rig.other().write("pics/p1", "a").write("pics/p2", "b").write("keep/k", "k");
    rig.sync_to_rest().exits(0);
    let number = rig.disk().inode("pics");
    // The lowest free number is the next.
    rig.disk().delete("pics/p1").delete("pics/p2").delete("pics");
    for nth in 0.. {
        rig.disk().mkdir(&format!("new{nth}"));
        if rig.disk().inode(&format!("new{nth}")) == number {
            break;
        }
        assert!(nth < 8, "the number is given again");
    }
    rig.other().write("pics/mine", "my new work");
    rig.sync();
    rig.sync().exits(0);
    assert_eq!(rig.other().text("pics/mine"), "my new work", "it stays where it was written");
    rig.pair().assert_equal();
    let files = rig.other().tree().files();
    assert_eq!(files, [("keep/k".into(), "k".into()), ("pics/mine".into(), "my new work".into())]);
    rig.rests(0);
}

on_either_side!(
    a_folder_with_a_removed_ones_number_is_new,
    reusing(),
    a_folder_gets_a_removed_ones_number
);
on_either_side!(
    a_folder_with_a_removed_ones_number_is_new_by_its_birth,
    reusing_with_births(Births::ToTheNanosecond),
    a_folder_gets_a_removed_ones_number
);
on_either_side!(
    a_folder_with_a_removed_ones_number_is_new_where_births_are_coarse,
    reusing_with_births(Births::ToTenMilliseconds),
    a_folder_gets_a_removed_ones_number
);

// MV-24
/// The new file also has the size and the time of the removed one.
fn a_file_gets_a_removed_ones_number(rig: &mut Rig) {
    rig.other().write("a", "aaaa").write("c", "cccc");
    rig.other().touch("a", 1_650_000_000).touch("c", 1_650_000_000);
    rig.sync_to_rest().exits(0);
    let number = rig.disk().inode("a");
    rig.disk().delete("a").write("b", "bbbb").touch("b", 1_650_000_000);
    assert_eq!(rig.disk().inode("b"), number);
    rig.sync();
    rig.sync().exits(0);
    rig.settled(&["b=bbbb", "c=cccc"]);
}

on_either_side!(
    a_file_with_a_removed_ones_number_is_read,
    reusing(),
    a_file_gets_a_removed_ones_number
);
on_either_side!(
    a_file_with_a_removed_ones_number_is_read_where_births_are_coarse,
    reusing_with_births(Births::ToTenMilliseconds),
    a_file_gets_a_removed_ones_number
);

/// Two files got each other's numbers, sizes and times by a remount; each keeps its content.
fn names_change_places(rig: &mut Rig) {
    rig.other().write("a", "aaaa").write("b", "bbbb");
    rig.other().touch("a", 1_650_000_000).touch("b", 1_650_000_000);
    rig.sync_to_rest().exits(0);
    // Really swapped, by another computer, while the disk was away.
    rig.unplug();
    let path = |name: &str| rig.behind(name);
    std::fs::rename(path("a"), path("x")).unwrap();
    std::fs::rename(path("b"), path("a")).unwrap();
    std::fs::rename(path("x"), path("b")).unwrap();
    let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_660_000_000);
    for name in ["a", "b"] {
        let file = std::fs::File::open(path(name)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(when)).unwrap();
    }
    rig.plug_again();
    rig.sync();
    rig.sync().exits(0);
    rig.settled(&["a=bbbb", "b=aaaa"]);
}

on_either_side!(files_that_changed_places_have_done_so, Habits::sshfs(), names_change_places);

// ---- moves ---------------------------------------------------------------------------------------

fn long_text(name: &str) -> String {
    format!("{name:>3000}")
}

fn a_file_moves(rig: &mut Rig, remount: bool) {
    for name in ["a", "b", "d/c"] {
        rig.other().write(name, long_text(name));
    }
    rig.sync_to_rest().exits(0);
    rig.disk().rename("a", "d/moved");
    if remount {
        rig.remount();
    }
    let run = rig.sync().exits(0);
    assert_eq!(sent(&run), 0, "no content is sent: {run}");
    assert_eq!(run.only("a").op, "move", "{run}");
    assert_eq!(run.only("a").to.as_deref(), Some("d/moved"));
    assert_eq!((run.only("a").bytes, run.ops.len()), (0, 1), "{run}");
    assert_eq!(rig.other().text("d/moved"), long_text("a"));
    rig.pair().assert_equal();
    rig.sync_to_rest().exits(0);
    // And the other way.
    rig.other().rename("d/moved", "back");
    if remount {
        rig.remount();
    }
    let run = rig.sync().exits(0);
    assert_eq!(sent(&run), 0, "no content is sent: {run}");
    assert_eq!(run.only("d/moved").op, "move", "{run}");
    rig.pair().assert_equal();
    rig.rests(0);
}

on_either_side!(a_moved_file_is_a_move, Habits::sshfs(), |rig| a_file_moves(rig, false));
on_either_side!(a_moved_file_is_a_move_after_a_remount, Habits::sshfs(), |rig| {
    a_file_moves(rig, true);
});
on_either_side!(
    a_moved_file_is_a_move_on_a_random_disk,
    Habits { numbers: Numbers::Random(3), ..Habits::default() },
    |rig| {
        a_file_moves(rig, false);
    }
);

fn a_folder_moves(rig: &mut Rig, remount: bool) {
    for number in 0..10 {
        let path = format!("d/in/f{number}");
        rig.other().write(&path, long_text(&path));
    }
    rig.other().write("stays/x", "x");
    rig.sync_to_rest().exits(0);
    rig.disk().rename("d", "stays/e");
    if remount {
        rig.remount();
    }
    let run = rig.sync().exits(0);
    assert_eq!(sent(&run), 0, "no content is sent: {run}");
    assert!(run.ops.iter().any(|op| op.op == "move" && op.bytes == 0), "{run}");
    assert_eq!((run.summary().uploaded, run.summary().downloaded), (0, 0), "{run}");
    assert!(!rig.other().has("d"));
    assert_eq!(rig.other().text("stays/e/in/f3"), long_text("d/in/f3"));
    rig.pair().assert_equal();
    rig.rests(0);
}

on_either_side!(a_moved_folder_is_a_move, Habits::sshfs(), |rig| a_folder_moves(rig, false));
on_either_side!(a_moved_folder_is_a_move_after_a_remount, Habits::sshfs(), |rig| {
    a_folder_moves(rig, true);
});

/// A moved file that was edited as well is both, and its old content is nowhere but in the trash.
fn a_moved_and_edited_file(rig: &mut Rig) {
    rig.other().write("a", "before").write("b", "other");
    rig.sync().exits(0);
    rig.disk().rename("a", "moved").write("moved", "after it");
    rig.remount();
    rig.sync();
    rig.sync().exits(0);
    rig.settled(&["b=other", "moved=after it"]);
}

on_either_side!(
    a_file_that_was_moved_and_edited_is_both,
    Habits { stamps: Stamps::default(), ..Habits::sshfs() },
    a_moved_and_edited_file
);
