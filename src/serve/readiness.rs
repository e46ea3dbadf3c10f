//! The probes of a daemon: `/readyz` decides where packets go, `/healthz` whether it is restarted; that of a real server
//! also reports a director's check whether it serves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;

use crate::time::Moment;
use crate::trouble::{self, Found, Source, Trouble, TroubleKind, Troubles};

/// The daemon looks for troubles once a second; a change of thousands of VIPs takes seconds.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// What is wrong with a daemon at present, and whether it still looks.
pub struct Health {
    troubles: Arc<Troubles>,
    /// Nanoseconds of a [`Moment`].
    looked_at: AtomicU64,
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
    served: OnceLock<Box<Served>>,
}

/// Finds what a daemon does for others: a line each, and whether it does so.
type Served = dyn Fn() -> Vec<(String, bool)> + Send + Sync;

impl Health {
    /// `clock` is the daemon's, to which the moments of the troubles refer.
    pub fn new(clock: impl Fn() -> Moment + Send + Sync + 'static) -> Health {
        let looked_at = AtomicU64::new(clock().as_nanos());
        Health { troubles: Arc::default(), looked_at, clock: Box::new(clock), served: OnceLock::new() }
    }

    /// The board on which the daemon reports.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.troubles
    }

    /// The daemon has looked at everything. Call it once a second.
    pub fn touch(&self) {
        self.looked_at.store((self.clock)().as_nanos(), Ordering::Relaxed);
    }

    /// `/healthz` has these lines too from now on, and status 503 while one of them is false. Later calls have no effect.
    pub fn serve(&self, served: impl Fn() -> Vec<(String, bool)> + Send + Sync + 'static) {
        let _ = self.served.set(Box::new(served));
    }

    fn served(&self) -> Vec<(String, bool)> {
        self.served.get().map(|served| served()).unwrap_or_default()
    }

    /// Everything that is wrong, the oldest first; and how long it has been so.
    pub fn list(&self) -> Vec<(Trouble, Duration)> {
        let now = (self.clock)();
        let mut list: Vec<Trouble> = self.troubles.list().to_vec();
        let looked_at = Moment::from_nanos(self.looked_at.load(Ordering::Relaxed));
        let silence = now.since(looked_at);
        if silence > LOOK_MAX {
            let text = "the daemon's control task does not respond, so nothing that follows is certain; restart the daemon";
            let found = Found {
                kind: TroubleKind::ControlStuck,
                subject: "control task".to_owned(),
                text: text.to_owned(),
            };
            list.insert(0, Trouble { source: Source::Workers, found, since: looked_at });
        }
        list.into_iter().map(|trouble| (trouble.clone(), now.since(trouble.since))).collect()
    }

    /// Whether packets flow.
    pub fn is_ready(&self) -> bool {
        let list: Vec<Trouble> = self.list().into_iter().map(|(trouble, _)| trouble).collect();
        trouble::reasons(&list).next().is_none()
    }
}

/// 200 while packets flow, otherwise 503 with the reasons, one in a line.
pub(super) async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let list = health.list();
    let reasons = list.iter().filter(|(trouble, _)| trouble.found.kind.stops_packets());
    let lines: String = reasons.map(|(trouble, _)| format!("not ready: {}\n", trouble.found.text)).collect();
    match lines.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, lines),
    }
}

/// 200 while the process runs and does what it is there for, as far as [`Health::serve`] was notified; `?verbose` adds all
/// that is wrong, with its age.
pub(super) async fn healthz(
    State(health): State<Arc<Health>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, String) {
    let is_verbose = |word: &str| word == "verbose" || word.starts_with("verbose=");
    let mut text = match query.is_some_and(|query| query.split('&').any(is_verbose)) {
        true => verbose(&health.list()),
        false => "alive\n".to_owned(),
    };
    let served = health.served();
    served.iter().for_each(|(line, _)| text.push_str(&format!("{line}\n")));
    let is_served = served.iter().all(|(_, is_so)| *is_so);
    (if is_served { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

fn verbose(list: &[(Trouble, Duration)]) -> String {
    let is_ready = !list.iter().any(|(trouble, _)| trouble.found.kind.stops_packets());
    let mut text = format!("alive\n{}\n", if is_ready { "ready" } else { "not ready" });
    for (trouble, age) in list {
        let class = if trouble.found.kind.stops_packets() { "not ready" } else { "warning" };
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        text.push_str(&format!("{class}: {} (for {age})\n", trouble.found.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(now: &Arc<AtomicU64>) -> Arc<Health> {
        let now = now.clone();
        Arc::new(Health::new(move || Moment::from_secs(now.load(Ordering::Relaxed))))
    }

    fn found(kind: TroubleKind, text: &str) -> Found {
        Found { kind, subject: "a".to_owned(), text: text.to_owned() }
    }

    #[tokio::test]
    async fn a_daemon_is_ready_unless_something_stops_packets() {
        let now = Arc::new(AtomicU64::new(100));
        let health = health(&now);
        let ready = || async { readyz(State(health.clone())).await };
        let alive = async |query: Option<&str>| {
            healthz(State(health.clone()), RawQuery(query.map(str::to_owned))).await.1
        };
        assert_eq!(ready().await, (StatusCode::OK, "ready\n".to_owned()));
        assert_eq!(alive(Some("verbose")).await, "alive\nready\n");
        let warning = found(TroubleKind::NoRoute, "no route; wait");
        let board = health.troubles();
        board.report(Source::Cluster, vec![warning.clone()], Moment::from_secs(90));
        assert!(health.is_ready());
        assert_eq!(alive(Some("verbose")).await, "alive\nready\nwarning: no route; wait (for 10s)\n");
        let reason = found(TroubleKind::InterfaceDown, "eth0 is down");
        board.report(Source::Cluster, vec![warning, reason], Moment::from_secs(95));
        assert!(!health.is_ready());
        assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, "not ready: eth0 is down\n".to_owned()));
        let expected =
            "alive\nnot ready\nwarning: no route; wait (for 10s)\nnot ready: eth0 is down (for 5s)\n";
        assert_eq!(alive(Some("a=b&verbose=1")).await, expected);
        assert_eq!(
            (alive(None).await, alive(Some("verb")).await),
            ("alive\n".to_owned(), "alive\n".to_owned())
        );
        board.report(Source::Cluster, Vec::new(), Moment::from_secs(100));
        assert_eq!(ready().await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn healthz_fails_while_something_is_not_served() {
        let health = health(&Arc::default());
        let is_bound = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let seen = is_bound.clone();
        health.serve(move || {
            vec![("unwraps: yes".to_owned(), true), ("bound".to_owned(), seen.load(Ordering::Relaxed))]
        });
        let answer =
            async |query: &str| healthz(State(health.clone()), RawQuery(Some(query.to_owned()))).await;
        assert_eq!(answer("").await, (StatusCode::OK, "alive\nunwraps: yes\nbound\n".to_owned()));
        is_bound.store(false, Ordering::Relaxed);
        assert_eq!(answer("").await.0, StatusCode::SERVICE_UNAVAILABLE);
        let text = "alive\nready\nunwraps: yes\nbound\n".to_owned();
        assert_eq!(answer("verbose").await, (StatusCode::SERVICE_UNAVAILABLE, text));
    }

    #[tokio::test]
    async fn a_daemon_that_no_longer_looks_is_not_ready() {
        let now = Arc::new(AtomicU64::new(0));
        let health = health(&now);
        now.store(15, Ordering::Relaxed);
        assert!(health.is_ready());
        now.store(16, Ordering::Relaxed);
        let (status, text) = readyz(State(health.clone())).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("not ready: the daemon's control task does not respond"), "{text}");
        assert_eq!(health.list()[0].1, Duration::from_secs(16));
        health.touch();
        assert!(health.is_ready());
    }
}
