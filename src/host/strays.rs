//! Packets for VIPs that arrive on interfaces where nothing captures them: noticed, so that they can be named.
//!
//! Interfaces on which the packets are captured have no socket and bear no cost.

use std::net::Ipv4Addr;

use super::change::Device;
use super::tap::{Kept, Taps};

/// Packets read of each interface with each tick: more than the buffer holds, so that none is old.
const PACKETS_MAX: usize = 512;

/// IPv4 to this host's Ethernet address, by its destination.
const KEPT: Kept = Kept { protocol: 0x0800, packet_type_max: 0, offset: 16 };

/// A packet for a VIP, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it arrived.
    pub interface: String,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Strays(Taps);

impl Default for Strays {
    fn default() -> Strays {
        Strays(Taps::new(KEPT))
    }
}

impl Strays {
    /// Looks at these interfaces, for these VIPs. An interface that cannot be looked at is omitted.
    pub(super) fn follow(&mut self, interfaces: &[Device], vips: impl Iterator<Item = Ipv4Addr>) {
        self.0.follow(interfaces, vips);
    }

    /// The packets that have arrived since the last call, some of many.
    pub(super) fn read(&mut self) -> Vec<Stray> {
        let packets = self.0.read(PACKETS_MAX).into_iter();
        packets.map(|(device, packet)| Stray { interface: device.name, packet }).collect()
    }
}
