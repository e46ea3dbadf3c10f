//! The sockets of all probes: through the tunnel, or straight to an address.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use super::direct::{DirectEcho, DirectSockets};
use super::sockets::{Datagrams, Place, ProbeSockets};
use crate::health::Via;
use crate::probing::{Destination, ProbeDatagrams, ProbeEcho, ProbeNet, ProbeStream};

/// Opens the sockets of probes, whichever way they go.
pub(in crate::daemon) struct AllSockets(ProbeNet);

impl AllSockets {
    pub(in crate::daemon) fn new(net: ProbeNet) -> AllSockets {
        AllSockets(net)
    }
}

/// One of two kinds of sockets.
pub(in crate::daemon) enum Either<T, D> {
    Tunnelled(T),
    Direct(D),
}

/// Where a probe goes through the tunnel; `None`: straight to the address. The director's own host needs no tunnel.
fn tunnelled(place: &Place) -> Option<Destination> {
    let Place { via, rip, virtual_service, address, is_local, .. } = place;
    let is_tunnelled = *via == Via::Tunnel && !is_local;
    is_tunnelled.then(|| Destination {
        virtual_service: virtual_service.clone(),
        rip: *rip,
        address: *address,
    })
}

impl ProbeSockets for AllSockets {
    type Tcp = Either<ProbeStream, TcpStream>;
    type Udp = Either<ProbeDatagrams, UdpSocket>;
    type Echo = Either<ProbeEcho, DirectEcho>;

    async fn connect_tcp(&self, place: &Place) -> io::Result<Self::Tcp> {
        match tunnelled(place) {
            Some(to) => self.0.connect_tcp(&to).await.map(Either::Tunnelled),
            None => DirectSockets.connect_tcp(place).await.map(Either::Direct),
        }
    }

    async fn open_udp(&self, place: &Place) -> io::Result<Self::Udp> {
        match tunnelled(place) {
            Some(to) => self.0.open_udp(&to).map(Either::Tunnelled),
            None => DirectSockets.open_udp(place).await.map(Either::Direct),
        }
    }

    async fn open_echo(&self, place: &Place) -> io::Result<Self::Echo> {
        match tunnelled(place) {
            Some(to) => self.0.open_echo(&to).map(Either::Tunnelled),
            None => DirectSockets.open_echo(place).await.map(Either::Direct),
        }
    }
}

impl Datagrams for ProbeDatagrams {
    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        ProbeDatagrams::send(self, message).await
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        ProbeDatagrams::receive(self).await
    }
}

impl Datagrams for ProbeEcho {
    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        ProbeEcho::send(self, message)
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        ProbeEcho::receive(self).await
    }
}

impl<T: Datagrams, D: Datagrams> Datagrams for Either<T, D> {
    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Either::Tunnelled(socket) => socket.send(message).await,
            Either::Direct(socket) => socket.send(message).await,
        }
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Either::Tunnelled(socket) => socket.receive().await,
            Either::Direct(socket) => socket.receive().await,
        }
    }
}

impl<T: AsyncRead + Unpin, D: AsyncRead + Unpin> AsyncRead for Either<T, D> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Either::Tunnelled(stream) => Pin::new(stream).poll_read(context, buffer),
            Either::Direct(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<T: AsyncWrite + Unpin, D: AsyncWrite + Unpin> AsyncWrite for Either<T, D> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Either::Tunnelled(stream) => Pin::new(stream).poll_write(context, bytes),
            Either::Direct(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Either::Tunnelled(stream) => Pin::new(stream).poll_flush(context),
            Either::Direct(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Either::Tunnelled(stream) => Pin::new(stream).poll_shutdown(context),
            Either::Direct(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_of_another_host_goes_through_the_tunnel_unless_its_check_is_direct() {
        let place = |via, is_local| Place {
            via,
            vip: [172, 25, 3, 100].into(),
            rip: [172, 25, 3, 2].into(),
            virtual_service: "web".to_owned(),
            address: ([172, 25, 3, 100], 80).into(),
            is_local,
        };
        let to = tunnelled(&place(Via::Tunnel, false)).expect("a way through the tunnel");
        assert_eq!(
            (to.rip.to_string(), to.address.to_string()),
            ("172.25.3.2".into(), "172.25.3.100:80".into())
        );
        assert!(
            [(Via::Tunnel, true), (Via::Direct, false), (Via::Direct, true)]
                .into_iter()
                .all(|(via, is_local)| tunnelled(&place(via, is_local)).is_none())
        );
    }
}
