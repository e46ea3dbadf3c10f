//! Single values of the command line: numbers, addresses, masks, flags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::IpvsadmError;
use super::names::Names;
use super::options::Transport;

/// 31 days (MAX_TIMEOUT of ipvsadm.c).
pub const TIMEOUT_MAX: u32 = 2_678_400;

/// An address and a port; port 0 means all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressPort {
    /// Of either family.
    pub address: IpAddr,
    /// In host byte order.
    pub port: u16,
}

/// A whole number in decimal, as strtol(3) accepts it: with leading blanks and a sign.
pub fn number(word: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let word = word.trim_start();
    let (is_negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<u32>().ok()?;
    (range.contains(&value) && !(is_negative && value > 0)).then_some(value)
}

/// A timeout in seconds.
pub fn timeout(word: &str, min: u32) -> Result<u32, IpvsadmError> {
    number(word, min..=TIMEOUT_MAX)
        .ok_or_else(|| IpvsadmError::usage(format!("invalid timeout value `{word}' specified")))
}

/// `host[:port]`, `[v6]:port` or a bare IPv6 address, as in parse_service() of ipvsadm.c; names are looked
/// up. Without a transport the port must be a number.
pub fn place(word: &str, transport: Option<Transport>, names: &dyn Names) -> Option<AddressPort> {
    let port = |word: &str| {
        let number = number(word, 0..=65_535).and_then(|port| u16::try_from(port).ok());
        number.or_else(|| names.port(word, transport?))
    };
    if let Some(rest) = word.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = host.parse().ok()?;
        return Some(AddressPort { address: address.into(), port: port(rest.strip_prefix(':')?)? });
    }
    if let Ok(address) = word.parse::<Ipv6Addr>() {
        return Some(AddressPort { address: address.into(), port: 0 });
    }
    let (host, port) = match word.split_once(':') {
        Some((host, word)) => (host, port(word)?),
        None => (word, 0),
    };
    Some(AddressPort { address: host_v4(host, names)?.into(), port })
}

/// An IPv4 address in any form that inet_aton(3) accepts, except a single number without a dot, or a host's
/// name.
fn host_v4(host: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    if host.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    aton(host).or_else(|| names.address(host))
}

/// The forms of inet_aton(3): up to four numbers, each in decimal, octal or hexadecimal; the last one fills
/// the remaining bytes.
fn aton(word: &str) -> Option<Ipv4Addr> {
    let part = |word: &str| match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => parse_digits(digits, 16),
        None if word.len() > 1 && word.starts_with('0') => parse_digits(word, 8),
        None => parse_digits(word, 10),
    };
    let parts = word.split('.').map(part).collect::<Option<Vec<u32>>>()?;
    let (last, leading) = parts.split_last()?;
    let used_bits = u32::try_from(8 * leading.len()).ok()?;
    let free_bits = 32u32.checked_sub(used_bits).filter(|bits| *bits > 0)?;
    if leading.iter().any(|part| *part > 255) || u64::from(*last) >> free_bits != 0 {
        return None;
    }
    let head = leading.iter().enumerate().map(|(index, part)| part << (24 - 8 * index)).sum::<u32>();
    Some(Ipv4Addr::from(head | last))
}

/// `from_str_radix` without the sign it would accept.
fn parse_digits(word: &str, radix: u32) -> Option<u32> {
    let is_number = !word.is_empty() && word.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| u32::from_str_radix(word, radix).ok()).flatten()
}

/// How clients are grouped for persistence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// As `-M` gives it; the ones need not be contiguous.
    V4(Ipv4Addr),
    /// A prefix length.
    V6(u8),
}

impl Mask {
    /// The prefix length; `None` if the ones are not contiguous or there are none.
    pub fn prefix(self) -> Option<u8> {
        match self {
            Mask::V4(mask) => {
                let bits = u32::from(mask);
                let ones = bits.leading_ones();
                u8::try_from(ones).ok().filter(|ones| *ones > 0 && u32::from(*ones) == bits.count_ones())
            }
            Mask::V6(prefix) => Some(prefix),
        }
    }
}

/// The value of `-M`.
pub fn mask(word: &str, is_ipv6: bool, names: &dyn Names) -> Result<Mask, IpvsadmError> {
    if is_ipv6 {
        let length = number(word, 1..=128).and_then(|length| u8::try_from(length).ok());
        return length.map(Mask::V6).ok_or_else(|| IpvsadmError::usage("illegal ipv6 netmask specified"));
    }
    let mask = aton(word).or_else(|| names.address(word));
    mask.map(Mask::V4).ok_or_else(|| IpvsadmError::usage("illegal virtual server persistent mask specified"))
}

/// The words of `-b`, in the spelling in which they are printed.
pub const SCHEDULER_FLAGS: [&str; 7] =
    ["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port"];

/// The flags of `-b`, by their bits 0 to 2; `sh-fallback` and `mh-fallback` are `flag-1`, `sh-port` and
/// `mh-port` are `flag-2`.
pub fn scheduler_flags(list: &str, scheduler: &str) -> Result<u8, IpvsadmError> {
    let mut flags = 0;
    for word in list.split(',').filter(|word| !word.is_empty()) {
        flags |= match word.split_once('-') {
            Some(("flag", "1")) => 1,
            Some(("flag", "2")) => 2,
            Some(("flag", "3")) => 4,
            Some((owner @ ("sh" | "mh"), flag @ ("fallback" | "port"))) => {
                if owner != scheduler {
                    return Err(IpvsadmError::usage(format!("incompatible scheduler flag `{word}'")));
                }
                if flag == "fallback" { 1 } else { 2 }
            }
            _ => return Err(IpvsadmError::usage(format!("invalid scheduler flag `{word}'"))),
        };
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ipvsadm::names::testing::FixedNames;

    #[test]
    fn numbers_are_those_of_strtol() {
        let cases = [
            ("7", Some(7)),
            (" 7", Some(7)),
            ("+8", Some(8)),
            ("010", Some(10)),
            ("-0", Some(0)),
            ("", None),
            ("-1", None),
            ("7 ", None),
            ("0x10", None),
            ("8e1", None),
            ("65536", None),
            ("4294967376", None),
        ];
        for (word, expected) in cases {
            assert_eq!(number(word, 0..=65_535), expected, "{word:?}");
        }
    }

    #[test]
    fn places() {
        let names = FixedNames::new(&[("web.example", [10, 0, 0, 9])], &[("http", Transport::Tcp, 80)]);
        let read = |word| {
            place(word, Some(Transport::Tcp), &names).map(|place| format!("{} {}", place.address, place.port))
        };
        let legal = [
            ("10.0.0.1:80", "10.0.0.1 80"),
            ("10.0.0.1", "10.0.0.1 0"),
            ("10.0.0.1:+8", "10.0.0.1 8"),
            ("10.0.0.1:http", "10.0.0.1 80"),
            ("web.example:http", "10.0.0.9 80"),
            ("10.0.1:80", "10.0.0.1 80"),
            ("1.2", "1.0.0.2 0"),
            ("0x0a000001:80", "10.0.0.1 80"),
            ("010.0.0.1:80", "8.0.0.1 80"),
            ("[::1]:80", "::1 80"),
            ("::2", "::2 0"),
            ("2001:db8::1:80", "2001:db8::1:80 0"),
        ];
        for (word, expected) in legal {
            assert_eq!(read(word).as_deref(), Some(expected), "{word}");
        }
        let illegal = [
            "",
            ":80",
            "80",
            "10.0.0.1:",
            "10.0.0.1:-1",
            "10.0.0.1:0x50",
            "10.0.0.1:99999",
            "10.0.0.1:80:90",
            "[::1]80",
            "[::1]",
            "[::1]:",
            "[]:80",
            "10.0.0.256",
            "10.0.0.1.",
            "1.2.3.4.5",
            "10.+1",
            "nosuch.example:80",
            "10.0.0.1:domain",
            "[web.example]:80",
            "fe80::1%lo:80",
            "+1.2",
        ];
        for word in illegal {
            assert_eq!(read(word), None, "{word}");
        }
    }

    #[test]
    fn masks() {
        let names = FixedNames::default();
        let prefix =
            |word, is_ipv6| mask(word, is_ipv6, &names).map(Mask::prefix).map_err(|error| error.text);
        assert_eq!(prefix("255.255.255.0", false), Ok(Some(24)));
        assert_eq!(prefix("255.255.255.255", false), Ok(Some(32)));
        assert_eq!(prefix("0xffffff00", false), Ok(Some(24)));
        assert_eq!(prefix("255.255.0.255", false), Ok(None));
        assert_eq!(prefix("0.0.0.0", false), Ok(None));
        assert_eq!(prefix("64", true), Ok(Some(64)));
        for (word, is_ipv6) in
            [("0", true), ("129", true), ("255.255.255.0", true), ("foo", false), ("::", false)]
        {
            assert!(prefix(word, is_ipv6).is_err(), "{word}");
        }
    }

    #[test]
    fn flags_belong_to_their_scheduler() {
        let flags = |list, scheduler| scheduler_flags(list, scheduler).map_err(|error| error.text);
        assert_eq!(flags("sh-port,sh-fallback", "sh"), Ok(3));
        assert_eq!(flags("mh-port", "mh"), Ok(2));
        assert_eq!(flags("flag-1,,flag-3", "rr"), Ok(5));
        assert_eq!(flags("", "rr"), Ok(0));
        assert_eq!(flags("sh-port", "wlc"), Err("incompatible scheduler flag `sh-port'".to_owned()));
        assert_eq!(flags("sh-port,nosuch", "sh"), Err("invalid scheduler flag `nosuch'".to_owned()));
    }
}
