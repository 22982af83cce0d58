//! What the users of a crash test do on both sides: a seed decides, and the trees as they are, so that
//! twins do the same. Names of conflict copies differ between twins only in their times.

use super::pair::Pair;
use super::pair::random::Random;
use super::pair::side::Side;
use super::pair::tree::plain;

/// See the module text.
pub(crate) struct Users {
    random: Random,
    seed: u64,
    written: u32,
}

impl Users {
    pub(crate) fn new(seed: u64) -> Users {
        Users { random: Random::new(seed), seed, written: 0 }
    }

    /// Some 300 files in some 40 folders on the local side.
    pub(crate) fn settle_in(&mut self, pair: &Pair) {
        self.fill(&pair.local(), "");
    }

    /// As many, partly in the same folders, on the remote side.
    pub(crate) fn settle_in_remotely(&mut self, pair: &Pair) {
        self.fill(&pair.remote(), "r");
    }

    fn fill(&mut self, side: &Side<'_>, mark: &str) {
        for number in 0..300 {
            let folder = match number % 40 {
                0 => String::new(),
                n if n < 20 => format!("d{n}/"),
                n => format!("d{}/e{n}/", n % 7),
            };
            let content = self.content();
            side.write(&format!("{folder}f{number}{mark}"), content);
        }
    }

    /// A day's changes on both sides.
    pub(crate) fn change(&mut self, pair: &Pair) {
        for _ in 0..2 {
            self.edit_on_both_sides(pair);
        }
        for step in 0..44 {
            let sides = pair.both();
            let side = &sides[self.random.below(2)];
            self.step(side, step);
        }
    }

    fn edit_on_both_sides(&mut self, pair: &Pair) {
        let Some(path) = self.any(&files(&pair.local())) else { return };
        for side in pair.both() {
            if side.path(&path).is_file() {
                let content = self.content();
                side.write(&path, content);
            }
        }
    }

    fn step(&mut self, side: &Side<'_>, step: u32) {
        let (files, folders) = (files(side), folders(side));
        let (Some(file), Some(folder)) = (self.any(&files), self.any(&folders)) else { return };
        let fresh = format!("n{:x}-{step}", self.seed);
        match self.random.below(44) {
            0..10 => {
                side.write(&file, self.content());
            }
            10..13 => {
                side.replace(&file, self.content());
            }
            13..19 => {
                side.write(&format!("{folder}/{fresh}"), self.content());
            }
            19..26 => {
                side.rename(&file, &format!("{folder}/{fresh}"));
            }
            26..29 => {
                let other = self.any(&folders).unwrap_or_default();
                if !format!("{other}/").starts_with(&format!("{folder}/")) {
                    side.rename(&folder, &format!("{other}/{fresh}"));
                }
            }
            29..31 => {
                side.rename(&folder, &fresh);
            }
            31..34 => {
                let other = self.any(&files).unwrap_or_default();
                if other != file {
                    side.swap(&file, &other);
                }
            }
            34 => {
                let other = self.any(&folders).unwrap_or_default();
                let apart = |a: &str, b: &str| !format!("{a}/").starts_with(&format!("{b}/"));
                if apart(&folder, &other) && apart(&other, &folder) {
                    side.swap(&folder, &other);
                }
            }
            35..40 => {
                side.delete(&file);
            }
            40 => {
                let small = folders.iter().find(|folder| few_below(&files, folder));
                if let Some(folder) = small {
                    side.delete(folder);
                }
            }
            41 => {
                side.delete(&file).write(&format!("{file}/was-a-file"), self.content());
            }
            42 => {
                let small = folders.iter().rfind(|folder| few_below(&files, folder));
                if let Some(folder) = small {
                    let content = self.content();
                    side.delete(folder).write(folder, content);
                }
            }
            _ => {
                side.mkdir(&format!("{folder}/{fresh}/empty"));
            }
        }
    }

    fn any(&mut self, paths: &[String]) -> Option<String> {
        if paths.is_empty() {
            return None;
        }
        Some(paths[self.random.below(paths.len())].clone())
    }

    /// Different each time, and in every world; mostly small, at times large.
    fn content(&mut self) -> Vec<u8> {
        self.written += 1;
        let mut content = format!("{:x} wrote {}\n", self.seed, self.written).into_bytes();
        let room = if self.random.below(20) == 0 { 200_000 } else { 2000 };
        content.resize(content.len() + self.random.below(room), b'.');
        content
    }
}

fn few_below(files: &[String], folder: &str) -> bool {
    files.iter().filter(|file| file.starts_with(&format!("{folder}/"))).count() <= 4
}

/// In an order that twins share.
fn files(side: &Side<'_>) -> Vec<String> {
    let mut files = side.tree().files();
    files.sort_by_cached_key(|(path, content)| (plain(path), content.clone()));
    files.into_iter().map(|(path, _)| path).collect()
}

fn folders(side: &Side<'_>) -> Vec<String> {
    let tree = side.tree();
    tree.paths().filter(|path| side.path(path).is_dir()).map(str::to_owned).collect()
}
