//! What a folder holds, read without following links, and in words that tests can compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The program's own folder at a root.
const CONTROL: &str = ".foldsync";

/// A folder's contents: for each path, in words, what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, String>);

/// A content, short enough to be read: itself, or its length and hash.
pub(crate) fn fingerprint(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if text.len() <= 40 => text.to_owned(),
        _ => {
            let digest = Sha256::digest(content);
            let hex = digest.iter().take(8).fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            format!("<{} bytes {hex}>", content.len())
        }
    }
}

impl Tree {
    /// All but the program's own folder.
    pub(crate) fn of(root: &Path) -> Tree {
        Tree::read(root, false)
    }

    /// Everything, with the inode, mode and modification time of each.
    pub(crate) fn exact(root: &Path) -> Tree {
        Tree::read(root, true)
    }

    fn read(root: &Path, exact: bool) -> Tree {
        let mut found = BTreeMap::new();
        let mut left = vec![String::new()];
        while let Some(dir) = left.pop() {
            let items = match fs::read_dir(root.join(&dir)) {
                Ok(items) => items,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    found.insert(format!("{dir}/?"), "=?".to_owned());
                    continue;
                }
                // Gone meanwhile, or never there.
                Err(_) => continue,
            };
            for item in items.flatten() {
                let name = item.file_name();
                let name = name.to_string_lossy();
                if dir.is_empty() && name == CONTROL && !exact {
                    continue;
                }
                let path = if dir.is_empty() { name.into_owned() } else { format!("{dir}/{name}") };
                let at = root.join(&path);
                // A name that is no text cannot be looked up under its lossy spelling.
                let Ok(seen) = at.symlink_metadata() else {
                    found.insert(path, "?".to_owned());
                    continue;
                };
                let mut words = words(&at, &seen);
                if exact {
                    let (mode, inode) = (seen.mode(), seen.ino());
                    write!(
                        words,
                        " mode {mode:o} inode {inode} {}.{:09}",
                        seen.mtime(),
                        seen.mtime_nsec()
                    )
                    .unwrap();
                }
                if seen.is_dir() {
                    left.push(path.clone());
                }
                found.insert(path, words);
            }
        }
        Tree(found)
    }

    /// `a=1` for a file, `d/` for a folder, `s@target` for a link, `p!` for anything else. A conflict
    /// copy of `a` is `CC(a)`, whatever its time and host.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.0.iter().map(|(path, words)| format!("{}{words}", plain(path))).collect();
        lines.sort();
        lines
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Files and their contents.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let files = self.0.iter().filter_map(|(path, words)| {
            words.strip_prefix('=').map(|content| (path.clone(), content.to_owned()))
        });
        files.collect()
    }

    /// Drops one path, and nothing below it.
    pub(crate) fn forget(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// The same, less these paths and what is below them.
    pub(crate) fn without(&self, apart: &[&str]) -> Tree {
        let is_apart = |path: &str| {
            apart.iter().any(|apart| {
                path.strip_prefix(apart)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let kept = self.0.iter().filter(|(path, _)| !is_apart(path));
        Tree(kept.map(|(path, words)| (path.clone(), words.clone())).collect())
    }

    /// What is not the same in the other tree, for messages.
    pub(crate) fn difference(&self, other: &Tree) -> Vec<String> {
        let gone = self.0.iter().filter(|(path, words)| other.0.get(*path) != Some(words));
        let come = other.0.iter().filter(|(path, words)| self.0.get(*path) != Some(words));
        let gone = gone.map(|(path, words)| format!("- {path} {words}"));
        gone.chain(come.map(|(path, words)| format!("+ {path} {words}"))).collect()
    }
}

fn words(at: &Path, seen: &fs::Metadata) -> String {
    let kind = seen.file_type();
    if kind.is_dir() {
        "/".to_owned()
    } else if kind.is_symlink() {
        format!("@{}", fs::read_link(at).unwrap().display())
    } else if kind.is_file() {
        // Unreadable by the test's own doing.
        fs::read(at)
            .map_or_else(|_| "=?".to_owned(), |content| format!("={}", fingerprint(&content)))
    } else {
        assert!(kind.is_fifo() || kind.is_socket() || kind.is_char_device(), "{}", at.display());
        "!".to_owned()
    }
}

/// A path with `CC(name)` for each conflict copy in it.
pub(crate) fn plain(path: &str) -> String {
    let names = path.split('/').map(|name| match name.split_once(".conflict-") {
        Some((stem, rest)) if is_mark(rest) => {
            let ext = rest.rfind('.').map_or("", |dot| &rest[dot..]);
            format!("CC({stem}{ext})")
        }
        Some(_) | None => name.to_owned(),
    });
    names.collect::<Vec<_>>().join("/")
}

/// Whether this begins with `YYYYMMDD-HHMMSS-`.
fn is_mark(text: &str) -> bool {
    let text = text.as_bytes();
    text.len() > 16
        && text[..16].iter().enumerate().all(|(at, byte)| match at {
            8 | 15 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
