//! Items that are in the folders of a side but not in the trees: conflict copies that a rule ignores,
//! names of foldsync's own that a user gave, and the rest of folders that the other side deleted.
//!
//! Owns what is remembered of them and what it means: a conflict is open while its copy is there,
//! and a folder that is kept for its rest gives its name up to whoever needs it. Decides nothing
//! about entries that are synced.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Engine;
use super::job::{Failure, FailureKind};
use super::report::SkippedItem;
use super::retry::Trouble;
use crate::local::{Listing, SkipReason, Skipped};
use crate::plan::conflict_name::is_copy;
use crate::plan::{Op, Wait};
use crate::tree::{Entry, InternalName, Kind, Name, NodeId, RelPath, Side};

/// See the module text.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Conflict copies that a rule ignores, by the local folder in which they are.
    copies: HashMap<NodeId, BTreeSet<Name>>,
    /// What the last listing of a folder that could not be deleted showed in it. `None`: some of it
    /// must stay where it is.
    rests: HashMap<(Side, NodeId), Option<BTreeSet<String>>>,
    /// Folders that were looked at again to know their rest.
    asked: HashSet<NodeId>,
    /// Folders that give their names up: their rest is moved aside instead of kept.
    giving_way: HashSet<NodeId>,
    /// What waits in the last plan, if nothing of it can run.
    pub(super) waits: Vec<Wait>,
}

impl LeftOut {
    pub(super) fn begin_cycle(&mut self) {
        self.rests.clear();
        self.asked.clear();
        self.giving_way.clear();
    }
}

impl Engine {
    // ---- listings ------------------------------------------------------------------------------

    /// A name of a form that only a swap on the remote gives is the user's own where nothing is
    /// swapped. Without it the item could not be told from one under way, so it is left out, and
    /// said.
    pub(super) fn set_reserved_names_aside(&self, side: Side, listing: &mut Listing) {
        if side == Side::Remote && self.settings.stages_on_remote {
            return;
        }
        let is_reserved = |name: &Name| name.internal().is_some_and(InternalName::is_in_transit);
        if !listing.entries.iter().any(|entry| is_reserved(&entry.name)) {
            return;
        }
        let (reserved, entries) = std::mem::take(&mut listing.entries)
            .into_iter()
            .partition(|entry| is_reserved(&entry.name));
        listing.entries = entries;
        let reserved: Vec<Entry> = reserved;
        listing.skipped.extend(reserved.into_iter().map(|entry| Skipped {
            name: entry.name.as_str().to_owned(),
            reason: SkipReason::Reserved,
        }));
    }

    pub(super) fn note_left_out(
        &mut self,
        side: Side,
        dir: NodeId,
        path: &RelPath,
        listing: &Listing,
    ) {
        let rules = &self.rules;
        let ignored = |name: &Name, kind| rules.is_ignored(&path.join(name), kind).is_some();
        let mut copies = BTreeSet::new();
        for Entry { name, kind, .. } in &listing.entries {
            if side == Side::Local && is_copy(name) && ignored(name, *kind) {
                copies.insert(name.clone());
            }
            // A file of that name would be synced, but there is no room for it.
            if *kind == Kind::Dir && ignored(name, Kind::Dir) && !ignored(name, Kind::File) {
                let key = (side, dir, name.as_str().to_owned());
                let shown = path.join(name).to_string();
                self.blocked.insert(key, (SkipReason::Ignored, shown));
            }
        }
        if self.not_empty.contains(&dir) {
            let of_rules = listing.entries.iter().filter(|entry| ignored(&entry.name, entry.kind));
            let names = of_rules.map(|entry| entry.name.as_str().to_owned());
            let names = names.chain(listing.skipped.iter().map(|skipped| skipped.name.clone()));
            let is_movable = listing.skipped.iter().all(|skipped| skipped.reason.is_movable());
            self.left_out.rests.insert((side, dir), is_movable.then(|| names.collect()));
        }
        if copies.is_empty() && side == Side::Local {
            self.left_out.copies.remove(&dir);
        } else if side == Side::Local {
            self.left_out.copies.insert(dir, copies);
        }
    }

    // ---- conflict copies -----------------------------------------------------------------------

    /// Whether a rule ignores what was just given this name. Then it is no part of the trees, and
    /// remembered as what it is.
    pub(super) fn is_ignored_copy(&mut self, dir: NodeId, path: &RelPath) -> bool {
        let Some((_, name)) = path.split_last() else { return false };
        let ignored = is_copy(&name) && self.rules.is_ignored(path, Kind::File).is_some();
        if ignored {
            self.left_out.copies.entry(dir).or_default().insert(name);
        }
        ignored
    }

    /// A conflict copy is gone if both sides were listed without it. Where a rule ignores it, only a
    /// listing of its own folder tells.
    pub(super) fn is_copy_gone(&self, copy: &RelPath) -> bool {
        if Side::BOTH.iter().any(|side| self.trees.resolve(*side, copy).is_some()) {
            return false;
        }
        let Some((parent, name)) = copy.split_last() else { return true };
        if self.rules.is_ignored(copy, Kind::File).is_none() {
            return true;
        }
        let Some(dir) = self.trees.resolve(Side::Local, &parent) else {
            // A folder that a rule ignores is never listed.
            return self.rules.is_ignored(&parent, Kind::Dir).is_none();
        };
        let is_kept = self.left_out.copies.get(&dir).is_some_and(|names| names.contains(&name));
        !is_kept && !self.is_unlisted(Side::Local, dir)
    }

    /// Whether a folder, or one above it, could not be listed.
    fn is_unlisted(&self, side: Side, dir: NodeId) -> bool {
        let mut at = dir;
        loop {
            if self.blind.contains_key(&(side, at)) {
                return true;
            }
            match self.trees.facet(side, at) {
                Some(facet) => at = facet.at().parent,
                None => return self.blind.contains_key(&(side, NodeId::ROOT)),
            }
        }
    }

    // ---- folders that are kept for their rest --------------------------------------------------

    /// A folder that cannot be deleted, because it holds something that is not synced, is kept.
    pub(super) fn keep_for_rest(&mut self, op: &Op) {
        let failure = Failure {
            kind: FailureKind::NotEmpty,
            side: op.side,
            unknown: false,
            unfinished: false,
            retry_after: None,
            message: "it holds something that is not synced".to_owned(),
        };
        let trouble = Trouble { attempts: 0, retry_at: None, failure, op: "delete" };
        self.troubles.insert(op.node, trouble);
        self.plan_wanted = true;
    }

    /// The side on which a folder is kept for its rest.
    fn keeping_side(&self, node: NodeId) -> Option<Side> {
        let trouble = self.troubles.get(&node)?;
        (trouble.failure.kind == FailureKind::NotEmpty).then_some(trouble.failure.side)
    }

    /// Folders that are kept stay only as long as nobody needs their names.
    pub(super) fn free_wanted_names(&mut self) {
        let wanted = self.left_out.waits.iter().filter(|wait| wait.for_name);
        let kept = wanted.filter(|wait| self.keeping_side(wait.holder).is_some());
        let kept: Vec<Wait> = kept.copied().collect();
        let mut holders = BTreeSet::new();
        for wait in kept {
            if !self.adopt_kept_folder(wait) {
                holders.insert(wait.holder);
            }
        }
        for holder in holders {
            self.give_way(holder);
        }
    }

    /// A new folder in the place of one that is kept is that folder again: its rest stays where it
    /// is. Says whether it is.
    fn adopt_kept_folder(&mut self, wait: Wait) -> bool {
        let there = self.trees.facet(wait.side.other(), wait.node);
        let Some(at) = there.map(|facet| facet.at().clone()) else { return false };
        let is_new_folder =
            self.trees.kind(wait.node) == Kind::Dir && !self.trees.has(wait.side, wait.node);
        let kept = self.trees.occupant(wait.side, &at).filter(|kept| {
            self.trees.kind(*kept) == Kind::Dir && !self.trees.has(wait.side.other(), *kept)
        });
        let Some(kept) = kept.filter(|_| is_new_folder) else { return false };
        // Without a base the other side never deleted it: the two are bound.
        self.trees.set_base(kept, None);
        self.troubles.remove(&kept);
        self.plan_wanted = true;
        true
    }

    fn give_way(&mut self, holder: NodeId) {
        let Some(side) = self.keeping_side(holder) else { return };
        if self.trees.has_children(side, holder) || self.left_out.giving_way.contains(&holder) {
            return;
        }
        match self.left_out.rests.get(&(side, holder)) {
            Some(Some(_)) => {
                self.left_out.giving_way.insert(holder);
                self.troubles.remove(&holder);
                self.plan_wanted = true;
            }
            Some(None) => {}
            None if self.left_out.asked.insert(holder) => {
                self.not_empty.insert(holder);
                self.look_at(side, holder);
            }
            None => {}
        }
    }

    /// What a deletion of a folder may find in it and is to move aside.
    pub(super) fn rest_to_move(&self, side: Side, node: NodeId) -> Option<BTreeSet<String>> {
        let gives_way = self.left_out.giving_way.contains(&node);
        gives_way.then(|| self.left_out.rests.get(&(side, node)).cloned())??
    }

    // ---- telling -------------------------------------------------------------------------------

    /// What waits for something that no other line of the report names. A folder that waits only for
    /// one in it that is kept is kept by the same rule.
    pub(super) fn waiting_items(&self) -> Vec<SkippedItem> {
        let waits = &self.left_out.waits;
        if waits.is_empty() {
            return Vec::new();
        }
        let mut told = self.busy_nodes();
        told.retain(|node| self.keeping_side(*node).is_none());
        told.extend(self.last_plan.holds.iter().map(|hold| hold.node));
        told.extend(self.last_plan.brakes.iter().flat_map(|brake| &brake.nodes));
        told.extend(self.blocked_ops.iter().map(|op| op.node));
        let is_by_rule = |wait: &Wait| self.keeping_side(wait.holder).is_some() && !wait.for_name;
        waits
            .iter()
            .filter(|wait| !told.contains(&wait.holder) && !told.contains(&wait.node))
            .filter(|wait| !is_by_rule(wait))
            .map(|wait| SkippedItem {
                path: self.trees.display_path(wait.node).to_string(),
                reason: self.wait_reason(wait),
            })
            .collect()
    }

    fn wait_reason(&self, wait: &Wait) -> String {
        let holder = self.trees.display_path(wait.holder);
        match (wait.for_name, self.keeping_side(wait.holder)) {
            (true, Some(side)) => format!(
                "waits for the name that {holder} holds, which is kept on the {side} side for items \
                 in it that are not synced: move them, or delete the folder"
            ),
            (true, None) => {
                format!("waits for the name that {holder} holds on the {} side", wait.side)
            }
            (false, _) if wait.holder == wait.node => {
                "waits until other items with this name are read".to_owned()
            }
            (false, _) => format!("waits for the folder {holder} on the {} side", wait.side),
        }
    }
}
