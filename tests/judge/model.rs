//! Random configurations, failures, signals and reloads over thousands of simulated hours, compared with a model
//! that has the rules but no times.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lvs_tund::health::judge::{Event, Signal};
use lvs_tund::health::{Agreement, CheckConfig, Start, State};
use lvs_tund::time::Moment;
use proptest::prelude::*;

use super::world::{Service, World, healthy, refused, rip, service, tcp};

/// The rules of rise and fall, written down once more: `None` is a check that was never probed.
#[derive(Clone, Debug)]
struct Rules {
    is_up: bool,
    was_probed: bool,
    in_a_row: u32,
}

impl Rules {
    fn new(check: &CheckConfig) -> Rules {
        Rules { is_up: check.start == Start::Up, was_probed: false, in_a_row: 0 }
    }

    fn on_outcome(&mut self, check: &CheckConfig, is_good: bool) {
        if is_good == self.is_up {
            self.in_a_row = 0;
        } else {
            self.in_a_row += 1;
            let needed = match (self.was_probed, is_good) {
                (false, _) => 1,
                (true, true) => check.rise,
                (true, false) => check.fall,
            };
            if self.in_a_row >= needed {
                self.is_up = is_good;
                self.in_a_row = 0;
            }
        }
        self.was_probed = true;
    }
}

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    rise: u32,
    fall: u32,
    start: Start,
    interval: u64,
    fast: Option<u64>,
    down: Option<u64>,
    agreement: Agreement,
    quorum: u32,
    hysteresis: u32,
    min_healthy: u32,
    weights: Vec<u32>,
    /// How many of 100 probes fail while a real server is ill, and while it is well.
    failing: (u64, u64),
}

prop_compose! {
    fn plan()(
        seed in any::<u64>(),
        rise in 1u32..4,
        fall in 1u32..4,
        start in prop_oneof![Just(Start::Up), Just(Start::Down)],
        interval in 30u64..600,
        fast in proptest::option::of(5u64..30),
        down in proptest::option::of(5u64..1800),
        agreement in prop_oneof![Just(Agreement::All), Just(Agreement::Any)],
        (quorum, hysteresis, min_healthy) in (0u32..8, 0u32..4, 0u32..4),
        weights in proptest::collection::vec(0u32..4, 1..5),
        failing in (60u64..101, 0u64..20),
    ) -> Plan {
        Plan { seed, rise, fall, start, interval, fast, down, agreement, quorum, hysteresis, min_healthy, weights, failing }
    }
}

impl Plan {
    fn checks(&self) -> Vec<CheckConfig> {
        let first = CheckConfig {
            rise: self.rise,
            fall: self.fall,
            start: self.start,
            interval: Duration::from_secs(self.interval),
            fast_interval: self.fast.map(Duration::from_secs),
            down_interval: self.down.map(Duration::from_secs),
            ..tcp()
        };
        vec![first.clone(), CheckConfig { port: Some(8080), ..first }]
    }

    fn services(&self) -> Vec<Service> {
        ["a", "b"]
            .map(|name| {
                let mut service = service(name, self.weights.len() as u16, &self.checks());
                service.health.agreement = self.agreement;
                service.health.quorum = self.quorum;
                service.health.hysteresis = self.hysteresis;
                service.health.min_healthy = self.min_healthy;
                for (server, weight) in service.servers.iter_mut().zip(&self.weights) {
                    server.weight = *weight;
                }
                service
            })
            .into()
    }

    /// Whether a probe at this moment fails: in one hour of four a real server is ill.
    fn is_failing(&self, rip: IpAddr, port: u16, now: Moment) -> bool {
        let mix = |value: u64| {
            let mixed = (value ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
        };
        let IpAddr::V4(address) = rip else { return false };
        let who = u64::from(address.to_bits()) << 16 | u64::from(port);
        let hour = now.as_nanos() / 3_600_000_000_000;
        let is_ill = mix(who.wrapping_mul(31).wrapping_add(hour)).is_multiple_of(4);
        let chance = mix(now.as_nanos().wrapping_mul(7).wrapping_add(who)) % 100;
        chance < if is_ill { self.failing.0 } else { self.failing.1 }
    }
}

/// Quorum from the states, as documented.
fn has_quorum(plan: &Plan, live: u32, had: bool) -> bool {
    let total: u32 = plan.weights.iter().sum();
    let quorum = plan.quorum.max(1).min(total.max(1));
    let hysteresis = plan.hysteresis.min(quorum - 1);
    if had {
        live > 0 && live >= quorum - hysteresis
    } else {
        live > 0 && live >= (quorum + hysteresis).min(total)
    }
}

type Models = BTreeMap<(IpAddr, u16), Rules>;

fn model_state(plan: &Plan, models: &Models, rip: IpAddr) -> State {
    let mut own = models.iter().filter(|((of, _), _)| *of == rip).map(|(_, rules)| rules.is_up);
    let is_up = match plan.agreement {
        Agreement::All => own.all(|is_up| is_up),
        Agreement::Any => own.any(|is_up| is_up),
    };
    if is_up { State::Up } else { State::Down }
}

/// Follows the outcomes in the order in which probes end: the world's probes end a fixed time after they begin.
fn follow(plan: &Plan, world: &mut World, models: &mut Models) {
    for (begun, probe) in std::mem::take(&mut world.begun) {
        let key = (probe.target.rip, probe.target.port);
        let rules = models.entry(key).or_insert_with(|| Rules::new(&probe.check));
        rules.on_outcome(&probe.check, !plan.is_failing(key.0, key.1, begun));
    }
}

fn run(plan: Plan, hours: u64) -> Result<(), TestCaseError> {
    let services = plan.services();
    let mut world = World::new(&services);
    let answers = plan.clone();
    world.answers = Box::new(move |probe, now| {
        let is_failing = answers.is_failing(probe.target.rip, probe.target.port, now);
        (if is_failing { refused() } else { healthy() }, Duration::ZERO)
    });
    let mut models = Models::new();
    for server in &services[0].servers {
        for port in [80, 8080] {
            models.insert((server.rip, port), Rules::new(&plan.checks()[0]));
        }
    }
    let mut quorum = false;
    let live = |models: &Models| -> u32 {
        let weight_of = |(number, weight): (usize, &u32)| {
            (model_state(&plan, models, rip(number as u16 + 1)) == State::Up).then_some(*weight)
        };
        plan.weights.iter().enumerate().filter_map(weight_of).sum()
    };
    quorum = has_quorum(&plan, live(&models), quorum);
    let end = Moment::from_secs(hours * 3600);
    while let Some(next) = world.judge.next_due().filter(|next| *next <= end) {
        if next.as_nanos() % 97 == 0 {
            world.configure(&services);
        }
        world.run_until(next);
        follow(&plan, &mut world, &mut models);
        quorum = has_quorum(&plan, live(&models), quorum);
        if next.as_nanos() % 13 != 0 {
            continue;
        }
        let view = world.view();
        for name in ["a", "b"] {
            for server in &services[0].servers {
                let state = view.real_server(name, server.rip).map(|it| it.state);
                prop_assert_eq!(state, Some(model_state(&plan, &models, server.rip)));
            }
            if plan.min_healthy == 0 {
                prop_assert_eq!(view.services[name].has_quorum, quorum);
            }
        }
    }
    alternate(&world.events)
}

/// Reports of one thing alternate, and both virtual services report the same.
fn alternate(events: &[(Moment, Event)]) -> Result<(), TestCaseError> {
    let mut told: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (_, event) in events {
        let (key, state) = match event {
            Event::Up { service, rip, .. } => (format!("{service} {rip}"), "up"),
            Event::Down { service, rip, .. } => (format!("{service} {rip}"), "down"),
            Event::QuorumGained { service, .. } => (service.clone(), "gained"),
            Event::QuorumLost { service, .. } => (service.clone(), "lost"),
            Event::FailOpen { service } => (format!("{service} open"), "open"),
            Event::FailOpenOver { service } => (format!("{service} open"), "over"),
            Event::Flapping { .. } | Event::Settled { .. } => continue,
        };
        let entry = told.entry(key.clone()).or_default();
        prop_assert_ne!(entry.0.as_str(), state, "{} was reported as {} twice", key, state);
        *entry = (state.to_owned(), entry.1 + 1);
    }
    for (key, value) in told.iter().filter(|(key, _)| key.starts_with("a ")) {
        prop_assert_eq!(told.get(&key.replacen('a', "b", 1)), Some(value));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn states_and_quorum_follow_the_rules_whatever_happens(plan in plan()) {
        run(plan, 300)?;
    }

    #[test]
    fn signals_reloads_and_pauses_never_break_the_times(
        plan in plan(),
        steps in proptest::collection::vec((0u8..7, 0u16..5, 0u64..4000), 1..200),
    ) {
        let services = plan.services();
        let mut world = World::new(&services);
        world.running_max = 4;
        let answers = plan.clone();
        world.answers = Box::new(move |probe, now| {
            let is_failing = answers.is_failing(probe.target.rip, probe.target.port, now);
            let took = Duration::from_millis(now.as_nanos() / 1000 % 1000);
            (if is_failing { refused() } else { healthy() }, took)
        });
        for (what, last, time) in steps {
            match what {
                0 => world.judge.suspect(rip(last), Signal::ProtocolUnreachable, world.now),
                1 => world.judge.suspect(rip(last), Signal::HostUnreachable, world.now),
                2 => world.judge.check_now(None, Some(rip(last)), world.now),
                3 => {
                    world.configure(&services[..usize::from(last % 3).min(2)]);
                    world.run_for(1);
                }
                4 => world.now = world.now.after(Duration::from_secs(time * 10)),
                _ => world.run_for(time),
            }
            world.collect();
            prop_assert!(world.running_peak <= 4);
        }
        world.configure(&services);
        world.begun.clear();
        world.run_for(30_000);
        for server in &services[0].servers {
            let count = world.begun.iter().filter(|(_, probe)| probe.target.rip == server.rip).count();
            prop_assert!(count >= 8, "{} was probed {} times", server.rip, count);
        }
    }
}
