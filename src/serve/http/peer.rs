//! Who is at the other end of a connection: for the log, and for counting connections per peer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc::{AF_INET, AF_INET6};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use tokio::net::{TcpStream, UnixStream};

use super::places::PeerKey;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub String);

/// A connection with the address of its peer.
pub(crate) trait Known {
    /// Uid and pid for a Unix socket (SO_PEERCRED), address and port for TCP; ends up in the log.
    fn peer(&self) -> Peer;

    /// Whose connection this is.
    fn key(&self) -> PeerKey;
}

impl Known for UnixStream {
    fn peer(&self) -> Peer {
        let Ok(credentials) = self.peer_cred() else { return Peer("unknown".to_owned()) };
        let pid = credentials.pid().map(|pid| format!(", pid {pid}")).unwrap_or_default();
        Peer(format!("uid {}{pid}", credentials.uid()))
    }

    fn key(&self) -> PeerKey {
        self.peer_cred().map_or(PeerKey::Unknown, |credentials| PeerKey::Uid(credentials.uid()))
    }
}

impl Known for TcpStream {
    fn peer(&self) -> Peer {
        Peer(self.peer_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string()))
    }

    /// All users of this host have the same address, so the owner of the other socket distinguishes them.
    fn key(&self) -> PeerKey {
        let (Ok(peer), Ok(own)) = (self.peer_addr(), self.local_addr()) else { return PeerKey::Unknown };
        let is_local = peer.ip().is_loopback() || peer.ip() == own.ip();
        let uid = if is_local { owner(peer, own).ok() } else { None };
        uid.map_or(PeerKey::Address(peer.ip().to_canonical()), PeerKey::Uid)
    }
}

/// include/uapi/linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Header and `struct inet_diag_req_v2`.
const REQUEST_LENGTH: u32 = 16 + 56;
/// `idiag_uid` of `struct inet_diag_msg`, behind the header.
const UID: std::ops::Range<usize> = 16 + 64..16 + 68;

/// The user who has opened the TCP socket with these addresses on this host (sock_diag(7)). The kernel answers before
/// the request returns, so this does not wait.
fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<u32> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )?;
    let request = request(local, remote);
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let uid = answer[..length].get(UID).filter(|_| kind == SOCK_DIAG_BY_FAMILY);
    let uid = uid.and_then(|bytes| bytes.try_into().ok()).ok_or(io::ErrorKind::NotFound)?;
    Ok(u32::from_ne_bytes(uid))
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    const REQUEST: u16 = 1;
    const TCP: u8 = 6;
    let addresses = [local, remote].map(|address| address.ip().to_canonical());
    let family = if addresses[0].is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = Vec::with_capacity(REQUEST_LENGTH as usize);
    bytes.extend(REQUEST_LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family.to_le_bytes()[0], TCP, 0, 0]);
    // All states.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for address in addresses {
        let mut field = [0; 16];
        match address {
            IpAddr::V4(v4) => field[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => field = v6.octets(),
        }
        bytes.extend(field);
    }
    bytes.extend([0; 4]);
    // INET_DIAG_NOCOOKIE
    bytes.extend([u8::MAX; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_local_peer_is_known_by_its_user() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
            let mut to = listener.local_addr().unwrap();
            if to.ip().is_unspecified() {
                to.set_ip(IpAddr::from([127, 0, 0, 1]));
            }
            let client = TcpStream::connect(to).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert_eq!(accepted.key(), PeerKey::Uid(nix::unistd::geteuid().as_raw()), "{address}");
            assert_eq!(accepted.peer().0, accepted.peer_addr().unwrap().to_string());
            drop(client);
        }
        assert!(owner("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()).is_err());
    }
}
