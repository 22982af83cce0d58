//! Two real folders, the built program between them, and one vocabulary for what users do on either
//! side.
//!
//! Owns the temporary folders of one scenario and checks, after every run of the program, that no
//! content was lost (S1) and that no path shows a content that nobody wrote (S11). Never looks into
//! the program: it is called as users call it.

pub(crate) mod ledger;
pub(crate) mod mounts;
pub(crate) mod random;
pub(crate) mod run;
pub(crate) mod side;
pub(crate) mod tree;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use ledger::Ledger;
use mounts::Mounts;
use run::Run;
use side::Side;
use tree::Tree;

/// The user that a scenario runs the program as where permissions must mean something.
const NOBODY: u32 = 65534;

/// Bytes of a file whose transfer takes long enough to be interfered with.
pub(crate) const BIG: usize = 64 << 20;

/// How the program learns which folders are meant.
enum Call {
    /// `--local` and `--remote`, and more flags.
    Flags(Vec<String>),
    /// A configuration file with one pair, `docs`.
    Config,
}

/// One scenario's folders.
pub(crate) struct Pair {
    /// Dropped before the folder in which they are.
    mounts: Option<Mounts>,
    folder: TempDir,
    local: PathBuf,
    remote: PathBuf,
    state: PathBuf,
    call: Call,
    unprivileged: bool,
    ledger: Arc<Mutex<Ledger>>,
}

impl Pair {
    /// Two empty folders, named by flags.
    pub(crate) fn new() -> Pair {
        Pair::with_flags(&[])
    }

    /// Two empty folders, named by flags, with more flags at every call.
    pub(crate) fn with_flags(flags: &[&str]) -> Pair {
        Pair::made(Call::Flags(flags.iter().map(|&flag| flag.to_owned()).collect()))
    }

    /// Two empty folders, as the pair `docs` of a configuration with these lines in its table.
    pub(crate) fn configured(lines: &str) -> Pair {
        let pair = Pair::made(Call::Config);
        pair.configure(lines);
        pair
    }

    /// In sync: these files, each with the content `PATH 0`.
    pub(crate) fn synced(paths: &[&str]) -> Pair {
        let pair = Pair::new();
        for path in paths {
            pair.local().write(path, format!("{path} 0"));
        }
        pair.sync().exits(0);
        pair
    }

    /// In sync: so many files `d0/f0`, `d1/f1`, …, `d9/f9`, `d0/f10` and so on.
    pub(crate) fn synced_many(count: usize) -> Pair {
        let pair = Pair::new();
        for number in 0..count {
            pair.local().write(&many(number), format!("{number}"));
        }
        pair.sync().exits(0);
        pair
    }

    /// Puts a file system of so many KiB in the place of a folder (`local`, `remote` or `state`).
    /// `None`, with the reason printed, where this computer does not allow that.
    pub(crate) fn on_small_disk(name: &str, kib: u64) -> Option<Pair> {
        let mut pair = Pair::new();
        let mut mounts = Mounts::new()?;
        std::fs::create_dir_all(pair.path(name)).unwrap();
        mounts.run(&format!("mount -t tmpfs -o size={kib}k tmpfs {}", pair.path(name).display()));
        let inside = mounts.path(&pair.path(name));
        match name {
            "local" => pair.local = inside,
            "remote" => pair.remote = inside,
            "state" => pair.state = inside,
            other => panic!("no folder {other}"),
        }
        let roots = vec![pair.local.clone(), pair.remote.clone()];
        pair.ledger = Arc::new(Mutex::new(Ledger::of(roots)));
        pair.mounts = Some(mounts);
        Some(pair)
    }

    fn made(call: Call) -> Pair {
        let folder = TempDir::with_prefix("foldsync-").unwrap();
        for name in ["local", "remote", "home"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let [local, remote, state] =
            ["local", "remote", "state"].map(|name| folder.path().join(name));
        let ledger = Arc::new(Mutex::new(Ledger::of(vec![local.clone(), remote.clone()])));
        Pair { mounts: None, folder, local, remote, state, call, unprivileged: false, ledger }
    }

    /// Another computer, with a local folder of its own, on the remote of this one.
    pub(crate) fn another_computer(&self) -> Pair {
        let mut other = Pair::new();
        self.ledger.lock().unwrap().watch(other.path("local"));
        other.remote = self.remote.clone();
        other.ledger = Arc::clone(&self.ledger);
        other
    }

    /// From now on the program runs as a user to whom permissions apply.
    pub(crate) fn unprivileged(mut self) -> Pair {
        self.unprivileged = rustix::process::geteuid().is_root();
        self
    }

    /// Writes the configuration again, with these lines in the pair's table.
    pub(crate) fn configure(&self, lines: &str) {
        let (local, remote) = (&self.local, &self.remote);
        let text = format!(
            "[[pair]]\nname = \"docs\"\nlocal = {local:?}\nremote = \"dir:{}\"\n{lines}\n",
            remote.display()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("sync.toml")
    }

    /// A place beside the two folders.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state.clone()
    }

    /// The one state database.
    pub(crate) fn database(&self) -> PathBuf {
        let found = std::fs::read_dir(self.state_dir()).unwrap().map(|item| item.unwrap().path());
        let mut found: Vec<PathBuf> =
            found.filter(|path| path.extension().is_some_and(|ext| ext == "db")).collect();
        assert_eq!(found.len(), 1, "one database: {found:?}");
        found.remove(0)
    }

    pub(crate) fn local(&self) -> Side<'_> {
        Side::new("local", self.local.clone(), &self.ledger)
    }

    pub(crate) fn remote(&self) -> Side<'_> {
        Side::new("remote", self.remote.clone(), &self.ledger)
    }

    pub(crate) fn both(&self) -> [Side<'_>; 2] {
        [self.local(), self.remote()]
    }

    // ---- running ---------------------------------------------------------------------------------

    /// `sync --once --json`.
    #[track_caller]
    pub(crate) fn sync(&self) -> Run {
        self.sync_with(&[])
    }

    /// `sync --once --json` with more flags.
    #[track_caller]
    pub(crate) fn sync_with(&self, flags: &[&str]) -> Run {
        let run = self.run(&[&["sync", "--once", "--json"], flags].concat());
        if let Some(summary) = &run.summary {
            assert_eq!(summary.exit, run.exit, "the summary's code is the exit code: {run}");
        }
        run
    }

    /// Any command about the pair.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        let run = Run::new(arguments, &output);
        self.check_ledger(&run.to_string());
        run
    }

    /// The same where S1 cannot be looked at: a part of a side is out of sight.
    #[track_caller]
    pub(crate) fn run_unchecked(&self, arguments: &[&str]) -> Run {
        Run::new(arguments, &self.command(arguments).output().unwrap())
    }

    /// The program with nothing but these arguments.
    pub(crate) fn run_plainly(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foldsync"));
        command.args(arguments).env_clear().env("HOME", self.path("home"));
        Run::new(arguments, &command.current_dir(self.folder.path()).output().unwrap())
    }

    /// The mounts of a pair on a small disk.
    pub(crate) fn mounts(&mut self) -> &mut Mounts {
        self.mounts.as_mut().unwrap()
    }

    /// Starts a command; `finish` ends it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for a command that was started.
    #[track_caller]
    pub(crate) fn finish(&self, child: Child, arguments: &[&str]) -> Run {
        let run = Run::new(arguments, &child.wait_with_output().unwrap());
        self.check_ledger(&run.to_string());
        run
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foldsync"));
        command.args(arguments);
        match &self.call {
            Call::Flags(flags) => {
                command.arg("--local").arg(&self.local);
                command.arg("--remote").arg(format!("dir:{}", self.remote.display()));
                command.args(flags);
            }
            Call::Config => {
                command.arg("--config").arg(self.config());
            }
        }
        command.arg("--state-dir").arg(self.state_dir());
        command.env_clear().env("HOME", self.path("home")).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        if self.unprivileged {
            use std::os::unix::process::CommandExt as _;
            give_away(self.folder.path());
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs `sync --once --json`, and stops the process for as long as `act` takes, while a transfer to
    /// a side is under way. `None` if the transfer was over too soon.
    #[track_caller]
    pub(crate) fn sync_while(
        &self,
        side: &Side<'_>,
        under_way: impl Fn() -> bool,
        act: impl FnOnce(),
    ) -> Option<Run> {
        let arguments = ["sync", "--once", "--json"];
        let mut child = self.start(&arguments);
        side.await_staged(&mut child);
        self.pass(&child, Signal::STOP);
        let caught = under_way();
        if caught {
            act();
        }
        self.pass(&child, Signal::CONT);
        let run = self.finish(child, &arguments);
        caught.then_some(run)
    }

    pub(crate) fn pass(&self, child: &Child, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// The names that a conflict copy of a file without extension could get from now on.
    pub(crate) fn conflict_names(&self, name: &str, seconds: i64) -> Vec<String> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let now = jiff::Timestamp::now();
        let stamps = (0..seconds).map(|after| now + jiff::SignedDuration::from_secs(after));
        stamps
            .map(|at| format!("{name}.conflict-{}-{host}", at.strftime("%Y%m%d-%H%M%S")))
            .collect()
    }

    /// Until the clock shows another second, so that a name with the time in it is another one.
    pub(crate) fn await_next_second(&self) {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let begun = since(SystemTime::now()).as_secs();
        while since(SystemTime::now()).as_secs() == begun {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    // ---- checking --------------------------------------------------------------------------------

    /// S1 and S11, for what a run left.
    #[track_caller]
    pub(crate) fn check_ledger(&self, story: &str) {
        self.ledger.lock().unwrap().check(story);
    }

    /// All that is in the scenario's folder, to the last stamp; but for the time of the state folder
    /// itself, in which SQLite makes and removes files for reading.
    pub(crate) fn whole(&self) -> Tree {
        let mut tree = Tree::exact(self.folder.path());
        tree.forget("state");
        tree
    }

    #[track_caller]
    pub(crate) fn assert_equal(&self) {
        self.assert_equal_but(&[]);
    }

    /// Both sides are equal, except for these paths and what is below them.
    #[track_caller]
    pub(crate) fn assert_equal_but(&self, apart: &[&str]) {
        let [local, remote] = self.both().map(|side| side.tree().without(apart).lines());
        assert_eq!(local, remote, "left: local, right: remote");
    }

    /// Both sides hold exactly this, in the words of `Tree::lines`.
    #[track_caller]
    pub(crate) fn assert_both(&self, lines: &[&str]) {
        let mut lines = lines.to_vec();
        lines.sort_unstable();
        for side in self.both() {
            assert_eq!(side.tree().lines(), lines, "the {} side", side.name());
        }
    }

    /// BC-08: another run does nothing, changes nothing on either side or in the recorded state, and
    /// ends with this code.
    #[track_caller]
    pub(crate) fn assert_quiet(&self, exit: i32) {
        self.assert_quiet_with(&[], exit);
    }

    #[track_caller]
    pub(crate) fn assert_quiet_with(&self, flags: &[&str], exit: i32) {
        let before = [self.local().exact(), self.remote().exact()];
        let nodes = ledger::nodes(&self.database());
        let run = self.sync_with(flags).exits(exit);
        assert!(run.ops.is_empty(), "a second run has nothing to do: {run}");
        assert_eq!(run.summary().changes(), 0, "a second run changes nothing: {run}");
        let after = [self.local().exact(), self.remote().exact()];
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.difference(after), Vec::<String>::new(), "touched by {run}");
        }
        assert_eq!(nodes, ledger::nodes(&self.database()), "the recorded state after {run}");
        self.assert_no_leftovers();
        self.assert_verified(&run);
    }

    /// A run says that nothing is left if and only if `verify` finds no difference. Conflicts are open
    /// although both sides have both versions.
    #[track_caller]
    pub(crate) fn assert_verified(&self, run: &Run) {
        let summary = run.summary();
        let is_clean = summary.skipped == 0 && summary.failed == 0 && summary.held == 0;
        let verified = self.run(&["verify"]);
        assert_eq!(verified.exit == 0, is_clean, "{run} but {verified}");
        assert!(verified.exit == 0 || run.exit != 0, "{run} but {verified}");
    }

    /// Nothing half-done is left in the stage of either side.
    #[track_caller]
    pub(crate) fn assert_no_leftovers(&self) {
        for side in self.both() {
            assert_eq!(side.staged(), Vec::<String>::new(), "left in the stage of {}", side.name());
        }
    }

    /// How a scenario ends that leaves nothing to a person: both sides hold exactly this, and
    /// another run is quiet.
    #[track_caller]
    pub(crate) fn settled(&self, lines: &[&str]) {
        self.assert_both(lines);
        self.assert_quiet(0);
    }

    /// How a scenario ends in which both versions were kept.
    #[track_caller]
    pub(crate) fn settled_with_conflict(&self, lines: &[&str]) {
        self.assert_both(lines);
        self.assert_quiet(3);
    }
}

/// The name of the nth of many files.
pub(crate) fn many(number: usize) -> String {
    format!("d{}/f{number}", number % 10)
}

/// Tries a scenario whose moment can be missed until it is met.
#[track_caller]
pub(crate) fn until_met(scenario: impl Fn() -> Option<()>) {
    assert!((0..10).any(|_| scenario().is_some()), "the moment was missed ten times");
}

/// Makes everything the unprivileged user's own, as it would be without root.
fn give_away(path: &Path) {
    let seen = path.symlink_metadata().unwrap();
    if seen.uid() != NOBODY {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    if seen.is_dir() {
        for item in std::fs::read_dir(path).unwrap() {
            give_away(&item.unwrap().path());
        }
    }
}
