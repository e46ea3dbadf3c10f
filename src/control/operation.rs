//! Applies operations to the running configuration: the result is the next configuration, or an error.
//!
//! Pure: a [`Running`] goes in and a [`Running`] comes out. Actions for the daemon that are not configuration
//! (zeroed counters) are returned with it.

mod draft;
pub mod drain;

use std::net::IpAddr;
use std::sync::Arc;

use super::error::{Code, ControlError};
use super::model::{Operation, RealServerEdit, RealServerSpec, ServiceRef, VirtualServiceEdit};
use super::spec;
use super::standing::effective_weights;
use super::state::{AdminState, AdminStates, FileNames};
use crate::config::plan::ServiceDefaults;
use crate::director::cluster::{ClusterConfig, EffectiveConfig, RealServerConfig, VirtualServiceConfig};
use crate::health::View;
use crate::time::Moment;
use draft::{Draft, ServerPosition};

pub use draft::{Selected, position_of_server, selected};

/// Everything that changes while a director runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// The configuration by file and commands; no drain changes it.
    pub cluster: Arc<ClusterConfig>,
    /// The defaults of services added later.
    pub defaults: ServiceDefaults,
    /// The key of all hash schedulers, also of services added later.
    pub hash_key: [u8; 16],
    /// The administrative states of the real servers.
    pub states: AdminStates,
    /// The names that the file gives to real servers.
    pub file_names: Arc<FileNames>,
    /// What the checks have found.
    pub health: Arc<View>,
}

impl Running {
    /// The configuration with the weights that the schedulers see.
    pub fn in_force(&self) -> EffectiveConfig {
        EffectiveConfig {
            config: self.cluster.clone(),
            weights: effective_weights(&self.cluster, &self.states, &self.health),
        }
    }

    /// States and health follow a virtual service to its new name.
    fn rename_service(&mut self, before: &str, after: &str) {
        self.states.rename_service(before, after);
        if self.health.service(before).is_some() {
            let services = &mut Arc::make_mut(&mut self.health).services;
            let view = services.remove(before);
            services.extend(view.map(|view| (after.to_owned(), view)));
        }
    }

    /// Whether no one outside can distinguish the two but by health, which is no configuration.
    pub fn is_same(&self, other: &Running) -> bool {
        let Running { cluster, defaults, hash_key, states, file_names: _, health: _ } = self;
        (cluster, defaults, hash_key, states)
            == (&other.cluster, &other.defaults, &other.hash_key, &other.states)
    }
}

/// The result of operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The next configuration.
    pub running: Running,
    /// The counters to reset.
    pub zeroed: Zeroed,
}

/// Whose statistics are reset to 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Zeroed {
    /// None.
    #[default]
    Nothing,
    /// Those of the virtual services with these names.
    VirtualServices(Vec<String>),
    /// All.
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
                self.set_state(at, removed.rip, AdminState::Active);
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
            Operation::Drain { virtual_service, real_server, .. }
            | Operation::Undrain { virtual_service, real_server }
            | Operation::Disable { virtual_service, real_server }
            | Operation::Enable { virtual_service, real_server } => {
                let places = self.find_servers(virtual_service.as_ref(), real_server)?;
                self.change_state(operation, &places, real_server, now)
            }
        }
    }

    fn add_service(&mut self, config: VirtualServiceConfig) -> Result<(), ControlError> {
        let exists = |message| Err(ControlError::new(Code::ServiceExists, message));
        for matcher in &config.matchers {
            if self.position_of(matcher).is_some() {
                let service = ServiceRef::Matcher((*matcher).into());
                return exists(format!("virtual service {service} already exists; edit it instead"));
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
            let message = format!("virtual service {} already exists", ServiceRef::Matcher((*taken).into()));
            return Err(ControlError::new(Code::ServiceExists, message));
        }
        if next.name != before.name {
            self.running.rename_service(&before.name, &next.name);
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
        self.running.states.forget_service(&removed.name);
    }

    /// A real server that a drain has removed makes room for the new one. Without a requested name, the real server gets
    /// the one it had, or has in the file.
    fn add_server(&mut self, service: &ServiceRef, asked: &RealServerSpec) -> Result<(), ControlError> {
        let at = self.find(service)?;
        let mut server = spec::real_server(asked)?;
        let config = self.service(at);
        let is_removed = |other: &&RealServerConfig| {
            self.running.states.of(&config.name, other.rip) == AdminState::Removed
        };
        let (removed, others): (Vec<_>, Vec<_>) = config.real_servers.iter().partition(is_removed);
        if asked.name.is_none() {
            let before =
                removed.iter().find(|other| other.rip == server.rip).map(|other| other.name.as_str());
            let known = before.or_else(|| self.running.file_names.find(config, server.rip));
            let known = known.filter(|name| others.iter().all(|other| other.name != *name));
            server.name = known.map_or(server.name, str::to_owned);
        }
        let exists = |message| Err(ControlError::new(Code::RealServerExists, message));
        if others.iter().any(|other| other.rip == server.rip) {
            return exists(format!("real server {} is already in virtual service {service}", server.rip));
        }
        if let Some(other) = others.iter().find(|other| other.name == server.name) {
            return exists(format!("the name {:?} is taken by real server {}", server.name, other.rip));
        }
        let gives_way = |other: &&&RealServerConfig| other.rip == server.rip || other.name == server.name;
        let gives_way: Vec<IpAddr> = removed.iter().filter(gives_way).map(|other| other.rip).collect();
        for rip in &gives_way {
            self.set_state(at, *rip, AdminState::Active);
        }
        let servers = &mut self.service_mut(at).real_servers;
        servers.retain(|other| !gives_way.contains(&other.rip));
        servers.push(server);
        self.is_rebuilt = true;
        Ok(())
    }

    fn edit_server(
        &mut self,
        (at, index): ServerPosition,
        edit: &RealServerEdit,
    ) -> Result<(), ControlError> {
        let before = self.service(at).real_servers[index].clone();
        let next = spec::edited_server(&before, edit)?;
        self.is_rebuilt |= next.name != before.name || next.checks != before.checks;
        if edit.weight.is_some() && self.running.states.of(&self.service(at).name, next.rip).is_of_drain() {
            self.set_state(at, next.rip, AdminState::Active);
        }
        self.service_mut(at).real_servers[index] = next;
        Ok(())
    }

    fn set_state(&mut self, at: usize, rip: IpAddr, state: AdminState) {
        let name = self.service(at).name.clone();
        self.running.states.set(&name, rip, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::AfterDrain;

    const NOW: Moment = Moment::from_secs(100);

    fn operation(json: &str) -> Operation {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn applied(running: &Running, json: &[&str]) -> Result<Running, ControlError> {
        let operations: Vec<Operation> = json.iter().map(|json| operation(json)).collect();
        apply(running, &operations, NOW).map(|applied| applied.running)
    }

    const WEB: &str = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "web",
        "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 80}], "scheduler": "rr",
        "real_servers": [{"rip": "172.25.3.2", "weight": 3, "name": "server2"}, {"rip": "172.25.3.3"}]}}"#;

    fn web() -> Running {
        applied(&Running::default(), &[WEB]).unwrap()
    }

    fn weights(running: &Running) -> Vec<u32> {
        let services = running.cluster.virtual_services.iter();
        services.flat_map(|service| &service.real_servers).map(|server| server.weight).collect()
    }

    #[test]
    fn an_impossible_operation_is_rejected_with_its_code_and_its_index() {
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
            (r#"{"operation": "set_weight", "real_server": "server2", "weight": 2147483648}"#.into(), Code::Invalid),
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
            let error = applied(&web(), &[zero, &json]).unwrap_err();
            assert_eq!((error.code, error.operation), (code, Some(1)), "{json}: {error}");
        }
        let rip_is_vip = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.100"}}"#;
        let error = applied(&web(), &[rip_is_vip]).unwrap_err();
        assert_eq!((error.code, error.operation), (Code::Invalid, None), "{error}");
    }

    #[test]
    fn json_with_unknown_or_missing_fields_is_not_an_operation() {
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
    fn an_edit_leaves_keys_that_it_does_not_name() {
        let before = web();
        let json = r#"{"operation": "edit_virtual_service", "virtual_service": "web",
            "set": {"persistence": {"timeout": 600, "prefix": 24}, "timeouts": {"tcp": 60}}}"#;
        let after = applied(&before, &[json]).unwrap();
        let (old, new) = (&before.cluster.virtual_services[0], &after.cluster.virtual_services[0]);
        assert_eq!(new.persistence.map(|p| (p.timeout.as_secs(), p.prefix_v4)), Some((600, 24)));
        assert_eq!(new.timeouts.established.as_secs(), 60);
        let mut same = new.clone();
        (same.persistence, same.timeouts) = (old.persistence, old.timeouts);
        assert_eq!(same, *old);
        let off = r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"persistence": null}}"#;
        assert_eq!(applied(&after, &[off]).unwrap().cluster.virtual_services[0].persistence, None);
    }

    #[test]
    fn a_drain_leaves_the_configured_weight_and_a_weight_ends_it() {
        let drain = r#"{"operation": "drain", "real_server": "server2", "timeout": 600, "then": "keep"}"#;
        let draining = applied(&web(), &[drain, drain]).unwrap();
        assert_eq!(draining.cluster, web().cluster);
        let until = Some(Moment::from_secs(700));
        let states: Vec<_> = draining.states.iter().map(|(_, _, state)| state).collect();
        assert_eq!(states, [AdminState::Draining { until, then: AfterDrain::Keep }]);
        let undrained =
            applied(&draining, &[r#"{"operation": "undrain", "real_server": "172.25.3.2"}"#]).unwrap();
        assert_eq!(undrained, web());
        let by_hand = r#"{"operation": "set_weight", "real_server": "server2", "weight": 7}"#;
        let weighed = applied(&draining, &[by_hand]).unwrap();
        assert_eq!((weights(&weighed), weighed.states), (vec![7, 1], AdminStates::default()));
        let rename =
            r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"name": "www"}}"#;
        let renamed = applied(&draining, &[rename]).unwrap();
        let names: Vec<_> = renamed.states.iter().map(|(service, ..)| service).collect();
        assert_eq!(names, ["www"]);
        let gone = [
            r#"{"operation": "flush"}"#,
            r#"{"operation": "remove_real_server", "virtual_service": "web", "real_server": "server2"}"#,
        ];
        for gone in gone {
            assert_eq!(applied(&draining, &[gone]).unwrap().states, AdminStates::default(), "{gone}");
        }
    }

    #[test]
    fn a_real_server_that_is_removed_and_added_again_keeps_its_name_from_the_file() {
        let file_names = Arc::new(FileNames::new(&web().cluster));
        let running = Running { file_names, ..web() };
        let service = r#"{"protocol": "tcp", "vip": "172.25.3.100", "port": 80}"#;
        let remove = format!(
            r#"{{"operation": "remove_real_server", "virtual_service": {service}, "real_server": "172.25.3.2"}}"#
        );
        let add = |rip: &str, name: &str| {
            format!(
                r#"{{"operation": "add_real_server", "virtual_service": {service}, "real_server": {{"rip": "{rip}"{name}}}}}"#
            )
        };
        let names = |json: &[&str]| -> Vec<String> {
            let running = applied(&running, json).unwrap();
            running.cluster.virtual_services[0].real_servers.iter().map(|s| s.name.clone()).collect()
        };
        let named = r#", "name": "server2""#;
        assert_eq!(names(&[&remove, &add("172.25.3.2", "")]), ["172.25.3.3", "server2"]);
        assert_eq!(
            names(&[&remove, &add("172.25.3.9", named), &add("172.25.3.2", "")]),
            ["172.25.3.3", "server2", "172.25.3.2"],
            "unless another real server has it"
        );
        assert_eq!(names(&[&remove, &add("172.25.3.2", r#", "name": "other""#)]), ["172.25.3.3", "other"]);
    }
}
