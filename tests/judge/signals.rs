//! Passive signals: what the packets of clients show between two probes.

use std::time::Duration;

use lvs_tund::health::judge::{HalfOpen, Judge, Signal};
use lvs_tund::health::{Agreement, CheckConfig, FailureClass, State, Via};

use super::world::{Service, World, healthy, refused, rip, server, service, tcp};

fn slow() -> CheckConfig {
    CheckConfig { interval: Duration::from_secs(10), ..tcp() }
}

/// Two real servers that were probed once and are not due soon.
fn probed(services: &[Service]) -> World {
    let mut world = World::new(services);
    world.run_for(12);
    world.begun.clear();
    world
}

#[test]
fn protocol_unreachable_makes_down_at_once_and_a_probe_confirms() {
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.refuse(&[1]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down);
    let seen = world.view();
    let server = seen.real_server("web", rip(1)).expect("a real server");
    assert_eq!(
        server.failure(),
        Some(FailureClass::ProtocolUnreachable),
        "although its last probe succeeded"
    );
    let signalled = world.now;
    world.run_for(1);
    assert_eq!(world.begun_of(1), [signalled], "a probe is due at once");
    assert_eq!(world.told(), ["web 172.25.0.1 down"]);
    let view = world.view();
    let why = view.real_server("web", rip(1)).expect("a real server").checks[0].why.clone();
    assert_eq!(
        why.as_deref(),
        Some("connection refused by 172.25.0.1 through the tunnel, first probe after a signal")
    );
}

#[test]
fn a_probe_that_succeeds_contradicts_a_signal() {
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    world.run_for(1);
    assert_eq!(world.state("web", 1), State::Up);
    assert_eq!(world.told(), ["web 172.25.0.1 down", "web 172.25.0.1 up"]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Up, "once per interval");
    world.run_for(10);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down);
}

fn direct() -> CheckConfig {
    CheckConfig { via: Some(Via::Direct), interval: Duration::from_secs(1), rise: 1, ..tcp() }
}

fn why(world: &World, last: u16) -> String {
    let view = world.view();
    view.real_server("web", rip(last)).expect("a real server").checks[0].why.clone().unwrap_or_default()
}

#[test]
fn a_direct_probe_does_not_contradict_what_was_seen_in_the_tunnel() {
    let mut world = probed(&[service("web", 2, &[direct()])]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(
        why(&world, 1),
        "encapsulated packets not accepted by 172.25.0.1, as it answered to a packet; direct checks count again after 10s \
         without such an answer"
    );
    world.run_for(9);
    assert_eq!(world.state("web", 1), State::Down, "nine successes prove nothing");
    world.run_for(3);
    assert_eq!(world.state("web", 1), State::Up, "it is tried again");
}

#[test]
fn with_direct_checks_each_further_signal_keeps_it_down_longer() {
    let mut world = probed(&[service("web", 2, &[direct()])]);
    // The companion has ended: every packet of a client brings the signal, and clients come while it is up.
    for _ in 0..3600 {
        if world.state("web", 1) == State::Up {
            world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
        }
        world.run_for(1);
    }
    let changes = world.hooks().len();
    assert!((14..=22).contains(&changes), "{changes} changes in an hour");
}

#[test]
fn packets_that_still_arrive_keep_it_down_while_they_are_answered_by_the_signal() {
    let mut world = probed(&[service("web", 2, &[direct()])]);
    for _ in 0..200 {
        world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
        world.run_for(1);
        assert_eq!(world.state("web", 1), State::Down);
    }
    world.run_for(12);
    assert_eq!(world.state("web", 1), State::Up);
}

#[test]
fn a_failure_after_the_signal_does_not_shorten_the_wait() {
    let mut world = probed(&[service("web", 2, &[direct()])]);
    world.refuse(&[1]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    world.run_for(2);
    world.refuse(&[]);
    world.run_for(5);
    assert_eq!(world.state("web", 1), State::Down);
    world.run_for(5);
    assert_eq!(world.state("web", 1), State::Up);
}

#[test]
fn a_success_through_the_tunnel_ends_the_wait_of_the_direct_checks() {
    let mut both = service("web", 2, &[direct()]);
    both.servers[0].checks.push(slow());
    let mut world = probed(&[both]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down);
    world.run_for(2);
    assert_eq!(world.state("web", 1), State::Up);
}

#[test]
fn only_a_probe_that_began_after_the_signal_ends_the_wait_of_other_services() {
    for fails_later in [true, false] {
        let mut world = probed(&[service("a", 2, &[slow()]), service("b", 2, &[direct()])]);
        let mut probes = 0;
        world.answers = Box::new(move |probe, _| {
            let is_tunnel = probe.way == Via::Tunnel && probe.target.rip == rip(1);
            probes += u32::from(is_tunnel);
            let fails = is_tunnel && fails_later && probes > 1;
            (if fails { refused() } else { healthy() }, Duration::from_millis(500))
        });
        world.judge.check_now(Some("a"), Some(rip(1)), world.now);
        world.run_until(world.now.after(Duration::from_millis(100)));
        world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
        world.run_for(4);
        let expected = if fails_later { State::Down } else { State::Up };
        assert_eq!((world.state("a", 1), world.state("b", 1)), (expected, expected));
    }
}

#[test]
fn a_probe_that_began_before_the_signal_does_not_contradict_it() {
    let mut world = probed(&[service("web", 2, &[slow()])]);
    let mut probes = 0;
    world.answers = Box::new(move |probe, _| {
        probes += u32::from(probe.target.rip == rip(1));
        (if probes == 1 { healthy() } else { refused() }, Duration::from_millis(500))
    });
    world.judge.check_now(Some("web"), Some(rip(1)), world.now);
    world.run_until(world.now.after(Duration::from_millis(100)));
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    world.run_until(world.now.after(Duration::from_millis(600)));
    assert_eq!(world.state("web", 1), State::Down);
    world.run_for(1);
    assert_eq!(world.told(), ["web 172.25.0.1 down"]);
}

#[test]
fn a_signal_alone_never_takes_the_last_live_real_server() {
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.refuse(&[2]);
    for last in [1, 2] {
        world.judge.suspect(rip(last), Signal::ProtocolUnreachable, world.now);
    }
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Down, State::Up));
    world.run_for(1);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Up, State::Down), "the probes decide");
    let why = world.view().real_server("web", rip(2)).expect("a real server").checks[0].why.clone();
    assert!(why.expect("a reason").ends_with("first probe after a signal"), "one failure is enough");
}

#[test]
fn a_real_server_is_the_last_one_if_no_other_of_a_virtual_service_could_serve() {
    let pair = || service("web", 2, &[slow()]);
    let with = |change: fn(&mut Service)| {
        let mut web = pair();
        change(&mut web);
        web
    };
    for (name, services) in [
        ("alone in another virtual service", vec![pair(), service("api", 1, &[slow()])]),
        ("the other is quiesced", vec![with(|web| web.servers[1].weight = 0)]),
        ("the other is disabled", vec![with(|web| web.servers[1].is_enabled = false)]),
        ("the other is a sorry server", vec![with(|web| web.servers[1].is_sorry = true)]),
    ] {
        let mut world = probed(&services);
        world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
        assert_eq!(world.state("web", 1), State::Up, "{name}");
    }
    let mut down = service("down", 0, &[slow()]);
    down.servers = vec![server(3, &[slow()])];
    let mut world = probed(&[pair(), down]);
    world.refuse(&[3]);
    world.run_for(60);
    assert_eq!(world.state("down", 3), State::Down);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down, "a virtual service without it does not count");
}

#[test]
fn a_judge_of_nothing_has_changed_nothing() {
    assert!(!Judge::new(1).take_changed());
}

#[test]
fn a_signal_that_was_not_confirmed_is_forgotten() {
    let mut world = probed(&[service("web", 1, &[slow()])]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    world.run_for(1);
    world.refuse(&[1]);
    world.run_for(11);
    assert_eq!(world.state("web", 1), State::Up, "one failure of three");
}

#[test]
fn the_other_signals_only_make_the_checks_due() {
    let half_open = HalfOpen { stuck: 20, samples: 20, others_stuck: 0, others_samples: 20 };
    let signals = [Signal::HostUnreachable, Signal::NoNeighbour, Signal::HalfOpen(half_open)];
    for signal in signals {
        let mut world = probed(&[service("web", 2, &[slow()])]);
        let signalled = world.now;
        world.judge.suspect(rip(1), signal, signalled);
        world.judge.suspect(rip(1), signal, signalled);
        assert_eq!(world.state("web", 1), State::Up);
        world.run_until(signalled.after(Duration::from_millis(100)));
        assert_eq!(world.begun_of(1), [signalled], "{signal:?}");
        world.judge.suspect(rip(1), signal, world.now);
        world.run_until(world.now.after(Duration::from_millis(100)));
        assert_eq!(world.begun_of(1).len(), 1, "once per interval: {signal:?}");
    }
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.judge.suspect(rip(1), Signal::HalfOpen(HalfOpen { samples: 3, ..half_open }), world.now);
    world.run_until(world.now.after(Duration::from_millis(100)));
    assert_eq!(world.begun_of(1).len(), 0, "too few samples");
}

#[test]
fn a_signal_during_a_probe_calls_for_another_one() {
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.answers = Box::new(|_, _| (refused(), Duration::from_millis(500)));
    world.judge.check_now(Some("web"), Some(rip(1)), world.now);
    let begun = world.now;
    world.run_until(begun.after(Duration::from_millis(100)));
    world.judge.suspect(rip(1), Signal::HostUnreachable, world.now);
    world.run_until(begun.after(Duration::from_millis(2000)));
    assert_eq!(world.begun_of(1), [begun, begun.after(Duration::from_millis(500))]);
}

#[test]
fn a_strong_signal_counts_after_a_weak_one() {
    for weak in [Signal::HostUnreachable, Signal::NoNeighbour] {
        let mut world = probed(&[service("web", 2, &[slow()])]);
        world.judge.suspect(rip(1), weak, world.now);
        world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
        assert_eq!(world.state("web", 1), State::Down, "{weak:?}");
    }
}

#[test]
fn signals_count_no_more_than_failures_during_grace() {
    let grace = CheckConfig { grace: Duration::from_secs(60), ..slow() };
    let mut world = probed(&[service("web", 2, &[grace])]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Up);
}

#[test]
fn a_signal_does_not_make_it_fail_open_before_a_probe_confirms() {
    let mut web = service("web", 2, &[slow()]);
    web.health.min_healthy = 2;
    web.health.agreement = Agreement::All;
    let mut world = probed(&[web]);
    world.refuse(&[1]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down);
    assert!(!world.view().services["web"].fails_open);
    world.run_for(1);
    assert!(world.view().services["web"].fails_open);
}

#[test]
fn check_now_makes_the_wanted_checks_due() {
    let services = [service("a", 2, &[slow()]), service("b", 2, &[CheckConfig { port: Some(81), ..slow() }])];
    let begun = |service: Option<&str>, real_server: Option<u16>| {
        let mut world = probed(&services);
        world.judge.check_now(service, real_server.map(rip), world.now);
        world.run_until(world.now.after(Duration::from_millis(10)));
        world.begun.len()
    };
    assert_eq!(begun(None, None), 4);
    assert_eq!(begun(Some("a"), None), 2);
    assert_eq!(begun(None, Some(1)), 2);
    assert_eq!(begun(Some("b"), Some(2)), 1);
    assert_eq!(begun(Some("c"), None), 0);
}
