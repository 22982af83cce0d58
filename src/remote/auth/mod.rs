//! Logins: who we are to a service, kept valid and never lost.
//!
//! Tokens are renewed once, however many tasks and processes notice at the same time, and a new
//! pair is on disk before it is first used. What a service's renewal looks like is the adapter's;
//! interactive logins are in `flow`.

mod flow;
mod keyring;
mod sources;
mod vault;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;

use super::http::Secret;
use super::{Effect, ErrorKind, RemoteError, Result};
use crate::clock::Clock;

pub use flow::{OAuthApp, Prompt, TerminalPrompt, browser_login, device_login};
pub use keyring::Keyring;
pub use sources::{Found, Origin, Sources, read_token};
pub use vault::{Credentials, Vault, VaultLock};

use vault::Version;

/// What a service grants: a token, and perhaps the means to get the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub access_token: Secret,
    pub refresh_token: Option<Secret>,
    pub expires_in_s: Option<i64>,
}

/// How one service trades old credentials for new ones.
#[async_trait]
pub trait Renewal: Send + Sync + 'static {
    /// `AuthExpired` if the service refuses for good: a person must log in.
    async fn renew(&self, old: &Credentials) -> Result<Granted>;
}

/// The login of one account, shared by all its tasks.
#[derive(Clone)]
pub struct Login(Arc<Inner>);

struct Inner {
    sources: Sources,
    renewal: Box<dyn Renewal>,
    clock: Arc<dyn Clock>,
    /// What requests are sent with.
    current: RwLock<Option<Credentials>>,
    /// Set when only a person can help, with the file as it was then.
    expired: Mutex<Option<Option<Version>>>,
    /// Held by whoever renews. Holds a granted pair that could not be saved yet.
    renewing: tokio::sync::Mutex<Option<Credentials>>,
}

impl Login {
    pub fn new(sources: Sources, renewal: Box<dyn Renewal>, clock: Arc<dyn Clock>) -> Login {
        Login(Arc::new(Inner {
            sources,
            renewal,
            clock,
            current: RwLock::default(),
            expired: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
        }))
    }

    /// A token that should be accepted. `AuthExpired` without any request once a person must log
    /// in; it recovers by itself when the credentials file changes.
    pub async fn token(&self) -> Result<Secret> {
        self.0.check_expired()?;
        match self.0.usable(None) {
            Some(token) => Ok(token),
            None => self.settle(None).await,
        }
    }

    /// A token other than the one that the service just refused.
    pub async fn renew(&self, refused: &Secret) -> Result<Secret> {
        self.0.check_expired()?;
        self.settle(Some(refused.clone())).await
    }

    /// A renewed token was refused as well: nothing is asked until a person has logged in.
    pub fn end(&self, why: &str) {
        self.0.end(why);
    }

    /// In a task of its own: if the caller is cancelled between the service's rotation and the
    /// write to disk, the login would be lost.
    async fn settle(&self, refused: Option<Secret>) -> Result<Secret> {
        let inner = self.0.clone();
        let task = tokio::spawn(async move { inner.settle(refused.as_ref()).await });
        task.await.map_err(|_| {
            RemoteError::new(ErrorKind::Unavailable, "renewing the login was interrupted")
        })?
    }

    /// Credentials as they are now, for services that sign or log in with them.
    pub async fn credentials(&self) -> Result<Credentials> {
        self.token().await?;
        Ok(self.0.current().unwrap_or_default())
    }
}

impl Inner {
    fn current(&self) -> Option<Credentials> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn usable(&self, refused: Option<&Secret>) -> Option<Secret> {
        self.current().and_then(|credentials| self.usable_of(&credentials, refused))
    }

    fn usable_of(&self, credentials: &Credentials, refused: Option<&Secret>) -> Option<Secret> {
        let token = credentials.access_token.as_ref().filter(|token| Some(*token) != refused)?;
        let now = self.clock.now().seconds();
        // Without the means to renew, an old token is tried all the same: our clock may be wrong.
        let fresh = credentials.expires_s.is_none_or(|ends| ends > now);
        (fresh || credentials.refresh_token.is_none()).then(|| token.clone())
    }

    fn check_expired(&self) -> Result<()> {
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(then) = *expired else { return Ok(()) };
        if then == self.sources.vault.version() {
            return Err(login_needed("the login has ended"));
        }
        *expired = None;
        Ok(())
    }

    async fn settle(&self, refused: Option<&Secret>) -> Result<Secret> {
        let mut unsaved = self.renewing.lock().await;
        // Whoever held the turn before us may have settled it already, either way.
        self.check_expired()?;
        if let Some(token) = self.usable(refused) {
            return Ok(token);
        }
        let settled = self.settle_alone(refused, &mut unsaved).await;
        if let Err(error) = &settled
            && error.kind == ErrorKind::AuthExpired
        {
            self.end(&error.context);
        }
        settled
    }

    fn end(&self, why: &str) {
        let version = self.sources.vault.version();
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        if expired.replace(version) != Some(version) {
            // Whoever asked gets the error and tells it: this is for the log of a daemon.
            tracing::info!(remote = %self.sources.remote, reason = %why, "login needed");
        }
        // The next login starts from the file.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Against other processes too: what one of them renewed meanwhile is taken over.
    async fn settle_alone(
        &self,
        refused: Option<&Secret>,
        unsaved: &mut Option<Credentials>,
    ) -> Result<Secret> {
        let _lock = self.sources.vault.lock(self.clock.as_ref()).await?;
        let mut old = match unsaved.take() {
            Some(pair) => self.adopt(pair, unsaved)?,
            None => self.sources.find(self.clock.as_ref()).await?.credentials,
        };
        if let Some(token) = self.usable_of(&old, refused) {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(old);
            return Ok(token);
        }
        if old.access_token.is_none() && old.refresh_token.is_none() && old.password.is_none() {
            return Err(login_needed("nobody has logged in"));
        }
        let granted = match self.renewal.renew(&old).await {
            // The rotation may have happened: the same old token is tried once more.
            Err(error) if error.effect == Effect::Unknown => self.renewal.renew(&old).await?,
            other => other?,
        };
        let fresh = granted.credentials(self.clock.now());
        let refresh_token = fresh.refresh_token.or(old.refresh_token.take());
        let fresh = Credentials {
            access_token: fresh.access_token,
            expires_s: fresh.expires_s,
            refresh_token,
            ..old
        };
        let fresh = self.adopt(fresh, unsaved)?;
        self.usable_of(&fresh, None).ok_or_else(|| login_needed("the new token is not valid"))
    }

    /// Saves a pair, then lets requests use it. A pair that cannot be saved is kept for the next
    /// attempt and not used: after a crash it would be lost, and the old one is worth nothing.
    fn adopt(&self, pair: Credentials, unsaved: &mut Option<Credentials>) -> Result<Credentials> {
        if let Err(error) = self.sources.vault.store(&pair) {
            *unsaved = Some(pair);
            return Err(error);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(pair.clone());
        Ok(pair)
    }
}

fn login_needed(why: &str) -> RemoteError {
    RemoteError::new(ErrorKind::AuthExpired, why)
}

#[cfg(test)]
mod tests;
