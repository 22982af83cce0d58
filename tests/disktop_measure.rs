//! `doctor` finds out what the Disk.Top emulator was told to be, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the emulator is shared with other tests")]

mod emulators;

use emulators::Fault;
use emulators::disktop::{Beyond, DiskTopCloud, Errors, Meeting, Order, Switches, Total, Window};
use foldsync::remote::FormRule;
use foldsync::remote::disktop::leftovers::LeftoverKind;
use foldsync::remote::disktop::measure::{Findings, PagesFound, SameNameFound};
use foldsync::remote::disktop::{Spelling, capabilities};
use foldsync::remote::{AsciiSet, ErrorKind, Known, Locator, Remote};
use foldsync::tree::Name;

async fn measured(change: impl FnOnce(&mut Switches)) -> Findings {
    let mut switches = Switches::default();
    change(&mut switches);
    let cloud = DiskTopCloud::start(switches).await;
    let client = cloud.client("");
    let findings = client.remote.measure().await.unwrap();
    assert_eq!(cloud.tree(), [], "left behind");
    assert_eq!(cloud.open_sessions(), 0);
    findings
}

#[tokio::test]
async fn what_an_upload_does_to_a_taken_name_is_found_out() {
    for (meeting, found) in [
        (Meeting::Replaces, SameNameFound::Replaces),
        (Meeting::Renames, SameNameFound::AutoRenames),
        (Meeting::Rejects, SameNameFound::Rejects),
        (Meeting::Duplicates, SameNameFound::Duplicates),
    ] {
        let findings = measured(|switches| switches.same_name_upload = meeting).await;
        assert_eq!(findings.same_name, found);
    }
}

#[tokio::test]
async fn whether_names_are_folded_and_ids_survive_is_found_out() {
    let plain = measured(|_| ()).await;
    assert!(!plain.ignores_case && plain.id_survives_move);
    let minting = measured(|switches| switches.moving_changes_id = true).await;
    assert!(!minting.id_survives_move);
    let folding = measured(|switches| switches.folds_case = true).await;
    assert!(folding.ignores_case);
}

// NM-02
#[tokio::test]
async fn what_becomes_of_two_forms_of_a_letter_is_found_out_however_taken_names_are_met() {
    for meeting in [Meeting::Replaces, Meeting::Renames, Meeting::Rejects, Meeting::Duplicates] {
        let findings = measured(|switches| switches.same_name_upload = meeting).await;
        assert_eq!(findings.forms, FormRule::Apart, "{meeting:?}");
        assert_eq!(findings.measured().forms, Known::Is(FormRule::Apart));
        let findings = measured(|switches| {
            switches.same_name_upload = meeting;
            switches.stores_nfc = true;
        });
        let findings = findings.await;
        assert_eq!(findings.forms, FormRule::Respelled, "{meeting:?}");
        assert_eq!(findings.measured().forms, Known::Is(FormRule::Respelled));
        let findings = measured(|switches| {
            switches.same_name_upload = meeting;
            switches.compares_nfc = true;
        });
        assert_eq!(findings.await.forms, FormRule::Alike, "{meeting:?}");
    }
}

#[tokio::test]
async fn the_longest_names_are_found_in_bytes_and_in_characters() {
    for (bytes, chars, found) in [
        (usize::MAX, 255, (255, 765)),
        (255, 255, (255, 255)),
        (usize::MAX, 128, (127, 381)),
        (100, 255, (100, 100)),
        (255, 200, (200, 255)),
        (64, 30, (21, 63)),
    ] {
        let findings = measured(|switches| {
            switches.name_bytes_max = bytes;
            switches.name_chars_max = chars;
        });
        let findings = findings.await;
        let longest = (findings.name_chars_max, findings.name_bytes_max);
        assert_eq!(longest, found, "{bytes} bytes, {chars} characters");
    }
}

// NM-24
#[tokio::test]
async fn characters_that_names_cannot_have_are_found_out() {
    let free = measured(|_| ()).await;
    assert_eq!((free.forbidden.as_str(), free.trailing_dot_or_space), ("", true));
    let strict = measured(|switches| {
        switches.forbidden_chars = ":?\u{1}";
        switches.trims_names = true;
    });
    let strict = strict.await;
    let controls: String = AsciiSet::CONTROLS.chars().collect();
    assert_eq!(strict.forbidden, format!(":?{controls}"));
    assert!(!strict.trailing_dot_or_space);
    let rules = capabilities(strict.measured()).names;
    for (name, taken) in [("a:b", false), ("a*b", true), ("a\nb", false), ("a.", false)] {
        assert_eq!(rules.check(&Name::new(name).unwrap()).is_ok(), taken, "{name:?}");
    }
}

// RM-01 RM-20
#[tokio::test]
async fn what_pages_hold_is_found_out() {
    assert_eq!(measured(|_| ()).await.pages, PagesFound::Exact);
    assert_eq!(measured(|s| s.page_max = 1).await.pages, PagesFound::OtherSize);
    assert_eq!(measured(|s| s.beyond = Beyond::FirstPageAgain).await.pages, PagesFound::Exact);
    let folders = measured(|s| s.window = Window::FilesWithAllFolders).await;
    assert_eq!(folders.pages, PagesFound::Repeating);
}

// DL-01
#[tokio::test]
async fn whether_a_download_may_begin_in_the_middle_is_found_out_and_respected() {
    assert!(measured(|_| ()).await.ranged_download);
    let whole = measured(|switches| switches.ignores_range = true).await;
    assert!(!whole.ranged_download);
    let cloud = DiskTopCloud::start(Switches { ignores_range: true, ..Switches::default() }).await;
    cloud.write("a", "some content");
    let remote = cloud.client_knowing("", whole.measured()).remote;
    let entry = remote.list(&Locator::root(), None).await.unwrap().listing.entries[0].clone();
    let here = Locator { id: Some(entry.item.clone()), ..at(&entry.name) };
    assert!(remote.download(&here, &entry.stamp(), 0).await.is_ok());
    let part = remote.download(&here, &entry.stamp(), 3).await;
    assert_eq!(part.err().unwrap().kind, ErrorKind::Unsupported);
}

fn at(name: &Name) -> Locator {
    let path = foldsync::tree::RelPath::root().join(name);
    Locator { id: None, path, parent_id: None, kind: foldsync::tree::Kind::File }
}

#[tokio::test]
async fn everything_is_found_out_also_from_a_service_that_says_little_and_says_it_oddly() {
    let odd = |switches: &mut Switches| {
        switches.errors = Errors::Word;
        switches.numbers_are_strings = true;
        switches.tells_path = false;
        switches.tells_affected = false;
        switches.part_reply_is_short = true;
        switches.order = Order::RecentFirst;
        switches.total = Total::Off(2);
        switches.bin_answers = true;
        switches.name_bytes_max = 64;
    };
    let findings = measured(odd).await;
    let longest = (findings.name_chars_max, findings.name_bytes_max);
    assert_eq!((findings.same_name, longest), (SameNameFound::Duplicates, (64, 64)));
    assert!(findings.ranged_download && findings.id_survives_move);
}

#[tokio::test]
async fn whichever_request_fails_nothing_is_left_behind() {
    let cloud = DiskTopCloud::start(Switches::default()).await;
    let client = cloud.client("");
    let start = cloud.counters().requests;
    let found = client.remote.measure().await.unwrap();
    let whole = cloud.counters().requests - start;
    println!("{whole} requests");
    assert!(whole < 130, "{whole}");
    let refusal = || Fault::refuse(403, r#"{"errno":403,"errmsg":"denied"}"#);
    for n in (0..whole).step_by(3) {
        let number = u32::try_from(n).unwrap();
        for fault in [Fault::Drop, Fault::LoseReply, refusal()] {
            cloud.fault("*", number, 1, fault.clone());
            let outcome = client.remote.measure().await;
            cloud.end_faults();
            // What cannot be removed because of the failure itself is removed by the next try.
            if outcome.is_err_and(|error| error.context.contains("left behind")) || n + 6 > whole {
                assert_eq!(client.remote.measure().await.unwrap().pages, found.pages);
            }
            assert_eq!(cloud.tree(), [], "{fault:?} at request {n}");
        }
    }
}

// A state database that is gone knows of no half-way state.
#[tokio::test]
async fn what_a_lost_state_database_left_on_the_service_is_listed_and_not_touched() {
    let cloud = DiskTopCloud::start(Switches { bin_answers: true, ..Switches::default() }).await;
    for path in ["d/.foldsync-00000000000000ab", "d/.foldsync-00000000000000ab.old", "d/mine"] {
        cloud.write(path, "content");
    }
    cloud.write("d/.foldsync-00000000000000cd", "deleted");
    cloud.remove("d/.foldsync-00000000000000cd");
    let before = cloud.tree();
    let leftovers = cloud.client("").remote.leftovers().await.unwrap();
    let told: Vec<_> = leftovers.iter().map(|l| (l.path.as_str(), l.kind)).collect();
    let place = "/我的应用数据/GPTGet/d/.foldsync-00000000000000ab";
    let old = format!("{place}.old");
    assert_eq!(told, [(place, LeftoverKind::New), (old.as_str(), LeftoverKind::Old)]);
    cloud.switch(|switches| switches.search_works = false);
    assert_eq!(cloud.client("").remote.leftovers().await.unwrap(), []);
    assert_eq!(cloud.tree(), before);
}

#[test]
fn findings_are_kept_and_unreadable_ones_are_none() {
    let state = tempfile::TempDir::new().unwrap();
    let findings = Findings {
        at_s: 7,
        same_name: SameNameFound::Rejects,
        ignores_case: true,
        forms: FormRule::Respelled,
        name_chars_max: 100,
        name_bytes_max: 300,
        forbidden: "?".to_owned(),
        trailing_dot_or_space: false,
        id_survives_move: false,
        pages: PagesFound::OtherSize,
        ranged_download: false,
        clock_skew_s: Some(-2),
    };
    assert_eq!(Findings::load(state.path(), "top"), None);
    findings.store(state.path(), "top").unwrap();
    findings.store(state.path(), "top").unwrap();
    let loaded = Findings::load(state.path(), "top").unwrap();
    let spelling = Spelling {
        bytes_max: 300,
        chars_max: 100,
        forbidden: AsciiSet::EMPTY.with('?'),
        trailing_dot_or_space: false,
    };
    assert_eq!(loaded.measured().spelling, Known::Is(spelling));
    assert_eq!(loaded, findings);
    std::fs::write(state.path().join("measured/top.json"), "{").unwrap();
    assert_eq!(Findings::load(state.path(), "top"), None);
}
