//! A flow: the fields that packets of one connection share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::ip::Ip;

/// ⟨protocol, CIP:cport, VIP:vport⟩. `protocol` is the IP protocol number; ports are 0 where the
/// protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// A number of [`super::protocol`], or any other: a flow may be one that is not served.
    pub protocol: u8,
    /// CIP: the sender of packets to the VIP.
    pub client: IpAddr,
    /// Host byte order, as `vip_port`.
    pub client_port: u16,
    /// The destination, which need not be a VIP before the director has looked it up.
    pub vip: IpAddr,
    /// The port that clients connect to.
    pub vip_port: u16,
}

impl Flow {
    /// The flow of a packet with this upper-layer protocol and these ports, from its sender's point of view.
    #[inline]
    pub fn of(ip: &Ip, protocol: u8, source_port: u16, destination_port: u16) -> Flow {
        Flow {
            protocol,
            client: ip.source(),
            client_port: source_port,
            vip: ip.destination(),
            vip_port: destination_port,
        }
    }

    /// The flow of the opposite direction, as in a packet quoted by an ICMP error about a reply.
    pub fn reversed(self) -> Flow {
        Flow {
            protocol: self.protocol,
            client: self.vip,
            client_port: self.vip_port,
            vip: self.client,
            vip_port: self.client_port,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            super::protocol::TCP => "tcp",
            super::protocol::UDP => "udp",
            super::protocol::ICMP => "icmp",
            _ => return write!(f, "protocol {} {} > {}", self.protocol, self.client, self.vip),
        };
        let client = SocketAddr::new(self.client, self.client_port);
        let vip = SocketAddr::new(self.vip, self.vip_port);
        write!(f, "{name} {client} > {vip}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_twice_is_itself() {
        let flow = Flow {
            protocol: 6,
            client: "203.0.113.7".parse().unwrap(),
            client_port: 40000,
            vip: "2001:db8::1".parse().unwrap(),
            vip_port: 80,
        };
        assert_eq!(flow.reversed().reversed(), flow);
        assert_eq!(flow.to_string(), "tcp 203.0.113.7:40000 > [2001:db8::1]:80");
    }
}
