//! A changed configuration in the middle of everything.

use std::time::Duration;

use lvs_tund::health::{Agreement, CHECKS, CheckConfig, Start, State, Success};
use lvs_tund::time::Moment;

use super::world::{Service, World, healthy, refused, rip, server, service, tcp};

fn check_of(world: &World, service: &str, last: u16) -> lvs_tund::health::view::CheckView {
    world.view().real_server(service, rip(last)).expect("a real server").checks[0].clone()
}

#[test]
fn what_is_the_same_keeps_state_counts_and_times() {
    let services = [service("web", 3, &[tcp()])];
    let (mut world, mut twin) = (World::new(&services), World::new(&services));
    for world in [&mut world, &mut twin] {
        world.refuse(&[2]);
        world.run_for(21);
    }
    let before = world.view();
    world.configure(&services);
    assert_eq!(world.view(), before);
    for world in [&mut world, &mut twin] {
        world.run_for(20);
    }
    assert_eq!(world.begun, twin.begun, "the same probes at the same moments");
    assert_eq!(world.events, twin.events);
}

#[test]
fn a_new_real_server_starts_as_configured_and_the_others_do_not_notice() {
    let down = CheckConfig { start: Start::Down, ..tcp() };
    let mut world = World::new(&[service("web", 2, &[tcp()])]);
    world.run_for(10);
    let successes = check_of(&world, "web", 1).successes;
    let mut more = service("web", 4, &[tcp()]);
    more.servers[3].checks = vec![down];
    world.configure(&[more]);
    assert_eq!((world.state("web", 3), world.state("web", 4)), (State::Up, State::Down));
    assert_eq!(check_of(&world, "web", 1).successes, successes);
    world.refuse(&[3]);
    world.run_for(3);
    assert_eq!((world.state("web", 3), world.state("web", 4)), (State::Down, State::Up));
}

#[test]
fn an_added_real_server_has_a_slow_start_but_not_a_whole_new_service() {
    let slow = |name: &str, count: u16| {
        let mut service = service(name, count, &[tcp()]);
        service.health.slow_start = Duration::from_secs(100);
        service
    };
    let share = |world: &World, name: &str, last: u16| {
        world.view().real_server(name, rip(last)).expect("a real server").share
    };
    let mut world = World::new(&[slow("web", 1)]);
    world.run_for(10);
    world.configure(&[slow("web", 2), slow("new", 1)]);
    assert_eq!([share(&world, "web", 1), share(&world, "web", 2), share(&world, "new", 1)], [1000, 1, 1000]);
    world.run_for(50);
    world.configure(&[slow("web", 2), slow("new", 1)]);
    assert_eq!(share(&world, "web", 2), 500, "a reload does not begin it again");
    let disabled = |is_enabled| {
        let mut web = slow("web", 2);
        web.servers[0].is_enabled = is_enabled;
        web
    };
    world.configure(&[disabled(false)]);
    world.configure(&[disabled(true)]);
    assert_eq!(share(&world, "web", 1), 1, "enabled again");
}

#[test]
fn a_changed_check_keeps_the_state_and_begins_to_count_again() {
    let mut world = World::new(&[service("web", 2, &[tcp()])]);
    world.refuse(&[2]);
    world.run_for(21);
    world.told();
    let changed = CheckConfig { timeout: Duration::from_millis(700), start: Start::Down, ..tcp() };
    world.configure(&[service("web", 2, &[changed])]);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Up, State::Down));
    assert_eq!(check_of(&world, "web", 1).successes, 0);
    assert_eq!(
        check_of(&world, "web", 2).why.as_deref(),
        Some("no probe has succeeded since the check was changed")
    );
    let counts = |world: &World| [1, 2].map(|last| check_of(world, "web", last).contrary);
    world.refuse(&[1]);
    while counts(&world).contains(&0) {
        let next = world.judge.next_due().expect("a probe").after(Duration::from_millis(1));
        world.run_until(next);
    }
    assert_eq!(
        (world.state("web", 1), world.state("web", 2)),
        (State::Up, State::Down),
        "one of `fall`, one of `rise`"
    );
    world.run_for(6);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Down, State::Up));
}

#[test]
fn a_check_that_was_never_probed_is_decided_by_its_first_probe_after_a_change_too() {
    let grace = |interval| CheckConfig {
        grace: Duration::from_secs(60),
        interval: Duration::from_secs(interval),
        ..tcp()
    };
    let mut world = World::new(&[service("web", 1, &[grace(2)])]);
    world.refuse(&[1]);
    world.run_for(10);
    world.configure(&[service("web", 1, &[grace(3)])]);
    world.run_for(45);
    assert_eq!(world.state("web", 1), State::Up, "the grace period continues");
    world.run_for(9);
    assert_eq!(world.told(), ["web 172.25.0.1 down", "web quorum lost"]);
}

#[test]
fn a_changed_check_keeps_the_weight_that_it_has_requested_until_its_next_success() {
    let with = |check: CheckConfig| service("web", 1, &[check]);
    let mut world = World::new(&[with(tcp())]);
    let weight = |world: &World| world.view().real_server("web", rip(1)).expect("a real server").weight;
    world.answers = Box::new(|_, _| (Ok(Success { weight: Some(7), ..Success::default() }), Duration::ZERO));
    world.run_for(5);
    world.configure(&[with(CheckConfig { interval: Duration::from_secs(60), ..tcp() })]);
    assert_eq!(weight(&world), Some(7));
    let row = CHECKS.iter().find(|row| row.name == "icmp").expect("a kind");
    world.configure(&[with(CheckConfig::new(row))]);
    assert_eq!(weight(&world), None, "another kind");
}

#[test]
fn each_changed_check_continues_the_one_that_it_replaces() {
    let of =
        |port, interval| CheckConfig { port: Some(port), interval: Duration::from_secs(interval), ..tcp() };
    let with = |checks: &[CheckConfig]| {
        let mut web = service("web", 1, checks);
        web.health.agreement = Agreement::Any;
        web
    };
    let mut world = World::new(&[with(&[of(80, 2), of(81, 2), of(82, 2)])]);
    world.answers =
        Box::new(|probe, _| (if probe.target.port == 81 { refused() } else { healthy() }, Duration::ZERO));
    world.run_for(5);
    let states = |world: &World| {
        let view = world.view();
        let checks = &view.real_server("web", rip(1)).expect("a real server").checks;
        checks.iter().map(|check| check.state == State::Up).collect::<Vec<_>>()
    };
    assert_eq!(states(&world), [true, false, true]);
    world.configure(&[with(&[of(80, 5), of(81, 5), of(82, 2)])]);
    assert_eq!(states(&world), [true, false, true]);
    world.configure(&[with(&[of(82, 2), of(81, 7)])]);
    assert_eq!(states(&world), [true, false]);
    // Added to a real server that is up.
    world.configure(&[with(&[of(82, 2), of(81, 7), of(83, 2)])]);
    assert_eq!(states(&world), [true, false, true]);
}

#[test]
fn an_added_check_does_not_take_an_up_server_out_first() {
    let second = CheckConfig { port: Some(81), ..tcp() };
    let mut world = World::new(&[service("web", 1, &[tcp()])]);
    world.run_for(5);
    world.configure(&[service("web", 1, &[tcp(), second])]);
    world.answers =
        Box::new(|probe, _| (if probe.target.port == 81 { refused() } else { healthy() }, Duration::ZERO));
    world.run_for(3);
    assert_eq!(world.state("web", 1), State::Up, "fewer than three failures");
    world.run_for(4);
    assert_eq!(world.state("web", 1), State::Down);
}

#[test]
fn a_real_server_without_checks_stays_up_until_the_first_probe_of_a_new_check() {
    let down = CheckConfig { start: Start::Down, ..tcp() };
    let mut world = World::new(&[service("web", 2, &[])]);
    world.run_for(5);
    world.configure(&[service("web", 2, &[down])]);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Up, State::Up));
    world.refuse(&[1]);
    world.run_until(world.now.after(Duration::from_millis(1900)));
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Down, State::Up), "it decides alone");
}

#[test]
fn changed_checks_are_spread_over_the_new_interval() {
    let with =
        |interval| service("web", 400, &[CheckConfig { interval: Duration::from_secs(interval), ..tcp() }]);
    let mut world = World::new(&[with(2)]);
    world.run_for(5);
    world.configure(&[with(8)]);
    let begun: Vec<usize> = (0..8)
        .map(|_| {
            world.begun.clear();
            world.run_for(1);
            world.begun.len()
        })
        .collect();
    assert!(begun.iter().all(|count| (40..=60).contains(count)), "{begun:?}");
}

#[test]
fn hooks_receive_the_first_state_of_what_a_reload_adds_and_nothing_of_the_rest() {
    let quick = CheckConfig { interval: Duration::from_secs(1), ..tcp() };
    let mut world = World::new(&[service("a", 2, std::slice::from_ref(&quick)), service("bare", 2, &[])]);
    world.refuse(&[1]);
    world.run_for(3);
    let mut first = world.hooks();
    first.sort();
    let expected = ["a 172.25.0.1 down (start)", "a quorum gained (start)", "bare quorum gained (start)"];
    assert_eq!(first, expected);
    let again = [service("a", 2, std::slice::from_ref(&quick)), service("bare", 2, &[])];
    world.configure(&again);
    world.run_for(3);
    assert_eq!(world.hooks(), [""; 0]);
    let more = [&again[..], &[service("b", 2, &[quick])], &[service("more", 1, &[])]].concat();
    world.configure(&more);
    // The checks of `b` are known already.
    let expected = ["b 172.25.0.1 down (start)", "b quorum gained (start)", "more quorum gained (start)"];
    assert_eq!(world.hooks(), expected);
    world.run_for(10);
    assert_eq!(world.hooks(), [""; 0]);
}

#[test]
fn the_outcome_of_a_removed_check_is_ignored() {
    let mut world = World::new(&[service("web", 1, &[tcp()])]);
    world.answers = Box::new(|_, _| (refused(), Duration::from_millis(900)));
    world.run_until(Moment::from_millis(100));
    assert_eq!(world.begun.len(), 1);
    let other = CheckConfig { port: Some(81), ..tcp() };
    world.configure(&[service("web", 1, &[other])]);
    world.run_until(Moment::from_millis(950));
    let check = check_of(&world, "web", 1);
    assert_eq!((check.state, check.last), (State::Up, None));
    world.configure(&[]);
    world.run_for(10);
    assert_eq!(world.judge.next_due(), None);
    assert_eq!(world.view().services.len(), 0);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_renamed_service_keeps_its_real_servers() {
    let mut world = World::new(&[service("web", 2, &[tcp()])]);
    world.refuse(&[2]);
    world.run_for(21);
    let before = world.view().services["web"].clone();
    world.configure(&[service("shop", 2, &[tcp()])]);
    assert_eq!(world.view().services["shop"], before);
    world.told();
    world.refuse(&[]);
    world.run_for(5);
    assert_eq!(world.told(), ["shop 172.25.0.2 up"]);
    let target = &world.begun.last().expect("a probe").1.target;
    assert_eq!(target.virtual_service, "shop");
}

#[test]
fn a_raised_quorum_counts_at_once() {
    let with = |quorum| {
        let mut web = service("web", 3, &[tcp()]);
        web.health.quorum = quorum;
        web
    };
    let mut world = World::new(&[with(2)]);
    world.refuse(&[1]);
    world.run_for(5);
    world.told();
    world.configure(&[with(3)]);
    assert_eq!(world.told(), ["web quorum lost"]);
    world.configure(&[with(2)]);
    assert_eq!(world.told(), ["web quorum gained"]);
}

#[test]
fn a_check_that_another_service_already_has_is_known() {
    let mut world = World::new(&[service("a", 2, &[tcp()])]);
    world.refuse(&[1]);
    world.run_for(5);
    world.told();
    world.configure(&[service("a", 2, &[tcp()]), service("b", 2, &[tcp()])]);
    assert_eq!((world.state("b", 1), world.state("b", 2)), (State::Down, State::Up));
    assert_eq!(world.told(), ["b 172.25.0.1 down"], "its first state");
    world.configure(&[service("b", 2, &[tcp()])]);
    assert_eq!(world.state("b", 1), State::Down);
}

#[test]
fn removing_the_checks_makes_a_real_server_unchecked() {
    let mut world = World::new(&[service("web", 2, &[tcp()])]);
    world.refuse(&[1]);
    world.run_for(5);
    world.told();
    let mut bare = service("web", 2, &[tcp()]);
    bare.servers[0].checks.clear();
    world.configure(&[bare]);
    assert_eq!(world.state("web", 1), State::Unchecked);
    assert_eq!(world.told(), ["web 172.25.0.1 up"]);
}

#[test]
fn a_real_server_that_leaves_and_returns_is_a_new_one() {
    let mut world = World::new(&[service("web", 2, &[tcp()])]);
    world.refuse(&[1]);
    world.run_for(5);
    let without = Service { servers: vec![server(2, &[tcp()])], ..service("web", 2, &[tcp()]) };
    world.configure(&[without]);
    assert!(world.view().real_server("web", rip(1)).is_none());
    world.configure(&[service("web", 2, &[tcp()])]);
    assert_eq!(world.state("web", 1), State::Up);
}
