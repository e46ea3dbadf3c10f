//! A virtual service: its real servers, and what follows from them.

use std::net::IpAddr;

use super::damper::{Damper, Report, Summary};
use super::event::{Event, Flapper};
use super::input::Judged;
use super::queue::Queue;
use super::quorum::{Ruling, rule};
use super::ramp::Ramp;
use super::server::{Server, find};
use crate::health::hook::Cause;
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
    /// Whether its first state was reported.
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
            ruling: Ruling { has_quorum: false, fails_open: false, uses_sorry: false, is_certain: false },
            has_begun: false,
            is_quorum_known: false,
            quorum: Damper::new(false),
            open: Damper::new(true),
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
        let is_first = server.is_assumed && !finding.is_assumed;
        server.is_assumed = finding.is_assumed;
        if was_up != is_up {
            server.ramp = ramp.filter(|_| is_up && !server.is_fresh);
            let report = server.damper.on_change(is_up, now);
            let report = if is_first { report.because(Cause::Start) } else { report };
            self.report_server(at, report, queue, events);
        } else if is_first && !is_up {
            // It was assumed to be down, and is. One that is up as assumed is no news.
            let report = server.damper.begin(false);
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
        if !self.is_quorum_known {
            self.is_quorum_known = self.ruling.is_certain;
            let report = if self.is_quorum_known { self.quorum.begin(has_quorum) } else { Report::default() };
            self.report_quorum(report, events);
        } else if before.has_quorum != has_quorum {
            let report = self.quorum.on_change(has_quorum, now);
            self.report_quorum(report, events);
        }
        if before.fails_open != self.ruling.fails_open {
            let report = self.open.on_change(!self.ruling.fails_open, now);
            self.report_open(report, events);
        }
        (before.has_quorum, before.fails_open, before.uses_sorry)
            != (has_quorum, self.ruling.fails_open, self.ruling.uses_sorry)
    }

    /// Follows a change of the configuration.
    pub(super) fn settle(&mut self, queue: &Queue, events: &mut Vec<Event>, now: Moment) {
        if !self.has_begun {
            self.has_begun = true;
            self.ruling.has_quorum = self.decide().has_quorum;
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
                let server = &mut self.servers[at];
                let report = server.damper.on_time(server.state != State::Down, now);
                self.report_server(at, report, queue, events);
            }
        }
        let report = self.quorum.on_time(self.ruling.has_quorum, now);
        self.report_quorum(report, events);
        let report = self.open.on_time(!self.ruling.fails_open, now);
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
        if self.is_judged() {
            return ruling;
        }
        // Without real servers nothing shows that it serves.
        Ruling { has_quorum: true, is_certain: ruling.has_quorum, ..ruling }
    }

    fn report_server(&self, at: usize, report: Report, queue: &Queue, events: &mut Vec<Event>) {
        let server = &self.servers[at];
        let (service, real_server, rip) = (self.name.clone(), server.name.clone(), server.rip);
        let what = Flapper::RealServer { real_server: real_server.clone(), rip };
        events.extend(summed_up(&service, what, report));
        let Some(cause) = report.told else { return };
        events.push(if server.state == State::Down {
            Event::Down { service, real_server, rip, why: server.why(queue), cause }
        } else {
            Event::Up { service, real_server, rip, cause }
        });
    }

    fn report_quorum(&self, report: Report, events: &mut Vec<Event>) {
        events.extend(summed_up(&self.name, Flapper::Quorum, report));
        let (Some(cause), service) = (report.told, self.name.clone()) else { return };
        events.push(if self.ruling.has_quorum {
            Event::QuorumGained { service, cause }
        } else {
            Event::QuorumLost { service, cause }
        });
    }

    fn report_open(&self, report: Report, events: &mut Vec<Event>) {
        events.extend(summed_up(&self.name, Flapper::FailOpen, report));
        let (Some(_), service) = (report.told, self.name.clone()) else { return };
        let fails_open = self.ruling.fails_open;
        events.push(if fails_open { Event::FailOpen { service } } else { Event::FailOpenOver { service } });
    }
}

/// The report that something flaps or has settled.
fn summed_up(service: &str, what: Flapper, report: Report) -> Option<Event> {
    let service = service.to_owned();
    Some(match report.summary? {
        Summary::Flapping(changes, within) => Event::Flapping { service, what, changes, within },
        Summary::Settled(changes, within) => Event::Settled { service, what, changes, within },
    })
}
