//! When a director announces which VIP on which device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::{Announce, DirectorHost, VipState};
use crate::host::announce::{self, ANNOUNCEMENTS};
use crate::host::changes::HostChanges;
use crate::host::follow::Notice;

impl DirectorHost {
    /// With [`Announce::WhenHealthy`]: answers ARP for these VIPs from now on, and for no other. One that was not answered
    /// before is announced like at the start; one that is withdrawn is silent.
    pub async fn announce_healthy(&mut self, vips: BTreeSet<Ipv4Addr>) {
        if self.options.announce != Announce::WhenHealthy || self.healthy == vips {
            return;
        }
        self.healthy = vips;
        self.on_notice(Notice::Changed).await;
    }

    pub(super) fn announce_again(&mut self) {
        let is_announcing = self.options.announce != Announce::Never;
        for state in self.vips.values_mut().filter(|state| state.is_answered && is_announcing) {
            state.announcements = ANNOUNCEMENTS;
        }
    }

    /// The first announcement of a VIP is sent at once, the others with the ticks.
    pub(super) async fn send_announcements(&mut self, notice: Notice) {
        let is_any_up = self.incoming.listed.iter().any(|device| self.up.contains(&device.name));
        if self.options.changes == HostChanges::Print || !is_any_up || !self.up.contains(&self.tun.name) {
            return;
        }
        let is_due = |state: &VipState| match notice {
            Notice::Tick => state.announcements > 0,
            Notice::Changed | Notice::Paths => state.announcements == ANNOUNCEMENTS,
        };
        let mut due: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
        for (vip, state) in self.vips.iter_mut().filter(|(_, state)| is_due(state)) {
            state.announcements -= 1;
            for device in self.incoming.answering(*vip) {
                due.entry(device.name.clone()).or_default().push(*vip);
            }
        }
        let is_listed = |name: &str| self.incoming.listed.iter().any(|device| device.name == name);
        due.retain(|name, _| self.up.contains(name) || !is_listed(name));
        let send = |(interface, vips): (String, Vec<Ipv4Addr>)| {
            tokio::task::spawn_blocking(move || match announce::announce(&interface, &vips) {
                Ok(()) => tracing::debug!(
                    kind = "announced",
                    device = interface,
                    "host: announced {vips:?} on {interface}"
                ),
                Err(error) => tracing::warn!(kind = "host_error", "host: {error}"),
            })
        };
        let announced: Vec<_> = due.into_iter().map(send).collect();
        for announcement in announced {
            if let Err(error) = announcement.await {
                tracing::error!(kind = "announce_failed", "host: cannot announce VIPs: {error}");
            }
        }
    }
}
