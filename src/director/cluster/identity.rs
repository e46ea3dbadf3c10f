//! Which virtual service and which real server of an older configuration a newer one continues.
//!
//! The same answer for all callers: the builder of snapshots (connections and counters stay), the differences
//! that are reported, the merge of a reload, and what is remembered of a real server in addition to its
//! configuration.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::config::VirtualServiceConfig;
use crate::director::real_server::RealServerConfig;

/// For each new virtual service the index of the old one it continues: the one with the same first matcher, otherwise
/// the one of the same name, otherwise one with any matcher in common. None is continued twice.
pub fn predecessors(old: &[VirtualServiceConfig], new: &[VirtualServiceConfig]) -> Vec<Option<usize>> {
    // Most changes are small: what stands at the same place from either end is found without a search.
    let is_same = |(old, new): &(&VirtualServiceConfig, &VirtualServiceConfig)| {
        !new.matchers.is_empty() && old.matchers.first() == new.matchers.first()
    };
    let ahead = old.iter().zip(new).take_while(is_same).count();
    let (old_rest, new_rest) = (&old[ahead..], &new[ahead..]);
    let behind = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(is_same).count();
    let (old_end, new_end) = (old.len() - behind, new.len() - behind);
    let found = search(&old[ahead..old_end], &new[ahead..new_end]);
    let found = found.into_iter().map(|index| index.map(|index| ahead + index));
    (0..ahead).map(Some).chain(found).chain((old_end..old.len()).map(Some)).collect()
}

fn search(old: &[VirtualServiceConfig], new: &[VirtualServiceConfig]) -> Vec<Option<usize>> {
    let (mut by_first, mut by_name, mut by_any) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (index, service) in old.iter().enumerate() {
        by_first.extend(service.matchers.first().map(|matcher| (*matcher, index)));
        by_name.insert(service.name.as_str(), index);
        by_any.extend(service.matchers.iter().map(|matcher| (*matcher, index)));
    }
    let mut taken = HashSet::new();
    let mut found = vec![None; new.len()];
    for pass in 0..3 {
        for (service, found) in new.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let mut any = service.matchers.iter().filter_map(|matcher| by_any.get(matcher));
            let candidate = match pass {
                0 => service.matchers.first().and_then(|matcher| by_first.get(matcher)),
                1 => by_name.get(service.name.as_str()),
                _ => any.find(|candidate| !taken.contains(*candidate)),
            };
            *found = candidate.copied().filter(|candidate| taken.insert(*candidate));
        }
    }
    found
}

/// Of two virtual services of which one continues the other: for each new real server the index of the old one it
/// continues, the one with the same RIP.
pub fn server_predecessors(old: &[RealServerConfig], new: &[RealServerConfig]) -> Vec<Option<usize>> {
    let by_rip: HashMap<IpAddr, usize> =
        old.iter().enumerate().map(|(index, server)| (server.rip, index)).collect();
    new.iter().map(|server| by_rip.get(&server.rip).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::cluster::{Matcher, Ports};
    use crate::director::scheduler::rr;
    use crate::packet::Protocol;

    /// A virtual service by its name and ports.
    fn service(name: &str, ports: &[u16]) -> VirtualServiceConfig {
        let vip = "172.25.3.100".parse().unwrap();
        let matcher = |port: &u16| Matcher { protocol: Protocol::Tcp, vip, ports: Ports::one(*port) };
        let matchers = ports.iter().map(matcher).collect();
        VirtualServiceConfig { matchers, ..VirtualServiceConfig::new(name, Protocol::Tcp, vip, 1, &rr::ROW) }
    }

    #[test]
    fn the_first_matcher_overrides_the_name_and_the_name_any_other_matcher() {
        let old = [service("web", &[80, 443]), service("api", &[81]), service("dns", &[53, 54])];
        type Case = (&'static str, Vec<VirtualServiceConfig>, Vec<Option<usize>>);
        let cases: [Case; 7] = [
            ("renamed", vec![service("www", &[80, 443])], vec![Some(0)]),
            ("other ports", vec![service("api", &[8081])], vec![Some(1)]),
            (
                "name and first port swapped",
                vec![service("api", &[80]), service("web", &[81])],
                vec![Some(0), Some(1)],
            ),
            ("its second port alone, renamed", vec![service("secure", &[443])], vec![Some(0)]),
            (
                "split: the part with the first matcher continues, not the part with the name",
                vec![service("web", &[443]), service("plain", &[80])],
                vec![None, Some(0)],
            ),
            ("nothing in common", vec![service("new", &[1])], vec![None]),
            (
                "one in between is new",
                vec![old[0].clone(), service("new", &[1]), old[1].clone(), old[2].clone()],
                vec![Some(0), None, Some(1), Some(2)],
            ),
        ];
        for (what, new, expected) in cases {
            assert_eq!(predecessors(&old, &new), expected, "{what}");
        }
    }

    #[test]
    fn no_virtual_service_is_continued_twice() {
        let old = [service("web", &[80, 443, 8080])];
        let new = [service("a", &[443]), service("b", &[8080]), service("c", &[1])];
        assert_eq!(predecessors(&old, &new), [Some(0), None, None]);
    }

    #[test]
    fn a_service_without_matchers_continues_only_its_name() {
        let old = [service("web", &[])];
        assert_eq!(predecessors(&old, &[service("other", &[])]), [None]);
        assert_eq!(predecessors(&old, &[service("web", &[])]), [Some(0)]);
    }

    #[test]
    fn a_matcher_whose_service_is_taken_leads_to_the_next_matcher() {
        let old = [service("web", &[80]), service("api", &[81])];
        let new = [service("b", &[1, 80, 81]), service("a", &[80])];
        assert_eq!(predecessors(&old, &new), [Some(1), Some(0)]);
    }
}
