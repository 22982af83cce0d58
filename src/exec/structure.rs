//! Folders, moves and deletions, on either side.

use std::collections::BTreeSet;

use super::{Executor, Failure, Result, enter, failure, local_failure, remote_failure};
use crate::engine::job::{Expected, FailureKind, Outcome, Target};
use crate::engine::park_name;
use crate::remote::{ErrorKind, Locator, MoveSupport, RemoteError};
use crate::tree::{Entry, Kind, Side};

impl Executor {
    pub(super) async fn mkdir(&self, side: Side, to: &Target) -> Result<Outcome> {
        let _lane = enter(&self.structure).await;
        let entry = match side {
            Side::Local => self.local.create_dir(&to.path()).await.map_err(local_failure)?,
            Side::Remote => {
                self.remote.create_dir(&to.parent, &to.name).await.map_err(remote_failure)?
            }
        };
        Ok(Outcome::Placed(entry))
    }

    pub(super) async fn relocate(
        &self,
        key: u64,
        side: Side,
        from: &Expected,
        to: &Target,
    ) -> Result<Outcome> {
        let _lane = enter(&self.structure).await;
        let (locator, stamp) = (&from.locator, &from.stamp);
        let entry = match side {
            Side::Local => {
                let moved = self.local.rename(&locator.path, &to.path(), stamp).await;
                moved.map_err(local_failure)?
            }
            Side::Remote => self.relocate_remote(key, from, to).await?,
        };
        Ok(Outcome::Placed(entry))
    }

    /// One call, or two where the service changes folder and name one at a time. The half-way name
    /// may be taken in one order; then it is the other, or else a name of ours.
    async fn relocate_remote(&self, key: u64, from: &Expected, to: &Target) -> Result<Entry> {
        let (locator, stamp) = (&from.locator, &from.stamp);
        let (old_parent, old_name) = match locator.path.split_last() {
            Some((path, name)) => (path, name),
            None => return Err(failure(FailureKind::Refused, Side::Remote, "the root".to_owned())),
        };
        let same_parent = old_parent == to.parent.path;
        let in_one = self.remote.capabilities().moves != MoveSupport::TwoStep
            || same_parent
            || old_name == to.name;
        if in_one {
            let moved = self.remote.relocate(locator, stamp, &to.parent, &to.name).await;
            return moved.map_err(remote_failure);
        }
        let here = Locator {
            id: locator.parent_id.clone(),
            path: old_parent,
            parent_id: None,
            kind: Kind::Dir,
        };
        let steps = [(&to.parent, &old_name), (&here, &to.name)];
        for (parent, name) in steps {
            match self.remote.relocate(locator, stamp, parent, name).await {
                Ok(entry) => return self.second_step(parent, &entry, from, to).await,
                Err(error) if error.kind == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(remote_failure(error)),
            }
        }
        let parked = park_name(key);
        let entry = self.remote.relocate(locator, stamp, &here, &parked).await;
        let entry = entry.map_err(remote_failure)?;
        let half_way = half_way(&here, &entry, from);
        let moved = self.remote.relocate(&half_way, &entry.stamp(), &to.parent, &parked).await;
        let entry = moved.map_err(|error| Failure { unknown: true, ..remote_failure(error) })?;
        self.second_step(&to.parent, &entry, from, to).await
    }

    async fn second_step(
        &self,
        parent: &Locator,
        entry: &Entry,
        from: &Expected,
        to: &Target,
    ) -> Result<Entry> {
        let half_way = half_way(parent, entry, from);
        let moved = self.remote.relocate(&half_way, &entry.stamp(), &to.parent, &to.name).await;
        moved.map_err(|error| {
            // Half-way is a change as well: the folders must be looked at again.
            Failure { unknown: true, ..remote_failure(error) }
        })
    }

    pub(super) async fn delete(
        &self,
        side: Side,
        what: &Expected,
        gone: Option<&Locator>,
    ) -> Result<Outcome> {
        let _lane = enter(&self.structure).await;
        if let (Side::Remote, Some(gone)) = (side, gone) {
            self.check_gone(gone).await?;
        }
        let (locator, stamp) = (&what.locator, &what.stamp);
        match (side, locator.kind) {
            (Side::Local, Kind::File) => {
                self.local.trash(&locator.path, stamp).await.map_err(local_failure)?;
            }
            (Side::Local, Kind::Dir) => {
                self.local.remove_dir(&locator.path).await.map_err(local_failure)?;
            }
            (Side::Remote, Kind::File) => {
                self.remote.delete(locator, stamp).await.map_err(remote_failure)?;
            }
            (Side::Remote, Kind::Dir) => {
                self.remote.delete(locator, stamp).await.map_err(folder_failure)?;
            }
        }
        Ok(Outcome::Deleted)
    }

    /// Deletes a folder whose name is needed, although it holds what is left out: that is moved aside
    /// with it.
    pub(super) async fn set_rest_aside(
        &self,
        side: Side,
        what: &Expected,
        gone: Option<&Locator>,
        rest: &BTreeSet<String>,
    ) -> Result<Outcome> {
        let _lane = enter(&self.structure).await;
        let (locator, stamp) = (&what.locator, &what.stamp);
        let kept_in = match side {
            Side::Local => {
                let moved = self.local.set_rest_aside(&locator.path, stamp, rest).await;
                moved.map_err(local_failure)?
            }
            Side::Remote => {
                if let Some(gone) = gone {
                    self.check_gone(gone).await?;
                }
                let moved = self.remote.set_rest_aside(locator, stamp, rest).await;
                moved.map_err(folder_failure)?
            }
        };
        Ok(kept_in.map_or(Outcome::Deleted, |kept_in| {
            tracing::info!(%side, folder = %locator.path, kept_in, "the name is needed: what is not synced moved aside");
            Outcome::RestAside(kept_in)
        }))
    }

    /// The last look before a deletion on the remote: it must still be gone locally. (POL-12)
    async fn check_gone(&self, gone: &Locator) -> Result<()> {
        match self.local.stat(&gone.path).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let text = format!("{} is back", gone.path);
                Err(failure(FailureKind::Changed, Side::Local, text))
            }
            Err(error) if error.kind == crate::local::FsErrorKind::NotFound => Ok(()),
            Err(error) => Err(local_failure(error)),
        }
    }
}

fn half_way(parent: &Locator, entry: &Entry, from: &Expected) -> Locator {
    Locator {
        id: Some(entry.item.clone()),
        path: parent.path.join(&entry.name),
        parent_id: parent.id.clone(),
        kind: from.locator.kind,
    }
}

/// A folder is deleted only when it is empty; one that changed is one that is not.
fn folder_failure(error: RemoteError) -> Failure {
    let changed = error.kind == ErrorKind::Changed;
    let mut failure = remote_failure(error);
    if changed {
        failure.kind = FailureKind::NotEmpty;
    }
    failure
}
