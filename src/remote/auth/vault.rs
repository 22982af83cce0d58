//! The file that keeps one remote's login: readable by its owner only, replaced whole, durable.
//!
//! Owns the file and the lock beside it. Never decides which credentials are used.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::remote::http::Secret;
use crate::remote::{ErrorKind, RemoteError, Result};

/// What is known about a login. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub access_token: Option<Secret>,
    pub refresh_token: Option<Secret>,
    /// When the access token is to be renewed, in seconds since the epoch.
    pub expires_s: Option<i64>,
    pub password: Option<Secret>,
    pub client_secret: Option<Secret>,
    /// Fingerprint of the credential from outside (environment, command) that this login grew out
    /// of: a rotated token replaces the one outside only while that one stays the same.
    pub seed: Option<String>,
}

/// The file's form. The only place where secrets are written out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

impl From<&Credentials> for Stored {
    fn from(from: &Credentials) -> Stored {
        let reveal = |secret: &Option<Secret>| secret.as_ref().map(|s| s.reveal().to_owned());
        Stored {
            access_token: reveal(&from.access_token),
            refresh_token: reveal(&from.refresh_token),
            expires_s: from.expires_s,
            password: reveal(&from.password),
            client_secret: reveal(&from.client_secret),
            seed: from.seed.clone(),
        }
    }
}

impl From<Stored> for Credentials {
    fn from(from: Stored) -> Credentials {
        Credentials {
            access_token: from.access_token.map(Secret::new),
            refresh_token: from.refresh_token.map(Secret::new),
            expires_s: from.expires_s,
            password: from.password.map(Secret::new),
            client_secret: from.client_secret.map(Secret::new),
            seed: from.seed,
        }
    }
}

/// Tells one version of the file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    ino: u64,
    mtime_s: i64,
    mtime_ns: i64,
}

/// Where one remote's credentials are kept.
#[derive(Clone, Debug)]
pub struct Vault {
    folder: PathBuf,
    remote: String,
}

/// Held while credentials are renewed, against other processes.
#[derive(Debug)]
pub struct VaultLock {
    _file: File,
}

impl Vault {
    /// How long another process may take to renew a token.
    const LOCK_WAIT: Duration = Duration::from_secs(90);
    const LOCK_STEP: Duration = Duration::from_millis(50);

    /// In the folder `credentials` of the state folder. The remote's name must be one that a file
    /// can have: letters, digits, `-`, `_` and `.`, not beginning with a dot.
    pub fn new(state_dir: &Path, remote: &str) -> Result<Vault> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if remote.is_empty() || remote.starts_with('.') || !remote.chars().all(allowed) {
            let context = format!("{remote:?} cannot be the name of a remote");
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        }
        Ok(Vault { folder: state_dir.join("credentials"), remote: remote.to_owned() })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.remote))
    }

    /// `None` if there was no login. A file that cannot be read is an error, not a missing login.
    pub fn load(&self) -> Result<Option<Credentials>> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.trouble("read", &error)),
        };
        self.tighten(&path, 0o600).map_err(|error| self.trouble("protect", &error))?;
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| {
            // serde's message may quote the text: only the place is told.
            let at = format!("line {} column {}", error.line(), error.column());
            let context = format!("the credentials in {} are damaged at {at}", path.display());
            RemoteError::new(ErrorKind::AuthExpired, context)
        })?;
        Ok(Some(stored.into()))
    }

    /// Durable when it returns: a new file beside the old one, flushed, renamed over it.
    pub fn store(&self, credentials: &Credentials) -> Result<()> {
        self.replace(credentials).map_err(|error| self.trouble("write", &error))
    }

    fn replace(&self, credentials: &Credentials) -> io::Result<()> {
        self.make_folder()?;
        let text = serde_json::to_vec_pretty(&Stored::from(credentials))?;
        let fresh = self.folder.join(format!(".{}.{}.new", self.remote, std::process::id()));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&fresh, self.path())) {
            // Best effort: a half-written file must not hold on to the space that was missing.
            fs::remove_file(&fresh).unwrap_or_default();
            return Err(error);
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Ends the login on this computer. Nothing there is success.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.trouble("remove", &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits until no other process renews these credentials.
    pub async fn lock(&self, clock: &dyn Clock) -> Result<VaultLock> {
        let open = || -> io::Result<File> {
            self.make_folder()?;
            let path = self.folder.join(format!("{}.lock", self.remote));
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        let file = open().map_err(|error| self.trouble("lock", &error))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(VaultLock { _file: file }),
                Err(TryLockError::WouldBlock) if waited < Vault::LOCK_WAIT => {}
                Err(TryLockError::WouldBlock) => {
                    let context = "another process has been renewing the login for too long";
                    return Err(RemoteError::new(ErrorKind::Unavailable, context));
                }
                Err(TryLockError::Error(error)) => return Err(self.trouble("lock", &error)),
            }
            clock.sleep(Vault::LOCK_STEP).await;
            waited += Vault::LOCK_STEP;
        }
    }

    pub(super) fn version(&self) -> Option<Version> {
        let meta = fs::metadata(self.path()).ok()?;
        Some(Version { ino: meta.ino(), mtime_s: meta.mtime(), mtime_ns: meta.mtime_nsec() })
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.tighten(&self.folder, 0o700)
    }

    /// Takes away what others may do, in case somebody else made the file.
    fn tighten(&self, path: &Path, mode: u32) -> io::Result<()> {
        if fs::metadata(path)?.mode() & 0o777 & !mode == 0 {
            return Ok(());
        }
        tracing::warn!(path = %path.display(), "others could read credentials; corrected");
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn trouble(&self, verb: &str, error: &io::Error) -> RemoteError {
        let context =
            format!("could not {verb} the credentials in {}: {error}", self.folder.display());
        RemoteError::new(ErrorKind::Unavailable, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Credentials {
        Credentials {
            access_token: Some(Secret::new("a-1")),
            refresh_token: Some(Secret::new("r-1")),
            expires_s: Some(1_800_000_000),
            ..Credentials::default()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_was_stored_is_loaded_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), "top").unwrap();
        assert_eq!(vault.load().unwrap(), None);
        vault.store(&login()).unwrap();
        assert_eq!(vault.load().unwrap(), Some(login()));
        assert_eq!(mode(&vault.path()), 0o600);
        assert_eq!(mode(&dir.path().join("credentials")), 0o700);
        let left: Vec<_> = fs::read_dir(dir.path().join("credentials")).unwrap().collect();
        assert_eq!(left.len(), 1);
        vault.forget().unwrap();
        vault.forget().unwrap();
        assert_eq!(vault.load().unwrap(), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_protected_again() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), "top").unwrap();
        vault.store(&login()).unwrap();
        fs::set_permissions(vault.path(), fs::Permissions::from_mode(0o644)).unwrap();
        vault.load().unwrap();
        assert_eq!(mode(&vault.path()), 0o600);
    }

    // SE-06
    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), "top").unwrap();
        vault.store(&login()).unwrap();
        fs::write(vault.path(), "{\"access_token\": tok-123456").unwrap();
        let error = vault.load().unwrap_err();
        assert!(!error.context.contains("123456"), "{}", error.context);
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        for name in ["", "..", ".top", "a/b", "../x", "a b"] {
            assert!(Vault::new(Path::new("/nowhere"), name).is_err(), "{name:?}");
        }
    }
}
