//! Checks across a configuration and against the disk: folders that are missing, that lie in one
//! another, or that hold foldsync's own state.
//!
//! Looks, never changes anything.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::mounts::Home;
use super::{Config, PairConfig, Problem, RemoteKind, RemoteSpec};
use crate::text::printable;

/// Folders that must not overlap. Two pairs that share a folder would copy it for ever, or each
/// would take the other's changes for a user's.
pub fn overlaps(config: &Config, state_dir: Option<&Path>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let claims: Vec<Claim> = config.pairs.iter().flat_map(|pair| claims(config, pair)).collect();
    for (i, claim) in claims.iter().enumerate() {
        for earlier in &claims[..i] {
            if let Some(words) = claim.place.overlap(&earlier.place) {
                let message = format!("{claim} {words} {earlier}");
                let help = "folders of pairs must not overlap";
                problems.push(Problem::error(claim.at.clone(), message).help(help));
            }
        }
        if let (Place::Disk(folder), Some(state)) = (&claim.place, state_dir)
            && let Some(words) = Folder::at(state).overlap(folder)
        {
            // CR-22: the database and the credentials would be uploaded.
            let shown = printable(&state.to_string_lossy());
            let message = format!("the state folder {shown} {words} {claim}");
            let help = "choose another one with --state-dir or XDG_STATE_HOME";
            problems.push(Problem::error(claim.at.clone(), message).help(help));
        }
    }
    problems
}

/// Local folders and `dir` remotes that are not there, or are no folders.
pub fn missing(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pair in &config.pairs {
        problems.extend(missing_folder("local folder", &pair.local, &pair.spans.local));
        if let Some(path) = dir_of(config, &pair.remote) {
            problems.extend(missing_folder("remote folder", &path, &pair.spans.remote));
        }
    }
    problems
}

fn missing_folder(what: &str, path: &Path, at: &Range<usize>) -> Option<Problem> {
    let shown = printable(&path.to_string_lossy());
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(Problem::error(at.clone(), format!("the {what} {shown} is not a folder"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = format!("make it with: mkdir -p {shown}");
            Some(
                Problem::error(at.clone(), format!("the {what} {shown} does not exist")).help(help),
            )
        }
        Err(error) => Some(Problem::error(at.clone(), format!("the {what} {shown}: {error}"))),
    }
}

/// The folder on this computer that a remote is, if it is one.
pub fn dir_of(config: &Config, spec: &RemoteSpec) -> Option<PathBuf> {
    match spec {
        RemoteSpec::Dir(path) => Some(path.clone()),
        RemoteSpec::Named { remote, path } => match &config.remotes.get(remote)?.kind {
            RemoteKind::Dir { path: root } if path.is_root() => Some(root.clone()),
            RemoteKind::Dir { path: root } => Some(root.join(path.as_str())),
            RemoteKind::Disktop { .. }
            | RemoteKind::Gokuai { .. }
            | RemoteKind::Ctfile { .. }
            | RemoteKind::Tuchuang { .. } => None,
        },
    }
}

/// Something that a pair needs for itself alone.
struct Claim {
    pair: String,
    side: &'static str,
    place: Place,
    at: Range<usize>,
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} of pair `{}`", self.side, printable(&self.pair))
    }
}

enum Place {
    Disk(Folder),
    /// A folder of a cloud: the remote's name and the path in it.
    Cloud(String, PathBuf),
}

/// A folder of this computer.
struct Folder {
    /// With links resolved.
    path: PathBuf,
    /// Where it really is, if it is there.
    home: Option<Home>,
}

impl Folder {
    fn at(path: &Path) -> Folder {
        let path = real(path);
        let home = Home::of(&path);
        Folder { path, home }
    }

    fn overlap(&self, other: &Folder) -> Option<&'static str> {
        let by_path = overlap(&self.path, &other.path);
        by_path.or_else(|| self.home.as_ref()?.overlap(other.home.as_ref()?))
    }
}

impl Place {
    fn overlap(&self, other: &Place) -> Option<&'static str> {
        match (self, other) {
            (Place::Disk(a), Place::Disk(b)) => a.overlap(b),
            (Place::Cloud(a_name, a), Place::Cloud(b_name, b)) if a_name == b_name => overlap(a, b),
            (Place::Cloud(..), _) | (_, Place::Cloud(..)) => None,
        }
    }
}

fn overlap(a: &Path, b: &Path) -> Option<&'static str> {
    match (a.starts_with(b), b.starts_with(a)) {
        (true, true) => Some("is the same folder as"),
        (true, false) => Some("is inside"),
        (false, true) => Some("contains"),
        (false, false) => None,
    }
}

/// How the remote folder of a pair lies to its local one, if they overlap: mounts come and go after a
/// configuration was read.
pub fn nested(local: &Path, remote: &Path) -> Option<&'static str> {
    Folder::at(remote).overlap(&Folder::at(local))
}

fn claims(config: &Config, pair: &PairConfig) -> [Claim; 2] {
    let remote = match (dir_of(config, &pair.remote), &pair.remote) {
        (Some(path), _) => Place::Disk(Folder::at(&path)),
        (None, RemoteSpec::Dir(path)) => Place::Disk(Folder::at(path)),
        (None, RemoteSpec::Named { remote, path }) => {
            Place::Cloud(remote.clone(), PathBuf::from(path.as_str()))
        }
    };
    let claim = |side, place, at: &Range<usize>| Claim {
        pair: pair.name.clone(),
        side,
        place,
        at: at.clone(),
    };
    [
        claim("local folder", Place::Disk(Folder::at(&pair.local)), &pair.spans.local),
        claim("remote folder", remote, &pair.spans.remote),
    ]
}

/// The path with all links resolved, as far as it exists.
pub fn real(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut here = path;
    loop {
        if let Ok(found) = here.canonicalize() {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (here.parent(), here.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                here = parent;
            }
            _ => return path.to_owned(),
        }
    }
}
