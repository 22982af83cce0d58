//! Content on its way up or down: paced, watched for stalls, and never longer or shorter than said.
//!
//! Transfers carry no credentials. The caller decides what to do after a failure; nothing here is
//! repeated, except that a download follows a few redirects to hosts that may be used.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderMap, LOCATION, RANGE,
};
use url::Url;

use super::{Answer, Call, Http, Paced, Repeat, Secret, SignedUrl, bearer, transport_error};
use crate::remote::{Body, ErrorKind, RemoteError, Result};

/// From this size on, a transfer does not count as a request: it is slow enough by itself.
const OWN_BRAKE_BYTES: u64 = 1 << 20;
/// Redirects that a download follows.
const REDIRECTS_MAX: usize = 5;
/// A download slower than this over a whole stall interval is given up, to be resumed later.
const STALL_BYTES_MIN: u64 = 4 << 10;

/// One request with a streamed body.
pub struct Send {
    pub what: String,
    pub url: SignedUrl,
    pub body: Body,
    /// Exact length of the body, in bytes.
    pub len: u64,
    /// Only for the API's own origin.
    pub bearer: Option<Secret>,
}

/// One download.
pub struct Fetch {
    pub what: String,
    pub url: SignedUrl,
    /// Offset of the first wanted byte.
    pub from: u64,
    /// Of the whole file, in bytes.
    pub size: u64,
}

/// A download that has begun.
pub struct Part {
    pub bytes: BoxStream<'static, Result<Bytes>>,
    /// False if the service sends what comes before the wanted bytes as well; `bytes` lacks that.
    pub is_exact: bool,
}

/// Counts what a body has given, and remembers why it failed.
#[derive(Default)]
struct Progress {
    bytes: AtomicU64,
    /// Our own limit holds it back: no stall.
    held: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Progress {
    fn fail(&self, why: String) -> std::io::Error {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        std::io::Error::other("the source of the upload failed")
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Http {
    /// Posts a body once, and lets `read` judge the answer. `Corrupt` if the body is not `len` bytes
    /// long; the service then never sees a complete request.
    pub async fn send<T>(&self, send: Send, read: impl Fn(&Answer<'_>) -> Result<T>) -> Result<T> {
        self.check_bearer(send.bearer.as_ref(), send.url.reveal())?;
        let paced = if send.len < OWN_BRAKE_BYTES { Paced::Yes } else { Paced::No };
        let pass = self.enter(&send.what, paced).await?;
        let progress = Arc::new(Progress::default());
        let mut request = self
            .bulk()?
            .post(send.url.reveal().clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, send.len)
            .body(reqwest::Body::wrap_stream(self.exactly(send.body, send.len, progress.clone())));
        if let Some(token) = &send.bearer {
            request = request.header(AUTHORIZATION, bearer(token)?);
        }
        let call = Call { bearer: send.bearer, ..Call::post(send.what, send.url.reveal().clone()) };
        let outcome = {
            let answer = async {
                match request.send().await {
                    Ok(response) => self.read_answer(&call, response).await,
                    Err(error) => Err(transport_error(&call.what, Repeat::Once, error)),
                }
            };
            tokio::select! {
                answer = answer => answer.and_then(|answer| read(&answer)),
                () = self.until_stalled(&progress) => Err(RemoteError::unknown(
                    ErrorKind::Unavailable,
                    format!("{}: nothing moved for {:?}", call.what, self.0.settings.stall),
                )),
            }
        };
        if let Some(why) = progress.failure() {
            pass.answered();
            return Err(RemoteError::new(ErrorKind::Corrupt, format!("{}: {why}", call.what)));
        }
        self.settle(pass, outcome)
    }

    /// The body, paced, and cut off with an error where it is not as long as announced.
    fn exactly(
        &self,
        body: Body,
        len: u64,
        progress: Arc<Progress>,
    ) -> BoxStream<'static, std::io::Result<Bytes>> {
        let http = self.clone();
        let state = (http, body, progress, len);
        stream::try_unfold(state, |(http, mut body, progress, left)| async move {
            let chunk = match body.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Err(progress.fail(format!("reading it: {error}"))),
                None if left == 0 => return Ok(None),
                None => return Err(progress.fail(format!("it ended {left} bytes early"))),
            };
            let Some(left) = left.checked_sub(chunk.len() as u64) else {
                return Err(progress.fail("it is longer than announced".to_owned()));
            };
            progress.held.store(true, Ordering::Relaxed);
            http.0.up.take(chunk.len()).await;
            progress.held.store(false, Ordering::Relaxed);
            progress.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(Some((chunk, (http, body, progress, left))))
        })
        .boxed()
    }

    /// Returns when a whole stall interval passed without a byte taken from the body. The client's
    /// own read timeout cannot be used: it also runs while a body is being sent.
    async fn until_stalled(&self, progress: &Progress) {
        let mut seen = 0;
        loop {
            self.0.clock.sleep(self.0.settings.stall).await;
            let now = progress.bytes.load(Ordering::Relaxed);
            if now == seen && !progress.held.load(Ordering::Relaxed) {
                return;
            }
            seen = now;
        }
    }

    /// Starts a download at `from`. The stream fails rather than end early or late.
    pub async fn fetch(&self, fetch: Fetch) -> Result<BoxStream<'static, Result<Bytes>>> {
        Ok(self.fetch_part(fetch).await?.bytes)
    }

    /// As `fetch`, and tells whether no more than what was wanted is sent.
    pub async fn fetch_part(&self, fetch: Fetch) -> Result<Part> {
        let wanted = fetch.size.checked_sub(fetch.from).ok_or_else(|| {
            RemoteError::new(ErrorKind::Changed, format!("{}: offset beyond its end", fetch.what))
        })?;
        if wanted == 0 {
            return Ok(Part { bytes: stream::empty().boxed(), is_exact: true });
        }
        let paced = if wanted < OWN_BRAKE_BYTES { Paced::Yes } else { Paced::No };
        let mut url = fetch.url.reveal().clone();
        for _ in 0..=REDIRECTS_MAX {
            let pass = self.enter(&fetch.what, paced).await?;
            let response = self.open(&fetch, &url).await;
            let outcome = match response {
                Ok(response) if response.status().is_redirection() => {
                    pass.answered();
                    url = self.next_hop(&fetch.what, &url, response.headers())?;
                    continue;
                }
                Ok(response) => self.accept(&fetch, response),
                Err(error) => Err(error),
            };
            return self.settle(pass, outcome);
        }
        let context = format!("{}: redirected too often", fetch.what);
        Err(RemoteError::new(ErrorKind::Protocol, context))
    }

    async fn open(&self, fetch: &Fetch, url: &Url) -> Result<reqwest::Response> {
        let mut request = self.bulk()?.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if fetch.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", fetch.from));
        }
        tokio::select! {
            response = request.send() => {
                response.map_err(|error| transport_error(&fetch.what, Repeat::Safe, error))
            }
            () = self.0.clock.sleep(self.0.settings.stall) => Err(stalled(&fetch.what)),
        }
    }

    fn next_hop(&self, what: &str, at: &Url, headers: &HeaderMap) -> Result<Url> {
        let location = headers.get(LOCATION).and_then(|to| to.to_str().ok());
        let next = location.and_then(|to| at.join(to).ok()).ok_or_else(|| {
            RemoteError::new(ErrorKind::Protocol, format!("{what}: redirected to nowhere"))
        })?;
        self.0.settings.origins.admit(next.as_str()).map_err(|mut error| {
            error.context = format!("{what}: {}", error.context);
            error
        })
    }

    /// Checks that the answer is the wanted part of the file, before a byte of it is used.
    fn accept(&self, fetch: &Fetch, response: reqwest::Response) -> Result<Part> {
        let status = response.status().as_u16();
        let headers = response.headers();
        let odd = |words: String| {
            RemoteError::new(ErrorKind::Protocol, format!("{}: {words}", fetch.what))
        };
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(odd("the content is encoded although that was not asked for".to_owned()));
        }
        let skip = match (status, fetch.from) {
            (200, from) => from,
            (206, from) if begins_at(headers, from, fetch.size) => 0,
            (206, _) => return Err(odd("another part was sent than the wanted one".to_owned())),
            (416, _) => {
                let context = format!("{}: it is shorter than expected", fetch.what);
                return Err(RemoteError::new(ErrorKind::Changed, context));
            }
            _ => {
                let mut error = RemoteError::new(
                    super::kind_of_status(status),
                    format!("{}: refused (HTTP {status})", fetch.what),
                );
                error.retry_after = self.retry_after(headers);
                return Err(error);
            }
        };
        let due = fetch.size - fetch.from + skip;
        if let Some(length) = response.content_length().filter(|length| *length != due) {
            return Err(odd(format!("{length} bytes are offered where {due} were expected")));
        }
        let bytes = self.watch(fetch.what.clone(), response, skip, due);
        Ok(Part { bytes, is_exact: skip == 0 })
    }

    /// The body without its first `skip` bytes, paced, and checked against its length.
    fn watch(
        &self,
        what: String,
        response: reqwest::Response,
        skip: u64,
        due: u64,
    ) -> BoxStream<'static, Result<Bytes>> {
        let patience = Patience { since: self.now(), bytes: 0 };
        let state = (self.clone(), what, response, skip, due, patience);
        stream::try_unfold(
            state,
            |(http, what, mut response, mut skip, mut due, mut patience)| async move {
                loop {
                    let Some(mut chunk) = http.next_chunk(&what, &mut response).await? else {
                        if due == 0 {
                            return Ok(None);
                        }
                        let context = format!("{what}: it ended {due} bytes early");
                        return Err(RemoteError::new(ErrorKind::Unavailable, context));
                    };
                    due = due.checked_sub(chunk.len() as u64).ok_or_else(|| {
                        let context = format!("{what}: more bytes came than the file has");
                        RemoteError::new(ErrorKind::Corrupt, context)
                    })?;
                    patience.check(&http, &what, chunk.len())?;
                    let dropped = skip.min(chunk.len() as u64);
                    skip -= dropped;
                    let chunk = chunk.split_off(usize::try_from(dropped).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    if http.0.down.take(chunk.len()).await {
                        patience = Patience { since: http.now(), bytes: 0 };
                    }
                    return Ok(Some((chunk, (http, what, response, skip, due, patience))));
                }
            },
        )
        .boxed()
    }

    async fn next_chunk(
        &self,
        what: &str,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>> {
        let mut chunk = pin!(response.chunk());
        tokio::select! {
            biased;
            chunk = &mut chunk => {
                chunk.map_err(|error| transport_error(what, Repeat::Safe, error))
            }
            () = self.0.clock.sleep(self.0.settings.stall) => Err(stalled(what)),
        }
    }
}

/// Notices a server that sends a byte now and then.
struct Patience {
    since: crate::clock::Timestamp,
    bytes: u64,
}

impl Patience {
    fn check(&mut self, http: &Http, what: &str, bytes: usize) -> Result<()> {
        self.bytes += bytes as u64;
        let now = http.now();
        if self.bytes >= STALL_BYTES_MIN {
            *self = Patience { since: now, bytes: 0 };
        } else if now.since(self.since) > http.0.settings.stall {
            return Err(stalled(what));
        }
        Ok(())
    }
}

fn stalled(what: &str) -> RemoteError {
    RemoteError::new(ErrorKind::Unavailable, format!("{what}: the service sends too slowly"))
}

/// Whether `Content-Range` announces the bytes from `from` to the end of a file of `size` bytes.
fn begins_at(headers: &HeaderMap, from: u64, size: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let Some((span, total)) = range.and_then(|r| r.strip_prefix("bytes ")?.split_once('/')) else {
        return false;
    };
    let Some((first, last)) = span.split_once('-') else { return false };
    first.trim().parse() == Ok(from)
        && last.trim().parse() == Ok(size - 1)
        && (total == "*" || total.trim().parse() == Ok(size))
}
