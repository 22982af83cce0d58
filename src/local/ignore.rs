//! Which paths are not synced: the configured patterns and the ignore files of the tree.
//!
//! Pure: it is handed texts and asked about paths. The grammar and the precedence are gitignore's,
//! to the letter (`tests/ignore_git.rs` asks git): the last matching line of a file wins, the file
//! of a deeper folder wins over one above, the configured patterns come last, and nothing below an
//! ignored folder can be included again. It never reads a file and folds no case.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use self::line::{Glob, Line};
use crate::tree::path::IGNORE_FILE;
use crate::tree::{Kind, RelPath};

mod line;

/// Where a pattern is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The `ignore` list of the pair; "line" counts its items.
    Config,
    /// The ignore file of this folder.
    File(RelPath),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Config => f.write_str("the configuration"),
            Source::File(dir) if dir.is_root() => f.write_str(IGNORE_FILE),
            Source::File(dir) => write!(f, "{dir}/{IGNORE_FILE}"),
        }
    }
}

/// The line because of which a path is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub source: Source,
    /// From 1.
    pub line: usize,
    pub pattern: String,
    /// What the pattern matches: the path itself or a folder above it.
    pub at: RelPath,
}

/// A line that no path can match, which its writer hardly meant. The other lines count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub source: Source,
    /// From 1.
    pub line: usize,
    pub pattern: String,
    pub reason: String,
}

/// The patterns of one source.
#[derive(Clone, Debug)]
struct Patterns {
    /// In order, each with the place of its line.
    globs: Vec<(usize, Glob)>,
    lines: Vec<String>,
    problems: Vec<Problem>,
}

/// All rules of a pair.
#[derive(Clone, Debug)]
pub struct Rules {
    config: Patterns,
    /// By the text of the folder's path; only folders with an ignore file.
    folders: HashMap<String, Patterns>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new(&[])
    }
}

impl Rules {
    /// The configured patterns, relative to the root of the pair.
    pub fn new(config: &[String]) -> Rules {
        Rules { config: Patterns::new(config.to_vec(), &Source::Config), folders: HashMap::new() }
    }

    /// Takes the text of a folder's ignore file; an empty text is no file. Whether that changed any
    /// line.
    pub fn set_folder(&mut self, dir: &RelPath, text: &str) -> bool {
        let lines: Vec<String> = line::cut(text).map(str::to_owned).collect();
        if lines.is_empty() {
            return self.folders.remove(dir.as_str()).is_some();
        }
        if self.folders.get(dir.as_str()).is_some_and(|known| known.lines == lines) {
            return false;
        }
        let patterns = Patterns::new(lines, &Source::File(dir.clone()));
        self.folders.insert(dir.as_str().to_owned(), patterns);
        true
    }

    /// No rule at all: nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.config.globs.is_empty() && self.folders.values().all(|p| p.globs.is_empty())
    }

    /// Why a path is ignored; `None` if it is synced.
    pub fn is_ignored(&self, path: &RelPath, kind: Kind) -> Option<Matched> {
        if self.is_empty() {
            return None;
        }
        // From the top down: below an ignored folder no other line is ever looked at.
        let text = path.as_str();
        let mut files: Vec<(usize, &Patterns)> = Vec::new();
        files.extend(self.folders.get("").map(|patterns| (0, patterns)));
        let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
        for end in ends.filter(|end| *end > 0) {
            let is_dir = end < text.len() || kind == Kind::Dir;
            let found = self.deciding(&files, &text[..end], is_dir);
            if let Some((patterns, decision, dir_end)) = found.filter(|(_, d, _)| !d.includes) {
                return patterns.explain(decision.line, dir_end, &text[..end]);
            }
            files.extend(self.folders.get(&text[..end]).map(|patterns| (end, patterns)));
        }
        None
    }

    /// The line that decides about one path, whatever is said about the folders above it.
    fn deciding<'a>(
        &'a self,
        files: &[(usize, &'a Patterns)],
        path: &str,
        is_dir: bool,
    ) -> Option<(&'a Patterns, Decision, Option<usize>)> {
        let of_file = |(end, patterns): &(usize, &'a Patterns)| {
            let below = path[*end..].trim_start_matches('/');
            Some((*patterns, patterns.decide(below, is_dir)?, Some(*end)))
        };
        let of_config = || Some((&self.config, self.config.decide(path, is_dir)?, None));
        files.iter().rev().find_map(of_file).or_else(of_config)
    }

    /// Lines that no path can match, in order.
    pub fn problems(&self) -> Vec<Problem> {
        let all = std::iter::once(&self.config).chain(self.folders.values());
        let mut problems: Vec<Problem> = all.flat_map(|p| p.problems.iter().cloned()).collect();
        problems.sort();
        problems
    }

    /// Equal exactly if all lines are equal: tells whether a new judgement of all paths is due.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |part: &str| {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        };
        let mut dirs: Vec<&String> = self.folders.keys().collect();
        dirs.sort();
        add(&self.config.lines.len().to_string());
        self.config.lines.iter().for_each(|line| add(line));
        for dir in dirs {
            add(dir);
            add(&self.folders[dir].lines.len().to_string());
            self.folders[dir].lines.iter().for_each(|line| add(line));
        }
        hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The line that decides about a path.
#[derive(Clone, Copy)]
struct Decision {
    /// Its place, from 0.
    line: usize,
    /// The line begins with `!`.
    includes: bool,
}

impl Patterns {
    fn new(lines: Vec<String>, source: &Source) -> Patterns {
        let (mut globs, mut problems) = (Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            match line::read(line) {
                Line::Nothing => {}
                Line::Glob(glob) => globs.push((at, glob)),
                Line::Unmatchable(reason) => problems.push(Problem {
                    source: source.clone(),
                    line: at + 1,
                    pattern: line::trim(line).to_owned(),
                    reason: reason.to_owned(),
                }),
            }
        }
        Patterns { globs, lines, problems }
    }

    /// The last line that matches, and whether it includes. `path` is relative to the folder of the
    /// source.
    fn decide(&self, path: &str, is_dir: bool) -> Option<Decision> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let last = self.globs.iter().rev().find(|(_, glob)| glob.matches(path, name, is_dir));
        last.map(|(line, glob)| Decision { line: *line, includes: glob.includes })
    }

    /// `dir_end`: where in `at` the folder of the ignore file ends; `None` for the configuration.
    fn explain(&self, line: usize, dir_end: Option<usize>, at: &str) -> Option<Matched> {
        let source = match dir_end {
            None => Source::Config,
            Some(end) => Source::File(RelPath::new(&at[..end]).ok()?),
        };
        let pattern = line::trim(&self.lines[line]).to_owned();
        Some(Matched { source, line: line + 1, pattern, at: RelPath::new(at).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    /// Rules from the configuration and from (folder, text of its ignore file).
    fn rules(config: &[&str], files: &[(&str, &str)]) -> Rules {
        let config: Vec<String> = config.iter().map(|s| (*s).to_owned()).collect();
        let mut rules = Rules::new(&config);
        for (dir, text) in files {
            rules.set_folder(&path(dir), text);
        }
        rules
    }

    fn ignored(rules: &Rules, file: &str) -> bool {
        rules.is_ignored(&path(file), Kind::File).is_some()
    }

    #[test]
    fn the_last_matching_line_wins() {
        let rules = rules(&[], &[("", "*.log\n!keep.log\n")]);
        assert!(ignored(&rules, "a.log"));
        assert!(ignored(&rules, "deep/down/a.log"));
        assert!(!ignored(&rules, "keep.log"));
    }

    #[test]
    fn a_deeper_file_wins_over_one_above_and_over_the_configuration() {
        let rules = rules(&["*.tmp"], &[("", "*.log"), ("d", "!*.log\n!*.tmp"), ("d/e", "x.log")]);
        assert!(ignored(&rules, "a.tmp") && ignored(&rules, "a.log"));
        assert!(!ignored(&rules, "d/a.tmp") && !ignored(&rules, "d/a.log"));
        assert!(!ignored(&rules, "d/e/a.log") && ignored(&rules, "d/e/x.log"));
    }

    #[test]
    fn nothing_below_an_ignored_folder_can_be_included_again() {
        let rules = rules(&[], &[("", "out/\n!out/keep\n"), ("out", "!*")]);
        assert!(ignored(&rules, "out/keep"));
        assert!(ignored(&rules, "out/deeper/keep"));
        let kept = super::tests::rules(&[], &[("", "out/*\n!out/keep\n")]);
        assert!(!ignored(&kept, "out/keep") && ignored(&kept, "out/other"));
    }

    #[test]
    fn a_pattern_for_folders_leaves_files_of_that_name() {
        let rules = rules(&[], &[("", "build/")]);
        assert!(!ignored(&rules, "build"));
        assert!(rules.is_ignored(&path("build"), Kind::Dir).is_some());
        assert!(ignored(&rules, "a/build/x"));
    }

    #[test]
    fn a_pattern_with_a_slash_holds_only_from_its_own_folder() {
        let rules = rules(&[], &[("d", "/x\ny/z")]);
        assert!(ignored(&rules, "d/x") && !ignored(&rules, "d/e/x") && !ignored(&rules, "x"));
        assert!(ignored(&rules, "d/y/z") && !ignored(&rules, "d/e/y/z"));
    }

    #[test]
    fn the_match_names_source_line_pattern_and_folder() {
        let rules = rules(&["*.tmp"], &[("d", "# why\n\nsecret/  \n")]);
        let matched = rules.is_ignored(&path("d/secret/deep/key"), Kind::File).unwrap();
        assert_eq!(matched.source.to_string(), "d/.foldsyncignore");
        assert_eq!((matched.line, matched.pattern.as_str()), (3, "secret/"));
        assert_eq!(matched.at, path("d/secret"));
        let matched = rules.is_ignored(&path("a.tmp"), Kind::File).unwrap();
        assert_eq!((matched.source, matched.line), (Source::Config, 1));
    }

    #[test]
    fn braces_are_plain_characters_and_classes_have_names() {
        let rules = rules(&["*.{jpg,png}"], &[("", "{draft}.txt\nlog[[:digit:]]\n")]);
        for synced in ["draft.txt", "a.jpg", "a.png", "logx"] {
            assert!(!ignored(&rules, synced), "{synced}");
        }
        for left_out in ["{draft}.txt", "d/c.{jpg,png}", "log1"] {
            assert!(ignored(&rules, left_out), "{left_out}");
        }
        assert_eq!(rules.problems(), []);
    }

    #[test]
    fn a_line_that_no_path_can_match_is_reported_and_the_others_count() {
        let rules = rules(&["*.tmp", "a[b"], &[("", "*.log\nx[\n\n# [\n!y[[:foo:]]  \n")]);
        assert!(ignored(&rules, "a.tmp") && ignored(&rules, "a.log"));
        assert!(!ignored(&rules, "a[b") && !ignored(&rules, "x["));
        let problems = rules.problems();
        let found: Vec<(&Source, usize, &str)> =
            problems.iter().map(|p| (&p.source, p.line, p.pattern.as_str())).collect();
        let file = Source::File(RelPath::root());
        assert_eq!(
            found,
            [(&Source::Config, 2, "a[b"), (&file, 2, "x["), (&file, 5, "!y[[:foo:]]")]
        );
    }

    #[test]
    fn of_lines_that_no_path_can_match_it_is_said_why() {
        let many = format!("{}*", "*a".repeat(63));
        for (line, reason) in [
            ("[", "`[` is not closed"),
            ("a[]", "`[` is not closed"),
            ("[[:alpha:]", "`[` is not closed"),
            ("[a\\]", "`[` is not closed"),
            ("[[:letters:]]", "no class"),
            ("x\\", "backslash"),
            ("x\\/", "backslash"),
            ("!", "nothing follows"),
            ("/", "no name is"),
            ("./x", "no name is"),
            ("!a/../b", "no name is"),
            ("a//b", "no name is"),
            (&many, "stars"),
        ] {
            let problems = rules(&[], &[("", line)]).problems();
            assert_eq!(problems.len(), 1, "{line}");
            assert!(problems[0].reason.contains(reason), "{line}: {}", problems[0].reason);
        }
        for line in [
            "[]]",
            "[]-a]",
            "[[:]",
            "[a-[:alpha:]]",
            "{",
            "...",
            "a**/.",
            "[/.]/x",
            "\\[",
            &many[1..],
        ] {
            assert_eq!(rules(&[], &[("", line)]).problems(), [], "{line}");
        }
    }

    // NM-15, NM-24
    #[test]
    fn odd_names_are_matched_like_others() {
        let rules = rules(&[], &[("", "odd*\n*.x\nlast?\n\\!bang\n\\#hash\ntrail\\ ")]);
        for odd in ["odd\nline", "odd\u{1b}[31m", "a\nb.x", "\u{202e}.x", "last\n", "d/ü\t.x"] {
            assert!(ignored(&rules, odd), "{odd:?}");
        }
        assert!(ignored(&rules, "!bang") && ignored(&rules, "#hash") && ignored(&rules, "trail "));
        assert!(!ignored(&rules, "bang") && !ignored(&rules, "trail"));
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_pattern() {
        let rules = rules(&[], &[("", "\u{feff}a\r\nb\r\n")]);
        assert!(ignored(&rules, "a") && ignored(&rules, "b"));
    }

    #[test]
    fn the_fingerprint_changes_with_every_line_and_place() {
        let base = rules(&["a"], &[("d", "b")]);
        let same = rules(&["a"], &[("d", "b\n")]);
        assert_eq!(base.fingerprint(), same.fingerprint());
        for other in [
            rules(&["a", "b"], &[("d", "b")]),
            rules(&["a"], &[("e", "b")]),
            rules(&["a"], &[("d", "c")]),
            rules(&["a"], &[]),
            rules(&[], &[("d", "b")]),
        ] {
            assert_ne!(base.fingerprint(), other.fingerprint());
        }
    }

    #[test]
    fn rules_without_patterns_are_empty_and_an_empty_text_removes_a_file() {
        let mut rules = rules(&[], &[("", "# only a comment\n")]);
        assert!(rules.is_empty());
        assert!(rules.set_folder(&path("d"), "*.log"));
        assert!(!rules.set_folder(&path("d"), "*.log\n"));
        assert!(!rules.is_empty() && ignored(&rules, "d/a.log"));
        assert!(rules.set_folder(&path("d"), ""));
        assert!(rules.is_empty() && !ignored(&rules, "d/a.log"));
    }
}
