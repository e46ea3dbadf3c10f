//! What was written: the keys of `director.toml` and `realserver.toml`, as text with positions.
//!
//! Only the shape is checked here; values are words until [`super::plan`] reads them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::suggest::nearest;
use super::{ConfigError, Source, clipped};

/// `director.toml`. `config/director.toml` explains every key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorFile {
    pub interface: Option<Spanned<String>>,
    pub tun: Option<Spanned<String>>,
    pub queues: Option<Spanned<i64>>,
    pub metrics: Option<Spanned<String>>,
    pub control: Option<Spanned<String>>,
    pub control_group: Option<Spanned<String>>,
    pub api: Option<Spanned<String>>,
    pub capture: Option<Spanned<String>>,
    pub announce: Option<Spanned<String>>,
    pub outer_source: Option<Spanned<String>>,
    pub outer_ttl: Option<Spanned<toml::Value>>,
    pub ignore_df: Option<bool>,
    pub decrement_ttl: Option<bool>,
    pub connections_max: Option<Spanned<i64>>,
    pub connections_per_client_max: Option<Spanned<i64>>,
    pub new_connections_per_second_max: Option<Spanned<i64>>,
    pub hash_key: Option<Spanned<String>>,
    pub unknown_tcp: Option<Spanned<String>>,
    pub on_removed: Option<Spanned<String>>,
    pub no_service: Option<Spanned<String>>,
    pub timeouts: Option<TimeoutsFile>,
    #[serde(default, rename = "virtual_service")]
    pub virtual_services: Vec<Spanned<VirtualServiceFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceFile {
    pub name: Option<Spanned<String>>,
    pub protocol: Option<Spanned<String>>,
    pub vip: Option<Spanned<String>>,
    pub port: Option<Spanned<toml::Value>>,
    #[serde(default, rename = "match")]
    pub matchers: Vec<Spanned<String>>,
    pub scheduler: Option<Spanned<String>>,
    #[serde(default)]
    pub scheduler_flags: Vec<Spanned<String>>,
    pub mh_table_size: Option<Spanned<i64>>,
    pub persistence: Option<Spanned<PersistenceFile>>,
    pub one_packet: Option<Spanned<bool>>,
    pub unknown_tcp: Option<Spanned<String>>,
    pub on_removed: Option<Spanned<String>>,
    pub timeouts: Option<TimeoutsFile>,
    #[serde(default, rename = "real_server")]
    pub real_servers: Vec<Spanned<RealServerFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealServerFile {
    pub name: Option<Spanned<String>>,
    pub rip: Spanned<String>,
    pub weight: Option<Spanned<i64>>,
    pub upper_threshold: Option<Spanned<i64>>,
    pub lower_threshold: Option<Spanned<i64>>,
    pub path_mtu: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsFile {
    pub tcp: Option<Spanned<String>>,
    pub tcp_fin: Option<Spanned<String>>,
    pub udp: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistenceFile {
    pub timeout: Option<Spanned<String>>,
    pub prefix: Option<Spanned<i64>>,
    pub expire_quiesced: Option<bool>,
}

/// `realserver.toml`. `config/realserver.toml` explains every key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealserverFile {
    #[serde(default)]
    pub vips: Vec<Spanned<String>>,
    #[serde(default)]
    pub directors: Vec<Spanned<String>>,
    #[serde(default)]
    pub rips: Vec<Spanned<String>>,
    #[serde(default)]
    pub services: Vec<Spanned<String>>,
    pub mss: Option<Spanned<toml::Value>>,
    pub tun: Option<Spanned<String>>,
    pub metrics: Option<Spanned<String>>,
}

/// Reads the shape of a file.
///
/// # Errors
/// Whatever TOML or the keys' types object to; for an unknown key, with the nearest known one.
pub fn parse<T: DeserializeOwned>(source: &Source) -> Result<T, ConfigError> {
    if let Some(position) = source.text.find('\0') {
        return Err(
            source.error(position..position + 1, "contains a NUL byte; a configuration file is plain text")
        );
    }
    toml::from_str(source.text).map_err(|error| match error.span() {
        Some(span) => {
            let line = line_at(source.text, span.start);
            let quoted = if line.is_empty() { String::new() } else { format!("`{}`: ", clipped(line)) };
            source.error(span, format!("{quoted}{}", explain(error.message(), line)))
        }
        None => source.error_whole(explain(error.message(), "")),
    })
}

/// The line that contains the byte at `position`, without blanks around it.
fn line_at(text: &str, position: usize) -> &str {
    let before = text.get(..position).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next().unwrap_or("").trim()
}

/// An example value for each required key.
const EXAMPLES: &[(&str, &str)] =
    &[("protocol", "\"tcp\""), ("vip", "\"172.25.3.100\""), ("port", "80"), ("rip", "\"172.25.3.2\"")];

/// Translates a message of serde or toml about `line` into a sentence for the operator.
fn explain(message: &str, line: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return match nearest(key, known.iter().copied()) {
            Some(word) => format!("unknown key `{key}`; did you mean `{word}`?"),
            None => format!("unknown key `{}`; known here: {}", clipped(key), known.join(", ")),
        };
    }
    if message.starts_with("missing field") {
        let key = quoted.next().unwrap_or_default();
        let example = EXAMPLES.iter().find(|(required, _)| *required == key);
        let example = example.map(|(_, value)| format!("; add it, such as {key} = {value}"));
        return format!("the key `{key}` is missing{}", example.unwrap_or_default());
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|m| m.rsplit_once(", expected "))
    {
        return expectation(found, expected);
    }
    let plain = match message
        .lines()
        .next()
        .and_then(|first| first.split(", expected ").next())
        .unwrap_or_default()
    {
        "duplicate key" => "this key exists already; keep one of the two",
        "invalid basic string" => "the closing quote is missing, or a \\ does not begin an escape",
        "unclosed array" => "the list's closing ] is missing",
        "unclosed array table" | "unclosed table" => "the header's closing bracket is missing",
        "key with no value" => "a key needs a value, such as key = 1 or key = \"word\"",
        _ if line.ends_with('=') => "the value is missing",
        "string values must be quoted" | "invalid float" | "invalid integer" | "invalid date" => {
            "a value is a number, true, false, a list in [ ], or text in quotes"
        }
        _ => return message.lines().collect::<Vec<_>>().join(", "),
    };
    plain.to_owned()
}

/// What type a key's value should have, and what it has.
fn expectation(found: &str, expected: &str) -> String {
    let found = match found.split_once(' ') {
        Some(("string", text)) => format!("the text {}", clipped(text)),
        Some(("integer", number)) if number.ends_with("i128") => return "the number is too large".to_owned(),
        Some((_, _)) => found.split('`').nth(1).unwrap_or(found).to_owned(),
        None if found == "sequence" => "a list".to_owned(),
        None if found == "map" => "a table".to_owned(),
        None => found.to_owned(),
    };
    let expected = match expected {
        "i64" => "a whole number",
        "a string" => "text in quotes",
        "a sequence" if found == "a table" => "a header in double brackets, [[ ]], for each item",
        "a sequence" => "a list in [ ]",
        "struct TimeoutsFile" => "a key below it, such as timeouts.tcp = \"15m\"",
        "struct RealServerFile" => "blocks that begin with [[virtual_service.real_server]]",
        "struct VirtualServiceFile" => "blocks that begin with [[virtual_service]]",
        other => other,
    };
    format!("expected {expected}, not {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse::<DirectorFile>(&Source { name: "director.toml", text }).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
        let text = "interface = \"eth0\"\n\n[[virtual_service]]\nprotokol = \"tcp\"\n";
        let message = refused(text);
        assert!(message.starts_with("director.toml:4: "), "{message}");
        assert!(message.ends_with("did you mean `protocol`?"), "{message}");
    }

    #[test]
    fn a_missing_key_and_a_wrong_type_are_said_plainly() {
        let message = refused("[[virtual_service]]\n[[virtual_service.real_server]]\nname = \"a\"\n");
        assert!(message.contains("the key `rip` is missing"), "{message}");
        let message = refused("queues = \"two\"\n");
        assert!(
            message.contains("director.toml:1: ") && message.contains("expected a whole number"),
            "{message}"
        );
        assert!(refused("interface = \"eth0\n").starts_with("director.toml:1: "));
        assert!(refused("a\0b").contains("NUL"));
    }
}
