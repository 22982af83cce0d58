//! Cloud services on this computer, written from their documents and as unkind as the real ones.
//!
//! Owns what all of them share: real TCP on free loopback ports, a script of faults, counters, and
//! the list of requests that the document does not allow, which fail the test that made them.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of the emulators")]

pub mod disktop;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

// ---- faults ----------------------------------------------------------------------------------

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This is answered; nothing is done.
    Refuse { status: u16, body: String },
    /// As `Refuse`, with one header more.
    RefuseWith { status: u16, header: (&'static str, String), body: String },
    /// It is done, and this is answered.
    Pretend { status: u16, body: String },
    /// The connection is closed before anything is done.
    Drop,
    /// It is done, and the connection is closed instead of an answer.
    LoseReply,
    /// The answer's body ends after so many bytes, although more were announced.
    CutBody(usize),
    /// A bit of the answer's body is wrong.
    FlipBit,
    /// A range is asked for, and everything is sent.
    IgnoreRange,
    /// Nothing but a pause, in milliseconds; the request is served afterwards.
    Delay(u64),
}

impl Fault {
    pub fn refuse(status: u16, body: &str) -> Fault {
        Fault::Refuse { status, body: body.to_owned() }
    }
}

/// Which requests a fault befalls: of those with this label, the ones after the first `skip`.
#[derive(Clone, Debug)]
struct Rule {
    label: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

/// Faults that are still to come.
#[derive(Debug, Default)]
pub struct Script(Vec<Rule>);

impl Script {
    pub fn add(&mut self, label: &str, skip: u32, times: u32, fault: Fault) {
        self.0.push(Rule { label: label.to_owned(), skip, times, fault });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for the next request of that label. `*` stands for every label.
    fn next(&mut self, label: &str) -> Option<Fault> {
        for rule in &mut self.0 {
            if (rule.label != label && rule.label != "*") || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        None
    }
}

// ---- counters ----------------------------------------------------------------------------------

/// What a client has asked for so far.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Requests by label.
    pub by_label: BTreeMap<String, u64>,
    pub requests: u64,
    /// Requests that change files or folders. Sessions and logins are not counted.
    pub mutating: u64,
    /// Content bytes that arrived and left.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Parts that arrived although they had been accepted before.
    pub parts_repeated: u64,
}

impl Counters {
    pub fn of(&self, label: &str) -> u64 {
        self.by_label.get(label).copied().unwrap_or(0)
    }
}

// ---- connections ---------------------------------------------------------------------------------

/// Accepts connections that a handler can cut.
pub struct CuttableListener(pub TcpListener);

/// A connection with a pair of scissors.
pub struct Cuttable {
    stream: TcpStream,
    cut: Scissors,
}

#[derive(Clone, Debug, Default)]
pub struct Scissors(Arc<AtomicBool>);

impl Scissors {
    /// Nothing more is written to the connection, and it is closed.
    pub fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    }
}

impl axum::serve::Listener for CuttableListener {
    type Io = Cuttable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cuttable, SocketAddr) {
        loop {
            if let Ok((stream, from)) = self.0.accept().await {
                // Small answers must not wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                return (Cuttable { stream, cut: Scissors::default() }, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Scissors {
        stream.io().cut.clone()
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
