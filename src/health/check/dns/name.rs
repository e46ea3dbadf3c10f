//! Names of DNS as bytes of a message, and for the eye (RFC 1035 §3.1, §4.1.4).

/// RFC 1035 §2.3.4.
const NAME_MAX: usize = 255;

/// A name as in a message: each label behind its length, and an empty one.
pub(super) fn written(text: &str) -> Result<Vec<u8>, &'static str> {
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err("the name is empty; \".\" is the root");
    }
    let mut bytes = Vec::new();
    for label in labels.split('.').filter(|_| !labels.is_empty()) {
        // RFC 1035 §2.3.4: a label has at most 63 bytes.
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        bytes.push(length.ok_or("a label has 1 to 63 bytes")?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    let is_written = |byte: u8| byte.is_ascii_graphic();
    match () {
        () if bytes.len() > NAME_MAX => Err("a name has at most 255 bytes"),
        () if !text.bytes().all(is_written) => Err("write a name in ASCII, without spaces"),
        () => Ok(bytes),
    }
}

/// The name at this place, in lower case with a dot at its end, and where it ends.
pub(super) fn shown(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut text, mut at, mut end) = (String::new(), start, None);
    let mut length_total = 1;
    loop {
        let length = *bytes.get(at)?;
        match length >> 6 {
            0 if length == 0 => break,
            0 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length))?;
                length_total += 1 + label.len();
                if length_total > NAME_MAX {
                    return None;
                }
                let is_plain = |byte: u8| byte.is_ascii_graphic() && !b".\\".contains(&byte);
                for byte in label {
                    // RFC 1035 §5.1: \DDD stands for a byte that a name does not usually contain.
                    let plain = char::from(byte.to_ascii_lowercase());
                    if is_plain(*byte) { text.push(plain) } else { text.push_str(&format!("\\{byte:03}")) }
                }
                text.push('.');
                at += 1 + label.len();
            }
            // RFC 1035 §4.1.4: the rest stands at an earlier place. Only earlier ones: no loop.
            3 => {
                let low = *bytes.get(at + 1)?;
                let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                end = end.or(Some(at + 2));
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
    if text.is_empty() {
        text.push('.');
    }
    Some((text, end.unwrap_or(at + 1)))
}
