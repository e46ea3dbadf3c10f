//! The weights that the schedulers see: what follows from the configured weight, the administrative state and health.
//!
//! Three things are kept apart: the configured weight, which only an operator changes; the administrative state, which
//! drains and `disable` change; and health, which the checks find. Only this file combines them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::state::{AdminState, AdminStates};
use crate::config::keys::real_server::WEIGHT_MAX;
use crate::director::cluster::identity::predecessors;
use crate::director::cluster::{
    ClusterConfig, EffectiveWeights, RealServerConfig, Standing, VirtualServiceConfig,
};
use crate::health::view::ServiceView;
use crate::health::{Agreement, CheckConfig, Start, View};

/// The weight that the schedulers see of what health leaves; `None`: they do not see the real server.
pub const fn effective_weight(live: u32, state: AdminState) -> Option<u32> {
    match state {
        AdminState::Active => Some(live),
        AdminState::Draining { .. } | AdminState::Quiesced | AdminState::Disabled => Some(0),
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

fn of_service(
    service: &VirtualServiceConfig,
    states: &AdminStates,
    view: Option<&ServiceView>,
) -> BTreeMap<IpAddr, Option<Standing>> {
    let is_sorry_turn = view.map_or_else(|| lacks_others(service, states), |view| view.uses_sorry);
    let standing = |server: &RealServerConfig| {
        let (rip, configured) = (server.rip, server.weight);
        let live = match view.filter(|view| view.real_servers.contains_key(&rip)) {
            Some(view) => view.effective_weight(rip, configured, server.is_sorry).min(WEIGHT_MAX),
            None if server.is_sorry != is_sorry_turn || starts_down(service, server) => 0,
            None => configured,
        };
        let is_down = view.is_some_and(|view| view.is_down(rip));
        let on_down = is_down.then_some(service.health.on_down);
        let weight = effective_weight(live, states.of(&service.name, rip));
        weight.map(|weight| Standing { weight, on_down })
    };
    let all = service.real_servers.iter().map(|server| (server, standing(server)));
    all.filter(|(server, standing)| *standing != Some(server.weight.into()))
        .map(|(server, standing)| (server.rip, standing))
        .collect()
}

/// Whether a sorry server, but no other one, could get new connections if all of them were up.
fn lacks_others(service: &VirtualServiceConfig, states: &AdminStates) -> bool {
    let can_serve = |server: &&RealServerConfig| {
        server.weight > 0 && states.of(&service.name, server.rip) == AdminState::Active
    };
    let mut able = service.real_servers.iter().filter(can_serve).map(|server| server.is_sorry).peekable();
    able.peek().is_some() && able.all(|is_sorry| is_sorry)
}

/// Health after a change of the configuration that was not made by operations: it follows virtual services to their new
/// names.
pub fn carried_over(view: &View, before: &ClusterConfig, next: &ClusterConfig) -> View {
    let (old, next) = (&before.virtual_services, &next.virtual_services);
    let of = |(service, predecessor): (&VirtualServiceConfig, Option<usize>)| {
        let view = view.service(&old[predecessor?].name)?;
        Some((service.name.clone(), view.clone()))
    };
    View {
        services: next.iter().zip(predecessors(old, next)).filter_map(of).collect(),
        load: view.load.clone(),
    }
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
