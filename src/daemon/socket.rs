//! The control socket: HTTP/1.1 and JSON for this user only.
//!
//! It answers from what the daemon published last and passes requests on; it holds no state of the
//! sync and takes no decision. No client can keep the daemon or another client waiting.

mod bind;
mod connection;
mod routes;

use tokio_util::sync::CancellationToken;

pub use bind::{BindError, Bound, bind};
pub(super) use connection::is_trusted;
pub use routes::Sources;

/// Answers on the socket until `stop` is cancelled; then cuts off open connections and removes the
/// socket.
pub async fn serve(bound: Bound, sources: Sources, stop: CancellationToken) {
    connection::serve(bound, routes::router(sources), stop).await;
}
