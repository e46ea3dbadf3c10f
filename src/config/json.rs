//! The types of single values in the JSON of the API.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::director::cluster::{self, Ports};
use crate::health;
use crate::packet;

/// A duration as a number of seconds; written with a fraction only if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// 136 years, longer than any director runs.
    const MAX: u32 = u32::MAX;

    /// A whole number of seconds.
    pub const fn new(seconds: u64) -> Seconds {
        Seconds(Duration::from_secs(seconds))
    }

    /// The whole seconds, as ipvsadm prints them.
    pub const fn whole(self) -> u64 {
        self.0.as_secs()
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Seconds {
        Seconds(duration)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if !(0.0..=f64::from(Seconds::MAX)).contains(&seconds) {
            return Err(de::Error::custom(format!("expected a number of seconds, 0 to {}", Seconds::MAX)));
        }
        // Timers are no finer than a millisecond.
        Ok(Seconds(Duration::from_secs_f64((seconds * 1e3).round() / 1e3)))
    }
}

impl PartialSchema for Seconds {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).description(Some("Seconds"));
        number.minimum(Some(0)).maximum(Some(Seconds::MAX as usize)).into()
    }
}

impl ToSchema for Seconds {
    fn name() -> Cow<'static, str> {
        "Seconds".into()
    }
}

/// A port, a range of ports, or all of them: `80`, `"8000-8099"`, `"all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub Ports);

impl Port {
    /// All ports.
    pub const ALL: Port = Port(Ports::ALL);

    /// A single port.
    pub const fn one(port: u16) -> Port {
        Port(Ports::one(port))
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_one() { serializer.serialize_u16(self.0.first) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a port, a range such as \"8000-8099\", or \"all\"")]
        enum Written {
            Number(u16),
            Word(String),
        }
        let ports = match Written::deserialize(deserializer)? {
            Written::Number(0) => None,
            Written::Number(port) => Some(Ports::one(port)),
            Written::Word(word) => word.parse().ok(),
        };
        ports.map(Port).ok_or_else(|| {
            de::Error::custom("expected a port from 1 to 65535, a range such as \"8000-8099\", or \"all\"")
        })
    }
}

impl PartialSchema for Port {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(65_535));
        let word = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^(all|[1-9][0-9]{0,4}-[1-9][0-9]{0,4})$"))
            .format(Some(SchemaFormat::Custom("ports".to_owned())))
            .description(Some("A range such as \"8000-8099\", or \"all\""));
        OneOfBuilder::new().item(number).item(word).into()
    }
}

impl ToSchema for Port {
    fn name() -> Cow<'static, str> {
        "Port".into()
    }
}

/// Defines the JSON form of an enum of the director; both have the same variants.
macro_rules! words {
    ($(#[$about:meta])* $name:ident = $inner:path { $($(#[$variant_about:meta])* $variant:ident),+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_about])* $variant),+
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> $name {
                match value { $(<$inner>::$variant => $name::$variant),+ }
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> $inner {
                match value { $($name::$variant => <$inner>::$variant),+ }
            }
        }
    };
}

words! {
    /// The transport protocol.
    Protocol = packet::Protocol {
        /// TCP.
        Tcp,
        /// UDP.
        Udp
    }
}

words! {
    /// What the director does with a TCP segment that is not a SYN and belongs to no connection.
    UnknownTcp = cluster::UnknownTcp {
        /// Reply with a reset.
        Rst,
        /// Drop it silently.
        Drop,
        /// Treat it as the beginning of a connection.
        Schedule
    }
}

words! {
    /// What happens to a connection whose real server was removed from the configuration.
    OnRemoved = cluster::OnRemoved {
        /// Treat its next packet as that of a new connection.
        Reschedule,
        /// Drop its packets until it expires.
        Drop,
        /// Keep it until it ends.
        Keep
    }
}

words! {
    /// How many of several checks of a real server must succeed.
    Agreement = health::Agreement {
        /// Every one.
        All,
        /// At least one.
        Any
    }
}

words! {
    /// What happens to the connections of a real server that is down.
    OnDown = health::OnDown {
        /// They continue; new ones avoid it.
        Quiesce,
        /// TCP connections continue; UDP flows are scheduled again with their next packet.
        Drain,
        /// All are scheduled again with their next packet; TCP connections get a reset.
        Remove
    }
}

/// Packets that a virtual service matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The VIP.
    #[schema(value_type = String, format = Ipv4)]
    pub vip: IpAddr,
    /// The port, or several.
    pub port: Port,
}

impl From<cluster::Matcher> for Matcher {
    fn from(matcher: cluster::Matcher) -> Matcher {
        Matcher { protocol: matcher.protocol.into(), vip: matcher.vip, port: Port(matcher.ports) }
    }
}

impl From<Matcher> for cluster::Matcher {
    fn from(matcher: Matcher) -> cluster::Matcher {
        cluster::Matcher { protocol: matcher.protocol.into(), vip: matcher.vip, ports: matcher.port.0 }
    }
}

/// Distinguishes `null` from an absent key.
///
/// # Errors
/// The value is neither `null` nor of the expected type.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_ports_are_read_as_they_are_written() {
        let seconds = |text| serde_json::from_str::<Seconds>(text);
        assert_eq!(seconds("360").unwrap(), Seconds::new(360));
        assert_eq!(seconds("1.5").unwrap(), Seconds(Duration::from_millis(1500)));
        assert_eq!(serde_json::to_string(&seconds("1.5").unwrap()).unwrap(), "1.5");
        assert_eq!(serde_json::to_string(&seconds("360.0").unwrap()).unwrap(), "360");
        assert_eq!(seconds("4294967295").unwrap(), Seconds::new(4_294_967_295));
        for text in ["-0.001", "4294967295.001", "1e300", "\"6m\""] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for text in ["80", "\"8000-8099\"", "\"all\""] {
            let port: Port = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&port).unwrap(), text);
        }
        for text in ["0", "65536", "\"9-8\"", "\"\"", "null", "[80]", "-1"] {
            let error = serde_json::from_str::<Port>(text).unwrap_err().to_string();
            assert!(error.contains("8000-8099"), "{text}: {error}");
        }
    }
}
