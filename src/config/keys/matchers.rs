//! The packets that a virtual service matches: `protocol`, `vip` and `port`, or the list `match`.

use crate::config::ConfigError;
use crate::config::json::Matcher as JsonMatcher;
use crate::config::key::{Bounds, JsonKind, SimpleJsonKind, ValueKind};
use crate::config::kinds::{self, Address, PROTOCOLS, Word, escaped, missing};
use crate::config::toml::{Block, Lines, TomlValue, integer, quoted};
use crate::director::cluster::{Matcher, Ports, VirtualServiceConfig as Config};

/// The three single keys, or the list.
pub struct Matchers;

impl ValueKind<Config> for Matchers {
    type Value = Vec<Matcher>;

    fn read(&self, key: &str, _: &Config, block: &Block) -> Result<Option<Vec<Matcher>>, ConfigError> {
        let listed = block.get(key).map(|value| block.list(value)).transpose()?.unwrap_or_default();
        if !listed.is_empty() {
            let single = ["protocol", "vip", "port"].into_iter().find_map(|key| block.get(key));
            if let Some(value) = single {
                let message = "`match` replaces protocol, vip and port; remove these keys";
                return Err(block.error(value.span(), message));
            }
            let read = |item: &TomlValue| {
                let word = block.text(item)?;
                parse_matcher(word).map_err(|message| block.error(item.span(), message))
            };
            return listed.iter().map(read).collect::<Result<_, _>>().map(Some);
        }
        let part = |key: &str, example| block.get(key).ok_or_else(|| missing(block, key, example));
        let (protocol, vip, port) =
            (part("protocol", "\"tcp\"")?, part("vip", "\"172.25.3.100\"")?, part("port", "80")?);
        let word =
            |key: &'static str, value: &TomlValue| block.text(value).map(|word| (key, word.to_owned()));
        let (key, name) = word("protocol", protocol)?;
        let protocol_of = kinds::choice(key, &name, PROTOCOLS);
        let protocol = protocol_of.map_err(|message| block.error(protocol.span(), message))?;
        let (key, address) = word("vip", vip)?;
        let address = Address.parse(key, &address).map_err(|message| block.error(vip.span(), message))?;
        Ok(Some(vec![Matcher { protocol, vip: address, ports: ports(block, port)? }]))
    }

    fn text(&self, value: &Vec<Matcher>) -> Option<String> {
        Some(list(value.iter().map(|matcher| quoted(&matcher_text(matcher)))))
    }

    fn bounds(&self) -> Bounds {
        Bounds { items_min: Some(1), ..Bounds::default() }
    }

    fn names(&self, name: &'static str, found: &mut Vec<&'static str>) {
        found.extend(["protocol", "vip", "port", name]);
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(["protocol", "vip", "port", name].map(str::to_owned));
    }

    fn write(&self, key: &str, value: &Vec<Matcher>, _: Option<&Vec<Matcher>>, lines: &mut Lines) {
        let mut line = |key: &str, text: String| lines.push((key.to_owned(), text));
        if let [Matcher { protocol, vip, ports }] = value[..] {
            let port = if ports.is_one() { ports.to_string() } else { quoted(&ports.to_string()) };
            line("protocol", quoted(protocol.name()));
            line("vip", quoted(&vip.to_string()));
            line("port", port);
        } else {
            line(key, self.text(value).unwrap_or_default());
        }
    }
}

impl JsonKind<Config> for Matchers {
    type Input = Vec<JsonMatcher>;
    type Output = Vec<JsonMatcher>;

    fn accept(&self, _: &str, _: &Config, input: Vec<JsonMatcher>) -> Result<Vec<Matcher>, String> {
        if input.is_empty() {
            return Err(NO_MATCHER.to_owned());
        }
        let accept = |matcher: JsonMatcher| {
            let matcher: Matcher = matcher.into();
            SimpleJsonKind::accept(&Address, "vip", matcher.vip).map(|vip| Matcher { vip, ..matcher })
        };
        input.into_iter().map(accept).collect()
    }

    fn show(&self, _: &Config, value: Vec<Matcher>) -> Vec<JsonMatcher> {
        value.into_iter().map(Into::into).collect()
    }
}

/// The message for a virtual service that matches nothing.
pub const NO_MATCHER: &str = "match: a virtual service needs at least one protocol, VIP and port";

/// A matcher as text: "tcp 172.25.3.100:80".
pub fn matcher_text(matcher: &Matcher) -> String {
    format!("{} {}:{}", matcher.protocol.name(), matcher.vip, matcher.ports)
}

/// Parses "tcp 172.25.3.100:80"; a range or "all" may follow the colon.
fn parse_matcher(word: &str) -> Result<Matcher, String> {
    let unclear = || {
        format!(
            "match: {}: expected PROTOCOL VIP:PORTS, such as \"tcp 172.25.3.100:80\" or \"udp 172.25.3.100:all\"",
            escaped(word)
        )
    };
    let (name, rest) = word.split_once(' ').ok_or_else(unclear)?;
    let (vip, ports) = rest.rsplit_once(':').ok_or_else(unclear)?;
    let (_, protocol) = PROTOCOLS.iter().find(|(known, _)| *known == name).ok_or_else(unclear)?;
    let vip = Address.parse("match", vip)?;
    Ok(Matcher { protocol: *protocol, vip, ports: ports.parse().map_err(|_| unclear())? })
}

/// A port, a range "8000-8099", or "all".
fn ports(block: &Block, value: &TomlValue) -> Result<Ports, ConfigError> {
    if let Some(Some(number)) = integer(value) {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        let outside = || {
            let hint = if number == 0 { "; did you mean \"all\"?" } else { "" };
            block.error(value.span(), format!("port = {number}: expected 1 to 65535{hint}"))
        };
        return port.map(Ports::one).ok_or_else(outside);
    }
    // A single number in quotes is a mistake, not a range.
    let word = block.text(value).ok().filter(|word| word.parse::<i64>().is_err());
    word.and_then(|word| word.parse().ok()).ok_or_else(|| {
        let message = format!(
            "port = {}: expected a number from 1 to 65535, a range such as \"8000-8099\", or \"all\"",
            block.shown(value)
        );
        block.error(value.span(), message)
    })
}

/// A list as it appears in a file.
pub fn list(words: impl Iterator<Item = String>) -> String {
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}
