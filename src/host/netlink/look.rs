//! Queries of a survey, which looks at the whole host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteType};

use super::message::{address_of, interface_of, route_question};
use super::{Interface, Netlink, answered, collected};
use crate::host::error::HostError;

/// What the kernel would do with a packet that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Forwarded to the device with this index.
    Forwarded(u32),
    /// Delivered to this host, so it never reaches the TUN device.
    Local,
    /// The kernel's refusal: EXDEV for rp_filter, EHOSTUNREACH without forwarding or without a route.
    Refused(Errno),
}

impl Netlink {
    /// Every link of the network namespace, whether it is up or not.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, HostError> {
        let mut request = self.handle.link().get();
        request.message_mut().header.interface_family = AddressFamily::Unspec;
        let links: Vec<LinkMessage> = collected("list interfaces", request.execute()).await?;
        Ok(links.iter().map(interface_of).collect())
    }

    /// The names of the devices of the kind `ipip` that are up.
    pub(in crate::host) async fn ipip_devices_up(&self) -> Result<BTreeSet<String>, HostError> {
        let mut request = self.handle.link().get();
        request.message_mut().header.interface_family = AddressFamily::Unspec;
        let links: Vec<LinkMessage> = collected("list interfaces", request.execute()).await?;
        let is_kind = |info: &LinkInfo| matches!(info, LinkInfo::Kind(InfoKind::IpIp));
        let is_ipip = |link: &&LinkMessage| {
            link.attributes
                .iter()
                .any(|a| matches!(a, LinkAttribute::LinkInfo(infos) if infos.iter().any(is_kind)))
        };
        let up = links.iter().filter(|link| link.header.flags.contains(LinkFlags::Up)).filter(is_ipip);
        Ok(up.map(|link| interface_of(link).name).collect())
    }

    /// The IPv4 addresses of all interfaces: index, address, prefix length.
    pub async fn all_addresses(&self) -> Result<Vec<(u32, Ipv4Addr, u8)>, HostError> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Inet;
        let found: Vec<AddressMessage> = collected("list addresses", request.execute()).await?;
        let of = |message: &AddressMessage| match address_of(message)? {
            (IpAddr::V4(address), length) => Some((message.header.index, address, length)),
            (IpAddr::V6(_), _) => None,
        };
        Ok(found.iter().filter_map(of).collect())
    }

    /// How the kernel would route a packet from `source` to `destination` that arrives on the interface with this index
    /// (`ip route get DESTINATION from SOURCE iif INTERFACE`).
    pub async fn fate(&self, destination: Ipv4Addr, source: Ipv4Addr, index: u32) -> Result<Fate, HostError> {
        let what = format!("look up the route of a packet to {destination}");
        let mut question = route_question();
        question.header.flags = RouteFlags::LookupTable;
        (question.header.destination_prefix_length, question.header.source_prefix_length) = (32, 32);
        question.attributes = vec![
            RouteAttribute::Destination(IpAddr::V4(destination).into()),
            RouteAttribute::Source(IpAddr::V4(source).into()),
            RouteAttribute::Iif(index),
        ];
        let mut routes = self.handle.route().get(question).execute();
        let reply = match answered(&what, routes.try_next()).await {
            Ok(reply) => reply,
            Err(HostError::Netlink { errno, .. }) => return Ok(Fate::Refused(errno)),
            Err(error) => return Err(error),
        };
        let missing = || HostError::Connection { what, why: "the kernel gave no answer".to_owned() };
        let reply = reply.ok_or_else(missing)?;
        let oif = reply.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        Ok(match (reply.header.kind, oif) {
            (RouteType::Local, _) => Fate::Local,
            (_, Some(index)) => Fate::Forwarded(index),
            (_, None) => Fate::Refused(Errno::EHOSTUNREACH),
        })
    }
}
