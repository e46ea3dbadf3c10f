//! ARP messages of other hosts that have a VIP as their sender: a second owner of the VIP.
//!
//! Receivers of any request or reply update their caches with its sender (RFC 826); a gratuitous one has no other purpose
//! (RFC 5227 §3). A probe has 0.0.0.0 as its sender and claims nothing (RFC 5227 §2.1.1).

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;

use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet_packet::ethernet::EtherTypes;

use super::change::Device;
use super::netlink::Interface;
use super::tap::{Kept, Taps};

/// More than the buffer of a socket holds, so that nothing read is older than one look.
const MESSAGES_MAX: usize = 256;

/// ARP to this host or to all, by its sender's protocol address.
const KEPT: Kept = Kept { protocol: 0x0806, packet_type_max: 2, offset: 14 };

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One message by which a VIP is at another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The VIP.
    pub vip: Ipv4Addr,
    /// Where the VIP is, by this message.
    pub mac: Mac,
    /// Where the message arrived.
    pub device: String,
}

/// The sockets, and the Ethernet addresses of this host.
#[derive(Debug)]
pub(super) struct Claims {
    taps: Taps,
    own: HashSet<Mac>,
    /// Ticks of the host since the start.
    pub ticks: usize,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { taps: Taps::new(KEPT), own: HashSet::new(), ticks: 0 }
    }
}

impl Claims {
    /// Listens on these devices for these VIPs; `links` are all of this host.
    pub(super) fn follow(
        &mut self,
        devices: &[Device],
        vips: impl Iterator<Item = Ipv4Addr>,
        links: &[Interface],
    ) {
        self.own = links.iter().filter_map(|link| link.mac).map(Mac).collect();
        self.taps.follow(devices, vips);
    }

    /// What has arrived since the last call on a device where this host answers for the VIP.
    pub(super) fn read(&mut self, is_answering: impl Fn(Ipv4Addr, &Device) -> bool) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (device, message) in self.taps.read(MESSAGES_MAX) {
            let Some((vip, mac)) = sender(&message) else { continue };
            if !self.own.contains(&mac) && is_answering(vip, &device) {
                claims.push(Claim { vip, mac, device: device.name });
            }
        }
        claims
    }
}

/// The addresses of the sender, if the message is one of ARP for IPv4 over Ethernet.
fn sender(message: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let arp = ArpPacket::new(message)?;
    let is_known = arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && (arp.get_hw_addr_len(), arp.get_proto_addr_len()) == (6, 4)
        && matches!(arp.get_operation(), ArpOperations::Request | ArpOperations::Reply);
    is_known.then(|| (arp.get_sender_proto_addr(), Mac(arp.get_sender_hw_addr().octets())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::arp;

    const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
    const MAC: [u8; 6] = [2, 0, 0, 0xab, 0, 9];

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut message = arp::request(MAC, VIP, VIP)[14..].to_vec();
        message[at] = value;
        message
    }

    #[test]
    fn requests_and_replies_of_arp_for_ipv4_over_ethernet_have_a_sender() {
        let found = Some((VIP, Mac(MAC)));
        let cases = [
            ("a gratuitous request", changed(7, 1), found),
            ("a reply", changed(7, 2), found),
            ("a reverse request", changed(7, 3), None),
            ("an operation above 255", changed(6, 1), None),
            ("another hardware type", changed(1, 6), None),
            ("another protocol", changed(3, 6), None),
            ("longer hardware addresses", changed(4, 8), None),
            ("longer protocol addresses", changed(5, 16), None),
            ("cut off", changed(7, 1)[..27].to_vec(), None),
            ("padded by Ethernet", [changed(7, 1), vec![0; 18]].concat(), found),
            ("nothing", Vec::new(), None),
        ];
        for (what, message, expected) in cases {
            assert_eq!(sender(&message), expected, "{what}");
        }
    }

    #[test]
    fn an_ethernet_address_is_printed_as_ip_link_prints_it() {
        assert_eq!(Mac(MAC).to_string(), "02:00:00:ab:00:09");
    }
}
