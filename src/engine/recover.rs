//! What a killed process left under way: looking at both sides tells what is true, and the plan does
//! the rest. Nothing is redone from memory.

use super::dispatch::stage_key;
use super::job::Trace;
use super::{Engine, Fatal};
use crate::local::{Leftover, StageKey};
use crate::store::Intent;
use crate::tree::{Name, NodeId, Placement, RelPath};

/// What to do with a staged file of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftoverFate {
    /// Ours, and not installed: the remote still has it.
    Discard,
    /// The version that was being replaced: to the trash.
    Retire { was: RelPath },
    /// A user's version that slipped in at the last moment: back into the tree, under this name.
    Restore { to: RelPath },
}

/// Decides about a staged file by the intent that made it.
pub fn decide_leftover(leftover: &Leftover, install_id: &str, intents: &[Intent]) -> LeftoverFate {
    let Some(displaced) = &leftover.displaced else { return LeftoverFate::Discard };
    let install = intents
        .iter()
        .filter(|intent| StageKey(stage_key(install_id, intent.op)) == leftover.key)
        .find_map(|intent| match serde_json::from_str(&intent.job) {
            Ok(Trace::Install { path, over }) => Some((RelPath::new(&path).ok()?, over)),
            Ok(Trace::KeepBoth { .. } | Trace::Upload | Trace::Plain) | Err(_) => None,
        });
    match install {
        Some((was, Some(over))) if over.is_renamed(displaced) => LeftoverFate::Retire { was },
        Some((was, _)) => LeftoverFate::Restore { to: recovered_name(&was, leftover.key) },
        None => LeftoverFate::Restore { to: recovered_name(&RelPath::root(), leftover.key) },
    }
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

impl Engine {
    /// Remembers, for the first look, which version was being set aside where.
    pub(super) fn recall_intents(&mut self) -> Result<(), Fatal> {
        for intent in self.store.intents()? {
            if let Ok(Trace::KeepBoth { parent, copy, .. }) = serde_json::from_str(&intent.job)
                && let Ok(name) = Name::new(&copy)
            {
                self.kept_copies.insert(intent.node, Placement { parent, name });
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
        for (node, copy) in std::mem::take(&mut self.kept_copies) {
            self.record_kept_copy(node, &copy);
        }
    }

    fn record_kept_copy(&mut self, node: NodeId, copy: &Placement) {
        let side = crate::tree::Side::Local;
        let is_there = self.trees.occupant(side, copy).is_some_and(|occupant| occupant != node);
        if is_there && let Some(parent) = self.trees.path(side, copy.parent) {
            let path = self.trees.display_path(node);
            self.record_conflict(&path, &parent.join(&copy.name), "edited on both sides");
        }
    }
}
