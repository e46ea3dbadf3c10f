//! TCP header (RFC 9293 §3.1): ports, flags, and the lengths that keep later reads inside the packet.

use super::{Malformed, be16, be32};

pub const HEADER: usize = 20;

/// The flags byte (RFC 9293 §3.1; ECE and CWR: RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;

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
    /// # Errors
    /// `TruncatedTransport` below 20 bytes, `TcpHeader` for a data offset below 5 or past the end.
    pub fn parse(segment: &'a [u8]) -> Result<Tcp<'a>, Malformed> {
        if segment.len() < HEADER {
            return Err(Malformed::TruncatedTransport);
        }
        let header_length = usize::from(segment[12] >> 4) * 4;
        if header_length < HEADER || header_length > segment.len() {
            return Err(Malformed::TcpHeader);
        }
        Ok(Tcp { segment, header_length })
    }

    pub fn source_port(&self) -> u16 {
        be16(self.segment, 0)
    }

    pub fn destination_port(&self) -> u16 {
        be16(self.segment, 2)
    }

    pub fn sequence(&self) -> u32 {
        be32(self.segment, 4)
    }

    pub fn acknowledgement(&self) -> u32 {
        be32(self.segment, 8)
    }

    pub fn flags(&self) -> Flags {
        Flags(self.segment[13])
    }

    pub fn header_length(&self) -> usize {
        self.header_length
    }

    pub fn payload(&self) -> &'a [u8] {
        &self.segment[self.header_length..]
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
