//! IPv6 packets: none is forwarded or answered, but the reason to drop one is as exact as for IPv4. And the flows of
//! IPv4 packets without ports.

use std::net::Ipv6Addr;

use etherparse::{Icmpv4Header, Icmpv4Type, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder};
use proptest::prelude::*;

use super::*;

const CLIENT: &str = "2001:db8:7::7";
const VIP: &str = "2001:db8::100";

fn refuse(packet: &[u8]) -> DropReason {
    classify(packet).expect_err("an IPv6 packet is never accepted")
}

fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

fn datagram(source: &str, destination: &str, hop_limit: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv6(octets(source), octets(destination), hop_limit).udp(40000, 53);
    builder.write(&mut bytes, b"question").unwrap();
    bytes
}

#[test]
fn only_addresses_of_one_host_beyond_its_link_are_sources() {
    let martians =
        ["::", "::1", "::192.0.2.1", "::ffff:192.0.2.1", "fe80::1", "febf::1", "ff02::1", "ff0e::1", VIP];
    for source in martians {
        assert_eq!(refuse(&datagram(source, VIP, 64)), DropReason::MartianSource, "{source}");
    }
    for source in [CLIENT, "::1:0:0:0", "fec0::1", "fd00::1", "64:ff9b::192.0.2.1", "0:0:0:0:0:1::"] {
        assert_eq!(refuse(&datagram(source, VIP, 64)), DropReason::NoService, "{source}");
    }
}

#[test]
fn what_stays_on_the_link_is_noise_whatever_its_source_and_hop_limit() {
    for source in ["::", "fe80::1", CLIENT] {
        for destination in ["ff02::fb", "ff01::1", "ff12::1"] {
            assert_eq!(refuse(&datagram(source, destination, 1)), DropReason::LinkNoise, "{destination}");
        }
    }
    for destination in ["ff00::fb", "ff03::fb", "ff04::fb", "ff05::fb"] {
        assert_eq!(refuse(&datagram(CLIENT, destination, 64)), DropReason::NoService, "{destination}");
    }
    assert_eq!(refuse(&datagram("fe80::1", "ff05::fb", 64)), DropReason::MartianSource);
    let mut report = datagram("fe80::1", "ff05::16", 1);
    report[6] = protocol::ICMPV6;
    assert_eq!(refuse(&report), DropReason::LinkNoise);
}

#[test]
fn hops_end_at_one() {
    for (hop_limit, expected) in
        [(0, DropReason::TtlExpired), (1, DropReason::TtlExpired), (2, DropReason::NoService)]
    {
        assert_eq!(refuse(&datagram(CLIENT, VIP, hop_limit)), expected, "{hop_limit}");
    }
}

/// A fragment built without the code under test.
fn fragment(protocol: u8, offset: u16, has_more: bool, payload: &[u8]) -> Vec<u8> {
    let units = etherparse::IpFragOffset::try_new(offset / 8).unwrap();
    let extension = Ipv6FragmentHeader::new(protocol.into(), units, has_more, 9);
    let header = Ipv6Header {
        payload_length: (payload.len() + 8).try_into().unwrap(),
        next_header: etherparse::ip_number::IPV6_FRAG,
        hop_limit: 64,
        source: octets(CLIENT),
        destination: octets(VIP),
        ..Ipv6Header::default()
    };
    [&header.to_bytes()[..], &extension.to_bytes()[..], payload].concat()
}

/// Behind an authentication header of 12 bytes (RFC 4302 §2): the only one whose length is no multiple of eight.
fn behind_authentication(protocol: u8, payload: &[u8]) -> Vec<u8> {
    [&[protocol, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], payload].concat()
}

#[test]
fn fragments_are_bounded_and_the_first_holds_its_headers() {
    let segment = &datagram(CLIENT, VIP, 64)[40..];
    let rows = [
        (fragment(17, 0, false, segment), DropReason::NoService),
        (fragment(17, 0, true, segment), DropReason::NoService),
        (fragment(17, 0, true, &segment[..8]), DropReason::NoService),
        (fragment(17, 0, true, &[]), DropReason::TinyFragment),
        (fragment(6, 0, true, &[0x9c; 16]), DropReason::TinyFragment),
        (fragment(6, 0, true, &[0; 24]), DropReason::BadTcp),
        (fragment(58, 0, true, &[]), DropReason::TinyFragment),
        (fragment(51, 0, true, &behind_authentication(58, &[128, 0, 0, 0])), DropReason::NoService),
        (fragment(132, 0, true, &[]), DropReason::NoService),
        (fragment(17, 0, true, &[0; 9]), DropReason::BadFragment),
        (fragment(17, 8, false, &[0; 9]), DropReason::FragmentUnknown),
        (fragment(17, 0xfff8, false, &[0; 8]), DropReason::FragmentOverflow),
    ];
    for (bytes, expected) in rows {
        assert_eq!(refuse(&bytes), expected, "{bytes:02x?}");
    }
}

#[test]
fn a_flow_has_port_zero_where_the_packet_has_none() {
    let echo = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
    let echo = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]).to_bytes();
    let ports = |protocol: u8, offset: u16, payload: &[u8]| {
        let addresses = ([203, 0, 113, 7], [172, 25, 3, 100]);
        let mut header = Ipv4Header::new(
            u16::try_from(payload.len()).unwrap(),
            64,
            protocol.into(),
            addresses.0,
            addresses.1,
        )
        .unwrap();
        header.fragment_offset = (offset / 8).try_into().unwrap();
        header.header_checksum = header.calc_header_checksum();
        let flow = classify(&[&header.to_bytes()[..], payload].concat()).unwrap().flow;
        (flow.client_port, flow.vip_port)
    };
    assert_eq!(ports(protocol::UDP, 16, &[7; 8]), (0, 0), "a later fragment");
    assert_eq!(ports(protocol::GRE, 0, &[7; 8]), (0, 0), "a tunnel");
    assert_eq!(ports(50, 0, &[7; 8]), (0, 0), "ESP");
    assert_eq!(ports(protocol::ICMP, 0, &echo), (0x1234, 0), "an echo has its identifier");
}

proptest! {
    #[test]
    fn every_packet_has_a_reason(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), next in 0u8..64) {
        if let [first, ..] = &mut bytes[..] {
            *first = 0x60;
        }
        if bytes.len() > 40 {
            let length = u16::try_from(bytes.len() - 40).unwrap();
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes[6] = next;
        }
        refuse(&bytes);
    }
}
