//! A route for a captured VIP: `destination`/32 through the device, scope link.

use std::net::Ipv4Addr;

use super::{ChangeKind, Device, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::netlink::{Netlink, TABLE_MAIN};

/// What leads the packets for one VIP into the TUN device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VipRoute {
    /// The VIP; the prefix length is always 32.
    pub destination: Ipv4Addr,
    /// Main for a VIP captured by route, [`crate::host::CAPTURE_TABLE`] for one captured by rule.
    pub table: u32,
    /// The TUN device, whose end removes the route too.
    pub device: Device,
}

impl VipRoute {
    fn in_table(&self) -> String {
        if self.table == TABLE_MAIN { String::new() } else { format!(" table {}", self.table) }
    }
}

impl ChangeKind for VipRoute {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_routes(netlink, self.device.index).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = observed.routes(self.device.index).iter().find(|route| {
            (route.destination, route.prefix_len, route.table) == (self.destination, 32, self.table)
        });
        Ok(found.map_or(Presence::Absent, |route| Presence::by_protocol(route.protocol)))
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.add_route(self.destination, self.table, self.device.index).await
    }

    async fn undo(
        &self,
        netlink: &Netlink,
        now: &Observed,
        _: Option<Replaced>,
    ) -> Result<Undone, HostError> {
        if self.presence(now)? == Presence::Foreign {
            return Ok(Undone::taken_over());
        }
        netlink.delete_route(self.destination, self.table, self.device.index).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("route {}/32 dev {}{}", self.destination, self.device.name, self.in_table())
    }

    fn command(&self) -> String {
        let (destination, device) = (self.destination, &self.device.name);
        format!("ip route add {destination}/32 dev {device} scope link{}", self.in_table())
    }
}
