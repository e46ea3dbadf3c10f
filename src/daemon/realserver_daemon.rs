//! The real server's daemon: socket, device, host, one worker, metrics; and clean-up on exit.

mod handler;
mod places;
mod report;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::time::{MissedTickBehavior, interval};

use self::handler::{RealserverHandler, Seen};
use self::report::{Bound, Report};
use super::clock::{self, Clock};
use super::device::{DeviceState, OwnDevice};
use super::losses::LossWatch;
use super::lost::Lost;
use super::own_addresses::OwnAddressesFollower;
use super::troubles::{self, LOOK_PERIOD, SECOND_LOOK, Watch};
use super::worker::Workers;
use super::{
    Options, check_host, journal_place, logging, no_raw_socket, own_metrics, privileges, runtime, signals,
};
use crate::config::plan::{self, RealserverPlan};
use crate::config::write::counted;
use crate::datapath::raw_socket::Receivers;
use crate::datapath::tun::Tun;
use crate::encapsulation::{self, ENCAPSULATIONS};
use crate::failure::Failure;
use crate::host::change::Change;
use crate::host::{Mss, Netlink, Notice, RealServerHost, RealServerHostOptions};
use crate::metrics::counters::RealserverCounters;
use crate::metrics::exposition;
use crate::metrics::losses::Losses;
use crate::packet::MTU_DEFAULT;
use crate::realserver::guard::Guard;
use crate::realserver::{Decapsulator, mss};
use crate::serve::{RealserverListeners, http};
use crate::trouble::{Found, Source};

/// Runs a real server until a signal ends it.
///
/// # Errors
/// `Refused` if the configuration contradicts the host, `Failed` for everything else; the host is then as it
/// was before.
pub(crate) fn run(plan: RealserverPlan, options: Options) -> Result<(), Failure> {
    privileges::gain_none();
    logging::start(options.log_format);
    runtime::run(serve(plan, options))
}

async fn serve(mut plan: RealserverPlan, options: Options) -> Result<(), Failure> {
    let mut end = Box::pin(signals::end_or_hangup()?);
    let clock = Clock::start();
    let own = OwnAddressesFollower::new(&plan.guard.vips);
    let own_addresses = check_host::own_addresses_without_vips(&plan);
    check_host::leave_out_this_host(&mut plan, &own_addresses)?;
    places::check(&plan).await?;
    let listeners = RealserverListeners::open(&plan).await?;
    let carriers = ENCAPSULATIONS.iter().map(|row| row.carrier);
    let receiver = Receivers::new(carriers).map_err(|error| no_raw_socket(&error))?;
    let meters = receiver.loss_meters().map_err(|error| no_raw_socket(&error))?;
    let mut losses = LossWatch::new(&plan.tun, &[], meters);
    let mtu = mtu_towards_directors(&plan).await;
    let (tun, mut queues) = Tun::create(&plan.tun, mtu, 1)?;
    losses.look().await;
    tun.up().map_err(|error| Failure::Failed(format!("cannot bring up {}: {error}", tun.name())))?;
    let host_options = RealServerHostOptions {
        tun: plan.tun.clone(),
        vips: plan.guard.vips.clone(),
        mss: mss_of(&plan),
        changes: options.host_changes(),
        journal: journal_place::of("realserver", &plan.tun),
    };
    let host = RealServerHost::start(host_options).await?;
    privileges::reduce();
    let (counters, seen) = (Arc::new(RealserverCounters::default()), Arc::new(Seen::default()));
    let guard = Guard::following(plan.guard.clone(), own.latest());
    let handler = RealserverHandler {
        decapsulator: Decapsulator::new(guard, ENCAPSULATIONS, mtu),
        counters: counters.clone(),
        seen: seen.clone(),
    };
    let no_threads = |error: io::Error| Failure::Failed(format!("cannot start a worker: {error}"));
    let started = Workers::new().and_then(|(mut workers, failures)| {
        if let Some(queue) = queues.pop() {
            workers.start("realserver-0", clock, receiver, queue, handler)?;
        }
        Ok((workers, failures))
    });
    let (workers, mut failures) = match started {
        Ok(started) => started,
        Err(error) => {
            host.stop().await;
            return Err(no_threads(error));
        }
    };
    let (watch, settings) = (Watch::new("realserver", clock), Arc::new(Settings::default()));
    watch.report(Source::Host, host.troubles());
    settings.take(&host);
    options.print_commands(host.changes().commands()).await;
    let render = renderer(&plan, counters.clone(), settings.clone(), losses.losses());
    let health = watch.health();
    let lost = Lost::new(losses.losses(), clock);
    let report = Report { plan: plan.clone(), clock, counters, seen, settings, health: health.clone(), lost };
    let report = Arc::new(report);
    let device = OwnDevice::new(tun);
    let mut watched = Watched { device, host, workers, report: report.clone(), watch, losses, own };
    watched.look().await;
    let served = report.clone();
    health.serve(move || served.served());
    let monitoring = http::monitoring(render, health);
    let _control_path = listeners.serve(monitoring, Arc::new(move || report.status()), &plan.http_names);
    log_ready(&plan);
    let outcome = follow(&mut watched, &mut failures, &mut end).await;
    let Watched { host, workers, .. } = watched;
    drop(workers);
    host.stop().await;
    outcome
}

fn log_ready(plan: &RealserverPlan) {
    tracing::info!(
        kind = "ready",
        device = plan.tun,
        "realserver: ready for {} from {} on {}, metrics on {}",
        counted(plan.guard.vips.len(), "VIP"),
        counted(plan.guard.directors.len(), "director"),
        plan.tun,
        plan.metrics
    );
}

/// What the daemon checks while it runs.
struct Watched {
    device: OwnDevice,
    host: RealServerHost,
    workers: Workers,
    report: Arc<Report>,
    watch: Watch,
    losses: LossWatch,
    own: OwnAddressesFollower,
}

impl Watched {
    async fn on_notice(&mut self, notice: Notice) {
        if notice == Notice::Tick {
            self.losses.look().await;
        }
        let mut found = self.check_host(notice).await;
        if self.watch.has_news(Source::Host, &found) {
            tokio::time::sleep(SECOND_LOOK).await;
            found = self.check_host(notice).await;
        }
        self.watch.report(Source::Host, found);
        self.report.settings.take(&self.host);
        self.look().await;
    }

    /// Puts the device and the host's settings right, and returns what is still wrong.
    async fn check_host(&mut self, notice: Notice) -> Vec<Found> {
        let device = self.device.restore().await;
        if device == Ok(DeviceState::Restored) {
            self.host.on_device_restored();
        }
        self.host.on_notice(notice).await;
        device.map_or_else(|trouble| vec![trouble], |_| self.host.troubles())
    }

    /// Looks at everything but the host's settings, and logs what is new.
    async fn look(&mut self) {
        let watch = &mut self.watch;
        watch.report(Source::Workers, troubles::of_workers(&self.workers));
        watch.report(Source::Cluster, places::troubles(self.host.netlink(), &self.report.plan).await);
        watch.report(Source::Traffic, self.report.troubles());
        watch.conclude();
    }
}

/// Runs until a signal arrives or the worker fails.
async fn follow(
    watched: &mut Watched,
    failures: &mut tokio::sync::mpsc::UnboundedReceiver<String>,
    end: &mut (impl Future<Output = &'static str> + Unpin),
) -> Result<(), Failure> {
    let mut look = interval(LOOK_PERIOD);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let outcome = loop {
        tokio::select! {
            signal = &mut *end => break Ok(signal),
            failure = failures.recv() => {
                break Err(Failure::Failed(format!("realserver: cannot receive: {}", failure.unwrap_or_default())));
            }
            notice = watched.host.wait() => {
                watched.own.refresh();
                if let Err(signal) = signals::unless_ended(end, watched.on_notice(notice)).await {
                    break Ok(signal);
                }
            }
            _ = look.tick() => watched.look().await,
        }
    };
    if let Ok(signal) = &outcome {
        tracing::info!(kind = "stopping", "realserver: {signal}, stopping");
    }
    outcome.map(drop)
}

/// The host's settings that the metrics show.
#[derive(Default)]
struct Settings {
    changes: AtomicUsize,
    mss: AtomicU16,
    bound: Bound,
}

impl Settings {
    fn take(&self, host: &RealServerHost) {
        self.changes.store(host.changes().entries().len(), Ordering::Relaxed);
        self.mss.store(host.mss(), Ordering::Relaxed);
        let bound = host.changes().entries().iter().filter_map(|entry| match &entry.change {
            Change::Address(bound) if entry.is_in_force => Some(IpAddr::V4(bound.address)),
            _ => None,
        });
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound.collect();
    }

    /// The MSS announced to clients; 0 for the host's own.
    fn mss(&self) -> u16 {
        self.mss.load(Ordering::Relaxed)
    }
}

fn mss_of(plan: &RealserverPlan) -> Mss {
    match plan.mss {
        plan::MssSetting::Off => Mss::Off,
        plan::MssSetting::Fixed(mss) => Mss::Fixed(mss),
        plan::MssSetting::Auto => Mss::Auto {
            directors: plan.guard.directors.iter().map(|prefix| prefix.addr()).collect(),
            fitting: |path_mtu| mss::fitting(path_mtu, encapsulation::OVERHEAD_MAX),
        },
    }
}

async fn mtu_towards_directors(plan: &RealserverPlan) -> u16 {
    let Ok(netlink) = Netlink::open() else { return MTU_DEFAULT };
    for prefix in &plan.guard.directors {
        if let Ok(route) = netlink.route_to(prefix.addr()).await {
            return route.path_mtu.min(65_535) as u16;
        }
    }
    MTU_DEFAULT
}

fn renderer(
    plan: &RealserverPlan,
    counters: Arc<RealserverCounters>,
    settings: Arc<Settings>,
    losses: Arc<Losses>,
) -> http::Render {
    let guard = plan.guard.clone();
    Arc::new(move || {
        let process =
            own_metrics::of_process("realserver", settings.changes.load(Ordering::Relaxed), &losses);
        exposition::realserver(process, &counters, &guard, settings.mss())
    })
}
