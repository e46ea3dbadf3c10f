//! A route is a value: what the director did to a packet can be done again from the verdict alone.

use std::collections::VecDeque;
use std::net::IpAddr;

use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::reply::IcmpError;
use lvs_tund::director::route::apply::apply;
use lvs_tund::director::route::{Fit, Route, Way, Wrapping};
use lvs_tund::director::scheduler::wlc;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{ReplyKind, Verdict};
use lvs_tund::encapsulation::identification::Identifications;
use lvs_tund::encapsulation::{CannotEncapsulate, DEFAULT, Ttl};
use lvs_tund::packet::frame::{SegmentKind, Segments};
use lvs_tund::packet::{Frame, Malformed, Offload, Protocol};

mod support;

use support::packets::*;
use support::world::World;

const PATH: Path = Path { source: DIRECTOR, mtu: 1400 };

fn world(config: ClusterConfig) -> World {
    let service = VirtualServiceConfig {
        real_servers: vec![RealServerConfig::new(SERVER2.into(), 1)],
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, &wlc::ROW)
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
        Extra::ErrorToSender { .. } | Extra::Late { .. } => panic!("only pieces"),
    });
    (route, leaving(&frame, pieces))
}

/// The route with another wrapping.
fn changed_way(route: &Route, change: impl FnOnce(&mut Wrapping)) -> Route {
    let Way::Wrapped(mut wrapping) = route.way else { panic!("not wrapped") };
    change(&mut wrapping);
    Route { way: Way::Wrapped(wrapping), ..*route }
}

#[test]
fn applying_a_route_again_writes_the_same_packets() {
    let big = |df: u16| as_fragment(&tcp(SYN, &[7; 3000]), df);
    let (may, must_not) = (0, 0x4000);
    let rows = [
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
        ("super-packet", false, big(must_not), segments(1000), Fit::Segments, 3),
        ("super-packet of large segments", false, big(may), segments(1400), Fit::Segments, 5),
        ("the same with DF, ignored", true, big(must_not), segments(1400), Fit::Segments, 5),
    ];
    for (name, ignores_df, packet, offload, fit, count) in rows {
        for decrements_ttl in [false, true] {
            let config =
                ClusterConfig { ignores_df, decrements_ttl, ttl: Ttl::Fixed(9), ..ClusterConfig::default() };
            let (route, packets) = forwarded(config, &packet, offload);
            let expected = Wrapping {
                source: PATH.source,
                rip: SERVER2,
                path_mtu: PATH.mtu,
                ttl: Ttl::Fixed(9),
                encapsulation: DEFAULT,
                ignores_df,
                decrements_ttl,
                fit,
            };
            assert_eq!((route.way, route.rip), (Way::Wrapped(expected), SERVER2), "{name}");
            assert_eq!(packets.len(), count, "{name}");
            assert!(packets.iter().all(|packet| packet.len() <= 1400), "{name}");
            assert_eq!(packets[0][28], 64 - u8::from(decrements_ttl), "{name}: TTL of the inner packet");
            for _ in 0..2 {
                let (mut frame, mut pieces) = (captured(&packet, offload), VecDeque::new());
                apply(&route, &mut frame, &Identifications::new(1), &mut pieces).unwrap();
                assert_eq!(leaving(&frame, pieces.into_iter()), packets, "{name}");
            }
        }
    }
}

/// The frame is not the packet for which the route was decided.
#[test]
fn a_route_writes_nothing_into_bytes_that_are_not_a_packet() {
    let (route, _) = forwarded(ClusterConfig::default(), &tcp(SYN, b""), Offload::default());
    for fit in [Fit::Whole, Fit::CutInner, Fit::CutOuter, Fit::Segments] {
        for decrements_ttl in [false, true] {
            let route = changed_way(&route, |way| (way.fit, way.decrements_ttl) = (fit, decrements_ttl));
            let (mut frame, mut pieces) = (Frame::from_packet(&[0x45; 19]), VecDeque::new());
            let refused = apply(&route, &mut frame, &Identifications::new(1), &mut pieces);
            assert_eq!(refused, Err(CannotEncapsulate::Malformed(Malformed::Truncated)), "{fit:?}");
            assert_eq!((frame.packet(), pieces.len()), (&[0x45; 19][..], 0), "{fit:?}");
        }
    }
}

#[test]
fn a_route_refuses_a_packet_that_it_cannot_wrap_or_cut() {
    let (route, _) = forwarded(ClusterConfig::default(), &tcp(SYN, b""), Offload::default());
    let apply = |route: Route, packet: &[u8], offload| {
        apply(&route, &mut captured(packet, offload), &Identifications::new(1), &mut VecDeque::new())
    };
    let super_packet = changed_way(&route, |way| way.fit = Fit::Segments);
    assert_eq!(apply(super_packet, &tcp(SYN, b""), Offload::default()), Err(CannotEncapsulate::TooBig));
    let expired = changed(&tcp(SYN, b""), |b| b[8] = 0);
    let hop = changed_way(&route, |way| way.decrements_ttl = true);
    assert_eq!(apply(hop, &expired, Offload::default()), Err(CannotEncapsulate::Expired));
    let (whole, too_big) = (tcp(SYN, &[7; 3000]), Err(CannotEncapsulate::TooBig));
    for (name, packet, fit, path_mtu, result) in [
        ("eight bytes fit behind both headers", &whole, Fit::CutInner, 52, Ok(())),
        ("no payload fits behind both headers", &whole, Fit::CutInner, 47, too_big),
        ("eight bytes fit behind the outer header", &whole, Fit::CutOuter, 28, Ok(())),
        ("no payload fits behind the outer header", &whole, Fit::CutOuter, 27, too_big),
        ("nothing to cut", &ip(CLIENT, VIP, 6, b""), Fit::CutInner, 1500, too_big),
        ("a segment that must stay whole fits", &as_fragment(&whole, 0x4000), Fit::Segments, 1064, Ok(())),
        (
            "a segment that must stay whole does not",
            &as_fragment(&whole, 0x4000),
            Fit::Segments,
            1063,
            too_big,
        ),
    ] {
        let route = changed_way(&route, |way| (way.fit, way.path_mtu) = (fit, path_mtu));
        assert_eq!(apply(route, packet, segments(1000)), result, "{name}");
    }
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
