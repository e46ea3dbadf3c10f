//! `director.toml` → [`DirectorPlan`].

use std::net::Ipv4Addr;

use super::super::consistency::{self, Conflict, ConflictPlace, SERVICES_MAX, too_many_services};
use super::super::key::{self, Key, Keys, names};
use super::super::keys::cluster::{CLUSTER_KEYS, DEFAULT_KEYS};
use super::super::keys::host::HOST_KEYS;
use super::super::keys::real_server::{self, REAL_SERVER_KEYS, RealServerSpec};
use super::super::keys::service::{self, SERVICE_KEYS, VirtualServiceSpec};
use super::super::kinds::{InterfaceName, Word};
use super::super::toml::Block;
use super::super::{ConfigError, ERRORS_MAX, Source};
use super::{
    AnnounceSetting, CaptureSetting, DirectorPlan, METRICS_DIRECTOR, ServiceDefaults, first, unless_wrong,
};
use crate::director::cluster::{ClusterConfig, RealServerConfig, VirtualServiceConfig};
use crate::director::scheduler;
use crate::packet::Protocol;

const SERVICE: &str = "virtual_service";
const SERVER: &str = "real_server";
const SERVICE_HEADER: &str = "[[virtual_service]]";
const TOP: &str = "the top of the file, before the first [[ ]]";
const SERVER_HEADER: &str = "[[virtual_service.real_server]]";

/// Reads a director's configuration. `interface` (from the command line; several are separated by commas)
/// takes precedence over the file's.
///
/// # Errors
/// The first error, with its line.
pub fn director(source: &Source, interface: Option<&str>) -> Result<DirectorPlan, ConfigError> {
    first(check_director(source, interface))
}

/// As [`director()`], but finds every error.
///
/// # Errors
/// All errors: one for each key that is wrong, and those between keys if no single key is wrong.
pub fn check_director(source: &Source, interface: Option<&str>) -> Result<DirectorPlan, Vec<ConfigError>> {
    let block = Block::parse(source).map_err(|error| vec![error])?;
    let nothing = ServiceDefaults::default();
    let mut errors = block.unknown_keys(&director_keys(), place_of_top_key);
    let mut plan = blank();
    errors.extend(read_part(DEFAULT_KEYS, &mut plan.defaults, &nothing, &block));
    errors.extend(read_part(CLUSTER_KEYS, &mut plan.cluster, &nothing, &block));
    match services(&block, &plan.defaults) {
        Ok(services) => plan.cluster.virtual_services = services,
        Err(found) => errors.extend(found),
    }
    errors.extend(read_part(HOST_KEYS, &mut plan, &nothing, &block));
    if interface.is_some() {
        plan.interfaces.clear();
    }
    for given in interface.iter().flat_map(|given| given.split(',')) {
        match InterfaceName.parse("--interface", given) {
            Ok(interface) if plan.interfaces.contains(&interface) => {}
            Ok(interface) => plan.interfaces.push(interface),
            Err(message) => errors.push(Source { name: "command line", text: "" }.error_whole(message)),
        }
    }
    if errors.is_empty() {
        errors.extend(check(&plan, source, &block).err());
    }
    unless_wrong(plan, errors)
}

/// The keys at the top of a director's file.
pub fn director_keys() -> Vec<&'static str> {
    [names(HOST_KEYS), names(CLUSTER_KEYS), names(DEFAULT_KEYS), vec![SERVICE]].concat()
}

/// Where a key belongs that is not one of the top.
fn place_of_top_key(key: &str) -> Option<&'static str> {
    match key {
        SERVER => Some(SERVER_HEADER),
        _ if names(SERVICE_KEYS).contains(&key) => Some(SERVICE_HEADER),
        _ if names(REAL_SERVER_KEYS).contains(&key) => Some(SERVER_HEADER),
        _ => None,
    }
}

/// Where a key belongs that is not one of a virtual service.
fn place_of_service_key(key: &str) -> Option<&'static str> {
    match key {
        _ if director_keys().contains(&key) => Some(TOP),
        _ if names(REAL_SERVER_KEYS).contains(&key) => Some(SERVER_HEADER),
        _ => None,
    }
}

/// Where a key belongs that is not one of a real server.
fn place_of_server_key(key: &str) -> Option<&'static str> {
    match key {
        _ if names(SERVICE_KEYS).contains(&key) => Some(SERVICE_HEADER),
        _ if director_keys().contains(&key) => Some(TOP),
        _ => None,
    }
}

/// A plan before any key is read; the rows set every field.
fn blank() -> DirectorPlan {
    DirectorPlan {
        interfaces: Vec::new(),
        tun: String::new(),
        queues: None,
        metrics: METRICS_DIRECTOR,
        control: None,
        control_group: None,
        api: None,
        http_names: Vec::new(),
        capture: CaptureSetting::Auto,
        announce: AnnounceSetting::Always,
        notrack: true,
        outer_source: None,
        connections_max: 0,
        connections_per_client_max: 0,
        hash_key: None,
        cluster: ClusterConfig::default(),
        defaults: ServiceDefaults::default(),
    }
}

/// Reads one of the tables of a block that has several; the caller has checked for unknown keys.
fn read_part<C>(
    keys: &Keys<C>,
    config: &mut C,
    defaults: &ServiceDefaults,
    block: &Block,
) -> Vec<ConfigError> {
    let read = |key: &&dyn Key<C>| {
        key.set_default(config, defaults);
        key.read(config, block).err()
    };
    keys.iter().filter_map(read).collect()
}

/// Checks that involve several keys.
fn check(plan: &DirectorPlan, source: &Source, block: &Block) -> Result<(), ConfigError> {
    if plan.interfaces.is_empty() {
        let message = "the key `interface` is missing: the interface that receives the clients' packets for the VIPs, such as \
                       interface = \"eth0\"";
        return Err(source.error_whole(message));
    }
    if plan.interfaces.contains(&plan.tun) {
        let message =
            format!("tun and interface are both \"{}\"; give tun a name that no other device has", plan.tun);
        let place = ["tun", "interface"].into_iter().find(|key| block.get(key).is_some());
        return Err(match place {
            Some(key) => block.error(block.span_of(key), message),
            None => source.error_whole(message),
        });
    }
    let vips = || plan.cluster.virtual_services.iter().flat_map(VirtualServiceConfig::vips);
    if let Some(address) = plan.outer_source.filter(|address| vips().any(|vip| vip == *address)) {
        let message = format!(
            "outer_source = \"{address}\": this is a VIP, which no real server accepts as a director; give the host's own \
             address"
        );
        return Err(block.error(block.span_of("outer_source"), message));
    }
    Ok(())
}

fn services(
    block: &Block,
    defaults: &ServiceDefaults,
) -> Result<Vec<VirtualServiceConfig>, Vec<ConfigError>> {
    let blocks = block.blocks(SERVICE, SERVICE).map_err(|error| vec![error])?;
    if let Some(first) = blocks.get(SERVICES_MAX) {
        return Err(vec![first.error(first.span(), too_many_services())]);
    }
    let (mut services, mut errors) = (Vec::new(), Vec::new());
    for block in &blocks {
        let (service, found) = read_service(block, defaults);
        services.push(service);
        errors.extend(found);
        if errors.len() >= ERRORS_MAX {
            break;
        }
    }
    if errors.is_empty()
        && let Err(found) = consistency::check(&services)
    {
        let span = place(&blocks[found.service], &found).map_err(|error| vec![error])?;
        errors.push(block.error(span, found.message));
    }
    unless_wrong(services, errors)
}

/// The position of a conflict in the file.
fn place(block: &Block, found: &Conflict) -> Result<std::ops::Range<usize>, ConfigError> {
    let servers = block.blocks(SERVER, "virtual_service.real_server")?;
    let in_server = |index: usize, key| servers.get(index).map(|server| server.span_of(key));
    let span = match found.place {
        ConflictPlace::Name => Some(block.span_of("name")),
        ConflictPlace::Matcher(index) if block.get("match").is_some() => {
            Some(block.span_of_item("match", index))
        }
        ConflictPlace::Matcher(_) => Some(block.span_of("vip")),
        ConflictPlace::Rip(index) => in_server(index, "rip"),
        ConflictPlace::ServerName(index) => in_server(index, "name"),
        ConflictPlace::Checks => Some(block.span_of("check")),
        ConflictPlace::ServerChecks(index) => in_server(index, "check"),
    };
    Ok(span.unwrap_or_else(|| block.span()))
}

fn read_service(block: &Block, defaults: &ServiceDefaults) -> (VirtualServiceConfig, Vec<ConfigError>) {
    let mut service = blank_service();
    let mut errors = key::read(SERVICE_KEYS, &[SERVER], place_of_service_key, &mut service, defaults, block);
    if errors.is_empty() {
        let mismatch = service::check(&service).err();
        errors.extend(mismatch.map(|(key, message)| block.error(block.span_of(key), message)));
    }
    match block.blocks(SERVER, "virtual_service.real_server") {
        Ok(blocks) => {
            for block in blocks {
                let (server, found) = read_server(&block, defaults);
                service.real_servers.push(server);
                errors.extend(found);
                if errors.len() >= ERRORS_MAX {
                    break;
                }
            }
        }
        Err(error) => errors.push(error),
    }
    (service, errors)
}

fn read_server(block: &Block, defaults: &ServiceDefaults) -> (RealServerConfig, Vec<ConfigError>) {
    let mut server = blank_server();
    let mut errors = key::read(REAL_SERVER_KEYS, &[], place_of_server_key, &mut server, defaults, block);
    if errors.is_empty() {
        let mismatch = real_server::check(&server).err();
        errors.extend(mismatch.map(|(key, message)| block.error(block.span_of(key), message)));
    }
    (server, errors)
}

fn blank_service() -> VirtualServiceConfig {
    let vip = Ipv4Addr::UNSPECIFIED.into();
    let service = VirtualServiceConfig::new("", Protocol::Tcp, vip, 0, scheduler::DEFAULT);
    VirtualServiceConfig { matchers: Vec::new(), ..service }
}

fn blank_server() -> RealServerConfig {
    RealServerConfig::new(Ipv4Addr::UNSPECIFIED.into(), 1)
}

/// The virtual service of a specification, without its real servers.
///
/// # Errors
/// The first error within it. [`consistency::check`] checks it against the others.
pub fn virtual_service(
    spec: &VirtualServiceSpec,
    defaults: &ServiceDefaults,
) -> Result<VirtualServiceConfig, String> {
    let mut service = blank_service();
    SERVICE_KEYS.iter().for_each(|key| key.set_default(&mut service, defaults));
    let absent = spec.apply(&mut service)?;
    set_defaults(SERVICE_KEYS, &absent, &mut service, defaults);
    service::check(&service).map_err(|(_, message)| message)?;
    Ok(service)
}

/// The real server of a specification.
///
/// # Errors
/// The first error within it.
pub fn real_server(spec: &RealServerSpec) -> Result<RealServerConfig, String> {
    let (mut server, defaults) = (blank_server(), ServiceDefaults::default());
    let absent = spec.apply(&mut server)?;
    set_defaults(REAL_SERVER_KEYS, &absent, &mut server, &defaults);
    real_server::check(&server).map_err(|(_, message)| message)?;
    Ok(server)
}

/// Sets the absent keys to their defaults.
fn set_defaults<C>(keys: &Keys<C>, absent: &[&str], config: &mut C, defaults: &ServiceDefaults) {
    let absent = keys.iter().filter(|key| absent.contains(&key.name()));
    absent.for_each(|key| key.set_default(config, defaults));
}
