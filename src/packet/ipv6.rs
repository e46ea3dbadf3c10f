//! IPv6 header (RFC 8200 §3) and its chain of extension headers, walked once within limits.
//!
//! ```text
//!  0      4         12        16                      32
//! ┌──────┬─────────┬──────────────────────────────────┐
//! │ ver 6│ traffic │ flow label                       │
//! ├──────┴─────────┴──────────┬───────────┬───────────┤
//! │ payload length            │ next hdr  │ hop limit │
//! ├───────────────────────────┴───────────┴───────────┤
//! │ source, 16 bytes                                  │
//! ├───────────────────────────────────────────────────┤
//! │ destination, 16 bytes                             │
//! └───────────────────────────────────────────────────┘
//! ```

mod extension;

use std::net::Ipv6Addr;

use super::upper::Upper;
use super::{Malformed, protocol};

/// The places of the fields of the fixed header.
pub mod field {
    use crate::packet::field::{Octets, U8, U16};

    /// Version, traffic class, and the upper bits of the flow label.
    pub const VERSION_AND_CLASS: U16 = U16(0);
    /// In bytes, without the fixed header but with extension headers.
    pub const PAYLOAD_LENGTH: U16 = U16(4);
    /// The first extension header, or the upper-layer protocol.
    pub const NEXT_HEADER: U8 = U8(6);
    /// Hops that remain.
    pub const HOP_LIMIT: U8 = U8(7);
    /// The sender's address.
    pub const SOURCE: Octets<16> = Octets(8);
    /// The receiver's address, or with a routing header that of its next stop.
    pub const DESTINATION: Octets<16> = Octets(24);
}

/// Length of the fixed header.
pub const HEADER: usize = 40;

/// A walk ends after this many extension headers, or bytes of them. RFC 8200 sets no limit, but no sender
/// needs more, and RFC 8504 §5.3 allows a receiver to set one.
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of all extension headers together.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// A packet with a valid fixed header: its payload length fits the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    /// Exactly the header and `payload length` bytes.
    packet: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Reads the fixed header; bytes after the payload length (link padding) are excluded from the view.
    ///
    /// # Errors
    /// `Truncated`, `Version`; `Jumbogram` (RFC 2675 §3) or `TotalLength` if the payload length is 0 but a
    /// header should follow.
    pub fn parse(bytes: &'a [u8]) -> Result<Ipv6<'a>, Malformed> {
        if bytes.len() < HEADER {
            return Err(Malformed::Truncated);
        }
        if field::VERSION_AND_CLASS.read(bytes) >> 12 != 6 {
            return Err(Malformed::Version);
        }
        let length = usize::from(field::PAYLOAD_LENGTH.read(bytes));
        let rest = &bytes[HEADER..];
        if length > rest.len() {
            return Err(Malformed::Truncated);
        }
        let view = Ipv6 { packet: &bytes[..HEADER + length] };
        match view.next_header() {
            protocol::NONE => Ok(view),
            _ if length > 0 => Ok(view),
            // If it is not a jumbogram either, its length is wrong, whatever its options contain.
            extension::HOP_BY_HOP => match extension::check_hop_by_hop(rest) {
                Err(Malformed::Jumbogram) => Err(Malformed::Jumbogram),
                _ => Err(Malformed::TotalLength),
            },
            _ => Err(Malformed::TotalLength),
        }
    }

    /// Header and payload, without link padding.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Everything after the fixed header, including extension headers.
    pub fn payload(&self) -> &'a [u8] {
        &self.packet[HEADER..]
    }

    /// 40 bytes and the payload length.
    pub fn total_length(&self) -> usize {
        self.packet.len()
    }

    /// DSCP and ECN in one byte (RFC 8200 §7).
    pub fn traffic_class(&self) -> u8 {
        let [version_and_class, class_and_label] = field::VERSION_AND_CLASS.read(self.packet).to_be_bytes();
        version_and_class << 4 | class_and_label >> 4
    }

    /// The IANA number of what follows the fixed header.
    pub fn next_header(&self) -> u8 {
        field::NEXT_HEADER.read(self.packet)
    }

    /// 0 to 255.
    pub fn hop_limit(&self) -> u8 {
        field::HOP_LIMIT.read(self.packet)
    }

    /// As stated: it may be forged.
    pub fn source(&self) -> Ipv6Addr {
        field::SOURCE.read(self.packet).into()
    }

    /// As stated, whether or not this host has the address.
    pub fn destination(&self) -> Ipv6Addr {
        field::DESTINATION.read(self.packet).into()
    }

    /// Walks the extension headers up to the payload. Terminates: at most [`EXTENSIONS_MAX`] steps of at
    /// least eight bytes.
    ///
    /// # Errors
    /// `Truncated` if a header exceeds the packet, or `HeaderChain` if it does so in a first fragment (RFC
    /// 7112 §5); `ExtensionLimit`, `SourceRoute`, `Jumbogram`; `Extension` for a hop-by-hop header that is
    /// not first and for a fragment of a fragment; `Option` for a hop-by-hop option that exceeds its header.
    pub fn upper(&self) -> Result<Upper<'a>, Malformed> {
        let mut at = Upper { protocol: self.next_header(), payload: self.payload(), fragment: None };
        let mut has_fragment_header = false;
        for walked in 0.. {
            let Some(length) = extension::length_of(at.protocol, at.payload) else { break };
            if walked == EXTENSIONS_MAX {
                return Err(Malformed::ExtensionLimit);
            }
            if length > at.payload.len() {
                return Err(if at.fragment.is_some() {
                    Malformed::HeaderChain
                } else {
                    Malformed::Truncated
                });
            }
            let (header, behind) = at.payload.split_at(length);
            if self.payload().len() - behind.len() > EXTENSION_BYTES_MAX {
                return Err(Malformed::ExtensionLimit);
            }
            match at.protocol {
                extension::HOP_BY_HOP if walked > 0 => return Err(Malformed::Extension),
                extension::HOP_BY_HOP => extension::check_hop_by_hop(header)?,
                extension::ROUTING => extension::check_routing(header)?,
                // It would be ambiguous to which of two packets it belongs.
                extension::FRAGMENT if has_fragment_header => return Err(Malformed::Extension),
                extension::FRAGMENT => {
                    has_fragment_header = true;
                    at.fragment = extension::fragment(header, behind.len());
                }
                _ => {}
            }
            at = Upper {
                protocol: extension::field::NEXT_HEADER.read(header),
                payload: behind,
                fragment: at.fragment,
            };
            if at.is_later_fragment() {
                break;
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv6ExtensionsSlice, Ipv6Slice};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::upper::Fragment;

    /// A packet with these extension headers; the first byte of each is set to the kind of the next.
    fn packet(extensions: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = 0x60;
        bytes[6] = extensions.first().map_or(protocol, |(kind, _)| *kind);
        bytes[7] = 64;
        bytes[8..24].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        bytes[24..40].copy_from_slice(&"2001:db8::100".parse::<Ipv6Addr>().unwrap().octets());
        for (index, (_, header)) in extensions.iter().enumerate() {
            let next = extensions.get(index + 1).map_or(protocol, |(kind, _)| *kind);
            bytes.push(next);
            bytes.extend_from_slice(&header[1..]);
        }
        bytes.extend_from_slice(payload);
        let length = u16::try_from(bytes.len() - HEADER).unwrap();
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    /// Padding options, `units` times eight bytes longer than the minimum.
    fn options(units: u8) -> Vec<u8> {
        let mut header = vec![0; 8 + usize::from(units) * 8];
        header[1] = units;
        header
    }

    fn chain_of(bytes: &[u8]) -> Result<Upper<'_>, Malformed> {
        Ipv6::parse(bytes)?.upper()
    }

    const FRAGMENT_HEADER: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 9];

    #[test]
    fn an_independent_parser_reads_the_same() {
        let bytes = packet(
            &[(extension::HOP_BY_HOP, options(1)), (extension::DESTINATION_OPTIONS, options(0))],
            17,
            b"payload",
        );
        let ours = Ipv6::parse(&bytes).unwrap();
        let other = Ipv6Slice::from_slice(&bytes).unwrap();
        let header = other.header();
        assert_eq!((ours.source(), ours.destination()), (header.source_addr(), header.destination_addr()));
        assert_eq!((ours.hop_limit(), ours.next_header()), (header.hop_limit(), header.next_header().0));
        let (chain, payload) = (ours.upper().unwrap(), other.payload());
        assert_eq!((chain.protocol, chain.payload), (payload.ip_number.0, payload.payload));
    }

    #[test]
    fn the_walk_stops_at_its_limits() {
        let kind = extension::DESTINATION_OPTIONS;
        let row = |number: usize, units: u8| packet(&vec![(kind, options(units)); number], 6, &[0; 20]);
        assert!(chain_of(&row(EXTENSIONS_MAX, 0)).is_ok());
        assert_eq!(chain_of(&row(EXTENSIONS_MAX + 1, 0)), Err(Malformed::ExtensionLimit));
        assert!(chain_of(&row(1, 31)).is_ok(), "256 bytes");
        assert_eq!(chain_of(&row(1, 32)), Err(Malformed::ExtensionLimit));
        assert_eq!(chain_of(&row(2, 15)).unwrap().payload.len(), 20);
        assert_eq!(chain_of(&row(2, 16)), Err(Malformed::ExtensionLimit));
    }

    #[test]
    fn a_header_that_is_cut_is_truncated_and_in_a_first_fragment_incomplete() {
        let kind = extension::DESTINATION_OPTIONS;
        for (number, cut) in [(0, Malformed::Truncated), (1, Malformed::HeaderChain)] {
            let before = vec![(extension::FRAGMENT, FRAGMENT_HEADER.to_vec()); number];
            for rest in [&[][..], &[6], &[6, 0, 0, 0, 0, 0, 0], &[6, 1, 0, 0, 0, 0, 0, 0]] {
                let mut bytes = packet(&before, kind, rest);
                if bytes.len() == HEADER {
                    // A length of 0 is another row: pad with a header that is present.
                    bytes = packet(&[(kind, options(0))], kind, rest);
                }
                assert_eq!(chain_of(&bytes), Err(cut), "{rest:?}");
            }
        }
    }

    #[test]
    fn offset_and_flag_distinguish_first_later_and_atomic_fragments() {
        let of = |word: u16| {
            let mut header = FRAGMENT_HEADER.to_vec();
            header[2..4].copy_from_slice(&word.to_be_bytes());
            packet(&[(extension::FRAGMENT, header)], 6, &[7; 24])
        };
        let fragment = |offset, has_more| Some(Fragment { offset, has_more, identification: 9, length: 24 });
        for (word, expected) in
            [(0, None), (1, fragment(0, true)), (0x0129, fragment(0x128, true)), (8, fragment(8, false))]
        {
            let bytes = of(word);
            let chain = chain_of(&bytes).unwrap();
            assert_eq!((chain.fragment, chain.protocol, chain.payload.len()), (expected, 6, 24));
            let other = Ipv6Slice::from_slice(&bytes).unwrap();
            assert_eq!(other.is_payload_fragmented(), expected.is_some());
        }
        let twice = vec![(extension::FRAGMENT, FRAGMENT_HEADER.to_vec()); 2];
        assert_eq!(chain_of(&packet(&twice, 6, &[0; 20])), Err(Malformed::Extension));
        // After a later fragment's header there is only data, whatever it looks like.
        let later = vec![0, 0, 0, 8, 0, 0, 0, 9];
        let bytes = packet(&[(extension::FRAGMENT, later)], extension::HOP_BY_HOP, &[0xff; 8]);
        assert_eq!(chain_of(&bytes).unwrap().protocol, extension::HOP_BY_HOP);
    }

    #[test]
    fn a_packet_may_end_where_its_header_ends_only_if_no_next_header_follows() {
        let empty = |protocol| packet(&[], protocol, &[]);
        assert!(chain_of(&empty(protocol::NONE)).is_ok());
        for protocol in [6, 17, 58, extension::FRAGMENT, extension::HOP_BY_HOP] {
            assert_eq!(chain_of(&empty(protocol)), Err(Malformed::TotalLength), "{protocol}");
        }
        let jumbo = |length: u16| {
            let option = vec![0, 0, 0xc2, 4, 0, 1, 0, 0];
            let mut bytes = packet(&[(extension::HOP_BY_HOP, option)], 6, &[0; 40]);
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        assert_eq!(chain_of(&jumbo(0)), Err(Malformed::Jumbogram));
        assert_eq!(chain_of(&jumbo(48)), Err(Malformed::Jumbogram));
    }

    #[test]
    fn hop_by_hop_options_stay_inside_their_header() {
        for (options, expected) in [
            ([0, 0, 5, 2, 0, 0, 1, 0], Ok(())),
            ([0, 0, 5, 2, 0, 0, 1, 1], Err(Malformed::Option)),
            ([0, 0, 0, 0, 0, 0, 0, 5], Err(Malformed::Option)),
        ] {
            let bytes = packet(&[(extension::HOP_BY_HOP, options.to_vec())], 58, &[0; 8]);
            assert_eq!(chain_of(&bytes).map(|_| ()), expected, "{options:?}");
        }
    }

    #[test]
    fn a_packet_with_segments_left_is_source_routed() {
        for (kind, left, expected) in [
            (0, 1, Some(Malformed::SourceRoute)),
            (0, 0, Some(Malformed::SourceRoute)),
            (4, 1, Some(Malformed::SourceRoute)),
            (4, 0, None),
        ] {
            let bytes = packet(&[(extension::ROUTING, vec![0, 0, kind, left, 0, 0, 0, 0])], 6, &[0; 20]);
            assert_eq!(chain_of(&bytes).err(), expected, "{kind} {left}");
        }
    }

    proptest! {
        /// For any bytes: no panic, the walk ends, and the payload is inside the packet.
        #[test]
        fn the_walk_ends_inside_the_packet(mut bytes in proptest::collection::vec(any::<u8>(), 40..400), kinds in proptest::collection::vec(0usize..6, 0..50)) {
            // Headers that the walk supports, so that it gets far.
            const KINDS: [u8; 6] = [0, 43, 44, 51, 60, 6];
            bytes[0] = 0x60;
            let length = u16::try_from(bytes.len() - HEADER).unwrap();
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            for (index, kind) in kinds.iter().enumerate() {
                let at = if index == 0 { 6 } else { HEADER + (index - 1) * 8 };
                if at + 1 < bytes.len() {
                    bytes[at] = KINDS[*kind];
                    if at >= HEADER {
                        bytes[at + 1] %= 3;
                    }
                }
            }
            if let Ok(chain) = chain_of(&bytes) {
                prop_assert!(chain.payload.len() + HEADER <= bytes.len());
                prop_assert!(bytes.len() - HEADER - chain.payload.len() <= EXTENSION_BYTES_MAX);
            }
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = chain_of(&bytes);
        }

        /// Chains that both accept are read alike.
        #[test]
        fn an_independent_walk_ends_at_the_same_place(
            first: bool,
            kinds in proptest::collection::vec((prop_oneof![Just(60u8), Just(43), Just(51)], 0u8..3), 0..5),
            payload in proptest::collection::vec(any::<u8>(), 1..50),
        ) {
            let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
            if first {
                extensions.push((extension::HOP_BY_HOP, options(0)));
            }
            for (kind, units) in kinds {
                let mut header = options(units);
                if kind == extension::ROUTING {
                    header[2] = 4;
                }
                if kind == extension::AUTHENTICATION {
                    header = vec![0; 16];
                    header[1] = 2;
                }
                extensions.push((kind, header));
            }
            let bytes = packet(&extensions, 17, &payload);
            let ours = chain_of(&bytes).unwrap();
            let start = etherparse::IpNumber(bytes[6]);
            let (_, kind, rest) = Ipv6ExtensionsSlice::from_slice(start, &bytes[HEADER..]).unwrap();
            prop_assert_eq!((ours.protocol, ours.payload), (kind.0, rest));
            prop_assert_eq!(rest, &payload[..]);
        }
    }
}
