//! The fields of a packet by name: each setter makes the same packet with another value, and with a correct IPv4 header
//! checksum. Fields behind the IPv4 header are those of a packet without options.

use std::net::Ipv4Addr;

use super::packets::finish_header;

/// For IPv4 packets, which may be cut or wrong already.
pub trait Fields {
    fn with(&self, at: usize, value: &[u8]) -> Vec<u8>;

    fn byte(&self, at: usize) -> u8;

    fn version(&self, version: u8) -> Vec<u8> {
        self.with(0, &[version << 4 | self.byte(0) & 0x0f])
    }

    /// The header's length in words of four bytes.
    fn header_words(&self, words: u8) -> Vec<u8> {
        self.with(0, &[self.byte(0) & 0xf0 | words])
    }

    fn tos(&self, tos: u8) -> Vec<u8> {
        self.with(1, &[tos])
    }

    fn total_length(&self, length: usize) -> Vec<u8> {
        self.with(2, &(length as u16).to_be_bytes())
    }

    fn identification(&self, identification: u16) -> Vec<u8> {
        self.with(4, &identification.to_be_bytes())
    }

    /// Three flags and the offset in words of eight bytes.
    fn fragment(&self, word: u16) -> Vec<u8> {
        self.with(6, &word.to_be_bytes())
    }

    fn reserved_flag(&self) -> Vec<u8> {
        self.with(6, &[self.byte(6) | 0x80])
    }

    fn other_dont_fragment(&self) -> Vec<u8> {
        self.with(6, &[self.byte(6) ^ 0x40])
    }

    fn ttl(&self, ttl: u8) -> Vec<u8> {
        self.with(8, &[ttl])
    }

    fn protocol(&self, protocol: u8) -> Vec<u8> {
        self.with(9, &[protocol])
    }

    fn source(&self, source: Ipv4Addr) -> Vec<u8> {
        self.with(12, &source.octets())
    }

    fn destination(&self, destination: Ipv4Addr) -> Vec<u8> {
        self.with(16, &destination.octets())
    }

    fn wrong_header_checksum(&self) -> Vec<u8>;

    /// Of TCP and UDP.
    fn source_port(&self, port: u16) -> Vec<u8> {
        self.with(20, &port.to_be_bytes())
    }

    /// Of TCP and UDP.
    fn destination_port(&self, port: u16) -> Vec<u8> {
        self.with(22, &port.to_be_bytes())
    }

    /// The TCP header's length in words of four bytes.
    fn data_offset(&self, words: u8) -> Vec<u8> {
        self.with(32, &[words << 4])
    }

    fn wrong_tcp_checksum(&self) -> Vec<u8> {
        self.with(36, &[self.byte(36) ^ 0xff])
    }

    fn wrong_icmp_checksum(&self) -> Vec<u8> {
        self.with(22, &[self.byte(22) ^ 1])
    }

    fn udp_length(&self, length: usize) -> Vec<u8> {
        self.with(24, &(length as u16).to_be_bytes())
    }

    /// RFC 768: the sender computed none.
    fn no_udp_checksum(&self) -> Vec<u8> {
        self.with(26, &[0, 0])
    }
}

impl Fields for [u8] {
    fn with(&self, at: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = self.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        finish_header(&mut bytes);
        bytes
    }

    fn byte(&self, at: usize) -> u8 {
        self[at]
    }

    fn wrong_header_checksum(&self) -> Vec<u8> {
        let mut bytes = self.to_vec();
        bytes[10] ^= 0xff;
        bytes
    }
}

/// The fields of a packet inside a larger one, such as a quotation: set in place, without any checksum.
pub trait FieldsInside {
    fn set(&mut self, at: usize, value: &[u8]);

    fn set_version_and_header_words(&mut self, version: u8, words: u8) {
        self.set(0, &[version << 4 | words]);
    }

    fn set_total_length(&mut self, length: u16) {
        self.set(2, &length.to_be_bytes());
    }

    /// Three flags and the offset in words of eight bytes.
    fn set_fragment(&mut self, word: u16) {
        self.set(6, &word.to_be_bytes());
    }

    fn set_protocol(&mut self, protocol: u8) {
        self.set(9, &[protocol]);
    }

    fn set_source(&mut self, source: impl Into<Ipv4Addr>) {
        self.set(12, &source.into().octets());
    }

    fn set_destination(&mut self, destination: impl Into<Ipv4Addr>) {
        self.set(16, &destination.into().octets());
    }

    /// Of TCP and UDP.
    fn set_source_port(&mut self, port: u16) {
        self.set(20, &port.to_be_bytes());
    }

    /// Of TCP and UDP.
    fn set_destination_port(&mut self, port: u16) {
        self.set(22, &port.to_be_bytes());
    }
}

impl FieldsInside for [u8] {
    fn set(&mut self, at: usize, value: &[u8]) {
        self[at..at + value.len()].copy_from_slice(value);
    }
}
