//! Local content to the remote: instant check, ranges, verification, and only then the name.
//!
//! The bytes are hashed as they leave. If they are not the planned ones, the upload is withdrawn
//! before the remote makes anything of it.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::Mutex;

use super::{CHUNK_BYTES, Executor, Result, enter, failure, local_failure, remote_failure};
use crate::engine::job::{Expected, Failure, FailureKind, Outcome, Target};
use crate::local::FileReader;
use crate::remote::{Body, ByteRange, UploadRequest, UploadSession, UploadStart};
use crate::tree::{Digest, Hasher, Side};

/// The source while it is being read: shared with the request that carries its bytes.
struct Source {
    reader: Box<dyn FileReader>,
    hasher: Hasher,
    read: u64,
    failure: Option<Failure>,
}

impl Executor {
    pub(super) async fn upload(
        &self,
        key: u64,
        source: &Expected,
        to: &Target,
        content: Digest,
        over: Option<&Expected>,
    ) -> Result<Outcome> {
        let request = UploadRequest {
            key,
            parent: to.parent.clone(),
            name: to.name.clone(),
            content,
            modified_ns: source.stamp.rev.modified_ns(),
            over: over.map(|over| (over.locator.clone(), over.stamp.clone())),
        };
        let lane = enter(&self.uploads).await;
        let path = &source.locator.path;
        let mut reader = self.local.open(path, &source.stamp).await.map_err(local_failure)?;
        let session = match self.remote.begin_upload(&request).await.map_err(remote_failure)? {
            UploadStart::Instant(entry) => {
                reader.verify().await.map_err(local_failure)?;
                return Ok(Outcome::Uploaded { entry, sent: 0, instant: true });
            }
            UploadStart::Session(session) => session,
        };
        let hasher = Hasher::new(content.hash.algo());
        let source = Arc::new(Mutex::new(Source { reader, hasher, read: 0, failure: None }));
        let sent = self.send(&session, &source).await;
        drop(lane);
        let checked = match sent {
            Ok(()) => check(&source, content).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = checked {
            // Best effort: what stays behind is cleaned up by its key at the next start.
            let _ = self.remote.abort_upload(&session).await;
            return Err(failure);
        }
        match self.remote.finish_upload(&session).await {
            Ok(entry) => Ok(Outcome::Uploaded { entry, sent: content.size, instant: false }),
            Err(error) => {
                let _ = self.remote.abort_upload(&session).await;
                Err(remote_failure(error))
            }
        }
    }

    async fn send(&self, session: &UploadSession, source: &Arc<Mutex<Source>>) -> Result<()> {
        let wanted = self.remote.outstanding(session).await.map_err(remote_failure)?;
        for range in wanted.ranges {
            let body = body(Arc::clone(source), range);
            if let Err(error) = self.remote.upload_range(session, range, body).await {
                // If the source failed, the remote's complaint is only its echo.
                let local = source.lock().await.failure.take();
                return Err(local.unwrap_or_else(|| remote_failure(error)));
            }
        }
        Ok(())
    }
}

/// The next `range.len` bytes of the source.
fn body(source: Arc<Mutex<Source>>, range: ByteRange) -> Body {
    Box::pin(stream::unfold((source, range.len), |(source, left)| async move {
        if left == 0 {
            return None;
        }
        let mut state = source.lock().await;
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let chunk = match state.reader.read(max).await {
            Ok(chunk) => chunk,
            Err(error) => {
                let text = error.context.clone();
                state.failure = Some(local_failure(error));
                drop(state);
                return Some((Err(std::io::Error::other(text)), (source, 0)));
            }
        };
        if chunk.is_empty() {
            let text = "the file became shorter while it was read";
            state.failure = Some(failure(FailureKind::Changed, Side::Local, text.to_owned()));
            drop(state);
            return Some((Err(std::io::Error::other(text)), (source, 0)));
        }
        state.hasher.update(&chunk);
        state.read += chunk.len() as u64;
        drop(state);
        let left = left - chunk.len() as u64;
        Some((Ok(chunk), (source, left)))
    }))
}

/// Whether the bytes that left are the planned ones and the file still is the planned version.
async fn check(source: &Arc<Mutex<Source>>, content: Digest) -> Result<()> {
    let mut state = source.lock().await;
    if let Some(failure) = state.failure.take() {
        return Err(failure);
    }
    state.reader.verify().await.map_err(local_failure)?;
    let hash = state.hasher.clone().finish();
    if (Digest { size: state.read, hash }) != content {
        let text = "the file changed while it was read".to_owned();
        return Err(failure(FailureKind::Changed, Side::Local, text));
    }
    Ok(())
}
