//! Sockets of probes that the host routes like any other packet: `via = "direct"`, and a real server that is the
//! director's own host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

use super::sockets::{Datagrams, Place, ProbeSockets};
use crate::health::Via;
use crate::packet::checksum::checksum;
use crate::probing::received;

/// The length of an IPv4 header without options; a raw socket delivers it (raw(7)).
const IPV4_HEADER: usize = 20;

/// The place of the checksum in an ICMP message (RFC 792).
const CHECKSUM: std::ops::Range<usize> = 2..4;

/// RFC 792. A host that queries itself gets its own requests, too.
const ECHO_REQUEST: u8 = 8;

/// Sockets without any binding.
pub(in crate::daemon) struct DirectSockets;

impl ProbeSockets for DirectSockets {
    type Tcp = TcpStream;
    type Udp = UdpSocket;
    type Echo = DirectEcho;

    async fn connect_tcp(&self, place: &Place) -> io::Result<TcpStream> {
        is_direct(place)?;
        TcpStream::connect(place.address).await
    }

    async fn open_udp(&self, place: &Place) -> io::Result<UdpSocket> {
        is_direct(place)?;
        let any: IpAddr = match place.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(place.address).await?;
        Ok(socket)
    }

    async fn open_echo(&self, place: &Place) -> io::Result<DirectEcho> {
        is_direct(place)?;
        DirectEcho::open(place.address.ip())
    }
}

/// A packet for the VIP that is not wrapped would reach any real server.
fn is_direct(place: &Place) -> io::Result<()> {
    match place.via == Via::Direct || place.is_local {
        true => Ok(()),
        false => {
            let text = "these sockets do not go through the tunnel; set via = \"direct\"";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

impl Datagrams for UdpSocket {
    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        UdpSocket::send(self, message).await.map(drop)
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        received(self).await
    }
}

/// A raw ICMP socket that is connected to one host: it gets ICMP messages of that host alone.
pub(in crate::daemon) struct DirectEcho {
    socket: UdpSocket,
}

impl DirectEcho {
    fn open(address: IpAddr) -> io::Result<DirectEcho> {
        let IpAddr::V4(_) = address else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only IPv4 hosts can be sent echo requests",
            ));
        };
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        // ip(7) IP_MTU_DISCOVER: DF is set, and what the kernel has of the path does not limit a packet.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        socket.connect(&SockAddr::from(SocketAddr::new(address, 0)))?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(DirectEcho { socket })
    }
}

impl Datagrams for DirectEcho {
    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.socket.send(&with_checksum(message)).await.map(drop)
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let packet = received(&self.socket).await?;
            let header = packet.first().map_or(IPV4_HEADER, |first| usize::from(first & 0x0f) * 4);
            let is_answer = |message: &&[u8]| message.first().is_some_and(|kind| *kind != ECHO_REQUEST);
            let Some(message) = packet.get(header..).filter(is_answer) else { continue };
            return Ok(message.to_vec());
        }
    }
}

/// The message with its checksum (RFC 1071).
fn with_checksum(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(place) = message.get_mut(CHECKSUM) {
        place.fill(0);
        let checksum = checksum(&message);
        message[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}
