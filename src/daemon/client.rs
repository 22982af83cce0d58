//! The other end of the control socket, for the command line.
//!
//! One connection for each request. Whether a daemon runs at all is an answer of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use url::Url;

use super::control::{
    Answer, ConflictItem, HeldSet, HistoryItem, HistoryQuery, Keep, Numbered, keep_word,
};
use super::events::Batch;
use super::socket::is_trusted;
use super::status::DaemonStatus;
use crate::config::units::Span;
use crate::exit::Exit;

/// Longer than the daemon itself lets a request wait.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no foldsync daemon is running (socket {0})")]
    NoDaemon(PathBuf),
    /// The socket belongs to somebody else.
    #[error("the daemon behind {0} is another user's")]
    Foreign(PathBuf),
    /// The daemon says no; `kind` is its word for why.
    #[error("{message}")]
    Refused { kind: String, message: String },
    #[error("the daemon did not answer in time")]
    Timeout,
    /// What came back makes no sense, such as from a daemon of another version.
    #[error("the daemon's answer cannot be read: {0}")]
    Garbled(String),
    #[error("the connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
}

pub type Result<T> = std::result::Result<T, ClientError>;

#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Done {}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// The first of the sockets on which a daemon answers; the error is that of the last one.
    pub async fn find(sockets: impl IntoIterator<Item = PathBuf>) -> Result<Client> {
        let mut last = ClientError::NoDaemon(PathBuf::new());
        for socket in sockets {
            let client = Client::new(socket);
            match client.connect().await {
                Ok(_) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn status(&self) -> Result<DaemonStatus> {
        self.get(route(&["v1", "status"])).await
    }

    /// Events after `since`; waits for one for up to `wait`, which the daemon limits to a minute.
    pub async fn events(&self, since: u64, wait: Duration) -> Result<Batch> {
        let mut url = route(&["v1", "events"]);
        let wait_ms = format!("{}ms", wait.as_millis());
        url.query_pairs_mut()
            .append_pair("since", &since.to_string())
            .append_pair("wait", &wait_ms);
        let limit = wait.min(Duration::from_secs(60)) + ANSWER_WAIT;
        limited(limit, self.request(Method::GET, url)).await
    }

    pub async fn pause(&self, pair: &str, span: Option<Duration>) -> Result<()> {
        let mut url = route(&["v1", "pairs", pair, "pause"]);
        if let Some(span) = span {
            url.query_pairs_mut().append_pair("for", &Span(span).to_string());
        }
        self.done(url).await
    }

    pub async fn resume(&self, pair: &str) -> Result<()> {
        self.done(route(&["v1", "pairs", pair, "resume"])).await
    }

    /// Takes as long as a sync; drop it to wait no longer.
    pub async fn flush(&self, pair: &str) -> Result<Exit> {
        #[derive(Deserialize)]
        struct Flushed {
            exit: u8,
        }
        let url = route(&["v1", "pairs", pair, "flush"]);
        let flushed: Flushed = self.request(Method::POST, url).await?;
        let unknown = || ClientError::Garbled(format!("exit code {}", flushed.exit));
        Exit::from_code(flushed.exit).ok_or_else(unknown)
    }

    pub async fn rescan(&self, pair: &str, deep: bool) -> Result<()> {
        let mut url = route(&["v1", "pairs", pair, "rescan"]);
        if deep {
            url.query_pairs_mut().append_pair("deep", "true");
        }
        self.done(url).await
    }

    pub async fn stop(&self) -> Result<()> {
        self.done(route(&["v1", "stop"])).await
    }

    pub async fn reload(&self) -> Result<()> {
        self.done(route(&["v1", "reload"])).await
    }

    pub async fn held(&self, pair: Option<&str>) -> Result<Vec<HeldSet>> {
        self.get(of_pair(route(&["v1", "held"]), pair)).await
    }

    pub async fn held_set(&self, set: &Numbered) -> Result<HeldSet> {
        self.get(numbered("held", set, None)).await
    }

    pub async fn answer(&self, set: &Numbered, answer: Answer) -> Result<HeldSet> {
        let verb = match answer {
            Answer::Approve => "approve",
            Answer::Reject => "reject",
        };
        self.post(numbered("held", set, Some(verb))).await
    }

    pub async fn conflicts(&self, pair: Option<&str>) -> Result<Vec<ConflictItem>> {
        self.get(of_pair(route(&["v1", "conflicts"]), pair)).await
    }

    pub async fn conflict(&self, conflict: &Numbered) -> Result<ConflictItem> {
        self.get(numbered("conflicts", conflict, None)).await
    }

    pub async fn resolve(&self, conflict: &Numbered, keep: Keep) -> Result<()> {
        let mut url = numbered("conflicts", conflict, Some("resolve"));
        url.query_pairs_mut().append_pair("keep", &keep_word(keep));
        self.done(url).await
    }

    pub async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryItem>> {
        let mut url = of_pair(route(&["v1", "history"]), query.pair.as_deref());
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("limit", &query.limit.to_string());
            if let Some(path) = &query.path {
                pairs.append_pair("path", path);
            }
            if let Some(since) = query.since {
                pairs.append_pair("since", &Span(since).to_string());
            }
        }
        self.get(url).await
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        limited(ANSWER_WAIT, self.request(Method::GET, url)).await
    }

    async fn post<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        limited(ANSWER_WAIT, self.request(Method::POST, url)).await
    }

    async fn done(&self, url: Url) -> Result<()> {
        self.post::<Done>(url).await.map(|Done {}| ())
    }

    async fn connect(&self) -> Result<UnixStream> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoDaemon(self.socket.clone())
                }
                _ => ClientError::Io(error),
            })?;
        let us = rustix::process::geteuid().as_raw();
        if !is_trusted(stream.peer_cred()?.uid(), us) {
            return Err(ClientError::Foreign(self.socket.clone()));
        }
        Ok(stream)
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, url: Url) -> Result<T> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(hyper::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| ClientError::Garbled(error.to_string()))?;
            Ok::<_, ClientError>((status, body.to_bytes()))
        };
        // Dropping the connection closes it: the daemon sees that nobody waits any more.
        let (status, body) = tokio::select! {
            answer = exchange => answer?,
            Err(error) = connection => return Err(broken(&error)),
        };
        read(status, &body)
    }
}

fn broken(error: &hyper::Error) -> ClientError {
    ClientError::Io(io::Error::other(error.to_string()))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Refusal {
        kind: String,
        error: String,
    }
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|e| ClientError::Garbled(e.to_string()));
    }
    match serde_json::from_slice(body) {
        Ok(Refusal { kind, error }) => Err(ClientError::Refused { kind, message: error }),
        Err(_) => Err(ClientError::Garbled(format!("status {status}"))),
    }
}

async fn limited<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(ClientError::Timeout))
}

fn route(segments: &[&str]) -> Url {
    let mut url = Url::parse("http://localhost/").expect("a constant address is valid");
    url.path_segments_mut().expect("http addresses have a path").clear().extend(segments);
    url
}

fn of_pair(mut url: Url, pair: Option<&str>) -> Url {
    if let Some(pair) = pair {
        url.query_pairs_mut().append_pair("pair", pair);
    }
    url
}

fn numbered(what: &str, item: &Numbered, verb: Option<&str>) -> Url {
    let id = item.id.to_string();
    let segments: Vec<&str> = ["v1", what, &id].into_iter().chain(verb).collect();
    of_pair(route(&segments), item.pair.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_pair_can_change_the_route() {
        let url = route(&["v1", "pairs", "a/../../stop?x#y 项", "flush"]);
        assert_eq!(url.path(), "/v1/pairs/a%2F..%2F..%2Fstop%3Fx%23y%20%E9%A1%B9/flush");
        assert_eq!(url.query(), None);
    }

    #[test]
    fn an_error_of_the_daemon_keeps_its_kind() {
        let body = br#"{"kind":"no-such-pair","error":"there is no pair `x`"}"#;
        let error = read::<Done>(StatusCode::NOT_FOUND, body).unwrap_err();
        assert!(matches!(&error, ClientError::Refused { kind, .. } if kind == "no-such-pair"));
        assert_eq!(error.to_string(), "there is no pair `x`");
        let odd = read::<Done>(StatusCode::BAD_GATEWAY, b"<html>").unwrap_err();
        assert!(matches!(odd, ClientError::Garbled(_)));
    }
}
