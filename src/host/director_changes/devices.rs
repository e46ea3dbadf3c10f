//! Follows the devices: those of the configuration, which may be renamed, removed and created again, and the daemon's own.

use std::collections::BTreeSet;

use super::DirectorHost;
use crate::host::change::Device;
use crate::host::error::HostError;
use crate::host::follow::TICK;
use crate::host::netlink::Interface;
use crate::trouble::{Found, TroubleKind};

impl DirectorHost {
    /// Detects devices that were recreated, renamed or came up again. False while none of the interfaces exists.
    pub(super) async fn follow_devices(&mut self) -> Result<bool, HostError> {
        let tun = self.netlink.interface(&self.tun.name).await.ok();
        let is_tun_new = tun.as_ref().is_some_and(|tun| tun.index != self.tun.index);
        self.tun = tun.as_ref().map_or_else(|| self.tun.clone(), Device::from);
        let (mut listed, mut up) = (Vec::new(), BTreeSet::new());
        for name in self.options.interfaces.clone() {
            match self.find_interface(&name).await? {
                Some(interface) => {
                    up.extend(interface.is_up.then(|| interface.name.clone()));
                    self.missing.remove(&name);
                    let device = Device::from(&interface);
                    self.named.insert(name, device.clone());
                    listed.push(device);
                }
                None => _ = self.missing.insert(name),
            }
        }
        if listed.is_empty() {
            return Ok(false);
        }
        up.extend(tun.filter(|tun| tun.is_up).map(|tun| tun.name));
        let is_known = |device: &Device| self.incoming.listed.iter().any(|known| known.index == device.index);
        let is_new = is_tun_new || !listed.iter().all(is_known);
        let is_raised = !up.is_subset(&self.up);
        self.incoming.listed = listed;
        self.up = up;
        if is_new || is_raised {
            // When a device goes down, the kernel removes its proxy neighbours and routes; the neighbours
            // themselves may have changed.
            self.changes.forget_repairs();
            self.announce_again();
        }
        Ok(true)
    }

    /// The interface with the configured name, otherwise the one that had it and was renamed.
    async fn find_interface(&mut self, configured: &str) -> Result<Option<Interface>, HostError> {
        let before = self.named.get(configured).cloned();
        let found = match (self.netlink.interface(configured).await, &before) {
            (Err(HostError::NoInterface(_)), Some(before)) if before.index > 0 => {
                self.netlink.interface_of_index(before.index).await
            }
            (found, _) => found,
        };
        let found = match found {
            Err(error) if error.is_gone() => return Ok(None),
            found => found?,
        };
        if let Some(before) = before.filter(|before| before.index == found.index && before.name != found.name)
        {
            let (before, name) = (&before.name, &found.name);
            tracing::warn!(
                "host: interface {before} has been renamed {name}; using it under this name. It is \"{configured}\" in the configuration"
            );
            self.changes.rename_interface(before, &Device::from(&found));
        }
        Ok(Some(found))
    }

    /// The interfaces of the configuration through which no packet arrives.
    pub(super) fn device_troubles(&self) -> Vec<Found> {
        let missing = self.missing.iter().map(|name| Found {
            kind: TroubleKind::InterfaceMissing,
            subject: name.clone(),
            text: format!("interface {name} does not exist; waiting until it appears"),
        });
        let is_down =
            |name: &&String| !self.missing.contains(*name) && !self.up.contains(&self.named[*name].name);
        let down = self.options.interfaces.iter().filter(is_down).map(|name| Found {
            kind: TroubleKind::InterfaceDown,
            subject: name.clone(),
            text: format!("interface {} is down, or its link has no carrier", self.named[name].name),
        });
        missing.chain(down).collect()
    }
}

/// What the kernel refused when the host was last checked.
pub(super) fn complaint(complaint: Option<&str>) -> Option<Found> {
    complaint.map(|complaint| Found {
        kind: TroubleKind::HostUnknown,
        subject: String::new(),
        text: format!("{complaint}; trying again every {} s", TICK.as_secs()),
    })
}
