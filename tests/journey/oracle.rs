//! What leaves the director, read by a parser that is not the program's and compared field by field.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    Icmpv4Header, IpFragOffset, Ipv4Header, NetHeaders, PacketHeaders, PayloadSlice, TcpHeader,
    TransportHeader,
};

use crate::support::packets::{DIRECTOR, checksum};

/// The content of an answer, in the fields that are not the same for every answer of its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Echo,
    Reset {
        sequence: u32,
        acknowledgement: Option<u32>,
    },
    /// Type and code of ICMP, and the 16 bits that hold an MTU.
    Error(u8, u8, u16),
}

impl Said {
    /// The label of the metric that counts it.
    pub fn label(&self) -> &'static str {
        match self {
            Said::Echo => "echo_reply",
            Said::Reset { .. } => "tcp_reset",
            Said::Error(3, 0, _) => "net_unreachable",
            Said::Error(3, 1, _) => "host_unreachable",
            Said::Error(3, 3, _) => "port_unreachable",
            Said::Error(3, 4, _) => "too_big",
            Said::Error(11, 0, _) => "time_exceeded",
            Said::Error(..) => panic!("the director never sends {self:?}"),
        }
    }
}

/// The header of a packet, whose checksum is right, and what is behind it.
pub fn header_of(packet: &[u8]) -> (Ipv4Header, &[u8]) {
    let (header, rest) = Ipv4Header::from_slice(packet).expect("an IPv4 header");
    assert_eq!(checksum(&packet[..header.header_len()]), 0, "header checksum");
    (header, rest)
}

/// A header of the director's answer to the sender of `request`. RFC 1122 §3.2.1.7: a TTL of our own; RFC 6864 §4.1:
/// DF, and an identification that no receiver needs.
fn answering(request: &Ipv4Header, protocol: u8, length: usize) -> Ipv4Header {
    Ipv4Header {
        total_len: length as u16,
        dont_fragment: true,
        time_to_live: 64,
        protocol: protocol.into(),
        source: request.destination,
        destination: request.source,
        ..Ipv4Header::default()
    }
}

/// The content of the answer to `request`. All that a row does not expect for itself is checked here.
pub fn said(request: &[u8], answer: &[u8]) -> Said {
    let (asked, behind) = Ipv4Header::from_slice(request).expect("an IPv4 header");
    let asked_data = &behind[..usize::from(asked.total_len) - asked.header_len()];
    if asked.is_fragmenting_payload() && asked.protocol.0 == 1 && header_of(answer).0.dscp.value() != 48 {
        return said_of_a_piece(&asked, asked_data, answer);
    }
    let parsed = PacketHeaders::from_ip_slice(answer).expect("an IP packet");
    let protocol = if matches!(parsed.transport, Some(TransportHeader::Tcp(_))) { 6 } else { 1 };
    let mut expected = answering(&asked, protocol, answer.len());
    let said = match (parsed.transport.expect("TCP or ICMP"), &parsed.payload) {
        (TransportHeader::Tcp(segment), PayloadSlice::Tcp([])) => reset(&asked, asked_data, &segment),
        (TransportHeader::Icmpv4(message), PayloadSlice::Icmpv4(data)) => {
            let bytes = message.to_bytes();
            let (kind, code, rest) = (bytes[0], bytes[1], &bytes[4..bytes.len()]);
            // Fields without a meaning are zero in the parser's own message, so that their being zero is part of this.
            let summed = Icmpv4Header::with_checksum(message.icmp_type.clone(), data);
            assert_eq!(message, summed, "ICMP checksum");
            assert_eq!(bytes.len(), 8, "ICMP header");
            if kind == 0 {
                // RFC 1122 §3.2.2.6: identifier, sequence number and data as they came; RFC 1812 §4.3.2.5: and TOS.
                (expected.dscp, expected.ecn) = (asked.dscp, asked.ecn);
                assert_eq!((code, rest, *data), (0, &asked_data[4..8], &asked_data[8..]));
                Said::Echo
            } else {
                // RFC 1812 §4.3.2.5: precedence 6; §4.3.2.3: as much of the packet as fits into 576 bytes.
                expected.dscp = 48.try_into().expect("six bits");
                let quoted = usize::from(asked.total_len).min(576 - 28);
                assert_eq!(*data, &request[..quoted], "the quote");
                assert_eq!(rest[..2], [0, 0]);
                Said::Error(kind, code, u16::from_be_bytes([rest[2], rest[3]]))
            }
        }
        other => panic!("an answer of {other:?}"),
    };
    expected.header_checksum = expected.calc_header_checksum();
    assert_eq!(parsed.net, Some(NetHeaders::Ipv4(expected, Default::default())), "the header of {said:?}");
    said
}

/// RFC 9293 §3.10.7.1: nothing but RST, or RST and ACK; no window, no data, no options.
fn reset(asked: &Ipv4Header, asked_data: &[u8], segment: &TcpHeader) -> Said {
    let (opened, _) = TcpHeader::from_slice(asked_data).expect("a segment");
    let mut expected =
        TcpHeader::new(opened.destination_port, opened.source_port, segment.sequence_number, 0);
    (expected.rst, expected.ack) = (true, segment.ack);
    if segment.ack {
        expected.acknowledgment_number = segment.acknowledgment_number;
    }
    let sum = expected.calc_checksum_ipv4_raw(asked.destination, asked.source, &[]);
    expected.checksum = sum.expect("a short segment");
    assert_eq!(*segment, expected);
    let acknowledgement = segment.ack.then_some(segment.acknowledgment_number);
    Said::Reset { sequence: segment.sequence_number, acknowledgement }
}

/// A piece of an echo request comes back as a piece of the reply: flags, offset and, but for zero, identification as
/// they came, so that the pieces of the reply are reassembled like those of the request.
fn said_of_a_piece(asked: &Ipv4Header, asked_data: &[u8], answer: &[u8]) -> Said {
    let (header, data) = header_of(answer);
    let mut expected = answering(asked, 1, answer.len());
    (expected.dscp, expected.ecn) = (asked.dscp, asked.ecn);
    expected.dont_fragment = asked.dont_fragment;
    (expected.more_fragments, expected.fragment_offset) = (asked.more_fragments, asked.fragment_offset);
    expected.identification = match asked.identification {
        0 => header.identification,
        same => same,
    };
    expected.header_checksum = expected.calc_header_checksum();
    assert_eq!(header, expected, "the header of a piece");
    assert_ne!(header.identification, 0, "the kernel gives every packet of identification 0 one of its own");
    if asked.fragment_offset == IpFragOffset::ZERO {
        // The checksum is of the whole message: it makes up for the type, whatever the piece sums to.
        assert_eq!((asked_data[0], &data[..2]), (8, &[0, asked_data[1]][..]));
        assert_eq!((data.len(), checksum(data)), (asked_data.len(), checksum(asked_data)));
        assert_eq!(data[4..], asked_data[4..]);
    } else {
        assert_eq!(data, asked_data);
    }
    Said::Echo
}

/// A packet that has been taken out of its outer one.
pub struct Unwrapped {
    pub identification: u16,
    pub inner: Vec<u8>,
}

/// Takes the inner packet out of what leaves for the real server `to`.
pub fn unwrapped(outer: &[u8], to: IpAddr) -> Unwrapped {
    let (header, inner) = header_of(outer);
    let (carried, _) = header_of(inner);
    let IpAddr::V4(to) = to else { panic!("{to}") };
    let mut expected = Ipv4Header {
        // RFC 6040 §4.1, normal mode: ECN is copied like the rest; RFC 2003 §3.1: so is DF.
        dscp: carried.dscp,
        ecn: carried.ecn,
        dont_fragment: carried.dont_fragment,
        total_len: outer.len() as u16,
        identification: header.identification,
        time_to_live: 64,
        protocol: 4.into(),
        source: DIRECTOR.octets(),
        destination: Ipv4Addr::octets(&to),
        ..Ipv4Header::default()
    };
    expected.header_checksum = expected.calc_header_checksum();
    assert_eq!(header, expected, "the outer header");
    // RFC 6864 §4: of no meaning where nothing is cut, and never zero where something may be.
    assert_eq!(header.identification == 0, header.dont_fragment, "identification {}", header.identification);
    assert_eq!(usize::from(carried.total_len), inner.len(), "no link padding");
    Unwrapped { identification: header.identification, inner: inner.to_vec() }
}
