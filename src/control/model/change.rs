//! Requests to a director: operations, bundled into a [`Change`]. Unknown fields are rejected.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub use crate::config::diff::Difference;
pub use crate::config::keys::real_server::{RealServerEdit, RealServerSpec};
pub use crate::config::keys::service::{VirtualServiceEdit, VirtualServiceSpec};
pub use crate::config::keys::timeouts::TimeoutsSpec;

use crate::config::json::{Matcher, Seconds};

/// Operations that are applied together or not at all; together they make one generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Applied in this order; at most 250,000.
    #[serde(deserialize_with = "operations")]
    pub operations: Vec<Operation>,
    /// Reject the change unless the director is at this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Report what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Enough for 32,000 services with six real servers each, one by one.
const OPERATIONS_MAX: usize = 250_000;

/// An operation in memory may take thirty times the length of its JSON, so that the length of a body does not limit it.
fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    struct Operations;

    impl<'de> Visitor<'de> for Operations {
        type Value = Vec<Operation>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "at most {OPERATIONS_MAX} operations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Operation>, A::Error> {
            let mut operations = Vec::new();
            while let Some(operation) = sequence.next_element()? {
                if operations.len() == OPERATIONS_MAX {
                    return Err(A::Error::invalid_length(OPERATIONS_MAX + 1, &self));
                }
                operations.push(operation);
            }
            Ok(operations)
        }
    }

    deserializer.deserialize_seq(Operations)
}

impl From<Vec<Operation>> for Change {
    fn from(operations: Vec<Operation>) -> Change {
        Change { operations, ..Change::default() }
    }
}

/// Requests probes of real servers at once. The configuration does not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckNow {
    /// Only in this virtual service; absent: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<ServiceRef>,
    /// RIP or name; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_server: Option<String>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Adds a virtual service.
    AddVirtualService {
        /// The new virtual service.
        virtual_service: VirtualServiceSpec,
    },
    /// Changes keys of a virtual service.
    EditVirtualService {
        /// Selects the virtual service.
        virtual_service: ServiceRef,
        /// The new values.
        set: VirtualServiceEdit,
    },
    /// Removes a virtual service.
    RemoveVirtualService {
        /// Selects the virtual service.
        virtual_service: ServiceRef,
    },
    /// Adds a real server to a virtual service.
    AddRealServer {
        /// Selects the virtual service.
        virtual_service: ServiceRef,
        /// The new real server.
        real_server: RealServerSpec,
    },
    /// Changes keys of a real server.
    EditRealServer {
        /// Selects the virtual service.
        virtual_service: ServiceRef,
        /// RIP or name.
        real_server: String,
        /// The new values.
        set: RealServerEdit,
    },
    /// Removes a real server from a virtual service.
    RemoveRealServer {
        /// Selects the virtual service.
        virtual_service: ServiceRef,
        /// RIP or name.
        real_server: String,
    },
    /// Sets a weight in one virtual service, or in every one that has the real server. This ends a drain.
    SetWeight {
        /// Only in this virtual service; absent: in every one that has the real server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        /// The new weight.
        weight: u32,
    },
    /// Removes every virtual service.
    Flush {},
    /// Resets the statistics and rates of one virtual service, or of all, to 0.
    Zero {
        /// Only this virtual service; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
    },
    /// Sets the timeouts of every virtual service, and of services added later, as `ipvsadm --set` does.
    SetTimeouts {
        /// The new values.
        timeouts: TimeoutsSpec,
    },
    /// Gives a real server no new connections until it is enabled, in one virtual service or in every one that has it.
    /// This ends a drain.
    Disable {
        /// Only in this virtual service; absent: in every one that has the real server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
    },
    /// Enables a disabled real server.
    Enable {
        /// Only in this virtual service; absent: in every one that has the real server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
    },
    /// Quiesces a real server and waits until its connections have ended, in one virtual service or in every
    /// one that has it.
    Drain {
        /// Only in this virtual service; absent: in every one that has the real server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
        /// Seconds after which the drain ends even if connections are left; if absent, there is no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Seconds>,
        /// What happens to the real server afterwards.
        #[serde(default)]
        then: AfterDrain,
    },
    /// Ends the drain of a real server and restores its weight.
    Undrain {
        /// Only in this virtual service; absent: in every one that has the real server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_service: Option<ServiceRef>,
        /// RIP or name.
        real_server: String,
    },
}

/// What happens to a drained real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterDrain {
    /// It is removed.
    #[default]
    Remove,
    /// It stays, quiesced.
    Keep,
}

/// A virtual service by its name, or by any of its matchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a virtual service's name, or {\"protocol\", \"vip\", \"port\"}")]
pub enum ServiceRef {
    /// By name.
    Name(String),
    /// By one of its matchers.
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

/// What a change did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The generation after the change; for a dry run, the generation it would apply to.
    pub generation: u64,
    /// Whether nothing was changed, as requested.
    pub dry_run: bool,
    /// Every difference.
    pub differences: Vec<Difference>,
}

/// A whole configuration that replaces the running one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The text of a `director.toml`.
    pub toml: String,
    /// Reject the change unless the director is at this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Report what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A request to read the configuration file again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Reject the reload unless the director is at this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Report what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Operations were applied.
    Changed,
    /// A whole configuration replaced the previous one.
    Replaced,
    /// The file was read again.
    Reloaded,
    /// The reload was rejected; the director continues as before.
    ReloadRefused,
    /// A drained real server has no connections left, or its deadline has passed.
    Drained,
    /// The checks of a real server have found it healthy.
    RealServerUp,
    /// The checks of a real server have found it down.
    RealServerDown,
    /// A virtual service has enough live real servers.
    QuorumGained,
    /// A virtual service has too few live real servers.
    QuorumLost,
    /// Fewer real servers than `min_healthy` are up, so that all count as up.
    FailOpen,
    /// At least `min_healthy` real servers are up again.
    FailOpenOver,
    /// Something changes so often that single changes are not reported until it settles.
    Flapping,
    /// Something has stopped flapping.
    Settled,
    /// This reader was too slow and has missed events; this is the last line.
    Lagged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_limited_number_of_operations() {
        let change = |count: usize| {
            let operations = vec!["{\"operation\":\"flush\"}"; count].join(",");
            serde_json::from_str::<Change>(&format!("{{\"operations\":[{operations}]}}"))
        };
        assert_eq!(change(OPERATIONS_MAX).unwrap().operations.len(), OPERATIONS_MAX);
        let error = change(OPERATIONS_MAX + 1).unwrap_err().to_string();
        assert!(error.starts_with("invalid length 250001, expected at most 250000 operations"), "{error}");
    }
}
