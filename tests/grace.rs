//! A table that is cleared and filled again: connections of what was removed wait for it, and continue when it is back.

use std::net::Ipv4Addr;
use std::time::Duration;

use lvs_tund::director::cluster::{
    EffectiveConfig, EffectiveWeights, HostView, Matcher, OnRemoved, Persistence, Ports,
    VIRTUAL_SERVICES_MAX, VirtualServiceConfig,
};
use lvs_tund::director::reply::{IcmpError, ReplyKind};
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::verdict::{DropReason, Reply, Tracking, Verdict};
use lvs_tund::packet::Protocol;

mod support;

use support::clients::*;
use support::packets::*;
use support::world::World;

const WAITS: Verdict = Verdict::Drop(DropReason::ConnectionWaits);

/// A client of its own for each connection.
const OPEN: u32 = 1;
const HALF_OPEN: u32 = 2;
const NEW: u32 = 3;

fn dns(weights: &[u32]) -> VirtualServiceConfig {
    VirtualServiceConfig {
        real_servers: servers(weights),
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    }
}

fn datagram(n: u32) -> Vec<u8> {
    let mut bytes = changed(&udp(53, b"?"), |bytes| bytes[12..16].copy_from_slice(&client(n).octets()));
    finish_transport(&mut bytes);
    bytes
}

/// One connection of each kind with the first real server, and one flow of datagrams.
fn world(services: &[VirtualServiceConfig]) -> World {
    let mut world = World::of(services.to_vec());
    assert_eq!(world.connect(client(OPEN), 1), 1);
    assert_eq!(world.ack(client(OPEN), 1), Ok(1));
    world
}

/// Every VIP stays captured without a service, as it does for the grace.
fn set(world: &mut World, services: &[VirtualServiceConfig]) {
    let mut config = (**world.cluster.load().config()).clone();
    config.virtual_services = services.to_vec();
    let lingering_vips = if services.is_empty() { [VIP.into()].into() } else { [].into() };
    world.succeed(config, HostView { lingering_vips, ..HostView::default() });
}

fn answered(to: Ipv4Addr, kind: impl Into<ReplyKind>, reason: DropReason) -> Verdict {
    Verdict::Reply(Reply { to: to.into(), kind: kind.into(), reason: Some(reason) })
}

#[test]
fn connections_outlive_a_table_that_is_cleared_and_filled_again() {
    let (web, dns) = (web("rr", &[1, 1]), dns(&[1, 1]));
    let mut world = world(&[web.clone(), dns.clone()]);
    assert_eq!(world.connect(client(HALF_OPEN), 1), 2);
    assert_eq!(server_of(&world.send(&datagram(OPEN))), Ok(1));
    set(&mut world, &[]);
    let reset = |n| answered(client(n), ReplyKind::TcpReset, DropReason::NoService);
    world.sweep();
    assert_eq!(world.tcp(client(OPEN), 1, ACK), WAITS);
    assert_eq!(world.tcp(client(OPEN), 1, FIN | ACK), WAITS);
    assert_eq!(world.tcp(client(OPEN), 1, SYN), WAITS, "a forged SYN ends no connection");
    assert_eq!(world.tcp(client(HALF_OPEN), 1, SYN), reset(HALF_OPEN), "nothing is lost yet");
    assert_eq!(world.tcp(client(NEW), 1, SYN), reset(NEW));
    assert_eq!(world.tcp(client(NEW), 1, ACK), reset(NEW));
    assert_eq!(world.send(&datagram(OPEN)), WAITS);
    let unreachable = answered(client(NEW), IcmpError::PortUnreachable, DropReason::NoService);
    assert_eq!(world.send(&datagram(NEW)), unreachable);
    // As `ipvsadm -R` does it: a service without real servers first.
    set(&mut world, &[VirtualServiceConfig { real_servers: vec![], ..web.clone() }]);
    assert_eq!(world.tcp(client(OPEN), 1, ACK), WAITS);
    let no_server = answered(client(NEW), IcmpError::PortUnreachable, DropReason::NoRealServer);
    assert_eq!(world.tcp(client(NEW), 1, SYN), no_server);
    set(&mut world, &[dns, web]);
    world.sweep();
    assert_eq!(tracking_of(&world.tcp(client(OPEN), 1, ACK)), Tracking::Known);
    assert_eq!(world.ack(client(OPEN), 1), Ok(1), "the same real server");
    assert_eq!(server_of(&world.send(&datagram(OPEN))), Ok(1));
    let cluster = world.cluster.load_full();
    let web = cluster.virtual_services().find(|service| service.config.name == "web").expect("web");
    let active: Vec<u32> = web.real_servers.iter().map(|server| server.live.active()).collect();
    assert_eq!(active, [1, 1], "each counted once");
    assert!(cluster.awaited().is_empty());
}

#[test]
fn what_does_not_come_back_within_the_grace_is_reset() {
    let mut world = world(&[web("rr", &[1, 1])]);
    set(&mut world, &[]);
    world.wait(9);
    world.sweep();
    assert_eq!(world.tcp(client(OPEN), 1, ACK), WAITS);
    world.wait(1);
    let reset = answered(client(OPEN), ReplyKind::TcpReset, DropReason::NoService);
    assert_eq!(world.tcp(client(OPEN), 1, ACK), reset);
    world.sweep();
    assert!(world.tables.connections.is_empty());
    set(&mut world, &[web("rr", &[1, 1])]);
    assert_eq!(world.connect(client(OPEN), 1), 1, "a new connection");
    assert_eq!(world.totals(), (1, vec![1, 0]), "and new counts");
}

#[test]
fn each_real_server_is_awaited_from_its_own_removal_on() {
    let mut world = world(&[web("rr", &[1, 1, 1])]);
    assert_eq!(world.connect(client(HALF_OPEN), 1), 2);
    assert_eq!(world.ack(client(HALF_OPEN), 1), Ok(2));
    let without = |gone: &[u8]| {
        let mut service = web("rr", &[1, 1, 1]);
        service.real_servers.retain(|server| gone.iter().all(|n| server.rip != rip(*n)));
        service
    };
    set(&mut world, &[without(&[1])]);
    world.wait(6);
    set(&mut world, &[without(&[1, 2])]);
    world.wait(4);
    let reset = answered(client(OPEN), ReplyKind::TcpReset, DropReason::NoConnection);
    assert_eq!(world.tcp(client(OPEN), 1, ACK), reset);
    assert_eq!(world.tcp(client(HALF_OPEN), 1, ACK), WAITS);
    set(&mut world, &[without(&[1])]);
    world.wait(3);
    set(&mut world, &[without(&[1, 2])]);
    world.wait(9);
    assert_eq!(world.tcp(client(HALF_OPEN), 1, ACK), WAITS, "removed again, it is awaited again");
    world.wait(1);
    assert_ne!(world.tcp(client(HALF_OPEN), 1, ACK), WAITS);
}

#[test]
fn a_removed_real_server_is_awaited_unless_the_service_drops_or_keeps_its_connections() {
    for (on_removed, meanwhile, afterwards) in [
        (OnRemoved::Reschedule, Err(WAITS), None),
        (OnRemoved::Drop, Err(Verdict::Drop(DropReason::NoRealServer)), Some(1)),
        (OnRemoved::Keep, Ok(1), Some(1)),
    ] {
        let service = VirtualServiceConfig { on_removed, ..web("rr", &[1, 1]) };
        let mut world = world(std::slice::from_ref(&service));
        let mut left = service.clone();
        left.real_servers.remove(0);
        set(&mut world, std::slice::from_ref(&left));
        assert_eq!(world.ack(client(OPEN), 1), meanwhile, "{on_removed:?}");
        assert_eq!(world.connect(client(NEW), 1), 2, "what is new goes elsewhere");
        set(&mut world, std::slice::from_ref(&service));
        assert_eq!(world.ack(client(OPEN), 1), Ok(1), "{on_removed:?}");
        set(&mut world, &[left]);
        world.wait(10);
        world.sweep();
        set(&mut world, &[service]);
        assert_eq!(world.ack(client(OPEN), 1).ok(), afterwards, "{on_removed:?}");
    }
}

#[test]
fn a_half_open_connection_of_a_removed_real_server_is_scheduled_again_at_once() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    assert_eq!(world.connect(client(HALF_OPEN), 1), 1);
    let mut left = web("rr", &[1, 1]);
    left.real_servers.remove(0);
    set(&mut world, &[left]);
    assert_eq!(world.tcp(client(HALF_OPEN), 1, ACK), WAITS);
    assert_eq!(world.connect(client(HALF_OPEN), 1), 2);
}

#[test]
fn a_service_that_returns_is_recognised_as_one_that_is_changed() {
    let matcher = |port| Matcher { protocol: Protocol::Tcp, vip: VIP.into(), ports: Ports::one(port) };
    let of = |name: &str, ports: &[u16]| VirtualServiceConfig {
        name: name.to_owned(),
        matchers: ports.iter().map(|port| matcher(*port)).collect(),
        ..web("rr", &[1, 1])
    };
    let expected = [
        (of("www", &[80, 443]), Ok(1)),
        (of("web", &[443, 80]), Ok(1)),
        (of("www", &[443, 80]), Ok(1)),
        (of("www", &[81, 80]), Ok(1)),
        (of("other", &[81]), Err(answered(client(OPEN), ReplyKind::TcpReset, DropReason::NoService))),
    ];
    for (service, outcome) in expected {
        let mut world = world(&[of("web", &[80, 443])]);
        set(&mut world, &[]);
        set(&mut world, &[of("first", &[1]), service.clone(), of("last", &[2])]);
        let found = world.ack(client(OPEN), 1);
        let found = if found == Err(WAITS) {
            world.end_every_grace();
            world.ack(client(OPEN), 1)
        } else {
            found
        };
        assert_eq!(found, outcome, "{} {:?}", service.name, service.matchers);
    }
}

#[test]
fn a_connection_does_not_move_to_another_service_with_the_same_real_servers() {
    let mut world = world(&[web("rr", &[1, 1])]);
    set(&mut world, &[]);
    let all = VirtualServiceConfig {
        name: "all".to_owned(),
        matchers: vec![Matcher {
            protocol: Protocol::Tcp,
            vip: VIP.into(),
            ports: "1-79".parse().expect("ports"),
        }],
        ..web("rr", &[1, 1])
    };
    set(&mut world, std::slice::from_ref(&all));
    assert_eq!(world.tcp(client(OPEN), 1, ACK), WAITS);
    set(&mut world, &[all, web("rr", &[1, 1])]);
    assert_eq!(world.ack(client(OPEN), 1), Ok(1));
}

#[test]
fn a_persistent_client_keeps_its_real_server_when_the_table_was_cleared() {
    let persistence = Some(Persistence::new(Duration::from_secs(300)));
    let service = VirtualServiceConfig { persistence, ..web("rr", &[1, 1]) };
    let mut world = world(std::slice::from_ref(&service));
    set(&mut world, &[]);
    world.sweep();
    set(&mut world, &[service]);
    assert_eq!(world.connect(client(OPEN), 2), 1);
    assert_eq!(world.counts(1), (2, 0, 1));
}

#[test]
fn a_flow_that_a_flood_left_without_an_entry_waits_too() {
    let mut world = World::of(vec![web("rr", &[1, 1])]);
    world.change(|config| config.new_connections_per_second_max = 1);
    assert_eq!(world.connect(client(OPEN), 1), 1);
    let flooded = world.tcp(client(NEW), 1, SYN);
    assert_eq!((server_of(&flooded), tracking_of(&flooded)), (Ok(2), Tracking::Flood));
    let mut left = web("rr", &[1, 1]);
    let second = left.real_servers.pop();
    set(&mut world, &[left.clone()]);
    assert_eq!(world.tcp(client(NEW), 1, ACK), WAITS);
    set(&mut world, &[]);
    assert_eq!(world.tcp(client(NEW), 1, ACK), WAITS);
    let reset = answered(client(NEW), ReplyKind::TcpReset, DropReason::NoService);
    assert_eq!(world.tcp(client(NEW), 1, SYN), reset);
    left.real_servers.extend(second);
    set(&mut world, &[left]);
    assert_eq!(world.ack(client(NEW), 1), Ok(2));
}

#[test]
fn no_connection_waits_for_a_real_server_that_a_drain_has_removed() {
    let mut world = world(&[web("rr", &[1, 1])]);
    let weights = [(rip(1).into(), None)].into();
    let weights: EffectiveWeights = [("web".to_owned(), weights)].into();
    let cluster = world.cluster.load_full();
    let in_force = EffectiveConfig { config: cluster.config().clone(), weights };
    let drained = cluster.succeed(in_force, HostView::default());
    assert!(drained.awaited().is_empty());
    world.cluster.store(drained.into());
    let reset = answered(client(OPEN), ReplyKind::TcpReset, DropReason::NoConnection);
    assert_eq!(world.tcp(client(OPEN), 1, ACK), reset);
    // Removed from the configuration as well, it is awaited no more than before.
    let mut left = web("rr", &[1, 1]);
    left.real_servers.remove(0);
    set(&mut world, &[left]);
    assert!(world.cluster.load().awaited().is_empty());
}

/// Removed and awaited services reserve their slots, of which there are only so many.
#[test]
fn the_largest_table_can_be_replaced_by_another_one() {
    let table = |vip: u8| -> Vec<VirtualServiceConfig> {
        let service = |port: u16| {
            let vip = Ipv4Addr::new(10, 9, 9, vip).into();
            let service =
                VirtualServiceConfig::new(&format!("{vip}:{port}"), Protocol::Tcp, vip, port, &rr::ROW);
            VirtualServiceConfig { real_servers: servers(&[1]), ..service }
        };
        (1..=u16::MAX).map(service).collect()
    };
    let mut world = World::of(table(1));
    set(&mut world, &[]);
    set(&mut world, &table(2));
    let mut slots: Vec<u16> = world.cluster.load().virtual_services().map(|service| service.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), VIRTUAL_SERVICES_MAX);
}
