//! What LVS in the kernel leaves on a host.

use super::facts::Host;
use super::finding::Finding;

/// A kernel that handles IP protocol 4 itself.
pub fn ipip(host: &Host) -> Vec<Finding> {
    let finding = match &host.tunnel_handler {
        Some((found, remedy)) => Finding::error(found.clone(), remedy.clone()),
        None => Finding::ok("the kernel leaves IP protocol 4 to lvs-tund"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_handles_protocol_4_is_an_error() {
        let mut host = Host::default();
        assert_eq!(ipip(&host), [Finding::ok("the kernel leaves IP protocol 4 to lvs-tund")]);
        host.tunnel_handler = Some(("tunl0 is up".into(), "modprobe -r ipip".into()));
        assert_eq!(ipip(&host), [Finding::error("tunl0 is up", "modprobe -r ipip")]);
    }
}
