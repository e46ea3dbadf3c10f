//! Finds real servers that cannot work on this host, before packets to them are lost. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::error::HostError;
use super::netlink::RouteTo;

/// How packets reach a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It is this host.
    Local,
    /// Encapsulated, through the network.
    Remote(OuterSource),
}

/// How encapsulated packets for a real server leave this host, by the kernel's present routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterSource {
    /// The source address of the outer header (DIP).
    pub address: IpAddr,
    /// The device on which the outer packets leave.
    pub interface: String,
    /// Bytes of a whole outer packet: the learned path MTU or the device's MTU.
    pub path_mtu: u32,
}

/// What the check of a real server's route needs to know of the director.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here<'a> {
    /// Those captured here.
    pub(super) vips: &'a [IpAddr],
    /// Those of the real server's virtual services: it has them as addresses itself, and its kernel drops packets from
    /// its own addresses.
    pub(super) served: &'a BTreeSet<IpAddr>,
    /// The name of the daemon's own device.
    pub(super) tun: &'a str,
    /// The configured source of outer packets.
    pub(super) outer_source: Option<Ipv4Addr>,
    /// The addresses of the route's device.
    pub(super) of_device: &'a [IpAddr],
}

/// Checks the route to a real server.
///
/// Refuses a RIP that is a VIP, and a route through the director's own capture: in both cases the packet would come back
/// here.
pub(super) fn check_route(route: &RouteTo, here: &Here) -> Result<Reach, HostError> {
    let Here { vips, tun, .. } = *here;
    let rip = route.destination;
    let device = &route.interface.name;
    let refused = |why: String| Err(HostError::Refused(why));
    if vips.contains(&rip) {
        return refused(format!(
            "real server {rip} is itself a VIP; use the real server's own address as rip, or 127.0.0.1 if it is this host"
        ));
    }
    if route.is_local {
        return Ok(Reach::Local);
    }
    if device == tun {
        return refused(format!(
            "the route to real server {rip} leads through {tun}, back into the director; add a route through another interface (`ip route get {rip}`)"
        ));
    }
    if let Some(gateway) = route.gateway.filter(|gateway| vips.contains(gateway)) {
        return refused(format!(
            "the route to real server {rip} goes through {gateway}, which is a VIP captured here; choose another gateway"
        ));
    }
    match source(route, here) {
        Some(address) if here.served.contains(&address) => refused(format!(
            "packets to real server {rip} would leave with the VIP {address} as their source; set outer_source or add another address to {device}"
        )),
        Some(address) => {
            Ok(Reach::Remote(OuterSource { address, interface: device.clone(), path_mtu: route.path_mtu }))
        }
        None => refused(format!(
            "the kernel has no source address for real server {rip}; set outer_source or add an address to {device}"
        )),
    }
}

/// The configured source; otherwise the kernel's choice, or instead of a VIP another address of the device.
fn source(route: &RouteTo, here: &Here) -> Option<IpAddr> {
    let is_other = |address: &&IpAddr| address.is_ipv4() && !here.vips.contains(address);
    let other = || here.of_device.iter().find(is_other).copied();
    let chosen = route.source.filter(|source| !here.vips.contains(source));
    here.outer_source.map(IpAddr::V4).or(chosen).or_else(other).or(route.source)
}

/// Checks a configured source address of outer packets, given the addresses of this host: answers to another address,
/// such as ICMP errors, would not come back here.
pub(super) fn check_outer_source(source: Ipv4Addr, own_addresses: &[IpAddr]) -> Result<(), HostError> {
    let source = IpAddr::V4(source);
    if !own_addresses.contains(&source) {
        return Err(HostError::Refused(format!(
            "outer_source {source} is not an address of this host (`ip address`): use one that is, or leave the key out"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::netlink::Interface;
    use super::*;

    fn route() -> RouteTo {
        let interface =
            Interface { name: "eth0".into(), index: 2, mtu: 1500, mac: None, is_up: true, uses_arp: true };
        RouteTo {
            destination: "172.25.3.2".parse().unwrap(),
            is_local: false,
            source: Some("172.25.3.1".parse().unwrap()),
            gateway: None,
            interface,
            path_mtu: 1400,
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// 172.25.3.100 and 172.25.3.101 are VIPs, of which the real server has the first.
    fn judge_with(
        route: &RouteTo,
        outer_source: Option<Ipv4Addr>,
        of_device: &[&str],
    ) -> Result<Reach, String> {
        let vips = [address("172.25.3.100"), address("172.25.3.101")];
        let of_device: Vec<IpAddr> = of_device.iter().map(|text| address(text)).collect();
        let served = BTreeSet::from([vips[0]]);
        let here = Here { vips: &vips, served: &served, tun: "lvsd0", outer_source, of_device: &of_device };
        check_route(route, &here).map_err(|error| error.to_string())
    }

    fn judge(route: &RouteTo) -> Result<Reach, String> {
        judge_with(route, None, &["172.25.3.100"])
    }

    fn from(source: &str) -> Result<Reach, String> {
        Ok(Reach::Remote(OuterSource { address: address(source), interface: "eth0".into(), path_mtu: 1400 }))
    }

    #[test]
    fn a_configured_source_is_an_address_of_the_host() {
        let (own, other) = (Ipv4Addr::new(172, 25, 3, 1), Ipv4Addr::new(172, 25, 3, 2));
        let check = |source| check_outer_source(source, &[own.into()]).map_err(|error| error.to_string());
        assert_eq!(check(own), Ok(()));
        assert!(check(other).unwrap_err().contains("outer_source 172.25.3.2 is not an address of this host"));
    }

    #[test]
    fn an_ordinary_route_gives_source_and_path_mtu() {
        assert_eq!(judge(&route()), from("172.25.3.1"));
    }

    #[test]
    fn a_real_server_on_this_host_needs_no_source() {
        assert_eq!(judge(&RouteTo { is_local: true, source: None, ..route() }), Ok(Reach::Local));
    }

    #[test]
    fn outer_packets_have_a_vip_as_their_source_only_if_there_is_nothing_else_and_the_real_server_lacks_it() {
        let of_vip = |vip: &str| RouteTo { source: Some(address(vip)), ..route() };
        let addresses = ["fe80::1", "172.25.3.100", "172.25.3.1", "172.25.3.4"];
        let configured = Some(Ipv4Addr::new(172, 25, 3, 9));
        for vip in ["172.25.3.100", "172.25.3.101"] {
            assert_eq!(judge_with(&of_vip(vip), None, &addresses), from("172.25.3.1"));
            assert_eq!(judge_with(&of_vip(vip), configured, &addresses), from("172.25.3.9"));
        }
        assert_eq!(judge(&of_vip("172.25.3.101")), from("172.25.3.101"));
        assert_eq!(judge_with(&route(), None, &addresses[3..]), from("172.25.3.1"), "the kernel's choice");
    }

    #[test]
    fn routes_that_lead_back_are_refused_with_the_reason() {
        let mut on_tun = route();
        on_tun.interface.name = "lvsd0".into();
        let cases = [
            (RouteTo { destination: "172.25.3.100".parse().unwrap(), ..route() }, "is itself a VIP"),
            (on_tun, "leads through lvsd0"),
            (RouteTo { gateway: "172.25.3.100".parse().ok(), ..route() }, "goes through 172.25.3.100"),
            (
                RouteTo { source: "172.25.3.100".parse().ok(), ..route() },
                "the VIP 172.25.3.100 as their source",
            ),
        ];
        for (route, words) in cases {
            let message = judge(&route).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
        let message = judge_with(&RouteTo { source: None, ..route() }, None, &[]).unwrap_err();
        assert!(message.contains("no source address"), "{message}");
    }
}
