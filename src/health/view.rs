//! What the checks have found: published for the schedulers, the API, metrics and `status`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

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
    /// Why it is down, in one sentence without a full stop: "connection refused by 172.25.3.2 through the tunnel, 3 of 3".
    pub why: Option<String>,
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
    /// Those that have a check.
    pub real_servers: BTreeMap<IpAddr, ServerView>,
}

/// The health of all virtual services that have checks, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By the name of the virtual service.
    pub services: BTreeMap<String, ServiceView>,
}

impl View {
    /// The health of a virtual service, if it has checks.
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.get(name)
    }

    /// The health of a real server, if it has checks.
    pub fn real_server(&self, service: &str, rip: IpAddr) -> Option<&ServerView> {
        self.services.get(service)?.real_servers.get(&rip)
    }
}
