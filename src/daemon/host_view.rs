//! What a cluster needs to know of its host: the host's addresses, and the path to each real server.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::random;
use crate::director::cluster::{ClusterConfig, HostView, Path, VirtualServiceConfig};
use crate::host::{DirectorHost, HostError, OuterSource, broadcast_addresses, own_addresses};

/// The VIPs of a configuration.
pub(super) fn vips(config: &ClusterConfig) -> BTreeSet<IpAddr> {
    config.virtual_services.iter().flat_map(VirtualServiceConfig::vips).collect()
}

fn rips(config: &ClusterConfig) -> BTreeSet<IpAddr> {
    config.virtual_services.iter().flat_map(|s| &s.real_servers).map(|server| server.rip).collect()
}

/// Queries the host about everything; `before` is the previous result.
///
/// # Errors
/// Only a contradiction to the configuration; a real server without a route is logged and kept.
pub(super) async fn query(
    config: &ClusterConfig,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    before: Option<&HostView>,
) -> Result<HostView, HostError> {
    // A route that was missing before is not reported again.
    let is_reported = |rip| before.is_none_or(|before| before.paths.contains_key(&rip));
    let routes = host.routes_to(rips(config), is_reported).await?;
    let lingering_vips = before.map(|before| before.lingering_vips.clone()).unwrap_or_default();
    Ok(HostView {
        own_addresses: addresses_without(config, &lingering_vips),
        paths: paths(routes, outer_source),
        lingering_vips,
        identification_seed: before.map_or_else(random::draw, |before| before.identification_seed),
    })
}

/// The host's view of the next configuration: queries added real servers, and keeps the previous result for the
/// others. VIPs that no service matches any more stay in the view until they are released.
///
/// # Errors
/// As [`query`].
pub(super) async fn refresh_added(
    config: &ClusterConfig,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    before: &HostView,
    known: &ClusterConfig,
) -> Result<HostView, HostError> {
    let (rips, known_rips) = (rips(config), rips(known));
    let added = rips.difference(&known_rips).copied();
    let added = paths(host.routes_to(added, |_| true).await?, outer_source);
    let kept = before.paths.iter().filter(|(rip, _)| rips.contains(rip)).map(|(rip, path)| (*rip, *path));
    let (next, known) = (vips(config), vips(known));
    let mut lingering_vips = before.lingering_vips.clone();
    lingering_vips.extend(known.difference(&next));
    lingering_vips.retain(|vip| !next.contains(vip));
    let own_addresses = match next == known {
        true => before.own_addresses.clone(),
        false => addresses_without(config, &lingering_vips),
    };
    let identification_seed = before.identification_seed;
    Ok(HostView { own_addresses, paths: kept.chain(added).collect(), lingering_vips, identification_seed })
}

/// The host's addresses that are not captured, and the broadcast addresses of its networks: no client can have any of
/// them.
fn addresses_without(config: &ClusterConfig, lingering_vips: &HashSet<IpAddr>) -> HashSet<IpAddr> {
    let captured = vips(config);
    own_addresses()
        .into_iter()
        .chain(broadcast_addresses())
        .filter(|address| !captured.contains(address) && !lingering_vips.contains(address))
        .collect()
}

fn paths(
    routes: impl IntoIterator<Item = (IpAddr, OuterSource)>,
    outer_source: Option<Ipv4Addr>,
) -> HashMap<IpAddr, Path> {
    let path = |(rip, route): (IpAddr, OuterSource)| {
        let IpAddr::V4(found) = route.address else { return None };
        Some((rip, Path { source: outer_source.unwrap_or(found), mtu: route.path_mtu.min(65_535) as u16 }))
    };
    routes.into_iter().filter_map(path).collect()
}
