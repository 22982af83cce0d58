//! Finds what an upload of foldsync may have left on the service for good, after the state database
//! that knew of it was lost. Never touches anything.

use serde::Deserialize;

use super::DiskTop;
use super::api::FileRow;
use crate::remote::Result;
use crate::tree::internal_names::prefix;
use crate::tree::{InternalName, Name};

/// Leftovers whose places are looked up.
const LOOKED_UP_MAX: usize = 20;

/// A file under a name of foldsync's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is, as the service names it; its bare name if the service does not tell.
    pub path: String,
    /// In bytes, where the service tells.
    pub size: Option<u64>,
    pub kind: LeftoverKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// A new version that never got its name.
    New,
    /// A version that had made room for a new one.
    Old,
    /// An item on its way to another place.
    Parked,
}

impl LeftoverKind {
    fn of(name: &str) -> Option<LeftoverKind> {
        match InternalName::of(name)? {
            InternalName::Staged(_) => Some(LeftoverKind::New),
            InternalName::Replaced(_) => Some(LeftoverKind::Old),
            InternalName::Parked(_) => Some(LeftoverKind::Parked),
            InternalName::Copying(_) | InternalName::Scratch => None,
        }
    }
}

impl DiskTop {
    /// In the whole sandbox, as far as the service's search finds them. What a sync has under way
    /// right now is among them. One request, and one for each that is found.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let found = self.api.search(prefix()).await?.files;
        let mut leftovers = Vec::new();
        for row in found.iter().filter_map(|row| FileRow::deserialize(row).ok()) {
            let Ok(name) = Name::new(&row.name.0) else { continue };
            let Some(kind) = LeftoverKind::of(name.as_str()) else { continue };
            let mut path = name.to_string();
            if leftovers.len() < LOOKED_UP_MAX
                && let Some(id) = row.id.unsigned()
            {
                // A service with a recycle bin may still find what it has deleted.
                match self.file_by_id(id).await? {
                    Some((_, told)) => path = told.unwrap_or(path),
                    None => continue,
                }
            }
            leftovers.push(Leftover { path, size: row.size.unsigned(), kind });
        }
        leftovers.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(leftovers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_was_left() {
        assert_eq!(LeftoverKind::of(".foldsync-00000000000000ab"), Some(LeftoverKind::New));
        assert_eq!(LeftoverKind::of(".foldsync-00000000000000ab.old"), Some(LeftoverKind::Old));
        assert_eq!(LeftoverKind::of(".foldsync-park-7"), Some(LeftoverKind::Parked));
        for other in [".foldsync-doctor", ".foldsync-", "00000000000000ab", ".foldsync-ab.old"] {
            assert_eq!(LeftoverKind::of(other), None, "{other}");
        }
    }
}
