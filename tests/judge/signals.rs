//! Passive signals: what the packets of clients show between two probes.

use std::time::Duration;

use lvs_tund::health::judge::{HalfOpen, Signal};
use lvs_tund::health::{Agreement, CheckConfig, FailureClass, State, Via};

use super::world::{Service, World, refused, rip, service, tcp};

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

#[test]
fn a_direct_probe_does_not_contradict_what_was_seen_in_the_tunnel() {
    let direct = CheckConfig { via: Some(Via::Direct), interval: Duration::from_secs(1), rise: 3, ..tcp() };
    let mut world = probed(&[service("web", 2, &[direct])]);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    world.run_until(world.now.after(Duration::from_millis(1500)));
    assert_eq!(world.state("web", 1), State::Down);
    world.run_for(2);
    assert_eq!(world.state("web", 1), State::Up, "three successes in a row");
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
    let mut world = probed(&[service("web", 2, &[slow()])]);
    world.judge.suspect(rip(1), Signal::HostUnreachable, world.now);
    world.judge.suspect(rip(1), Signal::ProtocolUnreachable, world.now);
    assert_eq!(world.state("web", 1), State::Down);
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
