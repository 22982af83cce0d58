//! One call of the program, and what it said.

use std::fmt;
use std::process::Output;

use serde::Deserialize;
use serde_json::Value;

use super::tree::plain;

/// A line of `sync --once --json` or `plan --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Op {
    pub(crate) op: String,
    pub(crate) path: String,
    pub(crate) to: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) result: String,
    pub(crate) reason: String,
    pub(crate) error: Option<String>,
    /// Where it happened.
    pub(crate) side: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    pub(crate) uploaded: u64,
    pub(crate) downloaded: u64,
    pub(crate) moved: u64,
    pub(crate) deleted: u64,
    pub(crate) conflicts: u64,
    pub(crate) skipped: u64,
    pub(crate) failed: u64,
    pub(crate) held: u64,
    pub(crate) instant: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) requests: u64,
    pub(crate) duration_s: f64,
    pub(crate) exit: i32,
}

impl Summary {
    pub(crate) fn changes(&self) -> u64 {
        self.uploaded + self.downloaded + self.moved + self.deleted
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_up + self.bytes_down
    }
}

/// A call that ended.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    command: String,
    pub(crate) exit: i32,
    pub(crate) ops: Vec<Op>,
    pub(crate) summary: Option<Summary>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn new(arguments: &[&str], output: &Output) -> Run {
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        let err = String::from_utf8(output.stderr.clone()).unwrap();
        let command = arguments.join(" ");
        let code = output.status.code();
        let exit = code.unwrap_or_else(|| panic!("{command}: {:?}\n{out}{err}", output.status));
        let mut run = Run { command, exit, ops: Vec::new(), summary: None, out, err };
        for value in run.json() {
            match (value.get("summary"), value.get("reason"), value.get("result")) {
                (Some(summary), _, _) => {
                    run.summary = Some(serde_json::from_value(summary.clone()).unwrap());
                }
                (None, Some(_), Some(_)) => run.ops.push(serde_json::from_value(value).unwrap()),
                (None, _, _) => {}
            }
        }
        run
    }

    /// The lines of standard output that are JSON objects.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[track_caller]
    pub(crate) fn summary(&self) -> &Summary {
        self.summary.as_ref().unwrap_or_else(|| panic!("no summary: {self}"))
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Run {
        assert_eq!(self.exit, code, "the exit code: {self}");
        self
    }

    /// Standard error has these words.
    #[track_caller]
    pub(crate) fn complains(self, words: &str) -> Run {
        assert!(self.err.contains(words), "{words:?} in what it complains of: {self}");
        self
    }

    /// Standard output has these words.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Run {
        assert!(self.out.contains(words), "{words:?} in what it says: {self}");
        self
    }

    /// The paths of all operations of a kind, sorted.
    pub(crate) fn paths(&self, op: &str) -> Vec<&str> {
        let mut paths: Vec<&str> = self
            .ops
            .iter()
            .filter(|found| found.op == op)
            .map(|found| found.path.as_str())
            .collect();
        paths.sort_unstable();
        paths
    }

    /// What was done, or is to be done, without its order and the times in names.
    pub(crate) fn outline(&self) -> Vec<String> {
        let line = |op: &Op| {
            let to = op.to.as_deref().map(plain).unwrap_or_default();
            format!("{} {} {} {to} because {}", op.op, op.side, plain(&op.path), op.reason)
        };
        let mut lines: Vec<String> = self.ops.iter().map(line).collect();
        lines.sort();
        lines
    }

    /// The only operation on a path.
    #[track_caller]
    pub(crate) fn only(&self, path: &str) -> &Op {
        let mut found = self.ops.iter().filter(|op| op.path == path);
        let only = found.next().unwrap_or_else(|| panic!("nothing was done to {path}: {self}"));
        assert_eq!(found.next(), None, "one operation on {path}: {self}");
        only
    }

    /// Nothing was sent either way.
    #[track_caller]
    pub(crate) fn moves_no_bytes(self) -> Run {
        assert_eq!(self.summary().bytes(), 0, "no content is sent: {self}");
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`foldsync {}` exits {}\n{}{}", self.command, self.exit, self.out, self.err)
    }
}
