//! The JSON of a generation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::write;
use crate::control::model::{
    AllStatistics, Draining, Persistence, Rates, RealServer, Seconds, ServerStatistics, ServiceStatistics,
    Statistics, Status, Timeouts, VirtualService,
};
use crate::control::operation::Drain;
use crate::daemon::control::{Published, Shared};
use crate::director::cluster::{self, VirtualServiceConfig};
use crate::director::connection;
use crate::director::real_server;
use crate::director::scheduler::mh;
use crate::metrics::ledger::{Reading, Totals};

pub fn virtual_service(
    service: &cluster::VirtualService,
    published: &Published,
    shared: &Shared,
) -> VirtualService {
    let (own, servers) = readings(service, shared);
    let VirtualServiceConfig { name, matchers, scheduler, persistence, is_one_packet, .. } = &service.config;
    let real_server = |config: &real_server::RealServerConfig| {
        let index = service.real_servers.iter().position(|server| server.config.rip == config.rip)?;
        let drain = published.drains.get(&(name.clone(), config.rip));
        Some(of_server(&service.real_servers[index], servers[index], drain, shared))
    };
    VirtualService {
        name: name.clone(),
        matchers: matchers.iter().copied().map(Into::into).collect(),
        scheduler: (*scheduler).to_owned(),
        scheduler_flags: write::scheduler_flags(&service.config).into_iter().map(str::to_owned).collect(),
        mh_table_size: (*scheduler == mh::ROW.name).then_some(service.config.scheduler_options.mh_table_size),
        persistence: persistence.map(|persistence| Persistence {
            timeout: Seconds(persistence.timeout),
            prefix: persistence.prefix_v4,
            expire_quiesced: persistence.expires_quiesced,
        }),
        one_packet: *is_one_packet,
        unknown_tcp: service.config.unknown_tcp.into(),
        on_removed: service.config.on_removed.into(),
        timeouts: timeouts(&service.config.timeouts),
        statistics: statistics(own.since_zero),
        rates: rates(own.rates),
        real_servers: service.config.real_servers.iter().filter_map(real_server).collect(),
    }
}

fn of_server(
    server: &real_server::RealServer,
    reading: Reading,
    drain: Option<&Drain>,
    shared: &Shared,
) -> RealServer {
    let (config, live, now) = (&server.config, &server.live, shared.clock.now());
    RealServer {
        name: config.name.clone(),
        rip: config.rip,
        weight: config.weight,
        upper_threshold: config.upper_threshold,
        lower_threshold: config.lower_threshold,
        path_mtu: config.path_mtu,
        path_mtu_now: server.path_mtu(now),
        encapsulation: server.encapsulation.name.to_owned(),
        active_connections: live.active(),
        inactive_connections: live.inactive(),
        persistent_connections: live.persistent(),
        overloaded: live.is_overloaded.load(Ordering::Relaxed),
        drain: drain.map(|drain| Draining {
            weight: drain.weight,
            deadline_in: drain.deadline.map(|deadline| deadline.since(now).as_secs()),
            then: drain.then,
            done: drain.is_done,
        }),
        statistics: statistics(reading.since_zero),
        rates: rates(reading.rates),
    }
}

pub fn all_statistics(published: &Published, shared: &Shared) -> AllStatistics {
    let (mut sum, mut sum_rates) = (Totals::default(), Totals::default());
    let of_service = |service: &Arc<cluster::VirtualService>| {
        let (own, servers) = readings(service, shared);
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

pub fn status(published: &Published, shared: &Shared) -> Status {
    let (mut sum, mut sum_rates) = (Totals::default(), Totals::default());
    for service in published.cluster.virtual_services() {
        let reading = shared.ledger().service(service, &shared.workers);
        sum = sum.plus(&reading.since_zero);
        sum_rates = sum_rates.plus(&reading.rates);
    }
    let services = &published.cluster.config().virtual_services;
    let connections = &shared.tables.connections;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: published.generation,
        uptime: shared.clock.now().since(crate::time::Moment::ZERO).as_secs(),
        interface: shared.plan.interface.clone(),
        tun: shared.plan.tun.clone(),
        config_file: shared.config_file.clone(),
        virtual_services: services.len(),
        real_servers: services.iter().map(|service| service.real_servers.len()).sum(),
        draining: published.drains.values().filter(|drain| !drain.is_done).count(),
        connections: connections.len(),
        connections_max: connections.connections_max(),
        templates: shared.tables.templates.len(),
        timeouts: timeouts(&published.defaults.timeouts),
        statistics: statistics(sum),
        rates: rates(sum_rates),
    }
}

/// The counters of a service and of its real servers.
fn readings(service: &cluster::VirtualService, shared: &Shared) -> (Reading, Vec<Reading>) {
    let mut ledger = shared.ledger();
    let servers = service.real_servers.iter().map(|server| ledger.server(server, &shared.workers)).collect();
    (ledger.service(service, &shared.workers), servers)
}

fn timeouts(timeouts: &connection::Timeouts) -> Timeouts {
    Timeouts {
        tcp: Seconds(timeouts.established),
        tcp_fin: Seconds(timeouts.fin_wait),
        udp: Seconds(timeouts.udp),
    }
}

fn statistics(totals: Totals) -> Statistics {
    let Totals { connections, packets, bytes } = totals;
    Statistics { connections, packets, bytes }
}

fn rates(totals: Totals) -> Rates {
    let Totals { connections, packets, bytes } = totals;
    Rates { connections, packets, bytes }
}
