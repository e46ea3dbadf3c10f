//! Names as this host resolves them: its files, its name servers, in its configured order. Each name is
//! looked up once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns_lookup::{AddrInfoHints, SockType};

use crate::control::ipvsadm::names::Names;
use crate::control::ipvsadm::options::Transport;

#[derive(Default)]
pub(in crate::cli) struct HostNames {
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
    services: RefCell<HashMap<(u16, Transport), Option<String>>>,
}

impl Names for HostNames {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        // Any failure means that there is no address; the grammar reports which word is wrong.
        dns_lookup::lookup_host(host).ok()?.find_map(|address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, service: &str, transport: Transport) -> Option<u16> {
        let socktype = match transport {
            Transport::Tcp => SockType::Stream,
            Transport::Udp => SockType::DGram,
            // The resolver has no socket type for SCTP services.
            Transport::Sctp => return None,
        };
        // getaddrinfo(3) accepts any number as a port and truncates it to 16 bits.
        let digits = service.trim_start().trim_start_matches(['+', '-']);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let hints = AddrInfoHints { socktype: socktype.into(), ..AddrInfoHints::default() };
        let mut found = dns_lookup::getaddrinfo(None, Some(service), Some(hints)).ok()?;
        found.find_map(Result::ok).map(|info| info.sockaddr.port())
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        remembered(&self.hosts, address, || {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            name.parse::<IpAddr>().is_err().then_some(name)
        })
    }

    fn service_of(&self, port: u16, transport: Transport) -> Option<String> {
        let flags = match transport {
            Transport::Tcp => libc::NI_NUMERICHOST,
            Transport::Udp => libc::NI_NUMERICHOST | libc::NI_DGRAM,
            Transport::Sctp => return None,
        };
        remembered(&self.services, (port, transport), || {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let (_, name) = dns_lookup::getnameinfo(&address, flags).ok()?;
            name.parse::<u16>().is_err().then_some(name)
        })
    }
}

/// Remembers failures too, so that a silent name server costs one time-out, not one per row.
fn remembered<K: Hash + Eq>(
    memory: &RefCell<HashMap<K, Option<String>>>,
    key: K,
    ask: impl FnOnce() -> Option<String>,
) -> Option<String> {
    memory.borrow_mut().entry(key).or_insert_with(ask).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_host_has_in_its_files() {
        let names = HostNames::default();
        assert_eq!(names.address("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(names.address("no-such-name.invalid"), None);
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(names.host_of(loopback), names.host_of(loopback));
        assert_eq!(names.service_of(65_533, Transport::Tcp), None);
        for word in ["no-such-service", "99999", " 99999", "-1", "+80", "", "99999999999999999999"] {
            assert_eq!(names.port(word, Transport::Tcp), None, "{word:?}");
        }
    }
}
