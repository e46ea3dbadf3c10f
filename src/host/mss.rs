//! The MSS that this host announces for connections to the VIPs: a routing table of the daemon's own, for
//! packets sent from a VIP.
//!
//! ```text
//! 0:     lookup local
//! 32765: from 172.25.3.100 iif lo lookup 7691      ← a copy of main with advmss on every route
//! 32766: lookup main
//! ```
//!
//! `iif lo` matches packets that this host sends itself; forwarded packets are not affected. The preference
//! is the last one before main, so that every other rule comes first: a rule added without a preference is
//! placed before the first rule after `local` (fib_default_rule_pref()), and of equal preferences the older
//! comes first.
//!
//! The first rule of a network namespace causes a short gap: see [`super::change::capture_rule`].
//!
//! A killed daemon leaves the rules and the table. They match packets from a VIP, which disappeared with the
//! TUN device, and the kernel sends no packet from an address that the host does not have
//! (ip_route_output_key_hash_rcu()). They carry [`PROTOCOL`], and the next start removes them, also with `mss
//! = "off"`. Until then they have an effect only if the VIP is an address of another device too.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use nix::errno::Errno;
use rtnetlink::packet_route::route::RouteMessage;

use super::PROTOCOL;
use super::change::Change;
use super::change::mss_rule::{MssRule, source};
use super::changes::HostChanges;
use super::error::HostError;
use super::follow::Event;
use super::mirror::{self, Interfaces, ROUTES_MAX};
use super::netlink::{Netlink, TABLE_MAIN, rule};

/// The tables, one for each real server daemon on this host. See [`super::CAPTURE_TABLE`].
pub const MSS_TABLES: RangeInclusive<u32> = 7691..=7698;

/// The MSS to announce.
#[derive(Debug, Clone)]
pub enum Mss {
    /// The host's own.
    Off,
    /// A fixed number of bytes.
    Fixed(u16),
    /// `fitting` of the smallest path MTU to the directors, `None` while there is no route to one; at most the
    /// host's own.
    Auto {
        /// An address of each configured prefix.
        directors: Vec<IpAddr>,
        /// From a path MTU in bytes to an MSS in bytes, with every encapsulation's overhead deducted.
        fitting: fn(Option<u32>) -> u16,
    },
}

/// The table and the MSS that it announces.
#[derive(Debug)]
pub(super) struct MssTable {
    mss: Mss,
    /// `None`: no MSS is announced.
    table: Option<u32>,
    announced: u16,
}

impl MssTable {
    /// Removes what killed daemons left, and chooses an unused table.
    pub(super) async fn open(
        netlink: &Netlink,
        mss: Mss,
        vips: &BTreeSet<Ipv4Addr>,
        mode: HostChanges,
    ) -> Result<MssTable, HostError> {
        let table = match sweep(netlink, vips, mode).await {
            // A kernel without policy routing (CONFIG_IP_MULTIPLE_TABLES) would add a route for any table to
            // main.
            Err(HostError::Netlink { errno: Errno::EOPNOTSUPP, .. }) => None,
            table => table?,
        };
        if table.is_none() && !matches!(mss, Mss::Off) {
            tracing::warn!(
                "host: leaving the MSS unchanged: tables {} to {} are in use, or the kernel has no policy routing; free one \
                 (`ip rule`, `ip route show table all`) or set mss = \"off\"",
                MSS_TABLES.start(),
                MSS_TABLES.end()
            );
        }
        Ok(MssTable { table: table.filter(|_| !matches!(mss, Mss::Off)), mss, announced: 0 })
    }

    /// The MSS on the routes, in bytes; 0 if there are none.
    pub(super) fn announced(&self) -> u16 {
        self.announced
    }

    /// Whether this event may have changed the result of [`MssTable::wanted`] or the contents of the table.
    pub(super) fn is_concerned(&self, event: &Event) -> bool {
        let Some(table) = self.table else { return false };
        match event {
            Event::RouteCame(route) => route.table == TABLE_MAIN,
            Event::RouteGone(route) => route.table == TABLE_MAIN || route.table == table,
            Event::Link(_) | Event::Rule => true,
            Event::Address(_) | Event::Lost => false,
        }
    }

    /// The routes and rules that are needed now, in the order in which to make them: the routes before the
    /// rules.
    pub(super) async fn wanted(
        &mut self,
        netlink: &Netlink,
        vips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Change>, HostError> {
        let Some(table) = self.table else { return Ok(Vec::new()) };
        let Some(main) = netlink.routes_whole(TABLE_MAIN, ROUTES_MAX).await? else {
            tracing::warn!(
                "host: leaving the MSS unchanged: table main has more than {ROUTES_MAX} routes, too many to copy; announce \
                 it by a route of your own (docs/mtu.md) and set mss = \"off\""
            );
            // Permanently: another attempt would have to list the routes again.
            (self.table, self.announced) = (None, 0);
            return Ok(Vec::new());
        };
        self.announced = self.fitting(netlink).await?;
        let is_capped = matches!(self.mss, Mss::Auto { .. });
        let interfaces = interfaces_of(netlink, &main).await?;
        let routes = mirror::copies(&main, table, self.announced, is_capped, &interfaces);
        let routes = routes.into_iter().map(Change::MssRoute);
        let rules = vips.iter().map(|vip| Change::MssRule(MssRule { vip: *vip, table }));
        Ok(routes.chain(rules).collect())
    }

    async fn fitting(&self, netlink: &Netlink) -> Result<u16, HostError> {
        let (directors, fitting) = match &self.mss {
            Mss::Off => return Ok(0),
            Mss::Fixed(mss) => return Ok(*mss),
            Mss::Auto { directors, fitting } => (directors, fitting),
        };
        let mut path_mtu = None;
        for director in directors {
            match netlink.route_to(*director).await {
                Ok(route) => path_mtu = Some(route.path_mtu.min(path_mtu.unwrap_or(u32::MAX))),
                Err(error @ HostError::Connection { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        // A route that is missing for a moment changes nothing.
        Ok(match path_mtu {
            None if self.announced > 0 => self.announced,
            path_mtu => fitting(path_mtu),
        })
    }
}

async fn interfaces_of(netlink: &Netlink, routes: &[RouteMessage]) -> Result<Interfaces, HostError> {
    let indices: BTreeSet<u32> = routes.iter().flat_map(mirror::devices).collect();
    let mut interfaces = Interfaces::new();
    for index in indices {
        if let Some(interface) = netlink.interface_if_any(index).await? {
            interfaces.insert(index, interface);
        }
    }
    Ok(interfaces)
}

/// Removes the rules and routes of daemons that no longer run; returns the first table that is free after
/// that.
///
/// A rule belongs to a running daemon if its VIP is an address of this host and not one of this daemon's
/// VIPs.
async fn sweep(
    netlink: &Netlink,
    vips: &BTreeSet<Ipv4Addr>,
    mode: HostChanges,
) -> Result<Option<u32>, HostError> {
    let mut in_use = BTreeSet::new();
    for rule in netlink.rules().await?.into_iter().filter(|rule| MSS_TABLES.contains(&rule::table(rule))) {
        let table = rule::table(&rule);
        match source(&rule).filter(|_| rule::protocol(&rule) == PROTOCOL) {
            Some(vip) if vips.contains(&vip) || !netlink.is_local(vip).await? => {
                if mode == HostChanges::Make {
                    netlink.delete_rule(rule).await?;
                    tracing::info!(
                        kind = "leftover_removed",
                        "host: removed the rule from {vip} to table {table} left by a killed daemon"
                    );
                }
            }
            _ => drop(in_use.insert(table)),
        }
    }
    let mut free = None;
    for table in MSS_TABLES.filter(|table| !in_use.contains(table)) {
        let is_free = match netlink.routes_whole(table, ROUTES_MAX).await? {
            Some(routes) if routes.iter().all(|route| u8::from(route.header.protocol) == PROTOCOL) => {
                if mode == HostChanges::Make && !routes.is_empty() {
                    clear(netlink, table, &routes).await?;
                }
                true
            }
            _ => false,
        };
        free = free.or(is_free.then_some(table));
    }
    Ok(free)
}

async fn clear(netlink: &Netlink, table: u32, routes: &[RouteMessage]) -> Result<(), HostError> {
    for route in routes {
        match netlink.delete_route_like(mirror::deletion(route, table)).await {
            Err(error) if !error.is_gone() => return Err(error),
            _ => {}
        }
    }
    tracing::info!(
        kind = "leftover_removed",
        "host: removed {} routes of table {table} left by a killed daemon",
        routes.len()
    );
    Ok(())
}
