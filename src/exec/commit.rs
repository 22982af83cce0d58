//! How an uploaded version gets its name on a remote that does not simply replace.
//!
//! Stage and swap: the new version goes up under a name of ours, the old one steps aside, the new one
//! takes the name, and only then is the old one deleted. The content is never missing, the name for
//! one call. Every half-way state is recognised by its names and rolled forward.

use super::{Executor, Result, failure, remote_failure};
use crate::engine::job::{Expected, Failure, FailureKind, Target};
use crate::remote::{Known, Locator, SameName};
use crate::tree::{Entry, InternalName, Kind, Name, Side, Stamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The upload itself makes or replaces the file.
    InPlace,
    Swap,
}

/// The name of a new version that is not in place yet.
pub(super) fn staged_name(key: u64) -> Name {
    InternalName::Staged(key).name()
}

/// The name of an old version that made room.
fn replaced_name(key: u64) -> Name {
    InternalName::Replaced(key).name()
}

/// What a folder holds of a swap.
#[derive(Default)]
struct Swap {
    new: Option<Entry>,
    current: Option<Entry>,
    old: Option<Entry>,
}

impl Executor {
    pub(super) fn way(&self, replaces: bool) -> Way {
        let capabilities = self.remote.capabilities();
        match (capabilities.same_name, capabilities.content_hash) {
            (Known::Is(SameName::Replaces), _) => Way::InPlace,
            // After a kill, an entry with our name, size and hash is our upload.
            (_, Some(_)) if !replaces => Way::InPlace,
            (Known::Is(_) | Known::Unknown, _) => Way::Swap,
        }
    }

    /// Whether uploads are put in place by swapping names.
    pub fn swaps(&self, replaces: bool) -> bool {
        self.way(replaces) == Way::Swap
    }

    /// Gives a staged version its name in place of `over`.
    pub(super) async fn swap_in(
        &self,
        key: u64,
        staged: Option<Entry>,
        to: &Target,
        over: Option<&Expected>,
    ) -> Result<Entry> {
        let new = match staged {
            Some(entry) => entry,
            None => self.find_staged(key, to).await?,
        };
        if let Some(over) = over
            && let Err(changed) = self.check_unchanged(over).await
        {
            let dropped = self.delete_entry(&to.parent, &new).await;
            return Err(Failure { unfinished: dropped.is_err(), ..changed });
        }
        let mut replaced = None;
        match self.swap(key, &new, to, over, &mut replaced).await {
            Ok(entry) => Ok(entry),
            // Half-way states are ours: they are not left behind if that can be helped.
            Err(failed) if failed.unknown || failed.unfinished => {
                let old = over.map(|over| &over.stamp);
                let _ = self.roll_forward(key, &to.parent, &to.name, old).await;
                // Listings may lag behind: the next start looks once more.
                Err(Failure { unfinished: true, ..failed })
            }
            Err(failed) => {
                let undone = self.undo(&new, replaced.as_ref(), to).await;
                Err(Failure { unfinished: undone.is_err(), ..failed })
            }
        }
    }

    /// The name goes back to the old version, and the new one goes.
    async fn undo(&self, new: &Entry, replaced: Option<&Entry>, to: &Target) -> Result<()> {
        if let Some(old) = replaced {
            self.rename_entry(&to.parent, old, &to.name).await?;
        }
        self.delete_entry(&to.parent, new).await
    }

    /// The new version, whose upload did not say what it made. It is there, so if it is not seen, the
    /// next start goes on.
    async fn find_staged(&self, key: u64, to: &Target) -> Result<Entry> {
        let found = match self.find_swap(key, &to.parent, &to.name).await {
            Ok(swap) => swap.new.ok_or_else(|| {
                let text = format!("{}: the upload is not to be found", to.path());
                failure(FailureKind::Transient, Side::Remote, text)
            }),
            Err(failed) => Err(failed),
        };
        found.map_err(|failed| Failure { unfinished: true, ..failed })
    }

    /// Removes a new version that will not be put in place.
    pub(super) async fn drop_staged(&self, key: u64, to: &Target) -> Result<()> {
        match self.find_swap(key, &to.parent, &to.name).await?.new {
            Some(new) => self.delete_entry(&to.parent, &new).await,
            None => Ok(()),
        }
    }

    /// `replaced` is the old version while it has no name.
    async fn swap(
        &self,
        key: u64,
        new: &Entry,
        to: &Target,
        over: Option<&Expected>,
        replaced: &mut Option<Entry>,
    ) -> Result<Entry> {
        if let Some(over) = over {
            let aside = replaced_name(key);
            let moved = self.remote.relocate(&over.locator, &over.stamp, &to.parent, &aside).await;
            let moved = moved.map_err(remote_failure)?;
            let is_planned = is_version(&moved, &over.stamp);
            *replaced = Some(moved);
            if !is_planned {
                // Written since the last look.
                let text = format!("{} was changed meanwhile", over.locator.path);
                return Err(failure(FailureKind::Changed, Side::Remote, text));
            }
        }
        let staged = locator(&to.parent, new);
        let entry = self
            .remote
            .relocate(&staged, &new.stamp(), &to.parent, &to.name)
            .await
            .map_err(remote_failure)?;
        if let Some(replaced) = replaced.take() {
            let deleted = self.delete_entry(&to.parent, &replaced).await;
            deleted.map_err(|failed| Failure { unfinished: true, ..failed })?;
        }
        Ok(entry)
    }

    /// The last look before a version is replaced: it must still be the one that was planned on.
    pub(super) async fn check_unchanged(&self, over: &Expected) -> Result<()> {
        if !self.remote.capabilities().stat {
            return Ok(());
        }
        let now = self.remote.stat(&over.locator).await.map_err(remote_failure)?;
        match now {
            Some(entry) if entry.stamp() == over.stamp => Ok(()),
            Some(_) | None => {
                let text = format!("{} was changed meanwhile", over.locator.path);
                Err(failure(FailureKind::Changed, Side::Remote, text))
            }
        }
    }

    /// Brings a swap that was cut short to its end, whichever half-way state it is in. `old` is the
    /// version that was being replaced: nothing else is ever deleted. Tells whether that is known to be the
    /// end: listings may lag behind.
    pub async fn roll_forward(
        &self,
        key: u64,
        parent: &Locator,
        name: &Name,
        old: Option<&Stamp>,
    ) -> Result<bool> {
        let swap = self.find_swap(key, parent, name).await?;
        // Where only the old version is seen, the new one may still appear.
        let is_whole = swap.new.is_some() || (swap.old.is_some() && swap.current.is_some());
        self.bring_to_end(key, parent, name, old, &swap).await?;
        Ok(is_whole)
    }

    async fn bring_to_end(
        &self,
        key: u64,
        parent: &Locator,
        name: &Name,
        old: Option<&Stamp>,
        swap: &Swap,
    ) -> Result<()> {
        match (&swap.new, &swap.current, &swap.old) {
            (Some(new), None, _) => self.rename_entry(parent, new, name).await?,
            // Not swapped yet, or somebody took the name: local still has the content.
            (Some(new), Some(_), _) => self.delete_entry(parent, new).await?,
            (None, None, Some(old)) => return self.rename_entry(parent, old, name).await,
            (None, _, _) => {}
        }
        match (&swap.old, old) {
            (Some(left), Some(old)) if left.item == old.item && is_version(left, old) => {
                self.delete_entry(parent, left).await
            }
            // Somebody wrote to it in the last moment: people must see it.
            (Some(left), Some(old)) if left.item == old.item => {
                let text = format!("foldsync-recovered-{key:x}-{name}");
                let name = Name::new(&text).unwrap_or_else(|_| name.clone());
                self.rename_entry(parent, left, &name).await
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    async fn find_swap(&self, key: u64, parent: &Locator, name: &Name) -> Result<Swap> {
        let (new, old) = (staged_name(key), replaced_name(key));
        let mut swap = Swap::default();
        let mut cursor = None;
        loop {
            let page = self.remote.list(parent, cursor).await.map_err(remote_failure)?;
            for entry in page.listing.entries {
                if entry.name == new {
                    swap.new = Some(entry);
                } else if entry.name == old {
                    swap.old = Some(entry);
                } else if entry.name == *name {
                    swap.current = Some(entry);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(swap);
            }
        }
    }

    async fn rename_entry(&self, parent: &Locator, entry: &Entry, name: &Name) -> Result<()> {
        let from = locator(parent, entry);
        let renamed = self.remote.relocate(&from, &entry.stamp(), parent, name).await;
        renamed.map(drop).map_err(remote_failure)
    }

    async fn delete_entry(&self, parent: &Locator, entry: &Entry) -> Result<()> {
        self.remote.delete(&locator(parent, entry), &entry.stamp()).await.map_err(remote_failure)
    }
}

/// Whether an item that was renamed still is that version. Where the service has no hash, its `rev` may
/// hold a date that a rename changes: only the size counts then.
fn is_version(now: &Entry, stamp: &Stamp) -> bool {
    now.size == stamp.size && (now.hash.is_none() || now.rev == stamp.rev)
}

fn locator(parent: &Locator, entry: &Entry) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        path: parent.path.join(&entry.name),
        parent_id: parent.id.clone(),
        kind: Kind::File,
    }
}
