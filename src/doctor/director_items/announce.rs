//! Does this host answer ARP for the VIPs that are to be announced?

use crate::doctor::facts::{Arrival, Director, Vip};
use crate::doctor::finding::Finding;

/// Nothing before a director runs.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let of = |vip: &Vip| {
        let (address, name) = (vip.address, &vip.interface);
        // Without the capture, the kernel answers for its own addresses itself.
        let is_answered = vip.is_proxied || vip.is_local && vip.arrival == Some(Arrival::Local);
        match (facts.is_announced(vip), is_answered) {
            (true, true) => Finding::ok(format!("this host answers ARP for {address} on {name}")),
            (true, false) => Finding::error(
                format!("this host does not answer ARP for {address} on {name}"),
                format!("ip neighbour add proxy {address} dev {name}"),
            ),
            (false, _) => Finding::ok(format!("{address} is not to be announced by this host")),
        }
    };
    if facts.has_device() { facts.vips.iter().map(of).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_vip_to_be_announced_is_answered() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("this host answers ARP for 172.25.3.100 on eth0")]);
        facts.vips[0].is_proxied = false;
        let silent = Finding::error(
            "this host does not answer ARP for 172.25.3.100 on eth0",
            "ip neighbour add proxy 172.25.3.100 dev eth0",
        );
        for is_local in [false, true] {
            facts.vips[0].is_local = is_local;
            assert_eq!(examine(&facts), std::slice::from_ref(&silent));
        }
        facts.vips[0].arrival = Some(Arrival::Local);
        facts.vips[0].is_local = false;
        assert_eq!(examine(&facts), std::slice::from_ref(&silent));
        facts.vips[0].is_local = true;
        assert_eq!(examine(&facts), [Finding::ok("this host answers ARP for 172.25.3.100 on eth0")]);
    }

    #[test]
    fn a_backup_is_silent() {
        for keys in ["announce = \"local\"", "announce = \"never\""] {
            let mut facts = bed::director(keys);
            facts.vips[0].is_proxied = false;
            // Such as on the device of a real server's daemon.
            for is_local in [false, true] {
                facts.vips[0].is_local = is_local;
                assert_eq!(
                    examine(&facts),
                    [Finding::ok("172.25.3.100 is not to be announced by this host")]
                );
            }
        }
    }

    #[test]
    fn a_master_is_not() {
        let mut facts = bed::director("announce = \"local\"");
        facts.vips[0].is_on_link = true;
        assert_eq!(examine(&facts), [Finding::ok("this host answers ARP for 172.25.3.100 on eth0")]);
    }
}
