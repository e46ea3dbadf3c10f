//! Header fields of HTTP/2 as bytes (RFC 7541): a decoder, and literals for the request.

use std::collections::VecDeque;

use super::huffman;

/// RFC 7541 Appendix A, as far as values go only those of `:status` matter to a response.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// RFC 9113 §6.5.2: the size of the dynamic table unless a setting changes it.
const TABLE_MAX: usize = 4096;
/// The most bytes of one header section when decoded: a byte of an indexed field may stand for 4 KB.
const SECTION_MAX: usize = 64 << 10;

/// Name and value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Decodes the header sections of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest field first.
    table: VecDeque<Field>,
    size_max: usize,
}

impl Decoder {
    /// Of a new connection.
    pub(super) fn new() -> Decoder {
        Decoder { table: VecDeque::new(), size_max: TABLE_MAX }
    }

    /// The fields of a whole header section. `None`: it cannot be decoded.
    pub(super) fn decode(&mut self, section: &[u8]) -> Option<Vec<Field>> {
        let (mut fields, mut size, mut rest) = (Vec::new(), 0, section);
        while let Some(first) = rest.first() {
            let field = match first {
                // RFC 7541 §6.1: an indexed field.
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.field(index)?
                }
                // §6.2.1: a literal that enters the table.
                0x40.. => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    field
                }
                // §6.3: another size of the table.
                0x20.. => {
                    self.size_max = integer(&mut rest, 5).filter(|size| *size <= TABLE_MAX)?;
                    self.evict();
                    continue;
                }
                // §6.2.2 and §6.2.3: a literal that does not.
                _ => self.literal(&mut rest, 4)?,
            };
            size += entry_size(&field);
            if size > SECTION_MAX {
                return None;
            }
            fields.push(field);
        }
        Some(fields)
    }

    /// RFC 7541 §2.3.3: the dynamic table follows the static one; 0 is no index.
    fn field(&self, index: usize) -> Option<Field> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(at - STATIC.len()).cloned(),
        }
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Option<Field> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.field(index)?.0,
        };
        Some((name, string(rest)?))
    }

    fn insert(&mut self, field: Field) {
        self.table.push_front(field);
        self.evict();
    }

    /// RFC 7541 §4.4: the oldest fields go until the rest fits.
    fn evict(&mut self) {
        while self.table.iter().map(entry_size).sum::<usize>() > self.size_max {
            self.table.pop_back();
        }
    }
}

/// RFC 7541 §4.1.
fn entry_size((name, value): &Field) -> usize {
    name.len() + value.len() + 32
}

/// RFC 7541 §5.1: `prefix` bits of the first byte, then seven of each byte.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let (first, mut behind) = rest.split_first()?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        // No field needs more than four bytes.
        for shift in [0, 7, 14, 21] {
            let (byte, after) = behind.split_first()?;
            behind = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = behind;
                return Some(value);
            }
        }
        return None;
    }
    *rest = behind;
    Some(value)
}

/// RFC 7541 §5.2.
fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (coded, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    if is_huffman { huffman::decode(coded) } else { Some(coded.to_vec()) }
}

/// A literal field without indexing, without Huffman code (RFC 7541 §6.2.2).
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        write_length(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn write_length(bytes: &mut Vec<u8>, length: usize) {
    let small = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if length < 127 {
        return bytes.push(small(length));
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(small(rest % 128) | 0x80);
        rest /= 128;
    }
    bytes.push(small(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fields: &[Field]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    /// RFC 7541 Appendix C.6: responses with Huffman code and a table of 256 bytes, from which fields drop out.
    #[test]
    fn the_responses_of_the_standard_are_decoded() {
        let mut decoder = Decoder { table: VecDeque::new(), size_max: 256 };
        let first = [
            &[0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0, 0x7a, 0xbe]
                [..],
            &[0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6],
            &[0x2d, 0x1b, 0xff, 0x6e, 0x91, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8],
            &[0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3],
        ];
        let (control, date) = ("cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT");
        let location = "location: https://www.example.com";
        let fields = decoder.decode(&first.concat()).expect("a header section");
        assert_eq!(shown(&fields), [":status: 302", control, date, location]);
        let fields =
            decoder.decode(&[0x48, 0x83, 0x64, 0x0e, 0xff, 0xc1, 0xc0, 0xbf]).expect("a header section");
        assert_eq!(shown(&fields), [":status: 307", control, date, location]);
        assert_eq!(decoder.table.len(), 4, "the first status dropped out");
        assert_eq!(decoder.table.iter().map(entry_size).sum::<usize>(), 222);
    }

    /// RFC 7541 Appendix C.1.
    #[test]
    fn integers_are_those_of_the_standard() {
        let table: &[(&[u8], u32, Option<usize>)] = &[
            (&[0x0a], 5, Some(10)),
            (&[0x1f, 0x9a, 0x0a], 5, Some(1337)),
            (&[0x2a], 8, Some(42)),
            (&[0xff, 0x00], 7, Some(127)),
            (&[0xff, 0x80, 0x80, 0x80, 0x01], 7, Some(127 + (1 << 21))),
            (&[0xff, 0x80, 0x80, 0x80, 0x80, 0x01], 7, None),
            (&[0xff], 7, None),
            (&[], 7, None),
        ];
        for (bytes, prefix, expected) in table {
            let mut rest = *bytes;
            assert_eq!(integer(&mut rest, *prefix), *expected, "{bytes:02x?}");
            assert!(expected.is_none() || rest.is_empty(), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_literal_that_is_written_is_read_again() {
        for length in [0, 1, 126, 127, 128, 254, 255, 300, 20_000] {
            let value = "v".repeat(length);
            let fields = Decoder::new().decode(&literal("name", &value)).expect("a header section");
            assert_eq!(fields, [(b"name".to_vec(), value.into_bytes())], "{length}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        let table: &[(&str, &[u8])] = &[
            ("index 0", &[0x80]),
            ("an index behind the tables", &[0xbe]),
            ("a name with such an index", &[0x7f, 0x00, 0x00]),
            ("a string past the end", &[0x00, 0x05, b'a']),
            ("no value", &[0x00, 0x01, b'a']),
            ("a larger table than allowed", &[0x3f, 0xe2, 0x1f]),
            ("wrong padding", &[0x00, 0x81, 0x60, 0x00]),
        ];
        for (name, section) in table {
            assert_eq!(Decoder::new().decode(section), None, "{name}");
        }
        let fits = Decoder::new().decode(&[0x3f, 0xe1, 0x1f, 0x88]);
        assert_eq!(
            fits.as_deref().map(shown),
            Some(vec![":status: 200".to_owned()]),
            "4096 bytes are allowed"
        );
    }

    #[test]
    fn a_field_that_never_fits_the_table_empties_it() {
        let mut decoder = Decoder::new();
        let indexed = |value: &str| {
            let mut bytes = literal("a", value);
            bytes[0] = 0x40;
            bytes
        };
        decoder.decode(&indexed("b")).expect("a header section");
        assert!(decoder.decode(&[0xbe]).is_some());
        decoder.decode(&indexed(&"b".repeat(TABLE_MAX))).expect("a header section");
        assert_eq!(decoder.decode(&[0xbe]), None);
        decoder.decode(&indexed("b")).expect("a header section");
        assert_eq!(decoder.decode(&[0x20]), Some(Vec::new()), "a table without room");
        assert_eq!(decoder.decode(&[0xbe]), None);
    }

    #[test]
    fn a_section_that_grows_beyond_its_limit_is_refused() {
        let mut decoder = Decoder::new();
        // Sixteen fields of 4096 bytes, RFC 7541 §4.1.
        let mut bytes = literal("a", &"b".repeat(4096 - 32 - 1));
        bytes[0] = 0x40;
        bytes.extend([0xbe; 15]);
        assert_eq!(decoder.decode(&bytes).map(|fields| fields.len()), Some(16));
        bytes.push(0xbe);
        assert_eq!(decoder.decode(&bytes), None);
    }
}
