//! The director's own replies to clients: echo reply, TCP reset, ICMP errors. The source is always the VIP,
//! because the client uses no other address.
//!
//! Packets that must not be answered are filtered earlier: [`mod@super::classify`] drops every source that is
//! not a single host, and an ICMP error is never answered (RFC 1122 §3.2.2).

mod bucket;
mod echo;
mod icmp;
mod tcp;
#[cfg(test)]
mod tests;

pub use bucket::TokenBucket;
pub use icmp::IcmpError;

use std::net::IpAddr;

use crate::packet::ipv4::{self, Header};
use crate::packet::{Frame, Ip, Malformed};

/// TTL of the director's own packets (RFC 1122 §3.2.1.7 requires a configurable value; IANA recommends 64).
const TTL: u8 = 64;

/// What the director sends to the sender of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReplyKind {
    /// To a ping of the VIP (RFC 1122 §3.2.2.6).
    EchoReply,
    /// As from a closed port (RFC 9293 §3.10.7.1).
    TcpReset,
    /// About a packet that is not forwarded, or does not fit its path.
    Error(IcmpError),
}

impl ReplyKind {
    /// The number of kinds that are counted separately: two and those of [`IcmpError`].
    pub const COUNT: usize = 2 + IcmpError::ALL.len();

    /// One of each, in the order of the counters.
    pub fn all() -> impl Iterator<Item = ReplyKind> {
        [ReplyKind::EchoReply, ReplyKind::TcpReset]
            .into_iter()
            .chain(IcmpError::ALL.into_iter().map(ReplyKind::Error))
    }

    /// The place of its counter.
    pub const fn index(self) -> usize {
        match self {
            ReplyKind::EchoReply => 0,
            ReplyKind::TcpReset => 1,
            ReplyKind::Error(error) => 2 + error.index(),
        }
    }

    /// The metric's `kind` label.
    pub const fn label(self) -> &'static str {
        match self {
            ReplyKind::EchoReply => "echo_reply",
            ReplyKind::TcpReset => "tcp_reset",
            ReplyKind::Error(error) => error.label(),
        }
    }
}

impl From<IcmpError> for ReplyKind {
    fn from(error: IcmpError) -> ReplyKind {
        ReplyKind::Error(error)
    }
}

/// Replaces the packet in `frame` by the reply to it; returns the destination.
///
/// # Errors
/// `Malformed` if the packet does not allow this reply.
pub fn write(frame: &mut Frame, kind: ReplyKind) -> Result<IpAddr, Malformed> {
    let packet = Ip::parse_unsummed(frame.packet())?;
    let to = packet.source();
    let reply = match kind {
        ReplyKind::EchoReply => echo::reply(&packet),
        ReplyKind::TcpReset => tcp::reset(&packet),
        ReplyKind::Error(error) => icmp::error(&packet, error),
    }?;
    frame.replace(&reply);
    Ok(to)
}

/// An ICMP error about a packet of which only the beginning is known, and its destination. `None` if its family is
/// not answered.
pub fn error_about(quoted: &Ip, error: IcmpError) -> Option<(Vec<u8>, IpAddr)> {
    icmp::error(quoted, error).ok().map(|reply| (reply, quoted.source()))
}

/// "Protocol unreachable" about a packet of which only the beginning is known, and its destination: for a probe, whose
/// sender has to know that no program on the real server takes the packets off. Clients do not get it.
pub fn protocol_unreachable_about(quoted: &Ip) -> Option<(Vec<u8>, IpAddr)> {
    icmp::protocol_unreachable(quoted).ok().map(|reply| (reply, quoted.source()))
}

/// A datagram to the sender of `packet`, of the same family. IPv6 packets are not answered, because no VIP is an
/// IPv6 address.
fn datagram(packet: &Ip, protocol: u8, traffic_class: u8, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    let Ip::V4(packet) = packet else { return Err(Malformed::Version) };
    let total_length = u16::try_from(ipv4::HEADER + payload.len()).map_err(|_| Malformed::TotalLength)?;
    let header = Header {
        tos: traffic_class,
        total_length,
        identification: 0,
        dont_fragment: true,
        ttl: TTL,
        protocol,
        source: packet.destination(),
        destination: packet.source(),
    };
    let mut bytes = vec![0u8; total_length.into()];
    header.write(&mut bytes);
    bytes[ipv4::HEADER..].copy_from_slice(payload);
    Ok(bytes)
}
