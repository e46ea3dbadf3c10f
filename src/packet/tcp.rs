//! TCP header (RFC 9293 §3.1): ports, flags, and the lengths that keep later reads inside the packet.

use super::Malformed;

/// The places of the fields.
pub mod field {
    use crate::packet::field::{U8, U16, U32};

    /// In the same place as that of UDP.
    pub const SOURCE_PORT: U16 = U16(0);
    /// In the same place as that of UDP.
    pub const DESTINATION_PORT: U16 = U16(2);
    /// Of the first data byte, or of SYN.
    pub const SEQUENCE: U32 = U32(4);
    /// The next sequence number expected; only valid with ACK.
    pub const ACKNOWLEDGEMENT: U32 = U32(8);
    /// In units of four bytes, in the upper half.
    pub const DATA_OFFSET: U8 = U8(12);
    /// Eight bits of [`Flags`](super::Flags).
    pub const FLAGS: U8 = U8(13);
    /// Covers the pseudo-header and the whole segment.
    pub const CHECKSUM: U16 = U16(16);
}

/// Length of a header without options.
pub const HEADER: usize = 20;
/// That length in [`field::DATA_OFFSET`]: five times four bytes, in the upper half.
const HEADER_OFFSET: u8 = 5 << 4;

/// The flags byte (RFC 9293 §3.1; ECE and CWR: RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// Opens a connection; with ACK, accepts one.
    pub const SYN: u8 = 0x02;
    /// Aborts the connection.
    pub const RST: u8 = 0x04;
    /// Data to be delivered without waiting for more.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// The sender has reduced its congestion window (RFC 3168 §6.1.2).
    pub const CWR: u8 = 0x80;

    /// True if every flag in `mask` is set.
    pub const fn has(self, mask: u8) -> bool {
        self.0 & mask == mask
    }

    /// None of SYN, ACK, RST: no TCP implementation sends that (FIN always comes with ACK).
    pub const fn is_scan(self) -> bool {
        self.0 & (Flags::SYN | Flags::ACK | Flags::RST) == 0
    }
}

/// A segment whose header is entirely inside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    segment: &'a [u8],
    header_length: usize,
}

impl<'a> Tcp<'a> {
    /// Reads the header, and leaves the checksum to the receiving host.
    ///
    /// # Errors
    /// `TruncatedTransport` below 20 bytes, `TcpHeader` for a data offset below 5 or past the end.
    pub fn parse(segment: &'a [u8]) -> Result<Tcp<'a>, Malformed> {
        if segment.len() < HEADER {
            return Err(Malformed::TruncatedTransport);
        }
        let header_length = usize::from(field::DATA_OFFSET.read(segment) >> 4) * 4;
        if header_length < HEADER || header_length > segment.len() {
            return Err(Malformed::TcpHeader);
        }
        Ok(Tcp { segment, header_length })
    }

    /// The client's, in a packet to a VIP.
    pub fn source_port(&self) -> u16 {
        field::SOURCE_PORT.read(self.segment)
    }

    /// The virtual service's, in a packet to a VIP.
    pub fn destination_port(&self) -> u16 {
        field::DESTINATION_PORT.read(self.segment)
    }

    /// Of the first data byte, or of SYN.
    pub fn sequence(&self) -> u32 {
        field::SEQUENCE.read(self.segment)
    }

    /// Without meaning unless ACK is set.
    pub fn acknowledgement(&self) -> u32 {
        field::ACKNOWLEDGEMENT.read(self.segment)
    }

    /// Reserved bits are in the byte before and ignored.
    pub fn flags(&self) -> Flags {
        Flags(field::FLAGS.read(self.segment))
    }

    /// 20 to 60 bytes.
    pub fn header_length(&self) -> usize {
        self.header_length
    }

    /// The data behind the options.
    pub fn payload(&self) -> &'a [u8] {
        &self.segment[self.header_length..]
    }
}

/// The fields of a header without options, data and window; [`Header::write`] encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of a reset: the port that the segment was sent to.
    pub source_port: u16,
    /// Of a reset: the port that the segment came from.
    pub destination_port: u16,
    /// Chosen as RFC 9293 §3.5.2 requires for a reset.
    pub sequence: u32,
    /// Ignored by the receiver without ACK.
    pub acknowledgement: u32,
    /// All eight; reserved bits stay 0.
    pub flags: Flags,
}

impl Header {
    /// Writes the 20 bytes to the front of `bytes` (at least [`HEADER`] long). The checksum is left to
    /// [`checksum::fill_transport`](super::checksum::fill_transport), because it includes the addresses.
    pub fn write(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..HEADER];
        bytes.fill(0);
        field::SOURCE_PORT.write(bytes, self.source_port);
        field::DESTINATION_PORT.write(bytes, self.destination_port);
        field::SEQUENCE.write(bytes, self.sequence);
        field::ACKNOWLEDGEMENT.write(bytes, self.acknowledgement);
        field::DATA_OFFSET.write(bytes, HEADER_OFFSET);
        field::FLAGS.write(bytes, self.flags.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_before_anything_is_read() {
        let mut segment = [0u8; 24];
        segment[12] = 5 << 4;
        segment[13] = Flags::SYN | Flags::ACK;
        let tcp = Tcp::parse(&segment).unwrap();
        assert!(tcp.flags().has(Flags::SYN) && !tcp.flags().has(Flags::SYN | Flags::RST));
        assert_eq!(tcp.payload().len(), 4);
        for (offset, length) in [(4u8, 24usize), (7, 24), (15, 24), (0, 24)] {
            segment[12] = offset << 4;
            assert_eq!(Tcp::parse(&segment[..length]).unwrap_err(), Malformed::TcpHeader);
        }
        assert_eq!(Tcp::parse(&segment[..19]).unwrap_err(), Malformed::TruncatedTransport);
    }

    #[test]
    fn scans_carry_none_of_syn_ack_rst() {
        assert!(Flags(0).is_scan());
        assert!(Flags(Flags::FIN | Flags::PSH | Flags::URG).is_scan());
        assert!(!Flags(Flags::FIN | Flags::ACK).is_scan());
        assert!(!Flags(Flags::SYN | 0xc0).is_scan());
    }
}
