//! Does the TUN device accept clients, whose return route uses another interface?

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;

/// The greater of `all` and the device's own value counts (ip-sysctl.rst).
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let Some(device) = facts.host.interface(tun) else { return Vec::new() };
    let remedy = format!("sysctl -w net.ipv4.conf.{tun}.rp_filter=2");
    let finding = match device.settings.rp_filter.max(facts.host.all.rp_filter) {
        None => {
            Finding::warning(format!("cannot determine the rp_filter of {tun}: it cannot be read"), remedy)
        }
        Some(1) => Finding::error(
            format!("rp_filter of {tun} is 1 (strict): the kernel drops every unwrapped packet"),
            remedy,
        ),
        Some(value) => Finding::ok(format!("rp_filter of {tun} is {value}")),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn the_greater_of_all_and_the_device_counts() {
        let remedy = "sysctl -w net.ipv4.conf.lvsr0.rp_filter=2";
        let found = "rp_filter of lvsr0 is 1 (strict): the kernel drops every unwrapped packet";
        let rows = [
            (Some(0), Some(0), Finding::ok("rp_filter of lvsr0 is 0")),
            (Some(1), Some(0), Finding::error(found, remedy)),
            (Some(0), Some(1), Finding::error(found, remedy)),
            (Some(2), Some(1), Finding::ok("rp_filter of lvsr0 is 2")),
            (
                None,
                None,
                Finding::warning("cannot determine the rp_filter of lvsr0: it cannot be read", remedy),
            ),
        ];
        for (own, all, expected) in rows {
            let mut facts = bed::realserver("");
            (facts.host.interfaces[1].settings.rp_filter, facts.host.all.rp_filter) = (own, all);
            assert_eq!(examine(&facts), [expected]);
        }
        let mut facts = bed::realserver("");
        facts.host.interfaces.truncate(1);
        assert_eq!(examine(&facts), []);
    }
}
