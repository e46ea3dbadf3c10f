//! `director::classify`: the properties of a packet are those in its bytes, and padding changes nothing.

use std::net::IpAddr;

use lvs_tund::director::classify::{Content, Packet, classify};

use super::input::mended;

pub fn run(data: &[u8]) {
    for bytes in [data.to_vec(), mended(data)] {
        if let Ok(packet) = classify(&bytes) {
            check(&packet, &bytes);
            let padded = [&bytes[..], &[0xff; 6]].concat();
            assert_eq!(classify(&padded), Ok(packet), "link padding");
        }
    }
}

fn check(packet: &Packet, bytes: &[u8]) {
    assert!(packet.total_length <= bytes.len());
    assert_eq!(bytes[0] >> 4, 4, "there is no IPv6 VIP");
    let address = |at: usize| IpAddr::from([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    assert_eq!((packet.source, packet.destination), (address(12), address(16)));
    assert_ne!(packet.source, packet.destination);
    let IpAddr::V4(source) = packet.source else { panic!("{packet:?}") };
    assert!(!source.is_loopback() && !source.is_multicast() && !source.is_broadcast());
    if packet.content == Content::IcmpError {
        assert_eq!(packet.flow.vip, packet.destination, "the VIP is who sent what is quoted");
    } else {
        assert_eq!((packet.flow.client, packet.flow.vip), (packet.source, packet.destination));
        assert_eq!(packet.flow.protocol, bytes[9]);
    }
    let header_length = usize::from(bytes[0] & 0x0f) * 4;
    if matches!(packet.content, Content::Tcp(_) | Content::Udp) {
        assert_ne!(packet.flow.vip_port, 0);
        let port = |at: usize| u16::from_be_bytes([bytes[header_length + at], bytes[header_length + at + 1]]);
        assert_eq!((packet.flow.client_port, packet.flow.vip_port), (port(0), port(2)));
    }
    if packet.content == Content::LaterFragment {
        assert!(packet.fragment.is_some());
    }
}
