//! What leaves for a real server, layer by layer.

use std::net::Ipv4Addr;

use etherparse::Ipv4Header;

use super::*;

/// An outer header without options, as RFC 2003 §3.1 builds it.
#[derive(Debug, PartialEq)]
struct Outer {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    /// Six bits of DSCP, two of ECN (RFC 6040 §4.1).
    tos: u8,
    dont_fragment: bool,
    /// Zero where DF makes it needless (RFC 6864 §4.1).
    has_identification: bool,
    total_length: usize,
}

/// A TCP segment with DF: the usual case.
const SEGMENT: Outer = Outer {
    source: DIRECTOR,
    destination: SERVER2,
    protocol: 4,
    ttl: 64,
    tos: 0,
    dont_fragment: true,
    has_identification: false,
    total_length: 20 + 44,
};

fn outer_of(packet: &[u8]) -> (Outer, &[u8]) {
    let (header, inner) = Ipv4Header::from_slice(packet).expect("an outer header");
    assert!(header.options.is_empty() && !header.is_fragmenting_payload());
    let outer = Outer {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol.0,
        ttl: header.time_to_live,
        tos: header.dscp.value() << 2 | header.ecn.value(),
        dont_fragment: header.dont_fragment,
        has_identification: header.identification != 0,
        total_length: header.total_len.into(),
    };
    (outer, inner)
}

#[test]
fn a_forwarded_packet_leaves_inside_an_outer_header() {
    let segment = as_fragment(&tcp(SYN, b""), 0x4000);
    let datagram = as_fragment(&udp(53, b"question"), 0);
    let rows = [
        ("a segment with DF", segment.clone(), SEGMENT),
        ("a TTL of its own", segment.ttl(3), SEGMENT),
        ("an identification of its own", segment.identification(0xabcd), SEGMENT),
        ("its DSCP is copied", segment.tos(0xb8), Outer { tos: 0xb8, ..SEGMENT }),
        ("its ECN is copied", segment.tos(2), Outer { tos: 2, ..SEGMENT }),
        ("CE is copied too", segment.tos(3), Outer { tos: 3, ..SEGMENT }),
        (
            "a datagram that may be cut",
            datagram,
            Outer { dont_fragment: false, has_identification: true, total_length: 20 + 36, ..SEGMENT },
        ),
    ];
    for (name, packet, expected) in rows {
        let (_, out) = world().process(&packet);
        let (outer, inner) = outer_of(&out);
        assert_eq!(outer, expected, "{name}");
        assert_eq!(inner, packet, "{name}: the inner packet is not touched");
    }
}

/// Where the capture bypasses the kernel's forwarding, the director is the router (RFC 2003 §3.1).
#[test]
fn a_director_that_routes_decrements_the_inner_ttl_only() {
    let mut world = world_of(ClusterConfig { decrements_ttl: true, ..config() }, 10);
    let segment = as_fragment(&tcp(SYN, b""), 0x4000);
    let (_, out) = world.process(&segment);
    let (outer, inner) = outer_of(&out);
    assert_eq!((outer, inner), (SEGMENT, &segment.ttl(63)[..]));
}
