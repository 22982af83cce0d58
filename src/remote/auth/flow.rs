//! Interactive logins with OAuth 2: a code for another device, or the browser on this one.
//!
//! Owns the protocol; what a person sees goes through `Prompt`. Nothing is stored here.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::Granted;
use crate::clock::Timestamp;
use crate::remote::http::wire::{Int, Text};
use crate::remote::http::{Answer, Call, Field, Http, Secret, quote};
use crate::remote::{ErrorKind, RemoteError, Result};

/// An application at a service, and where its logins happen.
#[derive(Clone, Debug)]
pub struct OAuthApp {
    pub authorize: Url,
    pub token: Url,
    pub device_code: Url,
    pub device_token: Url,
    pub client_id: String,
    /// Only for applications that can keep a secret.
    pub client_secret: Option<Secret>,
    pub scope: String,
}

/// What a person sees of a login.
pub trait Prompt: Send {
    /// `link` is to be opened on any device and `code` typed there; `direct` already has the code.
    fn device_code(&mut self, code: &str, link: &str, direct: Option<&str>);
    /// `link` is to be opened in a browser on this computer.
    fn browser(&mut self, link: &str);
}

/// Writes to a terminal, with a QR code where a link can be scanned.
pub struct TerminalPrompt<W> {
    pub out: W,
    /// Also starts the browser.
    pub open_browser: bool,
}

impl<W: Write + Send> Prompt for TerminalPrompt<W> {
    fn device_code(&mut self, code: &str, link: &str, direct: Option<&str>) {
        let target = direct.unwrap_or(link);
        let picture = QrCode::new(target).ok().map(|code| {
            code.render::<Dense1x2>()
                .dark_color(Dense1x2::Light)
                .light_color(Dense1x2::Dark)
                .build()
        });
        let picture = picture.unwrap_or_default();
        // A terminal that is gone is no reason to fail a login.
        writeln!(self.out, "{picture}\nOpen {link}\nand enter the code {code}").unwrap_or_default();
        self.out.flush().unwrap_or_default();
    }

    fn browser(&mut self, link: &str) {
        writeln!(self.out, "Open this link in a browser on this computer:\n{link}")
            .unwrap_or_default();
        self.out.flush().unwrap_or_default();
        if self.open_browser
            && let Err(error) = open::that_detached(link)
        {
            tracing::debug!(%error, "the browser could not be started");
        }
    }
}

// ---- answers of the token endpoints --------------------------------------------------------------

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<Int>,
    error: Option<Text>,
    error_description: Option<Text>,
}

/// What a token endpoint said.
enum Outcome {
    Granted(Granted),
    /// The error's name, and words for people.
    Refused(String, String),
}

/// The status is not looked at: services answer "pending" with 200 as well as with 400.
fn read_outcome(answer: &Answer<'_>) -> Result<Outcome> {
    let told: TokenAnswer = match answer.json() {
        Ok(told) => told,
        Err(error) if answer.is_success() => return Err(error),
        Err(_) => return Err(answer.refusal()),
    };
    if let Some(Text(name)) = told.error {
        let words = told.error_description.map_or_else(String::new, |Text(words)| words);
        return Ok(Outcome::Refused(quote(&name, &[]), quote(&words, &[])));
    }
    match told.access_token.filter(|token| !token.is_empty()) {
        Some(token) => Ok(Outcome::Granted(Granted {
            access_token: Secret::new(token),
            refresh_token: told.refresh_token.filter(|t| !t.is_empty()).map(Secret::new),
            expires_in_s: told.expires_in.map(|seconds| seconds.0),
        })),
        None if answer.is_success() => {
            Err(answer.error(ErrorKind::Protocol, "neither a token nor an error"))
        }
        None => Err(answer.refusal()),
    }
}

fn refused(name: &str, words: &str) -> RemoteError {
    let context = match name {
        "access_denied" => "the login was denied".to_owned(),
        "expired_token" => "the code was not entered in time".to_owned(),
        _ => format!("the login was refused: {name} {words}").trim_end().to_owned(),
    };
    RemoteError::new(ErrorKind::AuthExpired, context)
}

fn plain(text: &str) -> Field {
    Field::Plain(text.to_owned())
}

impl OAuthApp {
    /// Trades a refresh token for a new pair. The old one is worth nothing afterwards.
    pub async fn refresh(&self, http: &Http, refresh_token: &Secret) -> Result<Granted> {
        let mut form = vec![
            ("grant_type", plain("refresh_token")),
            ("refresh_token", Field::Secret(refresh_token.clone())),
            ("client_id", plain(&self.client_id)),
        ];
        self.add_secret(&mut form);
        let call = Call::post("renew the login", self.token.clone()).form(form);
        match http.call(&call, read_outcome).await? {
            Outcome::Granted(granted) => Ok(granted),
            Outcome::Refused(name, words) => match name.as_str() {
                "temporarily_unavailable" | "server_error" | "slow_down" => {
                    Err(RemoteError::new(ErrorKind::Unavailable, format!("{name} {words}")))
                }
                _ => Err(refused(&name, &words)),
            },
        }
    }

    fn add_secret(&self, form: &mut Vec<(&'static str, Field)>) {
        if let Some(secret) = &self.client_secret {
            form.push(("client_secret", Field::Secret(secret.clone())));
        }
    }
}

// ---- a code for another device ---------------------------------------------------------------------

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Option<Int>,
    interval: Option<Int>,
}

fn read_device(answer: &Answer<'_>) -> Result<DeviceAnswer> {
    if !answer.is_success() {
        return match read_outcome(answer)? {
            Outcome::Refused(name, words) => Err(refused(&name, &words)),
            Outcome::Granted(_) => Err(answer.refusal()),
        };
    }
    answer.json()
}

/// Shows a code and waits until somebody has entered it on another device.
pub async fn device_login(http: &Http, app: &OAuthApp, prompt: &mut dyn Prompt) -> Result<Granted> {
    let form = vec![("client_id", plain(&app.client_id)), ("scope", plain(&app.scope))];
    let call = Call::post("ask for a login code", app.device_code.clone()).form(form).repeatable();
    let device = http.call(&call, read_device).await?;
    let link = shown_link(&device.verification_uri)?;
    let direct = device.verification_uri_complete.as_deref().and_then(|l| shown_link(l).ok());
    prompt.device_code(&quote(&device.user_code, &[]), &link, direct.as_deref());

    let lives = device.expires_in.map_or(600, |s| s.0).clamp(1, 3600);
    let deadline = Timestamp::from_seconds(http.clock().now().seconds() + lives);
    let interval = device.interval.map_or(5, |s| s.0).clamp(1, 60);
    poll(http, app, Secret::new(device.device_code), interval.unsigned_abs(), deadline).await
}

async fn poll(
    http: &Http,
    app: &OAuthApp,
    code: Secret,
    interval_s: u64,
    deadline: Timestamp,
) -> Result<Granted> {
    let form = vec![("device_code", Field::Secret(code)), ("client_id", plain(&app.client_id))];
    let call = Call::post("wait for the login", app.device_token.clone()).form(form);
    let mut interval = Duration::from_secs(interval_s);
    while http.clock().now() < deadline {
        http.clock().sleep(interval).await;
        match http.call(&call, read_outcome).await {
            Ok(Outcome::Granted(granted)) => return Ok(granted),
            Ok(Outcome::Refused(name, words)) => match name.as_str() {
                "authorization_pending" => {}
                "access_denied" | "expired_token" | "invalid_client" | "invalid_grant" => {
                    return Err(refused(&name, &words));
                }
                "slow_down" => interval += Duration::from_secs(5),
                // Undocumented: less often, until the code ends.
                _ => interval = interval.saturating_mul(2),
            },
            Err(error) => tracing::debug!(%error, "asking for the login again"),
        }
    }
    Err(refused("expired_token", ""))
}

/// A link that may be shown to a person, and opened.
fn shown_link(link: &str) -> Result<String> {
    match Url::parse(link) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => Ok(url.to_string()),
        Ok(_) | Err(_) => {
            let context = "the service named no usable page to log in at";
            Err(RemoteError::new(ErrorKind::Protocol, context))
        }
    }
}

// ---- the browser on this computer --------------------------------------------------------------------

const CALLBACK: &str = "/oauth/callback";
/// How long a person may take in the browser.
const BROWSER_WAIT: Duration = Duration::from_secs(600);
const REQUEST_MAX: usize = 16 << 10;

/// A fresh text that nobody can guess: 32 random bytes.
fn unguessable() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        RemoteError::new(ErrorKind::Unavailable, format!("no random numbers: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What the service stores of a verifier (RFC 7636, S256).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Sends the person to the service's page and waits for the answer on a loopback port.
pub async fn browser_login(
    http: &Http,
    app: &OAuthApp,
    prompt: &mut dyn Prompt,
) -> Result<Granted> {
    let failed = |error: std::io::Error| {
        RemoteError::new(ErrorKind::Unavailable, format!("waiting for the browser: {error}"))
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let redirect_uri = format!("http://127.0.0.1:{port}{CALLBACK}");
    let (verifier, state) = (unguessable()?, unguessable()?);
    let mut link = app.authorize.clone();
    link.query_pairs_mut()
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("scope", &app.scope)
        .append_pair("state", &state)
        .append_pair("code_challenge", &challenge(&verifier))
        .append_pair("code_challenge_method", "S256");
    prompt.browser(link.as_str());

    let code = tokio::select! {
        code = wait_for_code(&listener, &state) => code?,
        () = http.clock().sleep(BROWSER_WAIT) => {
            return Err(RemoteError::new(ErrorKind::AuthExpired, "nobody logged in in time"));
        }
    };
    let mut form = vec![
        ("grant_type", plain("authorization_code")),
        ("code", Field::Secret(code)),
        ("client_id", plain(&app.client_id)),
        ("redirect_uri", Field::Plain(redirect_uri)),
        ("code_verifier", Field::Secret(Secret::new(verifier))),
    ];
    app.add_secret(&mut form);
    let call = Call::post("finish the login", app.token.clone()).form(form);
    match http.call(&call, read_outcome).await? {
        Outcome::Granted(granted) => Ok(granted),
        Outcome::Refused(name, words) => Err(refused(&name, &words)),
    }
}

/// Serves one connection at a time until the right one comes. Whoever else connects, or does not
/// know our state, gets an error page and changes nothing.
async fn wait_for_code(listener: &TcpListener, state: &str) -> Result<Secret> {
    loop {
        let Ok((mut socket, _)) = listener.accept().await else { continue };
        let patience = tokio::time::timeout(Duration::from_secs(5), read_target(&mut socket));
        let Ok(Some(target)) = patience.await else { continue };
        let verdict = judge_callback(&target, state);
        let (status, text) = match &verdict {
            None => ("404 Not Found", "This is not the page that foldsync waits for."),
            Some(Ok(_)) => ("200 OK", "foldsync is logged in. You can close this page."),
            Some(Err(_)) => ("200 OK", "The login was refused. You can close this page."),
        };
        let length = text.len();
        let page = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{text}"
        );
        // The browser may be gone already; the code is what counts.
        socket.write_all(page.as_bytes()).await.unwrap_or_default();
        socket.shutdown().await.unwrap_or_default();
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
}

/// The target of a GET request, once its head is complete.
async fn read_target(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = socket.read(&mut buffer).await.ok()?;
        head.extend_from_slice(buffer.get(..n)?);
        if n == 0 || head.len() > REQUEST_MAX {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.lines().next()?.split(' ');
    (words.next()? == "GET").then_some(())?;
    words.next().map(str::to_owned)
}

/// `None` if the request is none of ours.
fn judge_callback(target: &str, state: &str) -> Option<Result<Secret>> {
    let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
    let value =
        |key: &str| url.query_pairs().find(|(k, _)| k == key).map(|(_, value)| value.into_owned());
    if url.path() != CALLBACK || value("state").as_deref() != Some(state) {
        return None;
    }
    if let Some(error) = value("error") {
        return Some(Err(refused(&quote(&error, &[]), "")));
    }
    value("code").filter(|code| !code.is_empty()).map(|code| Ok(Secret::new(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let fresh = unguessable().unwrap();
        assert_eq!(fresh.len(), 43);
        assert_ne!(fresh, unguessable().unwrap());
    }

    #[test]
    fn only_the_callback_with_our_state_counts() {
        let judge = |target: &str| judge_callback(target, "s1");
        assert!(judge("/favicon.ico").is_none());
        assert!(judge("/oauth/callback?code=c").is_none());
        assert!(judge("/oauth/callback?code=c&state=other").is_none());
        assert!(judge("/oauth/callback?state=s1").is_none());
        assert_eq!(judge("/oauth/callback?code=c&state=s1").unwrap().unwrap(), Secret::new("c"));
        let denied = judge("/oauth/callback?error=access_denied&state=s1").unwrap().unwrap_err();
        assert_eq!(denied.kind, ErrorKind::AuthExpired);
    }

    #[test]
    fn a_terminal_shows_code_link_and_picture() {
        let mut prompt = TerminalPrompt { out: Vec::new(), open_browser: false };
        prompt.device_code("8KXH-Y8R", "https://e.example/device", Some("https://e.example/d?c=1"));
        let shown = String::from_utf8(prompt.out).unwrap();
        assert!(shown.contains("8KXH-Y8R") && shown.contains("https://e.example/device"));
        assert!(shown.contains('█'));
    }

    // The link goes to the system's opener.
    #[test]
    fn a_link_that_is_no_web_page_is_not_shown() {
        for bad in ["file:///etc/passwd", "javascript:alert(1)", "x", "", "-n"] {
            assert!(shown_link(bad).is_err(), "{bad}");
        }
    }
}
