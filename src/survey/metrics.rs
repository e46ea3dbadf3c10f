//! Reads a daemon's metrics.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::doctor::samples::Samples;

const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than any exposition, shorter than memory.
const LENGTH_MAX: u64 = 64 << 20;

/// `None` if no daemon answers there.
pub(super) fn of(address: SocketAddr) -> Option<Samples> {
    let text = get(reachable(address)).ok()?;
    text.split(' ').nth(1).is_some_and(|status| status == "200").then(|| Samples::parse(&text))
}

/// Where a program that listens on all addresses is reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.take(LENGTH_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_all_addresses_is_reached_on_the_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9690"), "127.0.0.1:9690");
        assert_eq!(of("[::]:9690"), "[::1]:9690");
        assert_eq!(of("172.25.3.1:9690"), "172.25.3.1:9690");
    }
}
