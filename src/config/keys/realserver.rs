//! The keys of `realserver.toml`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::key::keys;
use crate::config::kinds::{
    Address, GROUP, HOST_NAMES, InterfaceName, List, Listen, NumberOr, Optional, SocketPathKind, Word,
    escaped,
};
use crate::config::types::{METRICS_REALSERVER, MssSetting, RealserverPlan, TUN_REALSERVER};
use crate::packet::Protocol;
use crate::realserver::guard::{GuardConfig, Service};
use crate::realserver::mss::{MSS_MAX, MSS_MIN};

const MSS: NumberOr<MssSetting> = NumberOr {
    range: MSS_MIN as i64..=MSS_MAX as i64,
    words: &[("auto", MssSetting::Auto), ("off", MssSetting::Off)],
    number: |bytes| MssSetting::Fixed(u16::try_from(bytes).unwrap_or(u16::MAX)),
    of: |mss| match mss {
        MssSetting::Fixed(bytes) => Some(i64::from(*bytes)),
        MssSetting::Auto | MssSetting::Off => None,
    },
    expected: "\"auto\", \"off\" or a number of bytes from FIRST to LAST",
};

const ADDRESSES: List<Address> = List { of: Address, is_unique: true };
const PREFIXES: List<Prefix> = List { of: Prefix, is_unique: true };
const SERVICES: List<TransportPort> = List { of: TransportPort, is_unique: false };

keys! {
    REALSERVER_KEYS of RealserverPlan { tun, metrics, http_names, control, control_group, mss, guard };

    /// The VIPs that this host serves.
    file vips "vips" [] in guard [.vips], ADDRESSES, |_, _| Vec::new(), Restart;
    /// The directors that may send encapsulated packets.
    file directors "directors" [] in guard [.directors], PREFIXES, |_, _| Vec::new(), Restart;
    /// Accepted destinations of outer packets; default: any address of this host.
    file rips "rips" [] in guard [.rips], ADDRESSES, |_, _| Vec::new(), Restart;
    /// Accepted inner packets; default: everything for the VIPs.
    file services "services" [] in guard [.services], SERVICES, |_, _| Vec::new(), Restart;
    /// The maximum segment size announced for connections to the VIPs.
    file mss "mss" [] in mss [], MSS, |_, _| MssSetting::Auto, Restart;
    /// Name of the TUN device.
    file tun "tun" [] in tun [], InterfaceName, |_, _| TUN_REALSERVER.to_owned(), Restart;
    /// Address and port that serve metrics and probes.
    file metrics "metrics" [] in metrics [], Listen, |_, _| METRICS_REALSERVER, Restart;
    /// Names, in addition to this host's own, under which clients reach `metrics`.
    file http_names "http_names" [] in http_names [], HOST_NAMES, |_, _| Vec::new(), Restart;
    /// Unix socket used to query a running real server.
    file control "control" [] in control [], Optional(SocketPathKind), |_, _| None, Restart;
    /// Group whose members may use the socket.
    file control_group "control_group" [] in control_group [], Optional(GROUP), |_, _| None, Restart;
}

// Every field of the guard has a row.
const _: fn(&GuardConfig) = |GuardConfig { vips: _, directors: _, rips: _, services: _ }| {};

/// The shortest prefix accepted without `--insecure`. RFC 1918 §3: 10.0.0.0/8 is the largest private block.
pub const PREFIX_LENGTH_MIN: u8 = 8;

/// An address or a prefix of any length.
pub struct Prefix;

impl Word for Prefix {
    type Value = IpNet;

    fn parse(&self, key: &str, word: &str) -> Result<IpNet, String> {
        let refuse = |what: &str| format!("{key} = {}: {what}", escaped(word));
        if word.parse::<IpAddr>().is_ok() {
            return Address.parse(key, word).map(IpNet::from);
        }
        let prefix = word.parse::<IpNet>().map_err(|_| {
            refuse("expected an IPv4 address or prefix, such as \"172.25.3.1\" or \"10.0.0.0/24\"")
        })?;
        let prefix = prefix.trunc();
        if prefix.prefix_len() >= PREFIX_LENGTH_MIN && Address.parse(key, &prefix.addr().to_string()).is_err()
        {
            return Err(refuse(
                "no director can have an address in this prefix; expected unicast IPv4 addresses",
            ));
        }
        Ok(prefix)
    }

    fn word(&self, value: &IpNet) -> String {
        let is_address = value.prefix_len() == value.max_prefix_len();
        if is_address { value.addr().to_string() } else { value.to_string() }
    }
}

/// A protocol and a port: "tcp/80".
pub struct TransportPort;

impl Word for TransportPort {
    type Value = Service;

    fn parse(&self, key: &str, word: &str) -> Result<Service, String> {
        let parsed = word.split_once('/').and_then(|(protocol, port)| {
            let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.name() == protocol)?;
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            Some(Service { protocol, port })
        });
        let what = "expected PROTOCOL/PORT, such as \"tcp/80\" or \"udp/53\"";
        parsed.ok_or_else(|| format!("{key}: {}: {what}", escaped(word)))
    }

    fn word(&self, value: &Service) -> String {
        format!("{}/{}", value.protocol.name(), value.port)
    }
}
