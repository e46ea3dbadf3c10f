//! An address of the host: `address`/32 on the device.

use std::net::{IpAddr, Ipv4Addr};

use super::{ChangeKind, Device, Observed, Presence, Undone};
use crate::host::error::HostError;
use crate::host::netlink::Netlink;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VipAddress {
    pub address: Ipv4Addr,
    pub device: Device,
}

impl ChangeKind for VipAddress {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_addresses(netlink, self.device.index).await
    }

    /// The kernel does not say who added an address.
    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let is_there = observed.addresses(self.device.index).contains(&(IpAddr::V4(self.address), 32));
        Ok(if is_there { Presence::Foreign } else { Presence::Absent })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<Option<i64>, HostError> {
        netlink.add_address(self.address, 32, self.device.index).await?;
        Ok(None)
    }

    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<i64>) -> Result<Undone, HostError> {
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
