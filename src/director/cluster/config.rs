//! The operator's configuration of a cluster, as valid values. Words and files belong to `config`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::director::connection::Timeouts;
use crate::director::real_server::{Path, RealServerConfig};
use crate::director::scheduler;
use crate::encapsulation::Ttl;
use crate::health::{Hook, OnDown, ServiceHealth};
use crate::packet::Protocol;

/// FTP's control port: a persistent service on it also serves the client's passive data connections
/// (ip_vs_service_find()).
pub(super) const FTP_PORT: u16 = 21;
pub(super) const FTP_DATA_PORT: u16 = 20;
pub(super) const UNPRIVILEGED_PORT_MIN: u16 = 1024;

/// What the director does with a TCP segment that is not a SYN and belongs to no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownTcp {
    /// Resets it, as a host without the connection does (RFC 9293 §3.10.7.1).
    Rst,
    /// Drops it without a reply; the client repeats it until it times out.
    Drop,
    /// Schedules it like a SYN; `sh` and `mh` forward it without an entry.
    Schedule,
}

impl UnknownTcp {
    /// Forward by hash if the scheduler decides by hash alone, otherwise reset.
    pub const fn default_for(scheduler: &scheduler::Row) -> UnknownTcp {
        if scheduler.is_stateless { UnknownTcp::Schedule } else { UnknownTcp::Rst }
    }
}

/// What the director does with a packet for a VIP that no virtual service matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoService {
    /// TCP: RST; UDP: ICMP port unreachable.
    Reject,
    /// No reply, as from an address that no host has.
    Drop,
}

/// What happens to a connection whose real server was removed from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoved {
    /// Its next packet is scheduled like that of a new connection (IPVS `expire_nodest_conn` = 1).
    Reschedule,
    /// Its packets are dropped until it expires (IPVS's default).
    Drop,
    /// It continues as before until it ends.
    Keep,
}

/// The configuration of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// For all VIPs alike.
    pub no_service: NoService,
    /// Of the outer header, for all real servers.
    pub ttl: Ttl,
    /// Fragments packets that are too big even if they have DF set, instead of sending an error to their
    /// sender: for networks that filter ICMP.
    pub ignores_df: bool,
    /// Decrements the TTL, because the capture bypasses the kernel's forwarding, which otherwise does it.
    pub decrements_ttl: bool,
    /// Per worker; above it, new connections are forwarded without an entry.
    pub new_connections_per_second_max: u32,
    /// What is run when health changes something.
    pub on_change: Arc<[Hook]>,
    /// In the order of the file, which listings keep.
    pub virtual_services: Vec<VirtualServiceConfig>,
}

impl ClusterConfig {
    /// More than a worker sees but in a flood.
    pub const NEW_CONNECTIONS_PER_SECOND_MAX: u32 = 125_000;
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig {
            no_service: NoService::Reject,
            ttl: Ttl::default(),
            ignores_df: false,
            decrements_ttl: false,
            new_connections_per_second_max: ClusterConfig::NEW_CONNECTIONS_PER_SECOND_MAX,
            on_change: Arc::default(),
            virtual_services: Vec::new(),
        }
    }
}

/// A virtual service as configured: what it matches, how it schedules, and its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServiceConfig {
    /// Unique within the cluster; metrics and the API name the service by it.
    pub name: String,
    /// At least one. Several form a group that is served as one, including persistence.
    pub matchers: Vec<Matcher>,
    /// Chooses the real servers of new connections.
    pub scheduler: &'static scheduler::Row,
    /// Only hash schedulers read them.
    pub scheduler_options: scheduler::Options,
    /// `None`: each connection is scheduled by itself (`ipvsadm` without `-p`).
    pub persistence: Option<Persistence>,
    /// Each UDP datagram is scheduled by itself and leaves no entry.
    pub is_one_packet: bool,
    /// IPVS leaves such a segment to the host's own TCP, which resets it.
    pub unknown_tcp: UnknownTcp,
    /// Per service, where IPVS has one sysctl for all (`expire_nodest_conn`).
    pub on_removed: OnRemoved,
    /// Per service, where IPVS has one set for all (`ipvsadm --set`).
    pub timeouts: Timeouts,
    /// How its real servers are checked, and what follows.
    pub health: ServiceHealth,
    /// At most one for each RIP.
    pub real_servers: Vec<RealServerConfig>,
}

impl VirtualServiceConfig {
    /// A service with every default, for one protocol, VIP and port.
    pub fn new(
        name: &str,
        protocol: Protocol,
        vip: IpAddr,
        port: u16,
        scheduler: &'static scheduler::Row,
    ) -> Self {
        VirtualServiceConfig {
            name: name.to_owned(),
            matchers: vec![Matcher { protocol, vip, ports: Ports::one(port) }],
            scheduler,
            scheduler_options: scheduler::Options::default(),
            persistence: None,
            is_one_packet: false,
            unknown_tcp: UnknownTcp::default_for(scheduler),
            on_removed: OnRemoved::Reschedule,
            timeouts: Timeouts::default(),
            health: ServiceHealth::default(),
            real_servers: Vec::new(),
        }
    }

    /// Its VIPs.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.matchers.iter().map(|matcher| matcher.vip)
    }
}

/// The packets that a virtual service matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matcher {
    /// TCP or UDP; echo requests are answered whatever the service matches.
    pub protocol: Protocol,
    /// IPv4 in every accepted configuration, because encapsulation supports only IPv4.
    pub vip: IpAddr,
    /// One port, a range, or all ports.
    pub ports: Ports,
}

impl Matcher {
    /// The ports that a persistent service on FTP's control port also serves: the client's data connections.
    pub fn data_ports(&self) -> Option<[Ports; 2]> {
        let is_ftp = self.protocol == Protocol::Tcp && self.ports == Ports::one(FTP_PORT);
        let unprivileged = Ports { first: UNPRIVILEGED_PORT_MIN, last: u16::MAX };
        is_ftp.then_some([Ports::one(FTP_DATA_PORT), unprivileged])
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// At most `last`.
    pub first: u16,
    /// Part of the range.
    pub last: u16,
}

impl Ports {
    /// Port 0 of IPVS.
    pub const ALL: Ports = Ports { first: 1, last: u16::MAX };

    /// A range of one port, which is looked up by hash.
    pub const fn one(port: u16) -> Ports {
        Ports { first: port, last: port }
    }

    /// Both ends count.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether the range is looked up by hash rather than by bisection.
    pub const fn is_one(self) -> bool {
        self.first == self.last
    }
}

/// "80", "8000-8099" or "all", as displayed.
impl std::str::FromStr for Ports {
    type Err = NoPorts;

    fn from_str(word: &str) -> Result<Ports, NoPorts> {
        if word == "all" {
            return Ok(Ports::ALL);
        }
        let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port > 0).ok_or(NoPorts);
        match word.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                if first <= last { Ok(Ports { first, last }) } else { Err(NoPorts) }
            }
            None => port(word).map(Ports::one),
        }
    }
}

/// The word is not a valid range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPorts;

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Ports::ALL => f.write_str("all"),
            Ports { first, last } if first == last => write!(f, "{first}"),
            Ports { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// A client's later connections go to the real server of its first one, as in IPVS (ip_vs_sched_persist()).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Counted from the last new connection.
    pub timeout: Duration,
    /// Clients that share this many leading bits count as one client.
    pub prefix_v4: u8,
    /// As `prefix_v4`, for IPv6 clients: at most 128 (`ipvsadm -M`).
    pub prefix_v6: u8,
    /// Discards a template of a quiesced real server (IPVS `expire_quiescent_template`).
    pub expires_quiesced: bool,
}

impl Persistence {
    /// As `ipvsadm -p` without a number.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(360);

    /// Each client address by itself; templates of quiesced real servers stay in use.
    pub const fn new(timeout: Duration) -> Persistence {
        Persistence { timeout, prefix_v4: 32, prefix_v6: 128, expires_quiesced: false }
    }

    /// The client's address with all bits after the prefix cleared, and the prefix length.
    pub fn mask(&self, client: IpAddr) -> (IpAddr, u8) {
        match client {
            IpAddr::V4(_) => (masked(client, self.prefix_v4), self.prefix_v4),
            IpAddr::V6(_) => (masked(client, self.prefix_v6), self.prefix_v6),
        }
    }
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence::new(Persistence::TIMEOUT_DEFAULT)
    }
}

/// What the schedulers see of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its share of new connections.
    pub weight: u32,
    /// While it is down: what happens to its connections.
    pub on_down: Option<OnDown>,
}

impl From<u32> for Standing {
    fn from(weight: u32) -> Standing {
        Standing { weight, on_down: None }
    }
}

/// What the schedulers see of real servers where it is not what is configured: by virtual service's name and RIP;
/// `None`: the real server is not there.
pub type EffectiveWeights = BTreeMap<String, BTreeMap<IpAddr, Option<Standing>>>;

/// What was configured, and what the schedulers see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// What the operator configured.
    pub config: Arc<ClusterConfig>,
    /// Follows from the states that operators set at run time, such as draining, and from health.
    pub weights: EffectiveWeights,
}

impl From<Arc<ClusterConfig>> for EffectiveConfig {
    fn from(config: Arc<ClusterConfig>) -> EffectiveConfig {
        EffectiveConfig { config, weights: EffectiveWeights::new() }
    }
}

impl From<ClusterConfig> for EffectiveConfig {
    fn from(config: ClusterConfig) -> EffectiveConfig {
        Arc::new(config).into()
    }
}

/// An address with all bits after the first `prefix` cleared.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    }
}

/// What only the host can determine; everything may be missing, as in `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The director's own addresses, without the VIPs, and the broadcast addresses of its networks.
    pub own_addresses: HashSet<IpAddr>,
    /// By RIP; a real server without one gets the default MTU and a source that the kernel chooses.
    pub paths: HashMap<IpAddr, Path>,
    /// VIPs that are still captured although no virtual service has them: their clients are refused.
    pub lingering_vips: HashSet<IpAddr>,
    /// The VIPs, lingering ones included, for which the host accepts packets: those that are its own addresses, on
    /// whichever device.
    pub local_vips: HashSet<IpAddr>,
    /// The RIPs that are addresses of the host.
    pub local_rips: HashSet<IpAddr>,
    /// Where outer identifications start: different after each start, because fragments may still be in
    /// flight.
    pub identification_seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_at_both_ends_and_in_between() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(masked(address("203.0.113.77"), 24), address("203.0.113.0"));
        assert_eq!(masked(address("203.0.113.77"), 32), address("203.0.113.77"));
        assert_eq!(masked(address("203.0.113.77"), 0), address("0.0.0.0"));
        assert_eq!(masked(address("2001:db8::77"), 64), address("2001:db8::"));
        assert_eq!(masked(address("2001:db8::77"), 128), address("2001:db8::77"));
    }
}
