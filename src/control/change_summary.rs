//! The report of a change: the differences, and one sentence.

use super::model::EventKind;
use super::operation::{Running, Zeroed};
use crate::config::diff::{self, Difference};
use crate::director::cluster::identity::predecessors;

/// The most differences that one log line names.
const LOGGED_MAX: usize = 8;

/// What is different between two configurations, administrative states included.
pub fn differences(old: &Running, new: &Running) -> Vec<Difference> {
    let mut found = diff::defaults(&old.defaults, &new.defaults);
    found.extend(diff::clusters(&old.cluster, &new.cluster));
    states(&mut found, old, new);
    found
}

fn states(found: &mut Vec<Difference>, old: &Running, new: &Running) {
    if old.states == new.states {
        return;
    }
    let (before, after) = (&old.cluster.virtual_services, &new.cluster.virtual_services);
    for (service, predecessor) in after.iter().zip(predecessors(before, after)) {
        let name_before = predecessor.map(|index| before[index].name.as_str());
        for server in &service.real_servers {
            let from = name_before.map(|name| old.states.of(name, server.rip)).unwrap_or_default().word();
            let to = new.states.of(&service.name, server.rip).word();
            if from != to {
                found.push(Difference {
                    virtual_service: Some(service.name.clone()),
                    real_server: Some(server.name.clone()),
                    key: Some("state".to_owned()),
                    from: Some(from.to_owned()),
                    to: Some(to.to_owned()),
                });
            }
        }
    }
}

/// One sentence about a change.
pub fn summary(differences: &[Difference], zeroed: &Zeroed) -> String {
    let mut parts: Vec<String> = differences.iter().take(LOGGED_MAX).map(Difference::to_string).collect();
    if let Some(more) = differences.len().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    match zeroed {
        Zeroed::Nothing => {}
        Zeroed::All => parts.push("statistics zeroed".to_owned()),
        Zeroed::VirtualServices(names) => {
            parts.extend(names.iter().take(LOGGED_MAX).map(|name| format!("{name}: statistics zeroed")));
        }
    }
    parts.join("; ")
}

/// The kind of change, in the log.
pub fn word(what: EventKind) -> &'static str {
    match what {
        EventKind::Replaced => "configuration replaced",
        EventKind::Reloaded => "reloaded",
        _ => "changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::{AdminState, AdminStates};
    use crate::director::cluster::{ClusterConfig, RealServerConfig, VirtualServiceConfig};
    use crate::director::scheduler::rr;
    use crate::packet::Protocol;

    fn running(name: &str, states: &[(u8, AdminState)]) -> Running {
        let vip = "172.25.3.100".parse().unwrap();
        let mut service = VirtualServiceConfig::new(name, Protocol::Tcp, vip, 80, &rr::ROW);
        service.real_servers =
            [2, 3].map(|last| RealServerConfig::new([172, 25, 3, last].into(), 1)).to_vec();
        let mut admin = AdminStates::default();
        for (last, state) in states {
            admin.set(name, [172, 25, 3, *last].into(), *state);
        }
        let cluster = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
        Running { cluster: cluster.into(), states: admin, ..Running::default() }
    }

    fn lines(old: &Running, new: &Running) -> Vec<String> {
        differences(old, new).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn a_change_of_state_is_a_difference_of_its_real_server() {
        let drained = running("web", &[(3, AdminState::Quiesced)]);
        assert_eq!(lines(&running("web", &[]), &drained), ["web 172.25.3.3: state active -> quiesced"]);
        assert_eq!(lines(&drained, &running("web", &[])), ["web 172.25.3.3: state quiesced -> active"]);
        assert_eq!(lines(&drained, &drained), Vec::<String>::new());
    }

    #[test]
    fn a_state_that_moves_with_a_renamed_service_is_no_difference() {
        let quiesced = [(3, AdminState::Quiesced)];
        let renamed = lines(&running("web", &quiesced), &running("shop", &quiesced));
        assert!(!renamed.is_empty() && renamed.iter().all(|line| !line.contains("state")), "{renamed:?}");
    }

    #[test]
    fn a_change_of_the_defaults_is_a_difference_too() {
        let (old, mut new) = (running("web", &[]), running("web", &[]));
        new.defaults.timeouts.udp += std::time::Duration::from_secs(1);
        assert_eq!(lines(&old, &new).len(), 1);
    }

    #[test]
    fn a_summary_names_eight_differences_and_counts_the_rest() {
        let difference = |number: usize| Difference {
            virtual_service: Some(format!("s{number}")),
            real_server: None,
            key: None,
            from: None,
            to: Some("rr".to_owned()),
        };
        let summary_of = |count: usize| {
            let differences: Vec<Difference> = (1..=count).map(difference).collect();
            summary(&differences, &Zeroed::Nothing)
        };
        let eight = "s1: added; s2: added; s3: added; s4: added; s5: added; s6: added; s7: added; s8: added";
        assert_eq!(summary_of(8), eight);
        assert_eq!(summary_of(9), format!("{eight}; and 1 more"));
        assert_eq!(summary_of(10), format!("{eight}; and 2 more"));
        assert_eq!(summary_of(0), "");
    }

    #[test]
    fn a_summary_names_the_services_whose_statistics_were_zeroed() {
        assert_eq!(summary(&[], &Zeroed::All), "statistics zeroed");
        let names: Vec<String> = (1..=9).map(|number| format!("s{number}")).collect();
        let zeroed = summary(&[], &Zeroed::VirtualServices(names));
        assert!(zeroed.starts_with("s1: statistics zeroed; s2: "), "{zeroed}");
        assert_eq!(zeroed.matches("zeroed").count(), 8);
    }

    #[test]
    fn the_log_distinguishes_a_replaced_and_a_reloaded_configuration_from_other_changes() {
        let words = [EventKind::Replaced, EventKind::Reloaded, EventKind::Changed].map(word);
        assert_eq!(words, ["configuration replaced", "reloaded", "changed"]);
    }
}
