//! Bytes as they are written in options: text with `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH`, or `hex:` and hexadecimal
//! digits. In what is expected, `x` instead of a digit stands for any.

use crate::health::spec::BadOption;

/// Bytes to compare with, some of which are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Value and mask of each byte.
    bytes: Vec<(u8, u8)>,
}

impl Pattern {
    /// Reads the value of option `name`.
    pub(super) fn read(name: &'static str, text: &str) -> Result<Pattern, BadOption> {
        let bytes = match text.strip_prefix("hex:") {
            Some(digits) => nibbles(digits, true),
            None => escaped(text).map(|bytes| bytes.into_iter().map(|byte| (byte, 0xff)).collect()),
        };
        bytes.map(|bytes| Pattern { bytes }).map_err(|reason| (name, reason))
    }

    /// How many bytes it compares.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether these bytes begin with the pattern.
    pub(super) fn is_start_of(&self, bytes: &[u8]) -> bool {
        let is_equal = |(&(value, mask), byte): (&(u8, u8), &u8)| byte & mask == value;
        bytes.len() >= self.len() && self.bytes.iter().zip(bytes).all(is_equal)
    }

    /// Whether the pattern stands anywhere in these bytes.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        (0..=bytes.len()).any(|start| self.is_start_of(&bytes[start..]))
    }
}

/// Reads the value of option `name` as bytes to send.
pub(super) fn bytes(name: &'static str, text: &str) -> Result<Vec<u8>, BadOption> {
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => {
            nibbles(digits, false).map(|found| found.into_iter().map(|(value, _)| value).collect())
        }
        None => escaped(text),
    };
    bytes.map_err(|reason| (name, reason))
}

fn nibbles(text: &str, is_pattern: bool) -> Result<Vec<(u8, u8)>, String> {
    let read = |digit: char| match digit.to_digit(16) {
        Some(value) => Ok((u8::try_from(value).unwrap_or_default(), 0xf)),
        None if is_pattern && digit.eq_ignore_ascii_case(&'x') => Ok((0, 0)),
        None => {
            Err(format!("{digit:?} is no hexadecimal digit{}", if is_pattern { " and not x" } else { "" }))
        }
    };
    let is_separator = |c: &char| c.is_ascii_whitespace() || *c == ':';
    let digits = text.chars().filter(|c| !is_separator(c)).map(read).collect::<Result<Vec<_>, _>>()?;
    let byte = |pair: &[(u8, u8)]| match pair {
        [(high, high_mask), (low, low_mask)] => Ok((high << 4 | low, high_mask << 4 | low_mask)),
        _ => Err(format!("{} hexadecimal digits, expected an even number", digits.len())),
    };
    digits.chunks(2).map(byte).collect()
}

fn escaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let escape = after.chars().next().ok_or("a backslash at the end; \\\\ stands for one")?;
        rest = &after[escape.len_utf8()..];
        bytes.push(match escape {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits =
                    rest.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let digits = digits.ok_or("two hexadecimal digits must follow \\x")?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?
            }
            other => return Err(format!("\\{other} has no meaning; \\\\ stands for a backslash")),
        });
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_hexadecimal_digits_name_the_same_bytes() {
        let table: &[(&str, &[u8])] = &[
            ("", b""),
            ("PING\\r\\n", b"PING\r\n"),
            ("PING\r\n", b"PING\r\n"),
            ("\\x00\\xfF\\t\\0\\\\n", b"\x00\xff\t\0\\n"),
            ("hex:00 ff:0A", b"\x00\xff\n"),
            ("hex:", b""),
            ("ü", "ü".as_bytes()),
        ];
        for (written, expected) in table {
            assert_eq!(bytes("send", written).as_deref(), Ok(*expected), "{written}");
            let pattern = Pattern::read("expect", written).expect("a pattern");
            assert!(pattern.is_start_of(expected) && pattern.len() == expected.len(), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_reported_with_its_option() {
        let table = [
            ("\\q", "\\q has no meaning; \\\\ stands for a backslash"),
            ("a\\", "a backslash at the end; \\\\ stands for one"),
            ("\\x1", "two hexadecimal digits must follow \\x"),
            ("\\x+1", "two hexadecimal digits must follow \\x"),
            ("\\xé", "two hexadecimal digits must follow \\x"),
            ("hex:0x", "'x' is no hexadecimal digit"),
            ("hex:0g", "'g' is no hexadecimal digit"),
            ("hex:abc", "3 hexadecimal digits, expected an even number"),
        ];
        for (written, reason) in table {
            assert_eq!(bytes("send", written), Err(("send", reason.to_owned())), "{written}");
        }
        let reason = "'y' is no hexadecimal digit and not x".to_owned();
        assert_eq!(Pattern::read("expect", "hex:xy"), Err(("expect", reason)));
    }

    #[test]
    fn an_x_stands_for_any_digit() {
        let pattern = Pattern::read("expect", "hex:1x x2 XX").expect("a pattern");
        assert!(pattern.is_start_of(b"\x1f\xf2\x00and more"));
        assert!(!pattern.is_start_of(b"\x2f\xf2\x00"), "the first digit");
        assert!(!pattern.is_start_of(b"\x1f\xf3\x00"), "the fourth digit");
        assert!(!pattern.is_start_of(b"\x1f\xf2"), "too short");
    }

    #[test]
    fn a_pattern_is_found_anywhere() {
        let pattern = Pattern::read("expect", "ab").expect("a pattern");
        assert!(pattern.is_in(b"aab") && pattern.is_in(b"ab"));
        assert!(!pattern.is_in(b"a b") && !pattern.is_in(b"a"));
        assert!(Pattern::read("expect", "").is_ok_and(|empty| empty.is_in(b"")));
    }
}
