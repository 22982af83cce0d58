//! The control socket: HTTP/1.1 and JSON for this user only.
//!
//! It answers from what the daemon published last and passes requests on; it holds no state of the
//! sync and takes no decision. No client can keep the daemon or another client waiting.

mod bind;
mod connection;
mod routes;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

pub use bind::{BindError, Bound, bind};
pub(super) use connection::is_trusted;
pub use routes::Sources;

/// Where the socket may be, the daemon's own choice first. A client tries all of them: a daemon that
/// was started without a session has no runtime folder.
pub fn places(configured: Option<&Path>, runtime: Option<&Path>, state_dir: &Path) -> Vec<PathBuf> {
    const NAME: &str = "control.sock";
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    let of_session = runtime.map(|folder| folder.join("foldsync").join(NAME));
    of_session.into_iter().chain([state_dir.join(NAME)]).collect()
}

/// Answers on the socket until `stop` is cancelled; then cuts off open connections and removes the
/// socket.
pub async fn serve(bound: Bound, sources: Sources, stop: CancellationToken) {
    connection::serve(bound, routes::router(sources), stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_the_configuration_the_session_or_the_state_says() {
        let (run, state) = (Path::new("/run/user/1"), Path::new("/s"));
        assert_eq!(places(Some(Path::new("/x.sock")), Some(run), state), [Path::new("/x.sock")]);
        let both = ["/run/user/1/foldsync/control.sock", "/s/control.sock"].map(PathBuf::from);
        assert_eq!(places(None, Some(run), state), both);
        assert_eq!(places(None, None, state), both[1..]);
    }
}
