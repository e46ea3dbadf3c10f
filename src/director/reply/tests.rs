//! What an independent parser reads in each reply.

use super::*;
use crate::packet::tcp::Flags;

fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        tos: 0x10,
        total_length: (20 + payload.len()).try_into().unwrap(),
        identification: 1,
        dont_fragment: true,
        ttl: 63,
        protocol,
        source: [203, 0, 113, 7].into(),
        destination: [172, 25, 3, 100].into(),
    };
    let mut bytes = vec![0u8; 20];
    header.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; 20 + data];
    bytes[0..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    bytes[4..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    bytes[12] = 0x50;
    bytes[13] = flags;
    bytes
}

fn reply(packet: &[u8], kind: impl Into<ReplyKind>) -> Vec<u8> {
    let mut frame = Frame::from_packet(packet);
    write(&mut frame, kind.into()).unwrap();
    frame.packet().to_vec()
}

/// What an independent parser reads: its header must be the one that every answer has.
fn read(bytes: &[u8], protocol: u8, tos: u8) -> etherparse::PacketHeaders<'_> {
    let mut expected = etherparse::Ipv4Header {
        dscp: (tos >> 2).try_into().unwrap(),
        ecn: (tos & 3).try_into().unwrap(),
        total_len: bytes.len().try_into().unwrap(),
        identification: 0,
        dont_fragment: true,
        time_to_live: 64,
        protocol: protocol.into(),
        source: [172, 25, 3, 100],
        destination: [203, 0, 113, 7],
        ..Default::default()
    };
    expected.header_checksum = expected.calc_header_checksum();
    let headers = etherparse::PacketHeaders::from_ip_slice(bytes).unwrap();
    assert_eq!(headers.net, Some(etherparse::NetHeaders::Ipv4(expected, Default::default())));
    headers
}

#[test]
fn a_reset_is_acceptable_to_the_sender() {
    // RFC 9293 §3.10.7.1: with ACK the sequence number is what is acknowledged; without, everything is acknowledged.
    let cases = [
        (Flags::ACK, 100, 700, 5, 700, None),
        (Flags::ACK | Flags::SYN, 100, 700, 0, 700, None),
        (Flags::ACK | Flags::FIN, 100, 0, 0, 0, None),
        (Flags::SYN, 100, 700, 0, 0, Some(101)),
        (Flags::SYN, 100, 0, 9, 0, Some(110)),
        (Flags::SYN | Flags::FIN, 100, 0, 0, 0, Some(102)),
        (Flags::FIN, 100, 0, 3, 0, Some(104)),
        (0, 100, 0, 3, 0, Some(103)),
        (Flags::SYN, u32::MAX, 0, 4, 0, Some(4)),
    ];
    for (flags, sequence, acknowledgement, data, expected_sequence, expected_ack) in cases {
        let bytes = reply(&packet(6, &segment(flags, sequence, acknowledgement, data)), ReplyKind::TcpReset);
        let headers = read(&bytes, 6, 0);
        let mut expected = etherparse::TcpHeader::new(80, 40000, expected_sequence, 0);
        expected.rst = true;
        expected.ack = expected_ack.is_some();
        expected.acknowledgment_number = expected_ack.unwrap_or_default();
        let addresses = ([172, 25, 3, 100], [203, 0, 113, 7]);
        expected.checksum = expected.calc_checksum_ipv4_raw(addresses.0, addresses.1, &[]).unwrap();
        assert_eq!(headers.transport, Some(etherparse::TransportHeader::Tcp(expected)), "{flags:#x}");
        assert!(headers.payload.slice().is_empty());
    }
}

#[test]
fn an_error_quotes_what_fits_into_576_bytes() {
    for (data, quoted) in [(12, 32), (527, 547), (528, 548), (529, 548), (1400, 548)] {
        let about = packet(17, &vec![7; data]);
        let padded = [&about[..], &[0xee; 6]].concat();
        let bytes = reply(&padded, IcmpError::TooBig { mtu: 1480 });
        assert_eq!(bytes.len(), 28 + quoted);
        assert_eq!(read(&bytes, 1, 0xc0).payload.slice(), &about[..quoted], "{data}");
    }
}

#[test]
fn every_error_is_the_message_that_its_kind_is_called_after() {
    use etherparse::icmpv4::DestUnreachableHeader::{FragmentationNeeded, Host, Network, Port};
    use etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit;
    use etherparse::{Icmpv4Header, Icmpv4Type, TransportHeader};

    let about = packet(17, &[7; 12]);
    let unreachable = Icmpv4Type::DestinationUnreachable;
    let next_hop_mtu = 1480;
    let rows = [
        (IcmpError::NetUnreachable, "net_unreachable", unreachable(Network)),
        (IcmpError::HostUnreachable, "host_unreachable", unreachable(Host)),
        (IcmpError::PortUnreachable, "port_unreachable", unreachable(Port)),
        (
            IcmpError::TooBig { mtu: next_hop_mtu },
            "too_big",
            unreachable(FragmentationNeeded { next_hop_mtu }),
        ),
        (IcmpError::TimeExceeded, "time_exceeded", Icmpv4Type::TimeExceeded(TtlExceededInTransit)),
    ];
    for (error, label, expected) in rows {
        assert_eq!(ReplyKind::from(error).label(), label);
        let (bytes, to) = error_about(&Ip::parse(&about).unwrap(), error).unwrap();
        assert_eq!(to, IpAddr::from([203, 0, 113, 7]));
        assert_eq!(reply(&about, error), bytes, "{label}: the same from the path as from here");
        let headers = read(&bytes, 1, 0xc0);
        let expected = Icmpv4Header::with_checksum(expected, &about);
        assert_eq!(headers.transport, Some(TransportHeader::Icmpv4(expected)), "{label}");
        assert_eq!(headers.payload.slice(), about, "{label}");
    }
}

#[test]
fn every_kind_has_its_label_and_its_place_among_the_counters() {
    let labels: Vec<&str> = ReplyKind::all().map(ReplyKind::label).collect();
    let expected = [
        "echo_reply",
        "tcp_reset",
        "port_unreachable",
        "too_big",
        "time_exceeded",
        "host_unreachable",
        "net_unreachable",
    ];
    assert_eq!(labels, expected);
    assert_eq!(labels.len(), ReplyKind::COUNT);
    assert!(ReplyKind::all().map(ReplyKind::index).eq(0..ReplyKind::COUNT));
    assert!(IcmpError::ALL.into_iter().map(IcmpError::index).eq(0..IcmpError::ALL.len()));
    assert_eq!(IcmpError::TooBig { mtu: 1480 }.index(), IcmpError::TooBig { mtu: 0 }.index());
}

#[test]
fn an_ipv6_packet_is_not_answered() {
    let segment = segment(Flags::ACK, 1, 2, 0);
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv6([0x20; 16], [0xfd; 16], 64)
        .tcp(40000, 80, 1, 1)
        .write(&mut bytes, &segment)
        .unwrap();
    for kind in ReplyKind::all() {
        let mut frame = Frame::from_packet(&bytes);
        assert_eq!(write(&mut frame, kind), Err(Malformed::Version), "{kind:?}");
        assert_eq!(frame.packet(), bytes, "{kind:?}");
    }
    assert_eq!(error_about(&Ip::parse(&bytes).unwrap(), IcmpError::HostUnreachable), None);
}

#[test]
fn an_echo_comes_back_as_it_came() {
    use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, TransportHeader};

    let echo = IcmpEchoHeader { id: 0x1234, seq: 0xfffe };
    let request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), b"payload");
    let bytes = reply(&packet(1, &[&request.to_bytes()[..], b"payload"].concat()), ReplyKind::EchoReply);
    let headers = read(&bytes, 1, 0x10);
    let expected = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(echo), b"payload");
    assert_eq!(headers.transport, Some(TransportHeader::Icmpv4(expected)));
    assert_eq!(headers.payload.slice(), b"payload");
}

#[test]
fn a_truncated_segment_gets_no_reset() {
    let mut frame = Frame::from_packet(&packet(6, &segment(Flags::ACK, 1, 2, 0)[..19]));
    assert_eq!(write(&mut frame, ReplyKind::TcpReset), Err(Malformed::TruncatedTransport));
}
