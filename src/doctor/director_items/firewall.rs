//! Does the packet filter accept what goes from the interface to the TUN device?

use std::net::IpAddr;

use crate::director::cluster::Matcher;
use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::{FORWARDED, Gate};
use crate::doctor::firewall::{Probe, State, Verdict};

/// One finding for each interface, or one for each virtual service that is not accepted there.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.plan.interfaces.iter().flat_map(|name| from(facts, name)).collect()
}

fn from(facts: &Director, name: &str) -> Vec<Finding> {
    let gate = gate_from(facts, name);
    let mut findings: Vec<Finding> = Vec::new();
    for matcher in matchers(facts) {
        let Some(probe) = probe_from(facts, name, matcher, State::New) else { continue };
        let verdict = facts.host.firewall.verdict(FORWARDED, &probe);
        let finding = gate.finding(&verdict);
        if verdict != Verdict::Accepted && !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        findings.push(gate.finding(&Verdict::Accepted));
    }
    findings
}

/// The packets of all virtual services. A rule at the hook `prerouting` cannot name the output interface, so that the
/// input interface is all that is named.
pub(super) fn gate_from(facts: &Director, name: &str) -> Gate {
    let tun = &facts.plan.tun;
    Gate {
        packets: format!("packets from {name} to {tun}"),
        nft: format!("iifname \"{name}\" oifname \"{tun}\""),
        iptables: format!("-i {name} -o {tun}"),
    }
}

pub(super) fn matchers(facts: &Director) -> impl Iterator<Item = &Matcher> {
    facts.plan.cluster.virtual_services.iter().flat_map(|service| &service.matchers)
}

/// A client's packet that arrives on this interface.
pub(super) fn probe_from(facts: &Director, name: &str, matcher: &Matcher, state: State) -> Option<Probe> {
    let IpAddr::V4(destination) = matcher.vip else { return None };
    Some(Probe {
        input: Some(name.to_owned()),
        output: Some(facts.plan.tun.clone()),
        source: None,
        destination,
        protocol: matcher.protocol.number(),
        port: Some(matcher.ports.first),
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::firewall::Firewall;

    #[test]
    fn a_policy_that_drops_what_is_forwarded_is_an_error() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("the firewall accepts packets from eth0 to lvsd0")]);
        facts.host.firewall = bed::firewall("*filter\n:FORWARD DROP [0:0]\n");
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "iptables chain FORWARD of table filter (its policy) drops packets from eth0 to lvsd0",
                "iptables -t filter -I FORWARD -i eth0 -o lvsd0 -j ACCEPT"
            )]
        );
        facts.host.firewall =
            bed::firewall("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\n");
        assert_eq!(examine(&facts), [Finding::ok("the firewall accepts packets from eth0 to lvsd0")]);
    }

    #[test]
    fn virtual_services_share_one_finding() {
        let mut facts = bed::director("");
        let matchers = &mut facts.plan.cluster.virtual_services[0].matchers;
        matchers.push(Matcher { ports: crate::director::cluster::Ports::one(443), ..matchers[0] });
        let rows = [
            (":FORWARD DROP [0:0]\n", true),
            (":FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -m tcp --dport 80 -j DROP\n", true),
            (":FORWARD ACCEPT [0:0]\n-A FORWARD -m state --state INVALID -j DROP\n", false),
        ];
        for (rules, is_dropped) in rows {
            facts.host.firewall = bed::firewall(&format!("*filter\n{rules}"));
            let found = examine(&facts);
            assert_eq!((found.len(), found[0].remedy.is_some()), (1, is_dropped), "{rules}");
        }
    }

    #[test]
    fn rules_that_cannot_be_read_are_a_warning() {
        let mut facts = bed::director("");
        facts.host.firewall = Firewall::Unreadable("nft is not installed".into());
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "cannot determine whether the firewall accepts packets from eth0 to lvsd0: nft is not installed",
                "nft list ruleset"
            )]
        );
    }
}
