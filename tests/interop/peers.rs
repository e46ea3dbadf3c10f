//! The other end is none of ours: BPF programs wrap for `realserver` and unwrap what the director has wrapped, and
//! tshark reads its packets. First the BPF programs prove themselves, one against the other and with the kernel's own
//! sockets at both ends, in every format and with all pairs of families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use libtest_mimic::Failed;
use lvs_tund::datapath::pcap;
use lvs_tund::lab::http::{Connection, Server};
use lvs_tund::lab::{self, Host, Lab};

use crate::bpf::{CLIENT, DIRECTOR, FORMATS, Family, Format, IP, Peer, REAL_SERVER, Tunnel, VIP, attach};
use crate::fixture::{Outcome, dropped, poll_until, real_server_count, same_subnet, start_real_server_with};
use crate::programs::run;
use crate::tshark::{Recording, complaints, stacks};

use Family::{V4, V6};

const MTU: usize = 1500;
const WEB: u16 = 80;
const ECHO: u16 = 7;
const UDP_HEADER: usize = 8;
const PATIENCE: Duration = Duration::from_secs(2);

/// A tunnel that the program serves, and the keys that select it.
struct Served {
    tunnel: Tunnel,
    /// Keys of a real server in the director's file.
    director: &'static str,
    /// Keys of the real server's own file.
    real_server: &'static str,
}

const SERVED: &[Served] =
    &[Served { tunnel: Tunnel { format: IP, outer: V4, inner: V4 }, director: "", real_server: "" }];

fn hosts(lab: &Lab) -> [(&Host, u8); 3] {
    [(lab.client(), CLIENT), (&lab.director, DIRECTOR), (&lab.real_servers[0], REAL_SERVER)]
}

fn build() -> Result<Lab, Failed> {
    let lab = same_subnet(1).build()?;
    for (host, last) in hosts(&lab) {
        assert_eq!(IpAddr::V4(host.address), V4.address(last));
        host.namespace.write_sysctl("net.ipv6.conf.all.disable_ipv6", "0")?;
        ip(host, &format!("address add {}/64 dev eth0 nodad", V6.address(last)))?;
    }
    // IPv6 begins a moment after it was switched on.
    for (host, neighbor) in
        [(lab.client(), DIRECTOR), (&lab.director, REAL_SERVER), (lab.client(), REAL_SERVER)]
    {
        let neighbor = V6.address(neighbor).to_string();
        poll_until("IPv6", || run(host, "ping", &["-c", "1", "-W", "1", "-n", &neighbor]).ok());
    }
    Ok(lab)
}

fn ip(host: &Host, arguments: &str) -> Result<String, Failed> {
    run(host, "ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// The peer that unwraps: its host has the VIP and neither answers ARP for it nor names it in ARP requests.
fn unwrap_at_real_server(lab: &Lab, tunnel: Tunnel) -> Outcome {
    let host = &lab.real_servers[0];
    host.namespace.write_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    host.namespace.write_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    ip(host, &format!("address replace {} dev lo", tunnel.inner.address(VIP)))?;
    attach(lab, host, Peer::Decapsulator, tunnel)
}

/// The peer that wraps: the client sends packets for the VIP there.
fn wrap_at_director(lab: &Lab, tunnel: Tunnel, path_mtu: usize) -> Outcome {
    let (vip, director) = (tunnel.inner.address(VIP), tunnel.inner.address(DIRECTOR));
    ip(lab.client(), &format!("route replace {vip} via {director} mtu {path_mtu}"))?;
    // A veth passes packets on as its sender made them: the peer is to see them as a network would carry them.
    run(lab.client(), "ethtool", &["-K", "eth0", "tx", "off"])?;
    attach(lab, &lab.director, Peer::Encapsulator, tunnel)
}

/// TCP with full segments to the VIP, and the shortest and the longest datagrams.
fn exchange(lab: &Lab, tunnel: Tunnel) -> Outcome {
    let (client, host) = (lab.client(), &lab.real_servers[0]);
    let vip = tunnel.inner.address(VIP);
    let _web = Server::start(&host.namespace, (vip, WEB).into(), &host.name)?;
    let said = |error: io::Error| format!("{}: {error}", tunnel.name());
    let mut connection = client.connect((vip, WEB)).map_err(said)?;
    assert_eq!(connection.get("/").map_err(said)?.text(), host.name);
    assert_eq!(upload(&mut connection).map_err(said)?, 200);
    for length in [0, 1, MTU - tunnel.overhead() - tunnel.inner.header() - UDP_HEADER] {
        let datagram = vec![0x5a; length];
        let answer = echo(client, host, (vip, ECHO).into(), &datagram);
        let answer = answer.map_err(|error| format!("{}, {length} bytes: {error}", tunnel.name()))?;
        assert!(answer == datagram, "{}: {length} bytes became {answer:?}", tunnel.name());
    }
    Ok(())
}

fn upload(connection: &mut Connection) -> io::Result<u16> {
    Ok(connection.post("/", &[0x5a; 100_000])?.status)
}

/// One datagram to `address` on `host`, and back.
fn echo(client: &Host, host: &Host, address: SocketAddr, datagram: &[u8]) -> io::Result<Vec<u8>> {
    let unspecified: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // a child of another thread has the socket before this one until it calls exec(2)
    let server = poll_until("a free port", || host.run(|| UdpSocket::bind(address)).ok());
    let socket = client.run(|| UdpSocket::bind((unspecified, 0)))?;
    server.set_read_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(datagram, address)?;
    let mut buffer = [0; MTU];
    let (length, from) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..length], from)?;
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

/// The headers of a packet as tshark names them.
fn stack(tunnel: Tunnel, inside: &str) -> String {
    let ip = |family| if family == V4 { "ip" } else { "ipv6" };
    let between = match tunnel.format.define {
        "FORMAT_IP" => "",
        "FORMAT_GRE" => "gre:",
        "FORMAT_FOU" => "udp:",
        _ => "udp:gue:",
    };
    format!("{}:{between}{}:{inside}", ip(tunnel.outer), ip(tunnel.inner))
}

fn assert_tshark_agrees(recording: Recording, host: &Host, tunnels: &[Tunnel], insides: &[&str]) -> Outcome {
    let file = recording.stop(tunnels[0].outer.address(REAL_SERVER))?;
    let complaints = complaints(host, &file)?;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let stacks = stacks(host, &file)?;
    for tunnel in tunnels {
        for inside in insides {
            let stack = stack(*tunnel, inside);
            assert!(stacks.contains(&stack), "{stack} is not among {stacks:?}");
        }
    }
    Ok(())
}

/// No part of this project carries these packets.
pub fn alone(outer: Family, inner: Family) -> Outcome {
    let lab = build()?;
    let tunnels = FORMATS.map(|format| Tunnel { format, outer, inner });
    let recording = Recording::start(&lab.director, &[outer.address(DIRECTOR)])?;
    for tunnel in tunnels {
        unwrap_at_real_server(&lab, tunnel)?;
        wrap_at_director(&lab, tunnel, MTU - tunnel.overhead())?;
        exchange(&lab, tunnel)?;
        let vip = inner.address(VIP).to_string();
        run(lab.client(), "ping", &["-c", "1", "-W", "2", "-n", &vip])?;
    }
    let ping = if inner == V4 { "icmp:data" } else { "icmpv6:data" };
    assert_tshark_agrees(recording, &lab.director, &tunnels, &["tcp", "tcp:http", "udp:echo", ping])
}

/// What one format wraps, no other takes for its own, nor the same format with another checksum.
pub fn strict() -> Outcome {
    let lab = build()?;
    for (index, format) in FORMATS.into_iter().enumerate() {
        let of = |format: Format| Tunnel { format, outer: V4, inner: V4 };
        let other = FORMATS[(index + 1) % FORMATS.len()];
        unwrap_at_real_server(&lab, of(other))?;
        wrap_at_director(&lab, of(format), MTU)?;
        let vip = V4.address(VIP).to_string();
        let answer = run(lab.client(), "ping", &["-c", "1", "-W", "0.2", "-n", &vip]);
        assert!(answer.is_err(), "{} as {}: {answer:?}", format.name, other.name);
    }
    Ok(())
}

/// Our director, and a real server of another make.
pub fn director() -> Outcome {
    for served in SERVED {
        let lab = build()?;
        unwrap_at_real_server(&lab, served.tunnel)?;
        let _director = lab::start_director(&lab, &director_file(&lab, served))?;
        let recording = Recording::start(&lab.director, &[served.tunnel.outer.address(DIRECTOR)])?;
        exchange(&lab, served.tunnel)?;
        assert_tshark_agrees(recording, &lab.director, &[served.tunnel], &["tcp", "tcp:http", "udp:echo"])?;
        assert_eq!(dropped(&lab, "send_error"), 0);
    }
    Ok(())
}

fn director_file(lab: &Lab, served: &Served) -> String {
    let (vip, rip) = (served.tunnel.inner.address(VIP), served.tunnel.outer.address(REAL_SERVER));
    let service = |name: &str, protocol: &str, port: u16| {
        format!(
            "\n[[virtual_service]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nvip = \"{vip}\"\nport = {port}\n\
             \n[[virtual_service.real_server]]\nname = \"{name}\"\nrip = \"{rip}\"\n{}\n",
            served.director
        )
    };
    let interface = lab.director.interface();
    format!("interface = \"{interface}\"\n{}{}", service("web", "tcp", WEB), service("echo", "udp", ECHO))
}

/// A director of another make, and our real server: it announces the segment size that fits, so that the client needs
/// no narrower route.
pub fn real_server() -> Outcome {
    for served in SERVED {
        let lab = build()?;
        wrap_at_director(&lab, served.tunnel, MTU)?;
        let host = &lab.real_servers[0];
        let _daemon = start_real_server_with(&lab, host, served.real_server)?;
        exchange(&lab, served.tunnel)?;
        assert_eq!(real_server_count(host, "packets_dropped_total", &[]), 0);
        // a hundred thousand bytes in full segments, and some more packets
        assert!(real_server_count(host, "packets_delivered_total", &[]) > 70);
    }
    Ok(())
}

/// The oracle itself: one bit of a packet is another one.
pub fn oracle() -> Outcome {
    let lab = build()?;
    let packet = |wrong: u8| {
        // 10.0.0.1 to 10.0.0.2, UDP from port 4096 to 4097, no payload
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0x26, 0xce, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([16, 0, 16, 1, 0, 8, 0xcb, 0xda ^ wrong]);
        packet
    };
    for wrong in [0, 1] {
        let file = lab.directory().join("oracle.pcap");
        let mut writer = pcap::Writer::new(std::fs::File::create(&file)?)?;
        writer.write_packet(&packet(wrong))?;
        writer.finish()?;
        let found = complaints(lab.client(), &file)?;
        assert_eq!(found.len(), usize::from(wrong), "{found:?}");
    }
    Ok(())
}
