//! A local side whose folders are watched from before they are listed.
//!
//! Adds nothing to the disk but that order: what changes while a folder is being listed is reported.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::local::facts::DiskFacts;
use crate::local::watch::Watcher;
use crate::local::{
    FileReader, Installed, Leftover, Listing, LocalFs, Result, Resumed, Sealed, StageKey,
    StageWriter,
};
use crate::tree::{ContentHash, Entry, HashAlgo, RelPath, Stamp};

pub(super) struct WatchedFs {
    pub(super) disk: Arc<dyn LocalFs>,
    pub(super) watcher: Arc<Watcher>,
}

#[async_trait]
impl LocalFs for WatchedFs {
    async fn identity(&self) -> Result<Option<String>> {
        self.disk.identity().await
    }

    async fn claim(&self, identity: &str) -> Result<()> {
        self.disk.claim(identity).await
    }

    async fn measure(&self, known: Option<DiskFacts>, writes: bool) -> Result<Option<DiskFacts>> {
        self.disk.measure(known, writes).await
    }

    async fn refresh_control(&self) {
        self.disk.refresh_control().await;
    }

    async fn sign_as_local_root(&self) -> Result<()> {
        self.disk.sign_as_local_root().await
    }

    async fn free(&self) -> Option<u64> {
        self.disk.free().await
    }

    async fn list(&self, dir: &RelPath) -> Result<Listing> {
        self.watcher.watch([dir.clone()]).await;
        self.disk.list(dir).await
    }

    async fn stat(&self, path: &RelPath) -> Result<Option<Entry>> {
        self.disk.stat(path).await
    }

    async fn open(
        &self,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Box<dyn FileReader>> {
        self.disk.open(path, expected, from).await
    }

    async fn hash(&self, path: &RelPath, expected: &Stamp, algo: HashAlgo) -> Result<ContentHash> {
        self.disk.hash(path, expected, algo).await
    }

    async fn stage(&self, key: StageKey) -> Result<Box<dyn StageWriter>> {
        self.disk.stage(key).await
    }

    fn keeps_parts(&self) -> bool {
        self.disk.keeps_parts()
    }

    async fn resume(&self, key: StageKey, max: u64, algo: HashAlgo) -> Result<Option<Resumed>> {
        self.disk.resume(key, max, algo).await
    }

    async fn install(
        &self,
        sealed: Sealed,
        at: &RelPath,
        over: Option<&Stamp>,
        aside: &RelPath,
    ) -> Result<Installed> {
        self.disk.install(sealed, at, over, aside).await
    }

    async fn discard(&self, key: StageKey) -> Result<()> {
        self.disk.discard(key).await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.disk.leftovers().await
    }

    async fn restore(&self, key: StageKey, to: &RelPath) -> Result<()> {
        self.disk.restore(key, to).await
    }

    async fn create_dir(&self, at: &RelPath) -> Result<Entry> {
        self.disk.create_dir(at).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, expected: &Stamp) -> Result<Entry> {
        self.disk.rename(from, to, expected).await
    }

    async fn trash(&self, path: &RelPath, expected: &Stamp) -> Result<()> {
        self.disk.trash(path, expected).await
    }

    async fn set_rest_aside(
        &self,
        path: &RelPath,
        expected: &Stamp,
        rest: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        self.disk.set_rest_aside(path, expected, rest).await
    }

    async fn remove_dir(&self, path: &RelPath) -> Result<()> {
        self.disk.remove_dir(path).await
    }
}
