//! `lvs-tund connections`: lists the connection table, all of it or a part.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::remote::{ControlArguments, ServiceWord};
use super::{Failure, Format, Pages};
use crate::control::model::{Connection, EntryKind, ServiceRef};
use crate::packet::Protocol;

#[derive(Debug, clap::Args)]
pub(super) struct ConnectionsArguments {
    /// Only connections of this virtual service: its name, or PROTOCOL:VIP:PORT
    #[arg(long, value_name = "SERVICE")]
    virtual_service: Option<ServiceWord>,
    /// Only connections on this real server: its name or RIP
    #[arg(long, value_name = "SERVER")]
    real_server: Option<String>,
    /// Only connections of this client, or of all clients with this prefix
    #[arg(long, value_name = "ADDRESS|PREFIX")]
    client: Option<String>,
    /// Format of the output; JSON is one object per line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &ConnectionsArguments) -> Result<(), Failure> {
    let client = arguments.control.client()?;
    let service = match &arguments.virtual_service {
        None => None,
        Some(ServiceWord(ServiceRef::Name(name))) => Some(name.clone()),
        Some(ServiceWord(asked @ ServiceRef::Matcher(matcher))) => {
            let services = client.virtual_services()?.virtual_services;
            let found = services.into_iter().find(|service| service.matchers.contains(matcher));
            let missing = || {
                Failure::Refused(format!("there is no virtual service {asked}; `lvs-tund status` lists them"))
            };
            Some(found.ok_or_else(missing)?.keys.name)
        }
    };
    let filters = [
        ("virtual_service", service.as_ref()),
        ("real_server", arguments.real_server.as_ref()),
        ("client", arguments.client.as_ref()),
    ];
    let filters = filters.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value?))));
    let query = filters.collect::<Vec<_>>().join("&");
    let mut pages = Pages::default();
    if arguments.format == Format::Text {
        _ = pages.push(&heading());
    }
    client.connections(&query, |connection| {
        pages.push(&match arguments.format {
            Format::Text => row(&connection),
            Format::Json => format!("{}\n", json!(connection)),
        })
    })?;
    pages.end()
}

fn columns(words: [&str; 6]) -> String {
    let [protocol, client, vip, state, expires, server] = words;
    format!("{protocol:<5} {client:<21} {vip:<21} {state:<11} {expires:>9}  {server}\n")
}

fn heading() -> String {
    columns(["", "client", "vip", "state", "expires", "virtual service, real server"])
}

fn row(connection: &Connection) -> String {
    let place = |address: IpAddr, port: u16| SocketAddr::from((address, port)).to_string();
    let (client, state) = match connection.kind {
        EntryKind::Connection => {
            (place(connection.client, connection.client_port), connection.state.as_str())
        }
        // A template has no port of its own and may cover many clients.
        EntryKind::Template => (connection.client.to_string(), "persistent"),
    };
    let vip = place(connection.vip, connection.vip_port);
    let expires = humantime::format_duration(Duration::from_secs(connection.expires_in)).to_string();
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "(removed)".to_owned());
    let server = format!("{}, {}", name(&connection.virtual_service), name(&connection.real_server));
    columns([Protocol::from(connection.protocol).name(), &client, &vip, state, &expires, &server])
}

/// RFC 3986 §2.1: percent-encodes every byte except unreserved characters.
fn encoded(word: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    word.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_special_characters_stays_inside_its_filter() {
        assert_eq!(encoded("web"), "web");
        assert_eq!(encoded("a b&client=1/é"), "a%20b%26client%3D1%2F%C3%A9");
    }
}
