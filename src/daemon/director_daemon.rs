//! The director's daemon: device, host, workers, control loop, metrics; and clean-up on exit.

mod checking;
mod control_loop;
mod handler;
mod start;

use std::sync::Arc;

use tokio::sync::mpsc;

use self::checking::Checking;
use self::control_loop::{ChangeSources, ControlLoop};
pub(super) use self::start::host_options;
use self::start::{DataPlane, Sockets};
use super::clock::Clock;
use super::control::{ConfigFile, Control, Known, Outside, Shared, probed};
use super::device::OwnDevice;
use super::health::{self, Ask};
use super::losses::LossWatch;
use super::lost::Lost;
use super::troubles::Watch;
use super::{Options, host_view, logging, privileges, runtime, signals, untracked};
use crate::config::plan::DirectorPlan;
use crate::config::write::counted;
use crate::control::operation::Running;
use crate::director::cluster::Cluster;
use crate::failure::Failure;
use crate::host::{DirectorHost, DirectorHostOptions, preflight};
use crate::serve::api::Api;
use crate::serve::{Listeners, http};
use crate::trouble::Source;

/// Requests for changes that may wait in the queue.
const REQUESTS_MAX: usize = 64;

/// Runs a director until a signal ends it.
///
/// # Errors
/// `Refused` if the configuration contradicts the host, `Failed` for everything else; the host is then as it
/// was before.
pub(crate) fn run(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    privileges::gain_none();
    logging::start(options.log_format);
    runtime::run(run_until_ended(plan, file, options))
}

async fn run_until_ended(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    let mut end = Box::pin(signals::end()?);
    let hangup = signals::hangup()?;
    let clock = Clock::start();
    let host_options = host_options(&plan, options);
    may_start(&plan, &host_options).await?;
    let mtu = start::device_mtu(&plan).await?;
    let listeners = Listeners::open(&plan).await?;
    let (tun, mut sockets) = Sockets::open(&plan, mtu)?;
    let mut losses = LossWatch::new(&plan.tun, &plan.interfaces, std::mem::take(&mut sockets.losses));
    losses.look().await;
    let mut host = DirectorHost::open(host_options).await?;
    let running = start::initial_configuration(&plan);
    let programs = start::programs()?;
    // The workers inherit what is left.
    privileges::reduce();
    let (asks, asked) = health::asks();
    let plane = start_workers(&plan, &running, &host, clock, (sockets, asks.clone())).await?;
    let (checking, checks, news) = Checking::start(&plane, clock, programs, (asks, asked))?;
    // Only the kernel can refuse from here on; each VIP is captured when a worker already waits for its packets.
    host.prepare().await?;
    host.set_probed(probed(&plan.cluster)).await?;
    let notrack = untracked::exemption(&plan, options);
    host.announce().await;
    options.print_commands(host.changes().commands()).await;
    options.print_commands(notrack.commands()).await;
    let ready = ready(&plan, plane.counters.len(), tun.name());
    let (requests, demands) = mpsc::channel(REQUESTS_MAX);
    let config_file = file.path.as_ref().map(|path| path.display().to_string());
    let watch = Watch::new("director", clock);
    let (tables, counters, first) = (plane.tables.clone(), plane.counters.clone(), plane.cluster.load_full());
    watch.report(Source::Host, host.troubles());
    let board = watch.health();
    let known = Known { health: board.clone(), lost: Lost::new(losses.losses(), clock) };
    let shared = Arc::new(Shared::new(plan.clone(), config_file, clock, tables, counters, first, known));
    let sources = ChangeSources::new(
        demands,
        hangup,
        plane.narrowed.clone(),
        shared.paths_moved.clone(),
        news,
        file.path.clone(),
    );
    let outside = Outside { device: OwnDevice::new(tun), host, notrack, losses, watch, checks };
    let mut control = Control::new(file, plan, running, plane.cluster.clone(), shared.clone(), outside);
    control.follow_checks().await;
    control.look().await;
    let mut control_loop = ControlLoop::new(control, shared.clone(), plane, sources);
    let monitoring = http::monitoring(control_loop.renderer(), board);
    let http_names = shared.plan.http_names.clone();
    let _control_path = listeners.serve(monitoring, Api::new(shared, requests, true), &http_names);
    tracing::info!(kind = "ready", "{ready}");
    control_loop.warn_of_file();
    let outcome = control_loop.run(&mut end).await;
    if let Ok(signal) = &outcome {
        tracing::info!(kind = "stopping", "director: {signal}, stopping");
    }
    checking.stop().await;
    control_loop.stop().await;
    outcome.map(drop)
}

async fn may_start(plan: &DirectorPlan, options: &DirectorHostOptions) -> Result<(), Failure> {
    let refusals = preflight::director(options, &host_view::rips(&plan.cluster)).await?;
    refusals.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// The line of the log when everything runs.
fn ready(plan: &DirectorPlan, queues: usize, device: &str) -> String {
    format!(
        "director: ready on {} with {}, {} of {device}, metrics on {}",
        plan.interfaces.join(" and "),
        counted(plan.cluster.virtual_services.len(), "virtual service"),
        counted(queues, "queue"),
        plan.metrics
    )
}

async fn start_workers(
    plan: &DirectorPlan,
    running: &Running,
    host: &DirectorHost,
    clock: Clock,
    (sockets, asks): (Sockets, mpsc::Sender<Ask>),
) -> Result<DataPlane, Failure> {
    let view = host_view::query(&plan.cluster, plan.outer_source, host, None).await?;
    DataPlane::start(plan, Cluster::new(running.in_force(), view), clock, sockets, asks)
}
