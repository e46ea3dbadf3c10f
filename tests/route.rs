//! A route is a value: what the director did to a packet can be done again from the verdict alone.

use std::collections::VecDeque;
use std::net::IpAddr;

use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::path::SoftState;
use lvs_tund::director::reply::IcmpError;
use lvs_tund::director::route::apply::apply;
use lvs_tund::director::route::{Fit, Route};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{ReplyKind, Verdict};
use lvs_tund::encapsulation::{DEFAULT, Ttl};
use lvs_tund::packet::frame::{SegmentKind, Segments};
use lvs_tund::packet::{Frame, Offload, Protocol};

mod support;

use support::packets::*;
use support::world::World;

const PATH: Path = Path { source: DIRECTOR, mtu: 1400 };

fn world(config: ClusterConfig) -> World {
    let service = VirtualServiceConfig {
        real_servers: vec![RealServerConfig::new(SERVER2.into(), 1)],
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, "wlc")
    };
    let config = ClusterConfig { virtual_services: vec![service], ..config };
    let host = HostView { paths: [(SERVER2.into(), PATH)].into(), ..HostView::default() };
    World::new(config, host, Tables::new(1000, 1))
}

fn segments(size: u16) -> Offload {
    let segments = Segments { kind: SegmentKind::TcpV4, size, header_length: 44 };
    Offload { segments: Some(segments), ..Offload::default() }
}

fn captured(packet: &[u8], offload: Offload) -> Frame {
    let mut frame = Frame::from_packet(packet);
    frame.offload = offload;
    frame
}

/// All packets that leave, without identification and checksum of the outer header.
fn leaving(first: &Frame, pieces: impl Iterator<Item = (Frame, IpAddr)>) -> Vec<Vec<u8>> {
    let pieces = pieces.map(|(frame, to)| {
        assert_eq!(to, IpAddr::from(SERVER2));
        frame
    });
    let without = |frame: Frame| {
        let mut bytes = frame.packet().to_vec();
        bytes[4..6].fill(0);
        bytes[10..12].fill(0);
        bytes
    };
    [first.clone()].into_iter().chain(pieces).map(without).collect()
}

/// The route of a packet that is forwarded, and the packets that leave for it.
fn forwarded(config: ClusterConfig, packet: &[u8], offload: Offload) -> (Route, Vec<Vec<u8>>) {
    let mut world = world(config);
    let mut frame = captured(packet, offload);
    let Verdict::Transmit(route) = world.process_frame(&mut frame) else { panic!("not sent") };
    let pieces = world.due().into_iter().map(|extra| match extra {
        Extra::Piece { frame, to } => (frame, to),
        Extra::Told { .. } | Extra::Late { .. } => panic!("only pieces"),
    });
    (route, leaving(&frame, pieces))
}

/// Name, `ignore_df`, packet, offload, how it fits, and how many packets leave.
type Row = (&'static str, bool, Vec<u8>, Offload, Fit, usize);

#[test]
fn applying_a_route_again_writes_the_same_packets() {
    let big = |df: u16| as_fragment(&tcp(SYN, &[7; 3000]), df);
    let (may, must_not) = (0, 0x4000);
    let rows: [Row; 7] = [
        ("small", false, tcp(SYN, b""), Offload::default(), Fit::Whole, 1),
        (
            "as large as the path",
            false,
            as_fragment(&tcp(SYN, &[7; 1336]), 0x4000),
            Offload::default(),
            Fit::Whole,
            1,
        ),
        ("large", false, big(may), Offload::default(), Fit::CutInner, 3),
        ("large, DF, ignored", true, big(must_not), Offload::default(), Fit::CutOuter, 3),
        (
            "super-packet",
            false,
            big(must_not),
            segments(1000),
            Fit::Segments(segments(1000).segments.unwrap()),
            3,
        ),
        (
            "super-packet of large segments",
            false,
            big(may),
            segments(1400),
            Fit::Segments(segments(1400).segments.unwrap()),
            5,
        ),
        (
            "the same with DF, ignored",
            true,
            big(must_not),
            segments(1400),
            Fit::Segments(segments(1400).segments.unwrap()),
            5,
        ),
    ];
    for (name, ignores_df, packet, offload, fit, count) in rows {
        for decrements_ttl in [false, true] {
            let config =
                ClusterConfig { ignores_df, decrements_ttl, ttl: Ttl::Fixed(9), ..ClusterConfig::default() };
            let (route, packets) = forwarded(config, &packet, offload);
            assert_eq!((route.fit, packets.len()), (fit, count), "{name}");
            let expected = Route {
                source: PATH.source,
                rip: SERVER2,
                path_mtu: PATH.mtu,
                ttl: Ttl::Fixed(9),
                encapsulation: DEFAULT,
                ignores_df,
                decrements_ttl,
                ..route
            };
            assert_eq!(route, expected, "{name}");
            assert!(packets.iter().all(|packet| packet.len() <= 1400), "{name}");
            assert_eq!(packets[0][28], 64 - u8::from(decrements_ttl), "{name}: TTL of the inner packet");
            for _ in 0..2 {
                let (mut frame, mut pieces) = (captured(&packet, offload), VecDeque::new());
                apply(&route, &mut frame, &SoftState::new(1), &mut pieces).unwrap();
                assert_eq!(leaving(&frame, pieces.into_iter()), packets, "{name}");
            }
        }
    }
}

/// The frame is not the packet for which the route was decided.
#[test]
fn a_route_writes_nothing_into_bytes_that_are_not_a_packet() {
    let (route, _) = forwarded(ClusterConfig::default(), &tcp(SYN, b""), Offload::default());
    let large = segments(1000).segments.unwrap();
    for fit in [Fit::Whole, Fit::CutInner, Fit::CutOuter, Fit::Segments(large)] {
        for decrements_ttl in [false, true] {
            let route = Route { fit, decrements_ttl, ..route };
            let (mut frame, mut pieces) = (Frame::from_packet(&[0x45; 19]), VecDeque::new());
            apply(&route, &mut frame, &SoftState::new(1), &mut pieces).unwrap_err();
            assert_eq!((frame.packet(), pieces.len()), (&[0x45; 19][..], 0), "{fit:?}");
        }
    }
    let mut expired = Frame::from_packet(&changed(&tcp(SYN, b""), |b| b[8] = 0));
    let route = Route { decrements_ttl: true, ..route };
    apply(&route, &mut expired, &SoftState::new(1), &mut VecDeque::new()).unwrap_err();
}

/// RFC 1812 §4.3.2.3: an error quotes the packet as it came.
#[test]
fn an_error_about_a_packet_that_is_too_big_quotes_it_unchanged() {
    let config = ClusterConfig { decrements_ttl: true, ..ClusterConfig::default() };
    let big = as_fragment(&tcp(SYN, &[7; 1337]), 0x4000);
    let mut frame = Frame::from_packet(&big);
    let verdict = world(config).process_frame(&mut frame);
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    assert_eq!(reply.kind, ReplyKind::Error(IcmpError::TooBig { mtu: 1380 }));
    assert_eq!(frame.packet()[28..], big[..frame.len() - 28]);
}
