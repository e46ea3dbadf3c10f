//! Does the kernel send packets for each VIP to the TUN device?

use crate::doctor::facts::{Arrival, Director, Vip};
use crate::doctor::finding::Finding;

/// Nothing before a director runs.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    if !facts.has_device() {
        return Vec::new();
    }
    facts.vips.iter().filter_map(|vip| of(facts, vip)).collect()
}

fn of(facts: &Director, vip: &Vip) -> Option<Finding> {
    let (address, tun, name) = (vip.address, &facts.plan.tun, &vip.interface);
    let settings = facts.host.interface(name).map(|interface| interface.settings).unwrap_or_default();
    let whose = format!("packets for {address} that arrive on {name}");
    let remedy = format!("ip rule; ip route get {address}   # another rule or route comes first: remove it");
    let Some(arrival) = &vip.arrival else {
        // The item `interface` reports that there is none.
        return facts.host.interface(name).map(|_| {
            Finding::warning(
                format!(
                    "cannot determine where {whose} are sent: {name} has no address with a network of its own"
                ),
                format!("ip address show dev {name}"),
            )
        });
    };
    let finding = match arrival {
        Arrival::Device(device) if device == tun => Finding::ok(format!("{whose} are sent to {tun}")),
        Arrival::Device(device) => {
            Finding::error(format!("{whose} are sent to {device}, not to {tun}"), remedy)
        }
        Arrival::Local => Finding::error(
            format!("{whose} are delivered to this host's own programs, not to {tun}"),
            format!("lvs-tund director --config {}   # with capture = \"auto\"", facts.file),
        ),
        // The items `rp_filter` and `forwarding` report the cause.
        Arrival::Filtered if settings.rp_filter.max(facts.host.all.rp_filter) == Some(1) => return None,
        Arrival::NotForwarded if settings.forwarding == Some(0) => return None,
        Arrival::Filtered => {
            Finding::error(format!("{whose} are dropped: the kernel rejects their source address"), remedy)
        }
        Arrival::NotForwarded => {
            Finding::error(format!("{whose} are dropped: there is no route for them"), remedy)
        }
        Arrival::Unknown(why) => {
            Finding::warning(format!("cannot determine where {whose} are sent: {why}"), remedy)
        }
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_vip_that_is_not_sent_to_the_device_is_an_error() {
        let remedy = "ip rule; ip route get 172.25.3.100   # another rule or route comes first: remove it";
        let auto = "lvs-tund director --config director.toml   # with capture = \"auto\"";
        let whose = "packets for 172.25.3.100 that arrive on eth0 are";
        let rows = [
            (Arrival::Device("lvsd0".into()), Finding::ok(format!("{whose} sent to lvsd0"))),
            (
                Arrival::Device("eth1".into()),
                Finding::error(format!("{whose} sent to eth1, not to lvsd0"), remedy),
            ),
            (
                Arrival::Local,
                Finding::error(format!("{whose} delivered to this host's own programs, not to lvsd0"), auto),
            ),
            (
                Arrival::Filtered,
                Finding::error(format!("{whose} dropped: the kernel rejects their source address"), remedy),
            ),
            (
                Arrival::NotForwarded,
                Finding::error(format!("{whose} dropped: there is no route for them"), remedy),
            ),
            (
                Arrival::Unknown("odd".into()),
                Finding::warning(
                    "cannot determine where packets for 172.25.3.100 that arrive on eth0 are sent: odd",
                    remedy,
                ),
            ),
        ];
        for (arrival, expected) in rows {
            let mut facts = bed::director("");
            facts.vips[0].arrival = Some(arrival);
            assert_eq!(examine(&facts), [expected]);
        }
    }

    #[test]
    fn without_a_network_nothing_can_be_looked_up() {
        let mut facts = bed::director("");
        facts.vips[0].arrival = None;
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "cannot determine where packets for 172.25.3.100 that arrive on eth0 are sent: eth0 has no address with a \
                 network of its own",
                "ip address show dev eth0"
            )]
        );
        facts.host.interfaces.remove(0);
        assert_eq!(examine(&facts), []);
        let mut facts = bed::director("");
        facts.host.interfaces.truncate(1);
        assert_eq!(examine(&facts), []);
    }

    #[test]
    fn a_cause_that_another_item_reports_is_reported_once() {
        let mut facts = bed::director("");
        facts.vips[0].arrival = Some(Arrival::Filtered);
        facts.host.all.rp_filter = Some(1);
        assert_eq!(examine(&facts), []);
        facts.vips[0].arrival = Some(Arrival::NotForwarded);
        facts.host.interfaces[0].settings.forwarding = Some(0);
        assert_eq!(examine(&facts), []);
    }
}
