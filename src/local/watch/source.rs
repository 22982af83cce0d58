//! Where raw events come from: the kernel through `notify`, or a test.
//!
//! Events are turned into hints and queued without ever waiting: what does not fit is lost, and that
//! is said.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use notify::event::{
    AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind, RemoveKind, RenameMode,
};
use notify::{ErrorKind, RecursiveMode, Watcher as _};

use super::{Message, Shared};
use crate::tree::Kind;

/// What an event says, as far as anybody may believe it. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The item may have new content. The kind is what the event claims, if it does.
    Touched(PathBuf, Option<Kind>),
    /// Owner, mode or times of the item may be new: it may have become readable.
    Marked(PathBuf),
    /// A folder was made here. One that is watched already needs no new watch.
    FolderMade(PathBuf),
    /// Something came, went or took another's place; a watch on it may be void.
    Replaced(PathBuf),
    /// Events were lost.
    Lost,
    /// The source reports an error of its own and may be deaf.
    Broken(String),
}

/// Why a folder cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("the system allows no more watches")]
    WatchLimit,
    #[error("the system allows no more watchers for this user")]
    InstanceLimit,
    #[error("the folder is not there")]
    Gone,
    #[error("the folder may not be read")]
    Denied,
    #[error("{0}")]
    Other(String),
}

/// A source of events about single folders, never about what is below their subfolders.
pub trait Source: Send {
    /// Watching a folder that is watched already refreshes its watch.
    fn watch(&mut self, folder: &Path) -> Result<(), WatchError>;
    /// A folder that is not watched is fine.
    fn unwatch(&mut self, folder: &Path);
}

/// Makes a source that reports to the given sink. Called again when a source has died.
pub type MakeSource = Box<dyn FnMut(EventSink) -> Result<Box<dyn Source>, WatchError> + Send>;

/// Takes hints, never waits. A source owns it for as long as it lives: dropping it says that the
/// source is dead.
pub struct EventSink {
    pub(super) shared: Arc<Shared>,
    pub(super) generation: u64,
}

impl EventSink {
    pub fn send(&self, hint: Hint) {
        if !self.is_wanted() {
            return;
        }
        self.shared.events.fetch_add(1, Ordering::Relaxed);
        let message = Message::Hint(self.generation, hint);
        if self.shared.queue.try_send(message).is_err() {
            self.shared.lost.store(true, Ordering::Release);
        }
    }

    /// Whether anybody still listens to this source.
    pub fn is_wanted(&self) -> bool {
        self.shared.generation.load(Ordering::Acquire) == self.generation
    }
}

impl Drop for EventSink {
    fn drop(&mut self) {
        if self.is_wanted() {
            self.shared.dead.store(true, Ordering::Release);
            // A full queue wakes the reader by itself.
            let _ = self.shared.queue.try_send(Message::Died);
        }
    }
}

/// The kernel's events.
pub fn kernel() -> MakeSource {
    Box::new(|sink| {
        let handler = move |event: notify::Result<Event>| {
            if event.is_err() && !sink.is_wanted() {
                // Nobody listens any more, and notify tries a broken descriptor for ever: this is
                // the only way to end its thread. No panic hook runs.
                std::panic::resume_unwind(Box::new("the watcher was replaced"));
            }
            hints(event).into_iter().for_each(|hint| sink.send(hint));
        };
        let watcher = notify::recommended_watcher(handler).map_err(|error| refusal(&error))?;
        Ok(Box::new(Kernel(watcher)))
    })
}

struct Kernel(notify::RecommendedWatcher);

impl Source for Kernel {
    fn watch(&mut self, folder: &Path) -> Result<(), WatchError> {
        self.0.watch(folder, RecursiveMode::NonRecursive).map_err(|error| refusal(&error))
    }

    fn unwatch(&mut self, folder: &Path) {
        // It may have ended its watch by itself, when the folder went.
        let _ = self.0.unwatch(folder);
    }
}

fn refusal(error: &notify::Error) -> WatchError {
    match &error.kind {
        ErrorKind::MaxFilesWatch => WatchError::WatchLimit,
        ErrorKind::PathNotFound => WatchError::Gone,
        ErrorKind::Io(io) if is_too_many_files(io) => WatchError::InstanceLimit,
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::NotFound => WatchError::Gone,
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            WatchError::Denied
        }
        ErrorKind::Io(io) => WatchError::Other(io.to_string()),
        ErrorKind::Generic(_) | ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => {
            WatchError::Other(error.to_string())
        }
    }
}

fn is_too_many_files(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// What one raw event says.
pub fn hints(event: notify::Result<Event>) -> Vec<Hint> {
    let event = match event {
        Ok(event) => event,
        Err(error) => return vec![Hint::Broken(error.to_string())],
    };
    if event.need_rescan() {
        return vec![Hint::Lost];
    }
    let hint: fn(PathBuf) -> Hint = match event.kind {
        EventKind::Create(CreateKind::Folder) => Hint::FolderMade,
        // Hashing a file opens, reads and closes it: none of that is news.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => touched_file,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Create(CreateKind::File)
        | EventKind::Modify(ModifyKind::Data(_))
        | EventKind::Remove(RemoveKind::File) => touched_file,
        EventKind::Modify(ModifyKind::Metadata(_)) => Hint::Marked,
        // Both names came before, each in an event of its own.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Vec::new(),
        EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Create(CreateKind::Any | CreateKind::Other)
        | EventKind::Remove(RemoveKind::Any | RemoveKind::Other | RemoveKind::Folder)
        | EventKind::Modify(ModifyKind::Any | ModifyKind::Other)
        | EventKind::Any
        | EventKind::Other => Hint::Replaced,
    };
    event.paths.into_iter().map(hint).collect()
}

fn touched_file(path: PathBuf) -> Hint {
    Hint::Touched(path, Some(Kind::File))
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag};

    use super::*;

    fn told(kind: EventKind) -> Vec<Hint> {
        hints(Ok(Event::new(kind).add_path(PathBuf::from("/r/x"))))
    }

    #[test]
    fn reading_a_file_is_no_news() {
        let reads = [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Open(AccessMode::Read),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
            AccessKind::Any,
        ];
        for kind in reads {
            assert_eq!(told(EventKind::Access(kind)), [], "{kind:?}");
        }
    }

    // FK-20: a writer through a memory map is seen when it closes the file.
    #[test]
    fn a_file_that_was_open_for_writing_and_is_closed_may_be_new() {
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(told(closed), [touched_file("/r/x".into())]);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert_eq!(told(written), [touched_file("/r/x".into())]);
    }

    // WA-01: notify's overflow event carries no path.
    #[test]
    fn a_rescan_flag_means_that_events_were_lost_with_or_without_a_path() {
        let bare = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(hints(Ok(bare.clone())), [Hint::Lost]);
        assert_eq!(hints(Ok(bare.add_path("/r".into()))), [Hint::Lost]);
    }

    // WA-08: half a rename is enough.
    #[test]
    fn each_name_of_a_rename_is_a_place_to_look_on_its_own() {
        for half in [RenameMode::From, RenameMode::To, RenameMode::Any] {
            let told = told(EventKind::Modify(ModifyKind::Name(half)));
            assert_eq!(told, [Hint::Replaced("/r/x".into())], "{half:?}");
        }
    }
}
