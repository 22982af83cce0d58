//! The end of a look, once all of it is in: which nodes the newcomers are, what is gone for good, and
//! the edit of the trees. A look that does not fit together is begun anew.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{PATH_DEPTH_MAX, may_be_item, parked_key};
use crate::engine::look::{Extent, Look};
use crate::engine::{Command, Engine, Problem};
use crate::local::SkipReason;
use crate::plan::conflict_name::is_copy_of;
use crate::tree::{Entry, Facet, ItemId, Kind, Name, NodeId, Placement, Side};

/// How often a side may change while it is looked at.
const TORN_LOOKS_MAX: u32 = 8;

impl Engine {
    /// Goes on with a look whose listings are in. Returns the commands it still needs; when there
    /// are none and nothing is outstanding, the look has been applied.
    pub(in crate::engine) fn advance_look(&mut self, mut look: Look) -> Vec<Command> {
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
        self.place_moved_folders(&mut look);
        if look.all_listed() {
            let proofs = self.prove_moved_files(&mut look);
            if look.is_proving() {
                self.looks[side as usize] = Some(look);
                return proofs;
            }
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
                .filter(|node| self.trees.kind(*node) == Kind::Dir)
                .or_else(|| self.carried_to(look, &at, Kind::Dir))
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

    /// Whether an item, though it seems to be the file under another name, is the copy of a version of it
    /// that was set aside: by a process of ours that was killed then, or by the other end.
    pub(super) fn is_copy_of_it(
        &self,
        look: &mut Look,
        node: NodeId,
        dir: NodeId,
        entry: &Entry,
    ) -> bool {
        let side = look.side;
        let kept = self.kept_copies.get(&node);
        if kept.is_some_and(|(at, copy)| (*at, copy.parent, &copy.name) == (side, dir, &entry.name))
        {
            return true;
        }
        let is_set_aside = self.is_set_aside(side, node, dir, entry);
        if is_set_aside {
            look.set_aside.insert(node);
        }
        is_set_aside
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
    pub(super) fn set_twins_aside(&mut self, look: &mut Look, twins: Vec<(NodeId, Name)>) {
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
        if self.trees.kind(node) != Kind::File || look.placed.contains_key(&node) {
            return false;
        }
        if self.is_copy_of_it(look, node, dir, entry) {
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

    /// Whether the other end of the pair, which does the same as this one, gave this version the name
    /// of a conflict copy: that is a new file, and nobody renamed the file of which it is a version.
    fn is_set_aside(&self, side: Side, node: NodeId, dir: NodeId, entry: &Entry) -> bool {
        let at = |side| self.trees.facet(side, node).map(Facet::at);
        let (Some(was), Some(other)) = (at(side), at(side.other())) else { return false };
        self.faces_a_peer()
            && was == other
            && was.parent == dir
            && is_copy_of(&entry.name, &was.name)
    }

    fn place_replaced_file(&mut self, look: &mut Look, dir: NodeId, entry: &Entry) -> bool {
        let at = Placement { parent: dir, name: entry.name.clone() };
        let occupant = self.trees.occupant(look.side, &at);
        let Some(node) = occupant.or_else(|| self.carried_to(look, &at, Kind::File)) else {
            return false;
        };
        if self.trees.kind(node) != Kind::File || look.placed.contains_key(&node) {
            return false;
        }
        look.place(node, dir, entry.clone());
        true
    }

    /// The node that an operation was moving to a place, and whose outcome nobody could record, if its
    /// item is gone: a disk that refuses to rename between folders has it copied. What the copy holds
    /// is read anew.
    fn carried_to(&self, look: &Look, at: &Placement, kind: Kind) -> Option<NodeId> {
        let is_carried = |node: &NodeId| {
            let facet = self.trees.facet(look.side, *node);
            facet.is_some_and(|facet| {
                let is_gone =
                    look.missing.contains(node) || look.gone.contains(&facet.physical().parent);
                matches!(facet.item, ItemId::Inode { .. }) && is_gone
            })
        };
        let mut moving = self.moving.iter().filter(|(_, to)| *to == at).map(|(node, _)| *node);
        moving.find(|node| self.trees.kind(*node) == kind && is_carried(node))
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
            self.racy.trust(side, *node);
            self.note_proof(&look, *node);
            if side == Side::Remote
                && let Some(op) = self.unseen.remove(node)
            {
                self.unsaved.finished.push(op);
            }
        }
        self.trees.set_facets(side, edits.into_iter().collect());
        for node in &look.set_aside {
            if !self.trees.has(side, *node) {
                // Nobody deleted it either: it comes back as the other side's version.
                self.trees.set_base(*node, None);
            }
        }
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
            self.gave_up_look[side as usize] = true;
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
    pub(super) fn look_when_landed(&mut self, side: Side, node: NodeId, dir: NodeId) {
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
                if may_be_item(old, self.trees.kind(node), entry)
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
                let name = Name::new(&format!("foldsync-recovered-{key:x}"));
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
}
