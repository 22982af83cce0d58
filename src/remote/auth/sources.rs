//! Where credentials come from, in the order of the contract: environment, systemd's credentials
//! folder, a command, the desktop's keyring, and the file that `auth login` wrote.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::Granted;
use super::keyring::{Keyring, LookUp};
use super::vault::{Credentials, Vault};
use crate::clock::{Clock, Timestamp};
use crate::remote::http::Secret;
use crate::remote::http::wire::Int;
use crate::remote::{ErrorKind, RemoteError, Result};
use crate::tree::{HashAlgo, Hasher};

/// One place outside of foldsync that credentials can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    Systemd,
    Command,
    Keyring,
    File,
}

impl Origin {
    /// For `auth status`.
    pub fn describe(self) -> &'static str {
        match self {
            Origin::Environment => "environment",
            Origin::Systemd => "systemd credential",
            Origin::Command => "token_command",
            Origin::Keyring => "keyring",
            Origin::File => "credentials file",
        }
    }
}

/// Looks credentials of one remote up.
#[derive(Clone, Debug)]
pub struct Sources {
    pub remote: String,
    pub vault: Vault,
    /// Run by `sh -c`; its first line, or its JSON object, is the token.
    pub token_command: Option<String>,
    /// From configuration; least preferred.
    pub client_secret: Option<Secret>,
    /// Where systemd puts credentials (`$CREDENTIALS_DIRECTORY`).
    pub systemd_dir: Option<PathBuf>,
    /// Where one may answer.
    pub keyring: Option<Keyring>,
    pub environment: fn(&str) -> Option<String>,
}

/// A login and where its token came from.
#[derive(Clone, Debug)]
pub struct Found {
    pub credentials: Credentials,
    pub origin: Origin,
}

impl Sources {
    const COMMAND_WAIT: Duration = Duration::from_secs(30);

    pub fn new(remote: &str, vault: Vault) -> Sources {
        let environment: fn(&str) -> Option<String> = |name| std::env::var(name).ok();
        Sources {
            remote: remote.to_owned(),
            vault,
            token_command: None,
            client_secret: None,
            systemd_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            keyring: Keyring::of_session(environment),
            environment,
        }
    }

    /// Everything known now. Empty credentials if nobody ever logged in.
    pub async fn find(&self, clock: &dyn Clock) -> Result<Found> {
        let stored = self.vault.load()?.unwrap_or_default();
        let outside = self.outside_token(clock).await?;
        let (mut credentials, origin) = match outside {
            None => (stored.clone(), Origin::File),
            Some((token, origin)) => {
                let seed = Some(Hasher::of(HashAlgo::Sha256, token.reveal().as_bytes()).hex());
                if stored.seed == seed {
                    (stored.clone(), origin)
                } else {
                    let granted = read_token(token.reveal())?;
                    (Credentials { seed, ..granted.credentials(clock.now()) }, origin)
                }
            }
        };
        credentials.password = self.outside("PASSWORD", "password").or(stored.password);
        credentials.client_secret = self
            .outside("CLIENT_SECRET", "client-secret")
            .or(stored.client_secret)
            .or_else(|| self.client_secret.clone());
        Ok(Found { credentials, origin })
    }

    async fn outside_token(&self, clock: &dyn Clock) -> Result<Option<(Secret, Origin)>> {
        if let Some(token) = self.variable("TOKEN") {
            return Ok(Some((token, Origin::Environment)));
        }
        if let Some(token) = self.systemd("token") {
            return Ok(Some((token, Origin::Systemd)));
        }
        if let Some(command) = &self.token_command {
            return Ok(Some((self.run(command, clock).await?, Origin::Command)));
        }
        Ok(self.keyring_token(clock).await.map(|token| (token, Origin::Keyring)))
    }

    /// A keyring that gives nothing is told once and passed over: the file may have the login.
    async fn keyring_token(&self, clock: &dyn Clock) -> Option<Secret> {
        let keyring = self.keyring.as_ref()?;
        match keyring.look_up(&self.remote, clock).await {
            LookUp::Found(token) => Some(token),
            LookUp::Missing => None,
            LookUp::NoAnswer(why) => {
                let (remote, program) = (&self.remote, keyring.program().display());
                tracing::warn!(
                    "the keyring was not used for {remote} ({program}: {why}): unlock it, or log in \
                     with foldsync auth login {remote}"
                );
                None
            }
        }
    }

    fn outside(&self, variable: &str, file: &str) -> Option<Secret> {
        self.variable(variable).or_else(|| self.systemd(file))
    }

    /// `FOLDSYNC_<REMOTE>_<WHAT>`; what a variable's name cannot hold becomes `_`.
    fn variable(&self, what: &str) -> Option<Secret> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let remote: String = self.remote.chars().map(plain).collect();
        trimmed(&(self.environment)(&format!("FOLDSYNC_{remote}_{what}"))?)
    }

    /// `foldsync-<remote>-<what>` in systemd's credentials folder.
    fn systemd(&self, what: &str) -> Option<Secret> {
        let file = self.systemd_dir.as_ref()?.join(format!("foldsync-{}-{what}", self.remote));
        trimmed(&std::fs::read_to_string(file).ok()?)
    }

    async fn run(&self, command: &str, clock: &dyn Clock) -> Result<Secret> {
        let failed = |why: String| {
            let context = format!("the token_command of {}: {why}", self.remote);
            RemoteError::new(ErrorKind::AuthExpired, context)
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        let output =
            printed_within(&mut shell, Sources::COMMAND_WAIT, clock).await.map_err(failed)?;
        if !output.status.success() {
            return Err(failed(format!("it ended with {}", output.status)));
        }
        let text = String::from_utf8(output.stdout)
            .map_err(|_| failed("it wrote something that is not text".to_owned()))?;
        trimmed(&text).ok_or_else(|| failed("it wrote nothing".to_owned()))
    }
}

/// What a program printed until it ended; why it did not end well in time. It is killed then.
pub(super) async fn printed_within(
    command: &mut Command,
    limit: Duration,
    clock: &dyn Clock,
) -> std::result::Result<Output, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::select! {
        output = command.output() => output.map_err(|error| error.to_string()),
        () = clock.sleep(limit) => Err(format!("no answer within {limit:?}")),
    }
}

pub(super) fn trimmed(text: &str) -> Option<Secret> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new)
}

/// A token as a person hands it over: a JSON object with `access_token`, `refresh_token` and
/// `expires_in`, or the bare access token.
pub fn read_token(text: &str) -> Result<Granted> {
    #[derive(Deserialize)]
    struct Object {
        access_token: String,
        refresh_token: Option<String>,
        expires_in: Option<Int>,
    }
    let text = text.trim();
    let bad = |why: &str| Err(RemoteError::new(ErrorKind::AuthExpired, format!("the token {why}")));
    if !text.starts_with('{') {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return bad("is empty or contains spaces");
        }
        let access_token = Secret::new(text);
        return Ok(Granted { access_token, refresh_token: None, expires_in_s: None });
    }
    match serde_json::from_str::<Object>(text) {
        Ok(object) if !object.access_token.is_empty() => Ok(Granted {
            access_token: Secret::new(object.access_token),
            refresh_token: object.refresh_token.filter(|t| !t.is_empty()).map(Secret::new),
            expires_in_s: object.expires_in.map(|seconds| seconds.0),
        }),
        // serde's own message may quote the text.
        Ok(_) | Err(_) => bad("is not an object with access_token, refresh_token and expires_in"),
    }
}

/// A token is renewed before it ends: this long, in seconds, or a tenth of its life if that is less.
const EARLY_S: i64 = 60;

impl Granted {
    pub fn credentials(self, now: Timestamp) -> Credentials {
        let ends = |life: i64| now.seconds().saturating_add(life - (life / 10).clamp(0, EARLY_S));
        Credentials {
            access_token: Some(self.access_token),
            refresh_token: self.refresh_token,
            expires_s: self.expires_in_s.map(ends),
            ..Credentials::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn sources(dir: &std::path::Path) -> Sources {
        Sources {
            systemd_dir: None,
            keyring: None,
            environment: |_| None,
            ..Sources::new("my-top", Vault::new(dir, "my-top").unwrap())
        }
    }

    async fn token(sources: &Sources) -> (Option<String>, Origin) {
        let found = sources.find(&SystemClock).await.unwrap();
        (found.credentials.access_token.map(|t| t.reveal().to_owned()), found.origin)
    }

    #[tokio::test]
    async fn the_environment_wins_over_systemd_over_a_command_over_a_keyring_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(dir.path());
        assert_eq!(token(&sources).await, (None, Origin::File));
        let stored = read_token("from-file").unwrap().credentials(Timestamp(0));
        sources.vault.store(&stored).unwrap();
        assert_eq!(token(&sources).await, (Some("from-file".into()), Origin::File));
        sources.keyring = Some(Keyring::in_tests(dir.path(), "echo from-keyring"));
        assert_eq!(token(&sources).await, (Some("from-keyring".into()), Origin::Keyring));
        sources.token_command = Some("echo from-command".into());
        assert_eq!(token(&sources).await, (Some("from-command".into()), Origin::Command));
        std::fs::write(dir.path().join("foldsync-my-top-token"), "from-systemd\n").unwrap();
        sources.systemd_dir = Some(dir.path().to_owned());
        assert_eq!(token(&sources).await, (Some("from-systemd".into()), Origin::Systemd));
        sources.environment =
            |name| (name == "FOLDSYNC_MY_TOP_TOKEN").then(|| "from-environment".into());
        assert_eq!(token(&sources).await, (Some("from-environment".into()), Origin::Environment));
    }

    // AU-04: the rotated pair must be found again although the environment still has the first one.
    #[tokio::test]
    async fn a_rotated_pair_replaces_the_token_outside_until_that_one_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(dir.path());
        sources.environment = |name| {
            let json = r#"{"access_token":"a0","refresh_token":"r0","expires_in":"7200"}"#;
            name.ends_with("_TOKEN").then(|| json.into())
        };
        let first = sources.find(&SystemClock).await.unwrap().credentials;
        assert_eq!(first.refresh_token, Some(Secret::new("r0")));
        let rotated = Credentials { access_token: Some(Secret::new("a1")), ..first };
        sources.vault.store(&rotated).unwrap();
        assert_eq!(token(&sources).await.0.as_deref(), Some("a1"));
        sources.environment = |name| name.ends_with("_TOKEN").then(|| "new-login".into());
        assert_eq!(token(&sources).await.0.as_deref(), Some("new-login"));
    }

    // AU-04: as the environment's, a keyring's token is only where a login began.
    #[tokio::test]
    async fn a_rotated_pair_of_a_keyring_is_in_the_file_and_found_there_while_the_keyring_is_locked()
     {
        let dir = tempfile::tempdir().unwrap();
        let open =
            Keyring::in_tests(dir.path(), r#"echo '{"access_token":"a0","refresh_token":"r0"}'"#);
        let mut sources = Sources { keyring: Some(open), ..sources(dir.path()) };
        let first = sources.find(&SystemClock).await.unwrap().credentials;
        assert_eq!(first.refresh_token, Some(Secret::new("r0")));
        let rotated = Credentials { access_token: Some(Secret::new("a1")), ..first };
        sources.vault.store(&rotated).unwrap();
        assert_eq!(token(&sources).await, (Some("a1".into()), Origin::Keyring));
        let locked = "echo 'the keyring is locked' >&2; exit 1";
        sources.keyring = Some(Keyring::in_tests(dir.path(), locked));
        assert_eq!(token(&sources).await, (Some("a1".into()), Origin::File));
    }

    #[tokio::test]
    async fn a_command_that_fails_is_a_missing_login_and_not_an_empty_token() {
        let dir = tempfile::tempdir().unwrap();
        for command in ["exit 3", "true", "printf '\\377'"] {
            let sources = Sources { token_command: Some(command.into()), ..sources(dir.path()) };
            let error = sources.find(&SystemClock).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::AuthExpired, "{command}");
        }
    }

    #[test]
    fn a_token_is_a_json_object_or_a_bare_word() {
        let json = r#" {"access_token":"a","refresh_token":"r","expires_in":7200,"scope":"x"} "#;
        let granted = read_token(json).unwrap();
        assert_eq!(granted.refresh_token, Some(Secret::new("r")));
        assert_eq!(granted.expires_in_s, Some(7200));
        assert_eq!(read_token("abc\n").unwrap().access_token, Secret::new("abc"));
        for bad in ["", "  ", "two words", "{}", r#"{"access_token":""}"#, r#"{"access_token":1}"#]
        {
            assert!(read_token(bad).is_err(), "{bad}");
        }
    }
}
