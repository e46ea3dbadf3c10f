//! The progress of drains, and how they continue in a new configuration.

use std::net::IpAddr;

use super::{Drains, Running};
use crate::control::model::Then;
use crate::director::cluster::ClusterConfig;
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

/// Ends the drains whose real server has no connections left, according to `is_empty`, or whose deadline has
/// passed. Returns the configuration after that and the drains that ended, or `None` if all drains continue.
pub fn finish(
    running: &Running,
    is_empty: impl Fn(&str, IpAddr) -> bool,
    now: Moment,
) -> Option<(Running, Vec<Drained>)> {
    let ended = |((service, rip), drain): (&(String, IpAddr), &super::Drain)| {
        let is_empty = is_empty(service, *rip);
        let is_over = drain.deadline.is_some_and(|deadline| deadline <= now);
        let ends = !drain.is_done && (is_empty || is_over);
        ends.then(|| Drained { virtual_service: service.clone(), rip: *rip, then: drain.then, is_empty })
    };
    let ended: Vec<Drained> = running.drains.iter().filter_map(ended).collect();
    if ended.is_empty() {
        return None;
    }
    let mut next = running.clone();
    let mut cluster = (*next.cluster).clone();
    for drained in &ended {
        let key = (drained.virtual_service.clone(), drained.rip);
        match drained.then {
            Then::Keep => next.drains.entry(key).and_modify(|drain| drain.is_done = true),
            Then::Remove => {
                let service = cluster.virtual_services.iter_mut().find(|s| s.name == drained.virtual_service);
                service.into_iter().for_each(|s| s.real_servers.retain(|server| server.rip != drained.rip));
                next.drains.remove(&key);
                continue;
            }
        };
    }
    next.cluster = cluster.into();
    Some((next, ended))
}

/// Carries drains over to a configuration that did not come from operations: a draining real server stays
/// quiesced, and the new configuration's weight is the one that `undrain` restores.
pub fn carry_over(before: &Running, next: &mut ClusterConfig) -> Drains {
    let mut drains = Drains::new();
    for ((name, rip), drain) in &before.drains {
        let old = before.cluster.virtual_services.iter().find(|service| service.name == *name);
        let services = &next.virtual_services;
        let first = old.and_then(|old| old.matchers.first());
        let by_matcher =
            services.iter().position(|service| first.is_some_and(|m| service.matchers.first() == Some(m)));
        let place = by_matcher.or_else(|| services.iter().position(|service| service.name == *name));
        let Some(service) = place.map(|place| &mut next.virtual_services[place]) else { continue };
        let Some(server) = service.real_servers.iter_mut().find(|server| server.rip == *rip) else {
            continue;
        };
        let mut drain = *drain;
        if server.weight != 0 {
            drain.weight = std::mem::take(&mut server.weight);
        }
        drains.insert((service.name.clone(), *rip), drain);
    }
    drains
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use super::*;
    use crate::control::model::Operation;

    fn draining(then: &str) -> Running {
        let add = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "web",
            "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": 80}],
            "real_servers": [{"rip": "172.25.3.2", "weight": 3}, {"rip": "172.25.3.3"}]}}"#;
        let drain = format!(
            r#"{{"operation": "drain", "real_server": "172.25.3.2", "timeout": 60, "then": "{then}"}}"#
        );
        let operations: Vec<Operation> = [add, &drain].map(|json| serde_json::from_str(json).unwrap()).into();
        apply(&Running::default(), &operations, Moment::ZERO).unwrap().running
    }

    fn weights(config: &ClusterConfig) -> Vec<u32> {
        config.virtual_services[0].real_servers.iter().map(|server| server.weight).collect()
    }

    #[test]
    fn a_drain_ends_with_the_last_connection_or_the_deadline() {
        let remove = draining("remove");
        assert_eq!(finish(&remove, |_, _| false, Moment::from_secs(59)), None);
        let (next, ended) = finish(&remove, |_, _| true, Moment::from_secs(59)).unwrap();
        assert!(ended[0].is_empty && next.drains.is_empty());
        assert_eq!(weights(&next.cluster), [1]);
        let (next, ended) = finish(&draining("keep"), |_, _| false, Moment::from_secs(60)).unwrap();
        assert!(!ended[0].is_empty);
        assert_eq!(weights(&next.cluster), [0, 1]);
        assert_eq!(finish(&next, |_, _| true, Moment::from_secs(999)), None, "it ends once");
        let undrain: Operation =
            serde_json::from_str(r#"{"operation": "undrain", "real_server": "172.25.3.2"}"#).unwrap();
        let undrained = apply(&next, &[undrain], Moment::from_secs(999)).unwrap().running;
        assert_eq!(weights(&undrained.cluster), [3, 1]);
    }

    #[test]
    fn a_new_file_does_not_end_a_drain_and_its_weight_is_kept_for_later() {
        let before = draining("remove");
        let mut next = (*before.cluster).clone();
        next.virtual_services[0].name = "www".to_owned();
        next.virtual_services[0].real_servers[0].weight = 9;
        let drains = carry_over(&before, &mut next);
        assert_eq!(weights(&next), [0, 1]);
        let carried: Vec<_> = drains.iter().map(|((name, _), drain)| (name.as_str(), drain.weight)).collect();
        assert_eq!(carried, [("www", 9)]);
        next.virtual_services[0].real_servers.remove(0);
        assert!(carry_over(&before, &mut next).is_empty());
    }
}
