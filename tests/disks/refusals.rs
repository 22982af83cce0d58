//! Disks that refuse what ext4 does. Files, edits, deletions and moves go both ways all the same, and
//! then nothing is left to do.

use std::os::unix::fs::MetadataExt as _;

use crate::habits::{HabitDisk, Habits, Inodes, Modes, Renames};
use crate::pair::Pair;
use crate::pair::side::Side;
use crate::rig::{Rig, Role};

/// Users of both sides work on, each on files of their own.
fn edit(side: &Side<'_>, who: &str) {
    side.write(&format!("photos/{who}/new"), format!("{who} new"))
        .write(&format!("photos/{who}/old"), format!("{who} edited"))
        .write(&format!("{who} top"), format!("{who} top"))
        .replace(&format!("{who}/saved"), format!("{who} saved as editors do"))
        .delete(&format!("photos/{who}/gone"))
        .rename(&format!("{who}/b"), &format!("{who}/c"))
        .delete(&format!("{who} tree"))
        .mkdir(&format!("{who} empty"));
}

fn edited(who: &str) -> Vec<String> {
    [
        "WHO empty/",
        "WHO top=WHO top",
        "WHO/",
        "WHO/c=WHO/b 0",
        "WHO/saved=WHO saved as editors do",
        "photos/WHO/",
        "photos/WHO/new=WHO new",
        "photos/WHO/old=WHO edited",
    ]
    .map(|line| line.replace("WHO", who))
    .to_vec()
}

fn files_live(rig: &mut Rig) {
    // A pool has the folder of its other disk from the beginning.
    std::fs::create_dir(rig.behind("photos")).unwrap();
    for who in ["other", "disk"] {
        for path in ["WHO/b", "WHO/saved", "photos/WHO/old", "photos/WHO/gone", "WHO tree/of/x"] {
            let path = path.replace("WHO", who);
            rig.other().write(&path, format!("{path} 0"));
        }
    }
    rests_after_all(rig);
    rig.pair().assert_equal();
    edit(&rig.other(), "other");
    edit(&rig.disk(), "disk");
    rests_after_all(rig);
    let mut lines = [edited("other"), edited("disk"), vec!["photos/".to_owned()]].concat();
    lines.sort();
    rig.pair().assert_both(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    // Between the folders, which may be two disks: what a pool refuses, `mv` does by copying, and so
    // do its users.
    rig.other().rename("other/c", "photos/c").rename("photos/other/old", "other/old");
    if rig.habits().branch.is_none() {
        rig.disk().rename("disk/c", "photos/d").rename("photos/disk", "moved");
    }
    rests_after_all(rig);
    assert_eq!(rig.disk().text("photos/c"), "other/b 0");
    assert_eq!(rig.disk().text("other/old"), "other edited");
    assert!(!rig.disk().has("other/c") && !rig.disk().has("photos/other/old"));
    rig.pair().assert_equal();
    rig.rests(0);
}

#[track_caller]
fn rests_after_all(rig: &Rig) {
    let run = rig.sync_to_rest().exits(0);
    assert!(run.ops.is_empty(), "it comes to rest: {run}");
}

on_either_side!(where_nothing_is_refused, Habits::default(), files_live);
on_either_side!(
    where_chmod_is_refused,
    Habits { modes: Modes::Refused, ..Habits::default() },
    files_live
);
on_either_side!(
    where_chmod_does_nothing,
    Habits { modes: Modes::Ignored, ..Habits::default() },
    files_live
);
on_either_side!(
    where_times_cannot_be_set,
    Habits { no_utimens: true, ..Habits::default() },
    files_live
);
on_either_side!(
    where_renames_take_no_flags,
    Habits { renames: Renames::NoFlags, ..Habits::default() },
    files_live
);
on_either_side!(
    where_nothing_is_exchanged,
    Habits { renames: Renames::NoExchange, ..Habits::default() },
    files_live
);
on_either_side!(
    where_there_are_no_hard_links,
    Habits { renames: Renames::NoFlags, no_links: true, ..Habits::default() },
    files_live
);
on_either_side!(
    on_a_pool_of_disks,
    Habits { branch: Some("photos"), ..Habits::default() },
    files_live
);
on_either_side!(
    where_files_cannot_be_mapped,
    Habits { no_mmap: true, ..Habits::default() },
    files_live
);
on_either_side!(
    where_inodes_are_not_counted,
    Habits { inodes: Inodes::NotCounted, ..Habits::default() },
    files_live
);
on_either_side!(over_ssh, Habits::sshfs(), files_live);
on_either_side!(on_a_stick, Habits::fat(), files_live);
on_either_side!(
    where_nearly_everything_is_refused,
    Habits {
        modes: Modes::Refused,
        no_utimens: true,
        branch: Some("photos"),
        ..Habits { no_mmap: true, no_links: true, ..Habits::sshfs() }
    },
    files_live
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
