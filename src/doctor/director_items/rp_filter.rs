//! Does the interface accept clients whose return route uses another one?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

/// The greater of `all` and the interface's own value counts (ip-sysctl.rst). Nothing before a director runs: it sets the
/// value.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.plan.interfaces.iter().filter_map(|name| of(facts, name)).collect()
}

fn of(facts: &Director, name: &str) -> Option<Finding> {
    let interface = facts.host.interface(name).filter(|_| facts.has_device())?;
    let remedy = format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
    let finding = match interface.settings.rp_filter.max(facts.host.all.rp_filter) {
        None => {
            Finding::warning(format!("cannot determine the rp_filter of {name}: it cannot be read"), remedy)
        }
        Some(1) => Finding::error(
            format!(
                "rp_filter of {name} is 1 (strict): clients whose return route uses another interface are dropped"
            ),
            remedy,
        ),
        Some(value) => Finding::ok(format!("rp_filter of {name} is {value}")),
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn the_greater_of_all_and_the_interface_counts() {
        let remedy = "sysctl -w net.ipv4.conf.eth0.rp_filter=2";
        let strict = Finding::error(
            "rp_filter of eth0 is 1 (strict): clients whose return route uses another interface are dropped",
            remedy,
        );
        let rows = [
            (Some(0), Some(0), Finding::ok("rp_filter of eth0 is 0")),
            (Some(1), Some(0), strict.clone()),
            (Some(0), Some(1), strict),
            (Some(2), Some(1), Finding::ok("rp_filter of eth0 is 2")),
            (
                None,
                None,
                Finding::warning("cannot determine the rp_filter of eth0: it cannot be read", remedy),
            ),
        ];
        for (own, all, expected) in rows {
            let mut facts = bed::director("");
            (facts.host.interfaces[0].settings.rp_filter, facts.host.all.rp_filter) = (own, all);
            assert_eq!(examine(&facts), [expected]);
        }
    }
}
