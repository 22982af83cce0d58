//! The simulated disk and cloud against their own promises. A simulator nobody checks proves nothing.

use std::sync::Arc;

use bytes::Bytes;
use foldsync::local::{FsErrorKind, Installed, LocalFs, Sealed, StageKey};
use foldsync::remote::{
    Effect, ErrorKind, Locator, Remote, SameName, UploadRequest, UploadSession, UploadStart,
};
use foldsync::tree::{Digest, Entry, HashAlgo, Hasher, Kind, Name, RelPath};
use futures_util::StreamExt as _;

use super::cloud::{CloudPort, Nature, SimCloud};
use super::disk::{DiskPort, DiskTraits, SimDisk};
use super::faults::{Dice, Hub, Life, Odds, Pace, Trace};
use super::users::Users;

fn run<T>(odds: Odds, body: impl AsyncFnOnce(Arc<Hub>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async { body(Arc::new(Hub::new(7, odds, Pace::Jittery, Trace::Off))).await })
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("a valid path")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn disk(hub: &Arc<Hub>) -> (Arc<SimDisk>, DiskPort, Life) {
    let disk = SimDisk::new(hub.clone(), DiskTraits::PLAIN);
    let life = hub.begin_life(None);
    (disk.clone(), DiskPort::new(disk, life), life)
}

async fn sealed(port: &DiskPort, key: u64, content: &'static str) -> Sealed {
    let mut writer = port.stage(StageKey(key)).await.expect("a stage");
    writer.write(Bytes::from_static(content.as_bytes())).await.expect("room");
    writer.seal(None).await.expect("sealed")
}

async fn entry(port: &DiskPort, at: &str) -> Entry {
    port.stat(&path(at)).await.expect("readable").expect("there")
}

fn text(users: &dyn Users, at: &str) -> Option<String> {
    let content = users.tree().get(at)?.clone()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}

#[test]
fn a_version_that_slips_in_at_the_last_moment_is_kept_beside_the_new_one() {
    // EE-04
    run(Odds::default(), async |hub| {
        let (disk, port, _) = disk(&hub);
        disk.write("a", "old".into());
        let over = entry(&port, "a").await.stamp();
        let sealed = sealed(&port, 1, "new").await;
        let slip = disk.clone();
        // Between the look (one step) and the exchange (the next).
        hub.schedule(1, Box::new(move || assert!(slip.write("a", "slipped".into()))));
        let done = port.install(sealed, &path("a"), Some(&over), &path("aside")).await;
        assert!(
            matches!(done, Ok(Installed::DisplacedEdit { kept_as, .. }) if kept_as == path("aside"))
        );
        assert_eq!(text(&*disk, "a").as_deref(), Some("new"));
        assert_eq!(text(&*disk, "aside").as_deref(), Some("slipped"));
    });
}

#[test]
fn a_kill_between_exchange_and_trash_leaves_the_displaced_file_in_the_stage() {
    // CR-01
    run(Odds::default(), async |hub| {
        let (disk, port, _) = disk(&hub);
        disk.write("a", "old".into());
        let over = entry(&port, "a").await.stamp();
        let sealed = sealed(&port, 1, "new").await;
        let life = hub.begin_life(Some(3));
        let port = DiskPort::new(disk.clone(), life);
        let (at, aside) = (path("a"), path("aside"));
        let install = port.install(sealed, &at, Some(&over), &aside);
        tokio::select! {
            biased;
            () = hub.death() => {}
            _ = install => panic!("the kill came first"),
        }
        assert_eq!(text(&*disk, "a").as_deref(), Some("new"));
        assert_eq!(disk.set_aside(), [Bytes::from("old")]);
        let port = DiskPort::new(disk.clone(), hub.begin_life(None));
        let left = port.leftovers().await.expect("readable");
        assert!(left.len() == 1 && !left[0].displaced);
        port.discard(left[0].key).await.expect("the old version goes to the trash");
        assert_eq!(disk.set_aside(), [Bytes::from("old")]);
    });
}

#[test]
fn a_power_cut_takes_what_was_not_flushed_and_nothing_else() {
    // CR-04
    run(Odds::default(), async |hub| {
        let (disk, port, _) = disk(&hub);
        disk.write("kept", "1".into());
        port.create_dir(&path("made")).await.expect("made");
        let mut writer = port.stage(StageKey(1)).await.expect("a stage");
        writer.write("half written".into()).await.expect("room");
        port.create_dir(&path("flush"))
            .await
            .expect("flushes the name of the stage, not its content");
        disk.cut_power();
        let tree: Vec<String> = disk.tree().into_keys().collect();
        assert_eq!(tree, ["flush", "kept", "made"]);
        assert_ne!(disk.staged(), []);
    });
}

#[test]
fn a_listing_that_lacks_an_item_that_moves_all_the_time_says_so() {
    // WA-10
    let seen = |moves: u64, seed: u64| {
        run(Odds::default(), async |hub| {
            let (disk, port, _) = disk(&hub);
            for i in 0..8 {
                disk.write(&format!("f{i}"), "1".into());
            }
            for _ in 0..seed {
                hub.below(2);
            }
            for turn in 0..moves {
                let mover = disk.clone();
                let (from, to) = if turn % 2 == 0 { ("f0", "z") } else { ("z", "f0") };
                hub.schedule(1 + turn, Box::new(move || assert!(mover.rename(from, to))));
            }
            let listing = port.list(&RelPath::root()).await.expect("readable");
            (listing.entries.len(), listing.unsteady)
        })
    };
    let listings: Vec<_> = (0..40).map(|seed| seen(9, seed)).collect();
    assert!(listings.iter().any(|(len, unsteady)| *len != 8 && *unsteady), "{listings:?}");
    assert!(listings.iter().all(|(len, unsteady)| *len == 8 || *unsteady), "{listings:?}");
    assert!((0..40).all(|seed| seen(1, seed) == (8, false)), "once is no hindrance");
}

#[test]
fn an_unreadable_folder_is_an_error_and_not_an_empty_one() {
    // FK-10
    run(Odds::default(), async |hub| {
        let (disk, port, _) = disk(&hub);
        disk.mkdir("d");
        disk.write("d/x", "1".into());
        disk.deny("d", true);
        let kind = |error: foldsync::local::FsError| error.kind;
        assert_eq!(port.list(&path("d")).await.map_err(kind), Err(FsErrorKind::Denied));
        assert_eq!(port.stat(&path("d/x")).await.map_err(kind), Err(FsErrorKind::Denied));
        assert_eq!(port.stat(&path("d")).await.map(|e| e.is_some()).map_err(kind), Ok(true));
    });
}

// ---- the cloud ---------------------------------------------------------------------------------

fn cloud(hub: &Arc<Hub>, nature: Nature) -> (Arc<SimCloud>, CloudPort) {
    let cloud = SimCloud::new(hub.clone(), nature);
    let life = hub.begin_life(None);
    (cloud.clone(), CloudPort::new(cloud, life))
}

fn top() -> Nature {
    Nature { page_size: 2, offset_pages: true, piece: 3, ..Nature::disk_top(&mut Dice::new(1, 1)) }
}

fn request(to: &str, content: &str, algo: HashAlgo) -> UploadRequest {
    let hash = Hasher::of(algo, content.as_bytes());
    UploadRequest {
        key: 1,
        parent: Locator::root(),
        name: name(to),
        content: Digest { size: content.len() as u64, hash },
        modified: None,
        over: None,
    }
}

async fn begin(port: &CloudPort, request: &UploadRequest) -> UploadSession {
    match port.begin_upload(request).await.expect("begun") {
        UploadStart::Session(session) => session,
        UploadStart::Instant(_) => panic!("the service cannot know that content"),
    }
}

async fn send(port: &CloudPort, session: &UploadSession, content: &'static str) {
    for range in port.outstanding(session).await.expect("a session").ranges {
        let from = usize::try_from(range.from).expect("small");
        let to = from + usize::try_from(range.len).expect("small");
        let piece = Bytes::from_static(&content.as_bytes()[from..to]);
        let body = futures_util::stream::iter([Ok(piece)]).boxed();
        port.upload_range(session, range, body).await.expect("sent");
    }
}

#[test]
fn an_upload_is_visible_only_when_it_is_finished() {
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, top());
        hub.ledger.lock().expect("whole").written(&"hello".into());
        let session = begin(&port, &request("a", "hello", HashAlgo::Md5)).await;
        send(&port, &session, "hello").await;
        assert_eq!(text(&*cloud, "a"), None);
        port.finish_upload(&session).await.expect("finished");
        assert_eq!(text(&*cloud, "a").as_deref(), Some("hello"));
        assert!(port.outstanding(&session).await.is_err());
        assert_eq!(hub.violations(), [""; 0]);
    });
}

#[test]
fn a_service_refuses_bytes_that_are_not_the_announced_ones() {
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, top());
        let session = begin(&port, &request("a", "hello", HashAlgo::Md5)).await;
        send(&port, &session, "hullo").await;
        let error = port.finish_upload(&session).await.expect_err("not the bytes");
        assert_eq!((error.kind, text(&*cloud, "a")), (ErrorKind::Corrupt, None));
    });
}

#[test]
fn content_that_the_service_has_is_uploaded_without_a_byte() {
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, top());
        hub.ledger.lock().expect("whole").written(&"hello".into());
        cloud.write("there", "hello".into());
        let start = port.begin_upload(&request("a", "hello", HashAlgo::Md5)).await;
        assert!(matches!(start, Ok(UploadStart::Instant(_))));
        assert_eq!((text(&*cloud, "a").as_deref(), cloud.cost().bytes_up), (Some("hello"), 0));
    });
}

#[test]
fn each_way_to_treat_a_taken_name_keeps_what_was_there_within_reach() {
    for same_name in
        [SameName::Replaces, SameName::AutoRenames, SameName::Rejects, SameName::Duplicates]
    {
        run(Odds::default(), async |hub| {
            let (cloud, port) = cloud(&hub, Nature { same_name, ..top() });
            hub.ledger.lock().expect("whole").written(&"new".into());
            cloud.write("a", "old".into());
            let session = begin(&port, &request("a", "new", HashAlgo::Md5)).await;
            send(&port, &session, "new").await;
            let done = port.finish_upload(&session).await;
            assert_eq!(done.is_err(), same_name == SameName::Rejects);
            let there: Vec<Bytes> = cloud.tree().into_values().flatten().collect();
            let replaced = same_name == SameName::Replaces;
            assert_eq!(cloud.set_aside().contains(&"old".into()), replaced, "{same_name:?}");
            assert_eq!(there.contains(&"old".into()), !replaced, "{same_name:?}");
        });
    }
}

#[test]
fn a_conditional_service_never_replaces_another_version_than_the_expected_one() {
    // EE-05
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, Nature::directory());
        cloud.write("a", "old".into());
        let old =
            port.list(&Locator::root(), None).await.expect("listed").listing.entries.remove(0);
        let at = Locator { id: Some(old.item.clone()), path: path("a"), ..Locator::root() };
        let at = Locator { kind: Kind::File, ..at };
        let over = Some((at, old.stamp()));
        let request = UploadRequest { over, ..request("a", "new", HashAlgo::Sha256) };
        let session = begin(&port, &request).await;
        send(&port, &session, "new").await;
        cloud.write("a", "slipped".into());
        let error = port.finish_upload(&session).await.expect_err("not the expected version");
        assert_eq!(error.kind, ErrorKind::Changed);
        assert_eq!(text(&*cloud, "a").as_deref(), Some("slipped"));
    });
}

#[test]
fn a_deletion_between_two_pages_hides_an_item_that_is_there() {
    // RM-01
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, top());
        for at in ["a", "b", "c", "d"] {
            cloud.write(at, at.into());
        }
        let first = port.list(&Locator::root(), None).await.expect("listed");
        cloud.remove("a");
        let second = port.list(&Locator::root(), first.next).await.expect("listed");
        let names: Vec<String> =
            second.listing.entries.iter().map(|e| e.name.to_string()).collect();
        assert_eq!((names, second.next.is_none()), (vec!["d".to_owned()], true));
    });
}

#[test]
fn a_stale_listing_shows_the_folder_as_it_was() {
    // RM-11
    run(Odds { stale: 1000, ..Odds::default() }, async |hub| {
        let (cloud, port) = cloud(&hub, Nature { lag_ms: 5_000, ..Nature::directory() });
        cloud.write("a", "1".into());
        let entries = |page: foldsync::remote::Page| page.listing.entries.len();
        assert_eq!(port.list(&Locator::root(), None).await.map(entries).ok(), Some(0));
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        assert_eq!(port.list(&Locator::root(), None).await.map(entries).ok(), Some(1));
    });
}

#[test]
fn a_lost_reply_leaves_the_effect_and_a_late_one_comes_after_the_error() {
    for odds in
        [Odds { reply_lost: 1000, ..Odds::default() }, Odds { reply_late: 1000, ..Odds::default() }]
    {
        run(odds, async |hub| {
            let (cloud, port) = cloud(&hub, Nature::directory());
            let error = port.create_dir(&Locator::root(), &name("d")).await.expect_err("no reply");
            assert_eq!(error.effect, Effect::Unknown);
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            assert!(cloud.tree().contains_key("d"));
        });
    }
}

#[test]
fn two_step_moves_change_one_thing_at_a_time_and_the_id_stays() {
    run(Odds::default(), async |hub| {
        let (cloud, port) = cloud(&hub, top());
        cloud.mkdir("d");
        cloud.write("a", "1".into());
        let page = port.list(&Locator::root(), None).await.expect("listed");
        let find = |kind| page.listing.entries.iter().find(|e| e.kind == kind).expect("there");
        let at = |entry: &Entry| Locator {
            id: Some(entry.item.clone()),
            path: path(entry.name.as_str()),
            parent_id: None,
            kind: entry.kind,
        };
        let (file, folder) = (find(Kind::File), find(Kind::Dir));
        let both =
            port.relocate(&at(file), &file.stamp(), &at(folder), &name("b")).await.map(|e| e.item);
        assert_eq!(both.map_err(|e| e.kind), Err(ErrorKind::Unsupported));
        let moved = port.relocate(&at(file), &file.stamp(), &at(folder), &file.name).await;
        assert_eq!(moved.expect("moved").item, file.item);
        assert_eq!(text(&*cloud, "d/a").as_deref(), Some("1"));
    });
}
