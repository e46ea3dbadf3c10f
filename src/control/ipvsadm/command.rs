//! A valid command line as a value.

use super::legality::TunnelType;
use super::options::{Forwarding, Transport, Verb};
use super::values::{AddressPort, Mask};

/// A valid command. [`super::served`] decides whether a director supports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`.
    AddService(ServiceTerms),
    /// `-E`; options that are not given return to their defaults.
    EditService(ServiceTerms),
    /// `-D`.
    DeleteService(ServiceAddress),
    /// `-C`: removes every virtual service.
    Flush,
    /// `-a`.
    AddServer(ServiceAddress, ServerTerms),
    /// `-e`; options that are not given return to their defaults.
    EditServer(ServiceAddress, ServerTerms),
    /// `-d`.
    DeleteServer(ServiceAddress, AddressPort),
    /// `-L`, or a command line without words.
    List(ListTerms),
    /// `-Z`: sets the counters of this virtual service, or of all, to 0.
    Zero(Option<ServiceAddress>),
    /// tcp, tcpfin, udp, in seconds; 0 leaves the timeout unchanged.
    SetTimeouts([u32; 3]),
    /// `--start-daemon`, for connection synchronization between directors.
    StartDaemon,
    /// `--stop-daemon`, for connection synchronization between directors.
    StopDaemon,
    /// `-R`: commands from standard input.
    Restore,
    /// `-S`.
    Save {
        /// `-n`: addresses and ports as numbers.
        is_numeric: bool,
    },
    /// `-h`: the usage text.
    Help,
    /// `-v`.
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
    /// `-t`, `-u` or `--sctp-service`.
    AddressPort(Transport, AddressPort),
    /// `-f`, and `-6` for a service of IPv6 addresses.
    FirewallMark {
        /// From 1.
        mark: u32,
        /// `-6`.
        is_ipv6: bool,
    },
}

impl ServiceAddress {
    /// Decides how a mask is read and which addresses of real servers fit.
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
    /// What the service receives; it also identifies the service.
    pub address: ServiceAddress,
    /// `-s`; wlc if absent.
    pub scheduler: String,
    /// `-b`: bits of `IP_VS_SVC_F_SCHED*` in ip_vs.h.
    pub scheduler_flags: u8,
    /// Seconds.
    pub persistence: Option<u32>,
    /// `-M`: groups clients for persistence.
    pub mask: Option<Mask>,
    /// `-o`.
    pub has_ops: bool,
    /// `--pe`: the persistence engine, such as `sip`.
    pub persistence_engine: Option<String>,
}

/// A real server as `-a` and `-e` describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTerms {
    /// RIP, and the service's port.
    pub place: AddressPort,
    /// The port on the command line, if it is not the service's. A tunnelled packet keeps its port.
    pub ignored_port: Option<u16>,
    /// `None`: not given, which means direct routing.
    pub forwarding: Option<Forwarding>,
    /// `--tun-type`; ipip if absent.
    pub tunnel: TunnelType,
    /// `-w`; 1 if absent, and 0 means quiesced.
    pub weight: u32,
    /// `-x`, in connections; 0 means no limit.
    pub upper_threshold: u32,
    /// `-y`, in connections; 0 means three quarters of the upper threshold (ip_vs_unbind_dest()).
    pub lower_threshold: u32,
}

/// What a list shows: the modifiers of `-L` (ipvsadm(8)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListTerms {
    /// Only this virtual service; `None` for all.
    pub service: Option<ServiceAddress>,
    /// What the columns show.
    pub kind: ListKind,
    /// `-n`: addresses and ports as numbers.
    pub is_numeric: bool,
    /// `--exact`: numbers without the units K, M and G.
    pub is_exact: bool,
    /// `--nosort`: in the order of the kernel's list, the newest first.
    pub is_unsorted: bool,
    /// `--persistent-conn` with `-c`: columns for the data of persistence engines.
    pub has_persistence_engines: bool,
}

/// The columns of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Weights and numbers of connections.
    #[default]
    Plain,
    /// `--tun-info`: the encapsulation of each real server.
    TunnelInfo,
    /// `--stats`: totals since the counters were last set to 0.
    Statistics,
    /// `--rate`: per second.
    Rates,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn` without `-c`.
    PersistentConnections,
    /// `-c`: one row for each connection.
    Connections,
    /// `--timeout`.
    Timeouts,
    /// `--daemon`: the threads of connection synchronization.
    Daemons,
}
