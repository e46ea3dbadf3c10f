//! What the host has of a VIP, and what follows from it.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::{Announce, Capture, DirectorHost};
use crate::host::announce::ANNOUNCEMENTS;
use crate::host::error::HostError;
use crate::host::netlink::Interface;

/// One VIP and its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipState {
    /// Whether the host accepts packets for the VIP, which is one of its addresses on whichever device.
    pub is_local: bool,
    /// Whether the VIP is at this host for its neighbours: an address of `interface` or of another device that uses
    /// ARP, as on the master of a VRRP pair. One on `lo`, or on the TUN device of a real server's daemon, only serves.
    pub is_on_link: bool,
    /// May change while the director runs, when the VIP becomes a local address.
    pub capture: Capture,
    /// Whether the host answers ARP for it.
    pub is_answered: bool,
    /// The number of gratuitous ARPs still to send.
    pub(super) announcements: u8,
}

impl DirectorHost {
    /// The addresses by which neighbours find this host.
    pub(super) async fn on_link(&self) -> Result<HashSet<Ipv4Addr>, HostError> {
        let links = self.netlink.interfaces().await?;
        let is_listed = |index| self.incoming.listed.iter().any(|device| device.index == index);
        let counts = |link: &&Interface| link.uses_arp || is_listed(link.index);
        let indices: HashSet<u32> = links.iter().filter(counts).map(|link| link.index).collect();
        let addresses = self.netlink.all_addresses().await?;
        Ok(addresses.iter().filter(|found| indices.contains(&found.0)).map(|found| found.1).collect())
    }

    pub(super) async fn look_at(
        &self,
        vip: Ipv4Addr,
        on_link: &HashSet<Ipv4Addr>,
    ) -> Result<VipState, HostError> {
        let is_on_link = on_link.contains(&vip);
        let is_local = self.netlink.is_local(vip).await?;
        let capture = self.options.capture.of(is_local, self.options.announce);
        if is_local && capture == Capture::Route && !self.vips.get(&vip).is_some_and(|state| state.is_local) {
            tracing::warn!(kind = "vip", vip = %vip,
                "host: VIP {vip} is a local address, which a route cannot capture; set capture = \"auto\""
            );
        }
        let is_answered = self.options.announce.is_answered(is_on_link, self.healthy.contains(&vip));
        let is_announced = is_answered && self.options.announce != Announce::Never;
        let announcements = if is_announced { ANNOUNCEMENTS } else { 0 };
        Ok(VipState { is_local, is_on_link, capture, is_answered, announcements })
    }
}
