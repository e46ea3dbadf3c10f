//! Differences between two plans: what changes, what needs a restart, and how a new file is merged into a
//! configuration that commands have changed since the file was last read.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key::{self, Applies, Key, Keys};
use super::keys::cluster::{CLUSTER_KEYS, DEFAULT_KEYS};
use super::keys::host::HOST_KEYS;
use super::keys::matchers::matcher_text;
use super::keys::real_server::{self, REAL_SERVER_KEYS};
use super::keys::service::{self, SERVICE_KEYS};
use super::plan::{DirectorPlan, ServiceDefaults};
use super::write::counted;
use crate::director::cluster::identity::{predecessors, server_predecessors};
use crate::director::cluster::{ClusterConfig, RealServerConfig, VirtualServiceConfig};

/// One difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// The name of the virtual service; absent if the key concerns the whole director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<String>,
    /// The name of the real server; absent if the key concerns its virtual service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_server: Option<String>,
    /// The key of the configuration, or `state` (active, draining, quiesced, removed); absent if the whole virtual
    /// service or real server is added or removed.
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

/// The keys that differ and that a running director cannot change.
pub fn needs_restart(old: &DirectorPlan, new: &DirectorPlan) -> Vec<&'static str> {
    let is_other =
        |key: &&&dyn Key<DirectorPlan>| key.applies() == Applies::Restart && !key.is_same(old, new);
    HOST_KEYS.iter().filter(is_other).map(|key| key.name()).collect()
}

/// The differences between two clusters. [`identity`](crate::director::cluster::identity) determines which virtual
/// services and real servers are the same in both.
pub fn clusters(old: &ClusterConfig, new: &ClusterConfig) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut found, &Difference::default(), CLUSTER_KEYS, old, new);
    let (old, new) = without_common_ends(&old.virtual_services, &new.virtual_services);
    let pairs = predecessors(old, new);
    let kept: HashSet<usize> = pairs.iter().flatten().copied().collect();
    let at = |service: &VirtualServiceConfig| Difference {
        virtual_service: Some(service.name.clone()),
        ..Difference::default()
    };
    for (_, gone) in old.iter().enumerate().filter(|(index, _)| !kept.contains(index)) {
        found.push(Difference { from: Some(summary(gone)), ..at(gone) });
    }
    for (service, before) in new.iter().zip(pairs) {
        match before.map(|index| &old[index]) {
            None => found.push(Difference { to: Some(summary(service)), ..at(service) }),
            Some(before) if before != service => {
                compare(&mut found, &at(before), SERVICE_KEYS, before, service);
                servers(&mut found, &at(service), before, service);
            }
            Some(_) => {}
        }
    }
    found
}

/// The differences between the defaults for services added later.
pub fn defaults(old: &ServiceDefaults, new: &ServiceDefaults) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut found, &Difference::default(), DEFAULT_KEYS, old, new);
    found
}

fn servers(
    found: &mut Vec<Difference>,
    at: &Difference,
    old: &VirtualServiceConfig,
    new: &VirtualServiceConfig,
) {
    let at = |server: &RealServerConfig| Difference { real_server: Some(server.name.clone()), ..at.clone() };
    let pairs = server_predecessors(&old.real_servers, &new.real_servers);
    let kept: HashSet<usize> = pairs.iter().flatten().copied().collect();
    for (_, gone) in old.real_servers.iter().enumerate().filter(|(index, _)| !kept.contains(index)) {
        found.push(Difference { from: Some(gone.rip.to_string()), ..at(gone) });
    }
    for (server, before) in new.real_servers.iter().zip(pairs) {
        match before.map(|index| &old.real_servers[index]) {
            None => found.push(Difference { to: Some(server.rip.to_string()), ..at(server) }),
            Some(before) => {
                compare(found, &at(before), REAL_SERVER_KEYS, before, server);
            }
        }
    }
}

/// Adds the keys that differ in one virtual service or real server.
fn compare<C>(found: &mut Vec<Difference>, at: &Difference, keys: &Keys<C>, old: &C, new: &C) {
    key::compare(keys, old, new, &mut |key, from, to| {
        let key = Some(key.to_owned());
        found.push(Difference { key, from: Some(from), to: Some(to), ..at.clone() });
    });
}

/// A short description of a service.
fn summary(service: &VirtualServiceConfig) -> String {
    let matchers: Vec<String> = service.matchers.iter().map(matcher_text).collect();
    let servers = counted(service.real_servers.len(), "real server");
    format!("{} {}, {servers}", matchers.join(" "), service.scheduler.name)
}

/// Both lists without the equal items at their beginnings and ends, because most changes are small.
fn without_common_ends<'a, T: PartialEq>(mut old: &'a [T], mut new: &'a [T]) -> (&'a [T], &'a [T]) {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    (old, new) = (&old[same..], &new[same..]);
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (&old[..old.len() - same], &new[..new.len() - same])
}

/// Applies the changes from one version of the file (`base`) to the next (`file`) to the running configuration.
/// Everything else keeps its running value, including changes made by command.
///
/// A virtual service or real server that a command removed stays removed while its block in the file is
/// unchanged.
pub fn merge(base: &ClusterConfig, file: &ClusterConfig, running: &ClusterConfig) -> ClusterConfig {
    let mut next = running.clone();
    key::merge(CLUSTER_KEYS, base, file, &mut next);
    next.virtual_services = merge_services(base, file, running);
    next
}

/// As [`merge`], but merges the defaults for services added later.
pub fn merge_defaults(
    base: &ServiceDefaults,
    file: &ServiceDefaults,
    running: &ServiceDefaults,
) -> ServiceDefaults {
    let mut next = running.clone();
    key::merge(DEFAULT_KEYS, base, file, &mut next);
    next
}

fn merge_services(
    base: &ClusterConfig,
    file: &ClusterConfig,
    running: &ClusterConfig,
) -> Vec<VirtualServiceConfig> {
    let (base, file) = (&base.virtual_services, &file.virtual_services);
    let mut next: Vec<Option<VirtualServiceConfig>> =
        running.virtual_services.iter().cloned().map(Some).collect();
    // The position of each service of the two files in the next configuration.
    let places = |services: &[VirtualServiceConfig]| predecessors(&running.virtual_services, services);
    let (base_places, file_places) = (places(base), places(file));
    let continues = predecessors(base, file);
    let kept: HashSet<usize> = continues.iter().flatten().copied().collect();
    // Positions of services that are in both files. They belong to these services, whatever commands have changed.
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
                if let Some(running) = &mut next[place] {
                    merge_service(before, service, running);
                }
            }
            // A command added it before the file did: the file determines it from now on.
            (None, Some(place)) if !held.contains(&place) => next[place] = Some(service.clone()),
            (None, _) | (_, None) => next.push(Some(service.clone())),
        }
    }
    next.into_iter().flatten().collect()
}

fn merge_service(base: &VirtualServiceConfig, file: &VirtualServiceConfig, next: &mut VirtualServiceConfig) {
    let before = next.clone();
    key::merge(SERVICE_KEYS, base, file, next);
    service::reconcile(base, file, &before, next);
    merge_servers(&base.real_servers, &file.real_servers, &mut next.real_servers);
}

fn merge_servers(base: &[RealServerConfig], file: &[RealServerConfig], next: &mut Vec<RealServerConfig>) {
    let continued: HashSet<usize> = server_predecessors(base, file).into_iter().flatten().collect();
    let in_base = server_predecessors(base, next);
    let mut is_kept = in_base.iter().map(|index| index.is_none_or(|index| continued.contains(&index)));
    next.retain(|_| is_kept.next().unwrap_or(true));
    let places = server_predecessors(next, file);
    for ((server, before), place) in file.iter().zip(server_predecessors(base, file)).zip(places) {
        match (before.map(|index| &base[index]), place.map(|index| &mut next[index])) {
            (Some(before), _) if before == server => {}
            (Some(before), Some(running)) => merge_server(before, server, running),
            (None, Some(running)) => running.clone_from(server),
            (_, None) => next.push(server.clone()),
        }
    }
}

fn merge_server(base: &RealServerConfig, file: &RealServerConfig, next: &mut RealServerConfig) {
    key::merge(REAL_SERVER_KEYS, base, file, next);
    real_server::reconcile(file, next);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Source, plan};
    use super::*;
    use crate::director::cluster::{Cluster, HostView};

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

    fn described(old: &ClusterConfig, new: &ClusterConfig) -> Vec<String> {
        clusters(old, new).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn every_difference_is_listed_with_its_key() {
        let text = BASE.replace("port = 80", "port = 80\nscheduler = \"rr\"\ntimeouts.tcp = \"1h\"");
        let text = text.replace("rip = \"172.25.3.3\"", "rip = \"172.25.3.4\"\nname = \"new\"");
        let text = text.replace("rip = \"172.25.3.2\"", "rip = \"172.25.3.2\"\nweight = 0");
        let (old, new) = (read(BASE).cluster, read(&format!("no_service = \"drop\"\n{text}")).cluster);
        assert_eq!(
            described(&old, &new),
            [
                "no_service \"reject\" -> \"drop\"",
                "web: scheduler \"wlc\" -> \"rr\"",
                "web: timeouts.tcp \"15m\" -> \"1h\"",
                "web 172.25.3.3: removed",
                "web 172.25.3.2: weight 1 -> 0",
                "web new: added",
            ]
        );
        assert_eq!(described(&old, &ClusterConfig::default()), ["web: removed"]);
        assert!(described(&new, &new).is_empty());
    }

    /// The snapshot, the differences and the merge use the same rule for which virtual service continues which.
    #[test]
    fn a_service_that_loses_its_first_matcher_and_its_name_is_changed_and_not_replaced() {
        let two = "match = [\"tcp 172.25.3.100:80\", \"tcp 172.25.3.100:443\"]";
        let text = BASE.replace("protocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 80", two);
        let (old, new) = (
            read(&text).cluster,
            read(&text.replace("\"tcp 172.25.3.100:80\", ", "").replace("web", "secure")).cluster,
        );
        let expected = [
            "web: name \"web\" -> \"secure\"",
            "web: match [\"tcp 172.25.3.100:80\", \"tcp 172.25.3.100:443\"] -> [\"tcp 172.25.3.100:443\"]",
        ];
        assert_eq!(described(&old, &new), expected);
        let mut running = old.clone();
        running.virtual_services[0].real_servers[0].weight = 7;
        let merged = merge(&old, &new, &running);
        assert_eq!(described(&running, &merged), expected, "what a command has set stays");
        let before = Cluster::new(old, HostView::default());
        let after = before.succeed(new, HostView::default());
        assert_eq!(before.in_order()[0].slot, after.in_order()[0].slot);
        let live = |cluster: &Cluster| cluster.in_order()[0].real_servers[0].live.clone();
        assert!(Arc::ptr_eq(&live(&before), &live(&after)), "its connections continue");
    }

    #[test]
    fn keys_that_need_a_restart_are_listed() {
        let other = BASE.replace("\"eth0\"", "\"eth1\"\nqueues = 3\nmetrics = \"127.0.0.1:1\"");
        assert_eq!(needs_restart(&read(BASE), &read(&other)), ["interface", "queues", "metrics"]);
        assert!(needs_restart(&read(BASE), &read(&BASE.replace("port = 80", "port = 81"))).is_empty());
    }
}
