//! The source ports of probes, by which a director and a real server recognise them.
//!
//! A probe is a packet of a check, from a director's own address to a VIP. Its source port, or the identifier of its echo
//! request, is in a range that no other program of the director's host gets by itself: it lies above that of
//! `net.ipv4.ip_local_port_range` (ip-sysctl.rst, 32768 to 60999 by default).

use std::ops::RangeInclusive;

use super::icmp::{self, Icmp};
use super::upper::Upper;
use super::{protocol, udp};

/// Source ports of TCP and UDP probes, and identifiers of echo requests.
pub const PORTS: RangeInclusive<u16> = 61_000..=62_999;

/// Whether a packet with this content can be a probe: TCP or UDP from one of [`PORTS`], or an echo request with such an
/// identifier. A later fragment shows neither.
pub fn is_probe(upper: &Upper) -> bool {
    if upper.is_later_fragment() {
        return false;
    }
    match upper.protocol {
        // The ports of TCP are in the same place.
        protocol::TCP | protocol::UDP => {
            let port = udp::field::SOURCE_PORT;
            port.is_inside(upper.payload) && PORTS.contains(&port.read(upper.payload))
        }
        protocol::ICMP => is_echo(upper),
        _ => false,
    }
}

/// Whether this is an echo request with an identifier of [`PORTS`].
pub fn is_echo(upper: &Upper) -> bool {
    if upper.protocol != protocol::ICMP || upper.is_later_fragment() {
        return false;
    }
    let message =
        if upper.is_fragment() { Icmp::parse_first(upper.payload) } else { Icmp::parse(upper.payload) };
    message.is_ok_and(|message| {
        (message.kind(), message.code()) == (icmp::ECHO_REQUEST, 0) && PORTS.contains(&message.identifier())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Ip, checksum, ipv4};

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [&[0; ipv4::HEADER][..], payload].concat();
        let header = ipv4::Header {
            tos: 0,
            total_length: u16::try_from(bytes.len()).unwrap(),
            identification: 7,
            dont_fragment: false,
            ttl: 64,
            protocol: number,
            source: [172, 25, 3, 1].into(),
            destination: [172, 25, 3, 100].into(),
        };
        header.write(&mut bytes);
        bytes
    }

    fn ports(source: u16, destination: u16) -> Vec<u8> {
        [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0, 8, 0, 0]].concat()
    }

    fn echo(kind: u8, code: u8, identifier: u16) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0][..], &identifier.to_be_bytes(), &[0, 1]].concat();
        checksum::fill(&mut message, icmp::field::CHECKSUM, 0);
        message
    }

    fn verdicts(bytes: &[u8]) -> (bool, bool) {
        let ip = Ip::parse(bytes).unwrap();
        let upper = ip.upper().unwrap();
        (is_probe(&upper), is_echo(&upper))
    }

    #[test]
    fn a_probe_comes_from_a_port_of_the_range() {
        for number in [protocol::TCP, protocol::UDP] {
            for (source, expected) in [(60_999, false), (61_000, true), (62_999, true), (63_000, false)] {
                assert_eq!(verdicts(&packet(number, &ports(source, 80))), (expected, false), "{source}");
            }
            assert_eq!(
                verdicts(&packet(number, &ports(80, 61_000))),
                (false, false),
                "only the source counts"
            );
        }
        assert_eq!(verdicts(&packet(132, &ports(61_000, 80))), (false, false), "another protocol");
        assert_eq!(verdicts(&packet(protocol::UDP, &[0xee])), (false, false), "too short for a port");
    }

    #[test]
    fn an_echo_request_is_a_probe_by_its_identifier() {
        let of = |kind, code, identifier| verdicts(&packet(protocol::ICMP, &echo(kind, code, identifier)));
        assert_eq!([60_999, 61_000, 62_999, 63_000].map(|id| of(8, 0, id).0), [false, true, true, false]);
        assert_eq!(of(8, 0, 61_000), (true, true));
        assert_eq!((of(0, 0, 61_000), of(8, 1, 61_000)), ((false, false), (false, false)));
        let mut broken = packet(protocol::ICMP, &echo(8, 0, 61_000));
        broken[22] ^= 1;
        assert_eq!(verdicts(&broken), (false, false), "a wrong checksum");
    }

    #[test]
    fn a_first_fragment_shows_the_port_and_a_later_one_does_not() {
        let as_fragment = |mut bytes: Vec<u8>, field: u16| {
            bytes[6..8].copy_from_slice(&field.to_be_bytes());
            ipv4::fill_checksum(&mut bytes[..ipv4::HEADER]);
            verdicts(&bytes)
        };
        const MORE: u16 = 0x2000;
        let datagram = packet(protocol::UDP, &ports(61_000, 80));
        assert_eq!(as_fragment(datagram.clone(), MORE), (true, false));
        assert_eq!(as_fragment(datagram, 1), (false, false));
        let mut ping = packet(protocol::ICMP, &echo(8, 0, 61_000));
        ping[22] ^= 1;
        assert_eq!(as_fragment(ping.clone(), MORE), (true, true), "the checksum covers the other fragments");
        assert_eq!(as_fragment(ping, 1), (false, false));
    }
}
