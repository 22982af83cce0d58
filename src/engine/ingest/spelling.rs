//! Names on a side that takes different names for one: which of its own spellings is which known name.
//!
//! A disk that stores names in a Unicode form of its own did not rename anything: its files keep the
//! names by which they are known. One that only changed case was renamed.

use std::collections::HashMap;

use super::Differences;
use crate::engine::Engine;
use crate::local::Listing;
use crate::tree::names::{FormRule, NameRules};
use crate::tree::{Kind, Name, NodeId, Side};

impl Engine {
    fn name_rules(&self, side: Side) -> &NameRules {
        match side {
            Side::Local => &self.settings.local_names,
            Side::Remote => &self.settings.remote_names,
        }
    }

    /// Gives entries the Unicode form by which they are known: to this side, or else to the other one,
    /// or else the composed one.
    pub(super) fn spell_as_known(&self, side: Side, dir: NodeId, listing: &mut Listing) {
        let rules = self.name_rules(side);
        if !rules.takes_forms_for_one()
            || listing.entries.iter().all(|entry| entry.name.as_str().is_ascii())
        {
            return;
        }
        let mut known: HashMap<String, &Name> = HashMap::new();
        for side in [side.other(), side] {
            for (name, _) in self.trees.children(side, dir) {
                known.insert(NameRules::composed(name), name);
            }
        }
        for entry in &mut listing.entries {
            let composed = NameRules::composed(&entry.name);
            match known.get(&composed) {
                Some(name) => entry.name = (*name).clone(),
                None if rules.forms.is(FormRule::Respelled) => {
                    if let Ok(name) = Name::new(&composed) {
                        entry.name = name;
                    }
                }
                None => {}
            }
        }
        listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }

    /// A newcomer in the place of a missing child, as that side compares names, is that child under
    /// another spelling.
    pub(super) fn pair_respelled(&self, side: Side, dir: NodeId, found: &mut Differences) {
        let rules = self.name_rules(side);
        if !rules.takes_for_one() || found.missing.is_empty() || found.newcomers.is_empty() {
            return;
        }
        let missing: HashMap<String, NodeId> = (self.trees.children(side, dir))
            .filter(|(_, node)| found.missing.contains(node))
            .map(|(name, node)| (rules.fold(name), node))
            .collect();
        let mut newcomers = Vec::new();
        for entry in std::mem::take(&mut found.newcomers) {
            let node = missing.get(&rules.fold(&entry.name)).copied();
            let is_it = |node: &NodeId| {
                let kin = self.trees.kind(*node) == entry.kind;
                kin && self.trees.facet(side, *node).is_some_and(|f| f.item.may_be(&entry.item))
            };
            match node.filter(is_it) {
                None => newcomers.push(entry),
                Some(node) => {
                    found.missing.retain(|missing| *missing != node);
                    found.folders.extend((entry.kind == Kind::Dir).then_some(node));
                    found.changed.push((node, entry));
                }
            }
        }
        found.newcomers = newcomers;
    }
}
