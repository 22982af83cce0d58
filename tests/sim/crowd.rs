//! The users of both sides: what they do next, drawn from dice and from what they see.
//!
//! Few names, few folders, contents of equal sizes: small worlds meet most often.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use foldsync::tree::Side;

use super::cloud::SimCloud;
use super::disk::SimDisk;
use super::faults::{Dice, Hub};
use super::users::{Act, Tree, Users};

/// A pair that differs in case, one that differs in Unicode form, and names that are prefixes.
const NAMES: [&str; 8] = ["a", "A", "ab", "b.txt", "caf\u{e9}", "cafe\u{301}", "d", "dd"];
const DEPTH_MAX: usize = 3;

/// Everybody who uses the pair, apart from the engine.
pub(crate) struct Crowd {
    hub: Arc<Hub>,
    disk: Arc<SimDisk>,
    cloud: Arc<SimCloud>,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Dice,
    names: Vec<&'static str>,
    /// The rest of something that takes several acts, such as a swap.
    begun: [VecDeque<Act>; 2],
    /// The sides on which somebody is at work.
    sides: Vec<Side>,
    acts: u64,
}

impl Crowd {
    pub(crate) fn new(
        hub: Arc<Hub>,
        disk: Arc<SimDisk>,
        cloud: Arc<SimCloud>,
        mut dice: Dice,
    ) -> Crowd {
        let first = dice.below(NAMES.len());
        let count = 3 + dice.below(3);
        let names = NAMES.iter().cycle().skip(first).take(count).copied().collect();
        let sides = match dice.below(4) {
            0 => vec![Side::Local],
            1 => vec![Side::Remote],
            _ => Side::BOTH.to_vec(),
        };
        let begun = Default::default();
        let inner = Mutex::new(Inner { dice, names, begun, sides, acts: 0 });
        Crowd { hub, disk, cloud, inner }
    }

    pub(crate) fn sides(&self) -> Vec<Side> {
        self.inner.lock().expect("never poisoned").sides.clone()
    }

    /// How many acts were performed.
    pub(crate) fn acts(&self) -> u64 {
        self.inner.lock().expect("never poisoned").acts
    }

    fn users(&self, side: Side) -> &dyn Users {
        match side {
            Side::Local => &*self.disk,
            Side::Remote => &*self.cloud,
        }
    }

    /// Somebody does something.
    pub(crate) fn act(&self) {
        let mut inner = self.inner.lock().expect("never poisoned");
        let Inner { dice, sides, .. } = &mut *inner;
        let Some(side) = dice.pick(sides).copied() else { return };
        self.act_on(&mut inner, side);
    }

    fn act_on(&self, inner: &mut Inner, side: Side) {
        if inner.begun[side as usize].is_empty() {
            let tree = self.users(side).tree();
            let other = self.users(side.other()).tree();
            let idea = idea(&mut inner.dice, &inner.names, &tree, &other, &self.hub);
            inner.begun[side as usize].extend(idea);
        }
        // Most things are done in one go; some are interrupted for a while.
        loop {
            let Some(act) = inner.begun[side as usize].pop_front() else { break };
            inner.acts += u64::from(act.perform(&self.hub, self.users(side)));
            if inner.dice.chance(300) {
                break;
            }
        }
    }

    /// Everybody ends what they have begun.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock().expect("never poisoned");
        for side in Side::BOTH {
            while let Some(act) = inner.begun[side as usize].pop_front() {
                inner.acts += u64::from(act.perform(&self.hub, self.users(side)));
            }
        }
    }

    /// The tree of the first day: on one side, or the same on both. Tells whether it is on both.
    pub(crate) fn settle_in(&self) -> bool {
        let mut inner = self.inner.lock().expect("never poisoned");
        let Inner { dice, sides, .. } = &mut *inner;
        let side = dice.pick(sides).copied().unwrap_or(Side::Local);
        let both = dice.chance(300);
        for _ in 0..3 + inner.dice.below(6) {
            self.act_on(&mut inner, side);
        }
        drop(inner);
        self.finish();
        if both {
            let users = self.users(side.other());
            for (path, content) in self.users(side).tree() {
                let act = match content {
                    Some(content) => Act::Write(path, content),
                    None => Act::Mkdir(path),
                };
                act.perform(&self.hub, users);
            }
        }
        both
    }

    /// Something that a user can see, for faults that strike an item.
    pub(crate) fn some_path(&self, side: Side) -> Option<String> {
        let tree = self.users(side).tree();
        let paths: Vec<&String> = tree.keys().collect();
        self.inner.lock().expect("never poisoned").dice.pick(&paths).map(|path| (*path).clone())
    }
}

/// What somebody might do, given what they see. Some ideas cannot be carried out: nothing happens.
fn idea(dice: &mut Dice, names: &[&str], tree: &Tree, other: &Tree, hub: &Hub) -> Vec<Act> {
    let files = |tree: &Tree| -> Vec<String> {
        let of =
            |(path, content): (&String, &Option<Bytes>)| content.as_ref().map(|_| path.clone());
        tree.iter().filter_map(of).filter(|path| is_for_users(path)).collect()
    };
    let all: Vec<String> = tree.keys().filter(|path| is_for_users(path)).cloned().collect();
    let folders: Vec<String> =
        all.iter().filter(|path| tree.get(*path) == Some(&None)).cloned().collect();
    let mine = files(tree);
    let Some(place) = place(dice, names, &folders) else { return Vec::new() };
    let file = dice.pick(&mine).cloned();
    let any = dice.pick(&all).cloned();
    let fresh = |dice: &mut Dice| {
        let size = *dice.pick(&[0, 8, 8, 8, 8, 8, 17, 40]).expect("not empty");
        let mut ledger = hub.ledger.lock().expect("the ledger is never poisoned");
        if size == 0 { Bytes::new() } else { ledger.new_content(size) }
    };
    let ideas = match (dice.below(100), file, any) {
        (0..22, ..) => Some(vec![Act::Write(place, fresh(dice))]),
        (22..34, Some(file), _) => Some(vec![Act::Write(file, fresh(dice))]),
        (34..42, Some(file), _) => Some(vec![Act::Replace(file, fresh(dice))]),
        (42..55, _, Some(any)) => Some(vec![Act::Rename(any, place)]),
        (55..63, Some(file), _) => Some(vec![Act::Rename(file, place)]),
        (63..70, ..) => Some(vec![Act::Mkdir(place)]),
        (70..79, _, Some(any)) => Some(vec![Act::Remove(any)]),
        (79..85, _, Some(any)) => dice.pick(&all).map(|other| swap(&any, other)),
        (85..90, _, Some(any)) => Some(retype(tree, &any, names[0], fresh(dice))),
        (90..92, Some(file), _) => Some(vec![Act::Touch(file)]),
        (92..96, Some(file), _) => copy(tree, &file, place),
        // The same content as on the other side, perhaps under the same name.
        (96.., ..) => {
            dice.pick(&files(other)).and_then(|theirs| copy(other, theirs, theirs.clone()))
        }
        (22.., ..) => Some(vec![Act::Mkdir(place)]),
    };
    ideas.unwrap_or_default()
}

fn is_for_users(path: &str) -> bool {
    !path.contains(".foldsync") && !path.contains('\u{1}')
}

fn place(dice: &mut Dice, names: &[&str], folders: &[String]) -> Option<String> {
    let name = dice.pick(names)?;
    let deep_enough = |path: &&String| path.split('/').count() < DEPTH_MAX;
    let folders: Vec<&String> = folders.iter().filter(deep_enough).collect();
    Some(match dice.pick(&folders) {
        Some(folder) if dice.chance(600) => format!("{folder}/{name}"),
        Some(_) | None => (*name).to_owned(),
    })
}

pub(crate) fn swap(one: &str, other: &str) -> Vec<Act> {
    let between = format!("{one}~");
    let step = |from: &str, to: &str| Act::Rename(from.to_owned(), to.to_owned());
    vec![step(one, &between), step(other, one), step(&between, other)]
}

/// A file becomes a folder with a file in it, or the other way round.
fn retype(tree: &Tree, path: &str, name: &str, content: Bytes) -> Vec<Act> {
    let path = path.to_owned();
    match tree.get(&path) {
        Some(Some(_)) => vec![
            Act::Remove(path.clone()),
            Act::Mkdir(path.clone()),
            Act::Write(format!("{path}/{name}"), content),
        ],
        Some(None) | None => vec![Act::Remove(path.clone()), Act::Write(path, content)],
    }
}

fn copy(tree: &Tree, from: &str, to: String) -> Option<Vec<Act>> {
    let content = tree.get(from)?.clone()?;
    Some(vec![Act::Write(to, content)])
}
