//! The database gives back what it was given, and survives being damaged.

use tempfile::TempDir;

use super::*;
use crate::tree::{
    Content, ContentHash, Digest, Facet, HashAlgo, Hasher, ItemId, Kind, Name, Placement, Register,
    Rev, Side,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(text: &str) -> Placement {
    Placement { parent: NodeId::ROOT, name: name(text) }
}

fn digest(text: &str) -> Digest {
    let hash: ContentHash = Hasher::of(HashAlgo::Sha256, text.as_bytes());
    Digest { size: text.len() as u64, hash }
}

fn disk_facet(text: &str, ino: u64, content: Content) -> Facet {
    let item = ItemId::Inode { dev: 1, ino, born_ns: -5 };
    Facet::new(at(text), content, item, Rev::Stat { mtime_ns: -1, ctime_ns: 2 })
}

/// Every shape that a node can have.
fn sample() -> Trees {
    let mut trees = Trees::new();
    let agreed = trees.create(Kind::File);
    let content = Content::Is(digest("one"));
    trees.set_facet(Side::Local, agreed, Some(disk_facet("a", 10, content)));
    let rev = Rev::Tag { tag: "md5:with:colons".into(), modified_s: 7 };
    let remote = Facet::new(at("a"), content, ItemId::Key("id-1".into()), rev);
    trees.set_facet(Side::Remote, agreed, Some(remote));
    trees.settle(agreed);

    let edited = trees.create(Kind::File);
    trees.set_facet(Side::Local, edited, Some(disk_facet("b", 11, Content::Unread { size: 9 })));
    trees.set_base(edited, Some(Register { at: at("b"), content: Content::Is(digest("two")) }));

    let folder = trees.create(Kind::Dir);
    let mut parked = disk_facet("c", 12, Content::Dir);
    parked.parked = Some(name(".foldsync-park-3"));
    trees.set_facet(Side::Local, folder, Some(parked));
    trees
}

fn save(store: &mut Store, trees: &mut Trees) {
    let touched = trees.take_touched();
    store.write(|tx| tx.put_nodes(trees, touched, |_| Racy::default())).unwrap();
}

#[test]
fn every_shape_of_a_node_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.db");
    let (mut store, _, found) = Store::open(&path).unwrap();
    assert_eq!(found, Found::New);
    let mut trees = sample();
    save(&mut store, &mut trees);
    drop(store);

    let (_, loaded, found) = Store::open(&path).unwrap();
    assert_eq!(found, Found::Existing);
    let ids: Vec<NodeId> = trees.ids().collect();
    assert_eq!(ids, loaded.ids().collect::<Vec<_>>());
    for id in ids {
        assert_eq!(trees.get(id), loaded.get(id));
    }
    assert_eq!(trees.divergent(), loaded.divergent());
}

#[test]
fn a_forgotten_node_is_gone_from_the_database() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.db");
    let (mut store, _, _) = Store::open(&path).unwrap();
    let mut trees = sample();
    save(&mut store, &mut trees);
    let first = trees.ids().next().unwrap();
    trees.forget(first);
    save(&mut store, &mut trees);
    drop(store);
    let (_, loaded, _) = Store::open(&path).unwrap();
    assert_eq!(loaded.get(first), None);
    assert_eq!(loaded.ids().count(), 2);
}

// FK-18
#[test]
fn a_racy_time_is_stored_as_one_that_no_file_has() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.db");
    let (mut store, _, _) = Store::open(&path).unwrap();
    let mut trees = sample();
    let touched = trees.take_touched();
    let racy = Racy { local: true, remote: false };
    store.write(|tx| tx.put_nodes(&trees, touched, |_| racy)).unwrap();
    drop(store);
    let (_, loaded, _) = Store::open(&path).unwrap();
    let id = trees.ids().next().unwrap();
    assert_ne!(
        loaded.facet(Side::Local, id).unwrap().rev,
        trees.facet(Side::Local, id).unwrap().rev
    );
    assert_eq!(loaded.facet(Side::Remote, id), trees.facet(Side::Remote, id));
}

// CR-06, CR-21
#[test]
fn a_damaged_database_is_set_aside_and_nothing_is_agreed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.db");
    std::fs::write(&path, b"this is not a database, but it is long enough to look at").unwrap();
    let (_, trees, found) = Store::open(&path).unwrap();
    let Found::SetAside(aside) = found else { panic!("{found:?}") };
    assert!(aside.exists());
    assert_eq!(trees.ids().count(), 0);
}

// CR-20
#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pair.db");
    let (store, _, _) = Store::open(&path).unwrap();
    store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { version: 99 })));
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(&folder.path().join("pair.db")).unwrap();
    let failed: Result<()> = store.write(|tx| {
        tx.set_meta("key", "value")?;
        Err(StoreError::damaged("a test"))
    });
    assert!(failed.is_err());
    assert_eq!(store.meta("key").unwrap(), None);
}

// SF-10
#[test]
fn a_held_set_keeps_its_number_until_it_changes() {
    let folder = TempDir::new().unwrap();
    let (mut store, _, _) = Store::open(&folder.path().join("pair.db")).unwrap();
    let held = |ids: &[u32]| NewHeld {
        kind: "too-many-deletes".into(),
        side: "remote".into(),
        files: ids.len() as u64,
        nodes: ids.iter().filter_map(|id| NodeId::new(*id)).collect(),
        paths: vec![],
    };
    let now = Timestamp::from_seconds(1);
    store.write(|tx| tx.set_pending(&[held(&[2, 3])], now)).unwrap();
    let first = store.held(&[HeldState::Pending]).unwrap()[0].id;
    store.write(|tx| tx.set_pending(&[held(&[2, 3])], now)).unwrap();
    assert_eq!(store.held(&[HeldState::Pending]).unwrap()[0].id, first);
    store.write(|tx| tx.set_pending(&[held(&[2, 3, 4])], now)).unwrap();
    let pending = store.held(&[HeldState::Pending]).unwrap();
    assert_eq!(pending.len(), 1);
    assert_ne!(pending[0].id, first);
}
