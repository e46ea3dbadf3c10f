//! The cluster: all virtual services and their real servers, as one immutable snapshot.
//!
//! A change makes a new snapshot from the old one ([`Cluster::succeed`]). Unchanged parts keep their slots
//! and live counts, so that connections, which name real servers by slot, are not affected. A removed real
//! server keeps its slot while connections point to it.

mod build;
pub mod config;
pub mod grace;
pub mod identity;

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use foldhash::quality::FixedState;

use config::{FTP_DATA_PORT, FTP_PORT, UNPRIVILEGED_PORT_MIN};

use super::real_server::{Live, RealServer, Slot, SlotSet};
use super::roster::Roster;
use super::scheduler::Scheduler;
use crate::packet::Flow;

pub use super::real_server::{Path, RealServerConfig};
pub use config::{
    ClusterConfig, EffectiveConfig, EffectiveWeights, HostView, Matcher, NoService, OnRemoved, Persistence,
    Ports, Standing, UnknownTcp, VirtualServiceConfig,
};

/// The three values by which a virtual service is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServiceKey {
    protocol: u8,
    vip: IpAddr,
    port: u16,
}

/// Hashes whole words; the derived implementation would hash an address as a slice, with its length.
impl Hash for ServiceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(bits(self.vip));
        state.write_u32(u32::from(self.port) << 8 | u32::from(self.protocol));
    }
}

/// An address as one number; IPv4 as its mapped IPv6 address.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The maximum number of virtual services: slots are 16 bits wide, so that a connection's entry is 16 bytes.
pub const VIRTUAL_SERVICES_MAX: usize = 65_535;

/// A virtual service of the snapshot.
pub struct VirtualService {
    /// Its place in the snapshot; entries of connections name the service by it.
    pub slot: u16,
    /// As configured; the weights that the schedulers use are in `real_servers`.
    pub config: VirtualServiceConfig,
    /// In canonical order, by address, so that ties and hash tables do not depend on the order of the
    /// configuration.
    pub real_servers: Vec<Arc<RealServer>>,
    /// Shared with the previous snapshot while neither real servers, weights nor options change.
    pub scheduler: Arc<dyn Scheduler>,
    /// The scheduler chooses by hash alone.
    pub is_stateless: bool,
    /// New connections since the service was added.
    pub connections_total: Arc<AtomicU64>,
}

/// A virtual service with one of its port ranges.
type Ranged = (Ports, Arc<VirtualService>);

/// A snapshot: every packet reads it, none changes it.
pub struct Cluster {
    config: Arc<ClusterConfig>,
    weights: EffectiveWeights,
    host: HostView,
    by_key: HashMap<ServiceKey, Arc<VirtualService>, FixedState>,
    /// Ranges that do not overlap, in ascending order.
    by_range: HashMap<(u8, IpAddr), Vec<Ranged>, FixedState>,
    vips: HashSet<u128, FixedState>,
    /// Those of the VIPs that are addresses of the host.
    local_vips: HashSet<u128, FixedState>,
    /// The director's addresses and the VIPs.
    own: HashSet<u128, FixedState>,
    virtual_services: Vec<Option<Arc<VirtualService>>>,
    /// In the configuration's order.
    in_order: Vec<Arc<VirtualService>>,
    real_servers: Vec<Option<Arc<RealServer>>>,
    /// Any real server of each RIP: they share the path and its state.
    by_rip: HashMap<Ipv4Addr, Arc<RealServer>, FixedState>,
    serving: SlotSet,
    awaited: Vec<Slot>,
    roster: Arc<Roster>,
    /// Later snapshots have higher ones.
    number: u64,
    /// The removed services to whose real servers connections still point.
    left: Vec<build::Left>,
}

impl Cluster {
    /// The first snapshot, with new counts; later ones come from [`Cluster::succeed`].
    pub fn new(in_force: impl Into<EffectiveConfig>, host: HostView) -> Cluster {
        Cluster::empty().succeed(in_force, host)
    }

    fn empty() -> Cluster {
        Cluster {
            config: Arc::default(),
            weights: EffectiveWeights::new(),
            host: HostView::default(),
            by_key: HashMap::default(),
            by_range: HashMap::default(),
            vips: HashSet::default(),
            local_vips: HashSet::default(),
            own: HashSet::default(),
            virtual_services: Vec::new(),
            in_order: Vec::new(),
            real_servers: Vec::new(),
            by_rip: HashMap::default(),
            serving: SlotSet::default(),
            awaited: Vec::new(),
            roster: Arc::default(),
            number: 0,
            left: Vec::new(),
        }
    }

    /// The next snapshot. [`identity`] determines which virtual services and real servers continue.
    pub fn succeed(&self, in_force: impl Into<EffectiveConfig>, host: HostView) -> Cluster {
        build::succeed(self, in_force.into(), host, &SlotSet::default())
    }

    /// The next snapshot of the same configuration, in which the real servers with these slots are no longer expected
    /// back.
    pub fn end_grace(&self, over: &SlotSet) -> Cluster {
        let in_force = EffectiveConfig { config: self.config.clone(), weights: self.weights.clone() };
        build::succeed(self, in_force, self.host.clone(), over)
    }

    /// As configured.
    pub fn config(&self) -> &Arc<ClusterConfig> {
        &self.config
    }

    /// The host's addresses and paths that this snapshot was built with.
    pub fn host(&self) -> &HostView {
        &self.host
    }

    /// Whether this is a virtual service's address, or one that is still captured.
    pub fn has_vip(&self, address: IpAddr) -> bool {
        self.vips.contains(&bits(address))
    }

    /// Whether this is a VIP that is an address of the host: what belongs to none of its virtual services is the
    /// host's.
    pub fn has_local_vip(&self, address: IpAddr) -> bool {
        !self.local_vips.is_empty() && self.local_vips.contains(&bits(address))
    }

    /// Whether this is a director's address or a VIP. A packet from such a source must not be tunnelled (RFC
    /// 2003 §3.2).
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&bits(address))
    }

    /// The virtual service for a flow: the one for exactly its port, otherwise a persistent FTP service,
    /// otherwise the one with the narrowest range that contains its port.
    pub fn find(&self, flow: &Flow) -> Option<&VirtualService> {
        let key = ServiceKey { protocol: flow.protocol, vip: flow.vip, port: flow.vip_port };
        let exact = self.by_key.get(&key);
        exact.or_else(|| self.find_ftp(&key)).or_else(|| self.find_range(&key)).map(|service| &**service)
    }

    fn find_ftp(&self, key: &ServiceKey) -> Option<&Arc<VirtualService>> {
        let is_data = key.port == FTP_DATA_PORT || key.port >= UNPRIVILEGED_PORT_MIN;
        if key.protocol != crate::packet::protocol::TCP || !is_data {
            return None;
        }
        let control = self.by_key.get(&ServiceKey { port: FTP_PORT, ..*key });
        control.filter(|service| service.config.persistence.is_some())
    }

    fn find_range(&self, key: &ServiceKey) -> Option<&Arc<VirtualService>> {
        let ranges = self.by_range.get(&(key.protocol, key.vip))?;
        let next = ranges.partition_point(|(ports, _)| ports.last < key.port);
        ranges.get(next).filter(|(ports, _)| ports.contains(key.port)).map(|(_, service)| service)
    }

    /// The virtual services, in the order of their slots.
    pub fn virtual_services(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.virtual_services.iter().flatten()
    }

    /// The virtual services, in the configuration's order.
    pub fn in_order(&self) -> &[Arc<VirtualService>] {
        &self.in_order
    }

    /// The virtual service with this slot, unless it was removed.
    pub fn virtual_service(&self, slot: u16) -> Option<&Arc<VirtualService>> {
        self.virtual_services.get(usize::from(slot))?.as_ref()
    }

    /// The real server with this slot, even a removed one to which connections still point.
    pub fn real_server(&self, slot: Slot) -> Option<&Arc<RealServer>> {
        self.real_servers.get(slot.index() as usize)?.as_ref().filter(|server| server.slot == slot)
    }

    /// The real servers whose connections every packet but a SYN follows: those that serve, quiesced or not.
    pub fn serving(&self) -> &SlotSet {
        &self.serving
    }

    /// The real servers that were removed and may come back.
    pub fn awaited(&self) -> &[Slot] {
        &self.awaited
    }

    /// Calls `book` with the live counts of a slot of this snapshot or of any other.
    pub fn with_live(&self, slot: Slot, book: impl FnOnce(&Live)) {
        match self.real_server(slot) {
            Some(server) => book(&server.live),
            None => self.roster.with(slot, book),
        }
    }

    /// Whether a later snapshot added the real server with this slot.
    pub fn is_later(&self, slot: Slot) -> bool {
        self.roster.since(slot).is_some_and(|since| since > self.number)
    }

    /// The slots to which connections or templates point, whichever snapshot contains them.
    pub fn referenced(&self) -> Vec<Slot> {
        self.roster.referenced()
    }

    /// A real server with this RIP, even a removed one to which connections still point.
    pub fn real_server_at(&self, rip: Ipv4Addr) -> Option<&Arc<RealServer>> {
        self.by_rip.get(&rip)
    }

    /// All real servers, including removed ones to which connections still point.
    pub fn real_servers(&self) -> impl Iterator<Item = &Arc<RealServer>> {
        self.real_servers.iter().flatten()
    }
}
