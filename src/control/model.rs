//! The JSON of the API: what a director tells of itself. What it is told stands in [`mod@change`].
//!
//! The words are the configuration's. Times are seconds. Statistics count what clients send: replies go to
//! them directly, so that nothing is known of the other direction.

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

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ControlError,
}

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// Grows by one with every change.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime: u64,
    pub interface: String,
    pub tun: String,
    /// The file it was started with.
    pub config_file: Option<String>,
    pub virtual_services: usize,
    /// Without those that drains have removed.
    pub real_servers: usize,
    pub draining: usize,
    /// Entries in the connection table, and how many it takes.
    pub connections: usize,
    pub connections_max: usize,
    pub templates: usize,
    /// Of services that say nothing else, and of those added later.
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
    /// In the order they were added.
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
    /// Its upper threshold keeps new connections away.
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

/// Per second, over about eight seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// What `/statistics` answers: the numbers of the listing without the rest.
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
    /// A client's persistence template: `client` is cleared behind the prefix, `client_port` is 0.
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
    /// 0: any, as for a template of a service on all ports.
    pub vip_port: u16,
    /// Name of its virtual service; `null` if it has left the configuration.
    pub virtual_service: Option<String>,
    /// Name of its real server; `null` if nobody remembers it.
    pub real_server: Option<String>,
    #[schema(value_type = Option<String>)]
    pub rip: Option<IpAddr>,
    /// As IPVS calls it: "ESTABLISHED", "FIN_WAIT", "UDP"; of a template "NONE".
    pub state: String,
    /// Seconds without another packet.
    pub expires_in: u64,
}

/// A page of connections, in no order that means anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    pub connections: Vec<Connection>,
    /// Asks for what follows; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One change of the director, as `/events` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub generation: u64,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub at: f64,
    /// Who did it: "uid 0, pid 4711", "SIGHUP", "drain".
    pub by: String,
    pub what: Happened,
    /// One sentence.
    pub message: String,
    pub differences: Vec<Difference>,
}
