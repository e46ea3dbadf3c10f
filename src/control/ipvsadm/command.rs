//! A valid command line as a value.

use super::legality::TunnelType;
use super::options::{Forwarding, Transport, Verb};
use super::values::{AddressPort, Mask};

/// A valid command. [`super::served`] decides whether a director supports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    AddService(ServiceTerms),
    EditService(ServiceTerms),
    DeleteService(ServiceAddress),
    Flush,
    AddServer(ServiceAddress, ServerTerms),
    EditServer(ServiceAddress, ServerTerms),
    DeleteServer(ServiceAddress, AddressPort),
    List(ListTerms),
    Zero(Option<ServiceAddress>),
    /// tcp, tcpfin, udp, in seconds; 0 leaves the timeout unchanged.
    SetTimeouts([u32; 3]),
    StartDaemon,
    StopDaemon,
    Restore,
    Save {
        is_numeric: bool,
    },
    Help,
    Version,
}

impl Command {
    /// The kind of change; `None` for a command that changes nothing.
    pub const fn change(&self) -> Option<Verb> {
        Some(match self {
            Command::AddService(_) => Verb::AddService,
            Command::EditService(_) => Verb::EditService,
            Command::DeleteService(_) => Verb::DeleteService,
            Command::Flush => Verb::Flush,
            Command::AddServer(..) => Verb::AddServer,
            Command::EditServer(..) => Verb::EditServer,
            Command::DeleteServer(..) => Verb::DeleteServer,
            Command::Zero(_) => Verb::Zero,
            Command::SetTimeouts(_) => Verb::SetTimeouts,
            Command::StartDaemon => Verb::StartDaemon,
            Command::StopDaemon => Verb::StopDaemon,
            Command::List(_) | Command::Save { .. } | Command::Restore | Command::Help | Command::Version => {
                return None;
            }
        })
    }
}

/// Selects a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    AddressPort(Transport, AddressPort),
    FirewallMark { mark: u32, is_ipv6: bool },
}

impl ServiceAddress {
    pub const fn is_ipv6(&self) -> bool {
        match self {
            ServiceAddress::AddressPort(_, place) => place.address.is_ipv6(),
            ServiceAddress::FirewallMark { is_ipv6, .. } => *is_ipv6,
        }
    }

    /// The transport for the names of ports; with a firewall mark it is TCP.
    pub const fn transport(&self) -> Transport {
        match self {
            ServiceAddress::AddressPort(transport, _) => *transport,
            ServiceAddress::FirewallMark { .. } => Transport::Tcp,
        }
    }
}

/// A virtual service as `-A` and `-E` describe it: complete, with defaults for options that are not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTerms {
    pub address: ServiceAddress,
    pub scheduler: String,
    pub scheduler_flags: u8,
    /// Seconds.
    pub persistence: Option<u32>,
    pub mask: Option<Mask>,
    /// `-o`.
    pub has_ops: bool,
    pub persistence_engine: Option<String>,
}

/// A real server as `-a` and `-e` describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTerms {
    pub place: AddressPort,
    /// The port on the command line, if it is not the service's. A tunnelled packet keeps its port.
    pub ignored_port: Option<u16>,
    /// `None`: not given, which means direct routing.
    pub forwarding: Option<Forwarding>,
    pub tunnel: TunnelType,
    pub weight: u32,
    pub upper_threshold: u32,
    pub lower_threshold: u32,
}

/// What a list shows: the modifiers of `-L` (ipvsadm(8)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListTerms {
    pub service: Option<ServiceAddress>,
    pub kind: ListKind,
    pub is_numeric: bool,
    pub is_exact: bool,
    pub is_unsorted: bool,
    pub has_persistence_engines: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Plain,
    TunnelInfo,
    Statistics,
    Rates,
    Thresholds,
    PersistentConnections,
    Connections,
    Timeouts,
    Daemons,
}
