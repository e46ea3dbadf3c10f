//! How packets reach a real server, by the kernel's routes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::error::HostError;
use super::netlink::Netlink;
use super::refusal::{Here, Reach, check_route};

/// Looks up the route to a real server that serves the VIPs `served`; `vips` are those captured here, `tun` is the
/// daemon's own device.
///
/// # Errors
/// Without a route, and if packets would come back here: see [`check_route`].
pub(super) async fn reach(
    netlink: &Netlink,
    rip: IpAddr,
    served: &BTreeSet<IpAddr>,
    vips: impl IntoIterator<Item = IpAddr>,
    tun: &str,
    outer_source: Option<Ipv4Addr>,
) -> Result<Reach, HostError> {
    let captured: BTreeSet<IpAddr> = served.iter().copied().chain(vips).collect();
    let vips = Vec::from_iter(captured);
    let route = netlink.route_to(rip).await?;
    let of_device = match route.source.is_some_and(|source| vips.contains(&source)) {
        true => netlink.addresses(route.interface.index).await?,
        false => Vec::new(),
    };
    let of_device: Vec<IpAddr> = of_device.into_iter().map(|(address, _)| address).collect();
    check_route(&route, &Here { vips: &vips, served, tun, outer_source, of_device: &of_device })
}
