//! What a killed process left under way: looking at both sides tells what is true, and the plan does
//! the rest. Nothing is redone from memory.

use super::dispatch::{part_key, stage_key};
use super::finish::both_edited;
use super::job::{Failure, Task, Trace};
use super::{Engine, Fatal, Flight};
use crate::local::{Leftover, StageKey};
use crate::plan::{Action, Op, Why};
use crate::store::{Intent, Store, StoreError};
use crate::tree::{Content, Digest, Facet, Name, NodeId, Placement, Register, RelPath, Side};

/// What to do with a staged file of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftoverFate {
    /// Ours, and not installed: the remote still has it. Or the old version, which the trash gets.
    Discard,
    /// The beginning of a version that is likely to be wanted again.
    Keep,
    /// A user's version that slipped in at the last moment: back into the tree, under this name.
    Restore { to: RelPath },
}

/// What is staged of downloads that failed, and are to go on later: by the node that is fetched.
pub(super) const PARTS: &str = "parts";

/// Decides about a staged file by the intent that made it, or by what failed downloads left (`parts`).
pub fn decide_leftover(
    leftover: &Leftover,
    install_id: &str,
    intents: &[Intent],
    parts: &[(NodeId, u64)],
) -> LeftoverFate {
    let mut was = None;
    let mut is_part = parts.iter().any(|(_, part)| StageKey(*part) == leftover.key);
    for intent in intents {
        if let Ok(Trace::Install { path, part }) = serde_json::from_str(&intent.job) {
            let goes_on = part.map(StageKey) == Some(leftover.key);
            is_part |= goes_on;
            if goes_on || StageKey(stage_key(install_id, intent.op)) == leftover.key {
                was = RelPath::new(&path).ok();
            }
        }
    }
    if !leftover.displaced {
        let goes_on = leftover.resumable && is_part;
        return if goes_on { LeftoverFate::Keep } else { LeftoverFate::Discard };
    }
    LeftoverFate::Restore { to: recovered_name(&was.unwrap_or_default(), leftover.key) }
}

/// A visible name next to where the file was, or in the root if that is not known.
fn recovered_name(was: &RelPath, key: StageKey) -> RelPath {
    let (parent, stem) = match was.split_last() {
        Some((parent, name)) => (parent, format!("-{name}")),
        None => (RelPath::root(), String::new()),
    };
    let room = 200usize;
    let stem: String = stem.chars().take(room / 4).collect();
    let name = Name::new(&format!("foldsync-recovered-{:x}{stem}", key.0));
    name.map_or_else(|_| RelPath::root(), |name| parent.join(&name))
}

/// Content that was sent to a place.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) at: Placement,
    pub(super) sent: Digest,
}

/// See `PARTS`.
pub fn kept_parts(store: &Store) -> Result<Vec<(NodeId, u64)>, StoreError> {
    let known = store.meta(PARTS)?;
    Ok(known.and_then(|parts| serde_json::from_str(&parts).ok()).unwrap_or_default())
}

impl Engine {
    /// Remembers what a download that failed has left, and forgets it where one did not.
    pub(super) fn note_part(&mut self, flight: &Flight, failure: Option<&Failure>) {
        let Task::Download { source, content, .. } = &flight.job.task else { return };
        let leaves = failure.is_some_and(Failure::leaves_part) && content.digest().is_some();
        let part = leaves.then(|| part_key(&self.install_id, source));
        let before = match part {
            Some(part) => self.parts.insert(flight.op.node, part),
            None => self.parts.remove(&flight.op.node),
        };
        self.unsaved.parts |= before != part;
    }

    /// Only what will be tried again is worth its room: the next start clears the rest away.
    pub(super) fn forget_parts(&mut self) {
        let (before, troubles) = (self.parts.len(), &self.troubles);
        self.parts.retain(|node, _| troubles.contains_key(node));
        self.unsaved.parts |= self.parts.len() != before;
    }

    /// Remembers, for the first look, which version was being set aside where.
    pub(super) fn recall_intents(&mut self) -> Result<(), Fatal> {
        for intent in self.store.intents()? {
            match serde_json::from_str(&intent.job) {
                Ok(Trace::KeepBoth { side, parent, copy, .. }) => {
                    if let Ok(name) = Name::new(&copy) {
                        let at = Placement { parent, name };
                        self.kept_copies.insert(intent.node, (side, at));
                    }
                }
                Ok(Trace::Move { parent, name }) => {
                    if let Ok(name) = Name::new(&name) {
                        self.moving.insert(intent.node, Placement { parent, name });
                    }
                }
                Ok(Trace::Upload { parent, name, content, .. }) => {
                    if let Ok(name) = Name::new(&name) {
                        let at = Placement { parent, name };
                        self.arriving.insert(intent.node, Arrival { at, sent: content });
                    }
                }
                Ok(Trace::Install { .. } | Trace::Plain) | Err(_) => {}
            }
            self.recalled.push(super::OpId(intent.op));
        }
        Ok(())
    }

    /// Both sides have been looked at: the intents have nothing more to tell.
    pub(super) fn drop_recalled_intents(&mut self) {
        if self.recalled.is_empty() {
            return;
        }
        self.unsaved.finished.append(&mut self.recalled);
        self.moving.clear();
        for (node, (side, copy)) in std::mem::take(&mut self.kept_copies) {
            self.record_kept_copy(side, node, &copy);
        }
    }

    /// Remembers what an upload sent, until somebody has seen what became of it.
    pub(super) fn await_arrival(&mut self, flight: &Flight) {
        if let (Task::Upload { content, .. }, Some((_, at))) = (&flight.job.task, &flight.place) {
            let arrival = Arrival { at: at.clone(), sent: *content };
            self.arriving.insert(flight.op.node, arrival);
        }
    }

    /// What was on its way to the remote and is there now: the two sides had agreed on it, whatever
    /// has become of the local file since.
    pub(super) fn agree_on_arrivals(&mut self) {
        let mut arriving = std::mem::take(&mut self.arriving);
        arriving.retain(|node, arrival| !self.agree_on(*node, arrival));
        self.arriving = arriving;
    }

    fn agree_on(&mut self, node: NodeId, arrival: &Arrival) -> bool {
        let Arrival { at, sent } = arrival;
        let is_sent = |facet: &Facet| facet.content().digest() == Some(*sent);
        let newcomer = self.trees.occupant(Side::Remote, at).filter(|there| {
            let has_local = |node| self.trees.has(Side::Local, node);
            !self.trees.has(Side::Remote, node) && has_local(node) && !has_local(*there)
        });
        if let Some(newcomer) = newcomer
            && self.trees.facet(Side::Remote, newcomer).is_some_and(is_sent)
        {
            self.trees.bind(node, newcomer);
        }
        let Some(facet) = self.trees.facet(Side::Remote, node).filter(|facet| is_sent(facet))
        else {
            return false;
        };
        let at = self.trees.base(node).map_or(facet.at(), |base| &base.at).clone();
        self.trees.set_base(node, Some(Register { at, content: Content::Is(*sent) }));
        self.trees.settle(node);
        if self.sessions.get(&node).is_some_and(|session| session.content == *sent) {
            self.drop_session(node);
        }
        true
    }

    /// Where a service has no hashes, what may have arrived must be read before anything is decided.
    pub(super) fn reads_of_arrivals(&self) -> Vec<Op> {
        if self.arriving.is_empty() {
            return Vec::new();
        }
        let busy = self.busy_nodes();
        let read = |(node, Arrival { at, sent }): (&NodeId, &Arrival)| {
            let there = self.trees.occupant(Side::Remote, at)?;
            let content = *self.trees.facet(Side::Remote, there)?.content();
            let is_wanted = content == Content::Unread { size: sent.size }
                && !busy.contains(&there)
                && !busy.contains(node);
            let (side, action, why) = (Side::Remote, Action::Learn, Why::Compare);
            is_wanted.then_some(Op { node: there, side, action, why })
        };
        self.arriving.iter().filter_map(read).collect()
    }

    /// A plan was made on what the remote has: what is not there has not arrived. What nobody has read
    /// yet, or has to be looked at, stays open.
    pub(super) fn forget_arrivals(&mut self) {
        let (trees, unsure) = (&self.trees, &self.unsure);
        self.arriving.retain(|node, arrival| {
            let there = trees.occupant(Side::Remote, &arrival.at);
            let there = there.and_then(|there| trees.facet(Side::Remote, there));
            let size = arrival.sent.size;
            let is_unread = there.is_some_and(|f| *f.content() == Content::Unread { size });
            unsure.contains_key(node) || is_unread
        });
    }

    /// A move of two steps whose process was killed between them, or whose second step failed: the
    /// item is half-way, and nobody but us put it there. (MV-28)
    pub(super) fn excuse_half_way(&mut self, side: Side, node: NodeId) {
        let Some(to) = self.moving.get(&node) else { return };
        let (Some(facet), Some(base)) = (self.trees.facet(side, node), self.trees.base(node))
        else {
            return;
        };
        let at = facet.at();
        // Where the other side is as it was, the item was moved here by somebody else: the operation
        // was only to repeat that there, and has not.
        let other = self.trees.facet(side.other(), node);
        if at == to && other.is_some_and(|other| *other.at() == base.at) {
            return;
        }
        let parent_first = at.parent == to.parent && at.name == base.at.name;
        let name_first = at.parent == base.at.parent && at.name == to.name;
        if (parent_first || name_first) && *at != base.at {
            let half_way = Register { at: at.clone(), content: base.content };
            self.trees.set_base(node, Some(half_way));
        }
    }

    fn record_kept_copy(&mut self, side: Side, node: NodeId, copy: &Placement) {
        let is_there = self.trees.occupant(side, copy).is_some_and(|occupant| occupant != node);
        if is_there && let Some(parent) = self.trees.path(side, copy.parent) {
            let path = self.trees.display_path(node);
            self.record_conflict(&path, &parent.join(&copy.name), both_edited(side));
        }
    }
}
