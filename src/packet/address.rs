//! Which addresses can be the source of a packet from another network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source that cannot be the address of a single host beyond its own link.
pub fn is_martian(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => is_martian_v4(source),
        IpAddr::V6(source) => is_martian_v6(source),
    }
}

/// RFC 1812 §5.3.7: this network, loopback, multicast, class E and the limited broadcast.
fn is_martian_v4(source: Ipv4Addr) -> bool {
    let [first, ..] = source.octets();
    first == 0 || first == 127 || first >= 224
}

/// Multicast (RFC 4291 §2.7), link-local (§2.5.6), unspecified, loopback and all of ::/96, and v4-mapped (RFC 4213
/// §3.6).
fn is_martian_v6(source: Ipv6Addr) -> bool {
    let is_v4_compatible = source.segments()[..6] == [0; 6];
    source.is_multicast()
        || source.is_unicast_link_local()
        || is_v4_compatible
        || source.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_source_is_the_address_of_one_host() {
        let rows = [
            ([0, 255, 255, 255], true),
            ([1, 0, 0, 0], false),
            ([126, 255, 255, 255], false),
            ([127, 0, 0, 1], true),
            ([128, 0, 0, 0], false),
            ([169, 254, 0, 1], false),
            ([223, 255, 255, 255], false),
            ([224, 0, 0, 1], true),
            ([255, 255, 255, 255], true),
        ];
        for (source, expected) in rows {
            assert_eq!(is_martian(source.into()), expected, "{source:?}");
        }
    }

    #[test]
    fn an_ipv6_source_is_the_address_of_one_host_beyond_its_link() {
        let martians =
            ["::", "::1", "::192.0.2.1", "::ffff:192.0.2.1", "fe80::1", "febf::1", "ff02::1", "ff0e::1"];
        let hosts = ["2001:db8::7", "::1:0:0:0", "fec0::1", "fd00::1", "64:ff9b::192.0.2.1", "0:0:0:0:0:1::"];
        for (sources, expected) in [(&martians[..], true), (&hosts[..], false)] {
            for source in sources {
                assert_eq!(is_martian(source.parse().unwrap()), expected, "{source}");
            }
        }
    }
}
