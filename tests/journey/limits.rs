//! The limits of what is accepted, each between two neighbours: a packet on this side of it, and one on the other.

use super::*;
use crate::support::fields::Fields;
use crate::support::packets::*;

type Side = (Vec<u8>, Fate);

/// Both sides of each limit, and their fates.
fn headers() -> Vec<(&'static str, Side, Side)> {
    let syn = tcp(SYN, b"");
    let cut = Drop("truncated_l4");
    let alone = |length: usize| ip(CLIENT, VIP, 17, &[0; 8]).total_length(length);
    let options = |options: &[u8]| with_options(&syn, options);
    let from = |source: [u8; 4]| tcp_between(source.into(), 40000, VIP, 80, SYN, b"");
    let martian = |source| (from(source), Drop("martian_source"));
    let host = |source| (from(source), Forward);
    let ttl = |ttl: u8| syn.ttl(ttl);
    let expired = Reply(TIME_EXCEEDED, Some("ttl_expired"));
    vec![
        (
            "twenty bytes",
            (alone(20)[..20].to_vec(), cut.clone()),
            (alone(20)[..19].to_vec(), Drop("truncated")),
        ),
        (
            "a header as long as the packet",
            (ip(CLIENT, VIP, 17, &[1; 40]).header_words(15), cut.clone()),
            (ip(CLIENT, VIP, 17, &[1; 39]).header_words(15), Drop("bad_header_length")),
        ),
        ("a total length of the header", (alone(20), cut), (alone(19), Drop("bad_total_length"))),
        (
            "a packet as long as its bytes",
            (syn.clone(), Forward),
            (syn.total_length(syn.len() + 1), Drop("truncated")),
        ),
        ("padding", (syn.clone(), Forward), ([&syn[..], &[0]].concat(), ForwardTrimmed(1))),
        ("a TTL that lasts to here", (ttl(1), Forward), (ttl(0), expired)),
        (
            "an option of length 2",
            (options(&[30, 2, 30, 2]), Forward),
            (options(&[30, 1, 0, 0]), Drop("bad_option")),
        ),
        (
            "an option that fills the header",
            (options(&[148, 4, 0, 0]), Forward),
            (options(&[148, 5, 0, 0]), Drop("bad_option")),
        ),
        (
            "padding before a length",
            (options(&[1, 1, 1, 1]), Forward),
            (options(&[1, 1, 1, 30]), Drop("bad_option")),
        ),
        (
            "a route behind the end",
            (options(&[0, 131, 3, 4]), Forward),
            (options(&[1, 131, 3, 4]), Drop("source_route")),
        ),
        ("above 0.0.0.0/8", host([1, 0, 0, 0]), martian([0, 255, 255, 255])),
        ("below 127.0.0.0/8", host([126, 255, 255, 255]), martian([127, 0, 0, 0])),
        ("above 127.0.0.0/8", host([128, 0, 0, 0]), martian([127, 255, 255, 255])),
        ("below 224.0.0.0/3", host([223, 255, 255, 255]), martian([224, 0, 0, 0])),
        ("a neighbour of the VIP", host([172, 25, 3, 101]), martian(VIP.octets())),
        ("a neighbour of the director", host([172, 25, 3, 0]), martian(DIRECTOR.octets())),
        (
            "a neighbour of the real server",
            host([172, 25, 3, 4]),
            (from(SERVER2.octets()), Drop("source_is_tunnel_exit")),
        ),
    ]
}

fn fragments() -> Vec<(&'static str, Side, Side)> {
    let segment = tcp(SYN, b"0123");
    let piece = |length: usize| as_fragment(&ip(CLIENT, VIP, 6, &segment[20..20 + length]), 0x2000);
    let datagram = udp(53, &[0; 1000]);
    let first = as_fragment(&ip(CLIENT, VIP, 17, &datagram[20..28]), 0x2000);
    let later = |protocol, length, word| ip_fragment(protocol, length, word);
    let tunnel = |protocol| (ip(CLIENT, VIP, protocol, &[0; 8]), Drop("nested_tunnel"));
    let other = |protocol| (ip(CLIENT, VIP, protocol, &[0; 8]), Drop("no_service"));
    vec![
        ("a first piece with a TCP header", (piece(24), Forward), (piece(16), Drop("tiny_fragment"))),
        ("a first piece with a UDP header", (first, Forward), (piece(8), Drop("tiny_fragment"))),
        ("a piece behind the flags of TCP", (later(6, 8, 2), Hold), (later(6, 8, 1), Drop("tiny_fragment"))),
        ("a piece without flags of TCP", (later(17, 8, 1), Hold), (later(6, 8, 1), Drop("tiny_fragment"))),
        (
            "the last byte there can be",
            (later(17, 7, 0x1fff), Hold),
            (later(17, 8, 0x1fff), Drop("fragment_overflow")),
        ),
        (
            "whole words with more to come",
            (later(17, 1000, 0x2001), Hold),
            (later(17, 1001, 0x2001), Drop("bad_fragment")),
        ),
        (
            "an odd length at the end",
            (later(17, 1001, 1), Hold),
            (later(17, 1001, 0x2001), Drop("bad_fragment")),
        ),
        ("IP in IP", other(3), tunnel(4)),
        ("IP in IP from below", other(5), tunnel(4)),
        ("6in4", other(40), tunnel(41)),
        ("GRE", other(46), tunnel(47)),
        ("GRE from above", other(48), tunnel(47)),
    ]
}

fn transport() -> Vec<(&'static str, Side, Side)> {
    let bare = tcp(SYN, b"")[..40].total_length(40).data_offset(5);
    let ports = |source, port| tcp_between(CLIENT, source, VIP, port, SYN, b"");
    let flags = |flags| tcp(flags, b"");
    let question = udp(53, b"question");
    let length = |length: usize| question.udp_length(length);
    let cut = |packet: &[u8], length: usize| packet[..length].total_length(length);
    let no_connection = Reply(reset_at(5000), Some("no_connection"));
    let no_service = |acknowledgement| Reply(reset_up_to(acknowledgement), Some("no_service"));
    vec![
        ("twenty bytes of TCP", (bare.clone(), Forward), (cut(&bare, 39), Drop("truncated_l4"))),
        (
            "a TCP header as long as the segment",
            (bare.clone(), Forward),
            (bare.data_offset(6), Drop("bad_tcp")),
        ),
        ("the lowest source port", (ports(1, 80), Forward), (ports(0, 80), Drop("port_zero"))),
        ("the lowest port", (ports(40000, 1), no_service(1001)), (ports(40000, 0), Drop("port_zero"))),
        ("a port below the service", (ports(40000, 80), Forward), (ports(40000, 79), no_service(1001))),
        (
            "FIN comes with ACK",
            (flags(FIN | ACK), no_connection.clone()),
            (flags(FIN), Drop("bad_tcp_flags")),
        ),
        (
            "congestion alone is no flag",
            (flags(ACK | 0xc0), no_connection),
            (flags(0xc0), Drop("bad_tcp_flags")),
        ),
        ("SYN alone begins", (flags(SYN), Forward), (flags(SYN | ACK), Drop("no_connection"))),
        ("SYN ends nothing", (flags(SYN | PSH), Forward), (flags(SYN | FIN | ACK), Drop("bad_tcp_flags"))),
        ("SYN resets nothing", (flags(SYN | URG), Forward), (flags(SYN | RST | ACK), Drop("bad_tcp_flags"))),
        (
            "data is acknowledged with its SYN",
            (tcp_between(CLIENT, 40000, VIP, 82, SYN, b"fast open"), no_service(1010)),
            (tcp_between(CLIENT, 40000, VIP, 82, RST, b"fast open"), Drop("no_service")),
        ),
        ("a UDP length of the header", (length(8), Forward), (length(7), Drop("bad_udp_length"))),
        ("a UDP length of the datagram", (length(16), Forward), (length(17), Drop("bad_udp_length"))),
        ("eight bytes of UDP", (udp(53, b""), Forward), (cut(&udp(53, b""), 27), Drop("truncated_l4"))),
        (
            "UDP port 1",
            (udp(1, b""), Reply(PORT_UNREACHABLE, Some("no_service"))),
            (udp(0, b""), Drop("port_zero")),
        ),
    ]
}

fn icmp_and_sizes() -> Vec<(&'static str, Side, Side)> {
    let ignored = Drop("icmp_ignored");
    let echo = |kind, code| icmp(kind, code, [0, 1, 0, 1], b"ping");
    let cut = icmp(8, 0, [0, 1, 0, 1], b"")[..27].total_length(27);
    let quote = quote_of_reply(60);
    let kind = |kind| icmp(kind, 0, [0; 4], &quote);
    let about = |quote: &[u8]| icmp(3, 4, [0, 0, 5, 0x78], quote);
    let of_length = |length: usize| about(&quote.total_length(length));
    let of_word = |word| about(&as_fragment(&quote, word));
    let of_protocol = |protocol| about(&quote.protocol(protocol));
    let (unknown, mismatch, short) = (Drop("no_connection"), Drop("icmp_mismatch"), Drop("truncated_icmp"));
    let from_vip = |source: [u8; 4]| about(&quote.source(source.into()));
    vec![
        (
            "eight bytes of ICMP",
            (icmp(8, 0, [0, 1, 0, 1], b""), Reply(Said::Echo, None)),
            (cut, short.clone()),
        ),
        ("an echo has no code", (echo(8, 0), Reply(Said::Echo, None)), (echo(8, 1), ignored.clone())),
        ("an echo is no reply", (echo(8, 0), Reply(Said::Echo, None)), (echo(0, 0), ignored.clone())),
        ("no kind below unreachable", (kind(3), unknown.clone()), (kind(2), ignored.clone())),
        ("no kind above unreachable", (kind(3), unknown.clone()), (kind(4), ignored.clone())),
        ("no kind below time exceeded", (kind(11), unknown.clone()), (kind(10), ignored.clone())),
        ("no kind above parameter problem", (kind(12), unknown.clone()), (kind(13), ignored)),
        (
            "ports and a checksum quoted",
            (about(&quote[..28]), unknown.clone()),
            (about(&quote[..27]), short.clone()),
        ),
        ("a quoted packet with ports", (of_length(28), unknown.clone()), (of_length(27), short.clone())),
        ("a quoted packet of a header", (of_length(28), unknown.clone()), (of_length(20), short.clone())),
        (
            "a quoted packet under its header",
            (of_length(28), unknown.clone()),
            (of_length(19), short.clone()),
        ),
        ("a quoted packet of nothing", (of_length(28), unknown.clone()), (of_length(0), short)),
        ("a first fragment quoted", (of_word(0x2000), unknown.clone()), (of_word(0x0001), mismatch.clone())),
        ("TCP quoted", (of_protocol(6), unknown.clone()), (of_protocol(5), mismatch.clone())),
        ("UDP quoted", (of_protocol(17), unknown.clone()), (of_protocol(18), mismatch.clone())),
        ("the VIP quoted", (from_vip(VIP.octets()), unknown), (from_vip([172, 25, 3, 101]), mismatch)),
        (
            "what the path carries",
            (udp_of(1480, true), Forward),
            (udp_of(1481, true), Reply(TOO_BIG, Some("too_big"))),
        ),
        (
            "room for an outer header",
            (udp_of(65_515, false), Forward),
            (udp_of(65_516, false), Drop("too_big")),
        ),
    ]
}

#[test]
fn neighbours_on_the_two_sides_of_a_limit_have_different_fates() {
    for (name, (inside, on_this_side), (outside, on_the_other)) in
        [headers(), fragments(), transport(), icmp_and_sizes()].concat()
    {
        assert_ne!(on_this_side, on_the_other, "{name}: no limit");
        assert_eq!(world().fate_of(&inside), on_this_side, "{name}: this side");
        assert_eq!(world().fate_of(&outside), on_the_other, "{name}: the other side");
    }
}
