//! The Internet checksum: complete (RFC 1071), incremental (RFC 1624), and the pseudo-header sum that a partial
//! checksum starts with.

use std::net::IpAddr;

use super::field::{U8, U16};
use super::protocol;

/// One's complement sum of `bytes` as big-endian 16-bit words, added to `start`; not folded.
/// An odd last byte counts as the high half of a word.
///
/// Words are summed in 32-bit steps, which the compiler vectorises; 64 KiB cannot overflow the `u64`.
pub fn sum(bytes: &[u8], start: u64) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let mut total = start;
    for chunk in &mut chunks {
        total += u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let tail = chunks.remainder();
    let mut word = [0u8; 4];
    word[..tail.len()].copy_from_slice(tail);
    total + u64::from(u32::from_be_bytes(word))
}

/// Folds the carries until 16 bits remain. Not complemented.
#[expect(clippy::cast_possible_truncation, reason = "the loop ends when 16 bits remain")]
pub fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The checksum of `bytes`, to write into the field or compare with it.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// RFC 1071 §1 (3): a block that contains its own checksum sums to all ones.
pub fn is_valid(bytes: &[u8]) -> bool {
    fold(sum(bytes, 0)) == 0xffff
}

/// Sum of the pseudo-header (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1); not folded. Addresses of different
/// families have no pseudo-header, so the caller must not mix them.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => sum(&s.octets(), sum(&d.octets(), 0)),
        (s, d) => sum(&octets16(s), sum(&octets16(d), 0)),
    };
    addresses + u64::from(protocol) + length as u64
}

fn octets16(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Writes the checksum of `bytes` into its own field there. `start` is added to the sum: 0, or a pseudo-header's.
pub fn fill(bytes: &mut [u8], field: U16, start: u64) {
    field.write(bytes, 0);
    field.write(bytes, !fold(sum(bytes, start)));
}

/// Writes the checksum of a TCP segment or a UDP datagram between these addresses into its field.
pub fn fill_transport(segment: &mut [u8], field: U16, source: IpAddr, destination: IpAddr, protocol: u8) {
    fill(segment, field, pseudo_header(source, destination, protocol, segment.len()));
    if protocol == protocol::UDP {
        field.write(segment, never_zero(field.read(segment)));
    }
}

/// RFC 768: a checksum of zero is sent as all ones, because zero means that there is none.
pub(super) fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Replaces one byte of a header, and updates the header's checksum in `field` (RFC 1624). A wrong checksum stays
/// equally wrong.
pub fn set_byte(header: &mut [u8], place: U8, value: u8, field: U16) {
    let before = place.word().read(header);
    place.write(header, value);
    let sum = update(field.read(header), before, place.word().read(header));
    field.write(header, sum);
}

/// RFC 1624 §3, equation 3: the new checksum when one 16-bit word changes from `before` to `after`.
pub fn update(checksum: u16, before: u16, after: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!before) + u64::from(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_words(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !u16::try_from(total).unwrap()
    }

    #[test]
    fn example_of_rfc_1071() {
        // RFC 1071 §3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)), 0xddf2);
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn carries_are_added_until_there_are_none() {
        let rows =
            [(0, 0), (0xffff, 0xffff), (0x1_0000, 1), (0x1_fffe, 0xffff), (0x1_ffff, 1), (u64::MAX, 0xffff)];
        for (total, expected) in rows {
            assert_eq!(fold(total), expected, "{total:x}");
        }
    }

    #[test]
    fn example_of_rfc_1624() {
        // RFC 1624 §4: checksum dd2f, word 5555 becomes 3285, new checksum 0000.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_independent_parser_agrees_about_the_pseudo_header_of_ipv6() {
        let (source, destination) = ([0x20u8; 16], [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let mut datagram = [0x9c, 0x40, 0, 53, 0, 11, 0, 0, b'a', b'b', b'c'];
        let pseudo = pseudo_header(source.into(), destination.into(), 17, datagram.len());
        let ours = !fold(sum(&datagram, pseudo));
        let (header, data) = etherparse::UdpHeader::from_slice(&datagram).unwrap();
        assert_eq!(ours, header.calc_checksum_ipv6_raw(source, destination, data).unwrap());
        datagram[6..8].copy_from_slice(&ours.to_be_bytes());
        assert_eq!(fold(sum(&datagram, pseudo)), 0xffff);
    }

    proptest! {
        #[test]
        fn equals_the_word_by_word_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(checksum(&bytes), by_words(&bytes));
        }

        #[test]
        fn update_equals_computing_again(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), word in any::<u16>()) {
            let before = checksum(&bytes);
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&word.to_be_bytes());
            // Equal as one's complement numbers: 0000 and ffff are the same value.
            let (a, b) = (update(before, old, word), checksum(&bytes));
            prop_assert!(a == b || (a ^ b) == 0xffff && (a == 0 || b == 0));
        }
    }
}
