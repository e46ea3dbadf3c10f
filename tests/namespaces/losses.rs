//! Packets that the kernel drops because a daemon is too slow are counted, per device and cause.

use lvs_tund::lab::{self, Cluster, Host, Lab, LabError};
use nix::sys::signal::Signal;

use crate::fixture::{
    Outcome, assert_conserved, configuration, director_count, poll_until, same_subnet, service,
    start_real_servers,
};

/// More than the queue of the TUN device takes (10,000).
const FLOOD: usize = 20_000;
/// More than the receive buffer of a raw socket takes, at about 800 bytes for a small packet.
const FLOOD_OF_SOCKET: usize = 100_000;

fn lost(host: &Host, port: u16, device: &str, cause: &str) -> Result<u64, LabError> {
    let sum =
        host.scrape(port)?.sum("lvs_tund_kernel_dropped_total", &[("device", device), ("cause", cause)]);
    Ok(sum.unwrap_or_else(|| panic!("no series for {device}, {cause}")) as u64)
}

fn flood(lab: &Lab, count: usize) -> Outcome {
    let socket = lab.client().udp_socket()?;
    for _ in 0..count {
        socket.send_to(b"x", (lab.vip, 53))?;
    }
    Ok(())
}

/// Stopped, it reads nothing; what the queue takes arrives when it continues.
pub fn of_device() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = configuration(&lab, "queues = 1", &[service(&lab, "dns", "udp", 53, 1)]);
    let mut director = lab::start_director(&lab, &file)?;
    let port = Cluster::DIRECTOR_METRICS;
    let (received, offered) =
        (|| director_count(&lab, "packets_received_total", &[]), || lab.director.counters("lvsd0"));
    for (device, cause) in [
        ("lvsd0", "transmit"),
        ("lvsd0", "receive"),
        ("lvsd0", "qdisc"),
        ("eth0", "transmit"),
        ("eth0", "qdisc"),
    ] {
        assert_eq!(lost(&lab.director, port, device, cause)?, 0, "{device} {cause}");
    }
    director.signal(Signal::SIGSTOP)?;
    flood(&lab, FLOOD)?;
    director.signal(Signal::SIGCONT)?;
    let dropped = poll_until("the counter", || {
        let dropped = lost(&lab.director, port, "lvsd0", "transmit").ok()?;
        let is_settled = received() == offered().ok()?.packets_transmitted;
        (dropped > 0 && is_settled).then_some(dropped)
    });
    assert!(received() + dropped <= FLOOD as u64 + 16, "{} and {dropped}", received());
    assert_conserved(&lab)
}

pub fn of_socket() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    let host = &lab.real_servers[0];
    let file = configuration(&lab, "", &[service(&lab, "dns", "udp", 53, 1)]);
    let _director = lab::start_director(&lab, &file)?;
    let port = Cluster::REAL_SERVER_METRICS;
    assert_eq!(lost(host, port, "raw_socket", "socket_buffer")?, 0);
    real_servers[0].signal(Signal::SIGSTOP)?;
    flood(&lab, FLOOD_OF_SOCKET)?;
    real_servers[0].signal(Signal::SIGCONT)?;
    poll_until("the counter", || (lost(host, port, "raw_socket", "socket_buffer").ok()? > 0).then_some(()));
    assert_conserved(&lab)
}
