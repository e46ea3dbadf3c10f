//! The series of what the checks have found. A virtual service or a real server without checks has none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::names;
use super::{Family, Lines, Samples, ServerRow, ServiceRow, family};
use crate::health::durations::Durations;
use crate::health::view::{CheckView, ServerView, ServiceView};
use crate::health::{Load, State};
use crate::time::Moment;

pub(super) const FAMILIES: &[Family] = &[
    family(names::SERVICE_QUORUM, Samples::ServiceLines(quorum)),
    family(names::SERVICE_FAILS_OPEN, Samples::ServiceLines(fails_open)),
    family(names::SERVICE_USES_SORRY, Samples::ServiceLines(uses_sorry)),
    family(names::PROBE_DELAY, Samples::LoadLines(delay)),
    family(names::SERVER_UP, Samples::ServerLines(up)),
    family(names::SERVER_STATE_AGE, Samples::ServerLines(state_age)),
    family(names::SERVER_PROBES, Samples::ServerLines(probes)),
    family(names::SERVER_PROBE_DURATION, Samples::ServerLines(duration)),
    family(names::SERVER_PATH_MTU_FOUND, Samples::ServerLines(path_mtu)),
    family(names::SERVER_CHECK_WARNING, Samples::ServerLines(warning)),
];

/// Of a virtual service.
pub(super) struct OfService {
    has_quorum: bool,
    fails_open: bool,
    uses_sorry: bool,
}

impl From<&ServiceView> for OfService {
    fn from(view: &ServiceView) -> OfService {
        let ServiceView { has_quorum, fails_open, uses_sorry, .. } = *view;
        OfService { has_quorum, fails_open, uses_sorry }
    }
}

/// Of a real server.
pub(super) struct OfServer {
    is_up: bool,
    state_age: Duration,
    /// By kind of check.
    checks: BTreeMap<&'static str, OfChecks>,
}

/// Of all checks of one kind.
#[derive(Default)]
struct OfChecks {
    /// By outcome.
    probes: BTreeMap<&'static str, u64>,
    durations: Durations,
    path_mtu: Option<u16>,
    has_warning: bool,
}

impl OfChecks {
    fn add(&mut self, check: &CheckView) {
        *self.probes.entry("success").or_default() += check.successes;
        for (class, count) in &check.failures {
            *self.probes.entry(class.label()).or_default() += count;
        }
        self.durations.merge(&check.durations);
        self.path_mtu = self.path_mtu.into_iter().chain(check.path_mtu).min();
        self.has_warning |= check.warning.is_some();
    }
}

impl OfServer {
    /// `None`: it has no check.
    pub(super) fn of(view: &ServerView, now: Moment) -> Option<OfServer> {
        let mut checks: BTreeMap<&'static str, OfChecks> = BTreeMap::new();
        for check in &view.checks {
            checks.entry(check.kind).or_default().add(check);
        }
        let (is_up, state_age) = (view.state == State::Up, now.since(view.since));
        (view.state != State::Unchecked).then_some(OfServer { is_up, state_age, checks })
    }
}

fn quorum(lines: &mut Lines, row: &ServiceRow) {
    row.health.iter().for_each(|health| lines.add(&[], row, None, health.has_quorum.into()));
}

fn fails_open(lines: &mut Lines, row: &ServiceRow) {
    row.health.iter().for_each(|health| lines.add(&[], row, None, health.fails_open.into()));
}

fn uses_sorry(lines: &mut Lines, row: &ServiceRow) {
    row.health.iter().for_each(|health| lines.add(&[], row, None, health.uses_sorry.into()));
}

fn delay(lines: &mut Lines, load: &Load) {
    for (kind, line) in load.by_label() {
        lines.add_histogram(&[("kind", kind)], &line.delays);
    }
}

fn up(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    server.health.iter().for_each(|health| lines.add(&[], service, Some(server), health.is_up.into()));
}

fn state_age(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    let seconds = |health: &OfServer| health.state_age.as_secs();
    server.health.iter().for_each(|health| lines.add(&[], service, Some(server), seconds(health)));
}

/// Calls `add` with each kind of check.
fn each(server: &ServerRow, mut add: impl FnMut(&str, &OfChecks)) {
    let checks = server.health.iter().flat_map(|health| &health.checks);
    checks.for_each(|(kind, checks)| add(kind, checks));
}

fn probes(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    each(server, |kind, checks| {
        for (outcome, count) in &checks.probes {
            lines.add(&[("check", kind), ("outcome", outcome)], service, Some(server), *count);
        }
    });
}

fn duration(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    let (service, server_name) = (&service.service.config.name, &server.server.config.name);
    each(server, |kind, checks| {
        let labels = [("virtual_service", &**service), ("real_server", server_name), ("check", kind)];
        lines.add_histogram(&labels, &checks.durations);
    });
}

fn path_mtu(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    each(server, |_, checks| {
        checks.path_mtu.iter().for_each(|mtu| lines.add(&[], service, Some(server), u64::from(*mtu)));
    });
}

fn warning(lines: &mut Lines, service: &ServiceRow, server: &ServerRow) {
    each(server, |kind, checks| {
        lines.add(&[("check", kind)], service, Some(server), checks.has_warning.into());
    });
}
