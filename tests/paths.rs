//! The paths to the real servers: ICMP errors about our own outer packets (RFC 2003 §4 and §5, by the rows of
//! standards.md), and what is sent in pieces.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_tund::director::cluster::{
    Cluster, ClusterConfig, HostView, OnRemoved, Path, RealServerConfig, VirtualServiceConfig,
};
use lvs_tund::director::path::errors::{Event, Heard, Kind, Outcome, PathErrors};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Verdict};
use lvs_tund::director::{Director, Extra};
use lvs_tund::packet::frame::{PACKET_MAX, SegmentKind, Segments};
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::time::Moment;

#[path = "support/packets.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod packets;

use packets::*;

const NOW: Moment = Moment::from_secs(1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

struct World {
    director: Director,
    errors: PathErrors,
    cluster: Arc<ArcSwap<Cluster>>,
}

fn config() -> ClusterConfig {
    let server = |rip: Ipv4Addr| RealServerConfig::new(rip.into(), 1);
    let service = |name, protocol, port, scheduler| VirtualServiceConfig {
        real_servers: vec![server(SERVER2), server(SERVER3)],
        ..VirtualServiceConfig::new(name, protocol, VIP.into(), port, scheduler)
    };
    ClusterConfig {
        virtual_services: vec![
            service("web", Protocol::Tcp, 80, "rr"),
            service("dns", Protocol::Udp, 53, "rr"),
            service("hashed", Protocol::Tcp, 443, "mh"),
        ],
        ..ClusterConfig::default()
    }
}

fn world_of(config: ClusterConfig) -> World {
    let path = Path { source: DIRECTOR, mtu: 1500 };
    let host = HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: [(SERVER2.into(), path), (SERVER3.into(), path)].into(),
        ..HostView::default()
    };
    let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config, host)));
    let tables = Arc::new(Tables::new(1000, 7));
    let director = Director::new(cluster.clone(), tables.clone(), 7);
    World { director, errors: PathErrors::new(cluster.clone(), tables), cluster }
}

/// One connection, to server2, of the client's port 40000.
fn world() -> World {
    let mut world = world_of(config());
    for flags in [SYN, ACK] {
        let (verdict, out) = world.handle(&tcp(flags, b""), NOW);
        assert!(matches!(verdict, Verdict::Transmit(_)));
        assert_eq!(out[16..20], SERVER2.octets());
    }
    world
}

impl World {
    fn handle(&mut self, packet: &[u8], now: Moment) -> (Verdict, Vec<u8>) {
        let mut frame = Frame::from_packet(packet);
        let verdict = self.director.handle_packet(&mut frame, now);
        (verdict, frame.packet().to_vec())
    }

    fn extras(&mut self, now: Moment) -> Vec<Extra> {
        std::iter::from_fn(|| self.director.poll_extra(now)).collect()
    }

    fn hear(&mut self, message: &[u8]) -> Heard {
        self.errors.handle_packet(message, NOW)
    }

    fn path_mtu(&self, rip: Ipv4Addr, now: Moment) -> u16 {
        self.cluster.load().real_server_at(rip).unwrap().path_mtu(now)
    }
}

/// A client's packet of 1480 bytes as the director has wrapped it.
fn outer_of(inner: &[u8]) -> Vec<u8> {
    let mut packet = ip(DIRECTOR, SERVER2, 4, inner);
    packet[6] = inner[6];
    finish_header(&mut packet);
    packet
}

fn big() -> Vec<u8> {
    as_fragment(&tcp(ACK, &[7; 1436]), 0x4000)
}

/// What a router on the path says about `quote`.
fn error(kind: u8, code: u8, mtu: u16, quote: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let mut message = vec![kind, code, 0, 0, 0, 0, high, low];
    message.extend(quote);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(ROUTER, DIRECTOR, 1, &message)
}

fn too_big(mtu: u16, quote: &[u8]) -> Vec<u8> {
    error(3, 4, mtu, quote)
}

/// The ICMP error that the client gets: type, code, MTU; everything else about it is checked here.
fn told(packet: &[u8], inner: &[u8]) -> (u8, u8, u16) {
    assert_eq!((checksum(&packet[..20]), checksum(&packet[20..])), (0, 0));
    assert_eq!((packet[9], &packet[12..16], &packet[16..20]), (1, &VIP.octets()[..], &CLIENT.octets()[..]));
    let quote = &packet[28..];
    assert!(quote.len() >= 28 && packet.len() <= 576);
    assert_eq!(quote, &inner[..quote.len()], "it is about the client's own packet");
    (packet[20], packet[21], u16::from_be_bytes([packet[26], packet[27]]))
}

#[test]
fn rfc_2003_section_4_row_by_row() {
    // Name, type, code; what it is taken for, the type and code that the client is told, what becomes of it.
    type Row = (&'static str, u8, u8, Kind, Option<(u8, u8)>, Outcome);
    let rows: &[Row] = &[
        ("2003-10 net unreachable", 3, 0, Kind::Unreachable, Some((3, 0)), Outcome::Relayed),
        ("2003-11 host unreachable", 3, 1, Kind::Unreachable, Some((3, 1)), Outcome::Relayed),
        ("2003-12 protocol unreachable", 3, 2, Kind::ProtocolUnreachable, None, Outcome::Noted),
        ("2003-13 port unreachable", 3, 3, Kind::Other, None, Outcome::Ignored),
        ("2003-15 source route failed", 3, 5, Kind::Other, None, Outcome::Ignored),
        ("administratively prohibited", 3, 13, Kind::Unreachable, Some((3, 1)), Outcome::Relayed),
        ("2003-16 source quench", 4, 0, Kind::Other, None, Outcome::Ignored),
        ("2003-17 redirect", 5, 1, Kind::Other, None, Outcome::Ignored),
        ("2003-18 time exceeded", 11, 0, Kind::TimeExceeded, Some((3, 1)), Outcome::Relayed),
        ("2003-18 reassembly time exceeded", 11, 1, Kind::TimeExceeded, Some((3, 1)), Outcome::Relayed),
        ("2003-19 parameter problem", 12, 0, Kind::Other, None, Outcome::Ignored),
    ];
    let inner = big();
    for (name, kind, code, heard_kind, answer, outcome) in rows {
        let heard = world().hear(&error(*kind, *code, 0, &outer_of(&inner)[..548]));
        assert_eq!((heard.kind, heard.outcome), (*heard_kind, *outcome), "{name}");
        let answered = heard.answer.map(|(packet, to)| {
            assert_eq!(to, CLIENT, "{name}");
            let (kind, code, mtu) = told(&packet, &inner);
            assert_eq!(mtu, 0, "{name}");
            (kind, code)
        });
        assert_eq!(answered, *answer, "{name}");
    }
}

/// 2003-14, 2003-21, 2003-23.
#[test]
fn too_big_is_relayed_less_the_overhead_and_remembered() {
    let (mut world, inner) = (world(), big());
    let heard = world.hear(&too_big(1400, &outer_of(&inner)[..548]));
    assert_eq!(heard.event, Some(Event::MtuLowered { rip: SERVER2, mtu: 1400 }));
    let (packet, _) = heard.answer.expect("the client is told");
    assert_eq!(told(&packet, &inner), (3, 4, 1380));
    let (verdict, out) = world.handle(&inner, NOW);
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    assert_eq!((reply.kind, reply.reason), (ReplyKind::TooBig, Some(DropReason::TooBig)));
    assert_eq!(told(&out, &inner), (3, 4, 1380));
    // Another packet of the same flight was lost too, and its sender is told as well: no news, but an answer.
    let again = world.hear(&too_big(1400, &outer_of(&inner)[..548]));
    assert_eq!((again.outcome, again.event), (Outcome::Relayed, None));
    // 1191-3: after ten minutes a larger size is tried again.
    let later = Moment::from_secs(602);
    assert!(matches!(world.handle(&inner, later).0, Verdict::Transmit(_)));
    assert_eq!(world.path_mtu(SERVER2, later), 1500);
    assert_eq!(world.path_mtu(SERVER3, NOW), 1500, "another path is another path");
}

/// 2003-20: 28 quoted bytes do not say whose packet it was; the next one is answered.
#[test]
fn too_little_quoted_is_remembered_for_the_next_packet() {
    let (mut world, inner) = (world(), big());
    let heard = world.hear(&too_big(1400, &outer_of(&inner)[..28]));
    assert_eq!((heard.outcome, heard.answer), (Outcome::Noted, None));
    let (verdict, out) = world.handle(&inner, NOW);
    assert!(matches!(verdict, Verdict::Reply(reply) if reply.kind == ReplyKind::TooBig));
    assert_eq!(told(&out, &inner), (3, 4, 1380));

    let heard = world.hear(&error(11, 0, 0, &outer_of(&inner)[..28]));
    assert_eq!((heard.outcome, heard.answer), (Outcome::Noted, None));
    let next = tcp(ACK, b"next");
    assert!(matches!(world.handle(&next, NOW).0, Verdict::Transmit(_)), "the packet itself goes on");
    let extras = world.extras(NOW);
    let [Extra::Told { frame, to }] = &extras[..] else { panic!("one answer") };
    assert_eq!(*to, CLIENT);
    assert_eq!(told(frame.packet(), &next), (3, 1, 0));
    assert!(matches!(world.handle(&next, NOW).0, Verdict::Transmit(_)));
    assert_eq!(world.extras(NOW).len(), 0, "told once");
}

/// 8899-1: who did not see the packet cannot lower the path's MTU, and nobody below the floor.
#[test]
fn forged_errors_teach_nothing() {
    let inner = big();
    let outer = outer_of(&inner);
    let quote = |change: &dyn Fn(&mut Vec<u8>)| changed(&outer, change);
    let other_port = outer_of(&as_fragment(&tcp_between(CLIENT, 40001, VIP, 80, ACK, &[7; 1436]), 0x4000));
    let other_vip =
        outer_of(&tcp_between(CLIENT, 40000, Ipv4Addr::new(172, 25, 3, 101), 80, ACK, &[7; 1436]));
    let rows = [
        (
            "another source than ours",
            quote(&|b| b[12..16].copy_from_slice(&CLIENT.octets())),
            Outcome::Mismatch,
        ),
        ("the VIP as the source", quote(&|b| b[12..16].copy_from_slice(&VIP.octets())), Outcome::Mismatch),
        ("no real server of ours", quote(&|b| b[19] = 77), Outcome::Mismatch),
        ("another real server than the connection's", quote(&|b| b[19] = 3), Outcome::Mismatch),
        ("another protocol", quote(&|b| b[9] = 17), Outcome::Mismatch),
        ("a later fragment", as_fragment(&outer, 0x0010), Outcome::Mismatch),
        ("no connection of ours", other_port, Outcome::Mismatch),
        ("no VIP of ours inside", other_vip, Outcome::Mismatch),
        ("quoted IHL 15", quote(&|b| b[0] = 0x4f)[..40].to_vec(), Outcome::Malformed),
        ("inner version 6", quote(&|b| b[20] = 0x65), Outcome::Malformed),
        ("nothing quoted", Vec::new(), Outcome::Malformed),
        ("outer without DF", quote(&|b| b[6] = 0), Outcome::Ignored),
    ];
    for (name, quote, outcome) in rows {
        let mut world = world();
        let heard = world.hear(&too_big(1000, &quote));
        assert_eq!((heard.outcome, heard.event, heard.answer), (outcome, None, None), "{name}");
        assert_eq!(world.path_mtu(SERVER2, NOW), 1500, "{name}");
    }
    let mut broken = too_big(1400, &outer);
    broken[25] ^= 1;
    assert_eq!(world().hear(&broken).outcome, Outcome::Malformed, "bad ICMP checksum");
    let elsewhere = changed(&too_big(1400, &outer), |b| b[16..20].copy_from_slice(&SERVER3.octets()));
    assert_eq!(world().hear(&elsewhere).outcome, Outcome::Mismatch, "not sent to the packet's source");
}

/// 1191-1, 1191-2 and the floor: MTU 0 is an old router's, 1 and 68 are nobody's, a larger one is nonsense.
#[test]
fn odd_sizes() {
    let outer = outer_of(&big());
    let rows =
        [(0, 1492), (1, 576), (68, 576), (575, 576), (576, 576), (1499, 1499), (1500, 1500), (9000, 1500)];
    for (told, known) in rows {
        let mut world = world();
        world.hear(&too_big(told, &outer));
        assert_eq!(world.path_mtu(SERVER2, NOW), known, "{told}");
    }
    let mut world = world();
    world.hear(&too_big(1300, &outer));
    world.hear(&too_big(1400, &outer));
    assert_eq!(world.path_mtu(SERVER2, NOW), 1300, "never raised");
}

#[test]
fn a_storm_of_errors_is_bounded() {
    let mut world = world();
    let message = too_big(1400, &outer_of(&big()));
    let limited = (0..10_000).filter(|_| world.hear(&message).outcome == Outcome::RateLimited).count();
    assert_eq!(limited, 10_000 - 50);
}

/// What is not about our packets uses up no budget.
#[test]
fn junk_does_not_keep_true_errors_from_being_heard() {
    let mut world = world();
    let junk = too_big(1400, &changed(&outer_of(&big()), |b| b[19] = 77));
    assert!((0..200).all(|_| world.hear(&junk).outcome == Outcome::Mismatch));
    assert_eq!(world.hear(&too_big(1400, &outer_of(&big()))).outcome, Outcome::Relayed);
}

/// Nor do provoked resets keep a client from hearing that its packets are too big.
#[test]
fn provoked_answers_do_not_make_the_path_a_black_hole() {
    let mut world = world();
    let to_nowhere = tcp_between(CLIENT, 40000, VIP, 81, SYN, b"");
    let resets = (0..100).filter(|_| matches!(world.handle(&to_nowhere, NOW).0, Verdict::Reply(_))).count();
    assert_eq!(resets, 50);
    let (verdict, _) = world.handle(&as_fragment(&tcp(ACK, &[7; 1456]), 0x4000), NOW);
    assert!(matches!(verdict, Verdict::Reply(reply) if reply.kind == ReplyKind::TooBig), "{verdict:?}");
}

/// Who knows the two ends of the path can have the next packet's sender told; but not a new connection's, which would
/// give up, and not more than one a second. An error or a later fragment does not use the debt up.
#[test]
fn a_debt_goes_to_a_known_connection_only() {
    let message = error(3, 1, 0, &outer_of(&big())[..20]);
    let mut world = world();
    assert_eq!(world.hear(&message).outcome, Outcome::Noted);
    let quote = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 100]);
    for packet in [
        tcp_between(CLIENT, 40002, VIP, 80, SYN, b""),
        tcp_between(CLIENT, 40002, VIP, 80, SYN, b""),
        icmp(3, 4, [0, 0, 5, 0x78], &quote[..28]),
        tcp(RST, b""),
    ] {
        assert!(matches!(world.handle(&packet, NOW).0, Verdict::Transmit(_)));
        assert!(world.extras(NOW).is_empty());
    }
    assert!(matches!(world.handle(&tcp(ACK, b"data"), NOW).0, Verdict::Transmit(_)));
    assert_eq!(world.extras(NOW).len(), 1);
    world.hear(&message);
    world.handle(&tcp(ACK, b"data"), NOW);
    assert!(world.extras(NOW).is_empty(), "one a second");
}

/// The flood rule leaves connections without an entry: their path is learned all the same, by the floor at worst.
#[test]
fn during_a_flood_a_path_is_learned_without_an_entry() {
    let mut world = world_of(ClusterConfig { new_connections_per_second_max: Some(1), ..config() });
    for port in [1, 2] {
        world.handle(&tcp_between(CLIENT, port, VIP, 80, SYN, b""), NOW);
    }
    let inner = as_fragment(&tcp_between(CLIENT, 2, VIP, 80, ACK, &[7; 1436]), 0x4000);
    let mut quote = outer_of(&inner);
    quote[19] = 3;
    finish_header(&mut quote);
    let heard = world.hear(&too_big(1400, &quote));
    assert_eq!((heard.outcome, heard.answer), (Outcome::Noted, None));
    assert_eq!(world.path_mtu(SERVER3, NOW), 1400);
    let (verdict, _) = world.handle(&inner, NOW);
    assert!(matches!(verdict, Verdict::Reply(reply) if reply.kind == ReplyKind::TooBig), "{verdict:?}");
}

/// An error follows a connection to a removed real server only where the connection's own packets would.
#[test]
fn an_error_does_not_follow_to_a_removed_real_server() {
    for on_removed in [OnRemoved::Reschedule, OnRemoved::Drop, OnRemoved::Keep] {
        let mut world = world();
        let mut next = config();
        next.virtual_services[0].on_removed = on_removed;
        next.virtual_services[0].real_servers.retain(|server| server.rip != std::net::IpAddr::from(SERVER2));
        let host = world.cluster.load().host().clone();
        let next = world.cluster.load().succeed(next, host);
        world.cluster.store(Arc::new(next));
        let quote = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 100]);
        let (verdict, _) = world.handle(&icmp(3, 4, [0, 0, 5, 0x78], &quote[..28]), NOW);
        match on_removed {
            OnRemoved::Keep => assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}"),
            _ => assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection)),
        }
    }
}

/// 6864-2: one identification for one path, whatever the virtual service.
#[test]
fn services_of_one_real_server_share_its_identifications() {
    let mut config = config();
    for service in &mut config.virtual_services {
        service.real_servers.truncate(1);
    }
    let mut world = world_of(config);
    let mut seen = std::collections::HashSet::new();
    for port in 1..100 {
        let (_, over_tcp) = world.handle(&as_fragment(&tcp_between(CLIENT, port, VIP, 80, SYN, b""), 0), NOW);
        let (_, over_udp) = world.handle(&as_fragment(&udp(53, b"question"), 0), NOW);
        for out in [over_tcp, over_udp] {
            let identification = [out[4], out[5]];
            assert_ne!(identification, [0, 0], "which the kernel would replace");
            assert!(seen.insert(identification));
        }
    }
}

#[test]
fn a_host_without_a_daemon_is_suspect() {
    let mut world = world();
    let message = error(3, 2, 0, &outer_of(&big())[..28]);
    assert_eq!(world.hear(&message).event, Some(Event::Suspect { rip: SERVER2 }));
    assert_eq!(world.hear(&message).event, None, "said once");
    let cluster = world.cluster.load();
    let is_suspect = |rip| cluster.real_server_at(rip).unwrap().soft.is_suspect(NOW);
    assert!(is_suspect(SERVER2) && !is_suspect(SERVER3));
}

/// RFC 1122 §3.2.2: no error about an error, a later fragment or to what is not one host.
#[test]
fn clients_that_must_not_be_told_are_not() {
    let reply = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 1400]);
    let inner_error = icmp(3, 4, [0, 0, 5, 0x78], &reply[..1400]);
    let later = as_fragment(&udp(53, &[0; 1400]), 0x4010);
    let martian = tcp_between(Ipv4Addr::new(127, 0, 0, 1), 40000, VIP, 443, ACK, &[0; 1400]);
    for (name, inner) in [("an error", inner_error), ("a later fragment", later), ("loopback", martian)] {
        for message in [too_big(1400, &outer_of(&inner)[..200]), error(11, 0, 0, &outer_of(&inner)[..200])] {
            assert_eq!(world().hear(&message).answer, None, "{name}");
        }
    }
}

/// D71 and D72 without an entry: where the hash decides, the error goes where the connection's packets go.
#[test]
fn an_error_about_a_hashed_connection_needs_no_entry() {
    for port in 40000..40050 {
        let mut world = world_of(config());
        let quote = tcp_between(VIP, 443, CLIENT, port, ACK, &[0; 100]);
        for (kind, code) in [(3, 4), (11, 0), (12, 0)] {
            let message = icmp(kind, code, [0, 0, 5, 0x78], &quote[..28]);
            let (verdict, out) = world.handle(&message, NOW);
            assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
            let (_, segment) = world.handle(&tcp_between(CLIENT, port, VIP, 443, ACK, b""), NOW);
            assert_eq!(out[16..20], segment[16..20]);
        }
    }
}

/// A flow that the hash alone decides may be made up: its path is learned, and nobody is sent ICMP for it.
#[test]
fn nobody_is_told_about_a_connection_without_an_entry() {
    let mut world = world_of(config());
    let victim = Ipv4Addr::new(198, 51, 100, 9);
    let inner = as_fragment(&tcp_between(victim, 7, VIP, 443, ACK, &[7; 1436]), 0x4000);
    let mut quotes = [outer_of(&inner), outer_of(&inner)];
    quotes[1][19] = 3;
    finish_header(&mut quotes[1]);
    for quote in quotes {
        assert_eq!(world.hear(&error(3, 1, 0, &quote)).answer, None);
        assert_eq!(world.hear(&too_big(1400, &quote)).answer, None);
    }
    assert_eq!((world.path_mtu(SERVER2, NOW), world.path_mtu(SERVER3, NOW)), (1400, 1400));
}

/// C3: the outer packet is cut; the inner one comes out of the pieces as it was.
#[test]
fn with_ignore_df_the_outer_packet_is_cut() {
    let mut world = world_of(ClusterConfig { ignores_df: true, ..config() });
    let inner = as_fragment(&udp(53, &[5; 2000]), 0x4000);
    let (verdict, out) = world.handle(&inner, NOW);
    assert!(matches!(verdict, Verdict::Transmit(_)));
    let rest = world.extras(NOW);
    let [Extra::Piece { frame, .. }] = &rest[..] else { panic!("two pieces") };
    let mut payload = Vec::new();
    for (piece, word) in [(&out[..], 0x2000), (frame.packet(), 1480u16 / 8)] {
        assert_eq!(checksum(&piece[..20]), 0);
        assert!(piece.len() <= 1500);
        assert_eq!(u16::from_be_bytes([piece[6], piece[7]]), word);
        assert_eq!(piece[4..6], out[4..6], "one identification");
        payload.extend_from_slice(&piece[20..]);
    }
    assert_eq!(payload, inner);
    let (_, small) = world.handle(&as_fragment(&udp(53, b"small"), 0x4000), NOW);
    assert_eq!(small[6] & 0x40, 0, "no DF outside");
    assert_ne!(small[4..6], out[4..6], "6864-2: an identification of its own");
}

/// A super-packet is judged by its segments: 3000 bytes that are three segments need no answer, and leave as three.
#[test]
fn a_super_packet_is_judged_by_its_segments() {
    let inner = as_fragment(&tcp(ACK, &[7; 3000]), 0x4000);
    for (size, is_too_big) in [(1000u16, false), (1436, false), (1437, true), (3000, true)] {
        let mut world = world();
        let mut frame = Frame::with_capacity(PACKET_MAX);
        frame.replace(&inner);
        frame.offload.segments = Some(Segments { kind: SegmentKind::TcpV4, size, header_length: 44 });
        let verdict = world.director.handle_packet(&mut frame, NOW);
        if is_too_big {
            assert!(matches!(verdict, Verdict::Reply(reply) if reply.kind == ReplyKind::TooBig), "{size}");
            continue;
        }
        assert!(matches!(verdict, Verdict::Transmit(_)), "{size}: {verdict:?}");
        assert_eq!(frame.space().len(), PACKET_MAX, "room for the next capture");
        let mut outer = vec![frame.packet().to_vec()];
        for extra in world.extras(NOW) {
            let Extra::Piece { frame, to } = extra else { panic!("segments") };
            assert_eq!(to, std::net::IpAddr::from(SERVER2));
            outer.push(frame.packet().to_vec());
        }
        let payload: Vec<u8> = outer.iter().flat_map(|packet| packet[20 + 44..].to_vec()).collect();
        assert_eq!((outer.len(), payload), (3, inner[44..].to_vec()), "{size}");
        assert!(outer.iter().all(|packet| packet.len() <= 1500 && checksum(&packet[..20]) == 0));
    }
}

/// 2003-5, D15: where the capture bypasses the kernel's forwarding, we are the router.
#[test]
fn a_capture_that_bypasses_forwarding_decrements() {
    let mut world = world_of(ClusterConfig { decrements_ttl: true, ..config() });
    let (verdict, out) = world.handle(&tcp(SYN, b""), NOW);
    assert!(matches!(verdict, Verdict::Transmit(_)));
    assert_eq!((out[28], checksum(&out[20..40])), (63, 0));
    for ttl in [1, 0] {
        let (verdict, out) = world.handle(&changed(&tcp(SYN, b""), |b| b[8] = ttl), NOW);
        assert!(matches!(verdict, Verdict::Reply(reply) if reply.reason == Some(DropReason::TtlExpired)));
        assert_eq!((out[20], out[21]), (11, 0));
    }
    // D15 with the captures of our own: the kernel has decremented, and 1 is what it left.
    let last = changed(&tcp(SYN, b""), |b| b[8] = 1);
    let (verdict, out) = world_of(config()).handle(&last, NOW);
    assert!(matches!(verdict, Verdict::Transmit(_)));
    assert_eq!(out[20..], last[..]);
}

/// An echo request of 4000 bytes in three pieces, in every order: the answers make the reply.
#[test]
fn an_echo_in_pieces_is_answered_piece_by_piece() {
    let whole = as_fragment(&icmp(8, 0, [0x12, 0x34, 0, 1], &[9; 4000]), 0);
    let cut = |from: usize, to: usize, word: u16| {
        as_fragment(&ip(CLIENT, VIP, 1, &whole[20 + from..20 + to]), word | (from / 8) as u16)
    };
    let pieces = [cut(0, 1480, 0x2000), cut(1480, 2960, 0x2000), cut(2960, 4008, 0)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = world_of(config());
        let mut replies = Vec::new();
        for index in order {
            let (verdict, out) = world.handle(&pieces[index], NOW);
            match verdict {
                Verdict::Reply(reply) => {
                    assert_eq!((reply.kind, reply.reason), (ReplyKind::EchoReply, None));
                    replies.push(out);
                }
                Verdict::Hold => {}
                other => panic!("{other:?}"),
            }
            for extra in world.extras(NOW) {
                let Extra::Late { frame, verdict: Verdict::Reply(_), .. } = extra else {
                    panic!("late replies")
                };
                replies.push(frame.packet().to_vec());
            }
        }
        replies.sort_by_key(|piece| u16::from_be_bytes([piece[6], piece[7]]) & 0x1fff);
        let mut message = Vec::new();
        for (reply, piece) in replies.iter().zip(&pieces) {
            assert_eq!((reply[4..8].to_vec(), checksum(&reply[..20])), (piece[4..8].to_vec(), 0));
            assert_eq!((&reply[12..16], &reply[16..20]), (&VIP.octets()[..], &CLIENT.octets()[..]));
            message.extend_from_slice(&reply[20..]);
        }
        assert_eq!((message[0], message[1], checksum(&message)), (0, 0, 0), "{order:?}");
        assert_eq!(message[4..], whole[24..], "identifier, sequence and data come back");
    }
}

/// An ICMP error in pieces follows its connection like a whole one.
#[test]
fn an_error_in_pieces_follows_its_connection() {
    let mut world = world();
    let quote = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 1400]);
    let whole = icmp(3, 4, [0, 0, 5, 0x78], &quote[..1000]);
    let first = as_fragment(&ip(CLIENT, VIP, 1, &whole[20..500]), 0x2000);
    let last = as_fragment(&ip(CLIENT, VIP, 1, &whole[500..]), 480 / 8);
    for piece in [first, last] {
        let (verdict, out) = world.handle(&piece, NOW);
        assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
        assert_eq!((&out[16..20], &out[20..]), (&SERVER2.octets()[..], &piece[..]));
    }
}

/// What we have wrapped and comes back is a loop, and ends here.
#[test]
fn a_packet_wrapped_by_us_that_comes_back_is_a_loop() {
    let back = ip(DIRECTOR, VIP, 4, &tcp(SYN, b""));
    assert_eq!(world().handle(&back, NOW).0, Verdict::Drop(DropReason::Loop));
    let from_another_director = ip(SERVER3, VIP, 4, &tcp(SYN, b""));
    assert_eq!(world().handle(&from_another_director, NOW).0, Verdict::Drop(DropReason::NestedTunnel));
}
