//! The addresses of this host, and the broadcast addresses of its networks.

use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

/// The addresses of all interfaces of this host, loopback included.
pub fn own_addresses() -> Vec<IpAddr> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    addresses.filter_map(|interface| ip_of(interface.address.as_ref())).collect()
}

/// The IPv4 broadcast addresses of the connected networks: no host can have one of them.
pub fn broadcast_addresses() -> Vec<IpAddr> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    addresses.flat_map(|interface| broadcasts_of(&interface)).map(IpAddr::V4).collect()
}

fn ip_of(address: Option<&SockaddrStorage>) -> Option<IpAddr> {
    let v4 = address?.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address?.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn broadcasts_of(interface: &InterfaceAddress) -> Vec<Ipv4Addr> {
    let v4 = |address: &Option<SockaddrStorage>| match ip_of(address.as_ref()) {
        Some(IpAddr::V4(v4)) => Some(v4),
        _ => None,
    };
    match (v4(&interface.address), v4(&interface.netmask)) {
        (Some(address), Some(mask)) => broadcasts(address, mask, v4(&interface.broadcast)),
        _ => Vec::new(),
    }
}

/// fib_add_ifaddr(): the configured one, and the last address of the network.
fn broadcasts(address: Ipv4Addr, mask: Ipv4Addr, configured: Option<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let last = last_of(address, mask);
    // getifaddrs(3) has IFA_ADDRESS in the same place if there is no broadcast address, which `ip address add` does not
    // set: the address itself, or the peer of a point-to-point link.
    let configured =
        configured.filter(|found| last.is_some() && !found.is_unspecified() && *found != address);
    configured.into_iter().chain(last).collect()
}

/// RFC 3021: a network of two addresses has no broadcast address.
fn last_of(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Ipv4Addr> {
    let host_bits = !u32::from(mask);
    (host_bits.count_ones() >= 2).then(|| Ipv4Addr::from(u32::from(address) | host_bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_broadcast_address_is_not_its_own() {
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        let [own, last, other] = [2, 255, 127].map(|byte| Ipv4Addr::new(172, 25, 3, byte));
        let of = |configured| broadcasts(own, mask, configured);
        assert_eq!(of(Some(own)), [last]);
        assert_eq!(of(None), [last]);
        assert_eq!(of(Some(Ipv4Addr::UNSPECIFIED)), [last]);
        assert_eq!(of(Some(other)), [other, last]);
        let alone = Ipv4Addr::BROADCAST;
        assert_eq!(broadcasts(own, alone, Some(other)), [Ipv4Addr::UNSPECIFIED; 0], "the peer of a link");
    }

    #[test]
    fn the_last_address_of_a_network_is_its_broadcast_address() {
        let last =
            |address: [u8; 4], mask: [u8; 4]| last_of(address.into(), mask.into()).map(|v4| v4.octets());
        assert_eq!(last([172, 25, 3, 1], [255, 255, 255, 0]), Some([172, 25, 3, 255]));
        assert_eq!(last([10, 1, 2, 3], [255, 255, 252, 0]), Some([10, 1, 3, 255]));
        assert_eq!(last([10, 0, 0, 1], [255, 255, 255, 252]), Some([10, 0, 0, 3]));
        assert_eq!(last([10, 0, 0, 1], [255, 255, 255, 254]), None);
        assert_eq!(last([10, 0, 0, 1], [255, 255, 255, 255]), None);
        assert!(
            broadcast_addresses().contains(&IpAddr::from([127, 255, 255, 255])),
            "of the loopback interface"
        );
        assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
