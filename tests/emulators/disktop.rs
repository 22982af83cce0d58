//! Disk.Top, emulated: three hosts (API, uploads, content) on three loopback ports.
//!
//! What the document leaves open is a switch. A request that the document does not allow is noted
//! and fails the test when the emulator goes out of scope.

pub mod client;
pub mod oauth;
pub mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use bytes::Bytes;
use foldsync::clock::{Clock, SystemClock};
use foldsync::tree::{HashAlgo, Hasher};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use super::{Counters, CuttableListener, Fault, Scissors, Script};
use oauth::Oauth;
use store::{PREFIX, ROOT, Refusal, Store};

pub const CLIENT_ID: &str = "test-client";

// ---- switches ------------------------------------------------------------------------------------

/// What happens when a name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    Replaces,
    Renames,
    Rejects,
    Duplicates,
}

/// How a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// By the HTTP status, and by the same number in the envelope.
    Status,
    /// HTTP 200, and a number in the envelope.
    Number,
    /// HTTP 200, and a word in the envelope.
    Word,
}

/// What a page of a listing is a page of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    FoldersThenFiles,
    FilesWithAllFolders,
    FilesWithFoldersFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    ById,
    RecentFirst,
    /// Another one for each request.
    Shuffled,
}

/// What is on the pages after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    Nothing,
    FirstPageAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    Everything,
    Files,
    /// Wrong by so much where there is anything.
    Off(i64),
}

/// Every behaviour that the document does not settle.
#[derive(Clone, Debug)]
pub struct Switches {
    pub same_name_upload: Meeting,
    pub replacing_keeps_id: bool,
    pub same_name_mkdir: Meeting,
    pub same_name_move: Meeting,
    pub moving_changes_id: bool,
    pub folds_case: bool,
    pub stores_nfc: bool,
    /// Names are compared in their composed form, and kept as they are written.
    pub compares_nfc: bool,
    pub name_bytes_max: usize,
    pub name_chars_max: usize,
    /// Names with one of these are refused.
    pub forbidden_chars: &'static str,
    /// Dots and spaces at the end of a name are dropped, and nothing is said about it.
    pub trims_names: bool,
    pub errors: Errors,
    pub numbers_are_strings: bool,
    pub window: Window,
    pub order: Order,
    pub beyond: Beyond,
    pub total: Total,
    /// Most entries of a page, whatever was asked for.
    pub page_max: usize,
    /// A folder that is not there is listed as an empty one.
    pub missing_folder_is_empty: bool,
    pub instant: bool,
    /// An instant upload answers with the file that has the bytes already.
    pub instant_finds_other: bool,
    pub chunk_bytes: u64,
    pub empty_file_parts: u64,
    pub part_reply_is_short: bool,
    /// A completed session answers as before; otherwise it is gone.
    pub completes_twice: bool,
    pub tells_path: bool,
    pub session_ttl_s: i64,
    pub link_ttl_s: i64,
    /// Downloads are of the whole file, whatever range was asked for.
    pub ignores_range: bool,
    pub access_ttl_s: i64,
    /// A refresh token that is used twice ends the whole login.
    pub reuse_revokes: bool,
    pub pending_is_200: bool,
    /// Deleted files are kept, and looked up as if they were there.
    pub bin_answers: bool,
    /// `manage` counts nothing in its answer.
    pub tells_affected: bool,
    pub search_works: bool,
    pub quota_bytes: Option<u64>,
}

impl Default for Switches {
    fn default() -> Switches {
        Switches {
            same_name_upload: Meeting::Duplicates,
            replacing_keeps_id: true,
            same_name_mkdir: Meeting::Rejects,
            same_name_move: Meeting::Rejects,
            moving_changes_id: false,
            folds_case: false,
            stores_nfc: false,
            compares_nfc: false,
            name_bytes_max: 255,
            name_chars_max: 255,
            forbidden_chars: "",
            trims_names: false,
            errors: Errors::Status,
            numbers_are_strings: false,
            window: Window::FoldersThenFiles,
            order: Order::ById,
            beyond: Beyond::Nothing,
            total: Total::Everything,
            page_max: 200,
            missing_folder_is_empty: false,
            instant: true,
            instant_finds_other: false,
            chunk_bytes: 64 << 10,
            empty_file_parts: 0,
            part_reply_is_short: false,
            completes_twice: false,
            tells_path: true,
            session_ttl_s: 86_400,
            link_ttl_s: 600,
            ignores_range: false,
            access_ttl_s: 7200,
            reuse_revokes: true,
            pending_is_200: false,
            bin_answers: false,
            tells_affected: true,
            search_works: true,
            quota_bytes: None,
        }
    }
}

// ---- requests ------------------------------------------------------------------------------------

/// Fields of a form or of a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    fn parse(text: &[u8]) -> Form {
        let pairs = url::form_urlencoded::parse(text);
        Form(pairs.map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    pub fn one(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn all(&self, key: &str) -> Vec<u64> {
        let values = self.0.iter().filter(|(k, _)| k == key);
        values.filter_map(|(_, value)| value.parse().ok()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Api,
    Upload,
    Content,
}

/// A request as it came in.
struct Asked {
    host: Host,
    method: Method,
    path: Vec<String>,
    query: Form,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn new(host: Host, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Asked {
        let decode = |part: &str| {
            let whole = format!("x={}", part.replace('+', "%2B"));
            Form::parse(whole.as_bytes()).one("x").unwrap_or_default().to_owned()
        };
        let path = uri.path().split('/').skip(1).map(decode).collect();
        let query = Form::parse(uri.query().unwrap_or_default().as_bytes());
        Asked { host, method, path, query, headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn form(&self) -> Form {
        Form::parse(&self.body)
    }

    /// The name by which tests and scripts know this kind of request.
    fn label(&self) -> String {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let label = match (self.host, self.method.as_str(), path.as_slice()) {
            (Host::Api, "GET", ["v1", "user", "info"]) => "info",
            (Host::Api, "GET", ["v1", "user", "quota"]) => "quota",
            (Host::Api, "GET", ["v1", "files"]) => "list",
            (Host::Api, "GET", ["v1", "files", "search"]) => "search",
            (Host::Api, "GET", ["v1", "files", _]) => "meta",
            (Host::Api, "GET", ["v1", "files", _, "download"]) => "download",
            (Host::Api, "POST", ["v1", "files", "folder"]) => "folder",
            (Host::Api, "POST", ["v1", "files", "manage"]) => {
                return self.form().one("action").unwrap_or("manage").to_owned();
            }
            (Host::Api, "POST", ["v1", "files", "upload", "precreate"]) => "precreate",
            (Host::Api, "POST", ["oauth", "token"]) => "token",
            (Host::Api, "POST", ["oauth", "device-code"]) => "device-code",
            (Host::Api, "POST", ["oauth", "device-token"]) => "device-token",
            (Host::Api, "GET", ["oauth", "authorize"]) => "authorize",
            (Host::Api, "GET", ["oauth", "device"]) => "device",
            (Host::Upload, "POST", ["u"]) => "part",
            (Host::Upload, "GET", ["u", _, "parts"]) => "parts",
            (Host::Upload, "POST", ["u", _, "complete"]) => "complete",
            (Host::Upload, "POST", ["u", _, "abort"]) => "abort",
            (Host::Content, "GET", ["dl", _, _]) => "content",
            _ => "unknown",
        };
        label.to_owned()
    }
}

/// Whether requests of a label change files or folders.
fn mutates(label: &str, reply: &Reply) -> bool {
    match label {
        "folder" | "rename" | "move" | "copy" | "delete" | "complete" => true,
        "precreate" => String::from_utf8_lossy(&reply.body).contains("\"instant_upload\":true"),
        _ => false,
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Reply {
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { status, headers, body: Bytes::from(body.to_string()) }
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(self.body)).expect("the emulator's own headers are valid")
    }
}

// ---- state -----------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Session {
    parent: u64,
    name: String,
    size: u64,
    md5: String,
    chunk: u64,
    parts: BTreeMap<u64, Bytes>,
    ends_s: i64,
    done: Option<u64>,
}

impl Session {
    fn total_parts(&self, switches: &Switches) -> u64 {
        if self.size == 0 { switches.empty_file_parts } else { self.size.div_ceil(self.chunk) }
    }

    fn part_len(&self, seq: u64) -> u64 {
        self.chunk.min(self.size.saturating_sub((seq - 1) * self.chunk))
    }
}

/// When a hook is called: before a request has any effect, or after it and before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Before,
    After,
}

type Hook = Arc<dyn Fn(u64, &str, Phase) + Send + Sync>;

pub struct State {
    pub store: Store,
    pub oauth: Oauth,
    pub switches: Switches,
    pub script: Script,
    pub counters: Counters,
    pub violations: Vec<String>,
    sessions: BTreeMap<String, Session>,
    /// Listings are of this moment, where set.
    frozen: Option<Store>,
    hook: Option<Hook>,
    ahead_s: i64,
    dice: u64,
    uid: i64,
    hosts: [String; 3],
}

impl State {
    fn now_s(&self) -> i64 {
        SystemClock.now().seconds() + self.ahead_s
    }

    fn violation(&mut self, what: impl Into<String>) -> Reply {
        let what = what.into();
        self.violations.push(what.clone());
        Reply::json(400, &json!({"errno": "not_allowed_by_the_document", "errmsg": what}))
    }

    fn ok(&self, data: Value) -> Reply {
        let data = if self.switches.numbers_are_strings { stringed(data) } else { data };
        Reply::json(200, &json!({"errno": 0, "errmsg": "ok", "data": data}))
    }

    fn fail(&self, status: u16, word: &str) -> Reply {
        match self.switches.errors {
            Errors::Status => Reply::json(status, &json!({"errno": status, "errmsg": word})),
            Errors::Number => Reply::json(200, &json!({"errno": status, "errmsg": word})),
            Errors::Word => Reply::json(200, &json!({"errno": word.replace(' ', "_")})),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::NotFound => self.fail(404, "file not found"),
            Refusal::Exists => self.fail(409, "already exists"),
            Refusal::Loop => self.fail(400, "permission denied"),
            Refusal::Quota => self.fail(507, "quota exceeded"),
            Refusal::BadName => self.fail(400, "invalid name"),
        }
    }

    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    // ---- the API -------------------------------------------------------------------------------

    fn serve(&mut self, asked: &Asked) -> Reply {
        let label = asked.label();
        if let Some(reply) = self.check_manners(asked, &label) {
            return reply;
        }
        match label.as_str() {
            "info" => self.info(),
            "quota" => self.quota(),
            "list" => self.list(&asked.query),
            "search" => self.search(&asked.query),
            "meta" => self.meta(asked),
            "download" => self.link(asked),
            "folder" => self.folder(&asked.form()),
            "rename" | "move" | "delete" => self.manage(&asked.form()),
            "precreate" => self.precreate(&asked.form()),
            "part" => self.part(asked),
            "parts" => self.parts(asked),
            "complete" => self.complete(asked),
            "abort" => self.abort(asked),
            "content" => self.content(asked),
            "token" | "device-code" | "device-token" => self.login(asked, &label),
            "authorize" => match self.oauth.authorize(&asked.query, true) {
                Ok(to) => Reply { headers: vec![("location", to)], ..Reply::json(302, &json!({})) },
                Err(why) => self.violation(why),
            },
            "device" => {
                let code = asked.query.one("user_code").map(str::to_owned);
                let found = self.oauth.decide(code.as_deref(), true);
                let text = if found { "approved" } else { "no such code" };
                Reply { status: 200, headers: Vec::new(), body: Bytes::from(text) }
            }
            _ => self.violation(format!("{} {}", asked.method, asked.path.join("/"))),
        }
    }

    /// What every request of a kind must and must not carry.
    fn check_manners(&mut self, asked: &Asked, label: &str) -> Option<Reply> {
        let is_person = matches!(label, "authorize" | "device");
        if !is_person {
            let allowed: &[&str] = match label {
                "list" => &["path", "page", "limit"],
                "search" => &["q", "ext", "limit"],
                "part" => &["upload_id", "part_seq"],
                "content" => &["sig", "exp"],
                _ => &[],
            };
            if let Some((key, _)) =
                asked.query.0.iter().find(|(k, _)| !allowed.contains(&k.as_str()))
            {
                return Some(self.violation(format!("{label}: unknown query parameter {key}")));
            }
        }
        if let Some(problem) = check_form(asked, label) {
            return Some(self.violation(format!("{label}: {problem}")));
        }
        let credential = asked.header("authorization");
        let wants_token = asked.host == Host::Api && asked.path.first().is_some_and(|p| p == "v1");
        if !wants_token {
            let leaked = credential.is_some() || asked.header("cookie").is_some();
            return leaked
                .then(|| self.violation(format!("{label}: credentials are not for this host")));
        }
        let Some(token) = credential.and_then(|text| text.strip_prefix("Bearer ")) else {
            return Some(self.violation(format!("{label}: no bearer token")));
        };
        if !self.oauth.accepts(token, self.now_s()) {
            return Some(self.fail(401, "invalid token"));
        }
        None
    }

    fn login(&mut self, asked: &Asked, label: &str) -> Reply {
        let (now, form, switches) = (self.now_s(), asked.form(), self.switches.clone());
        let base = self.hosts[0].clone();
        let (status, body) = match label {
            "token" => self.oauth.token(&form, now, &switches),
            "device-code" => self.oauth.device_code(&form, now, &base),
            _ => self.oauth.device_token(&form, now, &switches),
        };
        Reply::json(status, &body)
    }

    fn info(&self) -> Reply {
        self.ok(json!({
            "uid": self.uid, "username": "dwtonline", "nickname": "jam", "email": "j***@example.com",
            "avatar_url": "https://disk.top/uploads/upload/avatar/17_xxx.jpg", "is_vip": false,
            "vip_group": 3, "vip_expire_ts": 0, "storage_quota_bytes": 1_610_612_736_000_i64,
            "created_at_ts": 1_636_115_986,
            "oauth": {"client_id": CLIENT_ID, "scopes": ["user.read", "files.app_data"]}
        }))
    }

    fn quota(&self) -> Reply {
        let total = self.switches.quota_bytes.unwrap_or(1_610_612_736_000);
        let used = self.store.used();
        self.ok(json!({
            "total_bytes": total, "used_bytes": used, "free_bytes": total.saturating_sub(used),
            "used_pct": 2.09
        }))
    }

    // ---- folders ---------------------------------------------------------------------------------

    /// Requests name paths from the sandbox's root.
    fn folder_id(&self, path: &str) -> Option<u64> {
        path.starts_with('/').then(|| self.store.folder_at(path, &self.switches)).flatten()
    }

    fn list(&mut self, query: &Form) -> Reply {
        let path = query.one("path").unwrap_or("/").to_owned();
        let page: usize = query.one("page").unwrap_or("1").parse().unwrap_or(0);
        let limit: usize = query.one("limit").unwrap_or("50").parse().unwrap_or(0);
        if page == 0 || limit == 0 || limit > 200 {
            return self.violation("list: page and limit count from 1, limit is at most 200");
        }
        let switches = self.switches.clone();
        let limit = limit.min(switches.page_max);
        let salt = self.roll();
        let shown = self.frozen.as_ref().unwrap_or(&self.store);
        let Some(folder) = shown.folder_at(&path, &switches).filter(|_| path.starts_with('/'))
        else {
            if switches.missing_folder_is_empty {
                let data = json!({"path": path, "folders": [], "files": [], "total": 0});
                return self.ok(data);
            }
            return self.fail(404, "folder not found");
        };
        let folders: Vec<Value> = shown
            .folders
            .iter()
            .filter(|(id, f)| f.parent == folder && **id != ROOT)
            .map(|(id, f)| json!({"id": id, "name": f.name}))
            .collect();
        let mut files: Vec<_> = shown.files.within(folder).collect();
        match switches.order {
            Order::ById => {}
            Order::RecentFirst => files.sort_by_key(|(_, f)| std::cmp::Reverse(f.touched)),
            Order::Shuffled => files.sort_by_key(|(id, _)| (**id ^ salt).wrapping_mul(salt | 1)),
        }
        let files: Vec<Value> = files
            .into_iter()
            .map(|(id, f)| json!({"id": id, "name": f.name, "size": f.size, "md5": f.md5}))
            .collect();
        let count = i64::try_from(folders.len() + files.len()).unwrap_or(i64::MAX);
        let total = match switches.total {
            Total::Everything => count,
            Total::Files => i64::try_from(files.len()).unwrap_or(i64::MAX),
            Total::Off(by) => count + if count > 0 { by } else { 0 },
        };
        let (folders, files) = window(folders, files, page, limit, &switches);
        self.ok(json!({"path": path, "folders": folders, "files": files, "total": total}))
    }

    fn search(&self, query: &Form) -> Reply {
        let wanted = query.one("q").unwrap_or_default();
        let limit: usize = query.one("limit").unwrap_or("50").parse().unwrap_or(50);
        let shown = self.frozen.as_ref().unwrap_or(&self.store);
        let hits = shown
            .files
            .iter()
            .filter(|(_, f)| self.switches.search_works && f.name.contains(wanted));
        let files: Vec<Value> = hits
            .take(limit)
            .map(|(id, f)| json!({"id": id, "name": f.name, "size": f.size, "md5": f.md5}))
            .collect();
        let total = files.len();
        self.ok(json!({"files": files, "total": total}))
    }

    fn folder(&mut self, form: &Form) -> Reply {
        let parent = form.one("parent_path").unwrap_or("/");
        let Some(parent) = self.folder_id(parent) else {
            return self.fail(404, "folder not found");
        };
        let name = form.one("name").unwrap_or_default();
        match self.store.add_folder(parent, name, &self.switches) {
            Err(refusal) => self.refuse(refusal),
            Ok(id) => {
                let path = format!("{PREFIX}{}", self.store.path_of_folder(id));
                let name = self.store.folders.get(&id).map(|folder| folder.name.clone());
                self.ok(json!({"folder_id": id, "name": name, "path": path}))
            }
        }
    }

    fn manage(&mut self, form: &Form) -> Reply {
        let (files, folders) = (form.all("file_ids[]"), form.all("folder_ids[]"));
        let action = form.one("action").unwrap_or_default().to_owned();
        let switches = self.switches.clone();
        let dest = match form.one("dest_path") {
            Some(path) => match self.folder_id(path) {
                Some(dest) => Some(dest),
                None => return self.fail(404, "folder not found"),
            },
            None => None,
        };
        let new_name = form.one("new_name").map(str::to_owned);
        let mut affected = 0;
        for id in files {
            let Some(file) = self.store.files.get(&id).cloned() else { continue };
            if action == "delete" {
                affected += u64::from(self.store.delete_file(id, &switches));
                continue;
            }
            let (parent, name) =
                (dest.unwrap_or(file.parent), new_name.clone().unwrap_or(file.name));
            match self.store.place_file(id, parent, &name, &switches) {
                Ok(_) => affected += 1,
                Err(refusal) => return self.refuse(refusal),
            }
        }
        for id in folders {
            let Some(folder) = self.store.folders.get(&id).cloned() else { continue };
            if action == "delete" {
                affected += u64::from(self.store.delete_folder(id));
                continue;
            }
            let name = new_name.clone().unwrap_or(folder.name);
            match self.store.place_folder(id, dest.unwrap_or(folder.parent), &name, &switches) {
                Ok(()) => affected += 1,
                Err(refusal) => return self.refuse(refusal),
            }
        }
        let data = if switches.tells_affected { json!({"affected": affected}) } else { json!({}) };
        self.ok(data)
    }

    // ---- files -------------------------------------------------------------------------------------

    fn meta(&self, asked: &Asked) -> Reply {
        let id = asked.path.get(2).and_then(|id| id.parse().ok()).unwrap_or(0_u64);
        let (file, path) = match (self.store.files.get(&id), self.store.bin.get(&id)) {
            (Some(file), _) => (file, format!("{PREFIX}{}", self.store.path_of_file(file))),
            (None, Some(file)) => (file, format!("/回收站/{}", file.name)),
            (None, None) => return self.fail(404, "file not found"),
        };
        let extension = file.name.rsplit_once('.').map_or("", |(_, extension)| extension);
        self.ok(json!({
            "id": id, "name": file.name, "size": file.size, "md5": file.md5, "ext": extension,
            "mime": "application/octet-stream", "path": path, "parent_folder": file.parent,
            "create_time": 1_779_051_234
        }))
    }

    fn link(&self, asked: &Asked) -> Reply {
        let id = asked.path.get(2).and_then(|id| id.parse().ok()).unwrap_or(0_u64);
        let Some(file) = self.store.files.get(&id) else { return self.fail(404, "file not found") };
        let ends = self.now_s() + self.switches.link_ttl_s;
        let mut url = Url::parse(&self.hosts[2]).expect("the emulator's own address");
        if let Ok(mut path) = url.path_segments_mut() {
            path.push("dl").push(&id.to_string()).push(&file.name);
        }
        url.query_pairs_mut()
            .append_pair("sig", &signature(id, ends))
            .append_pair("exp", &ends.to_string());
        self.ok(json!({
            "url": url.as_str(), "expires_in": self.switches.link_ttl_s, "name": file.name,
            "size": file.size, "md5": file.md5
        }))
    }

    fn content(&mut self, asked: &Asked) -> Reply {
        let id = asked.path.get(1).and_then(|id| id.parse().ok()).unwrap_or(0_u64);
        let ends: i64 = asked.query.one("exp").and_then(|exp| exp.parse().ok()).unwrap_or(0);
        let plain = |status| Reply { status, headers: Vec::new(), body: Bytes::new() };
        if asked.query.one("sig") != Some(&signature(id, ends)) || ends <= self.now_s() {
            return plain(403);
        }
        let blob = self.store.files.get(&id).and_then(|file| self.store.blobs.get(&file.md5));
        let Some(blob) = blob.cloned() else { return plain(404) };
        let range = asked.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(from) = range.filter(|_| !self.switches.ignores_range) else {
            return Reply { status: 200, headers: Vec::new(), body: blob };
        };
        let from: usize = from.parse().unwrap_or(usize::MAX);
        if from >= blob.len() {
            return plain(416);
        }
        let span = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
        Reply { status: 206, headers: vec![("content-range", span)], body: blob.slice(from..) }
    }

    // ---- uploads -----------------------------------------------------------------------------------

    fn precreate(&mut self, form: &Form) -> Reply {
        let parent = form.one("parent_path").unwrap_or("/");
        let Some(parent) = self.folder_id(parent) else {
            return self.fail(404, "folder not found");
        };
        let name = form.one("name").unwrap_or_default().to_owned();
        let md5 = form.one("md5").unwrap_or_default().to_owned();
        let size: u64 = form.one("size").and_then(|size| size.parse().ok()).unwrap_or(0);
        let switches = self.switches.clone();
        if let Err(refusal) = switches.stored_name(&name) {
            return self.refuse(refusal);
        }
        if switches.quota_bytes.is_some_and(|quota| self.store.used() + size > quota) {
            return self.refuse(Refusal::Quota);
        }
        if switches.instant && self.store.is_known(&md5, size) {
            let other = self.store.files.iter().find(|(_, file)| file.md5 == md5);
            let id = match other.map(|(id, _)| *id).filter(|_| switches.instant_finds_other) {
                Some(other) => Ok(other),
                None => self.store.add_file(parent, &name, &md5, &switches),
            };
            return match id {
                Err(refusal) => self.refuse(refusal),
                Ok(id) => self.ok(json!({
                    "instant_upload": true, "file_id": id, "path": self.told_path(id), "size": size
                })),
            };
        }
        let upload_id = format!("{:016x}{:016x}", self.roll(), self.roll());
        let ends_s = self.now_s() + switches.session_ttl_s;
        let chunk = switches.chunk_bytes;
        let session =
            Session { parent, name, size, md5, chunk, parts: BTreeMap::new(), ends_s, done: None };
        let total_parts = session.total_parts(&switches);
        self.sessions.insert(upload_id.clone(), session);
        self.ok(json!({
            "instant_upload": false, "upload_id": upload_id, "endpoint": self.hosts[1],
            "chunk_size": chunk, "total_parts": total_parts, "expires_in": switches.session_ttl_s
        }))
    }

    fn told_path(&self, id: u64) -> Option<String> {
        let file = self.store.files.get(&id)?;
        self.switches.tells_path.then(|| format!("{PREFIX}{}", self.store.path_of_file(file)))
    }

    fn session(&self, id: &str) -> Option<&Session> {
        self.sessions.get(id).filter(|session| session.ends_s > self.now_s())
    }

    fn part(&mut self, asked: &Asked) -> Reply {
        let id = asked.query.one("upload_id").unwrap_or_default().to_owned();
        let seq: u64 = asked.query.one("part_seq").and_then(|s| s.parse().ok()).unwrap_or(0);
        let switches = self.switches.clone();
        let Some(session) = self.session(&id) else { return self.fail(404, "session expired") };
        let (total, due) = (session.total_parts(&switches), session.part_len(seq.max(1)));
        if seq == 0 || seq > total || due != asked.body.len() as u64 {
            let problem =
                format!("part {seq} of {total} has {} bytes, not {due}", asked.body.len());
            return self.violation(problem);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return self.fail(404, "gone") };
        if session.parts.insert(seq, asked.body.clone()).is_some() {
            self.counters.parts_repeated += 1;
        }
        let received = session.parts.len();
        if switches.part_reply_is_short {
            return self.ok(json!({}));
        }
        let etag = Hasher::of(HashAlgo::Md5, &asked.body).hex();
        self.ok(json!({
            "part_seq": seq, "etag": etag, "size": due, "received_parts": received,
            "total_parts": total
        }))
    }

    fn parts(&self, asked: &Asked) -> Reply {
        let id = asked.path.get(1).cloned().unwrap_or_default();
        let Some(session) = self.session(&id) else { return self.fail(404, "session expired") };
        let total = session.total_parts(&self.switches);
        let seqs: Vec<u64> = session.parts.keys().copied().collect();
        let rows: Map<String, Value> = session
            .parts
            .iter()
            .map(|(seq, part)| {
                let row = json!({"part_number": seq, "etag": "abc", "size": part.len()});
                (seq.to_string(), row)
            })
            .collect();
        self.ok(json!({
            "upload_id": id, "total_parts": total, "received_parts": seqs, "progress": 35.0,
            "parts": rows
        }))
    }

    fn complete(&mut self, asked: &Asked) -> Reply {
        let id = asked.path.get(1).cloned().unwrap_or_default();
        let switches = self.switches.clone();
        let Some(session) = self.session(&id).cloned() else {
            return self.fail(404, "session expired");
        };
        let file_id = match session.done {
            Some(file_id) if switches.completes_twice => file_id,
            Some(_) => return self.fail(404, "session expired"),
            None => {
                let (has, total) = (session.parts.len() as u64, session.total_parts(&switches));
                if has < total {
                    return self.fail(425, &format!("incomplete: {has}/{total}"));
                }
                let content: Vec<u8> = session.parts.values().flatten().copied().collect();
                if Hasher::of(HashAlgo::Md5, &content).hex() != session.md5 {
                    return self.fail(502, "complete failed");
                }
                let md5 = self.store.put_blob(Bytes::from(content));
                match self.store.add_file(session.parent, &session.name, &md5, &switches) {
                    Ok(file_id) => file_id,
                    Err(refusal) => return self.refuse(refusal),
                }
            }
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.done = Some(file_id);
            session.parts.clear();
        }
        self.ok(json!({
            "file_id": file_id, "path": self.told_path(file_id), "size": session.size,
            "md5": session.md5
        }))
    }

    fn abort(&mut self, asked: &Asked) -> Reply {
        let id = asked.path.get(1).cloned().unwrap_or_default();
        if self.sessions.remove(&id).is_none() {
            return self.fail(404, "session expired");
        }
        self.ok(json!({"ok": true}))
    }
}

/// What the form of a request must look like. `None` if it is as documented.
fn check_form(asked: &Asked, label: &str) -> Option<String> {
    let allowed: &[&str] = match label {
        "folder" => &["parent_path", "name"],
        "rename" => &["action", "file_ids[]", "folder_ids[]", "new_name"],
        "move" | "copy" => &["action", "file_ids[]", "folder_ids[]", "dest_path"],
        "delete" => &["action", "file_ids[]", "folder_ids[]"],
        "precreate" => &["parent_path", "name", "size", "md5", "content_type"],
        "token" => &[
            "grant_type",
            "refresh_token",
            "client_id",
            "client_secret",
            "code",
            "redirect_uri",
            "code_verifier",
        ],
        "device-code" => &["client_id", "scope"],
        "device-token" => &["device_code", "client_id"],
        "part" => return check_part(asked),
        _ => return (!asked.body.is_empty()).then(|| "a body where none belongs".to_owned()),
    };
    let kind = asked.header("content-type").unwrap_or_default();
    if kind != "application/x-www-form-urlencoded" {
        return Some(format!("the content type is {kind:?}"));
    }
    let form = asked.form();
    if let Some((key, _)) = form.0.iter().find(|(key, _)| !allowed.contains(&key.as_str())) {
        return Some(format!("unknown field {key}"));
    }
    let count = form.all("file_ids[]").len() + form.all("folder_ids[]").len();
    let given = |key: &str| form.one(key).is_some_and(|value| !value.is_empty());
    let problem = match label {
        "rename" if count != 1 || !given("new_name") => "rename takes one item and one name",
        "move" if count == 0 || !given("dest_path") => "move takes items and a place",
        "delete" if count == 0 => "delete takes items",
        "folder" if !given("name") => "no name",
        "precreate" => return check_precreate(&form),
        _ => return None,
    };
    Some(problem.to_owned())
}

fn check_precreate(form: &Form) -> Option<String> {
    let md5 = form.one("md5").unwrap_or_default();
    let is_md5 = md5.len() == 32 && md5.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let is_size = form.one("size").is_some_and(|size| size.parse::<u64>().is_ok());
    let has_name = form.one("name").is_some_and(|name| !name.is_empty() && !name.contains('/'));
    (!is_md5 || !is_size || !has_name).then(|| "name, size or md5 is not as documented".to_owned())
}

fn check_part(asked: &Asked) -> Option<String> {
    if asked.header("content-type") != Some("application/octet-stream") {
        return Some("a part is an octet stream".to_owned());
    }
    (asked.header("transfer-encoding").is_some() || asked.header("content-length").is_none())
        .then(|| "a part has a length".to_owned())
}

fn window(
    folders: Vec<Value>,
    files: Vec<Value>,
    page: usize,
    limit: usize,
    switches: &Switches,
) -> (Vec<Value>, Vec<Value>) {
    let counted = match switches.window {
        Window::FoldersThenFiles => folders.len() + files.len(),
        Window::FilesWithAllFolders | Window::FilesWithFoldersFirst => files.len(),
    };
    let pages = counted.div_ceil(limit).max(1);
    let page = match switches.beyond {
        Beyond::FirstPageAgain if page > pages => 1,
        Beyond::FirstPageAgain | Beyond::Nothing => page,
    };
    let cut = |all: Vec<Value>, from: usize, to: usize| -> Vec<Value> {
        let (from, to) = (from.min(all.len()), to.min(all.len()));
        all.get(from..to).unwrap_or_default().to_vec()
    };
    let (from, to) = ((page - 1) * limit, page * limit);
    match switches.window {
        Window::FoldersThenFiles => {
            let before = folders.len();
            let files = cut(files, from.saturating_sub(before), to.saturating_sub(before));
            (cut(folders, from, to), files)
        }
        Window::FilesWithAllFolders => (folders, cut(files, from, to)),
        Window::FilesWithFoldersFirst if page == 1 => (folders, cut(files, from, to)),
        Window::FilesWithFoldersFirst => (Vec::new(), cut(files, from, to)),
    }
}

fn signature(id: u64, ends_s: i64) -> String {
    Hasher::of(HashAlgo::Sha1, format!("s1gn {id} {ends_s}").as_bytes()).hex()
}

fn stringed(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Array(all) => Value::Array(all.into_iter().map(stringed).collect()),
        Value::Object(all) => all.into_iter().map(|(k, v)| (k, stringed(v))).collect(),
        other => other,
    }
}

// ---- the running service -------------------------------------------------------------------------

/// The service, running until it goes out of scope.
pub struct DiskTopCloud {
    state: Arc<Mutex<State>>,
    hosts: [String; 3],
    tasks: Vec<JoinHandle<()>>,
    /// State folders of clients, which end with the service.
    folders: Mutex<Vec<Arc<tempfile::TempDir>>>,
}

impl DiskTopCloud {
    pub async fn start(switches: Switches) -> DiskTopCloud {
        let mut listeners = Vec::new();
        for host in [Host::Api, Host::Upload, Host::Content] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            listeners.push((host, listener));
        }
        let address = |n: usize| {
            let at = listeners[n].1.local_addr().expect("a bound socket");
            format!("http://{at}")
        };
        let hosts = [address(0), address(1), address(2)];
        let state = Arc::new(Mutex::new(State {
            store: Store::new(),
            oauth: Oauth::default(),
            switches,
            script: Script::default(),
            counters: Counters::default(),
            violations: Vec::new(),
            sessions: BTreeMap::new(),
            frozen: None,
            hook: None,
            ahead_s: 0,
            dice: 0x9e37_79b9_7f4a_7c15,
            uid: 17,
            hosts: hosts.clone(),
        }));
        let tasks = listeners.into_iter().map(|(host, listener)| {
            let shared = (state.clone(), host);
            let app = Router::new().fallback(answer).with_state(shared);
            let service = app.into_make_service_with_connect_info::<Scissors>();
            tokio::spawn(async move {
                axum::serve(CuttableListener(listener), service).await.expect("serving");
            })
        });
        let tasks = tasks.collect();
        DiskTopCloud { state, hosts, tasks, folders: Mutex::default() }
    }

    pub fn base(&self) -> Url {
        Url::parse(&self.hosts[0]).expect("the emulator's own address")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counters(&self) -> Counters {
        self.state().counters.clone()
    }

    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.state().switches);
    }

    /// The next `times` requests of that label, after `skip` of them, go wrong.
    pub fn fault(&self, label: &str, skip: u32, times: u32, fault: Fault) {
        self.state().script.add(label, skip, times, fault);
    }

    pub fn end_faults(&self) {
        self.state().script.clear();
    }

    /// Called with the number and label of each request, before and after it takes effect.
    pub fn hook(&self, hook: impl Fn(u64, &str, Phase) + Send + Sync + 'static) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// Lets time pass for tokens, links and sessions.
    pub fn advance(&self, by: Duration) {
        self.state().ahead_s += i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    }

    /// The service's clock is the computer's again.
    pub fn be_on_time(&self) {
        self.state().ahead_s = 0;
    }

    pub fn expire_access(&self) {
        self.state().oauth.expire_access();
    }

    /// Everything uploaded but not completed is forgotten.
    pub fn drop_sessions(&self) {
        self.state().sessions.clear();
    }

    /// The service loses a part that it had accepted.
    pub fn lose_part(&self, seq: u64) {
        for session in self.state().sessions.values_mut() {
            session.parts.remove(&seq);
        }
    }

    pub fn open_sessions(&self) -> usize {
        self.state().sessions.values().filter(|session| session.done.is_none()).count()
    }

    /// Listings stay as they are now until `thaw`.
    pub fn freeze_listings(&self) {
        let mut state = self.state();
        state.frozen = Some(state.store.clone());
    }

    /// Listings are of an earlier moment until `thaw`.
    pub fn list_as_of(&self, earlier: Store) {
        self.state().frozen = Some(earlier);
    }

    pub fn thaw_listings(&self) {
        self.state().frozen = None;
    }

    pub fn switch_account(&self, uid: i64) {
        self.state().uid = uid;
    }

    /// A pair of tokens as a login would give it.
    pub fn issue_tokens(&self) -> Value {
        let mut state = self.state();
        let (now, switches) = (state.now_s(), state.switches.clone());
        state.oauth.issue(now, &switches)
    }

    /// Takes the violations out, for tests that provoke them.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.state().violations)
    }

    // ---- another client --------------------------------------------------------------------------

    fn parent_of(state: &mut State, path: &str) -> (u64, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut parent = ROOT;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let known =
                state.store.folders.iter().find(|(_, f)| f.parent == parent && f.name == part);
            parent = match known.map(|(id, _)| *id) {
                Some(id) => id,
                None => {
                    let plain =
                        Switches { same_name_mkdir: Meeting::Rejects, ..Switches::default() };
                    state.store.add_folder(parent, part, &plain).expect("a free name")
                }
            };
        }
        (parent, name.to_owned())
    }

    /// Makes a file, or gives one new content; folders above are made. Returns its id.
    pub fn write(&self, path: &str, content: impl Into<Bytes>) -> u64 {
        DiskTopCloud::put(&mut self.state(), path, content)
    }

    /// Gives a file a new content, or removes it, if it still is this one: no request comes between.
    pub fn write_over(&self, path: &str, old: &[u8], new: Option<Bytes>) -> bool {
        let mut state = self.state();
        let now = DiskTopCloud::content_of(&state, path);
        if now.is_none_or(|now| now != old) {
            return false;
        }
        match new {
            Some(new) => drop(DiskTopCloud::put(&mut state, path, new)),
            None => DiskTopCloud::take(&mut state, path),
        }
        true
    }

    fn put(state: &mut State, path: &str, content: impl Into<Bytes>) -> u64 {
        let (parent, name) = DiskTopCloud::parent_of(state, path);
        let md5 = state.store.put_blob(content.into());
        let kept = state.switches.replacing_keeps_id;
        let plain = Switches {
            same_name_upload: Meeting::Replaces,
            replacing_keeps_id: kept,
            ..Switches::default()
        };
        let id = state.store.add_file(parent, &name, &md5, &plain).expect("room for it");
        state.store.destroyed.clear();
        id
    }

    /// A second file of a name that may be taken.
    pub fn write_duplicate(&self, path: &str, content: impl Into<Bytes>) -> u64 {
        let mut state = self.state();
        let (parent, name) = DiskTopCloud::parent_of(&mut state, path);
        let md5 = state.store.put_blob(content.into());
        let plain = Switches { same_name_upload: Meeting::Duplicates, ..Switches::default() };
        state.store.add_file(parent, &name, &md5, &plain).expect("room for it")
    }

    pub fn mkdir(&self, path: &str) -> u64 {
        let mut state = self.state();
        let (parent, _) = DiskTopCloud::parent_of(&mut state, &format!("{path}/x"));
        parent
    }

    fn find_file(state: &State, path: &str) -> Option<u64> {
        let wanted = format!("/{path}");
        let mut files = state.store.files.iter();
        files.find(|(_, file)| state.store.path_of_file(file) == wanted).map(|(id, _)| *id)
    }

    pub fn file_id(&self, path: &str) -> Option<u64> {
        DiskTopCloud::find_file(&self.state(), path)
    }

    /// Moves or renames a file or folder. Panics if it is not there.
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.state();
        let (parent, name) = DiskTopCloud::parent_of(&mut state, to);
        let plain = Switches::default();
        if let Some(id) = DiskTopCloud::find_file(&state, from) {
            state.store.place_file(id, parent, &name, &plain).expect("a free name");
            return;
        }
        let id = state.store.folder_at(&format!("/{from}"), &plain).expect("something to rename");
        state.store.place_folder(id, parent, &name, &plain).expect("a free name");
    }

    pub fn remove(&self, path: &str) {
        DiskTopCloud::take(&mut self.state(), path);
    }

    fn take(state: &mut State, path: &str) {
        let switches = state.switches.clone();
        if let Some(id) = DiskTopCloud::find_file(state, path) {
            state.store.delete_file(id, &switches);
            return;
        }
        let plain = Switches::default();
        let id = state.store.folder_at(&format!("/{path}"), &plain).expect("something to remove");
        state.store.delete_folder(id);
        state.store.destroyed.clear();
    }

    pub fn read(&self, path: &str) -> Option<Bytes> {
        DiskTopCloud::content_of(&self.state(), path)
    }

    fn content_of(state: &State, path: &str) -> Option<Bytes> {
        let id = DiskTopCloud::find_file(state, path)?;
        let file = state.store.files.get(&id)?;
        state.store.blobs.get(&file.md5).cloned()
    }

    /// Everything, by path: the content of files, `None` for folders. Of files that share a path,
    /// each has an entry.
    pub fn tree(&self) -> Vec<(String, Option<Bytes>)> {
        let state = self.state();
        let folders = state.store.folders.keys().filter(|id| **id != ROOT);
        let folders = folders.map(|id| (state.store.path_of_folder(*id), None));
        let files = state.store.files.values().map(|file| {
            (state.store.path_of_file(file), state.store.blobs.get(&file.md5).cloned())
        });
        let mut all: Vec<_> = folders.chain(files).collect();
        all.sort();
        all
    }
}

impl Drop for DiskTopCloud {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        let violations = self.take_violations();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the document does not allow: {violations:?}");
        }
    }
}

/// Serves one request, with whatever the script has in store for it.
async fn answer(
    Shared((state, host)): Shared<(Arc<Mutex<State>>, Host)>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response<Body> {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 31).await else {
        // The client went away before its request was complete: nothing is done.
        scissors.cut();
        return Response::new(Body::empty());
    };
    let asked = Asked::new(host, head.method, &head.uri, head.headers, body);
    let label = asked.label();
    let (number, fault, hook) = {
        let mut state = lock();
        state.counters.requests += 1;
        *state.counters.by_label.entry(label.clone()).or_default() += 1;
        state.counters.bytes_up += if label == "part" { asked.body.len() as u64 } else { 0 };
        (state.counters.requests, state.script.next(&label), state.hook.clone())
    };
    if let Some(hook) = &hook {
        hook(number, &label, Phase::Before);
    }
    let mut reply = befall(&state, &asked, &label, fault, &scissors).await;
    let now = jiff::Timestamp::from_second(lock().now_s()).expect("a date of this era");
    let date = jiff::fmt::rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC));
    let date = date.expect("a date of this era").parse().expect("plain text");
    reply.headers_mut().insert("date", date);
    if let Some(hook) = &hook {
        hook(number, &label, Phase::After);
    }
    reply
}

async fn befall(
    state: &Arc<Mutex<State>>,
    asked: &Asked,
    label: &str,
    fault: Option<Fault>,
    scissors: &Scissors,
) -> Response<Body> {
    let serve = || {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = state.serve(asked);
        state.counters.mutating += u64::from(mutates(label, &reply));
        if label == "content" {
            state.counters.bytes_down += reply.body.len() as u64;
        }
        reply
    };
    let canned =
        |status: u16, body: String| Reply { status, headers: Vec::new(), body: Bytes::from(body) };
    match fault {
        None => serve().into_response(),
        Some(Fault::Delay(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            serve().into_response()
        }
        Some(Fault::Refuse { status, body }) => canned(status, body).into_response(),
        Some(Fault::RefuseWith { status, header, body }) => {
            Reply { headers: vec![header], ..canned(status, body) }.into_response()
        }
        Some(Fault::Pretend { status, body }) => {
            serve();
            canned(status, body).into_response()
        }
        Some(Fault::Drop) => {
            scissors.cut();
            Response::new(Body::empty())
        }
        Some(Fault::LoseReply) => {
            serve();
            scissors.cut();
            Response::new(Body::empty())
        }
        Some(Fault::CutBody(after)) => {
            let reply = serve();
            if label == "content" {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.counters.bytes_down -= reply.body.len().saturating_sub(after) as u64;
            }
            cut_body(reply, after)
        }
        Some(Fault::FlipBit) => {
            let mut reply = serve();
            let mut bytes = reply.body.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            reply.body = Bytes::from(bytes);
            reply.into_response()
        }
        Some(Fault::IgnoreRange) => {
            let headers = HeaderMap::new();
            let (path, query) = (asked.path.clone(), asked.query.clone());
            let (method, body) = (asked.method.clone(), Bytes::new());
            let whole = Asked { host: asked.host, method, path, query, headers, body };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.serve(&whole).into_response()
        }
    }
}

/// Announces the whole body, sends a part of it, and closes the connection.
fn cut_body(reply: Reply, after: usize) -> Response<Body> {
    let sent = reply.body.slice(..after.min(reply.body.len()));
    let length = reply.body.len();
    let first = futures_util::stream::once(async { Ok(sent) });
    let cut = futures_util::stream::once(async {
        // What was written so far leaves the process first.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    let mut response = Response::builder()
        .status(StatusCode::from_u16(reply.status).expect("the emulator's own status"))
        .header("content-length", length);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response
        .body(Body::from_stream(first.chain(cut)))
        .expect("the emulator's own headers are valid")
}
