//! `director::path::errors`: what somebody says about our outer packets. The path is never taken to be narrower than
//! the floor nor wider than its link, and whoever is told is told soundly.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_tund::director::Director;
use lvs_tund::director::cluster::{
    Cluster, ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig,
};
use lvs_tund::director::path::MTU_MIN;
use lvs_tund::director::path::errors::{Event, Outcome, PathErrors};
use lvs_tund::director::tables::Tables;
use lvs_tund::packet::icmp::Icmp;
use lvs_tund::packet::ipv4::{HEADER, Header, Ipv4};
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::time::Moment;

use super::input::write_checksum;

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 2);
const LINK_MTU: u16 = 1500;

/// The first byte says whether the rest is a whole packet or a message whose checksum and header are made right.
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
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, "rr")
    };
    let config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
    let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config, host)));
    let tables = Arc::new(Tables::new(100, 7));
    let mut director = Director::new(tables.clone(), 7);
    let now = Moment::from_secs(1);
    director.handle_packet(&cluster.load(), &mut Frame::from_packet(&datagram()), now);
    let mut errors = PathErrors::new(cluster.clone(), tables);

    let packet = if how & 1 == 0 { bytes.to_vec() } else { message(bytes) };
    for _ in 0..2 {
        let heard = errors.handle_packet(&packet, now);
        let mtu = cluster.load().real_server_at(SERVER).expect("it is there").path_mtu(now);
        assert!((MTU_MIN..=LINK_MTU).contains(&mtu), "{mtu}");
        if let Some(Event::MtuLowered { mtu: said, .. }) = heard.event {
            assert_eq!(said, mtu);
        }
        assert_eq!(heard.answer.is_some(), heard.outcome == Outcome::Relayed);
        if let Some((answer, to)) = heard.answer {
            let answer = Ipv4::parse(&answer).expect("a sound answer");
            assert_eq!((answer.source(), answer.destination()), (VIP, to));
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
