//! `doctor` finds out what the Disk.Top emulator was told to be, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the emulator is shared with other tests")]

mod emulators;

use emulators::disktop::{DiskTopCloud, Meeting, Switches};
use foldsync::remote::disktop::measure::{Findings, SameNameFound};
use foldsync::remote::{Locator, Remote};

async fn measured(change: impl FnOnce(&mut Switches)) -> Findings {
    let mut switches = Switches::default();
    change(&mut switches);
    let cloud = DiskTopCloud::start(switches).await;
    let client = cloud.client("");
    let findings = client.remote.measure().await.unwrap();
    let listing = client.remote.list(&Locator::root(), None).await.unwrap().listing;
    assert!(listing.entries.is_empty(), "left behind: {:?}", listing.entries);
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

#[test]
fn findings_are_kept_and_unreadable_ones_are_none() {
    let state = tempfile::TempDir::new().unwrap();
    let findings = Findings {
        at_s: 7,
        same_name: SameNameFound::Rejects,
        ignores_case: true,
        id_survives_move: false,
        clock_skew_s: Some(-2),
    };
    assert_eq!(Findings::load(state.path(), "top"), None);
    findings.store(state.path(), "top").unwrap();
    findings.store(state.path(), "top").unwrap();
    assert_eq!(Findings::load(state.path(), "top"), Some(findings));
    std::fs::write(state.path().join("measured/top.json"), "{").unwrap();
    assert_eq!(Findings::load(state.path(), "top"), None);
}
