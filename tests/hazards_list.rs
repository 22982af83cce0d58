//! `HAZARDS.md` says which test covers which hazard: every test that it names must exist.

#![allow(clippy::unwrap_used, reason = "what builds a test may fail it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The rows of all tables: the id, and the cell that says what covers it.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("tests/HAZARDS.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let (id, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        let (group, number) = id.split_once('-')?;
        let is_id = group.len() == 2 && number.parse::<u8>().is_ok();
        is_id.then(|| (id.to_owned(), rest.rsplit_once(" | ").unwrap().1.to_owned()))
    });
    rows.collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn named_tests(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`').filter_map(|word| word.split_once(".rs::"))
}

#[test]
fn every_test_that_the_list_names_exists() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for (id, cell) in rows() {
        for (file, function) in named_tests(&cell) {
            let path = format!("{file}.rs");
            let text = files
                .entry(path.clone())
                .or_insert_with(|| fs::read_to_string(root().join(&path)).unwrap_or_default());
            if !text.contains(&format!("fn {function}(")) {
                missing.push(format!("{id}: {path}::{function}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_hazard_is_listed_once_with_a_test_or_a_reason() {
    let rows = rows();
    assert!(rows.len() > 250, "{} rows", rows.len());
    let mut ids: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "an id is listed twice");
    for (id, cell) in &rows {
        let has_reason = cell.strip_prefix("not ").is_some_and(|reason| reason.len() > 20);
        assert!(named_tests(cell).next().is_some() || has_reason, "{id}: {cell}");
    }
}

#[test]
fn a_scenario_that_cites_a_hazard_stands_in_its_row_unless_the_row_is_full() {
    let rows: BTreeMap<String, String> = rows().into_iter().collect();
    let mut absent = Vec::new();
    for item in fs::read_dir(root().join("tests/e2e")).unwrap() {
        let path = item.unwrap().path();
        let file = format!("tests/e2e/{}", path.file_name().unwrap().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let mut cited: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("// ") {
                let words = comment.split([' ', ',', ':']);
                cited.extend(words.filter(|word| rows.contains_key(*word)));
            } else if let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split('(').next().unwrap();
                for id in cited.drain(..) {
                    let cell = &rows[id];
                    let is_full = named_tests(cell).count() >= 6;
                    if !is_full && !cell.contains(&format!("`{file}::{name}`")) {
                        absent.push(format!("{id}: {file}::{name}"));
                    }
                }
            } else if line.is_empty() {
                cited.clear();
            }
        }
    }
    assert!(absent.is_empty(), "{absent:#?}");
}
