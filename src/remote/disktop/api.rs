//! The document of Disk.Top's open platform, call by call: what is asked, and what may be answered.
//!
//! Sections are numbered in the order of the document's pages and headings (`shared/apis`): 2 OAuth,
//! 3 authorization code, 4 device code, 6 user, 7 files, 8 shares. No decisions are taken here.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::remote::auth::{Login, OAuthApp};
use crate::remote::http::wire::{Code, Flag, Int, Text};
use crate::remote::http::{Answer, Call, Field, Http, Secret, Send, SignedUrl, kind_of_status};
use crate::remote::{Body, ErrorKind, RemoteError, Result};

/// Most entries of a page (7.1).
pub const PAGE_MAX: u32 = 200;

// ---- requests ------------------------------------------------------------------------------------

/// Builds the requests of sections 6 and 7. Credentials are added where they are sent.
#[derive(Clone, Debug)]
pub struct Requests {
    base: Url,
}

/// An item as `manage` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    File(u64),
    Folder(u64),
}

/// What `manage` does to it (7.7).
#[derive(Clone, Debug)]
pub enum Change<'a> {
    Rename { new_name: &'a str },
    Move { dest_path: &'a str },
    Delete,
}

/// What is declared about a file before its bytes are sent (7.8).
#[derive(Clone, Debug)]
pub struct Declared<'a> {
    pub parent_path: &'a str,
    pub name: &'a str,
    pub size: u64,
    /// Lower-case hexadecimal.
    pub md5: &'a str,
}

fn plain(text: impl ToString) -> Field {
    Field::Plain(text.to_string())
}

/// `base` with a path behind it, whether or not it ends in a slash.
fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let whole = format!("{}{path}", base.path().trim_end_matches('/'));
    url.set_path(&whole);
    url
}

impl Requests {
    pub fn new(base: Url) -> Requests {
        Requests { base }
    }

    fn get(&self, what: impl Into<String>, path: &str) -> Call {
        Call::get(what, under(&self.base, path))
    }

    fn post(&self, what: impl Into<String>, path: &str) -> Call {
        Call::post(what, under(&self.base, path))
    }

    /// 6.1 用户基础信息
    pub fn user_info(&self) -> Call {
        self.get("look the account up", "/v1/user/info")
    }

    /// 6.2 容量相关
    pub fn quota(&self) -> Call {
        self.get("ask for the quota", "/v1/user/quota")
    }

    /// 7.1 列目录
    pub fn list(&self, path: &str, page: u32, limit: u32) -> Call {
        let mut call = self.get(format!("list folder {path}"), "/v1/files");
        call.url
            .query_pairs_mut()
            .append_pair("path", path)
            .append_pair("page", &page.to_string())
            .append_pair("limit", &limit.to_string());
        call
    }

    /// 7.2 搜索文件
    pub fn search(&self, text: &str) -> Call {
        let mut call = self.get(format!("search for {text}"), "/v1/files/search");
        call.url.query_pairs_mut().append_pair("q", text);
        call
    }

    /// 7.3 文件元信息
    pub fn meta(&self, id: u64) -> Call {
        self.get(format!("look file {id} up"), &format!("/v1/files/{id}"))
    }

    /// 7.4 文件下载
    pub fn download(&self, id: u64) -> Call {
        self.get(format!("ask for a link to file {id}"), &format!("/v1/files/{id}/download"))
    }

    /// 7.6 新建文件夹
    pub fn create_folder(&self, parent_path: &str, name: &str) -> Call {
        let form = vec![("parent_path", plain(parent_path)), ("name", plain(name))];
        self.post(format!("create folder {name} in {parent_path}"), "/v1/files/folder").form(form)
    }

    /// 7.7 重命名 / 移动 / 删除
    pub fn manage(&self, change: &Change<'_>, targets: &[Target]) -> Call {
        let (action, argument) = match change {
            Change::Rename { new_name } => ("rename", Some(("new_name", plain(new_name)))),
            Change::Move { dest_path } => ("move", Some(("dest_path", plain(dest_path)))),
            Change::Delete => ("delete", None),
        };
        let mut form = vec![("action", plain(action))];
        for target in targets {
            form.push(match target {
                Target::File(id) => ("file_ids[]", plain(id)),
                Target::Folder(id) => ("folder_ids[]", plain(id)),
            });
        }
        form.extend(argument);
        self.post(format!("{action} {targets:?}"), "/v1/files/manage").form(form)
    }

    /// 7.8 上传:precreate
    pub fn precreate(&self, file: &Declared<'_>) -> Call {
        let form = vec![
            ("parent_path", plain(file.parent_path)),
            ("name", plain(file.name)),
            ("size", plain(file.size)),
            ("md5", plain(file.md5)),
            ("content_type", plain("application/octet-stream")),
        ];
        let what = format!("begin the upload of {} to {}", file.name, file.parent_path);
        self.post(what, "/v1/files/upload/precreate").form(form)
    }

    // The next four go to the endpoint that `precreate` named; the upload's id is the credential.

    /// 7.9 上传:chunk
    pub fn part_url(endpoint: &Url, upload_id: &str, part_seq: u32) -> SignedUrl {
        let mut url = under(endpoint, "/u");
        url.query_pairs_mut()
            .append_pair("upload_id", upload_id)
            .append_pair("part_seq", &part_seq.to_string());
        SignedUrl::new(url)
    }

    /// 7.10 上传:查进度 / 已传分块
    pub fn parts(endpoint: &Url, upload_id: &str) -> Call {
        Call::get("ask which parts arrived", session_url(endpoint, upload_id, "parts"))
    }

    /// 7.11 上传:complete
    pub fn complete(endpoint: &Url, upload_id: &str) -> Call {
        // The service puts the parts together before it answers.
        Call::post("complete the upload", session_url(endpoint, upload_id, "complete"))
            .within(Duration::from_secs(600))
    }

    /// 7.12 上传:abort
    pub fn abort(endpoint: &Url, upload_id: &str) -> Call {
        let url = session_url(endpoint, upload_id, "abort");
        Call::post("cancel the upload", url).repeatable()
    }
}

fn session_url(endpoint: &Url, upload_id: &str, verb: &str) -> Url {
    let mut url = under(endpoint, "/u");
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(upload_id).push(verb);
    }
    url
}

/// 2, 3 and 4: where logins happen. The scope is the sandbox.
pub fn oauth_app(base: &Url, client_id: &str, client_secret: Option<Secret>) -> OAuthApp {
    OAuthApp {
        authorize: under(base, "/oauth/authorize"),
        token: under(base, "/oauth/token"),
        device_code: under(base, "/oauth/device-code"),
        device_token: under(base, "/oauth/device-token"),
        client_id: client_id.to_owned(),
        client_secret,
        scope: "user.read files.app_data".to_owned(),
    }
}

// ---- answers -------------------------------------------------------------------------------------

/// 6.1
#[derive(Clone, Debug, Deserialize)]
pub struct UserInfo {
    pub uid: Int,
    pub oauth: Option<UserOAuth>,
}

/// 6.1, `data.oauth`
#[derive(Clone, Debug, Deserialize)]
pub struct UserOAuth {
    pub client_id: Option<Text>,
}

/// 6.2
#[derive(Clone, Debug, Deserialize)]
pub struct QuotaData {
    pub total_bytes: Option<Int>,
    pub used_bytes: Option<Int>,
}

/// 7.1, one page. A list that is absent is told from an empty one.
#[derive(Clone, Debug, Deserialize)]
pub struct FolderPage {
    pub folders: Option<Vec<serde_json::Value>>,
    pub files: Option<Vec<serde_json::Value>>,
    pub total: Option<Int>,
}

/// 7.1, `data.folders[]`
#[derive(Clone, Debug, Deserialize)]
pub struct FolderRow {
    pub id: Int,
    pub name: Text,
}

/// 7.1 and 7.2, `data.files[]`
#[derive(Clone, Debug, Deserialize)]
pub struct FileRow {
    pub id: Int,
    pub name: Text,
    pub size: Int,
    pub md5: Option<Text>,
}

/// 7.2
#[derive(Clone, Debug, Deserialize)]
pub struct SearchData {
    pub files: Vec<serde_json::Value>,
}

/// 7.3
#[derive(Clone, Debug, Deserialize)]
pub struct FileMeta {
    pub id: Int,
    pub name: Text,
    pub size: Int,
    pub md5: Option<Text>,
    /// Absolute: the sandbox's own path is in front.
    pub path: Option<Text>,
}

/// 7.4
#[derive(Deserialize)]
pub struct DownloadLink {
    pub url: String,
    pub size: Option<Int>,
    pub md5: Option<Text>,
}

/// 7.6
#[derive(Clone, Debug, Deserialize)]
pub struct FolderCreated {
    pub folder_id: Int,
    pub name: Option<Text>,
    pub path: Option<Text>,
}

/// 7.7
#[derive(Clone, Debug, Deserialize)]
pub struct Managed {
    pub affected: Option<Int>,
}

/// 7.8: which of the fields are there depends on `instant_upload`.
#[derive(Clone, Deserialize)]
pub struct Precreated {
    pub instant_upload: Flag,
    pub file_id: Option<Int>,
    pub upload_id: Option<Text>,
    pub endpoint: Option<String>,
    pub chunk_size: Option<Int>,
    pub total_parts: Option<Int>,
    pub expires_in: Option<Int>,
}

/// 7.9. `received_parts` is a number here and a list in 7.10.
#[derive(Clone, Debug, Deserialize)]
pub struct PartReceived {
    pub part_seq: Option<Int>,
    pub size: Option<Int>,
}

/// 7.10
#[derive(Clone, Debug, Deserialize)]
pub struct PartsData {
    pub received_parts: Vec<Int>,
    #[serde(default)]
    pub parts: serde_json::Value,
}

/// 7.10, `data.parts.*`
#[derive(Clone, Debug, Deserialize)]
pub struct PartRow {
    pub size: Option<Int>,
}

impl PartsData {
    /// The size that the service has of a part, where it says so.
    pub fn size_of(&self, part_seq: u32) -> Option<u64> {
        let row = self.parts.get(part_seq.to_string())?;
        PartRow::deserialize(row).ok()?.size?.unsigned()
    }
}

/// 7.11
#[derive(Clone, Debug, Deserialize)]
pub struct Completed {
    pub file_id: Int,
    pub path: Option<Text>,
    pub size: Option<Int>,
    pub md5: Option<Text>,
}

// ---- the envelope --------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Envelope<'a> {
    errno: Code,
    errmsg: Option<Text>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Reads `{errno, errmsg, data}`. Success is an explicit zero with the data that belongs to the call.
pub fn read<T: for<'de> Deserialize<'de>>(answer: &Answer<'_>) -> Result<T> {
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&answer.body) else {
        return Err(unreadable(answer));
    };
    if !envelope.errno.is_zero() {
        return Err(complaint(answer, &envelope));
    }
    if !answer.is_success() {
        return Err(answer.refusal());
    }
    let data = envelope.data.map_or("null", RawValue::get);
    if !data.starts_with('{') {
        // A list would be taken for an object whose fields come in order.
        return Err(answer.error(ErrorKind::Protocol, "answered without data"));
    }
    serde_json::from_str(data).map_err(|error| {
        answer.error(ErrorKind::Protocol, &format!("answered with other data: {error}"))
    })
}

/// An answer that is not from the service's API at all. That something is "not found" is only
/// believed from the service itself: a proxy says that about everything.
fn unreadable(answer: &Answer<'_>) -> RemoteError {
    match kind_of_status(answer.status) {
        ErrorKind::NotFound => answer.error(ErrorKind::Unavailable, "answered by somebody else"),
        _ if answer.is_success() => match answer.json::<serde_json::Value>() {
            Ok(_) => answer.error(ErrorKind::Protocol, "answered without an error code"),
            Err(error) => error,
        },
        _ => answer.refusal(),
    }
}

fn complaint(answer: &Answer<'_>, envelope: &Envelope<'_>) -> RemoteError {
    let message = envelope.errmsg.as_ref().map_or("", |Text(text)| text.as_str());
    let kind =
        kind_of_errno(&envelope.errno, message).unwrap_or_else(|| kind_of_status(answer.status));
    answer.error(kind, &format!("{} {message}", envelope.errno))
}

/// The document has no table of error codes: numbers are taken for HTTP statuses where they look
/// like ones, and words for what they say. `None`: nobody knows.
fn kind_of_errno(errno: &Code, message: &str) -> Option<ErrorKind> {
    if let Code::Number(number @ 400..=599) = errno
        && let Ok(status) = u16::try_from(*number)
        && kind_of_status(status) != ErrorKind::Protocol
    {
        return Some(kind_of_status(status));
    }
    /// In order: "not exist" must come before "exist", "quota expired" is about the quota.
    const WORDS: &[(ErrorKind, &[&str])] = &[
        (ErrorKind::NotFound, &["not found", "not exist", "no such", "不存在", "已删除"]),
        (ErrorKind::QuotaFull, &["quota", "no space", "out of space", "空间不足", "容量不足"]),
        (ErrorKind::RateLimited, &["rate limit", "too many", "too frequent", "频繁"]),
        (ErrorKind::AlreadyExists, &["exist", "duplicate", "同名"]),
        (ErrorKind::TooLarge, &["too large", "too big", "过大"]),
        (ErrorKind::AuthExpired, &["token", "unauthorized", "expired", "未授权", "登录"]),
        (ErrorKind::Forbidden, &["forbidden", "denied", "permission", "scope", "无权"]),
        (ErrorKind::InvalidName, &["invalid name", "illegal name", "file name", "文件名"]),
        (ErrorKind::Unavailable, &["incomplete", "internal", "busy", "繁忙"]),
    ];
    let text = format!("{errno} {message}").to_lowercase().replace('_', " ");
    let hit = WORDS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
    hit.map(|(kind, _)| *kind)
}

/// As `read`, for the upload endpoint: what has expired there is the session, not the login.
pub fn read_session<T: for<'de> Deserialize<'de>>(answer: &Answer<'_>) -> Result<T> {
    read(answer).map_err(|mut error| {
        if error.kind == ErrorKind::AuthExpired {
            error.kind = ErrorKind::NotFound;
        }
        error
    })
}

/// As `read_session`. "Incomplete" (425) is a plain no: nothing was made of the parts.
pub fn read_completion(answer: &Answer<'_>) -> Result<Completed> {
    read_session(answer).map_err(|error| {
        let envelope = serde_json::from_slice::<Envelope<'_>>(&answer.body).ok();
        let number = envelope.map(|envelope| envelope.errno);
        if answer.status == 425 || number == Some(Code::Number(425)) {
            return RemoteError::new(ErrorKind::Changed, error.context);
        }
        error
    })
}

// ---- the calls -----------------------------------------------------------------------------------

/// Sends the requests: with the login to the API, without it to the other hosts.
#[derive(Clone)]
pub struct Api {
    http: Http,
    login: Login,
    requests: Requests,
}

impl Api {
    pub fn new(http: Http, login: Login) -> Api {
        let requests = Requests::new(http.origins().api().clone());
        Api { http, login, requests }
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    /// With a fresh token once more, if the first one was refused; and with another, because a token
    /// can end in the moment after it was renewed.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, call: Call) -> Result<T> {
        const RENEWALS_MAX: usize = 2;
        let mut token = self.login.token().await?;
        for _ in 0..RENEWALS_MAX {
            match self.http.call(&call.clone().bearer(&token), read::<T>).await {
                Err(refused) if refused.kind == ErrorKind::AuthExpired => {
                    tracing::debug!(reason = %refused, "token refused");
                    token = self.login.renew(&token).await?;
                }
                other => return other,
            }
        }
        let again = self.http.call(&call.bearer(&token), read::<T>).await;
        if let Err(error) = &again
            && error.kind == ErrorKind::AuthExpired
        {
            self.login.end(&error.context);
        }
        again
    }

    /// Counts every request of the account's client.
    pub fn requests_sent(&self) -> u64 {
        self.http.requests()
    }

    pub async fn user_info(&self) -> Result<UserInfo> {
        self.ask(self.requests.user_info()).await
    }

    pub async fn quota(&self) -> Result<QuotaData> {
        self.ask(self.requests.quota()).await
    }

    pub async fn list(&self, path: &str, page: u32, limit: u32) -> Result<FolderPage> {
        self.ask(self.requests.list(path, page, limit)).await
    }

    pub async fn search(&self, text: &str) -> Result<SearchData> {
        self.ask(self.requests.search(text)).await
    }

    pub async fn meta(&self, id: u64) -> Result<FileMeta> {
        self.ask(self.requests.meta(id)).await
    }

    pub async fn download(&self, id: u64) -> Result<DownloadLink> {
        self.ask(self.requests.download(id)).await
    }

    pub async fn create_folder(&self, parent_path: &str, name: &str) -> Result<FolderCreated> {
        self.ask(self.requests.create_folder(parent_path, name)).await
    }

    pub async fn manage(&self, change: &Change<'_>, targets: &[Target]) -> Result<Managed> {
        self.ask(self.requests.manage(change, targets)).await
    }

    pub async fn precreate(&self, file: &Declared<'_>) -> Result<Precreated> {
        self.ask(self.requests.precreate(file)).await
    }

    pub async fn send_part(
        &self,
        endpoint: &Url,
        upload_id: &str,
        part_seq: u32,
        len: u64,
        body: Body,
    ) -> Result<PartReceived> {
        let send = Send {
            what: format!("send part {part_seq}"),
            url: Requests::part_url(endpoint, upload_id, part_seq),
            body,
            len,
            bearer: None,
        };
        self.http.send(send, read_session).await
    }

    pub async fn parts(&self, endpoint: &Url, upload_id: &str) -> Result<PartsData> {
        self.http.call(&Requests::parts(endpoint, upload_id), read_session).await
    }

    pub async fn complete(&self, endpoint: &Url, upload_id: &str) -> Result<Completed> {
        self.http.call(&Requests::complete(endpoint, upload_id), read_completion).await
    }

    pub async fn abort(&self, endpoint: &Url, upload_id: &str) -> Result<()> {
        let call = Requests::abort(endpoint, upload_id);
        self.http.call(&call, read_session::<serde_json::Value>).await.map(|_| ())
    }
}

/// The method of a part's request, for the golden tests.
pub const PART_METHOD: Method = Method::POST;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, body: &str) -> Result<Managed> {
        let call = Call::post("delete", Url::parse("https://openapi.disk.top/").unwrap());
        read(&Answer::of(&call, status, body))
    }

    // AU-07, RM-06
    #[test]
    fn only_an_explicit_zero_with_data_is_success() {
        assert!(judge(200, r#"{"errno":0,"data":{"affected":2}}"#).is_ok());
        assert!(judge(200, r#"{"errno":"0","errmsg":"ok","data":{"affected":"2"}}"#).is_ok());
        for body in [
            "{}",
            "null",
            "[]",
            "",
            "0",
            r#"{"data":{"affected":2}}"#,
            r#"{"errno":0}"#,
            r#"{"errno":null,"data":{}}"#,
            r#"{"errno":0,"data":[1]}"#,
            r#"{"errno":0,"data":{"affected":2}"#,
            r#"{"errno":500,"data":{"affected":2}}"#,
            r#"{"errno":-7,"data":{"affected":2}}"#,
        ] {
            assert!(judge(200, body).is_err(), "{body}");
        }
        assert!(judge(500, r#"{"errno":0,"data":{"affected":2}}"#).is_err());
    }

    #[test]
    fn codes_as_numbers_and_as_words_mean_the_same_with_any_status() {
        for (body, kind) in [
            (r#"{"errno":401,"errmsg":"unauthorized"}"#, ErrorKind::AuthExpired),
            (r#"{"errno":"invalid_token"}"#, ErrorKind::AuthExpired),
            (r#"{"errno":1001,"errmsg":"access_token expired"}"#, ErrorKind::AuthExpired),
            (r#"{"errno":"file_not_found"}"#, ErrorKind::NotFound),
            (r#"{"errno":7,"errmsg":"folder does not exist"}"#, ErrorKind::NotFound),
            (r#"{"errno":7,"errmsg":"文件不存在"}"#, ErrorKind::NotFound),
            (r#"{"errno":"already_exists"}"#, ErrorKind::AlreadyExists),
            (r#"{"errno":9,"errmsg":"quota exceeded"}"#, ErrorKind::QuotaFull),
            (r#"{"errno":429}"#, ErrorKind::RateLimited),
            (r#"{"errno":"scope_required"}"#, ErrorKind::Forbidden),
            (r#"{"errno":502,"errmsg":"complete failed"}"#, ErrorKind::Unavailable),
            (r#"{"errno":425,"errmsg":"incomplete: 3/4"}"#, ErrorKind::Unavailable),
        ] {
            for status in [200, 400] {
                assert_eq!(judge(status, body).unwrap_err().kind, kind, "{status} {body}");
            }
        }
    }

    // AU-22: an unknown answer to a change tells nothing about what it did.
    #[test]
    fn an_unknown_code_is_no_answer() {
        let error = judge(200, r#"{"errno":31415,"errmsg":"神秘"}"#).unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::Protocol, crate::remote::Effect::Unknown)
        );
        assert!(error.context.contains("31415"));
    }

    // RM-04: a proxy's 404 must not delete anything.
    #[test]
    fn only_the_service_itself_can_say_that_something_is_gone() {
        for body in ["", "<html>404</html>", "not found", r#"{"message":"no route"}"#] {
            assert_eq!(judge(404, body).unwrap_err().kind, ErrorKind::Unavailable, "{body}");
        }
        assert_eq!(judge(404, r#"{"errno":404}"#).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(judge(404, r#"{"errno":8}"#).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn an_expired_session_is_not_an_expired_login() {
        let call = Call::post("part", Url::parse("https://openapi-upload.disk.top/").unwrap());
        let answer = Answer::of(&call, 200, r#"{"errno":"session_expired"}"#);
        assert_eq!(read_session::<Managed>(&answer).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_base_with_a_path_keeps_it() {
        let requests = Requests::new(Url::parse("https://gate.example/top/").unwrap());
        assert_eq!(requests.meta(7).url.as_str(), "https://gate.example/top/v1/files/7");
    }
}
