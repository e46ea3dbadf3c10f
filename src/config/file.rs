//! What was written: the keys of `director.toml` and `realserver.toml`, as text with positions.
//!
//! Nothing is judged here but the shape; values are words until [`super::plan`] reads them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::suggest::nearest;
use super::{ConfigError, Source};

/// `director.toml`. `config/director.toml` explains every key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorFile {
    pub interface: Option<Spanned<String>>,
    pub tun: Option<Spanned<String>>,
    pub queues: Option<Spanned<i64>>,
    pub metrics: Option<Spanned<String>>,
    pub control: Option<Spanned<String>>,
    pub capture: Option<Spanned<String>>,
    pub announce: Option<Spanned<String>>,
    pub outer_source: Option<Spanned<String>>,
    pub outer_ttl: Option<Spanned<toml::Value>>,
    pub connections_max: Option<Spanned<i64>>,
    pub unknown_tcp: Option<Spanned<String>>,
    pub no_service: Option<Spanned<String>>,
    pub timeouts: Option<TimeoutsFile>,
    #[serde(default, rename = "virtual_service")]
    pub virtual_services: Vec<Spanned<VirtualServiceFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualServiceFile {
    pub name: Option<Spanned<String>>,
    pub protocol: Spanned<String>,
    pub vip: Spanned<String>,
    pub port: Spanned<i64>,
    pub scheduler: Option<Spanned<String>>,
    pub unknown_tcp: Option<Spanned<String>>,
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
    pub path_mtu: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsFile {
    pub tcp: Option<Spanned<String>>,
    pub tcp_fin: Option<Spanned<String>>,
    pub udp: Option<Spanned<String>>,
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
    pub tun: Option<Spanned<String>>,
    pub metrics: Option<Spanned<String>>,
}

/// Reads the shape of a file.
///
/// # Errors
/// What TOML or the keys' types object to; an unknown key comes with the nearest known one.
pub fn parse<T: DeserializeOwned>(source: &Source) -> Result<T, ConfigError> {
    if source.text.contains('\0') {
        return Err(source.error_whole("contains a NUL byte; a configuration is UTF-8 text"));
    }
    toml::from_str(source.text).map_err(|error| {
        let message = explain(error.message());
        match error.span() {
            Some(span) => {
                let line =
                    source.text[span.start.min(source.text.len())..].lines().next().unwrap_or("").trim();
                let shown: String = line.chars().take(80).collect();
                let quoted = if shown.is_empty() { String::new() } else { format!("`{shown}`: ") };
                source.error(span, format!("{quoted}{message}"))
            }
            None => source.error_whole(message),
        }
    })
}

/// Serde's words in ours.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return match nearest(key, known.iter().copied()) {
            Some(word) => format!("unknown key `{key}`; did you mean `{word}`?"),
            None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
        };
    }
    if message.starts_with("missing field") {
        return format!("the key `{}` is missing", quoted.next().unwrap_or_default());
    }
    let message = message.lines().collect::<Vec<_>>().join(", ");
    message
        .replace("expected i64", "expected a whole number")
        .replace("expected a sequence", "expected a list [...]")
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
        let message = refused("[[virtual_service]]\nprotocol = \"tcp\"\nvip = \"10.0.0.1\"\n");
        assert!(message.contains("the key `port` is missing"), "{message}");
        let message = refused("queues = \"two\"\n");
        assert!(
            message.contains("director.toml:1: ") && message.contains("expected a whole number"),
            "{message}"
        );
        assert!(refused("interface = \"eth0\n").starts_with("director.toml:1: "));
        assert!(refused("a\0b").contains("NUL"));
    }
}
