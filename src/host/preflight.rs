//! Contradictions between a director's configuration and its host, found before anything is changed: at the start, and
//! by `lvs-tund check --host`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::CAPTURE_TABLE;
use super::addresses::own_addresses;
use super::ahead;
use super::change::capture_rule::CaptureRule;
use super::changes::HostChanges;
use super::director_changes::{Capture, DirectorHostOptions, ipv4_of};
use super::error::HostError;
use super::netlink::{Netlink, Route};
use super::reach::reach;
use super::refusal::check_outer_source;

/// Every reason why a director with these options and real servers, each with the VIPs that it serves, cannot work on this host, in the order of the
/// options; none twice. A real server without a route is no reason, because the route may come later.
///
/// # Errors
/// The kernel does not answer.
pub async fn director(
    options: &DirectorHostOptions,
    rips: &BTreeMap<IpAddr, BTreeSet<IpAddr>>,
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
    for (rip, served) in rips {
        let vips = options.vips.iter().copied();
        match reach(&netlink, *rip, served, vips, &options.tun, options.outer_source).await {
            Err(error @ HostError::Connection { .. }) => return Err(error),
            Err(error @ HostError::Refused(_)) => errors.push(error),
            _ => {}
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
        let capture = options.capture.of(is_local, options.announce);
        if capture != Capture::Route {
            let rule = |name: &String| CaptureRule { interface: name.clone(), tun: 0 };
            let plans = options.interfaces.iter().map(|name| ahead::plan(&rules, &rule(name)));
            errors.extend(plans.filter_map(Result::err));
            let is_other =
                |route: &&Route| (route.destination, route.prefix_len) == (*vip, 32) && route.index != own;
            if taken.iter().any(|route| is_other(&route)) {
                errors.push(HostError::Refused(format!(
                    "VIP {vip} is captured already (`ip route show table {CAPTURE_TABLE}`): stop the other director or \
                     remove that route"
                )));
            }
        }
        if capture != Capture::Rule
            && let Some(device) = netlink.own_route(*vip).await?.filter(|device| *device != options.tun)
        {
            errors.push(HostError::Refused(format!(
                "VIP {vip} has a route already ({vip}/32 dev {device}), so it cannot be captured: remove the route \
                 (`ip route del {vip}/32`), or stop the program that needs it"
            )));
        }
    }
    Ok(errors)
}
