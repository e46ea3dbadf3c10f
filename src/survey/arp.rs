//! Queries by ARP who has an address (RFC 826), and collects all answers.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use pnet_packet::Packet;
use pnet_packet::arp::{ArpOperations, ArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::arp;

/// `if_ether.h`.
const ETH_P_ARP: u16 = 0x0806;

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
    let (link, mac) = arp::link_address(interface).ok()?;
    let mac = mac?;
    let protocol = Protocol::from(i32::from(ETH_P_ARP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let send = || -> io::Result<()> {
        for target in targets {
            sendto(socket.as_raw_fd(), &arp::request(mac, source, *target), &link, MsgFlags::empty())?;
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

/// One answer that arrived on the interface with this index: the address, and the MAC address that has it.
fn receive(socket: &Socket, index: usize) -> Option<(Ipv4Addr, [u8; 6])> {
    let mut buffer = [0; 128];
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).ok()?;
    if from?.ifindex() != index {
        return None;
    }
    let frame = EthernetPacket::new(&buffer[..length])?;
    let message = ArpPacket::new(frame.payload())?;
    let is_answer =
        frame.get_ethertype() == EtherTypes::Arp && message.get_operation() == ArpOperations::Reply;
    is_answer.then(|| (message.get_sender_proto_addr(), message.get_sender_hw_addr().octets()))
}
