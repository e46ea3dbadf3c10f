//! The director's journeys as a table: a packet, its fate, what leaves. Names begin with the id,
//! as in docs/standards.md, that they show; every drop reason has a row. Each packet that leaves in a test
//! of this file is read by `journey/oracle.rs`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{
    ClusterConfig, HostView, NoService, Path, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, Route, Tracking, Verdict};
use lvs_tund::packet::Protocol;
use lvs_tund::time::Moment;

#[path = "journey/answers.rs"]
mod answers;
#[path = "journey/limits.rs"]
mod limits;
#[path = "journey/oracle.rs"]
mod oracle;
use oracle::Said;
#[path = "journey/wrapped.rs"]
mod wrapped;

mod support;

use support::fields::Fields;
use support::packets::*;
use support::world::World;

/// What is expected: forwarded as it is, forwarded without link padding, answered, or dropped.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Forward,
    ForwardTrimmed(usize),
    /// The content of the answer, and the reason that explain prints.
    Reply(Said, Option<&'static str>),
    Hold,
    Drop(&'static str),
}

use Fate::{Drop, Forward, ForwardTrimmed, Hold, Reply};

/// A reset with nothing to acknowledge, to the sender that acknowledged `sequence`.
const fn reset_at(sequence: u32) -> Said {
    Said::Reset { sequence, acknowledgement: None }
}

/// A reset that acknowledges what came.
const fn reset_up_to(acknowledgement: u32) -> Said {
    Said::Reset { sequence: 0, acknowledgement: Some(acknowledgement) }
}

const PORT_UNREACHABLE: Said = Said::Error(3, 3, 0);
const TIME_EXCEEDED: Said = Said::Error(11, 0, 0);
/// Of a path that carries 1500 bytes, 20 of them ours.
const TOO_BIG: Said = Said::Error(3, 4, 1480);

fn service(name: &str, protocol: Protocol, port: u16, weight: u32) -> VirtualServiceConfig {
    let server = |rip: std::net::Ipv4Addr| RealServerConfig::new(rip.into(), weight);
    VirtualServiceConfig {
        real_servers: vec![server(SERVER2), server(SERVER3)],
        ..VirtualServiceConfig::new(name, protocol, VIP.into(), port, &rr::ROW)
    }
}

/// TCP 80 and UDP 53 in rr over two real servers; TCP 81 has only quiesced ones.
fn config() -> ClusterConfig {
    ClusterConfig {
        virtual_services: vec![
            service("web", Protocol::Tcp, 80, 1),
            service("quiet", Protocol::Tcp, 81, 0),
            service("dns", Protocol::Udp, 53, 1),
        ],
        ..ClusterConfig::default()
    }
}

fn world_of(config: ClusterConfig, connections_max: usize) -> World {
    let path = Path { source: DIRECTOR, mtu: 1500 };
    let host = HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: [(SERVER2.into(), path), (SERVER3.into(), path)].into(),
        ..HostView::default()
    };
    World::new(config, host, Tables::new(connections_max, 7))
}

fn world() -> World {
    world_of(config(), 1000)
}

impl World {
    /// The verdict and what the frame then holds, which has been judged: see [`World::judged`].
    fn handle(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let (verdict, out) = self.process(packet);
        self.judged(&verdict, packet, &out);
        (verdict, out)
    }

    fn fate_of(&mut self, packet: &[u8]) -> Fate {
        let (verdict, out) = self.handle(packet);
        self.judged(&verdict, packet, &out)
    }

    /// The fate, and the invariants every fate has: all fields of what leaves are as the packet, the route and the
    /// fate want them.
    fn judged(&self, verdict: &Verdict, packet: &[u8], out: &[u8]) -> Fate {
        match verdict {
            Verdict::Transmit(route) => {
                self.check_account(route);
                let inner = oracle::unwrapped(out, route.to()).inner;
                if inner.len() < usize::from(u16::from_be_bytes([packet[2], packet[3]])) {
                    // Cut: its pieces are compared with it together, by `assert_is_made_of`.
                    return Forward;
                }
                assert_eq!(inner, &packet[..inner.len()], "the inner packet is not touched");
                if inner.len() == packet.len() { Forward } else { ForwardTrimmed(packet.len() - inner.len()) }
            }
            Verdict::Reply(reply) => {
                let said = oracle::said(packet, out);
                assert_eq!(reply.kind.label(), said.label());
                assert_eq!(reply.to, IpAddr::from(*packet[12..].first_chunk::<4>().expect("a source")));
                Reply(said, reply.reason.map(DropReason::label))
            }
            Verdict::Pass => panic!("no VIP is an address of the host"),
            Verdict::Hold => Hold,
            Verdict::Drop(reason) => Drop(reason.label()),
        }
    }

    /// On whose account a packet goes: the real server it goes to, and the virtual service that has it.
    fn check_account(&self, route: &Route) {
        let cluster = self.cluster.load();
        let server = cluster.real_server(route.real_server).expect("a real server");
        assert_eq!((IpAddr::from(server.rip), server.virtual_service), (route.to(), route.virtual_service));
    }

    /// Lets a connection be known: SYN, then ACK.
    fn established(mut self) -> World {
        for flags in [SYN, ACK] {
            assert!(matches!(self.handle(&tcp(flags, b"")).0, Verdict::Transmit(_)));
        }
        self
    }
}

/// A quote of what the VIP sent in the connection of port 40000.
fn quote_of_reply(length: usize) -> Vec<u8> {
    let reply = tcp_between(VIP, 80, CLIENT, 40000, ACK, &[0; 1400]);
    reply[..length].to_vec()
}

fn udp_of(length: usize, dont_fragment: bool) -> Vec<u8> {
    let packet = udp(53, &vec![0; length - 28]);
    as_fragment(&packet, if dont_fragment { 0x4000 } else { 0 })
}

fn headers() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let syn = tcp(SYN, b"");
    let from = |source: [u8; 4]| tcp_between(source.into(), 40000, VIP, 80, SYN, b"");
    vec![
        ("D01 empty read", vec![], Drop("truncated")),
        ("D02 one byte", vec![0x45], Drop("truncated")),
        ("D03 nineteen bytes", syn[..19].to_vec(), Drop("truncated")),
        ("D04 version 0", syn.version(0), Drop("bad_version")),
        ("D05 version 5", syn.version(5), Drop("bad_version")),
        ("D06 IHL 0", syn.header_words(0), Drop("bad_header_length")),
        ("D07 IHL 4", syn.header_words(4), Drop("bad_header_length")),
        ("D08 IHL 15 on 40 bytes", syn[..40].header_words(15), Drop("bad_header_length")),
        ("D09 total length under the header", syn.total_length(19), Drop("bad_total_length")),
        ("D10 total length 0", syn.total_length(0), Drop("bad_total_length")),
        ("D11 total length past the read", syn.total_length(syn.len() + 1), Drop("truncated")),
        ("D12 six bytes of link padding", [&syn[..], &[0; 6]].concat(), ForwardTrimmed(6)),
        ("D13 bad header checksum", syn.wrong_header_checksum(), Drop("bad_checksum")),
        ("D14 TTL 0", syn.ttl(0), Reply(TIME_EXCEEDED, Some("ttl_expired"))),
        ("D16 reserved flag", syn.reserved_flag(), Forward),
        ("D17 DF", as_fragment(&syn, 0x4000), Forward),
        ("D18 record route", with_options(&syn, &[7, 7, 4, 0, 0, 0, 0, 0]), Forward),
        ("D19 loose source route", with_options(&syn, &[131, 7, 4, 10, 0, 0, 1, 0]), Drop("source_route")),
        ("D20 strict source route", with_options(&syn, &[137, 7, 4, 10, 0, 0, 1, 0]), Drop("source_route")),
        ("D21 option length 0", with_options(&syn, &[7, 0, 0, 0]), Drop("bad_option")),
        ("D22 option past the header", with_options(&syn, &[7, 40, 0, 0]), Drop("bad_option")),
        ("D23 land", from(VIP.octets()), Drop("martian_source")),
        ("D24 from the director itself", from(DIRECTOR.octets()), Drop("martian_source")),
        ("D25 from the chosen real server", from(SERVER2.octets()), Drop("source_is_tunnel_exit")),
        ("D26 from 0.0.0.0", from([0, 0, 0, 0]), Drop("martian_source")),
        ("D27 from loopback", from([127, 0, 0, 1]), Drop("martian_source")),
        ("D28 from broadcast", from([255, 255, 255, 255]), Drop("martian_source")),
        ("D29 from multicast", from([224, 0, 0, 1]), Drop("martian_source")),
        ("D30 from class E", from([240, 0, 0, 1]), Drop("martian_source")),
        ("D110 CE inside", syn.tos(3), Forward),
    ]
}

fn destinations_and_fragments() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let to = |destination: [u8; 4]| tcp_between(CLIENT, 40000, destination.into(), 80, SYN, b"");
    let first = as_fragment(&udp(53, &[0; 1000]), 0x2000);
    let port_82 = tcp_between(CLIENT, 40000, VIP, 82, SYN, b"");
    vec![
        ("D31 no VIP of ours", to([172, 25, 3, 99]), Drop("no_service")),
        ("D32 to multicast", to([224, 0, 0, 5]), Drop("no_service")),
        ("D33 TCP port without a service", port_82, Reply(reset_up_to(1001), Some("no_service"))),
        ("D33 UDP port without a service", udp(54, b""), Reply(PORT_UNREACHABLE, Some("no_service"))),
        ("D33 a RST is not answered", tcp_between(CLIENT, 1, VIP, 82, RST, b""), Drop("no_service")),
        ("D34 first fragment", first.clone(), Forward),
        ("D36 later fragment without a first", as_fragment(&first, 0x0010), Hold),
        ("D37 tiny first fragment", ip_fragment(6, 8, 0x2000), Drop("tiny_fragment")),
        ("D38 TCP at offset 1", ip_fragment(6, 8, 0x0001), Drop("tiny_fragment")),
        ("D39 past 65535", ip_fragment(17, 1000, 0x1fff), Drop("fragment_overflow")),
        ("D40 odd length with more to come", ip_fragment(17, 1001, 0x2000), Drop("bad_fragment")),
        ("D42 IPIP to the VIP", ip(CLIENT, VIP, 4, &tcp(SYN, b"")), Drop("nested_tunnel")),
        ("D43 6in4 to the VIP", ip(CLIENT, VIP, 41, &[0x60; 40]), Drop("nested_tunnel")),
        ("D44 GRE to the VIP", ip(CLIENT, VIP, 47, &[0; 8]), Drop("nested_tunnel")),
        ("D45 ESP to the VIP", ip(CLIENT, VIP, 50, &[0; 8]), Drop("no_service")),
        ("D46 protocol 0", ip(CLIENT, VIP, 0, &[0; 8]), Drop("no_service")),
    ]
}

fn ip_fragment(protocol: u8, length: usize, word: u16) -> Vec<u8> {
    as_fragment(&ip(CLIENT, VIP, protocol, &vec![0; length]), word)
}

fn transport() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let syn = tcp(SYN, b"");
    let cut = |payload: &[u8]| ip(CLIENT, VIP, 6, payload);
    let datagram = udp(53, b"question");
    let to_81 = tcp_between(CLIENT, 40000, VIP, 81, SYN, b"");
    vec![
        ("D47 TCP cut after the ports", cut(&syn[20..28]), Drop("truncated_l4")),
        ("D48 TCP of 3 bytes", cut(&syn[20..23]), Drop("truncated_l4")),
        ("D49 data offset 4", syn.data_offset(4), Drop("bad_tcp")),
        ("D50 data offset past the end", syn.data_offset(15), Drop("bad_tcp")),
        ("D51 null", tcp(0, b""), Drop("bad_tcp_flags")),
        ("D52 xmas", tcp(FIN | PSH | URG, b""), Drop("bad_tcp_flags")),
        ("D53 SYN and FIN", tcp(SYN | FIN, b""), Drop("bad_tcp_flags")),
        ("D54 SYN and RST", tcp(SYN | RST, b""), Drop("bad_tcp_flags")),
        ("D55 SYN with payload", tcp(SYN, b"fast open"), Forward),
        ("D56 SYN with ECE and CWR", tcp(SYN | 0xc0, b""), Forward),
        ("D57 SYN and ACK from a client", tcp(SYN | ACK, b""), Drop("no_connection")),
        ("D58 ACK without entry", tcp(ACK, b"data"), Reply(reset_at(5000), Some("no_connection"))),
        ("D59 RST without entry", tcp(RST, b""), Drop("no_connection")),
        ("D60 bad TCP checksum", syn.wrong_tcp_checksum(), Forward),
        ("D61 source port 0", tcp_between(CLIENT, 0, VIP, 80, SYN, b""), Drop("port_zero")),
        ("D62 destination port 0", tcp_between(CLIENT, 40000, VIP, 0, SYN, b""), Drop("port_zero")),
        ("D63 UDP source port 0", datagram.source_port(0), Forward),
        ("D64 UDP length 7", datagram.udp_length(7), Drop("bad_udp_length")),
        (
            "D65 UDP length past the datagram",
            datagram.udp_length(datagram.len() - 20 + 1),
            Drop("bad_udp_length"),
        ),
        ("D66 UDP length short", datagram.udp_length(datagram.len() - 20 - 2), Forward),
        ("D67 UDP checksum 0", datagram.no_udp_checksum(), Forward),
        ("D68 empty datagram", udp(53, b""), Forward),
        ("C7 only quiesced real servers", to_81, Reply(PORT_UNREACHABLE, Some("no_real_server"))),
    ]
}

fn icmp_and_sizes() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let echo = icmp(8, 0, [0, 1, 0, 1], b"ping");
    let error = |quote: &[u8]| icmp(3, 4, [0, 0, 5, 0x78], quote);
    let other_source = tcp_between(SERVER2, 80, CLIENT, 40000, ACK, b"");
    let later = as_fragment(&quote_of_reply(60), 0x00b9);
    let about_icmp = ip(VIP, CLIENT, 1, &[3, 4, 0, 0, 0, 0, 0, 0]);
    let big_error = ip_error_of(1500);
    vec![
        ("D69 echo request", echo.clone(), Reply(Said::Echo, None)),
        ("D70 echo with a bad checksum", echo.wrong_icmp_checksum(), Drop("bad_checksum")),
        ("D73 27 bytes quoted", error(&quote_of_reply(27)), Drop("truncated_icmp")),
        ("D74 quoted IHL 15", error(&quote_of_reply(28).header_words(15)), Drop("truncated_icmp")),
        ("D75 quotes another source", error(&other_source), Drop("icmp_mismatch")),
        ("D76 quotes a later fragment", error(&later), Drop("icmp_mismatch")),
        ("D77 about an ICMP error", error(&about_icmp), Drop("icmp_mismatch")),
        ("D78 redirect", icmp(5, 1, [10, 0, 0, 1], &quote_of_reply(28)), Drop("icmp_ignored")),
        ("D79 source quench", icmp(4, 0, [0; 4], &quote_of_reply(28)), Drop("icmp_ignored")),
        ("D80 timestamp request", icmp(13, 0, [0; 4], &[0; 12]), Drop("icmp_ignored")),
        ("D71 about no connection of ours", error(&quote_of_reply(28)), Drop("no_connection")),
        ("D81 1481 bytes with DF", udp_of(1481, true), Reply(TOO_BIG, Some("too_big"))),
        ("D82 1480 bytes with DF", udp_of(1480, true), Forward),
        ("D83 1480 bytes without DF", udp_of(1480, false), Forward),
        ("D85 ICMP error of 1500 bytes", big_error, Drop("no_connection")),
        ("D86 65535 bytes", udp_of(65_535, false), Drop("too_big")),
    ]
}

fn ip_error_of(length: usize) -> Vec<u8> {
    let mut quote = quote_of_reply(1400);
    quote.resize(length - 28, 0);
    icmp(3, 4, [0, 0, 5, 0x78], &quote)
}

/// An IPv6 packet from a client to an address that could be a VIP.
fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_from("2001:db8:7::7", "2001:db8::100", next_header, payload)
}

fn ipv6_from(source: &str, destination: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let address = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next_header, 64], &address(source), &address(destination), payload]
        .concat()
}

/// There is no IPv6 VIP: what would be forwarded or answered is for no service.
fn ipv6_rows() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let segment = &tcp(SYN, b"")[20..];
    let whole = ipv6(6, segment);
    let behind = |kind: u8, header: &[u8]| ipv6(kind, &[header, segment].concat());
    let from = |source: &str| ipv6_from(source, "2001:db8::100", 6, segment);
    let fragment = |word: u16, payload: &[u8]| {
        let [high, low] = word.to_be_bytes();
        ipv6(44, &[&[6, 0, high, low, 0, 0, 0, 9], payload].concat())
    };
    let with = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        bytes
    };
    let jumbo = [&[0x60, 0, 0, 0, 0, 0][..], &behind(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0])[6..]].concat();
    let late_hop_by_hop = behind(60, &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
    let forty = [[60, 0, 1, 4, 0, 0, 0, 0].repeat(39), vec![6, 0, 1, 4, 0, 0, 0, 0]].concat();
    let too_big =
        [&[2, 0, 0, 0, 0, 0, 5, 0][..], &ipv6_from("2001:db8::100", "2001:db8:7::7", 6, segment)].concat();
    let solicitation = |source, kind, rest: &[u8]| ipv6_from(source, "ff02::2", kind, rest);
    vec![
        ("D87 IPv6 of 39 bytes", whole[..39].to_vec(), Drop("truncated")),
        ("D88 IPv6 past the end", with(5, segment.len() as u8 + 1), Drop("truncated")),
        ("D89 IPv6 payload length 0", with(5, 0), Drop("bad_total_length")),
        ("D90 IPv6 jumbogram", jumbo, Drop("jumbogram")),
        ("D91 IPv6 hop limit 1", with(7, 1), Drop("ttl_expired")),
        ("D92 IPv6 from loopback", from("::1"), Drop("martian_source")),
        ("D93 IPv6 from ::", from("::"), Drop("martian_source")),
        ("D94 IPv6 from multicast", from("ff02::1"), Drop("martian_source")),
        ("D95 IPv6 from link-local", from("fe80::1"), Drop("martian_source")),
        ("D96 IPv6 from v4-mapped", from("::ffff:203.0.113.7"), Drop("martian_source")),
        ("D96 IPv6 from v4-compatible", from("::203.0.113.7"), Drop("martian_source")),
        ("IPv6 land", from("2001:db8::100"), Drop("martian_source")),
        ("D97 destination options, then TCP", behind(60, &[6, 0, 1, 4, 0, 0, 0, 0]), Drop("no_service")),
        (
            "D97 and no flags that are sent",
            {
                let mut bytes = behind(60, &[6, 0, 1, 4, 0, 0, 0, 0]);
                bytes[40 + 8 + 13] = SYN | FIN;
                bytes
            },
            Drop("bad_tcp_flags"),
        ),
        ("D98 routing header type 0", behind(43, &[6, 0, 0, 1, 0, 0, 0, 0]), Drop("source_route")),
        ("D99 hop-by-hop not first", late_hop_by_hop, Drop("bad_extension")),
        ("D100 forty destination options", behind(60, &forty), Drop("extension_limit")),
        ("D101 extension past the end", behind(60, &[6, 200, 1, 4, 0, 0, 0, 0]), Drop("truncated")),
        ("D102 atomic fragment", fragment(0, segment), Drop("no_service")),
        ("D103 first fragment", fragment(1, segment), Drop("no_service")),
        ("D104 later fragment without a first", fragment(0x0508, segment), Drop("fragment_unknown")),
        ("D105 first fragment without its header", fragment(1, &segment[..16]), Drop("tiny_fragment")),
        ("D106 no next header", ipv6(59, &[]), Drop("no_service")),
        ("D107 packet too big", ipv6(58, &too_big), Drop("no_service")),
        (
            "D108 router solicitation",
            solicitation("fe80::1", 58, &[133, 0, 0, 0, 0, 0, 0, 0]),
            Drop("link_noise"),
        ),
        ("D108 from ::", solicitation("::", 58, &[133, 0, 0, 0, 0, 0, 0, 0]), Drop("link_noise")),
        (
            "D108 MLD behind router alert",
            solicitation("fe80::1", 0, &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0]),
            Drop("link_noise"),
        ),
        ("D109 1461 bytes", ipv6(17, &[&udp(53, &[0; 1413])[20..]].concat()), Drop("no_service")),
    ]
}

fn all_rows() -> Vec<(&'static str, Vec<u8>, Fate)> {
    [headers(), destinations_and_fragments(), transport(), icmp_and_sizes(), ipv6_rows()].concat()
}

#[test]
fn every_packet_has_its_fate() {
    for (name, packet, expected) in all_rows() {
        let mut world = world();
        let (verdict, out) = world.handle(&packet);
        assert_eq!(world.judged(&verdict, &packet, &out), expected, "{name}");
        if let Verdict::Transmit(route) = verdict {
            assert_eq!((route.to(), route.tracking), (SERVER2.into(), Tracking::New), "{name}");
        }
        // Too big is known only once the way is chosen; the connection's next, smaller packet goes the same way.
        let is_too_big = matches!(expected, Drop("too_big") | Reply(_, Some("too_big")));
        let makes_state = is_too_big || matches!(expected, Forward | ForwardTrimmed(_));
        assert_eq!(world.tables.connections.len(), usize::from(makes_state), "{name}: state");
    }
}

#[test]
fn packets_of_a_known_connection_follow_it() {
    let about = |length| icmp(3, 4, [0, 0, 5, 0x78], &quote_of_reply(length));
    let rows = [
        ("data", tcp(ACK | PSH, b"GET /"), Forward),
        ("D51 null with an entry", tcp(0, b""), Forward),
        ("D59 RST with an entry", tcp(RST, b""), Forward),
        ("D71 fragmentation needed, 28 bytes quoted", about(28), Forward),
        ("D72 time exceeded", icmp(11, 0, [0; 4], &quote_of_reply(100)), Forward),
        ("D85 an error too big to wrap is not answered", ip_error_of(1500), Drop("too_big")),
    ];
    for (name, packet, expected) in rows {
        assert_ne!(world().fate_of(&packet), expected, "{name}: it is the entry that decides");
        let mut world = world().established();
        let (verdict, out) = world.handle(&packet);
        assert_eq!(world.judged(&verdict, &packet, &out), expected, "{name}");
        if let Verdict::Transmit(route) = verdict {
            assert_eq!((route.to(), route.tracking), (SERVER2.into(), Tracking::Known), "{name}");
        }
        assert_eq!(world.tables.connections.len(), 1, "{name}");
    }
}

#[test]
fn an_error_from_the_connections_own_real_server_is_not_wrapped_for_it() {
    let mut world = world().established();
    let from = |source: std::net::Ipv4Addr| {
        let error = icmp(3, 4, [0, 0, 5, 0x78], &quote_of_reply(28));
        error.source(source)
    };
    assert_eq!(world.handle(&from(SERVER2)).0, Verdict::Drop(DropReason::SourceIsTunnelExit));
    assert!(matches!(world.handle(&from(SERVER3)).0, Verdict::Transmit(_)), "another one may be a router");
}

#[test]
fn no_answer_is_sent_as_an_address_that_is_not_a_vip() {
    let expired = |destination: [u8; 4]| {
        let syn = tcp_between(CLIENT, 40000, destination.into(), 80, SYN, b"");
        syn.ttl(0)
    };
    for destination in [[172, 25, 3, 99], [224, 0, 0, 5]] {
        assert_eq!(world().handle(&expired(destination)).0, Verdict::Drop(DropReason::TtlExpired));
    }
}

/// RFC 1122 §3.2.2.
#[test]
fn no_error_is_sent_about_a_later_fragment() {
    let mut world = world();
    let first = as_fragment(&udp(53, &[0; 1000]), 0x6000);
    assert!(matches!(world.handle(&first).0, Verdict::Transmit(_)));
    let later = as_fragment(&udp(53, &[1; 1480]), 0x407e);
    assert_eq!(world.handle(&later).0, Verdict::Drop(DropReason::TooBig));
    assert_eq!(world.handle(&later.ttl(0)).0, Verdict::Drop(DropReason::TtlExpired));
}

/// The inner packets of the extra frames that are due, each with the real server it leaves for; `None` for a packet
/// that waited in vain.
fn extras(world: &mut World, now: Moment) -> Vec<Option<(IpAddr, oracle::Unwrapped)>> {
    world.now = now;
    let mut leaving = Vec::new();
    for extra in world.due() {
        leaving.push(match extra {
            Extra::Piece { frame, to } => Some((to, oracle::unwrapped(frame.packet(), to))),
            Extra::Late { frame, verdict: Verdict::Transmit(route), bytes, .. } => {
                world.check_account(&route);
                let unwrapped = oracle::unwrapped(frame.packet(), route.to());
                assert_eq!(unwrapped.inner.len(), bytes);
                Some((route.to(), unwrapped))
            }
            Extra::Late { verdict, .. } => {
                assert_eq!(verdict, Verdict::Drop(DropReason::FragmentUnknown));
                None
            }
            Extra::ErrorToSender { .. } => panic!("there was no path error"),
        });
    }
    leaving
}

/// All pieces of a packet that is cut, as they leave for server2.
fn pieces_of(world: &mut World, packet: &[u8]) -> Vec<Vec<u8>> {
    let (verdict, out) = world.handle(packet);
    let Verdict::Transmit(route) = verdict else { panic!("{verdict:?}") };
    let first = (route.to(), oracle::unwrapped(&out, route.to()));
    let rest = extras(world, Moment::from_secs(1)).into_iter().map(|piece| piece.expect("a piece"));
    let pieces: Vec<_> = [first].into_iter().chain(rest).collect();
    let identifications: BTreeSet<u16> = pieces.iter().map(|(_, outer)| outer.identification).collect();
    assert_eq!(identifications.len(), pieces.len(), "each outer packet has an identification of its own");
    let inner = |(to, outer): (IpAddr, oracle::Unwrapped)| {
        assert_eq!(to, IpAddr::from(SERVER2));
        outer.inner
    };
    pieces.into_iter().map(inner).collect()
}

/// Pieces of `whole` reassembled: all that is not flags, offset, length and checksum is the same in each.
fn assert_is_made_of(whole: &[u8], pieces: &[Vec<u8>]) {
    let (expected, payload) = oracle::header_of(whole);
    let mut data = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let (header, rest) = oracle::header_of(piece);
        let more_fragments = expected.more_fragments || index + 1 < pieces.len();
        let offset = usize::from(expected.fragment_offset.value()) + data.len() / 8;
        let mut of_piece = etherparse::Ipv4Header {
            total_len: piece.len() as u16,
            more_fragments,
            fragment_offset: (offset as u16).try_into().expect("thirteen bits"),
            ..expected.clone()
        };
        of_piece.header_checksum = of_piece.calc_header_checksum();
        assert_eq!(header, of_piece, "piece {index}");
        data.extend_from_slice(rest);
    }
    assert_eq!(data, payload);
}

/// D34 to D36 and D41: the first one decides, later ones follow, early ones wait.
#[test]
fn fragments_follow_their_first_one() {
    let mut world = world();
    let now = Moment::from_secs(1);
    let first = as_fragment(&udp(53, &[0; 1000]), 0x2000);
    let later = as_fragment(&udp(53, &[1; 992]), 0x207e);
    let last = as_fragment(&udp(53, &[2; 100]), 0x00fb);
    assert_eq!(world.handle(&last).0, Verdict::Hold);
    assert!(extras(&mut world, now).is_empty());
    let (Verdict::Transmit(route), _) = world.handle(&first) else { panic!("D34") };
    let released: Vec<_> = extras(&mut world, now).into_iter().map(|late| late.expect("released")).collect();
    let released: Vec<_> = released.iter().map(|(to, outer)| (*to, &outer.inner)).collect();
    assert_eq!(released, [(IpAddr::from(SERVER2), &last)]);
    for again in [&later, &later] {
        let (verdict, out) = world.handle(again);
        let Verdict::Transmit(followed) = verdict else { panic!("D35: {verdict:?}") };
        assert_eq!(
            (followed.to(), &out[20..]),
            (route.to(), &again[..]),
            "D41: an overlap is the host's to judge"
        );
    }
    assert_eq!(world.tables.connections.len(), 1);
}

#[test]
fn a_later_fragment_whose_first_never_comes_is_dropped() {
    let mut world = world();
    let last = as_fragment(&udp(53, &[2; 100]), 0x00fb);
    assert_eq!(world.handle(&last).0, Verdict::Hold);
    assert!(world.director.is_waiting());
    assert!(extras(&mut world, Moment::from_millis(1999)).is_empty());
    assert!(matches!(extras(&mut world, Moment::from_secs(2))[..], [None]));
    assert!(!world.director.is_waiting());
}

/// D84: a first fragment that is too big is cut again, and no one is notified.
#[test]
fn a_fragment_that_is_too_big_is_fragmented_again() {
    let first = as_fragment(&udp(53, &[0; 1456]), 0x2000);
    assert_eq!(first.len(), 1484);
    let pieces = pieces_of(&mut world(), &first);
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1476, 28]);
    assert_is_made_of(&first, &pieces);
}

/// D83: cut before it is wrapped; every piece fits the way and comes out as it went in.
#[test]
fn a_packet_that_is_too_big_and_may_be_fragmented_is_fragmented() {
    for (length, expected) in
        [(1480, &[1480][..]), (1481, &[1476, 25]), (4000, &[1476, 1476, 1088]), (2940, &[1476, 1476, 28])]
    {
        let data: Vec<u8> = (0..length - 28).map(|index| (index / 5) as u8).collect();
        let packet = udp(53, &data).identification(0xabcd).fragment(0);
        let pieces = pieces_of(&mut world(), &packet);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), expected);
        assert_is_made_of(&packet, &pieces);
    }
}

#[test]
fn connections_go_round_and_each_stays_on_its_server() {
    let mut world = world();
    let mut servers = Vec::new();
    for port in 1..=6u16 {
        for flags in [SYN, ACK, ACK | PSH, FIN | ACK, ACK] {
            let packet = tcp_between(CLIENT, port, VIP, 80, flags, b"");
            let (Verdict::Transmit(route), _) = world.handle(&packet) else { panic!("{port}") };
            servers.push(route.to().to_string());
        }
    }
    let per_connection: Vec<_> = servers.chunks(5).map(|chunk| chunk.to_vec()).collect();
    assert!(per_connection.iter().all(|chunk| chunk.iter().all(|server| *server == chunk[0])));
    let round: Vec<_> = per_connection.iter().map(|chunk| chunk[0].as_str()).collect();
    assert_eq!(round, ["172.25.3.2", "172.25.3.3"].repeat(3));
}

#[test]
fn a_full_table_refuses_new_connections_and_keeps_old_ones() {
    let mut world = world_of(config(), 1).established();
    let (verdict, _) = world.handle(&tcp_between(CLIENT, 2, VIP, 80, SYN, b""));
    assert_eq!(verdict, Verdict::Drop(DropReason::TableFull));
    assert!(matches!(world.handle(&tcp(ACK, b"")).0, Verdict::Transmit(_)));
}

#[test]
fn echo_and_resets_have_budgets_of_their_own() {
    let mut world = world();
    let echo = icmp(8, 0, [0, 1, 0, 1], b"ping");
    let fates: Vec<_> = (0..110).map(|_| world.handle(&echo).0).collect();
    assert_eq!(fates.iter().filter(|verdict| matches!(verdict, Verdict::Reply(_))).count(), 100);
    assert_eq!(fates[109], Verdict::Drop(DropReason::RateLimited));
    assert!(matches!(world.handle(&tcp(ACK, b"")).0, Verdict::Reply(_)), "echo leaves resets their budget");
}

#[test]
fn no_service_and_unknown_tcp_can_be_silent_or_scheduled() {
    let mut silent = config();
    silent.no_service = NoService::Drop;
    silent.virtual_services[0].unknown_tcp = UnknownTcp::Drop;
    let mut world = world_of(silent, 10);
    assert_eq!(world.handle(&udp(54, b"")).0, Verdict::Drop(DropReason::NoService));
    assert_eq!(world.handle(&tcp(ACK, b"")).0, Verdict::Drop(DropReason::NoConnection));
    let mut scheduling = config();
    scheduling.virtual_services[0].unknown_tcp = UnknownTcp::Schedule;
    assert!(matches!(world_of(scheduling, 10).handle(&tcp(ACK, b"")).0, Verdict::Transmit(_)));
}

#[test]
fn every_drop_reason_has_a_row() {
    let shown: BTreeSet<&str> = all_rows()
        .into_iter()
        .filter_map(|(_, _, fate)| match fate {
            Drop(reason) | Reply(_, Some(reason)) => Some(reason),
            _ => None,
        })
        // Shown by tests of their own: above, in tests/paths.rs, in tests/grace.rs, in tests/passed.rs, in tests/pinned.rs and in the counters' unit tests.
        .chain([
            "table_full",
            "rate_limited",
            "send_error",
            "fragment_unknown",
            "loop",
            "connection_waits",
            "vip_not_local",
            "probe_stale",
        ])
        .collect();
    for reason in DropReason::ALL {
        assert!(shown.contains(reason.label()), "{reason} is shown by no row");
    }
}
