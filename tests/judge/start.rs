//! What is reported at the start: the first state of everything, as soon as it is certain.

use std::net::IpAddr;
use std::slice::from_ref;
use std::time::Duration;

use lvs_tund::health::{Agreement, CheckConfig, ServiceHealth, Start};

use super::world::{Service, World, at, healthy, refused, service, tcp};

/// One failure or one success decides, every second.
fn quick() -> CheckConfig {
    CheckConfig { interval: Duration::from_secs(1), rise: 1, fall: 1, ..tcp() }
}

fn with_health(service: Service, change: impl FnOnce(&mut ServiceHealth)) -> Service {
    let mut service = service;
    change(&mut service.health);
    service
}

#[test]
fn at_the_start_only_quorum_that_is_really_lost_is_reported() {
    let start_down = CheckConfig { start: Start::Down, ..quick() };
    let mut world = World::new(&[service("up", 2, &[quick()]), service("down", 2, from_ref(&start_down))]);
    let has_quorum = |world: &World, name: &str| world.view().services[name].has_quorum;
    assert_eq!((has_quorum(&world, "up"), has_quorum(&world, "down")), (true, false));
    assert_eq!(world.told(), [""; 0]);
    world.run_for(3);
    let mut told = world.told();
    told.sort();
    assert_eq!(told, ["down 172.25.0.1 up", "down 172.25.0.2 up"]);

    let mut world = World::new(&[service("down", 2, &[start_down])]);
    world.refuse(&[1]);
    world.run_until(at(2));
    assert_eq!(world.told(), ["down 172.25.0.1 down"], "the second one is not known yet");
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert_eq!(world.told(), ["down 172.25.0.2 down", "down quorum lost"]);
}

#[test]
fn hooks_receive_the_first_state_as_soon_as_it_is_certain() {
    let all = |quorum, refused: &[u16]| {
        let web = with_health(service("web", 3, &[quick()]), |health| health.quorum = quorum);
        let mut world = World::new(&[web]);
        world.refuse(refused);
        let mut seen = Vec::new();
        while world.now < at(3000) {
            let next = world.judge.next_due().expect("a probe").after(Duration::from_millis(1));
            world.run_until(next);
            let probed = world.begun.len();
            seen.extend(world.hooks().into_iter().filter(|it| it.contains("quorum")).map(|it| (probed, it)));
        }
        seen
    };
    let gained = |probes| vec![(probes, "web quorum gained (start)".to_owned())];
    let lost = |probes| vec![(probes, "web quorum lost (start)".to_owned())];
    let by = |number: usize| {
        let mut world = World::new(&[service("web", 3, &[quick()])]);
        world.run_for(1);
        let IpAddr::V4(rip) = world.begun[number].1.target.rip else { panic!("IPv6") };
        u16::from(rip.octets()[3])
    };
    assert_eq!(all(1, &[]), gained(1), "one is enough");
    assert_eq!(all(2, &[]), gained(2));
    assert_eq!(all(3, &[by(0)]), lost(1), "one is too many");
    assert_eq!(all(1, &[by(0), by(1)]), gained(3), "the last one");
    assert_eq!(all(1, &[1, 2, 3]), lost(3));
}

#[test]
fn the_first_states_of_real_servers_are_reported_unless_they_are_up_as_assumed() {
    let start_down = CheckConfig { start: Start::Down, ..quick() };
    for (check, expected) in [
        (quick(), vec!["web 172.25.0.1 down (start)"]),
        (start_down, vec!["web 172.25.0.1 down (start)", "web 172.25.0.2 up (start)"]),
    ] {
        let mut world = World::new(&[service("web", 2, &[check])]);
        world.refuse(&[1]);
        world.run_for(3);
        let told: Vec<String> = world.hooks().into_iter().filter(|it| !it.contains("quorum")).collect();
        assert_eq!(told, expected);
        world.refuse(&[2]);
        world.run_for(3);
        let mut told = world.hooks();
        told.sort();
        let last = ["web 172.25.0.1 up (change)", "web 172.25.0.2 down (change)"];
        assert_eq!(told.into_iter().filter(|it| !it.contains("quorum")).collect::<Vec<_>>(), last);
    }
}

#[test]
fn a_service_without_checks_has_quorum_at_once_if_it_has_real_servers() {
    let mut world = World::new(&[service("web", 1, &[]), service("empty", 0, &[])]);
    assert_eq!(world.hooks(), ["web quorum gained (start)"]);
    world.configure(&[service("web", 1, &[]), service("empty", 1, &[])]);
    assert_eq!(world.hooks(), ["empty quorum gained (start)"]);
}

#[test]
fn with_agreement_any_one_check_that_succeeds_is_certain() {
    let slow = CheckConfig { grace: Duration::from_secs(60), port: Some(81), ..quick() };
    let web = service("web", 1, &[quick(), slow]);
    for (agreement, expected) in [(Agreement::Any, 1), (Agreement::All, 0)] {
        let mut world = World::new(&[with_health(web.clone(), |health| health.agreement = agreement)]);
        world.answers = Box::new(|probe, _| {
            (if probe.target.port == 81 { refused() } else { healthy() }, Duration::ZERO)
        });
        world.run_for(5);
        assert_eq!(world.hooks().len(), expected, "{agreement:?}");
    }
}
