//! Splits a super-packet into the segments it represents, as a network card would.
//!
//! ```text
//! ┌────────┬─────────┬───────────────────────────────┐      ┌────────┬─────────┬──────┐
//! │ IPv4   │ TCP/UDP │ payload of several segments   │  ──▶ │ IPv4   │ TCP/UDP │ size │ …
//! └────────┴─────────┴───────────────────────────────┘      └────────┴─────────┴──────┘
//! ```
//! Identifications count up from the packet's own. Sequence numbers go on; CWR stays on the first segment, FIN and
//! PSH on the last (RFC 3168 §6.1.2: one CWR answers one congestion).

use super::frame::{SegmentKind, Segments};
use super::ipv4::Ipv4;
use super::tcp::Tcp;
use super::udp;
use super::{Malformed, be32, checksum, protocol};

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

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
    let total_length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&total_length.to_be_bytes());
    let identification = packet.identification().wrapping_add(index as u16);
    bytes[4..6].copy_from_slice(&identification.to_be_bytes());
    bytes[10..12].fill(0);
    let sum = checksum::checksum(&bytes[..packet.header_length()]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn finish_tcp(bytes: &mut [u8], packet: &Ipv4, offset: usize, is_first: bool, is_last: bool) {
    let tcp = &mut bytes[packet.header_length()..];
    let sequence = be32(tcp, 4).wrapping_add(offset as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_first {
        tcp[13] &= !TCP_CWR;
    }
    if !is_last {
        tcp[13] &= !(TCP_FIN | TCP_PSH);
    }
    finish_checksum(tcp, packet, 16);
}

fn finish_udp(bytes: &mut [u8], packet: &Ipv4) {
    let udp = &mut bytes[packet.header_length()..];
    let length = udp.len() as u16;
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    finish_checksum(udp, packet, 6);
}

fn finish_checksum(transport: &mut [u8], packet: &Ipv4, field: usize) {
    transport[field..field + 2].fill(0);
    let (source, destination) = (packet.source().into(), packet.destination().into());
    let pseudo = checksum::pseudo_header(source, destination, packet.protocol(), transport.len());
    let sum = !checksum::fold(checksum::sum(transport, pseudo));
    // RFC 768: zero would mean "no checksum".
    let sum = if sum == 0 && packet.protocol() == protocol::UDP { 0xffff } else { sum };
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
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
        builder.write(&mut bytes, &(0..payload).map(|index| index as u8).collect::<Vec<_>>()).unwrap();
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
            let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("IPv4") };
            assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
            let Some(TransportSlice::Tcp(segment)) = &sliced.transport else { panic!("TCP") };
            let sum = segment.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
            assert_eq!(segment.checksum(), sum);
            assert_eq!(segment.sequence_number(), 0xffff_ff00u32.wrapping_add(index as u32 * 1448));
            assert_eq!((segment.cwr(), segment.ack()), (index == 0, true));
            assert_eq!((segment.fin(), segment.psh()), (index == 2, index == 2));
            payload.extend_from_slice(segment.payload());
        }
        assert_eq!(payload, whole[40..]);
    }

    #[test]
    fn datagrams_get_lengths_and_checksums_of_their_own() {
        let mut whole = Vec::new();
        let builder = PacketBuilder::ipv4([203, 0, 113, 7], [172, 25, 3, 100], 63).udp(40000, 53);
        builder.write(&mut whole, &[9; 2500]).unwrap();
        let segments = Segments { kind: SegmentKind::Udp, size: 1000, header_length: 28 };
        let pieces = split(&Ipv4::parse(&whole).unwrap(), segments).unwrap();
        let lengths: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let sliced = SlicedPacket::from_ip(piece).unwrap();
                let Some(TransportSlice::Udp(datagram)) = &sliced.transport else { panic!("UDP") };
                let sum = datagram.to_header().calc_checksum_ipv4_raw(
                    [203, 0, 113, 7],
                    [172, 25, 3, 100],
                    datagram.payload(),
                );
                assert_eq!(datagram.checksum(), sum.unwrap());
                datagram.length()
            })
            .collect();
        assert_eq!(lengths, [1008, 1008, 508]);
    }

    #[test]
    fn what_the_offload_does_not_describe_is_refused() {
        let whole = tcp(100);
        let view = Ipv4::parse(&whole).unwrap();
        for (kind, size) in [(SegmentKind::Udp, 10), (SegmentKind::TcpV6, 10), (SegmentKind::TcpV4, 0)] {
            assert!(split(&view, Segments { kind, size, header_length: 40 }).is_err());
        }
        let empty = tcp(0);
        let one = Segments { kind: SegmentKind::TcpV4, size: 10, header_length: 40 };
        assert_eq!(split(&Ipv4::parse(&empty).unwrap(), one).unwrap(), std::slice::from_ref(&empty));
    }
}
