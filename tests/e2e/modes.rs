//! One-way modes, conflict policies, and the limits of a run.

use super::pair::{Pair, many};

/// Two sides that differ in every way, after a run that made them equal in that mode.
fn diverged(mode: &str) -> Pair {
    let pair = Pair::with_flags(&["--mode", mode]);
    for name in ["edit-l", "edit-r", "both", "gone-l", "gone-r", "move-l", "move-r"] {
        pair.local().write(name, format!("{name} 0"));
        pair.remote().write(name, format!("{name} 0"));
    }
    pair.sync().exits(0);
    pair.assert_quiet(0);
    pair.local()
        .write("edit-l", "l")
        .write("both", "l2")
        .delete("gone-l")
        .rename("move-l", "moved-l");
    pair.remote()
        .write("edit-r", "r")
        .write("both", "r2")
        .delete("gone-r")
        .rename("move-r", "moved-r");
    pair.local().write("new-l", "nl");
    pair.remote().write("new-r", "nr");
    pair
}

const LOCAL: [&str; 8] = [
    "both=l2",
    "edit-l=l",
    "edit-r=edit-r 0",
    "gone-r=gone-r 0",
    "move-r=move-r 0",
    "moved-l=move-l 0",
    "new-l=nl",
    "x",
];
const REMOTE: [&str; 8] = [
    "both=r2",
    "edit-l=edit-l 0",
    "edit-r=r",
    "gone-l=gone-l 0",
    "move-l=move-l 0",
    "moved-r=move-r 0",
    "new-r=nr",
    "x",
];

#[test]
fn mirror_up_makes_the_remote_like_the_local_side() {
    let pair = diverged("mirror-up");
    pair.sync().exits(0);
    pair.settled(&LOCAL[..7]);
}

#[test]
fn mirror_down_makes_the_local_side_like_the_remote() {
    let pair = diverged("mirror-down");
    pair.sync().exits(0);
    pair.settled(&REMOTE[..7]);
}

#[test]
fn backup_up_brings_everything_to_the_remote_and_deletes_nothing_there() {
    let pair = diverged("backup-up");
    let run = pair.sync().exits(0);
    assert!(run.paths("delete").is_empty(), "{run}");
    assert_eq!(pair.local().tree().lines(), &LOCAL[..7], "the source is never touched");
    let remote = pair.remote().tree();
    let lines = remote.lines();
    assert!(LOCAL[..7].iter().all(|line| lines.contains(&(*line).to_owned())), "{lines:?}");
    for kept in ["gone-l=gone-l 0", "new-r=nr"] {
        assert!(lines.contains(&kept.to_owned()), "{kept}: {lines:?}");
    }
    pair.assert_quiet(0);
}

#[test]
fn backup_down_brings_everything_to_the_local_side_and_deletes_nothing_there() {
    let pair = diverged("backup-down");
    let run = pair.sync().exits(0);
    assert!(run.paths("delete").is_empty(), "{run}");
    assert_eq!(pair.remote().tree().lines(), &REMOTE[..7], "the source is never touched");
    let lines = pair.local().tree().lines();
    assert!(REMOTE[..7].iter().all(|line| lines.contains(&(*line).to_owned())), "{lines:?}");
    for kept in ["gone-r=gone-r 0", "new-l=nl"] {
        assert!(lines.contains(&kept.to_owned()), "{kept}: {lines:?}");
    }
    pair.assert_quiet(0);
}

// One-way modes on a first run: what only the destination has is not lost.
#[test]
fn a_first_mirror_onto_a_folder_with_files_keeps_them_in_the_trash() {
    for (mode, from) in [("mirror-up", 0), ("mirror-down", 1)] {
        let pair = Pair::with_flags(&["--mode", mode]);
        let sides = pair.both();
        sides[from].write("a", "1").write("d/b", "2");
        sides[1 - from].write("a", "other").write("extra", "e").write("d/c", "3");
        pair.sync().exits(0);
        let mut trash = sides[1 - from].trash();
        trash.sort();
        let names: Vec<&str> = trash.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["a", "d/c", "extra"], "{mode}");
        pair.settled(&["a=1", "d/", "d/b=2"]);
    }
}

#[test]
fn a_mirror_holds_back_a_mass_deletion_as_well() {
    let pair = Pair::with_flags(&["--mode", "mirror-up"]);
    for number in 0..60 {
        pair.local().write(&many(number), format!("{number}"));
    }
    pair.sync().exits(0);
    for number in 0..30 {
        pair.local().delete(&many(number));
    }
    pair.sync().exits(4);
    assert_eq!(pair.remote().tree().files().len(), 60);
    pair.sync_with(&["--force"]).exits(0);
    pair.assert_equal();
    pair.assert_quiet(0);
}

/// One file, edited on both sides, the remote one later and longer.
fn conflict(policy: &str) -> Pair {
    let pair = Pair::with_flags(&["--conflict", policy]);
    pair.local().write("a", "0").write("b", "0");
    pair.sync().exits(0);
    pair.local()
        .write("a", "l")
        .touch("a", 1_700_000_000)
        .write("b", "ll")
        .touch("b", 1_700_000_900);
    pair.remote()
        .write("a", "rr")
        .touch("a", 1_700_000_500)
        .write("b", "r")
        .touch("b", 1_700_000_100);
    pair
}

#[test]
fn keep_both_keeps_both() {
    let pair = conflict("keep-both");
    pair.sync().exits(3);
    pair.settled_with_conflict(&["CC(a)=l", "CC(b)=ll", "a=rr", "b=r"]);
}

#[test]
fn a_conflict_policy_decides_and_the_loser_is_in_a_trash() {
    for (policy, lines) in [
        ("newer", ["a=rr", "b=ll"]),
        ("older", ["a=l", "b=r"]),
        ("larger", ["a=rr", "b=ll"]),
        ("local", ["a=l", "b=ll"]),
        ("remote", ["a=rr", "b=r"]),
    ] {
        let pair = conflict(policy);
        let run = pair.sync().exits(0);
        assert_eq!(run.summary().conflicts, 0, "{policy}: {run}");
        let losers: Vec<String> =
            pair.both().iter().flat_map(|side| side.trash()).map(|(_, content)| content).collect();
        let lost =
            ["l", "ll", "r", "rr"].into_iter().filter(|v| !lines.iter().any(|l| l[2..] == **v));
        for version in lost {
            assert!(
                losers.iter().any(|content| content == version),
                "{policy}: {version} of {losers:?}"
            );
        }
        pair.settled(&lines);
    }
}

// ---- limits ----------------------------------------------------------------------------------

#[test]
fn max_transfer_stops_a_run_and_the_next_ones_go_on() {
    let pair = Pair::new();
    for number in 0..10 {
        pair.local().write(&many(number), vec![b'0' + number as u8; 10_000]);
    }
    let run = pair.sync_with(&["--max-transfer", "35K"]).exits(8);
    let sent = run.summary().bytes();
    assert!(sent > 0 && sent <= 35 * 1024, "{run}");
    pair.assert_no_leftovers();
    let mut runs = 1;
    while pair.sync_with(&["--max-transfer", "35K"]).exit == 8 {
        runs += 1;
        assert!(runs < 10);
    }
    pair.assert_equal();
    pair.assert_quiet(0);
}

#[test]
fn a_file_that_is_larger_than_max_transfer_is_told_and_not_sent() {
    let pair = Pair::new();
    pair.local().write("large", vec![b'x'; 20_000]);
    let run = pair.sync_with(&["--max-transfer", "10K"]).exits(8);
    assert_eq!(run.summary().bytes(), 0, "{run}");
    assert!(!pair.remote().has("large"));
    pair.sync().exits(0);
    pair.assert_equal();
}

#[test]
fn max_duration_stops_a_run_in_a_consistent_state() {
    let pair = Pair::new();
    for number in 0..300 {
        pair.local().write(&many(number), format!("{number}"));
    }
    let run = pair.sync_with(&["--max-duration", "0s"]).exits(10);
    assert!(run.summary().uploaded < 300, "{run}");
    pair.assert_no_leftovers();
    pair.sync().exits(0);
    pair.assert_equal();
    pair.assert_quiet(0);
}

#[test]
fn an_interrupt_ends_a_run_in_a_consistent_state() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let pair = Pair::new();
        for number in 0..400 {
            pair.local().write(&many(number), format!("{number}"));
        }
        let arguments = ["sync", "--once", "--json"];
        let child = pair.start(&arguments);
        pair.remote().await_path("d0");
        pair.pass(&child, signal);
        let run = pair.finish(child, &arguments);
        assert!([0, 130].contains(&run.exit), "{run}");
        pair.assert_no_leftovers();
        pair.sync().exits(0);
        pair.assert_equal();
        pair.assert_quiet(0);
    }
}
