//! Remote content to the disk: staged, verified, and only then given its name.

use futures_util::StreamExt;

use super::meter::{Moving, Purpose};
use super::{Executor, Result, enter, failure, local_failure, remote_failure};
use crate::engine::job::{Expected, FailureKind, Outcome, Task};
use crate::local::{Installed, StageKey, StageWriter};
use crate::tree::{Content, Digest, HashAlgo, Hasher, Side};

impl Executor {
    pub(super) async fn download(&self, key: u64, task: &Task) -> Result<Outcome> {
        let Task::Download { source, to, content, over, have, aside } = task else {
            return Err(failure(FailureKind::Refused, Side::Local, "not a download".to_owned()));
        };
        let lane = enter(&self.downloads).await;
        let key = StageKey(key);
        let mut writer = self.local.stage(key).await.map_err(local_failure)?;
        // Before anything is read or written: what is written from here on may carry the same times.
        let at = self.clock.now();
        let (path, size) = (to.path(), source.stamp.size);
        let moving = self.meter.begin(&self.clock, path, Side::Local, Purpose::Transfer, size);
        let fetched = self.fetch(source, content, Some(&mut writer), &moving).await;
        drop(lane);
        let digest = match fetched {
            Ok(digest) => digest,
            Err(failure) => {
                drop(writer);
                self.local.discard(key).await.map_err(local_failure)?;
                return Err(failure);
            }
        };
        if *have == Some(digest) {
            drop(writer);
            self.local.discard(key).await.map_err(local_failure)?;
            moving.arrived();
            return Ok(Outcome::Same { digest, received: digest.size, at });
        }
        let sealed = writer.seal(source.stamp.rev.modified_ns()).await.map_err(local_failure)?;
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
        Ok(Outcome::Downloaded { entry, digest, received: digest.size, kept, at })
    }

    /// Reads remote content to its end, into the stage if there is one, and checks it against what
    /// was announced.
    pub(super) async fn fetch(
        &self,
        source: &Expected,
        content: &Content,
        mut writer: Option<&mut Box<dyn StageWriter>>,
        moving: &Moving,
    ) -> Result<Digest> {
        let algo = content.digest().map_or(self.algo, |digest| digest.hash.algo());
        let download = self
            .remote
            .download(&source.locator, &source.stamp, 0)
            .await
            .map_err(remote_failure)?;
        let mut bytes = download.bytes;
        let mut hasher = Hasher::new(algo);
        let wire = moving.wire();
        let mut size = 0u64;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(remote_failure)?;
            size += chunk.len() as u64;
            wire.pass(chunk.len());
            if size > source.stamp.size {
                break;
            }
            hasher.update(&chunk);
            if let Some(writer) = writer.as_deref_mut() {
                writer.write(chunk).await.map_err(local_failure)?;
            }
        }
        let digest = Digest { size, hash: hasher.finish() };
        let is_announced = match content {
            Content::Is(announced) => digest == *announced,
            Content::Unread { size: announced } => size == *announced,
            Content::Dir => false,
        };
        if !is_announced {
            let text = format!("{} bytes arrived, but not the announced ones", size);
            return Err(failure(FailureKind::Corrupt, Side::Remote, text));
        }
        Ok(digest)
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
                let digest = self.fetch(what, &Content::Unread { size }, None, &moving).await?;
                moving.arrived();
                digest
            }
        };
        self.meter.hashed(digest.size);
        drop(lane);
        Ok(Outcome::Learned { digest, at })
    }
}
