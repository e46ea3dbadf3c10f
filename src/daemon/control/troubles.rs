//! Looks for what is wrong with the host and with the cluster.

use super::Control;
use crate::config::types::AnnounceSetting;
use crate::control::troubles;
use crate::trouble::{Found, Source};

impl Control {
    /// Looks at everything but the workers and the host's settings, and logs what is new.
    pub(crate) async fn look(&mut self) {
        let now = self.shared.clock.now();
        let awaits_vips = self.base.announce == AnnounceSetting::Local;
        self.watch.report(Source::Cluster, troubles::of_cluster(&self.latest.load(), awaits_vips, now));
        self.report_found_by_checks();
        let mut traffic = self.shared.lost.troubles();
        traffic.extend(self.claimed.troubles(now));
        traffic.extend(self.strays.troubles(self.host.interfaces(), now));
        self.watch.report(Source::Traffic, traffic);
        self.suspect_silent_servers(now);
        self.compare_handshakes(now);
        self.watch.conclude();
    }

    /// Reports what is wrong according to the checks; logged with the next look.
    pub(super) fn report_found_by_checks(&self) {
        self.watch.report(Source::Health, troubles::of_health(&self.running.cluster, &self.running.health));
    }

    /// Reports what is wrong with the workers; logged with the next look.
    pub(crate) fn report_workers(&self, found: Vec<Found>) {
        self.watch.report(Source::Workers, found);
    }
}
