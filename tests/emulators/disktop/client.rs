//! The real adapter, logged in to the emulator.

use std::sync::Arc;
use std::time::Duration;

use foldsync::clock::{Clock, SystemClock};
use foldsync::remote::auth::{Login, Sources, Vault, read_token};
use foldsync::remote::disktop::{self, DiskTop, Measured, OAuthRenewal};
use foldsync::remote::http::{Backoff, Http, Origins, Settings};
use foldsync::tree::RelPath;
use tempfile::TempDir;

use super::{CLIENT_ID, DiskTopCloud};

/// One process with the adapter. Several may share a state folder.
pub struct Client {
    pub remote: DiskTop,
    pub http: Http,
    pub login: Login,
    pub state: Arc<TempDir>,
    measured: Measured,
}

impl DiskTopCloud {
    /// A freshly logged in client whose root is a folder of the sandbox; the folder is not made.
    pub fn client(&self, root: &str) -> Client {
        self.client_knowing(root, Measured::NOTHING)
    }

    pub fn client_knowing(&self, root: &str, measured: Measured) -> Client {
        let state = Arc::new(TempDir::new().expect("a temporary folder"));
        self.folders.lock().expect("nobody panics with it").push(state.clone());
        let login = read_token(&self.issue_tokens().to_string()).expect("a pair of tokens");
        vault(&state).store(&login.credentials(SystemClock.now())).expect("a writable folder");
        self.process(state, root, measured)
    }

    /// Another process of the same login.
    pub fn another_process(&self, of: &Client, root: &str) -> Client {
        self.process(of.state.clone(), root, of.measured)
    }

    fn process(&self, state: Arc<TempDir>, root: &str, measured: Measured) -> Client {
        self.process_with(state, root, measured, |_| ())
    }

    /// A client whose patience and pace are other than the tests' usual ones.
    pub fn client_with(&self, root: &str, change: impl FnOnce(&mut Settings)) -> Client {
        let state = self.client(root).state;
        self.process_with(state, root, Measured::NOTHING, change)
    }

    fn process_with(
        &self,
        state: Arc<TempDir>,
        root: &str,
        measured: Measured,
        change: impl FnOnce(&mut Settings),
    ) -> Client {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut settings = Settings::new(Origins::new(self.base(), disktop::DOMAINS, false));
        settings.backoff =
            Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
        change(&mut settings);
        let http = Http::new(settings, clock.clone()).expect("a client");
        let mut sources = Sources::new("top", vault(&state));
        sources.environment = |_| None;
        sources.systemd_dir = None;
        sources.keyring = None;
        let app = disktop::api::oauth_app(&self.base(), CLIENT_ID, None);
        let renewal = Box::new(OAuthRenewal { http: http.clone(), app });
        let login = Login::new(sources, renewal, clock);
        let root = RelPath::new(root).expect("a path");
        let remote = DiskTop::new(http.clone(), login.clone(), root, measured);
        Client { remote, http, login, state, measured }
    }
}

pub fn vault(state: &TempDir) -> Vault {
    Vault::new(state.path(), "top").expect("a valid name")
}
