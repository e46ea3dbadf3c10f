//! Is the interface there, on which the clients' packets arrive?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.plan.interfaces.iter().map(|name| of(facts, name)).collect()
}

fn of(facts: &Director, name: &str) -> Finding {
    match facts.host.interface(name) {
        None => Finding::error(
            format!("interface {name} does not exist"),
            format!("ip -brief link   # then set interface in {}", facts.file),
        ),
        Some(interface) if !interface.is_up => {
            Finding::error(format!("{name} is down, or has no carrier"), format!("ip link set {name} up"))
        }
        Some(interface) => Finding::ok(format!("{name} is up, its MTU is {}", interface.mtu)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn an_interface_that_is_missing_or_down_is_an_error() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("eth0 is up, its MTU is 1500")]);
        facts.host.interfaces[0].is_up = false;
        let expected = Finding::error("eth0 is down, or has no carrier", "ip link set eth0 up");
        assert_eq!(examine(&facts), [expected]);
        facts.host.interfaces.remove(0);
        let remedy = "ip -brief link   # then set interface in director.toml";
        assert_eq!(examine(&facts), [Finding::error("interface eth0 does not exist", remedy)]);
    }
}
