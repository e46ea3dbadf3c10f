//! What a daemon needs on its host and does not find there at present.

use super::change::Change;
use super::changes::{Changes, HostChanges};
use super::director_changes::DirectorHost;
use super::error::HostError;
use super::netlink::Netlink;
use super::realserver_changes::RealServerHost;
use crate::trouble::{Found, TroubleKind};

impl DirectorHost {
    /// Looks at the devices and at the changes that the last check found missing.
    pub async fn degraded(&self) -> Vec<Found> {
        let (interface, tun) = (self.interface_name(), self.tun_name());
        let mut found = Vec::new();
        found.extend(device(self.netlink(), interface, INTERFACE).await);
        found.extend(device(self.netlink(), tun, TUN).await);
        found.extend(missing(self.changes(), self.mode()));
        found
    }
}

impl RealServerHost {
    /// As [`DirectorHost::degraded`].
    pub async fn degraded(&self) -> Vec<Found> {
        let mut found: Vec<Found> = device(self.netlink(), self.tun_name(), TUN).await.into_iter().collect();
        found.extend(missing(self.changes(), self.mode()));
        found
    }
}

/// The kinds of trouble for a device: it is missing, or it is down.
struct Kinds(TroubleKind, TroubleKind);

const INTERFACE: Kinds = Kinds(TroubleKind::InterfaceMissing, TroubleKind::InterfaceDown);
const TUN: Kinds = Kinds(TroubleKind::DeviceMissing, TroubleKind::DeviceDown);

async fn device(netlink: &Netlink, name: &str, kinds: Kinds) -> Option<Found> {
    let (kind, text) = match netlink.interface(name).await {
        Ok(device) if device.is_up => return None,
        Ok(_) => (kinds.1, format!("{name} is down; run: ip link set {name} up")),
        Err(HostError::NoInterface(_)) => (kinds.0, format!("{name} does not exist; see: ip link")),
        Err(error) => (TroubleKind::HostUnknown, format!("cannot query {name}: {error}")),
    };
    Some(Found { kind, subject: name.to_owned(), text })
}

fn missing(changes: &Changes, mode: HostChanges) -> Vec<Found> {
    let absent = changes.entries().iter().filter(|entry| !entry.is_in_force);
    let trouble = |change: &Change| {
        let kind = if is_needed(change) { TroubleKind::ChangeMissing } else { TroubleKind::SettingMissing };
        let again = match mode {
            HostChanges::Make => "it is tried again; by hand",
            HostChanges::Print => "run",
        };
        let text = format!("{change} is missing; {again}: {}", change.command());
        Found { kind, subject: change.to_string(), text }
    };
    absent.map(|entry| trouble(&entry.change)).collect()
}

/// Whether no packet flows without it.
fn is_needed(change: &Change) -> bool {
    match change {
        Change::Address(_) | Change::CaptureRule(_) | Change::Proxy(_) | Change::Route(_) => true,
        Change::MssRoute(_) | Change::MssRule(_) => false,
        // Without proxy_delay and send_redirects packets take longer, and without the ARP settings the VIP may be answered for.
        Change::Sysctl(_) => {
            let name = change.to_string();
            name.contains("forwarding") || name.contains("rp_filter")
        }
    }
}
