//! Does the interface forward?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

/// Nothing before a director runs: it sets the value.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.plan.interfaces.iter().filter_map(|name| of(facts, name)).collect()
}

fn of(facts: &Director, name: &str) -> Option<Finding> {
    let interface = facts.host.interface(name).filter(|_| facts.has_device())?;
    let remedy = format!("sysctl -w net.ipv4.conf.{name}.forwarding=1");
    let finding = match interface.settings.forwarding {
        None => Finding::warning(
            format!("cannot determine whether {name} forwards: the value cannot be read"),
            remedy,
        ),
        Some(0) => {
            let tun = &facts.plan.tun;
            Finding::error(format!("{name} does not forward: no packet for a VIP reaches {tun}"), remedy)
        }
        Some(_) => Finding::ok(format!("{name} forwards")),
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn each_interface_is_examined() {
        let mut facts = bed::director("");
        facts.plan.interfaces.push("eth1".into());
        let mut eth1 = bed::interface("eth1", &[]);
        eth1.settings.forwarding = Some(0);
        facts.host.interfaces.push(eth1);
        facts.host.interfaces[0].settings.forwarding = Some(1);
        let remedy = "sysctl -w net.ipv4.conf.eth1.forwarding=1";
        let silent = Finding::error("eth1 does not forward: no packet for a VIP reaches lvsd0", remedy);
        assert_eq!(examine(&facts), [Finding::ok("eth0 forwards"), silent]);
    }

    #[test]
    fn an_interface_that_does_not_forward_is_an_error() {
        let remedy = "sysctl -w net.ipv4.conf.eth0.forwarding=1";
        let rows = [
            (Some(1), Finding::ok("eth0 forwards")),
            (Some(0), Finding::error("eth0 does not forward: no packet for a VIP reaches lvsd0", remedy)),
            (
                None,
                Finding::warning("cannot determine whether eth0 forwards: the value cannot be read", remedy),
            ),
        ];
        for (value, expected) in rows {
            let mut facts = bed::director("");
            facts.host.interfaces[0].settings.forwarding = value;
            assert_eq!(examine(&facts), [expected]);
        }
    }
}
