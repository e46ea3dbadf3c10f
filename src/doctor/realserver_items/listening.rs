//! Does a program listen where the clients' packets arrive?

use std::net::Ipv4Addr;

use crate::doctor::facts::{Realserver, Socket};
use crate::doctor::finding::Finding;
use crate::packet::Protocol;

/// With `services`, one finding for each; otherwise only sockets that look as if they were to serve a VIP.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    if !facts.plan.guard.services.is_empty() {
        return facts.services().map(|(vip, protocol, port)| expected(facts, vip, protocol, port)).collect();
    }
    let mut findings: Vec<Finding> = facts
        .vips()
        .flat_map(|vip| facts.sockets.iter().filter_map(move |socket| astray(facts, vip, socket)))
        .collect();
    if findings.is_empty() {
        findings.push(anything(facts));
    }
    findings
}

fn expected(facts: &Realserver, vip: Ipv4Addr, protocol: Protocol, port: u16) -> Finding {
    if is_served(facts, vip, protocol, port) {
        return Finding::ok(format!("a program listens on {vip}, {} port {port}", protocol.name()));
    }
    let is_it = |socket: &&Socket| socket.protocol == protocol && socket.port == port && is_reachable(socket);
    match facts.sockets.iter().find(is_it).and_then(|socket| socket.address) {
        Some(address) => elsewhere(address, vip, protocol, port),
        None if facts.host.all.forwarding == Some(1) => Finding::warning(
            format!(
                "no program of this host listens on {vip}, {} port {port}: clients are refused, unless DNAT routes them to a \
                 container",
                protocol.name()
            ),
            "nft list ruleset   # a rule with dnat for this port? Then see docs/mtu.md",
        ),
        None => Finding::error(
            format!("no program listens on {vip}, {} port {port}: clients are refused", protocol.name()),
            format!("ss -l{}n   # then start the application on {vip} or on all addresses", letter(protocol)),
        ),
    }
}

/// A socket for one address of the host only, on a port that no program serves for the VIP.
fn astray(facts: &Realserver, vip: Ipv4Addr, socket: &Socket) -> Option<Finding> {
    let address = socket.address.filter(|_| is_reachable(socket))?;
    let is_other_vip = facts.vips().any(|vip| vip == address);
    // A UDP socket for one address may be that of a client, as of DHCP.
    let is_service = socket.protocol == Protocol::Tcp && !is_other_vip;
    let is_astray = is_service && !is_served(facts, vip, socket.protocol, socket.port);
    let finding = || elsewhere(address, vip, socket.protocol, socket.port);
    // It may be a program that is not meant for the VIP.
    is_astray.then(|| Finding { level: crate::doctor::finding::Level::Warning, ..finding() })
}

fn elsewhere(address: Ipv4Addr, vip: Ipv4Addr, protocol: Protocol, port: u16) -> Finding {
    Finding::error(
        format!(
            "the program on {} port {port} listens on {address} only: clients of {vip} are refused",
            protocol.name()
        ),
        format!(
            "ss -l{}np sport = {port}   # then make it listen on {vip} or on all addresses",
            letter(protocol)
        ),
    )
}

fn anything(facts: &Realserver) -> Finding {
    let is_for_vip = |socket: &&Socket| facts.vips().any(|vip| socket.address.is_none_or(|own| own == vip));
    match facts.sockets.iter().find(is_for_vip) {
        Some(_) => Finding::ok("programs listen on the VIPs, or on all addresses"),
        None => Finding::error(
            "no program listens on the VIPs: clients are refused",
            "ss -ltun   # then start the application on the VIP or on all addresses",
        ),
    }
}

fn is_served(facts: &Realserver, vip: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
    facts.sockets.iter().any(|socket| socket.serves(vip, protocol, port))
}

/// Not for this host's own programs only.
fn is_reachable(socket: &Socket) -> bool {
    socket.address.is_some_and(|address| !address.is_loopback())
}

/// The option of ss(8).
fn letter(protocol: Protocol) -> char {
    match protocol {
        Protocol::Tcp => 't',
        Protocol::Udp => 'u',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, RIP, VIP};

    const KEYS: &str = "services = [\"tcp/80\"]";

    fn found(keys: &str, sockets: &[(Protocol, Option<Ipv4Addr>, u16)]) -> Vec<Finding> {
        let mut facts = bed::realserver(keys);
        let socket = |(protocol, address, port): &(Protocol, Option<Ipv4Addr>, u16)| Socket {
            protocol: *protocol,
            address: *address,
            port: *port,
        };
        facts.sockets = sockets.iter().map(socket).collect();
        examine(&facts)
    }

    #[test]
    fn a_service_is_served_on_the_vip_or_on_all_addresses() {
        let fine = [Finding::ok("a program listens on 172.25.3.100, tcp port 80")];
        assert_eq!(found(KEYS, &[(Protocol::Tcp, None, 80)]), fine);
        assert_eq!(found(KEYS, &[(Protocol::Tcp, Some(RIP), 80), (Protocol::Tcp, Some(VIP), 80)]), fine);
    }

    #[test]
    fn an_application_that_is_down_is_an_error() {
        let down = [Finding::error(
            "no program listens on 172.25.3.100, tcp port 80: clients are refused",
            "ss -ltn   # then start the application on 172.25.3.100 or on all addresses",
        )];
        assert_eq!(found(KEYS, &[]), down);
        assert_eq!(found(KEYS, &[(Protocol::Udp, None, 80), (Protocol::Tcp, None, 81)]), down);
        assert_eq!(found(KEYS, &[(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 80)]), down);
        assert_eq!(found(KEYS, &[(Protocol::Udp, Some(RIP), 80), (Protocol::Tcp, Some(RIP), 81)]), down);
        let nothing = [Finding::error(
            "no program listens on the VIPs: clients are refused",
            "ss -ltun   # then start the application on the VIP or on all addresses",
        )];
        assert_eq!(found("", &[(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), 80)]), nothing);
    }

    #[test]
    fn a_socket_for_one_of_several_vips_is_not_astray() {
        let mut facts = bed::realserver("");
        let other = Ipv4Addr::new(172, 25, 3, 101);
        facts.plan.guard.vips.push(other.into());
        facts.sockets = vec![Socket { protocol: Protocol::Tcp, address: Some(other), port: 80 }];
        assert_eq!(examine(&facts), [Finding::ok("programs listen on the VIPs, or on all addresses")]);
    }

    #[test]
    fn an_application_on_the_rip_only_is_named() {
        let only = Finding::error(
            "the program on tcp port 80 listens on 172.25.3.2 only: clients of 172.25.3.100 are refused",
            "ss -ltnp sport = 80   # then make it listen on 172.25.3.100 or on all addresses",
        );
        let socket = (Protocol::Tcp, Some(RIP), 80);
        assert_eq!(found(KEYS, &[socket]), std::slice::from_ref(&only));
        let warning = Finding { level: crate::doctor::finding::Level::Warning, ..only };
        assert_eq!(found("", &[socket, (Protocol::Tcp, None, 22)]), [warning]);
        let fine = [Finding::ok("programs listen on the VIPs, or on all addresses")];
        assert_eq!(found("", &[(Protocol::Udp, Some(RIP), 68), (Protocol::Tcp, None, 80)]), fine);
        assert_eq!(found("", &[socket, (Protocol::Tcp, Some(VIP), 80)]), fine);
    }
}
