//! Connections over changes of the cluster and of time: persistence, thresholds, removal, groups, one-packet
//! scheduling, floods, stateless agreement. The rules are those of IPVS (ip_vs_conn.c, ip_vs_core.c).

use std::time::Duration;

use lvs_tund::director::cluster::{Matcher, OnRemoved, Persistence, Ports, UnknownTcp, VirtualServiceConfig};
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::verdict::{DropReason, ReplyKind, Tracking, Verdict};
use lvs_tund::packet::Protocol;

mod support;

use support::clients::*;
use support::fields::Fields;
use support::packets::*;
use support::world::World;

fn persistent(scheduler: &'static str, weights: &[u32]) -> VirtualServiceConfig {
    let persistence = Some(Persistence::new(Duration::from_secs(360)));
    VirtualServiceConfig { persistence, ..web(scheduler, weights) }
}

#[test]
fn a_persistent_client_keeps_its_server_for_new_connections() {
    let mut world = World::of(vec![persistent("rr", &[1, 1])]);
    assert_eq!((world.connect(client(1), 1), world.connect(client(2), 1)), (1, 2));
    assert!((2..20).all(|port| world.connect(client(1), port) == 1));
    assert_eq!(world.counts(1), (19, 0, 1), "templates are counted apart");
    world.wait(300);
    world.sweep();
    assert_eq!(world.counts(1), (0, 0, 1), "its half-open connections have gone, the template has not");
    assert_eq!(world.connect(client(1), 50), 1, "and is renewed by this one");
    world.wait(359);
    world.sweep();
    assert_eq!(world.connect(client(1), 51), 1);
    world.wait(500);
    world.sweep();
    assert_eq!(world.counts(1), (0, 0, 0));
    assert_eq!(world.tables.templates.len(), 0);
}

#[test]
fn a_template_outlives_its_time_while_connections_hang_on_it() {
    let mut world = World::of(vec![persistent("rr", &[1, 1])]);
    assert_eq!(world.connect(client(1), 1), 1);
    assert_eq!(world.ack(client(1), 1), Ok(1));
    for _ in 0..10 {
        world.wait(300);
        assert_eq!(world.ack(client(1), 1), Ok(1));
        world.sweep();
    }
    assert_eq!(world.connect(client(1), 2), 1, "3000 s later");
}

#[test]
fn a_prefix_of_clients_is_one_client() {
    let mut service = persistent("rr", &[1, 1]);
    service.persistence = Some(Persistence { prefix_v4: 24, ..Persistence::new(Duration::from_secs(360)) });
    let mut world = World::of(vec![service]);
    assert_eq!([1, 2, 255].map(|n| world.connect(client(n), 1)), [1, 1, 1]);
    assert_eq!(world.connect(client(256), 1), 2);
}

#[test]
fn quiesced_and_overloaded_servers_keep_their_templates_unless_set_otherwise() {
    for (expires_quiesced, expected) in [(false, 1), (true, 2)] {
        let mut service = persistent("rr", &[1, 1]);
        service.persistence =
            Some(Persistence { expires_quiesced, ..Persistence::new(Duration::from_secs(360)) });
        service.real_servers[0].upper_threshold = 1;
        let mut world = World::of(vec![service]);
        assert_eq!(world.connect(client(1), 1), 1);
        assert_eq!(world.connect(client(1), 2), 1, "overload does not stop a template");
        assert_eq!(world.connect(client(2), 1), 2, "but it stops the scheduler");
        world.change(|config| config.virtual_services[0].real_servers[0].weight = 0);
        assert_eq!(world.connect(client(1), 3), expected, "{expires_quiesced}");
        let templates = [world.counts(1).2, world.counts(2).2];
        assert_eq!(templates, if expires_quiesced { [0, 2] } else { [1, 1] });
    }
}

#[test]
fn a_removed_servers_clients_are_given_another_one() {
    let mut world = World::of(vec![persistent("rr", &[1, 1])]);
    assert_eq!(world.connect(client(1), 1), 1);
    world.change(|config| drop(config.virtual_services[0].real_servers.remove(0)));
    assert_eq!(world.connect(client(1), 2), 2);
    world.end_every_grace();
    assert_eq!(world.ack(client(1), 1), Err(reply_reset()), "the old one's next packet finds no entry");
    world.change(|config| config.virtual_services[0].real_servers = servers(&[1, 1]));
    assert_eq!(world.connect(client(1), 3), 2, "the template has moved");
}

fn reply_reset() -> Verdict {
    let reason = Some(DropReason::NoConnection);
    let reply =
        lvs_tund::director::verdict::Reply { to: client(1).into(), kind: ReplyKind::TcpReset, reason };
    Verdict::Reply(reply)
}

#[test]
fn a_group_is_one_service_with_one_round_and_one_persistence() {
    let matcher = |protocol, port| Matcher { protocol, vip: VIP.into(), ports: Ports::one(port) };
    let matchers = vec![matcher(Protocol::Tcp, 80), matcher(Protocol::Tcp, 443), matcher(Protocol::Udp, 443)];
    let group = VirtualServiceConfig { matchers, ..web("rr", &[1, 1, 1]) };
    let three = |world: &mut World, n| {
        let packets = [
            tcp_between(client(n), 1, VIP, 80, SYN, b""),
            tcp_between(client(n), 1, VIP, 443, SYN, b""),
            udp(443, b"x").source(client(n)),
        ];
        packets.map(|packet| server_of(&world.send(&packet)).unwrap())
    };
    assert_eq!(three(&mut World::of(vec![group.clone()]), 1), [1, 2, 3]);
    let persistence = Some(Persistence::new(Duration::from_secs(360)));
    let mut world = World::of(vec![VirtualServiceConfig { persistence, ..group }]);
    assert_eq!(three(&mut world, 1), [1, 1, 1]);
    assert_eq!(three(&mut world, 2), [2, 2, 2]);
}

#[test]
fn the_narrowest_range_with_the_port_wins() {
    let ranged = |name: &str, first, last, n: u8| VirtualServiceConfig {
        matchers: vec![Matcher { protocol: Protocol::Tcp, vip: VIP.into(), ports: Ports { first, last } }],
        real_servers: vec![lvs_tund::director::cluster::RealServerConfig::new(rip(n).into(), 1)],
        ..VirtualServiceConfig::new(name, Protocol::Tcp, VIP.into(), 1, &rr::ROW)
    };
    let all = ranged("all", 1, u16::MAX, 1);
    let mut world = World::of(vec![all, ranged("some", 8000, 8099, 2), ranged("one", 8080, 8080, 3)]);
    let mut to = |port| server_of(&world.send(&tcp_between(client(1), 9, VIP, port, SYN, b""))).unwrap();
    assert_eq!([1, 7999, 8000, 8080, 8099, 8100, 65535].map(&mut to), [1, 1, 2, 3, 2, 1, 1]);
    // Nested at both ends, side by side, and a gap.
    let ranges = [(10, 99, 1), (10, 19, 2), (12, 13, 3), (90, 99, 4), (100, 110, 5), (200, 210, 6)];
    let services = ranges.map(|(first, last, n)| ranged(&format!("range {n}"), first, last, n));
    let mut world = World::of(services.to_vec());
    let mut to = |port| server_of(&world.send(&tcp_between(client(1), 9, VIP, port, SYN, b""))).unwrap_or(0);
    let ports = [9, 10, 11, 12, 13, 14, 19, 20, 89, 90, 99, 100, 110, 111, 199, 200, 210, 211];
    assert_eq!(ports.map(&mut to), [0, 2, 2, 3, 3, 2, 2, 1, 1, 4, 4, 5, 5, 0, 0, 6, 6, 0]);
}

#[test]
fn a_persistent_ftp_service_takes_its_clients_data_connections() {
    let mut ftp = persistent("rr", &[1, 1]);
    ftp.matchers[0].ports = Ports::one(21);
    let mut world = World::of(vec![ftp]);
    let mut to = |n, port| server_of(&world.send(&tcp_between(client(n), 9, VIP, port, SYN, b"")));
    assert_eq!(
        [to(1, 21), to(2, 21), to(1, 20), to(1, 1024), to(2, 50000)].map(Result::unwrap),
        [1, 2, 1, 1, 2]
    );
    assert!(to(1, 1023).is_err());
}

#[test]
fn one_packet_scheduling_leaves_no_entry() {
    let dns = |is_one_packet, persistence| VirtualServiceConfig {
        real_servers: servers(&[1, 1]),
        is_one_packet,
        persistence,
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    };
    let four = |world: &mut World| [0; 4].map(|_| server_of(&world.send(&udp(53, b"question"))).unwrap());
    let mut world = World::of(vec![dns(false, None)]);
    assert_eq!((four(&mut world), world.tables.connections.len()), ([1, 1, 1, 1], 1));
    let mut world = World::of(vec![dns(true, None)]);
    assert_eq!((four(&mut world), world.tables.connections.len()), ([1, 2, 1, 2], 0));
    assert_eq!(world.counts(1), (0, 0, 0));
    let mut world = World::of(vec![dns(true, Some(Persistence::new(Duration::from_secs(360))))]);
    assert_eq!((four(&mut world), world.tables.templates.len()), ([1, 1, 1, 1], 1), "the template decides");
}

/// The overload flag as IPVS keeps it since its fix "properly update the overload flag on dest edit", step by step.
#[test]
fn thresholds_have_their_hysteresis() {
    let mut service = web("rr", &[1]);
    service.real_servers[0].upper_threshold = 8;
    let mut world = World::of(vec![service]);
    let may_connect =
        |world: &mut World, port| matches!(world.tcp(client(1), port, SYN), Verdict::Transmit(_));
    assert!((1..=8).all(|port| may_connect(&mut world, port)));
    assert!(!may_connect(&mut world, 9), "total reaches 8: set");
    assert_eq!(world.ack(client(1), 1), Ok(1), "known connections continue");
    let end = |world: &mut World, ports: std::ops::RangeInclusive<u16>| {
        for port in ports {
            world.tcp(client(1), port, ACK);
            world.tcp(client(1), port, RST);
        }
        world.wait(10);
        for port in 1..=8 {
            let _ = world.ack(client(1), port);
        }
        world.sweep();
    };
    end(&mut world, 1..=2);
    assert_eq!(world.counts(1).0, 6);
    assert!(!may_connect(&mut world, 20), "6 is not below three quarters of 8");
    world.change(|config| config.virtual_services[0].real_servers[0].lower_threshold = 7);
    assert!(may_connect(&mut world, 21), "an edit is judged at once: 6 is below 7");
    world.change(|config| config.virtual_services[0].real_servers[0].upper_threshold = 3);
    assert!(!may_connect(&mut world, 22), "lowered below what there is");
    world.change(|config| config.virtual_services[0].real_servers[0].upper_threshold = 0);
    assert!(may_connect(&mut world, 23), "no limit");
}

#[test]
fn weight_zero_keeps_connections_and_takes_none() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    assert_eq!(world.connect(client(1), 1), 1);
    world.ack(client(1), 1).unwrap();
    world.change(|config| config.virtual_services[0].real_servers[0].weight = 0);
    assert!((2..10).all(|port| world.connect(client(1), port) == 2));
    assert_eq!(world.ack(client(1), 1), Ok(1));
    assert_eq!(server_of(&world.tcp(client(1), 1, SYN)), Ok(1), "a forged SYN moves no client");
    world.tcp(client(1), 1, FIN | ACK);
    assert_eq!(world.connect(client(1), 1), 2, "a new connection on the old port does move");
}

#[test]
fn a_removed_servers_connections_follow_the_setting_of_the_service() {
    for (on_removed, expected) in [
        (OnRemoved::Reschedule, Ok(2)),
        (OnRemoved::Drop, Err(Verdict::Drop(DropReason::NoRealServer))),
        (OnRemoved::Keep, Ok(1)),
    ] {
        let service =
            VirtualServiceConfig { on_removed, unknown_tcp: UnknownTcp::Schedule, ..web("rr", &[1, 1]) };
        let mut world = World::of(vec![service]);
        assert_eq!(world.connect(client(1), 1), 1);
        world.change(|config| drop(config.virtual_services[0].real_servers.remove(0)));
        world.end_every_grace();
        assert_eq!(world.ack(client(1), 1), expected, "{on_removed:?}");
        world.sweep();
        let left = world.tables.connections.len();
        assert_eq!(left, 1, "{on_removed:?}");
        // Back again: its connections are its own again, with their counts.
        world.change(|config| config.virtual_services[0].real_servers = servers(&[1, 1]));
        let again = world.ack(client(1), 1);
        assert_eq!(again, if on_removed == OnRemoved::Reschedule { Ok(2) } else { Ok(1) }, "{on_removed:?}");
        assert_eq!(world.counts(1).0 + world.counts(2).0, 1, "{on_removed:?}");
    }
}

#[test]
fn connections_of_a_removed_server_are_swept() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    for port in 1..=10 {
        world.connect(client(1), port);
    }
    world.change(|config| drop(config.virtual_services[0].real_servers.remove(0)));
    world.sweep();
    assert_eq!(world.tables.connections.len(), 10, "they wait");
    world.end_every_grace();
    world.sweep();
    assert_eq!(world.tables.connections.len(), 5);
    assert_eq!(world.counts(2), (5, 0, 0));
}

#[test]
fn old_ports_used_again_begin_a_new_connection_at_once() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    assert_eq!(world.connect(client(1), 1), 1);
    for flags in [ACK, FIN | ACK, ACK] {
        assert_eq!(server_of(&world.tcp(client(1), 1, flags)), Ok(1));
    }
    assert_eq!(world.connect(client(1), 1), 2);
    assert_eq!((world.counts(1), world.counts(2)), ((0, 0, 0), (1, 0, 0)));
}

#[test]
fn directors_with_one_key_agree_and_a_restarted_one_continues() {
    for scheduler in ["mh", "sh"] {
        let mut first = World::of(vec![web(scheduler, &[1, 2, 1, 1])]);
        let mut reversed = web(scheduler, &[1, 2, 1, 1]);
        reversed.real_servers.reverse();
        let mut second = World::of(vec![reversed]);
        for n in 0..500 {
            let server = first.connect(client(n), 1);
            let verdict = second.tcp(client(n), 1, ACK);
            assert_eq!(
                (server_of(&verdict), tracking_of(&verdict)),
                (Ok(server), Tracking::None),
                "{scheduler}"
            );
            assert_eq!(server_of(&second.tcp(client(n), 1, RST)), Ok(server), "a reset too");
        }
        assert_eq!(second.tables.connections.len(), 0);
        let fingerprint = |world: &World| {
            let cluster = world.cluster.load();
            cluster.virtual_services().next().and_then(|service| service.scheduler.fingerprint())
        };
        assert!(fingerprint(&first).is_some() && fingerprint(&first) == fingerprint(&second));
        first.change(|config| config.virtual_services[0].real_servers[0].weight = 3);
        assert_ne!(fingerprint(&first), fingerprint(&second));
    }
}

#[test]
fn a_known_connection_stays_when_the_hash_table_changes() {
    let mut world = World::of(vec![web("mh", &[1, 1, 1])]);
    let before: Vec<u8> = (0..300).map(|n| world.connect(client(n), 1)).collect();
    world.change(|config| config.virtual_services[0].real_servers = servers(&[1, 1, 1, 1, 1]));
    let after: Vec<u8> = (0..300).map(|n| world.ack(client(n), 1).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_flood_makes_no_state_and_still_passes() {
    for scheduler in ["mh", "wlc"] {
        let mut world = World::of(vec![web(scheduler, &[1, 1, 1])]);
        world.change(|config| config.new_connections_per_second_max = 100);
        assert_eq!(world.connect(client(0), 1), world.ack(client(0), 1).unwrap());
        let mut flooded = 0;
        for n in 1..5000 {
            let verdict = world.tcp(client(n), 1, SYN);
            let server = server_of(&verdict).unwrap();
            flooded += u32::from(tracking_of(&verdict) == Tracking::Flood);
            assert_eq!(world.ack(client(n), 1), Ok(server), "{scheduler}: the handshake goes to one server");
        }
        assert!(flooded > 4800, "{scheduler}: {flooded}");
        // 100 first packets and 100 that confirm a flow.
        assert!(world.tables.connections.len() <= 201, "{scheduler}");
        assert_eq!(
            tracking_of(&world.tcp(client(0), 1, ACK)),
            Tracking::Known,
            "what is established is not hurt"
        );
        // The flood is over: who is still there becomes a connection, on the same server.
        let server = world.ack(client(4999), 1).unwrap();
        world.wait(2);
        let verdict = world.tcp(client(4999), 1, ACK);
        assert_eq!(server_of(&verdict), Ok(server), "{scheduler}");
        assert_eq!(tracking_of(&verdict), if scheduler == "mh" { Tracking::None } else { Tracking::New });
    }
}

#[test]
fn one_packet_scheduling_neither_raises_a_flood_nor_suffers_one() {
    let dns = VirtualServiceConfig {
        real_servers: servers(&[1, 1]),
        is_one_packet: true,
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    };
    let mut world = World::of(vec![web("rr", &[1, 1]), dns]);
    world.change(|config| config.new_connections_per_second_max = 10);
    for turn in 0..100u8 {
        let verdict = world.send(&udp(53, b"question"));
        assert_eq!((server_of(&verdict), tracking_of(&verdict)), (Ok(turn % 2 + 1), Tracking::None));
    }
    assert_eq!(tracking_of(&world.tcp(client(1), 1, SYN)), Tracking::New);
}

#[test]
fn a_hash_that_may_not_carry_on_needs_memory_like_any_other() {
    let service = VirtualServiceConfig { unknown_tcp: UnknownTcp::Rst, ..web("mh", &[1, 1]) };
    let mut world = World::of(vec![service.clone()]);
    world.change(|config| config.new_connections_per_second_max = 1);
    world.connect(client(0), 1);
    let server = world.connect(client(1), 1);
    assert_eq!(world.ack(client(1), 1), Ok(server), "the handshake of a flooded connection is not reset");
    let mut world = World::limited(vec![service], 1);
    world.connect(client(0), 1);
    assert_eq!(world.tcp(client(1), 1, SYN), Verdict::Drop(DropReason::TableFull));
}

#[test]
fn a_full_table_refuses_new_connections_but_where_the_hash_decides() {
    for (scheduler, expected) in [("wlc", Err(Verdict::Drop(DropReason::TableFull))), ("mh", Ok(()))] {
        let mut world = World::limited(vec![web(scheduler, &[1, 1])], 10);
        for n in 0..10 {
            world.connect(client(n), 1);
        }
        let verdict = world.tcp(client(10), 1, SYN);
        assert_eq!(server_of(&verdict).map(drop), expected, "{scheduler}");
        assert!((0..10).all(|n| world.ack(client(n), 1).is_ok()));
        assert_eq!(world.tables.connections.len(), 10);
    }
}

#[test]
fn timeouts_of_a_service_are_its_own() {
    let mut service = web("rr", &[1]);
    service.timeouts.established = Duration::from_secs(30);
    let mut world = World::of(vec![service]);
    world.connect(client(1), 1);
    world.ack(client(1), 1).unwrap();
    world.wait(29);
    assert_eq!(world.ack(client(1), 1), Ok(1));
    world.wait(30);
    assert_eq!(reason_of(&world.tcp(client(1), 1, ACK)), Some(DropReason::NoConnection));
}

#[test]
fn the_round_continues_over_changes_of_the_cluster() {
    let mut world = World::of(vec![web("rr", &[1, 1, 1, 1])]);
    assert_eq!((world.connect(client(1), 1), world.connect(client(1), 2)), (1, 2));
    world.change(|config| config.virtual_services[0].real_servers[3].weight = 5);
    assert_eq!(world.connect(client(1), 3), 3);
    world.change(|config| drop(config.virtual_services[0].real_servers.remove(2)));
    assert_eq!((world.connect(client(1), 4), world.connect(client(1), 5)), (4, 1));
}

#[test]
fn a_change_elsewhere_leaves_a_scheduler_as_it_is() {
    for scheduler in ["wrr", "mh"] {
        let other = VirtualServiceConfig::new("other", Protocol::Tcp, VIP.into(), 81, &rr::ROW);
        let mut world = World::of(vec![web(scheduler, &[3, 2, 1]), other]);
        let scheduler_of = |world: &World| {
            let cluster = world.cluster.load();
            let service = cluster.virtual_services().next().expect("a service").scheduler.clone();
            std::sync::Arc::as_ptr(&service).cast::<u8>()
        };
        let before = scheduler_of(&world);
        world.connect(client(1), 1);
        world.change(|config| config.virtual_services[1].real_servers = servers(&[1]));
        world.change(|config| config.virtual_services[0].real_servers[0].upper_threshold = 9);
        assert_eq!(scheduler_of(&world), before, "{scheduler}");
        world.change(|config| config.virtual_services[0].real_servers[0].weight = 4);
        assert_ne!(scheduler_of(&world), before, "{scheduler}");
    }
}

#[test]
fn a_restarted_director_continues_even_with_servers_at_their_limit() {
    for scheduler in ["mh", "sh"] {
        let limited = || {
            let mut service = web(scheduler, &[1, 1]);
            service.real_servers.iter_mut().for_each(|server| server.upper_threshold = 10);
            service
        };
        let mut before = World::of(vec![limited()]);
        let servers: Vec<u8> = (0..8).map(|n| before.connect(client(n), 1)).collect();
        let mut after = World::of(vec![limited()]);
        // New clients fill both servers before the old ones appear.
        for n in 100..200 {
            after.tcp(client(n), 1, SYN);
        }
        assert_eq!([after.counts(1).0, after.counts(2).0], [10, 10]);
        let carried: Vec<_> = (0..8).map(|n| after.ack(client(n), 1)).collect();
        assert_eq!(carried, servers.into_iter().map(Ok).collect::<Vec<_>>(), "{scheduler}");
    }
}

#[test]
fn when_a_flood_is_over_entries_come_no_faster_than_the_limit() {
    let mut world = World::of(vec![web("wlc", &[1, 1])]);
    world.change(|config| config.new_connections_per_second_max = 100);
    for n in 0..1000 {
        world.tcp(client(n), 1, SYN);
    }
    for second in 1..=3 {
        world.wait(1);
        for n in 0..1000 {
            assert!(world.ack(client(n), 1).is_ok());
        }
        assert_eq!(world.tables.connections.len(), 100 * (second + 1));
    }
}

#[test]
fn connections_stay_whatever_happens_to_matchers_and_names() {
    let matcher = |port| Matcher { protocol: Protocol::Tcp, vip: VIP.into(), ports: Ports::one(port) };
    let group = VirtualServiceConfig { matchers: vec![matcher(80), matcher(443)], ..web("rr", &[1, 1]) };
    let changes: [fn(&mut VirtualServiceConfig); 4] = [
        |service| service.matchers.reverse(),
        |service| service.matchers.insert(0, Matcher { ports: Ports::one(81), ..service.matchers[0] }),
        |service| service.name = "other".to_owned(),
        |service| {
            service.name = "other".to_owned();
            service.matchers.reverse();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = World::of(vec![group.clone()]);
        let server = world.connect(client(1), 1);
        world.change(|config| change(&mut config.virtual_services[0]));
        assert_eq!(world.ack(client(1), 1), Ok(server), "change {number}");
        assert_eq!(world.counts(server).0, 1, "change {number}");
    }
}
