//! Disks that give other inode numbers after each mount. A mere remount changes nothing; edits
//! between remounts arrive under their own names, and nothing else does.

use std::collections::BTreeMap;

use crate::habits::{Births, Habits, Numbers};
use crate::pair::random::Random;
use crate::rig::{Rig, sent};

const FOLDERS: [&str; 4] = ["src", "test", "docs", "img"];

/// A tree as an archive unpacks it: all times equal, all sizes of a folder equal.
fn unpacked(rig: &Rig) {
    for folder in FOLDERS {
        for number in 1..=8 {
            let path = format!("{folder}/f{number}.txt");
            rig.other().write(&path, format!("the text of {folder} {number}"));
            rig.other().touch(&path, 1_709_287_200);
        }
    }
    rig.sync_to_rest().exits(0);
}

/// A tree in which all sizes and all times differ.
fn various(rig: &Rig) {
    for (at, folder) in FOLDERS.iter().enumerate() {
        for number in 1..=8 {
            let (path, nth) = (format!("{folder}/f{number}.txt"), at * 8 + number);
            rig.other().write(&path, format!("{path:>0$}", 20 + nth * 7));
            rig.other().touch(&path, 1_709_287_200 + i64::try_from(nth).unwrap());
        }
    }
    rig.sync_to_rest().exits(0);
}

fn next(rig: &mut Rig, round: u64) {
    let mut habits = rig.habits().clone();
    if let Numbers::Random(_) = habits.numbers {
        habits.numbers = Numbers::Random(round);
    }
    rig.remount_as(habits);
}

fn random() -> Habits {
    Habits { numbers: Numbers::Random(0), ..Habits::sshfs() }
}

/// Numbers anew at each mount on a disk that otherwise shows all that ext4 shows.
fn exact(births: Births) -> Habits {
    Habits { numbers: Numbers::FirstLookUp, births, ..Habits::default() }
}

fn remounts_change_nothing(rig: &mut Rig, rounds: u64) {
    let before = [rig.disk().tree(), rig.other().tree()];
    for round in 1..=rounds {
        next(rig, round);
        let run = rig.sync().exits(0);
        assert!(run.ops.is_empty(), "nothing is to be done after remount {round}: {run}");
        assert_eq!([rig.disk().tree(), rig.other().tree()], before);
    }
}

fn a_mere_remount(rig: &mut Rig) {
    unpacked(rig);
    remounts_change_nothing(rig, 2);
    rig.rests(0);
}

/// Another computer made a folder that is looked up before all others: every number shifts by one.
fn a_new_folder_shifts_all(rig: &mut Rig) {
    unpacked(rig);
    let before = rig.other().tree();
    std::fs::create_dir(rig.behind("aaa")).unwrap();
    std::fs::write(rig.behind("aaa/n"), "n").unwrap();
    rig.disk().note(b"n");
    next(rig, 1);
    let run = rig.sync().exits(0);
    assert_eq!(sent(&run), 1, "only the new file is sent: {run}");
    assert_eq!((run.summary().moved, run.summary().deleted), (0, 0), "{run}");
    assert_eq!(before.difference(&rig.other().tree().without(&["aaa"])), Vec::<String>::new());
    rig.pair().assert_equal();
    rig.rests(0);
}

/// The same, with an edit on the plain disk that was not synced before.
fn an_edit_waits_while_all_shifts(rig: &mut Rig) {
    various(rig);
    std::fs::create_dir(rig.behind("aaa")).unwrap();
    rig.other().write("docs/f3.txt", "my latest words");
    next(rig, 1);
    let run = rig.sync().exits(0);
    assert_eq!(sent(&run), 15, "only the edit is sent: {run}");
    assert_eq!((run.summary().moved, run.summary().deleted), (0, 0), "{run}");
    assert_eq!(rig.disk().text("docs/f3.txt"), "my latest words");
    rig.pair().assert_equal();
    rig.rests(0);
}

/// What has the path, the size and the time that it had is not read again: a share would be
/// transferred whole after each mount.
fn a_remount_is_cheap(rig: &mut Rig) {
    various(rig);
    for round in 1..=2 {
        next(rig, round);
        rig.mounted().bytes_read();
        let run = rig.sync().exits(0).moves_no_bytes();
        assert_eq!(rig.mounted().bytes_read(), 0, "{run}");
    }
}

on_either_side!(a_mere_remount_changes_nothing, Habits::sshfs(), a_mere_remount);
on_either_side!(random_numbers_change_nothing, random(), a_mere_remount);
on_either_side!(a_remount_of_an_exact_disk_changes_nothing, exact(Births::Unknown), a_mere_remount);
on_either_side!(
    a_remount_with_birth_times_changes_nothing,
    exact(Births::ToTheNanosecond),
    a_mere_remount
);
// An archive is unpacked at hundreds of files in ten milliseconds.
on_either_side!(
    a_remount_with_coarse_birth_times_changes_nothing,
    exact(Births::ToTenMilliseconds),
    a_mere_remount
);
on_either_side!(a_remount_of_a_stick_changes_nothing, Habits::fat(), a_mere_remount);

on_either_side!(a_remount_reads_nothing_again, Habits::sshfs(), a_remount_is_cheap);

on_either_side!(numbers_that_shift_move_nothing, Habits::sshfs(), a_new_folder_shifts_all);
on_either_side!(
    numbers_that_shift_move_nothing_where_births_are_coarse,
    exact(Births::ToTenMilliseconds),
    a_new_folder_shifts_all
);
on_either_side!(
    an_edit_arrives_where_numbers_shift,
    Habits::sshfs(),
    an_edit_waits_while_all_shifts
);
on_either_side!(an_edit_arrives_where_numbers_are_random, random(), an_edit_waits_while_all_shifts);

on_either_side!(long fifty_remounts_change_nothing, Habits::sshfs(), |rig| {
    unpacked(rig);
    remounts_change_nothing(rig, 50);
});

/// Numbers that change while the disk stays mounted.
fn forgotten_numbers(rig: &mut Rig) {
    unpacked(rig);
    for _ in 0..3 {
        rig.mounted().forget();
        let run = rig.sync().exits(0);
        assert!(run.ops.is_empty(), "{run}");
    }
    rig.pair().assert_equal();
}

on_either_side!(
    numbers_that_are_forgotten_change_nothing,
    Habits { numbers: Numbers::UntilForgotten, ..Habits::sshfs() },
    forgotten_numbers
);

// ---- with edits ----------------------------------------------------------------------------------

/// What both sides must hold.
struct Users {
    files: BTreeMap<String, String>,
    random: Random,
    written: usize,
}

impl Users {
    fn of(rig: &Rig) -> Users {
        let files = rig.other().tree().files().into_iter().collect();
        Users { files, random: Random::new(7), written: 0 }
    }

    fn text(&mut self, path: &str) -> String {
        self.written += 1;
        format!("{path} v{} ", self.written).chars().take(40).collect()
    }

    fn pick(&mut self, touched: &[String]) -> String {
        let free: Vec<&String> = self.files.keys().filter(|path| !touched.contains(path)).collect();
        free[self.random.below(free.len())].clone()
    }

    /// A few edits on both sides, never two of one file. Returns how many bytes were written.
    fn edit(&mut self, rig: &Rig, count: usize) -> u64 {
        let (mut touched, mut bytes) = (Vec::new(), 0);
        for nth in 0..count {
            let side = if nth % 2 == 0 { rig.disk() } else { rig.other() };
            let path = self.pick(&touched);
            touched.push(path.clone());
            match self.random.below(5) {
                0 | 1 => {
                    let text = self.text(&path);
                    bytes += text.len() as u64;
                    side.write(&path, &text);
                    self.files.insert(path, text);
                }
                2 => {
                    let new = format!("{}/n{}", FOLDERS[self.random.below(4)], self.written);
                    let text = self.text(&new);
                    bytes += text.len() as u64;
                    side.write(&new, &text);
                    touched.push(new.clone());
                    self.files.insert(new, text);
                }
                3 if self.files.len() > 20 => {
                    side.delete(&path);
                    self.files.remove(&path);
                }
                _ => {
                    let to = format!("{}/m{}", FOLDERS[self.random.below(4)], self.written);
                    self.written += 1;
                    side.rename(&path, &to);
                    touched.push(to.clone());
                    let text = self.files.remove(&path).unwrap();
                    self.files.insert(to, text);
                }
            }
        }
        bytes
    }
}

fn edits_between_remounts(rig: &mut Rig, rounds: u64) {
    unpacked(rig);
    let mut users = Users::of(rig);
    for round in 1..=rounds {
        let bytes = users.edit(rig, 4);
        next(rig, round);
        let run = rig.sync().exits(0);
        for side in rig.pair().both() {
            let found: BTreeMap<String, String> = side.tree().files().into_iter().collect();
            assert_eq!(found, users.files, "the {} side in round {round}: {run}", side.name());
        }
        assert!(sent(&run) <= bytes, "{bytes} bytes were edited: {run}");
    }
    rig.rests(0);
}

on_either_side!(edits_between_remounts_arrive, Habits::sshfs(), |rig| {
    edits_between_remounts(rig, 4);
});
on_either_side!(edits_between_remounts_with_random_numbers_arrive, random(), |rig| {
    edits_between_remounts(rig, 4);
});
on_either_side!(long two_hundred_edits_between_remounts_arrive, Habits::sshfs(), |rig| {
    edits_between_remounts(rig, 50);
});
on_either_side!(long two_hundred_edits_on_a_random_disk_arrive, random(), |rig| {
    edits_between_remounts(rig, 50);
});

// A disk that begins to show other numbers, or a step that is coarser, is another disk to know, not
// another content.
on_either_side!(another_driver_for_the_same_disk_changes_nothing, Habits::default(), |rig| {
    unpacked(rig);
    for habits in [Habits::sshfs(), Habits::default(), Habits::fat()] {
        rig.remount_as(habits);
        let run = rig.sync().exits(0);
        assert_eq!(run.summary().changes(), 0, "{run}");
        rig.pair().assert_equal();
    }
});
