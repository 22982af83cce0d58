//! Puts the socket in its place: closed to others from its first moment, never on top of what is
//! somebody else's, never on top of a daemon that lives.
//!
//! It is bound in a private folder of its own, given its mode there, and then moved to its path
//! without replacing anything: no umask is involved, and there is no moment at which others could
//! connect.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use tokio::net::UnixListener;

/// A socket address holds that many bytes, with a zero at the end.
const PATH_MAX: usize = 107;
/// The folder that we make for the socket and may tighten.
const OWN_FOLDER: &str = "foldsync";

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("a foldsync daemon is already running (socket {0})")]
    Running(PathBuf),
    /// What is there is not a socket of this user: left alone.
    #[error("{path} is {what}: remove it, or set daemon.socket to another path")]
    Foreign { path: PathBuf, what: &'static str },
    #[error(
        "others may write in {0}, where the control socket belongs: use a folder of your own, or chmod it"
    )]
    OpenToOthers(PathBuf),
    #[error("the path of the control socket is too long for the system: {0}")]
    TooLong(PathBuf),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BindError + 'a {
    move |source| BindError::Io { what, path: path.to_owned(), source }
}

/// A socket in its place. Removed when dropped, unless something else is there by then.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
    /// Held as long as the socket is ours, so that only one starting daemon judges a stale one.
    _lock: File,
}

impl Bound {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == Some(self.identity)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds the control socket. Must be called on a tokio runtime.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let folder = path.parent().filter(|_| path.is_absolute()).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path of a file");
        failed("control socket", path)(source)
    })?;
    if path.as_os_str().len() > PATH_MAX {
        return Err(BindError::TooLong(path.to_owned()));
    }
    prepare_folder(folder)?;
    let lock = lock(path)?;
    clear(path)?;
    let listener = bind_in_private(path, folder)?;
    let in_place = identity(path).map_err(failed("look at", path))?;
    let identity = in_place.ok_or_else(|| {
        failed("look at", path)(io::Error::new(io::ErrorKind::NotFound, "it is gone again"))
    })?;
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(failed("listen on", path))?;
    Ok(Bound { listener, path: path.to_owned(), identity, _lock: lock })
}

/// Makes the folder, closed to others, or checks that nobody else can put things into it.
fn prepare_folder(folder: &Path) -> Result<(), BindError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed("make the folder", folder))?;
    let found = std::fs::metadata(folder).map_err(failed("look at", folder))?;
    let us = rustix::process::geteuid().as_raw();
    let is_ours = found.uid() == us;
    if !is_ours && found.uid() != 0 {
        return Err(BindError::OpenToOthers(folder.to_owned()));
    }
    let named_for_us = folder.file_name().is_some_and(|name| name == OWN_FOLDER);
    if is_ours && named_for_us && found.mode() & 0o077 != 0 {
        let closed = Permissions::from_mode(0o700);
        return std::fs::set_permissions(folder, closed).map_err(failed("chmod 700", folder));
    }
    // In a sticky folder nobody else can remove or rename what is ours.
    let sticky = found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !sticky {
        return Err(BindError::OpenToOthers(folder.to_owned()));
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let no_follow = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow.unwrap_or_default())
        .open(&lock_path)
        .map_err(failed("open the lock", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::Running(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
    }
}

/// Removes a socket that a daemon of ours left behind; anything else stays, and is an error.
fn clear(path: &Path) -> Result<(), BindError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    let foreign = |what| BindError::Foreign { path: path.to_owned(), what };
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign("owned by another user"));
    }
    if !found.file_type().is_socket() {
        return Err(foreign("not a socket"));
    }
    match StdStream::connect(path) {
        Ok(_) => Err(BindError::Running(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("remove the stale socket", path))
        }
        Err(error) => Err(failed("connect to", path)(error)),
    }
}

fn bind_in_private(path: &Path, folder: &Path) -> Result<StdListener, BindError> {
    let mut random = [0u8; 4];
    getrandom::fill(&mut random)
        .map_err(|error| failed("bind", path)(io::Error::other(error.to_string())))?;
    // Not longer than the usual `control.sock`, because of the limit on addresses.
    let private = folder.join(format!(".{:08x}", u32::from_ne_bytes(random)));
    DirBuilder::new().mode(0o700).create(&private).map_err(failed("make the folder", &private))?;
    let inner = private.join("s");
    let bound = StdListener::bind(&inner)
        .and_then(|listener| {
            std::fs::set_permissions(&inner, Permissions::from_mode(0o600))?;
            renameat_with(CWD, &inner, CWD, path, RenameFlags::NOREPLACE)?;
            Ok(listener)
        })
        .map_err(failed("bind", path));
    let _ = std::fs::remove_file(&inner);
    let _ = std::fs::remove_dir(&private);
    bound
}

fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
