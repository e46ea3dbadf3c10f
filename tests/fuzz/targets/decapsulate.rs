//! `realserver::Decapsulator`: what is delivered is for a VIP, from an address that can be a client, and was
//! inside the packet that came, byte for byte but for its congestion marks.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use lvs_tund::encapsulation::ENCAPSULATIONS;
use lvs_tund::packet::ipv4::Ipv4;
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::realserver::Decapsulator;
use lvs_tund::realserver::guard::{Guard, GuardConfig, Service};
use lvs_tund::realserver::verdict::Verdict;

use super::input::mended;

const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
const REAL_SERVER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 2);
const MTU: u16 = 1500;

static OPEN: LazyLock<Decapsulator> = LazyLock::new(|| decapsulator(Vec::new()));
static GUARDED: LazyLock<Decapsulator> = LazyLock::new(|| {
    let service = |protocol, port| Service { protocol, port };
    decapsulator(vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)])
});

fn decapsulator(services: Vec<Service>) -> Decapsulator {
    let config = GuardConfig {
        vips: vec![VIP.into()],
        directors: vec!["172.25.3.1/32".parse().expect("a prefix"), "10.9.0.0/16".parse().expect("a prefix")],
        rips: Vec::new(),
        services,
    };
    Decapsulator::new(Guard::new(config, vec![REAL_SERVER.into()]), ENCAPSULATIONS, MTU)
}

/// The bytes as they are; with the inner checksums right; and as the inner packet of a good outer one.
pub fn run(data: &[u8]) {
    check(data);
    if data.len() > 20 {
        let inner = mended(&data[20..]);
        check(&mended(&[&data[..20], &inner].concat()));
    }
    let inner = mended(data);
    let mut outer = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 4, 0, 0];
    outer.extend(DIRECTOR.octets());
    outer.extend(REAL_SERVER.octets());
    outer.extend(&inner);
    let length = outer.len().min(0xffff) as u16;
    outer[2..4].copy_from_slice(&length.to_be_bytes());
    check(&mended(&outer));
}

fn check(outer: &[u8]) {
    let admitted = [&OPEN, &GUARDED].map(|decapsulator| deliver(decapsulator, outer));
    assert!(admitted[0] || !admitted[1], "what may be inside is only ever less");
}

fn deliver(decapsulator: &Decapsulator, outer: &[u8]) -> bool {
    let mut frame = Frame::from_packet(outer);
    let Verdict::Deliver(delivery) = decapsulator.handle_packet(&mut frame) else { return false };
    let given = frame.packet();
    let inner = Ipv4::parse(given).expect("a sound inner header");
    assert_eq!((delivery.vip, inner.destination()), (0, VIP));
    let source = inner.source();
    assert!(![VIP, DIRECTOR, REAL_SERVER].contains(&source));
    assert!(!source.is_loopback() && !source.is_multicast() && !source.is_unspecified());
    assert!(!matches!(inner.protocol(), 4 | 41 | 47), "one level only");
    assert_ne!(inner.ttl(), 0);
    let start = usize::from(outer[0] & 0x0f) * 4;
    let came = &outer[start..start + given.len()];
    assert_eq!((given[0], given[1] & !3), (came[0], came[1] & !3), "the DSCP is the inner one");
    assert_eq!((&given[2..10], &given[12..]), (&came[2..10], &came[12..]));
    if let Some(checksum) = frame.offload.checksum {
        assert!(usize::from(checksum.field) + 2 <= given.len() && checksum.start < checksum.field);
    }
    if let Some(segments) = frame.offload.segments {
        assert!(segments.size > 0 && usize::from(segments.header_length) <= given.len());
    }
    true
}
