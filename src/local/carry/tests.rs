//! Disks that refuse to rename between folders: every verb there, killed before each of its calls, and
//! with a user at work before each of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs as std_fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

use super::recover;
use crate::local::calls::habits::{self, Habits, Killed};
use crate::local::os::{Disk, OsOptions};
use crate::local::{FsError, FsErrorKind, Installed, Result, Sealed, StageKey};
use crate::tree::{RelPath, Stamp};

const ISLANDS: Habits = Habits {
    islands: true,
    no_flags: false,
    no_exchange: false,
    no_links: false,
    attributes: None,
    kill_before: None,
};

/// Kinds of disks on which everything must work.
fn disks() -> Vec<Habits> {
    let plain = Habits { islands: false, ..ISLANDS };
    vec![
        Habits { no_flags: true, ..plain },
        Habits { no_flags: true, no_links: true, ..plain },
        ISLANDS,
        Habits { no_exchange: true, ..ISLANDS },
        Habits { no_flags: true, ..ISLANDS },
        Habits { no_flags: true, no_links: true, attributes: Some(Errno::PERM), ..ISLANDS },
    ]
}

struct Bench {
    folder: TempDir,
    disk: Disk,
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn kind<T>(outcome: Result<T>) -> FsErrorKind {
    outcome.map(drop).unwrap_err().kind
}

/// Names of items that a listing shows, and of those below, with what they hold.
fn visible(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(below) = pending.pop() {
        for item in std_fs::read_dir(root.join(&below)).unwrap() {
            let item = item.unwrap();
            let name = super::folder::join(&below, item.file_name().to_str().unwrap());
            let kind = item.file_type().unwrap();
            if name == ".foldsync" {
                continue;
            }
            if kind.is_dir() {
                pending.push(name.clone());
                found.insert(format!("{name}/"), String::new());
            } else if kind.is_symlink() {
                let text = std_fs::read_link(item.path()).unwrap();
                found.insert(name, format!("-> {}", text.display()));
            } else {
                found.insert(name, std_fs::read_to_string(item.path()).unwrap());
            }
        }
    }
    found
}

impl Bench {
    /// Two files and a tree, on a disk as it should be.
    fn new() -> Bench {
        habits::set(Habits::default());
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), OsOptions::default()).unwrap();
        disk.claim("pair").unwrap();
        let bench = Bench { folder, disk };
        for dir in ["a", "b", "a/d", "a/d/e"] {
            std_fs::create_dir(bench.at(dir)).unwrap();
        }
        for (name, content) in [("a/f", "old"), ("a/d/g", "one"), ("a/d/e/h", "two")] {
            std_fs::write(bench.at(name), content).unwrap();
        }
        std::os::unix::fs::symlink("g", bench.at("a/d/link")).unwrap();
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn stamp(&self, at: &str) -> Stamp {
        self.disk.root.stat(&path(at)).unwrap().unwrap().stamp()
    }

    fn seal(&self, content: &'static str) -> Sealed {
        let mut part = self.disk.stage.create(&self.disk.root, StageKey(1)).unwrap();
        part.write(&[Bytes::from_static(content.as_bytes())]).unwrap();
        part.seal(&self.disk.root, None).unwrap().0
    }

    fn install(&self, sealed: &Sealed, at: &str, over: Option<&Stamp>) -> Result<Installed> {
        let (disk, aside) = (&self.disk, path("a/aside"));
        let installed =
            disk.stage.install(&disk.root, &disk.trash, sealed, &path(at), over, &aside);
        installed.map(|(installed, _)| installed)
    }

    fn trash(&self, at: &str, expected: &Stamp) -> Result<()> {
        self.disk.trash(&path(at), expected, Some(&self.disk.stage)).map(drop)
    }

    fn rename(&self, from: &str, to: &str, expected: &Stamp) -> Result<()> {
        let renamed = self.disk.rename(&path(from), &path(to), expected, Some(&self.disk.stage));
        let (entry, _) = renamed?;
        assert_eq!(entry.stamp(), self.stamp(to), "what is told is what is there");
        Ok(())
    }

    /// What the next start does.
    fn restart(&self) {
        let disk = &self.disk;
        disk.stage.clear(&disk.root, &disk.trash).unwrap();
    }

    fn trashed(&self) -> Vec<String> {
        let listed = self.disk.trash.list(&self.disk.root).unwrap();
        listed
            .iter()
            .map(|t| self.at(&format!(".foldsync/trash/{}", t.stored)))
            .map(|at| std_fs::read_to_string(at).unwrap())
            .collect()
    }

    fn visible(&self) -> BTreeMap<String, String> {
        visible(self.folder.path())
    }

    /// Nothing of ours is left, in the tree or in the stage.
    fn assert_tidy(&self, when: &str) {
        let names = self.visible();
        let internal = names.keys().find(|name| name.contains(".foldsync-"));
        assert_eq!(internal, None, "{when}: {names:?}");
        let staged = std_fs::read_dir(self.at(".foldsync/stage")).unwrap();
        let staged: Vec<_> = staged.map(|item| item.unwrap().file_name()).collect();
        assert_eq!(staged, [""; 0], "{when}");
        let trash = visible(&self.at(".foldsync/trash"));
        assert!(!trash.keys().any(|name| name.contains(".foldsync-")), "{when}: {trash:?}");
    }

    /// How often a content is somewhere where people find it.
    fn copies(&self, content: &str) -> usize {
        let shown = self.visible().into_values().filter(|c| c == content).count();
        shown + self.trashed().iter().filter(|c| *c == content).count()
    }
}

/// A verb on the files of a bench: what was expected is fixed before it begins.
type Verb = fn(&Bench) -> Box<dyn FnOnce(&Bench) -> Result<()>>;

const VERBS: [(&str, Verb); 6] = [
    ("a new file", |bench| {
        let sealed = bench.seal("new");
        Box::new(move |bench| bench.install(&sealed, "b/n", None).map(drop))
    }),
    ("a replacement", |bench| {
        let (sealed, over) = (bench.seal("new"), bench.stamp("a/f"));
        Box::new(move |bench| bench.install(&sealed, "a/f", Some(&over)).map(drop))
    }),
    ("a deletion", |bench| {
        let expected = bench.stamp("a/f");
        Box::new(move |bench| bench.trash("a/f", &expected))
    }),
    ("a move", |bench| {
        let expected = bench.stamp("a/f");
        Box::new(move |bench| bench.rename("a/f", "b/f", &expected))
    }),
    ("a move of a folder", |bench| {
        let expected = bench.stamp("a/d");
        Box::new(move |bench| bench.rename("a/d", "b/d", &expected))
    }),
    ("a file from the trash", |bench| {
        bench.trash("a/f", &bench.stamp("a/f")).unwrap();
        let stored = bench.disk.trash.list(&bench.disk.root).unwrap().remove(0).stored;
        Box::new(move |bench| {
            let disk = &bench.disk;
            disk.trash.restore(&disk.root, &disk.stage, &stored, Some(&path("b/f"))).map(drop)
        })
    }),
];

// Whatever the disk refuses, every verb does what it does elsewhere.
#[test]
fn every_verb_works_on_every_kind_of_disk() {
    let outcome = |disk: Habits, verb: Verb| {
        let bench = Bench::new();
        let act = verb(&bench);
        habits::set(disk);
        act(&bench).unwrap();
        habits::set(Habits::default());
        bench.assert_tidy("after it");
        (bench.visible(), bench.trashed())
    };
    for (name, verb) in VERBS {
        let expected = outcome(Habits::default(), verb);
        for (number, disk) in disks().into_iter().enumerate() {
            assert_eq!(outcome(disk, verb), expected, "{name} on disk {number}");
        }
    }
}

/// Runs something up to the call before which it is killed. Tells whether it was.
fn killed(disk: Habits, before: u32, work: impl FnOnce()) -> bool {
    habits::set(Habits { kill_before: Some(before), ..disk });
    let outcome = catch_unwind(AssertUnwindSafe(work));
    habits::set(disk);
    match outcome {
        Ok(()) => false,
        Err(payload) if payload.is::<Killed>() => true,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

fn assert_whole(bench: &Bench, verb: &str, when: &str) {
    bench.assert_tidy(when);
    for content in ["old", "one", "two", "-> g"] {
        let copies = bench.copies(content);
        // A deletion that is begun again puts a second copy into the trash.
        assert!(copies == 1 || (copies == 2 && content == "old"), "{when}: {copies} of {content}");
    }
    let names = bench.visible();
    assert!(!names.keys().any(|name| name.contains("recovered")), "{when}: {names:?}");
    let (here, there) = (names.contains_key("a/d/"), names.contains_key("b/d/"));
    assert!(here != there, "{when}: one whole folder, not two halves: {names:?}");
    let place = ["a/f", "b/f"].iter().filter(|at| names.contains_key(**at)).count();
    match verb {
        "a deletion" | "a file from the trash" => assert!(place <= 1, "{when}: {names:?}"),
        _ => assert_eq!(place, 1, "{when}: {names:?}"),
    }
}

// CR-03
#[test]
fn a_kill_before_any_call_loses_nothing_and_leaves_nothing() {
    for (name, verb) in VERBS {
        for (number, disk) in disks().into_iter().enumerate().filter(|(_, disk)| disk.islands) {
            let mut before = 0;
            loop {
                let bench = Bench::new();
                let act = verb(&bench);
                if !killed(disk, before, || act(&bench).unwrap()) {
                    break;
                }
                bench.restart();
                let when = format!("{name} on disk {number}, killed before call {before}");
                assert_whole(&bench, name, &when);
                before += 1;
            }
            assert!(before > 5, "{name} on disk {number} makes {before} calls");
        }
    }
}

// CR-03
#[test]
fn a_kill_while_what_a_kill_left_is_tidied_up_loses_nothing_either() {
    for (name, verb) in VERBS {
        for before in 0.. {
            let mut is_over = false;
            for then in 0.. {
                let bench = Bench::new();
                let act = verb(&bench);
                is_over = !killed(ISLANDS, before, || act(&bench).unwrap());
                let again = killed(ISLANDS, then, || bench.restart());
                bench.restart();
                let when = format!("{name} killed before call {before}, then before {then}");
                if !is_over {
                    assert_whole(&bench, name, &when);
                }
                if is_over || !again {
                    break;
                }
            }
            if is_over {
                break;
            }
        }
    }
}

/// Tells whether it wrote.
type Edit = fn(&Path) -> bool;

// ED-04, EE-04: an editor that saves at any moment. Not on disks with neither flags nor links, where
// `rename_plainly` says what may happen.
#[test]
fn an_edit_before_any_call_is_kept() {
    let edits: [(&str, Edit); 2] = [
        ("edit", |at| {
            let new = at.with_extension("tmp");
            std_fs::write(&new, "edit").and_then(|()| std_fs::rename(&new, at)).is_ok()
        }),
        // The same length as before, in place, so that only the time or the bytes tell.
        ("EDT", |at| at.exists() && std_fs::write(at, "EDT").is_ok()),
    ];
    for (name, verb) in VERBS {
        let disks = disks().into_iter().enumerate().filter(|(_, d)| !(d.no_flags && d.no_links));
        for (number, disk) in disks {
            for (text, edit) in edits {
                for before in 0.. {
                    let bench = Bench::new();
                    let act = verb(&bench);
                    let at = bench.at(if name == "a move of a folder" { "a/d/g" } else { "a/f" });
                    let wrote = Rc::new(Cell::new(false));
                    let did = Rc::clone(&wrote);
                    habits::set(disk);
                    habits::act_before(before, move || did.set(edit(&at)));
                    let outcome = act(&bench);
                    if habits::is_act_open() {
                        break;
                    }
                    habits::set(Habits::default());
                    let when = format!(
                        "{name} on disk {number}, edited before call {before}: {outcome:?}, {:?}",
                        bench.visible()
                    );
                    assert!(bench.copies(text) >= 1 || !wrote.get(), "{when}");
                    bench.restart();
                    bench.assert_tidy(&when);
                }
            }
        }
    }
}

#[test]
fn what_was_out_of_sight_is_found_in_a_folder_that_was_moved_since() {
    let mut before = 0;
    loop {
        let bench = Bench::new();
        let expected = bench.stamp("a/f");
        let work = || bench.rename("a/f", "b/f", &expected).unwrap();
        if !killed(ISLANDS, before, work) {
            break;
        }
        std_fs::rename(bench.at("a"), bench.at("A")).unwrap();
        std_fs::rename(bench.at("b"), bench.at("A/b")).unwrap();
        bench.restart();
        bench.assert_tidy(&format!("killed before call {before}"));
        assert!(bench.copies("old") >= 1, "{:?}", bench.visible());
        before += 1;
    }
}

#[test]
fn a_folder_with_something_that_cannot_be_copied_stays_as_it_is() {
    let bench = Bench::new();
    let socket = std::os::unix::net::UnixListener::bind(bench.at("a/d/e/socket")).unwrap();
    let (before, expected) = (bench.visible_but_sockets(), bench.stamp("a/d"));
    habits::set(ISLANDS);
    assert_eq!(kind(bench.rename("a/d", "b/d", &expected)), FsErrorKind::Denied);
    assert_eq!(bench.visible_but_sockets(), before);
    drop(socket);
}

impl Bench {
    fn visible_but_sockets(&self) -> usize {
        std_fs::read_dir(self.at("a/d/e")).unwrap().count()
            + std_fs::read_dir(self.at("a/d")).unwrap().count()
            + std_fs::read_dir(self.at("b")).unwrap().count()
    }
}

#[test]
fn a_name_that_is_taken_is_never_replaced() {
    for disk in disks() {
        let bench = Bench::new();
        std_fs::write(bench.at("b/f"), "taken").unwrap();
        std_fs::create_dir(bench.at("b/d")).unwrap();
        let (file, folder) = (bench.stamp("a/f"), bench.stamp("a/d"));
        let sealed = bench.seal("new");
        habits::set(disk);
        assert_eq!(kind(bench.rename("a/f", "b/f", &file)), FsErrorKind::Occupied);
        assert_eq!(kind(bench.rename("a/d", "b/d", &folder)), FsErrorKind::Occupied);
        assert_eq!(kind(bench.install(&sealed, "b/f", None)), FsErrorKind::Occupied);
        bench.restart();
        bench.assert_tidy("after it");
        assert_eq!((bench.copies("taken"), bench.copies("old"), bench.copies("one")), (1, 1, 1));
    }
}

#[test]
fn a_copy_has_the_mode_and_the_time_of_the_original() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    std_fs::set_permissions(bench.at("a/f"), PermissionsExt::from_mode(0o750)).unwrap();
    let before = std_fs::metadata(bench.at("a/f")).unwrap();
    habits::set(ISLANDS);
    bench.rename("a/f", "b/f", &bench.stamp("a/f")).unwrap();
    let after = std_fs::metadata(bench.at("b/f")).unwrap();
    assert_eq!(after.permissions(), before.permissions());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
}

#[test]
fn what_cannot_have_a_mode_or_a_time_is_sealed_without() {
    let refusals = [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    for errno in refusals {
        let bench = Bench::new();
        habits::set(Habits { attributes: Some(errno), ..Habits::default() });
        let mut part = bench.disk.stage.create(&bench.disk.root, StageKey(1)).unwrap();
        part.write(&[Bytes::from_static(b"new")]).unwrap();
        let (sealed, _) = part.seal(&bench.disk.root, Some(1_000_000_000)).unwrap();
        let installed = bench.install(&sealed, "b/n", None).unwrap();
        let Installed::Clean(entry) = installed else { panic!("nothing was displaced") };
        assert_eq!(entry.stamp(), bench.stamp("b/n"), "{errno}");
        assert!(sealed.stamp.is_renamed(&entry.stamp()), "{errno}: the stamp that the disk gave");
    }
}

#[test]
fn a_disk_that_is_read_only_or_broken_is_no_disk_without_attributes() {
    for errno in [Errno::ROFS, Errno::IO, Errno::NOSPC] {
        let bench = Bench::new();
        habits::set(Habits { attributes: Some(errno), ..Habits::default() });
        let part = bench.disk.stage.create(&bench.disk.root, StageKey(1)).unwrap();
        assert!(part.seal(&bench.disk.root, None).is_err(), "{errno}");
    }
}

#[test]
fn records_that_say_nothing_are_dropped() {
    let bench = Bench::new();
    std_fs::write(bench.at(".foldsync/stage/move-0123456789abcdef"), "{\"Move\":").unwrap();
    let unflushed: std::result::Result<_, FsError> =
        recover(&bench.disk.root, &bench.disk.stage, &bench.disk.trash);
    assert_eq!(unflushed.unwrap().len(), 0);
    bench.assert_tidy("after it");
}
