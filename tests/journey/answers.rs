//! The answers of the director, and what they take from the packet they answer.

use super::*;
use crate::support::fields::Fields;
use crate::support::packets::*;

/// Every header of the same row: TOS, identification, DF and TTL as another host may choose them. A row that
/// depends on one of them keeps it.
fn variants(packet: &[u8], fate: &Fate) -> Vec<(&'static str, Vec<u8>)> {
    let is_too_big = *fate == Reply(TOO_BIG, Some("too_big"));
    let is_expired = *fate == Reply(TIME_EXCEEDED, Some("ttl_expired"));
    let mut all = vec![
        ("TOS", packet.tos(0x48)),
        ("TOS with ECN", packet.tos(0xba)),
        ("identification", packet.identification(0xabcd)),
        ("identification 0", packet.identification(0)),
        ("options", with_options(packet, &[148, 4, 0, 0])),
    ];
    if !is_too_big {
        all.push(("DF", packet.other_dont_fragment()));
    }
    if !is_expired {
        all.extend([("TTL 1", packet.ttl(1)), ("TTL 255", packet.ttl(255))]);
    }
    all
}

#[test]
fn a_fate_does_not_depend_on_what_a_host_chooses_for_its_header() {
    let mut shown = BTreeSet::new();
    for (name, packet, expected) in all_rows() {
        let has_plain_header = packet.first() == Some(&0x45) && !name.starts_with("D12");
        let is_full = packet.len() > 1476 && expected == Forward;
        if !has_plain_header || is_full || !matches!(expected, Forward | Reply(..)) {
            continue;
        }
        for (field, variant) in variants(&packet, &expected) {
            assert_eq!(world().fate_of(&variant), expected, "{name}: another {field}");
        }
        shown.insert(match &expected {
            Reply(said, _) => said.label(),
            _ => "forwarded",
        });
    }
    let all = ["echo_reply", "forwarded", "port_unreachable", "tcp_reset", "time_exceeded", "too_big"];
    assert_eq!(shown, BTreeSet::from(all), "each kind of fate has a row");
}

/// RFC 1812 §4.3.2.3, by the oracle: an error quotes what fits into 576 bytes.
#[test]
fn an_error_about_a_packet_of_any_size_is_one_datagram() {
    for (length, expected) in [(28, 56), (547, 575), (548, 576), (549, 576), (1500, 576), (65_535, 576)] {
        let packet = udp_of(length, true).destination_port(54);
        let (verdict, out) = world().handle(&packet);
        assert!(matches!(verdict, Verdict::Reply(_)), "{length}: {verdict:?}");
        assert_eq!(out.len(), expected, "{length}");
    }
}

#[test]
fn an_echo_of_any_size_comes_back_whole() {
    for data in [0, 1, 56, 1472, 9000, 65_507] {
        let echo = icmp(8, 0, [0xfe, 0xdc, 0xba, 0x98], &vec![0xa5; data]);
        let (verdict, out) = world().handle(&echo);
        assert_eq!(world().judged(&verdict, &echo, &out), Reply(Said::Echo, None), "{data}");
    }
}

/// RFC 9293 §3.10.7.1.
#[test]
fn a_reset_answers_the_numbers_of_the_segment() {
    let ports = [(40000, 82), (1, 65_535), (65_535, 1)];
    let rows = [
        ("SYN", SYN, &b""[..], reset_up_to(1001)),
        ("SYN with data", SYN, b"fast open", reset_up_to(1010)),
        ("ACK", ACK, b"", reset_at(5000)),
        ("ACK with data", ACK | PSH, b"GET /", reset_at(5000)),
        ("FIN and ACK", FIN | ACK, b"", reset_at(5000)),
        ("SYN and ACK", SYN | ACK, b"", reset_at(5000)),
    ];
    for (name, flags, data, expected) in rows {
        for (source_port, port) in ports {
            let segment = tcp_between(CLIENT, source_port, VIP, port, flags, data);
            let expected = Reply(expected.clone(), Some("no_service"));
            assert_eq!(world().fate_of(&segment), expected, "{name} to {port}");
        }
        let silent = tcp_between(CLIENT, 40000, VIP, 82, (flags & !SYN) | RST, data);
        assert_eq!(world().fate_of(&silent), Drop("no_service"), "{name} with RST");
    }
}

/// RFC 791 §3.2: pieces are reassembled by identification, and the kernel gives a packet that it sends with
/// identification 0 another one, each piece its own.
#[test]
fn pieces_of_an_echo_share_an_identification_that_is_not_zero() {
    let whole = icmp(8, 0, [0x12, 0x34, 0, 1], &(0..100).collect::<Vec<u8>>());
    for (identification, expected) in
        [(0x1234u16, Some(0x1234)), (0x0100, Some(0x0100)), (1, Some(1)), (0, None)]
    {
        for tos in [0, 0x48] {
            let mut world = world();
            let (mut message, mut identifications) = (Vec::new(), BTreeSet::new());
            for (from, to, more) in [(0, 40, 0x2000), (40, 80, 0x2000), (80, 108, 0)] {
                let piece =
                    as_fragment(&ip(CLIENT, VIP, 1, &whole[20 + from..20 + to]), more | (from / 8) as u16);
                let piece = piece.tos(tos).identification(identification);
                let (verdict, out) = world.handle(&piece);
                assert_eq!(world.judged(&verdict, &piece, &out), Reply(Said::Echo, None));
                let (header, data) = oracle::header_of(&out);
                identifications.insert(header.identification);
                message.extend_from_slice(data);
            }
            assert_eq!((message[0], checksum(&message), &message[4..]), (0, 0, &whole[24..]));
            assert_eq!(identifications.len(), 1, "{identifications:?}");
            if let Some(expected) = expected {
                assert!(identifications.contains(&expected), "{identifications:?}");
            }
        }
    }
}

/// RFC 1122 §3.2.2: the sender of a first piece is notified, the sender of later ones is not.
#[test]
fn an_error_about_a_first_piece_quotes_the_piece() {
    for (name, piece) in [
        ("an echo", as_fragment(&icmp(8, 0, [0, 1, 0, 1], &[7; 72]), 0x2000)),
        ("a datagram", as_fragment(&udp(53, &[7; 72]), 0x2000)),
    ] {
        let expired = piece.ttl(0);
        assert_eq!(world().fate_of(&expired), Reply(TIME_EXCEEDED, Some("ttl_expired")), "{name}");
        let later = as_fragment(&expired, 0x200a).ttl(0);
        assert_eq!(world().fate_of(&later), Drop("ttl_expired"), "{name}, later");
    }
}
