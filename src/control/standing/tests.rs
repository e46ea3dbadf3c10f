//! Weights from configuration, administrative state and health, in tables.

use std::sync::Arc;

use super::*;
use crate::control::model::AfterDrain;
use crate::director::scheduler::rr;
use crate::health::view::ServerView;
use crate::health::{CHECKS, OnDown, State};
use crate::packet::Protocol;
use crate::time::Moment;

fn rip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// Real servers 1, 2 … with these weights; those from `sorry_from` on are sorry servers.
fn service(weights: &[u32], sorry_from: usize) -> VirtualServiceConfig {
    let server = |(last, (index, weight)): (u8, (usize, &u32))| RealServerConfig {
        is_sorry: index >= sorry_from,
        ..RealServerConfig::new(rip(last), *weight)
    };
    VirtualServiceConfig {
        real_servers: (1..).zip(weights.iter().enumerate()).map(server).collect(),
        ..VirtualServiceConfig::new("web", Protocol::Tcp, [172, 25, 3, 100].into(), 80, &rr::ROW)
    }
}

fn seen(state: State) -> ServerView {
    ServerView { state, is_enabled: true, since: Moment::ZERO, weight: None, share: 1000, checks: Vec::new() }
}

/// The health of real servers 1, 2 …
fn health(uses_sorry: bool, fails_open: bool, servers: &[ServerView]) -> ServiceView {
    let real_servers = (1..).map(rip).zip(servers.iter().cloned()).collect();
    ServiceView { has_quorum: !uses_sorry, fails_open, uses_sorry, real_servers }
}

/// What schedulers see: of each real server its weight, and whether `on_down` applies to it.
fn effective(
    service: &VirtualServiceConfig,
    states: &AdminStates,
    view: Option<&ServiceView>,
) -> Vec<Option<(u32, Option<OnDown>)>> {
    let standings = of_service(service, states, view);
    let of = |server: &RealServerConfig| {
        let standing = standings.get(&server.rip).copied().unwrap_or(Some(server.weight.into()));
        standing.map(|standing| (standing.weight, standing.on_down))
    };
    service.real_servers.iter().map(of).collect()
}

fn weights(service: &VirtualServiceConfig, view: Option<&ServiceView>) -> Vec<u32> {
    let all = effective(service, &AdminStates::default(), view);
    all.into_iter().map(|seen| seen.expect("a real server that is there").0).collect()
}

#[test]
fn an_administrative_state_takes_the_weight_or_the_real_server_and_an_active_one_keeps_both() {
    let draining = AdminState::Draining { until: None, then: AfterDrain::Keep };
    for (state, expected) in [
        (AdminState::Active, Some(3)),
        (draining, Some(0)),
        (AdminState::Quiesced, Some(0)),
        (AdminState::Disabled, Some(0)),
        (AdminState::Removed, None),
    ] {
        assert_eq!(effective_weight(3, state), expected, "{}", state.word());
        let mut states = AdminStates::default();
        states.set("web", rip(1), state);
        let seen = effective(&service(&[3, 1], 2), &states, None);
        assert_eq!(seen, [expected.map(|weight| (weight, None)), Some((1, None))], "{}", state.word());
    }
}

#[test]
fn only_real_servers_that_the_schedulers_see_otherwise_than_configured_are_listed() {
    let cluster = ClusterConfig { virtual_services: vec![service(&[3, 0], 2)], ..ClusterConfig::default() };
    let mut states = AdminStates::default();
    assert!(effective_weights(&cluster, &states, &View::default()).is_empty());
    states.set("web", rip(2), AdminState::Disabled);
    assert!(effective_weights(&cluster, &states, &View::default()).is_empty(), "its weight is 0 anyway");
    states.set("web", rip(1), AdminState::Disabled);
    let expected = EffectiveWeights::from([("web".to_owned(), BTreeMap::from([(rip(1), Some(0.into()))]))]);
    assert_eq!(effective_weights(&cluster, &states, &View::default()), expected);
    let view = View {
        services: BTreeMap::from([("web".to_owned(), health(false, false, &[seen(State::Down)]))]),
        ..View::default()
    };
    let down = Some(Standing { weight: 0, on_down: Some(OnDown::Quiesce) });
    let expected = EffectiveWeights::from([("web".to_owned(), BTreeMap::from([(rip(1), down)]))]);
    assert_eq!(effective_weights(&cluster, &AdminStates::default(), &view), expected);
}

#[test]
fn the_weight_that_health_leaves_is_what_the_schedulers_see() {
    let up = |weight, share| ServerView { weight, share, ..seen(State::Up) };
    for (configured, server, expected) in [
        (5, up(None, 1000), 5),
        (5, up(Some(9), 1000), 9),
        (5, up(Some(0), 1000), 0),
        (0, up(Some(9), 1000), 0),
        (5, up(None, 201), 2),
        (WEIGHT_MAX, up(None, 1000), WEIGHT_MAX),
        (1, up(Some(u32::MAX), 1000), WEIGHT_MAX),
        (5, seen(State::Unchecked), 5),
        (5, ServerView { weight: Some(9), ..seen(State::Down) }, 0),
    ] {
        let view = health(false, false, &[server]);
        assert_eq!(
            weights(&service(&[configured, 1], 2), Some(&view)),
            [expected, 1],
            "{configured} {view:?}"
        );
    }
}

#[test]
fn a_down_real_server_has_no_weight_and_the_fate_that_on_down_sets() {
    for on_down in [OnDown::Quiesce, OnDown::Drain, OnDown::Remove] {
        let mut service = service(&[3, 1], 2);
        service.health.on_down = on_down;
        let view = health(false, false, &[seen(State::Down), seen(State::Up)]);
        let down = effective(&service, &AdminStates::default(), Some(&view));
        assert_eq!(down, [Some((0, Some(on_down))), Some((1, None))]);
        let mut states = AdminStates::default();
        states.set("web", rip(1), AdminState::Disabled);
        assert_eq!(
            effective(&service, &states, Some(&view))[0],
            Some((0, Some(on_down))),
            "also if it is disabled"
        );
        let open = ServiceView { fails_open: true, ..view };
        assert_eq!(
            effective(&service, &AdminStates::default(), Some(&open)),
            [Some((3, None)), Some((1, None))]
        );
    }
}

#[test]
fn a_sorry_server_serves_when_the_judge_decides_so_and_the_others_do_not() {
    let (up, down) = (seen(State::Up), seen(State::Down));
    let two = service(&[3, 2, 7], 2);
    for (view, expected) in [
        (health(false, false, &[up.clone(), up.clone(), up.clone()]), [3, 2, 0]),
        (health(false, false, &[up.clone(), down.clone(), up.clone()]), [3, 0, 0]),
        (health(true, false, &[up.clone(), down.clone(), up.clone()]), [0, 0, 7]),
        (health(true, false, &[up.clone(), down.clone()]), [0, 0, 7]),
        (health(false, true, &[down.clone(), down.clone()]), [3, 2, 0]),
    ] {
        assert_eq!(weights(&two, Some(&view)), expected, "{view:?}");
    }
    let view = health(true, false, &[up.clone(), down, up]);
    let seen = effective(&two, &AdminStates::default(), Some(&view));
    assert_eq!(
        seen,
        [Some((0, None)), Some((0, Some(OnDown::Quiesce))), Some((7, None))],
        "only one is down"
    );
}

#[test]
fn a_sorry_server_without_checks_serves_if_no_other_could() {
    for (given, sorry_from, disabled, expected) in [
        (&[3, 7][..], 1, &[][..], &[3, 0][..]),
        (&[3, 7], 1, &[1], &[0, 7]),
        (&[3, 7], 1, &[1, 2], &[0, 0]),
        (&[3, 7], 1, &[2], &[3, 0]),
        (&[0, 7], 1, &[], &[0, 7]),
        (&[0, 0], 1, &[], &[0, 0]),
        (&[7, 7], 0, &[], &[7, 7]),
        (&[3, 2, 7, 8], 2, &[1], &[0, 2, 0, 0]),
        (&[3, 2, 7, 8], 2, &[1, 2, 3], &[0, 0, 0, 8]),
    ] {
        let mut states = AdminStates::default();
        disabled.iter().for_each(|last| states.set("web", rip(*last), AdminState::Disabled));
        let seen = effective(&service(given, sorry_from), &states, None);
        let seen: Vec<u32> = seen.into_iter().map(|seen| seen.expect("there").0).collect();
        assert_eq!(seen, expected, "{given:?} {disabled:?}");
    }
}

#[test]
fn a_real_server_whose_checks_begin_with_down_has_no_weight_until_it_is_seen() {
    let check = |start| CheckConfig { start, ..CheckConfig::new(CHECKS[0]) };
    for (starts, agreement, expected) in [
        (&[Start::Up][..], Agreement::All, 1),
        (&[Start::Down], Agreement::All, 0),
        (&[Start::Up, Start::Down], Agreement::All, 0),
        (&[Start::Up, Start::Down], Agreement::Any, 1),
        (&[Start::Down, Start::Down], Agreement::Any, 0),
        (&[], Agreement::Any, 1),
        (&[], Agreement::All, 1),
    ] {
        let checks: Arc<[CheckConfig]> = starts.iter().map(|start| check(*start)).collect();
        let mut service = service(&[1, 1], 2);
        service.real_servers[1].checks = Some(Arc::default());
        (service.health.checks, service.health.agreement) = (checks.clone(), agreement);
        assert_eq!(weights(&service, None), [expected, 1], "{starts:?} {agreement:?}");
        service.health.checks = Arc::default();
        service.real_servers[0].checks = Some(checks);
        assert_eq!(weights(&service, None), [expected, 1], "{starts:?} {agreement:?}");
        let view = health(false, false, &[seen(State::Up)]);
        assert_eq!(weights(&service, Some(&view)), [1, 1]);
    }
}

#[test]
fn health_follows_a_virtual_service_to_its_new_name_and_ends_with_it() {
    let cluster = |name: &str, port: u16| {
        let mut service = service(&[1], 1);
        (service.name, service.matchers[0].ports) =
            (name.to_owned(), port.to_string().parse().expect("a port"));
        ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() }
    };
    let view = View {
        services: BTreeMap::from([("web".to_owned(), health(false, false, &[seen(State::Down)]))]),
        ..View::default()
    };
    let carried = carried_over(&view, &cluster("web", 80), &cluster("www", 80));
    assert_eq!(carried.service("www"), view.service("web"));
    assert_eq!(carried.services.len(), 1);
    assert_eq!(carried_over(&view, &cluster("web", 80), &cluster("web", 80)), view);
    assert!(carried_over(&view, &cluster("web", 80), &cluster("api", 81)).services.is_empty());
}
