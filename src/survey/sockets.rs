//! Sockets that wait for clients, from /proc/net (proc_net(5)).

use std::net::Ipv4Addr;

use crate::doctor::facts::Socket;
use crate::packet::Protocol;

/// `net/tcp_states.h`: TCP_LISTEN, and TCP_CLOSE for a UDP socket that is not connected.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// An IPv6 socket on all addresses also accepts IPv4, unless its program has set IPV6_V6ONLY, which the tables do not
/// show.
pub(super) fn waiting() -> Vec<Socket> {
    let tables = [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ];
    let mut found = Vec::new();
    for (name, protocol, state) in tables {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| socket(line, protocol, state)));
    }
    found
}

/// "0: 0100007F:0050 00000000:0000 0A …"
fn socket(line: &str, protocol: Protocol, state: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _, found) = (fields.next()?, fields.next()?, fields.next()?);
    let (address, port) = local.rsplit_once(':')?;
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
}
