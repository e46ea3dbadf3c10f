//! Does the packet filter accept encapsulated packets from the directors?

use std::net::Ipv4Addr;

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::{DELIVERED, Gate};
use crate::doctor::firewall::{Probe, State, Verdict};
use crate::packet::protocol;

/// One finding for all directors, or one for each that is not accepted.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let of = |(director, interface): &(Ipv4Addr, String)| {
        let probe = Probe {
            input: Some(interface.clone()),
            output: None,
            source: Some(*director),
            destination: own_address(facts, interface)?,
            protocol: protocol::IPIP,
            port: None,
            state: State::New,
        };
        let verdict = facts.host.firewall.verdict(DELIVERED, &probe);
        (verdict != Verdict::Accepted).then(|| gate(*director).finding(&verdict))
    };
    let mut findings: Vec<Finding> = facts.towards.iter().filter_map(of).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(
            "the firewall accepts encapsulated packets (IP protocol 4) from the directors",
        ));
    }
    findings
}

fn own_address(facts: &Realserver, interface: &str) -> Option<Ipv4Addr> {
    Some(facts.host.interface(interface)?.addresses.first()?.0)
}

fn gate(director: Ipv4Addr) -> Gate {
    Gate {
        packets: format!("encapsulated packets (IP protocol 4) from {director}"),
        nft: format!("ip saddr {director} ip protocol 4"),
        iptables: format!("-s {director} -p 4"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn an_input_that_drops_protocol_4_is_an_error() {
        let mut facts = bed::realserver("");
        let fine = "the firewall accepts encapsulated packets (IP protocol 4) from the directors";
        assert_eq!(examine(&facts), [Finding::ok(fine)]);
        facts.host.firewall = bed::firewall("*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j ACCEPT\n");
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "iptables chain INPUT of table filter (its policy) drops encapsulated packets (IP protocol 4) from \
                 172.25.3.1",
                "iptables -t filter -I INPUT -s 172.25.3.1 -p 4 -j ACCEPT"
            )]
        );
        let accepting = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i eth0 -s 172.25.3.1/32 -d 172.25.3.2 -p ipencap -j ACCEPT\n";
        facts.host.firewall = bed::firewall(accepting);
        assert_eq!(examine(&facts), [Finding::ok(fine)]);
        facts.host.firewall =
            bed::firewall("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m state --state INVALID -j DROP\n");
        assert_eq!(examine(&facts)[0].remedy, None);
    }
}
