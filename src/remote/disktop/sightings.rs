//! Which names folders had when they were last listed: a last check before something new takes one.
//!
//! Nobody knows what the service does with a name that is taken, nor which names it takes for the
//! same. Nothing is looked up here; an answer that is old or missing only costs a listing.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use unicode_normalization::UnicodeNormalization;

use super::FormRule;
use crate::remote::{CaseRule, Known};
use crate::tree::{Name, RelPath};

/// How long a listing is good enough, in seconds for each page that it took: looking again must
/// stay cheap beside what is done meanwhile.
const FRESH_S_PER_PAGE: i64 = 30;
const PAGE: i64 = 200;
/// Names that are remembered, over all folders. A few bytes each.
const NAMES_MAX: usize = 2_000_000;

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

/// The names of a folder, in the forms that they are compared in; hashed, to be small.
#[derive(Default)]
pub(super) struct Names {
    exact: HashSet<u64>,
    cases: HashSet<u64>,
    forms: HashSet<u64>,
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
        self.exact.insert(hash(name.chars()));
        self.cases.insert(lower(name));
        self.forms.insert(composed(name));
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

    /// `None` if nobody has looked lately.
    pub(super) fn verdict(&self, path: &RelPath, name: &Name, now_s: i64) -> Option<Verdict> {
        let sighting = self.folders.get(path)?;
        let count = i64::try_from(sighting.names.exact.len()).unwrap_or(i64::MAX);
        let fresh_s = FRESH_S_PER_PAGE.saturating_mul(1 + count / PAGE);
        let age_s = now_s.saturating_sub(sighting.seen_s);
        (0..=fresh_s).contains(&age_s).then(|| self.judge(&sighting.names, name))
    }

    /// Whether a folder of these names has room for another one.
    pub(super) fn judge(&self, names: &Names, name: &Name) -> Verdict {
        let name = name.as_str();
        if names.exact.contains(&hash(name.chars())) {
            return Verdict::Taken;
        }
        let alike = !self.tells_case && names.cases.contains(&lower(name))
            || !self.tells_forms && names.forms.contains(&composed(name));
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
