//! Which names folders had when they were last listed: a last check before something new takes one.
//!
//! Nobody knows what the service does with a name that is taken, nor which names it takes for the
//! same. Nothing is looked up here; an answer that is old or missing only costs a listing.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use unicode_normalization::UnicodeNormalization;

use crate::remote::{CaseRule, FormRule, Known};
use crate::tree::{Name, RelPath};

/// How long a listing is good enough, in seconds for each page that it took: looking again must
/// stay cheap beside what is done meanwhile.
const FRESH_S_PER_PAGE: i64 = 30;
const PAGE: usize = 200;
/// Names that are remembered, over all folders. A few bytes each.
const NAMES_MAX: usize = 1_000_000;

/// What is known about a name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Free,
    Taken,
    /// Another name has the same letters in another case or another Unicode form.
    Alike,
}

#[derive(Default)]
pub(super) struct Sightings {
    folders: BTreeMap<RelPath, Sighting>,
    names: usize,
    /// Measured, or proved by a folder that holds two such names.
    tells_case: bool,
    tells_forms: bool,
}

struct Sighting {
    seen_s: i64,
    names: Names,
}

/// How many items of a folder have each of the forms that names are compared in; hashed, to be small.
#[derive(Default)]
pub(super) struct Names {
    exact: HashMap<u64, u32>,
    cases: HashMap<u64, u32>,
    forms: HashMap<u64, u32>,
}

fn drop_one(counts: &mut HashMap<u64, u32>, form: u64) {
    if let Some(count) = counts.get_mut(&form) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&form);
        }
    }
}

fn hash(text: impl Iterator<Item = char>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for c in text {
        c.hash(&mut hasher);
    }
    hasher.finish()
}

fn lower(name: &str) -> u64 {
    hash(name.chars().flat_map(char::to_lowercase))
}

fn composed(name: &str) -> u64 {
    hash(name.nfc())
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(all: I) -> Names {
        let mut names = Names::default();
        for name in all {
            names.add(name);
        }
        names
    }
}

impl Names {
    fn add(&mut self, name: &str) {
        *self.exact.entry(hash(name.chars())).or_default() += 1;
        *self.cases.entry(lower(name)).or_default() += 1;
        *self.forms.entry(composed(name)).or_default() += 1;
    }

    fn remove(&mut self, name: &str) {
        if self.exact.contains_key(&hash(name.chars())) {
            drop_one(&mut self.exact, hash(name.chars()));
            drop_one(&mut self.cases, lower(name));
            drop_one(&mut self.forms, composed(name));
        }
    }
}

impl Sightings {
    pub(super) fn new(case: Known<CaseRule>, forms: Known<FormRule>) -> Sightings {
        let tells_case = case == Known::Is(CaseRule::Sensitive);
        let tells_forms = forms == Known::Is(FormRule::Apart);
        Sightings { tells_case, tells_forms, ..Sightings::default() }
    }

    /// `seen_s` is when the listing began.
    pub(super) fn note(&mut self, path: &RelPath, names: Names, seen_s: i64) {
        self.learn(&names);
        if let Some(old) = self.folders.remove(path) {
            self.names -= old.names.exact.len();
        }
        if self.names + names.exact.len() > NAMES_MAX {
            self.folders.clear();
            self.names = 0;
        }
        self.names += names.exact.len();
        self.folders.insert(path.clone(), Sighting { seen_s, names });
    }

    fn learn(&mut self, names: &Names) {
        self.tells_case |= names.cases.len() < names.exact.len();
        self.tells_forms |= names.forms.len() < names.exact.len();
    }

    /// We have just put something there ourselves.
    pub(super) fn add(&mut self, path: &RelPath, name: &Name) {
        if let Some(sighting) = self.folders.get_mut(path) {
            let before = sighting.names.exact.len();
            sighting.names.add(name.as_str());
            self.names += sighting.names.exact.len() - before;
        }
    }

    /// We have just taken something away ourselves.
    pub(super) fn remove(&mut self, path: &RelPath, name: &Name) {
        if let Some(sighting) = self.folders.get_mut(path) {
            let before = sighting.names.exact.len();
            sighting.names.remove(name.as_str());
            self.names -= before - sighting.names.exact.len();
        }
    }

    /// Whether listing the folder took several requests.
    pub(super) fn is_long(&self, path: &RelPath) -> bool {
        self.folders.get(path).is_some_and(|sighting| sighting.names.exact.len() > PAGE)
    }

    /// `None` if nobody has looked lately.
    pub(super) fn verdict(&self, path: &RelPath, name: &Name, now_s: i64) -> Option<Verdict> {
        let sighting = self.folders.get(path)?;
        let pages = i64::try_from(sighting.names.exact.len() / PAGE).unwrap_or(i64::MAX);
        let fresh_s = FRESH_S_PER_PAGE.saturating_mul(pages.saturating_add(1));
        let age_s = now_s.saturating_sub(sighting.seen_s);
        (0..=fresh_s).contains(&age_s).then(|| self.judge(&sighting.names, name))
    }

    /// Whether a move may take a name without another look: nobody else takes one of ours, and of the
    /// others a listing of this minute tells.
    pub(super) fn has_room(&self, path: &RelPath, name: &Name, now_s: i64) -> bool {
        const MOMENT_S: i64 = 60;
        let Some(sighting) = self.folders.get(path) else { return false };
        let is_young = (0..=MOMENT_S).contains(&now_s.saturating_sub(sighting.seen_s));
        (is_young || name.is_internal()) && self.judge(&sighting.names, name) == Verdict::Free
    }

    /// Whether a folder of these names has room for another one.
    pub(super) fn judge(&self, names: &Names, name: &Name) -> Verdict {
        let name = name.as_str();
        if names.exact.contains_key(&hash(name.chars())) {
            return Verdict::Taken;
        }
        let alike = !self.tells_case && names.cases.contains_key(&lower(name))
            || !self.tells_forms && names.forms.contains_key(&composed(name));
        if alike { Verdict::Alike } else { Verdict::Free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn seen(names: &[&str]) -> Sightings {
        let mut sightings = Sightings::default();
        sightings.note(&RelPath::root(), names.iter().copied().collect(), 100);
        sightings
    }

    // NM-01, NM-18
    #[test]
    fn names_that_a_service_may_take_for_one_are_alike_until_it_shows_both() {
        let verdict = |s: &Sightings, n: &str| s.verdict(&RelPath::root(), &name(n), 100);
        let careful = seen(&["a", "\u{e9}"]);
        assert_eq!(verdict(&careful, "a"), Some(Verdict::Taken));
        assert_eq!(verdict(&careful, "A"), Some(Verdict::Alike));
        assert_eq!(verdict(&careful, "e\u{301}"), Some(Verdict::Alike));
        assert_eq!(verdict(&careful, "b"), Some(Verdict::Free));
        let proved = seen(&["a", "A", "\u{e9}"]);
        assert_eq!(verdict(&proved, "\u{c9}"), Some(Verdict::Free));
        assert_eq!(verdict(&proved, "e\u{301}"), Some(Verdict::Alike));
    }

    // EE-03
    #[test]
    fn a_move_takes_a_name_on_the_word_of_a_listing_of_this_minute_only() {
        let sightings = seen(&["a"]);
        let has_room = |n: &str, at| sightings.has_room(&RelPath::root(), &name(n), at);
        assert!(has_room("b", 100) && has_room("b", 160));
        assert!(!has_room("b", 161) && !has_room("b", 99) && !has_room("a", 100));
        assert!(has_room(".foldsync-park-7", 9999), "the name is ours alone");
    }

    #[test]
    fn a_name_that_left_is_free_and_one_that_is_alike_still_counts() {
        let mut sightings = seen(&["a", "\u{e9}", "e\u{301}"]);
        let verdict = |s: &Sightings, n: &str| s.verdict(&RelPath::root(), &name(n), 100);
        sightings.remove(&RelPath::root(), &name("a"));
        sightings.remove(&RelPath::root(), &name("a"));
        assert_eq!(verdict(&sightings, "a"), Some(Verdict::Free));
        sightings.remove(&RelPath::root(), &name("\u{e9}"));
        assert_eq!(verdict(&sightings, "\u{c9}"), Some(Verdict::Free));
        assert_eq!(verdict(&sightings, "E\u{301}"), Some(Verdict::Alike));
        // RM-09: the other one of two items of a name still has it.
        let mut twins = seen(&["a", "a"]);
        twins.remove(&RelPath::root(), &name("a"));
        assert_eq!(verdict(&twins, "a"), Some(Verdict::Taken));
    }

    // EE-03
    #[test]
    fn an_old_sighting_says_nothing() {
        let mut sightings = seen(&["a"]);
        let at = |s: &Sightings, now| s.verdict(&RelPath::root(), &name("b"), now);
        assert_eq!(at(&sightings, 130), Some(Verdict::Free));
        assert_eq!(at(&sightings, 131), None);
        assert_eq!(at(&sightings, 99), None, "the clock was set back");
        sightings.add(&RelPath::root(), &name("b"));
        assert_eq!(at(&sightings, 130), Some(Verdict::Taken));
    }
}
