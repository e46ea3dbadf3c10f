//! The cluster: all virtual services and their real servers, as one immutable snapshot.
//!
//! A change makes a new snapshot from the old one ([`Cluster::succeed`]); what did not change keeps
//! its slot and its live counts, so that connections, which name real servers by slot, are not touched.
//! A removed real server keeps its slot while connections point to it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::connection::{Activity, Change, Timeouts};
use super::scheduler::{self, Scheduler};
use crate::encapsulation::{self, Ttl};
use crate::packet::protocol;

/// What a virtual service can balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// What a TCP segment that is no SYN and belongs to no connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownTcp {
    Rst,
    Drop,
    /// Scheduled like a SYN.
    Schedule,
}

/// What a packet for a VIP gets where no virtual service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoService {
    /// TCP: RST; UDP: ICMP port unreachable.
    Reject,
    Drop,
}

/// Everything an operator says about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    pub no_service: NoService,
    pub ttl: Ttl,
    pub virtual_services: Vec<VirtualServiceConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServiceConfig {
    pub name: String,
    pub protocol: Protocol,
    pub vip: IpAddr,
    pub port: u16,
    /// A name of [`scheduler::SCHEDULERS`].
    pub scheduler: &'static str,
    pub unknown_tcp: UnknownTcp,
    pub timeouts: Timeouts,
    pub real_servers: Vec<RealServerConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerConfig {
    pub name: String,
    pub rip: IpAddr,
    /// 0 to 65535; 0 is quiesced.
    pub weight: u32,
    /// `None`: what the host's routes say.
    pub path_mtu: Option<u16>,
}

/// What the host's routes say about the way to one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Our address on that way (DIP).
    pub source: Ipv4Addr,
    /// In bytes, outer packet included.
    pub mtu: u16,
}

/// What only the host knows; everything may be missing, as in `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The director's own addresses, without the VIPs.
    pub own_addresses: HashSet<IpAddr>,
    pub paths: HashMap<IpAddr, Path>,
}

/// MTU assumed for a path nobody has told us about (IEEE 802.3).
pub const PATH_MTU_DEFAULT: u16 = 1500;

/// The three values a virtual service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    pub protocol: u8,
    pub vip: IpAddr,
    pub port: u16,
}

/// A virtual service in force.
pub struct VirtualService {
    pub slot: u32,
    pub config: VirtualServiceConfig,
    /// Canonical order: by address, whatever the order of the configuration (decisions.md C19).
    pub real_servers: Vec<Arc<RealServer>>,
    pub scheduler: Box<dyn Scheduler>,
    /// New connections since the service was added.
    pub connections_total: Arc<AtomicU64>,
}

impl VirtualService {
    pub fn key(&self) -> ServiceKey {
        key_of(&self.config)
    }
}

/// A real server of one virtual service, in force.
pub struct RealServer {
    pub slot: u32,
    pub virtual_service: u32,
    pub config: RealServerConfig,
    /// The RIP; only IPv4 can be encapsulated to.
    pub rip: Ipv4Addr,
    pub path: Path,
    pub encapsulation: &'static encapsulation::Row,
    /// False once it has left the configuration; its slot stays while connections point to it.
    pub is_present: bool,
    pub live: Arc<Live>,
}

/// What changes with every connection; shared by all snapshots.
#[derive(Debug, Default)]
pub struct Live {
    pub active: AtomicU32,
    pub inactive: AtomicU32,
    pub connections_total: AtomicU64,
    pub is_overloaded: AtomicBool,
    identification: AtomicU32,
}

impl Live {
    fn count(&self, activity: Activity) -> &AtomicU32 {
        match activity {
            Activity::Active => &self.active,
            Activity::Inactive => &self.inactive,
        }
    }

    pub fn connections(&self) -> u64 {
        u64::from(self.active.load(Ordering::Relaxed)) + u64::from(self.inactive.load(Ordering::Relaxed))
    }

    /// The next outer identification: a repeat comes after 65,536 packets (RFC 6864 §4.3 asks for as
    /// late as possible).
    pub fn next_identification(&self) -> u16 {
        self.identification.fetch_add(1, Ordering::Relaxed) as u16
    }
}

impl RealServer {
    pub fn weight(&self) -> u32 {
        self.config.weight
    }

    /// May be given new connections.
    pub fn is_eligible(&self) -> bool {
        self.config.weight > 0 && !self.live.is_overloaded.load(Ordering::Relaxed)
    }

    /// ipvs.md §3.1: active × 256 + inactive.
    pub fn overhead(&self) -> u64 {
        u64::from(self.live.active.load(Ordering::Relaxed)) * 256
            + u64::from(self.live.inactive.load(Ordering::Relaxed))
    }

    /// Largest inner packet that needs no fragmentation on the way, in bytes.
    pub fn inner_mtu(&self) -> u16 {
        self.path.mtu.saturating_sub(self.encapsulation.overhead)
    }
}

/// A snapshot. Looked up by every packet, changed by none.
pub struct Cluster {
    config: ClusterConfig,
    host: HostView,
    by_key: HashMap<ServiceKey, Arc<VirtualService>, foldhash::quality::FixedState>,
    vips: HashSet<IpAddr, foldhash::quality::FixedState>,
    virtual_services: Vec<Option<Arc<VirtualService>>>,
    real_servers: Vec<Option<Arc<RealServer>>>,
}

impl Cluster {
    pub fn new(config: ClusterConfig, host: HostView) -> Cluster {
        let empty = Cluster {
            config: ClusterConfig {
                no_service: config.no_service,
                ttl: config.ttl,
                virtual_services: Vec::new(),
            },
            host: HostView::default(),
            by_key: HashMap::default(),
            vips: HashSet::default(),
            virtual_services: Vec::new(),
            real_servers: Vec::new(),
        };
        empty.succeed(config, host)
    }

    /// The snapshot after this one. Virtual services are the same if protocol, VIP and port are; real
    /// servers if virtual service and RIP are.
    pub fn succeed(&self, config: ClusterConfig, host: HostView) -> Cluster {
        let mut builder = Builder { old: self, real_servers: Vec::new(), virtual_services: Vec::new() };
        builder.keep_removed();
        let mut by_key = HashMap::default();
        let mut vips = HashSet::default();
        for service in &config.virtual_services {
            let service = builder.virtual_service(service, &host);
            vips.insert(service.config.vip);
            by_key.insert(service.key(), service);
        }
        let Builder { real_servers, virtual_services, .. } = builder;
        Cluster { config, host, by_key, vips, virtual_services, real_servers }
    }

    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub fn host(&self) -> &HostView {
        &self.host
    }

    pub fn has_vip(&self, address: IpAddr) -> bool {
        self.vips.contains(&address)
    }

    /// Ours: a director's address or a VIP. Such a source must not be tunnelled (RFC 2003 §3.2).
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.host.own_addresses.contains(&address) || self.has_vip(address)
    }

    pub fn find(&self, key: &ServiceKey) -> Option<&Arc<VirtualService>> {
        self.by_key.get(key)
    }

    /// The virtual services, by slot.
    pub fn virtual_services(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.virtual_services.iter().flatten()
    }

    /// By slot: a virtual service in force.
    pub fn virtual_service(&self, slot: u32) -> Option<&Arc<VirtualService>> {
        self.virtual_services.get(slot as usize)?.as_ref()
    }

    /// By slot: also a removed real server that connections still point to.
    pub fn real_server(&self, slot: u32) -> Option<&Arc<RealServer>> {
        self.real_servers.get(slot as usize)?.as_ref()
    }

    /// Books what the connection table reported.
    pub fn book(&self, change: Change) {
        let (slot, gained, lost) = match change {
            Change::Moved { real_server, to: Activity::Active } => {
                (real_server, Some(Activity::Active), Some(Activity::Inactive))
            }
            Change::Moved { real_server, to: Activity::Inactive } => {
                (real_server, Some(Activity::Inactive), Some(Activity::Active))
            }
            Change::Removed { real_server, from } => (real_server, None, Some(from)),
        };
        let Some(real_server) = self.real_server(slot) else { return };
        if let Some(activity) = gained {
            real_server.live.count(activity).fetch_add(1, Ordering::Relaxed);
        }
        if let Some(activity) = lost {
            real_server.live.count(activity).fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Books a new connection.
    pub fn book_new(&self, virtual_service: &VirtualService, real_server: &RealServer, activity: Activity) {
        real_server.live.count(activity).fetch_add(1, Ordering::Relaxed);
        real_server.live.connections_total.fetch_add(1, Ordering::Relaxed);
        virtual_service.connections_total.fetch_add(1, Ordering::Relaxed);
    }
}

fn key_of(config: &VirtualServiceConfig) -> ServiceKey {
    ServiceKey { protocol: config.protocol.number(), vip: config.vip, port: config.port }
}

/// The work of [`Cluster::succeed`].
struct Builder<'a> {
    old: &'a Cluster,
    real_servers: Vec<Option<Arc<RealServer>>>,
    virtual_services: Vec<Option<Arc<VirtualService>>>,
}

impl Builder<'_> {
    /// Every old real server that connections point to stays in its slot as "not present", until the
    /// configuration claims it again; so do the slots of services, for their numbers are in counters.
    fn keep_removed(&mut self) {
        self.virtual_services.resize(self.old.virtual_services.len(), None);
        self.real_servers = self
            .old
            .real_servers
            .iter()
            .map(|slot| {
                let server = slot.as_ref().filter(|server| server.live.connections() > 0)?;
                Some(Arc::new(RealServer {
                    is_present: false,
                    config: server.config.clone(),
                    live: server.live.clone(),
                    ..**server
                }))
            })
            .collect();
    }

    fn virtual_service(&mut self, config: &VirtualServiceConfig, host: &HostView) -> Arc<VirtualService> {
        let old = self.old.find(&key_of(config));
        let slot =
            old.map_or_else(|| free_slot(&mut self.virtual_services, &self.old.virtual_services), |s| s.slot);
        let mut real_servers: Vec<Arc<RealServer>> = config
            .real_servers
            .iter()
            .filter_map(|server| self.real_server(slot, server, old.map(|service| &**service), host))
            .collect();
        real_servers.sort_by_key(|server| server.rip);
        let memory = old.map(|service| service.scheduler.memory()).unwrap_or_default();
        let build = scheduler::find(config.scheduler).map_or(scheduler::DEFAULT.build, |row| row.build);
        let service = Arc::new(VirtualService {
            slot,
            config: config.clone(),
            scheduler: build(&real_servers, memory),
            real_servers,
            connections_total: old.map(|service| service.connections_total.clone()).unwrap_or_default(),
        });
        self.virtual_services[slot as usize] = Some(service.clone());
        service
    }

    fn real_server(
        &mut self,
        virtual_service: u32,
        config: &RealServerConfig,
        old: Option<&VirtualService>,
        host: &HostView,
    ) -> Option<Arc<RealServer>> {
        let IpAddr::V4(rip) = config.rip else { return None };
        let same = |server: &&Arc<RealServer>| server.virtual_service == virtual_service && server.rip == rip;
        let known = old
            .and_then(|service| service.real_servers.iter().find(same))
            .or_else(|| self.real_servers.iter().flatten().find(same))
            .cloned();
        let slot = match &known {
            Some(server) => server.slot,
            None => free_slot(&mut self.real_servers, &self.old.real_servers),
        };
        let mut path = host
            .paths
            .get(&config.rip)
            .copied()
            .unwrap_or(Path { source: Ipv4Addr::UNSPECIFIED, mtu: PATH_MTU_DEFAULT });
        path.mtu = config.path_mtu.unwrap_or(path.mtu);
        let server = Arc::new(RealServer {
            slot,
            virtual_service,
            config: config.clone(),
            rip,
            path,
            encapsulation: &encapsulation::ipip::ROW,
            is_present: true,
            live: known.map(|server| server.live.clone()).unwrap_or_default(),
        });
        self.real_servers[slot as usize] = Some(server.clone());
        Some(server)
    }
}

/// A slot that neither the new snapshot nor the old one uses: a packet in flight may still carry an
/// old slot's number.
fn free_slot<T>(new: &mut Vec<Option<T>>, old: &[Option<T>]) -> u32 {
    let is_free =
        |(index, slot): &(usize, &Option<T>)| slot.is_none() && old.get(*index).is_none_or(Option::is_none);
    let found = new.iter().enumerate().find(is_free).map(|(index, _)| index);
    let index = found.unwrap_or_else(|| {
        new.push(None);
        new.len() - 1
    });
    index as u32
}
