//! The system calls that give, take and remove names, and those that set mode and times.
//!
//! Owns nothing. In tests a disk's habits stand in front of them: renames that are refused between
//! folders, missing flags, no hard links, no attributes; and before any of these calls the process is
//! killed, or a user does something.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Timestamps};
use rustix::io::Result;

pub(super) fn renameat(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    #[cfg(test)]
    habits::before_rename(from_dir.as_fd(), to_dir.as_fd(), RenameFlags::empty())?;
    fs::renameat(from_dir, from, to_dir, to)
}

pub(super) fn renameat_with(
    from_dir: impl AsFd,
    from: &str,
    to_dir: impl AsFd,
    to: &str,
    flags: RenameFlags,
) -> Result<()> {
    #[cfg(test)]
    habits::before_rename(from_dir.as_fd(), to_dir.as_fd(), flags)?;
    fs::renameat_with(from_dir, from, to_dir, to, flags)
}

pub(super) fn linkat(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    #[cfg(test)]
    habits::before_link(from_dir.as_fd(), to_dir.as_fd())?;
    fs::linkat(from_dir, from, to_dir, to, AtFlags::empty())
}

pub(super) fn unlinkat(dir: impl AsFd, name: &str, flags: AtFlags) -> Result<()> {
    #[cfg(test)]
    habits::step();
    fs::unlinkat(dir, name, flags)
}

/// Removes one of two names of a file, right after a look at both: no user acts in between here.
pub(super) fn unlink_linked(dir: impl AsFd, name: &str) -> Result<()> {
    #[cfg(test)]
    habits::kill_step();
    fs::unlinkat(dir, name, AtFlags::empty())
}

pub(super) fn mkdirat(dir: impl AsFd, name: &str, mode: Mode) -> Result<()> {
    #[cfg(test)]
    habits::step();
    fs::mkdirat(dir, name, mode)
}

/// A new file, open for reading and writing, that nobody else may read yet.
pub(super) fn create(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    #[cfg(test)]
    habits::step();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
}

pub(super) fn fchmod(file: impl AsFd, mode: Mode) -> Result<()> {
    #[cfg(test)]
    habits::before_attribute()?;
    fs::fchmod(file, mode)
}

pub(super) fn futimens(file: impl AsFd, times: &Timestamps) -> Result<()> {
    #[cfg(test)]
    habits::before_attribute()?;
    fs::futimens(file, times)
}

#[cfg(test)]
pub(super) mod habits {
    use std::cell::{Cell, RefCell};
    use std::os::fd::BorrowedFd;

    use rustix::fs::RenameFlags;
    use rustix::io::{Errno, Result};

    use crate::local::look::stat_of;

    /// How the disk of this thread's test is.
    #[derive(Clone, Copy, Default)]
    pub(in crate::local) struct Habits {
        /// No rename and no link leads from one folder to another.
        pub(in crate::local) islands: bool,
        /// Neither `NOREPLACE` nor `EXCHANGE` is known.
        pub(in crate::local) no_flags: bool,
        pub(in crate::local) no_exchange: bool,
        pub(in crate::local) no_links: bool,
        /// How setting mode or times is refused.
        pub(in crate::local) attributes: Option<Errno>,
        /// The process is killed before the call with this number, from 0.
        pub(in crate::local) kill_before: Option<u32>,
    }

    /// What a user does before the call with a number.
    type Act = (u32, Box<dyn FnOnce()>);

    thread_local! {
        static HABITS: Cell<Habits> = Cell::default();
        static STEPS: Cell<u32> = const { Cell::new(0) };
        static ACT: RefCell<Option<Act>> = const { RefCell::new(None) };
    }

    /// What a killed process unwinds with.
    pub(in crate::local) struct Killed;

    pub(in crate::local) fn set(habits: Habits) {
        HABITS.set(habits);
        STEPS.set(0);
        ACT.set(None);
    }

    /// Starts counting anew, and lets a user act before a call.
    pub(in crate::local) fn act_before(step: u32, act: impl FnOnce() + 'static) {
        STEPS.set(0);
        ACT.set(Some((step, Box::new(act))));
    }

    /// Whether the user has not come to it yet.
    pub(in crate::local) fn is_act_open() -> bool {
        ACT.with_borrow(Option::is_some)
    }

    pub(super) fn step() {
        let step = STEPS.get();
        let act = ACT.with_borrow_mut(|act| act.take_if(|(before, _)| *before <= step));
        if let Some((_, act)) = act {
            act();
        }
        kill_step();
    }

    pub(super) fn kill_step() {
        let step = STEPS.replace(STEPS.get() + 1);
        if HABITS.get().kill_before == Some(step) {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    fn crosses(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
        let of = |dir| stat_of(dir).map(|stat| stat.stx_ino).ok();
        HABITS.get().islands && of(from) != of(to)
    }

    pub(super) fn before_rename(
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        flags: RenameFlags,
    ) -> Result<()> {
        step();
        let habits = HABITS.get();
        let unknown = habits.no_flags && !flags.is_empty();
        if unknown || (habits.no_exchange && flags.contains(RenameFlags::EXCHANGE)) {
            return Err(Errno::INVAL);
        }
        if crosses(from, to) { Err(Errno::XDEV) } else { Ok(()) }
    }

    pub(super) fn before_attribute() -> Result<()> {
        HABITS.get().attributes.map_or(Ok(()), Err)
    }

    pub(super) fn before_link(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        step();
        match HABITS.get().no_links {
            true => Err(Errno::PERM),
            false if crosses(from, to) => Err(Errno::XDEV),
            false => Ok(()),
        }
    }
}
