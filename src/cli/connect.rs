//! Opens remotes from their configuration: the one place that knows every kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SystemClock;
use crate::config::units::{Rate, Timetable};
use crate::config::{RemoteConfig, RemoteKind, RemoteSpec, TokenCommand};
use crate::exit::Failure;
use crate::local::root::{OpenError, RootId};
use crate::remote::dir::DirRemote;
use crate::remote::disktop::connect::{Connection, Setup};
use crate::remote::disktop::measure::Findings;
use crate::remote::disktop::{BASE_URL, Measured};
use crate::remote::http::{Http, Limits, Secret};
use crate::remote::{Remote, RemoteError};
use crate::text::printable;

/// Why a remote could not be opened.
pub(super) enum NoRemote {
    Folder(OpenError),
    /// No adapter for this kind.
    Unavailable(&'static str),
    Unusable(RemoteError),
    /// A key that the kind cannot do without.
    Lacks(&'static str),
}

impl NoRemote {
    /// For everything but a folder that is not there, which each command judges by itself.
    pub(super) fn failure(&self, name: &str) -> Failure {
        let name = printable(name);
        match self {
            NoRemote::Folder(error) => Failure::fatal(printable(&error.to_string())),
            NoRemote::Unavailable(kind) => Failure::config(format!(
                "{name}: remotes of kind `{kind}` are not available in this build"
            )),
            NoRemote::Unusable(error) => {
                Failure::config(format!("{name}: {}", printable(&error.to_string())))
            }
            NoRemote::Lacks(key) => {
                Failure::config(format!("{name}: the remote's table needs the key `{key}`"))
            }
        }
    }
}

/// Opens what `spec` names; `config` is the table of a named remote, `local` the folder that it is
/// synced with.
pub(super) fn open(
    spec: &RemoteSpec,
    config: Option<&RemoteConfig>,
    state_dir: &Path,
    local: Option<&Path>,
) -> Result<Arc<dyn Remote>, NoRemote> {
    if let Some(path) = folder_of(spec, config) {
        let other = local.and_then(RootId::of);
        let opened = DirRemote::open_beside(&path, Arc::new(SystemClock), other);
        return Ok(Arc::new(opened.map_err(NoRemote::Folder)?));
    }
    let (RemoteSpec::Named { remote, path }, Some(config)) = (spec, config) else {
        return Err(NoRemote::Unavailable("dir"));
    };
    let connection = connect(remote, config, state_dir)?;
    keep_pace(&connection.http, config);
    let found = Findings::load(state_dir, remote);
    let measured = found.map_or(Measured::NOTHING, |found| found.measured());
    Ok(Arc::new(connection.open(path.clone(), measured)))
}

/// The account of a named remote, for logins.
pub(super) fn connect(
    name: &str,
    config: &RemoteConfig,
    state_dir: &Path,
) -> Result<Connection, NoRemote> {
    let RemoteKind::Disktop { base_url, client_id, client_secret } = &config.kind else {
        return Err(NoRemote::Unavailable(config.kind.word()));
    };
    let setup = Setup {
        name,
        base_url: if base_url.is_empty() { BASE_URL } else { base_url },
        client_id: client_id.as_deref().ok_or(NoRemote::Lacks("client_id"))?,
        client_secret: client_secret.as_ref().map(|secret| Secret::new(secret.0.as_str())),
        token_command: config.token_command.as_ref().map(shell_command),
        allow_insecure: config.allow_insecure,
        state_dir,
        requests_per_second: config.limits.requests_per_second,
    };
    Connection::new(&setup, Arc::new(SystemClock)).map_err(NoRemote::Unusable)
}

fn shell_command(command: &TokenCommand) -> String {
    match command {
        TokenCommand::Shell(text) => text.clone(),
        TokenCommand::Argv(words) => {
            let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Sets the byte rates of now, and those of later for as long as the client lives.
fn keep_pace(http: &Http, config: &RemoteConfig) {
    const STEP: Duration = Duration::from_secs(20);
    let (up, down) = (config.limits.upload.clone(), config.limits.download.clone());
    let set = move |http: &Http| {
        http.set_upload_limits(limits_now(&up));
        http.set_download_limits(limits_now(&down));
    };
    set(http);
    let http = http.downgrade();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                let Some(http) = http.upgrade() else { return };
                set(&http);
            }
        });
    }
}

fn limits_now(timetable: &Timetable) -> Limits {
    let now = jiff::Zoned::now();
    let day = u16::try_from(now.weekday().to_monday_zero_offset()).unwrap_or(0);
    let hour = u16::try_from(now.hour()).unwrap_or(0);
    let minute = u16::try_from(now.minute()).unwrap_or(0);
    let rate = timetable.rate_at((day * 24 + hour) * 60 + minute);
    match rate {
        Rate::Unlimited => Limits { bytes_per_second: None },
        Rate::Limited(rate) => Limits { bytes_per_second: Some(rate.get()) },
    }
}

/// The folder of this computer that a remote is, if it is one.
pub(super) fn folder_of(spec: &RemoteSpec, config: Option<&RemoteConfig>) -> Option<PathBuf> {
    match (spec, config.map(|config| &config.kind)) {
        (RemoteSpec::Dir(path), _) => Some(path.clone()),
        (RemoteSpec::Named { path, .. }, Some(RemoteKind::Dir { path: root })) => {
            Some(if path.is_root() { root.clone() } else { root.join(path.as_str()) })
        }
        (RemoteSpec::Named { .. }, _) => None,
    }
}

/// Whether this build has an adapter for the kind.
pub(super) fn is_available(kind: &RemoteKind) -> bool {
    match kind {
        RemoteKind::Dir { .. } | RemoteKind::Disktop { .. } => true,
        RemoteKind::Gokuai { .. } | RemoteKind::Ctfile { .. } | RemoteKind::Tuchuang { .. } => {
            false
        }
    }
}
