//! Is the director's TUN device up?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

/// Nothing if no director runs: the item `daemon` reports that.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let finding = match facts.host.interface(tun) {
        None if facts.running.is_err() => return Vec::new(),
        None => Finding::error(
            format!("{tun} does not exist although a director runs"),
            format!("lvs-tund director --config {}   # after stopping the running one", facts.file),
        ),
        Some(device) if !device.is_up => {
            Finding::error(format!("{tun} is down"), format!("ip link set {tun} up"))
        }
        Some(_) => Finding::ok(format!("{tun} is up")),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_device_that_is_missing_or_down_is_an_error() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("lvsd0 is up")]);
        facts.host.interfaces[1].is_up = false;
        assert_eq!(examine(&facts), [Finding::error("lvsd0 is down", "ip link set lvsd0 up")]);
        facts.host.interfaces.truncate(1);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "lvsd0 does not exist although a director runs",
                "lvs-tund director --config director.toml   # after stopping the running one"
            )]
        );
        facts.running = Err("why".into());
        assert_eq!(examine(&facts), []);
    }
}
