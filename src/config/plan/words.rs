//! Single values: a word from the file becomes a value or an error that says what was expected.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use toml::Spanned;

use super::super::suggest::nearest;
use super::super::{ConfigError, Source};

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
    Err(source.error(written.span(), format!("{key} = \"{word}\": {hint}")))
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

/// An address that can be one host's.
pub fn address(source: &Source, key: &str, written: &Spanned<String>) -> Result<IpAddr, ConfigError> {
    let word = written.get_ref();
    let refuse = |what: &str| source.error(written.span(), format!("{key} = \"{word}\": {what}"));
    let address: IpAddr = word.parse().map_err(|_| {
        let is_prefix = word.contains('/');
        refuse(if is_prefix {
            "expected an address without a prefix length"
        } else {
            "expected an IP address"
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

/// An IPv4 address that can be one host's; IPv6 is refused with the reason.
pub fn address_v4(source: &Source, key: &str, written: &Spanned<String>) -> Result<Ipv4Addr, ConfigError> {
    match address(source, key, written)? {
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) => Err(source.error(
            written.span(),
            format!("{key} = \"{v6}\": IPv6 is not forwarded yet; give an IPv4 address"),
        )),
    }
}

/// Where to listen: address and port.
pub fn listen(source: &Source, key: &str, written: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    let word = written.get_ref();
    word.parse().map_err(|_| {
        let message = format!("{key} = \"{word}\": expected ADDRESS:PORT, such as \"127.0.0.1:9690\"");
        source.error(written.span(), message)
    })
}

/// A network interface's name, as the kernel takes it.
pub fn interface(source: &Source, key: &str, written: &Spanned<String>) -> Result<String, ConfigError> {
    /// IFNAMSIZ of linux/if.h, without its final NUL.
    const NAME_MAX: usize = 15;
    let word = written.get_ref();
    let is_name = (1..=NAME_MAX).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
        && !matches!(word.as_str(), "." | ".." | "all" | "default");
    if is_name {
        return Ok(word.clone());
    }
    let message = format!("{key} = \"{word}\": expected an interface name of 1 to {NAME_MAX} characters");
    Err(source.error(written.span(), message))
}

/// A label for metrics and logs.
pub fn name(source: &Source, written: &Spanned<String>) -> Result<String, ConfigError> {
    const NAME_MAX: usize = 128;
    let word = written.get_ref();
    if (1..=NAME_MAX).contains(&word.len()) && !word.chars().any(char::is_control) {
        return Ok(word.clone());
    }
    let message = format!("name = {word:?}: expected 1 to {NAME_MAX} bytes without control characters");
    Err(source.error(written.span(), message))
}

/// A timeout such as "15m", within ipvsadm's limits.
pub fn timeout(source: &Source, key: &str, written: &Spanned<String>) -> Result<Duration, ConfigError> {
    /// ipvs.md §16.4: 31 days.
    const TIMEOUT_MAX: Duration = Duration::from_secs(2_678_400);
    let word = written.get_ref();
    let refuse = |what: &str| source.error(written.span(), format!("{key} = \"{word}\": {what}"));
    let duration = humantime::parse_duration(word)
        .map_err(|_| refuse("expected a duration with its unit, such as \"900s\" or \"15m\""))?;
    if duration < Duration::from_secs(1) || duration > TIMEOUT_MAX {
        return Err(refuse("expected 1s to 31days"));
    }
    Ok(duration)
}
