//! The MSS that real servers announce: packets that fit from the first one on, even if ICMP is dropped on the path.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lvs_tund::lab::{self, Capture, CapturedPacket, Daemon, Filter, Lab, LabError, http};
use nix::sys::signal::Signal;

use crate::fixture::{
    Outcome, PATIENCE, ask, assert_nothing_lost, director_count, poll_until, real_server_count, replied,
    routed, same_subnet, start_real_server_with, start_real_servers, stop, web, web_address,
};
use crate::host_state::{add_route_by, assert_same, ways};

/// What hangs in the usual reports.
const UPLOAD: usize = 100_000_000;

/// A transfer of which nothing arrives for so long has stalled: ten retransmission timeouts of Linux (200 ms).
const STALL: Duration = Duration::from_secs(2);

/// Longer than the upload takes, with a daemon that is not optimised, on a machine that does other things too.
const UPLOAD_MAX: Duration = Duration::from_secs(60);

// RFC 9293 §3.1, §3.2
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MSS: u8 = 2;

pub fn announced() -> Outcome {
    for (topology, is_routed) in [(same_subnet(1), false), (routed(1), true)] {
        let lab = topology.build()?;
        let before = ways(&lab.real_servers[0]);
        let (_web, mut daemons) = start_real_servers(&lab)?;
        let _director = lab::start_director(&lab, &web(&lab, ""))?;
        let host = &lab.real_servers[0];
        assert_eq!(real_server_count(host, "mss_bytes", &[]), 1440);

        let at_client =
            lab.client().capture(Filter { source: None, destination: Some(lab.client().address) })?;
        assert_eq!(ask(&lab)?, "server2");
        assert_eq!(mss_from(&at_client, lab.vip, SYN | ACK), 1440);
        // The application under the host's own address, and the host as a client.
        assert_eq!(lab.client().get((host.address, 80), "/")?.text(), "server2");
        assert_eq!(mss_from(&at_client, host.address, SYN | ACK), 1460);
        let _at_clients = lab.client().serve_http(8080)?;
        assert_eq!(host.get((lab.client().address, 8080), "/")?.text(), "client");
        assert_eq!(mss_from(&at_client, host.address, SYN), 1460);

        if is_routed {
            // Another gateway, though one that leads nowhere: the copy goes the same way as main.
            let (net, gateway) = (Ipv4Addr::new(172, 25, 1, 0), Ipv4Addr::new(172, 25, 12, 77));
            add_route_by(host, net, 24, gateway);
            let has_copy = || {
                ways(host).iter().any(|line| line.contains("172.25.12.77") && line.contains("Table(7691)"))
            };
            poll_until("the new route's copy", || has_copy().then_some(()));
            assert!(ask(&lab).is_err(), "the reply went another way");
            stop(&mut daemons[0])?;
            let left: Vec<_> = ways(host).into_iter().filter(|line| line.contains("7691")).collect();
            assert_eq!(left, Vec::<String>::new());
        } else {
            assert_nothing_lost(&lab)?;
            stop(&mut daemons[0])?;
            assert_same(&before, &ways(host), "the real server's host");
        }
    }
    Ok(())
}

/// Every link has 1500 bytes, and a firewall drops ICMP: the usual trouble with LVS/TUN.
pub fn icmp_eaten() -> Outcome {
    let misery = || -> Result<Lab, LabError> {
        let lab = routed(1).build()?;
        lab.eat_icmp()?;
        Ok(lab)
    };
    // The director reports what is wrong, and the report is lost.
    assert_stalls(&misery()?, true)?;
    assert_passes(&misery()?, "mss = \"auto\"", 1440)
}

/// A link between is narrower, and neither director nor real server can know: its router's ICMP is eaten.
pub fn narrow_path() -> Outcome {
    let misery = || -> Result<Lab, LabError> {
        let lab = routed(1).build()?;
        lab.set_path_mtu(0, 1400)?;
        lab.eat_icmp()?;
        Ok(lab)
    };
    assert_stalls(&misery()?, true)?;
    assert_passes(&misery()?, "mss = 1340", 1340)
}

/// The real server's own link is narrower, which its kernel has. It then announces less by itself, but not 20 bytes
/// less.
pub fn narrow_link() -> Outcome {
    let misery = || -> Result<Lab, LabError> {
        let lab = routed(1).build()?;
        lab.set_path_mtu(0, 1400)?;
        lab.real_servers[0].set_mtu(1400)?;
        lab.eat_icmp()?;
        Ok(lab)
    };
    // As far as the director can see, nothing is too big.
    assert_stalls(&misery()?, false)?;
    assert_passes(&misery()?, "", 1340)
}

pub fn killed() -> Outcome {
    let lab = routed(1).build()?;
    let host = &lab.real_servers[0];
    let _web = host.serve_http(80)?;
    let before = ways(host);
    let mut daemon = lab::start_real_server(&lab, host)?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_eq!(ask(&lab)?, "server2");
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait(PATIENCE)?;
    // What is left is about the VIP, which was removed; the host's own routes are not touched.
    let left = ways(host);
    // The kernel's own rules have only changed their places.
    let left: Vec<_> = left.difference(&before).filter(|line| !line.contains("Protocol(Kernel)")).collect();
    let is_known = |line: &&&String| line.contains("7691") || line.contains("Iifname(\"lvsr0\")");
    assert!(left.len() == 4 && left.iter().all(|line| is_known(&line)), "{left:#?}");
    assert_eq!(lab.client().get((host.address, 80), "/")?.text(), "server2");
    let mut daemon = lab::start_real_server(&lab, host)?;
    assert!(daemon.log().contains("left by a killed daemon"), "{}", daemon.log());
    assert_eq!(ask(&lab)?, "server2");
    stop(&mut daemon)?;
    assert_same(&before, &ways(host), "the real server's host");
    Ok(())
}

/// Without the announcement: small requests work and uploads hang.
fn assert_stalls(lab: &Lab, is_said: bool) -> Outcome {
    let _cluster = start(lab, "mss = \"off\"")?;
    assert_eq!(real_server_count(&lab.real_servers[0], "mss_bytes", &[]), 0);
    assert_eq!(ask(lab)?, "server2");
    let error = upload(lab).expect_err("the upload did not stall");
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    assert_eq!((icmp_received(lab), replied(lab, "too_big") > 0), (0, is_said));
    let arrived = real_server_count(&lab.real_servers[0], "delivered_bytes_total", &[]);
    assert!(arrived < 100_000, "{arrived} bytes arrived");
    Ok(())
}

fn assert_passes(lab: &Lab, key: &str, mss: u64) -> Outcome {
    let _cluster = start(lab, key)?;
    assert_eq!(real_server_count(&lab.real_servers[0], "mss_bytes", &[]), mss);
    let since = Instant::now();
    let response = upload(lab)?;
    let took = since.elapsed();
    assert_eq!((response.status, response.text().as_str()), (200, "server2"));
    assert!(took < UPLOAD_MAX, "{UPLOAD} bytes took {took:?}");
    // No ICMP error was necessary, and nothing was too big for any link.
    assert_eq!((icmp_received(lab), replied(lab, "too_big")), (0, 0));
    assert_eq!(director_count(lab, "packets_dropped_total", &[]), 0);
    let arrived = real_server_count(&lab.real_servers[0], "delivered_bytes_total", &[]);
    assert!(arrived > UPLOAD as u64, "{arrived} bytes arrived");
    assert_nothing_lost(lab)
}

fn start(lab: &Lab, key: &str) -> Result<(http::Server, Daemon, Daemon), LabError> {
    let host = &lab.real_servers[0];
    let server = host.serve_http(80)?;
    let daemon = start_real_server_with(lab, host, key)?;
    Ok((server, daemon, lab::start_director(lab, &web(lab, ""))?))
}

fn upload(lab: &Lab) -> io::Result<http::Response> {
    let body = vec![0; UPLOAD];
    lab.client().run(|| http::Connection::open(web_address(lab).into(), STALL)?.post("/", &body))
}

/// ICMP messages that the client's stack has seen.
fn icmp_received(lab: &Lab) -> u64 {
    let text =
        lab.client().run(|| fs::read_to_string("/proc/thread-self/net/snmp")).expect("the client's counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let place = names.split(' ').position(|name| name == "InMsgs").expect("InMsgs");
    values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
}

/// The MSS in the first segment from this address with these flags.
fn mss_from(capture: &Capture, source: Ipv4Addr, flags: u8) -> u16 {
    let found = std::cell::Cell::new(None);
    let is_seen = capture.wait_until(PATIENCE, |packets| {
        let from = packets.iter().filter(|packet| packet.source() == source);
        found.set(from.filter_map(|packet| mss_of(packet, flags)).next());
        found.get().is_some()
    });
    assert!(is_seen, "no segment from {source} with flags {flags:#04x} and an MSS");
    found.get().expect("because it was seen")
}

fn mss_of(packet: &CapturedPacket, flags: u8) -> Option<u16> {
    let segment = &packet.bytes[usize::from(packet.bytes[0] & 15) * 4..];
    if packet.protocol() != 6 || segment[13] & (SYN | ACK) != flags {
        return None;
    }
    let mut options = &segment[20..usize::from(segment[12] >> 4) * 4];
    loop {
        match options {
            [OPTION_MSS, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [OPTION_NOTHING, rest @ ..] => options = rest,
            [OPTION_END, ..] | [] | [_] => return None,
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
        }
    }
}
