//! Does the packet filter let the encapsulated packets out?

use crate::doctor::facts::{Director, Server, Way};
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::{Gate, SENT};
use crate::doctor::firewall::{Probe, State, Verdict};
use crate::packet::protocol;

/// One finding for all real servers, or one for each that cannot be reached.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .servers
        .iter()
        .filter_map(|server| {
            let way = server.way.as_ref().ok().filter(|way| !way.is_local)?;
            let verdict = facts.host.firewall.verdict(SENT, &probe(server, way));
            let gate = gate(&format!("to {}", server.rip), server);
            (verdict != Verdict::Accepted).then(|| gate.finding(&verdict))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(
            "the firewall accepts encapsulated packets (IP protocol 4) to the real servers",
        ));
    }
    findings
}

fn probe(server: &Server, way: &Way) -> Probe {
    Probe {
        input: None,
        output: Some(way.interface.clone()),
        source: way.source,
        destination: server.rip,
        protocol: protocol::IPIP,
        port: None,
        state: State::New,
    }
}

fn gate(whose: &str, server: &Server) -> Gate {
    Gate {
        packets: format!("encapsulated packets (IP protocol 4) {whose}"),
        nft: format!("ip daddr {} ip protocol 4", server.rip),
        iptables: format!("-d {} -p 4", server.rip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::finding::Level;

    #[test]
    fn an_output_that_drops_protocol_4_is_an_error() {
        let mut facts = bed::director("");
        assert_eq!(
            examine(&facts),
            [Finding::ok("the firewall accepts encapsulated packets (IP protocol 4) to the real servers")]
        );
        facts.host.firewall =
            bed::firewall("*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -o eth0 -p ipencap -j DROP\n");
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "iptables chain OUTPUT of table filter (-A OUTPUT -o eth0 -p ipencap -j DROP) drops encapsulated packets \
                 (IP protocol 4) to 172.25.3.2",
                "iptables -t filter -I OUTPUT -d 172.25.3.2 -p 4 -j ACCEPT"
            )]
        );
        facts.host.firewall =
            bed::firewall("*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -s 172.25.3.1/32 -j ACCEPT\n");
        assert_eq!(examine(&facts)[0].remedy, None);
        facts.host.firewall =
            bed::firewall("*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m state --state INVALID -j DROP\n");
        assert_eq!(examine(&facts)[0].remedy, None);
        facts.servers[0].way.as_mut().unwrap().is_local = true;
        assert_eq!(examine(&facts)[0].level, Level::Ok, "no packet leaves for a real server on this host");
    }
}
