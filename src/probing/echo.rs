//! Echo requests to a VIP, wrapped here for the real server under test.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use arc_swap::ArcSwap;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::Hold;
use super::icmp_receiver::Received;
use crate::director::cluster::Cluster;
use crate::director::pins::{Found, Pins};
use crate::encapsulation::{Outer, Ttl};
use crate::packet::ipv4::{self, Header};
use crate::packet::{Flow, Frame, checksum, icmp, protocol};

/// linux/in.h: the socket sends packets with their header, and receives none.
const IPPROTO_RAW: i32 = 255;

const TTL: u8 = 64;

/// Echo requests to the VIP at one real server, and their replies. The socket has an identifier of its own: messages carry
/// that of the check.
pub struct ProbeEcho {
    socket: Socket,
    cluster: Arc<ArcSwap<Cluster>>,
    pins: Arc<Pins>,
    hold: Hold,
    /// Of the messages that were given to be sent.
    identifier: u16,
    /// Of the packets, so that their fragments do not mix where a network ignores DF.
    identification: u16,
}

impl ProbeEcho {
    pub(super) fn new(
        socket: Socket,
        cluster: Arc<ArcSwap<Cluster>>,
        pins: Arc<Pins>,
        hold: Hold,
    ) -> ProbeEcho {
        let identification = hold.lease.port();
        ProbeEcho { socket, cluster, pins, hold, identifier: 0, identification }
    }

    /// Sends an ICMP message, whose checksum is computed here, with DF in both headers.
    ///
    /// # Errors
    /// EMSGSIZE if it is larger than the interface takes; an error about an earlier message comes with
    /// [`ProbeEcho::receive`].
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let Some(flow) = self.hold.pinned.as_ref().map(|pinned| *pinned.flow()) else { return Ok(()) };
        if message.len() >= icmp::HEADER {
            self.identifier = icmp::field::IDENTIFIER.read(message);
        }
        self.identification = self.identification.wrapping_add(1);
        let packet = request(&flow, message, self.identification).ok_or(Errno::EMSGSIZE)?;
        let (packet, rip) = self.wrapped(&flow, &packet)?;
        self.socket.send_to(&packet, &SocketAddrV4::new(rip, 0).into()).map(drop)
    }

    fn wrapped(&self, flow: &Flow, packet: &[u8]) -> io::Result<(Vec<u8>, Ipv4Addr)> {
        let cluster = self.cluster.load();
        let Found::To(server) = self.pins.find(&cluster, flow, (self.hold.now)()) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the real server is no longer configured"));
        };
        let (source, destination) = (server.path.source, server.rip);
        let ttl = match cluster.config().ttl {
            Ttl::Inherit => Ttl::Fixed(TTL),
            fixed => fixed,
        };
        let mut frame = Frame::from_packet(packet);
        let outer = Outer { source, destination, ttl, ignores_df: false };
        let row = server.config.encapsulation;
        (row.encapsulate)(&mut frame, &outer, &server.soft.identifications).map_err(|_| Errno::EMSGSIZE)?;
        Ok((frame.packet().to_vec(), destination))
    }

    /// The next echo reply, a whole ICMP message. Cancel-safe.
    ///
    /// # Errors
    /// What an ICMP error reports about a request: EHOSTUNREACH, or ENOPROTOOPT where no program of the real server takes
    /// encapsulated packets.
    pub async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut message = match self.hold.inbox.next().await {
            Received::Error(errno) => return Err(errno.into()),
            Received::Reply(message) => message,
        };
        icmp::field::IDENTIFIER.write(&mut message, self.identifier);
        checksum::fill(&mut message, icmp::field::CHECKSUM, 0);
        Ok(message)
    }
}

/// The packet of an ICMP message from the client of the flow to its VIP, with the identifier of the flow; `None` if it is
/// too long for a packet or too short for a message.
fn request(flow: &Flow, message: &[u8], identification: u16) -> Option<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (flow.client, flow.vip) else { return None };
    if message.len() < icmp::HEADER {
        return None;
    }
    let mut bytes = [&[0; ipv4::HEADER][..], message].concat();
    let inner = &mut bytes[ipv4::HEADER..];
    icmp::field::IDENTIFIER.write(inner, flow.client_port);
    icmp::field::CHECKSUM.write(inner, 0);
    checksum::fill(inner, icmp::field::CHECKSUM, 0);
    let header = Header {
        tos: 0,
        total_length: u16::try_from(bytes.len()).ok()?,
        identification,
        dont_fragment: true,
        ttl: TTL,
        protocol: protocol::ICMP,
        source,
        destination,
    };
    header.write(&mut bytes);
    Some(bytes)
}

pub(super) fn raw() -> io::Result<Socket> {
    let kind = Type::RAW.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.set_header_included_v4(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::icmp::Icmp;
    use crate::packet::ipv4::Ipv4;

    #[test]
    fn a_request_has_the_identifier_of_its_flow_and_df() {
        let flow = Flow {
            protocol: protocol::ICMP,
            client: [172, 25, 3, 1].into(),
            client_port: 61_234,
            vip: [172, 25, 3, 100].into(),
            vip_port: 0,
        };
        let packet = request(&flow, &[8, 0, 9, 9, 1, 2, 0, 5, b'x'], 77).unwrap();
        let ip = Ipv4::parse(&packet).unwrap();
        assert_eq!((ip.source().octets(), ip.destination().octets()), ([172, 25, 3, 1], [172, 25, 3, 100]));
        assert!(ip.has_dont_fragment() && ip.identification() == 77);
        let message = Icmp::parse(ip.payload()).unwrap();
        assert_eq!((message.kind(), message.identifier(), message.body()), (8, 61_234, &b"x"[..]));
        assert_eq!(request(&flow, &[8; 7], 77), None, "no whole header");
        assert_eq!(request(&flow, &[8; 65_516], 77), None, "larger than a packet");
        assert!(request(&flow, &[8; 65_515], 77).is_some());
    }
}
