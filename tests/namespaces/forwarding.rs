//! Packets that reach their real server, and the answers that do not come back the same way.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::Ipv4HeaderSlice;
use lvs_tund::lab::{self, CapturedPacket, Cluster, Direction, Filter, Lab, Topology};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::{
    Outcome, PATIENCE, ask_times, assert_conserved, assert_nothing_lost, assert_round_robin,
    capture_replies_at_director, configuration, director_count, poll_until, replied, routed as routed_lab,
    same_subnet as same_subnet_lab, service, start_real_server_with, start_real_servers, web, web_address,
};
use crate::host_state;

const OUTER: usize = 20;

pub fn same_subnet() -> Outcome {
    round_robin(same_subnet_lab(3))
}

pub fn routed() -> Outcome {
    round_robin(routed_lab(3))
}

fn round_robin(topology: Topology) -> Outcome {
    let lab = topology.build()?;
    let _cluster = Cluster::start(&lab)?;
    let through_director = capture_replies_at_director(&lab)?;
    let answers = ask_times(&lab, 9)?;
    assert_round_robin(&answers, 3);
    let replies = through_director.stop();
    assert!(replies.is_empty(), "replies passed the director: {replies:?}");
    assert_eq!(director_count(&lab, "connections_created_total", &[]), 9);
    for host in &lab.real_servers {
        let labels = [("virtual_service", "web"), ("real_server", host.name.as_str())];
        assert_eq!(director_count(&lab, "real_server_connections_total", &labels), 3, "{}", host.name);
    }
    assert_nothing_lost(&lab)
}

/// The lab sets rp_filter to strict on every host; the director's interface and the real servers' devices must not
/// stay so, and nothing else may change.
pub fn strict_filters() -> Outcome {
    let lab = routed_lab(2).with_clients(2).build()?;
    let rp_filter = |host: &lab::Host, interface: &str| {
        host.namespace.read_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"))
    };
    assert_eq!(rp_filter(&lab.director, "eth0")?, "1");
    let _cluster = Cluster::start(&lab)?;
    assert_eq!(rp_filter(&lab.director, "all")?, "1");
    assert_eq!(rp_filter(&lab.director, "eth0")?, "2");
    for host in &lab.real_servers {
        assert_eq!((rp_filter(host, "eth0")?.as_str(), rp_filter(host, "lvsr0")?.as_str()), ("1", "2"));
    }
    for client in &lab.clients {
        assert_eq!(client.get(web_address(&lab), "/")?.status, 200, "{}", client.name);
    }
    assert_nothing_lost(&lab)
}

/// Compared with an implementation of IPv4 that is not ours.
pub fn outer_packets() -> Outcome {
    let lab = same_subnet_lab(1).build()?;
    let _cluster = Cluster::start(&lab)?;
    let to_vip = Filter { source: Some(lab.client().address), destination: Some(lab.vip) };
    let to_real_server = Filter { source: Some(lab.director.address), destination: None };
    let (inner, outer) = (lab.client().capture(to_vip)?, lab.director.capture(to_real_server)?);
    ask_times(&lab, 2)?;
    assert_nothing_lost(&lab)?;
    let sent = director_count(&lab, "packets_transmitted_total", &[]) as usize;
    assert!(outer.wait_until(PATIENCE, |packets| packets.len() >= sent));
    let (inner, outer) = (inner.stop(), outer.stop());
    let outer: Vec<_> = outer.iter().filter(|packet| packet.direction == Direction::Transmitted).collect();
    assert_eq!((inner.len(), outer.len()), (sent, sent));
    for packet in &outer {
        let header = Ipv4HeaderSlice::from_slice(&packet.bytes)?;
        assert_eq!(
            (header.source_addr(), header.destination_addr()),
            (lab.director.address, lab.real_servers[0].address)
        );
        assert_eq!((header.protocol().0, header.ttl(), header.ihl()), (4, 64, 5));
        // the client's TCP sets DF, and a packet with DF needs no identification (RFC 6864 §4.1)
        assert_eq!((header.dont_fragment(), header.identification()), (true, 0));
        assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        let carried = Ipv4HeaderSlice::from_slice(&packet.bytes[OUTER..])?;
        assert_eq!(header.total_len(), carried.total_len() + OUTER as u16);
        assert_eq!((header.dcp(), header.ecn()), (carried.dcp(), carried.ecn()));
        assert_eq!(carried.header_checksum(), carried.to_header().calc_header_checksum());
        // the kernel's forwarding into the device has taken one hop
        assert_eq!((carried.ttl(), carried.destination_addr()), (63, lab.vip));
        assert!(inner.iter().any(|sent| is_one_hop_before(sent, &packet.bytes[OUTER..])), "{packet:?}");
    }
    Ok(())
}

/// The bytes the client sent, but for TTL, header checksum, and the transport checksum, which a virtual link may
/// leave to its end.
fn is_one_hop_before(sent: &CapturedPacket, arrived: &[u8]) -> bool {
    let masked = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for at in [8, 10, 11, 36, 37] {
            bytes[at] = 0;
        }
        bytes
    };
    // a capture cuts at a fixed length, and the outer header takes its part of it
    let length = arrived.len().min(sent.bytes.len());
    masked(&sent.bytes[..length]) == masked(&arrived[..length])
}

pub fn fragmentable() -> Outcome {
    let lab = same_subnet_lab(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director =
        lab::start_director(&lab, &configuration(&lab, "", &[service(&lab, "dns", "udp", 53, 1)]))?;
    let to_real_server = Filter { source: Some(lab.director.address), destination: None };
    let outer = lab.director.capture(to_real_server)?;
    let socket = lab.client().run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))?;
    for _ in 0..3 {
        let packet = datagram_without_df(lab.client().address, lab.vip);
        socket.send_to(&packet, &SocketAddrV4::new(lab.vip, 0).into())?;
    }
    let ipip = |packet: &&CapturedPacket| packet.protocol() == 4;
    assert!(outer.wait_until(PATIENCE, |packets| packets.iter().filter(ipip).count() == 3));
    let mut identifications = Vec::new();
    for packet in outer.stop().iter().filter(ipip) {
        let header = Ipv4HeaderSlice::from_slice(&packet.bytes)?;
        assert!(!header.dont_fragment(), "{packet:?}");
        assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        identifications.push(header.identification());
    }
    identifications.sort_unstable();
    identifications.dedup();
    assert_eq!(identifications.len(), 3, "RFC 6864 §4: unique while DF is clear: {identifications:?}");
    assert_nothing_lost(&lab)
}

/// A UDP packet to port 53 as a host sends it that does not discover paths; without a checksum (RFC 768).
fn datagram_without_df(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0x12, 0x34, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0]);
    packet.extend(b"test");
    packet
}

/// All that serves UDP port 53 of the VIP, to be kept while requests arrive.
fn start_dns(lab: &Lab) -> Result<impl Sized + use<>, lab::LabError> {
    let hosts = start_real_servers(lab)?;
    let serve = |host: &lab::Host| host.serve_udp(SocketAddrV4::new(lab.vip, 53));
    let servers = lab.real_servers.iter().map(serve).collect::<Result<Vec<_>, _>>()?;
    let director = lab::start_director(lab, &configuration(lab, "", &[service(lab, "dns", "udp", 53, 1)]))?;
    Ok((director, servers, hosts))
}

pub fn udp() -> Outcome {
    let lab = same_subnet_lab(2).build()?;
    let _dns = start_dns(&lab)?;
    let through_director = capture_replies_at_director(&lab)?;
    let mut servers = Vec::new();
    for _ in 0..4 {
        let socket = lab.client().udp_socket()?;
        // connected: an answer from another address than the VIP would not be received
        socket.connect(SocketAddrV4::new(lab.vip, 53))?;
        let first = say(&socket, "hello")?;
        for _ in 0..4 {
            assert_eq!(say(&socket, "hello")?, first, "datagrams of one port stay together");
        }
        assert!(first.ends_with(" hello"), "{first}");
        servers.push(first);
    }
    assert_round_robin(&servers, 2);
    assert!(through_director.stop().is_empty());
    assert_eq!(director_count(&lab, "connections", &[]), 4);
    assert_nothing_lost(&lab)
}

/// Datagrams of many fragments, none of which fits the way with its outer header: cut again at the director,
/// reassembled by the real server's own host.
pub fn large_datagrams() -> Outcome {
    let lab = same_subnet_lab(2).build()?;
    let _dns = start_dns(&lab)?;
    for (round, size) in [1473, 8000, 20_000, 60_000].into_iter().enumerate() {
        let words: String = (0..size).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
        let answer = lab::udp::ask(&lab.client().udp_socket()?, SocketAddrV4::new(lab.vip, 53), &words)?;
        let (server, echoed) = answer.split_once(' ').expect("a name and the words");
        assert!(echoed == words, "{size} bytes came back whole");
        assert_eq!(server, lab.real_servers[round % 2].name);
    }
    assert_eq!(director_count(&lab, "packets_dropped_total", &[]), 0);
    // Pieces are no packets at the director, and each is one at the real server.
    assert_conserved(&lab)
}

fn say(socket: &UdpSocket, words: &str) -> std::io::Result<String> {
    socket.send(words.as_bytes())?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

pub fn many_connections() -> Outcome {
    const CONNECTIONS: usize = 200;
    const CLIENTS: usize = 4;
    let lab = same_subnet_lab(2).with_clients(CLIENTS).build()?;
    let _cluster = Cluster::start(&lab)?;
    let through_director = lab.director.capture(Filter { source: Some(lab.vip), destination: None })?;
    let answers: Vec<String> = thread::scope(|scope| {
        let stay = |client| {
            let lab: &Lab = &lab;
            scope.spawn(move || stays_on_its_server(lab, client, CONNECTIONS / CLIENTS))
        };
        let clients: Vec<_> = (0..CLIENTS).map(stay).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("server2".into(), 100), ("server3".into(), 100)]));
    let replies: Vec<_> = through_director.stop();
    // gratuitous ARP is no IPv4, and nothing else comes from the VIP
    assert!(replies.is_empty(), "{} replies passed the director", replies.len());
    assert_nothing_lost(&lab)
}

/// Opens connections that all stand at the same time; returns which server each of them had.
fn stays_on_its_server(lab: &Lab, client: usize, connections: usize) -> Vec<String> {
    let client = &lab.clients[client];
    let open = |_| client.connect(web_address(lab)).expect("a connection");
    let mut connections: Vec<_> = (0..connections).map(open).collect();
    let ask = |connection: &mut lab::http::Connection| connection.get("/").expect("an answer").text();
    let first: Vec<_> = connections.iter_mut().map(ask).collect();
    for _ in 0..3 {
        let again: Vec<_> = connections.iter_mut().map(ask).collect();
        assert_eq!(again, first, "a connection has moved");
    }
    first
}

/// The client's segments fill 1500 bytes and must not be fragmented: the director answers with the MTU that is left
/// behind the outer header (RFC 2003 §5.1), and the client adapts.
pub fn upload() -> Outcome {
    let lab = same_subnet_lab(2).build()?;
    // real servers that announce it in time leave the director nothing to report
    let start = |host| start_real_server_with(&lab, host, "mss = \"off\"");
    let _web: Vec<_> = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let _real_servers: Vec<_> = lab.real_servers.iter().map(start).collect::<Result<_, _>>()?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    let at_client = lab.client().capture(Filter { source: Some(lab.vip), destination: None })?;
    let mut connection = lab.client().connect(web_address(&lab))?;
    let since = Instant::now();
    let response = connection.post("/", &vec![0; 5_000_000])?;
    let took = since.elapsed();
    assert_eq!(response.status, 200);
    let packets = at_client.stop();
    let too_big: Vec<_> = packets.iter().filter(|packet| packet.protocol() == 1).collect();
    assert!(!too_big.is_empty(), "the client got no error");
    for packet in too_big {
        assert_eq!(packet.bytes[20..22], [3, 4], "fragmentation needed");
        // RFC 1191 §4: the next-hop MTU
        assert_eq!(packet.bytes[26..28], 1480_u16.to_be_bytes());
    }
    assert!(replied(&lab, "too_big") > 0);
    assert!(took < Duration::from_secs(2), "5 MB took {took:?}");
    // the path is already known for the same client's next connection
    let before = replied(&lab, "too_big");
    lab.client().connect(web_address(&lab))?.post("/", &vec![0; 100_000])?;
    assert_eq!(replied(&lab, "too_big"), before);
    assert_nothing_lost(&lab)
}

pub fn no_host_changes() -> Outcome {
    let lab = same_subnet_lab(1).build()?;
    let director = host_state::state(&lab.director);
    let real_server = host_state::state(&lab.real_servers[0]);
    let file = lab.director.write_file("director.toml", &web(&lab, ""))?;
    let arguments = ["director", "--no-host-changes", "--config", file.to_str().expect("UTF-8")];
    let mut daemon = lab.director.spawn_daemon(&arguments)?;
    daemon.wait_until_ready(&lab.director, Cluster::DIRECTOR_METRICS)?;
    assert_unchanged_but_for(&director, &lab.director, "lvsd0");
    poll_until("the commands", || {
        daemon.log().contains("ip route add 172.25.3.100/32 dev lvsd0").then_some(())
    });
    for command in [
        "sysctl -w net.ipv4.conf.eth0.forwarding=1\n",
        "sysctl -w net.ipv4.conf.eth0.rp_filter=2\n",
        "sysctl -w net.ipv4.conf.eth0.send_redirects=0\n",
        "ip neigh add proxy 172.25.3.100 dev eth0",
    ] {
        assert!(daemon.log().contains(command), "{command:?} is not in\n{}", daemon.log());
    }

    let arguments = ["realserver", "--no-host-changes", "--vip", "172.25.3.100", "--director", "172.25.3.1"];
    let host = &lab.real_servers[0];
    let mut daemon = host.spawn_daemon(&arguments)?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    assert_unchanged_but_for(&real_server, host, "lvsr0");
    for command in [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1\n",
        "ip rule add pref 1 iif lvsr0 to 172.25.3.100 blackhole\n",
        "ip address add 172.25.3.100/32 dev lvsr0\n",
        "ip route add 172.25.3.0/24 src 172.25.3.2 dev eth0 scope link table 7691 advmss 1440\n",
        "ip rule add pref 32765 from 172.25.3.100 iif lo lookup 7691\n",
    ] {
        assert!(daemon.log().contains(command), "{command:?} is not in\n{}", daemon.log());
    }
    assert_nothing_lost(&lab)
}

fn assert_unchanged_but_for(before: &host_state::State, host: &lab::Host, device: &str) {
    let mut after = host_state::state(host);
    after.retain(|line| !line.contains(&format!("/{device}/")));
    host_state::assert_same(before, &after, &host.name);
}
