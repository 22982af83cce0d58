//! What is wrong with a configuration file, and how it is shown: place, line, caret, suggestion.
//!
//! Never shows the value of a key that looks like a secret.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use crate::daemon::hooks::Occasion;
use crate::text::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but somebody should know.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub message: String,
    /// What to do, or what is allowed.
    pub help: Option<String>,
    /// Byte range in the file; `None` for what no line shows.
    pub at: Option<Range<usize>>,
}

impl Problem {
    pub fn error(at: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Error, message: message.into(), help: None, at: Some(at) }
    }

    pub fn warning(at: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(at, message) }
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// A file's name and text, for messages.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    /// `FILE:LINE:COLUMN: message`, then the line, a caret and the help.
    pub fn show(&self, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let file = printable(&self.path.to_string_lossy());
        let message = printable(&problem.message);
        let help = problem.help.as_deref().map(printable);
        let mut out = String::new();
        if file.is_empty() {
            // From the command line: there is no line to point at.
            return match help {
                Some(help) => format!("{message}: {help}"),
                None => message,
            };
        }
        let Some(at) = &problem.at else {
            let _ = write!(out, "{file}: {level}: {message}");
            if let Some(help) = help {
                let _ = write!(out, "\n  {help}");
            }
            return out;
        };
        let spot = self.spot(at);
        let _ = write!(out, "{file}:{}:{}: {level}: {message}", spot.line, spot.column);
        let number = spot.line.to_string();
        let margin = " ".repeat(number.len());
        let carets = "^".repeat(spot.width);
        let indent = " ".repeat(spot.column - 1);
        let _ = write!(out, "\n {number} | {}\n {margin} | {indent}{carets}", spot.text);
        if let Some(help) = help {
            let _ = write!(out, " {help}");
        }
        out
    }

    fn spot(&self, at: &Range<usize>) -> Spot {
        let start = floor_char(&self.text, at.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let rest = &self.text[line_start..];
        let line = rest.split('\n').next().unwrap_or("").trim_end_matches('\r');
        let shown = hide_secret(line);
        let column = before[line_start..].chars().count() + 1;
        let end = floor_char(&self.text, at.end.max(start)).min(line_start + line.len());
        let width = self.text[start..end.max(start)].chars().count();
        // The caret of a hidden value points at its beginning only.
        let room = (shown.chars().count() + 1).saturating_sub(column - 1);
        Spot {
            line: before.matches('\n').count() + 1,
            column,
            width: width.clamp(1, room.max(1)),
            // One column for each character, so that the caret is below its place.
            text: shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }
}

struct Spot {
    line: usize,
    column: usize,
    width: usize,
    text: String,
}

fn floor_char(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// Whether a key of this name holds something that must not be printed.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    let secret = ["secret", "password", "token", "session"].iter().any(|word| key.contains(word));
    secret && !key.ends_with("_command")
}

/// Addresses of webhooks and arguments of commands let others in.
fn is_hook(key: &str) -> bool {
    Occasion::ALL.iter().any(|on| key.trim() == on.word())
}

fn hide_secret(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) if is_secret(key) || is_hook(key) => format!("{key}= …"),
        _ => line.to_owned(),
    }
}

/// The candidate that was probably meant, if one is near enough.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = typed.chars().count().div_ceil(3);
    let ranked =
        candidates.into_iter().map(|c| (distance(&typed.to_lowercase(), &c.to_lowercase()), c));
    ranked.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// `a`, `b` or `c`.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::from("sync.toml"), text: text.to_owned() }
    }

    #[test]
    fn the_caret_is_below_the_key_also_after_wide_letters() {
        let text = "[daemon]\nlog = \"é\" # 文 lgo = 1\n";
        let start = text.find("lgo").unwrap();
        let problem =
            Problem::error(start..start + 3, "unknown key `lgo`").help("did you mean `log`?");
        let shown = source(text).show(&problem);
        assert_eq!(
            shown,
            "sync.toml:2:15: error: unknown key `lgo`\n 2 | log = \"é\" # 文 lgo = 1\n   |               ^^^ did you mean `log`?"
        );
    }

    #[test]
    fn the_value_of_a_secret_is_never_shown() {
        // SE-06
        let text = "client_secret = \"hunter2\"\n";
        let shown = source(text).show(&Problem::error(16..25, "wrong"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("client_secret = …"), "{shown}");
    }

    #[test]
    fn a_place_beyond_the_end_of_the_file_is_shown_at_its_end() {
        let shown = source("a = \"é").show(&Problem::error(90..99, "unclosed"));
        assert!(shown.starts_with("sync.toml:1:7: error: unclosed"), "{shown}");
    }

    #[test]
    fn a_slip_of_the_fingers_is_recognised_and_another_word_is_not() {
        let keys = ["name", "local", "remote", "mode"];
        assert_eq!(nearest("moed", keys), Some("mode"));
        assert_eq!(nearest("Locla", keys), Some("local"));
        assert_eq!(nearest("remot", keys), Some("remote"));
        assert_eq!(nearest("frequency", keys), None);
        assert_eq!(nearest("x", keys), None);
    }
}
