//! One view over IPv4 and IPv6: what a decision about a packet needs from its IP headers, whatever its family.
//!
//! A field that has another name in each family has here the name that RFC 8200 gives it.

use std::net::IpAddr;

use super::Malformed;
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::upper::Upper;

/// A packet whose fixed header is valid.
#[derive(Clone, Copy, Debug)]
pub enum Ip<'a> {
    /// Its header checksum is valid too, unless [`Ip::parse_unsummed`] read it.
    V4(Ipv4<'a>),
    /// Its extension headers are not checked yet.
    V6(Ipv6<'a>),
}

impl<'a> Ip<'a> {
    /// Reads the header of either family; bytes after the packet (link padding) are excluded from the view.
    ///
    /// # Errors
    /// Those of [`Ipv4::parse`] and [`Ipv6::parse`]; `Version` for every other version.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Ip<'a>, Malformed> {
        if is_v6(bytes) { Ipv6::parse(bytes).map(Ip::V6) } else { Ipv4::parse(bytes).map(Ip::V4) }
    }

    /// Like [`Ip::parse`] without the header checksum of IPv4, for a header that has been verified before.
    ///
    /// # Errors
    /// Those of [`Ipv4::parse_unsummed`] and [`Ipv6::parse`].
    #[inline]
    pub fn parse_unsummed(bytes: &'a [u8]) -> Result<Ip<'a>, Malformed> {
        if is_v6(bytes) { Ipv6::parse(bytes).map(Ip::V6) } else { Ipv4::parse_unsummed(bytes).map(Ip::V4) }
    }

    /// The bytes from the fixed header to the end of the packet, without link padding.
    #[inline]
    pub fn packet(&self) -> &'a [u8] {
        match self {
            Ip::V4(ip) => ip.packet(),
            Ip::V6(ip) => ip.packet(),
        }
    }

    /// As the header states it: it may be forged.
    #[inline]
    pub fn source(&self) -> IpAddr {
        match self {
            Ip::V4(ip) => ip.source().into(),
            Ip::V6(ip) => ip.source().into(),
        }
    }

    /// For a packet from a client, the VIP.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        match self {
            Ip::V4(ip) => ip.destination().into(),
            Ip::V6(ip) => ip.destination().into(),
        }
    }

    /// All headers and the payload, in bytes.
    #[inline]
    pub fn total_length(&self) -> usize {
        self.packet().len()
    }

    /// The length that the header states; of a quoted packet there may be less.
    #[inline]
    pub fn stated_length(&self) -> usize {
        match self {
            Ip::V4(ip) => ip.stated_length(),
            Ip::V6(ip) => ip.total_length(),
        }
    }

    /// The IPv4 TOS byte.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        match self {
            Ip::V4(ip) => ip.tos(),
            Ip::V6(ip) => ip.traffic_class(),
        }
    }

    /// The IPv4 TTL.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        match self {
            Ip::V4(ip) => ip.ttl(),
            Ip::V6(ip) => ip.hop_limit(),
        }
    }

    /// Whether routers must not fragment the packet: by a flag in IPv4, always in IPv6 (RFC 8200 §4.5).
    #[inline]
    pub fn has_dont_fragment(&self) -> bool {
        match self {
            Ip::V4(ip) => ip.has_dont_fragment(),
            Ip::V6(_) => true,
        }
    }

    /// Checks what only IPv4 has. The extension headers of IPv6 are checked by [`Ip::upper`].
    ///
    /// # Errors
    /// Those of [`Ipv4::check_options`].
    #[inline]
    pub fn check_options(&self) -> Result<(), Malformed> {
        match self {
            Ip::V4(ip) => ip.check_options(),
            Ip::V6(_) => Ok(()),
        }
    }

    /// What follows the IP headers.
    ///
    /// # Errors
    /// Those of [`Ipv6::upper`]; none for IPv4.
    #[inline]
    pub fn upper(&self) -> Result<Upper<'a>, Malformed> {
        match self {
            Ip::V4(ip) => Ok(ip.upper()),
            Ip::V6(ip) => ip.upper(),
        }
    }
}

/// Anything else is read as IPv4, which checks the version.
#[inline]
fn is_v6(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 4 == 6)
}

/// Which of the packets between two addresses a fragment belongs to (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentId {
    /// `None` in IPv6, where later fragments may name another one.
    pub protocol: Option<u8>,
    /// 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
}

impl FragmentId {
    /// `None` for a packet that is not a fragment.
    #[inline]
    pub fn of(ip: &Ip, upper: &Upper) -> Option<FragmentId> {
        let identification = upper.fragment?.identification;
        let protocol = match ip {
            Ip::V4(_) => Some(upper.protocol),
            Ip::V6(_) => None,
        };
        Some(FragmentId { protocol, identification })
    }
}

/// The fields that the fragments of one packet share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The sender, which chooses the identification.
    pub source: IpAddr,
    /// Senders may count their identifications for each destination apart (RFC 6864 §4.3).
    pub destination: IpAddr,
    /// Distinguishes the packets between these two.
    pub id: FragmentId,
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, IpSlice, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, ip_number};

    use super::*;

    const PAYLOAD: &[u8] = b"sixteen bytes, 4";

    fn v4(identification: u16, offset: u16, more_fragments: bool) -> Vec<u8> {
        let mut header = Ipv4Header {
            dscp: 46.try_into().unwrap(),
            ecn: 1.try_into().unwrap(),
            total_len: 36,
            identification,
            dont_fragment: false,
            more_fragments,
            fragment_offset: IpFragOffset::try_new(offset / 8).unwrap(),
            time_to_live: 63,
            protocol: ip_number::UDP,
            source: [203, 0, 113, 7],
            destination: [172, 25, 3, 100],
            ..Ipv4Header::default()
        };
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], PAYLOAD].concat()
    }

    fn v6(next: u8, identification: u32, offset: u16, more_fragments: bool) -> Vec<u8> {
        let offset = IpFragOffset::try_new(offset / 8).unwrap();
        let extension = Ipv6FragmentHeader::new(next.into(), offset, more_fragments, identification);
        let header = Ipv6Header {
            traffic_class: 0xb9,
            flow_label: 0xfffff.try_into().unwrap(),
            payload_length: 24,
            next_header: ip_number::IPV6_FRAG,
            hop_limit: 63,
            source: "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            destination: "2001:db8::100".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        };
        [&header.to_bytes()[..], &extension.to_bytes()[..], PAYLOAD].concat()
    }

    #[test]
    fn an_independent_parser_reads_the_same_of_both_families() {
        for bytes in [v4(9, 0, false), v6(17, 9, 0, false)] {
            let padded = [&bytes[..], &[0xee; 6]].concat();
            for ip in [Ip::parse(&padded).unwrap(), Ip::parse_unsummed(&padded).unwrap()] {
                let (source, destination, class, hops): (IpAddr, IpAddr, u8, u8) =
                    match IpSlice::from_slice(&bytes).unwrap() {
                        IpSlice::Ipv4(other) => {
                            let header = other.header();
                            let class = header.dcp().value() << 2 | header.ecn().value();
                            (
                                header.source_addr().into(),
                                header.destination_addr().into(),
                                class,
                                header.ttl(),
                            )
                        }
                        IpSlice::Ipv6(other) => {
                            let header = other.header();
                            let (class, hops) = (header.traffic_class(), header.hop_limit());
                            (header.source_addr().into(), header.destination_addr().into(), class, hops)
                        }
                    };
                assert_eq!((ip.source(), ip.destination()), (source, destination));
                assert_eq!((ip.traffic_class(), ip.hop_limit()), (class, hops));
                assert_eq!(ip.packet(), bytes);
                assert_eq!([ip.total_length(), ip.stated_length()], [bytes.len(); 2]);
                let whole = Upper { protocol: 17, payload: PAYLOAD, fragment: None };
                assert_eq!(ip.upper(), Ok(whole));
                assert!(!whole.is_fragment() && !whole.is_later_fragment());
                assert_eq!(FragmentId::of(&ip, &whole), None);
            }
        }
    }

    #[test]
    fn only_ipv4_may_be_fragmented_on_its_way() {
        let mut bytes = v4(9, 0, false);
        let df = |bytes: &[u8]| Ip::parse_unsummed(bytes).unwrap().has_dont_fragment();
        assert!(!df(&bytes));
        bytes[6] |= 0x40;
        assert!(df(&bytes) && df(&v6(17, 9, 0, false)));
    }

    #[test]
    fn only_ipv4_has_a_header_checksum_and_options() {
        let mut bytes = v4(9, 0, false);
        bytes[10] ^= 1;
        assert_eq!(Ip::parse(&bytes).err(), Some(Malformed::Checksum));
        assert!(Ip::parse_unsummed(&bytes).is_ok());
        (bytes[0], bytes[20]) = (0x46, 131);
        assert_eq!(Ip::parse_unsummed(&bytes).unwrap().check_options(), Err(Malformed::SourceRoute));
        let bytes = v6(17, 9, 0, false);
        assert_eq!(Ip::parse(&bytes).unwrap().check_options(), Ok(()));
    }

    #[test]
    fn a_version_that_is_neither_is_refused_and_so_is_nothing() {
        for (bytes, expected) in [
            (&[0x55; 60][..], Malformed::Version),
            (&[0x75; 60], Malformed::Version),
            (&[], Malformed::Truncated),
        ] {
            assert_eq!(Ip::parse(bytes).err(), Some(expected));
            assert_eq!(Ip::parse_unsummed(bytes).err(), Some(expected));
        }
    }

    fn key(bytes: &[u8]) -> Option<FragmentKey> {
        let ip = Ip::parse_unsummed(bytes).unwrap();
        let id = FragmentId::of(&ip, &ip.upper().unwrap())?;
        Some(FragmentKey { source: ip.source(), destination: ip.destination(), id })
    }

    #[test]
    fn fragments_belong_together_by_addresses_protocol_and_identification() {
        let bytes = v4(0x1234, 0, true);
        let whole = FragmentKey {
            source: [203, 0, 113, 7].into(),
            destination: [172, 25, 3, 100].into(),
            id: FragmentId { protocol: Some(17), identification: 0x1234 },
        };
        assert_eq!(key(&bytes), Some(whole));
        for (at, is_other) in
            [(1, false), (4, true), (5, true), (6, false), (8, false), (9, true), (12, true), (19, true)]
        {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(key(&changed) != Some(whole), is_other, "byte {at}");
        }
        assert_eq!(key(&v4(0x1234, 8, false)), Some(whole), "the last one");
    }

    #[test]
    fn in_ipv6_fragments_belong_together_by_addresses_and_identification_alone() {
        let whole = FragmentKey {
            source: "2001:db8::7".parse().unwrap(),
            destination: "2001:db8::100".parse().unwrap(),
            id: FragmentId { protocol: None, identification: 0x1234_5678 },
        };
        assert_eq!(key(&v6(17, 0x1234_5678, 0, true)), Some(whole));
        assert_eq!(
            key(&v6(60, 0x1234_5678, 16, false)),
            Some(whole),
            "RFC 8200 §4.5: the first one's counts"
        );
        assert_ne!(key(&v6(17, 0x1234_5679, 0, true)), Some(whole));
    }

    #[test]
    fn both_families_describe_a_fragment_in_the_same_fields() {
        for (offset, has_more, is_later) in [(0, true, false), (8, true, true), (16, false, true)] {
            for (bytes, identification) in
                [(v4(7, offset, has_more), 7), (v6(17, 0x70007, offset, has_more), 0x70007)]
            {
                let upper = Ip::parse(&bytes).unwrap().upper().unwrap();
                let fragment = upper.fragment.unwrap();
                assert_eq!((fragment.offset, fragment.has_more), (offset.into(), has_more));
                assert_eq!((fragment.identification, fragment.length), (identification, PAYLOAD.len()));
                assert!(upper.is_fragment() && upper.is_later_fragment() == is_later);
            }
        }
    }
}
