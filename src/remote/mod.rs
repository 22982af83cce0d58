//! The clouds, behind one trait: what a provider can do, and the calls that the executor makes.
//!
//! A provider is one folder here and touches nothing else. Adapters keep no path cache and take no
//! decisions: they map the engine's verbs to a service and its answers to `RemoteError`.

pub mod auth;
pub mod dir;
pub mod disktop;
pub mod http;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::local::Listing;
use crate::local::facts::DiskFacts;
use crate::tree::{Digest, Entry, HashAlgo, ItemId, Kind, Name, RelPath, Rev, Stamp};

pub use crate::tree::names::{AsciiSet, CaseRule, FormRule, Known, NameRules};

// ---- errors ------------------------------------------------------------------------------------

/// What happened, as far as somebody decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    /// What is there is not what the caller expected.
    Changed,
    /// The login is missing, expired or revoked, and could not be renewed.
    AuthExpired,
    Forbidden,
    QuotaFull,
    RateLimited,
    InvalidName,
    TooLarge,
    Unsupported,
    /// The bytes are not the ones that were announced.
    Corrupt,
    /// The service answered something that its document does not allow.
    Protocol,
    /// The network or the service is not there; worth another try.
    Unavailable,
    /// The root of the pair is gone or is another one: a person must look.
    RootLost,
}

/// Whether the request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    None,
    /// The reply was lost: look before anything else.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct RemoteError {
    pub kind: ErrorKind,
    pub effect: Effect,
    pub retry_after: Option<Duration>,
    /// What was attempted, on what, and the service's words; free of secrets.
    pub context: String,
}

impl RemoteError {
    /// An error after which nothing has changed on the remote.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> RemoteError {
        RemoteError { kind, effect: Effect::None, retry_after: None, context: context.into() }
    }

    /// The request may or may not have taken effect.
    pub fn unknown(kind: ErrorKind, context: impl Into<String>) -> RemoteError {
        RemoteError { effect: Effect::Unknown, ..RemoteError::new(kind, context) }
    }

    pub fn after(mut self, wait: Duration) -> RemoteError {
        self.retry_after = Some(wait);
        self
    }
}

pub type Result<T> = std::result::Result<T, RemoteError>;

// ---- capabilities ------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    Folders,
    /// No folders: paths are encoded into names.
    Flat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdLife {
    SurvivesMove,
    ChangesOnMove,
    /// Derived by us from what the service shows.
    Synthetic,
}

/// What an upload does to an existing item of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameName {
    Replaces,
    AutoRenames,
    Rejects,
    Duplicates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteKind {
    RecycleBin,
    Permanent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveSupport {
    /// Parent and name change in one call.
    Atomic,
    /// One call for the parent, one for the name.
    TwoStep,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStyle {
    SingleShot,
    /// Byte ranges; `resume` tells whether a later process may continue.
    Ranges {
        resume: bool,
    },
}

/// The facts about a service that the executor chooses its way by. The planner knows only `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub namespace: Namespace,
    pub id_life: Known<IdLife>,
    pub same_name: Known<SameName>,
    pub delete: Known<DeleteKind>,
    pub moves: MoveSupport,
    /// The hash in listings.
    pub content_hash: Option<HashAlgo>,
    /// The hash by which the service recognises content that it already has.
    pub instant_upload: Option<HashAlgo>,
    pub upload: UploadStyle,
    pub max_file_size: Option<u64>,
    /// Whether one item can be looked up by its id (by its path, for a plain directory).
    pub stat: bool,
    pub ranged_download: bool,
    pub names: NameRules,
}

impl Capabilities {
    /// New versions get their places by a swap of names, so that items under names of foldsync's own
    /// may be on their way there.
    pub fn swaps_names(&self) -> bool {
        self.same_name != Known::Is(SameName::Replaces)
    }

    /// The algorithm that a pair with this remote knows content by.
    pub fn pair_hash(&self) -> HashAlgo {
        self.content_hash.or(self.instant_upload).unwrap_or(HashAlgo::Sha256)
    }
}

// ---- the calls ---------------------------------------------------------------------------------

/// Everything that an adapter might address an item by; it uses what its service takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// `None` for the root of the pair.
    pub id: Option<ItemId>,
    pub path: RelPath,
    /// `None` for the root itself and for items directly in it.
    pub parent_id: Option<ItemId>,
    pub kind: Kind,
}

impl Locator {
    pub fn root() -> Locator {
        Locator { id: None, path: RelPath::root(), parent_id: None, kind: Kind::Dir }
    }
}

/// Identity of the account and of the root in it: another account must not look like a mass deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub key: String,
}

/// Where the next page starts; opaque to everyone but the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCursor(pub String);

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub listing: Listing,
    /// `None`: the folder is complete.
    pub next: Option<PageCursor>,
}

/// A new file, or a new version of one.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    /// Unique for each operation of a state database.
    pub key: u64,
    pub parent: Locator,
    /// The file gets exactly this name.
    pub name: Name,
    pub content: Digest,
    /// Modification time of the source, as `file_time` packs it.
    pub modified: Option<i64>,
    /// The version to replace in place, only asked of a service that does that
    /// (`SameName::Replaces`). The caller has looked that it still is there; an adapter checks it
    /// once more only where that is one step with the replacement. `None`: nothing may be there.
    pub over: Option<(Locator, Stamp)>,
}

/// An upload under way, as it is kept over a restart.
#[derive(Clone, Debug)]
pub struct UploadSession {
    pub request: UploadRequest,
    /// The adapter's own text: ids, endpoints, sizes. Free of account secrets.
    pub token: String,
    /// Seconds since the epoch, where the service ends sessions.
    pub expires_s: Option<i64>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once for each upload, and moved at once")]
pub enum UploadStart {
    /// The service already had the bytes: no byte is sent.
    Instant(Option<Entry>),
    Session(UploadSession),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub from: u64,
    /// In bytes.
    pub len: u64,
}

/// What the service still wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    pub ranges: Vec<ByteRange>,
    /// Whether several ranges may be sent at once and in any order.
    pub parallel: bool,
}

/// The bytes of one range, in order.
pub type Body = BoxStream<'static, std::io::Result<Bytes>>;

/// A download under way.
pub struct Download {
    pub bytes: BoxStream<'static, Result<Bytes>>,
    /// What the service says it is sending, where it says so: checked against the plan.
    pub rev: Option<Rev>,
}

/// Room on the remote, in bytes, as far as the service tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub used: Option<u64>,
    pub total: Option<u64>,
}

/// One root folder at a service.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;
    /// `NotFound` if the root has no identity yet: `claim` gives it one.
    async fn account(&self) -> Result<Account>;
    /// Makes the remote the root of a new pair: gives it an identity and makes its folder, where they
    /// are missing. Never called for a pair that was synced before.
    async fn claim(&self, _identity: &str) -> Result<()> {
        Ok(())
    }
    /// Measures what the disk of a plain folder is like, see `LocalFs::measure`; `None` for a service.
    async fn measure(&self, _known: Option<DiskFacts>, _writes: bool) -> Result<Option<DiskFacts>> {
        Ok(None)
    }
    /// What `LocalFs::refresh_control` is for a remote that has a control folder.
    async fn refresh_control(&self) {}
    /// Whether another pair has this root as its local one: conflicts are decided at both ends.
    /// Listings of the root say so too.
    async fn is_local_root(&self) -> bool {
        false
    }
    /// One page, in the most stable order that the service offers.
    async fn list(&self, dir: &Locator, cursor: Option<PageCursor>) -> Result<Page>;
    /// Looks one item up: `None` only if it is surely gone. Its entry may have another name: the
    /// item was moved.
    async fn stat(&self, target: &Locator) -> Result<Option<Entry>>;
    /// Succeeds, with the existing entry, if the folder is already there.
    async fn create_dir(&self, parent: &Locator, name: &Name) -> Result<Entry>;

    async fn begin_upload(&self, request: &UploadRequest) -> Result<UploadStart>;
    /// A single-shot service wants one range.
    async fn outstanding(&self, session: &UploadSession) -> Result<Outstanding>;
    async fn upload_range(
        &self,
        session: &UploadSession,
        range: ByteRange,
        body: Body,
    ) -> Result<()>;
    /// Makes the upload visible. `None` when the service does not say what it created: the caller
    /// then looks for it.
    async fn finish_upload(&self, session: &UploadSession) -> Result<Option<Entry>>;
    async fn abort_upload(&self, session: &UploadSession) -> Result<()>;

    /// Clears what uploads of killed processes have left in places that only the adapter knows. What
    /// they had displaced is kept in the remote's trash. Nothing there is success.
    async fn clear_stage(&self) -> Result<()> {
        Ok(())
    }

    async fn download(&self, target: &Locator, expected: &Stamp, from: u64) -> Result<Download>;
    /// Changes parent, name, or (where `moves` is `Atomic`) both. Never replaces.
    async fn relocate(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry>;
    /// Succeeds if the item is already gone; `Changed` if it is not the expected version. A folder
    /// must be empty.
    async fn delete(&self, target: &Locator, expected: &Stamp) -> Result<()>;

    /// Moves a folder out of the tree with all that is in it; moved back (`Changed`) if it holds anything
    /// but items of these names. Says where it is; `None` if nothing was there. `Changed` where this
    /// cannot be done: the folder stays then.
    async fn set_rest_aside(
        &self,
        target: &Locator,
        _expected: &Stamp,
        _rest: &BTreeSet<String>,
    ) -> Result<Option<String>> {
        let context = format!("{} holds what is not synced", target.path);
        Err(RemoteError::new(ErrorKind::Changed, context))
    }

    /// Folders of the pair in which something has changed just now, as far as the service tells
    /// without being asked for each folder. A hint only makes a look come sooner: nothing relies on
    /// its being complete, or true. The stream lives as long as the pair is watched.
    fn hints(&self) -> BoxStream<'static, Vec<RelPath>> {
        Box::pin(futures_util::stream::pending())
    }

    /// Requests sent so far.
    fn requests(&self) -> u64 {
        0
    }

    /// How far the service's clock is ahead of ours, in seconds, once it has told.
    fn clock_skew_s(&self) -> Option<i64> {
        None
    }

    async fn quota(&self) -> Result<Quota> {
        Err(RemoteError::new(ErrorKind::Unsupported, "this remote does not tell its quota"))
    }

    /// A link by which others can fetch the item.
    async fn share(&self, _target: &Locator) -> Result<String> {
        Err(RemoteError::new(ErrorKind::Unsupported, "this remote cannot make share links"))
    }
}

/// All pages of a folder, in the order of the names, or an error: half a listing says nothing.
pub async fn list_all(remote: &dyn Remote, dir: &Locator) -> Result<Listing> {
    /// More pages than any real folder has: the service repeats itself.
    const PAGES_MAX: usize = 100_000;
    let mut all = Listing::default();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let page = remote.list(dir, cursor).await?;
        all.entries.extend(page.listing.entries);
        all.skipped.extend(page.listing.skipped);
        all.is_local_root |= page.listing.is_local_root;
        if page.next.is_none() {
            all.entries.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(all);
        }
        cursor = page.next;
    }
    let context = format!("{}: the listing does not end", dir.path);
    Err(RemoteError::new(ErrorKind::Protocol, context))
}
