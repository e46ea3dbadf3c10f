//! The items of a director's host.

mod announce;
mod arp;
mod capture;
mod companion;
mod conntrack;
mod daemon;
mod device;
mod firewall;
mod forwarding;
mod health;
mod interface;
mod ipvs;
mod mtu;
mod passed;
mod route;
mod rp_filter;
mod transmit;
mod tunnel;
mod via;
mod weights;

use super::facts::Director;
use super::finding::Item;
use super::{leftovers, reported};

/// In the order of a packet's way.
pub const ITEMS: &[Item<Director>] = &[
    Item { name: "daemon", examine: daemon::examine },
    Item { name: "reported", examine: |facts| reported::examine(&facts.host) },
    Item { name: "interface", examine: interface::examine },
    Item { name: "device", examine: device::examine },
    Item { name: "arp", examine: arp::examine },
    Item { name: "announce", examine: announce::examine },
    Item { name: "rp_filter", examine: rp_filter::examine },
    Item { name: "forwarding", examine: forwarding::examine },
    Item { name: "capture", examine: capture::examine },
    Item { name: "firewall", examine: |facts| passed::add_to(firewall::examine(facts), facts) },
    Item { name: "conntrack", examine: conntrack::examine },
    Item { name: "ipvs", examine: ipvs::examine },
    Item { name: "ipip", examine: |facts| leftovers::ipip(&facts.host) },
    Item { name: "health", examine: health::examine },
    Item { name: "weights", examine: weights::examine },
    Item { name: "route", examine: route::examine },
    Item { name: "mtu", examine: mtu::examine },
    Item { name: "tunnel", examine: tunnel::examine },
    Item { name: "transmit", examine: transmit::examine },
    Item { name: "companion", examine: companion::examine },
    Item { name: "via", examine: via::examine },
];

#[cfg(test)]
mod tests {
    use super::super::bed;
    use super::super::finding::{Level, Report};
    use super::*;

    #[test]
    fn a_healthy_director_has_only_findings_without_a_remedy() {
        let report = Report::of("director", ITEMS, &bed::director(""));
        let bad: Vec<_> = report.findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        assert!(bad.is_empty(), "{bad:?}");
        // Nothing is sent through the tunnel unless that is requested.
        for item in ITEMS.iter().filter(|item| item.name != "via") {
            assert!(
                report.findings.iter().any(|finding| finding.item == item.name),
                "{}: nothing found",
                item.name
            );
        }
    }

    #[test]
    fn a_host_without_a_director_has_one_error() {
        let mut facts = bed::director("");
        facts.running = Err("no director is running".into());
        facts.host.metrics = None;
        facts.host.interfaces.truncate(1);
        facts.host.interfaces[0].settings.forwarding = Some(0);
        facts.host.all.rp_filter = Some(1);
        facts.vips[0].arrival = None;
        facts.vips[0].is_proxied = false;
        let report = Report::of("director", ITEMS, &facts);
        let bad = report.findings.iter().filter(|finding| finding.level != Level::Ok);
        let bad: Vec<_> = bad.map(|finding| finding.item).collect();
        assert_eq!(bad, ["daemon"]);
    }
}
