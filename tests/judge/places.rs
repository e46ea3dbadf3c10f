//! More probes are due than may run at once: who waits, and for how long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lvs_tund::health::{CHECKS, CheckConfig, Failure, FailureClass, Limits, Outcome, State};
use lvs_tund::time::Moment;

use super::scale::ten_thousand;
use super::world::{World, healthy, refused, rip, server, service, tcp};

const TIMEOUT: Duration = Duration::from_secs(1);

fn silent() -> (Outcome, Duration) {
    (Err(Failure::new(FailureClass::Timeout, "")), TIMEOUT)
}

fn answer() -> (Outcome, Duration) {
    (healthy(), Duration::from_millis(1))
}

fn is_even(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    address.octets()[3].is_multiple_of(2)
}

/// Real servers with an even number are silent from now on.
fn silence_half(world: &mut World) {
    world.answers = Box::new(|probe, _| if is_even(probe.target.rip) { silent() } else { answer() });
}

/// The longest time between two probes of one check since then: of the healthy real servers, and of the silent ones.
fn longest_gaps(world: &World, from: Moment) -> (Duration, Duration) {
    let mut last: BTreeMap<IpAddr, Moment> = BTreeMap::new();
    let mut longest = [Duration::ZERO; 2];
    let end = (world.now, world.begun.iter().map(|(_, probe)| probe.target.rip).collect::<Vec<_>>());
    let begun = world.begun.iter().map(|(begun, probe)| (*begun, probe.target.rip));
    for (begun, rip) in begun.chain(end.1.into_iter().map(|rip| (end.0, rip))) {
        let before = last.insert(rip, begun).unwrap_or(begun);
        let gap = begun.since(before.max(from));
        let of = &mut longest[usize::from(is_even(rip))];
        *of = gap.max(*of);
    }
    (longest[0], longest[1])
}

#[test]
fn healthy_real_servers_are_probed_in_time_however_many_others_are_silent() {
    // The silent ones alone need 2500 places.
    let mut world = World::new(&ten_thousand(&tcp()));
    world.running_max = 900;
    silence_half(&mut world);
    world.run_for(30);
    let settled = world.now;
    world.run_for(20);
    let (healthy, silent) = longest_gaps(&world, settled);
    assert!(healthy < Duration::from_millis(2_100), "{healthy:?}");
    // 5000 of them take turns in 450 places.
    assert!(silent < Duration::from_millis(13_000), "{silent:?}");
    assert!(world.running_peak <= 900, "{}", world.running_peak);
    let states = world.view().services.into_values().flat_map(|it| it.real_servers);
    assert!(states.into_iter().all(|(rip, seen)| (seen.state == State::Down) == is_even(rip)));
}

#[test]
fn when_half_of_all_fall_silent_the_others_wait_only_until_that_is_known() {
    let mut world = World::new(&ten_thousand(&tcp()));
    world.running_max = 900;
    world.run_for(5);
    silence_half(&mut world);
    let begun = world.now;
    world.run_for(45);
    let (healthy, _) = longest_gaps(&world, begun);
    assert!(healthy < Duration::from_secs(9), "{healthy:?}");
    let (healthy, _) = longest_gaps(&world, begun.after(Duration::from_secs(30)));
    assert!(healthy < Duration::from_millis(2_100), "{healthy:?}");
}

#[test]
fn with_a_place_for_each_no_probe_is_late() {
    let mut world = World::new(&ten_thousand(&tcp()));
    world.running_max = 10_000;
    silence_half(&mut world);
    world.run_for(15);
    let load = world.view().load.network;
    let soonest = load.delays.cumulative().next().map(|(_, count)| count);
    assert_eq!(soonest, Some(load.delays.count()), "within a millisecond");
    assert!((2_300..2_700).contains(&load.running) && load.max == 10_000, "{load:?}");
    assert_eq!(load.late, None);
}

#[test]
fn a_requested_probe_does_not_wait_for_those_of_silent_real_servers() {
    let mut world = World::new(&[service("web", 400, &[tcp()])]);
    world.running_max = 40;
    world.answers = Box::new(|_, _| silent());
    world.run_for(60);
    let asked = rip(400);
    let before = world.now;
    world.judge.check_now(None, Some(asked), before);
    world.begun.clear();
    world.run_until(before.after(TIMEOUT + Duration::from_millis(10)));
    assert!(world.begun.iter().any(|(_, probe)| probe.target.rip == asked));
    let others = world.begun.iter().filter(|(_, probe)| probe.target.rip != asked).count();
    assert!(others <= 41, "{others} in 20 places");
}

#[test]
fn an_answer_of_a_real_server_that_was_down_gives_it_another_place() {
    let mut world = World::new(&[service("web", 400, &[tcp()])]);
    world.running_max = 40;
    world.answers = Box::new(|_, _| silent());
    world.run_for(60);
    world.answers = Box::new(|probe, _| if probe.target.rip == rip(7) { answer() } else { silent() });
    world.begun.clear();
    world.run_for(60);
    assert_eq!(world.state("web", 7), State::Up);
    // A round of the others takes 20 s.
    let first = world.begun_of(7)[0];
    assert!(world.begun_of(7)[1].since(first) < Duration::from_millis(2_100));
    assert!(world.begun_of(7).len() > 15);
}

#[test]
fn programs_and_sockets_have_places_of_their_own() {
    let row = CHECKS.iter().find(|row| row.name == "exec").expect("check exec");
    let exec = CheckConfig::new(row);
    let mut services = vec![service("web", 10, &[tcp()]), service("jobs", 0, std::slice::from_ref(&exec))];
    services[1].servers = (100..200).map(|last| server(last, std::slice::from_ref(&exec))).collect();
    let mut world = World::new(&services);
    world.running_max = 10;
    world.answers = Box::new(|probe, _| if probe.check.row.name == "exec" { silent() } else { answer() });
    world.run_for(60);
    assert!((1..=10).all(|last| world.begun_of(last).len() >= 29));
    let load = world.view().load;
    assert!(load.programs.late.is_some_and(|late| late > Duration::from_secs(10)), "{load:?}");
    assert_eq!((load.network.late, load.programs.running), (None, 5));
    world.configure(&[]);
    assert_eq!(world.view().load.programs.late, None, "nothing is late without a check");
}

#[test]
fn a_pause_of_the_daemon_is_no_failure_of_a_real_server_and_what_ran_then_is_spread() {
    let mut world = World::new(&[service("web", 1000, &[tcp()])]);
    world.run_for(10);
    world.answers = Box::new(|_, _| silent());
    world.run_until(Moment::from_millis(10_500));
    // All that run and all that wait are overdue.
    world.now = Moment::from_secs(1000);
    world.answers = Box::new(|_, _| answer());
    world.begun.clear();
    world.events.clear();
    let woken = world.now;
    world.run_until(woken.after(Duration::from_millis(1_990)));
    let mut by_tenth: BTreeMap<u64, usize> = BTreeMap::new();
    for (begun, _) in &world.begun {
        *by_tenth.entry(begun.since(woken).as_millis() as u64 / 100).or_default() += 1;
    }
    assert!(by_tenth.values().all(|count| *count < 75), "{by_tenth:?}");
    assert!((980..=1000).contains(&world.begun.len()), "{}", world.begun.len());
    let view = world.view();
    let checks = view.services["web"].real_servers.values().flat_map(|server| &server.checks);
    assert!(checks.into_iter().all(|check| !check.failures.contains_key(&FailureClass::Timeout)));
    assert!(world.events.is_empty());
}

#[test]
fn an_error_that_a_probe_had_before_the_pause_counts() {
    let mut world = World::new(&[service("web", 1, &[CheckConfig { fall: 1, ..tcp() }])]);
    world.run_for(3);
    let probe = loop {
        world.now = world.judge.next_due().expect("a probe").max(world.now);
        if let Some(probe) = world.judge.start_due(world.now, Limits::each(9)).pop() {
            break probe;
        }
    };
    world.now = world.now.after(Duration::from_secs(100));
    world.judge.finish(probe.id, refused(), world.now);
    assert_eq!(world.state("web", 1), State::Down);
}
