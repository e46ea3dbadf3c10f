//! What ends by itself: drains, the capture of VIPs without a virtual service, and the grace of removed real servers.

use std::net::IpAddr;

use super::{Control, Next};
use crate::control::model::EventKind;
use crate::control::operation::Zeroed;
use crate::control::operation::drain::{self, Drained};
use crate::director::cluster::grace::GRACE;

impl Control {
    /// Whether a drain, a released VIP or the end of a grace is due later.
    pub(crate) fn has_to_tend(&self) -> bool {
        !self.lingering.is_empty() || !self.grace.is_empty() || self.running.states.draining() > 0
    }

    /// Finishes what is over; call it once a second while [`Control::has_to_tend`].
    pub(super) async fn tend(&mut self) {
        self.tend_drains().await;
        self.tend_vips().await;
        self.tend_grace();
    }

    /// Ends the wait for real servers that have not come back.
    fn tend_grace(&mut self) {
        if let Some(over) = self.grace.over(self.shared.clock.now()) {
            let next = self.latest.load().end_grace(&over);
            self.install(next);
            self.publish();
        }
    }

    /// Ends drains that are over.
    async fn tend_drains(&mut self) {
        let cluster = self.latest.load_full();
        let is_empty = |name: &str, rip: IpAddr| {
            let service = cluster.virtual_services().find(|service| service.config.name == name);
            let server = service.and_then(|s| s.real_servers.iter().find(|server| server.rip == rip));
            server.is_none_or(|server| !server.live.is_referenced())
        };
        let Some((running, ended)) = drain::finish(&self.running, is_empty, self.shared.clock.now()) else {
            return;
        };
        for drained in &ended {
            self.tell("drain", EventKind::Drained, log_drained(drained), Vec::new());
        }
        let (by, zeroed) = ("drain".to_owned(), Zeroed::Nothing);
        let next = Next { running, zeroed, by, what: EventKind::Changed, dry_run: false };
        if let Err(error) = self.advance(next).await {
            tracing::warn!(kind = "drain_failed", "director: cannot end a drain: {error}");
        }
    }

    pub(super) fn note_lingering_vips(&mut self) {
        let (latest, deadline) = (self.latest.load_full(), self.shared.clock.now().after(GRACE));
        let left = &latest.host().lingering_vips;
        self.lingering.retain(|vip, _| left.contains(vip));
        for vip in left {
            self.lingering.entry(*vip).or_insert(deadline);
        }
    }

    /// Releases the VIPs that have been without a virtual service long enough.
    async fn tend_vips(&mut self) {
        let now = self.shared.clock.now();
        let due: Vec<IpAddr> =
            self.lingering.iter().filter(|(_, deadline)| **deadline <= now).map(|(vip, _)| *vip).collect();
        if due.is_empty() {
            return;
        }
        self.lingering.retain(|vip, _| !due.contains(vip));
        if let Err(error) = self.host.remove_vips(&due).await {
            // They serve nothing any more, and the next event of the host tries again.
            tracing::warn!(kind = "release_failed", ?due, "director: cannot release a VIP: {error}");
        }
        let cluster = self.latest.load_full();
        let mut view = cluster.host().clone();
        view.lingering_vips.retain(|vip| !due.contains(vip));
        view.local_vips.retain(|vip| !due.contains(vip));
        self.install(cluster.succeed(self.running.in_force(), view));
        self.publish();
    }
}

/// Logs the end of a drain, and returns the message for its event.
fn log_drained(drained: &Drained) -> String {
    let Drained { virtual_service, real_server, is_empty, .. } = drained;
    let why = if *is_empty { "no connections left" } else { "the deadline has passed" };
    let message = format!("{virtual_service} {real_server}: drained, {why}");
    tracing::info!(by = "drain", kind = "drained", virtual_service, real_server, "director: {message}");
    message
}
