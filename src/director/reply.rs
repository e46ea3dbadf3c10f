//! The director's own replies to clients: echo reply, TCP reset, ICMP errors. The source is always the VIP,
//! because the client knows no other address.
//!
//! Packets that must not be answered are filtered earlier: [`mod@super::classify`] drops every source that is
//! not a single host, and an ICMP error is never answered (RFC 1122 §3.2.2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pnet_packet::tcp::{MutableTcpPacket, TcpFlags};

use crate::packet::icmp::{self, ERROR_DATAGRAM_MAX};
use crate::packet::ipv4::{self, Header, Ipv4};
use crate::packet::tcp::{Flags, Tcp};
use crate::packet::{Frame, Malformed, be16, checksum, protocol};
use crate::time::Moment;

pub use super::verdict::Answer;

/// TTL of the director's own packets (RFC 1122 §3.2.1.7 asks for a configurable value; IANA recommends 64).
const TTL: u8 = 64;

/// Replaces the packet in `frame` by the reply to it; returns the destination.
///
/// # Errors
/// `Malformed` if the packet does not allow this reply.
pub fn write(frame: &mut Frame, answer: Answer) -> Result<Ipv4Addr, Malformed> {
    let (reply, to) = {
        let packet = Ipv4::parse_unsummed(frame.packet())?;
        let reply = match answer {
            Answer::Echo if packet.is_fragment() => turned_round(&packet),
            Answer::Echo => echo_reply(&packet),
            Answer::TcpReset => tcp_reset(&packet)?,
            error => icmp_error(&packet, error),
        };
        (reply, packet.source())
    };
    frame.replace(&reply);
    Ok(to)
}

/// An ICMP error about a packet of which only the beginning is known, and its destination. `None` if `answer`
/// is not an ICMP error.
pub fn error_about(quoted: &Ipv4, answer: Answer) -> Option<(Vec<u8>, Ipv4Addr)> {
    type_and_code(answer).map(|_| (icmp_error(quoted, answer), quoted.source()))
}

fn type_and_code(answer: Answer) -> Option<(u8, u8)> {
    let unreachable = |code| Some((icmp::DESTINATION_UNREACHABLE, code));
    match answer {
        Answer::Echo | Answer::TcpReset => None,
        Answer::PortUnreachable => unreachable(icmp::PORT_UNREACHABLE),
        Answer::HostUnreachable => unreachable(icmp::HOST_UNREACHABLE),
        Answer::NetUnreachable => unreachable(icmp::NET_UNREACHABLE),
        Answer::TooBig { .. } => unreachable(icmp::FRAGMENTATION_NEEDED),
        Answer::TimeExceeded => Some((icmp::TIME_EXCEEDED, 0)),
    }
}

/// Turns a piece of an echo request into a piece of the reply: together the pieces form the reply, in
/// whatever order they arrive. A wrong checksum stays equally wrong, so that the client notices it.
fn turned_round(piece: &Ipv4) -> Vec<u8> {
    let mut payload = piece.payload().to_vec();
    if piece.fragment_offset() == 0 {
        let before = be16(&payload, 0);
        payload[0] = icmp::ECHO_REPLY;
        let sum = checksum::update(be16(&payload, 2), before, be16(&payload, 0));
        payload[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let mut bytes = datagram(piece, protocol::ICMP, piece.tos(), &payload);
    // Identification, flags and offset: the pieces belong together as before.
    bytes[4..8].copy_from_slice(&piece.header()[4..8]);
    // The kernel would replace an identification of 0 by a different one in each piece.
    if piece.identification() == 0 {
        bytes[5] = 1;
    }
    bytes[10..12].fill(0);
    let sum = checksum::checksum(&bytes[..ipv4::HEADER]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 1122 §3.2.2.6: identifier, sequence number and data are returned unchanged.
fn echo_reply(request: &Ipv4) -> Vec<u8> {
    let mut message = request.payload().to_vec();
    message[0] = icmp::ECHO_REPLY;
    message[2..4].fill(0);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    datagram(request, protocol::ICMP, request.tos(), &message)
}

/// RFC 9293 §3.10.7.1: the reset that a closed port sends.
fn tcp_reset(packet: &Ipv4) -> Result<Vec<u8>, Malformed> {
    let segment = Tcp::parse(packet.payload())?;
    let flags = segment.flags();
    let mut bytes = [0u8; crate::packet::tcp::HEADER];
    if let Some(mut reset) = MutableTcpPacket::new(&mut bytes) {
        reset.set_source(segment.destination_port());
        reset.set_destination(segment.source_port());
        reset.set_data_offset(5);
        if flags.has(Flags::ACK) {
            reset.set_sequence(segment.acknowledgement());
            reset.set_flags(TcpFlags::RST);
        } else {
            let occupied = segment.payload().len() as u32
                + u32::from(flags.has(Flags::SYN))
                + u32::from(flags.has(Flags::FIN));
            reset.set_acknowledgement(segment.sequence().wrapping_add(occupied));
            reset.set_flags(TcpFlags::RST | TcpFlags::ACK);
        }
    }
    let (from, to): (IpAddr, IpAddr) = (packet.destination().into(), packet.source().into());
    let pseudo = checksum::pseudo_header(from, to, protocol::TCP, bytes.len());
    let sum = !checksum::fold(checksum::sum(&bytes, pseudo));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok(datagram(packet, protocol::TCP, 0, &bytes))
}

/// RFC 792, with as much of the packet as fits by RFC 1812 §4.3.2.3; the MTU is RFC 1191's field.
fn icmp_error(packet: &Ipv4, answer: Answer) -> Vec<u8> {
    let (kind, code) = type_and_code(answer).unwrap_or_default();
    let mtu = if let Answer::TooBig { mtu } = answer { mtu } else { 0 };
    let room = ERROR_DATAGRAM_MAX - ipv4::HEADER - icmp::HEADER;
    let quote = &packet.packet()[..packet.total_length().min(room)];
    let mut message = vec![0u8; icmp::HEADER];
    message[0] = kind;
    message[1] = code;
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(quote);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // RFC 1812 §4.3.2.5: precedence 6, internetwork control.
    datagram(packet, protocol::ICMP, 0xc0, &message)
}

/// A datagram to the sender of `packet`.
fn datagram(packet: &Ipv4, protocol: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let total_length = ipv4::HEADER + payload.len();
    let header = Header {
        tos,
        total_length: total_length as u16,
        identification: 0,
        dont_fragment: true,
        ttl: TTL,
        protocol,
        source: packet.destination(),
        destination: packet.source(),
    };
    let mut bytes = vec![0u8; total_length];
    header.write(&mut bytes);
    bytes[ipv4::HEADER..].copy_from_slice(payload);
    bytes
}

/// A token bucket: at most `rate` answers per second on average, `burst` at once.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Time one token takes to come back; never zero.
    interval: Duration,
    burst: u32,
    tokens: u32,
    refilled: Moment,
}

impl TokenBucket {
    pub fn new(rate_per_second: u32, burst: u32) -> TokenBucket {
        TokenBucket {
            interval: (Duration::from_secs(1) / rate_per_second.max(1)).max(Duration::from_nanos(1)),
            burst,
            tokens: burst,
            refilled: Moment::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Moment) -> bool {
        let earned = (now.since(self.refilled).as_nanos() / self.interval.as_nanos()) as u64;
        if earned > 0 {
            let earned_in_bucket = earned.min(u64::from(self.burst)) as u32;
            self.tokens = self.tokens.saturating_add(earned_in_bucket).min(self.burst);
            let spent = self.interval.as_nanos() as u64 * earned;
            self.refilled = self.refilled.after(Duration::from_nanos(spent));
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            tos: 0x10,
            total_length: (20 + payload.len()) as u16,
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

    fn answer(packet: &[u8], answer: Answer) -> Vec<u8> {
        let mut frame = Frame::from_packet(packet);
        write(&mut frame, answer).unwrap();
        frame.packet().to_vec()
    }

    /// What an independent parser reads: its header must be the one that every answer has.
    fn read(bytes: &[u8], protocol: u8, tos: u8) -> etherparse::PacketHeaders<'_> {
        let mut expected = etherparse::Ipv4Header {
            dscp: (tos >> 2).try_into().unwrap(),
            ecn: (tos & 3).try_into().unwrap(),
            total_len: bytes.len() as u16,
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
            let bytes =
                answer(&packet(6, &segment(flags, sequence, acknowledgement, data)), Answer::TcpReset);
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
            let bytes = answer(&padded, Answer::TooBig { mtu: 1480 });
            assert_eq!(bytes.len(), 28 + quoted);
            assert_eq!(read(&bytes, 1, 0xc0).payload.slice(), &about[..quoted], "{data}");
        }
    }

    #[test]
    fn every_answer_says_what_its_kind_is_called() {
        use etherparse::icmpv4::DestUnreachableHeader::{FragmentationNeeded, Host, Network, Port};
        use etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit;
        use etherparse::{Icmpv4Header, Icmpv4Type, TransportHeader};

        let about = packet(17, &[7; 12]);
        let unreachable = |code| Some(Icmpv4Type::DestinationUnreachable(code));
        let next_hop_mtu = 1480;
        let rows = [
            (Answer::Echo, "echo_reply", None),
            (Answer::TcpReset, "tcp_reset", None),
            (Answer::NetUnreachable, "net_unreachable", unreachable(Network)),
            (Answer::HostUnreachable, "host_unreachable", unreachable(Host)),
            (Answer::PortUnreachable, "port_unreachable", unreachable(Port)),
            (
                Answer::TooBig { mtu: next_hop_mtu },
                "too_big",
                unreachable(FragmentationNeeded { next_hop_mtu }),
            ),
            (Answer::TimeExceeded, "time_exceeded", Some(Icmpv4Type::TimeExceeded(TtlExceededInTransit))),
        ];
        for (said, label, expected) in rows {
            assert_eq!(said.kind().label(), label);
            let error = error_about(&Ipv4::parse_quoted(&about).unwrap(), said);
            assert_eq!(error.is_some(), expected.is_some(), "{label}");
            let (Some((bytes, to)), Some(expected)) = (error, expected) else { continue };
            assert_eq!(to, Ipv4Addr::new(203, 0, 113, 7));
            assert_eq!(answer(&about, said), bytes, "{label}: the same from the path as from here");
            let headers = read(&bytes, 1, 0xc0);
            let expected = Icmpv4Header::with_checksum(expected, &about);
            assert_eq!(headers.transport, Some(TransportHeader::Icmpv4(expected)), "{label}");
            assert_eq!(headers.payload.slice(), about, "{label}");
        }
    }

    #[test]
    fn an_echo_comes_back_as_it_came() {
        use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, TransportHeader};

        let echo = IcmpEchoHeader { id: 0x1234, seq: 0xfffe };
        let request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), b"payload");
        let bytes = answer(&packet(1, &[&request.to_bytes()[..], b"payload"].concat()), Answer::Echo);
        let headers = read(&bytes, 1, 0x10);
        let expected = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(echo), b"payload");
        assert_eq!(headers.transport, Some(TransportHeader::Icmpv4(expected)));
        assert_eq!(headers.payload.slice(), b"payload");
    }

    #[test]
    fn what_is_no_segment_gets_no_reset() {
        let mut frame = Frame::from_packet(&packet(6, &segment(Flags::ACK, 1, 2, 0)[..19]));
        assert_eq!(write(&mut frame, Answer::TcpReset), Err(Malformed::TruncatedTransport));
    }

    #[test]
    fn the_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let burst = (0..5).filter(|_| bucket.take(Moment::ZERO)).count();
        assert_eq!(burst, 3);
        let in_a_second = (0..1000).filter(|ms| bucket.take(Moment::from_millis(*ms))).count();
        assert_eq!(in_a_second, 9);
        assert_eq!((0..10).filter(|_| bucket.take(Moment::from_secs(3600))).count(), 3);
        assert!(bucket.take(Moment::from_secs(3601)));
        let topped_up = (0..10).filter(|_| bucket.take(Moment::from_secs(3602))).count();
        assert_eq!(topped_up, 3, "what is left counts towards the burst");
    }

    #[test]
    fn a_token_comes_back_when_its_time_is_over_and_not_before() {
        let mut bucket = TokenBucket::new(10, 1);
        let taken = [0, 99, 100, 101, 199, 200, 350, 399, 400].map(|ms| bucket.take(Moment::from_millis(ms)));
        assert_eq!(taken, [true, false, true, false, false, true, true, false, true]);
    }

    #[test]
    fn any_rate_has_a_bucket() {
        let nanos = |nanos| Moment::ZERO.after(Duration::from_nanos(nanos));
        let mut none = TokenBucket::new(0, 1);
        let taken = [0, 999, 1000].map(|ms| none.take(Moment::from_millis(ms)));
        assert_eq!(taken, [true, false, true], "once a second at least");
        for (rate, burst) in [(1_000_000_000, 1), (u32::MAX, 1)] {
            let mut bucket = TokenBucket::new(rate, burst);
            assert_eq!([0, 0, 1, 1].map(|at| bucket.take(nanos(at))), [true, false, true, false], "{rate}");
        }
        // So many tokens that their number does not fit into 32 bits.
        let mut bucket = TokenBucket::new(1_000_000_000, 2);
        assert_eq!([0, 0, 1 << 32, 1 << 32].map(|at| bucket.take(nanos(at))), [true; 4]);
    }
}
