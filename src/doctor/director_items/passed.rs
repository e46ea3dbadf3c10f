//! Does the packet filter accept what the director hands back to its own host? Where a VIP is an address of the host, these
//! packets pass the chains for forwarding to the TUN device first, and then those of the host's own packets, with the TUN device
//! as the interface on which they arrive.

use std::net::{IpAddr, Ipv4Addr};

use super::firewall::{gate_from, matchers};
use crate::doctor::facts::{Director, Vip};
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::{DELIVERED, FORWARDED, Gate};
use crate::doctor::firewall::{Probe, State, Verdict};
use crate::packet::Protocol;

/// What is found here in addition to `findings`.
pub(super) fn add_to(mut findings: Vec<Finding>, facts: &Director) -> Vec<Finding> {
    for finding in examine(facts) {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// One finding for each port that is closed only because of the detour, and for each virtual service with a real server on
/// this host; nothing without a VIP that is an address of the host.
fn examine(facts: &Director) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for vip in facts.vips.iter().filter(|vip| vip.is_local) {
        let own = own_ports(facts, vip.address).filter(|(protocol, port)| {
            let direct = probe(&vip.interface, None, vip.address, *protocol, *port);
            facts.host.firewall.verdict(DELIVERED, &direct) == Verdict::Accepted
        });
        let ports: Vec<_> = own.chain(served_here(facts, vip.address)).collect();
        for finding in ports.into_iter().flat_map(|(protocol, port)| detour(facts, vip, protocol, port)) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// What is wrong with both parts of the way.
fn detour(facts: &Director, vip: &Vip, protocol: Protocol, port: u16) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let (address, name) = (vip.address, protocol.name());
    let delivered = Gate {
        packets: format!("packets for {address}, {name} port {port}, that {tun} hands back to this host"),
        nft: format!("iifname \"{tun}\" {name} dport {port}"),
        iptables: format!("-i {tun} -p {name} --dport {port}"),
    };
    let parts = [
        (
            gate_from(facts, &vip.interface),
            FORWARDED,
            probe(&vip.interface, Some(tun), address, protocol, port),
        ),
        (delivered, DELIVERED, probe(tun, None, address, protocol, port)),
    ];
    let judged =
        parts.into_iter().map(|(gate, hooks, probe)| (gate, facts.host.firewall.verdict(hooks, &probe)));
    let bad = judged.filter(|(_, verdict)| *verdict != Verdict::Accepted);
    bad.map(|(gate, verdict)| gate.finding(&verdict)).collect()
}

fn probe(input: &str, output: Option<&String>, vip: Ipv4Addr, protocol: Protocol, port: u16) -> Probe {
    Probe {
        input: Some(input.to_owned()),
        output: output.cloned(),
        source: None,
        destination: vip,
        protocol: protocol.number(),
        port: Some(port),
        state: State::New,
    }
}

/// The ports on which programs of the host listen for this address, but for those of virtual services.
fn own_ports(facts: &Director, vip: Ipv4Addr) -> impl Iterator<Item = (Protocol, u16)> {
    let is_taken = move |protocol, port| {
        let is_it = |matcher: &crate::director::cluster::Matcher| {
            (matcher.protocol, matcher.vip) == (protocol, IpAddr::V4(vip)) && matcher.ports.contains(port)
        };
        matchers(facts).any(is_it)
    };
    let open = facts.sockets.iter().filter(move |socket| socket.serves(vip, socket.protocol, socket.port));
    open.map(|socket| (socket.protocol, socket.port))
        .filter(move |(protocol, port)| !is_taken(*protocol, *port))
}

/// The virtual services of this address with a real server on this host.
fn served_here(facts: &Director, vip: Ipv4Addr) -> impl Iterator<Item = (Protocol, u16)> {
    let is_here = |rip: IpAddr| {
        let is_it = |rip: Ipv4Addr| facts.host.owner(rip).is_some();
        matches!(rip, IpAddr::V4(rip) if is_it(rip))
    };
    let services = facts.plan.cluster.virtual_services.iter();
    let here = services.filter(move |service| service.real_servers.iter().any(|server| is_here(server.rip)));
    let matchers = here.flat_map(|service| &service.matchers).filter(move |matcher| matcher.vip == vip);
    matchers.map(|matcher| (matcher.protocol, matcher.ports.first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, DIP, VIP};
    use crate::doctor::facts::Socket;

    const SSH: Socket = Socket { protocol: Protocol::Tcp, address: None, port: 22 };

    /// The VIP is an address of the host, where these programs listen.
    fn facts(rules: &str, sockets: &[Socket]) -> Director {
        let mut facts = bed::director("");
        facts.vips[0].is_local = true;
        facts.sockets = sockets.to_vec();
        facts.host.firewall = bed::firewall(&format!("*filter\n{rules}"));
        facts
    }

    fn words(facts: &Director) -> Vec<String> {
        examine(facts).into_iter().map(|finding| finding.found).collect()
    }

    #[test]
    fn an_input_chain_that_accepts_on_the_interface_only_is_an_error() {
        let rules = ":INPUT DROP [0:0]\n-A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT\n";
        let found = examine(&facts(rules, &[SSH]));
        assert_eq!(
            found,
            [Finding::error(
                "iptables chain INPUT of table filter (its policy) drops packets for 172.25.3.100, tcp port 22, that \
                 lvsd0 hands back to this host",
                "iptables -t filter -I INPUT -i lvsd0 -p tcp --dport 22 -j ACCEPT"
            )]
        );
        let cured = format!("{rules}-A INPUT -i lvsd0 -p tcp -m tcp --dport 22 -j ACCEPT\n");
        assert_eq!(examine(&facts(&cured, &[SSH])), []);
        let mut elsewhere = facts(rules, &[SSH]);
        elsewhere.vips[0].is_local = false;
        assert_eq!(examine(&elsewhere), [], "nothing is handed back");
    }

    #[test]
    fn a_forward_chain_that_accepts_the_services_only_is_an_error() {
        let rules =
            ":INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\n";
        let found = words(&facts(rules, &[SSH, Socket { port: 443, ..SSH }]));
        assert_eq!(found.len(), 1, "the same rule cures both: {found:?}");
        assert!(found[0].ends_with("drops packets from eth0 to lvsd0"), "{found:?}");
    }

    #[test]
    fn a_port_that_is_closed_anyway_or_belongs_to_others_is_not_judged() {
        let closed = ":INPUT DROP [0:0]\n-A INPUT -i eth0 -p tcp -m tcp --dport 80 -j ACCEPT\n";
        let port = |port| Socket { port, ..SSH };
        let at = |address| Socket { address: Some(address), ..SSH };
        assert_eq!(words(&facts(closed, &[SSH])), [""; 0], "closed on the interface, too");
        assert_eq!(words(&facts(closed, &[port(80)])), [""; 0], "the virtual service's");
        let datagrams = Socket { protocol: Protocol::Udp, ..port(80) };
        let rules = ":INPUT DROP [0:0]\n-A INPUT -i eth0 -j ACCEPT\n";
        assert_eq!(words(&facts(rules, &[datagrams])).len(), 1, "of another protocol");
        assert_eq!(words(&facts(rules, &[at(DIP)])), [""; 0], "of another address");
        assert_eq!(words(&facts(rules, &[at(VIP)])).len(), 1);
    }

    #[test]
    fn the_service_of_a_real_server_on_the_host_has_to_be_accepted() {
        let rules = ":INPUT DROP [0:0]\n";
        assert_eq!(words(&facts(rules, &[])), [""; 0], "no real server is here");
        let mut here = facts(rules, &[]);
        here.plan.cluster.virtual_services[0].real_servers[0].rip = DIP.into();
        let found = words(&here);
        assert!(found.len() == 1 && found[0].contains("172.25.3.100, tcp port 80, that lvsd0"), "{found:?}");
        here.plan.cluster.virtual_services[0].matchers[0].vip = DIP.into();
        assert_eq!(words(&here), [""; 0], "of another VIP");
    }
}
