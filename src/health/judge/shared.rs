//! A check of one real server as it is run: once, however many virtual services have it.

use std::net::IpAddr;
use std::time::Duration;

use super::class::Class;
use super::input::{Judged, JudgedServer};
use super::machine::{Basis, Context, Machine};
use super::spread::{Place, SPREAD_MAX, Spread, part};
use super::words::Way;
use crate::health::check::Target;
use crate::health::spec::{CheckConfig, Transport, Via};
use crate::health::verdict::Outcome;
use crate::health::view::CheckView;
use crate::time::Moment;

/// The shortest pause between two probes, whatever the configuration.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// A check of one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CheckId(pub(super) u64);

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub(super) u64);

/// A probe that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Names it to [`super::Judge::finish`].
    pub id: ProbeId,
    /// The check.
    pub check: CheckConfig,
    /// Its target. `path_mtu` and `overhead` are 0: the caller fills them in.
    pub target: Target,
    /// The way that it takes.
    pub way: Via,
    /// Whether the real server is this host.
    pub is_local: bool,
}

/// What makes two checks the same one: everything that a real server or an answer could depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The real server.
    pub(super) rip: IpAddr,
    way: Via,
    address: IpAddr,
    port: u16,
    /// The VIP, if the probe is addressed to it or has it in its environment.
    vip: Option<IpAddr>,
    /// The virtual service and its port, if the probe has them in its environment: a command has.
    environment: Option<(String, u16)>,
    config: CheckConfig,
}

impl Key {
    /// The check of a real server in a virtual service, which has this name.
    pub(super) fn new(config: &CheckConfig, name: &str, service: &Judged, server: &JudgedServer) -> Key {
        let way = config.way();
        let transport = (config.row.transport)(&config.options);
        let own_port = config.port.or((service.port != 0).then_some(service.port)).or(config.row.port);
        let address = match way {
            Via::Tunnel => service.vip,
            Via::Direct => config.address.unwrap_or(server.rip),
        };
        let has_environment = transport == Transport::Command;
        let port = if transport == Transport::Icmp { 0 } else { own_port.unwrap_or(0) };
        Key {
            rip: server.rip,
            way,
            address,
            port,
            vip: (has_environment || way == Via::Tunnel).then_some(service.vip),
            environment: has_environment.then(|| (name.to_owned(), service.port)),
            config: CheckConfig { via: Some(way), port: Some(port), ..config.clone() },
        }
    }

    /// The configuration, with the way and the port that are used.
    pub(super) fn config(&self) -> &CheckConfig {
        &self.config
    }
}

/// A check of one real server, with its state and its times.
#[derive(Clone, Debug)]
pub(super) struct SharedCheck {
    /// What it is.
    pub(super) key: Key,
    target: Target,
    is_local: bool,
    /// Its state.
    pub(super) machine: Machine,
    /// Virtual services and their real servers that have it, by position.
    pub(super) users: Vec<(usize, usize)>,
    /// When its next probe begins, unless one is running.
    pub(super) due: Moment,
    /// When its running probe began.
    began: Option<Moment>,
    /// The running probe began before something that calls for another one.
    is_again: bool,
    /// Something calls for the next probe.
    is_hastened: bool,
    /// When a signal that only hastens it did so last, and when one that makes it down did.
    hastened: [Option<Moment>; 2],
    /// Failures do not count until then.
    pub(super) grace_ends: Moment,
    /// The first probe was early; if all is well, the second one begins this much later, half an interval to one and a
    /// half, so that the checks are spread over the interval.
    second: Option<Duration>,
}

impl SharedCheck {
    /// A check whose first probe begins at its place within `soon`, and whose second one at its place within the interval.
    pub(super) fn new(
        key: Key,
        machine: Machine,
        soon: Duration,
        spread: &mut Spread,
        now: Moment,
    ) -> SharedCheck {
        let interval = key.config.interval;
        let place = spread.place();
        let target = Target {
            vip: key.address,
            rip: key.rip,
            address: key.address,
            port: key.port,
            virtual_service: String::new(),
            real_server: String::new(),
            path_mtu: 0,
            overhead: 0,
        };
        SharedCheck {
            key,
            target,
            is_local: false,
            machine,
            users: Vec::new(),
            due: now.after(place.within(interval.min(soon))),
            began: None,
            is_again: false,
            is_hastened: false,
            hastened: [None; 2],
            grace_ends: now,
            second: (interval > soon).then(|| interval / 2 + place.within(interval)),
        }
    }

    /// Failures do not count until then.
    pub(super) fn with_grace(self, grace_ends: Moment) -> SharedCheck {
        SharedCheck { grace_ends, ..self }
    }

    /// A real server of a virtual service has this check. The first user's names stand in its probes.
    pub(super) fn add_user(&mut self, at: (usize, usize), service: &Judged, server: &JudgedServer) {
        if self.users.is_empty() {
            self.target.vip = service.vip;
            self.target.virtual_service = service.name.to_owned();
            self.target.real_server = server.name.to_owned();
            self.is_local = server.is_local;
        }
        self.users.push(at);
    }

    /// The configuration, with the way and the port that are used.
    pub(super) fn config(&self) -> &CheckConfig {
        &self.key.config
    }

    /// Whether a probe is running.
    pub(super) fn is_running(&self) -> bool {
        self.began.is_some()
    }

    /// Begins a probe.
    pub(super) fn begin(&mut self, id: ProbeId, now: Moment) -> Probe {
        self.began = Some(now);
        (self.is_again, self.is_hastened) = (false, false);
        Probe {
            id,
            check: self.key.config.clone(),
            target: self.target.clone(),
            way: self.key.way,
            is_local: self.is_local,
        }
    }

    /// The running probe has ended. The time from its beginning to that of the next is multiplied by `jitter`, in
    /// thousandths.
    pub(super) fn finish(&mut self, outcome: Outcome, jitter: u64, now: Moment) {
        let began = self.began.take().unwrap_or(now);
        let context = Context {
            config: &self.key.config,
            asked: self.asked(),
            way: self.way(),
            is_grace: now < self.grace_ends,
            is_stale: self.is_again,
        };
        self.machine.on_outcome(outcome, now.since(began), context, now);
        let usual = part(self.machine.pause(&self.key.config), jitter, 1000);
        let pause = self.second.take().filter(|_| self.machine.is_well()).unwrap_or(usual).max(PAUSE_MIN);
        self.due = if self.is_again { now } else { began.after(pause).max(now) };
    }

    /// A probe is due now; after the running one, if there is one.
    pub(super) fn hasten(&mut self, now: Moment) {
        self.is_again = self.is_running();
        self.is_hastened = true;
        self.due = self.due.min(now);
    }

    /// Puts an overdue probe off, to a place within its interval.
    pub(super) fn postpone(&mut self, place: Place, now: Moment) {
        let later = now.after(place.within(self.config().interval.min(SPREAD_MAX)));
        self.due = if self.due > now { self.due } else { later };
    }

    /// The line of its probes: 0 over sockets, 1 with a program.
    pub(super) fn line(&self) -> usize {
        self.key.environment.is_some().into()
    }

    /// What its next probe is likely to find.
    pub(super) fn class(&self) -> Class {
        let standing = self.machine.standing();
        let is_settled = standing.basis == Basis::Probed && self.machine.is_confirmed();
        match (standing.is_up, is_settled) {
            (true, true) => Class::Up,
            (false, true) if !self.is_hastened => Class::Down,
            _ => Class::Open,
        }
    }

    /// A signal concerns it. False if it is to be ignored: it is down, or an equally strong signal has hastened it
    /// within its interval.
    pub(super) fn takes_signal(&mut self, makes_down: bool, now: Moment) -> bool {
        let last = &mut self.hastened[usize::from(makes_down)];
        let is_late = last.is_none_or(|last| now.since(last) >= self.key.config.interval);
        let takes = self.machine.standing().is_up && is_late;
        if takes {
            *last = Some(now);
        }
        takes
    }

    /// A signal makes it down, or its next failed probe confirms the signal. Failures do not count during the grace
    /// period, and neither do signals.
    pub(super) fn accept_signal(&mut self, is_at_once: bool, now: Moment) {
        if now < self.grace_ends {
            return;
        }
        if is_at_once {
            let words =
                format!("encapsulated packets not accepted by {}, as it answered to a packet", self.key.rip);
            self.machine.on_signal(words, self.way(), now);
        } else {
            self.machine.doubt();
        }
    }

    /// Whether the probe that has just succeeded went through the tunnel, and began after the last signal.
    pub(super) fn has_seen_tunnel(&self) -> bool {
        self.way() == Some(Via::Tunnel) && self.machine.has_just_succeeded() && !self.is_again
    }

    /// Why it is down.
    pub(super) fn why(&self) -> Option<String> {
        self.machine.why(self.asked(), self.way())
    }

    /// As published.
    pub(super) fn view(&self) -> CheckView {
        self.machine.view(self.key.config.row.name, self.asked(), self.way())
    }

    fn way(&self) -> Way {
        (!self.is_local).then_some(self.key.way)
    }

    /// A probe through the tunnel is addressed to the VIP, but it is the real server that does not answer.
    fn asked(&self) -> IpAddr {
        match self.key.way {
            Via::Tunnel => self.key.rip,
            Via::Direct => self.key.address,
        }
    }
}
