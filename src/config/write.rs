//! Plan → `director.toml`: a clean file that reads back as the same plan. Keys with their default value are
//! left out.

use std::fmt::Write as _;
use std::time::Duration;

use super::plan::{
    self, Announce, CONNECTIONS_MAX_DEFAULT, Capture, DirectorPlan, METRICS_DIRECTOR, ServiceDefaults,
    TUN_DIRECTOR,
};
use crate::director::cluster::{
    ClusterConfig, Matcher, NoService, Persistence, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use crate::director::connection::Timeouts;
use crate::director::scheduler::{self, mh};
use crate::encapsulation::Ttl;

/// Keys and values of one block, as in a file; always the same keys in the same order.
pub type Keys = Vec<(&'static str, String)>;

/// The text of a file that describes this plan.
pub fn director(plan: &DirectorPlan) -> String {
    let mut text = String::new();
    block(&mut text, host_keys(plan), &host_keys(&unsaid(plan)));
    block(&mut text, global_keys(&plan.cluster), &global_keys(&ClusterConfig::default()));
    block(&mut text, default_keys(&plan.defaults), &default_keys(&ServiceDefaults::default()));
    for service in &plan.cluster.virtual_services {
        text.push_str("\n[[virtual_service]]\n");
        virtual_service(&mut text, service, &plan.defaults);
        for server in &service.real_servers {
            text.push_str("\n[[virtual_service.real_server]]\n");
            let _ = writeln!(text, "rip = {}", quoted(&server.rip.to_string()));
            let unsaid = RealServerConfig::new(server.rip, 1);
            block(&mut text, server_keys(server), &server_keys(&unsaid));
        }
    }
    text
}

fn virtual_service(text: &mut String, service: &VirtualServiceConfig, defaults: &ServiceDefaults) {
    let row = scheduler::find(service.scheduler).unwrap_or(scheduler::DEFAULT);
    let name = service.matchers.first().map(plan::name_of).unwrap_or_default();
    let unsaid = VirtualServiceConfig {
        name,
        matchers: Vec::new(),
        scheduler: scheduler::DEFAULT.name,
        scheduler_options: scheduler::Options::default(),
        persistence: None,
        is_one_packet: false,
        unknown_tcp: defaults.unknown_tcp.unwrap_or_else(|| UnknownTcp::default_for(row)),
        on_removed: defaults.on_removed,
        timeouts: defaults.timeouts,
        real_servers: Vec::new(),
    };
    let mut keys = service_keys(service);
    if let [Matcher { protocol, vip, ports }] = service.matchers[..] {
        let port = if ports.is_one() { ports.to_string() } else { quoted(&ports.to_string()) };
        let (protocol, vip) = (quoted(protocol.name()), quoted(&vip.to_string()));
        let _ = writeln!(text, "protocol = {protocol}\nvip = {vip}\nport = {port}");
        keys.iter_mut().filter(|(key, _)| *key == "match").for_each(|(_, value)| value.clear());
    }
    block(text, keys, &service_keys(&unsaid));
}

/// Writes the keys whose value differs from its default.
fn block(text: &mut String, keys: Keys, unsaid: &Keys) {
    for ((key, value), (_, unsaid)) in keys.into_iter().zip(unsaid) {
        if value != *unsaid && !value.is_empty() {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
}

/// A plan for the same interface with every other key at its default.
fn unsaid(plan: &DirectorPlan) -> DirectorPlan {
    DirectorPlan {
        interface: String::new(),
        tun: TUN_DIRECTOR.to_owned(),
        queues: None,
        metrics: METRICS_DIRECTOR.parse().unwrap_or(plan.metrics),
        control: None,
        control_group: None,
        api: None,
        capture: Capture::Auto,
        announce: Announce::Always,
        outer_source: None,
        connections_max: CONNECTIONS_MAX_DEFAULT,
        connections_per_client_max: plan.connections_max as u32,
        hash_key: None,
        cluster: ClusterConfig::default(),
        defaults: ServiceDefaults::default(),
    }
}

fn host_keys(plan: &DirectorPlan) -> Keys {
    let number = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
    let control = plan.control.as_ref().map(|path| quoted(&path.to_string_lossy()));
    let key = plan.hash_key.map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    vec![
        ("interface", quoted(&plan.interface)),
        ("tun", quoted(&plan.tun)),
        ("queues", number(plan.queues)),
        ("metrics", quoted(&plan.metrics.to_string())),
        ("control", control.unwrap_or_default()),
        ("control_group", plan.control_group.as_deref().map(quoted).unwrap_or_default()),
        ("api", plan.api.map(|address| quoted(&address.to_string())).unwrap_or_default()),
        ("capture", quoted(plan::word_of_capture(plan.capture))),
        ("announce", quoted(plan::word_of_announce(plan.announce))),
        ("outer_source", plan.outer_source.map(|source| quoted(&source.to_string())).unwrap_or_default()),
        ("connections_max", plan.connections_max.to_string()),
        ("connections_per_client_max", plan.connections_per_client_max.to_string()),
        ("hash_key", key.as_deref().map(quoted).unwrap_or_default()),
    ]
}

pub(super) fn global_keys(config: &ClusterConfig) -> Keys {
    // Listed one by one here and below, so that a new field is not forgotten.
    let ClusterConfig {
        no_service,
        ttl,
        ignores_df,
        decrements_ttl,
        new_connections_per_second_max,
        virtual_services: _,
    } = config;
    let ttl = match ttl {
        Ttl::Fixed(ttl) => ttl.to_string(),
        Ttl::Inherit => quoted("inherit"),
    };
    let flood = new_connections_per_second_max.map(|max| max.to_string());
    let no_service = match no_service {
        NoService::Reject => "reject",
        NoService::Drop => "drop",
    };
    vec![
        ("outer_ttl", ttl),
        ("ignore_df", ignores_df.to_string()),
        ("decrement_ttl", decrements_ttl.to_string()),
        ("new_connections_per_second_max", flood.unwrap_or_default()),
        ("no_service", quoted(no_service)),
    ]
}

pub(super) fn default_keys(defaults: &ServiceDefaults) -> Keys {
    let unknown_tcp = defaults.unknown_tcp.map(|word| quoted(plan::word_of_unknown_tcp(word)));
    let mut keys = vec![
        ("unknown_tcp", unknown_tcp.unwrap_or_default()),
        ("on_removed", quoted(plan::word_of_on_removed(defaults.on_removed))),
    ];
    keys.extend(timeout_keys(&defaults.timeouts));
    keys
}

fn timeout_keys(timeouts: &Timeouts) -> [(&'static str, String); 3] {
    [
        ("timeouts.tcp", duration(timeouts.established)),
        ("timeouts.tcp_fin", duration(timeouts.fin_wait)),
        ("timeouts.udp", duration(timeouts.udp)),
    ]
}

/// All keys except the real servers.
pub(super) fn service_keys(service: &VirtualServiceConfig) -> Keys {
    let VirtualServiceConfig {
        name,
        matchers,
        scheduler,
        scheduler_options: _,
        persistence,
        is_one_packet,
        unknown_tcp,
        on_removed,
        timeouts,
        real_servers: _,
    } = service;
    let list = |words: Vec<String>| format!("[{}]", words.join(", "));
    let matchers = matchers.iter().map(|m| quoted(&format!("{} {}:{}", m.protocol.name(), m.vip, m.ports)));
    let flags = scheduler_flags(service).into_iter().map(quoted);
    let size = (*scheduler == mh::ROW.name).then_some(service.scheduler_options.mh_table_size);
    // Written only if it is not the default, because other schedulers do not accept this key.
    let size = size.filter(|size| *size != mh::TABLE_SIZE_DEFAULT).map(|size| size.to_string());
    let of = |read: &dyn Fn(Persistence) -> String| persistence.map(read).unwrap_or_default();
    let mut keys = vec![
        ("name", quoted(name)),
        ("match", list(matchers.collect())),
        ("scheduler", quoted(scheduler)),
        ("scheduler_flags", list(flags.collect())),
        ("mh_table_size", size.unwrap_or_default()),
        ("persistence.timeout", of(&|persistence| duration(persistence.timeout))),
        ("persistence.prefix", of(&|persistence| persistence.prefix_v4.to_string())),
        ("persistence.expire_quiesced", of(&|persistence| persistence.expires_quiesced.to_string())),
        ("one_packet", is_one_packet.to_string()),
        ("unknown_tcp", quoted(plan::word_of_unknown_tcp(*unknown_tcp))),
        ("on_removed", quoted(plan::word_of_on_removed(*on_removed))),
    ];
    keys.extend(timeout_keys(timeouts));
    keys
}

/// All keys except the RIP.
pub(super) fn server_keys(server: &RealServerConfig) -> Keys {
    let RealServerConfig { name, rip: _, weight, upper_threshold, lower_threshold, path_mtu } = server;
    let mtu = path_mtu.map_or_else(|| quoted("auto"), |mtu| mtu.to_string());
    vec![
        ("name", quoted(name)),
        ("weight", weight.to_string()),
        ("upper_threshold", upper_threshold.to_string()),
        ("lower_threshold", lower_threshold.to_string()),
        ("path_mtu", mtu),
    ]
}

/// A short description of a service.
pub(super) fn summary(service: &VirtualServiceConfig) -> String {
    let matchers = service.matchers.iter();
    let matchers: Vec<String> =
        matchers.map(|m| format!("{} {}:{}", m.protocol.name(), m.vip, m.ports)).collect();
    let servers = counted(service.real_servers.len(), "real server");
    format!("{} {}, {servers}", matchers.join(" "), service.scheduler)
}

/// "1 VIP", "2 VIPs".
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The `scheduler_flags` in force.
pub fn scheduler_flags(service: &VirtualServiceConfig) -> Vec<&'static str> {
    let row = scheduler::find(service.scheduler).unwrap_or(scheduler::DEFAULT);
    let options = &service.scheduler_options;
    let is_set = |flag: &&str| {
        flag.ends_with("-port") && options.has_port || flag.ends_with("-fallback") && options.has_fallback
    };
    row.flags.iter().copied().filter(is_set).collect()
}

fn quoted(word: &str) -> String {
    toml::Value::String(word.to_owned()).to_string()
}

/// A duration in the largest unit that divides it.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match duration.subsec_nanos() {
        0 if seconds.is_multiple_of(86_400) && seconds > 0 => (u128::from(seconds / 86_400), "days"),
        0 if seconds.is_multiple_of(3_600) => (u128::from(seconds / 3_600), "h"),
        0 if seconds.is_multiple_of(60) => (u128::from(seconds / 60), "m"),
        0 => (u128::from(seconds), "s"),
        _ => (duration.as_nanos(), "ns"),
    };
    quoted(&format!("{number}{unit}"))
}
