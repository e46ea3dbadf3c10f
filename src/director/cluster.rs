//! The cluster: all virtual services and their real servers, as one immutable snapshot.
//!
//! A change makes a new snapshot from the old one ([`Cluster::succeed`]). Unchanged parts keep their slots
//! and live counts, so that connections, which name real servers by slot, are not affected. A removed real
//! server keeps its slot while connections point to it.

mod build;
pub mod config;

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use foldhash::quality::FixedState;

use super::connection::Activity;
use super::path::SoftState;
use super::scheduler::Scheduler;
use crate::encapsulation;
use crate::packet::Flow;
use crate::time::Moment;

pub use config::{
    ClusterConfig, HostView, Matcher, NoService, OnRemoved, Path, Persistence, Ports, RealServerConfig,
    UnknownTcp, VirtualServiceConfig,
};

/// MTU of a path about which nothing is known (IEEE 802.3).
pub const PATH_MTU_DEFAULT: u16 = 1500;

/// FTP's control port: a persistent service on it also serves the client's passive data connections
/// (ip_vs_service_find()).
const FTP_PORT: u16 = 21;
const FTP_DATA_PORT: u16 = 20;
const UNPRIVILEGED_PORT_MIN: u16 = 1024;

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
    pub slot: u16,
    pub config: VirtualServiceConfig,
    /// In canonical order, by address, so that ties and hash tables do not depend on the order of the
    /// configuration.
    pub real_servers: Vec<Arc<RealServer>>,
    pub scheduler: Arc<dyn Scheduler>,
    /// The scheduler chooses by hash alone.
    pub is_stateless: bool,
    /// New connections since the service was added.
    pub connections_total: Arc<AtomicU64>,
}

/// A place in a snapshot's list of real servers: an index and, above it, a generation. When a slot is given
/// to another real server its generation changes, so that an old number no longer finds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    const INDEX_BITS: u32 = 24;

    pub const fn new(index: u32, generation: u8) -> Slot {
        Slot(index & ((1 << Slot::INDEX_BITS) - 1) | (generation as u32) << Slot::INDEX_BITS)
    }

    pub const fn index(self) -> u32 {
        self.0 & ((1 << Slot::INDEX_BITS) - 1)
    }
}

/// A real server of one virtual service in the snapshot.
pub struct RealServer {
    pub slot: Slot,
    pub virtual_service: u16,
    pub config: RealServerConfig,
    /// The RIP; encapsulation supports only IPv4.
    pub rip: Ipv4Addr,
    pub path: Path,
    /// What errors from the path have shown; shared by all real servers with this RIP.
    pub soft: Arc<SoftState>,
    pub encapsulation: &'static encapsulation::Row,
    /// False after it was removed from the configuration; its slot stays while connections point to it.
    pub is_present: bool,
    pub live: Arc<Live>,
}

/// The values that change with every connection; shared by all snapshots.
#[derive(Debug, Default)]
pub struct Live {
    active: AtomicI32,
    inactive: AtomicI32,
    persistent: AtomicI32,
    pub connections_total: AtomicU64,
    pub is_overloaded: AtomicBool,
}

impl Live {
    /// The counts of a real server in use.
    #[cfg(test)]
    pub(crate) fn of(active: u32, inactive: u32) -> Live {
        let live = Live::default();
        live.set_active(active);
        live.inactive.store(inactive as i32, Ordering::Relaxed);
        live
    }

    #[cfg(test)]
    pub(crate) fn set_active(&self, active: u32) {
        self.active.store(active as i32, Ordering::Relaxed);
    }

    fn count(&self, activity: Activity) -> &AtomicI32 {
        match activity {
            Activity::Active => &self.active,
            Activity::Inactive => &self.inactive,
        }
    }

    /// The active connections, in the sense of IPVS: see [`Activity`].
    pub fn active(&self) -> u32 {
        read(&self.active)
    }

    pub fn inactive(&self) -> u32 {
        read(&self.inactive)
    }

    /// Persistence templates.
    pub fn persistent(&self) -> u32 {
        read(&self.persistent)
    }

    /// Active and inactive connections, without templates.
    pub fn connections(&self) -> u64 {
        u64::from(self.active()) + u64::from(self.inactive())
    }

    /// Whether connections or templates point to it.
    pub fn is_referenced(&self) -> bool {
        self.connections() > 0 || self.persistent() > 0
    }
}

/// A count is below zero briefly, if one worker has booked an end before another has booked the preceding
/// move.
fn read(count: &AtomicI32) -> u32 {
    count.load(Ordering::Relaxed).max(0) as u32
}

impl RealServer {
    pub fn weight(&self) -> u32 {
        self.config.weight
    }

    /// Whether it may get new connections.
    pub fn is_eligible(&self) -> bool {
        self.config.weight > 0 && !self.live.is_overloaded.load(Ordering::Relaxed)
    }

    pub fn active(&self) -> u64 {
        self.live.active().into()
    }

    /// active × 256 + inactive, as ip_vs_dest_conn_overhead() of IPVS.
    pub fn overhead(&self) -> u64 {
        self.active() * 256 + u64::from(self.live.inactive())
    }

    /// The largest outer packet, in bytes, that fits the path without fragmentation.
    pub fn path_mtu(&self, now: Moment) -> u16 {
        self.soft.mtu(now).map_or(self.path.mtu, |told| told.min(self.path.mtu))
    }

    /// The largest inner packet, in bytes, that fits the path without fragmentation.
    pub fn inner_mtu(&self, now: Moment) -> u16 {
        self.path_mtu(now).saturating_sub(self.encapsulation.overhead)
    }

    /// Books that a template now points here, or no longer does.
    pub fn book_template(&self, step: i32) {
        self.live.persistent.fetch_add(step, Ordering::Relaxed);
    }

    /// Books a new connection. Must be called before the entry is in the table, where a sweep might remove it
    /// at once.
    pub fn book_new(&self, activity: Activity) {
        self.live.count(activity).fetch_add(1, Ordering::Relaxed);
        self.judge_load();
    }

    /// Books that a connection moved to the other count.
    pub fn book_move(&self, to: Activity) {
        let from = if to == Activity::Active { Activity::Inactive } else { Activity::Active };
        // In this order: a connection that counts twice for a moment could set another worker's overload
        // flag, which then stays.
        self.live.count(from).fetch_sub(1, Ordering::Relaxed);
        self.live.count(to).fetch_add(1, Ordering::Relaxed);
    }

    /// Books that a connection ended.
    pub fn book_end(&self, activity: Activity) {
        self.live.count(activity).fetch_sub(1, Ordering::Relaxed);
        self.judge_load();
    }

    /// Sets or clears the overload flag: set at the upper threshold, cleared below the lower one, otherwise
    /// unchanged. IPVS follows this rule since its fix "properly update the overload flag on dest edit".
    pub fn judge_load(&self) {
        let upper = u64::from(self.config.upper_threshold);
        let total = self.live.connections();
        let lower = match u64::from(self.config.lower_threshold) {
            0 => upper - upper / 4,
            lower => lower,
        };
        if upper == 0 || total < lower.min(upper) {
            if self.live.is_overloaded.load(Ordering::Relaxed) {
                self.live.is_overloaded.store(false, Ordering::Relaxed);
            }
        } else if total >= upper {
            self.live.is_overloaded.store(true, Ordering::Relaxed);
        }
    }
}

/// A virtual service with one of its port ranges.
type Ranged = (Ports, Arc<VirtualService>);

/// A snapshot: every packet reads it, none changes it.
pub struct Cluster {
    config: Arc<ClusterConfig>,
    host: HostView,
    by_key: HashMap<ServiceKey, Arc<VirtualService>, FixedState>,
    /// Ranges that do not overlap, in ascending order.
    by_range: HashMap<(u8, IpAddr), Vec<Ranged>, FixedState>,
    vips: HashSet<u128, FixedState>,
    /// The director's addresses and the VIPs.
    own: HashSet<u128, FixedState>,
    virtual_services: Vec<Option<Arc<VirtualService>>>,
    /// In the configuration's order.
    in_order: Vec<Arc<VirtualService>>,
    real_servers: Vec<Option<Arc<RealServer>>>,
    /// Any real server of each RIP: they share the path and its state.
    by_rip: HashMap<Ipv4Addr, Arc<RealServer>, FixedState>,
    /// By index: the generation of the last slot there.
    generations: Vec<u8>,
    /// The slots of removed services to which connections still point, by first matcher.
    left: HashMap<Matcher, u16>,
}

impl Cluster {
    pub fn new(config: impl Into<Arc<ClusterConfig>>, host: HostView) -> Cluster {
        Cluster::empty().succeed(config, host)
    }

    fn empty() -> Cluster {
        Cluster {
            config: Arc::default(),
            host: HostView::default(),
            by_key: HashMap::default(),
            by_range: HashMap::default(),
            vips: HashSet::default(),
            own: HashSet::default(),
            virtual_services: Vec::new(),
            in_order: Vec::new(),
            real_servers: Vec::new(),
            by_rip: HashMap::default(),
            generations: Vec::new(),
            left: HashMap::new(),
        }
    }

    /// The next snapshot. Virtual services are the same if they share the first matcher, the name, or
    /// otherwise any matcher; real servers if they share virtual service and RIP.
    pub fn succeed(&self, config: impl Into<Arc<ClusterConfig>>, host: HostView) -> Cluster {
        build::succeed(self, config.into(), host)
    }

    pub fn config(&self) -> &Arc<ClusterConfig> {
        &self.config
    }

    pub fn host(&self) -> &HostView {
        &self.host
    }

    pub fn has_vip(&self, address: IpAddr) -> bool {
        self.vips.contains(&bits(address))
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

    /// A real server with this RIP, even a removed one to which connections still point.
    pub fn real_server_at(&self, rip: Ipv4Addr) -> Option<&Arc<RealServer>> {
        self.by_rip.get(&rip)
    }

    /// All real servers, including removed ones to which connections still point.
    pub fn real_servers(&self) -> impl Iterator<Item = &Arc<RealServer>> {
        self.real_servers.iter().flatten()
    }
}
