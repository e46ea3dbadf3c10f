//! How drains begin and end, and how real servers are disabled and enabled.

use std::net::IpAddr;

use super::draft::{Draft, ServerPosition};
use super::{Code, ControlError, Running};
use crate::control::model::{AfterDrain, Operation};
use crate::control::state::AdminState;
use crate::time::Moment;

impl Draft {
    /// Carries out an operation that changes administrative states.
    pub(super) fn change_state(
        &mut self,
        operation: &Operation,
        places: &[ServerPosition],
        name: &str,
        now: Moment,
    ) -> Result<(), ControlError> {
        match operation {
            Operation::Drain { timeout, then, .. } => {
                let until = timeout.map(|timeout| now.after(timeout.0));
                self.drain(places, name, AdminState::Draining { until, then: *then })
            }
            Operation::Disable { .. } => self.disable(places, name),
            Operation::Enable { .. } => self.enable(places, name),
            _ => self.undrain(places, name),
        }
    }

    /// Real servers that a drain has removed stay removed.
    fn drain(
        &mut self,
        places: &[ServerPosition],
        name: &str,
        state: AdminState,
    ) -> Result<(), ControlError> {
        let mut is_any = false;
        for &(at, index) in places {
            let service = self.service(at);
            let rip = service.real_servers[index].rip;
            if self.running.states.of(&service.name, rip) != AdminState::Removed {
                self.set_state(at, rip, state);
                is_any = true;
            }
        }
        if is_any {
            return Ok(());
        }
        let message = format!("a drain has already removed real server {name}; `undrain` brings it back");
        Err(ControlError::new(Code::NoSuchRealServer, message))
    }

    fn undrain(&mut self, places: &[ServerPosition], name: &str) -> Result<(), ControlError> {
        let mut is_any = false;
        for &(at, index) in places {
            let service = self.service(at);
            let rip = service.real_servers[index].rip;
            if self.running.states.of(&service.name, rip).is_of_drain() {
                self.set_state(at, rip, AdminState::Active);
                is_any = true;
            }
        }
        if is_any {
            return Ok(());
        }
        Err(ControlError::new(Code::NotDraining, format!("real server {name} is not draining")))
    }

    /// Its drain, if it has one, ends; a real server that a drain has removed cannot be disabled.
    fn disable(&mut self, places: &[ServerPosition], name: &str) -> Result<(), ControlError> {
        self.drain(places, name, AdminState::Disabled)
    }

    /// Enables a real server wherever it is disabled. One that is enabled stays as it is.
    fn enable(&mut self, places: &[ServerPosition], name: &str) -> Result<(), ControlError> {
        let states: Vec<(ServerPosition, IpAddr, AdminState)> = places
            .iter()
            .map(|&(at, index)| {
                let service = self.service(at);
                let rip = service.real_servers[index].rip;
                ((at, index), rip, self.running.states.of(&service.name, rip))
            })
            .collect();
        if states.iter().all(|(_, _, state)| state.is_of_drain()) {
            let message = format!("real server {name} is not disabled but drained; `undrain` ends a drain");
            return Err(ControlError::new(Code::Invalid, message));
        }
        for ((at, _), rip, _) in states.into_iter().filter(|(_, _, state)| *state == AdminState::Disabled) {
            self.set_state(at, rip, AdminState::Active);
        }
        Ok(())
    }
}

/// A drain that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The name of the virtual service.
    pub virtual_service: String,
    /// The name of the real server.
    pub real_server: String,
    /// The address of the real server.
    pub rip: IpAddr,
    /// What happens to the real server.
    pub then: AfterDrain,
    /// Whether it has no connections left; otherwise its deadline has passed.
    pub is_empty: bool,
}

/// Ends the drains whose real server has no connections left, according to `is_empty`, or whose deadline has passed.
/// Returns the new states and the drains that ended; `None` if all continue. The configuration does not change.
pub fn finish(
    running: &Running,
    is_empty: impl Fn(&str, IpAddr) -> bool,
    now: Moment,
) -> Option<(Running, Vec<Drained>)> {
    let ended = |(service, rip, state): (&str, IpAddr, AdminState)| {
        let AdminState::Draining { until, then } = state else { return None };
        let is_empty = is_empty(service, rip);
        let is_over = until.is_some_and(|until| until <= now);
        (is_empty || is_over).then(|| Drained {
            virtual_service: service.to_owned(),
            real_server: name_of_server(running, service, rip),
            rip,
            then,
            is_empty,
        })
    };
    let ended: Vec<Drained> = running.states.iter().filter_map(ended).collect();
    if ended.is_empty() {
        return None;
    }
    let mut next = running.clone();
    for Drained { virtual_service, rip, then, .. } in &ended {
        let state = match then {
            AfterDrain::Keep => AdminState::Quiesced,
            AfterDrain::Remove => AdminState::Removed,
        };
        next.states.set(virtual_service, *rip, state);
    }
    Some((next, ended))
}

fn name_of_server(running: &Running, service: &str, rip: IpAddr) -> String {
    let service = running.cluster.virtual_services.iter().find(|known| known.name == service);
    let server = service.and_then(|service| service.real_servers.iter().find(|server| server.rip == rip));
    server.map_or_else(|| rip.to_string(), |server| server.name.clone())
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use super::*;
    use crate::control::model::Operation;
    use crate::director::cluster::ClusterConfig;

    fn applied(running: &Running, json: &[&str]) -> Running {
        let operations: Vec<Operation> =
            json.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        apply(running, &operations, Moment::ZERO).unwrap().running
    }

    fn draining(then: &str) -> Running {
        let add = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "web",
            "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 80},
                {"protocol": "tcp", "vip": "172.25.3.100", "port": 443}],
            "real_servers": [{"rip": "172.25.3.2", "name": "server2", "weight": 3}, {"rip": "172.25.3.3"}]}}"#;
        let drain =
            format!(r#"{{"operation": "drain", "real_server": "server2", "timeout": 60, "then": "{then}"}}"#);
        applied(&Running::default(), &[add, &drain])
    }

    fn removed() -> Running {
        finish(&draining("remove"), |_, _| true, Moment::ZERO).unwrap().0
    }

    /// The weights of both real servers that the schedulers see.
    fn effective(running: &Running) -> [Option<u32>; 2] {
        let in_force = running.in_force();
        let service = &in_force.config.virtual_services[0];
        let weights = in_force.weights.get(&service.name);
        let of = |index: usize| {
            let server = service.real_servers.get(index)?;
            let effective = weights.and_then(|weights| weights.get(&server.rip)).copied();
            effective.unwrap_or(Some(server.weight.into())).map(|standing| standing.weight)
        };
        [of(0), of(1)]
    }

    fn configured(running: &Running) -> Vec<u32> {
        running.cluster.virtual_services[0].real_servers.iter().map(|server| server.weight).collect()
    }

    #[test]
    fn a_drain_ends_with_the_last_connection_or_the_deadline_and_the_configured_weight_stays() {
        let remove = draining("remove");
        assert_eq!(effective(&remove), [Some(0), Some(1)]);
        assert_eq!(finish(&remove, |_, _| false, Moment::from_secs(59)), None);
        let (next, ended) = finish(&remove, |_, _| true, Moment::from_secs(59)).unwrap();
        assert!(ended[0].is_empty);
        assert_eq!(effective(&next), [None, Some(1)]);
        assert_eq!(finish(&next, |_, _| true, Moment::from_secs(999)), None, "it ends once");
        let (next, ended) = finish(&draining("keep"), |_, _| false, Moment::from_secs(60)).unwrap();
        assert!(!ended[0].is_empty);
        assert_eq!(effective(&next), [Some(0), Some(1)]);
        assert_eq!(finish(&next, |_, _| true, Moment::from_secs(999)), None, "it ends once");
        for running in [remove, next, removed()] {
            assert_eq!(configured(&running), [3, 1]);
        }
    }

    #[test]
    fn a_drain_that_ends_names_its_service_and_server_and_leaves_other_drains() {
        let other = r#"{"operation": "drain", "real_server": "172.25.3.3", "then": "keep"}"#;
        let running = applied(&draining("remove"), &[other]);
        let first: IpAddr = "172.25.3.2".parse().unwrap();
        let (next, ended) =
            finish(&running, |service, rip| service == "web" && rip == first, Moment::ZERO).unwrap();
        let names: Vec<_> =
            ended.iter().map(|d| (d.virtual_service.as_str(), d.real_server.as_str(), d.rip)).collect();
        assert_eq!(names, [("web", "server2", first)]);
        assert_eq!(ended[0].then, AfterDrain::Remove);
        let states: Vec<_> = next.states.iter().map(|(_, _, state)| state.word()).collect();
        assert_eq!(states, ["removed", "draining"]);
        let (_, ended) = finish(&running, |_, rip| rip != first, Moment::ZERO).unwrap();
        let names: Vec<_> = ended.iter().map(|d| (d.real_server.as_str(), d.then)).collect();
        assert_eq!(names, [("172.25.3.3", AfterDrain::Keep)]);
    }

    #[test]
    fn a_server_of_two_services_has_the_name_that_the_drained_service_gives_it() {
        let add = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "shop",
            "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 8080}],
            "real_servers": [{"rip": "172.25.3.2", "name": "till"}]}}"#;
        let drain = r#"{"operation": "drain", "virtual_service": "shop", "real_server": "till"}"#;
        let running = applied(&draining("keep"), &[add, drain]);
        let (_, ended) = finish(&running, |_, _| true, Moment::ZERO).unwrap();
        let mut names: Vec<_> =
            ended.iter().map(|d| (d.virtual_service.as_str(), d.real_server.as_str())).collect();
        names.sort_unstable();
        assert_eq!(names, [("shop", "till"), ("web", "server2")]);
    }

    #[test]
    fn a_drain_without_a_deadline_waits_for_the_last_connection() {
        let drain = r#"{"operation": "drain", "real_server": "server2"}"#;
        let running = applied(&draining("remove"), &[drain]);
        assert_eq!(finish(&running, |_, _| false, Moment::from_secs(1 << 40)), None);
        assert!(finish(&running, |_, _| true, Moment::ZERO).unwrap().1[0].is_empty);
    }

    #[test]
    fn a_server_that_a_drain_has_removed_cannot_be_drained_again() {
        let drain = r#"{"operation": "drain", "real_server": "server2", "then": "keep"}"#;
        let refused = apply(&removed(), &[serde_json::from_str(drain).unwrap()], Moment::ZERO).unwrap_err();
        assert_eq!(refused.code, Code::NoSuchRealServer);
        assert!(refused.message.contains("`undrain` brings it back"), "{refused}");
        let two = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "api",
            "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 81}],
            "real_servers": [{"rip": "172.25.3.2", "name": "server2"}]}}"#;
        let both = applied(&removed(), &[two, drain]);
        let states: Vec<_> = both.states.iter().map(|(name, _, state)| (name, state.word())).collect();
        assert_eq!(states, [("api", "draining"), ("web", "removed")], "only where it still serves");
        let quiesced = finish(&draining("keep"), |_, _| true, Moment::ZERO).unwrap().0;
        let again = applied(&quiesced, &[r#"{"operation": "drain", "real_server": "server2"}"#]);
        assert_eq!(effective(&finish(&again, |_, _| true, Moment::ZERO).unwrap().0), [None, Some(1)]);
    }

    #[test]
    fn undrain_and_a_weight_bring_back_what_a_drain_has_removed() {
        let undrain = r#"{"operation": "undrain", "real_server": "server2"}"#;
        let weight = r#"{"operation": "set_weight", "real_server": "server2", "weight": 5}"#;
        assert_eq!(effective(&applied(&removed(), &[undrain])), [Some(3), Some(1)]);
        assert_eq!(effective(&applied(&removed(), &[weight])), [Some(5), Some(1)]);
        let error =
            apply(&applied(&removed(), &[undrain]), &[serde_json::from_str(undrain).unwrap()], Moment::ZERO);
        assert_eq!(error.unwrap_err().code, Code::NotDraining);
    }

    #[test]
    fn a_server_that_a_drain_has_removed_makes_room_for_an_added_one_and_is_not_saved() {
        let add = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.2", "weight": 4}}"#;
        let back = applied(&removed(), &[add]);
        let servers = &back.cluster.virtual_services[0].real_servers;
        assert_eq!((servers.len(), servers[1].name.as_str(), servers[1].weight), (2, "server2", 4));
        assert_eq!(effective(&back), [Some(1), Some(4)]);
        let other = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.9", "name": "server2"}}"#;
        let replaced = applied(&removed(), &[other]);
        let rips: Vec<_> =
            replaced.cluster.virtual_services[0].real_servers.iter().map(|s| s.rip.to_string()).collect();
        assert_eq!(rips, ["172.25.3.3", "172.25.3.9"]);
        assert_eq!(replaced.states, Default::default());
        let saved = |running: &Running| running.states.without_removed(&running.cluster);
        let names = |config: &ClusterConfig| config.virtual_services[0].real_servers.len();
        assert_eq!(
            (names(&saved(&removed())), saved(&draining("keep"))),
            (1, (*draining("keep").cluster).clone())
        );
    }

    #[test]
    fn a_new_file_ends_no_drain_and_brings_back_the_removed_servers_that_it_lists() {
        let carried = |before: &Running, next: &ClusterConfig, file: &ClusterConfig| {
            let states = before.states.carried_over(&before.cluster, next, file);
            states.iter().map(|(name, _, state)| format!("{name} {}", state.word())).collect::<Vec<_>>()
        };
        let before = draining("remove");
        let mut next = (*before.cluster).clone();
        next.virtual_services[0].real_servers[0].weight = 9;
        assert_eq!(carried(&before, &next, &next), ["web draining"]);
        next.virtual_services[0].name = "secure".to_owned();
        next.virtual_services[0].matchers.remove(0);
        assert_eq!(carried(&before, &next, &next), ["secure draining"]);
        assert!(carried(&removed(), &next, &next).is_empty(), "the file lists it");
        let mut without = next.clone();
        without.virtual_services[0].real_servers.remove(0);
        assert_eq!(carried(&removed(), &next, &without), ["secure removed"], "it was added by command");
        assert!(carried(&before, &without, &without).is_empty());
    }
}
