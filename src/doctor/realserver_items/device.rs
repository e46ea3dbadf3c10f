//! Is the TUN device up?

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;

/// Nothing if it does not exist: the item `daemon` reports that.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let of = |is_up| match is_up {
        true => Finding::ok(format!("{tun} is up")),
        false => Finding::error(format!("{tun} is down"), format!("ip link set {tun} up")),
    };
    facts.host.interface(tun).map(|device| of(device.is_up)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_device_that_is_down_is_an_error() {
        let mut facts = bed::realserver("");
        assert_eq!(examine(&facts), [Finding::ok("lvsr0 is up")]);
        facts.host.interfaces[1].is_up = false;
        assert_eq!(examine(&facts), [Finding::error("lvsr0 is down", "ip link set lvsr0 up")]);
        facts.host.interfaces.truncate(1);
        assert_eq!(examine(&facts), []);
    }
}
