//! What makes a pair work less well than it could, in one word and one sentence each.
//!
//! Judges what it is given: looks at no clock, disk or network.

use std::time::Duration;

use super::status::Degraded;
use crate::text::{duration, size};

/// Signed requests and logins begin to fail at about this much.
const SKEW_MAX_S: u64 = 60;

/// What is known of how a pair fares.
#[derive(Clone, Debug, Default)]
pub(super) struct Vitals {
    /// Why changes of the local folder are not told, and what a person can do.
    pub(super) polling: Option<String>,
    /// Age of the oldest listing of the remote that the state rests on, or of the start.
    pub(super) listing_age: Duration,
    /// The age that it may have.
    pub(super) listing_age_max: Duration,
    /// The remote's listings lack what is there.
    pub(super) lags: bool,
    /// How far the remote's clock is ahead of ours.
    pub(super) skew_s: Option<i64>,
    /// Bytes that can still be written locally, and how many there should be.
    pub(super) free: Option<u64>,
    pub(super) free_min: u64,
    /// Sides, local first, that refused something for lack of room.
    pub(super) full: [bool; 2],
}

impl Vitals {
    /// The words for programs and the sentences for people.
    pub(super) fn judge(&self) -> (Vec<Degraded>, Vec<String>) {
        let found = [
            (Degraded::Polling, self.polling.clone()),
            (Degraded::StaleListing, self.stale_listing()),
            (Degraded::ClockSkew, self.clock_skew()),
            (Degraded::LowSpace, self.low_space()),
            (Degraded::QuotaFull, self.quota_full()),
        ];
        let said = found.into_iter().filter_map(|(word, said)| Some((word, said?)));
        said.unzip()
    }

    fn stale_listing(&self) -> Option<String> {
        if self.listing_age > self.listing_age_max {
            let age = duration(self.listing_age);
            return Some(format!("stale listing: the remote was not listed completely for {age}"));
        }
        let lags = "stale listing: the remote's listings lack what it holds";
        self.lags.then(|| lags.to_owned())
    }

    fn clock_skew(&self) -> Option<String> {
        let ahead = self.skew_s.filter(|skew| skew.unsigned_abs() > SKEW_MAX_S)?;
        let word = if ahead > 0 { "behind" } else { "ahead of" };
        let by = duration(Duration::from_secs(ahead.unsigned_abs()));
        Some(format!("clock skew: this computer's clock is {by} {word} the remote's"))
    }

    fn low_space(&self) -> Option<String> {
        if self.full[0] {
            return Some("low space: there was no room for a download".to_owned());
        }
        let free = self.free.filter(|free| *free < self.free_min)?;
        Some(format!("low space: {} are free for the local folder", size(free)))
    }

    fn quota_full(&self) -> Option<String> {
        let full = "quota full: the remote has no room for an upload";
        self.full[1].then(|| full.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(vitals: &Vitals) -> Vec<Degraded> {
        let (words, notes) = vitals.judge();
        assert_eq!(words.len(), notes.len());
        words
    }

    #[test]
    fn a_pair_that_is_well_has_nothing_to_say() {
        let second = Duration::from_secs(1);
        let well = Vitals {
            listing_age: second,
            listing_age_max: second,
            skew_s: Some(-60),
            free: Some(10),
            free_min: 10,
            ..Vitals::default()
        };
        assert_eq!(words(&well), []);
        assert_eq!(words(&Vitals { free: None, skew_s: None, ..well }), []);
    }

    #[test]
    fn each_trouble_has_its_word_and_they_come_in_one_order() {
        let ill = Vitals {
            polling: Some("polling: a limit".to_owned()),
            listing_age: Duration::from_secs(1),
            skew_s: Some(7200),
            free: Some(9),
            free_min: 10,
            full: [false, true],
            ..Vitals::default()
        };
        assert_eq!(words(&ill), Degraded::ALL);
        assert_eq!(words(&Vitals { lags: true, ..Vitals::default() }), [Degraded::StaleListing]);
        let full = Vitals { full: [true, false], ..Vitals::default() };
        assert_eq!(words(&full), [Degraded::LowSpace]);
    }

    #[test]
    fn the_clock_is_told_in_the_right_direction() {
        let said = |ahead| {
            let vitals = Vitals { skew_s: Some(ahead), ..Vitals::default() };
            vitals.judge().1.concat()
        };
        assert!(said(7200).contains("2h 0m behind the remote's"), "{}", said(7200));
        assert!(said(-7200).contains("2h 0m ahead of the remote's"), "{}", said(-7200));
    }
}
