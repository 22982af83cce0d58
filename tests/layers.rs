//! Which module may know which: the folder list is only an architecture as long as this holds.

#![allow(clippy::unwrap_used, reason = "what reads the sources may fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use besides itself. The outer modules (`pair`, `daemon`, `config`, `cli`) may
/// use all of these, and none of these may use them.
const LAYERS: [(&str, &[&str]); 11] = [
    ("clock", &[]),
    ("text", &["clock"]),
    ("tree", &[]),
    ("plan", &["tree"]),
    ("store", &["clock", "tree"]),
    ("local", &["clock", "tree"]),
    ("remote", &["clock", "tree", "local"]),
    ("engine", &["clock", "tree", "plan", "store", "local", "remote"]),
    ("exec", &["clock", "tree", "store", "local", "remote", "engine"]),
    ("drive", &["clock", "tree", "store", "local", "remote", "engine", "exec"]),
    ("pair", &["clock", "tree", "plan", "store", "local", "remote", "engine", "exec", "drive"]),
];

/// Modules that do the talking to a disk or a service. The engine asks for it and never does it.
const IMPLEMENTATIONS: [&str; 6] =
    ["local::os", "local::watch", "remote::dir", "remote::disktop", "remote::http", "crate::exec"];

fn sources(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![src.join(format!("{module}.rs")), src.join(module)];
    let mut files = Vec::new();
    while let Some(path) = found.pop() {
        if path.is_dir() {
            found.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
        } else if path.is_file() {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "there is no module {module}");
    files
}

/// The modules of this crate that a source names.
fn used(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split("crate::").skip(1).map(move |rest| rest.split(ends).next().unwrap())
}

#[test]
fn every_layer_uses_only_what_is_below_it() {
    for (layer, below) in LAYERS {
        for file in sources(layer) {
            let text = fs::read_to_string(&file).unwrap();
            for module in used(&text).filter(|module| *module != layer) {
                assert!(below.contains(&module), "{} uses {module}", file.display());
            }
        }
    }
}

#[test]
fn the_engine_knows_no_disk_and_no_service() {
    for file in sources("engine") {
        let text = fs::read_to_string(&file).unwrap();
        let known = IMPLEMENTATIONS.iter().find(|name| text.contains(**name));
        assert_eq!(known, None, "{}", file.display());
    }
}

/// A command line is one way to ask; the process and the configuration do without it.
#[test]
fn only_main_uses_the_command_line() {
    for module in ["config", "daemon", "exit", "text"] {
        for file in sources(module) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!used(&text).any(|module| module == "cli"), "{}", file.display());
        }
    }
}
