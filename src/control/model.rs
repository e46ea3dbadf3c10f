//! The JSON of the API: what a director reports. Requests are in [`mod@change`].
//!
//! The words are those of the configuration. Times are in seconds. Statistics count the clients' packets
//! only: replies go directly to the clients, so the director does not see them.

pub mod change;
mod value;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ControlError;

pub use change::{
    Change, Changed, Configuration, Difference, Happened, Operation, RealServerEdit, RealServerSpec, Reload,
    ServiceRef, Then, TimeoutsSpec, VirtualServiceEdit, VirtualServiceSpec,
};
pub use value::{Matcher, OnRemoved, Persistence, Port, Protocol, Seconds, UnknownTcp};

/// The body of every answer without a success status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ControlError,
}

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// Increases by one with every change.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime: u64,
    pub interface: String,
    pub tun: String,
    /// The file the director was started with.
    pub config_file: Option<String>,
    pub virtual_services: usize,
    pub real_servers: usize,
    pub draining: usize,
    /// Entries in the connection table, and the maximum.
    pub connections: usize,
    pub connections_max: usize,
    pub templates: usize,
    /// The default of virtual services, also of those added later.
    pub timeouts: Timeouts,
    pub statistics: Statistics,
    pub rates: Rates,
}

/// All virtual services at one generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VirtualServices {
    pub generation: u64,
    pub virtual_services: Vec<VirtualService>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VirtualService {
    pub name: String,
    /// Which packets it matches; at least one.
    #[serde(rename = "match")]
    pub matchers: Vec<Matcher>,
    pub scheduler: String,
    pub scheduler_flags: Vec<String>,
    /// Only for scheduler mh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mh_table_size: Option<u32>,
    pub persistence: Option<Persistence>,
    /// Each UDP datagram is scheduled by itself.
    pub one_packet: bool,
    pub unknown_tcp: UnknownTcp,
    pub on_removed: OnRemoved,
    pub timeouts: Timeouts,
    pub statistics: Statistics,
    pub rates: Rates,
    /// In the order in which they were added.
    pub real_servers: Vec<RealServer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RealServer {
    pub name: String,
    #[schema(value_type = String)]
    pub rip: IpAddr,
    /// 0 is quiesced.
    pub weight: u32,
    /// 0: no limit.
    pub upper_threshold: u32,
    /// 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// The configured value; `null`: taken from the host's routes.
    pub path_mtu: Option<u16>,
    /// The value in force, in bytes.
    pub path_mtu_now: u16,
    pub encapsulation: String,
    pub active_connections: u32,
    pub inactive_connections: u32,
    /// Persistence templates.
    pub persistent_connections: u32,
    /// It gets no new connections because of its upper threshold.
    pub overloaded: bool,
    pub drain: Option<Draining>,
    pub statistics: Statistics,
    pub rates: Rates,
}

/// A real server that is draining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// Its weight before the drain, which `undrain` restores.
    pub weight: u32,
    /// Seconds until the drain ends even if connections are left; `null`: no limit.
    pub deadline_in: Option<u64>,
    pub then: Then,
    /// It has no connections left, or its deadline has passed.
    pub done: bool,
}

/// Since the service or real server was added, or its counters were zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    pub connections: u64,
    pub packets: u64,
    /// IP length of the clients' packets, without the outer header.
    pub bytes: u64,
}

/// Per second, averaged over about eight seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// The answer of `/statistics`: the numbers of the listing without the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllStatistics {
    pub generation: u64,
    pub statistics: Statistics,
    pub rates: Rates,
    pub virtual_services: Vec<ServiceStatistics>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatistics {
    pub name: String,
    pub statistics: Statistics,
    pub rates: Rates,
    pub real_servers: Vec<ServerStatistics>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatistics {
    pub name: String,
    pub statistics: Statistics,
    pub rates: Rates,
}

/// Seconds without a packet after which a connection is removed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    pub tcp: Seconds,
    pub tcp_fin: Seconds,
    pub udp: Seconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Connection,
    /// A client's persistence template: the bits of `client` after the prefix are 0, and so is `client_port`.
    Template,
}

/// A connection or a persistence template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    pub kind: Kind,
    pub protocol: Protocol,
    #[schema(value_type = String)]
    pub client: IpAddr,
    pub client_port: u16,
    #[schema(value_type = String)]
    pub vip: IpAddr,
    /// 0: any port, as in a template of a service on all ports.
    pub vip_port: u16,
    /// Name of its virtual service; `null` if that was removed from the configuration.
    pub virtual_service: Option<String>,
    /// Name of its real server; `null` if that was removed and is no longer known.
    pub real_server: Option<String>,
    #[schema(value_type = Option<String>)]
    pub rip: Option<IpAddr>,
    /// The name in IPVS: "ESTABLISHED", "FIN_WAIT", "UDP"; "NONE" for a template.
    pub state: String,
    /// Seconds until it is removed, if no further packet arrives.
    pub expires_in: u64,
}

/// A page of connections, in arbitrary order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    pub connections: Vec<Connection>,
    /// Requests the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One change of the director, as `/events` reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub generation: u64,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub at: f64,
    /// Who made the change: "uid 0, pid 4711", "SIGHUP", "drain".
    pub by: String,
    pub what: Happened,
    /// One sentence.
    pub message: String,
    pub differences: Vec<Difference>,
}
