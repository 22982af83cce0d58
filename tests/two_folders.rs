//! The engine on two real folders, through the library.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use foldsync::clock::SystemClock;
use foldsync::drive::Silent;
use foldsync::engine::Summary;
use foldsync::exec::Lanes;
use foldsync::local::os::{OsFs, OsOptions};
use foldsync::local::root::Symlinks;
use foldsync::pair::{self, Conduct, PairSettings, Sides};
use foldsync::plan::{BrakeLimits, ConflictPolicy, Mode};
use foldsync::remote::dir::DirRemote;
use tempfile::TempDir;

struct Pair {
    folder: TempDir,
}

impl Pair {
    fn new() -> Pair {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        Pair { folder }
    }

    fn a(&self) -> std::path::PathBuf {
        self.folder.path().join("a")
    }

    fn b(&self) -> std::path::PathBuf {
        self.folder.path().join("b")
    }

    fn sync(&self) -> Summary {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let clock = Arc::new(SystemClock);
            let options = OsOptions { symlinks: Symlinks::Skip, clock: clock.clone() };
            let sides = Sides {
                local: Arc::new(OsFs::open(&self.a(), options).unwrap()),
                remote: Arc::new(DirRemote::open(&self.b(), clock.clone()).unwrap()),
                clock,
            };
            let settings = PairSettings {
                mode: Mode::TwoWay,
                conflict: ConflictPolicy::KeepBoth,
                brake: BrakeLimits { share_percent: Some(25), count: Some(1000), lifted: false },
                ignore: vec![],
                host: "host".into(),
                lanes: Lanes { uploads: 2, downloads: 2, structure: 4 },
                max_transfer: None,
                max_duration: None,
            };
            let database = self.folder.path().join("pair.db");
            let run = pair::run(
                &settings,
                &database,
                &sides,
                "fresh",
                Conduct::Act,
                &Silent,
                std::future::pending(),
            );
            run.await.unwrap().summary
        })
    }
}

fn tree(root: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name == ".foldsync" {
                continue;
            }
            if path.is_dir() {
                found.push((name, None));
                left.push(path);
            } else {
                found.push((name, Some(fs::read(&path).unwrap())));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn changes_on_both_sides_meet() {
    let pair = Pair::new();
    fs::create_dir(pair.a().join("d")).unwrap();
    fs::write(pair.a().join("d/x"), "one").unwrap();
    fs::write(pair.b().join("y"), "two").unwrap();
    let summary = pair.sync();
    assert_eq!((summary.uploaded, summary.downloaded), (1, 1));
    assert_eq!(tree(&pair.a()), tree(&pair.b()));
    let again = pair.sync();
    assert_eq!((again.uploaded, again.downloaded, again.moved, again.deleted), (0, 0, 0, 0));

    fs::rename(pair.a().join("d"), pair.a().join("e")).unwrap();
    fs::write(pair.b().join("d/x"), "edited there").unwrap();
    fs::write(pair.a().join("y"), "conflict a").unwrap();
    fs::write(pair.b().join("y"), "conflict bb").unwrap();
    let summary = pair.sync();
    assert_eq!(tree(&pair.a()), tree(&pair.b()));
    assert_eq!(fs::read_to_string(pair.a().join("e/x")).unwrap(), "edited there");
    assert_eq!(fs::read_to_string(pair.a().join("y")).unwrap(), "conflict bb");
    assert_eq!(summary.conflicts, 1);
    assert_eq!(tree(&pair.a()).len(), 4);
}
