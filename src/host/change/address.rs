//! An address of the host: `address`/32 on the device.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::address::AddressScope;

use super::{ChangeKind, Device, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::netlink::Netlink;

/// A VIP as an address of a real server's host, so that the host accepts decapsulated packets for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VipAddress {
    /// The VIP, bound with prefix length 32 so that no route to its network comes with it.
    pub address: Ipv4Addr,
    /// The real server's TUN device, which takes the address with it when it disappears.
    pub device: Device,
}

impl ChangeKind for VipAddress {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_addresses(netlink, self.device.index).await
    }

    /// The kernel does not record who added an address.
    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let is_there = observed.addresses(self.device.index).contains(&(IpAddr::V4(self.address), 32));
        Ok(if is_there { Presence::Foreign } else { Presence::Absent })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.add_address(self.address, 32, self.device.index, AddressScope::Universe).await
    }

    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        netlink.delete_address(self.address, 32, self.device.index).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("address {}/32 dev {}", self.address, self.device.name)
    }

    fn command(&self) -> String {
        format!("ip address add {}/32 dev {}", self.address, self.device.name)
    }
}
