//! The present state of the host: which changes of a list are in force.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;

use super::change::Change;
use crate::host::PROTOCOL;
use crate::host::error::HostError;
use crate::host::mirror;
use crate::host::mss::{self, ROUTES_MAX};
use crate::host::netlink::{Netlink, Proxy, Route};
use crate::host::rule;

/// Whether a change is in force, and who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    /// It carries this program's protocol number: a killed predecessor made it.
    Ours,
    Foreign,
}

/// The result of one query of the host; sysctls are read on demand.
#[derive(Debug, Default)]
pub struct Observed {
    addresses: Vec<(u32, IpAddr, u8)>,
    routes: Vec<Route>,
    /// By table and key.
    copied: BTreeMap<(u32, mirror::Key), RouteMessage>,
    rules: Vec<RuleMessage>,
    proxies: Vec<Proxy>,
}

impl Observed {
    /// Queries the kernel for everything needed to check `changes`, each kind and device once.
    pub async fn look(netlink: &Netlink, changes: &[&Change]) -> Result<Observed, HostError> {
        let mut observed = Observed::default();
        let mut with_addresses = Vec::new();
        let mut with_routes = Vec::new();
        let mut with_copies = Vec::new();
        for change in changes {
            match change {
                Change::Address { device, .. } => with_addresses.push(device.index),
                Change::Route { device, .. } => with_routes.push(device.index),
                Change::MssRoute(copied) => with_copies.push(copied.table),
                _ => {}
            }
        }
        with_addresses.dedup();
        for index in with_addresses {
            match netlink.addresses(index).await {
                Ok(found) => observed.addresses.extend(found.into_iter().map(|(a, len)| (index, a, len))),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        with_routes.dedup();
        // Index 0 would return the routes of every device.
        for index in with_routes.into_iter().filter(|index| *index != 0) {
            observed.routes.extend(netlink.routes_by(index).await?);
        }
        with_copies.dedup();
        for table in with_copies {
            // Twice as many, because the table may also contain routes of others.
            let found = netlink.routes_whole(table, 2 * ROUTES_MAX).await?.unwrap_or_default();
            observed.copied.extend(found.into_iter().map(|route| ((table, mirror::key(&route)), route)));
        }
        let is_rule =
            |change: &&Change| matches!(change, Change::CaptureRule { .. } | Change::MssRule { .. });
        if changes.iter().any(is_rule) {
            observed.rules = netlink.rules().await?;
        }
        if changes.iter().any(|change| matches!(change, Change::Proxy { .. })) {
            observed.proxies = netlink.proxies().await?;
        }
        Ok(observed)
    }

    /// Whether a change is in force. Fails only if a sysctl cannot be read.
    pub fn presence(&self, change: &Change) -> Result<Presence, HostError> {
        let by_protocol =
            |protocol: u8| if protocol == PROTOCOL { Presence::Ours } else { Presence::Foreign };
        let found = match change {
            Change::Sysctl(sysctl) => sysctl.is_satisfied()?.then_some(Presence::Foreign),
            Change::Address { address, device } => {
                let wanted = (device.index, IpAddr::V4(*address), 32);
                self.addresses.contains(&wanted).then_some(Presence::Foreign)
            }
            Change::Route { destination, table, device } => {
                let is_same = |route: &&Route| {
                    (route.destination, route.prefix_len, route.table, route.index)
                        == (*destination, 32, *table, device.index)
                };
                self.routes.iter().find(is_same).map(|route| by_protocol(route.protocol))
            }
            Change::CaptureRule { interface } => self.rule_presence(interface),
            Change::MssRoute(copied) => {
                let found = self.copied.get(&(copied.table, copied.key()));
                found.filter(|route| copied.is(route)).map(|_| Presence::Ours)
            }
            Change::MssRule { vip, table } => mss::find(&self.rules, *vip, *table)
                .map(|rule| if rule::has_our_protocol(rule) { Presence::Ours } else { Presence::Foreign }),
            Change::Proxy { address, device } => {
                let is_same = |proxy: &&Proxy| (proxy.address, proxy.index) == (*address, device.index);
                self.proxies.iter().find(is_same).map(|proxy| by_protocol(proxy.protocol))
            }
        };
        Ok(found.unwrap_or(Presence::Absent))
    }

    fn rule_presence(&self, interface: &str) -> Option<Presence> {
        if !rule::is_ahead_of_local(&self.rules, interface) {
            return None;
        }
        let is_ours = rule::find(&self.rules, interface).is_some_and(rule::has_our_protocol);
        Some(if is_ours { Presence::Ours } else { Presence::Foreign })
    }
}
