//! Queries by ARP who has an address (RFC 826), and collects all answers.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use socket2::{Domain, Protocol, Socket, Type};

/// `if_arp.h` ARPHRD_ETHER, `if_ether.h` ETH_P_ARP.
const HARDWARE_ETHERNET: u16 = 1;
const ETH_P_ARP: u16 = 0x0806;

const ETHERNET_HEADER: usize = 14;
const ARP_LENGTH: usize = 28;

/// Requests are sent at the beginning and after this time, so that a single lost frame does not matter.
const REPEAT: Duration = Duration::from_millis(300);

/// A host that answers by proxy delays its answer by up to 0.8 s (neigh/default/proxy_delay).
const PATIENCE: Duration = Duration::from_millis(1_200);

/// The MAC addresses that answered for each address; `None` if no request can be sent on the interface.
///
/// `source` is an address of this host on that interface, or 0.0.0.0 (an ARP probe, RFC 5227 §2.1.1): other hosts answer,
/// and change nothing in their caches that is not true.
pub(super) fn ask(
    interface: &str,
    source: Ipv4Addr,
    targets: &[Ipv4Addr],
) -> Option<HashMap<Ipv4Addr, Vec<[u8; 6]>>> {
    let link = link_address(interface)?;
    let mac = link.addr().filter(|_| link.hatype() == HARDWARE_ETHERNET)?;
    let protocol = Protocol::from(i32::from(ETH_P_ARP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let send = || -> io::Result<()> {
        for target in targets {
            sendto(socket.as_raw_fd(), &request(mac, source, *target), &link, MsgFlags::empty())?;
        }
        Ok(())
    };
    let mut found: HashMap<Ipv4Addr, Vec<[u8; 6]>> =
        targets.iter().map(|target| (*target, Vec::new())).collect();
    let started = Instant::now();
    let mut repeated = false;
    send().ok()?;
    while started.elapsed() < PATIENCE {
        if !repeated && started.elapsed() >= REPEAT {
            repeated = true;
            // What the first request did not reach is found by the first one's answers, if at all.
            let _ = send();
        }
        let Some((sender, owner)) = receive(&socket, link.ifindex()) else { continue };
        if let Some(owners) = found.get_mut(&sender).filter(|owners| owner != mac && !owners.contains(&owner))
        {
            owners.push(owner);
        }
    }
    Some(found)
}

fn link_address(interface: &str) -> Option<LinkAddr> {
    let mut all = getifaddrs().ok()?.filter(|entry| entry.interface_name == interface);
    all.find_map(|entry| entry.address?.as_link_addr().copied())
}

/// One answer that arrived on the interface with this index: the address, and the MAC address that has it.
fn receive(socket: &Socket, index: usize) -> Option<(Ipv4Addr, [u8; 6])> {
    let mut buffer = [0; 128];
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).ok()?;
    if from?.ifindex() != index {
        return None;
    }
    let frame = EthernetPacket::new(&buffer[..length])?;
    let arp = ArpPacket::new(frame.payload())?;
    let is_answer = frame.get_ethertype() == EtherTypes::Arp && arp.get_operation() == ArpOperations::Reply;
    is_answer.then(|| (arp.get_sender_proto_addr(), arp.get_sender_hw_addr().octets()))
}

fn request(mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> [u8; ETHERNET_HEADER + ARP_LENGTH] {
    let mut body = [0; ARP_LENGTH];
    let mut arp = MutableArpPacket::new(&mut body).expect("because the buffer has the fixed size of ARP");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac.into());
    arp.set_sender_proto_addr(source);
    arp.set_target_proto_addr(target);
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
