//! What `Trees` promises: one occupant to a place, a true divergent set, and a base that moves only
//! where both sides agree.

use super::*;
use crate::tree::{ContentHash, Digest, Rev};

const FILE: u8 = 1;

fn at(parent: NodeId, name: &str) -> Placement {
    Placement { parent, name: Name::new(name).unwrap() }
}

fn content(kind: Kind, version: u8) -> Content {
    match kind {
        Kind::Dir => Content::Dir,
        Kind::File => Content::Is(Digest { size: 3, hash: ContentHash::Md5([version; 16]) }),
    }
}

fn facet(id: NodeId, at: Placement, content: Content) -> Facet {
    Facet::new(at, content, ItemId::Key(format!("item {id:?}").into()), Rev::FOLDER)
}

fn put(trees: &mut Trees, side: Side, id: NodeId, at: Placement) {
    put_version(trees, side, id, at, FILE);
}

fn put_version(trees: &mut Trees, side: Side, id: NodeId, at: Placement, version: u8) {
    let content = content(trees.kind(id), version);
    trees.set_facet(side, id, Some(facet(id, at, content)));
    trees.settle(id);
}

fn agreed(trees: &mut Trees, kind: Kind, place: Placement) -> NodeId {
    let id = trees.create(kind);
    put(trees, Side::Local, id, place.clone());
    put(trees, Side::Remote, id, place);
    id
}

fn only(trees: &mut Trees, side: Side, kind: Kind, place: Placement) -> NodeId {
    let id = trees.create(kind);
    put(trees, side, id, place);
    id
}

fn remove(trees: &mut Trees, side: Side, id: NodeId) {
    trees.set_facet(side, id, None);
    trees.settle(id);
}

fn base_place(trees: &Trees, id: NodeId) -> Option<Placement> {
    trees.base(id).map(|base| base.at.clone())
}

const ROOT: NodeId = NodeId::ROOT;

#[test]
fn base_moves_register_by_register_where_both_sides_agree() {
    let mut trees = Trees::new();
    let id = agreed(&mut trees, Kind::File, at(ROOT, "a"));
    assert!(trees.divergent().is_empty());
    // Both edited it alike, but only local moved it.
    put_version(&mut trees, Side::Local, id, at(ROOT, "b"), 2);
    put_version(&mut trees, Side::Remote, id, at(ROOT, "a"), 2);
    let base = trees.base(id).unwrap();
    assert_eq!((&base.at, base.content), (&at(ROOT, "a"), content(Kind::File, 2)));
    assert!(trees.divergent().contains(&id));
    put_version(&mut trees, Side::Remote, id, at(ROOT, "b"), 2);
    assert_eq!(base_place(&trees, id), Some(at(ROOT, "b")));
    assert!(trees.divergent().is_empty());
}

#[test]
fn a_node_that_both_sides_lost_is_forgotten() {
    let mut trees = Trees::new();
    let id = agreed(&mut trees, Kind::File, at(ROOT, "a"));
    assert_eq!(trees.base_files(), 1);
    remove(&mut trees, Side::Local, id);
    assert_eq!(trees.base_files(), 1);
    remove(&mut trees, Side::Remote, id);
    assert!(trees.get(id).is_none());
    assert_eq!((trees.base_files(), trees.divergent().len()), (0, 0));
}

#[test]
fn a_forgotten_node_takes_no_place_when_a_late_outcome_arrives() {
    let mut trees = Trees::new();
    let id = only(&mut trees, Side::Remote, Kind::File, at(ROOT, "a"));
    trees.forget(id);
    put(&mut trees, Side::Local, id, at(ROOT, "a"));
    assert_eq!(trees.occupant(Side::Local, &at(ROOT, "a")), None);
    assert_eq!(trees.by_item(Side::Local, &ItemId::Key(format!("item {id:?}").into())), None);
}

#[test]
fn unread_contents_of_equal_size_are_not_agreed() {
    let mut trees = Trees::new();
    let id = trees.create(Kind::File);
    for side in Side::BOTH {
        let content = Content::Unread { size: 3 };
        trees.set_facet(side, id, Some(facet(id, at(ROOT, "a"), content)));
        trees.settle(id);
    }
    assert_eq!(trees.base(id), None);
    assert!(trees.divergent().contains(&id));
}

#[test]
fn names_can_be_exchanged_in_one_edit() {
    let mut trees = Trees::new();
    let a = agreed(&mut trees, Kind::File, at(ROOT, "a"));
    let b = agreed(&mut trees, Kind::File, at(ROOT, "b"));
    let moved = |id, to| (id, Some(facet(id, at(ROOT, to), content(Kind::File, FILE))));
    trees.set_facets(Side::Local, vec![moved(a, "b"), moved(b, "a")]);
    assert_eq!(trees.occupant(Side::Local, &at(ROOT, "a")), Some(b));
    assert_eq!(trees.occupant(Side::Local, &at(ROOT, "b")), Some(a));
}

#[test]
fn a_parked_node_occupies_its_physical_name_only_and_diverges() {
    let mut trees = Trees::new();
    let id = agreed(&mut trees, Kind::Dir, at(ROOT, "a"));
    let mut parked = trees.facet(Side::Local, id).cloned().unwrap();
    parked.parked = Some(Name::new(".foldsync-1").unwrap());
    trees.set_facet(Side::Local, id, Some(parked));
    assert_eq!(trees.occupant(Side::Local, &at(ROOT, "a")), None);
    assert_eq!(trees.occupant(Side::Local, &at(ROOT, ".foldsync-1")), Some(id));
    assert_eq!(trees.path(Side::Local, id).unwrap().as_str(), ".foldsync-1");
    assert_eq!(trees.display_path(id).as_str(), "a");
    assert!(trees.divergent().contains(&id));
}

#[test]
fn children_come_in_order_and_only_from_their_folder() {
    let mut trees = Trees::new();
    let dir = agreed(&mut trees, Kind::Dir, at(ROOT, "d"));
    let other = agreed(&mut trees, Kind::Dir, at(ROOT, "e"));
    for name in ["b", "a", "\u{e9}"] {
        agreed(&mut trees, Kind::File, at(dir, name));
    }
    agreed(&mut trees, Kind::File, at(other, "z"));
    let names: Vec<_> = trees.children(Side::Remote, dir).map(|(n, _)| n.to_string()).collect();
    assert_eq!(names, ["a", "b", "\u{e9}"]);
    assert!(!trees.has_children(Side::Local, trees.children(Side::Local, dir).next().unwrap().1));
}

// ---- bind ------------------------------------------------------------------------------------

#[test]
fn a_bound_folder_adopts_the_children_and_agrees_where_it_can() {
    let mut trees = Trees::new();
    let keep = only(&mut trees, Side::Local, Kind::Dir, at(ROOT, "d"));
    let newcomer = only(&mut trees, Side::Remote, Kind::Dir, at(ROOT, "d"));
    let child = only(&mut trees, Side::Remote, Kind::File, at(newcomer, "x"));
    trees.bind(keep, newcomer);
    assert!(trees.get(newcomer).is_none());
    assert_eq!(base_place(&trees, keep), Some(at(ROOT, "d")));
    assert_eq!(trees.path(Side::Remote, child).unwrap().as_str(), "d/x");
    assert_eq!(trees.divergent().iter().copied().collect::<Vec<_>>(), [child]);
}

#[test]
fn a_child_that_ends_where_local_has_it_is_agreed_by_the_bind() {
    let mut trees = Trees::new();
    let keep = only(&mut trees, Side::Local, Kind::Dir, at(ROOT, "d"));
    let newcomer = only(&mut trees, Side::Remote, Kind::Dir, at(ROOT, "d"));
    let child = agreed(&mut trees, Kind::File, at(ROOT, "x"));
    put(&mut trees, Side::Local, child, at(keep, "x"));
    put(&mut trees, Side::Remote, child, at(newcomer, "x"));
    trees.bind(keep, newcomer);
    assert_eq!(base_place(&trees, child), Some(at(keep, "x")));
    assert!(trees.divergent().is_empty());
}

#[test]
fn a_bind_does_not_look_like_a_move_of_the_children() {
    let mut trees = Trees::new();
    let newcomer = agreed(&mut trees, Kind::Dir, at(ROOT, "d"));
    let deleted = agreed(&mut trees, Kind::File, at(newcomer, "deleted"));
    let moved = agreed(&mut trees, Kind::File, at(newcomer, "moved"));
    put(&mut trees, Side::Local, moved, at(ROOT, "moved"));
    remove(&mut trees, Side::Local, deleted);
    remove(&mut trees, Side::Local, newcomer);
    let keep = only(&mut trees, Side::Local, Kind::Dir, at(ROOT, "d"));
    trees.bind(keep, newcomer);
    for (id, name) in [(deleted, "deleted"), (moved, "moved")] {
        assert_eq!(base_place(&trees, id), Some(at(keep, name)));
        assert_eq!(trees.facet(Side::Remote, id).unwrap().at(), &at(keep, name));
    }
}

// ---- a moved folder carries its subtree --------------------------------------------------------

/// `d/e/x` agreed; the remote deleted all of it.
fn deleted_remotely(trees: &mut Trees) -> [NodeId; 3] {
    let d = agreed(trees, Kind::Dir, at(ROOT, "d"));
    let e = agreed(trees, Kind::Dir, at(d, "e"));
    let x = agreed(trees, Kind::File, at(e, "x"));
    for id in [x, e, d] {
        remove(trees, Side::Remote, id);
    }
    [d, e, x]
}

#[test]
fn what_is_in_a_moved_folder_is_new_once_the_folder_is_back() {
    let mut trees = Trees::new();
    let [d, e, x] = deleted_remotely(&mut trees);
    put(&mut trees, Side::Local, d, at(ROOT, "moved"));
    assert!(trees.base(x).is_some());
    put(&mut trees, Side::Remote, d, at(ROOT, "moved"));
    assert_eq!((trees.base(e), trees.base(x)), (None, None));
    assert_eq!(base_place(&trees, d), Some(at(ROOT, "moved")));
}

#[test]
fn what_is_in_a_folder_that_is_back_for_another_reason_stays_deleted() {
    let mut trees = Trees::new();
    let [d, e, x] = deleted_remotely(&mut trees);
    put(&mut trees, Side::Remote, d, at(ROOT, "d"));
    assert!(trees.base(e).is_some() && trees.base(x).is_some());
}

#[test]
fn a_moved_folder_that_is_bound_carries_its_subtree() {
    let mut trees = Trees::new();
    let d = agreed(&mut trees, Kind::Dir, at(ROOT, "d"));
    let x = agreed(&mut trees, Kind::File, at(d, "x"));
    for id in [x, d] {
        remove(&mut trees, Side::Local, id);
    }
    put(&mut trees, Side::Remote, d, at(ROOT, "moved"));
    let keep = only(&mut trees, Side::Local, Kind::Dir, at(ROOT, "moved"));
    trees.bind(keep, d);
    assert_eq!(trees.base(x), None);
    assert_eq!(trees.path(Side::Remote, x).unwrap().as_str(), "moved/x");
}

// ---- loading ---------------------------------------------------------------------------------

#[test]
fn an_id_that_something_still_refers_to_is_not_given_out_again() {
    let mut trees = Trees::new();
    let dir = agreed(&mut trees, Kind::Dir, at(ROOT, "d"));
    let gone = agreed(&mut trees, Kind::File, at(ROOT, "gone"));
    let child = agreed(&mut trees, Kind::File, at(dir, "x"));
    put(&mut trees, Side::Local, child, at(ROOT, "x"));
    put(&mut trees, Side::Remote, child, at(ROOT, "y"));
    for id in [dir, gone] {
        remove(&mut trees, Side::Local, id);
        remove(&mut trees, Side::Remote, id);
    }
    let mut reloaded = Trees::new();
    reloaded.load(child, trees.get(child).unwrap().clone());
    reloaded.loaded(&BTreeSet::new());
    assert_eq!(reloaded.base(child).unwrap().at.parent, dir);
    let first = reloaded.create(Kind::File);
    assert_ne!(first, dir, "base still refers to the folder");
    assert_eq!(first, gone);
    assert_eq!((reloaded.base_files(), reloaded.divergent().contains(&child)), (1, true));
}

#[test]
fn ids_of_the_gone_are_used_again_once_it_is_worth_while_and_nobody_speaks_of_them() {
    let mut trees = Trees::new();
    let make = |trees: &mut Trees, n| agreed(trees, Kind::File, at(ROOT, &format!("{n}")));
    let ids: Vec<NodeId> = (0..100).map(|n| make(&mut trees, n)).collect();
    for id in &ids[..63] {
        remove(&mut trees, Side::Local, *id);
        remove(&mut trees, Side::Remote, *id);
    }
    assert!(!trees.is_reclaim_due());
    trees.forget(ids[63]);
    assert!(trees.is_reclaim_due());
    let spoken_of = BTreeSet::from([ids[5]]);
    trees.reclaim(&spoken_of);
    assert!(!trees.is_reclaim_due());
    let again: BTreeSet<NodeId> = (200..263).map(|n| make(&mut trees, n)).collect();
    let gone: BTreeSet<NodeId> = ids[..64].iter().copied().collect();
    assert_eq!(again, &gone - &spoken_of);
    assert!(make(&mut trees, 300) > ids[99]);
}

#[test]
fn touched_nodes_are_told_once() {
    let mut trees = Trees::new();
    let id = agreed(&mut trees, Kind::File, at(ROOT, "a"));
    assert!(trees.take_touched().contains(&id));
    assert!(trees.take_touched().is_empty());
    trees.forget(id);
    assert!(trees.take_touched().contains(&id));
}
