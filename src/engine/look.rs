//! One look at a side: which folders are to be listed, and what was found that has no node yet.
//!
//! A look is complete or it says nothing: the trees change only when every folder of it was listed
//! and every absence was confirmed. `ingest` decides which node each newcomer is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::clock::Timestamp;
use crate::tree::{Digest, Entry, ItemId, Name, NodeId, Side};

/// The content of a newcomer, read to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) digest: Digest,
    /// When reading began.
    pub(super) at: Timestamp,
}

/// How much of a side is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The whole tree, folder by folder.
    Full,
    /// The folders that were asked for, and folders that turn out to be new.
    Some,
}

#[derive(Debug)]
pub(super) struct Look {
    pub(super) side: Side,
    pub(super) extent: Extent,
    pub(super) began: Timestamp,
    to_list: VecDeque<NodeId>,
    asked: HashSet<NodeId>,
    /// Folders that are being listed, with the time since when.
    listing: BTreeMap<NodeId, Timestamp>,
    /// Folders that were listed: when, and how many entries they had.
    pub(super) read: BTreeMap<NodeId, (Timestamp, usize)>,
    /// Entries without a node, by folder.
    pub(super) newcomers: BTreeMap<NodeId, Vec<Entry>>,
    /// Folders that stand where another folder stood: which one they are is known at the end.
    pub(super) replaced_folders: Vec<(NodeId, Entry)>,
    /// Nodes whose folder was listed without them.
    pub(super) missing: BTreeSet<NodeId>,
    /// Nodes that were found changed or elsewhere: now in this folder, as this entry.
    pub(super) placed: BTreeMap<NodeId, (NodeId, Entry)>,
    /// Nodes of which the other end of the pair set this side's version aside.
    pub(super) set_aside: BTreeSet<NodeId>,
    /// Nodes that the rules ignore now.
    pub(super) ignored: BTreeSet<NodeId>,
    /// Absences whose confirmation is under way, and those that were confirmed.
    pub(super) confirming: BTreeSet<NodeId>,
    pub(super) confirmed: BTreeSet<NodeId>,
    /// Nodes that a listing lacked, although they are there.
    pub(super) late: BTreeSet<NodeId>,
    confirmations_asked: bool,
    /// Nodes that an operation changed since the look began: what the look saw of them is old.
    pub(super) disturbed: HashSet<NodeId>,
    /// Folders that were not there when they were listed; nothing in them is where it was.
    pub(super) gone: HashSet<NodeId>,
    /// The items of all folders that were met.
    folder_items: HashSet<ItemId>,
    /// Newcomers whose content is being read to tell whether they were moved, and what was found.
    proving: BTreeSet<(NodeId, Name)>,
    pub(super) proofs: BTreeMap<(NodeId, Name), Option<Proof>>,
    /// Folders that were seen in the listings of their parents.
    pub(super) seen: HashSet<NodeId>,
    /// The side changed under the look: a folder that was seen was not there when it was listed. What
    /// was found may fit together no more.
    pub(super) torn: bool,
}

impl Look {
    pub(super) fn new(
        side: Side,
        extent: Extent,
        began: Timestamp,
        dirs: impl IntoIterator<Item = NodeId>,
    ) -> Look {
        let mut look = Look {
            side,
            extent,
            began,
            to_list: VecDeque::new(),
            asked: HashSet::new(),
            listing: BTreeMap::new(),
            read: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            replaced_folders: Vec::new(),
            missing: BTreeSet::new(),
            placed: BTreeMap::new(),
            set_aside: BTreeSet::new(),
            ignored: BTreeSet::new(),
            confirming: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            late: BTreeSet::new(),
            confirmations_asked: false,
            disturbed: HashSet::new(),
            gone: HashSet::new(),
            folder_items: HashSet::new(),
            proving: BTreeSet::new(),
            proofs: BTreeMap::new(),
            seen: HashSet::new(),
            torn: false,
        };
        for dir in dirs {
            look.want(dir);
        }
        look
    }

    /// Asks for a folder, once.
    pub(super) fn want(&mut self, dir: NodeId) {
        if self.asked.insert(dir) {
            self.to_list.push_back(dir);
        }
    }

    /// Asks for a folder whose listing failed.
    pub(super) fn want_again(&mut self, dir: NodeId) {
        self.asked.insert(dir);
        self.to_list.push_back(dir);
    }

    /// Whether the folder was, or will be, listed in this look.
    pub(super) fn covers(&self, dir: NodeId) -> bool {
        self.asked.contains(&dir)
    }

    pub(super) fn next_to_list(&mut self, now: Timestamp) -> Option<NodeId> {
        let dir = self.to_list.pop_front()?;
        self.listing.insert(dir, now);
        Some(dir)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.listing.len()
    }

    /// The end of a listing, with or without success; when it began.
    pub(super) fn listed(&mut self, dir: NodeId) -> Option<Timestamp> {
        self.listing.remove(&dir)
    }

    pub(super) fn all_listed(&self) -> bool {
        self.to_list.is_empty() && self.listing.is_empty()
    }

    /// Whether a node was found as another item than this one.
    pub(super) fn is_other_item(&self, node: NodeId, item: &ItemId) -> bool {
        self.placed.get(&node).is_some_and(|(_, entry)| entry.item != *item)
    }

    /// All folders that were asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.asked.iter().copied()
    }

    /// Whether a folder of this identity was met before, as far as identities prove anything.
    pub(super) fn is_second(&mut self, item: &ItemId) -> bool {
        item.is_proof() && !self.folder_items.insert(item.clone())
    }

    // ---- proofs ---------------------------------------------------------------------------

    /// Asks for the content of a newcomer; false if it was asked for before.
    pub(super) fn prove(&mut self, dir: NodeId, name: &Name) -> bool {
        let newcomer = (dir, name.clone());
        !self.proofs.contains_key(&newcomer) && self.proving.insert(newcomer)
    }

    pub(super) fn proved(&mut self, dir: NodeId, name: Name, proof: Option<Proof>) {
        self.proving.remove(&(dir, name.clone()));
        self.proofs.insert((dir, name), proof);
    }

    pub(super) fn is_proving(&self) -> bool {
        !self.proving.is_empty()
    }

    /// Takes back that a folder is this new node, with all that was placed below it (`below` says what
    /// is placed in which folder): it is found again under the node that the folder turns out to be.
    pub(super) fn withdraw(
        &mut self,
        top: NodeId,
        below: &HashMap<NodeId, Vec<NodeId>>,
    ) -> Vec<NodeId> {
        let mut withdrawn = vec![top];
        let mut at = 0;
        while let Some(dir) = withdrawn.get(at).copied() {
            at += 1;
            self.newcomers.remove(&dir);
            self.read.remove(&dir);
            self.placed.remove(&dir);
            withdrawn.extend(below.get(&dir).into_iter().flatten());
        }
        self.replaced_folders.retain(|(parent, _)| !withdrawn.contains(parent));
        withdrawn
    }

    // ---- placing --------------------------------------------------------------------------

    pub(super) fn place(&mut self, node: NodeId, dir: NodeId, entry: Entry) {
        self.placed.insert(node, (dir, entry));
        if self.gone.remove(&node) {
            // Found after all, elsewhere: that is where its listing is.
            self.want_again(node);
        }
    }

    /// The absences to confirm, once.
    pub(super) fn absences_to_confirm(&mut self) -> Vec<NodeId> {
        if std::mem::replace(&mut self.confirmations_asked, true) {
            return Vec::new();
        }
        let gone: Vec<NodeId> =
            self.missing.iter().filter(|node| !self.placed.contains_key(node)).copied().collect();
        self.confirming.extend(&gone);
        gone
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmations_asked && self.confirming.is_empty()
    }
}
