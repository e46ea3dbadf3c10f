//! Do the directors send what this real server does not serve?

use crate::doctor::facts::Realserver;
use crate::doctor::finding::{Finding, counted};

/// As `crate::metrics::names` has it.
const DROPPED: &str = "lvs_tund_realserver_packets_dropped_total";

/// Drop reasons that a wrong configuration causes: what the packets are, and the key that accepts them.
const REASONS: [(&str, &str, &str); 2] = [
    ("inner_not_vip", "whose VIP is not in vips", "vips"),
    ("inner_not_served", "whose port is not in services", "services"),
];

/// Nothing without the daemon's metrics.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let Some(metrics) = &facts.host.metrics else { return Vec::new() };
    let of = |(reason, what, key): &(&str, &str, &str)| {
        let dropped = metrics.sum(DROPPED, &[("reason", reason)]);
        let packets = counted(dropped, "packet");
        (dropped > 0).then(|| {
            Finding::warning(
                format!("since it started, the daemon has dropped {packets} {what} ({reason})"),
                format!("lvs-tund check {}   # then correct {key}", facts.file),
            )
        })
    };
    let mut findings: Vec<Finding> = REASONS.iter().filter_map(of).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("the directors send only what this host serves"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::samples::Samples;

    #[test]
    fn packets_that_the_configuration_refuses_are_a_warning() {
        let mut facts = bed::realserver("");
        assert_eq!(examine(&facts), [Finding::ok("the directors send only what this host serves")]);
        let rows = [
            ("inner_not_vip", "whose VIP is not in vips (inner_not_vip)", "vips"),
            ("inner_not_served", "whose port is not in services (inner_not_served)", "services"),
        ];
        for (reason, words, key) in rows {
            let text = format!("lvs_tund_realserver_packets_dropped_total{{reason=\"{reason}\"}} 1\n");
            facts.host.metrics = Some(Samples::parse(&text));
            assert_eq!(
                examine(&facts),
                [Finding::warning(
                    format!("since it started, the daemon has dropped 1 packet {words}"),
                    format!("lvs-tund check realserver.toml   # then correct {key}")
                )]
            );
        }
        facts.host.metrics = None;
        assert_eq!(examine(&facts), []);
    }
}
