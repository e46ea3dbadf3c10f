//! IPv4 header (RFC 791 §3.1), checked once and then relied on.
//!
//! ```text
//!  0      4      8             16    19               32
//! ┌──────┬──────┬─────────────┬───────────────────────┐
//! │ ver 4│ IHL  │ TOS         │ total length          │
//! ├──────┴──────┴─────────────┼─────┬─────────────────┤
//! │ identification            │ flg │ fragment offset │
//! ├─────────────┬─────────────┼─────┴─────────────────┤
//! │ TTL         │ protocol    │ header checksum       │
//! ├─────────────┴─────────────┴───────────────────────┤
//! │ source                                            │
//! ├───────────────────────────────────────────────────┤
//! │ destination                                       │
//! ├───────────────────────────────────────────────────┤
//! │ options, 0 to 40 bytes                            │
//! └───────────────────────────────────────────────────┘
//! ```

use std::net::Ipv4Addr;

use super::upper::{Fragment, Upper};
use super::{Malformed, checksum};

/// The places of the fields.
pub mod field {
    use crate::packet::field::{Octets, U8, U16};

    pub(super) const VERSION_AND_LENGTH: U8 = U8(0);
    pub(super) const TOS: U8 = U8(1);
    pub(crate) const TOTAL_LENGTH: U16 = U16(2);
    /// The same in all fragments of a packet; without meaning in any other (RFC 6864 §4).
    pub const IDENTIFICATION: U16 = U16(4);
    /// A reserved bit, DF, MF, and 13 bits of offset in units of eight bytes.
    pub const FLAGS_AND_OFFSET: U16 = U16(6);
    pub(super) const TTL: U8 = U8(8);
    pub(crate) const PROTOCOL: U8 = U8(9);
    pub(super) const CHECKSUM: U16 = U16(10);
    pub(crate) const SOURCE: Octets<4> = Octets(12);
    pub(crate) const DESTINATION: Octets<4> = Octets(16);
}

/// Length of a header without options.
pub const HEADER: usize = 20;
/// Flags in [`field::FLAGS_AND_OFFSET`].
const DONT_FRAGMENT: u16 = 0x4000;
/// Set in every fragment except the last.
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A packet with a valid header: version 4, IHL and total length fit the bytes, checksum correct.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    /// Exactly `total length` bytes.
    packet: &'a [u8],
    header_length: usize,
}

/// Length of the header with its options, all of which are present.
fn header_length(bytes: &[u8]) -> Result<usize, Malformed> {
    if bytes.len() < HEADER {
        return Err(Malformed::Truncated);
    }
    let first = field::VERSION_AND_LENGTH.read(bytes);
    if first >> 4 != 4 {
        return Err(Malformed::Version);
    }
    let length = usize::from(first & 0x0f) * 4;
    if length < HEADER || length > bytes.len() {
        return Err(Malformed::HeaderLength);
    }
    Ok(length)
}

impl<'a> Ipv4<'a> {
    /// Reads the header; bytes after the total length (link padding) are excluded from the view.
    ///
    /// # Errors
    /// RFC 1812 §5.2.2, its five checks: `Truncated`, `Version`, `HeaderLength`, `TotalLength`, `Checksum`.
    pub fn parse(bytes: &'a [u8]) -> Result<Ipv4<'a>, Malformed> {
        let view = Ipv4::parse_unsummed(bytes)?;
        if !checksum::is_valid(view.header()) {
            return Err(Malformed::Checksum);
        }
        Ok(view)
    }

    /// Like [`Ipv4::parse`] without the header checksum, for a header that the kernel has just verified.
    ///
    /// # Errors
    /// `Truncated`, `Version`, `HeaderLength`, `TotalLength`.
    pub fn parse_unsummed(bytes: &'a [u8]) -> Result<Ipv4<'a>, Malformed> {
        let header_length = header_length(bytes)?;
        let total_length = usize::from(field::TOTAL_LENGTH.read(bytes));
        if total_length < header_length {
            return Err(Malformed::TotalLength);
        }
        if total_length > bytes.len() {
            return Err(Malformed::Truncated);
        }
        Ok(Ipv4 { packet: &bytes[..total_length], header_length })
    }

    /// Reads a header that may be followed by less than its total length, as in an ICMP error. The view ends
    /// where the bytes end.
    ///
    /// # Errors
    /// `Truncated`, `Version`, `HeaderLength`.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Ipv4<'a>, Malformed> {
        let header_length = header_length(bytes)?;
        let end = bytes.len().min(usize::from(field::TOTAL_LENGTH.read(bytes)).max(header_length));
        Ok(Ipv4 { packet: &bytes[..end], header_length })
    }

    /// Header and payload, without link padding.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// The fixed part and the options.
    pub fn header(&self) -> &'a [u8] {
        &self.packet[..self.header_length]
    }

    /// Everything behind the options; of a quoted packet there may be less than was sent.
    pub fn payload(&self) -> &'a [u8] {
        &self.packet[self.header_length..]
    }

    /// 20 to 60 bytes.
    pub fn header_length(&self) -> usize {
        self.header_length
    }

    /// Bytes that are present, header included.
    pub fn total_length(&self) -> usize {
        self.packet.len()
    }

    /// The length that the header states; of a quoted packet there may be less.
    pub fn stated_length(&self) -> usize {
        field::TOTAL_LENGTH.read(self.packet).into()
    }

    /// DSCP and ECN in one byte.
    pub fn tos(&self) -> u8 {
        field::TOS.read(self.packet)
    }

    /// Only significant in a fragment (RFC 6864 §4).
    pub fn identification(&self) -> u16 {
        field::IDENTIFICATION.read(self.packet)
    }

    fn flags_and_offset(&self) -> u16 {
        field::FLAGS_AND_OFFSET.read(self.packet)
    }

    /// Whether a router that cannot forward the packet whole must drop it.
    pub fn has_dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// False in the last fragment, and in a whole packet.
    pub fn has_more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// In bytes.
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.flags_and_offset() & OFFSET_MASK) * 8
    }

    /// Whether this is any part of a packet, the first included.
    pub fn is_fragment(&self) -> bool {
        self.flags_and_offset() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// 0 to 255; a router never forwards a packet with 0 (RFC 1812 §5.3.1).
    pub fn ttl(&self) -> u8 {
        field::TTL.read(self.packet)
    }

    /// The IANA number of what follows the header.
    pub fn protocol(&self) -> u8 {
        field::PROTOCOL.read(self.packet)
    }

    /// As stated: it may be forged.
    pub fn source(&self) -> Ipv4Addr {
        field::SOURCE.read(self.packet).into()
    }

    /// As stated, whether or not this host has the address.
    pub fn destination(&self) -> Ipv4Addr {
        field::DESTINATION.read(self.packet).into()
    }

    /// What follows the header and its options.
    #[inline]
    pub fn upper(&self) -> Upper<'a> {
        let fragment = self.is_fragment().then(|| Fragment {
            offset: self.fragment_offset(),
            has_more: self.has_more_fragments(),
            identification: self.identification().into(),
            length: self.payload().len(),
        });
        Upper { protocol: self.protocol(), payload: self.payload(), fragment }
    }

    /// Walks the options. Terminates: every step advances by at least one byte.
    ///
    /// # Errors
    /// `Option` for a length that is too small or exceeds the header, `SourceRoute` for a loose or strict
    /// source route (RFC 7126 §4.3, §4.4).
    pub fn check_options(&self) -> Result<(), Malformed> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        const LOOSE_SOURCE_ROUTE: u8 = 131;
        const STRICT_SOURCE_ROUTE: u8 = 137;
        let mut rest = &self.packet[HEADER..self.header_length];
        while let Some(&kind) = rest.first() {
            match kind {
                END => return Ok(()),
                NO_OPERATION => rest = &rest[1..],
                LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Malformed::SourceRoute),
                _ => {
                    let length = usize::from(*rest.get(1).ok_or(Malformed::Option)?);
                    if length < 2 || length > rest.len() {
                        return Err(Malformed::Option);
                    }
                    rest = &rest[length..];
                }
            }
        }
        Ok(())
    }
}

/// The fields of a header without options; [`Header::write`] encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Whole packet, header included.
    pub total_length: u16,
    /// Any number if the packet cannot be fragmented (RFC 6864 §4.1).
    pub identification: u16,
    /// DF; the other flags and the offset are 0.
    pub dont_fragment: bool,
    /// Hops that the packet may take.
    pub ttl: u8,
    /// Of what follows these 20 bytes.
    pub protocol: u8,
    /// Written as given; the caller has checked that it is its own.
    pub source: Ipv4Addr,
    /// Where the network routes the packet.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Writes the 20 bytes, including the checksum, to the front of `bytes` (at least [`HEADER`] long).
    pub fn write(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..HEADER];
        set_header_length(bytes, HEADER);
        field::TOS.write(bytes, self.tos);
        field::TOTAL_LENGTH.write(bytes, self.total_length);
        field::IDENTIFICATION.write(bytes, self.identification);
        field::FLAGS_AND_OFFSET.write(bytes, if self.dont_fragment { DONT_FRAGMENT } else { 0 });
        field::TTL.write(bytes, self.ttl);
        field::PROTOCOL.write(bytes, self.protocol);
        field::SOURCE.write(bytes, self.source.octets());
        field::DESTINATION.write(bytes, self.destination.octets());
        fill_checksum(bytes);
    }
}

/// Writes the version, and the length of the header in bytes, a multiple of four.
pub(super) fn set_header_length(header: &mut [u8], length: usize) {
    field::VERSION_AND_LENGTH.write(header, 0x40 | u8::try_from(length / 4).unwrap_or(0x0f));
}

/// Writes the checksum of a header; `header` ends where the header ends.
pub fn fill_checksum(header: &mut [u8]) {
    checksum::fill(header, field::CHECKSUM, 0);
}

/// Replaces the TOS byte of a valid header and updates its checksum (RFC 1624).
pub fn set_tos(packet: &mut [u8], tos: u8) {
    checksum::set_byte(packet, field::TOS, tos, field::CHECKSUM);
}

/// Replaces the TTL of a valid header and updates its checksum (RFC 1624).
pub fn set_ttl(packet: &mut [u8], ttl: u8) {
    checksum::set_byte(packet, field::TTL, ttl, field::CHECKSUM);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0u8; 28];
        let header = Header {
            tos: 0xb8,
            total_length: 28,
            identification: 7,
            dont_fragment: true,
            ttl: 64,
            protocol: 17,
            source: Ipv4Addr::new(203, 0, 113, 7),
            destination: Ipv4Addr::new(172, 25, 3, 100),
        };
        header.write(&mut bytes);
        bytes
    }

    #[test]
    fn an_independent_parser_reads_what_we_write() {
        let bytes = sample();
        let (other, rest) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
        assert_eq!(other.total_len, 28);
        assert_eq!(other.source, [203, 0, 113, 7]);
        assert_eq!(other.destination, [172, 25, 3, 100]);
        assert!(other.dont_fragment);
        assert_eq!(other.time_to_live, 64);
        assert_eq!(other.header_checksum, other.calc_header_checksum());
        assert_eq!(rest.len(), 8);
        let view = Ipv4::parse(&bytes).unwrap();
        assert_eq!((view.tos(), view.identification(), view.payload().len()), (0xb8, 7, 8));
    }

    #[test]
    fn the_five_checks_of_rfc_1812() {
        let good = sample();
        let cases: [(&str, usize, u8, Result<usize, Malformed>); 8] = [
            ("version 5", 0, 0x55, Err(Malformed::Version)),
            ("IHL 4", 0, 0x44, Err(Malformed::HeaderLength)),
            ("IHL to the end", 0, 0x47, Ok(0)),
            ("IHL past the end", 0, 0x48, Err(Malformed::HeaderLength)),
            ("total length below the header", 3, 19, Err(Malformed::TotalLength)),
            ("total length of the header", 3, 20, Ok(0)),
            ("total length to the end", 3, 28, Ok(8)),
            ("total length past the end", 3, 29, Err(Malformed::Truncated)),
        ];
        for (name, at, value, expected) in cases {
            let mut bytes = good.clone();
            bytes[at] = value;
            let payload = Ipv4::parse_unsummed(&bytes).map(|view| view.payload().len());
            assert_eq!(payload, expected, "{name}");
        }
        let mut bytes = good.clone();
        bytes[10] ^= 1;
        assert_eq!(Ipv4::parse(&bytes).unwrap_err(), Malformed::Checksum);
        for length in 0..20 {
            assert_eq!(Ipv4::parse(&good[..length]).unwrap_err(), Malformed::Truncated);
        }
    }

    #[test]
    fn setting_tos_or_ttl_keeps_the_checksum_right() {
        for value in 0..=255 {
            let mut bytes = sample();
            set_tos(&mut bytes, value);
            set_ttl(&mut bytes, !value);
            let view = Ipv4::parse(&bytes).unwrap();
            assert_eq!((view.tos(), view.ttl()), (value, !value));
            assert_eq!(view.packet()[2..8], sample()[2..8]);
            assert_eq!((view.packet()[9], &view.packet()[12..]), (17, &sample()[12..]));
        }
    }

    #[test]
    fn a_quote_ends_with_its_packet_or_its_bytes_whichever_is_first() {
        let quoted = |total_length: u16, bytes: usize| {
            let mut packet = sample();
            packet.resize(bytes, 0xee);
            packet[2..4].copy_from_slice(&total_length.to_be_bytes());
            let view = Ipv4::parse_quoted(&packet).unwrap();
            assert_eq!((view.packet(), view.header()), (&packet[..view.total_length()], &packet[..HEADER]));
            view.payload().len()
        };
        let rows = [
            ("cut", 1500, 28, 8),
            ("cut behind the header", 1500, 20, 0),
            ("whole", 28, 28, 8),
            ("padding behind it", 28, 40, 8),
            ("a length of 256 and more", 0x0104, 600, 240),
            ("of a header alone", 20, 28, 0),
            ("a length under the header", 19, 28, 0),
            ("a length of nothing", 0, 28, 0),
        ];
        for (name, total_length, bytes, expected) in rows {
            assert_eq!(quoted(total_length, bytes), expected, "{name}");
        }
        assert_eq!(Ipv4::parse_quoted(&sample()[..19]).unwrap_err(), Malformed::Truncated);
    }

    #[test]
    fn options_are_walked_to_their_end() {
        let rows: [(&str, &[u8], Result<(), Malformed>); 14] = [
            ("none", &[], Ok(())),
            ("padding alone", &[1, 1, 1, 1], Ok(())),
            ("padding, then one that fills the header", &[1, 7, 3, 4], Ok(())),
            ("router alert fills the header", &[148, 4, 0, 0], Ok(())),
            ("length 2", &[30, 2, 30, 2], Ok(())),
            ("length 1", &[30, 1, 0, 0], Err(Malformed::Option)),
            ("length 0", &[30, 0, 0, 0], Err(Malformed::Option)),
            ("one byte past the header", &[30, 5, 0, 0], Err(Malformed::Option)),
            ("the second one past the header", &[30, 2, 30, 3], Err(Malformed::Option)),
            ("the last byte has no length", &[1, 1, 1, 30], Err(Malformed::Option)),
            ("nothing behind the end is read", &[0, 131, 30, 0], Ok(())),
            ("loose source route behind another", &[148, 4, 0, 0, 131, 3, 4, 0], Err(Malformed::SourceRoute)),
            ("strict source route behind padding", &[1, 137, 3, 4], Err(Malformed::SourceRoute)),
            ("a source route inside another option", &[30, 4, 131, 137], Ok(())),
        ];
        for (name, options, expected) in rows {
            let mut bytes = [&sample()[..HEADER], options, &[131; 8]].concat();
            bytes[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
            assert_eq!(Ipv4::parse_unsummed(&bytes).unwrap().check_options(), expected, "{name}");
        }
    }

    #[test]
    fn an_independent_parser_reads_the_same_of_any_header() {
        // Fields unlike each other; in the first headers, each bit of the flags and offset word alone.
        for seed in 0..2000u32 {
            let byte = |at: u32| (seed.wrapping_mul(0x9e37_79b1) >> (at % 23) ^ at).to_le_bytes()[0];
            let mut bytes: Vec<u8> = (0..28).map(byte).collect();
            if let Some(alone) = 1u16.checked_shl(seed) {
                bytes[6..8].copy_from_slice(&alone.to_be_bytes());
            }
            (bytes[0], bytes[2], bytes[3]) = (0x45, 0, 28);
            let view = Ipv4::parse_unsummed(&bytes).unwrap();
            let (other, rest) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
            assert_eq!(view.tos(), other.dscp.value() << 2 | other.ecn.value());
            assert_eq!((view.identification(), view.ttl()), (other.identification, other.time_to_live));
            let flags = (view.has_dont_fragment(), view.has_more_fragments());
            assert_eq!(flags, (other.dont_fragment, other.more_fragments));
            assert_eq!(view.fragment_offset(), usize::from(other.fragment_offset.value()) * 8);
            assert_eq!(view.is_fragment(), other.is_fragmenting_payload());
            assert_eq!(view.protocol(), other.protocol.0);
            assert_eq!(
                (view.source().octets(), view.destination().octets()),
                (other.source, other.destination)
            );
            assert_eq!((view.header_length(), view.payload()), (HEADER, rest));
        }
    }
}
