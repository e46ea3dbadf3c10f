//! What a director is told: operations, bundled into a [`Change`]. Unknown fields are refused.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use crate::config::diff::Difference;

use super::value::{Matcher, OnRemoved, Persistence, Seconds, UnknownTcp};

/// Operations that are carried out together or not at all; together they are one generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub operations: Vec<Operation>,
    /// Refuse the change unless the director is at this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl From<Vec<Operation>> for Change {
    fn from(operations: Vec<Operation>) -> Change {
        Change { operations, ..Change::default() }
    }
}

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    AddVirtualService {
        virtual_service: VirtualServiceSpec,
    },
    EditVirtualService {
        virtual_service: ServiceRef,
        set: VirtualServiceEdit,
    },
    RemoveVirtualService {
        virtual_service: ServiceRef,
    },
    AddRealServer {
        virtual_service: ServiceRef,
        real_server: RealServerSpec,
    },
    EditRealServer {
        virtual_service: ServiceRef,
        /// RIP or name.
        real_server: String,
        set: RealServerEdit,
    },
    RemoveRealServer {
        virtual_service: ServiceRef,
        /// RIP or name.
        real_server: String,
    },
    /// In one virtual service, or in every one that has the real server. It ends a drain.
    SetWeight {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        weight: u32,
    },
    /// Removes every virtual service.
    Flush {},
    /// Statistics and rates of one virtual service, or of all, begin at 0 again.
    Zero {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
    },
    /// For every virtual service, and for those added later, as `ipvsadm --set` does.
    SetTimeouts {
        timeouts: TimeoutsSpec,
    },
    /// Quiesces a real server and waits until its connections are gone; in one virtual service, or in every one
    /// that has it.
    Drain {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        /// Seconds after which they are waited for no longer; left out: as long as it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Seconds>,
        #[serde(default)]
        then: Then,
    },
    /// Gives a draining real server its weight back.
    Undrain {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
    },
}

/// What becomes of a drained real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    #[default]
    Remove,
    /// It stays, quiesced.
    Keep,
}

/// A virtual service by its name, or by any of its matchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a virtual service's name, or {\"protocol\", \"vip\", \"port\"}")]
pub enum ServiceRef {
    Name(String),
    Matcher(Matcher),
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceRef::Name(name) => write!(f, "{name:?}"),
            ServiceRef::Matcher(Matcher { protocol, vip, port }) => {
                write!(f, "{} {vip}:{}", crate::packet::Protocol::from(*protocol).name(), port.0)
            }
        }
    }
}

/// A virtual service to be; what is left out is as in a file that leaves it out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceSpec {
    /// Left out: protocol, VIP and port, as in "tcp-172.25.3.100-80".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At least one.
    #[serde(rename = "match")]
    pub matchers: Vec<Matcher>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    #[serde(default)]
    pub scheduler_flags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mh_table_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    #[serde(default)]
    pub one_packet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_tcp: Option<UnknownTcp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_removed: Option<OnRemoved>,
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    #[serde(default)]
    pub real_servers: Vec<RealServerSpec>,
}

/// Of the three, those that are to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_fin: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Seconds>,
}

/// What is to change of a virtual service; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceEdit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matchers: Option<Vec<Matcher>>,
    /// Another scheduler begins without flags unless they are given too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mh_table_size: Option<u32>,
    /// `null` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Persistence>)]
    pub persistence: Option<Option<Persistence>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_packet: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_tcp: Option<UnknownTcp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_removed: Option<OnRemoved>,
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
}

/// A real server to be; what is left out is as in a file that leaves it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RealServerSpec {
    #[schema(value_type = String)]
    pub rip: IpAddr,
    /// Left out: the RIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// Left out: "ipip".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
}

impl RealServerSpec {
    /// With every default.
    pub fn new(rip: IpAddr) -> RealServerSpec {
        RealServerSpec {
            rip,
            name: None,
            weight: None,
            upper_threshold: None,
            lower_threshold: None,
            path_mtu: None,
            encapsulation: None,
        }
    }
}

/// What is to change of a real server; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RealServerEdit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It ends a drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    /// `null`: what the host's routes say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<u16>)]
    pub path_mtu: Option<Option<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
}

/// Tells `null` from "left out".
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What a change did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The one that is in force with it; of a dry run, the one it would be made to.
    pub generation: u64,
    pub dry_run: bool,
    pub differences: Vec<Difference>,
}

/// A whole configuration to take the place of the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The text of a `director.toml`.
    pub toml: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    #[serde(default)]
    pub dry_run: bool,
}

/// How to read the configuration file again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    #[serde(default)]
    pub dry_run: bool,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// Operations were carried out.
    Changed,
    /// A whole configuration took the place of the one before.
    Replaced,
    /// The file was read again.
    Reloaded,
    /// The file could not be taken over; the director goes on as before.
    ReloadRefused,
    /// A drained real server has no connections any more, or its deadline is over.
    Drained,
    /// This reader was too slow and has missed events; it is the last line.
    Lagged,
}
