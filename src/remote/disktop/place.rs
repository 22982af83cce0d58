//! Where things are: the two dialects of paths, look-ups, and moves.
//!
//! Requests name paths from the root of the sandbox; answers put the sandbox's own path in front.
//! That prefix is learned from answers whose place is certain, never written down here.

use std::sync::PoisonError;

use super::DiskTop;
use super::api::{Change, Target};
use super::listing::{Folder, Id, read_folder};
use super::target_id;
use crate::remote::{ErrorKind, IdLife, Known, Locator, RemoteError, Result};
use crate::tree::{Entry, Kind, Name, RelPath, Stamp};

impl DiskTop {
    /// Takes the prefix from the absolute path of something that is certainly in `parent`. Returns
    /// the name that the path ends in.
    pub(super) fn learn_prefix(&self, absolute: Option<&str>, parent: &str) -> Option<String> {
        let (folder, name) = absolute?.rsplit_once('/')?;
        if let Some(prefix) = folder.strip_suffix(parent.trim_end_matches('/')) {
            let mut known = self.prefix.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(prefix.to_owned());
        }
        Some(name.to_owned())
    }

    /// Whether a file that the service still has is in this root. A service with a recycle bin may
    /// answer for what is in the bin.
    pub(super) async fn is_inside(&self, absolute: Option<&str>) -> Result<bool> {
        let Some(absolute) = absolute else { return Ok(true) };
        let root = self.path_of(&RelPath::root());
        let root = root.trim_end_matches('/');
        let Some(prefix) = self.find_prefix().await? else {
            // Nobody can tell: it is not surely gone.
            return Ok(true);
        };
        let inside = absolute.strip_prefix(prefix.as_str()).and_then(|p| p.strip_prefix(root));
        Ok(inside.is_some_and(|rest| rest.starts_with('/')))
    }

    /// Whether an absolute path is right in a folder, which requests name from the root of the
    /// sandbox; `None` if nobody can tell.
    pub(super) async fn is_in_folder(
        &self,
        absolute: Option<&str>,
        folder: &str,
    ) -> Result<Option<bool>> {
        let Some((above, _)) = absolute.and_then(|path| path.rsplit_once('/')) else {
            return Ok(None);
        };
        let folder = folder.trim_end_matches('/');
        let known = self.prefix.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prefix = match known {
            Some(prefix) => Some(prefix),
            // Of a folder below the sandbox's own root the path tells by itself.
            None if !folder.is_empty() => return Ok(Some(above.ends_with(folder))),
            None => self.find_prefix().await?,
        };
        Ok(prefix.map(|prefix| above.strip_prefix(prefix.as_str()) == Some(folder)))
    }

    async fn find_prefix(&self) -> Result<Option<String>> {
        let known = || self.prefix.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(prefix) = known() {
            return Ok(Some(prefix));
        }
        // A file that is listed right in the root shows the prefix by its own path.
        let root = read_folder(&self.api, &self.path_of(&RelPath::root())).await?;
        let ids = root.entries().filter_map(|entry| match Id::of(&entry.item)? {
            Id::File(id) => Some(id),
            Id::Folder(_) => None,
        });
        for id in ids.take(1) {
            if let Some((entry, Some(path))) = self.file_by_id(id).await?
                && path.ends_with(&format!("/{}", entry.name))
            {
                self.learn_prefix(Some(&path), &self.path_of(&RelPath::root()));
            }
        }
        Ok(known())
    }

    /// Folders cannot be looked up by id: the folder above tells.
    pub(super) async fn stat_folder(
        &self,
        target: &Locator,
        id: Option<Id>,
    ) -> Result<Option<Entry>> {
        let Some((_, name)) = target.path.split_last() else {
            let context = "the root has no entry of its own";
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        };
        let parent = match self.read_parent(&target.path).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let found = match id {
            Some(id) => parent.entry(id),
            None => parent.named(&name).filter(|entry| entry.kind == target.kind),
        };
        match found {
            Some(entry) => Ok(Some(entry.clone())),
            None if !parent.hides => Ok(None),
            None => self.settle_by_path(target).await,
        }
    }

    /// The folder above hides something: the folder's own path has the last word.
    async fn settle_by_path(&self, target: &Locator) -> Result<Option<Entry>> {
        match self.api.list(&self.path_of(&target.path), 1, 1).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(_) => {
                let context = format!("{}: nobody can tell whether it is there", target.path);
                Err(RemoteError::new(ErrorKind::Unavailable, context))
            }
        }
    }

    // ---- moves ---------------------------------------------------------------------------------

    /// Changes the folder or the name. Never onto something else: the destination is read first, or
    /// was lately, because nobody knows what the service would do.
    pub(super) async fn move_to(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry> {
        let id = target_id(target, expected)?;
        let unsupported = |why: &str| RemoteError::new(ErrorKind::Unsupported, why);
        let Some((old_parent, old_name)) = target.path.split_last() else {
            return Err(unsupported("the root cannot be moved"));
        };
        let stays = old_parent == parent.path;
        if !stays && old_name != *name {
            return Err(unsupported("the service changes folder and name one at a time"));
        }
        let recorded = self.look_by_id(id, target, expected, &parent.path).await?;
        let (arrived, current) = match recorded {
            Some(current) if self.was_free_lately(&parent.path, name) => (stays, current),
            Some(current) => {
                let dest = self.read(&parent.path).await?;
                self.expect_room(&dest, &parent.path.join(name), Some(id))?;
                (dest.has(id), current)
            }
            None => {
                let dest = self.read(&parent.path).await?;
                let source = if stays || id.kind() == Kind::File && dest.has(id) {
                    None
                } else {
                    Some(self.read(&old_parent).await?)
                };
                let here = source.as_ref().unwrap_or(&dest);
                let current = self.current(here, &dest, id, target, expected)?;
                self.expect_room(&dest, &parent.path.join(name), Some(id))?;
                (dest.has(id), current)
            }
        };
        match (arrived, current.name == *name) {
            (true, true) => return Ok(current),
            (true, false) => {
                self.change(id, &Change::Rename { new_name: name.as_str() }, target).await?;
            }
            (false, true) => {
                let dest_path = self.path_of(&parent.path);
                self.change(id, &Change::Move { dest_path: &dest_path }, target).await?;
            }
            (false, false) => {
                let context = format!("{}: it has another name by now", target.path);
                return Err(RemoteError::new(ErrorKind::Changed, context));
            }
        }
        self.note_gone(&old_parent, &current.name);
        self.arrival(id, current, parent, name).await
    }

    /// A file that is to be moved, by its own record: where a listing takes many requests. `None`: only
    /// the listings can tell.
    async fn look_by_id(
        &self,
        id: Id,
        target: &Locator,
        expected: &Stamp,
        dest: &RelPath,
    ) -> Result<Option<Entry>> {
        let (Id::File(number), Some((folder, _))) = (id, target.path.split_last()) else {
            return Ok(None);
        };
        let is_long = {
            let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.is_long(dest) || sightings.is_long(&folder)
        };
        let prefix = self.prefix.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(prefix) = prefix.filter(|_| is_long) else { return Ok(None) };
        let Some((entry, Some(path))) = self.file_by_id(number).await? else { return Ok(None) };
        let place = format!("{prefix}{}", self.path_of(&folder.join(&entry.name)));
        Ok(Some(entry).filter(|entry| path == place && entry.stamp() == *expected))
    }

    /// Whether a long folder had no such name when it was listed a moment ago.
    // RACE: whatever takes the name after that listing; no call of the service checks.
    fn was_free_lately(&self, folder: &RelPath, name: &Name) -> bool {
        let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        sightings.is_long(folder) && sightings.has_room(folder, name, self.now_s())
    }

    /// The item as the listings show it now, if it is still the expected version.
    fn current(
        &self,
        here: &Folder,
        dest: &Folder,
        id: Id,
        target: &Locator,
        expected: &Stamp,
    ) -> Result<Entry> {
        let Some(entry) = here.entry(id).or_else(|| dest.entry(id)) else {
            let context = format!("{}: it is not there any more", target.path);
            return Err(RemoteError::new(ErrorKind::NotFound, context));
        };
        if id.kind() == Kind::File && entry.stamp() != *expected {
            let context = format!("{}: it has changed", target.path);
            return Err(RemoteError::new(ErrorKind::Changed, context));
        }
        Ok(entry.clone())
    }

    async fn change(&self, id: Id, change: &Change<'_>, target: &Locator) -> Result<()> {
        let target_id = match id {
            Id::File(id) => Target::File(id),
            Id::Folder(id) => Target::Folder(id),
        };
        let told = self.api.manage(change, &[target_id]).await?;
        if told.affected.is_some_and(|affected| affected.0 == 0) {
            let context = format!("{}: the service moved nothing", target.path);
            return Err(RemoteError::new(ErrorKind::Changed, context));
        }
        Ok(())
    }

    /// What is now at the new place. Whether an id survives a move is not documented.
    async fn arrival(&self, id: Id, was: Entry, parent: &Locator, name: &Name) -> Result<Entry> {
        if self.capabilities.id_life == Known::Is(IdLife::SurvivesMove) {
            return Ok(Entry { name: name.clone(), ..was });
        }
        if let Id::File(number) = id
            && let Some((entry, _)) = self.file_by_id(number).await?
        {
            return Ok(entry);
        }
        let dest = self.read(&parent.path).await?;
        let arrived = dest.entry(id).or_else(|| dest.named(name).filter(|e| e.kind == was.kind));
        arrived.cloned().ok_or_else(|| {
            let context = format!("{}: it did not arrive", parent.path.join(name));
            RemoteError::unknown(ErrorKind::Changed, context)
        })
    }
}
