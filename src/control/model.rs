//! The JSON of the API: the answers of a director. Requests are in [`mod@change`].
//!
//! Names are those of the configuration. Times are in seconds. Statistics count the clients' packets only,
//! because replies go directly to the clients.

pub mod change;
pub mod checks;
pub mod health;

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
    AfterDrain, Change, Changed, CheckNow, Configuration, Difference, EventKind, Operation, RealServerEdit,
    RealServerSpec, Reload, ServiceRef, TimeoutsSpec, VirtualServiceEdit, VirtualServiceSpec,
};
pub use checks::{CheckState, ProbeError, ServerState, ServiceState};
pub use health::{
    BoundVip, DirectorSeen, Dropped, Loss, RealserverStatus, Refused, Role, ServedPort, TransmitErrors,
    Trouble,
};

/// The body of every answer without a success status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ControlError,
}

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Always `director`.
    pub role: Role,
    /// The version of the program.
    pub version: String,
    /// Increases by one with every change.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// The interfaces that receive the clients' packets.
    pub interfaces: Vec<String>,
    /// The name of the TUN device.
    pub tun: String,
    /// The file the director was started with.
    pub config_file: Option<String>,
    /// Number of virtual services.
    pub virtual_services: usize,
    /// Number of real servers, without those that drains have removed.
    pub real_servers: usize,
    /// Number of draining real servers.
    pub draining: usize,
    /// Entries in the connection table.
    pub connections: usize,
    /// The maximum number of entries.
    pub connections_max: usize,
    /// Persistence templates.
    pub templates: usize,
    /// Whether packets flow, as `/readyz` answers.
    pub ready: bool,
    /// What is wrong, the oldest first; what is known against a real server is also with the real server.
    pub troubles: Vec<Trouble>,
    /// Packets dropped, by reason, the latest first.
    pub dropped: Vec<Dropped>,
    /// Packets that the kernel dropped around the daemon, the latest first.
    pub losses: Vec<Loss>,
    /// The defaults for virtual services, including those added later.
    pub timeouts: Timeouts,
    /// Totals of all virtual services.
    pub statistics: Statistics,
    /// Rates of all virtual services.
    pub rates: Rates,
}

/// All virtual services at one generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VirtualServices {
    /// The generation that the answer describes.
    pub generation: u64,
    /// In the order of the configuration.
    pub virtual_services: Vec<VirtualService>,
}

/// The keys of a virtual service, and its current numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VirtualService {
    /// Every key, as configured.
    #[serde(flatten)]
    pub keys: VirtualServiceKeys,
    /// What its checks have found; `null`: it has none.
    #[serde(default)]
    pub health: Option<ServiceState>,
    /// Totals.
    pub statistics: Statistics,
    /// Rates.
    pub rates: Rates,
    /// In the order in which they were added.
    pub real_servers: Vec<RealServer>,
}

/// The keys of a real server, and its current state and numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RealServer {
    /// Every key, as configured.
    #[serde(flatten)]
    pub keys: RealServerKeys,
    /// The weight that the schedulers use: 0 while it is down, disabled, during a drain and afterwards, and while this is the
    /// director's own host without the VIP.
    pub weight_now: u32,
    /// It is the director's own host.
    pub local: bool,
    /// The path MTU in use, in bytes.
    pub path_mtu_now: u16,
    /// Active connections, as IPVS counts them.
    pub active_connections: u32,
    /// Inactive connections, as IPVS counts them.
    pub inactive_connections: u32,
    /// Persistence templates.
    pub persistent_connections: u32,
    /// It gets no new connections because of its upper threshold.
    pub overloaded: bool,
    /// Its drain, also one that has ended; `null`: none.
    pub drain: Option<Draining>,
    /// Whether it is enabled; `disable` keeps new connections away.
    pub enabled: bool,
    /// What its checks have found; `null`: it has none.
    #[serde(default)]
    pub health: Option<ServerState>,
    /// What is known against it.
    pub troubles: Vec<Trouble>,
    /// Packets to it that the kernel refused to send.
    pub transmit_errors: Vec<TransmitErrors>,
    /// Totals.
    pub statistics: Statistics,
    /// Rates.
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
    /// Whether a drain has removed it. It is still configured, and `undrain` brings it back.
    pub fn is_removed(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.done && drain.then == AfterDrain::Remove)
    }
}

/// The drain of a real server, also one that has ended. The configured weight does not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// Seconds until the drain ends even if connections are left; `null`: no limit.
    pub deadline_in: Option<u64>,
    /// What happens to the real server afterwards.
    pub then: AfterDrain,
    /// Whether the drain has ended; the real server is then quiesced or removed.
    pub done: bool,
}

/// Totals since the service or real server was added, or its counters were zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// IP length of the clients' packets, without the outer header.
    pub bytes: u64,
}

/// Per second, averaged over about eight seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// IP length of the clients' packets, without the outer header.
    pub bytes: u64,
}

/// The answer of `/statistics`: only the numbers of the listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllStatistics {
    /// The generation that the answer describes.
    pub generation: u64,
    /// Totals of all virtual services.
    pub statistics: Statistics,
    /// Rates of all virtual services.
    pub rates: Rates,
    /// In the order of the configuration.
    pub virtual_services: Vec<ServiceStatistics>,
}

/// The numbers of a virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatistics {
    /// The name of the virtual service.
    pub name: String,
    /// Totals.
    pub statistics: Statistics,
    /// Rates.
    pub rates: Rates,
    /// In the order in which they were added.
    pub real_servers: Vec<ServerStatistics>,
}

/// The numbers of a real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatistics {
    /// The name of the real server.
    pub name: String,
    /// Totals.
    pub statistics: Statistics,
    /// Rates.
    pub rates: Rates,
}

/// What an entry of the listing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A connection.
    Connection,
    /// A client's persistence template: the bits of `client` after the prefix are 0, and so is `client_port`.
    Template,
}

/// A connection or a persistence template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Which of the two it is.
    pub kind: EntryKind,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client's address.
    #[schema(value_type = String)]
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The VIP.
    #[schema(value_type = String)]
    pub vip: IpAddr,
    /// 0: any port, as in a template of a service on all ports.
    pub vip_port: u16,
    /// Name of its virtual service; `null` if that was removed from the configuration.
    pub virtual_service: Option<String>,
    /// Name of its real server; `null` if that was removed and is no longer known.
    pub real_server: Option<String>,
    /// The real server's address.
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
    /// The entries of this page.
    pub connections: Vec<Connection>,
    /// Requests the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One change of the director, as `/events` reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The generation after the change.
    pub generation: u64,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub at: f64,
    /// Who made the change: "uid 0, pid 4711", "SIGHUP", "drain".
    pub by: String,
    /// The kind of event.
    pub what: EventKind,
    /// One sentence.
    pub message: String,
    /// What changed.
    pub differences: Vec<Difference>,
}
