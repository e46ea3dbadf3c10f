//! What the director remembers and counts: the states of connections, full tables, templates, floods, totals.

use std::time::Duration;

use lvs_tund::director::cluster::{
    Matcher, Persistence, Ports, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use lvs_tund::director::connection::{Activity, Event, State, Table, Timeouts};
use lvs_tund::director::persistence::Templates;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, Tracking, Verdict};
use lvs_tund::packet::Protocol;

mod support;

use support::clients::*;
use support::fields::Fields;
use support::packets::*;
use support::world::World;

const PERSISTENCE: Duration = Duration::from_secs(360);

fn persistent(timeout: Duration, established: u64) -> VirtualServiceConfig {
    let mut service = web("rr", &[1, 1]);
    service.persistence = Some(Persistence::new(timeout));
    service.timeouts.established = Duration::from_secs(established);
    service
}

/// UDP 53 of the VIP.
fn dns(scheduler: &'static str) -> VirtualServiceConfig {
    VirtualServiceConfig {
        real_servers: servers(&[1, 1]),
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, scheduler)
    }
}

/// A question of client `n`.
fn question(world: &mut World, n: u32) -> Verdict {
    let mut packet = udp(53, b"question").source(client(n));
    finish_transport(&mut packet);
    world.send(&packet)
}

fn route_of(verdict: &Verdict) -> (Result<u8, Verdict>, Tracking) {
    (server_of(verdict), tracking_of(verdict))
}

/// Only a SYN begins a connection again: a datagram of a known flow stays with its quiesced real server.
#[test]
fn datagrams_of_a_known_flow_stay_with_a_quiesced_server() {
    let mut world = World::of(vec![dns("rr")]);
    let first = server_of(&question(&mut world, 1)).expect("a real server");
    world.change(|config| config.virtual_services[0].real_servers[usize::from(first) - 1].weight = 0);
    for n in 2..6 {
        assert_ne!(server_of(&question(&mut world, n)), Ok(first), "a new flow goes elsewhere");
    }
    assert_eq!(route_of(&question(&mut world, 1)), (Ok(first), Tracking::Known));
}

/// The kernel's net/netfilter/ipvs/ip_vs_proto_tcp.c: `tcp_states` for INPUT-ONLY, `tcp_state_active_table` and
/// `tcp_timeouts`. A column is the state before.
#[test]
fn each_state_changes_counts_and_lasts_as_in_the_kernel() {
    const BEFORE: &str = "NO ES SS SR FW TW CL CW LA LI SA";
    const SYN_TO: &str = "SR ES ES SR SR SR SR SR SR SR SR";
    const FIN_TO: &str = "CL FW SS TW FW TW CL CW LA LI TW";
    const ACK_TO: &str = "ES ES SS ES FW TW CL CW CL LI ES";
    const RST_TO: &str = "CL CL CL SR CL CL CL CL LA LI CL";
    const ACTIVE: &str = "no yes yes yes no no no no no no yes";
    const SECONDS: &str = "2 900 120 60 120 120 10 60 30 120 120";
    let words = |row: &'static str| row.split_whitespace();
    let state = |word: &str| match word {
        "NO" => State::None,
        "ES" => State::Established,
        "SS" => State::SynSent,
        "SR" => State::SynRecv,
        "FW" => State::FinWait,
        "TW" => State::TimeWait,
        "CL" => State::Close,
        "CW" => State::CloseWait,
        "LA" => State::LastAck,
        "LI" => State::Listen,
        "SA" => State::SynAck,
        other => panic!("{other}"),
    };
    let rows = [
        (Event::Syn, SYN_TO),
        (Event::Fin, FIN_TO),
        (Event::Ack, ACK_TO),
        (Event::Rst, RST_TO),
        (Event::Datagram, BEFORE),
    ];
    for (event, row) in rows {
        assert_eq!(words(row).count(), 11);
        for (before, after) in words(BEFORE).zip(words(row)) {
            assert_eq!(state(before).next(event), state(after), "{event:?} in {before}");
        }
        assert_eq!(State::Udp.next(event), State::Udp);
    }
    for ((name, active), seconds) in words(BEFORE).zip(words(ACTIVE)).zip(words(SECONDS)) {
        let activity = if active == "yes" { Activity::Active } else { Activity::Inactive };
        assert_eq!(state(name).activity(), activity, "{name}");
        let lasts = Timeouts::default().of(state(name));
        assert_eq!(lasts, Duration::from_secs(seconds.parse().expect("a number")), "{name}");
    }
    assert_eq!(State::Udp.activity(), Activity::Inactive);
    assert_eq!(Timeouts::default().of(State::Udp), Duration::from_secs(300));
}

#[test]
fn the_totals_count_every_new_connection_and_nothing_else() {
    let mut world = World::limited(vec![web("rr", &[1, 1])], 3);
    for n in 0..3 {
        world.connect(client(n), 1);
        world.ack(client(n), 1).unwrap();
        world.connect(client(n), 1);
    }
    assert_eq!(world.totals(), (3, vec![2, 1]));
    assert_eq!(world.tcp(client(3), 1, SYN), Verdict::Drop(DropReason::TableFull));
    assert_eq!(reason_of(&world.tcp(client(4), 1, ACK)), Some(DropReason::NoConnection));
    assert_eq!(world.totals(), (3, vec![2, 1]), "a refused one is none");
    world.tcp(client(0), 1, FIN | ACK);
    assert_eq!(world.connect(client(0), 1), 1, "old ports, a new connection");
    assert_eq!(world.totals(), (4, vec![3, 1]));
}

#[test]
fn a_flooded_connection_is_counted_when_it_gets_its_entry() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    world.change(|config| config.new_connections_per_second_max = Some(1));
    world.connect(client(0), 1);
    assert_eq!(tracking_of(&world.tcp(client(1), 1, SYN)), Tracking::Flood);
    assert_eq!(world.totals(), (1, vec![1, 0]));
    world.wait(1);
    assert_eq!(tracking_of(&world.tcp(client(1), 1, ACK)), Tracking::New);
    assert_eq!(world.totals(), (2, vec![1, 1]));
}

#[test]
fn a_one_packet_connection_is_counted_and_holds_no_template_beyond_its_time() {
    let persistence = Some(Persistence::new(PERSISTENCE));
    let mut world = World::of(vec![VirtualServiceConfig { is_one_packet: true, persistence, ..dns("rr") }]);
    for asked in 1..=4 {
        assert_eq!(route_of(&question(&mut world, 1)), (Ok(1), Tracking::None));
        assert_eq!(world.totals(), (asked, vec![asked, 0]));
    }
    assert_eq!(world.counts(1), (0, 0, 1));
    world.wait(360);
    world.sweep();
    assert_eq!((world.counts(1), world.tables.templates.len()), ((0, 0, 0), 0));
    assert_eq!(server_of(&question(&mut world, 1)), Ok(2));
}

#[test]
fn one_packet_scheduling_is_for_datagrams_only() {
    let matcher = |protocol| Matcher { protocol, vip: VIP.into(), ports: Ports::one(53) };
    let matchers = vec![matcher(Protocol::Udp), matcher(Protocol::Tcp)];
    let mut world = World::of(vec![VirtualServiceConfig { matchers, is_one_packet: true, ..dns("rr") }]);
    let segment = |flags| tcp_between(client(1), 1, VIP, 53, flags, b"");
    assert_eq!(route_of(&question(&mut world, 1)), (Ok(1), Tracking::None));
    assert_eq!(route_of(&world.send(&segment(SYN))), (Ok(2), Tracking::New));
    assert_eq!(route_of(&question(&mut world, 1)), (Ok(1), Tracking::None));
    assert_eq!(route_of(&world.send(&segment(ACK))), (Ok(2), Tracking::Known));
}

/// ip_vs_conn_expire(): a template that connections use is looked at every 60 s, first when its own time is over.
#[test]
fn a_template_ends_at_the_first_look_that_finds_no_connection() {
    for (connection_ends, template_ends) in [
        (10, 360),
        (359, 360),
        (360, 360),
        (361, 420),
        (419, 420),
        (420, 420),
        (421, 480),
        (480, 480),
        (481, 540),
        (899, 900),
    ] {
        for (time, expected) in [(template_ends - 1, 1), (template_ends, 2)] {
            let mut world = World::of(vec![persistent(PERSISTENCE, connection_ends)]);
            assert_eq!(world.connect(client(1), 1), 1);
            assert_eq!(world.ack(client(1), 1), Ok(1));
            world.wait(time);
            world.sweep();
            let templates = u32::from(expected == 1);
            assert_eq!(world.counts(1).2, templates, "{connection_ends} s, {time} s");
            assert_eq!(world.connect(client(1), 2), expected, "{connection_ends} s, {time} s");
        }
    }
}

#[test]
fn a_template_that_is_over_binds_no_client_before_the_sweep_either() {
    let mut world = World::of(vec![persistent(PERSISTENCE, 900)]);
    assert_eq!(world.connect(client(1), 1), 1);
    world.wait(60);
    world.sweep();
    assert_eq!((world.counts(1), world.counts(2)), ((0, 0, 1), (0, 0, 0)));
    world.wait(300);
    assert_eq!(world.connect(client(1), 2), 2);
    assert_eq!((world.counts(1), world.counts(2)), ((0, 0, 0), (1, 0, 1)));
}

#[test]
fn a_connection_without_a_template_has_none_to_hold_or_to_leave() {
    let short = Duration::from_secs(20);
    let tables = || Tables { connections: Table::new(1000, 7), templates: Templates::new(1, 7) };
    let mut world = World::with_tables(vec![persistent(short, 900)], tables());
    assert_eq!((world.connect(client(1), 1), world.connect(client(2), 1)), (1, 2));
    assert_eq!((world.counts(1).2, world.counts(2).2), (1, 0), "there is room for one template");
    for n in [1, 2] {
        world.ack(client(n), 1).unwrap();
        world.tcp(client(n), 1, FIN | ACK);
    }
    assert_eq!(
        route_of(&world.tcp(client(1), 1, SYN)),
        (Ok(1), Tracking::Known),
        "its template decides anyway"
    );
    assert_eq!(route_of(&world.tcp(client(2), 1, SYN)), (Ok(1), Tracking::New), "nothing binds the client");

    let mut world = World::with_tables(vec![persistent(short, 900)], tables());
    assert_eq!((world.connect(client(1), 1), world.connect(client(2), 1)), (1, 2));
    world.ack(client(2), 1).unwrap();
    world.wait(100);
    world.sweep();
    assert_eq!(world.tables.templates.len(), 0);
    assert_eq!(world.connect(client(2), 2), 1, "the first with a template");
    for _ in 0..2 {
        world.ack(client(2), 2).unwrap();
        world.wait(450);
        world.sweep();
    }
    assert_eq!(world.tables.connections.len(), 1, "the one without has ended");
    assert_eq!((world.connect(client(2), 3), world.counts(1).2), (1, 1), "the template is there");
}

#[test]
fn a_client_that_has_its_share_leaves_nothing_behind_when_refused() {
    let tables = Tables::new(1000, 7).with_connections_per_client_max(1);
    let mut world = World::with_tables(vec![persistent(PERSISTENCE, 50)], tables);
    assert_eq!(world.connect(client(1), 1), 1);
    world.ack(client(1), 1).unwrap();
    world.wait(10);
    for port in 2..10 {
        assert_eq!(world.tcp(client(1), port, SYN), Verdict::Drop(DropReason::TableFull));
    }
    assert_eq!((world.counts(1), world.tables.connections.len()), ((1, 0, 1), 1));
    assert_eq!(world.totals(), (1, vec![1, 0]));
    assert_eq!(world.connect(client(2), 1), 2, "others are served");
    world.wait(360);
    world.sweep();
    assert_eq!((world.counts(1), world.tables.templates.len()), ((0, 0, 0), 0), "nothing hangs on it");
    assert_eq!(world.tables.connections.len(), 0);
    assert!(server_of(&world.tcp(client(1), 2, SYN)).is_ok());
}

#[test]
fn a_full_table_makes_no_template() {
    let mut world = World::limited(vec![persistent(PERSISTENCE, 900)], 1);
    assert_eq!(world.connect(client(1), 1), 1);
    assert_eq!(world.tcp(client(2), 1, SYN), Verdict::Drop(DropReason::TableFull));
    assert_eq!((world.counts(1), world.counts(2)), ((1, 0, 1), (0, 0, 0)));
}

#[test]
fn a_full_table_lets_through_what_a_hash_finds_again() {
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    for (scheduler, unknown_tcp, protocol, passes) in [
        ("mh", UnknownTcp::Schedule, udp, true),
        ("mh", UnknownTcp::Rst, udp, true),
        ("mh", UnknownTcp::Drop, udp, true),
        ("sh", UnknownTcp::Rst, udp, true),
        ("rr", UnknownTcp::Schedule, udp, false),
        ("wlc", UnknownTcp::Rst, udp, false),
        ("mh", UnknownTcp::Schedule, tcp, true),
        ("mh", UnknownTcp::Rst, tcp, false),
        ("mh", UnknownTcp::Drop, tcp, false),
        ("rr", UnknownTcp::Schedule, tcp, false),
    ] {
        let service = match protocol {
            Protocol::Udp => dns(scheduler),
            _ => web(scheduler, &[1, 1]),
        };
        let mut world = World::limited(vec![VirtualServiceConfig { unknown_tcp, ..service }], 1);
        let begin = |world: &mut World, n| match protocol {
            Protocol::Udp => question(world, n),
            _ => world.tcp(client(n), 1, SYN),
        };
        assert_eq!(tracking_of(&begin(&mut world, 0)), Tracking::New);
        for n in 1..20 {
            let verdict = begin(&mut world, n);
            let case = format!("{scheduler}, {unknown_tcp:?}, {protocol:?}");
            if passes {
                assert_eq!(tracking_of(&verdict), Tracking::None, "{case}");
                assert_eq!(server_of(&begin(&mut world, n)), server_of(&verdict), "{case}");
            } else {
                assert_eq!(verdict, Verdict::Drop(DropReason::TableFull), "{case}");
            }
        }
        assert_eq!(world.tables.connections.len(), 1);
    }
}

#[test]
fn datagrams_of_a_flood_keep_their_server_and_get_an_entry_when_it_is_over() {
    let mut world = World::of(vec![dns("rr")]);
    world.change(|config| config.new_connections_per_second_max = Some(1));
    assert_eq!(route_of(&question(&mut world, 0)), (Ok(1), Tracking::New));
    for _ in 0..3 {
        assert_eq!(route_of(&question(&mut world, 1)), (Ok(2), Tracking::Flood));
    }
    assert_eq!(route_of(&question(&mut world, 2)), (Ok(1), Tracking::Flood));
    world.wait(1);
    assert_eq!(route_of(&question(&mut world, 1)), (Ok(2), Tracking::New));
    assert_eq!(route_of(&question(&mut world, 1)), (Ok(2), Tracking::Known));
}

#[test]
fn a_reset_and_a_scan_on_a_flooded_flow_begin_nothing() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    world.change(|config| config.new_connections_per_second_max = Some(1));
    assert_eq!([0, 1].map(|n| world.connect(client(n), 1)), [1, 2]);
    world.wait(1);
    assert_eq!(route_of(&world.tcp(client(1), 1, RST)), (Ok(2), Tracking::None));
    assert_eq!(world.tcp(client(1), 1, 0), Verdict::Drop(DropReason::BadTcpFlags));
    assert_eq!((world.tables.connections.len(), world.totals().0), (1, 1));
    assert_eq!(route_of(&world.tcp(client(1), 1, ACK)), (Ok(2), Tracking::New), "neither counted as one");
}

#[test]
fn a_flooded_flow_waits_for_a_removed_server_and_then_leaves_it() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    world.change(|config| config.new_connections_per_second_max = Some(1));
    assert_eq!(world.connect(client(0), 1), 1, "holds the server's slot while it is removed");
    assert_eq!([1, 2, 3].map(|n| world.connect(client(n), 1)), [2, 1, 2]);
    world.change(|config| drop(config.virtual_services[0].real_servers.remove(0)));
    assert_eq!(world.ack(client(1), 1), Ok(2));
    assert_eq!(reason_of(&world.tcp(client(2), 1, ACK)), Some(DropReason::ConnectionWaits));
    world.end_every_grace();
    assert_eq!(reason_of(&world.tcp(client(2), 1, ACK)), Some(DropReason::NoConnection));
    assert_eq!(route_of(&world.tcp(client(2), 1, SYN)), (Ok(2), Tracking::Flood));
    assert_eq!(world.ack(client(2), 1), Ok(2), "and is remembered there");
}

#[test]
fn a_flooded_flow_goes_to_no_server_of_another_service() {
    let matcher = |port| Matcher { protocol: Protocol::Tcp, vip: VIP.into(), ports: Ports::one(port) };
    let one = VirtualServiceConfig { matchers: vec![matcher(81), matcher(80)], ..web("rr", &[1, 1]) };
    let mut other = VirtualServiceConfig::new("other", Protocol::Tcp, VIP.into(), 82, "rr");
    other.real_servers = vec![RealServerConfig::new(rip(3).into(), 1)];
    let mut world = World::of(vec![one, other]);
    world.change(|config| config.new_connections_per_second_max = Some(1));
    assert_eq!([0, 1].map(|n| world.connect(client(n), 1)), [1, 2]);
    world.change(|config| {
        let moved = config.virtual_services[0].matchers.pop().expect("port 80");
        config.virtual_services[1].matchers.push(moved);
    });
    assert_eq!(world.connect(client(1), 1), 3);
}
