//! Does the kernel's own IPVS serve the same VIPs?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    match facts.vips.iter().find(|vip| facts.host.ipvs.contains(&vip.address)) {
        Some(vip) => vec![Finding::warning(
            format!(
                "the kernel's IPVS also has a virtual service for {}: it takes the packets whenever lvs-tund is not running",
                vip.address
            ),
            "ipvsadm -C   # ipvsadm of the kernel; then: modprobe -r ip_vs",
        )],
        None => vec![Finding::ok("the kernel's IPVS serves none of the VIPs")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_kernel_that_serves_the_same_vip_is_a_warning() {
        let mut facts = bed::director("");
        facts.host.ipvs = vec![bed::DIP];
        assert_eq!(examine(&facts), [Finding::ok("the kernel's IPVS serves none of the VIPs")]);
        facts.host.ipvs.push(bed::VIP);
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "the kernel's IPVS also has a virtual service for 172.25.3.100: it takes the packets whenever lvs-tund is not \
                 running",
                "ipvsadm -C   # ipvsadm of the kernel; then: modprobe -r ip_vs"
            )]
        );
    }
}
