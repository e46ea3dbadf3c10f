//! Checks across virtual services and real servers: two services for the same packets, a name used twice, a
//! VIP that is a real server.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;

use super::clipped;
use super::keys::check::{has_port, text_of};
use crate::director::cluster::{Matcher, Ports, VIRTUAL_SERVICES_MAX, VirtualServiceConfig};
use crate::health::CheckConfig;

/// The maximum number of virtual services: half of the slots, because a reload may replace every service at once.
pub const SERVICES_MAX: usize = VIRTUAL_SERVICES_MAX / 2;

/// Why virtual services conflict, and which one is the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The index of the service.
    pub service: usize,
    /// Which part of it.
    pub place: ConflictPlace,
    /// One sentence.
    pub message: String,
}

/// Which part of a service conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictPlace {
    /// The name of the service.
    Name,
    /// The matcher with this index.
    Matcher(usize),
    /// The RIP of the real server with this index.
    Rip(usize),
    /// The name of the real server with this index.
    ServerName(usize),
    /// The checks of the service.
    Checks,
    /// The checks of the real server with this index.
    ServerChecks(usize),
}

/// The message for a configuration with more than [`SERVICES_MAX`] virtual services.
pub fn too_many_services() -> String {
    format!("there are more than {SERVICES_MAX} virtual services; spread them over several directors")
}

/// Checks that virtual services and real servers do not conflict.
///
/// # Errors
/// The first conflict, in the order of the services.
pub fn check(services: &[VirtualServiceConfig]) -> Result<(), Conflict> {
    let at = |service, place, message| Err(Conflict { service, place, message });
    if services.len() > SERVICES_MAX {
        return at(SERVICES_MAX, ConflictPlace::Name, too_many_services());
    }
    let clash = first_clash(services);
    let vips: HashSet<IpAddr> = services.iter().flat_map(VirtualServiceConfig::vips).collect();
    let mut names = HashSet::new();
    for (index, service) in services.iter().enumerate() {
        if let Some(clash) = clash.as_ref().filter(|clash| clash.service == index) {
            return Err(clash.clone());
        }
        if !names.insert(service.name.as_str()) {
            let name = clipped(&service.name);
            let message = format!("the name {name:?} is taken by another virtual service; choose another");
            return at(index, ConflictPlace::Name, message);
        }
        check_ports(service).or_else(|(place, message)| at(index, place, message))?;
        check_servers(service, &vips).or_else(|(place, message)| at(index, place, message))?;
    }
    Ok(())
}

/// Checks that each check has a port to be sent to.
fn check_ports(service: &VirtualServiceConfig) -> Result<(), (ConflictPlace, String)> {
    let ports = service.matchers.first().map(|matcher| matcher.ports);
    let first = ports.filter(|ports| *ports != Ports::ALL).map(|ports| ports.first);
    let message = |checks: &[CheckConfig]| {
        let without = checks.iter().find(|check| !has_port(check, first))?;
        Some(format!(
            "check {}: the virtual service is for all ports; name the one to check with `port`",
            clipped(&text_of(without))
        ))
    };
    let is_used = |service: &VirtualServiceConfig| {
        service.real_servers.is_empty() || service.real_servers.iter().any(|server| server.checks.is_none())
    };
    if let Some(message) = message(&service.health.checks).filter(|_| is_used(service)) {
        return Err((ConflictPlace::Checks, message));
    }
    let own = service.real_servers.iter().map(|server| server.checks.as_deref().unwrap_or_default());
    match own.enumerate().find_map(|(index, checks)| Some((index, message(checks)?))) {
        Some((index, message)) => Err((ConflictPlace::ServerChecks(index), message)),
        None => Ok(()),
    }
}

fn check_servers(
    service: &VirtualServiceConfig,
    vips: &HashSet<IpAddr>,
) -> Result<(), (ConflictPlace, String)> {
    for (index, server) in service.real_servers.iter().enumerate() {
        let before = &service.real_servers[..index];
        let rip = server.rip;
        if before.iter().any(|other| other.rip == rip) {
            let message = format!("real server {rip} is listed twice in this virtual service; remove one");
            return Err((ConflictPlace::Rip(index), message));
        }
        if let Some(other) = before.iter().find(|other| other.name == server.name) {
            let name = clipped(&server.name);
            let message = format!("the name {name:?} is taken by real server {}; choose another", other.rip);
            return Err((ConflictPlace::ServerName(index), message));
        }
        if vips.contains(&rip) {
            let message = format!(
                "rip = \"{rip}\" is a VIP: packets for it return to the director; use the real server's own \
                 address"
            );
            return Err((ConflictPlace::Rip(index), message));
        }
    }
    Ok(())
}

/// The conflict whose later service comes first.
fn first_clash(services: &[VirtualServiceConfig]) -> Option<Conflict> {
    let place = |(service, config): (usize, &VirtualServiceConfig)| {
        let matchers: Vec<_> =
            config.matchers.iter().enumerate().map(|(index, matcher)| (*matcher, (service, index))).collect();
        matchers
    };
    let mut all: Vec<(Matcher, (usize, usize))> = services.iter().enumerate().flat_map(place).collect();
    // Each range comes before the ranges inside it.
    let key =
        |matcher: &Matcher| (matcher.protocol, matcher.vip, matcher.ports.first, Reverse(matcher.ports.last));
    all.sort_by_key(|(matcher, place)| (key(matcher), *place));
    let mut found: Option<((usize, usize), String)> = None;
    let mut open: Vec<(Matcher, (usize, usize))> = Vec::new();
    for (matcher, place) in all {
        while open.pop_if(|(outer, _)| !is_open(outer, &matcher)).is_some() {}
        if let Some((outer, other)) = open.last()
            && let Some(message) =
                if place < *other { clash(outer, &matcher) } else { clash(&matcher, outer) }
        {
            let later = place.max(*other);
            if found.as_ref().is_none_or(|(first, _)| later < *first) {
                found = Some((later, message));
            }
        }
        open.push((matcher, place));
    }
    found.map(|((service, index), message)| Conflict {
        service,
        place: ConflictPlace::Matcher(index),
        message,
    })
}

/// Whether the outer range may contain ports of this matcher or of later ones.
fn is_open(outer: &Matcher, matcher: &Matcher) -> bool {
    (outer.protocol, outer.vip) == (matcher.protocol, matcher.vip) && outer.ports.last >= matcher.ports.first
}

/// Why two matchers conflict: they are equal, or their ranges overlap and neither contains the other.
fn clash(matcher: &Matcher, other: &Matcher) -> Option<String> {
    let (protocol, vip) = (matcher.protocol.name(), matcher.vip);
    let (a, b): (Ports, Ports) = (matcher.ports, other.ports);
    if a == b {
        return Some(format!("virtual service {protocol} {vip}:{a} already exists; merge the two"));
    }
    let is_apart = a.last < b.first || b.last < a.first;
    let is_inside = a.first >= b.first && a.last <= b.last || b.first >= a.first && b.last <= a.last;
    (!is_apart && !is_inside).then(|| {
        format!("ports {a} and {b} of {protocol} {vip} overlap; separate them, or put one inside the other")
    })
}
