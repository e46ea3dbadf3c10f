//! A proxy neighbour: the host answers ARP for `address` on the device.

use std::net::Ipv4Addr;

use super::{ChangeKind, Device, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::netlink::Netlink;

/// What `ip neigh add proxy` makes, with the number of this program's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProxyNeighbour {
    /// The VIP that neighbours look for.
    pub address: Ipv4Addr,
    /// The client-side interface of the director.
    pub device: Device,
}

impl ChangeKind for ProxyNeighbour {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_proxies(netlink).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let mut proxies = observed.proxies().iter();
        let found = proxies.find(|proxy| (proxy.address, proxy.index) == (self.address, self.device.index));
        Ok(found.map_or(Presence::Absent, |proxy| Presence::by_protocol(proxy.protocol)))
    }

    fn record(&self, _: Option<Replaced>) -> Option<Record> {
        let Device { name, index } = self.device.clone();
        Some(Record::Proxy { address: self.address, device: name, index })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.add_proxy(self.address, self.device.index).await
    }

    /// The kernel deletes a proxy neighbour regardless of who added it (pneigh_delete()).
    async fn undo(
        &self,
        netlink: &Netlink,
        now: &Observed,
        _: Option<Replaced>,
    ) -> Result<Undone, HostError> {
        if self.presence(now)? == Presence::Foreign {
            return Ok(Undone::taken_over());
        }
        netlink.delete_proxy(self.address, self.device.index).await?;
        Ok(Undone::Removed)
    }

    fn renamed(self, _: &str, to: &Device) -> ProxyNeighbour {
        if self.device.index == to.index { ProxyNeighbour { device: to.clone(), ..self } } else { self }
    }

    fn describe(&self) -> String {
        format!("proxy neighbour {} dev {}", self.address, self.device.name)
    }

    fn command(&self) -> String {
        format!("ip neigh add proxy {} dev {}", self.address, self.device.name)
    }
}
