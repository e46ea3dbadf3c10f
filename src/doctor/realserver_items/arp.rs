//! Is the host silent about the VIPs in ARP?

use crate::doctor::facts::{Interface, Realserver, Settings};
use crate::doctor::finding::Finding;

/// One sysctl: how it is read, what it must be at least, and what happens otherwise.
type Rule = (&'static str, fn(&Settings) -> Option<i64>, i64, &'static str);

const RULES: [Rule; 2] = [
    ("arp_ignore", |settings| settings.arp_ignore, 1, "this host answers ARP for the VIPs there"),
    (
        "arp_announce",
        |settings| settings.arp_announce,
        2,
        "this host's own ARP requests announce the VIPs there",
    ),
];

/// Nothing before the daemon runs: it sets the values. The greater of `all` and the interface's own value counts
/// (ip-sysctl.rst).
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    if !facts.has_device() {
        return Vec::new();
    }
    let is_ethernet = |interface: &&Interface| {
        let is_own = interface.name == facts.plan.tun || interface.name == "lo";
        interface.is_up && !is_own && interface.mac.is_some_and(|mac| mac != [0; 6])
    };
    let mut findings: Vec<Finding> = Vec::new();
    for interface in facts.host.interfaces.iter().filter(is_ethernet) {
        let of = |(name, read, least, what): &Rule| {
            let value = read(&interface.settings).max(read(&facts.host.all)).unwrap_or(0);
            (value < *least).then(|| {
                Finding::error(
                    format!("{name} of {} is {value}: {what}", interface.name),
                    format!("sysctl -w net.ipv4.conf.all.{name}={least}"),
                )
            })
        };
        findings.extend(RULES.iter().filter_map(of));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("no interface answers ARP for the VIPs or announces them"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn every_interface_is_silent_about_the_vips() {
        let silent = Finding::ok("no interface answers ARP for the VIPs or announces them");
        let answers = Finding::error(
            "arp_ignore of eth0 is 0: this host answers ARP for the VIPs there",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1",
        );
        let announces = |value: i64| {
            Finding::error(
                format!(
                    "arp_announce of eth0 is {value}: this host's own ARP requests announce the VIPs there"
                ),
                "sysctl -w net.ipv4.conf.all.arp_announce=2",
            )
        };
        // Ignore and announce: of all, of eth0.
        let rows = [
            ([1, 2, 0, 0], vec![silent.clone()]),
            ([0, 0, 1, 2], vec![silent.clone()]),
            ([8, 2, 0, 0], vec![silent.clone()]),
            ([0, 2, 0, 0], vec![answers.clone()]),
            ([1, 1, 0, 0], vec![announces(1)]),
            ([0, 0, 0, 0], vec![answers, announces(0)]),
        ];
        for ([all_ignore, all_announce, ignore, announce], expected) in rows {
            let mut facts = bed::realserver("");
            (facts.host.all.arp_ignore, facts.host.all.arp_announce) = (Some(all_ignore), Some(all_announce));
            let settings = &mut facts.host.interfaces[0].settings;
            (settings.arp_ignore, settings.arp_announce) = (Some(ignore), Some(announce));
            assert_eq!(examine(&facts), expected);
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_counts_as_0() {
        let mut facts = bed::realserver("");
        (facts.host.all, facts.host.interfaces[0].settings) = (Settings::default(), Settings::default());
        let found: Vec<String> = examine(&facts).into_iter().map(|finding| finding.found).collect();
        assert!(
            found[0].starts_with("arp_ignore of eth0 is 0: ")
                && found[1].starts_with("arp_announce of eth0 is 0: ")
        );
    }

    #[test]
    fn an_interface_without_arp_does_not_matter() {
        let changes: [fn(&mut Interface); 4] = [
            |interface| interface.is_up = false,
            |interface| interface.mac = None,
            |interface| interface.mac = Some([0; 6]),
            |interface| interface.name = "lo".into(),
        ];
        for change in changes {
            let mut facts = bed::realserver("");
            facts.host.all.arp_ignore = Some(0);
            change(&mut facts.host.interfaces[0]);
            assert_eq!(examine(&facts)[0].remedy, None);
        }
    }
}
