//! Gratuitous ARP: announces to the neighbours of an interface that a VIP is at its Ethernet address.
//!
//! A request ([`arp::request`]) with sender = target = VIP (RFC 5227 §2.3, ARP Announcement): every stack updates its
//! cache from it. IPv6 uses unsolicited neighbour advertisements, which are not implemented here.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, sendto};
use socket2::{Domain, Socket, Type};

use super::arp;
use super::error::HostError;

/// ANNOUNCE_NUM of RFC 5227 §2.3. The first is sent at once, the others with the ticks of `follow::TICK`
/// (ANNOUNCE_INTERVAL is 2 s).
pub(super) const ANNOUNCEMENTS: u8 = 2;

/// Sends one gratuitous ARP for each VIP on the Ethernet interface named `interface`.
///
/// Blocks for some milliseconds, because closing a packet socket waits for readers in the kernel. Needs
/// CAP_NET_RAW. Refuses interfaces without an Ethernet address.
pub(super) fn announce(interface: &str, vips: &[Ipv4Addr]) -> Result<(), HostError> {
    send(interface, vips, "announce VIPs", |vip| vip)
}

/// Sends one ARP probe for each VIP, which its owners answer (RFC 5227 §2.1.1). As [`announce`] otherwise.
pub(super) fn probe(interface: &str, vips: &[Ipv4Addr]) -> Result<(), HostError> {
    send(interface, vips, "probe VIPs", |_| Ipv4Addr::UNSPECIFIED)
}

fn send(
    interface: &str,
    vips: &[Ipv4Addr],
    what: &str,
    sender: impl Fn(Ipv4Addr) -> Ipv4Addr,
) -> Result<(), HostError> {
    let failed = |error: io::Error| HostError::from_io(format!("{what} on {interface}"), &error);
    let (link, mac) = arp::link_address(interface)?;
    let mac = mac.ok_or_else(|| HostError::NoHardwareAddress(interface.to_owned()))?;
    // Protocol 0: a packet socket that only sends and receives nothing (packet(7)).
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(failed)?;
    for vip in vips {
        let frame = arp::request(mac, sender(*vip), *vip);
        sendto(socket.as_raw_fd(), &frame, &link, MsgFlags::empty()).map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}
