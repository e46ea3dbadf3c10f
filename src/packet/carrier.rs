//! How an encapsulated packet travels between two hosts: which outer header it has.

use super::ipv4::Ipv4;
use super::{protocol, udp};

/// What carries an encapsulated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// An outer IP header with this protocol number.
    Protocol(u8),
    /// An outer IP header and a UDP header with this destination port.
    UdpPort(u16),
}

impl Carrier {
    /// The protocol number in the outer header.
    pub const fn protocol(self) -> u8 {
        match self {
            Carrier::Protocol(number) => number,
            Carrier::UdpPort(_) => protocol::UDP,
        }
    }

    /// Whether `outer`, a whole packet or the beginning that an ICMP error quotes, travels like this. A later
    /// fragment has no port, so UDP never carries one.
    pub fn carries(self, outer: &Ipv4) -> bool {
        let is_port = match self {
            Carrier::Protocol(_) => true,
            Carrier::UdpPort(port) => {
                let (field, datagram) = (udp::field::DESTINATION_PORT, outer.payload());
                outer.fragment_offset() == 0 && field.is_inside(datagram) && field.read(datagram) == port
            }
        };
        outer.protocol() == self.protocol() && is_port
    }
}

#[cfg(test)]
mod tests {
    use super::super::ipv4::{HEADER, Header};
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            tos: 0,
            total_length: (HEADER + payload.len()).try_into().unwrap(),
            identification: 0,
            dont_fragment: false,
            ttl: 64,
            protocol,
            source: [172, 25, 3, 1].into(),
            destination: [172, 25, 3, 2].into(),
        };
        let mut bytes = vec![0; HEADER];
        header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn carries(carrier: Carrier, packet: &[u8]) -> bool {
        carrier.carries(&Ipv4::parse_unsummed(packet).unwrap())
    }

    #[test]
    fn a_protocol_carries_its_own_packets_alone() {
        let carrier = Carrier::Protocol(protocol::IPIP);
        assert_eq!(carrier.protocol(), 4);
        assert_eq!([4, 17, 47].map(|number| carries(carrier, &packet(number, &[]))), [true, false, false]);
    }

    #[test]
    fn a_udp_port_carries_datagrams_to_it_alone() {
        let carrier = Carrier::UdpPort(6080);
        assert_eq!(carrier.protocol(), 17);
        let to = |port: u16| [&[0, 1][..], &port.to_be_bytes()].concat();
        assert!(carries(carrier, &packet(17, &to(6080))));
        assert!(!carries(carrier, &packet(17, &to(6081))));
        assert!(!carries(carrier, &packet(6, &to(6080))));
        assert!(!carries(carrier, &packet(17, &to(6080)[..3])), "cut before the port");
        let mut later = packet(17, &to(6080));
        later[7] = 1;
        assert!(!carries(carrier, &later), "a later fragment has no port");
    }
}
