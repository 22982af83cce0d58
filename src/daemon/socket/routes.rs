//! The routes, as the contract names them. Parameters are in the path and the query; bodies of
//! requests are not read.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::config::units::Span;
use crate::daemon::control::{Answer, Control, ControlError, HistoryQuery, Keep, Numbered};
use crate::daemon::events::EventLog;
use crate::daemon::status::{DaemonStatus, metrics};

/// Clients that may wait for events at once, and for a flush.
const EVENT_WAITERS_MAX: usize = 32;
const FLUSH_WAITERS_MAX: usize = 32;
/// Events in one answer.
const EVENTS_LIMIT: usize = 500;
const EVENT_WAIT: Duration = Duration::from_secs(30);
const EVENT_WAIT_MAX: Duration = Duration::from_secs(60);
const HISTORY_LIMIT: u32 = 1000;
const HISTORY_LIMIT_MAX: u32 = 10_000;
/// For everything but waiting.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// What the routes answer from.
#[derive(Clone)]
pub struct Sources {
    pub status: watch::Receiver<Arc<DaemonStatus>>,
    pub events: Arc<EventLog>,
    pub control: Arc<dyn Control>,
}

#[derive(Clone)]
struct Desk {
    sources: Sources,
    event_waiters: Arc<Semaphore>,
    flush_waiters: Arc<Semaphore>,
}

impl Desk {
    fn control(&self) -> &dyn Control {
        &*self.sources.control
    }

    fn status(&self) -> Arc<DaemonStatus> {
        self.sources.status.borrow().clone()
    }
}

pub(super) fn router(sources: Sources) -> Router {
    let desk = Desk {
        sources,
        event_waiters: Arc::new(Semaphore::new(EVENT_WAITERS_MAX)),
        flush_waiters: Arc::new(Semaphore::new(FLUSH_WAITERS_MAX)),
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/pairs/{pair}/pause", post(pause))
        .route("/v1/pairs/{pair}/resume", post(resume))
        .route("/v1/pairs/{pair}/flush", post(flush))
        .route("/v1/pairs/{pair}/rescan", post(rescan))
        .route("/v1/held", get(held))
        .route("/v1/held/{id}", get(held_set))
        .route("/v1/held/{id}/approve", post(approve))
        .route("/v1/held/{id}/reject", post(reject))
        .route("/v1/conflicts", get(conflicts))
        .route("/v1/conflicts/{id}", get(conflict))
        .route("/v1/conflicts/{id}/resolve", post(resolve))
        .route("/v1/history", get(history))
        .route("/v1/stop", post(stop))
        .route("/v1/reload", post(reload))
        .route("/metrics", get(prometheus))
        .route("/health", get(health))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "no-route", "no such route"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "another method is needed here")
        })
        .with_state(desk)
}

/// An error as the client gets it: `{"kind": "...", "error": "..."}`.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, kind, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    fn busy(message: &str) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            kind: &'static str,
            error: String,
        }
        (self.status, Json(Body { kind: self.kind, error: self.message })).into_response()
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Refusal {
        let (status, kind) = match &error {
            ControlError::NoSuchPair(_) => (StatusCode::NOT_FOUND, "no-such-pair"),
            ControlError::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            ControlError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            ControlError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            ControlError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Refusal::new(status, kind, error.to_string())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        Refusal::invalid(rejection.body_text())
    }
}

type Answered<T> = Result<Json<T>, Refusal>;
type Asked<T> = Result<Query<T>, QueryRejection>;

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// Waits for the daemon, but not for ever.
async fn ask<T>(call: impl Future<Output = Result<T, ControlError>>) -> Result<T, Refusal> {
    match tokio::time::timeout(ANSWER_WAIT, call).await {
        Ok(result) => result.map_err(Refusal::from),
        Err(_) => {
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the daemon did not answer"))
        }
    }
}

async fn done(call: impl Future<Output = Result<(), ControlError>>) -> Answered<Done> {
    ask(call).await.map(|()| Json(Done { ok: true }))
}

fn number(text: &str) -> Result<i64, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(format!("`{text}` is not a number")))
}

/// Never waits for anything.
async fn status(State(desk): State<Desk>) -> Json<Arc<DaemonStatus>> {
    Json(desk.status())
}

async fn prometheus(State(desk): State<Desk>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics(&desk.status()))
}

/// 503 if a person must look at one of the pairs.
async fn health(State(desk): State<Desk>) -> impl IntoResponse {
    #[derive(Serialize)]
    struct Health {
        ok: bool,
        broken: Vec<String>,
    }
    let broken: Vec<String> = desk.status().broken().map(|pair| pair.name.clone()).collect();
    let code = if broken.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { ok: broken.is_empty(), broken }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    since: u64,
    /// As `30s`; `0` does not wait.
    wait: Option<String>,
    limit: Option<usize>,
}

async fn events(State(desk): State<Desk>, query: Asked<EventsQuery>) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let wait = span(query.wait.as_deref())?.unwrap_or(EVENT_WAIT).min(EVENT_WAIT_MAX);
    let limit = query.limit.unwrap_or(EVENTS_LIMIT).clamp(1, EVENTS_LIMIT);
    let log = &desk.sources.events;
    if !wait.is_zero() && log.newest() == query.since {
        let _place = desk
            .event_waiters
            .try_acquire()
            .map_err(|_| Refusal::busy("too many clients wait for events"))?;
        // Nothing in time is an answer as well: an empty list.
        let _ = tokio::time::timeout(wait, log.wait(query.since)).await;
    }
    Ok(Json(log.after(query.since, limit)).into_response())
}

fn span(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    let parsed = text.map(str::parse::<Span>).transpose();
    parsed.map(|span| span.map(|span| span.0)).map_err(Refusal::invalid)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseQuery {
    r#for: Option<String>,
}

async fn pause(
    State(desk): State<Desk>,
    Path(pair): Path<String>,
    query: Asked<PauseQuery>,
) -> Answered<Done> {
    let span = span(query?.r#for.as_deref())?;
    done(desk.control().pause(&pair, span)).await
}

async fn resume(State(desk): State<Desk>, Path(pair): Path<String>) -> Answered<Done> {
    done(desk.control().resume(&pair)).await
}

/// As long as a sync takes; over when the client goes.
async fn flush(
    State(desk): State<Desk>,
    Path(pair): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    #[derive(Serialize)]
    struct Flushed {
        pair: String,
        exit: u8,
    }
    let _place = desk
        .flush_waiters
        .try_acquire()
        .map_err(|_| Refusal::busy("too many clients wait for a flush"))?;
    let exit = desk.control().flush(&pair).await?;
    Ok(Json(Flushed { pair, exit: exit.code() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RescanQuery {
    #[serde(default)]
    deep: bool,
}

async fn rescan(
    State(desk): State<Desk>,
    Path(pair): Path<String>,
    query: Asked<RescanQuery>,
) -> Answered<Done> {
    let deep = query?.deep;
    done(desk.control().rescan(&pair, deep)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PairQuery {
    pair: Option<String>,
}

impl PairQuery {
    fn numbered(self, id: &str) -> Result<Numbered, Refusal> {
        Ok(Numbered { pair: self.pair, id: number(id)? })
    }
}

async fn held(
    State(desk): State<Desk>,
    query: Asked<PairQuery>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(query) = query?;
    ask(desk.control().held(query.pair.as_deref())).await.map(Json)
}

async fn held_set(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<PairQuery>,
) -> Result<impl IntoResponse, Refusal> {
    let set = query?.0.numbered(&id)?;
    ask(desk.control().held_set(&set)).await.map(Json)
}

async fn approve(
    state: State<Desk>,
    id: Path<String>,
    query: Asked<PairQuery>,
) -> Result<Response, Refusal> {
    answer(state, id, query, Answer::Approve).await
}

async fn reject(
    state: State<Desk>,
    id: Path<String>,
    query: Asked<PairQuery>,
) -> Result<Response, Refusal> {
    answer(state, id, query, Answer::Reject).await
}

async fn answer(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<PairQuery>,
    answer: Answer,
) -> Result<Response, Refusal> {
    let set = query?.0.numbered(&id)?;
    Ok(Json(ask(desk.control().answer(&set, answer)).await?).into_response())
}

async fn conflicts(
    State(desk): State<Desk>,
    query: Asked<PairQuery>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(query) = query?;
    ask(desk.control().conflicts(query.pair.as_deref())).await.map(Json)
}

async fn conflict(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<PairQuery>,
) -> Result<impl IntoResponse, Refusal> {
    let conflict = query?.0.numbered(&id)?;
    ask(desk.control().conflict(&conflict)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveQuery {
    pair: Option<String>,
    keep: String,
}

async fn resolve(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<ResolveQuery>,
) -> Answered<Done> {
    let Query(ResolveQuery { pair, keep }) = query?;
    let keep = Keep::from_str(&keep, false)
        .map_err(|_| Refusal::invalid("keep must be local, remote, both or newer"))?;
    let conflict = Numbered { pair, id: number(&id)? };
    done(desk.control().resolve(&conflict, keep)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryAsked {
    pair: Option<String>,
    path: Option<String>,
    /// As `1h`.
    since: Option<String>,
    limit: Option<u32>,
}

async fn history(
    State(desk): State<Desk>,
    query: Asked<HistoryAsked>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(asked) = query?;
    let query = HistoryQuery {
        pair: asked.pair,
        path: asked.path,
        since: span(asked.since.as_deref())?,
        limit: asked.limit.unwrap_or(HISTORY_LIMIT).min(HISTORY_LIMIT_MAX),
    };
    ask(desk.control().history(&query)).await.map(Json)
}

async fn stop(State(desk): State<Desk>) -> Answered<Done> {
    done(desk.control().stop()).await
}

async fn reload(State(desk): State<Desk>) -> Answered<Done> {
    done(desk.control().reload()).await
}
