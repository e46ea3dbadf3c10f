//! The JSON of a generation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::control::model::{
    AfterDrain, AllStatistics, Draining, Dropped, Loss, Rates, RealServer, Role, ServerState,
    ServerStatistics, ServiceStatistics, Statistics, Status, TransmitErrors, Trouble, VirtualService,
};
use crate::control::state::AdminState;
use crate::director::cluster::{self, RealServerConfig};
use crate::director::real_server::{self, Live};
use crate::director::server_errors::{Cause, ServerErrors};
use crate::metrics::ledger::Reading;
use crate::metrics::losses::LossCause;
use crate::metrics::recent::Grown;
use crate::metrics::totals::Totals;
use crate::packet::MTU_DEFAULT;
use crate::serve::interface::{Published, RunningDirector};
use crate::time::Moment;

/// What is known against each RIP.
pub(super) struct Known(HashMap<String, Vec<Trouble>>);

impl Known {
    pub(super) fn of(director: &dyn RunningDirector) -> Known {
        let mut known: HashMap<String, Vec<Trouble>> = HashMap::new();
        for trouble in director.health().list() {
            if trouble.0.found.kind.is_about_real_server() {
                known.entry(trouble.0.found.subject.clone()).or_default().push((&trouble).into());
            }
        }
        Known(known)
    }

    fn against(&self, rip: IpAddr) -> Vec<Trouble> {
        if self.0.is_empty() { Vec::new() } else { self.0.get(&rip.to_string()).cloned().unwrap_or_default() }
    }
}

pub(super) fn virtual_service(
    service: &cluster::VirtualService,
    published: &Published,
    director: &dyn RunningDirector,
    known: &Known,
) -> VirtualService {
    let (own, servers) = readings(service, director);
    let health = director.health_view();
    let name = &service.config.name;
    let real_server = |config: &RealServerConfig| {
        let index = service.real_servers.iter().position(|server| server.config.rip == config.rip);
        // One that a drain has removed is in the snapshot while connections point to it.
        let gone = || {
            let mut all = published.cluster.real_servers();
            all.find(|server| server.virtual_service == service.slot && server.config.rip == config.rip)
        };
        let server = index.map(|index| &service.real_servers[index]).or_else(gone).map(|server| &**server);
        let reading = index.map(|index| servers[index]).unwrap_or_default();
        let state = published.states.of(name, config.rip);
        let found = of_server(config, server, reading, state, published, director);
        let seen = health.real_server(name, config.rip);
        RealServer {
            troubles: known.against(config.rip),
            health: seen.and_then(|seen| ServerState::new(seen, director.now())),
            ..found
        }
    };
    VirtualService {
        health: health.service(name).map(Into::into),
        keys: (&service.config).into(),
        statistics: statistics(own.since_zero),
        rates: rates(own.rates),
        real_servers: service.config.real_servers.iter().map(real_server).collect(),
    }
}

fn of_server(
    config: &RealServerConfig,
    server: Option<&real_server::RealServer>,
    reading: Reading,
    state: AdminState,
    published: &Published,
    director: &dyn RunningDirector,
) -> RealServer {
    let now = director.now();
    let path_mtu = || {
        let path = published.cluster.host().paths.get(&config.rip).map(|path| path.mtu);
        config.path_mtu.or(path).unwrap_or(MTU_DEFAULT)
    };
    let live = server.map(|server| &*server.live);
    let scheduled = server.filter(|server| server.is_present()).map(real_server::RealServer::weight);
    RealServer {
        keys: config.into(),
        weight_now: scheduled.unwrap_or_default(),
        local: published.cluster.host().local_rips.contains(&config.rip),
        path_mtu_now: server.map_or_else(path_mtu, |server| server.path_mtu(now)),
        active_connections: live.map_or(0, Live::active),
        inactive_connections: live.map_or(0, Live::inactive),
        persistent_connections: live.map_or(0, Live::persistent),
        overloaded: live.is_some_and(|live| live.is_overloaded.load(Ordering::Relaxed)),
        drain: draining(state, now),
        enabled: state != AdminState::Disabled,
        health: None,
        troubles: Vec::new(),
        transmit_errors: live.and_then(Live::errors_so_far).map(transmit_errors).unwrap_or_default(),
        statistics: statistics(reading.since_zero),
        rates: rates(reading.rates),
    }
}

fn transmit_errors(errors: &ServerErrors) -> Vec<TransmitErrors> {
    let of = |(cause, packets): (Cause, u64)| TransmitErrors { cause: cause.label().to_owned(), packets };
    errors.transmit().map(of).collect()
}

fn draining(state: AdminState, now: Moment) -> Option<Draining> {
    let ended = |then| Some(Draining { deadline_in: None, then, done: true });
    match state {
        AdminState::Active | AdminState::Disabled => None,
        AdminState::Draining { until, then } => {
            let deadline_in = until.map(|until| until.since(now).as_secs());
            Some(Draining { deadline_in, then, done: false })
        }
        AdminState::Quiesced => ended(AfterDrain::Keep),
        AdminState::Removed => ended(AfterDrain::Remove),
    }
}

pub(super) fn all_statistics(published: &Published, director: &dyn RunningDirector) -> AllStatistics {
    let (mut sum, mut sum_rates) = (Totals::default(), Totals::default());
    let of_service = |service: &Arc<cluster::VirtualService>| {
        let (own, servers) = readings(service, director);
        sum = sum.plus(&own.since_zero);
        sum_rates = sum_rates.plus(&own.rates);
        let numbers = |(server, reading): (&Arc<real_server::RealServer>, Reading)| ServerStatistics {
            name: server.config.name.clone(),
            statistics: statistics(reading.since_zero),
            rates: rates(reading.rates),
        };
        ServiceStatistics {
            name: service.config.name.clone(),
            statistics: statistics(own.since_zero),
            rates: rates(own.rates),
            real_servers: service.real_servers.iter().zip(servers).map(numbers).collect(),
        }
    };
    let virtual_services = published.cluster.in_order().iter().map(of_service).collect();
    AllStatistics {
        generation: published.generation,
        statistics: statistics(sum),
        rates: rates(sum_rates),
        virtual_services,
    }
}

pub(super) fn status(published: &Published, director: &dyn RunningDirector) -> Status {
    let (mut sum, mut sum_rates) = (Totals::default(), Totals::default());
    for service in published.cluster.virtual_services() {
        let reading = director.ledger().service(service, director.workers());
        sum = sum.plus(&reading.since_zero);
        sum_rates = sum_rates.plus(&reading.rates);
    }
    let services = published.cluster.in_order();
    let connections = &director.tables().connections;
    let (health, now) = (director.health().list(), director.now());
    let loss = |grown: &Grown<(String, LossCause)>| Loss {
        device: grown.label.0.clone(),
        cause: grown.label.1.label().to_owned(),
        packets: grown.count,
        age: now.since(grown.at).as_secs(),
    };
    let dropped = |grown: &Grown<&'static str>| Dropped {
        reason: grown.label.to_owned(),
        packets: grown.count,
        age: now.since(grown.at).as_secs(),
    };
    Status {
        role: Role::Director,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: published.generation,
        uptime: director.now().since(Moment::ZERO).as_secs(),
        interfaces: director.plan().interfaces.clone(),
        tun: director.plan().tun.clone(),
        config_file: director.config_file().map(str::to_owned),
        virtual_services: services.len(),
        real_servers: services.iter().map(|service| service.real_servers.len()).sum(),
        draining: published.states.draining(),
        connections: connections.len(),
        connections_max: connections.connections_max(),
        templates: director.tables().templates.len(),
        ready: director.health().is_ready(),
        troubles: health.iter().map(Trouble::from).collect(),
        dropped: director.drops().iter().map(dropped).collect(),
        losses: director.losses().iter().map(loss).collect(),
        timeouts: (&published.defaults.timeouts).into(),
        statistics: statistics(sum),
        rates: rates(sum_rates),
    }
}

/// The counters of a service and of its real servers.
fn readings(service: &cluster::VirtualService, director: &dyn RunningDirector) -> (Reading, Vec<Reading>) {
    let mut ledger = director.ledger();
    let servers =
        service.real_servers.iter().map(|server| ledger.server(server, director.workers())).collect();
    (ledger.service(service, director.workers()), servers)
}

fn statistics(totals: Totals) -> Statistics {
    let Totals { connections, packets, bytes } = totals;
    Statistics { connections, packets, bytes }
}

fn rates(totals: Totals) -> Rates {
    let Totals { connections, packets, bytes } = totals;
    Rates { connections, packets, bytes }
}
