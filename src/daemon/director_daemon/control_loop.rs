//! The control loop: waits for whatever happens next and hands it to the control task. A further source of
//! changes is one more line in [`ChangeSources::new`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::start::DataPlane;
use crate::control::model::Reload;
use crate::daemon::control::{Control, Input, Shared, with_text};
use crate::daemon::health::News;
use crate::daemon::troubles::{self, LOOK_PERIOD};
use crate::daemon::worker::Workers;
use crate::daemon::{own_metrics, signals};
use crate::director::path_errors::Event;
use crate::failure::Failure;
use crate::metrics::counters::PathCounters;
use crate::metrics::{estimator, exposition};
use crate::serve::{Demand, Request, RunningDirector, http};

/// Pause between two checks of draining real servers and of VIPs without a virtual service.
const TEND_PERIOD: Duration = Duration::from_secs(1);

/// The shortest time between two route queries caused by packets that did not fit: one query serves all of
/// them.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Between an event of the host and the query of routes: an address that is replaced and the routes that follow make many
/// events.
const EVENTS_PAUSE: Duration = Duration::from_millis(200);

/// Everything that requires another configuration or another query of the host.
pub(super) struct ChangeSources(SelectAll<BoxStream<'static, Input>>);

impl ChangeSources {
    /// `requests` come from the API, `hangup` is SIGHUP, `narrowed` is notified when a packet did not fit its path, and
    /// `moved` when a route or an address of the host has changed; `news` come from the checks. `file` is what a reload reads.
    pub(super) fn new(
        requests: mpsc::Receiver<Request>,
        hangup: Signal,
        narrowed: Arc<Notify>,
        moved: Arc<Notify>,
        news: mpsc::Receiver<News>,
        file: Option<PathBuf>,
    ) -> ChangeSources {
        let changes = stream::select(of_requests(requests), of_hangups(hangup));
        let paths = [of_narrowed_paths(narrowed), of_moved_paths(moved)];
        let sources = [with_text(changes, file).boxed(), of_checks(news)].into_iter().chain(paths);
        ChangeSources(sources.collect())
    }
}

fn of_requests(mut requests: mpsc::Receiver<Request>) -> BoxStream<'static, Input> {
    stream::poll_fn(move |context| requests.poll_recv(context)).map(Input::Request).boxed()
}

fn of_checks(mut news: mpsc::Receiver<News>) -> BoxStream<'static, Input> {
    stream::poll_fn(move |context| news.poll_recv(context)).map(Input::Health).boxed()
}

fn of_hangups(mut hangup: Signal) -> BoxStream<'static, Input> {
    // A refused reload is logged; no client waits for the answer.
    let reload = |()| Input::Request(Request::unanswered(Demand::Reload(Reload::default()), "SIGHUP"));
    stream::poll_fn(move |context| hangup.poll_recv(context)).map(reload).boxed()
}

fn of_narrowed_paths(narrowed: Arc<Notify>) -> BoxStream<'static, Input> {
    let pauses = stream::once(async { Duration::ZERO }).chain(stream::repeat(LOOK_PAUSE));
    let notified = pauses.then(move |pause| {
        let narrowed = narrowed.clone();
        async move {
            sleep(pause).await;
            narrowed.notified().await;
            Input::PathsMoved
        }
    });
    notified.boxed()
}

/// One query for all events of [`EVENTS_PAUSE`].
fn of_moved_paths(moved: Arc<Notify>) -> BoxStream<'static, Input> {
    let notified = stream::repeat(()).then(move |()| {
        let moved = moved.clone();
        async move {
            moved.notified().await;
            sleep(EVENTS_PAUSE).await;
            Input::PathsMoved
        }
    });
    notified.boxed()
}

/// A running director.
pub(super) struct ControlLoop {
    control: Control,
    sources: ChangeSources,
    shared: Arc<Shared>,
    failures: mpsc::UnboundedReceiver<String>,
    path_counters: Arc<PathCounters>,
    path_events: mpsc::UnboundedReceiver<Event>,
    workers: Workers,
}

impl ControlLoop {
    pub(super) fn new(
        control: Control,
        shared: Arc<Shared>,
        plane: DataPlane,
        sources: ChangeSources,
    ) -> ControlLoop {
        let DataPlane { workers, failures, path_counters, path_events, .. } = plane;
        ControlLoop { control, sources, shared, failures, path_counters, path_events, workers }
    }

    /// Logs what is rarely intended in the file, later.
    pub(super) fn warn_of_file(&self) {
        self.control.warn_of_file();
    }

    /// Renders the metrics.
    pub(super) fn renderer(&self) -> http::Render {
        let (shared, host_changes) = (self.shared.clone(), self.control.host_changes());
        let (cluster, paths) = (self.control.latest(), self.path_counters.clone());
        let losses = self.control.losses();
        let (claims, strays) = (self.control.claims(), self.control.strays());
        Arc::new(move || {
            let changes = host_changes.load(Ordering::Relaxed);
            let mut process = own_metrics::of_process("director", changes, &losses);
            process.vip_claims = claims.read();
            let Shared { workers, tables, clock, .. } = &*shared;
            let (ledger, now) = (shared.ledger_mutex(), clock.now());
            let health = shared.health_view();
            let health = &*health;
            let counts = exposition::Counts { workers, ledger, paths: &paths, strays: &strays, health };
            exposition::director(process, &counts, &cluster.load(), tables, now)
        })
    }

    /// Runs until a signal arrives, and returns its name; or until a worker fails.
    pub(super) async fn run(
        &mut self,
        end: &mut (impl Future<Output = &'static str> + Unpin),
    ) -> Result<&'static str, Failure> {
        let sweep = sleep(sweep_period(0));
        tokio::pin!(sweep);
        let mut estimate = every(estimator::PERIOD);
        let (mut tend, mut look) = (every(TEND_PERIOD), every(LOOK_PERIOD));
        loop {
            let input = tokio::select! {
                signal = &mut *end => return Ok(signal),
                failure = self.failures.recv() => return Err(self.worker_failed(failure)),
                Some(input) = self.sources.0.next() => input,
                notice = self.control.wait_for_host() => Input::Host(notice),
                _ = tend.tick(), if self.control.has_to_tend() => Input::Tend,
                _ = look.tick() => {
                    self.control.report_workers(troubles::of_workers(&self.workers));
                    Input::Look
                }
                _ = estimate.tick() => {
                    self.shared.tick();
                    continue;
                }
                Some(_) = self.path_events.recv() => Input::Look,
                () = &mut sweep => {
                    self.sweep().await;
                    sweep.as_mut().reset(Instant::now() + sweep_period(self.shared.tables.connections.len()));
                    continue;
                }
            };
            if let Err(signal) = signals::unless_ended(end, self.control.handle(input)).await {
                return Ok(signal);
            }
        }
    }

    /// Stops the workers, then undoes the changes on the host.
    pub(super) async fn stop(self) {
        let ControlLoop { control, workers, .. } = self;
        control.stop(workers).await;
    }

    fn worker_failed(&self, failure: Option<String>) -> Failure {
        let failure = failure.unwrap_or_default();
        Failure::Failed(format!("director: cannot read from {}: {failure}", self.shared.plan.tun))
    }

    async fn sweep(&self) {
        let (cluster, tables) = (self.control.latest(), self.shared.tables.clone());
        let now = self.shared.clock.now();
        let swept = tokio::task::spawn_blocking(move || tables.sweep(&cluster.load(), now));
        if let Err(error) = swept.await {
            tracing::error!(kind = "sweep_failed", "director: cannot sweep the connection table: {error}");
        }
    }
}

/// A missed tick is not caught up: each tick of the estimator must cover a full period's packets.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// One second for a small table, ten for a million entries: under 1 % of a core at 15 ns an entry.
fn sweep_period(entries: usize) -> Duration {
    Duration::from_millis((entries as u64 / 100).clamp(1_000, 10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_that_do_not_fit_cause_one_query_at_once_and_one_after_the_pause() {
        let narrowed = Arc::new(Notify::new());
        let mut inputs = of_narrowed_paths(narrowed.clone());
        narrowed.notify_one();
        assert!(matches!(inputs.next().await, Some(Input::PathsMoved)));
        let begun = Instant::now();
        (0..9).for_each(|_| narrowed.notify_one());
        assert!(matches!(inputs.next().await, Some(Input::PathsMoved)));
        assert!(begun.elapsed() >= LOOK_PAUSE, "{:?}", begun.elapsed());
        let third = tokio::time::timeout(3 * LOOK_PAUSE, inputs.next()).await;
        assert!(third.is_err(), "nine notifications make one query");
    }

    #[tokio::test]
    async fn events_of_the_host_cause_one_query_after_the_last_of_a_burst() {
        let moved = Arc::new(Notify::new());
        let mut inputs = of_moved_paths(moved.clone());
        let begun = Instant::now();
        (0..9).for_each(|_| moved.notify_one());
        assert!(matches!(inputs.next().await, Some(Input::PathsMoved)));
        assert!((EVENTS_PAUSE..Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let second = tokio::time::timeout(2 * EVENTS_PAUSE, inputs.next()).await;
        assert!(second.is_err(), "nine notifications make one query");
    }

    #[tokio::test]
    async fn a_request_of_the_api_and_a_hangup_reach_the_control_task() {
        let (requests, demands) = mpsc::channel(1);
        let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
        let mut sources =
            ChangeSources::new(demands, hangup, Arc::default(), Arc::default(), mpsc::channel(1).1, None);
        requests.try_send(Request::unanswered(Demand::Reload(Reload::default()), "uid 0")).ok().unwrap();
        let by = |input: Option<Input>| match input {
            Some(Input::Reload(request, _)) => request.by,
            _ => panic!("another input"),
        };
        assert_eq!(by(sources.0.next().await), "uid 0");
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        assert_eq!(by(sources.0.next().await), "SIGHUP");
    }
}
