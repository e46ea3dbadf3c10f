//! ICMP errors about a packet.

use super::datagram;
use crate::packet::icmp::{self, ERROR_DATAGRAM_MAX, field};
use crate::packet::{Ip, Malformed, checksum, ipv4, protocol};

/// The errors that the director sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IcmpError {
    /// Type 3, code 3: no virtual service has this port, or none of its real servers accepts connections.
    PortUnreachable,
    /// The largest packet, in bytes, that would have fitted.
    TooBig {
        /// In bytes, the packet's own IP header included; a router's "next-hop MTU" (RFC 1191 §4).
        mtu: u16,
    },
    /// Type 11, code 0: the TTL ran out before the packet was wrapped.
    TimeExceeded,
    /// Type 3, code 1: a router on the path to the real server reported an error.
    HostUnreachable,
    /// Type 3, code 0: a router has no route to the real server's network.
    NetUnreachable,
}

impl IcmpError {
    /// One of each, in the order of [`IcmpError::index`].
    pub const ALL: [IcmpError; 5] = [
        IcmpError::PortUnreachable,
        IcmpError::TooBig { mtu: 0 },
        IcmpError::TimeExceeded,
        IcmpError::HostUnreachable,
        IcmpError::NetUnreachable,
    ];

    /// The place in [`IcmpError::ALL`].
    pub const fn index(self) -> usize {
        match self {
            IcmpError::PortUnreachable => 0,
            IcmpError::TooBig { .. } => 1,
            IcmpError::TimeExceeded => 2,
            IcmpError::HostUnreachable => 3,
            IcmpError::NetUnreachable => 4,
        }
    }

    /// The metric's `kind` label.
    pub const fn label(self) -> &'static str {
        match self {
            IcmpError::PortUnreachable => "port_unreachable",
            IcmpError::TooBig { .. } => "too_big",
            IcmpError::TimeExceeded => "time_exceeded",
            IcmpError::HostUnreachable => "host_unreachable",
            IcmpError::NetUnreachable => "net_unreachable",
        }
    }

    /// RFC 792; the MTU is RFC 1191's field.
    const fn type_code_and_mtu(self) -> (u8, u8, u16) {
        let unreachable = icmp::DESTINATION_UNREACHABLE;
        match self {
            IcmpError::PortUnreachable => (unreachable, icmp::PORT_UNREACHABLE, 0),
            IcmpError::TooBig { mtu } => (unreachable, icmp::FRAGMENTATION_NEEDED, mtu),
            IcmpError::TimeExceeded => (icmp::TIME_EXCEEDED, 0, 0),
            IcmpError::HostUnreachable => (unreachable, icmp::HOST_UNREACHABLE, 0),
            IcmpError::NetUnreachable => (unreachable, icmp::NET_UNREACHABLE, 0),
        }
    }
}

/// The error with as much of the packet as fits by RFC 1812 §4.3.2.3.
pub(super) fn error(packet: &Ip, error: IcmpError) -> Result<Vec<u8>, Malformed> {
    message(packet, error.type_code_and_mtu())
}

/// Type 3, code 2.
pub(super) fn protocol_unreachable(packet: &Ip) -> Result<Vec<u8>, Malformed> {
    message(packet, (icmp::DESTINATION_UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0))
}

fn message(packet: &Ip, (kind, code, mtu): (u8, u8, u16)) -> Result<Vec<u8>, Malformed> {
    let room = ERROR_DATAGRAM_MAX - ipv4::HEADER - icmp::HEADER;
    let quote = &packet.packet()[..packet.total_length().min(room)];
    let mut message = [&[0; icmp::HEADER], quote].concat();
    field::KIND.write(&mut message, kind);
    field::CODE.write(&mut message, code);
    field::NEXT_HOP_MTU.write(&mut message, mtu);
    checksum::fill(&mut message, field::CHECKSUM, 0);
    // RFC 1812 §4.3.2.5: precedence 6, internetwork control.
    datagram(packet, protocol::ICMP, 0xc0, &message)
}
