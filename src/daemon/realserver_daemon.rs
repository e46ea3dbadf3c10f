//! The real server's daemon: socket, device, host, one worker, metrics; and clean-up on exit.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

use super::clock::Clock;
use super::worker::{Fate, Handler, Workers};
use super::{Options, logging, no_raw_socket, own_metrics, runtime, signals};
use crate::config::plan::{self, RealserverPlan};
use crate::config::write::counted;
use crate::datapath::raw_socket::Receivers;
use crate::datapath::tun::Tun;
use crate::encapsulation::{self, ENCAPSULATIONS};
use crate::failure::Failure;
use crate::host::{Mss, Netlink, RealServerHost, RealServerHostOptions, own_addresses};
use crate::metrics::counters::RealserverCounters;
use crate::metrics::exposition;
use crate::packet::{Frame, MTU_DEFAULT};
use crate::realserver::guard::Guard;
use crate::realserver::verdict::{DropReason, Verdict};
use crate::realserver::{Decapsulator, mss};
use crate::serve::http;
use crate::time::Moment;

/// Runs a real server until a signal ends it.
///
/// # Errors
/// `Refused` if the configuration contradicts the host, `Failed` for everything else; the host is then as it
/// was before.
pub(crate) fn run(plan: RealserverPlan, options: Options) -> Result<(), Failure> {
    logging::start(options.log_format);
    runtime::build()?.block_on(serve(plan, options))
}

async fn serve(plan: RealserverPlan, options: Options) -> Result<(), Failure> {
    let mut end = Box::pin(signals::end_or_hangup()?);
    let own_addresses: Vec<IpAddr> =
        own_addresses().into_iter().filter(|address| !plan.guard.vips.contains(address)).collect();
    let director = plan.guard.directors.iter().map(|prefix| prefix.addr());
    if let Some(address) = director.into_iter().find(|address| own_addresses.contains(address)) {
        let why = "a host cannot be the director and its own real server; use the other host's address";
        return Err(Failure::Refused(format!("director {address} is an address of this host: {why}")));
    }
    let listener = http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await?;
    let carriers = ENCAPSULATIONS.iter().map(|row| row.carrier);
    let receiver = Receivers::new(carriers).map_err(|error| no_raw_socket(&error))?;
    let mtu = mtu_towards_directors(&plan).await;
    let (tun, mut queues) = Tun::create(&plan.tun, mtu, 1)?;
    tun.up().map_err(|error| Failure::Failed(format!("cannot bring up {}: {error}", tun.name())))?;
    let host_options = RealServerHostOptions {
        tun: plan.tun.clone(),
        vips: plan.guard.vips.clone(),
        mss: mss_of(&plan),
        changes: options.host_changes(),
    };
    let mut host = RealServerHost::start(host_options).await?;
    let counters = Arc::new(RealserverCounters::default());
    let guard = Guard::new(plan.guard.clone(), own_addresses);
    let handler = RealserverHandler {
        decapsulator: Decapsulator::new(guard, ENCAPSULATIONS, mtu),
        counters: counters.clone(),
    };
    let no_threads = |error: io::Error| Failure::Failed(format!("cannot start a worker: {error}"));
    let started = Workers::new().and_then(|(mut workers, failures)| {
        if let Some(queue) = queues.pop() {
            workers.start("realserver-0", Clock::start(), receiver, queue, handler)?;
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
    let settings = Arc::new(Settings::default());
    settings.take(&host);
    options.print_commands(host.changes());
    let render = renderer(&plan, counters, settings.clone());
    tokio::spawn(http::serve(listener, http::monitoring(render, Arc::new(AtomicBool::new(true)))));
    tracing::info!(
        "realserver: ready for {} from {} on {}, metrics on {}",
        counted(plan.guard.vips.len(), "VIP"),
        counted(plan.guard.directors.len(), "director"),
        tun.name(),
        plan.metrics
    );
    let outcome = follow(&mut host, &mut failures, &settings, &mut end).await;
    drop(workers);
    host.stop().await;
    outcome
}

/// Runs until a signal arrives or the worker fails.
async fn follow(
    host: &mut RealServerHost,
    failures: &mut tokio::sync::mpsc::UnboundedReceiver<String>,
    settings: &Settings,
    end: &mut (impl Future<Output = &'static str> + Unpin),
) -> Result<(), Failure> {
    let outcome = loop {
        tokio::select! {
            signal = &mut *end => break Ok(signal),
            failure = failures.recv() => {
                break Err(Failure::Failed(format!("realserver: cannot receive: {}", failure.unwrap_or_default())));
            }
            notice = host.wait() => {
                if let Err(signal) = signals::unless_ended(end, host.on_notice(notice)).await {
                    break Ok(signal);
                }
                settings.take(host);
            }
        }
    };
    if let Ok(signal) = &outcome {
        tracing::info!("realserver: {signal}, stopping");
    }
    outcome.map(drop)
}

/// The host's settings that the metrics show.
#[derive(Default)]
struct Settings {
    changes: AtomicUsize,
    mss: AtomicU16,
}

impl Settings {
    fn take(&self, host: &RealServerHost) {
        self.changes.store(host.changes().entries().len(), Ordering::Relaxed);
        self.mss.store(host.mss(), Ordering::Relaxed);
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
) -> http::Render {
    let guard = plan.guard.clone();
    Arc::new(move || {
        let process = own_metrics::of_process("realserver", settings.changes.load(Ordering::Relaxed));
        exposition::realserver(process, &counters, &guard, settings.mss.load(Ordering::Relaxed))
    })
}

struct RealserverHandler {
    decapsulator: Decapsulator,
    counters: Arc<RealserverCounters>,
}

impl Handler for RealserverHandler {
    type Verdict = Verdict;

    const SEND_ERROR: Verdict = Verdict::Drop(DropReason::SendError);

    fn handle(&mut self, frame: &mut Frame, _: Moment) -> (Verdict, Option<IpAddr>) {
        let verdict = self.decapsulator.handle_packet(frame);
        let to = match verdict {
            // The host's own stack routes the packet; the device accepts any.
            Verdict::Deliver(delivery) => self.decapsulator.vip(delivery.vip),
            Verdict::Drop(_) => None,
        };
        (verdict, to)
    }

    fn count(&mut self, fate: &Fate<Verdict>) {
        self.counters.count(&fate.verdict, fate.captured, fate.handled);
    }

    fn on_failure(&mut self, error: &io::Error) {
        self.counters.errors.add(error);
    }
}
