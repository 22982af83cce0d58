//! Who may connect, how many at once, and for how long without a word.
//!
//! A client that stalls costs a slot until a time limit or until the slot is needed; it never costs
//! anybody else an answer.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::bind::Bound;

/// Connections at once.
const CONNECTIONS_MAX: usize = 128;
/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// From the start of a connection, or from the last answer, to the end of the next request's head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a client may take none of an answer.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, such as for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause after a connection had to give way: in a flood, each gets time to say what it wants.
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// Answers until it is told to stop. Open connections are cut off then.
pub(super) async fn serve(bound: Bound, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Slots::default());
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) if is_allowed(&stream) => {
                if slots.admit(stream, router.clone()) == Admission::Crowded {
                    tokio::time::sleep(FLOOD_PAUSE).await;
                }
            }
            Ok(_) => tracing::warn!("another user tried to connect to the control socket"),
            Err(error) => {
                tracing::warn!(%error, "a control connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    slots.close();
}

/// The folder and the mode of the socket keep others out; this holds even if somebody opened both.
fn is_allowed(stream: &UnixStream) -> bool {
    let us = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid(), us))
}

/// Root can do whatever we can.
pub(in crate::daemon) fn is_trusted(peer: u32, us: u32) -> bool {
    peer == us || peer == 0
}

struct Slot {
    task: AbortHandle,
    /// A request was read and its answer is not made yet.
    is_answering: bool,
}

/// The open connections, oldest first.
#[derive(Default)]
struct Slots {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Slot>,
}

#[derive(PartialEq, Eq)]
enum Admission {
    Free,
    /// Somebody had to give way, or the newcomer was turned away.
    Crowded,
}

impl Slots {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the connection. With all slots taken, the oldest one that nobody is waiting in gives
    /// way; if there is none, the newcomer is turned away.
    fn admit(self: &Arc<Slots>, stream: UnixStream, router: Router) -> Admission {
        let mut table = self.table();
        let is_full = table.open.len() >= CONNECTIONS_MAX;
        if is_full {
            let idle = table.open.iter().find(|(_, slot)| !slot.is_answering).map(|(id, _)| *id);
            let Some(idle) = idle else { return Admission::Crowded };
            if let Some(slot) = table.open.remove(&idle) {
                slot.task.abort();
            }
        }
        let id = table.next;
        table.next += 1;
        let slots = self.clone();
        // The task cannot finish before its slot is in the table: that is locked.
        let task = tokio::spawn(async move {
            let place = Place { id, slots };
            place.serve(stream, router).await;
        });
        table.open.insert(id, Slot { task: task.abort_handle(), is_answering: false });
        if is_full { Admission::Crowded } else { Admission::Free }
    }

    fn close(&self) {
        for (_, slot) in std::mem::take(&mut self.table().open) {
            slot.task.abort();
        }
    }
}

/// One connection's slot, given back when the connection ends, however it ends.
struct Place {
    id: u64,
    slots: Arc<Slots>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.table().open.remove(&self.id);
    }
}

impl Place {
    async fn serve(&self, stream: UnixStream, router: Router) {
        let id = self.id;
        let slots = self.slots.clone();
        let marked = router.layer(axum::middleware::from_fn(move |request, next| {
            let slots = slots.clone();
            answer(id, slots, request, next)
        }));
        let service = TowerToHyperService::new(marked);
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(Impatient::new(stream)), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a control connection ended early");
        }
    }
}

async fn answer(
    id: u64,
    slots: Arc<Slots>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    /// Also when the client goes away in the middle.
    struct Answering(u64, Arc<Slots>);
    impl Answering {
        fn mark(&self, is_answering: bool) {
            if let Some(slot) = self.1.table().open.get_mut(&self.0) {
                slot.is_answering = is_answering;
            }
        }
    }
    impl Drop for Answering {
        fn drop(&mut self) {
            self.mark(false);
        }
    }
    let answering = Answering(id, slots);
    answering.mark(true);
    next.run(request).await
}

/// A stream that fails when the other end takes nothing for too long.
struct Impatient {
    stream: UnixStream,
    /// Runs while a write waits.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: UnixStream) -> Impatient {
        Impatient { stream, limit: None }
    }

    /// Passes on what a write came to, or the end of patience.
    fn limited<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut UnixStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.stream), context) {
            self.limit = None;
            return Poll::Ready(done);
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_WAIT)));
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.limited(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.limited(context, |stream, context| stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.limited(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.limited(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::is_trusted;

    // SE-08
    #[test]
    fn only_the_same_user_and_root_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
