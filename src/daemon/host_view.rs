//! What a cluster needs to know of its host: the host's addresses, and the path to each real server.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::random;
use crate::director::cluster::{ClusterConfig, HostView, Path, VirtualServiceConfig};
use crate::host::{DirectorHost, HostError, Reach, broadcast_addresses, own_addresses};

/// The VIPs of a configuration.
pub(super) fn vips(config: &ClusterConfig) -> BTreeSet<IpAddr> {
    config.virtual_services.iter().flat_map(VirtualServiceConfig::vips).collect()
}

/// The RIPs, each with the VIPs that it serves.
pub(super) type Rips = BTreeMap<IpAddr, BTreeSet<IpAddr>>;

/// The real servers of a configuration.
pub(super) fn rips(config: &ClusterConfig) -> Rips {
    let mut rips = Rips::new();
    for service in &config.virtual_services {
        for server in &service.real_servers {
            rips.entry(server.rip).or_default().extend(service.vips());
        }
    }
    rips
}

/// Queries the host about everything; `before` is the previous result.
///
/// # Errors
/// Only a contradiction to the configuration; a real server without a route is kept.
pub(super) async fn query(
    config: &ClusterConfig,
    outer_source: Option<Ipv4Addr>,
    host: &DirectorHost,
    before: Option<&HostView>,
) -> Result<HostView, HostError> {
    let routes = host.routes_to(&rips(config), outer_source).await?;
    let lingering_vips = before.map(|before| before.lingering_vips.clone()).unwrap_or_default();
    let local_vips = host.local_among(vips(config).into_iter().chain(lingering_vips.iter().copied())).await?;
    let (local_rips, paths) = told_apart(routes);
    let view = HostView {
        own_addresses: addresses_without(config, &lingering_vips),
        paths,
        lingering_vips,
        local_vips,
        local_rips,
        identification_seed: before.map_or_else(random::draw, |before| before.identification_seed),
    };
    report_stranded(config, &view, before);
    Ok(view)
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
    let added = rips.iter().filter(|(rip, served)| known_rips.get(rip) != Some(served));
    let (local_added, added) = told_apart(host.routes_to(added, outer_source).await?);
    let kept = before.paths.iter().filter(|(rip, _)| rips.contains_key(rip)).map(|(rip, path)| (*rip, *path));
    let local_kept = before.local_rips.iter().filter(|rip| rips.contains_key(rip)).copied();
    let (next, known) = (vips(config), vips(known));
    let mut lingering_vips = before.lingering_vips.clone();
    lingering_vips.extend(known.difference(&next));
    lingering_vips.retain(|vip| !next.contains(vip));
    let (own_addresses, local_vips) = match next == known {
        true => (before.own_addresses.clone(), before.local_vips.clone()),
        false => (
            addresses_without(config, &lingering_vips),
            host.local_among(next.into_iter().chain(lingering_vips.iter().copied())).await?,
        ),
    };
    let view = HostView {
        own_addresses,
        paths: kept.chain(added).collect(),
        lingering_vips,
        local_vips,
        local_rips: local_kept.chain(local_added).collect(),
        identification_seed: before.identification_seed,
    };
    report_stranded(config, &view, Some(before));
    Ok(view)
}

/// Warns of each real server on this host that cannot get packets, once.
fn report_stranded(config: &ClusterConfig, view: &HostView, before: Option<&HostView>) {
    let is_stranded = |view: &HostView, rip: &IpAddr, vip: &IpAddr| {
        view.local_rips.contains(rip) && !view.local_vips.contains(vip)
    };
    for (rip, served) in rips(config) {
        let is_new = |vip: &&IpAddr| before.is_none_or(|before| !is_stranded(before, &rip, vip));
        for vip in served.iter().filter(|vip| is_stranded(view, &rip, vip)).filter(is_new) {
            tracing::warn!(
                "director: real server {rip} is this host, which does not have VIP {vip}, so it gets no connections; \
                 keepalived or `lvs-tund realserver` may bring the VIP, or type: ip address add {vip}/32 dev lo"
            );
        }
    }
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

/// The real servers that are this host, and the paths to the others.
fn told_apart(routes: Vec<(IpAddr, Reach)>) -> (HashSet<IpAddr>, HashMap<IpAddr, Path>) {
    let (mut local, mut paths) = (HashSet::new(), HashMap::new());
    for (rip, reach) in routes {
        match reach {
            Reach::Local => _ = local.insert(rip),
            Reach::Remote(route) => {
                let IpAddr::V4(source) = route.address else { continue };
                paths.insert(rip, Path { source, mtu: route.path_mtu.min(65_535) as u16 });
            }
        }
    }
    (local, paths)
}
