//! What would happen if every operation worked: `plan` and `--dry-run` are the real engine on a copy
//! of the state, with these answers in place of the executor's.

use super::job::{Job, Outcome, Task};
use super::{Engine, Fatal};
use crate::tree::{Content, Digest, Entry, HashAlgo, Hasher, ItemId, Kind, Name, RelPath, Rev};

impl Engine {
    /// Ends an operation as if it had been carried out.
    pub(super) fn pretend(&mut self, job: &Job) -> Result<(), Fatal> {
        let outcome = match &job.task {
            Task::Mkdir { to, .. } => Outcome::Placed(imagined(job, &to.name, Kind::Dir, 0)),
            Task::Relocate { side, from, to } => {
                self.pretended_moves.push((*side, from.locator.path.clone(), to.path()));
                let mut entry = imagined(job, &to.name, from.locator.kind, from.stamp.size);
                entry.item = from.stamp.item.clone();
                entry.rev = from.stamp.rev.clone();
                Outcome::Placed(entry)
            }
            Task::Upload { to, content, .. } => Outcome::Uploaded {
                at: self.now,
                entry: Some(imagined(job, &to.name, Kind::File, content.size)),
                sent: content.size,
                instant: false,
            },
            Task::Download { to, content, .. } => {
                let digest = match content {
                    Content::Is(digest) => *digest,
                    Content::Unread { .. } | Content::Dir => unknown_content(job, content.size()),
                };
                Outcome::Downloaded {
                    entry: imagined(job, &to.name, Kind::File, digest.size),
                    digest,
                    received: digest.size,
                    kept: None,
                    at: self.now,
                }
            }
            Task::Delete { .. } => Outcome::Deleted,
            Task::Learn { .. } => return Ok(()),
        };
        self.take_outcome(job.op, Ok(outcome))
    }

    /// Reads what a move was pretended of at the place where it still is.
    pub(super) fn read_where_it_is(&self, job: &mut Job) {
        let Task::Learn { side, what, .. } = &mut job.task else { return };
        for (moved_on, from, to) in self.pretended_moves.iter().rev() {
            let path = what.locator.path.as_str();
            let below = path
                .strip_prefix(to.as_str())
                .filter(|rest| moved_on == side && (rest.is_empty() || rest.starts_with('/')));
            if let Some(real) = below.and_then(|rest| RelPath::new(&format!("{from}{rest}")).ok()) {
                what.locator.path = real;
            }
        }
    }
}

fn imagined(job: &Job, name: &Name, kind: Kind, size: u64) -> Entry {
    let key = format!("imagined by operation {}", job.op.0);
    let rev = match kind {
        Kind::Dir => Rev::FOLDER,
        Kind::File => Rev::Tag { tag: key.as_str().into(), modified_s: 0 },
    };
    Entry { name: name.clone(), kind, size, hash: None, item: ItemId::Key(key.into()), rev }
}

/// A hash that no file has, in place of the one that a download would have found.
fn unknown_content(job: &Job, size: u64) -> Digest {
    let text = format!("content unknown before operation {}", job.op.0);
    Digest { size, hash: Hasher::of(HashAlgo::Sha256, text.as_bytes()) }
}
