//! One line of an ignore file: whether it is a pattern, and what the pattern matches.
//!
//! Lines are cut, trimmed and commented out, and patterns tied to names or whole paths, as git does
//! it; the wildcards are the business of `gix-glob`. Nothing here knows about other lines or folders.

use gix_glob::Pattern;
use gix_glob::pattern::Mode;
use gix_glob::wildmatch;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    /// Empty, or a comment.
    Nothing,
    Glob(Glob),
    /// No path can match, for this reason. To git such a line is a pattern like others.
    Unmatchable(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Glob {
    /// Of a pattern with a slash in it, what comes before the first wildcard; git compares it first
    /// and lets the wildcards begin anew after it (`a**/b` matches `ax/b` because of that).
    prefix: Vec<u8>,
    /// What comes after the prefix.
    pattern: Pattern,
    /// The literal end of the pattern, with which every path ends that matches: nearly all are told
    /// apart by it, at the cost of a few bytes.
    suffix: Vec<u8>,
    /// Compared with the last name of a path and not with all of it.
    of_name: bool,
    /// Begins with `!`: what matches is synced.
    pub(super) includes: bool,
}

impl Glob {
    /// `name` is the last one of `path`, which is relative to the folder of the pattern.
    pub(super) fn matches(&self, path: &str, name: &str, is_dir: bool) -> bool {
        let is_dir_missing = !is_dir && self.pattern.mode.contains(Mode::MUST_BE_DIR);
        if is_dir_missing || !ends_with(path.as_bytes(), &self.suffix) {
            return false;
        }
        let subject = match self.of_name {
            true => Some(name.as_bytes()),
            false => path.as_bytes().strip_prefix(self.prefix.as_slice()),
        };
        let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
        subject.is_some_and(|subject| self.pattern.matches(subject.into(), mode))
    }
}

/// A loop, because most differ in the last byte and the call of a comparison costs more than that.
fn ends_with(path: &[u8], suffix: &[u8]) -> bool {
    path.len() >= suffix.len() && path.iter().rev().zip(suffix.iter().rev()).all(|(a, b)| a == b)
}

/// The matcher takes a step down for each and gives up when it is 64 down.
const STARS_MAX: usize = 63;
const CLASSES: [&[u8]; 12] = [
    b"alnum", b"alpha", b"blank", b"cntrl", b"digit", b"graph", b"lower", b"print", b"punct",
    b"space", b"upper", b"xdigit",
];

/// The lines of a file, without the mark and the line ends that Windows programs write.
pub(super) fn cut(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// Without the spaces at the end that no backslash keeps, and without what follows a NUL.
pub(super) fn trim(line: &str) -> &str {
    let line = line.split('\0').next().unwrap_or_default();
    let mut kept = 0;
    let mut bytes = line.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        kept = match byte {
            b' ' => continue,
            b'\\' => match bytes.next() {
                Some((at, _)) => at + 1,
                // Git trims nothing here.
                None => return line,
            },
            _ => at + 1,
        };
    }
    &line[..kept]
}

pub(super) fn read(line: &str) -> Line {
    if line.starts_with('#') {
        return Line::Nothing;
    }
    let text = trim(line);
    if text.is_empty() {
        return Line::Nothing;
    }
    let (includes, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let Some(pattern) = parsed(text) else {
        return Line::Unmatchable("nothing follows the `!`");
    };
    match checked(&pattern.text) {
        Ok(spelled) => Line::Glob(glob(&spelled, pattern, includes)),
        Err(reason) => Line::Unmatchable(reason),
    }
}

/// `None` if the text is empty.
fn parsed(text: &str) -> Option<Pattern> {
    // `gix-glob` takes white space alone for nothing; to git, a tab may be the name of a file.
    let escaped = || (!text.is_empty()).then(|| format!("\\{text}"));
    let parse = |text: &str| Pattern::from_bytes_without_negation(text.as_bytes());
    parse(text).or_else(|| parse(&escaped()?))
}

/// `spelled` is the text of the pattern, up to its first wildcard as it is in `parsed`.
fn glob(spelled: &[u8], parsed: Pattern, includes: bool) -> Glob {
    let of_name = parsed.mode.contains(Mode::NO_SUB_DIR) && !parsed.mode.contains(Mode::ABSOLUTE);
    let wildcard = parsed.first_wildcard_pos;
    let cut = wildcard.filter(|_| !of_name).unwrap_or(0);
    let (prefix, rest) = spelled.split_at(cut);
    let first_wildcard_pos = wildcard.map(|at| at - cut);
    let pattern = Pattern { text: rest.into(), first_wildcard_pos, ..parsed };
    Glob { prefix: prefix.to_vec(), suffix: suffix(spelled), pattern, of_name, includes }
}

/// The bytes at the end that are neither wildcards nor escaped. No slash: `**/x` matches `x`.
fn suffix(spelled: &[u8]) -> Vec<u8> {
    let is_special = |byte: &u8| br"*?[]\/".contains(byte);
    let from = spelled.iter().rposition(is_special).map_or(0, |at| match spelled[at] {
        b'\\' => at + 2,
        _ => at + 1,
    });
    spelled.get(from..).unwrap_or_default().to_vec()
}

/// The pattern, which comes without the `!` and without the outer slashes, spelled so that the matcher
/// takes it as git does; or why no path can match.
fn checked(glob: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut spelled = Vec::with_capacity(glob.len());
    let (mut name, mut rest, mut stars) = (glob, glob, 0);
    // After `a**/`, what looks like a name may be the rest of one: `a**/.` matches `a.`.
    let mut may_be_part = false;
    loop {
        if rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/") {
            let name = &name[..name.len() - rest.len()];
            if matches!(name, b"" | b"." | b"..") && !may_be_part {
                return Err("no name is empty, `.` or `..`");
            }
            may_be_part = name.ends_with(b"**");
        }
        let tail = match rest {
            [] => return Ok(spelled),
            [b'\\'] => return Err("nothing follows the backslash at the end"),
            [b'\\', b'/', tail @ ..] | [b'/', tail @ ..] => {
                name = tail;
                tail
            }
            [b'\\', _, tail @ ..] => tail,
            [b'[', tail @ ..] => {
                spelled.push(b'[');
                rest = set(tail, &mut spelled)?;
                continue;
            }
            [b'*', tail @ ..] => {
                stars += usize::from(!tail.starts_with(b"*"));
                if stars > STARS_MAX {
                    return Err("it has more stars than can be tried");
                }
                tail
            }
            [_, tail @ ..] => tail,
        };
        spelled.extend_from_slice(&rest[..rest.len() - tail.len()]);
        rest = tail;
    }
}

const OPEN: &str = "a `[` is not closed";

/// Copies a set of characters, whose `[` came before `rest`; what follows it.
fn set<'a>(rest: &'a [u8], spelled: &mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    let negation = usize::from(matches!(rest, [b'!' | b'^', ..]));
    spelled.extend_from_slice(&rest[..negation]);
    let mut rest = &rest[negation..];
    // A `]` in the first place is a member, and a `-` after a member begins the rest of a range.
    let (mut first, mut after_member) = (true, false);
    loop {
        (rest, after_member) = match rest {
            [b']', tail @ ..] if !first => {
                spelled.push(b']');
                return Ok(tail);
            }
            [b'-', tail @ ..] if after_member && !tail.starts_with(b"]") => {
                spelled.push(b'-');
                (member(tail, spelled)?, false)
            }
            [b'[', b':', tail @ ..] => match class(tail)? {
                Some(end) => {
                    spelled.extend_from_slice(&rest[..rest.len() - end.len()]);
                    (end, false)
                }
                None => (member(rest, spelled)?, true),
            },
            _ => (member(rest, spelled)?, true),
        };
        first = false;
    }
}

/// Copies one member of a set. A `[` gets a backslash: before a `:` that begins no class, the matcher
/// (`gix-glob` 0.29) would lose its place.
fn member<'a>(rest: &'a [u8], spelled: &mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    let (char, tail) = match rest {
        [] | [b'\\'] => return Err(OPEN),
        [b'\\', char, tail @ ..] => {
            spelled.push(b'\\');
            (char, tail)
        }
        [b'[', tail @ ..] => {
            spelled.push(b'\\');
            (&b'[', tail)
        }
        [char, tail @ ..] => (char, tail),
    };
    spelled.push(*char);
    Ok(tail)
}

/// What follows a class such as `[:alpha:]`, whose `[:` came before `rest`; `None` if it is none.
fn class(rest: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let end = rest.iter().position(|byte| *byte == b']').ok_or(OPEN)?;
    match rest[..end].strip_suffix(b":") {
        None => Ok(None),
        Some(name) if CLASSES.contains(&name) => Ok(Some(&rest[end + 1..])),
        Some(_) => Err("there is no class of characters of that name"),
    }
}
