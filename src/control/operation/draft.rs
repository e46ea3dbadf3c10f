//! A configuration during a change, and how its parts are found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::error::{Code, ControlError};
use super::super::model::ServiceRef;
use super::{Applied, Running, Zeroed};
use crate::config::consistency;
use crate::director::cluster::{ClusterConfig, Matcher, RealServerConfig, VirtualServiceConfig};

/// From this many operations in one change, an index is faster.
const INDEX_MIN: usize = 16;

/// A configuration during a change. A removed service leaves a gap, because indices must stay valid.
pub(super) struct Draft {
    pub(super) running: Running,
    pub(super) services: Vec<Option<VirtualServiceConfig>>,
    pub(super) index: Option<Index>,
    /// The indices of zeroed services.
    pub(super) zeroed: Vec<usize>,
    pub(super) is_all_zeroed: bool,
    /// Whether something has changed that [`consistency::check`] examines.
    pub(super) is_rebuilt: bool,
}

#[derive(Default)]
pub(super) struct Index {
    by_name: HashMap<String, usize>,
    by_matcher: HashMap<Matcher, usize>,
}

impl Index {
    pub(super) fn insert(&mut self, position: usize, service: &VirtualServiceConfig) {
        self.by_name.insert(service.name.clone(), position);
        self.by_matcher.extend(service.matchers.iter().map(|matcher| (*matcher, position)));
    }

    pub(super) fn remove(&mut self, service: &VirtualServiceConfig) {
        self.by_name.remove(&service.name);
        service.matchers.iter().for_each(|matcher| _ = self.by_matcher.remove(matcher));
    }
}

impl Draft {
    pub(super) fn new(running: &Running, operations: usize) -> Draft {
        let services: Vec<_> = running.cluster.virtual_services.iter().cloned().map(Some).collect();
        let index = (operations >= INDEX_MIN).then(|| {
            let mut index = Index::default();
            let services = services.iter().enumerate();
            services.for_each(|(at, service)| service.iter().for_each(|service| index.insert(at, service)));
            index
        });
        Draft {
            running: running.clone(),
            services,
            index,
            zeroed: Vec::new(),
            is_all_zeroed: false,
            is_rebuilt: false,
        }
    }

    pub(super) fn finish(self) -> Result<Applied, ControlError> {
        let named = |at: &usize| self.services[*at].as_ref().map(|service| service.name.clone());
        let zeroed = match (self.is_all_zeroed, self.zeroed.is_empty()) {
            (true, _) => Zeroed::All,
            (false, true) => Zeroed::Nothing,
            (false, false) => Zeroed::VirtualServices(self.zeroed.iter().filter_map(named).collect()),
        };
        let services: Vec<VirtualServiceConfig> = self.services.into_iter().flatten().collect();
        if self.is_rebuilt {
            consistency::check(&services).map_err(|found| ControlError::new(Code::Invalid, found.message))?;
        }
        let mut running = self.running;
        let on_change = running.cluster.on_change.clone();
        running.cluster =
            Arc::new(ClusterConfig { virtual_services: services, on_change, ..*running.cluster });
        Ok(Applied { running, zeroed })
    }

    pub(super) fn service(&self, at: usize) -> &VirtualServiceConfig {
        self.services[at].as_ref().expect("because every index comes from a lookup")
    }

    pub(super) fn service_mut(&mut self, at: usize) -> &mut VirtualServiceConfig {
        self.services[at].as_mut().expect("because every index comes from a lookup")
    }

    pub(super) fn position_named(&self, name: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.by_name.get(name).copied(),
            None => self.services.iter().position(|s| s.as_ref().is_some_and(|s| s.name == name)),
        }
    }

    pub(super) fn position_of(&self, matcher: &Matcher) -> Option<usize> {
        match &self.index {
            Some(index) => index.by_matcher.get(matcher).copied(),
            None => {
                self.services.iter().position(|s| s.as_ref().is_some_and(|s| s.matchers.contains(matcher)))
            }
        }
    }

    pub(super) fn find(&self, service: &ServiceRef) -> Result<usize, ControlError> {
        let found = match service {
            ServiceRef::Name(name) => self.position_named(name),
            ServiceRef::Matcher(matcher) => self.position_of(&(*matcher).into()),
        };
        let message = || format!("there is no virtual service {service}; `lvs-tund status` lists them");
        found.ok_or_else(|| ControlError::new(Code::NoSuchService, message()))
    }

    pub(super) fn find_server(
        &self,
        service: &ServiceRef,
        server: &str,
    ) -> Result<ServerPosition, ControlError> {
        let at = self.find(service)?;
        let found = position_of_server(&self.service(at).real_servers, server);
        let message = || format!("virtual service {service} has no real server {server:?}");
        found.map(|index| (at, index)).ok_or_else(|| ControlError::new(Code::NoSuchRealServer, message()))
    }

    /// The real server in one virtual service, or in all that have it; at least one.
    pub(super) fn find_servers(
        &self,
        service: Option<&ServiceRef>,
        server: &str,
    ) -> Result<Vec<ServerPosition>, ControlError> {
        if let Some(service) = service {
            return self.find_server(service, server).map(|place| vec![place]);
        }
        let place = |(at, service): (usize, &Option<VirtualServiceConfig>)| {
            Some((at, position_of_server(&service.as_ref()?.real_servers, server)?))
        };
        let places: Vec<ServerPosition> = self.services.iter().enumerate().filter_map(place).collect();
        if places.is_empty() {
            let message = format!("no virtual service has a real server {server:?}");
            return Err(ControlError::new(Code::NoSuchRealServer, message));
        }
        Ok(places)
    }
}

/// A selection: the name of a virtual service, `None` for all, and a RIP, `None` for all.
pub type Selected = (Option<String>, Option<IpAddr>);

/// What a request selects: one virtual service or all, one real server or all. A name of a real server may belong to
/// several hosts in several virtual services.
///
/// # Errors
/// There is no such virtual service, or it has no such real server.
pub fn selected(
    running: &Running,
    service: Option<&ServiceRef>,
    server: Option<&str>,
) -> Result<Vec<Selected>, ControlError> {
    let draft = Draft::new(running, 1);
    let name = |at: usize| Some(draft.service(at).name.clone());
    match (service, server) {
        (None, None) => Ok(vec![(None, None)]),
        (Some(service), None) => Ok(vec![(name(draft.find(service)?), None)]),
        (service, Some(server)) => {
            let rip =
                |(at, index): ServerPosition| (name(at), Some(draft.service(at).real_servers[index].rip));
            Ok(draft.find_servers(service, server)?.into_iter().map(rip).collect())
        }
    }
}

/// Indices of a service and of a real server in it.
pub(super) type ServerPosition = (usize, usize);

/// By RIP if the word is an address, otherwise by name.
pub fn position_of_server(servers: &[RealServerConfig], word: &str) -> Option<usize> {
    match word.parse::<IpAddr>() {
        Ok(rip) => servers.iter().position(|server| server.rip == rip),
        Err(_) => servers.iter().position(|server| server.name == word),
    }
}
