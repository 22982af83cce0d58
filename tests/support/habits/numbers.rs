//! Inode numbers: which one a disk shows for an item.

use std::collections::{BTreeSet, HashMap};

use super::nodes::Key;

/// Which inode numbers a disk shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Those of the disk behind: the same at each mount.
    #[default]
    Stable,
    /// From 1 on, in the order of the first look-up since the mount.
    FirstLookUp,
    /// Drawn at random since the mount; another seed draws others.
    Random(u64),
    /// In the order of the first look-up since the mount, but the number of a removed item goes to
    /// the next new one.
    Reused,
    /// Another one each time that the item was forgotten and is looked up again.
    UntilForgotten,
}

/// The numbers that were given since the mount.
pub(crate) struct Given {
    rule: Numbers,
    by_key: HashMap<Key, u64>,
    next: u64,
    free: BTreeSet<u64>,
}

impl Given {
    pub(crate) fn new(rule: Numbers) -> Given {
        Given { rule, by_key: HashMap::new(), next: 1, free: BTreeSet::new() }
    }

    /// The number of an item that is looked up.
    pub(crate) fn of(&mut self, key: Key) -> u64 {
        if self.rule == Numbers::Stable {
            return key.number();
        }
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let number = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let number = match self.rule {
            Numbers::Random(seed) => mixed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number) >> 16,
            Numbers::Stable | Numbers::FirstLookUp | Numbers::Reused | Numbers::UntilForgotten => {
                number
            }
        };
        self.by_key.insert(key, number);
        number
    }

    /// The number that an item has without being looked up.
    pub(crate) fn known(&self, key: Key) -> Option<u64> {
        match self.rule {
            Numbers::Stable => Some(key.number()),
            Numbers::FirstLookUp
            | Numbers::Random(_)
            | Numbers::Reused
            | Numbers::UntilForgotten => self.by_key.get(&key).copied(),
        }
    }

    /// An item is no more.
    pub(crate) fn removed(&mut self, key: Key) {
        if self.rule == Numbers::Reused
            && let Some(number) = self.by_key.get(&key)
        {
            self.free.insert(*number);
        }
    }

    /// Every item was forgotten.
    pub(crate) fn forget(&mut self) {
        if self.rule == Numbers::UntilForgotten {
            self.by_key.clear();
        }
    }
}

/// The finalizer of splitmix64.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
