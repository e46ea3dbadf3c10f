//! The weights that the schedulers see: what follows from the configured weight, the administrative state and health.
//!
//! Three things are kept apart: the configured weight, which only an operator changes; the administrative state, which
//! drains and `disable` change; and health, which the checks find. Only here are they put together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::state::{AdminState, AdminStates};
use crate::config::keys::real_server::WEIGHT_MAX;
use crate::director::cluster::identity::predecessors;
use crate::director::cluster::{
    ClusterConfig, EffectiveWeights, RealServerConfig, Standing, VirtualServiceConfig,
};
use crate::health::view::{ServerView, ServiceView};
use crate::health::{Agreement, CheckConfig, Start, State, View};

/// The whole share of a weight, in thousandths.
const WHOLE: u64 = 1000;

/// What health leaves of a configured weight while it is the real server's turn to serve.
pub fn live_weight(configured: u32, server: Option<&ServerView>, fails_open: bool) -> u32 {
    let Some(server) = server.filter(|_| configured > 0) else { return configured };
    match server.state {
        State::Down => {
            if fails_open {
                configured
            } else {
                0
            }
        }
        State::Up | State::Unchecked => {
            let weight = u64::from(server.weight.unwrap_or(configured)) * u64::from(server.share);
            u32::try_from(weight.div_ceil(WHOLE)).unwrap_or(WEIGHT_MAX).min(WEIGHT_MAX)
        }
    }
}

/// The weight that the schedulers see; `None`: they do not see the real server. `serves` is false for a sorry server
/// while the others serve, and for the others while a sorry server does.
pub const fn effective_weight(live: u32, state: AdminState, serves: bool) -> Option<u32> {
    match state {
        AdminState::Active if serves => Some(live),
        AdminState::Active | AdminState::Draining { .. } | AdminState::Quiesced | AdminState::Disabled => {
            Some(0)
        }
        AdminState::Removed => None,
    }
}

/// The real servers of a cluster that the schedulers see otherwise than configured.
pub fn effective_weights(cluster: &ClusterConfig, states: &AdminStates, view: &View) -> EffectiveWeights {
    let of = |service: &VirtualServiceConfig| {
        let standings = of_service(service, states, view.service(&service.name));
        (!standings.is_empty()).then(|| (service.name.clone(), standings))
    };
    cluster.virtual_services.iter().filter_map(of).collect()
}

/// A real server with all that decides about it.
struct Candidate<'a> {
    config: &'a RealServerConfig,
    state: AdminState,
    is_down: bool,
    live: u32,
}

impl Candidate<'_> {
    fn can_serve(&self) -> bool {
        self.live > 0 && self.state == AdminState::Active
    }
}

fn of_service<'a>(
    service: &'a VirtualServiceConfig,
    states: &AdminStates,
    view: Option<&ServiceView>,
) -> BTreeMap<IpAddr, Option<Standing>> {
    let fails_open = view.is_some_and(|view| view.fails_open);
    let candidate = |config: &'a RealServerConfig| {
        let server = view.and_then(|view| view.real_servers.get(&config.rip));
        let awaits_success = server.is_none() && starts_down(service, config);
        let live = if awaits_success { 0 } else { live_weight(config.weight, server, fails_open) };
        let is_down = server.is_some_and(|server| server.state == State::Down) && !fails_open;
        Candidate { config, state: states.of(&service.name, config.rip), is_down, live }
    };
    let candidates: Vec<Candidate> = service.real_servers.iter().map(candidate).collect();
    let has_quorum = fails_open || view.is_none_or(|view| view.has_quorum);
    let is_any = |is_sorry| {
        let mut of_kind = candidates.iter().filter(|candidate| candidate.config.is_sorry == is_sorry);
        of_kind.any(Candidate::can_serve)
    };
    let is_sorry_turn = is_any(true) && (!has_quorum || !is_any(false));
    let standing = |candidate: &Candidate| {
        let serves = candidate.config.is_sorry == is_sorry_turn;
        let on_down = candidate.is_down.then_some(service.health.on_down);
        let weight = effective_weight(candidate.live, candidate.state, serves);
        weight.map(|weight| Standing { weight, on_down })
    };
    let all = candidates.iter().map(|candidate| (candidate, standing(candidate)));
    all.filter(|(candidate, standing)| *standing != Some(candidate.config.weight.into()))
        .map(|(candidate, standing)| (candidate.config.rip, standing))
        .collect()
}

/// Health after a change of the configuration that was not made by operations: it follows virtual services to their new
/// names.
pub fn carried_over(view: &View, before: &ClusterConfig, next: &ClusterConfig) -> View {
    let (old, next) = (&before.virtual_services, &next.virtual_services);
    let of = |(service, predecessor): (&VirtualServiceConfig, Option<usize>)| {
        let view = view.service(&old[predecessor?].name)?;
        Some((service.name.clone(), view.clone()))
    };
    View { services: next.iter().zip(predecessors(old, next)).filter_map(of).collect() }
}

/// Whether a real server counts as down until its checks have succeeded.
fn starts_down(service: &VirtualServiceConfig, server: &RealServerConfig) -> bool {
    let checks: &[CheckConfig] = server.checks.as_deref().unwrap_or(&service.health.checks);
    let mut down = checks.iter().map(|check| check.start == Start::Down);
    match service.health.agreement {
        Agreement::All => down.any(|is_down| is_down),
        Agreement::Any => !checks.is_empty() && down.all(|is_down| is_down),
    }
}

#[cfg(test)]
mod tests;
