//! Single values: a word from the file becomes a value, or an error that names what was expected.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::super::suggest::nearest;
use super::super::{ConfigError, Source, clipped};
use crate::director::cluster::{Matcher, Ports};
use crate::packet::Protocol;

/// A word as written, in quotes; line breaks and other control characters are escaped.
pub fn quoted(word: &str) -> String {
    format!("{:?}", clipped(word))
}

/// The value of one of the given words.
pub fn choice<T: Copy>(
    source: &Source,
    key: &str,
    written: &Spanned<String>,
    words: &[(&str, T)],
) -> Result<T, ConfigError> {
    let word = written.get_ref().as_str();
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == word) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(word, names.iter().copied()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("expected one of {}", names.join(", ")),
    };
    Err(source.error(written.span(), format!("{key} = {}: {hint}", quoted(word))))
}

/// A whole number within `range`.
pub fn number(
    source: &Source,
    key: &str,
    written: &Spanned<i64>,
    range: std::ops::RangeInclusive<i64>,
) -> Result<i64, ConfigError> {
    let value = *written.get_ref();
    if range.contains(&value) {
        return Ok(value);
    }
    let message = format!("{key} = {value}: expected {} to {}", range.start(), range.end());
    Err(source.error(written.span(), message))
}

/// A unicast address that a host can have.
pub fn address(source: &Source, key: &str, written: &Spanned<String>) -> Result<IpAddr, ConfigError> {
    let word = written.get_ref();
    let refuse = |what: &str| source.error(written.span(), format!("{key} = {}: {what}", quoted(word)));
    let address: IpAddr = word.parse().map_err(|_| {
        refuse(match word {
            _ if word.contains('/') => "expected an address without a prefix length",
            _ if word.parse::<SocketAddr>().is_ok() => "expected an address without a port",
            _ => "expected an IPv4 address, such as \"172.25.3.100\"; names are not looked up",
        })
    })?;
    let is_odd = match address {
        IpAddr::V4(v4) => {
            v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
    };
    if is_odd {
        return Err(refuse("no host can have this address; expected a unicast address"));
    }
    if address.is_loopback() {
        return Err(refuse("a loopback address cannot be reached from outside; expected a unicast address"));
    }
    Ok(address)
}

/// An IPv4 address that a host can have; IPv6 is refused with the reason.
pub fn address_v4(source: &Source, key: &str, written: &Spanned<String>) -> Result<Ipv4Addr, ConfigError> {
    match address(source, key, written)? {
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) => Err(source.error(
            written.span(),
            format!("{key} = \"{v6}\": IPv6 is not forwarded yet; use an IPv4 address"),
        )),
    }
}

/// An address and port to listen on.
pub fn listen(source: &Source, key: &str, written: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    let word = written.get_ref();
    word.parse().map_err(|_| {
        let message = format!("{key} = {}: expected ADDRESS:PORT, such as \"127.0.0.1:9690\"", quoted(word));
        source.error(written.span(), message)
    })
}

/// A network interface's name, as the kernel accepts it.
pub fn interface(source: &Source, key: &str, written: &Spanned<String>) -> Result<String, ConfigError> {
    /// IFNAMSIZ of linux/if.h, without its final NUL.
    const NAME_MAX: usize = 15;
    let word = written.get_ref();
    if word == "lo" {
        let message = format!(
            "{key} = \"lo\": clients' packets do not arrive on the loopback interface; name the interface that faces the clients"
        );
        return Err(source.error(written.span(), message));
    }
    let is_name = (1..=NAME_MAX).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
        && !matches!(word.as_str(), "." | ".." | "all" | "default");
    if is_name {
        return Ok(word.clone());
    }
    let message = format!(
        "{key} = {}: expected an interface's name: 1 to {NAME_MAX} characters without blanks, \"/\" and \":\", and \
         not \"all\" or \"default\"",
        quoted(word)
    );
    Err(source.error(written.span(), message))
}

/// The path of a Unix socket.
pub fn socket_path(source: &Source, key: &str, written: &Spanned<String>) -> Result<PathBuf, ConfigError> {
    /// unix(7): `sun_path` holds 108 bytes with the final NUL.
    const PATH_MAX: usize = 107;
    let word = written.get_ref();
    if (1..=PATH_MAX).contains(&word.len()) {
        return Ok(word.into());
    }
    let message = format!(
        "{key} = {}: expected a path of 1 to {PATH_MAX} bytes, such as \"/run/lvs-tund/director.sock\"",
        quoted(word)
    );
    Err(source.error(written.span(), message))
}

/// The name of a group of users.
pub fn group(source: &Source, key: &str, written: &Spanned<String>) -> Result<String, ConfigError> {
    /// useradd(8): names are up to 32 characters long.
    const NAME_MAX: usize = 32;
    let word = written.get_ref();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-$".contains(&byte);
    if (1..=NAME_MAX).contains(&word.len()) && word.bytes().all(is_name) {
        return Ok(word.clone());
    }
    let message = format!("{key} = {}: expected the name of a group, such as \"adm\"", quoted(word));
    Err(source.error(written.span(), message))
}

/// A label for metrics and logs.
pub fn name(source: &Source, written: &Spanned<String>) -> Result<String, ConfigError> {
    const NAME_MAX: usize = 128;
    let word = written.get_ref();
    if (1..=NAME_MAX).contains(&word.len()) && !word.chars().any(char::is_control) {
        return Ok(word.clone());
    }
    let message =
        format!("name = {}: expected 1 to {NAME_MAX} bytes without control characters", quoted(word));
    Err(source.error(written.span(), message))
}

/// A timeout such as "15m", within ipvsadm's limits.
pub fn timeout(source: &Source, key: &str, written: &Spanned<String>) -> Result<Duration, ConfigError> {
    /// 31 days, ipvsadm's limit for a timeout (MAX_TIMEOUT in ipvsadm.c).
    const TIMEOUT_MAX: Duration = Duration::from_secs(2_678_400);
    let word = written.get_ref();
    let refuse = |what: &str| source.error(written.span(), format!("{key} = {}: {what}", quoted(word)));
    let duration = humantime::parse_duration(word)
        .map_err(|_| refuse("expected a duration with its unit, such as \"900s\" or \"15m\""))?;
    if duration < Duration::from_secs(1) || duration > TIMEOUT_MAX {
        return Err(refuse("expected 1s to 31days"));
    }
    Ok(duration)
}

/// A port, a range "8000-8099", or "all".
pub fn ports(source: &Source, written: &Spanned<toml::Value>) -> Result<Ports, ConfigError> {
    let found = match written.get_ref() {
        toml::Value::Integer(port) => {
            let port = number(source, "port", &Spanned::new(written.span(), *port), 1..=65_535)?;
            Some(Ports::one(port as u16))
        }
        // A number in quotes is a mistake, not a range.
        toml::Value::String(word) if word.parse::<i64>().is_err() => word.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| {
        let word = clipped(&written.get_ref().to_string());
        let message = format!(
            "port = {word}: expected a number from 1 to 65535, a range such as \"8000-8099\", or \"all\""
        );
        source.error(written.span(), message)
    })
}

/// "tcp 172.25.3.100:80"; a range or "all" may follow the colon instead.
pub fn matcher(
    source: &Source,
    written: &Spanned<String>,
    protocols: &[(&str, Protocol)],
) -> Result<Matcher, ConfigError> {
    let word = written.get_ref();
    let unclear = || {
        let message = format!(
            "match: {}: expected PROTOCOL VIP:PORTS, such as \"tcp 172.25.3.100:80\" or \"udp 172.25.3.100:all\"",
            quoted(word)
        );
        source.error(written.span(), message)
    };
    let (name, rest) = word.split_once(' ').ok_or_else(unclear)?;
    let (vip, ports) = rest.rsplit_once(':').ok_or_else(unclear)?;
    let (_, protocol) = protocols.iter().find(|(known, _)| *known == name).ok_or_else(unclear)?;
    let vip = address_v4(source, "match", &Spanned::new(written.span(), vip.to_owned()))?.into();
    Ok(Matcher { protocol: *protocol, vip, ports: ports.parse().map_err(|_| unclear())? })
}

/// 32 hexadecimal digits.
pub fn hash_key(source: &Source, key: &str, written: &Spanned<String>) -> Result<[u8; 16], ConfigError> {
    let word = written.get_ref();
    let digits: Vec<u8> = word.chars().filter_map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    if digits.len() != 32 || word.len() != 32 {
        let message = format!(
            "{key}: expected 32 hexadecimal digits, the same on all directors, such as those of `openssl rand -hex 16`"
        );
        return Err(source.error(written.span(), message));
    }
    Ok(std::array::from_fn(|index| digits[2 * index] << 4 | digits[2 * index + 1]))
}
