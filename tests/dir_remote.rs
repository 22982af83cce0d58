//! A plain folder as a remote: every verb, and what other users of the folder can do to us.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use foldsync::clock::SystemClock;
use foldsync::remote::dir::DirRemote;
use foldsync::remote::{
    Body, ByteRange, Effect, ErrorKind, Locator, Remote, RemoteError, UploadRequest, UploadSession,
    UploadStart,
};
use foldsync::tree::{Digest, Entry, HashAlgo, Hasher, Kind, Name, RelPath, Stamp};
use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

const TIME: i64 = 1_234_567_890_123_456_789;

struct Bench {
    base: TempDir,
    remote: DirRemote,
}

async fn bench() -> Bench {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("nas")).unwrap();
    let bench = Bench { remote: open(&base.path().join("nas")), base };
    bench.remote.claim("nas-1").await.unwrap();
    bench
}

fn open(path: &std::path::Path) -> DirRemote {
    DirRemote::open(path, Arc::new(SystemClock)).unwrap()
}

fn kind<T>(outcome: Result<T, RemoteError>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("succeeded"),
        Err(e) => e.kind,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A place by path only.
fn at(path: &str, kind: Kind) -> Locator {
    Locator { id: None, path: RelPath::new(path).unwrap(), parent_id: None, kind }
}

fn file(path: &str) -> Locator {
    at(path, Kind::File)
}

fn dir(path: &str) -> Locator {
    at(path, Kind::Dir)
}

fn body(content: &[u8]) -> Body {
    let chunks: Vec<_> = content.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    stream::iter(chunks).boxed()
}

fn request(key: u64, path: &str, content: &[u8], over: Option<Stamp>) -> UploadRequest {
    let (parent, name) = RelPath::new(path).unwrap().split_last().unwrap();
    UploadRequest {
        key,
        parent: at(parent.as_str(), Kind::Dir),
        name,
        content: Digest { size: content.len() as u64, hash: Hasher::of(HashAlgo::Sha256, content) },
        modified: Some(TIME),
        over: over.map(|stamp| (file(path), stamp)),
    }
}

async fn begin(remote: &DirRemote, request: &UploadRequest) -> UploadSession {
    match remote.begin_upload(request).await.unwrap() {
        UploadStart::Session(session) => session,
        UploadStart::Instant(_) => panic!("a folder knows no hashes"),
    }
}

async fn upload(
    remote: &DirRemote,
    key: u64,
    path: &str,
    content: &[u8],
    over: Option<Stamp>,
) -> Result<Entry, RemoteError> {
    let session = begin(remote, &request(key, path, content, over)).await;
    for range in remote.outstanding(&session).await?.ranges {
        let from = range.from as usize;
        let part = &content[from..from + range.len as usize];
        remote.upload_range(&session, range, body(part)).await?;
    }
    Ok(remote.finish_upload(&session).await?.unwrap())
}

async fn download(
    remote: &DirRemote,
    path: &str,
    expected: &Stamp,
    from: u64,
) -> Result<Vec<u8>, RemoteError> {
    let download = remote.download(&file(path), expected, from).await?;
    assert_eq!(download.rev.as_ref(), Some(&expected.rev));
    let chunks: Vec<Bytes> = download.bytes.try_collect().await?;
    Ok(chunks.concat())
}

impl Bench {
    fn at(&self, path: &str) -> PathBuf {
        self.base.path().join("nas").join(path)
    }

    fn write(&self, path: &str, content: &[u8]) {
        let before = fs::metadata(self.at(path)).ok();
        loop {
            fs::write(self.at(path), content).unwrap();
            let now = fs::metadata(self.at(path)).unwrap();
            let time = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec());
            if before.as_ref().is_none_or(|before| time(before) != time(&now)) {
                return;
            }
        }
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.at(path)).unwrap()
    }

    async fn entry(&self, path: &str) -> Entry {
        self.remote.stat(&file(path)).await.unwrap().unwrap()
    }

    async fn stamp(&self, path: &str) -> Stamp {
        self.entry(path).await.stamp()
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let page = self.remote.list(&dir(path), None).await.unwrap();
        page.listing.entries.iter().map(|e| e.name.as_str().to_owned()).collect()
    }

    /// The content of every file in the trash, sorted.
    fn trashed(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut pending = vec![self.at(".foldsync/trash")];
        while let Some(dir) = pending.pop() {
            for item in fs::read_dir(dir).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() { pending.push(path) } else { found.push(fs::read(path).unwrap()) }
            }
        }
        found.sort();
        found
    }

    /// Names in the stages, but for their locks.
    fn staged(&self) -> Vec<String> {
        let control = fs::read_dir(self.at(".foldsync")).unwrap();
        let stages = control.map(|e| e.unwrap().path());
        let stages =
            stages.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("stage"));
        let files = stages.flat_map(|stage| fs::read_dir(stage).unwrap());
        files
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .collect()
    }
}

// ---- identity ----------------------------------------------------------------------------------

// SF-05, SF-17, SF-21
#[tokio::test]
async fn the_account_is_the_marker_and_no_other_folder_has_it() {
    let bench = bench().await;
    assert_eq!(bench.remote.account().await.unwrap().key, "nas-1");
    let away = bench.base.path().join("away");
    fs::rename(bench.at(""), &away).unwrap();
    assert_eq!(kind(bench.remote.account().await), ErrorKind::RootLost);
    fs::create_dir(bench.at("")).unwrap();
    assert_eq!(kind(bench.remote.account().await), ErrorKind::RootLost);
    assert_eq!(kind(bench.remote.list(&Locator::root(), None).await), ErrorKind::RootLost);
    assert_eq!(kind(bench.remote.stat(&file("f")).await), ErrorKind::RootLost);
    assert_eq!(
        kind(bench.remote.create_dir(&Locator::root(), &name("d")).await),
        ErrorKind::RootLost
    );
    assert_eq!(kind(upload(&bench.remote, 1, "f", b"x", None).await), ErrorKind::RootLost);
    assert_eq!(kind(open(&bench.at("")).account().await), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(bench.at("")).unwrap().count(), 0, "nothing is made in its place");
    fs::remove_dir(bench.at("")).unwrap();
    fs::rename(away, bench.at("")).unwrap();
    assert_eq!(bench.remote.account().await.unwrap().key, "nas-1");
}

#[tokio::test]
async fn a_marker_that_becomes_another_one_is_a_lost_root() {
    let bench = bench().await;
    bench.remote.account().await.unwrap();
    // What has an identity keeps it.
    open(&bench.at("")).claim("nas-2").await.unwrap();
    assert_eq!(bench.remote.account().await.unwrap().key, "nas-1");
    fs::write(bench.at(".foldsync/root-id"), "nas-2\n").unwrap();
    assert_eq!(kind(bench.remote.account().await), ErrorKind::RootLost);
    assert_eq!(open(&bench.at("")).account().await.unwrap().key, "nas-2");
}

// SF-17
#[tokio::test]
async fn an_unmounted_folder_is_lost_and_not_empty() {
    let test = "an_unmounted_folder_is_lost_and_not_empty";
    if std::env::var_os("FOLDSYNC_TEST_MOUNTS").is_none() {
        let mut probe = Command::new("unshare");
        probe.args(["-rm", "true"]).stderr(std::process::Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            println!("skipped {test}: no namespaces for common users here");
            return;
        }
        let mut child = Command::new("unshare");
        child.arg("-rm").arg(std::env::current_exe().unwrap());
        child.args(["--exact", test, "--nocapture"]).env("FOLDSYNC_TEST_MOUNTS", "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        assert!(Command::new(program).args(args).arg(base.path()).status().unwrap().success());
    };
    run("mount", &["-t", "tmpfs", "none"]);
    let bench = Bench { remote: open(base.path()), base: tempfile::tempdir().unwrap() };
    bench.remote.claim("stick").await.unwrap();
    upload(&bench.remote, 1, "f", b"x", None).await.unwrap();
    run("umount", &["-l"]);
    assert_eq!(kind(bench.remote.account().await), ErrorKind::RootLost);
    assert_eq!(kind(bench.remote.list(&Locator::root(), None).await), ErrorKind::RootLost);
    assert_eq!(kind(bench.remote.stat(&file("g")).await), ErrorKind::RootLost);
}

// ---- listing and looking -----------------------------------------------------------------------

#[tokio::test]
async fn a_folder_is_one_complete_page() {
    let bench = bench().await;
    for number in 0..300 {
        bench.write(&format!("{number:03}"), b"x");
    }
    bench.write(".foldsyncignore", b"*");
    let page = bench.remote.list(&Locator::root(), None).await.unwrap();
    assert_eq!(page.next, None);
    assert_eq!((page.listing.entries.len(), page.listing.skipped.len()), (301, 0));
    assert!(page.listing.entries.is_sorted_by_key(|e| e.name.clone()));
    assert_eq!(page.listing.ignore_file, None, "what counts is the local copy");
    assert_eq!(kind(bench.remote.list(&dir("gone"), None).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn another_folder_at_the_same_path_is_not_taken_for_the_one_that_is_meant() {
    let bench = bench().await;
    let made = bench.remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    let meant = Locator { id: Some(made.item.clone()), ..dir("d") };
    bench.remote.list(&meant, None).await.unwrap();
    fs::rename(bench.at("d"), bench.at("moved")).unwrap();
    fs::create_dir(bench.at("d")).unwrap();
    assert_eq!(kind(bench.remote.list(&meant, None).await), ErrorKind::NotFound);
    assert_eq!(kind(bench.remote.create_dir(&meant, &name("e")).await), ErrorKind::NotFound);
    let request = UploadRequest { parent: meant.clone(), ..request(1, "d/f", b"x", None) };
    let session = begin(&bench.remote, &request).await;
    bench.remote.upload_range(&session, ByteRange { from: 0, len: 1 }, body(b"x")).await.unwrap();
    assert_eq!(kind(bench.remote.finish_upload(&session).await), ErrorKind::NotFound);
    bench.write("f", b"1");
    let f = bench.stamp("f").await;
    let moved = bench.remote.relocate(&file("f"), &f, &meant, &name("f")).await;
    assert_eq!(kind(moved), ErrorKind::NotFound);
    assert_eq!(kind(bench.remote.delete(&meant, &made.stamp()).await), ErrorKind::Changed);
    assert_eq!(bench.names("d").await, [""; 0]);
}

#[tokio::test]
async fn a_look_up_tells_what_is_at_the_path() {
    let bench = bench().await;
    bench.write("f", b"1");
    let before = bench.entry("f").await;
    let known = Locator { id: Some(before.item.clone()), ..file("f") };
    assert_eq!(bench.remote.stat(&known).await.unwrap(), Some(before.clone()));
    fs::rename(bench.at("f"), bench.at("g")).unwrap();
    assert_eq!(bench.remote.stat(&known).await.unwrap(), None);
    bench.write("f", b"other");
    assert_ne!(bench.remote.stat(&known).await.unwrap().unwrap().item, before.item);
    assert_eq!(bench.entry("g").await.item, before.item, "an id survives a move");
}

// SE-29
#[tokio::test]
async fn links_and_pipes_of_other_users_lead_nowhere() {
    let bench = bench().await;
    let victim = bench.base.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("f"), "sentinel").unwrap();
    symlink(&victim, bench.at("d")).unwrap();
    symlink(victim.join("f"), bench.at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(bench.at("pipe")).status().unwrap().success());
    bench.write("own", b"1");
    let own = bench.stamp("own").await;
    let page = bench.remote.list(&Locator::root(), None).await.unwrap();
    assert_eq!((page.listing.entries.len(), page.listing.skipped.len()), (1, 3));
    assert_eq!(kind(bench.remote.list(&dir("d"), None).await), ErrorKind::Forbidden);
    assert_eq!(kind(bench.remote.stat(&file("link")).await), ErrorKind::Forbidden);
    assert_eq!(kind(download(&bench.remote, "link", &own, 0).await), ErrorKind::Forbidden);
    assert_eq!(kind(upload(&bench.remote, 1, "d/x", b"x", None).await), ErrorKind::Forbidden);
    let over_link = upload(&bench.remote, 2, "link", b"x", Some(own.clone())).await;
    assert_eq!(kind(over_link), ErrorKind::Forbidden);
    let moved = bench.remote.relocate(&file("own"), &own, &dir("d"), &name("own")).await;
    assert_eq!(kind(moved), ErrorKind::Forbidden);
    assert_eq!(kind(bench.remote.delete(&file("d/f"), &own).await), ErrorKind::Forbidden);
    assert_eq!(fs::read(victim.join("f")).unwrap(), b"sentinel");
    assert_eq!(fs::read_dir(victim).unwrap().count(), 1);
}

#[tokio::test]
async fn a_folder_is_created_once_and_never_over_a_file() {
    let bench = bench().await;
    let made = bench.remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    assert_eq!(made.kind, Kind::Dir);
    let again = bench.remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    assert_eq!(again, made);
    bench.write("f", b"1");
    let over = bench.remote.create_dir(&Locator::root(), &name("f")).await;
    assert_eq!(kind(over), ErrorKind::AlreadyExists);
    let own = bench.remote.create_dir(&Locator::root(), &name(".foldsync")).await;
    assert_eq!(kind(own), ErrorKind::InvalidName);
}

// ---- uploading ---------------------------------------------------------------------------------

// FK-07
#[tokio::test]
async fn an_uploaded_file_has_its_content_and_time_whatever_its_size() {
    let bench = bench().await;
    for (key, length) in [(1, 0), (2, 1), (3, 99_999), (4, 100_000), (5, 1_500_001)] {
        let content: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let path = format!("f{key}");
        let entry = upload(&bench.remote, key, &path, &content, None).await.unwrap();
        assert_eq!(bench.read(&path), content);
        assert_eq!(entry, bench.entry(&path).await);
        assert_eq!(entry.rev.modified_ns(), Some(TIME));
        let back = download(&bench.remote, &path, &entry.stamp(), 0).await.unwrap();
        assert_eq!(back, content);
    }
    assert_eq!(bench.staged(), [""; 0]);
}

#[tokio::test]
async fn a_file_may_come_in_several_ranges_in_order() {
    let bench = bench().await;
    let session = begin(&bench.remote, &request(1, "f", b"abcdef", None)).await;
    let send = |from, len, content: &'static [u8]| {
        bench.remote.upload_range(&session, ByteRange { from, len }, body(content))
    };
    send(0, 2, b"ab").await.unwrap();
    let wanted = bench.remote.outstanding(&session).await.unwrap();
    assert_eq!(wanted.ranges, [ByteRange { from: 2, len: 4 }]);
    assert_eq!(bench.names("").await, [""; 0], "nothing is visible yet");
    send(2, 4, b"cdef").await.unwrap();
    assert_eq!(bench.remote.outstanding(&session).await.unwrap().ranges, []);
    bench.remote.finish_upload(&session).await.unwrap();
    assert_eq!(bench.read("f"), b"abcdef");
}

#[tokio::test]
async fn bytes_that_are_not_the_announced_ones_never_become_a_file() {
    let bench = bench().await;
    let session = begin(&bench.remote, &request(1, "f", b"abcdef", None)).await;
    let send = |from, len, content: &'static [u8]| {
        bench.remote.upload_range(&session, ByteRange { from, len }, body(content))
    };
    assert_eq!(kind(send(0, 6, b"abc").await), ErrorKind::Corrupt);
    assert_eq!(kind(send(0, 6, b"abcdefg").await), ErrorKind::Corrupt);
    assert_eq!(kind(send(3, 3, b"def").await), ErrorKind::Corrupt);
    let broken = stream::iter([
        Ok(Bytes::from_static(b"abc")),
        Err(std::io::Error::other("the source changed")),
    ]);
    let broken = bench.remote.upload_range(&session, ByteRange { from: 0, len: 6 }, broken.boxed());
    assert_eq!(kind(broken.await), ErrorKind::Unavailable);
    assert_eq!(kind(bench.remote.finish_upload(&session).await), ErrorKind::Corrupt);
    assert_eq!(bench.names("").await, [""; 0]);
    // After all that, the same session can still be completed.
    assert_eq!(bench.remote.outstanding(&session).await.unwrap().ranges[0].from, 0);
    send(0, 6, b"abcdef").await.unwrap();
    bench.remote.finish_upload(&session).await.unwrap();
    assert_eq!(bench.read("f"), b"abcdef");
}

#[tokio::test]
async fn a_new_file_replaces_nothing() {
    let bench = bench().await;
    bench.write("f", b"theirs");
    let refused = upload(&bench.remote, 1, "f", b"ours", None).await.unwrap_err();
    assert_eq!((refused.kind, refused.effect), (ErrorKind::AlreadyExists, Effect::None));
    assert_eq!(bench.read("f"), b"theirs");
    assert_eq!(kind(upload(&bench.remote, 2, "d/f", b"x", None).await), ErrorKind::NotFound);
}

// EE-05
#[tokio::test]
async fn a_new_version_replaces_the_expected_one_and_no_other() {
    let bench = bench().await;
    let one = upload(&bench.remote, 1, "f", b"one", None).await.unwrap();
    let two = upload(&bench.remote, 2, "f", b"two", Some(one.stamp())).await.unwrap();
    assert_eq!(bench.read("f"), b"two");
    assert_eq!(bench.trashed(), [b"one".to_vec()]);
    let late = upload(&bench.remote, 3, "f", b"late", Some(one.stamp())).await;
    assert_eq!(kind(late), ErrorKind::Changed);
    bench.write("f", b"theirs");
    let late = upload(&bench.remote, 4, "f", b"late", Some(two.stamp())).await;
    assert_eq!(kind(late), ErrorKind::Changed);
    assert_eq!(bench.read("f"), b"theirs");
    assert_eq!(bench.names("").await, ["f"]);
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let bench = bench().await;
    let content = vec![7; 2_000_000];
    let session = begin(&bench.remote, &request(1, "f", &content, None)).await;
    let range = ByteRange { from: 0, len: 2_000_000 };
    bench.remote.upload_range(&session, range, body(&content)).await.unwrap();
    assert_eq!(bench.staged(), ["1.part"]);
    bench.remote.abort_upload(&session).await.unwrap();
    bench.remote.abort_upload(&session).await.unwrap();
    assert_eq!(bench.staged(), [""; 0]);
    assert_eq!(bench.names("").await, [""; 0]);
}

// SC-01
#[tokio::test]
async fn many_files_are_uploaded_at_once() {
    let bench = bench().await;
    let each = (1..=200).map(|key| {
        let remote = &bench.remote;
        async move {
            let path = format!("f{key}");
            upload(remote, key, &path, path.as_bytes(), None).await.unwrap();
        }
    });
    futures_util::future::join_all(each).await;
    assert_eq!(bench.names("").await.len(), 200);
    assert_eq!(bench.read("f77"), b"f77");
}

// BC-18
#[tokio::test]
async fn two_processes_with_the_same_keys_do_not_touch_each_others_uploads() {
    let bench = bench().await;
    let other = open(&bench.at(""));
    let (ours, theirs) = (vec![1; 1_000_000], vec![2; 1_000_000]);
    let range = ByteRange { from: 0, len: 1_000_000 };
    let our_session = begin(&bench.remote, &request(1, "ours", &ours, None)).await;
    bench.remote.upload_range(&our_session, range, body(&ours)).await.unwrap();
    let their_session = begin(&other, &request(1, "theirs", &theirs, None)).await;
    other.upload_range(&their_session, range, body(&theirs)).await.unwrap();
    assert_eq!(bench.staged(), ["1.part", "1.part"]);
    bench.remote.finish_upload(&our_session).await.unwrap();
    other.finish_upload(&their_session).await.unwrap();
    assert_eq!((bench.read("ours"), bench.read("theirs")), (ours, theirs));
}

// CR-05
#[tokio::test]
async fn what_a_killed_process_left_in_its_stage_is_cleaned_and_what_a_user_wrote_is_saved() {
    let bench = bench().await;
    let content = vec![7; 1_000_000];
    let session = begin(&bench.remote, &request(1, "f", &content, None)).await;
    let range = ByteRange { from: 0, len: 1_000_000 };
    bench.remote.upload_range(&session, range, body(&content)).await.unwrap();
    let stage = fs::read_dir(bench.at(".foldsync"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|path| path.join("1.part").exists())
        .unwrap();
    // No file has inode 1: this one was displaced, and its installer was killed.
    fs::write(stage.join("2.1"), "theirs").unwrap();
    let Bench { base, remote } = bench;
    drop(remote);
    let bench = Bench { remote: open(&base.path().join("nas")), base };
    upload(&bench.remote, 9, "g", b"x", None).await.unwrap();
    assert_eq!(bench.staged(), [""; 0]);
    assert_eq!(bench.trashed(), [b"theirs".to_vec()]);
}

// ---- downloading -------------------------------------------------------------------------------

#[tokio::test]
async fn a_download_may_start_anywhere() {
    let bench = bench().await;
    let content: Vec<u8> = (0..600_000u32).map(|at| (at % 249) as u8).collect();
    bench.write("f", &content);
    let f = bench.stamp("f").await;
    for from in [0, 1, 262_144, 599_999, 600_000] {
        let got = download(&bench.remote, "f", &f, from).await.unwrap();
        assert_eq!(got, content[from as usize..], "from {from}");
    }
}

// DL-05
#[tokio::test]
async fn a_file_that_changes_while_it_is_downloaded_is_an_error() {
    let bench = bench().await;
    bench.write("f", &vec![1; 1_000_000]);
    let old = bench.stamp("f").await;
    let mut running = bench.remote.download(&file("f"), &old, 0).await.unwrap();
    running.bytes.next().await.unwrap().unwrap();
    bench.write("f", &vec![2; 1_000_000]);
    let rest: Result<Vec<Bytes>, RemoteError> = running.bytes.try_collect().await;
    assert_eq!(kind(rest), ErrorKind::Changed);
    assert_eq!(kind(download(&bench.remote, "f", &old, 0).await), ErrorKind::Changed);
    fs::remove_file(bench.at("f")).unwrap();
    assert_eq!(kind(download(&bench.remote, "f", &old, 0).await), ErrorKind::NotFound);
}

// ---- moving and deleting -----------------------------------------------------------------------

#[tokio::test]
async fn parent_and_name_change_in_one_step_and_the_id_stays() {
    let bench = bench().await;
    let d = bench.remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    bench.write("f", b"1");
    let f = bench.stamp("f").await;
    let parent = Locator { id: Some(d.item.clone()), ..dir("d") };
    let moved = bench.remote.relocate(&file("f"), &f, &parent, &name("g")).await.unwrap();
    assert_eq!((moved.name.as_str(), &moved.item), ("g", &f.item));
    assert_eq!(moved, bench.entry("d/g").await);
    let renamed =
        bench.remote.relocate(&parent, &d.stamp(), &Locator::root(), &name("D")).await.unwrap();
    assert_eq!(renamed.item, d.item);
    assert_eq!(bench.names("D").await, ["g"]);
}

// MV-22
#[tokio::test]
async fn a_move_never_replaces_and_moves_only_the_expected_version() {
    let bench = bench().await;
    bench.write("f", b"1");
    bench.write("g", b"2");
    let f = bench.stamp("f").await;
    let root = Locator::root();
    let onto = bench.remote.relocate(&file("f"), &f, &root, &name("g")).await;
    assert_eq!(kind(onto), ErrorKind::AlreadyExists);
    bench.write("f", b"edit");
    let old = bench.remote.relocate(&file("f"), &f, &root, &name("h")).await;
    assert_eq!(kind(old), ErrorKind::Changed);
    fs::remove_file(bench.at("f")).unwrap();
    let gone = bench.remote.relocate(&file("f"), &f, &root, &name("h")).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    assert_eq!((bench.read("g"), bench.names("").await), (b"2".to_vec(), vec!["g".to_owned()]));
}

// ED-04, ED-06
#[tokio::test]
async fn a_deleted_file_is_in_the_trash_and_only_the_expected_version_is_deleted() {
    let bench = bench().await;
    bench.write("f", b"1");
    let f = bench.stamp("f").await;
    bench.write("f", b"edit");
    assert_eq!(kind(bench.remote.delete(&file("f"), &f).await), ErrorKind::Changed);
    let f = bench.stamp("f").await;
    bench.remote.delete(&file("f"), &f).await.unwrap();
    bench.remote.delete(&file("f"), &f).await.unwrap();
    assert_eq!(bench.names("").await, [""; 0]);
    assert_eq!(bench.trashed(), [b"edit".to_vec()]);
}

// ED-12
#[tokio::test]
async fn only_an_empty_folder_is_deleted() {
    let bench = bench().await;
    let d = bench.remote.create_dir(&Locator::root(), &name("d")).await.unwrap();
    bench.write("d/new", b"1");
    assert_eq!(kind(bench.remote.delete(&dir("d"), &d.stamp()).await), ErrorKind::Changed);
    fs::remove_file(bench.at("d/new")).unwrap();
    bench.remote.delete(&dir("d"), &d.stamp()).await.unwrap();
    bench.remote.delete(&dir("d"), &d.stamp()).await.unwrap();
    assert_eq!(bench.names("").await, [""; 0]);
}

#[tokio::test]
async fn room_is_told_and_links_for_others_are_not_made() {
    let bench = bench().await;
    let quota = bench.remote.quota().await.unwrap();
    assert!(quota.used.unwrap() <= quota.total.unwrap() && quota.total.unwrap() > 0);
    assert_eq!(kind(bench.remote.share(&file("f")).await), ErrorKind::Unsupported);
}
