//! How drains end.

use std::net::IpAddr;

use super::Running;
use crate::control::model::Then;
use crate::control::state::AdminState;
use crate::time::Moment;

/// A drain that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    pub virtual_service: String,
    pub rip: IpAddr,
    pub then: Then,
    /// It has no connections left; otherwise its deadline has passed.
    pub is_empty: bool,
}

/// Ends the drains whose real server has nobody any more, as `is_empty` says, or whose deadline is over: the
/// states then, and what was ended. `None`: all of them go on. What is configured stays.
pub fn finish(
    running: &Running,
    is_empty: impl Fn(&str, IpAddr) -> bool,
    now: Moment,
) -> Option<(Running, Vec<Drained>)> {
    let ended = |(service, rip, state): (&str, IpAddr, AdminState)| {
        let AdminState::Draining { until, then } = state else { return None };
        let is_empty = is_empty(service, rip);
        let is_over = until.is_some_and(|until| until <= now);
        (is_empty || is_over).then(|| Drained { virtual_service: service.to_owned(), rip, then, is_empty })
    };
    let ended: Vec<Drained> = running.states.iter().filter_map(ended).collect();
    if ended.is_empty() {
        return None;
    }
    let mut next = running.clone();
    for Drained { virtual_service, rip, then, .. } in &ended {
        let state = match then {
            Then::Keep => AdminState::Quiesced,
            Then::Remove => AdminState::Removed,
        };
        next.states.set(virtual_service, *rip, state);
    }
    Some((next, ended))
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use super::*;
    use crate::control::model::Operation;
    use crate::director::cluster::ClusterConfig;

    fn told(running: &Running, json: &[&str]) -> Running {
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
        told(&Running::default(), &[add, &drain])
    }

    fn removed() -> Running {
        finish(&draining("remove"), |_, _| true, Moment::ZERO).unwrap().0
    }

    /// What the schedulers see of the two.
    fn effective(running: &Running) -> [Option<u32>; 2] {
        let in_force = running.in_force();
        let service = &in_force.config.virtual_services[0];
        let weights = in_force.weights.get(&service.name);
        let of = |index: usize| {
            let server = service.real_servers.get(index)?;
            let effective = weights.and_then(|weights| weights.get(&server.rip)).copied();
            effective.unwrap_or(Some(server.weight))
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
    fn undrain_and_a_weight_bring_back_what_a_drain_has_removed() {
        let undrain = r#"{"operation": "undrain", "real_server": "server2"}"#;
        let weight = r#"{"operation": "set_weight", "real_server": "server2", "weight": 5}"#;
        assert_eq!(effective(&told(&removed(), &[undrain])), [Some(3), Some(1)]);
        assert_eq!(effective(&told(&removed(), &[weight])), [Some(5), Some(1)]);
        let error =
            apply(&told(&removed(), &[undrain]), &[serde_json::from_str(undrain).unwrap()], Moment::ZERO);
        assert_eq!(error.unwrap_err().code, crate::control::Code::NotDraining);
    }

    #[test]
    fn what_a_drain_has_removed_gives_way_to_what_is_added_and_is_not_saved() {
        let add = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.2", "weight": 4}}"#;
        let back = told(&removed(), &[add]);
        let servers = &back.cluster.virtual_services[0].real_servers;
        assert_eq!((servers.len(), servers[1].name.as_str(), servers[1].weight), (2, "server2", 4));
        assert_eq!(effective(&back), [Some(1), Some(4)]);
        let other = r#"{"operation": "add_real_server", "virtual_service": "web", "real_server": {"rip": "172.25.3.9", "name": "server2"}}"#;
        let replaced = told(&removed(), &[other]);
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
    fn a_new_file_ends_no_drain_whatever_it_calls_the_service_and_brings_back_what_a_drain_removed() {
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
