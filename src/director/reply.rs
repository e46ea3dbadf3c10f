//! The director's own replies to clients: echo reply, TCP reset, ICMP errors. The source is always the VIP,
//! because the client knows no other address.
//!
//! Packets that must not be answered are filtered earlier: [`mod@super::classify`] drops every source that is
//! not a single host, and an ICMP error is never answered (RFC 1122 §3.2.2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pnet_packet::tcp::{MutableTcpPacket, TcpFlags};

use super::verdict::ReplyKind;
use crate::packet::icmp::{self, ERROR_DATAGRAM_MAX};
use crate::packet::ipv4::{self, Header, Ipv4};
use crate::packet::tcp::{Flags, Tcp};
use crate::packet::{Frame, Malformed, be16, checksum, protocol};
use crate::time::Moment;

/// TTL of the director's own packets (RFC 1122 §3.2.1.7 asks for a configurable value; IANA recommends 64).
const TTL: u8 = 64;

/// The kind of reply, before it is known whether it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Echo,
    TcpReset,
    PortUnreachable,
    TimeExceeded,
    HostUnreachable,
    NetUnreachable,
    /// The largest packet, in bytes, that would have fitted.
    TooBig {
        mtu: u16,
    },
}

impl Answer {
    pub const fn kind(self) -> ReplyKind {
        match self {
            Answer::Echo => ReplyKind::EchoReply,
            Answer::TcpReset => ReplyKind::TcpReset,
            Answer::PortUnreachable => ReplyKind::PortUnreachable,
            Answer::TimeExceeded => ReplyKind::TimeExceeded,
            Answer::HostUnreachable => ReplyKind::HostUnreachable,
            Answer::NetUnreachable => ReplyKind::NetUnreachable,
            Answer::TooBig { .. } => ReplyKind::TooBig,
        }
    }
}

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
    /// Time until one token is replaced.
    interval: Duration,
    burst: u32,
    tokens: u32,
    refilled: Moment,
}

impl TokenBucket {
    pub fn new(rate_per_second: u32, burst: u32) -> TokenBucket {
        TokenBucket {
            interval: Duration::from_secs(1) / rate_per_second.max(1),
            burst,
            tokens: burst,
            refilled: Moment::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Moment) -> bool {
        let earned = (now.since(self.refilled).as_nanos() / self.interval.as_nanos().max(1)) as u64;
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

    #[test]
    fn a_reset_is_acceptable_to_the_sender() {
        // RFC 9293 §3.10.7.1, both cases; checked with an independent parser.
        let cases = [(Flags::ACK, 100, 700, 5, 700, None), (Flags::SYN, 100, 0, 0, 0, Some(101))];
        for (flags, sequence, acknowledgement, data, expected_sequence, expected_ack) in cases {
            let bytes =
                answer(&packet(6, &segment(flags, sequence, acknowledgement, data)), Answer::TcpReset);
            let (ip, rest) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
            let (tcp, _) = etherparse::TcpHeader::from_slice(rest).unwrap();
            assert_eq!(ip.source, [172, 25, 3, 100]);
            assert_eq!((tcp.source_port, tcp.destination_port), (80, 40000));
            assert!(tcp.rst);
            assert_eq!(tcp.sequence_number, expected_sequence);
            assert_eq!(tcp.ack.then_some(tcp.acknowledgment_number), expected_ack);
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, &[]).unwrap());
        }
    }

    #[test]
    fn an_error_quotes_what_fits_into_576_bytes() {
        let big = packet(17, &[7u8; 1400]);
        let bytes = answer(&big, Answer::TooBig { mtu: 1480 });
        assert_eq!(bytes.len(), 576);
        let ip = Ipv4::parse(&bytes).unwrap();
        let message = icmp::Icmp::parse(ip.payload()).unwrap();
        assert_eq!((message.kind(), message.code(), message.next_hop_mtu()), (3, 4, 1480));
        assert_eq!(message.body(), &big[..548]);
        let small = packet(17, &[7u8; 12]);
        assert_eq!(answer(&small, Answer::PortUnreachable).len(), 20 + 8 + 32);
    }

    #[test]
    fn an_echo_comes_back_as_it_came() {
        let mut message = vec![8u8, 0, 0, 0, 0x12, 0x34, 0, 1];
        message.extend_from_slice(b"payload");
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let bytes = answer(&packet(1, &message), Answer::Echo);
        let ip = Ipv4::parse(&bytes).unwrap();
        let reply = icmp::Icmp::parse(ip.payload()).unwrap();
        assert_eq!((reply.kind(), reply.identifier(), reply.body()), (0, 0x1234, &b"payload"[..]));
        assert_eq!(ip.destination().to_string(), "203.0.113.7");
    }

    #[test]
    fn the_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let burst = (0..5).filter(|_| bucket.take(Moment::ZERO)).count();
        assert_eq!(burst, 3);
        let in_a_second = (0..1000).filter(|ms| bucket.take(Moment::from_millis(*ms))).count();
        assert_eq!(in_a_second, 9);
        assert_eq!((0..10).filter(|_| bucket.take(Moment::from_secs(3600))).count(), 3);
    }
}
