//! Packets that end at the director or at the real server's door, and the answers to their senders.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lvs_tund::lab::{self, Cluster, Filter, Host};
use lvs_tund::packet::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::{
    Outcome, PATIENCE, ask, assert_conserved, assert_nothing_lost, capture_at_client, configuration,
    director_count, dropped, icmp_type, poll_until, real_server_count, replied, same_subnet, service,
    start_real_servers, web, web_address,
};
use crate::host_state;

/// Sooner than any retransmission (RFC 6298 §2: 1 s at first): what comes within it was an answer.
const AT_ONCE: Duration = Duration::from_millis(500);

const TCP: u8 = 6;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

pub fn stranger() -> Outcome {
    let lab = same_subnet(1).with_stranger().build()?;
    let _cluster = Cluster::start(&lab)?;
    assert_eq!(ask(&lab)?, "server2");
    let (stranger, server) = (lab.stranger.as_ref().expect("requested"), &lab.real_servers[0]);
    let answers = stranger.capture(Filter { source: Some(server.address), destination: None })?;
    let delivered = real_server_count(server, "packets_delivered_total", &[]);
    // what a director would send: a SYN from a client to the VIP
    let inner = ipv4(
        lab.client().address,
        lab.vip,
        TCP,
        &segment(lab.client().address, lab.vip, 40_000, 80, 0x02, 7, 0),
    );
    let socket = raw(stranger, 4)?;
    for _ in 0..3 {
        socket.send_to(&inner, &SocketAddrV4::new(server.address, 0).into())?;
    }
    poll_until("the drop", || {
        (real_server_count(server, "packets_dropped_total", &[("reason", "unknown_peer")]) == 3).then_some(())
    });
    assert_eq!(real_server_count(server, "packets_delivered_total", &[]), delivered);
    let answers = answers.stop();
    assert!(answers.is_empty(), "a stranger gets no answer: {answers:?}");
    assert_conserved(&lab)
}

pub fn no_service() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    assert_refused_at_once(|| connect(lab.client(), lab.vip, 81))?;
    assert_refused_at_once(|| say(lab.client(), lab.vip, 81))?;
    let answers = at_client.stop();
    assert!(answers.iter().any(|packet| packet.protocol() == TCP), "{answers:?}");
    assert!(answers.iter().any(|packet| icmp_type(packet) == Some((3, 3))), "{answers:?}");
    assert_eq!((replied(&lab, "tcp_reset"), replied(&lab, "port_unreachable")), (1, 1));
    // the service next to them is served
    assert_eq!(ask(&lab)?, "server2");
    assert_nothing_lost(&lab)
}

pub fn no_service_silent() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(&lab, &web(&lab, "no_service = \"drop\""))?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let silent = |answer: io::Result<()>| assert!(is_silence(&answer), "{answer:?}");
    silent(connect(lab.client(), lab.vip, 81));
    silent(say(lab.client(), lab.vip, 81));
    poll_until("the drops", || (dropped(&lab, "no_service") >= 2).then_some(()));
    assert!(at_client.stop().is_empty());
    assert_eq!(ask(&lab)?, "server2");
    assert_nothing_lost(&lab)
}

pub fn no_real_server() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let services = [service(&lab, "web", "tcp", 80, 0), service(&lab, "dns", "udp", 53, 0)];
    let _director = lab::start_director(&lab, &configuration(&lab, "", &services))?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    // Linux takes a port unreachable for a refused connection (tcp_v4_err, icmp_err_convert)
    assert_refused_at_once(|| connect(lab.client(), lab.vip, 80))?;
    assert_refused_at_once(|| say(lab.client(), lab.vip, 53))?;
    let answers = at_client.stop();
    assert_eq!(answers.iter().map(icmp_type).collect::<Vec<_>>(), [Some((3, 3)); 2]);
    assert_eq!((replied(&lab, "port_unreachable"), director_count(&lab, "connections", &[])), (2, 0));
    assert_nothing_lost(&lab)
}

pub fn echo() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    request.extend(b"are you there");
    let sum = checksum::checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    raw(lab.client(), 1)?.send_to(&request, &SocketAddrV4::new(lab.vip, 0).into())?;
    assert!(at_client.wait_until(PATIENCE, |packets| !packets.is_empty()));
    let answers = at_client.stop();
    let answer = &answers[0].bytes[20..];
    assert_eq!(icmp_type(&answers[0]), Some((0, 0)));
    assert_eq!(answer[4..], request[4..], "identifier, sequence and data come back");
    assert_eq!(checksum::checksum(answer), 0);
    assert_eq!((replied(&lab, "echo_reply"), director_count(&lab, "packets_transmitted_total", &[])), (1, 0));
    assert_nothing_lost(&lab)
}

pub fn unknown_segment() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    let (client, vip) = (lab.client().address, lab.vip);
    let at_client = capture_at_client(&lab, vip)?;
    let sender = raw(lab.client(), i32::from(TCP))?;
    let acknowledgement = 0x1234_5678;
    sender.send_to(&segment(client, vip, 40_000, 80, ACK, 7, acknowledgement), &web_address(&lab).into())?;
    assert!(at_client.wait_until(PATIENCE, |packets| !packets.is_empty()));
    // a reset out of nowhere is answered with nothing
    sender.send_to(&segment(client, vip, 40_001, 80, RST, 7, 0), &web_address(&lab).into())?;
    poll_until("its drop", || (dropped(&lab, "no_connection") == 1).then_some(()));
    let answers = at_client.stop();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let reset = &answers[0].bytes[20..];
    assert_eq!((reset[..4].to_vec(), reset[13]), (vec![0, 80, 0x9c, 0x40], RST));
    // RFC 9293 §3.10.7.1: the sequence number is the one that was acknowledged
    assert_eq!(reset[4..8], u32::to_be_bytes(acknowledgement));
    assert_eq!(director_count(&lab, "connections", &[]), 0);
    assert_nothing_lost(&lab)
}

/// No host has its address: the client waits, and the director's account still closes.
/// 2003-11: the client learns from the VIP that its host is unreachable, about its own packet.
pub fn unreachable_real_server() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let nowhere = web(&lab, "").replace("172.25.3.2\"", "172.25.3.77\"");
    let _director = lab::start_director(&lab, &nowhere)?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let answer = connect(lab.client(), lab.vip, 80);
    assert!(is_silence(&answer), "{answer:?}");
    // The director's own kernel finds no neighbour (three ARP probes, a second each) and reports it.
    assert!(at_client.wait_until(PATIENCE, |packets| !packets.is_empty()));
    let told = at_client.stop();
    assert!(told.iter().all(|packet| icmp_type(packet) == Some((3, 1))), "2003-11: {told:?}");
    assert!(director_count(&lab, "path_errors_total", &[("outcome", "relayed")]) > 0);
    assert_conserved(&lab)
}

pub fn real_server_without_route() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    // RFC 5737 TEST-NET-1; a lab in one subnet has no default route
    let nowhere = web(&lab, "").replace("172.25.3.2\"", "192.0.2.2\"");
    let director = lab::start_director(&lab, &nowhere)?;
    let answer = connect(lab.client(), lab.vip, 80);
    assert!(answer.is_err(), "{answer:?}");
    poll_until("the drop", || (dropped(&lab, "send_error") > 0).then_some(()));
    assert!(director_count(&lab, "transmit_errors_total", &[("cause", "network_unreachable")]) > 0);
    assert!(
        director.log().contains("WARN director: no route to real server 192.0.2.2"),
        "{}",
        director.log()
    );
    assert_conserved(&lab)
}

/// A route leads to the real server through our own device: the wrapped packet comes back once and ends there as a
/// loop.
pub fn route_into_the_device() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    host_state::add_route_dev(&lab.director, lab.real_servers[0].address, "lvsd0");
    let answer = connect(lab.client(), lab.vip, 80);
    assert!(is_silence(&answer), "{answer:?}");
    let wrapped = || director_count(&lab, "packets_transmitted_total", &[]);
    poll_until("their end", || {
        let ended = dropped(&lab, "loop");
        (ended > 0 && ended == wrapped()).then_some(())
    });
    assert!(wrapped() <= 3, "{} packets: a loop", wrapped());
    assert_conserved(&lab)
}

fn assert_refused_at_once(attempt: impl FnOnce() -> io::Result<()>) -> Outcome {
    let since = Instant::now();
    let error = attempt().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    Ok(())
}

fn is_silence(answer: &io::Result<()>) -> bool {
    answer.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock))
}

fn connect(client: &Host, vip: Ipv4Addr, port: u16) -> io::Result<()> {
    client.run(|| TcpStream::connect_timeout(&SocketAddrV4::new(vip, port).into(), AT_ONCE)).map(drop)
}

fn say(client: &Host, vip: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket: UdpSocket = client.udp_socket()?;
    socket.set_read_timeout(Some(AT_ONCE))?;
    // only a connected socket learns of ICMP errors (udp(7))
    socket.connect((vip, port))?;
    socket.send(b"hello")?;
    socket.recv(&mut [0; 64]).map(drop)
}

/// A socket that sends payloads of this IP protocol; the kernel writes the header.
pub fn raw(host: &Host, protocol: i32) -> io::Result<Socket> {
    host.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))))
}

pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 63, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub fn segment(
    from: Ipv4Addr,
    to: Ipv4Addr,
    source: u16,
    destination: u16,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = checksum::pseudo_header(from.into(), to.into(), TCP, bytes.len());
    let sum = !checksum::fold(checksum::sum(&bytes, pseudo));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}
