//! Clients of a web service, and where their connections go.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

use lvs_tund::director::cluster::{ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::connection::Table;
use lvs_tund::director::persistence::Templates;
use lvs_tund::director::scheduler::find;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, Route, Tracking, Verdict};
use lvs_tund::packet::Protocol;

use super::packets::*;
use super::world::World;

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
        ..VirtualServiceConfig::new(
            "web",
            Protocol::Tcp,
            VIP.into(),
            80,
            find(scheduler).expect("a scheduler"),
        )
    }
}

impl World {
    pub fn of(services: Vec<VirtualServiceConfig>) -> World {
        World::limited(services, 100_000)
    }

    pub fn limited(services: Vec<VirtualServiceConfig>, connections_max: usize) -> World {
        // Templates outlive connections; a test that limits these does not mean those.
        let templates = Templates::new(1_000_000, 7);
        World::with_tables(services, Tables::of(Table::new(connections_max, 7), templates))
    }

    pub fn with_tables(services: Vec<VirtualServiceConfig>, tables: Tables) -> World {
        let config = ClusterConfig { virtual_services: services, ..ClusterConfig::default() };
        World::new(config, HostView::default(), tables)
    }

    /// Changes the configuration and applies it.
    pub fn change(&mut self, change: impl FnOnce(&mut ClusterConfig)) {
        let mut config = ClusterConfig::clone(self.cluster.load().config());
        change(&mut config);
        self.succeed(config, HostView::default());
    }

    pub fn wait(&mut self, secs: u64) {
        self.now = self.now.after(std::time::Duration::from_secs(secs));
        self.end_grace(self.now);
    }

    pub fn send(&mut self, packet: &[u8]) -> Verdict {
        self.process(packet).0
    }

    /// A segment of one of the client's connections.
    pub fn tcp(&mut self, client: Ipv4Addr, port: u16, flags: u8) -> Verdict {
        self.send(&tcp_between(client, port, VIP, 80, flags, b""))
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
        Verdict::Transmit(Route { rip, .. }) => Ok(rip.octets()[3]),
        other => Err(*other),
    }
}

pub fn tracking_of(verdict: &Verdict) -> Tracking {
    match verdict {
        Verdict::Transmit(route) => route.tracking,
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
