//! What is wrong with a daemon at present, and the state of a real server's daemon.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Protocol;
use crate::trouble;

/// The role of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It receives the clients' packets.
    Director,
    /// It unwraps what directors send.
    Realserver,
}

/// Something that is wrong at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// What kind it is, as in the log: `interface_down`, `protocol_unreachable`.
    pub kind: String,
    /// What it is about: a device, a change of the host, the RIP of a real server.
    pub subject: String,
    /// What is wrong, and after "; " what to do about it.
    pub message: String,
    /// Seconds since it began.
    pub age: u64,
    /// Whether it is a reason for `/readyz` to answer 503.
    pub stops_packets: bool,
}

impl From<&(trouble::Trouble, Duration)> for Trouble {
    fn from((trouble, age): &(trouble::Trouble, Duration)) -> Trouble {
        let trouble::Found { kind, subject, text } = &trouble.found;
        Trouble {
            kind: kind.label().to_owned(),
            subject: subject.clone(),
            message: text.clone(),
            age: age.as_secs(),
            stops_packets: kind.stops_packets(),
        }
    }
}

/// Packets that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dropped {
    /// As in the metrics.
    pub reason: String,
    /// Since the start.
    pub packets: u64,
    /// Seconds since the latest one, to about two seconds.
    pub age: u64,
}

/// Packets that the kernel dropped around the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loss {
    /// The device, or `raw_socket`.
    pub device: String,
    /// As in the metrics.
    pub cause: String,
    /// Since the start.
    pub packets: u64,
    /// Seconds since the latest one, to about two seconds.
    pub age: u64,
}

/// Packets that the kernel refused to send for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransmitErrors {
    /// As in the metrics.
    pub cause: String,
    /// Since the real server was added.
    pub packets: u64,
}

/// The state of a real server's daemon: its answer to `/api/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RealserverStatus {
    /// Always `realserver`.
    pub role: Role,
    /// The version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// The name of the TUN device.
    pub tun: String,
    /// The MSS announced to clients, in bytes; 0: the host's own.
    pub mss: u16,
    /// Whether packets flow, as `/readyz` answers.
    pub ready: bool,
    /// What is wrong, the oldest first.
    pub troubles: Vec<Trouble>,
    /// The VIPs of the configuration.
    pub vips: Vec<BoundVip>,
    /// The configured directors: addresses and prefixes.
    pub directors: Vec<String>,
    /// The directors whose packets were delivered, the latest first; at most 64.
    pub directors_seen: Vec<DirectorSeen>,
    /// Packets that the kernel dropped around the daemon, the latest first.
    pub losses: Vec<Loss>,
    /// What was refused and from whom, the latest first; at most 64.
    pub refused: Vec<Refused>,
}

/// A VIP of a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoundVip {
    /// The VIP.
    #[schema(value_type = String)]
    pub vip: IpAddr,
    /// Whether it is an address of the TUN device.
    pub bound: bool,
    /// Packets delivered.
    pub packets: u64,
    /// The key `services`, and the ports for which packets came, at most 64.
    pub services: Vec<ServedPort>,
}

/// A port of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedPort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Whether a program of this host listens there.
    pub listening: bool,
    /// Packets delivered.
    pub packets: u64,
    /// Seconds since the latest one; `null`: none yet.
    pub age: Option<u64>,
}

/// A director whose packets were delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectorSeen {
    /// The source of its outer packets.
    #[schema(value_type = String)]
    pub director: IpAddr,
    /// Packets delivered.
    pub packets: u64,
    /// Seconds since the latest one.
    pub age: u64,
}

/// Packets that were refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// The source of the outer packets.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// As in the metrics.
    pub reason: String,
    /// Packets dropped.
    pub packets: u64,
    /// Seconds since the latest one.
    pub age: u64,
}
