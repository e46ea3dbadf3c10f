//! Where a VIP is an address of the director's host: what belongs to no virtual service is the host's, and a real server
//! may be the host itself.

use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{
    ClusterConfig, HostView, OnRemoved, Path, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use lvs_tund::director::route::{Route, Tracking, Way};
use lvs_tund::director::scheduler::find;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Verdict};
use lvs_tund::packet::frame::{PartialChecksum, SegmentKind, Segments};
use lvs_tund::packet::{Frame, Offload, Protocol};

mod support;

use support::packets::*;
use support::world::World;

const LOCAL: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

fn service(name: &str, protocol: Protocol, port: u16, scheduler: &'static str) -> VirtualServiceConfig {
    VirtualServiceConfig {
        real_servers: vec![RealServerConfig::new(SERVER2.into(), 1)],
        ..VirtualServiceConfig::new(name, protocol, VIP.into(), port, find(scheduler).expect("a scheduler"))
    }
}

fn config() -> ClusterConfig {
    let services = vec![
        service("web", Protocol::Tcp, 80, "rr"),
        service("hashed", Protocol::Tcp, 82, "mh"),
        VirtualServiceConfig { unknown_tcp: UnknownTcp::Drop, ..service("silent", Protocol::Tcp, 83, "rr") },
        service("dns", Protocol::Udp, 53, "rr"),
    ];
    ClusterConfig { virtual_services: services, ..ClusterConfig::default() }
}

/// A host with the VIP, if it `is_local`.
fn host(is_local: bool) -> HostView {
    HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: [(SERVER2.into(), Path { source: DIRECTOR, mtu: 1500 })].into(),
        local_vips: is_local.then_some(VIP.into()).into_iter().collect(),
        local_rips: [LOCAL.into()].into(),
        ..HostView::default()
    }
}

fn world(is_local: bool) -> World {
    World::new(config(), host(is_local), Tables::new(1000, 7))
}

/// A packet is handed up as it came.
#[track_caller]
fn assert_passed(world: &mut World, packet: &[u8], name: &str) {
    let (verdict, out) = world.process(packet);
    assert_eq!(verdict, Verdict::Pass, "{name}");
    assert_eq!(out, packet, "{name}: unchanged");
}

fn segment(port: u16, flags: u8) -> Vec<u8> {
    tcp_between(CLIENT, 40_000, VIP, port, flags, b"")
}

fn about(sent: &[u8]) -> Vec<u8> {
    icmp(3, 4, [0, 0, 5, 0], sent)
}

/// What the host sent from this port of the VIP.
fn sent_from(port: u16) -> Vec<u8> {
    tcp_between(VIP, port, CLIENT, 40_000, ACK, b"data")
}

/// Name, packet, and what happens to it where the VIP is not an address of the host.
fn of_the_host() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let none = "no_service";
    vec![
        ("a SYN to another port", segment(22, SYN), none),
        ("a segment for another port", segment(22, ACK | PSH), none),
        ("a reset for another port", segment(22, RST), none),
        ("flags of a scan for another port", segment(22, SYN | FIN), "bad_tcp_flags"),
        ("a datagram for another port", udp(123, b"time"), none),
        ("a datagram for the port of a TCP service", udp(80, b"quic"), none),
        ("an answer to a query of the host", changed_ports(&udp(50_000, b"answer"), 53), none),
        ("a port of 0", segment(0, SYN), "port_zero"),
        ("an echo request", icmp(8, 0, [0, 1, 0, 1], b"ping"), "echo_reply"),
        ("an echo reply", icmp(0, 0, [0, 1, 0, 1], b"ping"), "icmp_ignored"),
        ("a timestamp request", icmp(13, 0, [0; 4], &[0; 12]), "icmp_ignored"),
        ("an error about a connection of the host", about(&sent_from(22)), "no_connection"),
        ("an error about a service's port, without a connection", about(&sent_from(80)), "no_connection"),
        (
            "an error about what another address sent",
            about(&tcp_between(SERVER2, 80, CLIENT, 1, ACK, b"")),
            "icmp_mismatch",
        ),
        ("an error that quotes too little", icmp(3, 3, [0; 4], b"short"), "truncated_icmp"),
        ("SCTP", ip(CLIENT, VIP, 132, &[0; 12]), none),
        ("GRE", ip(CLIENT, VIP, 47, &[0; 12]), "nested_tunnel"),
        ("IP in IP", ip(CLIENT, VIP, 4, &segment(80, SYN)), "nested_tunnel"),
        ("a source route", with_options(&segment(22, SYN), &[131, 3, 4, 0]), "source_route"),
        ("a header of TCP that is cut short", ip(CLIENT, VIP, 6, &segment(22, SYN)[20..30]), "truncated_l4"),
        ("ports alone", ip(CLIENT, VIP, 6, &segment(22, SYN)[20..24]), "truncated_l4"),
        ("not even ports", ip(CLIENT, VIP, 6, &segment(80, SYN)[20..23]), "truncated_l4"),
        ("from the host's own address", ip(DIRECTOR, VIP, 17, &udp(123, b"")[20..]), "martian_source"),
        ("with a TTL of 0", changed(&udp(123, b""), |bytes| bytes[8] = 0), "ttl_expired"),
    ]
}

/// With another source port.
fn changed_ports(packet: &[u8], source: u16) -> Vec<u8> {
    changed(packet, |bytes| {
        bytes[20..22].copy_from_slice(&source.to_be_bytes());
        finish_transport(bytes);
    })
}

#[test]
fn what_belongs_to_no_virtual_service_is_the_hosts_where_the_vip_is_its_address() {
    for (name, packet, otherwise) in of_the_host() {
        assert_passed(&mut world(true), &packet, name);
        let word = match world(false).process(&packet).0 {
            Verdict::Drop(reason) => reason.label(),
            Verdict::Reply(reply) => reply.reason.map_or(reply.kind.label(), DropReason::label),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(word, otherwise, "{name}");
    }
}

#[test]
fn what_belongs_to_a_virtual_service_is_judged_as_everywhere() {
    let cases = [
        ("flags of a scan", segment(80, SYN | FIN), "bad_tcp_flags"),
        ("a source route", with_options(&segment(80, SYN), &[131, 3, 4, 0]), "source_route"),
        ("a header that is cut short", ip(CLIENT, VIP, 6, &segment(80, SYN)[20..30]), "truncated_l4"),
        ("ports alone", ip(CLIENT, VIP, 6, &segment(80, SYN)[20..24]), "truncated_l4"),
        ("a datagram that is cut short", ip(CLIENT, VIP, 17, &udp(53, b"query")[20..26]), "truncated_l4"),
        ("a scan without flags", segment(80, 0), "bad_tcp_flags"),
        ("a segment that the service drops", segment(83, ACK), "no_connection"),
        ("an answer that the service drops", segment(83, SYN | ACK), "no_connection"),
    ];
    for (name, packet, reason) in cases {
        for is_local in [true, false] {
            let verdict = world(is_local).process(&packet).0;
            assert!(
                matches!(verdict, Verdict::Drop(found) if found.label() == reason),
                "{name}: {verdict:?}"
            );
        }
    }
    for packet in [segment(80, SYN), udp(53, b"query"), segment(82, ACK)] {
        let verdict = world(true).process(&packet).0;
        assert!(matches!(verdict, Verdict::Transmit(Route { rip: SERVER2, .. })), "{verdict:?}");
    }
    let mut world = world(true);
    world.process(&segment(80, SYN));
    let error = about(&sent_from(80));
    assert!(matches!(world.process(&error).0, Verdict::Transmit(Route { rip: SERVER2, .. })));
    assert_eq!(world.process(&segment(80, ACK)).0.tracking(), Some(Tracking::Known));
}

/// The connection may be older than the service, or the host may have opened it from the service's port.
#[test]
fn a_segment_of_an_unknown_connection_on_a_services_port_is_the_hosts() {
    for (port, flags) in [
        (80, ACK),
        (80, ACK | FIN),
        (80, RST),
        (80, RST | ACK),
        (80, SYN | ACK),
        // By hash goes what a client may have sent.
        (82, SYN | ACK),
    ] {
        assert_passed(&mut world(true), &segment(port, flags), &format!("{port} {flags:#x}"));
        assert_ne!(world(false).process(&segment(port, flags)).0, Verdict::Pass);
    }
}

#[test]
fn a_vip_that_comes_and_goes_is_the_hosts_while_it_is_there() {
    let mut world = world(false);
    let ping = icmp(8, 0, [0, 1, 0, 1], b"ping");
    for is_local in [true, false, true] {
        world.succeed(config(), host(is_local));
        let (verdict, _) = world.process(&ping);
        let is_answered = matches!(verdict, Verdict::Reply(reply) if reply.kind == ReplyKind::EchoReply);
        assert_eq!((verdict == Verdict::Pass, is_answered), (is_local, !is_local));
    }
    // Its last service is removed, and it is still captured.
    let lingering = HostView { lingering_vips: [VIP.into()].into(), ..host(true) };
    world.succeed(ClusterConfig::default(), lingering);
    assert_passed(&mut world, &segment(80, SYN), "the port that had a service");
}

fn first(packet: &[u8], id: u16) -> Vec<u8> {
    with_id(&as_fragment(packet, 0x2000), id)
}

fn later(protocol: u8, id: u16) -> Vec<u8> {
    with_id(&as_fragment(&ip(CLIENT, VIP, protocol, &[7; 64]), 100), id)
}

fn with_id(packet: &[u8], id: u16) -> Vec<u8> {
    changed(packet, |bytes| {
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        finish_header(bytes);
    })
}

#[test]
fn later_fragments_follow_a_first_one_to_the_host() {
    let firsts = [
        ("a datagram", 17, udp(123, &[7; 64])),
        ("an echo request", 1, icmp(8, 0, [0, 1, 0, 1], &[7; 64])),
        ("an echo reply", 1, icmp(0, 0, [0, 1, 0, 1], &[7; 64])),
        ("SCTP", 132, ip(CLIENT, VIP, 132, &[7; 64])),
        ("a first fragment with ports alone", 6, ip(CLIENT, VIP, 6, &segment(22, SYN)[20..28])),
        ("a segment of no connection", 6, tcp_between(CLIENT, 40_000, VIP, 80, ACK, &[7; 64])),
        ("an error about no connection", 1, about(&[&sent_from(80)[..], &[7; 8]].concat())),
    ];
    for (id, (name, protocol, packet)) in (1..).zip(firsts) {
        let mut world = world(true);
        assert_passed(&mut world, &first(&packet, id), name);
        assert_passed(&mut world, &later(protocol, id), name);
        assert_eq!(world.process(&later(protocol, id + 1)).0, Verdict::Hold, "{name}: of another packet");
        // One that comes early waits, and is passed then.
        assert_eq!(world.process(&later(protocol, 100)).0, Verdict::Hold, "{name}");
        assert_passed(&mut world, &first(&packet, 100), name);
        let due = world.due();
        let [Extra::Late { frame, verdict: Verdict::Pass, .. }] = &due[..] else { panic!("{name}: late") };
        assert_eq!(frame.packet(), later(protocol, 100), "{name}");
    }
}

#[test]
fn a_fragment_that_no_host_should_accept_is_the_hosts_unless_its_first_went_to_a_real_server() {
    let overflowing = |id| with_id(&as_fragment(&ip(CLIENT, VIP, 17, &[7; 64]), 0x1fff), id);
    let mut world = world(true);
    assert!(matches!(world.process(&first(&udp(53, &[7; 64]), 1)).0, Verdict::Transmit(_)));
    assert_eq!(world.process(&overflowing(1)).0, Verdict::Drop(DropReason::FragmentOverflow));
    assert_passed(&mut world, &overflowing(2), "of no known packet");
    assert_eq!(world.process(&later(17, 2)).0, Verdict::Hold, "one that overflows decides for no other");
    assert_passed(&mut world, &first(&udp(123, &[7; 64]), 3), "the host's");
    assert_passed(&mut world, &overflowing(3), "after the host's");
}

#[test]
fn a_packet_of_the_host_keeps_what_its_device_reported_about_it() {
    let offload = Offload {
        checksum: Some(PartialChecksum { start: 20, field: 36 }),
        segments: Some(Segments { kind: SegmentKind::TcpV4, size: 1000, header_length: 40 }),
    };
    let mut services = config();
    services.virtual_services[0].real_servers = vec![RealServerConfig::new(LOCAL.into(), 1)];
    for (port, flags, is_passed) in [(22, ACK, true), (80, SYN, false)] {
        let mut world = World::new(services.clone(), host(true), Tables::new(1000, 7));
        let packet = tcp_between(CLIENT, 40_000, VIP, port, flags, &[7; 3000]);
        let mut frame = Frame::from_packet(&packet);
        frame.offload = offload;
        assert_eq!(world.process_frame(&mut frame) == Verdict::Pass, is_passed);
        assert_eq!((frame.packet(), frame.offload), (&packet[..], offload), "port {port}");
    }
}

/// With one real server on the host and one elsewhere.
fn both(is_local: bool) -> (ClusterConfig, HostView) {
    let mut config = config();
    config.virtual_services[0].real_servers.push(RealServerConfig::new(LOCAL.into(), 1));
    (config, host(is_local))
}

fn way_of(verdict: &Verdict) -> Option<bool> {
    match verdict {
        Verdict::Transmit(route) => Some(matches!(route.way, Way::Local)),
        _ => None,
    }
}

#[test]
fn a_real_server_on_the_host_gets_its_share_as_it_came() {
    let (config, host) = both(true);
    let mut world = World::new(config, host, Tables::new(1000, 7));
    let mut local = 0;
    for port in 1..=10u16 {
        let syn = tcp_between(CLIENT, port, VIP, 80, SYN, b"");
        let (verdict, out) = world.process(&syn);
        let Verdict::Transmit(route) = verdict else { panic!("{verdict:?}") };
        assert_eq!(route.tracking, Tracking::New);
        assert_eq!(route.way == Way::Local, route.rip == LOCAL);
        if route.rip == LOCAL {
            local += 1;
            assert_eq!(out, syn);
            let large = tcp_between(CLIENT, port, VIP, 80, ACK, &[7; 9000]);
            let large = as_fragment(&large, 0x4000);
            assert_eq!(
                world.process(&large),
                (
                    Verdict::Transmit(Route {
                        tracking: Tracking::Known,
                        found_by: lvs_tund::director::route::FoundBy::Entry,
                        ..route
                    }),
                    large.clone()
                ),
                "whatever its size"
            );
            let sent = tcp_between(VIP, 80, CLIENT, port, ACK, b"data");
            assert_eq!(way_of(&world.process(&about(&sent)).0), Some(true), "an error about it");
        }
    }
    assert_eq!(local, 5);
    let cluster = world.cluster.load();
    let server = cluster.real_servers().find(|server| server.rip == LOCAL).expect("the local one");
    assert_eq!((server.live.active(), server.is_present(), server.weight()), (5, true, 1));
}

#[test]
fn a_real_server_on_a_host_without_the_vip_gets_no_connections_and_no_packets() {
    let (config, without) = both(false);
    let with = both(true).1;
    let mut world = World::new(config.clone(), without.clone(), Tables::new(1000, 7));
    let syn = |port| tcp_between(CLIENT, port, VIP, 80, SYN, b"");
    let ways = |world: &mut World, ports: std::ops::Range<u16>| -> Vec<Option<bool>> {
        ports.map(|port| way_of(&world.process(&syn(port)).0)).collect()
    };
    assert_eq!(ways(&mut world, 1..5), [Some(false); 4]);
    world.succeed(config.clone(), with);
    let found = ways(&mut world, 11..15);
    assert_eq!(found.iter().filter(|way| **way == Some(true)).count(), 2);
    let local =
        11 + found.iter().position(|way| *way == Some(true)).expect("a connection of the host") as u16;
    world.succeed(config, without);
    let segment = tcp_between(CLIENT, local, VIP, 80, ACK, b"");
    assert_eq!(world.process(&segment).0, Verdict::Drop(DropReason::VipNotLocal));
    assert_eq!(ways(&mut world, 21..25), [Some(false); 4]);
}

/// A service of two VIPs, of which the host has one.
#[test]
fn a_host_with_some_of_the_vips_gets_no_connections_and_only_its_own_packets() {
    let (mut config, mut host) = both(true);
    let other = std::net::Ipv4Addr::new(172, 25, 3, 101);
    let matcher = config.virtual_services[0].matchers[0];
    let second = lvs_tund::director::cluster::Matcher { vip: other.into(), ..matcher };
    config.virtual_services[0].matchers.push(second);
    let mut world = World::new(config.clone(), host.clone(), Tables::new(1000, 7));
    let to = |vip, port, client| tcp_between(CLIENT, client, vip, port, SYN, b"");
    for client in 1..5 {
        assert_eq!(way_of(&world.process(&to(VIP, 80, client)).0), Some(false));
        assert_eq!(way_of(&world.process(&to(other, 80, client)).0), Some(false));
    }
    assert_passed(&mut world, &to(VIP, 22, 1), "of the host's VIP");
    assert!(matches!(world.process(&to(other, 22, 1)).0, Verdict::Reply(_)), "of the other");
    host.local_vips.insert(other.into());
    world.succeed(config, host);
    let ways: Vec<_> = (11..15).map(|client| way_of(&world.process(&to(other, 80, client)).0)).collect();
    assert!(ways.contains(&Some(true)) && ways.contains(&Some(false)), "{ways:?}");
}

#[test]
fn a_service_whose_only_real_server_is_a_host_without_the_vip_is_unreachable() {
    let (mut config, host) = both(false);
    config.virtual_services[0].real_servers.remove(0);
    let mut world = World::new(config, host, Tables::new(1000, 7));
    let verdict = world.process(&segment(80, SYN)).0;
    assert!(matches!(verdict, Verdict::Reply(reply) if reply.reason == Some(DropReason::NoRealServer)));
}

#[test]
fn a_rip_that_becomes_or_stops_being_an_address_of_the_host_changes_the_way_of_known_connections() {
    let (mut config, local) = both(true);
    config.virtual_services[0].on_removed = OnRemoved::Keep;
    config.virtual_services[0].real_servers.remove(0);
    let remote = HostView { local_rips: Default::default(), ..local.clone() };
    let mut world = World::new(config.clone(), local.clone(), Tables::new(1000, 7));
    assert_eq!(way_of(&world.process(&segment(80, SYN)).0), Some(true));
    world.succeed(config.clone(), remote.clone());
    assert_eq!(way_of(&world.process(&segment(80, ACK)).0), Some(false));
    config.virtual_services[0].real_servers.clear();
    for (host, is_local) in [(local, true), (remote, false)] {
        world.succeed(config.clone(), host);
        assert_eq!(way_of(&world.process(&segment(80, ACK)).0), Some(is_local), "one that was removed");
    }
}

trait HasTracking {
    fn tracking(&self) -> Option<Tracking>;
}

impl HasTracking for Verdict {
    fn tracking(&self) -> Option<Tracking> {
        match self {
            Verdict::Transmit(route) => Some(route.tracking),
            _ => None,
        }
    }
}

/// `ipvsadm -D` and `-A`: meanwhile the host has the VIP, and would reset the connection.
#[test]
fn a_connection_of_a_service_that_was_removed_waits_and_the_hosts_own_packets_pass() {
    let mut world = world(true);
    for flags in [SYN, ACK] {
        assert!(matches!(world.send(&segment(80, flags)), Verdict::Transmit(_)));
    }
    world.succeed(ClusterConfig::default(), HostView { lingering_vips: [VIP.into()].into(), ..host(true) });
    assert_eq!(world.send(&segment(80, ACK)), Verdict::Drop(DropReason::ConnectionWaits));
    assert_passed(&mut world, &tcp_between(CLIENT, 40_001, VIP, 80, SYN, b""), "another client");
    assert_passed(&mut world, &segment(22, ACK), "another port");
    world.succeed(config(), host(true));
    let Verdict::Transmit(Route { tracking, .. }) = world.send(&segment(80, ACK)) else { panic!("lost") };
    assert_eq!(tracking, Tracking::Known);
}
