//! The guard: which decapsulated packets this host admits. Without it a decapsulator is an open relay
//! (CVE-2020-10136): exact outer source, inner destination a VIP, a served port, one level only.
//!
//! An outer source can be forged: the check needs a network that filters, or IPsec or WireGuard below.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::verdict::DropReason;
use crate::packet::icmp::Icmp;
use crate::packet::ipv4::Ipv4;
use crate::packet::{Protocol, be16, protocol};

/// A port that may be inside, as in `services = ["tcp/80"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub protocol: Protocol,
    pub port: u16,
}

/// What an operator says about a real server; every list but `vips` and `directors` may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    pub vips: Vec<IpAddr>,
    pub directors: Vec<IpNet>,
    /// Outer destinations accepted; empty: any address of this host.
    pub rips: Vec<IpAddr>,
    /// What may be inside; empty: anything for the VIPs.
    pub services: Vec<Service>,
}

/// The configuration and the host's own addresses, asked in the order of standards.md §9.2.
#[derive(Clone, Debug)]
pub struct Guard {
    config: GuardConfig,
    own_addresses: Vec<IpAddr>,
}

impl Guard {
    /// `own_addresses`: those of this host without the VIPs; empty if unknown.
    pub fn new(config: GuardConfig, own_addresses: Vec<IpAddr>) -> Guard {
        Guard { config, own_addresses }
    }

    pub fn config(&self) -> &GuardConfig {
        &self.config
    }

    /// RS-CHK-2 and RS-CHK-3.
    ///
    /// # Errors
    /// `UnknownPeer` for an outer source that is no director or an outer destination that is not ours.
    pub fn admit_outer(&self, source: IpAddr, destination: IpAddr) -> Result<(), DropReason> {
        let is_ours = self.config.rips.is_empty() || self.config.rips.contains(&destination);
        if is_ours && self.is_director(source) { Ok(()) } else { Err(DropReason::UnknownPeer) }
    }

    /// RS-CHK-6 to RS-CHK-10. `peer` is the director that sent it. Says which VIP it is for, by its index
    /// in the configuration.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn admit_inner(&self, inner: &Ipv4, peer: IpAddr) -> Result<usize, DropReason> {
        let destination = IpAddr::V4(inner.destination());
        let vip =
            self.config.vips.iter().position(|vip| *vip == destination).ok_or(DropReason::InnerNotVip)?;
        if matches!(inner.protocol(), protocol::IPIP | protocol::IPV6 | protocol::GRE) {
            return Err(DropReason::NestedTunnel);
        }
        if !self.is_served(inner) {
            return Err(DropReason::InnerNotServed);
        }
        if self.is_martian(inner.source(), peer) {
            return Err(DropReason::InnerMartian);
        }
        inner.check_options()?;
        if inner.ttl() == 0 {
            return Err(DropReason::TtlExpired);
        }
        Ok(vip)
    }

    fn is_director(&self, address: IpAddr) -> bool {
        self.config.directors.iter().any(|prefix| prefix.contains(&address))
    }

    /// Later fragments carry no ports: the host's own reassembly drops them if their first one was not
    /// admitted. ICMP is served if it is an error about a served flow.
    fn is_served(&self, inner: &Ipv4) -> bool {
        if self.config.services.is_empty() || inner.fragment_offset() != 0 {
            return true;
        }
        let payload = inner.payload();
        match inner.protocol() {
            protocol::TCP | protocol::UDP => {
                payload.len() >= 4 && self.has_service(inner.protocol(), be16(payload, 2))
            }
            protocol::ICMP => self.is_served_error(inner),
            _ => false,
        }
    }

    /// An error about what the VIP has sent from a served port.
    fn is_served_error(&self, inner: &Ipv4) -> bool {
        let payload = inner.payload();
        let message = if inner.is_fragment() { Icmp::parse_first(payload) } else { Icmp::parse(payload) };
        let quoted = message.ok().filter(Icmp::is_error).and_then(|message| message.quoted().ok());
        quoted.is_some_and(|quoted| {
            quoted.header.source() == inner.destination()
                && self.has_service(quoted.flow.protocol, quoted.flow.client_port)
        })
    }

    fn has_service(&self, protocol: u8, port: u16) -> bool {
        self.config
            .services
            .iter()
            .any(|service| service.protocol.number() == protocol && service.port == port)
    }

    /// No client has such an address: a VIP, our own, a director's (ping-pong between tunnel ends), or
    /// what is not one host. A director known only by a prefix is met as the sender of this very packet:
    /// clients may live in the prefix too.
    fn is_martian(&self, source: Ipv4Addr, peer: IpAddr) -> bool {
        let first = source.octets()[0];
        let address = IpAddr::V4(source);
        first == 0
            || first == 127
            || first >= 224
            || self.config.vips.contains(&address)
            || self.config.rips.contains(&address)
            || self.own_addresses.contains(&address)
            || address == peer
            || self.config.directors.contains(&IpNet::from(address))
    }
}
