//! What the host knows about a cluster: its own addresses, and the route to each real server.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::process;
use crate::director::cluster::{ClusterConfig, HostView, Path, VirtualServiceConfig};
use crate::host::{DirectorHost, HostError};

/// The VIPs of a configuration.
pub fn vips(config: &ClusterConfig) -> BTreeSet<IpAddr> {
    config.virtual_services.iter().flat_map(VirtualServiceConfig::vips).collect()
}

fn rips(config: &ClusterConfig) -> BTreeSet<IpAddr> {
    config.virtual_services.iter().flat_map(|s| &s.real_servers).map(|server| server.rip).collect()
}

/// Queries the host about everything; `before` is the previous result.
///
/// # Errors
/// Only a contradiction to the configuration; a real server without a route is logged and kept.
pub async fn query(
    config: &ClusterConfig,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    before: Option<&HostView>,
) -> Result<HostView, HostError> {
    let vips_left = before.map(|before| before.vips_left.clone()).unwrap_or_default();
    let mut paths = HashMap::new();
    for rip in rips(config) {
        let is_news = before.is_none_or(|before| before.paths.contains_key(&rip));
        paths.extend(path(rip, outer_source, host, is_news).await?.map(|path| (rip, path)));
    }
    let identification_seed = before.map_or_else(process::random, |before| before.identification_seed);
    let own_addresses = own_addresses(config, &vips_left);
    Ok(HostView { own_addresses, paths, vips_left, identification_seed })
}

/// The host's view of the next configuration: queries new real servers, and keeps the previous result for the
/// others. VIPs that no service matches any more stay in the view until they are released.
///
/// # Errors
/// As [`query`].
pub async fn refresh_added(
    config: &ClusterConfig,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    before: &HostView,
    known: &ClusterConfig,
) -> Result<HostView, HostError> {
    let (rips, known_rips) = (rips(config), rips(known));
    let mut paths = before.paths.clone();
    paths.retain(|rip, _| rips.contains(rip));
    for rip in rips.difference(&known_rips) {
        paths.extend(path(*rip, outer_source, host, true).await?.map(|path| (*rip, path)));
    }
    let (next, known) = (vips(config), vips(known));
    let mut vips_left = before.vips_left.clone();
    vips_left.extend(known.difference(&next));
    vips_left.retain(|vip| !next.contains(vip));
    let own_addresses =
        if next == known { before.own_addresses.clone() } else { own_addresses(config, &vips_left) };
    Ok(HostView { own_addresses, paths, vips_left, identification_seed: before.identification_seed })
}

fn own_addresses(config: &ClusterConfig, vips_left: &HashSet<IpAddr>) -> HashSet<IpAddr> {
    let mut own: HashSet<IpAddr> = process::own_addresses().into_iter().collect();
    for vip in
        config.virtual_services.iter().flat_map(VirtualServiceConfig::vips).chain(vips_left.iter().copied())
    {
        own.remove(&vip);
    }
    own
}

async fn path(
    rip: IpAddr,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    is_news: bool,
) -> Result<Option<Path>, HostError> {
    match host.outer_source(rip).await {
        Ok(route) => {
            let IpAddr::V4(found) = route.address else { return Ok(None) };
            let source = outer_source.unwrap_or(found);
            Ok(Some(Path { source, mtu: route.path_mtu.min(65_535) as u16 }))
        }
        Err(error @ HostError::Refused(_)) => Err(error),
        Err(error) => {
            if is_news {
                tracing::warn!(
                    "director: no route to real server {rip}: {error}; keeping it, traffic resumes when a route appears"
                );
            }
            Ok(None)
        }
    }
}
