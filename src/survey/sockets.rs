//! Sockets that wait for clients: from the kernel's socket table by sock_diag(7), otherwise from /proc/net (proc_net(5)),
//! where a kernel has no `inet_diag`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, NetlinkAddr, sendto};
use socket2::{Domain, Socket as Raw, Type};

use crate::doctor::facts::Socket;
use crate::packet::Protocol;

/// `net/tcp_states.h`: TCP_LISTEN, and TCP_CLOSE for a UDP socket that is not connected.
const LISTEN: u8 = 10;
const UNCONNECTED: u8 = 7;

const TABLES: [(Table, Protocol, u8); 4] = [
    (Table { name: "tcp", family: AF_INET }, Protocol::Tcp, LISTEN),
    (Table { name: "tcp6", family: AF_INET6 }, Protocol::Tcp, LISTEN),
    (Table { name: "udp", family: AF_INET }, Protocol::Udp, UNCONNECTED),
    (Table { name: "udp6", family: AF_INET6 }, Protocol::Udp, UNCONNECTED),
];

/// `linux/socket.h`, `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// struct nlmsghdr, struct inet_diag_req_v2, struct inet_diag_msg.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const MESSAGE: usize = 72;

/// The kernel answers within its system call.
const PATIENCE: Duration = Duration::from_secs(1);

struct Table {
    /// Below /proc/net.
    name: &'static str,
    family: u8,
}

/// All of this network namespace, as far as they serve IPv4.
pub(crate) fn waiting() -> Vec<Socket> {
    let mut found = Vec::new();
    for (table, protocol, state) in TABLES {
        found.extend(dump(table.family, protocol, state).unwrap_or_else(|_| listed(&table, protocol, state)));
    }
    found
}

/// The sockets in this state, of one family and protocol.
fn dump(family: u8, protocol: Protocol, state: u8) -> io::Result<Vec<Socket>> {
    let socket = Raw::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(NETLINK_SOCK_DIAG.into()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &question(family, protocol, state), &kernel, MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(io::Error::other("the kernel has no table of this kind")),
                _ => found.extend(described(body, protocol)),
            }
            rest = next;
        }
    }
}

fn question(family: u8, protocol: Protocol, state: u8) -> Vec<u8> {
    let length = u32::try_from(HEADER + QUESTION).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, protocol.number(), 0, 0]);
    bytes.extend((1_u32 << state).to_ne_bytes());
    bytes.resize(HEADER + QUESTION, 0);
    bytes
}

/// The type and the body of the first message, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    // NLMSG_ALIGN
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// A socket from its struct inet_diag_msg with attributes, if it serves IPv4.
fn described(body: &[u8], protocol: Protocol) -> Option<Socket> {
    let family = *body.first()?;
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let source: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let address = match family {
        AF_INET => Ipv4Addr::new(source[0], source[1], source[2], source[3]),
        _ if source == [0; 16] && is_ipv6_only(body.get(MESSAGE..)?) => return None,
        _ if source == [0; 16] => Ipv4Addr::UNSPECIFIED,
        _ => std::net::Ipv6Addr::from(source).to_ipv4_mapped()?,
    };
    Some(Socket { protocol, address: Some(address).filter(|address| !address.is_unspecified()), port })
}

/// Whether the program has set IPV6_V6ONLY.
fn is_ipv6_only(mut attributes: &[u8]) -> bool {
    while let [a, b, c, d, ..] = attributes {
        let (length, kind) = (u16::from_ne_bytes([*a, *b]), u16::from_ne_bytes([*c, *d]));
        if kind == INET_DIAG_SKV6ONLY {
            return attributes.get(4) == Some(&1);
        }
        let next = usize::from(length).next_multiple_of(4).max(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    false
}

/// An IPv6 socket on all addresses also accepts IPv4, unless its program has set IPV6_V6ONLY, which this table does not
/// show.
fn listed(table: &Table, protocol: Protocol, state: u8) -> Vec<Socket> {
    let text = std::fs::read_to_string(format!("/proc/thread-self/net/{}", table.name)).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| socket(line, protocol, state)).collect()
}

/// "0: 0100007F:0050 00000000:0000 0A …"
fn socket(line: &str, protocol: Protocol, state: u8) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _, found) = (fields.next()?, fields.next()?, fields.next()?);
    let (address, port) = local.rsplit_once(':')?;
    let found = u8::from_str_radix(found, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok().filter(|_| found == state)?;
    let address = match address.len() {
        8 => Some(ipv4(address)?).filter(|address| !address.is_unspecified()),
        // ::ffff:a.b.c.d, or all addresses; others serve no IPv4.
        32 if address.starts_with("0000000000000000FFFF0000") => Some(ipv4(&address[24..])?),
        32 if address.bytes().all(|digit| digit == b'0') => None,
        _ => return None,
    };
    Some(Socket { protocol, address, port })
}

/// In the host's byte order, as the kernel prints it.
fn ipv4(hex: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_is_a_socket_if_it_waits_for_clients() {
        let of = |line: &str| socket(line, Protocol::Tcp, LISTEN).map(|socket| (socket.address, socket.port));
        let rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0";
        assert_eq!(of(&format!("   0: 00000000:0050 {rest}")), Some((None, 80)));
        let rip = Some(Ipv4Addr::new(172, 25, 3, 2));
        assert_eq!(of(&format!("   1: 020319AC:1F90 {rest}")), Some((rip, 8080)));
        assert_eq!(of(&format!("   2: {}:0050 {rest}", "0".repeat(32))), Some((None, 80)));
        assert_eq!(of(&format!("   3: 0000000000000000FFFF0000020319AC:0050 {rest}")), Some((rip, 80)));
        assert_eq!(of(&format!("   4: 000080FE00000000FFFF0000020319AC:0050 {rest}")), None);
        assert_eq!(of(&format!("   5: 00000000:0050 {}", rest.replacen("0A", "01", 1))), None);
        assert_eq!(of("  sl  local_address"), None);
    }

    #[test]
    fn sockets_of_this_process_are_found_by_both_ways() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let both = Raw::new(Domain::IPV6, Type::STREAM, None).unwrap();
        let only = Raw::new(Domain::IPV6, Type::STREAM, None).unwrap();
        for (socket, is_only) in [(&both, false), (&only, true)] {
            socket.set_only_v6(is_only).unwrap();
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
            socket.listen(1).unwrap();
        }
        let port = |socket: &Raw| socket.local_addr().unwrap().as_socket().unwrap().port();
        let home = Some(Ipv4Addr::LOCALHOST);
        let expected = [
            Socket { protocol: Protocol::Tcp, address: home, port: tcp.local_addr().unwrap().port() },
            Socket { protocol: Protocol::Udp, address: home, port: udp.local_addr().unwrap().port() },
            Socket { protocol: Protocol::Tcp, address: None, port: port(&both) },
        ];
        let by_proc = TABLES.iter().flat_map(|(table, protocol, state)| listed(table, *protocol, *state));
        for found in [waiting(), by_proc.collect()] {
            assert!(expected.iter().all(|socket| found.contains(socket)), "{found:?}");
        }
        let v6_only = Socket { protocol: Protocol::Tcp, address: None, port: port(&only) };
        assert!(dump(AF_INET, Protocol::Tcp, LISTEN).is_err() || !waiting().contains(&v6_only));
    }
}
