//! Probes over the kernel's own sockets: TCP and UDP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Hold;
use crate::host::PROBE_MARK;

/// The longest datagram (RFC 768).
const DATAGRAM_MAX: usize = 65_535;

/// A connection to the VIP at one real server. Its end is a reset, so that no port waits (TIME-WAIT) at either side.
pub struct ProbeStream {
    // Dropped first: the reset follows the pin.
    stream: TcpStream,
    _hold: Hold,
}

impl ProbeStream {
    pub(super) async fn connect(
        socket: TcpSocket,
        address: SocketAddr,
        mut hold: Hold,
    ) -> io::Result<ProbeStream> {
        let stream = tokio::select! {
            connected = socket.connect(address) => connected?,
            // The kernel does not accept it from a VIP that is an address of this host.
            error = hold.inbox.error() => return Err(error),
        };
        Ok(ProbeStream { stream, _hold: hold })
    }
}

impl AsyncRead for ProbeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ProbeStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Datagrams to and from the VIP at one real server.
pub struct ProbeDatagrams {
    socket: UdpSocket,
    hold: Hold,
}

impl ProbeDatagrams {
    pub(super) fn new(socket: UdpSocket, hold: Hold) -> ProbeDatagrams {
        ProbeDatagrams { socket, hold }
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The kernel's, also one about an earlier datagram.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(drop)
    }

    /// The next datagram. Cancel-safe.
    ///
    /// # Errors
    /// What an ICMP error reports about a datagram: ECONNREFUSED if no program has the port.
    pub async fn receive(&mut self) -> io::Result<Vec<u8>> {
        tokio::select! {
            received = received(&self.socket) => received,
            error = self.hold.inbox.error() => Err(error),
        }
    }
}

/// The next datagram of a socket, which gets a buffer when there is one: thousands of probes may wait for an answer.
/// Cancel-safe.
pub(crate) async fn received(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut buffer = vec![0; DATAGRAM_MAX];
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A socket with the mark of probes. Other probes of this host may have the same port for another destination.
fn marked(kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind.nonblocking().cloexec(), Some(protocol))?;
    socket.set_mark(PROBE_MARK)?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

pub(super) fn bound_tcp(source: Ipv4Addr, port: u16) -> io::Result<TcpSocket> {
    let socket = marked(Type::STREAM, Protocol::TCP)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((source, port)).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

pub(super) fn connected_udp(source: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = marked(Type::DGRAM, Protocol::UDP)?;
    socket.bind(&source.into())?;
    socket.connect(&to.into())?;
    UdpSocket::from_std(socket.into())
}
