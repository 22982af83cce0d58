//! The client against a server on a real socket that answers whatever a test wants.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::SystemClock;

/// Answers each connection's only request with the next script and keeps what was asked.
struct Server {
    url: Url,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What to write, byte by byte; `Stall` then keeps the connection open and says nothing.
#[derive(Clone)]
enum Script {
    Say(Vec<u8>),
    SayThenStall(Vec<u8>),
    CloseAfterRequest,
}

fn say(head: &str, body: &[u8]) -> Script {
    let mut bytes = format!("HTTP/1.1 {head}\r\nConnection: close\r\n").into_bytes();
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    Script::Say(bytes)
}

async fn serve(scripts: Vec<Script>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        let mut scripts = VecDeque::from(scripts);
        while let Ok((mut socket, _)) = listener.accept().await {
            let script = scripts.pop_front().unwrap_or_else(|| say("599 Unscripted", b""));
            let log = log.clone();
            tokio::spawn(async move {
                let request = read_request(&mut socket).await;
                log.lock().unwrap().push(request);
                match script {
                    Script::Say(bytes) => socket.write_all(&bytes).await.unwrap_or_default(),
                    Script::SayThenStall(bytes) => {
                        socket.write_all(&bytes).await.unwrap_or_default();
                        std::future::pending::<()>().await;
                    }
                    Script::CloseAfterRequest => {}
                }
            });
        }
    });
    Server { url, seen }
}

/// The head of a request and as much of its body as was announced and came.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = socket.read(&mut buffer).await.unwrap_or(0);
        got.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&got).into_owned();
        if got.first() == Some(&0x16) {
            // A TLS handshake, which this server does not speak.
            return text;
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let due = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if n == 0 || body.len() >= due.unwrap_or(0) {
                return text;
            }
        } else if n == 0 {
            return text;
        }
    }
}

impl Server {
    fn http(&self) -> Http {
        self.http_with(|_| ())
    }

    fn http_with(&self, change: impl FnOnce(&mut Settings)) -> Http {
        let mut settings = Settings::new(Origins::new(self.url.clone(), &[], false));
        settings.backoff =
            Backoff { first: Duration::from_millis(1), most: Duration::from_millis(4) };
        change(&mut settings);
        Http::new(settings, Arc::new(SystemClock)).unwrap()
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn read(answer: &Answer<'_>) -> Result<serde_json::Value> {
    if answer.is_success() { answer.json() } else { Err(answer.refusal()) }
}

fn token() -> Secret {
    Secret::new("tok-123456")
}

// ---- calls -------------------------------------------------------------------------------------

// AU-13
#[tokio::test]
async fn a_read_is_repeated_after_a_server_error_and_a_change_is_not() {
    let oops = || say("502 Bad Gateway", b"");
    let server = serve(vec![oops(), oops(), say("200 OK", b"{}"), oops()]).await;
    let http = server.http();
    http.call(&Call::get("look", server.url.clone()), read).await.unwrap();
    assert_eq!(server.requests(), 3);
    let error = http.call(&Call::post("change", server.url.clone()), read).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::Unknown));
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn a_change_whose_reply_was_lost_is_unknown() {
    let server = serve(vec![Script::CloseAfterRequest]).await;
    let error =
        server.http().call(&Call::post("change", server.url.clone()), read).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::Unknown));
}

#[tokio::test]
async fn a_change_that_never_left_had_no_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let http = Http::new(
        Settings {
            backoff: Backoff { first: Duration::ZERO, most: Duration::ZERO },
            ..Settings::new(Origins::new(url.clone(), &[], false))
        },
        Arc::new(SystemClock),
    )
    .unwrap();
    let error = http.call(&Call::post("change", url), read).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::None));
}

// AU-11, AU-12
#[tokio::test]
async fn too_many_requests_with_a_long_wait_is_told_and_holds_back_the_others() {
    let server = serve(vec![say("429 Slow\r\nRetry-After: 1000000000", b"")]).await;
    let http = server.http();
    let call = Call::post("change", server.url.clone());
    for _ in 0..3 {
        let error = http.call(&call, read).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (ErrorKind::RateLimited, Effect::None));
        assert!(error.retry_after.unwrap() > Duration::from_secs(3500));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn too_many_requests_with_a_short_wait_is_waited_for() {
    let server = serve(vec![say("429 Slow", b""), say("200 OK", b"{}")]).await;
    server.http().call(&Call::post("change", server.url.clone()), read).await.unwrap();
    assert_eq!(server.requests(), 2);
}

// SE-14
#[tokio::test]
async fn no_redirect_of_an_api_call_is_followed() {
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
        let other = serve(vec![]).await;
        let head = format!("{status}\r\nLocation: {}", other.url);
        let server = serve(vec![say(&head, b""); 8]).await;
        let http = server.http();
        let get = Call::get("look", server.url.clone()).bearer(&token());
        let error = http.call(&get, read).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let post =
            Call::post("change", server.url.clone()).form(vec![("token", Field::Secret(token()))]);
        http.call(&post, read).await.unwrap_err();
        assert_eq!(other.requests(), 0, "{status}");
    }
}

// SE-17
#[tokio::test]
async fn a_token_for_another_origin_is_not_sent() {
    let server = serve(vec![]).await;
    let other = serve(vec![]).await;
    let http = server.http();
    let call = Call::get("look", other.url.clone()).bearer(&token());
    assert_eq!(http.call(&call, read).await.unwrap_err().kind, ErrorKind::Protocol);
    assert_eq!(other.requests(), 0);
}

// SE-11
#[tokio::test]
async fn a_host_that_does_not_speak_tls_gets_no_token_and_no_second_try_without() {
    let server = serve(vec![say("200 OK", b"{}"); 8]).await;
    let mut url = server.url.clone();
    url.set_scheme("https").unwrap();
    let mut settings = Settings::new(Origins::new(url.clone(), &[], false));
    settings.backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(4) };
    let http = Http::new(settings, Arc::new(SystemClock)).unwrap();
    let post = Call::post("change", url).bearer(&token());
    let error = http.call(&post, read).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Unavailable, Effect::None));
    assert!(server.seen.lock().unwrap().iter().all(|seen| !seen.contains("123456")));
}

// AU-17
#[tokio::test]
async fn a_web_page_is_no_answer() {
    let page = say("200 OK\r\nContent-Type: text/html", b"<html>Welcome</html>");
    let server = serve(vec![page; 4]).await;
    let call = Call::get("look", server.url.clone());
    let error = server.http().call(&call, read).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.context.contains("web page"), "{}", error.context);
}

// SE-18
#[tokio::test]
async fn an_answer_is_cut_at_its_limit() {
    let server = serve(vec![say("200 OK", &[b' '; 5000])]).await;
    let http = server.http_with(|settings| settings.answer_bytes_max = 4096);
    let error = http.call(&Call::post("change", server.url.clone()), read).await.unwrap_err();
    assert!(error.context.contains("too large"), "{}", error.context);
}

// SE-20
#[tokio::test]
async fn the_limit_counts_what_an_answer_unpacks_to() {
    // 1 MiB of spaces, gzipped by hand: one stored-block-free deflate stream is not needed, a
    // repeated fixed-Huffman match does.
    let bomb = gzip_of_spaces(1 << 20);
    assert!(bomb.len() < 64 << 10);
    let server = serve(vec![say("200 OK\r\nContent-Encoding: gzip", &bomb)]).await;
    let http = server.http_with(|settings| settings.answer_bytes_max = 64 << 10);
    let error = http.call(&Call::post("change", server.url.clone()), read).await.unwrap_err();
    assert!(error.context.contains("too large"), "{}", error.context);
}

/// A gzip file of `len` spaces: one literal, then matches of 258 at distance 1 (RFC 1951, 3.2.6).
fn gzip_of_spaces(len: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.low_first(0b011, 3);
    bits.high_first(0x30 + 0x20, 8);
    let matches = (len - 1) / 258;
    for _ in 0..matches {
        bits.high_first(0b1100_0101, 8);
        bits.high_first(0, 5);
    }
    bits.high_first(0, 7);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(bits.bytes());
    // The check sum and size at the end are never reached by a reader that stops in time.
    file.extend([0; 8]);
    file
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn low_first(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).map(|bit| value >> bit & 1 == 1));
    }

    fn high_first(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0_u8, |byte, (at, bit)| byte | u8::from(*bit) << at)
        };
        self.0.chunks(8).map(byte).collect()
    }
}

// SE-06, AU-22
#[tokio::test]
async fn no_error_repeats_a_secret() {
    let echo = say("400 Bad", b"no such token tok-123456");
    let server = serve(vec![echo, Script::CloseAfterRequest]).await;
    let http = server.http();
    let mut url = server.url.clone();
    url.set_query(Some("sig=tok-123456"));
    let call = Call::post("change", url).bearer(&token());
    let words = |answer: &Answer<'_>| -> Result<()> {
        Err(answer.error(ErrorKind::Protocol, &String::from_utf8_lossy(&answer.body)))
    };
    for _ in 0..2 {
        let error = http.call(&call, words).await.unwrap_err();
        assert!(!format!("{error} {error:?} {call:?}").contains("123456"));
    }
}

// ---- uploads -----------------------------------------------------------------------------------

fn upload(server: &Server, chunks: Vec<std::io::Result<Bytes>>, len: u64) -> Send {
    Send {
        what: "upload".into(),
        url: SignedUrl::new(server.url.clone()),
        body: stream::iter(chunks).boxed(),
        len,
        bearer: None,
    }
}

#[tokio::test]
async fn a_body_is_sent_with_its_length() {
    let server = serve(vec![say("200 OK", b"{}")]).await;
    let send =
        upload(&server, vec![Ok(Bytes::from_static(b"he")), Ok(Bytes::from_static(b"y"))], 3);
    server.http().send(send, read).await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(seen[0].to_lowercase().contains("content-length: 3\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with("\r\n\r\nhey"), "{}", seen[0]);
    assert!(!seen[0].to_lowercase().contains("transfer-encoding"));
}

// UP-25
#[tokio::test]
async fn a_source_that_ends_early_or_late_or_fails_is_corrupt_and_never_padded() {
    let broken = || std::io::Error::other("gone");
    for (chunks, len) in [
        (vec![Ok(Bytes::from_static(b"he"))], 3),
        (vec![Ok(Bytes::from_static(b"hello"))], 3),
        (vec![Ok(Bytes::from_static(b"he")), Err(broken())], 3),
    ] {
        let server = serve(vec![say("200 OK", b"{}")]).await;
        let error = server.http().send(upload(&server, chunks, len), read).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (ErrorKind::Corrupt, Effect::None), "{error}");
        assert!(server.seen.lock().unwrap().iter().all(|seen| !seen.ends_with("\r\n\r\nhel")));
    }
}

// ---- downloads ---------------------------------------------------------------------------------

fn fetch(server: &Server, from: u64, size: u64) -> Fetch {
    Fetch { what: "download".into(), url: SignedUrl::new(server.url.clone()), from, size }
}

async fn download(http: &Http, fetch: Fetch) -> Result<Vec<u8>> {
    let chunks: Vec<Bytes> = http.fetch(fetch).await?.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn a_resumed_download_asks_for_the_rest_only() {
    let part = say("206 Partial\r\nContent-Range: bytes 4-9/10", b"456789");
    let server = serve(vec![part]).await;
    assert_eq!(download(&server.http(), fetch(&server, 4, 10)).await.unwrap(), b"456789");
    assert!(server.seen.lock().unwrap()[0].to_lowercase().contains("range: bytes=4-\r\n"));
}

// DL-05
#[tokio::test]
async fn a_server_that_ignores_the_range_gives_no_byte_twice() {
    let server = serve(vec![say("200 OK", b"0123456789")]).await;
    assert_eq!(download(&server.http(), fetch(&server, 4, 10)).await.unwrap(), b"456789");
}

// DL-06
#[tokio::test]
async fn another_part_than_the_wanted_one_is_refused() {
    for range in
        ["bytes 0-5/10", "bytes 3-8/10", "bytes 4-9/11", "bytes 4-8/10", "items 4-9/10", ""]
    {
        let head = format!("206 Partial\r\nContent-Range: {range}");
        let server = serve(vec![say(&head, b"456789")]).await;
        let error = download(&server.http(), fetch(&server, 4, 10)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol, "{range}");
    }
}

// DL-01
#[tokio::test]
async fn a_connection_that_closes_early_is_an_error_after_the_bytes_that_came() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n01234";
    let unframed = b"HTTP/1.0 200 OK\r\n\r\n01234";
    for reply in [&short[..], &unframed[..]] {
        let server = serve(vec![Script::Say(reply.to_vec())]).await;
        let mut stream = server.http().fetch(fetch(&server, 0, 10)).await.unwrap();
        let mut got = Vec::new();
        let error = loop {
            match stream.next().await.expect("an early end is an error") {
                Ok(chunk) => got.extend_from_slice(&chunk),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind, got.as_slice()), (ErrorKind::Unavailable, &b"01234"[..]));
    }
}

// DL-13
#[tokio::test]
async fn a_body_that_does_not_end_is_cut() {
    let endless = b"HTTP/1.0 200 OK\r\n\r\n0123456789and more".to_vec();
    let server = serve(vec![Script::SayThenStall(endless)]).await;
    let error = download(&server.http(), fetch(&server, 0, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

// DL-04, DL-15
#[tokio::test]
async fn a_body_of_another_length_is_refused_before_a_byte_is_used() {
    let page = say("200 OK\r\nContent-Type: text/html", b"<html>please log in</html>");
    let server = serve(vec![page]).await;
    let error = server.http().fetch(fetch(&server, 0, 10)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Protocol);
}

// DL-14
#[tokio::test]
async fn encoded_content_is_refused_rather_than_unpacked() {
    let server = serve(vec![say("200 OK\r\nContent-Encoding: gzip", b"0123456789")]).await;
    let error = server.http().fetch(fetch(&server, 0, 10)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(
        server.seen.lock().unwrap()[0].to_lowercase().contains("accept-encoding: identity\r\n")
    );
}

// DL-15, SE-15
#[tokio::test]
async fn a_download_follows_a_few_redirects_to_hosts_that_may_be_used() {
    let target = serve(vec![say("200 OK", b"0123456789")]).await;
    let hop = say(&format!("302 Found\r\nLocation: {}", target.url), b"");
    let server = serve(vec![hop]).await;
    assert_eq!(download(&server.http(), fetch(&server, 0, 10)).await.unwrap(), b"0123456789");

    let circle = serve(vec![say("302 Found\r\nLocation: /again", b""); 50]).await;
    let error = download(&circle.http(), fetch(&circle, 0, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(circle.requests() <= 6);

    let outside = say("302 Found\r\nLocation: file:///etc/passwd", b"");
    let server = serve(vec![outside]).await;
    assert!(server.http().fetch(fetch(&server, 0, 10)).await.is_err());
}

// AU-15
#[tokio::test]
async fn a_server_that_goes_silent_is_given_up() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01".to_vec();
    let server = serve(vec![Script::SayThenStall(head)]).await;
    let http = server.http_with(|settings| settings.stall = Duration::from_millis(50));
    let error = download(&http, fetch(&server, 0, 10)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn nothing_is_asked_for_when_everything_is_there() {
    let server = serve(vec![]).await;
    assert_eq!(download(&server.http(), fetch(&server, 10, 10)).await.unwrap(), b"");
    assert!(download(&server.http(), fetch(&server, 11, 10)).await.is_err());
    assert_eq!(server.requests(), 0);
}
