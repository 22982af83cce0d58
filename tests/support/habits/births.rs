//! A relay before fuser, for disks that show birth times: the kernel asks for them with a request
//! that fuser does not know (`FUSE_STATX`). That one is answered here, every other is passed on.
//!
//! Owns the mount's descriptor. Requests and answers go through a socket that keeps messages whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt,
};
use rustix::fs::Timespec;
use rustix::io::Errno;

use super::server::{Disk, Server};
use super::stamps::from_fuser;

/// The length of the header of a request, and of an answer.
const REQUEST: usize = 40;
const ANSWER: usize = 16;
/// `FUSE_STATX` of the kernel's interface.
const STATX: u32 = 52;
/// `STATX_BASIC_STATS` and `STATX_BTIME`.
const KNOWN: u32 = 0xfff;
/// More than the longest message.
const LONGEST: usize = 256 << 10;

/// Mounts the disk and serves it.
pub(crate) fn serve(disk: &Arc<Disk>, at: &Path) -> io::Result<JoinHandle<()>> {
    let kernel: OwnedFd =
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
    let number = kernel.as_raw_fd();
    let options =
        format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions");
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some("habits"), at, Some("fuse"), flags, Some(options.as_str()))?;
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let (inner, outer) = socketpair(AddressFamily::Unix, kind, None, flags)?;
    for end in [&inner, &outer] {
        setsockopt(end, sockopt::SndBuf, &(4 * LONGEST))?;
    }
    let (kernel, outer) = (Arc::new(kernel), Arc::new(outer));
    let answers = {
        let (kernel, outer) = (Arc::clone(&kernel), Arc::clone(&outer));
        std::thread::spawn(move || pass_answers(&outer, &kernel))
    };
    let requests = {
        let disk = Arc::clone(disk);
        std::thread::spawn(move || {
            pass_requests(&disk, &kernel, &outer);
            // Ends the session, and with it the thread of the answers.
            shutdown(outer.as_raw_fd(), Shutdown::Both).ok();
        })
    };
    let config = fuser::Config::default();
    let session =
        fuser::Session::from_fd(Server(Arc::clone(disk)), inner, fuser::SessionACL::All, config)?;
    let session = session.spawn()?;
    Ok(std::thread::spawn(move || {
        drop(requests.join());
        drop(answers.join());
        // That its input ended is the session's error.
        drop(session.guard.join());
    }))
}

fn pass_requests(disk: &Disk, kernel: &OwnedFd, outer: &OwnedFd) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = match rustix::io::read(kernel, &mut buffer[..]) {
            Ok(length) => length,
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => return,
        };
        let request = &buffer[..length];
        if word(request, 4) == STATX {
            rustix::io::write(kernel, &born(disk, request)).ok();
        } else if rustix::io::write(outer, request).is_err() {
            return;
        }
    }
}

fn pass_answers(outer: &OwnedFd, kernel: impl AsFd) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match rustix::io::read(outer, &mut buffer[..]) {
            Ok(0) | Err(_) => return,
            // The kernel refuses answers to requests that were interrupted.
            Ok(length) => {
                rustix::io::write(kernel.as_fd(), &buffer[..length]).ok();
            }
        }
    }
}

/// The answer to a `FUSE_STATX`.
fn born(disk: &Disk, request: &[u8]) -> Vec<u8> {
    let unique = &request[8..16];
    let node = long(request, 16);
    let (body, error) = match disk.seen(node) {
        Ok((stat, attr)) => (statx(disk, &stat, &attr), 0),
        Err(error) => (Vec::new(), -error.raw_os_error().unwrap_or(5)),
    };
    let length = u32::try_from(ANSWER + body.len()).expect("a short answer");
    let mut answer = Vec::with_capacity(ANSWER + body.len());
    answer.extend(length.to_ne_bytes());
    answer.extend(error.to_ne_bytes());
    answer.extend(unique);
    answer.extend(body);
    answer
}

/// `struct fuse_statx_out`.
fn statx(disk: &Disk, stat: &rustix::fs::Statx, attr: &fuser::FileAttr) -> Vec<u8> {
    let kept =
        Timespec { tv_sec: stat.stx_btime.tv_sec, tv_nsec: i64::from(stat.stx_btime.tv_nsec) };
    let born = disk.habits().births.shown(kept);
    let mode = (stat.stx_mode & 0o170_000) | attr.perm;
    let mut out = Vec::with_capacity(288);
    // No caching, no flags.
    out.extend([0; 32]);
    out.extend(KNOWN.to_ne_bytes());
    out.extend(attr.blksize.to_ne_bytes());
    out.extend(0_u64.to_ne_bytes());
    for value in [attr.nlink, attr.uid, attr.gid] {
        out.extend(value.to_ne_bytes());
    }
    out.extend(mode.to_ne_bytes());
    out.extend([0; 2]);
    for value in [attr.ino.0, attr.size, attr.blocks, 0] {
        out.extend(value.to_ne_bytes());
    }
    let plain = |time: SystemTime| from_std(time);
    for time in [plain(attr.atime), born, plain(attr.ctime), plain(attr.mtime)] {
        out.extend(time.tv_sec.to_ne_bytes());
        out.extend(u32::try_from(time.tv_nsec).unwrap_or(0).to_ne_bytes());
        out.extend([0; 4]);
    }
    out.resize(288, 0);
    out
}

/// The other way of `to_fuser`.
fn from_std(time: SystemTime) -> Timespec {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => from_fuser(time),
        Err(error) => {
            let before = error.duration();
            let nanos = i64::from(before.subsec_nanos());
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match nanos {
                0 => Timespec { tv_sec: seconds, tv_nsec: 0 },
                _ => Timespec { tv_sec: seconds - 1, tv_nsec: 1_000_000_000 - nanos },
            }
        }
    }
}

fn word(message: &[u8], at: usize) -> u32 {
    message.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()))
}

fn long(message: &[u8], at: usize) -> u64 {
    message.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().unwrap()))
}
