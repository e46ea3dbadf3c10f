//! What LVS in the kernel leaves on a host.

use super::facts::Host;
use super::finding::Finding;

/// The device that the module `ipip` creates.
const DEVICE: &str = "tunl0";

/// A kernel that handles IP protocol 4 itself.
pub fn ipip(host: &Host) -> Vec<Finding> {
    let remedy = "modprobe -r ipip";
    let finding = match host.interface(DEVICE) {
        Some(device) if device.is_up => Finding::error(
            format!("{DEVICE} is up: the kernel also unwraps each encapsulated packet, so it arrives twice"),
            remedy,
        ),
        Some(_) => handled(DEVICE, remedy),
        None if host.has_ipip => handled("the module ipip", remedy),
        None => Finding::ok("the kernel leaves IP protocol 4 to lvs-tund"),
    };
    vec![finding]
}

fn handled(what: &str, remedy: &str) -> Finding {
    Finding::error(
        format!(
            "{what} is loaded: the kernel answers encapsulated packets with ICMP errors, which reset new connections"
        ),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_kernel_that_handles_protocol_4_is_an_error() {
        let mut host = Host::default();
        assert_eq!(ipip(&host), [Finding::ok("the kernel leaves IP protocol 4 to lvs-tund")]);
        host.has_ipip = true;
        let found = "is loaded: the kernel answers encapsulated packets with ICMP errors, which reset new connections";
        assert_eq!(ipip(&host), [Finding::error(format!("the module ipip {found}"), "modprobe -r ipip")]);
        host.interfaces.push(bed::interface("tunl0", &[]));
        let found_up = "tunl0 is up: the kernel also unwraps each encapsulated packet, so it arrives twice";
        assert_eq!(ipip(&host), [Finding::error(found_up, "modprobe -r ipip")]);
        host.interfaces[0].is_up = false;
        assert_eq!(ipip(&host), [Finding::error(format!("tunl0 {found}"), "modprobe -r ipip")]);
    }
}
