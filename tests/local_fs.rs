//! The real disk: the contract of `LocalFs`, and what only a real disk can do to us.

#![allow(clippy::unwrap_used)]

mod contract;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use contract::local_fs::{Disk, entry, kind, names, path, pattern, put, read_all, skipped, stamp};
use foldsync::clock::{Clock, Timestamp};
use foldsync::local::os::{OsFs, OsOptions};
use foldsync::local::root::{OpenError, RootId, Symlinks};
use foldsync::local::{FsErrorKind, LocalFs, SkipReason, StageKey};
use foldsync::tree::{HashAlgo, Hasher, Name, RelPath, Stamp};
use tempfile::TempDir;

/// A temporary folder, its user, and a sentinel beside it that nobody may touch.
struct TempDisk {
    base: TempDir,
}

impl TempDisk {
    fn new() -> TempDisk {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("root")).unwrap();
        fs::create_dir(base.path().join("victim")).unwrap();
        fs::write(base.path().join("victim/f"), "sentinel").unwrap();
        TempDisk { base }
    }

    fn open(&self) -> OsFs {
        OsFs::open(&self.root(), OsOptions::default()).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    fn victim(&self) -> PathBuf {
        self.base.path().join("victim")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }
}

impl Disk for TempDisk {
    fn write(&self, path: &str, content: &[u8]) {
        let before = fs::metadata(self.at(path)).ok();
        loop {
            fs::write(self.at(path), content).unwrap();
            let now = fs::metadata(self.at(path)).unwrap();
            let times = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec());
            // Kernels before 6.13 count time in ticks of some milliseconds.
            if before.as_ref().is_none_or(|before| times(before) != times(&now)) {
                return;
            }
        }
    }

    fn write_secretly(&self, path: &str, content: &[u8]) {
        let before = fs::metadata(self.at(path)).unwrap();
        self.write(path, content);
        let file = fs::File::options().write(true).open(self.at(path)).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir(self.at(path)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).or_else(|_| fs::remove_dir(self.at(path))).unwrap();
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.at(path)).ok()
    }

    fn trash(&self) -> Vec<(String, Vec<u8>)> {
        let fs = self.open();
        let listed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(fs.list_trash()).unwrap()
        });
        let listed = listed.join().unwrap();
        let content = |stored: &str| fs::read(self.at(".foldsync/trash").join(stored)).unwrap();
        listed.iter().map(|t| (t.path.as_str().to_owned(), content(t.stored.as_str()))).collect()
    }

    fn displace(&self, key: StageKey, content: &[u8]) {
        // No file has inode 1, so this is not what was staged under that name.
        let name = format!(".foldsync/stage/{}.1", key.0);
        fs::write(self.at(&name), content).unwrap();
    }

    fn reopen(&self) -> Box<dyn LocalFs> {
        Box::new(self.open())
    }
}

mod keeps_the_contract {
    use super::TempDisk;

    fn bench() -> (foldsync::local::os::OsFs, TempDisk) {
        let disk = TempDisk::new();
        (disk.open(), disk)
    }

    crate::local_fs_contract!(bench());
}

// ---- running again elsewhere -------------------------------------------------------------------

/// Runs one test of this file again in a child process. `false`, with the reason printed, if the
/// child cannot be started at all.
fn again(test: &str, mut launcher: Command, mark: &str) -> bool {
    launcher.arg(std::env::current_exe().unwrap());
    launcher.args(["--exact", test, "--nocapture"]).env(mark, "1");
    match launcher.status() {
        Ok(status) => assert!(status.success(), "{test} failed in a child process"),
        Err(e) => println!("skipped {test}: no child process: {e}"),
    }
    false
}

/// Whether to go on in this process: root ignores modes, so root runs the test as somebody else.
fn as_common_user(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let mut launcher = Command::new("env");
    launcher.uid(65534).gid(65534).current_dir("/");
    // Only a child that can reach the test's own program is worth starting.
    let mut probe = Command::new("test");
    probe.arg("-x").arg(std::env::current_exe().unwrap()).uid(65534).gid(65534).current_dir("/");
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped {test}: nobody cannot run {:?}", std::env::current_exe());
        return false;
    }
    again(test, launcher, "FOLDSYNC_TEST_COMMON")
}

/// Whether to go on in this process, which may then mount what it likes.
fn with_own_mounts(test: &str) -> bool {
    if std::env::var_os("FOLDSYNC_TEST_MOUNTS").is_some() {
        return true;
    }
    let mut probe = Command::new("unshare");
    probe.args(["-rm", "true"]).stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped {test}: no namespaces for common users here");
        return false;
    }
    let mut launcher = Command::new("unshare");
    launcher.arg("-rm");
    again(test, launcher, "FOLDSYNC_TEST_MOUNTS")
}

fn mount(arguments: &[&str], at: &std::path::Path) {
    let status = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &std::path::Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

async fn claimed() -> (OsFs, TempDisk) {
    let disk = TempDisk::new();
    let fs = disk.open();
    fs.claim("pair").await.unwrap();
    (fs, disk)
}

impl TempDisk {
    fn assert_victim_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.victim()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["f"]);
        assert_eq!(fs::read(self.victim().join("f")).unwrap(), b"sentinel");
    }
}

// ---- links -------------------------------------------------------------------------------------

// SE-02
#[tokio::test]
async fn nothing_is_reached_through_a_planted_link() {
    let (fs, disk) = claimed().await;
    disk.write("own", b"own");
    let own = stamp(&fs, "own").await;
    disk.mkdir("real");
    let real = stamp(&fs, "real").await;
    symlink(disk.victim(), disk.at("d")).unwrap();
    assert_eq!(kind(fs.list(&path("d")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.stat(&path("d")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.stat(&path("d/f")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.open(&path("d/f"), &own, 0).await.map(drop)), FsErrorKind::Denied);
    assert_eq!(kind(fs.hash(&path("d/f"), &own, HashAlgo::Md5).await), FsErrorKind::Denied);
    assert_eq!(kind(put(&fs, 1, "d/x", b"x", None).await), FsErrorKind::Denied);
    assert_eq!(kind(put(&fs, 2, "d/f", b"x", Some(&own)).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.create_dir(&path("d/e")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.create_dir(&path("d")).await), FsErrorKind::Occupied);
    assert_eq!(kind(fs.rename(&path("own"), &path("d/own"), &own).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.rename(&path("d/f"), &path("f"), &own).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.rename(&path("d"), &path("e"), &real).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.trash(&path("d/f"), &own).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.trash(&path("d"), &own).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.remove_dir(&path("d/e")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.remove_dir(&path("d")).await), FsErrorKind::Changed);
    disk.assert_victim_untouched();
    assert_eq!(skipped(&fs, "").await, [("d".to_owned(), SkipReason::Symlink)]);
}

// SE-03, ED-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_flips_to_a_link_and_back_lets_nothing_out() {
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    symlink(disk.victim(), disk.at("link")).unwrap();
    let root = fs::File::open(disk.root()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flip = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "d", &root, "link", flip).unwrap();
            }
        });
        let work = async {
            let mut done = 0;
            for key in 0..400 {
                let at = format!("d/{key}");
                let installed = put(&fs, key, &at, b"ours", None).await;
                done += usize::from(installed.is_ok());
                if let Ok(Some(found)) = fs.stat(&path(&at)).await {
                    let moved = format!("d/{key}.moved");
                    let _ = fs.rename(&path(&at), &path(&moved), &found.stamp()).await;
                    let _ = fs.trash(&path(&at), &found.stamp()).await;
                    let _ = put(&fs, key, &at, b"again", Some(&found.stamp())).await;
                }
                let _ = fs.create_dir(&path(&format!("d/{key}.d"))).await;
                let _ = fs.remove_dir(&path(&format!("d/{key}.d"))).await;
                let _ = fs.list(&path("d")).await;
                let _ = fs.discard(StageKey(key)).await;
            }
            done
        };
        let done = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
        stop.store(true, Ordering::Relaxed);
        assert!(done > 0, "the folder was never met as a folder");
    });
    disk.assert_victim_untouched();
}

// SE-04, FK-01
// WA-10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_lacks_an_item_that_is_being_renamed_says_so() {
    /// Longer than a tick of any file system's clock: a change within the tick of another hides.
    const PACE: Duration = Duration::from_millis(12);
    let disk = TempDisk::new();
    let os = disk.open();
    for number in 0..400 {
        fs::write(disk.at(&format!("m{number}")), "").unwrap();
    }
    fs::write(disk.at("a"), "").unwrap();
    let (over, names) = (Arc::new(AtomicBool::new(false)), [disk.at("a"), disk.at("z")]);
    let stop = over.clone();
    let mover = std::thread::spawn(move || {
        for turn in (0..2).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
            fs::rename(&names[turn], &names[1 - turn]).unwrap();
            std::thread::sleep(PACE);
        }
    });
    let mut steady = 0;
    for _ in 0..300 {
        let listing = os.list(&RelPath::root()).await.unwrap();
        let is_seen = listing.entries.iter().any(|e| matches!(e.name.as_str(), "a" | "z"));
        assert!(is_seen || listing.unsteady, "{} entries", listing.entries.len());
        steady += usize::from(!listing.unsteady);
    }
    over.store(true, Ordering::Relaxed);
    mover.join().unwrap();
    assert!(steady > 0, "a folder that changes now and then can be listed");
}

#[tokio::test]
async fn a_link_at_the_final_name_is_never_replaced_or_written_through() {
    let (fs, disk) = claimed().await;
    symlink(disk.victim().join("f"), disk.at("a")).unwrap();
    disk.write("own", b"own");
    let own = stamp(&fs, "own").await;
    assert_eq!(kind(put(&fs, 1, "a", b"x", None).await), FsErrorKind::Occupied);
    assert_eq!(kind(put(&fs, 2, "a", b"x", Some(&own)).await), FsErrorKind::Denied);
    disk.assert_victim_untouched();
    assert!(fs::symlink_metadata(disk.at("a")).unwrap().is_symlink());
}

// SE-04
#[tokio::test]
async fn a_link_planted_in_the_stage_is_not_written_through() {
    let (fs, disk) = claimed().await;
    symlink(disk.victim().join("f"), disk.at(".foldsync/stage/1.part")).unwrap();
    put(&fs, 1, "a", b"ours", None).await.unwrap();
    disk.assert_victim_untouched();
    assert_eq!(disk.read("a").unwrap(), b"ours");
}

// DL-17
#[tokio::test]
async fn a_staged_file_that_was_not_finished_goes_on_at_its_end() {
    let (fs, disk) = claimed().await;
    let bytes = pattern(1_500_000);
    let key = StageKey(1);
    let resume = async |max| fs.resume(key, max, HashAlgo::Md5).await.unwrap();
    assert!(resume(u64::MAX).await.is_none(), "nothing is there");
    let mut writer = fs.stage(key).await.unwrap();
    writer.write(bytes[..1_000_000].to_vec().into()).await.unwrap();
    drop(writer);
    assert!(fs.leftovers().await.unwrap()[0].resumable);
    assert!(resume(999_999).await.is_none(), "more is there than the file has");
    let resumed = resume(1_500_000).await.unwrap();
    assert_eq!(resumed.size, 1_000_000);
    let mut hasher = resumed.hasher;
    hasher.update(&bytes[1_000_000..]);
    assert_eq!(hasher.finish(), Hasher::of(HashAlgo::Md5, &bytes));
    let mut writer = resumed.writer;
    writer.write(bytes[1_000_000..].to_vec().into()).await.unwrap();
    let sealed = writer.seal(None).await.unwrap();
    assert!(!fs.leftovers().await.unwrap()[0].resumable, "it is complete");
    fs.install(sealed, &path("a"), None, &path("aside")).await.unwrap();
    assert_eq!(disk.read("a").unwrap(), bytes);
}

// SE-04
#[tokio::test]
async fn a_staged_file_that_is_a_link_is_not_gone_on_with() {
    let (fs, disk) = claimed().await;
    let part = disk.at(".foldsync/stage/1.part");
    let resume = async || fs.resume(StageKey(1), u64::MAX, HashAlgo::Md5).await;
    symlink(disk.victim().join("f"), &part).unwrap();
    assert!(!resume().await.is_ok_and(|found| found.is_some()));
    fs::remove_file(&part).unwrap();
    fs::hard_link(disk.victim().join("f"), &part).unwrap();
    assert!(resume().await.unwrap().is_none());
    put(&fs, 1, "a", b"ours", None).await.unwrap();
    disk.assert_victim_untouched();
}

// SE-02
#[tokio::test]
async fn a_link_in_place_of_the_control_folder_is_not_followed() {
    let disk = TempDisk::new();
    symlink(disk.victim(), disk.at(".foldsync")).unwrap();
    let fs = disk.open();
    assert_eq!(kind(fs.identity().await), FsErrorKind::Denied);
    assert_eq!(kind(fs.claim("pair").await), FsErrorKind::Denied);
    assert_eq!(kind(fs.leftovers().await), FsErrorKind::Denied);
    disk.assert_victim_untouched();
    fs::remove_file(disk.at(".foldsync")).unwrap();
    fs::write(disk.at(".foldsync"), "a file").unwrap();
    assert_eq!(kind(fs.claim("pair").await), FsErrorKind::Denied);
}

// FK-01, FK-04
#[tokio::test]
async fn what_is_neither_file_nor_folder_is_skipped_and_refused() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"1");
    symlink("f", disk.at("link")).unwrap();
    symlink("nowhere", disk.at("dangling")).unwrap();
    let made = Command::new("mkfifo").arg(disk.at("pipe")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(disk.at("socket")).unwrap();
    let found = skipped(&fs, "").await;
    let expected = [
        ("dangling", SkipReason::Symlink),
        ("link", SkipReason::Symlink),
        ("pipe", SkipReason::Special),
        ("socket", SkipReason::Special),
    ];
    assert_eq!(found, expected.map(|(name, reason)| (name.to_owned(), reason)));
    for (name, _) in expected {
        assert_eq!(kind(fs.stat(&path(name)).await), FsErrorKind::Denied, "{name}");
    }
    let f = stamp(&fs, "f").await;
    assert_eq!(kind(fs.open(&path("pipe"), &f, 0).await.map(drop)), FsErrorKind::Changed);
}

#[tokio::test]
async fn a_followed_link_is_read_as_a_file_and_never_changed() {
    let disk = TempDisk::new();
    let options = OsOptions { symlinks: Symlinks::Follow, ..OsOptions::default() };
    let fs = OsFs::open(&disk.root(), options).unwrap();
    fs.claim("pair").await.unwrap();
    symlink(disk.victim().join("f"), disk.at("link")).unwrap();
    symlink(disk.victim(), disk.at("dir")).unwrap();
    symlink("nowhere", disk.at("dangling")).unwrap();
    let skipped_names: Vec<_> = skipped(&fs, "").await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(skipped_names, ["dangling", "dir"]);
    let link = stamp(&fs, "link").await;
    let mut reader = fs.open(&path("link"), &link, 0).await.unwrap();
    assert_eq!(read_all(&mut *reader).await.unwrap(), b"sentinel");
    reader.verify().await.unwrap();
    let hash = fs.hash(&path("link"), &link, HashAlgo::Md5).await.unwrap();
    assert_eq!(hash, Hasher::of(HashAlgo::Md5, b"sentinel"));
    assert_eq!(kind(put(&fs, 1, "link", b"x", Some(&link)).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.rename(&path("link"), &path("l"), &link).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.trash(&path("link"), &link).await), FsErrorKind::Denied);
    disk.assert_victim_untouched();
    // The file behind it changed, then the link leads elsewhere: other versions both.
    fs::write(disk.victim().join("f"), "changed!").unwrap();
    assert_eq!(kind(reader.verify().await), FsErrorKind::Changed);
    let changed = stamp(&fs, "link").await;
    assert_eq!((changed.item.clone(), changed.rev != link.rev), (link.item.clone(), true));
    fs::remove_file(disk.at("link")).unwrap();
    disk.write("other", b"other");
    symlink("other", disk.at("link")).unwrap();
    assert_eq!(kind(fs.open(&path("link"), &changed, 0).await.map(drop)), FsErrorKind::Changed);
}

// ---- permissions -------------------------------------------------------------------------------

// FK-10
#[tokio::test]
async fn an_unreadable_folder_is_not_an_empty_one() {
    if !as_common_user("an_unreadable_folder_is_not_an_empty_one") {
        return;
    }
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    disk.write("d/f", b"1");
    chmod(&disk.at("d"), 0);
    assert_eq!(kind(fs.list(&path("d")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.stat(&path("d/f")).await), FsErrorKind::Denied);
    assert_eq!(names(&fs, "").await, ["d"]);
    // Its names can be read, what they are cannot.
    chmod(&disk.at("d"), 0o400);
    assert_eq!(skipped(&fs, "d").await, [("f".to_owned(), SkipReason::Unreadable)]);
    chmod(&disk.at("d"), 0o700);
    assert_eq!(names(&fs, "d").await, ["f"]);
}

// FK-09
#[tokio::test]
async fn an_unreadable_file_is_listed_but_not_read() {
    if !as_common_user("an_unreadable_file_is_listed_but_not_read") {
        return;
    }
    let (fs, disk) = claimed().await;
    disk.write("f", b"1");
    chmod(&disk.at("f"), 0);
    let f = stamp(&fs, "f").await;
    assert_eq!(kind(fs.open(&path("f"), &f, 0).await.map(drop)), FsErrorKind::Denied);
    assert_eq!(kind(fs.hash(&path("f"), &f, HashAlgo::Md5).await), FsErrorKind::Denied);
    disk.write("d.foldsyncignore", b"");
    disk.rename("d.foldsyncignore", ".foldsyncignore");
    chmod(&disk.at(".foldsyncignore"), 0);
    // Without its rules, nobody knows what in the folder is to be left alone.
    assert_eq!(kind(fs.list(&path("")).await), FsErrorKind::Denied);
}

// FK-11, EE-12
#[tokio::test]
async fn nothing_changes_in_a_read_only_folder() {
    if !as_common_user("nothing_changes_in_a_read_only_folder") {
        return;
    }
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    disk.write("d/f", b"1");
    let f = stamp(&fs, "d/f").await;
    chmod(&disk.at("d"), 0o555);
    assert_eq!(kind(put(&fs, 1, "d/new", b"x", None).await), FsErrorKind::Denied);
    assert_eq!(kind(put(&fs, 2, "d/f", b"x", Some(&f)).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.trash(&path("d/f"), &f).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.rename(&path("d/f"), &path("g"), &f).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.create_dir(&path("d/e")).await), FsErrorKind::Denied);
    assert_eq!(names(&fs, "d").await, ["f"]);
    assert_eq!(stamp(&fs, "d/f").await, f);
    assert_eq!(mode(&disk.at("d")), 0o555);
    chmod(&disk.at("d"), 0o755);
}

#[tokio::test]
async fn a_folder_that_may_be_used_but_not_read_takes_files() {
    if !as_common_user("a_folder_that_may_be_used_but_not_read_takes_files") {
        return;
    }
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    chmod(&disk.at("d"), 0o300);
    put(&fs, 1, "d/f", b"1", None).await.unwrap();
    assert_eq!(disk.read("d/f").unwrap(), b"1");
    chmod(&disk.at("d"), 0o700);
}

// FK-12, FK-23
#[tokio::test]
async fn a_replaced_file_keeps_its_mode_but_no_privilege() {
    let (fs, disk) = claimed().await;
    for (key, before, after) in
        [(1, 0o444, 0o444), (2, 0o750, 0o750), (3, 0o4755, 0o755), (4, 0o2755, 0o755), (5, 0, 0)]
    {
        disk.write("f", b"old");
        chmod(&disk.at("f"), before);
        let old = stamp(&fs, "f").await;
        put(&fs, key, "f", b"new", Some(&old)).await.unwrap();
        assert_eq!(mode(&disk.at("f")), after, "{before:o}");
        disk.remove("f");
    }
}

// FK-23
#[tokio::test]
async fn a_replaced_file_keeps_its_owner_and_attributes() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"old");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(disk.at("f"), "user.mark", b"blue", flags).is_err() {
        println!("skipped the attributes: this file system has none");
        return;
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(disk.at("f"), Some(1234), Some(2345)).unwrap();
    }
    let before = fs::metadata(disk.at("f")).unwrap();
    let old = stamp(&fs, "f").await;
    put(&fs, 1, "f", b"new", Some(&old)).await.unwrap();
    let mut value = [0; 10];
    let length = rustix::fs::getxattr(disk.at("f"), "user.mark", &mut value).unwrap();
    assert_eq!(&value[..length], b"blue");
    let after = fs::metadata(disk.at("f")).unwrap();
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
}

// SE-26
#[tokio::test]
async fn new_files_and_folders_are_never_writable_by_others() {
    if std::env::var_os("FOLDSYNC_TEST_UMASK").is_none() {
        let mut launcher = Command::new("sh");
        launcher.args(["-c", "umask 0; exec \"$@\"", "sh"]);
        again(
            "new_files_and_folders_are_never_writable_by_others",
            launcher,
            "FOLDSYNC_TEST_UMASK",
        );
        return;
    }
    // The folder itself is an ordinary one: this process would make it writable for all.
    let disk = TempDisk::new();
    chmod(&disk.root(), 0o755);
    let fs = disk.open();
    fs.claim("pair").await.unwrap();
    put(&fs, 1, "f", b"x", None).await.unwrap();
    fs.create_dir(&path("d")).await.unwrap();
    assert_eq!((mode(&disk.at("f")), mode(&disk.at("d"))), (0o644, 0o755));
    for own in [".foldsync", ".foldsync/stage", ".foldsync/trash"] {
        assert_eq!(mode(&disk.at(own)), 0o700, "{own}");
    }
}

// SE-26
#[tokio::test]
async fn on_a_folder_that_a_group_shares_the_group_can_use_what_is_new() {
    if std::env::var_os("FOLDSYNC_TEST_SHARED").is_none() {
        let mut launcher = Command::new("sh");
        launcher.args(["-c", "umask 002; exec \"$@\"", "sh"]);
        again(
            "on_a_folder_that_a_group_shares_the_group_can_use_what_is_new",
            launcher,
            "FOLDSYNC_TEST_SHARED",
        );
        return;
    }
    let disk = TempDisk::new();
    chmod(&disk.root(), 0o2775);
    let group = if rustix::process::geteuid().is_root() { 2345 } else { group_of(&disk.root()) };
    std::os::unix::fs::chown(disk.root(), None, Some(group)).unwrap();
    chmod(&disk.root(), 0o2775);
    let fs = disk.open();
    fs.claim("pair").await.unwrap();
    for folder in [".foldsync", ".foldsync/stage", ".foldsync/trash"] {
        assert_eq!(
            (mode(&disk.at(folder)), group_of(&disk.at(folder))),
            (0o2770, group),
            "{folder}"
        );
    }
    for file in [".foldsync/root-id", ".foldsync/.gitignore", ".foldsync/CACHEDIR.TAG"] {
        assert_eq!((mode(&disk.at(file)), group_of(&disk.at(file))), (0o640, group), "{file}");
    }
    put(&fs, 1, "f", b"x", None).await.unwrap();
    fs.create_dir(&path("d")).await.unwrap();
    put(&fs, 2, "d/g", b"x", None).await.unwrap();
    for (item, wanted) in [("f", 0o664), ("d", 0o2775), ("d/g", 0o664)] {
        assert_eq!((mode(&disk.at(item)), group_of(&disk.at(item))), (wanted, group), "{item}");
    }
    // What replaces something is as that was.
    chmod(&disk.at("f"), 0o640);
    let old = stamp(&fs, "f").await;
    put(&fs, 3, "f", b"new", Some(&old)).await.unwrap();
    assert_eq!(mode(&disk.at("f")), 0o640);
}

fn group_of(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().gid()
}

#[tokio::test]
async fn a_control_folder_of_an_older_version_is_opened_to_those_who_share_the_root() {
    let (fs, disk) = claimed().await;
    fs::write(disk.at(".foldsync/lock"), "").unwrap();
    chmod(&disk.at(".foldsync/lock"), 0o600);
    fs::remove_file(disk.at(".foldsync/.gitignore")).unwrap();
    fs.refresh_control().await;
    assert_eq!(mode(&disk.at(".foldsync")), 0o700);
    chmod(&disk.root(), 0o770);
    fs.refresh_control().await;
    for (item, wanted) in
        [("", 0o770), ("trash", 0o770), ("stage", 0o770), ("root-id", 0o640), ("lock", 0o660)]
    {
        assert_eq!(mode(&disk.at(".foldsync").join(item)), wanted, "{item}");
    }
    // So are those of a share that is open to all, as it is for containers.
    let (fs, disk) = claimed().await;
    chmod(&disk.root(), 0o777);
    fs.refresh_control().await;
    for (item, wanted) in [("", 0o777), ("trash", 0o777), ("root-id", 0o644)] {
        assert_eq!(mode(&disk.at(".foldsync").join(item)), wanted, "{item}");
    }
    // In a folder like /tmp nobody can do anything to what is another user's.
    let (fs, disk) = claimed().await;
    chmod(&disk.root(), 0o1757);
    fs.refresh_control().await;
    assert_eq!(mode(&disk.at(".foldsync")), 0o700);
}

/// An access list of Linux: tag, rights and number of each entry.
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[tokio::test]
async fn a_new_file_gets_the_default_access_list_of_its_folder() {
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    let none = u32::MAX;
    let list = [(1, 7, none), (2, 7, 4321), (4, 5, none), (0x10, 7, none), (0x20, 5, none)];
    let flags = rustix::fs::XattrFlags::empty();
    let set = |at: &std::path::Path, list: &[u8]| {
        rustix::fs::setxattr(at, "system.posix_acl_default", list, flags)
    };
    if set(&disk.at("d"), &access_list(&list)).is_err() {
        println!("skipped the access lists: this file system has none");
        return;
    }
    put(&fs, 1, "d/f", b"x", None).await.unwrap();
    put(&fs, 2, "f", b"x", None).await.unwrap();
    let of = |name: &str| {
        let mut value = [0; 100];
        let length = rustix::fs::getxattr(disk.at(name), "system.posix_acl_access", &mut value);
        length.ok().map(|length| value[..length].to_vec())
    };
    let wanted = [(1, 6, none), (2, 7, 4321), (4, 5, none), (0x10, 6, none), (0x20, 4, none)];
    assert_eq!(of("d/f"), Some(access_list(&wanted)));
    assert_eq!(of("f"), None);
}

#[tokio::test]
async fn a_control_folder_tells_git_and_backups_to_keep_out_and_leaves_what_a_person_wrote() {
    let (fs, disk) = claimed().await;
    let read = |name: &str| fs::read_to_string(disk.at(".foldsync").join(name)).unwrap();
    assert!(read(".gitignore").lines().any(|line| line == "*"));
    assert!(read("CACHEDIR.TAG").starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    fs::write(disk.at(".foldsync/.gitignore"), "mine").unwrap();
    fs::remove_file(disk.at(".foldsync/CACHEDIR.TAG")).unwrap();
    symlink(disk.victim().join("f"), disk.at(".foldsync/CACHEDIR.TAG")).unwrap();
    fs.refresh_control().await;
    assert_eq!(read(".gitignore"), "mine");
    disk.assert_victim_untouched();
    fs::remove_file(disk.at(".foldsync/CACHEDIR.TAG")).unwrap();
    fs.refresh_control().await;
    assert!(read("CACHEDIR.TAG").starts_with("Signature: "));
}

#[tokio::test]
async fn the_folder_of_the_other_side_is_no_part_of_this_one() {
    let disk = TempDisk::new();
    disk.mkdir("d");
    disk.mkdir("d/backup");
    disk.mkdir("e");
    let other = RootId::of(&disk.at("d/backup"));
    assert!(other.is_some());
    let fs = OsFs::open(&disk.root(), OsOptions { other, ..OsOptions::default() }).unwrap();
    assert_eq!(skipped(&fs, "").await, []);
    assert_eq!(skipped(&fs, "d").await, [("backup".to_owned(), SkipReason::OtherRoot)]);
}

#[tokio::test]
async fn a_root_that_cannot_be_used_is_told_by_its_reason() {
    if !as_common_user("a_root_that_cannot_be_used_is_told_by_its_reason") {
        return;
    }
    let disk = TempDisk::new();
    disk.write("f", b"1");
    disk.mkdir("d");
    chmod(&disk.at("d"), 0);
    let open = |name| OsFs::open(&disk.at(name), OsOptions::default()).map(drop);
    assert!(matches!(open("nowhere"), Err(OpenError::Missing(_))));
    assert!(matches!(open("f"), Err(OpenError::NotAFolder(_))));
    assert!(matches!(open("d"), Err(OpenError::NotReadable(_))));
    chmod(&disk.at("d"), 0o700);
    assert!(open("d").is_ok());
}

// ---- the root ----------------------------------------------------------------------------------

async fn assert_root_lost(fs: &OsFs, f: &Stamp) {
    assert_eq!(kind(fs.identity().await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.claim("other").await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.list(&path("")).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.stat(&path("nothing")).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.create_dir(&path("x")).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.remove_dir(&path("x")).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.rename(&path("f"), &path("g"), f).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.trash(&path("f"), f).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.restore(StageKey(1), &path("x")).await), FsErrorKind::RootLost);
    let mut writer = fs.stage(StageKey(1)).await.unwrap();
    writer.write(bytes::Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(kind(writer.seal(None).await), FsErrorKind::RootLost);
}

// WA-03, SF-01, SF-03
#[tokio::test]
async fn a_root_that_is_gone_or_another_one_is_lost_until_it_is_back() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"1");
    let f = stamp(&fs, "f").await;
    let away = disk.base.path().join("away");
    fs::rename(disk.root(), &away).unwrap();
    assert_root_lost(&fs, &f).await;
    fs::create_dir(disk.root()).unwrap();
    assert_root_lost(&fs, &f).await;
    assert_eq!(fs::read_dir(disk.root()).unwrap().count(), 0);
    fs::remove_dir(disk.root()).unwrap();
    fs::write(disk.root(), "a file").unwrap();
    assert_root_lost(&fs, &f).await;
    fs::remove_file(disk.root()).unwrap();
    symlink(disk.victim(), disk.root()).unwrap();
    assert_root_lost(&fs, &f).await;
    fs::remove_file(disk.root()).unwrap();
    fs::rename(&away, disk.root()).unwrap();
    assert_eq!(fs.identity().await.unwrap().as_deref(), Some("pair"));
    assert_eq!(stamp(&fs, "f").await, f);
    disk.assert_victim_untouched();
}

// SF-01: a removed root is open still, and lists as empty as far as the system is concerned.
#[tokio::test]
async fn a_root_that_was_removed_is_lost_and_not_empty() {
    let disk = TempDisk::new();
    let fs = disk.open();
    fs::remove_dir(disk.root()).unwrap();
    assert_eq!(kind(fs.list(&path("")).await), FsErrorKind::RootLost);
}

// SF-03
#[tokio::test]
async fn a_root_configured_as_a_link_is_the_folder_that_it_led_to() {
    let disk = TempDisk::new();
    let link = disk.base.path().join("link");
    symlink(disk.root(), &link).unwrap();
    let fs = OsFs::open(&link, OsOptions::default()).unwrap();
    disk.write("f", b"1");
    assert_eq!(names(&fs, "").await, ["f"]);
    fs::remove_file(&link).unwrap();
    symlink(disk.victim(), &link).unwrap();
    assert_eq!(kind(fs.list(&path("")).await), FsErrorKind::RootLost);
}

// SF-04
#[tokio::test]
async fn without_its_control_folder_a_root_takes_nothing() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"1");
    let f = stamp(&fs, "f").await;
    fs::remove_dir_all(disk.at(".foldsync")).unwrap();
    assert_eq!(fs.identity().await.unwrap(), None);
    let writer = fs.stage(StageKey(1)).await.unwrap();
    assert_eq!(kind(writer.seal(None).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.trash(&path("f"), &f).await), FsErrorKind::RootLost);
    assert_eq!(kind(fs.leftovers().await), FsErrorKind::RootLost);
    assert_eq!(names(&fs, "").await, ["f"]);
}

// FK-26, SF-13
#[tokio::test]
async fn another_file_system_below_the_root_is_left_alone() {
    if !with_own_mounts("another_file_system_below_the_root_is_left_alone") {
        return;
    }
    let (fs, disk) = claimed().await;
    disk.mkdir("usb");
    disk.mkdir("bind");
    disk.mkdir("plain");
    disk.write("file", b"1");
    disk.write("plain/f", b"1");
    let f = stamp(&fs, "plain/f").await;
    mount(&["-t", "tmpfs", "none"], &disk.at("usb"));
    mount(&["--bind", disk.at("plain").to_str().unwrap()], &disk.at("bind"));
    mount(&["--bind", disk.victim().join("f").to_str().unwrap()], &disk.at("file"));
    assert_eq!(names(&fs, "").await, ["plain"]);
    let mounts = ["bind", "file", "usb"].map(|name| (name.to_owned(), SkipReason::Mount));
    assert_eq!(skipped(&fs, "").await, mounts);
    for at in ["usb", "bind", "file"] {
        assert_eq!(kind(fs.stat(&path(at)).await), FsErrorKind::Denied);
    }
    assert_eq!(kind(fs.list(&path("usb")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.stat(&path("bind/f")).await), FsErrorKind::Denied);
    assert_eq!(kind(put(&fs, 1, "usb/x", b"x", None).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.create_dir(&path("usb")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.remove_dir(&path("usb")).await), FsErrorKind::Denied);
    assert_eq!(kind(fs.rename(&path("plain/f"), &path("usb/f"), &f).await), FsErrorKind::Denied);
    // A trash elsewhere would be a copy, and a copy is not what programs write to.
    mount(&["-t", "tmpfs", "none"], &disk.at(".foldsync/trash"));
    assert_eq!(kind(fs.trash(&path("plain/f"), &f).await), FsErrorKind::Denied);
    assert_eq!(kind(put(&fs, 2, "plain/f", b"x", Some(&f)).await), FsErrorKind::Denied);
    assert_eq!(disk.read("plain/f").unwrap(), b"1");
    disk.assert_victim_untouched();
}

// ---- trouble -----------------------------------------------------------------------------------

// EE-12, SF-13
#[tokio::test]
async fn without_a_trash_nothing_is_replaced_or_removed() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"old");
    let trash = disk.at(".foldsync/trash");
    let spoil: [&dyn Fn(); 2] =
        [&|| fs::write(&trash, "a file").unwrap(), &|| symlink(disk.victim(), &trash).unwrap()];
    for (number, spoil) in (1..).zip(spoil) {
        fs::remove_dir(&trash).or_else(|_| fs::remove_file(&trash)).unwrap();
        spoil();
        let old = stamp(&fs, "f").await;
        assert_eq!(kind(fs.trash(&path("f"), &old).await), FsErrorKind::Denied);
        let old = stamp(&fs, "f").await;
        assert_eq!(kind(put(&fs, number, "f", b"new", Some(&old)).await), FsErrorKind::Denied);
        assert_eq!(disk.read("f").unwrap(), b"old");
        assert!(old.is_renamed(&stamp(&fs, "f").await), "the very file, not a copy");
        assert_eq!(names(&fs, "").await, ["f"]);
        // The new version waits in the stage, as what it is.
        let left = fs.leftovers().await.unwrap();
        assert!(left.iter().all(|leftover| !leftover.displaced));
        fs.discard(StageKey(number)).await.unwrap();
    }
    disk.assert_victim_untouched();
}

// EE-12, SF-13
#[tokio::test]
async fn on_a_full_disk_nothing_is_replaced_or_removed() {
    if !with_own_mounts("on_a_full_disk_nothing_is_replaced_or_removed") {
        return;
    }
    let disk = TempDisk::new();
    mount(&["-t", "tmpfs", "-o", "size=256k,nr_inodes=12", "none"], &disk.root());
    let fs = disk.open();
    fs.claim("pair").await.unwrap();
    disk.write("f", b"old");
    let f = stamp(&fs, "f").await;
    let mut writer = fs.stage(StageKey(1)).await.unwrap();
    let written = writer.write(pattern(1_000_000).into()).await;
    assert_eq!(kind(written), FsErrorKind::Full);
    assert_eq!(kind(writer.seal(None).await), FsErrorKind::Io, "a hole is never sealed");
    fs.discard(StageKey(1)).await.unwrap();
    // Room for the staged file's inode, but for no folder in the trash.
    let sealed = seal(&fs, 2, b"new").await;
    let mut fill = 0;
    while fs::write(disk.at(&format!("fill{fill}")), "").is_ok() {
        fill += 1;
    }
    let outcome = fs.install(sealed, &path("f"), Some(&f), &path("aside")).await;
    assert_eq!(kind(outcome), FsErrorKind::Full);
    assert_eq!(disk.read("f").unwrap(), b"old");
    let f = stamp(&fs, "f").await;
    assert_eq!(kind(fs.trash(&path("f"), &f).await), FsErrorKind::Full);
    assert_eq!(kind(fs.create_dir(&path("d")).await), FsErrorKind::Full);
    assert_eq!(disk.read("f").unwrap(), b"old");
    assert_eq!(fs.leftovers().await.unwrap().len(), 1);
}

async fn seal(fs: &OsFs, key: u64, content: &[u8]) -> foldsync::local::Sealed {
    contract::local_fs::seal(fs, key, content).await
}

// FK-25
#[tokio::test]
async fn what_a_program_writes_into_a_replaced_file_is_in_the_trash() {
    let (fs, disk) = claimed().await;
    disk.write("f", b"old");
    let mut held = fs::File::options().append(true).open(disk.at("f")).unwrap();
    let old = stamp(&fs, "f").await;
    put(&fs, 1, "f", b"new", Some(&old)).await.unwrap();
    std::io::Write::write_all(&mut held, b" and more").unwrap();
    assert_eq!(disk.read("f").unwrap(), b"new");
    assert_eq!(disk.trash(), [("f".to_owned(), b"old and more".to_vec())]);
}

// NM-04
#[tokio::test]
async fn a_name_that_is_not_text_is_skipped_and_its_neighbours_are_not() {
    let (fs, disk) = claimed().await;
    for bytes in [&b"\xff\xfea"[..], b"\xfe\xffa"] {
        fs::write(disk.root().join(std::ffi::OsStr::from_bytes(bytes)), "x").unwrap();
    }
    fs::create_dir(disk.root().join(std::ffi::OsStr::from_bytes(b"dir\xff"))).unwrap();
    disk.write("a", b"1");
    assert_eq!(names(&fs, "").await, ["a"]);
    let found = skipped(&fs, "").await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|(_, reason)| *reason == SkipReason::BadName));
}

// FK-19
#[tokio::test]
async fn absurd_times_are_taken_as_the_disk_can_hold_them() {
    let (fs, _disk) = claimed().await;
    for (key, time) in (1..).zip([i64::MIN, -1, 0, 4_300_000_000_999_999_999, i64::MAX]) {
        let name = format!("f{key}");
        let mut writer = fs.stage(StageKey(key)).await.unwrap();
        writer.write(bytes::Bytes::from_static(b"x")).await.unwrap();
        let sealed = writer.seal(Some(time)).await.unwrap();
        fs.install(sealed, &path(&name), None, &path("aside")).await.unwrap();
        let f = stamp(&fs, &name).await;
        fs.hash(&path(&name), &f, HashAlgo::Md5).await.unwrap();
    }
    assert_eq!(entry(&fs, "f2").await.rev.modified_ns(), Some(-1));
}

#[tokio::test]
async fn an_ignore_file_counts_only_if_it_is_a_file_and_up_to_a_mebibyte() {
    let (fs, disk) = claimed().await;
    disk.mkdir("d");
    disk.mkdir("d/.foldsyncignore");
    assert_eq!(fs.list(&path("d")).await.unwrap().ignore_file, None);
    symlink(disk.victim().join("f"), disk.at(".foldsyncignore")).unwrap();
    assert_eq!(fs.list(&path("")).await.unwrap().ignore_file, None);
    disk.remove(".foldsyncignore");
    let line = "a-pattern\n";
    disk.write(".foldsyncignore", line.repeat(200_000).as_bytes());
    let text = fs.list(&path("")).await.unwrap().ignore_file.unwrap();
    assert_eq!(text.len(), (1 << 20) / line.len() * line.len() - 1);
    assert!(text.lines().all(|l| l == "a-pattern"), "no line is cut");
}

// ---- depth -------------------------------------------------------------------------------------

/// Everything that is done to files, below `dirs`, each of which is created first.
async fn works_all_the_way_down(dirs: &[RelPath]) {
    let (fs, disk) = claimed().await;
    for dir in dirs {
        fs.create_dir(dir).await.unwrap();
    }
    let deepest = dirs.last().unwrap();
    let at = |name: &str| deepest.join(&Name::new(name).unwrap());
    let (f, g) = (at("f"), at("g"));
    let put = async |key, content: &[u8], over: Option<&Stamp>| {
        let sealed = seal(&fs, key, content).await;
        fs.install(sealed, &f, over, &at("aside")).await.unwrap();
        fs.stat(&f).await.unwrap().unwrap().stamp()
    };
    let one = put(1, b"one", None).await;
    let two = put(2, b"two", Some(&one)).await;
    let mut reader = fs.open(&f, &two, 0).await.unwrap();
    assert_eq!(read_all(&mut *reader).await.unwrap(), b"two");
    reader.verify().await.unwrap();
    let moved = fs.rename(&f, &g, &two).await.unwrap();
    fs.trash(&g, &moved.stamp()).await.unwrap();
    assert_eq!(fs.list(deepest).await.unwrap().entries, []);
    let trashed: Vec<RelPath> =
        fs.list_trash().await.unwrap().into_iter().map(|t| t.path).collect();
    assert_eq!(trashed, [f.clone(), g.clone()]);
    for dir in dirs.iter().rev() {
        fs.remove_dir(dir).await.unwrap();
    }
    assert_eq!(names(&fs, "").await, [""; 0]);
    let stored = fs.list_trash().await.unwrap().remove(0).stored;
    assert_eq!(fs.restore_trashed(&stored, None).await.unwrap(), f);
    assert_eq!(fs.hash(&f, &one, HashAlgo::Md5).await.map_err(|e| e.kind), {
        // Renamed into the trash and back: the same file, with another change time.
        Err(FsErrorKind::Changed)
    });
    assert_eq!(fs.stat(&f).await.unwrap().unwrap().item, one.item);
    assert_eq!(fs.empty_trash().await.unwrap(), 1);
    let left = fs::read_dir(disk.at(".foldsync/trash")).unwrap().count();
    assert_eq!(left, 0);
    remove_deep(&fs, dirs, &f).await;
}

/// A temporary folder cannot remove what is deeper than the system's longest path.
async fn remove_deep(fs: &OsFs, dirs: &[RelPath], file: &RelPath) {
    let found = fs.stat(file).await.unwrap().unwrap();
    fs.trash(file, &found.stamp()).await.unwrap();
    fs.empty_trash().await.unwrap();
    for dir in dirs.iter().rev() {
        fs.remove_dir(dir).await.unwrap();
    }
}

fn nested(depth: usize, name: &str) -> Vec<RelPath> {
    let name = Name::new(name).unwrap();
    let mut at = RelPath::root();
    (0..depth)
        .map(|_| {
            at = at.join(&name);
            at.clone()
        })
        .collect()
}

// SC-04
#[tokio::test]
async fn a_thousand_nested_folders_work_all_the_way_down() {
    works_all_the_way_down(&nested(1000, "d")).await;
}

// NM-12
#[tokio::test]
async fn paths_longer_than_the_system_takes_work_all_the_way_down() {
    works_all_the_way_down(&nested(40, &"n".repeat(120))).await;
    works_all_the_way_down(&nested(30, &"é".repeat(127))).await;
}

// ---- the trash ---------------------------------------------------------------------------------

/// A clock that stands where it was put.
struct SetClock(AtomicI64);

#[async_trait::async_trait]
impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    async fn sleep(&self, _: Duration) {}
}

const HOUR: Duration = Duration::from_secs(3600);
/// 2026-11-21 12:00:00 UTC.
const NOON: Timestamp = Timestamp(1_795_262_400_000_000_000);

async fn dated() -> (OsFs, TempDisk, Arc<SetClock>) {
    let disk = TempDisk::new();
    let clock = Arc::new(SetClock(AtomicI64::new(NOON.0)));
    let options = OsOptions { clock: clock.clone(), ..OsOptions::default() };
    let fs = OsFs::open(&disk.root(), options).unwrap();
    fs.claim("pair").await.unwrap();
    (fs, disk, clock)
}

async fn trash_new(fs: &OsFs, disk: &TempDisk, name: &str) {
    disk.write(name, name.as_bytes());
    let found = stamp(fs, name).await;
    fs.trash(&path(name), &found).await.unwrap();
}

// SF-14
#[tokio::test]
async fn the_trash_forgets_what_is_older_than_it_keeps_and_nothing_else() {
    let (fs, disk, clock) = dated().await;
    trash_new(&fs, &disk, "old").await;
    clock.0.store(NOON.plus(HOUR / 2).0, Ordering::Relaxed);
    trash_new(&fs, &disk, "old").await;
    clock.0.store(NOON.plus(5 * HOUR).0, Ordering::Relaxed);
    trash_new(&fs, &disk, "new").await;
    let folders: BTreeSet<_> = fs::read_dir(disk.at(".foldsync/trash"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        folders.into_iter().collect::<Vec<_>>(),
        ["20261121T120000Z-1", "20261121T170000Z-1"]
    );
    // What came last into a folder is an hour younger than its name: it gets its full time.
    assert_eq!(fs.expire_trash(NOON.plus(5 * HOUR), 4 * HOUR).await.unwrap(), 0);
    assert_eq!(fs.expire_trash(NOON.plus(5 * HOUR + HOUR / 2), 4 * HOUR).await.unwrap(), 2);
    let left: Vec<_> = fs.list_trash().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].path.as_str(), left[0].since, left[0].size),
        ("new", NOON.plus(5 * HOUR), 3)
    );
}

// SF-14
#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_or_writes_old_labels_empties_no_trash() {
    let (fs, disk, clock) = dated().await;
    let keep = 30 * 24 * HOUR;
    let age = async || fs.age_trash("counter", keep).await.unwrap();
    assert_eq!(age().await.files, 0);
    clock.0.store(NOON.0 - 90 * 24 * 3_600_000_000_000, Ordering::Relaxed);
    trash_new(&fs, &disk, "old").await;
    clock.0.store(NOON.0, Ordering::Relaxed);
    assert_eq!(age().await.files, 0);
    clock.0.store(NOON.plus(365 * 24 * HOUR).0, Ordering::Relaxed);
    let aged = age().await;
    assert_eq!(aged.files, 0);
    assert!(aged.jump.unwrap().to_string().contains("ahead by 365 days"));
    clock.0.store(NOON.0, Ordering::Relaxed);
    assert!(age().await.jump.is_some());
    // Counted in weeks, because nothing but this clock tells the time.
    let mut gone = 0;
    for week in 1..=7u32 {
        clock.0.store(NOON.plus(7 * week * 24 * HOUR).0, Ordering::Relaxed);
        gone += age().await.files;
        assert_eq!(gone, u64::from(week >= 6), "week {week}");
    }
}

// SF-14
#[tokio::test]
async fn a_ledger_that_is_damaged_begins_anew_and_a_trash_of_another_user_is_passed_over() {
    if !as_common_user(
        "a_ledger_that_is_damaged_begins_anew_and_a_trash_of_another_user_is_passed_over",
    ) {
        return;
    }
    let (fs, disk, clock) = dated().await;
    trash_new(&fs, &disk, "f").await;
    let theirs = disk.at(".foldsync/trash/20200101T000000Z-1");
    fs::create_dir(&theirs).unwrap();
    chmod(&theirs, 0);
    fs.age_trash("counter", HOUR).await.unwrap();
    fs::write(disk.at(".foldsync/ageing/counter"), "{").unwrap();
    clock.0.store(NOON.plus(100 * HOUR).0, Ordering::Relaxed);
    assert_eq!(fs.age_trash("counter", HOUR).await.unwrap().files, 0);
    clock.0.store(NOON.plus(200 * HOUR).0, Ordering::Relaxed);
    fs.age_trash("counter", HOUR).await.unwrap();
    clock.0.store(NOON.plus(300 * HOUR).0, Ordering::Relaxed);
    assert_eq!(fs.age_trash("counter", HOUR).await.unwrap().files, 1);
    assert_eq!(fs.list_trash().await.unwrap(), []);
    chmod(&theirs, 0o700);
}

// SF-14
#[tokio::test]
async fn cleaning_the_trash_follows_no_link_and_leaves_what_it_does_not_know() {
    let (fs, disk, _) = dated().await;
    trash_new(&fs, &disk, "f").await;
    let trash = disk.at(".foldsync/trash");
    symlink(disk.victim(), trash.join("20261121T120000Z-1/link")).unwrap();
    symlink(disk.victim(), trash.join("20200101T000000Z-1")).unwrap();
    fs::create_dir(trash.join("mine")).unwrap();
    fs::write(trash.join("mine/f"), "x").unwrap();
    assert_eq!(fs.expire_trash(NOON.plus(9 * HOUR), HOUR).await.unwrap(), 2);
    disk.assert_victim_untouched();
    assert_eq!(fs::read(trash.join("mine/f")).unwrap(), b"x");
    fs.empty_trash().await.unwrap();
    disk.assert_victim_untouched();
}

// SF-14
#[tokio::test]
async fn restoring_from_the_trash_never_overwrites() {
    let (fs, disk, _) = dated().await;
    disk.mkdir("d");
    trash_new(&fs, &disk, "d/f").await;
    trash_new(&fs, &disk, "d/f").await;
    disk.remove("d");
    let trashed = fs.list_trash().await.unwrap();
    assert_eq!(trashed.len(), 2);
    let restored = fs.restore_trashed(&trashed[1].stored, None).await.unwrap();
    assert_eq!(restored, path("d/f"));
    let again = fs.restore_trashed(&trashed[0].stored, None).await;
    assert_eq!(kind(again), FsErrorKind::Occupied);
    fs.restore_trashed(&trashed[0].stored, Some(&path("e/g"))).await.unwrap();
    assert_eq!(disk.read("e/g").unwrap(), b"d/f");
    assert_eq!(fs.list_trash().await.unwrap(), []);
    let gone = fs.restore_trashed(&trashed[0].stored, None).await;
    assert_eq!(kind(gone), FsErrorKind::NotFound);
    let out = fs.restore_trashed(&trashed[0].stored, Some(&path(".foldsync/x"))).await;
    assert!(matches!(kind(out), FsErrorKind::NotFound | FsErrorKind::BadName));
}

#[tokio::test]
async fn a_clock_that_steps_back_begins_a_new_folder_in_the_trash() {
    let (fs, disk, clock) = dated().await;
    trash_new(&fs, &disk, "f").await;
    clock.0.store(NOON.0 - 1_000_000_000, Ordering::Relaxed);
    trash_new(&fs, &disk, "f").await;
    let since: Vec<_> = fs.list_trash().await.unwrap().iter().map(|t| t.since.rfc3339()).collect();
    assert_eq!(since, ["2026-11-21T11:59:59Z", "2026-11-21T12:00:00Z"]);
}

// ED-11
#[tokio::test]
async fn a_folder_is_set_aside_with_exactly_the_rest_that_was_seen() {
    let (fs, disk) = claimed().await;
    fs::create_dir_all(disk.at("d/vendor/lib")).unwrap();
    fs::write(disk.at("d/vendor/lib/z"), "z").unwrap();
    fs::write(disk.at("d/x.o"), "object").unwrap();
    let folder = fs.stat(&path("d")).await.unwrap().unwrap().stamp();
    let rest = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    // A file that nobody knew of: everything stays.
    let moved = fs.set_rest_aside(&path("d"), &folder, &rest(&["vendor"])).await;
    assert_eq!(kind(moved), FsErrorKind::Changed);
    assert_eq!(fs::read(disk.at("d/x.o")).unwrap(), b"object");
    assert_eq!(
        fs::read_dir(disk.at(".foldsync/trash")).unwrap().count(),
        0,
        "nothing is left of it"
    );
    // Another folder under the name.
    let all = rest(&["vendor", "x.o"]);
    fs::create_dir(disk.at("e")).unwrap();
    let other = fs.stat(&path("e")).await.unwrap().unwrap().stamp();
    assert_eq!(kind(fs.set_rest_aside(&path("d"), &other, &all).await), FsErrorKind::Changed);
    // The root of another pair.
    fs::create_dir(disk.at("d/vendor/.foldsync")).unwrap();
    assert_eq!(kind(fs.set_rest_aside(&path("d"), &folder, &all).await), FsErrorKind::Denied);
    fs::remove_dir(disk.at("d/vendor/.foldsync")).unwrap();

    let kept_in = fs.set_rest_aside(&path("d"), &folder, &all).await.unwrap().unwrap();
    assert!(!disk.at("d").exists());
    assert_eq!(fs::read(disk.at(&kept_in).join("vendor/lib/z")).unwrap(), b"z");
    assert_eq!(fs.set_rest_aside(&path("d"), &folder, &all).await.unwrap(), None, "gone already");
    // It never ages out, and comes back file by file.
    assert_eq!(fs.expire_trash(NOON.plus(90_000 * HOUR), HOUR).await.unwrap(), 0);
    let trashed = fs.list_trash().await.unwrap();
    let paths: Vec<&str> = trashed.iter().map(|item| item.path.as_str()).collect();
    assert_eq!(paths, ["d/vendor/lib/z", "d/x.o"]);
    fs.restore_trashed(&trashed[1].stored, None).await.unwrap();
    assert_eq!(fs::read(disk.at("d/x.o")).unwrap(), b"object");
    assert_eq!(fs.empty_trash().await.unwrap(), 1);
}
