//! What follows from the checks: other weights, events, lines in the log, and the programs of `on_change`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Cluster, Control};
use crate::control::model::{Change, Changed, CheckNow, EventKind, Operation};
use crate::control::operation::selected;
use crate::control::{Code, ControlError};
use crate::daemon::clock;
use crate::daemon::health::{Ask, Hooks, News, Wanted};
use crate::director::cluster::{ClusterConfig, VirtualService, VirtualServiceConfig};
use crate::director::real_server::RealServer;
use crate::director::server_errors::Cause;
use crate::health::half_open::{HalfOpenWatch, Handshakes, ServerKey};
use crate::health::judge::{Event, Flapper, Signal};
use crate::health::{self, FailureClass, Via, View};
use crate::host::Probed;
use crate::time::Moment;
use crate::trouble::Source;

/// What the control task has of the checks.
pub(in crate::daemon) struct Checks {
    pub wanted: watch::Sender<Arc<Wanted>>,
    pub asks: mpsc::Sender<Ask>,
    pub hooks: Hooks,
    pub half_open: HalfOpenWatch,
    /// The configuration for whose checks the host is prepared.
    pub prepared: Option<Arc<ClusterConfig>>,
}

impl Control {
    /// The checks have found something.
    pub(super) async fn on_health(&mut self, news: News) {
        let before = self.running.in_force();
        self.running.health = news.view;
        let in_force = self.running.in_force();
        if before != in_force {
            let latest = self.latest.load_full();
            self.install(latest.succeed(in_force, latest.host().clone()));
        }
        // Ahead of what the API shows, so that a reason stands next to each state.
        if !news.events.is_empty() {
            self.report_found_by_checks();
        }
        apply_measured(&self.latest.load(), &self.running.health, self.shared.clock.now());
        self.publish();
        let healthy = healthy_vips(&self.running.cluster, &self.running.health);
        self.host.announce_healthy(healthy).await;
        if news.dropped > 0 {
            let dropped = news.dropped;
            tracing::warn!(
                kind = "events_dropped",
                dropped,
                "director: {dropped} older changes of health are not reported"
            );
        }
        for event in &news.events {
            if !is_expected(event) {
                self.report_health(event);
            }
            let (config, view) = (&self.running.cluster, &self.running.health);
            self.checks.hooks.report(event, config, view, clock::since_epoch());
        }
        self.watch.report(Source::Checks, news.troubles);
    }

    /// Prepares the host for the checks of the running configuration, and then passes it to them.
    pub(in crate::daemon) async fn follow_checks(&mut self) {
        self.prepare_probes().await;
        self.pass_on();
    }

    /// Passes the active configuration to the checks, and the programs to the hooks.
    fn pass_on(&mut self) {
        let cluster = self.latest.load();
        let (config, states) = (&self.running.cluster, &self.running.states);
        if !self.checks.wanted.borrow().is_of(config, states, cluster.host()) {
            self.checks.hooks.follow(&config.on_change);
            self.checks.hooks.keep(&config.virtual_services.iter().map(|it| it.name.as_str()).collect());
            let wanted = Wanted::new(config.clone(), states.clone(), cluster.host());
            self.checks.wanted.send_replace(Arc::new(wanted));
        }
    }

    /// Prepares the host for the checks that go through the tunnel.
    async fn prepare_probes(&mut self) {
        let config = self.running.cluster.clone();
        if self.checks.prepared.as_ref().is_some_and(|prepared| Arc::ptr_eq(prepared, &config)) {
            return;
        }
        match self.host.set_probed(probed(&config)).await {
            Ok(()) => self.checks.prepared = Some(config),
            Err(error) => tracing::warn!(
                kind = "probes_not_prepared",
                "director: the host is not ready for checks through the tunnel: {error}"
            ),
        }
    }

    /// A real server that an operator has enabled is probed at once.
    pub(super) fn check_enabled(&self, change: &Change) {
        let enabled = change.operations.iter().filter_map(|operation| match operation {
            Operation::Enable { real_server, .. } | Operation::Undrain { real_server, .. } => {
                Some(real_server)
            }
            _ => None,
        });
        let servers = || self.running.cluster.virtual_services.iter().flat_map(|it| &it.real_servers);
        for given in enabled.filter(|_| !change.dry_run) {
            let found = servers().find(|server| server.name == *given || server.rip.to_string() == *given);
            let real_server = found.map(|server| server.rip);
            let _ = self.checks.asks.try_send(Ask::CheckNow { virtual_service: None, real_server });
        }
    }

    /// Packets that the kernel refuses for want of a neighbour are a reason for a probe.
    pub(super) fn suspect_silent_servers(&self, now: Moment) {
        for rip in without_neighbour(&self.latest.load(), now) {
            // A full queue contains the same already.
            let _ = self.checks.asks.try_send(Ask::Suspect(rip, Signal::NoNeighbour));
        }
    }

    /// Real servers whose connections stay half open while those of the others do not are a reason for a probe.
    pub(super) fn compare_handshakes(&mut self, now: Moment) {
        if !self.checks.half_open.is_due(now) {
            return;
        }
        for (rip, signal) in self.checks.half_open.look(handshakes(&self.latest.load()), now) {
            let _ = self.checks.asks.try_send(Ask::Suspect(rip, signal));
        }
    }

    /// Requests probes at once; the answer does not wait for them.
    pub(super) fn check_now(&self, request: &CheckNow) -> Result<Changed, ControlError> {
        let CheckNow { virtual_service, real_server } = request;
        for (virtual_service, real_server) in
            selected(&self.running, virtual_service.as_ref(), real_server.as_deref())?
        {
            let ask = Ask::CheckNow { virtual_service, real_server };
            let busy =
                |_| ControlError::new(Code::Busy, "too many requests for probes wait; repeat it later");
            self.checks.asks.try_send(ask).map_err(busy)?;
        }
        Ok(Changed { generation: self.generation, dry_run: false, differences: Vec::new() })
    }

    /// One line and one event.
    fn report_health(&self, event: &Event) {
        let (what, text) = described(event);
        let (kind, virtual_service) = (label(what), event.service());
        let real_server = match event {
            Event::Up { rip, .. } | Event::Down { rip, .. } => Some(rip.to_string()),
            _ => None,
        };
        match what {
            EventKind::RealServerUp
            | EventKind::QuorumGained
            | EventKind::FailOpenOver
            | EventKind::Settled => {
                tracing::info!(kind, virtual_service, real_server, "director: {text}");
            }
            _ => tracing::warn!(kind, virtual_service, real_server, "director: {text}"),
        }
        self.tell("checks", what, text, Vec::new());
    }
}

/// Quorum at the start is as expected: only hooks are notified.
fn is_expected(event: &Event) -> bool {
    matches!(event, Event::QuorumGained { cause: health::Cause::Start, .. })
}

/// The path MTU follows what checks have measured: smaller than expected, or large enough after all.
fn apply_measured(cluster: &Cluster, view: &View, now: Moment) {
    for service in cluster.in_order() {
        let Some(seen) = view.service(&service.config.name) else { continue };
        for server in &service.real_servers {
            let checks = seen.real_servers.get(&server.config.rip).map_or(&[][..], |seen| &seen.checks);
            for check in checks {
                let Some(measured) = check.path_mtu else { continue };
                match &check.last {
                    Some(Ok(())) if check.warning.is_none() => server.soft.pass_mtu(measured, now),
                    Some(Ok(()) | Err((FailureClass::Mtu, _))) => server.soft.measure_mtu(measured, now),
                    _ => {}
                }
            }
        }
    }
}

/// The targets of the checks that go through the tunnel.
pub(in crate::daemon) fn probed(config: &ClusterConfig) -> Probed {
    let mut probed = Probed::default();
    for service in &config.virtual_services {
        for server in &service.real_servers {
            let checks = server.checks.as_deref().unwrap_or(&service.health.checks);
            if checks.iter().any(|check| check.way() == Via::Tunnel) {
                // A probe is addressed to the VIP of the first matcher.
                probed.vips.extend(service.vips().next());
                probed.rips.insert(server.rip);
            }
        }
    }
    probed
}

/// The handshakes of every real server.
fn handshakes(cluster: &Cluster) -> HashMap<ServerKey, Handshakes> {
    let of = |service: &VirtualService, server: &RealServer| {
        let (begun, completed) = server.live.handshakes.totals();
        ((service.config.name.clone(), server.rip.into()), Handshakes { begun, completed })
    };
    let services = cluster.in_order().iter();
    services.flat_map(|service| service.real_servers.iter().map(move |server| of(service, server))).collect()
}

/// The VIPs with a virtual service that has quorum or fails open.
fn healthy_vips(config: &ClusterConfig, view: &View) -> BTreeSet<Ipv4Addr> {
    let is_healthy = |service: &&VirtualServiceConfig| {
        view.service(&service.name).is_none_or(|view| view.has_quorum || view.fails_open)
    };
    let vips = config.virtual_services.iter().filter(is_healthy).flat_map(VirtualServiceConfig::vips);
    vips.filter_map(|vip| if let IpAddr::V4(vip) = vip { Some(vip) } else { None }).collect()
}

/// The RIPs of real servers to which the kernel has refused packets lately because no neighbour answers.
fn without_neighbour(cluster: &Cluster, now: Moment) -> Vec<IpAddr> {
    let servers = cluster.in_order().iter().flat_map(|service| &service.real_servers);
    let is_silent = |cause: Cause| cause == Cause::HostUnreachable;
    let silent = servers.filter(|server| {
        server.live.errors_so_far().is_some_and(|errors| errors.present(now).any(is_silent))
    });
    let mut rips: Vec<IpAddr> = silent.map(|server| server.rip.into()).collect();
    rips.sort();
    rips.dedup();
    rips
}

/// The kind of the event, and a sentence about it.
fn described(event: &Event) -> (EventKind, String) {
    let of_flapper = |service: &str, what: &Flapper| match what {
        Flapper::RealServer { real_server, rip } => {
            format!("{service}: real server {}", named(real_server, *rip))
        }
        Flapper::Quorum => format!("{service}: quorum"),
        Flapper::FailOpen => format!("{service}: fail-open"),
    };
    match event {
        Event::Up { service, real_server, rip, .. } => {
            (EventKind::RealServerUp, format!("{service}: real server {} is up", named(real_server, *rip)))
        }
        Event::Down { service, real_server, rip, why, .. } => {
            let server = named(real_server, *rip);
            (EventKind::RealServerDown, format!("{service}: real server {server} is down: {why}"))
        }
        Event::QuorumGained { service, .. } => {
            (EventKind::QuorumGained, format!("{service}: enough real servers are up (quorum gained)"))
        }
        Event::QuorumLost { service, .. } => {
            (EventKind::QuorumLost, format!("{service}: too few real servers are up (quorum lost)"))
        }
        Event::FailOpen { service } => (
            EventKind::FailOpen,
            format!("{service}: fewer real servers than min_healthy are up, so all count as up (fail-open)"),
        ),
        Event::FailOpenOver { service } => (
            EventKind::FailOpenOver,
            format!("{service}: min_healthy real servers are up again (fail-open over)"),
        ),
        Event::Flapping { service, what, changes, within } => {
            let (what, within) = (of_flapper(service, what), humantime::format_duration(*within));
            let text = format!(
                "{what} flaps: {changes} changes in {within}; until it settles, a recovery is reported only every five minutes"
            );
            (EventKind::Flapping, text)
        }
        Event::Settled { service, what, changes, within } => {
            let (what, within) = (of_flapper(service, what), humantime::format_duration(*within));
            (EventKind::Settled, format!("{what} has settled after {changes} changes in {within}"))
        }
    }
}

/// The name, and the RIP unless that is the name.
fn named(name: &str, rip: IpAddr) -> String {
    let rip = rip.to_string();
    if name == rip { rip } else { format!("{name} ({rip})") }
}

/// The field `kind` of the log.
const fn label(what: EventKind) -> &'static str {
    match what {
        EventKind::RealServerUp => "real_server_up",
        EventKind::RealServerDown => "real_server_down",
        EventKind::QuorumGained => "quorum_gained",
        EventKind::QuorumLost => "quorum_lost",
        EventKind::FailOpen => "fail_open",
        EventKind::FailOpenOver => "fail_open_over",
        EventKind::Flapping => "flapping",
        EventKind::Settled => "settled",
        _ => "health",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::director::scheduler::rr;
    use crate::health::view::ServiceView;
    use crate::packet::Protocol;

    #[test]
    fn an_event_is_a_sentence_with_service_real_server_and_reason() {
        let (service, rip) = ("web".to_owned(), IpAddr::from([172, 25, 3, 2]));
        let text = |event: &Event| described(event).1;
        let down = |real_server: &str| Event::Down {
            service: service.clone(),
            real_server: real_server.to_owned(),
            rip,
            why: "connection refused by 172.25.3.2, 3 of 3".to_owned(),
            cause: health::Cause::Change,
        };
        assert_eq!(
            text(&down("server2")),
            "web: real server server2 (172.25.3.2) is down: connection refused by 172.25.3.2, 3 of 3"
        );
        assert!(text(&down("172.25.3.2")).starts_with("web: real server 172.25.3.2 is down"));
        let flapping =
            Event::Flapping { service, what: Flapper::Quorum, changes: 7, within: Duration::from_secs(59) };
        assert_eq!(
            text(&flapping),
            "web: quorum flaps: 7 changes in 59s; until it settles, a recovery is reported only every five minutes"
        );
    }

    #[test]
    fn a_vip_is_healthy_while_one_of_its_services_has_quorum_or_fails_open() {
        let service = |name: &str, last: u8| {
            let vip = [172, 25, 3, last].into();
            VirtualServiceConfig::new(name, Protocol::Tcp, vip, 80, &rr::ROW)
        };
        let names = ["a", "b", "open", "unchecked"];
        let virtual_services =
            names.iter().zip([100, 100, 101, 102]).map(|(name, last)| service(name, last)).collect();
        let config = ClusterConfig { virtual_services, ..ClusterConfig::default() };
        let healthy = |a: bool, b: bool, fails_open: bool| {
            let of =
                |has_quorum, fails_open| ServiceView { has_quorum, fails_open, ..ServiceView::default() };
            let services = [("a", of(a, false)), ("b", of(b, false)), ("open", of(false, fails_open))];
            let services = services.map(|(name, view)| (name.to_owned(), view)).into();
            healthy_vips(&config, &View { services, ..View::default() })
                .iter()
                .map(|vip| vip.octets()[3])
                .collect::<Vec<_>>()
        };
        assert_eq!(healthy(true, true, true), [100, 101, 102]);
        assert_eq!(healthy(false, true, false), [100, 102]);
        assert_eq!(healthy(false, false, true), [101, 102]);
    }

    #[test]
    fn the_kind_in_the_log_is_the_word_of_the_api() {
        for what in [
            EventKind::RealServerUp,
            EventKind::RealServerDown,
            EventKind::QuorumGained,
            EventKind::QuorumLost,
            EventKind::FailOpen,
            EventKind::FailOpenOver,
            EventKind::Flapping,
            EventKind::Settled,
        ] {
            assert_eq!(serde_json::to_value(what).unwrap(), label(what));
        }
    }
}
