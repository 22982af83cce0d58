//! Disk.Top (拓扑云盘): its documented calls as the engine's verbs.
//!
//! Files are acted upon by id, folders listed by path. What the document does not say is declared
//! unknown, and done in the way that is safe whatever the answer turns out to be.

pub mod api;
pub mod connect;
pub mod leftovers;
mod listing;
pub mod measure;
mod place;
mod sightings;
mod upload;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::auth::{Credentials, Granted, Login, OAuthApp, Renewal};
use super::http::{Fetch, Http, SignedUrl};
use super::{
    Account, AsciiSet, Body, ByteRange, Capabilities, CaseRule, DeleteKind, Download, ErrorKind,
    FormRule, IdLife, Known, Locator, MoveSupport, NameRules, Namespace, Outstanding, Page,
    PageCursor, Quota, Remote, RemoteError, Result, SameName, UploadRequest, UploadSession,
    UploadStart, UploadStyle,
};
use crate::tree::{ContentHash, Entry, HashAlgo, Kind, Name, RelPath, Stamp};

use api::{Api, Change, Target};
use listing::{Folder, Id, folder_entry, read_folder, rev_of};
use sightings::{Sightings, Verdict};

/// Where the service is.
pub const BASE_URL: &str = "https://openapi.disk.top";
/// Domains of the service: its API, its upload hosts, its download hosts.
pub const DOMAINS: &[&str] = &["disk.top", "disk-api.com"];

/// What somebody found out about an account by trying. Unknown until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub same_name: Known<SameName>,
    pub id_life: Known<IdLife>,
    pub delete: Known<DeleteKind>,
    pub case: Known<CaseRule>,
    pub forms: Known<FormRule>,
    pub spelling: Known<Spelling>,
    pub ranged_download: Known<bool>,
}

/// Which names are taken as they are. Whoever measured it saw the longest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelling {
    pub bytes_max: usize,
    pub chars_max: usize,
    pub forbidden: AsciiSet,
    pub trailing_dot_or_space: bool,
}

impl Spelling {
    /// Not documented: without what no service takes well. The rest is tried by each upload.
    const USUAL: Spelling = Spelling {
        bytes_max: 255,
        chars_max: 255,
        forbidden: AsciiSet::CONTROLS.with('\\'),
        trailing_dot_or_space: true,
    };
}

impl Measured {
    pub const NOTHING: Measured = Measured {
        same_name: Known::Unknown,
        id_life: Known::Unknown,
        delete: Known::Unknown,
        case: Known::Unknown,
        forms: Known::Unknown,
        spelling: Known::Unknown,
        ranged_download: Known::Unknown,
    };
}

/// The facts, as far as the document states them.
pub fn capabilities(measured: Measured) -> Capabilities {
    let spelling = match measured.spelling {
        Known::Is(spelling) => spelling,
        Known::Unknown => Spelling::USUAL,
    };
    Capabilities {
        namespace: Namespace::Folders,
        id_life: measured.id_life,
        same_name: measured.same_name,
        delete: measured.delete,
        moves: MoveSupport::TwoStep,
        content_hash: Some(HashAlgo::Md5),
        instant_upload: Some(HashAlgo::Md5),
        upload: UploadStyle::Ranges { resume: true },
        max_file_size: None,
        stat: true,
        // The document states it.
        ranged_download: measured.ranged_download != Known::Is(false),
        names: NameRules {
            bytes_max: spelling.bytes_max,
            chars_max: spelling.chars_max,
            forbidden: spelling.forbidden,
            trailing_dot_or_space: spelling.trailing_dot_or_space,
            case: measured.case,
            // The adapter itself refuses the second of two forms.
            forms: Known::Unknown,
        },
    }
}

/// Trades refresh tokens (section 2.3); each works once.
pub struct OAuthRenewal {
    pub http: Http,
    pub app: OAuthApp,
}

#[async_trait]
impl Renewal for OAuthRenewal {
    async fn renew(&self, old: &Credentials) -> Result<Granted> {
        let Some(refresh_token) = &old.refresh_token else {
            return Err(RemoteError::new(
                ErrorKind::AuthExpired,
                "the token is no longer accepted",
            ));
        };
        let mut app = self.app.clone();
        app.client_secret = old.client_secret.clone().or(app.client_secret);
        app.refresh(&self.http, refresh_token).await
    }
}

/// One folder of one account's sandbox.
pub struct DiskTop {
    api: Api,
    /// From the root of the sandbox.
    root: RelPath,
    capabilities: Capabilities,
    /// Uploads of this process that nobody has asked about: no part of them can have arrived.
    fresh: Mutex<HashSet<String>>,
    /// Which names folders had lately: a new file must not take one of them.
    sightings: Mutex<Sightings>,
    /// What the service puts before the paths that requests use, once an answer has shown it.
    prefix: Mutex<Option<String>>,
}

impl DiskTop {
    pub fn new(http: Http, login: Login, root: RelPath, measured: Measured) -> DiskTop {
        DiskTop {
            api: Api::new(http, login),
            root,
            capabilities: capabilities(measured),
            fresh: Mutex::default(),
            sightings: Mutex::new(Sightings::new(measured.case, measured.forms)),
            prefix: Mutex::default(),
        }
    }

    /// Makes the root folder, and those above it, where they are missing. Only for a pair that has
    /// never been synced: a root that is gone later must not be made anew.
    pub async fn create_root(&self) -> Result<()> {
        let mut parent = RelPath::root();
        for component in self.root.components() {
            let name = Name::new(component)
                .map_err(|error| RemoteError::new(ErrorKind::InvalidName, error.to_string()))?;
            self.ensure_folder(&parent, &name).await?;
            parent = parent.join(&name);
        }
        Ok(())
    }

    fn path_of(&self, path: &RelPath) -> String {
        sandbox_path(&self.below_root(path))
    }

    /// From the root of the sandbox instead of the root of the pair.
    fn below_root(&self, path: &RelPath) -> RelPath {
        let names = path.components().filter_map(|component| Name::new(component).ok());
        names.fold(self.root.clone(), |path, name| path.join(&name))
    }

    fn now_s(&self) -> i64 {
        self.api.http().clock().now().seconds()
    }

    /// The folder that holds the item.
    async fn read_parent(&self, path: &RelPath) -> Result<Folder> {
        let parent = path.parent().unwrap_or_default();
        self.read(&parent).await
    }

    /// `RootLost` instead of `NotFound` where the root itself is what is gone.
    async fn read(&self, path: &RelPath) -> Result<Folder> {
        let began_s = self.now_s();
        let folder = read_folder(&self.api, &self.path_of(path)).await;
        if let Ok(folder) = &folder {
            let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
            sightings.note(path, folder.names(None), began_s);
        }
        match folder {
            Err(error) if path.is_root() && error.kind == ErrorKind::NotFound => {
                Err(RemoteError { kind: ErrorKind::RootLost, ..error })
            }
            // Some services list what is not there as empty: an emptied root is worth a second look.
            Ok(folder) if path.is_root() && folder.is_empty() => {
                self.root_id().await?;
                Ok(folder)
            }
            other => other,
        }
    }

    /// Refuses a name that is taken in a folder, or that the service may take for a taken one.
    fn expect_room(&self, folder: &Folder, at: &RelPath, except: Option<Id>) -> Result<()> {
        let Some((_, name)) = at.split_last() else { return Ok(()) };
        let sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        refuse_taken(sightings.judge(&folder.names(except), &name), at)
    }

    /// Remembers that we have just put something there.
    fn note_own(&self, parent: &RelPath, name: &Name) {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner).add(parent, name);
    }

    /// Remembers that we have just taken something away.
    fn note_gone(&self, parent: &RelPath, name: &Name) {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner).remove(parent, name);
    }

    /// The id of the root folder; `None` for the sandbox's own root, which has none.
    async fn root_id(&self) -> Result<Option<Id>> {
        let Some((parent, name)) = self.root.split_last() else { return Ok(None) };
        let lost = || {
            let context = format!("the folder /{} is not there", self.root);
            RemoteError::new(ErrorKind::RootLost, context)
        };
        let above = match read_folder(&self.api, &sandbox_path(&parent)).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Err(lost()),
            other => other?,
        };
        let entry = above.entries().find(|e| e.kind == Kind::Dir && e.name == name);
        entry.and_then(|entry| Id::of(&entry.item)).map(Some).ok_or_else(lost)
    }

    /// A file by its id, with its absolute path; `None` if the service says that it is gone.
    async fn file_by_id(&self, id: u64) -> Result<Option<(Entry, Option<String>)>> {
        let meta = match self.api.meta(id).await {
            Ok(meta) => meta,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let odd = || {
            let context = format!("look file {id} up: the answer makes no sense");
            RemoteError::new(ErrorKind::Protocol, context)
        };
        if meta.id.unsigned() != Some(id) {
            return Err(odd());
        }
        let name = Name::new(&meta.name.0).map_err(|_| odd())?;
        let md5 = meta.md5.as_ref().map(|md5| md5.0.as_str());
        let entry = listing::file_entry(id, name, meta.size.0, md5).ok_or_else(odd)?;
        Ok(Some((entry, meta.path.map(|path| path.0))))
    }

    /// The file as it is now, if it is still the expected version.
    async fn expect_file(&self, target: &Locator, expected: &Stamp) -> Result<(u64, Entry)> {
        let id = match target_id(target, expected)? {
            Id::File(id) => id,
            Id::Folder(_) => {
                let context = format!("{}: a folder where a file was expected", target.path);
                return Err(RemoteError::new(ErrorKind::Changed, context));
            }
        };
        match self.file_by_id(id).await? {
            None => {
                let context = format!("{}: it is gone", target.path);
                Err(RemoteError::new(ErrorKind::NotFound, context))
            }
            Some((entry, path)) => {
                if !self.is_inside(path.as_deref()).await? {
                    let context = format!("{}: it is not in this folder any more", target.path);
                    return Err(RemoteError::new(ErrorKind::NotFound, context));
                }
                if entry.rev != expected.rev || entry.size != expected.size {
                    let context = format!("{}: it has changed", target.path);
                    return Err(RemoteError::new(ErrorKind::Changed, context));
                }
                Ok((id, entry))
            }
        }
    }

    /// The folder of that name, made if it is not there. Looked for first: what the service does
    /// with a name that is taken is not documented. `parent` begins at the sandbox.
    async fn ensure_folder(&self, parent: &RelPath, name: &Name) -> Result<Entry> {
        let is_folder = |entry: &&Entry| entry.kind == Kind::Dir && entry.name == *name;
        let (at, above) = (parent.join(name), sandbox_path(parent));
        let probe = self.api.list(&sandbox_path(&at), 1, 1).await;
        let surely_missing = matches!(&probe, Err(error) if error.kind == ErrorKind::NotFound);
        if !surely_missing {
            let folder = read_folder(&self.api, &above).await?;
            if let Some(entry) = folder.entries().find(is_folder) {
                return Ok(entry.clone());
            }
            self.expect_room(&folder, &at, None)?;
        }
        let made = match self.api.create_folder(&above, name.as_str()).await {
            Ok(made) => made,
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                let folder = read_folder(&self.api, &above).await?;
                return folder.entries().find(is_folder).cloned().ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let path = made.path.as_ref().map(|path| path.0.as_str());
        let shown = self.learn_prefix(path, &above).or(made.name.map(|name| name.0));
        let id = made.folder_id.unsigned();
        let (Some(id), Ok(shown)) = (id, Name::new(&shown.unwrap_or_else(|| name.to_string())))
        else {
            let context = format!("create folder {at}: the answer makes no sense");
            return Err(RemoteError::unknown(ErrorKind::Protocol, context));
        };
        Ok(folder_entry(id, shown))
    }

    async fn delete_file(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        let id = match self.expect_file(target, expected).await {
            Ok((id, _)) => id,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        self.delete_surely(Target::File(id), target).await
    }

    /// The service may delete what is in a folder along with it: it must be empty, and be the one.
    async fn delete_folder(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        let id = target_id(target, expected)?;
        let Id::Folder(number) = id else {
            let context = format!("{}: a file where a folder was expected", target.path);
            return Err(RemoteError::new(ErrorKind::Changed, context));
        };
        let parent = match self.read_parent(&target.path).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let Some(entry) = parent.entry(id) else {
            return Ok(());
        };
        let is_alone = parent.entries().filter(|e| e.name == entry.name).count() == 1;
        let is_here = target.path.split_last().is_some_and(|(_, name)| name == entry.name);
        let changed =
            |why: &str| RemoteError::new(ErrorKind::Changed, format!("{}: {why}", target.path));
        if !is_alone || !is_here {
            return Err(changed("its path may mean another folder"));
        }
        let inside = self.read(&target.path).await?;
        if !inside.is_empty() || inside.hides {
            return Err(changed("it is not empty"));
        }
        self.delete_surely(Target::Folder(number), target).await
    }

    /// The answer only counts: if it does not count one, a look decides.
    async fn delete_surely(&self, id: Target, target: &Locator) -> Result<()> {
        let told = self.api.manage(&Change::Delete, &[id]).await?;
        if told.affected.is_some_and(|affected| affected.0 == 1) {
            if let Some((parent, name)) = target.path.split_last() {
                self.note_gone(&parent, &name);
            }
            return Ok(());
        }
        let is_gone = match id {
            Target::File(id) => match self.file_by_id(id).await? {
                Some((_, path)) => !self.is_inside(path.as_deref()).await?,
                None => true,
            },
            Target::Folder(id) => !self.read_parent(&target.path).await?.has(Id::Folder(id)),
        };
        if is_gone {
            return Ok(());
        }
        let context = format!("delete {}: the service left it there", target.path);
        Err(RemoteError::new(ErrorKind::Unavailable, context))
    }
}

fn refuse_taken(verdict: Verdict, at: &RelPath) -> Result<()> {
    let (kind, why) = match verdict {
        Verdict::Free => return Ok(()),
        Verdict::Taken => (ErrorKind::AlreadyExists, "the name is taken"),
        Verdict::Alike => (
            ErrorKind::InvalidName,
            "the service may not tell the name from another one there, which differs only in case \
             or in its Unicode form; `foldsync doctor REMOTE` finds out whether it does",
        ),
    };
    Err(RemoteError::new(kind, format!("{at}: {why}")))
}

/// The id that a request needs: the expected item's, which the locator must not contradict.
fn target_id(target: &Locator, expected: &Stamp) -> Result<Id> {
    Id::of(&expected.item)
        .filter(|_| target.id.as_ref().is_none_or(|id| *id == expected.item))
        .ok_or_else(|| {
            let context = format!("{}: this is no item of this service", target.path);
            RemoteError::new(ErrorKind::NotFound, context)
        })
}

/// The path of a folder as requests name it: from the root of the sandbox.
fn sandbox_path(path: &RelPath) -> String {
    if path.is_root() { "/".to_owned() } else { format!("/{}", path.as_str()) }
}

fn name_problem(capabilities: &Capabilities, name: &Name) -> Result<()> {
    capabilities
        .names
        .check(name)
        .map_err(|problem| RemoteError::new(ErrorKind::InvalidName, problem.to_string()))
}

#[async_trait]
impl Remote for DiskTop {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn claim(&self, _identity: &str) -> Result<()> {
        self.create_root().await
    }

    async fn account(&self) -> Result<Account> {
        let user = self.api.user_info().await?;
        // Every application has a sandbox of its own.
        let app = user.oauth.and_then(|oauth| oauth.client_id).map(|id| id.0).unwrap_or_default();
        let root = match self.root_id().await? {
            Some(Id::Folder(id) | Id::File(id)) => id.to_string(),
            None => "sandbox".to_owned(),
        };
        Ok(Account { key: format!("disktop:{}:{app}:{root}", user.uid.0) })
    }

    /// Always the whole folder: its pages can only be proved complete together.
    async fn list(&self, dir: &Locator, cursor: Option<PageCursor>) -> Result<Page> {
        if cursor.is_some() {
            let context = format!("list folder {}: it has one page", dir.path);
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        }
        Ok(Page { listing: self.read(&dir.path).await?.into_listing(), next: None })
    }

    async fn stat(&self, target: &Locator) -> Result<Option<Entry>> {
        match target.id.as_ref().and_then(Id::of) {
            Some(Id::File(id)) => match self.file_by_id(id).await? {
                Some((entry, path)) => {
                    let inside = self.is_inside(path.as_deref()).await?;
                    Ok(Some(entry).filter(|_| inside))
                }
                None => Ok(None),
            },
            Some(id @ Id::Folder(_)) => self.stat_folder(target, Some(id)).await,
            None => self.stat_folder(target, None).await,
        }
    }

    async fn create_dir(&self, parent: &Locator, name: &Name) -> Result<Entry> {
        name_problem(&self.capabilities, name)?;
        let made = self.ensure_folder(&self.below_root(&parent.path), name).await?;
        self.note_own(&parent.path, &made.name);
        Ok(made)
    }

    async fn begin_upload(&self, request: &UploadRequest) -> Result<UploadStart> {
        let start = self.begin(request).await?;
        if let UploadStart::Instant(Some(entry)) = &start {
            self.note_own(&request.parent.path, &entry.name);
        }
        Ok(start)
    }

    async fn outstanding(&self, session: &UploadSession) -> Result<Outstanding> {
        self.wanted(session).await
    }

    async fn upload_range(
        &self,
        session: &UploadSession,
        range: ByteRange,
        body: Body,
    ) -> Result<()> {
        self.send_range(session, range, body).await
    }

    async fn finish_upload(&self, session: &UploadSession) -> Result<Option<Entry>> {
        let made = self.finish(session).await?;
        if let Some(entry) = &made {
            self.note_own(&session.request.parent.path, &entry.name);
        }
        Ok(made)
    }

    async fn abort_upload(&self, session: &UploadSession) -> Result<()> {
        self.abort(session).await
    }

    async fn download(&self, target: &Locator, expected: &Stamp, from: u64) -> Result<Download> {
        let Id::File(id) = target_id(target, expected)? else {
            let context = format!("{}: a folder has no content", target.path);
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        };
        if from > 0 && !self.capabilities.ranged_download {
            let context = format!("{}: the service sends whole files only", target.path);
            return Err(RemoteError::new(ErrorKind::Unsupported, context));
        }
        let mut again = false;
        loop {
            let link = self.api.download(id).await?;
            let md5 =
                link.md5.as_ref().and_then(|md5| ContentHash::from_hex(HashAlgo::Md5, &md5.0));
            let rev = md5.as_ref().map(rev_of);
            let other_size = link.size.is_some_and(|size| size.unsigned() != Some(expected.size));
            if other_size || rev.as_ref().is_some_and(|rev| *rev != expected.rev) {
                let context = format!("{}: it has changed", target.path);
                return Err(RemoteError::new(ErrorKind::Changed, context));
            }
            let url = SignedUrl::new(self.api.http().origins().admit(&link.url)?);
            let what = format!("download {}", target.path);
            let fetch = Fetch { what, url, from, size: expected.size };
            match self.api.http().fetch(fetch).await {
                Ok(bytes) => return Ok(Download { bytes, rev }),
                // A link that has already ended says nothing about the file or the login.
                Err(error) if is_ended_link(&error) && !again => again = true,
                Err(error) if is_ended_link(&error) => {
                    return Err(RemoteError { kind: ErrorKind::Unavailable, ..error });
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn relocate(
        &self,
        target: &Locator,
        expected: &Stamp,
        parent: &Locator,
        name: &Name,
    ) -> Result<Entry> {
        name_problem(&self.capabilities, name)?;
        let moved = self.move_to(target, expected, parent, name).await?;
        self.note_own(&parent.path, &moved.name);
        Ok(moved)
    }

    async fn delete(&self, target: &Locator, expected: &Stamp) -> Result<()> {
        match target.kind {
            Kind::File => self.delete_file(target, expected).await,
            Kind::Dir => self.delete_folder(target, expected).await,
        }
    }

    fn requests(&self) -> u64 {
        self.api.requests_sent()
    }

    fn clock_skew_s(&self) -> Option<i64> {
        self.api.http().clock_skew_s()
    }

    async fn quota(&self) -> Result<Quota> {
        let told = self.api.quota().await?;
        Ok(Quota {
            used: told.used_bytes.and_then(|bytes| bytes.unsigned()),
            total: told.total_bytes.and_then(|bytes| bytes.unsigned()),
        })
    }
}

fn is_ended_link(error: &RemoteError) -> bool {
    matches!(error.kind, ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::AuthExpired)
}
