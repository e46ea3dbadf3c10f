//! The items of a real server's host.

mod arp;
mod daemon;
mod device;
mod firewall;
mod listening;
mod mss;
mod peers;
mod refused;
mod rp_filter;
mod tunnel;
mod vip;

use super::facts::Realserver;
use super::finding::Item;
use super::{leftovers, reported};

/// In the order of a packet's way.
pub const ITEMS: &[Item<Realserver>] = &[
    Item { name: "daemon", examine: daemon::examine },
    Item { name: "reported", examine: |facts| reported::examine(&facts.host) },
    Item { name: "ipip", examine: |facts| leftovers::ipip(&facts.host) },
    Item { name: "tunnel", examine: tunnel::examine },
    Item { name: "directors", examine: peers::examine },
    Item { name: "refused", examine: refused::examine },
    Item { name: "device", examine: device::examine },
    Item { name: "rp_filter", examine: rp_filter::examine },
    Item { name: "vip", examine: vip::examine },
    Item { name: "arp", examine: arp::examine },
    Item { name: "firewall", examine: firewall::examine },
    Item { name: "listening", examine: listening::examine },
    Item { name: "mss", examine: mss::examine },
];

#[cfg(test)]
mod tests {
    use super::super::bed;
    use super::super::finding::{Level, Report};
    use super::*;

    #[test]
    fn a_healthy_real_server_has_only_findings_without_a_remedy() {
        let report = Report::of("realserver", ITEMS, &bed::realserver("services = [\"tcp/80\"]"));
        let bad: Vec<_> = report.findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        assert!(bad.is_empty(), "{bad:?}");
        for item in ITEMS {
            assert!(
                report.findings.iter().any(|finding| finding.item == item.name),
                "{}: nothing found",
                item.name
            );
        }
    }

    #[test]
    fn a_host_without_the_daemon_has_one_error() {
        let mut facts = bed::realserver("services = [\"tcp/80\"]");
        facts.host.metrics = None;
        facts.host.interfaces.truncate(1);
        (facts.host.all.arp_ignore, facts.host.all.arp_announce) = (Some(0), Some(0));
        facts.mss_rules.clear();
        let report = Report::of("realserver", ITEMS, &facts);
        let bad = report.findings.iter().filter(|finding| finding.level != Level::Ok);
        let bad: Vec<_> = bad.map(|finding| finding.item).collect();
        assert_eq!(bad, ["daemon"]);
    }
}
