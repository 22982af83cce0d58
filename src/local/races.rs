//! What happens between the look at an item and the change of it: each test lets a user act there.

use std::fs as std_fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rustix::fs::{self, OFlags};
use tempfile::TempDir;

use super::flush::Flusher;
use super::install::{Looked, Unswapped, marked};
use super::os::{Disk, OsOptions};
use super::rename::rename_plainly;
use super::transfer::hash_file;
use super::{FsError, FsErrorKind, Installed, Sealed, StageKey};
use crate::clock::Timestamp;
use crate::tree::{HashAlgo, Name, RelPath, Stamp};

struct Bench {
    folder: TempDir,
    disk: Disk,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), OsOptions::default()).unwrap();
    disk.claim("pair").unwrap();
    Bench { folder, disk }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn kind<T>(outcome: Result<T, FsError>) -> FsErrorKind {
    outcome.map(drop).unwrap_err().kind
}

impl Bench {
    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        // A new file, so that even times in coarse ticks cannot make two versions look alike.
        let _ = std_fs::remove_file(self.at(path));
        std_fs::write(self.at(path), content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std_fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let listing = self.disk.root.list(&RelPath::root()).unwrap();
        listing.entries.iter().map(|e| e.name.as_str().to_owned()).collect()
    }

    fn stamp(&self, at: &str) -> Stamp {
        self.disk.root.stat(&path(at)).unwrap().unwrap().stamp()
    }

    fn seal(&self, key: u64, content: &'static str) -> Sealed {
        let mut part = self.disk.stage.create(&self.disk.root, StageKey(key)).unwrap();
        part.write(&[Bytes::from_static(content.as_bytes())]).unwrap();
        part.seal(&self.disk.root, None).unwrap().0
    }

    /// Replaces `f` by "new", with `act` between the look and the exchange.
    fn replace(&self, act: impl FnOnce(&Looked<'_>)) -> Result<Installed, FsError> {
        let sealed = self.seal(1, "new");
        let over = self.stamp("f");
        let looked = self.disk.stage.look(&self.disk.root, &sealed, &path("f"), &over).unwrap();
        act(&looked);
        looked.replace(&self.disk.trash, &path("aside.txt")).map(|(installed, _)| installed)
    }

    fn trashed(&self) -> Vec<String> {
        let listed = self.disk.trash.list(&self.disk.root).unwrap();
        listed.iter().map(|t| self.read(&format!(".foldsync/trash/{}", t.stored))).collect()
    }

    fn leftovers(&self) -> Vec<bool> {
        let left = self.disk.stage.leftovers(&self.disk.root).unwrap();
        left.iter().map(|leftover| leftover.displaced).collect()
    }
}

fn kept_as(installed: &Installed) -> &str {
    match installed {
        Installed::DisplacedEdit { kept_as, .. } => kept_as.as_str(),
        Installed::Clean(_) => panic!("nothing was displaced"),
    }
}

// EE-04
#[test]
fn an_edit_after_the_look_is_kept_beside_the_new_version() {
    let bench = bench();
    bench.write("f", "old");
    let installed = bench.replace(|_| bench.write("f", "edit")).unwrap();
    assert_eq!(kept_as(&installed), "aside.txt");
    assert_eq!((bench.read("f"), bench.read("aside.txt")), ("new".into(), "edit".into()));
    assert_eq!((bench.trashed().len(), bench.leftovers().len()), (0, 0));
}

// EE-04: written in place, through a descriptor that was open before.
#[test]
fn an_edit_in_place_after_the_look_is_kept_too() {
    let bench = bench();
    bench.write("f", "old");
    let installed = bench.replace(|_| std_fs::write(bench.at("f"), "longer edit").unwrap());
    assert_eq!(kept_as(&installed.unwrap()), "aside.txt");
    assert_eq!((bench.read("f"), bench.read("aside.txt")), ("new".into(), "longer edit".into()));
}

// EE-06
#[test]
fn a_taken_name_for_the_kept_edit_is_counted_up() {
    let bench = bench();
    bench.write("f", "old");
    bench.write("aside.txt", "1");
    std_fs::create_dir(bench.at("aside-2.txt")).unwrap();
    let installed = bench.replace(|_| bench.write("f", "edit")).unwrap();
    assert_eq!(kept_as(&installed), "aside-3.txt");
    assert_eq!(bench.read("aside-3.txt"), "edit");
    assert_eq!(bench.read("aside.txt"), "1");
}

#[test]
fn a_folder_that_took_the_name_after_the_look_is_kept_with_what_is_in_it() {
    let bench = bench();
    bench.write("f", "old");
    let installed = bench.replace(|_| {
        std_fs::remove_file(bench.at("f")).unwrap();
        std_fs::create_dir(bench.at("f")).unwrap();
        bench.write("f/x", "x");
    });
    assert_eq!(kept_as(&installed.unwrap()), "aside.txt");
    assert_eq!((bench.read("f"), bench.read("aside.txt/x")), ("new".into(), "x".into()));
}

#[test]
fn a_file_removed_after_the_look_is_not_brought_back() {
    let bench = bench();
    bench.write("f", "old");
    let outcome = bench.replace(|_| std_fs::remove_file(bench.at("f")).unwrap());
    assert_eq!(kind(outcome), FsErrorKind::Changed);
    assert_eq!(bench.names(), [""; 0]);
    assert_eq!(bench.leftovers(), [false]);
}

// EE-12
#[test]
fn if_the_edit_cannot_be_kept_it_has_its_name_back() {
    let bench = bench();
    bench.write("f", "old");
    let sealed = bench.seal(1, "new");
    let over = bench.stamp("f");
    let looked = bench.disk.stage.look(&bench.disk.root, &sealed, &path("f"), &over).unwrap();
    bench.write("f", "edit");
    let outcome = looked.replace(&bench.disk.trash, &path("no/such/folder"));
    assert_eq!(kind(outcome), FsErrorKind::NotFound);
    assert_eq!(bench.read("f"), "edit");
    assert_eq!((bench.names(), bench.leftovers()), (vec!["f".to_owned()], vec![false]));
}

// The new version's stamp must never be that of a user's later edit.
#[test]
fn the_outcome_is_what_was_staged_even_if_it_was_edited_at_once() {
    let bench = bench();
    bench.write("f", "old");
    let sealed = bench.seal(1, "new");
    let over = bench.stamp("f");
    let looked = bench.disk.stage.look(&bench.disk.root, &sealed, &path("f"), &over).unwrap();
    let witnessed = looked.witness();
    assert!(sealed.stamp.is_renamed(&witnessed.stamp()), "not what the user has there");
}

#[test]
fn without_an_exchange_a_replacement_goes_in_steps() {
    let bench = bench();
    bench.write("f", "old");
    let sealed = bench.seal(1, "new");
    let over = bench.stamp("f");
    let looked = bench.disk.stage.look(&bench.disk.root, &sealed, &path("f"), &over).unwrap();
    looked.swap_in_steps().unwrap();
    assert_eq!(bench.read("f"), "new");
    assert_eq!(bench.leftovers(), [false], "what is left is known to be the old version");
    looked.swap_in_steps().unwrap();
    assert_eq!((bench.read("f"), bench.leftovers()), ("old".into(), vec![false]));
    std_fs::remove_file(bench.at("f")).unwrap();
    let outcome = looked.swap_in_steps();
    assert!(matches!(outcome, Err(Unswapped::Failed(e)) if e.kind == FsErrorKind::NotFound));
    assert_eq!(bench.leftovers(), [false]);
}

// CR-05, S13
#[test]
fn a_kill_after_the_exchange_makes_no_conflict_of_the_old_version() {
    let bench = bench();
    bench.write("f", "old");
    let sealed = bench.seal(1, "new");
    let over = bench.stamp("f");
    let (disk, key) = (&bench.disk, StageKey(1));
    let looked = disk.stage.look(&disk.root, &sealed, &path("f"), &over).unwrap();
    looked.swap().unwrap();
    drop(looked);
    assert_eq!((bench.read("f"), bench.leftovers()), ("new".into(), vec![false]));
    disk.stage.discard(&disk.root, &disk.trash, key).unwrap();
    assert_eq!((bench.trashed(), bench.leftovers()), (vec!["old".to_owned()], vec![]));
}

// CR-05
#[test]
fn a_kill_after_the_exchange_does_not_make_an_edit_look_like_the_old_version() {
    let bench = bench();
    bench.write("f", "old");
    let sealed = bench.seal(1, "new");
    let over = bench.stamp("f");
    let (disk, key) = (&bench.disk, StageKey(1));
    let looked = disk.stage.look(&disk.root, &sealed, &path("f"), &over).unwrap();
    bench.write("f", "edit");
    looked.swap().unwrap();
    drop(looked);
    assert_eq!(bench.leftovers(), [true]);
    assert_eq!(kind(disk.stage.discard(&disk.root, &disk.trash, key)), FsErrorKind::Changed);
    disk.stage.restore(&disk.root, key, &path("kept")).unwrap();
    assert_eq!((bench.read("kept"), bench.trashed().len()), ("edit".into(), 0));
}

// ED-04
#[test]
fn an_edit_after_the_look_is_not_trashed() {
    let bench = bench();
    bench.write("f", "old");
    let expected = bench.stamp("f");
    let spot = bench.disk.root.spot(&path("f"), "trash").unwrap();
    bench.write("f", "edit");
    assert_eq!(kind(bench.disk.trash_looked(spot, &expected, None)), FsErrorKind::Changed);
    assert_eq!((bench.read("f"), bench.trashed().len()), ("edit".into(), 0));
}

// ED-04
#[test]
fn a_file_removed_after_the_look_is_gone_as_wanted() {
    let bench = bench();
    bench.write("f", "old");
    let expected = bench.stamp("f");
    let spot = bench.disk.root.spot(&path("f"), "trash").unwrap();
    std_fs::remove_file(bench.at("f")).unwrap();
    bench.disk.trash_looked(spot, &expected, None).unwrap();
    assert_eq!(bench.trashed(), [""; 0]);
}

#[test]
fn an_edit_after_the_look_is_not_renamed() {
    let bench = bench();
    bench.write("f", "old");
    let expected = bench.stamp("f");
    let root = &bench.disk.root;
    let (from, to) = (root.spot(&path("f"), "rename"), root.spot(&path("g"), "rename"));
    bench.write("f", "edit");
    let outcome = root.rename_looked(from.unwrap(), to.unwrap(), &expected, None);
    assert_eq!(kind(outcome), FsErrorKind::Changed);
    assert_eq!((bench.read("f"), bench.names()), ("edit".into(), vec!["f".to_owned()]));
}

#[test]
fn a_rename_without_help_from_the_system_replaces_nothing_either() {
    let bench = bench();
    bench.write("f", "f");
    bench.write("g", "g");
    std_fs::create_dir(bench.at("d")).unwrap();
    std_fs::create_dir(bench.at("e")).unwrap();
    let root = bench.disk.root.fd();
    for (from, to) in [("f", "g"), ("f", "d"), ("d", "g"), ("d", "e"), ("f", "f")] {
        let outcome = rename_plainly(root, from, root, to);
        assert_eq!(outcome, Err(rustix::io::Errno::EXIST), "{from} to {to}");
    }
    rename_plainly(root, "f", root, "h").unwrap();
    rename_plainly(root, "d", root, "D").unwrap();
    assert_eq!(bench.names(), ["D", "e", "g", "h"]);
    std_fs::hard_link(bench.at("g"), bench.at("i")).unwrap();
    assert_eq!(rename_plainly(root, "g", root, "i"), Err(rustix::io::Errno::EXIST));
}

#[test]
fn a_hash_that_nobody_wants_any_more_ends() {
    let bench = bench();
    bench.write("f", "old");
    let (stamp, root) = (bench.stamp("f"), &bench.disk.root);
    let hash = |wanted| hash_file(root, &path("f"), &stamp, HashAlgo::Md5, &wanted);
    assert_eq!(kind(hash(AtomicBool::new(false))), FsErrorKind::Io);
    assert!(hash(AtomicBool::new(true)).is_ok());
}

// NM-11
#[test]
fn a_marked_name_keeps_its_extension_and_fits() {
    let mark = |name: &str| marked(&Name::new(name).unwrap(), ".mark").as_str().to_owned();
    assert_eq!(mark("a.txt"), "a.mark.txt");
    assert_eq!(mark("a"), "a.mark");
    assert_eq!(mark(".bashrc"), ".bashrc.mark");
    assert_eq!(mark("a.a very long tail of words"), "a.a very long tail of words.mark");
    let long = mark(&format!("{}.txt", "é".repeat(125)));
    assert!(long.len() <= 255 && long.ends_with("é.mark.txt"));
}

// CR-11
#[tokio::test]
async fn a_failed_flush_reaches_everybody_who_waits_for_that_item_and_nobody_else() {
    let bench = bench();
    bench.write("f", "f");
    let open = |flags| {
        let at = bench.at("f");
        fs::open(at, flags, fs::Mode::empty()).unwrap()
    };
    // What is open for its path only cannot be flushed, nor can the file system through it.
    let root = fs::open(bench.folder.path(), OFlags::PATH, fs::Mode::empty()).unwrap();
    let flusher = Arc::new(Flusher::new(root));
    let calls = (0..40).map(|number| {
        let item = if number % 2 == 0 {
            open(OFlags::RDONLY)
        } else {
            fs::open(bench.folder.path(), OFlags::PATH, fs::Mode::empty()).unwrap()
        };
        let flusher = Arc::clone(&flusher);
        async move { flusher.flush(vec![item]).await.is_ok() }
    });
    let outcomes = futures_util::future::join_all(calls).await;
    let expected: Vec<bool> = (0..40).map(|number| number % 2 == 0).collect();
    assert_eq!(outcomes, expected);
}

#[test]
fn a_flusher_serves_one_runtime_after_another() {
    let bench = bench();
    let open = || fs::open(bench.folder.path(), OFlags::RDONLY, fs::Mode::empty()).unwrap();
    let flusher = Flusher::new(open());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let calls = (0..100).map(|_| flusher.flush(vec![open()]));
            let outcomes = futures_util::future::join_all(calls).await;
            assert!(outcomes.iter().all(Result::is_ok));
            // A call that is given up, with the runtime gone right after.
            let given_up = flusher.flush(vec![open()]);
            let _ = futures_util::FutureExt::now_or_never(given_up);
        });
    }
}

#[test]
fn a_clock_far_out_of_range_still_names_a_folder_in_the_trash() {
    struct Far;
    #[async_trait::async_trait]
    impl crate::clock::Clock for Far {
        fn now(&self) -> Timestamp {
            Timestamp(i64::MIN)
        }
        async fn sleep(&self, _: std::time::Duration) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let options = OsOptions { clock: Arc::new(Far), ..OsOptions::default() };
    let bench = Bench { disk: Disk::open(folder.path(), options).unwrap(), folder };
    bench.disk.claim("pair").unwrap();
    bench.write("f", "old");
    bench.disk.trash(&path("f"), &bench.stamp("f"), None).unwrap();
    assert_eq!(bench.trashed(), ["old"]);
}
