//! Folders, moves and deletions, on either side.

use super::{Executor, Result, enter, failure, local_failure, remote_failure};
use crate::engine::job::{Expected, FailureKind, Outcome, Target};
use crate::remote::{ErrorKind, Locator, RemoteError};
use crate::tree::{Kind, Side};

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
            Side::Remote => {
                let moved = self.remote.relocate(locator, stamp, &to.parent, &to.name).await;
                moved.map_err(remote_failure)?
            }
        };
        Ok(Outcome::Placed(entry))
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

/// A folder is deleted only when it is empty; one that changed is one that is not.
fn folder_failure(error: RemoteError) -> super::Failure {
    let changed = error.kind == ErrorKind::Changed;
    let mut failure = remote_failure(error);
    if changed {
        failure.kind = FailureKind::NotEmpty;
    }
    failure
}
