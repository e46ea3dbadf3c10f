//! The Huffman code of HPACK (RFC 7541 Appendix B). It is canonical: codes of one length are consecutive in the order of
//! the bytes, behind the shorter ones, so that the lengths define all of it.

use std::sync::LazyLock;

/// The length of each byte's code, in bits.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code, which marks the end and has no byte.
const LENGTH_MAX: usize = 30;

/// For each length: the first code, and the bytes that have a code of this length.
static CODES: LazyLock<Vec<(u32, Vec<u8>)>> = LazyLock::new(|| {
    let (mut codes, mut first) = (Vec::new(), 0_u32);
    for length in 0..=LENGTH_MAX {
        let is_of_length = |byte: &u8| usize::from(LENGTHS[usize::from(*byte)]) == length;
        let bytes: Vec<u8> = (0..=u8::MAX).filter(is_of_length).collect();
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        codes.push((first, bytes));
        first = (first + count) << 1;
    }
    codes
});

/// Decodes a string. `None`: it contains the code of the end, or its padding is wrong.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let (mut decoded, mut code, mut length) = (Vec::new(), 0_u32, 0);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        let (first, bytes) = CODES.get(length)?;
        let index = code.checked_sub(*first).and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| bytes.get(index)) {
            decoded.push(*byte);
            (code, length) = (0, 0);
        }
    }
    // RFC 7541 §5.2: less than a byte of ones pads the string.
    (length < 8 && code == (1 << length) - 1).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 Appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_standard_are_decoded() {
        let table: &[(&[u8], &str)] = &[
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (&[0x64, 0x0e, 0xff], "307"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ];
        for (coded, text) in table {
            assert_eq!(decode(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn every_byte_has_its_code() {
        for byte in 0..=u8::MAX {
            let length = LENGTHS[usize::from(byte)];
            let (first, bytes) = &CODES[usize::from(length)];
            let index = bytes.iter().position(|other| *other == byte).expect("a byte of this length");
            let code = u64::from(*first) + index as u64;
            // The code at the front of four bytes, and ones behind it.
            let padding = 32 - u32::from(length);
            let padded = (code << padding | ((1 << padding) - 1)).to_be_bytes();
            let used = usize::from(length).div_ceil(8);
            assert_eq!(decode(&padded[4..4 + used]), Some(vec![byte]), "{byte}");
        }
    }

    #[test]
    fn the_end_and_wrong_padding_are_refused() {
        for coded in [&[0xff, 0xff, 0xff, 0xff][..], &[0x64, 0x0e], &[0x64, 0x02, 0xff], &[0x60]] {
            assert_eq!(decode(coded), None, "{coded:02x?}");
        }
    }
}
