//! `director.toml` → [`DirectorPlan`].

use std::net::{IpAddr, Ipv4Addr};

use toml::Spanned;

use super::super::file::{self, DirectorFile};
use super::super::{ConfigError, Source, clipped};
use super::{
    Announce, CONNECTIONS_MAX_DEFAULT, Capture, DirectorPlan, METRICS_DIRECTOR, ServiceDefaults,
    TUN_DIRECTOR, services, words,
};
use crate::director::cluster::{ClusterConfig, NoService, VirtualServiceConfig};
use crate::encapsulation::Ttl;

const NO_SERVICE: &[(&str, NoService)] = &[("reject", NoService::Reject), ("drop", NoService::Drop)];
const CAPTURE: &[(&str, Capture)] =
    &[("auto", Capture::Auto), ("route", Capture::Route), ("rule", Capture::Rule)];
const ANNOUNCE: &[(&str, Announce)] =
    &[("always", Announce::Always), ("local", Announce::Local), ("never", Announce::Never)];

/// The word for this value.
pub fn word_of_capture(value: Capture) -> &'static str {
    services::word_of(CAPTURE, value)
}

/// The word for this value.
pub fn word_of_announce(value: Announce) -> &'static str {
    services::word_of(ANNOUNCE, value)
}

/// One thread each; a TUN device takes up to 256 (MAX_TAP_QUEUES of drivers/net/tun.c).
const QUEUES_MAX: i64 = 256;
/// Up to 7 GB of entries.
const CONNECTIONS_LIMIT: i64 = 100_000_000;

/// Reads a director's configuration. `interface` (from the command line) takes precedence over the file's.
///
/// # Errors
/// The first error, with its line.
pub fn director(source: &Source, interface: Option<&str>) -> Result<DirectorPlan, ConfigError> {
    let file: DirectorFile = file::parse(source)?;
    let defaults = services::defaults(source, &file)?;
    let cluster = cluster(source, &file, &defaults)?;
    let interface = match (interface, &file.interface) {
        (Some(given), _) => {
            let command_line = Source { name: "command line", text: "" };
            let given = Spanned::new(0..0, given.to_owned());
            let without_line = |error| ConfigError { line: None, ..error };
            words::interface(&command_line, "--interface", &given).map_err(without_line)?
        }
        (None, Some(written)) => words::interface(source, "interface", written)?,
        (None, None) => {
            let message = "the key `interface` is missing: the interface on which clients' packets for the \
                           VIPs arrive, such as interface = \"eth0\"";
            return Err(source.error_whole(message));
        }
    };
    let tun = file.tun.as_ref().map(|word| words::interface(source, "tun", word)).transpose()?;
    let tun = tun.unwrap_or_else(|| TUN_DIRECTOR.to_owned());
    if tun == interface {
        let message =
            format!("tun and interface are both \"{tun}\"; give tun a name that no other device has");
        let place = file.tun.as_ref().or(file.interface.as_ref());
        return Err(match place {
            Some(written) => source.error(written.span(), message),
            None => source.error_whole(message),
        });
    }
    let queues =
        file.queues.as_ref().map(|n| words::number(source, "queues", n, 1..=QUEUES_MAX)).transpose()?;
    let metrics = file.metrics.as_ref().map(|word| words::listen(source, "metrics", word)).transpose()?;
    let capture = file.capture.as_ref().map(|word| words::choice(source, "capture", word, CAPTURE));
    let announce = file.announce.as_ref().map(|word| words::choice(source, "announce", word, ANNOUNCE));
    let control =
        file.control.as_ref().map(|path| words::socket_path(source, "control", path)).transpose()?;
    let api = file.api.as_ref().map(|word| words::listen(source, "api", word)).transpose()?;
    let outer_source = match &file.outer_source {
        Some(word) if word.get_ref() != "auto" => {
            Some(outer_source(source, word, &cluster.virtual_services)?)
        }
        _ => None,
    };
    let (connections_max, connections_per_client_max) = connection_limits(source, &file)?;
    let hash_key =
        file.hash_key.as_ref().map(|word| words::hash_key(source, "hash_key", word)).transpose()?;
    Ok(DirectorPlan {
        interface,
        tun,
        queues: queues.map(|queues| queues as usize),
        metrics: metrics
            .unwrap_or_else(|| METRICS_DIRECTOR.parse().expect("because the constant is an address")),
        control,
        control_group: control_group(source, &file)?,
        api,
        capture: capture.transpose()?.unwrap_or(Capture::Auto),
        announce: announce.transpose()?.unwrap_or(Announce::Always),
        outer_source,
        connections_max,
        connections_per_client_max,
        hash_key,
        cluster,
        defaults,
    })
}

/// The maximum number of connections, in total and per client.
fn connection_limits(source: &Source, file: &DirectorFile) -> Result<(usize, u32), ConfigError> {
    let limit = |key, written: &Option<Spanned<i64>>| {
        let read = |n| words::number(source, key, n, 1..=CONNECTIONS_LIMIT);
        written.as_ref().map(read).transpose()
    };
    let max = limit("connections_max", &file.connections_max)?;
    let max = max.map_or(CONNECTIONS_MAX_DEFAULT, |max| max as usize);
    let per_client = limit("connections_per_client_max", &file.connections_per_client_max)?;
    Ok((max, per_client.map_or(max as u32, |max| max as u32)))
}

fn cluster(
    source: &Source,
    file: &DirectorFile,
    defaults: &ServiceDefaults,
) -> Result<ClusterConfig, ConfigError> {
    let no_service =
        file.no_service.as_ref().map(|word| words::choice(source, "no_service", word, NO_SERVICE));
    let ttl = file.outer_ttl.as_ref().map(|value| read_ttl(source, value)).transpose()?;
    let flood = file.new_connections_per_second_max.as_ref();
    let flood = flood
        .map(|n| words::number(source, "new_connections_per_second_max", n, 1..=i64::from(u32::MAX)))
        .transpose()?;
    Ok(ClusterConfig {
        no_service: no_service.transpose()?.unwrap_or(NoService::Reject),
        ttl: ttl.unwrap_or_default(),
        ignores_df: file.ignore_df.unwrap_or(false),
        decrements_ttl: file.decrement_ttl.unwrap_or(false),
        new_connections_per_second_max: flood.map(|max| max as u32),
        virtual_services: services::read(source, file, defaults)?,
    })
}

fn control_group(source: &Source, file: &DirectorFile) -> Result<Option<String>, ConfigError> {
    file.control_group.as_ref().map(|word| words::group(source, "control_group", word)).transpose()
}

fn outer_source(
    source: &Source,
    written: &Spanned<String>,
    services: &[VirtualServiceConfig],
) -> Result<Ipv4Addr, ConfigError> {
    let word = written.get_ref();
    let refuse =
        |what: &str| source.error(written.span(), format!("outer_source = {}: {what}", words::quoted(word)));
    if word.parse::<IpAddr>().is_err() {
        return Err(refuse("expected \"auto\" or an IPv4 address of this host"));
    }
    let address = words::address_v4(source, "outer_source", written)?;
    if services.iter().flat_map(VirtualServiceConfig::vips).any(|vip| vip == address) {
        return Err(refuse(
            "this is a VIP, which no real server accepts as a director; give the host's own address",
        ));
    }
    Ok(address)
}

fn read_ttl(source: &Source, written: &Spanned<toml::Value>) -> Result<Ttl, ConfigError> {
    match written.get_ref() {
        toml::Value::Integer(ttl @ 1..=255) => Ok(Ttl::Fixed(*ttl as u8)),
        toml::Value::String(word) if word == "inherit" => Ok(Ttl::Inherit),
        other => {
            let other = clipped(&other.to_string());
            let message = format!("outer_ttl = {other}: expected a number from 1 to 255 or \"inherit\"");
            Err(source.error(written.span(), message))
        }
    }
}
