//! What killed directors leave and no journal has.

use super::{Capture, DirectorHost};
use crate::host::ahead;
use crate::host::change::Device;
use crate::host::change::capture_rule::CaptureRule;
use crate::host::changes::HostChanges;
use crate::host::error::HostError;
use crate::host::netlink;
use crate::host::{CAPTURE_TABLE, PROTOCOL};

impl DirectorHost {
    /// Removes what a killed predecessor left for VIPs that are no longer served.
    pub(super) async fn sweep_leftovers(&mut self) {
        if self.options.changes == HostChanges::Print {
            return;
        }
        if let Err(error) = self.sweep().await {
            tracing::warn!(kind = "cleanup_failed", "host: cannot clean up after a killed daemon: {error}");
        }
    }

    async fn sweep(&mut self) -> Result<(), HostError> {
        self.sweep_probes().await?;
        let devices = self.incoming.devices();
        for proxy in self.netlink.proxies().await? {
            let is_leftover = proxy.protocol == PROTOCOL
                && devices.iter().any(|device| device.index == proxy.index)
                && !self.vips.contains_key(&proxy.address);
            // Another director on the same interface has a route for it, or the VIP as an address.
            if is_leftover && !self.netlink.is_captured_or_local(proxy.address).await? {
                self.netlink.delete_proxy(proxy.address, proxy.index).await?;
                tracing::info!(
                    kind = "leftover_removed",
                    "host: removed proxy neighbour {} left by a killed daemon",
                    proxy.address
                );
            }
        }
        if self.vips.values().any(|state| state.capture != Capture::Route)
            || !self.netlink.routes_in(CAPTURE_TABLE).await?.is_empty()
        {
            return Ok(());
        }
        for Device { name, .. } in devices {
            let rules = self.netlink.rules().await?;
            let rule = CaptureRule { interface: name.clone(), tun: 0 };
            if ahead::find(&rules, &rule).is_some_and(|found| netlink::rule::protocol(found) == PROTOCOL) {
                ahead::carry_out(&self.netlink, ahead::removal(&rules, &rule)).await?;
                tracing::info!(
                    kind = "leftover_removed",
                    "host: removed the capture rule of {name} left by a killed daemon"
                );
            }
        }
        Ok(())
    }
}
