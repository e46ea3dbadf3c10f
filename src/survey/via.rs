//! Packets through the tunnel to each real server, and how far they come.
//!
//! The inner packet has a source that no client has, and no host answers it: a reset, which a listening socket discards
//! (tcp_rcv_state_process()), or a datagram with a wrong checksum.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use pnet_packet::MutablePacket;
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};
use pnet_packet::udp::MutableUdpPacket;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::metrics;
use crate::director::cluster::Matcher;
use crate::doctor::facts::{Director, Refusal, Via};
use crate::packet::{Protocol, protocol};

/// TEST-NET-1 (RFC 5737): no client has it.
const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// `in.h` IPPROTO_RAW: a socket that only sends.
const PROTOCOL_RAW: i32 = 255;

/// Packets to each real server, so that a single lost one does not matter.
const COUNT: usize = 3;
/// For an ICMP error, and until the companion has counted.
const PATIENCE: Duration = Duration::from_millis(800);

/// Four-byte words of an IPv4 header without options (RFC 791 §3.1).
const HEADER_WORDS: u8 = 5;
const HEADER: usize = HEADER_WORDS as usize * 4;

/// Sends to every real server that can be reached, all at the same time.
pub(super) fn through_the_tunnel(facts: &mut Director, port: u16) {
    let asked: Vec<Option<(Ipv4Addr, Ipv4Addr, Matcher)>> = facts
        .servers
        .iter()
        .map(|server| {
            let way =
                server.way.as_ref().ok().filter(|way| !way.is_local && way.is_answered != Some(false))?;
            Some((server.rip, way.source?, matcher_of(facts, server.rip)?))
        })
        .collect();
    let answers: Vec<Option<Via>> = thread::scope(|scope| {
        let send = |asked: Option<(Ipv4Addr, Ipv4Addr, Matcher)>| {
            scope.spawn(move || asked.and_then(|(rip, source, matcher)| via(rip, source, &matcher, port)))
        };
        let sending: Vec<_> = asked.into_iter().map(send).collect();
        sending.into_iter().map(|sending| sending.join().unwrap_or_default()).collect()
    });
    for (server, via) in facts.servers.iter_mut().zip(answers) {
        server.via = via;
    }
}

/// What the real server serves, by the configuration.
fn matcher_of(facts: &Director, rip: Ipv4Addr) -> Option<Matcher> {
    let services = &facts.plan.cluster.virtual_services;
    let has = |server: &crate::director::cluster::RealServerConfig| server.rip == IpAddr::V4(rip);
    let service = services.iter().find(|service| service.real_servers.iter().any(has)).or(services.first())?;
    service.matchers.first().copied()
}

/// `None` if nothing can be sent.
fn via(rip: Ipv4Addr, source: Ipv4Addr, matcher: &Matcher, port: u16) -> Option<Via> {
    let packet = packet(rip, source, matcher)?;
    let metrics = SocketAddr::from((rip, port));
    let before = metrics::of(metrics);
    let mut errors = Socket::new(Domain::IPV4, Type::RAW, Some(SocketProtocol::ICMPV4)).ok()?;
    errors.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let sender = Socket::new(Domain::IPV4, Type::RAW, Some(SocketProtocol::from(PROTOCOL_RAW))).ok()?;
    for _ in 0..COUNT {
        sender.send_to(&packet, &SocketAddrV4::new(rip, 0).into()).ok()?;
    }
    let refusal = refusal(&mut errors, rip);
    let counters = before.and_then(|before| Some((before, metrics::of(metrics)?)));
    Some(Via { metrics, refusal, counters })
}

/// Waits for an ICMP error about a packet through the tunnel to this host.
fn refusal(errors: &mut Socket, rip: Ipv4Addr) -> Option<Refusal> {
    let started = Instant::now();
    let mut buffer = [0; 1024];
    while started.elapsed() < PATIENCE {
        let Ok(length) = errors.read(&mut buffer) else { continue };
        if let Some(code) = unreachable(&buffer[..length], rip) {
            return Some(match code {
                2 => Refusal::Protocol,
                3 => Refusal::Port,
                9 | 10 | 13 => Refusal::Prohibited,
                code => Refusal::Other(code),
            });
        }
    }
    None
}

/// The code of a destination unreachable (type 3) that quotes a packet of protocol 4 to `rip`.
fn unreachable(packet: &[u8], rip: Ipv4Addr) -> Option<u8> {
    const ICMP_HEADER: usize = 8;
    const DESTINATION_UNREACHABLE: u8 = 3;
    let length = usize::from(Ipv4Packet::new(packet)?.get_header_length()) * 4;
    let icmp = packet.get(length..)?;
    let quoted = Ipv4Packet::new(icmp.get(ICMP_HEADER..)?)?;
    let is_about_it = quoted.get_destination() == rip && quoted.get_next_level_protocol().0 == protocol::IPIP;
    (icmp[0] == DESTINATION_UNREACHABLE && is_about_it).then(|| icmp[1])
}

/// The whole outer packet; the kernel fills in its identification and checksum (raw(7)).
fn packet(rip: Ipv4Addr, source: Ipv4Addr, matcher: &Matcher) -> Option<Vec<u8>> {
    let IpAddr::V4(vip) = matcher.vip else { return None };
    let transport = match matcher.protocol {
        Protocol::Tcp => MutableTcpPacket::minimum_packet_size(),
        Protocol::Udp => MutableUdpPacket::minimum_packet_size(),
    };
    let mut bytes = vec![0; HEADER + HEADER + transport];
    header(&mut bytes, source, rip, protocol::IPIP);
    let inner = &mut bytes[HEADER..];
    header(inner, SOURCE, vip, matcher.protocol.number());
    let mut ip = MutableIpv4Packet::new(inner)?;
    let port = matcher.ports.first;
    match matcher.protocol {
        Protocol::Tcp => {
            let mut reset = MutableTcpPacket::new(ip.payload_mut())?;
            reset.set_source(port);
            reset.set_destination(port);
            reset.set_data_offset(5);
            reset.set_flags(TcpFlags::RST);
            let sum = tcp::ipv4_checksum(&reset.to_immutable(), &SOURCE, &vip);
            reset.set_checksum(sum);
        }
        Protocol::Udp => {
            let mut datagram = MutableUdpPacket::new(ip.payload_mut())?;
            datagram.set_source(port);
            datagram.set_destination(port);
            datagram.set_length(u16::try_from(transport).ok()?);
            let sum = pnet_packet::udp::ipv4_checksum(&datagram.to_immutable(), &SOURCE, &vip);
            // Wrong, and not 0, which would mean that there is none.
            datagram.set_checksum(if sum == 1 { 2 } else { 1 });
        }
    }
    Some(bytes)
}

fn header(bytes: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) {
    let (Ok(length), Some(mut ip)) = (u16::try_from(bytes.len()), MutableIpv4Packet::new(bytes)) else {
        return;
    };
    ip.set_version(4);
    ip.set_header_length(HEADER_WORDS);
    ip.set_total_length(length);
    ip.set_ttl(64);
    ip.set_next_level_protocol(match protocol {
        protocol::TCP => IpNextHeaderProtocols::Tcp,
        protocol::UDP => IpNextHeaderProtocols::Udp,
        other => IpNextHeaderProtocol::new(other),
    });
    ip.set_source(source);
    ip.set_destination(destination);
    let sum = ipv4::checksum(&ip.to_immutable());
    ip.set_checksum(sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::cluster::Ports;

    #[test]
    fn an_error_is_recognised_by_the_packet_that_it_quotes() {
        let rip = Ipv4Addr::new(172, 25, 3, 2);
        let matcher = Matcher {
            protocol: Protocol::Tcp,
            vip: Ipv4Addr::new(172, 25, 3, 100).into(),
            ports: Ports::one(80),
        };
        let sent = packet(rip, Ipv4Addr::new(172, 25, 3, 1), &matcher).unwrap();
        let error = |kind: u8, code: u8, quoted: &[u8]| {
            let mut error = sent[..HEADER].to_vec();
            error.extend([kind, code, 0, 0, 0, 0, 0, 0]);
            error.extend_from_slice(quoted);
            error
        };
        assert_eq!(unreachable(&error(3, 2, &sent), rip), Some(2));
        assert_eq!(unreachable(&error(11, 0, &sent), rip), None);
        assert_eq!(unreachable(&error(3, 2, &sent), Ipv4Addr::new(172, 25, 3, 3)), None);
        assert_eq!(unreachable(&error(3, 2, &sent[HEADER..]), rip), None);
        assert_eq!(unreachable(&error(3, 2, &[]), rip), None);
    }

    #[test]
    fn the_inner_packet_is_a_reset_or_a_datagram_that_no_host_answers() {
        let of = |protocol| {
            let matcher =
                Matcher { protocol, vip: Ipv4Addr::new(172, 25, 3, 100).into(), ports: Ports::one(53) };
            packet(Ipv4Addr::new(172, 25, 3, 2), Ipv4Addr::new(172, 25, 3, 1), &matcher).unwrap()
        };
        let (tcp, udp) = (of(Protocol::Tcp), of(Protocol::Udp));
        let inner = etherparse::SlicedPacket::from_ip(&tcp[HEADER..]).unwrap();
        let Some(etherparse::TransportSlice::Tcp(reset)) = inner.transport else { panic!("no TCP") };
        assert!(reset.rst() && !reset.ack() && !reset.syn());
        assert_eq!(
            reset.to_header().calc_checksum_ipv4_raw(SOURCE.octets(), [172, 25, 3, 100], &[]),
            Ok(reset.checksum())
        );
        let inner = etherparse::SlicedPacket::from_ip(&udp[HEADER..]).unwrap();
        let Some(etherparse::TransportSlice::Udp(datagram)) = inner.transport else { panic!("no UDP") };
        assert_eq!((datagram.destination_port(), datagram.length()), (53, 8));
        assert_eq!(datagram.checksum(), 1);
    }
}
