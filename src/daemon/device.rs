//! The daemon's own TUN device while it runs: set up again, renamed back or created again when another program has set
//! it down, renamed or deleted it. Its queues keep their descriptors, so the workers just continue.

use std::collections::VecDeque;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use crate::datapath::tun::Tun;
use crate::host::{HostError, Netlink};
use crate::trouble::{Found, TroubleKind};

/// The device is restored so often in [`PERIOD`], and then only when the period has passed: another program that takes
/// it whenever it is restored would otherwise keep both busy.
const RESTORED_MAX: usize = 8;
const PERIOD: Duration = Duration::from_secs(10);

/// The device of a daemon.
pub(super) struct OwnDevice {
    tun: Tun,
    /// The last connection to the kernel; opened when it is needed.
    netlink: Option<Netlink>,
    restored: Restorations,
}

/// When the device was restored in the last [`PERIOD`].
#[derive(Default)]
struct Restorations(VecDeque<Instant>);

impl Restorations {
    fn are_too_many(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.duration_since(*at) > PERIOD) {
            self.0.pop_front();
        }
        self.0.len() >= RESTORED_MAX
    }
}

/// What [`OwnDevice::restore`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceState {
    AsItWas,
    /// The kernel has removed its addresses and routes meanwhile.
    Restored,
}

impl OwnDevice {
    pub(super) fn new(tun: Tun) -> OwnDevice {
        OwnDevice { tun, netlink: None, restored: Restorations::default() }
    }

    /// Puts the device right; the error is what is wrong with it if that is not possible now. Not cancel-safe.
    pub(super) async fn restore(&mut self) -> Result<DeviceState, Found> {
        let trouble = |kind, text: String| Found { kind, subject: self.tun.name().to_owned(), text };
        let name = self.tun.name();
        let found = match self.tun.present_name() {
            Ok(found) => found,
            Err(error) => {
                return Err(trouble(TroubleKind::DeviceMissing, format!("TUN device {name}: {error}")));
            }
        };
        let is_as_it_was = match &found {
            Some(present) if present == name => self.is_up().await,
            _ => Ok(false),
        };
        if let Ok(true) = is_as_it_was {
            return Ok(DeviceState::AsItWas);
        }
        if self.restored.are_too_many(Instant::now()) {
            let text = format!("TUN device {} is taken by another program again and again", self.tun.name());
            return Err(Found { kind: TroubleKind::DeviceDown, subject: self.tun.name().to_owned(), text });
        }
        self.put_right(found).await?;
        self.restored.0.push_back(Instant::now());
        Ok(DeviceState::Restored)
    }

    async fn put_right(&mut self, found: Option<String>) -> Result<(), Found> {
        let name = self.tun.name().to_owned();
        let trouble = |kind, text| Found { kind, subject: name.clone(), text };
        if found.is_none() {
            self.tun.recreate().map_err(|error| {
                let text = format!("TUN device {name} was deleted and cannot be created again: {error}");
                trouble(TroubleKind::DeviceMissing, text)
            })?;
            tracing::warn!("host: TUN device {name} was deleted by another program; created it again");
        }
        let is_new = found.is_none();
        self.set_up(found.unwrap_or_else(|| name.clone()), is_new).await.map_err(|error| {
            self.netlink = None;
            let text = format!("TUN device {name} is down or renamed, and that cannot be undone: {error}");
            trouble(TroubleKind::DeviceDown, text)
        })
    }

    /// `present` is its name now.
    async fn set_up(&mut self, present: String, is_new: bool) -> Result<(), HostError> {
        let netlink = self.netlink()?;
        let name = self.tun.name();
        let device = netlink.interface(&present).await?;
        let mut is_up = device.is_up;
        if present != name {
            match netlink.rename(device.index, name).await {
                // Before Linux 6.2 a device must be down for that (dev_change_name()).
                Err(HostError::Netlink { errno: Errno::EBUSY, .. }) => {
                    netlink.set_down(device.index).await?;
                    netlink.rename(device.index, name).await?;
                    is_up = false;
                }
                renamed => renamed?,
            }
            tracing::warn!(
                "host: TUN device {name} was renamed {present} by another program; renamed it back"
            );
        }
        if !is_up {
            netlink.set_up(device.index).await?;
        }
        if !is_up && !is_new && present == name {
            tracing::warn!("host: TUN device {name} was set down by another program; set it up again");
        }
        Ok(())
    }

    async fn is_up(&mut self) -> Result<bool, HostError> {
        let found = self.netlink()?.interface(self.tun.name()).await;
        if found.is_err() {
            self.netlink = None;
        }
        Ok(found?.is_up)
    }

    fn netlink(&mut self) -> Result<Netlink, HostError> {
        match &self.netlink {
            Some(netlink) => Ok(netlink.clone()),
            None => Ok(self.netlink.insert(Netlink::open()?).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_taken_again_and_again_is_left_alone_for_a_while() {
        let (begun, mut restored) = (Instant::now(), Restorations::default());
        let at = |secs| begun + Duration::from_secs(secs);
        for number in 0..RESTORED_MAX as u64 {
            assert!(!restored.are_too_many(at(number)), "after {number} times");
            restored.0.push_back(at(number));
        }
        assert!(restored.are_too_many(at(10)));
        assert!(!restored.are_too_many(at(11)), "the first one was more than ten seconds ago");
    }
}
