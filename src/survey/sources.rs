//! Who sends encapsulated packets right now.

use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::protocol;

/// The sources of packets of IP protocol 4 that arrive within this time; `None` without the privilege to receive them.
///
/// A second raw socket takes nothing from the daemon's: the kernel gives each a copy (raw(7)).
pub(super) fn sources(within: Duration) -> Option<Vec<Ipv4Addr>> {
    let socket =
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol::IPIP)))).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let started = Instant::now();
    let mut found = Vec::new();
    while started.elapsed() < within {
        let mut buffer = [MaybeUninit::uninit(); 64];
        let Ok((_, from)) = socket.recv_from(&mut buffer) else { continue };
        let source = from.as_socket_ipv4().map(|address| *address.ip());
        found.extend(source.filter(|source| !found.contains(source)));
    }
    Some(found)
}
