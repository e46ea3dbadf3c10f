//! Conversion between the kernel's messages and the types of this room.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};

use super::{Interface, ProxyEntry, Route};
use crate::host::PROTOCOL;

/// An empty IPv4 query: the kernel's strict check requires every unused header field to be zero.
pub(in crate::host) fn route_question() -> RouteMessage {
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    question
}

pub(in crate::host) fn host_route(destination: Ipv4Addr, table: u32, index: u32) -> RouteMessage {
    let mut route = route_question();
    route.header.destination_prefix_length = 32;
    route.header.protocol = PROTOCOL.into();
    route.header.scope = RouteScope::Link;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(destination)),
        RouteAttribute::Oif(index),
        RouteAttribute::Table(table),
    ];
    route
}

pub(in crate::host) fn interface_of(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        name: String::new(),
        index: link.header.index,
        mtu: 0,
        mac: None,
        is_up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        uses_arp: !link.header.flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name.clone(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(bytes) => interface.mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    interface
}

pub(in crate::host) fn address_of(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let prefix_len = message.header.prefix_len;
    // On a point-to-point device `Address` is the peer's address and `Local` is this host's.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    local.or(any).map(|address| (address, prefix_len))
}

pub(in crate::host) fn route_of(message: &RouteMessage) -> Option<Route> {
    let mut route = Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix_len: message.header.destination_prefix_length,
        table: u32::from(message.header.table),
        index: 0,
        protocol: message.header.protocol.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = *address,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Oif(index) => route.index = *index,
            _ => {}
        }
    }
    (message.header.address_family == AddressFamily::Inet).then_some(route)
}

pub(in crate::host) fn proxy_of(message: &NeighbourMessage) -> Option<ProxyEntry> {
    let address = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let protocol = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    });
    Some(ProxyEntry { address, index: message.header.ifindex, protocol: protocol.unwrap_or(0) })
}

pub(in crate::host) fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Destination, prefix length, TOS and priority: unique in a table.
pub(crate) type RouteKey = (Ipv4Addr, u8, u8, u32);

/// What a route is found and replaced by.
pub(crate) fn route_key(route: &RouteMessage) -> RouteKey {
    let header = &route.header;
    let mut key = (Ipv4Addr::UNSPECIFIED, header.destination_prefix_length, header.tos, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(destination)) => key.0 = *destination,
            RouteAttribute::Priority(priority) => key.3 = *priority,
            _ => {}
        }
    }
    key
}
