//! Plan to plan: what changes, what needs a restart, and how a new file is merged into a configuration that
//! has been changed by command since the file was last read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::plan::{DirectorPlan, ServiceDefaults};
use super::write;
use crate::director::cluster::{ClusterConfig, Matcher, Persistence, RealServerConfig, VirtualServiceConfig};
use crate::director::connection::Timeouts;
use crate::director::scheduler::Options;
use crate::packet::Protocol;

/// One difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_server: Option<String>,
    /// The configuration key; absent if a whole block is added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value before; absent if it is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value after; absent if it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// "web server2: weight 1 -> 0", "web server2: added".
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: Vec<&str> =
            [&self.virtual_service, &self.real_server].into_iter().flatten().map(String::as_str).collect();
        f.write_str(&place.join(" "))?;
        let colon = if place.is_empty() { "" } else { ": " };
        let key = self.key.as_deref().map(|key| format!("{key} ")).unwrap_or_default();
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{colon}{key}{from} -> {to}"),
            (None, _) => write!(f, "{colon}{key}added"),
            (Some(_), None) => write!(f, "{colon}{key}removed"),
        }
    }
}

/// The keys of the file that differ and that a running director cannot change.
pub fn needs_restart(old: &DirectorPlan, new: &DirectorPlan) -> Vec<&'static str> {
    // Listed one by one, so that a new key is not forgotten; the last three can change in a running director.
    let DirectorPlan {
        interface,
        tun,
        queues,
        metrics,
        control,
        control_group,
        api,
        capture,
        announce,
        outer_source,
        connections_max,
        connections_per_client_max,
        hash_key: _,
        cluster: _,
        defaults: _,
    } = old;
    let keys = [
        ("interface", *interface != new.interface),
        ("tun", *tun != new.tun),
        ("queues", *queues != new.queues),
        ("metrics", *metrics != new.metrics),
        ("control", *control != new.control),
        ("control_group", *control_group != new.control_group),
        ("api", *api != new.api),
        ("capture", *capture != new.capture),
        ("announce", *announce != new.announce),
        ("outer_source", *outer_source != new.outer_source),
        ("connections_max", *connections_max != new.connections_max),
        ("connections_per_client_max", *connections_per_client_max != new.connections_per_client_max),
    ];
    keys.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key).collect()
}

/// The differences between two clusters, compared by value. Real servers are paired by RIP; services by their
/// first matcher, otherwise by name.
pub fn clusters(old: &ClusterConfig, new: &ClusterConfig) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut found, &Difference::default(), &write::global_keys(old), &write::global_keys(new));
    let (old, new) = without_common_ends(&old.virtual_services, &new.virtual_services);
    let pairs = pairs(old, new);
    let kept: HashSet<usize> = pairs.iter().flatten().copied().collect();
    let at = |service: &VirtualServiceConfig| Difference {
        virtual_service: Some(service.name.clone()),
        ..Difference::default()
    };
    for (_, gone) in old.iter().enumerate().filter(|(index, _)| !kept.contains(index)) {
        found.push(Difference { from: Some(write::summary(gone)), ..at(gone) });
    }
    for (service, before) in new.iter().zip(pairs) {
        match before.map(|index| &old[index]) {
            None => found.push(Difference { to: Some(write::summary(service)), ..at(service) }),
            Some(before) if before != service => {
                compare(&mut found, &at(before), &write::service_keys(before), &write::service_keys(service));
                servers(&mut found, &at(service), before, service);
            }
            Some(_) => {}
        }
    }
    found
}

/// The differences between the defaults of services added later.
pub fn defaults(old: &ServiceDefaults, new: &ServiceDefaults) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut found, &Difference::default(), &write::default_keys(old), &write::default_keys(new));
    found
}

fn servers(
    found: &mut Vec<Difference>,
    at: &Difference,
    old: &VirtualServiceConfig,
    new: &VirtualServiceConfig,
) {
    let at = |server: &RealServerConfig| Difference { real_server: Some(server.name.clone()), ..at.clone() };
    let by_rip = |servers: &[RealServerConfig]| -> HashMap<_, _> {
        servers.iter().enumerate().map(|(index, server)| (server.rip, index)).collect()
    };
    let (before, after) = (by_rip(&old.real_servers), by_rip(&new.real_servers));
    for gone in old.real_servers.iter().filter(|server| !after.contains_key(&server.rip)) {
        found.push(Difference { from: Some(gone.rip.to_string()), ..at(gone) });
    }
    for server in &new.real_servers {
        match before.get(&server.rip).map(|index| &old.real_servers[*index]) {
            None => found.push(Difference { to: Some(server.rip.to_string()), ..at(server) }),
            Some(before) => {
                compare(found, &at(before), &write::server_keys(before), &write::server_keys(server));
            }
        }
    }
}

/// Keys and values of one block, before and after.
fn compare(found: &mut Vec<Difference>, at: &Difference, old: &write::Keys, new: &write::Keys) {
    for ((key, from), (_, to)) in old.iter().zip(new).filter(|(old, new)| old != new) {
        let (from, to) = (Some(from.clone()), Some(to.clone()));
        found.push(Difference { key: Some((*key).to_owned()), from, to, ..at.clone() });
    }
}

/// Both lists without the equal services at their beginnings and ends: most changes are small.
fn without_common_ends<'a, T: PartialEq>(mut old: &'a [T], mut new: &'a [T]) -> (&'a [T], &'a [T]) {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    (old, new) = (&old[same..], &new[same..]);
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (&old[..old.len() - same], &new[..new.len() - same])
}

/// For each new service the index of the old one that it continues: the one with the same first matcher,
/// otherwise the one with the same name. No old service is continued twice.
fn pairs(old: &[VirtualServiceConfig], new: &[VirtualServiceConfig]) -> Vec<Option<usize>> {
    let by_matcher = positions(old, |service| service.matchers.first().copied());
    let by_name = positions(old, |service| Some(service.name.as_str()));
    let mut taken = HashSet::new();
    let first = |service: &VirtualServiceConfig| {
        let found = service.matchers.first().and_then(|matcher: &Matcher| by_matcher.get(matcher)).copied();
        found.filter(|index| taken.insert(*index))
    };
    let mut found: Vec<Option<usize>> = new.iter().map(first).collect();
    for (service, found) in new.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
        *found = by_name.get(service.name.as_str()).copied().filter(|index| taken.insert(*index));
    }
    found
}

fn positions<'a, K: Eq + Hash>(
    services: &'a [VirtualServiceConfig],
    key: impl Fn(&'a VirtualServiceConfig) -> Option<K>,
) -> HashMap<K, usize> {
    services.iter().enumerate().filter_map(|(index, service)| Some((key(service)?, index))).collect()
}

/// Applies what changed between the previous file and the new one; the rest stays as it is in force, changed
/// by command or not.
///
/// A virtual service or real server that was removed by command stays removed while its block in the file is
/// unchanged.
pub fn merge(base: &ClusterConfig, file: &ClusterConfig, in_force: &ClusterConfig) -> ClusterConfig {
    let mut next = in_force.clone();
    // Listed one by one, so that a new field is not forgotten.
    let ClusterConfig {
        no_service,
        ttl,
        ignores_df,
        decrements_ttl,
        new_connections_per_second_max,
        virtual_services,
    } = &mut next;
    take(no_service, &base.no_service, &file.no_service);
    take(ttl, &base.ttl, &file.ttl);
    take(ignores_df, &base.ignores_df, &file.ignores_df);
    take(decrements_ttl, &base.decrements_ttl, &file.decrements_ttl);
    let (before, after) = (&base.new_connections_per_second_max, &file.new_connections_per_second_max);
    take(new_connections_per_second_max, before, after);
    *virtual_services = merge_services(base, file, in_force);
    next
}

/// Like [`merge`], for the defaults of services added later.
pub fn merge_defaults(
    base: &ServiceDefaults,
    file: &ServiceDefaults,
    in_force: &ServiceDefaults,
) -> ServiceDefaults {
    let mut next = *in_force;
    let ServiceDefaults { unknown_tcp, on_removed, timeouts } = &mut next;
    take(unknown_tcp, &base.unknown_tcp, &file.unknown_tcp);
    take(on_removed, &base.on_removed, &file.on_removed);
    merge_timeouts(&base.timeouts, &file.timeouts, timeouts);
    next
}

fn take<T: PartialEq + Clone>(value: &mut T, base: &T, file: &T) {
    if base != file {
        value.clone_from(file);
    }
}

fn merge_services(
    base: &ClusterConfig,
    file: &ClusterConfig,
    in_force: &ClusterConfig,
) -> Vec<VirtualServiceConfig> {
    let (base, file) = (&base.virtual_services, &file.virtual_services);
    let mut next: Vec<Option<VirtualServiceConfig>> =
        in_force.virtual_services.iter().cloned().map(Some).collect();
    // The place of each service of the two files in the next configuration.
    let places = |services: &[VirtualServiceConfig]| pairs(&in_force.virtual_services, services);
    let (base_places, file_places) = (places(base), places(file));
    let continues = pairs(base, file);
    let kept: HashSet<usize> = continues.iter().flatten().copied().collect();
    // Places of services that are in both files. They stay with these services, whatever was changed by
    // command.
    let held: HashSet<usize> = kept.iter().filter_map(|index| base_places[*index]).collect();
    for (index, place) in base_places.iter().enumerate() {
        if let Some(place) = place.filter(|_| !kept.contains(&index)) {
            next[place] = None;
        }
    }
    for ((service, before), own_place) in file.iter().zip(continues).zip(file_places) {
        let place = before.and_then(|index| base_places[index]).or(own_place);
        match (before.map(|index| &base[index]), place) {
            (Some(before), _) if before == service => {}
            (Some(before), Some(place)) => {
                if let Some(in_force) = &mut next[place] {
                    merge_service(before, service, in_force);
                }
            }
            // A command added it before the file did: from now on the file determines it.
            (None, Some(place)) if !held.contains(&place) => next[place] = Some(service.clone()),
            (None, _) | (_, None) => next.push(Some(service.clone())),
        }
    }
    next.into_iter().flatten().collect()
}

fn merge_service(base: &VirtualServiceConfig, file: &VirtualServiceConfig, next: &mut VirtualServiceConfig) {
    let VirtualServiceConfig {
        name,
        matchers,
        scheduler,
        scheduler_options,
        persistence,
        is_one_packet,
        unknown_tcp,
        on_removed,
        timeouts,
        real_servers,
    } = next;
    take(name, &base.name, &file.name);
    take(matchers, &base.matchers, &file.matchers);
    // Options are a scheduler's: they come with another one, and one chosen by hand has its own.
    if base.scheduler != file.scheduler {
        (*scheduler, *scheduler_options) = (file.scheduler, file.scheduler_options);
    } else if *scheduler == file.scheduler {
        merge_scheduler_options(&base.scheduler_options, &file.scheduler_options, scheduler_options);
    }
    match (&base.persistence, &file.persistence, &mut *persistence) {
        (Some(base), Some(file), Some(next)) => merge_persistence(base, file, next),
        (base, file, next) => take(next, base, file),
    }
    take(is_one_packet, &base.is_one_packet, &file.is_one_packet);
    // Who took UDP away took with it what one packet is for.
    *is_one_packet &= matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp);
    take(unknown_tcp, &base.unknown_tcp, &file.unknown_tcp);
    take(on_removed, &base.on_removed, &file.on_removed);
    merge_timeouts(&base.timeouts, &file.timeouts, timeouts);
    merge_servers(&base.real_servers, &file.real_servers, real_servers);
}

fn merge_scheduler_options(base: &Options, file: &Options, next: &mut Options) {
    let Options { hash_key: _, has_port, has_fallback, mh_table_size } = next;
    // The flags are one key.
    let flags = |options: &Options| (options.has_port, options.has_fallback);
    if flags(base) != flags(file) {
        (*has_port, *has_fallback) = flags(file);
    }
    take(mh_table_size, &base.mh_table_size, &file.mh_table_size);
}

fn merge_persistence(base: &Persistence, file: &Persistence, next: &mut Persistence) {
    let Persistence { timeout, prefix_v4, prefix_v6: _, expires_quiesced } = next;
    take(timeout, &base.timeout, &file.timeout);
    take(prefix_v4, &base.prefix_v4, &file.prefix_v4);
    take(expires_quiesced, &base.expires_quiesced, &file.expires_quiesced);
}

fn merge_timeouts(base: &Timeouts, file: &Timeouts, next: &mut Timeouts) {
    let Timeouts { established, fin_wait, udp } = next;
    take(established, &base.established, &file.established);
    take(fin_wait, &base.fin_wait, &file.fin_wait);
    take(udp, &base.udp, &file.udp);
}

fn merge_servers(base: &[RealServerConfig], file: &[RealServerConfig], next: &mut Vec<RealServerConfig>) {
    let position = |servers: &[RealServerConfig], server: &RealServerConfig| {
        servers.iter().position(|other| other.rip == server.rip)
    };
    next.retain(|server| position(base, server).is_none() || position(file, server).is_some());
    for server in file {
        let before = position(base, server).map(|index| &base[index]);
        let place = position(next, server);
        match (before, place.map(|index| &mut next[index])) {
            (Some(before), _) if before == server => {}
            (Some(before), Some(in_force)) => merge_server(before, server, in_force),
            (None, Some(in_force)) => in_force.clone_from(server),
            (_, None) => next.push(server.clone()),
        }
    }
}

fn merge_server(base: &RealServerConfig, file: &RealServerConfig, next: &mut RealServerConfig) {
    let RealServerConfig { name, rip: _, weight, upper_threshold, lower_threshold, path_mtu } = next;
    take(name, &base.name, &file.name);
    take(weight, &base.weight, &file.weight);
    take(upper_threshold, &base.upper_threshold, &file.upper_threshold);
    take(lower_threshold, &base.lower_threshold, &file.lower_threshold);
    take(path_mtu, &base.path_mtu, &file.path_mtu);
    // The file's one and the other one set by hand may be impossible together.
    if lower_threshold > upper_threshold {
        (*upper_threshold, *lower_threshold) = (file.upper_threshold, file.lower_threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, plan};
    use super::*;

    const BASE: &str = r#"
interface = "eth0"
[[virtual_service]]
name = "web"
protocol = "tcp"
vip = "172.25.3.100"
port = 80
[[virtual_service.real_server]]
rip = "172.25.3.2"
[[virtual_service.real_server]]
rip = "172.25.3.3"
"#;

    fn read(text: &str) -> DirectorPlan {
        plan::director(&Source { name: "director.toml", text }, None).unwrap()
    }

    fn said(old: &ClusterConfig, new: &ClusterConfig) -> Vec<String> {
        clusters(old, new).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn every_difference_is_said_with_its_key() {
        let text = BASE.replace("port = 80", "port = 80\nscheduler = \"rr\"\ntimeouts.tcp = \"1h\"");
        let text = text.replace("rip = \"172.25.3.3\"", "rip = \"172.25.3.4\"\nname = \"new\"");
        let text = text.replace("rip = \"172.25.3.2\"", "rip = \"172.25.3.2\"\nweight = 0");
        let (old, new) = (read(BASE).cluster, read(&format!("no_service = \"drop\"\n{text}")).cluster);
        assert_eq!(
            said(&old, &new),
            [
                "no_service \"reject\" -> \"drop\"",
                "web: scheduler \"wlc\" -> \"rr\"",
                "web: timeouts.tcp \"15m\" -> \"1h\"",
                "web 172.25.3.3: removed",
                "web 172.25.3.2: weight 1 -> 0",
                "web new: added",
            ]
        );
        assert_eq!(said(&old, &ClusterConfig::default()), ["web: removed"]);
        assert!(said(&new, &new).is_empty());
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let other = BASE.replace("\"eth0\"", "\"eth1\"\nqueues = 3\nmetrics = \"127.0.0.1:1\"");
        assert_eq!(needs_restart(&read(BASE), &read(&other)), ["interface", "queues", "metrics"]);
        assert!(needs_restart(&read(BASE), &read(&BASE.replace("port = 80", "port = 81"))).is_empty());
    }
}
