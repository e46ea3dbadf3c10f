//! A director without a host: a cluster that changes, packets in, verdicts out, conservation checked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use lvs_tund::director::Director;
use lvs_tund::director::cluster::{Cluster, ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::connection::Table;
use lvs_tund::director::persistence::Templates;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, Memory, Route, Verdict};
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::time::Moment;

use crate::packets::*;

/// RIP number `n`, from 1 on.
pub fn rip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub fn client(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n)
}

/// Real servers of the given weights, RIPs counting up from 1.
pub fn servers(weights: &[u32]) -> Vec<RealServerConfig> {
    let server = |(index, weight): (usize, &u32)| RealServerConfig::new(rip(index as u8 + 1).into(), *weight);
    weights.iter().enumerate().map(server).collect()
}

/// TCP 80 of the VIP.
pub fn web(scheduler: &'static str, weights: &[u32]) -> VirtualServiceConfig {
    VirtualServiceConfig {
        real_servers: servers(weights),
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, scheduler)
    }
}

pub struct World {
    pub config: ClusterConfig,
    pub cluster: Arc<ArcSwap<Cluster>>,
    pub tables: Arc<Tables>,
    director: Director,
    pub now: Moment,
}

impl World {
    pub fn of(services: Vec<VirtualServiceConfig>) -> World {
        World::limited(services, 100_000)
    }

    pub fn limited(services: Vec<VirtualServiceConfig>, connections_max: usize) -> World {
        let config = ClusterConfig { virtual_services: services, ..ClusterConfig::default() };
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config.clone(), HostView::default())));
        // Templates outlive connections; a test that limits these does not mean those.
        let templates = Templates::new(1_000_000, 7);
        let tables = Arc::new(Tables { connections: Table::new(connections_max, 7), templates });
        let director = Director::new(tables.clone(), 7);
        World { config, cluster, tables, director, now: Moment::from_secs(1) }
    }

    /// The same with other tables, empty ones.
    pub fn with_tables(self, tables: Tables) -> World {
        let tables = Arc::new(tables);
        let director = Director::new(tables.clone(), 7);
        World { tables, director, ..self }
    }

    /// Changes the configuration and puts it in force.
    pub fn change(&mut self, change: impl FnOnce(&mut ClusterConfig)) {
        change(&mut self.config);
        let next = self.cluster.load().succeed(self.config.clone(), HostView::default());
        self.cluster.store(Arc::new(next));
    }

    pub fn wait(&mut self, secs: u64) {
        self.now = self.now.after(std::time::Duration::from_secs(secs));
    }

    pub fn sweep(&self) {
        self.tables.sweep(&self.cluster.load(), self.now);
    }

    pub fn handle(&mut self, packet: &[u8]) -> Verdict {
        self.director.handle_packet(&self.cluster.load(), &mut Frame::from_packet(packet), self.now)
    }

    /// A segment of one of the client's connections.
    pub fn tcp(&mut self, client: Ipv4Addr, port: u16, flags: u8) -> Verdict {
        self.handle(&tcp_between(client, port, VIP, 80, flags, b""))
    }

    /// A new connection: where its SYN went, by the last byte of the RIP.
    pub fn connect(&mut self, client: Ipv4Addr, port: u16) -> u8 {
        server_of(&self.tcp(client, port, SYN)).unwrap_or_else(|verdict| panic!("{verdict:?}"))
    }

    pub fn ack(&mut self, client: Ipv4Addr, port: u16) -> Result<u8, Verdict> {
        server_of(&self.tcp(client, port, ACK))
    }

    /// Active, inactive and templates of real server `n` of the first virtual service.
    pub fn counts(&self, n: u8) -> (u32, u32, u32) {
        let cluster = self.cluster.load();
        let service = cluster.virtual_services().next().expect("a service");
        let server = service.real_servers.iter().find(|server| server.rip == rip(n)).expect("a server");
        (server.live.active(), server.live.inactive(), server.live.persistent())
    }

    /// New connections ever of the first virtual service, and of each of its real servers.
    pub fn totals(&self) -> (u64, Vec<u64>) {
        let cluster = self.cluster.load();
        let service = cluster.virtual_services().next().expect("a service");
        let of_servers =
            service.real_servers.iter().map(|server| server.live.connections_total.load(Relaxed));
        (service.connections_total.load(Relaxed), of_servers.collect())
    }
}

pub fn server_of(verdict: &Verdict) -> Result<u8, Verdict> {
    match verdict {
        Verdict::Transmit(Route { to: IpAddr::V4(to), .. }) => Ok(to.octets()[3]),
        other => Err(*other),
    }
}

pub fn memory_of(verdict: &Verdict) -> Memory {
    match verdict {
        Verdict::Transmit(route) => route.memory,
        other => panic!("{other:?}"),
    }
}

pub fn reason_of(verdict: &Verdict) -> Option<DropReason> {
    match verdict {
        Verdict::Drop(reason) => Some(*reason),
        Verdict::Reply(reply) => reply.reason,
        _ => None,
    }
}
