//! `Remote` on the simulated cloud: what one life of the engine sees and does.
//!
//! A request may be lost, refused, answered too late or not at all; what a service does, it does at
//! one moment.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use foldsync::local::Listing;
use foldsync::remote::{
    Account, Body, ByteRange, Capabilities, Download, ErrorKind, Locator, MoveSupport, Outstanding,
    Page, PageCursor, Remote, RemoteError, Result, SameName, UploadRequest, UploadSession,
    UploadStart, UploadStyle,
};
use foldsync::tree::{Entry, Hasher, ItemId, Kind, Name, Side, Stamp};
use futures_util::StreamExt as _;

use super::super::faults::Life;
use super::{Cost, Item, ROOT, Session, SimCloud, State};

/// The cloud as one life of the engine reaches it.
#[derive(Clone)]
pub(crate) struct CloudPort {
    cloud: Arc<SimCloud>,
    life: Life,
    declared: Capabilities,
}

fn fail<T>(kind: ErrorKind, what: impl std::fmt::Display) -> Result<T> {
    Err(RemoteError::new(kind, format!("{what}: {kind:?}")))
}

fn lost<T>(what: &str) -> Result<T> {
    Err(RemoteError::unknown(ErrorKind::Unavailable, format!("{what}: no answer")))
}

impl CloudPort {
    pub(crate) fn new(cloud: Arc<SimCloud>, life: Life) -> CloudPort {
        let declared = cloud.lock().nature.declared.clone();
        CloudPort { cloud, life, declared }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.cloud.lock()
    }

    async fn pause(&self) {
        self.cloud.hub.pause(self.life).await;
    }

    fn strikes(
        &self,
        what: &'static str,
        odds: impl Fn(&super::super::faults::Odds) -> u32,
    ) -> bool {
        let hit = self.cloud.hub.strikes(odds);
        if hit {
            self.cloud.hub.note(format_args!("remote fault: {what}"));
        }
        hit
    }

    /// The way there, the same for every request.
    async fn enter(&self, what: &str, mutates: bool) -> Result<()> {
        {
            let Cost { requests, mutations, .. } = &mut self.lock().cost;
            *requests += 1;
            *mutations += u64::from(mutates);
        }
        self.pause().await;
        if self.strikes("rate limited", |o| o.rate_limited) {
            let wait = Duration::from_secs(1 + self.cloud.hub.below(30) as u64);
            return Err(RemoteError::new(ErrorKind::RateLimited, what).after(wait));
        }
        if self.strikes("unavailable", |o| o.unavailable) {
            return fail(ErrorKind::Unavailable, what);
        }
        Ok(())
    }

    /// EE-05: what an upload replaces must have been looked at just before: then only what happens while
    /// the request is under way can be hidden by it.
    fn expect_looked(&self, request: &UploadRequest) {
        let state = self.lock();
        let Some((target, stamp)) = &request.over else { return };
        let was_seen = target.id.as_ref().and_then(|id| state.looks.get(id)) == Some(stamp);
        if !state.nature.conditional && state.expect(target, stamp).is_err() && !was_seen {
            drop(state);
            self.cloud.hub.violate(format!("EE-05: {} is replaced unseen", target.path));
        }
    }

    /// A request that only looks.
    async fn look<T>(&self, what: &str, act: impl FnOnce(&State) -> Result<T> + Send) -> Result<T>
    where
        T: Send,
    {
        self.enter(what, false).await?;
        if self.strikes("request lost", |o| o.request_lost) {
            return fail(ErrorKind::Unavailable, what);
        }
        let result = act(&self.lock());
        self.pause().await;
        result
    }

    /// A request that changes something.
    async fn change<T: Send + 'static>(
        &self,
        what: String,
        act: impl FnOnce(&mut Desk<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.enter(&what, true).await?;
        if self.strikes("request lost", |o| o.request_lost) {
            self.pause().await;
            return lost(&what);
        }
        if self.strikes("reply late", |o| o.reply_late) {
            let (cloud, what) = (Arc::clone(&self.cloud), format!("{what}, late"));
            let delay = Duration::from_millis(self.cloud.hub.below(2_000) as u64);
            let late = what.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                // Nobody is there any more to hear the answer.
                cloud.serve(&late, act).ok();
            });
            self.pause().await;
            return lost(&what);
        }
        let result = self.cloud.serve(&what, act);
        self.pause().await;
        if self.strikes("reply lost", |o| o.reply_lost) {
            return lost(&what);
        }
        result
    }
}

/// Where the service handles one request.
struct Desk<'a> {
    state: &'a mut State,
    cloud: &'a SimCloud,
}

impl SimCloud {
    fn serve<T>(&self, what: &str, act: impl FnOnce(&mut Desk<'_>) -> Result<T>) -> Result<T> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let before = state.items.clone();
        let result = act(&mut Desk { state: &mut state, cloud: self });
        state.remember(before, now_ms);
        match &result {
            Ok(_) => self.hub.note(format_args!("remote {what}")),
            Err(error) => self.hub.note(format_args!("remote {what}: refused, {error}")),
        }
        result
    }
}

impl State {
    fn id_of(item: &ItemId) -> Option<u64> {
        match item {
            ItemId::Key(key) => key.strip_prefix('i')?.parse().ok(),
            ItemId::Inode { .. } | ItemId::Unproven => None,
        }
    }

    /// What a locator addresses, the way the service does it.
    fn locate(&self, target: &Locator) -> Option<u64> {
        if self.nature.by_path {
            return self.find(target.path.as_str());
        }
        match &target.id {
            None => Some(ROOT),
            Some(id) => State::id_of(id).filter(|id| self.items.contains_key(id)),
        }
    }

    fn locate_dir(&self, target: &Locator) -> Result<u64> {
        let is_it = |id: &u64| {
            self.is_dir(*id)
                && target
                    .id
                    .as_ref()
                    .is_none_or(|item| *item == ItemId::Unproven || State::id_of(item) == Some(*id))
        };
        match self.locate(target).filter(is_it) {
            Some(id) => Ok(id),
            None => fail(ErrorKind::NotFound, &target.path),
        }
    }

    /// The item, if it is the version that the caller means.
    fn expect(&self, target: &Locator, expected: &Stamp) -> Result<u64> {
        let Some(id) = self.locate(target) else {
            return fail(ErrorKind::NotFound, &target.path);
        };
        let found = self.stamp(id);
        let same = found.as_ref() == Some(expected)
            || (self.is_dir(id) && found.is_some_and(|f| f.item == expected.item));
        if !same {
            return fail(ErrorKind::Changed, &target.path);
        }
        Ok(id)
    }

    fn page(&self, items: &super::Items, dir: u64, cursor: Option<&PageCursor>) -> Page {
        let mut all: Vec<Entry> = items
            .iter()
            .filter(|(_, item)| item.parent == dir)
            .map(|(id, item)| self.entry(*id, item))
            .collect();
        if !self.nature.offset_pages {
            all.sort_by_key(place_of);
        }
        let start = match cursor {
            None => 0,
            Some(PageCursor(at)) if self.nature.offset_pages => at.parse().unwrap_or(0),
            Some(PageCursor(after)) => all.partition_point(|e| place_of(e) <= *after),
        };
        let end = all.len().min(start.saturating_add(self.nature.page_size));
        let mut entries = all.get(start..end).unwrap_or_default().to_vec();
        let next = (end < all.len()).then(|| {
            let last = entries.last().map(place_of).unwrap_or_default();
            PageCursor(if self.nature.offset_pages { end.to_string() } else { last })
        });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Page { listing: Listing { entries, ..Listing::default() }, next }
    }
}

/// Where an entry is in the order of names; there may be several of one name.
fn place_of(entry: &Entry) -> String {
    format!("{}\0{:?}", entry.name, entry.item)
}

impl Desk<'_> {
    /// Into the recycle bin, by the engine.
    fn discard(&mut self, id: u64) {
        let Some(item) = self.state.items.get(&id).cloned() else { return };
        let path = self.state.path(id);
        self.state.remove(id);
        self.dropped(item, &path);
    }

    fn dropped(&mut self, item: Item, path: &str) {
        if item.kind == Kind::File {
            let copies = self.state.copies(&item.content);
            self.state.bin.push(item.content.clone());
            self.cloud.hub.removed_by_engine(Side::Remote, path, &item.content, copies);
        }
    }

    fn shown(&self, id: u64) {
        let Some(item) = self.state.items.get(&id) else { return };
        if item.kind == Kind::File && !item.name.is_internal() {
            self.cloud.hub.shown_by_engine(Side::Remote, &item.content);
        }
    }

    fn entry(&self, id: u64) -> Result<Entry> {
        match self.state.items.get(&id) {
            Some(item) => Ok(self.state.entry(id, item)),
            None => fail(ErrorKind::NotFound, id),
        }
    }

    /// Makes uploaded content visible, the way this service treats a name that is taken.
    fn put(&mut self, request: &UploadRequest, content: Bytes) -> Result<u64> {
        let dir = self.state.locate_dir(&request.parent)?;
        let mut name = request.name.clone();
        let there = self.state.child(dir, name.as_str());
        if self.state.nature.conditional {
            match (&request.over, there) {
                (None, None) => {}
                (None, Some(_)) => return fail(ErrorKind::AlreadyExists, name),
                (Some((target, stamp)), there) => {
                    let expected = self.state.expect(target, stamp)?;
                    if there != Some(expected) {
                        return fail(ErrorKind::Changed, name);
                    }
                }
            }
        }
        match (there, self.state.nature.same_name) {
            (Some(id), _) if self.state.is_dir(id) => return fail(ErrorKind::AlreadyExists, name),
            (Some(id), SameName::Replaces) => {
                let (version, path) = (self.state.fresh(), self.state.path(id));
                if let Some(item) = self.state.items.get_mut(&id) {
                    let new = Item { content: content.clone(), version, ..item.clone() };
                    let old = std::mem::replace(item, new);
                    if self.state.nature.conditional {
                        self.dropped(old, &path);
                    } else {
                        // EE-05: no such service lets us close this race of one request. What it
                        // hides is in the version store.
                        self.cloud.hub.hidden_by_race(&old.content);
                        self.state.bin.push(old.content);
                    }
                }
                return Ok(id);
            }
            (Some(_), SameName::Rejects) => return fail(ErrorKind::AlreadyExists, name),
            (Some(_), SameName::AutoRenames) => {
                let mut n = 1;
                while self.state.child(dir, name.as_str()).is_some() {
                    name = Name::new(&format!("{}({n})", request.name)).expect("still a name");
                    n += 1;
                }
            }
            (Some(_), SameName::Duplicates) | (None, _) => {}
        }
        Ok(self.state.add(dir, name, Kind::File, content))
    }

    /// The bytes of a session, if all are there and are the ones that were announced.
    fn assemble(&self, token: &str) -> Result<(UploadRequest, Bytes)> {
        let Some(Session { request, parts, .. }) = self.state.sessions.get(token) else {
            return fail(ErrorKind::NotFound, token);
        };
        let mut content = Vec::new();
        for (from, part) in parts {
            if *from != content.len() as u64 {
                return fail(ErrorKind::Corrupt, format!("{token}: a range is missing"));
            }
            content.extend_from_slice(part);
        }
        let algo = request.content.hash.algo();
        let has_hash = self.state.nature.declared.content_hash == Some(algo);
        if content.len() as u64 != request.content.size
            || (has_hash && Hasher::of(algo, &content) != request.content.hash)
        {
            return fail(ErrorKind::Corrupt, format!("{token}: not the announced bytes"));
        }
        Ok((request.clone(), content.into()))
    }
}

#[async_trait]
impl Remote for CloudPort {
    fn capabilities(&self) -> &Capabilities {
        &self.declared
    }

    async fn account(&self) -> Result<Account> {
        self.look("account", |state| match &state.marker {
            Some(key) => Ok(Account { key: key.clone() }),
            None => fail(ErrorKind::NotFound, "a marker"),
        })
        .await
    }

    async fn claim(&self, identity: &str) -> Result<()> {
        let identity = identity.to_owned();
        self.change("claim".to_owned(), move |desk| {
            desk.state.marker.get_or_insert(identity);
            Ok(())
        })
        .await
    }

    async fn list(&self, dir: &Locator, cursor: Option<PageCursor>) -> Result<Page> {
        let stale = self.strikes("stale", |o| o.stale);
        let now_ms = self.cloud.now_ms();
        let page = self
            .look("list", |state| {
                let id = state.locate_dir(dir)?;
                let items = if stale { state.lagging(now_ms) } else { &state.items };
                Ok(state.page(items, id, cursor.as_ref()))
            })
            .await?;
        self.cloud.hub.note(format_args!(
            "remote list {}: {} entries{}",
            dir.path,
            page.listing.entries.len(),
            if page.next.is_some() { " and more" } else { "" }
        ));
        Ok(page)
    }

    async fn stat(&self, target: &Locator) -> Result<Option<Entry>> {
        if !self.declared.stat {
            return fail(ErrorKind::Unsupported, "stat");
        }
        let found = self
            .look("stat", |state| {
                let found = state.locate(target);
                let item = found.and_then(|id| Some((id, state.items.get(&id)?)));
                Ok(item.map(|(id, item)| state.entry(id, item)))
            })
            .await?;
        if let Some(entry) = &found {
            self.lock().looks.insert(entry.item.clone(), entry.stamp());
        }
        Ok(found)
    }

    async fn create_dir(&self, parent: &Locator, name: &Name) -> Result<Entry> {
        let (parent, name) = (parent.clone(), name.clone());
        self.change(format!("create_dir {}/{name}", parent.path), move |desk| {
            let dir = desk.state.locate_dir(&parent)?;
            match desk.state.child(dir, name.as_str()) {
                Some(id) if desk.state.is_dir(id) => desk.entry(id),
                Some(_) => fail(ErrorKind::AlreadyExists, name),
                None => {
                    let id = desk.state.add(dir, name, Kind::Dir, Bytes::new());
                    let entry = desk.entry(id);
                    if desk.state.nature.loses_folders {
                        desk.state.items.remove(&id);
                    }
                    entry
                }
            }
        })
        .await
    }

    async fn begin_upload(&self, request: &UploadRequest) -> Result<UploadStart> {
        if self.strikes("quota full", |o| o.quota_full) {
            return fail(ErrorKind::QuotaFull, &request.name);
        }
        let (request, instant) = (request.clone(), self.declared.instant_upload);
        let life = self.life;
        if instant.is_some() {
            self.expect_looked(&request);
        }
        if let Some((target, _)) = &request.over
            && let Some(id) = &target.id
        {
            self.lock().looks.remove(id);
        }
        let what = format!("begin_upload {}/{}", request.parent.path, request.name);
        self.change(what, move |desk| {
            desk.state.locate_dir(&request.parent)?;
            let digest = request.content;
            let has_it = |content: &Bytes| {
                content.len() as u64 == digest.size
                    && Hasher::of(digest.hash.algo(), content) == digest.hash
            };
            if instant == Some(digest.hash.algo()) {
                let files = desk.state.items.values().filter(|i| i.kind == Kind::File);
                let known = files.map(|i| &i.content).chain(&desk.state.bin).find(|c| has_it(c));
                if let Some(content) = known.cloned() {
                    let id = desk.put(&request, content)?;
                    desk.shown(id);
                    let tells = desk.state.nature.tells_created;
                    return Ok(UploadStart::Instant(tells.then(|| desk.entry(id)).transpose()?));
                }
            }
            let token = format!("s{}", request.key);
            let session = Session { life, request: request.clone(), parts: Default::default() };
            desk.state.sessions.insert(token.clone(), session);
            Ok(UploadStart::Session(UploadSession { request, token, expires_s: None }))
        })
        .await
    }

    async fn outstanding(&self, session: &UploadSession) -> Result<Outstanding> {
        let style = self.declared.upload;
        self.look("outstanding", |state| {
            let Some(Session { request, parts, .. }) = state.sessions.get(&session.token) else {
                return fail(ErrorKind::NotFound, &session.token);
            };
            let size = request.content.size;
            let whole = vec![ByteRange { from: 0, len: size }];
            let piece = state.nature.piece as u64;
            Ok(match style {
                UploadStyle::SingleShot if parts.is_empty() => {
                    Outstanding { ranges: whole, parallel: false }
                }
                UploadStyle::SingleShot => Outstanding { ranges: Vec::new(), parallel: false },
                UploadStyle::Ranges { .. } => {
                    let starts = (0..size.max(1)).step_by(piece.try_into().unwrap_or(usize::MAX));
                    let ranges = starts
                        .filter(|from| !parts.contains_key(from))
                        .map(|from| ByteRange { from, len: piece.min(size - from) })
                        .collect();
                    Outstanding { ranges, parallel: state.nature.parallel }
                }
            })
        })
        .await
    }

    async fn upload_range(
        &self,
        session: &UploadSession,
        range: ByteRange,
        mut body: Body,
    ) -> Result<()> {
        if self.strikes("session expired", |o| o.session_expired) {
            self.lock().sessions.remove(&session.token);
        }
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => {
                    return fail(ErrorKind::Unavailable, format!("the source ended: {error}"));
                }
            }
        }
        self.lock().cost.bytes_up += bytes.len() as u64;
        let token = session.token.clone();
        let what = format!("upload_range {token} {}+{}", range.from, bytes.len());
        self.change(what, move |desk| {
            if bytes.len() as u64 != range.len {
                return fail(ErrorKind::Protocol, format!("{token}: {} bytes", bytes.len()));
            }
            match desk.state.sessions.get_mut(&token) {
                Some(session) => {
                    session.parts.insert(range.from, bytes.into());
                    Ok(())
                }
                None => fail(ErrorKind::NotFound, token),
            }
        })
        .await
    }

    async fn finish_upload(&self, session: &UploadSession) -> Result<Option<Entry>> {
        self.expect_looked(&session.request);
        let token = session.token.clone();
        let what = format!("finish_upload {token} {}", session.request.name);
        self.change(what, move |desk| {
            let (request, content) = desk.assemble(&token)?;
            let id = desk.put(&request, content)?;
            desk.state.sessions.remove(&token);
            desk.shown(id);
            desk.state.nature.tells_created.then(|| desk.entry(id)).transpose()
        })
        .await
    }

    async fn abort_upload(&self, session: &UploadSession) -> Result<()> {
        let token = session.token.clone();
        self.change(format!("abort_upload {token}"), move |desk| {
            desk.state.sessions.remove(&token);
            Ok(())
        })
        .await
    }

    /// The adapter for a directory takes over the stage of a process that is gone.
    async fn clear_stage(&self) -> Result<()> {
        let life = self.life;
        {
            let state = self.lock();
            if !state.nature.by_path || state.sessions.is_empty() {
                return Ok(());
            }
        }
        self.change("clear_stage".to_owned(), move |desk| {
            desk.state.sessions.retain(|_, session| session.life == life);
            Ok(())
        })
        .await
    }

    async fn download(&self, target: &Locator, expected: &Stamp, from: u64) -> Result<Download> {
        let (mut content, rev) = self
            .look("download", |state| {
                let id = state.expect(target, expected)?;
                let item = state.items.get(&id).filter(|i| i.kind == Kind::File);
                let Some(item) = item else { return fail(ErrorKind::NotFound, &target.path) };
                Ok((item.content.clone(), state.entry(id, item).rev))
            })
            .await?;
        if from > 0 && !self.declared.ranged_download {
            return fail(ErrorKind::Unsupported, "a download from the middle");
        }
        content = content.slice(content.len().min(usize::try_from(from).unwrap_or(usize::MAX))..);
        let cut = self.strikes("download cut", |o| o.download_cut);
        if cut {
            content.truncate(self.cloud.hub.below(content.len() + 1));
        }
        // Only a service with hashes lets us notice.
        if self.declared.content_hash.is_some()
            && !content.is_empty()
            && self.strikes("download wrong", |o| o.download_wrong)
        {
            let mut wrong = content.to_vec();
            wrong[0] ^= 1;
            content = wrong.into();
        }
        let piece = self.lock().nature.piece;
        let stream =
            futures_util::stream::unfold((self.clone(), content), move |(port, rest)| async move {
                if rest.is_empty() {
                    return None;
                }
                port.pause().await;
                let mut rest = rest;
                let next = rest.split_to(piece.min(rest.len()));
                port.lock().cost.bytes_down += next.len() as u64;
                Some((Ok(next), (port, rest)))
            });
        Ok(Download { bytes: stream.boxed(), rev: Some(rev) })
    }

    async fn relocate(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry> {
        let (target, expected) = (target.clone(), expected.clone());
        let (parent, name, moves) = (parent.clone(), name.clone(), self.declared.moves);
        let what = format!("relocate {} to {}/{name}", target.path, parent.path);
        self.change(what, move |desk| {
            let id = desk.state.expect(&target, &expected)?;
            let dir = desk.state.locate_dir(&parent)?;
            let Some(item) = desk.state.items.get(&id) else {
                return fail(ErrorKind::NotFound, &target.path);
            };
            let both = item.parent != dir && item.name != name;
            match moves {
                MoveSupport::None => return fail(ErrorKind::Unsupported, "a move"),
                MoveSupport::TwoStep if both => {
                    return fail(ErrorKind::Unsupported, "both at once");
                }
                MoveSupport::TwoStep | MoveSupport::Atomic => {}
            }
            if desk.state.child(dir, name.as_str()).is_some_and(|there| there != id) {
                return fail(ErrorKind::AlreadyExists, name);
            }
            if desk.state.is_within(dir, id) {
                return fail(ErrorKind::Forbidden, "a folder into itself");
            }
            let id = desk.state.relocate(id, dir, name);
            desk.shown(id);
            desk.entry(id)
        })
        .await
    }

    async fn delete(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        let (target, expected) = (target.clone(), expected.clone());
        self.change(format!("delete {}", target.path), move |desk| {
            let id = match desk.state.expect(&target, &expected) {
                Ok(id) => id,
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            if desk.state.items.values().any(|item| item.parent == id) {
                return fail(ErrorKind::Changed, format!("{}: not empty", target.path));
            }
            desk.discard(id);
            Ok(())
        })
        .await
    }
}
