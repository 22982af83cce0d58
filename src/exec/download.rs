//! Remote content to the disk: staged, verified, and only then given its name.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use super::meter::{Purpose, Wire};
use super::{Executor, Result, enter, failure, local_failure, remote_failure};
use crate::engine::job::{Expected, Failure, FailureKind, Outcome, Task};
use crate::engine::part_key;
use crate::local::{Installed, Resumed, StageKey, StageWriter};
use crate::remote::{ErrorKind, RemoteError};
use crate::tree::{Content, Digest, HashAlgo, Hasher, Side};

impl Executor {
    pub(super) async fn download(&self, key: u64, task: &Task) -> Result<Outcome> {
        let Task::Download { source, to, content, over, have, aside } = task else {
            return Err(failure(FailureKind::Refused, Side::Local, "not a download".to_owned()));
        };
        let lane = enter(&self.downloads).await;
        // Only where the whole can be checked at its end is its beginning worth keeping.
        let keeps = self.local.keeps_parts() && content.digest().is_some();
        let key = StageKey(if keeps { part_key(&self.install_id, source) } else { key });
        let Resumed { mut writer, size: begun, hasher } =
            self.open_stage(key, keeps, source, content).await?;
        // Before anything is read or written: what is written from here on may carry the same times.
        let at = self.clock.now();
        let (path, size) = (to.path(), source.stamp.size);
        let moving = self.meter.begin(&self.clock, path, Side::Local, Purpose::Transfer, size);
        moving.goes_on_at(begun);
        let wire = moving.wire();
        let arrived = Arrived { hasher, size: begun, writer: Some(&mut writer), wire };
        let fetched = self.fetch(source, content, arrived).await;
        drop(lane);
        let digest = match fetched {
            Ok(digest) => digest,
            Err(failure) => {
                drop(writer);
                if !(keeps && failure.leaves_part()) {
                    self.local.discard(key).await.map_err(local_failure)?;
                }
                return Err(failure);
            }
        };
        let received = digest.size - begun;
        if *have == Some(digest) {
            drop(writer);
            self.local.discard(key).await.map_err(local_failure)?;
            moving.arrived();
            return Ok(Outcome::Same { digest, received, at });
        }
        let sealed = writer.seal(source.stamp.rev.modified()).await.map_err(local_failure)?;
        let over = over.as_ref().map(|over| &over.stamp);
        let installed = self.local.install(sealed, &to.path(), over, aside).await;
        let (entry, kept) = match installed {
            Ok(Installed::Clean(entry)) => (entry, None),
            Ok(Installed::DisplacedEdit { entry, kept_as }) => (entry, Some(kept_as)),
            Err(error) => {
                self.local.discard(key).await.map_err(local_failure)?;
                return Err(local_failure(error));
            }
        };
        moving.arrived();
        Ok(Outcome::Downloaded { entry, digest, received, kept, at })
    }

    /// The stage for a version, with what an earlier try left of it.
    async fn open_stage(
        &self,
        key: StageKey,
        keeps: bool,
        source: &Expected,
        content: &Content,
    ) -> Result<Resumed> {
        let algo = content.digest().map_or(self.algo, |digest| digest.hash.algo());
        if keeps && self.remote.capabilities().ranged_download {
            // What cannot be gone on with is begun anew.
            let resumed = self.local.resume(key, source.stamp.size, algo).await;
            if let Some(resumed) = resumed.unwrap_or_default() {
                return Ok(resumed);
            }
        }
        let writer = self.local.stage(key).await.map_err(local_failure)?;
        Ok(Resumed { writer, size: 0, hasher: Hasher::new(algo) })
    }

    /// Reads remote content to its end, into the stage if there is one, and checks it against what
    /// was announced. What breaks off in the middle goes on from there.
    async fn fetch(
        &self,
        source: &Expected,
        content: &Content,
        mut arrived: Arrived<'_>,
    ) -> Result<Digest> {
        let mut breaks = Breaks::default();
        while let Err(end) = self.receive(source, &mut arrived).await {
            let wait = match end {
                End::BrokeOff(_) if !self.remote.capabilities().ranged_download => None,
                End::BrokeOff(ref error) => breaks.wait(arrived.size, error.retry_after),
                End::Failed(_) => None,
            };
            let Some(wait) = wait else { return Err(end.into_failure()) };
            self.clock.sleep(wait).await;
        }
        let digest = Digest { size: arrived.size, hash: arrived.hasher.finish() };
        let is_announced = match content {
            Content::Is(announced) => digest == *announced,
            Content::Unread { size: announced } => digest.size == *announced,
            Content::Dir => false,
        };
        if !is_announced {
            let text = format!("{} bytes arrived, but not the announced ones", digest.size);
            return Err(failure(FailureKind::Corrupt, Side::Remote, text));
        }
        Ok(digest)
    }

    /// Takes in what is missing, as far as one answer brings it.
    async fn receive(
        &self,
        source: &Expected,
        arrived: &mut Arrived<'_>,
    ) -> std::result::Result<(), End> {
        let (path, wanted) = (&source.locator.path, source.stamp.size);
        let asked = self.remote.download(&source.locator, &source.stamp, arrived.size).await;
        let download = asked.map_err(End::of)?;
        // DL-07: never the rest of one version after the beginning of another.
        if download.rev.is_some_and(|rev| rev != source.stamp.rev) {
            let text = format!("{path} was changed meanwhile");
            return Err(End::Failed(failure(FailureKind::Changed, Side::Remote, text)));
        }
        let mut bytes = download.bytes;
        while let Some(chunk) = bytes.next().await {
            arrived.take(chunk.map_err(End::of)?).await.map_err(End::Failed)?;
            if arrived.size > wanted {
                return Ok(());
            }
        }
        if arrived.size < wanted {
            let text = format!("{path}: it ended {} bytes early", wanted - arrived.size);
            return Err(End::BrokeOff(RemoteError::new(ErrorKind::Unavailable, text)));
        }
        Ok(())
    }

    pub(super) async fn learn(
        &self,
        side: Side,
        what: &Expected,
        algo: HashAlgo,
    ) -> Result<Outcome> {
        let lane = enter(&self.downloads).await;
        let size = what.stamp.size;
        let at = self.clock.now();
        let digest = match side {
            Side::Local => {
                let path = &what.locator.path;
                let hash = self.local.hash(path, &what.stamp, algo).await.map_err(local_failure)?;
                Digest { size, hash }
            }
            Side::Remote => {
                let path = what.locator.path.clone();
                let moving = self.meter.begin(&self.clock, path, Side::Local, Purpose::Read, size);
                let (hasher, wire) = (Hasher::new(self.algo), moving.wire());
                let arrived = Arrived { hasher, size: 0, writer: None, wire };
                let digest = self.fetch(what, &Content::Unread { size }, arrived).await?;
                moving.arrived();
                digest
            }
        };
        self.meter.hashed(digest.size);
        drop(lane);
        Ok(Outcome::Learned { digest, at })
    }
}

/// What has arrived of a file.
struct Arrived<'a> {
    hasher: Hasher,
    size: u64,
    writer: Option<&'a mut Box<dyn StageWriter>>,
    wire: Wire,
}

impl Arrived<'_> {
    async fn take(&mut self, chunk: Bytes) -> Result<()> {
        self.size += chunk.len() as u64;
        self.wire.pass(chunk.len());
        self.hasher.update(&chunk);
        match self.writer.as_deref_mut() {
            Some(writer) => writer.write(chunk).await.map_err(local_failure),
            None => Ok(()),
        }
    }
}

/// Why an answer did not bring the rest of a file.
enum End {
    /// The network or the service went away: the same version may be asked for again.
    BrokeOff(RemoteError),
    Failed(Failure),
}

impl End {
    fn of(error: RemoteError) -> End {
        match error.kind {
            ErrorKind::Unavailable | ErrorKind::RateLimited => End::BrokeOff(error),
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Changed
            | ErrorKind::AuthExpired
            | ErrorKind::Forbidden
            | ErrorKind::QuotaFull
            | ErrorKind::InvalidName
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt
            | ErrorKind::Protocol
            | ErrorKind::RootLost => End::Failed(remote_failure(error)),
        }
    }

    fn into_failure(self) -> Failure {
        match self {
            End::BrokeOff(error) => remote_failure(error),
            End::Failed(failure) => failure,
        }
    }
}

/// How often a download has broken off without getting further.
#[derive(Default)]
struct Breaks {
    in_vain: u32,
    /// Bytes that had arrived when it last got further.
    size: u64,
}

impl Breaks {
    /// So often in a row.
    const IN_VAIN_MAX: u32 = 5;
    /// Less than this is not further.
    const BYTES_MIN: u64 = 64 << 10;
    const WAIT_MIN: Duration = Duration::from_secs(1);
    const WAIT_MAX: Duration = Duration::from_secs(60);

    /// How long to wait before the rest is asked for; `None` if the whole is to be tried later.
    fn wait(&mut self, size: u64, asked: Option<Duration>) -> Option<Duration> {
        if size.saturating_sub(self.size) >= Breaks::BYTES_MIN {
            *self = Breaks { in_vain: 0, size };
        }
        let wait = Breaks::WAIT_MIN * 2u32.pow(self.in_vain);
        self.in_vain += 1;
        let wait = asked.unwrap_or(wait);
        // Without a byte there is nothing to keep.
        let goes_on = size > 0 && self.in_vain <= Breaks::IN_VAIN_MAX && wait <= Breaks::WAIT_MAX;
        goes_on.then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    // DL-01
    #[test]
    fn a_download_that_gets_no_further_is_given_up_and_one_that_does_is_not() {
        let mut breaks = Breaks::default();
        let waits: Vec<_> = (0..6).map(|_| breaks.wait(100_000, None)).collect();
        let seconds = [Some(S), Some(S * 2), Some(S * 4), Some(S * 8), Some(S * 16), None];
        assert_eq!(waits, seconds);
        let mut breaks = Breaks::default();
        for round in 1..1000 {
            assert_eq!(breaks.wait(round * Breaks::BYTES_MIN, None), Some(S));
        }
        let mut trickle = Breaks::default();
        let rounds = (1..1000).take_while(|size| trickle.wait(*size, None).is_some()).count();
        assert_eq!(rounds, 5, "a byte at a time is no progress");
    }

    #[test]
    fn the_service_is_asked_again_when_it_wants_to_be_unless_that_is_far_off() {
        let mut breaks = Breaks::default();
        assert_eq!(breaks.wait(100_000, Some(S * 30)), Some(S * 30));
        assert_eq!(breaks.wait(200_000, Some(S * 3600)), None);
        assert_eq!(Breaks::default().wait(0, None), None, "nothing would be lost");
    }
}
