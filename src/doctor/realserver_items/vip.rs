//! Is each VIP an address of the TUN device or of `lo`, and of nothing else?

use std::net::Ipv4Addr;

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;

/// Nothing about a missing VIP if the daemon does not run.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    facts.vips().flat_map(|vip| of(facts, vip)).collect()
}

fn of(facts: &Realserver, vip: Ipv4Addr) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let mut findings = Vec::new();
    let mut bound = None;
    for interface in &facts.host.interfaces {
        let Some((_, length)) = interface.addresses.iter().find(|(own, _)| *own == vip) else { continue };
        let name = &interface.name;
        if name == tun || name == "lo" {
            bound = bound.or(Some(name));
        } else {
            findings.push(Finding::error(
                format!("VIP {vip} is an address of {name}: this host answers ARP for it, so clients bypass the director"),
                format!("ip address delete {vip}/{length} dev {name}"),
            ));
        }
    }
    match bound {
        Some(name) => findings.push(Finding::ok(format!("VIP {vip} is an address of {name}"))),
        None if facts.has_device() => findings.push(Finding::error(
            format!("VIP {vip} is not an address of {tun}: this host drops its packets"),
            format!("ip address add {vip}/32 dev {tun}"),
        )),
        None => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, VIP};

    #[test]
    fn the_vip_is_bound_on_a_device_that_does_not_announce_it() {
        let mut facts = bed::realserver("");
        assert_eq!(examine(&facts), [Finding::ok("VIP 172.25.3.100 is an address of lvsr0")]);
        facts.host.interfaces[1].addresses.clear();
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "VIP 172.25.3.100 is not an address of lvsr0: this host drops its packets",
                "ip address add 172.25.3.100/32 dev lvsr0"
            )]
        );
        facts.host.interfaces.push(bed::interface("lo", &[(VIP, 32)]));
        assert_eq!(examine(&facts), [Finding::ok("VIP 172.25.3.100 is an address of lo")]);
        facts.host.interfaces[0].addresses.push((VIP, 24));
        assert_eq!(
            examine(&facts)[0],
            Finding::error(
                "VIP 172.25.3.100 is an address of eth0: this host answers ARP for it, so clients bypass the director",
                "ip address delete 172.25.3.100/24 dev eth0"
            )
        );
        facts.host.interfaces.remove(1);
        facts.host.interfaces.pop();
        assert_eq!(examine(&facts).len(), 1);
    }
}
