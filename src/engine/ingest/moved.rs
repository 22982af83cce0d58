//! What was moved on a disk whose numbers prove nothing: recognised by what is in it.
//!
//! A folder is one that left its place if most of what was in that one is in it, by name, size and
//! time. A file is one that left its place if its bytes are the same, which are read for that. What is
//! not recognised costs a transfer, and never gives a file the bytes of another one.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::clock::Timestamp;
use crate::engine::job::Expected;
use crate::engine::look::{Look, Proof};
use crate::engine::{Command, Engine};
use crate::remote::Locator;
use crate::tree::{Digest, Entry, Kind, Name, NodeId, RelPath, Rev, Side};

/// What something in a folder is known by: its name, and of a file its size and time.
type Mark = (Name, Option<(u64, Rev)>);

/// More folders than this that have the same thing in them tell nothing about it.
const HOLDERS_MAX: usize = 64;

impl Engine {
    // ---- folders ---------------------------------------------------------------------------

    /// New folders in which most of a folder is that left its place are that folder. They are listed
    /// once more as such: what is in them is then compared with what was.
    pub(super) fn place_moved_folders(&mut self, look: &mut Look) {
        let side = look.side;
        if look.missing.is_empty() && look.gone.is_empty() {
            return;
        }
        let newcomers: Vec<NodeId> = look
            .placed
            .iter()
            .filter(|(node, (dir, entry))| {
                let is_new = self.is_unborn(**node) && !self.is_unborn(*dir);
                entry.kind == Kind::Dir && is_new
            })
            .map(|(node, _)| *node)
            .collect();
        if newcomers.is_empty() {
            return;
        }
        let are_proven = newcomers.iter().all(|node| look.placed[node].1.item.is_proof());
        let holders = self.holders(look, are_proven);
        let below = placed_below(look);
        let mut pairs = Vec::new();
        for newcomer in newcomers {
            let votes = votes(look, &below, newcomer, &holders);
            pairs.extend(votes.into_iter().map(|(gone, common)| (common, newcomer, gone)));
        }
        pairs.retain(|(common, newcomer, gone)| {
            let entry = look.placed.get(newcomer).map(|(_, entry)| entry);
            let may_be = entry.is_some_and(|entry| self.may_have_become(side, *gone, entry));
            may_be && 2 * common >= self.trees.children(side, *gone).count()
        });
        let name_stays = |newcomer: &NodeId, gone: &NodeId| {
            let entry = look.placed.get(newcomer).map(|(_, entry)| &entry.name);
            entry == self.trees.facet(side, *gone).map(|facet| &facet.at().name)
        };
        pairs.sort_by_key(|(common, newcomer, gone)| {
            (std::cmp::Reverse(*common), !name_stays(newcomer, gone), *newcomer, *gone)
        });
        let mut taken: HashSet<NodeId> = HashSet::new();
        for (_, newcomer, gone) in pairs {
            if !taken.contains(&newcomer) && !taken.contains(&gone) {
                taken.extend([newcomer, gone]);
                self.take_for_moved(look, newcomer, gone, &below);
            }
        }
    }

    fn take_for_moved(
        &mut self,
        look: &mut Look,
        newcomer: NodeId,
        gone: NodeId,
        below: &HashMap<NodeId, Vec<NodeId>>,
    ) {
        let Some((dir, entry)) = look.placed.get(&newcomer).cloned() else { return };
        for unborn in look.withdraw(newcomer, below) {
            self.trees.forget(unborn);
        }
        look.missing.remove(&gone);
        look.gone.remove(&gone);
        look.place(gone, dir, entry);
        look.want_again(gone);
    }

    /// A node that was made for a newcomer.
    fn is_unborn(&self, node: NodeId) -> bool {
        let is_born =
            |n: &crate::tree::Node| n.base.is_some() || n.local.is_some() || n.remote.is_some();
        node != NodeId::ROOT && !self.trees.get(node).is_some_and(is_born)
    }

    /// Which folders that left their places had something of that mark in them. Where the newcomers'
    /// identities are proven, only folders whose own ones are not.
    fn holders(&self, look: &Look, are_proven: bool) -> HashMap<Mark, Vec<NodeId>> {
        let mut holders: HashMap<Mark, Vec<NodeId>> = HashMap::new();
        let is_open = |node: &NodeId| {
            let facet = self.trees.facet(look.side, *node);
            let is_proof = facet.is_some_and(|facet| facet.item.is_proof());
            self.trees.kind(*node) == Kind::Dir && !(are_proven && is_proof)
        };
        for folder in self.departed(look).into_iter().filter(is_open) {
            for (name, child) in self.trees.children(look.side, folder) {
                let of_file = self
                    .trees
                    .facet(look.side, child)
                    .filter(|_| self.trees.kind(child) == Kind::File);
                let known_by = of_file.map(|facet| (facet.content().size(), mtime(&facet.rev)));
                holders.entry((name.clone(), known_by)).or_default().push(folder);
            }
        }
        holders
    }

    /// What is not where it was, with everything below it, as far as it was not found elsewhere.
    fn departed(&self, look: &Look) -> Vec<NodeId> {
        let mut left: Vec<NodeId> = look.missing.iter().chain(&look.gone).copied().collect();
        let mut seen = HashSet::new();
        let mut departed = Vec::new();
        while let Some(node) = left.pop() {
            if look.placed.contains_key(&node)
                || look.read.contains_key(&node)
                || !seen.insert(node)
            {
                continue;
            }
            departed.push(node);
            left.extend(self.trees.children(look.side, node).map(|(_, child)| child));
        }
        departed
    }

    // ---- files -----------------------------------------------------------------------------

    /// Newcomers that may be files that left their places: the commands to read them. When all of that
    /// is in, those that are what they seemed to be are placed, and the others have their hash.
    pub(super) fn prove_moved_files(&mut self, look: &mut Look) -> Vec<Command> {
        if look.newcomers.is_empty() || look.is_proving() {
            return Vec::new();
        }
        let candidates = self.departed_files(look);
        if candidates.is_empty() {
            return Vec::new();
        }
        let may_have_moved = |entry: &Entry| {
            let alike = candidates.get(&likeness(look.side, entry.size, &entry.rev));
            alike.into_iter().flatten().any(|node| self.may_have_become(look.side, *node, entry))
        };
        let wanted: Vec<(NodeId, Entry)> = look
            .newcomers
            .iter()
            .flat_map(|(dir, entries)| entries.iter().map(|entry| (*dir, entry)))
            .filter(|(_, entry)| entry.kind == Kind::File && may_have_moved(entry))
            .map(|(dir, entry)| (dir, entry.clone()))
            .collect();
        let mut commands = Vec::new();
        for (dir, entry) in wanted {
            if look.prove(dir, &entry.name) {
                let what = Box::new(self.newcomer(look, dir, &entry));
                let (side, algo) = (look.side, self.settings.algo);
                commands.push(Command::Prove { side, dir, what, algo });
            }
        }
        if commands.is_empty() {
            self.place_proven(look, &candidates);
        }
        commands
    }

    /// Whether nothing but their contents can tell the two apart.
    fn may_have_become(&self, side: Side, node: NodeId, entry: &Entry) -> bool {
        let known = self.trees.facet(side, node);
        known.is_some_and(|facet| !(facet.item.is_proof() && entry.item.is_proof()))
    }

    /// Files that left their places and whose content is known, by what a newcomer that is one of them
    /// looks like.
    fn departed_files(&self, look: &Look) -> HashMap<(u64, Option<Rev>), Vec<NodeId>> {
        let side = look.side;
        let mut files: HashMap<_, Vec<NodeId>> = HashMap::new();
        for node in self.departed(look) {
            let Some(facet) = self.trees.facet(side, node) else { continue };
            if let Some(digest) = facet.content().digest().filter(|digest| digest.size > 0) {
                files.entry(likeness(side, digest.size, &facet.rev)).or_default().push(node);
            }
        }
        files
    }

    fn place_proven(
        &mut self,
        look: &mut Look,
        candidates: &HashMap<(u64, Option<Rev>), Vec<NodeId>>,
    ) {
        let side = look.side;
        let mut by_content: BTreeMap<(u64, Vec<u8>), Vec<NodeId>> = BTreeMap::new();
        for node in candidates.values().flatten() {
            let digest = self.trees.facet(side, *node).and_then(|facet| facet.content().digest());
            if let Some(digest) = digest {
                by_content.entry(content_key(&digest)).or_default().push(*node);
            }
        }
        for (dir, mut entries) in std::mem::take(&mut look.newcomers) {
            entries.retain_mut(|entry| {
                let proof = look.proofs.get(&(dir, entry.name.clone())).copied().flatten();
                let Some(proof) = proof else { return true };
                entry.hash = Some(proof.digest.hash);
                let alike = by_content.get_mut(&content_key(&proof.digest));
                let Some(node) = alike.and_then(|alike| self.best_of(look, alike, dir, entry))
                else {
                    return true;
                };
                look.place(node, dir, entry.clone());
                false
            });
            if !entries.is_empty() {
                look.newcomers.insert(dir, entries);
            }
        }
    }

    /// Of several files of one content, the one of that name, or else the first.
    fn best_of(
        &self,
        look: &mut Look,
        alike: &mut Vec<NodeId>,
        dir: NodeId,
        entry: &Entry,
    ) -> Option<NodeId> {
        let side = look.side;
        let mut usable = alike.clone();
        usable.retain(|node| {
            self.may_have_become(side, *node, entry) && !self.is_copy_of_it(look, *node, dir, entry)
        });
        let best = usable.into_iter().min_by_key(|node| {
            let name = self.trees.facet(side, *node).map(|facet| &facet.at().name);
            (name != Some(&entry.name), *node)
        })?;
        alike.retain(|node| *node != best);
        Some(best)
    }

    fn newcomer(&self, look: &Look, dir: NodeId, entry: &Entry) -> Expected {
        let path: RelPath = self.path_in_look(look, dir).join(&entry.name);
        let parent_id = self.locator_in_look(look, dir).id;
        let locator = Locator { id: Some(entry.item.clone()), path, parent_id, kind: Kind::File };
        Expected { locator, stamp: entry.stamp() }
    }

    pub(in crate::engine) fn take_proof(
        &mut self,
        side: Side,
        dir: NodeId,
        name: Name,
        proof: Option<(Digest, Timestamp)>,
    ) {
        if let Some(look) = self.looks[side as usize].as_mut() {
            look.proved(dir, name, proof.map(|(digest, at)| Proof { digest, at }));
        }
    }

    /// What was read so soon after it was written is read again, as after any reading.
    pub(super) fn note_proof(&mut self, look: &Look, node: NodeId) {
        let Some((dir, entry)) = look.placed.get(&node) else { return };
        if let Some(Some(proof)) = look.proofs.get(&(*dir, entry.name.clone())) {
            self.note_racy(look.side, node, &entry.rev, proof.at);
        }
    }
}

/// What a moved file still has. On the local side a newcomer is read anyway before it is sent, so its
/// size is enough to ask; of a remote one, the time must be that of the file as well.
fn likeness(side: Side, size: u64, rev: &Rev) -> (u64, Option<Rev>) {
    match side {
        Side::Local => (size, None),
        Side::Remote => (size, Some(mtime(rev))),
    }
}

/// A rename may change the change time.
fn mtime(rev: &Rev) -> Rev {
    match rev {
        Rev::Stat { mtime_ns, .. } => Rev::Stat { mtime_ns: *mtime_ns, ctime_ns: 0 },
        Rev::Tag { .. } => rev.clone(),
    }
}

fn content_key(digest: &Digest) -> (u64, Vec<u8>) {
    (digest.size, digest.hash.bytes().to_vec())
}

fn placed_below(look: &Look) -> HashMap<NodeId, Vec<NodeId>> {
    let mut below: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    for (node, (dir, _)) in &look.placed {
        below.entry(*dir).or_default().push(*node);
    }
    below
}

/// How much of which departed folder is in a new one.
fn votes(
    look: &Look,
    below: &HashMap<NodeId, Vec<NodeId>>,
    newcomer: NodeId,
    holders: &HashMap<Mark, Vec<NodeId>>,
) -> BTreeMap<NodeId, usize> {
    let files = look.newcomers.get(&newcomer).into_iter().flatten();
    let files = files.map(|entry| (entry.name.clone(), Some((entry.size, mtime(&entry.rev)))));
    let folders = below.get(&newcomer).into_iter().flatten().filter_map(|node| {
        let (_, entry) = look.placed.get(node)?;
        (entry.kind == Kind::Dir).then(|| (entry.name.clone(), None))
    });
    let mut votes = BTreeMap::new();
    for mark in files.chain(folders) {
        for holder in holders.get(&mark).into_iter().flatten().take(HOLDERS_MAX) {
            *votes.entry(*holder).or_default() += 1;
        }
    }
    votes
}
