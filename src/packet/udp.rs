//! UDP header (RFC 768).

use super::Malformed;

/// The places of the fields.
pub mod field {
    use crate::packet::field::U16;

    /// 0 if the sender expects no reply.
    pub const SOURCE_PORT: U16 = U16(0);
    /// Port of the program that receives.
    pub const DESTINATION_PORT: U16 = U16(2);
    /// Header and data, in bytes.
    pub const LENGTH: U16 = U16(4);
    /// Covers the pseudo-header and the datagram; 0 if the sender computed none.
    pub const CHECKSUM: U16 = U16(6);
}

/// UDP has no options in its header, so the length is fixed.
pub const HEADER: usize = 8;

/// A datagram whose header is inside the bytes and whose length field is valid.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    datagram: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Reads a whole datagram. Its length may be less than the bytes: the surplus contains UDP options (RFC
    /// 9868).
    ///
    /// # Errors
    /// `TruncatedTransport` below 8 bytes, `UdpLength` for a length below 8 or past the end.
    pub fn parse(datagram: &'a [u8]) -> Result<Udp<'a>, Malformed> {
        let udp = Udp::parse_first(datagram)?;
        if usize::from(field::LENGTH.read(datagram)) > datagram.len() {
            return Err(Malformed::UdpLength);
        }
        Ok(udp)
    }

    /// Reads the first fragment of a datagram, whose length field includes the later fragments.
    ///
    /// # Errors
    /// `TruncatedTransport` below 8 bytes, `UdpLength` for a length below 8.
    pub fn parse_first(datagram: &'a [u8]) -> Result<Udp<'a>, Malformed> {
        if datagram.len() < HEADER {
            return Err(Malformed::TruncatedTransport);
        }
        if usize::from(field::LENGTH.read(datagram)) < HEADER {
            return Err(Malformed::UdpLength);
        }
        Ok(Udp { datagram })
    }

    /// The client's, in a packet to a VIP.
    pub fn source_port(&self) -> u16 {
        field::SOURCE_PORT.read(self.datagram)
    }

    /// The virtual service's, in a packet to a VIP.
    pub fn destination_port(&self) -> u16 {
        field::DESTINATION_PORT.read(self.datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_may_be_short_but_not_long() {
        let mut datagram = [0u8; 12];
        for (length, expected) in
            [(7u8, Some(Malformed::UdpLength)), (8, None), (12, None), (13, Some(Malformed::UdpLength))]
        {
            datagram[5] = length;
            assert_eq!(Udp::parse(&datagram).err(), expected, "{length}");
        }
        assert!(Udp::parse_first(&datagram).is_ok());
        assert_eq!(Udp::parse(&datagram[..7]).unwrap_err(), Malformed::TruncatedTransport);
    }
}
