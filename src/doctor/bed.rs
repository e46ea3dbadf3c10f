//! Healthy hosts for the tests: each test breaks one thing.

use std::net::Ipv4Addr;

use super::facts::{
    Arrival, Director, Echo, Host, Interface, Realserver, Running, Server, Settings, Socket, Vip, Way,
    Weights,
};
use super::firewall::{Firewall, iptables};
use super::samples::Samples;
use crate::config::{Source, plan};
use crate::packet::Protocol;

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
pub(super) const DIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
pub(super) const RIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 2);

pub(super) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Up, with an Ethernet address and these addresses.
pub(super) fn interface(name: &str, addresses: &[(Ipv4Addr, u8)]) -> Interface {
    Interface {
        name: name.into(),
        is_up: true,
        mtu: 1500,
        mac: Some([2, 0, 0, 0, 0, 1]),
        addresses: addresses.to_vec(),
        settings: settings(0, 1),
    }
}

fn settings(rp_filter: i64, forwarding: i64) -> Settings {
    Settings {
        rp_filter: Some(rp_filter),
        forwarding: Some(forwarding),
        arp_ignore: Some(0),
        arp_announce: Some(0),
    }
}

/// The firewall of these lines of `iptables-save`.
pub(super) fn firewall(lines: &str) -> Firewall {
    Firewall::Rules(iptables::parse(lines, "iptables"))
}

fn host(own: Ipv4Addr, tun: &str) -> Host {
    let interfaces = vec![interface("eth0", &[(own, 24)]), interface(tun, &[])];
    Host { interfaces, all: settings(0, 0), metrics: Some(Samples::default()), ..Host::default() }
}

/// A running director with one VIP, one virtual service `web` and one real server `server2`.
pub(super) fn director(keys: &str) -> Director {
    let text = format!(
        "interface = \"eth0\"\n{keys}\n[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\nvip = \"{VIP}\"\nport = \
         80\n[[virtual_service.real_server]]\nname = \"server2\"\nrip = \"{RIP}\"\n"
    );
    let plan = plan::director(&Source { name: "director.toml", text: &text }, None).unwrap();
    let way = Way {
        interface: "eth0".into(),
        is_local: false,
        gateway: None,
        source: Some(DIP),
        path_mtu: 1500,
        is_answered: Some(true),
        echo: Echo::Answered(1500),
    };
    Director {
        host: host(DIP, "lvsd0"),
        plan,
        file: "director.toml".into(),
        running: Ok(Running { version: "0.1.0".into(), generation: 3 }),
        vips: vec![Vip {
            address: VIP,
            interface: "eth0".into(),
            arrival: Some(Arrival::Device("lvsd0".into())),
            is_local: false,
            is_on_link: false,
            is_proxied: true,
            answers: Some(Vec::new()),
        }],
        servers: vec![Server {
            name: "server2".into(),
            rip: RIP,
            way: Ok(way),
            path_mtu: Some(1500),
            mac: Some(SERVER_MAC),
            via: None,
        }],
        weights: vec![Weights { service: "web".into(), servers: vec![("server2".into(), 1)] }],
        sockets: Vec::new(),
    }
}

/// A running real server of the same VIP, with a web server on all addresses.
pub(super) fn realserver(keys: &str) -> Realserver {
    let text = format!("vips = [\"{VIP}\"]\ndirectors = [\"{DIP}\"]\n{keys}\n");
    let plan = plan::realserver(&Source { name: "realserver.toml", text: &text }, &[], &[], false).unwrap();
    let mut host = host(RIP, "lvsr0");
    host.interfaces[1].addresses = vec![(VIP, 32)];
    (host.all.arp_ignore, host.all.arp_announce) = (Some(1), Some(2));
    host.metrics = Some(Samples::parse("lvs_tund_realserver_mss_bytes 1440\n"));
    Realserver {
        host,
        plan,
        file: "realserver.toml".into(),
        command: "lvs-tund realserver --config realserver.toml".into(),
        sockets: vec![Socket { protocol: Protocol::Tcp, address: None, port: 80 }],
        towards: vec![(DIP, "eth0".into())],
        seen: Some(vec![DIP]),
        mss_rules: vec![VIP],
    }
}
