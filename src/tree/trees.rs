//! The three trees of a pair, kept together: base, local, remote.
//!
//! Owns the invariants: one occupant per physical place and side, which nodes diverge, and which
//! nodes changed since the database last saw them. Decides nothing and touches no disk.

mod pairing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::node::{Content, Facet, ItemId, Kind, Node, NodeId, Placement, Register, Side};
use super::path::{Name, RelPath};

/// Who is where on one side, by physical place.
type Places = BTreeMap<(NodeId, Name), NodeId>;

#[derive(Default)]
struct Index {
    places: Places,
    /// Keyed by the hash of the item id: a look-up is checked against the facet itself.
    items: HashMap<u64, NodeId>,
}

/// All nodes of a pair. The root folder is implied: it is never a node of its own.
pub struct Trees {
    nodes: Vec<Option<Node>>,
    local: Index,
    remote: Index,
    /// Nodes whose base, local and remote do not agree: all that a plan has to look at.
    divergent: BTreeSet<NodeId>,
    /// Nodes changed since `take_touched`.
    touched: BTreeSet<NodeId>,
    free: Vec<NodeId>,
    /// Nodes forgotten since unused ids were last looked for.
    forgotten: usize,
    item_hasher: RandomState,
    files: u64,
}

impl Default for Trees {
    fn default() -> Trees {
        Trees::new()
    }
}

impl Trees {
    pub fn new() -> Trees {
        Trees {
            nodes: vec![None, None],
            local: Index::default(),
            remote: Index::default(),
            divergent: BTreeSet::new(),
            touched: BTreeSet::new(),
            free: Vec::new(),
            forgotten: 0,
            item_hasher: RandomState::new(),
            files: 0,
        }
    }

    // ---- looking -------------------------------------------------------------------------

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.get() as usize)?.as_ref()
    }

    pub fn facet(&self, side: Side, id: NodeId) -> Option<&Facet> {
        self.get(id)?.facet(side)
    }

    pub fn base(&self, id: NodeId) -> Option<&Register> {
        self.get(id)?.base.as_deref()
    }

    pub fn kind(&self, id: NodeId) -> Kind {
        self.get(id).map_or(Kind::Dir, |node| node.kind)
    }

    /// Whether a side has this folder; the root is always there.
    pub fn has(&self, side: Side, id: NodeId) -> bool {
        id == NodeId::ROOT || self.facet(side, id).is_some()
    }

    /// Who is physically at that place.
    pub fn occupant(&self, side: Side, at: &Placement) -> Option<NodeId> {
        self.index(side).places.get(&(at.parent, at.name.clone())).copied()
    }

    /// Children in the order of their physical names.
    pub fn children(&self, side: Side, dir: NodeId) -> impl Iterator<Item = (&Name, NodeId)> {
        // The empty name sorts before every valid one, so the range starts at the first child.
        let from = (dir, Name::before_all());
        self.index(side)
            .places
            .range(from..)
            .take_while(move |((parent, _), _)| *parent == dir)
            .map(|((_, name), id)| (name, *id))
    }

    /// The children whose physical names begin with `start`, which is no empty text.
    pub fn children_from(
        &self,
        side: Side,
        dir: NodeId,
        start: &str,
    ) -> impl Iterator<Item = (&Name, NodeId)> {
        let from = (dir, Name::new(start).unwrap_or_else(|_| Name::before_all()));
        self.index(side)
            .places
            .range(from..)
            .take_while(move |((parent, name), _)| {
                *parent == dir && name.as_str().starts_with(start)
            })
            .map(|((_, name), id)| (name, *id))
    }

    pub fn has_children(&self, side: Side, dir: NodeId) -> bool {
        self.children(side, dir).next().is_some()
    }

    /// The node that a side knows under this item id; `None` if the id proves nothing.
    pub fn by_item(&self, side: Side, item: &ItemId) -> Option<NodeId> {
        if !item.is_proof() {
            return None;
        }
        let id = *self.index(side).items.get(&self.item_hasher.hash_one(item))?;
        (self.facet(side, id)?.item == *item).then_some(id)
    }

    /// The physical path on a side; `None` if the node or a folder above it is not there.
    pub fn path(&self, side: Side, id: NodeId) -> Option<RelPath> {
        self.path_by(id, |node| self.facet(side, node).map(Facet::physical))
    }

    /// Who is at a physical path of a side.
    pub fn resolve(&self, side: Side, path: &RelPath) -> Option<NodeId> {
        path.components().try_fold(NodeId::ROOT, |parent, component| {
            let name = Name::new(component).ok()?;
            self.occupant(side, &Placement { parent, name })
        })
    }

    /// The path that a person knows the node by: from the first of base, local, remote that has it.
    pub fn display_path(&self, id: NodeId) -> RelPath {
        let place = |node| {
            let node = self.get(node)?;
            let facet = node.local.as_ref().or(node.remote.as_ref());
            node.base.as_deref().map(|b| b.at.clone()).or_else(|| facet.map(|f| f.at().clone()))
        };
        self.path_by(id, place).unwrap_or_default()
    }

    fn path_by(&self, id: NodeId, place: impl Fn(NodeId) -> Option<Placement>) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let place = place(at)?;
            names.push(place.name);
            at = place.parent;
            if names.len() > self.nodes.len() {
                return None;
            }
        }
        Some(names.iter().rev().fold(RelPath::root(), |path, name| path.join(name)))
    }

    /// Whether `node` is `ancestor` or lies below it on a side.
    pub fn is_within(&self, side: Side, node: NodeId, ancestor: NodeId) -> bool {
        let mut at = node;
        for _ in 0..self.nodes.len() {
            if at == ancestor {
                return true;
            }
            match self.facet(side, at) {
                Some(facet) => at = facet.at().parent,
                None => return false,
            }
        }
        false
    }

    pub fn divergent(&self) -> &BTreeSet<NodeId> {
        &self.divergent
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        (2u32..).zip(self.nodes.iter().skip(2)).filter_map(|(id, node)| {
            node.as_ref()?;
            NodeId::new(id)
        })
    }

    /// Files in base: what `max_delete` is a share of.
    pub fn base_files(&self) -> u64 {
        self.files
    }

    fn index(&self, side: Side) -> &Index {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    // ---- changing ------------------------------------------------------------------------

    /// A new identity. The node exists as soon as something is set on it.
    pub fn create(&mut self, kind: Kind) -> NodeId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            let id = u32::try_from(self.nodes.len() - 1).ok().and_then(NodeId::new);
            id.expect("fewer than four billion nodes")
        });
        *self.slot(id) = Some(Node { kind, base: None, local: None, remote: None });
        self.changed(id);
        id
    }

    /// Sets or clears what a side has. The place must be free, or held by this node. A node that
    /// was forgotten stays so: the next look at that side finds its item as something new.
    pub fn set_facet(&mut self, side: Side, id: NodeId, facet: Option<Facet>) {
        if self.get(id).is_none() {
            return;
        }
        let reborn = facet.is_some() && self.is_moved_folder_without(side, id);
        self.unindex(side, id);
        if let Some(facet) = &facet {
            let before = self.index_facet(side, id, facet);
            assert!(before.is_none(), "{side}: {before:?} and {id:?} at one place");
        }
        if let Some(node) = self.slot(id) {
            match side {
                Side::Local => node.local = facet,
                Side::Remote => node.remote = facet,
            }
        }
        self.changed(id);
        if reborn {
            self.keep_subtree(side.other(), id);
        }
    }

    /// A folder that one side deleted while the other one moved it: it is kept with all that is in
    /// it, and once it is back on `side`, nothing else tells that.
    fn is_moved_folder_without(&self, side: Side, id: NodeId) -> bool {
        let moved = |node: &Node| {
            let base = node.base.as_deref()?;
            Some(node.facet(side.other())?.at() != &base.at)
        };
        self.get(id).is_some_and(|node| {
            node.kind == Kind::Dir && node.facet(side).is_none() && moved(node) == Some(true)
        })
    }

    /// What only `side` has below a folder counts as new from here on.
    fn keep_subtree(&mut self, side: Side, dir: NodeId) {
        let mut left: Vec<NodeId> = self.children(side, dir).map(|(_, child)| child).collect();
        while let Some(id) = left.pop() {
            left.extend(self.children(side, id).map(|(_, child)| child));
            if self.facet(side.other(), id).is_none() && self.base(id).is_some() {
                self.set_base(id, None);
            }
        }
    }

    /// Sets several facets of one side at once, so that names may be exchanged among them.
    pub fn set_facets(&mut self, side: Side, edits: Vec<(NodeId, Option<Facet>)>) {
        for (id, _) in &edits {
            self.unindex(side, *id);
        }
        for (id, facet) in edits {
            self.set_facet(side, id, facet);
        }
    }

    /// A side does not have a node any more, nor anything below it.
    pub fn lose(&mut self, side: Side, top: NodeId) {
        let mut left = vec![top];
        while let Some(id) = left.pop() {
            left.extend(self.children(side, id).map(|(_, child)| child));
            self.set_facet(side, id, None);
            self.settle(id);
        }
    }

    pub fn set_base(&mut self, id: NodeId, base: Option<Register>) {
        self.files -= self.counted(id);
        if let Some(node) = self.slot(id) {
            node.base = base.map(Arc::new);
        }
        self.files += self.counted(id);
        self.changed(id);
    }

    /// 1 for a file that is in base.
    fn counted(&self, id: NodeId) -> u64 {
        self.get(id).map_or(0, |n| u64::from(n.kind == Kind::File && n.base.is_some()))
    }

    /// Moves base, register by register, wherever the two sides agree; forgets nodes that neither
    /// side has. The one rule behind "both made the same edit", "both deleted it" and "the
    /// operation that we ran is done".
    pub fn settle(&mut self, id: NodeId) {
        let Some(node) = self.get(id) else { return };
        match (&node.local, &node.remote) {
            (None, None) => self.forget(id),
            (Some(local), Some(remote)) => {
                let agreed = agreed_register(node.base.as_deref(), local, remote);
                if let Some(agreed) = agreed.filter(|a| node.base.as_deref() != Some(a)) {
                    self.set_base(id, Some(agreed));
                }
                self.share_equal_registers(id);
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    /// The identities of a side's items prove nothing any more: each is known by its place.
    pub fn forget_items(&mut self, side: Side) {
        let ids: Vec<NodeId> = self.ids().collect();
        for id in ids {
            let known = self.facet(side, id).filter(|facet| facet.item.is_proof());
            if let Some(facet) = known.cloned() {
                self.set_facet(side, id, Some(Facet { item: ItemId::Unproven, ..facet }));
            }
        }
    }

    /// Drops a node from all three trees without an operation: it is no longer ours to sync.
    pub fn forget(&mut self, id: NodeId) {
        self.unindex(Side::Local, id);
        self.unindex(Side::Remote, id);
        if self.get(id).is_some() {
            self.files -= self.counted(id);
            *self.slot(id) = None;
            self.forgotten += 1;
            self.divergent.remove(&id);
            self.touched.insert(id);
        }
    }

    /// The nodes to write to the database, and an empty list from here on.
    pub fn take_touched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.touched)
    }

    // ---- loading -------------------------------------------------------------------------

    /// Puts a node back as the database has it.
    pub fn load(&mut self, id: NodeId, node: Node) {
        let at = id.get() as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, None);
        }
        let (local, remote) = (node.local.clone(), node.remote.clone());
        self.nodes[at] = Some(node);
        self.files += self.counted(id);
        for (side, facet) in [(Side::Local, local), (Side::Remote, remote)] {
            if let Some(facet) = facet {
                self.index_facet(side, id, &facet);
            }
        }
        self.refresh_divergence(id);
    }

    /// Ends loading: what is in no folder is nowhere, and ids that nothing refers to may be used
    /// again.
    pub fn loaded(&mut self, spoken_of: &BTreeSet<NodeId>) {
        for side in Side::BOTH {
            let orphans: Vec<NodeId> = self
                .ids()
                .filter(|id| {
                    self.facet(side, *id).is_some_and(|facet| !self.has(side, facet.at().parent))
                })
                .collect();
            orphans.into_iter().for_each(|id| self.lose(side, id));
        }
        if self.ids().count() + 2 < self.nodes.len() {
            self.reclaim(spoken_of);
        }
    }

    /// Whether so many nodes were forgotten that looking for unused ids costs little for each.
    pub fn is_reclaim_due(&self) -> bool {
        /// Below this number the memory is not worth the pass.
        const FORGOTTEN_MIN: usize = 64;
        self.forgotten >= FORGOTTEN_MIN.max(self.nodes.len() / 4)
    }

    /// Ids of forgotten nodes may be used again, unless a tree or `spoken_of` still refers to them.
    pub fn reclaim(&mut self, spoken_of: &BTreeSet<NodeId>) {
        let mut referred: BTreeSet<NodeId> = BTreeSet::new();
        for node in self.nodes.iter().flatten() {
            let places = [node.base.as_deref().map(|b| b.at.parent)]
                .into_iter()
                .chain(Side::BOTH.map(|side| node.facet(side).map(|f| f.at().parent)));
            referred.extend(places.flatten());
        }
        self.free = (2u32..)
            .zip(self.nodes.iter().skip(2))
            .filter(|(_, node)| node.is_none())
            .filter_map(|(id, _)| NodeId::new(id))
            .filter(|id| !referred.contains(id) && !spoken_of.contains(id))
            .collect();
        self.forgotten = 0;
    }

    pub fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve_exact(nodes);
        self.local.items.reserve(nodes);
        self.remote.items.reserve(nodes);
    }

    // ---- keeping the indexes true ----------------------------------------------------------

    fn slot(&mut self, id: NodeId) -> &mut Option<Node> {
        let at = id.get() as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, None);
        }
        &mut self.nodes[at]
    }

    fn index_mut(&mut self, side: Side) -> &mut Index {
        match side {
            Side::Local => &mut self.local,
            Side::Remote => &mut self.remote,
        }
    }

    /// Returns who was known at that place before.
    fn index_facet(&mut self, side: Side, id: NodeId, facet: &Facet) -> Option<NodeId> {
        let place = facet.physical();
        let item = facet.item.is_proof().then(|| self.item_hasher.hash_one(&facet.item));
        let index = self.index_mut(side);
        if let Some(item) = item {
            index.items.insert(item, id);
        }
        index.places.insert((place.parent, place.name), id)
    }

    fn unindex(&mut self, side: Side, id: NodeId) {
        let Some(facet) = self.facet(side, id) else { return };
        let place = facet.physical();
        let item = self.item_hasher.hash_one(&facet.item);
        let key = (place.parent, place.name);
        let index = self.index_mut(side);
        if index.places.get(&key) == Some(&id) {
            index.places.remove(&key);
        }
        if index.items.get(&item) == Some(&id) {
            index.items.remove(&item);
        }
    }

    fn changed(&mut self, id: NodeId) {
        self.touched.insert(id);
        self.refresh_divergence(id);
    }

    fn refresh_divergence(&mut self, id: NodeId) {
        if self.get(id).is_some_and(|node| !is_agreed(node)) {
            self.divergent.insert(id);
        } else {
            self.divergent.remove(&id);
        }
    }

    fn share_equal_registers(&mut self, id: NodeId) {
        let Some(Node { base: Some(base), local: Some(local), remote: Some(remote), .. }) =
            self.slot(id)
        else {
            return;
        };
        if local.register == *base {
            local.register = Arc::clone(base);
        }
        if remote.register == *base {
            remote.register = Arc::clone(base);
        }
        self.refresh_divergence(id);
    }
}

/// Nothing to do for this node: all three say the same, and nothing is parked.
fn is_agreed(node: &Node) -> bool {
    match (&node.base, &node.local, &node.remote) {
        (Some(base), Some(local), Some(remote)) => {
            local.parked.is_none()
                && remote.parked.is_none()
                && (Arc::ptr_eq(base, &local.register) || *base == local.register)
                && (Arc::ptr_eq(base, &remote.register) || *base == remote.register)
                && !base.content.is_unread()
        }
        _ => false,
    }
}

fn agreed_register(base: Option<&Register>, local: &Facet, remote: &Facet) -> Option<Register> {
    let at = (local.at() == remote.at()).then(|| local.at().clone());
    let known = local.content() == remote.content() && !local.content().is_unread();
    let content: Option<Content> = known.then(|| *local.content());
    match base {
        Some(base) => Some(Register {
            at: at.unwrap_or_else(|| base.at.clone()),
            content: content.unwrap_or(base.content),
        }),
        None => Some(Register { at: at?, content: content? }),
    }
}

#[cfg(test)]
mod tests;
