//! What a probe needs of the network. One implementation goes straight to an address ([`super::direct`]); the one that
//! goes through the tunnel is another.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::health::Via;

/// Where a probe goes, and which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Place {
    pub via: Via,
    pub vip: IpAddr,
    pub rip: IpAddr,
    /// The name of the virtual service.
    pub virtual_service: String,
    /// What the probe is addressed to: the VIP, the RIP or the check's own address. The port is 0 for echo requests.
    pub address: SocketAddr,
    /// Whether the real server is the director's own host.
    pub is_local: bool,
}

/// A socket that sends and receives whole messages, from and to one peer.
pub(in crate::daemon) trait Datagrams: Send {
    /// Sends one message.
    fn send(&mut self, message: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for a message of the peer. While it waits it holds no buffer: thousands of sockets may wait.
    fn receive(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}

/// Opens the sockets of probes.
pub(in crate::daemon) trait ProbeSockets: Send + Sync + 'static {
    type Tcp: AsyncRead + AsyncWrite + Send + Unpin;
    type Udp: Datagrams;
    type Echo: Datagrams;

    /// Waits until the connection is established.
    fn connect_tcp(&self, place: &Place) -> impl Future<Output = io::Result<Self::Tcp>> + Send;

    /// The socket reports ICMP errors about what it has sent: port unreachable as ECONNREFUSED.
    fn open_udp(&self, place: &Place) -> impl Future<Output = io::Result<Self::Udp>> + Send;

    /// Messages are whole ICMP messages, from their type on. The socket sets DF, and computes the checksum of what it sends.
    fn open_echo(&self, place: &Place) -> impl Future<Output = io::Result<Self::Echo>> + Send;
}
