//! ICMP errors about our own outer packets (RFC 2003 §4 and §5): what each teaches, and which error we send to whom.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_tund::director::cluster::RealServerConfig;
use lvs_tund::director::connection::{self, NewConnection, Timeouts};
use lvs_tund::director::path_errors::{Event, Kind, Outcome, PathErrors};
use lvs_tund::director::verdict::{DropReason, Tracking, Verdict};
use lvs_tund::packet::Flow;
use lvs_tund::time::Moment;

use crate::bed::*;
use crate::support::fields::{Fields, FieldsInside};
use crate::support::packets::*;
use crate::support::world::World;

/// What is to be changed in a well-formed error, and what it does then.
type Neighbour = (&'static str, fn(&mut PathError), Effect);

/// Each row is the well-formed error with one thing changed, and does something else.
fn assert_neighbours(world: fn() -> World, good: &PathError, effect: &Effect, rows: &[Neighbour]) {
    assert_eq!(world().effect_of(good, SERVER2), *effect, "well-formed");
    for (name, change, changed_effect) in rows {
        let mut error = good.clone();
        change(&mut error);
        assert_ne!(changed_effect, effect, "{name}");
        assert_eq!(world().effect_of(&error, SERVER2), *changed_effect, "{name}");
    }
}

/// What a row of RFC 2003 §4 makes of the sender and of the path.
enum Says {
    Told(etherparse::Icmpv4Type),
    Suspicion,
    Nothing,
}

#[test]
fn rfc_2003_section_4_row_by_row() {
    use Kind::{Other, ProtocolUnreachable, TimeExceeded, Unreachable};
    use Says::{Nothing, Suspicion, Told};
    // Name, type, code; what it is taken for, what it announces.
    let rows = [
        ("2003-10 net unreachable", 3, 0, Unreachable, Told(NET)),
        ("2003-11 host unreachable", 3, 1, Unreachable, Told(HOST)),
        ("2003-12 protocol unreachable", 3, 2, ProtocolUnreachable, Suspicion),
        ("2003-13 port unreachable", 3, 3, Other, Nothing),
        ("2003-15 source route failed", 3, 5, Other, Nothing),
        ("net unknown", 3, 6, Unreachable, Told(NET)),
        ("host unknown", 3, 7, Unreachable, Told(HOST)),
        ("source host isolated", 3, 8, Unreachable, Told(HOST)),
        ("net prohibited", 3, 9, Unreachable, Told(HOST)),
        ("host prohibited", 3, 10, Unreachable, Told(HOST)),
        ("net unreachable for the type of service", 3, 11, Unreachable, Told(NET)),
        ("host unreachable for the type of service", 3, 12, Unreachable, Told(HOST)),
        ("administratively prohibited", 3, 13, Unreachable, Told(HOST)),
        ("host precedence violation", 3, 14, Unreachable, Told(HOST)),
        ("precedence cutoff", 3, 15, Unreachable, Told(HOST)),
        ("2003-16 source quench", 4, 0, Other, Nothing),
        ("source quench with the code of too big", 4, 4, Other, Nothing),
        ("2003-17 redirect", 5, 1, Other, Nothing),
        ("2003-18 time exceeded", 11, 0, TimeExceeded, Told(HOST)),
        ("2003-18 reassembly time exceeded", 11, 1, TimeExceeded, Told(HOST)),
        ("2003-19 parameter problem", 12, 0, Other, Nothing),
        ("echo reply", 0, 0, Other, Nothing),
        ("echo request", 8, 0, Other, Nothing),
    ];
    for (name, kind, code, heard, says) in rows {
        let [whole, cut] = [548, 28].map(|length| {
            let effect = world().effect_of(&error(kind, code, outer_of(&big())).quoting(length), SERVER2);
            (length, effect)
        });
        let nothing = Effect::none(heard, Outcome::Ignored);
        let expected = match says {
            Told(told) => [Effect::told(heard, told.clone()), Effect::pending(heard, told)],
            Suspicion => {
                let learnt = Learnt { is_suspect: true, ..NOTHING };
                let noted = Effect { outcome: Outcome::Noted, learnt, ..nothing };
                [noted.clone(), noted]
            }
            Nothing => [nothing.clone(), nothing],
        };
        for ((length, effect), expected) in [whole, cut].into_iter().zip(expected) {
            assert_eq!(effect, expected, "{name}, {length} bytes quoted");
        }
    }
}

/// 2003-20 and RFC 792: the inner header and eight bytes behind it identify its sender. After a shorter quotation,
/// the next packet's sender is notified.
#[test]
fn the_quoted_packet_decides_who_gets_the_error() {
    let datagram = as_fragment(&udp(53, &[7; 1452]), 0x4000);
    for inner in [big(), datagram] {
        for length in (0..=60).chain([547, 548, 549, 1500]) {
            let of = |error: PathError| world().effect_of(&error.quoting(length), SERVER2);
            let quote = outer_of(&inner);
            let effects = [of(too_big(1400, quote.clone())), of(error(3, 1, quote))];
            let expected = match length {
                0..20 => [Kind::TooBig, Kind::Unreachable].map(|kind| Effect::none(kind, Outcome::Malformed)),
                20..48 => [Effect::lowered(1400), Effect::pending(Kind::Unreachable, HOST)],
                _ => [Effect::lowered_and_told(1400), Effect::told(Kind::Unreachable, HOST)],
            };
            assert_eq!(effects, expected, "{length} bytes quoted of protocol {}", inner[9]);
        }
    }
}

/// A quoted length that is too small leaves nothing to read, though bytes follow; options are no payload.
#[test]
fn quoted_lengths_are_accepted_but_not_trusted() {
    let good = error(3, 1, outer_of(&big())).quoting(548);
    let told = Effect::told(Kind::Unreachable, HOST);
    let cut = || Effect::pending(Kind::Unreachable, HOST);
    let rows: &[Neighbour] = &[
        ("outer total length 0", |e| e.outer_mut().set_total_length(0), cut()),
        ("outer total length 19", |e| e.outer_mut().set_total_length(19), cut()),
        ("outer total length 47", |e| e.outer_mut().set_total_length(47), cut()),
        ("inner total length 0", |e| e.inner_mut().set_total_length(0), cut()),
        ("inner total length 19", |e| e.inner_mut().set_total_length(19), cut()),
        ("inner total length 20", |e| e.inner_mut().set_total_length(20), cut()),
        ("inner total length 27", |e| e.inner_mut().set_total_length(27), cut()),
    ];
    assert_neighbours(world, &good, &told, rows);
    let with_options = outer_of(&with_options(&as_fragment(&tcp(ACK, &[7; 1000]), 0x4000), &[1; 8]));
    for (length, effect) in [(55, cut()), (56, told)] {
        let error = error(3, 1, with_options.clone()).quoting(length);
        assert_eq!(world().effect_of(&error, SERVER2), effect, "{length} bytes quoted");
    }
}

/// 2003-14, 2003-21, 2003-23.
#[test]
fn too_big_is_relayed_less_the_overhead_and_remembered() {
    let (mut world, inner) = (world(), big());
    let error = too_big(1400, outer_of(&inner)).quoting(548);
    assert_eq!(world.effect_of(&error, SERVER2), Effect::lowered_and_told(1400));
    assert_eq!(world.fate(&inner), Fate::Told(fits(1380), DropReason::TooBig));
    // Another packet of the same flight was lost too, and its sender is notified as well: no news, but an answer.
    assert_eq!(world.effect_of(&error, SERVER2), Effect::lowered_and_told(1400));
    // 1191-3: after ten minutes a larger size is tried again.
    let later = Moment::from_secs(602);
    assert_eq!(world.fate_at(&inner, later), Fate::To(SERVER2, Tracking::Known));
    assert_eq!(world.path_mtu(SERVER2, later), 1500);
}

/// 2003-20: 28 quoted bytes do not identify the sender; the next one is answered.
#[test]
fn too_little_quoted_is_remembered_for_the_next_packet() {
    let (mut world, inner) = (world(), big());
    let error = too_big(1400, outer_of(&inner)).quoting(28);
    assert_eq!(world.effect_of(&error, SERVER2), Effect::lowered(1400));
    assert_eq!(world.fate(&inner), Fate::Told(fits(1380), DropReason::TooBig));
    let again = Effect { outcome: Outcome::Ignored, ..Effect::lowered(1400) };
    assert_eq!(world.effect_of(&error, SERVER2), again, "known already");
}

/// 8899-1: who did not see the packet cannot lower the path's MTU.
#[test]
fn forged_errors_are_ignored() {
    let none = |outcome| Effect::none(Kind::TooBig, outcome);
    let (mismatch, malformed) = (none(Outcome::Mismatch), none(Outcome::Malformed));
    let good = too_big(1000, outer_of(&big())).quoting(548);
    let rows: &[Neighbour] = &[
        ("sent to another than the packet's source", |e| e.to = CLIENT, mismatch.clone()),
        ("another source than that it was sent to", |e| e.outer_mut().set_source(CLIENT), mismatch.clone()),
        (
            "another source than ours",
            |e| {
                e.to = CLIENT;
                e.outer_mut().set_source(CLIENT);
            },
            mismatch.clone(),
        ),
        (
            "the VIP as the source",
            |e| {
                e.to = VIP;
                e.outer_mut().set_source(VIP);
            },
            mismatch.clone(),
        ),
        ("no real server of ours", |e| e.outer_mut().set_destination([172, 25, 3, 77]), mismatch.clone()),
        (
            "another real server than the connection's",
            |e| e.outer_mut().set_destination(SERVER3),
            mismatch.clone(),
        ),
        ("another protocol", |e| e.outer_mut().set_protocol(17), mismatch.clone()),
        ("a later fragment", |e| e.outer_mut().set_fragment(0x4001), mismatch.clone()),
        ("another port of the client", |e| e.inner_mut().set_source_port(40009), mismatch.clone()),
        ("another port of the VIP", |e| e.inner_mut().set_destination_port(81), mismatch.clone()),
        ("another client", |e| e.inner_mut().set_source([203, 0, 113, 8]), mismatch.clone()),
        ("no VIP of ours inside", |e| e.inner_mut().set_destination([172, 25, 3, 101]), mismatch.clone()),
        (
            "outer IHL 15, and less quoted",
            |e| {
                e.outer_mut().set_version_and_header_words(4, 15);
                e.quote.truncate(59);
            },
            malformed.clone(),
        ),
        ("outer IHL 4", |e| e.outer_mut().set_version_and_header_words(4, 4), malformed.clone()),
        ("outer version 6", |e| e.outer_mut().set_version_and_header_words(6, 5), malformed.clone()),
        (
            "inner IHL 15, and less quoted",
            |e| {
                e.inner_mut().set_version_and_header_words(4, 15);
                e.quote.truncate(79);
            },
            malformed.clone(),
        ),
        ("inner IHL 4", |e| e.inner_mut().set_version_and_header_words(4, 4), malformed.clone()),
        ("inner version 6", |e| e.inner_mut().set_version_and_header_words(6, 5), malformed.clone()),
        ("nothing quoted", |e| e.quote.clear(), malformed),
        ("outer without DF", |e| e.outer_mut().set_fragment(0), none(Outcome::Ignored)),
    ];
    assert_neighbours(world, &good, &Effect::lowered_and_told(1000), rows);
    // Too little to find the connection by is enough to see that the VIP is not ours.
    for length in [40, 47] {
        let rows: &[Neighbour] = &[(
            "no VIP of ours inside",
            |e| e.inner_mut().set_destination([172, 25, 3, 101]),
            mismatch.clone(),
        )];
        assert_neighbours(world, &good.quoting(length), &Effect::lowered(1000), rows);
    }
}

/// What the kernel would not hand over, and what no host may read.
#[test]
fn an_incomplete_icmp_message_is_ignored() {
    type Change = fn(&mut Vec<u8>);
    let good = too_big(1000, outer_of(&big())).quoting(548).bytes();
    let rows: [(&str, Change); 9] = [
        ("a wrong checksum of the message", |b| *b = b.wrong_icmp_checksum()),
        ("another protocol", |b| b.set_protocol(17)),
        ("a first piece", |b| b.set_fragment(0x2000)),
        ("a later piece", |b| b.set_fragment(1)),
        ("version 6", |b| b.set_version_and_header_words(6, 5)),
        ("IHL 4", |b| b.set_version_and_header_words(4, 4)),
        ("seven bytes of message", |b| {
            b.truncate(27);
            b.set_total_length(27);
        }),
        ("a total length past the end", |b| b.truncate(100)),
        ("nothing", Vec::clear),
    ];
    let inner = big();
    assert_eq!(
        world().effect_of_bytes(&good, &inner[..528], SERVER2),
        Effect::lowered_and_told(1000),
        "well-formed"
    );
    for (name, change) in rows {
        let mut message = good.clone();
        change(&mut message);
        finish_header_of(&mut message);
        let effect = world().effect_of_bytes(&message, &inner, SERVER2);
        assert_eq!(effect, Effect::none(Kind::Other, Outcome::Malformed), "{name}");
    }
    let mut message = good;
    message[11] ^= 1;
    assert_eq!(world().hear(&message).outcome, Outcome::Malformed, "a wrong checksum of the header");
}

fn finish_header_of(message: &mut [u8]) {
    if message.len() >= 20 {
        finish_header(message);
    }
}

/// A packet may be cut on its way where it has no DF, ours or the client's: its first piece identifies its sender.
#[test]
fn an_error_about_a_first_piece_is_received() {
    let good = error(11, 1, outer_of(&as_fragment(&big(), 0))).quoting(548);
    let told = Effect::told(Kind::TimeExceeded, HOST);
    let mut first = good.clone();
    first.quote[6] = 0x20;
    assert_eq!(world().effect_of(&first, SERVER2), told);
    let of_the_client = error(11, 1, outer_of(&as_fragment(&big(), 0x2000))).quoting(548);
    assert_eq!(world().effect_of(&of_the_client, SERVER2), told);
    let mismatch = Effect::none(Kind::TimeExceeded, Outcome::Mismatch);
    assert_neighbours(world, &good, &told, &[("a later piece", |e| e.quote[6..8].fill(0x20), mismatch)]);
}

/// 1191-1, 1191-2 and the floor: MTU 0 is an old router's, 1 and 68 are no link's, a larger one is nonsense.
#[test]
fn odd_sizes() {
    const UNCHANGED: u16 = 1500;
    // The MTU in the message and the length of the outer packet; the path MTU then, and the MTU in the client's error.
    let rows = [
        // RFC 1191 §7: the next smaller of the sizes that networks have.
        (0, 1500, 1492, Some(1472)),
        (0, 1493, 1492, Some(1472)),
        (0, 1492, 1006, Some(986)),
        (0, 1007, 1006, Some(986)),
        (0, 1006, 576, Some(556)),
        (0, 577, 576, Some(556)),
        (0, 576, 576, None),
        (0, 508, 576, None),
        (0, 297, 576, None),
        (0, 296, UNCHANGED, None),
        (0, 100, UNCHANGED, None),
        // No path is narrower than 576 bytes, and what fits into that is not too big.
        (1, 1500, 576, Some(556)),
        (68, 1500, 576, Some(556)),
        (575, 1500, 576, Some(556)),
        (576, 1500, 576, Some(556)),
        (577, 1500, 577, Some(557)),
        (68, 577, 576, Some(556)),
        (68, 576, 576, None),
        (68, 500, 576, None),
        (1499, 1500, 1499, Some(1479)),
        // What would have fitted was not too big.
        (1500, 1500, UNCHANGED, None),
        (1501, 1500, UNCHANGED, None),
        (u16::MAX, 1500, UNCHANGED, None),
        (999, 1000, 999, Some(979)),
        (1000, 1000, UNCHANGED, None),
        (1200, 1000, UNCHANGED, None),
        // Sent when our own route was wider than it is now.
        (1400, 2000, 1400, Some(1380)),
        (1500, 2000, UNCHANGED, Some(1480)),
        (1600, 2000, UNCHANGED, Some(1480)),
        (0, 2003, UNCHANGED, Some(1480)),
        (0, 9000, UNCHANGED, Some(1480)),
    ];
    for (mtu, length, known, client) in rows {
        let error = too_big(mtu, outer_of(&segment_of(length)));
        let learnt = Learnt { mtu: known, ..NOTHING };
        let is_news = known < UNCHANGED;
        let silent = if is_news { Outcome::Noted } else { Outcome::Ignored };
        let cut = Effect { learnt, ..Effect::none(Kind::TooBig, silent) };
        let outcome = if client.is_some() { Outcome::Relayed } else { silent };
        let whole = Effect { outcome, told: client.map(fits), ..cut.clone() };
        for (quoted, effect) in [(548, whole), (28, cut)] {
            let name = format!("{mtu} about {length} bytes, {quoted} quoted");
            assert_eq!(world().effect_of(&error.quoting(quoted), SERVER2), effect, "{name}");
        }
    }
}

/// RFC 1191 §3, as long as a size is known; the sender of a packet that may be cut on its path is not notified.
#[test]
fn a_size_is_lowered_and_never_raised() {
    let mut world = world();
    let known = |mtu, outcome| Effect { outcome, ..Effect::lowered(mtu) };
    let rows = [
        (1300, 28, Effect::lowered(1300)),
        (1400, 28, known(1300, Outcome::Ignored)),
        (1400, 548, Effect::lowered_and_told(1300)),
        (1300, 28, known(1300, Outcome::Ignored)),
        (1300, 548, Effect::lowered_and_told(1300)),
        (1299, 28, Effect::lowered(1299)),
    ];
    for (mtu, quoted, effect) in rows {
        let error = too_big(mtu, outer_of(&big())).quoting(quoted);
        assert_eq!(world.effect_of(&error, SERVER2), effect, "{mtu}, {quoted} bytes quoted");
    }
    let good = too_big(1400, outer_of(&big())).quoting(548);
    let rows: &[Neighbour] = &[("inner without DF", |e| e.quote[26] = 0, Effect::lowered(1400))];
    assert_neighbours(crate::bed::world, &good, &Effect::lowered_and_told(1400), rows);
}

/// A thousand a second, and fifty at once.
#[test]
fn the_rate_of_handled_errors_is_limited() {
    let mut world = world();
    let message = too_big(1400, outer_of(&big())).bytes();
    let mut heard = |now| world.errors.handle_packet(&message, now).outcome != Outcome::RateLimited;
    assert_eq!((0..10_000).filter(|_| heard(NOW)).count(), 50);
    let in_a_second = (1..=20_000u64).map(|step| Moment::from_nanos(NOW.as_nanos() + step * 50_000));
    assert_eq!(in_a_second.filter(|now| heard(*now)).count(), 1000);
}

/// What is not about our packets uses up no budget.
#[test]
fn junk_does_not_keep_true_errors_from_being_received() {
    let mut world = world();
    let good = too_big(1400, outer_of(&big()));
    let mut junk = good.clone();
    junk.quote[19] = 77;
    assert!((0..200).all(|_| world.hear(&junk.bytes()).outcome == Outcome::Mismatch));
    assert_eq!(world.hear(&good.bytes()).outcome, Outcome::Relayed);
}

/// Nor do provoked resets keep a client from hearing that its packets are too big.
#[test]
fn provoked_answers_do_not_make_the_path_a_black_hole() {
    let mut world = world();
    let to_nowhere = tcp_between(CLIENT, 40000, VIP, 81, SYN, b"");
    let resets = (0..100).filter(|_| matches!(world.handle(&to_nowhere, NOW).0, Verdict::Reply(_))).count();
    assert_eq!(resets, 50);
    assert_eq!(world.fate(&segment_of(1501)), Fate::Told(fits(1480), DropReason::TooBig));
}

#[test]
fn a_host_without_a_daemon_is_suspect() {
    let mut world = world();
    let error = error(3, 2, outer_of(&big())).quoting(28);
    assert_eq!(world.hear(&error.bytes()).event, Some(Event::Suspect { rip: SERVER2 }));
    assert_eq!(world.hear(&error.bytes()).event, None, "reported once");
    assert!(world.is_suspect(SERVER2) && !world.is_suspect(SERVER3));
}

/// The director's host got an address that was a client's.
fn world_that_took_over_the_client() -> World {
    let mut world = world();
    let first = tcp_between(OTHER_CLIENT, 40000, VIP, 80, SYN, b"");
    assert_eq!(world.fate(&first), Fate::To(SERVER2, Tracking::New));
    let mut host = host();
    host.own_addresses.insert(OTHER_CLIENT.into());
    world.succeed(config(), host);
    world
}

const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// The director makes no entry for such a client; another director that does must not make us answer it.
fn world_with_an_entry_of_loopback() -> World {
    let world = world();
    let cluster = world.cluster.load();
    let server = cluster.real_server_at(SERVER2).expect("a real server");
    let flow =
        Flow { protocol: 6, client: LOOPBACK.into(), client_port: 40000, vip: VIP.into(), vip_port: 80 };
    let new = NewConnection {
        virtual_service: server.virtual_service,
        real_server: server.slot,
        event: connection::Event::Syn,
        is_known: false,
        template: None,
    };
    let counts = world.tables.counts(&cluster);
    world.tables.connections.insert(&flow, new, &Timeouts::default(), NOW, &counts);
    drop(cluster);
    world
}

/// RFC 1122 §3.2.2: no error about an error, a later fragment or to what is not one host. Nor to an address that may
/// be made up, because no entry shows a connection. The path's MTU is learnt anyway, by the floor at worst; but the
/// next packet's sender has nothing to do with it.
#[test]
fn no_error_goes_to_a_client_that_must_not_get_one() {
    let data = [7; 1400];
    let reply = tcp_between(VIP, 80, CLIENT, 40000, ACK, &data);
    let of_the_connection = segment_of(1500);
    let client = |address, port| tcp_between(address, 40000, VIP, port, ACK, &data);
    type Row = (&'static str, fn() -> World, Vec<u8>);
    let rows: [Row; 10] = [
        ("an error", world, icmp(3, 4, [0, 0, 5, 0x78], &reply[..1400])),
        ("an echo request", world, icmp(8, 0, [0; 4], &data)),
        ("a later fragment that begins like a first", world, as_fragment(&of_the_connection, 0x4010)),
        ("a later fragment, eight bytes on", world, as_fragment(&of_the_connection, 0x4001)),
        ("another protocol with ports", world, ip(CLIENT, VIP, 132, &of_the_connection[20..])),
        ("a connection that the hash decides", world, client(CLIENT, 443)),
        ("a datagram without a connection", world, udp_between(CLIENT, 40000, 123, &data)),
        ("a connection that a flood left behind", flooded, segment(40002, ACK)),
        ("an address of ours", world_that_took_over_the_client, client(OTHER_CLIENT, 80)),
        ("loopback", world_with_an_entry_of_loopback, client(LOOPBACK, 80)),
    ];
    for (name, world, inner) in rows {
        let quote = outer_of(&as_fragment(&inner, 0x4000 | u16::from_be_bytes([inner[6], inner[7]])));
        // Router and sender agree that it was a large packet.
        let quote = quote.total_length(1500);
        let quote = &quote[..quote.len().min(548)];
        let silent = |kind| Effect::none(kind, Outcome::Ignored);
        let effects = [
            (too_big(1000, quote.to_vec()), Effect::lowered(1000)),
            (error(3, 0, quote.to_vec()), silent(Kind::Unreachable)),
            (error(3, 1, quote.to_vec()), silent(Kind::Unreachable)),
            (error(11, 0, quote.to_vec()), silent(Kind::TimeExceeded)),
        ];
        for (error, effect) in effects {
            assert_eq!(world().effect_of(&error, SERVER2), effect, "{name}");
            let known = PathError { quote: outer_of(&of_the_connection), ..error }.quoting(548);
            assert_eq!(
                world().effect_of(&known, SERVER2).outcome,
                Outcome::Relayed,
                "{name}: a known connection"
            );
        }
    }
}

/// A flow that the hash alone decides may be made up: its path is learned, and no client is sent ICMP for it.
#[test]
fn no_error_is_sent_about_a_connection_without_an_entry() {
    let victim = Ipv4Addr::new(198, 51, 100, 9);
    let inner = as_fragment(&tcp_between(victim, 7, VIP, 443, ACK, &[7; 1436]), 0x4000);
    for rip in SERVERS {
        let quote = outer_to(rip, &inner);
        assert_eq!(world().effect_of(&too_big(1400, quote.clone()), rip), Effect::lowered(1400));
        let silent = Effect::none(Kind::Unreachable, Outcome::Ignored);
        assert_eq!(world().effect_of(&error(3, 1, quote), rip), silent);
    }
}

/// Without an entry, an error is about our packet only if its real server could have been sent one.
#[test]
fn an_error_names_a_real_server_that_serves_the_flow() {
    let mismatch = Effect::none(Kind::TooBig, Outcome::Mismatch);
    let inner = |port| as_fragment(&tcp_between(CLIENT, 7, VIP, port, ACK, &[7; 1436]), 0x4000);
    for (name, port, rip, effect) in [
        ("it serves the flow", 8443, SERVER2, Effect::lowered(1400)),
        ("it serves others", 8443, SERVER3, mismatch.clone()),
        ("it serves the neighbour's flow", 443, SERVER3, Effect::lowered(1400)),
        ("no virtual service", 444, SERVER2, mismatch.clone()),
        ("a service that keeps entries", 80, SERVER2, mismatch.clone()),
    ] {
        let error = too_big(1400, outer_to(rip, &inner(port)));
        assert_eq!(world().effect_of(&error, rip), effect, "{name}");
    }
    let only_server2 = || {
        let mut config = config();
        config.virtual_services.truncate(2);
        config.virtual_services[0].real_servers.truncate(1);
        config.new_connections_per_second_max = 1;
        let mut world = world_of(config);
        for port in [1, 2] {
            world.fate(&segment(port, SYN));
        }
        world
    };
    for (rip, outcome, mtu) in [(SERVER2, Outcome::Noted, 1400), (SERVER3, Outcome::Mismatch, 1500)] {
        let mut world = only_server2();
        let heard = world.hear(&too_big(1400, outer_to(rip, &inner(80))).bytes());
        assert_eq!((heard.outcome, world.path_mtu(rip, NOW)), (outcome, mtu), "during a flood, {rip}");
    }
}

/// The flood rule leaves connections without an entry: their path is learned anyway, by the floor at worst.
#[test]
fn during_a_flood_a_path_is_learned_without_an_entry() {
    let mut world = flooded();
    let inner = as_fragment(&tcp_between(CLIENT, 40002, VIP, 80, ACK, &[7; 1436]), 0x4000);
    assert_eq!(world.effect_of(&too_big(1400, outer_of(&inner)), SERVER2), Effect::lowered(1400));
    assert_eq!(world.fate(&inner), Fate::Told(fits(1380), DropReason::TooBig));
}

/// A worker may have a real server that is not yet in the snapshot of the worker that receives the error.
#[test]
fn an_error_about_a_real_server_of_a_later_snapshot_is_ignored() {
    let mut world = world_of(config());
    let early = PathErrors::new(Arc::new(ArcSwap::new(world.cluster.load_full())), world.tables.clone(), 7);
    let newest = Ipv4Addr::new(172, 25, 3, 4);
    let mut next = config();
    next.virtual_services[0].real_servers = vec![RealServerConfig::new(newest.into(), 1)];
    world.succeed(next, host());
    assert!(matches!(world.handle(&tcp(SYN, b""), NOW).0, Verdict::Transmit(route) if route.to() == newest));
    let message = too_big(1000, outer_of(&big())).bytes();
    world.errors = early;
    let heard = world.hear(&message);
    assert_eq!((heard.kind, heard.outcome, heard.answer), (Kind::TooBig, Outcome::Mismatch, None));
}
