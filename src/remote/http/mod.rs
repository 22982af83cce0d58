//! One HTTP client per account: sends a request at the right time, once, to the right host, and says
//! what came of it.
//!
//! Owns pacing, back-off, the size limits of answers and the rules about origins. Knows no service:
//! adapters build requests and judge answers. Redirects of API calls are never followed, and
//! credentials never leave the API's origin.

mod origin;
mod pace;
mod secret;
#[cfg(test)]
mod tests;
mod transfer;
pub mod wire;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use super::{Effect, ErrorKind, RemoteError, Result};
use crate::clock::{Clock, Timestamp};

pub use origin::{Origins, is_private};
pub use pace::{Backoff, Limits, RETRY_AFTER_MAX, retry_after};
pub use secret::{Secret, SignedUrl, quote};
pub use transfer::{Fetch, Send};

use pace::{Gate, Pass, Throttle, Turns, is_repeatable};

/// Everything about an account's client that does not change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub origins: Origins,
    /// Certificates of an authority to trust besides the system's, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    pub backoff: Backoff,
    /// Longest time to wait inside one call before the caller is told instead.
    pub patience: Duration,
    /// Until a connection stands.
    pub connect: Duration,
    /// For a whole API call; its answers are small.
    pub answer: Duration,
    /// Longest time without a byte in a transfer. There is no limit on a whole transfer.
    pub stall: Duration,
    /// Largest API answer, in bytes after decompression.
    pub answer_bytes_max: usize,
    /// Spreads back-off between clients.
    pub salt: u64,
}

impl Settings {
    pub fn new(origins: Origins) -> Settings {
        Settings {
            origins,
            ca_pem: None,
            backoff: Backoff::DEFAULT,
            patience: Duration::from_secs(20),
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            answer_bytes_max: 16 << 20,
            salt: 0,
        }
    }
}

/// Whether a request changes something on the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads: it may be sent again whenever it failed.
    Safe,
    /// It is sent again only if it surely had no effect.
    Once,
}

/// A value of a form.
#[derive(Clone, Debug)]
pub enum Field {
    Plain(String),
    Secret(Secret),
}

/// One API call. `what` is the first half of every message about it.
#[derive(Clone)]
pub struct Call {
    pub what: String,
    pub method: Method,
    pub url: Url,
    pub form: Option<Vec<(&'static str, Field)>>,
    pub bearer: Option<Secret>,
    pub repeat: Repeat,
    /// Instead of the usual limit for a whole call.
    pub limit: Option<Duration>,
}

impl Call {
    pub fn get(what: impl Into<String>, url: Url) -> Call {
        let what = what.into();
        Call {
            what,
            method: Method::GET,
            url,
            form: None,
            bearer: None,
            repeat: Repeat::Safe,
            limit: None,
        }
    }

    pub fn post(what: impl Into<String>, url: Url) -> Call {
        Call { method: Method::POST, repeat: Repeat::Once, ..Call::get(what, url) }
    }

    pub fn form(mut self, fields: Vec<(&'static str, Field)>) -> Call {
        self.form = Some(fields);
        self
    }

    pub fn bearer(mut self, token: &Secret) -> Call {
        self.bearer = Some(token.clone());
        self
    }

    /// For calls that take the service long.
    pub fn within(mut self, limit: Duration) -> Call {
        self.limit = Some(limit);
        self
    }

    /// For calls that change nothing although they are POSTs.
    pub fn repeatable(mut self) -> Call {
        self.repeat = Repeat::Safe;
        self
    }

    /// What must not appear in a message, even if the service repeats it.
    fn secrets(&self) -> Vec<&Secret> {
        let fields = self.form.iter().flatten().filter_map(|(_, field)| match field {
            Field::Secret(secret) => Some(secret),
            Field::Plain(_) => None,
        });
        fields.chain(&self.bearer).collect()
    }
}

impl fmt::Debug for Call {
    /// Without the link, which may be signed, and without the form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.url.origin().ascii_serialization();
        write!(f, "{} {origin}/… ({})", self.method, self.what)
    }
}

/// An answer of the service, whole and within its size limit.
pub struct Answer<'a> {
    pub status: u16,
    pub body: Bytes,
    what: &'a str,
    repeat: Repeat,
    secrets: Vec<&'a Secret>,
    retry_after: Option<Duration>,
    is_page: bool,
}

impl<'a> Answer<'a> {
    /// An answer that did not come over a wire, to try how it is read.
    pub fn of(call: &'a Call, status: u16, body: &str) -> Answer<'a> {
        Answer {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            what: &call.what,
            repeat: call.repeat,
            secrets: call.secrets(),
            retry_after: None,
            is_page: false,
        }
    }
}

impl Answer<'_> {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the body; an answer that cannot be read tells nothing about what happened.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            if self.is_page || self.body.trim_ascii_start().starts_with(b"<") {
                // A login page of a hotel's network, or a maintenance page.
                return self.error(ErrorKind::Unavailable, "answered with a web page");
            }
            self.error(ErrorKind::Protocol, &format!("answered with something else: {error}"))
        })
    }

    /// An error in the service's words. Its effect follows from the request and the kind.
    pub fn error(&self, kind: ErrorKind, words: &str) -> RemoteError {
        let words = quote(words, &self.secrets);
        let context = match self.status {
            200 => format!("{}: {words}", self.what),
            status => format!("{}: {words} (HTTP {status})", self.what),
        };
        let effect = match (self.repeat, kind) {
            (Repeat::Safe, _) => Effect::None,
            // The request may have been carried out before the answer was made.
            (Repeat::Once, ErrorKind::Unavailable | ErrorKind::Protocol) => Effect::Unknown,
            (Repeat::Once, _) => Effect::None,
        };
        RemoteError { kind, effect, retry_after: self.retry_after, context }
    }

    /// The error that the HTTP status alone stands for.
    pub fn refusal(&self) -> RemoteError {
        let kind = kind_of_status(self.status);
        let words = match kind {
            ErrorKind::Unavailable if (300..400).contains(&self.status) => "redirected elsewhere",
            ErrorKind::AuthExpired => "the login was refused",
            _ => "refused",
        };
        self.error(kind, words)
    }
}

/// What an HTTP status means where the service does not say more.
pub fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::AuthExpired,
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        409 => ErrorKind::AlreadyExists,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        507 => ErrorKind::QuotaFull,
        // An API does not redirect; a captive portal does.
        300..=399 | 408 | 425 | 500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}

/// The client of one account. Clones share everything.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

/// See `Http::downgrade`.
#[derive(Clone)]
pub struct WeakHttp(std::sync::Weak<Inner>);

impl WeakHttp {
    pub fn upgrade(&self) -> Option<Http> {
        self.0.upgrade().map(Http)
    }
}

struct Inner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    api: Client,
    /// Made when it is first used: reading the system's certificates takes a while.
    bulk: OnceLock<Client>,
    turns: Turns,
    up: Throttle,
    down: Throttle,
    gate: Gate,
    /// Seconds that the service's clock is ahead of ours; `i64::MIN` until it has said.
    skew_s: AtomicI64,
}

/// Tries of one call, the first included.
const TRIES_MAX: u32 = 4;

impl Http {
    /// Fails if no certificate authorities are installed or the extra ones cannot be read.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Http> {
        let api = client(&settings, Use::Api)?;
        Ok(Http(Arc::new(Inner {
            turns: Turns::new(clock.clone(), None),
            up: Throttle::new(clock.clone(), Limits::default()),
            down: Throttle::new(clock.clone(), Limits::default()),
            gate: Gate::new(clock.clone(), settings.backoff, settings.salt),
            skew_s: AtomicI64::new(i64::MIN),
            settings,
            clock,
            api,
            bulk: OnceLock::new(),
        })))
    }

    /// A handle that does not keep the client alive.
    pub fn downgrade(&self) -> WeakHttp {
        WeakHttp(Arc::downgrade(&self.0))
    }

    pub fn set_requests_per_second(&self, rate: Option<f64>) {
        self.0.turns.set(rate);
    }

    pub fn set_upload_limits(&self, limits: Limits) {
        self.0.up.set(limits);
    }

    pub fn set_download_limits(&self, limits: Limits) {
        self.0.down.set(limits);
    }

    pub fn origins(&self) -> &Origins {
        &self.0.settings.origins
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// How long to wait after the n-th failure of something that the caller repeats itself.
    pub fn backoff(&self, attempt: u32) -> Duration {
        self.0.settings.backoff.wait(attempt, self.0.settings.salt ^ self.requests())
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.0.gate.passed()
    }

    /// How far the service's clock is ahead of ours, in seconds, once an answer has told.
    pub fn clock_skew_s(&self) -> Option<i64> {
        Some(self.0.skew_s.load(Ordering::Relaxed)).filter(|skew| *skew != i64::MIN)
    }

    /// Sends a call and lets `read` judge the answer. Repeats it after a failure that surely had no
    /// effect, as long as the waits are short; longer waits are the caller's (`retry_after`).
    pub async fn call<T>(&self, call: &Call, read: impl Fn(&Answer<'_>) -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            let error = match self.once(call, &read).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempt += 1;
            let wait = error.retry_after.unwrap_or_else(|| self.backoff(attempt));
            if attempt >= TRIES_MAX || !is_repeatable(&error) || wait > self.0.settings.patience {
                return Err(error);
            }
            tracing::debug!(error = %error, attempt, wait_ms = wait.as_millis(), "request repeated");
            self.0.clock.sleep(wait).await;
        }
    }

    async fn once<T>(&self, call: &Call, read: &impl Fn(&Answer<'_>) -> Result<T>) -> Result<T> {
        self.check_bearer(call.bearer.as_ref(), &call.url)?;
        let pass = self.enter(&call.what, Paced::Yes).await?;
        let mut request = self.0.api.request(call.method.clone(), call.url.clone());
        if let Some(token) = &call.bearer {
            request = request.header(AUTHORIZATION, bearer(token)?);
        }
        if let Some(fields) = &call.form {
            request = request.form(&revealed(fields));
        } else if call.method == Method::POST {
            request = request.body("");
        }
        let limit = call.limit.unwrap_or(self.0.settings.answer);
        let answer = match request.timeout(limit).send().await {
            Ok(response) => self.read_answer(call, response).await,
            Err(error) => Err(transport_error(&call.what, call.repeat, error)),
        };
        let outcome = answer.and_then(|answer| read(&answer));
        self.settle(pass, outcome)
    }

    /// Tells the gate what came of a request.
    fn settle<T>(&self, pass: Pass<'_>, outcome: Result<T>) -> Result<T> {
        let error = match outcome {
            Ok(value) => {
                pass.answered();
                return Ok(value);
            }
            Err(error) => error,
        };
        match error.kind {
            ErrorKind::RateLimited => {
                let wait = pass.refused(error.retry_after);
                return Err(error.after(wait));
            }
            ErrorKind::Unavailable => pass.failed(),
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Changed
            | ErrorKind::AuthExpired
            | ErrorKind::Forbidden
            | ErrorKind::QuotaFull
            | ErrorKind::InvalidName
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt
            | ErrorKind::Protocol
            | ErrorKind::RootLost => pass.answered(),
        }
        Err(error)
    }

    /// Waits for a turn, then passes the gate. Requests that carry much are their own brake.
    async fn enter(&self, what: &str, paced: Paced) -> Result<Pass<'_>> {
        if paced == Paced::Yes {
            self.0.turns.take().await;
        }
        self.0.gate.enter().map_err(|mut error| {
            error.context = format!("{what}: {}", error.context);
            error
        })
    }

    fn check_bearer(&self, token: Option<&Secret>, url: &Url) -> Result<()> {
        if token.is_none() || self.0.settings.origins.is_api(url) {
            return Ok(());
        }
        let context = "credentials are sent to the origin of the service only";
        Err(RemoteError::new(ErrorKind::Protocol, context))
    }

    async fn read_answer<'a>(
        &self,
        call: &'a Call,
        mut response: reqwest::Response,
    ) -> Result<Answer<'a>> {
        self.note_date(response.headers());
        let mut answer = Answer {
            status: response.status().as_u16(),
            body: Bytes::new(),
            what: &call.what,
            repeat: call.repeat,
            secrets: call.secrets(),
            retry_after: self.retry_after(response.headers()),
            is_page: is_page(response.headers()),
        };
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            match chunk.map_err(|error| transport_error(&call.what, call.repeat, error))? {
                // Counted after decompression: a small answer may unpack to a huge one.
                Some(chunk) if body.len() + chunk.len() > self.0.settings.answer_bytes_max => {
                    return Err(answer.error(ErrorKind::Protocol, "the answer is too large"));
                }
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        answer.body = Bytes::from(body);
        Ok(answer)
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, self.0.clock.now())
    }

    fn note_date(&self, headers: &HeaderMap) {
        let date = headers.get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        let Some(at) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let ahead = at.timestamp().as_second().saturating_sub(self.0.clock.now().seconds());
        self.0.skew_s.store(ahead, Ordering::Relaxed);
    }

    fn bulk(&self) -> Result<&Client> {
        if let Some(made) = self.0.bulk.get() {
            return Ok(made);
        }
        let made = client(&self.0.settings, Use::Bulk)?;
        Ok(self.0.bulk.get_or_init(|| made))
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paced {
    Yes,
    No,
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(reqwest::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

fn bearer(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
        .map_err(|_| RemoteError::new(ErrorKind::AuthExpired, "the stored token is not a token"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn revealed<'a>(fields: &'a [(&'static str, Field)]) -> Vec<(&'static str, &'a str)> {
    let reveal = |field: &'a Field| match field {
        Field::Plain(text) => text.as_str(),
        Field::Secret(secret) => secret.reveal(),
    };
    fields.iter().map(|(key, field)| (*key, reveal(field))).collect()
}

/// A failure without a (whole) answer. Links are cut out of the message: they may be signed.
fn transport_error(what: &str, repeat: Repeat, error: reqwest::Error) -> RemoteError {
    let never_sent = error.is_connect() || error.is_builder();
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        words = format!("{words}: {deeper}");
        cause = deeper.source();
    }
    let kind = if error.is_builder() { ErrorKind::Protocol } else { ErrorKind::Unavailable };
    let effect = match repeat {
        Repeat::Once if !never_sent => Effect::Unknown,
        Repeat::Once | Repeat::Safe => Effect::None,
    };
    RemoteError {
        kind,
        effect,
        retry_after: None,
        context: format!("{what}: {}", quote(&words, &[])),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Small requests with credentials.
    Api,
    /// Content, to and from hosts that answers named.
    Bulk,
}

fn client(settings: &Settings, purpose: Use) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("foldsync/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(settings.connect)
        .pool_max_idle_per_host(8)
        // Below the usual keep-alive of servers, or a POST meets a dead connection.
        .pool_idle_timeout(Duration::from_secs(50));
    if purpose == Use::Bulk {
        // Compressed bodies hide their length, and a file that is itself compressed would be unpacked.
        builder = builder.no_gzip();
        if !settings.origins.private_allowed() {
            builder = builder.dns_resolver(Arc::new(origin::PublicOnly));
        }
    }
    let host = settings.origins.api().host_str().unwrap_or_default();
    if matches!(host, "localhost" | "[::1]") || host.starts_with("127.") {
        builder = builder.no_proxy();
    }
    if let Some(pem) = &settings.ca_pem {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|error| {
            let context = format!("the extra certificate authority cannot be read: {error}");
            RemoteError::new(ErrorKind::Unsupported, context)
        })?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        let context = format!(
            "no HTTPS client could be made: {error}; install ca-certificates or set SSL_CERT_FILE"
        );
        RemoteError::new(ErrorKind::Unsupported, context)
    })
}
