//! An address for a TUN device through which packets come back to the host.
//!
//! Loose rp_filter drops every packet that it checks on a device without an address (__fib_validate_source(), label
//! last_resort). The address itself is never used: 192.0.0.8 is reserved for hosts that need one and have none (RFC
//! 7600), and scope host keeps the kernel from choosing it as a source.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::address::AddressScope;

use super::{ChangeKind, Device, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::netlink::Netlink;

/// RFC 7600 §4.8: the IPv4 dummy address.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The dummy address on a director's TUN device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceAddress {
    /// The device, which takes the address with it when it disappears.
    pub device: Device,
}

impl ChangeKind for DeviceAddress {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_addresses(netlink, self.device.index).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let is_there = observed.addresses(self.device.index).contains(&(IpAddr::V4(DUMMY), 32));
        Ok(if is_there { Presence::Foreign } else { Presence::Absent })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.add_address(DUMMY, 32, self.device.index, AddressScope::Host).await
    }

    /// The kernel removes the device's routes with its last address (fib_disable_ip()), so this must come after them.
    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        netlink.delete_address(DUMMY, 32, self.device.index).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("address {DUMMY}/32 dev {}", self.device.name)
    }

    fn command(&self) -> String {
        format!("ip address add {DUMMY}/32 dev {} scope host", self.device.name)
    }
}
