//! Cutting an IPv4 packet into fragments (RFC 791 §3.2).

use super::ipv4::{self, HEADER, Ipv4, MORE_FRAGMENTS, field};

/// Options with the copied flag are repeated in every fragment (RFC 791 §3.1).
const COPIED: u8 = 0x80;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Splits `packet` into fragments of at most `mtu` bytes each, in order. A fragment may be split again. DF is
/// cleared: the caller has decided that. `None` if not even eight bytes of payload fit.
pub fn split(packet: &Ipv4, mtu: usize) -> Option<Vec<Vec<u8>>> {
    let later_header = later_header(packet);
    let room = |header_length: usize| {
        mtu.checked_sub(header_length).map(|room| room / 8 * 8).filter(|room| *room > 0)
    };
    let mut rest = packet.payload();
    let mut offset = packet.fragment_offset();
    let mut fragments = Vec::new();
    while !rest.is_empty() {
        let header = if fragments.is_empty() { packet.header() } else { &later_header[..] };
        let fits_whole = header.len() + rest.len() <= mtu;
        let length = if fits_whole { rest.len() } else { room(header.len())? };
        let (payload, behind) = rest.split_at(length);
        let has_more = !behind.is_empty() || packet.has_more_fragments();
        fragments.push(fragment(header, payload, offset, has_more));
        offset += length;
        rest = behind;
    }
    Some(fragments)
}

fn fragment(header: &[u8], payload: &[u8], offset: usize, has_more: bool) -> Vec<u8> {
    let mut bytes = [header, payload].concat();
    let total_length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    field::TOTAL_LENGTH.write(&mut bytes, total_length);
    let more = if has_more { MORE_FRAGMENTS } else { 0 };
    let units = u16::try_from(offset / 8).unwrap_or(u16::MAX);
    field::FLAGS_AND_OFFSET.write(&mut bytes, units | more);
    ipv4::fill_checksum(&mut bytes[..header.len()]);
    bytes
}

/// The header of all fragments except the first: only options with the copied flag.
fn later_header(packet: &Ipv4) -> Vec<u8> {
    let mut header = packet.header()[..HEADER].to_vec();
    let mut options = &packet.header()[HEADER..];
    while let Some(&kind) = options.first() {
        let length = match kind {
            END => break,
            NO_OPERATION => 1,
            // Lengths were checked during classification; a wrong one ends the copy.
            _ => usize::from(*options.get(1).unwrap_or(&0)),
        };
        if length == 0 || length > options.len() {
            break;
        }
        if kind & COPIED != 0 {
            header.extend_from_slice(&options[..length]);
        }
        options = &options[length..];
    }
    header.resize(header.len().next_multiple_of(4), END);
    let length = header.len();
    ipv4::set_header_length(&mut header, length);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ipv4::Header;
    use super::*;

    fn packet(options: &[u8], payload: usize) -> Vec<u8> {
        let total_length = HEADER + options.len() + payload;
        let header = Header {
            tos: 7,
            total_length: total_length.try_into().unwrap(),
            identification: 0x1234,
            dont_fragment: false,
            ttl: 9,
            protocol: 17,
            source: [203, 0, 113, 7].into(),
            destination: [172, 25, 3, 100].into(),
        };
        let mut bytes = vec![0; HEADER];
        header.write(&mut bytes);
        bytes.extend_from_slice(options);
        bytes.extend((0..=255u8).cycle().take(payload));
        bytes[0] = 0x40 | u8::try_from((HEADER + options.len()) / 4).unwrap();
        bytes
    }

    /// Reassembles fragments, checking each header.
    fn reassembled(fragments: &[Vec<u8>], mtu: usize) -> (Vec<u8>, usize, bool) {
        let mut payload = Vec::new();
        let first = Ipv4::parse(&fragments[0]).unwrap().fragment_offset();
        for (index, bytes) in fragments.iter().enumerate() {
            let fragment = Ipv4::parse(bytes).unwrap();
            assert!(bytes.len() <= mtu);
            assert_eq!(fragment.fragment_offset(), first + payload.len());
            assert_eq!((fragment.identification(), fragment.tos(), fragment.ttl()), (0x1234, 7, 9));
            let is_last = index + 1 == fragments.len();
            assert!(is_last || fragment.has_more_fragments() && fragment.payload().len().is_multiple_of(8));
            payload.extend_from_slice(fragment.payload());
        }
        (payload, first, Ipv4::parse(&fragments[fragments.len() - 1]).unwrap().has_more_fragments())
    }

    proptest! {
        #[test]
        fn fragments_make_the_packet_again(payload in 1usize..9000, mtu in 68usize..1500, offset in 0usize..500, more: bool) {
            let mut bytes = packet(&[], payload);
            let word = u16::try_from(offset).unwrap() | if more { MORE_FRAGMENTS } else { 0 };
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            let view = Ipv4::parse_unsummed(&bytes).unwrap();
            let fragments = split(&view, mtu).unwrap();
            prop_assert_eq!(reassembled(&fragments, mtu), (view.payload().to_vec(), offset * 8, more));
            let (room, before_last) = ((mtu - HEADER) / 8 * 8, payload.saturating_sub(mtu - HEADER));
            prop_assert_eq!(fragments.len(), 1 + before_last.div_ceil(room), "no more than it takes");
        }
    }

    #[test]
    fn what_fits_exactly_is_not_cut() {
        for (payload, mtu, expected) in [
            (81, 101, &[101][..]),
            (81, 100, &[100, 21]),
            (88, 108, &[108]),
            (88, 107, &[100, 28]),
            (161, 101, &[100, 101]),
            (162, 101, &[100, 100, 22]),
        ] {
            let bytes = packet(&[], payload);
            let fragments = split(&Ipv4::parse_unsummed(&bytes).unwrap(), mtu).unwrap();
            let lengths: Vec<usize> = fragments.iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "{payload} bytes into {mtu}");
        }
    }

    #[test]
    fn a_fragment_carries_eight_bytes_or_none() {
        let bytes = packet(&[], 100);
        let view = Ipv4::parse_unsummed(&bytes).unwrap();
        assert_eq!([19, 20, 27].map(|mtu| split(&view, mtu)), [None, None, None]);
        assert_eq!(split(&view, 28).unwrap().len(), 13);
    }

    #[test]
    fn every_fragment_loses_df_and_the_reserved_bit() {
        let mut bytes = packet(&[], 100);
        bytes[6] = 0xc0;
        let fragments = split(&Ipv4::parse_unsummed(&bytes).unwrap(), 68).unwrap();
        let words: Vec<u16> =
            fragments.iter().map(|fragment| field::FLAGS_AND_OFFSET.read(fragment)).collect();
        assert_eq!(words, [MORE_FRAGMENTS, MORE_FRAGMENTS | 6, 12]);
    }

    #[test]
    fn only_options_with_the_copied_flag_are_repeated() {
        // Record route (7, not copied), then a security option (130, copied).
        let bytes = packet(&[7, 3, 4, 1, 130, 4, 9, 9], 100);
        let fragments = split(&Ipv4::parse_unsummed(&bytes).unwrap(), 68).unwrap();
        assert_eq!(fragments[0][..28][20..], [7, 3, 4, 1, 130, 4, 9, 9]);
        assert_eq!(fragments[1][20..24], [130, 4, 9, 9]);
        assert_eq!(fragments[1][0], 0x46);
        assert!(split(&Ipv4::parse_unsummed(&bytes).unwrap(), 35).is_none(), "no room for eight bytes");
    }

    #[test]
    fn options_of_later_fragments_are_whole_words_and_end_where_the_list_ends() {
        let rows: [(&str, &[u8], &[u8]); 9] = [
            ("nothing copied", &[7, 3, 4, 1], &[]),
            ("an odd length is padded", &[130, 3, 9, 1], &[130, 3, 9, 0]),
            (
                "padding between options goes",
                &[1, 130, 4, 9, 9, 1, 134, 3, 5, 1, 1, 0],
                &[130, 4, 9, 9, 134, 3, 5, 0],
            ),
            (
                "what lies behind the end is no option",
                &[130, 4, 9, 9, 0, 4, 9, 9, 134, 4, 5, 5],
                &[130, 4, 9, 9],
            ),
            ("the last one fills the header", &[7, 4, 4, 1, 136, 4, 0, 1], &[136, 4, 0, 1]),
            ("length 0 ends the copy", &[130, 0, 134, 2], &[]),
            ("a length of 1 is taken as it is", &[130, 1, 0, 0], &[130, 0, 0, 0]),
            ("a length past the header ends the copy", &[134, 2, 130, 3], &[134, 2, 0, 0]),
            ("no length at all ends the copy", &[1, 1, 1, 130], &[]),
        ];
        for (name, options, expected) in rows {
            let bytes = packet(options, 100);
            let fragments = split(&Ipv4::parse_unsummed(&bytes).unwrap(), 68).unwrap();
            assert_eq!(reassembled(&fragments, 68).0, bytes[HEADER + options.len()..], "{name}");
            assert_eq!(Ipv4::parse(&fragments[0]).unwrap().header()[HEADER..], *options, "{name}");
            for later in &fragments[1..] {
                assert_eq!(Ipv4::parse(later).unwrap().header()[HEADER..], *expected, "{name}");
            }
        }
    }
}
