//! The types of the two plans, and the defaults of their keys. [`super::plan`] creates the plans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::director::cluster::{ClusterConfig, Matcher, OnRemoved, UnknownTcp};
use crate::director::connection::Timeouts;
use crate::health::ServiceHealth;
use crate::realserver::guard::GuardConfig;

/// The director's default TUN device.
pub const TUN_DIRECTOR: &str = "lvsd0";
/// The real server's default TUN device.
pub const TUN_REALSERVER: &str = "lvsr0";
/// The director's default address for metrics.
pub const METRICS_DIRECTOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9690);
/// The default control socket.
pub const CONTROL_DEFAULT: &str = "/run/lvs-tund/director.sock";
/// The default control socket of a real server.
pub const CONTROL_REALSERVER: &str = "/run/lvs-tund/realserver.sock";
/// The real server's default address for metrics.
pub const METRICS_REALSERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9691);

/// The default size of the connection table. A million entries take about 70 MB (`cargo bench --bench memory`).
pub const CONNECTIONS_MAX_DEFAULT: usize = 1 << 20;

/// How packets for a VIP get into the TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureSetting {
    /// By rule while the VIP is an address of this host, otherwise by route.
    Auto,
    /// By a route.
    Route,
    /// By a policy rule.
    Rule,
}

/// When this host answers ARP for a VIP and announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceSetting {
    /// While the director runs.
    Always,
    /// Only while the VIP is an address of this host: a VRRP backup stays silent.
    Local,
    /// While a virtual service of the VIP has quorum.
    Healthy,
    /// Not at all.
    Never,
}

/// The maximum segment size announced for connections to the VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssSetting {
    /// What fits the path from the directors.
    Auto,
    /// The host's own MSS.
    Off,
    /// A fixed number of bytes.
    Fixed(u16),
}

/// A director's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorPlan {
    /// The interfaces that receive the clients' packets for the VIPs; at least one, none twice.
    pub interfaces: Vec<String>,
    /// The name of the TUN device.
    pub tun: String,
    /// `None`: one per processor, up to the number that is useful.
    pub queues: Option<usize>,
    /// Where metrics and probes are served.
    pub metrics: SocketAddr,
    /// Unix socket of the control API; `None`: [`CONTROL_DEFAULT`] if possible.
    pub control: Option<PathBuf>,
    /// Group that may use the socket, in addition to its owner; `None`: the daemon's group.
    pub control_group: Option<String>,
    /// Where the API is served read-only over TCP; `None`: nowhere.
    pub api: Option<SocketAddr>,
    /// Names, in addition to the host's own, under which clients reach `metrics` and `api`.
    pub http_names: Vec<String>,
    /// How packets for a VIP reach the TUN device.
    pub capture: CaptureSetting,
    /// When the host answers ARP for a VIP.
    pub announce: AnnounceSetting,
    /// Whether connection tracking is kept away from the clients' packets.
    pub notrack: bool,
    /// Source address of the outer packets; `None`: the source address of the host's route to each real
    /// server.
    pub outer_source: Option<Ipv4Addr>,
    /// Maximum number of entries in the connection table.
    pub connections_max: usize,
    /// Maximum number of entries per client.
    pub connections_per_client_max: u32,
    /// Key of the hash schedulers; `None`: a random key.
    pub hash_key: Option<[u8; 16]>,
    /// The virtual services and their real servers.
    pub cluster: ClusterConfig,
    /// Already applied in `cluster`; also the starting values of services added later.
    pub defaults: ServiceDefaults,
}

/// The values that a virtual service inherits unless it overrides them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDefaults {
    /// `None`: the scheduler's default.
    pub unknown_tcp: Option<UnknownTcp>,
    /// What happens to a connection whose real server was removed.
    pub on_removed: OnRemoved,
    /// How long an idle connection is remembered.
    pub timeouts: Timeouts,
    /// How real servers are checked, and what follows.
    pub health: ServiceHealth,
}

impl Default for ServiceDefaults {
    fn default() -> ServiceDefaults {
        ServiceDefaults {
            unknown_tcp: None,
            on_removed: OnRemoved::Reschedule,
            timeouts: Timeouts::default(),
            health: ServiceHealth::default(),
        }
    }
}

/// A real server's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealserverPlan {
    /// The name of the TUN device.
    pub tun: String,
    /// Where metrics and probes are served.
    pub metrics: SocketAddr,
    /// Unix socket for `status`; `None`: [`CONTROL_REALSERVER`] if possible.
    pub control: Option<PathBuf>,
    /// Group that may use the socket, in addition to its owner; `None`: the daemon's group.
    pub control_group: Option<String>,
    /// Names, in addition to the host's own, under which clients reach `metrics`.
    pub http_names: Vec<String>,
    /// The MSS announced to clients.
    pub mss: MssSetting,
    /// The packets that are accepted.
    pub guard: GuardConfig,
}

/// The default name of a virtual service with this matcher: "tcp-172.25.3.100-80".
pub fn default_service_name(matcher: &Matcher) -> String {
    format!("{}-{}-{}", matcher.protocol.name(), matcher.vip, matcher.ports)
}
