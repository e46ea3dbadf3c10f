//! RFC 2003 §5: an error that quotes too little is kept, and the next packet of a known connection is answered.

use lvs_tund::director::path_errors::Outcome;
use lvs_tund::director::verdict::Tracking;

use crate::bed::*;
use crate::support::packets::*;
use crate::support::world::World;

/// About a packet to server2, without a byte of the packet in it.
fn note_error(world: &mut World, kind: u8, code: u8) {
    let heard = world.hear(&error(kind, code, outer_of(&big())).quoting(20).bytes());
    assert_eq!((heard.outcome, heard.answer), (Outcome::Noted, None));
}

fn one_datagram(word: u16, data: &[u8]) -> Vec<u8> {
    as_fragment(&udp(53, data), word)
}

/// The packet continues, and its sender gets what the router has reported.
#[test]
fn the_next_packet_of_a_known_connection_is_answered() {
    let packets = [
        ("a segment", tcp(ACK, b"next")),
        ("an end", tcp(FIN | ACK, b"")),
        ("a datagram", one_datagram(0, b"question")),
        ("a first piece of a datagram", one_datagram(0x2000, &[5; 400])),
    ];
    let errors = [
        ("net unreachable", 3, 0, NET),
        ("net unknown", 3, 6, NET),
        ("host unreachable", 3, 1, HOST),
        ("time exceeded", 11, 0, HOST),
    ];
    for (name, packet) in &packets {
        assert_eq!(world().fate(packet), Fate::To(SERVER2, Tracking::Known), "{name}");
        for (error, kind, code, answer) in &errors {
            let mut world = world();
            note_error(&mut world, *kind, *code);
            assert_eq!(world.fate(packet), Fate::To(SERVER2, Tracking::Known), "{name} after {error}");
            assert_eq!(world.told_beside(packet).as_ref(), Some(answer), "{name} after {error}");
            assert_eq!(world.fate(packet), Fate::To(SERVER2, Tracking::Known), "{name} after {error}");
            assert_eq!(world.told_beside(packet), None, "notified once");
        }
    }
}

/// Anyone with the addresses of both ends of the path can forge the error. A client that gets it at its first packet
/// stops, and RFC 1122 §3.2.2 forbids to answer an error or a later fragment. None of these packets uses the pending
/// error up.
#[test]
fn a_pending_error_goes_to_a_known_connection_only() {
    let quote = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 100]);
    let hashed = |flags| tcp_between(CLIENT, 7, VIP, 8443, flags, b"");
    let first_piece = changed(&one_datagram(0x2000, &[5; 400]), |bytes| bytes[5] = 9);
    let later_piece = changed(&one_datagram(50, &[5; 400]), |bytes| bytes[5] = 9);
    let flood = flood_config();
    // What comes before the error, the packet, and where its real server is known from.
    let rows = [
        ("a first SYN", config(), None, segment(40002, SYN), Tracking::New),
        ("a first datagram", config(), None, udp_between(CLIENT, 40002, 53, b"question"), Tracking::New),
        ("a first SYN of a hashed service", config(), None, hashed(SYN), Tracking::New),
        ("a segment that the hash alone forwards", config(), None, hashed(ACK), Tracking::None),
        ("a datagram without a connection", config(), None, udp(123, b"time"), Tracking::None),
        ("a first SYN of a flood", flood.clone(), None, segment(40002, SYN), Tracking::Flood),
        ("a segment of a flood", flood, Some(segment(40002, SYN)), segment(40002, ACK), Tracking::New),
        ("a SYN again", config(), None, segment(40000, SYN), Tracking::Known),
        ("a reset", config(), None, segment(40000, RST), Tracking::Known),
        ("an error", config(), None, icmp(3, 4, [0, 0, 5, 0x78], &quote[..28]), Tracking::Known),
        ("a later piece", config(), Some(first_piece), later_piece, Tracking::Known),
    ];
    for (name, config, before, packet, tracking) in rows {
        let mut world = connected(config);
        if let Some(before) = &before {
            assert!(matches!(world.fate(before), Fate::To(SERVER2, _)), "{name}");
        }
        note_error(&mut world, 3, 1);
        assert_eq!(world.fate(&packet), Fate::To(SERVER2, tracking), "{name}");
        assert_eq!(world.told_beside(&packet), None, "{name}");
        let known = udp(53, b"question");
        assert_eq!(world.fate(&known), Fate::To(SERVER2, Tracking::Known), "{name}");
        assert_eq!(world.told_beside(&known), Some(HOST), "{name}: the error is still pending");
        note_error(&mut world, 3, 1);
        assert_eq!(world.fate(&known), Fate::To(SERVER2, Tracking::Known), "{name}");
        assert_eq!(world.told_beside(&known), None, "one a second");
    }
}
