//! The packets of checks: each follows its pin, and nothing of it is remembered or counted as a client's.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::Icmpv4Type;
use etherparse::icmpv4::DestUnreachableHeader;
use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{
    ClusterConfig, HostView, Path, Persistence, RealServerConfig, VirtualServiceConfig,
};
use lvs_tund::director::path_errors::{Kind, Outcome};
use lvs_tund::director::pins::Pinned;
use lvs_tund::director::route::{Fit, FoundBy, Way};
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Route, Tracking, Verdict};
use lvs_tund::metrics::counters::DirectorCounters;
use lvs_tund::packet::{Flow, Protocol, protocol};
use lvs_tund::time::Moment;

mod support;

use support::packets::*;
use support::world::World;

const PORT: u16 = 61_000;
const SECOND: Duration = Duration::from_secs(1);

/// TCP 80 over server2 and server3, which is quiesced; persistent, so that a client's connection leaves a template.
fn config() -> ClusterConfig {
    let server = |rip: Ipv4Addr, weight| RealServerConfig::new(rip.into(), weight);
    let web = VirtualServiceConfig {
        real_servers: vec![server(SERVER2, 1), server(SERVER3, 0)],
        persistence: Some(Persistence::default()),
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, &rr::ROW)
    };
    ClusterConfig { virtual_services: vec![web], ..ClusterConfig::default() }
}

fn host() -> HostView {
    let path = Path { source: DIRECTOR, mtu: 1500 };
    HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: [(SERVER2.into(), path), (SERVER3.into(), path)].into(),
        ..HostView::default()
    }
}

fn world() -> World {
    World::new(config(), host(), Tables::new(1000, 7))
}

fn flow(number: u8, port: u16, vip_port: u16) -> Flow {
    Flow { protocol: number, client: DIRECTOR.into(), client_port: port, vip: VIP.into(), vip_port }
}

fn web() -> Flow {
    flow(protocol::TCP, PORT, 80)
}

impl World {
    fn pin(&self, flow: Flow, rip: Ipv4Addr) -> Pinned {
        let cluster = self.cluster.load();
        let server = cluster.real_server_at(rip).expect("a real server");
        self.tables.pins.pin(flow, server, self.now.after(SECOND), self.now)
    }

    fn route_of(&mut self, packet: &[u8]) -> Result<Route, DropReason> {
        match self.process(packet).0 {
            Verdict::Transmit(route) => Ok(route),
            Verdict::Drop(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }
}

fn segment(port: u16, flags: u8) -> Vec<u8> {
    tcp_between(DIRECTOR, port, VIP, 80, flags, b"")
}

#[test]
fn a_pinned_flow_goes_to_its_real_server_whatever_its_weight() {
    for rip in [SERVER2, SERVER3] {
        let mut world = world();
        let _pinned = world.pin(web(), rip);
        for flags in [SYN, ACK, FIN | ACK, RST] {
            let packet = segment(PORT, flags);
            let (verdict, out) = world.process(&packet);
            let Verdict::Transmit(route) = verdict else { panic!("{verdict:?}") };
            assert_eq!((route.rip, route.found_by, route.tracking), (rip, FoundBy::Probe, Tracking::None));
            let (outer, inner) = etherparse::Ipv4Header::from_slice(&out).unwrap();
            assert_eq!((outer.source, outer.destination), (DIRECTOR.octets(), rip.octets()));
            assert_eq!(inner, packet, "the inner packet is not touched");
        }
    }
}

#[test]
fn a_probe_is_remembered_and_counted_nowhere_but_among_the_probes() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER2);
    let (verdict, _) = world.process(&segment(PORT, SYN));
    let server = world.cluster.load().real_server_at(SERVER2).unwrap().clone();
    assert_eq!((world.tables.connections.len(), world.tables.templates.len()), (0, 0));
    assert_eq!((server.live.connections(), server.live.persistent()), (0, 0));
    let Verdict::Transmit(route) = verdict else { panic!("{verdict:?}") };
    let counters = DirectorCounters::default();
    counters.count(&verdict, 44);
    assert_eq!(
        (counters.received.packets.get(), counters.transmitted.get(), counters.probes.get()),
        (1, 1, 1)
    );
    assert_eq!((counters.stateless.get(), counters.flood.get()), (0, 0));
    assert_eq!(counters.real_servers.read(route.real_server.index()), (0, 0));
    assert_eq!(counters.virtual_services.read(route.virtual_service.into()), (0, 0));
    // The same packet of a client is counted.
    let (verdict, _) = world.process(&tcp(SYN, b""));
    counters.count(&verdict, 44);
    assert_eq!((counters.transmitted.get(), counters.probes.get()), (2, 1));
    assert_eq!(counters.real_servers.read(route.real_server.index()), (1, 44));
    assert_eq!((world.tables.connections.len(), world.tables.templates.len()), (1, 1));
}

#[test]
fn a_flow_is_pinned_exactly_and_everything_else_of_this_host_is_refused() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER2);
    let martian = Err(DropReason::MartianSource);
    assert!(world.route_of(&segment(PORT, SYN)).is_ok());
    assert_eq!(world.route_of(&segment(PORT + 1, SYN)).map(|_| ()), martian);
    assert_eq!(world.route_of(&tcp_between(DIRECTOR, PORT, VIP, 81, SYN, b"")).map(|_| ()), martian);
    // A client's packet with the port of a probe is a client's.
    let client = world.route_of(&tcp_between(CLIENT, PORT, VIP, 80, SYN, b"")).unwrap();
    assert_eq!((client.found_by, client.tracking), (FoundBy::Scheduler, Tracking::New));
    // A port outside the range is no probe's, even if it is pinned.
    let _outside = world.pin(flow(protocol::TCP, 60_999, 80), SERVER2);
    assert_eq!(world.route_of(&segment(60_999, SYN)).map(|_| ()), martian);
    // A client's flow is not looked up among the pins.
    let of_client = Flow { client: CLIENT.into(), client_port: PORT + 5, ..web() };
    let _of_client = world.pin(of_client, SERVER3);
    let client = world.route_of(&tcp_between(CLIENT, PORT + 5, VIP, 80, SYN, b"")).unwrap();
    assert_eq!(client.rip, SERVER2);
}

#[test]
fn a_probe_may_go_to_a_port_without_a_virtual_service() {
    let mut world = world();
    let _tcp = world.pin(flow(protocol::TCP, PORT, 8080), SERVER3);
    let _udp = world.pin(flow(protocol::UDP, PORT, 53), SERVER2);
    let _echo = world.pin(flow(protocol::ICMP, PORT, 0), SERVER3);
    let rip = |world: &mut World, packet: &[u8]| world.route_of(packet).unwrap().rip;
    assert_eq!(rip(&mut world, &tcp_between(DIRECTOR, PORT, VIP, 8080, SYN, b"")), SERVER3);
    assert_eq!(rip(&mut world, &udp_between(DIRECTOR, PORT, 53, b"query")), SERVER2);
    let [high, low] = PORT.to_be_bytes();
    let ping = icmp(8, 0, [high, low, 0, 1], b"ping");
    let ping = changed(&ping, |bytes| bytes[12..16].copy_from_slice(&DIRECTOR.octets()));
    assert_eq!(rip(&mut world, &ping), SERVER3);
}

#[test]
fn a_pin_ends_at_its_deadline_or_when_its_holder_lets_it_go() {
    let mut world = world();
    let pinned = world.pin(web(), SERVER2);
    world.now = Moment::from_millis(1999);
    assert!(world.route_of(&segment(PORT, ACK)).is_ok());
    world.now = Moment::from_secs(2);
    assert_eq!(world.route_of(&segment(PORT, ACK)).map(|_| ()), Err(DropReason::MartianSource));
    drop(pinned);
    assert!(world.tables.pins.is_empty());
    let pinned = world.pin(web(), SERVER2);
    pinned.end_at(world.now.after(SECOND / 2));
    assert!(world.route_of(&segment(PORT, RST)).is_ok(), "the last segment is still in flight");
    world.now = world.now.after(SECOND / 2);
    assert_eq!(world.route_of(&segment(PORT, RST)).map(|_| ()), Err(DropReason::MartianSource));
    let pinned = world.pin(web(), SERVER2);
    pinned.end_at(world.now.after(SECOND * 9));
    world.now = world.now.after(SECOND);
    assert!(world.route_of(&segment(PORT, RST)).is_err(), "no later than it was to");
}

#[test]
fn the_end_of_an_earlier_pin_does_not_touch_a_later_one_of_the_same_flow() {
    let mut world = world();
    let (first, second) = (world.pin(web(), SERVER2), world.pin(web(), SERVER2));
    first.end_at(world.now);
    assert_eq!(world.route_of(&segment(PORT, SYN)).unwrap().rip, SERVER2);
    let third = world.pin(web(), SERVER3);
    drop(second);
    assert_eq!(world.route_of(&segment(PORT, SYN)).unwrap().rip, SERVER3);
    assert_eq!(third.flow(), &web());
    drop(third);
    assert_eq!(world.tables.pins.len(), 0);
}

#[test]
fn expired_pins_are_removed_while_others_are_added() {
    let mut world = world();
    for round in 0..20u16 {
        for port in 0..100 {
            world.pin(flow(protocol::TCP, PORT + round * 100 + port, 80), SERVER2).end_at(world.now);
        }
        world.now = world.now.after(SECOND);
    }
    let kept = world.tables.pins.len();
    assert!(kept < 400, "{kept} of 2000 expired pins are left");
}

#[test]
fn a_pin_follows_its_real_server_into_the_next_snapshots() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER3);
    let mut renamed = config();
    renamed.virtual_services[0].real_servers[1].weight = 5;
    world.succeed(renamed, host());
    assert_eq!(world.route_of(&segment(PORT, ACK)).unwrap().rip, SERVER3);
    // Another virtual service has it: another slot, the same path.
    let mut moved = config();
    moved.virtual_services[0].real_servers.truncate(1);
    let servers = vec![RealServerConfig::new(SERVER3.into(), 1)];
    moved.virtual_services.push(VirtualServiceConfig {
        real_servers: servers,
        ..VirtualServiceConfig::new("mail", Protocol::Tcp, VIP.into(), 25, &rr::ROW)
    });
    world.succeed(moved, host());
    world.end_every_grace();
    assert_eq!(world.route_of(&segment(PORT, ACK)).unwrap().rip, SERVER3);
}

#[test]
fn a_probe_of_a_real_server_that_has_left_or_become_this_host_is_dropped() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER3);
    let mut without = config();
    without.virtual_services[0].real_servers.truncate(1);
    world.succeed(without, host());
    assert_eq!(world.route_of(&segment(PORT, ACK)).map(|_| ()), Err(DropReason::ProbeStale), "awaited");
    world.end_every_grace();
    assert_eq!(world.route_of(&segment(PORT, ACK)).map(|_| ()), Err(DropReason::ProbeStale), "gone");
    let here = HostView { local_rips: [SERVER3.into()].into(), ..host() };
    world.succeed(config(), here);
    assert_eq!(world.route_of(&segment(PORT, ACK)).map(|_| ()), Err(DropReason::ProbeStale), "this host");
    world.succeed(config(), host());
    assert_eq!(world.route_of(&segment(PORT, ACK)).unwrap().rip, SERVER3, "it is back");
}

#[test]
fn the_fragments_of_a_probe_follow_the_first_one() {
    let mut world = world();
    let _pinned = world.pin(flow(protocol::UDP, PORT, 53), SERVER2);
    let whole = udp_between(DIRECTOR, PORT, 53, &[7; 16]);
    let (first, later) = (as_fragment(&whole, 0x2000), as_fragment(&whole, 0x0003));
    assert_eq!(world.route_of(&later).map(|_| ()), Err(DropReason::MartianSource), "the first is unknown");
    assert_eq!(world.route_of(&first).unwrap().rip, SERVER2);
    let route = world.route_of(&later).unwrap();
    assert_eq!((route.rip, route.found_by, route.tracking), (SERVER2, FoundBy::Probe, Tracking::None));
    // Those of a client are a client's.
    let whole = udp_between(CLIENT, PORT, 53, &[7; 16]);
    assert!(!matches!(world.process(&as_fragment(&whole, 0x0003)).0, Verdict::Transmit(_)));
}

#[test]
fn a_probe_that_does_not_fit_the_path_is_answered_like_a_clients_packet() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER2);
    let large = as_fragment(&tcp_between(DIRECTOR, PORT, VIP, 80, ACK, &[7; 1460]), 0x4000);
    let (verdict, out) = world.process(&large);
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    assert_eq!((reply.to, reply.reason), (DIRECTOR.into(), Some(DropReason::TooBig)));
    assert!(matches!(reply.kind, ReplyKind::Error(_)));
    assert_eq!(out[26..28], 1480u16.to_be_bytes(), "the next hop's MTU");
    let route = world.route_of(&as_fragment(&large, 0)).unwrap();
    let Way::Wrapped(wrapping) = route.way else { panic!("{route:?}") };
    assert_eq!(wrapping.fit, Fit::CutInner);
    let pieces = world.due();
    assert!(pieces.iter().all(|extra| matches!(extra, Extra::Piece { .. })) && !pieces.is_empty());
}

/// The error that a router, or the real server's host, sends about the wrapped packet.
fn error_about(kind: u8, code: u8, inner: &[u8]) -> Vec<u8> {
    let outer = ip(DIRECTOR, SERVER2, 4, inner);
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(outer);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(SERVER2, DIRECTOR, 1, &message)
}

/// The type of the answer, and the packet that it quotes.
fn told(answer: &[u8]) -> (Icmpv4Type, Vec<u8>) {
    let (header, payload) = etherparse::Ipv4Header::from_slice(answer).unwrap();
    assert_eq!((header.source, header.destination), (VIP.octets(), DIRECTOR.octets()));
    let message = etherparse::Icmpv4Slice::from_slice(payload).unwrap();
    (message.icmp_type(), message.payload().to_vec())
}

#[test]
fn an_error_from_the_path_reaches_the_check_at_once() {
    let probe = segment(PORT, SYN);
    let [high, low] = PORT.to_be_bytes();
    let ping = icmp(8, 0, [high, low, 0, 1], b"ping");
    let ping = changed(&ping, |bytes| bytes[12..16].copy_from_slice(&DIRECTOR.octets()));
    let unreachable = Icmpv4Type::DestinationUnreachable;
    let rows = [
        ("protocol unreachable", 3, 2, Outcome::Noted, unreachable(DestUnreachableHeader::Protocol)),
        ("host unreachable", 3, 1, Outcome::Relayed, unreachable(DestUnreachableHeader::Host)),
        ("net unreachable", 3, 0, Outcome::Relayed, unreachable(DestUnreachableHeader::Network)),
    ];
    for (name, kind, code, outcome, expected) in rows {
        for inner in [&probe, &ping] {
            let mut world = world();
            let message = error_about(kind, code, inner);
            let heard = world.hear(&message);
            assert_eq!(heard.answer, None, "{name}: no pin, no answer");
            let _web = world.pin(web(), SERVER2);
            let _echo = world.pin(flow(protocol::ICMP, PORT, 0), SERVER2);
            let heard = world.hear(&message);
            let (answer, to) = heard.answer.expect(name);
            assert_eq!((to, told(&answer)), (DIRECTOR.into(), (expected.clone(), inner.clone())), "{name}");
            assert_eq!(heard.outcome, outcome, "{name}");
            assert!(heard.real_server.is_some());
        }
    }
}

#[test]
fn an_error_about_a_probe_changes_what_is_known_of_the_path_as_any_other() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER2);
    let heard = world.hear(&error_about(3, 2, &segment(PORT, SYN)));
    assert_eq!(heard.kind, Kind::ProtocolUnreachable);
    assert!(world.cluster.load().real_server_at(SERVER2).unwrap().soft.is_suspect(world.now));
    let large = as_fragment(&tcp_between(DIRECTOR, PORT, VIP, 80, ACK, &[7; 1400]), 0x4000);
    let mut too_big = error_about(3, 4, &large);
    too_big[26..28].copy_from_slice(&1400u16.to_be_bytes());
    // DF in the quoted outer header, and both checksums.
    too_big[20 + 8 + 6] = 0x40;
    finish_header(&mut too_big[28..]);
    too_big[22..24].fill(0);
    let sum = checksum(&too_big[20..]);
    too_big[22..24].copy_from_slice(&sum.to_be_bytes());
    let heard = world.hear(&too_big);
    assert_eq!(world.cluster.load().real_server_at(SERVER2).unwrap().path_mtu(world.now), 1400);
    let (answer, to) = heard.answer.expect("the check learns the size");
    let fits = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1380 };
    assert_eq!((to, told(&answer).0), (DIRECTOR.into(), Icmpv4Type::DestinationUnreachable(fits)));
}

#[test]
fn an_error_about_another_real_servers_path_is_not_about_this_probe() {
    let mut world = world();
    let _pinned = world.pin(web(), SERVER3);
    let heard = world.hear(&error_about(3, 1, &segment(PORT, SYN)));
    assert_eq!((heard.outcome, heard.answer), (Outcome::Mismatch, None));
}
