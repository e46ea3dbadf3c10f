//! Checks through the tunnel, packet by packet: own sockets at the director, the real companions, applications behind
//! the VIP. Strict rp_filter on every host, as everywhere in the lab.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lvs_tund::host::{Announce, CaptureMode, Probed};
use lvs_tund::lab::{Host, Lab};
use lvs_tund::probing::Destination;
use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fixture::{Outcome, same_subnet, start_real_servers};
use crate::host_state::{add_address, assert_same, delete_address, set_down, state};
use crate::plane::Plane;

const PATIENCE: Duration = Duration::from_secs(3);

/// The payload of an echo request that fills an Ethernet frame with the outer and the inner IP header.
const FULL: usize = 1500 - 20 - 20;

fn to(lab: &Lab, rip: Ipv4Addr, port: u16) -> Destination {
    let address = SocketAddr::new(lab.vip.into(), port);
    Destination { virtual_service: "web".into(), rip: rip.into(), address }
}

fn probed(lab: &Lab) -> Probed {
    let rips = lab.real_servers.iter().map(|host| IpAddr::V4(host.address)).collect();
    Probed { vips: BTreeSet::from([lab.vip.into()]), rips }
}

/// Runs in the director's namespace.
fn at_director<T: Send>(lab: &Lab, work: impl AsyncFnOnce() -> T + Send) -> T {
    lab.director.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work())
    })
}

async fn page(plane: &Plane, to: &Destination) -> io::Result<String> {
    let fetched = timeout(PATIENCE, async {
        let mut stream = plane.net.connect_tcp(to).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.rsplit("\r\n").next().unwrap_or_default().trim().to_owned())
    });
    fetched.await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn datagram(plane: &Plane, to: &Destination) -> io::Result<String> {
    let mut socket = plane.net.open_udp(to)?;
    socket.send(b"?").await?;
    let received = timeout(PATIENCE, socket.receive()).await;
    let datagram = received.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
    Ok(String::from_utf8_lossy(&datagram).into_owned())
}

/// The length of the reply to a message of this length.
async fn ping(plane: &Plane, to: &Destination, length: usize) -> io::Result<usize> {
    let mut socket = plane.net.open_echo(to)?;
    let mut message = vec![7; length];
    message[..8].copy_from_slice(&[8, 0, 0, 0, 0x12, 0x34, 0, 9]);
    socket.send(&message)?;
    let received = timeout(PATIENCE, socket.receive()).await;
    let reply = received.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
    assert_eq!(reply[..2], [0, 0], "an echo reply");
    assert_eq!(reply[4..], message[4..], "identifier, sequence number and data are those that were sent");
    Ok(reply.len())
}

/// Each real server answers by each kind of probe, and nothing is counted as a client's.
async fn probes_succeed(lab: &Lab, plane: &Plane, what: &str) {
    for host in &lab.real_servers {
        let rip = host.address;
        assert_eq!(page(plane, &to(lab, rip, 80)).await.expect(what), host.name, "{what}");
        let answer = datagram(plane, &to(lab, rip, 53)).await.expect(what);
        assert!(answer.starts_with(&host.name), "{what}: {answer}");
        assert_eq!(ping(plane, &to(lab, rip, 0), FULL).await.expect(what), FULL, "{what}");
    }
    assert_eq!(plane.tables.connections.len(), 0, "{what}");
    let sent = plane.counters.transmitted.get();
    assert!(sent > 0 && plane.counters.probes.get() == sent, "{what}");
    for server in plane.cluster.load().real_servers() {
        assert_eq!(plane.counters.real_servers.read(server.slot.index()), (0, 0), "{what}");
    }
}

fn serve_udp(lab: &Lab) -> Result<Vec<lvs_tund::lab::udp::Server>, lvs_tund::lab::LabError> {
    let address = SocketAddrV4::new(lab.vip, 53);
    lab.real_servers.iter().map(|host| host.serve_udp(address)).collect()
}

/// The VIP at no host, on the director's interface, on its loopback; captured in every way. The second real server has
/// weight 0.
pub fn everywhere() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _dns = serve_udp(&lab)?;
    for place in [None, Some("eth0"), Some("lo")] {
        if let Some(interface) = place {
            add_address(&lab.director, interface, lab.vip);
        }
        let before = state(&lab.director);
        for capture in [CaptureMode::Auto, CaptureMode::Route, CaptureMode::Rule] {
            let what = format!("VIP on {place:?}, capture {capture:?}");
            at_director(&lab, async || {
                let mut plane = Plane::start(&lab, capture, Announce::Always).await;
                plane.host.set_probed(probed(&lab)).await.expect("rules and routes");
                probes_succeed(&lab, &plane, &what).await;
                plane.stop().await;
            });
            assert_same(&before, &state(&lab.director), &what);
        }
        if place.is_some() {
            delete_address(&lab.director, lab.vip);
        }
    }
    Ok(())
}

/// The VIP is at another director, and answered for there.
pub fn standby() -> Outcome {
    let lab = same_subnet(2).with_stranger().build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _dns = serve_udp(&lab)?;
    let master = lab.stranger.as_ref().ok_or("a stranger")?;
    add_address(master, "eth0", lab.vip);
    for announce in [Announce::WhenLocal, Announce::Never] {
        at_director(&lab, async || {
            let mut plane = Plane::start(&lab, CaptureMode::Auto, announce).await;
            plane.host.set_probed(probed(&lab)).await.expect("rules and routes");
            probes_succeed(&lab, &plane, &format!("{announce:?}")).await;
            plane.stop().await;
        });
    }
    Ok(())
}

async fn error_of<T: std::fmt::Debug>(probe: impl Future<Output = io::Result<T>>) -> Option<Errno> {
    probe.await.expect_err("a failure").raw_os_error().map(Errno::from_raw)
}

/// What fails, and how fast: each error comes long before the time of a check is over.
pub fn failures() -> Outcome {
    let lab = same_subnet(3).build()?;
    let (web, mut real_servers) = start_real_servers(&lab)?;
    for place in [None, Some("eth0")] {
        if let Some(interface) = place {
            add_address(&lab.director, interface, lab.vip);
        }
        at_director(&lab, async || {
            let mut plane = Plane::start(&lab, CaptureMode::Auto, Announce::Always).await;
            plane.host.set_probed(probed(&lab)).await.expect("rules and routes");
            let rip = lab.real_servers[0].address;
            assert_eq!(
                error_of(page(&plane, &to(&lab, rip, 81))).await,
                Some(Errno::ECONNREFUSED),
                "{place:?}"
            );
            let refused = error_of(datagram(&plane, &to(&lab, rip, 54))).await;
            assert_eq!(refused, Some(Errno::ECONNREFUSED), "port unreachable from the VIP, {place:?}");
            plane.stop().await;
        });
    }
    drop(web);
    // No companion takes the packets off at the second, and the third is not there.
    drop(real_servers.remove(1));
    set_down(&lab.real_servers[2], "eth0");
    at_director(&lab, async || {
        let mut plane = Plane::start(&lab, CaptureMode::Auto, Announce::Always).await;
        plane.host.set_probed(probed(&lab)).await.expect("rules and routes");
        let [second, third] = [1, 2].map(|index| lab.real_servers[index].address);
        let unreachable = |errno| assert_eq!(errno, Some(Errno::ENOPROTOOPT));
        unreachable(error_of(page(&plane, &to(&lab, second, 80))).await);
        unreachable(error_of(datagram(&plane, &to(&lab, second, 53))).await);
        unreachable(error_of(ping(&plane, &to(&lab, second, 0), 100)).await);
        let absent = timeout(Duration::from_secs(5), async {
            let mut socket = plane.net.open_echo(&to(&lab, third, 0)).expect("a socket");
            socket.send(&[8, 0, 0, 0, 0, 1, 0, 1]).expect("a message that leaves");
            socket.receive().await
        });
        let absent = absent.await.expect("an error").expect_err("a failure");
        assert_eq!(absent.raw_os_error().map(Errno::from_raw), Some(Errno::EHOSTUNREACH), "no neighbour");
        plane.stop().await;
    });
    Ok(())
}

/// The last segment of a connection is a reset that reaches the real server: no port waits at either side.
pub fn reset() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let server = &lab.real_servers[0];
    at_director(&lab, async || {
        let mut plane = Plane::start(&lab, CaptureMode::Auto, Announce::Always).await;
        plane.host.set_probed(probed(&lab)).await.expect("rules and routes");
        let stream = timeout(PATIENCE, plane.net.connect_tcp(&to(&lab, server.address, 80))).await;
        let stream = stream.expect("in time").expect("a connection");
        assert_eq!((connections(server), connections(&lab.director)), (1, 1));
        drop(stream);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((connections(server), connections(&lab.director)), (0, 0));
        // Late packets of a closed probe still have their pin; much later ones are refused as any of this host.
        assert_eq!(plane.counters.probes.get(), plane.counters.transmitted.get());
        assert!(!plane.tables.pins.is_empty());
        plane.stop().await;
    });
    Ok(())
}

/// TCP sockets of a host that are connected with a port of probes, in whatever state.
pub fn connections(host: &Host) -> usize {
    let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).expect("a list");
    let is_probe = |field: Option<&str>| {
        let port = field.and_then(|address| address.rsplit(':').next());
        port.is_some_and(|port| {
            u16::from_str_radix(port, 16).is_ok_and(|port| (61_000..63_000).contains(&port))
        })
    };
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().skip(1));
    lines.filter(|fields| fields.clone().take(2).any(|field| is_probe(Some(field)))).count()
}
