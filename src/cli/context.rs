//! What every command starts from: flags, places, configuration, and the pairs that are meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::args::{AdHoc, Global, OnePair};
use super::out::{Out, say};
use crate::config::check;
use crate::config::locate::{Places, expand};
use crate::config::problem::nearest;
use crate::config::{Config, Daemon, Limits, PairConfig, RemoteConfig, RemoteSpec, Severity};
use crate::daemon::client::{Client, ClientError};
use crate::daemon::socket;
use crate::exit::Failure;
use crate::store::Store;
use crate::text::printable;
use crate::tree::RelPath;

/// The setting of one call.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) places: Places,
    pub(super) out: Out,
}

/// A pair that a command is about.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) config: PairConfig,
    /// The table of the remote; `None` for `dir:PATH`.
    pub(super) remote: Option<RemoteConfig>,
    pub(super) limits: Limits,
    pub(super) state_db: PathBuf,
    pub(super) lock: PathBuf,
    /// Made by `--local` and `--remote`, not by the configuration.
    pub(super) ad_hoc: bool,
    /// How long it may be without success before somebody is told.
    pub(super) alert_after: Option<Duration>,
    /// Less room than so many bytes is said.
    pub(super) low_space: u64,
    /// The only one of its configuration.
    only: bool,
}

impl Pair {
    fn new(config: &Config, pair: &PairConfig, state_dir: &Path) -> Pair {
        let remote = match &pair.remote {
            RemoteSpec::Named { remote, .. } => config.remotes.get(remote).cloned(),
            RemoteSpec::Dir(_) => None,
        };
        Pair {
            config: pair.clone(),
            limits: remote.as_ref().map_or_else(|| config.limits.clone(), |r| r.limits.clone()),
            remote,
            state_db: state_dir.join(format!("{}.db", pair.name)),
            lock: state_dir.join(format!("{}.lock", pair.name)),
            ad_hoc: config.source.path.as_os_str().is_empty(),
            alert_after: config.daemon.alert_after,
            low_space: config.daemon.low_space,
            only: config.pairs.len() == 1,
        }
    }

    /// As people are told: the pair's name, or the folder where it has none.
    pub(super) fn name(&self) -> String {
        match self.config.local.file_name() {
            Some(folder) if self.ad_hoc => printable(&folder.to_string_lossy()),
            Some(_) | None => printable(&self.config.name),
        }
    }

    /// The flags by which another command finds this pair, after a space.
    pub(super) fn selector(&self) -> String {
        match (self.ad_hoc, self.only) {
            (true, _) => {
                let remote = quoted(&printable(&self.config.remote.to_string()));
                format!(" --local {} --remote {remote}", quoted(&shown(&self.config.local)))
            }
            (false, true) => String::new(),
            (false, false) => format!(" --pair {}", quoted(&self.name())),
        }
    }

    /// The recorded state, for looking only; `None` before the first sync.
    pub(super) fn records(&self) -> Result<Option<Store>, Failure> {
        Store::open_records(&self.state_db).map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::fatal(format!("{}: {}", self.name(), printable(&error.to_string())))
    }
}

impl Context {
    pub(super) fn config_path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.global.config {
            return Ok(path.clone());
        }
        let candidates = self.places.config_candidates();
        if let Some(found) = candidates.iter().find(|path| path.exists()) {
            return Ok(found.clone());
        }
        let looked: Vec<String> = candidates.iter().map(|path| shown(path)).collect();
        Err(Failure::config(format!(
            "no configuration: looked for {}\n  write one with `foldsync init`, or use --local DIR --remote dir:DIR",
            looked.join(" and ")
        )))
    }

    /// The configuration, with its warnings said.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let path = self.config_path()?;
        let home = self.places.home.as_deref();
        let (config, problems) = Config::open(&path, home)?;
        let (errors, warnings): (Vec<_>, Vec<_>) =
            problems.iter().partition(|problem| problem.severity == Severity::Error);
        if !self.global.quiet {
            warnings.iter().for_each(|warning| say(config.source.show(warning)));
        }
        if errors.is_empty() {
            return Ok(config);
        }
        let lines: Vec<String> = errors.iter().map(|problem| config.source.show(problem)).collect();
        Err(Failure::config(lines.join("\n")))
    }

    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        let chosen = match &self.global.state_dir {
            Some(dir) => std::path::absolute(dir).ok(),
            None => self.places.state_dir(),
        };
        chosen.ok_or_else(|| {
            Failure::config("no place for the state: set HOME, XDG_STATE_HOME or --state-dir")
        })
    }

    /// What the configuration says of the daemon, as far as there is one that can be read.
    pub(super) fn daemon_settings(&self) -> Daemon {
        let Ok(path) = self.config_path() else { return Daemon::default() };
        let read = Config::open(&path, self.places.home.as_deref());
        read.map(|(config, _)| config.daemon).unwrap_or_default()
    }

    /// Where the daemon of this configuration may answer, its own choice first.
    pub(super) fn sockets(&self) -> Result<Vec<PathBuf>, Failure> {
        let configured = self.daemon_settings().socket;
        let runtime = self.places.runtime.as_deref();
        Ok(socket::places(configured.as_deref(), runtime, &self.state_dir()?))
    }

    /// The daemon of this configuration; `Exit::Busy` if none runs.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::find(self.sockets()?).await?)
    }

    /// The same, if one runs.
    pub(super) async fn client_if_any(&self) -> Result<Option<Client>, Failure> {
        match Client::find(self.sockets()?).await {
            Ok(client) => Ok(Some(client)),
            Err(ClientError::NoDaemon(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The pairs of these names, or all; or the one that `--local` and `--remote` make.
    pub(super) fn pairs(&self, names: &[String], ad_hoc: &AdHoc) -> Result<Vec<Pair>, Failure> {
        let state_dir = self.state_dir()?;
        let (config, meant) = match (&ad_hoc.local, &ad_hoc.remote) {
            (Some(local), Some(remote)) => {
                let config = self.ad_hoc(local, remote, ad_hoc)?;
                let name = config.pairs.iter().map(|pair| pair.name.clone()).collect();
                (config, name)
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => {
                let config = self.config()?;
                let meant = meant(&config, names)?;
                (config, meant)
            }
        };
        let overlaps = check::overlaps(&config, Some(&state_dir));
        if !overlaps.is_empty() {
            let lines: Vec<String> = overlaps.iter().map(|p| config.source.show(p)).collect();
            let refusal = match ad_hoc.local {
                Some(_) => Failure::usage,
                None => Failure::config,
            };
            return Err(refusal(lines.join("\n")));
        }
        let pairs = config.pairs.iter().filter(|pair| meant.contains(&pair.name));
        Ok(pairs.map(|pair| Pair::new(&config, pair, &state_dir)).collect())
    }

    /// What one of the pairs has, and which pair that is: where none is named, all are asked. `None`:
    /// no pair has it.
    pub(super) fn owner<T>(
        &self,
        asked: &OnePair,
        find: impl Fn(&Pair) -> Result<Option<T>, Failure>,
    ) -> Result<Option<(Pair, T)>, Failure> {
        let names: Vec<String> = asked.pair.iter().cloned().collect();
        let mut owners = Vec::new();
        for pair in self.pairs(&names, &asked.ad_hoc)? {
            if let Some(found) = find(&pair)? {
                owners.push((pair, found));
            }
        }
        if owners.len() > 1 {
            let names: Vec<String> = owners.iter().map(|(pair, _)| pair.name()).collect();
            let names = names.join(", ");
            let text = format!("several pairs have that ({names}): say which one with --pair");
            return Err(Failure::usage(text));
        }
        Ok(owners.pop())
    }

    fn ad_hoc(&self, local: &Path, remote: &str, flags: &AdHoc) -> Result<Config, Failure> {
        let local = absolute(local)?;
        let home = self.places.home.as_deref();
        let spec = RemoteSpec::parse(remote, |path| match path.starts_with('~') {
            true => expand(path, home),
            false if path.is_empty() => Err("`dir:` needs a path".to_owned()),
            false => absolute(Path::new(path)).map_err(|failure| failure.message),
        })
        .map_err(Failure::usage)?;
        let mut config = match &spec {
            RemoteSpec::Named { .. } => self.config()?,
            RemoteSpec::Dir(_) => Config::default(),
        };
        if let RemoteSpec::Named { remote, .. } = &spec
            && !config.remotes.contains_key(remote)
        {
            let near = nearest(remote, config.remotes.keys().map(String::as_str));
            let help = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            return Err(Failure::usage(format!("there is no remote `{remote}`{help}")));
        }
        let mut pair = PairConfig::new(ad_hoc_name(&local, &spec), local, spec);
        pair.mode = flags.mode.unwrap_or(pair.mode);
        pair.conflict = flags.conflict.unwrap_or(pair.conflict);
        pair.hooks = config.hooks.clone();
        config.source = crate::config::Source::default();
        config.pairs = vec![pair];
        Ok(config)
    }
}

/// The same two folders are the same pair at every call, however they are written.
fn ad_hoc_name(local: &Path, remote: &RemoteSpec) -> String {
    let remote = match remote {
        RemoteSpec::Dir(path) => RemoteSpec::Dir(check::real(path)),
        RemoteSpec::Named { .. } => remote.clone(),
    };
    let mut hash = Sha256::new();
    hash.update(check::real(local).as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(remote.to_string());
    let digest = hash.finalize();
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("adhoc-{hex}")
}

fn meant(config: &Config, names: &[String]) -> Result<Vec<String>, Failure> {
    if config.pairs.is_empty() {
        let file = shown(&config.source.path);
        return Err(Failure::config(format!("{file}: no [[pair]] is configured")));
    }
    for name in names {
        if config.pair(name).is_none() {
            let known = config.pairs.iter().map(|pair| pair.name.as_str());
            let help = nearest(name, known.clone()).map_or_else(
                || format!("configured: {}", known.collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(Failure::usage(printable(&format!("there is no pair `{name}`: {help}"))));
        }
    }
    if names.is_empty() {
        return Ok(config.pairs.iter().map(|pair| pair.name.clone()).collect());
    }
    Ok(names.to_vec())
}

/// The path that somebody meant who typed `text`: on this computer if it can be one, else in the
/// pair. Links above the last name are resolved.
pub(super) fn locate(pairs: &[Pair], text: &str) -> Result<(Pair, RelPath), Failure> {
    let here = absolute(Path::new(text))?;
    let resolved = match (here.parent(), here.file_name()) {
        (Some(parent), Some(name)) => check::real(parent).join(name),
        _ => here,
    };
    for pair in pairs {
        let roots = [check::real(&pair.config.local), pair.config.local.clone()];
        if let Some(inside) = roots.iter().find_map(|root| resolved.strip_prefix(root).ok()) {
            return Ok((pair.clone(), in_pair(&inside.to_string_lossy())?));
        }
    }
    if text.starts_with(['/', '~']) || text.starts_with("./") || text.starts_with("../") {
        let message = format!("{} is in no pair's local folder", printable(text));
        return Err(Failure::usage(message));
    }
    let path = in_pair(text)?;
    let has = |pair: &&Pair| pair.config.local.join(path.as_str()).symlink_metadata().is_ok();
    let having: Vec<&Pair> = pairs.iter().filter(has).collect();
    match (pairs, having.as_slice()) {
        ([only], _) => Ok((only.clone(), path)),
        (_, [only]) => Ok(((*only).clone(), path)),
        _ => Err(Failure::usage(format!(
            "several pairs are configured: write where {} is, with the folder of its pair",
            printable(text)
        ))),
    }
}

fn in_pair(text: &str) -> Result<RelPath, Failure> {
    let text = text.trim_matches('/');
    RelPath::new(if text == "." { "" } else { text })
        .map_err(|error| Failure::usage(format!("`{}` is not a path: {error}", printable(text))))
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("`{}`: {error}", shown(path))))?;
    // `..` after a link leads elsewhere than the text says: let the system resolve it.
    if whole.components().any(|part| part == std::path::Component::ParentDir) {
        return Ok(whole.canonicalize().unwrap_or(whole));
    }
    Ok(whole)
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

pub(super) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_the_shell_is_quoted_where_it_must_be() {
        assert_eq!(quoted("dir:/mnt/a-b"), "dir:/mnt/a-b");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
