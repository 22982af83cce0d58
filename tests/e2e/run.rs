//! One call of the program, and what it said.

use std::fmt;
use std::process::Output;

use serde::Deserialize;
use serde_json::Value;

use super::tree::plain;

/// A line of `sync --once --json` or `plan --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Op {
    pub op: String,
    pub path: String,
    pub to: Option<String>,
    pub bytes: u64,
    pub result: String,
    pub reason: String,
    pub error: Option<String>,
    /// Where it happened.
    pub side: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    pub uploaded: u64,
    pub downloaded: u64,
    pub moved: u64,
    pub deleted: u64,
    pub conflicts: u64,
    pub skipped: u64,
    pub failed: u64,
    pub held: u64,
    pub instant: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub requests: u64,
    pub duration_s: f64,
    pub exit: i32,
}

impl Summary {
    pub fn changes(&self) -> u64 {
        self.uploaded + self.downloaded + self.moved + self.deleted
    }

    pub fn bytes(&self) -> u64 {
        self.bytes_up + self.bytes_down
    }
}

/// A call that ended.
#[derive(Clone, Debug)]
pub struct Run {
    command: String,
    pub exit: i32,
    pub ops: Vec<Op>,
    pub summary: Option<Summary>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn new(arguments: &[&str], output: &Output) -> Run {
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
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[track_caller]
    pub fn summary(&self) -> &Summary {
        self.summary.as_ref().unwrap_or_else(|| panic!("no summary: {self}"))
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert_eq!(self.exit, code, "the exit code: {self}");
        self
    }

    /// Standard error has these words.
    #[track_caller]
    pub fn complains(self, words: &str) -> Run {
        assert!(self.err.contains(words), "{words:?} in what it complains of: {self}");
        self
    }

    /// Standard output has these words.
    #[track_caller]
    pub fn says(self, words: &str) -> Run {
        assert!(self.out.contains(words), "{words:?} in what it says: {self}");
        self
    }

    /// The paths of all operations of a kind, sorted.
    pub fn paths(&self, op: &str) -> Vec<&str> {
        let mut paths: Vec<&str> = self
            .ops
            .iter()
            .filter(|found| found.op == op)
            .map(|found| found.path.as_str())
            .collect();
        paths.sort_unstable();
        paths
    }

    /// The only operation of a kind.
    #[track_caller]
    pub fn only_of(&self, kind: &str) -> &Op {
        let found: Vec<&Op> = self.ops.iter().filter(|op| op.op == kind).collect();
        assert_eq!(found.len(), 1, "one {kind}: {self}");
        found[0]
    }

    /// What was done, or is to be done, without its order and the times in names.
    pub fn outline(&self) -> Vec<String> {
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
    pub fn only(&self, path: &str) -> &Op {
        let mut found = self.ops.iter().filter(|op| op.path == path);
        let only = found.next().unwrap_or_else(|| panic!("nothing was done to {path}: {self}"));
        assert_eq!(found.next(), None, "one operation on {path}: {self}");
        only
    }

    /// Nothing was sent either way.
    #[track_caller]
    pub fn moves_no_bytes(self) -> Run {
        assert_eq!(self.summary().bytes(), 0, "no content is sent: {self}");
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`foldsync {}` exits {}\n{}{}", self.command, self.exit, self.out, self.err)
    }
}
