//! Local content to the remote: instant check, ranges, verification, and only then the name.
//!
//! What is sent is checked before the remote makes anything of it: a file that changed while it was
//! read is withdrawn. How the new version gets the name is `commit`'s.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex, oneshot};

use super::commit::Way;
use super::meter::{Moving, Purpose, Wire};
use super::{CHUNK_BYTES, Executor, Note, Result, enter, failure, local_failure, remote_failure};
use crate::clock::Timestamp;
use crate::engine::job::{Expected, Failure, FailureKind, Job, Outcome, Target};
use crate::local::FileReader;
use crate::remote::{
    Body, ByteRange, ErrorKind, Outstanding, UploadRequest, UploadSession, UploadStart, UploadStyle,
};
use crate::store::SavedSession;
use crate::tree::{Digest, Entry, Hasher, Name, Side};

/// Ranges of one file that are sent at once, where the service allows it. Each has one chunk in memory.
const PARALLEL_RANGES: usize = 3;

/// What an upload job is about.
pub(super) struct Upload<'a> {
    pub(super) source: &'a Expected,
    pub(super) to: &'a Target,
    pub(super) content: Digest,
    pub(super) over: Option<&'a Expected>,
    pub(super) saved: Option<&'a SavedSession>,
}

/// How the bytes got there.
struct Sent {
    entry: Option<Entry>,
    bytes: u64,
    instant: bool,
    /// Before the remote made a file of it.
    at: Timestamp,
}

/// One file on its way: what is sent, and who counts it.
struct Sending<'a> {
    session: &'a UploadSession,
    upload: &'a Upload<'a>,
    wire: Wire,
}

/// The source while it is being read: shared with the request that carries its bytes.
struct Source {
    reader: Box<dyn FileReader>,
    /// None where its bytes are not read in order.
    hasher: Option<Hasher>,
    failure: Option<Failure>,
}

impl Executor {
    pub(super) async fn upload(&self, key: u64, job: &Job, upload: &Upload<'_>) -> Result<Outcome> {
        // The intent names this key, also if the session turns out to be of no use: whoever has to go
        // on after a kill finds what was staged by it.
        let key = upload.saved.map_or(key, |saved| saved.key);
        let way = self.way(upload.over.is_some());
        let saved = self.usable_session(upload, way).await;
        let name = session_name(key, upload.to, way);
        let lane = enter(&self.uploads).await;
        let (path, size) = (upload.to.path(), upload.content.size);
        let moving = self.meter.begin(&self.clock, path, Side::Remote, Purpose::Transfer, size);
        let mut request = self.request(key, upload, &name);
        if way == Way::Swap {
            request.over = None;
        }
        let sent = self.transfer(job, upload, request, way, saved, &moving).await;
        drop(lane);
        let sent = match sent {
            Ok(sent) => sent,
            Err(failed) if way == Way::Swap => {
                return Err(self.withdraw(key, upload, failed).await);
            }
            Err(failed) => return Err(failed),
        };
        let entry = match way {
            Way::InPlace => sent.entry,
            Way::Swap => Some(self.swap_in(key, sent.entry, upload.to, upload.over).await?),
        };
        let digest = entry.as_ref().and_then(|entry| entry.hash);
        if digest.is_some_and(|hash| hash != upload.content.hash) {
            let text = format!("{} arrived with other content", upload.to.path());
            return Err(failure(FailureKind::Corrupt, Side::Remote, text));
        }
        if sent.instant {
            moving.was_instant()
        } else {
            moving.arrived()
        }
        let Sent { bytes, instant, at, .. } = sent;
        Ok(Outcome::Uploaded { entry, sent: bytes, instant, at })
    }

    /// Removes the staged version of an upload that failed. If nobody can tell whether there is one,
    /// or will be, the next start looks for it.
    async fn withdraw(&self, key: u64, upload: &Upload<'_>, failed: Failure) -> Failure {
        if failed.unknown {
            return Failure { unfinished: true, ..failed };
        }
        if !failed.kind.ends_session() {
            return failed;
        }
        let dropped = self.drop_staged(key, upload.to).await;
        Failure { unfinished: dropped.is_err(), ..failed }
    }

    /// The session of an earlier try, if it is of the same content and has not ended.
    async fn usable_session(&self, upload: &Upload<'_>, way: Way) -> Option<UploadSession> {
        let saved = upload.saved?;
        let name = session_name(saved.key, upload.to, way);
        let request = self.request(saved.key, upload, &name);
        let is_here = saved.place == place(&request);
        let session =
            UploadSession { request, token: saved.token.clone(), expires_s: saved.expires_s };
        let alive = saved.expires_s.is_none_or(|at| at > self.clock.now().seconds());
        if alive && is_here && saved.content == upload.content {
            return Some(session);
        }
        // Best effort: the service ends it by itself.
        let _ = self.remote.abort_upload(&session).await;
        None
    }

    fn request(&self, key: u64, upload: &Upload<'_>, name: &Name) -> UploadRequest {
        UploadRequest {
            key,
            parent: upload.to.parent.clone(),
            name: name.clone(),
            content: upload.content,
            modified: upload.source.stamp.rev.modified(),
            over: upload.over.map(|over| (over.locator.clone(), over.stamp.clone())),
        }
    }

    async fn transfer(
        &self,
        job: &Job,
        upload: &Upload<'_>,
        request: UploadRequest,
        way: Way,
        saved: Option<UploadSession>,
        moving: &Moving,
    ) -> Result<Sent> {
        let mut at = self.clock.now();
        let resumed = self.resume(saved, &request).await?;
        let mut reader = self.open_source(upload, 0).await?;
        if way == Way::InPlace && self.remote.capabilities().instant_upload.is_some() {
            self.look_before(upload).await?;
        }
        let (session, outstanding) = match resumed {
            Some(resumed) => resumed,
            None => match self.remote.begin_upload(&request).await.map_err(remote_failure)? {
                UploadStart::Instant(entry) => {
                    // The file is in place already, whatever became of its source.
                    let verified = reader.verify().await.map_err(local_failure);
                    verified.map_err(|failed| Failure { unknown: true, ..failed })?;
                    return Ok(Sent { entry, bytes: 0, instant: true, at });
                }
                UploadStart::Session(session) => {
                    self.save_session(job, &session).await;
                    let outstanding = self.remote.outstanding(&session).await;
                    (session, outstanding.map_err(remote_failure)?)
                }
            },
        };
        let whole = outstanding.ranges.iter().map(|range| range.len).sum();
        moving.goes_on_at(upload.content.size.saturating_sub(whole));
        let sending = Sending { session: &session, upload, wire: moving.wire() };
        let sent = if outstanding.parallel && outstanding.ranges.len() > 1 {
            self.send_parallel(&sending, &outstanding.ranges, reader.as_mut()).await
        } else {
            self.send_in_order(&sending, &outstanding.ranges, reader).await
        };
        let sent = match sent {
            Ok(()) if way == Way::InPlace => self.look_before(upload).await,
            other => other,
        };
        at = self.clock.now();
        let finished = match sent {
            Ok(()) => self.remote.finish_upload(&session).await.map_err(remote_failure),
            Err(failure) => Err(failure),
        };
        match finished {
            Ok(entry) => Ok(Sent { entry, bytes: whole, instant: false, at }),
            Err(failure) => {
                if failure.kind.ends_session() || !self.resumes() {
                    // Best effort: what stays behind is cleaned up by its key at the next start.
                    let _ = self.remote.abort_upload(&session).await;
                }
                Err(failure)
            }
        }
    }

    /// What is left of an earlier session. One that the service has forgotten is begun anew, one that it
    /// cannot be asked about now is not.
    async fn resume(
        &self,
        saved: Option<UploadSession>,
        request: &UploadRequest,
    ) -> Result<Option<(UploadSession, Outstanding)>> {
        let Some(saved) = saved else { return Ok(None) };
        let session = UploadSession { request: request.clone(), ..saved };
        match self.remote.outstanding(&session).await {
            Ok(outstanding) => Ok(Some((session, outstanding))),
            Err(error) => match error.kind {
                ErrorKind::Unavailable | ErrorKind::RateLimited | ErrorKind::AuthExpired => {
                    Err(remote_failure(error))
                }
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::Changed
                | ErrorKind::Forbidden
                | ErrorKind::QuotaFull
                | ErrorKind::InvalidName
                | ErrorKind::TooLarge
                | ErrorKind::Unsupported
                | ErrorKind::Corrupt
                | ErrorKind::Protocol
                | ErrorKind::RootLost => Ok(None),
            },
        }
    }

    /// EE-05: what is replaced in one step must still be the version that was planned on.
    // RACE: what changes after this look is replaced, where the service cannot check by itself.
    async fn look_before(&self, upload: &Upload<'_>) -> Result<()> {
        match upload.over {
            Some(over) => self.check_unchanged(over).await,
            None => Ok(()),
        }
    }

    fn resumes(&self) -> bool {
        self.remote.capabilities().upload == UploadStyle::Ranges { resume: true }
    }

    /// Makes the session known before its first byte leaves, so that a later process goes on with it.
    async fn save_session(&self, job: &Job, session: &UploadSession) {
        if !self.resumes() {
            return;
        }
        let (saved, is_saved) = oneshot::channel();
        let session = SavedSession {
            key: session.request.key,
            token: session.token.clone(),
            expires_s: session.expires_s,
            content: session.request.content,
            place: place(&session.request),
        };
        if self.notes.send(Note { node: job.node, session, saved }).await.is_ok() {
            // If nobody can save it any more, the upload is only not resumed later.
            let _ = is_saved.await;
        }
    }

    async fn open_source(&self, upload: &Upload<'_>, from: u64) -> Result<Box<dyn FileReader>> {
        let source = upload.source;
        self.local.open(&source.locator.path, &source.stamp, from).await.map_err(local_failure)
    }

    /// One range after the other. If that is the whole file, its bytes are hashed as they leave.
    async fn send_in_order(
        &self,
        sending: &Sending<'_>,
        ranges: &[ByteRange],
        reader: Box<dyn FileReader>,
    ) -> Result<()> {
        let upload = sending.upload;
        let first = ranges.first().map_or(0, |range| range.from);
        let reader = if first == 0 { reader } else { self.open_source(upload, first).await? };
        let hasher = Some(Hasher::new(upload.content.hash.algo()));
        let source = Arc::new(Mutex::new(Source { reader, hasher, failure: None }));
        let mut at = first;
        for range in ranges {
            if range.from != at {
                source.lock().await.reader = self.open_source(upload, range.from).await?;
            }
            self.send_range(sending, &source, *range).await?;
            at = range.from + range.len;
        }
        let mut state = source.lock().await;
        state.reader.verify().await.map_err(local_failure)?;
        let is_whole = first == 0 && ranges.iter().map(|r| r.len).sum::<u64>() == at;
        let hash = state.hasher.take().map(Hasher::finish);
        if is_whole && at == upload.content.size && hash != Some(upload.content.hash) {
            let text = "the file changed while it was read".to_owned();
            return Err(failure(FailureKind::Changed, Side::Local, text));
        }
        Ok(())
    }

    /// Several ranges at once, each with a reader of its own that reads that range and no more: the
    /// file is read once in total. Its hash is not taken on the way, because its bytes come in no
    /// order: that it is still the version that was hashed is verified at the end, and the service
    /// checks the whole.
    async fn send_parallel(
        &self,
        sending: &Sending<'_>,
        ranges: &[ByteRange],
        reader: &mut dyn FileReader,
    ) -> Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut rest = ranges.iter();
        loop {
            // Not all at once: there may be a hundred thousand of them.
            let next = rest.by_ref().take(PARALLEL_RANGES - under_way.len());
            under_way.extend(next.map(|range| self.send_alone(sending, *range)));
            match under_way.next().await {
                Some(sent) => sent?,
                None => break,
            }
        }
        reader.verify().await.map_err(local_failure)
    }

    async fn send_alone(&self, sending: &Sending<'_>, range: ByteRange) -> Result<()> {
        let reader = self.open_source(sending.upload, range.from).await?;
        let source = Arc::new(Mutex::new(Source { reader, hasher: None, failure: None }));
        self.send_range(sending, &source, range).await
    }

    async fn send_range(
        &self,
        sending: &Sending<'_>,
        source: &Arc<Mutex<Source>>,
        range: ByteRange,
    ) -> Result<()> {
        let body = body(Arc::clone(source), range, sending.wire.clone());
        match self.remote.upload_range(sending.session, range, body).await {
            Ok(()) => source.lock().await.failure.take().map_or(Ok(()), Err),
            // If the source failed, the remote's complaint is only its echo.
            Err(error) => {
                let local = source.lock().await.failure.take();
                Err(local.unwrap_or_else(|| remote_failure(error)))
            }
        }
    }
}

/// The next `range.len` bytes of the source, in pieces that a slow connection takes one by one, so that
/// what has passed is known well.
fn body(source: Arc<Mutex<Source>>, range: ByteRange, wire: Wire) -> Body {
    let pieces = chunks(source, range.len).flat_map(|chunk| stream::iter(pieces(chunk)));
    pieces.inspect_ok(move |piece| wire.pass(piece.len())).boxed()
}

fn pieces(chunk: std::io::Result<Bytes>) -> Vec<std::io::Result<Bytes>> {
    const PIECE_BYTES: usize = 64 << 10;
    let mut pieces = Vec::new();
    match chunk {
        Ok(mut rest) => {
            while rest.len() > PIECE_BYTES {
                pieces.push(Ok(rest.split_to(PIECE_BYTES)));
            }
            pieces.push(Ok(rest));
        }
        Err(error) => pieces.push(Err(error)),
    }
    pieces
}

fn chunks(source: Arc<Mutex<Source>>, len: u64) -> Body {
    Box::pin(stream::unfold((source, len), |(source, left)| async move {
        if left == 0 {
            return None;
        }
        let mut state = source.lock().await;
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let chunk = match state.reader.read(max).await {
            Ok(chunk) if chunk.is_empty() => {
                let text = "the file became shorter while it was read".to_owned();
                Err(failure(FailureKind::Changed, Side::Local, text))
            }
            Ok(chunk) => Ok(chunk),
            Err(error) => Err(local_failure(error)),
        };
        match chunk {
            Ok(chunk) => {
                if let Some(hasher) = &mut state.hasher {
                    hasher.update(&chunk);
                }
                drop(state);
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), (source, left)))
            }
            Err(failed) => {
                let text = failed.message.clone();
                state.failure = Some(failed);
                drop(state);
                Some((Err(std::io::Error::other(text)), (source, 0)))
            }
        }
    }))
}

fn session_name(key: u64, to: &Target, way: Way) -> Name {
    match way {
        Way::InPlace => to.name.clone(),
        Way::Swap => super::commit::staged_name(key),
    }
}

/// Where a service makes a file of an upload. A file that is renamed meanwhile is uploaded to its end
/// and renamed then; one that is moved, or now replaces another version, is uploaded anew.
fn place(request: &UploadRequest) -> String {
    let staged = if request.name.is_internal() { "staged in" } else { "in" };
    match &request.parent.id {
        Some(id) => format!("{staged} {id:?}"),
        None => format!("{staged} {}", request.parent.path),
    }
}
