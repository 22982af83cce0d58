//! One local folder, an emulated Disk.Top in this process, and the built program between them.
//!
//! Owns the folder, the service and the program's state, and what users wrote and have not given up
//! (S1). Every output of the program is searched for secrets (SE-06). Never looks into the program.

#![allow(
    clippy::unwrap_used,
    reason = "what builds a test may fail it; benchmarks build with it, too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::emulators::Counters;
use super::emulators::disktop::{CLIENT_ID, DiskTopCloud, Switches};

/// What every token of the emulator contains, and what every signed link does.
const SECRETS: [&str; 2] = ["s3cr3t", "sig="];
const ROOT: &str = "/Documents";
/// Deletes of all days together are many.
pub(crate) const SYNC: [&str; 4] = ["sync", "--once", "--json", "--force"];

/// One ended command.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it was killed.
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ended {
        assert_eq!(self.exit, Some(code), "{self:#?}");
        self
    }

    /// A number of the summary.
    #[track_caller]
    pub(crate) fn sum(&self, key: &str) -> u64 {
        let last = self.stdout.lines().last().unwrap_or_default();
        let line: Value = serde_json::from_str(last).unwrap_or_default();
        line["summary"][key].as_u64().unwrap_or_else(|| panic!("no sum of {key}: {self:#?}"))
    }
}

/// Path to content; folders have none. Paths count from the pair's root.
pub(crate) type Tree = BTreeMap<String, Option<Vec<u8>>>;

pub(crate) struct Rig {
    pub(crate) cloud: Arc<DiskTopCloud>,
    folder: TempDir,
    /// Contents that users wrote and have not overwritten or deleted since.
    owed: BTreeSet<Vec<u8>>,
    /// Serves the requests.
    runtime: Runtime,
}

impl Rig {
    /// A service and an empty folder, logged in by a token.
    pub(crate) fn new(switches: Switches) -> Rig {
        let rig = Rig::logged_out(switches);
        rig.log_in().exits(0);
        rig
    }

    pub(crate) fn logged_out(switches: Switches) -> Rig {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let cloud = Arc::new(runtime.block_on(DiskTopCloud::start(switches)));
        let folder = TempDir::with_prefix("foldsync-").unwrap();
        for name in ["local", "home"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let rig = Rig { cloud, folder, owed: BTreeSet::new(), runtime };
        std::fs::write(rig.path("sync.toml"), rig.config()).unwrap();
        rig
    }

    /// Waits for another client of the service.
    #[allow(dead_code, reason = "only the benchmark has one")]
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn config(&self) -> String {
        format!(
            "[remotes.top]\nkind = \"disktop\"\nbase_url = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             [remotes.top.limits]\nrequests_per_second = 1000\n\
             [[pair]]\nname = \"docs\"\nlocal = {:?}\nremote = \"top:{ROOT}\"\n",
            self.cloud.base(),
            self.path("local")
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    // ---- running -------------------------------------------------------------------------------

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foldsync"));
        command.args(arguments).arg("--config").arg(self.path("sync.toml"));
        command.arg("--state-dir").arg(self.path("state"));
        command.env_clear().env("HOME", self.path("home")).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    #[track_caller]
    pub(crate) fn finish(&self, child: Child) -> Ended {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        let ended = Ended { exit: output.status.code(), stdout, stderr };
        for secret in SECRETS {
            let told = ended.stdout.contains(secret) || ended.stderr.contains(secret);
            assert!(!told, "a secret was told: {ended:#?}");
        }
        ended
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.finish(self.start(arguments))
    }

    #[track_caller]
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.finish(child)
    }

    pub(crate) fn log_in(&self) -> Ended {
        let tokens = self.cloud.issue_tokens().to_string();
        self.run_with_input(&["auth", "login", "top", "--token-stdin"], &format!("{tokens}\n"))
    }

    #[track_caller]
    pub(crate) fn sync(&self) -> Ended {
        let ended = self.run(&SYNC);
        self.check_ledger(&format!("{ended:#?}"));
        ended
    }

    /// What the service counted while something happened.
    pub(crate) fn count<T>(&self, act: impl FnOnce() -> T) -> (T, Counters) {
        let before = self.cloud.counters();
        let done = act();
        let after = self.cloud.counters();
        let by_label = after.by_label.iter().map(|(l, n)| (l.clone(), n - before.of(l))).collect();
        let counted = Counters {
            by_label,
            requests: after.requests - before.requests,
            mutating: after.mutating - before.mutating,
            bytes_up: after.bytes_up - before.bytes_up,
            bytes_down: after.bytes_down - before.bytes_down,
            parts_repeated: after.parts_repeated - before.parts_repeated,
        };
        (done, counted)
    }

    // ---- users ---------------------------------------------------------------------------------

    fn wrote(&mut self, old: Option<Vec<u8>>, new: &str) {
        if let Some(old) = old {
            self.owed.remove(&old);
        }
        self.owed.insert(new.as_bytes().to_vec());
    }

    pub(crate) fn write(&mut self, path: &str, content: &str) {
        let at = self.path("local").join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        self.wrote(std::fs::read(&at).ok(), content);
        std::fs::write(at, content).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let (from, to) = (self.path("local").join(from), self.path("local").join(to));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(from, to).unwrap();
    }

    pub(crate) fn delete(&mut self, path: &str) {
        let at = self.path("local").join(path);
        self.owed.remove(&std::fs::read(&at).unwrap());
        std::fs::remove_file(at).unwrap();
    }

    /// Another client writes.
    pub(crate) fn write_remotely(&mut self, path: &str, content: &str) {
        let path = remote(path);
        let old = self.cloud.read(&path).map(|bytes| bytes.to_vec());
        self.wrote(old, content);
        self.cloud.write(&path, content.to_owned());
    }

    pub(crate) fn rename_remotely(&self, from: &str, to: &str) {
        self.cloud.rename(&remote(from), &remote(to));
    }

    pub(crate) fn delete_remotely(&mut self, path: &str) {
        let path = remote(path);
        if let Some(old) = self.cloud.read(&path) {
            self.owed.remove(old.as_ref());
        }
        self.cloud.remove(&path);
    }

    // ---- what is there -------------------------------------------------------------------------

    pub(crate) fn local_tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(&self.path("local"), "", &mut tree);
        tree.retain(|path, _| !path.starts_with("/.foldsync/") && path != "/.foldsync");
        tree
    }

    /// Fails if two objects share a path.
    #[track_caller]
    pub(crate) fn remote_tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (path, content) in self.cloud.tree() {
            let Some(path) = path.strip_prefix(ROOT).filter(|path| !path.is_empty()) else {
                continue;
            };
            let other = tree.insert(path.to_owned(), content.map(|bytes| bytes.to_vec()));
            assert!(other.is_none(), "two objects are at {path}");
        }
        tree
    }

    #[track_caller]
    pub(crate) fn assert_equal(&self, story: &str) {
        let (local, remote) = (self.local_tree(), self.remote_tree());
        let only = |one: &Tree, other: &Tree| -> Vec<String> {
            let apart = one.iter().filter(|(path, content)| other.get(*path) != Some(content));
            apart.map(|(path, content)| format!("{path} {}", shown(content))).collect()
        };
        let apart = (only(&local, &remote), only(&remote, &local));
        assert_eq!(apart, (Vec::new(), Vec::new()), "only local, only remote: {story}");
        let ours: Vec<&String> =
            remote.keys().filter(|path| path.contains("/.foldsync-")).collect();
        assert!(ours.is_empty(), "left behind: {ours:?}: {story}");
    }

    /// S1: whatever users wrote and have not given up is on a side, or in the trash of one.
    #[track_caller]
    pub(crate) fn check_ledger(&self, story: &str) {
        let mut local = Tree::new();
        walk(&self.path("local"), "", &mut local);
        let local = local.into_values().flatten();
        let remote = self.cloud.tree().into_iter().filter_map(|(_, content)| content);
        let there: BTreeSet<Vec<u8>> = local.chain(remote.map(|bytes| bytes.to_vec())).collect();
        for owed in &self.owed {
            let text = String::from_utf8_lossy(owed);
            assert!(there.contains(owed), "lost: {text:.60}: {story}");
        }
    }

    /// SE-06: no secret in any file of the program, but for the one that keeps them, which is 0600.
    #[track_caller]
    pub(crate) fn check_state_for_secrets(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let (mut keepers, mut pending) = (0, vec![self.path("state"), self.path("local")]);
        while let Some(folder) = pending.pop() {
            for item in std::fs::read_dir(&folder).unwrap() {
                let item = item.unwrap();
                if item.file_type().unwrap().is_dir() {
                    pending.push(item.path());
                    continue;
                }
                let bytes = std::fs::read(item.path()).unwrap();
                let has = |secret: &str| {
                    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
                };
                if SECRETS.into_iter().any(has) {
                    keepers += 1;
                    let mode = item.metadata().unwrap().permissions().mode();
                    assert_eq!(mode & 0o777, 0o600, "{:?}", item.path());
                }
            }
        }
        assert_eq!(keepers, 1, "the credentials file holds the secrets, and nothing else does");
    }
}

fn remote(path: &str) -> String {
    format!("{}/{path}", &ROOT[1..])
}

fn shown(content: &Option<Vec<u8>>) -> String {
    match content {
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)])),
        None => "(folder)".to_owned(),
    }
}

fn walk(folder: &Path, above: &str, tree: &mut Tree) {
    let Ok(items) = std::fs::read_dir(folder) else { return };
    for item in items {
        let item = item.unwrap();
        let path = format!("{above}/{}", item.file_name().to_str().unwrap());
        if item.file_type().unwrap().is_dir() {
            tree.insert(path.clone(), None);
            walk(&item.path(), &path, tree);
        } else {
            tree.insert(path, Some(std::fs::read(item.path()).unwrap()));
        }
    }
}
