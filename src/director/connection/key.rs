//! Flows as keys, in as few bytes as their address family needs.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::Flow;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyV4 {
    client: Ipv4Addr,
    vip: Ipv4Addr,
    client_port: u16,
    vip_port: u16,
    protocol: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyV6 {
    client: Ipv6Addr,
    vip: Ipv6Addr,
    client_port: u16,
    vip_port: u16,
    protocol: u8,
}

/// Hashes whole words; the derived implementation would hash each address as a slice, with its length.
impl Hash for KeyV4 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(u32::from(self.client)) << 32 | u64::from(u32::from(self.vip)));
        state.write_u64(ports_and_protocol(self.client_port, self.vip_port, self.protocol));
    }
}

impl Hash for KeyV6 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.client.into());
        state.write_u128(self.vip.into());
        state.write_u64(ports_and_protocol(self.client_port, self.vip_port, self.protocol));
    }
}

fn ports_and_protocol(client_port: u16, vip_port: u16, protocol: u8) -> u64 {
    u64::from(client_port) << 32 | u64::from(vip_port) << 16 | u64::from(protocol)
}

pub(super) enum Key {
    V4(KeyV4),
    V6(KeyV6),
}

impl Key {
    #[inline]
    pub(super) fn of(flow: &Flow) -> Key {
        let Flow { protocol, client_port, vip_port, .. } = *flow;
        match (flow.client, flow.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Key::V4(KeyV4 { client, vip, client_port, vip_port, protocol })
            }
            (client, vip) => {
                Key::V6(KeyV6 { client: v6(client), vip: v6(vip), client_port, vip_port, protocol })
            }
        }
    }
}

/// A flow packed into a key.
pub(super) trait FlowKey: Eq + Hash {
    fn flow(&self) -> Flow;
}

impl FlowKey for KeyV4 {
    fn flow(&self) -> Flow {
        let KeyV4 { client, vip, client_port, vip_port, protocol } = *self;
        Flow { protocol, client: client.into(), client_port, vip: vip.into(), vip_port }
    }
}

impl FlowKey for KeyV6 {
    fn flow(&self) -> Flow {
        let KeyV6 { client, vip, client_port, vip_port, protocol } = *self;
        let unmapped = |address: Ipv6Addr| address.to_canonical();
        Flow { protocol, client: unmapped(client), client_port, vip: unmapped(vip), vip_port }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
