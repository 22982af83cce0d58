//! NM: names that are not plain.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::pair::Pair;

const NFC: &str = "caf\u{e9}.txt";
const NFD: &str = "cafe\u{301}.txt";

// NM-01
#[test]
fn two_spellings_of_one_name_are_two_files_where_the_disk_says_so() {
    let pair = Pair::new();
    pair.local().write(NFC, "1").write(NFD, "2");
    pair.sync().exits(0);
    assert_eq!(pair.remote().text(NFC), "1");
    assert_eq!(pair.remote().text(NFD), "2");
    pair.assert_equal();
    pair.assert_quiet(0);
}

// NM-02: names come back byte by byte.
#[test]
fn a_name_keeps_its_spelling_on_both_sides() {
    let pair = Pair::new();
    pair.local().write(NFD, "1");
    pair.remote().write(&format!("d/{NFC}"), "2");
    pair.sync().exits(0);
    pair.settled(&[&format!("{NFD}=1"), "d/", &format!("d/{NFC}=2")]);
}

// NM-04
#[test]
fn names_that_are_no_text_are_left_alone_and_reported() {
    let pair = Pair::new();
    let raw = |bytes: &[u8]| pair.local().path("").join(OsStr::from_bytes(bytes));
    pair.local().write("plain", "1");
    std::fs::write(raw(b"\xff\xfea"), "2").unwrap();
    std::fs::write(raw(b"\xff\xffa"), "3").unwrap();
    std::fs::create_dir(raw(b"dir\xff")).unwrap();
    std::fs::write(raw(b"dir\xff/inside"), "4").unwrap();
    let run = pair.sync().exits(3);
    assert_eq!(run.summary().skipped, 3, "{run}");
    assert_eq!(pair.remote().tree().lines(), ["plain=1"]);
    pair.assert_quiet(3);
    // NM-25: a valid name is all that it takes.
    std::fs::rename(raw(b"dir\xff"), raw(b"dir")).unwrap();
    pair.local().write("dir/inside", "4");
    pair.sync().exits(3);
    assert_eq!(pair.remote().text("dir/inside"), "4");
    assert!(raw(b"\xff\xfea").exists() && raw(b"\xff\xffa").exists());
}

// NM-04: a remote name that is no text protects what it stands for.
#[test]
fn remote_names_that_are_no_text_are_left_alone_and_reported() {
    let pair = Pair::synced(&["a"]);
    let raw = pair.remote().path("").join(OsStr::from_bytes(b"x\xff"));
    std::fs::write(&raw, "1").unwrap();
    pair.sync().exits(3);
    assert!(raw.exists());
    assert_eq!(pair.local().tree().lines(), ["a=a 0"]);
    pair.assert_quiet(3);
}

// NM-06 NM-07 NM-15 NM-17 NM-24
#[test]
fn odd_names_are_the_same_on_both_sides() {
    let names = [
        "a|b",
        "d\\x",
        " ",
        "  lead",
        "trail ",
        "dots...",
        "\u{3000}",
        "\u{200b}",
        "a\nb",
        "tab\t",
        "\u{1b}[31mred",
        "rtl\u{202e}txt",
        "👩‍👩‍👧‍👦",
        "𠀀",
        "CON",
        "NUL.txt",
        "COM1",
        "desktop.ini",
        ".DS_Store",
        "Thumbs.db",
        "%2F",
        "a%2Fb",
        "~",
        "-rf",
        "$(x)",
        "'\"`",
        "*?[",
        "a:b",
        ".hidden",
        "...",
        "x.conflict-no-date",
        "a~2",
        "con.conflict-20261121-101500",
    ];
    let pair = Pair::new();
    for (number, name) in names.iter().enumerate() {
        let side = &pair.both()[number % 2];
        side.write(name, format!("{number}")).write(&format!("d/{name}/x"), format!("in {number}"));
    }
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().changes(), 2 * names.len() as u64, "{run}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(pair.both()[1 - number % 2].text(name), format!("{number}"), "{name:?}");
    }
    pair.assert_equal();
    pair.assert_quiet(0);
}

// NM-15: what a terminal could take for a command is escaped in every output.
#[test]
fn names_with_control_characters_are_escaped_in_what_is_printed() {
    let pair = Pair::new();
    pair.local().write("\u{1b}[31mred\nline", "1").write("\u{202e}rtl", "2");
    for command in [&["plan"][..], &["sync", "--once"], &["history"], &["plan", "--json"]] {
        let run = pair.run(command).exits(0);
        let printed = format!("{}{}", run.out, run.err);
        assert!(!printed.contains('\u{1b}') && !printed.contains('\u{202e}'), "{run}");
    }
    pair.assert_equal();
    pair.assert_quiet(0);
}

// NM-11
#[test]
fn a_name_of_255_bytes_can_be_transferred_edited_and_deleted_both_ways() {
    let pair = Pair::new();
    let (one, other) = ("a".repeat(255), "漢".repeat(85));
    pair.local().write(&one, "1").write("stays", "s");
    pair.remote().write(&other, "2");
    pair.sync().exits(0);
    pair.remote().write(&one, "11");
    pair.local().write(&other, "22");
    pair.sync().exits(0);
    assert_eq!(pair.local().text(&one), "11");
    assert_eq!(pair.remote().text(&other), "22");
    pair.local().delete(&one);
    pair.remote().delete(&other);
    pair.sync().exits(0);
    pair.settled(&["stays=s"]);
}

// NM-12
#[test]
fn a_path_longer_than_the_system_takes_in_one_piece_is_synced() {
    let pair = Pair::new();
    let name = "n".repeat(120);
    // Made step by step: no single call can name it.
    let steps = 40;
    let side = pair.local().path("");
    let script = format!(
        "cd '{}' && for i in $(seq {steps}); do mkdir -p {name} && cd -P {name} || exit 1; done \
         && printf deep > file",
        side.display()
    );
    let made = std::process::Command::new("bash").args(["-c", &script]).status().unwrap();
    if !made.success() {
        println!("skipped: this system cannot make the path");
        return;
    }
    pair.local().write("short", "1");
    let run = pair.sync();
    assert!([0, 1, 3].contains(&run.exit), "{run}");
    assert!(run.paths("delete").is_empty() && run.paths("rmdir").is_empty(), "{run}");
    assert_eq!(pair.remote().text("short"), "1");
    let exit = run.exit;
    assert_eq!(pair.sync().exits(exit).summary().changes(), 0);
    // Both trees are removed the way they were made.
    for side in pair.both() {
        let removed = std::process::Command::new("rm").arg("-rf").arg(side.path(&name)).status();
        assert!(removed.unwrap().success());
    }
}

// NM-18, on a disk that tells cases apart.
#[test]
fn names_that_differ_in_case_are_two_files() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("A", "2").write("D/x", "3");
    pair.remote().write("d/x", "4");
    pair.sync().exits(0);
    pair.settled(&["A=2", "D/", "D/x=3", "a=1", "d/", "d/x=4"]);
}

// NM-18
#[test]
fn a_rename_that_changes_only_the_case_is_a_rename() {
    let pair = Pair::synced(&["readme", "d/x"]);
    pair.local().rename("readme", "README");
    pair.remote().rename("d", "D");
    pair.sync().exits(0).moves_no_bytes();
    pair.settled(&["D/", "D/x=d/x 0", "README=readme 0"]);
}

// POL-9: the program's own names are never synced, and control folders of other pairs are named.
#[test]
fn a_control_folder_is_synced_nowhere_and_named_where_it_is_not_the_root_s_own() {
    let pair = Pair::new();
    pair.local()
        .write("d/.foldsync/mine", "1")
        .write("d/a", "2")
        .write(".foldsyncignore", "*.tmp\n")
        .write("x.tmp", "t");
    pair.remote().write("e/deep/.foldsync/root-id", "theirs").write("e/b", "3");
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().skipped, 0, "{run}");
    let said = "is left out: control folder of another pair";
    let run = run.complains(&format!("d/.foldsync {said}"));
    run.complains(&format!("e/deep/.foldsync {said}"));
    assert_eq!(pair.remote().text("d/a"), "2");
    assert_eq!(pair.remote().text(".foldsyncignore"), "*.tmp\n");
    assert!(!pair.remote().has("x.tmp"));
    let apart = ["x.tmp", "d/.foldsync", "e/deep/.foldsync"];
    assert!(!pair.remote().has(apart[1]) && !pair.local().has(apart[2]));
    pair.assert_equal_but(&apart);
    pair.assert_quiet(0);

    let status = pair.run(&["status", "--json"]).exits(6).json();
    let left_out = status[0]["pairs"][0]["left_out"].as_array().unwrap();
    let paths: Vec<&str> = left_out.iter().map(|item| item["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["d/.foldsync", "e/deep/.foldsync"]);
    pair.run(&["status"]).exits(6).says(&format!("d/.foldsync {said}"));
    pair.run(&["verify"]).exits(0);
}

// POL-9
#[test]
fn a_folder_that_is_deleted_there_stays_for_a_control_folder_in_it() {
    for turn in 0..2 {
        let pair = Pair::new();
        let sides = pair.both();
        let (holding, other) = (&sides[turn], &sides[1 - turn]);
        holding.write("d/.foldsync/trash/old", "only here").write("d/a", "1").write("b", "2");
        pair.sync().exits(0);
        other.delete("d");
        pair.sync();
        assert_eq!(holding.text("d/.foldsync/trash/old"), "only here");
        assert!(!holding.has("d/a"));
        pair.sync();
        assert_eq!(holding.text("d/.foldsync/trash/old"), "only here");
    }
}

// POL-9: a file of that name is like any other.
#[test]
fn a_file_that_has_the_control_folder_s_name_is_synced_below_the_root() {
    let pair = Pair::new();
    pair.local().write("d/.foldsync", "1");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/.foldsync=1"]);
}
