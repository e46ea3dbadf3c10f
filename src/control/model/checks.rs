//! What the checks have found, as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::health::State;
use crate::health::view::{CheckView, ServerView, ServiceView};
use crate::time::Moment;

/// The health of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceState {
    /// Whether enough real servers are up.
    pub has_quorum: bool,
    /// Fewer real servers than `min_healthy` are up, so that all count as up.
    pub fails_open: bool,
    /// Its sorry servers serve instead of the others.
    pub uses_sorry: bool,
    /// Real servers that the checks find up, sorry servers included.
    pub up: u32,
    /// Real servers that the checks find down, sorry servers included.
    pub down: u32,
}

/// The health of a real server in its virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerState {
    /// `up` or `down`: the result of its checks together.
    pub state: String,
    /// Seconds since it became that.
    pub age: u64,
    /// Why it is down, in one sentence; `null` while it is up.
    pub why: Option<String>,
    /// The weight from a check; `null`: the configured one.
    pub weight_from_check: Option<u32>,
    /// The share of its weight during a slow start, in thousandths; otherwise 1000.
    pub share: u32,
    /// In the order of the configuration.
    pub checks: Vec<CheckState>,
}

/// One check of a real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckState {
    /// The kind of check.
    #[serde(rename = "type")]
    pub kind: String,
    /// `up` or `down`.
    pub state: String,
    /// Seconds since it became that.
    pub age: u64,
    /// Why it is down, in one sentence; `null` while it is up.
    pub why: Option<String>,
    /// The failure of the last probe; `null`: it succeeded, or none has ended.
    pub last_error: Option<ProbeError>,
    /// Probes in a row that contradict the state.
    pub contrary: u32,
    /// How long the last probe took, in milliseconds.
    pub took_ms: u64,
    /// What an operator should know although the probe succeeded.
    pub warning: Option<String>,
    /// The path MTU that check `mtu` has found, in bytes.
    pub path_mtu: Option<u16>,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed, by class.
    pub failures: BTreeMap<String, u64>,
}

/// A failed probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbeError {
    /// As in the metrics.
    pub class: String,
    /// What went wrong.
    pub message: String,
}

impl From<&ServiceView> for ServiceState {
    fn from(view: &ServiceView) -> ServiceState {
        let count = |state| {
            let all = view.real_servers.values().filter(|server| server.state == state);
            u32::try_from(all.count()).unwrap_or(u32::MAX)
        };
        let ServiceView { has_quorum, fails_open, uses_sorry, .. } = *view;
        ServiceState { has_quorum, fails_open, uses_sorry, up: count(State::Up), down: count(State::Down) }
    }
}

impl ServerState {
    /// The state of a real server; `None` if it has no check.
    pub fn new(view: &ServerView, now: Moment) -> Option<ServerState> {
        (view.state != State::Unchecked).then(|| ServerState {
            state: view.state.label().to_owned(),
            age: now.since(view.since).as_secs(),
            why: view.why().map(str::to_owned),
            weight_from_check: view.weight,
            share: view.share,
            checks: view.checks.iter().map(|check| CheckState::new(check, now)).collect(),
        })
    }
}

impl CheckState {
    fn new(view: &CheckView, now: Moment) -> CheckState {
        let failure = view.last.as_ref().and_then(|last| last.as_ref().err());
        CheckState {
            kind: view.kind.to_owned(),
            state: view.state.label().to_owned(),
            age: now.since(view.since).as_secs(),
            why: view.why.clone(),
            last_error: failure
                .map(|(class, text)| ProbeError { class: class.label().to_owned(), message: text.clone() }),
            contrary: view.contrary,
            took_ms: u64::try_from(view.took.as_millis()).unwrap_or(u64::MAX),
            warning: view.warning.clone(),
            path_mtu: view.path_mtu,
            successes: view.successes,
            failures: view.failures.iter().map(|(class, count)| (class.label().to_owned(), *count)).collect(),
        }
    }
}
