//! The guard: which decapsulated packets this host accepts. Without it a decapsulator is an open relay
//! (CVE-2020-10136). It requires an exact outer source, a VIP as inner destination, a served port, and a
//! single level of encapsulation.
//!
//! An outer source can be forged: the check needs a network that filters, or IPsec or WireGuard below it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::verdict::DropReason;
use crate::encapsulation::is_tunnel;
use crate::packet::icmp::Icmp;
use crate::packet::upper::Upper;
use crate::packet::{Ip, Protocol, address, probe, protocol, udp};

/// An accepted protocol and port of inner packets, as in `services = ["tcp/80"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Of the inner packet.
    pub protocol: Protocol,
    /// Destination port, before any redirection on this host.
    pub port: u16,
}

/// The configuration of a real server; every list except `vips` and `directors` may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// Accepted inner destinations; a delivery is counted by its index here.
    pub vips: Vec<IpAddr>,
    /// Accepted outer sources; a single address is a prefix of full length.
    pub directors: Vec<IpNet>,
    /// Accepted outer destinations; empty: any address of this host.
    pub rips: Vec<IpAddr>,
    /// Accepted inner protocols and ports; empty: anything for the VIPs.
    pub services: Vec<Service>,
}

/// The addresses of this host and of its networks, without the VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Of its interfaces; `None` if unknown.
    pub unicast: Option<HashSet<IpAddr>>,
    /// Those that every host of a connected network receives.
    pub broadcast: HashSet<IpAddr>,
}

impl OwnAddresses {
    fn has(&self, address: IpAddr) -> bool {
        self.unicast.as_ref().is_some_and(|unicast| unicast.contains(&address))
    }
}

/// The configuration and the host's own addresses. The outer header is checked before the inner one.
#[derive(Clone, Debug)]
pub struct Guard {
    config: GuardConfig,
    own: Arc<ArcSwap<OwnAddresses>>,
}

impl Guard {
    /// `own_addresses`: those of this host without the VIPs, which do not change; empty if unknown.
    pub fn new(config: GuardConfig, own_addresses: Vec<IpAddr>) -> Guard {
        let unicast = (!own_addresses.is_empty()).then(|| own_addresses.into_iter().collect());
        let own = OwnAddresses { unicast, broadcast: HashSet::new() };
        Guard::following(config, Arc::new(ArcSwap::from_pointee(own)))
    }

    /// `own` may change at any time.
    pub fn following(config: GuardConfig, own: Arc<ArcSwap<OwnAddresses>>) -> Guard {
        Guard { config, own }
    }

    /// As given to [`Guard::new`].
    pub fn config(&self) -> &GuardConfig {
        &self.config
    }

    /// Checks the outer header: its destination and its sender.
    ///
    /// # Errors
    /// `UnknownPeer` for an outer source that is not a director, or an outer destination that is not
    /// accepted; `OuterNotOwn` for one that is not a unicast address of this host.
    pub(super) fn admit_outer(&self, outer: &Ip) -> Result<(), DropReason> {
        let (source, destination) = (outer.source(), outer.destination());
        let is_accepted = self.config.rips.is_empty() || self.config.rips.contains(&destination);
        if !is_accepted || !self.is_director(source) {
            return Err(DropReason::UnknownPeer);
        }
        if self.is_own_unicast(destination) { Ok(()) } else { Err(DropReason::OuterNotOwn) }
    }

    /// The kernel also hands over packets for everyone, and for addresses that an operator has routed to this host;
    /// the latter are accepted if `rips` names them.
    fn is_own_unicast(&self, destination: IpAddr) -> bool {
        let own = self.own.load();
        if address::is_martian(destination) || own.broadcast.contains(&destination) {
            return false;
        }
        own.unicast.is_none() || own.has(destination) || self.config.rips.contains(&destination)
    }

    /// Checks the inner packet: VIP, port, source, nested tunnel, source route and TTL. Returns the index of the
    /// VIP in the configuration.
    ///
    /// # Errors
    /// The first check that fails.
    pub(super) fn admit_inner(&self, inner: &Ip, peer: IpAddr) -> Result<usize, DropReason> {
        let destination = inner.destination();
        let vip =
            self.config.vips.iter().position(|vip| *vip == destination).ok_or(DropReason::InnerNotVip)?;
        let upper = inner.upper()?;
        if is_tunnel(upper.protocol) {
            return Err(DropReason::NestedTunnel);
        }
        // A check of the director that sent the packet. It does not loop: the host answers it to the director's address
        // without encapsulation, and a director sends no other packet of its own through the tunnel.
        let is_probe = inner.source() == peer && probe::is_probe(&upper);
        let is_served = self.is_served(inner, &upper) || (is_probe && probe::is_echo(&upper));
        if !is_served {
            return Err(DropReason::InnerNotServed);
        }
        let is_directors = !is_probe && self.is_of_director(inner.source(), peer);
        if is_directors || self.is_martian(inner.source()) {
            return Err(DropReason::InnerMartian);
        }
        inner.check_options()?;
        if inner.hop_limit() == 0 {
            return Err(DropReason::TtlExpired);
        }
        Ok(vip)
    }

    fn is_director(&self, address: IpAddr) -> bool {
        self.config.directors.iter().any(|prefix| prefix.contains(&address))
    }

    /// Later fragments have no ports: the host's own reassembly drops them if their first fragment was not
    /// accepted. ICMP is accepted if it is an error about a served flow.
    fn is_served(&self, inner: &Ip, upper: &Upper) -> bool {
        if self.config.services.is_empty() || upper.is_later_fragment() {
            return true;
        }
        match upper.protocol {
            protocol::TCP | protocol::UDP => {
                // The ports of TCP are in the same place.
                let port = udp::field::DESTINATION_PORT;
                port.is_inside(upper.payload) && self.has_service(upper.protocol, port.read(upper.payload))
            }
            protocol::ICMP => self.is_served_error(inner, upper),
            _ => false,
        }
    }

    /// Whether this is an error about a packet that the VIP has sent from a served port.
    fn is_served_error(&self, inner: &Ip, upper: &Upper) -> bool {
        let message =
            if upper.is_fragment() { Icmp::parse_first(upper.payload) } else { Icmp::parse(upper.payload) };
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

    /// Whether neither a client nor a director can have this source: a VIP, an own address, or an address that is not a
    /// single host's, such as the broadcast address of a connected network.
    fn is_martian(&self, source: IpAddr) -> bool {
        let own = self.own.load();
        address::is_martian(source)
            || own.broadcast.contains(&source)
            || own.has(source)
            || self.config.vips.contains(&source)
            || self.config.rips.contains(&source)
    }

    /// Whether this source is a director's, so that the packet may go round between two tunnel ends. A prefix of
    /// directors may contain clients too: only the sender of this packet is certainly a director.
    fn is_of_director(&self, source: IpAddr, peer: IpAddr) -> bool {
        source == peer || self.config.directors.contains(&IpNet::from(source))
    }
}
