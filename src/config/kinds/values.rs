//! Words that stand for one value each: addresses, names, paths, durations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Bounds, ServedLeaf, Word, escaped};
use crate::config::json::Seconds;

/// An IPv4 address that can be one host's; IPv6 is refused with the reason.
pub struct Address;

impl Word for Address {
    type Value = IpAddr;

    fn parse(&self, key: &str, word: &str) -> Result<IpAddr, String> {
        let address = word.parse().map_err(|_| {
            let what = match word {
                _ if word.contains('/') => "expected an address without a prefix length",
                _ if word.parse::<SocketAddr>().is_ok() => "expected an address without a port",
                _ => "expected an IPv4 address, such as \"172.25.3.100\"; names are not looked up",
            };
            format!("{key} = {}: {what}", escaped(word))
        })?;
        ServedLeaf::accept(self, key, address)
    }

    fn word(&self, value: &IpAddr) -> String {
        value.to_string()
    }

    fn bounds(&self) -> Bounds {
        Bounds { format: Some("ipv4"), ..Bounds::default() }
    }

    fn shown(&self, word: &str) -> String {
        word.to_owned()
    }
}

impl ServedLeaf for Address {
    type Json = IpAddr;

    fn accept(&self, key: &str, address: IpAddr) -> Result<IpAddr, String> {
        let is_odd = match address {
            IpAddr::V4(v4) => {
                v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
            }
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
        };
        let what = match address {
            _ if is_odd => "no host can have this address; expected a unicast address",
            _ if address.is_loopback() => {
                "a loopback address cannot be reached from outside; expected a unicast address"
            }
            IpAddr::V6(_) => "IPv6 is not forwarded yet; use an IPv4 address",
            IpAddr::V4(_) => return Ok(address),
        };
        Err(format!("{key} = \"{address}\": {what}"))
    }
}

/// "auto", or an address of this host.
pub struct OuterSource;

impl Word for OuterSource {
    type Value = Option<Ipv4Addr>;

    fn parse(&self, key: &str, word: &str) -> Result<Option<Ipv4Addr>, String> {
        if word == "auto" {
            return Ok(None);
        }
        if word.parse::<IpAddr>().is_err() {
            let what = "expected \"auto\" or an IPv4 address of this host";
            return Err(format!("{key} = {}: {what}", escaped(word)));
        }
        match Address.parse(key, word)? {
            IpAddr::V4(v4) => Ok(Some(v4)),
            IpAddr::V6(_) => Ok(None),
        }
    }

    fn word(&self, value: &Option<Ipv4Addr>) -> String {
        value.map_or_else(|| "auto".to_owned(), |address| address.to_string())
    }
}

/// Where to listen: address and port.
pub struct Listen;

impl Word for Listen {
    type Value = SocketAddr;

    fn parse(&self, key: &str, word: &str) -> Result<SocketAddr, String> {
        let what = "expected ADDRESS:PORT, such as \"127.0.0.1:9690\"";
        word.parse().map_err(|_| format!("{key} = {}: {what}", escaped(word)))
    }

    fn word(&self, value: &SocketAddr) -> String {
        value.to_string()
    }
}

/// A network interface's name, as the kernel takes it.
pub struct Interface;

impl Word for Interface {
    type Value = String;

    fn parse(&self, key: &str, word: &str) -> Result<String, String> {
        /// IFNAMSIZ of linux/if.h, without its final NUL.
        const NAME_MAX: usize = 15;
        if word == "lo" {
            return Err(format!(
                "{key} = \"lo\": clients' packets do not arrive on the loopback interface; name the interface that faces the clients"
            ));
        }
        let is_name = (1..=NAME_MAX).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
            && !matches!(word, "." | ".." | "all" | "default");
        if is_name {
            return Ok(word.to_owned());
        }
        Err(format!(
            "{key} = {}: expected an interface's name: 1 to {NAME_MAX} characters without blanks, \"/\" and \":\", and \
             not \"all\" or \"default\"",
            escaped(word)
        ))
    }

    fn word(&self, value: &String) -> String {
        value.clone()
    }
}

/// The path of a Unix socket.
pub struct SocketPath;

impl Word for SocketPath {
    type Value = PathBuf;

    fn parse(&self, key: &str, word: &str) -> Result<PathBuf, String> {
        /// unix(7): `sun_path` holds 108 bytes with the final NUL.
        const PATH_MAX: usize = 107;
        if (1..=PATH_MAX).contains(&word.len()) {
            return Ok(word.into());
        }
        Err(format!(
            "{key} = {}: expected a path of 1 to {PATH_MAX} bytes, such as \"/run/lvs-tund/director.sock\"",
            escaped(word)
        ))
    }

    fn word(&self, value: &PathBuf) -> String {
        value.to_string_lossy().into_owned()
    }
}

/// The name of a group of users.
pub struct Group;

impl Word for Group {
    type Value = String;

    fn parse(&self, key: &str, word: &str) -> Result<String, String> {
        /// useradd(8): names are up to 32 characters long.
        const NAME_MAX: usize = 32;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-$".contains(&byte);
        if (1..=NAME_MAX).contains(&word.len()) && word.bytes().all(is_name) {
            return Ok(word.to_owned());
        }
        Err(format!("{key} = {}: expected the name of a group, such as \"adm\"", escaped(word)))
    }

    fn word(&self, value: &String) -> String {
        value.clone()
    }
}

/// A label for metrics and logs.
pub struct Name;

impl Name {
    /// In bytes, as most limits on labels are.
    const LENGTH_MAX: usize = 128;
}

impl Word for Name {
    type Value = String;

    fn parse(&self, key: &str, word: &str) -> Result<String, String> {
        if (1..=Name::LENGTH_MAX).contains(&word.len()) && !word.chars().any(char::is_control) {
            return Ok(word.to_owned());
        }
        let most = Name::LENGTH_MAX;
        Err(format!("{key} = {}: expected 1 to {most} bytes without control characters", escaped(word)))
    }

    fn word(&self, value: &String) -> String {
        value.clone()
    }

    fn bounds(&self) -> Bounds {
        Bounds { length: Some(1..=Name::LENGTH_MAX), ..Bounds::default() }
    }
}

impl ServedLeaf for Name {
    type Json = String;

    fn accept(&self, key: &str, asked: String) -> Result<String, String> {
        self.parse(key, &asked)
    }
}

/// A timeout such as "15m", within ipvsadm's limits.
pub struct Timeout;

impl Timeout {
    /// ipvsadm 1.31 takes up to 31 days (MAX_TIMEOUT).
    const SECONDS_MAX: u32 = 2_678_400;

    fn check(key: &str, duration: Duration, written: &str) -> Result<Duration, String> {
        let most = Duration::from_secs(Timeout::SECONDS_MAX.into());
        if duration < Duration::from_secs(1) || duration > most {
            return Err(format!("{key} = {}: expected 1s to 31days", escaped(written)));
        }
        Ok(duration)
    }
}

impl Word for Timeout {
    type Value = Duration;

    fn parse(&self, key: &str, word: &str) -> Result<Duration, String> {
        let what = "expected a duration with its unit, such as \"900s\" or \"15m\"";
        let duration =
            humantime::parse_duration(word).map_err(|_| format!("{key} = {}: {what}", escaped(word)))?;
        Timeout::check(key, duration, word)
    }

    /// In the largest unit that divides it.
    fn word(&self, value: &Duration) -> String {
        let seconds = value.as_secs();
        let (number, unit) = match value.subsec_nanos() {
            0 if seconds.is_multiple_of(86_400) && seconds > 0 => (u128::from(seconds / 86_400), "days"),
            0 if seconds.is_multiple_of(3_600) => (u128::from(seconds / 3_600), "h"),
            0 if seconds.is_multiple_of(60) => (u128::from(seconds / 60), "m"),
            0 => (u128::from(seconds), "s"),
            _ => (value.as_nanos(), "ns"),
        };
        format!("{number}{unit}")
    }

    fn bounds(&self) -> Bounds {
        Bounds::range(1..=Timeout::SECONDS_MAX.into())
    }
}

impl ServedLeaf for Timeout {
    type Json = Seconds;

    fn accept(&self, key: &str, Seconds(duration): Seconds) -> Result<Duration, String> {
        Timeout::check(key, duration, &humantime::format_duration(duration).to_string())
    }
}

/// 32 hexadecimal digits.
pub struct HashKey;

impl Word for HashKey {
    type Value = [u8; 16];

    fn parse(&self, key: &str, word: &str) -> Result<[u8; 16], String> {
        let digits: Vec<u8> = word.chars().filter_map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        if digits.len() != 32 || word.len() != 32 {
            return Err(format!(
                "{key}: expected 32 hexadecimal digits, the same on all directors, such as those of `openssl rand -hex 16`"
            ));
        }
        Ok(std::array::from_fn(|index| digits[2 * index] << 4 | digits[2 * index + 1]))
    }

    fn word(&self, value: &[u8; 16]) -> String {
        value.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
