//! Ignore files against git itself: random patterns and paths, the same answers from `Rules` and
//! from `git check-ignore`, down to the line that decides. Where there is no git, this says so.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use foldsync::local::ignore::{Matched, Rules, Source};
use foldsync::tree::{Kind, RelPath};
use tempfile::TempDir;

// ---- git ---------------------------------------------------------------------------------------

/// The line that decides about a path, in git's words: file, line, pattern.
type Line = (String, String, String);

/// A repository of nothing but folders and ignore files.
struct Repository(TempDir);

impl Repository {
    /// `None` where there is no git.
    fn new(test: &str) -> Option<Repository> {
        let repository = Repository(TempDir::new().unwrap());
        match repository.git(&["init", "--quiet", "--template="]).status() {
            Ok(status) => assert!(status.success(), "git init"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("{test} was left out: there is no git here");
                return None;
            }
            Err(error) => panic!("git cannot be started: {error}"),
        }
        fs::create_dir(repository.root().join(".git/info")).unwrap();
        Some(repository)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    /// No settings of the machine count.
    fn git(&self, args: &[&str]) -> Command {
        let mut git = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                git.env_remove(name);
            }
        }
        git.current_dir(self.root()).env("HOME", self.root()).env("GIT_CONFIG_NOSYSTEM", "1");
        git.env_remove("XDG_CONFIG_HOME");
        git.args(["-c", "core.ignoreCase=false"]).args(args);
        git
    }

    /// What decides about each path, in order; `None` where no line matches.
    fn deciding(&self, paths: &[&str]) -> Vec<Option<Line>> {
        let mut git = self.git(&["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"]);
        git.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut git = git.spawn().unwrap();
        let mut stdin = git.stdin.take().unwrap();
        let asked: String = paths.iter().flat_map(|path| [path, "\0"]).collect();
        let writer = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
        let output = git.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "git check-ignore: {}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        let fields: Vec<&str> = text.split_terminator('\0').collect();
        assert_eq!(fields.len(), paths.len() * 4, "four fields for each path");
        let answers = fields.chunks(4).zip(paths).map(|(answer, asked)| {
            assert_eq!(answer[3], *asked);
            let owned = |at: usize| answer[at].to_owned();
            (!answer[0].is_empty()).then(|| (owned(0), owned(1), owned(2)))
        });
        answers.collect()
    }
}

// ---- one case: folders, their ignore files, paths ----------------------------------------------

/// Everything below one folder of the repository.
#[derive(Default)]
struct Case {
    /// Texts of ignore files by folder.
    files: BTreeMap<String, String>,
    dirs: BTreeSet<String>,
    leaves: BTreeSet<String>,
}

impl Case {
    /// Makes the folders; files need not be there: git takes what is not there for no folder.
    fn write(&self, root: &Path) {
        for dir in &self.dirs {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (dir, text) in &self.files {
            fs::create_dir_all(root.join(dir)).unwrap();
            fs::write(root.join(dir).join(".gitignore"), text).unwrap();
        }
    }

    fn items(&self) -> impl Iterator<Item = (&str, Kind)> {
        let dirs = self.dirs.iter().map(|path| (path.as_str(), Kind::Dir));
        let leaves = self.leaves.difference(&self.dirs).map(|path| (path.as_str(), Kind::File));
        dirs.chain(leaves)
    }

    /// A path below `top`, and all the folders above it.
    fn add(&mut self, top: &str, names: &[String]) {
        let mut path = top.to_owned();
        for name in names {
            self.dirs.insert(path.clone());
            path = format!("{path}/{name}");
        }
        self.leaves.insert(path);
    }
}

/// Asks both about every item; the share of ignored ones, in percent.
fn compare(repository: &Repository, config: &[String], cases: &[Case]) -> usize {
    fs::write(repository.root().join(".git/info/exclude"), config.join("\n")).unwrap();
    let mut rules = Rules::new(config);
    for case in cases {
        case.write(repository.root());
        for (dir, text) in &case.files {
            rules.set_folder(&RelPath::new(dir).unwrap(), text);
        }
    }
    let items: Vec<(&str, Kind)> = cases.iter().flat_map(Case::items).collect();
    let paths: Vec<&str> = items.iter().map(|(path, _)| *path).collect();
    let (mut different, mut count, mut ignored) = (String::new(), 0, 0);
    for ((path, kind), git) in items.iter().zip(repository.deciding(&paths)) {
        let ours = rules.is_ignored(&RelPath::new(path).unwrap(), *kind).map(in_words_of_git);
        // A line that includes again is no reason to ignore.
        let git = git.filter(|(_, _, pattern)| !pattern.starts_with('!'));
        ignored += usize::from(git.is_some());
        if ours != git {
            count += 1;
            if count <= 20 {
                writeln!(different, "{path:?} {kind:?}\n    git:  {git:?}\n    here: {ours:?}")
                    .unwrap();
            }
        }
    }
    assert!(different.is_empty(), "{count} of {} differ:\n{different}", items.len());
    println!("{} paths, {ignored} ignored", items.len());
    ignored * 100 / items.len()
}

fn in_words_of_git(matched: Matched) -> Line {
    let file = match &matched.source {
        Source::Config => ".git/info/exclude".to_owned(),
        Source::File(dir) if dir.is_root() => ".gitignore".to_owned(),
        Source::File(dir) => format!("{dir}/.gitignore"),
    };
    (file, matched.line.to_string(), matched.pattern)
}

// ---- chance ------------------------------------------------------------------------------------

/// SplitMix64: the same cases in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn many(&mut self, least: usize, most: usize, choices: &[&str]) -> String {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| self.of(choices)).collect()
    }

    /// Names of few letters, so that patterns meet them, with everything that patterns treat apart.
    fn name(&mut self) -> String {
        const PLAIN: [&str; 8] = ["a", "b", "c", "A", "1", ".", "-", "ab"];
        const ODD: [&str; 18] = [
            " ", "[", "]", "{", "}", ",", "\\", "!", "#", "*", "?", "^", ":", "$", "~", "é", "\t",
            "a\nb",
        ];
        loop {
            let mut name = self.many(1, 3, &PLAIN);
            if self.percent(35) {
                let at = name.char_indices().map(|(at, _)| at).nth(self.below(name.len()));
                name.insert_str(at.unwrap_or(name.len()), self.of(&ODD));
            }
            if self.percent(10) {
                name.push_str(self.of(&ODD));
            }
            if self.percent(3) {
                name = self.many(1, 2, &ODD);
            }
            if name != "." && name != ".." {
                return name;
            }
        }
    }

    /// A set of characters, often a broken one.
    fn set(&mut self) -> String {
        const MEMBERS: [&str; 25] = [
            "a",
            "b",
            "c",
            "A",
            "1",
            ".",
            "a-c",
            "c-a",
            "0-9",
            "a-",
            "-",
            "]",
            "\\]",
            "\\a",
            "!",
            "^",
            "[",
            "{",
            " ",
            "*",
            "/",
            "[:alpha:]",
            "[:digit:]",
            "[:upper:]",
            "é",
        ];
        const RARE: [&str; 14] = [
            "[:alnum:]",
            "[:blank:]",
            "[:cntrl:]",
            "[:graph:]",
            "[:lower:]",
            "[:print:]",
            "[:punct:]",
            "[:space:]",
            "[:xdigit:]",
            "[:foo:]",
            "[:",
            ":]",
            "[:alpha]",
            "\\",
        ];
        let negation = if self.percent(30) { self.of(&["!", "^"]) } else { "" };
        let mut members = self.many(1, 3, &MEMBERS);
        if self.percent(15) {
            members.push_str(self.of(&RARE));
        }
        let end = if self.percent(92) { "]" } else { "" };
        format!("[{negation}{members}{end}")
    }

    /// A pattern of random pieces.
    fn pieces(&mut self) -> String {
        const PIECES: [&str; 30] = [
            "a", "b", "c", "A", "1", ".", "ab", "*", "*", "*", "?", "?", "**", "**/", "/**",
            "/**/", "/", "/", "\\", "\\a", "\\*", "\\ ", "\\!", "\\/", "{a,b}", "{", "}", " ", "!",
            "#",
        ];
        let mut pattern = String::new();
        for _ in 0..1 + self.below(5) {
            if self.percent(20) {
                pattern.push_str(&self.set());
            } else {
                pattern.push_str(self.of(&PIECES));
            }
        }
        pattern
    }

    /// A pattern that one path gave rise to, so that it often matches.
    fn likeness(&mut self, names: &[String]) -> String {
        let from = self.below(names.len());
        let to = from + 1 + self.below(names.len() - from);
        let mut parts = Vec::new();
        for name in &names[from..to] {
            match self.below(100) {
                0..12 => parts.push("*".to_owned()),
                12..20 => parts.push("**".to_owned()),
                20..24 => parts.extend(["**".to_owned(), self.like(name)]),
                _ => parts.push(self.like(name)),
            }
        }
        parts.join("/")
    }

    fn like(&mut self, name: &str) -> String {
        let mut pattern = String::new();
        for char in name.chars() {
            match self.below(100) {
                0..8 => pattern.push('?'),
                8..18 => pattern.push('*'),
                18..21 => pattern.push_str("**"),
                21..24 => {}
                24..32 => write!(pattern, "[{char}]").unwrap(),
                32..36 => write!(pattern, "[!{char}]").unwrap(),
                36..42 => write!(pattern, "[{char}-c]").unwrap(),
                42..48 => pattern.push_str(&self.set()),
                48..54 => pattern.push_str(self.of(&["[[:alpha:]]", "[[:digit:]]", "[[:punct:]]"])),
                54..66 => write!(pattern, "\\{char}").unwrap(),
                66..68 => write!(pattern, "{char}*").unwrap(),
                _ => pattern.push(char),
            }
        }
        pattern
    }

    /// A line of an ignore file, made for one of these paths.
    fn line(&mut self, paths: &[Vec<String>]) -> String {
        let names = &paths[self.below(paths.len())];
        let mut line = if self.percent(35) { self.pieces() } else { self.likeness(names) };
        if self.percent(15) {
            line.insert(0, '/');
        }
        if self.percent(15) {
            line.push('/');
        }
        if self.percent(18) {
            line.insert_str(0, self.of(&["!", "!", "!", "!", "\\", "#", "\\!", "\\#", "!!", " "]));
        }
        if self.percent(12) {
            line.push_str(self.of(&[" ", "  ", "\\ ", "\\  ", " \\ ", "\t", "\\", " \\", "\r"]));
        }
        // A line is a line.
        line.replace('\n', "?")
    }

    fn text(&mut self, most: usize, paths: &[Vec<String>]) -> String {
        let mark = if self.percent(3) { "\u{feff}" } else { "" };
        let mut text = mark.to_owned();
        for _ in 0..1 + self.below(most) {
            text.push_str(&self.line(paths));
            text.push_str(if self.percent(5) { "\r\n" } else { "\n" });
        }
        if self.percent(10) {
            text.pop();
        }
        text
    }

    fn paths(&mut self, count: usize) -> Vec<Vec<String>> {
        let mut paths: Vec<Vec<String>> = Vec::new();
        for _ in 0..count {
            // Some share the way down.
            let mut names = match paths.len() {
                0 => Vec::new(),
                known => {
                    let other = &paths[self.below(known)];
                    other[..self.below(other.len() + 1)].to_vec()
                }
            };
            for _ in 0..1 + self.below(3) {
                names.push(self.name());
            }
            paths.push(names);
        }
        paths
    }
}

/// The same in every run; `FOLDSYNC_SEED` adds to it, to try others.
fn seed(base: u64) -> u64 {
    let more = std::env::var("FOLDSYNC_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    base + 1_000 * more.unwrap_or_default()
}

// ---- the tests ---------------------------------------------------------------------------------

#[test]
fn each_line_says_to_us_what_it_says_to_git() {
    let Some(repository) = Repository::new("each_line_says_to_us_what_it_says_to_git") else {
        return;
    };
    let mut chance = Chance(seed(9));
    let mut cases = Vec::new();
    for number in 0..800 {
        let top = format!("t{number}");
        let mut case = Case::default();
        let paths = chance.paths(8);
        paths.iter().for_each(|names| case.add(&top, names));
        case.files.insert(top, chance.text(5, &paths));
        cases.push(case);
    }
    let ignored = compare(&repository, &[], &cases);
    assert!((15..85).contains(&ignored), "{ignored} % are ignored: these cases try too little");
}

#[test]
fn nested_files_and_the_configured_list_have_the_precedence_of_gits() {
    let test = "nested_files_and_the_configured_list_have_the_precedence_of_gits";
    let Some(repository) = Repository::new(test) else { return };
    let mut chance = Chance(seed(90));
    for round in 0..10 {
        let (mut cases, mut config) = (Vec::new(), Vec::new());
        for number in 0..50 {
            let top = format!("r{round}.{number}");
            let mut case = Case::default();
            let paths = chance.paths(12);
            paths.iter().for_each(|names| case.add(&top, names));
            for dir in case.dirs.clone() {
                if chance.percent(40) {
                    // Made for paths below this folder, mostly.
                    let mut below: Vec<Vec<String>> =
                        case.leaves.iter().map(|leaf| names_below(leaf, &dir)).collect();
                    below.retain(|names| !names.is_empty());
                    let all = if below.is_empty() { &paths } else { &below };
                    case.files.insert(dir, chance.text(3, all));
                }
            }
            if chance.percent(50) {
                let line = chance.line(&paths).replace(['\r', '\u{feff}'], "");
                let (mark, rest) = line.split_at(usize::from(line.starts_with('!')));
                config.push(format!("{mark}/{top}/{}", rest.trim_start_matches('/')));
            }
            if chance.percent(10) {
                // For all of the tree.
                config.push(
                    chance.of(&["*.a", "?b", "[1-]", "!ab", "-*", "c/", "!*b/", "A*"]).to_owned(),
                );
            }
            cases.push(case);
        }
        let ignored = compare(&repository, &config, &cases);
        assert!((10..90).contains(&ignored), "{ignored} % are ignored: these cases try too little");
    }
}

/// The names of a path from a folder on; empty if it is elsewhere.
fn names_below(path: &str, dir: &str) -> Vec<String> {
    let below = path.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    below.split_terminator('/').map(str::to_owned).collect()
}

/// Tables of what people write, each line of which git judges too.
#[test]
fn what_people_write_means_what_it_means_to_git() {
    let test = "what_people_write_means_what_it_means_to_git";
    let Some(repository) = Repository::new(test) else { return };
    let lines = [
        "{draft}.txt",
        "*.{jpg,png}",
        "log[[:digit:]]",
        "[[:upper:]]*",
        "[[:foo:]]",
        "[a",
        "a[",
        "[]]",
        "[!]]",
        "[a-c]x",
        "[^a]x",
        "\\#x",
        "\\!x",
        "#x",
        "!x",
        "x ",
        "x\\ ",
        "x\\",
        "\tx",
        "x\t",
        "*",
        "**",
        "**/x",
        "x/**",
        "a/**/x",
        "a**/x",
        "**x",
        "/x",
        "x/",
        "/x/",
        "//x",
        "x//",
        "a//x",
        "/",
        "!",
        "./x",
        "../x",
        ".",
        "..",
        "?",
        "??",
        "a?x",
        "X",
        "é",
        "caf?",
        "caf??",
        "caf*",
        "[é]",
        "a\\x",
        "*x*",
        "*.x",
        "x.*",
        "\\*",
        "\\**",
        "a/x",
        "*/x",
        "a/*",
        "a/",
        "a/b",
        ".*",
        "*~",
        "$x",
        "\\$x",
        "[[:space:]]x",
        "[[:]x",
        "[[:x]",
        "[x[:]",
        "[a-[:alpha:]]",
        "[\\a-[:alpha:]]",
        "x\r",
        "a*b*c*x",
    ];
    let names: Vec<Vec<String>> = [
        "x",
        "X",
        "a",
        "a/x",
        "a/b/x",
        "a/b/c/x",
        "ab",
        "abx",
        "ax/x",
        "ab/x",
        "d.txt",
        "{draft}.txt",
        "draft.txt",
        "a.jpg",
        "a.{jpg,png}",
        "log1",
        "logx",
        "log[[:digit:]]",
        "]",
        "[",
        "[a",
        "#x",
        "!x",
        "x ",
        "\tx",
        "x\t",
        "x\\",
        "ax",
        "bx",
        "a\\x",
        "*",
        "**",
        ".x",
        ".a/x",
        "x~",
        "é",
        "café",
        "$x",
        "y/x/z",
        "y/z",
        ":x",
        "[x",
        "a]",
        "-x",
        "x/y",
        "a-x",
        "Ab",
        "xx.x",
        "x\r",
        "aabbccx",
        "c/x/x",
    ]
    .map(|path| names_below(&format!("top/{path}"), "top"))
    .to_vec();
    let mut cases = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        for (form, text) in [line.to_string(), format!("*\n!{line}\n!*/")].into_iter().enumerate() {
            let top = format!("t{number}.{form}");
            let mut case = Case::default();
            names.iter().for_each(|names| case.add(&top, names));
            case.files.insert(top, text);
            cases.push(case);
        }
    }
    compare(&repository, &[], &cases);
}
