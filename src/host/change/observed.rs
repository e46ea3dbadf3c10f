//! The present state of the host, as far as a list of changes needs it; sysctls are read on demand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;

use super::Change;
use crate::host::ANSWER_TABLE;
use crate::host::error::HostError;
use crate::host::mirror::ROUTES_MAX;
use crate::host::netlink::{Netlink, ProxyEntry, Route, RouteKey, route_key};

/// The kernel's lists, each queried once.
#[derive(Debug, Default)]
pub struct Observed {
    /// By device, with their prefix lengths.
    addresses: BTreeMap<u32, Vec<(IpAddr, u8)>>,
    /// By device.
    routes: BTreeMap<u32, Vec<Route>>,
    /// By table.
    tables: BTreeMap<u32, BTreeMap<RouteKey, RouteMessage>>,
    rules: Option<Vec<RuleMessage>>,
    proxies: Option<Vec<ProxyEntry>>,
}

impl Observed {
    /// Queries the kernel for everything needed to check `changes`, each kind and device once.
    pub async fn query(netlink: &Netlink, changes: &[&Change]) -> Result<Observed, HostError> {
        let mut observed = Observed::default();
        for change in changes {
            change.observe(netlink, &mut observed).await?;
        }
        Ok(observed)
    }

    pub(super) async fn ask_addresses(&mut self, netlink: &Netlink, device: u32) -> Result<(), HostError> {
        if let Entry::Vacant(place) = self.addresses.entry(device) {
            place.insert(match netlink.addresses(device).await {
                Err(error) if error.is_gone() => Vec::new(),
                found => found?,
            });
        }
        Ok(())
    }

    pub(super) async fn ask_routes(&mut self, netlink: &Netlink, device: u32) -> Result<(), HostError> {
        // Index 0 would return the routes of every device.
        if device != 0
            && let Entry::Vacant(place) = self.routes.entry(device)
        {
            place.insert(netlink.routes_by(device).await?);
        }
        Ok(())
    }

    pub(super) async fn ask_table(&mut self, netlink: &Netlink, table: u32) -> Result<(), HostError> {
        if let Entry::Vacant(place) = self.tables.entry(table) {
            // Twice as many, because the table may also contain routes of others; no other program has this one.
            let max = if table == ANSWER_TABLE { usize::MAX } else { 2 * ROUTES_MAX };
            let found = netlink.routes_whole(table, max).await?.unwrap_or_default();
            place.insert(found.into_iter().map(|route| (route_key(&route), route)).collect());
        }
        Ok(())
    }

    pub(super) async fn ask_rules(&mut self, netlink: &Netlink) -> Result<(), HostError> {
        if self.rules.is_none() {
            self.rules = Some(netlink.rules().await?);
        }
        Ok(())
    }

    pub(super) async fn ask_proxies(&mut self, netlink: &Netlink) -> Result<(), HostError> {
        if self.proxies.is_none() {
            self.proxies = Some(netlink.proxies().await?);
        }
        Ok(())
    }

    pub(super) fn addresses(&self, device: u32) -> &[(IpAddr, u8)] {
        self.addresses.get(&device).map_or(&[], Vec::as_slice)
    }

    /// The routes of any table through the device.
    pub(super) fn routes(&self, device: u32) -> &[Route] {
        self.routes.get(&device).map_or(&[], Vec::as_slice)
    }

    pub(super) fn route(&self, table: u32, key: RouteKey) -> Option<&RouteMessage> {
        self.tables.get(&table)?.get(&key)
    }

    /// In the order in which the kernel evaluates them.
    pub(super) fn rules(&self) -> &[RuleMessage] {
        self.rules.as_deref().unwrap_or_default()
    }

    pub(super) fn proxies(&self) -> &[ProxyEntry] {
        self.proxies.as_deref().unwrap_or_default()
    }
}
