//! What a user does on one side of a pair. Every write and every loss by a user's own hand goes into
//! the ledger, so that losses by the program stand out.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use super::ledger::Ledger;
use super::tree::{Tree, fingerprint};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One folder of a pair.
pub(crate) struct Side<'a> {
    name: &'static str,
    root: PathBuf,
    ledger: &'a Mutex<Ledger>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: &'static str, root: PathBuf, ledger: &'a Mutex<Ledger>) -> Side<'a> {
        Side { name, root, ledger }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    // ---- doing -----------------------------------------------------------------------------------

    /// Writes a file in place, and the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Side<'a> {
        let at = self.path(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        self.forget(&at);
        self.ledger.lock().unwrap().wrote(fingerprint(content.as_ref()));
        fs::write(at, content).unwrap();
        self
    }

    /// Writes a file of another inode under the name, as editors do.
    pub(crate) fn replace(&self, path: &str, content: impl AsRef<[u8]>) -> &Side<'a> {
        let aside = format!("{path}.new");
        self.write(&aside, content).rename(&aside, path)
    }

    /// Renames, over whatever file has the name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> &Side<'a> {
        let to = self.path(to);
        if from != to.to_str().unwrap() {
            self.forget(&to);
        }
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.path(from), to).unwrap();
        self
    }

    /// Gives two things each other's names.
    pub(crate) fn swap(&self, one: &str, other: &str) -> &Side<'a> {
        self.rename(one, "swapped~").rename(other, one).rename("swapped~", other)
    }

    /// Removes a file, a link, or a folder with all that is in it.
    pub(crate) fn delete(&self, path: &str) -> &Side<'a> {
        let at = self.path(path);
        self.forget(&at);
        match at.symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(at).unwrap(),
            false => fs::remove_file(at).unwrap(),
        }
        self
    }

    pub(crate) fn mkdir(&self, path: &str) -> &Side<'a> {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    pub(crate) fn symlink(&self, target: impl AsRef<Path>, path: &str) -> &Side<'a> {
        std::os::unix::fs::symlink(target, self.path(path)).unwrap();
        self
    }

    pub(crate) fn fifo(&self, path: &str) -> &Side<'a> {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        let at = self.path(path);
        rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        self
    }

    pub(crate) fn hard_link(&self, from: &str, to: &str) -> &Side<'a> {
        self.ledger.lock().unwrap().wrote(fingerprint(&fs::read(self.path(from)).unwrap()));
        fs::hard_link(self.path(from), self.path(to)).unwrap();
        self
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) -> &Side<'a> {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Sets the modification time, in seconds since the epoch, and changes nothing else.
    pub(crate) fn touch(&self, path: &str, seconds: i64) -> &Side<'a> {
        let span = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds < 0 {
            true => SystemTime::UNIX_EPOCH - span,
            false => SystemTime::UNIX_EPOCH + span,
        };
        self.set_mtime(path, time)
    }

    pub(crate) fn set_mtime(&self, path: &str, time: SystemTime) -> &Side<'a> {
        let file = File::open(self.path(path)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        self
    }

    /// Tells the ledger of a content that a user wrote in some other way.
    pub(crate) fn note(&self, content: &[u8]) {
        self.ledger.lock().unwrap().wrote(fingerprint(content));
    }

    /// Tells the ledger that a user overwrote or removed a content in some other way.
    pub(crate) fn give_up(&self, content: &[u8]) {
        self.ledger.lock().unwrap().gave_up(&fingerprint(content));
    }

    /// Tells the ledger that a user is about to overwrite or remove what is here.
    fn forget(&self, at: &Path) {
        match at.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                for item in fs::read_dir(at).unwrap() {
                    self.forget(&item.unwrap().path());
                }
            }
            Ok(found) if found.is_file() => {
                self.ledger.lock().unwrap().gave_up(&fingerprint(&fs::read(at).unwrap()));
            }
            Ok(_) | Err(_) => {}
        }
    }

    // ---- waiting ---------------------------------------------------------------------------------

    /// Until something has this name.
    #[track_caller]
    pub(crate) fn await_path(&self, path: &str) {
        self.wait_for(path, || self.has(path));
    }

    /// Until the program writes a file into its stage here, or ends.
    #[track_caller]
    pub(crate) fn await_staged(&self, child: &mut Child) {
        let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
        self.wait_for("a staged file", || !self.staged().is_empty() || ended(child));
    }

    /// Until something is so.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut is_there: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_there() {
            assert!(begun.elapsed() < PATIENCE, "{what} did not come on the {} side", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // ---- looking ---------------------------------------------------------------------------------

    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.name))
    }

    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(path)).unwrap()
    }

    /// Whether anything is there, also a link to nothing.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        self.path(path).symlink_metadata().unwrap().mode() & 0o7777
    }

    pub(crate) fn inode(&self, path: &str) -> u64 {
        self.path(path).symlink_metadata().unwrap().ino()
    }

    pub(crate) fn mtime(&self, path: &str) -> SystemTime {
        self.path(path).symlink_metadata().unwrap().modified().unwrap()
    }

    /// Everything but the program's own folder.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(&self.root)
    }

    /// Everything, to the last stamp; but for the lock that each run takes and leaves.
    pub(crate) fn exact(&self) -> Tree {
        let mut tree = Tree::exact(&self.root);
        tree.forget(".foldsync");
        tree.forget(".foldsync/lock");
        tree
    }

    /// The only conflict copy of a path.
    #[track_caller]
    pub(crate) fn copy_of(&self, path: &str) -> String {
        let wanted = format!("CC({path})");
        let tree = self.tree();
        let mut found = tree.paths().filter(|found| super::tree::plain(found) == wanted);
        let only = found.next().unwrap_or_else(|| panic!("no copy of {path}: {:?}", tree.lines()));
        assert_eq!(found.next(), None, "one copy of {path}: {:?}", tree.lines());
        only.to_owned()
    }

    /// Files in the trash: the path that each had, and its content.
    pub(crate) fn trash(&self) -> Vec<(String, String)> {
        let Ok(runs) = fs::read_dir(self.path(".foldsync/trash")) else { return Vec::new() };
        let mut found: Vec<(String, String)> =
            runs.flat_map(|run| Tree::of(&run.unwrap().path()).files()).collect();
        found.sort();
        found
    }

    /// The names of the files in any stage folder, apart from locks.
    pub(crate) fn staged(&self) -> Vec<String> {
        let names = |dir: PathBuf| {
            let items = fs::read_dir(dir).into_iter().flatten().flatten();
            items.map(|item| item.file_name().to_string_lossy().into_owned())
        };
        let control = self.path(".foldsync");
        let stages = names(control.clone()).filter(|name| name.starts_with("stage"));
        stages.flat_map(|stage| names(control.join(stage))).filter(|name| name != "lock").collect()
    }
}
