//! The built program against an emulated Disk.Top over real TCP: logins, whole folders up and down,
//! what a service may do wrong, and what it all costs in requests.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

mod emulators;

#[path = "cloud_e2e/rig.rs"]
mod rig;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use emulators::Fault;
use emulators::disktop::{Beyond, Meeting, Order, Phase, Switches};
use rig::Rig;

fn rig() -> Rig {
    Rig::new(Switches::default())
}

/// A synced rig with some files on both sides.
fn settled(files: usize) -> Rig {
    let mut rig = rig();
    for n in 0..files {
        rig.write(&format!("d{}/f{n}.txt", n % 7), &format!("first version of {n}"));
    }
    rig.sync().exits(0);
    rig.assert_equal("settled");
    rig
}

// ---- logins ------------------------------------------------------------------------------------

// SE-06
#[test]
fn a_login_by_device_code_is_shown_approved_and_used() {
    let mut rig = Rig::logged_out(Switches::default());
    rig.write("a.txt", "alpha");
    let before = rig.run(&["sync", "--once"]).exits(77);
    assert_eq!(before.stderr.trim_end().lines().count(), 1, "{before:#?}");

    let mut child = rig.start(&["auth", "login", "top", "--device", "--no-input"]);
    let mut shown = BufReader::new(child.stderr.take().unwrap());
    let code = loop {
        let mut line = String::new();
        assert_ne!(shown.read_line(&mut line).unwrap(), 0, "the code was shown");
        if let Some(at) = line.find("8KXH-") {
            break line[at..at + 9].to_owned();
        }
    };
    assert!(rig.cloud.state().oauth.decide(Some(&code), true), "{code}");
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("s3cr3t"), "{rest}");
    rig.finish(child).exits(0);

    rig.run(&["auth", "status", "top"]).exits(0);
    rig.sync().exits(0);
    rig.assert_equal("after the login");
    rig.check_state_for_secrets();
    rig.run(&["auth", "logout", "top"]).exits(0);
    rig.sync().exits(77);
}

// AU-04
#[test]
fn a_login_in_the_keyring_is_used_and_one_that_is_locked_is_passed_over_with_one_line() {
    let mut rig = Rig::logged_out(Switches::default());
    rig.write("a.txt", "alpha");
    std::fs::create_dir(rig.path("bin")).unwrap();
    let tool = rig.path("bin/secret-tool");
    let keyring = |script: &str, arguments: &[&str]| {
        std::fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = rig.command(arguments);
        command.env("PATH", rig.path("bin")).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/bus");
        rig.finish(command.spawn().unwrap())
    };
    let tokens = rig.cloud.issue_tokens().to_string();
    let open = format!("[ \"$5\" = top ] && echo '{tokens}'");
    let status = keyring(&open, &["auth", "status", "top"]).exits(0);
    assert!(status.stdout.contains("(keyring"), "{status:#?}");
    keyring(&open, &["sync", "--once"]).exits(0);
    rig.assert_equal("by the keyring's login");
    // The renewed pair is in the file, which serves while the keyring is locked.
    rig.cloud.expire_access();
    keyring(&open, &["sync", "--once"]).exits(0);
    assert_eq!(rig.cloud.state().oauth.rotations, 1);
    let locked = keyring("echo 'prompt dismissed' >&2; exit 1", &["sync", "--once"]).exits(0);
    let told: Vec<_> = locked.stderr.lines().filter(|line| line.contains("keyring")).collect();
    assert!(told.len() == 1 && told[0].contains("unlock it"), "{locked:#?}");
    rig.check_state_for_secrets();
}

// AU-05
#[test]
fn a_login_that_was_revoked_ends_with_77_and_one_line_and_nothing_is_lost() {
    let mut rig = settled(5);
    rig.write("d1/f1.txt", "edited meanwhile");
    rig.cloud.state().oauth.revoke_all();
    let (ended, counted) = rig.count(|| rig.run(&["sync", "--once"]).exits(77));
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:#?}");
    assert!(ended.stderr.contains("foldsync auth login top"), "{ended:#?}");
    assert_eq!(counted.mutating, 0);
    rig.check_ledger("revoked");
    rig.log_in().exits(0);
    rig.sync().exits(0);
    rig.assert_equal("logged in again");
}

// AU-02
#[test]
fn an_access_token_that_ends_in_the_middle_is_renewed_once_and_the_new_pair_is_kept() {
    let mut rig = settled(1);
    for n in 0..40 {
        rig.write(&format!("new{n}.txt"), &format!("new {n}"));
    }
    let (cloud, begun) = (Arc::downgrade(&rig.cloud), AtomicU32::new(0));
    rig.cloud.hook(move |_, label, phase| {
        let counts = (label, phase) == ("precreate", Phase::Before);
        if counts && begun.fetch_add(1, Ordering::SeqCst) == 20 {
            cloud.upgrade().unwrap().expire_access();
        }
    });
    rig.sync().exits(0);
    rig.assert_equal("renewed");
    assert_eq!(rig.cloud.state().oauth.rotations, 1);
    rig.sync().exits(0);
    // The second process found the renewed pair, and the third renews that one.
    rig.cloud.expire_access();
    rig.sync().exits(0);
    assert_eq!(rig.cloud.state().oauth.rotations, 2);
    rig.check_state_for_secrets();
}

// AU-04: the service has rotated the pair, but the answer was lost.
#[test]
fn a_lost_answer_to_a_renewal_ends_in_a_new_login_and_loses_nothing() {
    let mut rig = settled(1);
    rig.write("new.txt", "new");
    rig.cloud.expire_access();
    rig.cloud.fault("token", 0, 1, Fault::LoseReply);
    let ended = rig.sync();
    assert!(matches!(ended.exit, Some(5 | 77)), "{ended:#?}");
    rig.log_in().exits(0);
    rig.sync().exits(0);
    rig.assert_equal("logged in again");
}

// ---- whole folders -------------------------------------------------------------------------------

// BC-08
#[test]
fn a_folder_goes_up_changes_come_down_both_are_equal_and_a_second_run_changes_nothing() {
    let mut rig = rig();
    for n in 0..400 {
        rig.write(&format!("d{}/e{}/f{n}.txt", n % 7, n % 13), &format!("file {n}"));
    }
    rig.write("empty", "");
    let big: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
    rig.write("big.txt", &big);
    let (up, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("up");
    assert_eq!(up.sum("uploaded"), 402);
    assert_eq!(up.sum("requests"), counted.requests, "the program counts its requests");
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    assert_eq!((quiet.mutating, quiet.bytes_up, quiet.bytes_down), (0, 0, 0), "{quiet:#?}");

    rig.write_remotely("d1/e1/f1.txt", "edited by another client");
    rig.write_remotely("from/afar/new.txt", "written by another client");
    rig.rename_remotely("d2", "renamed");
    rig.delete_remotely("d3/e3/f3.txt");
    rig.write("d4/e4/f4.txt", "edited here");
    let changed = rig.sync().exits(0);
    rig.assert_equal("changed on both sides");
    assert_eq!((changed.sum("downloaded"), changed.sum("uploaded")), (2, 1), "{changed:#?}");
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    assert_eq!((quiet.mutating, quiet.bytes_up, quiet.bytes_down), (0, 0, 0), "{quiet:#?}");
    rig.run(&["verify", "docs"]).exits(0);
    rig.check_state_for_secrets();
}

#[test]
fn a_new_small_file_costs_at_most_three_requests() {
    let mut rig = settled(1);
    let files = 200;
    for n in 0..files {
        rig.write(&format!("many/f{n}.txt"), &format!("small {n}"));
    }
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    let sent: u64 =
        ["precreate", "part", "parts", "complete"].map(|label| counted.of(label)).iter().sum();
    println!(
        "{:.2} requests per new small file: {:?}",
        sent as f64 / f64::from(files),
        counted.by_label
    );
    assert!(sent <= 3 * u64::from(files as u32), "{counted:#?}");
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    println!("a quiet run sends {:?}", quiet.by_label);
    let extra = counted.requests - sent;
    assert!(extra <= quiet.requests + 10, "beside the files: {counted:#?}, quiet: {quiet:#?}");
}

#[test]
fn edits_and_moves_in_a_folder_of_a_thousand_files_do_not_list_it_each_time() {
    let mut rig = rig();
    for n in 0..1000 {
        rig.write_remotely(&format!("big/f{n}.txt"), &format!("{n}"));
    }
    rig.sync().exits(0);
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    for n in 0..10 {
        rig.write(&format!("big/f{n}.txt"), &format!("edited {n}"));
        rig.rename(&format!("big/f{}.txt", n + 100), &format!("other/f{n}.txt"));
    }
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("edited and moved");
    println!("a quiet run sends {:?}, this one {:?}", quiet.by_label, counted.by_label);
    // One more listing for each of twenty operations would be a hundred requests.
    assert!(counted.of("list") < quiet.of("list") + 50, "{counted:#?}, quiet: {quiet:#?}");
}

// UP-11
#[test]
fn the_same_content_under_another_name_goes_up_without_a_byte() {
    let mut rig = settled(3);
    let content = "the very same content".repeat(10_000);
    rig.write("one.txt", &content);
    rig.sync().exits(0);
    std::fs::copy(rig.path("local/one.txt"), rig.path("local/two.txt")).unwrap();
    let (ended, counted) = rig.count(|| rig.sync().exits(0));
    assert_eq!((ended.sum("instant"), counted.bytes_up, counted.of("part")), (1, 0, 0));
    rig.assert_equal("instant");
}

// MV-05
#[test]
fn renaming_a_folder_of_a_thousand_files_takes_two_requests_and_no_byte() {
    let mut rig = rig();
    for n in 0..1000 {
        rig.write_remotely(&format!("big/s{}/f{n}.txt", n % 4), &format!("{n}"));
    }
    rig.sync().exits(0);
    rig.assert_equal("down");
    rig.rename("big", "huge");
    let (ended, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("renamed");
    assert!(counted.mutating <= 2, "{counted:#?}");
    assert_eq!((counted.bytes_up, counted.bytes_down, ended.sum("moved")), (0, 0, 1));
    rig.rename("huge", "below/another/big");
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    rig.assert_equal("moved and renamed");
    // Two folders were made for it.
    assert!(counted.mutating <= 4 && counted.bytes_up == 0, "{counted:#?}");
}

// SE-25
#[test]
fn odd_names_go_up_and_come_down_as_they_are() {
    let names = [
        "with space.txt",
        " leading and trailing ",
        "100%41 sure.txt",
        "a+b=c&d?e#f;g",
        "quo\"te'd`$HOME",
        "日本語 文書.txt",
        "e\u{301}.txt",
        "\u{1f4be}.bin",
        "[brackets]{braces}*?",
        "..dots..",
        "-rf",
        "~tilde",
        "sig",
    ];
    let mut rig = rig();
    for name in names {
        rig.write(name, &format!("here {name}"));
        rig.write(&format!("folder {name}/{name}"), &format!("below {name}"));
        rig.write_remotely(&format!("afar {name}/{name}"), &format!("afar {name}"));
    }
    rig.write_remotely("afar/back\\slash", "afar and odd");
    let ended = rig.sync();
    assert!(matches!(ended.exit, Some(0)), "{ended:#?}");
    rig.assert_equal("odd names");
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    assert_eq!(quiet.mutating, 0);
}

// ---- a service that fails ------------------------------------------------------------------------

// AU-16
#[test]
fn a_server_that_is_down_ends_the_run_with_5_and_the_next_run_goes_on() {
    let mut rig = settled(3);
    rig.write("d1/f1.txt", "edited");
    rig.cloud.fault("*", 0, u32::MAX, Fault::Drop);
    let ended = rig.sync().exits(5);
    assert!(!ended.stderr.is_empty());
    rig.cloud.end_faults();
    rig.sync().exits(0);
    rig.assert_equal("up again");
}

// AU-11
#[test]
fn a_storm_of_429_is_waited_out() {
    let mut rig = settled(3);
    for n in 0..20 {
        rig.write(&format!("new{n}.txt"), &format!("new {n}"));
    }
    let refusal = || Fault::RefuseWith {
        status: 429,
        header: ("retry-after", "1".to_owned()),
        body: "{}".to_owned(),
    };
    rig.cloud.fault("precreate", 5, 3, refusal());
    rig.cloud.fault("complete", 3, 1, refusal());
    rig.cloud.fault("list", 0, 1, refusal());
    rig.sync().exits(0);
    rig.assert_equal("after the storm");
}

// RM-01 RM-03: a page that ends too early is no sign that what is missing was deleted.
#[test]
fn a_truncated_listing_deletes_nothing() {
    let mut rig = rig();
    for n in 0..450 {
        rig.write(&format!("d/f{n}.txt"), &format!("{n}"));
    }
    rig.sync().exits(0);
    for (skip, page) in [(1, "the first page"), (2, "the second page"), (3, "the last page")] {
        let empty =
            r#"{"errno":0,"data":{"path":"/Documents/d","folders":[],"files":[],"total":450}}"#;
        rig.cloud.fault("list", skip, 1, Fault::refuse(200, empty));
        let (_, counted) = rig.count(|| rig.sync());
        rig.cloud.end_faults();
        assert_eq!(counted.mutating, 0, "{page}");
        assert!(counted.of("list") > 5, "{page} was asked for again: {counted:#?}");
        assert_eq!(rig.local_tree().len(), 451, "{page}");
        rig.sync().exits(0);
        rig.assert_equal(page);
    }
}

// RM-05: a listing that is complete by its own count, and a lie: each absence is settled by the item.
#[test]
fn a_folder_that_is_listed_as_empty_by_mistake_deletes_nothing() {
    let rig = settled(21);
    for skip in 0..4 {
        let empty = r#"{"errno":0,"data":{"path":"/x","folders":[],"files":[],"total":0}}"#;
        rig.cloud.fault("list", skip, 2, Fault::refuse(200, empty));
        let (ended, counted) = rig.count(|| rig.sync());
        rig.cloud.end_faults();
        assert_eq!(counted.of("delete"), 0, "from listing {skip}: {ended:#?}");
        assert_eq!(rig.local_tree().values().flatten().count(), 21, "{skip}: {ended:#?}");
        rig.sync().exits(0);
        rig.assert_equal("listed in full again");
        assert_eq!(rig.remote_tree().values().flatten().count(), 21);
    }
}

// AU-17
#[test]
fn a_captive_portal_that_answers_everything_is_an_unavailable_service() {
    let mut rig = settled(3);
    rig.write("new.txt", "new");
    let page = Fault::refuse(200, "<html><body>Welcome to the hotel</body></html>");
    rig.cloud.fault("*", 0, u32::MAX, page);
    let before = rig.local_tree();
    let ended = rig.sync();
    assert_eq!(ended.exit, Some(5), "{ended:#?}");
    assert_eq!(rig.local_tree(), before);
    rig.cloud.end_faults();
    rig.sync().exits(0);
    rig.assert_equal("out of the hotel");
}

// RM-17 CR-17
#[test]
fn another_account_halts_the_pair_and_changes_nothing() {
    let mut rig = settled(3);
    rig.write("new.txt", "new");
    rig.cloud.switch_account(99);
    let (_, counted) = rig.count(|| rig.sync().exits(4));
    assert_eq!(counted.mutating, 0);
    rig.cloud.switch_account(17);
    rig.run(&["sync", "--once"]).exits(0);
    rig.assert_equal("the right account again");
}

// RM-11: what was uploaded a moment ago is missing from a listing that is older than it.
#[test]
fn files_that_a_late_listing_lacks_are_looked_up_and_neither_fail_nor_vanish() {
    let mut rig = settled(3);
    for n in 0..12 {
        rig.write(&format!("d1/new{n:02}.txt"), &format!("new {n}"));
    }
    rig.cloud.freeze_listings();
    // Of the last upload it is told that its name is taken: its folder is looked at again.
    rig.cloud.fault("complete", 11, 1, Fault::refuse(409, r#"{"errno":409,"errmsg":"exists"}"#));
    let (ended, counted) = rig.count(|| rig.sync());
    rig.cloud.thaw_listings();
    assert!(counted.of("meta") > 3, "absences are looked up: {counted:#?}");
    assert_eq!((ended.exit, ended.sum("uploaded")), (Some(0), 12), "{ended:#?}");
    rig.assert_equal("after late listings");
}

// UP-09 RM-10
#[test]
fn a_lost_reply_to_the_completion_of_an_upload_leaves_exactly_one_object() {
    let mut rig = settled(3);
    rig.write("new.txt", "new");
    rig.cloud.fault("complete", 0, 1, Fault::LoseReply);
    rig.sync().exits(0);
    rig.assert_equal("new");
    rig.write("new.txt", "newer");
    rig.cloud.fault("complete", 0, 1, Fault::LoseReply);
    rig.sync().exits(0);
    rig.assert_equal("replaced");
    let (_, quiet) = rig.count(|| rig.sync().exits(0));
    assert_eq!(quiet.mutating, 0);
}

#[test]
fn who_waits_for_the_name_of_a_folder_that_the_service_keeps_is_named() {
    let mut rig = Rig::new(Switches::default());
    rig.write(".foldsyncignore", "*.o\n");
    rig.write("d/x", "1");
    rig.write("e/y", "2");
    rig.sync().exits(0);
    // Ignored here, so that it is nobody's business there.
    rig.cloud.write("Documents/d/x.o", "object");
    rig.delete("d/x");
    std::fs::remove_dir(rig.path("local/d")).unwrap();
    rig.sync().exits(0);
    rig.run(&["verify", "docs"]).exits(0);
    rig.rename("e", "d");
    for _ in 0..2 {
        rig.sync().exits(3);
        rig.run(&["verify", "docs"]).exits(1);
    }
    let told = rig.run(&["status", "--json"]).stdout;
    assert!(told.contains("waits for the name that d holds"), "{told}");
    assert_eq!(rig.cloud.read("Documents/d/x.o").as_deref(), Some("object".as_bytes()));
    rig.cloud.remove("Documents/d/x.o");
    rig.sync().exits(0);
    rig.assert_equal("the name is free");
}

#[test]
fn the_doctor_says_what_follows_from_what_it_measured_and_lists_what_was_left() {
    let mut rig = Rig::new(Switches {
        name_chars_max: 100,
        forbidden_chars: "?",
        compares_nfc: true,
        ..Switches::default()
    });
    rig.cloud.write("Documents/.foldsync-00000000000000ab", "left");
    let told = rig.run(&["doctor", "top"]).exits(0).stdout;
    for line in [
        "ok    an upload of a taken name makes a second file of that name: edits are swapped in",
        "ok    names that differ only in their Unicode form are one name there",
        "warn  files whose names have more than 100 characters or 255 bytes are held",
        "warn  files whose names have one of these are held: ?",
        "ok    a download can begin in the middle",
        "/Documents/.foldsync-00000000000000ab (4 B)",
        "sync every pair of this remote first",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(rig.cloud.read("Documents/.foldsync-00000000000000ab").is_some());
    // What was measured is respected: the planner holds what would be refused.
    rig.cloud.remove("Documents/.foldsync-00000000000000ab");
    for name in ["what?.txt".to_owned(), "n".repeat(101), "名".repeat(80)] {
        rig.write(&name, &name);
    }
    rig.cloud.mkdir("Documents");
    let (ended, counted) = rig.count(|| rig.sync());
    assert_eq!(counted.of("precreate"), 1, "{ended:#?}");
    assert!(rig.cloud.read(&format!("Documents/{}", "名".repeat(80))).is_some());
}

// RM-09
#[test]
fn of_two_files_with_one_name_neither_is_lost_when_the_local_one_is_edited() {
    let mut rig = settled(1);
    rig.cloud.write_duplicate("Documents/d0/f0.txt", "a second file of that name");
    rig.write("d0/f0.txt", "edited");
    let ended = rig.sync();
    assert!(matches!(ended.exit, Some(0 | 1 | 3)), "{ended:#?}");
    let there: Vec<_> = rig.cloud.tree().into_iter().filter(|(_, file)| file.is_some()).collect();
    assert!(there.iter().all(|(path, _)| path == "/Documents/d0/f0.txt"), "{there:?}, {ended:#?}");
    assert!(there.iter().any(|(_, file)| file.as_deref() == Some(b"a second file of that name")));
    assert_eq!(there.len(), 2, "{there:?}");
    // A person takes one of them away.
    rig.cloud.remove("Documents/d0/f0.txt");
    assert!(matches!(rig.sync().exit, Some(0 | 3)));
    rig.assert_equal("one of that name");
}

// UP-19
#[test]
fn a_full_account_fails_uploads_and_still_deletes_and_downloads() {
    let mut rig = settled(8);
    rig.cloud.switch(|switches| switches.quota_bytes = Some(400));
    rig.write("too big.txt", &"big".repeat(1000));
    rig.delete("d1/f1.txt");
    rig.write_remotely("afar.txt", "from afar");
    let ended = rig.sync().exits(1);
    assert!(rig.path("local/afar.txt").exists(), "{ended:#?}");
    assert!(rig.cloud.read("Documents/d1/f1.txt").is_none(), "{ended:#?}");
    assert!(rig.cloud.read("Documents/too big.txt").is_none());
    rig.cloud.switch(|switches| switches.quota_bytes = None);
    rig.sync().exits(0);
    rig.assert_equal("room again");
}

// NM-02
#[test]
fn a_name_that_the_service_keeps_in_another_form_gets_that_form_here_too_and_then_rests() {
    let mut rig = Rig::new(Switches { stores_nfc: true, ..Switches::default() });
    rig.write("cafe\u{301}.txt", "decomposed");
    rig.write("re\u{301}sume\u{301}/n\u{303}.txt", "below");
    rig.sync().exits(0);
    rig.assert_equal("both have the service's form");
    for _ in 0..3 {
        let (ended, counted) = rig.count(|| rig.sync().exits(0));
        let moved = (counted.mutating, counted.bytes_up, counted.bytes_down);
        assert_eq!(moved, (0, 0, 0), "{ended:#?}");
    }
    rig.write("caf\u{e9}.txt", "edited");
    rig.sync().exits(0);
    rig.assert_equal("edited");
    assert_eq!(rig.remote_tree().len(), 3, "{:?}", rig.remote_tree());
}

// ---- listings that are late, torn or of another day ----------------------------------------------

/// A folder of more than two pages, in sync.
fn long_folder(switches: Switches) -> Rig {
    let mut rig = Rig::new(switches);
    for n in 0..450 {
        rig.write_remotely(&format!("long/f{n}.txt"), &format!("file {n}"));
    }
    rig.sync().exits(0);
    rig.assert_equal("a long folder");
    rig
}

// AU-01
#[test]
fn a_login_that_ends_between_two_pages_is_renewed_and_nothing_is_taken_for_deleted() {
    let rig = long_folder(Switches::default());
    let (cloud, lists) = (Arc::downgrade(&rig.cloud), AtomicU32::new(0));
    rig.cloud.hook(move |_, label, phase| {
        if (label, phase) == ("list", Phase::After) && lists.fetch_add(1, Ordering::SeqCst) == 2 {
            cloud.upgrade().unwrap().expire_access();
        }
    });
    let (ended, counted) = rig.count(|| rig.sync().exits(0));
    assert_eq!((ended.sum("deleted"), counted.mutating), (0, 0), "{ended:#?}");
    assert_eq!(rig.cloud.state().oauth.rotations, 1);
    rig.assert_equal("after the renewal");
}

// RM-02
#[test]
fn a_file_that_moves_on_to_the_next_page_while_pages_are_read_is_one_file() {
    let rig = long_folder(Switches { order: Order::RecentFirst, ..Switches::default() });
    let (cloud, lists) = (Arc::downgrade(&rig.cloud), AtomicU32::new(0));
    rig.cloud.hook(move |_, label, phase| {
        if (label, phase) == ("list", Phase::After) && lists.fetch_add(1, Ordering::SeqCst) == 1 {
            cloud.upgrade().unwrap().write("Documents/long/inserted.txt", "between two pages");
        }
    });
    let first = rig.sync();
    let second = rig.sync().exits(0);
    let sums = |key: &str| first.sum(key) + second.sum(key);
    assert_eq!((sums("downloaded"), sums("deleted"), sums("conflicts")), (1, 0, 0), "{first:#?}");
    rig.assert_equal("inserted");
}

// RM-19
#[test]
fn a_service_that_begins_again_after_the_last_page_is_listed_to_its_end_once() {
    let rig = long_folder(Switches { beyond: Beyond::FirstPageAgain, ..Switches::default() });
    let (_, counted) = rig.count(|| rig.sync().exits(0));
    assert_eq!(counted.mutating, 0);
    assert!(counted.of("list") < 20, "{counted:#?}");
}

// RM-12
#[test]
fn a_file_that_was_deleted_here_and_is_still_listed_does_not_come_back() {
    let mut rig = settled(20);
    rig.delete("d1/f1.txt");
    let earlier = rig.cloud.state().store.clone();
    rig.sync().exits(0);
    rig.cloud.list_as_of(earlier);
    for _poll in 0..3 {
        rig.sync();
        assert!(!rig.path("local/d1/f1.txt").exists(), "it was brought back");
    }
    rig.cloud.thaw_listings();
    rig.sync().exits(0);
    rig.assert_equal("listed truly again");
}

// RM-13
#[test]
fn a_version_that_was_replaced_here_and_is_still_listed_does_not_come_back() {
    for same_name_upload in [Meeting::Duplicates, Meeting::Replaces] {
        let mut rig = Rig::new(Switches { same_name_upload, ..Switches::default() });
        rig.write("a.txt", "version 0");
        rig.write("b.txt", "other");
        rig.sync().exits(0);
        rig.write("a.txt", "version 1");
        let earlier = rig.cloud.state().store.clone();
        rig.sync().exits(0);
        rig.cloud.list_as_of(earlier);
        for _poll in 0..3 {
            rig.sync();
            let text = std::fs::read_to_string(rig.path("local/a.txt")).unwrap();
            assert_eq!(text, "version 1", "{same_name_upload:?}");
        }
        rig.cloud.thaw_listings();
        rig.sync().exits(0);
        rig.assert_equal("listed truly again");
    }
}

// RM-16: there is no guard against a mass of edits; the newest versions are in the trash.
#[test]
fn a_service_that_was_set_back_to_a_backup_takes_no_newest_version_away() {
    let mut rig = settled(60);
    let backup = rig.cloud.state().store.clone();
    for n in 0..60 {
        rig.write(&format!("d{}/f{n}.txt", n % 7), &format!("newest version of {n}"));
    }
    rig.write("made/since.txt", "made since the backup");
    rig.sync().exits(0);
    rig.cloud.state().store = backup;
    rig.sync();
    rig.sync();
    rig.assert_equal("after the backup");
}

// RM-26
#[test]
fn a_file_that_is_taken_out_of_the_bin_comes_down_again() {
    let mut rig = settled(20);
    let earlier = rig.cloud.state().store.clone();
    rig.delete_remotely("d1/f1.txt");
    rig.sync().exits(0);
    assert!(!rig.path("local/d1/f1.txt").exists());
    // With its id and date of before.
    rig.cloud.state().store = earlier;
    let back = rig.sync().exits(0);
    assert_eq!((back.sum("downloaded"), back.sum("deleted")), (1, 0), "{back:#?}");
    rig.assert_equal("undeleted");
}

// ---- uploads at the edges ------------------------------------------------------------------------

// UP-13
#[test]
fn a_file_that_is_edited_after_it_was_hashed_for_an_instant_upload_goes_up_as_it_is_now() {
    let mut rig = settled(1);
    rig.write("known.txt", "bytes that the service has");
    rig.sync().exits(0);
    rig.write("copy.txt", "bytes that the service has");
    let (copy, asked) = (rig.path("local/copy.txt"), AtomicU32::new(0));
    rig.cloud.hook(move |_, label, phase| {
        let is_first = || asked.fetch_add(1, Ordering::SeqCst) == 0;
        if (label, phase) == ("precreate", Phase::Before) && is_first() {
            std::fs::write(&copy, "edited in the last moment").unwrap();
        }
    });
    rig.sync();
    rig.sync().exits(0);
    rig.assert_equal("edited in the last moment");
    let there = rig.cloud.read("Documents/copy.txt").unwrap();
    assert_eq!(there, "edited in the last moment");
}

// UP-15
#[test]
fn files_of_every_size_around_a_part_go_up_and_come_down_whole() {
    const PART: usize = 1000;
    let mut rig = Rig::new(Switches { chunk_bytes: PART as u64, ..Switches::default() });
    for size in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 7 * PART + 1] {
        let text: String = ('a'..='z').cycle().skip(size % 26).take(size).collect();
        rig.write(&format!("of {size}"), &text);
    }
    rig.sync().exits(0);
    rig.assert_equal("up");
    // Without its files and its state this is another client.
    for folder in ["local", "state"] {
        for item in std::fs::read_dir(rig.path(folder)).unwrap().flatten() {
            let is_file = item.file_type().unwrap().is_file();
            assert!(!is_file || std::fs::remove_file(item.path()).is_ok());
        }
    }
    let down = rig.run(&rig::SYNC).exits(0);
    assert_eq!(down.sum("downloaded"), 7, "{down:#?}");
    rig.assert_equal("down");
    rig.check_ledger("down");
}
