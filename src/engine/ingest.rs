//! Turns what was seen into tree edits: the only code that decides which node an entry is.
//!
//! A wrong guess costs a needless move or copy, never bytes, because content is merged on its own.
//! Belief, in order: the entry is where its node was and is the same item; the item is known from
//! somewhere else (it was moved); a node of that kind stood at that place (it was replaced); new.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::look::{Extent, Look};
use super::{Command, Engine, Problem};
use crate::local::{Listing, SkipReason, Skipped};
use crate::remote::Locator;
use crate::tree::path::{INTERNAL_PREFIX, PARK_PREFIX, REPLACED_SUFFIX};
use crate::tree::{Entry, Facet, ItemId, Kind, Name, NodeId, Placement, RelPath, Rev, Side};

/// How often a side may change while it is looked at.
const TORN_LOOKS_MAX: u32 = 8;

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
        self.set_duplicates_aside(side, dir, &mut listing);
        self.note_set_aside(side, &listing);
        let path = self.path_in_look(&look, dir);
        self.see_ignore_file(side, &path, listing.ignore_file.as_deref());
        self.blocked.retain(|(s, parent, _), _| *s != side || *parent != dir);
        self.blind.remove(&(side, dir));
        self.unmask_children(side, dir);
        self.see_skipped(side, dir, &path, &listing.skipped);

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
                && !look.folder_items.insert(facet.item.clone())
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
        look.missing.extend(found.missing);
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
            if let Ok(name) = Name::new(&item.name)
                && self.rules.is_ignored(&path.join(&name), Kind::File).is_some()
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
                Some((node, facet)) if is_same_item(facet, self.trees.kind(node), &entry) => {
                    if entry.kind == Kind::Dir {
                        found.folders.push(node);
                    } else if !self.is_unchanged(side, node, facet, &entry) {
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
        found
    }

    fn is_unchanged(&self, side: Side, node: NodeId, facet: &Facet, entry: &Entry) -> bool {
        facet.rev == entry.rev
            && facet.content().size() == entry.size
            && !self.racy.contains(&(side, node))
    }

    /// A folder that is not where it was known: moved, new, or in another folder's place.
    fn meet_folder(&mut self, look: &mut Look, dir: NodeId, entry: Entry) {
        let side = look.side;
        let at = Placement { parent: dir, name: entry.name.clone() };
        if let Some(writer) = self.writer_of(side, &at) {
            self.look_when_landed(side, writer, dir);
            return;
        }
        if !look.folder_items.insert(entry.item.clone()) {
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
            (None, None) => {
                let node = self.trees.create(Kind::Dir);
                look.place(node, dir, entry);
                look.want(node);
            }
        }
    }

    // ---- the end of a look ---------------------------------------------------------------

    /// Goes on with a look whose listings are in. Returns the commands it still needs; when there
    /// are none and nothing is outstanding, the look has been applied.
    pub(super) fn advance_look(&mut self, mut look: Look) -> Vec<Command> {
        let side = look.side;
        if !look.all_listed() {
            self.looks[side as usize] = Some(look);
            return Vec::new();
        }
        if look.torn {
            self.look_anew(&look);
            return Vec::new();
        }
        self.place_replaced_folders(&mut look);
        if look.all_listed() {
            self.place_files(&mut look);
        }
        if look.torn {
            self.look_anew(&look);
            return Vec::new();
        }
        if !look.all_listed() {
            self.looks[side as usize] = Some(look);
            return Vec::new();
        }
        let gone = look.absences_to_confirm();
        let commands: Vec<Command> = gone
            .into_iter()
            .filter_map(|node| {
                let target = self.locator(side, node);
                if target.is_none() {
                    look.confirming.remove(&node);
                }
                Some(Command::Confirm { side, node, target: target? })
            })
            .collect();
        if look.is_confirmed() {
            self.apply_look(look);
        } else {
            self.looks[side as usize] = Some(look);
        }
        commands
    }

    /// A folder in the place of another: the same node with a new item, unless the old item was
    /// found elsewhere.
    fn place_replaced_folders(&mut self, look: &mut Look) {
        for (dir, entry) in std::mem::take(&mut look.replaced_folders) {
            let at = Placement { parent: dir, name: entry.name.clone() };
            let stood = self
                .trees
                .occupant(look.side, &at)
                .filter(|node| !look.placed.contains_key(node) && !self.moved_away.contains(node));
            let node = stood.unwrap_or_else(|| self.trees.create(Kind::Dir));
            look.place(node, dir, entry);
            look.want(node);
        }
    }

    fn place_files(&mut self, look: &mut Look) {
        let side = look.side;
        let mut left: Vec<(NodeId, Entry)> = Vec::new();
        for (dir, entries) in std::mem::take(&mut look.newcomers) {
            left.extend(entries.into_iter().map(|entry| (dir, entry)));
        }
        left.retain(|(dir, entry)| {
            let at = Placement { parent: *dir, name: entry.name.clone() };
            let writer = self.writer_of(side, &at);
            if let Some(writer) = writer {
                self.look_when_landed(side, writer, *dir);
            }
            writer.is_none()
        });
        left.retain(|(dir, entry)| !self.place_moved_file(look, *dir, entry));
        if !look.all_listed() {
            // A folder from which something was moved must be listed first; then again from here.
            for (dir, entry) in left {
                look.newcomers.entry(dir).or_default().push(entry);
            }
            return;
        }
        let twins = self.take_twins(look, &mut left);
        self.set_twins_aside(look, twins);
        left.retain(|(dir, entry)| !self.place_replaced_file(look, *dir, entry));
        for (dir, entry) in left {
            let node = self.trees.create(Kind::File);
            look.place(node, dir, entry);
        }
    }

    /// Files of a service that are in two places. On a disk that may be one file with two links.
    fn take_twins(&self, look: &Look, newcomers: &mut Vec<(NodeId, Entry)>) -> Vec<(NodeId, Name)> {
        let side = look.side;
        let placed = look.placed.values().map(|(_, entry)| entry.item.clone());
        let mut seen: HashSet<ItemId> = placed.collect();
        let mut twins = Vec::new();
        newcomers.retain(|(dir, entry)| {
            if !matches!(entry.item, ItemId::Key(_)) {
                return true;
            }
            let known = self.trees.by_item(side, &entry.item);
            let is_known = known.is_some_and(|node| self.trees.kind(node) == entry.kind);
            let is_first = seen.insert(entry.item.clone()) && !is_known;
            if !is_first {
                twins.push((*dir, entry.name.clone()));
            }
            is_first
        });
        twins
    }

    /// One item in two places: it was moved while the folders were listed, or one of the listings lags
    /// behind. The look tells nothing then; if that stays so, one place counts.
    fn set_twins_aside(&mut self, look: &mut Look, twins: Vec<(NodeId, Name)>) {
        const TRIES: u32 = 3;
        let side = look.side;
        look.torn |= !twins.is_empty() && self.torn_looks[side as usize] < TRIES;
        for (dir, name) in twins {
            let shown = self.path_in_look(look, dir).join(&name).to_string();
            let name = name.as_str().to_owned();
            self.blocked.insert((side, dir, name), (SkipReason::Duplicate, shown));
        }
    }

    /// Whether the item is known from another place that it has left.
    fn place_moved_file(&mut self, look: &mut Look, dir: NodeId, entry: &Entry) -> bool {
        let side = look.side;
        let Some(node) = self.trees.by_item(side, &entry.item) else { return false };
        let Some(facet) = self.trees.facet(side, node) else { return false };
        if self.trees.kind(node) != Kind::File
            || look.placed.contains_key(&node)
            || !is_surely_same_file(facet, entry)
        {
            return false;
        }
        if let Some(copy) = self.kept_copies.get(&node)
            && (copy.parent, &copy.name) == (dir, &entry.name)
        {
            // Killed while setting a version aside: the item under the copy's name is the copy.
            return false;
        }
        let from = facet.physical().parent;
        if !look.covers(from) && self.trees.has(side, from) {
            look.want(from);
            return false;
        }
        let has_left = look.missing.contains(&node) || look.gone.contains(&from);
        if !has_left && self.trees.has(side, from) {
            // Still where it was: this is a second link to the same file.
            return false;
        }
        look.place(node, dir, entry.clone());
        true
    }

    fn place_replaced_file(&mut self, look: &mut Look, dir: NodeId, entry: &Entry) -> bool {
        let at = Placement { parent: dir, name: entry.name.clone() };
        let Some(node) = self.trees.occupant(look.side, &at) else { return false };
        if self.trees.kind(node) != Kind::File || look.placed.contains_key(&node) {
            return false;
        }
        look.place(node, dir, entry.clone());
        true
    }

    /// Changes the trees by what the look found, all at once.
    fn apply_look(&mut self, look: Look) {
        let side = look.side;
        let mut edits: BTreeMap<NodeId, Option<Facet>> = BTreeMap::new();
        for (node, (dir, entry)) in &look.placed {
            if self.is_disturbed(&look, *node) {
                self.look_when_landed(side, *node, *dir);
            } else {
                edits.insert(*node, Some(self.seen_facet(side, *node, *dir, entry)));
            }
        }
        for node in &look.confirmed {
            self.lose_subtree(&look, *node, &mut edits);
        }
        if self.clashes(side, &edits) {
            // The side changed while it was listed, or we changed it.
            self.look_anew(&look);
            return;
        }
        self.torn_looks[side as usize] = 0;
        self.moved_away.clear();
        self.note_sweep(&look, &edits);
        let changed: Vec<NodeId> = edits.keys().copied().collect();
        for node in &changed {
            self.racy.remove(&(side, *node));
            if side == Side::Remote
                && let Some(op) = self.unseen.remove(node)
            {
                self.unsaved.finished.push(op);
            }
        }
        self.trees.set_facets(side, edits.into_iter().collect());
        for node in &look.ignored {
            self.forget_subtree(*node);
        }
        for node in changed {
            self.excuse_half_way(side, node);
            self.trees.settle(node);
            self.lift_failure(node);
            let written = self.trees.facet(side, node).is_some_and(|f| f.content().is_unread());
            if side == Side::Local && written {
                self.note_unsettled(node);
            }
        }
        self.discard_unborn(&look);
        self.end_look(&look);
    }

    /// Drops a look whose findings do not fit together and looks again, unless that was in vain too
    /// often: then the side counts as not seen at all in this run.
    fn look_anew(&mut self, look: &Look) {
        let side = look.side;
        self.discard_unborn(look);
        self.torn_looks[side as usize] += 1;
        if self.torn_looks[side as usize] > TORN_LOOKS_MAX {
            let message = "it changes all the time while it is looked at".to_owned();
            self.blind.insert((side, NodeId::ROOT), Problem::Unlisted(message));
            self.end_look(look);
        } else {
            match look.extent {
                Extent::Some => self.dirty[side as usize].extend(look.asked()),
                Extent::Full => {
                    self.full_look_wanted[side as usize] = self.looked[side as usize];
                }
            }
        }
    }

    fn end_look(&mut self, look: &Look) {
        if look.extent == Extent::Full {
            self.looked[look.side as usize] = true;
            self.full_look_at[look.side as usize] = Some(look.began);
            if let Some(sweep) = self.sweep.as_mut().filter(|_| look.side == Side::Remote) {
                sweep.listed_whole(look.began);
            }
            if look.side == Side::Remote {
                self.full_look_took = self.now.since(look.began);
                self.lags = look.late.iter().any(|node| !self.is_disturbed(look, *node));
            }
        }
        self.plan_wanted = true;
    }

    /// Nodes made for newcomers that then were not placed.
    fn discard_unborn(&mut self, look: &Look) {
        for node in look.placed.keys() {
            let unborn = self
                .trees
                .get(*node)
                .is_some_and(|n| n.base.is_none() && n.local.is_none() && n.remote.is_none());
            if unborn {
                self.trees.forget(*node);
            }
        }
    }

    fn is_disturbed(&self, look: &Look, node: NodeId) -> bool {
        look.disturbed.contains(&node) || self.is_in_flight(node)
    }

    /// Another look at a folder, as soon as no operation changes the node any more.
    fn look_when_landed(&mut self, side: Side, node: NodeId, dir: NodeId) {
        if self.is_in_flight(node) {
            self.after_flight.entry(node).or_default().push((side, dir));
        } else {
            self.look_at(side, dir);
        }
    }

    fn seen_facet(&self, side: Side, node: NodeId, dir: NodeId, entry: &Entry) -> Facet {
        let old = self.trees.facet(side, node);
        let content = match old {
            Some(old)
                if is_same_item(old, self.trees.kind(node), entry)
                    && self.is_unchanged(side, node, old, entry) =>
            {
                *old.content()
            }
            Some(_) | None => entry.content(),
        };
        let place = |name: Name| Placement { parent: dir, name };
        let (at, parked) = match (parked_key(&entry.name), old) {
            (None, _) => (place(entry.name.clone()), None),
            (Some(_), Some(old)) => (place(old.at().name.clone()), Some(entry.name.clone())),
            // Parked by a state database that is lost: it gets a name that people can see.
            (Some(key), None) => {
                let name = Name::new(&format!("foldsync-recovered-{key}"));
                (place(name.unwrap_or(entry.name.clone())), Some(entry.name.clone()))
            }
        };
        let mut facet = Facet::new(at, content, entry.item.clone(), entry.rev.clone());
        facet.parked = parked;
        facet
    }

    /// A node that is surely gone, with everything below it that was not found elsewhere. If an
    /// operation changed something there since, all of it stays for another look.
    fn lose_subtree(
        &mut self,
        look: &Look,
        top: NodeId,
        edits: &mut BTreeMap<NodeId, Option<Facet>>,
    ) {
        let mut gone = Vec::new();
        let mut left = vec![top];
        while let Some(node) = left.pop() {
            if edits.contains_key(&node) {
                continue;
            }
            if self.is_disturbed(look, node) {
                if let Some(dir) = self.trees.facet(look.side, top).map(|facet| facet.at().parent) {
                    self.look_when_landed(look.side, node, dir);
                }
                return;
            }
            gone.push(node);
            left.extend(self.trees.children(look.side, node).map(|(_, child)| child));
        }
        edits.extend(gone.into_iter().map(|node| (node, None)));
    }

    /// Whether two nodes would have one place after the edits, or one would be in no folder.
    fn clashes(&self, side: Side, edits: &BTreeMap<NodeId, Option<Facet>>) -> bool {
        let mut places = HashSet::new();
        for facet in edits.values().flatten() {
            let place = facet.physical();
            let held = self.trees.occupant(side, &place).filter(|node| !edits.contains_key(node));
            let parent = place.parent;
            let orphaned = parent != NodeId::ROOT
                && match edits.get(&parent) {
                    Some(edit) => edit.is_none(),
                    None => !self.trees.has(side, parent),
                };
            if held.is_some() || orphaned || !places.insert(place) {
                return true;
            }
        }
        edits.keys().any(|node| self.is_in_itself(side, *node, edits))
    }

    /// Whether a folder would lie below itself after the edits.
    fn is_in_itself(
        &self,
        side: Side,
        node: NodeId,
        edits: &BTreeMap<NodeId, Option<Facet>>,
    ) -> bool {
        let parent = |node: NodeId| match edits.get(&node) {
            Some(edit) => edit.as_ref().map(|facet| facet.at().parent),
            None => self.trees.facet(side, node).map(|facet| facet.at().parent),
        };
        // What is new, or stays in its folder, makes no circle by itself.
        let before = self.trees.facet(side, node).map(|facet| facet.at().parent);
        if self.trees.kind(node) == Kind::File || before.is_none() || before == parent(node) {
            return false;
        }
        let mut at = parent(node);
        for _ in 0..PATH_DEPTH_MAX {
            match at {
                None | Some(NodeId::ROOT) => return false,
                Some(above) if above == node => return true,
                Some(above) => at = parent(above),
            }
        }
        true
    }

    fn forget_subtree(&mut self, top: NodeId) {
        let mut left = vec![top];
        let mut all = BTreeSet::new();
        while let Some(node) = left.pop() {
            if all.insert(node) {
                for side in Side::BOTH {
                    left.extend(self.trees.children(side, node).map(|(_, child)| child));
                }
            }
        }
        if !all.iter().any(|node| self.is_in_flight(*node)) {
            all.into_iter().for_each(|node| self.trees.forget(node));
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

/// Uploads under way, ours or another device's: not content yet.
fn is_staged(name: &Name) -> bool {
    name.as_str().starts_with(INTERNAL_PREFIX) && !name.as_str().starts_with(PARK_PREFIX)
}

/// What a parked item, or an old version that made room for a new one, is marked with.
fn parked_key(name: &Name) -> Option<&str> {
    let set_aside = || name.as_str().strip_prefix(INTERNAL_PREFIX)?.strip_suffix(REPLACED_SUFFIX);
    name.as_str().strip_prefix(PARK_PREFIX).or_else(set_aside)
}

fn is_same_item(facet: &Facet, kind: Kind, entry: &Entry) -> bool {
    facet.item == entry.item && kind == entry.kind
}

/// An inode number alone proves nothing: it may have been given to another file since. A birth time
/// does, and so do equal size and modification time. (MV-24)
fn is_surely_same_file(facet: &Facet, entry: &Entry) -> bool {
    match &entry.item {
        ItemId::Key(_) => true,
        ItemId::Inode { born_ns, .. } => {
            *born_ns != 0
                || (facet.content().size() == entry.size && has_same_mtime(&facet.rev, &entry.rev))
        }
    }
}

fn has_same_mtime(a: &Rev, b: &Rev) -> bool {
    a.modified_ns().is_some() && a.modified_ns() == b.modified_ns()
}

/// Whether a content that was read at `at_ns` may have been written again within the same tick of the
/// file system's clock, so that the times cannot tell.
pub(super) fn is_racy(rev: &Rev, at_ns: i64) -> bool {
    /// Linux stamps files with a clock of 1 to 10 ms.
    const FINE_NS: i64 = 50_000_000;
    /// File systems that keep whole seconds, or two.
    const COARSE_NS: i64 = 2_000_000_000;
    match rev {
        Rev::Tag { .. } => false,
        Rev::Stat { mtime_ns, ctime_ns } => {
            let coarse = mtime_ns % 1_000_000_000 == 0 && ctime_ns % 1_000_000_000 == 0;
            let tick_ns = if coarse { COARSE_NS } else { FINE_NS };
            at_ns.saturating_sub(*mtime_ns) < tick_ns
        }
    }
}
