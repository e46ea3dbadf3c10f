//! Other hosts that have a VIP while this one answers for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::DirectorHost;
use crate::host::announce;
use crate::host::changes::HostChanges;
use crate::host::claims::Claim;
use crate::host::netlink::Interface;

/// Each VIP is probed with one tick of so many: every 20 s.
const PROBE_TICKS: usize = 10;

/// The first VIP is probed with this tick, some seconds after a start.
const FIRST_PROBE: usize = 3;

impl DirectorHost {
    /// Listens where this host answers.
    pub(super) fn listen_for_claims(&mut self, links: &[Interface]) {
        let devices: Vec<_> = self.incoming.devices().into_iter().cloned().collect();
        self.claims.follow(&devices, self.vips.keys().copied(), links);
    }

    /// ARP messages of other hosts since the last call that have a VIP as their sender.
    pub fn take_claims(&mut self) -> Vec<Claim> {
        let DirectorHost { claims, incoming, vips, .. } = self;
        claims.read(|vip, device| vips.contains_key(&vip) && incoming.answering(vip).contains(device))
    }

    /// The VIPs for which this host answers ARP at present.
    pub fn answered_vips(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.vips.iter().filter(|(_, state)| state.is_answered).map(|(vip, _)| *vip)
    }

    /// Probes for other owners, of some VIPs with each call: a host that only answers clients sends nothing to this one
    /// otherwise. An ARP probe changes nothing in any cache. Call it with each tick.
    pub fn probe_vips(&mut self) {
        if self.options.changes == HostChanges::Print {
            return;
        }
        self.claims.ticks = self.claims.ticks.wrapping_add(1);
        let is_due = |place: usize| (self.claims.ticks + place) % PROBE_TICKS == FIRST_PROBE;
        let due = self.answered_vips().enumerate().filter(|(place, _)| is_due(*place));
        let mut targets: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
        for (_, vip) in due {
            for device in self.incoming.answering(vip).iter().filter(|device| self.is_probed(&device.name)) {
                targets.entry(device.name.clone()).or_default().push(vip);
            }
        }
        for (interface, vips) in targets {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = announce::probe(&interface, &vips) {
                    tracing::debug!(kind = "host_error", "host: {error}");
                }
            });
        }
    }

    fn is_probed(&self, name: &str) -> bool {
        self.up.contains(name) || !self.incoming.listed.iter().any(|device| device.name == name)
    }
}
