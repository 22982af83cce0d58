//! Mounts that only a test sees: a shell in a user and mount namespace of its own. Its files are
//! reached through `/proc`, so the program itself runs outside.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// See the module text.
pub(crate) struct Mounts {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Mounts {
    /// `None`, with the reason printed, where this computer does not allow that.
    pub(crate) fn new() -> Option<Mounts> {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = match command.stderr(Stdio::null()).spawn() {
            Ok(shell) => shell,
            Err(error) => {
                println!("skipped: unshare: {error}");
                return None;
            }
        };
        let orders = shell.stdin.take().unwrap();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        let mut mounts = Mounts { shell, orders, answers };
        let works = mounts.order("mount -t tmpfs tmpfs /mnt && umount /mnt");
        if !works {
            println!("skipped: no mounts in a user namespace here");
        }
        works.then_some(mounts)
    }

    /// Where the shell's view of a path is seen from outside.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.shell.id());
        Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) {
        assert!(self.order(command), "{command}");
    }

    fn order(&mut self, command: &str) -> bool {
        if writeln!(self.orders, "{command} >&2; echo done $?").is_err() {
            return false;
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer).is_ok() && answer == "done 0\n"
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let ended = self.shell.kill().and_then(|()| self.shell.wait());
        assert!(ended.is_ok(), "{ended:?}");
    }
}
