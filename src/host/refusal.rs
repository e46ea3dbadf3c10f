//! Finds real servers that cannot work on this host, before packets to them are lost. Pure.

use std::net::{IpAddr, Ipv4Addr};

use super::error::HostError;
use super::netlink::RouteTo;

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

/// Checks the route to a real server. `vips` are those captured here, `tun` is the name of the daemon's own
/// device, `outer_source` is the configured one.
///
/// Refuses a RIP that is a VIP or an address of this host, and a route through the director's own capture; in
/// each case the packet would come back here.
pub(super) fn check_route(
    route: &RouteTo,
    vips: &[IpAddr],
    tun: &str,
    outer_source: Option<Ipv4Addr>,
) -> Result<OuterSource, HostError> {
    let rip = route.destination;
    let device = &route.interface.name;
    let refused = |why: String| Err(HostError::Refused(why));
    if vips.contains(&rip) {
        return refused(format!(
            "real server {rip} is itself a VIP; use the real server's own address as rip"
        ));
    }
    if route.is_local {
        return refused(format!(
            "real server {rip} is an address of this host; a director cannot be a real server: use another host's address"
        ));
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
    match outer_source.map(IpAddr::V4).or(route.source) {
        Some(address) if vips.contains(&address) => refused(format!(
            "packets to real server {rip} would leave with the VIP {address} as their source; set outer_source or add another address to {device}"
        )),
        Some(address) => Ok(OuterSource { address, interface: device.clone(), path_mtu: route.path_mtu }),
        None => refused(format!(
            "the kernel has no source address for real server {rip}; set outer_source or add an address to {device}"
        )),
    }
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
        let interface = Interface { name: "eth0".into(), index: 2, mtu: 1500, mac: None, is_up: true };
        RouteTo {
            destination: "172.25.3.2".parse().unwrap(),
            is_local: false,
            source: Some("172.25.3.1".parse().unwrap()),
            gateway: None,
            interface,
            path_mtu: 1400,
        }
    }

    fn judge(route: &RouteTo) -> Result<OuterSource, String> {
        judge_with(route, None)
    }

    fn judge_with(route: &RouteTo, outer_source: Option<Ipv4Addr>) -> Result<OuterSource, String> {
        let vips = ["172.25.3.100".parse().unwrap()];
        check_route(route, &vips, "lvsd0", outer_source).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configured_source_replaces_the_one_of_the_route() {
        let configured = Some(Ipv4Addr::new(172, 25, 3, 9));
        for source in [None, "172.25.3.100".parse().ok(), "172.25.3.1".parse().ok()] {
            let found = judge_with(&RouteTo { source, ..route() }, configured).unwrap();
            assert_eq!(found.address, IpAddr::from([172, 25, 3, 9]));
        }
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
        let expected =
            OuterSource { address: "172.25.3.1".parse().unwrap(), interface: "eth0".into(), path_mtu: 1400 };
        assert_eq!(judge(&route()), Ok(expected));
    }

    #[test]
    fn routes_that_lead_back_are_refused_with_the_reason() {
        let mut on_tun = route();
        on_tun.interface.name = "lvsd0".into();
        let cases = [
            (RouteTo { destination: "172.25.3.100".parse().unwrap(), ..route() }, "is itself a VIP"),
            (RouteTo { is_local: true, ..route() }, "is an address of this host"),
            (on_tun, "leads through lvsd0"),
            (RouteTo { gateway: "172.25.3.100".parse().ok(), ..route() }, "goes through 172.25.3.100"),
            (
                RouteTo { source: "172.25.3.100".parse().ok(), ..route() },
                "the VIP 172.25.3.100 as their source",
            ),
            (RouteTo { source: None, ..route() }, "no source address"),
        ];
        for (route, words) in cases {
            let message = judge(&route).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
