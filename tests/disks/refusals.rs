//! Disks that refuse what ext4 does. Files, edits, deletions and moves go both ways all the same, and
//! then nothing is left to do.

use std::os::unix::fs::MetadataExt as _;

use crate::habits::{HabitDisk, Habits, Inodes, Modes, Renames};
use crate::pair::Pair;
use crate::pair::side::Side;
use crate::rig::{Rig, Role};

/// The life of a few files, begun and gone on with on one side.
fn edited_on<'a>(rig: &'a Rig, side: impl Fn(&'a Rig) -> Side<'a>, who: &str) {
    let user = side(rig);
    user.write("photos/new", format!("{who} new"))
        .write("photos/old", format!("{who} edited"))
        .write("top", format!("{who} top"))
        .replace("d/saved", format!("{who} saved as editors do"))
        .delete("photos/gone")
        .rename("d/b", "d/c")
        .delete("tree")
        .mkdir("empty");
    let run = rig.sync_to_rest().exits(0);
    assert!(run.ops.is_empty(), "it comes to rest: {run}");
    rig.settled(&[
        "a=a 0",
        "d/",
        "d/c=d/b 0",
        &format!("d/saved={who} saved as editors do"),
        "empty/",
        "photos/",
        &format!("photos/new={who} new"),
        &format!("photos/old={who} edited"),
        &format!("top={who} top"),
    ]);
    // Between the folders, which may be two disks.
    user.rename("a", "photos/a").rename("photos/old", "d/old");
    let run = rig.sync_to_rest().exits(0);
    assert!(run.ops.is_empty(), "it comes to rest: {run}");
    assert_eq!(rig.disk().text("photos/a"), "a 0");
    assert_eq!(rig.other().text("d/old"), format!("{who} edited"));
    assert!(!rig.disk().has("a") && !rig.other().has("photos/old"));
    rig.pair().assert_equal();
    rig.rests(0);
}

fn begin(rig: &Rig) {
    for path in ["a", "d/b", "d/saved", "photos/old", "photos/gone", "tree/of/files"] {
        rig.other().write(path, format!("{path} 0"));
    }
    // A run that finds `photos` on the disk need not make it.
    std::fs::create_dir(rig.behind("photos")).unwrap();
    rig.sync_to_rest().exits(0);
    rig.pair().assert_equal();
    rig.rests(0);
}

fn edited_on_the_plain_disk(rig: &mut Rig) {
    begin(rig);
    edited_on(rig, Rig::other, "other");
}

/// A pool moves between its disks by copying, as `mv` does.
fn edited_behind_the_disk(rig: &mut Rig) {
    begin(rig);
    if rig.habits().branch.is_some() {
        rig.disk().write("photos/old", "edited").write("photos/new", "new").delete("photos/gone");
        rig.sync_to_rest().exits(0);
        rig.pair().assert_equal();
        rig.rests(0);
    } else {
        edited_on(rig, Rig::disk, "disk");
    }
}

/// What refuses, and the two lives of files on it.
macro_rules! files_live {
    ($name:ident, $habits:expr) => {
        mod $name {
            use super::*;

            on_either_side!(edits_reach_the_disk, $habits, edited_on_the_plain_disk);
            on_either_side!(edits_come_from_the_disk, $habits, edited_behind_the_disk);
        }
    };
}

files_live!(where_nothing_is_refused, Habits::default());
files_live!(where_chmod_is_refused, Habits { modes: Modes::Refused, ..Habits::default() });
files_live!(where_chmod_does_nothing, Habits { modes: Modes::Ignored, ..Habits::default() });
files_live!(where_times_cannot_be_set, Habits { no_utimens: true, ..Habits::default() });
files_live!(where_renames_take_no_flags, Habits { renames: Renames::NoFlags, ..Habits::default() });
files_live!(
    where_nothing_is_exchanged,
    Habits { renames: Renames::NoExchange, ..Habits::default() }
);
files_live!(
    where_there_are_no_hard_links,
    Habits { renames: Renames::NoFlags, no_links: true, ..Habits::default() }
);
files_live!(on_a_pool_of_disks, Habits { branch: Some("photos"), ..Habits::default() });
files_live!(where_files_cannot_be_mapped, Habits { no_mmap: true, ..Habits::default() });
files_live!(
    where_inodes_are_not_counted,
    Habits { inodes: Inodes::NotCounted, ..Habits::default() }
);
files_live!(over_ssh, Habits::sshfs());
files_live!(on_a_stick, Habits::fat());
files_live!(
    where_nearly_everything_is_refused,
    Habits {
        modes: Modes::Refused,
        no_utimens: true,
        branch: Some("photos"),
        ..Habits { no_mmap: true, no_links: true, ..Habits::sshfs() }
    }
);

/// A stick that the system mounted for everybody: all on it is root's, and chmod does nothing.
fn an_ordinary_user_on_roots_disk(role: Role) {
    let habits = Habits { modes: Modes::Ignored, ..Habits::default() };
    let Some(rig) = Rig::new(role, habits, Pair::new().unprivileged()) else { return };
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(rig.behind(""), everybody).unwrap();
    rig.other().write("a", "1").write("d/b", "2");
    rig.disk().write("c", "3");
    rig.sync().exits(0);
    assert_eq!(rig.disk().path("a").metadata().unwrap().uid(), 0);
    rig.pair().assert_equal();
    rig.rests(0);
    rig.other().write("a", "11").delete("c");
    rig.disk().write("d/b", "22");
    rig.sync().exits(0);
    rig.settled(&["a=11", "d/", "d/b=22"]);
}

#[test]
fn an_ordinary_user_syncs_to_a_disk_that_is_roots() {
    an_ordinary_user_on_roots_disk(Role::Remote);
}

#[test]
fn an_ordinary_user_syncs_from_a_disk_that_is_roots() {
    an_ordinary_user_on_roots_disk(Role::Local);
}

/// Both folders on one disk with habits: neither is the good one.
#[test]
fn two_folders_of_one_stick_are_synced() {
    let pair = Pair::new();
    let behind = pair.path("disk");
    std::fs::create_dir(&behind).unwrap();
    let mut habits = Habits::fat();
    habits.numbers = crate::habits::Numbers::FirstLookUp;
    let mut disks: Vec<HabitDisk> = Vec::new();
    for side in ["local", "remote"] {
        std::fs::create_dir(behind.join(side)).unwrap();
        let Some(disk) = HabitDisk::mount(&behind.join(side), &pair.path(side), &habits) else {
            return;
        };
        disks.push(disk);
    }
    pair.local().write("a", "1").write("d/b", "2");
    pair.remote().write("c", "3");
    pair.sync().exits(0);
    pair.assert_equal();
    pair.local().write("a", "11").rename("d/b", "d/moved");
    pair.remote().delete("c");
    pair.sync().exits(0);
    pair.assert_both(&["a=11", "d/", "d/moved=2"]);
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    drop(disks);
}
