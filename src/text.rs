//! How things are written for people: names without control characters, sizes, rates, times.
//!
//! Every name that comes from a disk or a service passes through `printable` before a terminal sees
//! it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::Timestamp;

/// Replaces what could move a cursor, change colours or reorder a line by visible escapes such as
/// `\u{1b}`. SE-24, NM-15.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// The same for a text that is JSON: it means the same as before. JSON's own writer leaves alone what
/// is above ASCII.
pub fn json_printable(json: &str) -> String {
    if !json.chars().any(is_unsafe) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn is_unsafe(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Line and paragraph separators, invisible marks, and the tags that can hide text in text.
    let hides = matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || reorders || hides
}

/// `84.1 KiB`, `12 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be written as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12,481`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2 files`; the plural is the word with an `s`.
pub fn counted(number: u64, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {word}{plural}", count(number))
}

/// `0.4 s`, `12 s`, `6h 10m`, `3 days`: two figures are enough for a person.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// RFC 3339, or a dash for a moment that never was.
pub fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), Timestamp::rfc3339)
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Good,
    Notice,
    Bad,
    Quiet,
}

impl Paint {
    /// The parameter of its escape sequence.
    pub fn code(self) -> &'static str {
        match self {
            Paint::Good => "32",
            Paint::Notice => "33",
            Paint::Bad => "31",
            Paint::Quiet => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        // SE-24, NM-15
        assert_eq!(
            printable("a\u{1b}[31mb\nc\u{202e}d\u{7f}\u{9b}"),
            "a\\u{1b}[31mb\\nc\\u{202e}d\\u{7f}\\u{9b}"
        );
        assert_eq!(printable("报告 é 👩‍👩‍👧 \\n"), "报告 é 👩‍👩‍👧 \\n");
    }

    #[test]
    fn json_says_the_same_without_control_characters() {
        // SE-24
        let name = "a\u{9b}b\u{202e}c\u{e0041}\u{1b}\n文";
        let json = json_printable(&serde_json::to_string(name).unwrap());
        assert!(!json.chars().any(is_unsafe), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), name);
    }

    #[test]
    fn sizes_have_one_decimal_and_never_reach_the_next_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (86_118, "84.1 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_are_grouped_and_their_word_agrees() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(12_481, "file"), "12,481 files");
    }

    #[test]
    fn durations_name_at_most_two_units() {
        for (seconds, text) in
            [(9, "9.0 s"), (59, "59 s"), (61, "1m 1s"), (22_200, "6h 10m"), (259_200, "3 days")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
