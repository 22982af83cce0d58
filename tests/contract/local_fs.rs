//! What every `LocalFs` keeps to, whether it is a real disk or a simulated one.
//!
//! Each function is one sentence of the contract, tried through the trait and through a user's own
//! actions on the same disk. `local_fs_contract!` makes a test of each.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use foldsync::local::{
    FileReader, FsError, FsErrorKind, Installed, Leftover, LocalFs, SkipReason, StageKey,
};
use foldsync::tree::{Entry, HashAlgo, Hasher, Kind, Name, RelPath, Rev, Stamp};

/// A user of the disk, and what a test may look at without the trait.
pub(crate) trait Disk: Send + Sync {
    /// Writes a file in place, or a new one. Its times move on, however fast the calls follow.
    fn write(&self, path: &str, content: &[u8]);
    /// Writes in place and sets the modification time back to what it was.
    fn write_secretly(&self, path: &str, content: &[u8]);
    fn mkdir(&self, path: &str);
    fn rename(&self, from: &str, to: &str);
    /// Removes a file or an empty folder.
    fn remove(&self, path: &str);
    /// The content of a file; `None` if there is none.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// Every version in the trash: the path that it had, and its content.
    fn trash(&self) -> Vec<(String, Vec<u8>)>;
    /// Leaves in the stage what a kill between an exchange and its end leaves.
    fn displace(&self, key: StageKey, content: &[u8]);
    /// The same root as another process finds it after this one was killed.
    fn reopen(&self) -> Box<dyn LocalFs>;
}

/// Makes a test of every sentence; the expression yields `(impl LocalFs, impl Disk)`.
#[macro_export]
macro_rules! local_fs_contract {
    ($bench:expr) => {
        $crate::local_fs_contract! { $bench;
            a_root_has_no_identity_until_it_is_claimed,
            a_claim_outlives_the_process,
            a_listing_is_everything_in_a_folder_sorted,
            a_listing_never_shows_the_control_folder,
            a_listing_hands_over_the_ignore_file,
            a_folder_that_is_not_there_is_an_error_and_not_empty,
            a_name_that_the_control_folder_has_is_refused,
            nothing_is_found_only_where_nothing_is,
            an_entry_of_a_listing_is_what_stat_says,
            the_item_of_a_file_survives_renames_and_edits,
            a_rev_changes_with_every_edit,
            a_folder_has_the_same_rev_whatever_happens_in_it,
            a_file_is_read_from_start_to_end,
            an_empty_file_is_read_as_empty,
            a_file_that_is_not_the_expected_version_does_not_open,
            verifying_notices_an_edit_a_removal_and_a_replacement,
            a_file_that_grows_or_shrinks_while_it_is_read_is_not_passed_on,
            a_hash_is_of_the_whole_content,
            a_hash_of_another_version_is_refused,
            a_staged_file_is_invisible_until_it_is_installed,
            an_installed_file_has_its_content_and_time,
            a_file_is_installed_only_where_nothing_is,
            a_file_is_installed_only_in_a_folder_that_is_there,
            a_replaced_version_is_in_the_trash,
            a_version_that_is_not_the_expected_one_is_never_replaced,
            a_second_staging_under_one_key_starts_anew,
            many_files_are_installed_at_once,
            discarding_removes_what_was_staged,
            discarding_nothing_is_success,
            a_killed_run_leaves_what_it_staged,
            a_displaced_file_is_told_from_a_staged_one_and_is_not_discarded,
            a_displaced_file_is_restored_to_a_free_name_only,
            a_folder_is_created_once,
            a_folder_is_not_created_over_a_file,
            a_rename_moves_a_file_and_keeps_its_item,
            a_rename_moves_a_folder_with_what_is_in_it,
            a_rename_never_replaces,
            a_rename_of_another_version_is_refused,
            a_trashed_file_is_gone_from_the_tree_and_in_the_trash,
            every_version_of_a_path_stays_in_the_trash,
            trashing_another_version_is_refused,
            trashing_nothing_is_success,
            only_an_empty_folder_is_removed,
            removing_no_folder_is_success,
            a_file_is_not_removed_as_a_folder,
            names_that_are_odd_but_valid_work,
            a_name_of_the_full_length_works_all_the_way,
        }
    };
    ($bench:expr; $($sentence:ident,)*) => {
        $(
            #[tokio::test]
            async fn $sentence() {
                let (fs, disk) = $bench;
                $crate::contract::local_fs::$sentence(&fs, &disk).await;
            }
        )*
    };
}

// ---- vocabulary --------------------------------------------------------------------------------

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

/// What went wrong; panics if nothing did.
pub(crate) fn kind<T>(outcome: Result<T, FsError>) -> FsErrorKind {
    match outcome {
        Ok(_) => panic!("succeeded"),
        Err(e) => e.kind,
    }
}

pub(crate) async fn entry(fs: &dyn LocalFs, at: &str) -> Entry {
    fs.stat(&path(at)).await.unwrap().unwrap_or_else(|| panic!("{at} is not there"))
}

pub(crate) async fn stamp(fs: &dyn LocalFs, at: &str) -> Stamp {
    entry(fs, at).await.stamp()
}

pub(crate) async fn names(fs: &dyn LocalFs, dir: &str) -> Vec<String> {
    let listing = fs.list(&path(dir)).await.unwrap();
    listing.entries.iter().map(|e| e.name.as_str().to_owned()).collect()
}

pub(crate) async fn read_all(reader: &mut dyn FileReader) -> Result<Vec<u8>, FsError> {
    let mut content = Vec::new();
    loop {
        let chunk = reader.read(1000).await?;
        assert!(chunk.len() <= 1000);
        if chunk.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&chunk);
    }
}

pub(crate) async fn seal(fs: &dyn LocalFs, key: u64, content: &[u8]) -> foldsync::local::Sealed {
    let mut writer = fs.stage(StageKey(key)).await.unwrap();
    for chunk in content.chunks(100_000) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.seal(Some(1_234_567_890_123_456_789)).await.unwrap()
}

/// Stages and installs in one go; `aside` is `aside`.
pub(crate) async fn put(
    fs: &dyn LocalFs,
    key: u64,
    at: &str,
    content: &[u8],
    over: Option<&Stamp>,
) -> Result<Installed, FsError> {
    let sealed = seal(fs, key, content).await;
    fs.install(sealed, &path(at), over, &path("aside")).await
}

fn clean(outcome: Result<Installed, FsError>) -> Entry {
    match outcome.unwrap() {
        Installed::Clean(entry) => entry,
        Installed::DisplacedEdit { kept_as, .. } => panic!("something was kept as {kept_as}"),
    }
}

async fn leftovers(fs: &dyn LocalFs) -> Vec<(u64, bool)> {
    let of = |l: &Leftover| (l.key.0, l.displaced);
    fs.leftovers().await.unwrap().iter().map(of).collect()
}

/// Content that differs everywhere, of any length.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

// ---- identity ----------------------------------------------------------------------------------

pub(crate) async fn a_root_has_no_identity_until_it_is_claimed(fs: &dyn LocalFs, _: &dyn Disk) {
    assert_eq!(fs.identity().await.unwrap(), None);
    fs.claim("pair-1").await.unwrap();
    assert_eq!(fs.identity().await.unwrap().as_deref(), Some("pair-1"));
    fs.claim("pair-2").await.unwrap();
    assert_eq!(fs.identity().await.unwrap().as_deref(), Some("pair-2"));
}

pub(crate) async fn a_claim_outlives_the_process(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair-1").await.unwrap();
    assert_eq!(disk.reopen().identity().await.unwrap().as_deref(), Some("pair-1"));
}

// ---- listing and looking -----------------------------------------------------------------------

pub(crate) async fn a_listing_is_everything_in_a_folder_sorted(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    for name in ["d/b", "d/a", "d/B", "d/é", "d/a b", "d/aa"] {
        disk.write(name, name.as_bytes());
    }
    disk.mkdir("d/c");
    let listing = fs.list(&path("d")).await.unwrap();
    let found: Vec<_> =
        listing.entries.iter().map(|e| (e.name.as_str(), e.kind, e.size, e.hash)).collect();
    let file = |name, size| (name, Kind::File, size, None);
    let expected = [
        file("B", 3),
        file("a", 3),
        file("a b", 5),
        file("aa", 4),
        file("b", 3),
        ("c", Kind::Dir, 0, None),
        file("é", 4),
    ];
    assert_eq!(found, expected);
    assert_eq!(listing.skipped, []);
    assert_eq!(listing.ignore_file, None);
    assert_eq!(names(fs, "").await, ["d"]);
    assert_eq!(names(fs, "d/c").await, [""; 0]);
}

pub(crate) async fn a_listing_never_shows_the_control_folder(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair-1").await.unwrap();
    disk.mkdir("d");
    disk.mkdir("d/.foldsync");
    let listing = fs.list(&RelPath::root()).await.unwrap();
    assert_eq!((listing.entries.len(), listing.skipped.len()), (1, 0));
    // Only the root has a control folder.
    assert_eq!(names(fs, "d").await, [".foldsync"]);
}

pub(crate) async fn a_listing_hands_over_the_ignore_file(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    disk.write("d/.foldsyncignore", b"*.tmp\n");
    let listing = fs.list(&path("d")).await.unwrap();
    assert_eq!(listing.ignore_file.as_deref(), Some("*.tmp\n"));
    assert_eq!(listing.entries.len(), 1, "it is an ordinary file too");
    assert_eq!(fs.list(&RelPath::root()).await.unwrap().ignore_file, None);
}

pub(crate) async fn a_folder_that_is_not_there_is_an_error_and_not_empty(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    disk.write("f", b"1");
    for missing in ["d", "d/e", "f", "f/g"] {
        assert_eq!(kind(fs.list(&path(missing)).await), FsErrorKind::NotFound, "{missing}");
    }
}

pub(crate) async fn a_name_that_the_control_folder_has_is_refused(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair-1").await.unwrap();
    disk.write("f", b"1");
    let f = stamp(fs, "f").await;
    for own in [".foldsync", ".foldsync/root-id", ".foldsync/trash/x"] {
        let own = path(own);
        assert_eq!(kind(fs.list(&own).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.stat(&own).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.open(&own, &f, 0).await.map(drop)), FsErrorKind::BadName);
        assert_eq!(kind(fs.create_dir(&own).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.rename(&path("f"), &own, &f).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.rename(&own, &path("g"), &f).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.trash(&own, &f).await), FsErrorKind::BadName);
        assert_eq!(kind(fs.remove_dir(&own).await), FsErrorKind::BadName);
        assert_eq!(
            kind(put(fs, 1, own.as_str(), b"x", None).await.map(drop)),
            FsErrorKind::BadName
        );
    }
}

pub(crate) async fn nothing_is_found_only_where_nothing_is(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    for missing in ["g", "d/f", "f/g"] {
        assert_eq!(fs.stat(&path(missing)).await.unwrap(), None, "{missing}");
    }
    assert_eq!(entry(fs, "f").await.size, 1);
}

pub(crate) async fn an_entry_of_a_listing_is_what_stat_says(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    disk.write("d/f", b"12345");
    disk.mkdir("d/e");
    for listed in fs.list(&path("d")).await.unwrap().entries {
        let found = entry(fs, &format!("d/{}", listed.name)).await;
        assert_eq!(found, listed);
    }
}

pub(crate) async fn the_item_of_a_file_survives_renames_and_edits(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    disk.mkdir("d");
    disk.write("f", b"1");
    disk.write("other", b"1");
    let before = stamp(fs, "f").await;
    disk.rename("f", "d/g");
    let moved = stamp(fs, "d/g").await;
    assert!(before.is_renamed(&moved));
    disk.write("d/g", b"22");
    let edited = stamp(fs, "d/g").await;
    assert_eq!(edited.item, before.item);
    assert!(!before.is_renamed(&edited));
    assert_ne!(stamp(fs, "other").await.item, before.item);
}

// FK-18
pub(crate) async fn a_rev_changes_with_every_edit(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"AAAA");
    let first = stamp(fs, "f").await;
    disk.write("f", b"BBBB");
    let second = stamp(fs, "f").await;
    disk.write_secretly("f", b"CCCC");
    let third = stamp(fs, "f").await;
    assert_eq!(second.rev.modified_ns(), third.rev.modified_ns());
    assert!(first.rev != second.rev && second.rev != third.rev);
    assert_eq!(kind(fs.hash(&path("f"), &second, HashAlgo::Md5).await), FsErrorKind::Changed);
}

pub(crate) async fn a_folder_has_the_same_rev_whatever_happens_in_it(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    disk.mkdir("d");
    let before = entry(fs, "d").await;
    disk.write("d/f", b"1");
    disk.mkdir("d/e");
    assert_eq!(before.rev, Rev::FOLDER);
    assert_eq!(entry(fs, "d").await, before);
}

// ---- reading -----------------------------------------------------------------------------------

pub(crate) async fn a_file_is_read_from_start_to_end(fs: &dyn LocalFs, disk: &dyn Disk) {
    for (name, length) in [("a", 1), ("b", 262_143), ("c", 262_144), ("d", 262_145), ("e", 700_001)]
    {
        disk.write(name, &pattern(length));
        let expected = stamp(fs, name).await;
        let mut reader = fs.open(&path(name), &expected, 0).await.unwrap();
        assert_eq!(read_all(&mut *reader).await.unwrap(), pattern(length), "{length} bytes");
        assert!(reader.read(10).await.unwrap().is_empty(), "the end stays the end");
        reader.verify().await.unwrap();
    }
}

// FK-07
pub(crate) async fn an_empty_file_is_read_as_empty(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("z", b"");
    let expected = stamp(fs, "z").await;
    let mut reader = fs.open(&path("z"), &expected, 0).await.unwrap();
    assert!(reader.read(10).await.unwrap().is_empty());
    reader.verify().await.unwrap();
    let hash = fs.hash(&path("z"), &expected, HashAlgo::Sha1).await.unwrap();
    assert_eq!(hash, Hasher::of(HashAlgo::Sha1, b""));
    clean(put(fs_claimed(fs).await, 1, "y", b"", None).await);
    assert_eq!(disk.read("y").unwrap(), b"");
}

async fn fs_claimed(fs: &dyn LocalFs) -> &dyn LocalFs {
    fs.claim("pair").await.unwrap();
    fs
}

pub(crate) async fn a_file_that_is_not_the_expected_version_does_not_open(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    disk.write("f", b"1");
    let old = stamp(fs, "f").await;
    disk.write("f", b"2");
    assert_eq!(kind(fs.open(&path("f"), &old, 0).await.map(drop)), FsErrorKind::Changed);
    disk.remove("f");
    assert_eq!(kind(fs.open(&path("f"), &old, 0).await.map(drop)), FsErrorKind::NotFound);
    disk.mkdir("f");
    assert_eq!(kind(fs.open(&path("f"), &old, 0).await.map(drop)), FsErrorKind::Changed);
}

// FK-13
pub(crate) async fn verifying_notices_an_edit_a_removal_and_a_replacement(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    let actions: [&dyn Fn(); 5] = [
        &|| disk.write("f", b"new"),
        &|| disk.write_secretly("f", b"new"),
        &|| disk.remove("f"),
        &|| disk.rename("f", "g"),
        &|| {
            disk.write("other", b"one");
            disk.rename("other", "f");
        },
    ];
    for (number, action) in actions.iter().enumerate() {
        disk.write("f", b"one");
        let expected = stamp(fs, "f").await;
        let mut reader = fs.open(&path("f"), &expected, 0).await.unwrap();
        assert_eq!(read_all(&mut *reader).await.unwrap(), b"one");
        reader.verify().await.unwrap();
        action();
        assert_eq!(kind(reader.verify().await), FsErrorKind::Changed, "action {number}");
    }
}

// FK-13
pub(crate) async fn a_file_that_grows_or_shrinks_while_it_is_read_is_not_passed_on(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    for new_length in [2_000_000, 300_000, 0] {
        disk.write("f", &pattern(1_000_000));
        let expected = stamp(fs, "f").await;
        let mut reader = fs.open(&path("f"), &expected, 0).await.unwrap();
        reader.read(1000).await.unwrap();
        disk.write("f", &pattern(new_length));
        let outcome = match read_all(&mut *reader).await {
            Ok(_) => reader.verify().await,
            Err(e) => Err(e),
        };
        assert_eq!(kind(outcome), FsErrorKind::Changed, "{new_length} bytes");
    }
}

pub(crate) async fn a_hash_is_of_the_whole_content(fs: &dyn LocalFs, disk: &dyn Disk) {
    for length in [1, 262_143, 262_144, 262_145, 1_000_000] {
        disk.write("f", &pattern(length));
        let expected = stamp(fs, "f").await;
        for algo in [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256] {
            let hash = fs.hash(&path("f"), &expected, algo).await.unwrap();
            assert_eq!(hash, Hasher::of(algo, &pattern(length)), "{length} bytes");
        }
    }
}

pub(crate) async fn a_hash_of_another_version_is_refused(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    let old = stamp(fs, "f").await;
    disk.write("f", b"22");
    assert_eq!(kind(fs.hash(&path("f"), &old, HashAlgo::Md5).await), FsErrorKind::Changed);
    disk.remove("f");
    assert_eq!(kind(fs.hash(&path("f"), &old, HashAlgo::Md5).await), FsErrorKind::NotFound);
}

// ---- staging and installing --------------------------------------------------------------------

pub(crate) async fn a_staged_file_is_invisible_until_it_is_installed(
    fs: &dyn LocalFs,
    _: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    let mut writer = fs.stage(StageKey(7)).await.unwrap();
    for _ in 0..20 {
        writer.write(Bytes::from(pattern(100_000))).await.unwrap();
    }
    assert_eq!(names(fs, "").await, [""; 0]);
    let sealed = writer.seal(None).await.unwrap();
    assert_eq!(names(fs, "").await, [""; 0]);
    assert_eq!((sealed.key, sealed.stamp.size), (StageKey(7), 2_000_000));
    clean(fs.install(sealed, &path("f"), None, &path("aside")).await);
    assert_eq!(names(fs, "").await, ["f"]);
}

pub(crate) async fn an_installed_file_has_its_content_and_time(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    for (key, length) in [(1, 0), (2, 1), (3, 99_999), (4, 524_288), (5, 1_300_001)] {
        let name = format!("f{key}");
        let sealed = seal(fs, key, &pattern(length)).await;
        let before = sealed.stamp.clone();
        let installed = clean(fs.install(sealed, &path(&name), None, &path("aside")).await);
        assert_eq!(disk.read(&name).unwrap(), pattern(length));
        assert!(before.is_renamed(&installed.stamp()));
        // The outcome is what the next listing shows, or our own change would look like a user's.
        assert_eq!(installed, entry(fs, &name).await);
        assert_eq!(installed.rev.modified_ns(), Some(1_234_567_890_123_456_789));
    }
    assert_eq!(leftovers(fs).await, []);
}

pub(crate) async fn a_file_is_installed_only_where_nothing_is(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    disk.write("f", b"user");
    disk.mkdir("d");
    for taken in ["f", "d"] {
        let outcome = put(fs, 1, taken, b"ours", None).await;
        assert_eq!(kind(outcome.map(drop)), FsErrorKind::Occupied);
    }
    assert_eq!(disk.read("f").unwrap(), b"user");
    assert_eq!(names(fs, "").await, ["d", "f"]);
    assert_eq!(disk.trash(), []);
    fs.discard(StageKey(1)).await.unwrap();
    assert_eq!(leftovers(fs).await, []);
}

pub(crate) async fn a_file_is_installed_only_in_a_folder_that_is_there(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    disk.write("f", b"user");
    for missing in ["d/x", "f/x"] {
        let outcome = put(fs, 1, missing, b"ours", None).await;
        assert_eq!(kind(outcome.map(drop)), FsErrorKind::NotFound);
    }
    assert_eq!(names(fs, "").await, ["f"]);
}

// SF-13, FK-25
pub(crate) async fn a_replaced_version_is_in_the_trash(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    disk.mkdir("d");
    disk.write("d/f", b"old");
    let old = stamp(fs, "d/f").await;
    let installed = clean(put(fs, 1, "d/f", b"new", Some(&old)).await);
    assert_eq!(installed, entry(fs, "d/f").await);
    assert_ne!(installed.item, old.item);
    assert_eq!(disk.read("d/f").unwrap(), b"new");
    assert_eq!(disk.trash(), [("d/f".to_owned(), b"old".to_vec())]);
    assert_eq!(leftovers(fs).await, []);
}

// EE-04
pub(crate) async fn a_version_that_is_not_the_expected_one_is_never_replaced(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    disk.write("f", b"old");
    let old = stamp(fs, "f").await;
    disk.write("f", b"edit");
    let outcome = put(fs, 1, "f", b"ours", Some(&old)).await;
    assert_eq!(kind(outcome.map(drop)), FsErrorKind::Changed);
    assert_eq!(disk.read("f").unwrap(), b"edit");
    disk.write_secretly("f", b"EDIT");
    let secret = stamp(fs, "f").await;
    disk.write_secretly("f", b"more");
    let outcome = put(fs, 2, "f", b"ours", Some(&secret)).await;
    assert_eq!(kind(outcome.map(drop)), FsErrorKind::Changed);
    disk.remove("f");
    let outcome = put(fs, 3, "f", b"ours", Some(&old)).await;
    assert_eq!(kind(outcome.map(drop)), FsErrorKind::Changed);
    disk.mkdir("f");
    let outcome = put(fs, 4, "f", b"ours", Some(&old)).await;
    assert_eq!(kind(outcome.map(drop)), FsErrorKind::Changed);
    let dir = stamp(fs, "f").await;
    let outcome = put(fs, 5, "f", b"ours", Some(&dir)).await;
    assert_eq!(kind(outcome.map(drop)), FsErrorKind::Changed);
    assert_eq!(names(fs, "").await, ["f"]);
    assert_eq!(disk.trash(), []);
}

pub(crate) async fn a_second_staging_under_one_key_starts_anew(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    let mut given_up = fs.stage(StageKey(1)).await.unwrap();
    given_up.write(Bytes::from(pattern(2_000_000))).await.unwrap();
    drop(given_up);
    clean(put(fs, 1, "f", b"second", None).await);
    assert_eq!(disk.read("f").unwrap(), b"second");
}

// SC-01
pub(crate) async fn many_files_are_installed_at_once(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    for dir in 0..4 {
        disk.mkdir(&format!("d{dir}"));
    }
    let at = |key: u64| format!("d{}/f{key}", key % 4);
    let each = (1..=200).map(|key| async move {
        clean(put(fs, key, &at(key), at(key).as_bytes(), None).await);
    });
    futures_util::future::join_all(each).await;
    for key in 1..=200 {
        assert_eq!(disk.read(&at(key)).unwrap(), at(key).as_bytes());
    }
    assert_eq!(leftovers(fs).await, []);
}

pub(crate) async fn discarding_removes_what_was_staged(fs: &dyn LocalFs, _: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    drop(seal(fs, 1, b"sealed").await);
    let mut begun = fs.stage(StageKey(2)).await.unwrap();
    begun.write(Bytes::from(pattern(2_000_000))).await.unwrap();
    drop(begun);
    drop(seal(fs, 12, b"another").await);
    fs.discard(StageKey(1)).await.unwrap();
    fs.discard(StageKey(2)).await.unwrap();
    assert_eq!(leftovers(fs).await, [(12, false)]);
}

pub(crate) async fn discarding_nothing_is_success(fs: &dyn LocalFs, _: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    fs.discard(StageKey(1)).await.unwrap();
}

pub(crate) async fn a_killed_run_leaves_what_it_staged(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    drop(seal(fs, 1, b"sealed").await);
    let mut begun = fs.stage(StageKey(2)).await.unwrap();
    begun.write(Bytes::from(pattern(2_000_000))).await.unwrap();
    drop(begun);
    clean(put(fs, 3, "f", b"installed", None).await);
    let after = disk.reopen();
    assert_eq!(leftovers(&*after).await, [(1, false), (2, false)]);
}

// CR-05
pub(crate) async fn a_displaced_file_is_told_from_a_staged_one_and_is_not_discarded(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    disk.displace(StageKey(5), b"user");
    assert_eq!(leftovers(fs).await, [(5, true)]);
    assert_eq!(kind(fs.discard(StageKey(5)).await), FsErrorKind::Changed);
    assert_eq!(leftovers(fs).await, [(5, true)]);
}

pub(crate) async fn a_displaced_file_is_restored_to_a_free_name_only(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    disk.displace(StageKey(5), b"user");
    disk.write("f", b"other");
    assert_eq!(kind(fs.restore(StageKey(5), &path("f")).await), FsErrorKind::Occupied);
    assert_eq!(disk.read("f").unwrap(), b"other");
    fs.restore(StageKey(5), &path("g")).await.unwrap();
    assert_eq!(disk.read("g").unwrap(), b"user");
    assert_eq!(leftovers(fs).await, []);
    assert_eq!(kind(fs.restore(StageKey(5), &path("h")).await), FsErrorKind::NotFound);
}

// ---- folders -----------------------------------------------------------------------------------

pub(crate) async fn a_folder_is_created_once(fs: &dyn LocalFs, disk: &dyn Disk) {
    let made = fs.create_dir(&path("d")).await.unwrap();
    assert_eq!((made.kind, &made), (Kind::Dir, &entry(fs, "d").await));
    disk.write("d/f", b"1");
    assert_eq!(fs.create_dir(&path("d")).await.unwrap(), made);
    assert_eq!(names(fs, "d").await, ["f"]);
    fs.create_dir(&path("d/e")).await.unwrap();
    assert_eq!(kind(fs.create_dir(&path("x/y")).await), FsErrorKind::NotFound);
}

pub(crate) async fn a_folder_is_not_created_over_a_file(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    assert_eq!(kind(fs.create_dir(&path("f")).await), FsErrorKind::Occupied);
    assert_eq!(disk.read("f").unwrap(), b"1");
}

pub(crate) async fn a_rename_moves_a_file_and_keeps_its_item(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    disk.write("f", b"1");
    let before = stamp(fs, "f").await;
    let moved = fs.rename(&path("f"), &path("d/g"), &before).await.unwrap();
    assert_eq!(moved.name, Name::new("g").unwrap());
    assert!(before.is_renamed(&moved.stamp()));
    assert_eq!(moved, entry(fs, "d/g").await);
    assert_eq!(fs.stat(&path("f")).await.unwrap(), None);
}

pub(crate) async fn a_rename_moves_a_folder_with_what_is_in_it(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    disk.mkdir("d/e");
    let before = stamp(fs, "d").await;
    disk.write("d/e/f", b"1");
    let moved = fs.rename(&path("d"), &path("D"), &before).await.unwrap();
    assert_eq!(moved.item, before.item);
    assert_eq!(disk.read("D/e/f").unwrap(), b"1");
    let other = stamp(fs, "D/e").await;
    assert_eq!(kind(fs.rename(&path("D"), &path("x"), &other).await), FsErrorKind::Changed);
}

// MV-22
pub(crate) async fn a_rename_never_replaces(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    disk.write("g", b"2");
    disk.mkdir("d");
    disk.mkdir("empty");
    let (f, d) = (stamp(fs, "f").await, stamp(fs, "d").await);
    for (from, to, expected) in [("f", "g", &f), ("f", "d", &f), ("d", "g", &d), ("d", "empty", &d)]
    {
        let outcome = fs.rename(&path(from), &path(to), expected).await;
        assert_eq!(kind(outcome), FsErrorKind::Occupied, "{from} to {to}");
    }
    assert_eq!(disk.read("g").unwrap(), b"2");
    assert_eq!(names(fs, "").await, ["d", "empty", "f", "g"]);
}

pub(crate) async fn a_rename_of_another_version_is_refused(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    let old = stamp(fs, "f").await;
    disk.write("f", b"edit");
    assert_eq!(kind(fs.rename(&path("f"), &path("g"), &old).await), FsErrorKind::Changed);
    assert_eq!(names(fs, "").await, ["f"]);
    disk.remove("f");
    assert_eq!(kind(fs.rename(&path("f"), &path("g"), &old).await), FsErrorKind::NotFound);
}

// ---- removing ----------------------------------------------------------------------------------

pub(crate) async fn a_trashed_file_is_gone_from_the_tree_and_in_the_trash(
    fs: &dyn LocalFs,
    disk: &dyn Disk,
) {
    fs.claim("pair").await.unwrap();
    disk.mkdir("d");
    disk.write("d/f", b"1");
    let f = stamp(fs, "d/f").await;
    fs.trash(&path("d/f"), &f).await.unwrap();
    assert_eq!(names(fs, "d").await, [""; 0]);
    assert_eq!(disk.trash(), [("d/f".to_owned(), b"1".to_vec())]);
}

// SF-14
pub(crate) async fn every_version_of_a_path_stays_in_the_trash(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    for version in [b"1", b"2", b"3", b"4", b"5"] {
        disk.write("f", version);
        let f = stamp(fs, "f").await;
        fs.trash(&path("f"), &f).await.unwrap();
    }
    // A folder takes the name of the file, and a name that looks like a version is one of its own.
    disk.mkdir("f");
    for name in ["f/g", "f~2", "f~2~1"] {
        disk.write(name, name.as_bytes());
        let f = stamp(fs, name).await;
        fs.trash(&path(name), &f).await.unwrap();
    }
    let mut trash = disk.trash();
    trash.sort();
    let expected: [(&str, &[u8]); 8] = [
        ("f", b"1"),
        ("f", b"2"),
        ("f", b"3"),
        ("f", b"4"),
        ("f", b"5"),
        ("f/g", b"f/g"),
        ("f~2", b"f~2"),
        ("f~2~1", b"f~2~1"),
    ];
    assert_eq!(trash, expected.map(|(path, content)| (path.to_owned(), content.to_vec())));
}

// ED-04
pub(crate) async fn trashing_another_version_is_refused(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    disk.write("f", b"1");
    let old = stamp(fs, "f").await;
    disk.write("f", b"edit");
    assert_eq!(kind(fs.trash(&path("f"), &old).await), FsErrorKind::Changed);
    assert_eq!(disk.read("f").unwrap(), b"edit");
    disk.mkdir("d");
    let d = stamp(fs, "d").await;
    assert_eq!(kind(fs.trash(&path("d"), &d).await), FsErrorKind::Changed);
    assert_eq!(names(fs, "").await, ["d", "f"]);
    assert_eq!(disk.trash(), []);
}

pub(crate) async fn trashing_nothing_is_success(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    disk.write("f", b"1");
    let f = stamp(fs, "f").await;
    disk.remove("f");
    fs.trash(&path("f"), &f).await.unwrap();
    fs.trash(&path("d/f"), &f).await.unwrap();
}

// ED-12
pub(crate) async fn only_an_empty_folder_is_removed(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.mkdir("d");
    disk.write("d/new", b"1");
    assert_eq!(kind(fs.remove_dir(&path("d")).await), FsErrorKind::NotEmpty);
    assert_eq!(disk.read("d/new").unwrap(), b"1");
    disk.remove("d/new");
    fs.remove_dir(&path("d")).await.unwrap();
    assert_eq!(names(fs, "").await, [""; 0]);
}

pub(crate) async fn removing_no_folder_is_success(fs: &dyn LocalFs, _: &dyn Disk) {
    fs.remove_dir(&path("d")).await.unwrap();
    fs.remove_dir(&path("d/e")).await.unwrap();
}

pub(crate) async fn a_file_is_not_removed_as_a_folder(fs: &dyn LocalFs, disk: &dyn Disk) {
    disk.write("f", b"1");
    assert_eq!(kind(fs.remove_dir(&path("f")).await), FsErrorKind::Changed);
    assert_eq!(disk.read("f").unwrap(), b"1");
}

// ---- names -------------------------------------------------------------------------------------

// NM-07, NM-15, NM-24
pub(crate) async fn names_that_are_odd_but_valid_work(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    let odd =
        [" ", "a\nb", "\u{1b}[31m", "\u{202e}x", "d\\x", "\u{200b}", "*?", "-rf", "e\u{301}", "é"];
    for (key, name) in (1..).zip(odd) {
        clean(put(fs, key, name, name.as_bytes(), None).await);
        assert_eq!(disk.read(name).unwrap(), name.as_bytes(), "{name:?}");
    }
    assert_eq!(names(fs, "").await.len(), odd.len());
    for name in odd {
        let found = stamp(fs, name).await;
        fs.rename(&path(name), &path("plain"), &found).await.unwrap();
        let found = stamp(fs, "plain").await;
        fs.trash(&path("plain"), &found).await.unwrap();
    }
    assert_eq!(disk.trash().len(), odd.len());
}

// NM-10, NM-11
pub(crate) async fn a_name_of_the_full_length_works_all_the_way(fs: &dyn LocalFs, disk: &dyn Disk) {
    fs.claim("pair").await.unwrap();
    let long = format!("{}.txt", "é".repeat(125) + "x");
    assert_eq!(long.len(), 255);
    clean(put(fs, 1, &long, b"one", None).await);
    let one = stamp(fs, &long).await;
    clean(put(fs, 2, &long, b"two", Some(&one)).await);
    let two = stamp(fs, &long).await;
    fs.trash(&path(&long), &two).await.unwrap();
    let mut trash = disk.trash();
    trash.sort();
    assert_eq!(trash, [(long.clone(), b"one".to_vec()), (long.clone(), b"two".to_vec())]);
    let longer = format!("x{long}");
    assert_eq!(kind(put(fs, 3, &longer, b"1", None).await.map(drop)), FsErrorKind::BadName);
    assert_eq!(kind(fs.create_dir(&path(&longer)).await), FsErrorKind::BadName);
}

/// A listing's skipped items, by name.
pub(crate) async fn skipped(fs: &dyn LocalFs, dir: &str) -> Vec<(String, SkipReason)> {
    let listing = fs.list(&path(dir)).await.unwrap();
    listing.skipped.into_iter().map(|s| (s.name, s.reason)).collect()
}
