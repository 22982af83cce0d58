//! What `sync.toml` says, checked and with every default filled in.
//!
//! Reading never touches the network, and only `check` looks at the disk. Secrets have no place in
//! the file, and those that are there anyway are never printed.

pub mod check;
mod fields;
pub mod hooks;
pub mod locate;
mod mounts;
pub mod problem;
mod read;
mod show;
pub mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plan::{BrakeLimit, ConflictPolicy, Mode};
use crate::tree::RelPath;

pub use hooks::HookSet;
pub use problem::{Problem, Severity, Source};
use units::{MAX_DELETE, Timetable};

/// The words of `mode`, in the order in which they are offered.
pub const MODES: [(&str, Mode); 5] = [
    ("two-way", Mode::TwoWay),
    ("mirror-up", Mode::MirrorUp),
    ("mirror-down", Mode::MirrorDown),
    ("backup-up", Mode::BackupUp),
    ("backup-down", Mode::BackupDown),
];

/// The words of `conflict`.
pub const CONFLICT_POLICIES: [(&str, ConflictPolicy); 6] = [
    ("keep-both", ConflictPolicy::KeepBoth),
    ("newer", ConflictPolicy::Newer),
    ("older", ConflictPolicy::Older),
    ("larger", ConflictPolicy::Larger),
    ("local", ConflictPolicy::Local),
    ("remote", ConflictPolicy::Remote),
];

/// The words of `kind`.
pub const REMOTE_KINDS: [&str; 5] = ["disktop", "gokuai", "ctfile", "tuchuang", "dir"];

/// The word that stands for a value in one of the tables above.
pub fn word_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, other)| other == value).map_or("?", |(word, _)| word)
}

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub source: Source,
    pub daemon: Daemon,
    pub limits: Limits,
    pub hooks: HookSet,
    pub remotes: BTreeMap<String, RemoteConfig>,
    /// In the order of the file.
    pub pairs: Vec<PairConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub log: String,
    pub socket: Option<PathBuf>,
    /// How long a pair may be without success before somebody is told.
    pub alert_after: Option<Duration>,
    /// Less room than so many bytes on the disk of a local folder is said.
    pub low_space: u64,
}

impl Default for Daemon {
    fn default() -> Daemon {
        let alert_after = Some(Duration::from_secs(26 * 3600));
        Daemon { log: "info".to_owned(), socket: None, alert_after, low_space: 256 << 20 }
    }
}

/// How much of a remote foldsync may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub upload: Timetable,
    pub download: Timetable,
    /// Does not apply to a `dir` remote.
    pub requests_per_second: f64,
    pub parallel_uploads: usize,
    pub parallel_downloads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let off = Timetable::always(units::Rate::Unlimited);
        Limits {
            upload: off.clone(),
            download: off,
            requests_per_second: 4.0,
            parallel_uploads: 2,
            parallel_downloads: 2,
        }
    }
}

/// A secret that stands in the file after all. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// A command that prints a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenCommand {
    /// For `sh -c`.
    Shell(String),
    Argv(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct RemoteConfig {
    pub kind: RemoteKind,
    /// The file's defaults with this remote's own limits on top.
    pub limits: Limits,
    pub token_command: Option<TokenCommand>,
    /// Plain HTTP to a host that is not this computer was chosen knowingly.
    pub allow_insecure: bool,
    /// Byte range of the table's header in the file.
    pub at: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadMode {
    Auto,
    Multipart,
    Raw,
}

/// The words of `upload_mode`.
pub const UPLOAD_MODES: [(&str, UploadMode); 3] =
    [("auto", UploadMode::Auto), ("multipart", UploadMode::Multipart), ("raw", UploadMode::Raw)];

/// What is particular to a kind of remote.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteKind {
    Disktop {
        base_url: String,
        client_id: Option<String>,
        client_secret: Option<Secret>,
    },
    Gokuai {
        base_url: String,
        client_id: Option<String>,
        username: Option<String>,
        mount_id: i64,
    },
    Ctfile {
        base_url: String,
    },
    Tuchuang {
        base_url: String,
        user: String,
        upload_mode: UploadMode,
        storage_base: Option<String>,
    },
    Dir {
        path: PathBuf,
    },
}

impl RemoteKind {
    pub fn word(&self) -> &'static str {
        match self {
            RemoteKind::Disktop { .. } => "disktop",
            RemoteKind::Gokuai { .. } => "gokuai",
            RemoteKind::Ctfile { .. } => "ctfile",
            RemoteKind::Tuchuang { .. } => "tuchuang",
            RemoteKind::Dir { .. } => "dir",
        }
    }
}

/// Where the remote side of a pair is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteSpec {
    /// `NAME:/PATH`; the path is relative to the remote's root.
    Named { remote: String, path: RelPath },
    /// `dir:PATH`, without a `[remotes]` table.
    Dir(PathBuf),
}

impl RemoteSpec {
    /// Reads `NAME:/PATH` or `dir:PATH`. `expand` turns the text after `dir:` into an absolute path.
    pub fn parse(
        text: &str,
        expand: impl FnOnce(&str) -> Result<PathBuf, String>,
    ) -> Result<RemoteSpec, String> {
        const FORM: &str =
            "write NAME:/PATH for a remote of [remotes], or dir:PATH for a folder of this computer";
        let Some((name, path)) = text.split_once(':') else {
            return Err(format!("`{text}` is not a remote: {FORM}"));
        };
        if name == "dir" {
            return expand(path).map(RemoteSpec::Dir);
        }
        if name.is_empty() || name.contains('/') {
            return Err(format!("`{text}` is not a remote: {FORM}"));
        }
        let path = RelPath::new(path.trim_matches('/'))
            .map_err(|problem| format!("`{path}` is not a path on a remote: {problem}"))?;
        Ok(RemoteSpec::Named { remote: name.to_owned(), path })
    }
}

impl fmt::Display for RemoteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteSpec::Named { remote, path } => write!(f, "{remote}:/{}", path.as_str()),
            RemoteSpec::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

/// Byte ranges of a pair's values in the file, for messages of later checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairSpans {
    pub name: Range<usize>,
    pub local: Range<usize>,
    pub remote: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PairConfig {
    pub name: String,
    /// Absolute.
    pub local: PathBuf,
    pub remote: RemoteSpec,
    pub mode: Mode,
    pub poll_interval: Duration,
    /// How long a folder of a service may go unlisted in which nothing changes.
    pub poll_interval_max: Duration,
    /// How long a service may go without being listed as a whole.
    pub sweep_interval: Duration,
    pub settle: Duration,
    pub ignore: Vec<String>,
    pub conflict: ConflictPolicy,
    pub max_delete: BrakeLimit,
    /// `None`: a mass of edits is not held.
    pub max_change: Option<BrakeLimit>,
    pub trash_keep: Duration,
    pub symlinks_follow: bool,
    /// The file's hooks with this pair's own on top.
    pub hooks: HookSet,
    pub spans: PairSpans,
}

impl PairConfig {
    /// A pair with every default.
    pub fn new(name: String, local: PathBuf, remote: RemoteSpec) -> PairConfig {
        PairConfig {
            name,
            local,
            remote,
            mode: Mode::TwoWay,
            poll_interval: Duration::from_secs(60),
            poll_interval_max: Duration::from_secs(15 * 60),
            sweep_interval: Duration::from_secs(3600),
            settle: Duration::from_secs(2),
            ignore: Vec::new(),
            conflict: ConflictPolicy::KeepBoth,
            max_delete: MAX_DELETE,
            max_change: None,
            trash_keep: Duration::from_secs(30 * 24 * 3600),
            symlinks_follow: false,
            hooks: HookSet::default(),
            spans: PairSpans::default(),
        }
    }
}

/// Why there is no configuration: everything that is wrong, in words for a person.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Invalid(pub Vec<String>);

impl Config {
    /// Reads a text. `home` is what `~` stands for. What could not be read has its default, and is
    /// among the problems.
    pub fn from_text(path: &Path, text: &str, home: Option<&Path>) -> (Config, Vec<Problem>) {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        read::read(source, home)
    }

    /// Reads a file; fails with everything that is wrong in it.
    pub fn load(path: &Path, home: Option<&Path>) -> Result<Config, Invalid> {
        let (config, problems) = Config::open(path, home)?;
        let errors: Vec<String> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| config.source.show(problem))
            .collect();
        if errors.is_empty() { Ok(config) } else { Err(Invalid(errors)) }
    }

    /// Reads a file and says what is wrong in it; fails only if there is nothing to read.
    pub fn open(path: &Path, home: Option<&Path>) -> Result<(Config, Vec<Problem>), Invalid> {
        let shown = crate::text::printable(&path.to_string_lossy());
        let bytes = std::fs::read(path).map_err(|error| {
            Invalid(vec![format!("cannot read the configuration {shown}: {error}")])
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
            Invalid(vec![format!("{shown}:{line}: the configuration is not UTF-8 text")])
        })?;
        Ok(Config::from_text(path, text.trim_start_matches('\u{feff}'), home))
    }

    /// The configuration with all defaults, as TOML, without secrets.
    pub fn to_toml(&self) -> String {
        show::show(self)
    }

    pub fn pair(&self, name: &str) -> Option<&PairConfig> {
        self.pairs.iter().find(|pair| pair.name == name)
    }
}
