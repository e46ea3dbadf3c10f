//! The administrative states of real servers, apart from their configuration and from their health.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::model::AfterDrain;
use crate::director::cluster::identity::predecessors;
use crate::director::cluster::{ClusterConfig, Matcher, VirtualServiceConfig};
use crate::time::Moment;

/// The administrative state of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    /// It gets new connections according to its weight.
    #[default]
    Active,
    /// It gets no new connections, and the director waits until its connections have ended.
    Draining {
        /// The deadline; `None`: no limit.
        until: Option<Moment>,
        /// What happens to it afterwards.
        then: AfterDrain,
    },
    /// A drain has ended and has kept it.
    Quiesced,
    /// A drain has ended and has removed it.
    Removed,
    /// An operator has disabled it: it gets no new connections until it is enabled.
    Disabled,
}

impl AdminState {
    /// The name of the state in differences.
    pub const fn word(self) -> &'static str {
        match self {
            AdminState::Active => "active",
            AdminState::Draining { .. } => "draining",
            AdminState::Quiesced => "quiesced",
            AdminState::Removed => "removed",
            AdminState::Disabled => "disabled",
        }
    }

    /// Whether a drain has brought it about; a weight or `undrain` then makes the real server active again.
    pub const fn is_of_drain(self) -> bool {
        matches!(self, AdminState::Draining { .. } | AdminState::Quiesced | AdminState::Removed)
    }
}

/// The real servers that are not active, by virtual service and RIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminStates {
    /// No state is [`AdminState::Active`], and no inner map is empty.
    by_service: BTreeMap<String, BTreeMap<IpAddr, AdminState>>,
}

impl AdminStates {
    /// The state of a real server.
    pub fn of(&self, service: &str, rip: IpAddr) -> AdminState {
        self.by_service.get(service).and_then(|states| states.get(&rip)).copied().unwrap_or_default()
    }

    /// Sets the state of a real server.
    pub fn set(&mut self, service: &str, rip: IpAddr, state: AdminState) {
        if state != AdminState::Active {
            self.by_service.entry(service.to_owned()).or_default().insert(rip, state);
        } else if let Some(states) = self.by_service.get_mut(service) {
            states.remove(&rip);
            if states.is_empty() {
                self.by_service.remove(service);
            }
        }
    }

    /// Makes every real server of a virtual service active.
    pub fn forget_service(&mut self, service: &str) {
        self.by_service.remove(service);
    }

    /// Moves the states to the new name of a virtual service.
    pub fn rename_service(&mut self, before: &str, after: &str) {
        if let Some(states) = self.by_service.remove(before) {
            self.by_service.insert(after.to_owned(), states);
        }
    }

    /// All states other than active, with virtual service and RIP.
    pub fn iter(&self) -> impl Iterator<Item = (&str, IpAddr, AdminState)> {
        self.by_service
            .iter()
            .flat_map(|(service, states)| states.iter().map(|(rip, state)| (service.as_str(), *rip, *state)))
    }

    /// The number of draining real servers.
    pub fn draining(&self) -> usize {
        self.iter().filter(|(_, _, state)| matches!(state, AdminState::Draining { .. })).count()
    }

    /// The configuration without the real servers that drains have removed, which `save` writes.
    pub fn without_removed(&self, cluster: &ClusterConfig) -> ClusterConfig {
        let mut cluster = cluster.clone();
        for service in &mut cluster.virtual_services {
            let name = &service.name;
            service.real_servers.retain(|server| self.of(name, server.rip) != AdminState::Removed);
        }
        cluster
    }

    /// The states in a next configuration that did not result from operations: each follows its real server. A real server
    /// that a drain has removed becomes active if `file`, the configuration that was read, lists it.
    pub fn carried_over(
        &self,
        before: &ClusterConfig,
        next: &ClusterConfig,
        file: &ClusterConfig,
    ) -> AdminStates {
        let mut carried = AdminStates::default();
        if self.by_service.is_empty() {
            return carried;
        }
        let old = &before.virtual_services;
        for (service, predecessor) in
            next.virtual_services.iter().zip(predecessors(old, &next.virtual_services))
        {
            let states = predecessor.and_then(|index| self.by_service.get(&old[index].name));
            for server in service.real_servers.iter().filter(|_| states.is_some()) {
                let state = states.and_then(|states| states.get(&server.rip)).copied().unwrap_or_default();
                if state != AdminState::Removed || !lists(file, service, server.rip) {
                    carried.set(&service.name, server.rip, state);
                }
            }
        }
        carried
    }
}

/// Whether the file lists the real server.
fn lists(file: &ClusterConfig, service: &VirtualServiceConfig, rip: IpAddr) -> bool {
    let [Some(index)] = predecessors(&file.virtual_services, std::slice::from_ref(service))[..] else {
        return false;
    };
    file.virtual_services[index].real_servers.iter().any(|server| server.rip == rip)
}

/// The names that the configuration file gives to real servers. A real server that commands remove and add again keeps
/// its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileNames {
    /// Only names that are not the default.
    by_matcher: HashMap<Matcher, HashMap<IpAddr, String>>,
}

impl FileNames {
    /// The names in a file.
    pub fn new(file: &ClusterConfig) -> FileNames {
        let mut names = FileNames::default();
        for service in &file.virtual_services {
            for server in service.real_servers.iter().filter(|s| s.name != s.rip.to_string()) {
                for matcher in &service.matchers {
                    let of_service = names.by_matcher.entry(*matcher).or_default();
                    of_service.insert(server.rip, server.name.clone());
                }
            }
        }
        names
    }

    /// The name of a real server in the file, unless it is the default.
    pub fn find(&self, service: &VirtualServiceConfig, rip: IpAddr) -> Option<&str> {
        let name = |matcher| self.by_matcher.get(matcher)?.get(&rip);
        service.matchers.iter().find_map(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::cluster::RealServerConfig;
    use crate::director::scheduler::rr;
    use crate::packet::Protocol;

    const DRAINING: AdminState = AdminState::Draining { until: None, then: AfterDrain::Keep };

    fn rip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// One virtual service with these real servers.
    fn cluster(name: &str, port: u16, rips: &[u8]) -> ClusterConfig {
        let vip = "172.25.3.100".parse().unwrap();
        let real_servers = rips.iter().map(|last| RealServerConfig::new(rip(*last), 3)).collect();
        let service = VirtualServiceConfig {
            real_servers,
            ..VirtualServiceConfig::new(name, Protocol::Tcp, vip, port, &rr::ROW)
        };
        ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() }
    }

    #[test]
    fn only_draining_servers_are_counted_as_draining() {
        let mut states = AdminStates::default();
        assert_eq!(states.draining(), 0);
        let given = [DRAINING, AdminState::Quiesced, DRAINING, AdminState::Removed, DRAINING];
        for (last, state) in (0_u8..).zip(given) {
            states.set("web", rip(last), state);
        }
        assert_eq!(states.draining(), 3);
    }

    /// A command added the service that the file does not have, so the file does not list its removed server.
    #[test]
    fn a_removed_server_comes_back_only_if_the_file_lists_it() {
        let mut states = AdminStates::default();
        states.set("web", rip(1), AdminState::Removed);
        let running = cluster("web", 80, &[1, 2]);
        let files = [
            (cluster("web", 80, &[1, 2]), AdminState::Active),
            (cluster("web", 80, &[2]), AdminState::Removed),
            (cluster("api", 81, &[1, 2]), AdminState::Removed),
            (ClusterConfig::default(), AdminState::Removed),
        ];
        for (file, expected) in files {
            let carried = states.carried_over(&running, &running, &file);
            assert_eq!(carried.of("web", rip(1)), expected, "{file:?}");
        }
    }
}
