//! The desktop's keyring, asked through the platform's own program: one look-up that is ended after a
//! short while, because a locked keyring may wait for a person for ever.
//!
//! Owns how the program is found and asked. Never writes to a keyring, never starts a service, and is
//! not there at all where no session is that could answer.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::sources::{printed_within, trimmed};
use crate::clock::Clock;
use crate::remote::http::Secret;

/// How the program is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// `secret-tool` of libsecret.
    SecretTool,
    /// `security` of macOS.
    Security,
}

impl Dialect {
    fn of_platform() -> Dialect {
        if cfg!(target_os = "macos") { Dialect::Security } else { Dialect::SecretTool }
    }

    fn program(self) -> &'static str {
        match self {
            Dialect::SecretTool => "secret-tool",
            Dialect::Security => "security",
        }
    }

    fn arguments(self, remote: &str) -> Vec<&str> {
        match self {
            Dialect::SecretTool => vec!["lookup", "service", "foldsync", "remote", remote],
            Dialect::Security => {
                vec!["find-generic-password", "-s", "foldsync", "-a", remote, "-w"]
            }
        }
    }

    /// Whether an exit code without words means that there is no such item.
    fn is_missing(self, code: Option<i32>, words: &str) -> bool {
        match self {
            Dialect::SecretTool => code == Some(1) && words.trim().is_empty(),
            Dialect::Security => code == Some(44),
        }
    }
}

/// A keyring that may answer.
#[derive(Clone, Debug)]
pub struct Keyring {
    program: PathBuf,
    dialect: Dialect,
    limit: Duration,
}

/// What a look-up led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    Found(Secret),
    Missing,
    /// Why it gave nothing, for one line of a log.
    NoAnswer(String),
}

impl Keyring {
    /// A person who is there unlocks it beforehand; nobody else is waited for.
    const LIMIT: Duration = Duration::from_secs(3);

    /// `None` without a session bus or without the program: there is nothing to ask.
    pub fn of_session(environment: impl Fn(&str) -> Option<String>) -> Option<Keyring> {
        let dialect = Dialect::of_platform();
        if dialect == Dialect::SecretTool && !has_session_bus(&environment) {
            return None;
        }
        let program = find_program(&environment("PATH")?, dialect.program())?;
        Some(Keyring { program, dialect, limit: Keyring::LIMIT })
    }

    /// Asks for the item of a remote. Never waits for longer than its limit.
    pub async fn look_up(&self, remote: &str, clock: &dyn Clock) -> LookUp {
        let mut command = Command::new(&self.program);
        command.args(self.dialect.arguments(remote));
        let output = match printed_within(&mut command, self.limit, clock).await {
            Ok(output) => output,
            Err(why) => return LookUp::NoAnswer(why),
        };
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap_or_default();
            return trimmed(&text).map_or(LookUp::Missing, LookUp::Found);
        }
        if self.dialect.is_missing(output.status.code(), &words) {
            return LookUp::Missing;
        }
        let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
        LookUp::NoAnswer(format!("it ended with {}: {line}", output.status))
    }

    pub fn program(&self) -> &Path {
        &self.program
    }
}

fn has_session_bus(environment: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| environment(name).filter(|value| !value.is_empty());
    is_set("DBUS_SESSION_BUS_ADDRESS").is_some()
        || is_set("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("bus").exists())
}

fn find_program(path: &str, name: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let mut programs = folders.map(|folder| folder.join(name));
    programs.find(|program| {
        let found = program.metadata();
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    impl Keyring {
        /// A `secret-tool` of a few lines of shell, in a folder of its own.
        pub(in super::super) fn in_tests(dir: &Path, script: &str) -> Keyring {
            let dir = dir.join(format!("tool-{}", script.len()));
            std::fs::create_dir_all(&dir).unwrap();
            let program = dir.join("secret-tool");
            // By a process of its own: a program that any fork of ours has open cannot be run.
            let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$2\" && chmod 755 \"$2\"";
            let mut shell = std::process::Command::new("sh");
            let written = shell.args(["-c", write, "sh", script]).arg(&program).status().unwrap();
            assert!(written.success());
            Keyring { program, dialect: Dialect::SecretTool, limit: Duration::from_secs(60) }
        }
    }

    async fn ask(script: &str) -> LookUp {
        let dir = tempfile::tempdir().unwrap();
        Keyring::in_tests(dir.path(), script).look_up("top", &SystemClock).await
    }

    #[tokio::test]
    async fn an_item_is_asked_for_by_service_and_remote() {
        let found = ask(r#"[ "$*" = "lookup service foldsync remote top" ] && echo token"#).await;
        assert_eq!(found, LookUp::Found(Secret::new("token")));
        assert_eq!(ask("exit 1").await, LookUp::Missing);
        assert_eq!(ask("true").await, LookUp::Missing);
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_words() {
        let LookUp::NoAnswer(why) = ask("echo 'Cannot prompt' >&2; exit 1").await else {
            panic!("a refusal is no missing item");
        };
        assert!(why.ends_with("Cannot prompt"), "{why}");
    }

    #[tokio::test]
    async fn a_locked_keyring_that_never_answers_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(20);
        let keyring = Keyring { limit, ..Keyring::in_tests(dir.path(), "exec sleep 600") };
        let LookUp::NoAnswer(why) = keyring.look_up("top", &SystemClock).await else {
            panic!("it never answers");
        };
        assert!(why.starts_with("no answer within"), "{why}");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn without_a_session_or_a_program_nothing_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let program = Keyring::in_tests(dir.path(), "exit 1").program;
        let path = program.parent().unwrap().to_str().unwrap().to_owned();
        let session = |variables: &[(&str, &str)]| {
            Keyring::of_session(|name| {
                let known = variables.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| (*value).to_owned())
            })
        };
        let bus = ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/bus");
        let found = session(&[("PATH", &path), bus]).unwrap();
        assert_eq!(found.program(), program);
        assert!(session(&[("PATH", &path)]).is_none(), "no bus");
        assert!(session(&[("PATH", "/nowhere:relative"), bus]).is_none(), "no program");
        let runtime = ("XDG_RUNTIME_DIR", path.as_str());
        assert!(session(&[("PATH", &path), runtime]).is_none(), "no bus in it");
        std::fs::write(Path::new(&path).join("bus"), "").unwrap();
        assert!(session(&[("PATH", &path), runtime]).is_some());
    }
}
