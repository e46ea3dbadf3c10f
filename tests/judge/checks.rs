//! One check: rise and fall, the first probe, and when probes begin.

use std::time::Duration;

use lvs_tund::health::judge::Event;
use lvs_tund::health::{CheckConfig, Failure, FailureClass, Limits, Outcome, Start, State, Success, Via};
use lvs_tund::time::Moment;

use super::world::{World, at, healthy, refused, rip, service, short, tcp};

/// The states of one check after each of these outcomes: `+` a success, `-` a failure, `l` a failure of this host.
fn states(check: CheckConfig, outcomes: &str) -> String {
    let mut world = World::new(&[service("web", 1, &[check])]);
    let mut states = String::new();
    for outcome in outcomes.chars() {
        while world.judge.next_due().is_some_and(|due| due > world.now) {
            world.now = world.judge.next_due().expect("a probe");
        }
        let probe = world.judge.start_due(world.now, Limits::each(9)).pop().expect("a probe");
        let outcome = match outcome {
            '+' => healthy(),
            '-' => refused(),
            _ => Err(Failure::new(FailureClass::Local, "no file descriptor")),
        };
        world.judge.finish(probe.id, outcome, world.now);
        states.push(if world.state("web", 1) == State::Up { 'U' } else { 'd' });
    }
    states
}

#[test]
fn outcomes_in_a_row_make_a_check_up_or_down() {
    let up = |rise, fall| CheckConfig { rise, fall, ..tcp() };
    let down = |rise, fall| CheckConfig { start: Start::Down, ..up(rise, fall) };
    let rows = [
        ("the first failure counts whatever fall is", up(2, 4), "--+-++", "dddddU".to_owned()),
        ("fall failures in a row after a success", up(2, 3), "+---", "UUUd".to_owned()),
        ("a success ends the row of failures", up(2, 3), "+--+--+---", "UUUUUUUUUd".to_owned()),
        ("rise successes in a row", up(2, 1), "+-+-++", "UddddU".to_owned()),
        ("rise of one", up(1, 1), "+-+-+", "UdUdU".to_owned()),
        ("the first success counts whatever rise is", down(5, 3), "+", "U".to_owned()),
        ("after a first failure rise counts", down(2, 3), "-+++", "ddUU".to_owned()),
        ("a failure of this host does not count", up(2, 2), "l+-l-", "UUUUd".to_owned()),
        ("a failure of this host is no first probe", up(2, 2), "ll-", "UUd".to_owned()),
        ("zero counts as one", up(0, 0), "+-+-+", "UdUdU".to_owned()),
    ];
    for (name, check, outcomes, expected) in rows {
        assert_eq!(states(check, outcomes), expected, "{name}");
    }
}

#[test]
fn a_probe_names_its_target_and_leaves_the_path_to_the_caller() {
    let mut world = World::new(&[service("web", 1, &[tcp()])]);
    world.now = world.judge.next_due().expect("a probe");
    let target = world.judge.start_due(world.now, Limits::each(9)).pop().expect("a probe").target;
    assert_eq!((target.virtual_service.as_str(), target.rip, target.address), ("web", rip(1), target.vip));
    assert_eq!((target.path_mtu, target.overhead), (0, 0));
}

#[test]
fn why_names_the_cause_the_way_and_the_count() {
    let why = |check: CheckConfig, outcomes: &[Outcome]| {
        let mut world = World::new(&[service("web", 1, &[check])]);
        for outcome in outcomes {
            world.now = world.judge.next_due().expect("a probe").max(world.now);
            let probe = world.judge.start_due(world.now, Limits::each(9)).pop().expect("a probe");
            world.judge.finish(probe.id, outcome.clone(), world.now);
        }
        world.view().real_server("web", rip(1)).expect("a real server").checks[0].why.clone()
    };
    let direct = CheckConfig { via: Some(Via::Direct), ..tcp() };
    let elsewhere = CheckConfig { address: Some(rip(9)), ..tcp() };
    let start_down = CheckConfig { start: Start::Down, ..tcp() };
    let unexpected: Outcome = Err(Failure::new(FailureClass::Unexpected, "status 503, expected 200-299"));
    let three = [healthy(), refused(), refused(), refused()];
    let rows: Vec<(CheckConfig, Vec<Outcome>, Option<&str>)> = vec![
        (tcp(), three.to_vec(), Some("connection refused by 172.25.0.1 through the tunnel, 3 of 3")),
        (direct.clone(), three.to_vec(), Some("connection refused by 172.25.0.1 directly, 3 of 3")),
        (elsewhere, three.to_vec(), Some("connection refused by 172.25.0.9 directly, 3 of 3")),
        (tcp(), vec![refused()], Some("connection refused by 172.25.0.1 through the tunnel, first probe")),
        (start_down.clone(), vec![], Some("no probe has succeeded yet")),
        (
            start_down,
            vec![refused()],
            Some("connection refused by 172.25.0.1 through the tunnel, no probe has succeeded yet"),
        ),
        (tcp(), vec![healthy(), refused(), refused()], None),
        (
            direct,
            [&three[..], std::slice::from_ref(&unexpected)].concat(),
            Some(
                "connection refused by 172.25.0.1 directly, 3 of 3; most recently unexpected answer from 172.25.0.1 \
                 directly (status 503, expected 200-299)",
            ),
        ),
    ];
    for (check, outcomes, expected) in rows {
        assert_eq!(why(check, &outcomes).as_deref(), expected);
    }
}

fn gaps(moments: &[Moment]) -> Vec<u128> {
    moments.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect()
}

#[test]
fn the_interval_is_from_beginning_to_beginning() {
    let mut world = World::new(&[service("web", 1, &[tcp()])]);
    world.answers = Box::new(|_, _| (healthy(), Duration::from_millis(900)));
    world.run_for(100);
    let gaps = gaps(&world.begun_of(1));
    assert!(gaps.iter().all(|gap| (1940..=2060).contains(gap)), "{gaps:?}");
    assert!((48..=51).contains(&gaps.len()));
    assert!(gaps.iter().collect::<std::collections::BTreeSet<_>>().len() > 5, "no jitter: {gaps:?}");
}

#[test]
fn probes_that_take_longer_than_the_interval_follow_each_other_and_do_not_pile_up() {
    let slow = CheckConfig { timeout: Duration::from_secs(5), ..tcp() };
    let mut world = World::new(&[service("web", 1, &[slow])]);
    world.answers = Box::new(|_, _| (refused(), Duration::from_secs(5)));
    world.run_for(60);
    assert!(gaps(&world.begun_of(1)).iter().all(|gap| *gap == 5000));
    assert_eq!(world.running_peak, 1);
}

#[test]
fn an_interval_of_zero_is_a_millisecond() {
    let check = CheckConfig { interval: Duration::ZERO, ..tcp() };
    let mut world = World::new(&[service("web", 1, &[check])]);
    world.answers = Box::new(|_, _| (healthy(), Duration::ZERO));
    world.run_until(at(100));
    assert!(gaps(&world.begun_of(1)).iter().all(|gap| *gap == 1));
    assert_eq!(world.begun.len(), 101);
}

#[test]
fn the_fast_interval_lasts_while_a_contrary_outcome_is_unconfirmed() {
    let check = CheckConfig { fast_interval: Some(Duration::from_millis(500)), rise: 3, ..tcp() };
    let mut world = World::new(&[service("web", 1, &[check])]);
    world.answers = Box::new(|_, now| {
        let is_refused = now > at(9_000) && now < at(19_500);
        (if is_refused { refused() } else { healthy() }, Duration::ZERO)
    });
    world.run_for(40);
    let fast = gaps(&world.begun_of(1)).iter().filter(|gap| **gap < 600).count();
    assert_eq!(fast, 4, "two failures and two successes are unconfirmed");
    assert_eq!(
        world.told(),
        ["web 172.25.0.1 down", "web quorum lost", "web 172.25.0.1 up", "web quorum gained"]
    );
}

#[test]
fn the_interval_doubles_while_down_up_to_the_down_interval() {
    let check = CheckConfig { down_interval: Some(Duration::from_secs(10)), ..tcp() };
    let mut world = World::new(&[service("web", 1, std::slice::from_ref(&check))]);
    world.refuse(&[1]);
    world.run_for(600);
    let about: Vec<u128> = gaps(&world.begun_of(1)).iter().map(|gap| (gap + 500) / 1000).collect();
    assert_eq!(about[..3], [2, 4, 8]);
    assert!(about.len() > 55 && about[3..].iter().all(|gap| *gap == 10), "{about:?}");

    let shorter = CheckConfig { down_interval: Some(Duration::from_secs(1)), ..check };
    let mut world = World::new(&[service("web", 1, &[shorter])]);
    world.refuse(&[1]);
    world.run_for(10);
    assert!(gaps(&world.begun_of(1)).iter().all(|gap| (970..=1030).contains(gap)));
}

#[test]
fn failures_do_not_count_during_grace_and_successes_do() {
    let check = CheckConfig { grace: Duration::from_secs(20), ..tcp() };
    let mut world = World::new(&[service("web", 2, &[CheckConfig { start: Start::Down, ..check.clone() }])]);
    world.refuse(&[1]);
    world.run_for(5);
    assert_eq!((world.state("web", 1), world.state("web", 2)), (State::Down, State::Up));

    let mut world = World::new(&[service("web", 1, &[check])]);
    world.refuse(&[1]);
    world.run_for(19);
    assert_eq!(world.state("web", 1), State::Up);
    world.run_for(4);
    assert_eq!(world.state("web", 1), State::Down, "the first failure that counts");
}

#[test]
fn weight_warning_and_path_mtu_are_those_of_the_last_success() {
    let mut world = World::new(&[service("web", 1, &[CheckConfig { fall: 2, ..tcp() }])]);
    let mut finish = |outcome: Outcome| {
        world.now = world.judge.next_due().expect("a probe").max(world.now);
        let probe = world.judge.start_due(world.now, Limits::each(9)).pop().expect("a probe");
        world.now = world.now.after(Duration::from_millis(7));
        world.judge.finish(probe.id, outcome, world.now);
        world.view().real_server("web", rip(1)).expect("a real server").clone()
    };
    let warning = Some("the certificate expires in 3 days".to_owned());
    let server = finish(Ok(Success {
        weight: Some(7),
        warning: warning.clone(),
        path_mtu: Some(1400),
        ..Success::default()
    }));
    let check = &server.checks[0];
    assert_eq!((server.weight, &check.warning, check.path_mtu), (Some(7), &warning, Some(1400)));
    assert_eq!((check.took, check.last.clone(), check.contrary), (Duration::from_millis(7), Some(Ok(())), 0));

    let server = finish(Err(Failure::new(FailureClass::Timeout, "slow")));
    let check = &server.checks[0];
    assert_eq!((server.weight, &check.warning, check.path_mtu), (Some(7), &None, Some(1400)), "still up");
    assert_eq!(check.last, Some(Err((FailureClass::Timeout, "slow".to_owned()))));
    assert_eq!(
        (check.contrary, check.successes, check.failures.get(&FailureClass::Timeout)),
        (1, 1, Some(&1))
    );

    assert_eq!(finish(refused()).weight, None, "down");
    finish(healthy());
    assert_eq!(finish(healthy()).weight, None, "the last success requests none");
}

#[test]
fn the_example_of_the_manual_is_right() {
    let run = |check: CheckConfig| {
        let mut world = World::new(&[service("web", 1, &[check])]);
        world.answers = Box::new(|_, now| {
            let is_refused = now > at(7_000) && now < at(20_500);
            (if is_refused { refused() } else { healthy() }, Duration::ZERO)
        });
        world.run_for(40);
        let seconds = |state: &str| {
            let ends = |event: &Event| short(event) == format!("web 172.25.0.1 {state}");
            let (moment, _) = world.events.iter().find(|(_, event)| ends(event)).expect("a change");
            moment.as_nanos() as f64 / 1e9
        };
        (seconds("down"), seconds("up"))
    };
    for (check, (down, up)) in [
        (tcp(), (12.0, 24.0)),
        (CheckConfig { fast_interval: Some(Duration::from_millis(500)), ..tcp() }, (9.0, 21.5)),
    ] {
        let (is_down, is_up) = run(check);
        assert!((is_down / down - 1.0).abs() < 0.03 && (is_up / up - 1.0).abs() < 0.03, "{is_down} {is_up}");
    }
}
