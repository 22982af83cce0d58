//! What people ask about a pair, and what they decide.

use super::pair::Pair;

/// A conflict over `a`: `l` here, `r` there.
fn with_conflict() -> (Pair, String) {
    let pair = Pair::synced(&["a", "b"]);
    pair.local().write("a", "l");
    pair.remote().write("a", "r");
    pair.sync().exits(3);
    let list = pair.run(&["conflicts", "list", "--json"]).exits(0).json();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["path"], "a");
    assert_eq!(list[0]["copy"], pair.local().copy_of("a"));
    (pair, list[0]["id"].to_string())
}

#[test]
fn a_conflict_is_listed_and_shown() {
    let (pair, id) = with_conflict();
    pair.run(&["conflicts", "list"]).exits(0).says("a.conflict-");
    pair.run(&["conflicts", "show", &id]).exits(0).says("remote version").says("local version");
    pair.run(&["conflicts", "show", "99"]).exits(2).complains("99");
    pair.assert_quiet(3);
}

#[test]
fn a_conflict_is_resolved_for_either_version() {
    for (keep, lines) in [("local", ["a=l", "b=b 0"]), ("remote", ["a=r", "b=b 0"])] {
        let (pair, id) = with_conflict();
        pair.run(&["conflicts", "resolve", &id, "--keep", keep]).exits(0);
        pair.sync().exits(0);
        pair.settled(&lines);
        pair.run(&["conflicts", "list"]).exits(0).says("no conflicts");
    }
}

#[test]
fn a_conflict_is_resolved_for_the_newer_version() {
    for (seconds, content) in [(1_000_000_000, "r"), (4_000_000_000, "l")] {
        let (pair, id) = with_conflict();
        pair.local().touch(&pair.local().copy_of("a"), seconds);
        pair.run(&["conflicts", "resolve", &id, "--keep", "newer"]).exits(0);
        pair.sync().exits(0);
        pair.settled(&[&format!("a={content}"), "b=b 0"]);
    }
}

#[test]
fn a_conflict_is_resolved_by_keeping_both() {
    let (pair, id) = with_conflict();
    pair.run(&["conflicts", "resolve", &id, "--keep", "both"]).exits(0);
    pair.sync().exits(0);
    pair.settled(&["a=r", "CC(a)=l", "b=b 0"]);
}

#[test]
fn a_conflict_is_resolved_for_the_version_as_it_is_now() {
    let (pair, id) = with_conflict();
    pair.local().write(&pair.local().copy_of("a"), "merged by hand");
    pair.run(&["conflicts", "resolve", &id, "--keep", "local"]).exits(0);
    pair.sync().exits(0);
    pair.settled(&["a=merged by hand", "b=b 0"]);
}

#[test]
fn history_tells_what_was_done_and_why() {
    let pair = Pair::synced(&["a", "b", "d/c"]);
    pair.remote().delete("a").rename("d", "e");
    pair.local().write("b", "1");
    pair.sync().exits(0);
    let rows = pair.run(&["history", "--json"]).exits(0).json();
    let found = |op: &str, path: &str| {
        rows.iter().any(|row| row["op"] == op && row["path"] == path && row["error"].is_null())
    };
    assert!(found("upload", "a") && found("delete", "a"), "{rows:?}");
    assert!(found("upload", "b") && found("move", "d"), "{rows:?}");
    let of_a = pair.run(&["history", "a", "--json"]).exits(0).json();
    assert!(of_a.iter().all(|row| row["path"] == "a") && of_a.len() == 2, "{of_a:?}");
    pair.run(&["history"]).exits(0).says("renamed on the remote side");
    pair.assert_quiet(0);
}

#[test]
fn explain_tells_why_a_path_is_not_in_sync() {
    let pair = Pair::configured("ignore = [\"*.o\"]");
    pair.local().write("a", "1").write("x.o", "o").symlink("a", "link").write("d/b", "2");
    pair.sync().exits(0);
    pair.run(&["explain", "a"]).exits(0);
    pair.run(&["explain", "d"]).exits(0);
    pair.run(&["explain", "x.o"]).says("*.o");
    pair.run(&["explain", "link"]).says("link");
    pair.run(&["explain", pair.local().path("a").to_str().unwrap()]).exits(0);
    pair.assert_quiet(0);
}

#[test]
fn status_without_a_daemon_tells_what_is_recorded() {
    let pair = Pair::synced(&["a", "d/b"]);
    let run = pair.run(&["status", "--json"]);
    let status = &run.json()[0];
    assert_eq!(status["schema"], 1);
    assert!(status["pid"].is_null(), "no daemon: {run}");
    let line = &status["pairs"][0];
    assert_eq!(line["state"], "idle", "{run}");
    assert_eq!(line["local"]["files"], 2, "{run}");
    assert_eq!(line["conflicts"], 0, "{run}");
    assert!(line["last_success"].is_string(), "{run}");
    pair.run(&["status", "--check"]).exits(0);
    let (pair, _) = with_conflict();
    pair.run(&["status", "--check"]).exits(3);
}

#[test]
fn looking_changes_nothing() {
    let (pair, id) = with_conflict();
    let before = pair.whole();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["status", "a"],
        &["conflicts", "list"],
        &["conflicts", "show", &id],
        &["held", "list"],
        &["trash", "list"],
        &["history"],
        &["explain", "a"],
        &["verify"],
        &["plan"],
        &["sync", "--once", "-n"],
    ] {
        let run = pair.run(command);
        assert_eq!(before.difference(&pair.whole()), Vec::<String>::new(), "{run}");
    }
}

#[test]
fn verify_compares_contents_and_reports_what_differs() {
    let pair = Pair::synced(&["a", "b", "c"]);
    pair.run(&["verify"]).exits(0);
    let stamp = pair.remote().mtime("a");
    pair.remote().write("a", "A 0").set_mtime("a", stamp);
    pair.local().write("new", "n");
    let run = pair.run(&["verify"]);
    assert_ne!(run.exit, 0, "{run}");
    assert!(run.out.contains('a') && run.out.contains("new"), "{run}");
}

#[test]
fn text_output_ends_with_what_is_left_to_a_person() {
    let (pair, _) = with_conflict();
    pair.run(&["sync", "--once"]).exits(3).says("1 conflict").says("conflicts list");
    pair.run(&["-q", "sync", "--once"]).exits(3);
}
