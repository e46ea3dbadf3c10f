//! Starts a director: opens device and sockets, then the workers.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};

use super::handler::DirectorHandler;
use crate::config::plan::{AnnounceSetting, CaptureSetting, DirectorPlan};
use crate::control::operation::Running;
use crate::control::state::{AdminStates, FileNames};
use crate::daemon::clock::Clock;
use crate::daemon::health::{Ask, Starter};
use crate::daemon::path_errors::PathErrorsHandler;
use crate::daemon::worker::Workers;
use crate::daemon::{Options, host_view, journal_place, no_raw_socket, random};
use crate::datapath::both::Both;
use crate::datapath::raw_socket::{LossMeter, Receiver, Sender};
use crate::datapath::tun::{Queue, Tun};
use crate::director::Director;
use crate::director::cluster::Cluster;
use crate::director::path_errors::{Event, PathErrors};
use crate::director::tables::Tables;
use crate::encapsulation::ENCAPSULATIONS;
use crate::failure::Failure;
use crate::host::{self, DirectorHostOptions, Netlink};
use crate::metrics::counters::{DirectorCounters, PathCounters};

/// More workers than this have not been faster on any machine measured so far.
const QUEUES_DEFAULT_MAX: usize = 4;

/// What the workers read from and write to.
pub(super) struct Sockets {
    captures: Vec<Queue>,
    /// One for each queue, and one for the receiver of ICMP errors.
    senders: Vec<Sender>,
    icmp_receiver: Receiver,
    /// Of the receiver.
    pub losses: Vec<LossMeter>,
}

impl Sockets {
    /// Opens the sockets, creates the device and brings it up; `mtu` is the largest of the client-side interfaces.
    pub(super) fn open(plan: &DirectorPlan, mtu: u16) -> Result<(Tun, Sockets), Failure> {
        let queues = plan.queues.unwrap_or_else(default_queues);
        let senders = (0..=queues).map(|_| Sender::new()).collect::<io::Result<Vec<_>>>();
        let senders = senders.map_err(|error| no_raw_socket(&error))?;
        let carriers = ENCAPSULATIONS.iter().map(|row| row.carrier);
        let icmp_receiver = Receiver::icmp_errors_about(carriers).map_err(|error| no_raw_socket(&error))?;
        let losses = vec![icmp_receiver.loss_meter().map_err(|error| no_raw_socket(&error))?];
        let (tun, captures) = Tun::create(&plan.tun, mtu, queues)?;
        tun.up().map_err(|error| Failure::Failed(format!("cannot bring up {}: {error}", tun.name())))?;
        Ok((tun, Sockets { captures, senders, icmp_receiver, losses }))
    }
}

fn default_queues() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(QUEUES_DEFAULT_MAX))
}

/// The MTU of the device: the largest of the client-side interfaces', so that the device accepts everything that they receive.
pub(super) async fn device_mtu(plan: &DirectorPlan) -> Result<u16, Failure> {
    let (netlink, mut mtu) = (Netlink::open()?, 0);
    for name in &plan.interfaces {
        mtu = netlink.interface(name).await?.mtu.max(mtu);
    }
    Ok(mtu.min(65_535) as u16)
}

pub(in crate::daemon) fn host_options(plan: &DirectorPlan, options: Options) -> DirectorHostOptions {
    DirectorHostOptions {
        interfaces: plan.interfaces.clone(),
        tun: plan.tun.clone(),
        vips: host_view::vips(&plan.cluster).into_iter().collect(),
        outer_source: plan.outer_source,
        capture: match plan.capture {
            CaptureSetting::Auto => host::CaptureMode::Auto,
            CaptureSetting::Route => host::CaptureMode::Route,
            CaptureSetting::Rule => host::CaptureMode::Rule,
        },
        announce: match plan.announce {
            AnnounceSetting::Always => host::Announce::Always,
            AnnounceSetting::Local => host::Announce::WhenLocal,
            AnnounceSetting::Healthy => host::Announce::WhenHealthy,
            AnnounceSetting::Never => host::Announce::Never,
        },
        changes: options.host_changes(),
        journal: journal_place::of("director", &plan.tun),
    }
}

/// The thread that starts and ends the programs of checks and hooks.
pub(super) fn programs() -> Result<Starter, Failure> {
    Starter::new().map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}

/// The initial configuration; all its schedulers use one hash key.
pub(super) fn initial_configuration(plan: &DirectorPlan) -> Running {
    let hash_key = plan.hash_key.unwrap_or_else(|| {
        let (high, low) = (random::draw(), random::draw());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    });
    let mut cluster = plan.cluster.clone();
    for service in &mut cluster.virtual_services {
        service.scheduler_options.hash_key = hash_key;
    }
    let file_names = FileNames::new(&plan.cluster).into();
    let states = AdminStates::default();
    Running {
        cluster: cluster.into(),
        defaults: plan.defaults.clone(),
        hash_key,
        states,
        file_names,
        health: Arc::default(),
    }
}

/// The running workers, and what they share with the control task.
pub(super) struct DataPlane {
    pub cluster: Arc<ArcSwap<Cluster>>,
    pub tables: Arc<Tables>,
    pub counters: Vec<Arc<DirectorCounters>>,
    pub failures: mpsc::UnboundedReceiver<String>,
    /// Notified when a packet did not fit its path, because the kernel may know a smaller MTU.
    pub narrowed: Arc<Notify>,
    pub path_counters: Arc<PathCounters>,
    pub path_events: mpsc::UnboundedReceiver<Event>,
    /// Dropping them stops them.
    pub workers: Workers,
}

impl DataPlane {
    /// Starts one worker for each queue, and one for the ICMP errors about outer packets.
    pub(super) fn start(
        plan: &DirectorPlan,
        cluster: Cluster,
        clock: Clock,
        sockets: Sockets,
        asks: mpsc::Sender<Ask>,
    ) -> Result<DataPlane, Failure> {
        let Sockets { captures, mut senders, icmp_receiver, .. } = sockets;
        let cluster = Arc::new(ArcSwap::from_pointee(cluster));
        let tables = Tables::new(plan.connections_max, random::draw());
        let tables = Arc::new(tables.with_connections_per_client_max(plan.connections_per_client_max));
        let no_threads = |error: io::Error| Failure::Failed(format!("cannot start a worker: {error}"));
        let (mut workers, failures) = Workers::new().map_err(no_threads)?;
        let (events, path_events) = mpsc::unbounded_channel();
        let path_counters = Arc::new(PathCounters::default());
        if let Some(sender) = senders.pop() {
            let errors = PathErrors::new(cluster.clone(), tables.clone(), random::draw());
            let (counters, cluster) = (path_counters.clone(), cluster.clone());
            let handler = PathErrorsHandler { errors, counters, events, cluster, asks };
            workers.start("director-paths", clock, icmp_receiver, sender, handler).map_err(no_threads)?;
        }
        let (mut counters, narrowed) = (Vec::new(), Arc::new(Notify::new()));
        for (number, (capture, sender)) in captures.into_iter().zip(senders).enumerate() {
            let count = Arc::new(DirectorCounters::default());
            counters.push(count.clone());
            let director = Director::new(tables.clone(), random::draw());
            let (latest, narrowed) = (cluster.clone(), narrowed.clone());
            let now = clock.now();
            let handler = DirectorHandler { latest, cluster: None, director, counters: count, narrowed, now };
            let name = format!("director-{number}");
            // Back into the same queue, so that the kernel keeps assigning the flow to it (tun_flow_update()).
            let host = capture.try_clone().map_err(no_threads)?;
            workers.start(&name, clock, capture, Both::new(sender, host), handler).map_err(no_threads)?;
        }
        Ok(DataPlane { cluster, tables, counters, failures, narrowed, path_counters, path_events, workers })
    }
}
