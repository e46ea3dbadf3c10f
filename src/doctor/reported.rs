//! What the daemon itself reports that no other item looks for.

use super::facts::{Host, Reported};
use super::finding::Finding;
use crate::trouble::TroubleKind;

/// The command if the daemon gives no remedy.
const REMEDY: &str = "lvs-tund status";

/// Everything else is seen from outside the daemon, and has an item of its own.
const KINDS: [TroubleKind; 7] = [
    TroubleKind::HostUnknown,
    TroubleKind::WorkersStopped,
    TroubleKind::ControlStuck,
    TroubleKind::Unreachable,
    TroubleKind::PathMtuLowered,
    TroubleKind::PacketsLost,
    TroubleKind::StrayPackets,
];

/// One finding for each trouble: an error if it stops all packets.
pub fn examine(host: &Host) -> Vec<Finding> {
    let Some(reported) = &host.reported else {
        return vec![Finding::ok("the daemon was not queried: its control socket does not answer")];
    };
    let findings: Vec<Finding> = reported.iter().filter(|it| KINDS.contains(&it.kind)).map(finding).collect();
    match findings.is_empty() {
        true => vec![Finding::ok("the daemon reports nothing else")],
        false => findings,
    }
}

fn finding(reported: &Reported) -> Finding {
    let (words, remedy) = reported.message.split_once("; ").unwrap_or((&reported.message, REMEDY));
    let found = format!("the daemon reports: {words}");
    match reported.kind.stops_packets() {
        true => Finding::error(found, remedy),
        false => Finding::warning(found, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reported: Option<&[(TroubleKind, &str)]>) -> Vec<Finding> {
        let reported = reported.map(|all| {
            let of =
                |(kind, message): &(TroubleKind, &str)| Reported { kind: *kind, message: (*message).into() };
            all.iter().map(of).collect()
        });
        examine(&Host { reported, ..Host::default() })
    }

    #[test]
    fn what_only_the_daemon_can_see_is_reported_with_its_remedy() {
        let found_now = found(Some(&[
            (TroubleKind::NothingServed, "no virtual service has a real server; add one"),
            (TroubleKind::WorkersStopped, "the thread director-0 has ended; restart the daemon"),
            (TroubleKind::Unreachable, "172.25.3.2 is unreachable"),
        ]));
        let expected = [
            Finding::error("the daemon reports: the thread director-0 has ended", "restart the daemon"),
            Finding::warning("the daemon reports: 172.25.3.2 is unreachable", "lvs-tund status"),
        ];
        assert_eq!(found_now, expected);
    }

    #[test]
    fn a_daemon_that_reports_nothing_is_fine_and_one_that_does_not_answer_no_error() {
        let fine = [Finding::ok("the daemon reports nothing else")];
        assert_eq!(found(Some(&[])), fine);
        assert_eq!(found(Some(&[(TroubleKind::ApplicationDown, "no program listens")])), fine);
        let silent = [Finding::ok("the daemon was not queried: its control socket does not answer")];
        assert_eq!(found(None), silent);
    }
}
