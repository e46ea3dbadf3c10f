//! The real server's journeys as a table. Names begin with the id, as in docs/standards.md, that they show;
//! every drop reason has a row.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_tund::encapsulation::{Decapsulated, ENCAPSULATIONS, Row, ipip};
use lvs_tund::packet::frame::{PartialChecksum, SegmentKind, Segments};
use lvs_tund::packet::ipv4::Ipv4;
use lvs_tund::packet::{Carrier, Frame, Malformed, Protocol};
use lvs_tund::realserver::Decapsulator;
use lvs_tund::realserver::guard::{Guard, GuardConfig, OwnAddresses, Service};
use lvs_tund::realserver::verdict::{DropReason, Verdict};

mod support;

use support::fields::Fields;
use support::packets::*;

const MTU: u16 = 1500;

fn guard_config() -> GuardConfig {
    GuardConfig {
        vips: vec![[172, 25, 3, 99].into(), VIP.into()],
        directors: ["172.25.3.1/32", "172.25.3.5/32", "10.9.0.0/16"].map(|net| net.parse().unwrap()).to_vec(),
        rips: Vec::new(),
        services: Vec::new(),
    }
}

fn guarded_by(config: GuardConfig) -> Decapsulator {
    Decapsulator::new(Guard::new(config, vec![SERVER2.into()]), ENCAPSULATIONS, MTU)
}

fn decapsulator() -> Decapsulator {
    guarded_by(guard_config())
}

/// What is expected: this inner packet delivered, or a drop.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Deliver(Vec<u8>),
    /// With a mark to be counted (RFC 6040 §4.2).
    Surprise(Vec<u8>),
    Drop(&'static str),
}

use Fate::{Deliver, Drop, Surprise};

fn fate_of(decapsulator: &Decapsulator, packet: &[u8]) -> Fate {
    let mut frame = Frame::from_packet(packet);
    match decapsulator.handle_packet(&mut frame) {
        Verdict::Deliver(delivery) => {
            assert_eq!(decapsulator.vip(delivery.vip), Some(VIP.into()), "on this VIP's account");
            let fate = if delivery.has_surprising_ecn { Surprise } else { Deliver };
            fate(frame.packet().to_vec())
        }
        Verdict::Drop(reason) => Drop(reason.label()),
    }
}

/// Two outer packets that differ in what the row's name describes: the first is delivered, the second dropped.
type Pair = (&'static str, Vec<u8>, Vec<u8>, &'static str);

fn assert_pairs(decapsulator: &Decapsulator, pairs: Vec<Pair>) {
    for (name, delivered, dropped, reason) in pairs {
        let inner = &delivered[20..];
        let length = usize::from(u16::from_be_bytes([inner[2], inner[3]]));
        assert_eq!(fate_of(decapsulator, &delivered), Deliver(inner[..length].to_vec()), "{name}: delivered");
        assert_eq!(fate_of(decapsulator, &dropped), Drop(reason), "{name}");
    }
}

fn w(inner: &[u8]) -> Vec<u8> {
    wrapped(inner, 4)
}

fn from(source: [u8; 4]) -> Vec<u8> {
    w(&tcp_between(source.into(), 40000, VIP, 80, ACK, b""))
}

fn format_pairs() -> Vec<Pair> {
    let good = tcp(ACK, b"data");
    let header_alone = ip(CLIENT, VIP, 50, b"");
    let of_protocol = |number: u8| w(&ip(CLIENT, VIP, number, &good));
    let with_ttl = |ttl: u8| w(&good.ttl(ttl));
    let of_length = |length: usize| w(&header_alone.total_length(length));
    let padded = ip(DIRECTOR, SERVER2, 4, &[&good[..], &[0; 6]].concat());
    let cut = ip(DIRECTOR, SERVER2, 4, &good[..good.len() - 2]);
    let bad_sum = good.wrong_header_checksum();
    let record_route = w(&with_options(&good, &[7, 3, 4, 0]));
    vec![
        ("R12 inner is IPIP again", of_protocol(50), of_protocol(4), "nested_tunnel"),
        ("R13 inner is GRE", of_protocol(50), of_protocol(47), "nested_tunnel"),
        ("R13 inner is 6in4", of_protocol(50), of_protocol(41), "nested_tunnel"),
        ("R14 GRE to the same address", w(&good), wrapped(&good, 47), "wrong_encapsulation"),
        ("R15 6in4", w(&good), wrapped(&good, 41), "wrong_encapsulation"),
        ("R16 inner cut to 19 bytes", w(&header_alone), w(&header_alone[..19]), "truncated"),
        ("R16 nothing inside", w(&header_alone), w(&[]), "truncated"),
        ("R17 inner IHL 4", w(&good), w(&good.header_words(4)), "bad_header_length"),
        ("R18, R19 the outer carries more, and less", padded, cut, "truncated"),
        ("R01, R20 inner checksum", w(&good), w(&bad_sum), "bad_checksum"),
        ("R21 inner version 6", w(&good), w(&good.version(6)), "bad_version"),
        ("inner total length under its header", of_length(20), of_length(19), "bad_total_length"),
        ("R22, R23 inner TTL 0, and 1", with_ttl(1), with_ttl(0), "ttl_expired"),
        (
            "R33 loose source route",
            record_route.clone(),
            w(&with_options(&good, &[131, 3, 4, 0])),
            "source_route",
        ),
        ("inner option past the header", record_route, w(&with_options(&good, &[7, 40, 0, 0])), "bad_option"),
        ("outer cut to 19 bytes", w(&good), w(&good)[..19].to_vec(), "truncated"),
        ("empty read", w(&good), Vec::new(), "truncated"),
    ]
}

fn address_pairs() -> Vec<Pair> {
    let good = tcp(ACK, b"data");
    let to = |vip: [u8; 4]| w(&tcp_between(CLIENT, 40000, vip.into(), 80, ACK, b""));
    let by = |director: [u8; 4]| ip(director.into(), SERVER2, 4, &good);
    let to_outer = |destination: [u8; 4]| ip(DIRECTOR, destination.into(), 4, &good);
    let piece = |whole: &[u8]| w(&as_fragment(&whole[20..], 0x0010));
    let (vip, client) = (VIP.octets(), CLIENT.octets());
    vec![
        ("R02 from no director", by(DIRECTOR.octets()), by(client), "unknown_peer"),
        ("outer destination broadcast", w(&good), to_outer([255, 255, 255, 255]), "outer_not_own"),
        ("outer destination multicast", w(&good), to_outer([224, 0, 0, 1]), "outer_not_own"),
        ("outer destination of another host", w(&good), to_outer(SERVER3.octets()), "outer_not_own"),
        ("outer destination the VIP", w(&good), to_outer(vip), "outer_not_own"),
        ("R02 from outside a director's prefix", by([10, 9, 255, 255]), by([10, 10, 0, 0]), "unknown_peer"),
        ("R03 inner destination no VIP", to(vip), to([172, 25, 3, 101]), "inner_not_vip"),
        ("R04 inner destination our own address", to(vip), to(SERVER2.octets()), "inner_not_vip"),
        ("R05 inner destination loopback", to(vip), to([127, 0, 0, 1]), "inner_not_vip"),
        ("R06 inner destination multicast", to(vip), to([224, 0, 0, 1]), "inner_not_vip"),
        ("R08 inner source the VIP", from(client), from(vip), "inner_martian"),
        ("R09 inner source ourselves", from(SERVER3.octets()), from(SERVER2.octets()), "inner_martian"),
        ("R10 inner source loopback", from([126, 255, 255, 255]), from([127, 0, 0, 1]), "inner_martian"),
        ("inner source loopback's last", from([128, 0, 0, 0]), from([127, 255, 255, 255]), "inner_martian"),
        ("inner source this network", from([1, 0, 0, 0]), from([0, 255, 255, 255]), "inner_martian"),
        ("inner source multicast", from([223, 255, 255, 255]), from([224, 0, 0, 0]), "inner_martian"),
        ("inner source broadcast", from([223, 0, 0, 1]), from([255, 255, 255, 255]), "inner_martian"),
        ("R11 inner source another director", from([172, 25, 3, 4]), from([172, 25, 3, 5]), "inner_martian"),
        ("R11 inner source a director", from([172, 25, 3, 4]), from(DIRECTOR.octets()), "inner_martian"),
        ("R30 an inner fragment", piece(&from(client)), piece(&from(vip)), "inner_martian"),
    ]
}

/// R24 to R28, all sixteen cells: outer columns and inner rows in the order Not-ECT, ECT(1), ECT(0), CE.
fn congestion_rows() -> Vec<(String, Vec<u8>, Fate)> {
    // RFC 6040 figure 4, numbers as on the wire: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE. True where it has "!" or "!!!".
    const FIGURE: [[Option<(u8, bool)>; 4]; 4] = [
        [Some((0, false)), Some((0, true)), Some((0, true)), None],
        [Some((1, false)), Some((1, false)), Some((1, true)), Some((3, false))],
        [Some((2, false)), Some((1, false)), Some((2, false)), Some((3, false))],
        [Some((3, false)), Some((3, true)), Some((3, false)), Some((3, false))],
    ];
    let mut rows = Vec::new();
    for inner in 0..4u8 {
        for outer in 0..4u8 {
            // R29: another DSCP outside is left outside.
            for (inside, outside) in [(0x28, 0xd4), (0xd4, 0x28)] {
                let packet = tcp(ACK, b"").tos(inside | inner);
                let given = w(&packet).tos(outside | outer);
                let after = |ecn| packet.tos(inside | ecn);
                let fate = match FIGURE[usize::from(inner)][usize::from(outer)] {
                    Some((ecn, false)) => Deliver(after(ecn)),
                    Some((ecn, true)) => Surprise(after(ecn)),
                    None => Drop("ecn_ce_on_not_ect"),
                };
                rows.push((format!("R24-R29 inner {inner:02b} outer {outer:02b}"), given, fate));
            }
        }
    }
    rows
}

#[test]
fn every_packet_has_its_fate() {
    let decapsulator = decapsulator();
    assert_pairs(&decapsulator, format_pairs());
    assert_pairs(&decapsulator, address_pairs());
    for (name, packet, expected) in congestion_rows() {
        assert_eq!(fate_of(&decapsulator, &packet), expected, "{name}");
    }
    assert_eq!(decapsulator.vip(2), None, "two VIPs");
}

/// An ICMP message of `kind` about a packet of `protocol` from `source` and `port`.
fn error_about(kind: u8, protocol: u8, source: Ipv4Addr, port: u16) -> Vec<u8> {
    let quoted = ip(source, CLIENT, protocol, &[&port.to_be_bytes()[..], &[0x9c, 0x40, 0, 0, 0, 1]].concat());
    w(&icmp(kind, 0, [0; 4], &quoted))
}

#[test]
fn only_served_ports_are_accepted() {
    let service = |protocol, port| Service { protocol, port };
    let services = vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)];
    let decapsulator = guarded_by(GuardConfig { services, ..guard_config() });
    let (http, dns) = (tcp(SYN, b""), udp(53, b"query"));
    let ssh = tcp_between(CLIENT, 40000, VIP, 22, SYN, b"");
    let of_protocol = |number: u8| w(&http.protocol(number));
    let begun = |length: usize| w(&ip(CLIENT, VIP, 6, &http[20..20 + length]));
    let about = |kind| error_about(kind, 6, VIP, 80);
    let whole = about(3)[20..].wrong_icmp_checksum();
    let later_quote = http.fragment(1);
    let reason = "inner_not_served";
    let pairs = vec![
        ("R07 a TCP port", w(&http), w(&ssh), reason),
        ("R07 a UDP port", w(&dns), w(&udp(54, b"query")), reason),
        ("R07 a port of TCP is none of UDP", w(&http), w(&udp(80, b"query")), reason),
        ("R07 a port of UDP is none of TCP", w(&dns), w(&dns.protocol(6)), reason),
        ("R07 SCTP", of_protocol(6), of_protocol(132), reason),
        ("R07 protocol 0", of_protocol(6), of_protocol(0), reason),
        ("ports are four bytes", begun(4), begun(3), reason),
        ("R30 a later fragment", w(&as_fragment(&ssh, 0x2001)), w(&as_fragment(&ssh, 0x2000)), reason),
        ("R31 an error about a served flow", about(3), error_about(3, 6, VIP, 22), reason),
        ("R31 about a datagram", error_about(3, 17, VIP, 53), error_about(3, 17, VIP, 80), reason),
        ("R31 about another host's packet", about(11), error_about(11, 6, SERVER3, 80), reason),
        ("R31 about a later fragment", about(12), w(&icmp(12, 0, [0; 4], &later_quote)), reason),
        ("R31 a whole error has a checksum", w(&as_fragment(&whole, 0x2000)), w(&whole), reason),
        ("R32 echo", about(3), w(&icmp(8, 0, [0; 4], b"ping")), reason),
        ("R32 echo with a served flow inside", about(3), about(8), reason),
        ("redirect", about(11), about(5), reason),
        ("source quench", about(12), about(4), reason),
    ];
    assert_pairs(&decapsulator, pairs);
}

#[test]
fn clients_may_live_in_a_directors_prefix() {
    let decapsulator = decapsulator();
    let (director, client) = ([10, 9, 0, 1].into(), [10, 9, 0, 77].into());
    let inner = tcp_between(client, 40000, VIP, 80, SYN, b"");
    assert_eq!(fate_of(&decapsulator, &ip(director, SERVER2, 4, &inner)), Deliver(inner));
    let inner = tcp_between(director, 40000, VIP, 80, SYN, b"");
    assert_eq!(fate_of(&decapsulator, &ip(director, SERVER2, 4, &inner)), Drop("inner_martian"));
}

/// An echo request from `source` with this identifier.
fn ping(source: Ipv4Addr, identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    w(&changed(&icmp(8, 0, [high, low, 0, 1], b"ping"), |bytes| {
        bytes[12..16].copy_from_slice(&source.octets());
    }))
}

/// RFC 2003 §3.1 would have all of them dropped; see the deviations in ARCHITECTURE.md.
#[test]
fn a_probe_of_the_director_that_sent_it_is_accepted_and_nothing_else_of_a_director() {
    let other = Ipv4Addr::new(172, 25, 3, 5);
    let by = |source: Ipv4Addr, port: u16| w(&tcp_between(source, port, VIP, 80, SYN, b""));
    let datagram = |port: u16| {
        w(&changed(&udp_between(CLIENT, port, 53, b"query"), |bytes| {
            bytes[12..16].copy_from_slice(&DIRECTOR.octets());
        }))
    };
    let reply = |probe: Vec<u8>| {
        let mut inner = probe[20..].to_vec();
        (inner[20], inner[22], inner[23]) = (0, 0, 0);
        let sum = checksum(&inner[20..]);
        inner[22..24].copy_from_slice(&sum.to_be_bytes());
        w(&inner)
    };
    let (first, later) =
        (as_fragment(&datagram(61_000)[20..], 0x2000), as_fragment(&datagram(61_000)[20..], 1));
    let from_vip = w(&tcp_between(VIP, 61_000, VIP, 80, SYN, b""));
    let martian = "inner_martian";
    let pairs = vec![
        ("the first port", by(DIRECTOR, 61_000), by(DIRECTOR, 60_999), martian),
        ("the last port", by(DIRECTOR, 62_999), by(DIRECTOR, 63_000), martian),
        ("UDP", datagram(61_000), datagram(60_999), martian),
        ("an echo request", ping(DIRECTOR, 61_000), ping(DIRECTOR, 60_999), martian),
        ("an echo reply", ping(DIRECTOR, 61_000), reply(ping(DIRECTOR, 61_000)), martian),
        ("another director's", by(DIRECTOR, 61_000), by(other, 61_000), martian),
        ("a VIP's", by(DIRECTOR, 61_000), from_vip, martian),
        ("our own", by(DIRECTOR, 61_000), by(SERVER2, 61_000), martian),
        ("a fragment without ports", w(&first), w(&later), martian),
        ("another protocol", by(DIRECTOR, 61_000), w(&by(DIRECTOR, 61_000)[20..].protocol(132)), martian),
    ];
    assert_pairs(&decapsulator(), pairs);
}

#[test]
fn a_probe_needs_a_served_port_and_an_echo_request_of_a_probe_does_not() {
    let services = vec![Service { protocol: Protocol::Tcp, port: 80 }];
    let decapsulator = guarded_by(GuardConfig { services, ..guard_config() });
    let to = |port: u16| w(&tcp_between(DIRECTOR, 61_000, VIP, port, SYN, b""));
    let reason = "inner_not_served";
    let pairs = vec![
        ("a served port", to(80), to(81), reason),
        ("an echo request", ping(DIRECTOR, 61_000), ping(CLIENT, 61_000), reason),
        ("with the identifier of a probe", ping(DIRECTOR, 62_999), ping(DIRECTOR, 63_000), reason),
    ];
    assert_pairs(&decapsulator, pairs);
}

#[test]
fn only_our_own_outer_destination_if_one_is_configured() {
    let rips = vec![SERVER2.into(), SERVER3.into()];
    let decapsulator = Decapsulator::new(
        Guard::new(GuardConfig { rips, ..guard_config() }, Vec::new()),
        ENCAPSULATIONS,
        MTU,
    );
    let to = |rip: [u8; 4]| ip(DIRECTOR, rip.into(), 4, &tcp(ACK, b""));
    let (other, own) = ([172, 25, 3, 4], SERVER3.octets());
    let pairs = vec![
        ("to an address that is not ours", to(SERVER2.octets()), to(other), "unknown_peer"),
        ("to another one of ours", to(own), to(VIP.octets()), "unknown_peer"),
        ("an inner source that is ours", from(other), from(own), "inner_martian"),
    ];
    assert_pairs(&decapsulator, pairs);
}

#[test]
fn an_address_is_accepted_while_the_host_has_it_and_never_a_broadcast_address() {
    let own = |unicast: &[Ipv4Addr]| OwnAddresses {
        unicast: Some(unicast.iter().map(|address| IpAddr::V4(*address)).collect()),
        broadcast: [[172, 25, 3, 255].into()].into(),
    };
    let current = Arc::new(ArcSwap::from_pointee(own(&[SERVER2])));
    let guarded = |rips: Vec<IpAddr>| {
        let guard = Guard::following(GuardConfig { rips, ..guard_config() }, current.clone());
        Decapsulator::new(guard, ENCAPSULATIONS, MTU)
    };
    let inner = tcp(ACK, b"");
    let fate =
        |decapsulator: &Decapsulator, to: [u8; 4]| fate_of(decapsulator, &ip(DIRECTOR, to.into(), 4, &inner));
    let (any, named) = (guarded(Vec::new()), guarded(vec![SERVER3.into(), [172, 25, 3, 255].into()]));
    let (delivered, refused) = (Deliver(inner.to_vec()), Drop("outer_not_own"));
    assert_eq!(fate(&any, SERVER3.octets()), refused);
    assert_eq!(fate(&named, SERVER3.octets()), delivered, "routed to this host, and named by its operator");
    current.store(Arc::new(own(&[SERVER3])));
    assert_eq!(fate(&any, SERVER3.octets()), delivered);
    assert_eq!(fate(&any, SERVER2.octets()), refused);
    for decapsulator in [&any, &named] {
        assert_eq!(fate(decapsulator, [172, 25, 3, 255]), refused);
    }
    let by = |client: [u8; 4]| fate_of(&guarded(vec![SERVER2.into()]), &from(client));
    assert_eq!(by([172, 25, 3, 255]), Drop("inner_martian"));
    assert_eq!(by(SERVER3.octets()), Drop("inner_martian"));
    assert!(matches!(by([172, 25, 3, 254]), Deliver(_)));
}

/// `packet` with a transport checksum that was only begun: the folded sum of the pseudo-header.
fn begun(mut packet: Vec<u8>, field: usize) -> Vec<u8> {
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, packet[9]]);
    pseudo.extend(((packet.len() - 20) as u16).to_be_bytes());
    let sum = !checksum(&pseudo);
    // As much of the field as the packet holds.
    for (byte, value) in packet.iter_mut().skip(field).zip(sum.to_be_bytes()) {
        *byte = value;
    }
    packet
}

fn offload_of(mtu: u16, inner: &[u8]) -> (Option<PartialChecksum>, Option<Segments>) {
    let mut frame = Frame::from_packet(&w(inner));
    let decapsulator = Decapsulator::new(Guard::new(guard_config(), Vec::new()), ENCAPSULATIONS, mtu);
    assert!(matches!(decapsulator.handle_packet(&mut frame), Verdict::Deliver(_)), "{inner:?}");
    assert_eq!(frame.packet(), inner, "bytes are left as they came");
    (frame.offload.checksum, frame.offload.segments)
}

const TCP_CHECKSUM: Option<PartialChecksum> = Some(PartialChecksum { start: 20, field: 36 });
const UDP_CHECKSUM: Option<PartialChecksum> = Some(PartialChecksum { start: 20, field: 26 });

/// The kernel does not report to a raw socket which checksums are still to be completed.
#[test]
fn begun_checksums_are_marked_for_the_host() {
    let offload_of = |inner: &[u8]| offload_of(MTU, inner);
    let http = begun(tcp(ACK, b"data"), 36);
    assert_eq!(offload_of(&tcp(ACK, b"data")), (None, None), "finished");
    assert_eq!(offload_of(&http), (TCP_CHECKSUM, None));
    assert_eq!(offload_of(&begun(udp(53, b"data"), 26)), (UDP_CHECKSUM, None));
    assert_eq!(offload_of(&udp(53, b"").no_udp_checksum()), (None, None), "no checksum");
    assert_eq!(offload_of(&http.protocol(132)), (None, None), "no field of SCTP");
    for word in [0x2000, 0x0001] {
        assert_eq!(offload_of(&as_fragment(&http, word)), (None, None), "a fragment has no sum of its own");
    }
}

/// A transport header may be cut at any byte: its checksum counts from the byte on that completes the field.
#[test]
fn a_cut_transport_header_has_a_checksum_from_its_fields_end_on() {
    for (protocol, field, mark) in [(6, 16, TCP_CHECKSUM), (17, 6, UDP_CHECKSUM)] {
        for length in 0..=24 {
            let inner = begun(ip(CLIENT, VIP, protocol, &vec![0; length]), 20 + field);
            let expected = if length >= field + 2 { mark } else { None };
            assert_eq!(offload_of(MTU, &inner), (expected, None), "{length} bytes of protocol {protocol}");
        }
    }
}

#[test]
fn packets_above_the_mtu_are_marked_as_several_segments() {
    let segments = |size| Some(Segments { kind: SegmentKind::TcpV4, size, header_length: 44 });
    let of_length = |length: u16| begun(tcp(ACK, &vec![7; usize::from(length) - 44]), 36);
    assert_eq!(offload_of(MTU, &of_length(20_000)), (TCP_CHECKSUM, segments(MTU - 20 - 44)));
    assert_eq!(offload_of(MTU, &of_length(MTU + 1)), (TCP_CHECKSUM, segments(MTU - 20 - 44)));
    assert_eq!(offload_of(MTU, &of_length(MTU)), (TCP_CHECKSUM, None), "as large as the MTU");
    assert_eq!(offload_of(65, &of_length(80)), (TCP_CHECKSUM, segments(1)), "one byte fits");
    for mtu in [40, 64] {
        assert_eq!(
            offload_of(mtu, &of_length(80)),
            (TCP_CHECKSUM, segments(1)),
            "a segment has a byte at least"
        );
    }
    assert_eq!(offload_of(MTU, &begun(udp(53, &[7; 20_000]), 26)), (UDP_CHECKSUM, None), "a datagram is one");
    // Where TCP has the length of its header, a datagram has data.
    let like_tcp = begun(udp(53, &[0x50; 20_000]), 26);
    assert_eq!(offload_of(MTU, &like_tcp), (UDP_CHECKSUM, None), "a datagram is one");
    let no_header = of_length(20_000).data_offset(4);
    assert_eq!(offload_of(MTU, &no_header), (TCP_CHECKSUM, None), "a TCP header shorter than any");
}

/// A second format, as one file and one row would add it: behind UDP, and with one more header.
const TWO_FORMATS: &[Row] = &[
    ipip::ROW,
    Row { name: "test", carrier: Carrier::UdpPort(6080), overhead: 28, decapsulate: behind_udp, ..ipip::ROW },
];

fn behind_udp(outer: Ipv4<'_>) -> Result<Decapsulated<'_>, Malformed> {
    let inner = Ipv4::parse(&outer.payload()[8..])?;
    Ok(Decapsulated { outer, inner, start: outer.header_length() + 8 })
}

#[test]
fn every_format_of_the_table_is_unwrapped_by_its_own_row() {
    let by_udp = |source, port: u16, inner: &[u8]| {
        let length = (inner.len() as u16 + 8).to_be_bytes();
        let header = [&[0x17, 0xc0][..], &port.to_be_bytes(), &length, &[0, 0]].concat();
        ip(source, SERVER2, 17, &[&header[..], inner].concat())
    };
    let inner = tcp(ACK, b"data");
    let decapsulator = Decapsulator::new(Guard::new(guard_config(), vec![SERVER2.into()]), TWO_FORMATS, MTU);
    assert_eq!(fate_of(&decapsulator, &w(&inner)), Deliver(inner.clone()));
    assert_eq!(fate_of(&decapsulator, &by_udp(DIRECTOR, 6080, &inner)), Deliver(inner.clone()));
    assert_eq!(fate_of(&decapsulator, &by_udp(DIRECTOR, 6081, &inner)), Drop("wrong_encapsulation"));
    assert_eq!(fate_of(&decapsulator, &by_udp(CLIENT, 6080, &inner)), Drop("unknown_peer"));
    let mut coalesced = Frame::from_packet(&by_udp(DIRECTOR, 6080, &begun(tcp(ACK, &[7; 20_000]), 36)));
    assert!(matches!(decapsulator.handle_packet(&mut coalesced), Verdict::Deliver(_)));
    assert_eq!(coalesced.offload.segments.map(|segments| segments.size), Some(MTU - 28 - 44));
}

#[test]
fn every_drop_reason_has_a_row() {
    let pairs = format_pairs().into_iter().chain(address_pairs()).map(|(_, _, _, reason)| reason);
    let congestion = congestion_rows().into_iter().filter_map(|(_, _, fate)| match fate {
        Drop(reason) => Some(reason),
        Deliver(_) | Surprise(_) => None,
    });
    // Shown by `only_served_ports_are_accepted` and by the counters' unit tests.
    let elsewhere = ["inner_not_served", "send_error"];
    let shown: BTreeSet<&str> = pairs.chain(congestion).chain(elsewhere).collect();
    for reason in DropReason::ALL {
        assert!(shown.contains(reason.label()), "{reason} is shown by no row");
    }
}
