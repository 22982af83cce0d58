//! The Disk.Top adapter on bad days: lost replies, half listings, ended tokens, hostile answers.
//!
//! What every remote must do on a good day is in `conformance`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod emulators;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use emulators::Fault;
use emulators::disktop::client::vault;
use emulators::disktop::{CLIENT_ID, DiskTopCloud, Errors, Meeting, Order, Phase, Switches, Total};
use foldsync::clock::{Clock, SystemClock, Timestamp};
use foldsync::local::{Listing, SkipReason};
use foldsync::remote::auth::{Prompt, browser_login, device_login, read_token};
use foldsync::remote::disktop::{self, Measured};
use foldsync::remote::http::{Backoff, Http, Origins, Settings};
use foldsync::remote::{
    ByteRange, Effect, ErrorKind, Known, Locator, Remote, RemoteError, Result, SameName,
    UploadRequest, UploadSession, UploadStart,
};
use foldsync::tree::{Digest, Entry, HashAlgo, Hasher, Name, RelPath};
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};

const CHUNK: u64 = 64 << 10;

// ---- vocabulary ------------------------------------------------------------------------------

async fn cloud() -> DiskTopCloud {
    cloud_with(|_| ()).await
}

async fn cloud_with(change: impl FnOnce(&mut Switches)) -> DiskTopCloud {
    let mut switches = Switches::default();
    change(&mut switches);
    DiskTopCloud::start(switches).await
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn below(parent: &Locator, entry: &Entry) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        path: parent.path.join(&entry.name),
        parent_id: parent.id.clone(),
        kind: entry.kind,
    }
}

fn in_root(entry: &Entry) -> Locator {
    below(&Locator::root(), entry)
}

fn bytes(len: u64) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 11 & 0xff).unwrap()).collect()
}

fn request(key: u64, file: &str, content: &[u8], over: Option<&Entry>) -> UploadRequest {
    let hash = Hasher::of(HashAlgo::Md5, content);
    UploadRequest {
        key,
        parent: Locator::root(),
        name: name(file),
        content: Digest { size: content.len() as u64, hash },
        modified: None,
        over: over.map(|old| (in_root(old), old.stamp())),
    }
}

fn part(content: &[u8], range: ByteRange) -> foldsync::remote::Body {
    let (from, len) = (usize::try_from(range.from).unwrap(), usize::try_from(range.len).unwrap());
    let chunk = Bytes::copy_from_slice(&content[from..from + len]);
    stream::iter([Ok(chunk)]).boxed()
}

async fn send(remote: &dyn Remote, request: &UploadRequest, content: &[u8]) -> Result<Entry> {
    match remote.begin_upload(request).await? {
        UploadStart::Instant(entry) => Ok(entry.expect("Disk.Top tells what it made")),
        UploadStart::Session(session) => {
            for range in remote.outstanding(&session).await?.ranges {
                remote.upload_range(&session, range, part(content, range)).await?;
            }
            Ok(remote.finish_upload(&session).await?.expect("Disk.Top tells what it made"))
        }
    }
}

async fn put(remote: &dyn Remote, file: &str, content: &[u8]) -> Result<Entry> {
    send(remote, &request(1, file, content, None), content).await
}

async fn session_of(remote: &dyn Remote, request: &UploadRequest) -> UploadSession {
    match remote.begin_upload(request).await.unwrap() {
        UploadStart::Session(session) => session,
        UploadStart::Instant(_) => panic!("nobody has these bytes yet"),
    }
}

async fn list(remote: &dyn Remote) -> Result<Listing> {
    Ok(remote.list(&Locator::root(), None).await?.listing)
}

fn names(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|entry| entry.name.to_string()).collect()
}

async fn fetch(remote: &dyn Remote, entry: &Entry, from: u64) -> Result<Vec<u8>> {
    let download = remote.download(&in_root(entry), &entry.stamp(), from).await?;
    let chunks: Vec<Bytes> = download.bytes.try_collect().await?;
    Ok(chunks.concat())
}

fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> RemoteError {
    outcome.expect_err("this must be refused")
}

// ---- listings --------------------------------------------------------------------------------

// RM-01
#[tokio::test]
async fn an_item_that_slips_between_pages_is_found_all_the_same() {
    for jumps in [true, false] {
        let cloud = Arc::new(cloud_with(|s| s.order = Order::RecentFirst).await);
        for n in 0..450 {
            cloud.write(&format!("f{n:03}"), "x");
        }
        let remote = cloud.client("").remote;
        let (pages, other) = (AtomicU32::new(0), Arc::downgrade(&cloud));
        cloud.hook(move |_, label, phase| {
            let first = label == "list" && phase == Phase::After;
            if first && pages.fetch_add(1, Ordering::SeqCst) == 0 {
                let cloud = other.upgrade().unwrap();
                // Another client edits an item of a later page, or deletes one of the first.
                match jumps {
                    true => cloud.rename("f100", "f100 again"),
                    false => cloud.remove("f449"),
                }
            }
        });
        let listing = list(&remote).await.unwrap();
        assert_eq!(listing.entries.len(), if jumps { 450 } else { 449 });
        cloud.hook(|_, _, _| ());
    }
}

// RM-03
#[tokio::test]
async fn a_count_that_is_wrong_for_ever_costs_a_second_pass_and_hides_nothing() {
    for off in [-3, 2, 1_000_000_000] {
        let cloud = cloud_with(|s| s.total = Total::Off(off)).await;
        for n in 0..98 {
            cloud.write(&format!("f{n}"), "x");
        }
        let remote = cloud.client("").remote;
        assert_eq!(list(&remote).await.unwrap().entries.len(), 98);
        assert!(cloud.counters().of("list") <= 6, "{:?}", cloud.counters());
    }
}

// RM-20
#[tokio::test]
async fn pages_without_an_order_give_everything_or_an_error() {
    let cloud = cloud_with(|s| {
        s.order = Order::Shuffled;
        s.page_max = 50;
    });
    let cloud = cloud.await;
    for n in 0..130 {
        cloud.write(&format!("f{n}"), "x");
    }
    let remote = cloud.client("").remote;
    for _ in 0..20 {
        match list(&remote).await {
            Ok(listing) => assert_eq!(listing.entries.len(), 130),
            Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable),
        }
    }
}

// RM-04, RM-06, AU-07, AU-17
#[tokio::test]
async fn no_odd_answer_is_an_empty_folder() {
    let cloud = cloud().await;
    cloud.write("a", "x");
    let remote = cloud.client("").remote;
    let odd = [
        (400, r#"{"errno":400,"errmsg":"?"}"#),
        (403, r#"{"errno":403}"#),
        (404, "<html>not here</html>"),
        (404, ""),
        (500, ""),
        (503, "busy"),
        (200, "<html>Welcome to the hotel</html>"),
        (302, ""),
        (200, ""),
        (200, "null"),
        (200, "[]"),
        (200, "{}"),
        (200, r#"{"errno":0}"#),
        (200, r#"{"errno":0,"data":{}}"#),
        (200, r#"{"errno":0,"data":{"files":[]}}"#),
        (200, r#"{"errno":0,"data":{"folders":[]}}"#),
        (200, r#"{"errno":0,"data":{"files":[],"folders":[],"total":0}"#),
        (200, r#"{"errno":0,"data":{"files":{},"folders":[],"total":0}}"#),
        (200, r#"{"errno":0,"data":{"files":[],"folders":[],"total":"many"}}"#),
        (200, r#"{"errno":0,"data":{"files":[{"id":1,"name":"\ud800"}],"folders":[],"total":1}}"#),
        (200, r#"{"errno":500,"data":{"files":[],"folders":[],"total":0}}"#),
        (200, r#"{"errno":"429"}"#),
        (200, r#"{"errno":31415,"errmsg":"?"}"#),
    ];
    for (status, body) in odd {
        cloud.fault("list", 0, 50, Fault::refuse(status, body));
        let error = refused(list(&remote).await);
        assert_eq!(error.effect, Effect::None, "{status} {body}");
        assert_ne!(error.kind, ErrorKind::NotFound, "{status} {body}");
        cloud.end_faults();
        // Whatever it was, it does not stick.
        let again = list(&cloud.client("").remote).await.unwrap();
        assert_eq!(names(&again), ["a"]);
    }
}

// RM-03
#[tokio::test]
async fn what_the_service_counts_but_does_not_show_is_not_believed_to_be_nothing() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    let folder = remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    let hiding = r#"{"errno":0,"data":{"files":[],"folders":[],"total":2}}"#;
    cloud.fault("list", 1, 50, Fault::refuse(200, hiding));
    let error = refused(remote.delete(&in_root(&folder), &folder.stamp()).await);
    assert_eq!(error.kind, ErrorKind::Changed);
    assert_eq!(cloud.counters().of("delete"), 0);
}

// RM-09
#[tokio::test]
async fn of_files_with_one_name_the_first_counts_and_no_other_is_touched() {
    let cloud = cloud_with(|s| s.same_name_move = Meeting::Duplicates).await;
    let first = cloud.write("a", "one");
    cloud.write_duplicate("a", "two");
    let remote = cloud.client("").remote;
    for _ in 0..3 {
        let listing = list(&remote).await.unwrap();
        assert_eq!(fetch(&remote, &listing.entries[0], 0).await.unwrap(), b"one");
        assert_eq!(listing.skipped[0].reason, SkipReason::Duplicate);
    }
    let entry = list(&remote).await.unwrap().entries[0].clone();
    remote.delete(&in_root(&entry), &entry.stamp()).await.unwrap();
    assert_eq!(cloud.read("a").unwrap(), "two");
    assert!(cloud.file_id("a").is_some_and(|id| id != first));
}

// RM-17, SF-21
#[tokio::test]
async fn another_account_or_another_root_has_another_key() {
    let cloud = cloud().await;
    let client = cloud.client("Pair");
    client.remote.create_root().await.unwrap();
    let key = client.remote.account().await.unwrap();
    cloud.switch_account(18);
    assert_ne!(client.remote.account().await.unwrap(), key);
    cloud.switch_account(17);
    assert_eq!(client.remote.account().await.unwrap(), key);
    cloud.remove("Pair");
    assert_eq!(refused(client.remote.account().await).kind, ErrorKind::RootLost);
    cloud.mkdir("Pair");
    assert_ne!(client.remote.account().await.unwrap(), key);
}

// RM-28, SF-05
#[tokio::test]
async fn a_root_that_is_gone_is_lost_and_neither_empty_nor_made_anew() {
    for missing_folder_is_empty in [false, true] {
        let cloud = cloud_with(|s| s.missing_folder_is_empty = missing_folder_is_empty).await;
        cloud.write("Up/Pair/a", "x");
        let remote = cloud.client("Up/Pair").remote;
        assert_eq!(names(&list(&remote).await.unwrap()), ["a"]);
        cloud.rename("Up/Pair", "Up/Renamed");
        assert_eq!(refused(list(&remote).await).kind, ErrorKind::RootLost);
        assert_eq!(cloud.counters().mutating, 0);
    }
}

// NM-23
#[tokio::test]
async fn one_prefix_is_stripped_also_where_the_sandbox_has_a_folder_of_that_name() {
    let cloud = cloud_with(|s| s.bin_answers = true).await;
    let remote = cloud.client("我的应用数据/GPTGet").remote;
    remote.create_root().await.unwrap();
    let entry = put(&remote, "a", b"abc").await.unwrap();
    assert_eq!(entry.name, name("a"));
    assert!(cloud.read("我的应用数据/GPTGet/a").is_some());
    let here = in_root(&entry);
    assert_eq!(remote.stat(&here).await.unwrap(), Some(entry));
    cloud.rename("我的应用数据/GPTGet/a", "GPTGet/a");
    assert_eq!(remote.stat(&here).await.unwrap(), None, "it left the root");
}

#[tokio::test]
async fn what_is_in_the_recycle_bin_is_gone_even_if_it_can_be_looked_up() {
    let cloud = cloud_with(|s| s.bin_answers = true).await;
    cloud.write("a", "x");
    cloud.write("b", "y");
    let client = cloud.client("");
    let entry = list(&client.remote).await.unwrap().entries[0].clone();
    cloud.remove("a");
    // A process that has never seen the prefix has to learn it first.
    let fresh = cloud.another_process(&client, "").remote;
    assert_eq!(fresh.stat(&in_root(&entry)).await.unwrap(), None);
    fresh.delete(&in_root(&entry), &entry.stamp()).await.unwrap();
    assert_eq!(refused(fetch(&fresh, &entry, 0).await).kind, ErrorKind::NotFound);
}

// RM-11: the adapter says what it made from the answer itself; a listing may be older.
#[tokio::test]
async fn a_listing_that_lags_does_not_change_what_an_upload_says() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    list(&remote).await.unwrap();
    cloud.freeze_listings();
    let entry = put(&remote, "a", b"abc").await.unwrap();
    assert!(list(&remote).await.unwrap().entries.is_empty());
    assert_eq!(remote.stat(&in_root(&entry)).await.unwrap(), Some(entry));
    cloud.thaw_listings();
}

// ---- names -----------------------------------------------------------------------------------

// NM-01, NM-18
#[tokio::test]
async fn a_name_that_the_service_may_take_for_another_one_destroys_nothing() {
    let cloud = cloud_with(|s| {
        s.folds_case = true;
        s.stores_nfc = true;
        s.same_name_upload = Meeting::Replaces;
        s.same_name_move = Meeting::Replaces;
        s.same_name_mkdir = Meeting::Replaces;
    });
    let cloud = cloud.await;
    let remote = cloud.client("").remote;
    put(&remote, "a", b"lower").await.unwrap();
    put(&remote, "\u{e9}", b"composed").await.unwrap();
    remote.create_dir(&Locator::root(), &name("photos")).await.unwrap();
    let other = put(&remote, "other", b"other").await.unwrap();
    for alike in ["A", "e\u{301}", "Photos"] {
        assert_eq!(refused(put(&remote, alike, b"ours").await).kind, ErrorKind::InvalidName);
        let here = in_root(&other);
        let moved = remote.relocate(&here, &other.stamp(), &Locator::root(), &name(alike)).await;
        assert_eq!(refused(moved).kind, ErrorKind::InvalidName);
        let made = refused(remote.create_dir(&Locator::root(), &name(alike)).await).kind;
        assert!(matches!(made, ErrorKind::InvalidName | ErrorKind::AlreadyExists), "{alike}");
    }
    assert_eq!(cloud.read("a").unwrap(), "lower");
    assert_eq!(cloud.read("\u{e9}").unwrap(), "composed");
    assert!(cloud.state().store.destroyed.is_empty());
}

// NM-18
#[tokio::test]
async fn a_service_that_shows_both_cases_may_have_more_of_them() {
    let cloud = cloud().await;
    cloud.write("a", "1");
    cloud.write("A", "2");
    cloud.write("b", "3");
    let remote = cloud.client("").remote;
    put(&remote, "B", b"4").await.unwrap();
    assert_eq!(names(&list(&remote).await.unwrap()), ["A", "B", "a", "b"]);
}

// EE-03
#[tokio::test]
async fn a_name_that_was_taken_a_moment_ago_is_free_again_once_its_file_is_gone() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    for content in [&b"one"[..], b"two", b"three"] {
        let entry = put(&remote, "a", content).await.unwrap();
        assert_eq!(refused(put(&remote, "a", b"other").await).kind, ErrorKind::AlreadyExists);
        remote.delete(&in_root(&entry), &entry.stamp()).await.unwrap();
    }
}

// NM-09
#[tokio::test]
async fn the_name_that_the_service_chose_is_the_name_that_is_told() {
    let cloud = cloud_with(|s| s.same_name_upload = Meeting::Renames).await;
    let remote = cloud.client("").remote;
    list(&remote).await.unwrap();
    // Another client is faster by a moment.
    cloud.write("a.txt", "theirs");
    let entry = put(&remote, "a.txt", b"ours").await.unwrap();
    assert_eq!(entry.name, name("a(1).txt"));
    assert_eq!(cloud.read("a.txt").unwrap(), "theirs");
    assert_eq!(remote.stat(&in_root(&entry)).await.unwrap(), Some(entry));
}

// ---- logins ----------------------------------------------------------------------------------

// AU-03
#[tokio::test]
async fn tasks_and_processes_whose_token_ends_at_once_renew_it_once() {
    for errors in [Errors::Status, Errors::Number, Errors::Word] {
        let cloud = cloud_with(|s| s.errors = errors).await;
        cloud.write("a", "x");
        let here = cloud.client("");
        let there = cloud.another_process(&here, "");
        list(&here.remote).await.unwrap();
        list(&there.remote).await.unwrap();
        cloud.expire_access();
        let looks = (0..16).map(|n| list(if n % 2 == 0 { &here.remote } else { &there.remote }));
        for listing in join_all(looks).await {
            assert_eq!(names(&listing.unwrap()), ["a"]);
        }
        assert_eq!(cloud.state().oauth.rotations, 1);
    }
}

// AU-04
#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_survives_a_restart() {
    let cloud = cloud_with(|s| s.access_ttl_s = 0).await;
    let client = cloud.client("");
    cloud.switch(|s| s.access_ttl_s = 7200);
    list(&client.remote).await.unwrap();
    assert_eq!(cloud.state().oauth.rotations, 1);
    assert_eq!(cloud.counters().of("list"), 1, "no request was refused");
    cloud.expire_access();
    let restarted = cloud.another_process(&client, "");
    list(&restarted.remote).await.unwrap();
}

// AU-05
#[tokio::test]
async fn after_the_end_of_a_login_no_request_is_sent_until_somebody_logs_in() {
    let cloud = cloud().await;
    cloud.write("a", "x");
    let client = cloud.client("");
    cloud.state().oauth.revoke_all();
    assert_eq!(refused(list(&client.remote).await).kind, ErrorKind::AuthExpired);
    let before = cloud.counters().requests;
    for _ in 0..20 {
        assert_eq!(refused(list(&client.remote).await).kind, ErrorKind::AuthExpired);
        assert_eq!(refused(put(&client.remote, "b", b"b").await).kind, ErrorKind::AuthExpired);
    }
    assert_eq!(cloud.counters().requests, before);
    let login = read_token(&cloud.issue_tokens().to_string()).unwrap();
    vault(&client.state).store(&login.credentials(SystemClock.now())).unwrap();
    assert_eq!(names(&list(&client.remote).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn a_token_that_is_refused_right_after_renewal_ends_the_login() {
    let cloud = cloud().await;
    let client = cloud.client("");
    cloud.fault("list", 0, 99, Fault::refuse(401, r#"{"errno":401,"errmsg":"unauthorized"}"#));
    for _ in 0..5 {
        assert_eq!(refused(list(&client.remote).await).kind, ErrorKind::AuthExpired);
    }
    assert_eq!(cloud.counters().of("list"), 3);
    assert_eq!(cloud.counters().of("token"), 2);
}

#[tokio::test]
async fn a_token_that_ends_in_the_moment_after_its_renewal_is_renewed_again() {
    let cloud = cloud().await;
    let client = cloud.client("");
    cloud.fault("list", 0, 2, Fault::refuse(401, r#"{"errno":401,"errmsg":"unauthorized"}"#));
    assert_eq!(names(&list(&client.remote).await.unwrap()), Vec::<String>::new());
    assert_eq!(cloud.counters().of("token"), 2);
}

/// Real time, but nobody waits long.
struct Hurried;

#[async_trait::async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / 500).await;
    }
}

fn hurried_http(cloud: &DiskTopCloud) -> Http {
    Http::new(Settings::new(Origins::new(cloud.base(), &[], false)), Arc::new(Hurried)).unwrap()
}

/// Somebody who does with a login what a test wants.
#[derive(Default)]
struct Person {
    code: Arc<Mutex<Option<String>>>,
    link: Option<tokio::sync::oneshot::Sender<String>>,
}

impl Prompt for Person {
    fn device_code(&mut self, code: &str, link: &str, direct: Option<&str>) {
        assert!(direct.unwrap().starts_with(link));
        *self.code.lock().unwrap() = Some(code.to_owned());
    }

    fn browser(&mut self, link: &str) {
        self.link.take().unwrap().send(link.to_owned()).unwrap();
    }
}

#[tokio::test]
async fn a_login_by_device_code_waits_for_the_person() {
    for pending_is_200 in [false, true] {
        let cloud = Arc::new(cloud_with(|s| s.pending_is_200 = pending_is_200).await);
        let app = disktop::api::oauth_app(&cloud.base(), CLIENT_ID, None);
        let mut person = Person::default();
        let (asked, service) = (AtomicU32::new(0), Arc::downgrade(&cloud));
        let code = person.code.clone();
        cloud.hook(move |_, label, phase| {
            // Approved at the third poll; an unknown error on the way does not matter.
            let poll = label == "device-token" && phase == Phase::Before;
            if poll && asked.fetch_add(1, Ordering::SeqCst) == 2 {
                let code = code.lock().unwrap().clone();
                assert!(service.upgrade().unwrap().state().oauth.decide(code.as_deref(), true));
            }
        });
        cloud.fault("device-token", 1, 1, Fault::refuse(400, r#"{"error":"mystery"}"#));
        let granted = device_login(&hurried_http(&cloud), &app, &mut person).await.unwrap();
        assert!(granted.refresh_token.is_some());
        assert_eq!(granted.expires_in_s, Some(7200));
        cloud.hook(|_, _, _| ());
    }
}

#[tokio::test]
async fn a_login_that_is_denied_says_so() {
    let cloud = Arc::new(cloud().await);
    let app = disktop::api::oauth_app(&cloud.base(), CLIENT_ID, None);
    let service = Arc::downgrade(&cloud);
    cloud.hook(move |_, label, phase| {
        if label == "device-token" && phase == Phase::Before {
            service.upgrade().unwrap().state().oauth.decide(None, false);
        }
    });
    let error = device_login(&hurried_http(&cloud), &app, &mut Person::default()).await;
    let error = refused(error);
    assert_eq!(error.kind, ErrorKind::AuthExpired);
    assert!(error.context.contains("denied"), "{error}");
    cloud.hook(|_, _, _| ());
}

#[tokio::test]
async fn a_login_in_the_browser_comes_back_over_a_loopback_port() {
    let cloud = cloud().await;
    let app = disktop::api::oauth_app(&cloud.base(), CLIENT_ID, None);
    let http =
        Http::new(Settings::new(Origins::new(cloud.base(), &[], false)), Arc::new(SystemClock));
    let http = http.unwrap();
    let (link, opened) = tokio::sync::oneshot::channel();
    let mut person = Person { link: Some(link), ..Person::default() };
    let browser = async {
        let never = reqwest::redirect::Policy::none();
        let browser = reqwest::Client::builder().redirect(never).no_proxy().build().unwrap();
        let reply = browser.get(opened.await.unwrap()).send().await.unwrap();
        let back = reply.headers()["location"].to_str().unwrap().to_owned();
        // A page of somebody else comes first: another path, then another state.
        let (home, _) = back.split_once("/oauth").unwrap();
        assert_eq!(browser.get(format!("{home}/favicon.ico")).send().await.unwrap().status(), 404);
        let forged = format!("{home}/oauth/callback?code=forged&state=x");
        assert_eq!(browser.get(forged).send().await.unwrap().status(), 404);
        browser.get(back).send().await.unwrap().text().await.unwrap()
    };
    let (granted, page) = tokio::join!(browser_login(&http, &app, &mut person), browser);
    assert!(granted.unwrap().refresh_token.is_some());
    assert!(page.contains("logged in"));
}

// ---- uploads ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_new_small_file_costs_three_requests() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    list(&remote).await.unwrap();
    let before = cloud.counters().requests;
    for n in 0..20 {
        put(&remote, &format!("f{n}"), format!("content {n}").as_bytes()).await.unwrap();
    }
    assert_eq!(cloud.counters().requests - before, 60);
}

// UP-03
#[tokio::test]
async fn a_session_that_has_ended_is_not_found_and_a_new_one_works() {
    for errors in [Errors::Status, Errors::Number, Errors::Word] {
        let cloud = cloud_with(|s| s.errors = errors).await;
        let client = cloud.client("");
        let content = bytes(3 * CHUNK);
        let request = request(1, "a", &content, None);
        let session = session_of(&client.remote, &request).await;
        let first = ByteRange { from: 0, len: CHUNK };
        client.remote.upload_range(&session, first, part(&content, first)).await.unwrap();
        cloud.advance(Duration::from_secs(86_401));
        let restarted = cloud.another_process(&client, "").remote;
        assert_eq!(refused(restarted.outstanding(&session).await).kind, ErrorKind::NotFound);
        let late = restarted.upload_range(&session, first, part(&content, first)).await;
        assert_eq!(refused(late).kind, ErrorKind::NotFound);
        assert_eq!(refused(restarted.finish_upload(&session).await).kind, ErrorKind::NotFound);
        restarted.abort_upload(&session).await.unwrap();
        send(&restarted, &request, &content).await.unwrap();
        assert!(cloud.read("a").unwrap() == content);
    }
}

// UP-04
#[tokio::test]
async fn parts_that_the_service_lost_are_asked_for_again() {
    for errors in [Errors::Status, Errors::Number] {
        let cloud = cloud_with(|s| s.errors = errors).await;
        let remote = cloud.client("").remote;
        let content = bytes(5 * CHUNK);
        let session = session_of(&remote, &request(1, "a", &content, None)).await;
        for range in remote.outstanding(&session).await.unwrap().ranges {
            remote.upload_range(&session, range, part(&content, range)).await.unwrap();
        }
        cloud.lose_part(2);
        cloud.lose_part(4);
        assert_eq!(refused(remote.finish_upload(&session).await).kind, ErrorKind::Changed);
        let missing = remote.outstanding(&session).await.unwrap().ranges;
        assert_eq!(missing.iter().map(|r| r.from / CHUNK + 1).collect::<Vec<_>>(), [2, 4]);
        for range in missing {
            remote.upload_range(&session, range, part(&content, range)).await.unwrap();
        }
        remote.finish_upload(&session).await.unwrap();
        assert!(cloud.read("a").unwrap() == content);
    }
}

// UP-01, UP-05
#[tokio::test]
async fn parts_may_go_at_once_and_in_any_order_and_none_goes_twice() {
    let cloud = cloud().await;
    let client = cloud.client("");
    let content = bytes(9 * CHUNK + 17);
    let session = session_of(&client.remote, &request(1, "a", &content, None)).await;
    let mut ranges = client.remote.outstanding(&session).await.unwrap().ranges;
    ranges.reverse();
    let (now, later) = ranges.split_at(4);
    cloud.fault("part", 2, 1, Fault::Drop);
    let sent = now.iter().map(|r| client.remote.upload_range(&session, *r, part(&content, *r)));
    let failed = join_all(sent).await.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 1);
    let restarted = cloud.another_process(&client, "").remote;
    let left = restarted.outstanding(&session).await.unwrap().ranges;
    assert_eq!(left.len(), later.len() + 1);
    let sent = left.iter().map(|r| restarted.upload_range(&session, *r, part(&content, *r)));
    assert!(join_all(sent).await.iter().all(Result::is_ok));
    restarted.finish_upload(&session).await.unwrap();
    assert!(cloud.read("a").unwrap() == content);
    assert_eq!(cloud.counters().parts_repeated, 0);
}

// UP-07
#[tokio::test]
async fn a_completion_that_seems_to_fail_but_did_not_makes_one_file() {
    let pretend = |body: &str| Fault::Pretend { status: 502, body: body.to_owned() };
    for completes_twice in [false, true] {
        for fault in
            [pretend(""), pretend(r#"{"errno":502,"errmsg":"complete failed"}"#), Fault::LoseReply]
        {
            let cloud = cloud_with(|s| s.completes_twice = completes_twice).await;
            let remote = cloud.client("").remote;
            list(&remote).await.unwrap();
            cloud.fault("complete", 0, 1, fault);
            let content = bytes(CHUNK + 1);
            let entry = put(&remote, "a", &content).await.unwrap();
            assert_eq!(list(&remote).await.unwrap().entries, [entry]);
            assert!(cloud.read("a").unwrap() == content);
        }
    }
}

// UP-07
#[tokio::test]
async fn a_completion_that_fails_for_a_while_is_asked_for_again() {
    let failed = r#"{"errno":502,"errmsg":"complete failed"}"#;
    for status in [200, 502] {
        let cloud = cloud().await;
        let remote = cloud.client("").remote;
        cloud.fault("complete", 0, 2, Fault::refuse(status, failed));
        put(&remote, "a", b"abc").await.unwrap();
        assert_eq!(cloud.read("a").unwrap(), "abc");
    }
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    cloud.fault("complete", 0, 99, Fault::refuse(502, failed));
    let error = refused(put(&remote, "a", b"abc").await);
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::Unknown));
    assert!(cloud.counters().of("complete") <= 4);
}

// UP-11
#[tokio::test]
async fn known_content_costs_no_byte() {
    let cloud = cloud().await;
    let content = bytes(5 * CHUNK);
    cloud.write("old name", content.clone());
    let remote = cloud.client("").remote;
    let entry = put(&remote, "new name", &content).await.unwrap();
    assert_eq!(entry.size, content.len() as u64);
    assert_eq!(cloud.counters().bytes_up, 0);
    assert_eq!(cloud.tree().len(), 2);
}

// UP-12
#[tokio::test]
async fn an_instant_upload_that_answers_with_somebody_elses_file_is_not_believed() {
    let cloud = cloud_with(|s| s.instant_finds_other = true).await;
    cloud.write("other/file", "same bytes");
    let old = cloud.write("a", "old");
    let remote = cloud.client("").remote;
    assert_eq!(refused(put(&remote, "new", b"same bytes").await).kind, ErrorKind::Corrupt);
    let entry = list(&remote).await.unwrap().entries[0].clone();
    let known = Known::Is(SameName::Replaces);
    let remote =
        cloud.client_knowing("", Measured { same_name: known, ..Measured::NOTHING }).remote;
    let replaced =
        send(&remote, &request(3, "a", b"same bytes", Some(&entry)), b"same bytes").await;
    assert_eq!(refused(replaced).kind, ErrorKind::Corrupt);
    assert_eq!(cloud.read("other/file").unwrap(), "same bytes");
    assert_eq!(cloud.file_id("a"), Some(old));
}

// UP-12
#[tokio::test]
async fn a_file_of_that_name_in_another_folder_is_not_the_one_that_was_uploaded() {
    let cloud = cloud_with(|s| s.instant_finds_other = true).await;
    let theirs = cloud.write("other/same", "same bytes");
    cloud.mkdir("d");
    cloud.write("z", "shows where the sandbox is");
    let remote = cloud.client("").remote;
    assert_eq!(refused(put(&remote, "same", b"same bytes").await).kind, ErrorKind::Corrupt);
    let remote = cloud.client("").remote;
    let listing = list(&remote).await.unwrap();
    let d = listing.entries.iter().find(|entry| entry.name.as_str() == "d").unwrap();
    let below = UploadRequest { parent: in_root(d), ..request(4, "same", b"same bytes", None) };
    assert_eq!(refused(send(&remote, &below, b"same bytes").await).kind, ErrorKind::Corrupt);
    // Nothing was learned from it: what is in the sandbox still is.
    let z = listing.entries.iter().find(|entry| entry.name.as_str() == "z").unwrap();
    assert_eq!(remote.stat(&in_root(z)).await.unwrap().as_ref(), Some(z));
    assert_eq!(cloud.file_id("other/same"), Some(theirs));
}

// UP-22
#[tokio::test]
async fn a_file_that_came_out_wrong_is_removed_and_not_called_uploaded() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    let last = cloud.write("b", "b");
    let next = last + 1;
    for data in [
        format!(r#"{{"file_id":{next},"size":2,"md5":"900150983cd24fb0d6963f7d28e17f72"}}"#),
        format!(r#"{{"file_id":{},"size":3,"md5":"00000000000000000000000000000000"}}"#, next + 1),
    ] {
        let body = format!(r#"{{"errno":0,"data":{data}}}"#);
        cloud.switch(|s| s.instant = false);
        cloud.fault("complete", 0, 1, Fault::Pretend { status: 200, body });
        assert_eq!(refused(put(&remote, "a", b"abc").await).kind, ErrorKind::Corrupt);
        assert_eq!(cloud.read("a"), None);
    }
    assert_eq!(cloud.read("b").unwrap(), "b");
}

// UP-17
#[tokio::test]
async fn a_part_that_broke_off_is_sent_from_its_beginning() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    let content = bytes(2 * CHUNK);
    let session = session_of(&remote, &request(1, "a", &content, None)).await;
    let ranges = remote.outstanding(&session).await.unwrap().ranges;
    for fault in [Fault::Drop, Fault::LoseReply, Fault::refuse(500, "")] {
        cloud.fault("part", 0, 1, fault);
        let error =
            refused(remote.upload_range(&session, ranges[1], part(&content, ranges[1])).await);
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }
    for range in ranges {
        remote.upload_range(&session, range, part(&content, range)).await.unwrap();
    }
    remote.finish_upload(&session).await.unwrap();
    assert!(cloud.read("a").unwrap() == content);
}

// UP-18, SE-15
#[tokio::test]
async fn hostile_demands_of_a_session_are_refused_before_a_byte_is_sent() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    let good = ("\"id\"", "\"http://127.0.0.1:9\"", "65536", "3");
    let cases = [
        ("null", good.1, good.2, good.3),
        ("\"\"", good.1, good.2, good.3),
        ("\"..\"", good.1, good.2, good.3),
        (good.0, "null", good.2, good.3),
        (good.0, "\"file:///etc/passwd\"", good.2, good.3),
        (good.0, "\"ftp://127.0.0.1/\"", good.2, good.3),
        (good.0, "\"http://user:pw@127.0.0.1/\"", good.2, good.3),
        (good.0, "\"unix:/run/x\"", good.2, good.3),
        (good.0, good.1, "0", good.3),
        (good.0, good.1, "-1", good.3),
        (good.0, good.1, "null", good.3),
        (good.0, good.1, "1", "196608"),
        (good.0, good.1, "1099511627776", "3"),
        (good.0, good.1, good.2, "2"),
        (good.0, good.1, good.2, "-3"),
        (good.0, good.1, good.2, "null"),
    ];
    let content = bytes(3 * CHUNK);
    for (id, endpoint, chunk, parts) in cases {
        let body = format!(
            r#"{{"errno":0,"data":{{"instant_upload":false,"upload_id":{id},"endpoint":{endpoint},
            "chunk_size":{chunk},"total_parts":{parts},"expires_in":86400}}}}"#
        );
        cloud.fault("precreate", 0, 1, Fault::refuse(200, &body));
        let error = refused(put(&remote, "a", &content).await);
        assert_eq!(error.kind, ErrorKind::Protocol, "{body}");
    }
    assert_eq!(cloud.counters().of("part"), 0);
}

// UP-19
#[tokio::test]
async fn a_full_account_is_told_before_any_byte_is_sent() {
    let cloud = cloud_with(|s| s.quota_bytes = Some(100)).await;
    let remote = cloud.client("").remote;
    put(&remote, "small", &bytes(60)).await.unwrap();
    assert_eq!(refused(put(&remote, "large", &bytes(60)).await).kind, ErrorKind::QuotaFull);
    assert_eq!(cloud.counters().bytes_up, 60);
    let quota = remote.quota().await.unwrap();
    assert_eq!((quota.used, quota.total), (Some(60), Some(100)));
}

// UP-24
#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let cloud = cloud().await;
    let remote = cloud.client("").remote;
    let content = bytes(2 * CHUNK);
    let session = session_of(&remote, &request(1, "a", &content, None)).await;
    assert_eq!(cloud.open_sessions(), 1);
    remote.abort_upload(&session).await.unwrap();
    assert_eq!(cloud.open_sessions(), 0);
}

// ---- downloads -------------------------------------------------------------------------------

// DL-01, DL-05
#[tokio::test]
async fn a_download_that_breaks_off_is_resumed_from_where_it_was() {
    let cloud = cloud().await;
    let content = bytes(500_000);
    cloud.write("a", content.clone());
    let remote = cloud.client("").remote;
    let entry = list(&remote).await.unwrap().entries[0].clone();
    cloud.fault("content", 0, 1, Fault::CutBody(200_000));
    let download = remote.download(&in_root(&entry), &entry.stamp(), 0).await.unwrap();
    let mut stream = download.bytes;
    let mut got = Vec::new();
    let error = loop {
        match stream.next().await.expect("an early end is an error") {
            Ok(chunk) => got.extend_from_slice(&chunk),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Unavailable);
    for fault in [None, Some(Fault::IgnoreRange)] {
        if let Some(fault) = fault {
            cloud.fault("content", 0, 1, fault);
        }
        let rest = fetch(&remote, &entry, got.len() as u64).await.unwrap();
        assert!([got.as_slice(), rest.as_slice()].concat() == content);
    }
}

// DL-08
#[tokio::test]
async fn a_link_that_has_ended_is_fetched_anew_and_is_no_matter_of_permission() {
    let cloud = cloud().await;
    cloud.write("a", "abc");
    let remote = cloud.client("").remote;
    let entry = list(&remote).await.unwrap().entries[0].clone();
    for status in [403, 410] {
        cloud.fault("content", 0, 1, Fault::refuse(status, "expired"));
        assert_eq!(fetch(&remote, &entry, 1).await.unwrap(), b"bc");
    }
    cloud.switch(|s| s.link_ttl_s = -1);
    assert_eq!(refused(fetch(&remote, &entry, 0).await).kind, ErrorKind::Unavailable);
    assert!(cloud.counters().of("content") <= 8);
}

// SE-15
#[tokio::test]
async fn a_link_to_somewhere_else_is_not_followed() {
    let cloud = cloud().await;
    cloud.write("a", "abc");
    let remote = cloud.client("").remote;
    let entry = list(&remote).await.unwrap().entries[0].clone();
    for link in ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://u:p@127.0.0.1/a", "", "a"] {
        let body = format!(r#"{{"errno":0,"data":{{"url":"{link}","expires_in":600}}}}"#);
        cloud.fault("download", 0, 1, Fault::refuse(200, &body));
        assert_eq!(refused(fetch(&remote, &entry, 0).await).kind, ErrorKind::Protocol, "{link}");
    }
}

// ---- nothing is lost, whatever fails and when -----------------------------------------------------

/// A change of a folder that holds `a` ("old") and `d/`, and what must be there in the end.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Create,
    /// In place: how the executor swaps is tried by `cloud_crash`.
    Replace,
    ReplaceByKnown,
    Move,
    MoveAndRename,
    Delete,
    Mkdir,
}

const OLD: &[u8] = b"old content";
const NEW: &[u8] = b"new content";

impl Deed {
    /// Does it as the engine would: from what is there now, whatever an earlier try has left.
    async fn attempt(self, remote: &dyn Remote) -> Result<()> {
        let root = Locator::root();
        let listing = list(remote).await?;
        let at = |wanted: &str| listing.entries.iter().find(|e| e.name.as_str() == wanted).cloned();
        let is_old = |e: &Entry| e.hash == Some(Hasher::of(HashAlgo::Md5, OLD));
        let old = at("a").filter(is_old);
        let dir = at("d").map(|d| in_root(&d));
        match self {
            Deed::Create if at("n").is_some() => Ok(()),
            Deed::Create => send(remote, &request(9, "n", NEW, None), NEW).await.map(drop),
            Deed::Replace | Deed::ReplaceByKnown => {
                let current = at("a").filter(|e| e.hash == Some(Hasher::of(HashAlgo::Md5, NEW)));
                match (current, old) {
                    (Some(_), _) => Ok(()),
                    (None, old) => {
                        let request = request(9, "a", NEW, old.as_ref());
                        send(remote, &request, NEW).await.map(drop)
                    }
                }
            }
            Deed::Move | Deed::MoveAndRename => {
                let dir = dir.expect("nothing touches the folder");
                if let Some(old) = old {
                    let here = in_root(&old);
                    remote.relocate(&here, &old.stamp(), &dir, &name("a")).await?;
                }
                self.finish_move(remote, &dir).await
            }
            Deed::Delete => match old {
                Some(old) => remote.delete(&in_root(&old), &old.stamp()).await,
                None => Ok(()),
            },
            Deed::Mkdir => remote.create_dir(&root, &name("m")).await.map(drop),
        }
    }

    /// After a half move the item is in `d` under its old name.
    async fn finish_move(self, remote: &dyn Remote, dir: &Locator) -> Result<()> {
        if !matches!(self, Deed::MoveAndRename) {
            return Ok(());
        }
        let inside = remote.list(dir, None).await?.listing;
        match inside.entries.first() {
            Some(half) if half.name.as_str() != "b" => {
                let here = below(dir, half);
                remote.relocate(&here, &half.stamp(), dir, &name("b")).await.map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_replacement(self) -> bool {
        matches!(self, Deed::Replace | Deed::ReplaceByKnown)
    }

    fn goal(self) -> Vec<(&'static str, Option<&'static [u8]>)> {
        match self {
            Deed::Create => vec![("/a", Some(OLD)), ("/d", None), ("/n", Some(NEW))],
            Deed::Replace => vec![("/a", Some(NEW)), ("/d", None)],
            Deed::ReplaceByKnown => {
                vec![("/a", Some(NEW)), ("/d", None), ("/known", Some(NEW))]
            }
            Deed::Move => vec![("/d", None), ("/d/a", Some(OLD))],
            Deed::MoveAndRename => vec![("/d", None), ("/d/b", Some(OLD))],
            Deed::Delete => vec![("/d", None)],
            Deed::Mkdir => vec![("/a", Some(OLD)), ("/d", None), ("/m", None)],
        }
    }
}

// CR-12, CR-02, EE-15, UP-09, UP-10, AU-13, MV-28, S1
#[tokio::test]
async fn whichever_request_fails_in_whatever_way_nothing_is_lost_and_a_second_try_arrives() {
    let all = [
        Deed::Create,
        Deed::Replace,
        Deed::ReplaceByKnown,
        Deed::Move,
        Deed::MoveAndRename,
        Deed::Delete,
        Deed::Mkdir,
    ];
    let faults = [Fault::Drop, Fault::LoseReply, Fault::refuse(500, "")];
    let meetings = [Meeting::Duplicates, Meeting::Replaces, Meeting::Rejects];
    let mut tried = 0;
    for meeting in meetings {
        for deed in all {
            if deed.is_replacement() && meeting != Meeting::Replaces {
                continue;
            }
            for fault in &faults {
                for n in 0.. {
                    if !survives(meeting, deed, fault.clone(), n).await {
                        break;
                    }
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} failures survived");
    assert!(tried > 250, "{tried}");
}

/// False if the deed has no n-th request.
async fn survives(meeting: Meeting, deed: Deed, fault: Fault, n: u32) -> bool {
    let case = format!("{meeting:?} {deed:?} {fault:?} {n}");
    let cloud = cloud_with(|s| {
        s.same_name_upload = meeting;
        s.same_name_move = meeting;
        s.moving_changes_id = meeting == Meeting::Rejects;
    });
    let cloud = cloud.await;
    cloud.write("a", OLD);
    cloud.mkdir("d");
    if matches!(deed, Deed::ReplaceByKnown) {
        cloud.write("known", NEW);
    }
    let known = Known::Is(SameName::Replaces);
    let measured = match meeting {
        Meeting::Replaces => Measured { same_name: known, ..Measured::NOTHING },
        Meeting::Renames | Meeting::Rejects | Meeting::Duplicates => Measured::NOTHING,
    };
    let client = cloud.client_knowing("", measured);
    client.login.token().await.unwrap();
    // The request goes wrong as often as the client itself repeats it, and once more.
    cloud.fault("*", n, 6, fault);
    let before = cloud.counters().requests;
    let outcome = deed.attempt(&client.remote).await;
    let made = cloud.counters().requests - before;
    if made <= u64::from(n) {
        assert!(outcome.is_ok(), "{case}: {outcome:?}");
        return false;
    }
    cloud.end_faults();

    // S1: what was there is there, or has been replaced by what was to replace it.
    let contents: Vec<Bytes> =
        cloud.tree().into_iter().filter_map(|(_, content)| content).collect();
    let has = |content: &[u8]| contents.iter().any(|c| c == content);
    assert!(has(OLD) || has(NEW) || matches!(deed, Deed::Delete), "{case}: {:?}", cloud.tree());
    let destroyed = || cloud.state().store.destroyed.clone();
    assert!(deed.is_replacement() || destroyed().is_empty(), "{case}");

    // Another process looks, and does what is left.
    let next = cloud.another_process(&client, "").remote;
    for _ in 0..3 {
        if let Err(error) = deed.attempt(&next).await {
            panic!("{case}: {error} after {outcome:?}\n{:?}", cloud.tree());
        }
    }
    let tree: Vec<(String, Option<Bytes>)> = cloud.tree();
    let goal: Vec<(String, Option<Bytes>)> = deed
        .goal()
        .into_iter()
        .map(|(path, content)| (path.to_owned(), content.map(Bytes::from_static)))
        .collect();
    assert_eq!(tree, goal, "{case}: after {outcome:?}");
    let replaced = destroyed().iter().all(|path| deed.is_replacement() && path == "/a");
    assert!(replaced, "{case}: {:?}", destroyed());
    true
}

// AU-13
#[tokio::test]
async fn a_change_that_met_a_server_error_is_unknown_and_not_repeated_blindly() {
    let cloud = cloud().await;
    cloud.write("a", "x");
    let remote = cloud.client("").remote;
    let entry = list(&remote).await.unwrap().entries[0].clone();
    cloud.fault("delete", 0, 1, Fault::refuse(503, ""));
    let error = refused(remote.delete(&in_root(&entry), &entry.stamp()).await);
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::Unknown));
    assert_eq!(cloud.counters().of("delete"), 1);
}

// AU-21
#[tokio::test]
async fn a_service_that_is_down_gets_a_handful_of_requests_and_not_one_for_each_file() {
    let cloud = cloud().await;
    let client = cloud.client_with("", |settings| {
        settings.backoff =
            Backoff { first: Duration::from_millis(1), most: Duration::from_secs(300) };
        settings.patience = Duration::from_millis(10);
    });
    list(&client.remote).await.unwrap();
    cloud.fault("*", 0, u32::MAX, Fault::refuse(503, ""));
    let before = cloud.counters().requests;
    for n in 0..300 {
        refused(put(&client.remote, &format!("f{n}"), b"x").await);
    }
    assert!(cloud.counters().requests - before < 20, "{:?}", cloud.counters());
}

// ---- secrets ---------------------------------------------------------------------------------

/// Collects everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// SE-06, S22
#[tokio::test]
async fn no_token_and_no_signed_link_is_ever_logged_or_told() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let cloud = cloud().await;
    let client = cloud.client("");
    let mut told = String::new();
    let content = bytes(CHUNK + 1);
    let entry = put(&client.remote, "a", &content).await.unwrap();
    for label in ["list", "precreate", "part", "complete", "download", "content", "token", "meta"] {
        for fault in [Fault::Drop, Fault::LoseReply, Fault::CutBody(3), Fault::refuse(401, "who?")]
        {
            cloud.fault(label, 0, 9, fault);
            told += &format!("{:?}", list(&client.remote).await);
            told += &format!("{:?}", put(&client.remote, "b", label.as_bytes()).await);
            told += &format!("{:?}", fetch(&client.remote, &entry, 0).await);
            told += &format!(
                "{:?} {:?}",
                client.login.token().await,
                client.remote.stat(&in_root(&entry)).await
            );
            cloud.end_faults();
            let login = read_token(&cloud.issue_tokens().to_string()).unwrap();
            vault(&client.state).store(&login.credentials(SystemClock.now())).unwrap();
        }
    }
    drop(guard);
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned() + &told;
    assert!(log.len() > 10_000);
    for secret in cloud.state().oauth.secrets() {
        assert!(!log.contains(&secret), "{secret} was told");
    }
    assert!(!log.contains("sig="), "a signed link was told");
}

// ---- several at once --------------------------------------------------------------------------

#[tokio::test]
async fn the_root_of_a_pair_is_made_with_the_folders_above_it() {
    let cloud = cloud().await;
    let remote = cloud.client("Up/Down/Pair").remote;
    assert_eq!(refused(list(&remote).await).kind, ErrorKind::RootLost);
    remote.create_root().await.unwrap();
    remote.create_root().await.unwrap();
    assert!(list(&remote).await.unwrap().entries.is_empty());
    assert_eq!(cloud.tree().len(), 3);
    let path = RelPath::new("Up/Down/Pair").unwrap();
    assert!(cloud.tree().iter().any(|(folder, _)| *folder == format!("/{path}")));
}
