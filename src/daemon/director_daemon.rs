//! The director's daemon: device, host, workers, control loop, metrics; and clean-up on exit.

mod control_loop;
mod handler;
mod start;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;

use self::control_loop::{ChangeSources, ControlLoop};
use self::start::{DataPlane, Sockets};
use super::clock::Clock;
use super::control::{ConfigFile, Control, Shared};
use super::{Options, host_view, logging, runtime, signals};
use crate::config::plan::DirectorPlan;
use crate::config::write::counted;
use crate::control::operation::Running;
use crate::director::cluster::Cluster;
use crate::failure::Failure;
use crate::host::DirectorHost;
use crate::serve::api::Api;
use crate::serve::{Listeners, http};

/// Requests for changes that may wait in the queue.
const REQUESTS_MAX: usize = 64;

/// Runs a director until a signal ends it.
///
/// # Errors
/// `Refused` if the configuration contradicts the host, `Failed` for everything else; the host is then as it
/// was before.
pub(crate) fn run(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    logging::start(options.log_format);
    runtime::build()?.block_on(run_until_ended(plan, file, options))
}

async fn run_until_ended(plan: DirectorPlan, file: ConfigFile, options: Options) -> Result<(), Failure> {
    let mut end = Box::pin(signals::end()?);
    let hangup = signals::hangup()?;
    let clock = Clock::start();
    let mtu = start::device_mtu(&plan).await?;
    let listeners = Listeners::open(&plan).await?;
    let (tun, sockets) = Sockets::open(&plan, mtu)?;
    let host = DirectorHost::start(start::host_options(&plan, options)).await?;
    let running = start::initial_configuration(&plan);
    let plane = match start_workers(&plan, &running, &host, clock, sockets).await {
        Ok(plane) => plane,
        Err(failure) => {
            host.stop().await;
            return Err(failure);
        }
    };
    options.print_commands(host.changes());
    let (services, queues) = (plan.cluster.virtual_services.len(), plane.counters.len());
    let ready = format!(
        "director: ready on {} with {}, {} of {}, metrics on {}",
        plan.interface,
        counted(services, "virtual service"),
        counted(queues, "queue"),
        tun.name(),
        plan.metrics
    );
    let (requests, demands) = mpsc::channel(REQUESTS_MAX);
    let sources = ChangeSources::new(demands, hangup, plane.narrowed.clone());
    let config_file = file.path.as_ref().map(|path| path.display().to_string());
    let (tables, counters, first) = (plane.tables.clone(), plane.counters.clone(), plane.cluster.load_full());
    let shared = Arc::new(Shared::new(plan.clone(), config_file, clock, tables, counters, first));
    let control = Control::new(file, plan, running, plane.cluster.clone(), shared.clone(), host);
    let mut control_loop = ControlLoop::new(control, shared.clone(), plane, sources);
    let monitoring = http::monitoring(control_loop.renderer(), Arc::new(AtomicBool::new(true)));
    let _control_path = listeners.serve(monitoring, Api::new(shared, requests, true));
    tracing::info!("{ready}");
    let outcome = control_loop.run(&mut end).await;
    if let Ok(signal) = &outcome {
        tracing::info!("director: {signal}, stopping");
    }
    control_loop.stop().await;
    drop(tun);
    outcome.map(drop)
}

async fn start_workers(
    plan: &DirectorPlan,
    running: &Running,
    host: &DirectorHost,
    clock: Clock,
    sockets: Sockets,
) -> Result<DataPlane, Failure> {
    let view = host_view::query(&plan.cluster, plan.outer_source, host, None).await?;
    DataPlane::start(plan, Cluster::new(running.cluster.clone(), view), clock, sockets)
}
