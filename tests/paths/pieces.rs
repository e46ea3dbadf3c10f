//! What leaves in fragments: super-packets, outer packets cut where DF is ignored, and their identifications.

use std::collections::HashSet;
use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, SlicedPacket, TransportSlice};
use lvs_tund::director::Extra;
use lvs_tund::director::cluster::ClusterConfig;
use lvs_tund::director::reply::IcmpError;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Verdict};
use lvs_tund::packet::Frame;
use lvs_tund::packet::frame::{PACKET_MAX, SegmentKind, Segments};

use crate::bed::*;
use crate::support::packets::*;
use crate::support::world::World;

/// An outer packet: its header and what it carries.
type Outer = (Ipv4Header, Vec<u8>);

fn outer(packet: &[u8]) -> Outer {
    let (header, payload) = Ipv4Header::from_slice(packet).expect("an outer header");
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(usize::from(header.total_len), packet.len());
    assert!(packet.len() <= 1500);
    assert_eq!((header.source, header.protocol), (DIRECTOR.octets(), IpNumber::IPV4));
    assert_eq!(header.destination, SERVER2.octets());
    (header, payload.to_vec())
}

impl World {
    /// Everything that leaves for server2 because of the packet in `frame`, or its verdict if nothing does.
    fn sent(&mut self, frame: &mut Frame) -> Result<Vec<Outer>, Verdict> {
        match self.process_frame(frame) {
            Verdict::Transmit(route) => assert_eq!(route.to(), IpAddr::from(SERVER2)),
            refused => return Err(refused),
        }
        let rest = self.extras(NOW).into_iter().map(|extra| {
            let Extra::Piece { frame, to } = extra else { panic!("nothing but pieces") };
            assert_eq!(to, IpAddr::from(SERVER2));
            outer(frame.packet())
        });
        Ok(std::iter::once(outer(frame.packet())).chain(rest).collect())
    }
}

/// Puts the pieces of one packet together, in the order in which they left.
fn joined(pieces: &[Outer]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, (header, piece)) in pieces.iter().enumerate() {
        assert_eq!(header.identification, pieces[0].0.identification, "one identification");
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, payload.len());
        assert_eq!((header.more_fragments, header.dont_fragment), (index + 1 < pieces.len(), false));
        payload.extend_from_slice(piece);
    }
    payload
}

/// The outer packet is cut; the inner one comes out of the pieces as it was.
#[test]
fn with_ignore_df_the_outer_packet_is_cut() {
    let mut world = world_of(ClusterConfig { ignores_df: true, ..config() });
    let inner = as_fragment(&udp(53, &[5; 2000]), 0x4000);
    let pieces = world.sent(&mut Frame::from_packet(&inner)).expect("it is sent");
    assert_eq!((pieces.len(), joined(&pieces)), (2, inner));
    assert_eq!(pieces[0].0.total_len, 1500, "as much as fits");
    let small = as_fragment(&udp(53, b"small"), 0x4000);
    let whole = world.sent(&mut Frame::from_packet(&small)).expect("it is sent");
    assert_eq!((whole.len(), joined(&whole)), (1, small));
    // 6864-2.
    assert_ne!(whole[0].0.identification, pieces[0].0.identification, "an identification of its own");
}

/// RFC 791 §3.1: an outer packet of 65,535 bytes is the largest, though it leaves in fragments.
#[test]
fn the_largest_packet_that_can_be_wrapped_is_cut() {
    for (ignores_df, word) in [(true, 0x4000), (true, 0), (false, 0)] {
        for (length, is_sent) in [(65_515, true), (65_516, false)] {
            let mut world = world_of(ClusterConfig { ignores_df, ..config() });
            let inner = as_fragment(&udp(53, &vec![5; length - 28]), word);
            let sent = world.sent(&mut Frame::from_packet(&inner));
            if !is_sent {
                assert_eq!(sent.err(), Some(Verdict::Drop(DropReason::TooBig)), "{length}");
                continue;
            }
            let pieces = sent.expect("it is sent");
            if word == 0x4000 {
                assert_eq!(joined(&pieces), inner);
                continue;
            }
            // The inner packet was cut, and its pieces travel in outer packets of their own.
            let inner_pieces = pieces.iter().map(|(header, piece)| {
                assert!(!header.is_fragmenting_payload() && !header.dont_fragment);
                let (header, payload) = Ipv4Header::from_slice(piece).expect("a piece of the inner packet");
                (header, payload.to_vec())
            });
            assert_eq!(joined(&inner_pieces.collect::<Vec<_>>()), inner[20..]);
            let identifications: HashSet<u16> =
                pieces.iter().map(|(header, _)| header.identification).collect();
            assert_eq!(identifications.len(), pieces.len());
            // Pieces but the last hold a multiple of eight bytes: 1456 behind two headers.
            let (_, full) = pieces.split_last().expect("several pieces");
            assert!(full.iter().all(|(header, _)| header.total_len == 1496), "as much as fits");
        }
    }
}

/// A super-packet is judged by its segments, and leaves as such, each as if the client had sent it: 3000 bytes that are
/// three segments need no answer, and 1200 that would fit in one packet leave as three.
#[test]
fn a_super_packet_is_judged_by_its_segments() {
    // Bytes of data, of each segment, DF; how many leave, or whether the sender gets an error.
    let rows: [(usize, u16, bool, Result<usize, ()>); 11] = [
        (3000, 1000, true, Ok(3)),
        (3000, 1000, false, Ok(3)),
        (3000, 1435, true, Ok(3)),
        (3000, 1436, true, Ok(3)),
        (3000, 1436, false, Ok(3)),
        (3000, 1437, true, Err(())),
        (3000, 3000, true, Err(())),
        (1200, 400, true, Ok(3)),
        (1200, 400, false, Ok(3)),
        (1000, 1436, true, Ok(1)),
        (1000, 1437, true, Ok(1)),
    ];
    for (length, size, has_dont_fragment, expected) in rows {
        let name = format!("{length} bytes in segments of {size}, DF {has_dont_fragment}");
        let data: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let inner = as_fragment(&tcp(ACK, &data), if has_dont_fragment { 0x4000 } else { 0 });
        let mut frame = Frame::with_capacity(PACKET_MAX);
        frame.replace(&inner);
        frame.offload.segments = Some(Segments { kind: SegmentKind::TcpV4, size, header_length: 44 });
        let sent = world().sent(&mut frame);
        let Ok(count) = expected else {
            let Err(Verdict::Reply(reply)) = sent else { panic!("{name}") };
            let is_too_big = matches!(reply.kind, ReplyKind::Error(IcmpError::TooBig { .. }));
            assert_eq!((is_too_big, reply.reason), (true, Some(DropReason::TooBig)), "{name}");
            assert_eq!(told(frame.packet(), &inner), fits(1480), "{name}");
            continue;
        };
        assert_eq!(frame.space().len(), PACKET_MAX, "room for the next capture");
        let segments = sent.unwrap_or_else(|verdict| panic!("{name}: {verdict:?}"));
        assert_eq!(segments.len(), count, "{name}");
        assert_eq!(data_of(&segments, has_dont_fragment), data, "{name}");
    }
}

/// The data of all segments, each a sound TCP segment behind an outer header of its own.
fn data_of(segments: &[Outer], has_dont_fragment: bool) -> Vec<u8> {
    let mut data = Vec::new();
    let mut identifications = HashSet::new();
    for (header, inner) in segments {
        assert!(!header.is_fragmenting_payload());
        assert_eq!(header.dont_fragment, has_dont_fragment, "DF is copied");
        // RFC 6864 §4.1: only a packet that may be cut needs one.
        assert_eq!(header.identification == 0, has_dont_fragment);
        assert!(identifications.insert(header.identification) || has_dont_fragment);
        let sliced = SlicedPacket::from_ip(inner).expect("a packet inside");
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("TCP") };
        let sum = tcp.calc_checksum_ipv4(CLIENT.octets(), VIP.octets()).expect("a short segment");
        assert_eq!((tcp.checksum(), tcp.sequence_number()), (sum, 1000 + data.len() as u32));
        let (ip, _) = Ipv4Header::from_slice(inner).expect("an inner header");
        assert_eq!((ip.dont_fragment, ip.header_checksum), (has_dont_fragment, ip.calc_header_checksum()));
        data.extend_from_slice(tcp.payload());
    }
    data
}

/// 6864-2: one identification for one path, whatever the virtual service. Packets that may not be cut use none up, so
/// that one comes again as late as it can.
#[test]
fn services_of_one_real_server_share_its_identifications() {
    let mut config = config();
    for service in &mut config.virtual_services {
        service.real_servers.truncate(1);
    }
    let mut world = world_of(config);
    let mut identification = |packet: &[u8]| {
        let pieces = world.sent(&mut Frame::from_packet(packet)).expect("it is sent");
        pieces[0].0.identification
    };
    let mut seen = Vec::new();
    for port in 1..100 {
        seen.push(identification(&as_fragment(&tcp_between(CLIENT, port, VIP, 80, SYN, b""), 0)));
        assert_eq!(identification(&as_fragment(&udp(53, b"question"), 0x4000)), 0);
        seen.push(identification(&as_fragment(&udp(53, b"question"), 0)));
    }
    assert!(!seen.contains(&0), "which the kernel would replace");
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{seen:?}");
}
