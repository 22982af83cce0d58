//! One process for each pair: kernel locks that end with the process, whatever ends it.
//!
//! Two locks: one beside the state database, one in the root, so that another configuration that
//! names the same folder is found out as well.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns the pair.
    #[error("another foldsync {owner} is working on this pair (lock {path})")]
    Held { path: PathBuf, owner: String },
    #[error("cannot lock {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

/// Held for as long as it lives.
#[derive(Debug)]
pub struct PairLock {
    _files: Vec<File>,
}

impl PairLock {
    /// Takes all locks or none. The files are made where they are missing; their folders must exist.
    pub fn acquire(paths: &[PathBuf]) -> Result<PairLock, LockError> {
        let files = paths.iter().map(|path| lock(path)).collect::<Result<_, _>>()?;
        Ok(PairLock { _files: files })
    }
}

fn lock(path: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
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
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    // CR-14
    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pair.lock");
        let first = PairLock::acquire(std::slice::from_ref(&path)).unwrap();
        let error = PairLock::acquire(std::slice::from_ref(&path)).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
    }

    // CR-15
    #[test]
    fn a_lock_file_that_a_killed_process_left_behind_locks_nobody_out() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pair.lock");
        std::fs::write(&path, "4194304\n").unwrap();
        assert!(PairLock::acquire(&[path]).is_ok());
    }
}
