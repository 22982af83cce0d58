//! The state of one path, and why: for `status PATH` and `explain PATH`.
//!
//! Compares what is on the disk now with what was last recorded; the remote is not asked.

use std::os::unix::fs::FileTypeExt as _;

use serde::Serialize;

use super::args::ExplainArgs;
use super::context::{Context, Pair, locate};
use super::last_run::LastRun;
use super::out::Out;
use crate::clock::Timestamp;
use crate::exit::{Exit, Failure};
use crate::local::ignore::Rules;
use crate::local::{FsErrorKind, LocalFs as _};
use crate::store::{ConflictFate, HeldState, Store};
use crate::text::{Paint, printable, size};
use crate::tree::path::{CONTROL_DIR, IGNORE_FILE};
use crate::tree::{Content, Entry, Facet, Kind, NodeId, Register, RelPath, Side, Trees};

/// Ignore files are a few lines; what is longer than this is not read for an explanation.
const IGNORE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PathState {
    Synced,
    PendingUpload,
    PendingDownload,
    Conflict,
    Held,
    Failed,
    Ignored,
    /// Cannot be synced as it is.
    Excluded,
    /// Neither here nor recorded.
    Unknown,
}

impl PathState {
    pub(super) fn word(self) -> &'static str {
        match self {
            PathState::Synced => "synced",
            PathState::PendingUpload => "pending-upload",
            PathState::PendingDownload => "pending-download",
            PathState::Conflict => "conflict",
            PathState::Held => "held",
            PathState::Failed => "failed",
            PathState::Ignored => "ignored",
            PathState::Excluded => "excluded",
            PathState::Unknown => "unknown",
        }
    }

    pub(super) fn paint(self) -> Paint {
        match self {
            PathState::Synced => Paint::Good,
            PathState::PendingUpload
            | PathState::PendingDownload
            | PathState::Conflict
            | PathState::Held => Paint::Notice,
            PathState::Failed | PathState::Unknown => Paint::Bad,
            PathState::Ignored | PathState::Excluded => Paint::Quiet,
        }
    }

    /// For `status --check PATH`.
    pub(super) fn exit(self) -> Exit {
        match self {
            PathState::Synced | PathState::Ignored => Exit::InSync,
            PathState::PendingUpload | PathState::PendingDownload | PathState::Failed => {
                Exit::SomeFailed
            }
            PathState::Conflict | PathState::Excluded => Exit::Remaining,
            PathState::Held => Exit::Held,
            PathState::Unknown => Exit::Usage,
        }
    }
}

/// What there is to say about one path.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pair: String,
    path: String,
    pub(super) state: PathState,
    /// Why, one sentence each; the first is the one that counts.
    reasons: Vec<String>,
    #[serde(skip)]
    facts: Vec<String>,
}

impl View {
    pub(super) fn headline(&self) -> String {
        let path = if self.path.is_empty() { "." } else { &self.path };
        match self.reasons.first() {
            Some(reason) => format!("{}  ({})", printable(path), printable(reason)),
            None => printable(path),
        }
    }
}

pub(super) fn explain(args: &ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = args.pair.pair.iter().cloned().collect();
    let pairs = context.pairs(&names, &args.pair.ad_hoc)?;
    let (pair, path) = locate(&pairs, &args.path)?;
    let view = super::runtime()?.block_on(view(&pair, &path))?;
    print(&context.out, &pair, &view);
    history(&context.out, &pair, &path)?;
    Ok(if view.state == PathState::Unknown { Exit::Usage } else { Exit::InSync })
}

fn print(out: &Out, pair: &Pair, view: &View) {
    let path = &view.path;
    let word = out.paint(view.state.paint(), view.state.word());
    out.line(format!("{} in {}: {word}", printable(path), pair.name()));
    view.reasons.iter().for_each(|reason| out.line(format!("  {}", printable(reason))));
    view.facts.iter().for_each(|fact| out.line(format!("  {}", printable(fact))));
}

fn history(out: &Out, pair: &Pair, path: &RelPath) -> Result<(), Failure> {
    let Some(store) = pair.records()? else { return Ok(()) };
    let whole = Some(path.as_str()).filter(|path| !path.is_empty());
    let rows = store.history(whole, Timestamp(0), 5).map_err(|error| pair.failed(&error))?;
    for row in rows.iter().rev() {
        let event = &row.event;
        let to = event.moved_to.as_ref().map(|to| format!(" → {}", printable(to)));
        out.line(format!(
            "  {}  {} {}{}: {}",
            row.at.rfc3339(),
            printable(&event.op),
            printable(&event.path),
            to.unwrap_or_default(),
            printable(event.error.as_ref().unwrap_or(&event.why))
        ));
    }
    Ok(())
}

/// Finds out what is to be said about a path.
pub(super) async fn view(pair: &Pair, path: &RelPath) -> Result<View, Failure> {
    let mut view = View {
        pair: pair.config.name.clone(),
        path: path.as_str().to_owned(),
        state: PathState::Unknown,
        reasons: Vec::new(),
        facts: Vec::new(),
    };
    if path.components().next() == Some(CONTROL_DIR) {
        view.state = PathState::Excluded;
        view.reasons.push("this folder belongs to foldsync and is never synced".to_owned());
        return Ok(view);
    }
    if path.is_root() {
        return Err(Failure::usage("that is the folder of the pair itself: see `foldsync status`"));
    }
    let disk = on_disk(pair, path).await?;
    let kind = match &disk {
        OnDisk::Entry(entry) => entry.kind,
        OnDisk::Nothing | OnDisk::Special(_) => Kind::File,
    };
    if let Some(reason) = ignored(pair, path, kind) {
        view.state = PathState::Ignored;
        view.reasons.push(reason);
        return Ok(view);
    }
    let (store, trees) = Store::open_copy(&pair.state_db).map_err(|error| pair.failed(&error))?;
    let edited = is_edited(pair, &trees, path, &disk).await?;
    compare(&trees, path, &disk, edited, &mut view);
    recorded(pair, &store, path, &mut view)?;
    Ok(view)
}

enum OnDisk {
    Nothing,
    Entry(Entry),
    /// Something that is no file or folder.
    Special(&'static str),
}

async fn on_disk(pair: &Pair, path: &RelPath) -> Result<OnDisk, Failure> {
    let disk = pair.open_local()?;
    match disk.stat(path).await {
        Ok(Some(entry)) => Ok(OnDisk::Entry(entry)),
        Ok(None) => Ok(OnDisk::Nothing),
        Err(error) if error.kind == FsErrorKind::Denied => {
            let found = std::fs::symlink_metadata(pair.config.local.join(path.as_str()));
            let word = match found.map(|found| found.file_type()) {
                Ok(kind) if kind.is_symlink() => "a symbolic link",
                Ok(kind) if kind.is_fifo() || kind.is_socket() => "a pipe or socket",
                Ok(kind) if kind.is_block_device() || kind.is_char_device() => "a device",
                Ok(_) | Err(_) => "not readable, or below a symbolic link",
            };
            Ok(OnDisk::Special(word))
        }
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(OnDisk::Nothing),
        Err(error) => Err(pair.failed(&error)),
    }
}

/// The line of the rule because of which a path is not synced.
fn ignored(pair: &Pair, path: &RelPath, kind: Kind) -> Option<String> {
    let mut rules = Rules::new(&pair.config.ignore);
    let mut dir = path.parent();
    while let Some(above) = dir {
        let file = pair.config.local.join(above.as_str()).join(IGNORE_FILE);
        let small = std::fs::symlink_metadata(&file)
            .is_ok_and(|found| found.is_file() && found.len() <= IGNORE_BYTES_MAX);
        if let Some(text) = small.then(|| std::fs::read(&file).ok()).flatten() {
            rules.set_folder(&above, &String::from_utf8_lossy(&text));
        }
        dir = above.parent();
    }
    let found = rules.is_ignored(path, kind)?;
    let mut reason = format!("ignored by {}:{} \"{}\"", found.source, found.line, found.pattern);
    if found.at != *path {
        reason += &format!(", which matches the folder {}", found.at);
    }
    Some(reason)
}

/// Whether a file is another one than at the last sync. Another time alone proves nothing: then its
/// bytes are compared.
async fn is_edited(
    pair: &Pair,
    trees: &Trees,
    path: &RelPath,
    disk: &OnDisk,
) -> Result<bool, Failure> {
    let node = trees.resolve(Side::Local, path);
    let facet = node.and_then(|node| trees.facet(Side::Local, node));
    let (OnDisk::Entry(entry), Some(facet)) = (disk, facet) else { return Ok(false) };
    if entry.kind == Kind::Dir || entry.stamp() == facet.stamp() {
        return Ok(false);
    }
    match facet.content().digest() {
        Some(known) if known.size == entry.size => {
            let root = pair.open_local()?;
            let read = root.hash(path, &entry.stamp(), known.hash.algo()).await;
            read.map(|hash| hash != known.hash).map_err(|error| pair.failed(&error))
        }
        Some(_) | None => Ok(true),
    }
}

fn compare(trees: &Trees, path: &RelPath, disk: &OnDisk, edited: bool, view: &mut View) {
    let node = if path.is_root() {
        Some(NodeId::ROOT)
    } else {
        trees.resolve(Side::Local, path).or_else(|| trees.resolve(Side::Remote, path))
    };
    let mut say = |state, reason: &str| {
        view.state = state;
        view.reasons.push(reason.to_owned());
    };
    let Some(node) = node else {
        return match disk {
            OnDisk::Entry(_) => say(PathState::PendingUpload, "new here since the last sync"),
            OnDisk::Special(word) => {
                let reason = format!("{word}: foldsync syncs files and folders only");
                say(PathState::Excluded, &reason);
            }
            OnDisk::Nothing => say(PathState::Unknown, "neither here nor known from the last sync"),
        };
    };
    if node == NodeId::ROOT {
        return say(PathState::Synced, "the root of the pair");
    }
    let (local, remote) = (trees.facet(Side::Local, node), trees.facet(Side::Remote, node));
    let base = trees.base(node);
    match (disk, local) {
        (OnDisk::Special(word), _) => {
            let reason = format!("now {word}: foldsync syncs files and folders only");
            say(PathState::Excluded, &reason);
        }
        (OnDisk::Nothing, Some(_)) => {
            say(PathState::PendingUpload, "deleted here since the last sync");
        }
        (OnDisk::Entry(_), Some(_)) if edited => {
            say(PathState::PendingUpload, "changed here since the last sync");
        }
        (OnDisk::Entry(_), None) => {
            say(PathState::PendingUpload, "here, but not yet looked at by a sync");
        }
        (OnDisk::Entry(_), Some(_)) | (OnDisk::Nothing, None) => {
            match (agrees(base, local), agrees(base, remote)) {
                (true, true) => say(PathState::Synced, "the same on both sides at the last sync"),
                (false, _) => say(PathState::PendingUpload, "not yet sent"),
                (true, false) => say(PathState::PendingDownload, "not yet fetched"),
            }
        }
    }
    view.facts
        .push(format!("agreed: {}", base.map_or("never".to_owned(), |b| content(&b.content))));
    for (side, facet) in [("local", local), ("remote", remote)] {
        let words = facet.map_or("nothing".to_owned(), |facet| content(facet.content()));
        view.facts.push(format!("{side}, as last seen: {words}"));
    }
}

fn agrees(base: Option<&Register>, facet: Option<&Facet>) -> bool {
    match (base, facet) {
        (None, None) => true,
        (Some(base), Some(facet)) => *base == *facet.register,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Dir => "a folder".to_owned(),
        Content::Unread { size: bytes } => format!("{}, not read since it changed", size(*bytes)),
        Content::Is(digest) => {
            let hex = digest.hash.hex();
            format!(
                "{}, {:?} {}…",
                size(digest.size),
                digest.hash.algo(),
                &hex[..hex.len().min(12)]
            )
        }
    }
}

/// What the last runs recorded about the path; more telling than a comparison.
fn recorded(pair: &Pair, store: &Store, path: &RelPath, view: &mut View) -> Result<(), Failure> {
    let failed = |error: crate::store::StoreError| pair.failed(&error);
    let path = path.as_str();
    let mut say = |state, reason: String| {
        view.state = state;
        view.reasons.insert(0, reason);
    };
    let last = LastRun::read(store).and_then(|last| last.summary).unwrap_or_default();
    let mut skipped = last.skipped.into_iter().chain(last.notes);
    if let Some(item) = skipped.find(|item| item.path == path) {
        say(PathState::Excluded, item.reason);
    }
    for conflict in store.conflicts(ConflictFate::Open).map_err(failed)? {
        if conflict.path == path || conflict.copy_path == path {
            let other = if conflict.path == path { &conflict.copy_path } else { &conflict.path };
            let reason = format!("conflict #{}: the other version is {other}", conflict.id);
            say(PathState::Conflict, reason);
        }
    }
    for row in store.failures().map_err(failed)?.into_iter().filter(|row| row.path == path) {
        let retry = match row.retry_at {
            Some(at) => format!("next try {}", at.rfc3339()),
            None => "tried again by the next run".to_owned(),
        };
        say(PathState::Failed, format!("{} failed: {}; {retry}", row.kind, row.message));
    }
    for row in store.held(&[HeldState::Pending]).map_err(failed)? {
        if row.paths.iter().any(|held| held == path) {
            let reason = format!("its deletion on the {} side is held: #{}", row.side, row.id);
            say(PathState::Held, reason);
        }
    }
    Ok(())
}
