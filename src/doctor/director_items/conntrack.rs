//! Does connection tracking lose the clients' packets? It never sees the real servers' replies, so that a client's second
//! packet has the state `invalid` (tcp_conntracks of nf_conntrack_proto_tcp.c: ACK after SYN without SYN-ACK).

use super::firewall::{gate_from, matchers, probe_from};
use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::FORWARDED;
use crate::doctor::firewall::{State, Verdict};
use crate::packet::Protocol;

/// One finding for all interfaces, or one for each rule that drops. Nothing about packets whose first is dropped already: the
/// item `firewall` reports that.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for finding in facts.plan.interfaces.iter().filter_map(|name| from(facts, name)) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("connection tracking makes no difference to the clients' packets"));
    }
    findings
}

fn from(facts: &Director, name: &str) -> Option<Finding> {
    let firewall = &facts.host.firewall;
    for matcher in matchers(facts).filter(|matcher| matcher.protocol == Protocol::Tcp) {
        let of =
            |state| probe_from(facts, name, matcher, state).map(|probe| firewall.verdict(FORWARDED, &probe));
        let (Some(first), Some(second)) = (of(State::New), of(State::Invalid)) else { continue };
        if let (Verdict::Accepted | Verdict::Unknown(_), Verdict::Dropped(place)) = (first, second) {
            return Some(Finding::error(
                format!(
                    "{} drops packets from {name} whose state is invalid, and connection tracking regards every packet \
                     of a client after the first as invalid: connections open and then hang",
                    place.words
                ),
                gate_from(facts, name).remedy(&place),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn the_usual_stateful_rules_are_an_error() {
        let mut facts = bed::director("");
        let fine = [Finding::ok("connection tracking makes no difference to the clients' packets")];
        assert_eq!(examine(&facts), fine);
        let stateful = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                        -A FORWARD -m conntrack --ctstate INVALID -j DROP\n";
        facts.host.firewall = bed::firewall(stateful);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "iptables chain FORWARD of table filter (-A FORWARD -m conntrack --ctstate INVALID -j DROP) drops packets \
                 from eth0 whose state is invalid, and connection tracking regards every packet of a client after the \
                 first as invalid: connections open and then hang",
                "iptables -t filter -I FORWARD -i eth0 -o lvsd0 -j ACCEPT"
            )]
        );
        let cured = stateful.replacen("-A", "-A FORWARD -i eth0 -o lvsd0 -j ACCEPT\n-A", 1);
        facts.host.firewall = bed::firewall(&cured);
        assert_eq!(examine(&facts), fine);
        facts.host.firewall = bed::firewall("*filter\n:FORWARD DROP [0:0]\n");
        assert_eq!(examine(&facts), fine);
    }

    #[test]
    fn every_interface_is_judged() {
        let mut facts = bed::director("");
        facts.plan.interfaces.push("eth1".into());
        for (names, count) in [("eth1", 1), ("eth0", 1), ("eth+", 2)] {
            facts.host.firewall = bed::firewall(&format!(
                "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i {names} -m state --state INVALID -j DROP\n"
            ));
            let found = examine(&facts);
            assert_eq!(found.len(), count, "{found:?}");
            let remedy = found[count - 1].remedy.clone().unwrap_or_default();
            let last = if names == "eth0" { "eth0" } else { "eth1" };
            assert!(remedy.contains(&format!("-i {last} -o lvsd0")), "{remedy}");
        }
    }

    #[test]
    fn datagrams_have_no_invalid_state() {
        let mut facts = bed::director("");
        facts.plan.cluster.virtual_services[0].matchers[0].protocol = Protocol::Udp;
        facts.host.firewall =
            bed::firewall("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m state --state INVALID -j DROP\n");
        assert_eq!(examine(&facts).len(), 1);
        assert_eq!(examine(&facts)[0].remedy, None);
    }
}
