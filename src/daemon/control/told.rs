//! The report of a change: the differences, and one sentence.

use std::net::IpAddr;

use crate::config::diff::{self, Difference};
use crate::control::model::Happened;
use crate::control::operation::{Drains, Running, Zeroed};

/// The most differences that one log line names.
const LOGGED_MAX: usize = 8;

/// The differences between two configurations, drains included.
pub fn differences(old: &Running, new: &Running) -> Vec<Difference> {
    let mut found = diff::defaults(&old.defaults, &new.defaults);
    found.extend(diff::clusters(&old.cluster, &new.cluster));
    let drain = |service: &str, rip: &IpAddr, from: Option<&str>, to: Option<&str>| Difference {
        virtual_service: Some(service.to_owned()),
        real_server: Some(rip.to_string()),
        key: Some("drain".to_owned()),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let state = |drains: &Drains, key| {
        drains.get(key).map(|drain| if drain.is_done { "drained" } else { "draining" })
    };
    for key @ (service, rip) in old.drains.keys().chain(new.drains.keys()) {
        let (from, to) = (state(&old.drains, key), state(&new.drains, key));
        let difference = drain(service, rip, from, to);
        if from != to && !found.contains(&difference) {
            found.push(difference);
        }
    }
    found
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
pub fn word(what: Happened) -> &'static str {
    match what {
        Happened::Replaced => "configuration replaced",
        Happened::Reloaded => "reloaded",
        _ => "changed",
    }
}
