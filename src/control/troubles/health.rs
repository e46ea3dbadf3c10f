//! What is wrong according to the checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::director::cluster::ClusterConfig;
use crate::health::view::{CheckView, ServerView};
use crate::health::{FailureClass, State, View};
use crate::trouble::{Found, TroubleKind};

/// Virtual services that one message names.
const NAMED_MAX: usize = 3;

/// Everything that is wrong according to the checks: virtual services first, then real servers, each once for all its
/// virtual services.
pub fn of_health(cluster: &ClusterConfig, view: &View) -> Vec<Found> {
    let mut found: Vec<Found> = view
        .services
        .iter()
        .flat_map(|(name, service)| {
            let of = |kind, text| Found { kind, subject: name.clone(), text };
            let lost = (!service.has_quorum)
                .then(|| of(TroubleKind::QuorumLost, quorum_lost(name, service.uses_sorry)));
            let open = service.fails_open.then(|| of(TroubleKind::FailOpen, fail_open(name)));
            lost.into_iter().chain(open).collect::<Vec<_>>()
        })
        .collect();
    let mut servers: BTreeMap<IpAddr, Vec<(&str, &ServerView)>> = BTreeMap::new();
    for service in &cluster.virtual_services {
        let name = service.name.as_str();
        for server in &service.real_servers {
            let seen = view.real_server(name, server.rip).map(|seen| (name, seen));
            seen.into_iter().for_each(|seen| servers.entry(server.rip).or_default().push(seen));
        }
    }
    for (rip, seen) in servers {
        found.extend(down(rip, &seen));
        found.extend(warning(rip, &seen));
    }
    found
}

fn quorum_lost(name: &str, uses_sorry: bool) -> String {
    let then = if uses_sorry { ", so that its sorry servers serve" } else { "" };
    format!(
        "virtual service {name} has lost its quorum{then}; bring its real servers up, see: lvs-tund status"
    )
}

fn fail_open(name: &str) -> String {
    format!(
        "virtual service {name} treats all its real servers as up, because fewer than min_healthy are; see: lvs-tund status"
    )
}

fn down(rip: IpAddr, seen: &[(&str, &ServerView)]) -> Option<Found> {
    let down: Vec<_> = seen.iter().filter(|(_, server)| is_found_down(server)).collect();
    let (_, first) = down.first()?;
    let names: Vec<&str> = down.iter().map(|(name, _)| *name).collect();
    let mut named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX {
        named.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    // What follows "; " is the remedy.
    let why = first.why().unwrap_or("no probe has succeeded yet").replace("; ", ", ");
    let remedy = remedy(first.failure(), rip);
    let text = format!("real server {rip} is down in {named}: {why}; {remedy}");
    Some(Found { kind: TroubleKind::RealServerDown, subject: rip.to_string(), text })
}

/// Whether a probe has failed. A real server that has only started in this state is no trouble.
fn is_found_down(server: &ServerView) -> bool {
    let is_probed = |check: &CheckView| check.state == State::Down && check.last.is_some();
    server.state == State::Down && server.checks.iter().any(is_probed)
}

fn warning(rip: IpAddr, seen: &[(&str, &ServerView)]) -> Option<Found> {
    let checks = || seen.iter().flat_map(|(_, server)| &server.checks);
    let of = |check: &CheckView| check.warning.as_ref().map(|words| (check.kind, words.replace("; ", ", ")));
    let (kind, words) = checks().find_map(of)?;
    let text = format!("real server {rip}: check {kind}: {words}");
    Some(Found { kind: TroubleKind::CheckWarning, subject: rip.to_string(), text })
}

/// The next step after a failure of this class.
fn remedy(class: Option<FailureClass>, rip: IpAddr) -> String {
    match class {
        Some(FailureClass::Refused) => {
            "start the application there, and let it listen on the VIP; type there: ss -ltn".to_owned()
        }
        Some(FailureClass::ProtocolUnreachable) => {
            "start the daemon there; type there: lvs-tund realserver --config realserver.toml".to_owned()
        }
        Some(FailureClass::Timeout) => {
            "type there: lvs-tund doctor realserver, which shows whether the VIP is bound and packets are unwrapped".to_owned()
        }
        Some(FailureClass::Unreachable) => format!("look at the path; type: ip route get {rip} and ping {rip}"),
        Some(FailureClass::Tls) => "look at the certificate and its dates, or at the check's options for TLS".to_owned(),
        Some(FailureClass::Mtu) => "raise the MTU of the path, or set path_mtu, see docs/mtu.md".to_owned(),
        Some(FailureClass::Command) => "run the check's command by hand; it gets the variables LVS_TUND_*".to_owned(),
        Some(FailureClass::Local) => "this host cannot make the probe: look at its limits and at the file's check".to_owned(),
        Some(
            FailureClass::Reset | FailureClass::Closed | FailureClass::Garbage | FailureClass::Unexpected,
        ) => "the application answers, but not as the check expects: look at its log".to_owned(),
        None => "type: lvs-tund doctor director".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::director::cluster::{RealServerConfig, VirtualServiceConfig};
    use crate::director::scheduler::rr;
    use crate::health::durations::Durations;
    use crate::health::view::ServiceView;
    use crate::packet::Protocol;
    use crate::time::Moment;

    fn rip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// These virtual services, each with two real servers.
    fn cluster(names: &[&str]) -> ClusterConfig {
        let service = |(port, name): (u16, &&str)| VirtualServiceConfig {
            real_servers: [1, 2].map(|last| RealServerConfig::new(rip(last), 1)).into(),
            ..VirtualServiceConfig::new(name, Protocol::Tcp, [172, 25, 3, 100].into(), port, &rr::ROW)
        };
        ClusterConfig {
            virtual_services: (1..).zip(names).map(service).collect(),
            ..ClusterConfig::default()
        }
    }

    fn check(failure: Option<FailureClass>, warning: Option<&str>) -> CheckView {
        let why = failure.map(|class| format!("{class} by 10.0.0.1; 3 of 3"));
        CheckView {
            kind: "tcp",
            state: if failure.is_some() { State::Down } else { State::Up },
            since: Moment::ZERO,
            contrary: 0,
            last: Some(failure.map_or(Ok(()), |class| Err((class, "words".to_owned())))),
            took: Duration::ZERO,
            durations: Durations::default(),
            why,
            cause: failure,
            warning: warning.map(str::to_owned),
            path_mtu: None,
            successes: 0,
            failures: BTreeMap::new(),
        }
    }

    fn server(check: CheckView) -> ServerView {
        let (state, since) = (check.state, Moment::ZERO);
        ServerView { state, is_enabled: true, since, weight: None, share: 1000, checks: vec![check] }
    }

    fn view(names: &[&str], first: &CheckView, service: &ServiceView) -> View {
        let servers = || [(rip(1), server(first.clone())), (rip(2), server(check(None, None)))];
        let service = |name: &&str| {
            ((*name).to_owned(), ServiceView { real_servers: servers().into(), ..service.clone() })
        };
        View { services: names.iter().map(service).collect(), ..View::default() }
    }

    fn told(names: &[&str], first: &CheckView, service: &ServiceView) -> Vec<(&'static str, String, String)> {
        let found = of_health(&cluster(names), &view(names, first, service));
        found.into_iter().map(|found| (found.kind.label(), found.subject, found.text)).collect()
    }

    fn well() -> ServiceView {
        ServiceView { has_quorum: true, ..ServiceView::default() }
    }

    #[test]
    fn what_is_up_is_no_trouble() {
        assert!(told(&["web"], &check(None, None), &well()).is_empty());
        assert!(of_health(&cluster(&["web"]), &View::default()).is_empty());
    }

    #[test]
    fn a_down_real_server_is_reported_once_with_its_services_the_reason_and_the_next_step() {
        let refused = check(Some(FailureClass::Refused), None);
        let expected = "real server 10.0.0.1 is down in web: refused by 10.0.0.1, 3 of 3; start the application there, and let \
                        it listen on the VIP; type there: ss -ltn";
        let told_of = told(&["web"], &refused, &well());
        assert_eq!(told_of, [("real_server_down", "10.0.0.1".to_owned(), expected.to_owned())]);
        let three = told(&["a", "b", "c"], &refused, &well());
        assert!(three.len() == 1 && three[0].2.contains("down in a, b, c: "), "{three:?}");
        let five = told(&["a", "b", "c", "d", "e"], &refused, &well());
        assert!(five.len() == 1 && five[0].2.contains("down in a, b, c and 2 more: "), "{five:?}");
    }

    #[test]
    fn a_real_server_that_starts_down_is_no_trouble_until_its_first_probe_has_failed() {
        let failed = check(Some(FailureClass::Timeout), None);
        let unknown = CheckView { last: None, ..failed.clone() };
        assert!(told(&["web"], &unknown, &well()).is_empty());
        assert_eq!(told(&["web"], &failed, &well()).len(), 1);
    }

    #[test]
    fn while_the_last_probe_has_succeeded_the_next_step_is_that_of_the_cause() {
        let gone = check(Some(FailureClass::ProtocolUnreachable), None);
        let signalled = CheckView { last: Some(Ok(())), ..gone.clone() };
        assert_eq!(told(&["web"], &signalled, &well()), told(&["web"], &gone, &well()));
        // The latest failure comes first: the daemon runs again, but not the application.
        let since = CheckView { cause: Some(FailureClass::Timeout), ..gone.clone() };
        let steps = told(&["web"], &since, &well());
        assert!(steps[0].2.contains("; start the daemon there"), "{steps:?}");
    }

    #[test]
    fn every_class_of_failure_has_a_next_step() {
        let mut steps: Vec<String> =
            FailureClass::ALL.iter().map(|class| remedy(Some(*class), rip(1))).collect();
        assert!(steps.iter().all(|step| step.len() > 20));
        steps.sort();
        steps.dedup();
        assert_eq!(steps.len(), 9, "answers of an application that runs have one");
        assert_eq!(remedy(None, rip(1)), "type: lvs-tund doctor director");
    }

    #[test]
    fn a_warning_of_a_check_is_reported_though_the_real_server_is_up() {
        let expiring = check(None, Some("the certificate expires in 5 days"));
        let text = "real server 10.0.0.1: check tcp: the certificate expires in 5 days";
        let expected = [("check_warning", "10.0.0.1".to_owned(), text.to_owned())];
        assert_eq!(told(&["web", "api"], &expiring, &well()), expected);
    }

    #[test]
    fn a_service_without_quorum_and_one_that_fails_open_are_reported() {
        let up = check(None, None);
        let lost = ServiceView::default();
        let told_of = told(&["web"], &up, &lost);
        assert_eq!((told_of[0].0, told_of[0].1.as_str(), told_of.len()), ("quorum_lost", "web", 1));
        assert!(!told_of[0].2.contains("sorry"));
        let sorry = ServiceView { uses_sorry: true, ..lost };
        assert!(told(&["web"], &up, &sorry)[0].2.contains("so that its sorry servers serve"));
        let open = ServiceView { fails_open: true, ..well() };
        let told_of = told(&["web"], &up, &open);
        assert_eq!((told_of[0].0, told_of[0].1.as_str(), told_of.len()), ("fail_open", "web", 1));
    }
}
