//! What would happen if every operation worked: `plan` and `--dry-run` are the real engine on a copy
//! of the state, with these answers in place of the executor's.

use super::job::{Job, Outcome, Task};
use super::{Engine, Fatal};
use crate::tree::{Content, Digest, Entry, HashAlgo, Hasher, ItemId, Kind, Name, Rev};

impl Engine {
    /// Ends an operation as if it had been carried out.
    pub(super) fn pretend(&mut self, job: &Job) -> Result<(), Fatal> {
        let outcome = match &job.task {
            Task::Mkdir { to, .. } => Outcome::Placed(imagined(job, &to.name, Kind::Dir, 0)),
            Task::Relocate { from, to, .. } => {
                let mut entry = imagined(job, &to.name, from.locator.kind, from.stamp.size);
                entry.item = from.stamp.item.clone();
                entry.rev = from.stamp.rev.clone();
                Outcome::Placed(entry)
            }
            Task::Upload { to, content, .. } => Outcome::Uploaded {
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
