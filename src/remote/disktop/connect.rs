//! From what a configuration says to a connected account. Sends nothing by itself.

use std::path::Path;
use std::sync::Arc;

use url::Url;

use super::{DOMAINS, DiskTop, Measured, OAuthRenewal, api};
use crate::clock::Clock;
use crate::remote::auth::{Login, OAuthApp, Sources, Vault};
use crate::remote::http::{Http, Origins, Secret, Settings};
use crate::remote::{ErrorKind, RemoteError, Result};
use crate::tree::RelPath;

/// What a configuration says of an account.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The remote's name in the configuration; credentials are kept under it.
    pub name: &'a str,
    pub base_url: &'a str,
    pub client_id: &'a str,
    pub client_secret: Option<Secret>,
    /// For `sh -c`; prints a token.
    pub token_command: Option<String>,
    /// Plain HTTP to a host that is not this computer was chosen knowingly.
    pub allow_insecure: bool,
    pub state_dir: &'a Path,
    pub requests_per_second: f64,
}

/// The parts of an account that commands use.
pub struct Connection {
    pub http: Http,
    pub app: OAuthApp,
    pub sources: Sources,
}

impl Connection {
    pub fn new(setup: &Setup<'_>, clock: Arc<dyn Clock>) -> Result<Connection> {
        let unusable = |why: String| RemoteError::new(ErrorKind::Unsupported, why);
        let base = Url::parse(setup.base_url)
            .map_err(|error| unusable(format!("base_url {}: {error}", setup.base_url)))?;
        let origins = Origins::new(base.clone(), DOMAINS, false);
        if base.scheme() != "https" && !origins.private_allowed() && !setup.allow_insecure {
            // SE-12
            return Err(unusable(format!(
                "{} would be sent unencrypted; use https, or set allow_insecure = true",
                setup.base_url
            )));
        }
        let http = Http::new(Settings::new(origins), clock)?;
        http.set_requests_per_second(Some(setup.requests_per_second));
        let mut sources = Sources::new(setup.name, Vault::new(setup.state_dir, setup.name)?);
        sources.token_command = setup.token_command.clone();
        sources.client_secret = setup.client_secret.clone();
        let app = api::oauth_app(&base, setup.client_id, setup.client_secret.clone());
        Ok(Connection { http, app, sources })
    }

    /// The account's folder at `root`, counted from the sandbox.
    pub fn open(&self, root: RelPath, measured: Measured) -> DiskTop {
        let renewal = OAuthRenewal { http: self.http.clone(), app: self.app.clone() };
        let clock = Arc::clone(self.http.clock());
        let login = Login::new(self.sources.clone(), Box::new(renewal), clock);
        DiskTop::new(self.http.clone(), login, root, measured)
    }
}
