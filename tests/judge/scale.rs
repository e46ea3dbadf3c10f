//! Ten thousand checks, long pauses, and all real servers at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lvs_tund::health::{CheckConfig, Limits, State};
use lvs_tund::time::Moment;

use super::world::{Service, World, at, healthy, refused, server, service, tcp};

/// A hundred virtual services with a hundred real servers each.
pub fn ten_thousand(check: &CheckConfig) -> Vec<Service> {
    (0..100)
        .map(|number| Service {
            servers: (0..100).map(|own| server(number * 100 + own, std::slice::from_ref(check))).collect(),
            ..service(&format!("s{number}"), 0, std::slice::from_ref(check))
        })
        .collect()
}

/// The most and the fewest probes that begin within a tenth of a second, in this time.
fn crowds(world: &World, from: Moment, to: Moment) -> (usize, usize) {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for (begun, _) in world.begun.iter().filter(|(begun, _)| *begun >= from && *begun < to) {
        *counts.entry(begun.as_nanos() / 100_000_000).or_default() += 1;
    }
    (counts.values().copied().max().unwrap_or(0), counts.values().copied().min().unwrap_or(0))
}

#[test]
fn the_probes_of_ten_thousand_checks_are_spread_and_stay_spread() {
    let mut world = World::new(&ten_thousand(&tcp()));
    world.run_for(30);
    assert!((145_000..=155_000).contains(&world.begun.len()), "{}", world.begun.len());
    for from in [0, 2, 14, 28] {
        let (most, fewest) = crowds(&world, Moment::from_secs(from), Moment::from_secs(from + 2));
        assert!(most < 650 && fewest > 350, "after {from} s: {fewest} to {most} in a tenth of a second");
    }
    assert!(world.running_peak < 20, "{}", world.running_peak);
}

#[test]
fn first_probes_come_early_and_later_ones_are_spread_over_a_long_interval() {
    let check = CheckConfig { interval: Duration::from_secs(60), ..tcp() };
    let mut world = World::new(&[service("web", 600, &[check])]);
    world.run_for(10);
    assert_eq!(world.begun.len(), 600);
    world.run_for(290);
    let (most, _) = crowds(&world, Moment::from_secs(180), Moment::from_secs(300));
    assert!(most <= 6, "{most} in a tenth of a second");
    assert_eq!(world.begun_of(1).len(), 6, "after 0, 30, 90, 150, 210 and 270 seconds");
}

#[test]
fn all_real_servers_go_down_at_once_and_come_back_at_once() {
    let mut world = World::new(&ten_thousand(&tcp()));
    world.running_max = 500;
    world.run_for(5);
    world.answers = Box::new(|_, _| (refused(), Duration::from_millis(1)));
    world.run_for(10);
    let is_all = |world: &World, state: State| {
        world.view().services.values().flat_map(|it| it.real_servers.values()).all(|it| it.state == state)
    };
    assert!(is_all(&world, State::Down));
    assert_eq!(world.told().len(), 10_000 + 100);
    world.answers = Box::new(|_, _| (healthy(), Duration::from_millis(1)));
    world.run_for(10);
    assert!(is_all(&world, State::Up));
    assert_eq!(world.told().len(), 10_000 + 100);
    assert!(world.running_peak <= 500);
}

#[test]
fn no_check_starves_when_too_many_are_due() {
    // 100 checks every 2 s take 1 s each, but only 10 run at once: a round takes 10 s.
    let mut world = World::new(&[service("web", 100, &[tcp()])]);
    world.running_max = 10;
    world.answers = Box::new(|_, _| (healthy(), Duration::from_secs(1)));
    world.run_for(100);
    assert_eq!(world.running_peak, 10);
    for last in 1..=100 {
        let count = world.begun_of(last).len();
        assert!((8..=13).contains(&count), "real server {last} was probed {count} times");
    }
}

#[test]
fn nothing_is_due_while_as_many_run_as_may() {
    let mut world = World::new(&[service("web", 3, &[tcp()])]);
    world.now = at(1900);
    let probes = world.judge.start_due(world.now, Limits::each(2));
    assert_eq!(probes.len(), 2);
    assert_eq!(world.judge.next_due(), None);
    world.judge.finish(probes[0].id, healthy(), world.now);
    assert!(world.judge.next_due().is_some_and(|due| due <= world.now));
}

#[test]
fn after_a_long_pause_overdue_checks_run_once_and_spread() {
    let mut world = World::new(&[service("web", 1000, &[tcp()])]);
    world.run_for(10);
    world.begun.clear();
    world.now = Moment::from_secs(8 * 3600);
    let woken = world.now;
    world.run_until(woken.after(Duration::from_millis(1900)));
    let probed: BTreeSet<IpAddr> = world.begun.iter().map(|(_, probe)| probe.target.rip).collect();
    assert_eq!(world.begun.len(), probed.len(), "each once");
    assert!(probed.len() > 940, "{}", probed.len());
    let (most, _) = crowds(&world, woken, world.now);
    assert!(most < 65, "{most} in a tenth of a second");
}

#[test]
fn a_few_overdue_checks_run_at_once_after_a_pause() {
    let mut world = World::new(&[service("web", 3, &[tcp()])]);
    world.run_for(10);
    world.begun.clear();
    world.now = Moment::from_secs(3600);
    world.begin_probes();
    assert_eq!(world.begun.len(), 3);
}
