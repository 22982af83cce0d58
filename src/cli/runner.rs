//! Opens the two sides of a pair under its lock, runs the engine on them, and says what the outcome
//! means for the exit code.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::connect::{self, NoRemote, folder_of};
use super::context::{Pair, shown};
use super::interrupt::Interrupt;
use super::last_run::LastRun;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{RemoteSpec, check};
use crate::daemon::lock::{LockError, PairLock};
use crate::drive::Observer;
use crate::engine::{Fatal, Stop, Summary};
use crate::exec::Lanes;
use crate::exec::meter::Meter;
use crate::exit::{Exit, Failure};
use crate::local::os::{OsFs, OsOptions};
use crate::local::root::{OpenError, RootId, Symlinks};
use crate::local::trash::Emptied;
use crate::pair::{self, Conduct, PairSettings, RunError, RunReport, Sides};
use crate::plan::{BrakeLimit, BrakeLimits};
use crate::remote::Remote;
use crate::text::printable;

/// What a command adds to the configuration of a pair.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub(super) max_delete: Option<BrakeLimit>,
    pub(super) max_transfer: Option<u64>,
    pub(super) max_duration: Option<std::time::Duration>,
    pub(super) force: bool,
}

impl Extras {
    pub(super) fn are_any(&self) -> bool {
        self.max_delete.is_some()
            || self.max_transfer.is_some()
            || self.max_duration.is_some()
            || self.force
    }
}

/// How many operations that move no content run at once.
const STRUCTURE_LANES: usize = 8;

impl Pair {
    pub(super) fn settings(&self, extras: &Extras) -> PairSettings {
        PairSettings {
            mode: self.config.mode,
            conflict: self.config.conflict,
            brake: BrakeLimits {
                deletes: extras.max_delete.unwrap_or(self.config.max_delete),
                changes: self.config.max_change.unwrap_or(BrakeLimit::NONE),
                lifted: extras.force,
            },
            ignore: self.config.ignore.clone(),
            host: host(),
            lanes: Lanes {
                uploads: self.limits.parallel_uploads,
                downloads: self.limits.parallel_downloads,
                structure: STRUCTURE_LANES,
            },
            max_transfer: extras.max_transfer,
            max_duration: extras.max_duration,
            settle: None,
            meter: Arc::default(),
        }
    }

    /// The local folder, as a disk. Changes nothing in it.
    pub(super) fn open_local(&self) -> Result<OsFs, Failure> {
        let symlinks = if self.config.symlinks_follow { Symlinks::Follow } else { Symlinks::Skip };
        let other = self.remote_folder().and_then(|folder| RootId::of(&folder));
        let options = OsOptions { symlinks, clock: Arc::new(SystemClock), other };
        OsFs::open(&self.config.local, options).map_err(|error| self.not_opened("local", &error))
    }

    pub(super) fn open_remote(&self) -> Result<Arc<dyn Remote>, Failure> {
        let state_dir = self.state_db.parent().unwrap_or(Path::new(""));
        let local = Some(self.config.local.as_path());
        let opened = connect::open(&self.config.remote, self.remote.as_ref(), state_dir, local);
        opened.map_err(|error| match error {
            NoRemote::Folder(error) => self.not_opened("remote", &error),
            other => other.failure(&self.config.name),
        })
    }

    /// Mounts may have changed since the configuration was read: a folder that is copied into itself
    /// grows without end.
    fn refuse_nested(&self) -> Result<(), Failure> {
        let nested = self
            .remote_folder()
            .and_then(|remote| Some((check::nested(&self.config.local, &remote)?, shown(&remote))));
        let Some((words, remote)) = nested else { return Ok(()) };
        Err(self.mistaken(format!(
            "{}: the remote folder {remote} {words} the local folder {}. Nothing was changed: the \
             folders of a pair must not overlap",
            self.name(),
            shown(&self.config.local)
        )))
    }

    /// A root that was there and is not any more is most likely a disk that is not mounted: that
    /// halts the pair. One that never was is a mistake of whoever named it.
    fn not_opened(&self, side: &str, error: &OpenError) -> Failure {
        let words = printable(&error.to_string());
        let halted = format!("{}: {side} root: {words}", self.name());
        match (error, self.state_db.exists()) {
            (OpenError::Missing(_) | OpenError::NotAFolder(_), true) => Failure::new(
                Exit::Held,
                format!("{halted} (is a disk not mounted?). Nothing was changed"),
            ),
            (OpenError::Missing(_), false) => {
                let folder = match side {
                    "local" => self.config.local.clone(),
                    _ => self.remote_folder().unwrap_or_default(),
                };
                self.mistaken(format!("{halted}. Make it first: mkdir -p {}", shown(&folder)))
            }
            (OpenError::NotAFolder(_), false) => self.mistaken(halted),
            (OpenError::NotReadable(_) | OpenError::Other { .. }, _) => Failure::fatal(halted),
        }
    }

    /// A folder that cannot be right: the fault of whoever named it, on the command line or in the file.
    fn mistaken(&self, message: String) -> Failure {
        match self.ad_hoc {
            true => Failure::usage(message),
            false => Failure::config(message),
        }
    }

    /// The folder on this computer that the remote is, if it is one.
    fn remote_folder(&self) -> Option<PathBuf> {
        folder_of(&self.config.remote, self.remote.as_ref())
    }

    pub(super) fn sides(&self) -> Result<Sides, Failure> {
        self.refuse_nested()?;
        Ok(Sides {
            local: Arc::new(self.open_local()?),
            remote: self.open_remote()?,
            clock: Arc::new(SystemClock),
        })
    }

    /// Makes this process the only one that works on the pair, until the lock is dropped.
    pub(super) fn lock(&self) -> Result<PairLock, Failure> {
        if let Some(dir) = self.lock.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| {
                Failure::fatal(format!("{}: make {}: {error}", self.name(), shown(dir)))
            })?;
        }
        PairLock::acquire(&self.lock, &self.config.local).map_err(|error| {
            let exit = match &error {
                LockError::Held { .. } => Exit::Busy,
                LockError::Closed { .. } | LockError::Io { .. } => Exit::Fatal,
            };
            Failure::new(exit, format!("{}: {}", self.name(), printable(&error.to_string())))
        })
    }

    /// Whether another process works on the pair just now.
    pub(super) fn is_locked(&self) -> bool {
        let Ok(lock) = File::options().write(true).open(&self.lock) else { return false };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Runs the pair under its lock until it is in sync or cannot get further, and records how it
    /// ended. With `Conduct::Pretend` nothing is locked, changed or recorded.
    pub(super) async fn run(
        &self,
        extras: &Extras,
        conduct: Conduct,
        observer: &dyn Observer,
        meter: &Arc<Meter>,
        interrupt: &Interrupt,
    ) -> Result<RunReport, Failure> {
        let _lock = match conduct {
            Conduct::Act => match self.lock() {
                Ok(lock) => {
                    LastRun::forget_unbegun(self);
                    Some(lock)
                }
                Err(failure) => {
                    let outcome = Err(failure);
                    LastRun::of(&outcome, SystemClock.now()).record_unbegun(self);
                    return outcome;
                }
            },
            Conduct::Pretend => None,
        };
        let outcome = self.run_locked(extras, conduct, observer, meter, interrupt).await;
        if conduct == Conduct::Act {
            LastRun::of(&outcome, SystemClock.now()).record(self);
        }
        outcome
    }

    async fn run_locked(
        &self,
        extras: &Extras,
        conduct: Conduct,
        observer: &dyn Observer,
        meter: &Arc<Meter>,
        interrupt: &Interrupt,
    ) -> Result<RunReport, Failure> {
        let sides = self.sides()?;
        let settings = PairSettings { meter: Arc::clone(meter), ..self.settings(extras) };
        if conduct == Conduct::Act {
            self.make_database()?;
        }
        let id = fresh_id().map_err(|error| self.failed(&error))?;
        let ran =
            pair::run(&settings, &self.state_db, &sides, &id, conduct, observer, interrupt.wait());
        let report = ran.await.map_err(|error| self.run_failed(&error))?;
        if conduct == Conduct::Act {
            self.expire_trash().await;
        }
        Ok(report)
    }

    /// The database knows all names, so nobody else may read it, wherever the state folder is.
    pub(super) fn make_database(&self) -> Result<(), Failure> {
        let mut options = File::options();
        let made =
            options.create(true).truncate(false).write(true).mode(0o600).open(&self.state_db);
        made.map(drop).map_err(|error| {
            Failure::fatal(format!("{}: make {}: {error}", self.name(), shown(&self.state_db)))
        })
    }

    /// What is in the trash longer than it is kept goes. A failure waits for the next run.
    pub(super) async fn expire_trash(&self) {
        // Each state database counts for itself how long something has been in the trash.
        let counter = self.records().ok().flatten().and_then(|s| s.meta("install_id").ok()?);
        let Some(counter) = counter else { return };
        let name = &self.config.name;
        let mut jumped = None;
        let folders = std::iter::once(self.config.local.clone()).chain(self.remote_folder());
        for folder in folders {
            let Ok(disk) = OsFs::open(&folder, OsOptions::default()) else { continue };
            match disk.age_trash(&counter, self.config.trash_keep).await {
                Ok(Emptied { files, jump }) => {
                    if files > 0 {
                        tracing::info!(pair = name, files, "trash aged out");
                    }
                    jumped = jumped.or(jump);
                }
                Err(error) => tracing::warn!(pair = name, %error, "trash not cleaned"),
            }
        }
        if let Some(jump) = jumped {
            tracing::warn!(pair = name, "{jump}; nothing is removed from the trash because of it");
        }
    }

    fn run_failed(&self, error: &RunError) -> Failure {
        let exit = match error {
            RunError::Halted { .. } => Exit::Held,
            RunError::Fatal(Fatal::RootLost { .. }) => Exit::Held,
            RunError::Unavailable { .. } | RunError::Fatal(Fatal::Unavailable { .. }) => {
                Exit::Unavailable
            }
            RunError::Auth { .. } | RunError::Fatal(Fatal::Auth { .. }) => Exit::LoginNeeded,
            RunError::Side { .. } | RunError::Fatal(Fatal::Store(_) | Fatal::Stuck) => Exit::Fatal,
        };
        let hint = match (&self.config.remote, exit) {
            (RemoteSpec::Named { remote, .. }, Exit::LoginNeeded) => login_hint(remote),
            (RemoteSpec::Named { .. } | RemoteSpec::Dir(_), _) => String::new(),
        };
        Failure::new(exit, format!("{}: {}{hint}", self.name(), printable(&error.to_string())))
    }
}

/// What a person does about a login that is missing or has ended.
fn login_hint(remote: &str) -> String {
    format!(". Log in: foldsync auth login {}", printable(remote))
}

/// The code of a run that came to its end.
pub(super) fn exit_of(summary: &Summary) -> Exit {
    let stop = match summary.stop {
        None => Exit::InSync,
        Some(Stop::Interrupted) => Exit::Interrupted,
        Some(Stop::MaxTransfer) => Exit::MaxTransfer,
        Some(Stop::MaxDuration) => Exit::MaxDuration,
    };
    let remains = summary.conflicts > 0 || !summary.skipped.is_empty();
    [
        (summary.held > 0, Exit::Held),
        (summary.failed > 0, Exit::SomeFailed),
        (remains, Exit::Remaining),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    .fold(stop, |worst, (_, exit)| worst.or_worse(exit))
}

/// Unique, and fit for a file name.
pub(super) fn fresh_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// This computer's name, as far as it fits into a file name everywhere.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let first = name.trim().split('.').next().unwrap_or_default();
    let plain: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
    if plain.is_empty() { "host".to_owned() } else { plain }
}
