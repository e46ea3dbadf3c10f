//! Requests to a director: operations, bundled into a [`Change`]. Unknown fields are refused.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use crate::config::diff::Difference;

use super::value::{Matcher, OnRemoved, Persistence, Seconds, UnknownTcp};

/// Operations that are applied together or not at all; together they make one generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub operations: Vec<Operation>,
    /// Refuse the change unless the director is at this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Report what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl From<Vec<Operation>> for Change {
    fn from(operations: Vec<Operation>) -> Change {
        Change { operations, ..Change::default() }
    }
}

/// One operation.
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
    /// In one virtual service, or in every one that has the real server. This ends a drain.
    SetWeight {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        weight: u32,
    },
    /// Removes every virtual service.
    Flush {},
    /// Resets the statistics and rates of one virtual service, or of all, to 0.
    Zero {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
    },
    /// For every virtual service, and for services added later, as `ipvsadm --set` does.
    SetTimeouts {
        timeouts: TimeoutsSpec,
    },
    /// Quiesces a real server and waits until its connections are gone; in one virtual service, or in every
    /// one that has it.
    Drain {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        /// Seconds after which the drain ends even if connections are left; if absent, there is no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Seconds>,
        #[serde(default)]
        then: Then,
    },
    /// Ends the drain of a real server and restores its weight.
    Undrain {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
    },
}

/// What happens to a drained real server.
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

/// A virtual service to add. Absent fields have the defaults of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceSpec {
    /// If absent: protocol, VIP and port, as in "tcp-172.25.3.100-80".
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

/// The timeouts to change; absent ones stay as they are.
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

/// The changes to a virtual service; absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceEdit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matchers: Option<Vec<Matcher>>,
    /// A different scheduler starts without flags unless they are given too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mh_table_size: Option<u32>,
    /// `null` turns persistence off.
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

/// A real server to add. Absent fields have the defaults of the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RealServerSpec {
    #[schema(value_type = String)]
    pub rip: IpAddr,
    /// If absent: the RIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// If absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// If absent: "ipip".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
}

impl RealServerSpec {
    /// A specification with every default.
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

/// The changes to a real server; absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RealServerEdit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// This ends a drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    /// `null`: taken from the host's routes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<u16>)]
    pub path_mtu: Option<Option<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
}

/// Distinguishes `null` from an absent field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What a change did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The generation after the change; for a dry run, the generation it would apply to.
    pub generation: u64,
    pub dry_run: bool,
    pub differences: Vec<Difference>,
}

/// A whole configuration that replaces the running one.
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
    /// Operations were applied.
    Changed,
    /// A whole configuration replaced the previous one.
    Replaced,
    /// The file was read again.
    Reloaded,
    /// The reload was refused; the director continues as before.
    ReloadRefused,
    /// A drained real server has no connections left, or its deadline has passed.
    Drained,
    /// This reader was too slow and has missed events; this is the last line.
    Lagged,
}
