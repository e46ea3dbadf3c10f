//! What both roles look at: interfaces, sysctls, firewall, leftovers.

use std::net::{Ipv4Addr, SocketAddr};

use super::firewall;
use crate::doctor::facts::{Host, Interface, Settings};
use crate::host::change::sysctl;
use crate::host::{HostError, Netlink, TunnelHandler};

pub(super) async fn host(netlink: &Netlink, metrics: SocketAddr) -> Result<Host, HostError> {
    let addresses = netlink.all_addresses().await?;
    let of = |found: &crate::host::netlink::Interface| Interface {
        name: found.name.clone(),
        is_up: found.is_up,
        mtu: found.mtu,
        mac: found.mac,
        addresses: addresses
            .iter()
            .filter(|(index, ..)| *index == found.index)
            .map(|(_, address, length)| (*address, *length))
            .collect(),
        settings: settings(&found.name),
    };
    Ok(Host {
        interfaces: netlink.interfaces().await?.iter().map(of).collect(),
        all: settings("all"),
        firewall: firewall::rules(),
        tunnel_handler: TunnelHandler::find(netlink)
            .await?
            .map(|handler| (handler.words(), handler.remedy())),
        ipvs: std::fs::read_to_string("/proc/net/ip_vs").map(|text| ipvs(&text)).unwrap_or_default(),
        metrics: super::metrics::of(metrics),
        reported: None,
    })
}

fn settings(interface: &str) -> Settings {
    let read = |name: &str| sysctl::read(&format!("net/ipv4/conf/{interface}/{name}")).ok();
    Settings {
        rp_filter: read("rp_filter"),
        forwarding: read("forwarding"),
        arp_ignore: read("arp_ignore"),
        arp_announce: read("arp_announce"),
    }
}

/// The VIPs of ip_vs_info_seq_show(): "TCP  AC190364:0050 rr".
fn ipvs(table: &str) -> Vec<Ipv4Addr> {
    let vip = |line: &str| {
        let mut words = line.split_whitespace();
        let is_service = matches!(words.next()?, "TCP" | "UDP" | "SCTP");
        let (address, _) = words.next().filter(|_| is_service)?.split_once(':')?;
        u32::from_str_radix(address, 16).ok().map(Ipv4Addr::from)
    };
    let mut vips: Vec<Ipv4Addr> = table.lines().filter_map(vip).collect();
    vips.dedup();
    vips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vips_of_ipvs_are_read_from_its_table() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> \
                     RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  AC190364:0050 rr\n  -> AC190302:0050      \
                     Tunnel  1      0          0\nUDP  AC190365:0035 wrr persistent 300\nFWM  00000001 rr\n";
        assert_eq!(ipvs(table), [Ipv4Addr::new(172, 25, 3, 100), Ipv4Addr::new(172, 25, 3, 101)]);
        assert_eq!(ipvs(""), [] as [Ipv4Addr; 0]);
    }
}
