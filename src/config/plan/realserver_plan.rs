//! `realserver.toml` → [`RealserverPlan`].

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::key::{self, no_other_place};
use super::super::keys::realserver::{PREFIX_LENGTH_MIN, Prefix, REALSERVER_KEYS};
use super::super::kinds::{Address, Word, escaped};
use super::super::toml::{Block, TomlValue};
use super::super::{ConfigError, Source};
use super::{METRICS_REALSERVER, MssSetting, RealserverPlan, ServiceDefaults, first, unless_wrong};
use crate::realserver::guard::GuardConfig;

/// Reads a real server's configuration. `vips` and `directors` (from the command line) are added to the
/// file's; `is_insecure` allows a prefix of any length.
///
/// # Errors
/// The first error, with its line.
pub fn realserver(
    source: &Source,
    vips: &[String],
    directors: &[String],
    is_insecure: bool,
) -> Result<RealserverPlan, ConfigError> {
    first(check_realserver(source, vips, directors, is_insecure))
}

/// As [`realserver()`], but finds every error.
///
/// # Errors
/// All errors: one for each key that is wrong, and those between keys if no single key is wrong.
pub fn check_realserver(
    source: &Source,
    vips: &[String],
    directors: &[String],
    is_insecure: bool,
) -> Result<RealserverPlan, Vec<ConfigError>> {
    let block = Block::parse(source).map_err(|error| vec![error])?;
    let mut plan = blank();
    let defaults = ServiceDefaults::default();
    let mut errors = key::read(REALSERVER_KEYS, &[], no_other_place, &mut plan, &defaults, &block);
    let guard = &mut plan.guard;
    let command_line = Source { name: "command line", text: "" };
    let given = |outcome: Result<(), String>| outcome.err().map(|message| command_line.error_whole(message));
    errors.extend(given(add("--vip", &Address, vips, &mut guard.vips)));
    if !is_insecure && errors.is_empty() {
        errors.extend(check_prefixes(&block, &guard.directors).err());
    }
    let before = guard.directors.len();
    errors.extend(given(add("--director", &Prefix, directors, &mut guard.directors)));
    for (prefix, word) in guard.directors[before..].iter().zip(directors) {
        errors.extend(given(check_prefix("--director", prefix, word, is_insecure)));
    }
    if errors.is_empty() {
        errors.extend(check(guard).err().map(|message| source.error_whole(message)));
    }
    unless_wrong(plan, errors)
}

/// The keys of a real server's file.
pub fn realserver_keys() -> Vec<&'static str> {
    key::names(REALSERVER_KEYS)
}

/// A plan before any key is read; the rows set every field.
fn blank() -> RealserverPlan {
    let guard =
        GuardConfig { vips: Vec::new(), directors: Vec::new(), rips: Vec::new(), services: Vec::new() };
    RealserverPlan {
        tun: String::new(),
        metrics: METRICS_REALSERVER,
        control: None,
        control_group: None,
        http_names: Vec::new(),
        mss: MssSetting::Auto,
        guard,
    }
}

/// Adds the values of the command line that are not in the file.
fn add<W: Word>(key: &str, of: &W, words: &[String], known: &mut Vec<W::Value>) -> Result<(), String> {
    let mut added: Vec<W::Value> = Vec::new();
    for word in words {
        let value = of.parse(key, word)?;
        if added.contains(&value) {
            return Err(format!("{key}: {} is listed twice; remove one", of.shown(word)));
        }
        added.push(value);
    }
    added.retain(|value| !known.contains(value));
    known.extend(added);
    Ok(())
}

fn check_prefixes(block: &Block, prefixes: &[IpNet]) -> Result<(), ConfigError> {
    let Some(value) = block.get("directors") else { return Ok(()) };
    let check = |(item, prefix): (&TomlValue, &IpNet)| {
        let checked = check_prefix("directors", prefix, block.text(item)?, false);
        checked.map_err(|message| block.error(item.span(), message))
    };
    block.list(value)?.iter().zip(prefixes).try_for_each(check)
}

/// Rejects a prefix that is too short.
fn check_prefix(key: &str, prefix: &IpNet, word: &str, is_insecure: bool) -> Result<(), String> {
    if is_insecure || prefix.prefix_len() >= PREFIX_LENGTH_MIN {
        return Ok(());
    }
    Err(format!(
        "{key} = {}: lets anyone inject packets (CVE-2020-10136); list the directors, or add --insecure if the network \
         is trusted",
        escaped(word)
    ))
}

/// Checks that involve several keys.
fn check(guard: &GuardConfig) -> Result<(), String> {
    let GuardConfig { vips, directors, rips, services: _ } = guard;
    if vips.is_empty() {
        let message =
            "no VIP given; a real server serves only the VIPs listed: vips = [\"172.25.3.100\"] or --vip";
        return Err(message.to_owned());
    }
    if directors.is_empty() {
        let message = "no director given; only directors may send encapsulated packets and there is no \
                       default: directors = [\"172.25.3.1\"] or --director";
        return Err(message.to_owned());
    }
    let twice =
        |address: &IpAddr, other| format!("{address} is given as a VIP and as a {other}; it can only be one");
    if let Some(vip) = vips.iter().find(|vip| directors.iter().any(|d| d.addr() == **vip)) {
        return Err(twice(vip, "director"));
    }
    match rips.iter().find(|rip| vips.contains(rip)) {
        Some(rip) => Err(twice(rip, "RIP")),
        None => Ok(()),
    }
}
