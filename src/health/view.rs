//! What the checks have found: published for the schedulers, the API, metrics and `status`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::durations::Durations;
use super::load::Load;
use super::verdict::FailureClass;
use crate::label::labels;
use crate::time::Moment;

labels! {
    /// The health of a real server in one virtual service.
    pub enum State {
        /// It has no check, and counts as up.
        Unchecked = "unchecked",
        /// It gets new connections.
        Up = "up",
        /// It gets none.
        Down = "down",
    }
}

/// One check of a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckView {
    /// The kind: "tcp".
    pub kind: &'static str,
    /// [`State::Up`] or [`State::Down`].
    pub state: State,
    /// When it became that.
    pub since: Moment,
    /// Probes in a row that contradict the state.
    pub contrary: u32,
    /// The last outcome, if a probe has ended: its class and words if it failed.
    pub last: Option<Result<(), (FailureClass, String)>>,
    /// How long the last probe took.
    pub took: Duration,
    /// How long all probes took.
    pub durations: Durations,
    /// Why it is down, in one sentence without a full stop: "connection refused by 172.25.3.2 through the tunnel, 3 of 3".
    pub why: Option<String>,
    /// The class of the failure that `why` begins with; `None` while no failure is known.
    pub cause: Option<FailureClass>,
    /// A warning of a check that succeeded.
    pub warning: Option<String>,
    /// The path MTU that check `mtu` has found, in bytes of the outer packet.
    pub path_mtu: Option<u16>,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed, by class.
    pub failures: BTreeMap<FailureClass, u64>,
}

/// The health of a real server in one virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// The result of all its checks.
    pub state: State,
    /// False if an operator has disabled it: it is probed nevertheless.
    pub is_enabled: bool,
    /// When it became that.
    pub since: Moment,
    /// The weight that a check requests, while it is up; `None`: the configured one.
    pub weight: Option<u32>,
    /// The share of its weight that it has during a slow start, in thousandths; 1000 otherwise.
    pub share: u32,
    /// In the order of the configuration.
    pub checks: Vec<CheckView>,
}

/// The health of a virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Whether enough real servers are up; true without checks.
    pub has_quorum: bool,
    /// Fewer real servers than `min_healthy` are up, so that all count as up.
    pub fails_open: bool,
    /// No quorum, but a sorry server that is up: the sorry servers serve instead of the others.
    pub uses_sorry: bool,
    /// All, those without a check included.
    pub real_servers: BTreeMap<IpAddr, ServerView>,
}

impl ServerView {
    /// Whether its checks have found it down.
    pub fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Why it is down: the reason of the first check that is.
    pub fn why(&self) -> Option<&str> {
        let down = self.checks.iter().filter(|check| check.state == State::Down);
        down.filter_map(|check| check.why.as_deref()).next().filter(|_| self.is_down())
    }

    /// What is wrong according to the first check that is down: its last failure, or what made it down if its last probe
    /// did not fail, because a signal was faster, or because it has not succeeded often enough.
    pub fn failure(&self) -> Option<FailureClass> {
        let down = self.checks.iter().filter(|check| check.state == State::Down);
        let last = |check: &CheckView| Some(check.last.as_ref()?.as_ref().err()?.0);
        down.filter_map(|check| last(check).or(check.cause)).next()
    }

    /// The weight of a real server that may serve: the configured one, 0 included, or the one that a check requests; its
    /// share of that during a slow start, rounded up.
    fn serving_weight(&self, configured: u32) -> u32 {
        let weight = if configured == 0 { 0 } else { self.weight.unwrap_or(configured) };
        let part = (u64::from(weight) * u64::from(self.share)).div_ceil(1000);
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}

impl ServiceView {
    /// The weight of a real server as far as health is concerned. An operator's command may set it to 0 beyond this.
    pub fn effective_weight(&self, rip: IpAddr, configured: u32, is_sorry: bool) -> u32 {
        if is_sorry != self.uses_sorry {
            return 0;
        }
        match self.real_servers.get(&rip) {
            Some(_) if self.fails_open => configured,
            Some(server) if server.is_down() => 0,
            Some(server) => server.serving_weight(configured),
            None => configured,
        }
    }

    /// Whether `on_down` applies to the connections of a real server: it is down, and the service does not fail open.
    pub fn is_down(&self, rip: IpAddr) -> bool {
        !self.fails_open && self.real_servers.get(&rip).is_some_and(ServerView::is_down)
    }
}

/// The health of all virtual services that have checks, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By the name of the virtual service.
    pub services: BTreeMap<String, ServiceView>,
    /// Of the probes.
    pub load: Load,
}

impl View {
    /// The health of a virtual service, if it has checks.
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.get(name)
    }

    /// The weight of a real server as far as health is concerned; `None`: its virtual service is not judged, and its
    /// weight is the configured one. See [`ServiceView::effective_weight`].
    pub fn effective_weight(
        &self,
        service: &str,
        rip: IpAddr,
        configured: u32,
        is_sorry: bool,
    ) -> Option<u32> {
        Some(self.service(service)?.effective_weight(rip, configured, is_sorry))
    }

    /// The health of a real server, if its virtual service has checks.
    pub fn real_server(&self, service: &str, rip: IpAddr) -> Option<&ServerView> {
        self.services.get(service)?.real_servers.get(&rip)
    }
}
