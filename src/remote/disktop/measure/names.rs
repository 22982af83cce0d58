//! The trials of names: which ones the service takes for one, and which ones it does not take.
//!
//! A name counts as taken only if the folder shows it as it was written.

use super::expect_refusal;
use crate::remote::disktop::DiskTop;
use crate::remote::{ErrorKind, FormRule, Result};

/// Lengths in characters at which services draw the line; the largest one is the most that any file
/// system of a computer takes.
const LENGTHS: [usize; 13] = [21, 32, 42, 64, 80, 85, 100, 120, 127, 150, 200, 240, 255];
/// What some file systems and services refuse. `/` is no part of a name anywhere.
const SUSPECTS: &str = "\\:*?\"<>|";

/// Three bytes long, and one of the sixteen bits' worth of characters that every database takes.
const WIDE: &str = "名";

impl DiskTop {
    /// With files and with folders: where a taken name makes a second item, only the other kind
    /// tells. Whatever is refused, or takes the first one's place, is not told apart.
    pub(super) async fn try_case(&self, path: &str) -> Result<bool> {
        self.put(path, "Case", b"upper").await?;
        let file = self.take(self.put(path, "case", b"lower").await)?;
        self.api.create_folder(path, "Folder").await?;
        let folder = self.take(self.api.create_folder(path, "folder").await.map(drop))?;
        let names = self.names(path).await?;
        let shows = |name: &str| names.iter().any(|there| there == name);
        let all = ["Case", "case", "Folder", "folder"].into_iter().all(shows);
        Ok(!(file && folder && all))
    }

    /// As `try_case`, with the letter é in its two forms, and the second form once alone.
    pub(super) async fn try_forms(&self, path: &str) -> Result<FormRule> {
        let (one, two, alone) = ("form-\u{e9}", "form-e\u{301}", "alone-e\u{301}");
        self.put(path, one, b"composed").await?;
        let file = self.take(self.put(path, two, b"decomposed").await)?;
        let (wide, narrow) = (format!("d{one}"), format!("d{two}"));
        self.api.create_folder(path, &wide).await?;
        let folder = self.take(self.api.create_folder(path, &narrow).await.map(drop))?;
        let kept = self.take(self.put(path, alone, b"alone").await)?;
        let names = self.names(path).await?;
        let shows = |name: &str| names.iter().any(|there| there == name);
        let all = [one, two, &wide, &narrow].into_iter().all(shows);
        Ok(match (file && folder && all, kept && shows(alone)) {
            (true, true) => FormRule::Apart,
            (false, true) => FormRule::Alike,
            (_, false) => FormRule::Respelled,
        })
    }

    /// The longest name in characters, and the longest one in bytes, of those that were tried.
    pub(super) async fn try_lengths(&self, path: &str) -> Result<(usize, usize)> {
        let narrow = self.longest(path, "n").await?;
        let wide = self.longest(path, WIDE).await?;
        Ok((narrow, narrow.max(wide * WIDE.len())))
    }

    /// The longest name of one character that is taken; the longest of all is tried first.
    async fn longest(&self, path: &str, of: &str) -> Result<usize> {
        let most = LENGTHS.len() - 1;
        if self.takes(path, &of.repeat(LENGTHS[most])).await? {
            return Ok(LENGTHS[most]);
        }
        // Shorter names than the shortest one have been taken all along.
        let (mut good, mut bad) = (0, most);
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            if self.takes(path, &of.repeat(LENGTHS[middle])).await? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Ok(LENGTHS[good])
    }

    /// The characters that names cannot have, of those that are worth a try.
    pub(super) async fn try_characters(&self, path: &str) -> Result<String> {
        let mut refused = String::new();
        if !self.takes(path, &format!("all {SUSPECTS} of them")).await? {
            for suspect in SUSPECTS.chars() {
                if !self.takes(path, &format!("one {suspect} of them")).await? {
                    refused.push(suspect);
                }
            }
        }
        if !self.takes(path, "control\tand\nothers\u{1}\u{7f} too").await? {
            refused.extend(crate::tree::names::AsciiSet::CONTROLS.chars());
        }
        Ok(refused)
    }

    pub(super) async fn try_trailing(&self, path: &str) -> Result<bool> {
        Ok(self.takes(path, "dot.").await? && self.takes(path, "space ").await?)
    }

    /// Whether a file of that name is there after an upload. A service that breaks over a name, and
    /// over no other one, does not take it.
    async fn takes(&self, path: &str, name: &str) -> Result<bool> {
        // Content that is there already may be answered with the file that has it.
        let mut done = self.put(path, name, name.as_bytes()).await;
        if is_passing(&done) {
            done = self.put(path, name, name.as_bytes()).await;
        }
        if is_passing(&done) && self.put(path, "plain", b"plain").await.is_ok() {
            return Ok(false);
        }
        let uploaded = self.take(done)?;
        Ok(uploaded && self.names(path).await?.iter().any(|there| there == name))
    }

    fn take(&self, done: Result<()>) -> Result<bool> {
        match done {
            Ok(()) => Ok(true),
            Err(error) => expect_refusal(error).map(|()| false),
        }
    }

    async fn names(&self, path: &str) -> Result<Vec<String>> {
        let entries = self.scratch(path).await?;
        Ok(entries.iter().map(|entry| entry.name.as_str().to_owned()).collect())
    }
}

fn is_passing(done: &Result<()>) -> bool {
    done.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable)
}
