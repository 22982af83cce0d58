//! Disks that take two names for one, that store a name otherwise than it was told, or that refuse
//! it. Nobody's files are renamed by that, and what cannot be stored is named.

use crate::habits::{Habits, Names};
use crate::pair::run::Run;
use crate::rig::{Rig, sent};

const NFC: &str = "caf\u{e9}.txt";
const NFD: &str = "cafe\u{301}.txt";

fn one_case() -> Habits {
    Habits { names: Names { folds_case: true, ..Names::default() }, ..Habits::default() }
}

fn fat_names() -> Habits {
    Habits { names: Habits::fat().names, ..Habits::default() }
}

/// Contents that can be seen on either side.
fn shown(rig: &Rig) -> Vec<String> {
    let both = rig.pair().both().map(|side| side.tree().files());
    let mut contents: Vec<String> = both.into_iter().flatten().map(|(_, text)| text).collect();
    contents.sort();
    contents.dedup();
    contents
}

/// However it was solved, it stays so; and unless all is equal, the name in question is named.
fn rests_with_all(rig: &Rig, contents: &[&str], in_question: &str) {
    let run = rig.sync_to_rest();
    assert!([0, 3].contains(&run.exit), "{run}");
    assert_eq!(shown(rig), contents);
    if run.exit == 3 {
        assert!(run.summary().skipped > 0, "{run}");
        let skipped = rig.skipped();
        let named = |(path, reason): &(String, String)| {
            path.to_lowercase().starts_with(in_question) && !reason.is_empty()
        };
        assert!(skipped.iter().any(named), "{in_question} is named in {skipped:?}");
    }
    rig.rests(run.exit);
}

// ---- case ----------------------------------------------------------------------------------------

// NM-19
/// The first merge of `Photos` here and `photos` there.
fn folders_meet_that_differ_in_case(rig: &mut Rig) {
    rig.other().write("Photos/one", "one").write("three", "3");
    rig.disk().write("photos/two", "two");
    rests_with_all(rig, &["3", "one", "two"], "photos");
    assert_eq!(rig.disk().text("three"), "3", "the rest is synced");
}

on_either_side!(folders_that_differ_in_case_meet, one_case(), folders_meet_that_differ_in_case);

// NM-19
/// A second folder on a disk that tells cases apart, whose name is taken on the one that does not.
fn a_folder_whose_name_is_taken(rig: &mut Rig) {
    rig.other().write("Work/one", "one");
    rig.sync().exits(0);
    rig.other().write("work/two", "two").write("later", "3");
    let run = rig.sync_to_rest().exits(3);
    assert_eq!(run.summary().skipped, 1, "{run}");
    rig.names_as_skipped("work");
    assert_eq!(shown(rig), ["3", "one", "two"]);
    assert_eq!(rig.names_behind(""), ["Work", "later"]);
    assert_eq!(rig.names_behind("Work"), ["one"], "nothing foreign is put into it");
    assert_eq!(rig.other().text("Work/one"), "one");
    assert_eq!(rig.other().text("work/two"), "two");
    rig.rests(3);
    // What was first in the way goes: now there is room for the other.
    rig.other().delete("Work");
    rig.sync_to_rest().exits(0);
    assert_eq!(rig.disk().text("work/two"), "two");
    rig.rests(0);
}

on_either_side!(a_folder_whose_name_is_taken_is_named, one_case(), a_folder_whose_name_is_taken);

fn a_file_whose_name_is_taken(rig: &mut Rig) {
    rig.other().write("readme", "one").write("x", "x");
    rig.sync().exits(0);
    rig.other().write("README", "two");
    rig.sync_to_rest().exits(3);
    rig.names_as_skipped("readme");
    assert_eq!(rig.names_behind(""), ["readme", "x"]);
    assert_eq!(rig.disk().text("readme"), "one", "it is not replaced by the other");
    assert_eq!(rig.other().text("README"), "two");
    rig.rests(3);
    // An edit of the one that is synced still arrives, and only that.
    rig.other().write("readme", "one more");
    rig.sync_to_rest().exits(3);
    assert_eq!(rig.disk().text("readme"), "one more");
    assert_eq!(rig.other().text("README"), "two");
    rig.rests(3);
}

on_either_side!(a_file_whose_name_is_taken_is_named, one_case(), a_file_whose_name_is_taken);

// NM-19
fn two_new_files_that_differ_in_case(rig: &mut Rig) {
    rig.other().write("d/Notes", "one").write("d/notes", "two").write("d/other", "3");
    let run = rig.sync_to_rest().exits(3);
    assert_eq!(run.summary().skipped, 1, "{run}");
    rig.names_as_skipped("d/notes");
    assert_eq!(shown(rig), ["3", "one", "two"]);
    assert_eq!(rig.other().text("d/Notes"), "one");
    assert_eq!(rig.other().text("d/notes"), "two");
    rig.rests(3);
}

on_either_side!(
    one_of_two_files_that_differ_in_case_is_named,
    one_case(),
    two_new_files_that_differ_in_case
);

#[track_caller]
fn sends_nothing(run: &Run) {
    assert_eq!(sent(run), 0, "no content is sent: {run}");
}

fn a_rename_of_the_case_only(rig: &mut Rig) {
    rig.other().write("readme", "r").write("d/x", "x");
    rig.sync().exits(0);
    rig.other().rename("readme", "README").rename("d", "D");
    sends_nothing(&rig.sync().exits(0));
    assert_eq!(rig.names_behind(""), ["D", "README"], "it goes through");
    rig.settled(&["D/", "D/x=x", "README=r"]);
    rig.remount();
    rig.settled(&["D/", "D/x=x", "README=r"]);
    // And from the disk: by another computer, which can.
    std::fs::rename(rig.behind("README"), rig.behind("Readme")).unwrap();
    sends_nothing(&rig.sync().exits(0));
    rig.settled(&["D/", "D/x=x", "Readme=r"]);
}

on_either_side!(a_rename_of_the_case_goes_through, one_case(), a_rename_of_the_case_only);
on_either_side!(
    a_rename_of_the_case_goes_through_on_a_stick,
    Habits::fat(),
    a_rename_of_the_case_only
);

// ---- the form of letters -------------------------------------------------------------------------

fn composed_names(rig: &mut Rig) {
    let folder = "th\u{e9}";
    rig.other().write(NFC, "1").write(&format!("{folder}/x"), "2");
    rig.sync().exits(0);
    assert_eq!(rig.names_behind(""), [NFD, "the\u{301}"], "the disk stores its own form");
    rests_with(rig, &[("1", NFC), ("2", "th\u{e9}/x")]);
    rig.remount();
    rests_with(rig, &[("1", NFC), ("2", "th\u{e9}/x")]);
    // Edits and new files from the disk arrive under the names that the user has here.
    rig.disk().write(NFD, "11").write("the\u{301}/y", "3");
    rig.sync().exits(0);
    rests_with(rig, &[("11", NFC), ("2", "th\u{e9}/x"), ("3", "th\u{e9}/y")]);
    rig.other().write(NFC, "111");
    rig.sync().exits(0);
    assert_eq!(rig.disk().text(NFD), "111");
    rig.disk().delete(NFD);
    rig.sync().exits(0);
    rests_with(rig, &[("2", "th\u{e9}/x"), ("3", "th\u{e9}/y")]);
    rig.other().delete(folder);
    rig.sync().exits(0);
    assert_eq!(rig.names_behind(""), Vec::<String>::new());
    rests_with(rig, &[]);
}

/// The plain side has exactly these contents under these names, and a run does nothing.
#[track_caller]
fn rests_with(rig: &Rig, files: &[(&str, &str)]) {
    let found = rig.other().tree().files();
    let mut wanted: Vec<(String, String)> =
        files.iter().map(|(text, path)| ((*path).to_owned(), (*text).to_owned())).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    rig.rests(0);
    assert_eq!(rig.other().tree().files(), wanted, "the user's files keep their names");
}

on_either_side!(
    a_disk_that_decomposes_names_renames_nothing,
    Habits { names: Names { decomposes: true, ..Names::default() }, ..Habits::default() },
    composed_names
);
on_either_side!(the_disk_of_a_mac_renames_nothing, Habits::mac(), composed_names);

// NM-03
/// The same files are on both sides already, each in its own form.
fn both_forms_meet(rig: &mut Rig) {
    rig.other().write(NFC, "same").write("th\u{e9}/x", "2");
    rig.disk().write(NFD, "same").write("the\u{301}/y", "3");
    rig.sync_to_rest().exits(0);
    rests_with(rig, &[("same", NFC), ("2", "th\u{e9}/x"), ("3", "th\u{e9}/y")]);
    assert_eq!(rig.names_behind(""), [NFD, "the\u{301}"]);
    assert_eq!(rig.names_behind("the\u{301}"), ["x", "y"]);
}

on_either_side!(
    both_forms_of_a_name_meet,
    Habits { names: Names { decomposes: true, ..Names::default() }, ..Habits::default() },
    both_forms_meet
);

// NM-26
fn both_forms_beside_each_other(rig: &mut Rig) {
    rig.other().write(NFC, "one").write(NFD, "two").write("x", "x");
    let run = rig.sync_to_rest().exits(3);
    assert_eq!(run.summary().skipped, 1, "{run}");
    assert_eq!(rig.other().text(NFC), "one");
    assert_eq!(rig.other().text(NFD), "two");
    assert_eq!(rig.disk().text("x"), "x");
    let skipped = rig.skipped();
    assert!(skipped.iter().any(|(path, _)| path.starts_with("caf")), "{skipped:?}");
    rig.rests(3);
}

on_either_side!(
    one_of_both_forms_of_a_name_is_named,
    Habits { names: Names { decomposes: true, ..Names::default() }, ..Habits::default() },
    both_forms_beside_each_other
);

// ---- what cannot be stored -----------------------------------------------------------------------

fn names_that_cannot_be_stored(rig: &mut Rig) {
    let refused = ["a:b", "what?", "d/star*", "<tag>/in"];
    for name in refused {
        rig.other().write(name, name);
    }
    rig.other().write("plain", "1").write("d/plain", "2");
    let run = rig.sync_to_rest().exits(3);
    assert!(run.summary().skipped > 0, "{run}");
    for name in ["a:b", "what?", "d/star*", "<tag>"] {
        rig.names_as_skipped(name);
    }
    assert_eq!(rig.names_behind(""), ["d", "plain"]);
    assert_eq!(rig.names_behind("d"), ["plain"]);
    for name in refused {
        assert_eq!(rig.other().text(name), name, "it stays where it is");
    }
    rig.rests(3);
    // Given another name, it arrives.
    rig.other().rename("a:b", "a-b");
    rig.sync_to_rest().exits(3);
    assert_eq!(rig.disk().text("a-b"), "a:b");
    for name in ["what?", "d/star*", "<tag>"] {
        rig.other().delete(name);
    }
    rig.sync_to_rest().exits(0);
    rig.pair().assert_equal();
    rig.rests(0);
}

on_either_side!(
    names_that_fat_has_not_are_named,
    Habits { names: Names { refuses_fat: true, ..Names::default() }, ..Habits::default() },
    names_that_cannot_be_stored
);
on_either_side!(names_that_a_stick_has_not_are_named, Habits::fat(), names_that_cannot_be_stored);

fn a_rename_to_what_cannot_be_stored(rig: &mut Rig) {
    rig.other().write("a", "1").write("b", "2");
    rig.sync().exits(0);
    rig.other().rename("a", "a?");
    rig.sync_to_rest().exits(3);
    let skipped = rig.skipped();
    let named = |(path, reason): &(String, String)| path == "a?" || reason.contains('?');
    assert!(skipped.iter().any(named), "what cannot be stored is named in {skipped:?}");
    assert_eq!(rig.other().text("a?"), "1", "the user's file stays");
    assert_eq!(rig.other().text("b"), "2");
    rig.rests(3);
}

on_either_side!(
    a_rename_to_a_name_that_fat_has_not_is_named,
    fat_names(),
    a_rename_to_what_cannot_be_stored
);

// NM-26
fn names_that_end_in_dots(rig: &mut Rig) {
    rig.other().write("ends", "1").write("ends.", "2").write("d../x", "3").write("e ", "4");
    rig.sync_to_rest().exits(3);
    for name in ["ends.", "d..", "e "] {
        rig.names_as_skipped(name);
    }
    assert_eq!(rig.names_behind(""), ["ends"]);
    assert_eq!(rig.disk().text("ends"), "1", "it is not replaced by the other");
    assert_eq!(shown(rig), ["1", "2", "3", "4"]);
    rig.rests(3);
}

on_either_side!(
    names_that_end_in_dots_or_spaces_are_named,
    Habits { names: Names { trims: true, ..Names::default() }, ..Habits::default() },
    names_that_end_in_dots
);

// NM-10
fn names_that_are_too_long(rig: &mut Rig) {
    let (long, fits) = ("n".repeat(144), "m".repeat(143));
    rig.other().write(&long, "1").write(&fits, "2").write("d/x", "3");
    rig.sync_to_rest().exits(3);
    rig.names_as_skipped(&long);
    assert_eq!(rig.disk().text(&fits), "2");
    assert_eq!(rig.disk().text("d/x"), "3");
    rig.rests(3);
    rig.other().write(&fits, "22");
    rig.sync_to_rest().exits(3);
    assert_eq!(rig.disk().text(&fits), "22");
}

// As eCryptfs has them.
on_either_side!(
    names_that_are_too_long_for_the_disk_are_named,
    Habits { names: Names { limit: Some(143), ..Names::default() }, ..Habits::default() },
    names_that_are_too_long
);
