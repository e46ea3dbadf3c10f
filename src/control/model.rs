//! The JSON of the API: what a director reports. Requests are in [`mod@change`].
//!
//! The words are those of the configuration. Times are in seconds. Statistics count the clients' packets
//! only: replies go directly to the clients, so the director does not see them.

pub mod change;

use std::net::IpAddr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ControlError;

pub use crate::config::json::{Matcher, OnRemoved, Port, Protocol, Seconds, UnknownTcp};
pub use crate::config::keys::persistence::Persistence;
pub use crate::config::keys::real_server::RealServerKeys;
pub use crate::config::keys::service::VirtualServiceKeys;
pub use crate::config::keys::timeouts::Timeouts;
pub use change::{
    Change, Changed, Configuration, Difference, Happened, Operation, RealServerEdit, RealServerSpec, Reload,
    ServiceRef, Then, TimeoutsSpec, VirtualServiceEdit, VirtualServiceSpec,
};

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
    /// Without those that drains have removed.
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

/// Its keys, and what is going on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VirtualService {
    #[serde(flatten)]
    pub keys: VirtualServiceKeys,
    pub statistics: Statistics,
    pub rates: Rates,
    /// In the order in which they were added.
    pub real_servers: Vec<RealServer>,
}

/// Its keys, and what is going on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RealServer {
    #[serde(flatten)]
    pub keys: RealServerKeys,
    /// What the schedulers see: 0 while it drains and afterwards.
    pub weight_now: u32,
    /// What is in force, in bytes.
    pub path_mtu_now: u16,
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

impl Deref for VirtualService {
    type Target = VirtualServiceKeys;

    fn deref(&self) -> &VirtualServiceKeys {
        &self.keys
    }
}

impl Deref for RealServer {
    type Target = RealServerKeys;

    fn deref(&self) -> &RealServerKeys {
        &self.keys
    }
}

impl RealServer {
    /// A drain has removed it: it is still configured, and `undrain` brings it back.
    pub fn is_removed(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.done && drain.then == Then::Remove)
    }
}

/// A real server on its way out, or whose drain has ended; its configured weight stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// Seconds until its connections are waited for no longer; `null`: as long as it takes.
    pub deadline_in: Option<u64>,
    pub then: Then,
    /// It has no connections any more, or its deadline is over: from here on it is quiesced or removed.
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
