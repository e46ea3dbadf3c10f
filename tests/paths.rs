//! The paths to the real servers: errors from them and what follows a connection, what is sent in fragments, and what
//! goes round in circles.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use lvs_tund::director::cluster::{
    ClusterConfig, OnRemoved, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use lvs_tund::director::route::FoundBy;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Tracking, Verdict};
use lvs_tund::director::{Director, Extra};
use lvs_tund::time::Moment;

#[path = "paths/bed.rs"]
mod bed;
#[path = "paths/errors.rs"]
mod errors;
#[path = "paths/pending_errors.rs"]
mod pending_errors;
#[path = "paths/pieces.rs"]
mod pieces;
#[path = "paths/probes.rs"]
mod probes;

use bed::*;
mod support;

use support::fields::Fields;
use support::packets::*;
use support::world::World;

/// 2003-5, D15: where the capture bypasses the kernel's forwarding, we are the router.
#[test]
fn a_capture_that_bypasses_forwarding_decrements() {
    let mut world = world_of(ClusterConfig { decrements_ttl: true, ..config() });
    let (verdict, out) = world.handle(&tcp(SYN, b""), NOW);
    assert!(matches!(verdict, Verdict::Transmit(_)));
    assert_eq!((out[28], checksum(&out[20..40])), (63, 0));
    for ttl in [1, 0] {
        let (verdict, out) = world.handle(&tcp(SYN, b"").ttl(ttl), NOW);
        assert!(matches!(verdict, Verdict::Reply(reply) if reply.reason == Some(DropReason::TtlExpired)));
        assert_eq!((out[20], out[21]), (11, 0));
    }
    // D15 with the captures of our own: the kernel has decremented, and 1 is what it left.
    let last = tcp(SYN, b"").ttl(1);
    let (verdict, out) = world_of(config()).handle(&last, NOW);
    assert!(matches!(verdict, Verdict::Transmit(_)));
    assert_eq!(out[20..], last[..]);
}

/// An echo request of 4000 bytes in three pieces, in every order: the answers make the reply.
#[test]
fn a_fragmented_echo_is_answered_fragment_by_fragment() {
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

/// What we have wrapped and comes back is a loop, and ends here.
#[test]
fn a_packet_wrapped_by_us_that_comes_back_is_a_loop() {
    let back = ip(DIRECTOR, VIP, 4, &tcp(SYN, b""));
    assert_eq!(world().handle(&back, NOW).0, Verdict::Drop(DropReason::Loop));
    let from_another_director = ip(SERVER3, VIP, 4, &tcp(SYN, b""));
    assert_eq!(world().handle(&from_another_director, NOW).0, Verdict::Drop(DropReason::NestedTunnel));
}

/// About a packet of the VIP's `port` to the client's, from `source`.
fn error_from(source: Ipv4Addr, client_port: u16, port: u16) -> Vec<u8> {
    let quote = tcp_between(VIP, port, CLIENT, client_port, ACK, &[0; 100]);
    let message = icmp(3, 4, [0, 0, 5, 0x78], &quote[..28]);
    message.source(source)
}

/// The service of TCP 8443, over server2 alone, after a change.
fn half(change: impl FnOnce(&mut VirtualServiceConfig)) -> World {
    let mut config = config();
    change(&mut config.virtual_services[3]);
    connected(config)
}

/// RFC 7690 §3: a connection's error goes where the connection's packets go, and what must not be tunnelled is not
/// (RFC 2003 §3.1 and §3.2): our own packet, one without TTL, and one to its own sender.
#[test]
fn an_error_goes_where_the_packets_of_its_connection_go() {
    let with_ttl = |ttl: u8| error_from(ROUTER, 40000, 80).ttl(ttl);
    let is_gone = Fate::Drop(DropReason::NoConnection);
    let is_exit = Fate::Drop(DropReason::SourceIsTunnelExit);
    let rows = [
        ("from a router", world(), error_from(ROUTER, 40000, 80), Fate::To(SERVER2, Tracking::Known)),
        (
            "from the other real server",
            world(),
            error_from(SERVER3, 40000, 80),
            Fate::To(SERVER2, Tracking::Known),
        ),
        ("from its real server", world(), error_from(SERVER2, 40000, 80), is_exit.clone()),
        ("from ourselves", world(), error_from(DIRECTOR, 40000, 80), Fate::Drop(DropReason::MartianSource)),
        ("TTL 1", world(), with_ttl(1), Fate::To(SERVER2, Tracking::Known)),
        ("TTL 0", world(), with_ttl(0), Fate::Drop(DropReason::TtlExpired)),
        ("no connection", world(), error_from(ROUTER, 40009, 80), is_gone.clone()),
        ("no virtual service", world(), error_from(ROUTER, 40000, 81), is_gone.clone()),
        ("by hash", world(), error_from(ROUTER, 7, 8443), Fate::To(SERVER2, Tracking::None)),
        ("by hash, from the other", world(), error_from(SERVER3, 7, 8443), Fate::To(SERVER2, Tracking::None)),
        ("by hash, from its real server", world(), error_from(SERVER2, 7, 8443), is_exit.clone()),
        (
            "by hash, where unknown segments are refused",
            half(|service| service.unknown_tcp = UnknownTcp::Rst),
            error_from(ROUTER, 7, 8443),
            is_gone.clone(),
        ),
        (
            "by hash, no real server",
            half(|service| service.real_servers.clear()),
            error_from(ROUTER, 7, 8443),
            is_gone.clone(),
        ),
        (
            "by hash, all are quiesced",
            half(|service| service.real_servers[0].weight = 0),
            error_from(ROUTER, 7, 8443),
            is_gone,
        ),
        ("of a flood", flooded(), error_from(ROUTER, 40002, 80), Fate::To(SERVER2, Tracking::Flood)),
        (
            "of a flood, from the other",
            flooded(),
            error_from(SERVER3, 40002, 80),
            Fate::To(SERVER2, Tracking::Flood),
        ),
        ("of a flood, from its real server", flooded(), error_from(SERVER2, 40002, 80), is_exit),
    ];
    for (name, mut world, packet, fate) in rows {
        assert_eq!(world.fate(&packet), fate, "{name}");
    }
    let mut router = world_of(ClusterConfig { decrements_ttl: true, ..config() });
    assert!(matches!(router.handle(&segment(40000, SYN), NOW).0, Verdict::Transmit(_)));
    for (ttl, is_forwarded) in [(2, true), (1, false), (0, false)] {
        let (verdict, _) = router.handle(&with_ttl(ttl), NOW);
        assert_eq!(matches!(verdict, Verdict::Transmit(_)), is_forwarded, "TTL {ttl}");
        assert!(is_forwarded || verdict == Verdict::Drop(DropReason::TtlExpired), "TTL {ttl}");
    }
}

#[test]
fn a_route_shows_what_named_the_real_server() {
    let (mut began, mut with_first) = (world(), world());
    began.fate(&segment(40009, SYN));
    let datagram = udp(123, b"");
    with_first.fate(&as_fragment(&datagram, 0x2000));
    let rows = [
        ("a segment with an entry", world(), segment(40000, ACK), FoundBy::Entry),
        ("an error with an entry", world(), error_from(ROUTER, 40000, 80), FoundBy::Entry),
        ("an error by hash", world(), error_from(ROUTER, 7, 8443), FoundBy::Scheduler),
        ("an error of a flood", flooded(), error_from(ROUTER, 40002, 80), FoundBy::FloodRecord),
        ("a SYN that is sent again", began, segment(40009, SYN), FoundBy::Entry),
        ("a later fragment", with_first, as_fragment(&datagram, 0x0001), FoundBy::FirstFragment),
    ];
    for (name, mut world, packet, expected) in rows {
        let (Verdict::Transmit(route), _) = world.handle(&packet, NOW) else { panic!("{name}") };
        assert_eq!(route.found_by, expected, "{name}");
    }
}

/// D71 and D72 without an entry: where the hash decides, the error goes where the connection's packets go.
#[test]
fn an_error_about_a_hashed_connection_needs_no_entry() {
    let mut seen = HashSet::new();
    for port in 1..50u8 {
        let mut world = world_of(config());
        let client = Ipv4Addr::new(203, 0, 113, port);
        let quote = tcp_between(VIP, 443, client, 40000, ACK, &[0; 100]);
        let Fate::To(rip, Tracking::None) = world.fate(&tcp_between(client, 40000, VIP, 443, ACK, b""))
        else {
            panic!("no entry is needed")
        };
        seen.insert(rip);
        for (kind, code) in [(3, 4), (11, 0), (12, 0)] {
            let message = icmp(kind, code, [0, 0, 5, 0x78], &quote[..28]);
            assert_eq!(world.fate(&message), Fate::To(rip, Tracking::None));
        }
    }
    assert_eq!(seen.len(), 2, "the hash uses both real servers");
}

/// An overloaded real server takes no new connections, but those it has continue, and their errors follow.
#[test]
fn an_error_about_a_hashed_connection_is_no_new_connection() {
    let mut world = half(|service| service.real_servers[0].upper_threshold = 1);
    let of_client = |port, flags| tcp_between(CLIENT, port, VIP, 8443, flags, b"");
    assert_eq!(world.fate(&of_client(1, SYN)), Fate::To(SERVER2, Tracking::New));
    let (refused, _) = world.handle(&of_client(2, SYN), NOW);
    assert!(matches!(refused, Verdict::Reply(reply) if reply.reason == Some(DropReason::NoRealServer)));
    assert_eq!(world.fate(&of_client(3, ACK)), Fate::To(SERVER2, Tracking::None));
    assert_eq!(world.fate(&error_from(ROUTER, 3, 8443)), Fate::To(SERVER2, Tracking::None));
}

/// An error follows a connection to a removed real server only where the connection's own packets would.
#[test]
fn an_error_does_not_follow_to_a_removed_real_server() {
    for (on_removed, fate) in [
        (OnRemoved::Reschedule, Fate::Drop(DropReason::ConnectionWaits)),
        (OnRemoved::Drop, Fate::Drop(DropReason::NoConnection)),
        (OnRemoved::Keep, Fate::To(SERVER2, Tracking::Known)),
    ] {
        let mut world = world();
        let mut next = config();
        next.virtual_services[0].on_removed = on_removed;
        next.virtual_services[0].real_servers.retain(|server| server.rip != IpAddr::from(SERVER2));
        world.succeed(next, host());
        assert_eq!(world.fate(&error_from(ROUTER, 40000, 80)), fate, "{on_removed:?}");
        let other = Fate::To(SERVER3, Tracking::Known);
        assert_eq!(world.fate(&error_from(ROUTER, 40001, 80)), other, "{on_removed:?}");
        // The setting for removed real servers goes with its virtual service.
        let mut next = config();
        next.virtual_services.remove(0);
        world.succeed(next, host());
        let waits = Fate::Drop(DropReason::ConnectionWaits);
        assert_eq!(world.fate(&error_from(ROUTER, 40000, 80)), waits, "{on_removed:?}");
        world.end_every_grace();
        let gone = Fate::Drop(DropReason::NoConnection);
        assert_eq!(world.fate(&error_from(ROUTER, 40000, 80)), gone, "{on_removed:?}");
    }
}

/// A worker may meet a connection to a real server that another worker's later snapshot has.
#[test]
fn an_error_for_a_real_server_of_a_later_snapshot_is_dropped() {
    let mut world = world_of(config());
    let early = world.cluster.load_full();
    let newest = Ipv4Addr::new(172, 25, 3, 4);
    let mut next = config();
    next.virtual_services[0].real_servers = vec![RealServerConfig::new(newest.into(), 1)];
    world.succeed(next, host());
    let (verdict, _) = world.handle(&segment(40000, SYN), NOW);
    assert!(matches!(verdict, Verdict::Transmit(route) if route.to() == newest));
    let error = error_from(ROUTER, 40000, 80);
    assert!(matches!(world.handle(&error, NOW).0, Verdict::Transmit(route) if route.to() == newest));
    world.director = Director::new(world.tables.clone(), 8);
    world.cluster.store(early);
    assert_eq!(world.fate(&error), Fate::Drop(DropReason::NoConnection));
}

/// A fragmented ICMP error follows its connection like a whole one.
#[test]
fn a_fragmented_error_follows_its_connection() {
    let mut world = world();
    let quote = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 1400]);
    let whole = icmp(3, 4, [0, 0, 5, 0x78], &quote[..1000]);
    let first = as_fragment(&ip(CLIENT, VIP, 1, &whole[20..500]), 0x2000);
    let last = as_fragment(&ip(CLIENT, VIP, 1, &whole[500..]), 480 / 8);
    for piece in [first, last] {
        assert_eq!(world.fate(&piece), Fate::To(SERVER2, Tracking::Known));
    }
}

/// A piece of a datagram to UDP 53, of this identification.
fn piece(identification: u8, word: u16) -> Vec<u8> {
    as_fragment(&udp(53, &[5; 400]), word).identification(identification.into())
}

/// A later fragment waits for its first only if that may come, and only as long as there is room.
#[test]
fn a_later_fragment_waits_if_its_first_may_come() {
    let late = piece(1, 50);
    let no_vip = late.destination([172, 25, 3, 101].into());
    let rows = [
        ("to a VIP", late.clone(), Fate::Hold),
        ("of another protocol", late.protocol(6), Fate::Hold),
        ("to no service of ours", no_vip, Fate::Drop(DropReason::NoService)),
        ("from ourselves", late.source(DIRECTOR), Fate::Drop(DropReason::MartianSource)),
        ("TTL 0", late.ttl(0), Fate::Drop(DropReason::TtlExpired)),
    ];
    for (name, packet, fate) in rows {
        let mut world = world();
        assert_eq!(world.fate(&packet), fate, "{name}");
        assert_eq!(world.director.is_waiting(), fate == Fate::Hold, "{name}");
    }
    let mut world = world();
    let fates: Vec<Fate> = (0..47).map(|number| world.fate(&piece(number, 50))).collect();
    let (held, refused) = fates.split_at(45);
    assert!(held.iter().all(|fate| *fate == Fate::Hold), "one source's share of the room");
    assert!(refused.iter().all(|fate| *fate == Fate::Drop(DropReason::FragmentUnknown)));
}

/// Linux reassembles for thirty seconds from the first piece on (net.ipv4.ipfrag_time); a later one does not make that
/// longer.
#[test]
fn a_first_fragment_is_followed_for_thirty_seconds() {
    let mut world = world();
    let known = Fate::To(SERVER2, Tracking::Known);
    assert_eq!(world.fate(&piece(1, 0x2000)), known);
    for (secs, fate) in [(0, known.clone()), (29, known), (30, Fate::Hold)] {
        let now = Moment::from_secs(1 + secs);
        assert_eq!(world.fate_at(&piece(1, 50), now), fate, "after {secs} s");
    }
}

/// Datagrams without connections hold no slot: none is given those of a real server that has left.
#[test]
fn a_later_fragment_does_not_follow_to_a_real_server_that_was_removed() {
    let mut world = world_of(config());
    let piece = |word| as_fragment(&udp(123, &[5; 400]), word);
    assert_eq!(world.fate(&piece(0x2000)), Fate::To(SERVER2, Tracking::None));
    assert_eq!(world.fate(&piece(50)), Fate::To(SERVER2, Tracking::Known));
    let mut next = config();
    next.virtual_services[4].real_servers.remove(0);
    world.succeed(next, host());
    assert_eq!(world.fate(&piece(50)), Fate::Drop(DropReason::ConnectionWaits));
    world.end_every_grace();
    assert_eq!(world.fate(&piece(50)), Fate::Drop(DropReason::FragmentUnknown));
}
