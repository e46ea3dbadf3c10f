//! Contradictions between a director's configuration and its host, found before anything is changed: at the start, and
//! by `lvs-tund check --host`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::CAPTURE_TABLE;
use super::addresses::own_addresses;
use super::change::capture_rule;
use super::changes::HostChanges;
use super::director_changes::{Capture, DirectorHostOptions, ipv4_of};
use super::error::HostError;
use super::netlink::Netlink;
use super::refusal::{check_outer_source, check_route};

/// Every reason why a director with these options and real servers cannot work on this host, in the order of the
/// options; none twice. A real server without a route is no reason, because the route may come later.
///
/// # Errors
/// The kernel does not answer.
pub async fn director(
    options: &DirectorHostOptions,
    rips: &BTreeSet<IpAddr>,
) -> Result<Vec<HostError>, HostError> {
    let netlink = Netlink::open()?;
    let mut errors = Vec::new();
    for name in &options.interfaces {
        match netlink.interface(name).await {
            Err(error @ HostError::NoInterface(_)) => errors.push(error),
            found => drop(found?),
        }
    }
    let vips = options.vips.iter().filter_map(|vip| ipv4_of(*vip).map_err(|error| errors.push(error)).ok());
    let vips: Vec<Ipv4Addr> = vips.collect();
    if let Some(source) = options.outer_source {
        errors.extend(check_outer_source(source, &own_addresses()).err());
    }
    if options.changes == HostChanges::Make {
        errors.extend(captures(&netlink, options, &vips).await?);
    }
    for rip in rips {
        match netlink.route_to(*rip).await {
            Ok(route) => {
                errors.extend(check_route(&route, &options.vips, &options.tun, options.outer_source).err());
            }
            Err(error @ HostError::Connection { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    errors.retain(|error| seen.insert(error.to_string()));
    Ok(errors)
}

/// Routes and rules of others in the place of those that the capture needs.
async fn captures(
    netlink: &Netlink,
    options: &DirectorHostOptions,
    vips: &[Ipv4Addr],
) -> Result<Vec<HostError>, HostError> {
    let mut errors = Vec::new();
    // A running director with this device finds its own routes here.
    let own = netlink.interface(&options.tun).await.map_or(0, |tun| tun.index);
    let taken = netlink.routes_in(CAPTURE_TABLE).await?;
    let rules = netlink.rules().await?;
    for vip in vips {
        let is_local = netlink.is_local(*vip).await?;
        match options.capture.of(is_local, options.announce) {
            Capture::Rule => {
                let plans = options.interfaces.iter().map(|name| capture_rule::plan(&rules, name));
                errors.extend(plans.filter_map(Result::err));
                if taken
                    .iter()
                    .any(|route| (route.destination, route.prefix_len) == (*vip, 32) && route.index != own)
                {
                    errors.push(HostError::Refused(format!(
                        "VIP {vip} is captured already (`ip route show table {CAPTURE_TABLE}`): stop the other director or \
                         remove that route"
                    )));
                }
            }
            Capture::Route => {
                if let Some(device) = netlink.own_route(*vip).await?.filter(|device| *device != options.tun) {
                    errors.push(HostError::Refused(format!(
                        "VIP {vip} has a route already ({vip}/32 dev {device}), so it cannot be captured: remove the route \
                         (`ip route del {vip}/32`), or stop the program that needs it"
                    )));
                }
            }
        }
    }
    Ok(errors)
}
