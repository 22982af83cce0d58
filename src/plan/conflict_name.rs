//! The names of conflict copies: `stem.conflict-YYYYMMDD-HHMMSS-HOST.ext`.
//!
//! Owns their form. Whether a name is free is the caller's question.

use crate::tree::{Kind, Name};

const MARKER: &str = ".conflict-";

/// Whether this is the name of a conflict copy.
pub fn is_copy(name: &Name) -> bool {
    find_marker(name.as_str()).is_some()
}

/// A copy of at least so many bytes may have lost the end of its stem, or its extension.
const CUT_BYTES_MIN: usize = 100;

/// Whether this is the name of a conflict copy of a file of that name, or of its original.
pub(crate) fn is_copy_of(copy: &Name, original: &Name) -> bool {
    if !is_copy(copy) {
        return false;
    }
    let (stem, ext) = split(original.as_str(), Kind::File);
    let (copied, copied_ext) = split(copy.as_str(), Kind::File);
    let is_cut = copy.as_str().len() >= CUT_BYTES_MIN;
    (copied, copied_ext) == (stem, ext)
        || (is_cut && stem.starts_with(copied) && (copied_ext == ext || copied_ext.is_empty()))
}

/// What the names of all conflict copies of a file of that name begin with.
pub(crate) fn copies_start_with(original: &Name) -> String {
    let (stem, _) = split(original.as_str(), Kind::File);
    if stem.len() < CUT_BYTES_MIN / 2 {
        format!("{stem}{MARKER}")
    } else {
        cut(stem, CUT_BYTES_MIN / 4).to_owned()
    }
}

/// The `attempt`th name (from 1) for a copy of `name`, at most `bytes_max` long. A copy of a copy
/// is named after the original.
pub(crate) fn copy_name(
    name: &Name,
    kind: Kind,
    mark: &str,
    bytes_max: usize,
    attempt: u32,
) -> Name {
    let (stem, ext) = split(name.as_str(), kind);
    // A dot in a host name would look like the start of an extension.
    let mut marker = format!("{MARKER}{}", mark.replace(['.', '/', '\0'], "-"));
    if attempt > 1 {
        marker.push_str(&format!("-{attempt}"));
    }
    // The extension stays unless that leaves no room for a single character of the stem.
    let ext = if marker.len() + ext.len() + 4 <= bytes_max { ext } else { "" };
    let room = bytes_max.saturating_sub(marker.len() + ext.len());
    let text = format!("{}{marker}{ext}", cut(stem, room));
    Name::new(&text).expect("a marker without separators between two parts of a name")
}

/// The original stem and the extension with its dot.
fn split(name: &str, kind: Kind) -> (&str, &str) {
    let (stem, rest) = match find_marker(name) {
        Some(at) => (&name[..at], &name[at + MARKER.len()..]),
        None => (name, name),
    };
    let nested = stem.len() != name.len();
    let dot = match kind {
        Kind::Dir => None,
        // The dot of a hidden file starts no extension.
        Kind::File => rest.rfind('.').filter(|at| (nested || *at > 0) && at + 1 < rest.len()),
    };
    match (dot, nested) {
        (Some(at), true) => (stem, &rest[at..]),
        (Some(at), false) => name.split_at(at),
        (None, _) => (stem, ""),
    }
}

/// Where the marker of a conflict copy starts: it is followed by a date and a time.
fn find_marker(name: &str) -> Option<usize> {
    name.match_indices(MARKER).map(|(at, _)| at).find(|at| {
        let after = &name.as_bytes()[at + MARKER.len()..];
        let shape = b"dddddddd-dddddd-";
        after.len() > shape.len()
            && shape.iter().zip(after).all(|(shape, byte)| match shape {
                b'd' => byte.is_ascii_digit(),
                literal => byte == literal,
            })
    })
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "20261121-101500-pc";

    fn copy(name: &str, kind: Kind, bytes_max: usize, attempt: u32) -> String {
        copy_name(&Name::new(name).unwrap(), kind, MARK, bytes_max, attempt).as_str().to_owned()
    }

    fn file(name: &str) -> String {
        copy(name, Kind::File, 255, 1)
    }

    #[test]
    fn the_mark_goes_between_stem_and_extension() {
        assert_eq!(file("a.txt"), "a.conflict-20261121-101500-pc.txt");
        assert_eq!(file("a.tar.gz"), "a.tar.conflict-20261121-101500-pc.gz");
        assert_eq!(file("Makefile"), "Makefile.conflict-20261121-101500-pc");
        assert_eq!(file(".bashrc"), ".bashrc.conflict-20261121-101500-pc");
        assert_eq!(file("ends."), "ends..conflict-20261121-101500-pc");
        assert_eq!(copy("v1.2", Kind::Dir, 255, 1), "v1.2.conflict-20261121-101500-pc");
    }

    // EE-07
    #[test]
    fn a_copy_of_a_copy_keeps_the_original_stem() {
        let first = file("a.txt");
        assert_eq!(file(&first), first);
        assert_eq!(file("a.conflict-20200101-000000-lap-2.txt"), first);
        assert_eq!(file("a.conflict-20200101-000000-lap"), "a.conflict-20261121-101500-pc");
        let folder = copy("d", Kind::Dir, 255, 1);
        assert_eq!(copy(&folder, Kind::Dir, 255, 1), folder);
    }

    #[test]
    fn a_name_that_only_talks_of_conflicts_is_not_a_copy() {
        for name in ["a.conflict-notes.txt", "a.conflict-2026.txt", "conflict-20261121-101500-pc"] {
            assert!(!is_copy(&Name::new(name).unwrap()), "{name}");
        }
        assert!(is_copy(&Name::new(&file("a.txt")).unwrap()));
    }

    // EE-07
    #[test]
    fn copies_of_a_name_are_known_whoever_made_them() {
        let is_copy_of = |copy: &str, of: &str| {
            let (copy, of) = (Name::new(copy).unwrap(), Name::new(of).unwrap());
            let starts = copy.as_str().starts_with(&copies_start_with(&of));
            assert!(starts || !is_copy_of(&copy, &of), "{copy} of {of}");
            is_copy_of(&copy, &of)
        };
        let copy = "a.conflict-20200101-000000-lap-2.txt";
        assert!(is_copy_of(copy, "a.txt"));
        assert!(is_copy_of(copy, &file("a.txt")), "the original is the same");
        assert!(!is_copy_of(copy, "a.md") && !is_copy_of(copy, "ab.txt"));
        assert!(!is_copy_of(copy, "a") && !is_copy_of("a.txt", "a.txt"));
        let long = format!("{}.jpg", "\u{8bb0}".repeat(83));
        for bytes_max in [255, 127] {
            assert!(is_copy_of(&super::tests::copy(&long, Kind::File, bytes_max, 1), &long));
        }
    }

    // EE-06
    #[test]
    fn further_attempts_carry_a_number_after_the_host() {
        assert_eq!(copy("a.txt", Kind::File, 255, 2), "a.conflict-20261121-101500-pc-2.txt");
    }

    // EE-11
    #[test]
    fn a_long_stem_is_cut_at_a_character_and_the_extension_stays() {
        let long = format!("{}.jpg", "\u{8bb0}".repeat(83));
        let name = copy(&long, Kind::File, 255, 1);
        assert!(name.len() <= 255 && name.len() > 252, "{}", name.len());
        assert!(name.ends_with(".conflict-20261121-101500-pc.jpg"));
        assert!(copy(&long, Kind::File, 127, 12).len() <= 127);
    }

    #[test]
    fn an_extension_longer_than_the_room_is_dropped() {
        let name = copy(&format!("a.{}", "e".repeat(250)), Kind::File, 255, 1);
        assert_eq!(name, "a.conflict-20261121-101500-pc");
    }

    #[test]
    fn a_host_with_dots_cannot_pass_for_an_extension() {
        let name =
            copy_name(&Name::new("a").unwrap(), Kind::File, "20261121-101500-pc.lan", 255, 1);
        assert_eq!(name.as_str(), "a.conflict-20261121-101500-pc-lan");
        assert_eq!(file(name.as_str()), "a.conflict-20261121-101500-pc");
    }
}
