//! Sizes, rates, timetables, durations and deletion limits, as people write them in the
//! configuration and on the command line.
//!
//! Each type reads its text and writes it back so that it reads the same. Nothing here looks at a
//! clock or a file.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::BrakeLimit;

const KIB: u64 = 1024;

/// What a unit letter multiplies by; all units are powers of 1024.
fn size_unit(unit: &str) -> Option<u64> {
    match unit {
        "" | "B" | "b" => Some(1),
        "K" | "k" | "Ki" | "KiB" | "kib" => Some(KIB),
        "M" | "m" | "Mi" | "MiB" | "mib" => Some(KIB.pow(2)),
        "G" | "g" | "Gi" | "GiB" | "gib" => Some(KIB.pow(3)),
        "T" | "t" | "Ti" | "TiB" | "tib" => Some(KIB.pow(4)),
        _ => None,
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(end)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        const ALLOWED: &str = "write bytes with an optional K, M, G or T, such as 512KiB, 1.5GiB or 10M (powers of 1024)";
        let (number, unit) = split_number(text.trim());
        let factor =
            size_unit(unit.trim()).ok_or_else(|| format!("`{text}` is not a size: {ALLOWED}"))?;
        if let Ok(whole) = number.parse::<u64>() {
            let bytes =
                whole.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))?;
            return Ok(Size(bytes));
        }
        match number.parse::<f64>() {
            // Exact up to 2^53, which is more than a disk holds.
            Ok(value) if value.is_finite() && value * (factor as f64) < 9e15 => {
                Ok(Size((value * factor as f64).round() as u64))
            }
            Ok(_) => Err(format!("`{text}` is too large")),
            Err(_) => Err(format!("`{text}` is not a size: {ALLOWED}")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0;
        let mut unit = "B";
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value == 0 || !value.is_multiple_of(KIB) {
                break;
            }
            value /= KIB;
            unit = next;
        }
        write!(f, "{value}{unit}")
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Unlimited,
    Limited(NonZeroU64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "off" {
            return Ok(Rate::Unlimited);
        }
        if text.contains(':') {
            return Err(format!("`{text}` has two parts: upload and download have a key each"));
        }
        let text = text.trim_end_matches("/s");
        let Size(bytes) = text.parse().map_err(|_| {
            format!("`{text}` is not a rate: write `off` or bytes per second, such as 512K or 1.5M")
        })?;
        Ok(NonZeroU64::new(bytes).map_or(Rate::Unlimited, Rate::Limited))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Unlimited => f.write_str("off"),
            Rate::Limited(bytes) => Size(bytes.get()).fmt(f),
        }
    }
}

const MINUTES_OF_DAY: u16 = 24 * 60;
const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A rate that changes with the time of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    text: String,
    /// Minute of the week (Monday 00:00 is 0) from which a rate holds; sorted, never empty.
    slots: Vec<(u16, Rate)>,
}

impl Timetable {
    pub fn always(rate: Rate) -> Timetable {
        Timetable { text: rate.to_string(), slots: vec![(0, rate)] }
    }

    /// The rate in a minute of the week, local time, counted from Monday 00:00. Before the first
    /// entry of the week the last one of the week before still holds.
    pub fn rate_at(&self, minute_of_week: u16) -> Rate {
        let earlier = self.slots.iter().rev().find(|(from, _)| *from <= minute_of_week);
        earlier.or(self.slots.last()).map_or(Rate::Unlimited, |(_, rate)| *rate)
    }
}

impl FromStr for Timetable {
    type Err = String;

    /// One rate, or rclone's grammar: `"08:00,512K 23:00,off"`, `"Mon-08:00,512K Sat-00:00,off"`.
    fn from_str(text: &str) -> Result<Timetable, String> {
        if !text.contains(',') && text.split_whitespace().count() == 1 {
            return Ok(Timetable { text: text.to_owned(), slots: vec![(0, text.trim().parse()?)] });
        }
        let mut slots = Vec::new();
        for entry in text.split_whitespace() {
            let (when, rate) = entry.split_once(',').ok_or_else(|| {
                format!(
                    "`{entry}` is not an entry of a timetable: write HH:MM,RATE or Mon-HH:MM,RATE"
                )
            })?;
            let rate: Rate = rate.parse()?;
            let (days, minute) = parse_when(when)?;
            slots.extend(days.map(|day| (day * MINUTES_OF_DAY + minute, rate)));
        }
        if slots.is_empty() {
            return Err("an empty rate: write `off` or bytes per second, such as 512K".to_owned());
        }
        slots.sort_by_key(|(minute, _)| *minute);
        if let Some(pair) = slots.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let minute = pair[0].0 % MINUTES_OF_DAY;
            return Err(format!(
                "two entries of the timetable begin at {:02}:{:02}",
                minute / 60,
                minute % 60
            ));
        }
        Ok(Timetable { text: text.to_owned(), slots })
    }
}

/// The days (0 is Monday) and the minute of the day that `Mon-08:00` or `08:00` name.
fn parse_when(when: &str) -> Result<(std::ops::Range<u16>, u16), String> {
    let (days, time) = match when.split_once('-') {
        None => (0..7, when),
        Some((day, time)) => {
            let short = day.to_ascii_lowercase();
            let found = DAYS.iter().position(|name| short.len() >= 3 && name.starts_with(&short));
            let day = found.ok_or_else(|| {
                format!(
                    "`{day}` is not a day of the week: write Mon, Tue, Wed, Thu, Fri, Sat or Sun"
                )
            })?;
            let day = u16::try_from(day).unwrap_or(0);
            (day..day + 1, time)
        }
    };
    let bad = || format!("`{time}` is not a time of day: write HH:MM, such as 08:00");
    let (hours, minutes) = time.split_once(':').ok_or_else(bad)?;
    let hours: u16 = hours.parse().map_err(|_| bad())?;
    let minutes: u16 = minutes.parse().map_err(|_| bad())?;
    if hours > 23 || minutes > 59 {
        return Err(bad());
    }
    Ok((days, hours * 60 + minutes))
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A span of time, as `30s`, `5m`, `1h30m` or `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Longest first: the order in which a span is written.
const SPAN_UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let bad = || {
            format!(
                "`{text}` is not a duration: write a number and ms, s, m, h, d or w, such as 30s, 5m or 30d"
            )
        };
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Span(Duration::ZERO));
        }
        let mut total = 0.0f64;
        while !rest.is_empty() {
            let (number, after) = split_number(rest);
            let value: f64 = number.parse().map_err(|_| bad())?;
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(end);
            let (_, ms) = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
            total += value * (*ms as f64);
            rest = tail;
        }
        // A hundred years: beyond that it is a typing error, and sums with clocks overflow.
        if text.trim().is_empty() || total > 3.2e12 {
            return Err(bad());
        }
        Ok(Span(Duration::from_millis(total.round() as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        // Weeks are read, but nobody writes four weeks and two days for a month.
        for (name, ms) in SPAN_UNITS.iter().skip(1) {
            if left >= *ms {
                write!(f, "{}{name}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

/// What `max_delete` is where nothing is said: the contract's.
pub const MAX_DELETE: BrakeLimit = BrakeLimit { share_percent: Some(25), count: Some(FILES_MAX) };
/// The number that holds where only a share is given.
const FILES_MAX: u64 = 1000;

/// `max_delete` and `max_change`.
impl FromStr for BrakeLimit {
    type Err = String;

    /// `N%` (and the default number), `N` (and no share), or both: `25%,500`.
    fn from_str(text: &str) -> Result<BrakeLimit, String> {
        let bad = || {
            format!(
                "`{text}` is not a limit: write a share such as 25%, a number such as 1000, or both as 25%,1000"
            )
        };
        let (mut share, mut count) = (None, None);
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            match part.strip_suffix('%') {
                Some(number) if share.is_none() => {
                    let percent: u32 = number.trim().parse().map_err(|_| bad())?;
                    if percent > 100 {
                        return Err(format!(
                            "`{part}` is more than everything: write at most 100%"
                        ));
                    }
                    share = Some(percent);
                }
                None if count.is_none() => count = Some(part.parse().map_err(|_| bad())?),
                _ => return Err(bad()),
            }
        }
        match (share, count) {
            (None, None) => Err(bad()),
            (Some(_), None) => Ok(BrakeLimit { share_percent: share, count: Some(FILES_MAX) }),
            (_, Some(_)) => Ok(BrakeLimit { share_percent: share, count }),
        }
    }
}

impl fmt::Display for BrakeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.share_percent, self.count) {
            (Some(share), None) => write!(f, "{share}%"),
            (Some(share), Some(FILES_MAX)) => write!(f, "{share}%"),
            (Some(share), Some(count)) => write!(f, "{share}%,{count}"),
            (None, Some(count)) => write!(f, "{count}"),
            (None, None) => f.write_str("100%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_with_or_without_the_long_suffix() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("512K", 512 << 10),
            ("512KiB", 512 << 10),
            ("10M", 10 << 20),
            ("1.5GiB", 3 << 29),
            ("2G", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn a_size_in_decimal_units_or_with_a_sign_is_refused() {
        for text in ["", "K", "12KB", "12 apples", "-1", "1e9", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_so_that_it_reads_the_same() {
        for (bytes, text) in
            [(0, "0B"), (512 << 10, "512KiB"), (1000, "1000B"), (3 << 29, "1536MiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
    }

    #[test]
    fn the_timetable_of_the_contract_is_slow_by_day_and_free_at_night() {
        let table: Timetable = "08:00,512K 23:00,off".parse().unwrap();
        let slow = Rate::Limited(NonZeroU64::new(512 << 10).unwrap());
        let wednesday = 2 * MINUTES_OF_DAY;
        assert_eq!(table.rate_at(wednesday + 8 * 60), slow);
        assert_eq!(table.rate_at(wednesday + 22 * 60 + 59), slow);
        assert_eq!(table.rate_at(wednesday + 23 * 60), Rate::Unlimited);
        assert_eq!(table.rate_at(wednesday + 7 * 60 + 59), Rate::Unlimited);
        assert_eq!(table.rate_at(0), Rate::Unlimited, "Monday morning is still Sunday night's");
    }

    #[test]
    fn a_timetable_may_name_days_and_the_last_entry_of_the_week_goes_on() {
        let table: Timetable = "Mon-08:00,1M Saturday-00:00,off".parse().unwrap();
        let working = Rate::Limited(NonZeroU64::new(1 << 20).unwrap());
        assert_eq!(table.rate_at(0), Rate::Unlimited);
        assert_eq!(table.rate_at(8 * 60), working);
        assert_eq!(table.rate_at(4 * MINUTES_OF_DAY), working);
        assert_eq!(table.rate_at(6 * MINUTES_OF_DAY), Rate::Unlimited);
    }

    #[test]
    fn one_rate_holds_all_week() {
        for (text, rate) in [
            ("off", Rate::Unlimited),
            ("0", Rate::Unlimited),
            ("100", Rate::Limited(NonZeroU64::new(100).unwrap())),
            ("1.5M", Rate::Limited(NonZeroU64::new(3 << 19).unwrap())),
        ] {
            assert_eq!(text.parse::<Timetable>().unwrap().rate_at(5000), rate, "{text}");
        }
    }

    #[test]
    fn a_timetable_that_makes_no_sense_is_refused() {
        for text in [
            "",
            "fast",
            "24:00,1M 1:00,off",
            "8,1M 9:00,1M",
            "Xyz-08:00,1M 1:00,off",
            "1M 2M",
            "08:00,1M 8:00,2M",
            "1M:2M",
        ] {
            assert!(text.parse::<Timetable>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_with_one_unit_or_several() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("1h", 3600),
            ("30d", 2_592_000),
            ("1h30m", 5400),
            ("2w", 1_209_600),
            ("0", 0),
            ("1.5h", 5400),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        for text in ["", "30", "s", "1y", "5 m", "-1s", "999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_so_that_it_reads_the_same() {
        for (text, written) in
            [("90s", "1m30s"), ("30d", "30d"), ("0", "0s"), ("1500ms", "1s500ms")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse(), Ok(span));
        }
    }

    #[test]
    fn a_share_alone_keeps_the_default_number_and_a_number_alone_has_no_share() {
        assert_eq!("25%".parse(), Ok(MAX_DELETE));
        assert_eq!("500".parse(), Ok(BrakeLimit { share_percent: None, count: Some(500) }));
        assert_eq!("10%,50".parse(), Ok(BrakeLimit { share_percent: Some(10), count: Some(50) }));
        for text in ["", "%", "101%", "many", "5%,6%", "1,2", "-1"] {
            assert!(text.parse::<BrakeLimit>().is_err(), "{text}");
        }
    }
}
