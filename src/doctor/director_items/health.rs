//! What have the checks of the real servers found? The daemon reports why each of them is down, and the next step.

use crate::doctor::facts::{Director, Reported};
use crate::doctor::finding::Finding;
use crate::trouble::TroubleKind;

/// The command if the daemon gives no remedy.
const REMEDY: &str = "lvs-tund status";

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let Some(reported) = &facts.host.reported else {
        return vec![Finding::ok("the checks' results are not known: the daemon was not queried")];
    };
    let findings: Vec<Finding> = reported.iter().filter_map(finding).collect();
    match findings.is_empty() {
        true => vec![Finding::ok("no check of a real server fails")],
        false => findings,
    }
}

/// A virtual service without quorum does not do what it should, whereas others still serve for a real server that is down.
fn finding(reported: &Reported) -> Option<Finding> {
    let (words, remedy) = reported.message.split_once("; ").unwrap_or((&reported.message, REMEDY));
    match reported.kind {
        TroubleKind::QuorumLost | TroubleKind::FailOpen => Some(Finding::error(words, remedy)),
        TroubleKind::RealServerDown | TroubleKind::CheckWarning => Some(Finding::warning(words, remedy)),
        _ => None,
    }
}

/// Whether a check explains that a real server has no weight.
pub(super) fn has_down(facts: &Director) -> bool {
    let is_down = |reported: &Reported| reported.kind == TroubleKind::RealServerDown;
    facts.host.reported.as_ref().is_some_and(|reported| reported.iter().any(is_down))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    fn found(reported: Option<&[(TroubleKind, &str)]>) -> (Vec<Finding>, bool) {
        let mut facts = bed::director("");
        facts.host.reported = reported.map(|all| {
            let of =
                |(kind, message): &(TroubleKind, &str)| Reported { kind: *kind, message: (*message).into() };
            all.iter().map(of).collect()
        });
        (examine(&facts), has_down(&facts))
    }

    #[test]
    fn a_down_real_server_is_explained_with_the_next_step() {
        let reported = [
            (
                TroubleKind::RealServerDown,
                "real server 10.0.0.1 is down in web: refused; start it; type there: ss -ltn",
            ),
            (TroubleKind::CheckWarning, "real server 10.0.0.1: check tls: the certificate expires in 5 days"),
            (TroubleKind::QuorumLost, "virtual service web has lost its quorum; bring one up"),
            (TroubleKind::FailOpen, "virtual service api treats all as up; see"),
            (TroubleKind::NoRoute, "no route; look"),
        ];
        let expected = vec![
            Finding::warning("real server 10.0.0.1 is down in web: refused", "start it; type there: ss -ltn"),
            Finding::warning(
                "real server 10.0.0.1: check tls: the certificate expires in 5 days",
                "lvs-tund status",
            ),
            Finding::error("virtual service web has lost its quorum", "bring one up"),
            Finding::error("virtual service api treats all as up", "see"),
        ];
        assert_eq!(found(Some(&reported)), (expected, true));
    }

    #[test]
    fn checks_that_succeed_and_a_daemon_that_does_not_answer_are_no_error() {
        let fine = vec![Finding::ok("no check of a real server fails")];
        assert_eq!(found(Some(&[(TroubleKind::NoRoute, "no route")])), (fine, false));
        let silent = vec![Finding::ok("the checks' results are not known: the daemon was not queried")];
        assert_eq!(found(None), (silent, false));
    }
}
