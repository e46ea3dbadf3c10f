//! What the host needs for checks through the tunnel.
//!
//! ```text
//! check ── DIP:61000→VIP ─▶ rule: fwmark ─▶ TUN ═══ wrapped ═══▶ real server
//!   ▲                                                               │
//!   └───────── eth0 ◀── VIP→DIP:61000, validated by a route ────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{DirectorHost, ipv4_of};
use crate::host::PROBE_TABLE;
use crate::host::change::answer_route::AnswerRoute;
use crate::host::change::probe_rule::ProbeRule;
use crate::host::change::route::VipRoute;
use crate::host::change::{Change, Device};
use crate::host::error::HostError;
use crate::host::netlink::rule;
use crate::host::{ANSWER_TABLE, PROTOCOL, ahead};

/// The targets of checks that go through the tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// The VIPs that the checks are addressed to.
    pub vips: BTreeSet<IpAddr>,
    /// The real servers under test; their answers arrive on the devices that lead to them, or on those of clients.
    pub rips: BTreeSet<IpAddr>,
}

/// The same, and where the answers arrive at present.
#[derive(Debug, Default)]
pub(super) struct Probes {
    targets: Probed,
    vips: BTreeSet<Ipv4Addr>,
    /// In the order of their names.
    devices: Vec<Device>,
}

impl Probes {
    /// In the order in which to make them: a route leads nowhere before its rule.
    pub(super) fn wanted(&self, tun: &Device) -> Vec<Change> {
        if self.vips.is_empty() {
            return Vec::new();
        }
        let mut wanted: Vec<Change> = ProbeRule::ALL.map(Change::from).to_vec();
        for vip in &self.vips {
            wanted.push(VipRoute { destination: *vip, table: PROBE_TABLE, device: tun.clone() }.into());
            if !self.devices.is_empty() {
                wanted.push(AnswerRoute { vip: *vip, devices: self.devices.clone() }.into());
            }
        }
        wanted
    }
}

impl DirectorHost {
    /// Prepares the host for checks of these targets through the tunnel, and for no others; at any time after
    /// [`DirectorHost::prepare`]. From then on it follows the host.
    ///
    /// # Errors
    /// An IPv6 VIP, or a failure of netlink; the next notice tries again.
    pub async fn set_probed(&mut self, probed: Probed) -> Result<(), HostError> {
        if self.probes.targets == probed {
            return Ok(());
        }
        self.probes.vips = probed.vips.iter().map(|vip| ipv4_of(*vip)).collect::<Result<_, _>>()?;
        self.probes.targets = probed;
        self.settle().await
    }

    /// Looks for the devices on which answers arrive: those of clients, and those with a route to a real server.
    pub(super) async fn find_answer_devices(&mut self) -> Result<(), HostError> {
        if self.probes.vips.is_empty() {
            self.probes.devices.clear();
            return Ok(());
        }
        let links = self.netlink.interfaces().await?;
        let mut found = BTreeMap::new();
        for device in self.incoming.devices() {
            found.insert(device.name.clone(), device.index);
        }
        for rip in &self.probes.targets.rips {
            // Without a route the check fails, and its failure names the reason.
            if let Ok(route) = self.netlink.route_to(*rip).await
                && !route.is_local
            {
                found.insert(route.interface.name, route.interface.index);
            }
        }
        // The kernel refuses a route through a device that is down.
        let is_up = |index: u32| links.iter().any(|link| link.index == index && link.is_up);
        found.retain(|_, index| *index != self.tun.index && is_up(*index));
        self.probes.devices = found.into_iter().map(|(name, index)| Device { name, index }).collect();
        Ok(())
    }

    /// Removes the rules and routes for checks that a killed daemon has left and no journal has: a living one has a route
    /// to its TUN device for each VIP.
    pub(super) async fn sweep_probes(&self) -> Result<(), HostError> {
        let living: BTreeSet<Ipv4Addr> =
            self.netlink.routes_in(PROBE_TABLE).await?.iter().map(|route| route.destination).collect();
        for route in self.netlink.routes_in(ANSWER_TABLE).await? {
            if route.protocol == PROTOCOL && !living.contains(&route.destination) {
                self.netlink.delete_route_like(AnswerRoute::anywhere(route.destination)).await?;
                let vip = route.destination;
                tracing::info!(kind = "leftover_removed", vip = %vip, "host: removed the route for answers from {vip} left by a killed daemon");
            }
        }
        if !living.is_empty() {
            return Ok(());
        }
        for probe_rule in ProbeRule::ALL {
            let rules = self.netlink.rules().await?;
            if ahead::find(&rules, &probe_rule).is_some_and(|found| rule::protocol(found) == PROTOCOL) {
                ahead::carry_out(&self.netlink, ahead::removal(&rules, &probe_rule)).await?;
                tracing::info!(
                    kind = "leftover_removed",
                    "host: removed {} left by a killed daemon",
                    Change::from(probe_rule)
                );
            }
        }
        Ok(())
    }
}
