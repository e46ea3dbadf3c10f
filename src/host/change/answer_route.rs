//! The route by which the host accepts the answers to checks: VIP/32 through the devices on which they arrive.
//!
//! No packet follows it: fib_validate_source() compares the device of an answer with those of the route.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteScope, RouteType,
};

use super::{ANSWER_TABLE, ChangeKind, Device, Observed, PROTOCOL, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::mirror::devices;
use crate::host::netlink::Netlink;

/// The route in [`ANSWER_TABLE`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerRoute {
    /// The source of the answers.
    pub vip: Ipv4Addr,
    /// At least one, in the order of their names; none in a killed daemon's record, where they do not matter.
    pub devices: Vec<Device>,
}

impl AnswerRoute {
    /// The route for this VIP through whichever devices, to be deleted.
    pub(in crate::host) fn anywhere(vip: Ipv4Addr) -> RouteMessage {
        AnswerRoute { vip, devices: Vec::new() }.message()
    }

    fn message(&self) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = 32;
        route.header.protocol = PROTOCOL.into();
        route.header.scope = RouteScope::Link;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(self.vip)),
            RouteAttribute::Table(ANSWER_TABLE),
        ];
        match self.devices.as_slice() {
            [] => {}
            [device] => route.attributes.push(RouteAttribute::Oif(device.index)),
            several => {
                let hop = |device: &Device| {
                    let mut hop = RouteNextHop::default();
                    hop.interface_index = device.index;
                    hop
                };
                route.attributes.push(RouteAttribute::MultiPath(several.iter().map(hop).collect()));
            }
        }
        route
    }

    fn words(&self) -> String {
        let hops: String = match self.devices.as_slice() {
            [device] => format!(" dev {}", device.name),
            several => several.iter().map(|device| format!(" nexthop dev {}", device.name)).collect(),
        };
        format!("{}/32 scope link table {ANSWER_TABLE}{hops}", self.vip)
    }
}

impl ChangeKind for AnswerRoute {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_table(netlink, ANSWER_TABLE).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let mut wanted: Vec<u32> = self.devices.iter().map(|device| device.index).collect();
        wanted.sort_unstable();
        let is = |route: &&RouteMessage| {
            let mut found: Vec<u32> = devices(route).collect();
            found.sort_unstable();
            found == wanted
        };
        let found = observed.route(ANSWER_TABLE, (self.vip, 32, 0, 0)).filter(is);
        Ok(found.map_or(Presence::Absent, |route| Presence::by_protocol(route.header.protocol.into())))
    }

    fn record(&self, _: Option<Replaced>) -> Option<Record> {
        Some(Record::AnswerRoute { vip: self.vip })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.replace_route(self.message()).await
    }

    /// Through whichever devices it is now.
    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        netlink.delete_route_like(AnswerRoute::anywhere(self.vip)).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("route {}", self.words())
    }

    fn command(&self) -> String {
        format!("ip route add {}", self.words())
    }

    fn replaces(&self, other: &AnswerRoute) -> bool {
        self.vip == other.vip
    }

    fn renamed(self, from: &str, to: &Device) -> AnswerRoute {
        let renamed = |device: Device| if device.name == from { to.clone() } else { device };
        AnswerRoute { vip: self.vip, devices: self.devices.into_iter().map(renamed).collect() }
    }

    fn is_optional(&self) -> bool {
        true
    }
}
