//! Things that change too often.

use std::time::Duration;

use lvs_tund::health::judge::{Event, Flapper};
use lvs_tund::health::{Cause, CheckConfig, State};
use lvs_tund::time::Moment;

use super::world::{World, at, healthy, refused, rip, service, short, tcp};

/// One failure or one success decides, every second; real server 1 is well and ill for two seconds each until second 200.
fn flapping(count: u16, min_healthy: u32) -> World {
    let check = CheckConfig { interval: Duration::from_secs(1), rise: 1, fall: 1, ..tcp() };
    let mut web = service("web", count, &[check]);
    web.health.min_healthy = min_healthy;
    let mut world = World::new(&[web]);
    world.answers = Box::new(|probe, now| {
        let is_ill =
            probe.target.rip == rip(1) && now < at(200_500) && (now.as_nanos() / 2_000_000_000) % 2 == 1;
        (if is_ill { refused() } else { healthy() }, Duration::ZERO)
    });
    world
}

#[test]
fn flapping_is_reported_once_and_summed_up_when_it_has_settled() {
    let mut world = flapping(2, 0);
    world.run_for(200);
    let during = world.told();
    assert_eq!(during.iter().filter(|event| event.contains("flapping")).count(), 1);
    assert!(during.len() <= 8, "a storm of events: {during:?}");
    assert_eq!(during.last().map(String::as_str), Some("web 172.25.0.1 down"), "reported at once");
    world.run_for(100);
    let settled: Vec<String> = world.events.iter().map(|(_, event)| short(event)).collect();
    assert!(settled[0].starts_with("web settled"), "{settled:?}");
    assert!(settled.len() <= 2);
    let Event::Settled { what, .. } = &world.events[0].1 else { panic!("{settled:?}") };
    assert_eq!(*what, Flapper::RealServer { real_server: "s".to_owned(), rip: rip(1) });
    let last =
        during.iter().chain(&settled).rev().find(|event| event.ends_with("up") || event.ends_with("down"));
    assert_eq!(last.map(String::as_str), Some("web 172.25.0.1 up"), "the last report is the state");
    assert_eq!(world.state("web", 1), State::Up);
}

#[test]
fn quorum_and_fail_open_are_damped_as_well() {
    for (count, min_healthy, expected) in [(1, 0, Flapper::Quorum), (2, 2, Flapper::FailOpen)] {
        let mut world = flapping(count, min_healthy);
        world.run_for(300);
        let of = |is_wanted: fn(&Event) -> Option<&Flapper>| {
            world.events.iter().filter(|(_, event)| is_wanted(event) == Some(&expected)).count()
        };
        let begun = of(|event| match event {
            Event::Flapping { what, .. } => Some(what),
            _ => None,
        });
        let settled = of(|event| match event {
            Event::Settled { what, .. } => Some(what),
            _ => None,
        });
        assert_eq!((begun, settled), (1, 1), "{expected:?}");
        assert!(world.events.len() < 24, "a storm of events: {}", world.events.len());
        assert_eq!(world.judge.next_due().map(|due| due > world.now), Some(true));
    }
}

#[test]
fn the_state_follows_while_it_flaps() {
    let mut world = flapping(2, 0);
    world.run_for(100);
    let mut states = Vec::new();
    for _ in 0..8 {
        world.run_for(1);
        states.push(world.state("web", 1));
    }
    assert!(states.contains(&State::Up) && states.contains(&State::Down), "{states:?}");
}

/// The only real server is ill and well in turns, so often at first that it flaps, and then for 50 s each.
fn slowly(seconds: u64) -> World {
    let check = CheckConfig { interval: Duration::from_secs(1), rise: 1, fall: 1, ..tcp() };
    let mut world = World::new(&[service("web", 1, &[check])]);
    world.answers = Box::new(|_, now| {
        let second = now.as_nanos() / 1_000_000_000;
        let is_ill = if second < 16 { (second / 2) % 2 == 1 } else { (second / 50) % 2 == 1 };
        (if is_ill { refused() } else { healthy() }, Duration::ZERO)
    });
    world.run_for(seconds);
    world
}

#[test]
fn a_service_that_never_settles_is_reported_lost_at_once_and_gained_after_each_reminder() {
    let world = slowly(3000);
    let of_quorum = |event: &Event| match event {
        Event::QuorumGained { cause, .. } => Some((true, *cause)),
        Event::QuorumLost { cause, .. } => Some((false, *cause)),
        _ => None,
    };
    let told: Vec<(Moment, bool, Cause)> = world
        .events
        .iter()
        .filter_map(|(moment, event)| of_quorum(event).map(|(is_gained, cause)| (*moment, is_gained, cause)))
        .collect();
    assert!(told.windows(2).all(|pair| pair[0].1 != pair[1].1), "a state is reported twice: {told:?}");
    let later: Vec<_> = told.iter().filter(|(moment, ..)| *moment > at(60_000)).collect();
    let gained = later.iter().filter(|(_, is_gained, _)| *is_gained).count();
    assert!((9..=10).contains(&gained), "{later:?}");
    assert!(later.iter().any(|(_, is_gained, cause)| *is_gained && *cause == Cause::Reminder), "{later:?}");
    for (moment, is_gained, _) in later.iter().filter(|(_, is_gained, _)| !is_gained) {
        let second = moment.as_nanos() / 1_000_000_000;
        assert!(second % 100 >= 49 && second % 100 <= 52, "lost at {second} s, not at once: {is_gained}");
    }
}
