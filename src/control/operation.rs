//! Applies operations to the running configuration: the result is the next configuration, or an error.
//!
//! Pure: a [`Running`] goes in and a [`Running`] comes out. Actions for the daemon that are not configuration
//! (zeroed counters) are returned with it.

mod draft;
pub mod drain;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::{Code, ControlError};
use super::model::{Operation, RealServerEdit, RealServerSpec, ServiceRef, Then, VirtualServiceEdit};
use super::spec;
use crate::config::plan::ServiceDefaults;
use crate::director::cluster::{ClusterConfig, VirtualServiceConfig};
use crate::time::Moment;
use draft::{Draft, Place};

pub use draft::position_of_server;

/// Everything that changes while a director runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    pub cluster: Arc<ClusterConfig>,
    /// The defaults of services added later.
    pub defaults: ServiceDefaults,
    /// Also for services added later: one key for all.
    pub hash_key: [u8; 16],
    pub drains: Drains,
}

/// By virtual service and RIP.
pub type Drains = BTreeMap<(String, IpAddr), Drain>;

/// The drain of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Its weight before the drain.
    pub weight: u32,
    /// `None`: no limit.
    pub deadline: Option<Moment>,
    pub then: Then,
    /// The drain is over.
    pub is_done: bool,
}

/// The result of operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub running: Running,
    pub zeroed: Zeroed,
}

/// Whose statistics are reset to 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Zeroed {
    #[default]
    Nothing,
    /// By name.
    VirtualServices(Vec<String>),
    All,
}

/// Applies all `operations` in their order.
///
/// # Errors
/// The first operation that is not possible, with its index; or a conflict in the resulting configuration.
pub fn apply(running: &Running, operations: &[Operation], now: Moment) -> Result<Applied, ControlError> {
    let mut draft = Draft::new(running, operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let at_index = |error: ControlError| ControlError { operation: Some(index), ..error };
        draft.apply(operation, now).map_err(at_index)?;
    }
    draft.finish()
}

impl Draft {
    fn apply(&mut self, operation: &Operation, now: Moment) -> Result<(), ControlError> {
        match operation {
            Operation::AddVirtualService { virtual_service } => {
                let mut config = spec::virtual_service(virtual_service, &self.running.defaults)?;
                config.scheduler_options.hash_key = self.running.hash_key;
                self.add_service(config)
            }
            Operation::EditVirtualService { virtual_service, set } => self.edit_service(virtual_service, set),
            Operation::RemoveVirtualService { virtual_service } => {
                let at = self.find(virtual_service)?;
                self.remove_service(at);
                Ok(())
            }
            Operation::AddRealServer { virtual_service, real_server } => {
                self.add_server(virtual_service, real_server)
            }
            Operation::EditRealServer { virtual_service, real_server, set } => {
                let place = self.find_server(virtual_service, real_server)?;
                self.edit_server(place, set)
            }
            Operation::RemoveRealServer { virtual_service, real_server } => {
                let (at, server) = self.find_server(virtual_service, real_server)?;
                let removed = self.service_mut(at).real_servers.remove(server);
                self.forget_drain(at, removed.rip);
                Ok(())
            }
            Operation::SetWeight { virtual_service, real_server, weight } => {
                let edit = RealServerEdit { weight: Some(*weight), ..RealServerEdit::default() };
                let places = self.find_servers(virtual_service.as_ref(), real_server)?;
                places.into_iter().try_for_each(|place| self.edit_server(place, &edit))
            }
            Operation::Flush {} => {
                (0..self.services.len()).for_each(|at| self.remove_service(at));
                Ok(())
            }
            Operation::Zero { virtual_service: None } => {
                self.is_all_zeroed = true;
                Ok(())
            }
            Operation::Zero { virtual_service: Some(service) } => {
                let at = self.find(service)?;
                self.zeroed.push(at);
                Ok(())
            }
            Operation::SetTimeouts { timeouts } => {
                let defaults = &mut self.running.defaults;
                defaults.timeouts = spec::edited_timeouts(defaults.timeouts, timeouts)?;
                for service in self.services.iter_mut().flatten() {
                    service.timeouts = spec::edited_timeouts(service.timeouts, timeouts)?;
                }
                Ok(())
            }
            Operation::Drain { virtual_service, real_server, timeout, then } => {
                let deadline = timeout.map(|timeout| now.after(timeout.0));
                let places = self.find_servers(virtual_service.as_ref(), real_server)?;
                places.into_iter().for_each(|place| self.drain(place, deadline, *then));
                Ok(())
            }
            Operation::Undrain { virtual_service, real_server } => {
                let places = self.find_servers(virtual_service.as_ref(), real_server)?;
                self.undrain(&places, real_server)
            }
        }
    }

    fn add_service(&mut self, config: VirtualServiceConfig) -> Result<(), ControlError> {
        let exists = |message| Err(ControlError::new(Code::ServiceExists, message));
        for matcher in &config.matchers {
            if self.position_of(matcher).is_some() {
                let service = ServiceRef::Matcher((*matcher).into());
                return exists(format!("virtual service {service} exists already; edit it instead"));
            }
        }
        if self.position_named(&config.name).is_some() {
            let name = &config.name;
            return exists(format!("the name {name:?} is taken by another virtual service; choose another"));
        }
        self.put(self.services.len(), config);
        Ok(())
    }

    fn edit_service(&mut self, service: &ServiceRef, edit: &VirtualServiceEdit) -> Result<(), ControlError> {
        let at = self.find(service)?;
        let before = self.service(at).clone();
        let next = spec::edited_service(&before, edit)?;
        let is_other = |position: Option<usize>| position.is_some_and(|position| position != at);
        if is_other(self.position_named(&next.name)) {
            let message = format!("the name {:?} is taken by another virtual service", next.name);
            return Err(ControlError::new(Code::ServiceExists, message));
        }
        if let Some(taken) = next.matchers.iter().find(|matcher| is_other(self.position_of(matcher))) {
            let message = format!("virtual service {} exists already", ServiceRef::Matcher((*taken).into()));
            return Err(ControlError::new(Code::ServiceExists, message));
        }
        if next.name != before.name {
            let drains = std::mem::take(&mut self.running.drains);
            let renamed = |((service, rip), drain)| {
                let service = if service == before.name { next.name.clone() } else { service };
                ((service, rip), drain)
            };
            self.running.drains = drains.into_iter().map(renamed).collect();
        }
        if let Some(index) = &mut self.index {
            index.remove(&before);
        }
        self.put(at, next);
        Ok(())
    }

    fn put(&mut self, at: usize, config: VirtualServiceConfig) {
        if let Some(index) = &mut self.index {
            index.insert(at, &config);
        }
        if at == self.services.len() {
            self.services.push(None);
        }
        self.services[at] = Some(config);
        self.is_rebuilt = true;
    }

    fn remove_service(&mut self, at: usize) {
        let Some(removed) = self.services[at].take() else { return };
        if let Some(index) = &mut self.index {
            index.remove(&removed);
        }
        self.zeroed.retain(|zeroed| *zeroed != at);
        self.running.drains.retain(|(service, _), _| *service != removed.name);
    }

    fn add_server(&mut self, service: &ServiceRef, asked: &RealServerSpec) -> Result<(), ControlError> {
        let at = self.find(service)?;
        let server = spec::real_server(asked)?;
        let others = &self.service(at).real_servers;
        let exists = |message| Err(ControlError::new(Code::RealServerExists, message));
        if others.iter().any(|other| other.rip == server.rip) {
            return exists(format!("real server {} is in virtual service {service} already", server.rip));
        }
        if let Some(other) = others.iter().find(|other| other.name == server.name) {
            return exists(format!("the name {:?} is taken by real server {}", server.name, other.rip));
        }
        self.service_mut(at).real_servers.push(server);
        self.is_rebuilt = true;
        Ok(())
    }

    fn edit_server(&mut self, (at, index): Place, edit: &RealServerEdit) -> Result<(), ControlError> {
        let before = self.service(at).real_servers[index].clone();
        let next = spec::edited_server(&before, edit)?;
        self.is_rebuilt |= next.name != before.name;
        if edit.weight.is_some() {
            self.forget_drain(at, next.rip);
        }
        self.service_mut(at).real_servers[index] = next;
        Ok(())
    }

    fn drain(&mut self, (at, index): Place, deadline: Option<Moment>, then: Then) {
        let service = self.service_mut(at);
        let server = &mut service.real_servers[index];
        let key = (service.name.clone(), server.rip);
        let before = std::mem::take(&mut server.weight);
        // A second drain keeps the weight saved by the first one.
        let weight = self.running.drains.get(&key).map_or(before, |drain| drain.weight);
        self.running.drains.insert(key, Drain { weight, deadline, then, is_done: false });
    }

    fn undrain(&mut self, places: &[Place], name: &str) -> Result<(), ControlError> {
        let mut is_any = false;
        for &(at, index) in places {
            let service = self.service(at);
            let key = (service.name.clone(), service.real_servers[index].rip);
            if let Some(drain) = self.running.drains.remove(&key) {
                self.service_mut(at).real_servers[index].weight = drain.weight;
                is_any = true;
            }
        }
        if is_any {
            return Ok(());
        }
        Err(ControlError::new(Code::NotDraining, format!("real server {name} is not draining")))
    }

    fn forget_drain(&mut self, at: usize, rip: IpAddr) {
        let key = (self.service(at).name.clone(), rip);
        self.running.drains.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_secs(100);

    fn operation(json: &str) -> Operation {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn told(running: &Running, json: &[&str]) -> Result<Running, ControlError> {
        let operations: Vec<Operation> = json.iter().map(|json| operation(json)).collect();
        apply(running, &operations, NOW).map(|applied| applied.running)
    }

    const WEB: &str = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "web",
        "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 80}], "scheduler": "rr",
        "real_servers": [{"rip": "172.25.3.2", "weight": 3, "name": "server2"}, {"rip": "172.25.3.3"}]}}"#;

    fn web() -> Running {
        told(&Running::default(), &[WEB]).unwrap()
    }

    fn weights(running: &Running) -> Vec<u32> {
        let services = running.cluster.virtual_services.iter();
        services.flat_map(|service| &service.real_servers).map(|server| server.weight).collect()
    }

    #[test]
    fn what_is_impossible_is_refused_with_its_code_and_its_place() {
        let by_matcher = r#"{"protocol": "tcp", "vip": "172.25.3.100", "port": 80}"#;
        let refused = [
            (WEB.to_owned(), Code::ServiceExists),
            (r#"{"operation": "remove_virtual_service", "virtual_service": "api"}"#.into(), Code::NoSuchService),
            (
                format!(r#"{{"operation": "add_real_server", "virtual_service": {by_matcher}, "real_server": {{"rip": "172.25.3.2"}}}}"#),
                Code::RealServerExists,
            ),
            (
                format!(r#"{{"operation": "remove_real_server", "virtual_service": {by_matcher}, "real_server": "172.25.3.9"}}"#),
                Code::NoSuchRealServer,
            ),
            (
                r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"scheduler": "best"}}"#.into(),
                Code::NoSuchScheduler,
            ),
            (r#"{"operation": "set_weight", "real_server": "server2", "weight": 65536}"#.into(), Code::Invalid),
            (
                r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "2001:db8::1"}}"#.into(),
                Code::UnsupportedAddressFamily,
            ),
            (
                r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.4", "encapsulation": "nosuch"}}"#.into(),
                Code::Invalid,
            ),
            (r#"{"operation": "undrain", "real_server": "server2"}"#.into(), Code::NotDraining),
            (r#"{"operation": "set_timeouts", "timeouts": {"tcp": 0}}"#.into(), Code::Invalid),
        ];
        let zero = r#"{"operation": "zero"}"#;
        for (json, code) in refused {
            let error = told(&web(), &[zero, &json]).unwrap_err();
            assert_eq!((error.code, error.operation), (code, Some(1)), "{json}: {error}");
        }
        let rip_is_vip = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.100"}}"#;
        let error = told(&web(), &[rip_is_vip]).unwrap_err();
        assert_eq!((error.code, error.operation), (Code::Invalid, None), "{error}");
    }

    #[test]
    fn json_that_says_too_much_or_too_little_is_no_operation() {
        for json in [
            r#"{"operation": "flush", "all": true}"#,
            r#"{"operation": "destroy"}"#,
            r#"{"operation": "set_weight", "real_server": "server2"}"#,
            r#"{"operation": "set_weight", "real_server": "server2", "weight": -1}"#,
            r#"{"operation": "edit_real_server", "virtual_service": "web", "real_server": "server2", "set": {"wieght": 1}}"#,
            r#"{"operation": "remove_virtual_service", "virtual_service": {"protocol": "tcp"}}"#,
        ] {
            assert!(serde_json::from_str::<Operation>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_edit_leaves_what_it_does_not_name() {
        let before = web();
        let json = r#"{"operation": "edit_virtual_service", "virtual_service": "web",
            "set": {"persistence": {"timeout": 600, "prefix": 24}, "timeouts": {"tcp": 60}}}"#;
        let after = told(&before, &[json]).unwrap();
        let (old, new) = (&before.cluster.virtual_services[0], &after.cluster.virtual_services[0]);
        assert_eq!(new.persistence.map(|p| (p.timeout.as_secs(), p.prefix_v4)), Some((600, 24)));
        assert_eq!(new.timeouts.established.as_secs(), 60);
        let mut same = new.clone();
        (same.persistence, same.timeouts) = (old.persistence, old.timeouts);
        assert_eq!(same, *old);
        let off = r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"persistence": null}}"#;
        assert_eq!(told(&after, &[off]).unwrap().cluster.virtual_services[0].persistence, None);
    }

    #[test]
    fn a_drain_remembers_the_weight_of_the_first_time_and_a_weight_ends_it() {
        let drain = r#"{"operation": "drain", "real_server": "server2", "timeout": 600, "then": "keep"}"#;
        let draining = told(&web(), &[drain, drain]).unwrap();
        assert_eq!(weights(&draining), [0, 1]);
        let drains: Vec<_> = draining.drains.values().copied().collect();
        let deadline = Some(Moment::from_secs(700));
        assert_eq!(drains, [Drain { weight: 3, deadline, then: Then::Keep, is_done: false }]);
        let undrained =
            told(&draining, &[r#"{"operation": "undrain", "real_server": "172.25.3.2"}"#]).unwrap();
        assert_eq!((weights(&undrained), undrained.drains.len()), (vec![3, 1], 0));
        let by_hand = r#"{"operation": "set_weight", "real_server": "server2", "weight": 7}"#;
        let weighed = told(&draining, &[by_hand]).unwrap();
        assert_eq!((weights(&weighed), weighed.drains.len()), (vec![7, 1], 0));
        let rename =
            r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"name": "www"}}"#;
        let renamed = told(&draining, &[rename]).unwrap();
        assert!(renamed.drains.keys().all(|(service, _)| service == "www") && renamed.drains.len() == 1);
        assert_eq!(told(&draining, &[r#"{"operation": "flush"}"#]).unwrap().drains.len(), 0);
    }
}
