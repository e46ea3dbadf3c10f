//! The path from the director to the real servers: narrow, broken, with forged errors; and fragments on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use lvs_tund::lab::{self, Cluster, Filter, Host};
use lvs_tund::packet::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::answers::{ipv4, raw};
use crate::fixture::{
    Outcome, PATIENCE, ask, assert_conserved, assert_nothing_lost, capture_at_client, configuration,
    director_count, icmp_type, poll_until, replied, routed, same_subnet, service, start_real_server_with,
    start_real_servers, web, web_address,
};

const UPLOAD: usize = 100_000_000;

/// A hundred megabytes through a router whose next link takes 1400 bytes. The first flight is lost, the router
/// notifies the director, the director the client, and the client sends it again: no timer had to run out.
pub fn narrow() -> Outcome {
    let lab = routed(1).build()?;
    lab.set_path_mtu(0, 1400)?;
    let _cluster = Cluster::start(&lab)?;
    let path_mtu = || director_count(&lab, "real_server_path_mtu_bytes", &[]);
    assert_eq!(path_mtu(), 1500);
    let at_client = capture_at_client(&lab, lab.vip)?;
    let response = lab.client().run(|| {
        let patience = Duration::from_secs(60);
        lab::http::Connection::open(web_address(&lab).into(), patience)?.post("/", &vec![7; UPLOAD])
    })?;
    assert_eq!(response.status, 200);
    assert_eq!(path_mtu(), 1400);
    let told: Vec<_> = at_client
        .stop()
        .into_iter()
        .filter(|p| p.protocol() == 1)
        .map(|p| p.bytes[20..28].to_vec())
        .collect();
    // RFC 1191 §4: the next-hop MTU, less our header (2003-14, 2003-23).
    assert_eq!(told.last().map(|t| (t[..2].to_vec(), t[6..].to_vec())), Some((vec![3, 4], vec![0x05, 0x64])));
    assert!(director_count(&lab, "path_errors_total", &[("kind", "too_big"), ("outcome", "relayed")]) > 0);
    assert_eq!(timeouts(lab.client()), 0, "retransmission timers that ran out");
    assert_conserved(&lab)
}

/// `TCPTimeouts` of a host: retransmission timers that ran out since it was made.
fn timeouts(host: &Host) -> u64 {
    // /proc/net is the calling thread's own only under thread-self.
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).expect("netstat");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let index = lines[0].split(' ').position(|name| name == "TCPTimeouts").expect("the counter");
    lines[1].split(' ').nth(index).and_then(|count| count.parse().ok()).expect("a number")
}

/// 8899-1: a host that has not seen our packets reports that 68 bytes is all the path takes.
pub fn forged() -> Outcome {
    let lab = same_subnet(1).with_stranger().build()?;
    let _cluster = Cluster::start(&lab)?;
    let mut connection = lab.client().connect(web_address(&lab))?;
    connection.get("/")?;
    let stranger = lab.stranger.as_ref().expect("requested");
    let socket = raw(stranger, 1)?;
    // Source and protocol can be guessed, the connection cannot.
    let inner = ipv4(lab.client().address, lab.vip, 6, &[0x11; 20]);
    let quote = ipv4(lab.director.address, lab.real_servers[0].address, 4, &inner);
    let mut message = vec![3, 4, 0, 0, 0, 0, 0, 68];
    message.extend(quote);
    let sum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    socket.send_to(&message, &SocketAddrV4::new(lab.director.address, 0).into())?;
    poll_until("the forged error", || {
        let mismatch = director_count(&lab, "path_errors_total", &[("outcome", "mismatch")]);
        (mismatch == 1).then_some(())
    });
    assert_eq!(director_count(&lab, "real_server_path_mtu_bytes", &[]), 1500);
    // Nor has the kernel taken it over for the director's packets.
    connection.post("/", &vec![0; 100_000])?;
    assert_eq!(director_count(&lab, "transmit_errors_total", &[]), 0);
    assert_nothing_lost(&lab)
}

/// The client is behind a network that drops ICMP: it never learns of it, and its full segments arrive in fragments.
pub fn ignore_df() -> Outcome {
    let lab = routed(1).build()?;
    lab.set_path_mtu(0, 1400)?;
    // Segments that fill 1500 bytes, as from clients that no MSS reached.
    let host = &lab.real_servers[0];
    let _hosts = (host.serve_http(80)?, start_real_server_with(&lab, host, "mss = \"off\"")?);
    let _director = lab::start_director(&lab, &web(&lab, "ignore_df = true"))?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let outer = lab.director.capture(Filter { source: Some(lab.director.address), destination: None })?;
    let mut connection = lab.client().connect(web_address(&lab))?;
    assert_eq!(connection.post("/", &vec![7; 1_000_000])?.status, 200);
    assert!(at_client.stop().iter().all(|packet| packet.protocol() != 1), "no one is notified");
    let is_piece = |packet: &lab::CapturedPacket| packet.protocol() == 4 && packet.bytes[6] & 0x20 != 0;
    assert!(outer.stop().iter().any(is_piece), "outer packets in fragments");
    assert_eq!(replied(&lab, "too_big"), 0);
    assert_conserved(&lab)
}

/// 2003-12: the real server's host runs, its daemon does not: its kernel reports it, and the operator learns of it.
pub fn suspect() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, mut daemons) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let suspects = || director_count(&lab, "real_server_suspect", &[]);
    for _ in 0..2 {
        ask(&lab)?;
    }
    assert_eq!(suspects(), 0);
    daemons[0].kill()?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let attempt = || {
        let timeout = Duration::from_millis(100);
        std::net::TcpStream::connect_timeout(&web_address(&lab).into(), timeout).map(drop)
    };
    poll_until("the suspicion", || {
        // Every second connection goes to the other one, and is answered.
        let _ = lab.client().run(attempt);
        (suspects() == 1).then_some(())
    });
    assert!(at_client.stop().iter().all(|packet| packet.protocol() != 1), "2003-12: kept to ourselves");
    let labels = [("kind", "protocol_unreachable"), ("outcome", "noted")];
    assert!(director_count(&lab, "path_errors_total", &labels) > 0);
    let line = "172.25.3.2 answers \"protocol unreachable\"; is lvs-tund realserver running there?";
    director.wait_for_log(line, PATIENCE)?;
    assert_conserved(&lab)
}

/// 2003-18: the outer packet's TTL ends at the router; its client learns that the host cannot be reached.
pub fn expired() -> Outcome {
    let lab = routed(1).build()?;
    let _hosts = start_real_servers(&lab)?;
    let _director = lab::start_director(&lab, &web(&lab, "outer_ttl = 1"))?;
    let at_client = capture_at_client(&lab, lab.vip)?;
    let client = lab.client();
    let answer = client.run(|| {
        let timeout = Duration::from_millis(500);
        std::net::TcpStream::connect_timeout(&web_address(&lab).into(), timeout).map(drop)
    });
    assert!(answer.is_err(), "{answer:?}");
    assert!(at_client.wait_until(PATIENCE, |packets| !packets.is_empty()));
    let told = at_client.stop();
    assert!(told.iter().all(|packet| icmp_type(packet) == Some((3, 1))), "{told:?}");
    assert!(director_count(&lab, "path_errors_total", &[("kind", "time_exceeded")]) > 0);
    assert_conserved(&lab)
}

/// What `ping -s 4000 -M dont` sends: its host cuts it, the director turns each piece round.
pub fn large_echo() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    let socket = raw(lab.client(), 1)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for size in [4000, 20_000, 60_000] {
        let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
        request.extend((0..size).map(|index| index as u8));
        let sum = checksum::checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        socket.send_to(&request, &SocketAddrV4::new(lab.vip, 0).into())?;
        let mut buffer = vec![0; 70_000];
        let length = io::Read::read(&mut &socket, &mut buffer)?;
        let reply = &buffer[20..length];
        assert_eq!((reply[0], reply.len(), checksum::checksum(reply)), (0, request.len(), 0));
        assert_eq!(reply[4..], request[4..], "{size} bytes come back");
    }
    assert_eq!(director_count(&lab, "packets_dropped_total", &[]), 0);
    assert_nothing_lost(&lab)
}

/// Hop 1 is the director's host; the VIP is the end, for datagrams to nowhere and for the service itself.
pub fn traceroute() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _daemons) = start_real_servers(&lab)?;
    let services = [service(&lab, "web", "tcp", 80, 1)];
    let _director = lab::start_director(&lab, &configuration(&lab, "", &services))?;
    let ends = lab.client().capture(Filter { source: None, destination: Some(lab.client().address) })?;
    let probe = |ttl: u32, port: u16| -> io::Result<()> {
        let socket = lab.client().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        socket.set_ttl(ttl)?;
        socket.send_to(b"probe", (lab.vip, port)).map(drop)
    };
    let answers = |count: usize| {
        assert!(ends.wait_until(PATIENCE, |packets| {
            packets.iter().filter(|packet| packet.protocol() == 1).count() >= count
        }));
    };
    probe(1, 33434)?;
    answers(1);
    probe(2, 33435)?;
    answers(2);
    // A traceroute by TCP sees the service itself at the second hop.
    let connected = lab.client().run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_ttl_v4(2)?;
        socket.connect_timeout(&web_address(&lab).into(), Duration::from_secs(2))
    });
    assert!(connected.is_ok(), "{connected:?}");
    let hops: Vec<_> = ends
        .stop()
        .into_iter()
        .filter(|packet| packet.protocol() == 1)
        .map(|p| (p.source(), icmp_type(&p)))
        .collect();
    assert_eq!(hops, [(lab.director.address, Some((11, 0))), (lab.vip, Some((3, 3)))]);
    assert_nothing_lost(&lab)
}
