//! What a disk is like, and what follows from it, in words for people.

use super::{DiskFacts, Numbers};
use crate::tree::names::{CaseRule, FormRule, Known};

/// Less than this many new files is worth a word.
const FREE_INODES_MIN: u64 = 10_000;
/// The longest name that most file systems take.
const NAME_MAX: usize = 255;

/// A fact with its consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What a person should know; the others are as on most disks.
    pub is_notice: bool,
    pub text: String,
}

impl DiskFacts {
    /// What a person should know of this disk, in a fixed order.
    pub fn findings(&self) -> Vec<Finding> {
        let mut all = vec![fine(format!("file system {}", self.file_system)), self.of_numbers()];
        all.extend(self.of_stamps());
        all.extend(self.of_names());
        all.extend(self.of_changes());
        all
    }

    fn of_numbers(&self) -> Finding {
        match self.numbers {
            Known::Is(Numbers::Last) => fine("inode numbers last: a renamed file is recognised by its number".to_owned()),
            Known::Is(Numbers::Change) => notice(
                "inode numbers change when the disk is mounted again: they are not used. A renamed \
                 file is recognised by its content, which is read once for that"
                    .to_owned(),
            ),
            Known::Unknown => notice(
                "it is not known whether inode numbers survive a remount: they are not used. A \
                 renamed file is recognised by its content, which is read once for that"
                    .to_owned(),
            ),
        }
    }

    fn of_stamps(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let again =
            if self.stamp_rule().is_coarse() { "before the sync ends" } else { "at the next sync" };
        found.push(match self.stamps.grain_ns {
            Known::Is(grain) if grain < 10_000_000 => fine("time stamps are fine".to_owned()),
            Known::Is(grain) => notice(format!(
                "time stamps are multiples of {}: a file that was written within that time before \
                 it was read is read again {again}",
                span(grain)
            )),
            Known::Unknown => notice(format!(
                "the grain of time stamps is not known: a file that was written within 3 seconds \
                 before it was read is read again {again}"
            )),
        });
        if let Known::Is(ahead) = self.stamps.ahead_ns
            && ahead != 0
        {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let text = format!(
                "the disk's clock is about {} {way} this computer's: this is taken into account, but \
                 set the clocks, for example by NTP",
                span(ahead.saturating_abs())
            );
            found.push(notice(text));
        }
        if self.stamps.change_times.is(false) {
            let text = "no change times: an edit that keeps size and modification time is not \
                        noticed (foldsync rescan --deep reads everything)";
            found.push(notice(text.to_owned()));
        }
        found
    }

    fn of_names(&self) -> Vec<Finding> {
        let spelling = &self.spelling;
        let mut found = vec![match spelling.case {
            Known::Is(CaseRule::Sensitive) => {
                fine("names that differ in case are two names".to_owned())
            }
            Known::Is(CaseRule::Insensitive) => notice(
                "names that differ only in case are one name: one of such a pair is skipped"
                    .to_owned(),
            ),
            Known::Unknown => notice(
                "it is not known whether names that differ only in case are one name".to_owned(),
            ),
        }];
        match spelling.forms {
            Known::Is(FormRule::Apart) | Known::Unknown => {}
            Known::Is(FormRule::Alike) => found.push(notice(
                "names that differ only in their Unicode form are one name: one of such a pair is skipped".to_owned(),
            )),
            Known::Is(FormRule::Respelled) => found.push(notice(
                "names are stored in another Unicode form: files keep the form that they have on the other side".to_owned(),
            )),
        }
        if spelling.trailing.is(false) {
            found.push(notice("names that end in a dot or a space are skipped".to_owned()));
        }
        if let Known::Is(refused) = &spelling.forbidden
            && !refused.is_empty()
        {
            let shown: Vec<String> =
                refused.chars().filter(|c| !c.is_control()).map(String::from).collect();
            found.push(notice(format!("names with one of these are skipped: {}", shown.join(" "))));
        }
        if let Known::Is(max) = spelling.chars_max
            && max < NAME_MAX
        {
            found.push(notice(format!("names of more than {max} characters are skipped")));
        }
        found
    }

    fn of_changes(&self) -> Vec<Finding> {
        let changes = &self.changes;
        let facts = [
            (changes.modes, "file modes cannot be set: they are not kept"),
            (changes.times, "modification times cannot be set: copies carry the time of the sync"),
            (
                // A hard link refuses to replace as well.
                if changes.hard_links.is(false) { changes.noreplace } else { Known::Unknown },
                "a rename cannot refuse to replace: a file that a program creates in the very moment \
                 in which a sync gives its name to another one is replaced",
            ),
            (
                changes.exchange,
                "two names cannot be exchanged: while a file is replaced, its name is missing for a moment",
            ),
        ];
        let mut found: Vec<Finding> = facts
            .into_iter()
            .filter(|(fact, _)| fact.is(false))
            .map(|(_, text)| notice(text.to_owned()))
            .collect();
        if let Some(free) = self.free_inodes.filter(|free| *free < FREE_INODES_MIN) {
            found.push(notice(format!(
                "there is room for only {free} more files, whatever their size"
            )));
        }
        found
    }
}

fn fine(text: String) -> Finding {
    Finding { is_notice: false, text }
}

fn notice(text: String) -> Finding {
    Finding { is_notice: true, text }
}

fn span(ns: i64) -> String {
    match ns {
        ns if ns >= 1_000_000_000 => format!("{} s", ns / 1_000_000_000),
        ns => format!("{} ms", ns / 1_000_000),
    }
}
