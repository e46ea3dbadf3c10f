//! Names for addresses and ports: looked up on the host, or not at all (`-n`).

use std::net::{IpAddr, Ipv4Addr};

use super::options::Transport;

/// Resolves names. An implementation may read files and query servers.
pub trait Names {
    /// The IPv4 address of a host, if the name can be resolved.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;
    /// The port of a service in /etc/services.
    fn port(&self, service: &str, transport: Transport) -> Option<u16>;
    /// The reverse of [`Names::address`], for lists.
    fn host_of(&self, address: IpAddr) -> Option<String>;
    /// The reverse of [`Names::port`], for lists.
    fn service_of(&self, port: u16, transport: Transport) -> Option<String>;
}

/// No names: lists are numeric, and words on the command line must be numbers, too.
pub struct Numeric;

impl Names for Numeric {
    fn address(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _: &str, _: Transport) -> Option<u16> {
        None
    }

    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn service_of(&self, _: u16, _: Transport) -> Option<String> {
        None
    }
}

/// `host:port`, an IPv6 address in brackets. IPv6 addresses and port 0 have no names, as in
/// addrport_to_anyname() of ipvsadm.c.
pub fn place_text(address: IpAddr, port: &str, names: &dyn Names) -> String {
    match address {
        IpAddr::V4(v4) => {
            let host = names.host_of(address).unwrap_or_else(|| v4.to_string());
            format!("{host}:{port}")
        }
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

/// A port's name, or its number.
pub fn port_text(port: u16, transport: Transport, names: &dyn Names) -> String {
    let name = if port == 0 { None } else { names.service_of(port, transport) };
    name.unwrap_or_else(|| port.to_string())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A host's files, for tests.
    #[derive(Default)]
    pub(crate) struct FixedNames {
        hosts: Vec<(&'static str, Ipv4Addr)>,
        services: Vec<(&'static str, Transport, u16)>,
    }

    impl FixedNames {
        pub(crate) fn new(
            hosts: &[(&'static str, [u8; 4])],
            services: &[(&'static str, Transport, u16)],
        ) -> FixedNames {
            let hosts = hosts.iter().map(|(name, address)| (*name, Ipv4Addr::from(*address))).collect();
            FixedNames { hosts, services: services.to_vec() }
        }
    }

    impl Names for FixedNames {
        fn address(&self, host: &str) -> Option<Ipv4Addr> {
            self.hosts.iter().find(|(name, _)| *name == host).map(|(_, address)| *address)
        }

        fn port(&self, service: &str, transport: Transport) -> Option<u16> {
            let mut rows = self.services.iter();
            rows.find(|(name, of, _)| (*name, *of) == (service, transport)).map(|(_, _, port)| *port)
        }

        fn host_of(&self, address: IpAddr) -> Option<String> {
            self.hosts.iter().find(|(_, known)| *known == address).map(|(name, _)| (*name).to_owned())
        }

        fn service_of(&self, port: u16, transport: Transport) -> Option<String> {
            let mut rows = self.services.iter();
            rows.find(|(_, of, known)| (*known, *of) == (port, transport))
                .map(|(name, _, _)| (*name).to_owned())
        }
    }
}
