//! What the director wraps, the real server unwraps, byte for byte; and nothing panics on garbage.

use lvs_tund::director::classify::classify;
use lvs_tund::director::cluster::{ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::scheduler::wlc;
use lvs_tund::director::tables::Tables;
use lvs_tund::encapsulation::identification::Identifications;
use lvs_tund::encapsulation::{ENCAPSULATIONS, Outer, Ttl};
use lvs_tund::packet::ipv4::Ipv4;
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::realserver::Decapsulator;
use lvs_tund::realserver::guard::{Guard, GuardConfig};
use proptest::prelude::*;

mod support;

use support::packets::*;
use support::world::World;

/// Sound IPv4 packets of every kind, also with options and as fragments; most of them whole and of a protocol that is
/// read further, many too short for what they are, with ports that are served and a checksum that was only begun.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![0..40usize, 0..2000usize]
        .prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length));
    let protocol = prop_oneof![Just(1u8), Just(4), Just(6), Just(6), Just(17), any::<u8>()];
    let flags = prop_oneof![2 => Just(0u16), 2 => Just(0x4000), 1 => Just(0x2000), 1 => any::<u16>()];
    let options = prop_oneof![Just(vec![]), Just(vec![1u8, 1, 1, 0]), Just(vec![7, 7, 4, 0, 0, 0, 0, 0])];
    (payload, options, protocol, any::<u8>(), 1u8..=255, flags, any::<u8>()).prop_map(
        |(mut payload, options, protocol, tos, ttl, flags, wishes)| {
            make_plausible(&mut payload, protocol, wishes);
            let packet = with_options(&ip(CLIENT, VIP, protocol, &payload), &options);
            changed(&packet, |bytes| {
                bytes[1] = tos;
                bytes[8] = ttl;
                bytes[6..8].copy_from_slice(&(flags & 0x7fff).to_be_bytes());
            })
        },
    )
}

/// Garbage with some bytes of what is looked for; each bit of `wishes` decides on one thing.
fn make_plausible(payload: &mut [u8], protocol: u8, wishes: u8) {
    let mut write = |at: usize, bytes: &[u8]| {
        for (byte, value) in payload.iter_mut().skip(at).zip(bytes) {
            *byte = *value;
        }
    };
    match protocol {
        // The length of UDP, or the data offset and the SYN of TCP.
        6 | 17 if wishes & 1 != 0 => {
            write(2, &[0, 80]);
            write(12, &[0x50, 0x02]);
        }
        // An error about a packet of the VIP to the client.
        1 if wishes & 1 != 0 => {
            write(0, &[if wishes & 2 != 0 { 3 } else { 8 }, 4]);
            write(
                8,
                &ip(VIP, CLIENT, if wishes & 4 != 0 { 6 } else { 17 }, &[0, 80, 0x9c, 0x40, 0, 8, 0, 0]),
            );
        }
        _ => {}
    }
    let length = payload.len();
    let field = match protocol {
        1 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if wishes & 8 == 0 || length < field + 2 {
        return;
    }
    payload[field..field + 2].fill(0);
    let pseudo = if protocol == 1 {
        Vec::new()
    } else {
        [&CLIENT.octets()[..], &VIP.octets(), &[0, protocol], &(length as u16).to_be_bytes()].concat()
    };
    let is_begun = wishes & 16 != 0 && protocol != 1;
    let sum = if is_begun { !checksum(&pseudo) } else { checksum(&[&pseudo[..], payload].concat()) };
    payload[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

fn world() -> World {
    let service = VirtualServiceConfig {
        real_servers: vec![RealServerConfig::new(SERVER2.into(), 1)],
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, &wlc::ROW)
    };
    let config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
    World::new(config, HostView::default(), Tables::new(1000, 1))
}

fn decapsulator() -> Decapsulator {
    let config = GuardConfig {
        vips: vec![VIP.into()],
        directors: vec!["0.0.0.0/0".parse().unwrap()],
        rips: Vec::new(),
        services: Vec::new(),
    };
    Decapsulator::new(Guard::new(config, Vec::new()), ENCAPSULATIONS, 1500)
}

proptest! {
    #[test]
    fn every_encapsulation_gives_back_what_it_took(packet in packet(), identification in any::<u16>()) {
        for row in ENCAPSULATIONS {
            let outer = Outer { source: DIRECTOR, destination: SERVER2, ttl: Ttl::default(), ignores_df: false };
            let mut frame = Frame::from_packet(&packet);
            (row.encapsulate)(&mut frame, &outer, &Identifications::new(identification)).unwrap();
            prop_assert_eq!(frame.len(), packet.len() + usize::from(row.overhead));
            let wrapped = Ipv4::parse(frame.packet()).unwrap();
            prop_assert!(row.carrier.carries(&wrapped), "{}", row.name);
            prop_assert_eq!(row.quoted_inner(&wrapped), &packet[..], "{}", row.name);
            let taken = (row.decapsulate)(wrapped).unwrap();
            prop_assert_eq!(&frame.packet()[taken.range()], &packet[..], "{}", row.name);
            prop_assert_eq!(taken.inner.packet(), &packet[..], "{}", row.name);
            prop_assert_eq!((taken.outer.source(), taken.outer.destination()), (DIRECTOR, SERVER2));
        }
    }

    #[test]
    fn an_independent_parser_accepts_what_we_wrap(packet in packet()) {
        for row in ENCAPSULATIONS {
            let outer = Outer { source: DIRECTOR, destination: SERVER2, ttl: Ttl::default(), ignores_df: false };
            let mut frame = Frame::from_packet(&packet);
            (row.encapsulate)(&mut frame, &outer, &Identifications::new(9)).unwrap();
            let (header, behind) = etherparse::Ipv4Header::from_slice(frame.packet()).unwrap();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!(usize::from(header.total_len), packet.len() + usize::from(row.overhead));
            prop_assert_eq!(header.protocol.0, row.carrier.protocol(), "{}", row.name);
            prop_assert_eq!(header.dont_fragment, packet[6] & 0x40 != 0);
            prop_assert!(behind.ends_with(&packet), "{}", row.name);
        }
    }

    #[test]
    fn nothing_panics_on_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = classify(&bytes);
        world().process(&bytes);
        decapsulator().handle_packet(&mut Frame::from_packet(&bytes));
    }

    /// Garbage that gets past the first checks: a sound header around it, inside and outside.
    #[test]
    fn plausible_garbage_causes_no_panic(packet in packet(), cut in any::<prop::sample::Index>()) {
        let _ = classify(&packet);
        world().process(&packet);
        let outer = wrapped(&packet, 4);
        decapsulator().handle_packet(&mut Frame::from_packet(&outer));
        decapsulator().handle_packet(&mut Frame::from_packet(&outer[..cut.index(outer.len())]));
        // Cut by a sender that makes the lengths fit.
        let cut = changed(&packet[..20 + cut.index(packet.len() - 19)], |bytes| {
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        });
        let _ = classify(&cut);
        world().process(&cut);
        decapsulator().handle_packet(&mut Frame::from_packet(&wrapped(&cut, 4)));
    }
}
