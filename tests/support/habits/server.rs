//! Answers the kernel for a disk with habits: each request is done on the folder behind, but for
//! what the habits say.
//!
//! One request at a time; so the order of events on the disk is the order in which they were asked.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, OpenFlags, TimeOrNow,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Statx, Timespec, Timestamps};
use rustix::io::Errno;

use super::nodes::{Key, Node, Nodes, ROOT, item, listing, stat_of};
use super::numbers::Given;
use super::stamps::{from_fuser, to_fuser};
use super::{Habits, Inodes, Modes, Operation, Renames};

/// Nothing that was answered may be remembered: other computers change the disk behind too.
const AT_ONCE: Duration = Duration::ZERO;
/// What a listing says of an item that has no number yet.
const NO_NUMBER: u64 = 0xffff_ffff;
/// The program's own folder.
const CONTROL: &str = ".foldsync";

/// The disk, shared by the serving threads and the test.
pub(crate) struct Disk {
    root: PathBuf,
    habits: Habits,
    state: Mutex<State>,
}

struct State {
    nodes: Nodes,
    numbers: Given,
    files: HashMap<u64, Opened>,
    folders: HashMap<u64, Vec<Listed>>,
    next_handle: u64,
    /// What is to fail, after so many more.
    failing: Vec<(Operation, usize)>,
    /// Before what the asking process is to be killed, after so many more.
    killing: Option<(Operation, usize)>,
    bytes_read: u64,
}

#[derive(Clone)]
struct Opened {
    file: Arc<File>,
    /// Not one of the program's own.
    users: bool,
}

struct Listed {
    number: u64,
    kind: FileType,
    name: OsString,
}

/// Who asks.
#[derive(Clone, Copy)]
struct Asker {
    user: u32,
    group: u32,
}

impl Asker {
    fn of(request: &fuser::Request) -> Asker {
        Asker { user: request.uid(), group: request.gid() }
    }
}

/// What is to become of an item's attributes.
#[derive(Default)]
struct Wish {
    mode: Option<u32>,
    user: Option<u32>,
    group: Option<u32>,
    size: Option<u64>,
    accessed: Option<TimeOrNow>,
    modified: Option<TimeOrNow>,
}

impl Disk {
    pub(crate) fn new(back: &Path, habits: Habits) -> io::Result<Disk> {
        let root = back.canonicalize()?;
        let nodes = Nodes::new(root.clone())?;
        let mut numbers = Given::new(habits.numbers);
        numbers.of(nodes.get(ROOT)?.key);
        let state = State {
            nodes,
            numbers,
            files: HashMap::new(),
            folders: HashMap::new(),
            next_handle: 1,
            failing: Vec::new(),
            killing: None,
            bytes_read: 0,
        };
        Ok(Disk { root, habits, state: Mutex::new(state) })
    }

    pub(crate) fn fail(&self, operation: Operation, after: usize) {
        self.state().failing.push((operation, after));
    }

    pub(crate) fn kill(&self, operation: Operation, after: usize) {
        self.state().killing = Some((operation, after));
    }

    pub(crate) fn spare(&self) {
        self.state().killing = None;
    }

    pub(crate) fn take_bytes_read(&self) -> u64 {
        std::mem::take(&mut self.state().bytes_read)
    }

    pub(crate) fn forget_all(&self) {
        let mut state = self.state();
        state.nodes.forget_all();
        state.numbers.forget();
    }

    pub(crate) fn habits(&self) -> &Habits {
        &self.habits
    }

    /// What a node is, for the relay: its attributes behind, and its number.
    pub(crate) fn seen(&self, node: u64) -> io::Result<(Statx, FileAttr)> {
        let node = self.node(node)?;
        let stat = node.stat()?;
        Ok((stat, self.shown(&stat, None)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn node(&self, id: u64) -> io::Result<Arc<Node>> {
        self.state().nodes.get(id)
    }

    /// Kills whoever asks for this, if that was wanted. The operation is not done.
    fn may_kill(&self, thread: u32, operation: Operation) -> io::Result<()> {
        if is_ours(thread) {
            return Ok(());
        }
        let mut state = self.state();
        match &mut state.killing {
            Some((killing, 0)) if *killing == operation => {}
            Some((killing, left)) if *killing == operation => {
                *left -= 1;
                return Ok(());
            }
            Some(_) | None => return Ok(()),
        }
        // Whatever its other threads ask for meanwhile is not done either.
        let thread = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(thread.expect("a thread"), rustix::process::Signal::KILL)?;
        Err(Errno::INTR.into())
    }

    /// Fails if this operation was made to.
    fn begin(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let Some(at) = state.failing.iter().position(|(failing, _)| *failing == operation) else {
            return Ok(());
        };
        if state.failing[at].1 > 0 {
            state.failing[at].1 -= 1;
            return Ok(());
        }
        state.failing.remove(at);
        Err(Errno::IO.into())
    }

    // ---- names -----------------------------------------------------------------------------------

    /// The name of an item that is there.
    fn present(&self, dir: &Node, name: &OsStr) -> io::Result<OsString> {
        self.habits.names.found(&dir.fd, name)?.ok_or(Errno::NOENT.into())
    }

    /// The name under which to make an item: that of what is there already, so that it is refused.
    fn for_new(&self, dir: &Node, name: &OsStr) -> io::Result<OsString> {
        match self.habits.names.found(&dir.fd, name)? {
            Some(taken) => Ok(taken),
            None => self.habits.names.stored(name),
        }
    }

    /// Whether the item of a name is on the pool's other disk.
    fn on_branch(&self, dir: &Node, name: &OsStr) -> io::Result<bool> {
        let path = dir.path()?.join(name);
        Ok(self.branch_has(&path))
    }

    fn branch_has(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        self.habits.branch.is_some_and(|branch| inside.starts_with(branch))
    }

    // ---- attributes ------------------------------------------------------------------------------

    /// What is shown of an item. To the kernel a node's number is its id in the answer to a look-up,
    /// and the habit's number whenever attributes are asked for.
    fn shown(&self, stat: &Statx, id: Option<u64>) -> FileAttr {
        let stamps = &self.habits.stamps;
        let time = |at: rustix::fs::StatxTimestamp| Timespec {
            tv_sec: at.tv_sec,
            tv_nsec: i64::from(at.tv_nsec),
        };
        let shown = |at| to_fuser(stamps.shown(time(at)));
        let changed = if stamps.no_change_time { stat.stx_mtime } else { stat.stx_ctime };
        let number = id.unwrap_or_else(|| self.state().numbers.of(Key::of(stat)));
        let mut attr = FileAttr {
            ino: INodeNo(number),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: shown(stat.stx_atime),
            mtime: shown(stat.stx_mtime),
            ctime: shown(changed),
            crtime: SystemTime::UNIX_EPOCH,
            kind: kind_of(u32::from(stat.stx_mode)),
            perm: stat.stx_mode & 0o7777,
            nlink: if self.habits.no_links && !is_dir(stat) { 1 } else { stat.stx_nlink },
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        if self.habits.modes == Modes::Ignored {
            (attr.perm, attr.uid, attr.gid) = (0o777, 0, 0);
        }
        attr
    }

    fn attributes(&self, id: u64) -> io::Result<FileAttr> {
        let stat = self.node(id)?.stat()?;
        Ok(self.shown(&stat, None))
    }

    /// The item of a name becomes known to the kernel.
    fn enter(&self, dir: &Node, name: &OsStr) -> io::Result<FileAttr> {
        let fd = item(&dir.fd, name)?;
        let id = self.state().nodes.enter(fd)?;
        let stat = self.node(id)?.stat()?;
        self.state().numbers.of(Key::of(&stat));
        Ok(self.shown(&stat, Some(id)))
    }

    fn set(&self, id: u64, wish: &Wish, handle: Option<u64>) -> io::Result<FileAttr> {
        self.begin(Operation::SetAttributes)?;
        let node = self.node(id)?;
        self.set_mode(&node, wish)?;
        if let Some(size) = wish.size {
            let opened = handle.and_then(|handle| self.state().files.get(&handle).cloned());
            match opened {
                Some(opened) => opened.file.set_len(size)?,
                None => OpenOptions::new().write(true).open(node.handle())?.set_len(size)?,
            }
        }
        self.set_times(&node, wish)?;
        self.attributes(id)
    }

    fn set_mode(&self, node: &Node, wish: &Wish) -> io::Result<()> {
        if wish.mode.is_none() && wish.user.is_none() && wish.group.is_none() {
            return Ok(());
        }
        match self.habits.modes {
            Modes::Refused => return Err(Errno::PERM.into()),
            Modes::Ignored => return Ok(()),
            Modes::Kept => {}
        }
        if let Some(mode) = wish.mode {
            std::fs::set_permissions(node.handle(), Permissions::from_mode(mode & 0o7777))?;
        }
        if wish.user.is_some() || wish.group.is_some() {
            chown(node.handle(), wish.user, wish.group)?;
        }
        Ok(())
    }

    fn set_times(&self, node: &Node, wish: &Wish) -> io::Result<()> {
        let told = |time: &TimeOrNow| matches!(time, TimeOrNow::SpecificTime(_));
        let both = [wish.accessed, wish.modified];
        if both.iter().all(Option::is_none) {
            return Ok(());
        }
        // A change of the size tells the time too.
        if self.habits.no_utimens && (wish.size.is_none() || both.iter().flatten().any(told)) {
            return Err(Errno::PERM.into());
        }
        let kept = |time: Option<TimeOrNow>| match time {
            None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            Some(TimeOrNow::SpecificTime(time)) => self.habits.stamps.kept(from_fuser(time)),
        };
        let [last_access, last_modification] = both.map(kept);
        let times = Timestamps { last_access, last_modification };
        Ok(rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)?)
    }

    // ---- items -----------------------------------------------------------------------------------

    fn look_up(&self, parent: u64, name: &OsStr) -> io::Result<FileAttr> {
        self.begin(Operation::LookUp)?;
        let dir = self.node(parent)?;
        self.enter(&dir, &self.present(&dir, name)?)
    }

    /// Gives a new item its owner and its mode, whatever the mask of this process is.
    fn finish_new(
        &self,
        dir: &Node,
        name: &OsStr,
        mode: Option<u32>,
        asker: Asker,
    ) -> io::Result<FileAttr> {
        let fd = item(&dir.fd, name)?;
        if asker.user != 0 {
            let inherits = dir.stat()?.stx_mode & 0o2000 != 0;
            let (user, group) =
                (rustix::fs::Uid::from_raw(asker.user), rustix::fs::Gid::from_raw(asker.group));
            let group = (!inherits).then_some(group);
            rustix::fs::chownat(&fd, c"", Some(user), group, AtFlags::EMPTY_PATH)?;
        }
        let attr = self.enter(dir, name)?;
        if let Some(mode) = mode {
            let node = self.node(attr.ino.0)?;
            std::fs::set_permissions(node.handle(), Permissions::from_mode(mode & 0o7777))?;
        }
        let stat = self.node(attr.ino.0)?.stat()?;
        Ok(self.shown(&stat, Some(attr.ino.0)))
    }

    fn make_dir(&self, parent: u64, name: &OsStr, mode: u32, asker: Asker) -> io::Result<FileAttr> {
        self.begin(Operation::MakeDir)?;
        let dir = self.node(parent)?;
        let name = self.for_new(&dir, name)?;
        rustix::fs::mkdirat(&dir.fd, &name, Mode::RWXU)?;
        // A folder inherits the set-group-id bit.
        let inherited = dir.stat()?.stx_mode & 0o2000;
        self.finish_new(&dir, &name, Some(mode | u32::from(inherited)), asker)
    }

    fn make_node(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        asker: Asker,
    ) -> io::Result<FileAttr> {
        self.begin(Operation::Create)?;
        let dir = self.node(parent)?;
        let name = self.for_new(&dir, name)?;
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        rustix::fs::mknodat(&dir.fd, &name, kind, Mode::RUSR | Mode::WUSR, 0)?;
        self.finish_new(&dir, &name, Some(mode), asker)
    }

    fn make_symlink(
        &self,
        parent: u64,
        name: &OsStr,
        target: &Path,
        asker: Asker,
    ) -> io::Result<FileAttr> {
        self.begin(Operation::Create)?;
        let dir = self.node(parent)?;
        let name = self.for_new(&dir, name)?;
        rustix::fs::symlinkat(target, &dir.fd, &name)?;
        self.finish_new(&dir, &name, None, asker)
    }

    fn link(&self, id: u64, parent: u64, name: &OsStr) -> io::Result<FileAttr> {
        self.begin(Operation::Link)?;
        if self.habits.no_links {
            return Err(Errno::PERM.into());
        }
        let (node, dir) = (self.node(id)?, self.node(parent)?);
        let name = self.for_new(&dir, name)?;
        if self.branch_has(&node.path()?) != self.on_branch(&dir, &name)? {
            return Err(Errno::XDEV.into());
        }
        rustix::fs::linkat(CWD, node.handle(), &dir.fd, &name, AtFlags::SYMLINK_FOLLOW)?;
        self.enter(&dir, &name)
    }

    fn remove(&self, parent: u64, name: &OsStr, flags: AtFlags) -> io::Result<()> {
        self.begin(Operation::Remove)?;
        let dir = self.node(parent)?;
        let name = self.present(&dir, name)?;
        let stat = stat_of(&dir.fd, &name)?;
        rustix::fs::unlinkat(&dir.fd, &name, flags)?;
        self.gone(&stat);
        Ok(())
    }

    /// An item has lost a name.
    fn gone(&self, stat: &Statx) {
        if is_dir(stat) || stat.stx_nlink == 1 {
            self.state().numbers.removed(Key::of(stat));
        }
    }

    fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> io::Result<()> {
        self.begin(Operation::Rename)?;
        let refused = match self.habits.renames {
            Renames::AllFlags => RenameFlags::empty(),
            Renames::NoExchange => RenameFlags::EXCHANGE,
            Renames::NoFlags => RenameFlags::all(),
        };
        if flags.intersects(refused) {
            return Err(Errno::INVAL.into());
        }
        let (from_dir, to_dir) = (self.node(from.0)?, self.node(to.0)?);
        let old = self.present(&from_dir, from.1)?;
        if self.on_branch(&from_dir, &old)? != self.on_branch(&to_dir, to.1)? {
            return Err(Errno::XDEV.into());
        }
        let moved = stat_of(&from_dir.fd, &old)?;
        let taken = self.habits.names.found(&to_dir.fd, to.1)?;
        let replaced = taken.as_ref().map(|taken| stat_of(&to_dir.fd, taken)).transpose()?;
        let new = match (taken, &replaced) {
            // What is replaced leaves its spelling; an item that gets another spelling does not.
            (Some(taken), Some(replaced)) if Key::of(replaced) != Key::of(&moved) => taken,
            _ => self.habits.names.stored(to.1)?,
        };
        rustix::fs::renameat_with(&from_dir.fd, &old, &to_dir.fd, &new, flags)?;
        if let Some(replaced) = replaced
            && !flags.contains(RenameFlags::EXCHANGE)
            && Key::of(&replaced) != Key::of(&moved)
        {
            self.gone(&replaced);
        }
        Ok(())
    }

    // ---- contents --------------------------------------------------------------------------------

    fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: i32,
        asker: Asker,
    ) -> io::Result<(FileAttr, u64)> {
        self.begin(Operation::Create)?;
        let dir = self.node(parent)?;
        let name = self.for_new(&dir, name)?;
        let is_new = self.habits.names.found(&dir.fd, &name)?.is_none();
        let flags = behind(flags) | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&dir.fd, &name, flags, Mode::RUSR | Mode::WUSR)?;
        let attr = self.finish_new(&dir, &name, is_new.then_some(mode), asker)?;
        let node = self.node(attr.ino.0)?;
        let handle = self.keep(file, &node)?;
        Ok((attr, handle))
    }

    fn open(&self, id: u64, flags: i32) -> io::Result<u64> {
        self.begin(Operation::Open)?;
        let node = self.node(id)?;
        // The path leads through a link of `/proc`.
        let flags = behind(flags) & !(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW);
        let file = rustix::fs::openat(CWD, node.handle(), flags, Mode::empty())?;
        self.keep(file, &node)
    }

    fn keep(&self, file: OwnedFd, node: &Node) -> io::Result<u64> {
        let path = node.path()?;
        let users = path.strip_prefix(&self.root).is_ok_and(|path| !path.starts_with(CONTROL));
        let mut state = self.state();
        let handle = state.next_handle;
        state.next_handle += 1;
        state.files.insert(handle, Opened { file: Arc::new(file.into()), users });
        Ok(handle)
    }

    fn opened(&self, handle: u64) -> io::Result<Opened> {
        self.state().files.get(&handle).cloned().ok_or(Errno::BADF.into())
    }

    fn opening(&self) -> FopenFlags {
        if self.habits.no_mmap { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() }
    }

    /// Reads for a thread of some process.
    fn read(&self, thread: u32, handle: u64, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        self.begin(Operation::Read)?;
        let opened = self.opened(handle)?;
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        while filled < data.len() {
            match opened.file.read_at(&mut data[filled..], offset + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        data.truncate(filled);
        if opened.users && !is_ours(thread) {
            self.state().bytes_read += filled as u64;
        }
        Ok(data)
    }

    fn write(&self, handle: u64, offset: u64, data: &[u8]) -> io::Result<u32> {
        self.begin(Operation::Write)?;
        self.opened(handle)?.file.write_all_at(data, offset)?;
        Ok(u32::try_from(data.len()).expect("no request is that long"))
    }

    /// What is in a folder, itself and the one above first.
    fn list(&self, id: u64) -> io::Result<Vec<Listed>> {
        self.begin(Operation::ReadDir)?;
        let dir = self.node(id)?;
        let folder =
            |name: &str| Listed { number: NO_NUMBER, kind: FileType::Directory, name: name.into() };
        let mut listed = vec![folder("."), folder("..")];
        for name in listing(dir.fd.as_fd())? {
            let Ok(stat) = stat_of(&dir.fd, &name) else { continue };
            let number = self.state().numbers.known(Key::of(&stat)).unwrap_or(NO_NUMBER);
            listed.push(Listed { number, kind: kind_of(u32::from(stat.stx_mode)), name });
        }
        Ok(listed)
    }
}

/// The flags with which to open the file behind: the kernel appends by itself, and reads for writers.
fn behind(flags: i32) -> OFlags {
    let flags = OFlags::from_bits_retain(flags.cast_unsigned()) | OFlags::CLOEXEC;
    flags & !(OFlags::APPEND | OFlags::DIRECT | OFlags::TRUNC)
}

fn kind_of(mode: u32) -> FileType {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::RegularFile,
    }
}

/// Whether it is one of this process, which looks at files to judge them. It waits for its answer.
fn is_ours(thread: u32) -> bool {
    Path::new(&format!("/proc/self/task/{thread}")).exists()
}

fn is_dir(stat: &Statx) -> bool {
    kind_of(u32::from(stat.stx_mode)) == FileType::Directory
}

// ---- the kernel's requests -----------------------------------------------------------------------

/// Passes requests on to the disk.
pub(crate) struct Server(pub(crate) Arc<Disk>);

/// Ends a request: with what was asked for, or with the error.
macro_rules! answer {
    ($reply:expr, $outcome:expr, $found:pat => $send:expr) => {
        match $outcome {
            Ok($found) => $send,
            Err(error) => $reply.error(fuser::Errno::from(error)),
        }
    };
}

impl fuser::Filesystem for Server {
    fn init(&mut self, _: &fuser::Request, config: &mut fuser::KernelConfig) -> io::Result<()> {
        // Small enough for one message of the relay.
        config.set_max_write(64 << 10).expect("within the limits");
        config.set_max_readahead(64 << 10).ok();
        Ok(())
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        answer!(reply, self.0.look_up(parent.0, name),
            attr => reply.entry(&AT_ONCE, &attr, Generation(0)));
    }

    fn forget(&self, _: &fuser::Request, ino: INodeNo, look_ups: u64) {
        self.0.state().nodes.forget(ino.0, look_ups);
    }

    fn getattr(
        &self,
        _: &fuser::Request,
        ino: INodeNo,
        _: Option<FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        answer!(reply, self.0.attributes(ino.0), attr => reply.attr(&AT_ONCE, &attr));
    }

    fn setattr(
        &self,
        _: &fuser::Request,
        ino: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        let wish = Wish { mode, user, group, size, accessed, modified };
        let outcome = self.0.set(ino.0, &wish, handle.map(|handle| handle.0));
        answer!(reply, outcome, attr => reply.attr(&AT_ONCE, &attr));
    }

    fn readlink(&self, _: &fuser::Request, ino: INodeNo, reply: fuser::ReplyData) {
        let target = self
            .0
            .node(ino.0)
            .and_then(|node| Ok(rustix::fs::readlinkat(&node.fd, c"", Vec::new())?));
        answer!(reply, target, target => reply.data(target.as_bytes()));
    }

    fn mknod(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: fuser::ReplyEntry,
    ) {
        answer!(reply, self.0.make_node(parent.0, name, mode, Asker::of(request)),
            attr => reply.entry(&AT_ONCE, &attr, Generation(0)));
    }

    fn mkdir(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: fuser::ReplyEntry,
    ) {
        answer!(reply, self.0.make_dir(parent.0, name, mode, Asker::of(request)),
            attr => reply.entry(&AT_ONCE, &attr, Generation(0)));
    }

    fn symlink(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: fuser::ReplyEntry,
    ) {
        answer!(reply, self.0.make_symlink(parent.0, name, target, Asker::of(request)),
            attr => reply.entry(&AT_ONCE, &attr, Generation(0)));
    }

    fn link(
        &self,
        _: &fuser::Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: fuser::ReplyEntry,
    ) {
        answer!(reply, self.0.link(ino.0, parent.0, name),
            attr => reply.entry(&AT_ONCE, &attr, Generation(0)));
    }

    fn unlink(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        reply: fuser::ReplyEmpty,
    ) {
        let outcome = self
            .0
            .may_kill(request.pid(), Operation::Remove)
            .and_then(|()| self.0.remove(parent.0, name, AtFlags::empty()));
        answer!(reply, outcome, () => reply.ok());
    }

    fn rmdir(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        answer!(reply, self.0.remove(parent.0, name, AtFlags::REMOVEDIR), () => reply.ok());
    }

    fn rename(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: fuser::RenameFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let flags = RenameFlags::from_bits_retain(flags.bits());
        let outcome = self
            .0
            .may_kill(request.pid(), Operation::Rename)
            .and_then(|()| self.0.rename((parent.0, name), (new_parent.0, new_name), flags));
        answer!(reply, outcome, () => reply.ok());
    }

    fn create(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: fuser::ReplyCreate,
    ) {
        answer!(reply, self.0.create(parent.0, name, mode, flags, Asker::of(request)),
        (attr, handle) => reply.created(
            &AT_ONCE, &attr, Generation(0), FileHandle(handle), self.0.opening(),
        ));
    }

    fn open(&self, _: &fuser::Request, ino: INodeNo, flags: OpenFlags, reply: fuser::ReplyOpen) {
        answer!(reply, self.0.open(ino.0, flags.0),
            handle => reply.opened(FileHandle(handle), self.0.opening()));
    }

    fn read(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        answer!(reply, self.0.read(request.pid(), handle.0, offset, size), data => reply.data(&data));
    }

    fn write(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: fuser::WriteFlags,
        _: OpenFlags,
        _: Option<fuser::LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        answer!(reply, self.0.write(handle.0, offset, data), size => reply.written(size));
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::LockOwner,
        reply: fuser::ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<fuser::LockOwner>,
        _: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.0.state().files.remove(&handle.0);
        reply.ok();
    }

    /// Nothing is written out: no test of habits cuts the power.
    fn fsync(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: bool,
        reply: fuser::ReplyEmpty,
    ) {
        answer!(reply, self.0.begin(Operation::Fsync), () => reply.ok());
    }

    fn opendir(&self, _: &fuser::Request, ino: INodeNo, _: OpenFlags, reply: fuser::ReplyOpen) {
        answer!(reply, self.0.node(ino.0), _ => {
            let mut state = self.0.state();
            let handle = state.next_handle;
            state.next_handle += 1;
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(
        &self,
        _: &fuser::Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectory,
    ) {
        // From its beginning it is read anew; later parts belong to that reading.
        if offset == 0 {
            match self.0.list(ino.0) {
                Ok(listed) => drop(self.0.state().folders.insert(handle.0, listed)),
                Err(error) => return reply.error(error.into()),
            }
        }
        let state = self.0.state();
        let listed = state.folders.get(&handle.0).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, item) in listed.iter().enumerate().skip(from) {
            if reply.add(INodeNo(item.number), at as u64 + 1, item.kind, &item.name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: fuser::ReplyEmpty,
    ) {
        self.0.state().folders.remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: bool,
        reply: fuser::ReplyEmpty,
    ) {
        answer!(reply, self.0.begin(Operation::Fsync), () => reply.ok());
    }

    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: fuser::ReplyStatfs) {
        let size = |size: u64| u32::try_from(size).unwrap_or(4096);
        let stat = self.0.node(ROOT).and_then(|root| Ok(rustix::fs::fstatvfs(&root.fd)?));
        answer!(reply, stat, stat => {
            let (files, free) = match self.0.habits.inodes {
                Inodes::Counted => (stat.f_files, stat.f_ffree),
                Inodes::NotCounted => (0, 0),
                Inodes::NoneFree => (stat.f_files.max(1000), 0),
            };
            let longest = self.0.habits.names.limit.unwrap_or_else(|| size(stat.f_namemax));
            reply.statfs(
                stat.f_blocks,
                stat.f_bfree,
                stat.f_bavail,
                files,
                free,
                size(stat.f_bsize),
                longest,
                size(stat.f_frsize),
            );
        });
    }

    fn setxattr(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: fuser::ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOTSUP);
    }

    fn getxattr(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        reply: fuser::ReplyXattr,
    ) {
        reply.error(fuser::Errno::ENOTSUP);
    }

    fn listxattr(&self, _: &fuser::Request, _: INodeNo, _: u32, reply: fuser::ReplyXattr) {
        reply.error(fuser::Errno::ENOTSUP);
    }
}
