//! Gratuitous ARP: announces to the neighbours of an interface that a VIP is at its Ethernet address.
//!
//! ```text
//!  0            6            12   14                                        42
//!  ├ broadcast ─┼ our MAC ───┼0806┼ 1, 0800, 6, 4, request, MAC, VIP, 0, VIP ┤
//! ```
//!
//! The request form with sender = target = VIP (RFC 5227 §2.3, ARP Announcement): every stack updates its
//! cache from it. IPv6 uses unsolicited neighbour advertisements, which are not implemented here.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, sendto};
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};
use socket2::{Domain, Socket, Type};

use super::error::HostError;

const ETHERNET_HEADER: usize = 14;

/// RFC 826 for IPv4 over Ethernet.
const ARP_LENGTH: usize = 28;

/// ARPHRD_ETHER of `if_arp.h`: the only hardware type supported here.
const HARDWARE_ETHERNET: u16 = 1;

/// ANNOUNCE_NUM of RFC 5227 §2.3. The first is sent at once, the others with the ticks of `follow::TICK`
/// (ANNOUNCE_INTERVAL is 2 s).
pub(super) const ANNOUNCEMENTS: u8 = 2;

/// Sends one gratuitous ARP for each VIP on the Ethernet interface named `interface`.
///
/// Blocks for some milliseconds, because closing a packet socket waits for readers in the kernel. Needs
/// CAP_NET_RAW. Refuses interfaces without an Ethernet address.
pub(super) fn announce(interface: &str, vips: &[Ipv4Addr]) -> Result<(), HostError> {
    let failed = |error: io::Error| HostError::from_io(format!("announce VIPs on {interface}"), &error);
    let link = link_address(interface)?;
    let Some(mac) = link.addr().filter(|_| link.hatype() == HARDWARE_ETHERNET) else {
        return Err(HostError::NoHardwareAddress(interface.to_owned()));
    };
    // Protocol 0: a packet socket that only sends and receives nothing (packet(7)).
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(failed)?;
    for vip in vips {
        let frame = gratuitous_arp(mac, *vip);
        sendto(socket.as_raw_fd(), &frame, &link, MsgFlags::empty()).map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}

/// The address for a packet socket. It comes from the kernel, because a `LinkAddr` cannot be built safely
/// from its parts.
fn link_address(interface: &str) -> Result<LinkAddr, HostError> {
    let all = getifaddrs().map_err(|errno| HostError::from_io("list the interfaces", &errno.into()))?;
    all.filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| HostError::NoInterface(interface.to_owned()))
}

fn gratuitous_arp(mac: [u8; 6], vip: Ipv4Addr) -> [u8; ETHERNET_HEADER + ARP_LENGTH] {
    let mut arp_bytes = [0; ARP_LENGTH];
    let mut arp =
        MutableArpPacket::new(&mut arp_bytes).expect("because the buffer has the fixed size of ARP");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac.into());
    arp.set_sender_proto_addr(vip);
    arp.set_target_proto_addr(vip);

    let mut frame = [0; ETHERNET_HEADER + ARP_LENGTH];
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
    fn the_announcement_is_a_request_from_and_for_the_vip() {
        let frame = gratuitous_arp([2, 0, 0, 0, 0, 9], Ipv4Addr::new(172, 25, 3, 100));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 9, 172, 25, 3, 100,
            0, 0, 0, 0, 0, 0, 172, 25, 3, 100,
        ];
        assert_eq!(frame, expected);
    }
}
