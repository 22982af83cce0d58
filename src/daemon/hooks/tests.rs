use std::path::Path;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tempfile::TempDir;

use super::*;

/// Generous: only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

fn call(on: Occasion) -> Call {
    Call {
        on,
        pair: "docs".to_owned(),
        at: Moment(Timestamp::from_seconds(0)),
        message: "2 conflicts".to_owned(),
        detail: serde_json::json!({"conflicts": 2}),
    }
}

fn sh(on: Occasion, script: &str, limit: Duration) -> Hook {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    Hook { on, target: Target::Command(argv), limit }
}

fn environment() -> Vec<(OsString, OsString)> {
    let own = std::env::vars_os().filter(|(name, _)| name == "PATH");
    let secrets = ["FOLDSYNC_TOP_TOKEN", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"];
    own.chain(secrets.map(|name| (name.into(), "secret".into()))).collect()
}

async fn run(hooks: Vec<Hook>, calls: &[Occasion]) {
    let hooks = Hooks::start(hooks, environment());
    calls.iter().for_each(|on| hooks.fire(call(*on)));
    assert_eq!(hooks.dropped(), 0);
    tokio::time::timeout(PATIENCE, hooks.close(PATIENCE)).await.unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_command_gets_the_json_and_none_of_our_secrets() {
    let folder = TempDir::new().unwrap();
    let (json, variables) = (folder.path().join("json"), folder.path().join("variables"));
    let script = format!("cat > {}; env > {}", json.display(), variables.display());
    let hooks = vec![
        sh(Occasion::OnConflict, &script, PATIENCE),
        sh(Occasion::OnHold, "touch /nowhere/at/all", PATIENCE),
    ];
    run(hooks, &[Occasion::OnConflict]).await;
    let told: serde_json::Value = serde_json::from_str(&read(&json)).unwrap();
    let expected = serde_json::json!({
        "hook": "on_conflict", "pair": "docs", "at": "1970-01-01T00:00:00Z",
        "message": "2 conflicts", "detail": {"conflicts": 2},
    });
    assert_eq!(told, expected);
    let variables = read(&variables);
    assert!(variables.contains("FOLDSYNC_HOOK=on_conflict\n") && variables.contains("PATH="));
    assert!(!variables.contains("secret"), "{variables}");
}

#[tokio::test]
async fn a_hook_runs_for_its_own_occasion_only_and_once_for_each_call() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let hook =
        |on: Occasion, word: &str| sh(on, &format!("echo {word} >> {}", log.display()), PATIENCE);
    let hooks = vec![hook(Occasion::AfterCycle, "cycle"), hook(Occasion::OnError, "error")];
    let occasions = [Occasion::AfterCycle, Occasion::OnConflict, Occasion::AfterCycle];
    run(hooks, &occasions).await;
    assert_eq!(read(&log), "cycle\ncycle\n");
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_all_it_started_and_the_next_ones_run() {
    let folder = TempDir::new().unwrap();
    let (pid, done) = (folder.path().join("pid"), folder.path().join("done"));
    // The sleeper is a grandchild, and holds the pipe open.
    let hang = format!("(sleep 1000 & echo $! > {}; wait)", pid.display());
    let hooks = vec![
        sh(Occasion::OnError, &hang, Duration::from_secs(1)),
        sh(Occasion::OnHold, &format!("touch {}", done.display()), PATIENCE),
    ];
    run(hooks, &[Occasion::OnError, Occasion::OnHold]).await;
    assert!(done.exists());
    let pid: i32 = read(&pid).trim().parse().unwrap();
    // Gone, or waiting to be collected by init.
    let is_over = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z")
    };
    let over = async {
        while !is_over() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("the grandchild has ended");
}

#[tokio::test]
async fn a_hook_that_ignores_its_input_or_does_not_exist_harms_nobody() {
    let folder = TempDir::new().unwrap();
    let done = folder.path().join("done");
    let missing = Target::Command(vec!["/nowhere/at/all".to_owned()]);
    let hooks = vec![
        sh(Occasion::OnHold, "exec <&-; exit 3", PATIENCE),
        Hook { on: Occasion::OnHold, target: missing, limit: PATIENCE },
        Hook { on: Occasion::OnHold, target: Target::Command(Vec::new()), limit: PATIENCE },
        sh(Occasion::OnHold, &format!("touch {}", done.display()), PATIENCE),
    ];
    run(hooks, &[Occasion::OnHold]).await;
    assert!(done.exists());
}

#[tokio::test]
async fn firing_never_waits_and_what_does_not_fit_is_counted() {
    let hooks = Hooks::start(vec![sh(Occasion::AfterCycle, "sleep 1000", PATIENCE)], environment());
    for _ in 0..10_000 {
        hooks.fire(call(Occasion::AfterCycle));
    }
    assert!(hooks.dropped() > 9000, "{}", hooks.dropped());
    hooks.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_webhook_gets_the_json_and_is_not_followed_elsewhere() {
    let (sender, mut told) = mpsc::channel(8);
    let elsewhere = sender.clone();
    let service = Router::new()
        .route(
            "/hook",
            post(async move |headers: HeaderMap, body: String| {
                sender
                    .send((headers["content-type"].to_str().unwrap().to_owned(), body))
                    .await
                    .ok();
                (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")])
            }),
        )
        .route(
            "/elsewhere",
            post(async move |body: String| {
                elsewhere.send(("elsewhere".to_owned(), body)).await.ok();
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=x", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let target = Target::Webhook(Url::parse(&url).unwrap());
    run(
        vec![Hook { on: Occasion::OnAuthExpired, target, limit: PATIENCE }],
        &[Occasion::OnAuthExpired],
    )
    .await;
    serving.abort();
    let _ = serving.await;
    let (kind, body) = told.recv().await.unwrap();
    assert_eq!(kind, "application/json");
    assert!(body.contains("\"on_auth_expired\""), "{body}");
    assert!(told.recv().await.is_none());
}

// SE-06
#[tokio::test]
async fn the_error_of_a_webhook_does_not_name_its_address() {
    let url = Url::parse("http://127.0.0.1:1/hook?token=secret").unwrap();
    let error = super::post(&url, PATIENCE, "{}").await.unwrap_err();
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn silence_is_told_once_until_something_succeeds() {
    let hour = |hours: i64| Timestamp::from_seconds(hours * 3600);
    let mut dead_man = DeadMan::new(Duration::from_secs(6 * 3600));
    let mut told = Vec::new();
    for now in 0..40 {
        let success = (now >= 15).then(|| hour(15));
        told.extend(
            dead_man
                .check(success, hour(0), hour(now))
                .map(|silent| (now, silent.as_secs() / 3600)),
        );
    }
    assert_eq!(told, [(6, 6), (21, 6)]);
}

// WA-16
#[test]
fn a_clock_that_is_set_back_is_no_silence() {
    let mut dead_man = DeadMan::new(Duration::from_secs(3600));
    let late = Timestamp::from_seconds(1_000_000);
    assert_eq!(dead_man.check(Some(late), late, Timestamp::from_seconds(0)), None);
}
