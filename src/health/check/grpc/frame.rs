//! Frames of HTTP/2 (RFC 9113 §4.1, §6), cut out of a stream of bytes.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 0x1;
/// Of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// RFC 9113 §3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 §6.5.2: the largest frame unless a setting allows larger ones.
const LENGTH_MAX: usize = 16_384;
const HEADER: usize = 9;

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Whether it has this flag.
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of DATA or HEADERS without padding and priority. `None`: the padding is longer than the frame.
    pub(super) fn content(&self) -> Option<&[u8]> {
        let mut content = &self.payload[..];
        if self.has(PADDED) {
            let (padding, rest) = content.split_first()?;
            content = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
        }
        let is_prioritised = self.kind == HEADERS && self.has(PRIORITY);
        if is_prioritised { content.get(5..) } else { Some(content) }
    }

    /// The number in the first four bytes of the payload.
    pub(super) fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(*self.payload.get(at..)?.first_chunk()?))
    }
}

/// Removes a frame from the front of what has arrived. `None`: it is not complete. `Some(None)`: it is too large.
pub(super) fn take(received: &mut Vec<u8>) -> Option<Option<Frame>> {
    let [high, middle, low, kind, flags, stream @ ..] = &received[..] else { return None };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    if length > LENGTH_MAX {
        return Some(None);
    }
    let (kind, flags) = (*kind, *flags);
    let stream = u32::from_be_bytes(*stream.first_chunk()?) & 0x7fff_ffff;
    let payload = received.get(HEADER..HEADER + length)?.to_vec();
    received.drain(..HEADER + length);
    Some(Some(Frame { kind, flags, stream, payload }))
}

/// A frame as bytes.
pub(super) fn written(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
