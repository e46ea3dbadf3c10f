//! The key `check`: at the top of the file, of a virtual service, and of a real server. The kinds of checks and their
//! options are the rows of [`CHECKS`]; the options that every check has are rows here.

mod option;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::matchers::list;
use crate::config::key::{JsonKind, ValueKind, keys, names, no_other_place};
use crate::config::kinds::{Address, Number, Optional, Span, Words, choice_with};
use crate::config::toml::{Block, Lines, TomlValue, quoted};
use crate::config::{ConfigError, Source};
use crate::health::{CHECKS, CheckConfig, Options, Row, Start, Transport, Via};

/// More than anyone needs for one real server.
const CHECKS_MAX: usize = 16;
/// A real server that has to fail or to succeed more often never changes its state.
const IN_A_ROW_MAX: i64 = 1000;
/// What other programs call a kind.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("ping", "icmp"),
    ("connect", "tcp"),
    ("ssl", "tls"),
    ("script", "exec"),
    ("misc", "exec"),
    ("external", "exec"),
    ("command", "exec"),
    ("pgsql", "postgres"),
    ("postgresql", "postgres"),
    ("mariadb", "mysql"),
    ("tcp_check", "tcp"),
    ("http_get", "http"),
    ("ssl_get", "https"),
    ("dns_check", "dns"),
    ("udp_check", "udp"),
    ("ping_check", "icmp"),
    ("smtp_check", "smtp"),
    ("misc_check", "exec"),
];

/// The key that names the kind.
const TYPE: &str = "type";

const VIA: Words<Via> = Words::new(&[("tunnel", Via::Tunnel), ("direct", Via::Direct)]);
const START: Words<Start> = Words::new(&[("up", Start::Up), ("down", Start::Down)]);
/// More often than this, probes are load.
const INTERVAL: Span = Span::new(10, 86_400_000);
const TIMEOUT: Span = Span::new(1, 3_600_000);
const GRACE: Span = Span::new(0, 86_400_000);
const PORT: Number<u16> = Number::new(1..=65_535);
const IN_A_ROW: Number<u32> = Number::new(1..=IN_A_ROW_MAX);

keys! {
    CHECK_KEYS of CheckConfig {
        via, address, port, interval, fast_interval, down_interval, timeout, rise, fall, start, grace
    } aside { row, options };

    /// Which way the probes take to the real server.
    file via "via" [] in via [], Optional(VIA), |_, _| None, Live;
    /// Where the probes are sent instead of the VIP or the RIP.
    file address "address" [] in address [], Optional(Address), |_, _| None, Live;
    /// The port that the probes are sent to.
    file port "port" [] in port [], Optional(PORT), |_, _| None, Live;
    /// From the beginning of one probe to that of the next.
    file interval "interval" [] in interval [], INTERVAL, |_, _| CheckConfig::INTERVAL, Live;
    /// As `interval`, while a failure or a success is not yet confirmed.
    file fast_interval "fast_interval" [] in fast_interval [], Optional(INTERVAL), |_, _| None, Live;
    /// As `interval`, while down.
    file down_interval "down_interval" [] in down_interval [], Optional(INTERVAL), |_, _| None, Live;
    /// For the whole probe.
    file timeout "timeout" [] in timeout [], TIMEOUT, |_, _| CheckConfig::TIMEOUT, Live;
    /// Successes in a row after which it is up.
    file rise "rise" [] in rise [], IN_A_ROW, |_, _| CheckConfig::RISE, Live;
    /// Failures in a row after which it is down.
    file fall "fall" [] in fall [], IN_A_ROW, |_, _| CheckConfig::FALL, Live;
    /// The state before the first probe has ended.
    file start "start" [] in start [], START, |_, _| Start::Up, Live;
    /// After the start or the addition of the real server, failures do not count for this long.
    file grace "grace" [] in grace [], GRACE, |_, _| std::time::Duration::ZERO, Live;
}

/// One check, a list of them, or "none".
pub struct Checks;

/// As [`Checks`], or absent.
pub struct OwnChecks;

type Checked = Arc<[CheckConfig]>;

fn is_none(value: &TomlValue) -> bool {
    value.get_ref().as_str() == Some("none")
}

fn read_all(
    rows: &'static [&'static Row],
    key: &str,
    block: &Block,
    value: &TomlValue,
) -> Result<Checked, ConfigError> {
    if is_none(value) {
        return Ok(Checked::default());
    }
    let Ok(items) = block.list(value) else {
        return read_one(rows, key, block, value).map(|one| [one].into());
    };
    if items.len() > CHECKS_MAX {
        return Err(block.error(value.span(), format!("{key}: expected at most {CHECKS_MAX} checks")));
    }
    let mut checks: Vec<CheckConfig> = Vec::new();
    for item in items {
        let check = read_one(rows, key, block, item)?;
        if checks.contains(&check) {
            let message = format!("{key}: the same check is listed twice; remove one");
            return Err(block.error(item.span(), message));
        }
        checks.push(check);
    }
    Ok(checks.into())
}

fn read_one(
    rows: &'static [&'static Row],
    key: &str,
    block: &Block,
    value: &TomlValue,
) -> Result<CheckConfig, ConfigError> {
    let what = "a check: \"tcp\", a table such as { type = \"tcp\", interval = \"2s\" }, a list of them, or \"none\"";
    if block.text(value).is_ok() {
        let row = row_of(rows, key, block, value)?;
        let check = CheckConfig::new(row);
        return built(check).map_err(|(option, message)| {
            block.error(value.span(), format!("{key} = \"{}\": {option}: {message}", row.name))
        });
    }
    let Some(table) = block.table(value, key) else {
        let message = format!("{key} = {}: expected {what}", block.shown(value));
        return Err(block.error(value.span(), message));
    };
    read_table(rows, &table)
}

fn row_of(
    rows: &'static [&'static Row],
    key: &str,
    block: &Block,
    value: &TomlValue,
) -> Result<&'static Row, ConfigError> {
    let words: Vec<(&str, &'static Row)> = rows.iter().map(|row| (row.name, *row)).collect();
    choice_with(key, block.text(value)?, &words, OTHER_WORDS)
        .map_err(|message| block.error(value.span(), message))
}

/// The names of the keys of a check.
fn common() -> Vec<&'static str> {
    [vec![TYPE], names(CHECK_KEYS)].concat()
}

fn read_table(rows: &'static [&'static Row], table: &Block) -> Result<CheckConfig, ConfigError> {
    let full = table.key(TYPE);
    let Some(kind) = table.get(&full) else {
        let message = format!("the key `{full}` is missing; add it, such as type = \"tcp\"");
        return Err(table.shape(table.span(), &message));
    };
    let row = row_of(rows, &full, table, kind)?;
    let options: Vec<&'static str> = row.options.iter().map(|option| option.name).collect();
    let known = [common(), options].concat();
    if let Some(error) = table.unknown_keys(&known, no_other_place).into_iter().next() {
        return Err(error);
    }
    let mut check = CheckConfig::new(row);
    for key in CHECK_KEYS {
        key.read(&mut check, table)?;
    }
    check.options = option::read(row, table)?;
    let at = |name: &str, message: &str| {
        let full = table.key(name);
        let span = table.get(&full).map_or_else(|| table.span(), TomlValue::span);
        table.error(span, format!("{full}: {message}"))
    };
    let check = built(check).map_err(|(name, message)| at(name, &message))?;
    mismatch(&check).map_or(Ok(check), |(name, message)| Err(at(name, message)))
}

/// The check, if its kind accepts its options.
fn built(check: CheckConfig) -> Result<CheckConfig, crate::health::spec::BadOption> {
    (check.row.build)(&check.options).map(|_| check)
}

/// Options that are valid on their own and do not fit together.
fn mismatch(check: &CheckConfig) -> Option<(&'static str, &'static str)> {
    let is_command = (check.row.transport)(&check.options) == Transport::Command;
    match check.via {
        Some(Via::Tunnel) if is_command => {
            Some(("via", "a command is run on this host; remove `via`, and let the command choose the way"))
        }
        Some(Via::Tunnel) if check.address.is_some() => Some((
            "via",
            "only packets for the VIP take the tunnel; remove `address`, or use via = \"direct\"",
        )),
        _ => None,
    }
}

/// The port that the probes of a check are sent to, if the virtual service's first port is `first`; `None` if the check
/// has none where it needs one. `first` is `None` for a service on all ports.
pub fn has_port(check: &CheckConfig, first: Option<u16>) -> bool {
    let transport = (check.row.transport)(&check.options);
    let needs_port = matches!(transport, Transport::Tcp | Transport::Tls | Transport::Udp);
    !needs_port || check.port.or(first).or(check.row.port).is_some()
}

/// A check as a file has it, and as messages show it.
pub fn text_of(check: &CheckConfig) -> String {
    let default = CheckConfig::new(check.row);
    let mut lines: Lines = vec![(TYPE.to_owned(), quoted(check.row.name))];
    lines.extend(option::write(check.row, &check.options));
    CHECK_KEYS.iter().for_each(|key| key.write_below("", check, Some(&default), &mut lines));
    match lines.len() {
        1 => quoted(check.row.name),
        _ => {
            let keys: Vec<String> = lines.into_iter().map(|(key, text)| format!("{key} = {text}")).collect();
            format!("{{ {} }}", keys.join(", "))
        }
    }
}

fn text_of_all(checks: &[CheckConfig]) -> String {
    match checks {
        [] => quoted("none"),
        [one] => text_of(one),
        several => list(several.iter().map(text_of)),
    }
}

impl<C> ValueKind<C> for Checks {
    type Value = Checked;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<Checked>, ConfigError> {
        block.get(key).map(|value| read_all(CHECKS, key, block, value)).transpose()
    }

    fn text(&self, value: &Checked) -> Option<String> {
        Some(text_of_all(value))
    }
}

impl<C> ValueKind<C> for OwnChecks {
    type Value = Option<Checked>;

    fn read(&self, key: &str, config: &C, block: &Block) -> Result<Option<Option<Checked>>, ConfigError> {
        Ok(Checks.read(key, config, block)?.map(Some))
    }

    fn text(&self, value: &Option<Checked>) -> Option<String> {
        value.as_ref().map(|checks| text_of_all(checks))
    }
}

/// Checks in JSON: what a file has, with JSON's brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Written(serde_json::Value);

impl Written {
    fn of(checks: &[CheckConfig]) -> Written {
        let text = format!("x = {}", text_of_all(checks));
        let value = text.parse::<toml::Table>().ok().and_then(|table| serde_json::to_value(table).ok());
        Written(
            value.and_then(|mut value| value.get_mut("x").map(serde_json::Value::take)).unwrap_or_default(),
        )
    }

    fn read(&self, rows: &'static [&'static Row], key: &str) -> Result<Checked, String> {
        let value = toml::Value::deserialize(&self.0).map_err(|error| format!("{key}: {error}"))?;
        let text = format!("check = {value}");
        let source = Source { name: "", text: &text };
        let block = Block::parse(&source).map_err(|error| format!("{key}: {}", error.message))?;
        let value = block.get("check").ok_or_else(|| format!("{key}: expected a check"))?;
        read_all(rows, key, &block, value).map_err(|error| error.message)
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_string() || value.is_array() || value.is_object() {
            return Ok(Written(value));
        }
        Err(de::Error::custom("expected the name of a check, an object with its keys, or a list of them"))
    }
}

impl PartialSchema for Written {
    fn schema() -> RefOr<Schema> {
        let names = || CHECKS.iter().map(|row| row.name).chain(["none"]);
        let word = || ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names()));
        let kind = || {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(CHECKS.iter().map(|row| row.name)))
        };
        let table = || {
            ObjectBuilder::new()
                .schema_type(Type::Object)
                .property(TYPE, kind())
                .required(TYPE)
                .description(Some("The keys of a check, as in a file; durations are texts such as \"2s\""))
        };
        let one = || OneOfBuilder::new().item(word()).item(table());
        let all = ArrayBuilder::new().items(one()).max_items(Some(CHECKS_MAX));
        one().item(all).into()
    }
}

impl ToSchema for Written {
    fn name() -> Cow<'static, str> {
        "Checks".into()
    }
}

impl<C> JsonKind<C> for Checks {
    type Input = Written;
    type Output = Written;

    fn accept(&self, key: &str, _: &C, input: Written) -> Result<Checked, String> {
        input.read(CHECKS, key)
    }

    fn show(&self, _: &C, value: Checked) -> Written {
        Written::of(&value)
    }
}

impl<C> JsonKind<C> for OwnChecks {
    type Input = Option<Written>;
    type Output = Option<Written>;

    fn accept(&self, key: &str, _: &C, input: Option<Written>) -> Result<Option<Checked>, String> {
        input.map(|written| written.read(CHECKS, key)).transpose()
    }

    fn show(&self, _: &C, value: Option<Checked>) -> Option<Written> {
        value.map(|checks| Written::of(&checks))
    }
}

#[cfg(test)]
mod tests;
