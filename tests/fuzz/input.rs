//! Reading a target's input, and making packets of it that get past a checksum: no fuzzer guesses one.

use lvs_tund::packet::checksum::checksum;

/// Bytes to be taken from the front. Bytes that are not there read as zero.
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(rest: &'a [u8]) -> Input<'a> {
        Input { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn word(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// At most `length` bytes.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (front, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        front
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}

/// Length of an IPv4 header that is there as a whole.
fn header_length(packet: &[u8]) -> Option<usize> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    (packet[0] >> 4 == 4 && (20..=packet.len()).contains(&length)).then_some(length)
}

/// The same packet with the checksum of its IPv4 header right, and that of its ICMP message.
pub fn mended(packet: &[u8]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let Some(length) = header_length(&bytes) else { return bytes };
    write_checksum(&mut bytes[..length], 10);
    let total_length = usize::from(bytes[2]) << 8 | usize::from(bytes[3]);
    if bytes[9] == 1 && (length + 4..=bytes.len()).contains(&total_length) {
        write_checksum(&mut bytes[length..total_length], 2);
    }
    bytes
}

/// Writes the checksum of `bytes` at `at`.
pub fn write_checksum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let sum = checksum(bytes);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
