//! The director's daemon: device, host, workers, sweep, metrics; and clean-up on exit.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use nix::errno::Errno;
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, mpsc};

use super::api::Api;
use super::clock::Clock;
use super::control::{ConfigFile, Control, Request, Shared};
use super::listeners::Listeners;
use super::path_errors::{self, PathErrorsHandler};
use super::worker::{Handler, Workers};
use super::{Options, http, logging, no_raw_socket, process, view};
use crate::config::plan::{Announce, Capture, DirectorPlan};
use crate::config::write::counted;
use crate::control::model::Reload;
use crate::control::operation::Running;
use crate::control::state::{AdminStates, FileNames};
use crate::datapath::BATCH;
use crate::datapath::raw_socket::{Receiver, Sender};
use crate::datapath::tun::{Queue, Tun};
use crate::director::cluster::Cluster;
use crate::director::path::errors::{Event, PathErrors};
use crate::director::tables::Tables;
use crate::director::verdict::{DropReason, Verdict};
use crate::director::{Director, Extra};
use crate::encapsulation::ipip;
use crate::failure::Failure;
use crate::host::{self, DirectorHost, DirectorHostOptions, Netlink, Notice};
use crate::metrics::counters::{DirectorCounters, PathCounters};
use crate::metrics::{estimator, exposition};
use crate::packet::Frame;
use crate::time::Moment;

/// More workers than this have not been faster on any machine measured so far.
const QUEUES_DEFAULT_MAX: usize = 4;

/// Ticks of the host (2 s each) between two queries of routes without a change notification.
const TICKS_PER_LOOK: u32 = 15;

/// Requests for changes that may wait in the queue.
const REQUESTS_MAX: usize = 64;

/// Pause between two checks of draining real servers.
const TEND_PERIOD: Duration = Duration::from_secs(1);

/// The shortest time between two route queries caused by packets that did not fit: one query serves all of
/// them.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Runs a director until a signal ends it.
///
/// # Errors
/// `Refused` if the configuration contradicts the host, `Failed` for everything else; the host is then as it
/// was before.
pub fn run(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    logging::start(options.log_format);
    process::runtime()?.block_on(serve(plan, file, options))
}

async fn serve(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    let mut end = Box::pin(process::end_signal()?);
    let hangup = process::hangup_signal()?;
    let clock = Clock::start();
    let netlink = Netlink::open()?;
    let interface = netlink.interface(&plan.interface).await?;
    let listeners = Listeners::open(&plan).await?;
    let queues = plan.queues.unwrap_or_else(default_queues);
    // One for each queue, and one for the receiver of ICMP errors.
    let senders = (0..=queues).map(|_| Sender::new()).collect::<io::Result<Vec<_>>>();
    let senders = senders.map_err(|error| no_raw_socket(&error))?;
    let ear = Receiver::icmp_errors_about(ipip::ROW.protocol).map_err(|error| no_raw_socket(&error))?;
    // Equal to the client-side interface's MTU, so that the device accepts everything that the interface
    // receives.
    let mtu = interface.mtu.min(65_535) as u16;
    let (tun, captures) = Tun::create(&plan.tun, mtu, queues)?;
    tun.up().map_err(|error| Failure::Failed(format!("cannot bring up {}: {error}", tun.name())))?;
    let mut host = DirectorHost::start(host_options(&plan, options)).await?;
    let (requests, demands) = mpsc::channel(REQUESTS_MAX);
    let inlet = Inlet { file, hangup, demands };
    let service = match Service::start(&plan, &host, clock, captures, senders, ear, inlet).await {
        Ok(service) => service,
        Err(failure) => {
            host.stop().await;
            return Err(failure);
        }
    };
    service.host_changes.store(host.changes().entries().len(), Ordering::Relaxed);
    print_commands(&host, options);
    let monitoring = http::monitoring(service.renderer(), Arc::new(AtomicBool::new(true)));
    let _control_path = listeners.serve(monitoring, Api::new(service.shared.clone(), requests, true));
    let services = plan.cluster.virtual_services.len();
    tracing::info!(
        "director: ready on {} with {}, {} of {}, metrics on {}",
        plan.interface,
        counted(services, "virtual service"),
        counted(queues, "queue"),
        tun.name(),
        plan.metrics
    );
    let outcome = service.run(&plan, &mut host, &mut end).await;
    host.stop().await;
    drop(tun);
    outcome
}

fn default_queues() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(QUEUES_DEFAULT_MAX))
}

fn host_options(plan: &DirectorPlan, options: Options) -> DirectorHostOptions {
    DirectorHostOptions {
        interface: plan.interface.clone(),
        tun: plan.tun.clone(),
        vips: view::vips(&plan.cluster).into_iter().collect(),
        capture: match plan.capture {
            Capture::Auto => host::CaptureMode::Auto,
            Capture::Route => host::CaptureMode::Route,
            Capture::Rule => host::CaptureMode::Rule,
        },
        announce: match plan.announce {
            Announce::Always => host::Announce::Always,
            Announce::Local => host::Announce::WhenLocal,
            Announce::Never => host::Announce::Never,
        },
        changes: options.host_changes(),
    }
}

fn print_commands(host: &DirectorHost, options: Options) {
    if !options.changes_host {
        for command in host.changes().commands() {
            // `println!` would panic if nobody reads the output.
            let _ = writeln!(io::stdout(), "{command}");
        }
    }
}

/// The sources of requests for another configuration.
struct Inlet {
    file: ConfigFile,
    hangup: Signal,
    demands: mpsc::Receiver<Request>,
}

/// A running director.
struct Service {
    clock: Clock,
    cluster: Arc<ArcSwap<Cluster>>,
    tables: Arc<Tables>,
    control: Control,
    shared: Arc<Shared>,
    hangup: Signal,
    demands: mpsc::Receiver<Request>,
    host_changes: Arc<AtomicUsize>,
    failures: mpsc::UnboundedReceiver<String>,
    /// Signalled when a packet did not fit its path, so that the kernel may know a smaller MTU.
    narrowed: Arc<Notify>,
    path_counters: Arc<PathCounters>,
    path_events: mpsc::UnboundedReceiver<Event>,
    /// Held for its drop, which stops the workers.
    _workers: Workers,
}

impl Service {
    async fn start(
        plan: &DirectorPlan,
        host: &DirectorHost,
        clock: Clock,
        captures: Vec<Queue>,
        mut senders: Vec<Sender>,
        ear: Receiver,
        inlet: Inlet,
    ) -> Result<Service, Failure> {
        let view = view::look(&plan.cluster, plan.outer_source, host, None).await?;
        let running = running(plan);
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(running.cluster.clone(), view)));
        let tables = Tables::new(plan.connections_max, process::random());
        let tables = Arc::new(tables.with_connections_per_client_max(plan.connections_per_client_max));
        let no_threads = |error: io::Error| Failure::Failed(format!("cannot start a worker: {error}"));
        let (mut workers, failures) = Workers::new().map_err(no_threads)?;
        let narrowed = Arc::new(Notify::new());
        let (events, path_events) = mpsc::unbounded_channel();
        let path_counters = Arc::new(PathCounters::default());
        if let Some(sender) = senders.pop() {
            let errors = PathErrors::new(cluster.clone(), tables.clone());
            let handler = PathErrorsHandler { errors, counters: path_counters.clone(), events };
            workers.start("director-paths", clock, ear, sender, handler).map_err(no_threads)?;
        }
        let mut counters = Vec::new();
        for (number, (capture, sender)) in captures.into_iter().zip(senders).enumerate() {
            let count = Arc::new(DirectorCounters::default());
            counters.push(count.clone());
            let handler = DirectorHandler {
                latest: cluster.clone(),
                cluster: None,
                director: Director::new(tables.clone(), process::random()),
                counters: count,
                fates: vec![(Verdict::Drop(DropReason::Truncated), 0); BATCH],
                extra: None,
                narrowed: narrowed.clone(),
            };
            workers
                .start(&format!("director-{number}"), clock, capture, sender, handler)
                .map_err(no_threads)?;
        }
        let host_changes = Arc::new(AtomicUsize::new(0));
        let Inlet { file, hangup, demands } = inlet;
        let name = file.path.as_ref().map(|path| path.display().to_string());
        let first = cluster.load_full();
        let shared = Arc::new(Shared::new(plan.clone(), name, clock, tables.clone(), counters, first));
        let control = Control::new(file, plan.clone(), running, clock, cluster.clone(), shared.clone());
        Ok(Service {
            clock,
            cluster,
            tables,
            control,
            shared,
            hangup,
            demands,
            host_changes,
            failures,
            narrowed,
            path_counters,
            path_events,
            _workers: workers,
        })
    }

    fn renderer(&self) -> http::Render {
        let (shared, host_changes) = (self.shared.clone(), self.host_changes.clone());
        let (cluster, paths) = (self.cluster.clone(), self.path_counters.clone());
        Arc::new(move || {
            let host_changes = host_changes.load(Ordering::Relaxed);
            let process =
                exposition::Process { role: "director", host_changes, publish_own: process::publish };
            let Shared { workers, tables, clock, .. } = &*shared;
            let (ledger, now) = (shared.ledger_mutex(), clock.now());
            exposition::director(process, workers, ledger, &paths, &cluster.load(), tables, now)
        })
    }

    /// Runs until a signal arrives or a worker fails.
    async fn run(
        mut self,
        plan: &DirectorPlan,
        host: &mut DirectorHost,
        end: &mut (impl Future<Output = &'static str> + Unpin),
    ) -> Result<(), Failure> {
        let mut ticks = 0u32;
        let mut looked = tokio::time::Instant::now();
        let sweep = tokio::time::sleep(sweep_period(0));
        tokio::pin!(sweep);
        let mut estimate = every(estimator::PERIOD);
        let mut tend = every(TEND_PERIOD);
        let signal = loop {
            tokio::select! {
                signal = &mut *end => break signal,
                failure = self.failures.recv() => {
                    let failure = failure.unwrap_or_default();
                    return Err(Failure::Failed(format!("director: cannot read from {}: {failure}", plan.tun)));
                }
                notice = host.wait() => {
                    ticks = ticks.wrapping_add(1);
                    let is_look_due = notice == Notice::Changed || ticks.is_multiple_of(TICKS_PER_LOOK);
                    let follow = async {
                        host.on_notice(notice).await;
                        self.host_changes.store(host.changes().entries().len(), Ordering::Relaxed);
                        if is_look_due {
                            self.control.follow_paths(host).await;
                        }
                    };
                    if let Err(signal) = process::unless_ended(end, follow).await {
                        break signal;
                    }
                }
                Some(request) = self.demands.recv() => {
                    if let Err(signal) = process::unless_ended(end, self.control.answer(request, host)).await {
                        break signal;
                    }
                    self.host_changes.store(host.changes().entries().len(), Ordering::Relaxed);
                }
                Some(()) = self.hangup.recv() => {
                    let done = self.control.reload(Reload::default(), "SIGHUP".to_owned(), host);
                    // A refused reload has already been logged.
                    if let Err(signal) = process::unless_ended(end, done).await.map(drop) {
                        break signal;
                    }
                    self.host_changes.store(host.changes().entries().len(), Ordering::Relaxed);
                }
                _ = tend.tick(), if self.control.has_to_tend() => {
                    if let Err(signal) = process::unless_ended(end, self.control.tend(host)).await {
                        break signal;
                    }
                    self.host_changes.store(host.changes().entries().len(), Ordering::Relaxed);
                }
                _ = estimate.tick() => self.shared.tick(),
                Some(event) = self.path_events.recv() => path_errors::log(event),
                () = self.narrowed.notified(), if looked.elapsed() > LOOK_PAUSE => {
                    if let Err(signal) = process::unless_ended(end, self.control.follow_paths(host)).await {
                        break signal;
                    }
                    looked = tokio::time::Instant::now();
                }
                () = &mut sweep => {
                    self.sweep().await;
                    sweep.as_mut().reset(tokio::time::Instant::now() + sweep_period(self.tables.connections.len()));
                }
            }
        };
        tracing::info!("director: {signal}, stopping");
        Ok(())
    }

    async fn sweep(&self) {
        let (cluster, tables) = (self.cluster.clone(), self.tables.clone());
        let now = self.clock.now();
        let swept = tokio::task::spawn_blocking(move || tables.sweep(&cluster.load(), now));
        if let Err(error) = swept.await {
            tracing::error!("director: cannot sweep the connection table: {error}");
        }
    }
}

/// A missed tick is not caught up: each tick of the estimator must cover a full period's packets.
fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

/// One second for a small table, ten for a million entries: under 1 % of a core at 15 ns an entry.
fn sweep_period(entries: usize) -> Duration {
    Duration::from_millis((entries as u64 / 100).clamp(1_000, 10_000))
}

/// The initial configuration; all its schedulers use one hash key.
fn running(plan: &DirectorPlan) -> Running {
    let hash_key = plan.hash_key.unwrap_or_else(|| {
        let (high, low) = (process::random(), process::random());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    });
    let mut cluster = plan.cluster.clone();
    for service in &mut cluster.virtual_services {
        service.scheduler_options.hash_key = hash_key;
    }
    let file_names = FileNames::new(&plan.cluster).into();
    let states = AdminStates::default();
    Running { cluster: cluster.into(), defaults: plan.defaults, hash_key, states, file_names }
}

struct DirectorHandler {
    latest: Arc<ArcSwap<Cluster>>,
    /// The snapshot of the batch, so that a worker that waits holds none.
    cluster: Option<Guard<Arc<Cluster>>>,
    director: Director,
    counters: Arc<DirectorCounters>,
    /// By the frame's index in the batch; counted when the batch ends, because a counter must not decrease.
    fates: Vec<(Verdict, usize)>,
    /// The late fate of the extra frame returned last; `None` for a fragment.
    extra: Option<(Verdict, usize)>,
    narrowed: Arc<Notify>,
}

impl Handler for DirectorHandler {
    fn handle(&mut self, index: usize, frame: &mut Frame, now: Moment) -> Option<IpAddr> {
        let bytes = frame.len();
        let cluster = self.cluster.get_or_insert_with(|| self.latest.load());
        let verdict = self.director.handle_packet(cluster, frame, now);
        self.fates[index] = (verdict, bytes);
        destination(&verdict)
    }

    fn on_failure(&mut self, index: usize, error: &io::Error) {
        self.fates[index].0 = Verdict::Drop(DropReason::SendError);
        self.count_error(error);
    }

    fn on_end(&mut self, count: usize) {
        for (verdict, bytes) in &self.fates[..count] {
            self.counters.count(verdict, *bytes);
        }
    }

    fn poll_extra(&mut self, now: Moment) -> Option<(Frame, IpAddr)> {
        loop {
            self.extra = None;
            let cluster = self.cluster.get_or_insert_with(|| self.latest.load());
            let Some(extra) = self.director.poll_extra(cluster, now) else {
                self.cluster = None;
                return None;
            };
            match extra {
                Extra::Piece { frame, to } => return Some((frame, to)),
                Extra::Told { frame, to } => {
                    self.counters.told.add(1);
                    return Some((frame, to));
                }
                Extra::Late { frame, bytes, verdict } => match destination(&verdict) {
                    Some(to) => {
                        self.extra = Some((verdict, bytes));
                        return Some((frame, to));
                    }
                    None => self.counters.count_late(&verdict, bytes),
                },
            }
        }
    }

    fn on_extra_end(&mut self, error: Option<&io::Error>) {
        if let Some(error) = error {
            self.count_error(error);
        }
        if let Some((verdict, bytes)) = self.extra.take() {
            let failed = Verdict::Drop(DropReason::SendError);
            self.counters.count_late(if error.is_some() { &failed } else { &verdict }, bytes);
        }
    }

    fn is_waiting(&self) -> bool {
        self.director.is_waiting()
    }
}

impl DirectorHandler {
    fn count_error(&self, error: &io::Error) {
        // Netlink does not announce a path MTU that the kernel has learned.
        if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
            self.narrowed.notify_one();
        }
        self.counters.errors.add(error);
    }
}

fn destination(verdict: &Verdict) -> Option<IpAddr> {
    match verdict {
        Verdict::Transmit(route) => Some(route.to),
        Verdict::Reply(reply) => Some(reply.to),
        Verdict::Hold | Verdict::Drop(_) => None,
    }
}
