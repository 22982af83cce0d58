//! Renewal under pressure: many tasks, many processes, full disks, lost replies.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::clock::SystemClock;

/// A service whose refresh tokens work once; using one twice revokes everything.
#[derive(Default)]
struct Service {
    generation: AtomicU32,
    calls: AtomicU32,
    revoked: AtomicBool,
    /// The rotation happens, then the reply is lost.
    lose_replies: AtomicU32,
    down: AtomicBool,
}

struct Client(Arc<Service>);

#[async_trait]
impl Renewal for Client {
    async fn renew(&self, old: &Credentials) -> Result<Granted> {
        let service = &self.0;
        service.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if service.down.load(Ordering::SeqCst) {
            return Err(RemoteError::new(ErrorKind::Unavailable, "down"));
        }
        let wanted = format!("r{}", service.generation.load(Ordering::SeqCst));
        let shown = old.refresh_token.as_ref().map(|t| t.reveal().to_owned());
        if service.revoked.load(Ordering::SeqCst) || shown != Some(wanted) {
            service.revoked.store(true, Ordering::SeqCst);
            return Err(RemoteError::new(ErrorKind::AuthExpired, "invalid_grant"));
        }
        let n = service.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let lost = service.lose_replies.load(Ordering::SeqCst);
        if lost > 0 {
            service.lose_replies.store(lost - 1, Ordering::SeqCst);
            return Err(RemoteError::unknown(ErrorKind::Unavailable, "timeout"));
        }
        Ok(granted(n))
    }
}

fn granted(n: u32) -> Granted {
    Granted {
        access_token: Secret::new(format!("a{n}")),
        refresh_token: Some(Secret::new(format!("r{n}"))),
        expires_in_s: Some(7200),
    }
}

struct Bench {
    dir: tempfile::TempDir,
    service: Arc<Service>,
}

impl Bench {
    /// With a login of generation 0 on disk.
    fn new() -> Bench {
        let bench =
            Bench { dir: tempfile::tempdir().unwrap(), service: Arc::new(Service::default()) };
        bench.vault().store(&granted(0).credentials(SystemClock.now())).unwrap();
        bench
    }

    fn vault(&self) -> Vault {
        Vault::new(self.dir.path(), "top").unwrap()
    }

    /// Each is like a process of its own.
    fn login(&self) -> Login {
        let mut sources = Sources::new("top", self.vault());
        sources.environment = |_| None;
        sources.systemd_dir = None;
        sources.keyring = None;
        Login::new(sources, Box::new(Client(self.service.clone())), Arc::new(SystemClock))
    }

    fn calls(&self) -> u32 {
        self.service.calls.load(Ordering::SeqCst)
    }
}

// AU-03
#[tokio::test]
async fn tasks_and_processes_that_are_refused_at_once_renew_once() {
    let bench = Bench::new();
    let logins = [bench.login(), bench.login()];
    let refused = logins[0].token().await.unwrap();
    logins[1].token().await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (login, refused) = (logins[n % 2].clone(), refused.clone());
            tokio::spawn(async move { login.renew(&refused).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Secret::new("a1"));
    }
    assert_eq!(bench.calls(), 1);
}

// AU-04
#[tokio::test]
async fn a_new_pair_is_on_disk_before_it_is_used() {
    let bench = Bench::new();
    let login = bench.login();
    let token = login.renew(&Secret::new("a0")).await.unwrap();
    assert_eq!(bench.vault().load().unwrap().unwrap().access_token, Some(token));
    assert_eq!(bench.vault().load().unwrap().unwrap().refresh_token, Some(Secret::new("r1")));
}

// AU-04
#[tokio::test]
async fn a_pair_that_cannot_be_saved_is_kept_and_saved_later() {
    let bench = Bench::new();
    let login = bench.login();
    login.token().await.unwrap();
    // A folder where the temporary file belongs stands for a full disk.
    let blocked =
        bench.dir.path().join("credentials").join(format!(".top.{}.new", std::process::id()));
    std::fs::create_dir(&blocked).unwrap();
    let error = login.renew(&Secret::new("a0")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    std::fs::remove_dir(&blocked).unwrap();
    assert_eq!(login.renew(&Secret::new("a0")).await.unwrap(), Secret::new("a1"));
    assert_eq!(bench.calls(), 1, "the old refresh token was not used again");
    assert_eq!(bench.vault().load().unwrap().unwrap().refresh_token, Some(Secret::new("r1")));
}

// AU-04
#[tokio::test]
async fn a_caller_that_gives_up_does_not_lose_the_pair() {
    let bench = Bench::new();
    let login = bench.login();
    login.token().await.unwrap();
    {
        let refused = Secret::new("a0");
        let renewal = std::pin::pin!(login.renew(&refused));
        // Polled once, then dropped.
        assert!(futures_util::future::poll_immediate(renewal).await.is_none());
    }
    assert_eq!(login.renew(&Secret::new("a0")).await.unwrap(), Secret::new("a1"));
    assert_eq!(bench.calls(), 1);
}

// AU-04
#[tokio::test]
async fn a_lost_reply_is_asked_for_once_more_and_then_a_person_is_needed() {
    let bench = Bench::new();
    bench.service.lose_replies.store(1, Ordering::SeqCst);
    let login = bench.login();
    let error = login.renew(&Secret::new("a0")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AuthExpired);
    assert_eq!(bench.calls(), 2);
}

// AU-05
#[tokio::test]
async fn after_the_end_of_a_login_nothing_is_asked_until_somebody_logs_in() {
    let bench = Bench::new();
    bench.service.revoked.store(true, Ordering::SeqCst);
    let login = bench.login();
    let refused = login.token().await.unwrap();
    for _ in 0..50 {
        let error = login.renew(&refused).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::AuthExpired);
        assert!(login.token().await.is_err());
    }
    assert_eq!(bench.calls(), 1);
    bench.vault().store(&granted(7).credentials(SystemClock.now())).unwrap();
    assert_eq!(login.token().await.unwrap(), Secret::new("a7"));
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_service_that_is_down_does_not_end_the_login() {
    let bench = Bench::new();
    let login = bench.login();
    bench.service.down.store(true, Ordering::SeqCst);
    let error = login.renew(&Secret::new("a0")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    bench.service.down.store(false, Ordering::SeqCst);
    assert_eq!(login.renew(&Secret::new("a0")).await.unwrap(), Secret::new("a1"));
}

#[tokio::test]
async fn a_token_about_to_end_is_renewed_before_it_is_refused() {
    let bench = Bench::new();
    let ending = granted(0).credentials(SystemClock.now());
    let long_ago = SystemClock.now().seconds() - 7200 + 55;
    let ending = Credentials { expires_s: ending.expires_s.map(|_| long_ago + 7140), ..ending };
    bench.vault().store(&ending).unwrap();
    assert_eq!(bench.login().token().await.unwrap(), Secret::new("a1"));
}

#[tokio::test]
async fn without_any_login_a_person_is_needed() {
    let bench = Bench::new();
    bench.vault().forget().unwrap();
    assert_eq!(bench.login().token().await.unwrap_err().kind, ErrorKind::AuthExpired);
    assert_eq!(bench.calls(), 0);
}

// AU-03
#[tokio::test]
async fn a_pair_that_another_process_renewed_is_taken_over() {
    let bench = Bench::new();
    let (here, there) = (bench.login(), bench.login());
    let old = here.token().await.unwrap();
    there.renew(&old).await.unwrap();
    assert_eq!(here.renew(&old).await.unwrap(), Secret::new("a1"));
    assert_eq!(bench.calls(), 1);
}
