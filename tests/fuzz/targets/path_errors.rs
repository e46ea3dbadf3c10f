//! `director::path_errors`: errors about our outer packets, from anyone. The path is never taken to be narrower than
//! the floor nor wider than its link, and every notified client gets a sound message.

use std::net::{IpAddr, Ipv4Addr};

use lvs_tund::director::cluster::{ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::path::MTU_MIN;
use lvs_tund::director::path_errors::{Event, Outcome};
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::tables::Tables;
use lvs_tund::packet::Protocol;
use lvs_tund::packet::icmp::Icmp;
use lvs_tund::packet::ipv4::{HEADER, Header, Ipv4};

use super::input::write_checksum;
use super::world::World;

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 2);
const LINK_MTU: u16 = 1500;

/// The first byte decides whether the rest is a whole packet or a message whose checksum and header are made right.
pub fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let path = Path { source: DIRECTOR, mtu: LINK_MTU };
    let host = HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: [(SERVER.into(), path)].into(),
        ..HostView::default()
    };
    let service = VirtualServiceConfig {
        real_servers: vec![RealServerConfig::new(SERVER.into(), 1)],
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    };
    let config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
    let mut world = World::new(config, host, Tables::new(100, 7));
    world.process(&datagram());
    let packet = if how & 1 == 0 { bytes.to_vec() } else { message(bytes) };
    for _ in 0..2 {
        let heard = world.hear(&packet);
        let mtu = world.cluster.load().real_server_at(SERVER).expect("it is there").path_mtu(world.now);
        assert!((MTU_MIN..=LINK_MTU).contains(&mtu), "{mtu}");
        if let Some(Event::MtuLowered { mtu: said, .. }) = heard.event {
            assert_eq!(said, mtu);
        }
        assert_eq!(heard.answer.is_some(), heard.outcome == Outcome::Relayed);
        if let Some((answer, to)) = heard.answer {
            let answer = Ipv4::parse(&answer).expect("a sound answer");
            assert_eq!((answer.source(), IpAddr::V4(answer.destination())), (VIP, to));
            assert!(answer.total_length() <= 576 && !to.is_multicast() && !to.is_loopback());
            assert!(Icmp::parse(answer.payload()).expect("a sound message").is_error());
        }
    }
}

/// The one connection there is, without DF so that nothing about it is too big.
fn datagram() -> Vec<u8> {
    let mut bytes = vec![0; HEADER + 8];
    bytes[HEADER..].copy_from_slice(&[0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    header(17, CLIENT, VIP, 28).write(&mut bytes);
    bytes
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let mut message = bytes[..bytes.len().min(4000)].to_vec();
    if message.len() >= 4 {
        write_checksum(&mut message, 2);
    }
    let mut packet = vec![0; HEADER];
    header(1, SERVER, DIRECTOR, HEADER + message.len()).write(&mut packet);
    packet.extend(message);
    packet
}

fn header(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Header {
    Header {
        tos: 0,
        total_length: length as u16,
        identification: 1,
        dont_fragment: false,
        ttl: 64,
        protocol,
        source,
        destination,
    }
}
