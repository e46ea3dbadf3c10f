//! VIPs of a real server that are addresses of the host in another place than its TUN device.

use std::net::Ipv4Addr;

use super::error::HostError;
use super::netlink::Netlink;

/// A VIP on another device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The device.
    pub device: String,
    /// As in `ip address del`.
    pub prefix_len: u8,
    /// It is the device's first address, by which the host itself is known.
    pub is_own: bool,
}

/// The VIPs that are addresses of another device than `tun` and loopback.
pub async fn vips_elsewhere(
    netlink: &Netlink,
    tun: &str,
    is_vip: impl Fn(Ipv4Addr) -> bool,
) -> Result<Vec<Elsewhere>, HostError> {
    let addresses = netlink.all_addresses().await?;
    let mut found = Vec::new();
    for (place, (index, vip, prefix_len)) in addresses.iter().enumerate() {
        if !is_vip(*vip) || vip.is_loopback() {
            continue;
        }
        let interfaces = netlink.interfaces().await?;
        let Some(device) = interfaces.into_iter().find(|device| device.index == *index) else { continue };
        if device.name == tun || device.name == "lo" {
            continue;
        }
        // The kernel lists a device's addresses in its own order, the primary ones first.
        let is_own = *prefix_len < 32 && !addresses[..place].iter().any(|(before, ..)| before == index);
        found.push(Elsewhere { vip: *vip, device: device.name, prefix_len: *prefix_len, is_own });
    }
    Ok(found)
}
