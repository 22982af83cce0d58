//! The disks with bad habits themselves: each habit does what it says, and nothing else. What
//! foldsync makes of them is tried in `disks.rs`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

#[path = "support/habits.rs"]
mod habits;

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use habits::{
    Births, HabitDisk, Habits, Inodes, Modes, Names, Numbers, Operation, Renames, Stamps,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempDir;

/// A mounted disk, and the folder behind it.
struct Stick {
    /// Before the folder in which it is.
    disk: Option<HabitDisk>,
    folder: TempDir,
}

impl Stick {
    /// `None` where nothing can be mounted.
    fn new(habits: &Habits) -> Option<Stick> {
        let folder = TempDir::with_prefix("foldsync-habits-").unwrap();
        for name in ["back", "at"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut stick = Stick { disk: None, folder };
        stick.plug(habits).then_some(stick)
    }

    fn plug(&mut self, habits: &Habits) -> bool {
        self.disk = HabitDisk::mount(&self.back(""), &self.at(""), habits);
        self.disk.is_some()
    }

    fn unplug(&mut self) {
        self.disk.take().unwrap().unmount().unwrap();
    }

    fn disk(&self) -> &HabitDisk {
        self.disk.as_ref().unwrap()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("at").join(path)
    }

    fn back(&self, path: &str) -> PathBuf {
        self.folder.path().join("back").join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    fn number(&self, path: &str) -> u64 {
        self.at(path).symlink_metadata().unwrap().ino()
    }

    fn names(&self) -> Vec<String> {
        let items = fs::read_dir(self.at("")).unwrap();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn code<T: std::fmt::Debug>(outcome: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&outcome.unwrap_err()).unwrap()
}

fn set_mtime(path: &Path, time: SystemTime) -> std::io::Result<()> {
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}

fn mtime(path: &Path) -> SystemTime {
    path.symlink_metadata().unwrap().modified().unwrap()
}

/// How much later a time is, in seconds; negative if it is earlier.
fn ahead(time: SystemTime, of: SystemTime) -> f64 {
    match time.duration_since(of) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    }
}

#[test]
fn without_habits_it_is_the_folder_behind() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    fs::create_dir(stick.at("d")).unwrap();
    stick.write("d/a", "one");
    assert_eq!(fs::read_to_string(stick.back("d/a")).unwrap(), "one");
    assert_eq!(stick.number("d/a"), stick.back("d/a").metadata().unwrap().ino());
    // Content: appended, rewritten in the middle, cut, longer than one request.
    let mut file = File::options().append(true).read(true).open(stick.at("d/a")).unwrap();
    file.write_all(b" two").unwrap();
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one two");
    file.set_len(3).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let long: Vec<u8> = (0..700_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    fs::write(stick.at("long"), &long).unwrap();
    assert!(fs::read(stick.at("long")).unwrap() == long);
    File::options().write(true).open(stick.at("long")).unwrap().write_at(b"!", 300_000).unwrap();
    assert_eq!(fs::read(stick.back("long")).unwrap()[300_000], b'!');
    assert_eq!(fs::read_to_string(stick.at("d/a")).unwrap(), "one");
    // Modes, times, links.
    fs::set_permissions(stick.at("d/a"), Permissions::from_mode(0o604)).unwrap();
    assert_eq!(stick.back("d/a").metadata().unwrap().mode() & 0o7777, 0o604);
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    set_mtime(&stick.at("d/a"), time).unwrap();
    assert_eq!(mtime(&stick.back("d/a")), time);
    assert_eq!(mtime(&stick.at("d/a")), time);
    std::os::unix::fs::symlink("d/a", stick.at("s")).unwrap();
    assert_eq!(fs::read_link(stick.at("s")).unwrap(), Path::new("d/a"));
    fs::hard_link(stick.at("d/a"), stick.at("b")).unwrap();
    assert_eq!(stick.number("b"), stick.number("d/a"));
    assert_eq!(stick.at("b").metadata().unwrap().nlink(), 2);
    // What is removed while it is open can still be read.
    let open = File::open(stick.at("b")).unwrap();
    fs::remove_file(stick.at("b")).unwrap();
    fs::remove_file(stick.at("d/a")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    let mut bytes = [0; 3];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"one");
    fs::remove_dir(stick.at("d")).unwrap();
    assert_eq!(stick.names(), ["long", "s"]);
    let counted = rustix::fs::statvfs(stick.at("")).unwrap();
    assert!(counted.f_files > 0 && counted.f_bavail > 0 && counted.f_namemax == 255);
    // Nobody remembers anything: what others do behind is seen at once.
    fs::write(stick.back("new"), "behind").unwrap();
    fs::rename(stick.back("long"), stick.back("longer")).unwrap();
    assert_eq!(fs::read_to_string(stick.at("new")).unwrap(), "behind");
    assert_eq!(stick.names(), ["longer", "new", "s"]);
}

#[test]
fn renames_take_their_flags() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    for name in ["a", "b"] {
        stick.write(name, name);
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| stick.at(name));
    assert_eq!(rename(&a, &b, RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(&a, &b, RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(&a).unwrap(), "b");
    rename(&a, &c, RenameFlags::NOREPLACE).unwrap();
    fs::rename(&b, &c).unwrap();
    assert_eq!(stick.names(), ["c"]);
    assert_eq!(fs::read_to_string(&c).unwrap(), "a");
}

#[test]
fn refused_flags_of_renames_are_invalid() {
    for (renames, without_replacing) in
        [(Renames::NoExchange, Ok(())), (Renames::NoFlags, Err(Errno::INVAL))]
    {
        let Some(stick) = Stick::new(&Habits { renames, ..Habits::default() }) else { return };
        stick.write("a", "a");
        stick.write("b", "b");
        let [a, b, c] = ["a", "b", "c"].map(|name| stick.at(name));
        assert_eq!(rename(&a, &b, RenameFlags::EXCHANGE), Err(Errno::INVAL));
        assert_eq!(rename(&a, &c, RenameFlags::NOREPLACE), without_replacing);
        fs::rename(&b, &a).unwrap();
    }
}

#[test]
fn a_disk_can_be_used_by_many_at_once() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    std::thread::scope(|scope| {
        for number in 0..4 {
            let stick = &stick;
            scope.spawn(move || {
                let folder = format!("d{number}");
                fs::create_dir(stick.at(&folder)).unwrap();
                for file in 0..25 {
                    let path = format!("{folder}/f{file}");
                    stick.write(&path, &path);
                    fs::rename(stick.at(&path), stick.at(&format!("{path}-moved"))).unwrap();
                    let text = fs::read_to_string(stick.at(&format!("{path}-moved"))).unwrap();
                    assert_eq!(text, path);
                }
                assert_eq!(fs::read_dir(stick.at(&folder)).unwrap().count(), 25);
            });
        }
    });
}

#[test]
fn a_file_of_another_user_belongs_to_that_user() {
    use std::os::unix::process::CommandExt as _;
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    for path in [stick.folder.path().to_owned(), stick.back("")] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let made = std::process::Command::new("sh")
        .args(["-c", "umask 027; echo 1 >f && mkdir d && ln -s f s"])
        .current_dir(stick.at(""))
        .uid(65534)
        .gid(65533)
        .status();
    assert!(made.unwrap().success());
    for (name, mode) in [("f", 0o640), ("d", 0o750), ("s", 0o777)] {
        let seen = stick.back(name).symlink_metadata().unwrap();
        assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o777), (65534, 65533, mode), "{name}");
    }
}

// ---- numbers -------------------------------------------------------------------------------------

/// The numbers of `a` and `b`, looked up in this order after a new mount.
fn numbers_after_remount(stick: &mut Stick, habits: &Habits) -> [u64; 2] {
    stick.unplug();
    assert!(stick.plug(habits));
    ["a", "b"].map(|name| stick.number(name))
}

#[test]
fn numbers_are_as_the_rule_says() {
    let Some(mut stick) = Stick::new(&Habits::default()) else { return };
    stick.write("a", "a");
    stick.write("b", "b");
    let behind = ["a", "b"].map(|name| stick.number(name));
    let with = |numbers| Habits { numbers, ..Habits::default() };
    assert_eq!(numbers_after_remount(&mut stick, &with(Numbers::Stable)), behind);
    assert_eq!(numbers_after_remount(&mut stick, &with(Numbers::FirstLookUp)), [2, 3]);
    let one = numbers_after_remount(&mut stick, &with(Numbers::Random(1)));
    assert_eq!(["a", "b"].map(|name| stick.number(name)), one, "the same during a mount");
    let other = numbers_after_remount(&mut stick, &with(Numbers::Random(2)));
    assert!(one.iter().all(|number| !other.contains(number)), "{one:?} {other:?}");
    // A new item before the others shifts them.
    fs::create_dir(stick.back("0")).unwrap();
    stick.unplug();
    assert!(stick.plug(&with(Numbers::FirstLookUp)));
    assert_eq!(["0", "a", "b"].map(|name| stick.number(name)), [2, 3, 4]);
}

#[test]
fn a_number_is_given_again_after_a_removal() {
    let Some(stick) = Stick::new(&Habits { numbers: Numbers::Reused, ..Habits::default() }) else {
        return;
    };
    fs::create_dir(stick.at("old")).unwrap();
    stick.write("stays", "1");
    let old = stick.number("old");
    fs::remove_dir(stick.at("old")).unwrap();
    fs::create_dir(stick.at("new")).unwrap();
    assert_eq!(stick.number("new"), old);
    fs::create_dir(stick.at("another")).unwrap();
    assert_ne!(stick.number("another"), old);
    // What is replaced by a rename is gone too, and what is moved keeps its number.
    stick.write("next", "2");
    let (replaced, moved) = (stick.number("stays"), stick.number("next"));
    fs::rename(stick.at("next"), stick.at("stays")).unwrap();
    stick.write("third", "3");
    assert_eq!([stick.number("stays"), stick.number("third")], [moved, replaced]);
}

#[test]
fn a_number_lasts_until_it_is_forgotten() {
    let habits = Habits { numbers: Numbers::UntilForgotten, ..Habits::default() };
    let Some(stick) = Stick::new(&habits) else { return };
    stick.write("a", "a");
    let before = stick.number("a");
    assert_eq!(stick.number("a"), before);
    stick.disk().forget();
    assert_ne!(stick.number("a"), before);
    assert_eq!(fs::read_to_string(stick.at("a")).unwrap(), "a");
}

// ---- times ---------------------------------------------------------------------------------------

fn stamps(stamps: Stamps) -> Habits {
    Habits { stamps, ..Habits::default() }
}

#[test]
fn times_are_cut_to_the_step() {
    for step in [1, 2] {
        let with = Stamps { step: Duration::from_secs(step), ..Stamps::default() };
        let Some(stick) = Stick::new(&stamps(with)) else { return };
        stick.write("a", "a");
        let seen = stick.at("a").metadata().unwrap();
        assert_eq!((seen.mtime_nsec(), seen.ctime_nsec()), (0, 0));
        assert_eq!(seen.mtime().unsigned_abs() % step, 0);
        set_mtime(&stick.at("a"), UNIX_EPOCH + Duration::new(1_700_000_001, 999_999_999)).unwrap();
        let cut = 1_700_000_001 / step * step;
        assert_eq!(mtime(&stick.at("a")), UNIX_EPOCH + Duration::from_secs(cut));
        assert_eq!(mtime(&stick.back("a")), UNIX_EPOCH + Duration::from_secs(cut));
    }
}

#[test]
fn times_before_1970_are_kept() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    stick.write("a", "a");
    for before in [Duration::from_secs(86_400), Duration::new(1, 250_000_000)] {
        set_mtime(&stick.at("a"), UNIX_EPOCH - before).unwrap();
        assert_eq!(mtime(&stick.back("a")), UNIX_EPOCH - before);
        assert_eq!(mtime(&stick.at("a")), UNIX_EPOCH - before);
    }
}

#[test]
fn without_a_change_time_it_is_the_modification_time() {
    let Some(stick) = Stick::new(&stamps(Stamps { no_change_time: true, ..Stamps::default() }))
    else {
        return;
    };
    stick.write("a", "a");
    set_mtime(&stick.at("a"), UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    assert_eq!(stick.at("a").metadata().unwrap().ctime(), 1_600_000_000);
}

#[test]
fn a_clock_that_is_wrong_is_that_of_the_disk_only() {
    for clock_ahead in [-10, 3600] {
        let Some(stick) = Stick::new(&stamps(Stamps { clock_ahead, ..Stamps::default() })) else {
            return;
        };
        stick.write("a", "a");
        let off = ahead(mtime(&stick.at("a")), mtime(&stick.back("a")));
        assert!((off - clock_ahead as f64).abs() < 0.001, "{off}");
        // What it is told, it shows.
        let told = UNIX_EPOCH + Duration::from_secs(1_650_000_000);
        set_mtime(&stick.at("a"), told).unwrap();
        assert_eq!(mtime(&stick.at("a")), told);
    }
}

fn born(path: &Path) -> Option<SystemTime> {
    path.metadata().unwrap().created().ok()
}

#[test]
fn birth_times_are_as_the_habit_says() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    stick.write("a", "a");
    assert_eq!(born(&stick.at("a")), None);
    drop(stick);
    for (births, step) in [(Births::ToTheNanosecond, 1), (Births::ToTenMilliseconds, 10_000_000)] {
        let habits = Habits { births, numbers: Numbers::FirstLookUp, ..Habits::default() };
        let Some(mut stick) = Stick::new(&habits) else { return };
        stick.write("a", "a");
        fs::create_dir(stick.at("d")).unwrap();
        let long = vec![b'x'; 500_000];
        fs::write(stick.at("d/long"), &long).unwrap();
        for name in ["a", "d", "d/long"] {
            let behind = born(&stick.back(name)).unwrap();
            let seen = born(&stick.at(name)).unwrap();
            let cut = behind.duration_since(UNIX_EPOCH).unwrap().as_nanos() / step * step;
            assert_eq!(seen.duration_since(UNIX_EPOCH).unwrap().as_nanos(), cut, "{name}");
        }
        // The rest is as without them.
        let seen = stick.at("a").metadata().unwrap();
        assert_eq!((seen.len(), seen.ino(), seen.mode() & 0o170_000), (1, 2, 0o100_000));
        assert_eq!(mtime(&stick.at("a")), mtime(&stick.back("a")));
        assert_eq!(fs::read(stick.at("d/long")).unwrap(), long);
        stick.unplug();
        assert!(stick.names().is_empty());
    }
}

// ---- names ---------------------------------------------------------------------------------------

fn names(names: Names) -> Habits {
    Habits { names, ..Habits::default() }
}

#[test]
fn a_name_is_found_in_any_case_and_kept_in_its_own() {
    let Some(stick) = Stick::new(&names(Names { folds_case: true, ..Names::default() })) else {
        return;
    };
    fs::create_dir(stick.at("Photos")).unwrap();
    stick.write("photos/A", "1");
    assert_eq!(code(fs::create_dir(stick.at("PHOTOS"))), Errno::EXIST);
    stick.write("photos/a", "2");
    assert_eq!(stick.names(), ["Photos"]);
    assert_eq!(fs::read_to_string(stick.back("Photos/A")).unwrap(), "2");
    // As on such disks: a rename of a file to another case of its own name does nothing.
    fs::rename(stick.at("Photos/A"), stick.at("Photos/x")).unwrap();
    fs::rename(stick.at("Photos/x"), stick.at("Photos/a")).unwrap();
    assert!(stick.back("Photos/a").exists());
    stick.write("other", "3");
    fs::rename(stick.at("other"), stick.at("photos/A")).unwrap();
    assert_eq!(fs::read_to_string(stick.back("Photos/a")).unwrap(), "3");
    fs::remove_file(stick.at("PHOTOS/A")).unwrap();
    fs::remove_dir(stick.at("photos")).unwrap();
    assert!(stick.names().is_empty());
}

#[test]
fn names_are_stored_decomposed() {
    let Some(stick) = Stick::new(&names(Names { decomposes: true, ..Names::default() })) else {
        return;
    };
    stick.write("caf\u{e9}", "1");
    assert_eq!(stick.names(), ["cafe\u{301}"]);
    for name in ["caf\u{e9}", "cafe\u{301}"] {
        assert_eq!(fs::read_to_string(stick.at(name)).unwrap(), "1");
    }
    fs::rename(stick.at("caf\u{e9}"), stick.at("th\u{e9}")).unwrap();
    assert_eq!(stick.names(), ["the\u{301}"]);
    let raw = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"x\xff");
    assert_eq!(code(File::create(stick.at("").join(raw))), Errno::ILSEQ);
}

#[test]
fn dots_and_spaces_at_the_end_are_dropped() {
    let Some(stick) = Stick::new(&names(Names { trims: true, ..Names::default() })) else { return };
    stick.write("a. .", "1");
    fs::create_dir(stick.at("...x ")).unwrap();
    assert_eq!(stick.names(), ["...x", "a"]);
    stick.write("a...", "2");
    assert_eq!(fs::read_to_string(stick.back("a")).unwrap(), "2");
}

#[test]
fn names_that_fat_has_not_are_invalid() {
    let Some(stick) = Stick::new(&names(Names { refuses_fat: true, ..Names::default() })) else {
        return;
    };
    for name in ["a:b", "a?", "*", "a\\b", "<", "\"", "a|b", "a\nb"] {
        assert_eq!(code(File::create(stick.at(name))), Errno::INVAL, "{name}");
        assert_eq!(code(fs::create_dir(stick.at(name))), Errno::INVAL, "{name}");
    }
    stick.write("plain", "1");
    assert_eq!(code(fs::rename(stick.at("plain"), stick.at("a:b"))), Errno::INVAL);
    assert_eq!(stick.names(), ["plain"]);
}

#[test]
fn names_have_a_longest_length() {
    let Some(stick) = Stick::new(&names(Names { limit: Some(143), ..Names::default() })) else {
        return;
    };
    stick.write(&"n".repeat(143), "1");
    assert_eq!(code(File::create(stick.at(&"n".repeat(144)))), Errno::NAMETOOLONG);
    assert_eq!(rustix::fs::statvfs(stick.at("")).unwrap().f_namemax, 143);
}

// ---- refusals ------------------------------------------------------------------------------------

#[test]
fn modes_are_refused_or_ignored() {
    for modes in [Modes::Refused, Modes::Ignored] {
        let Some(stick) = Stick::new(&Habits { modes, ..Habits::default() }) else { return };
        stick.write("a", "a");
        let mode = || stick.at("a").metadata().unwrap().mode() & 0o7777;
        let outcomes = [
            fs::set_permissions(stick.at("a"), Permissions::from_mode(0o600)),
            std::os::unix::fs::chown(stick.at("a"), Some(65534), None),
        ];
        for outcome in outcomes {
            match modes {
                Modes::Refused => assert_eq!(code(outcome), Errno::PERM),
                Modes::Kept | Modes::Ignored => outcome.unwrap(),
            }
        }
        assert_eq!(mode(), if modes == Modes::Refused { 0o644 } else { 0o777 });
        assert_eq!(stick.at("a").metadata().unwrap().uid(), 0);
    }
}

#[test]
fn times_cannot_be_told() {
    let Some(stick) = Stick::new(&Habits { no_utimens: true, ..Habits::default() }) else { return };
    stick.write("a", "one");
    let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    assert_eq!(code(set_mtime(&stick.at("a"), time)), Errno::PERM);
    // Writing and cutting sets them.
    stick.write("a", "2");
    assert_eq!(fs::read_to_string(stick.back("a")).unwrap(), "2");
}

#[test]
fn hard_links_are_refused() {
    let Some(stick) = Stick::new(&Habits { no_links: true, ..Habits::default() }) else { return };
    stick.write("a", "a");
    assert_eq!(code(fs::hard_link(stick.at("a"), stick.at("b"))), Errno::PERM);
}

#[test]
fn a_pool_moves_and_links_nothing_between_its_disks() {
    let Some(stick) = Stick::new(&Habits { branch: Some("photos"), ..Habits::default() }) else {
        return;
    };
    fs::create_dir_all(stick.at("photos/in")).unwrap();
    fs::create_dir(stick.at("rest")).unwrap();
    stick.write("photos/a", "a");
    stick.write("rest/b", "b");
    assert_eq!(code(fs::rename(stick.at("photos/a"), stick.at("rest/a"))), Errno::XDEV);
    assert_eq!(code(fs::rename(stick.at("rest/b"), stick.at("photos/b"))), Errno::XDEV);
    assert_eq!(code(fs::hard_link(stick.at("rest/b"), stick.at("photos/b"))), Errno::XDEV);
    fs::rename(stick.at("photos/a"), stick.at("photos/in/a")).unwrap();
    fs::rename(stick.at("rest/b"), stick.at("b")).unwrap();
}

#[test]
fn files_cannot_be_mapped() {
    for no_mmap in [false, true] {
        let Some(stick) = Stick::new(&Habits { no_mmap, ..Habits::default() }) else { return };
        // SQLite maps the index of a write-ahead log, shared; without that it cannot have one.
        let base = rusqlite::Connection::open(stick.at("base")).unwrap();
        let mode = base.query_row("PRAGMA journal_mode = wal", [], |row| row.get::<_, String>(0));
        let made = mode.is_ok_and(|mode| mode == "wal")
            && base.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").is_ok();
        assert_eq!(made, !no_mmap);
    }
}

#[test]
fn inodes_are_counted_or_not() {
    for (inodes, all, free) in [(Inodes::NotCounted, 0, 0), (Inodes::NoneFree, 1, 0)] {
        let Some(stick) = Stick::new(&Habits { inodes, ..Habits::default() }) else { return };
        let counted = rustix::fs::statvfs(stick.at("")).unwrap();
        assert_eq!((counted.f_files.min(1), counted.f_ffree), (all, free));
    }
}

#[test]
fn an_operation_fails_once() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    stick.write("a", "a");
    stick.disk().fail(Operation::Rename, 1);
    fs::rename(stick.at("a"), stick.at("b")).unwrap();
    assert_eq!(code(fs::rename(stick.at("b"), stick.at("c"))), Errno::IO);
    fs::rename(stick.at("b"), stick.at("c")).unwrap();
    stick.disk().fail(Operation::Read, 0);
    stick.disk().fail(Operation::Read, 0);
    assert_eq!(code(fs::read(stick.at("c"))), Errno::IO);
    assert_eq!(fs::read(stick.at("c")).unwrap(), b"a");
}

#[test]
fn who_asks_can_be_killed() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    stick.write("a", "a");
    stick.disk().kill_at(Operation::Rename, 1);
    let script = "mv a b && mv b c; echo alive";
    let run =
        || std::process::Command::new("sh").args(["-c", script]).current_dir(stick.at("")).output();
    // `mv` is killed, and its shell goes on.
    assert_eq!(run().unwrap().stdout, b"alive\n");
    assert_eq!(stick.names(), ["b"]);
    stick.disk().spare();
    fs::rename(stick.at("b"), stick.at("a")).unwrap();
    run().unwrap();
    assert_eq!(stick.names(), ["c"]);
}

#[test]
fn reading_of_users_files_is_counted() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    fs::create_dir(stick.at(".foldsync")).unwrap();
    stick.write(".foldsync/own", "1234567");
    stick.write("a", "12345");
    stick.disk().bytes_read();
    let read = |name: &str| {
        let output = std::process::Command::new("cat").arg(stick.at(name)).output().unwrap();
        assert_eq!(output.stdout, fs::read(stick.at(name)).unwrap(), "not counted: this process");
    };
    read("a");
    read(".foldsync/own");
    assert_eq!(stick.disk().bytes_read(), 5);
    read("a");
    assert_eq!(stick.disk().bytes_read(), 5, "a second reading is another one");
    stick.at("a").metadata().unwrap();
    assert_eq!(stick.disk().bytes_read(), 0);
}

/// The ready-made ones are what their names say.
#[test]
fn ready_made_disks_can_be_used() {
    for habits in [Habits::sshfs(), Habits::fat(), Habits::mac()] {
        let Some(stick) = Stick::new(&habits) else { return };
        stick.write("a", "a");
        assert_eq!(fs::read_to_string(stick.at("a")).unwrap(), "a");
    }
}

/// A panicking test leaves no mount behind.
#[test]
fn a_disk_is_unmounted_when_a_test_fails() {
    let Some(stick) = Stick::new(&Habits::default()) else { return };
    let at = stick.at("").canonicalize().unwrap();
    let mounted =
        || fs::read_to_string("/proc/self/mounts").unwrap().contains(at.to_str().unwrap());
    assert!(mounted());
    let failed = std::thread::spawn(move || {
        let _stick = stick;
        std::panic::resume_unwind(Box::new("a failing test"));
    });
    assert!(failed.join().is_err());
    assert!(!mounted());
}
