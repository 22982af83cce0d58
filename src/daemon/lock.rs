//! One process for each pair: kernel locks that end with the process, whatever ends it.
//!
//! One lock beside the state database, and the root itself, so that another configuration that names
//! the same folder is found out as well. The root also has a lock file, once it has a control folder:
//! not every file system locks folders. No link is followed to it, so nobody can plant one. (SE-04)

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::tree::path::CONTROL_DIR;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns the pair.
    #[error("another foldsync {owner} is working on this pair (lock {path})")]
    Held { path: PathBuf, owner: String },
    /// The control folder is another user's, who keeps it for themselves.
    #[error(
        "the local folder is used by another user: {path} belongs to user {owner} and is closed to \
         this one. If both are to sync this folder, user {owner} must allow it: chmod -R g+rwX '{path}'"
    )]
    Closed { path: PathBuf, owner: u32 },
    #[error("cannot lock {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

/// Held for as long as it lives.
#[derive(Debug)]
pub struct PairLock {
    _files: Vec<File>,
}

impl PairLock {
    /// Takes all locks or none: the file `own`, whose folder must exist, and the root.
    pub fn acquire(own: &Path, root: &Path) -> Result<PairLock, LockError> {
        let mut files = vec![lock(own, &make(CWD, own, own)?)?];
        files.extend(lock_folder(root)?);
        let control = root.join(CONTROL_DIR);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(CWD, &control, flags, Mode::empty()) {
            Ok(control_dir) => {
                let path = control.join("lock");
                files.push(lock(&path, &make(control_dir, Path::new("lock"), &path)?)?);
            }
            // Before the first run: a lock is no reason to make it on a wrong disk.
            Err(Errno::NOENT) => {}
            // No root at all, which is told elsewhere.
            Err(_) if !root.is_dir() => {}
            Err(Errno::ACCESS) => {
                let owner = std::fs::metadata(&control).map_or(0, |found| found.uid());
                return Err(LockError::Closed { path: control, owner });
            }
            Err(errno) => return Err(LockError::Io { path: control, source: errno.into() }),
        }
        Ok(PairLock { _files: files })
    }
}

/// Opens or makes a lock file, for its owner only. Another user's can be locked without writing to it.
fn make(dir: impl std::os::fd::AsFd, name: &Path, path: &Path) -> Result<File, LockError> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = OFlags::RDWR | OFlags::CREATE;
    let opened = match openat(&dir, name, flags | made, Mode::RUSR | Mode::WUSR) {
        Err(Errno::ACCESS) => openat(&dir, name, flags | OFlags::RDONLY, Mode::empty()),
        other => other,
    };
    opened
        .map(File::from)
        .map_err(|errno| LockError::Io { path: path.to_owned(), source: errno.into() })
}

/// `None` if the root is not there, which is told elsewhere, or its file system locks no folders.
fn lock_folder(root: &Path) -> Result<Option<File>, LockError> {
    let Ok(folder) = File::open(root) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(LockError::Held { path: root.to_owned(), owner: String::new() })
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn lock(path: &Path, file: &File) -> Result<File, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let mut file = file.try_clone().map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The number is for people only; the lock is what counts.
            let read = Read::take(&file, 32).read_to_string(&mut text);
            let owner = match (read, text.trim().parse::<u32>()) {
                (Ok(_), Ok(pid)) => format!("(process {pid})"),
                (Ok(_) | Err(_), _) => String::new(),
            };
            return Err(LockError::Held { path: path.to_owned(), owner });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    match written {
        // Open for reading only: the number of the other user's process stays, and tells nothing.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied) => {}
        other => other.map_err(failed)?,
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::TempDir::new().unwrap();
        let (own, root) = (folder.path().join("pair.lock"), folder.path().join("root"));
        std::fs::create_dir(&root).unwrap();
        (folder, own, root)
    }

    // CR-14
    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let (_folder, own, root) = folder();
        let first = PairLock::acquire(&own, &root).unwrap();
        let error = PairLock::acquire(&own, &root).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        assert!(PairLock::acquire(&own, &root).is_ok());
    }

    // CR-14
    #[test]
    fn a_root_has_one_owner_whatever_the_state_folder_also_before_its_first_run() {
        let (folder, own, root) = folder();
        let other = folder.path().join("other.lock");
        let _first = PairLock::acquire(&own, &root).unwrap();
        assert!(matches!(PairLock::acquire(&other, &root), Err(LockError::Held { .. })));
    }

    // CR-15
    #[test]
    fn a_lock_file_that_a_killed_process_left_behind_locks_nobody_out() {
        let (_folder, own, root) = folder();
        std::fs::write(&own, "4194304\n").unwrap();
        std::fs::create_dir(root.join(CONTROL_DIR)).unwrap();
        std::fs::write(root.join(CONTROL_DIR).join("lock"), "4194304\n").unwrap();
        assert!(PairLock::acquire(&own, &root).is_ok());
    }

    // SE-04
    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let (folder, own, root) = folder();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::fs::create_dir(root.join(CONTROL_DIR)).unwrap();
        std::os::unix::fs::symlink(&victim, root.join(CONTROL_DIR).join("lock")).unwrap();
        assert!(PairLock::acquire(&own, &root).is_err());
        std::fs::remove_dir_all(root.join(CONTROL_DIR)).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join(CONTROL_DIR)).unwrap();
        assert!(PairLock::acquire(&own, &root).is_err());
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
        assert!(!folder.path().join("lock").exists());
    }
}
