//! Splits a super-packet into the segments it represents, as a network card would.
//!
//! ```text
//! ┌────────┬─────────┬───────────────────────────────┐      ┌────────┬─────────┬──────┐
//! │ IPv4   │ TCP/UDP │ payload of several segments   │  ──▶ │ IPv4   │ TCP/UDP │ size │ …
//! └────────┴─────────┴───────────────────────────────┘      └────────┴─────────┴──────┘
//! ```
//! Identifications count up from the packet's own. Sequence numbers continue; CWR stays on the first segment, FIN and
//! PSH on the last (RFC 3168 §6.1.2: one CWR answers one congestion).

use super::field::U16;
use super::frame::{SegmentKind, Segments};
use super::ipv4::{self, Ipv4};
use super::tcp::{self, Flags, Tcp};
use super::udp;
use super::{Malformed, checksum, protocol};

/// The segments of `packet`, in order, each a whole packet with complete checksums.
///
/// # Errors
/// `Truncated` if the packet does not match the offload: another protocol, or a size of zero.
pub fn split(packet: &Ipv4, segments: Segments) -> Result<Vec<Vec<u8>>, Malformed> {
    let transport = match (segments.kind, packet.protocol()) {
        (SegmentKind::TcpV4, protocol::TCP) => Tcp::parse(packet.payload())?.header_length(),
        (SegmentKind::Udp, protocol::UDP) if packet.payload().len() >= udp::HEADER => udp::HEADER,
        _ => return Err(Malformed::Truncated),
    };
    let size = usize::from(segments.size);
    if size == 0 {
        return Err(Malformed::Truncated);
    }
    let (header, payload) = packet.packet().split_at(packet.header_length() + transport);
    let last = payload.len().div_ceil(size).max(1) - 1;
    let pieces = (0..=last).map(|index| {
        let offset = index * size;
        let data = &payload[offset..payload.len().min(offset + size)];
        let mut bytes = [header, data].concat();
        finish_ip(&mut bytes, packet, index);
        match segments.kind {
            SegmentKind::Udp => finish_udp(&mut bytes, packet),
            SegmentKind::TcpV4 | SegmentKind::TcpV6 => {
                finish_tcp(&mut bytes, packet, offset, index == 0, index == last);
            }
        }
        bytes
    });
    Ok(pieces.collect())
}

fn finish_ip(bytes: &mut [u8], packet: &Ipv4, index: usize) {
    let total_length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    ipv4::field::TOTAL_LENGTH.write(bytes, total_length);
    let identification = packet.identification().wrapping_add(u16::try_from(index).unwrap_or(u16::MAX));
    ipv4::field::IDENTIFICATION.write(bytes, identification);
    ipv4::fill_checksum(&mut bytes[..packet.header_length()]);
}

fn finish_tcp(bytes: &mut [u8], packet: &Ipv4, offset: usize, is_first: bool, is_last: bool) {
    let segment = &mut bytes[packet.header_length()..];
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let sequence = tcp::field::SEQUENCE.read(segment).wrapping_add(offset);
    tcp::field::SEQUENCE.write(segment, sequence);
    let mut flags = tcp::field::FLAGS.read(segment);
    if !is_first {
        flags &= !Flags::CWR;
    }
    if !is_last {
        flags &= !(Flags::FIN | Flags::PSH);
    }
    tcp::field::FLAGS.write(segment, flags);
    fill_checksum(segment, packet, tcp::field::CHECKSUM);
}

fn finish_udp(bytes: &mut [u8], packet: &Ipv4) {
    let datagram = &mut bytes[packet.header_length()..];
    let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    udp::field::LENGTH.write(datagram, length);
    fill_checksum(datagram, packet, udp::field::CHECKSUM);
}

fn fill_checksum(transport: &mut [u8], packet: &Ipv4, field: U16) {
    let (source, destination) = (packet.source().into(), packet.destination().into());
    checksum::fill_transport(transport, field, source, destination, packet.protocol());
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    use super::*;

    fn tcp(payload: usize) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([203, 0, 113, 7], [172, 25, 3, 100], 63)
            .tcp(40000, 80, 0xffff_ff00, 100)
            .fin()
            .psh()
            .ack(7)
            .cwr();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &(0..=255).cycle().take(payload).collect::<Vec<u8>>()).unwrap();
        bytes
    }

    #[test]
    fn an_independent_parser_finds_every_segment_sound() {
        let whole = tcp(4000);
        let segments = Segments { kind: SegmentKind::TcpV4, size: 1448, header_length: 40 };
        let pieces = split(&Ipv4::parse(&whole).unwrap(), segments).unwrap();
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1488, 1488, 1144]);
        let mut payload = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let sliced = SlicedPacket::from_ip(piece).unwrap();
            assert_eq!(header_of(piece), segment_header(&whole, index, piece.len()));
            let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("IPv4") };
            let Some(TransportSlice::Tcp(segment)) = &sliced.transport else { panic!("TCP") };
            let sum = segment.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
            assert_eq!(segment.checksum(), sum);
            assert_eq!(
                segment.sequence_number(),
                0xffff_ff00u32.wrapping_add(u32::try_from(index).unwrap() * 1448)
            );
            assert_eq!((segment.cwr(), segment.ack()), (index == 0, true));
            assert_eq!((segment.fin(), segment.psh()), (index == 2, index == 2));
            payload.extend_from_slice(segment.payload());
        }
        assert_eq!(payload, whole[40..]);
    }

    fn udp(data: &[u8]) -> Vec<u8> {
        let header = etherparse::Ipv4Header {
            identification: 0xfffe,
            dont_fragment: true,
            dscp: 46.try_into().unwrap(),
            source: [203, 0, 113, 7],
            destination: [172, 25, 3, 100],
            time_to_live: 63,
            ..Default::default()
        };
        let builder =
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default())).udp(40000, 53);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, data).unwrap();
        bytes
    }

    fn header_of(packet: &[u8]) -> etherparse::Ipv4Header {
        etherparse::Ipv4Header::from_slice(packet).unwrap().0
    }

    /// The super-packet's header but for what each segment has of its own.
    fn segment_header(whole: &[u8], index: usize, length: usize) -> etherparse::Ipv4Header {
        let mut header = header_of(whole);
        header.total_len = length.try_into().unwrap();
        header.identification = header.identification.wrapping_add(u16::try_from(index).unwrap());
        header.header_checksum = header.calc_header_checksum();
        header
    }

    const DATAGRAMS: Segments = Segments { kind: SegmentKind::Udp, size: 1000, header_length: 28 };

    #[test]
    fn datagrams_get_lengths_and_checksums_of_their_own() {
        let whole = udp(&(0..2500).map(|index| u8::try_from(index / 7 % 256).unwrap()).collect::<Vec<_>>());
        let pieces = split(&Ipv4::parse(&whole).unwrap(), DATAGRAMS).unwrap();
        let mut payload = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let header = header_of(piece);
            assert_eq!(header, segment_header(&whole, index, piece.len()));
            let sliced = SlicedPacket::from_ip(piece).unwrap();
            let Some(TransportSlice::Udp(datagram)) = &sliced.transport else { panic!("UDP") };
            assert_eq!((datagram.source_port(), datagram.destination_port()), (40000, 53));
            assert_eq!(usize::from(datagram.length()), piece.len() - 20);
            let sum = datagram.to_header().calc_checksum_ipv4(&header, datagram.payload());
            assert_eq!(datagram.checksum(), sum.unwrap());
            payload.extend_from_slice(datagram.payload());
        }
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1028, 1028, 528]);
        assert_eq!(payload, whole[28..]);
        let identifications: Vec<u16> = pieces.iter().map(|piece| header_of(piece).identification).collect();
        assert_eq!(identifications, [0xfffe, 0xffff, 0]);
    }

    /// RFC 768, RFC 9293 §3.1: only in UDP does a checksum of zero mean that there is none.
    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones_in_udp_and_as_it_is_in_tcp() {
        let rows = [
            (udp(&[0; 2]), DATAGRAMS, 26, 28, 0xffff),
            (tcp(2), Segments { kind: SegmentKind::TcpV4, ..DATAGRAMS }, 36, 40, 0),
        ];
        for (mut whole, segments, field, data, expected) in rows {
            whole[data..].fill(0);
            let sum_of =
                |whole: &[u8]| U16(field).read(&split(&Ipv4::parse(whole).unwrap(), segments).unwrap()[0]);
            // What is written over a word of zeros is added to the sum: the checksum itself makes it all ones.
            let sum = sum_of(&whole);
            assert!(sum != 0 && sum != 0xffff, "{sum:x}");
            whole[data..].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(sum_of(&whole), expected);
        }
    }

    #[test]
    fn options_of_both_headers_are_repeated_in_every_segment() {
        let plain = tcp(30);
        let mut whole = [&plain[..20], &[148, 4, 0, 0], &plain[20..40], &[1, 1, 1, 0], &plain[40..]].concat();
        (whole[0], whole[3], whole[24 + 12]) = (0x46, whole.len().try_into().unwrap(), 0x60);
        let segments = Segments { kind: SegmentKind::TcpV4, size: 16, header_length: 48 };
        let pieces = split(&Ipv4::parse_unsummed(&whole).unwrap(), segments).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            assert_eq!(header_of(piece), segment_header(&whole, index, piece.len()));
            assert_eq!(piece[44..48], [1, 1, 1, 0]);
            let (segment, data) = etherparse::TcpHeader::from_slice(&piece[24..]).unwrap();
            assert_eq!(segment.checksum, segment.calc_checksum_ipv4(&header_of(piece), data).unwrap());
        }
        assert_eq!([&pieces[0][48..], &pieces[1][48..]], [&whole[48..64], &whole[64..]]);
    }

    #[test]
    fn what_the_offload_does_not_describe_is_refused() {
        let whole = tcp(100);
        let view = Ipv4::parse(&whole).unwrap();
        for (kind, size) in [(SegmentKind::Udp, 10), (SegmentKind::TcpV6, 10), (SegmentKind::TcpV4, 0)] {
            let refused = split(&view, Segments { kind, size, header_length: 40 });
            assert_eq!(refused, Err(Malformed::Truncated), "{kind:?} of {size}");
        }
        let datagram = udp(b"");
        let of = |length: usize| {
            let mut bytes = datagram[..length].to_vec();
            bytes[3] = length.try_into().unwrap();
            split(&Ipv4::parse_unsummed(&bytes).unwrap(), DATAGRAMS)
        };
        assert_eq!([20, 21, 27].map(of), [const { Err(Malformed::Truncated) }; 3], "no whole UDP header");
        assert_eq!(of(28), Ok(vec![datagram.clone()]), "an empty datagram");
        let empty = tcp(0);
        let one = Segments { kind: SegmentKind::TcpV4, size: 10, header_length: 40 };
        assert_eq!(split(&Ipv4::parse(&empty).unwrap(), one).unwrap(), std::slice::from_ref(&empty));
    }
}
