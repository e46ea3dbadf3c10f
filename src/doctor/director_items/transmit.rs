//! Has the kernel refused to send encapsulated packets?

use crate::doctor::facts::Director;
use crate::doctor::finding::{Finding, counted};

/// As `crate::metrics::names` has it.
const REFUSED: &str = "lvs_tund_director_transmit_errors_total";

/// Nothing without the director's metrics.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let Some(metrics) = &facts.host.metrics else { return Vec::new() };
    let refused = metrics.by(REFUSED, "cause");
    if refused.is_empty() {
        return vec![Finding::ok("the kernel has sent every encapsulated packet")];
    }
    let finding = |(cause, count): (String, u64)| {
        Finding::warning(
            format!("since it started, the director could not send {} ({cause})", counted(count, "packet")),
            format!("curl -s http://{}/metrics | grep transmit_errors", facts.plan.metrics),
        )
    };
    refused.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::samples::Samples;

    #[test]
    fn packets_that_the_kernel_refused_are_a_warning() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("the kernel has sent every encapsulated packet")]);
        let text = "lvs_tund_director_transmit_errors_total{cause=\"EPERM\"} 3\n";
        facts.host.metrics = Some(Samples::parse(text));
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "since it started, the director could not send 3 packets (EPERM)",
                "curl -s http://127.0.0.1:9690/metrics | grep transmit_errors"
            )]
        );
        facts.host.metrics = None;
        assert_eq!(examine(&facts), []);
    }
}
