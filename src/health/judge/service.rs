//! A virtual service: its real servers, and what follows from them.

use std::net::IpAddr;

use super::damper::{Damper, Report};
use super::event::{Event, Flapper};
use super::input::Judged;
use super::queue::Queue;
use super::quorum::{Ruling, rule};
use super::ramp::Ramp;
use super::server::{Server, find};
use crate::health::spec::{Agreement, ServiceHealth};
use crate::health::view::{ServiceView, State};
use crate::time::Moment;

/// A virtual service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Its name.
    pub(super) name: String,
    /// Its VIP.
    pub(super) vip: IpAddr,
    /// Its first port.
    pub(super) port: u16,
    health: ServiceHealth,
    has_ramp: bool,
    /// In the order of the configuration.
    pub(super) servers: Vec<Server>,
    ruling: Ruling,
    has_begun: bool,
    /// Whether quorum was reported, or was there from the beginning.
    is_quorum_known: bool,
    quorum: Damper,
    open: Damper,
}

impl Service {
    /// A virtual service without real servers, whose quorum is not known.
    pub(super) fn new(given: &Judged) -> Service {
        Service {
            name: given.name.to_owned(),
            vip: given.vip,
            port: given.port,
            health: given.health.clone(),
            has_ramp: given.has_ramp,
            servers: Vec::new(),
            ruling: Ruling {
                has_quorum: false,
                fails_open: false,
                uses_sorry: false,
                is_certainly_lost: false,
            },
            has_begun: false,
            is_quorum_known: false,
            quorum: Damper::new(false),
            open: Damper::new(false),
        }
    }

    /// The same virtual service with another configuration and no real servers, for its successor to fill.
    pub(super) fn succeed(&self, given: &Judged) -> Service {
        Service {
            ruling: self.ruling,
            has_begun: self.has_begun,
            is_quorum_known: self.is_quorum_known,
            quorum: self.quorum.clone(),
            open: self.open.clone(),
            ..Service::new(given)
        }
    }

    /// A slow start that begins now, if there is one.
    pub(super) fn begin_ramp(&self, now: Moment) -> Option<Ramp> {
        Ramp::begin(self.health.slow_start, now).filter(|_| self.has_ramp)
    }

    /// A slow start that has begun, with the present duration.
    pub(super) fn keep_ramp(&self, ramp: Option<Ramp>) -> Option<Ramp> {
        ramp.filter(|_| self.has_ramp).and_then(|ramp| ramp.with_time(self.health.slow_start))
    }

    /// How many checks of a real server must succeed.
    pub(super) fn agreement(&self) -> Agreement {
        self.health.agreement
    }

    /// Whether the weights of its real servers may rise in steps.
    pub(super) fn has_slow_start(&self) -> bool {
        self.has_ramp && !self.health.slow_start.is_zero()
    }

    /// Whether there is something to judge.
    pub(super) fn is_judged(&self) -> bool {
        !self.health.checks.is_empty()
            || self.health.quorum > 0
            || self.servers.iter().any(|server| server.is_sorry || !server.checks.is_empty())
    }

    /// The standing of a check of a real server has changed. True if weights may have changed.
    pub(super) fn assess(&mut self, at: usize, queue: &Queue, events: &mut Vec<Event>, now: Moment) -> bool {
        let has_server_changed = self.assess_server(at, queue, events, now);
        self.evaluate(events, now) || has_server_changed
    }

    fn assess_server(&mut self, at: usize, queue: &Queue, events: &mut Vec<Event>, now: Moment) -> bool {
        let ramp = self.begin_ramp(now);
        let finding = find(&self.servers[at].checks, queue, self.health.agreement, self.servers[at].weight);
        let server = &mut self.servers[at];
        let was_up = server.state != State::Down;
        let is_up = finding.state != State::Down;
        let has_changed = server.state != finding.state || server.check_weight != finding.weight;
        server.check_weight = finding.weight;
        server.is_refuted = finding.is_refuted;
        if server.state != finding.state {
            server.state = finding.state;
            server.since = now;
        }
        if was_up != is_up {
            server.ramp = ramp.filter(|_| is_up && !server.is_fresh);
            let report = server.damper.on_change(is_up, now);
            self.report_server(at, report, queue, events);
        }
        self.servers[at].is_fresh &= finding.is_assumed;
        has_changed
    }

    /// Applies the rules. True if weights may have changed.
    pub(super) fn evaluate(&mut self, events: &mut Vec<Event>, now: Moment) -> bool {
        let before = self.ruling;
        self.ruling = self.decide();
        let has_quorum = self.ruling.has_quorum;
        if self.is_quorum_known && before.has_quorum != has_quorum {
            let report = self.quorum.on_change(has_quorum, now);
            self.report_quorum(report, events);
        } else if !self.is_quorum_known && (has_quorum || self.ruling.is_certainly_lost) {
            self.is_quorum_known = true;
            self.quorum.report(has_quorum);
            self.report_quorum(Report::Change, events);
        }
        if before.fails_open != self.ruling.fails_open {
            let report = self.open.on_change(self.ruling.fails_open, now);
            self.report_open(report, events);
        }
        before != self.ruling
    }

    /// Follows a change of the configuration. Quorum that a new virtual service has from the beginning is no news.
    pub(super) fn settle(&mut self, queue: &Queue, events: &mut Vec<Event>, now: Moment) {
        if !self.has_begun {
            self.has_begun = true;
            self.ruling.has_quorum = self.decide().has_quorum;
            self.is_quorum_known = self.ruling.has_quorum;
            self.quorum.report(self.ruling.has_quorum);
        }
        for at in 0..self.servers.len() {
            self.assess_server(at, queue, events, now);
        }
        self.evaluate(events, now);
    }

    /// Reports of flapping that are due.
    pub(super) fn on_time(&mut self, queue: &Queue, events: &mut Vec<Event>, now: Moment) {
        for at in 0..self.servers.len() {
            if self.servers[at].damper.next_due().is_some_and(|due| due <= now) {
                let report = self.servers[at].damper.on_time(now);
                self.report_server(at, report, queue, events);
            }
        }
        let report = self.quorum.on_time(now);
        self.report_quorum(report, events);
        let report = self.open.on_time(now);
        self.report_open(report, events);
    }

    /// When [`Service::on_time`] has something to report, or a share changes.
    pub(super) fn next_due(&self, now: Moment) -> Option<Moment> {
        let steps = self.servers.iter().filter_map(|server| server.ramp?.next_step(now));
        let dampers = self.servers.iter().filter_map(|server| server.damper.next_due());
        steps.chain(dampers).chain(self.quorum.next_due()).chain(self.open.next_due()).min()
    }

    /// As published.
    pub(super) fn view(&self, queue: &Queue, now: Moment) -> ServiceView {
        ServiceView {
            has_quorum: self.ruling.has_quorum,
            fails_open: self.ruling.fails_open,
            uses_sorry: self.ruling.uses_sorry,
            real_servers: self.servers.iter().map(|server| (server.rip, server.view(queue, now))).collect(),
        }
    }

    fn decide(&self) -> Ruling {
        let ruling = rule(&self.health, self.servers.iter().map(Server::member), self.ruling.has_quorum);
        Ruling { has_quorum: ruling.has_quorum || !self.is_judged(), ..ruling }
    }

    fn report_server(&mut self, at: usize, report: Report, queue: &Queue, events: &mut Vec<Event>) {
        let server = &mut self.servers[at];
        let (service, real_server, rip) = (self.name.clone(), server.name.clone(), server.rip);
        let is_up = server.state != State::Down;
        let what = Flapper::RealServer { real_server: real_server.clone(), rip };
        if let Some(event) = flapping(&service, what, report) {
            events.push(event);
        }
        if is_reported_again(report, &mut server.damper, is_up) {
            let why = server.why(queue);
            events.push(if is_up {
                Event::Up { service, real_server, rip }
            } else {
                Event::Down { service, real_server, rip, why }
            });
        }
    }

    fn report_quorum(&mut self, report: Report, events: &mut Vec<Event>) {
        events.extend(flapping(&self.name, Flapper::Quorum, report));
        let has_quorum = self.ruling.has_quorum;
        if is_reported_again(report, &mut self.quorum, has_quorum) {
            let service = self.name.clone();
            events.push(if has_quorum {
                Event::QuorumGained { service }
            } else {
                Event::QuorumLost { service }
            });
        }
    }

    fn report_open(&mut self, report: Report, events: &mut Vec<Event>) {
        events.extend(flapping(&self.name, Flapper::FailOpen, report));
        let fails_open = self.ruling.fails_open;
        if is_reported_again(report, &mut self.open, fails_open) {
            let service = self.name.clone();
            events.push(if fails_open {
                Event::FailOpen { service }
            } else {
                Event::FailOpenOver { service }
            });
        }
    }
}

/// The report that something flaps or has settled.
fn flapping(service: &str, what: Flapper, report: Report) -> Option<Event> {
    let service = service.to_owned();
    match report {
        Report::Flapping(changes, within) => Some(Event::Flapping { service, what, changes, within }),
        Report::Settled(changes, within) => Some(Event::Settled { service, what, changes, within }),
        Report::Nothing | Report::Change => None,
    }
}

/// Whether the state itself is reported: it has changed, or has settled and differs from the last report.
fn is_reported_again(report: Report, damper: &mut Damper, state: bool) -> bool {
    let is_reported = match report {
        Report::Change => true,
        Report::Settled(..) => damper.reported_state() != state,
        Report::Nothing | Report::Flapping(..) => false,
    };
    if is_reported {
        damper.report(state);
    }
    is_reported
}
