//! Turns what was seen into tree edits: the only code that decides which node an entry is.
//!
//! A wrong guess costs a needless move or copy, never bytes, because content is merged on its own.
//! Belief, in order: the entry is where its node was and is the same item; the item is known from
//! somewhere else (it was moved); a node of that kind stood at that place (it was replaced); new.
//! Where identities prove nothing, what stands at a place is what stood there, and what was moved is
//! recognised by what is in it (`moved`).

mod ending;
mod moved;
mod spelling;

use std::collections::BTreeMap;

use super::look::{Extent, Look};
use super::{Engine, Problem};
use crate::local::{Listing, SkipReason, Skipped};
use crate::remote::Locator;
use crate::tree::path::CONTROL_DIR;
use crate::tree::{
    Entry, Facet, InternalName, ItemId, Kind, Name, NodeId, Placement, RelPath, Side,
};

/// Folders above one another. Paths that long cannot be opened on any system.
const PATH_DEPTH_MAX: usize = 100_000;

/// What the comparison of one listing with the trees found.
#[derive(Default)]
struct Differences {
    changed: Vec<(NodeId, Entry)>,
    newcomers: Vec<Entry>,
    missing: Vec<NodeId>,
    folders: Vec<NodeId>,
    ignored: Vec<NodeId>,
    masked: Vec<(NodeId, SkipReason)>,
}

impl Engine {
    // ---- one listing ---------------------------------------------------------------------

    /// Folds a complete listing of one folder into the look.
    pub(super) fn listed(&mut self, mut look: Look, dir: NodeId, mut listing: Listing) {
        let since = look.listed(dir).unwrap_or(self.now);
        look.read.insert(dir, (since, listing.entries.len()));
        let side = look.side;
        leave_control_folders(&mut listing);
        self.set_duplicates_aside(side, dir, &mut listing);
        self.set_reserved_names_aside(side, &mut listing);
        self.note_set_aside(side, &listing);
        let path = self.path_in_look(&look, dir);
        self.see_ignore_file(side, &path, listing.ignore_file.as_deref());
        self.blocked.retain(|(s, parent, _), _| *s != side || *parent != dir);
        self.blind.remove(&(side, dir));
        self.unmask_children(side, dir);
        self.see_skipped(side, dir, &path, &listing.skipped);
        self.spell_as_known(side, dir, &mut listing);
        self.note_left_out(side, dir, &path, &listing);

        if side == Side::Remote && dir == NodeId::ROOT {
            self.peer = listing.is_local_root;
        }
        let unsteady = listing.unsteady;
        let found = self.compare(side, dir, &path, listing);
        for (node, reason) in found.masked {
            self.blind.insert((side, node), Problem::Masked(reason));
        }
        // The folder may have been listed before in this look: the newer listing counts.
        look.newcomers.remove(&dir);
        look.replaced_folders.retain(|(parent, _)| *parent != dir);
        if !look.missing.is_empty() {
            for (_, child) in self.trees.children(side, dir) {
                look.missing.remove(&child);
            }
        }
        for node in found.folders {
            look.placed.remove(&node);
            look.seen.insert(node);
            if let Some(facet) = self.trees.facet(side, node)
                && look.is_second(&facet.item)
                && !look.gone.contains(&node)
            {
                look.torn = true;
            }
            if look.gone.remove(&node) {
                // Its parent was found elsewhere, and it in there.
                look.want_again(node);
            } else if look.extent == Extent::Full {
                look.want(node);
            }
        }
        if !unsteady {
            look.missing.extend(found.missing);
        } else if !found.missing.is_empty() {
            self.miss_later(side, dir);
        }
        look.ignored.extend(found.ignored);
        for (node, entry) in found.changed {
            look.place(node, dir, entry);
        }
        for entry in found.newcomers {
            match entry.kind {
                Kind::File => look.newcomers.entry(dir).or_default().push(entry),
                Kind::Dir => self.meet_folder(&mut look, dir, entry),
            }
        }
        self.looks[side as usize] = Some(look);
    }

    /// A folder that changed as it was read proves no absence; the next look at it may. Where it
    /// changes all the time, that is when something else brings a look about.
    fn miss_later(&mut self, side: Side, dir: NodeId) {
        const LOOKS_MAX: u32 = 8;
        let attempts = self.listing_attempts.entry((side, dir)).or_default();
        *attempts += 1;
        if *attempts <= LOOKS_MAX {
            self.dirty[side as usize].insert(dir);
        }
    }

    /// Of several items of one name, the one that is known has it, or else the first; the others are
    /// reported and left alone. (RM-09)
    fn set_duplicates_aside(&self, side: Side, dir: NodeId, listing: &mut Listing) {
        let twins = listing.entries.windows(2).any(|pair| pair[0].name == pair[1].name);
        if !twins {
            return;
        }
        let is_known = |entry: &Entry| {
            let at = Placement { parent: dir, name: entry.name.clone() };
            let node = self.trees.occupant(side, &at);
            node.and_then(|node| self.trees.facet(side, node)).is_some_and(|f| f.item == entry.item)
        };
        let mut kept: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut listing.entries) {
            match kept.last_mut().filter(|last| last.name == entry.name) {
                None => kept.push(entry),
                Some(last) => {
                    let name = entry.name.as_str().to_owned();
                    listing.skipped.push(Skipped { name, reason: SkipReason::Duplicate });
                    if is_known(&entry) {
                        *last = entry;
                    }
                }
            }
        }
        listing.entries = kept;
    }

    /// What hid a child is listed anew with its folder.
    fn unmask_children(&mut self, side: Side, dir: NodeId) {
        let trees = &self.trees;
        self.blind.retain(|(s, node), problem| {
            let parent = trees.facet(side, *node).map(|facet| facet.at().parent);
            *s != side || parent != Some(dir) || matches!(problem, Problem::Unlisted(_))
        });
    }

    fn see_ignore_file(&mut self, side: Side, path: &RelPath, text: Option<&str>) {
        if side == Side::Local {
            self.rules.set_folder(path, text.unwrap_or_default());
        }
    }

    fn see_skipped(&mut self, side: Side, dir: NodeId, path: &RelPath, skipped: &[Skipped]) {
        for item in skipped {
            let shown =
                if path.is_root() { item.name.clone() } else { format!("{path}/{}", item.name) };
            let kind = match item.reason {
                SkipReason::ControlFolder | SkipReason::OtherRoot => Kind::Dir,
                SkipReason::Symlink
                | SkipReason::Special
                | SkipReason::Mount
                | SkipReason::BadName
                | SkipReason::Duplicate
                | SkipReason::Reserved
                | SkipReason::Ignored
                | SkipReason::Unreadable => Kind::File,
            };
            if let Ok(name) = Name::new(&item.name)
                && self.rules.is_ignored(&path.join(&name), kind).is_some()
            {
                continue;
            }
            self.blocked.insert((side, dir, item.name.clone()), (item.reason, shown));
        }
    }

    /// Walks a listing and the known children side by side; both are sorted by name.
    fn compare(&self, side: Side, dir: NodeId, path: &RelPath, listing: Listing) -> Differences {
        let mut found = Differences::default();
        let masked: BTreeMap<&str, SkipReason> =
            listing.skipped.iter().map(|s| (s.name.as_str(), s.reason)).collect();
        let ignored = |name: &Name, kind| {
            !self.rules.is_empty() && self.rules.is_ignored(&path.join(name), kind).is_some()
        };
        let mut children = self.trees.children(side, dir).peekable();
        let absent =
            |name: &Name, node: NodeId, found: &mut Differences| match masked.get(name.as_str()) {
                // Left out by rule, like what is ignored; an older version may have synced it.
                Some(SkipReason::ControlFolder) => found.ignored.push(node),
                Some(reason) => found.masked.push((node, *reason)),
                None if ignored(name, self.trees.kind(node)) => found.ignored.push(node),
                None => found.missing.push(node),
            };
        for entry in listing.entries {
            while let Some((name, node)) = children.next_if(|(name, _)| **name < entry.name) {
                absent(name, node, &mut found);
            }
            let known = children.next_if(|(name, _)| **name == entry.name).map(|(_, node)| node);
            if is_staged(&entry.name) && !self.is_forgotten_aside(side, &entry) {
                continue;
            }
            if ignored(&entry.name, entry.kind) {
                found.ignored.extend(known);
                continue;
            }
            let facet = known.and_then(|node| Some((node, self.trees.facet(side, node)?)));
            match facet {
                Some((node, facet)) if may_be_item(facet, self.trees.kind(node), &entry) => {
                    let is_same = facet.item == entry.item;
                    if entry.kind == Kind::Dir {
                        found.folders.push(node);
                    }
                    if !is_same || !self.is_unchanged(side, node, facet, &entry) {
                        found.changed.push((node, entry));
                    }
                }
                Some((node, _)) => {
                    found.missing.push(node);
                    found.newcomers.push(entry);
                }
                None => found.newcomers.push(entry),
            }
        }
        for (name, node) in children {
            absent(name, node, &mut found);
        }
        self.pair_respelled(side, dir, &mut found);
        found
    }

    fn is_unchanged(&self, side: Side, node: NodeId, facet: &Facet, entry: &Entry) -> bool {
        facet.rev == entry.rev
            && facet.content().size() == entry.size
            && !self.racy.contains(side, node)
    }

    /// A folder that is not where it was known: moved, new, or in another folder's place.
    fn meet_folder(&mut self, look: &mut Look, dir: NodeId, entry: Entry) {
        let side = look.side;
        let at = Placement { parent: dir, name: entry.name.clone() };
        if let Some(writer) = self.writer_of(side, &at) {
            self.look_when_landed(side, writer, dir);
            return;
        }
        if look.is_second(&entry.item) {
            self.set_twins_aside(look, vec![(dir, entry.name)]);
            return;
        }
        let moved = self
            .trees
            .by_item(side, &entry.item)
            .filter(|node| self.trees.kind(*node) == Kind::Dir);
        let replaced = self.trees.occupant(side, &at).filter(|n| self.trees.kind(*n) == Kind::Dir);
        match (moved, replaced) {
            (Some(node), _) if look.is_other_item(node, &entry.item) => {
                // Another folder was taken for this one, because it stands in its old place.
                self.moved_away.insert(node);
                look.torn = true;
            }
            (Some(node), _) => {
                look.place(node, dir, entry);
                look.want(node);
            }
            (None, Some(_)) => look.replaced_folders.push((dir, entry)),
            // Perhaps a copy of a folder that was being moved there.
            (None, None) if self.moving.values().any(|to| *to == at) => {
                look.replaced_folders.push((dir, entry));
            }
            (None, None) => {
                let node = self.trees.create(Kind::Dir);
                look.place(node, dir, entry);
                look.want(node);
            }
        }
    }

    // ---- where things are -----------------------------------------------------------------

    /// The path of a folder that the look may have found, but the trees do not know yet.
    pub(super) fn path_in_look(&self, look: &Look, dir: NodeId) -> RelPath {
        let mut names = Vec::new();
        let mut at = dir;
        while at != NodeId::ROOT && names.len() < PATH_DEPTH_MAX {
            let step = match look.placed.get(&at) {
                Some((parent, entry)) => Some((*parent, entry.name.clone())),
                None => self.trees.facet(look.side, at).map(|facet| {
                    let place = facet.physical();
                    (place.parent, place.name)
                }),
            };
            let Some((parent, name)) = step else { break };
            names.push(name);
            at = parent;
        }
        names.iter().rev().fold(RelPath::root(), |path, name| path.join(name))
    }

    /// How to address a folder that is to be listed.
    pub(super) fn locator_in_look(&self, look: &Look, dir: NodeId) -> Locator {
        let item = |node: NodeId| -> Option<ItemId> {
            match look.placed.get(&node) {
                Some((_, entry)) => Some(entry.item.clone()),
                None => self.trees.facet(look.side, node).map(|facet| facet.item.clone()),
            }
        };
        let parent = match look.placed.get(&dir) {
            Some((parent, _)) => Some(*parent),
            None => self.trees.facet(look.side, dir).map(|facet| facet.at().parent),
        };
        Locator {
            id: item(dir),
            path: self.path_in_look(look, dir),
            parent_id: parent.and_then(item),
            kind: Kind::Dir,
        }
    }
}

/// The control folder of a pair that has, or once had, its root here is that pair's own: it is never
/// synced, on no side and no kind of remote.
fn leave_control_folders(listing: &mut Listing) {
    let Listing { entries, skipped, .. } = listing;
    entries.retain(|entry| {
        let is_control = entry.kind == Kind::Dir && entry.name.as_str() == CONTROL_DIR;
        if is_control {
            let name = CONTROL_DIR.to_owned();
            skipped.push(Skipped { name, reason: SkipReason::ControlFolder });
        }
        !is_control
    });
}

/// Uploads under way, ours or another device's: not content yet.
fn is_staged(name: &Name) -> bool {
    name.internal().is_some_and(InternalName::is_in_transit)
}

/// What a parked item, or an old version that made room for a new one, is marked with.
fn parked_key(name: &Name) -> Option<u64> {
    match name.internal()? {
        InternalName::Parked(key) | InternalName::Replaced(key) => Some(key),
        InternalName::Staged(_) | InternalName::Copying(_) | InternalName::Scratch => None,
    }
}

/// Whether the entry, at the place of a known item, may be that item: it is one of the same kind, and no
/// identity tells them apart.
fn may_be_item(facet: &Facet, kind: Kind, entry: &Entry) -> bool {
    facet.item.may_be(&entry.item) && kind == entry.kind
}
