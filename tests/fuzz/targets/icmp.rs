//! `packet::icmp`: a message, and the packet an error quotes; all of it lies inside the bytes.

use lvs_tund::packet::icmp::{HEADER, Icmp};
use lvs_tund::packet::ipv4::Ipv4;

use super::input::write_checksum;

pub fn run(data: &[u8]) {
    let _ = Ipv4::parse_quoted(data).map(|header| (header.payload().len(), header.check_options()));
    let mut message = data.to_vec();
    let _ = Icmp::parse(&message);
    if message.len() < HEADER {
        return;
    }
    write_checksum(&mut message, 2);
    let icmp = Icmp::parse(&message).expect("its checksum is right");
    assert_eq!(icmp.body(), &message[HEADER..]);
    assert_eq!((icmp.kind(), icmp.code()), (message[0], message[1]));
    assert_eq!((icmp.identifier(), icmp.next_hop_mtu()), (word(&message, 4), word(&message, 6)));
    let Ok(quoted) = icmp.quoted() else { return };
    let (header, flow) = (quoted.header, quoted.flow);
    assert!(header.packet().len() <= icmp.body().len());
    assert_eq!(header.packet(), &icmp.body()[..header.packet().len()]);
    let upper = header.upper().expect("an IPv4 header has nothing behind it that can be wrong");
    assert!(upper.payload.len() >= 8 && !upper.is_later_fragment());
    assert_eq!((flow.client_port, flow.vip_port), (word(upper.payload, 0), word(upper.payload, 2)));
    assert_eq!(flow.reversed().reversed(), flow);
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
