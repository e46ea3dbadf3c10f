//! What the driver is notified to judge: the running configuration, the administrative states and what the host adds to them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::control::state::{AdminState, AdminStates};
use crate::director::cluster::{
    ClusterConfig, HostView, Path, Ports, RealServerConfig, VirtualServiceConfig,
};
use crate::health::CheckConfig;
use crate::health::judge::{Judged, JudgedServer};
use crate::packet::MTU_DEFAULT;

/// A generation of it.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Wanted {
    config: Arc<ClusterConfig>,
    states: AdminStates,
    /// The RIPs that are addresses of this host.
    local_rips: HashSet<IpAddr>,
    paths: HashMap<IpAddr, Path>,
}

/// What a probe needs to know of the path to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathFacts {
    /// In bytes of the outer packet.
    pub mtu: u16,
    /// What the encapsulation adds, in bytes.
    pub overhead: u16,
}

impl Wanted {
    pub(in crate::daemon) fn new(config: Arc<ClusterConfig>, states: AdminStates, host: &HostView) -> Wanted {
        Wanted { config, states, local_rips: host.local_rips.clone(), paths: host.paths.clone() }
    }

    /// Whether it is made of these.
    pub(in crate::daemon) fn is_of(
        &self,
        config: &Arc<ClusterConfig>,
        states: &AdminStates,
        host: &HostView,
    ) -> bool {
        Arc::ptr_eq(&self.config, config)
            && (&self.states, &self.local_rips, &self.paths) == (states, &host.local_rips, &host.paths)
    }

    /// The virtual services without the real servers that drains have removed.
    pub(super) fn judged(&self) -> Vec<Judged<'_>> {
        self.config.virtual_services.iter().map(|service| self.judged_service(service)).collect()
    }

    fn judged_service<'a>(&'a self, service: &'a VirtualServiceConfig) -> Judged<'a> {
        let first = service.matchers.first();
        let state = |server: &RealServerConfig| self.states.of(&service.name, server.rip);
        let servers = service.real_servers.iter().filter(|server| state(server) != AdminState::Removed);
        let judged = |server: &'a RealServerConfig| JudgedServer {
            name: &server.name,
            rip: server.rip,
            weight: server.weight,
            is_sorry: server.is_sorry,
            checks: checks(service, server),
            is_enabled: state(server) == AdminState::Active,
            is_local: self.local_rips.contains(&server.rip),
        };
        Judged {
            name: &service.name,
            vip: first.map_or([0, 0, 0, 0].into(), |matcher| matcher.vip),
            port: first
                .map_or(0, |matcher| if matcher.ports == Ports::ALL { 0 } else { matcher.ports.first }),
            health: &service.health,
            has_ramp: !service.scheduler.is_stateless,
            real_servers: servers.map(judged).collect(),
        }
    }

    /// The path to each real server.
    pub(super) fn path_facts(&self) -> HashMap<IpAddr, PathFacts> {
        let servers = self.config.virtual_services.iter().flat_map(|service| &service.real_servers);
        let facts = |server: &RealServerConfig| {
            let known = self.paths.get(&server.rip).map(|path| path.mtu);
            let mtu = server.path_mtu.or(known).unwrap_or(MTU_DEFAULT);
            (server.rip, PathFacts { mtu, overhead: server.encapsulation.overhead })
        };
        servers.map(facts).collect()
    }

    /// Every check that is active.
    pub(super) fn checks(&self) -> impl Iterator<Item = &CheckConfig> {
        let services = self.config.virtual_services.iter();
        services.flat_map(|service| service.real_servers.iter().flat_map(|server| checks(service, server)))
    }
}

/// The checks of a real server: its own, or those of its virtual service.
fn checks<'a>(service: &'a VirtualServiceConfig, server: &'a RealServerConfig) -> &'a [CheckConfig] {
    server.checks.as_deref().unwrap_or(&service.health.checks)
}
