//! ICMP for IPv4 (RFC 792): types and codes, the quoted packet of an error, echo.
//!
//! ```text
//! ┌──────┬──────┬───────────┬───────────────────────┬───────────────┐
//! │ type │ code │ checksum  │ rest of header, 4 B   │ quote or data │
//! └──────┴──────┴───────────┴───────────────────────┴───────────────┘
//! ```
//! Rest of header: identifier and sequence (echo), next-hop MTU in the low half (3/4, RFC 1191 §4),
//! else unused.

use super::ipv4::Ipv4;
use super::{Flow, Ip, Malformed, checksum, protocol, udp};

/// The places of the fields.
pub mod field {
    use crate::packet::field::{U8, U16};

    /// The type, which is a reserved word in Rust.
    pub const KIND: U8 = U8(0);
    /// The cause, by type.
    pub const CODE: U8 = U8(1);
    /// Covers the whole message, without a pseudo-header.
    pub const CHECKSUM: U16 = U16(2);
    /// Of an echo and its reply.
    pub const IDENTIFIER: U16 = U16(4);
    /// Of "fragmentation needed" (RFC 1191 §4).
    pub const NEXT_HOP_MTU: U16 = U16(6);
}

/// Bytes before the quote or the data, the same for every type that is read here.
pub const HEADER: usize = 8;

/// Type of the director's answer to a ping of a VIP.
pub const ECHO_REPLY: u8 = 0;
/// Type of an error whose code names what cannot be reached.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Type of a ping.
pub const ECHO_REQUEST: u8 = 8;
/// Type of an error about a TTL that reached 0, or about a reassembly that timed out.
pub const TIME_EXCEEDED: u8 = 11;
/// Type of an error about a header field.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of destination unreachable, as those below: a router has no route to the network.
pub const NET_UNREACHABLE: u8 = 0;
/// The last router gets no answer from the host.
pub const HOST_UNREACHABLE: u8 = 1;
/// No program of the host receives the protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// No program of the host has the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// A packet with DF exceeds the next hop's MTU (RFC 1191 §4).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// A hop of a source route cannot be reached.
pub const SOURCE_ROUTE_FAILED: u8 = 5;

/// RFC 1812 §4.3.2.3: an error contains as much of the packet as fits into a datagram of 576 bytes.
pub const ERROR_DATAGRAM_MAX: usize = 576;

/// An ICMP message with a correct checksum, or the first piece of one.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    message: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// # Errors
    /// `TruncatedIcmp` below 8 bytes, `Checksum`.
    pub fn parse(message: &'a [u8]) -> Result<Icmp<'a>, Malformed> {
        if message.len() < HEADER {
            return Err(Malformed::TruncatedIcmp);
        }
        // RFC 1122 §3.2.2: a bad checksum is discarded silently.
        if !checksum::is_valid(message) {
            return Err(Malformed::Checksum);
        }
        Ok(Icmp { message })
    }

    /// The first fragment of a message, whose checksum also covers the later fragments.
    ///
    /// # Errors
    /// `TruncatedIcmp` below 8 bytes.
    pub fn parse_first(piece: &'a [u8]) -> Result<Icmp<'a>, Malformed> {
        if piece.len() < HEADER { Err(Malformed::TruncatedIcmp) } else { Ok(Icmp { message: piece }) }
    }

    /// The type byte.
    pub fn kind(&self) -> u8 {
        field::KIND.read(self.message)
    }

    /// Its meaning depends on the type.
    pub fn code(&self) -> u8 {
        field::CODE.read(self.message)
    }

    /// Next-hop MTU of a "fragmentation needed" (RFC 1191 §4); 0 from routers older than that.
    pub fn next_hop_mtu(&self) -> u16 {
        field::NEXT_HOP_MTU.read(self.message)
    }

    /// True for the errors that quote a packet and are worth forwarding: never redirect, never source quench
    /// (RFC 6633).
    pub fn is_error(&self) -> bool {
        matches!(self.kind(), DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// Identifier of an echo.
    pub fn identifier(&self) -> u16 {
        field::IDENTIFIER.read(self.message)
    }

    /// Bytes after the header.
    pub fn body(&self) -> &'a [u8] {
        &self.message[HEADER..]
    }

    /// The packet that an error quotes: its header, and its flow in the direction in which it was sent.
    ///
    /// # Errors
    /// [`QuoteError`] distinguishes a quote that is too short from a packet without a flow.
    pub fn quoted(&self) -> Result<Quoted<'a>, QuoteError> {
        let header = quoted_packet(self.body()).map_err(|_| QuoteError::Truncated)?;
        Ok(Quoted { flow: quoted_flow(&header)?, header })
    }
}

/// RFC 792: an error quotes the header plus 64 bits of data, which contain the ports.
const QUOTED_PAYLOAD_MIN: usize = 8;

/// The beginning of a packet that an error quotes, or that is inside a quoted one. Only of IPv4, because no IPv6
/// packet is forwarded.
///
/// # Errors
/// Those of [`Ipv4::parse_quoted`].
pub fn quoted_packet(bytes: &[u8]) -> Result<Ip<'_>, Malformed> {
    Ipv4::parse_quoted(bytes).map(Ip::V4)
}

/// The flow of a quoted packet, in the direction in which it was sent.
///
/// # Errors
/// [`QuoteError`] distinguishes a quote that is too short from a packet without a flow.
pub fn quoted_flow(header: &Ip) -> Result<Flow, QuoteError> {
    let upper = header.upper().map_err(|_| QuoteError::Truncated)?;
    if upper.is_later_fragment() || !matches!(upper.protocol, protocol::TCP | protocol::UDP) {
        return Err(QuoteError::NoFlow);
    }
    if upper.payload.len() < QUOTED_PAYLOAD_MIN {
        return Err(QuoteError::Truncated);
    }
    // The ports of TCP are in the same place.
    let source_port = udp::field::SOURCE_PORT.read(upper.payload);
    let destination_port = udp::field::DESTINATION_PORT.read(upper.payload);
    Ok(Flow::of(header, upper.protocol, source_port, destination_port))
}

/// A quoted packet; `flow` has the packet's source in the client's place.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a> {
    /// Its payload ends where the quote ends.
    pub header: Ip<'a>,
    /// In the direction in which the quoted packet was sent.
    pub flow: Flow,
}

/// Why a quote has no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteError {
    /// The quote ends before the ports.
    Truncated,
    /// A later fragment, or a protocol without ports.
    NoFlow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ipv4::Header;

    fn error_about(payload: &[u8], offset: u16) -> Vec<u8> {
        let mut message = vec![0u8; HEADER + 20 + payload.len()];
        message[0] = DESTINATION_UNREACHABLE;
        message[1] = FRAGMENTATION_NEEDED;
        message[6..8].copy_from_slice(&1400u16.to_be_bytes());
        let header = Header {
            tos: 0,
            total_length: 1500,
            identification: 0,
            dont_fragment: true,
            ttl: 60,
            protocol: 6,
            source: [172, 25, 3, 100].into(),
            destination: [203, 0, 113, 7].into(),
        };
        header.write(&mut message[HEADER..]);
        message[HEADER + 6..HEADER + 8].copy_from_slice(&offset.to_be_bytes());
        message[HEADER + 20..].copy_from_slice(payload);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn twenty_eight_quoted_bytes_are_enough() {
        let message = error_about(&[0, 80, 0x9c, 0x40, 0, 0, 0, 1], 0);
        let icmp = Icmp::parse(&message).unwrap();
        assert_eq!(icmp.next_hop_mtu(), 1400);
        let flow = icmp.quoted().unwrap().flow.reversed();
        assert_eq!(flow.to_string(), "tcp 203.0.113.7:40000 > 172.25.3.100:80");
    }

    #[test]
    fn too_little_or_a_later_fragment_has_no_flow() {
        let message = error_about(&[0, 80, 0x9c, 0x40, 0, 0, 0], 0);
        assert_eq!(Icmp::parse(&message).unwrap().quoted().unwrap_err(), QuoteError::Truncated);
        let message = error_about(&[0; 8], 5);
        assert_eq!(Icmp::parse(&message).unwrap().quoted().unwrap_err(), QuoteError::NoFlow);
    }

    #[test]
    fn a_quoted_header_chain_that_does_not_end_is_too_little() {
        const DESTINATION_OPTIONS: u8 = 60;
        let mut quote = [0; 48];
        (quote[0], quote[5], quote[6]) = (0x60, 8, DESTINATION_OPTIONS);
        (quote[40], quote[41]) = (protocol::TCP, 200);
        let header = Ip::parse(&quote).unwrap();
        assert_eq!(quoted_flow(&header), Err(QuoteError::Truncated));
    }

    #[test]
    fn a_first_piece_is_a_header_at_least_and_its_checksum_is_not_its_own() {
        let mut message = error_about(&[0; 8], 0);
        message[2] ^= 1;
        assert_eq!(Icmp::parse(&message).unwrap_err(), Malformed::Checksum);
        let kind_of = |length: usize| Icmp::parse_first(&message[..length]).map(|piece| piece.kind());
        assert_eq!(kind_of(7), Err(Malformed::TruncatedIcmp));
        assert_eq!(kind_of(8), Ok(DESTINATION_UNREACHABLE));
    }
}
