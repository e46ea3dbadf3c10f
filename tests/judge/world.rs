//! Real servers that answer as a test requires, and a driver without sockets, in simulated time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lvs_tund::health::judge::{Event, Judge, Judged, JudgedServer, Probe};
use lvs_tund::health::view::View;
use lvs_tund::health::{
    CHECKS, Cause, CheckConfig, Failure, FailureClass, Limits, Outcome, ServiceHealth, State, Success,
};
use lvs_tund::time::Moment;

pub fn rip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(172, 25, high, low))
}

pub fn at(milliseconds: u64) -> Moment {
    Moment::from_millis(milliseconds)
}

pub fn tcp() -> CheckConfig {
    let row = CHECKS.iter().find(|row| row.name == "tcp").expect("check tcp");
    CheckConfig::new(row)
}

pub fn refused() -> Outcome {
    Err(Failure::new(FailureClass::Refused, ""))
}

pub fn healthy() -> Outcome {
    Ok(Success::default())
}

#[derive(Clone, Debug)]
pub struct Server {
    pub rip: IpAddr,
    pub weight: u32,
    pub is_sorry: bool,
    pub is_enabled: bool,
    pub checks: Vec<CheckConfig>,
}

pub fn server(last: u16, checks: &[CheckConfig]) -> Server {
    Server { rip: rip(last), weight: 1, is_sorry: false, is_enabled: true, checks: checks.to_vec() }
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub vip: IpAddr,
    pub port: u16,
    pub health: ServiceHealth,
    pub has_ramp: bool,
    pub servers: Vec<Server>,
}

/// A virtual service with real servers 1 to `count`, which have these checks.
pub fn service(name: &str, count: u16, checks: &[CheckConfig]) -> Service {
    Service {
        name: name.to_owned(),
        vip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        port: 80,
        health: ServiceHealth { checks: checks.into(), ..ServiceHealth::default() },
        has_ramp: true,
        servers: (1..=count).map(|last| server(last, checks)).collect(),
    }
}

/// What makes two probes those of one check.
type Identity = (IpAddr, IpAddr, u16, CheckConfig);

pub type Answers = Box<dyn FnMut(&Probe, Moment) -> (Outcome, Duration)>;

pub struct World {
    pub judge: Judge,
    pub now: Moment,
    pub running_max: usize,
    /// How a probe ends, and after how long.
    pub answers: Answers,
    pub begun: Vec<(Moment, Probe)>,
    pub events: Vec<(Moment, Event)>,
    /// Running probes by their end.
    running: BTreeMap<(Moment, u64), (Probe, Outcome)>,
    /// Checks with a running probe: no two probes of one may be.
    busy: HashSet<Identity>,
    pub running_peak: usize,
    count: u64,
}

impl World {
    /// Every real server is healthy, and answers within a millisecond.
    pub fn new(services: &[Service]) -> World {
        let mut world = World {
            judge: Judge::new(1),
            now: Moment::ZERO,
            running_max: 1000,
            answers: Box::new(|_, _| (healthy(), Duration::from_millis(1))),
            begun: Vec::new(),
            events: Vec::new(),
            running: BTreeMap::new(),
            busy: HashSet::new(),
            running_peak: 0,
            count: 0,
        };
        world.configure(services);
        world
    }

    /// The real servers whose last number is listed refuse connections.
    pub fn refuse(&mut self, last: &[u16]) {
        let refused_by: BTreeSet<IpAddr> = last.iter().map(|last| rip(*last)).collect();
        self.answers = Box::new(move |probe, _| {
            let is_refused = refused_by.contains(&probe.target.rip);
            (if is_refused { refused() } else { healthy() }, Duration::from_millis(1))
        });
    }

    pub fn configure(&mut self, services: &[Service]) {
        let judged: Vec<Judged> = services.iter().map(judged).collect();
        self.judge.configure(&judged, self.now);
        self.collect();
    }

    /// Runs until this moment: what is due happens exactly when it is due.
    pub fn run_until(&mut self, end: Moment) {
        loop {
            let ending = self.running.keys().next().map(|(end, _)| *end);
            let Some(next) = ending.into_iter().chain(self.judge.next_due()).min() else { break };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.end_probes();
            self.begin_probes();
        }
        self.now = end;
    }

    pub fn run_for(&mut self, seconds: u64) {
        self.run_until(self.now.after(Duration::from_secs(seconds)));
    }

    fn end_probes(&mut self) {
        while let Some((&(end, number), _)) = self.running.iter().next() {
            if end > self.now {
                return;
            }
            let (probe, outcome) = self.running.remove(&(end, number)).expect("a probe");
            self.busy.remove(&identity(&probe));
            self.judge.finish(probe.id, outcome, self.now);
            self.collect();
        }
    }

    pub fn begin_probes(&mut self) {
        for probe in self.judge.start_due(self.now, Limits::each(self.running_max)) {
            assert!(self.busy.insert(identity(&probe)), "two probes of one check at once");
            let (outcome, took) = (self.answers)(&probe, self.now);
            self.count += 1;
            self.running.insert((self.now.after(took), self.count), (probe.clone(), outcome));
            self.begun.push((self.now, probe));
        }
        self.running_peak = self.running_peak.max(self.running.len());
        self.collect();
    }

    pub fn collect(&mut self) {
        let now = self.now;
        self.events.extend(self.judge.take_events().into_iter().map(|event| (now, event)));
    }

    pub fn view(&self) -> View {
        self.judge.view(self.now)
    }

    pub fn state(&self, service: &str, last: u16) -> State {
        self.view().real_server(service, rip(last)).expect("a real server").state
    }

    /// When the probes of a real server began.
    pub fn begun_of(&self, last: u16) -> Vec<Moment> {
        let own = self.begun.iter().filter(|(_, probe)| probe.target.rip == rip(last));
        own.map(|(begun, _)| *begun).collect()
    }

    /// The events in short, without their moments, and without quorum that is there from the beginning.
    pub fn told(&mut self) -> Vec<String> {
        let is_expected = |event: &Event| matches!(event, Event::QuorumGained { cause: Cause::Start, .. });
        let events = std::mem::take(&mut self.events).into_iter().map(|(_, event)| event);
        events.filter(|event| !is_expected(event)).map(|event| short(&event)).collect()
    }

    /// What hooks receive, in short, with the causes.
    pub fn hooks(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events).into_iter();
        events.filter_map(|(_, event)| Some(format!("{} ({})", short(&event), cause(&event)?))).collect()
    }
}

fn identity(probe: &Probe) -> Identity {
    (probe.target.rip, probe.target.address, probe.target.port, probe.check.clone())
}

/// Why a state is reported; `None`: not to hooks.
pub fn cause(event: &Event) -> Option<Cause> {
    match event {
        Event::Up { cause, .. }
        | Event::Down { cause, .. }
        | Event::QuorumGained { cause, .. }
        | Event::QuorumLost { cause, .. } => Some(*cause),
        _ => None,
    }
}

pub fn short(event: &Event) -> String {
    let what = match event {
        Event::Up { rip, .. } => format!("{rip} up"),
        Event::Down { rip, .. } => format!("{rip} down"),
        Event::QuorumGained { .. } => "quorum gained".to_owned(),
        Event::QuorumLost { .. } => "quorum lost".to_owned(),
        Event::FailOpen { .. } => "fails open".to_owned(),
        Event::FailOpenOver { .. } => "fails open no longer".to_owned(),
        Event::Flapping { changes, .. } => format!("flapping {changes}"),
        Event::Settled { changes, .. } => format!("settled {changes}"),
    };
    format!("{} {what}", event.service())
}

fn judged(service: &Service) -> Judged<'_> {
    Judged {
        name: &service.name,
        vip: service.vip,
        port: service.port,
        health: &service.health,
        has_ramp: service.has_ramp,
        real_servers: service
            .servers
            .iter()
            .map(|server| JudgedServer {
                name: "s",
                rip: server.rip,
                weight: server.weight,
                is_sorry: server.is_sorry,
                checks: &server.checks,
                is_enabled: server.is_enabled,
                is_local: false,
            })
            .collect(),
    }
}
