//! The values of keywords: numbers, timers, addresses, commands.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use super::line::command_words;
use super::tree::Statement;

/// What is wrong with a value.
pub(super) type Wrong = String;

/// The first argument as a number.
pub(super) fn number(statement: &Statement, min: u32, max: u32) -> Result<u32, Wrong> {
    let word = first(statement)?;
    let number = word.parse::<u32>().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("expected a number from {min} to {max}; keepalived ignores the line"))
}

/// The first argument.
pub(super) fn first(statement: &Statement) -> Result<&str, Wrong> {
    statement.argument(1).ok_or_else(|| "a value is missing; keepalived ignores the line".to_owned())
}

/// The first argument as seconds with up to six decimals.
pub(super) fn timer(statement: &Statement, may_be_zero: bool) -> Result<Duration, Wrong> {
    let word = first(statement)?;
    let time = seconds(word).filter(|time| may_be_zero || !time.is_zero());
    time.ok_or_else(|| {
        "expected a number of seconds; keepalived does not use the value as written".to_owned()
    })
}

/// The largest timer of keepalived: TIMER_MAX is ULONG_MAX in microseconds; more than a year is a mistake in any case.
const SECONDS_MAX: u64 = 366 * 86_400;

fn seconds(word: &str) -> Option<Duration> {
    let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 6 {
        return None;
    }
    let seconds = whole.parse::<u64>().ok().filter(|seconds| *seconds <= SECONDS_MAX)?;
    let microseconds = format!("{part:0<6}").parse().ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(microseconds))
}

/// The first argument as a flag; without one it is set.
pub(super) fn flag(statement: &Statement) -> Result<bool, Wrong> {
    match statement.argument(1) {
        None | Some("on" | "true" | "yes") => Ok(true),
        Some("off" | "false" | "no") => Ok(false),
        Some(_) => Err("expected on, off, true, false, yes or no".to_owned()),
    }
}

/// An address and a port from two words; no port is 0.
pub(super) fn place(address: Option<&str>, port: Option<&str>) -> Result<(IpAddr, u16), Wrong> {
    let Some(word) = address else { return Err("an address is missing".to_owned()) };
    let wrong = || "keepalived accepts only numeric addresses and ports, and skips the block".to_owned();
    let address = parsed(word).ok_or_else(wrong)?;
    let port = port.map_or(Some(0), parsed).ok_or_else(wrong)?;
    Ok((address, port))
}

/// A word as a value of this type.
pub(super) fn parsed<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

/// A mask; a number is an address, too: 24 is 0.0.0.24 (inet_aton(3)).
pub(super) fn mask(word: &str) -> Option<Ipv4Addr> {
    parsed(word).or_else(|| parsed::<u32>(word).map(Ipv4Addr::from))
}

/// A command, and the user and group behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) command: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    /// Words that keepalived ignores.
    pub(super) rest: Vec<String>,
}

/// The first argument is the command with its arguments, the second the user, the third the group.
pub(super) fn script(statement: &Statement) -> Result<Script, Wrong> {
    let mut words = statement.command().into_iter();
    let command = command_words(&words.next().unwrap_or_default());
    if command.first().is_none_or(String::is_empty) {
        return Err("a command is missing".to_owned());
    }
    Ok(Script { command, user: words.next(), group: words.next(), rest: words.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_seconds_with_up_to_six_decimals() {
        let cases =
            [("0.2", Some(200_000)), ("3", Some(3_000_000)), ("1.000001", Some(1_000_001)), ("0", Some(0))];
        for (word, expected) in cases {
            assert_eq!(seconds(word), expected.map(Duration::from_micros), "{word}");
        }
        for word in
            ["3s", "", ".", "1.", ".5", "1.0000001", "-1", "+1", "99999999999999999999", "99999999999"]
        {
            assert_eq!(seconds(word), None, "{word}");
        }
    }

    #[test]
    fn a_number_as_a_mask_is_an_address() {
        assert_eq!(mask("24"), Some(Ipv4Addr::new(0, 0, 0, 24)));
        assert_eq!(mask("255.255.255.0"), Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(mask("/24"), None);
    }
}
