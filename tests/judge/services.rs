//! Several real servers: agreement, quorum, sorry servers, fail-open, slow start, weights and reports.

use std::slice::from_ref;
use std::time::Duration;

use lvs_tund::health::judge::Event;
use lvs_tund::health::{Agreement, CheckConfig, ServiceHealth, Start, State, Success, Via};

use super::world::{Server, Service, World, at, healthy, refused, rip, server, service, tcp};

/// One failure or one success decides, every second.
fn quick() -> CheckConfig {
    CheckConfig { interval: Duration::from_secs(1), rise: 1, fall: 1, ..tcp() }
}

fn with_health(service: Service, change: impl FnOnce(&mut ServiceHealth)) -> Service {
    let mut service = service;
    change(&mut service.health);
    service
}

fn with_weights(mut service: Service, weights: &[u32]) -> Service {
    for (server, weight) in service.servers.iter_mut().zip(weights) {
        server.weight = *weight;
    }
    service
}

fn sorry(last: u16) -> Server {
    Server { is_sorry: true, ..server(last, &[quick()]) }
}

/// The effective weights of all real servers, in order.
fn weights(world: &World, service: &Service) -> Vec<u32> {
    let view = world.view();
    let of = |server: &Server| {
        view.effective_weight(&service.name, server.rip, server.weight, server.is_sorry)
            .expect("a judged service")
    };
    service.servers.iter().map(of).collect()
}

#[test]
fn agreement_decides_how_many_checks_must_succeed() {
    let second = CheckConfig { port: Some(8080), ..quick() };
    for (agreement, bad_ports, expected) in [
        (Agreement::All, vec![], State::Up),
        (Agreement::All, vec![8080], State::Down),
        (Agreement::Any, vec![8080], State::Up),
        (Agreement::Any, vec![80, 8080], State::Down),
    ] {
        let web = service("web", 1, &[quick(), second.clone()]);
        let mut world = World::new(&[with_health(web, |health| health.agreement = agreement)]);
        let bad = bad_ports.clone();
        world.answers = Box::new(move |probe, _| {
            (if bad.contains(&probe.target.port) { refused() } else { healthy() }, Duration::ZERO)
        });
        world.run_for(5);
        assert_eq!(world.state("web", 1), expected, "{agreement:?} {bad_ports:?}");
    }
}

#[test]
fn a_real_server_without_checks_counts_as_up_and_is_shown() {
    let mut web = service("web", 2, &[quick()]);
    web.servers[1].checks.clear();
    let mut world = World::new(from_ref(&web));
    world.refuse(&[1, 2]);
    world.run_for(5);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Down, State::Unchecked));
    assert_eq!(weights(&world, &web), [0, 1]);
    assert_eq!(world.told(), ["web 172.25.0.1 down"]);
}

#[test]
fn a_service_without_checks_is_not_judged() {
    let world = World::new(&[service("web", 2, &[])]);
    assert_eq!(world.view().effective_weight("web", rip(1), 5, false), None);
    assert_eq!(world.judge.next_due(), None);
}

#[test]
fn quorum_is_lost_below_and_gained_above_the_hysteresis() {
    let web = with_health(service("web", 6, &[quick()]), |health| {
        health.quorum = 3;
        health.hysteresis = 1;
    });
    let mut world = World::new(&[web]);
    let mut quorum = Vec::new();
    for down in
        [&[][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4, 5], &[1, 2, 3, 4], &[1, 2, 3], &[1, 2]]
    {
        world.refuse(down);
        world.run_for(3);
        quorum.push(world.view().services["web"].has_quorum);
    }
    assert_eq!(quorum, [true, true, true, true, false, false, false, true]);
    let told: Vec<String> = world.told().into_iter().filter(|event| event.contains("quorum")).collect();
    assert_eq!(told, ["web quorum lost", "web quorum gained"]);
}

#[test]
fn quorum_sums_weights_and_not_real_servers() {
    let web = with_health(with_weights(service("web", 3, &[quick()]), &[100, 100, 100]), |health| {
        health.quorum = 2;
    });
    let mut world = World::new(&[web]);
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert!(world.view().services["web"].has_quorum);
    world.refuse(&[1, 2, 3]);
    world.run_for(3);
    assert!(!world.view().services["web"].has_quorum);
}

#[test]
fn a_quorum_above_the_sum_of_weights_counts_as_the_sum() {
    let web = with_health(service("web", 2, &[quick()]), |health| health.quorum = 9);
    let mut world = World::new(from_ref(&web));
    world.run_for(3);
    assert!(world.view().services["web"].has_quorum);
    world.refuse(&[1]);
    world.run_for(3);
    assert!(!world.view().services["web"].has_quorum);
    // A weight of 0 set by hand is no failure: the sum is 1.
    world.configure(&[with_weights(web, &[0, 1])]);
    assert!(world.view().services["web"].has_quorum);
}

#[test]
fn quorum_is_regained_when_all_are_up_whatever_the_hysteresis() {
    let web = with_health(service("web", 3, &[quick()]), |health| {
        health.quorum = 3;
        health.hysteresis = 9;
    });
    let mut world = World::new(&[web]);
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert!(world.view().services["web"].has_quorum, "the hysteresis counts as 2");
    world.refuse(&[1, 2, 3]);
    world.run_for(3);
    assert!(!world.view().services["web"].has_quorum);
    world.refuse(&[]);
    world.run_for(3);
    assert!(world.view().services["web"].has_quorum);
}

#[test]
fn the_weight_of_a_check_counts_for_quorum_and_replaces_the_configured_one() {
    let web = with_health(with_weights(service("web", 3, &[quick()]), &[10, 10, 0]), |health| {
        health.quorum = 12;
    });
    let mut world = World::new(from_ref(&web));
    world.answers = Box::new(|_, now| {
        let weight = Some(if now < at(5_000) { 7 } else { 5 });
        (Ok(Success { weight, ..Success::default() }), Duration::ZERO)
    });
    world.run_for(4);
    assert_eq!(weights(&world, &web), [7, 7, 0], "a weight of 0 set by hand stays");
    assert!(world.view().services["web"].has_quorum);
    world.run_for(4);
    assert_eq!(weights(&world, &web), [5, 5, 0]);
    assert!(!world.view().services["web"].has_quorum);
}

#[test]
fn of_several_checks_the_least_weight_counts() {
    let second = CheckConfig { port: Some(8080), ..quick() };
    let mut world = World::new(&[service("web", 1, &[quick(), second])]);
    world.answers = Box::new(|probe, _| {
        let weight = Some(if probe.target.port == 80 { 3 } else { 4 });
        (Ok(Success { weight, ..Success::default() }), Duration::ZERO)
    });
    world.run_for(3);
    assert_eq!(world.view().real_server("web", rip(1)).expect("a real server").weight, Some(3));
}

#[test]
fn a_service_without_real_servers_has_no_quorum() {
    let mut world = World::new(&[service("web", 0, &[quick()])]);
    assert_eq!(world.told(), ["web quorum lost"]);
    world.configure(&[service("web", 1, &[quick()])]);
    assert_eq!(world.told(), ["web quorum gained"]);
}

#[test]
fn sorry_servers_serve_while_quorum_is_lost() {
    let mut web = with_health(service("web", 3, &[quick()]), |health| health.quorum = 2);
    web.servers.extend([sorry(8), sorry(9)]);
    let mut world = World::new(from_ref(&web));
    world.run_for(3);
    assert_eq!(weights(&world, &web), [1, 1, 1, 0, 0]);
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 0, 0, 1, 1], "the live real server makes way");
    assert!(!world.view().services["web"].is_down(rip(3)), "its connections continue");
    world.refuse(&[1, 2, 8]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 0, 0, 0, 1]);
    world.refuse(&[1, 2, 8, 9]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 0, 1, 0, 0], "no sorry server can serve");
    world.refuse(&[1]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 1, 1, 0, 0]);
}

#[test]
fn with_too_few_live_real_servers_all_count_as_up() {
    let web = with_health(with_weights(service("web", 3, &[quick()]), &[5, 6, 7]), |health| {
        health.min_healthy = 2;
    });
    let mut world = World::new(from_ref(&web));
    world.run_for(3);
    world.refuse(&[1]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 6, 7]);
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [5, 6, 7]);
    assert!(!world.view().services["web"].is_down(rip(1)));
    world.refuse(&[1, 2, 3]);
    world.run_for(3);
    assert!(world.view().services["web"].has_quorum, "all count as up");
    world.refuse(&[1]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 6, 7]);
    assert!(world.view().services["web"].is_down(rip(1)));
    let told: Vec<String> = world.told().into_iter().filter(|event| !event.contains("172")).collect();
    assert_eq!(told, ["web fails open", "web fails open no longer"]);
}

#[test]
fn real_servers_that_were_never_probed_do_not_make_it_fail_open() {
    let start_down = CheckConfig { start: Start::Down, ..quick() };
    let web = with_health(service("web", 2, &[start_down]), |health| health.min_healthy = 1);
    let mut world = World::new(&[web]);
    assert!(!world.view().services["web"].fails_open);
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert!(world.view().services["web"].fails_open);
}

#[test]
fn a_live_sorry_server_comes_before_failing_open() {
    let mut web = with_health(service("web", 2, &[quick()]), |health| health.min_healthy = 2);
    web.servers.push(sorry(9));
    let mut world = World::new(from_ref(&web));
    world.refuse(&[1]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [1, 1, 0], "quorum is there: it fails open");
    world.refuse(&[1, 2]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [0, 0, 1]);
    world.refuse(&[1, 2, 9]);
    world.run_for(3);
    assert_eq!(weights(&world, &web), [1, 1, 0]);
}

#[test]
fn a_disabled_real_server_is_probed_and_counts_for_nothing() {
    let mut web = with_health(service("web", 2, &[quick()]), |health| health.quorum = 2);
    web.servers[0].is_enabled = false;
    let mut world = World::new(&[web]);
    world.refuse(&[1]);
    world.run_for(3);
    assert_eq!(world.state("web", 1), State::Down);
    let view = world.view();
    assert!(!view.real_server("web", rip(1)).expect("a real server").is_enabled);
    assert!(view.services["web"].has_quorum, "the sum of the others is 1");
    world.refuse(&[2]);
    world.run_for(3);
    assert_eq!(world.state("web", 1), State::Up);
    assert!(!world.view().services["web"].has_quorum);
}

/// The share of a real server each second.
fn shares(world: &mut World, last: u16, seconds: usize) -> Vec<u32> {
    let share = |world: &mut World| {
        world.run_for(1);
        world.view().real_server("web", rip(last)).expect("a real server").share
    };
    (0..seconds).map(|_| share(world)).collect()
}

#[test]
fn the_weight_rises_after_recovery_but_not_at_the_start() {
    let start_down = CheckConfig { start: Start::Down, ..quick() };
    let other_port = CheckConfig { port: Some(81), ..start_down.clone() };
    for checks in [vec![quick()], vec![start_down.clone()], vec![start_down, other_port]] {
        let web = with_health(with_weights(service("web", 2, &checks), &[100, 1]), |health| {
            health.slow_start = Duration::from_secs(10);
        });
        let mut world = World::new(from_ref(&web));
        assert!(shares(&mut world, 1, 5).iter().skip(1).all(|share| *share == 1000));
        world.refuse(&[1, 2]);
        world.run_for(5);
        world.refuse(&[]);
        world.judge.take_changed();
        let rising = shares(&mut world, 1, 14);
        assert!(rising.windows(2).all(|pair| pair[0] <= pair[1]), "{rising:?}");
        assert!(rising[..9].iter().all(|share| (1..1000).contains(share)), "{rising:?}");
        assert_eq!(rising.last(), Some(&1000));
        let view = world.view();
        let since = view.real_server("web", rip(1)).expect("a real server").since;
        world.now = since.after(Duration::from_millis(4999));
        assert_eq!(weights(&world, &web), [45, 1], "of 100, and at least 1");
    }
}

#[test]
fn each_step_of_a_slow_start_is_due() {
    let web = with_health(
        service("web", 1, &[CheckConfig { interval: Duration::from_secs(3600), ..quick() }]),
        |health| {
            health.slow_start = Duration::from_secs(40);
        },
    );
    let mut world = World::new(&[web]);
    world.refuse(&[1]);
    world.run_for(10);
    world.refuse(&[]);
    world.judge.check_now(None, None, world.now);
    world.run_for(1);
    world.judge.take_changed();
    let mut steps = 0;
    while world.judge.next_due().is_some_and(|due| due < at(60_000)) {
        world.now = world.judge.next_due().expect("a step");
        world.begin_probes();
        assert!(world.judge.take_changed());
        steps += 1;
    }
    assert_eq!(steps, 20);
    assert!(!world.judge.take_changed());
}

#[test]
fn hash_schedulers_have_no_slow_start() {
    let web =
        with_health(service("web", 1, &[quick()]), |health| health.slow_start = Duration::from_secs(10));
    let mut world = World::new(&[Service { has_ramp: false, ..web }]);
    world.refuse(&[1]);
    world.run_for(3);
    world.refuse(&[]);
    world.run_for(2);
    assert_eq!(shares(&mut world, 1, 1), [1000]);
}

#[test]
fn a_real_server_in_many_services_is_probed_once_and_changes_in_all_in_one_step() {
    let services: Vec<Service> = ["a", "b", "c"].map(|name| service(name, 2, &[quick()])).into();
    let mut world = World::new(&services);
    world.run_for(100);
    assert!((95..=105).contains(&world.begun_of(1).len()), "one probe per interval");
    world.refuse(&[1]);
    world.run_for(5);
    let down: Vec<_> = world.events.iter().filter(|(_, event)| matches!(event, Event::Down { .. })).collect();
    assert_eq!(down.len(), 3);
    assert!(down.iter().all(|(moment, _)| *moment == down[0].0));
}

#[test]
fn checks_that_differ_in_anything_are_not_shared() {
    let direct = CheckConfig { via: Some(Via::Direct), ..quick() };
    let rows: [(&str, CheckConfig, Service, usize); 5] = [
        ("the same", quick(), service("b", 1, &[quick()]), 1),
        ("another interval", quick(), service("b", 1, &[tcp()]), 2),
        ("another way", quick(), service("b", 1, from_ref(&direct)), 2),
        (
            "another VIP through the tunnel",
            quick(),
            Service { vip: rip(99), ..service("b", 1, &[quick()]) },
            2,
        ),
        (
            "another VIP, but direct",
            direct.clone(),
            Service { vip: rip(99), ..service("b", 1, &[direct]) },
            1,
        ),
    ];
    for (name, check, other, expected) in rows {
        let mut world = World::new(&[service("a", 1, &[check]), other]);
        world.run_until(at(1900));
        let first: Vec<_> =
            world.begun.iter().map(|(_, probe)| format!("{:?}", (&probe.check, &probe.target))).collect();
        let different: std::collections::BTreeSet<_> = first.into_iter().collect();
        assert_eq!(different.len(), expected, "{name}");
    }
    let other_port = Service { port: 443, ..service("b", 1, &[quick()]) };
    let mut world = World::new(&[service("a", 1, &[quick()]), other_port]);
    world.run_for(1);
    let ports: std::collections::BTreeSet<u16> =
        world.begun.iter().map(|(_, probe)| probe.target.port).collect();
    assert_eq!(ports.into_iter().collect::<Vec<_>>(), [80, 443]);
}

#[test]
fn the_port_of_a_probe_is_that_of_the_check_or_of_the_service() {
    let own = CheckConfig { port: Some(8080), ..quick() };
    for (check, port, expected) in [(quick(), 80, 80), (own, 80, 8080), (quick(), 0, 0)] {
        let mut world = World::new(&[Service { port, ..service("web", 1, &[check]) }]);
        world.run_for(1);
        assert_eq!(world.begun[0].1.target.port, expected);
    }
}

#[test]
fn a_service_is_judged_if_health_can_change_its_weights() {
    let bare = service("web", 2, &[]);
    let mut with_sorry = bare.clone();
    with_sorry.servers[1].is_sorry = true;
    let slow = with_health(bare.clone(), |health| health.slow_start = Duration::from_secs(9));
    let rows = [
        ("quorum", with_health(bare.clone(), |health| health.quorum = 1), true, false),
        ("a sorry server", with_sorry, true, false),
        ("slow start", slow.clone(), true, true),
        ("slow start of a hash scheduler", Service { has_ramp: false, ..slow }, false, true),
        ("nothing", bare, false, true),
    ];
    for (name, service, is_judged, has_quorum) in rows {
        let world = World::new(&[with_weights(service, &[0, 0])]);
        let judged = world.view().services.remove("web").map(|it| it.has_quorum);
        assert_eq!(judged, is_judged.then_some(has_quorum), "{name}");
    }
}

#[test]
fn an_unknown_real_server_has_its_configured_weight() {
    let world = World::new(&[service("web", 1, &[quick()])]);
    assert_eq!(world.view().effective_weight("web", rip(77), 5, false), Some(5));
    assert_eq!(world.view().effective_weight("web", rip(77), 5, true), Some(0));
    assert!(!world.view().services["web"].is_down(rip(77)));
}

#[test]
fn only_what_may_change_weights_is_a_change() {
    let mut world = World::new(&[service("web", 2, &[quick()])]);
    assert!(world.judge.take_changed(), "a configuration");
    world.run_for(10);
    assert!(!world.judge.take_changed(), "nothing but successes");
    world.refuse(&[1]);
    world.run_for(2);
    assert!(world.judge.take_changed());
    world.run_for(10);
    assert!(!world.judge.take_changed(), "nothing but failures");
}
