//! The judge: when each check is due, and what follows from its outcomes for real servers and virtual services. It
//! never waits, sends or reads a clock; the driver does.
//!
//! ```text
//! configure ─▶ shared checks ─▶ queue ──start_due──▶ probe ──finish──▶ machine: up or down
//!                                 ▲──── suspect, check_now                  │
//!      view ◀── service: quorum, sorry servers, fail-open ◀── server: agreement, slow start
//! ```

mod class;
mod configure;
mod damper;
mod event;
mod hold;
mod input;
mod lateness;
mod line;
mod machine;
mod queue;
mod quorum;
mod ramp;
mod server;
mod service;
mod shared;
mod signal;
mod spread;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;

pub use event::{Event, Flapper};
pub use input::{Judged, JudgedServer};
pub use shared::{Probe, ProbeId};
pub use signal::{HalfOpen, Signal};

use self::machine::Standing;
use self::queue::{Queue, Released};
use self::service::Service;
use self::shared::{CheckId, Key, SharedCheck};
use self::spread::Spread;
use super::load::Limits;
use super::verdict::{Failure, FailureClass, Outcome};
use super::view::{State, View};
use crate::time::Moment;

/// Every check of every real server, and every virtual service as far as health is concerned.
#[derive(Debug)]
pub struct Judge {
    spread: Spread,
    queue: Queue,
    keys: HashMap<Key, CheckId, BuildHasherDefault<DefaultHasher>>,
    services: Vec<Service>,
    /// Real servers with a signal about the tunnel that no probe through it has contradicted.
    signalled: BTreeSet<IpAddr>,
    /// When something is due in a virtual service without a probe: a step of a slow start, a report of flapping.
    timers: BTreeSet<(Moment, usize)>,
    /// The entry of each virtual service in `timers`.
    timer_of: Vec<Option<Moment>>,
    events: Vec<Event>,
    has_changed: bool,
}

impl Judge {
    /// A judge of nothing. Judges with different seeds probe at different moments.
    pub fn new(seed: u64) -> Judge {
        Judge {
            spread: Spread::new(seed),
            queue: Queue::default(),
            keys: HashMap::default(),
            services: Vec::new(),
            signalled: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: Vec::new(),
            events: Vec::new(),
            has_changed: false,
        }
    }

    /// When to call [`Judge::start_due`] next. A probe that finds no place is not counted: the end of another one makes it
    /// due.
    pub fn next_due(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(due, _)| *due);
        self.queue.next_due().into_iter().chain(timer).min()
    }

    /// The probes that begin now. Each must be ended by [`Judge::finish`], even if it could not be made. No more than
    /// `limits` run at once; probes of real servers that are down leave places for the others, and otherwise those that
    /// have waited longest come first.
    pub fn start_due(&mut self, now: Moment, limits: Limits) -> Vec<Probe> {
        self.on_timers(now);
        self.queue.resume(now);
        let mut probes = Vec::new();
        while let Some((check, probe)) = self.queue.take_due(limits, now) {
            probes.extend(self.queue.taken(check).map(|check| check.begin(probe, now)));
        }
        probes
    }

    /// A probe has ended. The outcome is ignored if its check has been removed since. The timeout of a probe that should
    /// have ended long ago is that of this host, and the next probe has another place within the interval.
    pub fn finish(&mut self, id: ProbeId, outcome: Outcome, now: Moment) {
        let Some(Released { check, is_overrun }) = self.queue.release(id, now) else { return };
        let jitter = self.spread.jitter();
        if !is_overrun {
            self.change(check, |check| check.finish(outcome, jitter, now), now);
            return self.contradict_signals(check);
        }
        let outcome = outcome.map_err(|failure| match failure.class {
            FailureClass::Timeout => {
                Failure::new(FailureClass::Local, "this host was stopped during the probe")
            }
            _ => failure,
        });
        let place = self.spread.place();
        self.change(check, |check| check.finish(outcome, jitter, now), now);
        self.queue.change(check, |check| check.postpone(place, now));
        self.contradict_signals(check);
    }

    /// If this check's probe has just come through the tunnel, the signals about it no longer hold for the other checks.
    fn contradict_signals(&mut self, check: CheckId) {
        let seen = self.queue.check(check).filter(|check| check.has_seen_tunnel());
        let Some(rip) = seen.map(|check| check.key.rip).filter(|rip| self.signalled.remove(rip)) else {
            return;
        };
        let others: Vec<CheckId> = self.queue.checks_of(rip).map(|(id, _)| id).collect();
        for id in others {
            self.queue.change(id, |check| check.machine.end_hold());
        }
    }

    /// A passive signal about a real server. [`Signal::ProtocolUnreachable`] makes it down at once, unless that would be
    /// the last live real server of a virtual service; every signal makes its checks due, at most once per interval.
    pub fn suspect(&mut self, rip: IpAddr, signal: Signal, now: Moment) {
        if matches!(signal, Signal::HalfOpen(half_open) if !half_open.is_telling()) {
            return;
        }
        let own: Vec<CheckId> = self.queue.checks_of(rip).map(|(id, _)| id).collect();
        let mut strong = Vec::new();
        for id in own {
            if signal == Signal::ProtocolUnreachable {
                self.queue.change(id, |check| check.machine.on_signal_again(now));
            }
            let takes = |check: &mut SharedCheck| {
                let takes = check.takes_signal(signal == Signal::ProtocolUnreachable, now);
                if takes {
                    check.hasten(now);
                }
                takes
            };
            if self.queue.change(id, takes) == Some(true) && signal == Signal::ProtocolUnreachable {
                strong.push(id);
            }
        }
        if !strong.is_empty() {
            self.signalled.insert(rip);
        }
        let is_at_once = !strong.is_empty() && !self.is_last_somewhere(rip);
        for id in strong {
            self.change(id, |check| check.accept_signal(is_at_once, now), now);
        }
    }

    /// Makes the checks due now: all of them, or those of a virtual service, of a real server, or of a real server in a
    /// virtual service.
    pub fn check_now(&mut self, service: Option<&str>, real_server: Option<IpAddr>, now: Moment) {
        let services = self.services.iter().filter(|it| service.is_none_or(|name| it.name == name));
        let servers = services.flat_map(|it| &it.servers);
        let wanted: BTreeSet<CheckId> = servers
            .filter(|server| real_server.is_none_or(|rip| server.rip == rip))
            .flat_map(|server| server.checks.iter().copied())
            .collect();
        for id in wanted {
            self.queue.change(id, |check| check.hasten(now));
        }
    }

    /// The health of all virtual services that are judged.
    pub fn view(&self, now: Moment) -> View {
        let judged = self.services.iter().filter(|it| it.is_judged() || it.has_slow_start());
        let services = judged.map(|it| (it.name.clone(), it.view(&self.queue, now))).collect();
        View { services, load: self.queue.load(now) }
    }

    /// What has happened since the last call, in this order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether a weight, a state or a quorum may have changed since the last call: otherwise only counts, times and words
    /// of the view have.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Changes a check, and what follows from it if its standing changes.
    fn change(&mut self, id: CheckId, change: impl FnOnce(&mut SharedCheck), now: Moment) {
        let standing = |queue: &Queue| -> Option<Standing> { Some(queue.check(id)?.machine.standing()) };
        let before = standing(&self.queue);
        let users = self.queue.change(id, |check| {
            change(check);
            check.users.clone()
        });
        if before == standing(&self.queue) {
            return;
        }
        for (service, server) in users.unwrap_or_default() {
            self.has_changed |= self.services[service].assess(server, &self.queue, &mut self.events, now);
            self.set_timer(service, now);
        }
    }

    /// Whether a virtual service would have no live real server without this one.
    fn is_last_somewhere(&self, rip: IpAddr) -> bool {
        self.services.iter().any(|service| {
            let is_live =
                |it: &&server::Server| it.state != State::Down && !it.is_sorry && it.member().is_candidate();
            let mut live = service.servers.iter().filter(is_live).map(|server| server.rip);
            service.servers.iter().any(|server| server.rip == rip) && live.all(|other| other == rip)
        })
    }

    fn on_timers(&mut self, now: Moment) {
        while let Some(&(due, service)) = self.timers.first() {
            if due > now {
                return;
            }
            self.services[service].on_time(&self.queue, &mut self.events, now);
            self.has_changed = true;
            self.set_timer(service, now);
        }
    }

    fn set_timer(&mut self, service: usize, now: Moment) {
        let next = self.services[service].next_due(now);
        let before = std::mem::replace(&mut self.timer_of[service], next);
        if before == next {
            return;
        }
        if let Some(due) = before {
            self.timers.remove(&(due, service));
        }
        if let Some(due) = next {
            self.timers.insert((due, service));
        }
    }
}
