//! The devices on which clients' packets arrive: those of the configuration, and those that have a VIP as an address.
//!
//! A VIP may be an address of a device that the configuration does not name, such as a macvlan device on top of the
//! interface (`use_vmac` of keepalived) or a bridge with the interface as a port. Its packets arrive on that device, so
//! the capture follows it there. Such a VIP is answered and announced on that device only: on the interface below, the
//! same network would see it at two Ethernet addresses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::host::change::Device;
use crate::host::error::HostError;
use crate::host::netlink::{Interface, Netlink};

/// The devices that exist at present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Incoming {
    /// In the order of the configuration.
    pub listed: Vec<Device>,
    /// For each VIP that is an address of another device: the devices that have it.
    pub holders: BTreeMap<Ipv4Addr, Vec<Device>>,
}

impl Incoming {
    /// Every device once: those of the configuration first.
    pub(super) fn devices(&self) -> Vec<&Device> {
        let mut devices: Vec<&Device> = self.listed.iter().collect();
        for device in self.holders.values().flatten() {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        devices
    }

    /// Where the host answers ARP for the VIP and announces it.
    pub(super) fn answering(&self, vip: Ipv4Addr) -> &[Device] {
        self.holders.get(&vip).unwrap_or(&self.listed)
    }

    /// The devices of the configuration on which some VIP is not to be seen, because another device has it.
    pub(super) fn silent(&self) -> impl Iterator<Item = &Device> {
        let is_elsewhere = |device: &&Device| self.holders.values().any(|holders| !holders.contains(device));
        self.listed.iter().filter(is_elsewhere)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.devices().iter().any(|device| device.name == name)
    }

    /// Queries which devices have one of the VIPs; devices without ARP, such as `lo` and dummies, receive no packets.
    pub(super) async fn find_holders(
        &mut self,
        netlink: &Netlink,
        vips: impl Iterator<Item = Ipv4Addr>,
    ) -> Result<(), HostError> {
        let vips: Vec<Ipv4Addr> = vips.collect();
        let found = if vips.is_empty() {
            BTreeMap::new()
        } else {
            let links = netlink.interfaces().await?;
            let with_arp: Vec<Interface> = links.into_iter().filter(|link| link.uses_arp).collect();
            holders(&self.listed, &vips, &netlink.all_addresses().await?, &with_arp)
        };
        for (vip, devices) in found.iter().filter(|(vip, devices)| self.holders.get(vip) != Some(devices)) {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            tracing::info!(kind = "vip", vip = %vip,
                "host: VIP {vip} is an address of {}: it is captured and answered there",
                names.join(" and ")
            );
        }
        self.holders = found;
        Ok(())
    }
}

fn holders(
    listed: &[Device],
    vips: &[Ipv4Addr],
    addresses: &[(u32, Ipv4Addr, u8)],
    interfaces: &[Interface],
) -> BTreeMap<Ipv4Addr, Vec<Device>> {
    let mut holders: BTreeMap<Ipv4Addr, Vec<Device>> = BTreeMap::new();
    for (index, address, _) in addresses.iter().filter(|(_, address, _)| vips.contains(address)) {
        if let Some(interface) = interfaces.iter().find(|interface| interface.index == *index) {
            let devices = holders.entry(*address).or_default();
            let device = Device::from(interface);
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
    }
    holders.retain(|_, devices| devices.iter().any(|device| !listed.contains(device)));
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);

    fn device(name: &str, index: u32) -> Device {
        Device { name: name.into(), index }
    }

    fn incoming(addresses: &[(u32, Ipv4Addr, u8)]) -> Incoming {
        let of = |name: &str, index| Interface {
            name: name.into(),
            index,
            mtu: 1500,
            mac: Some([2; 6]),
            is_up: true,
            uses_arp: true,
        };
        let interfaces = [of("eth0", 2), of("eth1", 3), of("vrrp.51", 4)];
        let listed = vec![device("eth0", 2), device("eth1", 3)];
        let holders = holders(&listed, &[VIP, OTHER], addresses, &interfaces);
        Incoming { listed, holders }
    }

    #[test]
    fn a_vip_on_a_device_that_is_not_listed_is_captured_and_answered_there() {
        let incoming = incoming(&[(4, VIP, 32), (1, OTHER, 32), (2, Ipv4Addr::new(10, 0, 0, 1), 24)]);
        let names: Vec<&str> = incoming.devices().iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1", "vrrp.51"]);
        assert_eq!(incoming.answering(VIP), [device("vrrp.51", 4)]);
        assert_eq!(incoming.answering(OTHER), [device("eth0", 2), device("eth1", 3)], "lo receives nothing");
        assert_eq!(incoming.silent().count(), 2);
        assert!(incoming.has("vrrp.51") && incoming.has("eth1") && !incoming.has("lo"));
    }

    #[test]
    fn a_vip_on_listed_interfaces_changes_nothing() {
        let incoming = incoming(&[(2, VIP, 32), (3, VIP, 32)]);
        assert_eq!((incoming.holders.len(), incoming.silent().count()), (0, 0));
    }

    #[test]
    fn a_vip_with_two_addresses_on_one_device_names_it_once() {
        let incoming = incoming(&[(4, VIP, 32), (4, VIP, 24), (2, VIP, 32)]);
        assert_eq!(incoming.answering(VIP), [device("vrrp.51", 4), device("eth0", 2)]);
        assert_eq!(incoming.devices().len(), 3);
        assert_eq!(incoming.silent().collect::<Vec<_>>(), [&device("eth1", 3)]);
    }
}
