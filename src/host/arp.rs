//! Requests of ARP for IPv4 over Ethernet (RFC 826), as frames for a packet socket.
//!
//! ```text
//!  0            6            12   14                                              42
//!  ├ broadcast ─┼ our MAC ───┼0806┼ 1, 0800, 6, 4, request, MAC, sender, 0, target ┤
//! ```

use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::LinkAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};

use super::error::HostError;

const ETHERNET_HEADER: usize = 14;
const LENGTH: usize = 28;

/// ARPHRD_ETHER of `if_arp.h`: the only hardware type supported here.
const HARDWARE_ETHERNET: u16 = 1;

/// The address of an interface for a packet socket, and its MAC address; `None` for the latter if it is no Ethernet
/// interface. It comes from the kernel, because a `LinkAddr` cannot be built safely from its parts.
pub(crate) fn link_address(interface: &str) -> Result<(LinkAddr, Option<[u8; 6]>), HostError> {
    let all = getifaddrs().map_err(|errno| HostError::from_io("list the interfaces", &errno.into()))?;
    let link = all
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| HostError::NoInterface(interface.to_owned()))?;
    Ok((link, link.addr().filter(|_| link.hatype() == HARDWARE_ETHERNET)))
}

/// A request to all hosts for the MAC address of `target`. It also announces `sender` (RFC 5227 §2.3).
pub(crate) fn request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; ETHERNET_HEADER + LENGTH] {
    let mut body = [0; LENGTH];
    let mut arp = MutableArpPacket::new(&mut body).expect("because the buffer has the fixed size of ARP");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac.into());
    arp.set_sender_proto_addr(sender);
    arp.set_target_proto_addr(target);
    let mut frame = [0; ETHERNET_HEADER + LENGTH];
    let mut ethernet =
        MutableEthernetPacket::new(&mut frame).expect("because the buffer holds an Ethernet header");
    ethernet.set_destination([0xff; 6].into());
    ethernet.set_source(mac.into());
    ethernet.set_ethertype(EtherTypes::Arp);
    ethernet.set_payload(arp.packet());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_that_of_rfc_826() {
        let frame = request([2, 0, 0, 0, 0, 9], Ipv4Addr::new(172, 25, 3, 1), Ipv4Addr::new(172, 25, 3, 100));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 9, 172, 25, 3, 1,
            0, 0, 0, 0, 0, 0, 172, 25, 3, 100,
        ];
        assert_eq!(frame, expected);
    }
}
