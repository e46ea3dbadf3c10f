//! Packets for tests, built by a hand that is not the program's: etherparse, and bytes.

use std::net::Ipv4Addr;

use etherparse::{PacketBuilder, TcpOptionElement};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
pub const SERVER2: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 2);
pub const SERVER3: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 3);

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const RST: u8 = 0x04;
pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const URG: u8 = 0x20;

/// A TCP segment from the client's port 40000 to the VIP's port 80.
pub fn tcp(flags: u8, data: &[u8]) -> Vec<u8> {
    tcp_between(CLIENT, 40000, VIP, 80, flags, data)
}

pub fn tcp_between(
    source: Ipv4Addr,
    source_port: u16,
    destination: Ipv4Addr,
    port: u16,
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .tcp(source_port, port, 1000, 64240)
        .options(&[TcpOptionElement::MaximumSegmentSize(1460)])
        .expect("four bytes of options");
    let mut bytes = Vec::new();
    builder.write(&mut bytes, data).expect("a Vec takes everything");
    bytes[20 + 13] = flags;
    let acknowledgement: u32 = if flags & ACK != 0 { 5000 } else { 0 };
    bytes[28..32].copy_from_slice(&acknowledgement.to_be_bytes());
    finish_transport(&mut bytes);
    bytes
}

/// A UDP datagram from the client's port 40000 to the VIP's `port`.
pub fn udp(port: u16, data: &[u8]) -> Vec<u8> {
    udp_between(CLIENT, 40000, port, data)
}

/// An IPv4 packet of any protocol around `payload`.
pub fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    let length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    finish_header(&mut bytes);
    bytes
}

/// `packet` behind an IPv4 header of `protocol` from the director to server2.
pub fn wrapped(packet: &[u8], protocol: u8) -> Vec<u8> {
    ip(DIRECTOR, SERVER2, protocol, packet)
}

/// An ICMP message to the VIP.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(body);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(CLIENT, VIP, 1, &message)
}

/// The same packet with header options (a multiple of four bytes) put in.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut bytes = packet[..20].to_vec();
    bytes.extend(options);
    bytes.extend(&packet[20..]);
    bytes[0] = 0x45 + (options.len() / 4) as u8;
    let length = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    finish_header(&mut bytes);
    bytes
}

/// The same packet after `change`, with a correct header checksum.
pub fn changed(packet: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    change(&mut bytes);
    finish_header(&mut bytes);
    bytes
}

/// The same packet with these bits in the flags and offset word.
pub fn as_fragment(packet: &[u8], word: u16) -> Vec<u8> {
    changed(packet, |bytes| bytes[6..8].copy_from_slice(&word.to_be_bytes()))
}

/// Writes the header checksum.
pub fn finish_header(bytes: &mut [u8]) {
    let length = usize::from(bytes[0] & 0x0f) * 4;
    if !(20..=bytes.len()).contains(&length) {
        return;
    }
    bytes[10..12].fill(0);
    let sum = checksum(&bytes[..length]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the TCP or UDP checksum of a packet without options.
pub fn finish_transport(bytes: &mut [u8]) {
    let field = if bytes[9] == 6 { 36 } else { 26 };
    bytes[field..field + 2].fill(0);
    let mut pseudo = bytes[12..20].to_vec();
    pseudo.extend([0, bytes[9]]);
    pseudo.extend(((bytes.len() - 20) as u16).to_be_bytes());
    pseudo.extend(&bytes[20..]);
    let sum = checksum(&pseudo);
    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071, word by word.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A datagram to the VIP.
pub fn udp_between(source: Ipv4Addr, source_port: u16, port: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4(source.octets(), VIP.octets(), 64).udp(source_port, port);
    builder.write(&mut bytes, data).expect("a Vec takes everything");
    bytes
}
