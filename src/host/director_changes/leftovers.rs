//! What killed directors leave and no journal has.

use super::{Capture, DirectorHost};
use crate::host::change::{Device, capture_rule};
use crate::host::changes::HostChanges;
use crate::host::error::HostError;
use crate::host::netlink::rule;
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
            if capture_rule::find(&rules, name).is_some_and(|found| rule::protocol(found) == PROTOCOL) {
                capture_rule::carry_out(&self.netlink, capture_rule::removal(&rules, name)).await?;
                tracing::info!(
                    kind = "leftover_removed",
                    "host: removed the capture rule of {name} left by a killed daemon"
                );
            }
        }
        Ok(())
    }
}
