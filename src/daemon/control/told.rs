//! The report of a change: the differences, and one sentence.

use crate::config::diff::{self, Difference};
use crate::control::model::EventKind;
use crate::control::operation::drain::Drained;
use crate::control::operation::{Running, Zeroed};
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

/// Logs the end of a drain, and returns the message for its event.
pub fn log_drained(drained: &Drained) -> String {
    let Drained { virtual_service, real_server, is_empty, .. } = drained;
    let why = if *is_empty { "no connections left" } else { "the deadline has passed" };
    let message = format!("{virtual_service} {real_server}: drained, {why}");
    tracing::info!(by = "drain", kind = "drained", virtual_service, real_server, "director: {message}");
    message
}

/// The kind of change, in the log.
pub fn word(what: EventKind) -> &'static str {
    match what {
        EventKind::Replaced => "configuration replaced",
        EventKind::Reloaded => "reloaded",
        _ => "changed",
    }
}
