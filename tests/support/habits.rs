//! Disks with bad habits: a folder shown at another place through FUSE, by a server in this process
//! that does one or several things differently from ext4.
//!
//! Owns the mount and the list of habits. Without any habit the disk behaves as the folder behind it
//! does, except for birth times (see `Births`) and extended attributes, which it has not. It never
//! judges the program under test, and it needs root and `/dev/fuse`.

#![allow(dead_code, reason = "each test binary uses its own part of the habits")]

#[path = "habits/births.rs"]
mod births;
#[path = "habits/names.rs"]
mod names;
#[path = "habits/nodes.rs"]
mod nodes;
#[path = "habits/numbers.rs"]
mod numbers;
#[path = "habits/server.rs"]
mod server;
#[path = "habits/stamps.rs"]
mod stamps;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use names::Names;
pub(crate) use numbers::Numbers;
pub(crate) use stamps::{Births, Stamps};

use server::{Disk, Server};

/// How long an unmount may wait for a process that still ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is different about a disk. The default is nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// Which inode numbers it shows.
    pub(crate) numbers: Numbers,
    /// Which times it shows and takes.
    pub(crate) stamps: Stamps,
    /// Which birth times it shows.
    pub(crate) births: Births,
    /// Which names it takes, and for which it takes them.
    pub(crate) names: Names,
    /// What becomes of a chmod or chown.
    pub(crate) modes: Modes,
    /// Refuses to set times (`EPERM`).
    pub(crate) no_utimens: bool,
    /// Which flags `renameat2` takes.
    pub(crate) renames: Renames,
    /// Refuses hard links (`EPERM`).
    pub(crate) no_links: bool,
    /// This folder at the top is on another disk of a pool: `EXDEV` for every rename and link
    /// between it and the rest.
    pub(crate) branch: Option<&'static str>,
    /// Opens files for direct I/O, so that they cannot be mapped (shared) into memory.
    pub(crate) no_mmap: bool,
    /// How many inodes `statvfs` counts.
    pub(crate) inodes: Inodes,
}

/// What becomes of a chmod or chown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Modes {
    /// They are done.
    #[default]
    Kept,
    /// `EPERM`.
    Refused,
    /// Success, without effect: everything is shown as root's, with mode 0777.
    Ignored,
}

/// Which flags `renameat2` takes; the others are `EINVAL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Renames {
    #[default]
    AllFlags,
    /// `RENAME_NOREPLACE` only.
    NoExchange,
    NoFlags,
}

/// How many inodes `statvfs` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Inodes {
    /// As the disk behind.
    #[default]
    Counted,
    /// None in all and none free, as file systems without a table of inodes say.
    NotCounted,
    /// Many in all and none free.
    NoneFree,
}

impl Habits {
    /// As sshfs: numbers anew at each mount, whole seconds, no change time, plain renames only.
    pub(crate) fn sshfs() -> Habits {
        Habits {
            numbers: Numbers::FirstLookUp,
            stamps: Stamps {
                step: Duration::from_secs(1),
                no_change_time: true,
                ..Stamps::default()
            },
            renames: Renames::NoFlags,
            ..Habits::default()
        }
    }

    /// As a FAT stick: numbers anew at each mount, 2-second stamps, no modes, no links, one case.
    pub(crate) fn fat() -> Habits {
        Habits {
            numbers: Numbers::FirstLookUp,
            stamps: Stamps {
                step: Duration::from_secs(2),
                no_change_time: true,
                ..Stamps::default()
            },
            names: Names { folds_case: true, refuses_fat: true, trims: true, ..Names::default() },
            modes: Modes::Ignored,
            renames: Renames::NoExchange,
            no_links: true,
            inodes: Inodes::NotCounted,
            ..Habits::default()
        }
    }

    /// As a disk of a Mac: decomposed names, one case.
    pub(crate) fn mac() -> Habits {
        Habits {
            names: Names { folds_case: true, decomposes: true, ..Names::default() },
            ..Habits::default()
        }
    }
}

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Fsync,
    Link,
    LookUp,
    MakeDir,
    Open,
    Read,
    ReadDir,
    Remove,
    Rename,
    SetAttributes,
    Write,
}

/// A mounted disk; unmounted when dropped.
pub(crate) struct HabitDisk {
    at: PathBuf,
    disk: Arc<Disk>,
    /// The serving threads. Taken by `unmount`.
    serving: Option<Serving>,
}

enum Serving {
    /// By fuser alone.
    Plainly(fuser::BackgroundSession),
    /// With a relay that answers for birth times.
    WithBirths(JoinHandle<()>),
}

impl HabitDisk {
    /// Shows the folder `back` at the folder `at`. `None`, with the reason printed, for ordinary
    /// users and on computers without FUSE.
    pub(crate) fn mount(back: &Path, at: &Path, habits: &Habits) -> Option<HabitDisk> {
        if let Some(reason) = why_not() {
            println!("left out: {reason}");
            return None;
        }
        let disk = Arc::new(Disk::new(back, habits.clone()).unwrap());
        let served = match habits.births {
            Births::Unknown => plainly(&disk, at).map(Serving::Plainly),
            Births::ToTheNanosecond | Births::ToTenMilliseconds => {
                births::serve(&disk, at).map(Serving::WithBirths)
            }
        };
        match served {
            Ok(serving) => Some(HabitDisk { at: at.to_owned(), disk, serving: Some(serving) }),
            Err(error) => {
                println!("left out: no FUSE mount at {}: {error}", at.display());
                None
            }
        }
    }

    /// Unmounts; an error if a process holds on to the disk, which is then detached all the same.
    pub(crate) fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(serving) = self.serving.take() else { return Ok(()) };
        let ended = take_off(&self.at);
        // The disk is off: the threads see the end of the connection. A detached one that is still
        // held is left to them.
        if ended.is_ok() {
            match serving {
                Serving::Plainly(session) => drop(session.guard.join()),
                Serving::WithBirths(relay) => drop(relay.join()),
            }
        }
        ended
    }

    /// Lets the so many-th next operation of this kind, counted from 0, fail with `EIO`; once. (A
    /// read that fails while reading ahead is asked for again by the kernel: let two fail.)
    pub(crate) fn fail(&self, operation: Operation, after: usize) {
        self.disk.fail(operation, after);
    }

    /// Kills the process that asks for the so many-th next operation of this kind, counted from 0,
    /// before it is done. Works for `Rename` and `Remove` of files.
    pub(crate) fn kill_at(&self, operation: Operation, after: usize) {
        self.disk.kill(operation, after);
    }

    /// Kills nobody any more.
    pub(crate) fn spare(&self) {
        self.disk.spare();
    }

    /// How many bytes other processes than this one read from the user's files (not from the
    /// program's own folder) since this was last asked.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.disk.take_bytes_read()
    }

    /// Forgets every item that was looked up, as under memory pressure: with
    /// `Numbers::UntilForgotten` all get new numbers.
    pub(crate) fn forget(&self) {
        self.disk.forget_all();
    }
}

impl Drop for HabitDisk {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            println!("{} was still in use: {error}", self.at.display());
        }
    }
}

/// Why no disk can be mounted here.
fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting a disk with habits needs root".to_owned());
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.err().map(|error| format!("/dev/fuse: {error}"))
}

fn plainly(disk: &Arc<Disk>, at: &Path) -> io::Result<fuser::BackgroundSession> {
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName("habits".to_owned()),
        fuser::MountOption::DefaultPermissions,
    ];
    config.acl = fuser::SessionACL::All;
    fuser::spawn_mount(Server(Arc::clone(disk)), at, &config)
}

/// Unmounts, as soon as nobody is in there any more.
fn take_off(at: &Path) -> io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    let begun = Instant::now();
    loop {
        match umount2(at, MntFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(nix::errno::Errno::EBUSY) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                let detached = umount2(at, MntFlags::MNT_DETACH);
                return detached.and(Err(error)).map_err(io::Error::from);
            }
        }
    }
}
