//! The real server's journeys as a table. Names begin with the row of bad-input.md §5 they show; every
//! drop reason has a row.

use std::collections::BTreeSet;

use lvs_tund::encapsulation::ipip;
use lvs_tund::packet::frame::{PartialChecksum, SegmentKind, Segments};
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::realserver::Decapsulator;
use lvs_tund::realserver::guard::{Guard, GuardConfig, Service};
use lvs_tund::realserver::verdict::{DropReason, Verdict};

#[path = "support/packets.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod packets;

use packets::*;

const MTU: u16 = 1500;

fn decapsulator(services: Vec<Service>) -> Decapsulator {
    let config = GuardConfig {
        vips: vec![VIP.into()],
        directors: vec!["172.25.3.1/32".parse().unwrap(), "10.9.0.0/16".parse().unwrap()],
        rips: Vec::new(),
        services,
    };
    Decapsulator::new(Guard::new(config, vec![SERVER2.into()]), &ipip::ROW, MTU)
}

fn web() -> Vec<Service> {
    vec![Service { protocol: Protocol::Tcp, port: 80 }]
}

/// What is expected: delivered with this inner packet, or dropped.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Deliver(Vec<u8>),
    Drop(&'static str),
}

use Fate::{Deliver, Drop};

fn fate_of(decapsulator: &Decapsulator, packet: &[u8]) -> Fate {
    let mut frame = Frame::from_packet(packet);
    match decapsulator.handle_packet(&mut frame) {
        Verdict::Deliver(_) => Deliver(frame.packet().to_vec()),
        Verdict::Drop(reason) => Drop(reason.label()),
    }
}

fn rows() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let good = tcp(ACK, b"data");
    let w = |inner: &[u8]| wrapped(inner, 4);
    let to = |vip: [u8; 4]| w(&tcp_between(CLIENT, 40000, vip.into(), 80, ACK, b""));
    let from = |source: [u8; 4]| w(&tcp_between(source.into(), 40000, VIP, 80, ACK, b""));
    let ttl = |ttl: u8| changed(&good, |b| b[8] = ttl);
    let padded = ip(DIRECTOR, SERVER2, 4, &[&good[..], &[0; 6]].concat());
    let cut = ip(DIRECTOR, SERVER2, 4, &good[..good.len() - 2]);
    vec![
        ("R01 good", w(&good), Deliver(good.clone())),
        ("R02 from no director", ip(CLIENT, SERVER2, 4, &good), Drop("unknown_peer")),
        ("R03 inner destination no VIP", to([172, 25, 3, 101]), Drop("inner_not_vip")),
        ("R04 inner destination our own address", to(SERVER2.octets()), Drop("inner_not_vip")),
        ("R05 inner destination loopback", to([127, 0, 0, 1]), Drop("inner_not_vip")),
        ("R06 inner destination multicast", to([224, 0, 0, 1]), Drop("inner_not_vip")),
        ("R08 inner source the VIP", from(VIP.octets()), Drop("inner_martian")),
        ("R09 inner source ourselves", from(SERVER2.octets()), Drop("inner_martian")),
        ("R10 inner source loopback", from([127, 0, 0, 1]), Drop("inner_martian")),
        ("R11 inner source a director", from(DIRECTOR.octets()), Drop("inner_martian")),
        ("R12 inner is IPIP again", w(&ip(CLIENT, VIP, 4, &good)), Drop("nested_tunnel")),
        ("R13 inner is GRE", w(&ip(CLIENT, VIP, 47, &[0; 8])), Drop("nested_tunnel")),
        ("R13 inner is 6in4", w(&ip(CLIENT, VIP, 41, &[0x60; 40])), Drop("nested_tunnel")),
        ("R14 GRE to the same address", wrapped(&good, 47), Drop("wrong_encapsulation")),
        ("R15 6in4", wrapped(&good, 41), Drop("wrong_encapsulation")),
        ("R16 inner cut to 19 bytes", w(&good[..19]), Drop("truncated")),
        ("R16 nothing inside", w(&[]), Drop("truncated")),
        ("R17 inner IHL 4", w(&changed(&good, |b| b[0] = 0x44)), Drop("bad_header_length")),
        ("R18 inner longer than the outer carries", cut, Drop("truncated")),
        ("R19 outer carries more", padded, Deliver(good.clone())),
        (
            "R20 inner checksum",
            w(&{
                let mut b = good.clone();
                b[10] ^= 1;
                b
            }),
            Drop("bad_checksum"),
        ),
        ("R21 inner version 6", w(&changed(&good, |b| b[0] = 0x65)), Drop("bad_version")),
        (
            "inner total length under its header",
            w(&changed(&good, |b| b[2..4].fill(0))),
            Drop("bad_total_length"),
        ),
        ("R22 inner TTL 0", w(&ttl(0)), Drop("ttl_expired")),
        ("R23 inner TTL 1", w(&ttl(1)), Deliver(ttl(1))),
        ("R30 inner fragment", w(&as_fragment(&good, 0x0010)), Deliver(as_fragment(&good, 0x0010))),
        ("R33 loose source route", w(&with_options(&good, &[131, 3, 4, 0])), Drop("source_route")),
        ("inner option past the header", w(&with_options(&good, &[7, 40, 0, 0])), Drop("bad_option")),
        ("outer cut to 19 bytes", w(&good)[..19].to_vec(), Drop("truncated")),
        ("empty read", Vec::new(), Drop("truncated")),
    ]
}

/// R24 to R28, all sixteen cells: outer columns and inner rows in the order Not-ECT, ECT(1), ECT(0), CE.
fn congestion_rows() -> Vec<(String, Vec<u8>, Fate)> {
    // RFC 6040 figure 4, numbers as on the wire: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    const FIGURE: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    let mut rows = Vec::new();
    for inner in 0..4u8 {
        for outer in 0..4u8 {
            // R29: another DSCP outside is left outside.
            let packet = changed(&tcp(ACK, b""), |b| b[1] = 0x28 | inner);
            let given = changed(&wrapped(&packet, 4), |b| b[1] = 0xb8 | outer);
            let fate = match FIGURE[usize::from(inner)][usize::from(outer)] {
                Some(after) => Deliver(changed(&packet, |b| b[1] = 0x28 | after)),
                None => Drop("ecn_ce_on_not_ect"),
            };
            rows.push((format!("R24-R29 inner {inner:02b} outer {outer:02b}"), given, fate));
        }
    }
    rows
}

#[test]
fn every_packet_has_its_fate() {
    let decapsulator = decapsulator(Vec::new());
    for (name, packet, expected) in rows() {
        assert_eq!(fate_of(&decapsulator, &packet), expected, "{name}");
    }
    for (name, packet, expected) in congestion_rows() {
        assert_eq!(fate_of(&decapsulator, &packet), expected, "{name}");
    }
}

#[test]
fn only_served_ports_are_let_in() {
    let decapsulator = decapsulator(web());
    let w = |inner: &[u8]| wrapped(inner, 4);
    let ssh = tcp_between(CLIENT, 40000, VIP, 22, SYN, b"");
    let echo = icmp(8, 0, [0; 4], b"ping");
    let quote = |port| icmp(3, 4, [0, 0, 5, 0x78], &tcp_between(VIP, port, CLIENT, 40000, ACK, b"")[..28]);
    let later = as_fragment(&tcp(ACK, b"data"), 0x0010);
    let elsewhere = tcp_between(SERVER3, 80, CLIENT, 40000, ACK, b"");
    let about_elsewhere = icmp(3, 4, [0, 0, 5, 0x78], &elsewhere[..28]);
    // Cut on its way: what is here of it has another checksum than the whole.
    let mut message = quote(80)[20..].to_vec();
    message[2] ^= 1;
    let piece = as_fragment(&ip(CLIENT, VIP, 1, &message), 0x2000);
    let rows = [
        ("served", tcp(SYN, b""), Deliver(tcp(SYN, b""))),
        ("R07 a port that is not served", ssh, Drop("inner_not_served")),
        ("R07 another protocol", udp(80, b""), Drop("inner_not_served")),
        ("R31 an error about a served flow", quote(80), Deliver(quote(80))),
        ("R31 an error about another flow", quote(22), Drop("inner_not_served")),
        ("R31 an error about another host's packet", about_elsewhere, Drop("inner_not_served")),
        ("R31 the first piece of an error", piece.clone(), Deliver(piece)),
        ("R32 echo", echo, Drop("inner_not_served")),
        ("R30 a later fragment", later.clone(), Deliver(later)),
    ];
    for (name, inner, expected) in rows {
        assert_eq!(fate_of(&decapsulator, &w(&inner)), expected, "{name}");
    }
}

#[test]
fn clients_may_live_in_a_directors_prefix() {
    let decapsulator = decapsulator(Vec::new());
    let (director, client) = ([10, 9, 0, 1].into(), [10, 9, 0, 77].into());
    let inner = tcp_between(client, 40000, VIP, 80, SYN, b"");
    assert_eq!(fate_of(&decapsulator, &ip(director, SERVER2, 4, &inner)), Deliver(inner));
    let inner = tcp_between(director, 40000, VIP, 80, SYN, b"");
    assert_eq!(fate_of(&decapsulator, &ip(director, SERVER2, 4, &inner)), Drop("inner_martian"));
}

#[test]
fn only_our_own_outer_destination_if_one_is_configured() {
    let config = GuardConfig {
        vips: vec![VIP.into()],
        directors: vec!["172.25.3.1/32".parse().unwrap()],
        rips: vec![SERVER3.into()],
        services: Vec::new(),
    };
    let decapsulator = Decapsulator::new(Guard::new(config, Vec::new()), &ipip::ROW, MTU);
    assert_eq!(fate_of(&decapsulator, &wrapped(&tcp(ACK, b""), 4)), Drop("unknown_peer"));
}

/// datapath.md §3.6: what the kernel does not say is found out again.
#[test]
fn begun_checksums_and_coalesced_packets_are_marked_for_the_host() {
    let pseudo_sum = |packet: &[u8]| {
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, packet[9]]);
        pseudo.extend(((packet.len() - 20) as u16).to_be_bytes());
        !checksum(&pseudo)
    };
    let begun = |mut packet: Vec<u8>, field: usize| {
        let sum = pseudo_sum(&packet);
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let offload_of = |inner: &[u8]| {
        let mut frame = Frame::from_packet(&wrapped(inner, 4));
        assert!(matches!(decapsulator(Vec::new()).handle_packet(&mut frame), Verdict::Deliver(_)));
        assert_eq!(frame.packet(), inner, "bytes are left as they came");
        (frame.offload.checksum, frame.offload.segments)
    };
    let tcp_checksum = Some(PartialChecksum { start: 20, field: 36 });
    assert_eq!(offload_of(&tcp(ACK, b"data")), (None, None), "finished");
    assert_eq!(offload_of(&begun(tcp(ACK, b"data"), 36)), (tcp_checksum, None));
    let udp_checksum = Some(PartialChecksum { start: 20, field: 26 });
    assert_eq!(offload_of(&begun(udp(53, b"data"), 26)), (udp_checksum, None));
    assert_eq!(offload_of(&changed(&udp(53, b""), |b| b[26..28].fill(0))), (None, None), "no checksum");
    let big = begun(tcp(ACK, &[7; 20_000]), 36);
    let segments = Segments { kind: SegmentKind::TcpV4, size: MTU - 20 - 44, header_length: 44 };
    assert_eq!(offload_of(&big), (tcp_checksum, Some(segments)));
}

#[test]
fn every_drop_reason_has_a_row() {
    let plain = rows().into_iter().map(|(_, _, fate)| fate);
    let congestion = congestion_rows().into_iter().map(|(_, _, fate)| fate);
    let shown: BTreeSet<&str> = plain
        .chain(congestion)
        .filter_map(|fate| match fate {
            Drop(reason) => Some(reason),
            Deliver(_) => None,
        })
        // Shown by `only_served_ports_are_let_in` and by the counters' unit tests.
        .chain(["inner_not_served", "send_error"])
        .collect();
    for reason in DropReason::ALL {
        assert!(shown.contains(reason.label()), "{reason} is shown by no row");
    }
}
