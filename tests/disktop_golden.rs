//! The examples of Disk.Top's document, one file each: our requests are those, our parser reads
//! those, and the emulator takes and gives the same.
//!
//! A request file has the method and path, then the parameters of the example; `?name` is a
//! parameter that the document allows besides, `*` a value that differs every time. Videos, shares
//! and `copy` are not used and have no files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod emulators;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Uri};
use emulators::disktop::{DiskTopCloud, Switches};
use foldsync::clock::SystemClock;
use foldsync::remote::auth::{Prompt, browser_login, device_login};
use foldsync::remote::disktop::api::{self, Change, Declared, Requests, Target};
use foldsync::remote::http::{Answer, Call, Field, Http, Origins, Secret, Settings};
use foldsync::remote::{ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

fn golden(file: &str) -> String {
    let path = format!("{}/tests/golden/disktop/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A request, as the document or our client has it.
#[derive(Debug, Default, PartialEq)]
struct Example {
    method: String,
    path: String,
    /// In order, with repetitions.
    parameters: Vec<(String, String)>,
    allowed: BTreeSet<String>,
}

fn request(name: &str) -> Example {
    let text = golden(&format!("{name}.request"));
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
    let mut example = Example { method: method.into(), path: path.into(), ..Example::default() };
    for line in lines {
        if let Some(allowed) = line.strip_prefix('?') {
            example.allowed.insert(allowed.into());
        } else {
            let (key, value) = line.split_once('=').unwrap();
            example.parameters.push((key.into(), value.into()));
        }
    }
    example
}

fn sent(method: &Method, url: &Url, body: &[(String, String)]) -> Example {
    let decode = |text: &str| {
        let pair = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(pair.as_bytes()).next().unwrap().1.into_owned()
    };
    let query = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned()));
    Example {
        method: method.to_string(),
        path: decode(url.path()),
        parameters: query.chain(body.iter().cloned()).collect(),
        allowed: BTreeSet::new(),
    }
}

fn built(call: &Call) -> Example {
    let reveal = |field: &Field| match field {
        Field::Plain(text) => text.clone(),
        Field::Secret(secret) => secret.reveal().to_owned(),
    };
    let form = call.form.iter().flatten().map(|(key, field)| ((*key).to_owned(), reveal(field)));
    sent(&call.method, &call.url, &form.collect::<Vec<_>>())
}

/// Everything of the example is there, and nothing that the document does not know.
fn assert_sent(ours: &Example, name: &str) {
    let documented = request(name);
    assert_eq!((&ours.method, &ours.path), (&documented.method, &documented.path), "{name}");
    let mut left = ours.parameters.clone();
    for (key, value) in &documented.parameters {
        let at = left.iter().position(|(k, v)| k == key && (v == value || value == "*"));
        let at = at.unwrap_or_else(|| panic!("{name}: {key}={value} is missing in {ours:?}"));
        left.remove(at);
    }
    for (key, _) in left {
        assert!(documented.allowed.contains(&key), "{name}: {key} is not in the document");
    }
}

fn requests() -> Requests {
    Requests::new(Url::parse("https://openapi.disk.top").unwrap())
}

fn movie() -> Declared<'static> {
    let md5 = "5eb63bbbe01eeed093cb22bb8f5acdc3";
    Declared { parent_path: "/", name: "movie.mp4", size: 104_857_600, md5 }
}

#[test]
fn our_requests_are_those_of_the_document() {
    let requests = requests();
    let endpoint = Url::parse("https://openapi-upload.disk.top").unwrap();
    let rename = Change::Rename { new_name: "updated.md" };
    let both = [Target::File(7280), Target::File(7281)];
    for (name, call) in [
        ("6.1-user-info", requests.user_info()),
        ("6.2-quota", requests.quota()),
        ("7.1-list", requests.list("/", 1, 20)),
        ("7.2-search", requests.search("chat")),
        ("7.3-meta", requests.meta(7280)),
        ("7.4-download", requests.download(7280)),
        ("7.6-folder", requests.create_folder("/", "Photos")),
        ("7.7-manage-delete", requests.manage(&Change::Delete, &both)),
        ("7.7-manage-rename", requests.manage(&rename, &both[..1])),
        ("7.8-precreate", requests.precreate(&movie())),
        ("7.10-parts", Requests::parts(&endpoint, "a747...")),
        ("7.11-complete", Requests::complete(&endpoint, "a747...")),
        ("7.12-abort", Requests::abort(&endpoint, "a747...")),
    ] {
        assert_sent(&built(&call), name);
    }
    let part = Requests::part_url(&endpoint, "a747...", 1);
    assert_sent(&sent(&api::PART_METHOD, part.reveal(), &[]), "7.9-part");
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> Result<T> {
    let call = requests().user_info();
    api::read(&Answer::of(&call, 200, &golden(&format!("{name}.response"))))
}

#[test]
fn our_parser_reads_the_answers_of_the_document() {
    let user: api::UserInfo = read("6.1-user-info").unwrap();
    assert_eq!(user.uid.0, 17);
    assert_eq!(user.oauth.unwrap().client_id.unwrap().0, "your_client_id");
    let quota: api::QuotaData = read("6.2-quota").unwrap();
    assert_eq!(quota.used_bytes.unwrap().0, 33_691_310_918);
    assert_eq!(quota.total_bytes.unwrap().0, 1_610_612_736_000);
    let page: api::FolderPage = read("7.1-list").unwrap();
    let folder = api::FolderRow::deserialize(&page.folders.unwrap()[0]).unwrap();
    assert_eq!((folder.id.0, folder.name.0.as_str()), (5911, "GPTGet"));
    let file = api::FileRow::deserialize(&page.files.unwrap()[0]).unwrap();
    assert_eq!((file.id.0, file.size.0, file.name.0.as_str()), (7280, 1024, "chat-1.md"));
    assert_eq!(page.total.unwrap().0, 2);
    let found: api::SearchData = read("7.2-search").unwrap();
    assert_eq!(api::FileRow::deserialize(&found.files[0]).unwrap().name.0, "chat-573.md");
    let meta: api::FileMeta = read("7.3-meta").unwrap();
    assert_eq!(meta.path.unwrap().0, "/我的应用数据/GPTGet/chat-573.md");
    let link: api::DownloadLink = read("7.4-download").unwrap();
    assert_eq!(link.url, "https://dl.disk-api.com/abc/file.mp4?sig=...&exp=...");
    assert_eq!(link.size.unwrap().0, 8_388_608);
    let made: api::FolderCreated = read("7.6-folder").unwrap();
    assert_eq!((made.folder_id.0, made.name.unwrap().0.as_str()), (5920, "Photos"));
    let managed: api::Managed = read("7.7-manage-delete").unwrap();
    assert_eq!(managed.affected.unwrap().0, 2);
}

#[test]
fn our_parser_reads_the_upload_answers_of_the_document() {
    let session: api::Precreated = read("7.8-precreate").unwrap();
    assert!(!session.instant_upload.0);
    assert_eq!(session.upload_id.unwrap().0, "a747204b5517044b304fe07b649c6bdc");
    assert_eq!(session.chunk_size.unwrap().0, 5_242_880);
    assert_eq!(session.total_parts.unwrap().0, 20);
    assert_eq!(session.endpoint.unwrap(), "https://openapi-upload.disk.top");
    let instant: api::Precreated = read("7.8-precreate-instant").unwrap();
    assert!(instant.instant_upload.0);
    assert_eq!(instant.file_id.unwrap().0, 7266);
    let part: api::PartReceived = read("7.9-part").unwrap();
    assert_eq!((part.part_seq.unwrap().0, part.size.unwrap().0), (1, 5_242_880));
    let parts: api::PartsData = read("7.10-parts").unwrap();
    let seqs: Vec<i64> = parts.received_parts.iter().map(|seq| seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 5, 6, 7]);
    assert_eq!((parts.size_of(1), parts.size_of(2)), (Some(5_242_880), None));
    let done: api::Completed = read("7.11-complete").unwrap();
    assert_eq!((done.file_id.0, done.size.unwrap().0), (7280, 104_857_600));
    assert_eq!(done.md5.unwrap().0, movie().md5);
    assert!(read::<Value>("7.12-abort").is_ok());
}

// ---- the emulator ------------------------------------------------------------------------------

/// The names of all fields, at every depth; of lists, those of the first element.
fn shape(value: &Value, at: &str, into: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    into.insert(at.to_owned(), kind);
    match value {
        Value::Object(fields) => {
            // The rows of `parts` are named by number, and the text has an ellipsis among them.
            let numbered = fields.keys().all(|key| key.parse::<u32>().is_ok() || key == "...");
            for (key, value) in fields.iter().filter(|(key, _)| *key != "...") {
                let key = if numbered { "#" } else { key };
                shape(value, &format!("{at}/{key}"), into);
            }
        }
        Value::Array(items) => {
            if let Some(first) = items.first() {
                shape(first, &format!("{at}/#"), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shape_of(text: &str) -> BTreeMap<String, &'static str> {
    let mut value: Value = serde_json::from_str(text).unwrap();
    // Examples leave it out now and then.
    if let Some(envelope) = value.as_object_mut() {
        envelope.remove("errmsg");
    }
    let mut shapes = BTreeMap::new();
    shape(&value, "", &mut shapes);
    shapes
}

async fn ask(base: &str, token: Option<&str>, example: &Example, body: Option<Bytes>) -> String {
    let mut url = Url::parse(base).unwrap().join(&example.path).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let is_form = example.method == "POST" && body.is_none() && !example.parameters.is_empty();
    if !is_form && !example.parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(&example.parameters);
    }
    let mut request = client.request(example.method.parse().unwrap(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if is_form {
        request = request.form(&example.parameters);
    } else if let Some(body) = body {
        request = request.header("content-type", "application/octet-stream").body(body);
    }
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn the_emulator_takes_the_requests_and_gives_the_answers_of_the_document() {
    let switches = Switches { chunk_bytes: 5_242_880, ..Switches::default() };
    let cloud = DiskTopCloud::start(switches).await;
    // The examples' file has the examples' id.
    let id = cloud.write("chat-1.md", vec![b'x'; 1024]);
    cloud.mkdir("GPTGet");
    let tokens = cloud.issue_tokens();
    let token = tokens["access_token"].as_str().unwrap();
    let base = cloud.base().to_string();
    let with_id = |name: &str| {
        let mut example = request(name);
        example.path = example.path.replace("7280", &id.to_string());
        for (_, value) in &mut example.parameters {
            *value = value.replace("7280", &id.to_string());
        }
        example
    };
    for name in [
        "6.1-user-info",
        "6.2-quota",
        "7.1-list",
        "7.2-search",
        "7.3-meta",
        "7.4-download",
        "7.6-folder",
        "7.8-precreate",
        "7.7-manage-delete",
    ] {
        let answer = ask(&base, Some(token), &with_id(name), None).await;
        assert_eq!(shape_of(&answer), shape_of(&golden(&format!("{name}.response"))), "{name}");
    }

    let precreate = request("7.8-precreate");
    let answer: Value =
        serde_json::from_str(&ask(&base, Some(token), &precreate, None).await).unwrap();
    let endpoint = answer["data"]["endpoint"].as_str().unwrap();
    let upload_id = answer["data"]["upload_id"].as_str().unwrap();
    for name in ["7.9-part", "7.10-parts", "7.12-abort"] {
        let mut example = request(name);
        example.path = example.path.replace("a747...", upload_id);
        for (_, value) in &mut example.parameters {
            *value = value.replace("a747...", upload_id);
        }
        let body = (name == "7.9-part").then(|| Bytes::from(vec![0; 5_242_880]));
        let answer = ask(endpoint, None, &example, body).await;
        assert_eq!(shape_of(&answer), shape_of(&golden(&format!("{name}.response"))), "{name}");
    }
}

// ---- logins ------------------------------------------------------------------------------------

/// A server that gives the document's answers and keeps what it was asked.
struct Canned {
    base: Url,
    seen: Arc<Mutex<Vec<Example>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn canned(answers: Vec<&'static str>) -> Canned {
    type Shared = Arc<(Mutex<Vec<&'static str>>, Arc<Mutex<Vec<Example>>>)>;
    async fn serve(State(shared): State<Shared>, method: Method, uri: Uri, body: Bytes) -> String {
        let url = Url::parse("http://x").unwrap().join(&uri.to_string()).unwrap();
        let form = url::form_urlencoded::parse(&body);
        let form: Vec<_> = form.map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        shared.1.lock().unwrap().push(sent(&method, &url, &form));
        golden(&format!("{}.response", shared.0.lock().unwrap().remove(0)))
    }
    let seen: Arc<Mutex<Vec<Example>>> = Arc::default();
    let shared: Shared = Arc::new((Mutex::new(answers), seen.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let app = Router::new().fallback(serve).with_state(shared);
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Canned { base, seen, task }
}

/// Real time, but nobody waits long.
struct Hurried;

#[async_trait::async_trait]
impl foldsync::clock::Clock for Hurried {
    fn now(&self) -> foldsync::clock::Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, duration: std::time::Duration) {
        tokio::time::sleep(duration / 1000).await;
    }
}

impl Canned {
    fn http(&self) -> Http {
        let settings = Settings::new(Origins::new(self.base.clone(), &[], false));
        Http::new(settings, Arc::new(Hurried)).unwrap()
    }
}

/// Plays the browser too, without asking the service for a page.
#[derive(Default)]
struct Person {
    seen: Vec<String>,
}

impl Prompt for Person {
    fn device_code(&mut self, code: &str, link: &str, direct: Option<&str>) {
        self.seen = vec![code.into(), link.into(), direct.unwrap().into()];
    }

    fn browser(&mut self, link: &str) {
        self.seen = vec![link.into()];
        let link = Url::parse(link).unwrap();
        let value = |key: &str| {
            link.query_pairs().find(|(k, _)| k == key).map(|(_, value)| value.into_owned()).unwrap()
        };
        let back = format!("{}?code=AUTH_CODE&state={}", value("redirect_uri"), value("state"));
        tokio::spawn(async move {
            let browser = reqwest::Client::builder().no_proxy().build().unwrap();
            browser.get(back).send().await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_login_by_device_code_asks_and_understands_as_documented() {
    let server = canned(vec!["4.1-device-code", "4.3-device-token-pending", "3.3-token"]).await;
    let app = api::oauth_app(&server.base, "YOUR_CLIENT_ID", None);
    let mut person = Person::default();
    let granted = device_login(&server.http(), &app, &mut person).await.unwrap();
    assert_eq!(granted.refresh_token, Some(Secret::new("T_roVaOwg7X_NrSCm...")));
    assert_eq!(granted.expires_in_s, Some(7200));
    let direct = "https://openapi.disk.top/oauth/device?user_code=8KXH-Y8R";
    assert_eq!(person.seen, ["8KXH-Y8R", "https://openapi.disk.top/oauth/device", direct]);
    let seen = server.seen.lock().unwrap();
    assert_sent(&seen[0], "4.1-device-code");
    assert_sent(&seen[1], "4.3-device-token");
    assert_sent(&seen[2], "4.3-device-token");
}

#[tokio::test]
async fn a_login_that_fails_ends_as_documented() {
    for refusal in ["4.3-device-token-denied", "4.3-device-token-expired"] {
        let server = canned(vec!["4.1-device-code", refusal]).await;
        let app = api::oauth_app(&server.base, "YOUR_CLIENT_ID", None);
        let failed = device_login(&server.http(), &app, &mut Person::default()).await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::AuthExpired);
    }
}

#[tokio::test]
async fn a_login_in_the_browser_asks_and_understands_as_documented() {
    let server = canned(vec!["3.3-token"]).await;
    let app = api::oauth_app(&server.base, "YOUR_CLIENT_ID", None);
    let mut person = Person::default();
    // The codes come back faster than any person: real time does.
    let settings = Settings::new(Origins::new(server.base.clone(), &[], false));
    let http = Http::new(settings, Arc::new(SystemClock)).unwrap();
    let granted = browser_login(&http, &app, &mut person).await.unwrap();
    assert_eq!(granted.access_token, Secret::new("Pc0yjnIrGqKr39YQY85i..."));
    let link = Url::parse(&person.seen[0]).unwrap();
    assert_sent(&sent(&Method::GET, &link, &[]), "3.1-authorize");
    assert_sent(&server.seen.lock().unwrap()[0], "3.3-token");
}

#[tokio::test]
async fn a_token_is_renewed_as_documented() {
    let server = canned(vec!["3.3-token"]).await;
    let secret = Some(Secret::new("YOUR_CLIENT_SECRET"));
    let app = api::oauth_app(&server.base, "YOUR_CLIENT_ID", secret);
    let old = Secret::new("T_roVaOwg7X_NrSCm...");
    app.refresh(&server.http(), &old).await.unwrap();
    assert_sent(&server.seen.lock().unwrap()[0], "2.3-refresh");
}
