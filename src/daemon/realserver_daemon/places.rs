//! VIPs that this host has in a place where it answers ARP for them, although that is the director's part.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::plan::RealserverPlan;
use crate::failure::Failure;
use crate::host::{Elsewhere, Netlink, vips_elsewhere};
use crate::trouble::{Found, TroubleKind};

/// Refuses a VIP that is the host's own address.
pub(super) async fn check(plan: &RealserverPlan) -> Result<(), Failure> {
    let netlink = Netlink::open()?;
    match look(&netlink, plan).await.iter().find(|elsewhere| elsewhere.is_own) {
        None => Ok(()),
        Some(Elsewhere { vip, device, .. }) => Err(Failure::Refused(format!(
            "VIP {vip} is this host's own address on {device}; a VIP is the address that clients use and the director \
             answers for: give that one"
        ))),
    }
}

/// What is wrong at present.
pub(super) async fn troubles(netlink: &Netlink, plan: &RealserverPlan) -> Vec<Found> {
    look(netlink, plan).await.iter().map(trouble).collect()
}

async fn look(netlink: &Netlink, plan: &RealserverPlan) -> Vec<Elsewhere> {
    let is_vip = |address: Ipv4Addr| plan.guard.vips.contains(&IpAddr::V4(address));
    // Without an answer nothing is known to be wrong; the daemon itself needs the same connection and reports it.
    vips_elsewhere(netlink, &plan.tun, is_vip).await.unwrap_or_default()
}

fn trouble(elsewhere: &Elsewhere) -> Found {
    let Elsewhere { vip, device, prefix_len, .. } = elsewhere;
    let text = format!(
        "VIP {vip} is an address of {device} too, so this host answers ARP for it as if it were the director; unless VRRP puts it \
         there for a director on this host, run: ip address del {vip}/{prefix_len} dev {device}"
    );
    Found { kind: TroubleKind::VipElsewhere, subject: vip.to_string(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_in_another_place_comes_with_the_command_that_removes_it() {
        let (vip, device) = (Ipv4Addr::new(172, 25, 3, 100), "eth0".to_owned());
        let found = trouble(&Elsewhere { vip, device, prefix_len: 24, is_own: false });
        assert_eq!((found.kind, found.subject.as_str()), (TroubleKind::VipElsewhere, "172.25.3.100"));
        assert!(found.text.ends_with("run: ip address del 172.25.3.100/24 dev eth0"), "{}", found.text);
    }
}
