//! The real disk: the contract of `LocalFs`, and what only a real disk can do to us.

mod contract;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use contract::local_fs::Disk;
use foldsync::local::os::{OsFs, OsOptions};
use foldsync::local::{LocalFs, StageKey};
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
