//! Words for single values: addresses, names, paths, durations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Bounds, List, SimpleJsonKind, Word, escaped};
use crate::config::json::Seconds;

/// An IPv4 address that a host can have; IPv6 is rejected with the reason.
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
        SimpleJsonKind::accept(self, key, address)
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

impl SimpleJsonKind for Address {
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

/// A real server's address: as [`Address`], or a loopback address, which is this host.
pub struct RipAddress;

impl Word for RipAddress {
    type Value = IpAddr;

    fn parse(&self, key: &str, word: &str) -> Result<IpAddr, String> {
        match word.parse() {
            Ok(address) => self.accept(key, address),
            Err(_) => Address.parse(key, word),
        }
    }

    fn word(&self, value: &IpAddr) -> String {
        Address.word(value)
    }

    fn bounds(&self) -> Bounds {
        Address.bounds()
    }

    fn shown(&self, word: &str) -> String {
        Address.shown(word)
    }
}

impl SimpleJsonKind for RipAddress {
    type Json = IpAddr;

    fn accept(&self, key: &str, address: IpAddr) -> Result<IpAddr, String> {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => Ok(address),
            _ => Address.accept(key, address),
        }
    }
}

/// "auto", or an address of this host.
pub struct OuterSourceKind;

impl Word for OuterSourceKind {
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

/// An address and port to listen on.
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

/// The name of a network interface, as the kernel accepts it.
pub struct InterfaceName;

impl Word for InterfaceName {
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
            "{key} = {}: expected the name of an interface: 1 to {NAME_MAX} characters without blanks, \"/\" and \":\", and \
             not \"all\" or \"default\"",
            escaped(word)
        ))
    }

    fn word(&self, value: &String) -> String {
        value.clone()
    }
}

/// The path of a Unix socket.
pub struct SocketPathKind;

impl Word for SocketPathKind {
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

/// Text of limited length, with a restricted set of characters.
pub struct Text {
    length_max: usize,
    is_allowed: fn(char) -> bool,
    expected: &'static str,
}

/// The name of a group of users. useradd(8): names are up to 32 characters long.
pub const GROUP: Text = Text {
    length_max: 32,
    is_allowed: |c| c.is_ascii_alphanumeric() || "_.-$".contains(c),
    expected: "the name of a group, such as \"adm\"",
};

/// The name of a user. useradd(8): names are up to 32 characters long.
pub const USER: Text = Text { expected: "the name of a user, such as \"www-data\"", ..GROUP };

/// A label for metrics and logs.
pub const LABEL: Text = Text {
    length_max: 128,
    is_allowed: |c| !is_misleading(c),
    expected: "1 to 128 bytes without control characters",
};

/// The name of a host, as the header `Host` has it (RFC 1035 §2.3.4).
const HOST_NAME: Text = Text {
    length_max: 253,
    is_allowed: |c| c.is_ascii_alphanumeric() || "_.-".contains(c),
    expected: "the name of a host without a port, such as \"director1.example.com\"",
};

/// Names of hosts.
pub const HOST_NAMES: List<Text> = List { of: HOST_NAME, is_unique: true };

/// Whether a text with this character may look like another: control characters, separators of lines, and the characters of
/// UAX #9 that change the direction of text.
pub fn is_misleading(c: char) -> bool {
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    let is_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_separator || is_direction
}

impl Word for Text {
    type Value = String;

    fn parse(&self, key: &str, word: &str) -> Result<String, String> {
        if (1..=self.length_max).contains(&word.len()) && word.chars().all(self.is_allowed) {
            return Ok(word.to_owned());
        }
        Err(format!("{key} = {}: expected {}", escaped(word), self.expected))
    }

    fn word(&self, value: &String) -> String {
        value.clone()
    }

    fn bounds(&self) -> Bounds {
        Bounds { length: Some(1..=self.length_max), ..Bounds::default() }
    }
}

impl SimpleJsonKind for Text {
    type Json = String;

    fn accept(&self, key: &str, input: String) -> Result<String, String> {
        self.parse(key, &input)
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

    /// A number of seconds, as with `ipvsadm --set`.
    fn suggestion(&self, number: i64) -> Option<String> {
        u64::try_from(number).is_ok_and(|number| number > 0).then(|| format!("\"{number}s\""))
    }

    /// Uses the largest unit that divides the duration.
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

impl SimpleJsonKind for Timeout {
    type Json = Seconds;

    fn accept(&self, key: &str, Seconds(duration): Seconds) -> Result<Duration, String> {
        Timeout::check(key, duration, &humantime::format_duration(duration).to_string())
    }
}

/// A duration such as "500ms" or "2s", within bounds.
pub struct Span {
    millis_min: u64,
    millis_max: u64,
}

impl Span {
    /// From one number of milliseconds to another, both included.
    pub const fn new(millis_min: u64, millis_max: u64) -> Span {
        Span { millis_min, millis_max }
    }

    fn check(&self, key: &str, duration: Duration, written: &str) -> Result<Duration, String> {
        let (least, most) = (Duration::from_millis(self.millis_min), Duration::from_millis(self.millis_max));
        if duration < least || duration > most {
            let (least, most) = (self.word(&least), self.word(&most));
            return Err(format!("{key} = {}: expected {least} to {most}", escaped(written)));
        }
        Ok(duration)
    }
}

impl Word for Span {
    type Value = Duration;

    fn parse(&self, key: &str, word: &str) -> Result<Duration, String> {
        let what = "expected a duration with its unit, such as \"2s\" or \"500ms\"";
        let duration =
            humantime::parse_duration(word).map_err(|_| format!("{key} = {}: {what}", escaped(word)))?;
        self.check(key, duration, word)
    }

    fn suggestion(&self, number: i64) -> Option<String> {
        Timeout.suggestion(number)
    }

    fn word(&self, value: &Duration) -> String {
        match value.subsec_nanos() {
            0 if value.is_zero() => "0s".to_owned(),
            0 => Timeout.word(value),
            nanos if nanos % 1_000_000 == 0 => format!("{}ms", value.as_millis()),
            _ => format!("{}ns", value.as_nanos()),
        }
    }

    fn bounds(&self) -> Bounds {
        let seconds = |millis: u64| i64::try_from(millis / 1000).unwrap_or(i64::MAX);
        Bounds::range(seconds(self.millis_min)..=seconds(self.millis_max))
    }
}

impl SimpleJsonKind for Span {
    type Json = Seconds;

    fn accept(&self, key: &str, Seconds(duration): Seconds) -> Result<Duration, String> {
        self.check(key, duration, &humantime::format_duration(duration).to_string())
    }
}

/// 32 hexadecimal digits.
pub struct HashKey;

impl Word for HashKey {
    type Value = [u8; 16];

    fn parse(&self, key: &str, word: &str) -> Result<[u8; 16], String> {
        let is_key = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(word, 16).ok().filter(|_| is_key);
        number.map(u128::to_be_bytes).ok_or_else(|| {
            format!(
                "{key}: expected 32 hexadecimal digits, the same on all directors, such as those of `openssl rand -hex 16`"
            )
        })
    }

    fn word(&self, value: &[u8; 16]) -> String {
        value.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
