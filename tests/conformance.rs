//! What every remote must do, tried on each of them and under every setting of what its document
//! leaves open.
//!
//! A trial takes a remote and its capabilities, and tries both ways: what is declared works, what
//! is not declared is refused. A provider is added by one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "a trial that cannot go on has failed")]
#![allow(clippy::cloned_ref_to_slice_refs, reason = "a trial is read more often than it is run")]

mod emulators;

use std::sync::Arc;

use bytes::Bytes;
use emulators::disktop::{
    Beyond, DiskTopCloud, Errors, Meeting, Order, Switches, Total, Window, client::Client,
};
use foldsync::clock::SystemClock;
use foldsync::local::Listing;
use foldsync::remote::dir::DirRemote;
use foldsync::remote::disktop::Measured;
use foldsync::remote::{
    ByteRange, Capabilities, ErrorKind, IdLife, Known, Locator, MoveSupport, Remote, RemoteError,
    Result, SameName, UploadRequest, UploadSession, UploadStart, UploadStyle,
};
use foldsync::tree::{Digest, Entry, Hasher, ItemId, Kind, Name, RelPath};
use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

// ---- the subjects ----------------------------------------------------------------------------

/// A remote under trial, and what a trial may do to the world around it.
struct Subject {
    remote: Box<dyn Remote>,
    /// Bytes of one range of an upload, where files are sent in several.
    range: u64,
    /// Entries of one page.
    page: usize,
    world: World,
}

enum World {
    Dir { _folder: TempDir },
    DiskTop { cloud: DiskTopCloud, client: Box<Client> },
}

impl Subject {
    async fn dir() -> Subject {
        let folder = TempDir::new().expect("a temporary folder");
        let remote = DirRemote::open(folder.path(), Arc::new(SystemClock)).expect("a folder");
        remote.claim("trial").await.expect("a writable folder");
        let remote = Box::new(remote);
        Subject { remote, range: 64 << 10, page: 200, world: World::Dir { _folder: folder } }
    }

    async fn disktop(switches: Switches, measured: Measured) -> Subject {
        let (range, page) = (switches.chunk_bytes, switches.page_max);
        let cloud = DiskTopCloud::start(switches).await;
        let client = cloud.client_knowing("Pair", measured);
        client.remote.create_root().await.expect("a root");
        let remote = Box::new(cloud.another_process(&client, "Pair").remote);
        Subject { remote, range, page, world: World::DiskTop { cloud, client: Box::new(client) } }
    }

    fn capabilities(&self) -> &Capabilities {
        self.remote.capabilities()
    }

    /// Every login and link that was given out so far ends.
    fn expire(&self) {
        match &self.world {
            World::Dir { .. } => {}
            World::DiskTop { cloud, .. } => cloud.expire_access(),
        }
    }

    /// The same account, by a process that remembers nothing.
    fn restarted(&self) -> Option<Box<dyn Remote>> {
        match &self.world {
            World::Dir { .. } => None,
            World::DiskTop { cloud, client } => {
                Some(Box::new(cloud.another_process(client, "Pair").remote))
            }
        }
    }

    // ---- the vocabulary of the trials ----------------------------------------------------------

    fn digest(&self, content: &[u8]) -> Digest {
        let hash = Hasher::of(self.capabilities().pair_hash(), content);
        Digest { size: content.len() as u64, hash }
    }

    fn request(&self, key: u64, parent: &Locator, name: &str, content: &[u8]) -> UploadRequest {
        UploadRequest {
            key,
            parent: parent.clone(),
            name: Name::new(name).expect("a name"),
            content: self.digest(content),
            modified: None,
            over: None,
        }
    }

    async fn put(&self, parent: &Locator, name: &str, content: &[u8]) -> Result<Entry> {
        let request = self.request(key_of(name), parent, name, content);
        self.send(&request, content).await
    }

    /// In place where that is possible; elsewhere the file is another one afterwards.
    async fn replace(&self, at: &Locator, old: &Entry, content: &[u8]) -> Result<Entry> {
        let (parent, name) = above(at);
        let mut request = self.request(key_of(&name) + 1, &parent, &name, content);
        if self.replaces() {
            request.over = Some((at.clone(), old.stamp()));
        } else {
            self.remote.delete(at, &old.stamp()).await?;
        }
        self.send(&request, content).await
    }

    fn replaces(&self) -> bool {
        self.capabilities().same_name == Known::Is(SameName::Replaces)
    }

    /// Uploads as the executor does, and finds the entry if the service does not tell it.
    async fn send(&self, request: &UploadRequest, content: &[u8]) -> Result<Entry> {
        let told = match self.remote.begin_upload(request).await? {
            UploadStart::Instant(entry) => entry,
            UploadStart::Session(session) => {
                self.send_ranges(&session, content).await?;
                self.remote.finish_upload(&session).await?
            }
        };
        match told {
            Some(entry) => Ok(entry),
            None => {
                let listing = self.list(&request.parent).await?;
                Ok(named(&listing, request.name.as_str()).expect("what was uploaded").clone())
            }
        }
    }

    async fn send_ranges(&self, session: &UploadSession, content: &[u8]) -> Result<u64> {
        let mut sent = 0;
        for range in self.remote.outstanding(session).await?.ranges {
            self.remote.upload_range(session, range, body(content, range)).await?;
            sent += range.len;
        }
        Ok(sent)
    }

    async fn list(&self, dir: &Locator) -> Result<Listing> {
        let mut all = Listing::default();
        let mut cursor = None;
        loop {
            let page = self.remote.list(dir, cursor).await?;
            all.entries.extend(page.listing.entries);
            all.skipped.extend(page.listing.skipped);
            if page.next.is_none() {
                all.entries.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(all);
            }
            cursor = page.next;
        }
    }

    async fn fetch(&self, at: &Locator, entry: &Entry, from: u64) -> Result<Vec<u8>> {
        let download = self.remote.download(at, &entry.stamp(), from).await?;
        let chunks: Vec<Bytes> = download.bytes.try_collect().await?;
        Ok(chunks.concat())
    }

    async fn folder(&self, parent: &Locator, name: &str) -> Locator {
        let entry = self.remote.create_dir(parent, &Name::new(name).expect("a name")).await;
        at(parent, &entry.expect("a folder"))
    }
}

fn key_of(name: &str) -> u64 {
    name.bytes().fold(7, |key: u64, byte| key.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn at(parent: &Locator, entry: &Entry) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        path: parent.path.join(&entry.name),
        parent_id: parent.id.clone(),
        kind: entry.kind,
    }
}

/// The folder of a locator, which trials keep in the root, and its name.
fn above(at: &Locator) -> (Locator, String) {
    let (parent, name) = at.path.split_last().expect("not the root");
    let parent =
        Locator { id: at.parent_id.clone(), path: parent, parent_id: None, kind: Kind::Dir };
    (parent, name.as_str().to_owned())
}

fn body(content: &[u8], range: ByteRange) -> foldsync::remote::Body {
    let from = usize::try_from(range.from).expect("a small file");
    let to = from + usize::try_from(range.len).expect("a small file");
    let chunks: Vec<std::io::Result<Bytes>> = content
        [from.min(content.len())..to.min(content.len())]
        .chunks(10_000)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    stream::iter(chunks).boxed()
}

fn named<'a>(listing: &'a Listing, name: &str) -> Option<&'a Entry> {
    listing.entries.iter().find(|entry| entry.name.as_str() == name)
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Bytes that differ from place to place, so that a part in the wrong place shows.
fn bytes(len: u64) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap_or(0))
        .collect()
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must be refused").kind
}

// ---- the trials ------------------------------------------------------------------------------

mod trials {
    use super::*;

    pub(super) async fn an_account_is_the_same_every_time(s: &Subject) {
        let key = s.remote.account().await.unwrap();
        assert!(!key.key.is_empty());
        assert_eq!(s.remote.account().await.unwrap(), key);
    }

    pub(super) async fn an_empty_root_is_listed_as_empty(s: &Subject) {
        let listing = s.list(&Locator::root()).await.unwrap();
        assert_eq!(listing, Listing::default());
    }

    pub(super) async fn a_folder_is_made_once_however_often_it_is_asked_for(s: &Subject) {
        let root = Locator::root();
        let first = s.remote.create_dir(&root, &name("d")).await.unwrap();
        let second = s.remote.create_dir(&root, &name("d")).await.unwrap();
        assert_eq!(first.item, second.item);
        assert_eq!(first.kind, Kind::Dir);
        assert_eq!(s.list(&root).await.unwrap().entries, [first]);
    }

    // UP-15, FK-07
    pub(super) async fn files_of_every_boundary_size_come_back_as_they_went(s: &Subject) {
        let root = Locator::root();
        let r = s.range;
        for size in [0, 1, r - 1, r, r + 1, 2 * r, 3 * r + 1] {
            let content = bytes(size);
            let file = format!("size-{size}");
            let entry = s.put(&root, &file, &content).await.unwrap();
            assert_eq!(entry.name.as_str(), file);
            assert_eq!(entry.size, size);
            let listing = s.list(&root).await.unwrap();
            assert_eq!(named(&listing, &file), Some(&entry), "{size}");
            assert!(s.fetch(&at(&root, &entry), &entry, 0).await.unwrap() == content, "{size}");
        }
    }

    pub(super) async fn a_declared_hash_is_the_hash_of_the_content(s: &Subject) {
        let entry = s.put(&Locator::root(), "a", b"abc").await.unwrap();
        let expected = s.capabilities().content_hash.map(|algo| Hasher::of(algo, b"abc"));
        assert_eq!(entry.hash, expected);
    }

    // NM-24, SE-25
    pub(super) async fn odd_names_arrive_as_they_are_or_are_refused(s: &Subject) {
        let root = Locator::root();
        let odd = [
            "with space",
            " leading",
            "trailing ",
            "dot.",
            ".hidden",
            "-n",
            "--",
            "~",
            "a+b",
            "a%2Fb",
            "a&b=c",
            "a#b?c",
            "q'\"`",
            "a|b",
            "a:b*<>",
            "50%",
            "(1)",
            "[x]{y}",
            "日本語.txt",
            "🦀👩‍👩‍👧.md",
            "é.txt",
            "e\u{301}.txt",
            "ﬁ",
            "\u{3000}",
            "a\u{200b}b",
            "a\u{202e}b",
            "𠮷",
            "C:",
            "nul",
            "a\\b",
            "a\nb",
            "tab\there",
        ];
        let long = ["x".repeat(128), "ü".repeat(64), "y".repeat(255)];
        for (n, text) in odd.iter().copied().chain(long.iter().map(String::as_str)).enumerate() {
            let content = format!("{n}");
            match s.put(&root, text, content.as_bytes()).await {
                Ok(entry) => {
                    let listing = s.list(&root).await.unwrap();
                    assert_eq!(named(&listing, entry.name.as_str()), Some(&entry), "{text:?}");
                    let got = s.fetch(&at(&root, &entry), &entry, 0).await.unwrap();
                    assert_eq!(got, content.as_bytes(), "{text:?}");
                }
                Err(error) => {
                    let refused = [ErrorKind::InvalidName, ErrorKind::AlreadyExists];
                    assert!(refused.contains(&error.kind), "{text:?}: {error}");
                }
            }
            let folder = format!("d{text}");
            match s.remote.create_dir(&root, &name(&folder)).await {
                Ok(entry) => {
                    let inside = s.put(&at(&root, &entry), "in", b"x").await.unwrap();
                    let listing = s.list(&at(&root, &entry)).await.unwrap();
                    assert_eq!(listing.entries, [inside], "{folder:?}");
                }
                Err(error) => assert_eq!(error.kind, ErrorKind::InvalidName, "{folder:?}: {error}"),
            }
        }
        // Whatever was not stored under its own name was refused.
        let listing = s.list(&root).await.unwrap();
        assert!(listing.skipped.is_empty(), "{:?}", listing.skipped);
    }

    // RM-01, RM-02, RM-19
    pub(super) async fn folders_of_every_boundary_length_are_listed_whole(s: &Subject) {
        let root = Locator::root();
        for count in [1, s.page - 1, s.page, s.page + 1, 2 * s.page + 3] {
            let dir = s.folder(&root, &format!("d{count}")).await;
            for n in 0..count {
                if n % 7 == 3 {
                    s.folder(&dir, &format!("sub{n:04}")).await;
                } else {
                    s.put(&dir, &format!("f{n:04}"), b"same").await.unwrap();
                }
            }
            let listing = s.list(&dir).await.unwrap();
            let mut seen: Vec<String> = names(&listing).iter().map(|n| (*n).to_owned()).collect();
            seen.dedup();
            assert_eq!(seen.len(), count);
            assert!(listing.skipped.is_empty());
        }
    }

    pub(super) async fn a_folder_that_is_not_there_is_not_found(s: &Subject) {
        let gone = s.folder(&Locator::root(), "gone").await;
        s.remote.delete(&gone, &folder_stamp(s, &gone).await).await.unwrap();
        match s.list(&gone).await {
            // Some services list what is not there as empty: then only its own look-up tells.
            Ok(listing) => assert_eq!(listing, Listing::default()),
            Err(error) => assert_eq!(error.kind, ErrorKind::NotFound),
        }
        assert_eq!(s.remote.stat(&gone).await.unwrap(), None);
    }

    async fn folder_stamp(s: &Subject, at: &Locator) -> foldsync::tree::Stamp {
        let (parent, name) = above(at);
        let listing = s.list(&parent).await.unwrap();
        named(&listing, &name).expect("the folder").stamp()
    }

    pub(super) async fn a_look_up_sees_what_a_listing_sees(s: &Subject) {
        let root = Locator::root();
        let dir = s.folder(&root, "d").await;
        let file = s.put(&dir, "a", b"abc").await.unwrap();
        let here = at(&dir, &file);
        if !s.capabilities().stat {
            assert_eq!(kind(s.remote.stat(&here).await), ErrorKind::Unsupported);
            return;
        }
        assert_eq!(s.remote.stat(&here).await.unwrap(), Some(file.clone()));
        let folder = s.remote.stat(&dir).await.unwrap().unwrap();
        assert_eq!(Some(folder.item), dir.id);
        s.remote.delete(&here, &file.stamp()).await.unwrap();
        assert_eq!(s.remote.stat(&here).await.unwrap(), None);
    }

    pub(super) async fn a_rename_and_a_move_keep_content_and_if_declared_the_id(s: &Subject) {
        let root = Locator::root();
        let file = s.put(&root, "a", b"abc").await.unwrap();
        let dir = s.folder(&root, "d").await;
        let moves = s.capabilities().moves;
        let renamed = s.remote.relocate(&at(&root, &file), &file.stamp(), &root, &name("b")).await;
        if moves == MoveSupport::None {
            assert_eq!(kind(renamed), ErrorKind::Unsupported);
            return;
        }
        let renamed = renamed.unwrap();
        let moved = s
            .remote
            .relocate(&at(&root, &renamed), &renamed.stamp(), &dir, &name("b"))
            .await
            .unwrap();
        assert_eq!(names(&s.list(&root).await.unwrap()), ["d"]);
        assert_eq!(s.list(&dir).await.unwrap().entries, [moved.clone()]);
        if s.capabilities().id_life == Known::Is(IdLife::SurvivesMove) {
            assert_eq!(moved.item, file.item);
        }
        assert_eq!(s.fetch(&at(&dir, &moved), &moved, 0).await.unwrap(), b"abc");
        // Where it already is.
        let again = s.remote.relocate(&at(&dir, &moved), &moved.stamp(), &dir, &name("b")).await;
        match again {
            Ok(entry) => assert_eq!(entry.item, moved.item),
            Err(error) => assert_eq!(error.kind, ErrorKind::AlreadyExists),
        }
    }

    // MV-28
    pub(super) async fn a_move_under_another_name_arrives_or_is_refused_whole(s: &Subject) {
        let root = Locator::root();
        let (d, e) = (s.folder(&root, "d").await, s.folder(&root, "e").await);
        // Both half-way names are taken.
        let file = s.put(&d, "a", b"moved").await.unwrap();
        let other = s.put(&e, "a", b"other").await.unwrap();
        let third = s.put(&d, "b", b"third").await.unwrap();
        let outcome = s.remote.relocate(&at(&d, &file), &file.stamp(), &e, &name("b")).await;
        match outcome {
            Ok(moved) => {
                assert_eq!(s.fetch(&at(&e, &moved), &moved, 0).await.unwrap(), b"moved");
                assert_eq!(names(&s.list(&e).await.unwrap()), ["a", "b"]);
                assert_eq!(names(&s.list(&d).await.unwrap()), ["b"]);
            }
            Err(error) => {
                assert_ne!(s.capabilities().moves, MoveSupport::Atomic);
                assert_eq!(error.kind, ErrorKind::Unsupported);
            }
        }
        assert_eq!(s.fetch(&at(&e, &other), &other, 0).await.unwrap(), b"other");
        assert_eq!(s.fetch(&at(&d, &third), &third, 0).await.unwrap(), b"third");
    }

    pub(super) async fn a_folder_moves_with_what_is_in_it(s: &Subject) {
        let root = Locator::root();
        let (d, e) = (s.folder(&root, "d").await, s.folder(&root, "e").await);
        s.put(&d, "a", b"abc").await.unwrap();
        let stamp = folder_stamp(s, &d).await;
        let moved = s.remote.relocate(&d, &stamp, &e, &name("d")).await;
        if s.capabilities().moves == MoveSupport::None {
            assert_eq!(kind(moved), ErrorKind::Unsupported);
            return;
        }
        let moved = moved.unwrap();
        assert_eq!(names(&s.list(&at(&e, &moved)).await.unwrap()), ["a"]);
        assert_eq!(names(&s.list(&root).await.unwrap()), ["e"]);
    }

    // MV-22
    pub(super) async fn a_move_never_replaces(s: &Subject) {
        let root = Locator::root();
        let a = s.put(&root, "a", b"one").await.unwrap();
        let b = s.put(&root, "b", b"two").await.unwrap();
        s.folder(&root, "d").await;
        for taken in ["b", "d"] {
            let refused = s.remote.relocate(&at(&root, &a), &a.stamp(), &root, &name(taken)).await;
            assert_eq!(kind(refused), ErrorKind::AlreadyExists, "{taken}");
        }
        assert_eq!(s.fetch(&at(&root, &a), &a, 0).await.unwrap(), b"one");
        assert_eq!(s.fetch(&at(&root, &b), &b, 0).await.unwrap(), b"two");
    }

    pub(super) async fn what_has_changed_is_neither_moved_nor_deleted(s: &Subject) {
        let root = Locator::root();
        let old = s.put(&root, "a", b"one").await.unwrap();
        let new = s.replace(&at(&root, &old), &old, b"other").await.unwrap();
        let here = Locator { id: Some(old.item.clone()), ..at(&root, &new) };
        let gone = [ErrorKind::Changed, ErrorKind::NotFound];
        let moved = s.remote.relocate(&here, &old.stamp(), &root, &name("b")).await;
        assert!(gone.contains(&kind(moved)));
        // An id that is gone has been deleted: that is success, and does nothing.
        if let Err(error) = s.remote.delete(&here, &old.stamp()).await {
            assert!(gone.contains(&error.kind), "{error}");
        }
        let listing = s.list(&root).await.unwrap();
        assert_eq!(listing.entries, [new.clone()]);
        assert_eq!(s.fetch(&at(&root, &new), &new, 0).await.unwrap(), b"other");
    }

    pub(super) async fn a_deletion_repeated_is_success(s: &Subject) {
        let root = Locator::root();
        let file = s.put(&root, "a", b"abc").await.unwrap();
        let dir = s.folder(&root, "d").await;
        let stamp = folder_stamp(s, &dir).await;
        for _ in 0..2 {
            s.remote.delete(&at(&root, &file), &file.stamp()).await.unwrap();
            s.remote.delete(&dir, &stamp).await.unwrap();
        }
        assert!(s.list(&root).await.unwrap().entries.is_empty());
    }

    // ED-06
    pub(super) async fn a_folder_with_something_in_it_is_not_deleted(s: &Subject) {
        let root = Locator::root();
        let dir = s.folder(&root, "d").await;
        let file = s.put(&dir, "a", b"abc").await.unwrap();
        let refused = s.remote.delete(&dir, &folder_stamp(s, &dir).await).await;
        assert_eq!(kind(refused), ErrorKind::Changed);
        assert_eq!(s.fetch(&at(&dir, &file), &file, 0).await.unwrap(), b"abc");
    }

    // DL-07
    pub(super) async fn a_download_gives_the_expected_version_or_nothing(s: &Subject) {
        let root = Locator::root();
        let content = bytes(3 * s.range);
        let file = s.put(&root, "a", &content).await.unwrap();
        let here = at(&root, &file);
        for from in [0, 1, s.range, 3 * s.range - 1, 3 * s.range] {
            let got = s.fetch(&here, &file, from).await;
            if from > 0 && !s.capabilities().ranged_download {
                assert_eq!(kind(got), ErrorKind::Unsupported);
                continue;
            }
            assert!(got.unwrap() == content[usize::try_from(from).unwrap()..], "{from}");
        }
        s.replace(&here, &file, b"another version").await.unwrap();
        let gone = [ErrorKind::Changed, ErrorKind::NotFound];
        assert!(gone.contains(&kind(s.fetch(&here, &file, 0).await)));
        if s.capabilities().ranged_download {
            assert!(gone.contains(&kind(s.fetch(&here, &file, s.range).await)));
        }
    }

    // EE-15: where no version can be replaced in place, the executor swaps names.
    pub(super) async fn a_new_version_takes_the_place_of_the_old_one(s: &Subject) {
        if !s.replaces() {
            return;
        }
        let root = Locator::root();
        let old = s.put(&root, "a.txt", b"old").await.unwrap();
        for (n, content) in [&b"new"[..], &b""[..], &bytes(2 * s.range + 1)].into_iter().enumerate()
        {
            let listing = s.list(&root).await.unwrap();
            let current = named(&listing, "a.txt").unwrap().clone();
            let entry = s.replace(&at(&root, &current), &current, content).await.unwrap();
            assert_eq!(entry.name.as_str(), "a.txt", "{n}");
            let listing = s.list(&root).await.unwrap();
            assert_eq!(listing.entries, [entry.clone()], "{n}");
            assert!(listing.skipped.is_empty());
            assert!(s.fetch(&at(&root, &entry), &entry, 0).await.unwrap() == content, "{n}");
        }
        assert!(old.size == 3);
    }

    // EE-05: a service that cannot check by itself has the executor look.
    pub(super) async fn a_version_that_changed_meanwhile_is_not_replaced(s: &Subject) {
        if let World::DiskTop { .. } = s.world {
            return;
        }
        let root = Locator::root();
        let first = s.put(&root, "a", b"first").await.unwrap();
        let here = at(&root, &first);
        let second = s.replace(&here, &first, b"second").await.unwrap();
        let stale = Locator { id: Some(first.item.clone()), ..here };
        let mut request = s.request(99, &root, "a", b"third");
        request.over = Some((stale, first.stamp()));
        let refused = s.send(&request, b"third").await;
        assert!([ErrorKind::Changed, ErrorKind::NotFound].contains(&kind(refused)));
        let listing = s.list(&root).await.unwrap();
        assert_eq!(listing.entries, [second.clone()]);
        assert_eq!(s.fetch(&at(&root, &second), &second, 0).await.unwrap(), b"second");
    }

    // EE-03
    pub(super) async fn a_new_file_destroys_nothing_that_has_its_name(s: &Subject) {
        let root = Locator::root();
        let old = s.put(&root, "a", b"theirs").await.unwrap();
        s.folder(&root, "d").await;
        for taken in ["a", "d"] {
            match s.put(&root, taken, b"ours").await {
                Ok(entry) => assert_ne!(entry.item, old.item),
                Err(error) => assert_eq!(error.kind, ErrorKind::AlreadyExists, "{error}"),
            }
        }
        assert_eq!(s.fetch(&at(&root, &old), &old, 0).await.unwrap(), b"theirs");
        assert!(named(&s.list(&root).await.unwrap(), "d").is_some_and(|d| d.kind == Kind::Dir));
    }

    // UP-11
    pub(super) async fn known_content_is_instant_where_that_is_declared(s: &Subject) {
        let root = Locator::root();
        let content = bytes(s.range + 5);
        s.put(&root, "a", &content).await.unwrap();
        let start = s.remote.begin_upload(&s.request(8, &root, "b", &content)).await.unwrap();
        match (start, s.capabilities().instant_upload) {
            (UploadStart::Instant(Some(entry)), Some(_)) => {
                assert_eq!(entry.content().digest(), Some(s.digest(&content)));
                assert_eq!(names(&s.list(&root).await.unwrap()), ["a", "b"]);
            }
            (UploadStart::Instant(None), Some(_)) => {}
            (UploadStart::Session(session), _) => s.remote.abort_upload(&session).await.unwrap(),
            (UploadStart::Instant(_), None) => panic!("instant, though nothing was declared"),
        }
    }

    // UP-01
    pub(super) async fn an_upload_goes_on_where_it_stopped(s: &Subject) {
        let UploadStyle::Ranges { resume: true } = s.capabilities().upload else { return };
        let root = Locator::root();
        let content = bytes(4 * s.range + 1);
        let request = s.request(9, &root, "a", &content);
        let UploadStart::Session(session) = s.remote.begin_upload(&request).await.unwrap() else {
            panic!("nobody has these bytes yet");
        };
        let all = s.remote.outstanding(&session).await.unwrap();
        assert_eq!(all.ranges.iter().map(|range| range.len).sum::<u64>(), content.len() as u64);
        let sent: Vec<ByteRange> = match all.parallel {
            true => vec![all.ranges[3], all.ranges[0]],
            false => vec![all.ranges[0]],
        };
        for range in &sent {
            s.remote.upload_range(&session, *range, body(&content, *range)).await.unwrap();
        }
        let Some(later) = s.restarted() else { return };
        let left = later.outstanding(&session).await.unwrap().ranges;
        assert_eq!(left.len() + sent.len(), all.ranges.len());
        for range in left {
            assert!(!sent.contains(&range));
            later.upload_range(&session, range, body(&content, range)).await.unwrap();
        }
        let entry = later.finish_upload(&session).await.unwrap().unwrap();
        assert!(s.fetch(&at(&root, &entry), &entry, 0).await.unwrap() == content);
    }

    // UP-04
    pub(super) async fn an_unfinished_upload_shows_nothing(s: &Subject) {
        let root = Locator::root();
        let content = bytes(2 * s.range);
        let request = s.request(10, &root, "a", &content);
        let UploadStart::Session(session) = s.remote.begin_upload(&request).await.unwrap() else {
            panic!("nobody has these bytes yet");
        };
        let first = s.remote.outstanding(&session).await.unwrap().ranges[0];
        let half = ByteRange { len: first.len.min(s.range), ..first };
        if half == first {
            s.remote.upload_range(&session, half, body(&content, half)).await.unwrap();
        }
        assert!(s.remote.finish_upload(&session).await.is_err());
        assert!(s.list(&root).await.unwrap().entries.is_empty());
        for _ in 0..2 {
            s.remote.abort_upload(&session).await.unwrap();
        }
        assert!(s.remote.finish_upload(&session).await.is_err());
        assert!(s.list(&root).await.unwrap().entries.is_empty());
    }

    // UP-25
    pub(super) async fn a_source_that_ends_early_makes_no_file(s: &Subject) {
        let root = Locator::root();
        let content = bytes(s.range);
        let request = s.request(11, &root, "a", &content);
        let UploadStart::Session(session) = s.remote.begin_upload(&request).await.unwrap() else {
            panic!("nobody has these bytes yet");
        };
        let range = s.remote.outstanding(&session).await.unwrap().ranges[0];
        let short = stream::iter([Ok(Bytes::copy_from_slice(&content[..10]))]).boxed();
        assert_eq!(kind(s.remote.upload_range(&session, range, short).await), ErrorKind::Corrupt);
        assert!(s.remote.finish_upload(&session).await.is_err());
        assert!(s.list(&root).await.unwrap().entries.is_empty());
    }

    pub(super) async fn clearing_an_empty_stage_is_success(s: &Subject) {
        s.remote.clear_stage().await.unwrap();
        let file = s.put(&Locator::root(), "a", b"abc").await.unwrap();
        s.remote.clear_stage().await.unwrap();
        assert_eq!(s.list(&Locator::root()).await.unwrap().entries, [file]);
    }

    // AU-01, AU-02
    pub(super) async fn an_ended_token_is_renewed_without_anybody_noticing(s: &Subject) {
        let root = Locator::root();
        let content = bytes(2 * s.range);
        s.expire();
        let file = s.put(&root, "a", &content).await.unwrap();
        s.expire();
        let dir = s.folder(&root, "d").await;
        s.expire();
        assert_eq!(names(&s.list(&root).await.unwrap()), ["a", "d"]);
        s.expire();
        assert!(s.fetch(&at(&root, &file), &file, 0).await.unwrap() == content);
        s.expire();
        let moved = s.remote.relocate(&at(&root, &file), &file.stamp(), &dir, &name("a")).await;
        let moved = moved.unwrap();
        s.expire();
        s.remote.delete(&at(&dir, &moved), &moved.stamp()).await.unwrap();
        s.expire();
        assert!(s.list(&dir).await.unwrap().entries.is_empty());
    }

    pub(super) async fn the_quota_is_told_or_is_not_supported(s: &Subject) {
        match s.remote.quota().await {
            Ok(quota) => assert!(quota.total.is_none_or(|total| total > 0)),
            Err(RemoteError { kind, .. }) => assert_eq!(kind, ErrorKind::Unsupported),
        }
    }

    pub(super) async fn ids_of_another_service_are_not_found(s: &Subject) {
        let strange = ItemId::Key("no-such-thing".into());
        let here = Locator {
            id: Some(strange.clone()),
            path: RelPath::new("strange").unwrap(),
            parent_id: None,
            kind: Kind::File,
        };
        let rev = foldsync::tree::Rev::Tag { tag: "x".into(), modified_s: 0 };
        let stamp = foldsync::tree::Stamp { item: strange, rev, size: 1 };
        assert!(s.remote.download(&here, &stamp, 0).await.is_err());
        assert!(s.list(&Locator::root()).await.unwrap().entries.is_empty());
    }
}

// ---- every remote, every trial -----------------------------------------------------------------

macro_rules! conforms {
    ($setting:ident, $subject:expr) => {
        conforms!(@each $setting, $subject;
            an_account_is_the_same_every_time
            an_empty_root_is_listed_as_empty
            a_folder_is_made_once_however_often_it_is_asked_for
            files_of_every_boundary_size_come_back_as_they_went
            a_declared_hash_is_the_hash_of_the_content
            odd_names_arrive_as_they_are_or_are_refused
            folders_of_every_boundary_length_are_listed_whole
            a_folder_that_is_not_there_is_not_found
            a_look_up_sees_what_a_listing_sees
            a_rename_and_a_move_keep_content_and_if_declared_the_id
            a_move_under_another_name_arrives_or_is_refused_whole
            a_folder_moves_with_what_is_in_it
            a_move_never_replaces
            what_has_changed_is_neither_moved_nor_deleted
            a_deletion_repeated_is_success
            a_folder_with_something_in_it_is_not_deleted
            a_download_gives_the_expected_version_or_nothing
            a_new_version_takes_the_place_of_the_old_one
            a_version_that_changed_meanwhile_is_not_replaced
            a_new_file_destroys_nothing_that_has_its_name
            known_content_is_instant_where_that_is_declared
            an_upload_goes_on_where_it_stopped
            an_unfinished_upload_shows_nothing
            a_source_that_ends_early_makes_no_file
            clearing_an_empty_stage_is_success
            an_ended_token_is_renewed_without_anybody_noticing
            the_quota_is_told_or_is_not_supported
            ids_of_another_service_are_not_found
        );
    };
    (@each $setting:ident, $subject:expr; $($trial:ident)*) => {
        mod $setting {
            use super::*;
            $(
                #[tokio::test]
                async fn $trial() {
                    trials::$trial(&$subject.await).await;
                }
            )*
        }
    };
}

/// Disk.Top with one answer to the questions that its document leaves open.
fn top(change: impl FnOnce(&mut Switches)) -> impl Future<Output = Subject> {
    let mut switches = Switches { page_max: 20, ..Switches::default() };
    change(&mut switches);
    Subject::disktop(switches, Measured::NOTHING)
}

conforms!(dir, Subject::dir());
conforms!(disktop, top(|_| ()));
conforms!(disktop_full_pages, top(|s| s.page_max = 200));
conforms!(disktop_replaces, top(|s| s.same_name_upload = Meeting::Replaces));
conforms!(
    disktop_replaces_with_new_ids,
    top(|s| {
        s.same_name_upload = Meeting::Replaces;
        s.replacing_keeps_id = false;
    })
);
conforms!(disktop_renames, top(|s| s.same_name_upload = Meeting::Renames));
conforms!(disktop_rejects, top(|s| s.same_name_upload = Meeting::Rejects));
conforms!(disktop_folders_anew, top(|s| s.same_name_mkdir = Meeting::Duplicates));
conforms!(disktop_folders_reused, top(|s| s.same_name_mkdir = Meeting::Replaces));
conforms!(disktop_folders_renamed, top(|s| s.same_name_mkdir = Meeting::Renames));
conforms!(disktop_moves_replace, top(|s| s.same_name_move = Meeting::Replaces));
conforms!(disktop_moves_duplicate, top(|s| s.same_name_move = Meeting::Duplicates));
conforms!(disktop_moves_renumber, top(|s| s.moving_changes_id = true));
conforms!(disktop_folds_case, top(|s| s.folds_case = true));
conforms!(disktop_stores_nfc, top(|s| s.stores_nfc = true));
conforms!(disktop_short_names, top(|s| s.name_bytes_max = 128));
conforms!(disktop_errors_in_200, top(|s| s.errors = Errors::Number));
conforms!(disktop_errors_as_words, top(|s| s.errors = Errors::Word));
conforms!(disktop_numbers_as_strings, top(|s| s.numbers_are_strings = true));
conforms!(disktop_folders_on_every_page, top(|s| s.window = Window::FilesWithAllFolders));
conforms!(disktop_folders_on_the_first_page, top(|s| s.window = Window::FilesWithFoldersFirst));
conforms!(disktop_recent_first, top(|s| s.order = Order::RecentFirst));
conforms!(disktop_repeats_pages, top(|s| s.beyond = Beyond::FirstPageAgain));
conforms!(disktop_counts_files, top(|s| s.total = Total::Files));
conforms!(
    disktop_counts_files_of_pages,
    top(|s| {
        s.total = Total::Files;
        s.window = Window::FilesWithAllFolders;
    })
);
conforms!(disktop_counts_too_many, top(|s| s.total = Total::Off(2)));
conforms!(disktop_counts_too_few, top(|s| s.total = Total::Off(-1)));
conforms!(disktop_missing_is_empty, top(|s| s.missing_folder_is_empty = true));
conforms!(disktop_not_instant, top(|s| s.instant = false));
conforms!(disktop_empty_part, top(|s| s.empty_file_parts = 1));
conforms!(
    disktop_says_little,
    top(|s| {
        s.part_reply_is_short = true;
        s.tells_path = false;
        s.tells_affected = false;
    })
);
conforms!(disktop_keeps_deleted, top(|s| s.bin_answers = true));
conforms!(
    disktop_known_to_send_whole_files,
    Subject::disktop(
        Switches { ignores_range: true, page_max: 20, ..Switches::default() },
        Measured { ranged_download: Known::Is(false), ..Measured::NOTHING },
    )
);
conforms!(
    disktop_known_to_replace,
    Subject::disktop(
        Switches { same_name_upload: Meeting::Replaces, page_max: 20, ..Switches::default() },
        Measured {
            same_name: Known::Is(SameName::Replaces),
            id_life: Known::Is(IdLife::SurvivesMove),
            ..Measured::NOTHING
        },
    )
);
