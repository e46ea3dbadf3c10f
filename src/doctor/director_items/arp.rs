//! Does another host answer ARP for a VIP?

use std::net::Ipv4Addr;

use crate::config::plan::AnnounceSetting;
use crate::doctor::facts::{Director, Vip};
use crate::doctor::finding::Finding;

/// Nothing without the interface: the item `interface` reports that.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let there = facts.vips.iter().filter(|vip| facts.host.interface(&vip.interface).is_some());
    there.map(|vip| of(facts, vip)).collect()
}

fn of(facts: &Director, vip: &Vip) -> Finding {
    let (address, name) = (vip.address, &vip.interface);
    let Some(answers) = &vip.answers else {
        return Finding::warning(
            format!(
                "cannot determine whether another host answers ARP for {address}: no request can be sent on {name}"
            ),
            "run as root, with interface set to an Ethernet interface",
        );
    };
    let is_announced = facts.is_announced(vip);
    match answers.as_slice() {
        [] if !is_announced && facts.plan.announce == AnnounceSetting::Local => Finding::warning(
            format!(
                "no host answers ARP for {address}: with announce = \"local\", one director must have it"
            ),
            format!("ip address show to {address}   # on each director; keepalived adds it"),
        ),
        [] => Finding::ok(format!("no other host answers ARP for {address} on {name}")),
        [mac] if !is_announced => Finding::ok(format!("{address} is at {}", shown(*mac))),
        [mac, ..] => conflict(facts, address, *mac),
    }
}

fn conflict(facts: &Director, address: Ipv4Addr, mac: [u8; 6]) -> Finding {
    let shown = shown(mac);
    match facts.server_with(mac) {
        Some(server) => Finding::error(
            format!(
                "real server {} ({}) answers ARP for {address}: clients reach it directly",
                server.name, shown
            ),
            format!(
                "lvs-tund doctor realserver   # on {}; it must have arp_ignore=1, and {address} only on lvsr0",
                server.name
            ),
        ),
        None => Finding::error(
            format!("another host ({shown}) answers ARP for {address}: clients reach either of them"),
            format!(
                "ip neighbour | grep {shown}   # stop its director, or use VRRP and announce = \"local\" on both"
            ),
        ),
    }
}

fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, SERVER_MAC};

    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0xaf];

    fn found(keys: &str, answers: Option<Vec<[u8; 6]>>) -> Finding {
        let mut facts = bed::director(keys);
        facts.vips[0].answers = answers;
        examine(&facts).remove(0)
    }

    #[test]
    fn a_second_owner_of_the_vip_is_named() {
        assert_eq!(
            found("", Some(vec![])),
            Finding::ok("no other host answers ARP for 172.25.3.100 on eth0")
        );
        let other = Finding::error(
            "another host (02:00:00:00:00:af) answers ARP for 172.25.3.100: clients reach either of them",
            "ip neighbour | grep 02:00:00:00:00:af   # stop its director, or use VRRP and announce = \"local\" on both",
        );
        assert_eq!(found("", Some(vec![OTHER])), other);
        assert_eq!(found("announce = \"local\"", Some(vec![OTHER, SERVER_MAC])), other);
        assert_eq!(
            found("", Some(vec![SERVER_MAC])),
            Finding::error(
                "real server server2 (02:00:00:00:00:02) answers ARP for 172.25.3.100: clients reach it directly",
                "lvs-tund doctor realserver   # on server2; it must have arp_ignore=1, and 172.25.3.100 only on lvsr0",
            )
        );
    }

    #[test]
    fn a_gateway_is_not_taken_for_the_real_server_behind_it() {
        let mut facts = bed::director("");
        facts.vips[0].answers = Some(vec![SERVER_MAC]);
        facts.servers[0].way.as_mut().unwrap().gateway = Some(bed::DIP);
        assert!(examine(&facts)[0].found.starts_with("another host (02:00:00:00:00:02)"));
    }

    #[test]
    fn a_master_expects_no_owner_elsewhere() {
        let mut facts = bed::director("announce = \"local\"");
        facts.vips[0].is_on_link = true;
        let fine = "no other host answers ARP for 172.25.3.100 on eth0";
        assert_eq!(examine(&facts), [Finding::ok(fine)]);
    }

    #[test]
    fn a_backup_expects_one_owner_elsewhere() {
        let keys = "announce = \"local\"";
        assert_eq!(found(keys, Some(vec![OTHER])), Finding::ok("172.25.3.100 is at 02:00:00:00:00:af"));
        assert_eq!(
            found(keys, Some(vec![])),
            Finding::warning(
                "no host answers ARP for 172.25.3.100: with announce = \"local\", one director must have it",
                "ip address show to 172.25.3.100   # on each director; keepalived adds it",
            )
        );
        let never = found("announce = \"never\"", Some(vec![]));
        assert_eq!(never, Finding::ok("no other host answers ARP for 172.25.3.100 on eth0"));
    }

    #[test]
    fn without_a_request_nothing_is_known() {
        let mut facts = bed::director("");
        facts.host.interfaces.remove(0);
        assert_eq!(examine(&facts), []);
        assert_eq!(
            found("", None),
            Finding::warning(
                "cannot determine whether another host answers ARP for 172.25.3.100: no request can be sent on eth0",
                "run as root, with interface set to an Ethernet interface",
            )
        );
    }
}
