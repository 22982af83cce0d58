//! BC: how a pair comes together, and stays together.

use super::pair::Pair;

// BC-01
#[test]
fn two_empty_folders_are_in_sync() {
    let pair = Pair::new();
    pair.sync().exits(0);
    pair.settled(&[]);
}

// BC-02
#[test]
fn a_local_tree_is_copied_to_an_empty_remote_and_not_touched_itself() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("d/b", "2").write("z", "").mkdir("d/e");
    let before = pair.local().tree();
    let inode = pair.local().inode("a");
    let run = pair.sync().exits(0);
    assert_eq!(run.paths("upload"), ["a", "d/b", "z"]);
    assert_eq!(run.paths("mkdir"), ["d", "d/e"]);
    let at = |path| run.ops.iter().position(|op| op.path == path).unwrap();
    assert!(at("d") < at("d/b") && at("d") < at("d/e"), "parents first (S27): {run}");
    assert_eq!(pair.local().tree(), before);
    assert_eq!(pair.local().inode("a"), inode);
    pair.settled(&["a=1", "d/", "d/b=2", "d/e/", "z="]);
}

// BC-03
#[test]
fn a_remote_tree_is_copied_to_an_empty_local_folder_and_not_touched_itself() {
    let pair = Pair::new();
    pair.remote().write("a", "1").write("d/b", "2").write("z", "").mkdir("d/e/f");
    let inode = pair.remote().inode("d/b");
    let run = pair.sync().exits(0);
    assert_eq!(run.paths("download"), ["a", "d/b", "z"]);
    assert!(run.ops.iter().all(|op| op.side == "local"), "{run}");
    assert_eq!(pair.remote().inode("d/b"), inode);
    pair.settled(&["a=1", "d/", "d/b=2", "d/e/", "d/e/f/", "z="]);
}

// A second run writes nothing, not even into the program's own folders: a disk of this computer needs
// no further trial.
#[test]
fn a_second_run_writes_nothing_below_the_roots() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("d/b", "2");
    pair.sync().exits(0);
    pair.sync().exits(0);
    let times = || pair.both().map(|side| side.mtime(".foldsync"));
    let before = times();
    pair.sync().exits(0);
    assert_eq!(times(), before);
}

// BC-03: times come along.
#[test]
fn copies_have_the_time_of_their_original() {
    let pair = Pair::new();
    pair.local().write("up", "1").touch("up", 1_000_000_000);
    pair.remote().write("down", "2").touch("down", 1_100_000_000);
    pair.sync().exits(0);
    assert_eq!(pair.remote().mtime("up"), pair.local().mtime("up"));
    assert_eq!(pair.local().mtime("down"), pair.remote().mtime("down"));
    pair.settled(&["down=2", "up=1"]);
}

// BC-04 POL-7
#[test]
fn two_equal_trees_are_adopted_without_an_operation() {
    let pair = Pair::new();
    for number in 0..200 {
        let path = format!("d{}/f{number}", number % 7);
        for side in pair.both() {
            side.write(&path, format!("content {number}"));
        }
    }
    let run = pair.sync().exits(0);
    assert_eq!(run.summary().changes(), 0, "{run}");
    assert_eq!(run.summary().conflicts, 0, "{run}");
    pair.assert_equal();
    pair.assert_quiet(0);
}

// BC-05
#[test]
fn files_of_one_size_and_one_time_are_not_taken_for_equal() {
    let pair = Pair::new();
    pair.local().write("a", "AAAA").touch("a", 1_600_000_000);
    pair.remote().write("a", "BBBB").touch("a", 1_600_000_000);
    pair.sync().exits(3);
    pair.settled_with_conflict(&["a=BBBB", "CC(a)=AAAA"]);
}

// BC-06
#[test]
fn a_first_run_keeps_both_versions_of_a_file_that_differs() {
    let pair = Pair::new();
    pair.local().write("a.txt", "1");
    pair.remote().write("a.txt", "2");
    let run = pair.sync().exits(3);
    assert_eq!(run.paths("conflict"), ["a.txt"]);
    assert_eq!(run.summary().conflicts, 1);
    pair.settled_with_conflict(&["a.txt=2", "CC(a.txt)=1"]);
}

// BC-07
#[test]
fn a_first_run_merges_folders_of_one_name() {
    let pair = Pair::new();
    pair.local().write("d/a", "1").mkdir("x");
    pair.remote().write("d/b", "2").write("y", "3");
    pair.sync().exits(0);
    pair.settled(&["d/", "d/a=1", "d/b=2", "x/", "y=3"]);
}

// BC-09
#[test]
fn a_new_time_alone_sends_nothing() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    pair.local().touch("a", 2_000_000_000);
    pair.remote().touch("b", 978_307_200);
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.settled(&["a=1", "b=2"]);
}

// BC-10
#[test]
fn all_ten_cases_of_two_sides_are_settled_in_one_run() {
    let pair = Pair::new();
    for name in
        ["edited-l", "edited-r", "gone-l", "gone-r", "both", "el-dr", "dl-er", "gone", "same"]
    {
        pair.local().write(name, format!("{name} 0"));
    }
    pair.sync().exits(0);
    let (local, remote) = (pair.local(), pair.remote());
    local.write("new-l", "new l").write("edited-l", "edited-l 1").delete("gone-l");
    remote.write("new-r", "new r").write("edited-r", "edited-r 1").delete("gone-r");
    local.write("both", "both 1").write("el-dr", "el-dr 1").delete("dl-er").delete("gone");
    remote.write("both", "both 2").write("dl-er", "dl-er 1").delete("el-dr").delete("gone");
    let run = pair.sync().exits(3);
    assert_eq!(run.paths("conflict"), ["both"], "{run}");
    let kept = |path| run.only(path).reason.contains("kept");
    assert!(kept("el-dr") && kept("dl-er"), "two are brought back: {run}");
    pair.settled_with_conflict(&[
        "CC(both)=both 1",
        "both=both 2",
        "dl-er=dl-er 1",
        "edited-l=edited-l 1",
        "edited-r=edited-r 1",
        "el-dr=el-dr 1",
        "new-l=new l",
        "new-r=new r",
        "same=same 0",
    ]);
}

// BC-11
#[test]
fn a_file_that_came_and_went_between_two_runs_leaves_no_trace() {
    let pair = Pair::new();
    pair.sync().exits(0);
    pair.local().write("t", "1").delete("t");
    pair.remote().mkdir("u").delete("u");
    let run = pair.sync().exits(0);
    assert!(run.ops.is_empty(), "{run}");
    pair.settled(&[]);
}

// BC-12
#[test]
fn a_file_made_again_with_the_same_content_sends_nothing() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("b", "keeps the root from being empty");
    pair.sync().exits(0);
    pair.local().delete("a").write("a", "1");
    let run = pair.sync().exits(0).moves_no_bytes();
    assert_eq!(run.summary().changes(), 0, "{run}");
    pair.assert_quiet(0);
    pair.local().delete("a");
    pair.sync().exits(0);
    assert!(!pair.remote().has("a"));
    pair.local().write("a", "1");
    pair.sync().exits(0);
    pair.settled(&["a=1", "b=keeps the root from being empty"]);
}

// BC-13
#[test]
fn a_file_made_again_with_new_content_is_an_edit() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("b", "2");
    pair.sync().exits(0);
    pair.local().delete("a").write("a", "22");
    pair.remote().delete("b").write("b", "33");
    let run = pair.sync().exits(0);
    assert!(run.paths("delete").is_empty(), "{run}");
    pair.settled(&["a=22", "b=33"]);
}

// BC-14
#[test]
fn empty_folders_come_and_go_both_ways() {
    let pair = Pair::new();
    pair.local().mkdir("d").mkdir("stays");
    pair.sync().exits(0);
    pair.local().mkdir("n").delete("d");
    pair.remote().mkdir("m");
    pair.sync().exits(0);
    pair.settled(&["m/", "n/", "stays/"]);
}

// BC-16
#[test]
fn a_process_that_stays_does_what_a_single_run_does() {
    let [once, stays] = [0, 1].map(|_| {
        let pair = Pair::configured("settle = \"1s\"");
        diverge(&pair);
        pair
    });
    once.sync().exits(3);
    let expected = once.local().tree().lines();
    let arguments = ["sync"];
    let child = stays.start(&arguments);
    for side in stays.both() {
        side.wait_for("the work of the daemon", || side.tree().lines() == expected);
    }
    stays.pass(&child, rustix::process::Signal::TERM);
    stays.finish(child, &arguments);
    // The first run after it begins to count how long the trash is kept, and has nothing else to do.
    assert!(stays.sync().exits(3).ops.is_empty());
    stays.settled_with_conflict(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

// BC-17
#[test]
fn edits_that_take_turns_never_conflict() {
    let pair = Pair::new();
    pair.local().write("a", "0");
    pair.sync().exits(0);
    for turn in 1..=20 {
        let side = if turn % 2 == 0 { pair.local() } else { pair.remote() };
        side.write("a", format!("{turn}"));
        let run = pair.sync().exits(0);
        assert_eq!(run.summary().changes(), 1, "each edit is sent once: {run}");
    }
    pair.settled(&["a=20"]);
}

// BC-18 EE-13
#[test]
fn three_computers_on_one_remote_converge_with_one_copy_for_each_losing_version() {
    let hub = Pair::new();
    let other = hub.another_computer();
    let third = hub.another_computer();
    let all = [&hub, &other, &third];
    hub.local().write("a", "0").write("d/b", "0b");
    all.iter().for_each(|pair| drop(pair.sync().exits(0)));
    hub.local().write("a", "1").rename("d", "e");
    other.local().write("a", "2").write("d/new", "n");
    third.local().write("third", "3").delete("d/b");
    let codes = |_| all.map(|pair| pair.sync().exit);
    let rounds: Vec<[i32; 3]> = (0..3).map(codes).collect();
    let trees = all.map(|pair| pair.local().tree().lines());
    assert_eq!(trees[0], hub.remote().tree().lines(), "{rounds:?}");
    assert_eq!(trees[1], trees[0], "{rounds:?}");
    assert_eq!(trees[2], trees[0], "{rounds:?}");
    let copies = trees[0].iter().filter(|line| line.starts_with("CC(a)")).count();
    assert_eq!(copies, 1, "{trees:?}");
    for _ in 0..3 {
        all.iter().for_each(|pair| assert!(pair.sync().ops.is_empty()));
    }
}

// BC-19
#[test]
fn a_dry_run_leaves_no_trace_and_foretells_the_next_run() {
    let pair = Pair::new();
    diverge(&pair);
    assert_pretends(&pair, &["sync", "--once", "-n", "--json"]);
}

// BC-19
#[test]
fn a_plan_leaves_no_trace_and_foretells_the_next_run() {
    let pair = Pair::new();
    diverge(&pair);
    assert_pretends(&pair, &["plan", "--json"]);
}

// BC-19
#[test]
fn a_plan_before_the_first_run_leaves_no_trace_at_all() {
    let pair = Pair::new();
    pair.local().write("a", "1").write("d/b", "2");
    pair.remote().write("c", "3");
    let before = pair.whole();
    let plan = pair.run(&["plan", "--json"]).exits(0);
    assert_eq!(before.difference(&pair.whole()), Vec::<String>::new());
    assert!(!pair.state_dir().exists(), "not even a state folder");
    assert_eq!(plan.outline(), pair.sync().exits(0).outline());
    pair.settled(&["a=1", "c=3", "d/", "d/b=2"]);
}

fn diverge(pair: &Pair) {
    for name in ["edit", "gone", "moved", "both", "d/x", "d/y", "one", "two", "stay"] {
        pair.local().write(name, format!("{name} 0"));
    }
    pair.sync().exits(0);
    pair.local().write("edit", "edit 1").rename("moved", "d/moved").write("both", "l").mkdir("n/m");
    pair.remote().delete("gone").rename("d/x", "x").write("both", "r").write("n/f", "f");
    pair.local().swap("one", "two");
}

/// The command changes nothing anywhere, and the next run does what it said.
fn assert_pretends(pair: &Pair, command: &[&str]) {
    let before = pair.whole();
    let plan = pair.run(command);
    assert_eq!(before.difference(&pair.whole()), Vec::<String>::new(), "{plan}");
    assert!(plan.ops.iter().all(|op| op.result == "planned"), "{plan}");
    let run = pair.sync().exits(3);
    let (foretold, done) = (plan.outline(), run.outline());
    let only_in = |one: &[String], other: &[String]| {
        one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
    };
    let none: (Vec<String>, Vec<String>) = Default::default();
    assert_eq!((only_in(&foretold, &done), only_in(&done, &foretold)), none, "foretold, done");
    pair.assert_equal();
    pair.assert_quiet(3);
}

// BC-20
#[test]
fn changes_during_a_run_are_found_by_the_next_one() {
    let pair = Pair::new();
    for number in 0..200 {
        pair.local().write(&format!("f{number}"), format!("{number}"));
    }
    let arguments = ["sync", "--once", "--json"];
    let child = pair.start(&arguments);
    pair.remote().await_path("f7");
    for number in 0..20 {
        pair.local().write(&format!("f{number}"), format!("again {number}"));
        pair.remote().write(&format!("r{number}"), format!("remote {number}"));
    }
    pair.finish(child, &arguments);
    pair.sync().exits(0);
    pair.assert_equal();
    assert_eq!(pair.remote().text("f19"), "again 19");
    assert_eq!(pair.local().text("r19"), "remote 19");
    pair.assert_quiet(0);
}
